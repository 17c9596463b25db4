/* SPDX-License-Identifier: LGPL-2.1-or-later */
#ifndef VMPLAT_RUN_VIRTIO_RNG_H
#define VMPLAT_RUN_VIRTIO_RNG_H

struct pci_bus;
struct vm;

/* virtio_rng_add - an entropy device fed by the host's getrandom(2) */
int virtio_rng_add(struct vm *vm, struct pci_bus *bus, unsigned int slot);

#endif
