// SPDX-License-Identifier: GPL-2.0
/*
 * Demand filling: a memory that runs before its content is there.
 *
 * While a fill is under way a page that does not exist and was not supplied is
 * *missing*. Who touches it queues itself, waits a short while and tries again,
 * with mmap_lock dropped where the fault allows it: whoever fills may need it.
 * The filler reads the queue as a stream of page numbers and supplies pages
 * with VMPLAT_FILL_PUT, in any order, more than once if it likes: the first wins.
 *
 *   FILLING --VMPLAT_FILL_END--> ENDED   pages still missing are zero
 *   FILLING --close-----------> DEAD    touching a missing page is an error
 */
#include <linux/anon_inodes.h>
#include <linux/file.h>
#include <linux/ktime.h>
#include <linux/poll.h>
#include <linux/sched/signal.h>
#include <linux/seq_file.h>
#include <linux/slab.h>
#include <linux/uaccess.h>

#include "vmplat.h"

#define FILL_WAIT	(HZ / 50)

enum fill_state { FILLING, ENDED, DEAD };

struct vmplat_fill {
	struct vmplat_mem *mem;		/* owns us; outlives every user */
	enum fill_state state;		/* @lock to write */
	unsigned long *filled;		/* supplied; atomic bits */
	atomic64_t nr_filled;
	atomic64_t nr_demanded;
	atomic64_t wait_ns;
	spinlock_t lock;		/* leaf; @state, @waiters */
	struct list_head waiters;	/* @lock */
	wait_queue_head_t demand_wq;	/* the filler */
	wait_queue_head_t supply_wq;	/* who waits for pages */
};

/* Lives on the stack of who waits. */
struct waiter {
	struct list_head link;
	u64 index;
	bool reported;
};

static bool is_missing(struct vmplat_fill *fill, pgoff_t index)
{
	return READ_ONCE(fill->state) != ENDED && !test_bit(index, fill->filled);
}

/* vmplat_fill_missing - must this page, which does not exist, be waited for? */
bool vmplat_fill_missing(struct vmplat_mem *mem, pgoff_t index)
{
	/* Pairs with the release in fill_attach(). */
	struct vmplat_fill *fill = smp_load_acquire(&mem->fill);

	return fill && index < mem->nr_pages && is_missing(fill, index);
}

/* vmplat_fill_next_missing - first missing page from @index on, or ULONG_MAX */
pgoff_t vmplat_fill_next_missing(struct vmplat_mem *mem, pgoff_t index)
{
	/* Pairs with the release in fill_attach(). */
	struct vmplat_fill *fill = smp_load_acquire(&mem->fill);

	if (!fill || READ_ONCE(fill->state) == ENDED || index >= mem->nr_pages)
		return ULONG_MAX;
	index = find_next_zero_bit(fill->filled, mem->nr_pages, index);
	return index < mem->nr_pages ? index : ULONG_MAX;
}

/* vmplat_fill_supplied - the page is there, or is zero: nobody waits any more */
void vmplat_fill_supplied(struct vmplat_mem *mem, pgoff_t index)
{
	/*
	 * The atomic orders the page before the bit: who sees the bit finds the
	 * page. Pairs with smp_rmb() in vmplat_mem_find().
	 */
	if (!test_and_set_bit(index, mem->fill->filled))
		atomic64_inc(&mem->fill->nr_filled);
}

/**
 * vmplat_fill_wait - ask for a missing page and wait a little
 * @mem: the memory
 * @index: the page
 *
 * Returns 0 or -EAGAIN to look again, -EINTR if the task is to die, -EIO if
 * nobody will ever bring the page.
 */
