// SPDX-License-Identifier: LGPL-2.1-or-later
/*
 * Directory records (ECMA-119 section 9.1). A record ends in the sector it begins in; the
 * rest of a sector is zero. A file of several sections has a record for each, one
 * behind the other, all but the last with the multi-extent flag.
 */
#include <inttypes.h>
#include <sys/stat.h>

#include "image/iso.h"

enum {
	FLAG_HIDDEN	= 1 << 0,
	FLAG_DIRECTORY	= 1 << 1,
	FLAG_ASSOCIATED	= 1 << 2,
	FLAG_RECORD	= 1 << 3,
	FLAG_PROTECTION	= 1 << 4,
	FLAG_MULTI	= 1 << 7,
};

/* ---- one record -------------------------------------------------------- */

/* Where a record's data begins, and how it is spread. */
static struct iso_section section_of(const struct iso_volume *vol, const uint8_t *rec)
{
	uint64_t block = vol->block;
	struct iso_section s = {
		.pos = (uint64_t)le32(rec + 2) * block, .bytes = le32(rec + 10),
		.unit = rec[26] * block, .gap = rec[26] ? rec[27] * block : 0,
	};

	if (!s.gap)
		s.unit = 0;
	/* an extended attribute record comes first; among file units it takes a whole one */
	if (s.unit && rec[1])
		s.pos += s.unit + s.gap;
	else
		s.pos += rec[1] * block;
	return s;
}

/* How far on the disc a section reaches. */
static uint64_t span(const struct iso_section *s)
{
	if (!s->unit || !s->bytes)
		return s->bytes;
	return s->bytes + (s->bytes - 1) / s->unit * s->gap;
}

static int check_section(struct vmplat_iso *iso, const struct iso_volume *vol,
			 const uint8_t *rec, uint64_t off, const struct iso_section *s)
{
	uint16_t sequence = le16(rec + 28);

	if (rec[27] && !rec[26])
		iso_warn(iso, "interleave", off + 26, "an interleave gap of %u blocks, but no "
			 "file unit", rec[27]);
	if (!s->bytes)
		return 0;
	if (sequence != vol->sequence && sequence > 1)
		return iso_bad(iso, "other-volume", off + 28, "the data is on volume %u of the set; "
			       "this is volume %u", sequence, vol->sequence);
	if (!iso_inside(iso, s->pos, span(s)))
		return iso_bad(iso, "extent-outside", off + 2, "the data, %" PRIu64 " bytes at %"
			       PRIu64 ", reaches beyond the image of %" PRIu64 " bytes", s->bytes,
			       s->pos, iso->bytes);
	return 0;
}

static void both_endian(struct vmplat_iso *iso, const uint8_t *rec, uint64_t off)
{
	if (!iso->on_issue)
		return;
	iso_both32(iso, rec + 2, off + 2, "the extent's block");
	iso_both32(iso, rec + 10, off + 10, "the data's length");
	iso_both16(iso, rec + 28, off + 28, "the volume sequence number");
}

/* "NAME.EXT;1", d-characters by the letter of the standard, bytes in practice */
static size_t plain_name(char *out, size_t room, const uint8_t *id, size_t len)
{
	if (len > 2 && id[len - 2] == ';' && id[len - 1] == '1')
		len -= 2;
	if (len > 1 && id[len - 1] == '.')
		len--;
	if (len > room)
		len = room;
	memcpy(out, id, len);
	return len;
}

static size_t joliet_name(struct vmplat_iso *iso, char *out, size_t room, const uint8_t *id,
			  size_t len, uint64_t off)
{
	if (len % 2)
		iso_warn(iso, "joliet-name", off, "the Joliet name has %zu bytes, an odd number",
			 len);
	len &= ~1u;
	if (len > 4 && be16(id + len - 4) == ';' && be16(id + len - 2) == '1')
		len -= 4;
	if (!iso_utf16(out, room, id, len))
		iso_warn(iso, "joliet-name", off, "the Joliet name is not valid UTF-16");
	/* a NUL inside ends the string, not the name */
	for (size_t i = 0; i < len; i += 2)
		if (!be16(id + i))
			return strlen(out) + 1;
	return strlen(out);
}

