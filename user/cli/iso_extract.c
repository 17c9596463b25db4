// SPDX-License-Identifier: GPL-2.0-only
/*
 * vmplat iso extract: a tree of a disc image as files.
 *
 * One walk makes directories and links at once and collects files; when enough are
 * collected, they are written in the order of their places on the disc, so that it is
 * read forwards with few large reads. A second walk gives directories their modes and
 * times, from the leaves up, when nothing below them changes any more.
 *
 * Nothing is ever written outside of the target: every directory is opened relative to
 * the target's descriptor without following links, files are made with O_EXCL and
 * O_NOFOLLOW, and names from the disc are single components. A disc whose link "a"
 * leads to /etc and which then has a file "a/passwd" gets an error for the latter.
 *
 * Memory: one batch (BATCH_BYTES), one window of the disc (WINDOW_BYTES).
 */
#include <errno.h>
#include <fcntl.h>
#include <inttypes.h>
#include <limits.h>
#include <linux/openat2.h>
#include <stdarg.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <sys/sysmacros.h>
#include <unistd.h>

#include <json-c/json.h>
#include <vmplat.h>

#include "iso.h"
#include "lib/pread.h"
#include "lib/write_all.h"

#define BATCH_BYTES	(6u << 20)
#define BATCH_ITEMS	20000
#define WINDOW_BYTES	(1u << 20)
#define SMALL_BYTES	(256u << 10)	/* such files are taken out of the window */
#define NR_DIR_FDS	64

static const char help[] =
"usage: vmplat iso extract [-f] [--owner] [--tree TREE] [--json] -C DIR IMAGE [PATH...]\n"
"\n"
"Write the files of a disc image below DIR, which must exist, with their modes, times,\n"
"symbolic and hard links. What the image holds as zeroes in holes becomes holes again.\n"
"Nothing is written outside of DIR, whatever the disc says. Files that exist are left\n"
"alone and are an error. Trees without modes (Joliet, plain ISO) get those of new files.\n"
"\n"
"  -C, --directory DIR   where to\n"
"  -f, --overwrite       replace files that exist\n"
"  --owner               restore owner and group, set-user-ID bits and devices (root)\n"
"  --tree TREE           rr, joliet, iso, udf, 1999, efi or auto\n"
"  --json                counts as an object\n";

/* A file that waits to be written. */
struct item {
	uint64_t place[4];
	struct vmplat_iso_stat st;
	uint32_t dir, name;	/* offsets in the batch's text */
};

struct dir_fd {
	char *path;		/* relative to the target, "" for itself */
	int fd;
	uint32_t used;
};

struct extract {
	struct iso_args a;
	int target;
	mode_t umask;
	struct item *items;
	uint32_t nr_items;
	char *text;
	uint32_t text_len, last_dir;
	bool has_dir;
	struct dir_fd dirs[NR_DIR_FDS];
	uint32_t clock;
	uint8_t *window;
	uint64_t window_off, window_len;
	struct cli_progress progress;
	uint64_t nr_files, nr_dirs, nr_links, nr_hard_links, nr_devices, nr_failed;
	bool give_up;		/* the target is full or broken */
};

__attribute__((format(printf, 3, 4)))
static void failed(struct extract *x, const char *path, const char *fmt, ...)
{
	char why[400];
	va_list ap;

	va_start(ap, fmt);
	vsnprintf(why, sizeof(why), fmt, ap);
	va_end(ap);
	x->nr_failed++;
	cli_fail("%s: %s", path, why);
}

/* ---- directories of the target ----------------------------------------- */

/* One component after the other, for kernels without openat2() and for long paths. */
static int open_dir_slowly(int at, const char *path)
{
	char name[NAME_MAX + 1];
	int fd = dup(at), next;

	while (fd >= 0) {
		size_t len;

		path += strspn(path, "/");
		len = strcspn(path, "/");
		if (!len)
			return fd;
		if (len > NAME_MAX) {
			close(fd);
			errno = ENAMETOOLONG;
			return -1;
		}
		memcpy(name, path, len);
		name[len] = '\0';
		next = openat(fd, name, O_RDONLY | O_DIRECTORY | O_NOFOLLOW | O_CLOEXEC);
		close(fd);
		fd = next;
		path += len;
	}
	return -1;
}

