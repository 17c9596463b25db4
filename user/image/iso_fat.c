// SPDX-License-Identifier: LGPL-2.1-or-later
/*
 * The FAT file system that UEFI boots from, in the El Torito image for that platform, as a
 * tree of its own. FAT12, FAT16 and FAT32 with long names; microsoft's fatgen103 names the fields.
 *
 * A file is a chain: its directory entry has the first cluster, and the table has, for each
 * cluster, the next. A directory is a chain of entries of 32 bytes. Those of a long name come
 * before the one that they belong to, last part first, and have a checksum of its short name.
 *
 * A chain is followed as far as the file is long, a directory's to its end, which is at
 * most 2 MiB away. Nothing is kept of the table: it is read through the windows.
 */
#include <inttypes.h>
#include <stdlib.h>
#include <sys/stat.h>

#include "image/iso.h"

#define SECTOR_BYTES	512u
#define ENTRY_BYTES	32u
#define DIR_BYTES_MAX	(65536u * ENTRY_BYTES)
#define CLUSTERS_MAX_12	4084u
#define CLUSTERS_MAX_16	65524u
#define CLUSTERS_MAX_32	0x0ffffff5u
#define EFI_IMAGES_MAX	8

enum { ATTR_HIDDEN = 0x02, ATTR_VOLUME = 0x08, ATTR_DIRECTORY = 0x10, ATTR_LONG = 0x0f,
       ATTR_MASK = 0x3f };
enum { CASE_BASE = 0x08, CASE_EXTENSION = 0x10 };	/* it is shown in lower case */

struct iso_fat {
	uint64_t pos, bytes;		/* of the volume, as it says */
	uint32_t cluster;		/* bytes */
	unsigned int bits;		/* of an entry of the table: 12, 16 or 32 */
	unsigned int nr_tables, table;	/* the one that counts, from 0 */
	uint64_t tables, table_bytes;	/* place of the first, length of each */
	uint64_t root, root_bytes;	/* FAT12 and FAT16, where it is no chain */
	uint32_t root_cluster;		/* FAT32 */
	uint64_t data;			/* place of cluster 2, the first there is */
	uint32_t nr_clusters;
};

/* ---- the boot sector ------------------------------------------------------ */

static bool power_of_two(uint32_t v)
{
	return v && !(v & (v - 1));
}

/* Whether it is meant as one: anything else may be in a boot image. */
static bool is_fat(const uint8_t *s)
{
	uint32_t sector = le16(s + 11);

	return (s[0] == 0xeb || s[0] == 0xe9) && s[510] == 0x55 && s[511] == 0xaa &&
	       sector >= 512 && sector <= 4096 && power_of_two(sector);
}

/* NULL, or what cannot be in @s */
static const char *read_geometry(struct iso_fat *f, const uint8_t *s)
{
	uint32_t sector = le16(s + 11), table = le16(s + 22) ? le16(s + 22) : le32(s + 36);
	uint32_t total = le16(s + 19) ? le16(s + 19) : le32(s + 32), root = le16(s + 17) * ENTRY_BYTES;
	bool is_32 = !le16(s + 22);
	uint64_t data, nr;

	if (!power_of_two(s[13]))
		return "the number of sectors in a cluster is no power of two";
	if (!le16(s + 14))
		return "no sector is reserved, not even its own";
	if (!s[16] || !table)
		return "it has no allocation table";
	if (root % sector || is_32 != !root)
		return "the root directory's length cannot be right";
	f->bytes = (uint64_t)total * sector;
	f->cluster = s[13] * sector;
	f->nr_tables = s[16];
	f->tables = f->pos + (uint64_t)le16(s + 14) * sector;
	f->table_bytes = (uint64_t)table * sector;
	f->root = f->tables + f->nr_tables * f->table_bytes;
	f->root_bytes = root;
	f->data = f->root + root;
	data = f->data - f->pos;
	if (data >= f->bytes)
		return "its tables leave no room for files";
	nr = (f->bytes - data) / f->cluster;
	f->bits = is_32 ? 32 : nr > CLUSTERS_MAX_12 ? 16 : 12;
	if (nr > (is_32 ? CLUSTERS_MAX_32 : CLUSTERS_MAX_16))
		return "it has more clusters than its table can name";
	f->nr_clusters = nr;
	if (!is_32)
		return NULL;
	f->root_cluster = le32(s + 44);
	/* the tables are copies of each other unless this says that one counts */
	f->table = s[40] & 0x80 ? s[40] & 15 : 0;
	if (f->table >= f->nr_tables)
		return "the allocation table that counts is none of those it has";
	return NULL;
}

