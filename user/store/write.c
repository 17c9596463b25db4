// SPDX-License-Identifier: LGPL-2.1-or-later
/*
 * Writing a snapshot.
 *
 * An image is stored by workers that each do the same: *take* the next pages to
 * store (a job: up to one frame of pages, in order), read them, sort them into
 * zero, same as the parent's, and data, compress the data, wait for their *turn*
 * and then get the frame's number and place in the file; the write itself is
 * outside the lock again. Turns are in the order of the jobs, so the files do not
 * depend on how many workers there were. Memory: one frame and its compressed
 * form a worker, one bit a page, 32 bytes a frame.
 *
 * What the jobs find about pages becomes runs; a group of the index is complete
 * when a turn passes its end, is merged with the parent's group and written.
 */
#include "internal.h"

#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/file.h>
#include <sys/random.h>
#include <sys/stat.h>
#include <unistd.h>

#include <vmplat_clock.h>
#include <vmplat_thread.h>

#define FRAME_BYTES	((size_t)FMT_FRAME_PAGES * FMT_PAGE_BYTES)
#define FLUSH_BYTES	(16u << 20)	/* start writing back after this much */
#define INDEX_BUF_RUNS	16384u
#define PROGRESS_NS	100000000ull

/* What is known of a page, beyond enum store_kind: */
#define KIND_INHERIT	((uint8_t)0xff)

struct store_writer {
	struct store *st;
	int fd;				/* the temporary directory, locked */
	char tmp[DIR_NAME_CHARS + 1];
	struct store_snap *parent;
	struct manifest m;
	bool has_state;
	enum store_codec codec;
	int level;
	unsigned int threads;
	store_progress_fn progress;
	void *ctx;
	const atomic_bool *cancel;
	bool broken;			/* an image failed: no commit */
};

/* ---- beginning --------------------------------------------------------- */

static int set_parent(struct store_writer *w, const char *ref)
{
	uint8_t id[STORE_ID_BYTES];
	struct manifest *p;
	unsigned int nr;
	int err;

	err = store_find(w->st, ref, id);
	if (!err)
		err = snap_open_shallow(&w->parent, w->st, id);
	if (!err)
		err = snap_check(w->parent);
	if (err)
		return err;
	p = &w->parent->m;
	nr = p->info.nr_ancestors;
	if (nr + 2 >= FMT_MAX_SOURCES)
		return store_fail(E2BIG, "the chain below %s is too long; take "
				  "a full snapshot", ref);
	w->m.ancestors = calloc(nr + 1, sizeof(*w->m.ancestors));
	if (!w->m.ancestors)
		return store_fail(ENOMEM, "out of memory");
	if (nr)
		memcpy(w->m.ancestors, p->ancestors, nr * sizeof(*p->ancestors));
	memcpy(w->m.ancestors[nr].id, p->info.id, STORE_ID_BYTES);
	memcpy(w->m.ancestors[nr].root, p->info.root, STORE_ID_BYTES);
	w->m.info.nr_ancestors = nr + 1;
	w->m.info.has_parent = true;
	memcpy(w->m.info.parent, p->info.id, STORE_ID_BYTES);
	return 0;
}

static int name_free(const struct store *st, const char *name)
{
	uint8_t id[STORE_ID_BYTES];
	int err = store_find(st, name, id);

	if (!err)
		return store_fail(EEXIST, "there is a snapshot \"%s\" in %s "
				  "already", name, st->path);
	return err == -ENOENT ? 0 : err;
}

static int make_tmp(struct store_writer *w)
{
	int err;

	if (getrandom(w->m.info.id, STORE_ID_BYTES, 0) != STORE_ID_BYTES)
		return store_fail(EIO, "no random numbers");
	dir_name(w->tmp, TMP_PREFIX, w->m.info.id);
	err = sio_mkdir(w->st->fd, w->tmp, 0750);
	if (err) {
		w->tmp[0] = 0;
		return err;
	}
	w->fd = sio_open_dir(w->st->fd, w->tmp);
	if (w->fd < 0)
		return w->fd;
	if (flock(w->fd, LOCK_EX | LOCK_NB))
		return store_fail(errno, "cannot lock %s: %s", w->tmp,
				  strerror(errno));
	return 0;
}

/* Under the store's lock: until our directory is locked it looks dead. */
static int begin(struct store_writer *w, const struct store_create_opts *o)
{
	int lock, err;

	lock = store_lock(w->st);
	if (lock < 0)
		return lock;
	err = name_free(w->st, o->name);
	if (!err) {
		store_gc_locked(w->st, false, NULL, NULL);
		err = make_tmp(w);
	}
	close(lock);
	return err;
}

