// SPDX-License-Identifier: LGPL-2.1-or-later
/*
 * UDF volumes (ECMA-167 parts 2 and 3; OSTA UDF 1.02 to 2.60): from the anchor to the
 * root directory, and the ways in which a partition's blocks become places on the disc:
 * plain, through a virtual allocation table, with spared packets, or inside the metadata
 * file.
 *
 * What makes a UDF volume unusable is an issue, not a failure to open the disc: a bridge
 * disc still has its ISO 9660 side.
 */
#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>

#include "image/iso.h"

#define MAPS_MAX	8
#define SEQUENCE_MAX	64	/* descriptors of a volume descriptor sequence */
#define SPARED_MAX	4096

enum { TAG_PVD = 1, TAG_ANCHOR, TAG_POINTER, TAG_IUVD, TAG_PARTITION, TAG_LVD, TAG_USD,
       TAG_TERMINATOR, TAG_FSD = 256 };

enum map_kind { MAP_PLAIN, MAP_VIRTUAL, MAP_SPARABLE, MAP_METADATA };

struct spared {
	uint32_t from, to;	/* first block in the partition; block of the volume */
};

struct map {
	enum map_kind kind;
	uint16_t partition;
	uint64_t pos, bytes;		/* the partition on the disc */
	struct iso_sections file;	/* VAT or metadata file */
	uint32_t vat_header, vat_entries;
	uint32_t packet;		/* blocks */
	struct spared *spared;
	unsigned int nr_spared;
	uint32_t file_block, mirror_block;	/* metadata file's entries */
};

struct iso_udf {
	uint32_t block;
	uint64_t anchor;
	uint64_t lvd_off;
	uint16_t revision;
	unsigned int nr_maps;
	struct map map[MAPS_MAX];
	uint64_t root;			/* ICB: partition reference << 32 | block */
	char volume_id[200], volume_set_id[400], application_id[100];
	bool has_time;
	struct timespec time;
	uint64_t bytes;			/* end of the last partition */
};

uint32_t iso_udf_block(const struct vmplat_iso *iso)
{
	return iso->udf->block;
}

uint64_t iso_udf_root(const struct vmplat_iso *iso)
{
	return iso->udf->root;
}

void iso_udf_free(struct iso_udf *udf)
{
	if (!udf)
		return;
	for (unsigned int i = 0; i < udf->nr_maps; i++) {
		iso_sections_free(&udf->map[i].file);
		free(udf->map[i].spared);
	}
	free(udf);
}

/* ---- tags -------------------------------------------------------------- */

static uint16_t crc_itu(const uint8_t *p, size_t len)
{
	uint16_t crc = 0;

	while (len--) {
		crc ^= *p++ << 8;
		for (int i = 0; i < 8; i++)
			crc = crc << 1 ^ (crc & 0x8000 ? 0x1021 : 0);
	}
	return crc;
}

static bool tag_sum_ok(const uint8_t *p)
{
	uint8_t sum = 0;

	for (int i = 0; i < 16; i++)
		sum += i == 4 ? 0 : p[i];
	return sum == p[4];
}

int iso_udf_tag(struct vmplat_iso *iso, const uint8_t *p, size_t room, int id, uint32_t block,
		uint64_t off)
{
	uint16_t crc_len = le16(p + 10);

	if (!tag_sum_ok(p))
		return iso_bad(iso, "udf-tag", off, "a descriptor's tag has a wrong checksum");
	if (id >= 0 && le16(p) != id)
		return iso_bad(iso, "udf-tag", off, "a descriptor is of kind %u, not %d", le16(p), id);
	if (crc_len + 16u <= room && crc_itu(p + 16, crc_len) != le16(p + 8))
		return iso_bad(iso, "udf-crc", off, "a descriptor's CRC is wrong");
	if (le32(p + 12) != block)
		iso_warn(iso, "udf-location", off, "a descriptor says it stands at block %" PRIu32
			 ", not %" PRIu32, le32(p + 12), block);
	return 0;
}

/* ---- blocks ------------------------------------------------------------ */

static int bad_map(struct vmplat_iso *iso, unsigned int part, uint64_t block, const char *why)
{
	return iso_bad(iso, "udf-place", iso->udf->lvd_off, "block %" PRIu64 " of partition %u %s",
		       block, part, why);
}