static int open_dir(int at, const char *path)
{
	struct open_how how = {
		.flags = O_RDONLY | O_DIRECTORY | O_NOFOLLOW | O_CLOEXEC,
		.resolve = RESOLVE_BENEATH | RESOLVE_NO_SYMLINKS | RESOLVE_NO_MAGICLINKS,
	};
	int fd;

	path += strspn(path, "/");
	if (!*path)
		return dup(at);
	fd = syscall(SYS_openat2, at, path, &how, sizeof(how));
	if (fd < 0 && (errno == ENOSYS || errno == EPERM || errno == ENAMETOOLONG))
		fd = open_dir_slowly(at, path);
	return fd;
}

/* A descriptor of the target's directory @path; stays the cache's. -1 and errno */
static int dir_fd(struct extract *x, const char *path)
{
	struct dir_fd *oldest = x->dirs;

	for (struct dir_fd *d = x->dirs; d < x->dirs + NR_DIR_FDS; d++) {
		if (d->path && !strcmp(d->path, path)) {
			d->used = ++x->clock;
			return d->fd;
		}
		if (!d->path || (oldest->path && (int32_t)(d->used - oldest->used) < 0))
			oldest = d;
		if (!d->path)
			break;
	}
	if (oldest->path) {
		close(oldest->fd);
		free(oldest->path);
		oldest->path = NULL;
	}
	oldest->fd = open_dir(x->target, path);
	if (oldest->fd < 0)
		return -1;
	oldest->path = strdup(path);
	if (!oldest->path)
		abort();
	oldest->used = ++x->clock;
	return oldest->fd;
}

static void close_dirs(struct extract *x)
{
	for (struct dir_fd *d = x->dirs; d < x->dirs + NR_DIR_FDS; d++) {
		if (d->path)
			close(d->fd);
		free(d->path);
		d->path = NULL;
	}
}

/* ---- attributes -------------------------------------------------------- */

static void times_of(const struct vmplat_iso_stat *st, struct timespec ts[2])
{
	ts[1] = st->mtime;
	if (!(st->times & VMPLAT_ISO_MTIME))
		ts[1].tv_nsec = UTIME_OMIT;
	ts[0] = st->times & VMPLAT_ISO_ATIME ? st->atime : ts[1];
}

static mode_t mode_of(const struct extract *x, const struct vmplat_iso_stat *st)
{
	if (!(st->flags & VMPLAT_ISO_POSIX))
		return (S_ISDIR(st->mode) ? 0777 : 0666) & ~x->umask;
	/* set-ID bits only with the owner they were meant for */
	return st->mode & (x->a.owner ? 07777 : 01777);
}

/* Owner first: it takes set-ID bits away. */
static int set_attributes(struct extract *x, int fd, const struct vmplat_iso_stat *st,
			  bool mode_is_set)
{
	struct timespec ts[2];

	if (x->a.owner && (st->flags & VMPLAT_ISO_POSIX)) {
		if (fchown(fd, st->uid, st->gid))
			return -errno;
		mode_is_set = false;
	}
	if (!mode_is_set && fchmod(fd, mode_of(x, st)))
		return -errno;
	times_of(st, ts);
	return futimens(fd, ts) ? -errno : 0;
}

/* ---- contents ---------------------------------------------------------- */

/* Whether the file's bytes are one run of the image's, known without asking again. */
static bool is_run(const struct vmplat_iso_stat *st)
{
	return st->bytes && st->nr_sections == 1 && st->stored_bytes == st->bytes &&
	       !(st->flags & (VMPLAT_ISO_ZISOFS | VMPLAT_ISO_SPARSE | VMPLAT_ISO_INTERLEAVED |
			      VMPLAT_ISO_BROKEN));
}

static int fill_window(struct extract *x, uint64_t pos)
{
	ssize_t n = pread_some(vmplat_iso_fd(x->a.iso), x->window, WINDOW_BYTES, pos);

	x->window_off = pos;
	x->window_len = n < 0 ? 0 : n;
	return n < 0 ? n : 0;
}

static int write_small(struct extract *x, const struct vmplat_iso_stat *st, int fd)
{
	int rc;

	if (st->pos < x->window_off || st->pos + st->bytes > x->window_off + x->window_len) {
		rc = fill_window(x, st->pos);
		if (rc)
			return rc;
		if (st->bytes > x->window_len)
			return -ENODATA;
	}
	return write_all(fd, x->window + (st->pos - x->window_off), st->bytes);
}

