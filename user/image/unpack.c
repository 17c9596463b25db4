// SPDX-License-Identifier: LGPL-2.1-or-later
/*
 * One decoder a format, all in the same shape: the library reads from *in, writes
 * into the free part of out->buf, and flush() makes room. See unpack.h.
 */
#include "unpack.h"

#include <bzlib.h>
#include <errno.h>
#include <limits.h>
#include <lz4.h>
#include <lzma.h>
#include <stdbool.h>
#include <stdlib.h>
#include <string.h>
#include <zlib.h>
#include <zstd.h>
#include <zstd_errors.h>

#include "lib/lib.h"

#define LZ4_MAGIC	0x184c2102u
#define LZ4_CHUNK	(8u << 20)	/* unpacked, of the legacy frame */
#define WINDOW_LOG_MAX	27

struct input {
	const uint8_t *p;
	size_t len, at;
};

static const struct {
	const char *name;
	const char *magic;
	size_t len;
} formats[] = {
	[UNPACK_NONE]	= { "none", "", 0 },
	[UNPACK_GZIP]	= { "gzip", "\x1f\x8b\x08", 3 },
	[UNPACK_BZIP2]	= { "bzip2", "BZh", 3 },
	[UNPACK_LZMA]	= { "lzma", "\x5d\x00\x00", 3 },
	[UNPACK_XZ]	= { "xz", "\xfd" "7zXZ\0", 6 },
	[UNPACK_LZO]	= { "lzo", "\x89LZO\0\r\n\x1a\n", 9 },
	[UNPACK_LZ4]	= { "lz4", "\x02\x21\x4c\x18", 4 },
	[UNPACK_ZSTD]	= { "zstd", "\x28\xb5\x2f\xfd", 4 },
};

API enum unpack_format unpack_detect(const uint8_t *p, size_t len)
{
	for (unsigned int f = UNPACK_GZIP; f <= UNPACK_ZSTD; f++)
		if (len > formats[f].len && !memcmp(p, formats[f].magic, formats[f].len))
			return f;
	return UNPACK_NONE;
}

API const char *unpack_name(enum unpack_format format)
{
	return formats[format].name;
}

static int flush(struct unpack_out *out)
{
	int ret = 0;

	if (out->flush && out->len) {
		ret = out->flush(out->ctx, out->buf, out->len);
		out->len = 0;
	}
	return ret < 0 ? ret : 0;
}

/*
 * After a step that did not end the stream: make room, or find that it is stuck. A
 * full buffer alone is no failure, a checksum may be all that is still to be read.
 */
static int go_on(struct unpack_out *out, bool moved)
{
	if (out->len == out->size && out->flush)
		return flush(out);
	if (moved)
		return 0;
	return out->len == out->size ? -EOVERFLOW : -EBADMSG;
}

static unsigned int clamp(size_t n)
{
	return n < UINT_MAX ? (unsigned int)n : UINT_MAX;
}

/* ---- gzip ------------------------------------------------------------------- */

static int run_gzip(z_stream *z, struct input *in, struct unpack_out *out)
{
	for (;;) {
		unsigned int had_in = clamp(in->len - in->at), had_out = clamp(out->size - out->len);
		int ret;

		z->next_in = (uint8_t *)in->p + in->at;
		z->avail_in = had_in;
		z->next_out = out->buf + out->len;
		z->avail_out = had_out;
		ret = inflate(z, Z_NO_FLUSH);
		in->at += had_in - z->avail_in;
		out->len += had_out - z->avail_out;
		if (ret == Z_STREAM_END)
			return 0;
		if (ret == Z_MEM_ERROR)
			return -ENOMEM;
		if (ret != Z_OK && ret != Z_BUF_ERROR)
			return -EBADMSG;
		ret = go_on(out, had_in > z->avail_in || had_out > z->avail_out);
		if (ret)
			return ret;
	}
}

static int unpack_gzip(struct input *in, struct unpack_out *out)
{
	z_stream z = { 0 };
	int ret;

	if (inflateInit2(&z, 15 + 16) != Z_OK)
		return -ENOMEM;
	ret = run_gzip(&z, in, out);
	inflateEnd(&z);
	return ret;
}

