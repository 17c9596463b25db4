/* SPDX-License-Identifier: GPL-2.0-only */
/*
 * Discs that are wrong, one way each. A right disc is damaged in one place; then a check
 * must name the damage, a walk must end, and what is out of reach must be an error and
 * not other bytes. The classes that other readers had security trouble with say so.
 */
#include <sys/resource.h>
#include <sys/stat.h>

#include "iso_image.h"
#include "tap.h"

struct heard {
	const char *want;
	unsigned int nr, others, offset_beyond;
	char last[300];
};

static void listen(void *ctx, const struct vmplat_iso_issue *i)
{
	struct heard *h = ctx;

	if (!strcmp(i->name, h->want))
		h->nr++;
	else
		h->others++;
	snprintf(h->last, sizeof(h->last), "%s: %s: %s", i->name, i->path ? i->path : "-", i->text);
}

/* All of the tree that can be read; returns how many names there were, or -1: no end. */
static int walk(struct vmplat_iso *iso, unsigned int flags, int *errors)
{
	struct vmplat_iso_entry e;
	struct vmplat_iso_walk *w;
	int rc, nr = 0;

	*errors = 0;
	if (vmplat_iso_lookup(iso, "", 0, &e) || vmplat_iso_walk_open(&w, iso, &e, "", flags)) {
		*errors = 1;
		return 0;
	}
	while ((rc = vmplat_iso_walk_next(w, &e)) && nr < 1000000 && *errors < 10000) {
		if (rc < 0)
			(*errors)++;
		else
			nr++;
	}
	vmplat_iso_walk_close(w);
	return rc ? -1 : nr;
}

enum outcome {
	HEARD,		/* the check names it, all can still be read */
	REFUSED,	/* and opening @path fails with @err */
	NOT_OPENED,	/* the disc itself is refused with @err */
};

struct damage {
	const char *name;	/* of the issue */
	void (*do_it)(struct disc *d);
	enum outcome outcome;
	const char *path;
	int err;
};

static void judge(const struct damage *m, struct disc *d)
{
	struct heard h = { .want = m->name };
	struct vmplat_iso_file *f;
	struct vmplat_iso *iso;
	int fd = disc_fd(d), rc, errors;

	rc = vmplat_iso_open(&iso, fd);
	if (m->outcome == NOT_OPENED) {
		CHECK_EQ(rc, m->err);
		CHECK(*vmplat_last_error());
		close(fd);
		return;
	}
	if (rc)
		printf("# %s: %s\n", m->name, vmplat_last_error());
	REQUIRE(!rc);
	vmplat_iso_on_issue(iso, listen, &h);
	rc = vmplat_iso_check(iso, NULL, NULL);
	if (!h.nr)
		printf("# %s was not heard; the last of %u was %s\n", m->name, h.others, h.last);
	CHECK(h.nr);
	CHECK(rc >= 0);
	vmplat_iso_on_issue(iso, NULL, NULL);
	CHECK(walk(iso, 0, &errors) >= 0);
	CHECK(walk(iso, VMPLAT_ISO_WALK_GROUPED, &errors) >= 0);
	if (m->outcome == REFUSED) {
		rc = vmplat_iso_file_open_path(&f, iso, m->path);
		if (rc != m->err)
			printf("# %s: opening %s gave %d, not %d\n", m->name, m->path, rc, m->err);
		CHECK_EQ(rc, m->err);
		if (!rc) {
			static uint8_t buf[65536];

			CHECK(vmplat_iso_file_read(f, buf, sizeof(buf), 0) < 0);
			vmplat_iso_file_close(f);
		}
	}
	vmplat_iso_close(iso);
}

/* ---- ISO 9660 and Rock Ridge ------------------------------------------- */

static uint8_t *hello_record(struct disc *d)
{
	return find_record(d, AT_ROOT, "HELLO.TXT;1", 11);
}

/* CVE-2014-9420: continuation areas in a circle, of one and of two */
static void ce_loop(struct disc *d)
{
	uint8_t *f = sector(d, AT_CE) + 100;

	memcpy(f, "CE\x1c\1", 4);
	both32(f + 4, AT_CE);
	both32(f + 12, 100);
	both32(f + 20, 28);
	both32(find_field(hello_record(d), "CE") + 20, 28);
}

static void ce_loop_of_two(struct disc *d)
{
	uint8_t *f = sector(d, AT_CE2);

	ce_loop(d);
	both32(sector(d, AT_CE) + 100 + 4, AT_CE2);
	both32(sector(d, AT_CE) + 100 + 12, 0);
	memcpy(f, "CE\x1c\1", 4);
	both32(f + 4, AT_CE);
	both32(f + 12, 100);
	both32(f + 20, 28);
}

/* an endless chain that never comes back to a place it had */
static void ce_many(struct disc *d)
{
	uint8_t *f = sector(d, AT_CE2);

	both32(find_field(hello_record(d), "CE") + 4, AT_CE2);
	both32(find_field(hello_record(d), "CE") + 12, 0);
	both32(find_field(hello_record(d), "CE") + 20, 28);
	for (int i = 0; i < 72; i++, f += 28) {
		memcpy(f, "CE\x1c\1", 4);
		both32(f + 4, AT_CE2);
		both32(f + 12, 28 * (i + 1));
		both32(f + 20, 28);
	}
}

/* the continuation beyond the volume, or with a length that is */
static void ce_outside(struct disc *d)
{
	both32(find_field(hello_record(d), "CE") + 4, 0xfffffff0);
}

