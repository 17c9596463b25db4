/* SPDX-License-Identifier: LGPL-2.1-or-later */
/*
 * Disc images made by hand, a byte at a time, for tests and for the fuzz target: small,
 * with everything the reader knows, and with names for the places to damage.
 */
#ifndef VMPLAT_TESTS_ISO_IMAGE_H
#define VMPLAT_TESTS_ISO_IMAGE_H

#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <unistd.h>
#include <zlib.h>

#include "image/iso.h"

#define SECT 2048u

/* Sectors of the ISO 9660 disc. */
enum {
	AT_PVD = 16, AT_BOOT, AT_JOLIET, AT_1999, AT_TERM,
	AT_L, AT_M, AT_JL, AT_JM, AT_EL, AT_EM, AT_CATALOG,
	AT_ROOT, AT_SUB, AT_MOVED, AT_DEEP, AT_JROOT, AT_JSUB, AT_EROOT, AT_ESUB,
	AT_CE, AT_CE2, AT_XAR, AT_HELLO, AT_MULTI1, AT_MULTI2, AT_MULTI3, AT_INTER,
	AT_ZF1 = AT_INTER + 6, AT_ZF2, AT_BOOTIMG, AT_FAT, AT_END = AT_FAT + 4,
};

#define NR_SECTORS AT_END

struct disc {
	uint8_t *p;
	size_t bytes;
};

static inline void wr16(uint8_t *p, uint16_t v)
{
	p[0] = v;
	p[1] = v >> 8;
}

static inline void wr32(uint8_t *p, uint32_t v)
{
	wr16(p, v);
	wr16(p + 2, v >> 16);
}

static inline void wr64(uint8_t *p, uint64_t v)
{
	wr32(p, v);
	wr32(p + 4, v >> 32);
}

static inline void wb16(uint8_t *p, uint16_t v)
{
	p[0] = v >> 8;
	p[1] = v;
}

static inline void wb32(uint8_t *p, uint32_t v)
{
	wb16(p, v >> 16);
	wb16(p + 2, v);
}

static inline void both16(uint8_t *p, uint16_t v)
{
	wr16(p, v);
	wb16(p + 2, v);
}

static inline void both32(uint8_t *p, uint32_t v)
{
	wr32(p, v);
	wb32(p + 4, v);
}

#include "fat_image.h"

static inline uint8_t *sector(struct disc *d, uint32_t nr)
{
	return d->p + (size_t)nr * SECT;
}

static inline struct disc disc_new(size_t sectors)
{
	return (struct disc) { calloc(sectors, SECT), sectors * SECT };
}

static inline void disc_free(struct disc *d)
{
	free(d->p);
	d->p = NULL;
}

/* A file without a name that holds the image. */
static inline int disc_fd(const struct disc *d)
{
	int fd = memfd_create("disc", MFD_CLOEXEC);

	if (fd < 0 || write(fd, d->p, d->bytes) != (ssize_t)d->bytes)
		abort();
	return fd;
}

/* ---- ISO 9660 ---------------------------------------------------------- */

static inline void date7(uint8_t *p)
{
	static const uint8_t when[7] = { 100, 2, 29, 12, 34, 56, 4 };	/* 2000-02-29 +01:00 */

	memcpy(p, when, 7);
}

/* Fields behind a record's name, collected. */
struct susp {
	uint8_t p[254];
	size_t len;
};

static inline uint8_t *susp_add(struct susp *s, const char *name, size_t len)
{
	uint8_t *f = s->p + s->len;

	memset(f, 0, len);
	f[0] = name[0];
	f[1] = name[1];
	f[2] = len;
	f[3] = 1;
	s->len += len;
	return f;
}

static inline void susp_px(struct susp *s, uint32_t mode, uint32_t nlink, uint32_t ino)
{
	uint8_t *f = susp_add(s, "PX", 44);

	both32(f + 4, mode);
	both32(f + 12, nlink);
	both32(f + 20, 1000);
	both32(f + 28, 100);
	both32(f + 36, ino);
}

static inline void susp_nm(struct susp *s, const char *name)
{
	memcpy(susp_add(s, "NM", 5 + strlen(name)) + 5, name, strlen(name));
}

static inline void susp_ce(struct susp *s, uint32_t block, uint32_t off, uint32_t len)
{
	uint8_t *f = susp_add(s, "CE", 28);

	both32(f + 4, block);
	both32(f + 12, off);
	both32(f + 20, len);
}

