// SPDX-License-Identifier: LGPL-2.1-or-later
/* What the attributes of each class mean: tables of the specification, for showing them. */
#include <libmnl/libmnl.h>

#include "lib.h"

#define SIZE(a) (sizeof(a) / sizeof((a)[0]))

struct attr {
	const char *name;
	enum vmplat_field_type type;
	const char *const *words;
	uint32_t nr_words;
	bool list;
};

#define NUMBER(n)	{ .name = (n), .type = VMPLAT_FIELD_NUMBER }
#define SIGNED(n)	{ .name = (n), .type = VMPLAT_FIELD_SIGNED }
#define STRING(n)	{ .name = (n), .type = VMPLAT_FIELD_STRING }
#define FLAG(n)		{ .name = (n), .type = VMPLAT_FIELD_FLAG }
#define BYTES(n)	{ .name = (n), .type = VMPLAT_FIELD_BYTES }
#define LIST(n)		{ .name = (n), .type = VMPLAT_FIELD_NUMBER, .list = true }
#define WORD(n, w)	{ .name = (n), .type = VMPLAT_FIELD_NUMBER, .words = (w), \
			  .nr_words = SIZE(w) }

static const char *const fill_words[] = {
	[VMPLAT_FILL_STATE_NONE] = "none", [VMPLAT_FILL_STATE_ACTIVE] = "active",
	[VMPLAT_FILL_STATE_ENDED] = "ended", [VMPLAT_FILL_STATE_DEAD] = "dead",
};

static const char *const view_words[] = {
	[VMPLAT_VIEW_OK] = "ok", [VMPLAT_VIEW_BROKEN_LIMIT] = "broken-limit",
	[VMPLAT_VIEW_BROKEN_NOMEM] = "broken-nomem",
};

static const char *const vm_words[] = {
	[VMPLAT_VM_STATE_STARTING] = "starting", [VMPLAT_VM_STATE_RUNNING] = "running",
	[VMPLAT_VM_STATE_PAUSED] = "paused", [VMPLAT_VM_STATE_SNAPSHOTTING] = "snapshotting",
	[VMPLAT_VM_STATE_RESTORING] = "restoring", [VMPLAT_VM_STATE_STOPPING] = "stopping",
	[VMPLAT_VM_STATE_STOPPED] = "stopped", [VMPLAT_VM_STATE_FAILED] = "failed",
};

static const struct attr pci_attrs[] = {
	[VMPLAT_NL_PCI_ADDRESS] = STRING("address"),
	[VMPLAT_NL_PCI_VENDOR] = NUMBER("vendor"),
	[VMPLAT_NL_PCI_DEVICE] = NUMBER("device"),
	[VMPLAT_NL_PCI_SUBSYSTEM_VENDOR] = NUMBER("subsystem-vendor"),
	[VMPLAT_NL_PCI_SUBSYSTEM_DEVICE] = NUMBER("subsystem-device"),
	[VMPLAT_NL_PCI_CLASS_CODE] = NUMBER("class-code"),
	[VMPLAT_NL_PCI_REVISION] = NUMBER("revision"),
	[VMPLAT_NL_PCI_DRIVER] = STRING("driver"),
	[VMPLAT_NL_PCI_NUMA_NODE] = SIGNED("numa-node"),
	[VMPLAT_NL_PCI_PHYSFN] = STRING("physfn"),
	[VMPLAT_NL_PCI_USER] = NUMBER("user"),
	[VMPLAT_NL_PCI_ASKED] = FLAG("asked"),
};

static const struct attr vf_attrs[] = {
	[VMPLAT_NL_VF_ADDRESS] = STRING("address"),
	[VMPLAT_NL_VF_PHYSFN] = STRING("physfn"),
	[VMPLAT_NL_VF_INDEX] = NUMBER("index"),
	[VMPLAT_NL_VF_DRIVER] = STRING("driver"),
};

static const struct attr cpu_attrs[] = {
	[VMPLAT_NL_CPU_NUMBER] = NUMBER("number"),
	[VMPLAT_NL_CPU_ONLINE] = FLAG("online"),
	[VMPLAT_NL_CPU_NUMA_NODE] = SIGNED("numa-node"),
};