static void ce_long(struct disc *d)
{
	both32(find_field(hello_record(d), "CE") + 20, 0x7fffffff);
}

/* CVE-2014-9584: texts of ER longer than the field */
static void er_length(struct disc *d)
{
	sector(d, AT_CE)[4] = 200;
}

/* CVE-2016-4913: a NUL in a name */
static void nm_nul(struct disc *d)
{
	find_field(find_record(d, AT_ROOT, "SUB", 3), "NM")[6] = 0;
}

static void nm_slash(struct disc *d)
{
	find_field(find_record(d, AT_ROOT, "SUB", 3), "NM")[6] = '/';
}

static void nm_dotdot(struct disc *d)
{
	/* "sub" becomes "..", and a byte is left */
	memcpy(find_field(find_record(d, AT_ROOT, "SUB", 3), "NM"), "NM\7\1\0..", 8);
}

static void field_short(struct disc *d)
{
	find_field(hello_record(d), "PX")[2] = 5;
}

static void field_beyond(struct disc *d)
{
	find_field(find_record(d, AT_ROOT, "LINK.;1", 7), "SL")[2] = 200;
}

static void sl_component(struct disc *d)
{
	find_field(find_record(d, AT_ROOT, "LINK.;1", 7), "SL")[8] = 100;
}

static void sl_goes_on(struct disc *d)
{
	find_field(find_record(d, AT_ROOT, "LINK.;1", 7), "SL")[4] = 1;
}

static void tf_short(struct disc *d)
{
	sector(d, AT_CE)[100 + 10 + 4] = 0x7f;
}

/* CVE-2021-47478: record lengths that are too short, cross the sector, or hold no name */
static void record_short(struct disc *d)
{
	hello_record(d)[0] = 20;
}

static void record_crosses(struct disc *d)
{
	uint8_t *r = find_record(d, AT_ROOT, "SUB", 3);

	/* the directory ends in it, as a sector might */
	r[0] = 255;
	both32(sector(d, AT_PVD) + 166, r - sector(d, AT_ROOT) + 100);
}

static void record_name(struct disc *d)
{
	hello_record(d)[32] = 250;
}

static void record_no_name(struct disc *d)
{
	hello_record(d)[32] = 0;
}

static void extent_outside(struct disc *d)
{
	both32(hello_record(d) + 2, 0x7fffffff);
}

static void extent_too_long(struct disc *d)
{
	both32(hello_record(d) + 10, 0xfffff000);
}

static void other_volume(struct disc *d)
{
	both16(hello_record(d) + 28, 2);
}

static void both_endian(struct disc *d)
{
	wb32(hello_record(d) + 14, 77);
}

static void interleave_outside(struct disc *d)
{
	uint8_t *r = find_record(d, AT_ROOT, "INTER.;1", 8);

	both32(r + 10, 30 * SECT);
	r[27] = 255;
}

static void multi_extent(struct disc *d)
{
	uint8_t *r = find_record(d, AT_ROOT, "MULTI.;1", 8);

	r[r[0] + 25] = 0x80;
	r[r[0] + r[r[0]] + 25] = 0x80;
}

/* a directory that is its own child; and one that a child link makes so */
static void directory_loop(struct disc *d)
{
	both32(find_record(d, AT_ROOT, "SUB", 3) + 2, AT_ROOT);
}

static void child_link_loop(struct disc *d)
{
	both32(find_field(find_record(d, AT_ROOT, "DEEP.;1", 7), "CL") + 4, AT_ROOT);
}

static void child_link_nowhere(struct disc *d)
{
	both32(find_field(find_record(d, AT_ROOT, "DEEP.;1", 7), "CL") + 4, AT_HELLO);
}

static void parent_link(struct disc *d)
{
	uint8_t *dots = sector(d, AT_DEEP) + sector(d, AT_DEEP)[0];

	both32(find_field(dots, "PL") + 4, AT_SUB);
}

/*
 * Each of twelve directories has each of the others more than once: without a limit
 * on the sum of their lengths a walk would take longer than there is time.
 */
static void directory_web(struct disc *d)
{
	static const uint32_t at[] = { AT_SUB, AT_MOVED, AT_CE, AT_CE2, AT_JSUB, AT_ESUB, AT_XAR,
				       AT_MULTI1, AT_MULTI2, AT_MULTI3, AT_ZF1, AT_ZF2 };

	for (int i = 0; i < 12; i++) {
		struct dirw w = { d, at[i], 0 };
		struct susp s = { .len = 0 };

		memset(sector(d, at[i]), 0, SECT);
		add_dots(&w, AT_ROOT, NULL, NULL);
		for (int k = i + 1; k < 12; k++)
			for (int twice = 0; twice < 2; twice++) {
				char id[4] = { 'A' + k, '0' + twice };

				s.len = 0;
				susp_nm(&s, id);
				add_record(&w, id, 2, at[k], SECT, 2, &s);
			}
	}
}

static void directory_self(struct disc *d)
{
	both32(sector(d, AT_SUB) + 10, 3 * SECT);
}

static void directory_parent(struct disc *d)
{
	both32(sector(d, AT_SUB) + sector(d, AT_SUB)[0] + 2, AT_SUB);
}

static void duplicate(struct disc *d)
{
	memcpy(find_field(find_record(d, AT_ROOT, "NULL.;1", 7), "NM") + 5, "link", 4);
}

