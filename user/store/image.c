// SPDX-License-Identifier: LGPL-2.1-or-later
/*
 * One image's index and data file, opened for reading. Nothing that a file says
 * is believed before it is checked: heads and directories when the image is
 * opened, groups of runs and chunks of frame records when they are first used,
 * frames each time they are read.
 */
#include "internal.h"

#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

/* ---- byte order -------------------------------------------------------- */

void index_head_swap(struct fmt_index_head *h)
{
	h->version = le32toh(h->version);
	h->page_bytes = le32toh(h->page_bytes);
	h->image_bytes = le64toh(h->image_bytes);
	h->nr_pages = le64toh(h->nr_pages);
	h->group_pages = le32toh(h->group_pages);
	h->frame_pages_max = le32toh(h->frame_pages_max);
	h->nr_frames = le64toh(h->nr_frames);
	h->nr_groups = le64toh(h->nr_groups);
	h->groups_off = le64toh(h->groups_off);
	h->frames_off = le64toh(h->frames_off);
	h->chunks_off = le64toh(h->chunks_off);
	h->refs_off = le64toh(h->refs_off);
	h->index_bytes = le64toh(h->index_bytes);
	h->data_bytes = le64toh(h->data_bytes);
	h->data_pages = le64toh(h->data_pages);
	h->zero_pages = le64toh(h->zero_pages);
	h->hole_pages = le64toh(h->hole_pages);
	h->own_data_pages = le64toh(h->own_data_pages);
	h->own_zero_pages = le64toh(h->own_zero_pages);
	h->nr_sources = le32toh(h->nr_sources);
}

void index_run_swap(struct fmt_run *r)
{
	r->first = le16toh(r->first);
	r->nr_pages = le16toh(r->nr_pages);
	r->source = le16toh(r->source);
	r->frame = le32toh(r->frame);
	r->frame_page = le16toh(r->frame_page);
}

void index_frame_swap(struct fmt_frame *f)
{
	f->off = le64toh(f->off);
	f->stored_bytes = le32toh(f->stored_bytes);
	f->nr_pages = le16toh(f->nr_pages);
}

void index_group_swap(struct fmt_group *g)
{
	g->off = le64toh(g->off);
	g->nr_runs = le32toh(g->nr_runs);
}

/* ---- opening ----------------------------------------------------------- */

static int damaged(const struct store_image *img, const char *why)
{
	return store_fail(EBADMSG, "%s: damaged: %s", img->what, why);
}

/* The parts of the file follow each other without a gap. */
static bool layout_ok(const struct fmt_index_head *h)
{
	uint64_t chunks = (h->nr_frames + FMT_CHUNK_FRAMES - 1) /
			  FMT_CHUNK_FRAMES;

	return h->nr_frames <= UINT32_MAX &&
	       h->nr_groups <= UINT64_MAX / 65536 &&
	       h->groups_off >= sizeof(*h) &&
	       h->groups_off <= h->index_bytes &&
	       h->frames_off - h->groups_off ==
			h->nr_groups * sizeof(struct fmt_group) &&
	       h->frames_off <= h->index_bytes &&
	       h->chunks_off - h->frames_off ==
			h->nr_frames * sizeof(struct fmt_frame) &&
	       h->chunks_off <= h->index_bytes &&
	       h->refs_off - h->chunks_off == chunks * FMT_HASH_BYTES &&
	       h->refs_off <= h->index_bytes &&
	       h->index_bytes - h->refs_off ==
			h->nr_sources * sizeof(uint64_t);
}

static bool counts_ok(const struct fmt_index_head *h)
{
	return h->nr_pages == h->image_bytes / FMT_PAGE_BYTES +
			      !!(h->image_bytes % FMT_PAGE_BYTES) &&
	       h->nr_groups == h->nr_pages / FMT_GROUP_PAGES +
			       !!(h->nr_pages % FMT_GROUP_PAGES) &&
	       h->data_pages <= h->nr_pages &&
	       h->zero_pages <= h->nr_pages - h->data_pages &&
	       h->hole_pages == h->nr_pages - h->data_pages - h->zero_pages &&
	       h->own_data_pages <= h->data_pages &&
	       h->own_zero_pages <= h->zero_pages;
}