/* A directory being written. */
struct dirw {
	struct disc *d;
	uint32_t lba;
	size_t at;
};

static inline uint8_t *add_record(struct dirw *w, const void *id, size_t id_len, uint32_t lba,
				  uint32_t bytes, uint8_t flags, const struct susp *s)
{
	size_t len = (33 + id_len + 1) & ~1u;
	uint8_t *r;

	len += s ? (s->len + 1) & ~1u : 0;
	if (w->at / SECT != (w->at + len - 1) / SECT)
		w->at = (w->at / SECT + 1) * SECT;
	r = sector(w->d, w->lba) + w->at;
	memset(r, 0, len);
	r[0] = len;
	both32(r + 2, lba);
	both32(r + 10, bytes);
	date7(r + 18);
	r[25] = flags;
	both16(r + 28, 1);
	r[32] = id_len;
	memcpy(r + 33, id, id_len);
	if (s)
		memcpy(r + ((33 + id_len + 1) & ~1u), s->p, s->len);
	w->at += len;
	return r;
}

static inline void add_dots(struct dirw *w, uint32_t parent, const struct susp *self,
			    const struct susp *up)
{
	add_record(w, "\0", 1, w->lba, SECT, 2, self);
	add_record(w, "\1", 1, parent, SECT, 2, up);
}

static inline size_t ucs2(uint8_t *out, const char *s)
{
	size_t n = 0;

	for (; *s; s++) {
		out[n++] = 0;
		out[n++] = *s;
	}
	return n;
}

static inline uint8_t *add_joliet(struct dirw *w, const char *name, uint32_t lba, uint32_t bytes,
				  uint8_t flags)
{
	uint8_t id[128];
	size_t len = ucs2(id, name);

	return add_record(w, id, len, lba, bytes, flags, NULL);
}

static inline void volume(struct disc *d, uint32_t at, uint8_t type, uint32_t l, uint32_t m,
			  uint32_t root, uint32_t table_bytes)
{
	uint8_t *v = sector(d, at);
	struct dirw w = { d, at, 156 };

	v[0] = type;
	memcpy(v + 1, "CD001\1", 6);
	memset(v + 8, ' ', 64);
	memcpy(v + 40, "MADE BY HAND", 12);
	both32(v + 80, d->bytes / SECT);
	both16(v + 120, 1);
	both16(v + 124, 1);
	both16(v + 128, SECT);
	both32(v + 132, table_bytes);
	wr32(v + 140, l);
	wb32(v + 148, m);
	add_record(&w, "\0", 1, root, SECT, 2, NULL);
	memset(v + 190, ' ', 623);
	for (int i = 0; i < 4; i++)
		memcpy(v + 813 + 17 * i, "2000022912345678\4", 17);
	v[881] = 1;
}

static inline size_t table_record(uint8_t *p, bool big, const void *id, size_t len, uint32_t lba,
				  uint16_t parent)
{
	p[0] = len;
	if (big) {
		wb32(p + 2, lba);
		wb16(p + 6, parent);
	} else {
		wr32(p + 2, lba);
		wr16(p + 6, parent);
	}
	memcpy(p + 8, id, len);
	return 8 + len + (len & 1);
}

/* Both path tables of a root with the directories given; returns their length. */
struct table_dir {
	const void *id;
	size_t len;
	uint32_t lba;
	uint16_t parent;
};

static inline uint32_t tables(struct disc *d, uint32_t l, uint32_t m, uint32_t root,
			      const struct table_dir *dirs, size_t nr)
{
	size_t at = 0;

	for (int big = 0; big < 2; big++) {
		uint8_t *p = sector(d, big ? m : l);

		at = table_record(p, big, "\0", 1, root, 1);
		for (size_t i = 0; i < nr; i++)
			at += table_record(p + at, big, dirs[i].id, dirs[i].len, dirs[i].lba,
					   dirs[i].parent);
	}
	return at;
}

static const char hello[] = "hello, disc\n";
#define HELLO_BYTES (sizeof(hello) - 1)
#define ZF_BYTES 40000u		/* two blocks of 32 KiB, the second all zero */

static inline void zf_contents(uint8_t *out)
{
	memset(out, 0, ZF_BYTES);
	for (unsigned int i = 0; i < 32768; i++)
		out[i] = i / 100;
}