static void root_outside(struct disc *d)
{
	for (uint32_t vd = AT_PVD; vd < AT_TERM; vd++)
		if (vd != AT_BOOT)
			both32(sector(d, vd) + 158, 0x1000000);
}

static void no_disc(struct disc *d)
{
	memset(sector(d, AT_PVD), 0, SECT);
}

static void high_sierra(struct disc *d)
{
	memcpy(sector(d, AT_PVD) + 8, "\1CDROM\1", 7);
}

static void block_size(struct disc *d)
{
	both16(sector(d, AT_1999) + 128, 3000);
}

static void volume_size(struct disc *d)
{
	both32(sector(d, AT_PVD) + 80, 0x10000);
}

static void no_terminator(struct disc *d)
{
	memset(sector(d, AT_TERM), 0, SECT);
}

static void path_differs(struct disc *d)
{
	wb32(sector(d, AT_M) + 10 + 2, 99);
}

static void path_parent(struct disc *d)
{
	wr16(sector(d, AT_L) + 10 + 6, 40);
}

static void path_leads_nowhere(struct disc *d)
{
	wr32(sector(d, AT_L) + 10 + 2, AT_HELLO);
}

static void path_short(struct disc *d)
{
	both32(sector(d, AT_PVD) + 132, 23);
}

static void path_outside(struct disc *d)
{
	wb32(sector(d, AT_PVD) + 148, 0x1000000);
}

/* CVE-2026-4426: a zisofs block size that is no shift; a short ZF; a bad table, bad data */
static void zf_block(struct disc *d)
{
	find_field(find_record(d, AT_SUB, "ZF1.;1", 6), "ZF")[7] = 64;
}

static void zf_block_in_header(struct disc *d)
{
	sector(d, AT_ZF1)[13] = 40;
}

static void zf_short(struct disc *d)
{
	find_field(find_record(d, AT_SUB, "ZF1.;1", 6), "ZF")[2] = 8;
}

static void zf_size(struct disc *d)
{
	uint8_t *f = find_field(find_record(d, AT_SUB, "ZF2.;1", 6), "ZF");

	wr64(f + 8, 1ULL << 50);
	wr64(sector(d, AT_ZF2) + 12, 1ULL << 50);
}

static void zf_magic(struct disc *d)
{
	sector(d, AT_ZF2)[0] = 0;
}

static void joliet_odd(struct disc *d)
{
	uint8_t *r = sector(d, AT_JROOT);

	r += r[0];
	r += r[0];
	r[32]--;
}

static void joliet_surrogate(struct disc *d)
{
	uint8_t *r = sector(d, AT_JROOT);

	r += r[0];
	r += r[0];
	r[33] = 0xd8;
}

/* a name of the most UCS-2 that fits, each three bytes of UTF-8 */
static void joliet_long(struct disc *d)
{
	struct dirw w = { d, AT_JSUB, 2 * 34 };
	uint8_t id[220], *r;

	memset(id, 0x4e, sizeof(id));
	id[1] = 0;
	r = add_record(&w, id, sizeof(id), AT_HELLO, HELLO_BYTES, 0, NULL);
	/* and one thing to hear */
	r[39] = 0xdc;
}

static void tree_content(struct disc *d)
{
	uint8_t *r = sector(d, AT_JROOT);

	r += r[0];
	r += r[0];
	both32(r + 2, AT_ZF1);
	both32(r + 10, 500);
}

static void tree_length(struct disc *d)
{
	uint8_t *r = sector(d, AT_JROOT);

	r += r[0];
	r += r[0];
	both32(r + 10, HELLO_BYTES - 1);
}

static void boot_catalog(struct disc *d)
{
	sector(d, AT_CATALOG)[0] = 7;
}

static void boot_sum(struct disc *d)
{
	sector(d, AT_CATALOG)[4] = 7;
}

static void boot_outside(struct disc *d)
{
	wr32(sector(d, AT_CATALOG) + 104, 0x100000);
}

static void boot_table(struct disc *d)
{
	sector(d, AT_BOOTIMG)[100]++;
}

static void boot_table_length(struct disc *d)
{
	wr32(sector(d, AT_BOOTIMG) + 16, 0x7fffffff);
}

static void gpt_header(struct disc *d)
{
	memcpy(d->p + 512, "EFI PART", 8);
	wr32(d->p + 512 + 12, 92);
	wr32(d->p + 512 + 80, 0x7fffffff);
	wr32(d->p + 512 + 84, 128);
}

static void apm_entries(struct disc *d)
{
	memcpy(d->p + 512, "PM", 2);
	wb32(d->p + 512 + 4, 0x7fffffff);
}

