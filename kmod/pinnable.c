// SPDX-License-Identifier: GPL-2.0
/*
 * Pinnable memories: no writer passes a gate, so nothing is in a device's way,
 * and what was written is asked of the page tables.
 *
 * There is no page_mkwrite, hence no fault for a write, no view, and no objection
 * against long-term pins. A page counts as written since the last harvest if
 *
 *  - a PTE of it is dirty: the harvest cleans it, and the processor sets it again;
 *  - the folio is PG_dirty: whoever unmaps a dirty PTE, or wrote through a
 *    reference, sets that, and some only if it is not set yet
 *    (unpin_user_pages_dirty_lock()), so the harvest clears it;
 *  - somebody holds a reference nobody can explain: a device may be writing now;
 *  - mem->dirty has its bit: write(2), punched holes;
 *  - it is mapped into an IOMMU domain to be written (pin.c), or was: then
 *    mem->unsure has its bit.
 *
 * The third and the last, and second MMUs (below), are no evidence of a write. Logs
 * count such marks apart, so that a reader knows what it has.
 *
 * A clean folio that is not mapped would be thrown away by drop_caches, with the
 * only copy of its content. Folios here have PG_private, and are not released.
 *
 * The folio's lock keeps migration out while its PTEs are cleaned:
 * clean_record_shared_mapping_range() takes migration entries for dirty PTEs. So
 * it is called for runs of locked folios only.
 *
 * A second MMU (KVM's, a device's) writes without setting dirty bits in this one.
 * KVM makes up for it by PG_dirty when it lets go of a page, others need not. While
 * a mapping belongs to an mm that has notifiers, every page that exists is reported. That
 * must hold for mappings that came and went between two harvests, too: one that
 * is closed leaves word in mem->unseen. Between leaving the mapping's tree and
 * leaving word it can be seen nowhere. So each mapping has a random number,
 * mem->vma_sum is the sum over all of them, and a harvest that does not find just
 * this sum in the tree trusts nothing.
 */
#include <linux/mm.h>
#include <linux/mmu_notifier.h>
#include <linux/random.h>
#include <linux/rbtree.h>
#include <linux/rmap.h>

#include "vmplat.h"

/* ---- mappings -------------------------------------------------------------- */

/* vmplat_pinnable_open - a mapping, or a copy of one, comes to be */
void vmplat_pinnable_open(struct vm_area_struct *vma)
{
	struct vmplat_mem *mem = vmplat_mem(file_inode(vma->vm_file));

	vma->vm_private_data = (void *)get_random_long();
	atomic_long_add((long)vma->vm_private_data, &mem->vma_sum);
}

/* vmplat_pinnable_close - a mapping has left the tree, and has no PTEs any more */
void vmplat_pinnable_close(struct vm_area_struct *vma)
{
	struct vmplat_mem *mem = vmplat_mem(file_inode(vma->vm_file));

	if (mm_has_notifiers(vma->vm_mm))
		WRITE_ONCE(mem->unseen, true);
	/* Pairs with the acquire in is_blind(): told before it is missing. */
	smp_mb__before_atomic();
	atomic_long_sub((long)vma->vm_private_data, &mem->vma_sum);
}

/* Whatever exists may have been written. */
static void mark_all(struct vmplat_mem *mem)
{
	pgoff_t index;

	for (index = vmplat_mem_next_present(mem, 0); index < mem->nr_pages;
	     index = vmplat_mem_next_present(mem, index + 1)) {
		vmplat_dirty_unsure(mem, index, index + 1);
		cond_resched();
	}
}

/*
 * May something have been written, since the last harvest, that neither a PTE nor
 * the folio tells? What starts to write so after we looked is the next harvest's.
 */
static bool is_blind(struct vmplat_mem *mem)
{
	struct address_space *mapping = vmplat_mapping(mem);
	struct rb_node *node;
	bool blind = false;
	long sum = 0;

	i_mmap_lock_read(mapping);
	for (node = rb_first_cached(&mapping->i_mmap); node; node = rb_next(node)) {
		struct vm_area_struct *vma =
			rb_entry(node, struct vm_area_struct, shared.rb);

		blind |= mm_has_notifiers(vma->vm_mm);
		sum += (long)READ_ONCE(vma->vm_private_data);
	}
	blind |= sum != atomic_long_read_acquire(&mem->vma_sum);
	i_mmap_unlock_read(mapping);
	/* For the pages outside of this harvest as well. */
	if (xchg(&mem->unseen, false))
		mark_all(mem);
	return blind;
}

/* ---- harvest ----------------------------------------------------------------- */

#define KNOWN_REFS	2	/* page cache, PG_private */

/* Up to VMPLAT_BATCH pages from @base, a multiple of 64, on. */
struct window {
	struct vmplat_mem *mem;
	pgoff_t base;
	pgoff_t end;
	bool blind;
	unsigned long found[VMPLAT_BATCH / BITS_PER_LONG];	/* written */
	unsigned long unsure[VMPLAT_BATCH / BITS_PER_LONG];	/* who knows */
};

/*
 * What the kernel knows already. Taken before any folio is locked: who sets a bit
 * holds the lock until the bytes are in place.
 */
static void take_marks(struct window *w)
{
	unsigned long word = w->base / BITS_PER_LONG;
	unsigned long end = BITS_TO_LONGS(w->end);
	u64 nr = 0;
	unsigned int i;

	for (i = 0; word < end; i++, word++) {
		if (!test_and_clear_bit(word, w->mem->summary))
			continue;
		w->found[i] = xchg(&w->mem->dirty[word], 0);
		w->unsure[i] |= xchg(&w->mem->unsure[word], 0);
		nr += hweight_long(w->found[i]);
	}
	atomic64_sub(nr, &w->mem->nr_dirty);
}

