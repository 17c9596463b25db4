// SPDX-License-Identifier: LGPL-2.1-or-later
/* A snapshot opened for reading, with the ancestors its pages come from. */
#include "internal.h"

#include <errno.h>
#include <fcntl.h>
#include <stdlib.h>
#include <string.h>
#include <sys/file.h>
#include <sys/resource.h>
#include <sys/stat.h>
#include <unistd.h>

#define CACHE_BYTES	(64u << 20)

/* Hold it; what was removed while we waited for the lock is not there. */
static int hold(int storefd, int fd, const char *name)
{
	struct stat a, b;

	while (flock(fd, LOCK_SH))
		if (errno != EINTR)
			return store_fail(errno, "cannot lock %s: %s", name,
					  strerror(errno));
	if (fstat(fd, &a) || fstatat(storefd, name, &b, AT_SYMLINK_NOFOLLOW) ||
	    a.st_ino != b.st_ino || a.st_dev != b.st_dev)
		return store_fail(ENOENT, "snapshot %s was just removed", name);
	return 0;
}

static int open_own(struct store_snap *s, const char *name,
		    const uint8_t id[STORE_ID_BYTES])
{
	int err;

	s->fd = sio_open_dir(s->st->fd, name);
	if (s->fd < 0)
		return s->fd;
	err = hold(s->st->fd, s->fd, name);
	if (!err)
		err = manifest_read(&s->m, s->fd, name);
	if (err)
		return err;
	if (memcmp(s->m.info.id, id, STORE_ID_BYTES))
		return store_fail(EBADMSG, "%s: is not the snapshot it is "
				  "called", name);
	s->images = calloc(s->m.info.nr_images + 1, sizeof(*s->images));
	s->ancestors = calloc(s->m.info.nr_ancestors + 1,
			      sizeof(*s->ancestors));
	if (!s->images || !s->ancestors)
		return store_fail(ENOMEM, "out of memory");
	for (unsigned int i = 0; i < s->m.info.nr_images; i++)
		s->images[i].data_fd = s->images[i].index_fd = -1;
	for (unsigned int i = 0; !err && i < s->m.info.nr_images; i++)
		err = image_open(s->images + i, &s->m, i, s->fd);
	return err;
}

int snap_open_shallow(struct store_snap **snap, struct store *st,
		      const uint8_t id[STORE_ID_BYTES])
{
	char name[DIR_NAME_CHARS + 1];
	struct store_snap *s;
	int err;

	*snap = NULL;
	s = calloc(1, sizeof(*s));
	if (!s)
		return store_fail(ENOMEM, "out of memory");
	s->fd = -1;
	err = store_dup(&s->st, st);
	if (!err) {
		dir_name(name, "", id);
		err = open_own(s, name, id);
	}
	if (err)
		store_snap_close(s);
	else
		*snap = s;
	return err;
}

void store_snap_close(struct store_snap *s)
{
	if (!s)
		return;
	for (unsigned int k = 1; s->ancestors && k <= s->m.info.nr_ancestors;
	     k++)
		store_snap_close(s->ancestors[k]);
	for (unsigned int i = 0; s->images && i < s->m.info.nr_images; i++)
		image_close(s->images + i);
	cache_free(s->cache);
	free(s->ancestors);
	free(s->images);
	manifest_free(&s->m);
	if (s->fd >= 0)
		close(s->fd);
	store_close(s->st);
	free(s);
}

static struct store_image *find_image(struct store_snap *s, const char *name)
{
	for (unsigned int i = 0; i < s->m.info.nr_images; i++)
		if (!strcmp(s->m.info.images[i].name, name))
			return s->images + i;
	return NULL;
}

/* A chain of hundreds needs more files than the soft limit usually allows. */
static bool allow_more_files(void)
{
	struct rlimit l;

	if (getrlimit(RLIMIT_NOFILE, &l) || l.rlim_cur >= l.rlim_max)
		return false;
	l.rlim_cur = l.rlim_max;
	return !setrlimit(RLIMIT_NOFILE, &l);
}

static int missing_ancestor(const struct store_snap *s, const char *hex)
{
	return store_fail(ENOENT, "%s needs snapshot %s, which is not in %s",
			  s->m.info.name, hex, s->st->path);
}

static int other_ancestor(const struct store_snap *s, const char *hex)
{
	return store_fail(ESTALE, "%s was made on another state of snapshot "
			  "%s: its root hash differs", s->m.info.name, hex);
}

static int open_ancestor(struct store_snap *s, unsigned int k)
{
	const struct ancestor *a = s->m.ancestors + k - 1;
	char hex[STORE_ID_CHARS + 1];
	int err;

	store_id_to_hex(a->id, hex);
	err = snap_open_shallow(s->ancestors + k, s->st, a->id);
	if (err == -EMFILE && allow_more_files())
		err = snap_open_shallow(s->ancestors + k, s->st, a->id);
	if (err == -ENOENT)
		return missing_ancestor(s, hex);
	if (err == -EMFILE)
		return store_fail(EMFILE, "the chain below %s is too long for "
				  "the limit of open files; raise it (ulimit "
				  "-n)", s->m.info.name);
	if (err)
		return store_fail(err, "%s needs snapshot %s: %s",
				  s->m.info.name, hex, store_error());
	if (memcmp(a->root, s->ancestors[k]->m.info.root, STORE_ID_BYTES))
		return other_ancestor(s, hex);
	return 0;
}

