/* SPDX-License-Identifier: LGPL-2.1-or-later */
/*
 * Describing boot images: one file a family of formats, each with probes that look at
 * bytes, say whether it is theirs, and add facts. The bytes may be hostile; a probe
 * reads only img->p..img->p + img->len.
 */
#ifndef VMPLAT_IMAGE_IMAGE_H
#define VMPLAT_IMAGE_IMAGE_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include <vmplat.h>

#define IMAGE_DEPTH_MAX		4
#define IMAGE_PARTS_MAX		64
#define IMAGE_BYTES_UNKNOWN	UINT64_MAX
#define IMAGE_UNPACK_MAX	(4ULL << 30)	/* looked at of one compressed stream */

struct vmplat_image {
	enum vmplat_image_kind kind;
	const uint8_t *p;		/* during the probes only */
	size_t len;			/* the head of a large file, or all of it */
	const uint8_t *tail;		/* its last bytes, tail_len of them */
	size_t tail_len;
	uint64_t bytes;			/* of the file */
	uint32_t flags;
	unsigned int depth;		/* 0: the file itself */
	bool no_memory;			/* an addition was lost */

	char *summary, *obstacle;
	const char *role;
	struct vmplat_fact *facts;
	size_t nr_facts;
	struct vmplat_image **parts;
	size_t nr_parts;
};

typedef bool image_probe(struct vmplat_image *img);

/* in the order in which they are asked */
image_probe probe_bzimage, probe_elf, probe_arm64, probe_riscv, probe_zboot, probe_pe;
image_probe probe_initrd, probe_compressed, probe_dtb, probe_other_kernel;
image_probe probe_disk_format, probe_iso, probe_gpt, probe_filesystem, probe_mbr, probe_firmware;

/* all of the file is here, not only its head */
static inline bool image_is_whole(const struct vmplat_image *img)
{
	return img->len == img->bytes;
}

/* the bytes at @off, or NULL if not all @n are there */
static inline const uint8_t *image_at(const struct vmplat_image *img, uint64_t off, size_t n)
{
	return off <= img->len && n <= img->len - off ? img->p + off : NULL;
}

static inline bool image_magic(const struct vmplat_image *img, uint64_t off, const char *m, size_t n)
{
	const uint8_t *p = image_at(img, off, n);

	return p && !__builtin_memcmp(p, m, n);
}

/* little- and big-endian numbers; 0 beyond the end */
uint64_t image_le(const struct vmplat_image *img, uint64_t off, unsigned int n);
uint64_t image_be(const struct vmplat_image *img, uint64_t off, unsigned int n);

/* What is not printable ASCII becomes '?'. */
void image_text(struct vmplat_image *img, const char *name, const char *fmt, ...)
	__attribute__((format(printf, 3, 4)));
void image_number(struct vmplat_image *img, const char *name, uint64_t v);
void image_bytes(struct vmplat_image *img, const char *name, uint64_t v);
void image_address(struct vmplat_image *img, const char *name, uint64_t v);
void image_flag(struct vmplat_image *img, const char *name, bool v);
void image_summary(struct vmplat_image *img, const char *fmt, ...)
	__attribute__((format(printf, 2, 3)));
void image_obstacle(struct vmplat_image *img, const char *fmt, ...)
	__attribute__((format(printf, 2, 3)));

/*
 * A new part, or NULL: too many, too deep, no memory. image_describe() fills one
 * whose bytes are all at hand, or only begin: @len of @bytes.
 */
struct vmplat_image *image_part(struct vmplat_image *img);
void image_describe(struct vmplat_image *img, const uint8_t *p, size_t len, uint64_t bytes);

/* unpacks the beginning of @p..@p + @n and describes it as a part */
void image_describe_head(struct vmplat_image *img, unsigned int format, const uint8_t *p,
			 size_t n);

#endif
