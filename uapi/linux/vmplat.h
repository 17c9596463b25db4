/* SPDX-License-Identifier: GPL-2.0 WITH Linux-syscall-note */
/*
 * vmplat: guest memory as a file, and its past as files too.
 *
 * Four objects, each a file descriptor, so that lifetime, hand-over
 * (SCM_RIGHTS), permission and clean-up after kill -9 are the kernel's own:
 *
 *   memory  a regular file of guest memory: VMPLAT_MEM_CREATE, or any file of a
 *           mounted vmplatfs
 *   log     a cursor on a memory: "what may have changed since I last asked"
 *   view    one frozen instant of one or several memories, read like a file
 *   domain  an address space in which devices see ranges of memories
 *
 * Changelog
 *   1  memory, log, view
 *   2  demand filling (VMPLAT_FILL_*)
 *   3  pinnable memory (VMPLAT_MEM_F_PINNABLE)
 *   4  holds on PCI functions (VMPLAT_PCI_HOLD)
 *   5  memory in blocks of 2 MiB (VMPLAT_MEM_F_HUGE), IOMMU domains (VMPLAT_DOMAIN_*);
 *      what is mapped into a domain cannot be punched out: EBUSY
 *   6  virtual functions with an owner (VMPLAT_SRIOV_*)
 *   7  how much of what a log reports nobody saw written: out_nr_unsure of
 *      VMPLAT_LOG_FETCH and VMPLAT_LOG_STATUS, out_nr_device of the latter
 */
#ifndef _UAPI_LINUX_VMPLAT_H
#define _UAPI_LINUX_VMPLAT_H

#include <linux/ioctl.h>
#include <linux/types.h>

/* VMPLAT_ABI - counts up with each entry of the changelog above. */
#define VMPLAT_ABI		7

/**
 * DOC: Calling convention
 *
 * Every argument is a struct whose first member is its size in bytes, as the
 * caller was compiled. A kernel that knows fewer members accepts a longer
 * struct whose unknown tail is zero, a kernel that knows more reads missing
 * members as zero. Members named out_* are written by the kernel and ignored on
 * input; an output is written only up to the size the caller gave. All page
 * numbers count VMPLAT_INFO's page size. Layouts are the same for 32-bit and
 * 64-bit callers.
 *
 * Errors common to all commands; a command that fails has changed nothing:
 *
 *   ENOTTY      this file does not know the command
 *   EFAULT      a pointer of the caller cannot be read or written
 *   EINVAL      the struct is shorter than its first version, or a member has a
 *               value that is never valid
 *   E2BIG       the struct is longer than this kernel knows and the tail is set
 *   EOPNOTSUPP  an unknown flag is set, or a reserved member is not zero
 *   EBADF       a file descriptor is not open
 *   EMEDIUMTYPE a file descriptor is open, but is not the kind of object asked for
 *   EACCES      a memory file descriptor lacks the access the command needs
 *   EOVERFLOW   first + number runs past 2^64
 *   ERANGE      a page range lies beyond the end of the object
 *   ENOMEM      out of memory, or over the memory cgroup's limit
 *   EMFILE      the caller's file descriptor table is full
 *   EINTR       a signal came while waiting; nothing was done
 */

#define VMPLAT_IOC_TYPE		0xb7

enum {
	VMPLAT_CMD_INFO		= 0x00,
	VMPLAT_CMD_MEM_CREATE	= 0x01,
	VMPLAT_CMD_LOG_CREATE	= 0x02,
	VMPLAT_CMD_VIEW_CREATE	= 0x03,
	VMPLAT_CMD_FILL_CREATE	= 0x04,
	VMPLAT_CMD_PCI_HOLD	= 0x05,
	VMPLAT_CMD_DOMAIN_CREATE = 0x06,

	VMPLAT_CMD_LOG_FETCH	= 0x20,
	VMPLAT_CMD_LOG_END	= 0x21,
	VMPLAT_CMD_LOG_STATUS	= 0x22,

	VMPLAT_CMD_VIEW_STATUS	= 0x40,
	VMPLAT_CMD_VIEW_DISCARD	= 0x41,
	VMPLAT_CMD_VIEW_COMMIT	= 0x42,

	VMPLAT_CMD_FILL_PUT	= 0x60,
	VMPLAT_CMD_FILL_END	= 0x61,
	VMPLAT_CMD_FILL_STATUS	= 0x62,

	VMPLAT_CMD_DOMAIN_ATTACH = 0x80,
	VMPLAT_CMD_DOMAIN_DETACH = 0x81,
	VMPLAT_CMD_DOMAIN_MAP	= 0x82,
	VMPLAT_CMD_DOMAIN_UNMAP	= 0x83,
	VMPLAT_CMD_DOMAIN_QUERY	= 0x84,
	VMPLAT_CMD_DOMAIN_REGIONS = 0x85,
	VMPLAT_CMD_DOMAIN_STATUS = 0x86,

	VMPLAT_CMD_SRIOV_CREATE	= 0xa0,
	VMPLAT_CMD_SRIOV_BIND	= 0xa1,
	VMPLAT_CMD_SRIOV_DESTROY = 0xa2,
	VMPLAT_CMD_SRIOV_STATUS	= 0xa3,
};

/* VMPLAT_ID_BYTES - length of the labels that tie increments to a base. */
#define VMPLAT_ID_BYTES		16

/**
 * enum vmplat_cap - bits of &vmplat_info.out_caps
 * @VMPLAT_CAP_MEM: memory objects and vmplatfs
 * @VMPLAT_CAP_LOG: dirty logs
 * @VMPLAT_CAP_VIEW: frozen views
 * @VMPLAT_CAP_FILL: demand filling
 * @VMPLAT_CAP_PINNABLE: pinnable memory
 * @VMPLAT_CAP_PCI_HOLD: holds on PCI functions
 * @VMPLAT_CAP_HUGE: memory in blocks of 2 MiB
 * @VMPLAT_CAP_DOMAIN: IOMMU domains; whether there is an IOMMU, an attach tells
 * @VMPLAT_CAP_SRIOV: virtual functions with an owner
 */
enum vmplat_cap {
	VMPLAT_CAP_MEM		= 1ULL << 0,
	VMPLAT_CAP_LOG		= 1ULL << 1,
	VMPLAT_CAP_VIEW		= 1ULL << 2,
	VMPLAT_CAP_FILL		= 1ULL << 3,
	VMPLAT_CAP_PINNABLE	= 1ULL << 4,
	VMPLAT_CAP_PCI_HOLD	= 1ULL << 5,
	VMPLAT_CAP_HUGE		= 1ULL << 6,
	VMPLAT_CAP_DOMAIN	= 1ULL << 7,
	VMPLAT_CAP_SRIOV	= 1ULL << 8,
};

