/* SPDX-License-Identifier: GPL-2.0 */
/*
 * The one place that knows which kernel this is. Everything else is written
 * for the newest one. Conditionals test what Kbuild found in the headers
 * (VMPLAT_HAVE_*), not version numbers: stable kernels backport API changes.
 */
#ifndef VMPLAT_COMPAT_H
#define VMPLAT_COMPAT_H

#include <linux/fs.h>
#include <linux/iommu.h>
#include <linux/irqdomain.h>
#include <linux/list_lru.h>
#include <linux/mm.h>
#include <linux/pagemap.h>
#include <linux/pci.h>
#include <linux/rmap.h>
#include <linux/splice.h>
#include <linux/uio.h>
#include <net/genetlink.h>

/* mnt_idmap replaced user_namespace in inode operations (6.3). */
#ifdef VMPLAT_HAVE_MNT_IDMAP
#define vmplat_idmap		mnt_idmap
#define vmplat_nop_idmap	(&nop_mnt_idmap)
#else
#define vmplat_idmap		user_namespace
#define vmplat_nop_idmap	(&init_user_ns)
#endif

/* filemap_get_folio() returned NULL, not an error pointer, before 6.4. */
static inline struct folio *vmplat_filemap_get_folio(struct address_space *m,
						     pgoff_t index)
{
	struct folio *folio = filemap_get_folio(m, index);

	return IS_ERR_OR_NULL(folio) ? NULL : folio;
}

/* copy_splice_read() (6.5) reads into fresh pages through read_iter. */
#ifdef VMPLAT_HAVE_COPY_SPLICE_READ
#define vmplat_splice_read	copy_splice_read
#else
#define vmplat_splice_read	generic_file_splice_read
#endif

/* pte_mkwrite() wants the VMA since 6.6, to tell shadow stacks. */
#ifdef VMPLAT_HAVE_PTE_MKWRITE_NOVMA
#define vmplat_pte_mkwrite	pte_mkwrite_novma
#else
#define vmplat_pte_mkwrite	pte_mkwrite
#endif

/* Timestamps went behind accessors (6.6, 6.7). */
static inline void vmplat_inode_touch(struct inode *inode, bool born)
{
#if defined(VMPLAT_HAVE_SIMPLE_INODE_INIT_TS)
	if (born)
		simple_inode_init_ts(inode);
	else
		inode_set_mtime_to_ts(inode, inode_set_ctime_current(inode));
#else
	inode->i_ctime = current_time(inode);
	inode->i_mtime = inode->i_ctime;
	if (born)
		inode->i_atime = inode->i_mtime;
#endif
}

static inline void vmplat_generic_fillattr(struct vmplat_idmap *idmap,
					   u32 mask, struct inode *inode,
					   struct kstat *stat)
{
#ifdef VMPLAT_HAVE_FILLATTR_MASK	/* 6.6 */
	generic_fillattr(idmap, mask, inode, stat);
#else
	generic_fillattr(idmap, inode, stat);
#endif
}

/* ->create() was told of O_EXCL before 7.3; what it makes is new in any case. */
#ifdef VMPLAT_HAVE_CREATE_EXCL
#define VMPLAT_CREATE_MODE	umode_t mode, bool excl
#else
#define VMPLAT_CREATE_MODE	umode_t mode
#endif

/* Pages became folios (6.10), and their own function went (7.3). */
static inline size_t vmplat_copy_from_iter(struct folio *folio, size_t offset,
					   size_t bytes, struct iov_iter *from)
{
#ifdef VMPLAT_HAVE_COPY_FOLIO_FROM_ITER
	return copy_folio_from_iter_atomic(folio, offset, bytes, from);
#else
	return copy_page_from_iter_atomic(folio_page(folio, 0), offset, bytes,
					  from);
#endif
}

/* ->mkdir() returns a dentry since 6.15. */
#ifdef VMPLAT_HAVE_MKDIR_DENTRY
#define vmplat_mkdir_ret	struct dentry *
#define vmplat_mkdir_err(err)	ERR_PTR(err)
#else
#define vmplat_mkdir_ret	int
#define vmplat_mkdir_err(err)	(err)
#endif

/* Give back what handle_mm_fault() was called under, as before VM_FAULT_RETRY. */
static inline void vmplat_release_fault_lock(struct vm_fault *vmf)
{
#ifdef VMPLAT_HAVE_RELEASE_FAULT_LOCK	/* 6.6: it may be the VMA's own lock */
	release_fault_lock(vmf);
#else
	mmap_read_unlock(vmf->vma->vm_mm);
#endif
}

/*
 * copy_page_to_iter() puts references into a pipe before 6.5: what is written to
 * the page later would be read from the pipe. copy_to_iter() always copies.
 */
