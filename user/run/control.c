// SPDX-License-Identifier: GPL-2.0-only
/* The control socket and its thread; control.h has the protocol. */
#include "control.h"

#include <errno.h>
#include <fcntl.h>
#include <json-c/json.h>
#include <poll.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/eventfd.h>
#include <sys/file.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/un.h>
#include <unistd.h>
#include <vmplat_thread.h>

#include "board.h"
#include "client.h"
#include "devices.h"
#include "line.h"
#include "snapshot.h"
#include "vm_priv.h"

#define CLIENTS_MAX	16

struct client {
	struct line_io io;		/* fd -1: free */
	struct snapshot *snap;		/* made on this connection */
	bool waiting;			/* its request is not decided yet: no other is read */
};

struct control {
	struct vm *vm;
	struct sockaddr_un addr;
	int fd, lock_fd, stop_fd;
	struct vmplat_thread *thread;
	struct client clients[CLIENTS_MAX];	/* the thread's */
};

const char *control_path(const struct control *c)
{
	return c->addr.sun_path;
}

/* ---- requests ------------------------------------------------------------------- */

struct request {
	struct control *control;
	struct client *client;
	struct json_object *msg;
	struct json_object *reply;
	int in[LINE_FDS_MAX];		/* closed by the caller unless set to -1 */
	size_t nr_in;
	int out[SNAPSHOT_FDS];		/* to send beside the reply; borrowed */
	size_t nr_out;
	char why[512];
};

static int do_status(struct request *r)
{
	struct vm *vm = r->control->vm;
	struct vmplat_log_status st;
	char hex[2 * VMPLAT_ID_BYTES + 1];
	struct json_object *cfg;

	pthread_mutex_lock(&vm->op);
	cfg = vm_config_to_json(&vm->cfg);
	pthread_mutex_unlock(&vm->op);
	json_object_object_add(r->reply, "state",
			       json_object_new_string(vm_status_name(vm_status(vm))));
	json_object_object_add(r->reply, "pid", json_object_new_int(getpid()));
	json_object_object_add(r->reply, "engine",
			       json_object_new_string(vm->qemu ? "qemu" : "kvm"));
	json_object_object_add(r->reply, "snapshots", json_object_new_boolean(vm->log != NULL));
	if (vm->log && !vmplat_log_query(vm->log, &st)) {
		json_object_object_add(r->reply, "base",
				       snapshot_id_json(st.out_id, hex));
		json_object_object_add(r->reply, "dirty_pages",
				       json_object_new_int64((int64_t)st.out_nr_dirty));
	}
	json_object_object_foreach(cfg, key, v)
		json_object_object_add(r->reply, key, json_object_get(v));
	json_object_put(cfg);
	return 0;
}

static int engine(struct request *r, int (*fn)(struct vm *vm))
{
	int ret = fn(r->control->vm);

	if (ret)
		vm_last_error(r->control->vm, r->why, sizeof(r->why));
	return ret;
}

static int do_pause(struct request *r)
{
	return engine(r, vm_pause);
}

static int do_resume(struct request *r)
{
	return engine(r, vm_resume);
}

static int do_reset(struct request *r)
{
	return engine(r, vm_reset);
}

static int do_stop(struct request *r)
{
	vm_request(r->control->vm, VM_REQ_POWEROFF);
	return 0;
}

static int do_powerdown(struct request *r)
{
	return engine(r, vm_powerdown);
}

static int do_snapshot(struct request *r)
{
	if (r->client->snap) {
		snprintf(r->why, sizeof(r->why),
			 "this connection has a snapshot already; commit or abort it first");
		return -EBUSY;
	}
	return snapshot_take(&r->client->snap, r->control->vm, r->client->io.fd,
			     r->msg, r->in, r->nr_in, r->reply, r->out, &r->nr_out,
			     r->why, sizeof(r->why));
}

static int do_snapshot_end(struct request *r, bool commit)
{
	int ret;

	if (!r->client->snap) {
		snprintf(r->why, sizeof(r->why), "this connection has made no snapshot");
		return -ENOENT;
	}
	ret = commit ? snapshot_commit(r->client->snap, r->why, sizeof(r->why)) : 0;
	if (ret)
		return ret;
	snapshot_free(r->client->snap);
	r->client->snap = NULL;
	return 0;
}

