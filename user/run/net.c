// SPDX-License-Identifier: LGPL-2.1-or-later
#include "net.h"

#include <arpa/inet.h>
#include <errno.h>
#include <fcntl.h>
#include <linux/if.h>
#include <linux/if_tun.h>
#include <signal.h>
#include <spawn.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/ioctl.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/un.h>
#include <sys/wait.h>
#include <unistd.h>

#include <vmplat_clock.h>

#include "config.h"
#include "virtio_pci.h"

#define LEN_BYTES	4u
#define RX_BYTES	(2 * (LEN_BYTES + NET_FRAME_MAX))
#define RETRY_MS	1000
#define PASST_FD	3

extern char **environ;

struct net {
	enum vm_net_kind kind;
	char *where;
	int fd;			/* the tap or the stream, -1 while there is none */
	int listen_fd;		/* -1: we are the end that connects */
	uint64_t retry_ms;	/* CLOCK_MONOTONIC: when to try again; streams without fd */

	/* a stream's bytes */
	uint8_t *rx;		/* RX_BYTES */
	size_t rx_from, rx_to;
	uint8_t *tail;		/* of a frame that was sent in part; LEN_BYTES + NET_FRAME_MAX */
	size_t tail_from, tail_to;
};

static uint64_t now_ms(void)
{
	return vmplat_now_ns() / 1000000;
}

static int fail(int err, char *text, size_t bytes, const char *what, const char *where)
{
	snprintf(text, bytes, "%s%s%s: %s", what, *where ? " " : "", where, strerror(-err));
	return err;
}

/* ---- tap ------------------------------------------------------------------- */

/* a tap that we made is of use only when it is up; what it is connected to is the host's */
static void tap_up(const char *name)
{
	struct ifreq ifr = { .ifr_flags = 0 };
	int fd = socket(AF_INET, SOCK_DGRAM | SOCK_CLOEXEC, 0);

	if (fd < 0)
		return;
	strncpy(ifr.ifr_name, name, IFNAMSIZ - 1);
	if (!ioctl(fd, SIOCGIFFLAGS, &ifr)) {
		ifr.ifr_flags |= IFF_UP;
		ioctl(fd, SIOCSIFFLAGS, &ifr);
	}
	close(fd);
}

static bool interface_exists(const char *name)
{
	char path[64];

	snprintf(path, sizeof(path), "/sys/class/net/%s", name);
	return !access(path, F_OK);
}

static int tap_open(struct net *net, char *err, size_t n)
{
	struct ifreq ifr = { .ifr_flags = IFF_TAP | IFF_NO_PI | IFF_VNET_HDR };
	bool there = interface_exists(net->where);
	int hdr = NET_HDR_BYTES;

	net->fd = open("/dev/net/tun", O_RDWR | O_CLOEXEC | O_NONBLOCK);
	if (net->fd < 0)
		return fail(-errno, err, n, "/dev/net/tun", "");
	strncpy(ifr.ifr_name, net->where, IFNAMSIZ - 1);
	if (ioctl(net->fd, TUNSETIFF, &ifr)) {
		int e = errno;

		if (e == EPERM)
			snprintf(err, n, "tap %s: %s; as root: ip tuntap add %s mode tap user %u",
				 net->where, there ? "it is another user's"
						   : "it is not there, and only root makes one",
				 net->where, (unsigned int)geteuid());
		else if (e == EBUSY)
			snprintf(err, n, "tap %s: somebody uses it already", net->where);
		else if (e == EINVAL && there)
			snprintf(err, n, "%s is no tap device, or one of several queues", net->where);
		else
			fail(-e, err, n, "tap", net->where);
		return -e;
	}
	if (ioctl(net->fd, TUNSETVNETHDRSZ, &hdr) || ioctl(net->fd, TUNSETOFFLOAD, 0))
		return fail(-errno, err, n, "tap", net->where);
	if (!there)
		tap_up(net->where);
	return 0;
}