/* A run that may have holes in the image file: they become holes. */
static int write_run(struct extract *x, uint64_t pos, uint64_t bytes, int fd, uint64_t at)
{
	int in = vmplat_iso_fd(x->a.iso), rc = 0;
	uint64_t end = pos + bytes;

	while (pos < end && !rc) {
		off_t data = lseek(in, pos, SEEK_DATA), hole;

		if (data < 0 && errno == ENXIO)
			data = end;
		if (data < 0)
			data = pos;
		if ((uint64_t)data > end)
			data = end;
		at += data - pos;
		pos = data;
		if (pos == end)
			break;
		hole = lseek(in, pos, SEEK_HOLE);
		if (hole < 0 || (uint64_t)hole > end)
			hole = end;
		if (lseek(fd, at, SEEK_SET) < 0)
			return -errno;
		rc = iso_copy_run(in, pos, hole - pos, fd, NULL);
		at += hole - pos;
		pos = hole;
	}
	return rc;
}

static bool all_zero(const uint8_t *p, size_t len)
{
	return !len || (!*p && !memcmp(p, p + 1, len - 1));
}

/* Through memory, for compressed files; blocks of zeroes become holes. */
static int write_read(struct extract *x, struct vmplat_iso_file *f, int fd)
{
	uint64_t off = 0, bytes = vmplat_iso_file_bytes(f);
	int rc = 0;

	x->window_len = 0;
	while (off < bytes && !rc) {
		ssize_t n = vmplat_iso_file_read(f, x->window, WINDOW_BYTES, off);

		if (n < 0)
			return n;
		for (ssize_t at = 0; at < n && !rc; at += 65536) {
			size_t len = n - at < 65536 ? n - at : 65536;

			if (all_zero(x->window + at, len))
				continue;
			if (lseek(fd, off + at, SEEK_SET) < 0)
				return -errno;
			rc = write_all(fd, x->window + at, len);
		}
		off += n;
	}
	return rc;
}

static int write_file(struct extract *x, const struct item *it, int fd)
{
	struct vmplat_iso_entry e = { .name = "", .link = "", .st = it->st };
	struct vmplat_iso_file *f;
	struct vmplat_iso_extent run;
	uint64_t off = 0;
	int rc;

	memcpy(e.place, it->place, sizeof(e.place));
	rc = vmplat_iso_file_open(&f, x->a.iso, &e);
	if (rc)
		return rc;
	while (!rc && (rc = vmplat_iso_file_extent(f, off, &run)) == 1) {
		rc = run.hole ? 0 : write_run(x, run.pos, run.bytes, fd, off);
		off += run.bytes;
	}
	if (rc == -EOPNOTSUPP)
		rc = write_read(x, f, fd);
	if (!rc && ftruncate(fd, vmplat_iso_file_bytes(f)))
		rc = -errno;
	vmplat_iso_file_close(f);
	return rc;
}

/* ---- one file ---------------------------------------------------------- */

static const char *text_at(const struct extract *x, uint32_t at)
{
	return x->text + at;
}

static bool library_error(int rc)
{
	return rc == -EBADMSG || rc == -EOPNOTSUPP || rc == -ENODATA;
}

static void item_failed(struct extract *x, const struct item *it, int rc)
{
	char path[VMPLAT_ISO_PATH_MAX];

	snprintf(path, sizeof(path), "%s/%s", text_at(x, it->dir), text_at(x, it->name));
	failed(x, path, "%s", library_error(rc) ? vmplat_last_error() : strerror(-rc));
	x->give_up |= rc == -ENOSPC || rc == -EDQUOT || rc == -EROFS;
}

static int create(struct extract *x, int dir, const char *name, mode_t mode)
{
	int flags = O_WRONLY | O_CREAT | O_EXCL | O_NOFOLLOW | O_CLOEXEC;
	int fd = openat(dir, name, flags, mode);

	if (fd >= 0 || errno != EEXIST || !x->a.overwrite)
		return fd;
	if (unlinkat(dir, name, 0))
		return -1;
	return openat(dir, name, flags, mode);
}