/**
 * struct vmplat_info - VMPLAT_INFO on /dev/vmplat
 * @size: sizeof(struct vmplat_info)
 * @flags: must be 0
 * @out_abi: VMPLAT_ABI of the kernel module
 * @out_page_bytes: size of a page in every page number of this ABI
 * @out_caps: set of &enum vmplat_cap
 * @out_max_view_mems: most memories one view can freeze together
 * @__reserved: must be 0
 */
struct vmplat_info {
	__u32 size;
	__u32 flags;
	__u32 out_abi;
	__u32 out_page_bytes;
	__aligned_u64 out_caps;
	__u32 out_max_view_mems;
	__u32 __reserved;
};

#define VMPLAT_INFO		_IO(VMPLAT_IOC_TYPE, VMPLAT_CMD_INFO)

/**
 * enum vmplat_mem_create_flags - &vmplat_mem_create.flags
 * @VMPLAT_MEM_F_PINNABLE: devices may pin pages for as long as they like (VFIO,
 *	io_uring buffers, RDMA), and writers never fault for being logged. In return
 *	there are no views (EOPNOTSUPP) and no log thresholds, and logs are less sharp
 *	at a price: a fetch looks at every page that exists, reports pinned pages
 *	each time, and, while a process that maps the memory has a second MMU (is a
 *	KVM VMM), all pages that exist. The mount option "pinnable" makes every file
 *	of a vmplatfs so.
 * @VMPLAT_MEM_F_HUGE: the first touch of an empty, aligned 2 MiB makes all of its pages,
 *	from one piece of physical memory where the kernel has one to spare: an
 *	IOMMU then maps it with one entry. To logs, views of its content and the cgroup
 *	they are pages of 4 KiB as ever. Only with PINNABLE, else EINVAL; the
 *	mount option "huge" does the same.
 */
enum vmplat_mem_create_flags {
	VMPLAT_MEM_F_PINNABLE	= 1 << 0,
	VMPLAT_MEM_F_HUGE	= 1 << 1,
};

/**
 * struct vmplat_mem_create - VMPLAT_MEM_CREATE on /dev/vmplat
 * @size: sizeof(struct vmplat_mem_create)
 * @flags: &enum vmplat_mem_create_flags
 * @mem_bytes: length of the memory; not 0, a multiple of the page size
 * @out_fd: new descriptor, close-on-exec, opened read-write
 * @__reserved: must be 0
 *
 * The descriptor is an unlinked file of an internal vmplatfs: mmap(MAP_SHARED),
 * pread, pwrite, fallocate(PUNCH_HOLE | KEEP_SIZE), lseek(SEEK_DATA/SEEK_HOLE).
 * The length is fixed for life: a write across its end is EFBIG and writes
 * nothing. MAP_PRIVATE is refused with EINVAL: a private copy would be invisible
 * to logs and views. Pages are charged to the memory cgroup of the task that
 * first touches them, and are not swapped.
 *
 * EINVAL: @mem_bytes is 0 or not page aligned; EFBIG: it is larger than a file
 * can be.
 */
struct vmplat_mem_create {
	__u32 size;
	__u32 flags;
	__aligned_u64 mem_bytes;
	__s32 out_fd;
	__u32 __reserved;
};

#define VMPLAT_MEM_CREATE	_IO(VMPLAT_IOC_TYPE, VMPLAT_CMD_MEM_CREATE)

/**
 * enum vmplat_log_create_flags - &vmplat_log_create.flags
 * @VMPLAT_LOG_F_ALL_DIRTY: start with every page marked, not none
 */
enum vmplat_log_create_flags {
	VMPLAT_LOG_F_ALL_DIRTY	= 1 << 0,
};

/**
 * struct vmplat_log_create - VMPLAT_LOG_CREATE on /dev/vmplat
 * @size: sizeof(struct vmplat_log_create)
 * @flags: &enum vmplat_log_create_flags
 * @mem_fd: a memory, open for reading
 * @out_fd: new descriptor, close-on-exec
 * @threshold_pages: poll() reports EPOLLIN once about this many pages are
 *	marked; 0 means one page. The count behind poll() may run ahead of
 *	VMPLAT_LOG_STATUS for pages written again after a harvest, never behind.
 *
 * Any number of logs may stand on one memory; each has its own position. On a
 * pinnable memory poll() says EPOLLIN always, and @threshold_pages must be 0, else
 * EOPNOTSUPP.
 */
struct vmplat_log_create {
	__u32 size;
	__u32 flags;
	__s32 mem_fd;
	__s32 out_fd;
	__aligned_u64 threshold_pages;
};

#define VMPLAT_LOG_CREATE	_IO(VMPLAT_IOC_TYPE, VMPLAT_CMD_LOG_CREATE)

/**
 * struct vmplat_range - a run of pages
 * @first: first page
 * @nr_pages: how many, not 0
 */
struct vmplat_range {
	__aligned_u64 first;
	__aligned_u64 nr_pages;
};

/**
 * enum vmplat_log_fetch_flags - &vmplat_log_fetch.flags
 * @VMPLAT_LOG_FETCH_F_PEEK: report, leave the marks where they are
 * @VMPLAT_LOG_FETCH_F_CLEAR: report and forget in one step; a reader that dies
 *	before it used the answer has lost it. EBUSY while marks are borrowed.
 * @VMPLAT_LOG_FETCH_F_RANGES: @buf is an array of &struct vmplat_range, else it
 *	is a bitmap
 *
 * With neither PEEK nor CLEAR the reported marks are *borrowed*: they are out of
 * the log, yet come back with VMPLAT_LOG_END_F_ABORT and are forgotten only with
 * VMPLAT_LOG_END. Several fetches may borrow one after the other.
 */
enum vmplat_log_fetch_flags {
	VMPLAT_LOG_FETCH_F_PEEK		= 1 << 0,
	VMPLAT_LOG_FETCH_F_CLEAR	= 1 << 1,
	VMPLAT_LOG_FETCH_F_RANGES	= 1 << 2,
};

