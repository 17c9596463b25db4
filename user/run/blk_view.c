// SPDX-License-Identifier: LGPL-2.1-or-later
/*
 * Frozen views of an image: copy-before-write and the background copy.
 *
 * A cluster of a view is in one of these states, all under blk->lock:
 *
 *	pending		still to be decided; the image holds its frozen content
 *	pending, saved	a guest write came first; the side store holds it
 *	pending, busy	the copier is reading it from the image right now;
 *			a guest write to it waits for that one read
 *	done		not pending: guest writes pass untouched
 *
 * The copier is the only one to end `pending` and to set or clear the busy
 * range; writers only add `saved`.  Writing the output happens outside the lock
 * and outside busy, so a slow output never delays the guest.
 */
#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "blk_internal.h"

#define BATCH_CLUSTERS	16u		/* per read of the copier */
#define BATCH_BYTES	(BATCH_CLUSTERS * BLK_CLUSTER_BYTES)
#define SLOT_NONE	0u		/* not saved */
#define SLOT_ZERO	UINT32_MAX	/* saved, all zero, takes no space */

struct side {
	uint32_t *slot;		/* per cluster: slot + 1, SLOT_NONE or SLOT_ZERO */
	void **ram;		/* [nr_ram] */
	uint32_t nr_ram;
	uint32_t nr_max;	/* ram and file slots */
	uint32_t nr_used_ever;
	uint32_t nr_held;
	uint32_t *free;		/* stack of slots given back */
	uint32_t nr_free;
	uint32_t free_cap;
	int fd;
	char *dir;
	void *bounce;		/* one cluster */
};

struct blk_view {
	struct blk *blk;
	enum blk_freeze_mode mode;
	uint64_t *frozen;	/* what the view consists of; constant */
	uint64_t *borrowed;	/* dirty bits taken at the freeze; constant */
	uint64_t *pending;	/* (l) */
	uint64_t busy_first;	/* (l) [first, end) */
	uint64_t busy_end;
	int broken;		/* (l) -errno; no more copy-before-write */
	bool copied;		/* (l) */
	struct side side;	/* (l) */
	uint64_t total_bytes;
	struct blk_progress progress;	/* copier only */
};

static uint64_t cluster_bytes(const struct blk *blk, uint64_t c)
{
	uint64_t left = blk->size_bytes - (c << BLK_CLUSTER_SHIFT);

	return left < BLK_CLUSTER_BYTES ? left : BLK_CLUSTER_BYTES;
}

static bool is_zero(const char *buf, uint64_t len)
{
	return !buf[0] && !memcmp(buf, buf + 1, len - 1);
}

/* --- side store --------------------------------------------------------- */

static int side_init(struct side *s, const struct blk *blk)
{
	uint64_t ram = blk->side_ram_bytes >> BLK_CLUSTER_SHIFT;
	uint64_t file = blk->side_file_bytes >> BLK_CLUSTER_SHIFT;
	const char *dir = blk->side_dir;

	s->fd = -1;
	/* More slots than clusters are never needed. */
	if (ram > blk->nr_clusters)
		ram = blk->nr_clusters;
	if (file > blk->nr_clusters - ram)
		file = blk->nr_clusters - ram;
	if (ram + file >= SLOT_ZERO - 1)
		return -EFBIG;
	s->nr_ram = ram;
	s->nr_max = ram + file;
	if (!dir)
		dir = getenv("TMPDIR");
	s->dir = strdup(dir && *dir ? dir : "/var/tmp");
	s->ram = calloc(s->nr_ram + 1, sizeof(*s->ram));
	s->slot = calloc(blk->nr_clusters, sizeof(*s->slot));
	s->bounce = malloc(BLK_CLUSTER_BYTES);
	return s->dir && s->ram && s->slot && s->bounce ? 0 : -ENOMEM;
}