static const struct damage iso_damages[] = {
	{ "susp-ce-loop", ce_loop, REFUSED, "HELLO.TXT", -ENOENT },
	{ "susp-ce-loop", ce_loop_of_two, HEARD },
	{ "susp-ce-many", ce_many, HEARD },
	{ "susp-ce-outside", ce_outside, HEARD },
	{ "susp-ce-length", ce_long, HEARD },
	{ "susp-er", er_length, HEARD },
	{ "bad-name", nm_nul, HEARD },
	{ "bad-name", nm_slash, HEARD },
	{ "bad-name", nm_dotdot, HEARD },
	{ "susp-length", field_short, HEARD },
	{ "susp-length", field_beyond, HEARD },
	{ "rr-link", sl_component, HEARD },
	{ "rr-link", sl_goes_on, HEARD },
	{ "rr-times", tf_short, REFUSED, "hello-world", -EBADMSG },
	{ "record-length", record_short, REFUSED, "hello-world", -ENOENT },
	{ "record-length", record_crosses, HEARD },
	{ "record-length", record_name, HEARD },
	{ "record-length", record_no_name, HEARD },
	{ "extent-outside", extent_outside, REFUSED, "hello-world", -EBADMSG },
	{ "extent-outside", extent_too_long, REFUSED, "hello-world", -EBADMSG },
	{ "other-volume", other_volume, REFUSED, "hello-world", -EBADMSG },
	{ "both-endian", both_endian, HEARD },
	{ "extent-outside", interleave_outside, REFUSED, "interleaved", -EBADMSG },
	{ "multi-extent", multi_extent, REFUSED, "multi", -EBADMSG },
	{ "directory-loop", directory_loop, HEARD },
	{ "directory-loop", child_link_loop, HEARD },
	{ "rr-child-link", child_link_nowhere, REFUSED, "deep", -EISDIR },
	{ "rr-parent-link", parent_link, HEARD },
	{ "directory-overlap", directory_web, HEARD },
	{ "directory-self", directory_self, HEARD },
	{ "directory-parent", directory_parent, HEARD },
	{ "duplicate-name", duplicate, HEARD },
	{ "root", root_outside, NOT_OPENED, NULL, -EMEDIUMTYPE },
	{ "no disc", no_disc, NOT_OPENED, NULL, -EMEDIUMTYPE },
	{ "high sierra", high_sierra, NOT_OPENED, NULL, -EOPNOTSUPP },
	{ "block-size", block_size, HEARD },
	{ "volume-size", volume_size, HEARD },
	{ "no-terminator", no_terminator, HEARD },
	{ "path-table-differs", path_differs, HEARD },
	{ "path-table", path_parent, HEARD },
	{ "path-table", path_leads_nowhere, HEARD },
	{ "path-table", path_short, HEARD },
	{ "path-table", path_outside, HEARD },
	{ "zisofs-block-size", zf_block, REFUSED, "sub/zf1", -EBADMSG },
	{ "zisofs-header", zf_block_in_header, REFUSED, "sub/zf1", -EBADMSG },
	{ "susp-length", zf_short, REFUSED, "sub/zf1", -EBADMSG },
	{ "zisofs-header", zf_size, REFUSED, "sub/zf2", -EBADMSG },
	{ "zisofs-header", zf_magic, REFUSED, "sub/zf2", -EBADMSG },
	{ "joliet-name", joliet_odd, HEARD },
	{ "joliet-name", joliet_surrogate, HEARD },
	{ "joliet-name", joliet_long, HEARD },
	{ "tree-content", tree_content, HEARD },
	{ "tree-length", tree_length, HEARD },
	{ "boot-catalog", boot_catalog, HEARD },
	{ "boot-checksum", boot_sum, HEARD },
	{ "boot-outside", boot_outside, HEARD },
	{ "boot-table", boot_table, HEARD },
	{ "boot-table", boot_table_length, HEARD },
	{ "gpt-header", gpt_header, HEARD },
	{ "apm-entries", apm_entries, HEARD },
};

TEST(iso_damaged)
{
	for (size_t i = 0; i < sizeof(iso_damages) / sizeof(iso_damages[0]); i++) {
		struct disc d = iso_disc();

		iso_damages[i].do_it(&d);
		judge(&iso_damages[i], &d);
		disc_free(&d);
	}
}

/* What cannot be seen without reading the data: not an issue of the structures. */
static void read_fails(struct disc *d, const char *path)
{
	static uint8_t buf[65536];
	struct vmplat_iso_file *f;
	struct vmplat_iso *iso;

	REQUIRE(!vmplat_iso_open(&iso, disc_fd(d)));
	if (!vmplat_iso_file_open_path(&f, iso, path)) {
		CHECK_EQ(vmplat_iso_file_read(f, buf, sizeof(buf), 0), -EBADMSG);
		vmplat_iso_file_close(f);
	} else {
		CHECK(!"the file opens");
	}
	vmplat_iso_close(iso);
}

TEST(zisofs_data)
{
	struct disc d = iso_disc();

	/* the stream ends early */
	wr32(sector(&d, AT_ZF1) + 20, le32(sector(&d, AT_ZF1) + 20) - 20);
	wr32(sector(&d, AT_ZF1) + 24, le32(sector(&d, AT_ZF1) + 20));
	read_fails(&d, "sub/zf1");
	disc_free(&d);
	d = iso_disc();
	/* garbage in it */
	memset(sector(&d, AT_ZF1) + 40, 0xff, 30);
	read_fails(&d, "sub/zf1");
	disc_free(&d);
	d = iso_disc();
	/* the table runs backwards, and beyond the file */
	wr32(sector(&d, AT_ZF1) + 16, 600);
	read_fails(&d, "sub/zf1");
	wr32(sector(&d, AT_ZF1) + 16, 28);
	wr32(sector(&d, AT_ZF1) + 20, 0x7fffffff);
	read_fails(&d, "sub/zf1");
	disc_free(&d);
}

/* ---- UDF --------------------------------------------------------------- */

static void udf_tag_sum(struct disc *d)
{
	udf_block(d, UDF_PLAIN, P_FILE)[4]++;
}

static void udf_crc(struct disc *d)
{
	udf_block(d, UDF_PLAIN, P_FILE)[60]++;
}

static void udf_strategy(struct disc *d)
{
	uint8_t *p = udf_block(d, UDF_PLAIN, P_FILE);

	wr16(p + 20, 4096);
	udf_close(p, P_FILE);
}

