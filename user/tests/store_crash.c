// SPDX-License-Identifier: LGPL-2.1-or-later
/*
 * Crashes: the disk that fills or fails at every step, the power cut after every
 * step, and kill -9 at random instants. Whatever happens, the store holds the old
 * snapshots whole, and the new one whole or not at all.
 */
#include "store_test.h"

#include <signal.h>
#include <sys/wait.h>
#include <time.h>

static struct shadow before, after;

/* ---- the same scenario for all: "full" is there, "inc" is written on it -- */

static int write_inc(struct store *st)
{
	return take(st, "inc", "full", STORE_CODEC_LZ4, 1, &after,
		    STORE_SRC_INCREMENT);
}

static void shadows(void)
{
	shadow_init(&before, 700 * PAGE);
	shadow_scribble(&before, 50);
	shadow_init(&after, 700 * PAGE);
	memcpy(after.mem, before.mem, 700 * PAGE);
	memcpy(after.kind, before.kind, 700);
	shadow_scribble(&after, 20);
}

static struct store *start(const char *name)
{
	struct store *st = store_at(name);

	MUST(take(st, "full", NULL, STORE_CODEC_ZSTD, 1, &before,
		  STORE_SRC_FULL));
	return st;
}

static int nr_broken;

static void on_broken(void *ctx, const char *dir, const char *why)
{
	printf("# %s: %s\n", dir, why);
	nr_broken++;
}

/* 0: old state, 1: new state, -1: neither */
static int state_of(struct store *st)
{
	struct store_info *l;
	size_t nr;

	nr_broken = 0;
	if (store_list(st, &l, &nr, on_broken, NULL))
		return -1;
	store_list_free(l, nr);
	if (nr_broken || nr < 1 || nr > 2 || verified(st, "full") ||
	    !same(st, "full", &before))
		return -1;
	if (nr == 1)
		return 0;
	return !verified(st, "inc") && same(st, "inc", &after) ? 1 : -1;
}

static int leftovers(struct store *st)
{
	unsigned int nr = 99;

	return store_gc(st, true, &nr, NULL) ? -1 : (int)nr;
}

/* ---- a step fails ------------------------------------------------------ */

static int fail_at, fail_with;
static atomic_int step;		/* readers have threads */
static unsigned int fail_ops;

static int failing(const struct io_event *ev)
{
	if (!(fail_ops >> ev->op & 1))
		return 0;
	return step++ == fail_at ? fail_with : 0;
}

static void faults(const char *what, unsigned int ops, int err)
{
	struct store *st = start(what);
	int bad = 0, n, ret;

	for (n = 0; ; n++) {
		step = 0;
		fail_at = n;
		fail_with = err;
		fail_ops = ops;
		store_io_hook = failing;
		ret = write_inc(st);
		store_io_hook = NULL;
		if (step <= n)
			break;		/* there is no such step */
		if (ret != err || state_of(st) != 0 || leftovers(st)) {
			printf("# step %d: %d, %s\n", n, ret, store_error());
			bad++;
		}
	}
	ok(!bad && n > 2 && !ret && state_of(st) == 1,
	   "%s: each of %d steps failed, the old state stayed", what, n);
	store_close(st);
}

static void removal_faults(void)
{
	struct store *st = start("removal");
	int bad = 0, n, ret;

	for (n = 0; ; n++) {
		int s;

		if (state_of(st) == 0)
			MUST(write_inc(st));
		step = 0;
		fail_at = n;
		fail_with = -EIO;
		fail_ops = ~(1u << IO_READ);
		store_io_hook = failing;
		ret = store_remove(st, "inc");
		store_io_hook = NULL;
		if (step <= n)
			break;
		s = state_of(st);
		bad += ret != -EIO || s < 0;
		MUST(store_gc(st, false, NULL, NULL));
		bad += leftovers(st) != 0 || state_of(st) != s;
	}
	ok(!bad && n > 4 && !ret && state_of(st) == 0,
	   "removal: each of %d steps failed, a snapshot is whole or gone", n);
	store_close(st);
}

