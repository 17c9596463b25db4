/* SPDX-License-Identifier: LGPL-2.1-or-later */
/*
 * store: snapshots of virtual machines as directories of plain files.
 *
 *   store    a directory that holds snapshots, one directory each
 *   snapshot a manifest, one blob of VM state, and images
 *   image    guest memory or a disk: a byte range whose pages are *data*,
 *            *zero* (written, all zeroes) or *hole* (never written)
 *   parent   the snapshot an increment builds on; pages it does not mention are
 *            *inherited*. Each index is flattened when it is written, so that a
 *            page is found in one lookup however long the chain is.
 *
 * Documentation/snapshot-format.rst has the bytes and the argument why a crash
 * at any instant leaves either the old store or the new one.
 *
 * Functions return 0 or -errno; store_error() has the sentence for people, per
 * thread. Nothing here prints or exits. Files are read with pread() only: one
 * that was cut short or changed gives an error, never a signal and never a
 * wrong page. -EBADMSG means damage (a checksum or a field is wrong), -ESTALE
 * that an ancestor is not the one the snapshot was made on, -ENOENT that it is
 * not there.
 */
#ifndef VMPLAT_STORE_H
#define VMPLAT_STORE_H

#include <stdatomic.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include <vmplat_error.h>

#define STORE_DEFAULT_DIR	"/var/lib/vmplat/snapshots"
#define STORE_PAGE_BYTES	4096u
#define STORE_ID_BYTES		16
#define STORE_ID_CHARS		(2 * STORE_ID_BYTES)
#define STORE_NAME_CHARS	64
#define STORE_IMAGE_NAME_CHARS	32
#define STORE_MAX_IMAGES	256

/** store_error - the sentence for this thread's latest failure; <vmplat_error.h> has the rest */
static inline const char *store_error(void)
{
	return vmplat_last_error();
}

/* ---- the store --------------------------------------------------------- */

struct store;

enum store_open_flags {
	STORE_OPEN_CREATE	= 1 << 0,	/* make the directory if it is not there */
};

/**
 * store_open - open a directory of snapshots
 * @dir: NULL for $VMPLAT_STORE, or else STORE_DEFAULT_DIR
 */
int store_open(struct store **st, const char *dir, unsigned int flags);
void store_close(struct store *st);
/** store_fd - the directory; O_TMPFILE files made in it are on the store's disk */
int store_fd(const struct store *st);
const char *store_path(const struct store *st);

void store_id_to_hex(const uint8_t id[STORE_ID_BYTES],
		     char hex[STORE_ID_CHARS + 1]);
/** store_id_from_hex - -EINVAL unless @hex is 32 hexadecimal digits */
int store_id_from_hex(uint8_t id[STORE_ID_BYTES], const char *hex);
/** store_name_ok - may a snapshot be called that? [A-Za-z0-9][A-Za-z0-9._-]*, no id */
bool store_name_ok(const char *name);

/* ---- what a snapshot says about itself --------------------------------- */

enum store_codec {
	STORE_CODEC_NONE	= 0,
	STORE_CODEC_ZSTD	= 1,
	STORE_CODEC_LZ4		= 2,
};

const char *store_codec_name(enum store_codec codec);
/** store_codec_parse - -EINVAL for an unknown name */
int store_codec_parse(enum store_codec *codec, const char *name);

struct store_image_info {
	char name[STORE_IMAGE_NAME_CHARS + 1];
	uint64_t bytes;			/* length of the image */
	uint64_t stored_bytes;		/* data and index files of this snapshot */
	uint64_t data_pages;		/* of the whole image, inherited included */
	uint64_t zero_pages;
	uint64_t hole_pages;
	uint64_t own_data_pages;	/* stored in this snapshot itself */
	uint64_t own_zero_pages;
	enum store_codec codec;
	int level;
	bool inherits;			/* some pages may come from ancestors */
};

