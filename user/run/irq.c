// SPDX-License-Identifier: GPL-2.0-only
/*
 * Interrupts and event descriptors. GSI 0..23 are the lines of the in-kernel PIC
 * and IOAPIC; those above are messages, one table entry each, allotted here.
 */
#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include <sys/ioctl.h>

#include "vm_priv.h"

int vm_irq_line(struct vm *vm, uint32_t gsi, int level)
{
	struct kvm_irq_level l = { .irq = gsi, .level = (uint32_t)!!level };

	return ioctl(vm->fd, KVM_IRQ_LINE, &l) ? -errno : 0;
}

int vm_msi(struct vm *vm, uint64_t addr, uint32_t data)
{
	struct kvm_msi m = {
		.address_lo = (uint32_t)addr,
		.address_hi = (uint32_t)(addr >> 32),
		.data = data,
	};

	return ioctl(vm->fd, KVM_SIGNAL_MSI, &m) < 0 ? -errno : 0;
}

static void route_line(struct kvm_irq_routing *t, uint32_t gsi, uint32_t chip,
		       uint32_t pin)
{
	t->entries[t->nr++] = (struct kvm_irq_routing_entry){
		.gsi = gsi,
		.type = KVM_IRQ_ROUTING_IRQCHIP,
		.u.irqchip = { .irqchip = chip, .pin = pin },
	};
}

/* the lines as a PC wires them: the PIT, on PIC pin 0, reaches IOAPIC pin 2 */
static void route_lines(struct kvm_irq_routing *t)
{
	for (uint32_t gsi = 0; gsi < VM_GSI_LINES; gsi++) {
		if (gsi < 8 && gsi != 2)
			route_line(t, gsi, KVM_IRQCHIP_PIC_MASTER, gsi);
		else if (gsi >= 8 && gsi < 16)
			route_line(t, gsi, KVM_IRQCHIP_PIC_SLAVE, gsi - 8);
		if (gsi == 0)
			route_line(t, gsi, KVM_IRQCHIP_IOAPIC, 2);
		else if (gsi != 2)
			route_line(t, gsi, KVM_IRQCHIP_IOAPIC, gsi);
	}
}

/* give KVM the whole table; route lock held */
static int commit(struct vm *vm)
{
	struct kvm_irq_routing *t;
	int ret;

	t = calloc(1, sizeof(*t) + (2 * VM_GSI_LINES + VM_ROUTES_MAX) *
				   sizeof(t->entries[0]));
	if (!t)
		return -ENOMEM;
	route_lines(t);
	for (uint32_t i = 0; i < VM_ROUTES_MAX; i++) {
		const struct vm_route *r = &vm->routes[i];

		if (!r->set)
			continue;
		t->entries[t->nr++] = (struct kvm_irq_routing_entry){
			.gsi = VM_GSI_LINES + i,
			.type = KVM_IRQ_ROUTING_MSI,
			.u.msi = {
				.address_lo = (uint32_t)r->addr,
				.address_hi = (uint32_t)(r->addr >> 32),
				.data = r->data,
			},
		};
	}
	ret = ioctl(vm->fd, KVM_SET_GSI_ROUTING, t) ? -errno : 0;
	free(t);
	return ret;
}

int irq_init(struct vm *vm)
{
	int ret;

	pthread_mutex_lock(&vm->route_lock);
	ret = commit(vm);
	pthread_mutex_unlock(&vm->route_lock);
	if (ret)
		vm_error(vm, ret, "KVM refuses the interrupt routing: %s", strerror(-ret));
	return ret;
}

int vm_msi_route_new(struct vm *vm)
{
	int gsi = -ENOSPC;

	pthread_mutex_lock(&vm->route_lock);
	for (int i = 0; i < VM_ROUTES_MAX && gsi < 0; i++) {
		if (vm->routes[i].used)
			continue;
		vm->routes[i] = (struct vm_route){ .used = true };
		gsi = VM_GSI_LINES + i;
	}
	pthread_mutex_unlock(&vm->route_lock);
	return gsi;
}

int vm_msi_route_set(struct vm *vm, uint32_t gsi, uint64_t addr, uint32_t data)
{
	uint32_t i = gsi - VM_GSI_LINES;
	struct vm_route *r, old;
	int ret = -EINVAL;

	if (i >= VM_ROUTES_MAX)
		return ret;
	r = &vm->routes[i];
	pthread_mutex_lock(&vm->route_lock);
	if (r->used) {
		old = *r;
		*r = (struct vm_route){ true, true, addr, data };
		ret = old.set && old.addr == addr && old.data == data ? 0 : commit(vm);
		if (ret)
			*r = old;
	}
	pthread_mutex_unlock(&vm->route_lock);
	return ret;
}

void vm_msi_route_free(struct vm *vm, uint32_t gsi)
{
	uint32_t i = gsi - VM_GSI_LINES;

	if (i >= VM_ROUTES_MAX)
		return;
	pthread_mutex_lock(&vm->route_lock);
	vm->routes[i] = (struct vm_route){ 0 };
	commit(vm);	/* a stale entry with no irqfd does no harm */
	pthread_mutex_unlock(&vm->route_lock);
}

int vm_irqfd(struct vm *vm, uint32_t gsi, int fd, int resample_fd)
{
	struct kvm_irqfd i = { .fd = (uint32_t)fd, .gsi = gsi };

	if (resample_fd >= 0) {
		i.flags = KVM_IRQFD_FLAG_RESAMPLE;
		i.resamplefd = (uint32_t)resample_fd;
	}
	return ioctl(vm->fd, KVM_IRQFD, &i) ? -errno : 0;
}

void vm_irqfd_remove(struct vm *vm, uint32_t gsi, int fd)
{
	struct kvm_irqfd i = {
		.fd = (uint32_t)fd, .gsi = gsi, .flags = KVM_IRQFD_FLAG_DEASSIGN,
	};

	ioctl(vm->fd, KVM_IRQFD, &i);	/* of what was never there: no matter */
}

static int ioeventfd(struct vm *vm, enum vm_space space, uint64_t addr,
		     unsigned int len, const uint64_t *match, int fd,
		     uint32_t flags)
{
	struct kvm_ioeventfd e = {
		.addr = addr, .len = len, .fd = fd, .flags = flags,
	};

	if (space == VM_PIO)
		e.flags |= KVM_IOEVENTFD_FLAG_PIO;
	if (match) {
		e.flags |= KVM_IOEVENTFD_FLAG_DATAMATCH;
		e.datamatch = *match;
	}
	return ioctl(vm->fd, KVM_IOEVENTFD, &e) ? -errno : 0;
}

int vm_ioeventfd(struct vm *vm, enum vm_space space, uint64_t addr,
		 unsigned int len, const uint64_t *match, int fd)
{
	return ioeventfd(vm, space, addr, len, match, fd, 0);
}

void vm_ioeventfd_remove(struct vm *vm, enum vm_space space, uint64_t addr,
			 unsigned int len, const uint64_t *match, int fd)
{
	ioeventfd(vm, space, addr, len, match, fd, KVM_IOEVENTFD_FLAG_DEASSIGN);
}
