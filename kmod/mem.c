// SPDX-License-Identifier: GPL-2.0
/*
 * The pages of a memory: found, made, removed and counted. What writing or
 * freezing them means is for others.
 *
 * Pages live in the inode's page cache as order-0 folios, always uptodate,
 * always PG_dirty: a clean page that nobody maps would be thrown away by
 * drop_caches, and its content exists nowhere else. (Those of a pinnable memory
 * have PG_private instead.) For the same reason the mapping is unevictable. They
 * may be migrated.
 */
#include <linux/file.h>
#include <linux/slab.h>
#include <linux/uaccess.h>

#include "vmplat.h"

/* The kernel's bitmap_*() helpers count in unsigned int; 8 TiB of 4 KiB pages. */
#define MAX_PAGES	((u64)INT_MAX)

static struct kmem_cache *mem_cache;
static atomic64_t next_id = ATOMIC64_INIT(0);

static void init_once(void *ptr)
{
	struct vmplat_mem *mem = ptr;

	inode_init_once(&mem->inode);
}

int vmplat_mem_cache_init(void)
{
	mem_cache = kmem_cache_create("vmplat_mem", sizeof(struct vmplat_mem), 0,
				      SLAB_RECLAIM_ACCOUNT | SLAB_ACCOUNT,
				      init_once);
	return mem_cache ? 0 : -ENOMEM;
}

void vmplat_mem_cache_exit(void)
{
	rcu_barrier();	/* inodes on their way through free_inode */
	kmem_cache_destroy(mem_cache);
}

struct inode *vmplat_mem_alloc_inode(struct super_block *sb)
{
	struct vmplat_mem *mem = alloc_inode_sb(sb, mem_cache, GFP_KERNEL);

	if (!mem)
		return NULL;
	mem->id = atomic64_inc_return(&next_id);
	mutex_init(&mem->lock);
	init_rwsem(&mem->freeze_sem);
	mem->nr_pages = 0;
	mem->max_pages = 0;
	mem->used = false;
	mem->pinnable = false;
	mem->huge = false;
	mem->unsure = NULL;
	mem->blocks = NULL;
	mem->pins = RB_ROOT_CACHED;
	mem->nr_pins = 0;
	mem->unseen = false;
	atomic_long_set(&mem->vma_sum, 0);
	atomic64_set(&mem->charged, 0);
	mem->dirty = NULL;
	mem->summary = NULL;
	atomic64_set(&mem->nr_dirty, 0);
	mem->nr_harvests = 0;
	mem->batch = NULL;
	INIT_LIST_HEAD(&mem->logs);
	init_waitqueue_head(&mem->log_wq);
	mem->wake_at = U64_MAX;
	INIT_LIST_HEAD(&mem->parts);
	mem->nr_parts = 0;
	mem->slow_us = 0;
	init_waitqueue_head(&mem->room_wq);
	mem->room_seq = 0;
	atomic64_set(&mem->room_wait_ns, 0);
	mem->fill = NULL;
	vmplat_event_mem_init(mem);
	return &mem->inode;
}

void vmplat_mem_free_inode(struct inode *inode)
{
	kmem_cache_free(mem_cache, vmplat_mem(inode));
}

/* The last reference is gone: no file, hence no mapping, log or view either. */
void vmplat_mem_evict(struct inode *inode)
{
	struct vmplat_mem *mem = vmplat_mem(inode);

	vmplat_event_mem_removed(mem);
	truncate_inode_pages_final(&inode->i_data);
	vmplat_mem_uncharge_removed(mem);
	clear_inode(inode);
	kvfree(mem->dirty);
	kvfree(mem->summary);
	kvfree(mem->unsure);
	kvfree(mem->blocks);
	kfree(mem->batch);
	vmplat_fill_free(mem->fill);
}

