// SPDX-License-Identifier: GPL-2.0-only
/*
 * vmplat vm snapshot: freeze a running guest and store what was frozen.
 *
 * The guest pauses only while its VMM freezes memory and saves its state. The
 * order afterwards is what makes increments safe: first the store is durable,
 * then the kernel forgets the marks of the pages that are stored now, then the
 * VMM learns that it happened. Dying before the second step closes the view, and
 * the kernel gives the marks back.
 */
#include <errno.h>
#include <fcntl.h>
#include <getopt.h>
#include <pthread.h>
#include <signal.h>
#include <stdatomic.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include <json-c/json.h>
#include <vmplat.h>
#include <vmplat_clock.h>
#include <vmplat_thread.h>

#include "cli.h"
#include "run/client.h"
#include "store/store.h"

int cmd_vm_snapshot(int argc, char **argv);
int cmd_snapshot(int argc, char **argv);	/* the name of the file */

static const char help[] =
"usage: vmplat vm snapshot [OPTION...] VM NAME\n"
"\n"
"Snapshot the running guest VM as NAME. The guest pauses only for the freeze;\n"
"what was frozen is then stored while it runs on. The snapshot exists only if it\n"
"is complete and on disk.\n"
"\n"
"  -i, --incremental   store only what changed since this guest's latest snapshot\n"
"  -b, --base SNAP     the same, and refuse unless SNAP is the latest\n"
"  -c, --codec CODEC   zstd (default), lz4 or none\n"
"  -l, --level N       of the codec; default: its fast one\n"
"  -t, --threads N     that compress; default: one a CPU, at most 8\n"
"  -s, --store DIR     default: $VMPLAT_STORE or " STORE_DEFAULT_DIR "\n"
"      --side SIZE     most memory to spend on pages that the guest writes before\n"
"                      they are stored; default: no limit. Beyond it the snapshot\n"
"      --block         fails, or, with --block, the guest waits\n"
"      --json          print what happened as a JSON object\n";

#define STATE_MAX	(1ULL << 30)

struct snapshot {
	const char *vm_name, *name, *base, *store_dir;
	bool on_last;			/* --incremental: the base is the VM's latest */
	struct store_create_opts opts;
	uint64_t side_bytes;
	bool json, block;

	struct store *st;
	struct store_writer *writer;
	char id[STORE_ID_CHARS + 1];
	char base_id[STORE_ID_CHARS + 1];
	struct vm_client *vm;
	unsigned int nr_disks;
	int disks[VM_CLIENT_FDS_MAX];
	struct json_object *reply;
	int view_fd, state_fd;		/* -1 once taken over */
	struct vmplat_view *view;	/* NULL when memory came as a plain file */
	bool incremental;
	uint64_t pause_ns, freeze_ns, mem_bytes;
	uint64_t mem_first;		/* of the memory being stored, in the view */
	uint64_t drain_ns, commit_ns;
	struct cli_progress progress;
	bool showing;

	/* the thread that hears of the disks */
	struct vmplat_thread *listener;
	int disks_err;
	char disks_why[512];
};

static atomic_bool cancelled;

static void on_signal(int sig)
{
	atomic_store(&cancelled, true);
}

static void catch_signals(void)
{
	struct sigaction sa = { .sa_handler = on_signal, .sa_flags = SA_RESETHAND };

	sigaction(SIGINT, &sa, NULL);
	sigaction(SIGTERM, &sa, NULL);
	sigaction(SIGHUP, &sa, NULL);
}

/* ---- before the freeze ------------------------------------------------- */

static void on_progress(void *ctx, const struct store_progress *p)
{
	struct snapshot *s = ctx;

	s->progress.total = p->total_bytes;
	cli_progress_set(&s->progress, p->done_bytes);
}

static int find_base(struct snapshot *s)
{
	struct store_snap *snap;
	int err;

	if (!s->base)
		return CLI_OK;
	err = store_snap_open(&snap, s->st, s->base);
	if (err)
		return cli_fail("cannot build on '%s': %s", s->base, store_error());
	store_id_to_hex(store_snap_info(snap)->id, s->base_id);
	store_snap_close(snap);
	return CLI_OK;
}