static void read_faults(void)
{
	struct store *st = start("reading");
	char hex[STORE_ID_CHARS + 1];
	struct store_snap *snap;
	int bad = 0, n, err;

	MUST(write_inc(st));
	MUST(store_snap_open(&snap, st, "inc"));
	store_id_to_hex(store_snap_info(snap)->id, hex);
	store_snap_close(snap);
	for (n = 0; ; n++) {
		uint8_t *buf = malloc(after.bytes);

		step = 0;
		fail_at = n;
		fail_with = -EIO;
		fail_ops = 1u << IO_READ;
		store_io_hook = failing;
		err = store_snap_open(&snap, st, hex);
		if (!err) {
			err = store_read(store_image(snap, "memory"), buf, 0,
					 after.bytes);
			if (!err)
				err = store_verify(snap, NULL);
			/* a failed read is not remembered as content */
			store_io_hook = NULL;
			bad += store_read(store_image(snap, "memory"), buf, 0,
					  after.bytes) ||
			       memcmp(buf, after.mem, after.bytes);
			store_snap_close(snap);
		}
		store_io_hook = NULL;
		free(buf);
		if (step <= n)
			break;
		bad += err != -EIO;
	}
	ok(!bad && n > 10 && !err, "reading: each of %d reads failed with EIO",
	   n);
	store_close(st);
}

/* ---- the power is cut -------------------------------------------------- */

/*
 * A model of the disk: what is in memory, and what is surely on the disk. fsync of
 * a file makes its content sure, of a directory its entries; nothing else does.
 */
#define MAX_NODES	256
#define MAX_ENTRIES	16

struct entry {
	char name[64];
	int node;
};

struct node {
	bool is_dir;
	uint8_t *now, *sure;		/* file content */
	size_t now_len, sure_len;
	struct entry e[MAX_ENTRIES], se[MAX_ENTRIES];
	int nr_e, nr_se;
};

static struct node nodes[MAX_NODES];
static int nr_nodes;
static char root[512];

static int node_new(bool is_dir)
{
	MUST(nr_nodes < MAX_NODES ? 0 : -1);
	memset(nodes + nr_nodes, 0, sizeof(*nodes));
	nodes[nr_nodes].is_dir = is_dir;
	return nr_nodes++;
}

static struct entry *lookup(int dir, const char *name)
{
	for (int i = 0; i < nodes[dir].nr_e; i++)
		if (!strcmp(nodes[dir].e[i].name, name))
			return nodes[dir].e + i;
	return NULL;
}

static void enter(int dir, const char *name, int node)
{
	struct entry *e = nodes[dir].e + nodes[dir].nr_e++;

	MUST(nodes[dir].nr_e <= MAX_ENTRIES ? 0 : -1);
	snprintf(e->name, sizeof(e->name), "%s", name);
	e->node = node;
}

static int leave(int dir, const char *name)
{
	struct entry *e = lookup(dir, name);
	int node;

	MUST(e ? 0 : -1);
	node = e->node;
	*e = nodes[dir].e[--nodes[dir].nr_e];
	return node;
}

static int walk(const char *path)
{
	char copy[1024], *part, *save;
	int node = 0;

	MUST(strncmp(path, root, strlen(root)) ? -1 : 0);
	snprintf(copy, sizeof(copy), "%s", path + strlen(root));
	for (part = strtok_r(copy, "/", &save); part;
	     part = strtok_r(NULL, "/", &save)) {
		struct entry *e = lookup(node, part);

		MUST(e ? 0 : -1);
		node = e->node;
	}
	return node;
}

static int node_of(int fd)
{
	char link[64], path[1024];
	ssize_t n;

	snprintf(link, sizeof(link), "/proc/self/fd/%d", fd);
	n = readlink(link, path, sizeof(path) - 1);
	MUST(n);
	path[n] = 0;
	return walk(path);
}

static void model(const struct io_event *ev)
{
	struct node *n;
	int id;

	if (ev->op == IO_READ)
		return;
	id = node_of(ev->fd);
	n = nodes + id;
	switch (ev->op) {
	case IO_MKDIR:
	case IO_CREATE:
		id = node_new(ev->op == IO_MKDIR);
		enter(n - nodes, ev->name, id);
		break;
	case IO_WRITE:
		if (ev->off + ev->len > n->now_len) {
			n->now = realloc(n->now, ev->off + ev->len);
			memset(n->now + n->now_len, 0,
			       ev->off + ev->len - n->now_len);
			n->now_len = ev->off + ev->len;
		}
		memcpy(n->now + ev->off, ev->buf, ev->len);
		break;
	case IO_FSYNC:
		if (n->is_dir) {
			memcpy(n->se, n->e, sizeof(n->e));
			n->nr_se = n->nr_e;
			break;
		}
		n->sure = realloc(n->sure, n->now_len + 1);
		if (n->now_len)
			memcpy(n->sure, n->now, n->now_len);
		n->sure_len = n->now_len;
		break;
	case IO_RENAME:
		enter(id, ev->to_name, leave(id, ev->name));
		break;
	case IO_UNLINK:
	case IO_RMDIR:
		leave(id, ev->name);
		break;
	default:
		break;
	}
}

enum luck { NOTHING, NAMES, ZEROES, RANDOM, EVERYTHING, NR_LUCK };