/* The compressed file; returns its length. */
static inline uint32_t zf_file(uint8_t *p, int version)
{
	static const uint8_t magic[2][8] = {
		{ 0x37, 0xe4, 0x53, 0x96, 0xc9, 0xdb, 0xd6, 0x07 },
		{ 0xef, 0x22, 0x55, 0xa1, 0xbc, 0x1b, 0x95, 0xa0 },
	};
	static uint8_t plain[ZF_BYTES];
	uint32_t head = version == 1 ? 16 : 24, each = version == 1 ? 4 : 8;
	uint32_t data = head + 3 * each;
	uLongf len = SECT - data;

	zf_contents(plain);
	memcpy(p, magic[version - 1], 8);
	if (compress2(p + data, &len, plain, 32768, 9) != Z_OK)
		abort();
	if (version == 1) {
		wr32(p + 8, ZF_BYTES);
		p[12] = head / 4;
		p[13] = 15;
		for (int i = 0; i < 3; i++)
			wr32(p + head + 4 * i, data + (i ? len : 0));
	} else {
		p[9] = head / 4;
		p[10] = 1;
		p[11] = 15;
		wr64(p + 12, ZF_BYTES);
		for (int i = 0; i < 3; i++)
			wr64(p + head + 8 * i, data + (i ? len : 0));
	}
	return data + len;
}

static inline void susp_zf(struct susp *s, int version)
{
	uint8_t *f = susp_add(s, "ZF", 16);

	memcpy(f + 4, version == 1 ? "pz" : "PZ", 2);
	f[6] = version == 1 ? 4 : 6;
	f[7] = 15;
	if (version == 1)
		both32(f + 8, ZF_BYTES);
	else
		wr64(f + 8, ZF_BYTES);
}

#define MULTI_BYTES (2 * SECT + 100)	/* three sections of the multi-extent file, out of order */
#define INTER_BYTES (2 * SECT + 50)	/* one block, one gap, and so on */

static inline void root_directory(struct disc *d)
{
	struct dirw w = { d, AT_ROOT, 0 };
	struct susp s = { .len = 0 }, up = { .len = 0 };
	uint8_t *f, *ce = sector(d, AT_CE), *r;

	f = susp_add(&s, "SP", 7);
	f[4] = 0xbe;
	f[5] = 0xef;
	susp_px(&s, 0040755, 3, 1);
	susp_ce(&s, AT_CE, 0, 18);
	f = ce;
	memcpy(f, "ER\x12\1\x0a\0\0\1RRIP_1991A", 18);
	susp_px(&up, 0040755, 3, 1);
	add_dots(&w, AT_ROOT, &s, &up);

	/* a directory that was moved: a child link */
	s.len = 0;
	susp_px(&s, 0040700, 2, 9);
	susp_nm(&s, "deep");
	both32(susp_add(&s, "CL", 12) + 4, AT_DEEP);
	add_record(&w, "DEEP.;1", 7, AT_HELLO, 0, 0, &s);

	/* a name and a link that go on in a continuation area */
	s.len = 0;
	susp_px(&s, 0100644, 1, 2);
	f = susp_add(&s, "NM", 5 + 6);
	f[4] = 1;
	memcpy(f + 5, "hello-", 6);
	susp_ce(&s, AT_CE, 100, 5 + 5 + 26);
	f = ce + 100;
	memcpy(f, "NM\x0a\1\0world", 10);
	f += 10;
	memcpy(f, "TF\x1a\1\x07", 5);
	date7(f + 5);
	date7(f + 12);
	date7(f + 19);
	add_record(&w, "HELLO.TXT;1", 11, AT_HELLO, HELLO_BYTES, 0, &s);

	/* interleaved: XA and hidden as well */
	s.len = 0;
	susp_px(&s, 0100644, 1, 3);
	susp_nm(&s, "interleaved");
	r = add_record(&w, "INTER.;1", 8, AT_INTER, INTER_BYTES, 1, &s);
	r[26] = 1;
	r[27] = 1;

	s.len = 0;
	susp_px(&s, 0120777, 1, 4);
	susp_nm(&s, "link");
	f = susp_add(&s, "SL", 5 + 2 + 2 + 3 + 2 + 5);
	memcpy(f + 5, "\4\0\0\3sub\0\5there", 14);
	add_record(&w, "LINK.;1", 7, 0, 0, 0, &s);

	for (int i = 0; i < 3; i++) {
		static const uint32_t at[] = { AT_MULTI1, AT_MULTI3, AT_MULTI2 };

		s.len = 0;
		susp_px(&s, 0100600, 1, 5);
		susp_nm(&s, "multi");
		add_record(&w, "MULTI.;1", 8, at[i], i < 2 ? SECT : 100, i < 2 ? 0x80 : 0, &s);
	}
	/* a device, a resource fork, and a file with an extended attribute record */
	s.len = 0;
	susp_px(&s, 0020660, 1, 6);
	susp_nm(&s, "null");
	f = susp_add(&s, "PN", 20);
	both32(f + 4, 0);
	both32(f + 12, 0x103);
	add_record(&w, "NULL.;1", 7, 0, 0, 0, &s);
	s.len = 0;
	susp_nm(&s, "fork");
	add_record(&w, "OWNED.;1", 8, AT_HELLO, HELLO_BYTES, 4, &s);
	s.len = 0;
	susp_nm(&s, "owned");
	r = add_record(&w, "OWNED.;1", 8, AT_XAR, HELLO_BYTES, 0x10, &s);
	r[1] = 1;
	s.len = 0;
	susp_px(&s, 0040755, 2, 7);
	susp_nm(&s, "rr_moved");
	add_record(&w, "RR_MOVED", 8, AT_MOVED, SECT, 2, &s);
	s.len = 0;
	susp_px(&s, 0040755, 2, 8);
	susp_nm(&s, "sub");
	add_record(&w, "SUB", 3, AT_SUB, SECT, 2, &s);
}

