/* SPDX-License-Identifier: ((GPL-2.0 WITH Linux-syscall-note) OR BSD-3-Clause) */
/*
 * The numbers of the generic netlink family "vmplat": events of a host of virtual
 * machines and the objects they are about. What they mean, and which message
 * carries which attribute, is said in Documentation/netlink/specs/vmplat.yaml;
 * how to use them in Documentation/events.rst. The selftest event-spec checks
 * that this file says the same as the specification.
 *
 * Attributes of 64 bits are as nla_put_u64_64bit() puts them.
 *
 * Changelog
 *   1  first version; users of PCI functions were added to it
 */

#ifndef _UAPI_LINUX_VMPLAT_NETLINK_H
#define _UAPI_LINUX_VMPLAT_NETLINK_H

#define VMPLAT_FAMILY_NAME	"vmplat"
#define VMPLAT_FAMILY_VERSION	1

/**
 * enum vmplat_class - What kind of object an event is about. There is a
 *   multicast group of each name. Joining mem, log, view, domain and vm needs
 *   CAP_NET_ADMIN; who may open /dev/vmplat gets them by filter-set, with
 *   device-fd.
 * @VMPLAT_CLASS_PCI: PCI functions, virtual ones included. The id is domain <<
 *   16 | bus << 8 | devfn.
 * @VMPLAT_CLASS_VF: Virtual functions of SR-IOV, with the PF they belong to;
 *   ids as in class pci.
 * @VMPLAT_CLASS_CPU: CPUs that are present. The id is the CPU's number.
 * @VMPLAT_CLASS_MEMORY: Memory blocks of the host that are online. The id is
 *   the number of the block, as in /sys/devices/system/memory.
 * @VMPLAT_CLASS_NET: Network devices of the initial network namespace. The id
 *   is the interface index.
 * @VMPLAT_CLASS_MEM: Guest memories. Ids of this and the following classes are
 *   never used twice.
 * @VMPLAT_CLASS_LOG: Dirty logs.
 * @VMPLAT_CLASS_VIEW: Frozen views.
 * @VMPLAT_CLASS_DOMAIN: IOMMU domains of this module.
 * @VMPLAT_CLASS_VM: Virtual machines, reported by what runs them.
 */
enum vmplat_class {
	VMPLAT_CLASS_PCI = 1,
	VMPLAT_CLASS_VF,
	VMPLAT_CLASS_CPU,
	VMPLAT_CLASS_MEMORY,
	VMPLAT_CLASS_NET,
	VMPLAT_CLASS_MEM,
	VMPLAT_CLASS_LOG,
	VMPLAT_CLASS_VIEW,
	VMPLAT_CLASS_DOMAIN,
	VMPLAT_CLASS_VM,

	/* private: */
	__VMPLAT_CLASS_MAX,
	VMPLAT_CLASS_MAX = (__VMPLAT_CLASS_MAX - 1)
};

/**
 * enum vmplat_action - What happened. Readers that only keep a table need not
 *   look at it.
 * @VMPLAT_ACTION_ADD: The object is new.
 * @VMPLAT_ACTION_REMOVE: The object is gone; what is sent is its last state.
 * @VMPLAT_ACTION_CHANGE: Something of the object changed.
 * @VMPLAT_ACTION_BIND: A driver took the device.
 * @VMPLAT_ACTION_UNBIND: The driver gave the device back.
 * @VMPLAT_ACTION_ONLINE: The CPU or memory block is used by the kernel from
 *   now on.
 * @VMPLAT_ACTION_OFFLINE: The kernel no longer uses the CPU or memory block.
 * @VMPLAT_ACTION_THRESHOLD: The log has as many marks as its creator wanted to
 *   hear about.
 * @VMPLAT_ACTION_SIDE_HIGH: A view has used three quarters of its side memory.
 * @VMPLAT_ACTION_BROKEN: The instant of a view could not be kept; reading it
 *   fails.
 * @VMPLAT_ACTION_OPEN: A process has opened the device.
 * @VMPLAT_ACTION_ASK: That process is asked to let go of the device.
 * @VMPLAT_ACTION_CLOSE: It has let go.
 * @VMPLAT_ACTION_ATTACH: A group of devices sees what is mapped in the domain.
 * @VMPLAT_ACTION_DETACH: A group of devices sees nothing any more, or is no
 *   longer the domain's.
 * @VMPLAT_ACTION_MAPPINGS_HIGH: A domain has three quarters of the mappings it
 *   can have.
 */
