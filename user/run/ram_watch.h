/* SPDX-License-Identifier: GPL-2.0-only */
/*
 * Guest memory that this process cannot reach: its filler died, a disk under it failed, the memory
 * cgroup is full. KVM tells the vCPU that wanted it; a device that touches it dies of SIGBUS, and
 * the process with it, as nothing that is true could be put in its place. Last words say which
 * memory of the guest it was.
 */
#ifndef VMPLAT_RUN_RAM_WATCH_H
#define VMPLAT_RUN_RAM_WATCH_H

#include <stdint.h>

struct vmplat_fault_range;

struct ram_watch {
	struct vmplat_fault_range *range;
	const char *name;		/* of the VM */
	const uint8_t *ram;
	uint64_t gpa;
};

/* @w and @name stay where they are until ram_watch_end(). 0, or -errno with the library's sentence */
int ram_watch_begin(struct ram_watch *w, const char *name, const uint8_t *ram, uint64_t bytes,
		    uint64_t gpa);
/* also of one that was never begun, all zero */
void ram_watch_end(struct ram_watch *w);

#endif
