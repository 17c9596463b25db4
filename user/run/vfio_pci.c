// SPDX-License-Identifier: GPL-2.0-only
/*
 * The guest's half: a function on its bus, whose configuration space is made by
 * vfio_cfg.c, and whose BARs are memory of KVM where VFIO lets them be mapped.
 */
#include <errno.h>
#include <linux/kvm.h>
#include <linux/pci_regs.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/ioctl.h>
#include <unistd.h>

#include "vfio_priv.h"
#include "vm_priv.h"

#define PAGE	4096u

/* ---- BARs as memory of KVM; pci_bus.lock ---------------------------------------------- */

static int set_slot(struct vfio_dev *dev, const struct vfio_bar *bar, unsigned int i, uint64_t bytes)
{
	struct kvm_userspace_memory_region r = {
		.slot = dev->slot_base + bar->index * VFIO_PIECES_MAX + i,
		.guest_phys_addr = bar->shown_at + bar->pieces[i].from,
		.memory_size = bytes,
		.userspace_addr = (uintptr_t)bar->maps[i],
	};

	return ioctl(dev->vm->fd, KVM_SET_USER_MEMORY_REGION, &r) ? -errno : 0;
}

static void hide(struct vfio_dev *dev, struct vfio_bar *bar)
{
	for (unsigned int i = 0; i < bar->nr_pieces && bar->shown; i++)
		set_slot(dev, bar, i, 0);
	bar->shown = false;
}

/* What KVM does not take is trapped: slower, and nothing else. */
static void show(struct vfio_dev *dev, struct vfio_bar *bar, uint64_t gpa)
{
	if (gpa % PAGE)
		return;
	bar->shown = true;
	bar->shown_at = gpa;
	for (unsigned int i = 0; i < bar->nr_pieces; i++)
		set_slot(dev, bar, i, bar->pieces[i].to - bar->pieces[i].from);
}

static void bar_mapped(struct pci_dev *pci, unsigned int n)
{
	struct vfio_dev *dev = pci->opaque;

	show(dev, &dev->bars[n], pci->bar[n].addr);
}

static void bar_unmapped(struct pci_dev *pci, unsigned int n)
{
	struct vfio_dev *dev = pci->opaque;

	hide(dev, &dev->bars[n]);
}

/* ---- BARs as this process sees them: what is trapped ------------------------------------ */

static uint64_t bar_read(void *opaque, uint64_t off, unsigned int len)
{
	struct vfio_bar *bar = opaque;
	uint64_t val = UINT64_MAX;

	if (vfio_table_read(bar->dev, bar->index, off, len, &val))
		return val;
	val = 0;
	if (off >= bar->bytes || pread(bar->dev->fd, &val, len, (off_t)(bar->offset + off)) != (ssize_t)len)
		return UINT64_MAX;
	return val;
}

static void bar_write(void *opaque, uint64_t off, unsigned int len, uint64_t val)
{
	struct vfio_bar *bar = opaque;

	if (vfio_table_write(bar->dev, bar->index, off, len, val) || off >= bar->bytes)
		return;
	if (pwrite(bar->dev->fd, &val, len, (off_t)(bar->offset + off)) < 0)
		return;		/* the function does not answer: lost, as on the wire */
}

static const struct bus_ops bar_ops = { bar_read, bar_write };

/* ---- configuration space; pci_bus.lock ---------------------------------------------------- */

static bool touches(unsigned int off, unsigned int len, unsigned int at, unsigned int bytes)
{
	return off < at + bytes && at < off + len;
}

/* "An interrupt is pending" is the function's to say, for drivers that share a line. */
static void read_status(struct vfio_dev *dev)
{
	uint8_t host = (uint8_t)vfio_cfg_read(dev, PCI_STATUS, 1);

	dev->pci.cfg[PCI_STATUS] &= ~PCI_STATUS_INTERRUPT;
	if (dev->irqs.intx_there)
		dev->pci.cfg[PCI_STATUS] |= host & PCI_STATUS_INTERRUPT;
}

