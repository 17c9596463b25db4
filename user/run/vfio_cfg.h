/* SPDX-License-Identifier: GPL-2.0-only */
/*
 * What a guest sees of the configuration space of a function that it was given.
 *
 * The guest has 256 bytes (mechanism #1), so that what is in extended space, such as
 * SR-IOV, is out of its reach. Of these
 *
 *   - the header is ours: BARs have addresses of the guest, the command register
 *     acts on the guest's decoding first, there is no expansion ROM;
 *   - MSI and MSI-X are ours: messages go through KVM;
 *   - power management is ours: the guest may set a state, the function stays in D0;
 *   - PCI Express says "root complex integrated endpoint", as there is no port above:
 *     link, slot and root registers are none; device control is the function's own;
 *   - vital product data and what vendors define are the function's;
 *   - other capabilities are taken off the list;
 *   - what is outside of all capabilities is the function's: drivers know of it.
 *
 * The kernel virtualises what is passed on once more: none of it can harm the host.
 */
#ifndef VMPLAT_RUN_VFIO_CFG_H
#define VMPLAT_RUN_VFIO_CFG_H

#include "pci.h"

struct vfio_cfg {
	bool through[PCI_CFG_BYTES];	/* the function answers, not we */
	/* offsets of capabilities, 0: none */
	uint8_t pm, msi, msix, exp;
	/* as PCI_MSI_FLAGS and PCI_MSIX_* say it */
	bool msi_64;
	unsigned int msi_max, msix_nr;
	unsigned int table_bar, pba_bar;
	uint32_t table, pba;		/* offsets in these */
	bool flr;			/* by device control */
};

/**
 * vfio_cfg_build - make @dev's configuration space from the function's own
 * @dev: fresh from pci_dev_init(); BARs and INTx are the caller's to add
 * @host: as VFIO shows it
 *
 * NULL, or what is wrong with @host.
 */
const char *vfio_cfg_build(struct vfio_cfg *c, struct pci_dev *dev,
			   const uint8_t host[PCI_CFG_BYTES]);

/** vfio_cfg_ids - what pci_dev_init() wants of @host */
struct pci_ids vfio_cfg_ids(const uint8_t host[PCI_CFG_BYTES]);

/** vfio_cfg_bar - what kind of BAR @n of @host is, if it has a size */
enum pci_bar_kind vfio_cfg_bar(const uint8_t host[PCI_CFG_BYTES], unsigned int n, bool *prefetch);

/** vfio_cfg_command - the command register that the function gets when the guest writes @guest */
uint16_t vfio_cfg_command(uint16_t guest);

/* A part of a BAR: what KVM maps as memory, [from, to) */
struct vfio_piece {
	uint64_t from, to;
};

#define VFIO_PIECES_MAX	8

/**
 * vfio_cfg_pieces - take pages that are to be trapped out of a BAR's mappable parts
 * @parts: @nr of them, ascending
 * @pieces: room for VFIO_PIECES_MAX
 *
 * Pages that hold the MSI-X table or its pending bits stay trapped. Returns how many
 * pieces there are; what does not fit is trapped as well.
 */
unsigned int vfio_cfg_pieces(const struct vfio_cfg *c, unsigned int bar,
			     const struct vfio_piece *parts, unsigned int nr,
			     struct vfio_piece pieces[VFIO_PIECES_MAX]);

#endif