int vmplat_fill_wait(struct vmplat_mem *mem, pgoff_t index)
{
	struct vmplat_fill *fill = mem->fill;	/* it was missing: there is one */
	struct waiter w = { .index = index };
	u64 start = ktime_get_ns();
	long left;

	spin_lock(&fill->lock);
	if (fill->state == DEAD) {
		spin_unlock(&fill->lock);
		return is_missing(fill, index) ? -EIO : 0;
	}
	list_add_tail(&w.link, &fill->waiters);
	spin_unlock(&fill->lock);
	wake_up_poll(&fill->demand_wq, EPOLLIN);

	left = wait_event_killable_timeout(fill->supply_wq,
					   !is_missing(fill, index) ||
					   READ_ONCE(fill->state) == DEAD,
					   FILL_WAIT);
	spin_lock(&fill->lock);
	list_del(&w.link);
	spin_unlock(&fill->lock);
	atomic64_inc(&fill->nr_demanded);
	atomic64_add(ktime_get_ns() - start, &fill->wait_ns);
	return left < 0 ? -EINTR : left ? 0 : -EAGAIN;
}

/* vmplat_fill_is_dead - will vmplat_fill_wait() fail at once? */
bool vmplat_fill_is_dead(struct vmplat_mem *mem)
{
	return READ_ONCE(mem->fill->state) == DEAD;
}

/* vmplat_fill_state - what an event says of it; must not sleep */
enum vmplat_fill_state vmplat_fill_state(struct vmplat_mem *mem)
{
	static const u8 states[] = {
		[FILLING] = VMPLAT_FILL_STATE_ACTIVE,
		[ENDED] = VMPLAT_FILL_STATE_ENDED,
		[DEAD] = VMPLAT_FILL_STATE_DEAD,
	};
	/* Pairs with the release in fill_attach(). */
	struct vmplat_fill *fill = smp_load_acquire(&mem->fill);

	return fill ? states[READ_ONCE(fill->state)] : VMPLAT_FILL_STATE_NONE;
}

void vmplat_fill_free(struct vmplat_fill *fill)
{
	if (!fill)
		return;
	kvfree(fill->filled);
	kfree(fill);
}

/* ---- the filler's side ---------------------------------------------------------- */

static struct vmplat_fill *fill_of(struct file *file)
{
	return vmplat_mem_of(file->private_data)->fill;
}

static void set_state(struct vmplat_fill *fill, enum fill_state state)
{
	spin_lock(&fill->lock);
	if (fill->state == FILLING)
		WRITE_ONCE(fill->state, state);
	spin_unlock(&fill->lock);
	wake_up_all(&fill->supply_wq);
	vmplat_event_mem_changed(fill->mem);
}

/* The next page somebody waits for and the filler was not told of. */
static bool next_demand(struct vmplat_fill *fill, u64 *index)
{
	struct waiter *w;
	bool found = false;

	spin_lock(&fill->lock);
	list_for_each_entry(w, &fill->waiters, link) {
		if (w->reported || !is_missing(fill, w->index))
			continue;
		w->reported = true;
		*index = w->index;
		found = true;
		break;
	}
	spin_unlock(&fill->lock);
	return found;
}

static bool has_demand(struct vmplat_fill *fill)
{
	struct waiter *w;
	bool found = false;

	spin_lock(&fill->lock);
	list_for_each_entry(w, &fill->waiters, link) {
		found = !w->reported && is_missing(fill, w->index);
		if (found)
			break;
	}
	spin_unlock(&fill->lock);
	return found;
}

static ssize_t fill_read(struct file *file, char __user *ubuf, size_t bytes,
			 loff_t *pos)
{
	struct vmplat_fill *fill = fill_of(file);
	size_t done = 0;
	u64 index;
	int err;

	if (bytes < sizeof(index))
		return -EINVAL;
	while (bytes - done >= sizeof(index)) {
		if (next_demand(fill, &index)) {
			if (copy_to_user(ubuf + done, &index, sizeof(index)))
				return done ? done : -EFAULT;
			done += sizeof(index);
			continue;
		}
		if (done || READ_ONCE(fill->state) != FILLING)
			break;		/* 0: nobody will ask any more */
		if (file->f_flags & O_NONBLOCK)
			return -EAGAIN;
		err = wait_event_interruptible(fill->demand_wq,
					       has_demand(fill) ||
					       READ_ONCE(fill->state) != FILLING);
		if (err)
			return err;
	}
	return done;
}

