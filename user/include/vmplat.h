/* SPDX-License-Identifier: LGPL-2.1-or-later */
/*
 * libvmplat: the library beside the vmplat kernel module.
 *
 * Functions return 0 or a positive count, or -errno; constructors give a handle
 * through their first argument and leave it NULL on failure. The errno values
 * are those that <linux/vmplat.h> documents for the ioctl behind each function.
 * After a failure vmplat_last_error() has a sentence, with the offending value,
 * for people, and <vmplat_error.h> the rest; it is per thread. Nothing here prints or exits. A handle may be
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
#include <linux/vmplat_netlink.h>

#include <vmplat_error.h>

#ifdef __cplusplus
extern "C" {
#endif

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

/**
 * vmplat_pci_hold - let nobody open a PCI function that vmplat_vfio has
 * @dev: the control device
 * @address: DDDD:BB:SS.F
 * @flags: &enum vmplat_pci_hold_flags
 *
 * To unbind a driver whose function is open waits for its user, and cannot be
 * interrupted. A hold is refused at once instead; while there is one, opening the
 * function fails with EBUSY.
 *
 * Returns a file descriptor, the hold, to be closed. -EBUSY: a process has it open,
 * which vmplat_last_error() names; -ENODEV, -ENXIO: there is no such function, or
 * vmplat_vfio does not have it; -EPERM: needs CAP_SYS_ADMIN; -EINVAL.
 */
int vmplat_pci_hold(struct vmplat *dev, const char *address, uint32_t flags);

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
/**
 * vmplat_mem_id - by which id events know a memory
 * @id: set on success; never given to another memory
 *
 * -ENOENT: there are no events here.
 */
int vmplat_mem_id(const struct vmplat_mem *mem, struct vmplat *dev, uint64_t *id);
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
 * vmplat_log_take - forget all marks, and count them
 *
 * Returns how many pages were written since the last time, each counted once.
 */
int64_t vmplat_log_take(struct vmplat_log *log);
/**
 * vmplat_log_unsure - of what the last fetch reported, how many pages nobody saw written?
 *
 * &vmplat_log_fetch.out_nr_unsure of the last vmplat_log_bitmap() or vmplat_log_ranges(), or the
 * sum of vmplat_log_take(); 0 after one that failed.
 */
uint64_t vmplat_log_unsure(const struct vmplat_log *log);
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

/* ---- IOMMU domains ------------------------------------------------------- */

struct vmplat_domain;

/** vmplat_domain_new - an address space for devices, empty */
int vmplat_domain_new(struct vmplat_domain **domain, struct vmplat *dev);
/** vmplat_domain_from_fd - take a domain received from another process; takes over @fd */
int vmplat_domain_from_fd(struct vmplat_domain **domain, int fd);
/** vmplat_domain_close - with the last descriptor of it, its devices are the host's again */
void vmplat_domain_close(struct vmplat_domain *domain);
int vmplat_domain_fd(const struct vmplat_domain *domain);
/**
 * vmplat_domain_attach - have a device, and all of its IOMMU group, see what is mapped
 * @address: a PCI function, DDDD:BB:SS.F
 * @flags: &enum vmplat_domain_attach_flags
 *
 * Needs CAP_SYS_ADMIN. The sentence of an error names who is in the way.
 */
int vmplat_domain_attach(struct vmplat_domain *domain, const char *address, uint32_t flags);
/**
 * vmplat_domain_detach - block its group's DMA, or give the group back
 * @flags: &enum vmplat_domain_detach_flags
 */
int vmplat_domain_detach(struct vmplat_domain *domain, const char *address, uint32_t flags);
/**
 * vmplat_domain_map - have devices see a part of a pinnable memory
 * @iova: where; this and the following in bytes, multiples of the page size
 * @offset: which byte of the memory is there
 * @prot: &enum vmplat_domain_map_flags
 */
int vmplat_domain_map(struct vmplat_domain *domain, uint64_t iova, struct vmplat_mem *mem,
		      uint64_t offset, uint64_t bytes, uint32_t prot);
/** vmplat_domain_unmap - all mappings within a range; returns how many bytes they had */
int64_t vmplat_domain_unmap(struct vmplat_domain *domain, uint64_t iova, uint64_t bytes);
int64_t vmplat_domain_unmap_all(struct vmplat_domain *domain);
/**
 * vmplat_domain_next - the first mapping that ends at @iova or behind
 *
 * Returns 1, or 0 if there is none.
 */
int vmplat_domain_next(struct vmplat_domain *domain, uint64_t iova,
		       struct vmplat_domain_query *mapping);