int store_create(struct store_writer **out, struct store *st,
		 const struct store_create_opts *o)
{
	long cpus = sysconf(_SC_NPROCESSORS_ONLN);
	struct store_writer *w;
	int err;

	*out = NULL;
	if (!o->name || !store_name_ok(o->name))
		return store_fail(EINVAL, "\"%s\" cannot be a snapshot's name: "
				  "up to %d letters, digits, '.', '_' and '-', "
				  "a letter or digit first, and not like an id",
				  o->name ? o->name : "", STORE_NAME_CHARS);
	w = calloc(1, sizeof(*w));
	if (!w)
		return store_fail(ENOMEM, "out of memory");
	w->fd = -1;
	w->codec = o->codec;
	w->level = o->level;
	w->threads = o->threads ? o->threads : cpus < 1 ? 1 : cpus > 8 ? 8 : cpus;
	if (w->threads > 256)
		w->threads = 256;
	w->progress = o->progress;
	w->ctx = o->ctx;
	w->cancel = o->cancel;
	w->m.info.created_ns = vmplat_clock_now(CLOCK_REALTIME);
	snprintf(w->m.info.name, sizeof(w->m.info.name), "%s", o->name);
	err = codec_level_ok(w->codec, &w->level);
	if (!err)
		err = store_dup(&w->st, st);
	if (!err && o->parent)
		err = set_parent(w, o->parent);
	if (!err)
		err = begin(w, o);
	if (err)
		store_abort(w);
	else
		*out = w;
	return err;
}

const uint8_t *store_writer_id(const struct store_writer *w)
{
	return w->m.info.id;
}

/* ---- one image: what workers share ------------------------------------- */

struct note {				/* what a job found about some pages */
	uint64_t first;
	uint32_t nr_pages;
	uint8_t kind;
	uint32_t frame_page;
};

struct add {
	struct store_writer *w;
	const char *name;
	int fd;				/* source */
	enum store_source source;
	struct store_add_opts opts;
	struct store_image *parent;	/* or NULL */
	uint64_t bytes, nr_pages, nr_groups;
	uint64_t *bits;			/* pages the source shows */
	int data_fd, index_fd;

	pthread_mutex_t lock;		/* everything below */
	pthread_cond_t turn;
	uint64_t next_page;		/* where take_job() goes on */
	uint64_t next_job, next_turn;
	int err;
	struct vmplat_error why;
	/* turns: */
	struct fmt_index_head head;	/* host byte order until finish() */
	struct fmt_frame *frames;	/* little-endian */
	size_t max_frames;
	struct fmt_group *groups;	/* little-endian */
	uint64_t *refs;
	uint64_t group;			/* the one being collected */
	struct fmt_run runs[FMT_GROUP_PAGES];	/* own, host byte order */
	uint32_t nr_runs;
	struct fmt_run merged[FMT_GROUP_PAGES];
	struct fmt_run *buf;		/* of index_fd, little-endian */
	uint32_t nr_buf;
	uint64_t buf_off;
	/* progress */
	uint64_t total_bytes, done_bytes, stored_bytes;
	uint64_t started_ns, told_ns;
	uint64_t flushed;		/* data handed to write-back */
};

struct job {
	uint64_t nr;
	uint32_t nr_segs, nr_pages, nr_notes, nr_data;
	struct { uint64_t first; uint32_t nr_pages; } segs[FMT_FRAME_PAGES];
	struct note notes[FMT_FRAME_PAGES];
	uint8_t *pages, *packed, *theirs;
	size_t packed_max;
	int64_t packed_len;
	struct codec_ctx *codec;
};

static bool bit(const struct add *a, uint64_t page)
{
	return a->bits[page / 64] >> page % 64 & 1;
}

static uint64_t next_bit(const struct add *a, uint64_t page, bool set)
{
	while (page < a->nr_pages) {
		uint64_t word = a->bits[page / 64];

		word = (set ? word : ~word) >> page % 64;
		if (word) {
			page += __builtin_ctzll(word);
			break;
		}
		page = (page / 64 + 1) * 64;
	}
	return page < a->nr_pages ? page : a->nr_pages;
}

/* ---- what is there to store -------------------------------------------- */

static void mark_extent(struct add *a, uint64_t data, uint64_t hole)
{
	uint64_t first = data / FMT_PAGE_BYTES;
	uint64_t end = (hole + FMT_PAGE_BYTES - 1) / FMT_PAGE_BYTES;

	if (end > a->nr_pages)
		end = a->nr_pages;
	for (uint64_t p = first; p < end; ) {
		if (p % 64 == 0 && end - p >= 64) {
			a->bits[p / 64] = ~0ull;
			p += 64;
		} else {
			a->bits[p / 64] |= 1ull << p % 64;
			p++;
		}
	}
}

static int source_error(const struct add *a, int err, const char *doing)
{
	if (err == ENODATA)
		return store_fail(ENODATA, "%s: the view broke while it was "
				  "read: its memory for side copies was used "
				  "up; allow it more, or take the snapshot "
				  "while less is written", a->name);
	return store_fail(err, "%s: cannot %s the source: %s", a->name, doing,
			  strerror(err));
}

static int find_extents(struct add *a)
{
	off_t pos = 0, hole;

	while (a->bytes && (uint64_t)pos < a->bytes) {
		off_t first = (off_t)a->opts.first;
		off_t data = lseek(a->fd, first + pos, SEEK_DATA);

		if (data < 0 && errno == ENXIO)
			break;
		if (data < 0 && errno == EINVAL && !pos &&
		    a->source == STORE_SRC_FULL) {
			mark_extent(a, 0, a->bytes);
			return 0;
		}
		if (data < 0)
			return source_error(a, errno, "find the extents of");
		hole = lseek(a->fd, data, SEEK_HOLE);
		if (hole < 0)
			return source_error(a, errno, "find the extents of");
		data -= first;
		hole -= first;
		if ((uint64_t)data >= a->bytes)
			break;
		if ((uint64_t)hole > a->bytes)
			hole = (off_t)a->bytes;
		if (hole <= data || data < pos)
			return store_fail(EIO, "%s: the source's extents make "
					  "no sense", a->name);
		mark_extent(a, data, hole);
		pos = hole;
	}
	return 0;
}