/* ---- bzip2 ------------------------------------------------------------------ */

static int run_bzip2(bz_stream *z, struct input *in, struct unpack_out *out)
{
	for (;;) {
		unsigned int had_in = clamp(in->len - in->at), had_out = clamp(out->size - out->len);
		int ret;

		z->next_in = (char *)in->p + in->at;
		z->avail_in = had_in;
		z->next_out = (char *)out->buf + out->len;
		z->avail_out = had_out;
		ret = BZ2_bzDecompress(z);
		in->at += had_in - z->avail_in;
		out->len += had_out - z->avail_out;
		if (ret == BZ_STREAM_END)
			return 0;
		if (ret == BZ_MEM_ERROR)
			return -ENOMEM;
		if (ret != BZ_OK)
			return -EBADMSG;
		ret = go_on(out, had_in > z->avail_in || had_out > z->avail_out);
		if (ret)
			return ret;
	}
}

static int unpack_bzip2(struct input *in, struct unpack_out *out)
{
	bz_stream z = { 0 };
	int ret;

	if (BZ2_bzDecompressInit(&z, 0, 0) != BZ_OK)
		return -ENOMEM;
	ret = run_bzip2(&z, in, out);
	BZ2_bzDecompressEnd(&z);
	return ret;
}

/* ---- xz and lzma -------------------------------------------------------------- */

static int run_lzma(lzma_stream *z, struct input *in, struct unpack_out *out)
{
	z->next_in = in->p + in->at;
	z->avail_in = in->len - in->at;
	for (;;) {
		lzma_ret r;
		bool moved;
		int ret;

		z->next_out = out->buf + out->len;
		z->avail_out = out->size - out->len;
		r = lzma_code(z, LZMA_FINISH);
		moved = in->at != in->len - z->avail_in || out->len != out->size - z->avail_out;
		in->at = in->len - z->avail_in;
		out->len = out->size - z->avail_out;
		if (r == LZMA_STREAM_END)
			return 0;
		if (r == LZMA_MEM_ERROR || r == LZMA_MEMLIMIT_ERROR)
			return -ENOMEM;
		if (r != LZMA_OK && r != LZMA_BUF_ERROR)
			return -EBADMSG;
		ret = go_on(out, moved);
		if (ret)
			return ret;
	}
}

static int unpack_lzma(struct input *in, struct unpack_out *out, bool xz)
{
	lzma_stream z = LZMA_STREAM_INIT;
	int ret;

	if ((xz ? lzma_stream_decoder(&z, UNPACK_MEM_MAX, 0)
		: lzma_alone_decoder(&z, UNPACK_MEM_MAX)) != LZMA_OK)
		return -ENOMEM;
	ret = run_lzma(&z, in, out);
	lzma_end(&z);
	return ret;
}

/* ---- lz4 ---------------------------------------------------------------------- */

static uint32_t le32(const uint8_t *p)
{
	return p[0] | p[1] << 8 | p[2] << 16 | (uint32_t)p[3] << 24;
}

static int put(struct unpack_out *out, const uint8_t *p, size_t n)
{
	while (n) {
		size_t room = out->size - out->len;
		int ret;

		if (!room) {
			ret = go_on(out, false);
			if (ret)
				return ret;
			continue;
		}
		if (room > n)
			room = n;
		memcpy(out->buf + out->len, p, room);
		out->len += room;
		p += room;
		n -= room;
	}
	return 0;
}

/* a chunk that is not full is the last; so is one before what cannot be a length */
static int run_lz4(struct input *in, struct unpack_out *out, char *chunk)
{
	int made = LZ4_CHUNK, ret = 0;

	in->at += 4;
	while (!ret && made == LZ4_CHUNK) {
		uint32_t n;

		if (in->len - in->at < 4)
			return in->at == in->len ? 0 : -EBADMSG;
		n = le32(in->p + in->at);
		if (n == LZ4_MAGIC || n == 0)
			return 0;
		if (n > (uint32_t)LZ4_COMPRESSBOUND(LZ4_CHUNK) || n > in->len - in->at - 4)
			return -EBADMSG;
		made = LZ4_decompress_safe((const char *)in->p + in->at + 4, chunk, (int)n, LZ4_CHUNK);
		if (made < 0)
			return -EBADMSG;
		in->at += 4 + n;
		ret = put(out, (uint8_t *)chunk, (size_t)made);
	}
	return ret;
}