size_t iso_id_name(struct vmplat_iso *iso, const struct iso_volume *vol, char *out, size_t room,
		   const uint8_t *id, size_t len, uint64_t off)
{
	if (vol->joliet_level)
		return joliet_name(iso, out, room, id, len, off);
	return plain_name(out, room, id, len);
}

/* Owner, permissions and times of an extended attribute record, where nothing better is. */
static void take_xar(struct vmplat_iso *iso, const struct iso_volume *vol, const uint8_t *rec,
		     struct iso_node *n)
{
	static const struct { uint16_t bit; uint32_t mode; } perms[] = {
		{ 1 << 4, 0400 }, { 1 << 6, 0100 }, { 1 << 8, 0040 }, { 1 << 10, 0010 },
		{ 1 << 12, 0004 }, { 1 << 14, 0001 },
	};
	uint64_t pos = (uint64_t)le32(rec + 2) * vol->block;
	struct timespec ts;
	uint16_t denied;
	uint8_t xar[76];

	if (!iso_inside(iso, pos, sizeof(xar)) || iso_read(iso, xar, sizeof(xar), pos)) {
		iso_warn(iso, "xar-outside", pos, "the extended attribute record is not in the image");
		return;
	}
	if (iso_time17(xar + 10, &ts)) {
		n->st.btime = ts;
		n->st.times |= VMPLAT_ISO_BTIME;
	}
	if (iso_time17(xar + 27, &ts)) {
		n->st.mtime = ts;
		n->st.times |= VMPLAT_ISO_MTIME;
	}
	if (!(rec[25] & FLAG_PROTECTION))
		return;
	n->st.uid = iso_both16(iso, xar, pos, "the owner");
	n->st.gid = iso_both16(iso, xar + 4, pos + 4, "the group");
	denied = be16(xar + 8);
	n->st.mode &= S_IFMT;
	for (size_t i = 0; i < sizeof(perms) / sizeof(perms[0]); i++)
		if (!(denied & perms[i].bit))
			n->st.mode |= perms[i].mode;
	n->st.flags |= VMPLAT_ISO_POSIX;
}

/* CD-ROM XA: 14 bytes, "XA" at 6; multi-byte numbers are big-endian */
static size_t take_xa(const uint8_t *area, size_t len, struct iso_node *n)
{
	if (len < 14 || area[6] != 'X' || area[7] != 'A')
		return 0;
	n->st.flags |= VMPLAT_ISO_XA;
	n->st.xa_attributes = be16(area + 4);
	return 14;
}

static void take_flags(const uint8_t *rec, struct iso_node *n)
{
	bool dir = rec[25] & FLAG_DIRECTORY;

	n->st.mode = dir ? S_IFDIR | 0555 : S_IFREG | 0444;
	n->st.nlink = 1;
	if (rec[25] & FLAG_HIDDEN)
		n->st.flags |= VMPLAT_ISO_HIDDEN;
	if (rec[25] & FLAG_ASSOCIATED)
		n->st.flags |= VMPLAT_ISO_ASSOCIATED;
	if (rec[27])
		n->st.flags |= VMPLAT_ISO_INTERLEAVED;
	if (rec[1])
		n->st.flags |= VMPLAT_ISO_XAR;
}

static void broken(struct iso_node *n, int err)
{
	if (!err)
		return;
	n->st.flags |= VMPLAT_ISO_BROKEN;
	if (!n->err)
		n->err = err;
}