static int extract_file(struct extract *x, const struct item *it)
{
	const char *name = text_at(x, it->name);
	int dir = dir_fd(x, text_at(x, it->dir)), fd, rc;

	if (dir < 0)
		return -errno;
	fd = create(x, dir, name, mode_of(x, &it->st) & 0777);
	if (fd < 0)
		return -errno;
	if (!it->st.bytes && !(it->st.flags & VMPLAT_ISO_BROKEN))
		rc = 0;
	else if (is_run(&it->st) && it->st.bytes <= SMALL_BYTES)
		rc = write_small(x, &it->st, fd);
	else
		rc = write_file(x, it, fd);
	if (!rc)
		rc = set_attributes(x, fd, &it->st, !(mode_of(x, &it->st) & 07000));
	if (close(fd) && !rc)
		rc = -errno;
	/* what is not whole is not there */
	if (rc)
		unlinkat(dir, name, 0);
	return rc;
}

/* Two names of one file, as far as the disc can tell. */
static bool same_file(const struct item *a, const struct item *b)
{
	if (a->st.nlink < 2 || a->st.nlink != b->st.nlink || a->st.pos != b->st.pos ||
	    a->st.bytes != b->st.bytes || a->st.mode != b->st.mode)
		return false;
	if ((a->st.flags & b->st.flags & VMPLAT_ISO_INO) && (a->st.ino || b->st.ino))
		return a->st.ino == b->st.ino;
	return a->st.bytes && a->st.mtime.tv_sec == b->st.mtime.tv_sec;
}

static int hard_link(struct extract *x, const struct item *old, const struct item *it)
{
	int from, to;

	to = dir_fd(x, text_at(x, it->dir));
	/* asked for last, so that neither has been replaced by the other */
	from = to < 0 ? -1 : dir_fd(x, text_at(x, old->dir));
	if (from < 0)
		return -errno;
	if (x->a.overwrite)
		unlinkat(to, text_at(x, it->name), 0);
	return linkat(from, text_at(x, old->name), to, text_at(x, it->name), 0) ? -errno : 0;
}

/* ---- batches ----------------------------------------------------------- */

static int by_place(const void *pa, const void *pb)
{
	const struct item *a = pa, *b = pb;

	if (a->st.pos != b->st.pos)
		return a->st.pos < b->st.pos ? -1 : 1;
	if (a->st.ino != b->st.ino)
		return a->st.ino < b->st.ino ? -1 : 1;
	return a->name < b->name ? -1 : a->name > b->name;
}

static void flush_batch(struct extract *x)
{
	const struct item *done = NULL;

	qsort(x->items, x->nr_items, sizeof(*x->items), by_place);
	for (uint32_t i = 0; i < x->nr_items && !x->give_up; i++) {
		const struct item *it = &x->items[i];
		bool again = done && same_file(done, it);
		int rc = again ? hard_link(x, done, it) : extract_file(x, it);

		if (rc) {
			item_failed(x, it, rc);
			continue;
		}
		x->nr_files += !again;
		x->nr_hard_links += again;
		if (!again)
			done = it;
		cli_progress_set(&x->progress, x->progress.done + (again ? 0 : it->st.bytes));
	}
	x->nr_items = 0;
	x->text_len = 0;
	x->has_dir = false;
}

static uint32_t keep_text(struct extract *x, const char *s, size_t len)
{
	uint32_t at = x->text_len;

	memcpy(x->text + at, s, len);
	x->text[at + len] = '\0';
	x->text_len += len + 1;
	return at;
}

static void add_item(struct extract *x, const char *dir, size_t dir_len, const char *name,
		     const struct vmplat_iso_entry *e)
{
	size_t text_room = BATCH_BYTES - BATCH_ITEMS * sizeof(struct item);
	struct item *it;

	if (x->nr_items == BATCH_ITEMS || x->text_len + dir_len + strlen(name) + 2 > text_room)
		flush_batch(x);
	if (!x->has_dir || strncmp(text_at(x, x->last_dir), dir, dir_len) ||
	    text_at(x, x->last_dir)[dir_len])
		x->last_dir = keep_text(x, dir, dir_len);
	x->has_dir = true;
	it = &x->items[x->nr_items++];
	it->st = e->st;
	memcpy(it->place, e->place, sizeof(it->place));
	it->dir = x->last_dir;
	it->name = keep_text(x, name, strlen(name));
}

