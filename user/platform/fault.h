/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* Between the router of faults and the emulator of instructions. */
#ifndef VMPLAT_PLATFORM_FAULT_H
#define VMPLAT_PLATFORM_FAULT_H

#include <stdbool.h>

#include <vmplat_fault.h>

/*
 * Carry out the load or store at fault->pc, whose operand lies within [first, last], and move
 * the context behind it. false: not one that is known; nothing was done.
 */
bool mmio_emulate(const struct vmplat_fault *fault, uintptr_t first, uintptr_t last,
		  const struct vmplat_mmio_ops *ops, void *data);
bool mmio_supported(void);

#endif
