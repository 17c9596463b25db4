/* SPDX-License-Identifier: GPL-2.0 */
/*
 * What the three files of IOMMU domains share:
 *
 *   domain.c        the file and its commands
 *   domain_group.c  groups of devices: taken from the host, attached, given back
 *   domain_map.c    mappings: a range of a memory at an I/O virtual address
 */
#ifndef VMPLAT_DOMAIN_H
#define VMPLAT_DOMAIN_H

#include <linux/iommu.h>
#include <linux/mutex.h>

#include "vmplat.h"

struct pci_dev;

/**
 * struct vmplat_domain - an address space for devices
 * @lock: commands of this domain; see domain.c for the order
 * @hw: the page table; NULL before the first group is attached, then for life
 * @mappings: struct mapping (domain_map.c), by address
 * @groups: struct vmplat_group; changed under @lock and vmplat_groups_lock
 * @nr_groups: length of @groups
 * @nr_mappings: number of @mappings
 * @nr_bytes: how much they cover
 * @nr_high: @nr_mappings was three quarters of the limit or more; told once
 * @id: of its events
 */
struct vmplat_domain {
	struct mutex lock;
	struct iommu_domain *hw;
	struct rb_root_cached mappings;
	struct list_head groups;
	unsigned int nr_groups;
	u64 nr_mappings;
	u64 nr_bytes;
	bool nr_high;
	u64 id;
};

/**
 * struct vmplat_group - a group of devices whose DMA belongs to a domain
 * @link: domain->groups
 * @all: of all domains; vmplat_groups_lock
 * @reserved: struct iommu_resv_region, as of when it was taken
 * @group: the IOMMU's name for it
 * @domain: whose it is
 * @pdev: a function of it
 * @attached: its DMA goes through domain->hw; if not, it is blocked
 * @fresh: taken by an attach that is not over yet
 */
struct vmplat_group {
	struct list_head link;
	struct list_head all;
	struct list_head reserved;
	struct iommu_group *group;
	struct vmplat_domain *domain;
	struct pci_dev *pdev;
	bool attached;
	bool fresh;
};

/**
 * struct vmplat_group_claim - a group that is kept for a while, from everybody
 * @link: of all claims; vmplat_groups_lock
 * @group: which, with a reference; NULL: none, or it went with its last function
 */
struct vmplat_group_claim {
	struct list_head link;
	struct iommu_group *group;
};

/* domain_group.c */
int vmplat_group_claim(struct vmplat_group_claim *claim, struct pci_dev *pdev,
		       struct iommu_group *group);
void vmplat_group_unclaim(struct vmplat_group_claim *claim);
int vmplat_group_attach(struct vmplat_domain *domain,
			struct vmplat_domain_attach *arg);
void vmplat_group_attached(struct vmplat_domain *domain,
			   const struct vmplat_domain_attach *arg, bool keep);
int vmplat_group_detach(struct vmplat_domain *domain, u64 function, bool release);
void vmplat_groups_release(struct vmplat_domain *domain);
bool vmplat_groups_reserve(struct vmplat_domain *domain, unsigned long first,
			   unsigned long last);
u32 vmplat_group_regions(struct vmplat_domain *domain,
			 struct vmplat_domain_region *regions, u32 room);

/* Regions nothing may be mapped into; the others are there for firmware alone. */
static inline bool vmplat_region_counts(const struct iommu_resv_region *r)
{
	return r->type != IOMMU_RESV_DIRECT_RELAXABLE && r->length;
}

/* domain_map.c */
int vmplat_domain_map_range(struct vmplat_domain *domain,
			    const struct vmplat_domain_map *arg);
int vmplat_domain_unmap_count(struct vmplat_domain *domain,
			      struct vmplat_domain_unmap *arg);
void vmplat_domain_unmap_range(struct vmplat_domain *domain,
			       const struct vmplat_domain_unmap *arg);
int vmplat_domain_find(struct vmplat_domain *domain,
		       struct vmplat_domain_query *arg);
void vmplat_domain_unmap_all(struct vmplat_domain *domain);
int vmplat_domain_replay(struct vmplat_domain *domain);
void vmplat_domain_clear(struct vmplat_domain *domain);
bool vmplat_domain_has(struct vmplat_domain *domain, unsigned long first,
		       unsigned long last);
unsigned int vmplat_domain_limit(void);

/* source_guest.c */
void vmplat_event_domain_created(struct vmplat_domain *domain);
void vmplat_event_domain_changed(struct vmplat_domain *domain,
				 enum vmplat_action action);
void vmplat_event_domain_removed(struct vmplat_domain *domain);

#endif /* VMPLAT_DOMAIN_H */
