/* SPDX-License-Identifier: LGPL-2.1-or-later */
/*
 * Kernel images: what is taken, what is refused, and with which words; payloads in
 * every compression, relocations. Kernels of the test host are used where it has any.
 */
#include <elf.h>
#include <errno.h>
#include <fcntl.h>
#include <lz4.h>
#include <bzlib.h>
#include <lzma.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>
#include <zlib.h>
#include <zstd.h>

#include "image/kernel.h"
#include "tap.h"

#define MIB		(1ULL << 20)
#define SETUP_BYTES	(5 * 512)
#define FILE_BYTES	(SETUP_BYTES + 65536)

static uint8_t *bzimage(struct setup_header *h)
{
	uint8_t *p = calloc(1, FILE_BYTES);

	h->setup_sects = 4;
	h->syssize = 65536 / 16;
	h->boot_flag = 0xaa55;
	h->jump = 0x6aeb;	/* the header ends at 0x202 + 0x6a */
	h->header = 0x53726448;
	h->version = 0x20f;
	h->loadflags = LOADED_HIGH;
	h->xloadflags = XLF_KERNEL_64;
	h->relocatable_kernel = 1;
	h->kernel_alignment = 0x200000;
	h->pref_address = 16 * MIB;
	h->init_size = 40 * MIB;
	memcpy(p + 0x1f1, h, sizeof(*h));
	return p;
}

struct placed {
	struct kernel_part parts[KERNEL_PARTS_MAX];
	unsigned int nr_parts;
	uint64_t entry, end;
};

static const char *last_why;

/* what the runner does with a file */
static int parse(const uint8_t *p, size_t len, uint64_t ram, struct placed *out)
{
	const char *why = NULL;
	struct bzimage b;
	struct elf_image e;
	int ret;

	memset(out, 0, sizeof(*out));
	last_why = NULL;
	if (bzimage_is(p, len)) {
		ret = bzimage_parse(&b, p, len, len, &why);
		if (!ret && bzimage_obstacle(&b))
			ret = -ENOEXEC, why = bzimage_obstacle(&b);
		out->nr_parts = 1;
		if (!ret)
			ret = bzimage_place(&b, ram, out->parts, &out->entry, &out->end, &why);
	} else if (elf_is(p, len)) {
		ret = elf_parse(&e, p, len, &why);
		if (!ret && elf_obstacle(&e))
			ret = -ENOEXEC, why = elf_obstacle(&e);
		if (!ret)
			ret = elf_fits(&e, ram, &why);
		if (!ret) {
			memcpy(out->parts, e.parts, sizeof(e.parts));
			out->nr_parts = e.nr_parts;
			out->entry = e.entry;
			out->end = e.end;
		}
	} else {
		return -ENOEXEC;
	}
	last_why = why;
	if (ret && (!why || !*why))
		printf("# no reason given\n");
	return ret;
}

TEST(a_kernel)
{
	struct setup_header h = { 0 };
	struct placed img;
	uint8_t *p = bzimage(&h);

	CHECK_EQ(parse(p, FILE_BYTES, 512 * MIB, &img), 0);
	CHECK_EQ(img.entry, 16 * MIB + 0x200);
	CHECK_EQ(img.parts[0].off, SETUP_BYTES);
	CHECK_EQ(img.end, 56 * MIB);
	/* less memory: lower, if it may move; else refused */
	CHECK_EQ(parse(p, FILE_BYTES, 48 * MIB, &img), 0);
	CHECK_EQ(img.entry, 2 * MIB + 0x200);
	CHECK_EQ(parse(p, FILE_BYTES, 32 * MIB, &img), -EFBIG);
	h.relocatable_kernel = 0;
	memcpy(p + 0x1f1, &h, sizeof(h));
	CHECK_EQ(parse(p, FILE_BYTES, 48 * MIB, &img), -EFBIG);
	free(p);
}