/* Where one block is, and how many follow it there without a break; @want at most. */
static int map_block(struct vmplat_iso *iso, unsigned int part, uint32_t block, uint64_t want,
		     uint64_t *pos, uint64_t *nr)
{
	const struct iso_udf *udf = iso->udf;
	const struct map *m = &udf->map[part];
	struct vmplat_iso_extent x;
	uint32_t start, in;
	uint8_t le[4];
	int rc;

	*nr = want;
	switch (m->kind) {
	case MAP_VIRTUAL:
		if (block >= m->vat_entries)
			return bad_map(iso, part, block, "is not in the virtual allocation table");
		rc = iso_sections_read(iso, &m->file, le, 4, m->vat_header + 4ULL * block);
		if (rc)
			return rc;
		*nr = 1;
		block = le32(le);
		break;
	case MAP_METADATA:
		if ((uint64_t)block * udf->block >= m->file.bytes)
			return bad_map(iso, part, block, "is beyond the metadata file");
		iso_sections_map(&m->file, (uint64_t)block * udf->block, &x);
		if (x.hole)
			return bad_map(iso, part, block, "is in a hole of the metadata file");
		*pos = x.pos;
		*nr = x.bytes / udf->block;
		if (!*nr)
			*nr = 1;
		return 0;
	case MAP_SPARABLE:
		in = block % m->packet;
		start = block - in;
		if (*nr > m->packet - in && m->nr_spared)
			*nr = m->packet - in;
		for (unsigned int i = 0; i < m->nr_spared; i++) {
			if (m->spared[i].from != start)
				continue;
			*pos = ((uint64_t)m->spared[i].to + in) * udf->block;
			return 0;
		}
		break;
	case MAP_PLAIN:
		break;
	}
	if ((uint64_t)block * udf->block >= m->bytes)
		return bad_map(iso, part, block, "is beyond the partition's end");
	*pos = m->pos + (uint64_t)block * udf->block;
	return 0;
}

int iso_udf_map(struct vmplat_iso *iso, unsigned int part, uint32_t block, uint64_t bytes,
		struct iso_sections *s, bool hole)
{
	uint64_t pos = 0, nr = 0, n;
	int rc;

	if (hole)
		return iso_section_add(s, (struct iso_section) { .bytes = bytes, .hole = true });
	if (part >= iso->udf->nr_maps)
		return bad_map(iso, part, block, "is meant, a partition that the volume does not have");
	while (bytes) {
		uint64_t want = bytes / iso->udf->block + !!(bytes % iso->udf->block);

		rc = map_block(iso, part, block, want, &pos, &nr);
		if (rc)
			return rc;
		if (nr > want)
			nr = want;
		n = nr * iso->udf->block < bytes ? nr * iso->udf->block : bytes;
		if (!iso_inside(iso, pos, n))
			return iso_bad(iso, "extent-outside", pos, "%" PRIu64 " bytes at %" PRIu64
				       " reach beyond the image of %" PRIu64 " bytes", n, pos,
				       iso->bytes);
		rc = iso_section_add(s, (struct iso_section) { .pos = pos, .bytes = n });
		if (rc)
			return rc;
		block += nr;
		bytes -= n;
	}
	return 0;
}

/* ---- the volume descriptor sequence ------------------------------------ */

/* The descriptors that prevail: those with the highest sequence number. */
struct sequence {
	uint8_t pvd[512], lvd[ISO_SECTOR];
	bool has_pvd, has_lvd;
	uint64_t lvd_off;
	unsigned int nr_partitions;
	struct partition {
		uint32_t seq, start, blocks;
		uint16_t number;
	} partition[MAPS_MAX];
};

static void take_partition(struct sequence *q, const uint8_t *d)
{
	struct partition p = { le32(d + 16), le32(d + 188), le32(d + 192), le16(d + 22) };

	for (unsigned int i = 0; i < q->nr_partitions; i++) {
		if (q->partition[i].number != p.number)
			continue;
		if (p.seq >= q->partition[i].seq)
			q->partition[i] = p;
		return;
	}
	if (q->nr_partitions < MAPS_MAX)
		q->partition[q->nr_partitions++] = p;
}

static void take_descriptor(struct sequence *q, const uint8_t *d, size_t len, uint64_t off)
{
	switch (le16(d)) {
	case TAG_PVD:
		if (!q->has_pvd || le32(d + 16) >= le32(q->pvd + 16))
			memcpy(q->pvd, d, sizeof(q->pvd));
		q->has_pvd = true;
		break;
	case TAG_PARTITION:
		take_partition(q, d);
		break;
	case TAG_LVD:
		if (!q->has_lvd || le32(d + 16) >= le32(q->lvd + 16)) {
			memset(q->lvd, 0, sizeof(q->lvd));
			memcpy(q->lvd, d, len);
			q->lvd_off = off;
		}
		q->has_lvd = true;
		break;
	}
}

