/* SPDX-License-Identifier: GPL-2.0-only */
/*
 * What a guest boots from: files of the host, or, as iso:/PATH, of the VM's disc, or, as
 * efi:/PATH, of the disc's boot image for UEFI. section:NAME:PATH, with either kind of PATH, is a
 * section of a PE file: .linux and .initrd of a unified kernel image.
 */
#ifndef VMPLAT_RUN_INPUT_H
#define VMPLAT_RUN_INPUT_H

#include <stdbool.h>
#include <stdint.h>

struct input {
	uint64_t off, bytes;		/* in the file: all of it, or a section */
	int fd;				/* -1: on the disc */
	struct vmplat_iso *iso;
	struct vmplat_iso_file *file;
};

/** input_on_disc - does @path mean a file of the disc */
bool input_on_disc(const char *path);

/**
 * input_open - a regular file at @path; @iso is the disc, or NULL
 *
 * -errno with a sentence in @why, kept for this thread.
 */
int input_open(struct input *in, const char *iso, const char *path, const char **why);
/** input_read - all @in->bytes of it */
int input_read(struct input *in, uint8_t *to, const char **why);
void input_close(struct input *in);

#endif
