// SPDX-License-Identifier: GPL-2.0
/*
 * Dirty logs: cursors on a memory.
 *
 * Each log has two sets of marks. @marked its reader has not seen; @borrowed it has
 * seen and not yet committed. A fetch moves marks from the first to the second, a
 * commit forgets the second, an abort puts them back. A view borrows by taking the
 * whole of @marked along (view.c). Either way a mark is in exactly one place until
 * somebody says that its page is safe elsewhere.
 *
 * A mark of a pinnable memory may be unsure: nobody saw a write, but somebody could
 * have written unseen. It takes that along wherever it goes; where it meets one that
 * is sure, that one stays.
 */
#include <linux/anon_inodes.h>
#include <linux/file.h>
#include <linux/poll.h>
#include <linux/seq_file.h>
#include <linux/slab.h>
#include <linux/uaccess.h>

#include "vmplat.h"

/* Words of the bitmap that a fetch handles between two looks at the clock. */
#define CHUNK_WORDS	(PAGE_SIZE / sizeof(u64))

static const struct file_operations log_fops;

struct vmplat_log *vmplat_log_of(struct file *file)
{
	return file->f_op == &log_fops ? file->private_data : NULL;
}

struct file *vmplat_log_fget(int fd)
{
	struct file *file = fget(fd);

	if (!file)
		return ERR_PTR(-EBADF);
	if (vmplat_log_of(file))
		return file;
	fput(file);
	return ERR_PTR(-EMEDIUMTYPE);
}

/* ---- marks ---------------------------------------------------------------- */

static int marks_alloc(struct vmplat_marks *m, const struct vmplat_mem *mem)
{
	size_t words = BITS_TO_LONGS(mem->nr_pages);

	m->bits = kvcalloc(words, sizeof(long), GFP_KERNEL_ACCOUNT);
	if (mem->pinnable)
		m->unsure = kvcalloc(words, sizeof(long), GFP_KERNEL_ACCOUNT);
	return m->bits && (m->unsure || !mem->pinnable) ? 0 : -ENOMEM;
}

static void marks_free(struct vmplat_marks *m)
{
	kvfree(m->bits);
	kvfree(m->unsure);
}

/* @unsure is of @bits. A page stays unsure as long as all its marks are. */
static void marks_add(struct vmplat_marks *m, unsigned long word,
		      unsigned long bits, unsigned long unsure)
{
	unsigned long old = m->bits[word], was, now;

	m->nr += hweight_long(bits & ~old);
	m->bits[word] = old | bits;
	if (!m->unsure)
		return;
	was = m->unsure[word];
	now = (was & ~(bits & ~unsure)) | (unsure & ~old);
	m->nr_unsure += hweight_long(now) - hweight_long(was);
	m->unsure[word] = now;
}

static unsigned long marks_unsure(const struct vmplat_marks *m,
				  unsigned long word, unsigned long bits)
{
	return m->unsure ? m->unsure[word] & bits : 0;
}

/* Returns which of @bits, all of them there, are unsure. */
static unsigned long marks_take(struct vmplat_marks *m, unsigned long word,
				unsigned long bits)
{
	unsigned long unsure = marks_unsure(m, word, bits);

	m->nr -= hweight_long(bits);
	m->bits[word] &= ~bits;
	m->nr_unsure -= hweight_long(unsure);
	if (unsure)
		m->unsure[word] &= ~unsure;
	return unsure;
}

static void marks_clear(struct vmplat_marks *m, u64 nr_pages)
{
	bitmap_zero(m->bits, nr_pages);
	if (m->unsure)
		bitmap_zero(m->unsure, nr_pages);
	m->nr = 0;
	m->nr_unsure = 0;
}

/* ---- called by harvests and views, mem->lock held ----------------------- */

/*
 * vmplat_log_add - a harvest found @bits in @word: every log wants them
 *
 * @unsure are those of them for which there is no evidence of a write.
 */
void vmplat_log_add(struct vmplat_mem *mem, unsigned long word,
		    unsigned long bits, unsigned long unsure)
{
	struct vmplat_log *log;

	lockdep_assert_held(&mem->lock);
	list_for_each_entry(log, &mem->logs, link)
		marks_add(&log->marked, word, bits, unsure);
}