static inline void sub_directories(struct disc *d)
{
	struct dirw w = { d, AT_SUB, 0 };
	struct susp s = { .len = 0 }, up = { .len = 0 };

	susp_px(&s, 0040755, 2, 8);
	susp_px(&up, 0040755, 3, 1);
	add_dots(&w, AT_ROOT, &s, &up);
	s.len = 0;
	susp_px(&s, 0100644, 1, 10);
	susp_nm(&s, "zf1");
	susp_zf(&s, 1);
	add_record(&w, "ZF1.;1", 6, AT_ZF1, zf_file(sector(d, AT_ZF1), 1), 0, &s);
	s.len = 0;
	susp_px(&s, 0100644, 1, 11);
	susp_nm(&s, "zf2");
	susp_zf(&s, 2);
	add_record(&w, "ZF2.;1", 6, AT_ZF2, zf_file(sector(d, AT_ZF2), 2), 0, &s);

	w = (struct dirw) { d, AT_MOVED, 0 };
	s.len = 0;
	susp_px(&s, 0040755, 2, 7);
	add_dots(&w, AT_ROOT, &s, &up);
	s.len = 0;
	susp_px(&s, 0040700, 2, 9);
	susp_nm(&s, "deep");
	susp_add(&s, "RE", 4);
	add_record(&w, "DEEP", 4, AT_DEEP, SECT, 2, &s);

	w = (struct dirw) { d, AT_DEEP, 0 };
	s.len = 0;
	susp_px(&s, 0040700, 2, 9);
	up.len = 0;
	susp_px(&up, 0040755, 2, 7);
	both32(susp_add(&up, "PL", 12) + 4, AT_ROOT);
	add_dots(&w, AT_MOVED, &s, &up);
	s.len = 0;
	susp_px(&s, 0100644, 1, 12);
	susp_nm(&s, "bottom");
	add_record(&w, "BOTTOM.;1", 9, AT_HELLO, HELLO_BYTES, 0, &s);
}

static inline void other_trees(struct disc *d)
{
	struct dirw w = { d, AT_JROOT, 0 };

	add_dots(&w, AT_JROOT, NULL, NULL);
	add_joliet(&w, "hello-world", AT_HELLO, HELLO_BYTES, 0);
	add_joliet(&w, "sub", AT_JSUB, SECT, 2);
	w = (struct dirw) { d, AT_JSUB, 0 };
	add_dots(&w, AT_JROOT, NULL, NULL);
	w = (struct dirw) { d, AT_EROOT, 0 };
	add_dots(&w, AT_EROOT, NULL, NULL);
	add_record(&w, "a name of ISO 9660:1999 without version", 39, AT_HELLO, HELLO_BYTES, 0, NULL);
	add_record(&w, "sub", 3, AT_ESUB, SECT, 2, NULL);
	w = (struct dirw) { d, AT_ESUB, 0 };
	add_dots(&w, AT_EROOT, NULL, NULL);
}