static inline size_t vmplat_copy_page(struct page *page, size_t offset,
				      size_t bytes, struct iov_iter *to)
{
	void *addr = kmap_local_page(page);
	size_t copied = copy_to_iter(addr + offset, bytes, to);

	kunmap_local(addr);
	return copied;
}

/* Names that exist only as long as the dcache keeps them: 7.x has a word for it. */
#ifdef VMPLAT_HAVE_D_MAKE_PERSISTENT
#define vmplat_kill_sb		kill_anon_super
static inline void vmplat_d_make(struct dentry *dentry, struct inode *inode)
{
	d_make_persistent(dentry, inode);
}
#else
#define vmplat_kill_sb		kill_litter_super
static inline void vmplat_d_make(struct dentry *dentry, struct inode *inode)
{
	d_instantiate(dentry, inode);
	dget(dentry);
}
#endif

#ifdef VMPLAT_HAVE_INODE_JUST_DROP
#define vmplat_drop_inode	inode_just_drop
#else
#define vmplat_drop_inode	generic_delete_inode
#endif

/* list_lru_add() asked the item for its cgroup; it takes one since 6.8. */
static inline bool vmplat_list_lru_add(struct list_lru *lru,
				       struct list_head *item)
{
#ifdef VMPLAT_HAVE_LIST_LRU_ADD_OBJ
	return list_lru_add_obj(lru, item);
#else
	return list_lru_add(lru, item);
#endif
}

/* An argument of list_lru_walk_cb until 6.12. */
#ifdef VMPLAT_HAVE_LIST_LRU_LOCK
#define VMPLAT_LRU_LOCK		spinlock_t *lock,
#else
#define VMPLAT_LRU_LOCK
#endif

/* Shrinkers are allocated, not embedded, since 6.7. */
static inline struct shrinker *vmplat_sb_shrinker(struct super_block *sb)
{
#ifdef VMPLAT_HAVE_SHRINKER_ALLOC
	return sb->s_shrink;
#else
	return &sb->s_shrink;
#endif
}

/* Order-0 folios only: folio_mapcount() is not exported everywhere. */
static inline int vmplat_folio_mapcount(struct folio *folio)
{
	return atomic_read(&folio->_mapcount) + 1;
}

/* What a generic netlink dump was asked; genl_info_dump() came with 6.7. */
static inline struct nlattr **vmplat_dump_attrs(struct netlink_callback *cb)
{
#ifdef VMPLAT_HAVE_GENL_INFO_DUMP
	return genl_info_dump(cb)->attrs;
#else
	return genl_dumpit_info(cb)->attrs;
#endif
}

/* A page table for the IOMMU of @dev: one for all of a bus, or NULL, before 6.11. */
static inline struct iommu_domain *vmplat_iommu_domain_alloc(struct device *dev)
{
#ifdef VMPLAT_HAVE_IOMMU_PAGING_DOMAIN
	return iommu_paging_domain_alloc(dev);
#else
	struct iommu_domain *domain = iommu_domain_alloc(dev->bus);

	return domain ? domain : ERR_PTR(-ENOMEM);
#endif
}

/* May sleep; the page table's pages are charged to the cgroup where that is known. */
static inline int vmplat_iommu_map(struct iommu_domain *domain,
				   unsigned long iova, phys_addr_t phys,
				   size_t bytes, int prot)
{
#ifdef VMPLAT_HAVE_IOMMU_MAP_ATOMIC	/* until 6.3, which has an argument for it */
	return iommu_map(domain, iova, phys, bytes, prot);
#else
	return iommu_map(domain, iova, phys, bytes, prot, GFP_KERNEL_ACCOUNT);
#endif
}

/* Can no device of @group, to which @dev belongs, raise interrupts of others? */
static inline bool vmplat_iommu_isolates_msi(struct iommu_group *group,
					     struct device *dev)
{
#ifdef VMPLAT_HAVE_ISOLATED_MSI		/* 6.3 */
	return iommu_group_has_isolated_msi(group);
#else
	return device_iommu_capable(dev, IOMMU_CAP_INTR_REMAP) ||
	       irq_domain_check_msi_remap();
#endif
}

/* driver_override moved from struct pci_dev to struct device (7.0, and into 6.12.y). */
static inline int vmplat_set_driver_override(struct pci_dev *pdev,
					     const char *driver)
{
#ifdef VMPLAT_HAVE_DEVICE_DRIVER_OVERRIDE
	return device_set_driver_override(&pdev->dev, driver);
#else
	return driver_set_override(&pdev->dev, &pdev->driver_override, driver,
				   strlen(driver));
#endif
}

#endif /* VMPLAT_COMPAT_H */