enum vmplat_action {
	VMPLAT_ACTION_ADD = 1,
	VMPLAT_ACTION_REMOVE,
	VMPLAT_ACTION_CHANGE,
	VMPLAT_ACTION_BIND,
	VMPLAT_ACTION_UNBIND,
	VMPLAT_ACTION_ONLINE,
	VMPLAT_ACTION_OFFLINE,
	VMPLAT_ACTION_THRESHOLD,
	VMPLAT_ACTION_SIDE_HIGH,
	VMPLAT_ACTION_BROKEN,
	VMPLAT_ACTION_OPEN,
	VMPLAT_ACTION_ASK,
	VMPLAT_ACTION_CLOSE,
	VMPLAT_ACTION_ATTACH,
	VMPLAT_ACTION_DETACH,
	VMPLAT_ACTION_MAPPINGS_HIGH,

	/* private: */
	__VMPLAT_ACTION_MAX,
	VMPLAT_ACTION_MAX = (__VMPLAT_ACTION_MAX - 1)
};

/**
 * enum vmplat_vm_state - What a VM is doing, as its runner says.
 * @VMPLAT_VM_STATE_SNAPSHOTTING: Standing still for a snapshot, for a moment.
 * @VMPLAT_VM_STATE_RESTORING: Starting where a snapshot was taken.
 * @VMPLAT_VM_STATE_STOPPED: Ended in order. A VM that vanishes in any state but
 *   this and failed was lost.
 * @VMPLAT_VM_STATE_FAILED: It cannot go on; the attribute reason says why.
 */
enum vmplat_vm_state {
	VMPLAT_VM_STATE_STARTING = 1,
	VMPLAT_VM_STATE_RUNNING,
	VMPLAT_VM_STATE_PAUSED,
	VMPLAT_VM_STATE_SNAPSHOTTING,
	VMPLAT_VM_STATE_RESTORING,
	VMPLAT_VM_STATE_STOPPING,
	VMPLAT_VM_STATE_STOPPED,
	VMPLAT_VM_STATE_FAILED,

	/* private: */
	__VMPLAT_VM_STATE_MAX,
	VMPLAT_VM_STATE_MAX = (__VMPLAT_VM_STATE_MAX - 1)
};

/**
 * enum vmplat_fill_state - Where the content of a memory comes from.
 * @VMPLAT_FILL_STATE_NONE: Missing pages are zeroes.
 * @VMPLAT_FILL_STATE_ACTIVE: Missing pages are awaited from a filler.
 * @VMPLAT_FILL_STATE_ENDED: The filler has supplied all there was.
 * @VMPLAT_FILL_STATE_DEAD: The filler closed its file before it was done;
 *   missing pages cannot be had.
 */
enum vmplat_fill_state {
	VMPLAT_FILL_STATE_NONE = 1,
	VMPLAT_FILL_STATE_ACTIVE,
	VMPLAT_FILL_STATE_ENDED,
	VMPLAT_FILL_STATE_DEAD,

	/* private: */
	__VMPLAT_FILL_STATE_MAX,
	VMPLAT_FILL_STATE_MAX = (__VMPLAT_FILL_STATE_MAX - 1)
};

#define VMPLAT_VM_NAME_MAX	63
#define VMPLAT_VM_MEMS_MAX	64
#define VMPLAT_VM_REASON_MAX	127