static int read_sequence(struct vmplat_iso *iso, struct sequence *q, uint32_t bytes,
			 uint32_t block)
{
	uint32_t size = iso->udf->block, len = size < ISO_SECTOR ? size : ISO_SECTOR;
	uint8_t d[ISO_SECTOR];
	uint32_t left = bytes / size;

	for (int i = 0; i < SEQUENCE_MAX && left; i++, left--, block++) {
		uint64_t off = (uint64_t)block * size;
		int rc = iso_read(iso, d, len, off);

		if (rc)
			return rc;
		if (!le16(d) || iso_udf_tag(iso, d, len, -1, block, off))
			continue;
		if (le16(d) == TAG_TERMINATOR)
			break;
		if (le16(d) == TAG_POINTER) {
			left = le32(d + 20) / size + 1;
			block = le32(d + 24) - 1;
			continue;
		}
		take_descriptor(q, d, len, off);
	}
	return q->has_lvd && q->nr_partitions ? 0 : -ENOENT;
}

/* ---- partition maps ---------------------------------------------------- */

static int find_partition(struct vmplat_iso *iso, const struct sequence *q, struct map *m)
{
	for (unsigned int i = 0; i < q->nr_partitions; i++) {
		const struct partition *p = &q->partition[i];

		if (p->number != m->partition)
			continue;
		m->pos = (uint64_t)p->start * iso->udf->block;
		m->bytes = (uint64_t)p->blocks * iso->udf->block;
		if (m->pos > iso->bytes)
			return iso_bad(iso, "udf-partition", m->pos, "partition %u begins beyond the image",
				       p->number);
		if (m->pos + m->bytes > iso->bytes)
			iso_warn(iso, "udf-partition", m->pos, "partition %u reaches beyond the image",
				 p->number);
		if (iso->udf->bytes < m->pos + m->bytes)
			iso->udf->bytes = m->pos + m->bytes;
		return 0;
	}
	return iso_bad(iso, "udf-partition", q->lvd_off, "the volume needs partition %u, which has "
		       "no descriptor", m->partition);
}

static int read_sparing(struct vmplat_iso *iso, struct map *m, const uint8_t *pm)
{
	uint32_t block = iso->udf->block;
	uint8_t head[56], e[8];

	m->packet = le16(pm + 40);
	if (!m->packet || m->packet > 4096)
		return iso_bad(iso, "udf-sparing", iso->udf->lvd_off, "packets of %" PRIu32 " blocks",
			       m->packet);
	for (unsigned int i = 0; i < pm[42] && i < 4; i++) {
		uint64_t pos = (uint64_t)le32(pm + 48 + 4 * i) * block;
		unsigned int nr;

		if (iso_read(iso, head, sizeof(head), pos) || !tag_sum_ok(head) ||
		    memcmp(head + 17, "*UDF Sparing Table", 18))
			continue;
		nr = le16(head + 48);
		if (nr > SPARED_MAX || !iso_inside(iso, pos, sizeof(head) + 8ULL * nr))
			continue;
		m->spared = calloc(nr ? nr : 1, sizeof(*m->spared));
		if (!m->spared)
			return lib_error(-ENOMEM, "out of memory");
		for (unsigned int k = 0; k < nr; k++) {
			int rc = iso_read(iso, e, 8, pos + sizeof(head) + 8 * k);

			if (rc)
				return rc;
			/* from 0xfffffff0 on: not in use, or broken itself */
			if (le32(e) < 0xfffffff0)
				m->spared[m->nr_spared++] = (struct spared) { le32(e), le32(e + 4) };
		}
		return 0;
	}
	return iso_bad(iso, "udf-sparing", iso->udf->lvd_off, "none of the sparing tables can be read");
}

static bool type2_is(const uint8_t *pm, const char *id)
{
	return !memcmp(pm + 5, id, strlen(id));
}

static int take_map(struct vmplat_iso *iso, const struct sequence *q, const uint8_t *pm,
		    struct map *m)
{
	int rc;

