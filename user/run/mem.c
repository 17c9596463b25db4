// SPDX-License-Identifier: GPL-2.0-only
/*
 * Guest memory: one file from boot on, mapped once, shown to KVM as two slots around
 * the PCI hole, and one file for each memory that is plugged later. The page number
 * in a file is the page number in its image in a snapshot.
 */
#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include <sys/ioctl.h>
#include <sys/mman.h>
#include <unistd.h>
#include <vmplat_map.h>

#include "vfio.h"
#include "vm_priv.h"

#define SLOT_LOW	0u		/* KVM's numbers */
#define SLOT_HIGH	1u
#define SLOT_DIMM	2u		/* and up */
#define DIMM_GRAIN	(1ULL << 30)	/* where one may begin: huge pages all the way */

/* with guards: a device that runs over the end of a memory stops there */
static const struct vmplat_map_options shared = { .flags = VMPLAT_MAP_F_SHARED };

static int new_vmplat(struct vm *vm, uint64_t bytes, struct vmplat_mem **mem,
		      struct vmplat_log **log, struct vmplat_map **map)
{
	int ret;

	ret = vmplat_mem_new(mem, vm->dev, bytes, vm->cfg.pinnable ? VMPLAT_MEM_F_PINNABLE : 0);
	if (!ret)
		ret = vmplat_map_file(map, vmplat_mem_fd(*mem), 0, bytes, &shared);
	if (ret)
		return vm_error(vm, ret, "no guest memory: %s", vmplat_last_error());
	ret = vmplat_log_new(log, vm->dev, *mem, 0, 0);
	if (ret)
		return vm_error(vm, ret, "no dirty log: %s", vmplat_last_error());
	return 0;
}

static int new_memfd(struct vm *vm, uint64_t bytes, int *fd, struct vmplat_map **map)
{
	int ret;

	*fd = memfd_create("vmplat-ram", MFD_CLOEXEC);
	if (*fd < 0 || ftruncate(*fd, (off_t)bytes))
		return vm_error(vm, -errno, "no guest memory of %llu bytes: %s",
				(unsigned long long)bytes, strerror(errno));
	ret = vmplat_map_file(map, *fd, 0, bytes, &shared);
	return ret ? vm_error(vm, ret, "guest memory does not map: %s", vmplat_last_error()) : 0;
}

static int open_module(struct vm *vm)
{
	int ret = vmplat_open(&vm->dev, NULL);

	return ret ? vm_error(vm, ret, "%s; `--memory-backend memfd` runs without the module, and without snapshots",
			      vmplat_last_error()) : 0;
}

static int new_boot_memory(struct vm *vm)
{
	int ret;

	if (vm->cfg.backend == VM_BACKEND_MEMFD) {
		ret = new_memfd(vm, vm->cfg.mem_bytes, &vm->memfd, &vm->ram_map);
		if (!ret)
			vm_notice(vm, "guest memory is a memfd: no snapshots, no dirty log");
		return ret;
	}
	ret = open_module(vm);
	return ret ? ret : new_vmplat(vm, vm->cfg.mem_bytes, &vm->mem, &vm->log, &vm->ram_map);
}

/* 0 bytes take the slot away */
static int set_slot(struct vm *vm, uint32_t slot, uint64_t gpa, uint64_t bytes, uint8_t *at)
{
	struct kvm_userspace_memory_region r = {
		.slot = slot,
		.guest_phys_addr = gpa,
		.memory_size = bytes,
		.userspace_addr = (uintptr_t)at,
	};

	ram_watch_end(&vm->watch[slot]);
	/* without KVM of ours QEMU maps the file */
	if (vm->fd >= 0 && ioctl(vm->fd, KVM_SET_USER_MEMORY_REGION, &r))
		return vm_error(vm, -errno, "KVM refuses %llu bytes of memory at 0x%llx: %s",
				(unsigned long long)bytes, (unsigned long long)gpa,
				strerror(errno));
	if (bytes && ram_watch_begin(&vm->watch[slot], vm->cfg.name, at, bytes, gpa))
		return vm_error(vm, -ENOMEM, "guest memory cannot be watched: %s",
				vmplat_last_error());
	return 0;
}

int mem_init(struct vm *vm)
{
	int ret = new_boot_memory(vm);

	if (ret)
		return ret;
	vm->ram = vmplat_map_addr(vm->ram_map);
	vm->low_bytes = vm->cfg.mem_bytes;
	if (vm->low_bytes > VM_LOWMEM_END)
		vm->low_bytes = VM_LOWMEM_END;
	vm->high_bytes = vm->cfg.mem_bytes - vm->low_bytes;
	ret = set_slot(vm, SLOT_LOW, 0, vm->low_bytes, vm->ram);
	if (!ret && vm->high_bytes)
		ret = set_slot(vm, SLOT_HIGH, VM_HIGHMEM_BASE, vm->high_bytes,
			       vm->ram + vm->low_bytes);
	return ret;
}

/* Linux 6.11; the headers may be older */
#ifndef KVM_PRE_FAULT_MEMORY
#define KVM_CAP_PRE_FAULT_MEMORY 236
struct kvm_pre_fault_memory {
	__u64 gpa, size, flags, padding[5];
};
#define KVM_PRE_FAULT_MEMORY	_IOWR(KVMIO, 0xd5, struct kvm_pre_fault_memory)
#endif