/* Everything that can be refused is refused before the guest notices. */
static int prepare_store(struct snapshot *s)
{
	int rc;

	if (store_open(&s->st, s->store_dir, STORE_OPEN_CREATE))
		return cli_fail("%s", store_error());
	rc = find_base(s);
	if (rc)
		return rc;
	s->opts.name = s->name;
	s->opts.parent = s->base ? s->base_id : NULL;
	s->opts.progress = on_progress;
	s->opts.ctx = s;
	s->opts.cancel = &cancelled;
	if (store_create(&s->writer, s->st, &s->opts))
		return cli_fail("%s", store_error());
	store_id_to_hex(store_writer_id(s->writer), s->id);
	return CLI_OK;
}

static struct json_object *request(const char *cmd)
{
	struct json_object *o = json_object_new_object();

	json_object_object_add(o, "cmd", json_object_new_string(cmd));
	return o;
}

static bool flag(struct json_object *o, const char *key)
{
	struct json_object *v;

	return json_object_object_get_ex(o, key, &v) && json_object_get_boolean(v);
}

static size_t array(struct json_object *o, const char *key, struct json_object **arr)
{
	return json_object_object_get_ex(o, key, arr) &&
	       json_object_is_type(*arr, json_type_array) ? json_object_array_length(*arr) : 0;
}

static int base_of_vm(struct snapshot *s, struct json_object *status)
{
	struct json_object *v;

	if (!json_object_object_get_ex(status, "base", &v) || !v)
		return cli_fail("there is no snapshot of '%s' to build on yet: take a full one, "
				"without --incremental", s->vm_name);
	snprintf(s->base_id, sizeof(s->base_id), "%s", json_object_get_string(v));
	s->base = s->base_id;
	return CLI_OK;
}

/* What the VM is made of, and what its log stands at. */
static int ask_vm(struct snapshot *s)
{
	struct json_object *req = request("status"), *st, *disks;
	size_t nr;
	int err, rc;

	err = vm_client_call(s->vm, req, NULL, 0, &st, NULL, NULL);
	json_object_put(req);
	if (err)
		return cli_fail("%s", vm_client_error());
	nr = array(st, "disks", &disks);
	for (size_t i = 0; i < nr; i++)
		s->nr_disks += !flag(json_object_array_get_idx(disks, i), "readonly");
	rc = s->on_last ? base_of_vm(s, st) : CLI_OK;
	json_object_put(st);
	if (rc)
		return rc;
	if (s->nr_disks > VM_CLIENT_FDS_MAX)
		return cli_fail("the VM has %u disks, more than %d", s->nr_disks,
				VM_CLIENT_FDS_MAX);
	return CLI_OK;
}

/* Each disk that the guest can write gets an unnamed file on the store's disk. */
static int prepare_disks(struct snapshot *s)
{
	for (unsigned int i = 0; i < s->nr_disks; i++) {
		s->disks[i] = openat(store_fd(s->st), ".", O_TMPFILE | O_RDWR | O_CLOEXEC, 0600);
		if (s->disks[i] < 0)
			return cli_fail("cannot make a file for a disk's copy in %s: %s",
					store_path(s->st), strerror(errno));
	}
	return CLI_OK;
}

/* ---- the freeze -------------------------------------------------------- */

static int freeze_failed(struct snapshot *s, int err)
{
	cli_fail("%s", vm_client_error());
	if (err == -ESTALE && s->base)
		cli_note("'%s' is not the latest snapshot of this guest's memory: its log stands at "
			 "another one, or was begun anew. Name that one with --base, or leave "
			 "--base out for a full snapshot.", s->base);
	else if (err == -EBUSY)
		cli_note("Another snapshot of this guest is being taken. Wait until it is done, "
			 "or stop it.");
	return CLI_FAILED;
}

static uint64_t number(struct json_object *o, const char *key)
{
	struct json_object *v;

	return json_object_object_get_ex(o, key, &v) ? json_object_get_int64(v) : 0;
}

