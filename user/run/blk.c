// SPDX-License-Identifier: LGPL-2.1-or-later
/*
 * The image: opening, locking, guest I/O, and the dirty bitmap.
 *
 * Locking uses open file description locks: they belong to our descriptor, not
 * to the process, so closing an unrelated descriptor of the same file does not
 * drop them.  A writer excludes everyone, readers share.
 */
#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <linux/falloc.h>
#include <linux/fs.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/ioctl.h>
#include <sys/stat.h>
#include <unistd.h>

#include "blk_internal.h"

#define SIDE_RAM_BYTES_DEFAULT	(UINT64_C(64) << 20)
#define SIDE_FILE_BYTES_DEFAULT	(UINT64_C(4) << 30)

static void __attribute__((format(printf, 3, 4)))
say(char *err, size_t size, const char *fmt, ...)
{
	va_list ap;

	if (!err || !size)
		return;
	va_start(ap, fmt);
	vsnprintf(err, size, fmt, ap);
	va_end(ap);
}

/* Does /proc/@pid/fd hold another descriptor of the file @st? */
static bool process_has_open(const char *pid, const struct stat *st, int own_fd)
{
	char dir[64], link[PATH_MAX];
	bool self = atoi(pid) == getpid(), found = false;
	struct dirent *de;
	struct stat s;
	DIR *d;

	snprintf(dir, sizeof(dir), "/proc/%.20s/fd", pid);
	d = opendir(dir);
	if (!d)
		return false;
	while (!found && (de = readdir(d))) {
		if (de->d_name[0] == '.' || (self && atoi(de->d_name) == own_fd))
			continue;
		snprintf(link, sizeof(link), "%s/%s", dir, de->d_name);
		found = !stat(link, &s) && s.st_dev == st->st_dev &&
			s.st_ino == st->st_ino;
	}
	closedir(d);
	return found;
}

/*
 * OFD locks name no owner (F_OFD_GETLK answers pid -1), so look for who has the
 * file open.  Best effort: other users' processes are not readable.
 */
static void describe_holder(int fd, char *buf, size_t size)
{
	char path[64], comm[32] = "?";
	struct dirent *de;
	struct stat st;
	FILE *f;
	DIR *d;

	snprintf(buf, size, "another process");
	if (fstat(fd, &st))
		return;
	d = opendir("/proc");
	if (!d)
		return;
	while ((de = readdir(d))) {
		if (de->d_name[0] < '0' || de->d_name[0] > '9' ||
		    !process_has_open(de->d_name, &st, fd))
			continue;
		snprintf(path, sizeof(path), "/proc/%.20s/comm", de->d_name);
		f = fopen(path, "re");
		if (f) {
			if (fgets(comm, sizeof(comm), f))
				comm[strcspn(comm, "\n")] = '\0';
			fclose(f);
		}
		snprintf(buf, size, "process %.20s (%s)", de->d_name, comm);
		break;
	}
	closedir(d);
}

static int lock_image(const struct blk *blk, char *err, size_t err_size)
{
	struct flock fl = {
		.l_type = blk->readonly ? F_RDLCK : F_WRLCK,
		.l_whence = SEEK_SET,
	};
	char holder[96];
	int ret;

	if (!fcntl(blk->fd, F_OFD_SETLK, &fl))
		return 0;
	ret = -errno;
	if (ret != -EAGAIN && ret != -EACCES) {
		say(err, err_size, "%s: cannot lock: %s", blk->path, strerror(-ret));
		return ret;
	}
	describe_holder(blk->fd, holder, sizeof(holder));
	say(err, err_size, "%s: in use by %s; stop it or open the image read-only in both",
	    blk->path, holder);
	return -EBUSY;
}

