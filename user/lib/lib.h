/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* What the files of libvmplat share; nothing here is visible outside. */
#ifndef VMPLAT_LIB_H
#define VMPLAT_LIB_H

#include <errno.h>
#include <stddef.h>
#include <stdint.h>
#include <string.h>

#include <vmplat.h>

#define API __attribute__((visibility("default")))

struct vmplat {
	int fd;
	struct vmplat_info info;
};

struct vmplat_mem {
	int fd;
	uint64_t bytes;
};

struct vmplat_log {
	int fd;
	uint64_t nr_pages;
	uint64_t nr_unsure;		/* of the last fetch */
};

struct vmplat_view {
	int fd;
	uint64_t bytes;
};

struct vmplat_fill {
	int fd;
	size_t page_bytes;
};

struct vmplat_domain {
	int fd;
};

#define lib_error(err, ...)	vmplat_error_set(err, __VA_ARGS__)

/*
 * ioctl(2) that returns 0 or -errno. @arg starts with its size, which the caller
 * has set to that of the struct it was compiled with.
 */
int lib_ioctl(int fd, unsigned long cmd, void *arg);

/* What an errno every command may give means to the caller of @what, or strerror(). */
const char *lib_reason(int err);

#endif /* VMPLAT_LIB_H */
