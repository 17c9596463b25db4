/* SPDX-License-Identifier: GPL-2.0-only */
/* The main thread of a process that runs one VM, from its socket to its end. */
#ifndef VMPLAT_RUN_SERVE_H
#define VMPLAT_RUN_SERVE_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

struct vm;
struct vm_config;

struct serve_opts {
	const char *console;	/* see console_open() */
	bool detach;		/* go on in the background once the VM runs */
	bool paused;		/* start it, but do not let it run */
	bool forget;		/* when it ends, and somebody was told or it was in order, keep no record */
	/*
	 * Between the VM's making and its first instruction: instead of loading
	 * a kernel. After a failure vm_error() has the sentence. May be NULL.
	 */
	int (*prepare)(struct vm *vm, void *ctx);
	/* after the VM's end, before it is freed; may be NULL */
	void (*finish)(struct vm *vm, void *ctx);
	void *ctx;
};

/**
 * serve_vm - make the VM @cfg describes, run it to its end
 *
 * Takes over @cfg's contents. Returns 0 when the VM ended as it should (or, with
 * detach, runs), -errno with a sentence in @err when it did not.
 */
int serve_vm(struct vm_config *cfg, const struct serve_opts *opts, char *err,
	     size_t err_bytes);

#endif
