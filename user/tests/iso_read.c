/* SPDX-License-Identifier: GPL-2.0-only */
/* Reading discs that are right: every tree, kind of file and kind of UDF partition. */
#include <sys/stat.h>

#include "iso_image.h"
#include "tap.h"

static struct vmplat_iso *open_disc(struct disc *d)
{
	struct vmplat_iso *iso;
	int fd = disc_fd(d);

	if (vmplat_iso_open(&iso, fd)) {
		printf("# %s\n", vmplat_last_error());
		close(fd);
		return NULL;
	}
	return iso;
}

static bool find(struct vmplat_iso *iso, const char *path, struct vmplat_iso_entry *e)
{
	if (!vmplat_iso_lookup(iso, path, 0, e))
		return true;
	printf("# %s: %s\n", path, vmplat_last_error());
	return false;
}

static bool contents(struct vmplat_iso *iso, const char *path, const void *want, size_t len)
{
	static uint8_t buf[100000];
	struct vmplat_iso_file *f;
	ssize_t n;
	bool same;

	if (vmplat_iso_file_open_path(&f, iso, path)) {
		printf("# %s: %s\n", path, vmplat_last_error());
		return false;
	}
	n = vmplat_iso_file_read(f, buf, sizeof(buf), 0);
	same = n == (ssize_t)len && !memcmp(buf, want, len);
	/* and piecewise, from odd places */
	for (size_t at = 1; same && at < len; at += 777) {
		n = vmplat_iso_file_read(f, buf, 100, at);
		same = n == (ssize_t)(len - at < 100 ? len - at : 100) &&
		       !memcmp(buf, (const uint8_t *)want + at, n);
	}
	same &= vmplat_iso_file_read(f, buf, 1, len) == 0;
	vmplat_iso_file_close(f);
	return same;
}

static void print_issue(void *ctx, const struct vmplat_iso_issue *i)
{
	printf("# %s at %llu, %s: %s\n", i->name, (unsigned long long)i->offset,
	       i->path ? i->path : "-", i->text);
	if (i->severity != VMPLAT_ISO_NOTE && strcmp(i->name, "tree-only"))
		(*(unsigned int *)ctx)++;
}

static unsigned int complaints(struct vmplat_iso *iso)
{
	unsigned int nr = 0;

	vmplat_iso_on_issue(iso, print_issue, &nr);
	CHECK(vmplat_iso_check(iso, NULL, NULL) == 0);
	vmplat_iso_on_issue(iso, NULL, NULL);
	return nr;
}

