/* SPDX-License-Identifier: GPL-2.0-only */
/* The halves of a device of the host, for the files that vfio.h names. */
#ifndef VMPLAT_RUN_VFIO_PRIV_H
#define VMPLAT_RUN_VFIO_PRIV_H

#include <linux/vfio.h>
#include <pthread.h>
#include <stdatomic.h>

#include "vfio.h"
#include "vfio_cfg.h"
#include "vm.h"

struct vfio_group;
struct vmplat_thread;

/* A BAR as VFIO has it, and as the guest does. */
struct vfio_bar {
	struct vfio_dev *dev;
	unsigned int index;
	enum pci_bar_kind kind;		/* PCI_BAR_NONE: there is none */
	bool prefetch;
	uint64_t size;			/* a power of two */
	uint64_t offset;		/* in the device's descriptor */
	uint64_t bytes;			/* of the region; behind them nothing answers */
	struct vfio_piece pieces[VFIO_PIECES_MAX];	/* that are mapped */
	void *maps[VFIO_PIECES_MAX];
	unsigned int nr_pieces;
	bool shown;			/* pieces are KVM's memory now (pci_bus.lock) */
	uint64_t shown_at;
};

struct vfio_vector {
	int fd;				/* VFIO rings it; -1: not used yet */
	int gsi;			/* -1: none */
	bool linked;			/* KVM listens */
	uint32_t entry[4];		/* of the MSI-X table */
};

enum vfio_irq_mode { VFIO_IRQ_OFF, VFIO_IRQ_INTX, VFIO_IRQ_MSI, VFIO_IRQ_MSIX };

struct vfio_irqs {
	pthread_mutex_t lock;		/* all below but constants */
	enum vfio_irq_mode mode;
	bool intx_there;		/* constant, and so are these */
	bool msix_grows;
	unsigned int nr;		/* vectors there is room for */
	struct vfio_vector *vectors;
	unsigned int live;		/* how many VFIO has */
	bool masked;			/* all of MSI-X */
	bool complained;		/* that vectors are missing */
	int intx_fd, resample_fd;
};

struct vfio_dev {
	struct vm *vm;
	struct vfio_group *group;
	char address[VFIO_ADDRESS];
	char id[32];
	int fd;
	bool resets;
	uint64_t cfg_offset;		/* of configuration space in fd */
	unsigned int slot_base;		/* KVM's memory slots for pieces, from here on */
	struct vfio_bar bars[PCI_BARS];

	struct vfio_cfg cfg;
	struct pci_dev pci;
	struct vfio_irqs irqs;
	struct vm_device entry;
	bool plugged;

	int request_fd, error_fd, stop_fd;
	struct vmplat_thread *watcher;
	atomic_bool wanted;
};

/* ---- vfio.c ------------------------------------------------------------------ */

/* configuration space of the function; what cannot be read is all ones */
uint32_t vfio_cfg_read(struct vfio_dev *dev, unsigned int off, unsigned int len);
void vfio_cfg_write(struct vfio_dev *dev, unsigned int off, unsigned int len, uint32_t val);
/* 0 or -errno */
int vfio_reset(struct vfio_dev *dev);
/* interrupts of one index: how many there are, 0: none */
unsigned int vfio_irq_nr(struct vfio_dev *dev, unsigned int index, bool *grows);
/* @fds: what is rung from vector @start on, -1: nothing. 0, how many there are instead, or -errno */
int vfio_irq_set(struct vfio_dev *dev, unsigned int index, uint32_t action, unsigned int start,
		 const int *fds, unsigned int nr);
void vfio_irq_disable(struct vfio_dev *dev, unsigned int index);

/* ---- vfio_pci.c -------------------------------------------------------------- */

void vfio_function_init(struct vfio_dev *dev, const struct pci_ids *ids);

/* ---- vfio_irq.c -------------------------------------------------------------- */

int vfio_irqs_init(struct vfio_dev *dev);
void vfio_irqs_exit(struct vfio_dev *dev);
/* what the configuration bytes say now; all ways off with @off. pci_bus.lock */
void vfio_irqs_update(struct vfio_dev *dev, bool off);
/* MSI-X table and pending bits; false: not theirs */
bool vfio_table_read(struct vfio_dev *dev, unsigned int bar, uint64_t off, unsigned int len, uint64_t *val);
bool vfio_table_write(struct vfio_dev *dev, unsigned int bar, uint64_t off, unsigned int len, uint64_t val);
/* every vector masked, as after a reset */
void vfio_table_reset(struct vfio_dev *dev);

#endif
