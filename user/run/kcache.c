// SPDX-License-Identifier: GPL-2.0-only
/* See kcache.h. A file is the unpacked bytes and a trailer. */
#include "kcache.h"
#include "lib/write_all.h"

#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <nettle/sha2.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>
#include <xxhash.h>

#define MAGIC	"vmpkern1"

struct trailer {
	char magic[8];
	uint64_t bytes;
	uint8_t sum[16];	/* XXH3, canonical */
};

void kcache_key(struct kcache_key *key, const void *packed, size_t len)
{
	uint8_t digest[SHA256_DIGEST_SIZE];
	struct sha256_ctx sha;

	sha256_init(&sha);
	sha256_update(&sha, len, packed);
	sha256_digest(&sha, sizeof(digest), digest);
	for (size_t i = 0; i < sizeof(digest); i++)
		snprintf(key->name + 2 * i, 3, "%02x", digest[i]);
}

static void make_trailer(struct trailer *t, const void *buf, size_t bytes)
{
	XXH128_canonical_t sum;

	memset(t, 0, sizeof(*t));
	memcpy(t->magic, MAGIC, sizeof(t->magic));
	t->bytes = bytes;
	XXH128_canonicalFromHash(&sum, XXH3_128bits(buf, bytes));
	memcpy(t->sum, sum.digest, sizeof(t->sum));
}

/* ---- whose it is -------------------------------------------------------------- */

/* nobody but this user (and root) may have put it there or may change it */
static bool is_ours(int fd, mode_t type, struct stat *st)
{
	return !fstat(fd, st) && (st->st_mode & S_IFMT) == type && st->st_uid == geteuid() &&
	       !(st->st_mode & (S_IWGRP | S_IWOTH));
}

static int our_dir(int fd)
{
	struct stat st;

	if (fd >= 0 && is_ours(fd, S_IFDIR, &st))
		return fd;
	if (fd >= 0)
		close(fd);
	return -1;
}

static int open_base(bool make)
{
	const char *xdg = getenv("XDG_CACHE_HOME"), *home = getenv("HOME");
	char path[4096];

	if (xdg && *xdg == '/')
		snprintf(path, sizeof(path), "%s", xdg);
	else if (home && *home == '/')
		snprintf(path, sizeof(path), "%s/.cache", home);
	else
		return -1;
	if (make)
		mkdir(path, 0700);
	return our_dir(open(path, O_RDONLY | O_DIRECTORY | O_CLOEXEC));
}

static int open_below(int parent, const char *name, bool make)
{
	int fd;

	if (parent < 0)
		return -1;
	if (make)
		mkdirat(parent, name, 0700);
	fd = our_dir(openat(parent, name, O_RDONLY | O_DIRECTORY | O_NOFOLLOW | O_CLOEXEC));
	close(parent);
	return fd;
}

static int open_cache(bool make)
{
	return open_below(open_below(open_base(make), "vmplat", make), "unpacked", make);
}

/* ---- reading ------------------------------------------------------------------ */

static bool read_all(int fd, void *buf, size_t n)
{
	uint8_t *p = buf;

	while (n) {
		ssize_t got = read(fd, p, n);

		if (got <= 0 && !(got < 0 && errno == EINTR))
			return false;
		if (got > 0) {
			p += got;
			n -= (size_t)got;
		}
	}
	return true;
}

static bool read_checked(int fd, void *buf, size_t bytes)
{
	struct trailer is, should;
	struct stat st;

	if (!is_ours(fd, S_IFREG, &st) || st.st_size != (off_t)(bytes + sizeof(is)) ||
	    !read_all(fd, buf, bytes) || !read_all(fd, &is, sizeof(is)))
		return false;
	make_trailer(&should, buf, bytes);
	return !memcmp(&is, &should, sizeof(is));
}

int kcache_get(const struct kcache_key *key, void *buf, size_t bytes)
{
	int dir = open_cache(false), fd, ret = -ENOENT;

	if (dir < 0)
		return ret;
	fd = openat(dir, key->name, O_RDONLY | O_NOFOLLOW | O_NONBLOCK | O_CLOEXEC);
	if (fd >= 0) {
		if (read_checked(fd, buf, bytes)) {
			futimens(fd, NULL);	/* the least used go first */
			ret = 0;
		} else {
			unlinkat(dir, key->name, 0);
		}
		close(fd);
	}
	close(dir);
	return ret;
}

/* ---- writing ------------------------------------------------------------------ */

static bool is_key(const char *name)
{
	return strlen(name) == 64 && strspn(name, "0123456789abcdef") == 64;
}

/* the least recently used file, and what all of them take */
static uint64_t survey(DIR *d, char oldest[65])
{
	struct timespec when = { 0 };
	uint64_t sum = 0;
	struct dirent *e;

	*oldest = 0;
	rewinddir(d);
	while ((e = readdir(d))) {
		struct stat st;

		if (!is_key(e->d_name) || fstatat(dirfd(d), e->d_name, &st, AT_SYMLINK_NOFOLLOW))
			continue;
		sum += (uint64_t)st.st_size;
		if (*oldest && (st.st_mtim.tv_sec > when.tv_sec ||
				(st.st_mtim.tv_sec == when.tv_sec && st.st_mtim.tv_nsec >= when.tv_nsec)))
			continue;
		when = st.st_mtim;
		memcpy(oldest, e->d_name, 65);
	}
	return sum;
}

/* false: there is not room enough whatever goes */
static bool make_room(int dir, uint64_t bytes)
{
	int fd = openat(dir, ".", O_RDONLY | O_DIRECTORY | O_CLOEXEC);
	DIR *d = fd < 0 ? NULL : fdopendir(fd);
	char oldest[65];
	uint64_t sum = 0;

	if (!d) {
		if (fd >= 0)
			close(fd);
		return false;
	}
	while ((sum = survey(d, oldest)) + bytes > KCACHE_BYTES_MAX && *oldest)
		if (unlinkat(dir, oldest, 0))
			break;
	closedir(d);
	return sum + bytes <= KCACHE_BYTES_MAX;
}

/* It has no name until it is complete: nobody sees half of it, a crash leaves nothing. */
static void write_file(int dir, const char *name, const void *buf, size_t bytes)
{
	int fd = openat(dir, ".", O_TMPFILE | O_WRONLY | O_CLOEXEC, 0600);
	struct trailer t;
	char link[40];

	if (fd < 0)
		return;
	make_trailer(&t, buf, bytes);
	snprintf(link, sizeof(link), "/proc/self/fd/%d", fd);
	if (!posix_fallocate(fd, 0, (off_t)(bytes + sizeof(t))) && !write_all(fd, buf, bytes) &&
	    !write_all(fd, &t, sizeof(t)))
		linkat(AT_FDCWD, link, dir, name, AT_SYMLINK_FOLLOW);
	close(fd);
}

void kcache_put(const struct kcache_key *key, const void *buf, size_t bytes)
{
	int dir = open_cache(true);

	if (dir < 0)
		return;
	if (make_room(dir, bytes + sizeof(struct trailer)))
		write_file(dir, key->name, buf, bytes);
	close(dir);
}