static int take_reply(struct snapshot *s, const int *fds, size_t nr_fds)
{
	if (nr_fds != 2) {
		for (size_t i = 0; i < nr_fds; i++)
			close(fds[i]);
		return cli_fail("the VM sent %zu descriptors instead of its memory's view and its "
				"state", nr_fds);
	}
	s->view_fd = fds[0];
	s->state_fd = fds[1];
	s->pause_ns = number(s->reply, "pause_ns");
	s->freeze_ns = number(s->reply, "freeze_ns");
	s->mem_bytes = number(s->reply, "mem_bytes");
	s->incremental = flag(s->reply, "incremental");
	if (!vmplat_view_from_fd(&s->view, s->view_fd))
		s->view_fd = -1;
	return CLI_OK;
}

/* Should the VM die meanwhile its record can tell of which snapshot, and look for it. */
static void label(struct snapshot *s, struct json_object *req)
{
	char *dir = s->store_dir ? realpath(store_path(s->st), NULL) : NULL;

	json_object_object_add(req, "name", json_object_new_string(s->name));
	json_object_object_add(req, "id", json_object_new_string(s->id));
	if (dir)
		json_object_object_add(req, "store", json_object_new_string(dir));
	free(dir);
}

static int freeze(struct snapshot *s)
{
	struct json_object *req = request("snapshot");
	int fds[VM_CLIENT_FDS_MAX], err;
	size_t nr_fds = 0;

	label(s, req);
	if (s->base)
		json_object_object_add(req, "base", json_object_new_string(s->base_id));
	if (s->side_bytes)
		json_object_object_add(req, "side_bytes", json_object_new_int64(s->side_bytes));
	if (s->block)
		json_object_object_add(req, "block", json_object_new_boolean(true));
	err = vm_client_call(s->vm, req, s->disks, s->nr_disks, &s->reply, fds, &nr_fds);
	json_object_put(req);
	return err ? freeze_failed(s, err) : take_reply(s, fds, nr_fds);
}

/* ---- the disks, copied by the VM meanwhile ----------------------------- */

static int disks_event(struct snapshot *s, struct json_object *msg)
{
	struct json_object *v;
	const char *event = "", *why = NULL;

	if (json_object_object_get_ex(msg, "event", &v))
		event = json_object_get_string(v);
	if (json_object_object_get_ex(msg, "error", &v))
		why = json_object_get_string(v);
	if (why) {
		snprintf(s->disks_why, sizeof(s->disks_why), "the VM could not copy its disks: %s",
			 why);
		return -EIO;
	}
	return !strcmp(event, "disks-done");	/* 1: done */
}

static void *listen_to_vm(void *arg)
{
	struct snapshot *s = arg;
	struct json_object *msg;
	int ret = 0;

	while (!ret && !atomic_load(&cancelled)) {
		ret = vm_client_recv(s->vm, &msg, NULL, NULL, 500);
		if (ret == -ETIMEDOUT) {
			ret = 0;
			continue;
		}
		if (ret) {
			snprintf(s->disks_why, sizeof(s->disks_why),
				 "while its disks were copied: %s", vm_client_error());
			break;
		}
		ret = disks_event(s, msg);
		json_object_put(msg);
	}
	s->disks_err = ret < 0 ? ret : 0;
	return NULL;
}

static int listen_start(struct snapshot *s)
{
	if (!s->nr_disks)
		return CLI_OK;
	if (vmplat_thread_start(&s->listener, NULL, listen_to_vm, s))
		return cli_fail("cannot start a thread: %s", vmplat_last_error());
	return CLI_OK;
}

static void listen_join(struct snapshot *s)
{
	vmplat_thread_join(s->listener);
	s->listener = NULL;
}

/* ---- storing ----------------------------------------------------------- */

static int on_consumed(void *ctx, uint64_t off, uint64_t len)
{
	struct snapshot *s = ctx;

	/* A broken view says so when it is read; here it is only a hint. */
	if (s->view)
		vmplat_view_discard(s->view, (s->mem_first + off) / STORE_PAGE_BYTES,
				    len / STORE_PAGE_BYTES);
	return 0;
}

