// SPDX-License-Identifier: GPL-2.0
/*
 * Memory blocks of the host while they are online. The kernel tells modules nothing
 * of blocks that are offline, neither that they come nor that they go; so there
 * are no objects for them.
 */
#include <linux/memory.h>
#include <linux/memory_hotplug.h>
#include <linux/mm.h>
#include <linux/mmzone.h>
#include <net/netlink.h>

#include "event.h"

#ifdef CONFIG_MEMORY_HOTPLUG

struct block {
	u64 id;
	int node;
};

static u64 block_pages(void)
{
	return PHYS_PFN(memory_block_size_bytes());
}

static int put_block(struct sk_buff *skb, const void *obj)
{
	const struct block *block = obj;
	u64 bytes = memory_block_size_bytes();

	if (nla_put_u64_64bit(skb, VMPLAT_NL_MEMORY_START, block->id * bytes,
			      VMPLAT_NL_MEMORY_PAD) ||
	    nla_put_u64_64bit(skb, VMPLAT_NL_MEMORY_BYTES, bytes,
			      VMPLAT_NL_MEMORY_PAD))
		return -EMSGSIZE;
	return nla_put_s32(skb, VMPLAT_NL_MEMORY_NUMA_NODE, block->node);
}

static const struct vmplat_event_class memory_class = {
	.class = VMPLAT_CLASS_MEMORY,
	.nest = VMPLAT_NL_A_MEMORY,
	.max_bytes = 64,
	.put = put_block,
};

static int notify(struct notifier_block *nb, unsigned long what, void *data)
{
	const struct memory_notify *arg = data;
	struct block block = { .id = arg->start_pfn / block_pages() };
	u64 end = DIV_ROUND_UP_ULL(arg->start_pfn + arg->nr_pages, block_pages());

	if (what != MEM_ONLINE && what != MEM_OFFLINE)
		return NOTIFY_OK;
	for (; block.id < end; block.id++) {
		if (what == MEM_OFFLINE) {
			vmplat_event_remove(&memory_class, block.id,
					    VMPLAT_ACTION_OFFLINE);
			continue;
		}
		block.node = pfn_to_nid(arg->start_pfn);
		vmplat_event_add(&memory_class, block.id, INVALID_UID,
				 VMPLAT_ACTION_ONLINE, &block);
	}
	return NOTIFY_OK;
}

static struct notifier_block nb = { .notifier_call = notify };

/* A page of the block that the kernel uses; holes and device memory are none. */
static struct page *first_online_page(u64 first_pfn)
{
	u64 pfn;

	for (pfn = first_pfn; pfn < first_pfn + block_pages();
	     pfn += PAGES_PER_SECTION) {
		struct page *page = pfn_to_online_page(pfn);

		if (page)
			return page;
	}
	return NULL;
}

static void find_blocks(void)
{
	unsigned long nr;
	struct block block = {};
	u64 last = U64_MAX;

	for (nr = 0; nr < NR_MEM_SECTIONS; nr++) {
		struct page *page;

		if (!__nr_to_section(nr)) {	/* nor any other of this root */
			nr |= SECTIONS_PER_ROOT - 1;
			cond_resched();
			continue;
		}
		block.id = section_nr_to_pfn(nr) / block_pages();
		if (block.id == last)
			continue;
		last = block.id;
		page = first_online_page(block.id * block_pages());
		if (!page)
			continue;
		block.node = page_to_nid(page);
		vmplat_event_found(&memory_class, block.id, &block);
	}
}

int vmplat_source_memory_init(void)
{
	int err = register_memory_notifier(&nb);

	if (!err)
		find_blocks();
	return err;
}

void vmplat_source_memory_exit(void)
{
	unregister_memory_notifier(&nb);
}

#else /* !CONFIG_MEMORY_HOTPLUG: what cannot change is not worth an event */

int vmplat_source_memory_init(void)
{
	return 0;
}

void vmplat_source_memory_exit(void)
{
}

#endif
