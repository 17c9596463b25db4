// SPDX-License-Identifier: GPL-2.0-only
/* x86-64: what the VM and its vCPUs are made with; CPUID, entry registers, dump. */
#include <cpuid.h>
#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/ioctl.h>

#include "vm_priv.h"
#include "x86.h"

#define CPUID_ENTRIES	256
/* In the hole below 4 GiB, where Intel's KVM wants four pages for real mode. */
#define IDENTITY_MAP	0xfffbc000ULL
#define TSS_ADDR	0xfffbd000UL

int arch_vm_init(struct vm *vm)
{
	struct kvm_pit_config pit = { .flags = KVM_PIT_SPEAKER_DUMMY };
	uint64_t identity = IDENTITY_MAP;

	if (ioctl(vm->fd, KVM_SET_IDENTITY_MAP_ADDR, &identity) ||
	    ioctl(vm->fd, KVM_SET_TSS_ADDR, TSS_ADDR))
		return vm_error(vm, -errno, "KVM refuses its own pages at 0x%llx: %s",
				IDENTITY_MAP, strerror(errno));
	if (ioctl(vm->fd, KVM_CREATE_IRQCHIP, 0))
		return vm_error(vm, -errno, "KVM makes no interrupt controllers: %s",
				strerror(errno));
	if (ioctl(vm->fd, KVM_CREATE_PIT2, &pit))
		return vm_error(vm, -errno, "KVM makes no interval timer: %s",
				strerror(errno));
	return 0;
}

/* ---- CPUID --------------------------------------------------------------- */

static unsigned int bits_for(unsigned int n)
{
	unsigned int bits = 0;

	while (1u << bits < n)
		bits++;
	return bits;
}

/* extended topology: one thread a core, all cores in one package */
static void cpuid_topology(struct kvm_cpuid_entry2 *e, uint32_t id, unsigned int nr)
{
	e->ecx = e->index;
	e->edx = id;
	switch (e->index) {
	case 0:
		e->eax = 0;
		e->ebx = 1;
		e->ecx |= 1 << 8;
		break;
	case 1:
		e->eax = bits_for(nr);
		e->ebx = nr;
		e->ecx |= 2 << 8;
		break;
	default:
		e->eax = e->ebx = 0;
	}
}

static void cpuid_features(struct kvm_cpuid_entry2 *e, struct vm *vm, uint32_t id,
			   unsigned int nr)
{
	e->ebx = (e->ebx & 0xff00) | id << 24 | (1u << bits_for(nr)) << 16;
	e->ecx |= 1u << 31;			/* hypervisor */
	e->ecx &= ~(1u << 5 | 1u << 3);		/* no VMX within, no MONITOR */
	if (ioctl(vm->kvm_fd, KVM_CHECK_EXTENSION, KVM_CAP_TSC_DEADLINE_TIMER) > 0)
		e->ecx |= 1u << 24;
	e->edx &= ~(1u << 28);
	if (nr > 1)
		e->edx |= 1u << 28;
}

static void cpuid_fix(struct vm *vm, struct kvm_cpuid_entry2 *e, uint32_t id)
{
	unsigned int nr = vm->cfg.nr_cpus;

	switch (e->function) {
	case 0x1:
		cpuid_features(e, vm, id, nr);
		break;
	case 0x4:
		e->eax &= ~0xffffc000u;
		if (e->eax & 0x1f)	/* cores in the package; level 3 is shared */
			e->eax |= ((1u << bits_for(nr)) - 1) << 26 |
				  ((e->eax >> 5 & 7) == 3 ? (nr - 1) << 14 : 0);
		break;
	case 0x6:
		e->ecx &= ~(1u << 3);	/* energy bias */
		break;
	case 0xa:
		e->eax = e->ebx = e->ecx = e->edx = 0;	/* no PMU to save */
		break;
	case 0xb:
	case 0x1f:
		cpuid_topology(e, id, nr);
		break;
	case 0x40000001:
		/* no async page faults: their tokens do not survive a restore */
		e->eax &= ~(1u << 4 | 1u << 10 | 1u << 14);
		break;
	case 0x80000001:
		e->ecx &= ~(1u << 2);	/* no SVM within */
		break;
	case 0x80000008:
		e->ecx = nr > 1 ? bits_for(nr) << 12 | (nr - 1) : 0;
		break;
	case 0x8000000a:
		e->eax = e->ebx = e->ecx = e->edx = 0;
		break;
	case 0x8000001e:
		e->eax = id;
		e->ebx = id;
		e->ecx = 0;
		break;
	}
}