static __poll_t fill_poll(struct file *file, poll_table *wait)
{
	struct vmplat_fill *fill = fill_of(file);

	poll_wait(file, &fill->demand_wq, wait);
	if (READ_ONCE(fill->state) != FILLING)
		return EPOLLHUP;
	return has_demand(fill) ? EPOLLIN | EPOLLRDNORM : 0;
}

static int put_data_page(struct vmplat_fill *fill, u64 index,
			 const void __user *content)
{
	struct vmplat_mem *mem = fill->mem;
	struct folio *folio = vmplat_mem_folio_alloc(mem);
	void *addr;
	int err = 0;

	if (!folio)
		return -ENOMEM;
	addr = kmap_local_folio(folio, 0);
	if (copy_from_user(addr, content, PAGE_SIZE))
		err = -EFAULT;
	kunmap_local(addr);
	if (!err) {
		err = vmplat_mem_folio_add(mem, index, folio, true);
		if (!err)
			folio_unlock(folio);
		if (err == -EEXIST)
			err = 0;
	}
	folio_put(folio);
	return err;
}

static int put_page_at(struct vmplat_fill *fill, u64 index,
		       const void __user *content)
{
	int err = 0;

	if (test_bit(index, fill->filled))
		return 0;
	if (content)
		err = put_data_page(fill, index, content);
	else
		vmplat_fill_supplied(fill->mem, index);
	return err;
}

static int put(struct vmplat_cmd *cmd)
{
	struct vmplat_fill *fill = fill_of(cmd->file);
	struct vmplat_fill_put *arg = cmd->arg;
	const char __user *content = u64_to_user_ptr(arg->buf);
	u64 i;
	int err;

	arg->out_done = 0;
	err = vmplat_check_range(arg->first, arg->nr_pages, fill->mem->nr_pages);
	if (err)
		return err;
	if (READ_ONCE(fill->state) != FILLING)
		return -EINVAL;
	for (i = 0; i < arg->nr_pages && !err; i++) {
		err = put_page_at(fill, arg->first + i,
				  arg->buf ? content + (i << PAGE_SHIFT) : NULL);
		if (!err)
			arg->out_done = i + 1;
		if (signal_pending(current) && !err && i + 1 < arg->nr_pages)
			err = -EINTR;
		cond_resched();
	}
	wake_up_all(&fill->supply_wq);
	return err;
}

static int end(struct vmplat_cmd *cmd)
{
	struct vmplat_fill *fill = fill_of(cmd->file);

	set_state(fill, ENDED);
	wake_up_all(&fill->demand_wq);
	return 0;
}

static int status(struct vmplat_cmd *cmd)
{
	struct vmplat_fill *fill = fill_of(cmd->file);
	struct vmplat_fill_status *arg = cmd->arg;

	arg->out_nr_pages = fill->mem->nr_pages;
	arg->out_nr_filled = atomic64_read(&fill->nr_filled);
	arg->out_nr_demanded = atomic64_read(&fill->nr_demanded);
	arg->out_wait_ns = atomic64_read(&fill->wait_ns);
	return 0;
}

static const struct vmplat_ioctl_op fill_ops[] = {
	VMPLAT_OP(VMPLAT_CMD_FILL_PUT, put, struct vmplat_fill_put, out_done, 0,
		  VMPLAT_OUT(struct vmplat_fill_put, out_done)),
	VMPLAT_OP(VMPLAT_CMD_FILL_END, end, struct vmplat_fill_end, flags, 0),
	VMPLAT_OP(VMPLAT_CMD_FILL_STATUS, status, struct vmplat_fill_status,
		  out_wait_ns, 0,
		  VMPLAT_OUT(struct vmplat_fill_status, out_nr_pages)),
};