/**
 * struct vmplat_log_fetch - VMPLAT_LOG_FETCH on a log
 * @size: sizeof(struct vmplat_log_fetch)
 * @flags: &enum vmplat_log_fetch_flags
 * @first: first page asked for; for a bitmap a multiple of 64
 * @nr_pages: pages asked for, not 0
 * @buf: where the answer goes
 * @buf_bytes: room at @buf. A bitmap needs one bit a page asked for, rounded up
 *	to 8 bytes, little-endian bit order in 64-bit words; bits beyond
 *	@nr_pages are 0. For ranges any multiple of 16 bytes but 0.
 * @out_nr_dirty: pages reported
 * @out_nr_ranges: ranges written, for VMPLAT_LOG_FETCH_F_RANGES
 * @out_next: first page not looked at: @first + @nr_pages, or less when the
 *	ranges filled @buf; go on from there
 * @out_nr_unsure: of @out_nr_dirty, pages of a pinnable memory that are reported only
 *	because nobody could have seen a write: they are, or were since the last report,
 *	mapped into a domain for devices to write, pinned or otherwise held (VFIO,
 *	iommufd, io_uring, a pipe), or within reach of a second MMU (KVM). 0: what is
 *	reported was written
 *
 * A page that was written after the last report is always reported; one that was
 * not may be. EMSGSIZE: @buf_bytes too small for the bitmap; EBUSY: see CLEAR, or
 * a view holds the log's marks.
 */
struct vmplat_log_fetch {
	__u32 size;
	__u32 flags;
	__aligned_u64 first;
	__aligned_u64 nr_pages;
	__aligned_u64 buf;
	__aligned_u64 buf_bytes;
	__aligned_u64 out_nr_dirty;
	__aligned_u64 out_nr_ranges;
	__aligned_u64 out_next;
	__aligned_u64 out_nr_unsure;
};

#define VMPLAT_LOG_FETCH	_IO(VMPLAT_IOC_TYPE, VMPLAT_CMD_LOG_FETCH)

/**
 * enum vmplat_log_end_flags - &vmplat_log_end.flags
 * @VMPLAT_LOG_END_F_ABORT: give the borrowed marks back to the log
 */
enum vmplat_log_end_flags {
	VMPLAT_LOG_END_F_ABORT	= 1 << 0,
};

/**
 * struct vmplat_log_end - VMPLAT_LOG_END on a log: end what fetches borrowed
 * @size: sizeof(struct vmplat_log_end)
 * @flags: &enum vmplat_log_end_flags
 * @id: the log's new label, unless it is all zero or this is an abort
 *
 * Forgetting marks without giving a label takes the old one away: it would no
 * longer be true. EBUSY: a view holds the log's marks; EINVAL: an abort with a
 * label. Ending when nothing is borrowed is no error.
 */
struct vmplat_log_end {
	__u32 size;
	__u32 flags;
	__u8 id[VMPLAT_ID_BYTES];
};

#define VMPLAT_LOG_END		_IO(VMPLAT_IOC_TYPE, VMPLAT_CMD_LOG_END)

/**
 * struct vmplat_log_status - VMPLAT_LOG_STATUS on a log
 * @size: sizeof(struct vmplat_log_status)
 * @flags: must be 0
 * @out_nr_pages: pages of the memory
 * @out_nr_dirty: pages marked, as of a harvest made now
 * @out_nr_borrowed: pages marked and borrowed, by fetches or by a view
 * @out_harvests: harvests of the memory so far, whoever asked
 * @out_id: label given by the last commit; zero before the first
 * @out_view_busy: 1 while a view holds the marks
 * @__reserved: must be 0
 * @out_nr_unsure: of @out_nr_dirty, as for VMPLAT_LOG_FETCH
 * @out_nr_device: pages of the memory that are mapped into domains for devices to
 *	write, now: every fetch reports them
 */
struct vmplat_log_status {
	__u32 size;
	__u32 flags;
	__aligned_u64 out_nr_pages;
	__aligned_u64 out_nr_dirty;
	__aligned_u64 out_nr_borrowed;
	__aligned_u64 out_harvests;
	__u8 out_id[VMPLAT_ID_BYTES];
	__u32 out_view_busy;
	__u32 __reserved;
	__aligned_u64 out_nr_unsure;
	__aligned_u64 out_nr_device;
};

#define VMPLAT_LOG_STATUS	_IO(VMPLAT_IOC_TYPE, VMPLAT_CMD_LOG_STATUS)

/* VMPLAT_VIEW_MAX_MEMS - most memories one view can freeze together. */
#define VMPLAT_VIEW_MAX_MEMS	64

/**
 * struct vmplat_view_mem - one memory of a view
 * @mem_fd: a memory, open for reading; each memory once
 * @log_fd: a log of that memory to borrow from, or -1
 * @id: if not all zero, the label @log_fd must carry: proof that the log stands
 *	where the caller's base ends. ESTALE if it does not.
 */
struct vmplat_view_mem {
	__s32 mem_fd;
	__s32 log_fd;
	__u8 id[VMPLAT_ID_BYTES];
};

/**
 * enum vmplat_view_create_flags - &vmplat_view_create.flags
 * @VMPLAT_VIEW_F_INCREMENT: SEEK_DATA and SEEK_HOLE show only what the logs
 *	marked, and every memory needs a log. Without it they show what was
 *	allocated. Reading gives the whole image either way.
 * @VMPLAT_VIEW_F_BLOCK: when @side_bytes is used up, writers wait for room
 *	(VMPLAT_VIEW_DISCARD, or the view's end); every memory must be open for
 *	writing. A kernel that writes on a process's behalf, as for a vCPU, may
 *	hold that process's mmap_lock meanwhile, so let another process read the
 *	view. Without it the view breaks: reads and lseek(SEEK_DATA) give ENODATA
 *	from then on, and writers go on.
 */
enum vmplat_view_create_flags {
	VMPLAT_VIEW_F_INCREMENT	= 1 << 0,
	VMPLAT_VIEW_F_BLOCK	= 1 << 1,
};

/**
 * struct vmplat_view_create - VMPLAT_VIEW_CREATE on /dev/vmplat: freeze
 * @size: sizeof(struct vmplat_view_create)
 * @flags: &enum vmplat_view_create_flags
 * @mems: pointer to an array of &struct vmplat_view_mem
 * @nr_mems: entries of @mems, 1 to VMPLAT_VIEW_MAX_MEMS
 * @out_fd: new descriptor, close-on-exec, read-only
 * @side_bytes: most memory the view may hold in copies of pages; 0 for no limit
 * @out_bytes: length of the view: the memories one after the other in the order
 *	given
 * @out_blocked_ns: how long the freeze kept writers waiting
 * @out_nr_dirty: pages the freeze had to write-protect
 *
 * All memories are frozen at one instant. The logs' marks as of that instant
 * are borrowed by the view until VMPLAT_VIEW_COMMIT forgets them; closing the
 * view without it gives them back.
 *
 * Pages that are pinned for I/O at the freeze count against @side_bytes at once,
 * and so do pages that are new to the kernel's LRU lists; ENOMEM if the pinned ones
 * do not fit. EBUSY: marks of a log are borrowed already; ESTALE: a label does not
 * match; EINVAL: a log belongs to another memory, a memory is given twice, or an
 * increment lacks a log; EOPNOTSUPP: a memory is pinnable.
 */
