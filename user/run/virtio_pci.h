/* SPDX-License-Identifier: LGPL-2.1-or-later */
/*
 * A virtio 1.x device on PCI (virtio 1.2, 4.1; no legacy interface).
 *
 * The transport owns the registers, the queues and one I/O thread per device.
 * Notifications reach the thread through eventfds, so a driver's kick does not
 * stop its vCPU.  A device model answers one request at a time, on that thread,
 * under virtio_dev.lock.
 *
 * A model may have a source, a descriptor from which data comes unasked (a
 * network).  The thread waits for it too, and the source fills buffers of the
 * stock queue.
 *
 * Whoever else needs the lock (a register write, reset, quiesce) announces
 * itself in `want`; the thread lets go after the request in hand and goes on
 * later.  While `parked` it touches neither guest memory nor interrupts; kicks
 * that arrive meanwhile stay in the eventfds, and resume kicks every queue.
 *
 * Lock order: pci_bus.lock, virtio_dev.lock, isr_lock, pci inner locks.
 */
#ifndef VMPLAT_RUN_VIRTIO_PCI_H
#define VMPLAT_RUN_VIRTIO_PCI_H

#include <poll.h>
#include <pthread.h>
#include <stdatomic.h>
#include <stdbool.h>
#include <stdint.h>

#include "pci.h"
#include "virtio_ring.h"
#include "vm.h"

#define VIRTIO_QUEUES_MAX	4u

struct virtio_dev;

struct virtio_ops {
	/*
	 * Serve one request; returns the bytes written to it, or -EPROTO for
	 * one so malformed that the device must give up (NEEDS_RESET).  May
	 * change chain->iov.
	 */
	int (*request)(struct virtio_dev *dev, unsigned int queue,
		       struct virtq_chain *chain);
	void (*destroy)(struct virtio_dev *dev);

	/*
	 * For a model that is fed from outside; all three or none, under
	 * virtio_dev.lock.
	 *
	 * What to wait for, and for how long (ms, -1: for ever).  fd -1: nothing.
	 * Called by the I/O thread before each wait while the driver is up.
	 */
	void (*source_wait)(struct virtio_dev *dev, struct pollfd *p, int *timeout_ms);
	/*
	 * It happened, or the time is over.  One step of work; 1: there is more
	 * to do at once, 0: wait again, -EPROTO as above.
	 */
	int (*source_ready)(struct virtio_dev *dev, short revents);
	/* The driver set DRIVER_OK (also after a load), or took it away. */
	void (*source_driver)(struct virtio_dev *dev, bool up);
};

/* What a model fixes at creation. */
struct virtio_model {
	const char *name;	/* "virtio-blk" */
	uint16_t type;		/* virtio device id */
	uint32_t pci_class;	/* 24 bits */
	uint64_t features;	/* the model's own; the transport adds its */
	unsigned int nr_queues;
	unsigned int stock_queue;	/* with a source: of the buffers it fills */
	const void *config;	/* device configuration, constant */
	unsigned int config_bytes;
	const struct virtio_ops *ops;
};

struct vmplat_thread;

struct virtio_dev {
	struct vm *vm;
	const struct virtio_model *model;
	void *opaque;
	struct pci_dev pci;
	struct vm_device entry;
	unsigned int pci_window;	/* offset of the config access capability */
	uint64_t features;		/* offered */

	pthread_mutex_t lock;		/* down to the queues */
	pthread_cond_t cond;
	atomic_int want;		/* threads that wait for the lock */
	bool parked;
	bool stop;
	uint64_t driver_features;
	uint32_t feature_select, driver_feature_select;
	uint16_t config_vector;
	uint16_t queue_select;
	_Atomic uint8_t status;		/* written under the lock */
	bool stock_out;			/* wait for a kick of the stock queue */
	struct virtq vq[VIRTIO_QUEUES_MAX];

	pthread_mutex_t isr_lock;
	uint8_t isr;

	int kick[VIRTIO_QUEUES_MAX];	/* eventfds */
	int wake;			/* eventfd: stop */
	struct vmplat_thread *thread;
	struct virtq_chain chain;	/* the thread's */
};

/*
 * Fills in @dev, plugs it into @bus (slot 0: the first free one) and adds it to
 * the VM's devices, which from then on own it: ops->destroy frees it.  On error
 * nothing is left and @dev still belongs to the caller.
 */
int virtio_dev_add(struct virtio_dev *dev, struct vm *vm, struct pci_bus *bus,
		   unsigned int slot, const struct virtio_model *model, void *opaque);

bool virtio_has_feature(const struct virtio_dev *dev, unsigned int bit);
/* Has a driver said that it drives the device?  Any thread. */
bool virtio_driver_ok(const struct virtio_dev *dev);

/*
 * For source_ready: take an empty buffer chain off the stock queue, put the last
 * @nr back, or give @nr filled ones to the driver (virtq_fill() was done).
 * virtio_dev_stock() is 0 when there is none: the next kick wakes the thread.
 */
int virtio_dev_stock(struct virtio_dev *dev, struct virtq_chain *chain);
void virtio_dev_deliver(struct virtio_dev *dev, unsigned int nr);

/* Gather and scatter; short when the buffers are. */
uint64_t virtio_iov_read(const struct iovec *iov, unsigned int nr, uint64_t off,
			 void *buf, uint64_t len);
uint64_t virtio_iov_write(const struct iovec *iov, unsigned int nr, uint64_t off,
			  const void *buf, uint64_t len);
/* Drop bytes in place; returns the new count, *iov moves for the front. */
unsigned int virtio_iov_trim_front(struct iovec **iov, unsigned int nr, uint64_t bytes);
unsigned int virtio_iov_trim_back(struct iovec *iov, unsigned int nr, uint64_t bytes);

#endif