/** vmplat_domain_reserved - where nothing can be mapped; returns how many regions */
int64_t vmplat_domain_reserved(struct vmplat_domain *domain,
			       struct vmplat_domain_region *regions, size_t nr);
int vmplat_domain_query(struct vmplat_domain *domain, struct vmplat_domain_status *st);

/* ---- boot images --------------------------------------------------------- */

struct vmplat_image;

/**
 * enum vmplat_image_kind - what a file is, by what is in it, not by its name
 * @VMPLAT_IMAGE_UNKNOWN: none of the others
 * @VMPLAT_IMAGE_BZIMAGE: Linux for x86 by its boot protocol, mostly bzImage
 * @VMPLAT_IMAGE_ELF: an ELF file, a vmlinux for example
 * @VMPLAT_IMAGE_ARM64: the arm64 kernel's Image
 * @VMPLAT_IMAGE_RISCV: the RISC-V kernel's Image
 * @VMPLAT_IMAGE_ZBOOT: an EFI program that holds a compressed kernel
 * @VMPLAT_IMAGE_PE: another EFI or Windows program
 * @VMPLAT_IMAGE_INITRD: cpio archives one behind the other, compressed or not
 * @VMPLAT_IMAGE_COMPRESSED: compressed, and not an initrd
 * @VMPLAT_IMAGE_DTB: a flattened device tree
 * @VMPLAT_IMAGE_FIRMWARE: BIOS or UEFI
 * @VMPLAT_IMAGE_DISK: a disk, raw or in a format of some hypervisor
 */
enum vmplat_image_kind {
	VMPLAT_IMAGE_UNKNOWN,
	VMPLAT_IMAGE_BZIMAGE,
	VMPLAT_IMAGE_ELF,
	VMPLAT_IMAGE_ARM64,
	VMPLAT_IMAGE_RISCV,
	VMPLAT_IMAGE_ZBOOT,
	VMPLAT_IMAGE_PE,
	VMPLAT_IMAGE_INITRD,
	VMPLAT_IMAGE_COMPRESSED,
	VMPLAT_IMAGE_DTB,
	VMPLAT_IMAGE_FIRMWARE,
	VMPLAT_IMAGE_DISK,
};

/* Also unpack what is compressed, and describe that as parts. */
#define VMPLAT_IMAGE_F_DEEP	(1u << 0)

enum vmplat_fact_type {
	VMPLAT_FACT_TEXT,	/* text */
	VMPLAT_FACT_NUMBER,	/* number */
	VMPLAT_FACT_BYTES,	/* number, a size or offset */
	VMPLAT_FACT_ADDRESS,	/* number, for people in hexadecimal */
	VMPLAT_FACT_FLAG,	/* number, 0 or 1 */
};

/**
 * struct vmplat_fact - one thing known about an image
 * @name: lower case with underscores: "version", "entry_64"
 * @text: printable ASCII; NULL unless @type is VMPLAT_FACT_TEXT
 */
struct vmplat_fact {
	const char *name;
	enum vmplat_fact_type type;
	const char *text;
	uint64_t number;
};

/**
 * vmplat_image_open - find out what a file is
 * @img: the description; the file is closed again
 * @path: a regular file or a block device
 * @flags: 0 or VMPLAT_IMAGE_F_DEEP
 *
 * Any content is described, the worst as VMPLAT_IMAGE_UNKNOWN: failures are those of
 * reading. -EINVAL: unknown flags, or neither a file nor a block device; -ENOMEM.
 */
int vmplat_image_open(struct vmplat_image **img, const char *path, uint32_t flags);
/** vmplat_image_from_bytes - the same for @len bytes in memory, which are not kept */
int vmplat_image_from_bytes(struct vmplat_image **img, const void *bytes, size_t len,
			    uint32_t flags);