/* vmplat_mem_of - the memory behind an open file, NULL if it is none */
struct vmplat_mem *vmplat_mem_of(struct file *file)
{
	if (file->f_op != &vmplat_mem_fops)
		return NULL;
	return vmplat_mem(file_inode(file));
}

/* vmplat_mem_fget - a memory's file from a descriptor; the caller fput()s it */
struct file *vmplat_mem_fget(int fd, fmode_t need)
{
	struct file *file = fget(fd);
	int err = 0;

	if (!file)
		return ERR_PTR(-EBADF);
	if (!vmplat_mem_of(file))
		err = -EMEDIUMTYPE;
	else if ((file->f_mode & need) != need)
		err = -EACCES;
	if (!err)
		return file;
	fput(file);
	return ERR_PTR(err);
}

/* vmplat_mem_use - from now on the length is fixed; EINVAL if it is still 0 */
int vmplat_mem_use(struct vmplat_mem *mem)
{
	int err = 0;

	mutex_lock(&mem->lock);
	if (!mem->nr_pages) {
		err = -EINVAL;
	} else if (!mem->used) {
		mem->batch = kzalloc(sizeof(*mem->batch), GFP_KERNEL_ACCOUNT);
		if (mem->batch)
			mem->used = true;
		else
			err = -ENOMEM;
	}
	mutex_unlock(&mem->lock);
	return err;
}

/* ---- length ------------------------------------------------------------- */

static unsigned long *grow_bitmap(const unsigned long *old, u64 old_bits,
				  u64 new_bits)
{
	unsigned long *new = kvcalloc(BITS_TO_LONGS(new_bits), sizeof(long),
				      GFP_KERNEL_ACCOUNT);

	if (new && old)
		bitmap_copy(new, old, old_bits);
	return new;
}

/* Room for @nr pages in the bitmaps; grows in powers of two for appenders. */
static int reserve_bitmaps(struct vmplat_mem *mem, u64 nr)
{
	unsigned long *dirty, *summary, *unsure = NULL, *blocks = NULL;
	u64 max;

	if (nr <= mem->max_pages)
		return 0;
	max = max_t(u64, roundup_pow_of_two(nr),
		    BITS_PER_LONG * BITS_PER_LONG);
	if (mem->max_pages == 0)
		max = round_up(nr, BITS_PER_LONG * BITS_PER_LONG);
	dirty = grow_bitmap(mem->dirty, mem->max_pages, max);
	summary = grow_bitmap(mem->summary, BITS_TO_LONGS(mem->max_pages),
			      BITS_TO_LONGS(max));
	if (mem->pinnable)
		unsure = grow_bitmap(mem->unsure, mem->max_pages, max);
	if (mem->huge)
		blocks = grow_bitmap(mem->blocks,
				     mem->max_pages >> VMPLAT_BLOCK_ORDER,
				     (max >> VMPLAT_BLOCK_ORDER) + 1);
	if (!dirty || !summary || (mem->pinnable && !unsure) ||
	    (mem->huge && !blocks)) {
		kvfree(dirty);
		kvfree(summary);
		kvfree(unsure);
		kvfree(blocks);
		return -ENOMEM;
	}
	kvfree(mem->dirty);
	kvfree(mem->summary);
	mem->dirty = dirty;
	mem->summary = summary;
	kvfree(mem->unsure);
	mem->unsure = unsure;
	kvfree(mem->blocks);
	mem->blocks = blocks;
	mem->max_pages = max;
	return 0;
}

/**
 * vmplat_mem_resize - set the length
 * @mem: the memory; its inode is locked
 * @bytes: new length
 *
 * EBUSY once the memory was mapped, logged, frozen or filled: bitmaps, views
 * and increments would no longer mean what their readers think.
 */