static int do_snapshot_commit(struct request *r)
{
	return do_snapshot_end(r, true);
}

static int do_snapshot_abort(struct request *r)
{
	return do_snapshot_end(r, false);
}

/* for the developer: every vCPU's registers, on the VM's standard error */
static int do_dump(struct request *r)
{
	struct vm *vm = r->control->vm;

	pthread_mutex_lock(&vm->op);
	if (vm_status(vm) == VM_RUNNING) {
		vm_halt(vm);
		for (unsigned int i = 0; i < vm->nr_vcpus; i++)
			arch_vcpu_dump(&vm->vcpus[i]);
		vm_unhalt(vm);
	}
	pthread_mutex_unlock(&vm->op);
	return 0;
}

static int do_device_add(struct request *r)
{
	struct vm *vm = r->control->vm;
	int ret = devices_add(vm, r->msg, r->client, r->reply);

	if (ret)
		vm_last_error(vm, r->why, sizeof(r->why));
	return ret;
}

static int do_device_remove(struct request *r)
{
	struct vm *vm = r->control->vm;
	int ret = devices_remove(vm, r->msg, r->client);

	if (ret)
		vm_last_error(vm, r->why, sizeof(r->why));
	return ret;
}

static int do_device_list(struct request *r)
{
	json_object_object_add(r->reply, "devices", devices_list(r->control->vm));
	return 0;
}

static const struct {
	const char *name;
	int (*fn)(struct request *r);
} commands[] = {
	{ "status", do_status },
	{ "pause", do_pause },
	{ "resume", do_resume },
	{ "reset", do_reset },
	{ "stop", do_stop },
	{ "quit", do_stop },
	{ "powerdown", do_powerdown },
	{ "dump", do_dump },
	{ "snapshot", do_snapshot },
	{ "snapshot-commit", do_snapshot_commit },
	{ "snapshot-abort", do_snapshot_abort },
	{ "device-add", do_device_add },
	{ "device-remove", do_device_remove },
	{ "device-list", do_device_list },
};

static int dispatch(struct request *r)
{
	struct json_object *v;
	const char *cmd;

	if (!json_object_object_get_ex(r->msg, "cmd", &v) ||
	    !json_object_is_type(v, json_type_string)) {
		snprintf(r->why, sizeof(r->why), "the request has no \"cmd\"");
		return -EINVAL;
	}
	cmd = json_object_get_string(v);
	for (size_t i = 0; i < sizeof(commands) / sizeof(commands[0]); i++)
		if (!strcmp(commands[i].name, cmd))
			return commands[i].fn(r);
	snprintf(r->why, sizeof(r->why), "'%.40s' is no command", cmd);
	return -ENOSYS;
}

/* makes @reply what the outcome is */
static struct json_object *verdict(struct json_object *reply, int err, const char *why)
{
	if (err) {
		json_object_put(reply);
		reply = json_object_new_object();
	}
	json_object_object_add(reply, "ok", json_object_new_boolean(!err));
	if (err) {
		json_object_object_add(reply, "errno", json_object_new_int(-err));
		json_object_object_add(reply, "code",
				       json_object_new_string(vmplat_code_name(vmplat_code_of(err))));
		json_object_object_add(reply, "error",
				       json_object_new_string(*why ? why : strerror(-err)));
	}
	return reply;
}

/* false: the connection is of no more use */
static bool answer(struct control *c, struct client *cl, struct json_object *msg)
{
	struct request r = { .control = c, .client = cl, .msg = msg };
	int ret;

	r.nr_in = line_take_fds(&cl->io, r.in);
	r.reply = json_object_new_object();
	ret = dispatch(&r);
	for (size_t i = 0; i < r.nr_in; i++)
		if (r.in[i] >= 0)
			close(r.in[i]);
	if (ret == -EINPROGRESS) {
		cl->waiting = true;
		json_object_put(r.reply);
		return true;
	}
	if (ret)
		r.nr_out = 0;
	r.reply = verdict(r.reply, ret, r.why);
	ret = line_send(&cl->io, r.reply, r.out, r.nr_out);
	json_object_put(r.reply);
	if (!ret && cl->snap)
		snapshot_sent(cl->snap);
	return !ret;
}