/** vmplat_image_close - not for what vmplat_image_part() gave */
void vmplat_image_close(struct vmplat_image *img);
enum vmplat_image_kind vmplat_image_kind(const struct vmplat_image *img);
/** vmplat_image_kind_name - "bzimage", "elf", "initrd", ... */
const char *vmplat_image_kind_name(enum vmplat_image_kind kind);
/** vmplat_image_summary - one line for people, printable ASCII */
const char *vmplat_image_summary(const struct vmplat_image *img);
/** vmplat_image_role - what `vmplat run` takes it as: "kernel", "initrd", "disk", "firmware", or NULL */
const char *vmplat_image_role(const struct vmplat_image *img);
/** vmplat_image_obstacle - why there is no role, and what to do; else NULL */
const char *vmplat_image_obstacle(const struct vmplat_image *img);
size_t vmplat_image_nr_facts(const struct vmplat_image *img);
/** vmplat_image_fact - the @i-th fact, or NULL; lives as long as @img */
const struct vmplat_fact *vmplat_image_fact(const struct vmplat_image *img, size_t i);
/** vmplat_image_find - the fact called @name, or NULL */
const struct vmplat_fact *vmplat_image_find(const struct vmplat_image *img, const char *name);
size_t vmplat_image_nr_parts(const struct vmplat_image *img);
/** vmplat_image_part - the @i-th image within this one, or NULL; lives as long as @img */
const struct vmplat_image *vmplat_image_part(const struct vmplat_image *img, size_t i);
/* ---- events ------------------------------------------------------------- */

struct vmplat_events;

/**
 * enum vmplat_event_kind - what a callback is told
 * @VMPLAT_EVENT_CHANGED: something happened; @object replaces any of the same
 *	class and id, or is the last word of one that is gone
 * @VMPLAT_EVENT_RESET: forget all objects: events were lost, or this is the
 *	beginning, and what there is follows
 * @VMPLAT_EVENT_PRESENT: an object there is; changes may follow for it at once
 * @VMPLAT_EVENT_SYNC: since the reset, all objects have been told
 * @VMPLAT_EVENT_DOWN: the module was unloaded; a reset follows when it is back
 */
enum vmplat_event_kind {
	VMPLAT_EVENT_CHANGED,
	VMPLAT_EVENT_RESET,
	VMPLAT_EVENT_PRESENT,
	VMPLAT_EVENT_SYNC,
	VMPLAT_EVENT_DOWN,
};

/**
 * struct vmplat_event - one call of a callback
 * @kind: &enum vmplat_event_kind; only @epoch and @seq have a meaning unless it is
 *	CHANGED or PRESENT
 * @epoch: which life of the module @seq counts in
 * @seq: place among all events; of a PRESENT object, the last event it contains
 *	for certain
 * @class_: &enum vmplat_class
 * @action: &enum vmplat_action, 0 for a PRESENT object
 * @id: tells the objects of a class apart
 * @born: @seq with which the object came, 0 if it was there before the module
 * @time_ns: CLOCK_BOOTTIME; CHANGED only
 * @gone: the object is no more
 * @pid: the process that caused it, 0 if none did
 * @comm: its name, or ""
 * @has_owner: @owner is meant
 * @owner: user whom the object belongs to
 * @object: its attributes as they came, for vmplat_event_field()
 * @object_bytes: length of @object
 */
struct vmplat_event {
	enum vmplat_event_kind kind;
	uint64_t epoch;
	uint64_t seq;
	uint32_t class_;
	uint32_t action;
	uint64_t id;
	uint64_t born;
	uint64_t time_ns;
	bool gone;
	bool has_owner;
	uint32_t pid;
	uint32_t owner;
	const char *comm;
	const void *object;
	size_t object_bytes;
};

/** vmplat_event_fn - called for each event; other than 0 ends vmplat_events_read() */
typedef int vmplat_event_fn(const struct vmplat_event *event, void *data);

/**
 * struct vmplat_event_filter - which events a reader wants
 * @classes: set of 1 << &enum vmplat_class; 0 for all that the caller may see
 * @by_id: only objects with @id
 * @by_owner: only objects of user @owner
 */
struct vmplat_event_filter {
	uint32_t classes;
	bool by_id;
	bool by_owner;
	uint64_t id;
	uint32_t owner;
};

/**
 * struct vmplat_event_position - how far a reader has come; to be saved
 * @epoch: 0 before the first event
 * @seq: every event up to this one has been told
 */
struct vmplat_event_position {
	uint64_t epoch;
	uint64_t seq;
};

/**
 * enum vmplat_events_flags - where vmplat_events_open() begins
 * @VMPLAT_EVENTS_F_NEW: with what happens next; not with what there is
 */
enum vmplat_events_flags {
	VMPLAT_EVENTS_F_NEW	= 1 << 0,
};

/**
 * vmplat_events_open - listen
 * @events: the new handle
 * @dev: shows the right to know of virtual machines; NULL for hardware only, or
 *	with CAP_NET_ADMIN. Must stay open as long as @events is.
 * @filter: NULL for all
 * @from: where an earlier reader with this filter had got to; NULL or an epoch
 *	of 0 to begin with a reset and all objects
 * @flags: &enum vmplat_events_flags, without @from
 *
 * Whoever does what the callback says, in order, has the same objects as the
 * kernel after each call of vmplat_events_read(). Where events were lost (a full
 * receive buffer, a module reloaded, a position too old) they are fetched again,
 * or it says reset and tells all objects anew.
 *
 * -ENOENT: the module is not loaded; -EPERM: no right to these classes.
 */