static void lay_file(const struct node *n, const char *path, enum luck luck)
{
	const uint8_t *from = n->sure;
	size_t len = n->sure_len;
	uint8_t *mix = NULL;
	int fd;

	if (luck == EVERYTHING || (luck == RANDOM && rnd() % 3 == 0)) {
		from = n->now;
		len = n->now_len;
	} else if (luck == ZEROES || luck == RANDOM) {
		/* the length got there, blocks did not, or only some */
		len = n->now_len;
		mix = calloc(1, len + 1);
		if (n->sure_len)
			memcpy(mix, n->sure, n->sure_len < len ? n->sure_len :
			       len);
		for (size_t off = 0; luck == RANDOM && off < len; off += 512)
			if (rnd() % 2)
				memcpy(mix + off, n->now + off,
				       len - off < 512 ? len - off : 512);
		from = mix;
	}
	fd = open(path, O_WRONLY | O_CREAT | O_TRUNC, 0600);
	MUST(fd);
	if (len)
		MUST(write(fd, from, len) == (ssize_t)len ? 0 : -1);
	close(fd);
	free(mix);
}

/* What the disk may hold after the cut. */
static void lay(int dir, const char *path, enum luck luck)
{
	const struct node *n = nodes + dir;
	bool names = luck == NAMES || luck == ZEROES || luck == EVERYTHING ||
		     (luck == RANDOM && rnd() % 2);
	const struct entry *e = names ? n->e : n->se;
	int nr = names ? n->nr_e : n->nr_se;
	char sub[1200];

	MUST(mkdir(path, 0700));
	for (int i = 0; i < nr; i++) {
		snprintf(sub, sizeof(sub), "%s/%s", path, e[i].name);
		if (nodes[e[i].node].is_dir)
			lay(e[i].node, sub, luck);
		else
			lay_file(nodes + e[i].node, sub, luck);
	}
}

static int cuts, cut_bad, cut_new, must_be;

static void cut(void)
{
	char path[600];

	snprintf(path, sizeof(path), "%s/after-cut", scratch);
	for (int luck = 0; luck < NR_LUCK; luck++)
		for (int round = 0; round < (luck == RANDOM ? 3 : 1); round++) {
			struct store *st;
			int state;

			lay(0, path, luck);
			MUST(store_open(&st, path, 0));
			state = state_of(st);
			cuts++;
			cut_new += state == 1;
			if (state < 0 || (must_be >= 0 && state != must_be)) {
				printf("# cut %d, luck %d: state %d, %s\n",
				       cuts, luck, state, store_error());
				cut_bad++;
			}
			/* whatever is left over can be swept, and it goes on */
			if (store_gc(st, false, NULL, NULL) ||
			    leftovers(st) || state_of(st) != state)
				cut_bad++;
			store_close(st);
			wipe(path);
		}
}

static int recording(const struct io_event *ev)
{
	int (*me)(const struct io_event *) = store_io_hook;

	if (ev->op == IO_READ)
		return 0;
	store_io_hook = NULL;
	cut();			/* just before this step ... */
	model(ev);		/* ... which is then done */
	store_io_hook = me;
	return 0;
}

/* Take the real store as what is surely there. */
static void model_from(int dir, const char *path)
{
	DIR *d = opendir(path);
	struct dirent *de;
	char sub[1200];

	while ((de = readdir(d))) {
		struct stat sb;
		int id, fd;

		if (!strcmp(de->d_name, ".") || !strcmp(de->d_name, ".."))
			continue;
		snprintf(sub, sizeof(sub), "%s/%s", path, de->d_name);
		MUST(lstat(sub, &sb));
		id = node_new(S_ISDIR(sb.st_mode));
		enter(dir, de->d_name, id);
		if (S_ISDIR(sb.st_mode)) {
			model_from(id, sub);
			continue;
		}
		nodes[id].now = malloc(sb.st_size + 1);
		nodes[id].sure = malloc(sb.st_size + 1);
		fd = open(sub, O_RDONLY);
		MUST(fd);
		MUST(pread(fd, nodes[id].now, sb.st_size, 0) == sb.st_size ?
		     0 : -1);
		close(fd);
		memcpy(nodes[id].sure, nodes[id].now, sb.st_size);
		nodes[id].now_len = nodes[id].sure_len = sb.st_size;
	}
	closedir(d);
	memcpy(nodes[dir].se, nodes[dir].e, sizeof(nodes[dir].e));
	nodes[dir].nr_se = nodes[dir].nr_e;
}

