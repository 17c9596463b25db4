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
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/un.h>
#include <unistd.h>
#include <vmplat_thread.h>

#include "board.h"
#include "client.h"
#include "cpus.h"
#include "devices.h"
#include "line.h"
#include "record.h"
#include "snapshot.h"
#include "vm_priv.h"

#define CLIENTS_MAX	16

struct client {
	struct line_io io;		/* fd -1: free */
	struct snapshot *snap;		/* made on this connection */
	bool waiting;			/* its request is not decided yet: no other is read */
	struct json_object *queued;	/* it waits for another state of the VM, or NULL */
	int queued_fds[LINE_FDS_MAX];	/* what came with it */
	size_t nr_queued_fds;
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
	bool wait;			/* not for the state the VM is in, but for another */
	char why[512];
};

/* where vCPU threads ran: what can be seen of them without stopping them; operation lock held */
static struct json_object *vcpus_json(struct vm *vm)
{
	struct json_object *list = json_object_new_array();

	for (unsigned int i = 0; i < vm->nr_vcpus; i++) {
		struct vmplat_thread_facts f;
		struct json_object *o;
		char allowed[VMPLAT_CPUS_TEXT];
		pid_t tid = vm->vcpus[i].thread ? vmplat_thread_tid(vm->vcpus[i].thread) : 0;

		if (!tid || vmplat_thread_query(tid, &f))
			continue;
		vmplat_cpus_format(&f.cpus, allowed, sizeof(allowed));
		o = json_object_new_object();
		json_object_object_add(o, "tid", json_object_new_int(tid));
		json_object_object_add(o, "cpu", json_object_new_int((int)f.cpu));
		json_object_object_add(o, "allowed", json_object_new_string(allowed));
		json_object_object_add(o, "run_ns", json_object_new_int64((int64_t)f.run_ns));
		json_object_object_add(o, "wait_ns", json_object_new_int64((int64_t)f.wait_ns));
		json_object_array_add(list, o);
	}
	return list;
}

