/* SPDX-License-Identifier: GPL-2.0-only */
/* Kernel images: what is taken, what is refused, and with which words. */
#include <elf.h>
#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include "run/image.h"
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

static int parse(const uint8_t *p, size_t len, uint64_t ram, struct image *img)
{
	const char *why = "";
	int ret = image_parse(img, p, len, ram, &why);

	if (ret && !*why)
		printf("# no reason given\n");
	return ret;
}

TEST(a_kernel)
{
	struct setup_header h = { 0 };
	struct image img;
	uint8_t *p = bzimage(&h);

	CHECK_EQ(parse(p, FILE_BYTES, 512 * MIB, &img), 0);
	CHECK_EQ(img.kind, IMAGE_BZIMAGE);
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
	struct image img;
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
	struct image img;
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
static void check_parts(const struct image *img, size_t len, uint64_t ram)
{
	for (unsigned int i = 0; i < img->nr_parts; i++) {
		const struct image_part *s = &img->parts[i];

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
		struct image img;
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
	struct image img;

	elf(&e);
	CHECK_EQ(parse((uint8_t *)&e, sizeof(e), 64 * MIB, &img), 0);
	CHECK_EQ(img.kind, IMAGE_ELF);
	CHECK_EQ(img.entry, 16 * MIB);
	CHECK_EQ(img.nr_parts, 1);
	check_parts(&img, sizeof(e), 64 * MIB);
	e.ph[0].p_filesz = ~0ULL;
	CHECK_EQ(parse((uint8_t *)&e, sizeof(e), 64 * MIB, &img), -EBADMSG);
	elf(&e);
	e.ph[0].p_paddr = ~0ULL - 100;
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
	for (size_t n = 4; n < sizeof(e); n++) {
		elf(&e);
		CHECK(parse((uint8_t *)&e, n, 64 * MIB, &img) < 0);
	}
}

int main(void)
{
	RUN(a_kernel);
	RUN(not_for_us);
	RUN(every_length);
	RUN(random_headers);
	RUN(elf_kernel);
	return tap_done();
}