/* Clusters that the table has no entry for are out of reach. */
static void clamp(struct vmplat_iso *iso, struct iso_fat *f)
{
	uint64_t entries = f->table_bytes * 8 / f->bits;

	if (entries >= f->nr_clusters + 2ULL)
		return;
	iso_warn(iso, "fat-table", f->pos, "the allocation table has %" PRIu64 " entries, for %" PRIu32
		 " clusters", entries, f->nr_clusters);
	f->nr_clusters = entries > 2 ? entries - 2 : 0;
}

/* -ENOENT: no FAT file system is at f->pos */
static int read_boot_sector(struct vmplat_iso *iso, struct iso_fat *f)
{
	uint8_t s[SECTOR_BYTES];
	const char *why;
	int rc;

	if (!iso_inside(iso, f->pos, sizeof(s)))
		return -ENOENT;
	rc = iso_read(iso, s, sizeof(s), f->pos);
	if (rc || !is_fat(s))
		return rc ? rc : -ENOENT;
	why = read_geometry(f, s);
	if (why)
		return iso_bad(iso, "fat-boot-sector", f->pos, "the FAT file system's boot sector: %s", why);
	if (!iso_inside(iso, f->tables, f->nr_tables * f->table_bytes) ||
	    !iso_inside(iso, f->root, f->root_bytes))
		return iso_bad(iso, "fat-outside", f->pos, "the tables of the FAT file system reach beyond "
			       "the image");
	if (!iso_inside(iso, f->pos, f->bytes))
		iso_warn(iso, "fat-outside", f->pos, "the FAT file system of %" PRIu64 " bytes reaches "
			 "beyond the image", f->bytes);
	clamp(iso, f);
	return 0;
}

int iso_fat_detect(struct vmplat_iso *iso)
{
	uint64_t images[EFI_IMAGES_MAX];
	unsigned int nr = iso_boot_efi(iso, images, EFI_IMAGES_MAX);
	struct iso_fat f;

	for (unsigned int i = 0; i < nr && !iso->fat; i++) {
		f = (struct iso_fat){ .pos = images[i] };
		if (read_boot_sector(iso, &f))
			continue;	/* the disc's own trees are still there */
		iso->fat = malloc(sizeof(f));
		if (!iso->fat)
			return lib_error(-ENOMEM, "out of memory");
		*iso->fat = f;
	}
	return 0;
}

/* ---- chains ----------------------------------------------------------------- */

#define CHAIN_END 0u	/* no cluster is called that */

/* What the table has for the cluster @nr, which there is. */
static int next_cluster(struct vmplat_iso *iso, uint32_t nr, uint32_t *next)
{
	const struct iso_fat *f = iso->fat;
	uint64_t table = f->tables + f->table * f->table_bytes;
	uint32_t mask = f->bits == 12 ? 0xfff : f->bits == 16 ? 0xffff : 0x0fffffff, v;
	uint8_t p[4] = { 0 };
	int rc;

	rc = iso_read(iso, p, f->bits == 32 ? 4 : 2, table + (uint64_t)nr * f->bits / 8);
	if (rc)
		return rc;
	v = le32(p);
	if (f->bits == 12 && nr & 1)
		v >>= 4;
	v &= mask;
	*next = v >= (mask & ~7u) ? CHAIN_END : v;
	return 0;
}

static uint64_t place_of(const struct iso_fat *f, uint32_t cluster)
{
	return f->data + (uint64_t)(cluster - 2) * f->cluster;
}

static bool is_cluster(const struct iso_fat *f, uint32_t nr)
{
	return nr >= 2 && nr - 2 < f->nr_clusters;
}

struct chain {
	uint32_t at;		/* the cluster, or CHAIN_END */
	uint32_t nr;		/* how many were passed */
	uint32_t mark;		/* one passed: when it comes again, the chain is a loop */
};

