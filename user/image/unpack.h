/* SPDX-License-Identifier: LGPL-2.1-or-later */
/*
 * The compressed formats a Linux kernel accepts for itself and its initrd. Input is
 * bytes in memory and may be hostile: output is bounded by the caller, what a
 * decoder may allocate by UNPACK_MEM_MAX.
 */
#ifndef VMPLAT_IMAGE_UNPACK_H
#define VMPLAT_IMAGE_UNPACK_H

#include <stddef.h>
#include <stdint.h>

/* a window or dictionary of 128 MiB, which "zstd --ultra -22" asks for, and change */
#define UNPACK_MEM_MAX	(160ULL << 20)

enum unpack_format {
	UNPACK_NONE,
	UNPACK_GZIP,
	UNPACK_BZIP2,
	UNPACK_LZMA,
	UNPACK_XZ,
	UNPACK_LZO,		/* known, not decoded */
	UNPACK_LZ4,		/* the legacy frame, the only one kernels take */
	UNPACK_ZSTD,
};

/* what @p..@p + @len begins with */
enum unpack_format unpack_detect(const uint8_t *p, size_t len);
const char *unpack_name(enum unpack_format format);

/**
 * struct unpack_out - where unpacked bytes go
 * @buf: room for @size bytes, of which @len are filled
 * @flush: takes the @len bytes in @buf when it is full, and at the end; a negative
 *	return value ends unpacking with it. NULL: @buf is all the room there is,
 *	and -EOVERFLOW is what comes of more.
 * @ctx: for @flush
 */
struct unpack_out {
	uint8_t *buf;
	size_t size, len;
	int (*flush)(void *ctx, const uint8_t *p, size_t n);
	void *ctx;
};

/**
 * unpack_stream - decode one stream
 * @used: how many bytes of @in it had (also after a failure: about where)
 *
 * -EOPNOTSUPP: a format that is not decoded; -EBADMSG: the data are damaged or cut
 * short; -EOVERFLOW: more than fits; -ENOMEM; what @out->flush returned.
 */
int unpack_stream(enum unpack_format format, const uint8_t *in, size_t in_len,
	   struct unpack_out *out, size_t *used);

/* unpack_head - the first @size bytes at most into @buf; returns how many, 0 if none */
size_t unpack_head(enum unpack_format format, const uint8_t *in, size_t in_len,
		   uint8_t *buf, size_t size);

#endif
