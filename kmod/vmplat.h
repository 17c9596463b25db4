/* SPDX-License-Identifier: GPL-2.0 */
/*
 * What the files of this module share. Arrows run one way:
 *
 *   main -> ioctl -> { fs, log, view, fill } -> { dirty -> pinnable, pool } -> mem -> compat
 *   ioctl -> domain -> { domain_group, domain_map -> pin } -> mem -> block
 *   main -> ioctl -> sriov, which knows nothing of memories
 *   main -> netlink -> event <- source_*, and from the objects by hooks of one line
 *   file (the memory file's operations) -> view, fill, dirty, mem
 *
 * Lock order, outermost first:
 *
 *   inode->i_rwsem            length, write(2), fallocate
 *   log->cmd_lock             commands of one log; copies to user space
 *   mem->lock                 harvests, logs, the log side of views
 *   mem->freeze_sem           held shared by whoever makes a page writable or
 *                             removes one, exclusively by a freeze
 *   mapping->invalidate_lock  shared to add or migrate a page, exclusive to remove some
 *                             or to add a block of them; pins, see pin.c
 *   folio lock                makes PTEs writable, write-protects, saves copies
 *   xa_lock, fill->lock,      leaves
 *   locks of a pool's list
 *   sriov.c's sets_lock       a leaf below the locks of devices
 *   event.c's lock            the leaf of all, taken anywhere
 *
 * mmap_lock is outside freeze_sem (faults) and never taken below mem->lock:
 * nothing copies to or from user space while it holds mem->lock or deeper.
 * A writer at the gate takes the folio's lock first, and then only tries freeze_sem.
 * A migration comes with the folio's lock, and only tries invalidate_lock.
 * A freeze of several memories takes their locks in ascending mem->id, under
 * vmplat_freeze_order held shared, which exists to tell lockdep just that.
 */
#ifndef VMPLAT_KMOD_H
#define VMPLAT_KMOD_H

#include <linux/atomic.h>
#include <linux/fs.h>
#include <linux/interval_tree.h>
#include <linux/kernel.h>
#include <linux/list.h>
#include <linux/list_lru.h>
#include <linux/mutex.h>
#include <linux/pagemap.h>
#include <linux/percpu_counter.h>
#include <linux/rwsem.h>
#include <linux/wait.h>
#include <linux/xarray.h>

#include <linux/vmplat.h>

#include "compat.h"
#include "event.h"

struct seq_file;
struct vm_fault;
struct vmplat_copy;
struct vmplat_fill;
struct vmplat_log;
struct vmplat_view_part;

/* ---- mem.c: the pages of a memory ------------------------------------- */

/**
 * struct vmplat_pool - pages of copies that no view needs any more
 * @lru: struct vmplat_copy, by cgroup
 * @nr: how many
 * @nr_reused: how many were taken so far
 */
struct vmplat_pool {
	struct list_lru lru;
	atomic_long_t nr;
	atomic64_t nr_reused;
};

/**
 * struct vmplat_sb - one mounted vmplatfs
 * @max_pages: most pages its files may hold together, 0 for no limit
 * @used_pages: pages they hold
 * @pinnable: what kind of memory they are
 * @huge: pages come in blocks where possible
 * @pool: for copies of them
 */
struct vmplat_sb {
	u64 max_pages;
	struct percpu_counter used_pages;
	struct vmplat_pool pool;
	kuid_t uid;
	kgid_t gid;
	umode_t mode;
	bool pinnable;
	bool huge;
};

/*
 * Folios a harvest locks and write-protects together. More means fewer TLB and
 * KVM flushes (two or three for each batch of pages that follow each other, which is
 * most of the time of a freeze), fewer means that a writer waits less for one of them.
 */
#define VMPLAT_BATCH	1024

struct vmplat_batch {
	unsigned int nr;
	struct folio *folios[VMPLAT_BATCH];	/* locked, ascending */
};

