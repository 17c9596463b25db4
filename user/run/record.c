// SPDX-License-Identifier: GPL-2.0-only
#include "record.h"

#include <errno.h>
#include <fcntl.h>
#include <json-c/json.h>
#include <pthread.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>
#include <vmplat_clock.h>
#include <vmplat_error.h>

#include "config.h"
#include "lib/write_all.h"
#include "store/store.h"

#define PATH_BYTES	200
#define RECORD_BYTES	(1u << 20)

struct record {
	pthread_mutex_t lock;		/* all below */
	char dir[128], name[64];
	enum vm_status state;
	bool removed;			/* there is to be no file */
	struct json_object *o;		/* what it is to say */
};

#define fail(err, ...)	vmplat_error_set(err, __VA_ARGS__)

static const char *path_of(const char *dir, const char *name, const char *suffix, char path[PATH_BYTES])
{
	return snprintf(path, PATH_BYTES, "%s/%s%s", dir, name, suffix) < PATH_BYTES ? path : NULL;
}

/* ---- names --------------------------------------------------------------------------- */

/*
 * A lock of the open file, which can be asked about without taking it; who looks whether a
 * VM lives must not be in the way of one that starts.
 */
static struct flock whole(void)
{
	return (struct flock){ .l_type = F_WRLCK, .l_whence = SEEK_SET };
}

int name_lock(const char *dir, const char *name, char *err, size_t err_bytes)
{
	struct flock l = whole();
	char path[PATH_BYTES];
	int fd;

	if (!path_of(dir, name, ".lock", path)) {
		snprintf(err, err_bytes, "%s/%s.lock is too long for a path; set VMPLAT_RUN_DIR to a shorter directory",
			 dir, name);
		return -ENAMETOOLONG;
	}
	if (mkdir(dir, 0700) && errno != EEXIST) {
		snprintf(err, err_bytes, "%s: %s; VMPLAT_RUN_DIR names another directory for control sockets",
			 dir, strerror(errno));
		return -errno;
	}
	fd = open(path, O_RDWR | O_CREAT | O_CLOEXEC | O_NOFOLLOW, 0600);
	if (fd < 0) {
		snprintf(err, err_bytes, "%s: %s", path, strerror(errno));
		return -errno;
	}
	if (!fcntl(fd, F_OFD_SETLK, &l))
		return fd;
	close(fd);
	snprintf(err, err_bytes, "a VM called '%s' is running already; give this one another --name", name);
	return -EADDRINUSE;
}

bool name_locked(const char *dir, const char *name)
{
	struct flock l = whole();
	char path[PATH_BYTES];
	int fd = path_of(dir, name, ".lock", path) ? open(path, O_RDWR | O_CLOEXEC | O_NOFOLLOW) : -1;
	bool locked;

	if (fd < 0)
		return false;
	locked = !fcntl(fd, F_OFD_GETLK, &l) && l.l_type != F_UNLCK;
	close(fd);
	return locked;
}

static bool remove_one(const char *dir, const char *name, const char *suffix)
{
	char path[PATH_BYTES];

	return path_of(dir, name, suffix, path) && !unlink(path);
}

/* ---- writing ------------------------------------------------------------------------- */

static void put_text(struct json_object *o, const char *key, const char *text)
{
	if (text)
		json_object_object_add(o, key, json_object_new_string(text));
}

/*
 * Under another name first: whoever reads finds the old one or the new one. Nothing is
 * synced: a killed process leaves what it wrote with the kernel, and after a power cut
 * there is no VM to tell of.
 */
static int write_file(struct record *r)
{
	const char *text = json_object_to_json_string_ext(r->o, JSON_C_TO_STRING_PLAIN);
	char path[PATH_BYTES], fresh[PATH_BYTES];
	int fd, err;

	if (r->removed)
		return 0;
	path_of(r->dir, r->name, ".life", path);
	path_of(r->dir, r->name, ".life+", fresh);
	fd = open(fresh, O_WRONLY | O_CREAT | O_TRUNC | O_CLOEXEC | O_NOFOLLOW, 0600);
	if (fd < 0)
		return -errno;
	err = write_all(fd, text, strlen(text));
	close(fd);
	if (!err && rename(fresh, path))
		err = -errno;
	if (err)
		unlink(fresh);
	return err;
}