TEST(rock_ridge)
{
	struct disc d = iso_disc();
	struct vmplat_iso *iso = open_disc(&d);
	static uint8_t multi[MULTI_BYTES], inter[INTER_BYTES], zf[ZF_BYTES];
	struct vmplat_iso_entry e;

	REQUIRE(iso);
	CHECK_EQ(vmplat_iso_trees(iso), 1 << VMPLAT_ISO_PLAIN | 1 << VMPLAT_ISO_RR |
		 1 << VMPLAT_ISO_JOLIET | 1 << VMPLAT_ISO_1999 | 1 << VMPLAT_ISO_EFI);
	CHECK_EQ(vmplat_iso_tree(iso), VMPLAT_ISO_RR);
	CHECK(!strcmp(vmplat_iso_rr_version(iso), "RRIP_1991A"));
	REQUIRE(find(iso, "hello-world", &e));
	CHECK_EQ(e.st.mode, 0100644);
	CHECK_EQ(e.st.uid, 1000);
	CHECK_EQ(e.st.gid, 100);
	CHECK_EQ(e.st.times, VMPLAT_ISO_MTIME | VMPLAT_ISO_ATIME | VMPLAT_ISO_BTIME);
	CHECK_EQ(e.st.mtime.tv_sec, 951824096);	/* 2000-02-29T11:34:56Z */
	CHECK(contents(iso, "/hello-world", hello, HELLO_BYTES));
	CHECK(find(iso, "link", &e) && S_ISLNK(e.st.mode) && !strcmp(e.link, "../sub/there"));
	CHECK(find(iso, "null", &e) && e.st.rdev_major == 1 && e.st.rdev_minor == 3);
	CHECK(find(iso, "deep/bottom", &e));
	CHECK(contents(iso, "sub/../deep/./bottom", hello, HELLO_BYTES));
	CHECK(find(iso, "deep", &e) && (e.st.flags & VMPLAT_ISO_RELOCATED) && e.st.mode == 040700);
	CHECK_EQ(vmplat_iso_lookup(iso, "rr_moved/deep", 0, &e), -ENOENT);
	CHECK_EQ(vmplat_iso_lookup(iso, "hello-world/x", 0, &e), -ENOTDIR);
	CHECK_EQ(vmplat_iso_lookup(iso, "HELLO-WORLD", 0, &e), -ENOENT);
	for (unsigned int i = 0; i < MULTI_BYTES; i++)
		multi[i] = '1' + i / SECT;
	CHECK(contents(iso, "multi", multi, sizeof(multi)));
	for (unsigned int i = 0; i < INTER_BYTES; i++)
		inter[i] = 'a' + 2 * (i / SECT);
	CHECK(contents(iso, "interleaved", inter, sizeof(inter)));
	zf_contents(zf);
	CHECK(contents(iso, "sub/zf1", zf, sizeof(zf)));
	CHECK(contents(iso, "sub/zf2", zf, sizeof(zf)));
	CHECK_EQ(complaints(iso), 0);
	vmplat_iso_close(iso);
	disc_free(&d);
}

TEST(other_trees)
{
	struct disc d = iso_disc();
	struct vmplat_iso *iso = open_disc(&d);
	struct vmplat_iso_entry e;

	REQUIRE(iso);
	CHECK_EQ(vmplat_iso_use(iso, VMPLAT_ISO_UDF), -ENOENT);
	CHECK_EQ(vmplat_iso_use(iso, VMPLAT_ISO_JOLIET), 0);
	CHECK(contents(iso, "hello-world", hello, HELLO_BYTES));
	CHECK(contents(iso, "HELLO-world", hello, HELLO_BYTES));
	CHECK_EQ(vmplat_iso_use(iso, VMPLAT_ISO_1999), 0);
	CHECK(contents(iso, "a name of ISO 9660:1999 without version", hello, HELLO_BYTES));
	CHECK_EQ(vmplat_iso_use(iso, VMPLAT_ISO_PLAIN), 0);
	CHECK(contents(iso, "HELLO.TXT", hello, HELLO_BYTES));
	CHECK(contents(iso, "RR_MOVED/DEEP/bottom", hello, HELLO_BYTES));
	REQUIRE(find(iso, "OWNED", &e));
	CHECK_EQ(e.st.uid, 7);
	CHECK_EQ(e.st.gid, 8);
	CHECK_EQ(e.st.mode, 0100440);
	CHECK_EQ(e.st.pos, (AT_XAR + 1) * SECT);
	CHECK_EQ(e.st.btime.tv_sec, 915246245);
	/* an entry is of the tree it was found in */
	CHECK_EQ(vmplat_iso_use(iso, VMPLAT_ISO_RR), 0);
	struct vmplat_iso_file *f;

	CHECK_EQ(vmplat_iso_file_open(&f, iso, &e), -EINVAL);
	vmplat_iso_close(iso);
	disc_free(&d);
}