static int head_check(struct store_image *img, const struct manifest *m,
		      uint64_t file_bytes)
{
	struct fmt_index_head *h = &img->head;
	const struct store_image_info *ii = img->info;

	if (memcmp(h->magic, FMT_INDEX_MAGIC, 8))
		return damaged(img, "the index does not begin like one");
	if (!fmt_hash_is(&h->head_hash, h, offsetof(struct fmt_index_head,
						    head_hash)) ||
	    memcmp(&h->head_hash, &img->files->index_hash, FMT_HASH_BYTES))
		return damaged(img, "the index's head has a wrong checksum");
	index_head_swap(h);
	if (h->version != FMT_VERSION || h->page_bytes != FMT_PAGE_BYTES ||
	    h->group_pages != FMT_GROUP_PAGES || !h->frame_pages_max ||
	    h->frame_pages_max > FMT_FRAME_PAGES_MAX)
		return damaged(img, "the index has an unknown geometry");
	if (memcmp(h->id, m->info.id, sizeof(h->id)))
		return damaged(img, "the index belongs to another snapshot");
	if (h->index_bytes != file_bytes ||
	    h->index_bytes != img->files->index_bytes)
		return damaged(img, "the index is truncated or too long");
	if (h->image_bytes != ii->bytes || h->data_pages != ii->data_pages ||
	    h->zero_pages != ii->zero_pages ||
	    h->hole_pages != ii->hole_pages ||
	    h->own_data_pages != ii->own_data_pages ||
	    h->own_zero_pages != ii->own_zero_pages ||
	    h->data_bytes != img->files->data_bytes)
		return damaged(img, "the manifest and the index disagree");
	if (h->nr_sources != m->info.nr_ancestors + 1 ||
	    h->data_bytes < FMT_DATA_HEAD_BYTES ||
	    h->image_bytes > INT64_MAX || !layout_ok(h) || !counts_ok(h))
		return damaged(img, "the index's head contradicts itself");
	return 0;
}

/* Memory for @nr things that the file really has: never more than its length. */
static int read_table(struct store_image *img, void **table, uint64_t off,
		      uint64_t bytes, const struct fmt_hash *hash)
{
	int err;

	*table = malloc(bytes ? bytes : 1);
	if (!*table)
		return store_fail(ENOMEM, "out of memory");
	err = sio_read(img->index_fd, *table, bytes, off, img->what);
	if (!err && !fmt_hash_is(hash, *table, bytes))
		err = damaged(img, "a table of the index has a wrong checksum");
	if (err) {
		free(*table);
		*table = NULL;
	}
	return err;
}

static int groups_check(struct store_image *img)
{
	uint64_t off = sizeof(struct fmt_index_head);

	for (uint64_t i = 0; i < img->head.nr_groups; i++) {
		struct fmt_group *g = img->groups + i;

		index_group_swap(g);
		if (g->off != off || !g->nr_runs || g->reserved ||
		    g->nr_runs > image_group_pages(img, i))
			return damaged(img, "the index's groups contradict");
		off += g->nr_runs * sizeof(struct fmt_run);
	}
	return off == img->head.groups_off ? 0 :
	       damaged(img, "the index's groups do not fill their place");
}

static int tables_read(struct store_image *img)
{
	struct fmt_index_head *h = &img->head;
	void *p;
	int err;

	img->nr_chunks = (h->nr_frames + FMT_CHUNK_FRAMES - 1) /
			 FMT_CHUNK_FRAMES;
	err = read_table(img, &p, h->groups_off,
			 h->nr_groups * sizeof(struct fmt_group),
			 &h->groups_hash);
	img->groups = p;
	if (!err)
		err = groups_check(img);
	if (!err) {
		err = read_table(img, &p, h->chunks_off,
				 img->nr_chunks * FMT_HASH_BYTES,
				 &h->chunks_hash);
		img->chunks = p;
	}
	if (!err) {
		err = read_table(img, &p, h->refs_off,
				 h->nr_sources * sizeof(uint64_t),
				 &h->refs_hash);
		img->refs = p;
	}
	if (err)
		return err;
	for (uint32_t i = 0; i < h->nr_sources; i++)
		img->refs[i] = le64toh(img->refs[i]);
	img->group_runs = calloc(h->nr_groups + 1, sizeof(*img->group_runs));
	img->chunk_frames = calloc(img->nr_chunks + 1,
				   sizeof(*img->chunk_frames));
	img->nr_sources = h->nr_sources;
	img->sources = calloc(h->nr_sources, sizeof(*img->sources));
	if (!img->group_runs || !img->chunk_frames || !img->sources)
		return store_fail(ENOMEM, "out of memory");
	img->sources[0] = img;
	return 0;
}