int net_hand_over(const struct net *net, bool *listens)
{
	*listens = net->fd < 0 && net->listen_fd >= 0;
	return *listens ? net->listen_fd : net->fd;
}

bool net_offloads(const struct net *net)
{
	return net->kind == VM_NET_TAP;
}

void net_set_offloads(struct net *net, bool csum, bool tso4, bool tso6)
{
	unsigned int flags = 0;

	if (!net_offloads(net))
		return;
	/* tso without csum makes no sense, and virtio forbids it */
	if (csum)
		flags = TUN_F_CSUM | (tso4 ? TUN_F_TSO4 : 0) | (tso6 ? TUN_F_TSO6 : 0);
	ioctl(net->fd, TUNSETOFFLOAD, flags);
}

/* ---- the connection of a stream -------------------------------------------- */

static struct sockaddr_un address(const struct net *net)
{
	struct sockaddr_un sa = { .sun_family = AF_UNIX };

	strncpy(sa.sun_path, net->where, sizeof(sa.sun_path) - 1);
	return sa;
}

static int connect_stream(struct net *net)
{
	struct sockaddr_un sa = address(net);
	int fd = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0);
	int err;

	if (fd < 0)
		return -errno;
	if (!connect(fd, (struct sockaddr *)&sa, sizeof(sa))) {
		net->fd = fd;
		return 0;
	}
	err = errno;
	close(fd);
	return -err;
}

/* Is it a socket, or nothing at all? */
static bool may_listen(const struct net *net)
{
	struct stat st;

	return lstat(net->where, &st) || S_ISSOCK(st.st_mode);
}

static int listen_stream(struct net *net)
{
	struct sockaddr_un sa = address(net);
	int fd = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0);
	int err;

	if (fd < 0)
		return -errno;
	/* nobody can connect before listen(), and so not before the mode is right */
	if (!bind(fd, (struct sockaddr *)&sa, sizeof(sa)) && !chmod(net->where, 0600) &&
	    !listen(fd, 1)) {
		net->listen_fd = fd;
		return 0;
	}
	err = errno;
	close(fd);
	return -err;
}

/* Find the other end, or be the one that is found. */
static int meet(struct net *net)
{
	int ret = connect_stream(net);

	if (!may_listen(net))
		return -ENOTSOCK;
	if (ret == -ECONNREFUSED)
		unlink(net->where);	/* a dead one's */
	if (ret == -ECONNREFUSED || ret == -ENOENT)
		ret = listen_stream(net);
	/* Two that came at the same time: the other one listens now. */
	return ret == -EADDRINUSE ? -EAGAIN : ret;
}

/* It goes into the background when it is ready; what went wrong it says itself. */
static int passt_wait(pid_t pid)
{
	int status;

	while (waitpid(pid, &status, 0) < 0)
		if (errno != EINTR)
			return -errno;
	return WIFEXITED(status) && !WEXITSTATUS(status) ? 0 : -EPROTO;
}

/* It ends when the stream does, also after a kill -9 of this process. */
static int passt_start(struct net *net)
{
	char *argv[] = { "passt", "--quiet", "--fd", "3", NULL };
	posix_spawn_file_actions_t actions;
	posix_spawnattr_t attr;
	sigset_t none, pipe;
	int s[2], ret;
	pid_t pid;

	if (socketpair(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0, s))
		return -errno;
	sigemptyset(&none);
	sigemptyset(&pipe);
	sigaddset(&pipe, SIGPIPE);
	posix_spawnattr_init(&attr);
	posix_spawnattr_setsigmask(&attr, &none);
	posix_spawnattr_setsigdefault(&attr, &pipe);
	posix_spawnattr_setflags(&attr, POSIX_SPAWN_SETSIGMASK | POSIX_SPAWN_SETSIGDEF);
	posix_spawn_file_actions_init(&actions);
	/* dup2() clears close-on-exec, unless it has nothing to do */
	if (s[1] == PASST_FD)
		fcntl(s[1], F_SETFD, 0);
	posix_spawn_file_actions_adddup2(&actions, s[1], PASST_FD);
	ret = -posix_spawnp(&pid, argv[0], &actions, &attr, argv, environ);
	posix_spawn_file_actions_destroy(&actions);
	posix_spawnattr_destroy(&attr);
	close(s[1]);
	if (!ret)
		ret = passt_wait(pid);
	if (ret)
		close(s[0]);
	else
		net->fd = s[0];
	return ret;
}

