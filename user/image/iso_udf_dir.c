// SPDX-License-Identifier: LGPL-2.1-or-later
/*
 * UDF files and directories (ECMA-167 part 4): file entries with their allocation
 * descriptors, and the file identifier descriptors that directories are made of.
 */
#include <inttypes.h>
#include <stdlib.h>
#include <sys/stat.h>

#include "image/iso.h"

#define CHAIN_MAX	4096	/* extents of allocation descriptors of one file */
#define ENTRY_MAX	4096	/* bytes of a file entry: a block */

enum { TAG_FID = 257, TAG_AED, TAG_INDIRECT, TAG_ICB_END, TAG_FE, TAG_EFE = 266 };
enum { AD_SHORT, AD_LONG, AD_EXTENDED, AD_INLINE };
enum { EXTENT_RECORDED, EXTENT_ALLOCATED, EXTENT_NOTHING, EXTENT_MORE };

/* ---- allocation -------------------------------------------------------- */

struct alloc {
	struct vmplat_iso *iso;
	struct iso_sections *s;
	unsigned int part;	/* of short descriptors: that of the ICB */
	uint8_t kind;
	uint64_t left;		/* of the file's length */
	uint64_t off;		/* on the disc, for issues */
};

/* Where the descriptors of a file go on. */
struct more {
	unsigned int part;
	uint32_t block, bytes;
};

/* The descriptors in [@p, @p + @len). 0: that is all; 1: they go on at @more. */
static int take_descriptors(struct alloc *a, const uint8_t *p, size_t len, struct more *more)
{
	size_t each = a->kind == AD_SHORT ? 8 : 16;

	for (; len >= each; p += each, len -= each) {
		uint32_t bytes = le32(p) & 0x3fffffff, type = le32(p) >> 30, block = le32(p + 4);
		unsigned int part = a->kind == AD_SHORT ? a->part : le16(p + 8);
		uint64_t use = bytes < a->left ? bytes : a->left;
		int rc;

		if (!bytes)
			return 0;
		if (type == EXTENT_MORE) {
			*more = (struct more) { part, block, bytes };
			return 1;
		}
		/* beyond the file's end: room that was allocated ahead */
		if (!use)
			continue;
		rc = iso_udf_map(a->iso, part, block, use, a->s, type != EXTENT_RECORDED);
		if (rc)
			return rc;
		a->left -= use;
	}
	return 0;
}

static int read_chain(struct alloc *a, const uint8_t *p, size_t len)
{
	uint32_t size = iso_udf_block(a->iso);
	uint8_t block[ENTRY_MAX];
	struct more more = { 0 };
	int rc;

	for (int i = 0; i < CHAIN_MAX; i++) {
		struct iso_sections s = { 0 };

		rc = take_descriptors(a, p, len, &more);
		if (rc <= 0)
			return rc;
		if (more.bytes > size)
			more.bytes = size;
		rc = iso_udf_map(a->iso, more.part, more.block, more.bytes, &s, false);
		if (!rc && more.bytes < 24)
			rc = iso_bad(a->iso, "udf-chain", a->off, "an extent of allocation descriptors of %"
				     PRIu32 " bytes", more.bytes);
		if (!rc)
			rc = iso_sections_read(a->iso, &s, block, more.bytes, 0);
		if (!rc)
			rc = iso_udf_tag(a->iso, block, more.bytes, TAG_AED, more.block, s.one.pos);
		iso_sections_free(&s);
		if (rc)
			return rc;
		len = le32(block + 20);
		if (len > more.bytes - 24)
			return iso_bad(a->iso, "udf-chain", a->off, "allocation descriptors reach beyond "
				       "their extent");
		p = block + 24;
	}
	return iso_bad(a->iso, "udf-chain", a->off, "the allocation descriptors of a file have more "
		       "than %d extents: a loop", CHAIN_MAX);
}

/* ---- file entries ------------------------------------------------------ */

/* Where the two kinds of file entry differ. */
struct layout {
	uint16_t atime, mtime, ctime, btime, unique, lens;
};

static const struct layout plain = { 72, 84, 96, 0, 160, 168 };
static const struct layout extended = { 80, 92, 116, 104, 200, 208 };