static int store_one(struct snapshot *s, const char *image, int fd,
		     const struct store_add_opts *a)
{
	int err;

	cli_progress_start(&s->progress, image, 0);
	s->showing = true;
	err = store_add_image(s->writer, image, fd, a);
	cli_progress_end(&s->progress, !err);
	if (err == -ECANCELED)
		return cli_fail("interrupted; nothing was stored, and the next increment can still "
				"build on the same snapshot");
	return err ? cli_fail("cannot store %s: %s", image, store_error()) : CLI_OK;
}

static enum store_source source(const struct snapshot *s, bool incremental)
{
	return incremental ? STORE_SRC_INCREMENT : s->base ? STORE_SRC_COMPARE : STORE_SRC_FULL;
}

/*
 * The view shows one memory after the other; each is an image of its own. One that
 * was plugged after the base shows all it ever held, and has nothing to compare with.
 */
static int store_memory(struct snapshot *s)
{
	uint64_t start = vmplat_now_ns();
	struct json_object *list, *o, *name;
	size_t nr = array(s->reply, "memories", &list);
	int rc = nr ? CLI_OK : cli_fail("the VM says nothing about its memory");

	s->mem_first = 0;
	for (size_t i = 0; i < nr && !rc; i++) {
		struct store_add_opts a = { .consumed = on_consumed, .ctx = s };

		o = json_object_array_get_idx(list, i);
		if (!json_object_object_get_ex(o, "name", &name))
			return cli_fail("the VM does not name its memory");
		a.first = s->mem_first;
		a.bytes = number(o, "bytes");
		a.source = flag(o, "incremental") ? STORE_SRC_INCREMENT :
			   s->incremental ? STORE_SRC_FULL : source(s, false);
		rc = store_one(s, json_object_get_string(name),
			       s->view ? vmplat_view_fd(s->view) : s->view_fd, &a);
		s->mem_first += a.bytes;
	}
	s->drain_ns = vmplat_now_ns() - start;
	return rc;
}

static int store_disks(struct snapshot *s)
{
	struct json_object *disks, *d, *name;
	int rc = CLI_OK;

	listen_join(s);
	if (s->nr_disks && atomic_load(&cancelled))
		return cli_fail("interrupted; nothing was stored");
	if (s->disks_err)
		return cli_fail("%s", s->disks_why);
	if (s->nr_disks && array(s->reply, "disks", &disks) != s->nr_disks)
		return cli_fail("the VM says nothing about its %u disks", s->nr_disks);
	for (unsigned int i = 0; !rc && i < s->nr_disks; i++) {
		d = json_object_array_get_idx(disks, i);
		if (!json_object_object_get_ex(d, "name", &name))
			return cli_fail("the VM does not name its disks");
		rc = store_one(s, json_object_get_string(name), s->disks[i],
			       &(struct store_add_opts){ .source = source(s, flag(d, "incremental")) });
	}
	return rc;
}

static int store_vm(struct snapshot *s)
{
	struct json_object *vm;
	struct stat sb;
	ssize_t n = 0;
	size_t len;
	char *buf;
	int rc;

	if (fstat(s->state_fd, &sb) || sb.st_size < 0 || (uint64_t)sb.st_size > STATE_MAX)
		return cli_fail("the VM's state has no sensible length");
	len = sb.st_size;
	buf = malloc(len + 1);
	if (!buf)
		return cli_fail("out of memory");
	for (size_t done = 0; done < len; done += n) {
		n = pread(s->state_fd, buf + done, len - done, done);
		if (n <= 0) {
			free(buf);
			return cli_fail("cannot read the VM's state: %s",
					n ? strerror(errno) : "it ends too early");
		}
	}
	rc = store_set_state(s->writer, buf, len) ? cli_fail("%s", store_error()) : CLI_OK;
	free(buf);
	if (rc || !json_object_object_get_ex(s->reply, "vm", &vm))
		return rc;
	return store_set_vm(s->writer, json_object_to_json_string(vm), s->pause_ns) ?
	       cli_fail("%s", store_error()) : CLI_OK;
}