static int do_status(struct request *r)
{
	struct vm *vm = r->control->vm;
	struct vmplat_log_status st;
	char hex[2 * VMPLAT_ID_BYTES + 1];
	struct json_object *cfg;

	pthread_mutex_lock(&vm->op);
	cfg = vm_config_to_json(&vm->cfg);
	json_object_object_add(r->reply, "vcpus", vcpus_json(vm));
	pthread_mutex_unlock(&vm->op);
	json_object_object_add(r->reply, "state",
			       json_object_new_string(vm_status_name(vm_status(vm))));
	json_object_object_add(r->reply, "pid", json_object_new_int(getpid()));
	json_object_object_add(r->reply, "engine",
			       json_object_new_string(vm->qemu ? "qemu" : "kvm"));
	json_object_object_add(r->reply, "snapshots", json_object_new_boolean(vm->log && !vm->cfg.pinnable));
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
	vm_end(r->control->vm, "`vmplat vm stop`");
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

static struct json_object *look_at_cpus(struct vm *vm, bool running)
{
	struct json_object *list = json_object_new_array();

	if (running)
		vm_park(vm);
	for (unsigned int i = 0; i < vm->nr_vcpus; i++)
		json_object_array_add(list, arch_vcpu_look(&vm->vcpus[i]));
	if (running)
		vm_unpark(vm);
	return list;
}

static int do_cpus(struct request *r)
{
	struct vm *vm = r->control->vm;
	int ret;

	if (vm->qemu) {
		snprintf(r->why, sizeof(r->why), "QEMU runs this VM: its registers are QEMU's");
		return -EOPNOTSUPP;
	}
	pthread_mutex_lock(&vm->op);
	ret = vm_admit(vm, VM_CMD_CPUS);
	if (!ret)
		json_object_object_add(r->reply, "cpus",
				       look_at_cpus(vm, vm_status(vm) == VM_RUNNING));
	pthread_mutex_unlock(&vm->op);
	if (ret)
		vm_last_error(vm, r->why, sizeof(r->why));
	return ret;
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

/* Those that are not here are for what nobody runs. */
static int (*const commands[VM_NR_COMMANDS])(struct request *r) = {
	[VM_CMD_STATUS] = do_status,
	[VM_CMD_PAUSE] = do_pause,
	[VM_CMD_RESUME] = do_resume,
	[VM_CMD_RESET] = do_reset,
	[VM_CMD_STOP] = do_stop,
	[VM_CMD_POWERDOWN] = do_powerdown,
	[VM_CMD_CPUS] = do_cpus,
	[VM_CMD_SNAPSHOT] = do_snapshot,
	[VM_CMD_SNAPSHOT_COMMIT] = do_snapshot_commit,
	[VM_CMD_SNAPSHOT_ABORT] = do_snapshot_abort,
	[VM_CMD_DEVICE_ADD] = do_device_add,
	[VM_CMD_DEVICE_REMOVE] = do_device_remove,
	[VM_CMD_DEVICE_LIST] = do_device_list,
};

static int find_command(struct request *r, enum vm_command *cmd)
{
	struct json_object *v;

	if (!json_object_object_get_ex(r->msg, "cmd", &v) ||
	    !json_object_is_type(v, json_type_string)) {
		snprintf(r->why, sizeof(r->why), "the request has no \"cmd\"");
		return -EINVAL;
	}
	if (vm_command_parse(cmd, json_object_get_string(v)))
		return 0;
	snprintf(r->why, sizeof(r->why), "'%.40s' is no command", json_object_get_string(v));
	return -ENOSYS;
}

/*
 * What the table of the VM's life says. Commands ask it again under the operation lock:
 * the console may have been faster.
 */
static int dispatch(struct request *r)
{
	enum vm_status s = vm_status(r->control->vm);
	char text[VM_REFUSAL_TEXT];
	enum vm_command cmd;
	int ret = find_command(r, &cmd);

	if (ret)
		return ret;
	switch (vm_answer(s, cmd)) {
	case VM_DO:
		if (commands[cmd])
			return commands[cmd](r);
		snprintf(r->why, sizeof(r->why), "its process is about to end; try again");
		return -EBUSY;
	case VM_WAIT:
		r->wait = true;
		return -EINPROGRESS;
	default:
		snprintf(r->why, sizeof(r->why), "%s", vm_refusal(s, cmd, text));
		return -EINVAL;
	}
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

static void close_fds(int *fds, size_t nr)
{
	for (size_t i = 0; i < nr; i++)
		if (fds[i] >= 0)
			close(fds[i]);
}

/* keeps the request and what came with it */
static void queue(struct client *cl, struct request *r)
{
	cl->queued = json_object_get(r->msg);
	memcpy(cl->queued_fds, r->in, r->nr_in * sizeof(int));
	cl->nr_queued_fds = r->nr_in;
}

/* false: the connection is of no more use */
static bool answer(struct request *r)
{
	struct client *cl = r->client;
	int ret;

	r->reply = json_object_new_object();
	ret = dispatch(r);
	if (r->wait)
		queue(cl, r);
	else
		close_fds(r->in, r->nr_in);
	if (ret == -EINPROGRESS) {
		cl->waiting = true;
		json_object_put(r->reply);
		return true;
	}
	if (ret)
		r->nr_out = 0;
	r->reply = verdict(r->reply, ret, r->why);
	ret = line_send(&cl->io, r->reply, r->out, r->nr_out);
	json_object_put(r->reply);
	if (!ret && cl->snap)
		snapshot_sent(cl->snap);
	return !ret;
}

static bool answer_new(struct control *c, struct client *cl, struct json_object *msg)
{
	struct request r = { .control = c, .client = cl, .msg = msg };

	r.nr_in = line_take_fds(&cl->io, r.in);
	return answer(&r);
}

/* the VM is in another state, perhaps: ask again */
static bool answer_queued(struct control *c, struct client *cl)
{
	struct request r = { .control = c, .client = cl, .msg = cl->queued };
	bool keep;

	memcpy(r.in, cl->queued_fds, cl->nr_queued_fds * sizeof(int));
	r.nr_in = cl->nr_queued_fds;
	cl->queued = NULL;
	cl->waiting = false;
	keep = answer(&r);
	json_object_put(r.msg);
	return keep;
}

/* ---- the thread ------------------------------------------------------------------- */

static void client_drop(struct control *c, struct client *cl)
{
	if (cl->queued)
		close_fds(cl->queued_fds, cl->nr_queued_fds);
	else if (cl->waiting)
		devices_forget(c->vm, cl);
	json_object_put(cl->queued);
	cl->queued = NULL;
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
			keep = answer_new(c, cl, msg);
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

static void answer_all_queued(struct control *c)
{
	for (int i = 0; i < CLIENTS_MAX; i++)
		if (c->clients[i].queued && !answer_queued(c, &c->clients[i]))
			client_drop(c, &c->clients[i]);
}

/* Until the VM runs its devices are the main thread's, which holds no lock. */
static bool is_up(struct control *c)
{
	enum vm_status s = vm_status(c->vm);

	return s != VM_STARTING && s != VM_RESTORING;
}

static void look_at_devices(struct control *c, bool look)
{
	eventfd_t n;

	if (!is_up(c))
		eventfd_read(c->vm->changed_fd, &n);
	else if (look || !devices_timeout_ms(c->vm))
		devices_poll(c->vm, on_decided);
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
		ready = poll(p, CLIENTS_MAX + 3, is_up(c) ? devices_timeout_ms(c->vm) : -1);
		if (ready < 0)
			continue;
		/* what still waits learns what the VM has come to */
		if (p[0].revents) {
			answer_all_queued(c);
			return NULL;
		}
		for (int i = 0; i < CLIENTS_MAX; i++)
			if (p[i + 3].revents)
				client_look(c, &c->clients[i], p[i + 3].revents);
		look_at_devices(c, p[2].revents || !ready);
		answer_all_queued(c);
		for (int i = 0; i < CLIENTS_MAX; i++)
			client_backlog(c, &c->clients[i]);
		if (p[1].revents)
			client_accept(c);
	}
}

/* ---- the socket ------------------------------------------------------------------- */

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
	c->lock_fd = name_lock(dir, name, err, err_bytes);
	ret = c->lock_fd < 0 ? c->lock_fd : 0;
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