int vmplat_mem_resize(struct vmplat_mem *mem, loff_t bytes)
{
	struct inode *inode = &mem->inode;
	u64 nr = DIV_ROUND_UP_ULL(bytes, PAGE_SIZE);
	int err = 0;

	if (bytes == i_size_read(inode))
		return 0;
	if (nr > MAX_PAGES)
		return -EFBIG;
	mutex_lock(&mem->lock);
	if (mem->used)
		err = -EBUSY;
	else
		err = reserve_bitmaps(mem, nr);
	if (err)
		goto unlock;
	if (bytes < i_size_read(inode)) {
		filemap_invalidate_lock(inode->i_mapping);
		truncate_setsize(inode, bytes);
		vmplat_block_break(mem, nr, mem->nr_pages - 1);
		vmplat_mem_uncharge_removed(mem);
		filemap_invalidate_unlock(inode->i_mapping);
	} else {
		i_size_write(inode, bytes);
	}
	mem->nr_pages = nr;
	vmplat_event_mem_changed(mem);
unlock:
	mutex_unlock(&mem->lock);
	return err;
}

/* ---- pages ---------------------------------------------------------------- */

static int charge_page(struct vmplat_mem *mem)
{
	struct vmplat_sb *sbi = mem->inode.i_sb->s_fs_info;

	if (sbi->max_pages &&
	    percpu_counter_compare(&sbi->used_pages, sbi->max_pages) >= 0)
		return -ENOSPC;
	percpu_counter_inc(&sbi->used_pages);
	atomic64_inc(&mem->charged);
	return 0;
}

static void uncharge_pages(struct vmplat_mem *mem, s64 nr)
{
	struct vmplat_sb *sbi = mem->inode.i_sb->s_fs_info;

	percpu_counter_sub(&sbi->used_pages, nr);
	atomic64_sub(nr, &mem->charged);
}

/*
 * vmplat_mem_uncharge_removed - after pages were removed
 *
 * Removal does not call us page by page. With invalidate_lock held exclusively
 * (or nobody left) no page is between being charged and being added, so the
 * difference is what went away.
 */
void vmplat_mem_uncharge_removed(struct vmplat_mem *mem)
{
	s64 gone = atomic64_read(&mem->charged) -
		   vmplat_mapping(mem)->nrpages;

	if (gone)
		uncharge_pages(mem, gone);
}

/* vmplat_mem_folio - the page at @index with a reference, NULL if there is none */
struct folio *vmplat_mem_folio(struct vmplat_mem *mem, pgoff_t index)
{
	return vmplat_filemap_get_folio(vmplat_mapping(mem), index);
}

/*
 * Readers take no folio lock, so all they can trust is PG_uptodate. Before 6.12
 * a migration puts the new folio into the page cache first and copies the content
 * second, and only then, still under the folio lock, marks it up to date.
 */
static struct folio *wait_for_content(struct folio *folio)
{
	if (likely(folio_test_uptodate(folio)))
		return folio;
	folio_lock(folio);
	folio_unlock(folio);
	folio_put(folio);
	return NULL;
}

/**
 * vmplat_mem_find - the page at @index for a reader
 * @mem: the memory
 * @index: the page
 * @folio: set to the page with a reference, or to NULL: its content is zeroes
 *
 * Sleeps. Returns 0, or -EAGAIN if the page is missing.
 */
int vmplat_mem_find(struct vmplat_mem *mem, pgoff_t index, struct folio **folio)
{
	bool missing = vmplat_fill_missing(mem, index);
	struct folio *found;

	/* Asked first, looked at second; pairs with vmplat_fill_supplied(). */
	smp_rmb();
	do {
		found = vmplat_mem_folio(mem, index);
		*folio = found ? wait_for_content(found) : NULL;
	} while (found && !*folio);
	return missing && !*folio ? -EAGAIN : 0;
}

/* vmplat_mem_has - is there content at @index, here or still to come? */
bool vmplat_mem_has(struct vmplat_mem *mem, pgoff_t index)
{
	bool missing = vmplat_fill_missing(mem, index);

	smp_rmb();	/* as in vmplat_mem_find() */
	return missing || xa_load(&vmplat_mapping(mem)->i_pages, index);
}