static const struct attr memory_attrs[] = {
	[VMPLAT_NL_MEMORY_START] = NUMBER("start"),
	[VMPLAT_NL_MEMORY_BYTES] = NUMBER("bytes"),
	[VMPLAT_NL_MEMORY_NUMA_NODE] = SIGNED("numa-node"),
};

static const struct attr net_attrs[] = {
	[VMPLAT_NL_NET_IFINDEX] = NUMBER("ifindex"),
	[VMPLAT_NL_NET_NAME] = STRING("name"),
	[VMPLAT_NL_NET_ADDRESS] = BYTES("address"),
	[VMPLAT_NL_NET_MTU] = NUMBER("mtu"),
	[VMPLAT_NL_NET_UP] = FLAG("up"),
	[VMPLAT_NL_NET_CARRIER] = FLAG("carrier"),
	[VMPLAT_NL_NET_DEVICE] = STRING("device"),
};

static const struct attr mem_attrs[] = {
	[VMPLAT_NL_MEM_BYTES] = NUMBER("bytes"),
	[VMPLAT_NL_MEM_DEV] = NUMBER("dev"),
	[VMPLAT_NL_MEM_INO] = NUMBER("ino"),
	[VMPLAT_NL_MEM_FILL] = WORD("fill", fill_words),
};

static const struct attr log_attrs[] = {
	[VMPLAT_NL_LOG_MEM] = NUMBER("mem"),
	[VMPLAT_NL_LOG_THRESHOLD_PAGES] = NUMBER("threshold-pages"),
	[VMPLAT_NL_LOG_REACHED] = FLAG("reached"),
};

static const struct attr view_attrs[] = {
	[VMPLAT_NL_VIEW_MEM] = LIST("mem"),
	[VMPLAT_NL_VIEW_BYTES] = NUMBER("bytes"),
	[VMPLAT_NL_VIEW_STATE] = WORD("state", view_words),
	[VMPLAT_NL_VIEW_SIDE_LIMIT] = NUMBER("side-limit"),
	[VMPLAT_NL_VIEW_SIDE_HIGH] = FLAG("side-high"),
};

static const struct attr vm_attrs[] = {
	[VMPLAT_NL_VM_NAME] = STRING("name"),
	[VMPLAT_NL_VM_STATE] = WORD("state", vm_words),
	[VMPLAT_NL_VM_PID] = NUMBER("pid"),
	[VMPLAT_NL_VM_MEM] = LIST("mem"),
	[VMPLAT_NL_VM_REASON] = STRING("reason"),
};

static const struct attr domain_attrs[] = {
	[VMPLAT_NL_DOMAIN_GROUP] = LIST("group"),
	[VMPLAT_NL_DOMAIN_QUARANTINED] = LIST("quarantined"),
	[VMPLAT_NL_DOMAIN_MAPPINGS_HIGH] = FLAG("mappings-high"),
};

static const struct {
	const char *name;
	const struct attr *attrs;
	uint32_t nr_attrs;
} classes[] = {
	[VMPLAT_CLASS_PCI] = { "pci", pci_attrs, SIZE(pci_attrs) },
	[VMPLAT_CLASS_VF] = { "vf", vf_attrs, SIZE(vf_attrs) },
	[VMPLAT_CLASS_CPU] = { "cpu", cpu_attrs, SIZE(cpu_attrs) },
	[VMPLAT_CLASS_MEMORY] = { "memory", memory_attrs, SIZE(memory_attrs) },
	[VMPLAT_CLASS_NET] = { "net", net_attrs, SIZE(net_attrs) },
	[VMPLAT_CLASS_MEM] = { "mem", mem_attrs, SIZE(mem_attrs) },
	[VMPLAT_CLASS_LOG] = { "log", log_attrs, SIZE(log_attrs) },
	[VMPLAT_CLASS_VIEW] = { "view", view_attrs, SIZE(view_attrs) },
	[VMPLAT_CLASS_DOMAIN] = { "domain", domain_attrs, SIZE(domain_attrs) },
	[VMPLAT_CLASS_VM] = { "vm", vm_attrs, SIZE(vm_attrs) },
};