/* ---- what is not a file ------------------------------------------------ */

static int make_dir(int dir, const char *name)
{
	struct stat st;
	int err;

	/* closed to others, open for us, until its own mode is set */
	if (!mkdirat(dir, name, 0700))
		return 0;
	err = -errno;
	if (err == -EEXIST && !fstatat(dir, name, &st, AT_SYMLINK_NOFOLLOW) && S_ISDIR(st.st_mode))
		return 0;
	return err;
}

static int make_link(struct extract *x, int dir, const char *name,
		     const struct vmplat_iso_entry *e)
{
	struct timespec ts[2];

	if (x->a.overwrite)
		unlinkat(dir, name, 0);
	if (symlinkat(e->link, dir, name))
		return -errno;
	if (x->a.owner && (e->st.flags & VMPLAT_ISO_POSIX) &&
	    fchownat(dir, name, e->st.uid, e->st.gid, AT_SYMLINK_NOFOLLOW))
		return -errno;
	times_of(&e->st, ts);
	return utimensat(dir, name, ts, AT_SYMLINK_NOFOLLOW) ? -errno : 0;
}

static int make_node(struct extract *x, int dir, const char *name,
		     const struct vmplat_iso_stat *st)
{
	struct timespec ts[2];

	if ((S_ISBLK(st->mode) || S_ISCHR(st->mode)) && !x->a.owner)
		return -EPERM;
	if (x->a.overwrite)
		unlinkat(dir, name, 0);
	if (mknodat(dir, name, (st->mode & S_IFMT) | mode_of(x, st),
		    makedev(st->rdev_major, st->rdev_minor)))
		return -errno;
	if (x->a.owner && fchownat(dir, name, st->uid, st->gid, AT_SYMLINK_NOFOLLOW))
		return -errno;
	times_of(st, ts);
	return utimensat(dir, name, ts, AT_SYMLINK_NOFOLLOW) ? -errno : 0;
}

/* @path of the entry, whose last component is its name; false: do not descend */
static bool extract_entry(struct extract *x, const char *path, const struct vmplat_iso_entry *e)
{
	const char *name = strrchr(path, '/');
	char parent[VMPLAT_ISO_PATH_MAX + 1];
	size_t dir_len;
	int dir, rc;

	name = name ? name + 1 : path;
	dir_len = name > path ? name - path - 1 : 0;
	if (e->st.flags & VMPLAT_ISO_BAD_NAME) {
		/* the disc's listener has told */
		x->nr_failed++;
		return false;
	}
	if (S_ISREG(e->st.mode)) {
		add_item(x, path, dir_len, name, e);
		return true;
	}
	memcpy(parent, path, dir_len);
	parent[dir_len] = '\0';
	dir = dir_fd(x, parent);
	if (dir < 0)
		rc = -errno;
	else if (S_ISDIR(e->st.mode))
		rc = make_dir(dir, name);
	else if (S_ISLNK(e->st.mode))
		rc = e->st.flags & VMPLAT_ISO_BROKEN ? -EBADMSG : make_link(x, dir, name, e);
	else
		rc = make_node(x, dir, name, &e->st);
	x->nr_dirs += !rc && S_ISDIR(e->st.mode);
	x->nr_links += !rc && S_ISLNK(e->st.mode);
	x->nr_devices += !rc && !S_ISDIR(e->st.mode) && !S_ISLNK(e->st.mode);
	if (rc == -EPERM && (S_ISBLK(e->st.mode) || S_ISCHR(e->st.mode)))
		failed(x, path, "a device; it is made with --owner, by root");
	else if (rc)
		failed(x, path, "%s", library_error(rc) ? vmplat_last_error() : strerror(-rc));
	return !rc;
}

/* ---- walks ------------------------------------------------------------- */

static int walk_files(struct extract *x, const char *path, const struct vmplat_iso_entry *top)
{
	struct vmplat_iso_walk *w;
	struct vmplat_iso_entry e;
	int rc;

	if (vmplat_iso_walk_open(&w, x->a.iso, top, path, 0))
		return cli_fail("%s: %s: %s", x->a.image, path, vmplat_last_error());
	while ((rc = vmplat_iso_walk_next(w, &e)) && !x->give_up) {
		if (rc < 0) {
			if (!iso_walk_goes_on(&x->a, rc, vmplat_iso_walk_path(w)))
				break;
			continue;
		}
		if (!extract_entry(x, vmplat_iso_walk_path(w), &e))
			vmplat_iso_walk_skip(w);
	}
	flush_batch(x);
	vmplat_iso_walk_close(w);
	return rc < 0 ? CLI_FAILED : CLI_OK;
}