/* ---- the thread ------------------------------------------------------------------- */

static void client_drop(struct control *c, struct client *cl)
{
	if (cl->waiting)
		devices_forget(c->vm, cl);
	cl->waiting = false;
	snapshot_free(cl->snap);
	cl->snap = NULL;
	line_exit(&cl->io);
}

static void on_decided(void *waiter, int err, const char *why, struct json_object *device)
{
	struct json_object *reply = json_object_new_object();
	struct client *cl = waiter;

	if (device)
		json_object_object_add(reply, "device", json_object_get(device));
	reply = verdict(reply, err, why);
	cl->waiting = false;
	/* A client that is gone is noticed by poll(). */
	line_send(&cl->io, reply, NULL, 0);
	json_object_put(reply);
}

static void client_event(struct control *c, struct client *cl)
{
	struct json_object *msg;
	bool keep = true;
	int ret;

	do {
		ret = line_recv(&cl->io, &msg);
		if (ret == 1) {
			keep = answer(c, cl, msg);
			json_object_put(msg);
		} else if (ret < 0) {
			keep = false;
		}
	} while (keep && ret == 1 && !cl->waiting && memchr(cl->io.buf, '\n', cl->io.len));
	if (!keep)
		client_drop(c, cl);
}

/* A client that waits is listened to for one thing only: that it hangs up. */
static void client_look(struct control *c, struct client *cl, short revents)
{
	if (!cl->waiting)
		client_event(c, cl);
	else if (revents & (POLLHUP | POLLERR))
		client_drop(c, cl);
}

/* What came while the client was waiting is read already, and poll() would not say so. */
static void client_backlog(struct control *c, struct client *cl)
{
	if (cl->io.fd >= 0 && !cl->waiting && cl->io.len && memchr(cl->io.buf, '\n', cl->io.len))
		client_event(c, cl);
}

static void client_accept(struct control *c)
{
	int fd = accept4(c->fd, NULL, NULL, SOCK_CLOEXEC);
	struct timeval patience = { .tv_sec = 10 };

	if (fd < 0)
		return;
	/* a client that does not read must not stop the others */
	setsockopt(fd, SOL_SOCKET, SO_SNDTIMEO, &patience, sizeof(patience));
	for (int i = 0; i < CLIENTS_MAX; i++) {
		if (c->clients[i].io.fd >= 0)
			continue;
		line_init(&c->clients[i].io, fd);
		return;
	}
	close(fd);
}

static void *control_main(void *arg)
{
	struct control *c = arg;
	struct pollfd p[CLIENTS_MAX + 3];
	int ready;

	for (;;) {
		p[0] = (struct pollfd){ .fd = c->stop_fd, .events = POLLIN };
		p[1] = (struct pollfd){ .fd = c->fd, .events = POLLIN };
		p[2] = (struct pollfd){ .fd = c->vm->changed_fd, .events = POLLIN };
		for (int i = 0; i < CLIENTS_MAX; i++)
			p[i + 3] = (struct pollfd){
				.fd = c->clients[i].io.fd,
				.events = c->clients[i].waiting ? 0 : POLLIN,
			};
		ready = poll(p, CLIENTS_MAX + 3, devices_timeout_ms(c->vm));
		if (ready < 0)
			continue;
		if (p[0].revents)
			return NULL;
		for (int i = 0; i < CLIENTS_MAX; i++)
			if (p[i + 3].revents)
				client_look(c, &c->clients[i], p[i + 3].revents);
		if (p[2].revents || !ready || !devices_timeout_ms(c->vm))
			devices_poll(c->vm, on_decided);
		for (int i = 0; i < CLIENTS_MAX; i++)
			client_backlog(c, &c->clients[i]);
		if (p[1].revents)
			client_accept(c);
	}
}

/* ---- the socket ------------------------------------------------------------------- */