static int consumed(struct add *a, uint64_t first, uint64_t nr_pages)
{
	if (!a->opts.consumed)
		return 0;
	return a->opts.consumed(a->opts.ctx, first * FMT_PAGE_BYTES,
				nr_pages * FMT_PAGE_BYTES);
}

/*
 * An image that changed its length within a page: store that page anew, or a
 * later, longer image would inherit bytes from beyond the end.
 */
static void mark_odd_end(struct add *a, uint64_t bytes)
{
	if (bytes % FMT_PAGE_BYTES && bytes < a->nr_pages * FMT_PAGE_BYTES)
		mark_extent(a, bytes - 1, bytes);
}

/* Count what is to be read, and let go of what is not. */
static int plan(struct add *a)
{
	uint64_t set, clear = 0, nr = 0;
	int err;

	err = find_extents(a);
	if (!err && a->source == STORE_SRC_INCREMENT &&
	    a->parent->info->bytes != a->bytes) {
		mark_odd_end(a, a->bytes);
		mark_odd_end(a, a->parent->info->bytes);
	}
	for (set = 0; !err && clear < a->nr_pages; ) {
		set = next_bit(a, clear, true);
		if (set > clear)
			err = consumed(a, clear, set - clear);
		clear = next_bit(a, set, false);
		nr += clear - set;
	}
	a->total_bytes = nr * FMT_PAGE_BYTES;
	return err;
}

/* ---- a job ------------------------------------------------------------- */

/* Returns false when there is nothing left. Under the lock. */
static bool take_job(struct add *a, struct job *j)
{
	j->nr_segs = j->nr_pages = j->nr_notes = j->nr_data = 0;
	while (j->nr_pages < FMT_FRAME_PAGES) {
		uint64_t first = next_bit(a, a->next_page, true), end;

		if (first == a->nr_pages) {
			a->next_page = first;
			break;
		}
		end = next_bit(a, first, false);
		if (end - first > FMT_FRAME_PAGES - j->nr_pages)
			end = first + FMT_FRAME_PAGES - j->nr_pages;
		j->segs[j->nr_segs].first = first;
		j->segs[j->nr_segs++].nr_pages = end - first;
		j->nr_pages += end - first;
		a->next_page = end;
	}
	if (!j->nr_pages)
		return false;
	j->nr = a->next_job++;
	return true;
}

static int read_source(struct add *a, void *buf, uint64_t off, size_t len)
{
	size_t want = len, done = 0;

	if (off + len > a->bytes) {	/* the last page */
		want = a->bytes - off;
		memset((char *)buf + want, 0, len - want);
	}
	while (done < want) {
		ssize_t n = pread(a->fd, (char *)buf + done, want - done,
				  (off_t)(a->opts.first + off + done));

		if (n < 0 && errno == EINTR)
			continue;
		if (n < 0)
			return source_error(a, errno, "read");
		if (!n)
			return store_fail(EIO, "%s: the source became shorter "
					  "while it was stored", a->name);
		done += n;
	}
	return 0;
}

static int read_job(struct add *a, struct job *j)
{
	uint8_t *to = j->pages;
	int err = 0;

	for (uint32_t i = 0; !err && i < j->nr_segs; i++) {
		size_t len = (size_t)j->segs[i].nr_pages * FMT_PAGE_BYTES;

		err = read_source(a, to, j->segs[i].first * FMT_PAGE_BYTES,
				  len);
		if (!err)
			err = consumed(a, j->segs[i].first,
				       j->segs[i].nr_pages);
		to += len;
	}
	return err;
}

static bool page_is_zero(const uint8_t *page)
{
	const uint64_t *p = (const void *)page;

	for (int i = 0; i < 512; i += 8)
		if (p[i] | p[i + 1] | p[i + 2] | p[i + 3] | p[i + 4] |
		    p[i + 5] | p[i + 6] | p[i + 7])
			return false;
	return true;
}

static void note_page(struct job *j, uint64_t page, uint8_t kind)
{
	struct note *n = j->notes + j->nr_notes;

	if (j->nr_notes && n[-1].kind == kind &&
	    n[-1].first + n[-1].nr_pages == page) {
		n[-1].nr_pages++;
		return;
	}
	*n = (struct note){ page, 1, kind,
			    kind == STORE_DATA ? j->nr_data : 0 };
	j->nr_notes++;
}

/* 1 if the parent has the same bytes there. */
static int same_as_parent(struct add *a, struct job *j, uint64_t page,
			  const uint8_t *mine)
{
	uint64_t off = page * FMT_PAGE_BYTES, end = a->parent->info->bytes;
	size_t len = FMT_PAGE_BYTES;
	int err;

	if (off >= end)
		return 0;
	if (len > end - off)
		len = end - off;
	if (off + FMT_PAGE_BYTES <= a->bytes && len < FMT_PAGE_BYTES)
		return 0;	/* it grew within this page: say what it is */
	if (off + len > a->bytes)
		return 0;	/* it shrank within this page */
	err = store_read(a->parent, j->theirs, off, len);
	return err ? err : !memcmp(mine, j->theirs, len);
}

