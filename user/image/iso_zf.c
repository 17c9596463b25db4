// SPDX-License-Identifier: LGPL-2.1-or-later
/*
 * zisofs: a file in blocks that were compressed each for itself. A header, a table of
 * where blocks begin (one more than there are blocks), zlib streams; a block of no bytes
 * is all zero. Version 1 counts with 32 bits, version 2 with 64.
 */
#include <inttypes.h>
#include <stdlib.h>
#include <zlib.h>

#include "image/iso.h"

#define INPUT_BYTES	65536u

struct iso_zreader {
	struct vmplat_iso *iso;
	const struct iso_sections *stored;
	uint64_t bytes;			/* uncompressed */
	struct iso_zf zf;
	uint64_t table;			/* where it begins in the stored file */
	uint64_t at;			/* block that @block holds, ~0 for none */
	uint8_t *block, *input;
	z_stream stream;
	bool stream_ready;
};

static int bad(struct iso_zreader *z, const char *what)
{
	return iso_bad(z->iso, "zisofs-header", z->stored->one.pos, "%s", what);
}

static int check_header(struct iso_zreader *z)
{
	static const uint8_t magic[2][8] = {
		{ 0x37, 0xe4, 0x53, 0x96, 0xc9, 0xdb, 0xd6, 0x07 },
		{ 0xef, 0x22, 0x55, 0xa1, 0xbc, 0x1b, 0x95, 0xa0 },
	};
	bool v2 = z->zf.version == 2;
	size_t len = v2 ? 24 : 16, pointer = v2 ? 8 : 4;
	uint64_t bytes, blocks, table;
	uint8_t h[24];
	int rc;

	if (z->zf.block_shift < 7 || z->zf.block_shift > 20)
		return iso_bad(z->iso, "zisofs-block-size", z->stored->one.pos, "blocks of 2^%u bytes; "
			       "between 2^7 and 2^20 are taken", z->zf.block_shift);
	if (z->zf.header_bytes < len || z->stored->bytes < z->zf.header_bytes)
		return bad(z, "the compressed file is shorter than its header");
	rc = iso_sections_read(z->iso, z->stored, h, len, 0);
	if (rc)
		return rc;
	if (memcmp(h, magic[v2], 8))
		return bad(z, "the compressed file does not begin with the magic number of its kind");
	if (v2 && (h[8] || h[10] != 1))
		return bad(z, "the compressed file is of a later version, or not of zlib streams");
	bytes = v2 ? le64(h + 12) : le32(h + 8);
	if (bytes != z->bytes)
		return bad(z, "the compressed file's header and its ZF field disagree about its length");
	if ((v2 ? h[11] : h[13]) != z->zf.block_shift || (v2 ? h[9] : h[12]) * 4 != z->zf.header_bytes)
		return bad(z, "the compressed file's header and its ZF field disagree about block or "
			   "header size");
	blocks = (bytes >> z->zf.block_shift) + !!(bytes & ((1u << z->zf.block_shift) - 1));
	table = (blocks + 1) * pointer;
	if (bytes && table > z->stored->bytes - z->zf.header_bytes)
		return bad(z, "the compressed file ends in its table of blocks");
	z->table = z->zf.header_bytes;
	return 0;
}

int iso_zf_open(struct iso_zreader **out, struct vmplat_iso *iso, const struct iso_sections *s,
		const struct iso_zf *zf, uint64_t bytes)
{
	struct iso_zreader *z = calloc(1, sizeof(*z));
	int rc;

	if (!z)
		return lib_error(-ENOMEM, "out of memory");
	z->iso = iso;
	z->stored = s;
	z->zf = *zf;
	z->bytes = bytes;
	z->at = ~0ULL;
	rc = check_header(z);
	if (!rc) {
		z->block = malloc(1u << zf->block_shift);
		z->input = malloc(INPUT_BYTES);
		z->stream_ready = inflateInit(&z->stream) == Z_OK;
		if (!z->block || !z->input || !z->stream_ready)
			rc = lib_error(-ENOMEM, "out of memory");
	}
	if (rc) {
		iso_zf_close(z);
		return rc;
	}
	*out = z;
	return 0;
}

void iso_zf_close(struct iso_zreader *z)
{
	if (!z)
		return;
	if (z->stream_ready)
		inflateEnd(&z->stream);
	free(z->block);
	free(z->input);
	free(z);
}

/* Where block @nr begins and ends in the stored file. */
static int block_place(struct iso_zreader *z, uint64_t nr, uint64_t *begin, uint64_t *end)
{
	bool v2 = z->zf.version == 2;
	size_t each = v2 ? 8 : 4;
	uint8_t p[16];
	int rc = iso_sections_read(z->iso, z->stored, p, 2 * each, z->table + nr * each);

	if (rc)
		return rc;
	*begin = v2 ? le64(p) : le32(p);
	*end = v2 ? le64(p + 8) : le32(p + 4);
	if (*begin > *end || *end > z->stored->bytes)
		return iso_bad(z->iso, "zisofs-table", z->stored->one.pos, "compressed block %" PRIu64
			       " lies at %" PRIu64 " to %" PRIu64 " of %" PRIu64 " bytes", nr, *begin,
			       *end, z->stored->bytes);
	return 0;
}

static int inflate_block(struct iso_zreader *z, uint64_t nr, uint64_t begin, uint64_t end,
			 size_t want)
{
	int rc, zrc = Z_OK;

	inflateReset(&z->stream);
	z->stream.next_out = z->block;
	z->stream.avail_out = want;
	z->stream.avail_in = 0;
	while (zrc == Z_OK && z->stream.avail_out) {
		size_t n = end - begin < INPUT_BYTES ? end - begin : INPUT_BYTES;

		if (!z->stream.avail_in) {
			if (!n)
				break;
			rc = iso_sections_read(z->iso, z->stored, z->input, n, begin);
			if (rc)
				return rc;
			begin += n;
			z->stream.next_in = z->input;
			z->stream.avail_in = n;
		}
		zrc = inflate(&z->stream, Z_NO_FLUSH);
	}
	if (z->stream.avail_out)
		return iso_bad(z->iso, "zisofs-data", z->stored->one.pos, "compressed block %" PRIu64
			       " gives %zu bytes, not %zu%s%s", nr, want - z->stream.avail_out, want,
			       z->stream.msg ? ": " : "", z->stream.msg ? z->stream.msg : "");
	return 0;
}

static int load_block(struct iso_zreader *z, uint64_t nr)
{
	uint64_t size = 1u << z->zf.block_shift, begin, end;
	size_t want = z->bytes - nr * size < size ? z->bytes - nr * size : size;
	int rc;

	if (z->at == nr)
		return 0;
	z->at = ~0ULL;
	rc = block_place(z, nr, &begin, &end);
	if (!rc && begin == end)
		memset(z->block, 0, want);
	else if (!rc)
		rc = inflate_block(z, nr, begin, end, want);
	if (!rc)
		z->at = nr;
	return rc;
}

int iso_zf_read(struct iso_zreader *z, void *buf, size_t len, uint64_t off)
{
	uint8_t *to = buf;
	int rc;

	while (len) {
		size_t in = off & ((1u << z->zf.block_shift) - 1);
		size_t n = (1u << z->zf.block_shift) - in;

		if (n > len)
			n = len;
		rc = load_block(z, off >> z->zf.block_shift);
		if (rc)
			return rc;
		memcpy(to, z->block + in, n);
		to += n;
		off += n;
		len -= n;
	}
	return 0;
}