/* a vendor whose leaf 0xb KVM leaves out gets one, for more than 1 CPU */
static void cpuid_add_topology(struct kvm_cpuid2 *c, uint32_t id, unsigned int nr)
{
	for (uint32_t i = 0; i < c->nent; i++)
		if (c->entries[i].function == 0xb && c->entries[i].index == 1)
			return;
	for (uint32_t i = 0; i < c->nent; i++)
		if (c->entries[i].function == 0xb)
			c->entries[i--] = c->entries[--c->nent];
	for (uint32_t index = 0; index < 2 && c->nent < CPUID_ENTRIES; index++) {
		struct kvm_cpuid_entry2 *e = &c->entries[c->nent++];

		*e = (struct kvm_cpuid_entry2){
			.function = 0xb, .index = index,
			.flags = KVM_CPUID_FLAG_SIGNIFCANT_INDEX,
		};
		cpuid_topology(e, id, nr);
	}
}

static int set_cpuid(struct vcpu *vcpu)
{
	struct vm *vm = vcpu->vm;
	struct kvm_cpuid2 *c;

	c = calloc(1, sizeof(*c) + CPUID_ENTRIES * sizeof(c->entries[0]));
	if (!c)
		return vm_error(vm, -ENOMEM, "out of memory");
	vcpu->cpuid = c;
	c->nent = CPUID_ENTRIES;
	if (ioctl(vm->kvm_fd, KVM_GET_SUPPORTED_CPUID, c))
		return vm_error(vm, -errno, "KVM does not tell its CPUID: %s", strerror(errno));
	for (uint32_t i = 0; i < c->nent; i++)
		cpuid_fix(vm, &c->entries[i], vcpu->index);
	cpuid_add_topology(c, vcpu->index, vm->cfg.nr_cpus);
	if (ioctl(vcpu->fd, KVM_SET_CPUID2, c))
		return vm_error(vm, -errno, "KVM refuses its own CPUID: %s", strerror(errno));
	return 0;
}

/* ---- power-on state ------------------------------------------------------ */

static int set_msr(struct vcpu *vcpu, uint32_t index, uint64_t data)
{
	struct {
		struct kvm_msrs head;
		struct kvm_msr_entry entry;
	} m = { .head.nmsrs = 1, .entry = { .index = index, .data = data } };

	return ioctl(vcpu->fd, KVM_SET_MSRS, &m) == 1 ? 0 : -EINVAL;
}

/* what firmware leaves behind: PIC through LINT0, NMI on LINT1 */
static int set_local_apic(struct vcpu *vcpu)
{
	struct kvm_lapic_state l;
	uint32_t v;

	if (ioctl(vcpu->fd, KVM_GET_LAPIC, &l))
		return vm_error(vcpu->vm, -errno, "no local APIC: %s", strerror(errno));
	v = 7 << 8;	/* ExtINT */
	memcpy(l.regs + 0x350, &v, sizeof(v));
	v = 4 << 8;	/* NMI */
	memcpy(l.regs + 0x360, &v, sizeof(v));
	if (ioctl(vcpu->fd, KVM_SET_LAPIC, &l))
		return vm_error(vcpu->vm, -errno, "local APIC: %s", strerror(errno));
	return 0;
}