/* Sort the pages; data ones move together at the front. */
static int sort_job(struct add *a, struct job *j)
{
	const uint8_t *from = j->pages;
	int same = 0;

	for (uint32_t i = 0; i < j->nr_segs; i++)
		for (uint32_t k = 0; k < j->segs[i].nr_pages; k++) {
			uint64_t page = j->segs[i].first + k;
			uint8_t kind = STORE_DATA;
			uint8_t *to = j->pages +
				      (size_t)j->nr_data * FMT_PAGE_BYTES;

			if (a->source == STORE_SRC_COMPARE) {
				same = same_as_parent(a, j, page, from);
				if (same < 0)
					return same;
			}
			if (same)
				kind = KIND_INHERIT;
			else if (page_is_zero(from))
				kind = STORE_ZERO;
			note_page(j, page, kind);
			if (kind == STORE_DATA) {
				if (to != from)
					memcpy(to, from, FMT_PAGE_BYTES);
				j->nr_data++;
			}
			from += FMT_PAGE_BYTES;
		}
	return 0;
}

static int pack_job(struct add *a, struct job *j)
{
	size_t raw = (size_t)j->nr_data * FMT_PAGE_BYTES;

	j->packed_len = 0;
	if (!raw)
		return 0;
	j->packed_len = codec_pack(j->codec, a->w->codec, a->w->level,
				   j->packed, j->packed_max, j->pages, raw);
	return j->packed_len < 0 ? j->packed_len : 0;
}

/* ---- the index --------------------------------------------------------- */

static int flush_runs(struct add *a)
{
	int err;

	if (!a->nr_buf)
		return 0;
	err = sio_write(a->index_fd, a->buf, a->nr_buf * sizeof(*a->buf),
			a->buf_off, a->name);
	a->buf_off += a->nr_buf * sizeof(*a->buf);
	a->nr_buf = 0;
	return err;
}

/* Append to a->merged, joined with the run before where that says the same. */
static void merge_run(struct add *a, uint32_t *nr, struct fmt_run r)
{
	struct fmt_run *p = a->merged + *nr - 1;

	if (*nr && p->kind == r.kind && p->source == r.source &&
	    (r.kind != STORE_DATA ||
	     (p->frame == r.frame &&
	      p->frame_page + p->nr_pages == r.frame_page))) {
		p->nr_pages += r.nr_pages;
		return;
	}
	a->merged[(*nr)++] = r;
}

/*
 * Pages [first, end) of the group are not this snapshot's own: what the parent
 * says, or holes. A hole in a source that shows everything hides what the parent
 * has there.
 */
static int merge_parent(struct add *a, uint32_t *nr, uint32_t first,
			uint32_t end, bool hide)
{
	const struct fmt_run *runs = NULL;
	uint16_t self = a->w->m.info.nr_ancestors;
	uint32_t nr_runs = 0;
	int err;

	if (a->parent && a->source != STORE_SRC_FULL &&
	    a->group < a->parent->head.nr_groups) {
		err = image_runs(a->parent, a->group, &runs, &nr_runs);
		if (err)
			return err;
	}
	for (uint32_t i = 0; i < nr_runs && first < end; i++) {
		struct fmt_run r = runs[i];
		uint32_t r_end = r.first + r.nr_pages, skip;

		if (r_end <= first)
			continue;
		skip = first - r.first;
		if (r_end > end)
			r_end = end;
		r.first = first;
		r.nr_pages = r_end - first;
		r.source = r.source ? r.source : self;
		if (r.kind == STORE_DATA)
			r.frame_page += skip;
		if (hide && r.kind != STORE_HOLE) {
			r.kind = STORE_HOLE;
			r.source = r.frame = r.frame_page = 0;
		}
		merge_run(a, nr, r);
		first = r_end;
	}
	if (first < end)
		merge_run(a, nr, (struct fmt_run){
				.first = first, .nr_pages = end - first,
				.kind = STORE_HOLE });
	return 0;
}

/* A stretch without own runs, cut where the source's bits change. */
static int merge_gap(struct add *a, uint32_t *nr, uint32_t first, uint32_t end)
{
	uint64_t base = a->group * FMT_GROUP_PAGES;
	int err = 0;

	if (a->source != STORE_SRC_COMPARE)
		return merge_parent(a, nr, first, end, false);
	while (!err && first < end) {
		bool shown = bit(a, base + first);
		uint64_t stop = next_bit(a, base + first, !shown) - base;

		if (stop > end)
			stop = end;
		err = merge_parent(a, nr, first, stop, !shown);
		first = stop;
	}
	return err;
}

static void count_run(struct add *a, const struct fmt_run *r)
{
	struct fmt_index_head *h = &a->head;

	if (r->kind == STORE_DATA) {
		h->data_pages += r->nr_pages;
		h->own_data_pages += r->source ? 0 : r->nr_pages;
		a->refs[r->source] += r->nr_pages;
	} else if (r->kind == STORE_ZERO) {
		h->zero_pages += r->nr_pages;
		h->own_zero_pages += r->source ? 0 : r->nr_pages;
	} else {
		h->hole_pages += r->nr_pages;
	}
}