static mode_t mode_of(const uint8_t *fe)
{
	static const mode_t types[256] = {
		[4] = S_IFDIR, [5] = S_IFREG, [6] = S_IFBLK, [7] = S_IFCHR, [9] = S_IFIFO,
		[10] = S_IFSOCK, [12] = S_IFLNK,
	};
	uint32_t perms = le32(fe + 44);
	uint16_t flags = le16(fe + 34);
	mode_t mode = types[fe[27]] ? types[fe[27]] : S_IFREG;

	/* five bits a class: execute, write, read, change attributes, delete */
	mode |= (perms & 7) | (perms >> 2 & 070) | (perms >> 4 & 0700);
	if (flags & 0x40)
		mode |= S_ISUID;
	if (flags & 0x80)
		mode |= S_ISGID;
	if (flags & 0x100)
		mode |= S_ISVTX;
	return mode;
}

static void take_time(const uint8_t *p, struct timespec *ts, uint32_t bit, uint32_t *set)
{
	if (iso_time_udf(p, ts))
		*set |= bit;
}

static void take_stat(const uint8_t *fe, const struct layout *at, struct vmplat_iso_stat *s)
{
	s->mode = mode_of(fe);
	s->uid = le32(fe + 36);
	s->gid = le32(fe + 40);
	s->nlink = le16(fe + 48);
	s->ino = le64(fe + at->unique);
	s->flags = VMPLAT_ISO_POSIX | VMPLAT_ISO_INO;
	take_time(fe + at->atime, &s->atime, VMPLAT_ISO_ATIME, &s->times);
	take_time(fe + at->mtime, &s->mtime, VMPLAT_ISO_MTIME, &s->times);
	take_time(fe + at->ctime, &s->ctime, VMPLAT_ISO_CTIME, &s->times);
	if (at->btime)
		take_time(fe + at->btime, &s->btime, VMPLAT_ISO_BTIME, &s->times);
	s->bytes = le64(fe + 56);
}

/* The device specification attribute (type 12) has the numbers of a device. */
static void take_device(const uint8_t *ea, size_t len, struct vmplat_iso_stat *s)
{
	size_t at = 24;

	while (at + 12 <= len) {
		uint32_t bytes = le32(ea + at + 8);

		if (bytes < 12 || bytes > len - at)
			return;
		if (le32(ea + at) == 12 && bytes >= 24) {
			s->rdev_major = le32(ea + at + 16);
			s->rdev_minor = le32(ea + at + 20);
		}
		at += bytes;
	}
}

static int take_link(struct vmplat_iso *iso, const struct iso_sections *s, uint64_t bytes,
		     uint64_t off, char *link)
{
	uint8_t p[4 + 255], *data;
	size_t len = 0;
	int rc = 0;

	if (bytes > 4 * ISO_LINK_MAX || bytes > s->bytes)
		return iso_bad(iso, "udf-link", off, "a symbolic link of %" PRIu64 " bytes", bytes);
	data = malloc(bytes + 1);
	if (!data)
		return lib_error(-ENOMEM, "out of memory");
	rc = iso_sections_read(iso, s, data, bytes, 0);
	for (uint64_t at = 0; !rc && at + 4 <= bytes; at += 4 + p[1]) {
		char name[VMPLAT_ISO_NAME_MAX];

		memcpy(p, data + at, 4);
		if (p[1] > bytes - at - 4) {
			rc = iso_bad(iso, "udf-link", off, "a component of a link reaches beyond its end");
			break;
		}
		name[0] = '\0';
		if (p[0] == 3)
			strcpy(name, "..");
		else if (p[0] == 4)
			strcpy(name, ".");
		else if (p[0] == 5 && p[1] && data[at + 4] == 16)
			iso_utf16(name, sizeof(name), data + at + 5, p[1] - 1);
		else if (p[0] == 5 && p[1])
			iso_latin1(name, sizeof(name), data + at + 5, p[1] - 1);
		if (len + strlen(name) + 2 > ISO_LINK_MAX) {
			rc = iso_bad(iso, "udf-link", off, "a link's target has more than %d bytes",
				     ISO_LINK_MAX);
			break;
		}
		if (p[0] == 1 || p[0] == 2) {
			strcpy(link, "/");
			len = 1;
			continue;
		}
		if (len && link[len - 1] != '/')
			link[len++] = '/';
		strcpy(link + len, name);
		len += strlen(name);
	}
	link[len] = '\0';
	free(data);
	return rc;
}