struct vmplat_mem {
	struct inode inode;
	u64 id;				/* orders locks; never reused */

	struct mutex lock;		/* harvests, logs; see above */
	struct rw_semaphore freeze_sem;	/* writers shared, freezes exclusive */

	bool pinnable;			/* from birth: no gate, see pinnable.c */
	bool huge;			/* from birth: has @blocks */
	bool unseen;			/* a second MMU may have written, and is gone */
	atomic_long_t vma_sum;		/* over mappings, of a random number each */

	/* Fixed once @used; before that under inode->i_rwsem. */
	u64 nr_pages;
	u64 max_pages;			/* what @dirty has room for */
	bool used;			/* @lock: mapped, logged, viewed or filled */

	atomic64_t charged;		/* pages charged to the super block */

	/* Pages that may have been written since the last harvest. */
	unsigned long *dirty;
	unsigned long *summary;		/* one bit a word of @dirty */
	atomic64_t nr_dirty;
	unsigned long *unsure;		/* as @dirty, but nobody saw it; if pinnable */
	u64 nr_harvests;		/* @lock */
	struct vmplat_batch *batch;	/* @lock; there once @used, empty */

	struct list_head logs;		/* @lock */
	wait_queue_head_t log_wq;	/* pollers of logs */
	u64 wake_at;			/* @lock to write: @nr_dirty that wakes them */

	struct list_head parts;		/* freeze_sem: parts of live views */
	int nr_parts;			/* freeze_sem to write: length of @parts */
	unsigned int slow_us;		/* a freeze wants few new marks: wait so long */
	wait_queue_head_t room_wq;	/* writers waiting for side memory */
	unsigned int room_seq;		/* counts reasons to look again */
	atomic64_t room_wait_ns;

	struct vmplat_fill *fill;	/* set once, under @lock */

	/* invalidate_lock; see block.c and pin.c */
	unsigned long *blocks;		/* a bit for each that is in one piece */
	struct rb_root_cached pins;	/* struct vmplat_pin */
	unsigned int nr_pins;

	u64 event_at;			/* @lock to write: @nr_dirty worth an event */
	struct work_struct event_work;
};

static inline struct vmplat_mem *vmplat_mem(const struct inode *inode)
{
	return container_of(inode, struct vmplat_mem, inode);
}

static inline struct address_space *vmplat_mapping(struct vmplat_mem *mem)
{
	return mem->inode.i_mapping;
}

int vmplat_mem_cache_init(void);
void vmplat_mem_cache_exit(void);
struct inode *vmplat_mem_alloc_inode(struct super_block *sb);
void vmplat_mem_free_inode(struct inode *inode);
void vmplat_mem_evict(struct inode *inode);

struct file *vmplat_mem_fget(int fd, fmode_t need);
struct vmplat_mem *vmplat_mem_of(struct file *file);
int vmplat_mem_use(struct vmplat_mem *mem);
int vmplat_mem_resize(struct vmplat_mem *mem, loff_t bytes);
void vmplat_mem_remove(struct vmplat_mem *mem, pgoff_t first, pgoff_t nr);
void vmplat_mem_uncharge_removed(struct vmplat_mem *mem);
struct folio *vmplat_mem_folio(struct vmplat_mem *mem, pgoff_t index);
int vmplat_mem_find(struct vmplat_mem *mem, pgoff_t index, struct folio **folio);
bool vmplat_mem_has(struct vmplat_mem *mem, pgoff_t index);
struct folio *vmplat_mem_folio_get(struct vmplat_mem *mem, pgoff_t index);
int vmplat_mem_folio_add(struct vmplat_mem *mem, pgoff_t index,
			 struct folio *folio, bool filling);
