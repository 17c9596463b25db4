/* SPDX-License-Identifier: LGPL-2.1-or-later */
/*
 * libvmplat: mapped memory, and memory for generated code.
 *
 * A map is memory of this process between two guards, where every access is SIGSEGV: who runs over
 * its end is told, not served. What is asked for and cannot be had is an error that says what to do;
 * what the kernel may or may not do (huge pages, a node) is asked for here and looked up with
 * vmplat_map_query(), never assumed.
 *
 * No map is writable and executable at once. Code is generated into a vmplat_jit, which is one memory
 * seen twice: written through one view, executed through the other.
 *
 * Offsets and lengths are in bytes; functions that change part of a map widen it to whole pages. A
 * handle is used by one thread at a time, its memory by any number.
 */
#ifndef VMPLAT_MAP_H
#define VMPLAT_MAP_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#ifdef __cplusplus
extern "C" {
#endif

/* ---- mapped memory --------------------------------------------------------- */

/**
 * enum vmplat_map_flags - how memory is mapped; without any: private, readable and writable
 * @VMPLAT_MAP_F_SHARED: with the file, or, without one, with children of fork()
 * @VMPLAT_MAP_F_READ_ONLY: not writable
 * @VMPLAT_MAP_F_NO_ACCESS: neither, until vmplat_map_protect()
 * @VMPLAT_MAP_F_POPULATE: each page is there on return
 * @VMPLAT_MAP_F_LOCK: and is never swapped out
 * @VMPLAT_MAP_F_LAZY: nothing is set aside for it: a page that cannot be had is found out at the
 *	first touch
 * @VMPLAT_MAP_F_HUGE: begins where a huge page may, and asks for them
 * @VMPLAT_MAP_F_HUGE_2M: of huge pages that the administrator has set aside, or fails
 * @VMPLAT_MAP_F_HUGE_1G: the same, of 1 GiB
 * @VMPLAT_MAP_F_NO_DUMP: not in cores
 * @VMPLAT_MAP_F_NO_FORK: not in children
 */
enum vmplat_map_flags {
	VMPLAT_MAP_F_SHARED	= 1 << 0,
	VMPLAT_MAP_F_READ_ONLY	= 1 << 1,
	VMPLAT_MAP_F_NO_ACCESS	= 1 << 2,
	VMPLAT_MAP_F_POPULATE	= 1 << 3,
	VMPLAT_MAP_F_LOCK	= 1 << 4,
	VMPLAT_MAP_F_LAZY	= 1 << 5,
	VMPLAT_MAP_F_HUGE	= 1 << 6,
	VMPLAT_MAP_F_HUGE_2M	= 1 << 7,
	VMPLAT_MAP_F_HUGE_1G	= 1 << 8,
	VMPLAT_MAP_F_NO_DUMP	= 1 << 9,
	VMPLAT_MAP_F_NO_FORK	= 1 << 10,
};

/**
 * enum vmplat_map_placement - which NUMA nodes pages come from
 * @VMPLAT_MAP_ANYWHERE: the thread's that touches them first, mostly
 * @VMPLAT_MAP_BIND: only these nodes
 * @VMPLAT_MAP_PREFER: the first of these, or others when it is full
 * @VMPLAT_MAP_INTERLEAVE: these in turn
 */
enum vmplat_map_placement {
	VMPLAT_MAP_ANYWHERE,
	VMPLAT_MAP_BIND,
	VMPLAT_MAP_PREFER,
	VMPLAT_MAP_INTERLEAVE,
};

#define VMPLAT_MAP_NODES_MAX	64

/**
 * struct vmplat_map_options - zero is the default of each
 * @flags: &enum vmplat_map_flags
 * @placement: &enum vmplat_map_placement
 * @nodes: set of 1 << node, for @placement
 * @guard_bytes: length of each guard; 0: one page
 */
struct vmplat_map_options {
	uint32_t flags;
	uint32_t placement;
	uint64_t nodes;
	size_t guard_bytes;
};

struct vmplat_map;

/**
 * vmplat_map_new - zeroes
 * @bytes: rounded up to whole pages, of the size that the flags ask for
 * @o: NULL for the default
 *
 * -EINVAL: no bytes, flags that contradict each other, a node that is not there; -ENOMEM: no memory,
 * or over RLIMIT_MEMLOCK, or too few huge pages set aside; -EPERM: locking is not allowed;
 * -EOPNOTSUPP: the kernel lacks huge pages or NUMA.
 */
int vmplat_map_new(struct vmplat_map **map, size_t bytes, const struct vmplat_map_options *o);
/**
 * vmplat_map_file - @bytes of a file from @offset, a multiple of the page size
 * @fd: may be closed afterwards
 *
 * Huge pages are the file's own affair: -EINVAL for VMPLAT_MAP_F_HUGE_2M and _1G. Else as
 * vmplat_map_new() and mmap().
 */
int vmplat_map_file(struct vmplat_map **map, int fd, uint64_t offset, size_t bytes,
		    const struct vmplat_map_options *o);
/** vmplat_map_close - unmap it; accepts NULL */
void vmplat_map_close(struct vmplat_map *map);
void *vmplat_map_addr(const struct vmplat_map *map);
/** vmplat_map_bytes - its length, whole pages */
size_t vmplat_map_bytes(const struct vmplat_map *map);

/**
 * vmplat_map_protect - change what may be done with a part
 * @prot: PROT_NONE, PROT_READ, PROT_READ | PROT_WRITE or PROT_READ | PROT_EXEC of <sys/mman.h>
 *
 * -EINVAL: writable and executable at once; -ERANGE: beyond the end; -EACCES: the file is not open
 * for it.
 */
int vmplat_map_protect(struct vmplat_map *map, size_t offset, size_t bytes, int prot);
/** vmplat_map_populate - have each page of a part now; -ENOMEM, -EFAULT: cannot be had; -EOPNOTSUPP */
int vmplat_map_populate(struct vmplat_map *map, size_t offset, size_t bytes);
/** vmplat_map_lock - have each page of a part and keep it; -ENOMEM: over RLIMIT_MEMLOCK; -EPERM */
int vmplat_map_lock(struct vmplat_map *map, size_t offset, size_t bytes);
int vmplat_map_unlock(struct vmplat_map *map, size_t offset, size_t bytes);
/**
 * vmplat_map_place - where pages of a part come from; those there are moved
 *
 * -EIO: some could not be moved, the rest were.
 */
int vmplat_map_place(struct vmplat_map *map, size_t offset, size_t bytes,
		     enum vmplat_map_placement placement, uint64_t nodes);

/**
 * struct vmplat_map_facts - what the kernel has made of it
 * @resident_bytes: in memory
 * @huge_bytes: of these, in huge pages
 * @locked_bytes: that cannot be swapped out, resident or not
 * @page_bytes: the size its pages are accounted in
 * @node_bytes: resident ones by node; all zero where @has_nodes is false
 */
struct vmplat_map_facts {
	uint64_t resident_bytes;
	uint64_t huge_bytes;
	uint64_t locked_bytes;
	uint64_t page_bytes;
	bool has_nodes;
	uint64_t node_bytes[VMPLAT_MAP_NODES_MAX];
};

/** vmplat_map_query - takes time in proportion to its length; -ENOENT: /proc is not mounted */
int vmplat_map_query(const struct vmplat_map *map, struct vmplat_map_facts *facts);

/* ---- memory for generated code ------------------------------------------------ */

struct vmplat_jit;

/**
 * vmplat_jit_new - memory for code
 * @bytes: rounded up to whole pages
 *
 * The execute view cannot be made writable by anybody, mprotect() included.
 *
 * -EINVAL: no bytes; -ENOMEM; -EACCES: security policy of this machine forbids it; -ENOENT: /proc is
 * not mounted.
 */
int vmplat_jit_new(struct vmplat_jit **jit, size_t bytes);
void vmplat_jit_close(struct vmplat_jit *jit);
/** vmplat_jit_write - where code is written; NULL once it is sealed */
void *vmplat_jit_write(const struct vmplat_jit *jit);
/** vmplat_jit_exec - where the same bytes are executed */
const void *vmplat_jit_exec(const struct vmplat_jit *jit);
size_t vmplat_jit_bytes(const struct vmplat_jit *jit);
/** VMPLAT_JIT_F_REUSED - other code was there before, and other threads may have run it */
#define VMPLAT_JIT_F_REUSED	(1u << 0)
/**
 * vmplat_jit_publish - make what was written ready to be executed, by all threads
 * @flags: 0 or VMPLAT_JIT_F_REUSED
 *
 * Makes instruction caches see it (nothing to do on x86), and, with VMPLAT_JIT_F_REUSED, has every
 * thread of the process forget instructions it fetched ahead (membarrier()). Whoever hands the address
 * to another thread still needs a release store.
 *
 * -EINVAL: unknown flags; -ERANGE: beyond the end; -EOPNOTSUPP: the kernel has no such membarrier().
 */
int vmplat_jit_publish(struct vmplat_jit *jit, size_t offset, size_t bytes, uint32_t flags);
/**
 * vmplat_jit_seal - no more code: the write view goes, and the kernel lets nobody write it again
 *
 * Do not use pointers into the write view afterwards. 0 also if it is sealed already.
 */
int vmplat_jit_seal(struct vmplat_jit *jit);

#ifdef __cplusplus
}
#endif

#endif /* VMPLAT_MAP_H */