struct store_info {
	uint8_t id[STORE_ID_BYTES];
	uint8_t root[STORE_ID_BYTES];	/* hash over everything */
	bool has_parent;
	uint8_t parent[STORE_ID_BYTES];
	char name[STORE_NAME_CHARS + 1];
	uint64_t created_ns;		/* CLOCK_REALTIME */
	uint64_t pause_ns;
	uint64_t state_bytes;
	uint64_t stored_bytes;		/* all files */
	unsigned int nr_ancestors;	/* depth of the chain below */
	unsigned int nr_images;
	const struct store_image_info *images;
	const char *vm;			/* JSON object, opaque here */
};

/* ---- reading ----------------------------------------------------------- */

struct store_snap;
struct store_image;

/**
 * store_snap_open - open a snapshot for reading
 * @ref: name, id (32 hexadecimal digits), or, when it has a '/', the path of a
 *	snapshot directory, whose ancestors lie beside it. @st may be NULL then.
 *
 * Checks the manifest, the indexes' heads, and that every ancestor some page
 * comes from is there and is the right one. While it is open the snapshot and
 * these ancestors cannot be removed. @st may be closed before the snapshot.
 */
int store_snap_open(struct store_snap **snap, struct store *st, const char *ref);
void store_snap_close(struct store_snap *snap);
const struct store_info *store_snap_info(const struct store_snap *snap);
/** store_snap_cache - most memory for decompressed frames; before the first read */
int store_snap_cache(struct store_snap *snap, size_t bytes);

/** store_state - the VM state, checked; free() it */
int store_state(struct store_snap *snap, void **buf, size_t *len);

/** store_image - by name; NULL (and store_error()) if there is none */
struct store_image *store_image(struct store_snap *snap, const char *name);
uint64_t store_image_bytes(const struct store_image *img);
/**
 * store_read - read a byte range; any number of threads at once
 *
 * All or nothing: -ERANGE when it reaches beyond the end of the image.
 */
int store_read(struct store_image *img, void *buf, uint64_t off, size_t len);

enum store_kind {
	STORE_HOLE	= 0,		/* never written: reads as zeroes */
	STORE_ZERO	= 1,		/* written, all zeroes */
	STORE_DATA	= 2,
};

struct store_extent {
	uint64_t off;
	uint64_t len;
	enum store_kind kind;
	bool inherited;			/* not this snapshot's own */
};

/**
 * store_extent - the longest run of one kind that starts at @off
 *
 * Returns 1, or 0 at the end of the image, or -errno. The run may be cut at
 * multiples of 16 MiB. Walk: off = 0; while (... == 1) off = ext.off + ext.len.
 */
int store_extent(struct store_image *img, uint64_t off, struct store_extent *ext);

/* most bytes of data that store_around() gives */
#define STORE_AROUND_MAX	((size_t)4 << 20)

/**
 * store_around - what is worth reading together with the page at @off
 *
 * As store_extent(), but it may begin before @off, and data ends where its frame
 * ends: to read all of it takes no more than to read one page of it. @ext can be
 * walked from end to end in the same way.
 */
int store_around(struct store_image *img, uint64_t off, struct store_extent *ext);

/* ---- progress ---------------------------------------------------------- */

struct store_progress {
	const char *image;		/* image worked on */
	uint64_t done_bytes;		/* of the source (verify: of stored frames) */
	uint64_t total_bytes;
	uint64_t stored_bytes;		/* written so far */
	uint64_t elapsed_ns;		/* on this image */
};

/** called now and then, from any worker, one call at a time */
typedef void (*store_progress_fn)(void *ctx, const struct store_progress *p);

/* ---- verifying --------------------------------------------------------- */

struct store_verify_opts {
	store_progress_fn progress;	/* may be NULL */
	void *ctx;
	const atomic_bool *cancel;	/* may be NULL; -ECANCELED */
	bool no_ancestors;		/* this snapshot's own files only */
};

/**
 * store_verify - read and check every byte of a snapshot and of its ancestors
 * @opts: may be NULL
 */
