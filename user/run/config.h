/* SPDX-License-Identifier: GPL-2.0-only */
/* What a VM is made of, as the command line or a snapshot says it. */
#ifndef VMPLAT_RUN_CONFIG_H
#define VMPLAT_RUN_CONFIG_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <vmplat_thread.h>

struct json_object;

#define VM_CPUS_MAX	64
#define VM_DISKS_MAX	16
#define VM_NETS_MAX	8
#define VM_HOSTDEVS_MAX	8
#define VM_INITRDS_MAX	16
#define VM_DIMMS_MAX	16
#define VM_MEM_MIN	(32ULL << 20)
#define VM_MEM_MAX	(64ULL << 30)	/* memory plugged later included */
#define VM_DIMM_ALIGN	(128ULL << 20)	/* what Linux on x86-64 adds and removes at a time */
#define VM_ID_MAX	31

enum vm_backend { VM_BACKEND_VMPLAT, VM_BACKEND_MEMFD };

enum vm_arch { VM_ARCH_X86_64, VM_ARCH_AARCH64, VM_ARCH_RISCV64 };

/* what executes the guest's instructions, where QEMU runs it */
enum vm_accel {
	VM_ACCEL_AUTO,		/* KVM if it is of the guest's architecture, and works */
	VM_ACCEL_KVM,
	VM_ACCEL_TCG,		/* QEMU itself */
};

/* who unpacks a compressed kernel */
enum vm_unpack {
	VM_UNPACK_HOST,		/* the runner; what it unpacked is kept for the next time */
	VM_UNPACK_HOST_NOCACHE,	/* the runner, each time */
	VM_UNPACK_GUEST,	/* the code that the kernel brings along */
};

/*
 * Devices that can come and go. An id is [a-z][a-z0-9-]*, unique in the VM; it also
 * names the device's image in a snapshot. A slot of 0 is yet to be given.
 */
struct vm_disk {
	char id[VM_ID_MAX + 1];
	char *path;
	bool readonly;
	unsigned int slot;	/* on the PCI bus */
};

enum vm_net_kind { VM_NET_NONE, VM_NET_TAP, VM_NET_SOCKET, VM_NET_PASST };

struct vm_net {
	char id[VM_ID_MAX + 1];
	enum vm_net_kind kind;
	char *where;		/* the tap's name, the socket's path; NULL for passt */
	uint8_t mac[6];
	unsigned int slot;	/* on the PCI bus */
};

/* A PCI function of the host that is the guest's while it has it (vfio.h). */
struct vm_hostdev {
	char id[VM_ID_MAX + 1];
	char *host;		/* "0000:01:00.0", or "0000:01:00.0#2": VF 2 of that PF */
	char *owner;		/* whose claim may have it; NULL: $VMPLAT_OWNER, or root */
	unsigned int slot;	/* on the guest's PCI bus */
};

struct vm_dimm {
	char id[VM_ID_MAX + 1];
	uint64_t bytes;
	uint64_t gpa;
	unsigned int slot;	/* of the hot-plug controller, counts from 0 */
};

struct vm_config {
	char *name;
	char *iso;		/* the disc whose files iso:/PATH means, or NULL */
	char *kernel, *cmdline;
	enum vm_arch arch;
	char *firmware;		/* "seabios", "ovmf" or a file; NULL: none, the kernel is entered directly */
	char *efi_vars;		/* the file of OVMF's variables; NULL: forgotten at the end */
	enum vm_accel accel;
	char *initrds[VM_INITRDS_MAX];	/* files one after the other */
	unsigned int nr_initrds;
	char *affinity;		/* vm_affinity_parse(); NULL: anywhere. The host's, not in snapshots */
	uint64_t mem_bytes;	/* at boot, without DIMMs */
	unsigned int nr_cpus;
	struct vm_disk disks[VM_DISKS_MAX];
	unsigned int nr_disks;
	struct vm_net nets[VM_NETS_MAX];
	unsigned int nr_nets;
	struct vm_hostdev hostdevs[VM_HOSTDEVS_MAX];
	unsigned int nr_hostdevs;
	struct vm_dimm dimms[VM_DIMMS_MAX];	/* in the order of their images */
	unsigned int nr_dimms;
	enum vm_backend backend;
	enum vm_unpack unpack;
	bool pinnable;		/* memory that devices may reach, and that cannot be frozen */
	bool no_reboot;		/* a reset by the guest ends the VM */
};

/* "host", "host-nocache", "guest"; the reverse is false for another word */
const char *vm_unpack_name(enum vm_unpack unpack);
bool vm_unpack_parse(enum vm_unpack *unpack, const char *name);

/* "x86_64", "aarch64", "riscv64"; "auto", "kvm", "tcg" */
const char *vm_arch_name(enum vm_arch arch);
bool vm_arch_parse(enum vm_arch *arch, const char *name);
const char *vm_accel_name(enum vm_accel accel);
bool vm_accel_parse(enum vm_accel *accel, const char *name);
/** vm_config_uses_qemu - it needs firmware, or another architecture: QEMU runs it (qemu.h) */
bool vm_config_uses_qemu(const struct vm_config *cfg);

void vm_config_free(struct vm_config *cfg);

/**
 * vm_config_add_disk - append a copy; an empty id becomes "diskN", the first free
 *
 * This and its sisters: NULL, or the sentence that says why not (static storage
 * of this thread). A MAC of all zeroes becomes a random one.
 */