static inline void boot_parts(struct disc *d)
{
	uint8_t *b = sector(d, AT_BOOT), *c = sector(d, AT_CATALOG), *img = sector(d, AT_BOOTIMG);
	struct fat_volume fat = fat_volume(sector(d, AT_FAT), 12);
	uint32_t sum = 0;
	uint16_t check = 0;

	memcpy(b, "\0CD001\1EL TORITO SPECIFICATION", 30);
	wr32(b + 71, AT_CATALOG);
	c[0] = 1;
	c[30] = 0x55;
	c[31] = 0xaa;
	for (int i = 0; i < 32; i += 2)
		check += le16(c + i);
	wr16(c + 28, -check);
	c[32] = 0x88;
	wr16(c + 38, 4);
	wr32(c + 40, AT_BOOTIMG);
	c[64] = 0x91;
	c[65] = 0xef;
	wr16(c + 66, 1);
	memcpy(c + 68, "UEFI", 4);
	c[96] = 0x88;
	wr32(c + 104, AT_FAT);
	/* the BIOS image with its information table, the other a FAT file system */
	for (unsigned int i = 64; i < SECT; i++)
		img[i] = i * 7;
	for (unsigned int i = 64; i < SECT; i += 4)
		sum += le32(img + i);
	wr32(img + 8, AT_PVD);
	wr32(img + 12, AT_BOOTIMG);
	wr32(img + 16, SECT);
	wr32(img + 20, sum);
	fat_make(&fat);
}

static inline struct disc iso_disc(void)
{
	static const struct table_dir plain[] = {
		{ "RR_MOVED", 8, AT_MOVED, 1 }, { "SUB", 3, AT_SUB, 1 }, { "DEEP", 4, AT_DEEP, 2 },
	};
	static const struct table_dir joliet[] = { { "\0s\0u\0b", 6, AT_JSUB, 1 } };
	static const struct table_dir enhanced[] = { { "sub", 3, AT_ESUB, 1 } };
	struct disc d = disc_new(NR_SECTORS);

	volume(&d, AT_PVD, 1, AT_L, AT_M, AT_ROOT, tables(&d, AT_L, AT_M, AT_ROOT, plain, 3));
	volume(&d, AT_JOLIET, 2, AT_JL, AT_JM, AT_JROOT,
	       tables(&d, AT_JL, AT_JM, AT_JROOT, joliet, 1));
	memcpy(sector(&d, AT_JOLIET) + 88, "%/E", 3);
	volume(&d, AT_1999, 2, AT_EL, AT_EM, AT_EROOT,
	       tables(&d, AT_EL, AT_EM, AT_EROOT, enhanced, 1));
	sector(&d, AT_1999)[6] = 2;
	sector(&d, AT_1999)[881] = 2;
	memcpy(sector(&d, AT_TERM), "\377CD001\1", 7);
	root_directory(&d);
	sub_directories(&d);
	other_trees(&d);
	boot_parts(&d);
	memcpy(sector(&d, AT_HELLO), hello, HELLO_BYTES);
	memset(sector(&d, AT_MULTI1), '1', SECT);
	memset(sector(&d, AT_MULTI3), '2', SECT);
	memset(sector(&d, AT_MULTI2), '3', 100);
	for (int i = 0; i < 5; i++)
		memset(sector(&d, AT_INTER + i), 'a' + i, SECT);
	/* the extended attribute record: owner 7, group 8, read for owner and group */
	both16(sector(&d, AT_XAR), 7);
	both16(sector(&d, AT_XAR) + 4, 8);
	wb16(sector(&d, AT_XAR) + 8, 0xffff & ~(1 << 4 | 1 << 8));
	memcpy(sector(&d, AT_XAR) + 10, "1999010203040506\0", 17);
	memcpy(sector(&d, AT_XAR) + 27, "1999020304050607\0", 17);
	return d;
}

