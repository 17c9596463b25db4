// SPDX-License-Identifier: GPL-2.0-only
/*
 * A snapshot of a running VM, the runner's half.
 *
 *   client                                runner
 *   {"cmd":"snapshot",                    park vCPUs, quiesce devices
 *    "base":HEX?, "side_bytes":N?,        freeze memory and disks
 *    "block":bool?,                       save state, resume
 *    "name":?, "id":?, "store":?}         (these for whoever asks what became of it)
 *   + a writable fd per writable disk
 *                                         {"ok":true,"pause_ns":,"freeze_ns":,
 *                                          "mem_bytes":,"base":HEX|null,
 *                                          "memories":[{"name","bytes","incremental"}],
 *                                          "incremental":bool,"state_bytes":,
 *                                          "disks":[{"name","bytes","incremental",
 *                                          "total_bytes"}],"vm":{...}}
 *                                         + view fd, state memfd
 *   drains the view                       copies disks into the client's fds:
 *                                         {"event":"disk","name","done","total"}...
 *                                         {"event":"disks-done","ok":bool,...}
 *   VMPLAT_VIEW_COMMIT(new id)
 *   {"cmd":"snapshot-commit"}             disks forget the bits they lent
 *                                         {"ok":true}
 *
 * Without fds for them, disks are left out and the reply's "disks" is empty. The
 * runner keeps no descriptor of the view: when the client closes it uncommitted,
 * or dies, the kernel gives the marks back to the log; when the connection goes,
 * the disks take their bits back too.
 */
#include "snapshot.h"

#include <errno.h>
#include <fcntl.h>
#include <json-c/json.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <unistd.h>
#include <vmplat_thread.h>

#include "devices.h"
#include "line.h"
#include "qemu.h"
#include "record.h"
#include "vm_priv.h"

#define QEMU_POLL_NS	20000000u

struct snapshot_disk {
	char name[VM_ID_MAX + 1];
	struct blk *blk;		/* held: the disk may be unplugged meanwhile; NULL: QEMU's */
	struct blk_view *view;
	struct qemu_copy copy;		/* QEMU's: it gives all of the disk, each time */
	int fd;
	bool increment;
};

struct snapshot {
	struct vm *vm;
	int conn;
	struct json_object *label;	/* by which the client knows it, or NULL */
	bool recorded;			/* the VM's record tells of it */
	struct vmplat_view *view;	/* until it is sent */
	int state_fd;
	size_t state_bytes;
	uint64_t pause_ns;
	struct vmplat_view_status st;
	struct {
		char name[VM_ID_MAX + 1];
		uint64_t bytes;
		bool increment;		/* on the base; else all that it ever held */
	} mems[VM_MEMORIES_MAX];
	unsigned int nr_mems;
	struct json_object *config;	/* of the VM at the instant; until the reply is made */
	bool has_base;
	uint8_t base[VMPLAT_ID_BYTES];
	uint32_t flags;
	uint64_t side_bytes;

	struct snapshot_disk disks[VM_DISKS_MAX];
	unsigned int nr_disks;
	struct vmplat_thread *thread;
	atomic_bool cancel;
	atomic_int copied;		/* 1: all copied, -errno: failed, 0: not yet */
};

/* ---- the request ------------------------------------------------------------------- */

static int hex_digit(char c)
{
	if (c >= '0' && c <= '9')
		return c - '0';
	if (c >= 'a' && c <= 'f')
		return c - 'a' + 10;
	if (c >= 'A' && c <= 'F')
		return c - 'A' + 10;
	return -1;
}

static int parse_id(uint8_t id[VMPLAT_ID_BYTES], const char *hex)
{
	if (strlen(hex) != 2 * VMPLAT_ID_BYTES)
		return -EINVAL;
	for (int i = 0; i < VMPLAT_ID_BYTES; i++) {
		int hi = hex_digit(hex[2 * i]), lo = hex_digit(hex[2 * i + 1]);

		if (hi < 0 || lo < 0)
			return -EINVAL;
		id[i] = (uint8_t)(hi << 4 | lo);
	}
	return 0;
}

struct json_object *snapshot_id_json(const uint8_t id[16], char hex[33])
{
	static const uint8_t zero[VMPLAT_ID_BYTES];

	if (!memcmp(id, zero, sizeof(zero)))
		return NULL;
	for (int i = 0; i < VMPLAT_ID_BYTES; i++)
		snprintf(hex + 2 * i, 3, "%02x", id[i]);
	return json_object_new_string(hex);
}

