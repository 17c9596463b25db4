/* SPDX-License-Identifier: LGPL-2.1-or-later */
#ifndef VMPLAT_RUN_VIRTIO_NET_H
#define VMPLAT_RUN_VIRTIO_NET_H

#include <stdint.h>

struct net;
struct pci_bus;
struct virtio_dev;
struct vm;

/*
 * A virtio-net device in @slot (0: the first free one), owned by the VM and, in
 * turn, owner of @net; on error nothing is left and @net is still the caller's.
 */
int virtio_net_add(struct vm *vm, struct pci_bus *bus, unsigned int slot, struct net *net,
		   const uint8_t mac[6], struct virtio_dev **out);

#endif