TEST(booting)
{
	struct disc d = iso_disc();
	struct vmplat_iso *iso = open_disc(&d);
	struct vmplat_iso_boot b[4];

	REQUIRE(iso);
	REQUIRE(vmplat_iso_boot(iso, b, 4) == 2);
	CHECK(b[0].bootable && b[0].is_default && b[0].platform == VMPLAT_ISO_BIOS);
	CHECK_EQ(b[0].load_bytes, 2048);
	CHECK_EQ(b[0].load_address, 0x7c00);
	CHECK(b[0].has_table && b[0].table_ok && !strcmp(b[0].bytes_from, "table"));
	CHECK_EQ(b[0].bytes, SECT);
	CHECK_EQ(b[1].platform, VMPLAT_ISO_UEFI);
	CHECK(!strcmp(b[1].bytes_from, "fat") && !strcmp(b[1].section_id, "UEFI"));
	CHECK_EQ(b[1].bytes, 16 * 512);
	CHECK_EQ(vmplat_iso_boot(iso, b, 1), 2);
	CHECK_EQ(vmplat_iso_partitions(iso, NULL, 0), 0);
	vmplat_iso_close(iso);
	disc_free(&d);
}

static const char *tree_of(struct vmplat_iso *iso)
{
	static char text[400];
	struct vmplat_iso_entry e;
	struct vmplat_iso_walk *w;

	*text = '\0';
	if (vmplat_iso_lookup(iso, "/", 0, &e) || vmplat_iso_walk_open(&w, iso, &e, "", 0))
		return "none";
	while (vmplat_iso_walk_next(w, &e) == 1)
		strcat(strcat(text, vmplat_iso_walk_path(w)), " ");
	vmplat_iso_walk_close(w);
	return text;
}

TEST(fat)
{
	static const unsigned int kinds[] = { 12, 16, 32 };

	for (int i = 0; i < 3; i++) {
		struct fat_volume f;
		struct disc d = fat_disc(kinds[i], &f);
		struct vmplat_iso *iso = open_disc(&d);
		uint8_t want[FAT_LONG_BYTES];
		struct vmplat_iso_entry e;

		REQUIRE(iso && !vmplat_iso_use(iso, VMPLAT_ISO_EFI));
		CHECK(!strcmp(tree_of(iso), "LOADER LOADER/ENTRY.CON lower.txt " FAT_LONG_NAME " "));
		for (unsigned int n = 0; n < sizeof(want); n++)
			want[n] = '1' + n / FAT_SECT;
		CHECK(contents(iso, FAT_LONG_NAME, want, sizeof(want)));
		CHECK(contents(iso, "/loader/entry.con", "title\n", 6));
		CHECK(contents(iso, "lower.txt", "", 0));
		REQUIRE(find(iso, FAT_LONG_NAME, &e));
		CHECK_EQ(e.st.mode, 0100444);
		CHECK_EQ(e.st.flags, VMPLAT_ISO_HIDDEN);
		CHECK_EQ(e.st.times, VMPLAT_ISO_MTIME);
		CHECK_EQ(e.st.mtime.tv_sec, 951827696);	/* 2000-02-29T12:34:56Z */
		CHECK(find(iso, "LOADER", &e) && S_ISDIR(e.st.mode));
		CHECK_EQ(vmplat_iso_lookup(iso, "gone.txt", 0, &e), -ENOENT);
		CHECK_EQ(vmplat_iso_lookup(iso, "lower.txt/x", 0, &e), -ENOTDIR);
		CHECK_EQ(complaints(iso), 0);
		vmplat_iso_close(iso);
		disc_free(&d);
	}
}