/* Clean the PTEs of folios that follow each other; dirty ones go to w->found. */
static void clean_run(struct window *w, struct folio **folios, unsigned int nr)
{
#ifdef CONFIG_MAPPING_DIRTY_HELPERS
	pgoff_t from = 0, to = 0;

	clean_record_shared_mapping_range(vmplat_mapping(w->mem),
					  folios[0]->index, nr, w->base,
					  w->found, &from, &to);
#else
	unsigned int i;

	/* Write-protects as well: the next write faults, and the fault tells. */
	for (i = 0; i < nr; i++)
		if (folio_mkclean(folios[i]))
			__set_bit(folios[i]->index - w->base, w->found);
#endif
}

static void clean_ptes(struct window *w)
{
	struct folio **folios = w->mem->batch->folios;
	unsigned int left = w->mem->batch->nr, nr;

	for (; left; folios += nr, left -= nr) {
		pgoff_t first = folios[0]->index;

		nr = left;
		/* Mostly it is one run. */
		if (folios[left - 1]->index != first + left - 1)
			for (nr = 1; folios[nr]->index == first + nr; nr++)
				;
		clean_run(w, folios, nr);
	}
}

static void look_at_folios(struct window *w)
{
	struct vmplat_batch *b = w->mem->batch;
	struct folio **at, **end = b->folios + b->nr;

	clean_ptes(w);
	for (at = b->folios; at < end; at++) {
		struct folio *folio = *at;

		if (folio_test_dirty(folio) && folio_test_clear_dirty(folio))
			__set_bit(folio->index - w->base, w->found);
		if (w->blind || vmplat_extra_references(folio, KNOWN_REFS, false))
			__set_bit(folio->index - w->base, w->unsure);
		folio_unlock(folio);
	}
	b->nr = 0;
}

static u64 harvest_window(struct window *w)
{
	pgoff_t at = w->base;
	unsigned int i;
	u64 nr = 0;

	memset(w->found, 0, sizeof(w->found));
	memset(w->unsure, 0, sizeof(w->unsure));
	/* In this order: a mapping that goes leaves marks before it is missing. */
	vmplat_pin_find(w->mem, w->base, w->end, w->unsure);
	take_marks(w);
	while (!vmplat_mem_lock_folios(w->mem, &at, w->end))
		look_at_folios(w);
	look_at_folios(w);
	for (i = 0; i < ARRAY_SIZE(w->found); i++) {
		unsigned long unsure = w->unsure[i] & ~w->found[i];

		if (!(w->found[i] | unsure))
			continue;
		nr += hweight_long(w->found[i] | unsure);
		vmplat_log_add(w->mem, w->base / BITS_PER_LONG + i,
			       w->found[i] | unsure, unsure);
	}
	cond_resched();
	return nr;
}

/* Most of a sparse memory is nothing. */
static pgoff_t next_of_interest(struct vmplat_mem *mem, pgoff_t index)
{
	pgoff_t next = min(vmplat_mem_next_present(mem, index),
			   vmplat_dirty_next(mem, index));

	return max(index, round_down(next, BITS_PER_LONG));
}

/**
 * vmplat_pinnable_harvest - vmplat_dirty_harvest() for a pinnable memory
 * @mem: the memory; mem->lock is held
 * @first: first page, a multiple of 64
 * @end: page after the last, nr_pages at most
 *
 * Costs something for each page that exists, written or not. Returns how many were
 * reported.
 */
u64 vmplat_pinnable_harvest(struct vmplat_mem *mem, pgoff_t first, pgoff_t end)
{
	struct window w = { .mem = mem };
	u64 nr = 0;

	lockdep_assert_held(&mem->lock);
	w.blind = is_blind(mem);
	for (w.base = next_of_interest(mem, first); w.base < end;
	     w.base = next_of_interest(mem, w.end)) {
		w.end = min_t(pgoff_t, w.base + VMPLAT_BATCH, end);
		nr += harvest_window(&w);
	}
	return nr;
}

/* ---- folios that stay ------------------------------------------------------------ */

/* drop_caches and friends ask before they throw a clean folio away. */
static bool keep_folio(struct folio *folio, gfp_t gfp)
{
	return false;
}

static void forget_folio(struct folio *folio, size_t offset, size_t bytes)
{
	if (offset == 0 && bytes == folio_size(folio))
		folio_detach_private(folio);
}

/* A page that a device reaches stays where it is. */
static int migrate_folio(struct address_space *mapping, struct folio *dst,
			 struct folio *src, enum migrate_mode mode)
{
	struct vmplat_mem *mem = vmplat_mem(mapping->host);
	int err = -EBUSY;

	/* Somebody maps or punches just now, perhaps waiting for @src's lock. */
	if (!filemap_invalidate_trylock_shared(mapping))
		return -EAGAIN;
	/* Nor does one go where it could not be held. */
	if (!vmplat_pin_on(mem, src->index, src->index) &&
	    folio_zonenum(dst) != ZONE_MOVABLE)
		err = filemap_migrate_folio(mapping, dst, src, mode);
	if (!err)
		vmplat_block_break(mem, dst->index, dst->index);
	filemap_invalidate_unlock_shared(mapping);
	return err;
}

const struct address_space_operations vmplat_pinnable_aops = {
	.dirty_folio = vmplat_dirty_folio,
	.migrate_folio = migrate_folio,
	.release_folio = keep_folio,
	.invalidate_folio = forget_folio,
};