enum vmplat_nl_message {
	VMPLAT_NL_A_PAD = 1,
	VMPLAT_NL_A_EPOCH,
	VMPLAT_NL_A_SEQ,
	VMPLAT_NL_A_OLDEST,
	VMPLAT_NL_A_CAPACITY,
	VMPLAT_NL_A_CLASS,
	VMPLAT_NL_A_ACTION,
	VMPLAT_NL_A_ID,
	VMPLAT_NL_A_BORN,
	VMPLAT_NL_A_GONE,
	VMPLAT_NL_A_CLASS_SEQ,
	VMPLAT_NL_A_TIME,
	VMPLAT_NL_A_PID,
	VMPLAT_NL_A_COMM,
	VMPLAT_NL_A_OWNER,
	VMPLAT_NL_A_OVERRUN,
	VMPLAT_NL_A_SINCE,
	VMPLAT_NL_A_CLASSES,
	VMPLAT_NL_A_DEVICE_FD,
	VMPLAT_NL_A_PCI,
	VMPLAT_NL_A_VF,
	VMPLAT_NL_A_CPU,
	VMPLAT_NL_A_MEMORY,
	VMPLAT_NL_A_NET,
	VMPLAT_NL_A_MEM,
	VMPLAT_NL_A_LOG,
	VMPLAT_NL_A_VIEW,
	VMPLAT_NL_A_VM,
	VMPLAT_NL_A_DOMAIN,

	__VMPLAT_NL_A_MAX,
	VMPLAT_NL_A_MAX = (__VMPLAT_NL_A_MAX - 1)
};

enum vmplat_nl_overrun {
	VMPLAT_NL_OVERRUN_PAD = 1,
	VMPLAT_NL_OVERRUN_FIRST,
	VMPLAT_NL_OVERRUN_LAST,

	__VMPLAT_NL_OVERRUN_MAX,
	VMPLAT_NL_OVERRUN_MAX = (__VMPLAT_NL_OVERRUN_MAX - 1)
};

enum vmplat_nl_pci {
	VMPLAT_NL_PCI_ADDRESS = 1,
	VMPLAT_NL_PCI_VENDOR,
	VMPLAT_NL_PCI_DEVICE,
	VMPLAT_NL_PCI_SUBSYSTEM_VENDOR,
	VMPLAT_NL_PCI_SUBSYSTEM_DEVICE,
	VMPLAT_NL_PCI_CLASS_CODE,
	VMPLAT_NL_PCI_REVISION,
	VMPLAT_NL_PCI_DRIVER,
	VMPLAT_NL_PCI_NUMA_NODE,
	VMPLAT_NL_PCI_PHYSFN,
	VMPLAT_NL_PCI_USER,
	VMPLAT_NL_PCI_ASKED,

	__VMPLAT_NL_PCI_MAX,
	VMPLAT_NL_PCI_MAX = (__VMPLAT_NL_PCI_MAX - 1)
};

enum vmplat_nl_vf {
	VMPLAT_NL_VF_ADDRESS = 1,
	VMPLAT_NL_VF_PHYSFN,
	VMPLAT_NL_VF_INDEX,
	VMPLAT_NL_VF_DRIVER,

	__VMPLAT_NL_VF_MAX,
	VMPLAT_NL_VF_MAX = (__VMPLAT_NL_VF_MAX - 1)
};

enum vmplat_nl_cpu {
	VMPLAT_NL_CPU_NUMBER = 1,
	VMPLAT_NL_CPU_ONLINE,
	VMPLAT_NL_CPU_NUMA_NODE,

	__VMPLAT_NL_CPU_MAX,
	VMPLAT_NL_CPU_MAX = (__VMPLAT_NL_CPU_MAX - 1)
};

enum vmplat_nl_memory {
	VMPLAT_NL_MEMORY_PAD = 1,
	VMPLAT_NL_MEMORY_START,
	VMPLAT_NL_MEMORY_BYTES,
	VMPLAT_NL_MEMORY_NUMA_NODE,

	__VMPLAT_NL_MEMORY_MAX,
	VMPLAT_NL_MEMORY_MAX = (__VMPLAT_NL_MEMORY_MAX - 1)
};

