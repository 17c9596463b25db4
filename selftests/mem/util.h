/* SPDX-License-Identifier: GPL-2.0-only */
/*
 * What the memory and uapi tests share: objects by raw ioctl, disturbers, a guest.
 *
 * Claims are made with tap.h; set-up that cannot fail in a sane kernel uses
 * need(), which bails out.
 */
#ifndef TEST_UTIL_H
#define TEST_UTIL_H

#include <stddef.h>
#include <stdint.h>
#include <sys/types.h>

#include <linux/vmplat.h>

#include "tap.h"

#define PAGE 4096UL
#define ARRAY_SIZE(a) (sizeof(a) / sizeof((a)[0]))

#define need(expr) ({							\
	__typeof__(expr) need_v = (expr);				\
	if ((long)need_v < 0)						\
		bail("%s:%d: %s", __FILE__, __LINE__, #expr); \
	need_v; })

/* ---- objects ----------------------------------------------------------- */

extern int dev_fd;
void dev_open(void);			/* or bail out */
int mem_new_kind(uint64_t bytes, uint32_t flags);
int mem_new(uint64_t bytes);		/* all of these: fd, or -1 and errno */
int log_new(int mem, uint32_t flags, uint64_t threshold);
int log_fetch(int log, struct vmplat_log_fetch *f);
/* Number of dirty pages; @bits has room for all of @nr_pages. */
int64_t log_bitmap(int log, uint32_t flags, uint64_t nr_pages, uint64_t *bits);
int log_end(int log, uint32_t flags, const void *id);
struct vmplat_log_status log_status(int log);
int view_new(const struct vmplat_view_mem *mems, unsigned int nr, uint32_t flags,
	     uint64_t side_bytes);
int view_of(int mem, int log, uint32_t flags, uint64_t side_bytes);
struct vmplat_view_status view_status(int view);
int view_commit(int view, const void *id);
int view_discard(int view, uint64_t first, uint64_t nr);
int fill_new(int mem);

void *map_mem(int fd, uint64_t bytes);
/* Read exactly @bytes at @at. */
int read_all(int fd, void *buf, size_t bytes, off_t at);
/* writes @text to a knob of the kernel; -1 if that is refused */
int poke(const char *path, const char *text);
bool bit(const uint64_t *bits, uint64_t nr);
/*
 * A page on its way to the LRU has a reference nobody can tell from a pin, and is
 * reported again. Before exact numbers are compared, wait until there is none.
 */
void lru_drain(void);

/* A directory with a vmplatfs mounted on it, gone when the test ends. */
const char *fs_mount(const char *options);

/* ---- what the kernel says about it --------------------------------------- */

/* Write @text to a file of the cgroup @cg, a directory: 0, or -1 and errno. */
int cg_write(const char *cg, const char *file, const char *text);
/* A line of its memory.stat, in bytes; the kernel flushes it in batches, a CPU at a time. */
uint64_t cg_stat(const char *cg, const char *key);
/* A number of /proc/self/fdinfo, -1 if there is no such line. */
int64_t fdinfo(int fd, const char *key);

/* ---- time and chance --------------------------------------------------- */

uint64_t now_ns(void);
uint32_t rnd(uint64_t *state);		/* small and fast */
int open_fds(void);			/* how many this process has */

/* ---- disturbers -------------------------------------------------------- */

enum {
	DISTURB_MIGRATE	= 1,	/* move_pages() between NUMA nodes */
	DISTURB_COMPACT	= 2,
	DISTURB_DROP	= 4,	/* drop_caches */
	DISTURB_PRESSURE = 8,	/* reclaim; start before memory is touched */
	DISTURB_ALL	= 15,
};
/* Threads that go on until disturb_stop(); at most 8 memories. */
void disturb_start(unsigned int what, void *const *addrs, const size_t *bytes, unsigned int nr);
void disturb_stop(void);

/* ---- a guest of a few instructions -------------------------------------- */

/*
 * One vCPU in flat 32-bit mode whose RAM is a mapping. kvm_fill() has it store
 * @value at @first, @first + PAGE, ... for @nr pages, in that order.
 */
struct kvm_guest;
struct kvm_guest *kvm_new(void *ram, size_t bytes);	/* NULL without KVM */
int kvm_fill(struct kvm_guest *g, uint32_t first_byte, uint32_t nr, uint32_t value);
void kvm_free(struct kvm_guest *g);

#endif /* TEST_UTIL_H */
