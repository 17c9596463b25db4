// SPDX-License-Identifier: GPL-2.0
/*
 * Virtual machines, as what runs them says. A VM stands and falls with the netlink
 * socket that reported it: the kernel closes that however its process ends.
 *
 * A socket is known by its address, which somebody else may have as soon as it is
 * closed, before its release is notified. So a VM holds its socket, which says
 * whether it is the closed one.
 */
#include <linux/cred.h>
#include <linux/list.h>
#include <linux/mutex.h>
#include <linux/slab.h>
#include <net/netlink.h>
#include <net/sock.h>

#include "event.h"

struct vm {
	struct list_head link;
	struct sock *sk;
	u32 portid;
	u64 id;
	u32 pid;
	u32 state;
	u32 nr_mems;
	char name[VMPLAT_VM_NAME_MAX + 1];
	char reason[VMPLAT_VM_REASON_MAX + 1];
	u64 mems[VMPLAT_VM_MEMS_MAX];
};

static LIST_HEAD(vms);
static DEFINE_MUTEX(lock);		/* @vms and what they hold */

static int put_vm(struct sk_buff *skb, const void *obj)
{
	const struct vm *vm = obj;
	u32 i;

	if (nla_put_string(skb, VMPLAT_NL_VM_NAME, vm->name) ||
	    nla_put_u32(skb, VMPLAT_NL_VM_STATE, vm->state) ||
	    nla_put_u32(skb, VMPLAT_NL_VM_PID, vm->pid))
		return -EMSGSIZE;
	for (i = 0; i < vm->nr_mems; i++)
		if (nla_put_u64_64bit(skb, VMPLAT_NL_VM_MEM, vm->mems[i],
				      VMPLAT_NL_VM_PAD))
			return -EMSGSIZE;
	if (*vm->reason && nla_put_string(skb, VMPLAT_NL_VM_REASON, vm->reason))
		return -EMSGSIZE;
	return 0;
}

static const struct vmplat_event_class vm_class = {
	.class = VMPLAT_CLASS_VM,
	.nest = VMPLAT_NL_A_VM,
	.max_bytes = VMPLAT_EVENT_OBJECT_BYTES,
	.put = put_vm,
};

static void update(struct vm *vm, const struct vmplat_vm_report *report)
{
	if (report->name)
		strscpy(vm->name, report->name, sizeof(vm->name));
	if (report->state) {
		vm->state = report->state;
		strscpy(vm->reason, report->reason ?: "", sizeof(vm->reason));
	}
	if (report->nr_mems < 0)
		return;
	vm->nr_mems = report->nr_mems;
	memcpy(vm->mems, report->mems, vm->nr_mems * sizeof(*vm->mems));
}

static struct vm *find(const struct sock *sk)
{
	struct vm *vm;

	list_for_each_entry(vm, &vms, link)
		if (vm->sk == sk)
			return vm;
	return NULL;
}

static struct vm *create(struct sock *sk, u32 portid,
			 const struct vmplat_vm_report *report)
{
	struct vm *vm = kzalloc(sizeof(*vm), GFP_KERNEL_ACCOUNT);

	if (!vm)
		return NULL;
	sock_hold(sk);
	vm->sk = sk;
	vm->portid = portid;
	vm->id = vmplat_event_new_id();
	vm->pid = task_tgid_nr(current);
	update(vm, report);
	list_add_tail(&vm->link, &vms);
	vmplat_event_add(&vm_class, vm->id, current_uid(), VMPLAT_ACTION_ADD, vm);
	return vm;
}

/**
 * vmplat_vm_set - the VM of a socket is new, or has changed
 * @sk: the socket; open
 * @portid: its address
 * @report: what is new
 * @id: set to the VM's
 *
 * EINVAL: a new VM needs a name and a state; ENOMEM.
 */
int vmplat_vm_set(struct sock *sk, u32 portid,
		  const struct vmplat_vm_report *report, u64 *id)
{
	struct vm *vm;
	int err = 0;

	mutex_lock(&lock);
	vm = find(sk);
	if (vm) {
		update(vm, report);
		vmplat_event_change(&vm_class, vm->id, VMPLAT_ACTION_CHANGE, vm);
	} else if (!report->name || !report->state) {
		err = -EINVAL;
	} else {
		vm = create(sk, portid, report);
		err = vm ? 0 : -ENOMEM;
	}
	if (!err)
		*id = vm->id;
	mutex_unlock(&lock);
	return err;
}

static void destroy(struct vm *vm)
{
	vmplat_event_remove(&vm_class, vm->id, VMPLAT_ACTION_REMOVE);
	list_del(&vm->link);
	sock_put(vm->sk);
	kfree(vm);
}

/* vmplat_vm_released - a socket that had this address was closed */
void vmplat_vm_released(u32 portid)
{
	struct vm *vm, *next;

	mutex_lock(&lock);
	list_for_each_entry_safe(vm, next, &vms, link)
		if (vm->portid == portid && sock_flag(vm->sk, SOCK_DEAD))
			destroy(vm);
	mutex_unlock(&lock);
}

void vmplat_vm_exit(void)
{
	struct vm *vm, *next;

	list_for_each_entry_safe(vm, next, &vms, link)
		destroy(vm);
}