static const char *const actions[] = {
	[VMPLAT_ACTION_ADD] = "add", [VMPLAT_ACTION_REMOVE] = "remove",
	[VMPLAT_ACTION_CHANGE] = "change", [VMPLAT_ACTION_BIND] = "bind",
	[VMPLAT_ACTION_UNBIND] = "unbind", [VMPLAT_ACTION_ONLINE] = "online",
	[VMPLAT_ACTION_OFFLINE] = "offline", [VMPLAT_ACTION_THRESHOLD] = "threshold",
	[VMPLAT_ACTION_SIDE_HIGH] = "side-high", [VMPLAT_ACTION_BROKEN] = "broken",
	[VMPLAT_ACTION_OPEN] = "open", [VMPLAT_ACTION_ASK] = "ask", [VMPLAT_ACTION_CLOSE] = "close",
	[VMPLAT_ACTION_ATTACH] = "attach", [VMPLAT_ACTION_DETACH] = "detach",
	[VMPLAT_ACTION_MAPPINGS_HIGH] = "mappings-high",
};

API const char *vmplat_class_name(uint32_t class_)
{
	return class_ < SIZE(classes) ? classes[class_].name : NULL;
}

API uint32_t vmplat_class_of(const char *name)
{
	for (uint32_t i = 1; i < SIZE(classes); i++)
		if (!strcmp(classes[i].name, name))
			return i;
	return 0;
}

API const char *vmplat_action_name(uint32_t action)
{
	return action < SIZE(actions) ? actions[action] : NULL;
}

/* Any unsigned number; false if it has no length a number can have. */
static bool number_of(const struct nlattr *attr, uint64_t *number)
{
	switch (mnl_attr_get_payload_len(attr)) {
	case 1:
		*number = mnl_attr_get_u8(attr);
		return true;
	case 2:
		*number = mnl_attr_get_u16(attr);
		return true;
	case 4:
		*number = mnl_attr_get_u32(attr);
		return true;
	case 8:
		*number = mnl_attr_get_u64(attr);
		return true;
	default:
		return false;
	}
}

static bool read_field(const struct nlattr *attr, const struct attr *known,
		       struct vmplat_field *field)
{
	*field = (struct vmplat_field) {
		.name = known->name,
		.attr = mnl_attr_get_type(attr),
		.type = known->type,
		.list = known->list,
	};
	switch (known->type) {
	case VMPLAT_FIELD_NUMBER:
	case VMPLAT_FIELD_SIGNED:
		if (!number_of(attr, &field->number))
			return false;
		field->signed_number = (int32_t)field->number;
		if (field->number < known->nr_words)
			field->word = known->words[field->number];
		return true;
	case VMPLAT_FIELD_STRING:
		field->string = mnl_attr_get_str(attr);
		return !mnl_attr_validate(attr, MNL_TYPE_NUL_STRING);
	case VMPLAT_FIELD_FLAG:
		return true;
	case VMPLAT_FIELD_BYTES:
		field->bytes = mnl_attr_get_payload(attr);
		field->nr_bytes = mnl_attr_get_payload_len(attr);
		return true;
	}
	return false;
}

API int vmplat_event_field(const struct vmplat_event *event, size_t *pos,
			   struct vmplat_field *field)
{
	while (*pos < event->object_bytes && event->class_ < SIZE(classes)) {
		const struct nlattr *attr = (const void *)((const char *)event->object + *pos);
		uint32_t type;

		if (!mnl_attr_ok(attr, event->object_bytes - *pos))
			break;
		type = mnl_attr_get_type(attr);
		*pos += MNL_ALIGN(attr->nla_len);
		if (type < classes[event->class_].nr_attrs &&
		    classes[event->class_].attrs[type].name &&
		    read_field(attr, &classes[event->class_].attrs[type], field))
			return 1;
	}
	return 0;
}