	if (pm[0] == 1) {
		m->partition = le16(pm + 4);
		return find_partition(iso, q, m);
	}
	m->partition = le16(pm + 38);
	rc = find_partition(iso, q, m);
	if (rc)
		return rc;
	if (type2_is(pm, "*UDF Virtual Partition")) {
		m->kind = MAP_VIRTUAL;
		return 0;
	}
	if (type2_is(pm, "*UDF Sparable Partition")) {
		m->kind = MAP_SPARABLE;
		return read_sparing(iso, m, pm);
	}
	if (type2_is(pm, "*UDF Metadata Partition")) {
		m->kind = MAP_METADATA;
		m->file_block = le32(pm + 40);
		m->mirror_block = le32(pm + 44);
		return 0;
	}
	return iso_bad(iso, "udf-map", q->lvd_off, "a partition map of a kind that is not read: %.23s",
		       pm + 5);
}

static int take_maps(struct vmplat_iso *iso, const struct sequence *q)
{
	struct iso_udf *udf = iso->udf;
	uint32_t table = le32(q->lvd + 264), nr = le32(q->lvd + 268);
	const uint8_t *pm = q->lvd + 440;
	const uint8_t *end = q->lvd + (udf->block < ISO_SECTOR ? udf->block : ISO_SECTOR);
	int rc;

	if (nr > MAPS_MAX || table > (size_t)(end - pm))
		return iso_bad(iso, "udf-map", q->lvd_off, "%" PRIu32 " partition maps of %" PRIu32
			       " bytes; %d are taken", nr, table, MAPS_MAX);
	end = pm + table;
	for (uint32_t i = 0; i < nr; i++, pm += pm[1]) {
		if (end - pm < 6 || pm[1] > end - pm || pm[1] != (pm[0] == 1 ? 6 : 64))
			return iso_bad(iso, "udf-map", q->lvd_off, "partition map %" PRIu32 " has a wrong "
				       "length", i);
		udf->nr_maps = i + 1;
		rc = take_map(iso, q, pm, &udf->map[i]);
		if (rc)
			return rc;
	}
	return nr ? 0 : iso_bad(iso, "udf-map", q->lvd_off, "no partition map");
}

/* The plain (or sparable) map of the same partition: where metadata files and VATs lie. */
static int base_map(struct vmplat_iso *iso, const struct map *m)
{
	for (unsigned int i = 0; i < iso->udf->nr_maps; i++) {
		const struct map *b = &iso->udf->map[i];

		if (b->partition == m->partition && (b->kind == MAP_PLAIN || b->kind == MAP_SPARABLE))
			return i;
	}
	return iso_bad(iso, "udf-map", iso->udf->lvd_off, "partition %u has no plain map", m->partition);
}

static int open_metadata(struct vmplat_iso *iso, struct map *m)
{
	uint64_t base;
	int rc = base_map(iso, m);

	if (rc < 0)
		return rc;
	base = (uint64_t)rc << 32;
	rc = iso_udf_node(iso, base | m->file_block, NULL, &m->file);
	if (!rc)
		return 0;
	iso_sections_free(&m->file);
	rc = iso_udf_node(iso, base | m->mirror_block, NULL, &m->file);
	if (!rc)
		iso_warn(iso, "udf-metadata", m->pos, "the metadata file cannot be read; its mirror "
			 "is used");
	return rc;
}

/* In version 1.50 the table comes first, in 2.00 and later behind a header. */
static int take_vat(struct vmplat_iso *iso, struct map *m, uint64_t icb, uint8_t type)
{
	uint8_t b[36];
	int rc = iso_udf_node(iso, icb, NULL, &m->file);

	if (rc)
		return rc;
	if (type == 248) {
		rc = m->file.bytes < 152 ? -EBADMSG : iso_sections_read(iso, &m->file, b, 2, 0);
		m->vat_header = rc ? 0 : le16(b);
		if (rc || m->vat_header < 152 || m->vat_header > m->file.bytes)
			return -EBADMSG;
		m->vat_entries = (m->file.bytes - m->vat_header) / 4;
		return 0;
	}
	if (m->file.bytes < 36)
		return -EBADMSG;
	rc = iso_sections_read(iso, &m->file, b, 36, m->file.bytes - 36);
	if (rc || memcmp(b + 1, "*UDF Virtual Alloc Tbl", 22))
		return -EBADMSG;
	m->vat_entries = (m->file.bytes - 36) / 4;
	return 0;
}