static int data_open(struct store_image *img, const struct manifest *m,
		     int dirfd)
{
	char name[FILE_NAME_CHARS];
	struct fmt_data_head h;
	uint64_t bytes;
	int err;

	data_name(name, img->info->name);
	img->data_fd = sio_open_read(dirfd, name, &bytes);
	if (img->data_fd < 0)
		return store_fail(img->data_fd, "%s: %s", img->what,
				  store_error());
	if (bytes != img->files->data_bytes)
		return store_fail(EBADMSG, "%s: damaged: %s has %llu bytes, "
				  "should have %llu", img->what, name,
				  (unsigned long long)bytes,
				  (unsigned long long)img->files->data_bytes);
	err = sio_read(img->data_fd, &h, sizeof(h), 0, img->what);
	if (err)
		return err;
	if (memcmp(h.magic, FMT_DATA_MAGIC, 8) ||
	    !fmt_hash_is(&h.head_hash, &h, offsetof(struct fmt_data_head,
						    head_hash)))
		return damaged(img, "the data file's head is wrong");
	if (le32toh(h.version) != FMT_VERSION ||
	    le32toh(h.head_bytes) != FMT_DATA_HEAD_BYTES ||
	    memcmp(h.id, m->info.id, sizeof(h.id)) ||
	    strncmp((char *)h.image, img->info->name, sizeof(h.image)))
		return damaged(img, "the data file belongs to another image");
	return 0;
}

int image_open(struct store_image *img, const struct manifest *m,
	       unsigned int nr, int dirfd)
{
	char name[FILE_NAME_CHARS];
	uint64_t bytes;
	int err;

	memset(img, 0, sizeof(*img));
	img->data_fd = img->index_fd = -1;
	img->info = m->info.images + nr;
	img->files = m->files + nr;
	if (asprintf(&img->what, "%s/%s", m->info.name, img->info->name) < 0) {
		img->what = NULL;
		return store_fail(ENOMEM, "out of memory");
	}
	index_name(name, img->info->name);
	img->index_fd = sio_open_read(dirfd, name, &bytes);
	if (img->index_fd < 0)
		return store_fail(img->index_fd, "%s: %s", img->what,
				  store_error());
	if (bytes < sizeof(img->head))
		return damaged(img, "the index is truncated");
	err = sio_read(img->index_fd, &img->head, sizeof(img->head), 0,
		       img->what);
	if (!err)
		err = head_check(img, m, bytes);
	if (!err)
		err = tables_read(img);
	return err ? err : data_open(img, m, dirfd);
}

void image_close(struct store_image *img)
{
	if (img->group_runs)
		for (uint64_t i = 0; i < img->head.nr_groups; i++)
			free(img->group_runs[i]);
	if (img->chunk_frames)
		for (uint64_t i = 0; i < img->nr_chunks; i++)
			free(img->chunk_frames[i]);
	free(img->group_runs);
	free(img->chunk_frames);
	free(img->groups);
	free(img->chunks);
	free(img->refs);
	free(img->sources);
	free(img->what);
	if (img->data_fd >= 0)
		close(img->data_fd);
	if (img->index_fd >= 0)
		close(img->index_fd);
	memset(img, 0, sizeof(*img));
	img->data_fd = img->index_fd = -1;
}

/* ---- groups ------------------------------------------------------------ */

uint64_t image_group_pages(const struct store_image *img, uint64_t group)
{
	uint64_t left = img->head.nr_pages - group * FMT_GROUP_PAGES;

	return left < FMT_GROUP_PAGES ? left : FMT_GROUP_PAGES;
}

static bool run_ok(const struct store_image *img, const struct fmt_run *r)
{
	if (!r->nr_pages || r->reserved || r->reserved2 ||
	    r->source >= img->nr_sources)
		return false;
	if (r->kind != STORE_DATA)
		return r->kind <= STORE_DATA && !r->frame && !r->frame_page;
	return (uint32_t)r->frame_page + r->nr_pages <= FMT_FRAME_PAGES_MAX;
}

static int runs_check(struct store_image *img, uint64_t group,
		      struct fmt_run *runs)
{
	uint32_t next = 0;