static long fill_ioctl(struct file *file, unsigned int cmd, unsigned long arg)
{
	return vmplat_ioctl(file, cmd, arg, fill_ops, ARRAY_SIZE(fill_ops));
}

static int fill_release(struct inode *inode, struct file *file)
{
	struct file *mem_file = file->private_data;

	if (!mem_file)
		return 0;	/* never got as far as being a fill */
	set_state(fill_of(file), DEAD);
	fput(mem_file);
	return 0;
}

static void fill_show_fdinfo(struct seq_file *m, struct file *file)
{
	struct vmplat_fill *fill = fill_of(file);

	seq_printf(m, "vmplat-mem-id:\t%llu\n", fill->mem->id);
	seq_printf(m, "vmplat-pages:\t%llu\n", fill->mem->nr_pages);
	seq_printf(m, "vmplat-filled:\t%lld\n", atomic64_read(&fill->nr_filled));
	seq_printf(m, "vmplat-demanded:\t%lld\n",
		   atomic64_read(&fill->nr_demanded));
}

static const struct file_operations fill_fops = {
	.owner = THIS_MODULE,
	.release = fill_release,
	.read = fill_read,
	.poll = fill_poll,
	.unlocked_ioctl = fill_ioctl,
	.compat_ioctl = compat_ptr_ioctl,
	.show_fdinfo = fill_show_fdinfo,
};

static struct vmplat_fill *fill_alloc(struct vmplat_mem *mem)
{
	struct vmplat_fill *fill = kzalloc(sizeof(*fill), GFP_KERNEL_ACCOUNT);

	if (!fill)
		return NULL;
	fill->mem = mem;
	spin_lock_init(&fill->lock);
	INIT_LIST_HEAD(&fill->waiters);
	init_waitqueue_head(&fill->demand_wq);
	init_waitqueue_head(&fill->supply_wq);
	fill->filled = kvcalloc(BITS_TO_LONGS(mem->nr_pages), sizeof(long),
				GFP_KERNEL_ACCOUNT);
	if (fill->filled)
		return fill;
	kfree(fill);
	return NULL;
}

/*
 * Attach to the memory if it has no pages. invalidate_lock keeps faults from
 * adding one between the look and the attachment.
 */
static int fill_attach(struct vmplat_mem *mem, struct vmplat_fill *fill)
{
	int err = 0;

	mutex_lock(&mem->lock);
	filemap_invalidate_lock(vmplat_mapping(mem));
	if (mem->fill || vmplat_mapping(mem)->nrpages)
		err = -EBUSY;
	else	/* Pairs with the acquire in vmplat_fill_missing(). */
		smp_store_release(&mem->fill, fill);
	filemap_invalidate_unlock(vmplat_mapping(mem));
	mutex_unlock(&mem->lock);
	if (!err)
		vmplat_event_mem_changed(mem);
	return err;
}

int vmplat_fill_create(struct vmplat_cmd *cmd)
{
	struct vmplat_fill_create *arg = cmd->arg;
	struct file *mem_file, *file;
	struct vmplat_fill *fill;
	struct vmplat_mem *mem;
	int err;

	mem_file = vmplat_mem_fget(arg->mem_fd, FMODE_READ | FMODE_WRITE);
	if (IS_ERR(mem_file))
		return PTR_ERR(mem_file);
	mem = vmplat_mem_of(mem_file);
	err = vmplat_mem_use(mem);
	if (err)
		goto put_mem;
	fill = fill_alloc(mem);
	if (!fill) {
		err = -ENOMEM;
		goto put_mem;
	}
	file = anon_inode_getfile("[vmplat-fill]", &fill_fops, NULL, O_RDWR);
	if (IS_ERR(file)) {
		err = PTR_ERR(file);
		goto free_fill;
	}
	err = fill_attach(mem, fill);
	if (err) {
		fput(file);
		goto free_fill;
	}
	file->private_data = mem_file;
	cmd->new_file = file;
	return 0;

free_fill:
	vmplat_fill_free(fill);
put_mem:
	fput(mem_file);
	return err;
}