/* The group is complete: merge, count, hash, write. */
static int put_group(struct add *a)
{
	uint64_t left = a->nr_pages - a->group * FMT_GROUP_PAGES;
	uint32_t end = left < FMT_GROUP_PAGES ? left : FMT_GROUP_PAGES;
	struct fmt_group *g = a->groups + a->group;
	uint32_t nr = 0, at = 0;
	int err = 0;

	for (uint32_t i = 0; !err && i < a->nr_runs; i++) {
		if (a->runs[i].first > at)
			err = merge_gap(a, &nr, at, a->runs[i].first);
		merge_run(a, &nr, a->runs[i]);
		at = a->runs[i].first + a->runs[i].nr_pages;
	}
	if (!err && at < end)
		err = merge_gap(a, &nr, at, end);
	if (!err && a->nr_buf + nr > INDEX_BUF_RUNS)
		err = flush_runs(a);
	if (err)
		return err;
	for (uint32_t i = 0; i < nr; i++) {
		count_run(a, a->merged + i);
		index_run_swap(a->merged + i);
	}
	g->off = a->buf_off + a->nr_buf * sizeof(*a->buf);
	g->nr_runs = nr;
	index_group_swap(g);
	fmt_hash(&g->hash, a->merged, nr * sizeof(*a->merged));
	memcpy(a->buf + a->nr_buf, a->merged, nr * sizeof(*a->merged));
	a->nr_buf += nr;
	a->nr_runs = 0;
	a->group++;
	return 0;
}

/* Take down a note, cut at groups. */
static int put_note(struct add *a, const struct note *n, uint32_t frame)
{
	uint64_t page = n->first, end = n->first + n->nr_pages;
	int err;

	while (page < end) {
		uint32_t in = page % FMT_GROUP_PAGES;
		uint32_t len = FMT_GROUP_PAGES - in;

		while (a->group < page / FMT_GROUP_PAGES) {
			err = put_group(a);
			if (err)
				return err;
		}
		if (len > end - page)
			len = end - page;
		if (n->kind != KIND_INHERIT)
			a->runs[a->nr_runs++] = (struct fmt_run){
				.first = in, .nr_pages = len, .kind = n->kind,
				.frame = n->kind == STORE_DATA ? frame : 0,
				.frame_page = n->kind == STORE_DATA ?
					n->frame_page + (page - n->first) : 0 };
		page += len;
	}
	return 0;
}

/* ---- turns ------------------------------------------------------------- */

static int new_frame(struct add *a, const struct job *j, struct fmt_frame **f)
{
	size_t max = a->max_frames ? 2 * a->max_frames : 1024;
	bool packed = j->packed_len > 0;
	size_t len = packed ? (size_t)j->packed_len :
			      (size_t)j->nr_data * FMT_PAGE_BYTES;
	void *p;

	if (a->head.nr_frames == UINT32_MAX)
		return store_fail(EFBIG, "%s is too large", a->name);
	if (a->head.nr_frames == a->max_frames) {
		p = reallocarray(a->frames, max, sizeof(*a->frames));
		if (!p)
			return store_fail(ENOMEM, "out of memory");
		a->frames = p;
		a->max_frames = max;
	}
	*f = a->frames + a->head.nr_frames++;
	**f = (struct fmt_frame){
		.off = a->head.data_bytes, .stored_bytes = len,
		.nr_pages = j->nr_data,
		.codec = packed ? a->w->codec : STORE_CODEC_NONE };
	a->head.data_bytes += len;
	return 0;
}

static void tell(struct add *a, bool last)
{
	struct store_progress p = {
		.image = a->name, .done_bytes = a->done_bytes,
		.total_bytes = a->total_bytes,
		.stored_bytes = a->stored_bytes };
	uint64_t now;

	if (!a->w->progress)
		return;
	now = vmplat_clock_now(CLOCK_MONOTONIC);
	if (!last && now - a->told_ns < PROGRESS_NS)
		return;
	a->told_ns = now;
	p.elapsed_ns = now - a->started_ns;
	a->w->progress(a->w->ctx, &p);
}

/* Number and place the job's frame. Under the lock, in the jobs' order. */
static int have_turn(struct add *a, const struct job *j, struct fmt_frame *copy,
		     const struct fmt_hash *hash)
{
	uint32_t nr = a->head.nr_frames;
	struct fmt_frame *f = NULL;
	int err = 0;

	if (j->nr_data) {
		err = new_frame(a, j, &f);
		if (err)
			return err;
		f->hash = *hash;
		*copy = *f;
		index_frame_swap(f);
		a->stored_bytes += copy->stored_bytes;
	}
	for (uint32_t i = 0; !err && i < j->nr_notes; i++)
		err = put_note(a, j->notes + i, nr);
	a->done_bytes += (uint64_t)j->nr_pages * FMT_PAGE_BYTES;
	tell(a, false);
	return err;
}

static void fail(struct add *a, int err)
{
	if (!a->err) {
		a->err = err;
		vmplat_error_get(&a->why);
	}
	pthread_cond_broadcast(&a->turn);
}

/* Let the disk begin early, so that the fsync at the end is short. */
static void write_back(struct add *a)
{
	uint64_t from, to;

	pthread_mutex_lock(&a->lock);
	from = a->flushed;
	to = a->head.data_bytes;
	if (to - from < FLUSH_BYTES)
		to = from;
	a->flushed = to;
	pthread_mutex_unlock(&a->lock);
	if (to > from)
		sync_file_range(a->data_fd, from, to - from,
				SYNC_FILE_RANGE_WRITE);
}

