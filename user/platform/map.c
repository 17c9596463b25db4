// SPDX-License-Identifier: LGPL-2.1-or-later
/*
 * Mapped memory between guards. The guards are one reservation without access, of which the memory
 * takes the middle; so a map has kernel mappings of its own, which are not merged with others, and
 * /proc/self/smaps tells about it alone.
 */
#include <inttypes.h>
#include <linux/mempolicy.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/mman.h>
#include <sys/resource.h>
#include <sys/syscall.h>
#include <unistd.h>

#include <vmplat_map.h>

#include "lib/lib.h"

#define HUGE_2M		(UINT64_C(1) << 21)
#define HUGE_1G		(UINT64_C(1) << 30)
#define FLAGS_ALL	(2 * (uint32_t)VMPLAT_MAP_F_NO_FORK - 1)

#ifndef MAP_HUGE_SHIFT
#define MAP_HUGE_SHIFT	26
#endif
#ifndef MADV_POPULATE_READ	/* Linux 5.14 */
#define MADV_POPULATE_READ	22
#define MADV_POPULATE_WRITE	23
#endif

struct vmplat_map {
	uint8_t *addr;
	size_t bytes;
	size_t page_bytes;		/* what parts are widened to */
	uint8_t *reserved;		/* with the guards */
	size_t reserved_bytes;
};

static size_t small_page(void)
{
	return (size_t)sysconf(_SC_PAGESIZE);
}

static uint64_t huge_bytes(uint32_t flags)
{
	return flags & VMPLAT_MAP_F_HUGE_1G ? HUGE_1G : flags & VMPLAT_MAP_F_HUGE_2M ? HUGE_2M : 0;
}

/* false: it does not fit */
static bool round_up(size_t *bytes, size_t unit)
{
	if (__builtin_add_overflow(*bytes, unit - 1, bytes))
		return false;
	*bytes -= *bytes % unit;
	return true;
}

/* ---- making ---------------------------------------------------------------------- */

static int check_options(const struct vmplat_map_options *o, size_t bytes)
{
	if (!bytes)
		return lib_error(-EINVAL, "a map of no bytes");
	if (o->flags & ~FLAGS_ALL)
		return lib_error(-EINVAL, "map flags %#x are not known", o->flags & ~FLAGS_ALL);
	if (__builtin_popcount(o->flags & (VMPLAT_MAP_F_HUGE | VMPLAT_MAP_F_HUGE_2M |
					   VMPLAT_MAP_F_HUGE_1G)) > 1)
		return lib_error(-EINVAL, "a map has huge pages of one kind only");
	if (o->flags & VMPLAT_MAP_F_NO_ACCESS &&
	    o->flags & (VMPLAT_MAP_F_READ_ONLY | VMPLAT_MAP_F_POPULATE | VMPLAT_MAP_F_LOCK))
		return lib_error(-EINVAL, "a map without access cannot be read, populated or locked");
	return 0;
}

/* guards, and the middle @m->addr with @m->bytes that begins at a multiple of @align */
static int reserve(struct vmplat_map *m, size_t guard, size_t align)
{
	size_t total;

	if (!round_up(&guard, small_page()) || !round_up(&m->bytes, m->page_bytes) ||
	    __builtin_add_overflow(m->bytes, 2 * guard, &total) || guard > total ||
	    __builtin_add_overflow(total, align, &total))
		return lib_error(-ENOMEM, "a map and its guards do not fit this address space");
	m->reserved = mmap(NULL, total, PROT_NONE, MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);
	if (m->reserved == MAP_FAILED)
		return lib_error(-errno, "no room for %zu bytes in this address space: %s", total,
				 strerror(errno));
	m->reserved_bytes = total;
	m->addr = m->reserved + guard;
	m->addr += -(uintptr_t)m->addr & (align - 1);
	return 0;
}

static int map_flags(uint32_t flags, int fd)
{
	uint64_t huge = huge_bytes(flags);

	return MAP_FIXED | (flags & VMPLAT_MAP_F_SHARED ? MAP_SHARED : MAP_PRIVATE) |
	       (fd < 0 ? MAP_ANONYMOUS : 0) | (flags & VMPLAT_MAP_F_LAZY ? MAP_NORESERVE : 0) |
	       (huge ? MAP_HUGETLB | __builtin_ctzll(huge) << MAP_HUGE_SHIFT : 0);
}