/* vmplat_log_merge - marks that a view borrowed come back */
void vmplat_log_merge(struct vmplat_log *log, const unsigned long *bits)
{
	unsigned long word;

	lockdep_assert_held(&log->mem->lock);
	for (word = 0; word < BITS_TO_LONGS(log->mem->nr_pages); word++)
		if (bits[word])
			marks_add(&log->marked, word, bits[word], 0);
	vmplat_log_rearm(log->mem);
}

static u64 threshold(const struct vmplat_log *log)
{
	return max_t(u64, log->threshold, 1);
}

/*
 * vmplat_log_rearm - recompute how many new marks wake the next poller
 *
 * Marks not yet harvested count fully, although some may be in @bits already:
 * early is allowed, late is not.
 */
void vmplat_log_rearm(struct vmplat_mem *mem)
{
	struct vmplat_log *log;
	u64 at = U64_MAX;

	lockdep_assert_held(&mem->lock);
	vmplat_event_log_marked(mem);
	list_for_each_entry(log, &mem->logs, link) {
		u64 want = threshold(log);

		at = min(at, want > log->marked.nr ? want - log->marked.nr : 0);
	}
	WRITE_ONCE(mem->wake_at, at);
	/* Pairs with inc_return() before the look at @wake_at, vmplat_dirty_set(). */
	smp_mb();
	if (atomic64_read(&mem->nr_dirty) >= at && wq_has_sleeper(&mem->log_wq))
		wake_up_poll(&mem->log_wq, EPOLLIN);
}

/* ---- fetch ------------------------------------------------------------------ */

/* Where an answer goes while it is made, and what is known of it so far. */
struct fetch {
	struct vmplat_log *log;
	struct vmplat_log_fetch *arg;
	u64 *page;		/* CHUNK_WORDS of marks */
	u64 *unsure;		/* which of them are */
	bool borrow;
	struct vmplat_range run;	/* ranges: the run under way */
};

/* Bits of @word that lie within [first, end). */
static unsigned long word_mask(u64 word, u64 first, u64 end)
{
	unsigned long mask = ~0UL;

	if (word == first / BITS_PER_LONG)
		mask &= BITMAP_FIRST_WORD_MASK(first);
	if (word == (end - 1) / BITS_PER_LONG)
		mask &= BITMAP_LAST_WORD_MASK(end);
	return mask;
}

static void borrow_bits(struct vmplat_log *log, u64 word, unsigned long bits)
{
	marks_add(&log->borrowed, word, bits, marks_take(&log->marked, word, bits));
}

/*
 * The label says "everything up to that base is safe, everything after it is
 * marked here". Once marks are forgotten without a new label, it is not so.
 */
static void drop_label(struct vmplat_log *log)
{
	memset(log->id, 0, sizeof(log->id));
}

/* Give back, or forget, whatever is borrowed within [first, end). */
static void unborrow_range(struct vmplat_log *log, u64 first, u64 end,
			   bool forget)
{
	struct vmplat_mem *mem = log->mem;
	u64 word;

	if (first >= end)
		return;
	mutex_lock(&mem->lock);
	for (word = first / BITS_PER_LONG;
	     word <= (end - 1) / BITS_PER_LONG && log->borrowed.nr; word++) {
		unsigned long bits = log->borrowed.bits[word] &
				     word_mask(word, first, end);
		unsigned long unsure;

		if (!bits)
			continue;
		unsure = marks_take(&log->borrowed, word, bits);
		if (forget)
			drop_label(log);
		else
			marks_add(&log->marked, word, bits, unsure);
	}
	vmplat_log_rearm(mem);
	mutex_unlock(&mem->lock);
}

/*
 * Take the marks of up to CHUNK_WORDS words into f->page and f->unsure. Returns how
 * many, or -EBUSY if a view has come between two chunks: one borrower at a time.
 */