/* Connect each image with those it takes pages from. */
static int link_image(struct store_snap *s, struct store_image *img)
{
	int err;

	for (unsigned int k = 1; k < img->nr_sources; k++) {
		if (!img->refs[k])
			continue;
		if (!s->ancestors[k]) {
			err = open_ancestor(s, k);
			if (err)
				return err;
		}
		img->sources[k] = find_image(s->ancestors[k], img->info->name);
		if (!img->sources[k])
			return store_fail(EBADMSG, "%s: damaged: snapshot %s "
					  "has no such image", img->what,
					  s->ancestors[k]->m.info.name);
	}
	return 0;
}

int snap_link(struct store_snap *s)
{
	int err;

	if (s->cache)
		return 0;
	err = manifest_ancestors(&s->m, s->fd);
	if (err)
		return err;
	s->cache = cache_new(CACHE_BYTES);
	err = s->cache ? 0 : store_fail(ENOMEM, "out of memory");
	for (unsigned int i = 0; !err && i < s->m.info.nr_images; i++) {
		s->images[i].cache = s->cache;
		err = link_image(s, s->images + i);
	}
	return err;
}

static bool counts_on(const struct store_snap *s, unsigned int k)
{
	for (unsigned int i = 0; i < s->m.info.nr_images; i++)
		if (s->images[i].refs[k])
			return true;
	return false;
}

static int check_ancestor(struct store_snap *s, unsigned int k)
{
	const struct ancestor *a = s->m.ancestors + k - 1;
	char name[DIR_NAME_CHARS + 1];
	uint8_t root[STORE_ID_BYTES];
	int fd, err;

	dir_name(name, "", a->id);
	fd = sio_open_dir(s->st->fd, name);
	if (fd == -ENOENT)
		return missing_ancestor(s, name);
	if (fd < 0)
		return fd;
	err = manifest_root(root, fd, name);
	close(fd);
	if (!err && memcmp(root, a->root, STORE_ID_BYTES))
		err = other_ancestor(s, name);
	return err;
}

int snap_check(struct store_snap *s)
{
	int err = manifest_ancestors(&s->m, s->fd);

	for (unsigned int k = 1; !err && k <= s->m.info.nr_ancestors; k++)
		if (counts_on(s, k))
			err = check_ancestor(s, k);
	return err;
}

static int snap_open_in(struct store_snap **snap, struct store *st,
			const char *ref)
{
	uint8_t id[STORE_ID_BYTES];
	struct store_snap *s;
	int err;

	err = store_find(st, ref, id);
	if (err)
		return err;
	err = snap_open_shallow(&s, st, id);
	if (err)
		return err;
	err = snap_link(s);
	if (err)
		store_snap_close(s);
	else
		*snap = s;
	return err;
}

int store_snap_open(struct store_snap **snap, struct store *st, const char *ref)
{
	struct store *beside;
	char *path, *name;
	size_t len;
	int err;

	*snap = NULL;
	if (!strchr(ref, '/'))
		return st ? snap_open_in(snap, st, ref) :
			    store_fail(EINVAL, "no store to find %s in", ref);
	path = strdup(ref);
	if (!path)
		return store_fail(ENOMEM, "out of memory");
	for (len = strlen(path); len > 1 && path[len - 1] == '/'; )
		path[--len] = 0;
	name = strrchr(path, '/');
	*name++ = 0;
	err = store_open(&beside, name == path + 1 ? "/" : path, 0);
	if (!err) {
		err = snap_open_in(snap, beside, name);
		store_close(beside);
	}
	free(path);
	return err;
}

const struct store_info *store_snap_info(const struct store_snap *snap)
{
	return &snap->m.info;
}

int store_snap_cache(struct store_snap *snap, size_t bytes)
{
	struct cache *c = cache_new(bytes);

	if (!c)
		return store_fail(ENOMEM, "out of memory");
	cache_free(snap->cache);
	snap->cache = c;
	for (unsigned int i = 0; i < snap->m.info.nr_images; i++)
		snap->images[i].cache = c;
	return 0;
}

struct store_image *store_image(struct store_snap *snap, const char *name)
{
	struct store_image *img = find_image(snap, name);

	if (!img)
		store_fail(ENOENT, "snapshot %s has no image \"%s\"",
			   snap->m.info.name, name);
	return img;
}

uint64_t store_image_bytes(const struct store_image *img)
{
	return img->info->bytes;
}

int store_state(struct store_snap *snap, void **buf, size_t *len)
{
	uint64_t bytes, want = snap->m.info.state_bytes;
	const char *name = snap->m.info.name;
	int fd, err;

	*buf = NULL;
	*len = 0;
	fd = sio_open_read(snap->fd, STATE_NAME, &bytes);
	if (fd < 0)
		return store_fail(fd, "%s: %s", name, store_error());
	if (bytes != want) {
		close(fd);
		return store_fail(EBADMSG, "%s: the VM state is damaged: it has "
				  "%llu bytes, should have %llu", name,
				  (unsigned long long)bytes,
				  (unsigned long long)want);
	}
	*buf = malloc(bytes + 1);
	err = *buf ? sio_read(fd, *buf, bytes, 0, STATE_NAME) :
		     store_fail(ENOMEM, "out of memory");
	close(fd);
	if (!err && !fmt_hash_is(&snap->m.state_hash, *buf, bytes))
		err = store_fail(EBADMSG, "%s: the VM state is damaged: wrong "
				 "checksum", name);
	if (err) {
		free(*buf);
		*buf = NULL;
		return err;
	}
	*len = bytes;
	return 0;
}