static int map_error(int err, const struct vmplat_map *m, uint32_t flags, int fd)
{
	uint64_t huge = huge_bytes(flags) >> 10;

	if (huge && (err == ENOENT || err == EINVAL))
		return lib_error(-EOPNOTSUPP, "this kernel has no huge pages of %" PRIu64 " KiB", huge);
	if (huge && err == ENOMEM)
		return lib_error(-ENOMEM, "fewer than %" PRIu64 " huge pages of %" PRIu64
				 " KiB are free: set them aside in /sys/kernel/mm/hugepages/hugepages-%"
				 PRIu64 "kB/nr_hugepages", (uint64_t)m->bytes / (huge << 10), huge, huge);
	if (fd >= 0)
		return lib_error(-err, "descriptor %d does not map: %s", fd, strerror(err));
	return lib_error(-err, "no memory of %zu bytes: %s", m->bytes, strerror(err));
}

/* what is a wish, not a promise: vmplat_map_query() tells what came of it */
static void advise(const struct vmplat_map *m, uint32_t flags)
{
	if (flags & VMPLAT_MAP_F_HUGE)
		madvise(m->addr, m->bytes, MADV_HUGEPAGE);
	if (flags & VMPLAT_MAP_F_NO_DUMP)
		madvise(m->addr, m->bytes, MADV_DONTDUMP);
	if (flags & VMPLAT_MAP_F_NO_FORK)
		madvise(m->addr, m->bytes, MADV_DONTFORK);
}

static int fill_in(struct vmplat_map *m, int fd, uint64_t offset,
		   const struct vmplat_map_options *o)
{
	int prot = o->flags & VMPLAT_MAP_F_NO_ACCESS ? PROT_NONE :
		   o->flags & VMPLAT_MAP_F_READ_ONLY ? PROT_READ : PROT_READ | PROT_WRITE;
	int ret = 0;

	if (mmap(m->addr, m->bytes, prot, map_flags(o->flags, fd), fd, (off_t)offset) == MAP_FAILED)
		return map_error(errno, m, o->flags, fd);
	advise(m, o->flags);
	if (o->placement)
		ret = vmplat_map_place(m, 0, m->bytes, o->placement, o->nodes);
	if (!ret && o->flags & VMPLAT_MAP_F_POPULATE)
		ret = vmplat_map_populate(m, 0, m->bytes);
	if (!ret && o->flags & VMPLAT_MAP_F_LOCK)
		ret = vmplat_map_lock(m, 0, m->bytes);
	return ret;
}

static int make(struct vmplat_map **out, int fd, uint64_t offset, size_t bytes,
		const struct vmplat_map_options *o)
{
	static const struct vmplat_map_options plain;
	size_t page = small_page(), align;
	struct vmplat_map *m;
	int ret;

	*out = NULL;
	o = o ? o : &plain;
	ret = check_options(o, bytes);
	if (ret)
		return ret;
	m = calloc(1, sizeof(*m));
	if (!m)
		return lib_error(-ENOMEM, "out of memory");
	m->bytes = bytes;
	m->page_bytes = huge_bytes(o->flags) ? huge_bytes(o->flags) : page;
	align = o->flags & VMPLAT_MAP_F_HUGE && bytes >= HUGE_2M ? HUGE_2M : m->page_bytes;
	ret = reserve(m, o->guard_bytes ? o->guard_bytes : page, align);
	if (!ret)
		ret = fill_in(m, fd, offset, o);
	if (ret)
		vmplat_map_close(m);
	else
		*out = m;
	return ret;
}

API int vmplat_map_new(struct vmplat_map **map, size_t bytes, const struct vmplat_map_options *o)
{
	return make(map, -1, 0, bytes, o);
}

API int vmplat_map_file(struct vmplat_map **map, int fd, uint64_t offset, size_t bytes,
			const struct vmplat_map_options *o)
{
	*map = NULL;
	if (o && huge_bytes(o->flags))
		return lib_error(-EINVAL, "descriptor %d: a file has its own size of pages", fd);
	if (fd < 0)
		return lib_error(-EBADF, "descriptor %d is not open", fd);
	return make(map, fd, offset, bytes, o);
}

API void vmplat_map_close(struct vmplat_map *m)
{
	if (!m)
		return;
	if (m->reserved_bytes)
		munmap(m->reserved, m->reserved_bytes);
	free(m);
}

API void *vmplat_map_addr(const struct vmplat_map *m)
{
	return m->addr;
}

