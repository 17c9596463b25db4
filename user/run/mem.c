// SPDX-License-Identifier: GPL-2.0-only
/*
 * Guest memory: one file, mapped once, shown to KVM as two slots around the PCI
 * hole. The page number in the file is the page number in a snapshot.
 */
#include <errno.h>
#include <string.h>
#include <sys/ioctl.h>
#include <sys/mman.h>
#include <unistd.h>

#include "vm_priv.h"

static int new_vmplat(struct vm *vm)
{
	void *addr;
	int ret;

	ret = vmplat_open(&vm->dev, NULL);
	if (ret)
		return vm_error(vm, ret, "%s; `--memory-backend memfd` runs without the module, and without snapshots",
				vmplat_last_error());
	ret = vmplat_mem_new(&vm->mem, vm->dev, vm->cfg.mem_bytes, 0);
	if (!ret)
		ret = vmplat_mem_map(vm->mem, &addr);
	if (ret)
		return vm_error(vm, ret, "no guest memory: %s", vmplat_last_error());
	vm->ram = addr;
	ret = vmplat_log_new(&vm->log, vm->dev, vm->mem, 0, 0);
	if (ret)
		return vm_error(vm, ret, "no dirty log: %s", vmplat_last_error());
	return 0;
}

static int new_memfd(struct vm *vm)
{
	void *addr;

	vm->memfd = memfd_create("vmplat-ram", MFD_CLOEXEC);
	if (vm->memfd < 0 || ftruncate(vm->memfd, (off_t)vm->cfg.mem_bytes))
		return vm_error(vm, -errno, "no guest memory of %llu bytes: %s",
				(unsigned long long)vm->cfg.mem_bytes, strerror(errno));
	addr = mmap(NULL, vm->cfg.mem_bytes, PROT_READ | PROT_WRITE, MAP_SHARED,
		    vm->memfd, 0);
	if (addr == MAP_FAILED)
		return vm_error(vm, -errno, "guest memory does not map: %s", strerror(errno));
	vm->ram = addr;
	vm_notice(vm, "guest memory is a memfd: no snapshots, no dirty log");
	return 0;
}

static int add_slot(struct vm *vm, uint32_t slot, uint64_t gpa, uint64_t bytes,
		    uint8_t *at)
{
	struct kvm_userspace_memory_region r = {
		.slot = slot,
		.guest_phys_addr = gpa,
		.memory_size = bytes,
		.userspace_addr = (uintptr_t)at,
	};

	if (!bytes || !ioctl(vm->fd, KVM_SET_USER_MEMORY_REGION, &r))
		return 0;
	return vm_error(vm, -errno, "KVM refuses %llu bytes of memory at 0x%llx: %s",
			(unsigned long long)bytes, (unsigned long long)gpa,
			strerror(errno));
}

int mem_init(struct vm *vm)
{
	int ret;

	ret = vm->cfg.backend == VM_BACKEND_MEMFD ? new_memfd(vm) : new_vmplat(vm);
	if (ret)
		return ret;
	vm->low_bytes = vm->cfg.mem_bytes;
	if (vm->low_bytes > VM_LOWMEM_END)
		vm->low_bytes = VM_LOWMEM_END;
	vm->high_bytes = vm->cfg.mem_bytes - vm->low_bytes;
	ret = add_slot(vm, 0, 0, vm->low_bytes, vm->ram);
	if (!ret)
		ret = add_slot(vm, 1, VM_HIGHMEM_BASE, vm->high_bytes,
			       vm->ram + vm->low_bytes);
	return ret;
}

void mem_exit(struct vm *vm)
{
	if (vm->ram)
		munmap(vm->ram, vm->cfg.mem_bytes);
	vmplat_log_close(vm->log);
	vmplat_mem_close(vm->mem);
	if (vm->dev)
		vmplat_close(vm->dev);
	if (vm->memfd >= 0)
		close(vm->memfd);
}

static bool within(uint64_t gpa, uint64_t len, uint64_t base, uint64_t bytes)
{
	return gpa >= base && gpa - base <= bytes && len <= bytes - (gpa - base);
}

void *vm_gpa(struct vm *vm, uint64_t gpa, uint64_t len)
{
	if (within(gpa, len, 0, vm->low_bytes))
		return vm->ram + gpa;
	if (within(gpa, len, VM_HIGHMEM_BASE, vm->high_bytes))
		return vm->ram + vm->low_bytes + (gpa - VM_HIGHMEM_BASE);
	return NULL;
}
