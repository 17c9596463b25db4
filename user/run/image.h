/* SPDX-License-Identifier: GPL-2.0-only */
/*
 * Kernel images as files: what they are and where their parts belong. Looks only
 * at bytes, touches no VM, so that it can be tested alone.
 */
#ifndef VMPLAT_RUN_IMAGE_H
#define VMPLAT_RUN_IMAGE_H

#include <asm/bootparam.h>
#include <stddef.h>
#include <stdint.h>

#define IMAGE_PARTS_MAX	16

enum image_kind { IMAGE_BZIMAGE, IMAGE_ELF };

struct image_part {
	uint64_t off, file_bytes;	/* in the file */
	uint64_t gpa, mem_bytes;	/* the rest after file_bytes is zero */
};

struct image {
	enum image_kind kind;
	struct setup_header hdr;	/* of a bzImage; for ELF one made up */
	struct image_part parts[IMAGE_PARTS_MAX];
	unsigned int nr_parts;
	uint64_t entry;			/* 64-bit entry point */
	uint64_t end;			/* first byte after all the kernel needs to start */
};

/**
 * image_parse - @buf holds all of the file
 * @low_bytes: RAM below 4 GiB the image must fit into
 * @why: a sentence on failure (this thread's static storage)
 *
 * -ENOEXEC: not a kernel, or not for this machine; -EBADMSG: a kernel, but cut
 * short or inconsistent; -EFBIG: does not fit.
 */
int image_parse(struct image *img, const void *buf, size_t len,
		uint64_t low_bytes, const char **why);

#endif
