/* SPDX-License-Identifier: GPL-2.0-only */
/*
 * A virtual machine in this process: what devices and commands see of it.
 *
 * Threads and what they own
 *
 *   vCPU threads   one per vCPU. Sit in KVM_RUN; call bus handlers (bus.h). A
 *                  vCPU's KVM state is touched by its own thread, or by whoever
 *                  holds the operation lock while the vCPU is parked.
 *   main thread    signals, console input, and requests that a vCPU may not carry
 *                  out itself (reset, power-off, failure).
 *   control thread the control socket: one request after the other.
 *   device threads private to each device (block I/O, fills); parked by quiesce.
 *
 * Locks, outermost first
 *
 *   operation lock  one life-cycle operation at a time (pause, resume, reset,
 *                   snapshot). Held by the main or control thread, never by a
 *                   vCPU or device thread.
 *   device locks    each device's own; taken by its bus handlers, threads, ops.
 *   run lock        state of the machine, parked count; leaf, held for moments.
 *   bus and route locks, leaf as well.
 *
 * States and what may follow which: life.h. vm_enter() is the one way from one to another.
 */
#ifndef VMPLAT_RUN_VM_H
#define VMPLAT_RUN_VM_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "bus.h"
#include "state.h"

struct vm;

/* ---- guest-physical layout (x86) ---------------------------------------- */

#define VM_LOWMEM_END		0xc0000000ULL	/* RAM below, PCI hole above */
#define VM_HIGHMEM_BASE		0x100000000ULL	/* the rest of RAM */
#define VM_PCI_MMIO_BASE	0xc0000000ULL	/* 32-bit BARs */
#define VM_PCI_MMIO_END		0xe0000000ULL	/* exclusive */
#define VM_PCI_MMIO64_BASE	0x4000000000ULL	/* 64-bit BARs, above all RAM that there can be */
#define VM_PCI_MMIO64_END	0x8000000000ULL	/* exclusive; what 39 address bits reach */
#define VM_PCI_PIO_BASE		0x1000		/* I/O BARs */
#define VM_PCI_PIO_END		0x10000		/* exclusive */

/* VM_PCI_INTX_GSI - where ACPI routes a slot's INTA..INTD (pin 0..3), bus 0 */
#define VM_PCI_INTX_GSI(slot, pin)	(16u + (((slot) + (pin)) & 7u))

/* ---- memory -------------------------------------------------------------- */

/**
 * vm_gpa - guest RAM as the host sees it
 *
 * NULL unless all of @gpa..@gpa + @len is RAM of one slot. Writing to it is logged
 * like a guest's write. Memory comes and goes only while the VM is halted: a device
 * keeps no such pointer across quiesce, or asks again at resume.
 */
void *vm_gpa(struct vm *vm, uint64_t gpa, uint64_t len);

/* ---- interrupts and events ----------------------------------------------- */

/** vm_irq_line - drive an IRQ line (GSI 0..23) of the in-kernel PIC and IOAPIC */
int vm_irq_line(struct vm *vm, uint32_t gsi, int level);
/** vm_msi - deliver one message now */
int vm_msi(struct vm *vm, uint64_t addr, uint32_t data);

/**
 * vm_msi_route_new - a GSI of its own for one MSI-X vector
 *
 * Returns the GSI (24 and up), or -ENOSPC. Until the first set it goes nowhere.
 */
int vm_msi_route_new(struct vm *vm);
int vm_msi_route_set(struct vm *vm, uint32_t gsi, uint64_t addr, uint32_t data);
void vm_msi_route_free(struct vm *vm, uint32_t gsi);

/** vm_irqfd - writing to eventfd @fd raises @gsi; @resample_fd or -1 (edge) */
int vm_irqfd(struct vm *vm, uint32_t gsi, int fd, int resample_fd);
void vm_irqfd_remove(struct vm *vm, uint32_t gsi, int fd);

enum vm_space { VM_PIO, VM_MMIO };

/* where a device registers what it answers to */
struct bus *vm_bus(struct vm *vm, enum vm_space space);

/**
 * vm_ioeventfd - a guest write at @addr signals eventfd @fd, without an exit
 * @len: 1, 2, 4 or 8; 0 for any length (MMIO only)
 * @match: signal only if the value written equals *@match; NULL: always
 */
int vm_ioeventfd(struct vm *vm, enum vm_space space, uint64_t addr,
		 unsigned int len, const uint64_t *match, int fd);
void vm_ioeventfd_remove(struct vm *vm, enum vm_space space, uint64_t addr,
			 unsigned int len, const uint64_t *match, int fd);

/* ---- devices ------------------------------------------------------------- */

struct vm_device_ops {
	/* Back to the state at power-on. vCPUs parked, device quiesced. */
	void (*reset)(void *opaque);
	/*
	 * Stop touching guest memory and raising interrupts: on return requests in
	 * flight are complete or put back where save() finds them. vCPUs are
	 * parked already. Must be quick: its time is part of the pause.
	 */
	void (*quiesce)(void *opaque);
	/* Go on; before the vCPUs do. */
	void (*resume)(void *opaque);
	/* Between quiesce and resume. May repeat; changes nothing. */
	void (*save)(void *opaque, struct state_writer *w);
	/*
	 * On a new VM of the same shape, quiesced, before the first vCPU runs.
	 * Guest memory may be read only with care: it may still be on its way.
	 * Returns -errno for what cannot be; r->err is checked by the caller too.
	 */
	int (*load)(void *opaque, struct state_reader *r, uint32_t version);
	/* Last call; vCPUs have ended, or are parked while the device is unplugged. */
	void (*destroy)(void *opaque);
};

/**
 * struct vm_device - one entry of the device list
 * @name: its section in the state blob, unique ("serial0", "pci/00:02.0")
 * @version: of what save() writes
 *
 * Any op may be NULL. Embedded in the device, which outlives its registration.
 * Ops run in order of registration, destroy in reverse order.
 */
struct vm_device {
	char name[STATE_NAME_MAX + 1];
	uint32_t version;
	const struct vm_device_ops *ops;
	void *opaque;
	struct vm_device *next;
};

/**
 * vm_device_add - append to the list; -EEXIST: the name is taken
 *
 * Before the VM first runs, or under the operation lock. In a VM that is halted
 * the device is quiesced.
 */
int vm_device_add(struct vm *vm, struct vm_device *dev);
/** vm_device_remove - take it off the list and destroy it; the VM is halted */
void vm_device_remove(struct vm *vm, struct vm_device *dev);

/**
 * vm_error - keep a sentence for people, returned as the reason of a failure
 *
 * Returns @err, so that `return vm_error(vm, -EINVAL, "...", ...)` reads well.
 */
int vm_error(struct vm *vm, int err, const char *fmt, ...)
	__attribute__((format(printf, 3, 4)));
/** vm_device_changed - a driver took a device, or a slot: look who waits for it; any thread */
void vm_device_changed(struct vm *vm);
/** vm_notice - tell the operator something worth knowing; not for errors */
void vm_notice(struct vm *vm, const char *fmt, ...)
	__attribute__((format(printf, 2, 3)));

/* ---- requests; any thread, also a vCPU's -------------------------------- */

enum vm_request {
	VM_REQ_RESET	= 1 << 0,
	VM_REQ_POWEROFF	= 1 << 1,
	VM_REQ_FAIL	= 1 << 2,
};

/** vm_request - ask the main thread; the caller goes on or parks */
void vm_request(struct vm *vm, enum vm_request what);

#endif
