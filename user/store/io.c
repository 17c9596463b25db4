// SPDX-License-Identifier: LGPL-2.1-or-later
#include "io.h"

#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "store.h"

int (*store_io_hook)(const struct io_event *ev);

static int hook(struct io_event ev)
{
	int (*fn)(const struct io_event *) = store_io_hook;

	return fn ? fn(&ev) : 0;
}

int sio_open_dir(int dirfd, const char *name)
{
	/* within a store a link is planted: removal must not follow it */
	int fd = openat(dirfd, name, O_RDONLY | O_DIRECTORY | O_CLOEXEC |
			(dirfd == AT_FDCWD ? 0 : O_NOFOLLOW));

	return fd < 0 ? store_fail(errno, "cannot open directory %s: %s", name,
				   strerror(errno)) : fd;
}

int sio_open_read(int dirfd, const char *name, uint64_t *bytes)
{
	struct stat sb;
	int fd;

	/* NONBLOCK and the type check: a planted FIFO must not hang us */
	fd = openat(dirfd, name, O_RDONLY | O_CLOEXEC | O_NOFOLLOW | O_NONBLOCK);
	if (fd < 0 && errno == ENOENT)	/* a snapshot without it is damaged */
		return store_fail(EBADMSG, "%s is missing", name);
	if (fd < 0)
		return store_fail(errno, "cannot open %s: %s", name,
				  strerror(errno));
	if (fstat(fd, &sb) || !S_ISREG(sb.st_mode)) {
		close(fd);
		return store_fail(EBADMSG, "%s is not a regular file", name);
	}
	*bytes = sb.st_size;
	return fd;
}

int sio_create(int dirfd, const char *name)
{
	int err = hook((struct io_event){ .op = IO_CREATE, .fd = dirfd,
					  .name = name });
	int fd = -1;

	if (!err) {
		fd = openat(dirfd, name,
			    O_RDWR | O_CREAT | O_EXCL | O_CLOEXEC, 0640);
		err = fd < 0 ? -errno : 0;
	}
	return err ? store_fail(err, "cannot create %s: %s", name,
				strerror(-err)) : fd;
}

int sio_mkdir(int dirfd, const char *name, mode_t mode)
{
	int err = hook((struct io_event){ .op = IO_MKDIR, .fd = dirfd,
					  .name = name });

	if (!err && mkdirat(dirfd, name, mode))
		err = -errno;
	return err ? store_fail(err, "cannot make directory %s: %s", name,
				strerror(-err)) : 0;
}

int sio_read(int fd, void *buf, size_t len, uint64_t off, const char *what)
{
	int err = hook((struct io_event){ .op = IO_READ, .fd = fd, .len = len,
					  .off = off });
	size_t done = 0;

	while (!err && done < len) {
		ssize_t n = pread(fd, (char *)buf + done, len - done,
				  off + done);

		if (n < 0 && errno != EINTR)
			err = -errno;
		else if (!n)
			return store_fail(EBADMSG, "%s is truncated: wanted "
					  "%zu bytes at %llu", what, len,
					  (unsigned long long)off);
		else if (n > 0)
			done += n;
	}
	return err ? store_fail(err, "cannot read %s at %llu: %s", what,
				(unsigned long long)off, strerror(-err)) : 0;
}

int sio_write(int fd, const void *buf, size_t len, uint64_t off, const char *what)
{
	int err = hook((struct io_event){ .op = IO_WRITE, .fd = fd, .buf = buf,
					  .len = len, .off = off });
	size_t done = 0;

	while (!err && done < len) {
		ssize_t n = pwrite(fd, (const char *)buf + done, len - done,
				   off + done);

		if (n < 0 && errno != EINTR)
			err = -errno;
		else if (!n)
			err = -ENOSPC;
		else if (n > 0)
			done += n;
	}
	return err ? store_fail(err, "cannot write %s: %s", what,
				strerror(-err)) : 0;
}

int sio_fsync(int fd, const char *what)
{
	int err = hook((struct io_event){ .op = IO_FSYNC, .fd = fd });

	if (!err && fsync(fd))
		err = -errno;
	return err ? store_fail(err, "cannot make %s durable: %s", what,
				strerror(-err)) : 0;
}

int sio_rename(int fd, const char *from, const char *to)
{
	int err = hook((struct io_event){ .op = IO_RENAME, .fd = fd,
					  .name = from, .to_fd = fd,
					  .to_name = to });

	if (!err && renameat2(fd, from, fd, to, RENAME_NOREPLACE)) {
		err = -errno;
		/* A file system without the flag; the store lock guards us. */
		if (err == -EINVAL)
			err = renameat(fd, from, fd, to) ? -errno : 0;
	}
	return err ? store_fail(err, "cannot rename %s to %s: %s", from, to,
				strerror(-err)) : 0;
}

/* A snapshot is flat: files of one directory, nothing deeper. */
int sio_remove_tree(int dirfd, const char *name)
{
	struct dirent *de;
	int fd, err = 0;
	DIR *d;

	fd = sio_open_dir(dirfd, name);
	if (fd < 0)
		return fd == -ENOENT ? 0 : fd;
	d = fdopendir(fd);
	if (!d) {
		close(fd);
		return store_fail(ENOMEM, "out of memory");
	}
	while (!err && (de = readdir(d))) {
		if (!strcmp(de->d_name, ".") || !strcmp(de->d_name, ".."))
			continue;
		err = hook((struct io_event){ .op = IO_UNLINK, .fd = fd,
					      .name = de->d_name });
		if (!err && unlinkat(fd, de->d_name, 0) && errno != ENOENT)
			err = -errno;
	}
	closedir(d);
	if (!err)
		err = hook((struct io_event){ .op = IO_RMDIR, .fd = dirfd,
					      .name = name });
	if (!err && unlinkat(dirfd, name, AT_REMOVEDIR) && errno != ENOENT)
		err = -errno;
	return err ? store_fail(err, "cannot remove %s: %s", name,
				strerror(-err)) : 0;
}