/* ---- the end ----------------------------------------------------------- */

static int commit_store(struct snapshot *s)
{
	uint64_t start = vmplat_now_ns();
	int err = store_commit(s->writer);

	s->writer = NULL;
	s->commit_ns = vmplat_now_ns() - start;
	return err ? cli_fail("cannot complete the snapshot: %s", store_error()) : CLI_OK;
}

/*
 * The snapshot is there whatever happens now. What can still go wrong concerns
 * only whether the next increment may build on it.
 */
static bool commit_view(struct snapshot *s)
{
	uint8_t id[STORE_ID_BYTES];

	store_id_from_hex(id, s->id);
	if (!s->view || !vmplat_view_commit(s->view, id))
		return true;
	cli_warn("snapshot '%s' is complete, but the kernel did not take note of it (%s): "
		 "an increment with --base %s will be refused; take a full snapshot next, or "
		 "build on '%s' again", s->name, vmplat_last_error(), s->name,
		 s->base ? s->base : "the one before");
	return false;
}

static void tell_vm(struct snapshot *s)
{
	struct json_object *req = request("snapshot-commit"), *reply;

	json_object_object_add(req, "id", json_object_new_string(s->id));
	if (vm_client_call(s->vm, req, NULL, 0, &reply, NULL, NULL))
		cli_warn("snapshot '%s' is complete, but the VM was not told: %s", s->name,
			 vm_client_error());
	else
		json_object_put(reply);
	json_object_put(req);
}

static uint64_t stored_bytes(struct snapshot *s, uint64_t *image_bytes)
{
	struct store_snap *snap;
	uint64_t bytes;

	*image_bytes = 0;
	if (store_snap_open(&snap, s->st, s->id))
		return 0;
	bytes = store_snap_info(snap)->stored_bytes;
	for (unsigned int i = 0; i < store_snap_info(snap)->nr_images; i++)
		*image_bytes += store_snap_info(snap)->images[i].bytes;
	store_snap_close(snap);
	return bytes;
}

static int report(struct snapshot *s)
{
	char a[CLI_NUM_LEN], b[CLI_NUM_LEN], c[CLI_NUM_LEN], d[CLI_NUM_LEN];
	uint64_t image_bytes, bytes = stored_bytes(s, &image_bytes);
	struct json_object *o;

	if (!s->json) {
		printf("%s: %s snapshot of '%s', %s stored for %s of memory and disks; the guest "
		       "paused %s (freeze %s)\n", s->name, s->incremental ? "incremental" : "full",
		       s->vm_name, cli_show_bytes(bytes, a), cli_show_bytes(image_bytes, b),
		       cli_show_ns(s->pause_ns, c), cli_show_ns(s->freeze_ns, d));
		return CLI_OK;
	}
	o = json_object_new_object();
	json_object_object_add(o, "name", json_object_new_string(s->name));
	json_object_object_add(o, "id", json_object_new_string(s->id));
	json_object_object_add(o, "parent", s->base ? json_object_new_string(s->base_id) : NULL);
	json_object_object_add(o, "incremental", json_object_new_boolean(s->incremental));
	json_object_object_add(o, "pause_ns", json_object_new_int64(s->pause_ns));
	json_object_object_add(o, "freeze_ns", json_object_new_int64(s->freeze_ns));
	json_object_object_add(o, "drain_ns", json_object_new_int64(s->drain_ns));
	json_object_object_add(o, "commit_ns", json_object_new_int64(s->commit_ns));
	json_object_object_add(o, "mem_bytes", json_object_new_int64(s->mem_bytes));
	json_object_object_add(o, "image_bytes", json_object_new_int64(image_bytes));
	json_object_object_add(o, "stored_bytes", json_object_new_int64(bytes));
	return cli_json(o);
}

