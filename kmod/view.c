// SPDX-License-Identifier: GPL-2.0
/*
 * Views: one frozen instant of one or several memories, and the gate that every
 * writer passes so that the instant stays what it was.
 *
 * A view has a part for each memory. A part keeps copies only of pages that were
 * written since the freeze (@saved: a page, or a mark for zeroes); every other
 * page is read from the memory itself. What makes that right:
 *
 *  - The freeze write-protects what may have been written, and publishes the
 *    part while freeze_sem keeps writers out. From then on nobody writes a page
 *    without passing vmplat_write_begin() (or vmplat_punch_begin()), which
 *    saves it first, under the folio's lock.
 *  - A reader copies from the live page without any lock and looks at @saved
 *    *afterwards*. If the page has not been saved by then, no write had begun
 *    when the copy was made; if it has, the reader takes the saved one instead.
 *    The barriers pair: saved, smp_wmb, write -- read, smp_rmb, saved?
 *  - Pages that are pinned at the freeze can be written without passing the
 *    gate. They are saved by the freeze itself.
 *
 * The view is a regular file, so that cp, tar and rsync can read it. It lives as
 * long as its inode: re-opening it through /proc gives the same view.
 */
#include <linux/delay.h>
#include <linux/file.h>
#include <linux/ktime.h>
#include <linux/mount.h>
#include <linux/poll.h>
#include <linux/sched/signal.h>
#include <linux/seq_file.h>
#include <linux/slab.h>
#include <linux/sort.h>
#include <linux/uaccess.h>
#include <linux/uio.h>
#include <linux/workqueue.h>

#include "vmplat.h"

/* A saved page that was all zeroes, or did not exist. */
#define SAVED_ZERO	xa_mk_value(0)

/* Longest wait for side memory in one fault: mmap_lock may be held meanwhile. */
#define ROOM_WAIT	(HZ / 50)

/* How long a writer waits, or twice that, for each new mark while a freeze catches up. */
#define SLOW_MIN_US	100
#define SLOW_MAX_US	800

struct vmplat_view_part {
	struct list_head link;		/* mem->parts, freeze_sem */
	struct vmplat_view *view;
	struct vmplat_mem *mem;
	struct file *mem_file;
	u64 first;			/* page of the view where it begins */
	u64 nr_pages;
	u64 nr_present;			/* pages that existed at the freeze */
	bool live;			/* is on mem->parts */

	struct xarray saved;		/* page index -> struct vmplat_copy or SAVED_ZERO */
	unsigned long *done;		/* discarded by the reader; atomic bits */
	s64 wait_ns_before;		/* mem->room_wait_ns at the freeze */

	struct file *log_file;		/* NULL without a log */
	struct vmplat_log *log;
	u8 id[VMPLAT_ID_BYTES];		/* label asked for */
	unsigned long *marks;		/* borrowed; before that, room for the log */
	u64 nr_marks;
	bool borrowed;			/* log->mem->lock */
};

struct vmplat_view {
	u32 flags;
	u32 nr_parts;
	int state;			/* enum vmplat_view_state; set once */
	u64 nr_pages;
	u64 side_limit;
	atomic64_t side_bytes;
	atomic64_t side_peak;
	atomic64_t nr_copied;
	u64 blocked_ns;
	u64 nr_protected;
	struct mutex lock;		/* @committed */
	bool committed;
	u64 event_id;
	bool side_high;			/* three quarters of @side_limit were used */
	struct work_struct drop_work;	/* frees the copies of a broken view */
	struct vmplat_view_part parts[];
};

/*
 * Freezes of several memories take their locks in the order of mem->id. Held
 * shared by each of them, never exclusively: it is what lockdep needs to be told.
 */
DECLARE_RWSEM(vmplat_freeze_order);

/* ---- copies ----------------------------------------------------------------- */

/* The page is for the next copy, unless it was want of memory that ended this one. */
static void put_copy(struct vmplat_view_part *part, struct vmplat_copy *copy)
{
	vmplat_copy_put(part->mem, copy, READ_ONCE(part->view->state) !=
						 VMPLAT_VIEW_BROKEN_NOMEM);
}

static void put_saved(struct vmplat_view_part *part, void *entry)
{
	if (!entry || xa_is_value(entry))
		return;
	put_copy(part, entry);
	atomic64_sub(PAGE_SIZE, &part->view->side_bytes);
}

static void drop_saved(struct vmplat_view_part *part)
{
	unsigned long index;
	void *entry;

	xa_for_each(&part->saved, index, entry) {
		put_saved(part, xa_erase(&part->saved, index));
		cond_resched();
	}
}

/* Writers waiting for room have a reason to look again. */
static void signal_room(struct vmplat_view *view)
{
	u32 i;

	for (i = 0; i < view->nr_parts; i++) {
		struct vmplat_mem *mem = view->parts[i].mem;

		WRITE_ONCE(mem->room_seq, READ_ONCE(mem->room_seq) + 1);
		wake_up_all(&mem->room_wq);
	}
}

static void drop_work(struct work_struct *work)
{
	struct vmplat_view *view = container_of(work, struct vmplat_view,
						drop_work);
	u32 i;

	for (i = 0; i < view->nr_parts; i++)
		drop_saved(&view->parts[i]);
	signal_room(view);
}

/*
 * The instant can no longer be kept. Readers learn it before any writer goes
 * on: the state is set under the folio lock of the page that could not be saved.
 */
static void break_view(struct vmplat_view *view, int state)
{
	if (cmpxchg(&view->state, VMPLAT_VIEW_OK, state) != VMPLAT_VIEW_OK)
		return;
	schedule_work(&view->drop_work);
	vmplat_event_view_changed(view, VMPLAT_ACTION_BROKEN);
}

