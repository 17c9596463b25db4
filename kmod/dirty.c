// SPDX-License-Identifier: GPL-2.0
/*
 * Which pages may have been written, and the harvest that finds out. All below is
 * about freezable memories; pinnable.c has what the others do instead.
 *
 * mem->dirty has a bit for every page that became writable (or was written
 * through the file) since the last harvest. Whoever sets it holds the folio's
 * lock and keeps it until the PTE is writable or the bytes are in place. A
 * harvest takes bits with xchg(), locks those folios, write-protects them and
 * gives the bits to every log. Therefore, for each write:
 *
 *  - bit set before the xchg: the harvest waits for the folio lock, so the PTE
 *    it protects is the writable one; the write is reported now, the next write
 *    faults and sets the bit again;
 *  - bit set after it: the bit is still there for the next harvest.
 *
 * The folio lock also keeps migration away: a migration entry is invisible to
 * the write-protection and would come back writable.
 *
 * Pages that somebody pinned are written without any PTE. Pinning made the bit
 * set; a harvest that finds more references than the page cache, the mappings
 * and itself can explain sets the bit again, so such a page is reported by every
 * harvest until the pin is gone. The references are counted after the PTEs were
 * protected: gup-fast takes its reference first and looks at the PTE again.
 *
 * PTEs are left clean, too. So a dirty one was writable since the last harvest,
 * and its page has its bit: folio_mark_dirty(), which comes from unmapping a dirty
 * PTE and from whoever wrote through a reference, sets the bit without ever
 * reporting a page that was not written.
 */
#include <linux/mm.h>
#include <linux/poll.h>
#include <linux/rmap.h>
#include <linux/sched.h>
#include <linux/slab.h>

#include "vmplat.h"

/*
 * vmplat_dirty_set - the page may be written from now on
 *
 * Caller holds the folio lock, or removed the page under freeze_sem.
 */
void vmplat_dirty_set(struct vmplat_mem *mem, pgoff_t index)
{
	unsigned long word = index / BITS_PER_LONG;

	/*
	 * The atomic orders the bit before the look at the summary; pairs with
	 * the summary's clearing before the words in vmplat_dirty_harvest().
	 */
	bool was_set = test_and_set_bit(index, mem->dirty);
	u64 nr;

	if (!test_bit(word, mem->summary))
		set_bit(word, mem->summary);
	if (was_set)
		return;
	nr = atomic64_inc_return(&mem->nr_dirty);
	if (nr >= READ_ONCE(mem->wake_at) && wq_has_sleeper(&mem->log_wq))
		wake_up_poll(&mem->log_wq, EPOLLIN);
	if (unlikely(nr >= READ_ONCE(mem->event_at)))
		vmplat_event_log_dirty(mem);
}

/*
 * vmplat_dirty_unsure - pages [first, end) of a pinnable memory may have been written
 *
 * By whom leaves no trace. It is over: no folio lock is needed to order it.
 */
void vmplat_dirty_unsure(struct vmplat_mem *mem, pgoff_t first, pgoff_t end)
{
	unsigned long word;

	for (word = first / BITS_PER_LONG; first < end; word++) {
		pgoff_t next = min_t(pgoff_t, end, (word + 1) * BITS_PER_LONG);
		unsigned long bits = GENMASK((next - 1) % BITS_PER_LONG,
					     first % BITS_PER_LONG);

		/* Bits before the summary, as in vmplat_dirty_set(). */
		atomic_long_fetch_or(bits, (atomic_long_t *)&mem->unsure[word]);
		if (!test_bit(word, mem->summary))
			set_bit(word, mem->summary);
		first = next;
	}
}

/*
 * vmplat_off_lru_references - vmplat_extra_references() when there is one too many
 *
 * A folio off the LRU has one more reference, of the per-CPU batch that will put
 * it there or of whoever isolated it. That is true of most new pages, so to mark
 * them all again would be a poor answer; but LRU state changes without the folio
 * lock, and the explanation can be wrong if it changes twice while we look. A log
 * can live with that: who writes through a plain reference marks the folio dirty
 * afterwards, see vmplat_mem_aops. A freeze cannot, and is @strict.
 */
