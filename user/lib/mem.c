// SPDX-License-Identifier: LGPL-2.1-or-later
/* Memory: a file of guest pages. */
#include <fcntl.h>
#include <inttypes.h>
#include <stdlib.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <sys/statfs.h>
#include <unistd.h>

#include "lib.h"

/* Takes over @fd, also when it fails. */
static int wrap(struct vmplat_mem **out, int fd, uint64_t bytes)
{
	struct vmplat_mem *mem = malloc(sizeof(*mem));

	if (!mem) {
		close(fd);
		return lib_error(-ENOMEM, "out of memory");
	}
	*mem = (struct vmplat_mem) { .fd = fd, .bytes = bytes };
	*out = mem;
	return 0;
}

API int vmplat_mem_new(struct vmplat_mem **out, struct vmplat *dev, uint64_t bytes,
		       uint32_t flags)
{
	struct vmplat_mem_create arg = {
		.size = sizeof(arg), .flags = flags, .mem_bytes = bytes, .out_fd = -1,
	};
	int rc;

	*out = NULL;
	rc = lib_ioctl(dev->fd, VMPLAT_MEM_CREATE, &arg);
	if (rc == -EINVAL)
		return lib_error(rc, "cannot create memory of %" PRIu64 " bytes: not a positive "
				 "multiple of the page size (%zu)", bytes, vmplat_page_bytes(dev));
	if (rc == -EOPNOTSUPP)
		return lib_error(rc, "cannot create memory with flags %#x: the kernel module "
				 "does not know them all", flags);
	if (rc == -EFBIG)
		return lib_error(rc, "cannot create memory of %" PRIu64 " bytes: larger than a "
				 "file can be", bytes);
	if (rc)
		return lib_error(rc, "cannot create memory of %" PRIu64 " bytes: %s", bytes,
				 lib_reason(rc));
	return wrap(out, arg.out_fd, bytes);
}

API int vmplat_mem_from_fd(struct vmplat_mem **out, struct vmplat *dev, int fd)
{
	struct statfs fs;
	struct stat st;
	int dup;

	(void)dev;
	*out = NULL;
	if (fstatfs(fd, &fs) || fstat(fd, &st))
		return lib_error(-errno, "descriptor %d: %s", fd, strerror(errno));
	if ((uint32_t)fs.f_type != VMPLATFS_MAGIC || !S_ISREG(st.st_mode))
		return lib_error(-EMEDIUMTYPE, "descriptor %d is not a file of a vmplatfs", fd);
	dup = fcntl(fd, F_DUPFD_CLOEXEC, 0);
	if (dup < 0)
		return lib_error(-errno, "descriptor %d: cannot duplicate: %s", fd,
				 strerror(errno));
	return wrap(out, dup, st.st_size);
}

API void vmplat_mem_close(struct vmplat_mem *mem)
{
	if (!mem)
		return;
	close(mem->fd);
	free(mem);
}

API int vmplat_mem_fd(const struct vmplat_mem *mem)
{
	return mem->fd;
}

API uint64_t vmplat_mem_bytes(const struct vmplat_mem *mem)
{
	return mem->bytes;
}

API int vmplat_mem_map(struct vmplat_mem *mem, void **addr)
{
	void *p;

	*addr = NULL;
	if (mem->bytes > SIZE_MAX)
		return lib_error(-ENOMEM, "%" PRIu64 " bytes do not fit this address space",
				 mem->bytes);
	p = mmap(NULL, mem->bytes, PROT_READ | PROT_WRITE, MAP_SHARED, mem->fd, 0);
	if (p == MAP_FAILED)
		return lib_error(-errno, "cannot map %" PRIu64 " bytes of memory: %s", mem->bytes,
				 strerror(errno));
	*addr = p;
	return 0;
}
