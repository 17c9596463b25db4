/* SPDX-License-Identifier: LGPL-2.1-or-later */
/*
 * Unified kernel images: programs for UEFI (PE) with a kernel, its initrd and its arguments as
 * sections (.linux, .initrd, .cmdline, and others), whose code does nothing but start the kernel.
 */
#ifndef VMPLAT_IMAGE_UKI_H
#define VMPLAT_IMAGE_UKI_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#define UKI_HEAD	8192u	/* as much of the file is needed to find sections */

struct uki_section {
	uint64_t off, bytes;
};

/**
 * uki_find - find a section of a PE file
 * @p: the file's first @len bytes, of @file_bytes
 * @name: with its dot, of at most 8 characters; of several with this name the first
 *
 * -ENOENT: it is no PE file, or has none; -EBADMSG: its headers, or the section, reach beyond
 * what there is.
 */
int uki_find(struct uki_section *s, const uint8_t *p, size_t len, uint64_t file_bytes, const char *name);

/* uki_is - it has a section for a kernel, or is damaged where that would be told */
bool uki_is(const uint8_t *p, size_t len, uint64_t file_bytes);

#endif