static int do_job(struct add *a, struct job *j)
{
	struct fmt_frame f = { 0 };
	struct fmt_hash hash = { { 0 } };
	const void *bytes;
	int err;

	err = read_job(a, j);
	if (!err)
		err = sort_job(a, j);
	if (!err)
		err = pack_job(a, j);
	bytes = j->packed_len > 0 ? j->packed : j->pages;
	if (!err && j->nr_data)
		fmt_hash(&hash, bytes, j->packed_len > 0 ?
			 (size_t)j->packed_len :
			 (size_t)j->nr_data * FMT_PAGE_BYTES);
	pthread_mutex_lock(&a->lock);
	while (!err && !a->err && a->next_turn != j->nr)
		pthread_cond_wait(&a->turn, &a->lock);
	if (!err && !a->err)
		err = have_turn(a, j, &f, &hash);
	a->next_turn++;
	pthread_cond_broadcast(&a->turn);
	if (err)
		fail(a, err);
	err = a->err;
	pthread_mutex_unlock(&a->lock);
	if (err || !j->nr_data)
		return err;
	err = sio_write(a->data_fd, bytes, f.stored_bytes, f.off, a->name);
	write_back(a);
	return err;
}

static int job_init(struct add *a, struct job *j)
{
	j->packed_max = codec_bound(a->w->codec, FRAME_BYTES);
	j->packed = malloc(j->packed_max);
	j->theirs = malloc(FMT_PAGE_BYTES);
	j->codec = codec_new();
	if (posix_memalign((void **)&j->pages, FMT_PAGE_BYTES, FRAME_BYTES))
		j->pages = NULL;
	return j->pages && j->packed && j->theirs && j->codec ? 0 :
	       store_fail(ENOMEM, "out of memory");
}

static void *work(void *arg)
{
	struct add *a = arg;
	struct job *j = calloc(1, sizeof(*j));
	bool more;
	int err;

	err = j ? job_init(a, j) : store_fail(ENOMEM, "out of memory");
	do {
		if (!err && a->w->cancel && atomic_load(a->w->cancel))
			err = store_fail(ECANCELED, "cancelled");
		pthread_mutex_lock(&a->lock);
		if (err)
			fail(a, err);
		more = !a->err && take_job(a, j);
		pthread_mutex_unlock(&a->lock);
		if (more)
			err = do_job(a, j);
	} while (more);
	if (j) {
		free(j->pages);
		free(j->packed);
		free(j->theirs);
		codec_free(j->codec);
		free(j);
	}
	return NULL;
}

static int work_all(struct add *a)
{
	unsigned int want = a->w->threads, nr = 0;
	struct vmplat_thread *threads[256];
	uint64_t jobs = a->total_bytes / FRAME_BYTES + 1;

	if (want > jobs)
		want = jobs;
	while (nr + 1 < want && !vmplat_thread_start(threads + nr, NULL, work, a))
		nr++;
	work(a);
	while (nr)
		vmplat_thread_join(threads[--nr]);
	if (a->err)
		vmplat_error_put(&a->why);
	return a->err;
}

/* ---- one image --------------------------------------------------------- */

static int write_data_head(struct add *a)
{
	struct fmt_data_head h = { .version = htole32(FMT_VERSION),
				   .head_bytes = htole32(sizeof(h)) };

	memcpy(h.magic, FMT_DATA_MAGIC, 8);
	memcpy(h.id, a->w->m.info.id, sizeof(h.id));
	memcpy(h.image, a->name, strlen(a->name));
	fmt_hash(&h.head_hash, &h, offsetof(struct fmt_data_head, head_hash));
	return sio_write(a->data_fd, &h, sizeof(h), 0, a->name);
}

static int write_tables(struct add *a)
{
	struct fmt_index_head *h = &a->head;
	uint64_t nr_chunks = (h->nr_frames + FMT_CHUNK_FRAMES - 1) /
			     FMT_CHUNK_FRAMES;
	struct fmt_hash *chunks = calloc(nr_chunks + 1, sizeof(*chunks));
	int err;

	if (!chunks)
		return store_fail(ENOMEM, "out of memory");
	for (uint64_t i = 0; i < nr_chunks; i++) {
		uint64_t first = i * FMT_CHUNK_FRAMES, nr = h->nr_frames - first;

		fmt_hash(chunks + i, a->frames + first, sizeof(*a->frames) *
			 (nr < FMT_CHUNK_FRAMES ? nr : FMT_CHUNK_FRAMES));
	}
	for (uint32_t i = 0; i < h->nr_sources; i++)
		a->refs[i] = htole64(a->refs[i]);
	h->groups_off = a->buf_off;
	h->frames_off = h->groups_off + h->nr_groups * sizeof(*a->groups);
	h->chunks_off = h->frames_off + h->nr_frames * sizeof(*a->frames);
	h->refs_off = h->chunks_off + nr_chunks * sizeof(*chunks);
	h->index_bytes = h->refs_off + h->nr_sources * sizeof(*a->refs);
	fmt_hash(&h->groups_hash, a->groups, h->frames_off - h->groups_off);
	fmt_hash(&h->chunks_hash, chunks, h->refs_off - h->chunks_off);
	fmt_hash(&h->refs_hash, a->refs, h->index_bytes - h->refs_off);
	err = sio_write(a->index_fd, a->groups, h->frames_off - h->groups_off,
			h->groups_off, a->name);
	if (!err && h->nr_frames)
		err = sio_write(a->index_fd, a->frames,
				h->chunks_off - h->frames_off, h->frames_off,
				a->name);
	if (!err && nr_chunks)
		err = sio_write(a->index_fd, chunks,
				h->refs_off - h->chunks_off, h->chunks_off,
				a->name);
	if (!err)
		err = sio_write(a->index_fd, a->refs,
				h->index_bytes - h->refs_off, h->refs_off,
				a->name);
	free(chunks);
	return err;
}

