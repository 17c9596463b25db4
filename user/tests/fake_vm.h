/* SPDX-License-Identifier: LGPL-2.1-or-later */
/*
 * A machine without KVM for device tests: two pieces of RAM between the
 * sanitizer's red zones, both buses, and a record of interrupts.
 *
 * Defines the functions of vm.h itself, so the linker leaves the real machine
 * out.  One VM per process.
 */
#ifndef VMPLAT_TESTS_FAKE_VM_H
#define VMPLAT_TESTS_FAKE_VM_H

#include <errno.h>
#include <pthread.h>
#include <stdarg.h>
#include <stdatomic.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/eventfd.h>

#include "run/vm.h"

#define FAKE_LOW_BYTES	0x100000ull
#define FAKE_HIGH_BASE	VM_HIGHMEM_BASE
#define FAKE_HIGH_BYTES	0x40000ull
#define FAKE_EVENTFDS	32

struct vm {
	struct bus pio, mmio;
	uint8_t *low, *high;
	bool low_gone;			/* unplugged */
	struct vm_device *devices, **devices_end;

	pthread_mutex_t lock;
	pthread_cond_t cond;
	unsigned int nr_msi;		/* messages ever */
	uint64_t msi_addr;		/* the last one */
	uint32_t msi_data;
	int line[24];
	unsigned int nr_changed;
	unsigned int nr_notices;
	char notice[256];		/* the last one */

	struct { uint64_t addr; int fd; } ioeventfd[FAKE_EVENTFDS];
	bool no_ioeventfd;		/* kicks take the slow way */
};

static inline struct vm *fake_vm_new(void)
{
	struct vm *vm = calloc(1, sizeof(*vm));

	bus_init(&vm->pio, 0x10000);
	bus_init(&vm->mmio, 0);
	vm->low = calloc(1, FAKE_LOW_BYTES);
	vm->high = calloc(1, FAKE_HIGH_BYTES);
	vm->devices_end = &vm->devices;
	pthread_mutex_init(&vm->lock, NULL);
	pthread_cond_init(&vm->cond, NULL);
	return vm;
}

/* Last added first, as vm.h promises. */
static inline void fake_destroy(struct vm_device *dev)
{
	if (!dev)
		return;
	fake_destroy(dev->next);
	if (dev->ops->destroy)
		dev->ops->destroy(dev->opaque);
}

static inline void fake_vm_free(struct vm *vm)
{
	fake_destroy(vm->devices);
	bus_exit(&vm->pio);
	bus_exit(&vm->mmio);
	pthread_cond_destroy(&vm->cond);
	pthread_mutex_destroy(&vm->lock);
	free(vm->low);
	free(vm->high);
	free(vm);
}

void *vm_gpa(struct vm *vm, uint64_t gpa, uint64_t len)
{
	if (len > FAKE_LOW_BYTES)
		return NULL;
	if (gpa <= FAKE_LOW_BYTES - len)
		return vm->low_gone ? NULL : vm->low + gpa;
	if (gpa >= FAKE_HIGH_BASE && len <= FAKE_HIGH_BYTES &&
	    gpa - FAKE_HIGH_BASE <= FAKE_HIGH_BYTES - len)
		return vm->high + (gpa - FAKE_HIGH_BASE);
	return NULL;
}

int vm_irq_line(struct vm *vm, uint32_t gsi, int level)
{
	pthread_mutex_lock(&vm->lock);
	vm->line[gsi] = level;
	pthread_cond_broadcast(&vm->cond);
	pthread_mutex_unlock(&vm->lock);
	return 0;
}

int vm_msi(struct vm *vm, uint64_t addr, uint32_t data)
{
	pthread_mutex_lock(&vm->lock);
	vm->nr_msi++;
	vm->msi_addr = addr;
	vm->msi_data = data;
	pthread_cond_broadcast(&vm->cond);
	pthread_mutex_unlock(&vm->lock);
	return 0;
}

