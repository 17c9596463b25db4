// SPDX-License-Identifier: GPL-2.0-only
/* Talking to a running VM; client.h. */
#include "client.h"

#include <dirent.h>
#include <errno.h>
#include <poll.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/un.h>
#include <unistd.h>

#include "line.h"
#include "record.h"

struct vm_client {
	struct line_io io;
	char name[64];
};

#define fail(err, ...)	vmplat_error_set(err, __VA_ARGS__)

const char *vm_run_dir(void)
{
	static _Thread_local char dir[96];
	const char *env = getenv("VMPLAT_RUN_DIR");
	const char *xdg = getenv("XDG_RUNTIME_DIR");
	int n;

	if (env && *env)
		n = snprintf(dir, sizeof(dir), "%s", env);
	else if (geteuid() == 0)
		n = snprintf(dir, sizeof(dir), "/run/vmplat-vms");
	else if (xdg && *xdg)
		n = snprintf(dir, sizeof(dir), "%s/vmplat", xdg);
	else
		n = 0;
	if (n > 0 && (size_t)n < sizeof(dir))
		return dir;
	fail(0, n ? "the directory for control sockets has a name longer than %zu bytes; set VMPLAT_RUN_DIR to a shorter one"
		  : "no directory for control sockets (max %zu bytes): set VMPLAT_RUN_DIR or XDG_RUNTIME_DIR",
	     sizeof(dir) - 1);
	return NULL;
}

/* Nobody listens: its record knows why. */
static int nobody(const char *dir, const char *name, int err)
{
	struct json_object *record = record_read(dir, name);
	char text[RECORD_WHY + 600];
	struct vmplat_error e;

	if (record) {
		record_sentence(record, text, sizeof(text));
		json_object_put(record);
		return fail(-ECONNREFUSED, "VM '%s' %s", name, text);
	}
	vmplat_error_get(&e);
	if (e.err == -EBADMSG)
		return e.err;
	if (err == ECONNREFUSED)
		return fail(-err, "VM '%s' is dead: nobody listens on %s/%s.sock; `vmplat vm forget %s` removes it",
			    name, dir, name, name);
	return fail(-err, "there is no VM called '%s' in %s; `vmplat vm list` shows what there is", name, dir);
}

static int connect_to(const char *dir, const char *name)
{
	struct sockaddr_un sa = { .sun_family = AF_UNIX };
	int fd, err;

	if (snprintf(sa.sun_path, sizeof(sa.sun_path), "%s/%s.sock", dir, name) >=
	    (int)sizeof(sa.sun_path))
		return fail(-ENAMETOOLONG, "the path %s/%s.sock is too long for a socket", dir, name);
	fd = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0);
	if (fd < 0)
		return fail(-errno, "no socket: %s", strerror(errno));
	if (!connect(fd, (struct sockaddr *)&sa, sizeof(sa)))
		return fd;
	err = errno;
	close(fd);
	if (err == ENOENT || err == ECONNREFUSED)
		return nobody(dir, name, err);
	return fail(-err, "%s: %s", sa.sun_path, strerror(err));
}

int vm_client_open(struct vm_client **out, const char *name)
{
	const char *dir = vm_run_dir();
	struct vm_client *c;
	int fd;

	*out = NULL;
	if (!dir)
		return -ENOENT;
	if (!*name || strchr(name, '/'))
		return fail(-EINVAL, "'%s' is no name of a VM", name);
	fd = connect_to(dir, name);
	if (fd < 0)
		return fd;
	c = calloc(1, sizeof(*c));
	if (!c) {
		close(fd);
		return fail(-ENOMEM, "out of memory");
	}
	line_init(&c->io, fd);
	snprintf(c->name, sizeof(c->name), "%s", name);
	*out = c;
	return 0;
}

void vm_client_close(struct vm_client *c)
{
	if (!c)
		return;
	line_exit(&c->io);
	free(c);
}

int vm_client_fd(const struct vm_client *c)
{
	return c->io.fd;
}

int vm_client_send(struct vm_client *c, struct json_object *req,
		   const int *fds, size_t nr_fds)
{
	int ret = line_send(&c->io, req, fds, nr_fds);

	if (ret)
		fail(ret, "VM '%s' does not take requests: %s", c->name, strerror(-ret));
	return ret;
}