int store_verify(struct store_snap *snap, const struct store_verify_opts *opts);

/* ---- writing ----------------------------------------------------------- */

struct store_writer;

struct store_create_opts {
	const char *name;
	const char *parent;		/* name or id, or NULL for a full snapshot */
	enum store_codec codec;
	int level;			/* 0: the codec's fast default */
	unsigned int threads;		/* 0: one a CPU, at most 8 */
	store_progress_fn progress;	/* may be NULL */
	void *ctx;
	const atomic_bool *cancel;	/* may be NULL; -ECANCELED */
};

/**
 * store_create - begin a snapshot; nothing is visible before store_commit()
 *
 * -EEXIST: the name is taken. The parent cannot be removed meanwhile.
 */
int store_create(struct store_writer **w, struct store *st,
		 const struct store_create_opts *opts);
/** store_writer_id - the snapshot's identity, known from the beginning */
const uint8_t *store_writer_id(const struct store_writer *w);

enum store_source {
	/* what SEEK_DATA shows is everything, the rest was never written */
	STORE_SRC_FULL		= 0,
	/*
	 * what SEEK_DATA shows has changed, the rest is inherited; -ENOENT if
	 * the parent has no such image
	 */
	STORE_SRC_INCREMENT	= 1,
	/*
	 * everything, as FULL, but pages equal to the parent's are inherited;
	 * the same as FULL if the parent has no such image
	 */
	STORE_SRC_COMPARE	= 2,
};

struct store_add_opts {
	enum store_source source;
	/*
	 * The source's pages in [off, off + len) will not be read again; called
	 * once for every page, from any worker. May be NULL.
	 */
	int (*consumed)(void *ctx, uint64_t off, uint64_t len);
	void *ctx;
	/*
	 * The image is @bytes of the descriptor from @first on, both multiples of
	 * the page size; 0 bytes: up to its end. Offsets elsewhere count in the image.
	 */
	uint64_t first, bytes;
};

/**
 * store_add_image - store what a file descriptor shows
 * @name: [a-z][a-z0-9-]*, "memory", "disk0", ...
 * @fd: pread() gives the content, lseek(SEEK_DATA/SEEK_HOLE) the extents; its
 *	size is the image's. It must not change meanwhile: a view, or a file
 *	that nobody writes.
 * @opts: may be NULL
 *
 * -ENODATA: the source is a view that broke.
 */
int store_add_image(struct store_writer *w, const char *name, int fd,
		    const struct store_add_opts *opts);
int store_set_state(struct store_writer *w, const void *buf, size_t len);
/** store_set_vm - @json: a JSON object */
int store_set_vm(struct store_writer *w, const char *json, uint64_t pause_ns);
/**
 * store_commit - make it durable and visible, in this order
 *
 * When it returns 0, the snapshot survives a power cut. On any error nothing of
 * it is visible. Frees @w either way.
 */
int store_commit(struct store_writer *w);
/** store_abort - forget it; accepts NULL */
void store_abort(struct store_writer *w);

/* ---- keeping house ----------------------------------------------------- */

/**
 * store_list - every snapshot, oldest first
 * @broken: told of each directory that is none, with the reason; may be NULL
 *
 * Free with store_list_free().
 */
int store_list(struct store *st, struct store_info **list, size_t *nr,
	       void (*broken)(void *ctx, const char *dir, const char *why),
	       void *ctx);
void store_list_free(struct store_info *list, size_t nr);

/**
 * store_remove - remove a snapshot
 *
 * -ENOTEMPTY: others build on it, store_error() names them; -EBUSY: somebody
 * reads it or writes an increment on it.
 */
int store_remove(struct store *st, const char *ref);
/**
 * store_gc - remove what dead writers and interrupted removals left
 * @removed, @bytes: what there was; may be NULL
 * @dry_run: only count
 */
int store_gc(struct store *st, bool dry_run, unsigned int *removed,
	     uint64_t *bytes);

#endif /* VMPLAT_STORE_H */
