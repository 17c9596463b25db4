// SPDX-License-Identifier: GPL-2.0-only
#include "line.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <unistd.h>

void line_init(struct line_io *io, int fd)
{
	memset(io, 0, sizeof(*io));
	io->fd = fd;
}

void line_exit(struct line_io *io)
{
	for (size_t i = 0; i < io->nr_fds; i++)
		close(io->fds[i]);
	if (io->fd >= 0)
		close(io->fd);
	free(io->buf);
	memset(io, 0, sizeof(*io));
	io->fd = -1;
}

/* the descriptors ride on the first byte of the line */
static ssize_t send_some(int fd, const char *p, size_t len, const int *fds,
			 size_t nr_fds)
{
	union {
		struct cmsghdr head;
		char room[CMSG_SPACE(sizeof(int) * LINE_FDS_MAX)];
	} u;
	struct iovec iov = { .iov_base = (void *)p, .iov_len = len };
	struct msghdr m = { .msg_iov = &iov, .msg_iovlen = 1 };

	if (nr_fds) {
		memset(&u, 0, sizeof(u));
		m.msg_control = u.room;
		m.msg_controllen = CMSG_SPACE(sizeof(int) * nr_fds);
		u.head.cmsg_level = SOL_SOCKET;
		u.head.cmsg_type = SCM_RIGHTS;
		u.head.cmsg_len = CMSG_LEN(sizeof(int) * nr_fds);
		memcpy(CMSG_DATA(&u.head), fds, sizeof(int) * nr_fds);
	}
	return sendmsg(fd, &m, MSG_NOSIGNAL);
}

int line_send(struct line_io *io, struct json_object *msg, const int *fds,
	      size_t nr_fds)
{
	const char *text = json_object_to_json_string_ext(msg,
							  JSON_C_TO_STRING_PLAIN);
	size_t len = strlen(text), at = 0;
	char *line;
	int ret = 0;

	if (nr_fds > LINE_FDS_MAX || len + 1 > LINE_BYTES_MAX)
		return -EMSGSIZE;
	line = malloc(len + 1);
	if (!line)
		return -ENOMEM;
	memcpy(line, text, len);
	line[len++] = '\n';
	while (at < len) {
		ssize_t n = send_some(io->fd, line + at, len - at, fds,
				      at ? 0 : nr_fds);

		if (n < 0 && errno == EINTR)
			continue;
		if (n < 0) {
			ret = errno == ECONNRESET ? -EPIPE : -errno;
			break;
		}
		at += (size_t)n;
	}
	free(line);
	return ret;
}

static void keep_fds(struct line_io *io, struct msghdr *m)
{
	for (struct cmsghdr *c = CMSG_FIRSTHDR(m); c; c = CMSG_NXTHDR(m, c)) {
		size_t nr;

		if (c->cmsg_level != SOL_SOCKET || c->cmsg_type != SCM_RIGHTS)
			continue;
		nr = (c->cmsg_len - CMSG_LEN(0)) / sizeof(int);
		for (size_t i = 0; i < nr; i++) {
			int fd;

			memcpy(&fd, CMSG_DATA(c) + i * sizeof(int), sizeof(fd));
			if (io->nr_fds < LINE_FDS_MAX)
				io->fds[io->nr_fds++] = fd;
			else
				close(fd);
		}
	}
}

static int recv_some(struct line_io *io)
{
	union {
		struct cmsghdr head;
		char room[CMSG_SPACE(sizeof(int) * LINE_FDS_MAX)];
	} u;
	struct iovec iov = {
		.iov_base = io->buf + io->len,
		.iov_len = LINE_BYTES_MAX - io->len,
	};
	struct msghdr m = {
		.msg_iov = &iov, .msg_iovlen = 1,
		.msg_control = u.room, .msg_controllen = sizeof(u.room),
	};
	ssize_t n;

	do
		n = recvmsg(io->fd, &m, MSG_CMSG_CLOEXEC);
	while (n < 0 && errno == EINTR);
	if (n < 0)
		return errno == ECONNRESET ? -EPIPE : -errno;
	keep_fds(io, &m);
	if (!n)
		return -EPIPE;
	io->len += (size_t)n;
	return 0;
}

int line_recv(struct line_io *io, struct json_object **msg)
{
	char *nl;
	int ret;

	*msg = NULL;
	if (!io->buf) {
		io->buf = malloc(LINE_BYTES_MAX);
		if (!io->buf)
			return -ENOMEM;
	}
	nl = memchr(io->buf, '\n', io->len);
	if (!nl) {
		if (io->len == LINE_BYTES_MAX)
			return -EMSGSIZE;
		ret = recv_some(io);
		if (ret)
			return ret;
		nl = memchr(io->buf, '\n', io->len);
		if (!nl)
			return io->len == LINE_BYTES_MAX ? -EMSGSIZE : 0;
	}
	*nl = 0;
	*msg = json_tokener_parse(io->buf);
	io->len -= (size_t)(nl + 1 - io->buf);
	memmove(io->buf, nl + 1, io->len);
	if (*msg && json_object_is_type(*msg, json_type_object))
		return 1;
	json_object_put(*msg);
	*msg = NULL;
	return -EBADMSG;
}

size_t line_take_fds(struct line_io *io, int fds[LINE_FDS_MAX])
{
	size_t nr = io->nr_fds;

	memcpy(fds, io->fds, nr * sizeof(int));
	io->nr_fds = 0;
	return nr;
}
