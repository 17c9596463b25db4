/* SPDX-License-Identifier: LGPL-2.1-or-later */
/*
 * A disk image and its frozen past.
 *
 * A `blk` is one open raw image (file or block device), locked against a
 * second writer.  It keeps a bitmap of 64 KiB *clusters* changed since the last
 * committed snapshot.  Freezing it yields a *view*: the content at that instant
 * of either everything or of what changed.  While a view is open, the first
 * write to a cluster the view still needs copies the old cluster to a bounded
 * side store (copy-before-write), so the guest never waits for the reader.
 *
 *	blk_freeze -> blk_view_copy -> blk_view_commit   the increment is durable
 *	                            \-> blk_view_abort    its bits go back
 *
 * The bits of an increment are only borrowed: abort, a failed copy or a client
 * that dies puts them back, so no reader can lose a cluster by crashing.
 * A side store that runs full breaks the view, never the guest.
 *
 * Every function returns 0 or -errno unless it says otherwise.  Guest I/O may
 * come from any number of threads; one thread at a time drives a view, others
 * may ask for its progress or cancel it.
 */
#ifndef VMPLAT_RUN_BLK_H
#define VMPLAT_RUN_BLK_H

#include <stdatomic.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <sys/uio.h>

#define BLK_CLUSTER_SHIFT	16
#define BLK_CLUSTER_BYTES	(1u << BLK_CLUSTER_SHIFT)
#define BLK_SECTOR_BYTES	512u

struct blk;
struct blk_view;

#define BLK_OPEN_READONLY	(1u << 0)
#define BLK_OPEN_NOLOCK		(1u << 1)	/* image known to be private */

/*
 * blk_open - open and lock a raw image
 * @err: a sentence for the user when it fails (may be NULL)
 *
 * -EBUSY: locked by someone else; @err names the file and, where /proc shows
 * it, the process.  -EINVAL: size is not a multiple of 512 bytes.
 */
int blk_open(const char *path, unsigned int flags, struct blk **out,
	     char *err, size_t err_size);
/* One more holder, to be undone with blk_close(); returns @blk. */
struct blk *blk_get(struct blk *blk);
/*
 * The last holder's close closes the image and aborts a view that is still open;
 * no view call may be running.
 */
void blk_close(struct blk *blk);

const char *blk_path(const struct blk *blk);
uint64_t blk_size_bytes(const struct blk *blk);
bool blk_readonly(const struct blk *blk);
uint32_t blk_io_block_bytes(const struct blk *blk);

/* Whole transfer or an error; outside the image is -EINVAL. */
int blk_readv(struct blk *blk, const struct iovec *iov, int nr, uint64_t off);
int blk_writev(struct blk *blk, const struct iovec *iov, int nr, uint64_t off);
int blk_flush(struct blk *blk);
int blk_discard(struct blk *blk, uint64_t off, uint64_t len);
int blk_write_zeroes(struct blk *blk, uint64_t off, uint64_t len, bool unmap);

/* --- point-in-time views ------------------------------------------------ */

enum blk_freeze_mode {
	BLK_FREEZE_FULL,	/* all data of the image */
	BLK_FREEZE_INCREMENT,	/* clusters changed since the last commit */
};

/*
 * blk_side_limits - bound the side store of later freezes
 * @ram_bytes: kept in memory first (default 64 MiB)
 * @file_bytes: then in an unlinked temporary file (default 4 GiB)
 * @dir: where that file goes; NULL: $TMPDIR or /var/tmp
 */
int blk_side_limits(struct blk *blk, uint64_t ram_bytes, uint64_t file_bytes,
		    const char *dir);

/* True once a full view was committed, so an increment has a base. */
bool blk_has_base(struct blk *blk);
/*
 * blk_assume_base - the image is exactly what the last snapshot holds
 *
 * For a disk just restored from it: increments go on from there.  Before the
 * first write.  -EBUSY: a view is open.
 */
int blk_assume_base(struct blk *blk);
/* Clusters changed since the last commit, in bytes. */
uint64_t blk_dirty_bytes(struct blk *blk);

/*
 * blk_freeze - take the instant
 *
 * Waits for writes in flight (none if the device is quiesced) and moves a
 * bitmap; copies no data.  -EBUSY: a view is open already.
 * -ENODATA: an increment without a committed full view before it.
 */
int blk_freeze(struct blk *blk, enum blk_freeze_mode mode,
	       struct blk_view **out);

struct blk_progress {
	uint64_t done_bytes;	/* of the frozen clusters, decided so far */
	uint64_t total_bytes;
	uint64_t written_bytes;	/* that went into the output */
	uint64_t side_bytes;	/* now held by the side store */
};

typedef void blk_progress_fn(void *opaque, const struct blk_progress *p);

/*
 * blk_view_copy - write the frozen content into a sparse raw file
 * @out_fd: empty file; gets the image's size and each cluster at its own
 *	offset.  Full: holes and zero clusters stay holes.  Increment: every
 *	changed cluster is written, zeroes too, so hole means "inherit".
 * @progress: called now and then from this thread, may be NULL
 * @cancel: polled, may be NULL
 *
 * -EOPNOTSUPP: an increment, and the file system of @out_fd does not keep holes.
 *
 * Blocking: call it from a background thread, once.  Does not fsync @out_fd.
 * -ECANCELED; -ENOSPC and others from the output or, when the side store ran
 * full or could not read the image, from the view itself.
 */
int blk_view_copy(struct blk_view *view, int out_fd,
		  blk_progress_fn *progress, void *opaque,
		  const atomic_bool *cancel);

/* Bytes the copy has to decide about (frozen clusters). */
uint64_t blk_view_total_bytes(const struct blk_view *view);
/* Bit n of word n / 64: cluster n is part of this view.  Valid until it ends. */
const uint64_t *blk_view_map(const struct blk_view *view, uint64_t *nr_clusters);

/*
 * The copy is durable: forget the borrowed bits.  -EBUSY unless blk_view_copy
 * succeeded (the view then stays open); otherwise @view is gone.
 */
int blk_view_commit(struct blk_view *view);
/* Give the borrowed bits back.  Always succeeds; @view is gone. */
void blk_view_abort(struct blk_view *view);

#endif
