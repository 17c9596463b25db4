/* SPDX-License-Identifier: GPL-2.0-only */
/*
 * What the benchmark programs share: the report line, time, a profile, a vCPU.
 *
 * A benchmark does the same work with ours and with a peer, in one run of one
 * program, and reports both. A call that cannot fail in a sane kernel goes
 * through must(), which ends the program.
 */
#ifndef BENCH_H
#define BENCH_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include <vmplat.h>

#define PAGE 4096UL
#define MIB (1UL << 20)

__attribute__((noreturn, format(printf, 1, 2))) void die(const char *fmt, ...);

#define must(expr) ({							\
	__typeof__(expr) must_v = (expr);				\
	if ((long)must_v < 0)						\
		die("%s:%d: %s", __FILE__, __LINE__, #expr);		\
	must_v; })

/* ---- results ------------------------------------------------------------- */

enum better { LESS, MORE };	/* which figure is the better one */

/* The line "bench NAME ours= peer= unit= ratio="; a ratio above 1 is ours ahead. */
void report(const char *name, double ours, double peer, const char *unit, enum better better);
/* A comment: what else was learned on the way. */
__attribute__((format(printf, 1, 2))) void note(const char *fmt, ...);

struct bench {
	const char *name;
	void (*run)(const char *name);
};
/* Runs the benchmarks named by the arguments, or all. Returns main()'s status. */
int bench_main(int argc, char **argv, const struct bench *benches, size_t nr);

/* ---- time ---------------------------------------------------------------- */

uint64_t now_ns(void);
double median(double *values, size_t nr);	/* sorts them */
double least(const double *values, size_t nr);	/* what a busy machine does not get into */

/*
 * With BENCH_PROFILE set: samples of where CPU 0 is, one in 10 us. Under icount
 * time counts instructions, so this tells where instructions go.
 */
void profile_start(void);
void profile_stop(const char *what);
void profile_pause(void);
void profile_resume(void);

/* ---- memory ---------------------------------------------------------------- */

struct vmplat *device(void);		/* opened once */
struct vmplat_mem *ours_new(size_t bytes, void **map);
struct vmplat_mem *ours_new_kind(size_t bytes, uint32_t flags, void **map);
void *memfd_new(size_t bytes, int *fd);	/* shared, what a VMM would use without us */
void fill(void *map, size_t bytes);	/* every page present, different, no zeroes */

/* ---- a guest of a few instructions ------------------------------------------ */

/*
 * One vCPU in flat 32-bit mode; its RAM, at most 3 GiB, is a mapping of ours. The
 * guest stores to (or loads from) one word in every @stride pages.
 */
struct guest;
struct guest *guest_new(void *ram, size_t bytes, bool log_dirty);
void guest_free(struct guest *g);
void guest_write(struct guest *g, size_t first_page, size_t stride, size_t nr, uint32_t value);
void guest_read(struct guest *g, size_t first_page, size_t stride, size_t nr);
/* KVM_GET_DIRTY_LOG of the RAM; needs @log_dirty */
void guest_dirty_log(struct guest *g, uint64_t *bits);

#endif