static s64 take_chunk(struct fetch *f, u64 word, u64 nr_words, u64 first, u64 end)
{
	struct vmplat_log *log = f->log;
	s64 nr = 0;
	u64 i;

	mutex_lock(&log->mem->lock);
	if (f->borrow && log->view_busy) {
		mutex_unlock(&log->mem->lock);
		return -EBUSY;
	}
	memset(f->page, 0, nr_words * sizeof(*f->page));
	memset(f->unsure, 0, nr_words * sizeof(*f->unsure));
	for (i = 0; i < nr_words && log->marked.nr; i++) {
		unsigned long bits = log->marked.bits[word + i];

		if (!bits)
			continue;
		bits &= word_mask(word + i, first, end);
		f->page[i] = bits;
		f->unsure[i] = marks_unsure(&log->marked, word + i, bits);
		nr += hweight_long(bits);
		if (f->borrow)
			borrow_bits(log, word + i, bits);
	}
	vmplat_event_log_taken(log);
	mutex_unlock(&log->mem->lock);
	return nr;
}

/* Of the first @nr pages of the chunk, which were reported. */
static void count_unsure(struct fetch *f, u64 nr)
{
	f->arg->out_nr_unsure += bitmap_weight((unsigned long *)f->unsure, nr);
}

static int fetch_bitmap(struct fetch *f, u64 first, u64 end)
{
	u64 __user *ubuf = u64_to_user_ptr(f->arg->buf);
	u64 word = first / BITS_PER_LONG, end_word = BITS_TO_LONGS(end);

	while (word < end_word) {
		u64 n = min_t(u64, end_word - word, CHUNK_WORDS);
		s64 nr = take_chunk(f, word, n, first, end);

		if (nr < 0)
			return nr;
		f->arg->out_nr_dirty += nr;
		count_unsure(f, n * BITS_PER_LONG);
		word += n;
		f->arg->out_next = min(word * BITS_PER_LONG, end);
		if (copy_to_user(ubuf, f->page, n * sizeof(u64)))
			return -EFAULT;
		ubuf += n;
		cond_resched();
	}
	return 0;
}

static int put_run(struct fetch *f)
{
	struct vmplat_range __user *ubuf = u64_to_user_ptr(f->arg->buf);

	if (!f->run.nr_pages)
		return 0;
	if (copy_to_user(&ubuf[f->arg->out_nr_ranges], &f->run, sizeof(f->run)))
		return -EFAULT;
	f->arg->out_nr_ranges++;
	f->arg->out_nr_dirty += f->run.nr_pages;
	f->run.nr_pages = 0;
	return 0;
}

/*
 * Turn one chunk into ranges. Returns the page to go on from, which is short of
 * the chunk's end when the buffer is full, or an error.
 */
static s64 chunk_to_ranges(struct fetch *f, u64 base, u64 nr_words)
{
	const unsigned long *bits = (const unsigned long *)f->page;
	u64 max = f->arg->buf_bytes / sizeof(struct vmplat_range);
	u64 nr = nr_words * BITS_PER_LONG;
	u64 start, stop;
	int err;

	for (start = find_first_bit(bits, nr); start < nr;
	     start = find_next_bit(bits, nr, stop)) {
		stop = find_next_zero_bit(bits, nr, start);
		if (f->run.nr_pages &&
		    f->run.first + f->run.nr_pages == base + start) {
			f->run.nr_pages += stop - start;
			continue;
		}
		err = put_run(f);
		if (err)
			return err;
		if (f->arg->out_nr_ranges == max)
			return base + start;
		f->run.first = base + start;
		f->run.nr_pages = stop - start;
	}
	return base + nr;
}

static int fetch_ranges(struct fetch *f, u64 first, u64 end)
{
	u64 word = first / BITS_PER_LONG, end_word = BITS_TO_LONGS(end);

	while (word < end_word) {
		u64 n = min_t(u64, end_word - word, CHUNK_WORDS);
		u64 chunk_end = min((word + n) * BITS_PER_LONG, end);
		s64 next;

		next = take_chunk(f, word, n, first, end);
		if (next < 0)
			return next;
		f->arg->out_next = chunk_end;
		next = chunk_to_ranges(f, word * BITS_PER_LONG, n);
		if (next < 0)
			return next;
		count_unsure(f, next - word * BITS_PER_LONG);
		if (next < chunk_end) {
			/* Full: what did not fit was not reported. */
			if (f->borrow)
				unborrow_range(f->log, next, chunk_end, false);
			f->arg->out_next = next;
			return 0;
		}
		word += n;
		cond_resched();
	}
	return put_run(f);
}