/* CL: the directory is elsewhere, and its own "." record has its attributes. */
static void follow_child(struct iso_cursor *c, uint64_t off, uint32_t block, struct iso_node *n)
{
	struct vmplat_iso *iso = c->iso;
	uint64_t pos = (uint64_t)block * c->vol->block;
	uint8_t self[255];
	struct iso_rr rr;
	size_t at, name_len = n->name_len;
	int rc;

	n->st.mode = S_IFDIR | (n->st.mode & 07777);
	n->st.flags |= VMPLAT_ISO_RELOCATED;
	rc = iso_dir_self(iso, c->vol, pos, self);
	if (rc) {
		iso_bad(iso, "rr-child-link", off, "the child link leads to %" PRIu64 ", where no "
			"directory begins", pos);
		broken(n, rc);
		return;
	}
	n->st.pos = pos;
	n->st.bytes = n->st.stored_bytes = le32(self + 10);
	if (!iso_inside(iso, pos, n->st.bytes))
		broken(n, iso_bad(iso, "rr-child-link", off, "the relocated directory reaches beyond "
				  "the image"));
	at = iso_susp_start(self) + iso->susp_skip;
	if (at < self[0])
		broken(n, iso_susp(iso, c->vol, self + at, self[0] - at, pos + at, n, &rr, &c->extra));
	n->name_len = name_len;
	n->name[name_len] = '\0';
}

/* Rock Ridge of a record; 0, or 1 if the record is to be left out. */
static int take_rock_ridge(struct iso_cursor *c, const uint8_t *rec, uint64_t off,
			   struct iso_node *n)
{
	struct iso_rr rr;
	size_t at = iso_susp_start(rec) + c->iso->susp_skip;

	if (at >= rec[0])
		return 0;
	broken(n, iso_susp(c->iso, c->vol, rec + at, rec[0] - at, off + at, n, &rr, &c->extra));
	if (rr.relocated)
		return 1;
	if (rr.child)
		follow_child(c, off, rr.child_block, n);
	return 0;
}

/* All of a record but sections behind the first. 0, or 1 to leave it out. */
static int take_record(struct iso_cursor *c, const uint8_t *rec, uint64_t rec_off,
		       struct iso_node *n)
{
	struct vmplat_iso *iso = c->iso;
	uint64_t off = c->loc.pos + rec_off;
	struct iso_section s = section_of(c->vol, rec);
	size_t area = iso_susp_start(rec);
	int rc;

	memset(&n->st, 0, sizeof(n->st));
	memset(&n->zf, 0, sizeof(n->zf));
	n->err = 0;
	n->name_len = 0;
	n->link[0] = '\0';
	take_flags(rec, n);
	n->st.bytes = n->st.stored_bytes = s.bytes;
	n->st.pos = s.bytes ? s.pos : 0;
	n->st.nr_sections = 1;
	if (iso_time7(rec + 18, &n->st.mtime))
		n->st.times |= VMPLAT_ISO_MTIME;
	both_endian(iso, rec, off);
	n->place[0] = c->loc.pos;
	n->place[1] = c->loc.bytes;
	n->place[2] = rec_off;
	n->place[3] = PLACE_TREE(iso->tree);
	if (area < rec[0])
		take_xa(rec + area, rec[0] - area, n);
	if (rec[1] && !c->rr)
		take_xar(iso, c->vol, rec, n);
	if (c->rr) {
		rc = take_rock_ridge(c, rec, off, n);
		if (rc)
			return rc;
	}
	if (!n->name_len)
		n->name_len = iso_id_name(iso, c->vol, n->name, sizeof(n->name) - 4, rec + 33,
					  rec[32], off + 33);
	if (iso_tame(n->name, &n->name_len)) {
		n->st.flags |= VMPLAT_ISO_BAD_NAME;
		iso_bad(iso, "bad-name", off + 33, "a name is empty, '.', '..', or has '/' or NUL in "
			"it; it is shown as '%s'", n->name);
	}
	if (!(n->st.flags & VMPLAT_ISO_RELOCATED))
		broken(n, check_section(iso, c->vol, rec, off, &s));
	if (S_ISDIR(n->st.mode) && !n->st.bytes && !n->err)
		broken(n, iso_bad(iso, "directory-empty", off + 10, "a directory without bytes"));
	return 0;
}

/* ---- the directory ----------------------------------------------------- */