/* vmplat_mem_folio_alloc - a page that is in no memory yet; content undefined */
struct folio *vmplat_mem_folio_alloc(struct vmplat_mem *mem)
{
	return folio_alloc(mapping_gfp_mask(vmplat_mapping(mem)), 0);
}

/**
 * vmplat_mem_insert - put a page with its final content where none is
 * @mem: the memory; invalidate_lock is held
 * @index: where
 * @folio: the page
 *
 * Returns 0 with the folio locked; -EEXIST, -ENOSPC over the file system's size,
 * or -ENOMEM.
 */
int vmplat_mem_insert(struct vmplat_mem *mem, pgoff_t index, struct folio *folio)
{
	struct address_space *mapping = vmplat_mapping(mem);
	int err = charge_page(mem);

	if (err)
		return err;
	/* Whoever finds the folio may read it without its lock. */
	folio_mark_uptodate(folio);
	err = filemap_add_folio(mapping, folio, index, mapping_gfp_mask(mapping));
	if (err)
		uncharge_pages(mem, 1);
	else if (mem->pinnable)
		folio_attach_private(folio, mem);
	else
		folio_set_dirty(folio);	/* not folio_mark_dirty(): nobody wrote */
	return err;
}

/**
 * vmplat_mem_folio_add - as vmplat_mem_insert(), and with an eye on who fills
 * @mem: the memory
 * @index: where
 * @folio: the page
 * @filling: this is the content a missing page was waiting for
 *
 * Also -EEXIST if nothing is missing that this would fill, and -EAGAIN if the page is
 * missing and this is not its content.
 */
int vmplat_mem_folio_add(struct vmplat_mem *mem, pgoff_t index,
			 struct folio *folio, bool filling)
{
	struct address_space *mapping = vmplat_mapping(mem);
	int err;

	filemap_invalidate_lock_shared(mapping);
	/* While this lock is held no fill begins, and no punch comes between. */
	if (filling != vmplat_fill_missing(mem, index))
		err = filling ? -EEXIST : -EAGAIN;
	else
		err = vmplat_mem_insert(mem, index, folio);
	if (!err && filling)
		vmplat_fill_supplied(mem, index);
	filemap_invalidate_unlock_shared(mapping);
	return err;
}

/**
 * vmplat_mem_folio_get - the page at @index, made of zeroes if there is none
 * @mem: the memory
 * @index: the page
 *
 * Returns it locked and with a reference, or an error pointer: -ENOSPC, -ENOMEM,
 * or -EAGAIN if the page is missing and must be filled first.
 */
struct folio *vmplat_mem_folio_get(struct vmplat_mem *mem, pgoff_t index)
{
	struct address_space *mapping = vmplat_mapping(mem);
	struct folio *folio;
	int err;

	for (;;) {
		folio = vmplat_filemap_get_folio(mapping, index);
		if (folio) {
			folio_lock(folio);
			if (likely(folio->mapping == mapping))
				return folio;
			folio_unlock(folio);
			folio_put(folio);
			continue;
		}
		if (vmplat_fill_missing(mem, index))
			return ERR_PTR(-EAGAIN);	/* spare the allocation */
		if (vmplat_block_make(mem, index))
			continue;
		folio = vmplat_mem_folio_alloc(mem);
		if (!folio)
			return ERR_PTR(-ENOMEM);
		folio_zero_range(folio, 0, PAGE_SIZE);
		err = vmplat_mem_folio_add(mem, index, folio, false);
		if (!err)
			return folio;
		folio_put(folio);
		if (err != -EEXIST)
			return ERR_PTR(err);
	}
}