struct vmplat_view_create {
	__u32 size;
	__u32 flags;
	__aligned_u64 mems;
	__u32 nr_mems;
	__s32 out_fd;
	__aligned_u64 side_bytes;
	__aligned_u64 out_bytes;
	__aligned_u64 out_blocked_ns;
	__aligned_u64 out_nr_dirty;
};

#define VMPLAT_VIEW_CREATE	_IO(VMPLAT_IOC_TYPE, VMPLAT_CMD_VIEW_CREATE)

/**
 * enum vmplat_view_state - &vmplat_view_status.out_state
 * @VMPLAT_VIEW_OK: readable
 * @VMPLAT_VIEW_BROKEN_LIMIT: broken, @side_bytes was used up
 * @VMPLAT_VIEW_BROKEN_NOMEM: broken, a copy could not be allocated or charged
 */
enum vmplat_view_state {
	VMPLAT_VIEW_OK			= 0,
	VMPLAT_VIEW_BROKEN_LIMIT	= 1,
	VMPLAT_VIEW_BROKEN_NOMEM	= 2,
};

/**
 * struct vmplat_view_status - VMPLAT_VIEW_STATUS on a view
 * @size: sizeof(struct vmplat_view_status)
 * @flags: must be 0
 * @out_state: &enum vmplat_view_state
 * @out_committed: 1 after VMPLAT_VIEW_COMMIT
 * @out_bytes: length of the view
 * @out_side_bytes: memory held in copies now
 * @out_side_peak_bytes: the most it ever was
 * @out_nr_copied: pages copied before a write so far
 * @out_nr_increment: pages the base logs had marked
 * @out_blocked_ns: how long the freeze kept writers waiting
 * @out_wait_ns: how long writers waited for room since, all together
 */
struct vmplat_view_status {
	__u32 size;
	__u32 flags;
	__u32 out_state;
	__u32 out_committed;
	__aligned_u64 out_bytes;
	__aligned_u64 out_side_bytes;
	__aligned_u64 out_side_peak_bytes;
	__aligned_u64 out_nr_copied;
	__aligned_u64 out_nr_increment;
	__aligned_u64 out_blocked_ns;
	__aligned_u64 out_wait_ns;
};

#define VMPLAT_VIEW_STATUS	_IO(VMPLAT_IOC_TYPE, VMPLAT_CMD_VIEW_STATUS)

/**
 * struct vmplat_view_discard - VMPLAT_VIEW_DISCARD on a view
 * @size: sizeof(struct vmplat_view_discard)
 * @flags: must be 0
 * @first: first page of the view that its reader no longer needs
 * @nr_pages: how many, not 0
 *
 * Frees the copies of these pages and stops making any. Reading them gives
 * ENODATA from then on.
 */
struct vmplat_view_discard {
	__u32 size;
	__u32 flags;
	__aligned_u64 first;
	__aligned_u64 nr_pages;
};

#define VMPLAT_VIEW_DISCARD	_IO(VMPLAT_IOC_TYPE, VMPLAT_CMD_VIEW_DISCARD)

/**
 * struct vmplat_view_commit - VMPLAT_VIEW_COMMIT on a view
 * @size: sizeof(struct vmplat_view_commit)
 * @flags: must be 0
 * @id: label for the logs, usually the identity of what was stored; not all zero
 *
 * Say it once the reader's copy is durable: the borrowed marks are forgotten
 * and every base log carries @id. The view stays readable. ENODATA: the view is
 * broken, its marks stay borrowed until it is closed; EALREADY: committed
 * before.
 */
struct vmplat_view_commit {
	__u32 size;
	__u32 flags;
	__u8 id[VMPLAT_ID_BYTES];
};

#define VMPLAT_VIEW_COMMIT	_IO(VMPLAT_IOC_TYPE, VMPLAT_CMD_VIEW_COMMIT)

/**
 * struct vmplat_fill_create - VMPLAT_FILL_CREATE on /dev/vmplat
 * @size: sizeof(struct vmplat_fill_create)
 * @flags: must be 0
 * @mem_fd: a memory, open for reading and writing, in which no page exists yet
 * @out_fd: new descriptor, close-on-exec
 *
 * From now on a page that does not exist is not zero but *missing*: whoever
 * touches it waits until the owner of @out_fd supplies it with
 * VMPLAT_FILL_PUT. read() on @out_fd gives the numbers (__u64) of pages
 * somebody waits for, in order of demand; poll() reports EPOLLIN while there are
 * any. After VMPLAT_FILL_END the pages still missing are zero. If @out_fd is
 * closed before that, touching a missing page is SIGBUS (EIO for read and
 * write): a dead server never becomes silent zeroes.
 *
 * A memory may be logged and frozen while it is filled: reading a missing page
 * through a view waits like any other touch. EBUSY: the memory has pages already,
 * or is being filled.
 */
struct vmplat_fill_create {
	__u32 size;
	__u32 flags;
	__s32 mem_fd;
	__s32 out_fd;
};

#define VMPLAT_FILL_CREATE	_IO(VMPLAT_IOC_TYPE, VMPLAT_CMD_FILL_CREATE)

/**
 * struct vmplat_fill_put - VMPLAT_FILL_PUT on a fill
 * @size: sizeof(struct vmplat_fill_put)
 * @flags: must be 0
 * @first: first page to supply
 * @nr_pages: how many, not 0
 * @buf: their content, nr_pages * page size bytes; 0 for pages of zeroes
 * @out_done: pages dealt with, also on an error
 *
 * Pages that exist already are left alone: whoever was first won. EINVAL also
 * after VMPLAT_FILL_END.
 */
struct vmplat_fill_put {
	__u32 size;
	__u32 flags;
	__aligned_u64 first;
	__aligned_u64 nr_pages;
	__aligned_u64 buf;
	__aligned_u64 out_done;
};

