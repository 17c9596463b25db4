/* SPDX-License-Identifier: GPL-2.0-only */
/* JSON lines with descriptors over a unix stream socket, for both its ends. */
#ifndef VMPLAT_RUN_LINE_H
#define VMPLAT_RUN_LINE_H

#include <json-c/json.h>
#include <stddef.h>

#define LINE_BYTES_MAX	(256 * 1024)	/* of 64 vCPUs, "cpus" is about a third of it */
#define LINE_FDS_MAX	64

/* struct line_io - one connection; used by one thread at a time for each direction */
struct line_io {
	int fd;
	char *buf;
	size_t len;
	int fds[LINE_FDS_MAX];
	size_t nr_fds;
};

void line_init(struct line_io *io, int fd);
/* closes the socket and descriptors nobody took */
void line_exit(struct line_io *io);
int line_send(struct line_io *io, struct json_object *msg, const int *fds,
	      size_t nr_fds);
/*
 * line_recv - read what is there, give one line if one is complete
 *
 * 1 and *msg, 0 when no complete line is there yet, -EPIPE at the end,
 * -EBADMSG for what is not JSON, -EMSGSIZE for a line that is too long.
 * Blocks in recvmsg only when no complete line is buffered.
 */
int line_recv(struct line_io *io, struct json_object **msg);
/* take the descriptors that came so far; the caller owns them */
size_t line_take_fds(struct line_io *io, int fds[LINE_FDS_MAX]);

#endif
