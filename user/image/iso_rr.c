// SPDX-License-Identifier: LGPL-2.1-or-later
/*
 * The System Use Sharing Protocol (IEEE P1281) and Rock Ridge (IEEE P1282) on it: fields
 * of two letters, a length and a version behind each directory record's name, going on
 * in continuation areas elsewhere.
 */
#include <inttypes.h>
#include <stdio.h>
#include <sys/stat.h>

#include "image/iso.h"

#define AREA_MAX	8192	/* of one continuation area; a sector by the standard */
#define AREAS_MAX	64	/* of one record; Linux takes 32 */

/* Names and links may go on in the next field of their kind. */
struct state {
	struct vmplat_iso *iso;
	const struct iso_volume *vol;
	struct iso_node *n;
	struct iso_rr *rr;
	size_t link_len;
	bool name_goes_on, link_goes_on, link_joined;
	bool has_ce, ended;
	uint64_t ce_pos;
	uint32_t ce_bytes;
	int err;
};

/* ---- fields ------------------------------------------------------------ */

static void fault(struct state *st, const char *name, uint64_t off, const char *what)
{
	int rc = iso_bad(st->iso, name, off, "%s", what);

	if (!st->err)
		st->err = rc;
}

static void field_px(struct state *st, const uint8_t *f, uint64_t off)
{
	struct vmplat_iso_stat *s = &st->n->st;
	uint32_t mode = iso_both32(st->iso, f + 4, off + 4, "the POSIX mode");

	if ((mode & S_IFMT) && (S_ISDIR(mode) != 0) != (S_ISDIR(s->mode) != 0)) {
		/* a child link is a file with the mode of a directory */
		if (!S_ISDIR(mode))
			iso_warn(st->iso, "rr-mode", off, "the record is a directory, its mode 0%o is "
				 "not", mode);
		mode = (mode & 07777) | (s->mode & S_IFMT);
	}
	s->mode = mode & S_IFMT ? mode & 0177777 : (mode & 07777) | (s->mode & S_IFMT);
	s->nlink = iso_both32(st->iso, f + 12, off + 12, "the number of links");
	s->uid = iso_both32(st->iso, f + 20, off + 20, "the user");
	s->gid = iso_both32(st->iso, f + 28, off + 28, "the group");
	if (f[2] >= 44) {
		s->ino = iso_both32(st->iso, f + 36, off + 36, "the file's serial number");
		s->flags |= VMPLAT_ISO_INO;
	}
	s->flags |= VMPLAT_ISO_POSIX;
	st->rr->posix = true;
}

/* High and low word; where the high one is 0, the low one may have both numbers. */
static void field_pn(struct state *st, const uint8_t *f, uint64_t off)
{
	uint32_t high = iso_both32(st->iso, f + 4, off + 4, "the device's high word");
	uint32_t low = iso_both32(st->iso, f + 12, off + 12, "the device's low word");

	st->n->st.rdev_major = high || low < 256 ? high : low >> 8;
	st->n->st.rdev_minor = high || low < 256 ? low : low & 0xff;
}

static void field_nm(struct state *st, const uint8_t *f, uint64_t off)
{
	struct iso_node *n = st->n;
	size_t len = f[2] - 5;

	if (st->rr->named && !st->name_goes_on) {
		iso_warn(st->iso, "rr-name", off, "a second name for one file");
		return;
	}
	st->name_goes_on = f[4] & 1;
	/* "." and "..": of the directory's own records, which have no other name */
	if (f[4] & 6)
		return;
	if (f[4] & ~1u)
		iso_note(st->iso, "rr-name", off, "the name has unknown flags");
	if (n->name_len + len > VMPLAT_ISO_NAME_MAX) {
		fault(st, "rr-name-long", off, "the name has more than 1020 bytes");
		return;
	}
	memcpy(n->name + n->name_len, f + 5, len);
	n->name_len += len;
	n->name[n->name_len] = '\0';
	st->rr->named |= n->name_len > 0;
}

static void link_add(struct state *st, const void *p, size_t len, uint64_t off)
{
	if (memchr(p, 0, len)) {
		fault(st, "rr-link", off, "the link's target has a NUL in it");
		return;
	}
	if (st->link_len + len > ISO_LINK_MAX) {
		fault(st, "rr-link-long", off, "the link's target has more than 4095 bytes");
		return;
	}
	memcpy(st->n->link + st->link_len, p, len);
	st->link_len += len;
	st->n->link[st->link_len] = '\0';
}

