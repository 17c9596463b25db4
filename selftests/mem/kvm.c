// SPDX-License-Identifier: GPL-2.0-only
/* A guest that stores one value to page after page. */
#include <fcntl.h>
#include <linux/kvm.h>
#include <stdlib.h>
#include <sys/ioctl.h>
#include <sys/mman.h>
#include <unistd.h>

#include "mem/util.h"

#define CODE_GPA	0xf0000000u

static const uint8_t code[] = {
	0x89, 0x07,				/* mov [edi], eax */
	0x81, 0xc7, 0x00, 0x10, 0x00, 0x00,	/* add edi, 4096 */
	0x49,					/* dec ecx */
	0x75, 0xf5,				/* jnz back to the mov */
	0xe6, 0x10,				/* out 0x10, al */
	0xf4,					/* hlt */
};

struct kvm_guest {
	int kvm, vm, vcpu;
	struct kvm_run *run;
	int run_bytes;
	void *code;
};

static int add_slot(struct kvm_guest *g, int slot, uint32_t gpa, void *addr, size_t bytes)
{
	struct kvm_userspace_memory_region r = {
		.slot = slot, .guest_phys_addr = gpa, .memory_size = bytes,
		.userspace_addr = (uintptr_t)addr,
	};

	return ioctl(g->vm, KVM_SET_USER_MEMORY_REGION, &r);
}

static void flat(struct kvm_segment *s, int type)
{
	*s = (struct kvm_segment) {
		.limit = 0xffffffff, .selector = type == 11 ? 8 : 16, .type = type, .present = 1,
		.s = 1, .db = 1, .g = 1,
	};
}

static int set_mode(struct kvm_guest *g)
{
	struct kvm_sregs s;

	if (ioctl(g->vcpu, KVM_GET_SREGS, &s))
		return -1;
	flat(&s.cs, 11);
	flat(&s.ds, 3);
	s.es = s.fs = s.gs = s.ss = s.ds;
	s.cr0 |= 1;
	return ioctl(g->vcpu, KVM_SET_SREGS, &s);
}

struct kvm_guest *kvm_new(void *ram, size_t bytes)
{
	struct kvm_guest *g = calloc(1, sizeof(*g));

	g->kvm = open("/dev/kvm", O_RDWR | O_CLOEXEC);
	if (g->kvm < 0)
		goto none;
	g->vm = need(ioctl(g->kvm, KVM_CREATE_VM, 0));
	g->code = mmap(NULL, PAGE, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
	memcpy(g->code, code, sizeof(code));
	need(add_slot(g, 0, 0, ram, bytes));
	need(add_slot(g, 1, CODE_GPA, g->code, PAGE));
	g->vcpu = need(ioctl(g->vm, KVM_CREATE_VCPU, 0));
	g->run_bytes = need(ioctl(g->kvm, KVM_GET_VCPU_MMAP_SIZE, 0));
	g->run = mmap(NULL, g->run_bytes, PROT_READ | PROT_WRITE, MAP_SHARED, g->vcpu, 0);
	need(set_mode(g));
	return g;
none:
	free(g);
	return NULL;
}

int kvm_fill(struct kvm_guest *g, uint32_t first_byte, uint32_t nr, uint32_t value)
{
	struct kvm_regs r = {
		.rip = CODE_GPA, .rdi = first_byte, .rcx = nr, .rax = value, .rflags = 2,
	};

	/* Finish the OUT of last time before its registers are replaced. */
	if (g->run->exit_reason == KVM_EXIT_IO) {
		g->run->immediate_exit = 1;
		ioctl(g->vcpu, KVM_RUN, 0);
		g->run->immediate_exit = 0;
	}
	if (ioctl(g->vcpu, KVM_SET_REGS, &r))
		return -1;
	do {
		if (ioctl(g->vcpu, KVM_RUN, 0) && errno != EINTR)
			return -1;
	} while (g->run->exit_reason == KVM_EXIT_INTR);
	if (g->run->exit_reason == KVM_EXIT_IO)
		return 0;
	diag("KVM exit %u", g->run->exit_reason);
	errno = EPROTO;
	return -1;
}

void kvm_free(struct kvm_guest *g)
{
	if (!g)
		return;
	munmap(g->run, g->run_bytes);
	close(g->vcpu);
	close(g->vm);
	close(g->kvm);
	munmap(g->code, PAGE);
	free(g);
}