bool vmplat_off_lru_references(struct folio *folio, int known, bool strict)
{
	bool off_lru = !folio_test_lru(folio);
	int extra;

	smp_rmb();	/* no pair: keeps the three looks in order */
	extra = vmplat_count_references(folio, known);
	smp_rmb();	/* no pair, as above */
	off_lru = off_lru && !folio_test_lru(folio) && !strict;
	return extra > off_lru;
}

/* Shorter runs are quicker page by page. */
#define LONG_RUN	8

/* Write permission and the dirty bit go in one step, a page at a time. */
static void protect_pages(struct folio **folios, unsigned int nr)
{
	unsigned int i;

	for (i = 0; i < nr; i++)
		folio_mkclean(folios[i]);
}

/* Is no PTE of [addr, end), all in one page table, writable or dirty? */
static bool table_is_clean(struct mm_struct *mm, unsigned long addr,
			   unsigned long end)
{
	pgd_t *pgd = pgd_offset(mm, addr);
	p4d_t *p4d;
	pud_t *pud;
	pmd_t *pmd, entry;
	pte_t *pte, found;

	if (pgd_none(READ_ONCE(*pgd)))
		return true;
	p4d = p4d_offset(pgd, addr);
	if (p4d_none(READ_ONCE(*p4d)))
		return true;
	pud = pud_offset(p4d, addr);
	if (pud_none(READ_ONCE(*pud)))
		return true;
	pmd = pmd_offset(pud, addr);
	entry = READ_ONCE(*pmd);
	if (pmd_none(entry))
		return true;
	if (pmd_bad(entry))
		return false;
	for (pte = pte_offset_kernel(&entry, addr); addr < end;
	     pte++, addr += PAGE_SIZE) {
		found = READ_ONCE(*pte);
		if (pte_present(found) && (pte_write(found) || pte_dirty(found)))
			return false;
	}
	return true;
}

/*
 * Is no PTE of these pages writable or dirty? Tables are read without their locks:
 * i_mmap_rwsem keeps them until their VMA is gone from the tree, RCU those that are
 * freed for being empty (since 6.14). An mremap() moves PTEs to a VMA that comes
 * later in the tree, or waits.
 */
static bool run_is_clean(struct address_space *mapping, pgoff_t index,
			 unsigned int nr)
{
	struct rb_node *node;
	bool clean = true;

	i_mmap_lock_read(mapping);
	for (node = rb_first_cached(&mapping->i_mmap); clean && node;
	     node = rb_next(node)) {
		struct vm_area_struct *vma = rb_entry(node, struct vm_area_struct,
						      shared.rb);
		pgoff_t first = max(index, vma->vm_pgoff);
		pgoff_t last = min(index + nr, vma->vm_pgoff + vma_pages(vma));
		unsigned long addr, end, next;

		if (first >= last)
			continue;
		addr = vma->vm_start + ((first - vma->vm_pgoff) << PAGE_SHIFT);
		end = addr + ((last - first) << PAGE_SHIFT);
		for (; clean && addr < end; addr = next) {
			next = pmd_addr_end(addr, end);
			rcu_read_lock();
			clean = table_is_clean(vma->vm_mm, addr, next);
			rcu_read_unlock();
		}
	}
	i_mmap_unlock_read(mapping);
	return clean;
}

/*
 * The same for pages that follow each other, in a walk over their PTEs that makes
 * them read-only, and a look that finds them all clean, as PTEs are that only a
 * vCPU writes behind, see make_writable(). What is clean and read-only stays so.
 *
 * Otherwise a second walk makes them clean. Until then a PTE is read-only and
 * dirty, and as such made writable by mprotect(2) and NUMA balancing without asking
 * anybody (can_change_pte_writable()); so it takes a third walk to prove that none
 * is. The walks take migration entries for PTEs, so they must not leave the run:
 * all of its folios are locked. Returns false if it did not work out.
 */
static bool protect_run(struct address_space *mapping, pgoff_t index,
			unsigned int nr)
{
#ifdef CONFIG_MAPPING_DIRTY_HELPERS
	DECLARE_BITMAP(dirty, VMPLAT_BATCH);	/* known anyway, never read */
	pgoff_t from = 0, to = 0;

	wp_shared_mapping_range(mapping, index, nr);
	if (run_is_clean(mapping, index, nr))
		return true;
	clean_record_shared_mapping_range(mapping, index, nr, index, dirty,
					  &from, &to);
	return !wp_shared_mapping_range(mapping, index, nr);
#else
	return false;
#endif
}