/* Components, each with flags and a length; CONTINUE joins one with the next. */
static void field_sl(struct state *st, const uint8_t *f, uint64_t off)
{
	const uint8_t *p = f + 5, *end = f + f[2];

	while (end - p >= 2) {
		uint8_t flags = p[0], len = p[1];

		if (len > end - p - 2) {
			fault(st, "rr-link", off, "a component of the link's target reaches beyond its "
			      "field");
			return;
		}
		if (!st->link_joined && st->link_len && st->n->link[st->link_len - 1] != '/')
			link_add(st, "/", 1, off);
		if (flags & 2)
			link_add(st, ".", 1, off);
		else if (flags & 4)
			link_add(st, "..", 2, off);
		else if (flags & 8)
			link_add(st, "/", 1, off);
		else
			link_add(st, p + 2, len, off);
		if (flags & 0x30)
			iso_note(st->iso, "rr-link", off, "the link has a volume root or host name");
		st->link_joined = flags & 1;
		p += 2 + len;
	}
	if (p != end)
		iso_warn(st->iso, "rr-link", off, "a byte is left in the link's field");
	st->link_goes_on = f[4] & 1;
}

static void field_tf(struct state *st, const uint8_t *f, uint64_t off)
{
	struct vmplat_iso_stat *s = &st->n->st;
	struct { unsigned int bit; struct timespec *ts; } times[] = {
		{ VMPLAT_ISO_BTIME, &s->btime }, { VMPLAT_ISO_MTIME, &s->mtime },
		{ VMPLAT_ISO_ATIME, &s->atime }, { VMPLAT_ISO_CTIME, &s->ctime },
	};
	size_t each = f[4] & 0x80 ? 17 : 7;
	const uint8_t *p = f + 5;

	for (int i = 0; i < 7; i++) {
		struct timespec ts;
		bool set;

		if (!(f[4] & 1 << i))
			continue;
		if (p + each > f + f[2]) {
			fault(st, "rr-times", off, "the field of times is shorter than its flags say");
			return;
		}
		set = each == 17 ? iso_time17(p, &ts) : iso_time7(p, &ts);
		p += each;
		if (i >= 4 || !set)
			continue;
		*times[i].ts = ts;
		s->times |= times[i].bit;
	}
}

/* RRIP 1.10 has the low word alone. Nobody is known to write these. */
static void field_sf(struct state *st, const uint8_t *f, uint64_t off)
{
	struct vmplat_iso_stat *s = &st->n->st;

	s->flags |= VMPLAT_ISO_SPARSE;
	s->bytes = iso_both32(st->iso, f + 4, off + 4, "the virtual size");
	if (f[2] >= 21)
		s->bytes = s->bytes << 32 | iso_both32(st->iso, f + 12, off + 12, "the virtual size");
	if (s->bytes > INT64_MAX)
		fault(st, "rr-sparse", off, "the sparse file is longer than 2^63 bytes");
}

/* "pz": the length has 32 bits in both orders; "PZ", of version 2: 64, little-endian */
static void field_zf(struct state *st, const uint8_t *f, uint64_t off)
{
	struct iso_node *n = st->n;
	bool v1 = f[4] == 'p' && f[5] == 'z', v2 = f[4] == 'P' && f[5] == 'Z';

	if (!v1 && !v2) {
		iso_warn(st->iso, "zisofs-algorithm", off, "the file is compressed in a way that is "
			 "not known, '%c%c'; it is shown as stored", f[4] > 32 && f[4] < 127 ? f[4] : '?',
			 f[5] > 32 && f[5] < 127 ? f[5] : '?');
		return;
	}
	n->zf = (struct iso_zf) { v1 ? 1 : 2, f[6] * 4, f[7] };
	n->st.flags |= VMPLAT_ISO_ZISOFS;
	n->st.bytes = v1 ? iso_both32(st->iso, f + 8, off + 8, "the uncompressed size") : le64(f + 8);
	if (n->st.bytes > INT64_MAX)
		fault(st, "zisofs-header", off, "the file is longer than 2^63 bytes");
	if (n->zf.block_shift < 7 || n->zf.block_shift > 20)
		fault(st, "zisofs-block-size", off, "the compressed blocks have less than 2^7 or more "
		      "than 2^20 bytes");
}

