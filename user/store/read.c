// SPDX-License-Identifier: LGPL-2.1-or-later
/*
 * Reading bytes of an image: page -> run -> frame, through a cache of frames.
 *
 * The cache is set-associative; each set has its own lock. A slot is *loading*
 * while one thread fills it without the lock and others wait for it, *ready*
 * afterwards; it is reused only while nobody has it pinned. A reader that finds
 * every slot of its set busy reads into memory of its own: never more than the
 * cache and one frame a reader.
 */
#include "internal.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>

#define WAYS		8
static_assert((size_t)FMT_FRAME_PAGES_MAX * FMT_PAGE_BYTES == STORE_AROUND_MAX, "a frame");
#define SLOT_BYTES	((size_t)FMT_FRAME_PAGES * FMT_PAGE_BYTES)

enum slot_state { SLOT_EMPTY, SLOT_LOADING, SLOT_READY };

struct slot {
	const struct store_image *img;
	uint32_t frame;
	enum slot_state state;
	unsigned int pins;
	uint64_t used;
	void *pages;
};

struct set {
	pthread_mutex_t lock;		/* all below, and the slots but .pages */
	pthread_cond_t loaded;
	uint64_t clock;
	struct slot slots[WAYS];
};

/* What one reader needs to take a frame apart. */
struct tools {
	struct tools *next;
	struct codec_ctx *codec;
	void *stored;
};

struct cache {
	unsigned int nr_sets;
	struct set *sets;
	pthread_mutex_t lock;		/* .tools */
	struct tools *tools;
};

struct cache *cache_new(size_t bytes)
{
	struct cache *c = calloc(1, sizeof(*c));

	if (!c)
		return NULL;
	c->nr_sets = bytes / (WAYS * SLOT_BYTES);
	if (!c->nr_sets)
		c->nr_sets = 1;
	c->sets = calloc(c->nr_sets, sizeof(*c->sets));
	if (!c->sets) {
		free(c);
		return NULL;
	}
	pthread_mutex_init(&c->lock, NULL);
	for (unsigned int i = 0; i < c->nr_sets; i++) {
		pthread_mutex_init(&c->sets[i].lock, NULL);
		pthread_cond_init(&c->sets[i].loaded, NULL);
	}
	return c;
}

static void tools_free(struct tools *t)
{
	codec_free(t->codec);
	free(t->stored);
	free(t);
}

void cache_free(struct cache *c)
{
	if (!c)
		return;
	for (unsigned int i = 0; i < c->nr_sets; i++) {
		for (int k = 0; k < WAYS; k++)
			free(c->sets[i].slots[k].pages);
		pthread_mutex_destroy(&c->sets[i].lock);
		pthread_cond_destroy(&c->sets[i].loaded);
	}
	while (c->tools) {
		struct tools *t = c->tools;

		c->tools = t->next;
		tools_free(t);
	}
	pthread_mutex_destroy(&c->lock);
	free(c->sets);
	free(c);
}

static struct tools *tools_get(struct cache *c)
{
	struct tools *t;

	pthread_mutex_lock(&c->lock);
	t = c->tools;
	if (t)
		c->tools = t->next;
	pthread_mutex_unlock(&c->lock);
	if (t)
		return t;
	t = calloc(1, sizeof(*t));
	if (!t)
		return NULL;
	t->codec = codec_new();
	t->stored = malloc(FRAME_SCRATCH);
	if (!t->codec || !t->stored) {
		tools_free(t);
		return NULL;
	}
	return t;
}

static void tools_put(struct cache *c, struct tools *t)
{
	pthread_mutex_lock(&c->lock);
	t->next = c->tools;
	c->tools = t;
	pthread_mutex_unlock(&c->lock);
}

static int load(struct cache *c, struct store_image *img, uint32_t nr,
		const struct fmt_frame *f, void *pages)
{
	struct tools *t = tools_get(c);
	int err;

	if (!t)
		return store_fail(ENOMEM, "out of memory");
	err = image_frame_read(img, nr, f, t->codec, t->stored, pages);
	tools_put(c, t);
	return err;
}

