// SPDX-License-Identifier: GPL-2.0-only
/*
 * vCPU threads: KVM_RUN, exits, parking.
 *
 * A vCPU parks only after KVM_RUN has returned EINTR with immediate_exit set: by
 * then KVM has completed the access it had asked user space about, so what is
 * read from a parked vCPU is a state between two instructions. Whoever wants it
 * parked sets immediate_exit first and sends the signal second; a signal that
 * comes too early for KVM_RUN is made good by immediate_exit.
 */
#include <errno.h>
#include <json-c/json.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/ioctl.h>
#include <unistd.h>
#include <vmplat_map.h>
#include <vmplat_thread.h>

#include "cpus.h"
#include "vm_priv.h"

static void kick_handler(int sig)
{
}

void vcpu_signal_setup(void)
{
	struct sigaction sa = { .sa_handler = kick_handler };

	sigaction(VM_KICK_SIGNAL, &sa, NULL);
}

int vcpu_init(struct vm *vm, struct vcpu *vcpu, unsigned int index)
{
	const struct vmplat_map_options shared = { .flags = VMPLAT_MAP_F_SHARED };
	int ret;

	vcpu->vm = vm;
	vcpu->index = index;
	vcpu->fd = ioctl(vm->fd, KVM_CREATE_VCPU, (unsigned long)index);
	if (vcpu->fd < 0)
		return vm_error(vm, -errno, "KVM refuses vCPU %u: %s", index, strerror(errno));
	ret = vmplat_map_file(&vcpu->run_map, vcpu->fd, 0, vm->run_bytes, &shared);
	if (ret)
		return vm_error(vm, ret, "vCPU %u does not map: %s", index, vmplat_last_error());
	vcpu->run = vmplat_map_addr(vcpu->run_map);
	return arch_vcpu_init(vcpu);
}

void vcpu_exit(struct vcpu *vcpu)
{
	arch_vcpu_exit(vcpu);
	vmplat_map_close(vcpu->run_map);
	if (vcpu->fd >= 0)
		close(vcpu->fd);
}

/* ---- exits --------------------------------------------------------------- */

static uint64_t load_val(const uint8_t *p, unsigned int len)
{
	uint64_t v = 0;

	memcpy(&v, p, len);
	return v;
}

static void handle_pio(struct vcpu *vcpu)
{
	struct kvm_run *run = vcpu->run;
	uint8_t *p = (uint8_t *)run + run->io.data_offset;
	unsigned int len = run->io.size;

	for (uint32_t i = 0; i < run->io.count; i++, p += len) {
		uint64_t v;

		if (run->io.direction == KVM_EXIT_IO_OUT) {
			bus_write(&vcpu->vm->pio, run->io.port, len, load_val(p, len));
			continue;
		}
		v = bus_read(&vcpu->vm->pio, run->io.port, len);
		memcpy(p, &v, len);
	}
}

static void handle_mmio(struct vcpu *vcpu)
{
	struct kvm_run *run = vcpu->run;
	uint64_t addr = run->mmio.phys_addr;
	uint32_t left = run->mmio.len;
	uint8_t *p = run->mmio.data;

	while (left) {	/* odd lengths in natural pieces */
		unsigned int len = left >= 8 ? 8 : left >= 4 ? 4 : left >= 2 ? 2 : 1;
		uint64_t v;

		if (run->mmio.is_write) {
			bus_write(&vcpu->vm->mmio, addr, len, load_val(p, len));
		} else {
			v = bus_read(&vcpu->vm->mmio, addr, len);
			memcpy(p, &v, len);
		}
		addr += len;
		p += len;
		left -= len;
	}
}

/* What it was doing goes to standard error, which may be a raw terminal. */
static void fail(struct vcpu *vcpu, const char *what, uint64_t detail)
{
	struct json_object *cpu = arch_vcpu_look(vcpu);
	char why[512];

	vm_error(vcpu->vm, -EIO, "vCPU %u: %s (0x%llx)", vcpu->index, what,
		 (unsigned long long)detail);
	fprintf(stderr, "\r\nvmplat: %s: %s\r\n", vcpu->vm->cfg.name,
		vm_last_error(vcpu->vm, why, sizeof(why)));
	cpus_print(stderr, cpu, "\r\n");
	json_object_put(cpu);
	vm_request(vcpu->vm, VM_REQ_FAIL);
}

