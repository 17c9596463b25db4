// SPDX-License-Identifier: GPL-2.0-only
/*
 * The whole VM to and from a state blob. Sections: "clock", "vcpu/N", "board",
 * one for each device under its own name, and "shape", which says what VM they
 * fit: u64 memory bytes, u32 vCPUs, u32 devices. Of a VM that QEMU runs: "shape" and
 * "qemu", which is the type of its machine and what QEMU wrote, each behind its length.
 */
#include <errno.h>
#include <stdio.h>
#include <string.h>

#include "qemu.h"
#include "vm_priv.h"

#define SHAPE_VERSION	1
#define VCPU_VERSION	1
#define BOARD_VERSION	1
#define CLOCK_VERSION	1
#define QEMU_VERSION	1

static uint32_t nr_devices(struct vm *vm)
{
	uint32_t n = 0;

	for (struct vm_device *d = vm->devices; d; d = d->next)
		n++;
	return n;
}

static uint64_t all_memory(struct vm *vm)
{
	struct vm_memory list[VM_MEMORIES_MAX];
	unsigned int nr = vm_memories(vm, list);
	uint64_t bytes = 0;

	while (nr--)
		bytes += list[nr].bytes;
	return bytes;
}

static void save_shape(struct vm *vm, struct state_writer *w)
{
	state_begin(w, "shape", SHAPE_VERSION);
	state_put_u64(w, all_memory(vm));
	state_put_u32(w, vm->nr_vcpus);
	state_put_u32(w, nr_devices(vm));
	state_end(w);
}

static void keep_error(struct state_writer *w, int ret)
{
	if (ret && !w->err)
		w->err = ret;
}

int vm_save_cpus(struct vm *vm, struct state_writer *w)
{
	char name[16];

	for (unsigned int i = 0; i < vm->nr_vcpus; i++) {
		snprintf(name, sizeof(name), "vcpu/%u", i);
		state_begin(w, name, VCPU_VERSION);
		keep_error(w, arch_vcpu_save(&vm->vcpus[i], w));
		state_end(w);
	}
	state_begin(w, "board", BOARD_VERSION);
	keep_error(w, arch_vm_save(vm, w));
	state_end(w);
	return w->err;
}

static int save_qemu(struct vm *vm, struct state_writer *w)
{
	state_begin(w, "qemu", QEMU_VERSION);
	keep_error(w, qemu_save(vm, w));
	state_end(w);
	return w->err;
}

int vm_save(struct vm *vm, struct state_writer *w)
{
	save_shape(vm, w);
	if (vm->qemu)
		return save_qemu(vm, w);
	state_begin(w, "clock", CLOCK_VERSION);
	keep_error(w, arch_vm_save_clock(vm, w));
	state_end(w);
	vm_save_cpus(vm, w);
	for (struct vm_device *d = vm->devices; d; d = d->next) {
		if (!d->ops->save)
			continue;
		state_begin(w, d->name, d->version);
		d->ops->save(d->opaque, w);
		state_end(w);
	}
	return w->err;
}

/* ---- loading ------------------------------------------------------------- */

static int find(struct vm *vm, const struct state_blob *b, const char *name,
		uint32_t max_version, struct state_reader *r, uint32_t *version)
{
	if (state_blob_find(b, name, r, version))
		return vm_error(vm, -EBADMSG, "the VM state has no section '%s': it is of a VM of another shape",
				name);
	if (!*version || *version > max_version)
		return vm_error(vm, -EOPNOTSUPP, "section '%s' of the VM state has version %u, this vmplat knows 1 to %u",
				name, *version, max_version);
	return 0;
}

/* a section must be used up exactly */
static int finish(struct vm *vm, const char *name, struct state_reader *r, int ret)
{
	if (!ret && (r->err || r->p != r->end))
		return vm_error(vm, -EBADMSG, "section '%s' of the VM state is %s", name,
				r->err ? "cut short" : "longer than it should be");
	return ret;
}

