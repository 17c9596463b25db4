// SPDX-License-Identifier: LGPL-2.1-or-later
/*
 * Reading everything: every checksum, every frame decompressed, every count
 * counted again, of a snapshot and of the chain below it.
 */
#include "internal.h"

#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include <vmplat_clock.h>
#include <vmplat_thread.h>

#define PROGRESS_NS	100000000ull

struct pass {
	struct store_image *img;
	const struct store_verify_opts *opts;
	pthread_mutex_t lock;		/* everything below */
	uint64_t next;			/* frame */
	int err;
	struct vmplat_error why;
	uint64_t done_bytes, started_ns, told_ns;
};

static int wrong(const struct store_image *img, const char *why)
{
	return store_fail(EBADMSG, "%s: damaged: %s", img->what, why);
}

/* ---- frames ------------------------------------------------------------ */

/* Frames fill the data file without gap or overlap. */
static int check_layout(struct store_image *img)
{
	uint64_t off = FMT_DATA_HEAD_BYTES;
	struct fmt_frame f;
	int err;

	for (uint64_t i = 0; i < img->head.nr_frames; i++) {
		err = image_frame(img, i, &f);
		if (err)
			return err;
		if (f.off != off)
			return wrong(img, "its frames do not lie end to end");
		off += f.stored_bytes;
	}
	return off == img->head.data_bytes ? 0 :
	       wrong(img, "its frames do not fill the data file");
}

static void tell(struct pass *p, uint64_t bytes)
{
	struct store_progress pr = { .image = p->img->info->name,
				     .total_bytes = p->img->head.data_bytes };
	uint64_t now = vmplat_now_ns();

	p->done_bytes += bytes;
	if (!p->opts || !p->opts->progress ||
	    (bytes && now - p->told_ns < PROGRESS_NS))
		return;
	p->told_ns = now;
	pr.done_bytes = p->done_bytes;
	pr.elapsed_ns = now - p->started_ns;
	p->opts->progress(p->opts->ctx, &pr);
}

static int check_frame(struct pass *p, uint64_t nr, struct codec_ctx *c,
		       void *stored, void *pages)
{
	struct fmt_frame f;
	int err;

	if (p->opts && p->opts->cancel && atomic_load(p->opts->cancel))
		return store_fail(ECANCELED, "cancelled");
	err = image_frame(p->img, nr, &f);
	if (!err)
		err = image_frame_read(p->img, nr, &f, c, stored, pages);
	if (err)
		return err;
	pthread_mutex_lock(&p->lock);
	tell(p, f.stored_bytes);
	pthread_mutex_unlock(&p->lock);
	return 0;
}

static void *check_frames(void *arg)
{
	struct pass *p = arg;
	struct codec_ctx *c = codec_new();
	void *stored = malloc(FRAME_SCRATCH), *pages = malloc(FRAME_SCRATCH);
	bool more;
	int err;

	err = c && stored && pages ? 0 : store_fail(ENOMEM, "out of memory");
	do {
		uint64_t nr;

		pthread_mutex_lock(&p->lock);
		if (err && !p->err) {
			p->err = err;
			vmplat_error_get(&p->why);
		}
		nr = p->next;
		more = !p->err && nr < p->img->head.nr_frames;
		p->next += more;
		pthread_mutex_unlock(&p->lock);
		if (more)
			err = check_frame(p, nr, c, stored, pages);
	} while (more);
	codec_free(c);
	free(stored);
	free(pages);
	return NULL;
}

static int check_data(struct store_image *img,
		      const struct store_verify_opts *opts)
{
	struct pass p = { .img = img, .opts = opts, .started_ns = vmplat_now_ns() };
	long cpus = sysconf(_SC_NPROCESSORS_ONLN);
	struct vmplat_thread *threads[8];
	int nr = 0;

	pthread_mutex_init(&p.lock, NULL);
	while (nr + 1 < cpus && nr < 8 &&
	       (uint64_t)nr + 1 < img->head.nr_frames &&
	       !vmplat_thread_start(threads + nr, NULL, check_frames, &p))
		nr++;
	check_frames(&p);
	while (nr)
		vmplat_thread_join(threads[--nr]);
	if (!p.err)
		tell(&p, 0);
	pthread_mutex_destroy(&p.lock);
	if (p.err)
		vmplat_error_put(&p.why);
	return p.err;
}