/* The next; what comes back to @mark, which is set anew ever less often, has no end. */
static int chain_step(struct vmplat_iso *iso, struct chain *c, uint64_t off)
{
	int rc;

	if (power_of_two(++c->nr))
		c->mark = c->at;
	rc = next_cluster(iso, c->at, &c->at);
	if (!rc && c->at != CHAIN_END && c->at == c->mark)
		rc = iso_bad(iso, "fat-chain", off, "the chain of clusters from cluster %" PRIu32
			     " comes back to itself", c->mark);
	return rc;
}

/* @bytes of the cluster at @c as a section */
static int add_cluster(struct vmplat_iso *iso, const struct chain *c, uint64_t bytes,
		       struct iso_sections *s, uint64_t off)
{
	const struct iso_fat *f = iso->fat;

	if (!is_cluster(f, c->at))
		return iso_bad(iso, "fat-chain", off, "cluster %" PRIu32 " in a chain is none of the file "
			       "system's %" PRIu32, c->at, f->nr_clusters);
	if (!iso_inside(iso, place_of(f, c->at), bytes))
		return iso_bad(iso, "fat-outside", off, "cluster %" PRIu32 " lies beyond the image", c->at);
	return iso_section_add(s, (struct iso_section){ .pos = place_of(f, c->at), .bytes = bytes });
}

/*
 * A file of @bytes from the cluster @first on; @off is its directory entry. Its chain may go
 * on behind them, but must have an end: one that comes back to itself would repeat bytes.
 * @nr: how many clusters there are
 */
static int file_chain(struct vmplat_iso *iso, uint32_t first, uint64_t bytes, struct iso_sections *s,
		      uint64_t off, uint32_t *nr)
{
	struct chain c = { .at = first };
	int rc = 0;

	while (s->bytes < bytes && !rc) {
		uint64_t left = bytes - s->bytes, use = left < iso->fat->cluster ? left : iso->fat->cluster;

		if (c.at == CHAIN_END)
			return iso_bad(iso, "fat-chain", off, "a file of %" PRIu64 " bytes has clusters for only %"
				       PRIu64, bytes, s->bytes);
		rc = add_cluster(iso, &c, use, s, off);
		if (!rc)
			rc = chain_step(iso, &c, off);
	}
	while (!rc && bytes && is_cluster(iso->fat, c.at))
		rc = chain_step(iso, &c, off);
	*nr = c.nr;
	return rc;
}

int iso_fat_dir(struct vmplat_iso *iso, uint64_t pos, struct iso_sections *s)
{
	const struct iso_fat *f = iso->fat;
	struct chain c = { 0 };
	int rc = 0;

	if (f->bits != 32 && pos == f->root)
		return iso_section_add(s, (struct iso_section){ .pos = pos, .bytes = f->root_bytes });
	if (pos < f->data)
		return lib_error(-EBADMSG, "the directory has no cluster");
	c.at = (pos - f->data) / f->cluster + 2;
	while (c.at != CHAIN_END && !rc) {
		if (s->bytes >= DIR_BYTES_MAX)
			return iso_bad(iso, "fat-chain", pos, "a directory of more than %u bytes", DIR_BYTES_MAX);
		rc = add_cluster(iso, &c, f->cluster, s, pos);
		if (!rc)
			rc = chain_step(iso, &c, pos);
	}
	return rc;
}

/* ---- names ------------------------------------------------------------------ */

#define PART_CHARS	13u
#define PARTS_MAX	20u
#define LONG_CHARS_MAX	255u

/* A long name while its parts come. */
struct long_name {
	bool begun;
	uint8_t left;		/* parts still to come; the one with this number is next */
	uint8_t sum;		/* of the short name */
	uint64_t off;
	uint8_t be[PARTS_MAX * PART_CHARS * 2];
};

static void long_lost(struct vmplat_iso *iso, struct long_name *l, const char *why)
{
	if (l->begun)
		iso_warn(iso, "fat-long-name", l->off, "%s; the short name is shown", why);
	l->begun = false;
}

