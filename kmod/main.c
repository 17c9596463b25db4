// SPDX-License-Identifier: GPL-2.0
/*
 * The module's beginning and end, and the control device /dev/vmplat.
 *
 * Nothing here has state: every object belongs to a file, every file holds the
 * module, and so does every set of VFs; the module can only go once nothing is left.
 */
#include <linux/miscdevice.h>
#include <linux/module.h>

#include "vmplat.h"

static int info(struct vmplat_cmd *cmd)
{
	struct vmplat_info *arg = cmd->arg;

	if (arg->__reserved)
		return -EOPNOTSUPP;
	arg->out_abi = VMPLAT_ABI;
	arg->out_page_bytes = PAGE_SIZE;
	arg->out_caps = VMPLAT_CAP_MEM | VMPLAT_CAP_LOG | VMPLAT_CAP_VIEW |
			VMPLAT_CAP_FILL | VMPLAT_CAP_PINNABLE |
			VMPLAT_CAP_PCI_HOLD | VMPLAT_CAP_HUGE |
			VMPLAT_CAP_DOMAIN | VMPLAT_CAP_SRIOV;
	arg->out_max_view_mems = VMPLAT_VIEW_MAX_MEMS;
	return 0;
}

static const struct vmplat_ioctl_op dev_ops[] = {
	VMPLAT_OP(VMPLAT_CMD_INFO, info, struct vmplat_info, __reserved, 0,
		  VMPLAT_OUT(struct vmplat_info, out_abi)),
	VMPLAT_OP(VMPLAT_CMD_MEM_CREATE, vmplat_mem_create,
		  struct vmplat_mem_create, __reserved,
		  VMPLAT_MEM_F_PINNABLE | VMPLAT_MEM_F_HUGE,
		  VMPLAT_FD(struct vmplat_mem_create)),
	VMPLAT_OP(VMPLAT_CMD_LOG_CREATE, vmplat_log_create,
		  struct vmplat_log_create, threshold_pages,
		  VMPLAT_LOG_F_ALL_DIRTY,
		  VMPLAT_FD(struct vmplat_log_create)),
	VMPLAT_OP(VMPLAT_CMD_VIEW_CREATE, vmplat_view_create,
		  struct vmplat_view_create, out_nr_dirty,
		  VMPLAT_VIEW_F_INCREMENT | VMPLAT_VIEW_F_BLOCK,
		  VMPLAT_FD(struct vmplat_view_create),
		  VMPLAT_OUT(struct vmplat_view_create, out_bytes)),
	VMPLAT_OP(VMPLAT_CMD_FILL_CREATE, vmplat_fill_create,
		  struct vmplat_fill_create, out_fd, 0,
		  VMPLAT_FD(struct vmplat_fill_create)),
	VMPLAT_OP(VMPLAT_CMD_PCI_HOLD, vmplat_pci_hold_create,
		  struct vmplat_pci_hold, __reserved, VMPLAT_PCI_HOLD_F_ASK,
		  VMPLAT_FD(struct vmplat_pci_hold),
		  VMPLAT_OUT(struct vmplat_pci_hold, out_pid)),
	VMPLAT_OP(VMPLAT_CMD_DOMAIN_CREATE, vmplat_domain_create,
		  struct vmplat_domain_create, __reserved, 0,
		  VMPLAT_FD(struct vmplat_domain_create)),
	VMPLAT_OP(VMPLAT_CMD_SRIOV_CREATE, vmplat_sriov_create,
		  struct vmplat_sriov_create, out_why, 0,
		  VMPLAT_OUT(struct vmplat_sriov_create, out_generation)),
	VMPLAT_OP(VMPLAT_CMD_SRIOV_BIND, vmplat_sriov_bind,
		  struct vmplat_sriov_bind, out_why, 0,
		  VMPLAT_OUT(struct vmplat_sriov_bind, out_vf)),
	VMPLAT_OP(VMPLAT_CMD_SRIOV_DESTROY, vmplat_sriov_destroy,
		  struct vmplat_sriov_destroy, out_why, 0,
		  VMPLAT_OUT(struct vmplat_sriov_destroy, out_vf)),
	VMPLAT_OP(VMPLAT_CMD_SRIOV_STATUS, vmplat_sriov_status,
		  struct vmplat_sriov_status, out_owner, 0,
		  VMPLAT_OUT(struct vmplat_sriov_status, out_generation)),
};