/* The directories that the second walk is in, to be finished when it leaves them. */
struct open_dir {
	struct vmplat_iso_stat st;
	uint32_t path_len;	/* 0: the target, which keeps what it has */
};

static void finish_dir(struct extract *x, const struct open_dir *d, const char *path)
{
	char name[VMPLAT_ISO_PATH_MAX + 1];
	int fd, rc;

	if (!d->path_len)
		return;
	memcpy(name, path, d->path_len);
	name[d->path_len] = '\0';
	fd = open_dir(x->target, name);
	rc = fd < 0 ? -errno : set_attributes(x, fd, &d->st, false);
	if (rc)
		failed(x, name, "cannot set its attributes: %s", strerror(-rc));
	if (fd >= 0)
		close(fd);
}

static int walk_dirs(struct extract *x, const char *path, const struct vmplat_iso_entry *top)
{
	struct open_dir *stack = calloc(VMPLAT_ISO_DEPTH_MAX + 1, sizeof(*stack));
	char last[VMPLAT_ISO_PATH_MAX + 1];
	struct vmplat_iso_walk *w;
	struct vmplat_iso_entry e;
	unsigned int depth = 0;
	int rc;

	if (!stack)
		abort();
	/* what is wrong was told by the first walk */
	iso_listen(&x->a, false);
	if (vmplat_iso_walk_open(&w, x->a.iso, top, path, 0)) {
		free(stack);
		iso_listen(&x->a, true);
		return CLI_FAILED;
	}
	stack[depth++] = (struct open_dir) { .st = top->st, .path_len = strlen(path) };
	strcpy(last, path);
	while ((rc = vmplat_iso_walk_next(w, &e))) {
		unsigned int level = vmplat_iso_walk_depth(w) + 1;

		if (rc < 0 && rc != -EBADMSG && rc != -ELOOP && rc != -ENAMETOOLONG && rc != -ENODATA)
			break;
		while (rc == 1 && depth > level)
			finish_dir(x, &stack[--depth], last);
		if (rc != 1 || !S_ISDIR(e.st.mode) || depth > VMPLAT_ISO_DEPTH_MAX)
			continue;
		if (e.st.flags & (VMPLAT_ISO_BAD_NAME | VMPLAT_ISO_BROKEN)) {
			vmplat_iso_walk_skip(w);
			continue;
		}
		strcpy(last, vmplat_iso_walk_path(w));
		stack[depth++] = (struct open_dir) { .st = e.st, .path_len = strlen(last) };
	}
	while (depth)
		finish_dir(x, &stack[--depth], last);
	vmplat_iso_walk_close(w);
	free(stack);
	iso_listen(&x->a, true);
	return CLI_OK;
}

/* For the progress line: what there is to write. A walk costs little beside it. */
static uint64_t total_bytes(struct extract *x, const struct vmplat_iso_entry *top)
{
	struct vmplat_iso_walk *w;
	struct vmplat_iso_entry e;
	uint64_t bytes = 0;
	int rc;

	iso_listen(&x->a, false);
	rc = vmplat_iso_walk_open(&w, x->a.iso, top, "", 0);
	while (!rc && ((rc = vmplat_iso_walk_next(w, &e)) == 1 || rc == -EBADMSG)) {
		if (rc == 1 && S_ISREG(e.st.mode))
			bytes += e.st.bytes;
		rc = 0;
	}
	vmplat_iso_walk_close(w);
	iso_listen(&x->a, true);
	return bytes;
}

/* One directory above a PATH that was asked for; there already is as good. */
static int make_parent(struct extract *x, const char *path, size_t len)
{
	char at[PATH_MAX + 1], *name;
	int dir, rc;

	memcpy(at, path, len);
	at[len] = '\0';
	name = strrchr(at, '/');
	if (name)
		*name++ = '\0';
	dir = open_dir(x->target, name ? at : "");
	if (dir < 0)
		return -errno;
	rc = mkdirat(dir, name ? name : at, 0777 & ~x->umask) && errno != EEXIST ? -errno : 0;
	close(dir);
	return rc;
}