/*
 * slot_get - the pinned slot of a frame, or NULL when the set has no room.
 * *fresh: it is for the caller to fill.
 */
static struct slot *slot_get(struct set *s, const struct store_image *img,
			     uint32_t nr, bool *fresh)
{
	struct slot *victim = NULL;

	*fresh = false;
again:
	for (int k = 0; k < WAYS; k++) {
		struct slot *t = s->slots + k;

		if (t->state == SLOT_EMPTY || t->img != img || t->frame != nr)
			continue;
		if (t->state == SLOT_LOADING) {
			pthread_cond_wait(&s->loaded, &s->lock);
			goto again;
		}
		t->pins++;
		t->used = ++s->clock;
		return t;
	}
	for (int k = 0; k < WAYS; k++) {
		struct slot *t = s->slots + k;

		if (t->state == SLOT_LOADING || t->pins)
			continue;
		if (!victim || t->state == SLOT_EMPTY ||
		    (victim->state != SLOT_EMPTY && t->used < victim->used))
			victim = t;
	}
	if (!victim)
		return NULL;
	if (!victim->pages)
		victim->pages = malloc(SLOT_BYTES);
	if (!victim->pages)
		return NULL;
	victim->img = img;
	victim->frame = nr;
	victim->state = SLOT_LOADING;
	victim->pins = 1;
	victim->used = ++s->clock;
	*fresh = true;
	return victim;
}

static int read_uncached(struct cache *c, struct store_image *img, uint32_t nr,
			 const struct fmt_frame *f, void *buf, size_t off,
			 size_t len)
{
	void *pages = malloc((size_t)f->nr_pages * FMT_PAGE_BYTES);
	int err;

	if (!pages)
		return store_fail(ENOMEM, "out of memory");
	err = load(c, img, nr, f, pages);
	if (!err)
		memcpy(buf, (char *)pages + off, len);
	free(pages);
	return err;
}

static struct set *set_of(struct cache *c, const struct store_image *img,
			  uint32_t nr)
{
	uint64_t h = ((uintptr_t)img >> 4) * 0x9e3779b97f4a7c15ull + nr;

	return c->sets + h % c->nr_sets;
}

static int read_cached(struct cache *c, struct store_image *img, uint32_t nr,
		       const struct fmt_frame *f, void *buf, size_t off,
		       size_t len)
{
	struct set *s = set_of(c, img, nr);
	struct slot *t;
	bool fresh;
	int err = 0;

	pthread_mutex_lock(&s->lock);
	t = slot_get(s, img, nr, &fresh);
	pthread_mutex_unlock(&s->lock);
	if (!t)
		return read_uncached(c, img, nr, f, buf, off, len);
	if (fresh)
		err = load(c, img, nr, f, t->pages);
	if (!err)
		memcpy(buf, (char *)t->pages + off, len);
	pthread_mutex_lock(&s->lock);
	if (fresh) {
		t->state = err ? SLOT_EMPTY : SLOT_READY;
		pthread_cond_broadcast(&s->loaded);
	}
	t->pins--;
	pthread_mutex_unlock(&s->lock);
	return err;
}

/* @off and @len are bytes within the frame. */
static int read_frame(struct cache *c, struct store_image *img,
		      const struct fmt_run *r, void *buf, size_t off, size_t len)
{
	struct fmt_frame f;
	int err;

	err = image_frame(img, r->frame, &f);
	if (err)
		return err;
	if (r->frame_page + r->nr_pages > f.nr_pages)
		return store_fail(EBADMSG, "%s: damaged: a page lies outside "
				  "its frame", img->what);
	if (!off && len == (size_t)f.nr_pages * FMT_PAGE_BYTES)
		return load(c, img, r->frame, &f, buf);
	if (f.nr_pages > FMT_FRAME_PAGES)
		return read_uncached(c, img, r->frame, &f, buf, off, len);
	return read_cached(c, img, r->frame, &f, buf, off, len);
}