static void long_part(struct vmplat_iso *iso, struct long_name *l, const uint8_t *e, uint64_t off)
{
	static const uint8_t chars[PART_CHARS] = { 1, 3, 5, 7, 9, 14, 16, 18, 20, 22, 24, 28, 30 };
	uint8_t nr = e[0] & 0x3f;

	if (e[0] & 0x40) {
		long_lost(iso, l, "a long name ends before it is whole");
		*l = (struct long_name){ .begun = true, .left = nr, .sum = e[13], .off = off };
	}
	if (!l->begun) {
		iso_warn(iso, "fat-long-name", off, "a part of a long name without its beginning");
		return;
	}
	if (!nr || nr > PARTS_MAX || nr != l->left || e[13] != l->sum) {
		long_lost(iso, l, "the parts of a long name do not belong together");
		return;
	}
	l->left--;
	for (unsigned int i = 0; i < PART_CHARS; i++)
		wr_be16(l->be + 2 * (l->left * PART_CHARS + i), le16(e + chars[i]));
}

static uint8_t short_sum(const uint8_t *e)
{
	uint8_t sum = 0;

	for (int i = 0; i < 11; i++)
		sum = (uint8_t)((sum >> 1 | sum << 7) + e[i]);
	return sum;
}

/* Bytes of the name, which a zero ends if it does not fill its parts. */
static size_t long_bytes(const struct long_name *l)
{
	size_t n = 0;

	while (n < sizeof(l->be) && be16(l->be + n))
		n += 2;
	return n;
}

/* Into @name if it is the long name of the short entry @e; false if not. */
static bool take_long(struct vmplat_iso *iso, struct long_name *l, const uint8_t *e, char *name)
{
	size_t n;

	if (!l->begun)
		return false;
	n = long_bytes(l);
	if (l->left)
		long_lost(iso, l, "a long name ends before it is whole");
	else if (l->sum != short_sum(e))
		long_lost(iso, l, "a long name is another file's");
	else if (!n || n > 2 * LONG_CHARS_MAX)
		long_lost(iso, l, "a long name is empty or has more than 255 characters");
	if (!l->begun)
		return false;
	if (!iso_utf16(name, VMPLAT_ISO_NAME_MAX, l->be, n))
		iso_warn(iso, "fat-long-name", l->off, "a name is not valid UTF-16");
	l->begun = false;
	return true;
}

/* Code page 437, from 128 on. */
static const uint16_t cp437[128] = {
	0xc7, 0xfc, 0xe9, 0xe2, 0xe4, 0xe0, 0xe5, 0xe7, 0xea, 0xeb, 0xe8, 0xef,
	0xee, 0xec, 0xc4, 0xc5, 0xc9, 0xe6, 0xc6, 0xf4, 0xf6, 0xf2, 0xfb, 0xf9,
	0xff, 0xd6, 0xdc, 0xa2, 0xa3, 0xa5, 0x20a7, 0x192, 0xe1, 0xed, 0xf3, 0xfa,
	0xf1, 0xd1, 0xaa, 0xba, 0xbf, 0x2310, 0xac, 0xbd, 0xbc, 0xa1, 0xab, 0xbb,
	0x2591, 0x2592, 0x2593, 0x2502, 0x2524, 0x2561, 0x2562, 0x2556, 0x2555, 0x2563, 0x2551, 0x2557,
	0x255d, 0x255c, 0x255b, 0x2510, 0x2514, 0x2534, 0x252c, 0x251c, 0x2500, 0x253c, 0x255e, 0x255f,
	0x255a, 0x2554, 0x2569, 0x2566, 0x2560, 0x2550, 0x256c, 0x2567, 0x2568, 0x2564, 0x2565, 0x2559,
	0x2558, 0x2552, 0x2553, 0x256b, 0x256a, 0x2518, 0x250c, 0x2588, 0x2584, 0x258c, 0x2590, 0x2580,
	0x3b1, 0xdf, 0x393, 0x3c0, 0x3a3, 0x3c3, 0xb5, 0x3c4, 0x3a6, 0x398, 0x3a9, 0x3b4,
	0x221e, 0x3c6, 0x3b5, 0x2229, 0x2261, 0xb1, 0x2265, 0x2264, 0x2320, 0x2321, 0xf7, 0x2248,
	0xb0, 0x2219, 0xb7, 0x221a, 0x207f, 0xb2, 0x25a0, 0xa0,
};