/* The rest of the index, its head last, and everything to the disk. */
static int finish(struct add *a, struct fmt_hash *hash)
{
	struct fmt_index_head le;
	int err = 0;

	while (!err && a->group < a->nr_groups)
		err = put_group(a);
	if (!err)
		err = flush_runs(a);
	if (!err)
		err = write_tables(a);
	if (err)
		return err;
	le = a->head;
	index_head_swap(&le);
	fmt_hash(&le.head_hash, &le, offsetof(struct fmt_index_head, head_hash));
	*hash = le.head_hash;
	err = sio_write(a->index_fd, &le, sizeof(le), 0, a->name);
	if (!err)
		err = sio_fsync(a->index_fd, a->name);
	if (!err)
		err = sio_fsync(a->data_fd, a->name);
	return err;
}

static int add_open(struct add *a)
{
	char name[FILE_NAME_CHARS];
	off_t end;
	int err;

	end = lseek(a->fd, 0, SEEK_END);
	if (end < 0)
		return source_error(a, errno, "find the length of");
	if (a->opts.first > (uint64_t)end || a->opts.bytes > end - a->opts.first ||
	    (a->opts.first | a->opts.bytes) % FMT_PAGE_BYTES)
		return store_fail(EINVAL, "%s: the source has %lld bytes, not %llu from %llu on",
				  a->name, (long long)end, (unsigned long long)a->opts.bytes,
				  (unsigned long long)a->opts.first);
	a->bytes = a->opts.bytes ? a->opts.bytes : end - a->opts.first;
	a->nr_pages = a->bytes / FMT_PAGE_BYTES + !!(a->bytes % FMT_PAGE_BYTES);
	a->nr_groups = (a->nr_pages + FMT_GROUP_PAGES - 1) / FMT_GROUP_PAGES;
	a->bits = calloc(a->nr_pages / 64 + 1, sizeof(*a->bits));
	a->groups = calloc(a->nr_groups + 1, sizeof(*a->groups));
	a->refs = calloc(a->w->m.info.nr_ancestors + 1, sizeof(*a->refs));
	a->buf = calloc(INDEX_BUF_RUNS, sizeof(*a->buf));
	if (!a->bits || !a->groups || !a->refs || !a->buf)
		return store_fail(ENOMEM, "out of memory");
	data_name(name, a->name);
	err = a->data_fd = sio_create(a->w->fd, name);
	if (err < 0)
		return err;
	index_name(name, a->name);
	err = a->index_fd = sio_create(a->w->fd, name);
	return err < 0 ? err : 0;
}

static void add_init(struct add *a, struct store_writer *w, const char *name,
		     int fd, const struct store_add_opts *opts)
{
	a->w = w;
	a->name = name;
	a->fd = fd;
	a->data_fd = a->index_fd = -1;
	if (opts)
		a->opts = *opts;
	a->source = a->opts.source;
	if (w->parent)
		a->parent = store_image(w->parent, name);
	if (!a->parent && a->source == STORE_SRC_COMPARE)
		a->source = STORE_SRC_FULL;
	a->buf_off = sizeof(struct fmt_index_head);
	a->started_ns = vmplat_clock_now(CLOCK_MONOTONIC);
	pthread_mutex_init(&a->lock, NULL);
	pthread_cond_init(&a->turn, NULL);
}

static void add_free(struct add *a)
{
	pthread_mutex_destroy(&a->lock);
	pthread_cond_destroy(&a->turn);
	if (a->data_fd >= 0)
		close(a->data_fd);
	if (a->index_fd >= 0)
		close(a->index_fd);
	free(a->bits);
	free(a->groups);
	free(a->frames);
	free(a->refs);
	free(a->buf);
	free(a);
}

static void head_init(struct add *a)
{
	struct fmt_index_head *h = &a->head;

	memcpy(h->magic, FMT_INDEX_MAGIC, 8);
	h->version = FMT_VERSION;
	h->page_bytes = FMT_PAGE_BYTES;
	memcpy(h->id, a->w->m.info.id, sizeof(h->id));
	h->image_bytes = a->bytes;
	h->nr_pages = a->nr_pages;
	h->group_pages = FMT_GROUP_PAGES;
	h->frame_pages_max = FMT_FRAME_PAGES;
	h->nr_groups = a->nr_groups;
	h->data_bytes = FMT_DATA_HEAD_BYTES;
	h->nr_sources = a->w->m.info.nr_ancestors + 1;
}

