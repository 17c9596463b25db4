// SPDX-License-Identifier: GPL-2.0-only
/*
 * x86-64: KVM's state as sections of the VM state blob.
 *
 * Payloads are KVM's own structures (<asm/kvm.h>), each behind its 32-bit length,
 * which the KVM ABI keeps stable:
 *
 *   "vcpu/N" 1   u32 TSC kHz, then blobs: cpuid entries, mp_state, regs, sregs,
 *                xsave, xcrs, debugregs, lapic, vcpu_events, msr entries
 *   "board" 1    blobs: irqchip x3 (PIC, PIC, IOAPIC), pit_state2
 *   "clock" 1    u64 kvmclock in nanoseconds
 *
 * Reading order: mp_state first, because reading it settles INITs and SIPIs that
 * are on their way. Writing order: CPUID before what it enables; sregs (with the
 * APIC base) before the local APIC; the local APIC before MSRs (TSC deadline) and
 * the TSC, the lowest of the list, before its deadline; events last.
 */
#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include <sys/ioctl.h>

#include "vm_priv.h"
#include "x86.h"

#define MSRS_PER_CALL	128	/* KVM takes at most 256 */

struct msr_block {
	struct kvm_msrs head;
	struct kvm_msr_entry entries[MSRS_PER_CALL];
};

/* ---- small pieces -------------------------------------------------------- */

static int vcpu_fail(struct vcpu *vcpu, const char *verb, const char *what)
{
	int err = errno ? errno : EIO;

	return vm_error(vcpu->vm, -err, "vCPU %u: %s does not %s: %s", vcpu->index,
			what, verb, strerror(err));
}

struct piece {
	const char *what;
	unsigned long get, set;
	uint32_t bytes;
};

/* between mp_state and MSRs, in the order they are written */
static const struct piece pieces[] = {
	{ "mp_state",	KVM_GET_MP_STATE, KVM_SET_MP_STATE, sizeof(struct kvm_mp_state) },
	{ "regs",	KVM_GET_REGS, KVM_SET_REGS, sizeof(struct kvm_regs) },
	{ "sregs",	KVM_GET_SREGS, KVM_SET_SREGS, sizeof(struct kvm_sregs) },
	{ "xsave",	KVM_GET_XSAVE, KVM_SET_XSAVE, sizeof(struct kvm_xsave) },
	{ "xcrs",	KVM_GET_XCRS, KVM_SET_XCRS, sizeof(struct kvm_xcrs) },
	{ "debugregs",	KVM_GET_DEBUGREGS, KVM_SET_DEBUGREGS, sizeof(struct kvm_debugregs) },
	{ "lapic",	KVM_GET_LAPIC, KVM_SET_LAPIC, sizeof(struct kvm_lapic_state) },
};
static const struct piece events = {
	"vcpu_events", KVM_GET_VCPU_EVENTS, KVM_SET_VCPU_EVENTS, sizeof(struct kvm_vcpu_events),
};

/* room for the largest piece, aligned for all */
union piece_room {
	struct kvm_xsave xsave;
	uint64_t align;
	char bytes[8192];
};

static int piece_save(struct vcpu *vcpu, const struct piece *p, struct state_writer *w)
{
	union piece_room room;

	memset(&room, 0, p->bytes);
	if (ioctl(vcpu->fd, p->get, &room))
		return vcpu_fail(vcpu, "read", p->what);
	state_put_blob(w, &room, p->bytes);
	return 0;
}

static int piece_load(struct vcpu *vcpu, const struct piece *p, struct state_reader *r)
{
	union piece_room room;
	uint32_t len;
	const void *blob = state_get_blob(r, &len);

	if (!blob || len != p->bytes)
		return vm_error(vcpu->vm, -EBADMSG, "vCPU %u: %s has %u bytes, not %u",
				vcpu->index, p->what, len, p->bytes);
	memcpy(&room, blob, len);
	if (ioctl(vcpu->fd, p->set, &room))
		return vcpu_fail(vcpu, "load", p->what);
	return 0;
}

/* ---- MSRs ---------------------------------------------------------------- */

/* every MSR KVM lists; those that do not read back are dropped */
static int msrs_list(struct vm *vm)
{
	struct kvm_msr_list probe = { .nmsrs = 0 }, *list;

	if (vm->msrs)
		return 0;
	ioctl(vm->kvm_fd, KVM_GET_MSR_INDEX_LIST, &probe);
	list = calloc(1, sizeof(*list) + probe.nmsrs * sizeof(list->indices[0]));
	if (!list)
		return vm_error(vm, -ENOMEM, "out of memory");
	list->nmsrs = probe.nmsrs;
	if (ioctl(vm->kvm_fd, KVM_GET_MSR_INDEX_LIST, list)) {
		free(list);
		return vm_error(vm, -errno, "KVM does not list its MSRs: %s", strerror(errno));
	}
	vm->msrs = list;
	return 0;
}

static void msrs_drop(struct kvm_msr_list *list, uint32_t at)
{
	list->nmsrs--;
	memmove(list->indices + at, list->indices + at + 1,
		(list->nmsrs - at) * sizeof(list->indices[0]));
}