const char *vm_config_add_initrd(struct vm_config *cfg, const char *path);
const char *vm_config_add_disk(struct vm_config *cfg, const struct vm_disk *d);
const char *vm_config_add_net(struct vm_config *cfg, const struct vm_net *n);
const char *vm_config_add_hostdev(struct vm_config *cfg, const struct vm_hostdev *d);
const char *vm_config_add_dimm(struct vm_config *cfg, const struct vm_dimm *d);
/** vm_config_remove - forget the device @id; no such device is no error */
void vm_config_remove(struct vm_config *cfg, const char *id);

struct vm_disk *vm_config_disk(struct vm_config *cfg, const char *id);
struct vm_net *vm_config_net(struct vm_config *cfg, const char *id);
struct vm_hostdev *vm_config_hostdev(struct vm_config *cfg, const char *id);
struct vm_dimm *vm_config_dimm(struct vm_config *cfg, const char *id);

/**
 * vm_net_parse - "tap=NAME", "socket=PATH" or "passt", then ",mac=..", ",id=.."
 *
 * Free @net->where. NULL, or a sentence.
 */
const char *vm_net_parse(struct vm_net *net, const char *text);
/** vm_disk_parse - "FILE", then ",ro", ",id=.."; free @disk->path. NULL, or a sentence */
const char *vm_disk_parse(struct vm_disk *disk, const char *text);
/** vm_hostdev_parse - "ADDRESS[#VF]", then ",owner=..", ",id=.."; vm_hostdev_free(). NULL, or a sentence */
const char *vm_hostdev_parse(struct vm_hostdev *dev, const char *text);
void vm_hostdev_free(struct vm_hostdev *dev);
const char *vm_net_kind_name(enum vm_net_kind kind);
#define VM_MAC_CHARS 18
const char *vm_mac_text(const uint8_t mac[6], char text[VM_MAC_CHARS]);

/*
 * What can be said of a kind of devices, as words of a flag ("FILE,ro,id=x") or as
 * keys of a section: one table for both.
 */
struct vm_key {
	const char *name;
	const char *arg;	/* what its value is called; NULL: it is there, or not */
	bool path;		/* the value is a file's name */
	const char *(*set)(void *dev, const char *value);
};

struct vm_device_kind {
	const char *name;	/* of flag and section */
	const char *head;	/* the key a flag begins with, without naming it; NULL: none */
	const struct vm_key *keys;	/* ends with an empty one */
	size_t bytes;		/* of a device, which begins as zeroes */
	const char *(*complete)(void *dev);	/* NULL, or what is missing */
	const char *(*add)(struct vm_config *cfg, void *dev);	/* a copy */
	void (*free)(void *dev);		/* what is in it */
};

extern const struct vm_device_kind vm_disk_kind, vm_net_kind, vm_hostdev_kind;

const struct vm_key *vm_key_find(const struct vm_device_kind *kind, const char *name, size_t len);
/** vm_device_words - call @fn for each word of a flag's @text; the value of a switch is "" */
typedef const char *vm_word_fn(void *ctx, const struct vm_key *key, const char *value);
const char *vm_device_words(const struct vm_device_kind *kind, const char *text, vm_word_fn *fn,
			    void *ctx);

/**
 * vm_affinity_parse - the CPUs of the host that @vcpu may run on
 * @text: lists as taskset(1) has them, with ':' between them: one for all vCPUs, or one for each
 * @set: NULL to check @text alone
 * @nr: how many lists there are
 *
 * NULL, or a sentence.
 */
const char *vm_affinity_parse(const char *text, unsigned int vcpu, struct vmplat_cpus *set,
			      unsigned int *nr);

const char *vm_check_memory(uint64_t bytes);
const char *vm_check_name(const char *name);
/** vm_config_check - NULL if all is well, else a sentence (static, this thread's) */
const char *vm_config_check(const struct vm_config *cfg);

/**
 * vm_config_to_json - {"name","iso","kernel","initrds":[...],"cmdline","unpack","arch","firmware","efi_vars","accel","memory","cpus",
 * "disks":[{"name","path","readonly","slot"}], "nets":[{"name","kind","where","mac",
 * "slot"}], "devices":[{"name","host","owner","slot"}], "dimms":[{"name","bytes","gpa","slot"}], "pinnable"}
 */
struct json_object *vm_config_to_json(const struct vm_config *cfg);
struct json_object *vm_disk_to_json(const struct vm_disk *d);
struct json_object *vm_net_to_json(const struct vm_net *n);
struct json_object *vm_hostdev_to_json(const struct vm_hostdev *d);
struct json_object *vm_dimm_to_json(const struct vm_dimm *d);
/* The same back. A sentence in *@why on failure. */
int vm_config_from_json(struct vm_config *cfg, struct json_object *obj,
			const char **why);
/* One device of the lists above; "name" and "slot" may be left out. NULL or a sentence. */
const char *vm_disk_from_json(struct vm_disk *d, struct json_object *o);
const char *vm_net_from_json(struct vm_net *n, struct json_object *o);
const char *vm_hostdev_from_json(struct vm_hostdev *d, struct json_object *o);
const char *vm_dimm_from_json(struct vm_dimm *d, struct json_object *o);

#endif
