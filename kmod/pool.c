// SPDX-License-Identifier: GPL-2.0
/*
 * The pages in which views keep copies, and the pool of those nobody needs now.
 *
 * A new page costs more than what is done with it: the allocator clears it
 * (init_on_alloc), the copy overwrites it. So the pages of a view that ends, or
 * whose reader discards them, stay with the mount of their memory, and the next
 * copies are made in them. A memory without a name has a mount of its own.
 *
 * Who sees what: a copy is reachable only through an entry of part->saved, and is
 * overwritten from its first to its last byte before the entry is stored. What a
 * page held before, be it from this pool or from the page allocator, is never
 * read. When a memory goes, its mount's pool is emptied.
 *
 * Who pays: pages stay charged to the cgroup that allocated them, and are kept on
 * a list of that cgroup, where only its own tasks find them. So nobody gets a page
 * that another cgroup pays for. The lists hang on the shrinker of the super block,
 * which knows cgroups: a cgroup that reaches its limit takes its pool back first,
 * and a pool survives its cgroup in the parent, as the charge does.
 */
#include <linux/list_lru.h>
#include <linux/memcontrol.h>
#include <linux/mm.h>
#include <linux/sched.h>
#include <linux/seq_file.h>
#include <linux/slab.h>
#include <linux/vmstat.h>

#include "vmplat.h"

/* A pool may have as many pages as this, or ... */
#define MIN_LIMIT	((64UL << 20) >> PAGE_SHIFT)
/* ... this share of what the files of its mount hold, if that is more. */
#define SHARE		16

/* Pages given back between two breaths. */
#define DRAIN_BATCH	1024

struct vmplat_copy {
	struct list_head link;		/* on pool->lru when @refs is 0 */
	struct page *page;
	refcount_t refs;
};

static struct kmem_cache *copy_cache;

int vmplat_copy_cache_init(void)
{
	/* Accounted: a list_lru asks the slab object whose list it belongs on. */
	copy_cache = kmem_cache_create("vmplat_copy", sizeof(struct vmplat_copy),
				       0, SLAB_ACCOUNT, NULL);
	return copy_cache ? 0 : -ENOMEM;
}

void vmplat_copy_cache_exit(void)
{
	kmem_cache_destroy(copy_cache);
}

static struct vmplat_sb *sb_of(struct vmplat_mem *mem)
{
	return mem->inode.i_sb->s_fs_info;
}

/* What /proc/meminfo calls KReclaimable, and counts as available. */
static void count(struct vmplat_pool *pool, struct vmplat_copy *copy, int nr)
{
	mod_node_page_state(page_pgdat(copy->page),
			    NR_KERNEL_MISC_RECLAIMABLE, nr);
	atomic_long_add(nr, &pool->nr);
}

static void copy_free(struct vmplat_copy *copy)
{
	put_page(copy->page);
	kmem_cache_free(copy_cache, copy);
}

/* ---- the pool ------------------------------------------------------------- */

static enum lru_status isolate(struct list_head *item,
			       struct list_lru_one *list,
			       VMPLAT_LRU_LOCK void *to)
{
	list_lru_isolate_move(list, item, to);
	return LRU_REMOVED;
}

static void free_all(struct vmplat_pool *pool, struct list_head *copies)
{
	struct vmplat_copy *copy, *next;

	list_for_each_entry_safe(copy, next, copies, link) {
		count(pool, copy, -1);
		copy_free(copy);
	}
}

static bool has_room(struct vmplat_sb *sbi)
{
	unsigned long share = percpu_counter_read_positive(&sbi->used_pages) /
			      SHARE;

	return atomic_long_read(&sbi->pool.nr) < max(share, MIN_LIMIT);
}

static struct vmplat_copy *take_from_node(struct vmplat_pool *pool, int nid)
{
	unsigned long nr = 1;
	LIST_HEAD(taken);

	rcu_read_lock();	/* the task may leave its cgroup */
	list_lru_walk_one(&pool->lru, nid, mem_cgroup_from_task(current),
			  isolate, &taken, &nr);
	rcu_read_unlock();
	return list_first_entry_or_null(&taken, struct vmplat_copy, link);
}

static struct vmplat_copy *take(struct vmplat_pool *pool)
{
	struct vmplat_copy *copy;
	int nid, near = numa_mem_id();

	/* Kernel threads act for other cgroups than their own: set_active_memcg() */
	if (!atomic_long_read(&pool->nr) || current->flags & PF_KTHREAD)
		return NULL;
	copy = take_from_node(pool, near);
	for_each_node_state(nid, N_MEMORY) {
		if (copy)
			break;
		if (nid != near)
			copy = take_from_node(pool, nid);
	}
	if (!copy)
		return NULL;
	count(pool, copy, -1);
	INIT_LIST_HEAD(&copy->link);
	refcount_set(&copy->refs, 1);
	return copy;
}

static struct vmplat_copy *alloc(struct vmplat_pool *pool)
{
	struct vmplat_copy *copy;