static void power_cuts(void)
{
	struct store *st = start("power");
	int n;

	snprintf(root, sizeof(root), "%s", store_path(st));
	node_new(true);
	model_from(0, root);
	must_be = -1;
	store_io_hook = recording;
	n = write_inc(st);
	store_io_hook = NULL;
	ok(!n && !cut_bad && cut_new, "%d power cuts while an increment was "
	   "written: %d times the new state, else the old", cuts, cut_new);
	cuts = cut_bad = cut_new = 0;
	must_be = 1;
	cut();
	ok(!cut_bad && cut_new == cuts, "after the commit no cut takes it back");
	cuts = cut_bad = cut_new = 0;
	must_be = -1;
	store_io_hook = recording;
	n = store_remove(st, "inc");
	store_io_hook = NULL;
	ok(!n && !cut_bad && cut_new, "%d power cuts while it was removed", cuts);
	must_be = 0;
	cut();
	ok(!cut_bad, "after the removal no cut brings it back");
	for (n = 0; n < nr_nodes; n++) {
		free(nodes[n].now);
		free(nodes[n].sure);
	}
	store_close(st);
}

/* ---- kill -9 ----------------------------------------------------------- */

static void kills(void)
{
	struct store *st = start("kills");
	int bad = 0, born = 0, left = 0;

	for (int i = 0; i < 60; i++) {
		struct timespec ts = { .tv_nsec = rnd() % 25000000 };
		pid_t pid = fork();
		int s;

		if (!pid) {
			take(st, "inc", "full", STORE_CODEC_LZ4, 2, &after,
			     STORE_SRC_INCREMENT);
			_exit(0);
		}
		nanosleep(&ts, NULL);
		kill(pid, SIGKILL);
		waitpid(pid, NULL, 0);
		s = state_of(st);
		left += leftovers(st) > 0;
		bad += s < 0;
		if (s == 1) {
			born++;
			bad += store_remove(st, "inc") != 0;
		}
		/* every other time the next writer sweeps, not gc */
		if (i % 2)
			bad += store_gc(st, false, NULL, NULL) != 0 ||
			       leftovers(st) != 0;
	}
	ok(!bad, "60 writers killed: %d had finished, %d left something", born,
	   left);
	MUST(write_inc(st));
	ok(!leftovers(st) && state_of(st) == 1, "the next writer sweeps");
	store_close(st);
}

/* A writer that lives is not swept, whoever else comes. */
static void neighbours(void)
{
	struct store *st = start("neighbours"), *other;
	struct store_create_opts o = { .name = "slow", .parent = "full" },
				 p = { .name = "slow", .parent = NULL };
	struct store_writer *w, *v;
	int fd = shadow_file(&before, 0);

	MUST(store_create(&w, st, &o));
	MUST(store_add_image(w, "memory", fd, NULL));
	MUST(store_open(&other, store_path(st), 0));
	ok(!leftovers(other), "a living writer is no leftover");
	ok(store_remove(other, "full") == -EBUSY,
	   "what an increment is being written on cannot go");
	MUST(store_create(&v, other, &p));
	MUST(store_add_image(v, "memory", fd, NULL));
	MUST(store_commit(v));
	ok(store_commit(w) == -EEXIST, "of two with one name the first wins");
	ok(!verified(st, "slow") && !leftovers(st), "and is whole");
	close(fd);
	store_close(other);
	store_close(st);
}

/* A link with the name of a leftover: its target is nobody's to remove. */
static void planted(void)
{
	struct store *st = start("planted");
	char path[700], away[600];
	int fd;

	snprintf(away, sizeof(away), "%s/precious", scratch);
	MUST(mkdir(away, 0700));
	snprintf(path, sizeof(path), "%s/file", away);
	fd = open(path, O_CREAT | O_WRONLY, 0600);
	MUST(fd);
	close(fd);
	snprintf(path, sizeof(path), "%s/.del-0123456789abcdef0123456789abcdef",
		 store_path(st));
	MUST(symlink(away, path));
	store_gc(st, false, NULL, NULL);
	snprintf(path, sizeof(path), "%s/file", away);
	ok(!access(path, F_OK), "a planted link is not followed");
	ok(!write_inc(st) && state_of(st) == 1, "and is in nobody's way");
	store_close(st);
}

int main(void)
{
	unsigned int all = ~(1u << IO_READ | 1u << IO_UNLINK | 1u << IO_RMDIR);

	scratch_begin();
	shadows();
	faults("no space", all & ~(1u << IO_FSYNC | 1u << IO_RENAME), -ENOSPC);
	faults("I/O errors", all, -EIO);
	removal_faults();
	read_faults();
	power_cuts();
	kills();
	neighbours();
	planted();
	shadow_free(&before);
	shadow_free(&after);
	return tap_end();
}
