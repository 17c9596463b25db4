/* SPDX-License-Identifier: GPL-2.0-only */
/*
 * A VM's configuration as the command line of QEMU. Nothing is opened or asked here:
 * what is, the caller says as struct qemu_parts.
 */
#ifndef VMPLAT_RUN_QEMU_ARGS_H
#define VMPLAT_RUN_QEMU_ARGS_H

#include <stdbool.h>

#include "config.h"

#define QEMU_ARGS_MAX	256

/* Descriptors that QEMU inherits by these numbers; -1: there is none. */
struct qemu_parts {
	int memory;			/* a file of the memory's size */
	int kernel, initrd;
	int console;			/* a stream socket */
	int commands, events;		/* stream sockets for QMP */
	int nets[VM_NETS_MAX];		/* taps and streams */
	bool listens[VM_NETS_MAX];	/* a stream whose other end is yet to come */
	const char *code;		/* a file with OVMF's code; NULL: no OVMF */
	int vars;			/* OVMF's variables */
	bool kvm;
	const char *machine;		/* versioned, as a snapshot has it; NULL: the newest */
	bool incoming;			/* the state comes by migrate-incoming */
};

struct qemu_args {
	char *argv[QEMU_ARGS_MAX + 1];	/* ends with NULL */
	unsigned int nr;
	bool failed;			/* it did not fit */
};

/** qemu_args - 0, or -ENOMEM; qemu_args_free() in any case */
int qemu_args(struct qemu_args *a, const struct vm_config *cfg, const struct qemu_parts *p);
void qemu_args_free(struct qemu_args *a);

/** qemu_program - "qemu-system-ARCH" */
const char *qemu_program(enum vm_arch arch);
/** qemu_package - the Debian package it is in */
const char *qemu_package(enum vm_arch arch);
/** qemu_console - what Linux calls the serial console */
const char *qemu_console(enum vm_arch arch);

#endif