static int load_shape(struct vm *vm, const struct state_blob *b)
{
	struct state_reader r;
	uint64_t bytes;
	uint32_t version, vcpus, devices;
	int ret = find(vm, b, "shape", SHAPE_VERSION, &r, &version);

	if (ret)
		return ret;
	bytes = state_get_u64(&r);
	vcpus = state_get_u32(&r);
	devices = state_get_u32(&r);
	ret = finish(vm, "shape", &r, 0);
	if (!ret && (bytes != all_memory(vm) || vcpus != vm->nr_vcpus ||
		     devices != nr_devices(vm)))
		ret = vm_error(vm, -EINVAL, "the state is of a VM with %llu MiB, %u vCPUs, %u devices; this one has %llu MiB, %u, %u",
			       (unsigned long long)bytes >> 20, vcpus, devices,
			       (unsigned long long)all_memory(vm) >> 20,
			       vm->nr_vcpus, nr_devices(vm));
	return ret;
}

static int load_vcpu(struct vm *vm, const struct state_blob *b, unsigned int i)
{
	struct state_reader r;
	uint32_t version;
	char name[16];
	int ret;

	snprintf(name, sizeof(name), "vcpu/%u", i);
	ret = find(vm, b, name, VCPU_VERSION, &r, &version);
	if (ret)
		return ret;
	return finish(vm, name, &r, arch_vcpu_load(&vm->vcpus[i], &r, version));
}

static int load_board(struct vm *vm, const struct state_blob *b)
{
	struct state_reader r;
	uint32_t version;
	int ret = find(vm, b, "board", BOARD_VERSION, &r, &version);

	return ret ? ret : finish(vm, "board", &r, arch_vm_load(vm, &r, version));
}

static int load_device(struct vm *vm, const struct state_blob *b, struct vm_device *d)
{
	struct state_reader r;
	uint32_t version;
	int ret;

	if (!d->ops->load)
		return 0;
	ret = find(vm, b, d->name, d->version, &r, &version);
	if (ret)
		return ret;
	vm_error(vm, 0, "%s", "");
	ret = d->ops->load(d->opaque, &r, version);
	if (ret && !vm->error.text[0])
		vm_error(vm, ret, "device %s does not take its state: %s", d->name,
			 strerror(-ret));
	return finish(vm, d->name, &r, ret);
}

static int load_clock(struct vm *vm, const struct state_blob *b)
{
	struct state_reader r;
	uint32_t version;
	int ret = find(vm, b, "clock", CLOCK_VERSION, &r, &version);

	return ret ? ret : finish(vm, "clock", &r, arch_vm_load_clock(vm, &r));
}

/* Local APICs before the IOAPIC: one that is loaded with an interrupt waiting delivers it at once. */
static int load_cpus(struct vm *vm, const struct state_blob *b)
{
	int ret = 0;

	for (unsigned int i = 0; i < vm->nr_vcpus && !ret; i++)
		ret = load_vcpu(vm, b, i);
	return ret ? ret : load_board(vm, b);
}

/*
 * Devices come before the board, so that a line they raise again does not change
 * an interrupt controller that has been loaded. The clock comes last, so that as
 * little time as possible passes for the guest.
 */
static int load_without_clock(struct vm *vm, const struct state_blob *b)
{
	int ret = load_shape(vm, b);

	for (struct vm_device *d = vm->devices; d && !ret; d = d->next)
		ret = load_device(vm, b, d);
	return ret ? ret : load_cpus(vm, b);
}

static int load_all(struct vm *vm, const struct state_blob *b)
{
	int ret = load_without_clock(vm, b);

	return ret ? ret : load_clock(vm, b);
}

typedef int (*load_fn)(struct vm *vm, const struct state_blob *b);

static int load_blob(struct vm *vm, const void *buf, size_t len, load_fn load)
{
	struct state_blob b;
	const char *why;
	int ret;

	ret = state_blob_parse(&b, buf, len, &why);
	if (ret)
		return vm_error(vm, ret, "the VM state is damaged: %s", why);
	ret = load(vm, &b);
	state_blob_free(&b);
	return ret;
}

int vm_load_cpus(struct vm *vm, const void *buf, size_t len)
{
	return load_blob(vm, buf, len, load_cpus);
}

/* all but memory is QEMU's to know */
static int load_qemu(struct vm *vm, const struct state_blob *b)
{
	struct state_reader r;
	uint32_t version;
	int ret = load_shape(vm, b);

	if (!ret)
		ret = find(vm, b, "qemu", QEMU_VERSION, &r, &version);
	return ret ? ret : finish(vm, "qemu", &r, qemu_load(vm, &r));
}

int vm_load(struct vm *vm, const void *buf, size_t len, bool with_clock)
{
	if (vm->qemu)
		return load_blob(vm, buf, len, load_qemu);
	return load_blob(vm, buf, len, with_clock ? load_all : load_without_clock);
}