static struct json_object *parse_label(struct json_object *req)
{
	static const char *const keys[] = { "name", "id", "store" };
	struct json_object *label = json_object_new_object(), *v;

	for (size_t i = 0; i < sizeof(keys) / sizeof(keys[0]); i++)
		if (json_object_object_get_ex(req, keys[i], &v) &&
		    json_object_is_type(v, json_type_string))
			json_object_object_add(label, keys[i], json_object_get(v));
	return label;
}

static int parse_request(struct snapshot *s, struct json_object *req, char *why, size_t n)
{
	struct json_object *v;

	if (json_object_object_get_ex(req, "base", &v) && v) {
		const char *hex = json_object_get_string(v);

		if (parse_id(s->base, hex)) {
			snprintf(why, n, "base '%.40s' is not %d hexadecimal digits", hex,
				 2 * VMPLAT_ID_BYTES);
			return -EINVAL;
		}
		s->has_base = true;
		s->flags |= VMPLAT_VIEW_F_INCREMENT;
	}
	if (json_object_object_get_ex(req, "side_bytes", &v))
		s->side_bytes = (uint64_t)json_object_get_int64(v);
	if (json_object_object_get_ex(req, "block", &v) && json_object_get_boolean(v))
		s->flags |= VMPLAT_VIEW_F_BLOCK;
	s->label = parse_label(req);
	return 0;
}

/* operation lock held */
static int take_disks(struct snapshot *s, int *in, size_t nr_in, char *why, size_t n)
{
	struct vm *vm = s->vm;
	unsigned int writable = 0;

	for (unsigned int i = 0; i < vm->cfg.nr_disks; i++)
		writable += !vm->cfg.disks[i].readonly;
	if (!nr_in)
		return 0;
	if (nr_in != writable) {
		snprintf(why, n, "%zu descriptors for disks came with the request, the VM has %u writable disks",
			 nr_in, writable);
		return -EINVAL;
	}
	for (unsigned int i = 0, k = 0; i < vm->cfg.nr_disks; i++) {
		const struct vm_disk *c = &vm->cfg.disks[i];
		struct snapshot_disk *d = &s->disks[s->nr_disks];

		if (c->readonly)
			continue;
		*d = (struct snapshot_disk){ .fd = in[k] };
		if (!vm->qemu)
			d->blk = blk_get(devices_blk(vm, c->id));
		memcpy(d->name, c->id, sizeof(d->name));
		s->nr_disks++;
		in[k++] = -1;
	}
	return 0;
}

/* ---- the instant --------------------------------------------------------------------- */

/*
 * Memory plugged after the base was taken has a log without a label: all that was
 * ever written to it is marked, and its image stands alone.
 */
static bool in_base(const struct vm_memory *m)
{
	static const uint8_t zero[VMPLAT_ID_BYTES];
	struct vmplat_log_status st;

	return !vmplat_log_query(m->log, &st) && memcmp(st.out_id, zero, sizeof(zero));
}

static unsigned int list_memories(struct snapshot *s, struct vmplat_freeze_mem *f)
{
	struct vm_memory list[VM_MEMORIES_MAX];

	s->nr_mems = vm_memories(s->vm, list);
	for (unsigned int i = 0; i < s->nr_mems; i++) {
		bool increment = s->has_base && (!i || in_base(&list[i]));

		snprintf(s->mems[i].name, sizeof(s->mems[i].name), "%s", list[i].name);
		s->mems[i].bytes = list[i].bytes;
		s->mems[i].increment = increment;
		f[i] = (struct vmplat_freeze_mem){
			.mem = list[i].mem, .log = list[i].log,
			.id = increment ? s->base : NULL,
		};
	}
	return s->nr_mems;
}

static int freeze_memory(struct snapshot *s)
{
	struct vm *vm = s->vm;
	struct vmplat_freeze_mem m[VM_MEMORIES_MAX];
	unsigned int nr = list_memories(s, m);
	int ret = vmplat_freeze(&s->view, vm->dev, m, nr, s->flags, s->side_bytes);

	switch (ret) {
	case 0:
		return 0;
	case -ESTALE:
		return vm_error(vm, ret, "the last snapshot of this VM is not the base that was named; take a full one, or name the last");
	case -EBUSY:
		return vm_error(vm, ret, "another snapshot of this VM is being stored; wait for it, or end its process");
	default:
		return vm_error(vm, ret, "memory does not freeze: %s", vmplat_last_error());
	}
}

