/* SPDX-License-Identifier: LGPL-2.1-or-later */
/*
 * What the store's files share. Arrows run
 *
 *   write -> dir -> snap -> image -> manifest, codec -> io
 *
 * A *store_image* is an image as one snapshot stored it: its index and its data
 * file. The image of the newest snapshot of a chain knows the images of those
 * ancestors that some of its pages come from, one by source number.
 *
 * A snapshot's directory is held with flock(): shared by readers and by writers
 * of increments, exclusive by its own writer and by its removal. The store's
 * directory is locked, exclusive and briefly, by whoever adds or takes away an
 * entry.
 */
#ifndef VMPLAT_STORE_INTERNAL_H
#define VMPLAT_STORE_INTERNAL_H

#include <pthread.h>
#include <stdatomic.h>

#include "codec.h"
#include "format.h"
#include "io.h"
#include "manifest.h"
#include "store.h"

#define TMP_PREFIX	".tmp-"		/* a writer's directory */
#define DEL_PREFIX	".del-"		/* being removed */
#define DIR_NAME_CHARS	(5 + STORE_ID_CHARS)

struct store {
	int fd;
	char *path;
};

struct cache;

struct store_image {
	const struct store_image_info *info;
	const struct manifest_image *files;
	char *what;			/* "NAME/memory", for sentences */
	int data_fd;
	int index_fd;
	struct fmt_index_head head;	/* host byte order */
	struct fmt_group *groups;	/* host byte order */
	struct fmt_hash *chunks;
	uint64_t *refs;			/* host byte order */
	uint64_t nr_chunks;
	/* loaded when first needed, published by compare-and-swap, kept */
	_Atomic(struct fmt_run *) *group_runs;
	_Atomic(struct fmt_frame *) *chunk_frames;
	/* [0] is this image; NULL where no page comes from */
	struct store_image **sources;
	uint32_t nr_sources;
	struct cache *cache;		/* the snapshot's */
};

struct store_snap {
	int fd;
	struct store *st;		/* own handle */
	struct manifest m;
	struct store_image *images;	/* beside m.info.images */
	struct store_snap **ancestors;	/* opened, or NULL: [k] for source k */
	struct cache *cache;
};

/* ---- image.c ----------------------------------------------------------- */

/* image_open - open and check the files of m->info.images[@nr] */
int image_open(struct store_image *img, const struct manifest *m,
	       unsigned int nr, int dirfd);
void image_close(struct store_image *img);
uint64_t image_group_pages(const struct store_image *img, uint64_t group);
/* image_runs - a group's runs, checked; in host byte order */
int image_runs(struct store_image *img, uint64_t group,
	       const struct fmt_run **runs, uint32_t *nr);
/* image_frame - one frame record, checked; in host byte order */
int image_frame(struct store_image *img, uint32_t nr, struct fmt_frame *f);
/*
 * image_frame_read - read, check and decompress a frame
 * @stored: scratch of image_frame_scratch() bytes
 */
int image_frame_read(struct store_image *img, uint32_t nr,
		     const struct fmt_frame *f, struct codec_ctx *c,
		     void *stored, void *pages);
#define FRAME_SCRATCH	((size_t)FMT_FRAME_PAGES_MAX * FMT_PAGE_BYTES + 65536)
void index_head_swap(struct fmt_index_head *h);
void index_run_swap(struct fmt_run *r);
void index_frame_swap(struct fmt_frame *f);
void index_group_swap(struct fmt_group *g);

/* ---- read.c ------------------------------------------------------------ */

struct cache *cache_new(size_t bytes);
void cache_free(struct cache *c);

/* ---- snap.c ------------------------------------------------------------ */

/*
 * snap_open_shallow - the manifest and this snapshot's own files only: its runs
 * can be looked at, but not read
 */
int snap_open_shallow(struct store_snap **snap, struct store *st,
		      const uint8_t id[STORE_ID_BYTES]);
/* snap_check - is each ancestor there that pages come from, and the right one? */
int snap_check(struct store_snap *snap);
/* snap_link - open these ancestors: from now on images can be read */
int snap_link(struct store_snap *snap);

/* ---- dir.c ------------------------------------------------------------- */

int store_dup(struct store **copy, const struct store *st);
/* store_lock - returns a descriptor; closing it unlocks */
int store_lock(const struct store *st);
/* store_find - the id behind a name or an id */
int store_find(const struct store *st, const char *ref,
	       uint8_t id[STORE_ID_BYTES]);
/* store_gc_locked - store_gc() for one who holds the lock */
int store_gc_locked(struct store *st, bool dry_run, unsigned int *removed,
		    uint64_t *bytes);
void dir_name(char buf[DIR_NAME_CHARS + 1], const char *prefix,
	      const uint8_t id[STORE_ID_BYTES]);

#endif /* VMPLAT_STORE_INTERNAL_H */