/*
 * The lock file says who owns the name: held by the living, dropped by the kernel
 * with the dead, so that two starts cannot both find the same socket stale.
 */
static int take_name(struct control *c, const char *dir, const char *name,
		     char *err, size_t err_bytes)
{
	char path[160];

	if (mkdir(dir, 0700) && errno != EEXIST) {
		snprintf(err, err_bytes, "%s: %s; VMPLAT_RUN_DIR names another directory for control sockets",
			 dir, strerror(errno));
		return -errno;
	}
	snprintf(path, sizeof(path), "%s/%s.lock", dir, name);
	c->lock_fd = open(path, O_RDWR | O_CREAT | O_CLOEXEC | O_NOFOLLOW, 0600);
	if (c->lock_fd < 0) {
		snprintf(err, err_bytes, "%s: %s", path, strerror(errno));
		return -errno;
	}
	if (flock(c->lock_fd, LOCK_EX | LOCK_NB)) {
		snprintf(err, err_bytes, "a VM called '%s' is running already; give this one another --name",
			 name);
		return -EADDRINUSE;
	}
	return 0;
}

static int listen_on(struct control *c, const char *dir, const char *name,
		     char *err, size_t err_bytes)
{
	mode_t old;
	int ret;

	c->addr.sun_family = AF_UNIX;
	if (snprintf(c->addr.sun_path, sizeof(c->addr.sun_path), "%s/%s.sock", dir, name) >=
	    (int)sizeof(c->addr.sun_path)) {
		c->addr.sun_path[0] = 0;
		snprintf(err, err_bytes, "%s/%s.sock is too long for a socket; set VMPLAT_RUN_DIR to a shorter directory",
			 dir, name);
		return -ENAMETOOLONG;
	}
	c->fd = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0);
	unlink(c->addr.sun_path);	/* stale: we hold the name */
	old = umask(0177);
	ret = c->fd < 0 || bind(c->fd, (struct sockaddr *)&c->addr, sizeof(c->addr)) ||
	      listen(c->fd, 8) ? -errno : 0;
	umask(old);
	if (ret)
		snprintf(err, err_bytes, "%s: %s", c->addr.sun_path, strerror(-ret));
	return ret;
}

int control_new(struct control **out, const char *name, char *err, size_t err_bytes)
{
	const char *dir = vm_run_dir();
	struct control *c = calloc(1, sizeof(*c));
	int ret;

	*out = NULL;
	if (!c || !dir) {
		snprintf(err, err_bytes, "%s", c ? vm_client_error() : "out of memory");
		free(c);
		return -ENOENT;
	}
	c->fd = c->lock_fd = -1;
	c->stop_fd = eventfd(0, EFD_CLOEXEC);
	for (int i = 0; i < CLIENTS_MAX; i++)
		c->clients[i].io.fd = -1;
	ret = take_name(c, dir, name, err, err_bytes);
	if (!ret)
		ret = listen_on(c, dir, name, err, err_bytes);
	if (ret) {
		c->addr.sun_path[0] = 0;
		control_free(c);
		return ret;
	}
	*out = c;
	return 0;
}

int control_start(struct control *c, struct vm *vm)
{
	const struct vmplat_thread_options o = { .name = "control" };
	int ret;

	c->vm = vm;
	ret = vmplat_thread_start(&c->thread, &o, control_main, c);
	return ret ? vm_error(vm, ret, "the control thread %s", vmplat_last_error()) : 0;
}

void control_free(struct control *c)
{
	uint64_t one = 1;

	if (!c)
		return;
	if (c->thread) {
		if (write(c->stop_fd, &one, sizeof(one)) == sizeof(one))
			vmplat_thread_join(c->thread);
		for (int i = 0; i < CLIENTS_MAX; i++)
			client_drop(c, &c->clients[i]);
	}
	if (c->addr.sun_path[0])
		unlink(c->addr.sun_path);
	if (c->fd >= 0)
		close(c->fd);
	if (c->lock_fd >= 0)
		close(c->lock_fd);	/* the file stays: removing it would race */
	close(c->stop_fd);
	free(c);
}
