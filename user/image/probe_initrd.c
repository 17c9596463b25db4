// SPDX-License-Identifier: LGPL-2.1-or-later
/*
 * Initial RAM disks as the kernel reads them (Documentation/driver-api/early-userspace/
 * buffer-format.rst): cpio archives in the new ASCII format, each possibly compressed,
 * one behind the other with zeroes between. Also what is compressed and no initrd.
 */
#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "image.h"
#include "unpack.h"

#define CPIO_HEADER	110u
#define NAME_MAX_BYTES	4096u
#define CHUNK_BYTES	(1u << 20)
#define HEAD_BYTES	65536u

static bool is_cpio(const uint8_t *p, size_t n)
{
	return n >= 6 && (!memcmp(p, "070701", 6) || !memcmp(p, "070702", 6));
}

/* ---- one archive, byte after byte ------------------------------------------------ */

struct cpio {
	enum { IN_HEADER, IN_NAME, IN_DATA, ENDED, BAD } state;
	uint8_t head[CPIO_HEADER + NAME_MAX_BYTES];
	size_t have;			/* of header and name */
	uint64_t at;			/* bytes taken */
	uint64_t skip;			/* of contents and padding */
	uint32_t name_bytes;
	uint64_t file_bytes;
	uint64_t nr_entries, nr_files, all_file_bytes;
	bool has_init, has_microcode;
	const char *why;
};

static bool hex8(const uint8_t *p, uint32_t *v)
{
	*v = 0;
	for (int i = 0; i < 8; i++) {
		uint8_t c = p[i] | 0x20;

		if (p[i] >= '0' && p[i] <= '9')
			*v = *v << 4 | (uint32_t)(p[i] - '0');
		else if (c >= 'a' && c <= 'f')
			*v = *v << 4 | (uint32_t)(c - 'a' + 10);
		else
			return false;
	}
	return true;
}

static uint64_t padding(uint64_t n)
{
	return -n & 3;
}

static void bad(struct cpio *c, const char *why)
{
	c->state = BAD;
	c->why = why;
}

static void take_header(struct cpio *c)
{
	uint32_t mode, bytes;

	if (!is_cpio(c->head, c->have)) {
		bad(c, "an entry does not begin with 070701 or 070702");
	} else if (!hex8(c->head + 14, &mode) || !hex8(c->head + 54, &bytes) ||
		   !hex8(c->head + 94, &c->name_bytes)) {
		bad(c, "an entry's header is not hexadecimal");
	} else if (!c->name_bytes || c->name_bytes > NAME_MAX_BYTES) {
		bad(c, "the length of an entry's name makes no sense");
	} else {
		c->file_bytes = bytes;
		c->nr_files += (mode & 0170000) == 0100000;
		c->state = IN_NAME;
	}
}

static void take_name(struct cpio *c)
{
	const char *name = (char *)c->head + CPIO_HEADER;

	if (name[c->name_bytes - 1]) {
		bad(c, "an entry's name does not end");
		return;
	}
	if (!strcmp(name, "TRAILER!!!")) {
		c->state = ENDED;
		return;
	}
	while (!strncmp(name, "./", 2))
		name += 2;
	c->has_init |= !strcmp(name, "init") || !strcmp(name, "/init");
	c->has_microcode |= !strncmp(name, "kernel/x86/microcode/", 21);
	c->nr_entries++;
	c->all_file_bytes += c->file_bytes;
	c->skip = padding(CPIO_HEADER + c->name_bytes) + c->file_bytes + padding(c->file_bytes);
	c->have = 0;
	c->state = IN_DATA;
}

/* until header or name is complete; how many bytes that took */
static size_t collect(struct cpio *c, const uint8_t *p, size_t n, size_t want)
{
	if (n > want - c->have)
		n = want - c->have;
	memcpy(c->head + c->have, p, n);
	c->have += n;
	return n;
}