API size_t vmplat_map_bytes(const struct vmplat_map *m)
{
	return m->bytes;
}

/* ---- parts --------------------------------------------------------------------------- */

/* [*offset, + *bytes) to whole pages within the map */
static int widen(const struct vmplat_map *m, size_t *offset, size_t *bytes)
{
	size_t end;

	if (__builtin_add_overflow(*offset, *bytes, &end) || end > m->bytes)
		return lib_error(-ERANGE, "%zu bytes at %zu lie beyond the end of a map of %zu", *bytes,
				 *offset, m->bytes);
	*bytes += *offset % m->page_bytes;
	*offset -= *offset % m->page_bytes;
	round_up(bytes, m->page_bytes);
	return 0;
}

API int vmplat_map_protect(struct vmplat_map *m, size_t offset, size_t bytes, int prot)
{
	int ret;

	if (prot & PROT_WRITE && prot & PROT_EXEC)
		return lib_error(-EINVAL, "memory is not made writable and executable at once: write "
				 "code through the two views of a vmplat_jit");
	ret = widen(m, &offset, &bytes);
	if (ret)
		return ret;
	if (mprotect(m->addr + offset, bytes, prot))
		return lib_error(-errno, "%zu bytes at %zu of a map do not change protection: %s", bytes,
				 offset, strerror(errno));
	return 0;
}

static int populate_as(const struct vmplat_map *m, size_t offset, size_t bytes, int advice)
{
	int ret;

	do
		ret = madvise(m->addr + offset, bytes, advice) ? -errno : 0;
	while (ret == -EINTR);
	return ret;
}

API int vmplat_map_populate(struct vmplat_map *m, size_t offset, size_t bytes)
{
	int ret = widen(m, &offset, &bytes);

	if (ret)
		return ret;
	ret = populate_as(m, offset, bytes, MADV_POPULATE_WRITE);
	if (ret == -EINVAL)	/* not writable */
		ret = populate_as(m, offset, bytes, MADV_POPULATE_READ);
	if (ret == -EINVAL)
		return lib_error(-EOPNOTSUPP, "pages cannot be had before they are touched: without access, "
				 "or a kernel before 5.14");
	return ret ? lib_error(ret, "%zu bytes at %zu of a map cannot be had now: %s", bytes, offset,
			       strerror(-ret)) : 0;
}

/* By number: under AddressSanitizer mlock() does nothing, and says that it did. */
API int vmplat_map_lock(struct vmplat_map *m, size_t offset, size_t bytes)
{
	struct rlimit limit = { 0, 0 };
	int ret = widen(m, &offset, &bytes);

	if (ret || !syscall(SYS_mlock, m->addr + offset, bytes))
		return ret;
	ret = -errno;
	getrlimit(RLIMIT_MEMLOCK, &limit);
	if (ret == -ENOMEM || ret == -EPERM || ret == -EAGAIN)
		return lib_error(ret, "%zu bytes cannot be locked: out of memory, or over the limit of %llu "
				 "bytes (`ulimit -l`, LimitMEMLOCK=)", bytes,
				 (unsigned long long)limit.rlim_cur);
	return lib_error(ret, "%zu bytes cannot be locked: %s", bytes, strerror(-ret));
}

API int vmplat_map_unlock(struct vmplat_map *m, size_t offset, size_t bytes)
{
	int ret = widen(m, &offset, &bytes);

	if (!ret && syscall(SYS_munlock, m->addr + offset, bytes))
		ret = lib_error(-errno, "%zu bytes cannot be unlocked: %s", bytes, strerror(errno));
	return ret;
}

/* ---- nodes ----------------------------------------------------------------------------- */

/* which there are, with memory or not; 0: the kernel knows none */
static uint64_t nodes_there(void)
{
	FILE *f = fopen("/sys/devices/system/node/online", "re");
	unsigned int first, last;
	uint64_t nodes = 0;

	while (f && fscanf(f, "%u", &first) == 1) {
		last = first;
		if (fscanf(f, "-%u", &last) < 0)
			last = first;
		for (; first <= last && first < VMPLAT_MAP_NODES_MAX; first++)
			nodes |= UINT64_C(1) << first;
		if (fgetc(f) != ',')
			break;
	}
	if (f)
		fclose(f);
	return nodes;
}