static int check_fetch(struct vmplat_log *log, const struct vmplat_log_fetch *arg)
{
	const u32 how = VMPLAT_LOG_FETCH_F_PEEK | VMPLAT_LOG_FETCH_F_CLEAR;
	int err;

	if ((arg->flags & how) == how)
		return -EINVAL;
	err = vmplat_check_range(arg->first, arg->nr_pages, log->mem->nr_pages);
	if (err)
		return err;
	if (arg->flags & VMPLAT_LOG_FETCH_F_RANGES) {
		if (!arg->buf_bytes ||
		    arg->buf_bytes % sizeof(struct vmplat_range))
			return -EINVAL;
		return 0;
	}
	if (arg->first % BITS_PER_LONG)
		return -EINVAL;
	if (arg->buf_bytes < BITS_TO_LONGS(arg->nr_pages) * sizeof(u64))
		return -EMSGSIZE;
	return 0;
}

static int do_fetch(struct vmplat_log *log, struct vmplat_log_fetch *arg)
{
	struct vmplat_mem *mem = log->mem;
	bool clear = arg->flags & VMPLAT_LOG_FETCH_F_CLEAR;
	struct fetch f = {
		.log = log,
		.arg = arg,
		.borrow = !(arg->flags & VMPLAT_LOG_FETCH_F_PEEK),
	};
	u64 first = arg->first, end;
	int err;

	arg->out_nr_dirty = 0;
	arg->out_nr_ranges = 0;
	arg->out_next = first;
	arg->out_nr_unsure = 0;
	err = check_fetch(log, arg);
	if (err)
		return err;
	end = first + arg->nr_pages;
	f.page = kmalloc_array(2 * CHUNK_WORDS, sizeof(*f.page), GFP_KERNEL);
	if (!f.page)
		return -ENOMEM;
	f.unsure = f.page + CHUNK_WORDS;

	mutex_lock(&mem->lock);
	if ((f.borrow && log->view_busy) || (clear && log->borrowed.nr))
		err = -EBUSY;
	else
		vmplat_dirty_harvest(mem, first, end, false);
	mutex_unlock(&mem->lock);
	if (err)
		goto free;

	if (arg->flags & VMPLAT_LOG_FETCH_F_RANGES)
		err = fetch_ranges(&f, first, end);
	else
		err = fetch_bitmap(&f, first, end);
	if (err && f.borrow)
		unborrow_range(log, first, arg->out_next, false);
	if (err) {
		arg->out_nr_dirty = 0;
		arg->out_nr_ranges = 0;
		arg->out_next = first;
		arg->out_nr_unsure = 0;
	}
free:
	kfree(f.page);
	return err;
}

static int fetch(struct vmplat_cmd *cmd)
{
	struct vmplat_log *log = cmd->file->private_data;
	int err;

	/* Two at once would give back, or forget, what the other borrowed. */
	if (mutex_lock_interruptible(&log->cmd_lock))
		return -EINTR;
	err = do_fetch(log, cmd->arg);
	if (err)
		mutex_unlock(&log->cmd_lock);
	return err;		/* else fetch_finish() unlocks */
}

/* Only now does the caller have the whole answer, or is known never to get it. */
static void fetch_finish(struct vmplat_cmd *cmd, int err)
{
	struct vmplat_log *log = cmd->file->private_data;
	struct vmplat_log_fetch *arg = cmd->arg;
	bool borrowed = !(arg->flags & VMPLAT_LOG_FETCH_F_PEEK);

	if (borrowed && (err || (arg->flags & VMPLAT_LOG_FETCH_F_CLEAR)))
		unborrow_range(log, arg->first, arg->out_next, !err);
	mutex_unlock(&log->cmd_lock);
}

/* All that is borrowed comes back. */
static void give_back(struct vmplat_log *log)
{
	unsigned long word;

	for (word = 0; word < BITS_TO_LONGS(log->mem->nr_pages); word++) {
		unsigned long bits = log->borrowed.bits[word];

		if (bits)
			marks_add(&log->marked, word, bits,
				  marks_unsure(&log->borrowed, word, bits));
	}
	vmplat_log_rearm(log->mem);
}

