// SPDX-License-Identifier: LGPL-2.1-or-later
/*
 * The store as a directory: opening, finding, listing, removing. Entries are
 *
 *   <id>        a snapshot, complete since the moment it has this name
 *   .tmp-<id>   a snapshot being written; its writer holds flock() on it, so
 *               one that can be locked belongs to nobody
 *   .del-<id>   a snapshot being removed, or whose removal was interrupted
 */
#include "internal.h"

#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/file.h>
#include <sys/stat.h>
#include <unistd.h>

void dir_name(char buf[DIR_NAME_CHARS + 1], const char *prefix,
	      const uint8_t id[STORE_ID_BYTES])
{
	char hex[STORE_ID_CHARS + 1];

	store_id_to_hex(id, hex);
	snprintf(buf, DIR_NAME_CHARS + 1, "%.5s%s", prefix, hex);
}

/* ---- opening ----------------------------------------------------------- */

/* mkdir -p, each new name durable before the next is made in it. */
static int make_path(const char *path)
{
	char part[PATH_MAX];
	int fd, err = 0;

	if (snprintf(part, sizeof(part), "%s", path) >= (int)sizeof(part))
		return store_fail(ENAMETOOLONG, "path is too long: %s", path);
	for (char *p = part + 1; ; p++) {
		char c = *p, *name;

		if (c && c != '/')
			continue;
		*p = 0;
		if (mkdir(part, 0700)) {
			if (errno != EEXIST)
				return store_fail(errno, "cannot make "
						  "directory %s: %s", part,
						  strerror(errno));
		} else {
			name = strrchr(part, '/');
			if (name && name != part)
				*name = 0;
			fd = sio_open_dir(AT_FDCWD, name == part ? "/" :
					  name ? part : ".");
			if (name && name != part)
				*name = '/';
			if (fd < 0)
				return fd;
			err = sio_fsync(fd, "the store's place");
			close(fd);
		}
		*p = c;
		if (!c || err)
			return err;
	}
}