/* One part of a short name, padded with blanks, as UTF-16BE; bytes written */
static size_t short_part(uint8_t *be, const uint8_t *p, size_t len, bool lower)
{
	while (len && p[len - 1] == ' ')
		len--;
	for (size_t i = 0; i < len; i++) {
		uint16_t c = p[i] < 128 ? p[i] : cp437[p[i] - 128];

		wr_be16(be + 2 * i, lower && c >= 'A' && c <= 'Z' ? c + 32 : c);
	}
	return 2 * len;
}

static void take_short(const uint8_t *e, char *name)
{
	uint8_t raw[11], be[2 * 12];
	size_t n, dot;

	memcpy(raw, e, sizeof(raw));
	if (raw[0] == 0x05)	/* 0xe5 would mean that it is deleted */
		raw[0] = 0xe5;
	n = short_part(be, raw, 8, e[12] & CASE_BASE);
	dot = n;
	n += 2;
	n += short_part(be + n, raw + 8, 3, e[12] & CASE_EXTENSION);
	if (n == dot + 2)
		n = dot;
	else
		wr_be16(be + dot, '.');
	iso_utf16(name, VMPLAT_ISO_NAME_MAX, be, n);
}

/* ---- directories ---------------------------------------------------------------- */

static void take_times(const uint8_t *e, struct vmplat_iso_stat *st)
{
	if (iso_time_fat(le16(e + 24), le16(e + 22), 0, &st->mtime))
		st->times |= VMPLAT_ISO_MTIME;
	if (iso_time_fat(le16(e + 18), 0, 0, &st->atime))
		st->times |= VMPLAT_ISO_ATIME;
	if (iso_time_fat(le16(e + 16), le16(e + 14), e[13], &st->btime))
		st->times |= VMPLAT_ISO_BTIME;
}

static void take_entry(struct iso_cursor *c, const uint8_t *e, uint64_t off, struct long_name *l,
		       struct iso_node *n)
{
	uint32_t first = le16(e + 26) | (c->iso->fat->bits == 32 ? (uint32_t)le16(e + 20) << 16 : 0);
	bool directory = e[11] & ATTR_DIRECTORY;
	struct vmplat_iso *iso = c->iso;

	n->st = (struct vmplat_iso_stat){
		.mode = directory ? S_IFDIR | 0555 : S_IFREG | 0444, .nlink = 1,
		.bytes = directory ? 0 : le32(e + 28),
		.flags = e[11] & ATTR_HIDDEN ? VMPLAT_ISO_HIDDEN : 0,
	};
	n->st.stored_bytes = n->st.bytes;
	take_times(e, &n->st);
	n->link[0] = '\0';
	memset(&n->zf, 0, sizeof(n->zf));
	n->err = 0;
	if (!take_long(iso, l, e, n->name))
		take_short(e, n->name);
	n->name_len = strlen(n->name);
	if (iso_tame(n->name, &n->name_len)) {
		n->st.flags |= VMPLAT_ISO_BAD_NAME;
		iso_bad(iso, "bad-name", off, "a name is empty, '.', '..', or has '/' in it; it is shown as '%s'",
			n->name);
	}
	if (is_cluster(iso->fat, first))
		n->st.pos = place_of(iso->fat, first);
	else if (directory || n->st.bytes)
		n->err = iso_bad(iso, "fat-chain", off, "'%s' begins with cluster %" PRIu32 ", which is none of the "
				 "file system's %" PRIu32, n->name, first, iso->fat->nr_clusters);
	if (n->err)
		n->st.flags |= VMPLAT_ISO_BROKEN;
	n->place[0] = first;
	n->place[1] = n->st.bytes;
	n->place[2] = off;
	n->place[3] = PLACE_TREE(iso->tree);
}

/* the entry at c->off, which is moved behind it; 1, 0 at the end */
static int next_entry(struct iso_cursor *c, uint8_t e[ENTRY_BYTES], uint64_t *off)
{
	struct vmplat_iso_extent x;
	int rc;

	if (c->sections.bytes - c->off < ENTRY_BYTES)
		return 0;
	iso_sections_map(&c->sections, c->off, &x);
	*off = x.pos;
	rc = iso_sections_read(c->iso, &c->sections, e, ENTRY_BYTES, c->off);
	c->off += ENTRY_BYTES;
	if (!rc && e[0])
		return 1;
	c->off = c->sections.bytes;
	return rc;
}