static void side_free(struct side *s)
{
	for (uint32_t i = 0; s->ram && i < s->nr_ram; i++)
		free(s->ram[i]);
	free(s->ram);
	free(s->slot);
	free(s->free);
	free(s->dir);
	free(s->bounce);
	if (s->fd >= 0)
		close(s->fd);
	*s = (struct side){ .fd = -1 };
}

static int side_open_file(struct side *s)
{
	char path[4096];

	s->fd = open(s->dir, O_TMPFILE | O_RDWR | O_CLOEXEC, 0600);
	if (s->fd >= 0)
		return 0;
	if (snprintf(path, sizeof(path), "%s/vmplat-side-XXXXXX", s->dir) >=
	    (int)sizeof(path))
		return -ENAMETOOLONG;
	s->fd = mkostemp(path, O_CLOEXEC);
	if (s->fd < 0)
		return -errno;
	unlink(path);
	return 0;
}

static int side_store(struct side *s, uint32_t slot, const void *buf, uint64_t len)
{
	int ret;

	if (slot < s->nr_ram) {
		if (!s->ram[slot])
			s->ram[slot] = malloc(BLK_CLUSTER_BYTES);
		if (!s->ram[slot])
			return -ENOMEM;
		memcpy(s->ram[slot], buf, len);
		return 0;
	}
	if (s->fd < 0) {
		ret = side_open_file(s);
		if (ret)
			return ret;
	}
	return blk_pwrite_full(s->fd, buf, len,
			       (uint64_t)(slot - s->nr_ram) << BLK_CLUSTER_SHIFT);
}

static int side_save(struct side *s, uint64_t c, const void *buf, uint64_t len)
{
	uint32_t slot;
	int ret;

	if (is_zero(buf, len)) {
		s->slot[c] = SLOT_ZERO;
		return 0;
	}
	if (s->nr_free)
		slot = s->free[--s->nr_free];
	else if (s->nr_used_ever < s->nr_max)
		slot = s->nr_used_ever++;
	else
		return -ENOSPC;
	ret = side_store(s, slot, buf, len);
	if (ret)
		return ret;
	s->slot[c] = slot + 1;
	s->nr_held++;
	return 0;
}

/* Move a saved cluster out. A slot that cannot be remembered is just not reused. */
static int side_take(struct side *s, uint64_t c, void *buf, uint64_t len)
{
	uint32_t slot = s->slot[c];
	uint32_t cap;
	void *grown;
	int ret = 0;

	s->slot[c] = SLOT_NONE;
	if (slot == SLOT_ZERO) {
		memset(buf, 0, len);
		return 0;
	}
	slot--;
	if (slot < s->nr_ram)
		memcpy(buf, s->ram[slot], len);
	else
		ret = blk_pread_full(s->fd, buf, len,
				     (uint64_t)(slot - s->nr_ram) << BLK_CLUSTER_SHIFT);
	s->nr_held--;
	if (s->nr_free == s->free_cap) {
		cap = s->free_cap ? s->free_cap * 2 : 64;
		grown = realloc(s->free, cap * sizeof(*s->free));
		if (!grown)
			return ret;
		s->free = grown;
		s->free_cap = cap;
	}
	s->free[s->nr_free++] = slot;
	return ret;
}

/* --- freeze and the guest's side ---------------------------------------- */

static void view_break(struct blk_view *v, int err)
{
	if (v->broken)
		return;
	v->broken = err;
	side_free(&v->side);
}

static void view_free(struct blk_view *v)
{
	if (!v)
		return;
	side_free(&v->side);
	free(v->frozen);
	free(v->borrowed);
	free(v->pending);
	free(v);
}

static void map_fill(uint64_t *map, uint64_t nr)
{
	memset(map, 0xff, nr / 64 * sizeof(*map));
	if (nr % 64)
		map[nr / 64] = (UINT64_C(1) << (nr % 64)) - 1;
}

