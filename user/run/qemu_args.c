// SPDX-License-Identifier: GPL-2.0-only
#include "qemu_args.h"

#include <errno.h>
#include <json-c/json.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

static const struct arch {
	const char *program, *package, *console;
	const char *machine;		/* its type where no snapshot names one, and what it takes */
	const char *options;
	const char *cpu;		/* emulated */
} archs[] = {
	/* without graphics SeaBIOS, and so whatever uses the BIOS, is on the serial console */
	[VM_ARCH_X86_64] = {
		"qemu-system-x86_64", "qemu-system-x86", "ttyS0", "q35", ",graphics=off", "max",
	},
	/* QEMU's default interrupt controller is for 8 CPUs; its default pointer authentication is slow */
	[VM_ARCH_AARCH64] = {
		"qemu-system-aarch64", "qemu-system-arm", "ttyAMA0", "virt", ",gic-version=3",
		"max,pauth-impdef=on",
	},
	[VM_ARCH_RISCV64] = {
		"qemu-system-riscv64", "qemu-system-riscv (qemu-system-misc in Debian 12)", "ttyS0",
		"virt", "", "max",
	},
};

const char *qemu_program(enum vm_arch arch)
{
	return archs[arch].program;
}

const char *qemu_package(enum vm_arch arch)
{
	return archs[arch].package;
}

const char *qemu_console(enum vm_arch arch)
{
	return archs[arch].console;
}

/* ---- words ---------------------------------------------------------------------- */

__attribute__((format(printf, 2, 3)))
static void add(struct qemu_args *a, const char *fmt, ...)
{
	char *text = NULL;
	va_list ap;

	va_start(ap, fmt);
	if (a->nr == QEMU_ARGS_MAX || vasprintf(&text, fmt, ap) < 0)
		a->failed = true;
	else
		a->argv[a->nr++] = text;
	va_end(ap);
}

/* Names of files are in JSON, where a comma is a comma. */
static void add_json(struct qemu_args *a, const char *option, struct json_object *o)
{
	add(a, "%s", option);
	add(a, "%s", json_object_to_json_string_ext(o, JSON_C_TO_STRING_PLAIN |
						       JSON_C_TO_STRING_NOSLASHESCAPE));
	json_object_put(o);
}

static void put(struct json_object *o, const char *key, const char *value)
{
	json_object_object_add(o, key, json_object_new_string(value));
}

static void put_bool(struct json_object *o, const char *key, bool value)
{
	json_object_object_add(o, key, json_object_new_boolean(value));
}

__attribute__((format(printf, 3, 4)))
static void putf(struct json_object *o, const char *key, const char *fmt, ...)
{
	char text[200];
	va_list ap;

	va_start(ap, fmt);
	vsnprintf(text, sizeof(text), fmt, ap);
	va_end(ap);
	put(o, key, text);
}

/* ---- parts of the machine -------------------------------------------------------- */

static void add_machine(struct qemu_args *a, const struct vm_config *cfg,
			const struct qemu_parts *p)
{
	const struct arch *arch = &archs[cfg->arch];

	add(a, "-machine");
	add(a, "%s,accel=%s,memory-backend=memory%s%s", p->machine ? p->machine : arch->machine,
	    p->kvm ? "kvm" : "tcg", arch->options,
	    p->code ? ",pflash0=code,pflash1=vars" : "");
	add(a, "-cpu");
	add(a, "%s", p->kvm ? "host" : arch->cpu);
	add(a, "-smp");
	add(a, "%u", cfg->nr_cpus);
	add(a, "-m");
	add(a, "%lluM", (unsigned long long)cfg->mem_bytes >> 20);
	add(a, "-object");
	add(a, "memory-backend-file,id=memory,size=%llu,mem-path=/proc/self/fd/%d,share=on",
	    (unsigned long long)cfg->mem_bytes, p->memory);
}

/* a file by its name, or by a descriptor */
static void add_image(struct qemu_args *a, const char *node, const char *path, int fd, bool readonly)
{
	struct json_object *o = json_object_new_object(), *file = json_object_new_object();

	put(file, "driver", "file");
	if (path)
		put(file, "filename", path);
	else
		putf(file, "filename", "/proc/self/fd/%d", fd);
	put(o, "driver", "raw");
	put(o, "node-name", node);
	put_bool(o, "read-only", readonly);
	json_object_object_add(o, "file", file);
	add_json(a, "-blockdev", o);
}

static void add_firmware(struct qemu_args *a, const struct vm_config *cfg,
			 const struct qemu_parts *p)
{
	if (p->code) {
		add_image(a, "code", p->code, -1, true);
		add_image(a, "vars", NULL, p->vars, false);
	} else if (cfg->firmware && strcmp(cfg->firmware, "seabios")) {
		add(a, "-bios");
		add(a, "%s", cfg->firmware);
	}
	if (p->kernel >= 0) {
		add(a, "-kernel");
		add(a, "/proc/self/fd/%d", p->kernel);
		add(a, "-append");
		add(a, "%s", cfg->cmdline ? cfg->cmdline : "");
	}
	if (p->initrd >= 0) {
		add(a, "-initrd");
		add(a, "/proc/self/fd/%d", p->initrd);
	}
}

