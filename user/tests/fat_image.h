/* SPDX-License-Identifier: LGPL-2.1-or-later */
/*
 * FAT file systems made by hand, as small as each kind can be:
 *
 *   /LOADER/ENTRY.CON, /lower.txt (empty, lower case by its flags), and
 *   /a long name of the file.text: its clusters 3, 6 and 4 lie apart
 *
 * Included by iso_image.h, which puts one into the boot image for UEFI.
 */
#ifndef VMPLAT_TESTS_FAT_IMAGE_H
#define VMPLAT_TESTS_FAT_IMAGE_H

#define FAT_SECT	512u
#define FAT_LONG_NAME	"a long name of the file.text"
#define FAT_LONG_BYTES	1300u

/* clusters */
enum { FAT_LOADER = 2, FAT_LONG1, FAT_LONG3, FAT_ENTRY, FAT_LONG2, FAT_ROOT32 };

struct fat_volume {
	uint8_t *p;
	unsigned int bits;
	uint32_t table, table_sectors, root, data, sectors;	/* in sectors */
};

static inline struct fat_volume fat_volume(uint8_t *p, unsigned int bits)
{
	struct fat_volume f = { .p = p, .bits = bits, .table = 1 };
	uint32_t clusters = bits == 16 ? 4090 : 12;

	f.table_sectors = bits == 16 ? 17 : 1;
	f.root = f.table + 2 * f.table_sectors;
	f.data = f.root + (bits == 32 ? 0 : 1);
	f.sectors = f.data + clusters;
	return f;
}

static inline uint8_t *fat_cluster(const struct fat_volume *f, uint32_t nr)
{
	return f->p + (f->data + nr - 2) * FAT_SECT;
}

static inline uint8_t *fat_root(const struct fat_volume *f)
{
	return f->bits == 32 ? fat_cluster(f, FAT_ROOT32) : f->p + f->root * FAT_SECT;
}

/* in both copies of the table */
static inline void fat_set(const struct fat_volume *f, uint32_t nr, uint32_t next)
{
	for (int copy = 0; copy < 2; copy++) {
		uint8_t *t = f->p + (f->table + copy * f->table_sectors) * FAT_SECT;

		if (f->bits == 32)
			wr32(t + 4 * nr, next);
		else if (f->bits == 16)
			wr16(t + 2 * nr, next);
		else if (nr & 1)
			wr16(t + nr * 3 / 2, (le16(t + nr * 3 / 2) & 0xf) | next << 4);
		else
			wr16(t + nr * 3 / 2, (le16(t + nr * 3 / 2) & 0xf000) | (next & 0xfff));
	}
}

static inline uint8_t *fat_entry(uint8_t *e, const char *name, uint8_t attr, uint32_t first, uint32_t bytes)
{
	memcpy(e, name, 11);
	e[11] = attr;
	wr16(e + 22, 12 << 11 | 34 << 5 | 28);	/* 12:34:56 */
	wr16(e + 24, 20 << 9 | 2 << 5 | 29);	/* 2000-02-29 */
	wr16(e + 26, first);
	wr16(e + 20, first >> 16);
	wr32(e + 28, bytes);
	return e + 32;
}

/* the parts of a long name, last first, for the short one */
static inline uint8_t *fat_long(uint8_t *e, const char *name, const char *short_name)
{
	static const uint8_t at[13] = { 1, 3, 5, 7, 9, 14, 16, 18, 20, 22, 24, 28, 30 };
	size_t len = strlen(name), parts = (len + 12) / 13;
	uint8_t sum = 0;

	for (int i = 0; i < 11; i++)
		sum = (uint8_t)((sum >> 1 | sum << 7) + (uint8_t)short_name[i]);
	for (size_t nr = parts; nr; nr--, e += 32) {
		e[0] = nr | (nr == parts ? 0x40 : 0);
		e[11] = 0x0f;
		e[13] = sum;
		for (size_t i = 0; i < 13; i++) {
			size_t c = (nr - 1) * 13 + i;

			wr16(e + at[i], c < len ? (uint8_t)name[c] : c == len ? 0 : 0xffff);
		}
	}
	return e;
}

static inline void fat_make(const struct fat_volume *f)
{
	uint8_t *s = f->p, *e = fat_root(f);

	s[0] = 0xeb;
	wr16(s + 11, FAT_SECT);
	s[13] = 1;
	wr16(s + 14, f->table);
	s[16] = 2;
	wr16(s + 19, f->sectors);
	wr16(s + (f->bits == 32 ? 36 : 22), f->table_sectors);
	if (f->bits == 32)
		s[44] = FAT_ROOT32;
	else
		wr16(s + 17, FAT_SECT / 32);
	wr16(s + 510, 0xaa55);

	fat_set(f, 0, 0xfffff8);
	fat_set(f, 1, 0xfffffff);
	fat_set(f, FAT_LOADER, 0xfffffff);
	fat_set(f, FAT_LONG1, FAT_LONG2);
	fat_set(f, FAT_LONG2, FAT_LONG3);
	fat_set(f, FAT_LONG3, 0xfffffff);
	fat_set(f, FAT_ENTRY, 0xfffffff);
	if (f->bits == 32)
		fat_set(f, FAT_ROOT32, 0xfffffff);
	e = fat_entry(e, "VMPLAT     ", 0x08, 0, 0);
	e = fat_entry(e, "\xe5GONE   TXT", 0x20, 2, 5);
	e = fat_entry(e, "LOADER     ", 0x10, FAT_LOADER, 0);
	e = fat_entry(e, "LOWER   TXT", 0x20, 0, 0);
	e[12 - 32] = 0x18;
	e = fat_long(e, FAT_LONG_NAME, "ALONGN~1TEX");
	fat_entry(e, "ALONGN~1TEX", 0x22, FAT_LONG1, FAT_LONG_BYTES);
	e = fat_cluster(f, FAT_LOADER);
	e = fat_entry(e, ".          ", 0x10, FAT_LOADER, 0);
	e = fat_entry(e, "..         ", 0x10, 0, 0);
	fat_entry(e, "ENTRY   CON", 0x20, FAT_ENTRY, 6);
	memset(fat_cluster(f, FAT_LONG1), '1', FAT_SECT);
	memset(fat_cluster(f, FAT_LONG2), '2', FAT_SECT);
	memset(fat_cluster(f, FAT_LONG3), '3', FAT_SECT);
	memcpy(fat_cluster(f, FAT_ENTRY), "title\n", 6);
}

#endif
