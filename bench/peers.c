// SPDX-License-Identifier: GPL-2.0-only
#define _GNU_SOURCE
#include <fcntl.h>
#include <sys/ioctl.h>
#include <sys/syscall.h>
#include <unistd.h>

#include "bench.h"
#include "peers.h"

int uffd_register(void *addr, size_t bytes, uint64_t features)
{
	struct uffdio_api api = {
		.api = UFFD_API,
		.features = features | UFFD_FEATURE_PAGEFAULT_FLAG_WP | UFFD_FEATURE_WP_HUGETLBFS_SHMEM,
	};
	struct uffdio_register reg = {
		.range = { (uintptr_t)addr, bytes }, .mode = UFFDIO_REGISTER_MODE_WP,
	};
	int fd = must((int)syscall(SYS_userfaultfd, O_CLOEXEC));

	must(ioctl(fd, UFFDIO_API, &api));
	must(ioctl(fd, UFFDIO_REGISTER, &reg));
	return fd;
}

void uffd_protect(int uffd, void *addr, size_t bytes, int on)
{
	struct uffdio_writeprotect wp = {
		.range = { (uintptr_t)addr, bytes }, .mode = on ? UFFDIO_WRITEPROTECT_MODE_WP : 0,
	};

	must(ioctl(uffd, UFFDIO_WRITEPROTECT, &wp));
}