static long dev_ioctl(struct file *file, unsigned int cmd, unsigned long arg)
{
	return vmplat_ioctl(file, cmd, arg, dev_ops, ARRAY_SIZE(dev_ops));
}

static const struct file_operations dev_fops = {
	.owner = THIS_MODULE,
	.open = nonseekable_open,
	.unlocked_ioctl = dev_ioctl,
	.compat_ioctl = compat_ptr_ioctl,
};

static struct miscdevice dev = {
	.minor = MISC_DYNAMIC_MINOR,
	.name = "vmplat",
	.mode = 0660,
	.fops = &dev_fops,
};

/* vmplat_is_device - is this /dev/vmplat, opened by somebody who may? */
bool vmplat_is_device(const struct file *file)
{
	return file->f_op == &dev_fops;
}

static const struct {
	int (*init)(void);
	void (*exit)(void);
} sources[] = {
	{ vmplat_source_pci_init, vmplat_source_pci_exit },
	{ vmplat_source_cpu_init, vmplat_source_cpu_exit },
	{ vmplat_source_memory_init, vmplat_source_memory_exit },
	{ vmplat_source_net_init, vmplat_source_net_exit },
};

static void sources_exit(size_t nr)
{
	while (nr--)
		sources[nr].exit();
}

static int __init sources_init(void)
{
	size_t i;
	int err;

	for (i = 0; i < ARRAY_SIZE(sources); i++) {
		err = sources[i].init();
		if (err) {
			sources_exit(i);
			return err;
		}
	}
	return 0;
}

static int __init vmplat_init(void)
{
	int err;

	err = vmplat_event_init();
	if (err)
		return err;
	err = vmplat_mem_cache_init();
	if (err)
		goto err_event;
	err = vmplat_copy_cache_init();
	if (err)
		goto err_mem_cache;
	err = vmplat_fs_init();
	if (err)
		goto err_copy_cache;
	err = vmplat_groups_init();
	if (err)
		goto err_fs;
	err = vmplat_sriov_init();
	if (err)
		goto err_groups;
	err = misc_register(&dev);
	if (err)
		goto err_sriov;
	err = sources_init();
	if (err)
		goto err_misc;
	/* Last: events begin when everything is there that makes them. */
	err = vmplat_netlink_init();
	if (err)
		goto err_sources;
	return 0;

err_sources:
	sources_exit(ARRAY_SIZE(sources));
err_misc:
	misc_deregister(&dev);
err_sriov:
	vmplat_sriov_exit();
err_groups:
	vmplat_groups_exit();
err_fs:
	vmplat_fs_exit();
err_copy_cache:
	vmplat_copy_cache_exit();
err_mem_cache:
	vmplat_mem_cache_exit();
err_event:
	vmplat_event_exit();
	return err;
}

static void __exit vmplat_exit(void)
{
	vmplat_netlink_exit();
	sources_exit(ARRAY_SIZE(sources));
	misc_deregister(&dev);
	vmplat_sriov_exit();
	vmplat_groups_exit();
	vmplat_fs_exit();
	vmplat_copy_cache_exit();
	vmplat_mem_cache_exit();
	vmplat_event_exit();	/* nothing is left that could cause one */
}

module_init(vmplat_init);
module_exit(vmplat_exit);

MODULE_DESCRIPTION("Guest memory as a file, and its past as files too");
MODULE_AUTHOR("The vmplat authors");
MODULE_LICENSE("GPL");