static int wait_readable(struct vm_client *c, int timeout_ms)
{
	struct pollfd p = { .fd = c->io.fd, .events = POLLIN };
	int ret;

	if (timeout_ms < 0 || memchr(c->io.buf ? c->io.buf : "", '\n', c->io.len))
		return 0;
	do
		ret = poll(&p, 1, timeout_ms);
	while (ret < 0 && errno == EINTR);
	if (!ret)
		return fail(-ETIMEDOUT, "VM '%s' did not answer within %d ms", c->name, timeout_ms);
	return ret < 0 ? -errno : 0;
}

int vm_client_recv(struct vm_client *c, struct json_object **msg, int *fds,
		   size_t *nr_fds, int timeout_ms)
{
	int got[LINE_FDS_MAX];
	size_t nr;
	int ret;

	*msg = NULL;
	do {
		ret = wait_readable(c, timeout_ms);
		if (!ret)
			ret = line_recv(&c->io, msg);
	} while (!ret);
	if (ret == -EPIPE)
		return fail(ret, "VM '%s' has hung up", c->name);
	if (ret < 0)
		return ret == -ETIMEDOUT ? ret :
			fail(ret, "VM '%s' answered what is not understood: %s", c->name, strerror(-ret));
	nr = line_take_fds(&c->io, got);
	if (fds && nr_fds) {
		memcpy(fds, got, nr * sizeof(int));
		*nr_fds = nr;
		return 0;
	}
	for (size_t i = 0; i < nr; i++)
		close(got[i]);
	return 0;
}

static int reply_error(struct vm_client *c, struct json_object *msg)
{
	struct json_object *v;
	const char *text = "it gave no reason";
	int err = EIO;

	if (json_object_object_get_ex(msg, "error", &v))
		text = json_object_get_string(v);
	if (json_object_object_get_ex(msg, "errno", &v) && json_object_get_int(v) > 0)
		err = json_object_get_int(v);
	return fail(-err, "VM '%s': %s", c->name, text);
}

int vm_client_call(struct vm_client *c, struct json_object *req,
		   const int *fds, size_t nr_fds, struct json_object **reply,
		   int *out_fds, size_t *nr_out_fds)
{
	struct json_object *v;
	int ret;

	*reply = NULL;
	ret = vm_client_send(c, req, fds, nr_fds);
	while (!ret) {
		ret = vm_client_recv(c, reply, out_fds, nr_out_fds, -1);
		if (ret)
			break;
		if (json_object_object_get_ex(*reply, "ok", &v))
			break;
		json_object_put(*reply);
		*reply = NULL;
	}
	if (ret || json_object_get_boolean(v))
		return ret;
	ret = reply_error(c, *reply);
	json_object_put(*reply);
	*reply = NULL;
	return ret;
}

struct json_object *vm_client_record(const char *name)
{
	const char *dir = vm_run_dir();

	return dir ? record_read(dir, name) : NULL;
}

/* its suffix, or NULL */
static char *suffix_of(char *file)
{
	static const char *const suffixes[] = { ".sock", ".life" };
	size_t n = strlen(file);

	for (int i = 0; i < 2; i++)
		if (n > 5 && !strcmp(file + n - 5, suffixes[i]))
			return file + n - 5;
	return NULL;
}

static int is_of_vm(const struct dirent *d)
{
	return suffix_of((char *)d->d_name) != NULL;
}

/* by the VM's name, so that its files are neighbours */
static int by_name(const struct dirent **a, const struct dirent **b)
{
	const char *x = (*a)->d_name, *y = (*b)->d_name;
	size_t n = strlen(x) - 5, m = strlen(y) - 5;
	int order = strncmp(x, y, n < m ? n : m);

	return order ? order : (n > m) - (n < m);
}

int vm_client_list(int (*fn)(void *ctx, const char *name), void *ctx)
{
	const char *dir = vm_run_dir();
	const char *before = "";
	struct dirent **list;
	int nr, ret = 0;

	if (!dir)
		return -ENOENT;
	nr = scandir(dir, &list, is_of_vm, by_name);
	if (nr < 0)
		return errno == ENOENT ? 0 : fail(-errno, "%s: %s", dir, strerror(errno));
	for (int i = 0; i < nr; i++) {
		*suffix_of(list[i]->d_name) = 0;
		if (!ret && strcmp(before, list[i]->d_name))
			ret = fn(ctx, list[i]->d_name);
		before = list[i]->d_name;
	}
	while (nr)
		free(list[--nr]);
	free(list);
	return ret;
}