static void field_ce(struct state *st, const uint8_t *f, uint64_t off)
{
	struct vmplat_iso *iso = st->iso;
	uint64_t block = iso_both32(iso, f + 4, off + 4, "the continuation's block");
	uint32_t at = iso_both32(iso, f + 12, off + 12, "the continuation's offset");

	if (st->has_ce)
		iso_warn(iso, "susp-ce-twice", off, "two continuation fields in one area");
	st->has_ce = true;
	st->ce_bytes = iso_both32(iso, f + 20, off + 20, "the continuation's length");
	st->ce_pos = block * st->vol->block + at;
	if (at + (uint64_t)st->ce_bytes > ISO_SECTOR)
		iso_warn(iso, "susp-ce-sector", off, "the continuation area crosses the end of a "
			 "sector; Linux does not read it");
}

static void field_er(struct state *st, const uint8_t *f, uint64_t off)
{
	size_t len = f[4], all = 8u + f[4] + f[5] + f[6];

	if (all > f[2]) {
		fault(st, "susp-er", off, "the extension's texts are longer than their field");
		return;
	}
	if (len >= sizeof(st->iso->rr_version))
		len = sizeof(st->iso->rr_version) - 1;
	if (len < 4 || (memcmp(f + 8, "RRIP", 4) && memcmp(f + 8, "IEEE", 4)))
		return;
	memcpy(st->iso->rr_version, f + 8, len);
	st->iso->rr_version[len] = '\0';
}

static void field_cl(struct state *st, const uint8_t *f, uint64_t off)
{
	st->rr->child = true;
	st->rr->child_block = iso_both32(st->iso, f + 4, off + 4, "the child link");
}

static void field_pl(struct state *st, const uint8_t *f, uint64_t off)
{
	st->rr->parent = true;
	st->rr->parent_block = iso_both32(st->iso, f + 4, off + 4, "the parent link");
}

static void field_re(struct state *st, const uint8_t *f, uint64_t off)
{
	st->rr->relocated = true;
}

static void field_st(struct state *st, const uint8_t *f, uint64_t off)
{
	st->ended = true;
}

/* SP is looked at once, in iso_rr_detect(); the others say nothing a reader needs. */
static void field_pass(struct state *st, const uint8_t *f, uint64_t off)
{
}

static const struct field {
	char name[3];
	uint8_t min;	/* length of the field */
	void (*take)(struct state *st, const uint8_t *f, uint64_t off);
} fields[] = {
	{ "PX", 36, field_px }, { "NM", 5, field_nm }, { "TF", 5, field_tf },
	{ "SL", 5, field_sl }, { "CE", 28, field_ce }, { "RR", 4, field_pass },
	{ "CL", 12, field_cl }, { "PL", 12, field_pl }, { "RE", 4, field_re },
	{ "PN", 20, field_pn }, { "ZF", 16, field_zf }, { "SF", 12, field_sf },
	{ "ER", 8, field_er }, { "ST", 4, field_st }, { "SP", 7, field_pass },
	{ "ES", 5, field_pass }, { "PD", 4, field_pass }, { "AL", 5, field_pass },
	{ "AA", 4, field_pass }, { "BA", 4, field_pass }, { "AS", 4, field_pass },
};

static void take_field(struct state *st, const uint8_t *f, uint64_t off)
{
	for (size_t i = 0; i < sizeof(fields) / sizeof(fields[0]); i++) {
		if (f[0] != fields[i].name[0] || f[1] != fields[i].name[1])
			continue;
		if (f[2] < fields[i].min) {
			char why[80];

			snprintf(why, sizeof(why), "the field %.2s has %u bytes; it needs %u",
				 fields[i].name, f[2], fields[i].min);
			fault(st, "susp-length", off, why);
		} else {
			fields[i].take(st, f, off);
		}
		return;
	}
	if (f[0] < 'A' || f[0] > 'Z' || f[1] < '0' || f[1] > 'Z') {
		/* not a field at all: what other systems put here has no lengths to trust */
		iso_warn(st->iso, "susp-garbage", off, "bytes that are no system use field");
		st->ended = true;
	}
}

