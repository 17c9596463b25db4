// SPDX-License-Identifier: GPL-2.0
/*
 * Mappings: ranges of pinnable memories at I/O virtual addresses.
 *
 * A mapping has the memory's file open, pins its pages (pin.c), and counts them
 * against RLIMIT_MEMLOCK of the process that made it, as VFIO does: in two
 * domains they count twice. All of it comes and goes with the mapping, which is in
 * domain->mappings, and in domain->hw if there is one, or nowhere.
 *
 * Whatever can take long because of others, waiting for a page to be filled above
 * all, is done before domain->lock is taken.
 */
#include <linux/file.h>
#include <linux/interval_tree.h>
#include <linux/module.h>
#include <linux/sched/mm.h>
#include <linux/sched/signal.h>
#include <linux/slab.h>

#include "domain.h"

static unsigned int domain_mappings = 65535;
module_param(domain_mappings, uint, 0644);
MODULE_PARM_DESC(domain_mappings, "Most mappings of one IOMMU domain");

/*
 * @node: where devices see it; domain->lock
 * @pin: the pages
 * @mm: whose locked_vm they count in
 */
struct mapping {
	struct interval_tree_node node;
	struct vmplat_pin pin;
	struct file *file;
	struct mm_struct *mm;
	u32 prot;
};

static struct mapping *mapping_of(struct interval_tree_node *node)
{
	return node ? container_of(node, struct mapping, node) : NULL;
}

static struct mapping *first_in(struct vmplat_domain *domain,
				unsigned long first, unsigned long last)
{
	return mapping_of(interval_tree_iter_first(&domain->mappings, first, last));
}

static unsigned long nr_pages(const struct mapping *m)
{
	return m->pin.node.last - m->pin.node.start + 1;
}

/* vmplat_domain_limit - most mappings of one domain */
unsigned int vmplat_domain_limit(void)
{
	return READ_ONCE(domain_mappings);
}

bool vmplat_domain_has(struct vmplat_domain *domain, unsigned long first,
		       unsigned long last)
{
	lockdep_assert_held(&domain->lock);
	return first_in(domain, first, last);
}

/* ---- in hardware ----------------------------------------------------------- */

/* Pages that follow each other in memory and in physical memory. */
struct run {
	unsigned long iova;
	phys_addr_t phys;
	size_t bytes;
};

/*
 * How many pages from @index on, @end at most, are in one piece, and where. They
 * are pinned: what is found stays. Not further than to the next block, whose pages
 * need not be looked at.
 */
static pgoff_t find_piece(struct vmplat_mem *mem, pgoff_t index, pgoff_t end,
			  phys_addr_t *phys)
{
	XA_STATE(xas, &vmplat_mapping(mem)->i_pages, index);
	struct folio *folio;
	unsigned long pfn;
	pgoff_t nr = 1;

	rcu_read_lock();
	do {
		xas_reset(&xas);
		folio = xas_load(&xas);
	} while (xas_retry(&xas, folio));
	pfn = folio_pfn(folio);
	if (end - index >= VMPLAT_BLOCK_PAGES && vmplat_block_whole(mem, index)) {
		nr = VMPLAT_BLOCK_PAGES;
	} else {
		end = min(end, round_down(index, VMPLAT_BLOCK_PAGES) +
			       VMPLAT_BLOCK_PAGES);
		while (index + nr < end) {
			folio = xas_next(&xas);
			if (xas_retry(&xas, folio) || folio_pfn(folio) != pfn + nr)
				break;
			nr++;
		}
	}
	rcu_read_unlock();
	*phys = PFN_PHYS(pfn);
	return nr;
}

/*
 * Intel's driver leaves entries behind when it runs out of memory, and iommu_map()
 * does not know of them (seen on 6.12). Nor may it be asked to unmap what it never
 * mapped: it would unmap as much as the missing table covers, neighbours too. So
 * only what is there is unmapped.
 */
static void scrub(struct iommu_domain *hw, unsigned long iova, size_t bytes)
{
	size_t done, step;

	for (done = 0; done < bytes; done += step) {
		step = 0;
		if (iommu_iova_to_phys(hw, iova + done))
			step = iommu_unmap(hw, iova + done, PAGE_SIZE);
		step = step ?: PAGE_SIZE;
		cond_resched();
	}
}

static int flush_run(struct vmplat_domain *domain, struct run *run, int prot)
{
	int err = 0;

	if (run->bytes)
		err = vmplat_iommu_map(domain->hw, run->iova, run->phys,
				       run->bytes, prot);
	if (err)
		scrub(domain->hw, run->iova, run->bytes);
	else
		run->iova += run->bytes;
	run->bytes = 0;
	return err;
}

