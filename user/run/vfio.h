/* SPDX-License-Identifier: GPL-2.0-only */
/*
 * PCI functions of the host in the hands of the guest, through VFIO.
 *
 *   vfio_host.c   which function a name means, and why it cannot be given away
 *   vfio.c        the host's half: container, groups, devices; what they may reach
 *   vfio_cfg.c    what the guest sees of configuration space
 *   vfio_irq.c    INTx, MSI and MSI-X, each an event descriptor from VFIO to KVM
 *   vfio_pci.c    the guest's half: a function on its bus
 *
 * All groups of a VM are in one container, in which all of its memory is mapped at the
 * addresses that the guest uses, pinned, for as long as there is a device. Memory that
 * is plugged later is mapped too. KVM reaches BARs as memory; what is trapped is
 * configuration space, the MSI-X table, I/O ports, and BARs that cannot be mapped.
 *
 * A device is opened and closed while the guest runs: the kernel resets it then, which
 * may take its time. It is plugged and unplugged while the VM is halted, as all are. A
 * VM that is halted or paused does not halt its devices: their DMA goes on, interrupts
 * wait. When the process ends, however it does, the kernel takes everything back and
 * resets the device.
 *
 * Locks: the operation lock covers the container and the list of devices; a function's
 * interrupts have a lock of their own, inside pci_bus.lock (the MSI-X table is written
 * without the latter).
 */
#ifndef VMPLAT_RUN_VFIO_H
#define VMPLAT_RUN_VFIO_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

struct pci_bus;
struct vfio_dev;
struct vm;
struct vm_hostdev;

#define VFIO_ADDRESS	16	/* "0000:01:00.0" */

/**
 * vfio_host_check - can this function be given to a guest?
 * @address: of what it means
 * @group: its IOMMU group
 * @why: the blocker and what helps, as a sentence
 *
 * Looks at the driver, the group, who has it open, who has claimed it; changes nothing.
 */
int vfio_host_check(const struct vm_hostdev *d, char address[VFIO_ADDRESS], unsigned int *group,
		    char *why, size_t room);

/**
 * vfio_open - take the function @d from the host: group, container, memory mapped for it
 *
 * Under the operation lock; the guest may run. On failure vm_error() has the sentence,
 * and nothing is taken.
 */
int vfio_open(struct vm *vm, const struct vm_hostdev *d, struct vfio_dev **dev);
/** vfio_close - give it back: it is reset, and reaches nothing any more; NULL is nothing */
void vfio_close(struct vfio_dev *dev);

/**
 * vfio_plug - a function in @slot of @bus (0: the first free), as a device of the VM
 *
 * The VM is halted. It ends by vm_device_remove() or with the VM; @dev is closed later.
 */
int vfio_plug(struct vfio_dev *dev, struct pci_bus *bus, unsigned int slot);
struct vm_device *vfio_entry(struct vfio_dev *dev);
unsigned int vfio_slot(const struct vfio_dev *dev);

/** vfio_driven - has the guest turned on memory, ports or DMA of it? */
bool vfio_driven(struct vfio_dev *dev);
/** vfio_resets - can it be reset without resetting others? */
bool vfio_resets(const struct vfio_dev *dev);
const char *vfio_address(const struct vfio_dev *dev);
/** vfio_wanted - the host has asked for it since the last call; vm_device_changed() said so */
bool vfio_wanted(struct vfio_dev *dev);
/** vfio_gone - has it been pulled out? */
bool vfio_gone(struct vfio_dev *dev);

/**
 * vfio_memory - @bytes of memory at @at are at @gpa: let devices reach it. No devices: nothing
 *
 * vfio_no_memory() before it goes. Under the operation lock.
 */
int vfio_memory(struct vm *vm, uint64_t gpa, uint64_t bytes, void *at);
void vfio_no_memory(struct vm *vm, uint64_t gpa, uint64_t bytes);

#endif