/* How many of @folios, at least one, follow each other. */
static unsigned int run_length(struct folio **folios, unsigned int max)
{
	pgoff_t index = folios[0]->index;
	unsigned int nr = 1;

	if (folio_test_hwpoison(folios[0]))
		return 1;
	while (nr < max && folios[nr]->index == index + nr &&
	       !folio_test_hwpoison(folios[nr]))
		nr++;
	return nr;
}

static void protect(struct vmplat_mem *mem, struct folio **folios,
		    unsigned int nr_folios)
{
	unsigned int nr, i;

	for (; nr_folios; folios += nr, nr_folios -= nr) {
		nr = run_length(folios, nr_folios);
		if (nr >= LONG_RUN &&
		    protect_run(vmplat_mapping(mem), folios[0]->index, nr))
			continue;
		protect_pages(folios, nr);
		/* If a walk failed, somebody may have written since we looked. */
		for (i = 0; i < nr && nr >= LONG_RUN; i++)
			vmplat_dirty_set(mem, folios[i]->index);
	}
}

static void flush(struct vmplat_mem *mem, bool strict)
{
	struct vmplat_batch *b = mem->batch;
	unsigned int i;

	protect(mem, b->folios, b->nr);
	for (i = 0; i < b->nr; i++) {
		struct folio *folio = b->folios[i];

		if (vmplat_extra_references(folio, 1, strict))
			vmplat_dirty_set(mem, folio->index);
		folio_unlock(folio);
	}
	b->nr = 0;
	cond_resched();
}

static u64 harvest_marked(struct vmplat_mem *mem, pgoff_t first, pgoff_t end,
			  bool strict)
{
	unsigned long word = first / BITS_PER_LONG;
	unsigned long end_word = BITS_TO_LONGS(end);
	u64 nr = 0;

	for (word = find_next_bit(mem->summary, end_word, word);
	     word < end_word;
	     word = find_next_bit(mem->summary, end_word, word + 1)) {
		pgoff_t index = word * BITS_PER_LONG;
		unsigned long bits, from, to;

		/* Full barrier: see vmplat_dirty_set(). */
		if (!test_and_clear_bit(word, mem->summary))
			continue;
		bits = xchg(&mem->dirty[word], 0);
		if (!bits)
			continue;
		nr += hweight_long(bits);
		vmplat_log_add(mem, word, bits, 0);
		for_each_set_bitrange(from, to, &bits, BITS_PER_LONG) {
			pgoff_t at = index + from;

			while (!vmplat_mem_lock_folios(mem, &at, index + to))
				flush(mem, strict);
		}
	}
	flush(mem, strict);
	atomic64_sub(nr, &mem->nr_dirty);
	return nr;
}

/**
 * vmplat_dirty_harvest - find what was written, tell every log
 * @mem: the memory; mem->lock is held
 * @first: first page
 * @end: page after the last; both are widened to whole words
 * @strict: mark again every page that has an unexplained reference
 *
 * Returns how many pages were found.
 */
u64 vmplat_dirty_harvest(struct vmplat_mem *mem, pgoff_t first, pgoff_t end,
			 bool strict)
{
	u64 nr;

	lockdep_assert_held(&mem->lock);
	if (mem->pinnable)
		nr = vmplat_pinnable_harvest(mem, round_down(first, BITS_PER_LONG),
					     min_t(u64, mem->nr_pages,
						   round_up(end, BITS_PER_LONG)));
	else
		nr = harvest_marked(mem, first, end, strict);
	mem->nr_harvests++;
	vmplat_log_rearm(mem);
	return nr;
}

/* vmplat_dirty_next - first page from @index on that may be written, or nr_pages */
pgoff_t vmplat_dirty_next(struct vmplat_mem *mem, pgoff_t index)
{
	unsigned long end_word = BITS_TO_LONGS(mem->nr_pages);
	unsigned long word = index / BITS_PER_LONG;

	/* Words without marks are passed over 64 at a time. */
	word = find_next_bit(mem->summary, end_word, word);
	if (word >= end_word)
		return mem->nr_pages;
	return find_next_bit(mem->dirty, mem->nr_pages,
			     max_t(pgoff_t, index, word * BITS_PER_LONG));
}