static int hw_prot(const struct mapping *m)
{
	int prot = IOMMU_CACHE;

	if (m->prot & VMPLAT_DOMAIN_MAP_F_READ)
		prot |= IOMMU_READ;
	if (m->prot & VMPLAT_DOMAIN_MAP_F_WRITE)
		prot |= IOMMU_WRITE;
	return prot;
}

static void hw_unmap(struct vmplat_domain *domain, const struct mapping *m,
		     size_t bytes)
{
	if (domain->hw && bytes)
		WARN_ON_ONCE(iommu_unmap(domain->hw, m->node.start, bytes) != bytes);
}

static int hw_map(struct vmplat_domain *domain, struct mapping *m)
{
	struct run run = { .iova = m->node.start };
	pgoff_t index = m->pin.node.start, end = m->pin.node.last + 1, nr;
	int prot = hw_prot(m), err = 0;
	phys_addr_t phys;

	for (; index < end && !err; index += nr) {
		nr = find_piece(m->pin.mem, index, end, &phys);
		if (phys != run.phys + run.bytes) {
			err = flush_run(domain, &run, prot);
			run.phys = phys;
		}
		run.bytes += nr << PAGE_SHIFT;
		cond_resched();
		if (fatal_signal_pending(current))
			err = -EINTR;
	}
	if (!err)
		err = flush_run(domain, &run, prot);
	if (err)
		hw_unmap(domain, m, run.iova - m->node.start);
	return err;
}

/* vmplat_domain_replay - the page table is new: enter all mappings, or none */
int vmplat_domain_replay(struct vmplat_domain *domain)
{
	struct mapping *m, *undo;
	int err;

	lockdep_assert_held(&domain->lock);
	for (m = first_in(domain, 0, ULONG_MAX); m;
	     m = mapping_of(interval_tree_iter_next(&m->node, 0, ULONG_MAX))) {
		err = hw_map(domain, m);
		if (err)
			goto undo;
	}
	return 0;
undo:
	for (undo = first_in(domain, 0, ULONG_MAX); undo != m;
	     undo = mapping_of(interval_tree_iter_next(&undo->node, 0, ULONG_MAX)))
		hw_unmap(domain, undo, undo->node.last - undo->node.start + 1);
	return err;
}

/* vmplat_domain_clear - take all mappings out of the page table */
void vmplat_domain_clear(struct vmplat_domain *domain)
{
	struct mapping *m;

	lockdep_assert_held(&domain->lock);
	for (m = first_in(domain, 0, ULONG_MAX); m;
	     m = mapping_of(interval_tree_iter_next(&m->node, 0, ULONG_MAX)))
		hw_unmap(domain, m, m->node.last - m->node.start + 1);
}

/* ---- map -------------------------------------------------------------------- */

/* Make the pinned pages exist. Once one does it stays. */
static int make_present(struct vmplat_mem *mem, pgoff_t index, pgoff_t end)
{
	struct folio *folio;
	int err;

	while ((index = vmplat_mem_next_absent(mem, index, end)) < end) {
		folio = vmplat_mem_folio_get(mem, index);
		if (!IS_ERR(folio)) {
			folio_unlock(folio);
			folio_put(folio);
		} else if (PTR_ERR(folio) == -EAGAIN) {
			err = vmplat_fill_wait(mem, index);
			if (err && err != -EAGAIN)
				return err;
		} else {
			return PTR_ERR(folio);
		}
		if (fatal_signal_pending(current))
			return -EINTR;
		cond_resched();
	}
	return 0;
}

/* May [first, last] become a mapping? */
static int check_place(struct vmplat_domain *domain, unsigned long first,
		       unsigned long last)
{
	lockdep_assert_held(&domain->lock);
	if (vmplat_domain_has(domain, first, last))
		return -EEXIST;
	if (domain->nr_mappings >= vmplat_domain_limit())
		return -ENOSPC;
	return vmplat_groups_reserve(domain, first, last) ? -EADDRNOTAVAIL : 0;
}

static void count(struct vmplat_domain *domain, const struct mapping *m, int sign)
{
	domain->nr_mappings += sign;
	domain->nr_bytes += sign * (s64)(nr_pages(m) << PAGE_SHIFT);
	/* Told once on the way up, and again only after half of them went. */
	if (!domain->nr_high &&
	    domain->nr_mappings >= (u64)vmplat_domain_limit() * 3 / 4) {
		domain->nr_high = true;
		vmplat_event_domain_changed(domain, VMPLAT_ACTION_MAPPINGS_HIGH);
	} else if (domain->nr_high &&
		   domain->nr_mappings <= vmplat_domain_limit() / 2) {
		domain->nr_high = false;
		vmplat_event_domain_changed(domain, VMPLAT_ACTION_CHANGE);
	}
}

