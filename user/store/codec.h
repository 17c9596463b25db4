/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* Compression of one frame. A context serves one thread at a time. */
#ifndef VMPLAT_STORE_CODEC_H
#define VMPLAT_STORE_CODEC_H

#include <stddef.h>
#include <stdint.h>

#include "format.h"
#include "store.h"

struct codec_ctx;

struct codec_ctx *codec_new(void);
void codec_free(struct codec_ctx *c);
/* codec_level_ok - 0 means the default, which is returned through @level */
int codec_level_ok(enum store_codec codec, int *level);
size_t codec_bound(enum store_codec codec, size_t len);
/*
 * codec_pack - returns the length put in @dst, 0 if @src does not shrink enough
 * to be worth it, or -errno
 */
int64_t codec_pack(struct codec_ctx *c, enum store_codec codec, int level,
		   void *dst, size_t dst_len, const void *src, size_t src_len);
/* codec_unpack - -EBADMSG unless @src gives exactly @dst_len bytes */
int codec_unpack(struct codec_ctx *c, enum store_codec codec, void *dst,
		 size_t dst_len, const void *src, size_t src_len);

void fmt_hash(struct fmt_hash *h, const void *buf, size_t len);
/* fmt_hash_is - does @buf hash to @h? */
int fmt_hash_is(const struct fmt_hash *h, const void *buf, size_t len);

#endif /* VMPLAT_STORE_CODEC_H */