#define VMPLAT_FILL_PUT		_IO(VMPLAT_IOC_TYPE, VMPLAT_CMD_FILL_PUT)

/**
 * struct vmplat_fill_end - VMPLAT_FILL_END on a fill: pages still missing are zero
 * @size: sizeof(struct vmplat_fill_end)
 * @flags: must be 0
 */
struct vmplat_fill_end {
	__u32 size;
	__u32 flags;
};

#define VMPLAT_FILL_END		_IO(VMPLAT_IOC_TYPE, VMPLAT_CMD_FILL_END)

/**
 * struct vmplat_fill_status - VMPLAT_FILL_STATUS on a fill
 * @size: sizeof(struct vmplat_fill_status)
 * @flags: must be 0
 * @out_nr_pages: pages of the memory
 * @out_nr_filled: pages supplied so far
 * @out_nr_demanded: times somebody had to wait for a page so far
 * @out_wait_ns: how long they waited, all together
 */
struct vmplat_fill_status {
	__u32 size;
	__u32 flags;
	__aligned_u64 out_nr_pages;
	__aligned_u64 out_nr_filled;
	__aligned_u64 out_nr_demanded;
	__aligned_u64 out_wait_ns;
};

#define VMPLAT_FILL_STATUS	_IO(VMPLAT_IOC_TYPE, VMPLAT_CMD_FILL_STATUS)

/**
 * enum vmplat_pci_hold_flags - &vmplat_pci_hold.flags
 * @VMPLAT_PCI_HOLD_F_ASK: if somebody has the function open, ask for it: the
 *	user's VFIO_PCI_REQ_ERR_IRQ is triggered, and there is an event
 */
enum vmplat_pci_hold_flags {
	VMPLAT_PCI_HOLD_F_ASK	= 1 << 0,
};

/**
 * struct vmplat_pci_hold - VMPLAT_PCI_HOLD on /dev/vmplat: let nobody open a function
 * @size: sizeof(struct vmplat_pci_hold)
 * @flags: set of &enum vmplat_pci_hold_flags
 * @domain: PCI domain
 * @devid: bus << 8 | device << 3 | function
 * @out_fd: the hold. While it is open, and the function's driver stays, opening the
 *	function through VFIO fails with EBUSY
 * @out_pid: on EBUSY, the process that has it open, as seen from the initial PID
 *	namespace; else 0
 * @__reserved: must be 0
 *
 * A driver whose function is open cannot be unbound: the writer to "unbind" waits
 * until the user lets go, and cannot be killed. Who holds the function first knows
 * that it is idle, and that it will be.
 *
 * There may be any number of holds. Needs CAP_SYS_ADMIN. EBUSY: it is open. ENODEV:
 * there is no such function. ENXIO: its driver is not one of those that say who opens
 * them, which today is vmplat_vfio alone. EPERM.
 */
struct vmplat_pci_hold {
	__u32 size;
	__u32 flags;
	__u32 domain;
	__u32 devid;
	__s32 out_fd;
	__u32 out_pid;
	__u32 __reserved;
};

#define VMPLAT_PCI_HOLD		_IO(VMPLAT_IOC_TYPE, VMPLAT_CMD_PCI_HOLD)
/* VMPLAT_DOMAIN_MAX_GROUPS - most IOMMU groups of one domain. */
#define VMPLAT_DOMAIN_MAX_GROUPS	64

/**
 * struct vmplat_domain_create - VMPLAT_DOMAIN_CREATE on /dev/vmplat
 * @size: sizeof(struct vmplat_domain_create)
 * @flags: must be 0
 * @out_fd: new descriptor, close-on-exec
 * @__reserved: must be 0
 *
 * An empty address space for devices. Memory may be mapped before the first device
 * is attached: it then sees all of it at once. When the last descriptor is
 * closed, by kill -9 as well, its devices are cut off from its memory, their bus
 * mastering is switched off and they are the host's again; nothing stays mapped.
 */
struct vmplat_domain_create {
	__u32 size;
	__u32 flags;
	__s32 out_fd;
	__u32 __reserved;
};

#define VMPLAT_DOMAIN_CREATE	_IO(VMPLAT_IOC_TYPE, VMPLAT_CMD_DOMAIN_CREATE)

/**
 * enum vmplat_domain_attach_flags - &vmplat_domain_attach.flags
 * @VMPLAT_DOMAIN_ATTACH_F_QUARANTINE: take the group and block its DMA, no more
 * @VMPLAT_DOMAIN_ATTACH_F_UNSAFE_INTERRUPTS: though the host does not isolate
 *	interrupts, so that whoever drives the device can raise any of the
 *	host's by a write to the right address
 */
enum vmplat_domain_attach_flags {
	VMPLAT_DOMAIN_ATTACH_F_QUARANTINE		= 1 << 0,
	VMPLAT_DOMAIN_ATTACH_F_UNSAFE_INTERRUPTS	= 1 << 1,
};

/**
 * enum vmplat_domain_why - &vmplat_domain_attach.out_why
 * @VMPLAT_DOMAIN_WHY_NONE: the errno says it all
 * @VMPLAT_DOMAIN_WHY_DRIVER: EBUSY, a function of the group has a driver of the host:
 *	@out_blocker and @out_driver
 * @VMPLAT_DOMAIN_WHY_OWNED: EBUSY, a VFIO user or another domain has the group
 * @VMPLAT_DOMAIN_WHY_INTERRUPTS: EPERM, interrupts are not isolated
 * @VMPLAT_DOMAIN_WHY_COHERENCE: EPERM, its DMA would not see the CPUs' caches
 * @VMPLAT_DOMAIN_WHY_FIRMWARE: EPERM, the firmware wants memory of its own to stay
 *	within the device's reach
 * @VMPLAT_DOMAIN_WHY_IOMMU: EXDEV, the group is behind another kind of IOMMU than those
 *	attached before, or behind one that cannot map pages of the host's size
 * @VMPLAT_DOMAIN_WHY_RESERVED: EADDRNOTAVAIL, a mapping is where this group cannot
 *	have one
 */
enum vmplat_domain_why {
	VMPLAT_DOMAIN_WHY_NONE		= 0,
	VMPLAT_DOMAIN_WHY_DRIVER	= 1,
	VMPLAT_DOMAIN_WHY_OWNED		= 2,
	VMPLAT_DOMAIN_WHY_INTERRUPTS	= 3,
	VMPLAT_DOMAIN_WHY_COHERENCE	= 4,
	VMPLAT_DOMAIN_WHY_FIRMWARE	= 5,
	VMPLAT_DOMAIN_WHY_IOMMU		= 6,
	VMPLAT_DOMAIN_WHY_RESERVED	= 7,
};

