/* SPDX-License-Identifier: LGPL-2.1-or-later */
/*
 * PCI: a host bridge, one bus, its functions.
 *
 * Config space is reached through mechanism #1 (PCI Local Bus 3.0, 3.2.2.3.2).
 * A function is a byte array with a write mask; behaviour hangs on three places
 * only: BARs that start or stop decoding, MSI-X, and config registers a device
 * asks to see itself.  BARs get addresses at plug time, as firmware would do,
 * and may be moved by the guest at any time.
 *
 * Locks: pci_bus.lock covers the latch, the slots, every function's config bytes
 * and BAR mappings.  Inside it: pci_msix.lock (table and pending bits) and
 * pci_bus.irq_lock (INTx levels).  Interrupts are raised under the inner locks
 * only, so an I/O thread never waits for a config access.
 */
#ifndef VMPLAT_RUN_PCI_H
#define VMPLAT_RUN_PCI_H

#include <pthread.h>
#include <stdbool.h>
#include <stdint.h>

#include "bus.h"
#include "state.h"
#include "vm.h"

#define PCI_CFG_BYTES		256
#define PCI_SLOTS		32
#define PCI_BARS		6
#define PCI_NO_VECTOR		0xffff

struct pci_bus;
struct pci_dev;

/* --- the bus ------------------------------------------------------------- */

/*
 * Creates the bus, its host bridge at 00:00.0 and the config ports, and adds
 * itself to the VM's devices, which also free it: call it before adding others.
 */
int pci_bus_new(struct vm *vm, struct pci_bus **out);
struct vm *pci_bus_vm(const struct pci_bus *bus);

/* --- a function ---------------------------------------------------------- */

enum pci_bar_kind {
	PCI_BAR_NONE,
	PCI_BAR_IO,
	PCI_BAR_MEM32,
	PCI_BAR_MEM64,		/* takes the next BAR too */
};

struct pci_bar {
	enum pci_bar_kind kind;
	bool prefetch;
	uint64_t size;			/* power of two */
	const struct bus_ops *ops;
	void *opaque;
	uint64_t home;			/* where it is after reset */
	uint64_t addr;			/* where it decodes; valid if mapped */
	bool mapped;
};

/* All run under pci_bus.lock, on a vCPU thread or during reset and load. */
struct pci_dev_ops {
	/* The BAR now decodes at bar->addr, or is about to stop doing so. */
	void (*bar_mapped)(struct pci_dev *dev, unsigned int bar);
	void (*bar_unmapped)(struct pci_dev *dev, unsigned int bar);
	/* Before a config read: refresh cfg[].  After a config write, of @val. */
	void (*cfg_read)(struct pci_dev *dev, unsigned int off, unsigned int len);
	void (*cfg_written)(struct pci_dev *dev, unsigned int off, unsigned int len, uint32_t val);
};

struct pci_msix;

struct pci_dev {
	struct pci_bus *bus;
	unsigned int slot;
	const struct pci_dev_ops *ops;
	void *opaque;			/* the device model's */
	uint8_t cfg[PCI_CFG_BYTES];
	uint8_t wmask[PCI_CFG_BYTES];	/* bits the guest may change */
	uint8_t home_cfg[PCI_CFG_BYTES];/* cfg at plug time, for reset */
	struct pci_bar bar[PCI_BARS];
	unsigned int cap_last;		/* offset of the last capability */
	unsigned int cap_end;		/* first free byte for the next one */
	struct pci_msix *msix;		/* NULL: none */
	bool has_intx;
	bool intx_asserted;		/* by the device; (irq_lock) */
	bool intx_disabled;		/* by the guest; (irq_lock) */
};

struct pci_ids {
	uint16_t vendor, device, sub_vendor, sub_device;
	uint32_t class_rev;		/* class << 8 | revision */
};

/*
 * Life of a function: init, bars and capabilities, plug; unplug, exit.
 * Plugging assigns addresses and makes it visible; with @slot 0 the first free
 * one is taken.  BARs go below 4 GiB, but for those of 64 bits that are large or
 * find no place there.  -ENOSPC: no slot or no address space; -EBUSY: slot taken.
 */
void pci_dev_init(struct pci_dev *dev, const struct pci_ids *ids,
		  const struct pci_dev_ops *ops, void *opaque);
void pci_dev_bar(struct pci_dev *dev, unsigned int n, enum pci_bar_kind kind,
		 uint64_t size, const struct bus_ops *ops, void *opaque);
/* Room for a capability of @len bytes; returns its offset, or -ENOSPC. */
int pci_dev_cap(struct pci_dev *dev, uint8_t id, unsigned int len);
void pci_dev_intx(struct pci_dev *dev);
int pci_dev_plug(struct pci_bus *bus, struct pci_dev *dev, unsigned int slot);
void pci_dev_unplug(struct pci_dev *dev);
void pci_dev_exit(struct pci_dev *dev);

/* Power-on state; the device is quiesced. */
void pci_dev_reset(struct pci_dev *dev);
void pci_dev_save(struct pci_dev *dev, struct state_writer *w);
int pci_dev_load(struct pci_dev *dev, struct state_reader *r);

/* Level of the function's INTA; shared lines are ORed. */
void pci_intx_set(struct pci_dev *dev, bool level);

/* pci_bus.lock held: the model has changed config bytes; what decodes follows. */
void pci_cfg_changed(struct pci_dev *dev);
/* What the guest has in the command register. */
uint16_t pci_dev_command(struct pci_dev *dev);

void pci_cfg_put(struct pci_dev *dev, unsigned int off, unsigned int len, uint32_t val);
uint32_t pci_cfg_get(const struct pci_dev *dev, unsigned int off, unsigned int len);

/* --- MSI-X (PCI Local Bus 3.0, 6.8.2) ------------------------------------ */

/*
 * Adds the capability with @nr vectors (1..2048); table and pending bits get
 * BAR @bar to themselves.
 */
int pci_msix_add(struct pci_dev *dev, unsigned int bar, unsigned int nr);
bool pci_msix_enabled(struct pci_dev *dev);
unsigned int pci_msix_nr(const struct pci_dev *dev);
/*
 * Deliver vector @n now, or set its pending bit while it is masked.  Nothing
 * happens when MSI-X is off or @n is out of range.
 */
void pci_msix_raise(struct pci_dev *dev, unsigned int n);

/* for pci.c */
void pci_msix_cfg_written(struct pci_dev *dev);
void pci_msix_reset(struct pci_dev *dev);
void pci_msix_save(struct pci_dev *dev, struct state_writer *w);
int pci_msix_load(struct pci_dev *dev, struct state_reader *r);
void pci_msix_free(struct pci_dev *dev);

#endif