/* ---- index ------------------------------------------------------------- */

struct counts {
	uint64_t pages[3], own[3];
	uint64_t *refs;
};

/* Does the run's frame exist and hold its pages? */
static int check_run(struct store_image *img, const struct fmt_run *r)
{
	struct store_image *from = img->sources[r->source];
	struct fmt_frame f;
	int err;

	if (r->kind != STORE_DATA)
		return 0;
	if (!from)	/* an ancestor of an ancestor: its own turn comes */
		return img->refs[r->source] ? 0 :
		       wrong(img, "pages come from an ancestor that it does "
			     "not count on");
	err = image_frame(from, r->frame, &f);
	if (err)
		return err;
	return r->frame_page + r->nr_pages <= f.nr_pages ? 0 :
	       wrong(img, "a page lies outside its frame");
}

static int check_group(struct store_image *img, uint64_t group,
		       struct counts *c)
{
	const struct fmt_run *runs;
	uint32_t nr;
	int err;

	err = image_runs(img, group, &runs, &nr);
	for (uint32_t i = 0; !err && i < nr; i++) {
		err = check_run(img, runs + i);
		c->pages[runs[i].kind] += runs[i].nr_pages;
		if (!runs[i].source)
			c->own[runs[i].kind] += runs[i].nr_pages;
		if (runs[i].kind == STORE_DATA)
			c->refs[runs[i].source] += runs[i].nr_pages;
	}
	return err;
}

static int check_index(struct store_image *img)
{
	const struct fmt_index_head *h = &img->head;
	struct counts c = { .refs = calloc(img->nr_sources, sizeof(*c.refs)) };
	int err = 0;

	if (!c.refs)
		return store_fail(ENOMEM, "out of memory");
	for (uint64_t g = 0; !err && g < h->nr_groups; g++)
		err = check_group(img, g, &c);
	if (!err && (c.pages[STORE_DATA] != h->data_pages ||
		     c.pages[STORE_ZERO] != h->zero_pages ||
		     c.pages[STORE_HOLE] != h->hole_pages ||
		     c.own[STORE_DATA] != h->own_data_pages ||
		     c.own[STORE_ZERO] != h->own_zero_pages ||
		     memcmp(c.refs, img->refs,
			    img->nr_sources * sizeof(*c.refs))))
		err = wrong(img, "the index counts its pages wrongly");
	free(c.refs);
	return err;
}

/* ---- snapshots --------------------------------------------------------- */

static int check_own(struct store_snap *s, const struct store_verify_opts *opts)
{
	size_t len;
	void *buf;
	int err;

	err = store_state(s, &buf, &len);
	free(buf);
	if (!err)
		err = manifest_ancestors(&s->m, s->fd);
	for (unsigned int i = 0; !err && i < s->m.info.nr_images; i++) {
		struct store_image *img = s->images + i;

		err = check_layout(img);
		if (!err)
			err = check_index(img);
		if (!err)
			err = check_data(img, opts);
	}
	return err;
}

static int check_ancestor(struct store_snap *s, unsigned int nr,
			  const struct store_verify_opts *opts)
{
	const struct ancestor *a = s->m.ancestors + nr;
	char hex[STORE_ID_CHARS + 1];
	struct store_snap *anc;
	int err;

	store_id_to_hex(a->id, hex);
	err = snap_open_shallow(&anc, s->st, a->id);
	if (err)
		return store_fail(err, "%s builds on snapshot %s: %s",
				  s->m.info.name, hex, store_error());
	if (memcmp(a->root, anc->m.info.root, STORE_ID_BYTES))
		err = store_fail(ESTALE, "%s was made on another state of "
				 "snapshot %s (%s): its root hash differs",
				 s->m.info.name, anc->m.info.name, hex);
	else
		err = check_own(anc, opts);
	store_snap_close(anc);
	return err;
}

int store_verify(struct store_snap *snap, const struct store_verify_opts *opts)
{
	int err = check_own(snap, opts);

	if (opts && opts->no_ancestors)
		return err;
	for (unsigned int i = snap->m.info.nr_ancestors; !err && i; i--)
		err = check_ancestor(snap, i - 1, opts);
	return err;
}