/**
 * struct vmplat_domain_attach - VMPLAT_DOMAIN_ATTACH on a domain
 * @size: sizeof(struct vmplat_domain_attach)
 * @flags: &enum vmplat_domain_attach_flags
 * @function: a PCI function, domain << 16 | bus << 8 | devfn as in its events
 * @out_group: number of its IOMMU group
 * @out_nr_devices: functions in that group; all of them are attached
 * @out_blocker: the function that is in the way, see @out_why
 * @out_why: &enum vmplat_domain_why; all outputs are also there after an error
 * @__reserved: must be 0
 * @out_driver: its driver, or empty
 *
 * From now on the group sees what is mapped in this domain, and nothing else. Its
 * functions have no driver, or one that leaves DMA to others (vfio-pci), as long as
 * the domain has them; no other driver can bind. A quarantined group of
 * this domain is attached again.
 *
 * EPERM: the caller lacks CAP_SYS_ADMIN (an open domain may be passed on to who
 * lacks it), or see @out_why, as for EBUSY, EXDEV and EADDRNOTAVAIL; ENODEV: no such
 * function; ENXIO: it is behind no IOMMU; EALREADY: its group is in this state;
 * ENOSPC: the domain has VMPLAT_DOMAIN_MAX_GROUPS. Waits while some function is being
 * unplugged.
 */
struct vmplat_domain_attach {
	__u32 size;
	__u32 flags;
	__aligned_u64 function;
	__u32 out_group;
	__u32 out_nr_devices;
	__aligned_u64 out_blocker;
	__u32 out_why;
	__u32 __reserved;
	__u8 out_driver[32];
};

#define VMPLAT_DOMAIN_ATTACH	_IO(VMPLAT_IOC_TYPE, VMPLAT_CMD_DOMAIN_ATTACH)

/**
 * enum vmplat_domain_detach_flags - &vmplat_domain_detach.flags
 * @VMPLAT_DOMAIN_DETACH_F_RELEASE: give the group back to the host, with its bus
 *	mastering switched off
 */
enum vmplat_domain_detach_flags {
	VMPLAT_DOMAIN_DETACH_F_RELEASE	= 1 << 0,
};

/**
 * struct vmplat_domain_detach - VMPLAT_DOMAIN_DETACH on a domain
 * @size: sizeof(struct vmplat_domain_detach)
 * @flags: &enum vmplat_domain_detach_flags
 * @function: any PCI function of the group
 *
 * The group's DMA is blocked: it is in quarantine, still the domain's, and nobody
 * else's, until it is released or the domain is closed. A function that is unplugged
 * takes its group along when it was the last of it.
 *
 * ENOENT: the group is not this domain's; EALREADY: it is in quarantine; ENODEV:
 * no such function.
 */
struct vmplat_domain_detach {
	__u32 size;
	__u32 flags;
	__aligned_u64 function;
};

#define VMPLAT_DOMAIN_DETACH	_IO(VMPLAT_IOC_TYPE, VMPLAT_CMD_DOMAIN_DETACH)

/**
 * enum vmplat_domain_map_flags - &vmplat_domain_map.flags; at least one
 * @VMPLAT_DOMAIN_MAP_F_READ: devices may read it; @mem_fd is open for reading
 * @VMPLAT_DOMAIN_MAP_F_WRITE: devices may write it; @mem_fd is open for writing
 */
enum vmplat_domain_map_flags {
	VMPLAT_DOMAIN_MAP_F_READ	= 1 << 0,
	VMPLAT_DOMAIN_MAP_F_WRITE	= 1 << 1,
};

/**
 * struct vmplat_domain_map - VMPLAT_DOMAIN_MAP on a domain
 * @size: sizeof(struct vmplat_domain_map)
 * @flags: &enum vmplat_domain_map_flags
 * @mem_fd: a pinnable memory; not needed any more afterwards
 * @__reserved: must be 0
 * @iova: where devices see it; this and the following in bytes, multiples of the
 *	page size
 * @mem_offset: first byte of the memory
 * @bytes: how much, not 0
 *
 * Pages that do not exist are made; those that a fill still misses are waited
 * for. All of them stay as long as the mapping: punching one out is EBUSY, they
 * are not migrated, and the memory is kept though every descriptor of it be
 * closed. They count against RLIMIT_MEMLOCK of the calling process, unless it has
 * CAP_IPC_LOCK, once for each mapping.
 *
 * What devices may write is reported by every fetch of a log, and by the first after
 * it was unmapped, as nobody knows what they did write.
 *
 * EOPNOTSUPP: the memory is not pinnable; EEXIST: something is mapped there;
 * EADDRNOTAVAIL: a part is reserved (VMPLAT_DOMAIN_REGIONS) or beyond what the
 * IOMMU can address (VMPLAT_DOMAIN_STATUS); EDQUOT: over RLIMIT_MEMLOCK; ENOSPC: too
 * many mappings (module parameter domain_mappings), or the file system is full;
 * ERANGE: beyond the end of the memory; EIO: pages are missing and their filler
 * is gone.
 */
struct vmplat_domain_map {
	__u32 size;
	__u32 flags;
	__s32 mem_fd;
	__u32 __reserved;
	__aligned_u64 iova;
	__aligned_u64 mem_offset;
	__aligned_u64 bytes;
};

#define VMPLAT_DOMAIN_MAP	_IO(VMPLAT_IOC_TYPE, VMPLAT_CMD_DOMAIN_MAP)

/**
 * enum vmplat_domain_unmap_flags - &vmplat_domain_unmap.flags
 * @VMPLAT_DOMAIN_UNMAP_F_ALL: everything there is; @iova and @bytes are 0
 */
enum vmplat_domain_unmap_flags {
	VMPLAT_DOMAIN_UNMAP_F_ALL	= 1 << 0,
};

/**
 * struct vmplat_domain_unmap - VMPLAT_DOMAIN_UNMAP on a domain
 * @size: sizeof(struct vmplat_domain_unmap)
 * @flags: &enum vmplat_domain_unmap_flags
 * @iova: first byte; a multiple of the page size, as @bytes
 * @bytes: how much, not 0
 * @out_nr: mappings that are gone
 * @out_bytes: what they covered
 *
 * Every mapping within the range goes. When this returns no device reaches its
 * pages any more. EINVAL: the range would cut a mapping in two; ENOENT: nothing is
 * mapped there.
 */