int vmplat_mem_insert(struct vmplat_mem *mem, pgoff_t index, struct folio *folio);
struct folio *vmplat_mem_folio_alloc(struct vmplat_mem *mem);
pgoff_t vmplat_mem_next_absent(struct vmplat_mem *mem, pgoff_t index, pgoff_t end);
pgoff_t vmplat_mem_next_present(struct vmplat_mem *mem, pgoff_t index);
bool vmplat_mem_lock_folios(struct vmplat_mem *mem, pgoff_t *index, pgoff_t end);
pgoff_t vmplat_mem_next(struct vmplat_mem *mem, pgoff_t index);

/* ---- block.c: pages that follow each other in physical memory ------------- */

#define VMPLAT_BLOCK_ORDER	(PMD_SHIFT - PAGE_SHIFT)
#define VMPLAT_BLOCK_PAGES	(1UL << VMPLAT_BLOCK_ORDER)

bool vmplat_block_make(struct vmplat_mem *mem, pgoff_t index);
bool vmplat_block_whole(struct vmplat_mem *mem, pgoff_t index);
void vmplat_block_break(struct vmplat_mem *mem, pgoff_t first, pgoff_t last);
unsigned long vmplat_block_count(struct vmplat_mem *mem);

/* ---- pin.c: pages that must stay ------------------------------------------ */

/**
 * struct vmplat_pin - pages of a memory that a device reaches
 * @node: first and last; in mem->pins
 * @write: it may write them
 */
struct vmplat_pin {
	struct interval_tree_node node;
	struct vmplat_mem *mem;
	bool write;
};

int vmplat_pin_take(struct vmplat_pin *pin, struct vmplat_mem *mem,
		     pgoff_t first, pgoff_t nr, bool write);
void vmplat_pin_drop(struct vmplat_pin *pin);
bool vmplat_pin_on(struct vmplat_mem *mem, pgoff_t first, pgoff_t last);
void vmplat_pin_find(struct vmplat_mem *mem, pgoff_t first, pgoff_t end,
		     unsigned long *pages);
u64 vmplat_pin_count(struct vmplat_mem *mem);

/* ---- dirty.c: what may have been written -------------------------------- */

void vmplat_dirty_set(struct vmplat_mem *mem, pgoff_t index);
void vmplat_dirty_unsure(struct vmplat_mem *mem, pgoff_t first, pgoff_t end);
u64 vmplat_dirty_harvest(struct vmplat_mem *mem, pgoff_t first, pgoff_t end,
			 bool strict);
pgoff_t vmplat_dirty_next(struct vmplat_mem *mem, pgoff_t index);
bool vmplat_off_lru_references(struct folio *folio, int known, bool strict);

/* References that neither page tables nor @known explain. */
static inline int vmplat_count_references(struct folio *folio, int known)
{
	int refs = folio_ref_count(folio);

	/* References first: an unmap drops its count before its reference. */
	smp_rmb();
	return refs - known - vmplat_folio_mapcount(folio);
}

/**
 * vmplat_extra_references - can anybody but page cache and page tables reach this?
 * @folio: locked, and without a reference of the caller's
 * @known: its references for being in the page cache and for PG_private
 * @strict: take nothing for granted
 */
static inline bool vmplat_extra_references(struct folio *folio, int known,
					   bool strict)
{
	return vmplat_count_references(folio, known) > 0 &&
	       vmplat_off_lru_references(folio, known, strict);
}

/* ---- pinnable.c ----------------------------------------------------------- */

extern const struct address_space_operations vmplat_pinnable_aops;

void vmplat_pinnable_open(struct vm_area_struct *vma);
void vmplat_pinnable_close(struct vm_area_struct *vma);
u64 vmplat_pinnable_harvest(struct vmplat_mem *mem, pgoff_t first, pgoff_t end);

/* ---- pool.c ------------------------------------------------------------- */

/* Rather break a view than have the writer, a VM, killed for its copies. */
#define VMPLAT_COPY_GFP	(__GFP_ACCOUNT | __GFP_NOWARN | __GFP_RETRY_MAYFAIL)

