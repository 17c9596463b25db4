/* SPDX-License-Identifier: LGPL-2.1-or-later */
#ifndef VMPLAT_LIB_WRITE_ALL_H
#define VMPLAT_LIB_WRITE_ALL_H

#include <errno.h>
#include <stddef.h>
#include <stdint.h>
#include <unistd.h>

/* All of it, however many calls it takes; 0 or -errno, and then some of it may be there. */
static inline int write_all(int fd, const void *buf, size_t len)
{
	for (const uint8_t *p = buf; len;) {
		ssize_t n = write(fd, p, len);

		if (n < 0 && errno == EINTR)
			continue;
		if (n <= 0)
			return n ? -errno : -EIO;
		p += n;
		len -= (size_t)n;
	}
	return 0;
}

/* The same at [off, off + len). */
static inline int pwrite_all(int fd, const void *buf, size_t len, uint64_t off)
{
	for (const uint8_t *p = buf; len;) {
		ssize_t n = pwrite(fd, p, len, (off_t)off);

		if (n < 0 && errno == EINTR)
			continue;
		if (n <= 0)
			return n ? -errno : -EIO;
		p += n;
		off += (uint64_t)n;
		len -= (size_t)n;
	}
	return 0;
}

#endif