static void release(struct snapshot *s)
{
	atomic_store(&cancelled, true);		/* lets the listener go */
	listen_join(s);
	store_abort(s->writer);
	vmplat_view_close(s->view);
	if (s->view_fd >= 0)
		close(s->view_fd);
	if (s->state_fd >= 0)
		close(s->state_fd);
	for (unsigned int i = 0; i < s->nr_disks; i++)
		if (s->disks[i] >= 0)
			close(s->disks[i]);
	json_object_put(s->reply);
	vm_client_close(s->vm);
	store_close(s->st);
}

static int snapshot(struct snapshot *s)
{
	int rc;

	if (vm_client_open(&s->vm, s->vm_name))
		return cli_fail("%s", vm_client_error());
	rc = ask_vm(s);
	if (!rc)
		rc = prepare_store(s);
	if (!rc)
		rc = prepare_disks(s);
	if (!rc)
		rc = freeze(s);
	if (!rc)
		rc = listen_start(s);
	if (!rc)
		rc = store_memory(s);
	if (!rc)
		rc = store_disks(s);
	if (!rc)
		rc = store_vm(s);
	if (!rc)
		rc = commit_store(s);
	if (rc)
		return rc;
	/*
	 * Disks forget only what the log has forgotten: an increment of a disk may
	 * begin before the memory's, never after it.
	 */
	if (commit_view(s))
		tell_vm(s);
	return report(s);
}

static int parse(struct snapshot *s, int argc, char **argv)
{
	static const struct option longopts[] = {
		{ "incremental", no_argument, NULL, 'i' },
		{ "base", required_argument, NULL, 'b' },
		{ "codec", required_argument, NULL, 'c' },
		{ "level", required_argument, NULL, 'l' },
		{ "threads", required_argument, NULL, 't' },
		{ "store", required_argument, NULL, 's' },
		{ "side", required_argument, NULL, 'S' },
		{ "block", no_argument, NULL, 'B' },
		{ "json", no_argument, NULL, 'j' },
		{ "help", no_argument, NULL, 'h' },
		{ }
	};
	const char *cmd = "vm snapshot";
	uint64_t n;
	char *end;
	int c, rc;

	opterr = 0;
	optind = 0;
	while ((c = getopt_long(argc, argv, ":ib:c:l:t:s:h", longopts, NULL)) >= 0) {
		switch (c) {
		case 'i':
			s->on_last = true;
			break;
		case 'b':
			s->base = optarg;
			break;
		case 'c':
			if (store_codec_parse(&s->opts.codec, optarg))
				return cli_usage(cmd, "%s", store_error());
			break;
		case 'l':
			s->opts.level = strtol(optarg, &end, 10);
			if (!*optarg || *end)
				return cli_usage(cmd, "level '%s' is not a number", optarg);
			break;
		case 't':
			rc = cli_parse_u64(cmd, "--threads", optarg, 1, 256, &n);
			if (rc)
				return rc;
			s->opts.threads = n;
			break;
		case 's':
			s->store_dir = optarg;
			break;
		case 'S':
			rc = cli_parse_size(cmd, "--side", optarg, &s->side_bytes);
			if (rc)
				return rc;
			break;
		case 'B':
			s->block = true;
			break;
		case 'j':
			s->json = true;
			break;
		case 'h':
			cli_help(help);
			return -1;
		default:
			return cli_bad_option(cmd, c, argv);
		}
	}
	if (s->base && s->on_last)
		return cli_usage(cmd, "--base and --incremental exclude each other");
	if (argc - optind != 2)
		return cli_usage(cmd, "it takes the name of a VM and of the new snapshot");
	s->vm_name = argv[optind];
	s->name = argv[optind + 1];
	return CLI_OK;
}

int cmd_vm_snapshot(int argc, char **argv)
{
	struct snapshot s = { .view_fd = -1, .state_fd = -1,
			      .opts.codec = STORE_CODEC_ZSTD };
	int rc = parse(&s, argc, argv);

	if (rc)
		return rc < 0 ? CLI_OK : rc;
	memset(s.disks, 0xff, sizeof(s.disks));
	catch_signals();
	rc = snapshot(&s);
	release(&s);
	return rc;
}

int cmd_snapshot(int argc, char **argv)
{
	return cmd_vm_snapshot(argc, argv);
}