static void add_history(struct json_object *o, const char *state, int64_t now)
{
	struct json_object *list, *entry = json_object_new_object();

	put_text(entry, "state", state);
	json_object_object_add(entry, "at", json_object_new_int64(now));
	if (!json_object_object_get_ex(o, "history", &list)) {
		list = json_object_new_array();
		json_object_object_add(o, "history", list);
	}
	json_object_array_add(list, entry);
	if (json_object_array_length(list) > RECORD_HISTORY)
		json_object_array_del_idx(list, 0, 1);
}

/* lock held */
static void enter(struct record *r, enum vm_status s, const char *why)
{
	int64_t now = (int64_t)vmplat_clock_now(CLOCK_REALTIME);

	r->state = s;
	put_text(r->o, "state", vm_status_name(s));
	json_object_object_add(r->o, "since", json_object_new_int64(now));
	json_object_object_del(r->o, "reason");
	put_text(r->o, "reason", why);
	add_history(r->o, vm_status_name(s), now);
}

/* What a snapshot leaves to the host it is restored on, a VM that is started again keeps. */
static struct json_object *config_json(const struct vm_config *cfg)
{
	struct json_object *o = vm_config_to_json(cfg);

	put_text(o, "affinity", cfg->affinity);
	json_object_object_add(o, "memfd", json_object_new_boolean(cfg->backend == VM_BACKEND_MEMFD));
	json_object_object_add(o, "no_reboot", json_object_new_boolean(cfg->no_reboot));
	return o;
}

int record_begin(struct record **out, const char *dir, const struct vm_config *cfg,
		 const char *console, enum vm_status s, char *err, size_t err_bytes)
{
	struct record *r = calloc(1, sizeof(*r));
	char *cwd = getcwd(NULL, 0);
	int ret;

	*out = NULL;
	if (!r) {
		free(cwd);
		snprintf(err, err_bytes, "out of memory");
		return -ENOMEM;
	}
	pthread_mutex_init(&r->lock, NULL);
	snprintf(r->dir, sizeof(r->dir), "%s", dir);
	snprintf(r->name, sizeof(r->name), "%s", cfg->name);
	r->o = json_object_new_object();
	put_text(r->o, "name", cfg->name);
	if (s != VM_DEFINED)
		json_object_object_add(r->o, "pid", json_object_new_int(getpid()));
	put_text(r->o, "engine", vm_config_uses_qemu(cfg) ? "qemu" : "kvm");
	put_text(r->o, "cwd", cwd);
	put_text(r->o, "console", console);
	json_object_object_add(r->o, "config", config_json(cfg));
	free(cwd);
	enter(r, s, NULL);
	ret = write_file(r);
	if (ret) {
		snprintf(err, err_bytes, "%s/%s.life: %s", dir, cfg->name, strerror(-ret));
		record_free(r);
		return ret;
	}
	*out = r;
	return 0;
}

void record_free(struct record *r)
{
	if (!r)
		return;
	json_object_put(r->o);
	pthread_mutex_destroy(&r->lock);
	free(r);
}

int record_state(struct record *r, enum vm_status s, const char *why)
{
	int ret = 0;

	if (!r)
		return 0;
	pthread_mutex_lock(&r->lock);
	if (s != r->state) {
		enter(r, s, why && *why ? why : NULL);
		ret = write_file(r);
	}
	pthread_mutex_unlock(&r->lock);
	return ret;
}

void record_remove(struct record *r)
{
	pthread_mutex_lock(&r->lock);
	r->removed = true;
	remove_one(r->dir, r->name, ".life");
	pthread_mutex_unlock(&r->lock);
}

enum vm_status record_now(struct record *r)
{
	enum vm_status s;

	pthread_mutex_lock(&r->lock);
	s = r->state;
	pthread_mutex_unlock(&r->lock);
	return s;
}

/* It is in the file with the transition that follows. */
bool record_snapshot(struct record *r, struct json_object *snapshot)
{
	bool mine = false;

	if (!r || !snapshot)
		return false;
	pthread_mutex_lock(&r->lock);
	if (!json_object_object_get_ex(r->o, "snapshot", NULL)) {
		json_object_object_add(r->o, "snapshot", json_object_get(snapshot));
		mine = true;
	}
	pthread_mutex_unlock(&r->lock);
	return mine;
}