static int msrs_save(struct vcpu *vcpu, struct state_writer *w)
{
	struct kvm_msr_list *list;
	struct kvm_msr_entry *all;
	uint32_t at = 0;
	int ret = msrs_list(vcpu->vm);

	if (ret)
		return ret;
	list = vcpu->vm->msrs;
	all = calloc(list->nmsrs + 1, sizeof(*all));
	if (!all)
		return vm_error(vcpu->vm, -ENOMEM, "out of memory");
	while (at < list->nmsrs) {
		struct msr_block b = { 0 };
		uint32_t n = list->nmsrs - at;
		int done;

		b.head.nmsrs = n < MSRS_PER_CALL ? n : MSRS_PER_CALL;
		for (uint32_t i = 0; i < b.head.nmsrs; i++)
			b.entries[i].index = list->indices[at + i];
		done = ioctl(vcpu->fd, KVM_GET_MSRS, &b);
		if (done < 0) {
			ret = vcpu_fail(vcpu, "read", "the block of MSRs");
			break;
		}
		memcpy(all + at, b.entries, (size_t)done * sizeof(*all));
		at += (uint32_t)done;
		if ((uint32_t)done < b.head.nmsrs)
			msrs_drop(list, at);
	}
	state_put_blob(w, all, list->nmsrs * (uint32_t)sizeof(*all));
	free(all);
	return ret;
}

static bool msr_is(struct vcpu *vcpu, const struct kvm_msr_entry *e)
{
	struct msr_block b = { .head.nmsrs = 1 };

	b.entries[0].index = e->index;
	return ioctl(vcpu->fd, KVM_GET_MSRS, &b) == 1 && b.entries[0].data == e->data;
}

/* An MSR KVM does not write is no loss if it has the value already. */
static int msrs_load(struct vcpu *vcpu, struct state_reader *r)
{
	uint32_t len, nr, at = 0;
	const uint8_t *p = state_get_blob(r, &len);

	if (!p || len % sizeof(struct kvm_msr_entry))
		return vm_error(vcpu->vm, -EBADMSG, "vCPU %u: the list of MSRs is cut short",
				vcpu->index);
	nr = len / (uint32_t)sizeof(struct kvm_msr_entry);
	while (at < nr) {
		struct msr_block b = { 0 };
		uint32_t n = nr - at;
		int done;

		b.head.nmsrs = n < MSRS_PER_CALL ? n : MSRS_PER_CALL;
		memcpy(b.entries, p + at * sizeof(b.entries[0]),
		       b.head.nmsrs * sizeof(b.entries[0]));
		done = ioctl(vcpu->fd, KVM_SET_MSRS, &b);
		if (done < 0)
			return vcpu_fail(vcpu, "load", "the block of MSRs");
		at += (uint32_t)done;
		if ((uint32_t)done == b.head.nmsrs)
			continue;
		if (!msr_is(vcpu, &b.entries[done]))
			vm_notice(vcpu->vm, "vCPU %u: MSR 0x%x does not take 0x%llx; the guest may notice",
				  vcpu->index, b.entries[done].index,
				  (unsigned long long)b.entries[done].data);
		at++;
	}
	return 0;
}

/* ---- CPUID --------------------------------------------------------------- */

static int cpuid_load(struct vcpu *vcpu, struct state_reader *r)
{
	struct kvm_cpuid2 *c = vcpu->cpuid, *fresh;
	uint32_t len;
	const void *p = state_get_blob(r, &len);

	if (!p || !len || len % sizeof(c->entries[0]) || len > 256 * sizeof(c->entries[0]))
		return vm_error(vcpu->vm, -EBADMSG, "vCPU %u: its CPUID has %u bytes",
				vcpu->index, len);
	if (len == c->nent * sizeof(c->entries[0]) && !memcmp(c->entries, p, len))
		return 0;
	fresh = calloc(1, sizeof(*c) + len);
	if (!fresh)
		return vm_error(vcpu->vm, -ENOMEM, "out of memory");
	fresh->nent = len / (uint32_t)sizeof(c->entries[0]);
	memcpy(fresh->entries, p, len);
	if (ioctl(vcpu->fd, KVM_SET_CPUID2, fresh)) {
		int err = errno;

		free(fresh);
		return vm_error(vcpu->vm, -err, "vCPU %u: this host cannot offer the processor the snapshot was taken on: %s",
				vcpu->index, strerror(err));
	}
	free(c);
	vcpu->cpuid = fresh;
	return 0;
}

/* ---- one vCPU ------------------------------------------------------------ */

int arch_vcpu_save(struct vcpu *vcpu, struct state_writer *w)
{
	const size_t nr = sizeof(pieces) / sizeof(pieces[0]);
	int khz = ioctl(vcpu->fd, KVM_GET_TSC_KHZ, 0);
	int ret = 0;

	state_put_u32(w, khz > 0 ? (uint32_t)khz : 0);
	state_put_blob(w, vcpu->cpuid->entries,
		       vcpu->cpuid->nent * (uint32_t)sizeof(vcpu->cpuid->entries[0]));
	for (size_t i = 0; i < nr && !ret; i++)
		ret = piece_save(vcpu, &pieces[i], w);
	if (!ret)
		ret = piece_save(vcpu, &events, w);
	if (!ret)
		ret = msrs_save(vcpu, w);
	return ret;
}

