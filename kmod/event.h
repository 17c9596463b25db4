/* SPDX-License-Identifier: GPL-2.0 */
/*
 * Events, for those that cause them and for those that hand them on:
 *
 *   sources (source_*.c, and the hooks below)  ->  event.c  <-  netlink.c
 */
#ifndef VMPLAT_EVENT_H
#define VMPLAT_EVENT_H

#include <linux/sched.h>
#include <linux/types.h>
#include <linux/uidgid.h>
#include <linux/vmplat.h>
#include <linux/vmplat_netlink.h>

struct net_device;
struct sk_buff;
struct sock;
struct vmplat_log;
struct vmplat_mem;
struct vmplat_view;
struct work_struct;

/* ---- event.c: for sources ------------------------------------------------- */

/**
 * struct vmplat_event_class - how the objects of a class become attributes
 * @class: enum vmplat_class
 * @nest: the attribute around them
 * @max_bytes: most bytes @put ever puts; at most VMPLAT_EVENT_OBJECT_BYTES
 * @put: puts what is true of @obj now; called with a spinlock held, must not
 *	sleep. 0, or -EMSGSIZE.
 */
struct vmplat_event_class {
	u8 class;
	u16 nest;
	u16 max_bytes;
	int (*put)(struct sk_buff *skb, const void *obj);
};

/* Enough for 64 identifiers of 16 bytes, and what else there is to say. */
#define VMPLAT_EVENT_OBJECT_BYTES	1280

void vmplat_event_found(const struct vmplat_event_class *c, u64 id,
			const void *obj);
void vmplat_event_add(const struct vmplat_event_class *c, u64 id, kuid_t owner,
		      enum vmplat_action action, const void *obj);
void vmplat_event_change(const struct vmplat_event_class *c, u64 id,
			 enum vmplat_action action, const void *obj);
void vmplat_event_remove(const struct vmplat_event_class *c, u64 id,
			 enum vmplat_action action);
u64 vmplat_event_new_id(void);

/* ---- event.c: for readers --------------------------------------------------- */

/**
 * struct vmplat_event_record - an event, or an object when @seq is 0
 * @seq: place among all events, from 1
 * @class_seq: place among those of its class, from 1
 * @born: @seq of the event that brought the object
 * @time_ns: CLOCK_BOOTTIME
 * @owner: INVALID_UID for hardware
 * @pid: 0 if no process caused it
 * @bytes: length of @object
 * @gone: the object is no more
 * @object: its nest, ready to be sent
 */
struct vmplat_event_record {
	u64 seq;
	u64 class_seq;
	u64 id;
	u64 born;
	u64 time_ns;
	kuid_t owner;
	u32 pid;
	u16 bytes;
	u8 class;
	u8 action;
	bool gone;
	char comm[TASK_COMM_LEN];
	u8 object[] __aligned(8);
};

#define VMPLAT_EVENT_RECORD_BYTES	\
	(sizeof(struct vmplat_event_record) + VMPLAT_EVENT_OBJECT_BYTES)

struct vmplat_event_info {
	u64 epoch;
	u64 newest;
	u64 oldest;
	u32 ring_bytes;
};

int vmplat_event_init(void);
void vmplat_event_exit(void);
void vmplat_event_start(struct work_struct *listener);
void vmplat_event_stop(void);
void vmplat_event_kick(void);
void vmplat_event_query(struct vmplat_event_info *info);
u64 vmplat_event_generation(u32 classes);
u64 vmplat_event_copy(u64 seq, struct vmplat_event_record *rec);
bool vmplat_event_exists(u8 class, u64 id);
bool vmplat_event_object(u8 class, u64 id, struct vmplat_event_record *rec);
bool vmplat_event_next_object(u8 class, u64 id, struct vmplat_event_record *rec);

/* ---- sources --------------------------------------------------------------- */

int vmplat_source_pci_init(void);
void vmplat_source_pci_exit(void);
int vmplat_source_cpu_init(void);
void vmplat_source_cpu_exit(void);
int vmplat_source_memory_init(void);
void vmplat_source_memory_exit(void);
int vmplat_source_net_init(void);
void vmplat_source_net_exit(void);

/* source_guest.c: hooks for the objects of this module; may sleep unless said */
void vmplat_event_mem_init(struct vmplat_mem *mem);
void vmplat_event_mem_created(struct vmplat_mem *mem);
void vmplat_event_mem_changed(struct vmplat_mem *mem);
void vmplat_event_mem_removed(struct vmplat_mem *mem);
void vmplat_event_log_created(struct vmplat_log *log);
void vmplat_event_log_removed(struct vmplat_log *log);
void vmplat_event_log_marked(struct vmplat_mem *mem);	/* mem->lock */
void vmplat_event_log_taken(struct vmplat_log *log);	/* mem->lock */
void vmplat_event_log_dirty(struct vmplat_mem *mem); /* atomic */
void vmplat_event_view_created(struct vmplat_view *view);
void vmplat_event_view_changed(struct vmplat_view *view,
			       enum vmplat_action action);	/* atomic */
void vmplat_event_view_removed(struct vmplat_view *view);

/* What an event says of a view; filled in by vmplat_view_describe(). */
struct vmplat_view_desc {
	u64 bytes;
	u64 side_limit;
	u32 state;
	bool side_high;
	u32 nr_mems;
	u64 mems[VMPLAT_VIEW_MAX_MEMS];
};

/* source_vm.c: what runners say of their VMs */

/**
 * struct vmplat_vm_report - one VMPLAT_NL_CMD_VM_SET
 * @name: NULL to leave it as it is
 * @state: enum vmplat_vm_state, 0 to leave it
 * @reason: why it failed; belongs to @state, and may be NULL
 * @nr_mems: length of @mems; -1 to leave them
 */
struct vmplat_vm_report {
	const char *name;
	u32 state;
	const char *reason;
	int nr_mems;
	u64 mems[VMPLAT_VM_MEMS_MAX];
};

int vmplat_vm_set(struct sock *sk, u32 portid,
		  const struct vmplat_vm_report *report, u64 *id);
void vmplat_vm_released(u32 portid);
void vmplat_vm_exit(void);

/* ---- netlink.c ---------------------------------------------------------------- */

int vmplat_netlink_init(void);
void vmplat_netlink_exit(void);

#endif /* VMPLAT_EVENT_H */
