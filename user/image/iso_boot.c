// SPDX-License-Identifier: LGPL-2.1-or-later
/*
 * The El Torito boot catalogue, and how long boot images really are: entries only say
 * how much firmware is to load at first, which is four sectors of 512 for most BIOS
 * images and nothing useful for many UEFI ones.
 */
#include <inttypes.h>
#include <stdlib.h>
#include <stdio.h>
#include <sys/stat.h>

#include "image/iso.h"

#define CATALOG_MAX	65536u
#define BOOT_LOOK_MAX	32u	/* entries among which an image for UEFI is looked for */

enum { HEADER_VALIDATION = 0x01, HEADER_EXTENSION = 0x44, HEADER_BOOTABLE = 0x88,
       HEADER_SECTION = 0x90, HEADER_LAST = 0x91 };

/* ---- the catalogue ----------------------------------------------------- */

struct catalog {
	struct vmplat_iso *iso;
	struct vmplat_iso_boot *entries;
	unsigned int nr, max;
};

static int check_validation(struct vmplat_iso *iso, const uint8_t *e, uint64_t off)
{
	uint16_t sum = 0;

	for (int i = 0; i < 32; i += 2)
		sum += le16(e + i);
	if (e[0] != HEADER_VALIDATION || e[30] != 0x55 || e[31] != 0xaa)
		return iso_bad(iso, "boot-catalog", off, "the boot catalogue does not begin with a "
			       "validation entry");
	if (sum)
		iso_warn(iso, "boot-checksum", off, "the boot catalogue's checksum is off by %#x", sum);
	return 0;
}

static void take_entry(struct catalog *c, const uint8_t *e, uint64_t off, uint8_t platform,
		       const char *section)
{
	static const enum vmplat_iso_emulation media[16] = {
		[1] = VMPLAT_ISO_FLOPPY_1200, [2] = VMPLAT_ISO_FLOPPY_1440,
		[3] = VMPLAT_ISO_FLOPPY_2880, [4] = VMPLAT_ISO_HARD_DISK,
	};
	struct vmplat_iso_boot b = {
		.offset = off, .bootable = e[0] == HEADER_BOOTABLE, .is_default = !c->nr,
		.platform = platform, .media = e[1], .system_type = e[4],
		.emulation = media[e[1] & 15], .pos = (uint64_t)le32(e + 8) * ISO_SECTOR,
		.load_bytes = 512ULL * le16(e + 6),
		.load_address = (le16(e + 2) ? le16(e + 2) : 0x7c0) * 16ULL,
	};

	if (e[0] != HEADER_BOOTABLE && e[0])
		iso_warn(c->iso, "boot-entry", off, "a boot entry begins with %#x, neither 0x88 nor 0",
			 e[0]);
	if ((e[1] & 15) > 4)
		iso_warn(c->iso, "boot-entry", off, "boot media type %u is reserved", e[1] & 15);
	if (platform == VMPLAT_ISO_UEFI)
		b.load_address = 0;
	snprintf(b.section_id, sizeof(b.section_id), "%s", section);
	b.bytes = b.load_bytes;
	b.bytes_from = "entry";
	if (!iso_inside(c->iso, b.pos, 512))
		iso_bad(c->iso, "boot-outside", off, "the boot image at %" PRIu64 " is not in the image",
			b.pos);
	if (c->nr < c->max)
		c->entries[c->nr] = b;
	c->nr++;
}

static int read_catalog(struct catalog *c)
{
	uint64_t off = c->iso->boot_catalog;
	uint8_t platform, e[32];
	char section[29] = "";
	unsigned int left = 1;	/* entries of this section still to come */
	bool last = false;
	int rc;

	rc = iso_read(c->iso, e, 32, off);
	if (!rc)
		rc = check_validation(c->iso, e, off);
	if (rc)
		return rc;
	platform = e[1];
	for (uint32_t at = 32; at < CATALOG_MAX; at += 32) {
		if (!iso_inside(c->iso, off + at, 32))
			return iso_bad(c->iso, "boot-catalog", off + at, "the boot catalogue reaches beyond "
				       "the image");
		rc = iso_read(c->iso, e, 32, off + at);
		if (rc)
			return rc;
		if (e[0] == HEADER_EXTENSION)
			continue;
		if (left) {
			take_entry(c, e, off + at, platform, section);
			left--;
			continue;
		}
		if (last || (e[0] != HEADER_SECTION && e[0] != HEADER_LAST))
			return 0;
		platform = e[1];
		left = le16(e + 2);
		last = e[0] == HEADER_LAST;
		memcpy(section, e + 4, 28);
	}
	return iso_bad(c->iso, "boot-catalog", off, "the boot catalogue is longer than %u bytes",
		       CATALOG_MAX);
}