static int make_parents(struct extract *x, const char *path)
{
	int rc = 0;

	for (const char *slash = strchr(path, '/'); slash && !rc; slash = strchr(slash + 1, '/'))
		rc = make_parent(x, path, slash - path);
	return rc ? cli_fail("%s: cannot make the directories above it: %s", path, strerror(-rc)) :
		    CLI_OK;
}

static int extract_path(struct extract *x, char *path)
{
	struct vmplat_iso_entry top;
	int rc;

	path += strspn(path, "/");
	for (size_t len = strlen(path); len && path[len - 1] == '/'; len--)
		path[len - 1] = '\0';
	if (vmplat_iso_lookup(x->a.iso, path, 0, &top))
		return cli_fail("%s: %s: %s", x->a.image, path, vmplat_last_error());
	for (const char *p = path; *p; p += strcspn(p, "/"), p += *p == '/')
		if (!strncmp(p, "..", 2) && (!p[2] || p[2] == '/'))
			return cli_fail("%s: a path to extract cannot have '..' in it", path);
	rc = make_parents(x, path);
	if (rc)
		return rc;
	if (!S_ISDIR(top.st.mode)) {
		extract_entry(x, path, &top);
		flush_batch(x);
		return CLI_OK;
	}
	if (*path && !extract_entry(x, path, &top))
		return CLI_FAILED;
	rc = walk_files(x, path, &top);
	close_dirs(x);
	if (!x->give_up)
		rc |= walk_dirs(x, path, &top);
	return rc;
}

static int summary(const struct extract *x)
{
	const struct { const char *name; uint64_t nr; } counts[] = {
		{ "files", x->nr_files }, { "directories", x->nr_dirs }, { "links", x->nr_links },
		{ "hard_links", x->nr_hard_links }, { "devices", x->nr_devices },
		{ "bytes", x->progress.done }, { "failed", x->nr_failed + x->a.nr_errors },
	};
	struct json_object *o = json_object_new_object();

	for (size_t i = 0; i < sizeof(counts) / sizeof(counts[0]); i++)
		json_object_object_add(o, counts[i].name, json_object_new_uint64(counts[i].nr));
	return cli_json(o);
}

static int extract_all(struct extract *x)
{
	char root[] = "";
	int rc = CLI_OK;

	if (!x->a.nr_paths)
		return extract_path(x, root);
	for (int i = 0; i < x->a.nr_paths && !x->give_up; i++)
		rc |= extract_path(x, x->a.paths[i]);
	return rc;
}

static void start_progress(struct extract *x)
{
	struct vmplat_iso_entry top;

	cli_progress_start(&x->progress, "extracting", 0);
	if (x->progress.live && !x->a.nr_paths && !vmplat_iso_lookup(x->a.iso, "", 0, &top))
		x->progress.total = total_bytes(x, &top);
}

int iso_extract(int argc, char **argv)
{
	struct extract x = { 0 };
	int rc = iso_parse(&x.a, "iso extract", help, "Cfo", argc, argv);

	if (rc)
		return rc < 0 ? CLI_OK : rc;
	if (!x.a.into)
		return cli_usage(x.a.verb, "-C DIR is needed: where to put the files");
	x.target = open(x.a.into, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
	if (x.target < 0)
		return cli_fail("%s: %s", x.a.into, strerror(errno));
	rc = iso_open_image(&x.a);
	if (rc)
		goto close;
	x.umask = umask(0);
	x.items = malloc(BATCH_ITEMS * sizeof(*x.items));
	x.text = malloc(BATCH_BYTES - BATCH_ITEMS * sizeof(*x.items));
	x.window = malloc(WINDOW_BYTES);
	if (!x.items || !x.text || !x.window)
		abort();
	start_progress(&x);
	rc = extract_all(&x);
	if (!x.a.json || x.progress.live)
		cli_progress_end(&x.progress, !rc && !x.nr_failed);
	if (x.a.json)
		rc |= summary(&x);
	if (x.nr_failed)
		rc = CLI_FAILED;
	close_dirs(&x);
	free(x.items);
	free(x.text);
	free(x.window);
	umask(x.umask);
	rc = iso_done(&x.a, rc);
close:
	close(x.target);
	return rc;
}
