// SPDX-License-Identifier: GPL-2.0-only
/*
 * What a vCPU is doing: registers, the code it is at, and its local APIC, for people who ask
 * why a guest does not go on.
 */
#include <json-c/json.h>
#include <stdio.h>
#include <string.h>
#include <sys/ioctl.h>

#include "cpus.h"
#include "vm_priv.h"
#include "x86.h"

/* the local APIC's page (SDM volume 3, table 11-1) */
#define APIC_TPR	0x080
#define APIC_SVR	0x0f0
#define APIC_ISR	0x100
#define APIC_IRR	0x200
#define APIC_LVTT	0x320
#define APIC_TMICT	0x380
#define APIC_TMCCT	0x390
#define SVR_ENABLED	(1u << 8)
#define LVT_MASKED	(1u << 16)

static void add_hex(struct json_object *o, const char *key, uint64_t v)
{
	char text[19];

	snprintf(text, sizeof(text), "0x%llx", (unsigned long long)v);
	json_object_object_add(o, key, json_object_new_string(text));
}

static struct json_object *registers(const struct kvm_regs *r, const struct kvm_sregs *s)
{
	const struct { const char *name; uint64_t v; } all[] = {
		{ "rip", r->rip }, { "rflags", r->rflags }, { "cs", s->cs.selector },
		{ "rax", r->rax }, { "rbx", r->rbx }, { "rcx", r->rcx }, { "rdx", r->rdx },
		{ "rsi", r->rsi }, { "rdi", r->rdi }, { "rbp", r->rbp }, { "rsp", r->rsp },
		{ "r8", r->r8 }, { "r9", r->r9 }, { "r10", r->r10 }, { "r11", r->r11 },
		{ "r12", r->r12 }, { "r13", r->r13 }, { "r14", r->r14 }, { "r15", r->r15 },
		{ "cr0", s->cr0 }, { "cr2", s->cr2 }, { "cr3", s->cr3 }, { "cr4", s->cr4 },
		{ "efer", s->efer },
	};
	struct json_object *o = json_object_new_object();

	for (size_t i = 0; i < sizeof(all) / sizeof(all[0]); i++)
		add_hex(o, all[i].name, all[i].v);
	return o;
}

static void add_code(struct json_object *o, struct vcpu *vcpu, uint64_t rip)
{
	struct kvm_translation t = { .linear_address = rip };
	char text[16 * 3 + 1];
	const uint8_t *p;

	if (ioctl(vcpu->fd, KVM_TRANSLATE, &t) || !t.valid)
		return;
	p = vm_gpa(vcpu->vm, t.physical_address, 16);
	if (!p)
		return;
	for (int i = 0; i < 16; i++)
		snprintf(text + 3 * i, 4, "%02x ", p[i]);
	text[sizeof(text) - 2] = 0;	/* without the last blank */
	json_object_object_add(o, "code", json_object_new_string(text));
}

/* ---- interrupts ------------------------------------------------------------- */

static uint32_t apic_reg(const struct kvm_lapic_state *apic, unsigned int at)
{
	uint32_t v;

	memcpy(&v, apic->regs + at, sizeof(v));
	return v;
}

/* a set of 256 bits, 32 of them each 16 bytes */
static struct json_object *vectors(const struct kvm_lapic_state *apic, unsigned int at)
{
	struct json_object *list = json_object_new_array();

	for (unsigned int v = 0; v < 256; v++)
		if (apic_reg(apic, at + v / 32 * 16) & 1u << v % 32)
			json_object_array_add(list, json_object_new_int((int)v));
	return list;
}

static bool read_msr(struct vcpu *vcpu, uint32_t index, uint64_t *v)
{
	struct { struct kvm_msrs head; struct kvm_msr_entry e; } m = { .head.nmsrs = 1 };

	m.e.index = index;
	if (ioctl(vcpu->fd, KVM_GET_MSRS, &m) != 1)
		return false;
	*v = m.e.data;
	return true;
}

/* when a timer by the TSC goes off, 0: it is not set */
static void add_deadline(struct json_object *o, struct vcpu *vcpu)
{
	int khz = ioctl(vcpu->fd, KVM_GET_TSC_KHZ, 0);
	uint64_t at, now;

	if (khz <= 0 || !read_msr(vcpu, MSR_TSC_DEADLINE, &at) || !read_msr(vcpu, MSR_TSC, &now) || !at)
		return;
	json_object_object_add(o, "due_ns", json_object_new_int64(
		(int64_t)((double)(int64_t)(at - now) * 1e6 / khz)));
}

