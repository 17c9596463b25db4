// SPDX-License-Identifier: LGPL-2.1-or-later
/* Partition tables in the first 32 KiB, which ISO 9660 leaves alone: MBR, GPT, APM. */
#include <inttypes.h>
#include <stdio.h>
#include <zlib.h>

#include "image/iso.h"

struct table {
	struct vmplat_iso *iso;
	struct vmplat_iso_partition *parts;
	unsigned int nr, max;
	struct vmplat_iso_partition over;	/* counted, not kept */
};

static struct vmplat_iso_partition *add(struct table *t)
{
	struct vmplat_iso_partition *p = t->nr < t->max ? &t->parts[t->nr] : &t->over;

	t->nr++;
	memset(p, 0, sizeof(*p));
	return p;
}

static void check_place(struct table *t, const struct vmplat_iso_partition *p, uint64_t off)
{
	if (!iso_inside(t->iso, p->pos, p->bytes))
		iso_warn(t->iso, "partition-outside", off, "partition %u, %" PRIu64 " bytes at %" PRIu64
			 ", reaches beyond the image", p->nr, p->bytes, p->pos);
}

/* ---- MBR --------------------------------------------------------------- */

static void read_mbr(struct table *t, const uint8_t *s)
{
	if (s[510] != 0x55 || s[511] != 0xaa)
		return;
	/* boot sectors without a table have code here */
	for (int i = 0; i < 4; i++)
		if (s[446 + 16 * i] & 0x7f)
			return;
	for (int i = 0; i < 4; i++) {
		const uint8_t *e = s + 446 + 16 * i;
		struct vmplat_iso_partition *p;

		if (!e[4] || !le32(e + 12))
			continue;
		p = add(t);
		p->scheme = VMPLAT_ISO_MBR;
		p->nr = i + 1;
		p->active = e[0] == 0x80;
		p->pos = 512ULL * le32(e + 8);
		p->bytes = 512ULL * le32(e + 12);
		snprintf(p->type, sizeof(p->type), "%#04x", e[4]);
		/* the protective entry may be as long as tables can say */
		if (e[4] != 0xee)
			check_place(t, p, 446 + 16 * i);
	}
}

/* ---- GPT --------------------------------------------------------------- */

#define GPT_ENTRIES_MAX	1024u
#define GPT_ENTRY_MAX	4096u

static void show_guid(const uint8_t *g, char out[40])
{
	snprintf(out, 40, "%08" PRIx32 "-%04x-%04x-%02x%02x-%02x%02x%02x%02x%02x%02x", le32(g),
		 le16(g + 4), le16(g + 6), g[8], g[9], g[10], g[11], g[12], g[13], g[14], g[15]);
}

static void gpt_name(char *out, size_t room, const uint8_t *le, size_t bytes)
{
	uint8_t be[72];
	size_t n = 0;

	for (; n + 1 < bytes && (le[n] || le[n + 1]); n += 2) {
		be[n] = le[n + 1];
		be[n + 1] = le[n];
	}
	iso_utf16(out, room, be, n);
}

static int gpt_entry(struct table *t, const uint8_t *e, unsigned int nr, uint64_t off)
{
	static const uint8_t unused[16];
	struct vmplat_iso_partition *p;
	uint64_t first = le64(e + 32), last = le64(e + 40);

	if (!memcmp(e, unused, 16))
		return 0;
	if (last < first || last > UINT64_MAX / 512 - 1)
		return iso_bad(t->iso, "gpt-entry", off, "GPT partition %u ends before it begins", nr);
	p = add(t);
	p->scheme = VMPLAT_ISO_GPT;
	p->nr = nr;
	p->pos = first * 512;
	p->bytes = (last - first + 1) * 512;
	show_guid(e, p->type);
	gpt_name(p->name, sizeof(p->name), e + 56, 72);
	check_place(t, p, off);
	return 0;
}