/* Once in the life of a view: time to read it, or to think about its end. */
static void tell_side_high(struct vmplat_view *view, s64 now)
{
	u64 limit = view->side_limit;

	if (!limit || now < limit - limit / 4 || READ_ONCE(view->side_high))
		return;
	WRITE_ONCE(view->side_high, true);
	vmplat_event_view_changed(view, VMPLAT_ACTION_SIDE_HIGH);
}

/*
 * Few pages are beyond the limit: those on their way to the LRU at the freeze,
 * which may be reachable by others or not. At most a per-CPU batch each.
 */
static bool charge_side(struct vmplat_view *view, struct folio *folio,
			bool freezing)
{
	bool exempt = freezing && !folio_test_lru(folio);
	s64 now = atomic64_add_return(PAGE_SIZE, &view->side_bytes);
	s64 peak = atomic64_read(&view->side_peak);

	if (view->side_limit && now > view->side_limit && !exempt) {
		atomic64_sub(PAGE_SIZE, &view->side_bytes);
		return false;
	}
	while (now > peak && !atomic64_try_cmpxchg(&view->side_peak, &peak, now))
		;
	tell_side_high(view, now);
	return true;
}

static bool page_is_zero(struct page *page)
{
	void *addr = kmap_local_page(page);
	bool zero = !memchr_inv(addr, 0, PAGE_SIZE);

	kunmap_local(addr);
	return zero;
}

/* One page on its way into every part that lacks it. */
struct saving {
	struct vmplat_mem *mem;
	struct page *from;
	struct vmplat_copy *copy;	/* made beforehand, or from the pool */
	bool filled;		/* @copy has the content */
	bool zero;		/* @from is all zeroes; valid once @looked */
	bool looked;
	bool freezing;		/* before anybody can see the view */
};

static bool needs_copy(struct vmplat_view_part *part, pgoff_t index)
{
	return READ_ONCE(part->view->state) == VMPLAT_VIEW_OK &&
	       !test_bit(index, part->done) && !xa_load(&part->saved, index);
}

/*
 * Save one page to one part; the folio is locked. 0, also when the view broke;
 * -ENOBUFS: come back with s->copy; -EDQUOT: wait for room.
 *
 * The page that the copy is made in may have held anything, of any memory. It is
 * overwritten from end to end before an entry leads to it.
 */
static int save_to_part(struct vmplat_view_part *part, pgoff_t index,
			struct saving *s)
{
	struct vmplat_view *view = part->view;
	void *entry = SAVED_ZERO;

	if (!needs_copy(part, index))
		return 0;
	if (!s->looked) {
		s->zero = page_is_zero(s->from);
		s->looked = true;
	}
	if (!s->zero) {
		if (!s->copy)
			s->copy = vmplat_copy_take(s->mem);
		if (!s->copy)
			return -ENOBUFS;
		if (!charge_side(view, page_folio(s->from), s->freezing)) {
			if (view->flags & VMPLAT_VIEW_F_BLOCK)
				return -EDQUOT;
			break_view(view, VMPLAT_VIEW_BROKEN_LIMIT);
			return 0;
		}
		if (!s->filled)
			copy_highpage(vmplat_copy_page_of(s->copy), s->from);
		s->filled = true;
		entry = vmplat_copy_get(s->copy);
	}
	if (xa_is_err(xa_store(&part->saved, index, entry,
			       GFP_KERNEL | VMPLAT_COPY_GFP))) {
		put_saved(part, entry);
		break_view(view, VMPLAT_VIEW_BROKEN_NOMEM);
		return 0;
	}
	if (!s->zero)
		atomic64_inc(&view->nr_copied);
	/* Discarded meanwhile: nobody will ask for it any more. */
	if (test_bit(index, part->done))
		put_saved(part, xa_erase(&part->saved, index));
	return 0;
}

static int save_to_parts(struct vmplat_mem *mem, pgoff_t index, struct saving *s)
{
	struct vmplat_view_part *part;
	int err;

	lockdep_assert_held(&mem->freeze_sem);
	list_for_each_entry(part, &mem->parts, link) {
		err = save_to_part(part, index, s);
		if (err)
			return err;
	}
	/* Pairs with smp_rmb() in read_page(): saved before written. */
	smp_wmb();
	return 0;
}

/* No copy can be had: every view that needs this page is at its end. */
static void break_needy(struct vmplat_mem *mem, pgoff_t index)
{
	struct vmplat_view_part *part;

	list_for_each_entry(part, &mem->parts, link)
		if (needs_copy(part, index))
			break_view(part->view, VMPLAT_VIEW_BROKEN_NOMEM);
}

/* Returns -EAGAIN, or -EINTR if the task is to die. */
static int wait_for_room(struct vmplat_mem *mem, unsigned int seq)
{
	u64 start = ktime_get_ns();
	long left;

	left = wait_event_killable_timeout(mem->room_wq,
					   READ_ONCE(mem->room_seq) != seq,
					   ROOM_WAIT);
	atomic64_add(ktime_get_ns() - start, &mem->room_wait_ns);
	return left < 0 ? -EINTR : -EAGAIN;
}

/*
 * The folio lock and freeze_sem. Waiting for the folio, and being preempted there,
 * with freeze_sem held would make a freeze wait as well, and everybody with it; so
 * the folio comes first, against the order of locks, and freeze_sem is only tried.
 */
static void lock_to_write(struct vmplat_mem *mem, struct folio *folio)
{
	if (!folio_trylock(folio))
		folio_lock(folio);
	if (likely(down_read_trylock(&mem->freeze_sem)))
		return;
	folio_unlock(folio);
	down_read(&mem->freeze_sem);	/* until the freeze is over */
	folio_lock(folio);
}