TEST(not_for_us)
{
	struct setup_header h = { 0 };
	struct placed img;
	uint8_t *p = bzimage(&h);
	struct setup_header bad;

	bad = h;
	bad.version = 0x20b;
	memcpy(p + 0x1f1, &bad, sizeof(bad));
	CHECK_EQ(parse(p, FILE_BYTES, 512 * MIB, &img), -ENOEXEC);
	bad = h;
	bad.xloadflags = 0;
	memcpy(p + 0x1f1, &bad, sizeof(bad));
	CHECK_EQ(parse(p, FILE_BYTES, 512 * MIB, &img), -ENOEXEC);
	bad = h;
	bad.loadflags = 0;
	memcpy(p + 0x1f1, &bad, sizeof(bad));
	CHECK_EQ(parse(p, FILE_BYTES, 512 * MIB, &img), -ENOEXEC);
	free(p);
	CHECK_EQ(parse((const uint8_t *)"", 0, 512 * MIB, &img), -ENOEXEC);
	CHECK_EQ(parse((const uint8_t *)"\x1f\x8b", 2, 512 * MIB, &img), -ENOEXEC);
	CHECK_EQ(parse((const uint8_t *)"#!/bin/sh\n", 10, 512 * MIB, &img), -ENOEXEC);
}

TEST(every_length)
{
	struct setup_header h = { 0 };
	struct placed img;
	uint8_t *p = bzimage(&h);

	for (size_t n = 0; n < FILE_BYTES - 16; n += n < 0x300 ? 1 : 509) {
		uint8_t *copy = malloc(n ? n : 1);

		memcpy(copy, p, n);
		CHECK(parse(copy, n, 512 * MIB, &img) < 0);
		free(copy);
	}
	free(p);
}

/* no header makes a part that lies outside the file or the memory */
static void check_parts(const struct placed *img, size_t len, uint64_t ram)
{
	for (unsigned int i = 0; i < img->nr_parts; i++) {
		const struct kernel_part *s = &img->parts[i];

		CHECK(s->off <= len && s->file_bytes <= len - s->off);
		CHECK(s->file_bytes <= s->mem_bytes);
		CHECK(s->gpa <= ram && s->mem_bytes <= ram - s->gpa);
	}
}

TEST(random_headers)
{
	struct setup_header h = { 0 };
	uint8_t *p = bzimage(&h);
	uint64_t seed = 7;

	for (int round = 0; round < 50000; round++) {
		uint8_t *q = p + 0x1f1 + (seed >> 33) % sizeof(h);
		struct placed img;
		uint8_t was = *q;

		*q = (uint8_t)(seed >> 56);
		if (!parse(p, FILE_BYTES, 64 * MIB, &img))
			check_parts(&img, FILE_BYTES, 64 * MIB);
		if (round % 4)
			*q = was;
		else if (round % 64 == 0)
			memcpy(p + 0x1f1, &h, sizeof(h));
		seed = seed * 6364136223846793005ULL + 1442695040888963407ULL;
	}
	free(p);
}

struct elf {
	Elf64_Ehdr eh;
	Elf64_Phdr ph[2];
	uint8_t text[256];
};

static void elf(struct elf *e)
{
	memset(e, 0, sizeof(*e));
	memcpy(e->eh.e_ident, ELFMAG, SELFMAG);
	e->eh.e_ident[EI_CLASS] = ELFCLASS64;
	e->eh.e_type = ET_EXEC;
	e->eh.e_machine = EM_X86_64;
	e->eh.e_entry = 16 * MIB;
	e->eh.e_phoff = offsetof(struct elf, ph);
	e->eh.e_phentsize = sizeof(Elf64_Phdr);
	e->eh.e_phnum = 2;
	e->ph[0] = (Elf64_Phdr){
		.p_type = PT_LOAD, .p_offset = offsetof(struct elf, text),
		.p_paddr = 16 * MIB, .p_filesz = 256, .p_memsz = 4096,
	};
	e->ph[1].p_type = PT_NOTE;
}

