// SPDX-License-Identifier: GPL-2.0
/*
 * IOMMU domains: address spaces in which devices see memories of this module.
 *
 * A domain is a file. When the last descriptor of it is closed, by kill -9 as well,
 * its groups are taken out of the page table and blocked, their bus mastering is
 * switched off, they are the host's again; then the mappings go, and last the page
 * table. So there is no instant at which a device reaches a page that is not pinned,
 * or a group is open that nobody has isolated.
 *
 * Locks, outermost first:
 *
 *   device locks         of functions; never taken below the following
 *   vmplat_groups_lock   who has which group
 *   domain->lock         the page table, mappings, the list of groups; copies to user
 *                        space when something is unmapped
 *   inode->i_rwsem       of a memory, only by pin.c, and never below domain->lock
 *   invalidate_lock      of a memory, to drop pins
 */
#include <linux/anon_inodes.h>
#include <linux/file.h>
#include <linux/seq_file.h>
#include <linux/slab.h>
#include <linux/uaccess.h>

#include "domain.h"

static int attach(struct vmplat_cmd *cmd)
{
	struct vmplat_domain_attach *arg = cmd->arg;

	arg->out_group = 0;
	arg->out_nr_devices = 0;
	arg->out_blocker = 0;
	arg->out_why = VMPLAT_DOMAIN_WHY_NONE;
	memset(arg->out_driver, 0, sizeof(arg->out_driver));
	if (arg->__reserved)
		return -EOPNOTSUPP;
	return vmplat_group_attach(cmd->file->private_data, arg);
}

static void attach_finish(struct vmplat_cmd *cmd, int err)
{
	vmplat_group_attached(cmd->file->private_data, cmd->arg, !err);
}

static int detach(struct vmplat_cmd *cmd)
{
	struct vmplat_domain_detach *arg = cmd->arg;

	return vmplat_group_detach(cmd->file->private_data, arg->function,
				   arg->flags & VMPLAT_DOMAIN_DETACH_F_RELEASE);
}

static int map(struct vmplat_cmd *cmd)
{
	return vmplat_domain_map_range(cmd->file->private_data, cmd->arg);
}

static int unmap(struct vmplat_cmd *cmd)
{
	struct vmplat_domain *domain = cmd->file->private_data;
	int err;

	if (mutex_lock_interruptible(&domain->lock))
		return -EINTR;
	err = vmplat_domain_unmap_count(domain, cmd->arg);
	if (err)
		mutex_unlock(&domain->lock);
	return err;		/* else unmap_finish() unlocks */
}

/* There is no way back, so it is done once the caller has the answer. */
static void unmap_finish(struct vmplat_cmd *cmd, int err)
{
	struct vmplat_domain *domain = cmd->file->private_data;

	if (!err)
		vmplat_domain_unmap_range(domain, cmd->arg);
	mutex_unlock(&domain->lock);
}

static int query(struct vmplat_cmd *cmd)
{
	struct vmplat_domain_query *arg = cmd->arg;

	if (arg->__reserved)
		return -EOPNOTSUPP;
	return vmplat_domain_find(cmd->file->private_data, arg);
}

static int regions(struct vmplat_cmd *cmd)
{
	struct vmplat_domain *domain = cmd->file->private_data;
	struct vmplat_domain_regions *arg = cmd->arg;
	struct vmplat_domain_region *list;
	u32 room, nr;
	int err = 0;

	arg->out_nr = 0;
	if (arg->__reserved)
		return -EOPNOTSUPP;
	room = min_t(u32, arg->nr, PAGE_SIZE / sizeof(*list));
	list = kcalloc(max(room, 1u), sizeof(*list), GFP_KERNEL);
	if (!list)
		return -ENOMEM;
	if (mutex_lock_interruptible(&domain->lock)) {
		kfree(list);
		return -EINTR;
	}
	nr = vmplat_group_regions(domain, list, room);
	mutex_unlock(&domain->lock);
	arg->out_nr = nr;
	if (nr > room)
		err = -EMSGSIZE;
	else if (copy_to_user(u64_to_user_ptr(arg->buf), list, nr * sizeof(*list)))
		err = -EFAULT;
	kfree(list);
	return err;
}

static u32 nr_attached(const struct vmplat_domain *domain)
{
	const struct vmplat_group *g;
	u32 nr = 0;

	list_for_each_entry(g, &domain->groups, link)
		nr += g->attached;
	return nr;
}

static int status(struct vmplat_cmd *cmd)
{
	struct vmplat_domain *domain = cmd->file->private_data;
	struct vmplat_domain_status *arg = cmd->arg;

	if (mutex_lock_interruptible(&domain->lock))
		return -EINTR;
	arg->out_id = domain->id;
	arg->out_nr_mappings = domain->nr_mappings;
	arg->out_max_mappings = vmplat_domain_limit();
	arg->out_bytes = domain->nr_bytes;
	arg->out_iova_first = domain->hw ? domain->hw->geometry.aperture_start : 0;
	arg->out_iova_last = domain->hw ? domain->hw->geometry.aperture_end :
					  ULONG_MAX;
	arg->out_page_sizes = domain->hw ? domain->hw->pgsize_bitmap : 0;
	arg->out_nr_attached = nr_attached(domain);
	arg->out_nr_quarantined = domain->nr_groups - arg->out_nr_attached;
	mutex_unlock(&domain->lock);
	return 0;
}

