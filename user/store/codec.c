// SPDX-License-Identifier: LGPL-2.1-or-later
#include "codec.h"

#include <errno.h>
#include <lz4.h>
#include <lz4hc.h>
#include <stdlib.h>
#include <string.h>
#include <xxhash.h>
#if __has_include(<xxh_x86dispatch.h>)
#include <xxh_x86dispatch.h>	/* the same hash, with what this CPU has */
#endif
#include <zstd.h>

#include "io.h"

struct codec_ctx {
	ZSTD_CCtx *zc;
	ZSTD_DCtx *zd;
	void *lz;
	void *lzhc;
};

static const char *const names[] = { "none", "zstd", "lz4" };

const char *store_codec_name(enum store_codec codec)
{
	return (unsigned int)codec < 3 ? names[codec] : "unknown";
}

int store_codec_parse(enum store_codec *codec, const char *name)
{
	for (int i = 0; i < 3; i++)
		if (!strcmp(name, names[i])) {
			*codec = i;
			return 0;
		}
	return store_fail(EINVAL, "unknown codec \"%s\": zstd, lz4 or none",
			  name);
}

struct codec_ctx *codec_new(void)
{
	return calloc(1, sizeof(struct codec_ctx));
}

void codec_free(struct codec_ctx *c)
{
	if (!c)
		return;
	ZSTD_freeCCtx(c->zc);
	ZSTD_freeDCtx(c->zd);
	free(c->lz);
	free(c->lzhc);
	free(c);
}

int codec_level_ok(enum store_codec codec, int *level)
{
	int min = 0, max = 0, def = 0;

	if (codec == STORE_CODEC_ZSTD) {
		min = -50;
		max = 19;
		def = 1;
	} else if (codec == STORE_CODEC_LZ4) {
		max = LZ4HC_CLEVEL_MAX;
		def = 1;
	} else if (codec != STORE_CODEC_NONE) {
		return store_fail(EINVAL, "unknown codec %d", codec);
	}
	if (*level < min || *level > max)
		return store_fail(EINVAL, "level %d is not one of %s: %d to %d",
				  *level, store_codec_name(codec), min, max);
	if (!*level)
		*level = def;
	return 0;
}

size_t codec_bound(enum store_codec codec, size_t len)
{
	if (codec == STORE_CODEC_ZSTD)
		return ZSTD_compressBound(len);
	if (codec == STORE_CODEC_LZ4)
		return LZ4_compressBound(len);
	return len;
}

static int64_t pack_lz4(struct codec_ctx *c, int level, void *dst,
			size_t dst_len, const void *src, size_t src_len)
{
	int n;

	if (level < LZ4HC_CLEVEL_MIN) {
		if (!c->lz)
			c->lz = malloc(LZ4_sizeofState());
		if (!c->lz)
			return store_fail(ENOMEM, "out of memory");
		n = LZ4_compress_fast_extState(c->lz, src, dst, src_len,
					       dst_len, 1);
	} else {
		if (!c->lzhc)
			c->lzhc = malloc(LZ4_sizeofStateHC());
		if (!c->lzhc)
			return store_fail(ENOMEM, "out of memory");
		n = LZ4_compress_HC_extStateHC(c->lzhc, src, dst, src_len,
					       dst_len, level);
	}
	return n > 0 ? n : store_fail(EIO, "lz4 failed");
}

int64_t codec_pack(struct codec_ctx *c, enum store_codec codec, int level,
		   void *dst, size_t dst_len, const void *src, size_t src_len)
{
	int64_t n;

	if (codec == STORE_CODEC_ZSTD) {
		if (!c->zc)
			c->zc = ZSTD_createCCtx();
		if (!c->zc)
			return store_fail(ENOMEM, "out of memory");
		n = ZSTD_compressCCtx(c->zc, dst, dst_len, src, src_len, level);
		if (ZSTD_isError(n))
			return store_fail(EIO, "zstd: %s",
					  ZSTD_getErrorName(n));
	} else if (codec == STORE_CODEC_LZ4) {
		n = pack_lz4(c, level, dst, dst_len, src, src_len);
	} else {
		return 0;
	}
	return n > 0 && (size_t)n >= src_len - src_len / 32 ? 0 : n;
}

int codec_unpack(struct codec_ctx *c, enum store_codec codec, void *dst,
		 size_t dst_len, const void *src, size_t src_len)
{
	size_t n = 0;
	int k;

	switch (codec) {
	case STORE_CODEC_NONE:
		if (src_len != dst_len)
			break;
		memcpy(dst, src, dst_len);
		return 0;
	case STORE_CODEC_ZSTD:
		if (!c->zd)
			c->zd = ZSTD_createDCtx();
		if (!c->zd)
			return store_fail(ENOMEM, "out of memory");
		n = ZSTD_decompressDCtx(c->zd, dst, dst_len, src, src_len);
		if (n == dst_len)
			return 0;
		break;
	case STORE_CODEC_LZ4:
		k = LZ4_decompress_safe(src, dst, src_len, dst_len);
		if (k >= 0 && (size_t)k == dst_len)
			return 0;
		break;
	}
	return store_fail(EBADMSG, "a frame does not decompress to its %zu bytes",
			  dst_len);
}

void fmt_hash(struct fmt_hash *h, const void *buf, size_t len)
{
	XXH128_canonical_t c;

	XXH128_canonicalFromHash(&c, XXH3_128bits(buf, len));
	memcpy(h->b, c.digest, sizeof(h->b));
}

int fmt_hash_is(const struct fmt_hash *h, const void *buf, size_t len)
{
#ifdef FUZZING_BUILD_MODE_UNSAFE_FOR_PRODUCTION
	(void)h, (void)buf, (void)len;
	return 1;	/* let the fuzzer through to the parsers */
#else
	struct fmt_hash real;

	fmt_hash(&real, buf, len);
	return !memcmp(&real, h, sizeof(real));
#endif
}