static struct blk_view *view_alloc(struct blk *blk, enum blk_freeze_mode mode)
{
	uint64_t words = blk_map_words(blk->nr_clusters);
	struct blk_view *v = calloc(1, sizeof(*v));

	if (!v)
		return NULL;
	v->blk = blk;
	v->mode = mode;
	v->side.fd = -1;
	v->frozen = calloc(words, sizeof(uint64_t));
	v->pending = calloc(words, sizeof(uint64_t));
	v->borrowed = calloc(words, sizeof(uint64_t));
	if (!v->frozen || !v->pending || !v->borrowed || side_init(&v->side, blk)) {
		view_free(v);
		return NULL;
	}
	return v;
}

/* The instant; no write is between begin and end. */
static void view_take(struct blk *blk, struct blk_view *v)
{
	uint64_t bytes = blk_map_words(blk->nr_clusters) * sizeof(uint64_t);
	uint64_t *fresh = v->borrowed;

	v->borrowed = blk->dirty;
	blk->dirty = fresh;
	if (v->mode == BLK_FREEZE_FULL)
		map_fill(v->frozen, blk->nr_clusters);
	else
		memcpy(v->frozen, v->borrowed, bytes);
	memcpy(v->pending, v->frozen, bytes);
	v->total_bytes = blk_map_count(v->frozen, blk->nr_clusters) * BLK_CLUSTER_BYTES;
	if (blk_map_test(v->frozen, blk->nr_clusters - 1))
		v->total_bytes -= BLK_CLUSTER_BYTES -
			cluster_bytes(blk, blk->nr_clusters - 1);
	v->progress.total_bytes = v->total_bytes;
	blk->view = v;
}

int blk_freeze(struct blk *blk, enum blk_freeze_mode mode, struct blk_view **out)
{
	struct blk_view *v;
	int ret = 0;

	*out = NULL;
	if (mode != BLK_FREEZE_FULL && mode != BLK_FREEZE_INCREMENT)
		return -EINVAL;
	v = view_alloc(blk, mode);
	if (!v)
		return -ENOMEM;
	pthread_mutex_lock(&blk->lock);
	if (blk->view || blk->freezing) {
		ret = -EBUSY;
	} else if (mode == BLK_FREEZE_INCREMENT && !blk->has_base) {
		ret = -ENODATA;
	} else {
		blk->freezing = true;
		while (blk->changing)
			pthread_cond_wait(&blk->cond, &blk->lock);
		view_take(blk, v);
		blk->freezing = false;
		pthread_cond_broadcast(&blk->cond);
	}
	pthread_mutex_unlock(&blk->lock);
	if (ret)
		view_free(v);
	else
		*out = v;
	return ret;
}

static void save_cluster(struct blk_view *v, uint64_t c)
{
	uint64_t len = cluster_bytes(v->blk, c);
	int ret;

	ret = blk_pread_full(v->blk->fd, v->side.bounce, len, c << BLK_CLUSTER_SHIFT);
	if (!ret)
		ret = side_save(&v->side, c, v->side.bounce, len);
	if (ret)
		view_break(v, ret);
}

/*
 * blk->lock held, dropped while waiting for the copier's read.  The view may
 * end meanwhile, so it is looked up again after each wait.
 */
void blk_view_before_write(struct blk *blk, uint64_t first, uint64_t last)
{
	uint64_t c = first;

	while (c <= last) {
		struct blk_view *v = blk->view;

		if (!v || v->broken)
			return;
		if (!blk_map_test(v->pending, c)) {
			c++;
		} else if (c >= v->busy_first && c < v->busy_end) {
			pthread_cond_wait(&blk->cond, &blk->lock);
		} else {
			if (v->side.slot[c] == SLOT_NONE)
				save_cluster(v, c);
			c++;
		}
	}
}

/* --- the copier --------------------------------------------------------- */

struct copy {
	struct blk_view *v;
	int out_fd;
	char *buf;		/* BATCH_BYTES */
	uint64_t next_data;	/* cluster; the image has no data before it */
};