static void add_socket(struct qemu_args *a, const char *id, int fd)
{
	add(a, "-chardev");
	add(a, "socket,id=%s,fd=%d", id, fd);
}

static void add_sockets(struct qemu_args *a, const struct qemu_parts *p)
{
	add_socket(a, "console", p->console);
	add(a, "-serial");
	add(a, "chardev:console");
	add_socket(a, "commands", p->commands);
	add(a, "-mon");
	add(a, "chardev=commands,mode=control");
	add_socket(a, "events", p->events);
	add(a, "-mon");
	add(a, "chardev=events,mode=control");
}

/* ---- devices --------------------------------------------------------------------- */

/* A failed write is the guest's to deal with: QEMU would stop it for want of space. */
static void report_errors(struct json_object *dev)
{
	put(dev, "werror", "report");
	put(dev, "rerror", "report");
}

static void add_disk(struct qemu_args *a, const struct vm_disk *d, unsigned int bootindex)
{
	struct json_object *dev = json_object_new_object();
	char node[VM_ID_MAX + 8];

	snprintf(node, sizeof(node), "image-%s", d->id);
	add_image(a, node, d->path, -1, d->readonly);
	put(dev, "driver", "virtio-blk-pci");
	put(dev, "id", d->id);
	put(dev, "drive", node);
	putf(dev, "serial", "vmplat-%.13s", d->id);	/* virtio has room for 20 */
	json_object_object_add(dev, "bootindex", json_object_new_int((int)bootindex));
	report_errors(dev);
	add_json(a, "-device", dev);
}

/* what a CD-ROM is, to firmware and to an installer */
static void add_disc(struct qemu_args *a, const struct vm_disk *d)
{
	struct json_object *bus = json_object_new_object(), *dev = json_object_new_object();

	put(bus, "driver", "virtio-scsi-pci");
	put(bus, "id", "scsi");
	add_json(a, "-device", bus);
	add_image(a, "image-cdrom", d->path, -1, true);
	put(dev, "driver", "scsi-cd");
	put(dev, "id", d->id);
	put(dev, "drive", "image-cdrom");
	json_object_object_add(dev, "bootindex", json_object_new_int(0));
	report_errors(dev);
	add_json(a, "-device", dev);
}

/* The disc is booted from, where there is one, and the disks in their order. */
static void add_disks(struct qemu_args *a, const struct vm_config *cfg)
{
	for (unsigned int i = 0; i < cfg->nr_disks; i++) {
		const struct vm_disk *d = &cfg->disks[i];

		if (cfg->iso && d->readonly && !strcmp(d->path, cfg->iso))
			add_disc(a, d);
		else
			add_disk(a, d, i + 1);
	}
}

static void add_net(struct qemu_args *a, const struct vm_net *n, int fd, bool listens)
{
	struct json_object *net = json_object_new_object(), *dev = json_object_new_object();
	struct json_object *addr = json_object_new_object();
	char mac[VM_MAC_CHARS];

	put(net, "id", n->id);
	put(net, "type", n->kind == VM_NET_TAP ? "tap" : "stream");
	if (n->kind == VM_NET_TAP) {
		putf(net, "fd", "%d", fd);
	} else {
		put(addr, "type", "fd");
		putf(addr, "str", "%d", fd);
		put_bool(net, "server", listens);
		json_object_object_add(net, "addr", json_object_get(addr));
	}
	json_object_put(addr);
	add_json(a, "-netdev", net);
	put(dev, "driver", "virtio-net-pci");
	put(dev, "netdev", n->id);
	put(dev, "mac", vm_mac_text(n->mac, mac));
	put(dev, "romfile", "");	/* of another package, and for booting alone */
	add_json(a, "-device", dev);
}

/* ---- all of it ------------------------------------------------------------------- */

int qemu_args(struct qemu_args *a, const struct vm_config *cfg, const struct qemu_parts *p)
{
	*a = (struct qemu_args){ .nr = 0 };
	add(a, "%s", qemu_program(cfg->arch));
	add(a, "-name");
	add(a, "%s", cfg->name);	/* letters, digits, '.', '_' and '-' */
	add(a, "-nodefaults");
	add(a, "-no-user-config");
	add(a, "-display");
	add(a, "none");
	add(a, "-S");
	if (cfg->no_reboot)
		add(a, "-no-reboot");
	add_machine(a, cfg, p);
	add_firmware(a, cfg, p);
	add_sockets(a, p);
	add_disks(a, cfg);
	for (unsigned int i = 0; i < cfg->nr_nets; i++)
		add_net(a, &cfg->nets[i], p->nets[i], p->listens[i]);
	add(a, "-device");
	add(a, "virtio-rng-pci");
	if (p->incoming) {
		add(a, "-incoming");
		add(a, "defer");
	}
	return a->failed ? -ENOMEM : 0;
}

void qemu_args_free(struct qemu_args *a)
{
	for (unsigned int i = 0; i < a->nr; i++)
		free(a->argv[i]);
	a->nr = 0;
}