/* One call instead of one exit a page. A failure costs no more than the exits. */
void mem_prefault(struct vm *vm, uint64_t gpa, uint64_t bytes)
{
	struct kvm_pre_fault_memory r = {
		.gpa = gpa & ~0xfffULL, .size = (bytes + (gpa & 0xfff) + 0xfff) & ~0xfffULL,
	};

	if (ioctl(vm->fd, KVM_CHECK_EXTENSION, KVM_CAP_PRE_FAULT_MEMORY) <= 0)
		return;
	while (r.size && (!ioctl(vm->vcpus[0].fd, KVM_PRE_FAULT_MEMORY, &r) || errno == EINTR))
		;
}

void mem_exit(struct vm *vm)
{
	for (unsigned int i = 0; i < VM_DIMMS_MAX; i++)
		mem_unplug(vm, i);
	ram_watch_end(&vm->watch[SLOT_LOW]);
	ram_watch_end(&vm->watch[SLOT_HIGH]);
	vmplat_map_close(vm->ram_map);
	vmplat_log_close(vm->log);
	vmplat_mem_close(vm->mem);
	if (vm->dev)
		vmplat_close(vm->dev);
	if (vm->memfd >= 0)
		close(vm->memfd);
}

/* ---- memory that comes and goes ------------------------------------------ */

static uint64_t grain_up(uint64_t gpa)
{
	return (gpa + DIMM_GRAIN - 1) & ~(DIMM_GRAIN - 1);
}

/* where the memory that is in the way ends, 0: none is */
static uint64_t in_the_way(const struct vm *vm, uint64_t gpa, uint64_t bytes)
{
	for (unsigned int i = 0; i < VM_DIMMS_MAX; i++) {
		const struct vm_dimm_ram *d = &vm->dimms[i];

		if (d->bytes && gpa < d->gpa + d->bytes && d->gpa < gpa + bytes)
			return d->gpa + d->bytes;
	}
	return 0;
}

uint64_t mem_place(struct vm *vm, uint64_t bytes)
{
	uint64_t gpa = grain_up(VM_HIGHMEM_BASE + vm->high_bytes), past;

	while ((past = in_the_way(vm, gpa, bytes)))
		gpa = grain_up(past);
	return gpa;
}

int mem_plug(struct vm *vm, const struct vm_dimm *from)
{
	struct vm_dimm_ram *d = &vm->dimms[from->slot];
	int ret;

	if (d->bytes || from->gpa < VM_HIGHMEM_BASE + vm->high_bytes ||
	    from->gpa + from->bytes < from->gpa || in_the_way(vm, from->gpa, from->bytes))
		return vm_error(vm, -EINVAL, "memory %s: its slot or its place at 0x%llx is taken",
				from->id, (unsigned long long)from->gpa);
	*d = (struct vm_dimm_ram){ .gpa = from->gpa, .bytes = from->bytes, .memfd = -1 };
	ret = vm->dev ? new_vmplat(vm, d->bytes, &d->mem, &d->log, &d->map)
		      : new_memfd(vm, d->bytes, &d->memfd, &d->map);
	if (!ret)
		d->ram = vmplat_map_addr(d->map);
	if (!ret)
		ret = set_slot(vm, SLOT_DIMM + from->slot, d->gpa, d->bytes, d->ram);
	if (!ret)
		ret = vfio_memory(vm, d->gpa, d->bytes, d->ram);
	if (ret)
		mem_unplug(vm, from->slot);
	else
		report_memories(vm);
	return ret;
}

void mem_unplug(struct vm *vm, unsigned int slot)
{
	struct vm_dimm_ram *d = &vm->dimms[slot];

	if (!d->bytes)
		return;
	vfio_no_memory(vm, d->gpa, d->bytes);
	ram_watch_end(&vm->watch[SLOT_DIMM + slot]);
	if (vm->fd >= 0)
		set_slot(vm, SLOT_DIMM + slot, d->gpa, 0, NULL);
	vmplat_map_close(d->map);
	vmplat_log_close(d->log);
	vmplat_mem_close(d->mem);
	if (d->memfd >= 0)
		close(d->memfd);
	memset(d, 0, sizeof(*d));
	report_memories(vm);
}

unsigned int vm_memories(struct vm *vm, struct vm_memory list[VM_MEMORIES_MAX])
{
	unsigned int nr = 1;

	list[0] = (struct vm_memory){
		"memory", vm->mem, vm->log, vm->ram, vm->cfg.mem_bytes,
	};
	for (unsigned int i = 0; i < vm->cfg.nr_dimms; i++) {
		const struct vm_dimm *c = &vm->cfg.dimms[i];
		const struct vm_dimm_ram *d = &vm->dimms[c->slot];

		list[nr++] = (struct vm_memory){ c->id, d->mem, d->log, d->ram, d->bytes };
	}
	return nr;
}

/* ---- looking it up ------------------------------------------------------- */

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
	for (unsigned int i = 0; i < VM_DIMMS_MAX; i++)
		if (within(gpa, len, vm->dimms[i].gpa, vm->dimms[i].bytes))
			return vm->dimms[i].ram + (gpa - vm->dimms[i].gpa);
	return NULL;
}