/* a disk without a base gives everything, also to an increment */
static int freeze_disks(struct snapshot *s)
{
	for (unsigned int i = 0; i < s->nr_disks; i++) {
		struct snapshot_disk *d = &s->disks[i];
		int ret;

		if (s->vm->qemu) {
			ret = qemu_copy_begin(s->vm, &d->copy, d->name, d->fd);
			if (ret)
				return ret;
			continue;
		}
		d->increment = s->has_base && blk_has_base(d->blk);
		ret = blk_freeze(d->blk, d->increment ? BLK_FREEZE_INCREMENT : BLK_FREEZE_FULL,
				 &d->view);
		if (ret)
			return vm_error(s->vm, ret, "disk %s does not freeze: %s",
					blk_path(d->blk), strerror(-ret));
	}
	return 0;
}

static int save_state(struct snapshot *s, struct state_writer *w)
{
	int ret;

	state_writer_init(w);
	vm_error(s->vm, 0, "%s", "");
	vm_save(s->vm, w);
	ret = state_writer_finish(w);
	if (ret && !s->vm->error.text[0])
		vm_error(s->vm, ret, "the VM state cannot be saved: %s", strerror(-ret));
	return ret;
}

static int write_state(struct snapshot *s, const struct state_writer *w)
{
	size_t at = 0;

	s->state_fd = memfd_create("vmplat-state", MFD_CLOEXEC | MFD_ALLOW_SEALING);
	if (s->state_fd < 0)
		return vm_error(s->vm, -errno, "no memory file: %s", strerror(errno));
	while (at < w->len) {
		ssize_t n = pwrite(s->state_fd, w->buf + at, w->len - at, (off_t)at);

		if (n < 0 && errno != EINTR)
			return vm_error(s->vm, -errno, "VM state: %s", strerror(errno));
		at += n > 0 ? (size_t)n : 0;
	}
	fcntl(s->state_fd, F_ADD_SEALS, F_SEAL_SHRINK | F_SEAL_GROW | F_SEAL_WRITE);
	return 0;
}

/*
 * The pause: from the first kick to the last vCPU on its way again. What can be
 * done after it is done after it.
 */
static int instant(struct snapshot *s)
{
	struct vm *vm = s->vm;
	struct state_writer w = { 0 };
	enum vm_status was;
	uint64_t begin;
	int ret;

	pthread_mutex_lock(&vm->op);
	ret = vm_admit(vm, VM_CMD_SNAPSHOT);
	if (ret)
		goto unlock;
	was = vm_status(vm);
	s->recorded = record_snapshot(vm->record, s->label);
	vm_enter(vm, VM_SNAPSHOTTING);
	begin = vmplat_now_ns();
	if (was == VM_RUNNING)
		vm_halt(vm);
	ret = devices_settled(vm);
	if (!ret)
		ret = freeze_memory(s);
	/* QEMU copies disks when it has written its state: that lets go of them */
	if (!ret)
		ret = vm->qemu ? save_state(s, &w) : freeze_disks(s);
	if (!ret)
		ret = vm->qemu ? freeze_disks(s) : save_state(s, &w);
	if (was == VM_RUNNING)
		vm_unhalt(vm);
	s->pause_ns = was == VM_RUNNING ? vmplat_now_ns() - begin : 0;
	vm_enter(vm, was);
	if (!ret) {
		s->config = vm_config_to_json(&vm->cfg);
		ret = write_state(s, &w);
		s->state_bytes = w.len;
	}
	state_writer_free(&w);
unlock:
	pthread_mutex_unlock(&vm->op);
	return ret;
}

/* ---- disks ----------------------------------------------------------------------------- */

struct copying {
	struct snapshot *s;
	const struct snapshot_disk *d;
	uint64_t told_ns;
};

static void tell(struct snapshot *s, struct json_object *event)
{
	struct line_io io = { .fd = s->conn };

	line_send(&io, event, NULL, 0);	/* a client that has gone is noticed elsewhere */
	json_object_put(event);
}

static void copy_progress(void *opaque, const struct blk_progress *p)
{
	struct copying *c = opaque;
	struct json_object *e;
	uint64_t now = vmplat_now_ns();

	if (now - c->told_ns < 200000000)
		return;
	c->told_ns = now;
	e = json_object_new_object();
	json_object_object_add(e, "event", json_object_new_string("disk"));
	json_object_object_add(e, "name", json_object_new_string(c->d->name));
	json_object_object_add(e, "done", json_object_new_int64((int64_t)p->done_bytes));
	json_object_object_add(e, "total", json_object_new_int64((int64_t)p->total_bytes));
	tell(c->s, e);
}