static void take_area(struct state *st, const uint8_t *p, size_t len, uint64_t off)
{
	const uint8_t *f = p, *end = p + len;

	/* less than a field may be left, as padding */
	while (end - f >= 4 && !st->ended) {
		if (!f[0])
			return;
		if (f[2] < 4 || f[2] > end - f) {
			/* the end of an area without fields, where something else begins */
			if (f[0] < 'A' || f[0] > 'Z' || f[1] < 'A' || f[1] > 'Z')
				return;
			fault(st, "susp-length", off + (f - p),
			      "a system use field reaches beyond its area");
			return;
		}
		take_field(st, f, off + (f - p));
		f += f[2];
	}
}

int iso_susp(struct vmplat_iso *iso, const struct iso_volume *vol, const uint8_t *area,
	     size_t len, uint64_t off, struct iso_node *n, struct iso_rr *rr, uint64_t *extra)
{
	struct state st = { .iso = iso, .vol = vol, .n = n, .rr = rr };
	uint64_t seen[AREAS_MAX];
	uint8_t more[AREA_MAX];
	unsigned int nr = 0;
	int rc;

	memset(rr, 0, sizeof(*rr));
	n->name_len = 0;
	take_area(&st, area, len, off);
	/* ST ends one area, not those behind it */
	while (st.has_ce && !st.err) {
		st.has_ce = st.ended = false;
		for (unsigned int i = 0; i < nr; i++)
			if (seen[i] == st.ce_pos)
				return iso_bad(iso, "susp-ce-loop", off, "the continuation areas of a "
					       "record lead in a circle, back to %" PRIu64, st.ce_pos);
		if (nr == AREAS_MAX)
			return iso_bad(iso, "susp-ce-many", off, "a record has more than %d continuation "
				       "areas", AREAS_MAX);
		seen[nr++] = st.ce_pos;
		if (st.ce_bytes > AREA_MAX)
			return iso_bad(iso, "susp-ce-length", off, "a continuation area of %" PRIu32
				       " bytes; more than %d are not believed", st.ce_bytes, AREA_MAX);
		if (!iso_inside(iso, st.ce_pos, st.ce_bytes))
			return iso_bad(iso, "susp-ce-outside", off, "a continuation area, %" PRIu32
				       " bytes at %" PRIu64 ", reaches beyond the image", st.ce_bytes,
				       st.ce_pos);
		rc = iso_read(iso, more, st.ce_bytes, st.ce_pos);
		if (rc)
			return rc;
		*extra += st.ce_bytes;
		take_area(&st, more, st.ce_bytes, st.ce_pos);
	}
	if (st.name_goes_on && !st.err)
		fault(&st, "rr-name", off, "the name should go on and does not");
	if (st.link_goes_on && !st.err)
		fault(&st, "rr-link", off, "the link's target should go on and does not");
	return st.err;
}

/* ---- is it there? ------------------------------------------------------ */

/* SP at @p: check bytes BE EF, then how many bytes to skip in all other records. */
static bool is_sp(const uint8_t *p, const uint8_t *end)
{
	return end - p >= 7 && p[0] == 'S' && p[1] == 'P' && p[2] >= 7 && p[4] == 0xbe && p[5] == 0xef;
}

int iso_rr_detect(struct vmplat_iso *iso)
{
	const struct iso_volume *vol = &iso->primary;
	struct iso_node n = { 0 };
	uint8_t self[255], *area, *end;
	struct iso_rr rr = { 0 };
	uint64_t extra = 0;

	if (iso_dir_self(iso, vol, vol->root.pos, self)) {
		iso_warn(iso, "root-self", vol->root.pos, "the root directory does not begin with its "
			 "own record");
		return 0;
	}
	area = self + iso_susp_start(self);
	end = self + self[0];
	/* behind 14 bytes of CD-ROM XA, for those who have them */
	if (end - area >= 21 && is_sp(area + 14, end))
		area += 14;
	if (area >= end || !is_sp(area, end))
		return 0;
	iso->susp_skip = area[6];
	n.st.mode = S_IFDIR;
	iso_susp(iso, vol, area, end - area, vol->root.pos + (area - self), &n, &rr, &extra);
	iso->rock_ridge = iso->rr_version[0] || rr.posix;
	if (rr.posix && !iso->rr_version[0])
		iso_note(iso, "rr-er", vol->root.pos, "Rock Ridge fields, but no ER that announces them");
	return 0;
}