static int publish(struct vmplat_domain *domain, struct mapping *m)
{
	int err;

	if (mutex_lock_interruptible(&domain->lock))
		return -EINTR;
	err = check_place(domain, m->node.start, m->node.last);
	if (!err && domain->hw)
		err = hw_map(domain, m);
	if (!err) {
		interval_tree_insert(&m->node, &domain->mappings);
		count(domain, m, 1);
	}
	mutex_unlock(&domain->lock);
	return err;
}

static void unaccount(struct mapping *m)
{
	account_locked_vm(m->mm, nr_pages(m), false);
	mmdrop(m->mm);
}

static int account(struct mapping *m)
{
	int err = account_locked_vm(current->mm, nr_pages(m), true);

	if (err)
		return err == -ENOMEM ? -EDQUOT : err;
	m->mm = current->mm;
	mmgrab(m->mm);
	return 0;
}

/* Pages [first, first + nr) at @m->node, pinned and counted; or nothing. */
static int make_mapping(struct vmplat_domain *domain, struct mapping *m,
			pgoff_t first, pgoff_t nr)
{
	struct vmplat_mem *mem = vmplat_mem_of(m->file);
	int err;

	err = vmplat_pin_take(&m->pin, mem, first, nr,
			       m->prot & VMPLAT_DOMAIN_MAP_F_WRITE);
	if (err)
		return err;
	err = account(m);
	if (err)
		goto drop;
	err = make_present(mem, first, first + nr);
	if (!err)
		err = publish(domain, m);
	if (!err)
		return 0;
	unaccount(m);
drop:
	m->pin.write = false;	/* no device could */
	vmplat_pin_drop(&m->pin);
	return err;
}

static int check_args(const struct vmplat_domain_map *arg)
{
	u64 end;

	if (arg->__reserved)
		return -EOPNOTSUPP;
	if (!arg->flags || !arg->bytes ||
	    !PAGE_ALIGNED(arg->iova | arg->mem_offset | arg->bytes))
		return -EINVAL;
	/* The last byte of all may be mapped; ULONG_MAX is what devices can say. */
	if (check_add_overflow(arg->iova, arg->bytes - 1, &end) ||
	    check_add_overflow(arg->mem_offset, arg->bytes, &end))
		return -EOVERFLOW;
	return arg->iova + arg->bytes - 1 > ULONG_MAX ? -EADDRNOTAVAIL : 0;
}

static struct file *get_memory(const struct vmplat_domain_map *arg)
{
	fmode_t need = 0;
	struct file *file;
	int err;

	if (arg->flags & VMPLAT_DOMAIN_MAP_F_READ)
		need |= FMODE_READ;
	if (arg->flags & VMPLAT_DOMAIN_MAP_F_WRITE)
		need |= FMODE_WRITE;
	file = vmplat_mem_fget(arg->mem_fd, need);
	if (IS_ERR(file))
		return file;
	if (!vmplat_mem_of(file)->pinnable)
		err = -EOPNOTSUPP;
	else
		err = vmplat_mem_use(vmplat_mem_of(file));
	if (!err)
		err = vmplat_check_range(arg->mem_offset >> PAGE_SHIFT,
					 arg->bytes >> PAGE_SHIFT,
					 vmplat_mem_of(file)->nr_pages);
	if (!err)
		return file;
	fput(file);
	return ERR_PTR(err);
}

static int look_first(struct vmplat_domain *domain, const struct mapping *m)
{
	int err;

	if (mutex_lock_interruptible(&domain->lock))
		return -EINTR;
	err = check_place(domain, m->node.start, m->node.last);
	mutex_unlock(&domain->lock);
	return err;
}

/* vmplat_domain_map_range - VMPLAT_DOMAIN_MAP */
int vmplat_domain_map_range(struct vmplat_domain *domain,
			    const struct vmplat_domain_map *arg)
{
	struct mapping *m;
	int err = check_args(arg);

	if (err)
		return err;
	m = kzalloc(sizeof(*m), GFP_KERNEL_ACCOUNT);
	if (!m)
		return -ENOMEM;
	m->node.start = arg->iova;
	m->node.last = arg->iova + arg->bytes - 1;
	m->prot = arg->flags;
	m->file = get_memory(arg);
	if (IS_ERR(m->file)) {
		err = PTR_ERR(m->file);
		goto free;
	}
	/* Before pages are made for something that cannot be. */
	err = look_first(domain, m);
	if (!err)
		err = make_mapping(domain, m, arg->mem_offset >> PAGE_SHIFT,
				   arg->bytes >> PAGE_SHIFT);
	if (!err)
		return 0;
	fput(m->file);
free:
	kfree(m);
	return err;
}