static size_t step(struct cpio *c, const uint8_t *p, size_t n)
{
	size_t want, took;

	if (c->state == IN_DATA) {
		took = n < c->skip ? n : (size_t)c->skip;
		c->skip -= took;
		if (!c->skip)
			c->state = IN_HEADER;
		return took;
	}
	want = CPIO_HEADER + (c->state == IN_NAME ? c->name_bytes : 0);
	took = collect(c, p, n, want);
	if (c->have < want)
		return took;
	if (c->state == IN_HEADER)
		take_header(c);
	else
		take_name(c);
	return took;
}

/* until the end of the archive, or of the bytes */
static size_t feed(struct cpio *c, const uint8_t *p, size_t n)
{
	size_t at = 0;

	while (at < n && c->state != ENDED && c->state != BAD)
		at += step(c, p + at, n - at);
	c->at += at;
	return at;
}

static void describe_archive(struct vmplat_image *img, const struct cpio *c)
{
	image_number(img, "entries", c->nr_entries);
	image_number(img, "files", c->nr_files);
	image_bytes(img, "file_bytes", c->all_file_bytes);
	image_flag(img, "init", c->has_init);
	if (c->has_microcode)
		image_flag(img, "microcode", true);
}

/* ---- archives behind each other ----------------------------------------------------- */

struct stream {
	struct cpio *cpio;
	uint64_t bytes;
	unsigned int archives;
};

/* what is behind an archive in the same stream: zeroes, or the next one */
static int take_stream(void *ctx, const uint8_t *p, size_t n)
{
	struct stream *s = ctx;
	struct cpio *c = s->cpio;

	s->bytes += n;
	if (s->bytes > IMAGE_UNPACK_MAX)
		return -EFBIG;
	while (n && c->state != BAD) {
		size_t took;

		if (c->state == ENDED && *p) {
			c->state = IN_HEADER;
			c->have = 0;
			s->archives++;
		}
		took = c->state == ENDED ? 1 : feed(c, p, n);
		p += took;
		n -= took;
	}
	return c->state == BAD ? -EBADMSG : 0;
}

static const char *stream_error(const struct cpio *c, int ret)
{
	if (c->state == BAD)
		return c->why;
	switch (ret) {
	case 0:
		return c->state == ENDED ? NULL : "its archive is cut short";
	case -EFBIG:
		return "it unpacks to more than 4 GiB";
	case -EOPNOTSUPP:
		return "its compression is not decoded here";
	case -ENOMEM:
		return "it needs more memory to unpack than is given";
	default:
		return "its compressed data are damaged or cut short";
	}
}

static size_t take_compressed(struct vmplat_image *part, struct cpio *c, enum unpack_format format,
			      const uint8_t *p, size_t n)
{
	struct stream s = { .cpio = c, .archives = 1 };
	struct unpack_out out = { .size = CHUNK_BYTES, .flush = take_stream, .ctx = &s };
	const char *why;
	size_t used = n;
	int ret;

	image_text(part, "compression", "%s", unpack_name(format));
	if (!(part->flags & VMPLAT_IMAGE_F_DEEP))
		return n;
	out.buf = malloc(CHUNK_BYTES);
	if (!out.buf) {
		part->no_memory = true;
		return n;
	}
	ret = unpack_stream(format, p, n, &out, &used);
	free(out.buf);
	image_bytes(part, "packed_bytes", used);
	image_bytes(part, "unpacked_bytes", s.bytes);
	describe_archive(part, c);
	why = stream_error(c, ret);
	if (why)
		image_obstacle(part, "%s", why);
	return why ? n : used;
}

static size_t take_plain(struct vmplat_image *part, struct cpio *c, const uint8_t *p, size_t n)
{
	const char *why;
	size_t used = feed(c, p, n);

	image_text(part, "compression", "none");
	describe_archive(part, c);
	why = stream_error(c, 0);
	if (why)
		image_obstacle(part, "%s", why);
	return why ? n : used;
}

