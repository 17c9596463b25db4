/* SPDX-License-Identifier: GPL-2.0-only */
/*
 * Devices that come and go while the guest runs: disks, network devices, memory, PCI
 * functions of the host.
 *
 *                 add                          the guest's driver is up
 *   (nothing) ----------> adding ------------------------------------> present
 *       ^                   | time is over, or the guest refuses         |   ^
 *       |                   v                                    remove  |   | time is over,
 *       +<------------ withdrawing                                       v   | or it refuses
 *       +<----------------------------------------------------------- removing
 *                           the guest has ejected it
 *
 * "The driver is up" is DRIVER_OK for a virtio device, an _OST of success for
 * memory and for a function of the host, which may have no driver in the guest. Whatever the guest ejects, asked or not, is gone. What it never looked
 * at is taken back at once when the time is over; what it did look at is asked
 * back first. Memory is never taken from a guest that may use it.
 *
 * The time stands still while the VM is paused. A reset ends what is on its way:
 * what was wanted back is gone, what was added is found by the guest as it boots.
 *
 * Requests, time and answers are the control thread's; all of it holds the
 * operation lock. A device is made and destroyed while the VM is halted.
 * On failure vm_error() has the sentence.
 */
#ifndef VMPLAT_RUN_DEVICES_H
#define VMPLAT_RUN_DEVICES_H

#include <stddef.h>

struct blk;
struct json_object;
struct vm;

#define DEVICES_TIMEOUT_MS	30000
#define DEVICES_TIMEOUT_MAX_MS	(24 * 3600 * 1000)

/* ---- life of the VM -------------------------------------------------------- */

/** devices_init - make what the configuration names, before the VM runs */
int devices_init(struct vm *vm);
/** devices_exit - after the VM's devices are destroyed */
void devices_exit(struct vm *vm);
/** devices_reset - halted, under the operation lock, before devices are reset */
void devices_reset(struct vm *vm);

/* ---- requests, on the control thread ---------------------------------------- */

/**
 * devices_add - {"type":"blk"|"net"|"memory"|"pci","device":{...},"timeout_ms":N}
 * @waiter: who is told when it is decided
 * @reply: gets "device" when the answer is 0
 *
 * @req's "device" is as in vm_config_to_json(). -EINPROGRESS: wait for
 * devices_poll(). 0: it was there already, exactly so. -EEXIST: its id is another
 * device's. -EBUSY: that device is on its way in or out.
 */
int devices_add(struct vm *vm, struct json_object *req, void *waiter, struct json_object *reply);
/**
 * devices_remove - {"id":ID,"timeout_ms":N,"force":bool}; -ENOENT, else as devices_add()
 *
 * With "force", a function of the host is gone in the end whatever the guest says.
 */
int devices_remove(struct vm *vm, struct json_object *req, void *waiter);
/** devices_list - an array of {"id","type","state",...} */
struct json_object *devices_list(struct vm *vm);
/** devices_forget - nobody waits any more; what is on its way goes on */
void devices_forget(struct vm *vm, void *waiter);

/** devices_timeout_ms - until devices_poll() is to be called again, -1: not by time */
int devices_timeout_ms(struct vm *vm);
/**
 * devices_poll - after vm->changed_fd was signalled, or the time is over
 * @done: for each request that is decided; @err 0 and @device, or -errno and @why
 */
void devices_poll(struct vm *vm,
		  void (*done)(void *waiter, int err, const char *why, struct json_object *device));

/* ---- snapshots -------------------------------------------------------------- */

/**
 * devices_settled - is nothing on its way? Under the operation lock
 *
 * -EBUSY with a sentence while the guest and the VM may not agree on what there is.
 */
int devices_settled(struct vm *vm);
/** devices_blk - the disk @id's image; NULL: no such disk */
struct blk *devices_blk(struct vm *vm, const char *id);

#endif