/* While a freeze catches up, who makes it more work waits a moment. */
static void stand_back(struct vmplat_mem *mem, pgoff_t index)
{
	unsigned int us = READ_ONCE(mem->slow_us);

	if (us && !test_bit(index, mem->dirty))
		usleep_range(us, 2 * us);
}

/**
 * vmplat_write_begin - the gate: a page is about to be written
 * @mem: the memory
 * @folio: its page; the caller has a reference and no locks
 *
 * 0: every view has what it needs, the page counts as dirty, and the folio is
 * locked; the write must be complete, or its PTE in place, before the caller
 * unlocks it. -EAGAIN: the folio left the memory, or writers had to wait for a
 * view's side memory; look the page up again. -EINTR: a fatal signal is pending.
 */
int vmplat_write_begin(struct vmplat_mem *mem, struct folio *folio)
{
	struct saving s = { .mem = mem, .from = folio_page(folio, 0) };
	unsigned int seq;
	bool tried = false;
	int err;

	stand_back(mem, folio->index);
again:
	lock_to_write(mem, folio);
	seq = READ_ONCE(mem->room_seq);
	if (folio->mapping != vmplat_mapping(mem)) {
		err = -EAGAIN;
		goto unlock;
	}
	err = save_to_parts(mem, folio->index, &s);
	if (err == -ENOBUFS && !tried) {
		/* Without any lock: an allocation may take its time. */
		folio_unlock(folio);
		up_read(&mem->freeze_sem);
		s.copy = vmplat_copy_new(mem);
		tried = true;
		goto again;
	}
	if (err == -ENOBUFS) {
		break_needy(mem, folio->index);
		smp_wmb();	/* as in save_to_parts() */
		err = 0;
	}
	if (err)
		goto unlock;
	vmplat_dirty_set(mem, folio->index);
	/*
	 * The folio lock is enough from here: a freeze finds the dirty bit and
	 * waits for the lock before it publishes.
	 */
	up_read(&mem->freeze_sem);
	goto out;

unlock:
	folio_unlock(folio);
	up_read(&mem->freeze_sem);
	if (err == -EDQUOT)
		err = wait_for_room(mem, seq);
out:
	if (s.copy)
		vmplat_copy_put(mem, s.copy, true);
	return err;
}

/* Save one existing page of a punch; freeze_sem is held. */
static int punch_save(struct vmplat_mem *mem, struct folio *folio)
{
	struct saving s = { .mem = mem, .from = folio_page(folio, 0) };
	int err = 0;

	folio_lock(folio);
	if (folio->mapping == vmplat_mapping(mem)) {
		if (mem->nr_parts)
			s.copy = vmplat_copy_new(mem);
		err = save_to_parts(mem, folio->index, &s);
		if (err == -ENOBUFS) {
			break_needy(mem, folio->index);
			err = 0;
		}
	}
	folio_unlock(folio);
	vmplat_copy_put(mem, s.copy, true);
	return err;
}

/**
 * vmplat_punch_begin - the gate for removing whole pages
 * @mem: the memory
 * @first: first page to go
 * @nr: how many
 *
 * 0 with freeze_sem held until vmplat_punch_end(): a freeze between saving and
 * removing would find neither the page nor its copy. -EAGAIN, -EINTR as for
 * vmplat_write_begin(), nothing held.
 */
int vmplat_punch_begin(struct vmplat_mem *mem, pgoff_t first, pgoff_t nr)
{
	unsigned int seq;
	pgoff_t index;
	int err = 0;

	down_read(&mem->freeze_sem);
	seq = READ_ONCE(mem->room_seq);
	for (index = vmplat_mem_next_present(mem, first);
	     index < first + nr && !err;
	     index = vmplat_mem_next_present(mem, index + 1)) {
		struct folio *folio = vmplat_mem_folio(mem, index);

		if (!folio)
			continue;
		err = punch_save(mem, folio);
		folio_put(folio);
	}
	if (!err)
		return 0;
	up_read(&mem->freeze_sem);
	return wait_for_room(mem, seq);
}

void vmplat_punch_end(struct vmplat_mem *mem)
{
	up_read(&mem->freeze_sem);
}

/* ---- freeze ------------------------------------------------------------------ */

static int by_mem_id(const void *a, const void *b)
{
	const struct vmplat_view_part *const *pa = a, *const *pb = b;

	return (*pa)->mem->id < (*pb)->mem->id ? -1 :
	       (*pa)->mem->id > (*pb)->mem->id;
}

static int check_log(const struct vmplat_view_part *part)
{
	const struct vmplat_log *log = part->log;

	if (!log)
		return 0;
	lockdep_assert_held(&part->mem->lock);
	if (log->view_busy || log->borrowed.nr)
		return -EBUSY;
	if (memchr_inv(part->id, 0, sizeof(part->id)) &&
	    memcmp(part->id, log->id, sizeof(part->id)))
		return -ESTALE;
	return 0;
}

/* Take the log's marks along, whole: a swap, as it happens inside the pause. */
static void borrow(struct vmplat_view_part *part)
{
	struct vmplat_log *log = part->log;

	if (!log)
		return;
	swap(part->marks, log->marked.bits);
	part->nr_marks = log->marked.nr;
	log->marked.nr = 0;
	log->nr_lent = part->nr_marks;
	log->view_busy = true;
	part->borrowed = true;
	vmplat_event_log_taken(log);
	vmplat_log_rearm(part->mem);
}