static int read_gpt(struct table *t)
{
	struct vmplat_iso *iso = t->iso;
	uint8_t h[512], e[GPT_ENTRY_MAX];
	uint32_t len, nr, size, crc;
	uint64_t pos;
	int rc;

	if (!iso_inside(iso, 512, 512))
		return 0;
	rc = iso_read(iso, h, 512, 512);
	if (rc || memcmp(h, "EFI PART", 8))
		return rc;
	len = le32(h + 12);
	nr = le32(h + 80);
	size = le32(h + 84);
	pos = le64(h + 72) > UINT64_MAX / 512 ? UINT64_MAX : le64(h + 72) * 512;
	if (len < 92 || len > 512 || nr > GPT_ENTRIES_MAX || size < 128 || size > GPT_ENTRY_MAX ||
	    !iso_inside(iso, pos, (uint64_t)nr * size)) {
		iso_bad(iso, "gpt-header", 512, "the GPT's header cannot be right: %" PRIu32
			" bytes, %" PRIu32 " entries of %" PRIu32, len, nr, size);
		return 0;
	}
	crc = le32(h + 16);
	memset(h + 16, 0, 4);
	if (crc32(0, h, len) != crc)
		iso_warn(iso, "gpt-crc", 512, "the GPT header's checksum is wrong");
	crc = crc32(0, NULL, 0);
	for (uint32_t i = 0; i < nr; i++) {
		rc = iso_read(iso, e, size, pos + (uint64_t)i * size);
		if (rc)
			return rc;
		crc = crc32(crc, e, size);
		gpt_entry(t, e, i + 1, pos + (uint64_t)i * size);
	}
	if (crc != le32(h + 88))
		iso_warn(iso, "gpt-crc", pos, "the checksum of the GPT's entries is wrong");
	return 0;
}

/* ---- Apple ------------------------------------------------------------- */

#define APM_MAX 256u

static void apm_entry(struct table *t, const uint8_t *e, uint32_t block, unsigned int nr,
		      uint64_t off)
{
	struct vmplat_iso_partition *p = add(t);

	p->scheme = VMPLAT_ISO_APM;
	p->nr = nr;
	p->pos = (uint64_t)be32(e + 8) * block;
	p->bytes = (uint64_t)be32(e + 12) * block;
	iso_latin1(p->name, 33, e + 16, strnlen((const char *)e + 16, 32));
	iso_latin1(p->type, 33, e + 48, strnlen((const char *)e + 48, 32));
	check_place(t, p, off);
}

/* The map's blocks are as long as the driver descriptor says; some have none. */
static int read_apm(struct table *t, const uint8_t *first)
{
	uint32_t block = first[0] == 'E' && first[1] == 'R' ? be16(first + 2) : 0, nr = 1;
	uint8_t e[80];
	int rc;

	for (uint32_t i = 1; i <= nr; i++) {
		uint64_t off = (uint64_t)(block ? block : 512) * i;

		if (!iso_inside(t->iso, off, sizeof(e)))
			return 0;
		rc = iso_read(t->iso, e, sizeof(e), off);
		if (rc)
			return rc;
		if (e[0] != 'P' || e[1] != 'M')
			return 0;
		if (i == 1)
			nr = be32(e + 4);
		if (nr > APM_MAX) {
			iso_bad(t->iso, "apm-entries", off, "an Apple partition map of %" PRIu32 " entries",
				nr);
			return 0;
		}
		apm_entry(t, e, block ? block : 512, i, off);
	}
	return 0;
}

API int vmplat_iso_partitions(struct vmplat_iso *iso, struct vmplat_iso_partition *parts,
			      unsigned int max)
{
	struct table t = { .iso = iso, .parts = parts, .max = max };
	uint8_t first[512];
	int rc;

	if (!iso_inside(iso, 0, sizeof(first)))
		return 0;
	rc = iso_read(iso, first, sizeof(first), 0);
	if (rc)
		return rc;
	read_mbr(&t, first);
	rc = read_gpt(&t);
	if (!rc)
		rc = read_apm(&t, first);
	return rc ? rc : (int)t.nr;
}