static int do_end(struct vmplat_log *log, const struct vmplat_log_end *arg)
{
	bool abort = arg->flags & VMPLAT_LOG_END_F_ABORT;
	bool labelled = memchr_inv(arg->id, 0, sizeof(arg->id));
	struct vmplat_mem *mem = log->mem;
	int err = 0;

	if (abort && labelled)
		return -EINVAL;
	mutex_lock(&mem->lock);
	if (log->view_busy) {
		err = -EBUSY;
		goto unlock;
	}
	if (abort)
		give_back(log);
	else if (log->borrowed.nr)
		drop_label(log);
	marks_clear(&log->borrowed, mem->nr_pages);
	if (labelled)
		memcpy(log->id, arg->id, sizeof(log->id));
unlock:
	mutex_unlock(&mem->lock);
	return err;
}

static int end(struct vmplat_cmd *cmd)
{
	struct vmplat_log *log = cmd->file->private_data;
	int err;

	if (mutex_lock_interruptible(&log->cmd_lock))
		return -EINTR;
	err = do_end(log, cmd->arg);
	mutex_unlock(&log->cmd_lock);
	return err;
}

static int status(struct vmplat_cmd *cmd)
{
	struct vmplat_log *log = cmd->file->private_data;
	struct vmplat_log_status *arg = cmd->arg;
	struct vmplat_mem *mem = log->mem;

	if (arg->__reserved)
		return -EOPNOTSUPP;
	mutex_lock(&mem->lock);
	vmplat_dirty_harvest(mem, 0, mem->nr_pages, false);
	arg->out_nr_pages = mem->nr_pages;
	arg->out_nr_dirty = log->marked.nr;
	arg->out_nr_borrowed = log->borrowed.nr + log->nr_lent;
	arg->out_harvests = mem->nr_harvests;
	arg->out_view_busy = log->view_busy;
	memcpy(arg->out_id, log->id, sizeof(arg->out_id));
	arg->out_nr_unsure = log->marked.nr_unsure;
	arg->out_nr_device = vmplat_pin_count(mem);
	mutex_unlock(&mem->lock);
	return 0;
}

/* ---- the file ------------------------------------------------------------------ */

static const struct vmplat_ioctl_op log_ops[] = {
	VMPLAT_OP(VMPLAT_CMD_LOG_FETCH, fetch, struct vmplat_log_fetch, out_next,
		  VMPLAT_LOG_FETCH_F_PEEK | VMPLAT_LOG_FETCH_F_CLEAR |
		  VMPLAT_LOG_FETCH_F_RANGES,
		  VMPLAT_OUT(struct vmplat_log_fetch, out_nr_dirty),
		  .finish = fetch_finish),
	VMPLAT_OP(VMPLAT_CMD_LOG_END, end, struct vmplat_log_end, id,
		  VMPLAT_LOG_END_F_ABORT),
	VMPLAT_OP(VMPLAT_CMD_LOG_STATUS, status, struct vmplat_log_status,
		  __reserved, 0,
		  VMPLAT_OUT(struct vmplat_log_status, out_nr_pages)),
};

static long log_ioctl(struct file *file, unsigned int cmd, unsigned long arg)
{
	return vmplat_ioctl(file, cmd, arg, log_ops, ARRAY_SIZE(log_ops));
}

static __poll_t log_poll(struct file *file, poll_table *wait)
{
	struct vmplat_log *log = file->private_data;
	struct vmplat_mem *mem = log->mem;
	u64 nr;

	/* Nobody sees those writes, so there may always be some. */
	if (mem->pinnable)
		return EPOLLIN | EPOLLRDNORM;
	poll_wait(file, &mem->log_wq, wait);
	nr = READ_ONCE(log->marked.nr) + atomic64_read(&mem->nr_dirty);
	return nr >= threshold(log) ? EPOLLIN | EPOLLRDNORM : 0;
}

static void log_free(struct vmplat_log *log)
{
	marks_free(&log->marked);
	marks_free(&log->borrowed);
	if (log->mem_file)
		fput(log->mem_file);
	kfree(log);
}