/* ---- unmap -------------------------------------------------------------------- */

static void destroy(struct vmplat_domain *domain, struct mapping *m)
{
	lockdep_assert_held(&domain->lock);
	interval_tree_remove(&m->node, &domain->mappings);
	count(domain, m, -1);
	hw_unmap(domain, m, m->node.last - m->node.start + 1);
	/* No device reaches it any more. */
	vmplat_pin_drop(&m->pin);
	unaccount(m);
	fput(m->file);
	kfree(m);
}

/* Would the range cut a mapping at one of its ends? */
static bool cuts(struct vmplat_domain *domain, unsigned long first,
		 unsigned long last)
{
	struct mapping *m = first_in(domain, first, first);

	if (m && m->node.start < first)
		return true;
	m = first_in(domain, last, last);
	return m && m->node.last > last;
}

static unsigned long unmap_last(const struct vmplat_domain_unmap *arg)
{
	if (arg->flags & VMPLAT_DOMAIN_UNMAP_F_ALL)
		return ULONG_MAX;
	return min_t(u64, arg->iova + arg->bytes - 1, ULONG_MAX);
}

static int check_unmap(const struct vmplat_domain_unmap *arg)
{
	u64 end;

	if (arg->flags & VMPLAT_DOMAIN_UNMAP_F_ALL)
		return arg->iova || arg->bytes ? -EINVAL : 0;
	if (!arg->bytes || !PAGE_ALIGNED(arg->iova | arg->bytes))
		return -EINVAL;
	if (check_add_overflow(arg->iova, arg->bytes - 1, &end))
		return -EOVERFLOW;
	return arg->iova > ULONG_MAX ? -ENOENT : 0;
}

/**
 * vmplat_domain_unmap_count - what vmplat_domain_unmap_range() is going to do
 * @domain: the domain, locked
 * @arg: the range; its outputs are set
 *
 * Apart, because the caller hears of it before anything is gone.
 */
int vmplat_domain_unmap_count(struct vmplat_domain *domain,
			      struct vmplat_domain_unmap *arg)
{
	unsigned long last = unmap_last(arg);
	struct interval_tree_node *node;
	int err = check_unmap(arg);

	lockdep_assert_held(&domain->lock);
	arg->out_nr = 0;
	arg->out_bytes = 0;
	if (err)
		return err;
	if (cuts(domain, arg->iova, last))
		return -EINVAL;
	for (node = interval_tree_iter_first(&domain->mappings, arg->iova, last);
	     node; node = interval_tree_iter_next(node, arg->iova, last)) {
		arg->out_nr++;
		arg->out_bytes += (u64)nr_pages(mapping_of(node)) << PAGE_SHIFT;
	}
	return arg->out_nr || (arg->flags & VMPLAT_DOMAIN_UNMAP_F_ALL) ? 0 : -ENOENT;
}

/* vmplat_domain_unmap_range - VMPLAT_DOMAIN_UNMAP, once it was counted */
void vmplat_domain_unmap_range(struct vmplat_domain *domain,
			       const struct vmplat_domain_unmap *arg)
{
	struct mapping *m;

	while ((m = first_in(domain, arg->iova, unmap_last(arg)))) {
		destroy(domain, m);
		cond_resched();
	}
}

/* vmplat_domain_unmap_all - at the end, when no group is attached any more */
void vmplat_domain_unmap_all(struct vmplat_domain *domain)
{
	struct mapping *m;

	mutex_lock(&domain->lock);
	while ((m = first_in(domain, 0, ULONG_MAX))) {
		destroy(domain, m);
		cond_resched();
	}
	mutex_unlock(&domain->lock);
}

/* ---- query -------------------------------------------------------------------- */

/* vmplat_domain_find - VMPLAT_DOMAIN_QUERY */
int vmplat_domain_find(struct vmplat_domain *domain,
		       struct vmplat_domain_query *arg)
{
	struct mapping *m = NULL;

	if (mutex_lock_interruptible(&domain->lock))
		return -EINTR;
	if (arg->iova <= ULONG_MAX)
		m = first_in(domain, arg->iova, ULONG_MAX);
	if (m) {
		arg->out_iova = m->node.start;
		arg->out_bytes = (u64)nr_pages(m) << PAGE_SHIFT;
		arg->out_mem_offset = (u64)m->pin.node.start << PAGE_SHIFT;
		arg->out_mem_id = m->pin.mem->id;
		arg->out_prot = m->prot;
	}
	mutex_unlock(&domain->lock);
	return m ? 0 : -ENOENT;
}
