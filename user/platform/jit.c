// SPDX-License-Identifier: LGPL-2.1-or-later
/*
 * Memory for code: one memfd, mapped writable at one place and executable at another. The execute
 * view is of a descriptor that is open for reading only, so the kernel refuses to make it writable,
 * and allows to seal the memory while the view is there.
 */
#include <fcntl.h>
#include <linux/membarrier.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/mman.h>
#include <sys/syscall.h>
#include <unistd.h>

#include <vmplat_map.h>

#include "lib/lib.h"

#ifndef MFD_EXEC		/* Linux 6.3 */
#define MFD_EXEC	0x0010U
#endif

struct vmplat_jit {
	int fd;
	size_t bytes;
	void *write, *exec;	/* NULL where there is none */
};

/* kernels before 6.3 do not know that it is to be executed, and do not mind */
static int new_file(size_t bytes)
{
	unsigned int flags = MFD_CLOEXEC | MFD_ALLOW_SEALING;
	int fd = memfd_create("vmplat-jit", flags | MFD_EXEC);

	if (fd < 0 && errno == EINVAL)
		fd = memfd_create("vmplat-jit", flags);
	if (fd < 0)
		return lib_error(-errno, "no memory for code: %s", strerror(errno));
	if (ftruncate(fd, (off_t)bytes) || fcntl(fd, F_ADD_SEALS, F_SEAL_SHRINK | F_SEAL_GROW)) {
		int err = errno;

		close(fd);
		return lib_error(-err, "no memory for code of %zu bytes: %s", bytes, strerror(err));
	}
	return fd;
}

static int map_exec(struct vmplat_jit *j)
{
	char path[32];
	int fd, err;
	void *p;

	snprintf(path, sizeof(path), "/proc/self/fd/%d", j->fd);
	fd = open(path, O_RDONLY | O_CLOEXEC);
	if (fd < 0)
		return lib_error(-errno, "code is not reached through %s: %s", path, strerror(errno));
	p = mmap(NULL, j->bytes, PROT_READ | PROT_EXEC, MAP_SHARED, fd, 0);
	err = errno;
	close(fd);
	if (p == MAP_FAILED)
		return lib_error(-err, "code cannot be executed from memory of this process: %s",
				 err == EACCES || err == EPERM ? "security policy forbids it"
							       : strerror(err));
	j->exec = p;
	return 0;
}

static int map_write(struct vmplat_jit *j)
{
	void *p = mmap(NULL, j->bytes, PROT_READ | PROT_WRITE, MAP_SHARED, j->fd, 0);

	if (p == MAP_FAILED)
		return lib_error(-errno, "memory for code does not map: %s", strerror(errno));
	j->write = p;
	return 0;
}

API int vmplat_jit_new(struct vmplat_jit **out, size_t bytes)
{
	size_t page = (size_t)sysconf(_SC_PAGESIZE);
	struct vmplat_jit *j;
	int ret;

	*out = NULL;
	if (!bytes)
		return lib_error(-EINVAL, "code of no bytes");
	if (bytes > (size_t)INT64_MAX - page)
		return lib_error(-ENOMEM, "code of %zu bytes does not fit this address space", bytes);
	j = calloc(1, sizeof(*j));
	if (!j)
		return lib_error(-ENOMEM, "out of memory");
	j->bytes = (bytes + page - 1) / page * page;
	ret = j->fd = new_file(j->bytes);
	if (ret >= 0)
		ret = map_exec(j);
	if (!ret)
		ret = map_write(j);
	if (ret)
		vmplat_jit_close(j);
	else
		*out = j;
	return ret;
}

API void vmplat_jit_close(struct vmplat_jit *j)
{
	if (!j)
		return;
	if (j->write)
		munmap(j->write, j->bytes);
	if (j->exec)
		munmap(j->exec, j->bytes);
	if (j->fd >= 0)
		close(j->fd);
	free(j);
}

API void *vmplat_jit_write(const struct vmplat_jit *j)
{
	return j->write;
}

API const void *vmplat_jit_exec(const struct vmplat_jit *j)
{
	return j->exec;
}

API size_t vmplat_jit_bytes(const struct vmplat_jit *j)
{
	return j->bytes;
}

/* what other threads have fetched of the code before */
static int forget_fetched(void)
{
	if (syscall(SYS_membarrier, MEMBARRIER_CMD_PRIVATE_EXPEDITED_SYNC_CORE, 0, 0) == 0)
		return 0;
	/* the first time in this process */
	if (errno == EPERM &&
	    syscall(SYS_membarrier, MEMBARRIER_CMD_REGISTER_PRIVATE_EXPEDITED_SYNC_CORE, 0, 0) == 0 &&
	    syscall(SYS_membarrier, MEMBARRIER_CMD_PRIVATE_EXPEDITED_SYNC_CORE, 0, 0) == 0)
		return 0;
	return lib_error(-EOPNOTSUPP, "this kernel cannot make other threads see changed code "
			 "(membarrier: %s)", strerror(errno));
}

API int vmplat_jit_publish(struct vmplat_jit *j, size_t offset, size_t bytes, uint32_t flags)
{
	size_t end;

	if (flags & ~VMPLAT_JIT_F_REUSED)
		return lib_error(-EINVAL, "flags %#x are not known", flags);
	if (__builtin_add_overflow(offset, bytes, &end) || end > j->bytes)
		return lib_error(-ERANGE, "%zu bytes at %zu lie beyond the end of code of %zu", bytes,
				 offset, j->bytes);
	/* by the address it is executed at: what caches of instructions may go by */
	__builtin___clear_cache((char *)j->exec + offset, (char *)j->exec + end);
	return flags & VMPLAT_JIT_F_REUSED ? forget_fetched() : 0;
}

API int vmplat_jit_seal(struct vmplat_jit *j)
{
	if (!j->write)
		return 0;
	munmap(j->write, j->bytes);
	j->write = NULL;
	if (!fcntl(j->fd, F_ADD_SEALS, F_SEAL_WRITE | F_SEAL_SEAL))
		return 0;
	if (!fcntl(j->fd, F_ADD_SEALS, F_SEAL_FUTURE_WRITE | F_SEAL_SEAL))	/* the view counts */
		return 0;
	return lib_error(-errno, "code cannot be sealed: %s", strerror(errno));
}