/* A write that fails here is made good by the next transition's, which says so. */
void record_snapshot_end(struct record *r, bool committed)
{
	struct json_object *snapshot;

	pthread_mutex_lock(&r->lock);
	if (committed && json_object_object_get_ex(r->o, "snapshot", &snapshot))
		json_object_object_add(r->o, "latest", json_object_get(snapshot));
	json_object_object_del(r->o, "snapshot");
	write_file(r);
	pthread_mutex_unlock(&r->lock);
}

void record_latest(struct record *r, struct json_object *snapshot)
{
	if (!r)
		return;
	pthread_mutex_lock(&r->lock);
	json_object_object_add(r->o, "latest", json_object_get(snapshot));
	write_file(r);
	pthread_mutex_unlock(&r->lock);
}

/* ---- reading ------------------------------------------------------------------------- */

/* NULL for what is absent or no string */
static const char *get_text(struct json_object *o, const char *key)
{
	struct json_object *v;

	return json_object_object_get_ex(o, key, &v) && json_object_is_type(v, json_type_string) ?
	       json_object_get_string(v) : NULL;
}

static int get_number(struct json_object *o, const char *key)
{
	struct json_object *v;

	return json_object_object_get_ex(o, key, &v) ? json_object_get_int(v) : 0;
}

static bool get_flag(struct json_object *o, const char *key)
{
	struct json_object *v;

	return json_object_object_get_ex(o, key, &v) && json_object_get_boolean(v);
}

static int read_file(const char *path, struct json_object **o)
{
	int fd = open(path, O_RDONLY | O_CLOEXEC | O_NOFOLLOW | O_NONBLOCK);
	char *text = malloc(RECORD_BYTES);
	size_t len = 0;
	ssize_t n = 1;

	*o = NULL;
	if (fd < 0 || !text) {
		int err = fd < 0 ? -errno : -ENOMEM;

		if (fd >= 0)
			close(fd);
		free(text);
		return err;
	}
	while (n > 0 && len < RECORD_BYTES - 1) {
		n = read(fd, text + len, RECORD_BYTES - 1 - len);
		len += n > 0 ? (size_t)n : 0;
	}
	text[len] = 0;
	*o = json_tokener_parse(text);
	close(fd);
	free(text);
	return *o ? 0 : -EBADMSG;
}

/* The store knows better than a runner that was not told. */
static bool is_complete(struct json_object *snapshot)
{
	const char *id = get_text(snapshot, "id");
	struct store_snap *snap;
	struct store *st;
	bool complete;

	if (!id || store_open(&st, get_text(snapshot, "store"), 0))
		return false;
	complete = !store_snap_open(&snap, st, id);
	if (complete)
		store_snap_close(snap);
	store_close(st);
	return complete;
}

/* What it says of a VM nobody runs any more, if that VM did not come to an end by itself. */
static void correct(struct json_object *o, enum vm_status s)
{
	struct json_object *snapshot;
	char why[RECORD_WHY];
	size_t n;

	n = (size_t)snprintf(why, sizeof(why), "the runner (pid %d) died while %s", get_number(o, "pid"),
			     vm_status_name(s));
	if (json_object_object_get_ex(o, "snapshot", &snapshot)) {
		const char *name = get_text(snapshot, "name");
		bool complete = is_complete(snapshot);

		snprintf(why + n, sizeof(why) - n, ", the snapshot '%.100s' %s", name ? name : "?",
			 complete ? "is complete" : "was not committed");
		if (complete)
			json_object_object_add(o, "latest", json_object_get(snapshot));
	}
	put_text(o, "state", vm_status_name(VM_FAILED));
	put_text(o, "reason", why);
}

/* Who holds the lock may be a child of it that ends in a moment. */
static bool is_alive(struct json_object *o, const char *dir, const char *name)
{
	int pid = get_number(o, "pid");

	return name_locked(dir, name) && (pid <= 0 || !kill(pid, 0) || errno != ESRCH);
}

