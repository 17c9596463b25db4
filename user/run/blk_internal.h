/* SPDX-License-Identifier: LGPL-2.1-or-later */
/*
 * Shared by blk.c (image, guest I/O) and blk_view.c (freeze, copy).
 *
 * blk->lock protects everything marked (l).  A guest write is bracketed by
 * blk_change_begin/_end: begin marks it dirty and saves old clusters, and
 * `changing` keeps a freeze from taking its instant inside a write.
 */
#ifndef VMPLAT_RUN_BLK_INTERNAL_H
#define VMPLAT_RUN_BLK_INTERNAL_H

#include <pthread.h>

#include "blk.h"

struct blk {
	int fd;
	atomic_uint holders;
	bool readonly;
	char *path;
	uint64_t size_bytes;
	uint32_t io_block_bytes;
	uint64_t nr_clusters;

	pthread_mutex_t lock;
	pthread_cond_t cond;		/* changing == 0, !freezing, !busy */
	unsigned int changing;		/* (l) writes between begin and end */
	bool freezing;			/* (l) holds off new writes */
	uint64_t *dirty;		/* (l) since the last committed view */
	bool has_base;			/* (l) */
	struct blk_view *view;		/* (l) at most one */

	uint64_t side_ram_bytes;	/* (l) for the next freeze */
	uint64_t side_file_bytes;
	char *side_dir;
};

static inline uint64_t blk_map_words(uint64_t nr)
{
	return (nr + 63) / 64;
}

static inline bool blk_map_test(const uint64_t *map, uint64_t n)
{
	return map[n / 64] >> (n % 64) & 1;
}

static inline void blk_map_set(uint64_t *map, uint64_t n)
{
	map[n / 64] |= UINT64_C(1) << (n % 64);
}

static inline void blk_map_clear(uint64_t *map, uint64_t n)
{
	map[n / 64] &= ~(UINT64_C(1) << (n % 64));
}

uint64_t blk_map_count(const uint64_t *map, uint64_t nr);

/* Save what the view still needs of these clusters; drops and retakes the lock. */
void blk_view_before_write(struct blk *blk, uint64_t first, uint64_t last);

/* All of @len bytes at @off, or -errno (a short file is -EIO). */
int blk_pread_full(int fd, void *buf, uint64_t len, uint64_t off);
int blk_pwrite_full(int fd, const void *buf, uint64_t len, uint64_t off);

#endif