static int image_size(struct blk *blk, char *err, size_t err_size)
{
	struct stat st;

	if (fstat(blk->fd, &st))
		return -errno;
	blk->io_block_bytes = 4096;
	if (S_ISREG(st.st_mode)) {
		blk->size_bytes = st.st_size;
	} else if (S_ISBLK(st.st_mode)) {
		if (ioctl(blk->fd, BLKGETSIZE64, &blk->size_bytes))
			return -errno;
	} else {
		say(err, err_size, "%s: neither a regular file nor a block device",
		    blk->path);
		return -EINVAL;
	}
	if (!blk->size_bytes || blk->size_bytes % BLK_SECTOR_BYTES) {
		say(err, err_size, "%s: its size, %llu bytes, is not a positive multiple of %u",
		    blk->path, (unsigned long long)blk->size_bytes, BLK_SECTOR_BYTES);
		return -EINVAL;
	}
	blk->nr_clusters = (blk->size_bytes - 1) / BLK_CLUSTER_BYTES + 1;
	return 0;
}

int blk_open(const char *path, unsigned int flags, struct blk **out,
	     char *err, size_t err_size)
{
	struct blk *blk;
	int ret;

	*out = NULL;
	if (err && err_size)
		err[0] = '\0';
	if (flags & ~(BLK_OPEN_READONLY | BLK_OPEN_NOLOCK))
		return -EOPNOTSUPP;
	blk = calloc(1, sizeof(*blk));
	if (!blk)
		return -ENOMEM;
	pthread_mutex_init(&blk->lock, NULL);
	pthread_cond_init(&blk->cond, NULL);
	atomic_init(&blk->holders, 1);
	blk->readonly = flags & BLK_OPEN_READONLY;
	blk->side_ram_bytes = SIDE_RAM_BYTES_DEFAULT;
	blk->side_file_bytes = SIDE_FILE_BYTES_DEFAULT;
	blk->fd = open(path, (blk->readonly ? O_RDONLY : O_RDWR) | O_CLOEXEC);
	if (blk->fd < 0) {
		ret = -errno;
		say(err, err_size, "%s: %s", path, strerror(-ret));
		goto fail;
	}
	ret = -ENOMEM;
	blk->path = strdup(path);
	if (!blk->path)
		goto fail;
	ret = image_size(blk, err, err_size);
	if (ret)
		goto fail;
	if (!(flags & BLK_OPEN_NOLOCK)) {
		ret = lock_image(blk, err, err_size);
		if (ret)
			goto fail;
	}
	ret = -ENOMEM;
	blk->dirty = calloc(blk_map_words(blk->nr_clusters), sizeof(uint64_t));
	if (!blk->dirty)
		goto fail;
	*out = blk;
	return 0;
fail:
	blk_close(blk);
	if (err && err_size && !err[0])
		say(err, err_size, "%s: %s", path, strerror(-ret));
	return ret;
}

struct blk *blk_get(struct blk *blk)
{
	atomic_fetch_add(&blk->holders, 1);
	return blk;
}

void blk_close(struct blk *blk)
{
	if (!blk || atomic_fetch_sub(&blk->holders, 1) > 1)
		return;
	if (blk->view)
		blk_view_abort(blk->view);
	if (blk->fd >= 0)
		close(blk->fd);
	pthread_cond_destroy(&blk->cond);
	pthread_mutex_destroy(&blk->lock);
	free(blk->dirty);
	free(blk->side_dir);
	free(blk->path);
	free(blk);
}

const char *blk_path(const struct blk *blk)
{
	return blk->path;
}

uint64_t blk_size_bytes(const struct blk *blk)
{
	return blk->size_bytes;
}

bool blk_readonly(const struct blk *blk)
{
	return blk->readonly;
}

uint32_t blk_io_block_bytes(const struct blk *blk)
{
	return blk->io_block_bytes;
}

uint64_t blk_map_count(const uint64_t *map, uint64_t nr)
{
	uint64_t n = 0;

	for (uint64_t w = 0; w < blk_map_words(nr); w++)
		n += __builtin_popcountll(map[w]);
	return n;
}