	copy = kmem_cache_alloc_lru(copy_cache, &pool->lru,
				    GFP_KERNEL | VMPLAT_COPY_GFP);
	if (!copy)
		return NULL;
	copy->page = alloc_page(GFP_HIGHUSER | VMPLAT_COPY_GFP);
	if (!copy->page) {
		kmem_cache_free(copy_cache, copy);
		return NULL;
	}
	INIT_LIST_HEAD(&copy->link);
	refcount_set(&copy->refs, 1);
	return copy;
}

/**
 * vmplat_copy_take - a page for a copy, from the pool
 * @mem: the memory it will be a copy of
 *
 * Does not sleep. Returns a page with undefined content and one reference, or
 * NULL.
 */
struct vmplat_copy *vmplat_copy_take(struct vmplat_mem *mem)
{
	struct vmplat_pool *pool = &sb_of(mem)->pool;
	struct vmplat_copy *copy = take(pool);

	if (copy)
		atomic64_inc(&pool->nr_reused);
	return copy;
}

/* vmplat_copy_new - the same, newly allocated if the pool has none; may sleep */
struct vmplat_copy *vmplat_copy_new(struct vmplat_mem *mem)
{
	struct vmplat_copy *copy = vmplat_copy_take(mem);

	return copy ? copy : alloc(&sb_of(mem)->pool);
}

struct vmplat_copy *vmplat_copy_get(struct vmplat_copy *copy)
{
	refcount_inc(&copy->refs);
	return copy;
}

struct page *vmplat_copy_page_of(struct vmplat_copy *copy)
{
	return copy->page;
}

/**
 * vmplat_copy_put - drop a reference
 * @mem: the memory it is a copy of
 * @copy: may be NULL
 * @keep: the last one: may the page go to the pool?
 */
void vmplat_copy_put(struct vmplat_mem *mem, struct vmplat_copy *copy, bool keep)
{
	struct vmplat_sb *sbi = sb_of(mem);

	if (!copy || !refcount_dec_and_test(&copy->refs))
		return;
	if (!keep || !has_room(sbi) || PageHWPoison(copy->page)) {
		copy_free(copy);
		return;
	}
	count(&sbi->pool, copy, 1);
	vmplat_list_lru_add(&sbi->pool.lru, &copy->link);
}

/* ---- its life ---------------------------------------------------------------- */

int vmplat_pool_init(struct super_block *sb)
{
	struct vmplat_sb *sbi = sb->s_fs_info;

	return list_lru_init_memcg(&sbi->pool.lru, vmplat_sb_shrinker(sb));
}

/*
 * vmplat_pool_stock - have @nr pages for the caller, as far as there is memory
 *
 * Takes them and gives them back: it is its own pages that it must find later.
 */
void vmplat_pool_stock(struct vmplat_mem *mem, unsigned int nr)
{
	struct vmplat_pool *pool = &sb_of(mem)->pool;
	struct vmplat_copy *copy, *next;
	LIST_HEAD(stock);

	while (nr--) {
		copy = take(pool);
		if (!copy)
			copy = alloc(pool);
		if (!copy)
			break;
		list_add(&copy->link, &stock);
	}
	list_for_each_entry_safe(copy, next, &stock, link) {
		list_del_init(&copy->link);
		vmplat_copy_put(mem, copy, true);
	}
}

/* vmplat_pool_drain - give everything back */
void vmplat_pool_drain(struct vmplat_sb *sbi)
{
	unsigned long nr;

	do {
		LIST_HEAD(copies);

		nr = list_lru_walk(&sbi->pool.lru, isolate, &copies,
				   DRAIN_BATCH);
		free_all(&sbi->pool, &copies);
		cond_resched();
	} while (nr);
}

/* vmplat_pool_exit - also of a pool that never began */
void vmplat_pool_exit(struct vmplat_sb *sbi)
{
	if (!sbi->pool.lru.node)
		return;
	vmplat_pool_drain(sbi);
	list_lru_destroy(&sbi->pool.lru);
}

/* How many pages of one cgroup and node reclaim may take. */
long vmplat_pool_count(struct super_block *sb, struct shrink_control *sc)
{
	struct vmplat_sb *sbi = sb->s_fs_info;

	return list_lru_shrink_count(&sbi->pool.lru, sc);
}

long vmplat_pool_scan(struct super_block *sb, struct shrink_control *sc)
{
	struct vmplat_sb *sbi = sb->s_fs_info;
	LIST_HEAD(copies);
	long nr;

	nr = list_lru_shrink_walk(&sbi->pool.lru, sc, isolate, &copies);
	free_all(&sbi->pool, &copies);
	return nr;
}

/* vmplat_pool_show - for fdinfo of a memory */
void vmplat_pool_show(struct seq_file *m, struct vmplat_mem *mem)
{
	struct vmplat_pool *pool = &sb_of(mem)->pool;

	seq_printf(m, "vmplat-pool-pages:\t%ld\n", atomic_long_read(&pool->nr));
	seq_printf(m, "vmplat-pool-reused:\t%lld\n",
		   atomic64_read(&pool->nr_reused));
}
