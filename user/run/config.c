// SPDX-License-Identifier: GPL-2.0-only
#include "config.h"

#include <errno.h>
#include <json-c/json.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

void vm_config_free(struct vm_config *cfg)
{
	free(cfg->name);
	free(cfg->kernel);
	free(cfg->initrd);
	free(cfg->cmdline);
	for (unsigned int i = 0; i < cfg->nr_disks; i++)
		free(cfg->disks[i].path);
	memset(cfg, 0, sizeof(*cfg));
}

int vm_config_add_disk(struct vm_config *cfg, const char *path, bool readonly)
{
	char *copy;

	if (cfg->nr_disks == VM_DISKS_MAX)
		return -ENOSPC;
	copy = strdup(path);
	if (!copy)
		return -ENOMEM;
	cfg->disks[cfg->nr_disks++] = (struct vm_disk){ copy, readonly };
	return 0;
}

const char *vm_config_check(const struct vm_config *cfg)
{
	static _Thread_local char why[160];

	if (cfg->mem_bytes < VM_MEM_MIN || cfg->mem_bytes > VM_MEM_MAX) {
		snprintf(why, sizeof(why), "memory of %llu MiB: must be %llu MiB to %llu MiB",
			 (unsigned long long)cfg->mem_bytes >> 20, VM_MEM_MIN >> 20,
			 VM_MEM_MAX >> 20);
		return why;
	}
	if (cfg->mem_bytes & 0x1fffff)
		return "memory must be a multiple of 2 MiB";
	if (cfg->nr_cpus < 1 || cfg->nr_cpus > VM_CPUS_MAX) {
		snprintf(why, sizeof(why), "%u CPUs: must be 1 to %u", cfg->nr_cpus,
			 VM_CPUS_MAX);
		return why;
	}
	if (!cfg->name || !*cfg->name || strlen(cfg->name) > 40 ||
	    strspn(cfg->name, "abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789._-") !=
		    strlen(cfg->name) || cfg->name[0] == '.' || cfg->name[0] == '-')
		return "a VM's name is 1 to 40 letters, digits, '.', '_' or '-', the first a letter or digit";
	return NULL;
}

static void add_string(struct json_object *o, const char *key, const char *v)
{
	if (v)
		json_object_object_add(o, key, json_object_new_string(v));
}

struct json_object *vm_config_to_json(const struct vm_config *cfg)
{
	struct json_object *o = json_object_new_object();
	struct json_object *disks = json_object_new_array();

	add_string(o, "name", cfg->name);
	add_string(o, "kernel", cfg->kernel);
	add_string(o, "initrd", cfg->initrd);
	add_string(o, "cmdline", cfg->cmdline);
	json_object_object_add(o, "arch", json_object_new_string("x86_64"));
	json_object_object_add(o, "memory", json_object_new_int64((int64_t)cfg->mem_bytes));
	json_object_object_add(o, "cpus", json_object_new_int((int)cfg->nr_cpus));
	for (unsigned int i = 0; i < cfg->nr_disks; i++) {
		struct json_object *d = json_object_new_object();
		char name[16];

		snprintf(name, sizeof(name), "disk%u", i);
		add_string(d, "name", name);
		add_string(d, "path", cfg->disks[i].path);
		json_object_object_add(d, "readonly",
				       json_object_new_boolean(cfg->disks[i].readonly));
		json_object_array_add(disks, d);
	}
	json_object_object_add(o, "disks", disks);
	return o;
}

static char *get_string(struct json_object *o, const char *key)
{
	struct json_object *v;

	if (!json_object_object_get_ex(o, key, &v) ||
	    !json_object_is_type(v, json_type_string))
		return NULL;
	return strdup(json_object_get_string(v));
}

static int64_t get_int(struct json_object *o, const char *key)
{
	struct json_object *v;

	if (!json_object_object_get_ex(o, key, &v) ||
	    !json_object_is_type(v, json_type_int))
		return -1;
	return json_object_get_int64(v);
}

static int get_disks(struct vm_config *cfg, struct json_object *o)
{
	struct json_object *disks, *v;

	if (!json_object_object_get_ex(o, "disks", &disks))
		return 0;
	if (!json_object_is_type(disks, json_type_array))
		return -EBADMSG;
	for (size_t i = 0; i < json_object_array_length(disks); i++) {
		struct json_object *d = json_object_array_get_idx(disks, i);
		bool ro;
		char *path;
		int ret;

		if (!json_object_is_type(d, json_type_object))
			return -EBADMSG;
		path = get_string(d, "path");
		ro = json_object_object_get_ex(d, "readonly", &v) &&
		     json_object_get_boolean(v);
		ret = path ? vm_config_add_disk(cfg, path, ro) : -EBADMSG;
		free(path);
		if (ret)
			return ret;
	}
	return 0;
}

int vm_config_from_json(struct vm_config *cfg, struct json_object *o,
			const char **why)
{
	int64_t n;

	memset(cfg, 0, sizeof(*cfg));
	*why = "its description of the VM is no JSON object";
	if (!json_object_is_type(o, json_type_object))
		return -EBADMSG;
	cfg->name = get_string(o, "name");
	cfg->kernel = get_string(o, "kernel");
	cfg->initrd = get_string(o, "initrd");
	cfg->cmdline = get_string(o, "cmdline");
	n = get_int(o, "memory");
	cfg->mem_bytes = n > 0 ? (uint64_t)n : 0;
	n = get_int(o, "cpus");
	cfg->nr_cpus = n > 0 && n <= VM_CPUS_MAX ? (unsigned int)n : 0;
	*why = "its list of disks makes no sense";
	if (!get_disks(cfg, o)) {
		*why = vm_config_check(cfg);
		if (!*why)
			return 0;
	}
	vm_config_free(cfg);
	return -EBADMSG;
}