enum vmplat_nl_net {
	VMPLAT_NL_NET_IFINDEX = 1,
	VMPLAT_NL_NET_NAME,
	VMPLAT_NL_NET_ADDRESS,
	VMPLAT_NL_NET_MTU,
	VMPLAT_NL_NET_UP,
	VMPLAT_NL_NET_CARRIER,
	VMPLAT_NL_NET_DEVICE,

	__VMPLAT_NL_NET_MAX,
	VMPLAT_NL_NET_MAX = (__VMPLAT_NL_NET_MAX - 1)
};

enum vmplat_nl_mem {
	VMPLAT_NL_MEM_PAD = 1,
	VMPLAT_NL_MEM_BYTES,
	VMPLAT_NL_MEM_DEV,
	VMPLAT_NL_MEM_INO,
	VMPLAT_NL_MEM_FILL,

	__VMPLAT_NL_MEM_MAX,
	VMPLAT_NL_MEM_MAX = (__VMPLAT_NL_MEM_MAX - 1)
};

enum vmplat_nl_log {
	VMPLAT_NL_LOG_PAD = 1,
	VMPLAT_NL_LOG_MEM,
	VMPLAT_NL_LOG_THRESHOLD_PAGES,
	VMPLAT_NL_LOG_REACHED,

	__VMPLAT_NL_LOG_MAX,
	VMPLAT_NL_LOG_MAX = (__VMPLAT_NL_LOG_MAX - 1)
};

enum vmplat_nl_view {
	VMPLAT_NL_VIEW_PAD = 1,
	VMPLAT_NL_VIEW_MEM,
	VMPLAT_NL_VIEW_BYTES,
	VMPLAT_NL_VIEW_STATE,
	VMPLAT_NL_VIEW_SIDE_LIMIT,
	VMPLAT_NL_VIEW_SIDE_HIGH,

	__VMPLAT_NL_VIEW_MAX,
	VMPLAT_NL_VIEW_MAX = (__VMPLAT_NL_VIEW_MAX - 1)
};

enum vmplat_nl_vm {
	VMPLAT_NL_VM_PAD = 1,
	VMPLAT_NL_VM_NAME,
	VMPLAT_NL_VM_STATE,
	VMPLAT_NL_VM_PID,
	VMPLAT_NL_VM_MEM,
	VMPLAT_NL_VM_REASON,

	__VMPLAT_NL_VM_MAX,
	VMPLAT_NL_VM_MAX = (__VMPLAT_NL_VM_MAX - 1)
};

enum vmplat_nl_domain {
	VMPLAT_NL_DOMAIN_GROUP = 1,
	VMPLAT_NL_DOMAIN_QUARANTINED,
	VMPLAT_NL_DOMAIN_MAPPINGS_HIGH,

	__VMPLAT_NL_DOMAIN_MAX,
	VMPLAT_NL_DOMAIN_MAX = (__VMPLAT_NL_DOMAIN_MAX - 1)
};

enum vmplat_nl_cmd {
	VMPLAT_NL_CMD_INFO_GET = 1,
	VMPLAT_NL_CMD_OBJECT_GET,
	VMPLAT_NL_CMD_EVENT_GET,
	VMPLAT_NL_CMD_EVENT_NTF,
	VMPLAT_NL_CMD_FILTER_SET,
	VMPLAT_NL_CMD_VM_SET,

	__VMPLAT_NL_CMD_MAX,
	VMPLAT_NL_CMD_MAX = (__VMPLAT_NL_CMD_MAX - 1)
};

#define VMPLAT_MCGRP_PCI	"pci"
#define VMPLAT_MCGRP_VF		"vf"
#define VMPLAT_MCGRP_CPU	"cpu"
#define VMPLAT_MCGRP_MEMORY	"memory"
#define VMPLAT_MCGRP_NET	"net"
#define VMPLAT_MCGRP_MEM	"mem"
#define VMPLAT_MCGRP_LOG	"log"
#define VMPLAT_MCGRP_VIEW	"view"
#define VMPLAT_MCGRP_DOMAIN	"domain"
#define VMPLAT_MCGRP_VM		"vm"

#endif /* _UAPI_LINUX_VMPLAT_NETLINK_H */
