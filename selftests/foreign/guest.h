/* SPDX-License-Identifier: GPL-2.0-only */
/*
 * The first program of a guest of another architecture: no library, since none is there.
 * guest.c has what is common, guest_ARCH.c what the architecture promises.
 */
#ifndef VMPLAT_SELFTEST_FOREIGN_GUEST_H
#define VMPLAT_SELFTEST_FOREIGN_GUEST_H

#include <stdbool.h>
#include <stdint.h>

#define SIGILL	4
#define SIGSEGV	11

/* ---- the architecture's ------------------------------------------------------ */

extern const char arch_name[];
long arch_syscall(long nr, long a, long b, long c, long d);
/* every check(), each value known beforehand */
void arch_check_float(void);
/* instructions and addresses that are not for programs: each trap() */
void arch_check_privilege(void);
/* is what was put into the floating-point registers still there, after @switches of the CPU? */
bool arch_keeps_float(uint64_t seed, void (*yield)(void));

/* ---- common ------------------------------------------------------------------ */

/* "ok NAME", or "BAD NAME: GOT, not WANT" */
void check(const char *name, uint64_t got, uint64_t want);
/* run @fn in a process of its own: it must end by signal @want, or by itself: 0 */
void check_end(const char *name, void (*fn)(void), unsigned int want);

#endif