struct vmplat_domain_unmap {
	__u32 size;
	__u32 flags;
	__aligned_u64 iova;
	__aligned_u64 bytes;
	__aligned_u64 out_nr;
	__aligned_u64 out_bytes;
};

#define VMPLAT_DOMAIN_UNMAP	_IO(VMPLAT_IOC_TYPE, VMPLAT_CMD_DOMAIN_UNMAP)

/**
 * struct vmplat_domain_query - VMPLAT_DOMAIN_QUERY on a domain: the next mapping
 * @size: sizeof(struct vmplat_domain_query)
 * @flags: must be 0
 * @iova: the first mapping that ends here or behind
 * @out_iova: where it begins
 * @out_bytes: its length
 * @out_mem_offset: which byte of the memory is there
 * @out_mem_id: the id of the memory, as in events and its fdinfo
 * @out_prot: &enum vmplat_domain_map_flags
 * @__reserved: must be 0
 *
 * ENOENT: there is none.
 */
struct vmplat_domain_query {
	__u32 size;
	__u32 flags;
	__aligned_u64 iova;
	__aligned_u64 out_iova;
	__aligned_u64 out_bytes;
	__aligned_u64 out_mem_offset;
	__aligned_u64 out_mem_id;
	__u32 out_prot;
	__u32 __reserved;
};

#define VMPLAT_DOMAIN_QUERY	_IO(VMPLAT_IOC_TYPE, VMPLAT_CMD_DOMAIN_QUERY)

/**
 * enum vmplat_domain_region_type - &vmplat_domain_region.type
 * @VMPLAT_DOMAIN_REGION_RESERVED: other hardware answers there
 * @VMPLAT_DOMAIN_REGION_MSI: writes there are interrupts
 * @VMPLAT_DOMAIN_REGION_DIRECT: memory that the firmware shares with the device
 */
enum vmplat_domain_region_type {
	VMPLAT_DOMAIN_REGION_RESERVED	= 1,
	VMPLAT_DOMAIN_REGION_MSI	= 2,
	VMPLAT_DOMAIN_REGION_DIRECT	= 3,
};

/**
 * struct vmplat_domain_region - addresses at which nothing can be mapped
 * @first: first byte
 * @last: last byte
 * @group: the IOMMU group on whose account
 * @type: &enum vmplat_domain_region_type
 */
struct vmplat_domain_region {
	__aligned_u64 first;
	__aligned_u64 last;
	__u32 group;
	__u32 type;
};

/**
 * struct vmplat_domain_regions - VMPLAT_DOMAIN_REGIONS on a domain
 * @size: sizeof(struct vmplat_domain_regions)
 * @flags: must be 0
 * @buf: pointer to an array of &struct vmplat_domain_region
 * @nr: entries of it
 * @out_nr: regions of all groups of the domain, quarantined ones included
 * @__reserved: must be 0
 *
 * EMSGSIZE: @out_nr do not fit, nothing was written to @buf.
 */
struct vmplat_domain_regions {
	__u32 size;
	__u32 flags;
	__aligned_u64 buf;
	__u32 nr;
	__u32 out_nr;
	__aligned_u64 __reserved;
};

#define VMPLAT_DOMAIN_REGIONS	_IO(VMPLAT_IOC_TYPE, VMPLAT_CMD_DOMAIN_REGIONS)

/**
 * struct vmplat_domain_status - VMPLAT_DOMAIN_STATUS on a domain
 * @size: sizeof(struct vmplat_domain_status)
 * @flags: must be 0
 * @out_id: the id of the domain in events
 * @out_nr_mappings: mappings there are
 * @out_max_mappings: most there can be
 * @out_bytes: how much they cover
 * @out_iova_first: what the IOMMU can address; before the first attach, everything
 * @out_iova_last: last byte of it
 * @out_page_sizes: sum of the sizes the IOMMU can map with one entry; 0 before the
 *	first attach
 * @out_nr_attached: groups that see them
 * @out_nr_quarantined: groups that see nothing
 */
struct vmplat_domain_status {
	__u32 size;
	__u32 flags;
	__aligned_u64 out_id;
	__aligned_u64 out_nr_mappings;
	__aligned_u64 out_max_mappings;
	__aligned_u64 out_bytes;
	__aligned_u64 out_iova_first;
	__aligned_u64 out_iova_last;
	__aligned_u64 out_page_sizes;
	__u32 out_nr_attached;
	__u32 out_nr_quarantined;
};

#define VMPLAT_DOMAIN_STATUS	_IO(VMPLAT_IOC_TYPE, VMPLAT_CMD_DOMAIN_STATUS)

/**
 * DOC: Virtual functions
 *
 * A set is the virtual functions (VFs) of one physical function (PF), made by
 * VMPLAT_SRIOV_CREATE. It outlives the program that made it and ends with
 * VMPLAT_SRIOV_DESTROY, or when somebody removes the VFs in another way: by
 * sriov_numvfs, by unbinding the PF, by unplugging it. Its generation, not 0, is never
 * used again while the machine is up: a late destroy by its owner cannot meet the
 * VFs of the next. While a set exists the module cannot be unloaded.
 *
 * Errors of these commands beside the common ones:
 *
 *   EPERM    the caller lacks CAP_SYS_ADMIN (VMPLAT_SRIOV_STATUS needs nothing)
 *   ENODEV   there is no such PCI function; or, with
 *            VMPLAT_SRIOV_WHY_NOT_BOUND, a VF was not taken by its driver
 *   EINVAL   the function is no PF; a name is no name
 *   ERANGE   more VFs than the PF can have, or than its driver made
 *   ENOENT   the PF has no driver, or one that cannot make VFs
 *   ESTALE   there is no set of this generation (any more)
 *   EBUSY    @out_why says why
 *
 * as well as what the PF's driver returns.
 */

/* VMPLAT_SRIOV_OWNER_BYTES, VMPLAT_SRIOV_DRIVER_BYTES - room for names, with a NUL. */
#define VMPLAT_SRIOV_OWNER_BYTES	64
#define VMPLAT_SRIOV_DRIVER_BYTES	32