/* The run that has the page, which the checked group surely contains. */
static const struct fmt_run *find_run(const struct fmt_run *runs, uint32_t nr,
				      uint32_t page)
{
	uint32_t lo = 0, hi = nr;

	while (hi - lo > 1) {
		uint32_t mid = lo + (hi - lo) / 2;

		if (runs[mid].first <= page)
			lo = mid;
		else
			hi = mid;
	}
	return runs + lo;
}

static int read_run(struct store_image *img, const struct fmt_run *r, void *buf,
		    size_t skip, size_t len)
{
	struct store_image *from = img->sources[r->source];

	if (r->kind != STORE_DATA) {
		memset(buf, 0, len);
		return 0;
	}
	if (!from)
		return store_fail(EBADMSG, "%s: damaged: pages come from an "
				  "ancestor that it does not count on",
				  img->what);
	return read_frame(img->cache, from, r, buf,
			  (size_t)r->frame_page * FMT_PAGE_BYTES + skip, len);
}

int store_read(struct store_image *img, void *buf, uint64_t off, size_t len)
{
	const uint64_t group_bytes = (uint64_t)FMT_GROUP_PAGES * FMT_PAGE_BYTES;

	if (off > img->info->bytes || len > img->info->bytes - off)
		return store_fail(ERANGE, "%s: %zu bytes at %llu are beyond its "
				  "end", img->what, len,
				  (unsigned long long)off);
	while (len) {
		uint64_t in = off % group_bytes;
		const struct fmt_run *runs, *r;
		size_t skip, n;
		uint32_t nr;
		int err;

		err = image_runs(img, off / group_bytes, &runs, &nr);
		if (err)
			return err;
		r = find_run(runs, nr, in / FMT_PAGE_BYTES);
		skip = in - (uint64_t)r->first * FMT_PAGE_BYTES;
		n = (size_t)r->nr_pages * FMT_PAGE_BYTES - skip;
		if (n > len)
			n = len;
		err = read_run(img, r, buf, skip, n);
		if (err)
			return err;
		buf = (char *)buf + n;
		off += n;
		len -= n;
	}
	return 0;
}

/* The run with the page at @off, in its group's runs. Returns as store_extent(). */
static int run_at(struct store_image *img, uint64_t off, const struct fmt_run **run,
		  const struct fmt_run **end)
{
	uint64_t page = off / FMT_PAGE_BYTES;
	const struct fmt_run *runs;
	uint32_t nr;
	int err;

	if (off >= img->info->bytes)
		return 0;
	err = image_runs(img, page / FMT_GROUP_PAGES, &runs, &nr);
	if (err)
		return err;
	*run = find_run(runs, nr, page % FMT_GROUP_PAGES);
	*end = runs + nr;
	return 1;
}

/* From byte @first to where @last ends, which is of @run's kind. */
static struct store_extent extent(const struct store_image *img, uint64_t first,
				  const struct fmt_run *run, const struct fmt_run *last)
{
	const uint64_t group_bytes = (uint64_t)FMT_GROUP_PAGES * FMT_PAGE_BYTES;
	uint64_t end = first - first % group_bytes +
		       (uint64_t)(last->first + last->nr_pages) * FMT_PAGE_BYTES;

	if (end > img->info->bytes)
		end = img->info->bytes;
	return (struct store_extent){ .off = first, .len = end - first, .kind = run->kind,
				      .inherited = run->source != 0 };
}

int store_extent(struct store_image *img, uint64_t off, struct store_extent *ext)
{
	const struct fmt_run *r, *next, *end;
	int ret = run_at(img, off, &r, &end);

	if (ret != 1)
		return ret;
	for (next = r + 1; next < end && next->kind == r->kind &&
	     !next->source == !r->source; next++)
		;
	*ext = extent(img, off, r, next - 1);
	return 1;
}

int store_around(struct store_image *img, uint64_t off, struct store_extent *ext)
{
	uint64_t group = off / FMT_PAGE_BYTES / FMT_GROUP_PAGES;
	const struct fmt_run *r, *end;
	int ret = run_at(img, off, &r, &end);

	if (ret != 1)
		return ret;
	*ext = extent(img, (group * FMT_GROUP_PAGES + r->first) * FMT_PAGE_BYTES, r, r);
	return 1;
}