/* The same with another FAT file system behind it, which @f tells of. */
static inline struct disc fat_disc(unsigned int bits, struct fat_volume *f)
{
	struct disc small = iso_disc(), d;

	*f = fat_volume(NULL, bits);
	d = disc_new(NR_SECTORS + (f->sectors + 3) / 4);
	memcpy(d.p, small.p, small.bytes);
	disc_free(&small);
	wr32(sector(&d, AT_CATALOG) + 104, NR_SECTORS);
	f->p = sector(&d, NR_SECTORS);
	fat_make(f);
	return d;
}

/* The record in the directory at @lba whose identifier is @id. */
static inline uint8_t *find_record(struct disc *d, uint32_t lba, const void *id, size_t len)
{
	uint8_t *p = sector(d, lba), *end = p + SECT;

	for (; p < end && *p; p += *p)
		if (p[32] == len && !memcmp(p + 33, id, len))
			return p;
	abort();
}

/* The first field of that name behind a record's name. */
static inline uint8_t *find_field(uint8_t *rec, const char *name)
{
	uint8_t *f = rec + ((33 + rec[32] + 1) & ~1u);

	for (; f + 4 <= rec + rec[0] && f[2]; f += f[2])
		if (f[0] == name[0] && f[1] == name[1])
			return f;
	abort();
}

/* ---- UDF --------------------------------------------------------------- */

/* Sectors; those from AT_PART on are block 0 and so on of the partition. */
enum {
	AT_VDS = 32, AT_SPARING = 48, AT_ANCHOR = 256, AT_PART = 257,
	P_FSD = 0, P_ROOT, P_ROOT_DATA, P_FILE, P_DATA, P_DATA2, P_LINK, P_SUB, P_CHAIN, P_AED,
	P_META = 10, P_VAT = 60, P_END,
};

#define NR_UDF_SECTORS (AT_PART + P_END)

enum udf_kind { UDF_PLAIN, UDF_VIRTUAL, UDF_SPARABLE, UDF_METADATA };

static inline uint16_t crc16(const uint8_t *p, size_t len)
{
	uint16_t crc = 0;

	while (len--) {
		crc ^= *p++ << 8;
		for (int i = 0; i < 8; i++)
			crc = crc << 1 ^ (crc & 0x8000 ? 0x1021 : 0);
	}
	return crc;
}

static inline void udf_tag(uint8_t *p, uint16_t id, uint32_t block, uint16_t len)
{
	memset(p, 0, 16);
	wr16(p, id);
	wr16(p + 2, 2);
	wr16(p + 8, crc16(p + 16, len));
	wr16(p + 10, len);
	wr32(p + 12, block);
	for (int i = 0; i < 16; i++)
		p[4] += i == 4 ? 0 : p[i];
}

static inline void udf_time(uint8_t *p)
{
	wr16(p, 0x1000 | 60);
	wr16(p + 2, 2000);
	memcpy(p + 4, "\2\35\14\42\70", 5);	/* 29 February, 12:34:56 */
}

/* A file entry without allocation descriptors; returns where they go. */
static inline uint8_t *udf_entry(uint8_t *p, uint8_t type, uint8_t ad, uint32_t perms,
				 uint64_t bytes, uint32_t ad_bytes)
{
	memset(p, 0, SECT);
	wr16(p + 20, 4);
	wr16(p + 24, 1);
	p[27] = type;
	wr16(p + 34, ad);
	wr32(p + 36, 1000);
	wr32(p + 40, 100);
	wr32(p + 44, perms);
	wr16(p + 48, 1);
	wr64(p + 56, bytes);
	udf_time(p + 72);
	udf_time(p + 84);
	udf_time(p + 96);
	wr64(p + 160, type);
	wr32(p + 172, ad_bytes);
	return p + 176;
}

static inline void udf_close(uint8_t *p, uint32_t block)
{
	udf_tag(p, 261, block, 160 + le32(p + 168) + le32(p + 172));
}

static inline size_t udf_fid(uint8_t *p, uint8_t flags, const char *name, uint16_t part,
			     uint32_t icb, uint32_t block)
{
	size_t len = name ? strlen(name) + 1 : 0;

	memset(p, 0, 38);
	wr16(p + 16, 1);
	p[18] = flags;
	p[19] = len;
	wr32(p + 20, SECT);
	wr32(p + 24, icb);
	wr16(p + 28, part);
	if (len) {
		p[38] = 8;
		memcpy(p + 39, name, len - 1);
	}
	udf_tag(p, 257, block, 22 + len);
	return (38 + len + 3) & ~3u;
}