int vmplat_copy_cache_init(void);
void vmplat_copy_cache_exit(void);
struct vmplat_copy *vmplat_copy_take(struct vmplat_mem *mem);
struct vmplat_copy *vmplat_copy_new(struct vmplat_mem *mem);
struct vmplat_copy *vmplat_copy_get(struct vmplat_copy *copy);
struct page *vmplat_copy_page_of(struct vmplat_copy *copy);
void vmplat_copy_put(struct vmplat_mem *mem, struct vmplat_copy *copy, bool keep);

int vmplat_pool_init(struct super_block *sb);
void vmplat_pool_exit(struct vmplat_sb *sbi);
void vmplat_pool_drain(struct vmplat_sb *sbi);
void vmplat_pool_stock(struct vmplat_mem *mem, unsigned int nr);
long vmplat_pool_count(struct super_block *sb, struct shrink_control *sc);
long vmplat_pool_scan(struct super_block *sb, struct shrink_control *sc);
void vmplat_pool_show(struct seq_file *m, struct vmplat_mem *mem);

/* ---- log.c --------------------------------------------------------------- */

/**
 * struct vmplat_marks - pages that may have been written
 * @bits: one a page
 * @unsure: those of @bits that are there only because nobody could have seen a
 *	write; NULL for a freezable memory
 * @nr: of @bits
 * @nr_unsure: of @unsure
 */
struct vmplat_marks {
	unsigned long *bits;
	unsigned long *unsure;
	u64 nr;
	u64 nr_unsure;
};

struct vmplat_log {
	struct list_head link;		/* mem->logs */
	struct file *mem_file;
	struct vmplat_mem *mem;
	u64 threshold;

	struct mutex cmd_lock;		/* one LOG_FETCH or LOG_END; outside mem->lock */

	/* All below: mem->lock. */
	struct vmplat_marks marked;
	struct vmplat_marks borrowed;	/* reported, not yet committed */
	u64 nr_lent;			/* marks a view part has borrowed */
	bool view_busy;			/* such a part exists */
	u64 event_id;			/* 0 before there was an event of it */
	bool reached;			/* the event said: as many as @threshold */
	u8 id[VMPLAT_ID_BYTES];
};

struct vmplat_cmd;
int vmplat_log_create(struct vmplat_cmd *cmd);
struct file *vmplat_log_fget(int fd);
struct vmplat_log *vmplat_log_of(struct file *file);
void vmplat_log_add(struct vmplat_mem *mem, unsigned long word,
		    unsigned long bits, unsigned long unsure);
void vmplat_log_merge(struct vmplat_log *log, const unsigned long *bits);
void vmplat_log_rearm(struct vmplat_mem *mem);

/* ---- view.c -------------------------------------------------------------- */

extern struct rw_semaphore vmplat_freeze_order;

int vmplat_view_create(struct vmplat_cmd *cmd);
void vmplat_view_free(struct inode *inode);
u64 vmplat_view_id(const struct vmplat_view *view);
void vmplat_view_describe(const struct vmplat_view *view,
			  struct vmplat_view_desc *desc);
int vmplat_write_begin(struct vmplat_mem *mem, struct folio *folio);
int vmplat_punch_begin(struct vmplat_mem *mem, pgoff_t first, pgoff_t nr);
void vmplat_punch_end(struct vmplat_mem *mem);

/* ---- domain.c ------------------------------------------------------------- */

int vmplat_domain_create(struct vmplat_cmd *cmd);
int vmplat_groups_init(void);
void vmplat_groups_exit(void);

/* ---- fill.c -------------------------------------------------------------- */

int vmplat_fill_create(struct vmplat_cmd *cmd);
bool vmplat_fill_missing(struct vmplat_mem *mem, pgoff_t index);
pgoff_t vmplat_fill_next_missing(struct vmplat_mem *mem, pgoff_t index);
void vmplat_fill_supplied(struct vmplat_mem *mem, pgoff_t index);
int vmplat_fill_wait(struct vmplat_mem *mem, pgoff_t index);
bool vmplat_fill_is_dead(struct vmplat_mem *mem);
enum vmplat_fill_state vmplat_fill_state(struct vmplat_mem *mem);
void vmplat_fill_free(struct vmplat_fill *fill);

