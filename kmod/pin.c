// SPDX-License-Identifier: GPL-2.0
/*
 * Pins: ranges of pinnable memories that devices reach by physical address.
 *
 * A pinned page stays where it is: it can be neither removed nor migrated. No page is
 * touched for that. There are only two ways for one to leave the page cache
 * of a memory in use, a punched hole and a migration, both are this module's
 * code, and both look here first. Nothing else can come: the length is fixed,
 * the mapping is unevictable, its folios are not released, and the pin's owner
 * has the file open.
 *
 * mem->pins is changed under invalidate_lock held exclusively, which a punch
 * takes exclusively and a migration shared, until they are through. So once
 * vmplat_pin_take() returns nothing is on its way any more either. A pin is taken
 * under inode->i_rwsem as well: a punch is refused as a whole or not at all.
 *
 * Pages that a device may write are reported by each harvest, and by the one
 * after the pin is gone: a device leaves no mark.
 */
#include "vmplat.h"

/**
 * vmplat_pin_take - from now on these pages stay, once they are there
 * @pin: what will stand for it
 * @mem: a pinnable memory in use; kept open by the caller until the pin is dropped
 * @first: first page
 * @nr: how many, not 0
 * @write: the device may write them
 *
 * Returns -EINTR if the caller is killed while a punch or a write is under way.
 */
int vmplat_pin_take(struct vmplat_pin *pin, struct vmplat_mem *mem,
		     pgoff_t first, pgoff_t nr, bool write)
{
	struct address_space *mapping = vmplat_mapping(mem);

	pin->mem = mem;
	pin->write = write;
	pin->node.start = first;
	pin->node.last = first + nr - 1;
	if (down_write_killable(&mem->inode.i_rwsem))
		return -EINTR;
	filemap_invalidate_lock(mapping);
	interval_tree_insert(&pin->node, &mem->pins);
	mem->nr_pins++;
	filemap_invalidate_unlock(mapping);
	inode_unlock(&mem->inode);
	return 0;
}

/* vmplat_pin_drop - the device reaches the pages no more */
void vmplat_pin_drop(struct vmplat_pin *pin)
{
	struct address_space *mapping = vmplat_mapping(pin->mem);

	filemap_invalidate_lock(mapping);
	/* Marked while the pin is there: no harvest comes in between. */
	if (pin->write)
		vmplat_dirty_unsure(pin->mem, pin->node.start,
				    pin->node.last + 1);
	interval_tree_remove(&pin->node, &pin->mem->pins);
	pin->mem->nr_pins--;
	filemap_invalidate_unlock(mapping);
}

/* vmplat_pin_on - is any page of [first, last] pinned? invalidate_lock is held */
bool vmplat_pin_on(struct vmplat_mem *mem, pgoff_t first, pgoff_t last)
{
	lockdep_assert_held(&vmplat_mapping(mem)->invalidate_lock);
	return interval_tree_iter_first(&mem->pins, first, last);
}

/* The next range from @node on that devices may write. */
static struct interval_tree_node *writable(struct interval_tree_node *node,
					   pgoff_t first, pgoff_t last)
{
	while (node && !container_of(node, struct vmplat_pin, node)->write)
		node = interval_tree_iter_next(node, first, last);
	return node;
}

/**
 * vmplat_pin_find - which pages may devices write?
 * @mem: the memory; mem->lock is held
 * @first: first page to look at
 * @end: page after the last
 * @pages: a bitmap, of which bit 0 is @first; gets theirs
 */
void vmplat_pin_find(struct vmplat_mem *mem, pgoff_t first, pgoff_t end,
		     unsigned long *pages)
{
	struct address_space *mapping = vmplat_mapping(mem);
	struct interval_tree_node *node;

	lockdep_assert_held(&mem->lock);
	filemap_invalidate_lock_shared(mapping);
	node = interval_tree_iter_first(&mem->pins, first, end - 1);
	while ((node = writable(node, first, end - 1))) {
		pgoff_t from = max(node->start, first);

		bitmap_set(pages, from - first, min(node->last + 1, end) - from);
		node = interval_tree_iter_next(node, first, end - 1);
	}
	filemap_invalidate_unlock_shared(mapping);
}

/* vmplat_pin_count - how many pages may devices write? */
u64 vmplat_pin_count(struct vmplat_mem *mem)
{
	struct address_space *mapping = vmplat_mapping(mem);
	struct interval_tree_node *node;
	pgoff_t counted = 0;	/* pages below it are */
	u64 nr = 0;

	filemap_invalidate_lock_shared(mapping);
	/* In ascending order of their beginnings. */
	node = interval_tree_iter_first(&mem->pins, 0, ULONG_MAX);
	while ((node = writable(node, 0, ULONG_MAX))) {
		pgoff_t from = max(node->start, counted);

		if (node->last >= from) {
			nr += node->last + 1 - from;
			counted = node->last + 1;
		}
		node = interval_tree_iter_next(node, 0, ULONG_MAX);
	}
	filemap_invalidate_unlock_shared(mapping);
	return nr;
}
