/* SPDX-License-Identifier: LGPL-2.1-or-later */
/*
 * Linux kernels for x86-64 as bytes: what is in a bzImage, what is in the vmlinux it
 * holds, and where that belongs in memory. Touches nothing but the bytes given.
 *
 *   bzImage:  boot sector and setup code | 64-bit code, and in it: | the payload
 *   payload:  compressed vmlinux (ELF) and, behind it, its relocations
 *
 * The payload can be entered directly, without the code around it, which would
 * unpack it, move it, and relocate it if it is to be at a random address (KASLR). All
 * that is done here instead. @why is a sentence in this thread's storage.
 */
#ifndef VMPLAT_IMAGE_KERNEL_H
#define VMPLAT_IMAGE_KERNEL_H

#include <asm/bootparam.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "unpack.h"

#define KERNEL_PARTS_MAX	16
#define KERNEL_LOAD_MIN		0x100000	/* below lives what firmware would */
#define KERNEL_PAYLOAD_MAX	(1ULL << 30)	/* unpacked */

struct kernel_part {
	uint64_t off, file_bytes;	/* in the file */
	uint64_t gpa, mem_bytes;	/* the rest after file_bytes is zero */
};

/* ---- bzImage: Documentation/arch/x86/boot.rst -------------------------------- */

struct bzimage {
	struct setup_header hdr;
	uint64_t setup_bytes;		/* the code starts behind them */
	uint64_t code_bytes;
	uint64_t need_bytes;		/* what it takes in memory to unpack itself */
	bool cut_short;
	char version[128];		/* "" if it does not say */
	uint64_t payload_off, payload_bytes;	/* packed; 0: none */
	uint64_t unpacked_bytes;	/* as it says itself */
	enum unpack_format format;
};

bool bzimage_is(const uint8_t *p, size_t len);
/**
 * bzimage_parse - read the headers
 * @p: the beginning of the file, at least its setup code
 * @file_bytes: length of the whole file
 *
 * -EBADMSG: cut short inside its headers, or they contradict each other.
 */
int bzimage_parse(struct bzimage *b, const uint8_t *p, size_t len, uint64_t file_bytes,
		  const char **why);
/** bzimage_obstacle - why it cannot be entered in 64-bit mode, or NULL */
const char *bzimage_obstacle(const struct bzimage *b);
/**
 * bzimage_place - where to load it so that it unpacks itself
 *
 * -EFBIG: not into @low_bytes of RAM from address 0.
 */
int bzimage_place(const struct bzimage *b, uint64_t low_bytes, struct kernel_part *part,
		  uint64_t *entry, uint64_t *end, const char **why);
/**
 * bzimage_unpack - unpack the payload
 * @p: all of the file
 * @out: room for b->unpacked_bytes
 *
 * -EOPNOTSUPP: there is none, or its format is not decoded; -EBADMSG: damaged;
 * -ENOMEM.
 */
int bzimage_unpack(const struct bzimage *b, const uint8_t *p, uint8_t *out, const char **why);

/* ---- ELF --------------------------------------------------------------------- */

struct elf_image {
	uint16_t machine, type;
	uint8_t class;			/* ELFCLASS32 or 64 */
	uint64_t entry;			/* as the header has it */
	struct kernel_part parts[KERNEL_PARTS_MAX];	/* 64-bit files only */
	unsigned int nr_parts;
	uint64_t start, end;		/* of the parts in memory; end exclusive */
	uint64_t file_end;		/* the first byte behind all that the headers name */
	bool has_interp;		/* asks for a dynamic linker: a program */
	bool has_pvh;
	uint64_t pvh_entry;
};

bool elf_is(const uint8_t *p, size_t len);
/** elf_parse - -EBADMSG: it contradicts itself; -ENOEXEC: more than is taken */
int elf_parse(struct elf_image *e, const uint8_t *p, size_t len, const char **why);
/** elf_obstacle - why it is no x86-64 kernel that can be entered, or NULL */
const char *elf_obstacle(const struct elf_image *e);
/** elf_fits - all parts within @low_bytes of RAM from address 0; -EFBIG if not */
int elf_fits(const struct elf_image *e, uint64_t low_bytes, const char **why);

/* ---- relocations --------------------------------------------------------------- */

/*
 * Behind the ELF file in the payload: lists of the lower halves of virtual addresses,
 * each with a zero in front. From the end: fields of 32 bits that grow with the
 * address; up to Linux 6.14 those that shrink with it (per-CPU offsets); fields of 64.
 */
enum { RELOC_64, RELOC_32_INVERSE, RELOC_32, RELOC_KINDS };

struct elf_relocs {
	const uint8_t *list[RELOC_KINDS];
	size_t nr[RELOC_KINDS];
};

/* -ENOENT: there are none, the kernel runs where it was linked; -EBADMSG */
int elf_relocs(struct elf_relocs *r, const struct elf_image *e, const uint8_t *p, size_t len,
	       const char **why);
/**
 * elf_relocate - move the kernel's virtual addresses
 * @mem: the parts as loaded, from e->start to e->end
 * @delta: how far
 *
 * -EBADMSG: a field lies outside; @mem may be half done then.
 */
int elf_relocate(const struct elf_relocs *r, const struct elf_image *e, uint8_t *mem,
		 uint64_t delta, const char **why);

#endif