/**
 * enum vmplat_sriov_why - what is in the way
 * @VMPLAT_SRIOV_WHY_NONE: the errno says it all
 * @VMPLAT_SRIOV_WHY_OWNED: the PF has a set already
 * @VMPLAT_SRIOV_WHY_VFS: the PF has VFs that were made in another way
 * @VMPLAT_SRIOV_WHY_CHANGING: another command is at work on the set
 * @VMPLAT_SRIOV_WHY_PF_DRIVER: the PF has no driver, or one that cannot make VFs
 * @VMPLAT_SRIOV_WHY_FEWER: the PF's driver made only out_vf VFs
 * @VMPLAT_SRIOV_WHY_NOT_BOUND: the driver did not take VF out_vf
 * @VMPLAT_SRIOV_WHY_OPEN: VF out_vf, or its IOMMU group, is open through VFIO, or in a
 *	domain
 * @VMPLAT_SRIOV_WHY_ASSIGNED: VF out_vf is assigned to a guest in another way (Xen)
 */
enum vmplat_sriov_why {
	VMPLAT_SRIOV_WHY_NONE		= 0,
	VMPLAT_SRIOV_WHY_OWNED		= 1,
	VMPLAT_SRIOV_WHY_VFS		= 2,
	VMPLAT_SRIOV_WHY_CHANGING	= 3,
	VMPLAT_SRIOV_WHY_PF_DRIVER	= 4,
	VMPLAT_SRIOV_WHY_FEWER		= 5,
	VMPLAT_SRIOV_WHY_NOT_BOUND	= 6,
	VMPLAT_SRIOV_WHY_OPEN		= 7,
	VMPLAT_SRIOV_WHY_ASSIGNED	= 8,
};

/**
 * struct vmplat_sriov_create - VMPLAT_SRIOV_CREATE on /dev/vmplat
 * @size: sizeof(struct vmplat_sriov_create)
 * @flags: must be 0
 * @pf: domain << 16 | bus << 8 | device << 3 | function, as the id of its events
 * @nr_vfs: how many, not 0
 * @__reserved: must be 0
 * @id: a label of the caller's, to find its set again after a crash
 * @driver: the PCI driver of the VFs, which has to be loaded; "" for none
 * @owner: whose they are: 1 to 63 printable letters, no blanks; for people
 * @out_generation: of the new set; on an error 0, or that of a set that could not be
 *	undone
 * @out_vf: see &enum vmplat_sriov_why
 * @out_why: &enum vmplat_sriov_why
 *
 * Returns when all VFs are there and have been taken by @driver. No other driver ever
 * sees them: driver_override is set before they can be probed, to @driver or, for
 * none, to "none". A command that fails leaves no VF behind. It is not interrupted
 * by signals, since the PF's driver is not.
 */
struct vmplat_sriov_create {
	__u32 size;
	__u32 flags;
	__aligned_u64 pf;
	__u32 nr_vfs;
	__u32 __reserved;
	__u8 id[VMPLAT_ID_BYTES];
	char driver[VMPLAT_SRIOV_DRIVER_BYTES];
	char owner[VMPLAT_SRIOV_OWNER_BYTES];
	__aligned_u64 out_generation;
	__u32 out_vf;
	__u32 out_why;
};

#define VMPLAT_SRIOV_CREATE	_IO(VMPLAT_IOC_TYPE, VMPLAT_CMD_SRIOV_CREATE)

/**
 * struct vmplat_sriov_bind - VMPLAT_SRIOV_BIND on /dev/vmplat: another driver
 * @size: sizeof(struct vmplat_sriov_bind)
 * @flags: must be 0
 * @generation: of the set
 * @driver: as for VMPLAT_SRIOV_CREATE
 * @out_vf: see &enum vmplat_sriov_why
 * @out_why: &enum vmplat_sriov_why
 *
 * VFs that have @driver all keep it. Otherwise all are taken from the driver they have,
 * which fails with EBUSY and changes nothing if one is open, and given to @driver. If
 * it does not take them all, they go back.
 */
struct vmplat_sriov_bind {
	__u32 size;
	__u32 flags;
	__aligned_u64 generation;
	char driver[VMPLAT_SRIOV_DRIVER_BYTES];
	__u32 out_vf;
	__u32 out_why;
};

#define VMPLAT_SRIOV_BIND	_IO(VMPLAT_IOC_TYPE, VMPLAT_CMD_SRIOV_BIND)

/**
 * struct vmplat_sriov_destroy - VMPLAT_SRIOV_DESTROY on /dev/vmplat
 * @size: sizeof(struct vmplat_sriov_destroy)
 * @flags: must be 0
 * @generation: of the set
 * @out_vf: see &enum vmplat_sriov_why
 * @out_why: &enum vmplat_sriov_why
 *
 * Fails with EBUSY at once, and changes nothing, if a VF is open: a write to
 * sriov_numvfs would wait for its guest. Whether a VF that has a driver of the host is
 * in use is for the caller to know.
 */
struct vmplat_sriov_destroy {
	__u32 size;
	__u32 flags;
	__aligned_u64 generation;
	__u32 out_vf;
	__u32 out_why;
};

#define VMPLAT_SRIOV_DESTROY	_IO(VMPLAT_IOC_TYPE, VMPLAT_CMD_SRIOV_DESTROY)

/**
 * struct vmplat_sriov_status - VMPLAT_SRIOV_STATUS on /dev/vmplat
 * @size: sizeof(struct vmplat_sriov_status)
 * @flags: must be 0
 * @pf: as for VMPLAT_SRIOV_CREATE
 * @out_generation: of its set; 0 if it has none, and what follows but the numbers is 0
 * @out_nr_vfs: VFs it has, whoever made them
 * @out_total_vfs: the most it can have
 * @out_changing: 1 while a command is at work on the set
 * @__reserved: 0
 * @out_id: as given to VMPLAT_SRIOV_CREATE
 * @out_driver: the driver the VFs shall have
 * @out_owner: as given to VMPLAT_SRIOV_CREATE
 */
struct vmplat_sriov_status {
	__u32 size;
	__u32 flags;
	__aligned_u64 pf;
	__aligned_u64 out_generation;
	__u32 out_nr_vfs;
	__u32 out_total_vfs;
	__u32 out_changing;
	__u32 __reserved;
	__u8 out_id[VMPLAT_ID_BYTES];
	char out_driver[VMPLAT_SRIOV_DRIVER_BYTES];
	char out_owner[VMPLAT_SRIOV_OWNER_BYTES];
};

#define VMPLAT_SRIOV_STATUS	_IO(VMPLAT_IOC_TYPE, VMPLAT_CMD_SRIOV_STATUS)

/* VMPLATFS_MAGIC - statfs(2) f_type of vmplatfs, "VMPL". */
#define VMPLATFS_MAGIC		0x564d504c

#endif /* _UAPI_LINUX_VMPLAT_H */