/* ---- the file ------------------------------------------------------------------- */

static const struct vmplat_ioctl_op domain_ops[] = {
	VMPLAT_OP(VMPLAT_CMD_DOMAIN_ATTACH, attach, struct vmplat_domain_attach,
		  out_driver, VMPLAT_DOMAIN_ATTACH_F_QUARANTINE |
		  VMPLAT_DOMAIN_ATTACH_F_UNSAFE_INTERRUPTS,
		  VMPLAT_OUT(struct vmplat_domain_attach, out_group),
		  .finish = attach_finish),
	VMPLAT_OP(VMPLAT_CMD_DOMAIN_DETACH, detach, struct vmplat_domain_detach,
		  function, VMPLAT_DOMAIN_DETACH_F_RELEASE),
	VMPLAT_OP(VMPLAT_CMD_DOMAIN_MAP, map, struct vmplat_domain_map, bytes,
		  VMPLAT_DOMAIN_MAP_F_READ | VMPLAT_DOMAIN_MAP_F_WRITE),
	VMPLAT_OP(VMPLAT_CMD_DOMAIN_UNMAP, unmap, struct vmplat_domain_unmap,
		  out_bytes, VMPLAT_DOMAIN_UNMAP_F_ALL,
		  VMPLAT_OUT(struct vmplat_domain_unmap, out_nr),
		  .finish = unmap_finish),
	VMPLAT_OP(VMPLAT_CMD_DOMAIN_QUERY, query, struct vmplat_domain_query,
		  __reserved, 0,
		  VMPLAT_OUT(struct vmplat_domain_query, out_iova)),
	VMPLAT_OP(VMPLAT_CMD_DOMAIN_REGIONS, regions, struct vmplat_domain_regions,
		  __reserved, 0,
		  VMPLAT_OUT(struct vmplat_domain_regions, out_nr)),
	VMPLAT_OP(VMPLAT_CMD_DOMAIN_STATUS, status, struct vmplat_domain_status,
		  out_nr_quarantined, 0,
		  VMPLAT_OUT(struct vmplat_domain_status, out_id)),
};

static long domain_ioctl(struct file *file, unsigned int cmd, unsigned long arg)
{
	return vmplat_ioctl(file, cmd, arg, domain_ops, ARRAY_SIZE(domain_ops));
}

static int domain_release(struct inode *inode, struct file *file)
{
	struct vmplat_domain *domain = file->private_data;

	vmplat_groups_release(domain);
	vmplat_domain_unmap_all(domain);
	vmplat_event_domain_removed(domain);
	if (domain->hw)
		iommu_domain_free(domain->hw);
	kfree(domain);
	return 0;
}

static void show_fdinfo(struct seq_file *m, struct file *file)
{
	struct vmplat_domain *domain = file->private_data;
	const struct vmplat_group *g;

	mutex_lock(&domain->lock);
	seq_printf(m, "vmplat-domain-id:\t%llu\n", domain->id);
	seq_printf(m, "vmplat-mappings:\t%llu\n", domain->nr_mappings);
	seq_printf(m, "vmplat-mapped-bytes:\t%llu\n", domain->nr_bytes);
	list_for_each_entry(g, &domain->groups, link)
		seq_printf(m, "vmplat-group:\t%d %s\n", iommu_group_id(g->group),
			   g->attached ? "attached" : "quarantined");
	mutex_unlock(&domain->lock);
}

static const struct file_operations domain_fops = {
	.owner = THIS_MODULE,
	.unlocked_ioctl = domain_ioctl,
	.compat_ioctl = compat_ptr_ioctl,
	.release = domain_release,
	.show_fdinfo = show_fdinfo,
};

/* vmplat_domain_create - VMPLAT_DOMAIN_CREATE: empty, without a page table */
int vmplat_domain_create(struct vmplat_cmd *cmd)
{
	struct vmplat_domain_create *arg = cmd->arg;
	struct vmplat_domain *domain;
	struct file *file;

	if (arg->__reserved)
		return -EOPNOTSUPP;
	domain = kzalloc(sizeof(*domain), GFP_KERNEL_ACCOUNT);
	if (!domain)
		return -ENOMEM;
	mutex_init(&domain->lock);
	domain->mappings = RB_ROOT_CACHED;
	INIT_LIST_HEAD(&domain->groups);
	file = anon_inode_getfile("[vmplat-domain]", &domain_fops, domain,
				  O_RDWR | O_CLOEXEC);
	if (IS_ERR(file)) {
		kfree(domain);
		return PTR_ERR(file);
	}
	vmplat_event_domain_created(domain);
	cmd->new_file = file;
	return 0;
}
