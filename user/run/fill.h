/* SPDX-License-Identifier: GPL-2.0-only */
/*
 * Fills a VM's memory from a snapshot while the VM runs: pages somebody waits for
 * first, all others in the background.
 */
#ifndef VMPLAT_RUN_FILL_H
#define VMPLAT_RUN_FILL_H

#include <stdint.h>

struct filler;
struct store_image;
struct vm;
struct vm_memory;

struct filler_stats {
	uint64_t nr_pages;	/* of the memory */
	uint64_t nr_filled;
	uint64_t nr_demanded;	/* pages somebody had to wait for */
	uint64_t wait_ns;
	uint64_t elapsed_ns;
};

/**
 * filler_start - from here on memory @m of the VM has the image's content
 * @done: told once when all of it is there, or that it failed (which also fails
 *	the VM); from a thread of the filler's
 *
 * Before anything touches the VM's memory. Where the kernel cannot fill on
 * demand, returns only when all is there. On failure vm_error() has the sentence.
 */
int filler_start(struct filler **f, struct vm *vm, const struct vm_memory *m,
		 struct store_image *image,
		 void (*done)(void *ctx, int err, const struct filler_stats *st),
		 void *ctx);
/** filler_stop - wait for its threads, forget the rest. Accepts NULL */
void filler_stop(struct filler *f);

#endif