TEST(partition_tables)
{
	struct disc d = iso_disc();
	struct vmplat_iso_partition p[4];
	struct vmplat_iso *iso;
	uint8_t *g = d.p + 512, *a = d.p + 2048;

	/* MBR, GPT with one entry at block 2, Apple map with blocks of 2048 */
	memcpy(d.p, "ER\10\0", 4);
	wr16(d.p + 510, 0xaa55);
	d.p[446] = 0x80;
	d.p[450] = 0x17;
	wr32(d.p + 454, 4);
	wr32(d.p + 458, 100);
	memcpy(g, "EFI PART", 8);
	wr32(g + 12, 92);
	wr64(g + 72, 2);
	wr32(g + 80, 1);
	wr32(g + 84, 128);
	memcpy(g + 512, "\xa2\xa0\xd0\xeb\xe5\xb9\x33\x44\x87\xc0\x68\xb6\xb7\x26\x99\xc7", 16);
	wr64(g + 512 + 32, 40);
	wr64(g + 512 + 40, 49);
	memcpy(g + 512 + 56, "I\0S\0O", 6);
	wr32(g + 88, crc32(0, g + 512, 128));
	wr32(g + 16, crc32(0, g, 92));
	memcpy(a, "PM", 2);
	wb32(a + 4, 1);
	wb32(a + 8, 1);
	wb32(a + 12, 7);
	memcpy(a + 16, "map", 3);
	memcpy(a + 48, "Apple_partition_map", 19);
	iso = open_disc(&d);
	REQUIRE(iso);
	REQUIRE(vmplat_iso_partitions(iso, p, 4) == 3);
	CHECK(p[0].scheme == VMPLAT_ISO_MBR && p[0].active && p[0].pos == 2048 && p[0].bytes == 51200);
	CHECK(p[1].scheme == VMPLAT_ISO_GPT && p[1].pos == 40 * 512 && p[1].bytes == 5120);
	CHECK(!strcmp(p[1].type, "ebd0a0a2-b9e5-4433-87c0-68b6b72699c7") && !strcmp(p[1].name, "ISO"));
	CHECK(p[2].scheme == VMPLAT_ISO_APM && p[2].pos == 2048 && p[2].bytes == 7 * 2048);
	CHECK_EQ(complaints(iso), 0);
	vmplat_iso_close(iso);
	disc_free(&d);
}

/* More than 4 GiB in two sections, on a sparse image: lengths and places do not wrap. */
TEST(large)
{
	static const uint64_t first = 0xfffff800, total = 0xfffff800 + 3000ULL;
	struct disc d = iso_disc();
	uint8_t *r = find_record(&d, AT_ROOT, "MULTI.;1", 8), *next = r + r[0];
	uint32_t end = NR_SECTORS + first / SECT;
	struct vmplat_iso_extent x;
	struct vmplat_iso_file *f;
	struct vmplat_iso_entry e;
	struct vmplat_iso *iso;
	char buf[16];
	int fd;

	both32(r + 2, NR_SECTORS);
	both32(r + 10, first);
	both32(next + 2, end);
	both32(next + 10, 3000);
	next[25] = 0;
	/* the third record becomes a file of its own */
	memcpy(next + next[0] + 33, "OTHER.;1", 8);
	memcpy(find_field(next + next[0], "NM") + 5, "other", 5);
	fd = disc_fd(&d);
	REQUIRE(!ftruncate(fd, (end + 2ULL) * SECT));
	CHECK_EQ(pwrite(fd, "abcdef", 6, (uint64_t)end * SECT - 3), 6);
	CHECK_EQ(pwrite(fd, "z", 1, (uint64_t)end * SECT + 2999), 1);
	REQUIRE(!vmplat_iso_open(&iso, fd));
	REQUIRE(find(iso, "multi", &e));
	CHECK_EQ(e.st.bytes, total);
	CHECK_EQ(e.st.nr_sections, 2);
	REQUIRE(!vmplat_iso_file_open(&f, iso, &e));
	CHECK_EQ(vmplat_iso_file_read(f, buf, 6, first - 3), 6);
	CHECK(!memcmp(buf, "abcdef", 6));
	CHECK_EQ(vmplat_iso_file_read(f, buf, 10, total - 1), 1);
	CHECK_EQ(buf[0], 'z');
	CHECK_EQ(vmplat_iso_file_read(f, buf, 10, total), 0);
	/* sections that follow each other are one run */
	CHECK_EQ(vmplat_iso_file_extent(f, 5, &x), 1);
	CHECK_EQ(x.bytes, total - 5);
	vmplat_iso_file_close(f);
	CHECK_EQ(vmplat_iso_use(iso, VMPLAT_ISO_PLAIN), 0);
	CHECK(find(iso, "MULTI", &e) && e.st.bytes == total);
	vmplat_iso_close(iso);
	disc_free(&d);
}