/* an archive at the beginning of @p; how many bytes it has, 0: there is none */
static size_t take_archive(struct vmplat_image *img, const uint8_t *p, size_t n, uint64_t off)
{
	enum unpack_format format = unpack_detect(p, n);
	struct vmplat_image *part;
	struct cpio *c;
	size_t used;

	if (!format && !is_cpio(p, n))
		return 0;
	part = image_part(img);
	c = calloc(1, sizeof(*c));
	if (!part || !c) {
		img->no_memory |= !c;
		free(c);
		return n;
	}
	part->kind = VMPLAT_IMAGE_INITRD;
	image_bytes(part, "offset", off);
	used = format ? take_compressed(part, c, format, p, n) : take_plain(part, c, p, n);
	image_summary(part, "cpio archive%s%s%s", format ? ", " : "", format ? unpack_name(format) : "",
		      c->has_microcode ? ", CPU microcode" : "");
	part->bytes = used;
	if (!part->obstacle)
		part->role = "initrd";
	free(c);
	return used;
}

static void describe_initrd(struct vmplat_image *img)
{
	size_t at = 0, n;

	img->role = "initrd";
	while (at < img->len) {
		while (at < img->len && !img->p[at])
			at++;
		if (at == img->len)
			break;
		n = take_archive(img, img->p + at, img->len - at, at);
		if (!n) {
			image_obstacle(img, "at byte %zu begins neither an archive nor compressed data", at);
			break;
		}
		at += n;
	}
	image_number(img, "archives", img->nr_parts);
	image_summary(img, "initrd of %zu archive%s", img->nr_parts, img->nr_parts == 1 ? "" : "s");
	for (size_t i = 0; i < img->nr_parts && img->role; i++)
		if (img->parts[i]->obstacle)
			image_obstacle(img, "archive %zu: %s", i + 1, img->parts[i]->obstacle);
	if (!image_is_whole(img))
		image_obstacle(img, "it has more than 2 GiB, which no guest takes");
}

bool probe_initrd(struct vmplat_image *img)
{
	enum unpack_format format = unpack_detect(img->p, img->len);
	uint8_t head[6];

	if (image_magic(img, 0, "070707", 6) || image_magic(img, 0, "\xc7\x71", 2)) {
		image_summary(img, "cpio archive of an old format");
		image_obstacle(img, "kernels read cpio archives of the new ASCII format only: cpio -o -H newc");
		return true;
	}
	if (!is_cpio(img->p, img->len) &&
	    (!format || unpack_head(format, img->p, img->len, head, 6) < 6 || !is_cpio(head, 6)))
		return false;
	describe_initrd(img);
	return true;
}

/* ---- compressed, and something else ------------------------------------------------------ */

void image_describe_head(struct vmplat_image *img, unsigned int format, const uint8_t *p, size_t n)
{
	struct vmplat_image *part;
	uint8_t *buf = format ? malloc(HEAD_BYTES) : NULL;
	size_t len;

	if (!buf)
		return;
	len = unpack_head(format, p, n, buf, HEAD_BYTES);
	part = len ? image_part(img) : NULL;
	if (part)
		image_describe(part, buf, len, IMAGE_BYTES_UNKNOWN);
	free(buf);
}

bool probe_compressed(struct vmplat_image *img)
{
	enum unpack_format format = unpack_detect(img->p, img->len);

	if (!format)
		return false;
	image_text(img, "compression", "%s", unpack_name(format));
	image_describe_head(img, format, img->p, img->len);
	if (img->nr_parts)
		image_summary(img, "%s, compressed with %s", img->parts[0]->summary, unpack_name(format));
	else
		image_summary(img, "%s file", unpack_name(format));
	image_obstacle(img, "it is a %s file: an initrd it is not; unpack a kernel or a disk first",
		       unpack_name(format));
	return true;
}
