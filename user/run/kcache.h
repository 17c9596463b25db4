/* SPDX-License-Identifier: GPL-2.0-only */
/*
 * Kernels that were unpacked before, in $XDG_CACHE_HOME/vmplat/unpacked (or below
 * ~/.cache): one file each, named by the SHA-256 of what it was unpacked from. Only
 * this user's own files in this user's own directories are trusted; each carries a
 * checksum, so that a damaged one is unpacked again. All of it is an optimisation:
 * whatever goes wrong, the kernel is unpacked.
 */
#ifndef VMPLAT_RUN_KCACHE_H
#define VMPLAT_RUN_KCACHE_H

#include <stddef.h>
#include <stdint.h>

#define KCACHE_BYTES_MAX	(512ULL << 20)	/* all files together; the least used go */

struct kcache_key {
	char name[65];		/* hexadecimal */
};

void kcache_key(struct kcache_key *key, const void *packed, size_t len);
/* Fill @buf with all of its @bytes; -ENOENT: not there, or not to be trusted. */
int kcache_get(const struct kcache_key *key, void *buf, size_t bytes);
/* Keep a copy if that can be done. */
void kcache_put(const struct kcache_key *key, const void *buf, size_t bytes);

#endif
