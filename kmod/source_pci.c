// SPDX-License-Identifier: GPL-2.0
/*
 * PCI functions, and virtual functions once more as what their PF has. Told by
 * the bus, which calls with the device's lock held where drivers come and go.
 */
#include <linux/device.h>
#include <linux/pci.h>
#include <net/netlink.h>

#include "event.h"
#include "pci_use.h"

static u64 pci_id(struct pci_dev *pdev)
{
	return (u64)pci_domain_nr(pdev->bus) << 16 | pci_dev_id(pdev);
}

static int put_driver(struct sk_buff *skb, int type, struct pci_dev *pdev)
{
	const struct device_driver *driver = pdev->dev.driver;

	return driver ? nla_put_string(skb, type, driver->name) : 0;
}

static int put_pci_user(struct sk_buff *skb, const struct pci_dev *pdev)
{
	struct vmplat_pci_user user = vmplat_pci_user(pdev);

	if (!user.pid)
		return 0;
	if (nla_put_u32(skb, VMPLAT_NL_PCI_USER, user.pid) ||
	    (user.asked && nla_put_flag(skb, VMPLAT_NL_PCI_ASKED)))
		return -EMSGSIZE;
	return 0;
}

static int put_pci(struct sk_buff *skb, const void *obj)
{
	struct pci_dev *pdev = (struct pci_dev *)obj;

	if (nla_put_string(skb, VMPLAT_NL_PCI_ADDRESS, pci_name(pdev)) ||
	    nla_put_u16(skb, VMPLAT_NL_PCI_VENDOR, pdev->vendor) ||
	    nla_put_u16(skb, VMPLAT_NL_PCI_DEVICE, pdev->device) ||
	    nla_put_u16(skb, VMPLAT_NL_PCI_SUBSYSTEM_VENDOR,
			pdev->subsystem_vendor) ||
	    nla_put_u16(skb, VMPLAT_NL_PCI_SUBSYSTEM_DEVICE,
			pdev->subsystem_device) ||
	    nla_put_u32(skb, VMPLAT_NL_PCI_CLASS_CODE, pdev->class) ||
	    nla_put_u8(skb, VMPLAT_NL_PCI_REVISION, pdev->revision) ||
	    put_driver(skb, VMPLAT_NL_PCI_DRIVER, pdev) ||
	    nla_put_s32(skb, VMPLAT_NL_PCI_NUMA_NODE, dev_to_node(&pdev->dev)))
		return -EMSGSIZE;
	if (pdev->is_virtfn &&
	    nla_put_string(skb, VMPLAT_NL_PCI_PHYSFN,
			   pci_name(pci_physfn(pdev))))
		return -EMSGSIZE;
	return put_pci_user(skb, pdev);
}

static const struct vmplat_event_class pci_class = {
	.class = VMPLAT_CLASS_PCI,
	.nest = VMPLAT_NL_A_PCI,
	.max_bytes = 320,
	.put = put_pci,
};

static int put_vf(struct sk_buff *skb, const void *obj)
{
	struct pci_dev *pdev = (struct pci_dev *)obj;

	if (nla_put_string(skb, VMPLAT_NL_VF_ADDRESS, pci_name(pdev)) ||
	    nla_put_string(skb, VMPLAT_NL_VF_PHYSFN,
			   pci_name(pci_physfn(pdev))) ||
	    nla_put_u32(skb, VMPLAT_NL_VF_INDEX, pci_iov_vf_id(pdev)) ||
	    put_driver(skb, VMPLAT_NL_VF_DRIVER, pdev))
		return -EMSGSIZE;
	return 0;
}

static const struct vmplat_event_class vf_class = {
	.class = VMPLAT_CLASS_VF,
	.nest = VMPLAT_NL_A_VF,
	.max_bytes = 256,
	.put = put_vf,
};

static void added(struct pci_dev *pdev)
{
	vmplat_event_add(&pci_class, pci_id(pdev), INVALID_UID,
			 VMPLAT_ACTION_ADD, pdev);
	if (pdev->is_virtfn)
		vmplat_event_add(&vf_class, pci_id(pdev), INVALID_UID,
				 VMPLAT_ACTION_ADD, pdev);
}

static void changed(struct pci_dev *pdev, enum vmplat_action action)
{
	vmplat_event_change(&pci_class, pci_id(pdev), action, pdev);
	if (pdev->is_virtfn)
		vmplat_event_change(&vf_class, pci_id(pdev), action, pdev);
}

static void removed(struct pci_dev *pdev)
{
	if (pdev->is_virtfn)
		vmplat_event_remove(&vf_class, pci_id(pdev),
				    VMPLAT_ACTION_REMOVE);
	vmplat_event_remove(&pci_class, pci_id(pdev), VMPLAT_ACTION_REMOVE);
}

/* ---- hooks for pci_use.c ------------------------------------------------------ */

void vmplat_event_pci_opened(struct pci_dev *pdev)
{
	vmplat_event_change(&pci_class, pci_id(pdev), VMPLAT_ACTION_OPEN, pdev);
}

void vmplat_event_pci_asked(struct pci_dev *pdev)
{
	vmplat_event_change(&pci_class, pci_id(pdev), VMPLAT_ACTION_ASK, pdev);
}

void vmplat_event_pci_closed(struct pci_dev *pdev)
{
	vmplat_event_change(&pci_class, pci_id(pdev), VMPLAT_ACTION_CLOSE, pdev);
}

static int notify(struct notifier_block *nb, unsigned long what, void *data)
{
	struct pci_dev *pdev = to_pci_dev(data);

	switch (what) {
	case BUS_NOTIFY_ADD_DEVICE:
		added(pdev);
		break;
	case BUS_NOTIFY_BOUND_DRIVER:
		changed(pdev, VMPLAT_ACTION_BIND);
		break;
	case BUS_NOTIFY_UNBOUND_DRIVER:
		changed(pdev, VMPLAT_ACTION_UNBIND);
		break;
	case BUS_NOTIFY_REMOVED_DEVICE:
		removed(pdev);
		break;
	}
	return NOTIFY_DONE;
}

static struct notifier_block nb = { .notifier_call = notify };

static int found(struct device *dev, void *unused)
{
	struct pci_dev *pdev = to_pci_dev(dev);

	device_lock(dev);	/* keeps the driver, and so its name */
	vmplat_event_found(&pci_class, pci_id(pdev), pdev);
	if (pdev->is_virtfn)
		vmplat_event_found(&vf_class, pci_id(pdev), pdev);
	device_unlock(dev);
	return 0;
}

int vmplat_source_pci_init(void)
{
	int err = bus_register_notifier(&pci_bus_type, &nb);

	if (err)
		return err;
	return bus_for_each_dev(&pci_bus_type, NULL, NULL, found);
}

void vmplat_source_pci_exit(void)
{
	bus_unregister_notifier(&pci_bus_type, &nb);
}