/* Where a logical block of the tree is; metadata goes elsewhere in one kind. */
static inline uint8_t *udf_block(struct disc *d, enum udf_kind kind, uint32_t block)
{
	uint32_t at = block;

	if (kind == UDF_METADATA && block <= P_LINK && block != P_DATA && block != P_DATA2)
		at = P_META + 2 + block;
	if (kind == UDF_METADATA && (block == P_SUB || block == P_CHAIN || block == P_AED))
		at = P_META + 2 + block;
	if (kind == UDF_SPARABLE && block < 8)
		return sector(d, AT_SPARING + 4 + block);
	return sector(d, AT_PART + at);
}

static inline void udf_tree(struct disc *d, enum udf_kind kind)
{
	uint16_t part = kind == UDF_VIRTUAL || kind == UDF_METADATA, data = 0;
	uint8_t *p = udf_block(d, kind, P_FSD), *ad, *dir;
	size_t n = 0;

	wr32(p + 400, SECT);
	wr32(p + 404, P_ROOT);
	wr16(p + 408, part);
	udf_tag(p, 256, P_FSD, 496);

	dir = udf_block(d, kind, P_ROOT_DATA);
	n += udf_fid(dir + n, 8 | 2, NULL, part, P_ROOT, P_ROOT_DATA);
	n += udf_fid(dir + n, 0, "hello-world", part, P_FILE, P_ROOT_DATA);
	n += udf_fid(dir + n, 4, "deleted", part, P_FILE, P_ROOT_DATA);
	n += udf_fid(dir + n, 0, "link", part, P_LINK, P_ROOT_DATA);
	n += udf_fid(dir + n, 2, "sub", part, P_SUB, P_ROOT_DATA);
	p = udf_block(d, kind, P_ROOT);
	ad = udf_entry(p, 4, 0, 0x14a5, n, 8);
	wr32(ad, n);
	wr32(ad + 4, P_ROOT_DATA);
	udf_close(p, P_ROOT);

	/* hello: a block, a hole of a block, and the rest, the last two in another extent */
	p = udf_block(d, kind, P_FILE);
	ad = udf_entry(p, 5, 1, 0x1084, 2 * SECT + HELLO_BYTES, 32);
	wr32(ad, SECT);
	wr32(ad + 4, P_DATA);
	wr16(ad + 8, data);
	wr32(ad + 16, 3u << 30 | SECT);
	wr32(ad + 20, P_AED);
	wr16(ad + 24, part);
	udf_close(p, P_FILE);
	p = udf_block(d, kind, P_AED);
	wr32(p + 20, 32);
	wr32(p + 24, 2u << 30 | SECT);
	wr32(p + 40, HELLO_BYTES);
	wr32(p + 44, P_DATA2);
	wr16(p + 48, data);
	udf_tag(p, 258, P_AED, 8 + 32);
	p = udf_block(d, kind == UDF_SPARABLE ? kind : UDF_PLAIN, P_DATA);
	memset(p, 'u', SECT);
	memcpy(udf_block(d, kind == UDF_SPARABLE ? kind : UDF_PLAIN, P_DATA2), hello, HELLO_BYTES);

	p = udf_block(d, kind, P_LINK);
	ad = udf_entry(p, 12, 3, 0x1ce7, 4 + 4 + 4, 12);
	memcpy(ad, "\3\0\0\0\5\4\0\0\10sub", 12);
	udf_close(p, P_LINK);

	p = udf_block(d, kind, P_SUB);
	ad = udf_entry(p, 4, 3, 0x14a5, 40, 40);
	udf_fid(ad, 8 | 2, NULL, part, P_ROOT, P_SUB);
	udf_close(p, P_SUB);
}