static void cfg_read(struct pci_dev *pci, unsigned int off, unsigned int len)
{
	struct vfio_dev *dev = pci->opaque;
	uint32_t val = 0;
	bool asked = false;

	if (touches(off, len, PCI_STATUS, 1))
		read_status(dev);
	for (unsigned int i = 0; i < len; i++) {
		if (!dev->cfg.through[off + i])
			continue;
		if (!asked)
			val = vfio_cfg_read(dev, off, len);
		asked = true;
		pci->cfg[off + i] = (uint8_t)(val >> (8 * i));
	}
}

static void set_command(struct vfio_dev *dev)
{
	uint16_t guest = (uint16_t)pci_cfg_get(&dev->pci, PCI_COMMAND, 2);

	vfio_cfg_write(dev, PCI_COMMAND, 2, vfio_cfg_command(guest));
}

/* DMA off even where there is no reset */
static void reset_function(struct vfio_dev *dev)
{
	vfio_irqs_update(dev, true);
	vfio_cfg_write(dev, PCI_COMMAND, 2, vfio_cfg_command(0));
	vfio_reset(dev);
	vfio_cfg_write(dev, PCI_COMMAND, 2, vfio_cfg_command(0));
	vfio_table_reset(dev);
}

/*
 * The guest's own reset. Its kernel saves and restores what it wants to keep; addresses
 * of BARs stay, which is more than it may expect.
 */
static void guest_flr(struct vfio_dev *dev)
{
	struct pci_dev *pci = &dev->pci;

	reset_function(dev);
	pci_cfg_put(pci, PCI_COMMAND, 2, 0);
	if (dev->cfg.msi)
		pci_cfg_put(pci, dev->cfg.msi + PCI_MSI_FLAGS, 2,
			    pci_cfg_get(pci, dev->cfg.msi + PCI_MSI_FLAGS, 2) &
			    ~(uint32_t)(PCI_MSI_FLAGS_ENABLE | PCI_MSI_FLAGS_QSIZE));
	if (dev->cfg.msix)
		pci_cfg_put(pci, dev->cfg.msix + PCI_MSIX_FLAGS, 2,
			    pci_cfg_get(pci, dev->cfg.msix + PCI_MSIX_FLAGS, 2) & PCI_MSIX_FLAGS_QSIZE);
	pci_cfg_changed(pci);
}

/* the guest's bytes go to the function, but for a reset, which is ours to do */
static void write_through(struct vfio_dev *dev, unsigned int off, unsigned int len, uint32_t val)
{
	unsigned int flr = dev->cfg.exp + PCI_EXP_DEVCTL + 1;	/* the byte with the bit */

	if (dev->cfg.flr && touches(off, len, flr, 1) &&
	    val >> (8 * (flr - off)) & PCI_EXP_DEVCTL_BCR_FLR >> 8) {
		val &= ~((uint32_t)(PCI_EXP_DEVCTL_BCR_FLR >> 8) << (8 * (flr - off)));
		guest_flr(dev);
	}
	while (len && !dev->cfg.through[off]) {	/* what is left of a border is ours */
		off++, len--;
		val >>= 8;
	}
	while (len && !dev->cfg.through[off + len - 1])
		len--;
	if (len == 1 || len == 2 || len == 4)
		vfio_cfg_write(dev, off, len, val);
}

static void cfg_written(struct pci_dev *pci, unsigned int off, unsigned int len, uint32_t val)
{
	struct vfio_dev *dev = pci->opaque;

	if (touches(off, len, PCI_COMMAND, 2))
		set_command(dev);
	if (dev->cfg.through[off] || dev->cfg.through[off + len - 1])
		write_through(dev, off, len, val);
	vfio_irqs_update(dev, false);
}