/* Bytes that clusters in @map cover; the last cluster may be short. */
uint64_t blk_dirty_bytes(struct blk *blk)
{
	uint64_t bytes;

	pthread_mutex_lock(&blk->lock);
	bytes = blk_map_count(blk->dirty, blk->nr_clusters) * BLK_CLUSTER_BYTES;
	if (blk_map_test(blk->dirty, blk->nr_clusters - 1))
		bytes -= blk->nr_clusters * BLK_CLUSTER_BYTES - blk->size_bytes;
	pthread_mutex_unlock(&blk->lock);
	return bytes;
}

bool blk_has_base(struct blk *blk)
{
	bool ret;

	pthread_mutex_lock(&blk->lock);
	ret = blk->has_base;
	pthread_mutex_unlock(&blk->lock);
	return ret;
}

int blk_assume_base(struct blk *blk)
{
	int ret = 0;

	pthread_mutex_lock(&blk->lock);
	if (blk->view) {
		ret = -EBUSY;
	} else {
		blk->has_base = true;
		memset(blk->dirty, 0, blk_map_words(blk->nr_clusters) * sizeof(uint64_t));
	}
	pthread_mutex_unlock(&blk->lock);
	return ret;
}

int blk_side_limits(struct blk *blk, uint64_t ram_bytes, uint64_t file_bytes,
		    const char *dir)
{
	char *copy = NULL;

	if (dir) {
		copy = strdup(dir);
		if (!copy)
			return -ENOMEM;
	}
	pthread_mutex_lock(&blk->lock);
	blk->side_ram_bytes = ram_bytes;
	blk->side_file_bytes = file_bytes;
	free(blk->side_dir);
	blk->side_dir = copy;
	pthread_mutex_unlock(&blk->lock);
	return 0;
}

int blk_pread_full(int fd, void *buf, uint64_t len, uint64_t off)
{
	while (len) {
		ssize_t n = pread(fd, buf, len, off);

		if (n < 0 && errno == EINTR)
			continue;
		if (n <= 0)
			return n ? -errno : -EIO;
		buf = (char *)buf + n;
		off += n;
		len -= n;
	}
	return 0;
}

int blk_pwrite_full(int fd, const void *buf, uint64_t len, uint64_t off)
{
	while (len) {
		ssize_t n = pwrite(fd, buf, len, off);

		if (n < 0 && errno == EINTR)
			continue;
		if (n <= 0)
			return n ? -errno : -EIO;
		buf = (const char *)buf + n;
		off += n;
		len -= n;
	}
	return 0;
}

typedef ssize_t vec_fn(int fd, const struct iovec *iov, int nr, off_t off);

/* Carry on after short transfers, IOV_MAX elements at a time. */
static int transfer(int fd, const struct iovec *iov, int nr, uint64_t off, vec_fn *fn)
{
	struct iovec vec[64];
	size_t skip = 0;	/* bytes of iov[0] already done */

	while (nr) {
		int n = nr < 64 ? nr : 64;
		ssize_t done;

		memcpy(vec, iov, n * sizeof(*vec));
		vec[0].iov_base = (char *)vec[0].iov_base + skip;
		vec[0].iov_len -= skip;
		done = fn(fd, vec, n, off);
		if (done < 0 && errno == EINTR)
			continue;
		if (done <= 0)
			return done ? -errno : -EIO;
		off += done;
		skip += done;
		while (nr && skip >= iov->iov_len) {
			skip -= iov->iov_len;
			iov++;
			nr--;
		}
	}
	return 0;
}

static int check_range(const struct blk *blk, uint64_t off, uint64_t len)
{
	uint64_t end;

	if (__builtin_add_overflow(off, len, &end) || end > blk->size_bytes)
		return -EINVAL;
	return 0;
}