	for (uint32_t i = 0; i < img->groups[group].nr_runs; i++) {
		index_run_swap(runs + i);
		if (runs[i].first != next || !run_ok(img, runs + i))
			return damaged(img, "a run of the index is wrong");
		next += runs[i].nr_pages;
	}
	return next == image_group_pages(img, group) ? 0 :
	       damaged(img, "the index does not cover the image");
}

int image_runs(struct store_image *img, uint64_t group,
	       const struct fmt_run **runs, uint32_t *nr)
{
	struct fmt_run *r = atomic_load_explicit(img->group_runs + group,
						 memory_order_acquire);
	const struct fmt_group *g = img->groups + group;
	struct fmt_run *other = NULL;
	void *p;
	int err;

	if (!r) {
		err = read_table(img, &p, g->off,
				 g->nr_runs * sizeof(struct fmt_run), &g->hash);
		r = p;
		if (!err)
			err = runs_check(img, group, r);
		if (err) {
			free(r);
			return err;
		}
		if (!atomic_compare_exchange_strong(img->group_runs + group,
						    &other, r)) {
			free(r);
			r = other;
		}
	}
	*runs = r;
	*nr = g->nr_runs;
	return 0;
}

/* ---- frames ------------------------------------------------------------ */

static bool frame_ok(const struct store_image *img, const struct fmt_frame *f)
{
	uint32_t raw = f->nr_pages * FMT_PAGE_BYTES;

	return f->nr_pages && f->nr_pages <= img->head.frame_pages_max &&
	       f->codec <= STORE_CODEC_LZ4 && !f->reserved &&
	       f->stored_bytes && f->stored_bytes <= raw &&
	       (f->codec != STORE_CODEC_NONE || f->stored_bytes == raw) &&
	       f->off >= FMT_DATA_HEAD_BYTES &&
	       f->off <= img->head.data_bytes &&
	       f->stored_bytes <= img->head.data_bytes - f->off;
}

static int chunk_load(struct store_image *img, uint64_t chunk,
		      struct fmt_frame **frames)
{
	uint64_t first = chunk * FMT_CHUNK_FRAMES;
	uint64_t nr = img->head.nr_frames - first;
	struct fmt_frame *f, *other = NULL;
	void *p;
	int err;

	if (nr > FMT_CHUNK_FRAMES)
		nr = FMT_CHUNK_FRAMES;
	err = read_table(img, &p, img->head.frames_off + first * sizeof(*f),
			 nr * sizeof(*f), img->chunks + chunk);
	if (err)
		return err;
	f = p;
	for (uint64_t i = 0; i < nr && !err; i++) {
		index_frame_swap(f + i);
		if (!frame_ok(img, f + i))
			err = damaged(img, "a frame's record is wrong");
	}
	if (err) {
		free(f);
		return err;
	}
	if (!atomic_compare_exchange_strong(img->chunk_frames + chunk, &other,
					    f)) {
		free(f);
		f = other;
	}
	*frames = f;
	return 0;
}

int image_frame(struct store_image *img, uint32_t nr, struct fmt_frame *f)
{
	struct fmt_frame *frames;
	int err;

	if (nr >= img->head.nr_frames)
		return damaged(img, "the index names a frame that is not there");
	frames = atomic_load_explicit(img->chunk_frames + nr / FMT_CHUNK_FRAMES,
				      memory_order_acquire);
	if (!frames) {
		err = chunk_load(img, nr / FMT_CHUNK_FRAMES, &frames);
		if (err)
			return err;
	}
	*f = frames[nr % FMT_CHUNK_FRAMES];
	return 0;
}

int image_frame_read(struct store_image *img, uint32_t nr,
		     const struct fmt_frame *f, struct codec_ctx *c,
		     void *stored, void *pages)
{
	size_t raw = (size_t)f->nr_pages * FMT_PAGE_BYTES;
	void *to = f->codec == STORE_CODEC_NONE ? pages : stored;
	int err;

	err = sio_read(img->data_fd, to, f->stored_bytes, f->off, img->what);
	if (err)
		return err;
	if (!fmt_hash_is(&f->hash, to, f->stored_bytes))
		return store_fail(EBADMSG, "%s: damaged: frame %u has a wrong "
				  "checksum", img->what, nr);
	if (to == pages)
		return 0;
	err = codec_unpack(c, f->codec, pages, raw, stored, f->stored_bytes);
	return err ? store_fail(err, "%s: frame %u: %s", img->what, nr,
				store_error()) : 0;
}