static void tsc_load(struct vcpu *vcpu, uint32_t khz)
{
	int here = ioctl(vcpu->fd, KVM_GET_TSC_KHZ, 0);

	if (!khz || here == (int)khz)
		return;
	if (ioctl(vcpu->fd, KVM_SET_TSC_KHZ, (unsigned long)khz))
		vm_notice(vcpu->vm, "vCPU %u: its TSC ran at %u kHz, here it runs at %d kHz",
			  vcpu->index, khz, here);
}

int arch_vcpu_load(struct vcpu *vcpu, struct state_reader *r, uint32_t version)
{
	const size_t nr = sizeof(pieces) / sizeof(pieces[0]);
	struct state_reader at_events;
	uint32_t len;
	int ret;

	tsc_load(vcpu, state_get_u32(r));
	ret = cpuid_load(vcpu, r);
	for (size_t i = 0; i < nr && !ret; i++)
		ret = piece_load(vcpu, &pieces[i], r);
	at_events = *r;
	state_get_blob(r, &len);
	if (!ret)
		ret = msrs_load(vcpu, r);
	if (!ret)
		ret = piece_load(vcpu, &events, &at_events);
	return ret;
}

/* ---- the VM -------------------------------------------------------------- */

int arch_vm_save(struct vm *vm, struct state_writer *w)
{
	struct kvm_pit_state2 pit;

	for (uint32_t i = 0; i < KVM_NR_IRQCHIPS; i++) {
		struct kvm_irqchip chip = { .chip_id = i };

		if (ioctl(vm->fd, KVM_GET_IRQCHIP, &chip))
			return vm_error(vm, -errno, "interrupt controller %u does not read: %s",
					i, strerror(errno));
		state_put_blob(w, &chip, sizeof(chip));
	}
	if (ioctl(vm->fd, KVM_GET_PIT2, &pit))
		return vm_error(vm, -errno, "the interval timer does not read: %s", strerror(errno));
	state_put_blob(w, &pit, sizeof(pit));
	return 0;
}

int arch_vm_load(struct vm *vm, struct state_reader *r, uint32_t version)
{
	struct kvm_irqchip chip;
	struct kvm_pit_state2 pit;
	const void *p;
	uint32_t len;

	for (uint32_t i = 0; i < KVM_NR_IRQCHIPS; i++) {
		p = state_get_blob(r, &len);
		if (!p || len != sizeof(chip))
			return vm_error(vm, -EBADMSG, "interrupt controller %u has %u bytes", i, len);
		memcpy(&chip, p, len);
		if (chip.chip_id != i || ioctl(vm->fd, KVM_SET_IRQCHIP, &chip))
			return vm_error(vm, -EINVAL, "interrupt controller %u does not load", i);
	}
	p = state_get_blob(r, &len);
	if (!p || len != sizeof(pit))
		return vm_error(vm, -EBADMSG, "the interval timer has %u bytes", len);
	memcpy(&pit, p, len);
	if (ioctl(vm->fd, KVM_SET_PIT2, &pit))
		return vm_error(vm, -errno, "the interval timer does not load: %s", strerror(errno));
	return 0;
}

/* ---- time ---------------------------------------------------------------- */

static uint64_t clock_read(struct vm *vm)
{
	struct kvm_clock_data c = { 0 };

	return ioctl(vm->fd, KVM_GET_CLOCK, &c) ? 0 : c.clock;
}

static int clock_write(struct vm *vm, uint64_t ns)
{
	struct kvm_clock_data c = { .clock = ns };

	if (ioctl(vm->fd, KVM_SET_CLOCK, &c))
		return vm_error(vm, -errno, "the guest's clock does not load: %s", strerror(errno));
	/* tell its watchdogs; guests without kvmclock say EINVAL */
	for (unsigned int i = 0; i < vm->nr_vcpus; i++)
		ioctl(vm->vcpus[i].fd, KVM_KVMCLOCK_CTRL, 0);
	return 0;
}

int arch_vm_save_clock(struct vm *vm, struct state_writer *w)
{
	state_put_u64(w, vm->parked_clock_ns ? vm->parked_clock_ns : clock_read(vm));
	return 0;
}

int arch_vm_load_clock(struct vm *vm, struct state_reader *r)
{
	vm->parked_clock_ns = 0;
	return clock_write(vm, state_get_u64(r));
}

/* A guest that is paused does not see the time pass. */
void arch_pause_clock(struct vm *vm)
{
	vm->parked_clock_ns = clock_read(vm);
}

void arch_resume_clock(struct vm *vm)
{
	if (vm->parked_clock_ns)
		clock_write(vm, vm->parked_clock_ns);
	vm->parked_clock_ns = 0;
}