static void udf_chain(struct disc *d)
{
	uint8_t *p = udf_block(d, UDF_PLAIN, P_AED);

	wr32(p + 20, 16);
	wr32(p + 24, 3u << 30 | SECT);
	wr32(p + 28, P_AED);
	udf_tag(p, 258, P_AED, 8 + 16);
}

static void udf_short(struct disc *d)
{
	uint8_t *p = udf_block(d, UDF_PLAIN, P_FILE);

	wr64(p + 56, 1ULL << 40);
	udf_close(p, P_FILE);
}

static void udf_outside(struct disc *d)
{
	uint8_t *p = udf_block(d, UDF_PLAIN, P_FILE);

	wr32(p + 176 + 4, 0x7fffffff);
	udf_close(p, P_FILE);
}

static void udf_no_partition(struct disc *d)
{
	uint8_t *p = udf_block(d, UDF_PLAIN, P_FILE);

	wr16(p + 176 + 8, 5);
	udf_close(p, P_FILE);
}

static void udf_attributes(struct disc *d)
{
	uint8_t *p = udf_block(d, UDF_PLAIN, P_FILE);

	wr32(p + 168, 0xfffffff0);
	udf_tag(p, 261, P_FILE, 160);
}

static void udf_fid_length(struct disc *d)
{
	uint8_t *p = udf_block(d, UDF_PLAIN, P_ROOT_DATA) + 40;

	wr16(p + 36, 60000);
	udf_tag(p, 257, P_ROOT_DATA, 22);
}

static void udf_fid_kind(struct disc *d)
{
	wr16(udf_block(d, UDF_PLAIN, P_ROOT_DATA) + 40, 99);
}

static void udf_loop(struct disc *d)
{
	uint8_t *p = udf_block(d, UDF_PLAIN, P_SUB) + 176;

	udf_fid(p, 2, NULL, 0, P_ROOT, P_SUB);
	udf_close(udf_block(d, UDF_PLAIN, P_SUB), P_SUB);
}

static void udf_link(struct disc *d)
{
	uint8_t *p = udf_block(d, UDF_PLAIN, P_LINK);

	p[176 + 5] = 200;
	udf_close(p, P_LINK);
}

static void udf_sequence(struct disc *d)
{
	memset(sector(d, AT_VDS + 2), 0, SECT);
}

static void udf_reserve(struct disc *d)
{
	/* the main sequence is elsewhere, and nothing there */
	wr32(sector(d, AT_ANCHOR) + 20, AT_VDS + 10);
	udf_tag(sector(d, AT_ANCHOR), 2, AT_ANCHOR, 496);
}

static const struct damage udf_damages[] = {
	{ "udf-tag", udf_tag_sum, REFUSED, "hello-world", -EBADMSG },
	{ "udf-crc", udf_crc, REFUSED, "hello-world", -EBADMSG },
	{ "udf-strategy", udf_strategy, REFUSED, "hello-world", -EBADMSG },
	{ "udf-chain", udf_chain, REFUSED, "hello-world", -EBADMSG },
	{ "udf-length", udf_short, REFUSED, "hello-world", -EBADMSG },
	{ "udf-place", udf_outside, REFUSED, "hello-world", -EBADMSG },
	{ "udf-place", udf_no_partition, REFUSED, "hello-world", -EBADMSG },
	{ "udf-entry", udf_attributes, REFUSED, "hello-world", -EBADMSG },
	{ "udf-fid", udf_fid_length, HEARD },
	{ "udf-fid", udf_fid_kind, HEARD },
	{ "directory-loop", udf_loop, HEARD },
	{ "udf-link", udf_link, HEARD },
	{ "udf-reserve", udf_reserve, HEARD },
	{ "no sequence", udf_sequence, NOT_OPENED, NULL, -EMEDIUMTYPE },
};

TEST(udf_damaged)
{
	for (size_t i = 0; i < sizeof(udf_damages) / sizeof(udf_damages[0]); i++) {
		struct disc d = udf_disc(UDF_PLAIN);

		udf_damages[i].do_it(&d);
		judge(&udf_damages[i], &d);
		disc_free(&d);
	}
}

/* ---- FAT ------------------------------------------------------------------ */

static struct fat_volume fat;
static const char long_path[] = FAT_LONG_NAME;

/* the name's parts are entries 4 to 6 of the root, and 7 the file */
static uint8_t *fat_root_entry(int nr)
{
	return fat_root(&fat) + 32 * nr;
}

static void fat_no_cluster_size(struct disc *d)
{
	fat.p[13] = 0;
}

static void fat_odd_cluster_size(struct disc *d)
{
	fat.p[13] = 3;
}

static void fat_nothing_reserved(struct disc *d)
{
	wr16(fat.p + 14, 0);
}

static void fat_no_table(struct disc *d)
{
	fat.p[16] = 0;
}

static void fat_empty_table(struct disc *d)
{
	wr16(fat.p + (fat.bits == 32 ? 36 : 22), 0);
}

static void fat_odd_root(struct disc *d)
{
	wr16(fat.p + 17, 3);
}

static void fat_no_root(struct disc *d)
{
	wr16(fat.p + 17, fat.bits == 32 ? 16 : 0);
}

static void fat_no_room(struct disc *d)
{
	wr16(fat.p + 19, fat.data);
}