static int unpack_lz4(struct input *in, struct unpack_out *out)
{
	char *chunk = malloc(LZ4_CHUNK);
	int ret = chunk ? run_lz4(in, out, chunk) : -ENOMEM;

	free(chunk);
	return ret;
}

/* ---- zstd --------------------------------------------------------------------- */

/* Into a buffer for all of it no window is needed: half the memory, half the copying. */
static int unpack_zstd_at_once(struct input *in, struct unpack_out *out)
{
	size_t n = ZSTD_findFrameCompressedSize(in->p + in->at, in->len - in->at), made;

	if (ZSTD_isError(n))
		return -EBADMSG;
	made = ZSTD_decompress(out->buf + out->len, out->size - out->len, in->p + in->at, n);
	if (ZSTD_isError(made))
		return ZSTD_getErrorCode(made) == ZSTD_error_dstSize_tooSmall ? -EOVERFLOW :
		       ZSTD_getErrorCode(made) == ZSTD_error_memory_allocation ? -ENOMEM : -EBADMSG;
	in->at += n;
	out->len += made;
	return 0;
}

static int run_zstd(ZSTD_DCtx *z, struct input *in, struct unpack_out *out)
{
	for (;;) {
		ZSTD_inBuffer i = { in->p, in->len, in->at };
		ZSTD_outBuffer o = { out->buf, out->size, out->len };
		size_t left = ZSTD_decompressStream(z, &o, &i);
		bool moved = i.pos != in->at || o.pos != out->len;
		int ret;

		in->at = i.pos;
		out->len = o.pos;
		if (ZSTD_isError(left))
			return ZSTD_getErrorCode(left) == ZSTD_error_memory_allocation ? -ENOMEM : -EBADMSG;
		if (!left)
			return 0;
		ret = go_on(out, moved);
		if (ret)
			return ret;
	}
}

static int unpack_zstd(struct input *in, struct unpack_out *out)
{
	ZSTD_DCtx *z;
	int ret;

	if (!out->flush)
		return unpack_zstd_at_once(in, out);
	z = ZSTD_createDCtx();
	if (!z)
		return -ENOMEM;
	ZSTD_DCtx_setParameter(z, ZSTD_d_windowLogMax, WINDOW_LOG_MAX);
	ret = run_zstd(z, in, out);
	ZSTD_freeDCtx(z);
	return ret;
}

API int unpack_stream(enum unpack_format format, const uint8_t *p, size_t len,
	   struct unpack_out *out, size_t *used)
{
	struct input in = { p, len, 0 };
	int ret, last;

	switch (format) {
	case UNPACK_GZIP:
		ret = unpack_gzip(&in, out);
		break;
	case UNPACK_BZIP2:
		ret = unpack_bzip2(&in, out);
		break;
	case UNPACK_LZMA:
	case UNPACK_XZ:
		ret = unpack_lzma(&in, out, format == UNPACK_XZ);
		break;
	case UNPACK_LZ4:
		ret = unpack_lz4(&in, out);
		break;
	case UNPACK_ZSTD:
		ret = unpack_zstd(&in, out);
		break;
	default:
		ret = -EOPNOTSUPP;
	}
	/* what came out before a failure is shown to flush too: a head says what it is */
	last = flush(out);
	*used = in.at;
	return ret ? ret : last;
}

static int note_and_stop(void *ctx, const uint8_t *p, size_t n)
{
	*(size_t *)ctx = n;
	return -ECANCELED;
}

API size_t unpack_head(enum unpack_format format, const uint8_t *p, size_t len,
		       uint8_t *buf, size_t size)
{
	size_t n = 0, used;
	struct unpack_out out = { .buf = buf, .size = size, .flush = note_and_stop, .ctx = &n };

	unpack_stream(format, p, len, &out, &used);
	return n;
}
