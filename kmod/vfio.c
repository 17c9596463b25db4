// SPDX-License-Identifier: GPL-2.0
/*
 * vmplat_vfio: vfio-pci for functions that vmplat hands out. It says who has a
 * function open, and refuses to open one that is being taken away; all the rest is
 * the kernel's vfio-pci-core.
 *
 * It binds nothing by itself: only functions whose driver_override names it.
 */
#include <linux/module.h>
#include <linux/pci.h>
#include <linux/vfio.h>
#include <linux/vfio_pci_core.h>

#include "pci_use.h"

struct function {
	struct vfio_pci_core_device core;
	struct vmplat_pci_use *use;
};

static struct function *function_of(struct vfio_device *vdev)
{
	return container_of(vdev, struct function, core.vdev);
}

static int open_device(struct vfio_device *vdev)
{
	struct function *f = function_of(vdev);
	int err = vmplat_pci_use_begin(f->use);

	if (err)
		return err;
	err = vfio_pci_core_enable(&f->core);
	if (err) {
		vmplat_pci_use_end(f->use);
		return err;
	}
	vfio_pci_core_finish_enable(&f->core);
	return 0;
}

static void close_device(struct vfio_device *vdev)
{
	vfio_pci_core_close_device(vdev);
	/* Last: whoever hears of it may unbind at once. */
	vmplat_pci_use_end(function_of(vdev)->use);
}

/* Somebody unbinds the driver while the function is open; called again and again. */
static void request(struct vfio_device *vdev, unsigned int count)
{
	vmplat_pci_use_asked(function_of(vdev)->use);
	vfio_pci_core_request(vdev, count);
}

static void ask(void *data)
{
	struct function *f = data;

	request(&f->core.vdev, 0);
}

static const struct vfio_device_ops ops = {
	.name = "vmplat-vfio",
	.init = vfio_pci_core_init_dev,
	.release = vfio_pci_core_release_dev,
	.open_device = open_device,
	.close_device = close_device,
	.ioctl = vfio_pci_core_ioctl,
#ifdef VMPLAT_HAVE_VFIO_REGION_INFO_CAPS
	.get_region_info_caps = vfio_pci_ioctl_get_region_info,
#endif
	.device_feature = vfio_pci_core_ioctl_feature,
	.read = vfio_pci_core_read,
	.write = vfio_pci_core_write,
	.mmap = vfio_pci_core_mmap,
	.request = request,
	.match = vfio_pci_core_match,
#ifdef VMPLAT_HAVE_VFIO_MATCH_TOKEN_UUID
	.match_token_uuid = vfio_pci_core_match_token_uuid,
#endif
#ifdef VMPLAT_HAVE_VFIO_IOMMUFD
	.bind_iommufd = vfio_iommufd_physical_bind,
	.unbind_iommufd = vfio_iommufd_physical_unbind,
	.attach_ioas = vfio_iommufd_physical_attach_ioas,
#endif
#ifdef VMPLAT_HAVE_VFIO_DETACH_IOAS
	.detach_ioas = vfio_iommufd_physical_detach_ioas,
#endif
};

static int probe(struct pci_dev *pdev, const struct pci_device_id *id)
{
	struct function *f;
	int err;

	if (pdev->hdr_type != PCI_HEADER_TYPE_NORMAL)
		return -EINVAL;
	f = vfio_alloc_device(function, core.vdev, &pdev->dev, &ops);
	if (IS_ERR(f))
		return PTR_ERR(f);
	f->use = vmplat_pci_use_add(pdev, ask, f);
	if (!f->use) {
		err = -ENOMEM;
		goto put_device;
	}
	/* vfio-pci-core finds it there; from now on it can be opened. */
	dev_set_drvdata(&pdev->dev, &f->core);
	err = vfio_pci_core_register_device(&f->core);
	if (err)
		goto remove_use;
	return 0;

remove_use:
	vmplat_pci_use_remove(f->use);
put_device:
	vfio_put_device(&f->core.vdev);
	return err;
}

static void remove(struct pci_dev *pdev)
{
	struct vfio_pci_core_device *core = dev_get_drvdata(&pdev->dev);
	struct function *f = container_of(core, struct function, core);

	vfio_pci_core_unregister_device(core);	/* waits for who has it open */
	vmplat_pci_use_remove(f->use);
	vfio_put_device(&core->vdev);
}

static const struct pci_device_id ids[] = {
	{ PCI_DRIVER_OVERRIDE_DEVICE_VFIO(PCI_ANY_ID, PCI_ANY_ID) },
	{}
};
MODULE_DEVICE_TABLE(pci, ids);

static int sriov_configure(struct pci_dev *pdev, int nr)
{
	return vfio_pci_core_sriov_configure(dev_get_drvdata(&pdev->dev), nr);
}

static struct pci_driver vfio_driver = {
	.name = "vmplat_vfio",
	.id_table = ids,
	.probe = probe,
	.remove = remove,
	.sriov_configure = sriov_configure,
	.err_handler = &vfio_pci_core_err_handlers,
	.driver_managed_dma = true,
};
module_pci_driver(vfio_driver);

MODULE_DESCRIPTION("VFIO for PCI functions, with users that are known");
MODULE_AUTHOR("The vmplat authors");
MODULE_LICENSE("GPL");
