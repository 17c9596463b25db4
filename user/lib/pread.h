/* SPDX-License-Identifier: LGPL-2.1-or-later */
#ifndef VMPLAT_LIB_PREAD_H
#define VMPLAT_LIB_PREAD_H

#include <errno.h>
#include <stddef.h>
#include <stdint.h>
#include <unistd.h>

/* As much of [off, off + len) as there is; a device that gives an error gives it here. */
static inline ssize_t pread_some(int fd, void *buf, size_t len, uint64_t off)
{
	size_t done = 0;

	while (done < len) {
		ssize_t n = pread(fd, (uint8_t *)buf + done, len - done, (off_t)(off + done));

		if (n < 0 && errno == EINTR)
			continue;
		if (n < 0)
			return -errno;
		if (!n)
			break;
		done += (size_t)n;
	}
	return (ssize_t)done;
}

#endif
