// SPDX-License-Identifier: GPL-2.0-only
/* The guest of bench.h. It ends each run with HLT, which without an irqchip exits to us. */
#define _GNU_SOURCE
#include <errno.h>
#include <fcntl.h>
#include <linux/kvm.h>
#include <stdlib.h>
#include <string.h>
#include <sys/ioctl.h>
#include <sys/mman.h>
#include <unistd.h>

#include "bench.h"

#define CODE_GPA	0xf0000000u
#define READ_ENTRY	16

/* ebx counts, edi points, edx is the stride, eax the value */
static const uint8_t code[] = {
	[0] = 0x89, 0x07,		/* mov [edi], eax */
	0x01, 0xd7,			/* add edi, edx */
	0x4b,				/* dec ebx */
	0x75, 0xf9,			/* jnz back to the mov */
	0xf4,				/* hlt */
	[READ_ENTRY] = 0x8b, 0x07,	/* mov eax, [edi] */
	0x01, 0xd7, 0x4b, 0x75, 0xf9, 0xf4,
};

struct guest {
	int kvm, vm, vcpu;
	struct kvm_run *run;
	int run_bytes;
	void *code;
};

static void add_slot(struct guest *g, int slot, uint32_t gpa, void *addr, size_t bytes,
		     uint32_t flags)
{
	struct kvm_userspace_memory_region r = {
		.slot = slot, .guest_phys_addr = gpa, .memory_size = bytes,
		.userspace_addr = (uintptr_t)addr, .flags = flags,
	};

	must(ioctl(g->vm, KVM_SET_USER_MEMORY_REGION, &r));
}

static void flat(struct kvm_segment *s, int type, int selector)
{
	*s = (struct kvm_segment) {
		.limit = 0xffffffff, .selector = selector, .type = type, .present = 1,
		.s = 1, .db = 1, .g = 1,
	};
}

static void enter_flat_mode(struct guest *g)
{
	struct kvm_sregs s;

	must(ioctl(g->vcpu, KVM_GET_SREGS, &s));
	flat(&s.cs, 11, 8);
	flat(&s.ds, 3, 16);
	s.es = s.fs = s.gs = s.ss = s.ds;
	s.cr0 |= 1;
	must(ioctl(g->vcpu, KVM_SET_SREGS, &s));
}

struct guest *guest_new(void *ram, size_t bytes, bool log_dirty)
{
	struct guest *g = calloc(1, sizeof(*g));

	g->kvm = must(open("/dev/kvm", O_RDWR | O_CLOEXEC));
	g->vm = must(ioctl(g->kvm, KVM_CREATE_VM, 0));
	g->code = mmap(NULL, PAGE, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
	memcpy(g->code, code, sizeof(code));
	add_slot(g, 0, 0, ram, bytes, log_dirty ? KVM_MEM_LOG_DIRTY_PAGES : 0);
	add_slot(g, 1, CODE_GPA, g->code, PAGE, 0);
	g->vcpu = must(ioctl(g->vm, KVM_CREATE_VCPU, 0));
	g->run_bytes = must(ioctl(g->kvm, KVM_GET_VCPU_MMAP_SIZE, 0));
	g->run = mmap(NULL, g->run_bytes, PROT_READ | PROT_WRITE, MAP_SHARED, g->vcpu, 0);
	enter_flat_mode(g);
	return g;
}

void guest_free(struct guest *g)
{
	munmap(g->run, g->run_bytes);
	close(g->vcpu);
	close(g->vm);
	close(g->kvm);
	munmap(g->code, PAGE);
	free(g);
}

static void run(struct guest *g, struct kvm_regs *regs)
{
	int rc;

	must(ioctl(g->vcpu, KVM_SET_REGS, regs));
	do {
		rc = ioctl(g->vcpu, KVM_RUN, 0);
		if (rc && errno != EINTR)
			die("KVM_RUN");
	} while (rc);
	if (g->run->exit_reason != KVM_EXIT_HLT)
		die("KVM exit %u", g->run->exit_reason);
}

void guest_write(struct guest *g, size_t first_page, size_t stride, size_t nr, uint32_t value)
{
	struct kvm_regs r = {
		.rip = CODE_GPA, .rdi = first_page * PAGE, .rdx = stride * PAGE, .rbx = nr,
		.rax = value, .rflags = 2,
	};

	run(g, &r);
}

void guest_read(struct guest *g, size_t first_page, size_t stride, size_t nr)
{
	struct kvm_regs r = {
		.rip = CODE_GPA + READ_ENTRY, .rdi = first_page * PAGE, .rdx = stride * PAGE,
		.rbx = nr, .rflags = 2,
	};

	run(g, &r);
}

void guest_dirty_log(struct guest *g, uint64_t *bits)
{
	struct kvm_dirty_log log = { .slot = 0, .dirty_bitmap = bits };

	must(ioctl(g->vm, KVM_GET_DIRTY_LOG, &log));
}
