// SPDX-License-Identifier: GPL-2.0-only
/*
 * Tells the module what the VM is doing, and it tells whoever follows events. The kernel
 * itself says so when this process is gone.
 *
 * Nothing depends on it: a VM whose reports nobody takes runs as well, and says once
 * why nobody hears of it. A VM without the module (memfd) has nobody to report to.
 */
#include "vm_priv.h"

static const uint32_t states[] = {
	[VM_CREATED] = VMPLAT_VM_STATE_STARTING, [VM_RUNNING] = VMPLAT_VM_STATE_RUNNING,
	[VM_PAUSED] = VMPLAT_VM_STATE_PAUSED, [VM_SNAPSHOTTING] = VMPLAT_VM_STATE_SNAPSHOTTING,
	[VM_STOPPED] = VMPLAT_VM_STATE_STOPPED, [VM_FAILED] = VMPLAT_VM_STATE_FAILED,
};

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

void report_begin(struct vm *vm, bool restoring)
{
	uint64_t ids[VM_MEMORIES_MAX];
	size_t nr;
	int ret;

	if (!vm->dev)
		return;
	ret = list_ids(vm, ids, &nr);
	if (!ret)
		ret = vmplat_report_new(&vm->report, vm->dev, vm->cfg.name,
					restoring ? VMPLAT_VM_STATE_RESTORING
						  : VMPLAT_VM_STATE_STARTING, ids, nr);
	unheard(vm, ret);
}

void report_status(struct vm *vm)
{
	enum vm_status s = vm_status(vm);
	char why[VMPLAT_ERROR_TEXT];

	if (!vm->report)
		return;
	if (s == VM_FAILED)
		unheard(vm, vmplat_report_failed(vm->report, vm_last_error(vm, why, sizeof(why))));
	else
		unheard(vm, vmplat_report_state(vm->report, states[s]));
}

void report_stopping(struct vm *vm)
{
	if (vm->report)
		unheard(vm, vmplat_report_state(vm->report, VMPLAT_VM_STATE_STOPPING));
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