/* QEMU does it; we look */
static int copy_by_qemu(struct copying *c)
{
	struct snapshot *s = c->s;
	struct qemu_copy *q = &s->disks[c->d - s->disks].copy;
	struct blk_progress p = { .total_bytes = q->bytes };
	int ret;

	while (!(ret = qemu_copy_poll(s->vm, q, &p.done_bytes))) {
		if (atomic_load(&s->cancel))
			return -ECANCELED;
		copy_progress(c, &p);
		vmplat_sleep_ns(QEMU_POLL_NS);
	}
	return ret < 0 ? ret : 0;
}

static const char *path_of(struct snapshot *s, const struct snapshot_disk *d)
{
	return d->blk ? blk_path(d->blk) : d->name;
}

static void *copy_main(void *arg)
{
	struct snapshot *s = arg;
	struct json_object *e = json_object_new_object();
	const char *bad = NULL;
	int ret = 0;

	for (unsigned int i = 0; i < s->nr_disks && !ret; i++) {
		struct snapshot_disk *d = &s->disks[i];
		struct copying c = { s, d, vmplat_now_ns() };

		ret = d->blk ? blk_view_copy(d->view, d->fd, copy_progress, &c, &s->cancel)
			     : copy_by_qemu(&c);
		if (ret)
			bad = path_of(s, d);
	}
	atomic_store(&s->copied, ret ? ret : 1);
	json_object_object_add(e, "event", json_object_new_string("disks-done"));
	json_object_object_add(e, "ok", json_object_new_boolean(!ret));
	if (ret) {
		char text[300];

		snprintf(text, sizeof(text), "disk %s: %s", bad, strerror(-ret));
		json_object_object_add(e, "errno", json_object_new_int(-ret));
		json_object_object_add(e, "error", json_object_new_string(text));
	}
	tell(s, e);
	return NULL;
}

void snapshot_sent(struct snapshot *s)
{
	const struct vmplat_thread_options o = { .name = "disk-copy" };

	vmplat_view_close(s->view);
	s->view = NULL;
	if (s->state_fd >= 0)
		close(s->state_fd);
	s->state_fd = -1;
	if (s->thread || atomic_load(&s->copied) || !s->nr_disks)
		return;
	if (vmplat_thread_start(&s->thread, &o, copy_main, s))
		copy_main(s);
}

/* ---- beginning and end -------------------------------------------------------------------- */

/* where each memory is in the view: one after the other */
static struct json_object *memories_json(const struct snapshot *s)
{
	struct json_object *list = json_object_new_array();

	for (unsigned int i = 0; i < s->nr_mems; i++) {
		struct json_object *o = json_object_new_object();

		json_object_object_add(o, "name", json_object_new_string(s->mems[i].name));
		json_object_object_add(o, "bytes", json_object_new_int64((int64_t)s->mems[i].bytes));
		json_object_object_add(o, "incremental",
				       json_object_new_boolean(s->mems[i].increment));
		json_object_array_add(list, o);
	}
	return list;
}

static void fill_reply(struct snapshot *s, struct json_object *reply)
{
	struct json_object *disks = json_object_new_array();
	char hex[2 * VMPLAT_ID_BYTES + 1];

	json_object_object_add(reply, "pause_ns", json_object_new_int64((int64_t)s->pause_ns));
	json_object_object_add(reply, "freeze_ns",
			       json_object_new_int64((int64_t)s->st.out_blocked_ns));
	json_object_object_add(reply, "mem_bytes", json_object_new_int64((int64_t)s->st.out_bytes));
	json_object_object_add(reply, "increment_pages",
			       json_object_new_int64((int64_t)s->st.out_nr_increment));
	json_object_object_add(reply, "state_bytes", json_object_new_int64((int64_t)s->state_bytes));
	json_object_object_add(reply, "base", s->has_base ? snapshot_id_json(s->base, hex) : NULL);
	json_object_object_add(reply, "incremental", json_object_new_boolean(s->has_base));
	for (unsigned int i = 0; i < s->nr_disks; i++) {
		const struct snapshot_disk *d = &s->disks[i];
		struct json_object *o = json_object_new_object();

		json_object_object_add(o, "name", json_object_new_string(d->name));
		json_object_object_add(o, "bytes",
			json_object_new_int64((int64_t)(d->blk ? blk_size_bytes(d->blk) : d->copy.bytes)));
		json_object_object_add(o, "incremental", json_object_new_boolean(d->increment));
		json_object_object_add(o, "total_bytes",
			json_object_new_int64((int64_t)(d->blk ? blk_view_total_bytes(d->view) : d->copy.bytes)));
		json_object_array_add(disks, o);
	}
	json_object_object_add(reply, "memories", memories_json(s));
	json_object_object_add(reply, "disks", disks);
	json_object_object_add(reply, "vm", s->config);
	s->config = NULL;
}