/* The log may be borrowed from again; the marks stay with the part. */
static void release_log(struct vmplat_view_part *part)
{
	lockdep_assert_held(&part->mem->lock);
	part->borrowed = false;
	part->log->view_busy = false;
	part->log->nr_lent = 0;
}

static void unpublish(struct vmplat_view_part *part)
{
	lockdep_assert_held_write(&part->mem->freeze_sem);
	if (!part->live)
		return;
	list_del(&part->link);
	part->mem->nr_parts--;
	part->live = false;
}

static void publish(struct vmplat_view_part *part)
{
	lockdep_assert_held_write(&part->mem->freeze_sem);
	list_add_tail(&part->link, &part->mem->parts);
	WRITE_ONCE(part->mem->nr_parts, part->mem->nr_parts + 1);
	part->nr_present = vmplat_mapping(part->mem)->nrpages;
	part->live = true;
	part->wait_ns_before = atomic64_read(&part->mem->room_wait_ns);
}

static int save_pinned_page(struct vmplat_view_part *part, struct folio *folio)
{
	struct saving s = {
		.mem = part->mem,
		.from = folio_page(folio, 0),
		.copy = vmplat_copy_new(part->mem),
		.freezing = true,
	};
	int err = 0;

	folio_lock(folio);
	if (folio->mapping == vmplat_mapping(part->mem))
		err = save_to_part(part, folio->index, &s);
	folio_unlock(folio);
	vmplat_copy_put(part->mem, s.copy, true);
	if (err || READ_ONCE(part->view->state) != VMPLAT_VIEW_OK)
		return -ENOMEM;
	return 0;
}

/*
 * With writers blocked and everything harvested, the marks that are there again
 * are those of pages that somebody pinned and may write without the gate. They
 * are copied last: until every other page is protected, a CPU could still write
 * what it concluded from a device's write that came after the copy.
 */
static int save_pinned(struct vmplat_view_part *part)
{
	struct vmplat_mem *mem = part->mem;
	pgoff_t index;
	int err = 0;

	for (index = vmplat_dirty_next(mem, 0); index < part->nr_pages && !err;
	     index = vmplat_dirty_next(mem, index + 1)) {
		struct folio *folio = vmplat_mem_folio(mem, index);

		if (!folio)
			continue;
		err = save_pinned_page(part, folio);
		folio_put(folio);
	}
	return err;
}

/* The pause: writers of every memory wait from the first lock to the last. */
static int freeze_blocked(struct vmplat_view *view,
			  struct vmplat_view_part **order)
{
	u64 start = ktime_get_ns();
	int err = 0;
	u32 i;

	for (i = 0; i < view->nr_parts; i++)
		down_write_nest_lock(&order[i]->mem->freeze_sem,
				     &vmplat_freeze_order);
	for (i = 0; i < view->nr_parts; i++) {
		publish(order[i]);
		view->nr_protected += vmplat_dirty_harvest(order[i]->mem, 0,
							   order[i]->nr_pages,
							   true);
	}
	for (i = 0; i < view->nr_parts && !err; i++)
		err = save_pinned(order[i]);
	for (i = 0; i < view->nr_parts; i++) {
		if (err)
			unpublish(order[i]);
		else
			borrow(order[i]);
	}
	for (i = view->nr_parts; i-- > 0;)
		up_write(&order[i]->mem->freeze_sem);
	view->blocked_ns = ktime_get_ns() - start;
	return err;
}

/*
 * Passes beside the writers end when few pages are left, which are for the pause;
 * when writers were slowed down for SLOW_NS; or when slowing them down as far as
 * it goes does not help.
 */
#define FEW_PAGES	8
#define SLOW_NS		NSEC_PER_SEC
/* A pass over so many pages is short: writers can be slow for all of it. */
#define SHORT_PASS	4096
/* Most pages made ready in a pool for what is copied in the pause. */
#define STOCK_PAGES	256

/* One harvest of each memory, beside the writers; how many pages it found. */
static u64 harvest_pass(struct vmplat_view *view)
{
	u64 nr = 0;
	u32 i;

	for (i = 0; i < view->nr_parts; i++)
		nr += vmplat_dirty_harvest(view->parts[i].mem, 0,
					   view->parts[i].nr_pages, true);
	view->nr_protected += nr;
	return nr;
}

static u64 unharvested_of(struct vmplat_mem *mem)
{
	/* Below zero while a harvest is ahead of who counts a bit it has set. */
	return max_t(s64, atomic64_read(&mem->nr_dirty), 0);
}

static u64 unharvested(struct vmplat_view *view)
{
	u64 nr = 0;
	u32 i;

	for (i = 0; i < view->nr_parts; i++)
		nr += unharvested_of(view->parts[i].mem);
	return nr;
}

static void slow_down(struct vmplat_view *view, unsigned int us)
{
	u32 i;

	for (i = 0; i < view->nr_parts; i++)
		WRITE_ONCE(view->parts[i].mem->slow_us, us);
}

/*
 * Most of what was written is protected while writers run; only what they write
 * meanwhile is left for the pause. As in pre-copy that may never become little.
 * So unless each pass leaves half of what the one before left, writers are slowed
 * down, and more so if that does not help: each waits a moment before it makes
 * another page writable, which is far less than a long pause for all.
 *
 * It ends, because what is left is halved, or writers are slowed down further.
 */
static void harvest_unblocked(struct vmplat_view *view)
{
	u64 left, before, slow_since = 0;
	unsigned int us = 0;
	bool halved;

	for (before = harvest_pass(view);; harvest_pass(view)) {
		left = unharvested(view);
		halved = left <= before / 2;
		before = left;
		if (left <= FEW_PAGES)
			break;
		if (us && ktime_get_ns() - slow_since > SLOW_NS)
			break;
		if (halved && (us || left > SHORT_PASS))
			continue;
		if (us == SLOW_MAX_US)
			break;
		if (!us)
			slow_since = ktime_get_ns();
		us = us ? 2 * us : SLOW_MIN_US;
		slow_down(view, us);
	}
}

