// SPDX-License-Identifier: GPL-2.0
/*
 * Which pages may have been written, and the harvest that finds out.
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

struct batch {
	struct vmplat_mem *mem;
	struct folio **folios;		/* mem->batch->folios */
	unsigned int nr;
	bool strict;
};

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

	if (!test_bit(word, mem->summary))
		set_bit(word, mem->summary);
	if (was_set)
		return;
	if (atomic64_inc_return(&mem->nr_dirty) >= READ_ONCE(mem->wake_at) &&
	    wq_has_sleeper(&mem->log_wq))
		wake_up_poll(&mem->log_wq, EPOLLIN);
}

/*
 * Can anybody but the page cache, the page tables and us reach this folio?
 *
 * A folio off the LRU has one more reference, of the per-CPU batch that will put
 * it there or of whoever isolated it. That is true of most new pages, so to mark
 * them all again would be a poor answer; but LRU state changes without the folio
 * lock, and the explanation can be wrong if it changes twice while we look. A log
 * can live with that: who writes through a plain reference marks the folio dirty
 * afterwards, see vmplat_mem_aops. A freeze cannot, and is @strict.
 */
static bool extra_references(struct folio *folio, bool strict)
{
	bool off_lru = !folio_test_lru(folio);
	int refs;

	smp_rmb();	/* no pair: keeps the three looks in order */
	refs = folio_ref_count(folio);
	/* References first: an unmap drops its count before its reference. */
	smp_rmb();
	off_lru = off_lru && !folio_test_lru(folio) && !strict;
	return refs > 2 + off_lru + vmplat_folio_mapcount(folio);
}

/*
 * folio_mkclean() takes write permission and the dirty bit in one step. Both must
 * go: mprotect(2) and NUMA balancing make a dirty PTE of a shared mapping writable
 * without asking (can_change_pte_writable()). Walks over ranges of PTEs
 * (wp_shared_mapping_range() and its sibling) would cost less for long runs, but
 * take two steps, and touch migration entries of pages that are not locked.
 */
static void protect(struct batch *b)
{
	unsigned int i;

	for (i = 0; i < b->nr; i++)
		folio_mkclean(b->folios[i]);
}

static void flush(struct batch *b)
{
	unsigned int i;

	protect(b);
	for (i = 0; i < b->nr; i++) {
		struct folio *folio = b->folios[i];

		if (extra_references(folio, b->strict))
			vmplat_dirty_set(b->mem, folio->index);
		folio_unlock(folio);
		folio_put(folio);
	}
	b->nr = 0;
	cond_resched();
}

/*
 * Only the first folio of a batch is waited for: who holds several locks and
 * waits for another can deadlock with somebody doing the same.
 */
static void add(struct batch *b, pgoff_t index)
{
	struct address_space *mapping = vmplat_mapping(b->mem);
	struct folio *folio;

	for (;;) {
		folio = vmplat_mem_folio(b->mem, index);
		if (!folio)
			return;		/* punched: nothing maps it */
		if (!folio_trylock(folio)) {
			if (b->nr)
				flush(b);
			folio_lock(folio);
		}
		if (likely(folio->mapping == mapping))
			break;
		folio_unlock(folio);	/* migrated or punched meanwhile */
		folio_put(folio);
	}
	b->folios[b->nr++] = folio;
	if (b->nr == VMPLAT_BATCH)
		flush(b);
}

/**
 * vmplat_dirty_harvest - write-protect what was written, tell every log
 * @mem: the memory; mem->lock is held
 * @first: first page
 * @end: page after the last; both are widened to whole words
 * @strict: mark again every page that has an unexplained reference
 *
 * Returns how many pages were marked.
 */
u64 vmplat_dirty_harvest(struct vmplat_mem *mem, pgoff_t first, pgoff_t end,
			 bool strict)
{
	struct batch b = {
		.mem = mem,
		.folios = mem->batch->folios,
		.strict = strict,
	};
	unsigned long word = first / BITS_PER_LONG;
	unsigned long end_word = BITS_TO_LONGS(end);
	u64 nr = 0;

	lockdep_assert_held(&mem->lock);
	for (word = find_next_bit(mem->summary, end_word, word);
	     word < end_word;
	     word = find_next_bit(mem->summary, end_word, word + 1)) {
		unsigned long bits, bit;

		/* Full barrier: see vmplat_dirty_set(). */
		if (!test_and_clear_bit(word, mem->summary))
			continue;
		bits = xchg(&mem->dirty[word], 0);
		if (!bits)
			continue;
		nr += hweight_long(bits);
		vmplat_log_add(mem, word, bits);
		for_each_set_bit(bit, &bits, BITS_PER_LONG)
			add(&b, word * BITS_PER_LONG + bit);
	}
	flush(&b);
	mem->nr_harvests++;
	atomic64_sub(nr, &mem->nr_dirty);
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
