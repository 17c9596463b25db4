/* SPDX-License-Identifier: LGPL-2.1-or-later */
#ifndef VMPLAT_RUN_VIRTIO_BLK_H
#define VMPLAT_RUN_VIRTIO_BLK_H

struct blk;
struct pci_bus;
struct virtio_dev;
struct vm;

/*
 * virtio_blk_add - a virtio disk on @bus
 * @slot: 0: the first free one
 * @serial: at most 20 bytes, what the guest's get-id request answers; or NULL
 *
 * The image stays the caller's and must outlive the device.  Read-only if
 * @blk is.  The guest's disks appear in the order of their slots.
 */
int virtio_blk_add(struct vm *vm, struct pci_bus *bus, unsigned int slot, struct blk *blk,
		   const char *serial, struct virtio_dev **out);

#endif