/*
 * What has its bit again may be pinned, and copied in the pause. It should not take
 * an allocation then, which may take its time.
 */
static void stock_pools(struct vmplat_view *view)
{
	u32 i;

	for (i = 0; i < view->nr_parts; i++) {
		struct vmplat_mem *mem = view->parts[i].mem;

		vmplat_pool_stock(mem, min_t(u64, STOCK_PAGES,
					     unharvested_of(mem)));
	}
}

static int freeze(struct vmplat_view *view, struct vmplat_view_part **order)
{
	u32 i, locked = 0;
	int err = 0;

	down_read(&vmplat_freeze_order);
	for (; locked < view->nr_parts; locked++)
		mutex_lock_nest_lock(&order[locked]->mem->lock,
				     &vmplat_freeze_order);
	for (i = 0; i < view->nr_parts && !err; i++)
		err = check_log(order[i]);
	if (!err) {
		harvest_unblocked(view);
		stock_pools(view);
		err = freeze_blocked(view, order);
	}
	slow_down(view, 0);
	while (locked--)
		mutex_unlock(&order[locked]->mem->lock);
	up_read(&vmplat_freeze_order);
	return err;
}

/* ---- life ---------------------------------------------------------------------- */

static void free_part(struct vmplat_view_part *part)
{
	drop_saved(part);
	if (part->borrowed) {
		mutex_lock(&part->mem->lock);
		if (!part->view->committed)
			vmplat_log_merge(part->log, part->marks);
		release_log(part);
		mutex_unlock(&part->mem->lock);
	}
	kvfree(part->marks);
	kvfree(part->done);
	if (part->log_file)
		fput(part->log_file);
	if (part->mem_file)
		fput(part->mem_file);
}

static void view_free(struct vmplat_view *view)
{
	u32 i;

	vmplat_event_view_removed(view);
	for (i = 0; i < view->nr_parts; i++) {
		struct vmplat_view_part *part = &view->parts[i];

		if (!part->live)
			continue;
		down_write(&part->mem->freeze_sem);
		unpublish(part);
		up_write(&part->mem->freeze_sem);
	}
	/* No writer sees the view any more, so none can break it from here on. */
	cancel_work_sync(&view->drop_work);
	signal_room(view);
	for (i = 0; i < view->nr_parts; i++)
		free_part(&view->parts[i]);
	kvfree(view);
}

/* vmplat_view_free - the last reference to a view's inode is gone */
void vmplat_view_free(struct inode *inode)
{
	if (inode->i_private)
		view_free(inode->i_private);
}

static int init_part(struct vmplat_view *view, struct vmplat_view_part *part,
		     const struct vmplat_view_mem *from)
{
	struct vmplat_log *log;
	size_t words;
	struct file *file;
	int err;

	part->view = view;
	xa_init_flags(&part->saved, XA_FLAGS_ACCOUNT);
	memcpy(part->id, from->id, sizeof(part->id));

	/* To make its writers wait takes the right to write. */
	file = vmplat_mem_fget(from->mem_fd,
			       view->flags & VMPLAT_VIEW_F_BLOCK ?
			       FMODE_READ | FMODE_WRITE : FMODE_READ);
	if (IS_ERR(file))
		return PTR_ERR(file);
	part->mem_file = file;
	part->mem = vmplat_mem_of(file);
	if (part->mem->pinnable)
		return -EOPNOTSUPP;	/* its writers pass no gate */
	err = vmplat_mem_use(part->mem);
	if (err)
		return err;
	part->nr_pages = part->mem->nr_pages;
	part->first = view->nr_pages;
	view->nr_pages += part->nr_pages;
	words = BITS_TO_LONGS(part->nr_pages);
	part->done = kvcalloc(words, sizeof(long), GFP_KERNEL_ACCOUNT);
	if (!part->done)
		return -ENOMEM;

	if (from->log_fd == -1) {
		bool labelled = memchr_inv(from->id, 0, sizeof(from->id));

		return (view->flags & VMPLAT_VIEW_F_INCREMENT) || labelled ?
			-EINVAL : 0;
	}
	file = vmplat_log_fget(from->log_fd);
	if (IS_ERR(file))
		return PTR_ERR(file);
	part->log_file = file;
	log = vmplat_log_of(file);
	if (log->mem != part->mem)
		return -EINVAL;
	part->log = log;
	part->marks = kvcalloc(words, sizeof(long), GFP_KERNEL_ACCOUNT);
	return part->marks ? 0 : -ENOMEM;
}

static struct vmplat_view *view_alloc(const struct vmplat_view_create *arg,
				      const struct vmplat_view_mem *mems)
{
	struct vmplat_view *view;
	int err;

	view = kvzalloc(struct_size(view, parts, arg->nr_mems),
			GFP_KERNEL_ACCOUNT);
	if (!view)
		return ERR_PTR(-ENOMEM);
	view->flags = arg->flags;
	view->event_id = vmplat_event_new_id();
	view->side_limit = arg->side_bytes;
	mutex_init(&view->lock);
	INIT_WORK(&view->drop_work, drop_work);
	while (view->nr_parts < arg->nr_mems) {
		struct vmplat_view_part *part = &view->parts[view->nr_parts];

		err = init_part(view, part, &mems[view->nr_parts]);
		if (part->mem)
			view->nr_parts++;
		if (err)
			goto free;
	}
	return view;
free:
	view_free(view);
	return ERR_PTR(err);
}