static void retry_later(struct net *net)
{
	net->retry_ms = now_ms() + RETRY_MS;
}

static int stream_open(struct net *net, char *err, size_t n)
{
	int ret;

	net->rx = malloc(RX_BYTES);
	net->tail = malloc(LEN_BYTES + NET_FRAME_MAX);
	if (!net->rx || !net->tail)
		return fail(-ENOMEM, err, n, "network", "");
	if (net->kind == VM_NET_PASST) {
		ret = passt_start(net);
		if (ret == -ENOENT)
			snprintf(err, n, "there is no passt; Debian's package is called so");
		else if (ret)
			snprintf(err, n, "passt does not start; it has said why");
		return ret;
	}
	ret = meet(net);
	if (ret && ret != -EAGAIN)
		return fail(ret, err, n, "socket", net->where);
	retry_later(net);
	return 0;
}

static void disconnect(struct net *net)
{
	close(net->fd);
	net->fd = -1;
	net->rx_from = net->rx_to = net->tail_from = net->tail_to = 0;
	retry_later(net);
}

static void reconnect(struct net *net)
{
	int ret;

	if (net->listen_fd >= 0) {
		net->fd = accept4(net->listen_fd, NULL, NULL, SOCK_CLOEXEC | SOCK_NONBLOCK);
		return;
	}
	if (now_ms() < net->retry_ms)
		return;
	ret = net->kind == VM_NET_PASST ? passt_start(net) : meet(net);
	if (ret)
		retry_later(net);
}

/* ---- frames of a stream ---------------------------------------------------- */

static void send_tail(struct net *net)
{
	while (net->tail_from < net->tail_to) {
		ssize_t n = send(net->fd, net->tail + net->tail_from,
				 net->tail_to - net->tail_from, MSG_NOSIGNAL);

		if (n < 0 && errno == EINTR)
			continue;
		if (n < 0 && errno == EAGAIN)
			return;
		if (n < 0) {
			disconnect(net);
			return;
		}
		net->tail_from += (size_t)n;
	}
	net->tail_from = net->tail_to = 0;
}

static void stream_send(struct net *net, struct iovec *iov, unsigned int nr)
{
	uint32_t bytes = 0, len;

	if (net->fd >= 0)
		send_tail(net);
	if (net->fd < 0 || net->tail_to)
		return;
	nr = virtio_iov_trim_front(&iov, nr, NET_HDR_BYTES);
	for (unsigned int i = 0; i < nr; i++)
		bytes += (uint32_t)iov[i].iov_len;
	len = htonl(bytes);
	/* what is left over must be kept anyway, and a frame is short */
	memcpy(net->tail, &len, LEN_BYTES);
	virtio_iov_read(iov, nr, 0, net->tail + LEN_BYTES, bytes);
	net->tail_to = LEN_BYTES + bytes;
	send_tail(net);
	if (!net->tail_from)	/* not a byte went: as well drop it */
		net->tail_to = 0;
}

/* Length of the frame that is complete in the buffer, 0: none, -EPROTO */
static int buffered(const struct net *net)
{
	size_t have = net->rx_to - net->rx_from;
	uint32_t len;

	if (have < LEN_BYTES)
		return 0;
	memcpy(&len, net->rx + net->rx_from, LEN_BYTES);
	len = ntohl(len);
	if (!len || len > NET_FRAME_MAX)
		return -EPROTO;
	return have - LEN_BYTES < len ? 0 : (int)len;
}

