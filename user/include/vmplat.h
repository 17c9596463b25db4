/* SPDX-License-Identifier: LGPL-2.1-or-later */
/*
 * libvmplat: the library beside the vmplat kernel module.
 *
 * Functions return 0 or a positive count, or -errno; constructors give a handle
 * through their first argument and leave it NULL on failure. The errno values
 * are those that <linux/vmplat.h> documents for the ioctl behind each function.
 * After a failure vmplat_last_error() has a sentence, with the offending value,
 * for people; it is per thread. Nothing here prints or exits. A handle may be
 * used by several threads at once, except that nobody may use it once it is
 * being closed. close functions accept NULL.
 *
 * Sizes are in bytes, page numbers count vmplat_page_bytes().
 */
#ifndef VMPLAT_H
#define VMPLAT_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <sys/types.h>

#include <linux/vmplat.h>

#ifdef __cplusplus
extern "C" {
#endif

/* ---- errors ------------------------------------------------------------ */

/**
 * vmplat_last_error - the sentence for this thread's latest failure
 *
 * Never NULL; valid until the thread's next call into the library.
 */
const char *vmplat_last_error(void);

/* ---- the device -------------------------------------------------------- */

struct vmplat;

/**
 * vmplat_open - open the control device
 * @dev: the new handle
 * @path: NULL for /dev/vmplat
 *
 * -ENOENT: the module is not loaded; -EACCES: not in the device's group.
 */
int vmplat_open(struct vmplat **dev, const char *path);
void vmplat_close(struct vmplat *dev);
int vmplat_fd(const struct vmplat *dev);
/** vmplat_query - ABI version, page size and capabilities of the module */
int vmplat_query(struct vmplat *dev, struct vmplat_info *info);
size_t vmplat_page_bytes(const struct vmplat *dev);

/* ---- memory ------------------------------------------------------------ */

struct vmplat_mem;

/**
 * vmplat_mem_new - new anonymous guest memory
 * @bytes: its length, page aligned
 * @flags: &enum vmplat_mem_create_flags
 */
int vmplat_mem_new(struct vmplat_mem **mem, struct vmplat *dev, uint64_t bytes,
		   uint32_t flags);
/**
 * vmplat_mem_from_fd - take a memory that is open already
 * @fd: a vmplatfs file; duplicated, the caller keeps its own
 */
int vmplat_mem_from_fd(struct vmplat_mem **mem, struct vmplat *dev, int fd);
void vmplat_mem_close(struct vmplat_mem *mem);
int vmplat_mem_fd(const struct vmplat_mem *mem);
uint64_t vmplat_mem_bytes(const struct vmplat_mem *mem);
/** vmplat_mem_map - map all of it, shared, read-write; unmap with munmap() */
int vmplat_mem_map(struct vmplat_mem *mem, void **addr);

/* ---- dirty logs -------------------------------------------------------- */

struct vmplat_log;

int vmplat_log_new(struct vmplat_log **log, struct vmplat *dev,
		   struct vmplat_mem *mem, uint32_t flags,
		   uint64_t threshold_pages);
void vmplat_log_close(struct vmplat_log *log);
/** vmplat_log_fd - for poll(): readable once threshold_pages are marked */
int vmplat_log_fd(const struct vmplat_log *log);
/**
 * vmplat_log_bitmap - fetch as a bitmap
 * @flags: 0 to borrow, or VMPLAT_LOG_FETCH_F_PEEK or _CLEAR
 * @first: multiple of 64
 * @bits: (nr_pages + 63) / 64 words
 *
 * Returns the number of dirty pages.
 */
int64_t vmplat_log_bitmap(struct vmplat_log *log, uint32_t flags,
			  uint64_t first, uint64_t nr_pages, uint64_t *bits);
/**
 * vmplat_log_ranges - fetch as ranges
 * @next: where to go on, as &vmplat_log_fetch.out_next
 *
 * Returns the number of ranges written to @ranges.
 */
int64_t vmplat_log_ranges(struct vmplat_log *log, uint32_t flags,
			  uint64_t first, uint64_t nr_pages,
			  struct vmplat_range *ranges, size_t nr_ranges,
			  uint64_t *next);
/** vmplat_log_commit - forget what was borrowed; @id may be NULL */
int vmplat_log_commit(struct vmplat_log *log,
		      const uint8_t id[VMPLAT_ID_BYTES]);
/** vmplat_log_abort - give back what was borrowed */
int vmplat_log_abort(struct vmplat_log *log);
int vmplat_log_query(struct vmplat_log *log, struct vmplat_log_status *st);

/* ---- views ------------------------------------------------------------- */

struct vmplat_view;

/** struct vmplat_freeze_mem - one memory to freeze; @log and @id may be NULL */
struct vmplat_freeze_mem {
	struct vmplat_mem *mem;
	struct vmplat_log *log;
	const uint8_t *id;
};

/**
 * vmplat_freeze - freeze memories at one instant
 * @flags: &enum vmplat_view_create_flags
 * @side_bytes: see &vmplat_view_create.side_bytes
 */
int vmplat_freeze(struct vmplat_view **view, struct vmplat *dev,
		  const struct vmplat_freeze_mem *mems, size_t nr_mems,
		  uint32_t flags, uint64_t side_bytes);
/** vmplat_view_from_fd - take a view received from another process; takes over @fd */
int vmplat_view_from_fd(struct vmplat_view **view, int fd);
void vmplat_view_close(struct vmplat_view *view);
/** vmplat_view_fd - for pread(), lseek(SEEK_DATA/SEEK_HOLE), poll() */
int vmplat_view_fd(const struct vmplat_view *view);
uint64_t vmplat_view_bytes(const struct vmplat_view *view);
int vmplat_view_discard(struct vmplat_view *view, uint64_t first,
			uint64_t nr_pages);
int vmplat_view_commit(struct vmplat_view *view,
		       const uint8_t id[VMPLAT_ID_BYTES]);
int vmplat_view_query(struct vmplat_view *view, struct vmplat_view_status *st);

/* ---- demand filling ---------------------------------------------------- */

struct vmplat_fill;

int vmplat_fill_new(struct vmplat_fill **fill, struct vmplat *dev,
		    struct vmplat_mem *mem);
void vmplat_fill_close(struct vmplat_fill *fill);
/** vmplat_fill_fd - read() gives wanted page numbers, poll() says when */
int vmplat_fill_fd(const struct vmplat_fill *fill);
/** vmplat_fill_put - supply pages; @buf NULL for zeroes */
int vmplat_fill_put(struct vmplat_fill *fill, uint64_t first, uint64_t nr_pages,
		    const void *buf);
int vmplat_fill_end(struct vmplat_fill *fill);
int vmplat_fill_query(struct vmplat_fill *fill, struct vmplat_fill_status *st);

#ifdef __cplusplus
}
#endif

#endif /* VMPLAT_H */