int store_open(struct store **out, const char *dir, unsigned int flags)
{
	struct store *st;
	int fd, err;

	*out = NULL;
	if (!dir || !*dir)
		dir = getenv("VMPLAT_STORE");
	if (!dir || !*dir)
		dir = STORE_DEFAULT_DIR;
	fd = open(dir, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
	if (fd < 0 && errno == ENOENT && (flags & STORE_OPEN_CREATE)) {
		err = make_path(dir);
		if (err)
			return err;
		fd = open(dir, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
	}
	if (fd < 0)
		return store_fail(errno, "cannot open the store %s: %s", dir,
				  strerror(errno));
	st = calloc(1, sizeof(*st));
	if (st)
		st->path = strdup(dir);
	if (!st || !st->path) {
		close(fd);
		free(st);
		return store_fail(ENOMEM, "out of memory");
	}
	st->fd = fd;
	*out = st;
	return 0;
}

int store_dup(struct store **copy, const struct store *st)
{
	struct store *c = calloc(1, sizeof(*c));

	*copy = NULL;
	if (c)
		c->path = strdup(st->path);
	if (!c || !c->path) {
		free(c);
		return store_fail(ENOMEM, "out of memory");
	}
	c->fd = fcntl(st->fd, F_DUPFD_CLOEXEC, 3);
	if (c->fd < 0) {
		int err = errno;

		free(c->path);
		free(c);
		return store_fail(err, "cannot duplicate a descriptor: %s",
				  strerror(err));
	}
	*copy = c;
	return 0;
}

void store_close(struct store *st)
{
	if (!st)
		return;
	close(st->fd);
	free(st->path);
	free(st);
}

int store_fd(const struct store *st)
{
	return st->fd;
}

const char *store_path(const struct store *st)
{
	return st->path;
}

int store_lock(const struct store *st)
{
	int fd = sio_open_dir(st->fd, ".");

	if (fd < 0)
		return fd;
	while (flock(fd, LOCK_EX))
		if (errno != EINTR) {
			int err = errno;

			close(fd);
			return store_fail(err, "cannot lock the store %s: %s",
					  st->path, strerror(err));
		}
	return fd;
}

/* ---- every snapshot ---------------------------------------------------- */

struct all {
	struct manifest *m;
	size_t nr;
};

static void all_free(struct all *a)
{
	for (size_t i = 0; i < a->nr; i++)
		manifest_free(a->m + i);
	free(a->m);
}

static int dir_manifest(struct manifest *m, int storefd, const char *name,
			bool ancestors)
{
	uint8_t id[STORE_ID_BYTES];
	int fd, err;

	fd = sio_open_dir(storefd, name);
	if (fd < 0)
		return fd;
	err = manifest_read(m, fd, name);
	if (!err && ancestors) {
		err = manifest_ancestors(m, fd);
		if (err)
			manifest_free(m);
	}
	close(fd);
	if (!err && (store_id_from_hex(id, name) ||
		     memcmp(id, m->info.id, sizeof(id)))) {
		manifest_free(m);
		err = store_fail(EBADMSG, "%s: is not the snapshot it is "
				 "called", name);
	}
	return err;
}

static DIR *open_list(const struct store *st)
{
	int fd = sio_open_dir(st->fd, ".");
	DIR *d = fd < 0 ? NULL : fdopendir(fd);

	if (!d && fd >= 0) {
		close(fd);
		store_fail(ENOMEM, "out of memory");
	}
	return d;
}

static int by_age(const void *a, const void *b)
{
	const struct manifest *x = a, *y = b;

	if (x->info.created_ns != y->info.created_ns)
		return x->info.created_ns < y->info.created_ns ? -1 : 1;
	/* a clock that stood still: the chain knows better */
	if (x->info.nr_ancestors != y->info.nr_ancestors)
		return x->info.nr_ancestors < y->info.nr_ancestors ? -1 : 1;
	return memcmp(x->info.id, y->info.id, STORE_ID_BYTES);
}

static int all_read(struct all *a, const struct store *st, bool ancestors,
		    void (*broken)(void *, const char *, const char *),
		    void *ctx)
{
	uint8_t id[STORE_ID_BYTES];
	struct dirent *de;
	struct manifest m;
	int err = 0;
	DIR *d;

	memset(a, 0, sizeof(*a));
	d = open_list(st);
	if (!d)
		return -ENOMEM;
	while (!err && (de = readdir(d))) {
		void *p;

		if (store_id_from_hex(id, de->d_name))
			continue;
		err = dir_manifest(&m, st->fd, de->d_name, ancestors);
		if (err) {
			/* removed meanwhile is fine, anything else is told */
			if (broken && !faccessat(st->fd, de->d_name, F_OK, 0))
				broken(ctx, de->d_name, store_error());
			err = err == -ENOMEM || err == -EMFILE ? err : 0;
			continue;
		}
		p = reallocarray(a->m, a->nr + 1, sizeof(*a->m));
		if (!p) {
			manifest_free(&m);
			err = store_fail(ENOMEM, "out of memory");
			break;
		}
		a->m = p;
		a->m[a->nr++] = m;
	}
	closedir(d);
	if (err)
		all_free(a);
	else if (a->nr)
		qsort(a->m, a->nr, sizeof(*a->m), by_age);
	return err;
}

/* The snapshot in directory @name is called that? 1, 0, or -errno. */
static int is_called(const struct store *st, const char *name, const char *ref)
{
	char found[STORE_NAME_CHARS + 1];
	struct manifest m;
	int fd, err;

	fd = sio_open_dir(st->fd, name);
	if (fd < 0)
		return fd;
	err = manifest_peek(found, fd);
	close(fd);
	if (!err)
		return !strcmp(found, ref);
	err = dir_manifest(&m, st->fd, name, false);
	if (err)
		return err;
	err = !strcmp(m.info.name, ref);
	manifest_free(&m);
	return err;
}

/* Snapshots that cannot be read are nobody's: list and verify tell of them. */
static int find_name(const struct store *st, const char *ref,
		     uint8_t id[STORE_ID_BYTES])
{
	struct dirent *de;
	int found = 0;
	DIR *d;

	d = open_list(st);
	if (!d)
		return -ENOMEM;
	while (found <= 0 && (de = readdir(d))) {
		if (store_id_from_hex(id, de->d_name))
			continue;
		found = is_called(st, de->d_name, ref);
		if (found == -ENOMEM || found == -EMFILE)
			break;
	}
	closedir(d);
	if (found == -ENOMEM || found == -EMFILE)
		return found;
	return found > 0 ? 0 :
	       store_fail(ENOENT, "there is no snapshot \"%s\" in %s", ref,
			  st->path);
}

int store_find(const struct store *st, const char *ref,
	       uint8_t id[STORE_ID_BYTES])
{
	struct stat sb;

	if (!store_id_from_hex(id, ref)) {
		if (!fstatat(st->fd, ref, &sb, AT_SYMLINK_NOFOLLOW))
			return 0;
		return store_fail(ENOENT, "there is no snapshot %s in %s", ref,
				  st->path);
	}
	return find_name(st, ref, id);
}

int store_list(struct store *st, struct store_info **list, size_t *nr,
	       void (*broken)(void *ctx, const char *dir, const char *why),
	       void *ctx)
{
	struct store_info *l;
	struct all a;
	int err;

	*list = NULL;
	*nr = 0;
	err = all_read(&a, st, false, broken, ctx);
	if (err)
		return err;
	l = calloc(a.nr ? a.nr : 1, sizeof(*l));
	if (!l) {
		all_free(&a);
		return store_fail(ENOMEM, "out of memory");
	}
	for (size_t i = 0; i < a.nr; i++) {
		l[i] = a.m[i].info;
		/* the list owns these from now on */
		a.m[i].info.images = NULL;
		a.m[i].info.vm = NULL;
	}
	*list = l;
	*nr = a.nr;
	all_free(&a);
	return 0;
}

void store_list_free(struct store_info *list, size_t nr)
{
	for (size_t i = 0; list && i < nr; i++) {
		free((void *)list[i].images);
		free((void *)list[i].vm);
	}
	free(list);
}

/* ---- removing ---------------------------------------------------------- */

static bool builds_on(const struct manifest *m, const uint8_t *id)
{
	for (unsigned int i = 0; i < m->info.nr_ancestors; i++)
		if (!memcmp(m->ancestors[i].id, id, STORE_ID_BYTES))
			return true;
	return false;
}

static int childless(const struct store *st, const uint8_t *id, const char *ref)
{
	char names[256] = "";
	size_t len = 0;
	struct all a;
	int err, nr = 0;

	err = all_read(&a, st, true, NULL, NULL);
	if (err)
		return err;
	for (size_t i = 0; i < a.nr; i++)
		if (builds_on(a.m + i, id)) {
			if (len < sizeof(names))
				len += snprintf(names + len,
						sizeof(names) - len, "%s%s",
						nr ? ", " : "",
						a.m[i].info.name);
			nr++;
		}
	all_free(&a);
	return nr ? store_fail(ENOTEMPTY, "%s is still needed by %d "
			       "snapshot%s: %s; remove %s first", ref, nr,
			       nr == 1 ? "" : "s", names,
			       nr == 1 ? "it" : "them") : 0;
}

static int take_away(struct store *st, const uint8_t *id, const char *ref,
		     char del[DIR_NAME_CHARS + 1])
{
	char name[DIR_NAME_CHARS + 1];
	int fd, err;

	dir_name(name, "", id);
	dir_name(del, DEL_PREFIX, id);
	fd = sio_open_dir(st->fd, name);
	if (fd < 0)
		return fd;
	if (flock(fd, LOCK_EX | LOCK_NB)) {
		err = store_fail(EBUSY, "%s is in use: a restore reads it or "
				 "an increment is being written on it", ref);
	} else {
		err = sio_rename(st->fd, name, del);
		if (!err)
			err = sio_fsync(st->fd, st->path);
	}
	close(fd);
	return err;
}

int store_remove(struct store *st, const char *ref)
{
	char del[DIR_NAME_CHARS + 1];
	uint8_t id[STORE_ID_BYTES];
	int lock, err;

	lock = store_lock(st);
	if (lock < 0)
		return lock;
	err = store_find(st, ref, id);
	if (!err)
		err = childless(st, id, ref);
	if (!err)
		err = take_away(st, id, ref, del);
	close(lock);
	return err ? err : sio_remove_tree(st->fd, del);
}

static uint64_t tree_bytes(int dirfd, const char *name)
{
	struct dirent *de;
	uint64_t sum = 0;
	struct stat sb;
	DIR *d;
	int fd;

	fd = sio_open_dir(dirfd, name);
	d = fd < 0 ? NULL : fdopendir(fd);
	if (!d) {
		if (fd >= 0)
			close(fd);
		return 0;
	}
	while ((de = readdir(d)))
		if (!fstatat(fd, de->d_name, &sb, AT_SYMLINK_NOFOLLOW) &&
		    S_ISREG(sb.st_mode))
			sum += sb.st_blocks * 512ull;
	closedir(d);
	return sum;
}

static bool is_dead(int dirfd, const char *name)
{
	bool dead;
	int fd;

	if (!strncmp(name, DEL_PREFIX, strlen(DEL_PREFIX)))
		return true;
	if (strncmp(name, TMP_PREFIX, strlen(TMP_PREFIX)))
		return false;
	fd = openat(dirfd, name, O_RDONLY | O_DIRECTORY | O_CLOEXEC | O_NOFOLLOW);
	if (fd < 0)
		return false;
	dead = !flock(fd, LOCK_EX | LOCK_NB);
	close(fd);
	return dead;
}

int store_gc_locked(struct store *st, bool dry_run, unsigned int *removed,
		    uint64_t *bytes)
{
	DIR *d = open_list(st);
	unsigned int nr = 0;
	struct dirent *de;
	uint64_t sum = 0;
	int err = 0;

	if (!d)
		return -ENOMEM;
	while (!err && (de = readdir(d))) {
		if (!is_dead(st->fd, de->d_name))
			continue;
		nr++;
		sum += tree_bytes(st->fd, de->d_name);
		if (!dry_run)
			err = sio_remove_tree(st->fd, de->d_name);
	}
	closedir(d);
	if (removed)
		*removed = nr;
	if (bytes)
		*bytes = sum;
	return err;
}

int store_gc(struct store *st, bool dry_run, unsigned int *removed,
	     uint64_t *bytes)
{
	int lock = store_lock(st), err;

	if (lock < 0)
		return lock;
	err = store_gc_locked(st, dry_run, removed, bytes);
	close(lock);
	return err;
}