/* false: nothing came, or the other end is gone */
static bool receive_more(struct net *net)
{
	ssize_t n;

	memmove(net->rx, net->rx + net->rx_from, net->rx_to - net->rx_from);
	net->rx_to -= net->rx_from;
	net->rx_from = 0;
	do
		n = read(net->fd, net->rx + net->rx_to, RX_BYTES - net->rx_to);
	while (n < 0 && errno == EINTR);
	if (n > 0)
		net->rx_to += (size_t)n;
	else if (!n || errno != EAGAIN)
		disconnect(net);
	return n > 0;
}

static size_t stream_recv(struct net *net, uint8_t *buf)
{
	int len;

	if (net->fd < 0)
		return 0;
	while (!(len = buffered(net)))
		if (!receive_more(net))
			return 0;
	if (len < 0) {		/* not our protocol: there is no way back into step */
		disconnect(net);
		return 0;
	}
	memset(buf, 0, NET_HDR_BYTES);
	memcpy(buf + NET_HDR_BYTES, net->rx + net->rx_from + LEN_BYTES, (size_t)len);
	net->rx_from += LEN_BYTES + (size_t)len;
	return NET_HDR_BYTES + (size_t)len;
}

/* ---- either ---------------------------------------------------------------- */

int net_open(const struct vm_net *cfg, struct net **out, char *err, size_t n)
{
	struct net *net = calloc(1, sizeof(*net));
	int ret;

	*out = NULL;
	if (!net)
		return fail(-ENOMEM, err, n, "network", "");
	net->kind = cfg->kind;
	net->fd = net->listen_fd = -1;
	net->where = strdup(cfg->where ? cfg->where : "");
	if (!net->where)
		ret = fail(-ENOMEM, err, n, "network", "");
	else
		ret = cfg->kind == VM_NET_TAP ? tap_open(net, err, n) : stream_open(net, err, n);
	if (ret) {
		net_close(net);
		return ret;
	}
	*out = net;
	return 0;
}

void net_close(struct net *net)
{
	if (!net)
		return;
	if (net->fd >= 0)
		close(net->fd);
	if (net->listen_fd >= 0) {
		unlink(net->where);
		close(net->listen_fd);
	}
	free(net->rx);
	free(net->tail);
	free(net->where);
	free(net);
}

void net_wait(const struct net *net, bool receive, struct pollfd *p, int *timeout_ms)
{
	uint64_t now;

	if (net->fd < 0 && net->listen_fd >= 0) {
		*p = (struct pollfd){ .fd = net->listen_fd, .events = POLLIN };
	} else if (net->fd < 0) {
		now = now_ms();
		*timeout_ms = now < net->retry_ms ? (int)(net->retry_ms - now) : 0;
	} else if (receive && net->rx_to && buffered(net)) {
		*timeout_ms = 0;
	} else {
		p->events = (short)((receive ? POLLIN : 0) | (net->tail_to ? POLLOUT : 0));
		/* without an event asked for, poll() would still tell of the other end's death */
		p->fd = p->events ? net->fd : -1;
	}
}

void net_event(struct net *net, short revents)
{
	if (net->kind == VM_NET_TAP)
		return;
	if (net->fd < 0)
		reconnect(net);
	else if (revents & POLLOUT)
		send_tail(net);
}

size_t net_recv(struct net *net, uint8_t *buf)
{
	ssize_t n;

	if (net->kind != VM_NET_TAP)
		return stream_recv(net, buf);
	do
		n = read(net->fd, buf, NET_HDR_BYTES + NET_FRAME_MAX);
	while (n < 0 && errno == EINTR);
	return n > (ssize_t)NET_HDR_BYTES ? (size_t)n : 0;
}

void net_send(struct net *net, struct iovec *iov, unsigned int nr)
{
	if (net->kind != VM_NET_TAP)
		stream_send(net, iov, nr);
	else if (writev(net->fd, iov, (int)nr) < 0)
		return;		/* full, down, or nonsense from the guest: dropped */
}
