// SPDX-License-Identifier: GPL-2.0
/*
 * Blocks: pages of a memory that follow each other in physical memory.
 *
 * With VMPLAT_MEM_F_HUGE the first touch of an empty, aligned 2 MiB of a memory
 * (the size of a PMD) makes all of its pages at once, from one piece of physical
 * memory that begins at a multiple of 2 MiB. An IOMMU maps that with one entry.
 * In the page cache they are 4 KiB folios as ever, so that logs stay sharp, and
 * one of them can be punched out.
 *
 * A bit of mem->blocks means that the block is still complete, and still in one
 * piece. It is set under invalidate_lock held exclusively, and cleared under it
 * when a page is removed (exclusively) or migrated (shared). Where there is no
 * such piece, or the cgroup has no room for it, pages come one by one.
 */
#include <linux/bitmap.h>
#include <linux/gfp.h>
#include <linux/highmem.h>

#include "vmplat.h"

static bool is_empty(struct vmplat_mem *mem, pgoff_t first)
{
	return vmplat_mem_next_present(mem, first) >= first + VMPLAT_BLOCK_PAGES;
}

static struct page *alloc_block(struct vmplat_mem *mem)
{
	/* Pages one by one are the answer to fragmentation, not reclaim. */
	gfp_t gfp = mapping_gfp_mask(vmplat_mapping(mem)) | __GFP_NOWARN |
		    __GFP_NORETRY;
	struct page *page = alloc_pages(gfp, VMPLAT_BLOCK_ORDER);
	unsigned long i;

	if (!page)
		return NULL;
	split_page(page, VMPLAT_BLOCK_ORDER);
	for (i = 0; i < VMPLAT_BLOCK_PAGES; i++)
		clear_highpage(page + i);
	return page;
}

/* Returns how many pages went in: all, or those before an error. */
static unsigned long insert_block(struct vmplat_mem *mem, pgoff_t first,
				  struct page *page)
{
	unsigned long i;

	for (i = 0; i < VMPLAT_BLOCK_PAGES; i++) {
		struct folio *folio = page_folio(page + i);

		if (vmplat_mem_insert(mem, first + i, folio))
			break;
		folio_unlock(folio);
		folio_put(folio);
	}
	if (i == VMPLAT_BLOCK_PAGES)
		set_bit(first >> VMPLAT_BLOCK_ORDER, mem->blocks);
	return i;
}

/**
 * vmplat_block_make - make the block of pages around one that does not exist
 * @mem: the memory
 * @index: the page
 *
 * Returns false if there is no block to be had; the page may exist all the same.
 */
bool vmplat_block_make(struct vmplat_mem *mem, pgoff_t index)
{
	struct address_space *mapping = vmplat_mapping(mem);
	pgoff_t first = round_down(index, VMPLAT_BLOCK_PAGES);
	unsigned long done = 0, i;
	struct page *page;

	if (!mem->blocks || first + VMPLAT_BLOCK_PAGES > mem->nr_pages ||
	    !is_empty(mem, first))
		return false;
	page = alloc_block(mem);
	if (!page)
		return false;
	filemap_invalidate_lock(mapping);
	/* Also nothing that is to be filled: under this lock no fill begins. */
	if (is_empty(mem, first) &&
	    vmplat_fill_next_missing(mem, first) >= first + VMPLAT_BLOCK_PAGES)
		done = insert_block(mem, first, page);
	filemap_invalidate_unlock(mapping);
	for (i = done; i < VMPLAT_BLOCK_PAGES; i++)
		put_page(page + i);
	return done == VMPLAT_BLOCK_PAGES;
}

/* vmplat_block_whole - is the block that begins at @index still in one piece? */
bool vmplat_block_whole(struct vmplat_mem *mem, pgoff_t index)
{
	return mem->blocks && IS_ALIGNED(index, VMPLAT_BLOCK_PAGES) &&
	       test_bit(index >> VMPLAT_BLOCK_ORDER, mem->blocks);
}

/* vmplat_block_break - pages [first, last] go elsewhere; invalidate_lock is held */
void vmplat_block_break(struct vmplat_mem *mem, pgoff_t first, pgoff_t last)
{
	unsigned long block;

	lockdep_assert_held(&vmplat_mapping(mem)->invalidate_lock);
	if (!mem->blocks)
		return;
	for (block = first >> VMPLAT_BLOCK_ORDER;
	     block <= last >> VMPLAT_BLOCK_ORDER; block++)
		clear_bit(block, mem->blocks);
}

/* vmplat_block_count - how many are in one piece now */
unsigned long vmplat_block_count(struct vmplat_mem *mem)
{
	if (!mem->blocks)
		return 0;
	return bitmap_weight(mem->blocks, mem->nr_pages >> VMPLAT_BLOCK_ORDER);
}
