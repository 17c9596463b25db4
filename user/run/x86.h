/* SPDX-License-Identifier: GPL-2.0-only */
/* The few x86 constants user space headers do not have. */
#ifndef VMPLAT_RUN_X86_H
#define VMPLAT_RUN_X86_H

#define X86_CR0_PE		(1ULL << 0)
#define X86_CR0_ET		(1ULL << 4)
#define X86_CR0_PG		(1ULL << 31)
#define X86_CR4_PAE		(1ULL << 5)
#define X86_CR4_LA57		(1ULL << 12)
#define X86_EFER_LME		(1ULL << 8)
#define X86_EFER_LMA		(1ULL << 10)
#define X86_RFLAGS_IF		(1ULL << 9)

#define MSR_TSC			0x10
#define MSR_MISC_ENABLE		0x1a0
#define MSR_MTRR_DEF_TYPE	0x2ff
#define MSR_TSC_DEADLINE	0x6e0

#endif