static int load_sector(struct iso_cursor *c, uint64_t pos)
{
	size_t len = ISO_SECTOR;
	int rc;

	if (c->sector_pos == pos)
		return 0;
	c->sector_pos = ~0ULL;
	/* the last one of an image may be cut behind the directory's end */
	if (!iso_inside(c->iso, pos, len))
		len = pos < c->iso->bytes ? c->iso->bytes - pos : 0;
	if (!len)
		return lib_error(-ENODATA, "the image ends in a directory, at %" PRIu64, pos);
	rc = iso_read(c->iso, c->sector, len, pos);
	if (rc)
		return rc;
	memset(c->sector + len, 0, ISO_SECTOR - len);
	c->sector_pos = pos;
	return 0;
}

static void check_padding(struct iso_cursor *c, const uint8_t *p, size_t len, uint64_t off)
{
	if (!c->iso->on_issue)
		return;
	for (size_t i = 0; i < len; i++)
		if (p[i]) {
			iso_note(c->iso, "directory-padding", off + i,
				 "bytes behind a sector's last directory record are not zero");
			return;
		}
}

/*
 * The record at c->off, with c->off moved behind it; it lies in c->sector. 1, 0 at the
 * end. A record that cannot be right takes the rest of its sector with it: -EBADMSG.
 */
static int next_record(struct iso_cursor *c, const uint8_t **out, uint64_t *rec_off)
{
	while (c->off < c->loc.bytes) {
		uint64_t pos = c->loc.pos + c->off, base = pos - pos % ISO_SECTOR;
		size_t at = pos - base, left = ISO_SECTOR - at, len;
		const uint8_t *rec;
		int rc = load_sector(c, base);

		if (rc) {
			c->off = c->loc.bytes;
			return rc;
		}
		if (left > c->loc.bytes - c->off)
			left = c->loc.bytes - c->off;
		rec = c->sector + at;
		len = rec[0];
		if (!len) {
			/* writers with small blocks begin again at a block */
			size_t step = c->vol->block - pos % c->vol->block;

			check_padding(c, rec, left < step ? left : step, pos);
			c->off += step;
			continue;
		}
		if (len < 34 || len > left || 33u + rec[32] > len || !rec[32]) {
			c->off += left;
			return iso_bad(c->iso, "record-length", pos, "a directory record of %zu bytes "
				       "with a name of %u does not fit into the %zu bytes left; the rest "
				       "of the sector is passed over", len, left > 32 ? rec[32] : 0, left);
		}
		*rec_off = c->off;
		c->off += len;
		*out = rec;
		return 1;
	}
	return 0;
}

static bool is_dot(const uint8_t *rec)
{
	return rec[32] == 1 && rec[33] <= 1;
}

/*
 * Sections behind the first: adds up lengths, and sections if @s is not NULL. The record at
 * hand is copied, as the next may be in another sector.
 */
static int take_sections(struct iso_cursor *c, const uint8_t *first, uint64_t first_off,
			 struct iso_node *n, struct iso_sections *s)
{
	uint8_t rec[255];
	const uint8_t *next = first;
	uint64_t off = first_off, here;
	int rc = 0, got;

	memcpy(rec, first, first[0]);
	for (;;) {
		struct iso_section sec = section_of(c->vol, next);

		if (next != first) {
			broken(n, check_section(c->iso, c->vol, next, c->loc.pos + off, &sec));
			n->st.stored_bytes += sec.bytes;
			n->st.nr_sections++;
			if (!n->st.pos && sec.bytes)
				n->st.pos = sec.pos;
		}
		if (s && !rc)
			rc = iso_section_add(s, sec);
		if (!(next[25] & FLAG_MULTI))
			break;
		here = c->off;
		got = next_record(c, &next, &off);
		if (got != 1 || next[32] != rec[32] || memcmp(next + 33, rec + 33, rec[32]) ||
		    (next[25] & FLAG_DIRECTORY)) {
			c->off = here;
			broken(n, iso_bad(c->iso, "multi-extent", c->loc.pos + first_off,
					  "the file's last section is missing: %u found, %" PRIu64
					  " bytes", n->st.nr_sections, n->st.stored_bytes));
			break;
		}
	}
	/* otherwise the true length is in ZF or SF */
	if (!(n->st.flags & (VMPLAT_ISO_ZISOFS | VMPLAT_ISO_SPARSE)))
		n->st.bytes = n->st.stored_bytes;
	return rc;
}