static int check_vec(const struct blk *blk, const struct iovec *iov, int nr,
		     uint64_t off, uint64_t *len)
{
	*len = 0;
	for (int i = 0; i < nr; i++)
		if (__builtin_add_overflow(*len, iov[i].iov_len, len))
			return -EINVAL;
	return check_range(blk, off, *len);
}

/* The content of [off, off + len) is about to change; len > 0. */
static void blk_change_begin(struct blk *blk, uint64_t off, uint64_t len)
{
	uint64_t first = off >> BLK_CLUSTER_SHIFT;
	uint64_t last = (off + len - 1) >> BLK_CLUSTER_SHIFT;

	pthread_mutex_lock(&blk->lock);
	while (blk->freezing)
		pthread_cond_wait(&blk->cond, &blk->lock);
	blk->changing++;
	for (uint64_t c = first; c <= last; c++)
		blk_map_set(blk->dirty, c);
	if (blk->view)
		blk_view_before_write(blk, first, last);
	pthread_mutex_unlock(&blk->lock);
}

static void blk_change_end(struct blk *blk)
{
	pthread_mutex_lock(&blk->lock);
	if (!--blk->changing)
		pthread_cond_broadcast(&blk->cond);
	pthread_mutex_unlock(&blk->lock);
}

int blk_readv(struct blk *blk, const struct iovec *iov, int nr, uint64_t off)
{
	uint64_t len;
	int ret;

	ret = check_vec(blk, iov, nr, off, &len);
	if (ret || !len)
		return ret;
	return transfer(blk->fd, iov, nr, off, preadv);
}

int blk_writev(struct blk *blk, const struct iovec *iov, int nr, uint64_t off)
{
	uint64_t len;
	int ret;

	if (blk->readonly)
		return -EROFS;
	ret = check_vec(blk, iov, nr, off, &len);
	if (ret || !len)
		return ret;
	blk_change_begin(blk, off, len);
	ret = transfer(blk->fd, iov, nr, off, pwritev);
	blk_change_end(blk);
	return ret;
}

int blk_flush(struct blk *blk)
{
	if (blk->readonly)
		return 0;
	return fdatasync(blk->fd) ? -errno : 0;
}

static int punch(struct blk *blk, uint64_t off, uint64_t len)
{
	int mode = FALLOC_FL_PUNCH_HOLE | FALLOC_FL_KEEP_SIZE;

	return fallocate(blk->fd, mode, off, len) ? -errno : 0;
}

/* A hint: where the file system cannot punch, keeping the data is correct. */
int blk_discard(struct blk *blk, uint64_t off, uint64_t len)
{
	int ret;

	if (blk->readonly)
		return -EROFS;
	ret = check_range(blk, off, len);
	if (ret || !len)
		return ret;
	blk_change_begin(blk, off, len);
	ret = punch(blk, off, len);
	blk_change_end(blk);
	return ret == -EOPNOTSUPP ? 0 : ret;
}

static int write_zeroes_slowly(struct blk *blk, uint64_t off, uint64_t len)
{
	static const char zeroes[BLK_CLUSTER_BYTES];
	int ret = 0;

	while (len && !ret) {
		uint64_t n = len < sizeof(zeroes) ? len : sizeof(zeroes);

		ret = blk_pwrite_full(blk->fd, zeroes, n, off);
		off += n;
		len -= n;
	}
	return ret;
}

int blk_write_zeroes(struct blk *blk, uint64_t off, uint64_t len, bool unmap)
{
	int ret;

	if (blk->readonly)
		return -EROFS;
	ret = check_range(blk, off, len);
	if (ret || !len)
		return ret;
	blk_change_begin(blk, off, len);
	if (unmap)
		ret = punch(blk, off, len);
	else if (fallocate(blk->fd, FALLOC_FL_ZERO_RANGE | FALLOC_FL_KEEP_SIZE,
			   off, len))
		ret = -errno;
	if (ret == -EOPNOTSUPP)
		ret = write_zeroes_slowly(blk, off, len);
	blk_change_end(blk);
	return ret;
}