static bool is_dot(const uint8_t *e)
{
	return !memcmp(e, ".          ", 11) || !memcmp(e, "..         ", 11);
}

int iso_fat_next(struct iso_cursor *c, struct iso_node *n)
{
	struct long_name l = { 0 };
	uint8_t e[ENTRY_BYTES];
	uint64_t off;
	int rc;

	while ((rc = next_entry(c, e, &off)) == 1) {
		if (e[0] != 0xe5 && (e[11] & ATTR_MASK) == ATTR_LONG) {
			long_part(c->iso, &l, e, off);
			continue;
		}
		/* deleted, or the volume's name, or the way up */
		if (e[0] == 0xe5 || e[11] & ATTR_VOLUME || is_dot(e)) {
			long_lost(c->iso, &l, "a long name has no file");
			continue;
		}
		take_entry(c, e, off, &l, n);
		return 1;
	}
	long_lost(c->iso, &l, "a long name has no file");
	return rc;
}

void iso_fat_root(struct vmplat_iso *iso, struct iso_node *n)
{
	const struct iso_fat *f = iso->fat;

	n->st.mode = S_IFDIR | 0555;
	n->st.nlink = 1;
	if (f->bits != 32)
		n->st.pos = f->root;
	else if (is_cluster(f, f->root_cluster))
		n->st.pos = place_of(f, f->root_cluster);
	else
		n->err = iso_bad(iso, "fat-chain", f->pos, "the root directory begins with cluster %" PRIu32
				 ", which is none of the file system's %" PRIu32, f->root_cluster, f->nr_clusters);
}

int iso_fat_data(struct vmplat_iso *iso, const struct vmplat_iso_entry *e, struct iso_sections *s,
		 struct iso_node *n)
{
	uint32_t nr;
	int rc;

	n->st = e->st;
	n->err = 0;
	if (!S_ISDIR(e->st.mode))
		return file_chain(iso, e->place[0], e->place[1], s, e->place[2], &nr);
	rc = iso_fat_dir(iso, e->st.pos, s);
	n->st.bytes = s->bytes;
	return rc;
}

/* ---- checking -------------------------------------------------------------------- */

int iso_fat_check_file(struct vmplat_iso *iso, const struct vmplat_iso_entry *e, uint64_t *clusters)
{
	const struct iso_fat *f = iso->fat;
	uint64_t need = (e->place[1] + f->cluster - 1) / f->cluster;
	struct iso_sections s = { 0 };
	uint32_t nr;
	int rc;

	if (e->st.flags & VMPLAT_ISO_BROKEN || *clusters > f->nr_clusters)
		return 0;
	rc = file_chain(iso, e->place[0], e->place[1], &s, e->place[2], &nr);
	if (!rc && nr > need)
		iso_warn(iso, "fat-length", e->place[2], "the chain of clusters goes on behind the file's %" PRIu64
			 " bytes", s.bytes);
	iso_sections_free(&s);
	*clusters += nr;
	if (*clusters > f->nr_clusters)
		rc = iso_bad(iso, "fat-overlap", e->place[2], "the files have more clusters than the file "
			     "system: they overlap");
	return rc;
}

int iso_fat_check_tables(struct vmplat_iso *iso)
{
	const struct iso_fat *f = iso->fat;
	uint8_t a[4096], b[4096];

	for (uint64_t at = 0; at < f->table_bytes; at += sizeof(a)) {
		size_t n = f->table_bytes - at < sizeof(a) ? f->table_bytes - at : sizeof(a);
		int rc = iso_read(iso, a, n, f->tables + at);

		for (unsigned int i = 1; i < f->nr_tables && !rc; i++) {
			uint64_t off = f->tables + i * f->table_bytes + at;

			rc = iso_read(iso, b, n, off);
			if (rc || !memcmp(a, b, n))
				continue;
			iso_warn(iso, "fat-copies", off, "copy %u of the allocation table differs from the first", i + 1);
			return 0;
		}
		if (rc)
			return rc;
	}
	return 0;
}