/* The table's ICB is the last block that was written; some padding may follow. */
static int find_vat(struct vmplat_iso *iso, struct map *m)
{
	uint32_t block = iso->udf->block;
	uint64_t last = iso->bytes / block, first = m->pos / block;
	int base = base_map(iso, m), rc = -EBADMSG;
	uint8_t d[64];

	if (base < 0)
		return base;
	for (uint64_t i = 1; i <= 512 && last >= first + i; i++) {
		uint64_t at = last - i;

		if (iso_read(iso, d, sizeof(d), at * block))
			break;
		if ((le16(d) != 261 && le16(d) != 266) || !tag_sum_ok(d) ||
		    (d[27] != 248 && d[27] != 0))
			continue;
		iso_hush(iso, true);
		rc = take_vat(iso, m, (uint64_t)base << 32 | (uint32_t)(at - first), d[27]);
		iso_hush(iso, false);
		if (!rc)
			return 0;
		iso_sections_free(&m->file);
	}
	return iso_bad(iso, "udf-vat", iso->bytes, "no virtual allocation table among the image's last "
		       "512 blocks");
}

static int open_maps(struct vmplat_iso *iso)
{
	int rc = 0;

	for (unsigned int i = 0; i < iso->udf->nr_maps && !rc; i++) {
		if (iso->udf->map[i].kind == MAP_VIRTUAL)
			rc = find_vat(iso, &iso->udf->map[i]);
		else if (iso->udf->map[i].kind == MAP_METADATA)
			rc = open_metadata(iso, &iso->udf->map[i]);
	}
	return rc;
}

/* ---- opening ----------------------------------------------------------- */

static int find_root(struct vmplat_iso *iso, const uint8_t *lvd)
{
	struct iso_sections s = { 0 };
	uint32_t block = le32(lvd + 252);
	unsigned int part = le16(lvd + 256);
	uint8_t fsd[512];
	int rc;

	if (part >= iso->udf->nr_maps)
		return bad_map(iso, part, block, "should have the file set, but is not there");
	rc = iso_udf_map(iso, part, block, sizeof(fsd), &s, false);
	if (!rc)
		rc = iso_sections_read(iso, &s, fsd, sizeof(fsd), 0);
	if (!rc)
		rc = iso_udf_tag(iso, fsd, sizeof(fsd), TAG_FSD, block, s.one.pos);
	iso_sections_free(&s);
	if (rc)
		return rc;
	iso->udf->root = (uint64_t)le16(fsd + 408) << 32 | le32(fsd + 404);
	return 0;
}

/* OSTA compressed Unicode: 8 or 16 bits a character, said by the first byte */
static void dstring(char *out, size_t room, const uint8_t *p, size_t len)
{
	size_t used = p[len - 1];

	out[0] = '\0';
	if (used < 1 || used > len - 1)
		return;
	if (p[0] == 16)
		iso_utf16(out, room, p + 1, (used - 1) & ~1u);
	else if (p[0] == 8)
		iso_latin1(out, room, p + 1, used - 1);
}

static void take_names(struct iso_udf *udf, const struct sequence *q)
{
	dstring(udf->volume_id, sizeof(udf->volume_id), q->lvd + 84, 128);
	if (!q->has_pvd)
		return;
	if (!udf->volume_id[0])
		dstring(udf->volume_id, sizeof(udf->volume_id), q->pvd + 24, 32);
	dstring(udf->volume_set_id, sizeof(udf->volume_set_id), q->pvd + 72, 128);
	memcpy(udf->application_id, q->pvd + 345, 23);
	udf->has_time = iso_time_udf(q->pvd + 376, &udf->time);
}

static int use_sequence(struct vmplat_iso *iso, const struct sequence *q)
{
	struct iso_udf *udf = iso->udf;
	struct iso_node *n;
	int rc;

	udf->lvd_off = q->lvd_off;
	if (le32(q->lvd + 212) != udf->block)
		return iso_bad(iso, "udf-block-size", q->lvd_off, "the volume has blocks of %" PRIu32
			       " bytes, its anchor stands where those of %" PRIu32 " put it",
			       le32(q->lvd + 212), udf->block);
	if (memcmp(q->lvd + 217, "*OSTA UDF Compliant", 19))
		iso_warn(iso, "udf-domain", q->lvd_off, "the volume does not say that it is OSTA UDF");
	udf->revision = le16(q->lvd + 240);
	take_names(udf, q);
	rc = take_maps(iso, q);
	if (!rc)
		rc = open_maps(iso);
	if (!rc)
		rc = find_root(iso, q->lvd);
	if (rc)
		return rc;
	n = malloc(sizeof(*n));
	if (!n)
		return lib_error(-ENOMEM, "out of memory");
	rc = iso_udf_node(iso, udf->root, n, NULL);
	free(n);
	return rc;
}

