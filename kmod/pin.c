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
		vmplat_dirty_set_range(pin->mem, pin->node.start,
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

/* vmplat_pin_mark - devices may have written what is pinned of [first, end) */
void vmplat_pin_mark(struct vmplat_mem *mem, pgoff_t first, pgoff_t end)
{
	struct address_space *mapping = vmplat_mapping(mem);
	struct interval_tree_node *node;

	lockdep_assert_held(&mem->lock);
	filemap_invalidate_lock_shared(mapping);
	for (node = interval_tree_iter_first(&mem->pins, first, end - 1); node;
	     node = interval_tree_iter_next(node, first, end - 1)) {
		if (!container_of(node, struct vmplat_pin, node)->write)
			continue;
		vmplat_dirty_set_range(mem, max(node->start, first),
				       min(node->last + 1, end));
	}
	filemap_invalidate_unlock_shared(mapping);
}