unsigned int iso_boot_efi(struct vmplat_iso *iso, uint64_t *pos, unsigned int max)
{
	struct catalog c = { .iso = iso };
	unsigned int nr = 0;

	if (!iso->boot_catalog)
		return 0;
	c.entries = calloc(BOOT_LOOK_MAX, sizeof(*c.entries));
	c.max = c.entries ? BOOT_LOOK_MAX : 0;
	/* what is wrong with it is said where it is asked for */
	iso_hush(iso, true);
	read_catalog(&c);
	iso_hush(iso, false);
	for (unsigned int i = 0; i < c.nr && i < c.max && nr < max; i++)
		if (c.entries[i].platform == VMPLAT_ISO_UEFI)
			pos[nr++] = c.entries[i].pos;
	free(c.entries);
	return nr;
}

/* ---- real sizes -------------------------------------------------------- */

static uint64_t floppy_bytes(enum vmplat_iso_emulation e)
{
	switch (e) {
	case VMPLAT_ISO_FLOPPY_1200:
		return 1200 << 10;
	case VMPLAT_ISO_FLOPPY_1440:
		return 1440 << 10;
	case VMPLAT_ISO_FLOPPY_2880:
		return 2880 << 10;
	default:
		return 0;
	}
}

/* A FAT boot sector's idea of its file system's length; 0 if it is none. */
static uint64_t fat_bytes(const uint8_t *s)
{
	uint32_t sector = le16(s + 11);
	uint64_t count = le16(s + 19) ? le16(s + 19) : le32(s + 32);

	if ((s[0] != 0xeb && s[0] != 0xe9) || s[510] != 0x55 || s[511] != 0xaa)
		return 0;
	if (sector < 512 || sector > 4096 || (sector & (sector - 1)) || !s[16] || !le16(s + 14))
		return 0;
	return count * sector;
}

static uint64_t mbr_bytes(const uint8_t *s)
{
	uint64_t end = 0;

	if (s[510] != 0x55 || s[511] != 0xaa)
		return 0;
	for (int i = 0; i < 4; i++) {
		const uint8_t *p = s + 446 + 16 * i;
		uint64_t e = (uint64_t)le32(p + 8) + le32(p + 12);

		if (p[4] && e > end)
			end = e;
	}
	return end * 512;
}

static void set_bytes(struct vmplat_iso *iso, struct vmplat_iso_boot *b, uint64_t bytes,
		      const char *from)
{
	if (!bytes || !iso_inside(iso, b->pos, bytes) || strcmp(b->bytes_from, "entry"))
		return;
	b->bytes = bytes;
	b->bytes_from = from;
}

/* Words of 32 bits from byte 64 on, as the table's checksum has it. */
static int table_sum(struct vmplat_iso *iso, uint64_t pos, uint64_t bytes, uint32_t *sum)
{
	uint8_t buf[4096];
	int rc;

	*sum = 0;
	for (uint64_t at = 64; at < bytes; at += sizeof(buf)) {
		size_t n = bytes - at < sizeof(buf) ? bytes - at : sizeof(buf);

		memset(buf, 0, sizeof(buf));
		rc = iso_read(iso, buf, n, pos + at);
		if (rc)
			return rc;
		for (size_t i = 0; i < n; i += 4)
			*sum += le32(buf + i);
	}
	return 0;
}

#define TABLE_BYTES_MAX (64u << 20)	/* boot loaders are not longer; it is read whole */