int iso_dir_next(struct iso_cursor *c, struct iso_node *n)
{
	const uint8_t *rec;
	uint64_t off;
	int rc;

	for (;;) {
		rc = next_record(c, &rec, &off);
		if (rc <= 0)
			return rc;
		if (is_dot(rec))
			continue;
		/* a relocated directory is seen where its child link is */
		if (take_record(c, rec, off, n))
			continue;
		if (rec[25] & FLAG_MULTI)
			take_sections(c, rec, off, n, NULL);
		return 1;
	}
}

/* The node and sections of the entry at @place. */
int iso_dir_sections(struct vmplat_iso *iso, const uint64_t place[4], struct iso_sections *s,
		     struct iso_node *n)
{
	struct iso_loc loc = { place[0], place[1] };
	struct iso_cursor c;
	const uint8_t *rec;
	uint64_t off;
	int rc;

	rc = iso_cursor_open(&c, iso, loc);
	if (rc)
		return rc;
	c.off = place[2];
	rc = next_record(&c, &rec, &off);
	if (rc == 0)
		rc = lib_error(-EINVAL, "the entry is not of this disc");
	if (rc == 1) {
		take_record(&c, rec, off, n);
		rc = take_sections(&c, rec, off, n, s);
	}
	iso_cursor_close(&c);
	return rc;
}

int iso_dir_self(struct vmplat_iso *iso, const struct iso_volume *vol, uint64_t pos,
		 uint8_t record[255])
{
	size_t room = ISO_SECTOR - pos % ISO_SECTOR;
	uint8_t len;

	if (room > 255)
		room = 255;
	if (!iso_inside(iso, pos, 34) || iso_read(iso, &len, 1, pos))
		return -EBADMSG;
	if (len < 34 || len > room || !iso_inside(iso, pos, len) ||
	    iso_read(iso, record, len, pos))
		return -EBADMSG;
	if (record[32] != 1 || record[33] != 0 || !(record[25] & FLAG_DIRECTORY))
		return -EBADMSG;
	if ((uint64_t)le32(record + 2) * vol->block != pos && (uint64_t)record[1] * vol->block == 0)
		return -EBADMSG;
	return 0;
}

/* ---- cursors, of all kinds ------------------------------------------- */

int iso_cursor_open(struct iso_cursor *c, struct vmplat_iso *iso, struct iso_loc loc)
{
	c->iso = iso;
	c->loc = loc;
	c->off = 0;
	c->extra = 0;
	c->vol = iso_tree_volume(iso);
	c->rr = iso->tree == VMPLAT_ISO_RR;
	c->sector_pos = ~0ULL;
	memset(&c->sections, 0, sizeof(c->sections));
	if (iso->tree == VMPLAT_ISO_EFI)
		return iso_fat_dir(iso, loc.pos, &c->sections);
	if (!c->vol)
		return iso_udf_node(iso, loc.pos, NULL, &c->sections);
	if (!iso_inside(iso, loc.pos, loc.bytes))
		return iso_bad(iso, "extent-outside", loc.pos, "a directory of %" PRIu64 " bytes at %"
			       PRIu64 " reaches beyond the image", loc.bytes, loc.pos);
	return 0;
}

void iso_cursor_close(struct iso_cursor *c)
{
	iso_sections_free(&c->sections);
}

int iso_cursor_next(struct iso_cursor *c, struct iso_node *n)
{
	if (c->vol)
		return iso_dir_next(c, n);
	return c->iso->tree == VMPLAT_ISO_EFI ? iso_fat_next(c, n) : iso_udf_next(c, n);
}