static void handle_system_event(struct vcpu *vcpu)
{
	switch (vcpu->run->system_event.type) {
	case KVM_SYSTEM_EVENT_SHUTDOWN:
		vm_request(vcpu->vm, VM_REQ_POWEROFF);
		break;
	case KVM_SYSTEM_EVENT_RESET:
		vm_request(vcpu->vm, VM_REQ_RESET);
		break;
	default:
		fail(vcpu, "KVM stops with system event", vcpu->run->system_event.type);
	}
}

static void handle_exit(struct vcpu *vcpu)
{
	struct kvm_run *run = vcpu->run;

	switch (run->exit_reason) {
	case KVM_EXIT_IO:
		handle_pio(vcpu);
		break;
	case KVM_EXIT_MMIO:
		handle_mmio(vcpu);
		break;
	case KVM_EXIT_INTR:
	case KVM_EXIT_IRQ_WINDOW_OPEN:
	case KVM_EXIT_HLT:
		break;
	case KVM_EXIT_SHUTDOWN:		/* triple fault: how a PC resets at last */
		vm_notice(vcpu->vm, "vCPU %u shuts down (triple fault): the guest is reset",
			  vcpu->index);
		vm_request(vcpu->vm, VM_REQ_RESET);
		break;
	case KVM_EXIT_SYSTEM_EVENT:
		handle_system_event(vcpu);
		break;
	case KVM_EXIT_FAIL_ENTRY:
		fail(vcpu, "the processor refuses to enter the guest, hardware reason",
		     run->fail_entry.hardware_entry_failure_reason);
		break;
	case KVM_EXIT_INTERNAL_ERROR:
		fail(vcpu, "KVM cannot emulate what the guest does, suberror",
		     run->internal.suberror);
		break;
	default:
		fail(vcpu, "KVM stops for a reason not known here, exit", run->exit_reason);
	}
}

/* ---- the thread ---------------------------------------------------------- */

/* wait while somebody wants the vCPU still; false: end */
static bool park(struct vcpu *vcpu)
{
	struct vm *vm = vcpu->vm;
	bool go;

	pthread_mutex_lock(&vm->run_lock);
	if (!vm->quit && (vm->pause_wanted || atomic_load(&vm->requests))) {
		vm->nr_parked++;
		vcpu->parked = true;
		pthread_cond_broadcast(&vm->run_cond);
		while (!vm->quit && (vm->pause_wanted || atomic_load(&vm->requests)))
			pthread_cond_wait(&vm->run_cond, &vm->run_lock);
		vcpu->parked = false;
		vm->nr_parked--;
		pthread_cond_broadcast(&vm->run_cond);
	}
	go = !vm->quit;
	if (go)
		vcpu->run->immediate_exit = 0;
	pthread_mutex_unlock(&vm->run_lock);
	return go;
}

static void *vcpu_main(void *arg)
{
	struct vcpu *vcpu = arg;
	struct vm *vm = vcpu->vm;

	if (!park(vcpu))
		return NULL;
	for (;;) {
		int ret = ioctl(vcpu->fd, KVM_RUN, 0);

		if (!ret) {
			handle_exit(vcpu);
		} else if (errno == EINTR) {
			if (!park(vcpu))
				return NULL;
		} else if (errno != EAGAIN) {
			fail(vcpu, errno == EFAULT ? "guest memory cannot be reached, errno"
						   : "KVM_RUN fails, errno",
			     (uint64_t)errno);
		}
		/* the request parks its maker too, once KVM has completed the access */
		if (atomic_load(&vm->requests))
			vcpu->run->immediate_exit = 1;
	}
}

int vcpu_start(struct vcpu *vcpu)
{
	struct vmplat_thread_options o = { };
	const char *affinity = vcpu->vm->cfg.affinity, *why = NULL;
	struct vmplat_cpus cpus;
	unsigned int nr;
	char name[16];
	int ret;

	snprintf(name, sizeof(name), "vcpu/%u", vcpu->index);
	o.name = name;
	if (affinity) {
		why = vm_affinity_parse(affinity, vcpu->index, &cpus, &nr);
		o.cpus = &cpus;
	}
	if (why)
		return vm_error(vcpu->vm, -EINVAL, "%s", why);
	ret = vmplat_thread_start(&vcpu->thread, &o, vcpu_main, vcpu);
	return ret ? vm_error(vcpu->vm, ret, "vCPU %u %s", vcpu->index, vmplat_last_error()) : 0;
}