static void find_table(struct vmplat_iso *iso, struct vmplat_iso_boot *b, const uint8_t *s)
{
	uint32_t sum;

	if (b->emulation != VMPLAT_ISO_NO_EMULATION ||
	    (uint64_t)le32(s + 8) * ISO_SECTOR != iso->primary.offset ||
	    (uint64_t)le32(s + 12) * ISO_SECTOR != b->pos)
		return;
	b->has_table = true;
	b->table_pos = b->pos + 8;
	b->table_bytes = le32(s + 16);
	b->table_checksum = le32(s + 20);
	if (b->table_bytes < 64 || b->table_bytes > TABLE_BYTES_MAX ||
	    !iso_inside(iso, b->pos, b->table_bytes) || table_sum(iso, b->pos, b->table_bytes, &sum)) {
		iso_bad(iso, "boot-table", b->table_pos, "the boot information table gives a length of %"
			PRIu64 " bytes", b->table_bytes);
		return;
	}
	b->table_ok = sum == b->table_checksum;
	if (!b->table_ok)
		iso_warn(iso, "boot-table", b->table_pos, "the boot information table's checksum is %#"
			 PRIx32 ", the image's %#" PRIx32, b->table_checksum, sum);
}

static void measure(struct vmplat_iso *iso, struct vmplat_iso_boot *b,
		    const struct vmplat_iso_partition *parts, int nr_parts)
{
	uint8_t s[512];

	if (!iso_inside(iso, b->pos, sizeof(s)) || iso_read(iso, s, sizeof(s), b->pos))
		return;
	find_table(iso, b, s);
	if (b->emulation == VMPLAT_ISO_HARD_DISK)
		set_bytes(iso, b, mbr_bytes(s), "mbr");
	set_bytes(iso, b, fat_bytes(s), "fat");
	for (int i = 0; i < nr_parts; i++)
		if (parts[i].pos == b->pos)
			set_bytes(iso, b, parts[i].bytes, "partition");
	if (b->has_table && b->table_ok)
		set_bytes(iso, b, b->table_bytes, "table");
}

/* Files of the tree that are boot images: they have a name and a length. */
static void find_files(struct vmplat_iso *iso, struct vmplat_iso_boot *entries, unsigned int nr)
{
	struct vmplat_iso_entry root, e;
	struct vmplat_iso_walk *w;
	int rc;

	iso_hush(iso, true);
	if (vmplat_iso_lookup(iso, "", 0, &root) || vmplat_iso_walk_open(&w, iso, &root, "", 0))
		goto out;
	while ((rc = vmplat_iso_walk_next(w, &e)) == 1 || rc == -EBADMSG || rc == -ELOOP) {
		for (unsigned int i = 0; rc == 1 && i < nr; i++) {
			struct vmplat_iso_boot *b = &entries[i];

			if (e.st.pos != b->pos || !S_ISREG(e.st.mode) || !e.st.stored_bytes || b->path[0])
				continue;
			snprintf(b->path, sizeof(b->path), "%s", vmplat_iso_walk_path(w));
			set_bytes(iso, b, e.st.stored_bytes, "file");
		}
	}
	vmplat_iso_walk_close(w);
out:
	iso_hush(iso, false);
}

API int vmplat_iso_boot(struct vmplat_iso *iso, struct vmplat_iso_boot *entries, unsigned int max)
{
	struct catalog c = { .iso = iso, .entries = entries, .max = max };
	struct vmplat_iso_partition *parts;
	unsigned int nr;
	int rc, nr_parts;

	if (!iso->boot_catalog)
		return 0;
	rc = read_catalog(&c);
	if (rc)
		return rc;
	nr = c.nr < max ? c.nr : max;
	parts = calloc(64, sizeof(*parts));
	if (!parts)
		return lib_error(-ENOMEM, "out of memory");
	nr_parts = vmplat_iso_partitions(iso, parts, 64);
	if (nr_parts > 64)
		nr_parts = 64;
	for (unsigned int i = 0; i < nr; i++)
		set_bytes(iso, &entries[i], floppy_bytes(entries[i].emulation), "floppy");
	find_files(iso, entries, nr);
	for (unsigned int i = 0; i < nr; i++)
		measure(iso, &entries[i], parts, nr_parts);
	free(parts);
	return c.nr;
}