TEST(elf_kernel)
{
	struct elf e;
	struct placed img;

	elf(&e);
	CHECK_EQ(parse((uint8_t *)&e, sizeof(e), 64 * MIB, &img), 0);
	CHECK_EQ(img.entry, 16 * MIB);
	CHECK_EQ(img.nr_parts, 1);
	check_parts(&img, sizeof(e), 64 * MIB);
	e.ph[0].p_filesz = ~0ULL;
	CHECK_EQ(parse((uint8_t *)&e, sizeof(e), 64 * MIB, &img), -EBADMSG);
	elf(&e);
	e.ph[0].p_paddr = ~0ULL - 100;
	CHECK_EQ(parse((uint8_t *)&e, sizeof(e), 64 * MIB, &img), -EBADMSG);
	e.ph[0].p_paddr = 64 * MIB - 100;
	e.eh.e_entry = e.ph[0].p_paddr;
	CHECK_EQ(parse((uint8_t *)&e, sizeof(e), 64 * MIB, &img), -EFBIG);
	elf(&e);
	e.eh.e_phoff = ~0ULL;
	CHECK_EQ(parse((uint8_t *)&e, sizeof(e), 64 * MIB, &img), -EBADMSG);
	elf(&e);
	e.eh.e_phnum = 0xffff;
	CHECK_EQ(parse((uint8_t *)&e, sizeof(e), 64 * MIB, &img), -EBADMSG);
	elf(&e);
	e.eh.e_entry = 0;
	CHECK_EQ(parse((uint8_t *)&e, sizeof(e), 64 * MIB, &img), -ENOEXEC);
	elf(&e);
	e.eh.e_type = ET_REL;
	CHECK_EQ(parse((uint8_t *)&e, sizeof(e), 64 * MIB, &img), -ENOEXEC);
	elf(&e);
	e.ph[1].p_type = PT_INTERP;
	CHECK_EQ(parse((uint8_t *)&e, sizeof(e), 64 * MIB, &img), -ENOEXEC);
	for (size_t n = 4; n < sizeof(e); n++) {
		elf(&e);
		CHECK(parse((uint8_t *)&e, n, 64 * MIB, &img) < 0);
	}
}


/* ---- payloads ------------------------------------------------------------- */

#define VMLINUX_BYTES	(3u << 20)

/* something that neither shrinks to nothing nor stays as it is */
static uint8_t *vmlinux(void)
{
	uint8_t *p = malloc(VMLINUX_BYTES);
	uint32_t seed = 1;

	for (size_t i = 0; i < VMLINUX_BYTES; i++) {
		seed = seed * 1103515245 + 12345;
		p[i] = i % 7 ? (uint8_t)(seed >> 30) : (uint8_t)(i >> 8);
	}
	return p;
}

static size_t pack(enum unpack_format f, const uint8_t *in, size_t n, uint8_t *out, size_t room)
{
	lzma_options_lzma o;
	z_stream z = { 0 };
	lzma_stream l = LZMA_STREAM_INIT;
	unsigned int u = (unsigned int)room;
	size_t at = 0;
	uint32_t len;

	switch (f) {
	case UNPACK_GZIP:
		deflateInit2(&z, 6, Z_DEFLATED, 15 + 16, 8, Z_DEFAULT_STRATEGY);
		z.next_in = (uint8_t *)in;
		z.avail_in = (unsigned int)n;
		z.next_out = out;
		z.avail_out = u;
		deflate(&z, Z_FINISH);
		at = z.total_out;
		deflateEnd(&z);
		return at;
	case UNPACK_BZIP2:
		BZ2_bzBuffToBuffCompress((char *)out, &u, (char *)in, (unsigned int)n, 9, 0, 0);
		return u;
	case UNPACK_XZ:
		lzma_easy_buffer_encode(1, LZMA_CHECK_CRC32, NULL, in, n, out, &at, room);
		return at;
	case UNPACK_LZMA:
		lzma_lzma_preset(&o, 1);
		if (lzma_alone_encoder(&l, &o) != LZMA_OK)
			return 0;
		l.next_in = in;
		l.avail_in = n;
		l.next_out = out;
		l.avail_out = room;
		if (lzma_code(&l, LZMA_FINISH) != LZMA_STREAM_END)
			return 0;
		at = l.total_out;
		lzma_end(&l);
		return at;
	case UNPACK_LZ4:
		memcpy(out, "\x02\x21\x4c\x18", 4);
		for (at = 4; n; n -= len, in += len) {
			int made;

			len = n < (8u << 20) ? (uint32_t)n : 8u << 20;
			made = LZ4_compress_default((char *)in, (char *)out + at + 4, (int)len,
						    (int)(room - at - 4));
			memcpy(out + at, &made, 4);
			at += 4 + (size_t)made;
		}
		return at;
	case UNPACK_ZSTD:
		return ZSTD_compress(out, room, in, n, 3);
	default:
		return 0;
	}
}