static int place_error(int err, uint64_t nodes)
{
	uint64_t lost = nodes & ~nodes_there();

	if (err == ENOSYS)
		return lib_error(-EOPNOTSUPP, "this kernel does not know NUMA");
	if (err == EINVAL && lost)
		return lib_error(-EINVAL, "there is no node %d", __builtin_ctzll(lost));
	if (err == EIO)
		return lib_error(-EIO, "some pages could not be moved to their node");
	return lib_error(-err, "pages cannot be placed on nodes %#" PRIx64 ": %s", nodes, strerror(err));
}

API int vmplat_map_place(struct vmplat_map *m, size_t offset, size_t bytes,
			 enum vmplat_map_placement placement, uint64_t nodes)
{
	static const int modes[] = { MPOL_DEFAULT, MPOL_BIND, MPOL_PREFERRED, MPOL_INTERLEAVE };
	unsigned long mask = (unsigned long)nodes;
	int ret = widen(m, &offset, &bytes);

	if (ret)
		return ret;
	if ((unsigned int)placement > VMPLAT_MAP_INTERLEAVE)
		return lib_error(-EINVAL, "placement %u is not known", placement);
	if (!placement != !nodes)
		return lib_error(-EINVAL, placement ? "a placement needs nodes"
						    : "nodes need a placement");
	/* the length counts one bit more than there are */
	if (syscall(SYS_mbind, m->addr + offset, bytes, modes[placement], nodes ? &mask : NULL,
		    nodes ? VMPLAT_MAP_NODES_MAX + 1UL : 0UL,
		    (unsigned long)(placement ? MPOL_MF_MOVE | MPOL_MF_STRICT : 0)))
		return place_error(errno, nodes);
	return 0;
}

/* ---- what came of it ---------------------------------------------------------------------- */

struct mapping {
	bool ours;
	uint64_t bytes;
};

static void smaps_line(const char *line, const struct vmplat_map *m, struct mapping *at,
		       struct vmplat_map_facts *facts)
{
	uintptr_t first = (uintptr_t)m->addr;
	unsigned long begin, end, kib;
	char name[32];

	if (sscanf(line, "%lx-%lx ", &begin, &end) == 2) {
		at->ours = begin >= first && end <= first + m->bytes;
		at->bytes = end - begin;
	} else if (at->ours && !strncmp(line, "VmFlags:", 8)) {
		facts->locked_bytes += strstr(line, " lo") ? at->bytes : 0;
	} else if (at->ours && sscanf(line, "%31[^:]: %lu kB", name, &kib) == 2) {
		uint64_t bytes = (uint64_t)kib << 10;
		bool thp = !strcmp(name, "AnonHugePages") || !strcmp(name, "ShmemPmdMapped") ||
			   !strcmp(name, "FilePmdMapped");
		bool reserved = !strcmp(name, "Shared_Hugetlb") || !strcmp(name, "Private_Hugetlb");

		if (!strcmp(name, "Rss") || reserved)
			facts->resident_bytes += bytes;
		if (thp || reserved)
			facts->huge_bytes += bytes;
		if (!strcmp(name, "KernelPageSize"))
			facts->page_bytes = bytes;
	}
}

/* move_pages() without a destination says where pages are */
static void count_nodes(const struct vmplat_map *m, struct vmplat_map_facts *facts)
{
	enum { BATCH = 512 };
	size_t page = small_page();
	void *addrs[BATCH];
	int node[BATCH];

	facts->has_nodes = true;
	for (size_t at = 0; at < m->bytes; ) {
		unsigned long nr = 0;

		for (; nr < BATCH && at < m->bytes; at += page)
			addrs[nr++] = m->addr + at;
		if (syscall(SYS_move_pages, 0, nr, addrs, NULL, node, 0)) {
			facts->has_nodes = false;
			memset(facts->node_bytes, 0, sizeof(facts->node_bytes));
			return;
		}
		while (nr--)
			if (node[nr] >= 0 && node[nr] < VMPLAT_MAP_NODES_MAX)
				facts->node_bytes[node[nr]] += page;
	}
}

API int vmplat_map_query(const struct vmplat_map *m, struct vmplat_map_facts *facts)
{
	FILE *f = fopen("/proc/self/smaps", "re");
	struct mapping at = { false, 0 };
	char line[512];

	memset(facts, 0, sizeof(*facts));
	if (!f)
		return lib_error(-errno, "/proc/self/smaps: %s", strerror(errno));
	while (fgets(line, sizeof(line), f))
		smaps_line(line, m, &at, facts);
	fclose(f);
	count_nodes(m, facts);
	return 0;
}