/* The parts in the order their locks are taken; a memory given twice is refused. */
static struct vmplat_view_part **lock_order(struct vmplat_view *view)
{
	struct vmplat_view_part **order;
	u32 i;

	order = kmalloc_array(view->nr_parts, sizeof(*order), GFP_KERNEL);
	if (!order)
		return ERR_PTR(-ENOMEM);
	for (i = 0; i < view->nr_parts; i++)
		order[i] = &view->parts[i];
	sort(order, view->nr_parts, sizeof(*order), by_mem_id, NULL);
	for (i = 1; i < view->nr_parts; i++) {
		if (order[i]->mem == order[i - 1]->mem) {
			kfree(order);
			return ERR_PTR(-EINVAL);
		}
	}
	return order;
}

static int create(struct vmplat_cmd *cmd, const struct vmplat_view_mem *mems)
{
	struct vmplat_view_create *arg = cmd->arg;
	struct vmplat_view_part **order;
	struct vmplat_view *view;
	struct file *file;
	int err;

	view = view_alloc(arg, mems);
	if (IS_ERR(view))
		return PTR_ERR(view);
	order = lock_order(view);
	if (IS_ERR(order)) {
		view_free(view);
		return PTR_ERR(order);
	}
	/* The file before the freeze: nothing may fail after it. */
	file = vmplat_fs_file(view->parts[0].mem_file->f_path.mnt,
			      "[vmplat-view]", view->nr_pages << PAGE_SHIFT,
			      0400, &vmplat_view_fops, view);
	if (IS_ERR(file)) {
		err = PTR_ERR(file);
		view_free(view);
		goto free_order;
	}
	err = freeze(view, order);
	if (err) {
		fput(file);	/* and the view with it */
		goto free_order;
	}
	arg->out_bytes = view->nr_pages << PAGE_SHIFT;
	arg->out_blocked_ns = view->blocked_ns;
	arg->out_nr_dirty = view->nr_protected;
	vmplat_event_view_created(view);
	cmd->new_file = file;
free_order:
	kfree(order);
	return err;
}

int vmplat_view_create(struct vmplat_cmd *cmd)
{
	struct vmplat_view_create *arg = cmd->arg;
	struct vmplat_view_mem *mems;
	int err;

	if (!arg->nr_mems || arg->nr_mems > VMPLAT_VIEW_MAX_MEMS)
		return -EINVAL;
	mems = memdup_user(u64_to_user_ptr(arg->mems),
			   array_size(arg->nr_mems, sizeof(*mems)));
	if (IS_ERR(mems))
		return PTR_ERR(mems);
	err = create(cmd, mems);
	kfree(mems);
	return err;
}

/* ---- events --------------------------------------------------------------------- */

u64 vmplat_view_id(const struct vmplat_view *view)
{
	return view->event_id;
}

/* vmplat_view_describe - what an event says of @view now; must not sleep */
void vmplat_view_describe(const struct vmplat_view *view,
			  struct vmplat_view_desc *desc)
{
	u32 i;

	desc->bytes = view->nr_pages << PAGE_SHIFT;
	desc->side_limit = view->side_limit;
	desc->state = READ_ONCE(view->state);
	desc->side_high = READ_ONCE(view->side_high);
	desc->nr_mems = view->nr_parts;
	for (i = 0; i < view->nr_parts; i++)
		desc->mems[i] = view->parts[i].mem->id;
}

/* ---- commands -------------------------------------------------------------------- */

static struct vmplat_view *view_of(struct file *file)
{
	return file_inode(file)->i_private;
}

static struct vmplat_view_part *part_at(struct vmplat_view *view, u64 page)
{
	u32 i;

	for (i = 0; i < view->nr_parts; i++)
		if (page - view->parts[i].first < view->parts[i].nr_pages)
			return &view->parts[i];
	return NULL;
}

static int status(struct vmplat_cmd *cmd)
{
	struct vmplat_view *view = view_of(cmd->file);
	struct vmplat_view_status *arg = cmd->arg;
	u32 i;

	arg->out_state = READ_ONCE(view->state);
	arg->out_committed = READ_ONCE(view->committed);
	arg->out_bytes = view->nr_pages << PAGE_SHIFT;
	arg->out_side_bytes = atomic64_read(&view->side_bytes);
	arg->out_side_peak_bytes = atomic64_read(&view->side_peak);
	arg->out_nr_copied = atomic64_read(&view->nr_copied);
	arg->out_blocked_ns = view->blocked_ns;
	arg->out_nr_increment = 0;
	arg->out_wait_ns = 0;
	for (i = 0; i < view->nr_parts; i++) {
		const struct vmplat_view_part *part = &view->parts[i];

		arg->out_nr_increment += part->nr_marks;
		arg->out_wait_ns += atomic64_read(&part->mem->room_wait_ns) -
				    part->wait_ns_before;
	}
	return 0;
}

static void discard_in_part(struct vmplat_view_part *part, u64 first, u64 end)
{
	unsigned long at;
	void *entry;
	u64 index;

	for (index = first; index < end; index++)
		set_bit(index, part->done);
	/* A writer that saved before it saw the bit is undone here, or by itself. */
	smp_mb__after_atomic();
	xa_for_each_range(&part->saved, at, entry, first, end - 1) {
		put_saved(part, xa_erase(&part->saved, at));
		cond_resched();
	}
}

static int discard(struct vmplat_cmd *cmd)
{
	struct vmplat_view *view = view_of(cmd->file);
	struct vmplat_view_discard *arg = cmd->arg;
	u64 first = arg->first, end;
	int err;

	err = vmplat_check_range(arg->first, arg->nr_pages, view->nr_pages);
	if (err)
		return err;
	end = arg->first + arg->nr_pages;
	while (first < end) {
		struct vmplat_view_part *part = part_at(view, first);
		u64 stop = min(end, part->first + part->nr_pages);

		discard_in_part(part, first - part->first, stop - part->first);
		first = stop;
	}
	signal_room(view);
	return 0;
}