static const struct pci_dev_ops pci_ops = {
	.bar_mapped = bar_mapped,
	.bar_unmapped = bar_unmapped,
	.cfg_read = cfg_read,
	.cfg_written = cfg_written,
};

void vfio_function_init(struct vfio_dev *dev, const struct pci_ids *ids)
{
	pci_dev_init(&dev->pci, ids, &pci_ops, dev);
}

bool vfio_driven(struct vfio_dev *dev)
{
	return dev->plugged && pci_dev_command(&dev->pci) &
	       (PCI_COMMAND_IO | PCI_COMMAND_MEMORY | PCI_COMMAND_MASTER);
}

/* ---- as a device of the VM ------------------------------------------------------------------ */

static void op_reset(void *opaque)
{
	struct vfio_dev *dev = opaque;

	reset_function(dev);
	pci_dev_reset(&dev->pci);
	vfio_irqs_update(dev, false);
}

/* What is left is closed by whoever has opened it. */
static void op_destroy(void *opaque)
{
	struct vfio_dev *dev = opaque;

	vfio_irqs_update(dev, true);
	vfio_cfg_write(dev, PCI_COMMAND, 2, vfio_cfg_command(0));
	pci_dev_exit(&dev->pci);
	dev->plugged = false;
}

static const struct vm_device_ops device_ops = {
	.reset = op_reset,
	.destroy = op_destroy,
};

/* The kernel's words for what does not fit into the guest's address space. */
static int no_room(struct vfio_dev *dev)
{
	unsigned int largest = 0;

	for (unsigned int n = 1; n < PCI_BARS; n++)
		if (dev->bars[n].size > dev->bars[largest].size)
			largest = n;
	return vm_error(dev->vm, -ENOSPC, "%s does not fit into the guest: no PCI slot is left, or no addresses for its BAR %u of %llu KiB (there are %llu MiB for 32-bit BARs, %llu GiB for others)",
			dev->address, largest, (unsigned long long)dev->bars[largest].size >> 10,
			(VM_PCI_MMIO_END - VM_PCI_MMIO_BASE) >> 20,
			(VM_PCI_MMIO64_END - VM_PCI_MMIO64_BASE) >> 30);
}

static void add_bars(struct vfio_dev *dev)
{
	for (unsigned int n = 0; n < PCI_BARS; n++) {
		struct vfio_bar *bar = &dev->bars[n];

		if (bar->kind == PCI_BAR_NONE)
			continue;
		dev->pci.bar[n].prefetch = bar->prefetch;
		pci_dev_bar(&dev->pci, n, bar->kind, bar->size, &bar_ops, bar);
	}
	/* the line is KVM's, not the bus's; the guest only has to know that it is there */
	if (dev->irqs.intx_there)
		dev->pci.cfg[PCI_INTERRUPT_PIN] = 1;
}

int vfio_plug(struct vfio_dev *dev, struct pci_bus *bus, unsigned int slot)
{
	int ret;

	add_bars(dev);
	ret = pci_dev_plug(bus, &dev->pci, slot);
	if (ret == -ENOSPC)
		return no_room(dev);
	if (ret)
		return vm_error(dev->vm, ret, "%s: PCI slot %u: %s", dev->address, slot, strerror(-ret));
	dev->entry = (struct vm_device){ .version = 1, .ops = &device_ops, .opaque = dev };
	snprintf(dev->entry.name, sizeof(dev->entry.name), "pci/00:%02x.0/vfio", dev->pci.slot);
	ret = vm_device_add(dev->vm, &dev->entry);
	if (ret) {
		pci_dev_exit(&dev->pci);
		return ret;
	}
	dev->plugged = true;
	vfio_cfg_write(dev, PCI_COMMAND, 2, vfio_cfg_command(0));
	vfio_irqs_update(dev, false);
	return 0;
}

struct vm_device *vfio_entry(struct vfio_dev *dev)
{
	return &dev->entry;
}

unsigned int vfio_slot(const struct vfio_dev *dev)
{
	return dev->pci.slot;
}