/* A link that leads up beyond the root, which stays the root; and one to itself. */
TEST(links)
{
	struct disc d = iso_disc();
	uint8_t *sl = find_field(find_record(&d, AT_ROOT, "LINK.;1", 7), "SL");
	struct vmplat_iso_entry e;
	struct vmplat_iso *iso;

	iso = open_disc(&d);
	REQUIRE(iso);
	CHECK_EQ(vmplat_iso_lookup(iso, "link", VMPLAT_ISO_FOLLOW, &e), -ENOENT);
	vmplat_iso_close(iso);
	memcpy(sl + 5, "\4\0\4\0\2\0\2\0\0\4link", 14);
	iso = open_disc(&d);
	REQUIRE(iso);
	CHECK_EQ(vmplat_iso_lookup(iso, "link", VMPLAT_ISO_FOLLOW, &e), -ELOOP);
	CHECK_EQ(vmplat_iso_lookup(iso, "link/x", 0, &e), -ELOOP);
	CHECK_EQ(vmplat_iso_lookup(iso, "link", 0, &e), 0);
	vmplat_iso_close(iso);
	disc_free(&d);
}

static void read_udf(enum udf_kind kind)
{
	static uint8_t want[2 * SECT + HELLO_BYTES];
	struct disc d = udf_disc(kind);
	struct vmplat_iso *iso = open_disc(&d);
	struct vmplat_iso_entry e;
	struct vmplat_iso_volume v;
	int nr = 0;

	REQUIRE(iso);
	CHECK_EQ(vmplat_iso_trees(iso), 1 << VMPLAT_ISO_UDF);
	memset(want, 'u', SECT);
	memset(want + SECT, 0, SECT);
	memcpy(want + 2 * SECT, hello, HELLO_BYTES);
	CHECK(contents(iso, "hello-world", want, sizeof(want)));
	REQUIRE(find(iso, "hello-world", &e));
	CHECK_EQ(e.st.mode, 0100444);
	CHECK_EQ(e.st.uid, 1000);
	CHECK_EQ(e.st.stored_bytes, SECT + HELLO_BYTES);
	CHECK_EQ(e.st.mtime.tv_sec, 951824096);
	CHECK(find(iso, "link", &e) && S_ISLNK(e.st.mode) && !strcmp(e.link, "../sub"));
	CHECK(find(iso, "sub", &e) && S_ISDIR(e.st.mode));
	CHECK_EQ(vmplat_iso_lookup(iso, "deleted", 0, &e), -ENOENT);
	while (vmplat_iso_volume(iso, nr, &v) == 1)
		nr++;
	CHECK_EQ(nr, 4);
	CHECK(!strcmp(v.volume_id, "BY HAND"));
	CHECK_EQ(complaints(iso), 0);
	vmplat_iso_close(iso);
	disc_free(&d);
}

TEST(udf_plain)
{
	read_udf(UDF_PLAIN);
}

TEST(udf_virtual)
{
	read_udf(UDF_VIRTUAL);
}

TEST(udf_sparable)
{
	read_udf(UDF_SPARABLE);
}

TEST(udf_metadata)
{
	read_udf(UDF_METADATA);
}

int main(void)
{
	RUN(rock_ridge);
	RUN(other_trees);
	RUN(booting);
	RUN(fat);
	RUN(partition_tables);
	RUN(large);
	RUN(links);
	RUN(udf_plain);
	RUN(udf_virtual);
	RUN(udf_sparable);
	RUN(udf_metadata);
	return tap_done();
}