int vm_ioeventfd(struct vm *vm, enum vm_space space, uint64_t addr, unsigned int len,
		 const uint64_t *match, int fd)
{
	if (vm->no_ioeventfd)
		return -EOPNOTSUPP;
	for (unsigned int i = 0; i < FAKE_EVENTFDS; i++) {
		if (vm->ioeventfd[i].addr)
			continue;
		vm->ioeventfd[i].addr = addr;
		vm->ioeventfd[i].fd = fd;
		return 0;
	}
	return -ENOSPC;
}

void vm_ioeventfd_remove(struct vm *vm, enum vm_space space, uint64_t addr,
			 unsigned int len, const uint64_t *match, int fd)
{
	for (unsigned int i = 0; i < FAKE_EVENTFDS; i++)
		if (vm->ioeventfd[i].addr == addr && vm->ioeventfd[i].fd == fd)
			vm->ioeventfd[i].addr = 0;
}

struct bus *vm_bus(struct vm *vm, enum vm_space space)
{
	return space == VM_PIO ? &vm->pio : &vm->mmio;
}

int vm_device_add(struct vm *vm, struct vm_device *dev)
{
	for (struct vm_device *d = vm->devices; d; d = d->next)
		if (!strcmp(d->name, dev->name))
			return -EEXIST;
	*vm->devices_end = dev;
	vm->devices_end = &dev->next;
	return 0;
}

void vm_device_changed(struct vm *vm)
{
	pthread_mutex_lock(&vm->lock);
	vm->nr_changed++;
	pthread_cond_broadcast(&vm->cond);
	pthread_mutex_unlock(&vm->lock);
}

void vm_notice(struct vm *vm, const char *fmt, ...)
{
	va_list ap;

	pthread_mutex_lock(&vm->lock);
	va_start(ap, fmt);
	vsnprintf(vm->notice, sizeof(vm->notice), fmt, ap);
	va_end(ap);
	vm->nr_notices++;
	pthread_mutex_unlock(&vm->lock);
}

/* --- what the guest does -------------------------------------------------- */

static inline uint64_t fake_cut(uint64_t val, unsigned int len)
{
	return len == 8 ? val : val & ((1ull << (8 * len)) - 1);
}

static inline uint64_t fake_in(struct vm *vm, uint16_t port, unsigned int len)
{
	return fake_cut(bus_read(&vm->pio, port, len), len);
}

static inline void fake_out(struct vm *vm, uint16_t port, unsigned int len, uint32_t val)
{
	bus_write(&vm->pio, port, len, val);
}

static inline uint64_t fake_read(struct vm *vm, uint64_t addr, unsigned int len)
{
	return fake_cut(bus_read(&vm->mmio, addr, len), len);
}

static inline void fake_write(struct vm *vm, uint64_t addr, unsigned int len, uint64_t val)
{
	for (unsigned int i = 0; i < FAKE_EVENTFDS; i++) {
		if (vm->ioeventfd[i].addr == addr) {
			eventfd_write(vm->ioeventfd[i].fd, 1);
			return;
		}
	}
	bus_write(&vm->mmio, addr, len, val);
}

/* PCI config mechanism #1, bus 0 function 0. */
static inline uint32_t fake_cfg_read(struct vm *vm, unsigned int slot, unsigned int off,
				     unsigned int len)
{
	fake_out(vm, 0xcf8, 4, 0x80000000u | slot << 11 | (off & 0xfc));
	return fake_in(vm, 0xcfc + (off & 3), len);
}

static inline void fake_cfg_write(struct vm *vm, unsigned int slot, unsigned int off,
				  unsigned int len, uint32_t val)
{
	fake_out(vm, 0xcf8, 4, 0x80000000u | slot << 11 | (off & 0xfc));
	fake_out(vm, 0xcfc + (off & 3), len, val);
}

#endif