static void fat_huge_table(struct disc *d)
{
	wr16(fat.p + 22, 0);
	wr16(fat.p + 17, 0);
	wr32(fat.p + 36, 0xffffffff);
}

static void fat_too_large(struct disc *d)
{
	wr16(fat.p + 19, 0);
	wr32(fat.p + 32, 0xffffffff);
}

static void fat_longer(struct disc *d)
{
	wr16(fat.p + 19, fat.sectors + 100);
}

static void fat_short_table(struct disc *d)
{
	wr16(fat.p + 19, 400);
}

static void fat_which_table(struct disc *d)
{
	fat.p[40] = 0x8f;
}

static void fat_other_copy(struct disc *d)
{
	fat.p[(fat.table + 1) * FAT_SECT + 100]++;
}

static void fat_loop(struct disc *d)
{
	fat_set(&fat, FAT_LONG2, FAT_LONG1);
}

static void fat_loop_of_one(struct disc *d)
{
	fat_set(&fat, FAT_LONG1, FAT_LONG1);
}

static void fat_beyond(struct disc *d)
{
	fat_set(&fat, FAT_LONG1, 14);
}

static void fat_reserved_cluster(struct disc *d)
{
	fat_set(&fat, FAT_LONG1, 1);
}

static void fat_bad_cluster(struct disc *d)
{
	fat_set(&fat, FAT_LONG1, 0xffffff7);
}

static void fat_freed(struct disc *d)
{
	fat_set(&fat, FAT_LONG2, 0);
}

static void fat_ends_early(struct disc *d)
{
	fat_set(&fat, FAT_LONG2, 0xfffffff);
}

static void fat_goes_on(struct disc *d)
{
	fat_set(&fat, FAT_LONG3, 9);
}

static void fat_first_beyond(struct disc *d)
{
	wr16(fat_root_entry(7) + 26, 14);
}

static void fat_first_none(struct disc *d)
{
	wr16(fat_root_entry(7) + 26, 0);
}

static void fat_longer_file(struct disc *d)
{
	wr32(fat_root_entry(7) + 28, 0xffffffff);
}

static void fat_dir_none(struct disc *d)
{
	wr16(fat_root_entry(2) + 26, 0);
}

static void fat_dir_loop(struct disc *d)
{
	fat_set(&fat, FAT_LOADER, FAT_LOADER);
	memset(fat_cluster(&fat, FAT_LOADER) + 96, 0xe5, 416);
}

static void fat_dir_in_itself(struct disc *d)
{
	fat_cluster(&fat, FAT_LOADER)[2 * 32 + 11] = 0x10;
	wr16(fat_cluster(&fat, FAT_LOADER) + 2 * 32 + 26, FAT_LOADER);
}

static void fat_root_beyond(struct disc *d)
{
	wr32(fat.p + 44, 0x0ffffff0);
}

static void fat_part_order(struct disc *d)
{
	fat_root_entry(5)[0] = 1;
	fat_root_entry(6)[0] = 2;
}

static void fat_part_missing(struct disc *d)
{
	fat_root_entry(6)[0] = 0xe5;
}

static void fat_part_first(struct disc *d)
{
	fat_root_entry(4)[0] &= 0x3f;
}

static void fat_part_number(struct disc *d)
{
	fat_root_entry(4)[0] = 0x40 | 63;
}

static void fat_part_none(struct disc *d)
{
	fat_root_entry(4)[0] = 0x40;
}

static void fat_part_again(struct disc *d)
{
	fat_root_entry(5)[0] |= 0x40;
}

static void fat_part_sum(struct disc *d)
{
	fat_root_entry(5)[13]++;
}

static void fat_part_sums(struct disc *d)
{
	for (int i = 4; i < 7; i++)
		fat_root_entry(i)[13]++;
}

static void fat_part_orphans(struct disc *d)
{
	fat_root_entry(7)[0] = 0xe5;
}

static void fat_part_at_end(struct disc *d)
{
	fat_root_entry(7)[0] = 0;
}

static void fat_part_label(struct disc *d)
{
	fat_root_entry(7)[11] = 0x08;
}

static void fat_part_empty(struct disc *d)
{
	wr16(fat_root_entry(6) + 1, 0);
}

static void fat_part_half(struct disc *d)
{
	wr16(fat_root_entry(6) + 1, 0xd800);
}

static void fat_name_slash(struct disc *d)
{
	wr16(fat_root_entry(6) + 1, '/');
}

static void fat_name_up(struct disc *d)
{
	wr16(fat_root_entry(4) + 1, 0);
	memset(fat_root_entry(4), 0xe5, 64);
	fat_root_entry(6)[0] = 0x41;
	wr16(fat_root_entry(6) + 1, '.');
	wr16(fat_root_entry(6) + 3, '.');
	wr16(fat_root_entry(6) + 5, 0);
}

static void fat_short_empty(struct disc *d)
{
	memcpy(fat_root_entry(3), "           ", 11);
}

static void fat_overlap(struct disc *d)
{
	for (int i = 2; i < 14; i++)
		fat_entry(fat_cluster(&fat, FAT_LOADER) + 32 * i, "A          ", 0x20, FAT_LONG1, FAT_LONG_BYTES)[-32] = 'A' + i;
}