/* a bzImage around @n bytes, as the kernel's build makes it; the caller frees */
static uint8_t *wrap(enum unpack_format f, const uint8_t *in, size_t n, size_t *len)
{
	struct setup_header h = { 0 };
	size_t room = n + n / 2 + 65536, packed;
	uint8_t *head = bzimage(&h), *p = calloc(1, SETUP_BYTES + 4096 + room);
	uint32_t said = (uint32_t)n;

	packed = pack(f, in, n, p + SETUP_BYTES + 4096, room - 4);
	if (f != UNPACK_GZIP) {
		memcpy(p + SETUP_BYTES + 4096 + packed, &said, 4);
		packed += 4;
	}
	h.payload_offset = 4096;
	h.payload_length = (uint32_t)packed;
	h.syssize = (uint32_t)(4096 + packed) / 16;
	h.kernel_version = 0x300;
	memcpy(p, head, SETUP_BYTES);
	memcpy(p + 0x1f1, &h, sizeof(h));
	strcpy((char *)p + 0x500, "6.99.0-test (someone@somewhere) #1");
	free(head);
	*len = SETUP_BYTES + 4096 + packed;
	return p;
}

TEST(every_compression)
{
	uint8_t *in = vmlinux(), *out = malloc(VMLINUX_BYTES);
	const char *why;
	struct bzimage b;
	size_t len;

	for (int f = UNPACK_GZIP; f <= UNPACK_ZSTD; f++) {
		uint8_t *p;

		if (f == UNPACK_LZO)
			continue;
		p = wrap(f, in, VMLINUX_BYTES, &len);
		CHECK_EQ(bzimage_parse(&b, p, len, len, &why), 0);
		CHECK_EQ(b.format, f);
		CHECK_EQ(b.unpacked_bytes, VMLINUX_BYTES);
		CHECK(!strcmp(b.version, "6.99.0-test (someone@somewhere) #1"));
		memset(out, 0, VMLINUX_BYTES);
		CHECK_EQ(bzimage_unpack(&b, p, out, &why), 0);
		CHECK(!memcmp(in, out, VMLINUX_BYTES));
		/* more than it says, less than it says */
		b.unpacked_bytes--;
		CHECK_EQ(bzimage_unpack(&b, p, out, &why), -EBADMSG);
		b.unpacked_bytes += 2;
		free(out);
		out = malloc(VMLINUX_BYTES + 1);
		CHECK_EQ(bzimage_unpack(&b, p, out, &why), -EBADMSG);
		b.unpacked_bytes--;
		/* cut short, damaged */
		b.payload_bytes /= 2;
		CHECK_EQ(bzimage_unpack(&b, p, out, &why), -EBADMSG);
		b.payload_bytes = b.hdr.payload_length;
		memset(p + b.payload_off + b.payload_bytes / 2, 0xff, 64);
		if (f != UNPACK_LZ4 && f != UNPACK_ZSTD)	/* no checksum in them */
			CHECK_EQ(bzimage_unpack(&b, p, out, &why), -EBADMSG);
		free(p);
	}
	free(in);
	free(out);
}

TEST(a_bomb_is_bounded)
{
	size_t n = 64 * MIB, len;
	uint8_t *in = calloc(1, n), *out = malloc(65536), *p;
	const char *why;
	struct bzimage b;

	for (int f = UNPACK_GZIP; f <= UNPACK_ZSTD; f++) {
		uint32_t lie = 65536;

		if (f == UNPACK_LZO)
			continue;
		p = wrap(f, in, n, &len);
		CHECK_EQ(bzimage_parse(&b, p, len, len, &why), 0);
		memcpy(p + b.payload_off + b.payload_bytes - 4, &lie, 4);
		CHECK_EQ(bzimage_parse(&b, p, len, len, &why), 0);
		CHECK_EQ(b.unpacked_bytes, 65536);
		CHECK_EQ(bzimage_unpack(&b, p, out, &why), -EBADMSG);
		free(p);
	}
	free(in);
	free(out);
}

