/* SPDX-License-Identifier: LGPL-2.1-or-later */
/*
 * The only place where the store touches files. Reads and writes are complete
 * or an error; failures leave a sentence with the file's name.
 *
 * store_io_hook, when set, hears of every step before it happens and can make
 * it fail: how the tests cut the power and fill the disk.
 */
#ifndef VMPLAT_STORE_IO_H
#define VMPLAT_STORE_IO_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <sys/types.h>

#include <vmplat_error.h>

enum io_op {
	IO_MKDIR,
	IO_CREATE,
	IO_WRITE,
	IO_READ,
	IO_FSYNC,
	IO_RENAME,
	IO_UNLINK,
	IO_RMDIR,
};

struct io_event {
	enum io_op op;
	int fd;			/* the file, or the directory of @name */
	const char *name;
	int to_fd;		/* rename */
	const char *to_name;
	const void *buf;	/* write */
	size_t len;
	uint64_t off;
};

/* Returns 0, or -errno to fail the step. Called from any thread. */
extern int (*store_io_hook)(const struct io_event *ev);

#define store_fail(err, ...)	vmplat_error_set(err, __VA_ARGS__)

int sio_open_dir(int dirfd, const char *name);
/* sio_open_read - -EBADMSG: not there, or not a regular file */
int sio_open_read(int dirfd, const char *name, uint64_t *bytes);
int sio_create(int dirfd, const char *name);
int sio_mkdir(int dirfd, const char *name, mode_t mode);
/* sio_read - -EBADMSG when the file ends before @off + @len */
int sio_read(int fd, void *buf, size_t len, uint64_t off, const char *what);
int sio_write(int fd, const void *buf, size_t len, uint64_t off, const char *what);
int sio_fsync(int fd, const char *what);
int sio_rename(int fd, const char *from, const char *to);
int sio_remove_tree(int dirfd, const char *name);

#endif /* VMPLAT_STORE_IO_H */