static int log_release(struct inode *inode, struct file *file)
{
	struct vmplat_log *log = file->private_data;
	struct vmplat_mem *mem;

	if (!log)
		return 0;	/* never got as far as being a log */
	vmplat_event_log_removed(log);
	mem = log->mem;
	mutex_lock(&mem->lock);
	list_del(&log->link);
	vmplat_log_rearm(mem);
	mutex_unlock(&mem->lock);
	log_free(log);
	return 0;
}

static void log_show_fdinfo(struct seq_file *m, struct file *file)
{
	struct vmplat_log *log = file->private_data;

	mutex_lock(&log->mem->lock);
	seq_printf(m, "vmplat-mem-id:\t%llu\n", log->mem->id);
	seq_printf(m, "vmplat-pages:\t%llu\n", log->mem->nr_pages);
	seq_printf(m, "vmplat-marked:\t%llu\n", log->marked.nr);
	seq_printf(m, "vmplat-unsure:\t%llu\n", log->marked.nr_unsure);
	seq_printf(m, "vmplat-borrowed:\t%llu\n",
		   log->borrowed.nr + log->nr_lent);
	seq_printf(m, "vmplat-view-busy:\t%d\n", log->view_busy);
	seq_printf(m, "vmplat-threshold:\t%llu\n", threshold(log));
	seq_printf(m, "vmplat-label:\t%*phN\n", VMPLAT_ID_BYTES, log->id);
	mutex_unlock(&log->mem->lock);
}

static const struct file_operations log_fops = {
	.owner = THIS_MODULE,
	.release = log_release,
	.poll = log_poll,
	.unlocked_ioctl = log_ioctl,
	.compat_ioctl = compat_ptr_ioctl,
	.show_fdinfo = log_show_fdinfo,
};

static struct vmplat_log *log_alloc(struct file *mem_file, u64 threshold)
{
	struct vmplat_log *log = kzalloc(sizeof(*log), GFP_KERNEL_ACCOUNT);

	if (!log)
		return NULL;
	log->mem = vmplat_mem_of(mem_file);
	log->threshold = threshold;
	mutex_init(&log->cmd_lock);
	if (!marks_alloc(&log->marked, log->mem) &&
	    !marks_alloc(&log->borrowed, log->mem))
		return log;
	log_free(log);
	return NULL;
}

/*
 * Join the memory. What was written before is the other logs' business: harvest
 * it first, so that this log starts empty and every later write faults.
 */
static void log_start(struct vmplat_log *log, bool all_dirty)
{
	struct vmplat_mem *mem = log->mem;

	mutex_lock(&mem->lock);
	vmplat_dirty_harvest(mem, 0, mem->nr_pages, false);
	if (all_dirty) {
		bitmap_set(log->marked.bits, 0, mem->nr_pages);
		log->marked.nr = mem->nr_pages;
	}
	list_add_tail(&log->link, &mem->logs);
	vmplat_log_rearm(mem);
	mutex_unlock(&mem->lock);
}

int vmplat_log_create(struct vmplat_cmd *cmd)
{
	struct vmplat_log_create *arg = cmd->arg;
	struct file *mem_file, *file;
	struct vmplat_log *log;
	int err;

	mem_file = vmplat_mem_fget(arg->mem_fd, FMODE_READ);
	if (IS_ERR(mem_file))
		return PTR_ERR(mem_file);
	err = vmplat_mem_use(vmplat_mem_of(mem_file));
	if (!err && arg->threshold_pages && vmplat_mem_of(mem_file)->pinnable)
		err = -EOPNOTSUPP;
	if (err)
		goto put_mem;
	log = log_alloc(mem_file, arg->threshold_pages);
	if (!log) {
		err = -ENOMEM;
		goto put_mem;
	}
	file = anon_inode_getfile("[vmplat-log]", &log_fops, NULL, O_RDWR);
	if (IS_ERR(file)) {
		err = PTR_ERR(file);
		goto free_log;
	}
	log->mem_file = mem_file;
	log_start(log, arg->flags & VMPLAT_LOG_F_ALL_DIRTY);
	file->private_data = log;
	vmplat_event_log_created(log);
	cmd->new_file = file;
	return 0;

free_log:
	log_free(log);
put_mem:
	fput(mem_file);
	return err;
}
