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
 */
#include <linux/mm.h>
#include <linux/poll.h>
#include <linux/sched.h>
#include <linux/slab.h>

#include "vmplat.h"

struct batch {
	struct vmplat_mem *mem;
	struct vmplat_view_part *freezing;
	int err;
	unsigned int nr;
	struct folio **folios;		/* locked, ascending */
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
	 * the xchg of the summary before the words in vmplat_dirty_harvest().
	 */
	if (test_and_set_bit(index, mem->dirty))
		return;
	if (!test_bit(word, mem->summary))
		set_bit(word, mem->summary);
	if (atomic64_inc_return(&mem->nr_dirty) >= READ_ONCE(mem->wake_at) &&
	    wq_has_sleeper(&mem->log_wq))
		wake_up_poll(&mem->log_wq, EPOLLIN);
}

/* Can anybody but the page cache, the page tables and us reach this folio? */
static bool extra_references(struct folio *folio)
{
	/*
	 * A folio off the LRU is held by the per-CPU batch that will put it
	 * there, or by whoever isolated it.
	 */
	int refs = folio_ref_count(folio);
	int known = 2 + !folio_test_lru(folio);

	/* References first: an unmap drops its count before its reference. */
	smp_rmb();
	return refs > known + vmplat_folio_mapcount(folio);
}

static void protect_runs(struct batch *b)
{
	struct address_space *mapping = vmplat_mapping(b->mem);
	unsigned int i, start = 0;

	for (i = 1; i <= b->nr; i++) {
		if (i < b->nr &&
		    b->folios[i]->index == b->folios[i - 1]->index + 1)
			continue;
		vmplat_write_protect(mapping, b->folios[start]->index, i - start,
				     b->folios + start, i - start);
		start = i;
	}
}

static void flush(struct batch *b)
{
	unsigned int i;

	protect_runs(b);
	for (i = 0; i < b->nr; i++) {
		struct folio *folio = b->folios[i];

		if (extra_references(folio)) {
			vmplat_dirty_set(b->mem, folio->index);
			if (b->freezing && !b->err)
				b->err = vmplat_view_save_pinned(b->freezing,
								 folio);
		}
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
 * @freezing: if not NULL, freeze_sem is held exclusively and pages that stay
 *	writable through a pin are saved to this part
 * @err: set if a pinned page could not be saved; may be NULL without @freezing
 *
 * Returns how many pages were marked. Never loses a mark, also on an error.
 */
u64 vmplat_dirty_harvest(struct vmplat_mem *mem, pgoff_t first, pgoff_t end,
			 struct vmplat_view_part *freezing, int *err)
{
	struct batch b = {
		.mem = mem,
		.freezing = freezing,
		.folios = mem->batch,
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
	if (err)
		*err = b.err;
	return nr;
}