TEST(a_payload_that_is_none)
{
	struct setup_header h = { 0 };
	uint8_t *p = bzimage(&h);
	struct bzimage b;
	const char *why;

	h.payload_offset = 4096;
	h.payload_length = 0xfffffff0;
	memcpy(p + 0x1f1, &h, sizeof(h));
	CHECK_EQ(bzimage_parse(&b, p, FILE_BYTES, FILE_BYTES, &why), 0);
	CHECK_EQ(b.payload_bytes, 0);
	h.payload_length = 4096;
	memcpy(p + 0x1f1, &h, sizeof(h));
	memcpy(p + SETUP_BYTES + 4096, "\x89LZO\0\r\n\x1a\n", 9);
	CHECK_EQ(bzimage_parse(&b, p, FILE_BYTES, FILE_BYTES, &why), 0);
	CHECK_EQ(b.format, UNPACK_LZO);
	CHECK_EQ(bzimage_unpack(&b, p, p, &why), -EOPNOTSUPP);
	free(p);
}

/* ---- relocations ------------------------------------------------------------ */

#define KERNEL_MAP	0xffffffff80000000ULL

struct relocatable {
	struct elf e;
	uint32_t table[8];
};

/* fields at 0, 8 and 16 of the text: one of each kind */
static void relocatable(struct relocatable *r, bool inverse)
{
	uint64_t virt = KERNEL_MAP + 16 * MIB;
	uint32_t *t = r->table;
	uint64_t v = virt;

	memset(r, 0, sizeof(*r));
	elf(&r->e);
	memcpy(r->e.text, &v, 8);
	memcpy(r->e.text + 8, &(uint32_t){ 1000 }, 4);
	memcpy(r->e.text + 16, &(uint32_t){ 5000 }, 4);
	*t++ = 0;
	*t++ = (uint32_t)virt;
	*t++ = 0;
	if (inverse) {
		*t++ = (uint32_t)virt + 8;
		*t++ = 0;
	}
	*t++ = (uint32_t)virt + 16;
}

static uint32_t get32(const uint8_t *p)
{
	uint32_t v;

	memcpy(&v, p, 4);
	return v;
}

TEST(relocations)
{
	for (int inverse = 0; inverse < 2; inverse++) {
		size_t len = sizeof(struct elf) + (inverse ? 6 : 4) * 4;
		uint8_t mem[4096] = { 0 };
		struct relocatable k;
		struct elf_relocs r;
		struct elf_image e;
		const char *why;
		uint64_t v;

		relocatable(&k, inverse);
		CHECK_EQ(elf_parse(&e, (uint8_t *)&k, len, &why), 0);
		e.file_end = sizeof(struct elf);
		CHECK_EQ(elf_relocs(&r, &e, (uint8_t *)&k, len, &why), 0);
		CHECK_EQ(r.nr[RELOC_64], 1);
		CHECK_EQ(r.nr[RELOC_32], 1);
		CHECK_EQ(r.nr[RELOC_32_INVERSE], inverse);
		memcpy(mem, k.e.text, 256);
		CHECK_EQ(elf_relocate(&r, &e, mem, 32 * MIB, &why), 0);
		memcpy(&v, mem, 8);
		CHECK_EQ(v, KERNEL_MAP + 48 * MIB);
		CHECK_EQ(get32(mem + 8), inverse ? (uint32_t)(1000 - 32 * MIB) : 1000);
		CHECK_EQ(get32(mem + 16), 5000 + 32 * MIB);
		/* outside, by one byte and by a lot; the last field that fits */
		for (uint64_t off = 4090; off < 4200; off++) {
			k.table[inverse ? 5 : 3] = (uint32_t)(KERNEL_MAP + 16 * MIB + off);
			CHECK_EQ(elf_relocate(&r, &e, mem, 0, &why), off <= 4092 ? 0 : -EBADMSG);
		}
		k.table[1] = 0x7fffffff;
		CHECK_EQ(elf_relocate(&r, &e, mem, 0, &why), -EBADMSG);
		/* no table, none of the known shapes, not even words */
		CHECK_EQ(elf_relocs(&r, &e, (uint8_t *)&k, sizeof(struct elf), &why), -ENOENT);
		CHECK_EQ(elf_relocs(&r, &e, (uint8_t *)&k, sizeof(struct elf) + 4, &why), -EBADMSG);
		CHECK_EQ(elf_relocs(&r, &e, (uint8_t *)&k, sizeof(struct elf) + 3, &why), -EBADMSG);
		k.table[0] = 1;
		CHECK_EQ(elf_relocs(&r, &e, (uint8_t *)&k, len, &why), -EBADMSG);
	}
}