int vmplat_events_open(struct vmplat_events **events, struct vmplat *dev,
		       const struct vmplat_event_filter *filter,
		       const struct vmplat_event_position *from, uint32_t flags);
void vmplat_events_close(struct vmplat_events *events);
/**
 * vmplat_events_fd - for poll(): readable when vmplat_events_read() has work
 *
 * Call it once before the first poll(): there may be work without any message.
 */
int vmplat_events_fd(const struct vmplat_events *events);
/**
 * vmplat_events_read - tell what there is, without waiting
 *
 * Returns how often @fn was called; when @fn returned other than 0, that, and the
 * event counts as told; or -errno. In both these cases there may be more to tell
 * without the descriptor being readable: call it again.
 */
int vmplat_events_read(struct vmplat_events *events, vmplat_event_fn *fn,
		       void *data);
/** vmplat_events_position - to be saved once what was told has been acted on */
struct vmplat_event_position
vmplat_events_position(const struct vmplat_events *events);
/** vmplat_events_replays - how often events were lost and fetched again */
uint64_t vmplat_events_replays(const struct vmplat_events *events);

/**
 * enum vmplat_field_type - which member of a field has its value
 */
enum vmplat_field_type {
	VMPLAT_FIELD_NUMBER,
	VMPLAT_FIELD_SIGNED,
	VMPLAT_FIELD_STRING,
	VMPLAT_FIELD_FLAG,
	VMPLAT_FIELD_BYTES,
};

/**
 * struct vmplat_field - one attribute of an object
 * @name: as in the specification of the family: "driver", "numa-node"
 * @attr: its number: VMPLAT_NL_PCI_DRIVER
 * @type: &enum vmplat_field_type; a FLAG is there, or is not
 * @word: the number as a word, if it is one of an enumeration, else NULL
 * @list: there may be several with this name
 */
struct vmplat_field {
	const char *name;
	uint32_t attr;
	enum vmplat_field_type type;
	uint64_t number;
	int64_t signed_number;
	const char *string;
	const uint8_t *bytes;
	size_t nr_bytes;
	const char *word;
	bool list;
};

/**
 * vmplat_event_field - the attributes of an object, one after the other
 * @pos: 0 at first
 *
 * Returns 1 with a field, 0 at the end. Attributes that this library does not
 * know are left out.
 */
int vmplat_event_field(const struct vmplat_event *event, size_t *pos,
		       struct vmplat_field *field);
/** vmplat_class_name - "pci"; NULL if there is no such class */
const char *vmplat_class_name(uint32_t class_);
/** vmplat_class_of - the class of a name, 0 if there is none */
uint32_t vmplat_class_of(const char *name);
/** vmplat_action_name - "add"; NULL if there is no such action */
const char *vmplat_action_name(uint32_t action);

struct vmplat_report;

/**
 * vmplat_report_new - let the world know of a VM
 * @name: 1 to VMPLAT_VM_NAME_MAX bytes
 * @state: &enum vmplat_vm_state
 * @mem_ids: ids of its memories, from vmplat_mem_id(); may be NULL
 *
 * The VM vanishes with this handle, or with the process. It belongs to the user who
 * makes the handle, and @dev must stay open as long. A handle may be used by one
 * thread at a time.
 *
 * -ENOENT: there are no events here: the module is not loaded, or this is not the
 * initial network namespace.
 */
int vmplat_report_new(struct vmplat_report **report, struct vmplat *dev,
		      const char *name, uint32_t state, const uint64_t *mem_ids,
		      size_t nr_mems);
/** vmplat_report_state - the VM is in another state now */
int vmplat_report_state(struct vmplat_report *report, uint32_t state);
/** vmplat_report_failed - it is in state failed; @reason may be cut */
int vmplat_report_failed(struct vmplat_report *report, const char *reason);
/** vmplat_report_mems - it has these memories now; @nr_mems is not 0 */
int vmplat_report_mems(struct vmplat_report *report, const uint64_t *mem_ids,
		       size_t nr_mems);
/** vmplat_report_id - the id of the VM in events */
uint64_t vmplat_report_id(const struct vmplat_report *report);
void vmplat_report_close(struct vmplat_report *report);

#ifdef __cplusplus
}
#endif

#endif /* VMPLAT_H */