/* vmplat_mem_next_present - first page that exists from @index on, or ULONG_MAX */
pgoff_t vmplat_mem_next_present(struct vmplat_mem *mem, pgoff_t index)
{
	unsigned long at = index;

	if (!xa_find(&vmplat_mapping(mem)->i_pages, &at, ULONG_MAX, XA_PRESENT))
		return ULONG_MAX;
	return at;
}

/* vmplat_mem_next_absent - first page of [index, end) that does not exist, or @end */
pgoff_t vmplat_mem_next_absent(struct vmplat_mem *mem, pgoff_t index, pgoff_t end)
{
	XA_STATE(xas, &vmplat_mapping(mem)->i_pages, index);
	void *entry;

	while (index < end) {
		if (vmplat_block_whole(mem, index)) {
			index = min(end, index + VMPLAT_BLOCK_PAGES);
			continue;
		}
		/* As far as the next block, whose pages need not be looked at. */
		rcu_read_lock();
		xas_set(&xas, index);
		do {
			entry = index == xas.xa_index ? xas_load(&xas) : xas_next(&xas);
			if (!entry || xas_retry(&xas, entry))
				break;
			index++;
		} while (index < end && !IS_ALIGNED(index, VMPLAT_BLOCK_PAGES));
		rcu_read_unlock();
		if (!entry)
			break;
	}
	return index;
}

/* vmplat_mem_next - first page with content, as vmplat_mem_has(), or ULONG_MAX */
pgoff_t vmplat_mem_next(struct vmplat_mem *mem, pgoff_t index)
{
	pgoff_t missing = vmplat_fill_next_missing(mem, index);

	smp_rmb();	/* as in vmplat_mem_find() */
	return min(missing, vmplat_mem_next_present(mem, index));
}

/* xas_next_entry() in half the instructions: the next page is mostly next to us. */
static struct folio *next_folio(struct xa_state *xas, pgoff_t max)
{
	struct folio *folio = NULL;

	if (xas->xa_index < max && xas->xa_offset != XA_CHUNK_MASK)
		folio = xas_next(xas);
	return folio ? folio : xas_find(xas, max);
}

/* Sleeps, which is only right while no other folio is locked. */
static void lock_one(struct vmplat_mem *mem, struct folio *folio)
{
	struct vmplat_batch *b = mem->batch;

	folio_lock(folio);
	if (likely(folio->mapping == vmplat_mapping(mem)))
		b->folios[b->nr++] = folio;
	else
		folio_unlock(folio);	/* removed meanwhile */
	folio_put(folio);
}

/**
 * vmplat_mem_lock_folios - lock pages that exist, into mem->batch
 * @mem: the memory; mem->lock is held
 * @index: first page; on return where to go on
 * @end: page after the last
 *
 * Returns true once @end is reached. False means that the batch must be emptied
 * first: it is full, or the next lock is taken, and who holds several locks and
 * waits for another can deadlock with somebody doing the same.
 *
 * The folios have no reference of the caller's: the page cache keeps what is
 * locked.
 */
bool vmplat_mem_lock_folios(struct vmplat_mem *mem, pgoff_t *index, pgoff_t end)
{
	struct vmplat_batch *b = mem->batch;

	while (*index < end) {
		pgoff_t max = min(end, *index + VMPLAT_BATCH - b->nr);
		XA_STATE(xas, &vmplat_mapping(mem)->i_pages, *index);
		unsigned int nr = b->nr;
		struct folio *folio;

		xas_lock_irq(&xas);
		for (folio = xas_find(&xas, max - 1); folio && folio_trylock(folio);
		     folio = next_folio(&xas, max - 1))
			b->folios[nr++] = folio;
		b->nr = nr;
		*index = folio ? folio->index : max;
		if (folio && !nr)
			folio_get(folio);
		xas_unlock_irq(&xas);
		if (nr && (folio || nr == VMPLAT_BATCH))
			return *index == end;
		if (folio) {
			lock_one(mem, folio);
			++*index;
		}
	}
	return true;
}