/*
 * What devices reach by DMA changes without a fault that a view could wait for, and what a
 * device itself knows no one can ask it.
 */
static bool refuse_pinned(struct vm *vm, char *why, size_t why_bytes)
{
	const struct vm_config *c = &vm->cfg;

	pthread_mutex_lock(&vm->op);
	if (c->nr_hostdevs)
		snprintf(why, why_bytes, "no snapshot: the guest has %s of the host (%s), whose state nobody can save, and which writes to memory behind any view of it; a VM that is to have snapshots is started without --device and --pinnable",
			 c->hostdevs[0].id, c->hostdevs[0].host);
	else if (c->pinnable)
		snprintf(why, why_bytes, "no snapshot: this VM's memory is for devices (pinnable), and cannot be frozen; a VM that is to have snapshots is started without --pinnable and --device");
	pthread_mutex_unlock(&vm->op);
	return c->pinnable;
}

int snapshot_take(struct snapshot **out, struct vm *vm, int conn,
		  struct json_object *req, int *in, size_t nr_in,
		  struct json_object *reply, int fds[SNAPSHOT_FDS], size_t *nr_out,
		  char *why, size_t why_bytes)
{
	struct snapshot *s;
	int ret;

	*out = NULL;
	if (!vm->mem) {
		snprintf(why, why_bytes, "this VM's memory is a memfd, which cannot be frozen; start it with the vmplat module loaded and without --memory-backend memfd");
		return -EOPNOTSUPP;
	}
	if (refuse_pinned(vm, why, why_bytes))
		return -EOPNOTSUPP;
	s = calloc(1, sizeof(*s));
	if (!s)
		return -ENOMEM;
	s->vm = vm;
	s->conn = conn;
	s->state_fd = -1;
	ret = parse_request(s, req, why, why_bytes);
	if (!ret) {
		pthread_mutex_lock(&vm->op);
		ret = take_disks(s, in, nr_in, why, why_bytes);
		pthread_mutex_unlock(&vm->op);
	}
	if (ret)
		goto out_free;
	ret = instant(s);
	if (!ret)
		ret = vmplat_view_query(s->view, &s->st);
	if (ret) {
		vm_last_error(vm, why, why_bytes);
		goto out_free;
	}
	fill_reply(s, reply);
	fds[0] = vmplat_view_fd(s->view);
	fds[1] = s->state_fd;
	*nr_out = 2;
	*out = s;
	return 0;
out_free:
	snapshot_free(s);
	return ret;
}

int snapshot_commit(struct snapshot *s, char *why, size_t why_bytes)
{
	int state = atomic_load(&s->copied);

	if (s->nr_disks && state != 1) {
		snprintf(why, why_bytes, state ? "the disks could not be copied: %s"
					       : "the disks are still being copied (%s)",
			 state ? strerror(-state) : "wait for disks-done");
		return state ? state : -EBUSY;
	}
	for (unsigned int i = 0; i < s->nr_disks; i++) {
		int ret = s->disks[i].blk ? blk_view_commit(s->disks[i].view) : 0;

		if (ret) {
			snprintf(why, why_bytes, "disk %s: %s",
				 path_of(s, &s->disks[i]), strerror(-ret));
			return ret;
		}
		s->disks[i].view = NULL;
	}
	if (s->recorded)
		record_snapshot_end(s->vm->record, true);
	s->recorded = false;
	return 0;
}

void snapshot_free(struct snapshot *s)
{
	if (!s)
		return;
	atomic_store(&s->cancel, true);
	vmplat_thread_join(s->thread);
	for (unsigned int i = 0; i < s->nr_disks; i++) {
		if (s->disks[i].view)
			blk_view_abort(s->disks[i].view);
		qemu_copy_end(s->vm, &s->disks[i].copy);
		blk_close(s->disks[i].blk);
		if (s->disks[i].fd >= 0)
			close(s->disks[i].fd);
	}
	if (s->recorded)
		record_snapshot_end(s->vm->record, false);
	vmplat_view_close(s->view);
	json_object_put(s->label);
	json_object_put(s->config);
	if (s->state_fd >= 0)
		close(s->state_fd);
	free(s);
}