static const struct fat_damage {
	struct damage m;
	unsigned int bits;	/* of this kind only; 0: 12 and 32 */
	unsigned int names;	/* that are still listed */
	const char *shown;	/* this one is */
} fat_damages[] = {
	{ { "fat-boot-sector", fat_no_cluster_size } },
	{ { "fat-boot-sector", fat_odd_cluster_size } },
	{ { "fat-boot-sector", fat_nothing_reserved } },
	{ { "fat-boot-sector", fat_no_table } },
	{ { "fat-boot-sector", fat_empty_table } },
	{ { "fat-boot-sector", fat_odd_root } },
	{ { "fat-boot-sector", fat_no_root } },
	{ { "fat-boot-sector", fat_no_room } },
	{ { "fat-boot-sector", fat_huge_table } },
	{ { "fat-boot-sector", fat_too_large } },
	{ { "fat-boot-sector", fat_which_table }, 32 },
	{ { "fat-outside", fat_longer }, 0, 4 },
	{ { "fat-table", fat_short_table }, 12, 4 },
	{ { "fat-table", fat_short_table }, 32, 4 },
	{ { "fat-copies", fat_other_copy }, 0, 4 },
	{ { "fat-chain", fat_loop, REFUSED, long_path, -EBADMSG }, 0, 4 },
	{ { "fat-chain", fat_loop_of_one, REFUSED, long_path, -EBADMSG }, 0, 4 },
	{ { "fat-chain", fat_beyond, REFUSED, long_path, -EBADMSG }, 0, 4 },
	{ { "fat-chain", fat_reserved_cluster, REFUSED, long_path, -EBADMSG }, 0, 4 },
	{ { "fat-chain", fat_bad_cluster, REFUSED, long_path, -EBADMSG }, 0, 4 },
	{ { "fat-chain", fat_freed, REFUSED, long_path, -EBADMSG }, 0, 4 },
	{ { "fat-chain", fat_ends_early, REFUSED, long_path, -EBADMSG }, 0, 4 },
	{ { "fat-length", fat_goes_on }, 0, 4 },
	{ { "fat-chain", fat_first_beyond, REFUSED, long_path, -EBADMSG }, 0, 4 },
	{ { "fat-chain", fat_first_none, REFUSED, long_path, -EBADMSG }, 0, 4 },
	{ { "fat-chain", fat_longer_file, REFUSED, long_path, -EBADMSG }, 0, 4 },
	{ { "fat-overlap", fat_overlap }, 0, 15 },
	{ { "fat-chain", fat_dir_none, REFUSED, "loader/entry.con", -EBADMSG }, 0, 3 },
	{ { "fat-chain", fat_dir_loop, REFUSED, "loader/other", -EBADMSG }, 0, 3 },
	{ { "directory-loop", fat_dir_in_itself }, 0, 4 },
	{ { "fat-chain", fat_root_beyond, REFUSED, "loader", -EBADMSG }, 32 },
	{ { "fat-long-name", fat_part_order }, 0, 4, "ALONGN~1.TEX" },
	{ { "fat-long-name", fat_part_missing }, 0, 4, "ALONGN~1.TEX" },
	{ { "fat-long-name", fat_part_first }, 0, 4, "ALONGN~1.TEX" },
	{ { "fat-long-name", fat_part_number }, 0, 4, "ALONGN~1.TEX" },
	{ { "fat-long-name", fat_part_none }, 0, 4, "ALONGN~1.TEX" },
	{ { "fat-long-name", fat_part_again }, 0, 4, "a long name of the file.te" },
	{ { "fat-long-name", fat_part_sum }, 0, 4, "ALONGN~1.TEX" },
	{ { "fat-long-name", fat_part_sums }, 0, 4, "ALONGN~1.TEX" },
	{ { "fat-long-name", fat_part_orphans }, 0, 3 },
	{ { "fat-long-name", fat_part_at_end }, 0, 3 },
	{ { "fat-long-name", fat_part_label }, 0, 3 },
	{ { "fat-long-name", fat_part_empty }, 0, 4, "ALONGN~1.TEX" },
	{ { "fat-long-name", fat_part_half }, 0, 4, "\xef\xbf\xbd long name of the file.text" },
	{ { "bad-name", fat_name_slash }, 0, 4, "_ long name of the file.text" },
	{ { "bad-name", fat_name_up }, 0, 4, "__" },
	{ { "bad-name", fat_short_empty }, 0, 4, "__" },
};

/* @names 0: the file system is refused, and what else the disc has is not */
static void fat_judge(const struct fat_damage *m, unsigned int bits)
{
	struct disc d = fat_disc(bits, &fat);
	struct heard h = { .want = m->m.name };
	struct vmplat_iso_entry e;
	struct vmplat_iso_file *f;
	struct vmplat_iso *iso;
	int errors, rc;

	m->m.do_it(&d);
	REQUIRE(!vmplat_iso_open(&iso, disc_fd(&d)));
	vmplat_iso_on_issue(iso, listen, &h);
	CHECK(vmplat_iso_check(iso, NULL, NULL) >= 0);
	vmplat_iso_on_issue(iso, NULL, NULL);
	CHECK_EQ(vmplat_iso_tree(iso), VMPLAT_ISO_RR);
	rc = vmplat_iso_use(iso, VMPLAT_ISO_EFI);
	if (!h.nr || rc != (m->names || m->m.outcome ? 0 : -ENOENT) ||
	    (!rc && m->names != (unsigned int)walk(iso, 0, &errors)))
		printf("# FAT%u, case %d, %s: heard %u, last of %u others %s; %d\n", bits, (int)(m - fat_damages),
		       m->m.name, h.nr, h.others, h.last, rc);
	CHECK(h.nr);
	CHECK_EQ(rc, m->names || m->m.outcome ? 0 : -ENOENT);
	if (!rc) {
		CHECK_EQ(walk(iso, 0, &errors), m->names);
		CHECK_EQ(walk(iso, VMPLAT_ISO_WALK_GROUPED, &errors), m->names);
	}
	if (m->shown)
		CHECK_EQ(vmplat_iso_lookup(iso, m->shown, 0, &e), 0);
	if (m->m.outcome == REFUSED)
		CHECK_EQ(vmplat_iso_file_open_path(&f, iso, m->m.path), m->m.err);
	vmplat_iso_close(iso);
	disc_free(&d);
}