int arch_vcpu_init(struct vcpu *vcpu)
{
	int ret;

	ret = set_cpuid(vcpu);
	if (ret)
		return ret;
	set_msr(vcpu, MSR_MTRR_DEF_TYPE, 1u << 11 | 6);	/* on, write-back */
	set_msr(vcpu, MSR_MISC_ENABLE, 1);		/* fast strings; Intel only */
	return set_local_apic(vcpu);
}

void arch_vcpu_exit(struct vcpu *vcpu)
{
	free(vcpu->cpuid);
}

/* ---- entering a 64-bit kernel -------------------------------------------- */

static struct kvm_segment segment(uint16_t selector, uint8_t type, bool code)
{
	return (struct kvm_segment){
		.limit = 0xffffffff,
		.selector = selector,
		.type = type,
		.present = 1,
		.s = 1,
		.g = 1,
		.l = code,
		.db = !code,
	};
}

/* __BOOT_CS and __BOOT_DS, as Documentation/arch/x86/boot.rst wants them */
static void write_gdt(struct vm *vm, struct kvm_sregs *s)
{
	static const uint64_t gdt[] = {
		0, 0, 0x00af9b000000ffffULL, 0x00cf93000000ffffULL,
	};

	memcpy(vm_gpa(vm, BOOT_GDT, sizeof(gdt)), gdt, sizeof(gdt));
	s->gdt.base = BOOT_GDT;
	s->gdt.limit = sizeof(gdt) - 1;
	s->cs = segment(0x10, 0xb, true);
	s->ds = s->es = s->fs = s->gs = s->ss = segment(0x18, 0x3, false);
	s->tr = segment(0, 0xb, false);
	s->tr.s = 0;
	s->tr.g = 0;
	s->tr.db = 0;
	s->tr.limit = 0xffff;
}

static bool has_la57(const struct kvm_cpuid2 *c)
{
	for (uint32_t i = 0; i < c->nent; i++)
		if (c->entries[i].function == 7 && c->entries[i].index == 0)
			return c->entries[i].ecx & 1u << 16;
	return false;
}

/* the first 4 GiB, one to one, in 2 MiB pages; the last table is the fifth level */
static void write_page_table(struct vm *vm, struct kvm_sregs *s, bool la57)
{
	uint64_t *t = vm_gpa(vm, BOOT_PAGE_TABLE, 7 * 4096);

	memset(t, 0, 7 * 4096);
	t[0] = (BOOT_PAGE_TABLE + 4096) | 3;
	for (uint64_t i = 0; i < 4; i++)
		t[512 + i] = (BOOT_PAGE_TABLE + (2 + i) * 4096) | 3;
	for (uint64_t i = 0; i < 4 * 512; i++)
		t[1024 + i] = i << 21 | 0x83;
	t[6 * 512] = BOOT_PAGE_TABLE | 3;
	s->cr3 = la57 ? BOOT_PAGE_TABLE + 6 * 4096 : BOOT_PAGE_TABLE;
	s->cr4 = X86_CR4_PAE | (la57 ? X86_CR4_LA57 : 0);
	s->cr0 = X86_CR0_PE | X86_CR0_PG | X86_CR0_ET;
	s->efer = X86_EFER_LME | X86_EFER_LMA;
}

int arch_vcpu_boot(struct vcpu *vcpu, const struct boot_info *info)
{
	struct kvm_regs r = { .rip = info->entry, .rsi = info->zero_page, .rflags = 2 };
	struct kvm_sregs s;

	if (ioctl(vcpu->fd, KVM_GET_SREGS, &s))
		return vm_error(vcpu->vm, -errno, "registers do not read: %s", strerror(errno));
	write_gdt(vcpu->vm, &s);
	write_page_table(vcpu->vm, &s, info->la57 && has_la57(vcpu->cpuid));
	if (ioctl(vcpu->fd, KVM_SET_SREGS, &s) || ioctl(vcpu->fd, KVM_SET_REGS, &r))
		return vm_error(vcpu->vm, -errno, "KVM refuses the entry registers: %s",
				strerror(errno));
	return 0;
}