static uint64_t next_set(const uint64_t *map, uint64_t from, uint64_t nr)
{
	while (from < nr) {
		uint64_t word = map[from / 64] >> (from % 64);

		if (word) {
			from += __builtin_ctzll(word);
			return from < nr ? from : nr;
		}
		from = (from / 64 + 1) * 64;
	}
	return nr;
}

/* First cluster at or after @c in which the image has data now. */
static uint64_t image_next_data(const struct blk *blk, uint64_t c)
{
	off_t off = lseek(blk->fd, c << BLK_CLUSTER_SHIFT, SEEK_DATA);

	if (off < 0)
		return errno == ENXIO ? blk->nr_clusters : c;
	return (uint64_t)off >> BLK_CLUSTER_SHIFT;
}

static int emit(struct copy *cp, uint64_t c, const char *buf)
{
	struct blk_view *v = cp->v;
	uint64_t len = cluster_bytes(v->blk, c);

	v->progress.done_bytes += len;
	if (v->mode == BLK_FREEZE_FULL && is_zero(buf, len))
		return 0;
	v->progress.written_bytes += len;
	return blk_pwrite_full(cp->out_fd, buf, len, c << BLK_CLUSTER_SHIFT);
}

/*
 * Clusters [c, end) are pending and not saved, so they are as they were at the
 * freeze; which is why an older answer about holes still holds for them.
 */
static uint64_t run_end(struct copy *cp, uint64_t c, bool *hole)
{
	struct blk_view *v = cp->v;
	uint64_t max = BATCH_CLUSTERS, end = c;

	*hole = false;
	if (v->mode == BLK_FREEZE_FULL) {
		if (c >= cp->next_data)
			cp->next_data = image_next_data(v->blk, c);
		*hole = cp->next_data > c;
		if (*hole)
			max = cp->next_data - c;
	}
	while (end < v->blk->nr_clusters && end - c < max &&
	       blk_map_test(v->pending, end) && v->side.slot[end] == SLOT_NONE)
		end++;
	return end;
}

/*
 * blk->lock held on entry and exit.  Reads [c, end) from the image while busy
 * keeps writers off.
 */
static int read_image(struct copy *cp, uint64_t c, uint64_t end)
{
	struct blk_view *v = cp->v;
	struct blk *blk = v->blk;
	uint64_t off = c << BLK_CLUSTER_SHIFT;
	uint64_t stop = end << BLK_CLUSTER_SHIFT;
	int ret;

	if (stop > blk->size_bytes)
		stop = blk->size_bytes;
	v->busy_first = c;
	v->busy_end = end;
	pthread_mutex_unlock(&blk->lock);
	ret = blk_pread_full(blk->fd, cp->buf, stop - off, off);
	pthread_mutex_lock(&blk->lock);
	v->busy_first = v->busy_end = 0;
	pthread_cond_broadcast(&blk->cond);
	return ret;
}

/* Decide the clusters from @c on; *next is where to go on. blk->lock not held. */
static int copy_step(struct copy *cp, uint64_t c, uint64_t *next)
{
	struct blk_view *v = cp->v;
	struct blk *blk = v->blk;
	uint64_t end = c + 1;
	bool hole = false;
	int ret;

	pthread_mutex_lock(&blk->lock);
	ret = v->broken;
	if (ret) {
		;
	} else if (v->side.slot[c] != SLOT_NONE) {
		ret = side_take(&v->side, c, cp->buf, cluster_bytes(blk, c));
	} else {
		end = run_end(cp, c, &hole);
		if (!hole)
			ret = read_image(cp, c, end);
	}
	for (uint64_t i = c; !ret && i < end; i++)
		blk_map_clear(v->pending, i);
	v->progress.side_bytes = (uint64_t)v->side.nr_held << BLK_CLUSTER_SHIFT;
	pthread_mutex_unlock(&blk->lock);
	*next = end;
	for (uint64_t i = c; !ret && i < end; i++) {
		if (hole)
			v->progress.done_bytes += cluster_bytes(blk, i);
		else
			ret = emit(cp, i, cp->buf + ((i - c) << BLK_CLUSTER_SHIFT));
	}
	return ret;
}