TEST(fat_damaged)
{
	for (size_t i = 0; i < sizeof(fat_damages) / sizeof(fat_damages[0]); i++) {
		const struct fat_damage *m = &fat_damages[i];

		if (m->bits != 32)
			fat_judge(m, 12);
		if (m->bits != 12)
			fat_judge(m, 32);
	}
}

/* An image that ends anywhere in it: what is listed is read whole or not at all. */
TEST(fat_cut_short)
{
	struct disc d = fat_disc(12, &fat);
	size_t all = d.bytes;

	for (d.bytes = (size_t)(fat.p - d.p); d.bytes < all; d.bytes += 256) {
		struct vmplat_iso_file *f;
		uint8_t buf[FAT_LONG_BYTES];
		struct vmplat_iso *iso;
		int errors;

		REQUIRE(!vmplat_iso_open(&iso, disc_fd(&d)));
		if (!vmplat_iso_use(iso, VMPLAT_ISO_EFI)) {
			CHECK(walk(iso, 0, &errors) >= 0);
			if (!vmplat_iso_file_open_path(&f, iso, long_path)) {
				CHECK_EQ(vmplat_iso_file_read(f, buf, sizeof(buf), 0), sizeof(buf));
				CHECK(buf[0] == '1' && buf[FAT_LONG_BYTES - 1] == '3');
				vmplat_iso_file_close(f);
			}
		}
		vmplat_iso_close(iso);
	}
	disc_free(&d);
}

/* ---- without a plan ---------------------------------------------------- */

static void survive(struct disc *d)
{
	struct heard h = { .want = "" };
	struct vmplat_iso *iso;
	int fd = disc_fd(d), errors;

	if (vmplat_iso_open(&iso, fd)) {
		close(fd);
		return;
	}
	for (int t = 1; t < VMPLAT_ISO_NR_TREES; t++)
		if (!vmplat_iso_use(iso, t))
			CHECK(walk(iso, VMPLAT_ISO_WALK_ALL, &errors) >= 0);
	vmplat_iso_on_issue(iso, listen, &h);
	vmplat_iso_boot(iso, NULL, 0);
	vmplat_iso_close(iso);
}

/* Cut short at every sector: never more than there is, always an end. */
TEST(cut_short)
{
	struct disc d = iso_disc();
	size_t all = d.bytes;

	for (d.bytes = 0; d.bytes < all; d.bytes += 1024)
		survive(&d);
	disc_free(&d);
}

TEST(random_bytes)
{
	uint64_t seed = 11;

	for (int round = 0; round < 600; round++) {
		struct disc d = round % 3 ? iso_disc() : udf_disc(round / 3 % 4);
		size_t first = AT_PVD * SECT;

		for (int i = 0; i <= round % 7; i++) {
			seed = seed * 6364136223846793005ULL + 1442695040888963407ULL;
			/* mostly where the structures are */
			d.p[first + (seed >> 24) % (36 * SECT)] = seed >> 56;
		}
		survive(&d);
		disc_free(&d);
	}
}

/* A directory of a hundred thousand names, and of as many directories: memory stays small. */
TEST(memory)
{
	struct disc d = disc_new(22 + 3000);
	struct dirw w = { &d, 22, 0 };
	struct rusage before, after;
	struct vmplat_iso *iso;
	struct heard h = { .want = "" };
	int errors, nr = 0;

	volume(&d, AT_PVD, 1, 18, 19, 22, 10);
	memcpy(sector(&d, 17), "\377CD001\1", 7);
	add_dots(&w, 22, NULL, NULL);
	while (w.at < 2990 * SECT) {
		char id[24];

		snprintf(id, sizeof(id), "F%07d.;1", nr++);
		add_record(&w, id, 11, 23, 5, 0, NULL);
	}
	both32(sector(&d, AT_PVD) + 166, 3000 * SECT);
	REQUIRE(!vmplat_iso_open(&iso, disc_fd(&d)));
	getrusage(RUSAGE_SELF, &before);
	CHECK_EQ(walk(iso, 0, &errors), nr);
	vmplat_iso_on_issue(iso, listen, &h);
	CHECK(vmplat_iso_check(iso, NULL, NULL) >= 0);
	getrusage(RUSAGE_SELF, &after);
	/* ASan keeps what was freed, hence not the 16 MiB that the command is held to */
	printf("# %d names, %ld KiB more\n", nr, after.ru_maxrss - before.ru_maxrss);
	CHECK(after.ru_maxrss - before.ru_maxrss < 32 << 10);
	vmplat_iso_close(iso);
	disc_free(&d);
}

int main(void)
{
	RUN(iso_damaged);
	RUN(zisofs_data);
	RUN(udf_damaged);
	RUN(fat_damaged);
	RUN(fat_cut_short);
	RUN(cut_short);
	RUN(random_bytes);
	RUN(memory);
	return tap_done();
}