/* A file entry, in a buffer of one block; what is before it may lead elsewhere. */
static int read_entry(struct vmplat_iso *iso, uint64_t icb, uint8_t fe[ENTRY_MAX], size_t *len,
		      uint64_t *off)
{
	unsigned int part = icb >> 32 & 0xffff;
	uint32_t block = icb, size = iso_udf_block(iso);
	struct iso_sections s = { 0 };
	int rc;

	*len = size;
	rc = iso_udf_map(iso, part, block, size, &s, false);
	if (!rc)
		rc = iso_sections_read(iso, &s, fe, size, 0);
	*off = s.one.pos;
	iso_sections_free(&s);
	if (!rc)
		rc = iso_udf_tag(iso, fe, size, -1, block, *off);
	if (rc)
		return rc;
	if (le16(fe) == TAG_INDIRECT || le16(fe + 20) != 4)
		return iso_bad(iso, "udf-strategy", *off, "a file entry uses ICB strategy %u; only 4 is "
			       "read", le16(fe + 20));
	if (le16(fe) != TAG_FE && le16(fe) != TAG_EFE)
		return iso_bad(iso, "udf-entry", *off, "a descriptor of kind %u is where a file entry "
			       "should be", le16(fe));
	return 0;
}

int iso_udf_node(struct vmplat_iso *iso, uint64_t icb, struct iso_node *n, struct iso_sections *s)
{
	struct iso_sections own = { 0 }, *data = s ? s : &own;
	struct vmplat_iso_stat st = { 0 };
	const struct layout *at;
	uint32_t ea_len, ad_len;
	uint8_t fe[ENTRY_MAX];
	struct alloc a;
	uint64_t off, recorded;
	size_t len;
	int rc;

	rc = read_entry(iso, icb, fe, &len, &off);
	if (rc)
		goto out;
	at = le16(fe) == TAG_EFE ? &extended : &plain;
	ea_len = le32(fe + at->lens);
	ad_len = le32(fe + at->lens + 4);
	if (ea_len > len - at->lens - 8 || ad_len > len - at->lens - 8 - ea_len) {
		rc = iso_bad(iso, "udf-entry", off, "attributes and allocation descriptors, %" PRIu32
			     " and %" PRIu32 " bytes, do not fit into a file entry", ea_len, ad_len);
		goto out;
	}
	take_stat(fe, at, &st);
	if (st.bytes > INT64_MAX) {
		rc = iso_bad(iso, "udf-entry", off, "a file of more than 2^63 bytes");
		goto out;
	}
	take_device(fe + at->lens + 8, ea_len, &st);
	len = at->lens + 8 + ea_len;
	a = (struct alloc) { .iso = iso, .s = data, .part = icb >> 32 & 0xffff,
			     .kind = le16(fe + 34) & 7, .left = st.bytes, .off = off };
	if (a.kind == AD_INLINE) {
		if (st.bytes > ad_len)
			rc = iso_bad(iso, "udf-entry", off, "a file of %" PRIu64 " bytes inside its entry, "
				     "which has room for %" PRIu32, st.bytes, ad_len);
		else
			rc = iso_section_add(data, (struct iso_section) { .pos = off + len,
									  .bytes = st.bytes });
		a.left = 0;
	} else if (a.kind == AD_EXTENDED || a.kind > AD_INLINE) {
		rc = iso_bad(iso, "udf-entry", off, "allocation descriptors of kind %u are not read",
			     a.kind);
	} else {
		rc = read_chain(&a, fe + len, ad_len);
		if (!rc && a.left)
			rc = iso_bad(iso, "udf-length", off, "a file of %" PRIu64 " bytes has extents for "
				     "only %" PRIu64, st.bytes, st.bytes - a.left);
	}
	if (!rc && n && S_ISLNK(st.mode))
		rc = take_link(iso, data, st.bytes, off, n->link);
	recorded = 0;
	for (unsigned int i = 0; i < data->nr; i++) {
		const struct iso_section *e = (data->nr > 1 ? data->many : &data->one) + i;

		recorded += e->hole ? 0 : e->bytes;
		if (!st.pos && !e->hole)
			st.pos = e->pos;
	}
	st.stored_bytes = recorded;
	st.nr_sections = data->nr;
out:
	if (n) {
		n->st = st;
		n->err = rc;
		if (rc)
			n->st.flags |= VMPLAT_ISO_BROKEN;
	}
	iso_sections_free(&own);
	return rc;
}

/* ---- directories ------------------------------------------------------- */

#define FID_HEAD 38