/* The manifest's entry. */
static int record(struct add *a, const struct fmt_hash *hash)
{
	struct manifest *m = &a->w->m;
	unsigned int nr = m->info.nr_images;
	struct store_image_info *ii;
	struct manifest_image *f;

	ii = reallocarray((void *)m->info.images, nr + 1, sizeof(*ii));
	if (ii)
		m->info.images = ii;
	f = reallocarray(m->files, nr + 1, sizeof(*f));
	if (f)
		m->files = f;
	if (!ii || !f)
		return store_fail(ENOMEM, "out of memory");
	f[nr] = (struct manifest_image){ .index_bytes = a->head.index_bytes,
					 .data_bytes = a->head.data_bytes,
					 .index_hash = *hash };
	ii[nr] = (struct store_image_info){
		.bytes = a->bytes, .data_pages = a->head.data_pages,
		.zero_pages = a->head.zero_pages,
		.hole_pages = a->head.hole_pages,
		.own_data_pages = a->head.own_data_pages,
		.own_zero_pages = a->head.own_zero_pages,
		.codec = a->w->codec, .level = a->w->level,
		.inherits = a->source != STORE_SRC_FULL };
	snprintf(ii[nr].name, sizeof(ii[nr].name), "%s", a->name);
	m->info.nr_images = nr + 1;
	return 0;
}

int store_add_image(struct store_writer *w, const char *name, int fd,
		    const struct store_add_opts *opts)
{
	struct fmt_hash hash;
	struct add *a;
	int err;

	if (!image_name_ok(name))
		return store_fail(EINVAL, "\"%s\" cannot be an image's name",
				  name);
	if (opts && opts->source == STORE_SRC_INCREMENT &&
	    (!w->parent || !store_image(w->parent, name)))
		return store_fail(ENOENT, "an increment of %s has nothing to "
				  "build on", name);
	if (w->m.info.nr_images == STORE_MAX_IMAGES)
		return store_fail(E2BIG, "more than %d images",
				  STORE_MAX_IMAGES);
	a = calloc(1, sizeof(*a));
	if (!a)
		return store_fail(ENOMEM, "out of memory");
	add_init(a, w, name, fd, opts);
	err = a->source == STORE_SRC_COMPARE ? snap_link(w->parent) : 0;
	if (!err)
		err = add_open(a);
	if (!err) {
		head_init(a);
		err = write_data_head(a);
	}
	if (!err)
		err = plan(a);
	if (!err)
		err = work_all(a);
	if (!err)
		err = finish(a, &hash);
	if (!err)
		err = record(a, &hash);
	if (!err)
		tell(a, true);
	else
		w->broken = true;
	add_free(a);
	return err;
}

/* ---- state, description, end ------------------------------------------- */

int store_set_state(struct store_writer *w, const void *buf, size_t len)
{
	int fd, err;

	if (w->has_state)
		return store_fail(EINVAL, "the VM state is set already");
	fd = sio_create(w->fd, STATE_NAME);
	if (fd < 0)
		return fd;
	err = sio_write(fd, buf, len, 0, STATE_NAME);
	if (!err)
		err = sio_fsync(fd, STATE_NAME);
	close(fd);
	fmt_hash(&w->m.state_hash, buf, len);
	w->m.info.state_bytes = len;
	w->has_state = true;
	w->broken |= !!err;
	return err;
}

int store_set_vm(struct store_writer *w, const char *json, uint64_t pause_ns)
{
	char *copy;
	int err;

	err = manifest_vm_ok(json);
	if (err)
		return err;
	copy = strdup(json);
	if (!copy)
		return store_fail(ENOMEM, "out of memory");
	free((void *)w->m.info.vm);
	w->m.info.vm = copy;
	w->m.info.pause_ns = pause_ns;
	return 0;
}

/*
 * The one step that makes it visible. If the directory cannot be made durable
 * afterwards, nobody knows what a power cut would leave: take it back.
 */
static int publish(struct store_writer *w)
{
	char name[DIR_NAME_CHARS + 1];
	int lock, err;

	dir_name(name, "", w->m.info.id);
	lock = store_lock(w->st);
	if (lock < 0)
		return lock;
	err = name_free(w->st, w->m.info.name);
	if (!err)
		err = sio_rename(w->st->fd, w->tmp, name);
	if (!err) {
		err = sio_fsync(w->st->fd, w->st->path);
		if (!err)
			w->tmp[0] = 0;
		else if (renameat(w->st->fd, name, w->st->fd, w->tmp))
			w->tmp[0] = 0;
	}
	close(lock);
	return err;
}

int store_commit(struct store_writer *w)
{
	int err = 0;

	if (w->broken)
		err = store_fail(EINVAL, "the snapshot is not complete");
	if (!err && !w->has_state)
		err = store_set_state(w, "", 0);
	if (!err)
		err = manifest_write(&w->m, w->fd);
	if (!err)
		err = sio_fsync(w->fd, w->tmp);
	if (!err)
		err = publish(w);
	store_abort(w);
	return err;
}

void store_abort(struct store_writer *w)
{
	struct vmplat_error why;

	if (!w)
		return;
	vmplat_error_get(&why);
	if (w->tmp[0])
		sio_remove_tree(w->st->fd, w->tmp);
	if (w->fd >= 0)
		close(w->fd);
	store_snap_close(w->parent);
	store_close(w->st);
	manifest_free(&w->m);
	free(w);
	vmplat_error_put(&why);
}
