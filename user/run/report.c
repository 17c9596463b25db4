// SPDX-License-Identifier: GPL-2.0-only
/*
 * Tells the module what the VM is doing, and it tells whoever follows events. The kernel
 * itself says so when this process is gone.
 *
 * Nothing depends on it: a VM whose reports nobody takes runs as well, and says once
 * why nobody hears of it. A VM without the module (memfd) has nobody to report to.
 */
#include "vm_priv.h"

/* 0 or -errno with the library's sentence */
static int list_ids(struct vm *vm, uint64_t ids[VM_MEMORIES_MAX], size_t *nr)
{
	int ret = vmplat_mem_id(vm->mem, vm->dev, &ids[0]);

	*nr = 1;
	for (unsigned int i = 0; i < VM_DIMMS_MAX && !ret; i++)
		if (vm->dimms[i].mem)
			ret = vmplat_mem_id(vm->dimms[i].mem, vm->dev, &ids[(*nr)++]);
	return ret;
}

static void unheard(struct vm *vm, int ret)
{
	if (ret && !vm->report_failed)
		vm_notice(vm, "events do not tell what this VM does: %s", vmplat_last_error());
	vm->report_failed = ret;
}

static int begin(struct vm *vm, enum vm_status s)
{
	uint64_t ids[VM_MEMORIES_MAX];
	size_t nr;
	int ret = list_ids(vm, ids, &nr);

	return ret ? ret : vmplat_report_new(&vm->report, vm->dev, vm->cfg.name, vm_status_event(s),
					     ids, nr);
}

void report_status(struct vm *vm, enum vm_status s)
{
	char why[VMPLAT_ERROR_TEXT];

	if (s == VM_STARTING || s == VM_RESTORING) {
		if (vm->dev)
			unheard(vm, begin(vm, s));
	} else if (vm->report && s == VM_FAILED) {
		unheard(vm, vmplat_report_failed(vm->report, vm_last_error(vm, why, sizeof(why))));
	} else if (vm->report) {
		unheard(vm, vmplat_report_state(vm->report, vm_status_event(s)));
	}
}

void report_memories(struct vm *vm)
{
	uint64_t ids[VM_MEMORIES_MAX];
	size_t nr;
	int ret;

	if (!vm->report)
		return;
	ret = list_ids(vm, ids, &nr);
	if (!ret)
		ret = vmplat_report_mems(vm->report, ids, nr);
	unheard(vm, ret);
}

void report_end(struct vm *vm)
{
	vmplat_report_close(vm->report);
	vm->report = NULL;
}