static struct json_object *timer(struct vcpu *vcpu, const struct kvm_lapic_state *apic)
{
	static const char *const modes[] = { "one-shot", "periodic", "tsc-deadline", "reserved" };
	uint32_t lvt = apic_reg(apic, APIC_LVTT), mode = lvt >> 17 & 3;
	struct json_object *o = json_object_new_object();

	json_object_object_add(o, "mode", json_object_new_string(modes[mode]));
	json_object_object_add(o, "vector", json_object_new_int((int)(lvt & 0xff)));
	json_object_object_add(o, "masked", json_object_new_boolean(lvt & LVT_MASKED));
	if (mode == 2) {
		add_deadline(o, vcpu);
		return o;
	}
	json_object_object_add(o, "initial", json_object_new_int64(apic_reg(apic, APIC_TMICT)));
	json_object_object_add(o, "left", json_object_new_int64(apic_reg(apic, APIC_TMCCT)));
	return o;
}

static void add_apic(struct json_object *o, struct vcpu *vcpu)
{
	struct kvm_lapic_state apic;
	struct json_object *a;

	if (ioctl(vcpu->fd, KVM_GET_LAPIC, &apic))
		return;
	a = json_object_new_object();
	json_object_object_add(a, "enabled", json_object_new_boolean(apic_reg(&apic, APIC_SVR) & SVR_ENABLED));
	json_object_object_add(a, "priority", json_object_new_int((int)(apic_reg(&apic, APIC_TPR) & 0xff)));
	json_object_object_add(a, "in_service", vectors(&apic, APIC_ISR));
	json_object_object_add(a, "waiting", vectors(&apic, APIC_IRR));
	json_object_object_add(a, "timer", timer(vcpu, &apic));
	json_object_object_add(o, "apic", a);
}

/* what is on its way in: an interrupt that KVM took from the APIC and the guest has not seen, an NMI */
static void add_pending(struct json_object *o, struct vcpu *vcpu)
{
	struct kvm_vcpu_events e;

	if (ioctl(vcpu->fd, KVM_GET_VCPU_EVENTS, &e))
		return;
	if (e.interrupt.injected)
		json_object_object_add(o, "injecting", json_object_new_int(e.interrupt.nr));
	json_object_object_add(o, "nmi_pending", json_object_new_boolean(e.nmi.pending));
	json_object_object_add(o, "interrupt_shadow", json_object_new_boolean(e.interrupt.shadow));
}

/* ---- one vCPU ---------------------------------------------------------------- */

static const char *activity(struct vcpu *vcpu)
{
	struct kvm_mp_state mp;

	if (ioctl(vcpu->fd, KVM_GET_MP_STATE, &mp))
		return "unknown";
	switch (mp.mp_state) {
	case KVM_MP_STATE_RUNNABLE:
		return "runs";
	case KVM_MP_STATE_HALTED:
		return "halted";
	case KVM_MP_STATE_UNINITIALIZED:
		return "waits for INIT";
	case KVM_MP_STATE_INIT_RECEIVED:
	case KVM_MP_STATE_SIPI_RECEIVED:
		return "waits for SIPI";
	default:
		return "unknown";
	}
}

struct json_object *arch_vcpu_look(struct vcpu *vcpu)
{
	struct json_object *o = json_object_new_object();
	struct kvm_regs r = { 0 };
	struct kvm_sregs s = { 0 };

	ioctl(vcpu->fd, KVM_GET_REGS, &r);
	ioctl(vcpu->fd, KVM_GET_SREGS, &s);
	json_object_object_add(o, "index", json_object_new_int((int)vcpu->index));
	json_object_object_add(o, "activity", json_object_new_string(activity(vcpu)));
	json_object_object_add(o, "mode", json_object_new_string(s.ss.dpl ? "user" : "kernel"));
	json_object_object_add(o, "interrupts", json_object_new_boolean(r.rflags & X86_RFLAGS_IF));
	json_object_object_add(o, "exit", json_object_new_int((int)vcpu->run->exit_reason));
	json_object_object_add(o, "registers", registers(&r, &s));
	add_code(o, vcpu, r.rip);
	add_pending(o, vcpu);
	add_apic(o, vcpu);
	return o;
}