/* ---- sriov.c ------------------------------------------------------------- */

int vmplat_sriov_init(void);
void vmplat_sriov_exit(void);
int vmplat_sriov_create(struct vmplat_cmd *cmd);
int vmplat_sriov_bind(struct vmplat_cmd *cmd);
int vmplat_sriov_destroy(struct vmplat_cmd *cmd);
int vmplat_sriov_status(struct vmplat_cmd *cmd);

/* ---- file.c, fs.c --------------------------------------------------------- */

extern const struct file_operations vmplat_mem_fops;
extern const struct file_operations vmplat_view_fops;
extern const struct address_space_operations vmplat_mem_aops;
extern const struct inode_operations vmplat_mem_iops;
extern const struct inode_operations vmplat_view_iops;

bool vmplat_dirty_folio(struct address_space *mapping, struct folio *folio);
ssize_t vmplat_read_iter(struct kiocb *iocb, struct iov_iter *to, loff_t size,
			 ssize_t (*read_page)(struct inode *inode, u64 page,
					      size_t offset, size_t bytes,
					      struct iov_iter *to));
int vmplat_fs_init(void);
void vmplat_fs_exit(void);
int vmplat_mem_create(struct vmplat_cmd *cmd);
struct file *vmplat_fs_file(struct vfsmount *mnt, const char *name, loff_t bytes,
			    umode_t perm, const struct file_operations *fops,
			    void *private);

/* ---- ioctl.c --------------------------------------------------------------- */

/**
 * struct vmplat_cmd - one ioctl under way
 * @file: the file it was called on
 * @arg: the kernel's copy of the argument
 * @new_file: set by a command that made an object; gets its descriptor last of
 *	all
 */
struct vmplat_cmd {
	struct file *file;
	void *arg;
	struct file *new_file;
};

/**
 * struct vmplat_ioctl_op - how to call one command
 * @nr: VMPLAT_CMD_*
 * @size: of the argument struct, as this kernel knows it
 * @min_size: of its first version
 * @flags: flags it knows
 * @fd_at: where the struct has its out_fd; 0 if the command makes no object
 * @out_from: where its other outputs begin; 0 if there are none
 * @execute: the command
 * @finish: if not NULL, called after a successful @execute, with an error if the
 *	outputs could not be written: takes back, or makes final, what it did
 */
struct vmplat_ioctl_op {
	unsigned int nr;
	u16 size;
	u16 min_size;
	u32 flags;
	u16 fd_at;
	u16 out_from;
	int (*execute)(struct vmplat_cmd *cmd);
	void (*finish)(struct vmplat_cmd *cmd, int err);
};

/* The last argument takes .fd_at, .out_from and .finish of commands that need them. */
#define VMPLAT_OP(_nr, _fn, _struct, _last, _flags, ...)		\
	{								\
		.nr = (_nr),						\
		.size = sizeof(_struct),				\
		.min_size = offsetofend(_struct, _last),		\
		.flags = (_flags),					\
		.execute = (_fn),					\
		__VA_ARGS__						\
	}
#define VMPLAT_FD(_struct)	.fd_at = offsetof(_struct, out_fd)
#define VMPLAT_OUT(_struct, _first)	.out_from = offsetof(_struct, _first)

long vmplat_ioctl(struct file *file, unsigned int cmd, unsigned long uarg,
		  const struct vmplat_ioctl_op *ops, size_t nr_ops);
/* main.c */
bool vmplat_is_device(const struct file *file);

/* pci_use.c */
int vmplat_pci_hold_create(struct vmplat_cmd *cmd);

int vmplat_check_range(u64 first, u64 nr, u64 limit);

#endif /* VMPLAT_KMOD_H */