static int open_at(struct vmplat_iso *iso, uint32_t block, uint64_t anchor)
{
	struct sequence *q;
	uint8_t d[512];
	int rc;

	rc = iso_read(iso, d, sizeof(d), anchor * block);
	if (rc)
		return rc;
	if (le16(d) != TAG_ANCHOR || !tag_sum_ok(d) || le32(d + 12) != anchor)
		return -ENOENT;
	iso->udf = calloc(1, sizeof(*iso->udf));
	q = calloc(1, sizeof(*q));
	if (!iso->udf || !q) {
		rc = lib_error(-ENOMEM, "out of memory");
		goto out;
	}
	iso->udf->block = block;
	iso->udf->anchor = anchor * block;
	rc = read_sequence(iso, q, le32(d + 16), le32(d + 20));
	if (rc) {
		memset(q, 0, sizeof(*q));
		rc = read_sequence(iso, q, le32(d + 24), le32(d + 28));
		if (!rc)
			iso_warn(iso, "udf-reserve", anchor * block, "the main volume descriptors cannot "
				 "be used, the reserve is");
	}
	if (rc)
		rc = iso_bad(iso, "udf-sequence", anchor * block, "no logical volume behind the anchor");
	else
		rc = use_sequence(iso, q);
out:
	free(q);
	if (rc) {
		iso_udf_free(iso->udf);
		iso->udf = NULL;
	}
	return rc;
}

/* NSR02 or NSR03 among what stands behind sector 16 */
static bool recognised(struct vmplat_iso *iso)
{
	uint8_t d[8];

	for (uint64_t i = 16; i < 80; i++) {
		if (iso_read(iso, d, 7, i * ISO_SECTOR))
			return false;
		if (!memcmp(d + 1, "NSR02", 5) || !memcmp(d + 1, "NSR03", 5))
			return true;
		if (i >= 20 && !d[1])
			return false;
	}
	return false;
}

int iso_udf_detect(struct vmplat_iso *iso)
{
	static const uint32_t sizes[] = { 2048, 512, 4096, 1024 };
	int rc;

	if (!recognised(iso))
		return 0;
	for (size_t i = 0; i < sizeof(sizes) / sizeof(sizes[0]); i++) {
		uint64_t last = iso->bytes / sizes[i];
		uint64_t places[] = { 256, last - 1, last - 257, 512, last - 151 };

		for (size_t k = 0; k < sizeof(places) / sizeof(places[0]); k++) {
			if (places[k] >= last)
				continue;
			rc = open_at(iso, sizes[i], places[k]);
			if (rc == -ENOMEM)
				return rc;
			/* an anchor that leads nowhere has been told; others may be better */
			if (!rc)
				return 0;
		}
	}
	iso_warn(iso, "udf-unusable", 0, "the disc says that it is UDF, but that side cannot be used");
	return 0;
}

int iso_udf_volume(struct vmplat_iso *iso, struct vmplat_iso_volume *v)
{
	const struct iso_udf *udf = iso->udf;
	const struct map *m = &udf->map[udf->root >> 32 < udf->nr_maps ? udf->root >> 32 : 0];

	v->kind = VMPLAT_ISO_VOL_UDF;
	v->offset = udf->lvd_off;
	memcpy(v->standard, udf->revision >= 0x200 ? "NSR03" : "NSR02", 6);
	memcpy(v->volume_id, udf->volume_id, sizeof(v->volume_id));
	memcpy(v->volume_set_id, udf->volume_set_id, sizeof(v->volume_set_id));
	snprintf(v->application_id, sizeof(v->application_id), "%s", udf->application_id);
	v->volume_bytes = udf->bytes;
	v->block_bytes = udf->block;
	v->udf_revision = udf->revision;
	v->root_pos = m->kind == MAP_PLAIN ? m->pos + (udf->root & UINT32_MAX) * udf->block : 0;
	if (udf->has_time) {
		v->time[VMPLAT_ISO_CREATED] = udf->time;
		v->time_set = 1 << VMPLAT_ISO_CREATED;
	}
	return 0;
}