static bool take_name(struct iso_node *n, const uint8_t *p, size_t len)
{
	size_t room = sizeof(n->name) - 4;
	bool whole = true;

	n->name[0] = '\0';
	if (len && p[0] == 16)
		whole = iso_utf16(n->name, room, p + 1, len - 1);
	else if (len && p[0] == 8)
		iso_latin1(n->name, room, p + 1, len - 1);
	n->name_len = strlen(n->name);
	/* NULs end the string above, not the name */
	for (size_t i = 1; len && i < len; i += p[0] == 16 ? 2 : 1)
		if (!p[i] && (p[0] == 8 || (i + 1 < len && !p[i + 1])))
			n->name_len = strlen(n->name) + 1;
	return whole;
}

/* FIDs have lengths, but nothing to find the next by if one is wrong: the rest is lost. */
static int lost(struct iso_cursor *c, uint64_t off, const char *why)
{
	uint64_t left = c->sections.bytes - c->off;

	c->off = c->sections.bytes;
	return iso_bad(c->iso, "udf-fid", off, "%s; the directory's last %" PRIu64 " bytes cannot be "
		       "read", why, left);
}

#define FID_MAX (FID_HEAD + 255 + ISO_SECTOR)

/* The identifier at c->off, which is moved behind it. 1, 0 at the end */
static int next_fid(struct iso_cursor *c, uint8_t fid[FID_MAX], uint64_t *off)
{
	struct vmplat_iso *iso = c->iso;
	uint64_t left = c->sections.bytes - c->off;
	struct vmplat_iso_extent x;
	size_t len;
	int rc;

	if (!left)
		return 0;
	iso_sections_map(&c->sections, c->off, &x);
	*off = x.pos;
	if (left < FID_HEAD)
		return lost(c, *off, "less is left than a name needs");
	rc = iso_sections_read(iso, &c->sections, fid, FID_HEAD, c->off);
	if (rc)
		goto unreadable;
	len = FID_HEAD + le16(fid + 36) + fid[19];
	if (le16(fid) != TAG_FID)
		return lost(c, *off, "there is no file identifier where one should be");
	if (left < len)
		return lost(c, *off, "a name reaches beyond its directory");
	if (len > FID_MAX)
		return lost(c, *off, "a name with more than 2048 bytes for the implementation");
	rc = iso_sections_read(iso, &c->sections, fid, len, c->off);
	if (rc)
		goto unreadable;
	if (iso_udf_tag(iso, fid, len, TAG_FID, le32(fid + 12), *off))
		return lost(c, *off, "a damaged file identifier");
	len = (len + 3) & ~3u;
	c->off += len < left ? len : left;
	return 1;
unreadable:
	c->off = c->sections.bytes;
	return rc;
}

static void take_fid(struct iso_cursor *c, const uint8_t *fid, uint64_t off, struct iso_node *n)
{
	uint64_t icb = (uint64_t)le16(fid + 28) << 32 | le32(fid + 24);
	struct vmplat_iso *iso = c->iso;

	n->link[0] = '\0';
	memset(&n->zf, 0, sizeof(n->zf));
	iso_udf_node(iso, icb, n, NULL);
	n->place[0] = icb;
	n->place[1] = n->place[2] = 0;
	n->place[3] = PLACE_TREE(iso->tree);
	if (!take_name(n, fid + FID_HEAD + le16(fid + 36), fid[19]))
		iso_warn(iso, "udf-name", off, "a name is not valid UTF-16");
	if (iso_tame(n->name, &n->name_len)) {
		n->st.flags |= VMPLAT_ISO_BAD_NAME;
		iso_bad(iso, "bad-name", off, "a name is empty, '.', '..', or has '/' or NUL in it; it is "
			"shown as '%s'", n->name);
	}
	if (n->err && !n->st.mode)
		n->st.mode = fid[18] & 2 ? S_IFDIR : S_IFREG;
	if (!n->err && !(fid[18] & 2) != !S_ISDIR(n->st.mode))
		iso_warn(iso, "udf-fid", off, "name and file entry disagree whether '%s' is a directory",
			 n->name);
	if (fid[18] & 1)
		n->st.flags |= VMPLAT_ISO_HIDDEN;
}

int iso_udf_next(struct iso_cursor *c, struct iso_node *n)
{
	uint8_t fid[FID_MAX];
	uint64_t off;
	int rc;

	/* those with these flags are deleted, or the way up */
	do
		rc = next_fid(c, fid, &off);
	while (rc == 1 && (fid[18] & (4 | 8)));
	if (rc == 1)
		take_fid(c, fid, off, n);
	return rc;
}
