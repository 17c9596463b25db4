/* SPDX-License-Identifier: GPL-2.0-only */
/* What a VM is made of, as the command line or a snapshot says it. */
#ifndef VMPLAT_RUN_CONFIG_H
#define VMPLAT_RUN_CONFIG_H

#include <stdbool.h>
#include <stdint.h>

struct json_object;

#define VM_CPUS_MAX	64
#define VM_DISKS_MAX	16
#define VM_MEM_MIN	(32ULL << 20)
#define VM_MEM_MAX	(64ULL << 30)

enum vm_backend { VM_BACKEND_VMPLAT, VM_BACKEND_MEMFD };

struct vm_disk {
	char *path;
	bool readonly;
};

struct vm_config {
	char *name;
	char *kernel, *initrd, *cmdline;
	uint64_t mem_bytes;
	unsigned int nr_cpus;
	struct vm_disk disks[VM_DISKS_MAX];
	unsigned int nr_disks;
	enum vm_backend backend;
	bool no_reboot;		/* a reset by the guest ends the VM */
};

void vm_config_free(struct vm_config *cfg);
int vm_config_add_disk(struct vm_config *cfg, const char *path, bool readonly);
/* NULL if all is well, else a sentence (static storage of this thread) */
const char *vm_config_check(const struct vm_config *cfg);

/* {"name","kernel","initrd","cmdline","memory","cpus","disks":[{"name","path","readonly"}]} */
struct json_object *vm_config_to_json(const struct vm_config *cfg);
/* The same back; disk paths included. A sentence in *@why on failure. */
int vm_config_from_json(struct vm_config *cfg, struct json_object *obj,
			const char **why);

#endif