static int commit(struct vmplat_cmd *cmd)
{
	struct vmplat_view *view = view_of(cmd->file);
	struct vmplat_view_commit *arg = cmd->arg;
	int err = 0;
	u32 i;

	if (!memchr_inv(arg->id, 0, sizeof(arg->id)))
		return -EINVAL;
	mutex_lock(&view->lock);
	if (view->committed)
		err = -EALREADY;
	else if (READ_ONCE(view->state) != VMPLAT_VIEW_OK)
		err = -ENODATA;
	if (err)
		goto unlock;
	for (i = 0; i < view->nr_parts; i++) {
		struct vmplat_view_part *part = &view->parts[i];

		if (!part->borrowed)
			continue;
		mutex_lock(&part->mem->lock);
		release_log(part);
		memcpy(part->log->id, arg->id, sizeof(arg->id));
		mutex_unlock(&part->mem->lock);
	}
	WRITE_ONCE(view->committed, true);
unlock:
	mutex_unlock(&view->lock);
	return err;
}

static const struct vmplat_ioctl_op view_ops[] = {
	VMPLAT_OP(VMPLAT_CMD_VIEW_STATUS, status, struct vmplat_view_status,
		  out_wait_ns, 0,
		  VMPLAT_OUT(struct vmplat_view_status, out_state)),
	VMPLAT_OP(VMPLAT_CMD_VIEW_DISCARD, discard, struct vmplat_view_discard,
		  nr_pages, 0),
	VMPLAT_OP(VMPLAT_CMD_VIEW_COMMIT, commit, struct vmplat_view_commit, id,
		  0),
};

static long view_ioctl(struct file *file, unsigned int cmd, unsigned long arg)
{
	return vmplat_ioctl(file, cmd, arg, view_ops, ARRAY_SIZE(view_ops));
}

/* ---- reading --------------------------------------------------------------------- */

/* The saved copy with a reference, SAVED_ZERO, or NULL. */
static void *get_saved(struct vmplat_view_part *part, pgoff_t index)
{
	void *entry;

	xa_lock(&part->saved);
	entry = xa_load(&part->saved, index);
	if (entry && !xa_is_value(entry))
		vmplat_copy_get(entry);
	xa_unlock(&part->saved);
	return entry;
}

static bool unreadable(struct vmplat_view_part *part, pgoff_t index)
{
	return READ_ONCE(part->view->state) != VMPLAT_VIEW_OK ||
	       test_bit(index, part->done);
}

static size_t copy_saved(struct vmplat_view_part *part, void *entry,
			 size_t offset, size_t bytes, struct iov_iter *to)
{
	size_t copied;

	if (xa_is_value(entry))
		return iov_iter_zero(bytes, to);
	copied = vmplat_copy_page(vmplat_copy_page_of(entry), offset, bytes, to);
	put_copy(part, entry);
	return copied;
}

/* Copy from the memory itself; what it was worth is known only afterwards. */
static ssize_t copy_live(struct vmplat_view_part *part, pgoff_t index,
			 size_t offset, size_t bytes, struct iov_iter *to)
{
	struct folio *folio;
	size_t copied;

	if (vmplat_mem_find(part->mem, index, &folio))
		return -EAGAIN;
	if (!folio)
		return iov_iter_zero(bytes, to);
	copied = vmplat_copy_page(folio_page(folio, 0), offset, bytes, to);
	folio_put(folio);
	return copied;
}

/* Read within one page. Returns bytes, fewer only if @to faulted. */
static ssize_t read_page(struct vmplat_view_part *part, pgoff_t index,
			 size_t offset, size_t bytes, struct iov_iter *to)
{
	ssize_t copied;
	void *entry;
	int err;

	for (;;) {
		if (unreadable(part, index))
			return -ENODATA;
		entry = get_saved(part, index);
		if (entry)
			return copy_saved(part, entry, offset, bytes, to);
		copied = copy_live(part, index, offset, bytes, to);
		if (copied == -EAGAIN) {
			err = vmplat_fill_wait(part->mem, index);
			if (err && err != -EAGAIN)
				return err;
			continue;
		}
		/* Pairs with smp_wmb() in save_to_parts(): read before looked. */
		smp_rmb();
		if (!xa_load(&part->saved, index) && !unreadable(part, index))
			return copied;
		iov_iter_revert(to, copied);
	}
}

static ssize_t read_view_page(struct inode *inode, u64 page, size_t offset,
			      size_t bytes, struct iov_iter *to)
{
	struct vmplat_view_part *part = part_at(inode->i_private, page);

	return read_page(part, page - part->first, offset, bytes, to);
}

static ssize_t view_read_iter(struct kiocb *iocb, struct iov_iter *to)
{
	struct vmplat_view *view = view_of(iocb->ki_filp);

	return vmplat_read_iter(iocb, to, view->nr_pages << PAGE_SHIFT,
				read_view_page);
}

/* ---- SEEK_DATA, SEEK_HOLE --------------------------------------------------------- */

/*
 * Was there a page at the freeze? The live page is looked at first: if it is
 * gone by then, whoever removed it had saved it before.
 */
static bool part_has(struct vmplat_view_part *part, pgoff_t index)
{
	bool live = vmplat_mem_has(part->mem, index);
	void *entry;

	smp_rmb();	/* pairs with smp_wmb() in save_to_parts() */
	entry = xa_load(&part->saved, index);
	return entry ? !xa_is_value(entry) : live;
}