struct json_object *record_read(const char *dir, const char *name)
{
	char path[PATH_BYTES];
	struct json_object *o;
	enum vm_status s;
	bool alive;
	int err;

	if (!path_of(dir, name, ".life", path)) {
		fail(-ENAMETOOLONG, "'%s' is too long for a name", name);
		return NULL;
	}
	err = read_file(path, &o);
	if (!err && (!json_object_is_type(o, json_type_object) || !get_text(o, "state") ||
		     !vm_status_parse(&s, get_text(o, "state")))) {
		json_object_put(o);
		err = -EBADMSG;
	}
	if (err == -EBADMSG)
		fail(err, "%s is damaged; `vmplat vm forget %s` removes it", path, name);
	else if (err)
		fail(err, "%s: %s", path, strerror(-err));
	if (err)
		return NULL;
	alive = is_alive(o, dir, name);
	if (!alive && !vm_status_ends(s))
		correct(o, s);
	json_object_object_add(o, "alive", json_object_new_boolean(alive));
	return o;
}

enum vm_status record_status(struct json_object *o)
{
	enum vm_status s = VM_FAILED;

	vm_status_parse(&s, get_text(o, "state"));
	return s;
}

/* a restore that goes on from its latest snapshot, or "" */
static void restore_text(struct json_object *o, const char *vm, char *text, size_t bytes)
{
	struct json_object *latest;
	const char *name, *store;

	*text = 0;
	if (!json_object_object_get_ex(o, "latest", &latest))
		return;
	name = get_text(latest, "name");
	store = get_text(latest, "store");
	if (!name)
		name = get_text(latest, "id");
	if (name)
		snprintf(text, bytes, "`vmplat restore %s%s%s%s --name %s` goes on from its latest snapshot, ",
			 store ? "--store " : "", store ? store : "", store ? " " : "", name, vm);
}

void record_sentence(struct json_object *o, char *text, size_t bytes)
{
	enum vm_status s = record_status(o);
	const char *why = get_text(o, "reason"), *vm = get_text(o, "name");
	char restore[400];

	restore_text(o, vm ? vm : "?", restore, sizeof(restore));
	if (vm_status_ends(s))
		snprintf(text, bytes, "%s%s%s; %s`vmplat vm start %s` %s, `vmplat vm forget %s` forgets it",
			 vm_status_phrase(s), why ? ": " : "", why ? why : "", restore, vm ? vm : "?",
			 s == VM_DEFINED ? "starts it" : "boots it again", vm ? vm : "?");
	else
		snprintf(text, bytes, "%s, and does not answer (pid %d)", vm_status_phrase(s),
			 get_number(o, "pid"));
}

int record_config(struct json_object *o, struct vm_config *cfg)
{
	struct json_object *config;
	const char *why, *cwd = get_text(o, "cwd");
	int ret;

	if (!json_object_object_get_ex(o, "config", &config))
		return fail(-EBADMSG, "its record does not say what it is made of");
	ret = vm_config_from_json(cfg, config, &why);
	if (ret)
		return fail(ret, "its record does not say what it is made of: %s", why);
	cfg->affinity = get_text(config, "affinity") ? strdup(get_text(config, "affinity")) : NULL;
	cfg->no_reboot = get_flag(config, "no_reboot");
	if (get_flag(config, "memfd"))
		cfg->backend = VM_BACKEND_MEMFD;
	if (cwd && chdir(cwd)) {
		ret = fail(-errno, "%s, where it was started: %s", cwd, strerror(errno));
		vm_config_free(cfg);
	}
	return ret;
}

/* The lock's file stays: another may be waiting to lock it, and would own what has no name. */
int record_forget(const char *dir, const char *name)
{
	char err[300];
	int fd = name_lock(dir, name, err, sizeof(err));
	bool any;

	if (fd == -EADDRINUSE)
		return fail(fd, "%s is alive; stop it first", name);
	if (fd < 0)
		return fail(fd, "%s", err);
	any = remove_one(dir, name, ".life");
	any |= remove_one(dir, name, ".sock");
	remove_one(dir, name, ".life+");
	close(fd);
	return any ? 0 : fail(-ENOENT, "there is nothing of a VM called '%s' in %s", name, dir);
}