TEST(pvh_note)
{
	struct elf e;
	struct elf_image i;
	const char *why;
	uint32_t note[] = { 4, 8, 18, 0, 0x1000, 0 };

	elf(&e);
	memcpy(&note[3], "Xen", 4);
	memcpy(e.text, note, sizeof(note));
	e.ph[1].p_offset = offsetof(struct elf, text);
	e.ph[1].p_filesz = sizeof(note);
	CHECK_EQ(elf_parse(&i, (uint8_t *)&e, sizeof(e), &why), 0);
	CHECK(i.has_pvh);
	CHECK_EQ(i.pvh_entry, 0x1000);
	note[1] = 0xfffffff0;	/* the note's contents end nowhere */
	memcpy(e.text, note, sizeof(note));
	CHECK_EQ(elf_parse(&i, (uint8_t *)&e, sizeof(e), &why), 0);
	CHECK(!i.has_pvh);
}

/* ---- real ones --------------------------------------------------------------- */

static uint8_t *read_file(const char *path, size_t *len)
{
	int fd = open(path, O_RDONLY);
	struct stat st;
	uint8_t *p;

	if (fd < 0)
		return NULL;
	fstat(fd, &st);
	*len = (size_t)st.st_size;
	p = malloc(*len);
	if (read(fd, p, *len) != (ssize_t)*len) {
		free(p);
		p = NULL;
	}
	close(fd);
	return p;
}

static void check_real(const char *name, enum unpack_format format)
{
	const char *cache = getenv("VMPLAT_CACHE"), *home = getenv("HOME"), *why;
	struct elf_relocs r;
	struct elf_image e;
	struct bzimage b;
	uint8_t *p, *v, *mem;
	char path[4096];
	size_t len;

	if (cache)
		snprintf(path, sizeof(path), "%s/kernel/%s/bzImage", cache, name);
	else
		snprintf(path, sizeof(path), "%s/.cache/vmplat/kernel/%s/bzImage", home ? home : "", name);
	p = read_file(path, &len);
	if (!p) {
		tap_skip("the test host has not fetched it");
		return;
	}
	CHECK_EQ(bzimage_parse(&b, p, len, len, &why), 0);
	CHECK(!bzimage_obstacle(&b));
	CHECK_EQ(b.format, format);
	CHECK(!strncmp(b.version, name, strlen(name)));
	v = malloc(b.unpacked_bytes);
	CHECK_EQ(bzimage_unpack(&b, p, v, &why), 0);
	CHECK_EQ(elf_parse(&e, v, b.unpacked_bytes, &why), 0);
	CHECK(!elf_obstacle(&e));
	CHECK(e.has_pvh);
	CHECK_EQ(e.start, b.hdr.pref_address);
	CHECK_EQ(elf_relocs(&r, &e, v, b.unpacked_bytes, &why), 0);
	CHECK(r.nr[RELOC_64] > 10000 && r.nr[RELOC_32] > 10000);
	mem = calloc(1, e.end - e.start);
	CHECK_EQ(elf_relocate(&r, &e, mem, 2 * MIB, &why), 0);
	free(mem);
	free(v);
	free(p);
}

TEST(debian_6_1)
{
	check_real("6.1", UNPACK_XZ);
}

TEST(debian_6_12)
{
	check_real("6.12", UNPACK_ZSTD);
}

int main(void)
{
	RUN(a_kernel);
	RUN(not_for_us);
	RUN(every_length);
	RUN(random_headers);
	RUN(elf_kernel);
	RUN(every_compression);
	RUN(a_bomb_is_bounded);
	RUN(a_payload_that_is_none);
	RUN(relocations);
	RUN(pvh_note);
	RUN(debian_6_1);
	RUN(debian_6_12);
	return tap_done();
}