static pgoff_t next_candidate(struct vmplat_view_part *part, pgoff_t index)
{
	pgoff_t live = vmplat_mem_next(part->mem, index);
	unsigned long saved = index;

	smp_rmb();	/* as in part_has() */
	if (!xa_find(&part->saved, &saved, ULONG_MAX, XA_PRESENT))
		saved = ULONG_MAX;
	return min(live, saved);
}

static pgoff_t part_seek(struct vmplat_view_part *part, pgoff_t index, bool data)
{
	u64 nr = part->nr_pages;

	if (part->view->flags & VMPLAT_VIEW_F_INCREMENT)
		return data ? find_next_bit(part->marks, nr, index) :
			      find_next_zero_bit(part->marks, nr, index);
	while (index < nr) {
		if (data)
			index = next_candidate(part, index);
		if (index >= nr || part_has(part, index) == data)
			break;
		index++;
		cond_resched();
	}
	return min_t(u64, index, nr);
}

static loff_t seek_in_view(struct vmplat_view *view, loff_t offset, bool data)
{
	loff_t size = view->nr_pages << PAGE_SHIFT;
	u64 page = offset >> PAGE_SHIFT;

	if (offset < 0 || offset >= size)
		return -ENXIO;
	while (page < view->nr_pages) {
		struct vmplat_view_part *part = part_at(view, page);
		u64 found = part_seek(part, page - part->first, data);

		page = part->first + found;
		if (found < part->nr_pages)
			break;
	}
	/* What was copied is gone by then, and looks like holes. */
	smp_rmb();
	if (READ_ONCE(view->state) != VMPLAT_VIEW_OK)
		return -ENODATA;
	if (page >= view->nr_pages)
		return data ? -ENXIO : size;
	return max_t(loff_t, offset, page << PAGE_SHIFT);
}

static loff_t view_llseek(struct file *file, loff_t offset, int whence)
{
	struct vmplat_view *view = view_of(file);
	loff_t size = view->nr_pages << PAGE_SHIFT;

	if (whence == SEEK_DATA || whence == SEEK_HOLE) {
		offset = seek_in_view(view, offset, whence == SEEK_DATA);
		if (offset < 0)
			return offset;
		return vfs_setpos(file, offset, size);
	}
	return generic_file_llseek_size(file, offset, whence, size, size);
}

/* ---- the file ----------------------------------------------------------------------- */

static __poll_t view_poll(struct file *file, poll_table *wait)
{
	struct vmplat_view *view = view_of(file);
	u32 i;

	/* A breaking view signals room on each of its memories. */
	for (i = 0; i < view->nr_parts; i++)
		poll_wait(file, &view->parts[i].mem->room_wq, wait);
	if (READ_ONCE(view->state) != VMPLAT_VIEW_OK)
		return EPOLLERR;
	return EPOLLIN | EPOLLRDNORM;
}

static void view_show_fdinfo(struct seq_file *m, struct file *file)
{
	struct vmplat_view *view = view_of(file);
	u32 i;

	seq_printf(m, "vmplat-state:\t%d\n", READ_ONCE(view->state));
	seq_printf(m, "vmplat-committed:\t%d\n", READ_ONCE(view->committed));
	seq_printf(m, "vmplat-pages:\t%llu\n", view->nr_pages);
	seq_printf(m, "vmplat-side-bytes:\t%lld\n",
		   atomic64_read(&view->side_bytes));
	seq_printf(m, "vmplat-side-limit:\t%llu\n", view->side_limit);
	seq_printf(m, "vmplat-copied:\t%lld\n", atomic64_read(&view->nr_copied));
	seq_printf(m, "vmplat-blocked-ns:\t%llu\n", view->blocked_ns);
	for (i = 0; i < view->nr_parts; i++)
		seq_printf(m, "vmplat-mem-id:\t%llu\n", view->parts[i].mem->id);
}

/* Owner and mode may change, the length of a past instant may not. */
static int view_setattr(struct vmplat_idmap *idmap, struct dentry *dentry,
			struct iattr *attr)
{
	if (attr->ia_valid & ATTR_SIZE)
		return -EPERM;
	return simple_setattr(idmap, dentry, attr);
}

/* To tar -S a file without blocks is one hole, whatever lseek says. */
static int view_getattr(struct vmplat_idmap *idmap, const struct path *path,
			struct kstat *stat, u32 mask, unsigned int flags)
{
	struct inode *inode = d_inode(path->dentry);
	struct vmplat_view *view = inode->i_private;
	u64 nr = 0;
	u32 i;

	for (i = 0; i < view->nr_parts; i++) {
		const struct vmplat_view_part *part = &view->parts[i];

		if (vmplat_fill_next_missing(part->mem, 0) != ULONG_MAX)
			nr += part->nr_pages;
		else if (view->flags & VMPLAT_VIEW_F_INCREMENT)
			nr += part->nr_marks;
		else
			nr += part->nr_present;
	}
	vmplat_generic_fillattr(idmap, mask, inode, stat);
	stat->blocks = nr << (PAGE_SHIFT - 9);
	return 0;
}

const struct inode_operations vmplat_view_iops = {
	.setattr = view_setattr,
	.getattr = view_getattr,
};

const struct file_operations vmplat_view_fops = {
	.owner = THIS_MODULE,
	.llseek = view_llseek,
	.read_iter = view_read_iter,
	.splice_read = vmplat_splice_read,
	.poll = view_poll,
	.unlocked_ioctl = view_ioctl,
	.compat_ioctl = compat_ptr_ioctl,
	.show_fdinfo = view_show_fdinfo,
};