/*
 * In an increment a hole means "inherit", so the output's file system must tell
 * holes exactly: some have none, or round what was written up to huge pages.
 */
static int check_holes(const struct blk_view *v, int out_fd)
{
	uint64_t nr = v->blk->nr_clusters, size = v->blk->size_bytes, c = 0, end;
	off_t data, hole;

	for (;;) {
		data = lseek(out_fd, c << BLK_CLUSTER_SHIFT, SEEK_DATA);
		c = next_set(v->frozen, c, nr);
		if (c == nr)
			return data < 0 && errno == ENXIO ? 0 : -EOPNOTSUPP;
		for (end = c; end < nr && blk_map_test(v->frozen, end);)
			end++;
		hole = lseek(out_fd, c << BLK_CLUSTER_SHIFT, SEEK_HOLE);
		if (data != (off_t)(c << BLK_CLUSTER_SHIFT) || hole < 0 ||
		    (uint64_t)hole != (end < nr ? end << BLK_CLUSTER_SHIFT : size))
			return -EOPNOTSUPP;
		if (end == nr)
			return 0;
		c = end;
	}
}

int blk_view_copy(struct blk_view *v, int out_fd, blk_progress_fn *progress,
		  void *opaque, const atomic_bool *cancel)
{
	struct copy cp = { .v = v, .out_fd = out_fd };
	uint64_t c, nr = v->blk->nr_clusters;
	int ret = 0;

	if (v->copied)
		return -EALREADY;
	cp.buf = malloc(BATCH_BYTES);
	if (!cp.buf)
		ret = -ENOMEM;
	else if (ftruncate(out_fd, v->blk->size_bytes))
		ret = -errno;
	/* Only this thread clears pending, so an unlocked look is exact. */
	for (c = 0; !ret && (c = next_set(v->pending, c, nr)) < nr;) {
		if (cancel && atomic_load(cancel))
			ret = -ECANCELED;
		else
			ret = copy_step(&cp, c, &c);
		if (progress && !ret)
			progress(opaque, &v->progress);
	}
	free(cp.buf);
	if (!ret && v->mode == BLK_FREEZE_INCREMENT)
		ret = check_holes(v, out_fd);
	pthread_mutex_lock(&v->blk->lock);
	if (ret)
		view_break(v, ret);
	else
		v->copied = true;
	pthread_mutex_unlock(&v->blk->lock);
	return ret;
}

uint64_t blk_view_total_bytes(const struct blk_view *v)
{
	return v->total_bytes;
}

const uint64_t *blk_view_map(const struct blk_view *v, uint64_t *nr_clusters)
{
	*nr_clusters = v->blk->nr_clusters;
	return v->frozen;
}

int blk_view_commit(struct blk_view *v)
{
	struct blk *blk = v->blk;

	pthread_mutex_lock(&blk->lock);
	if (!v->copied) {
		pthread_mutex_unlock(&blk->lock);
		return -EBUSY;
	}
	if (v->mode == BLK_FREEZE_FULL)
		blk->has_base = true;
	blk->view = NULL;
	pthread_mutex_unlock(&blk->lock);
	view_free(v);
	return 0;
}

void blk_view_abort(struct blk_view *v)
{
	struct blk *blk = v->blk;

	pthread_mutex_lock(&blk->lock);
	for (uint64_t w = 0; w < blk_map_words(blk->nr_clusters); w++)
		blk->dirty[w] |= v->borrowed[w];
	blk->view = NULL;
	pthread_cond_broadcast(&blk->cond);
	pthread_mutex_unlock(&blk->lock);
	view_free(v);
}