static inline void udf_descriptors(struct disc *d, enum udf_kind kind)
{
	uint8_t *p = sector(d, AT_VDS), *pm;

	wr32(p + 16, 1);
	memcpy(p + 24, "\10UDF", 4);
	p[24 + 31] = 4;
	udf_time(p + 376);
	udf_tag(p, 1, AT_VDS, 496);
	p = sector(d, AT_VDS + 1);
	wr32(p + 16, 2);
	wr32(p + 188, AT_PART);
	wr32(p + 192, P_END);
	udf_tag(p, 5, AT_VDS + 1, 496);
	p = sector(d, AT_VDS + 2);
	wr32(p + 16, 3);
	memcpy(p + 84, "\10BY HAND", 8);
	p[84 + 127] = 8;
	wr32(p + 212, SECT);
	memcpy(p + 217, "*OSTA UDF Compliant", 19);
	wr16(p + 240, kind == UDF_PLAIN ? 0x102 : kind == UDF_METADATA ? 0x250 : 0x150);
	wr32(p + 248, SECT);
	wr32(p + 252, P_FSD);
	wr16(p + 256, kind == UDF_VIRTUAL || kind == UDF_METADATA);
	pm = p + 440;
	if (kind != UDF_SPARABLE) {
		pm[0] = 1;
		pm[1] = 6;
		wr16(pm + 2, 1);
		pm += 6;
	}
	if (kind != UDF_PLAIN) {
		static const char *const ids[] = {
			[UDF_VIRTUAL] = "*UDF Virtual Partition",
			[UDF_SPARABLE] = "*UDF Sparable Partition",
			[UDF_METADATA] = "*UDF Metadata Partition",
		};

		pm[0] = 2;
		pm[1] = 64;
		memcpy(pm + 5, ids[kind], strlen(ids[kind]));
		wr16(pm + 36, 1);
		if (kind == UDF_SPARABLE) {
			wr16(pm + 40, 8);
			pm[42] = 1;
			wr32(pm + 44, SECT);
			wr32(pm + 48, AT_SPARING);
		} else if (kind == UDF_METADATA) {
			wr32(pm + 40, P_META);
			wr32(pm + 44, P_META + 1);
		}
		pm += 64;
	}
	wr32(p + 264, pm - p - 440);
	wr32(p + 268, kind == UDF_VIRTUAL || kind == UDF_METADATA ? 2 : 1);
	udf_tag(p, 6, AT_VDS + 2, pm - p - 16);
	udf_tag(sector(d, AT_VDS + 3), 8, AT_VDS + 3, 496);
	p = sector(d, AT_ANCHOR);
	wr32(p + 16, 4 * SECT);
	wr32(p + 20, AT_VDS);
	wr32(p + 24, 4 * SECT);
	wr32(p + 28, AT_VDS);
	udf_tag(p, 2, AT_ANCHOR, 496);
}

/* What the kinds of partition need besides. */
static inline void udf_mapping(struct disc *d, enum udf_kind kind)
{
	uint8_t *p, *ad;

	if (kind == UDF_SPARABLE) {
		p = sector(d, AT_SPARING);
		memcpy(p + 17, "*UDF Sparing Table", 18);
		wr16(p + 48, 1);
		wr32(p + 56, 0);
		wr32(p + 60, AT_SPARING + 4);
		udf_tag(p, 0, AT_SPARING, 48);
	} else if (kind == UDF_METADATA) {
		/* the metadata file is the blocks behind its two entries */
		for (int i = 0; i < 2; i++) {
			p = sector(d, AT_PART + P_META + i);
			ad = udf_entry(p, 250 + i, 0, 0, 16 * SECT, 8);
			wr32(ad, 16 * SECT);
			wr32(ad + 4, P_META + 2);
			udf_close(p, P_META + i);
		}
	} else if (kind == UDF_VIRTUAL) {
		/* the table inside its entry, in the last block; blocks are where they are */
		p = sector(d, AT_PART + P_VAT);
		ad = udf_entry(p, 248, 3, 0, 152 + 4 * P_META, 152 + 4 * P_META);
		wr16(ad, 152);
		for (int i = 0; i < P_META; i++)
			wr32(ad + 152 + 4 * i, i);
		udf_close(p, P_VAT);
	}
}

static inline struct disc udf_disc(enum udf_kind kind)
{
	struct disc d = disc_new(NR_UDF_SECTORS);

	memcpy(sector(&d, 16), "\0BEA01\1", 7);
	memcpy(sector(&d, 17), "\0NSR02\1", 7);
	memcpy(sector(&d, 18), "\0TEA01\1", 7);
	udf_descriptors(&d, kind);
	udf_mapping(&d, kind);
	udf_tree(&d, kind);
	return d;
}

#endif /* VMPLAT_TESTS_ISO_IMAGE_H */
