// SPDX-License-Identifier: GPL-2.0-only
/*
 * Mappings without a device: what is refused, what they hold, count and log, and
 * memory in blocks. None of it needs an IOMMU.
 */
#include <fcntl.h>
#include <pthread.h>
#include <signal.h>
#include <stdlib.h>
#include <sys/ioctl.h>
#include <sys/mman.h>
#include <sys/resource.h>
#include <sys/statfs.h>
#include <sys/wait.h>
#include <unistd.h>

#include "domain/edu.h"

#define NR	200
#define BLOCK	(2UL << 20)
#define IOVA	0x40000000UL
#define LIMIT	"/sys/module/vmplat/parameters/domain_mappings"

static int mem, domain;
static volatile uint8_t *map;

static void setup(void)
{
	mem = need(mem_new_kind(NR * PAGE, VMPLAT_MEM_F_PINNABLE));
	map = map_mem(mem, NR * PAGE);
	domain = need(domain_new());
}

static void teardown(void)
{
	close(domain);
	munmap((void *)map, NR * PAGE);
	close(mem);
}

static int punch(int fd, uint64_t at, uint64_t bytes)
{
	return fallocate(fd, FALLOC_FL_PUNCH_HOLE | FALLOC_FL_KEEP_SIZE, at, bytes);
}

static int query(uint64_t iova, struct vmplat_domain_query *q)
{
	*q = (struct vmplat_domain_query) { .size = sizeof(*q), .iova = iova };
	return ioctl(domain, VMPLAT_DOMAIN_QUERY, q);
}

static bool is_empty(void)
{
	struct vmplat_domain_status st = domain_status(domain);

	return !st.out_nr_mappings && !st.out_bytes && fdinfo(mem, "vmplat-pins") == 0;
}

/* ---- arguments --------------------------------------------------------------- */

static void refused(void)
{
	struct vmplat_domain_map arg;
	int freezable = need(mem_new(PAGE)), ro;
	char path[64];

	setup();
	snprintf(path, sizeof(path), "/proc/self/fd/%d", mem);
	ro = need(open(path, O_RDONLY | O_CLOEXEC));
	fails(domain_map(domain, RW, mem, IOVA + 1, 0, PAGE), EINVAL, "an address within a page");
	fails(domain_map(domain, RW, mem, IOVA, 512, PAGE), EINVAL, "an offset within a page");
	fails(domain_map(domain, RW, mem, IOVA, 0, PAGE / 2), EINVAL, "half a page");
	fails(domain_map(domain, RW, mem, IOVA, 0, 0), EINVAL, "nothing");
	fails(domain_map(domain, 0, mem, IOVA, 0, PAGE), EINVAL, "neither to be read nor written");
	fails(domain_map(domain, 4, mem, IOVA, 0, PAGE), EOPNOTSUPP, "an unknown flag");
	arg = (struct vmplat_domain_map) {
		.size = sizeof(arg), .flags = RW, .mem_fd = mem, .__reserved = 1, .bytes = PAGE,
	};
	fails(ioctl(domain, VMPLAT_DOMAIN_MAP, &arg), EOPNOTSUPP, "a reserved member");
	fails(domain_map(domain, RW, -1, IOVA, 0, PAGE), EBADF, "no descriptor");
	fails(domain_map(domain, RW, domain, IOVA, 0, PAGE), EMEDIUMTYPE, "a domain for a memory");
	fails(domain_map(domain, RW, freezable, IOVA, 0, PAGE), EOPNOTSUPP, "a freezable memory");
	fails(domain_map(domain, RW, ro, IOVA, 0, PAGE), EACCES, "to be written, opened to be read");
	works(domain_map(domain, VMPLAT_DOMAIN_MAP_F_READ, ro, IOVA, 0, PAGE),
	      "to be read, opened to be read");
	need(domain_unmap_all(domain));
	fails(domain_map(domain, RW, mem, IOVA, NR * PAGE, PAGE), ERANGE, "behind the end");
	fails(domain_map(domain, RW, mem, IOVA, 0, (NR + 1) * PAGE), ERANGE, "across the end");
	fails(domain_map(domain, RW, mem, IOVA, -PAGE, 2 * PAGE), EOVERFLOW, "an offset that wraps");
	fails(domain_map(domain, RW, mem, -PAGE, 0, 2 * PAGE), EOVERFLOW, "an address that wraps");
	fails(domain_map(domain, RW, mem, 0, 0, -PAGE), ERANGE, "nearly everything");
	fails(domain_unmap(domain, IOVA, 0), EINVAL, "to unmap nothing");
	fails(domain_unmap(domain, IOVA + 1, PAGE), EINVAL, "from within a page");
	fails(domain_unmap(domain, -PAGE, 2 * PAGE), EOVERFLOW, "across the end of all addresses");
	fails(domain_unmap(domain, IOVA, PAGE), ENOENT, "what is not mapped");
	is_int(domain_unmap_all(domain), 0, "all there is, which is nothing");
	ok(is_empty(), "nothing is held or mapped");
	close(ro);
	close(freezable);
	teardown();
}

static void places(void)
{
	struct vmplat_domain_query q;
	int nr = 0;

	setup();
	works(domain_map(domain, RW, mem, IOVA, 4 * PAGE, 4 * PAGE), "four pages");
	fails(domain_map(domain, RW, mem, IOVA, 0, PAGE), EEXIST, "over their first");
	fails(domain_map(domain, RW, mem, IOVA + 3 * PAGE, 0, 9 * PAGE), EEXIST, "over their last");
	fails(domain_map(domain, RW, mem, IOVA - PAGE, 0, 9 * PAGE), EEXIST, "around them");
	works(domain_map(domain, RW, mem, IOVA - PAGE, 0, PAGE), "before them");
	works(domain_map(domain, VMPLAT_DOMAIN_MAP_F_READ, mem, IOVA + 4 * PAGE, 0, PAGE),
	      "behind them, the same pages again");
	works(domain_map(domain, RW, mem, 0, 0, PAGE), "at zero");
	works(domain_map(domain, RW, mem, -PAGE, 7 * PAGE, PAGE), "at the last page of all");
	for (uint64_t at = 0; !query(at, &q); at = q.out_iova + q.out_bytes) {
		nr++;
		if (!(q.out_iova + q.out_bytes))
			break;
	}
	is_int(nr, 5, "a walk over all of them");
	ok(q.out_iova == -PAGE && q.out_mem_offset == 7 * PAGE && q.out_prot == RW, "the last");
	works(query(IOVA + 2 * PAGE, &q), "one that is asked for in its middle");
	ok(q.out_iova == IOVA && q.out_bytes == 4 * PAGE && q.out_mem_offset == 4 * PAGE &&
	   (int64_t)q.out_mem_id == fdinfo(mem, "vmplat-mem-id"), "where it is and of what");
	fails(domain_unmap(domain, IOVA + PAGE, PAGE), EINVAL, "to cut a mapping");
	fails(domain_unmap(domain, IOVA - PAGE, 3 * PAGE), EINVAL, "also at the other end");
	is_int(domain_status(domain).out_nr_mappings, 5, "nothing went");
	is_int(domain_unmap(domain, IOVA - 9 * PAGE, 14 * PAGE), 3, "three at once");
	is_int(domain_unmap_all(domain), 2, "the rest");
	fails(query(0, &q), ENOENT, "there is none");
	ok(is_empty(), "nothing is held or mapped");
	teardown();
}

/* ---- limits -------------------------------------------------------------------- */

static void limit(void)
{
	setup();
	need(poke(LIMIT, "4"));
	for (int i = 0; i < 4; i++)
		need(domain_map(domain, RW, mem, IOVA + i * PAGE, 0, PAGE));
	fails(domain_map(domain, RW, mem, 0, 0, PAGE), ENOSPC, "a mapping more than allowed");
	is_int(domain_status(domain).out_max_mappings, 4, "the status tells the limit");
	need(domain_unmap(domain, IOVA, PAGE));
	works(domain_map(domain, RW, mem, 0, 0, PAGE), "one less leaves room");
	need(poke(LIMIT, "65535"));
	teardown();
}

static int64_t locked_kib(void)
{
	FILE *f = fopen("/proc/self/status", "re");
	long long kib = -1;
	char line[256];

	while (f && fgets(line, sizeof(line), f))
		sscanf(line, "VmLck: %lld", &kib);
	if (f)
		fclose(f);
	return kib;
}

#define check(true) do { if (!(true)) _exit(__LINE__ & 0xff); } while (0)

/* As somebody whom the limit binds. */
static void limited_child(void)
{
	struct rlimit lim = { 8 * PAGE, 8 * PAGE };

	check(!setrlimit(RLIMIT_MEMLOCK, &lim) && !setresuid(1000, 1000, 1000));
	check(domain_map(domain, RW, mem, IOVA, 0, 9 * PAGE) && errno == EDQUOT);
	check(!locked_kib() && is_empty());
	check(!domain_map(domain, RW, mem, IOVA, 0, 5 * PAGE));
	check(locked_kib() == 20);
	check(domain_map(domain, RW, mem, 0, 0, 4 * PAGE) && errno == EDQUOT);
	check(domain_map(domain, RW, mem, IOVA, 0, PAGE) && errno == EEXIST);
	check(locked_kib() == 20);
	check(!domain_map(domain, RW, mem, 0, 0, 3 * PAGE));
	check(domain_unmap_all(domain) == 2 && !locked_kib());
	check(!domain_map(domain, RW, mem, IOVA, 0, 8 * PAGE));
	_exit(0);	/* with the mapping: the parent has the domain, too */
}

static void memlock(void)
{
	int status;
	pid_t pid;

	setup();
	pid = need(fork());
	if (!pid)
		limited_child();
	need(waitpid(pid, &status, 0));
	is_int(WEXITSTATUS(status), 0, "RLIMIT_MEMLOCK of who maps is kept (line, if not)");
	is_int(domain_status(domain).out_nr_mappings, 1, "what it mapped outlives it");
	is_int(domain_unmap_all(domain), 1, "and is counted off though it is gone");
	is_int(locked_kib(), 0, "not off somebody else");
	teardown();
}

/* ---- pages that stay --------------------------------------------------------------- */

static void kept(void)
{
	char path[64];
	int again;

	setup();
	memset((void *)map, 1, NR * PAGE);
	need(domain_map(domain, RW, mem, IOVA, 8 * PAGE, 4 * PAGE));
	is_int(fdinfo(mem, "vmplat-pins"), 1, "fdinfo tells of it");
	fails(punch(mem, 0, NR * PAGE), EBUSY, "to punch all of the memory out");
	ok(map[0] && map[8 * PAGE] && map[(NR - 1) * PAGE], "changed nothing");
	fails(punch(mem, 11 * PAGE, PAGE), EBUSY, "the last page");
	fails(punch(mem, 7 * PAGE + 9, 2 * PAGE), EBUSY, "a range that ends within it");
	ok(map[7 * PAGE + 9], "changed nothing");
	works(punch(mem, 0, 8 * PAGE), "the pages before it");
	works(punch(mem, 12 * PAGE, 8 * PAGE), "the pages behind it");
	works(punch(mem, 9 * PAGE + 100, 8), "some bytes of one, which become zero in place");
	ok(!map[9 * PAGE + 100] && map[9 * PAGE + 108], "so they are");
	fails(ftruncate(mem, PAGE), EBUSY, "to truncate it");
	snprintf(path, sizeof(path), "/proc/self/fd/%d", mem);
	again = need(open(path, O_RDWR | O_CLOEXEC));
	fails(ftruncate(again, 0), EBUSY, "through another descriptor");
	close(again);
	need(domain_unmap_all(domain));
	works(punch(mem, 0, NR * PAGE), "unmapped, all of it goes");
	is_int(fdinfo(mem, "vmplat-present"), 0, "and is gone");
	teardown();
}

static void addresses(uint64_t *at)
{
	for (int i = 0; i < NR; i++) {
		(void)map[i * PAGE];
		at[i] = physical(map + i * PAGE);
	}
}

static int moved(const uint64_t *before, int first, int nr)
{
	uint64_t now[NR];
	int n = 0;

	addresses(now);
	for (int i = first; i < first + nr; i++)
		n += now[i] != before[i];
	return n;
}

/* Some are mapped, some are not: how long it takes for the others to move is how long we look. */
static void not_migrated(void)
{
	void *at = (void *)map;
	size_t bytes = NR * PAGE;
	uint64_t before[NR];
	int others = 0;

	setup();
	at = (void *)map;
	memset(at, 1, bytes);
	need(domain_map(domain, RW, mem, IOVA, 50 * PAGE, 50 * PAGE));
	addresses(before);
	disturb_start(DISTURB_MIGRATE | DISTURB_COMPACT | DISTURB_DROP, &at, &bytes, 1);
	for (int i = 0; i < 2000 && others < 100; i++) {
		others = moved(before, 0, 50) + moved(before, 100, NR - 100);
		usleep(10000);
	}
	disturb_stop();
	ok(others, "%d pages that are not mapped have moved", others);
	is_int(moved(before, 50, 50), 0, "none that is");
	teardown();
}

/* ---- logs -------------------------------------------------------------------------- */

static uint64_t bits[(NR + 63) / 64];

static int64_t fetch(int log)
{
	return need(log_bitmap(log, VMPLAT_LOG_FETCH_F_CLEAR, NR, bits));
}

static bool just(int first, int nr)
{
	for (int i = 0; i < NR; i++)
		if (bit(bits, i) != (i >= first && i < first + nr))
			return false;
	return true;
}

static void logged(void)
{
	int log;

	setup();
	memset((void *)map, 1, NR * PAGE);
	log = need(log_new(mem, 0, 0));
	lru_drain();
	fetch(log);
	need(domain_map(domain, RW, mem, IOVA, 60 * PAGE, 70 * PAGE));
	need(domain_map(domain, VMPLAT_DOMAIN_MAP_F_READ, mem, 0, 0, PAGE));
	fetch(log);
	ok(just(60, 70), "what devices may write is reported, what they may read is not");
	fetch(log);
	ok(just(60, 70), "each time");
	need(domain_unmap_all(domain));
	fetch(log);
	ok(just(60, 70), "once more when it is unmapped: they wrote until then");
	is_int(fetch(log), 0, "then no more");
	need(domain_map(domain, RW, mem, IOVA, 60 * PAGE, PAGE));
	close(domain);
	fetch(log);
	ok(just(60, 1), "also when the domain was closed");
	is_int(fetch(log), 0, "then no more");
	domain = need(domain_new());
	need(poke(LIMIT, "0"));
	fails(domain_map(domain, RW, mem, IOVA, 0, PAGE), ENOSPC, "a mapping that fails");
	need(poke(LIMIT, "65535"));
	is_int(fetch(log), 0, "leaves no mark");
	close(log);
	teardown();
}

/* One fetch: pages reported, and how many of them unsure. */
static bool reports(int log, uint32_t flags, uint64_t nr, uint64_t unsure, const char *what)
{
	struct vmplat_log_fetch f = {
		.flags = flags, .nr_pages = NR, .buf = (uintptr_t)bits, .buf_bytes = sizeof(bits),
	};

	need(log_fetch(log, &f));
	if (ok(f.out_nr_dirty == nr && f.out_nr_unsure == unsure, "%s", what))
		return true;
	diag("%llu pages, %llu of them unsure", f.out_nr_dirty, f.out_nr_unsure);
	return false;
}

static bool stands(int log, uint64_t nr, uint64_t unsure, uint64_t device, const char *what)
{
	struct vmplat_log_status st = log_status(log);

	if (ok(st.out_nr_dirty == nr && st.out_nr_unsure == unsure && st.out_nr_device == device,
	       "%s", what))
		return true;
	diag("%llu pages, %llu of them unsure, %llu mapped", st.out_nr_dirty, st.out_nr_unsure,
	     st.out_nr_device);
	return false;
}

#define CLEAR	VMPLAT_LOG_FETCH_F_CLEAR
#define PEEK	VMPLAT_LOG_FETCH_F_PEEK

/* How many are reported for no better reason than that a device could have written them. */
static void counted(void)
{
	int log, other;

	setup();
	memset((void *)map, 1, NR * PAGE);
	log = need(log_new(mem, 0, 0));
	other = need(log_new(mem, VMPLAT_LOG_F_ALL_DIRTY, 0));
	lru_drain();
	fetch(log);
	reports(log, CLEAR, 0, 0, "nothing is mapped: nothing is unsure");
	stands(other, NR, 0, 0, "nor is what a log begins with");
	need(domain_map(domain, RW, mem, IOVA, 60 * PAGE, 70 * PAGE));
	need(domain_map(domain, RW, mem, 2 * IOVA, 100 * PAGE, 50 * PAGE));
	need(domain_map(domain, VMPLAT_DOMAIN_MAP_F_READ, mem, 0, 0, 20 * PAGE));
	stands(log, 90, 90, 90, "pages mapped twice count once, those that devices may read do not");
	is_int(fdinfo(mem, "vmplat-device-pages"), 90, "the memory's fdinfo says how many");
	is_int(fdinfo(log, "vmplat-unsure"), 90, "so does the log's");
	stands(other, NR, 0, 90, "what was marked before stays sure");
	map[61 * PAGE] = 2;
	map[10 * PAGE] = 2;
	reports(log, PEEK, 91, 89, "a page that somebody was seen to write is sure");
	stands(log, 91, 89, 90, "looking does not change that");
	reports(log, 0, 91, 89, "they are borrowed");
	map[62 * PAGE] = 2;
	need(log_end(log, VMPLAT_LOG_END_F_ABORT, NULL));
	stands(log, 91, 88, 90, "given back each is what it was, or surer");
	reports(log, CLEAR, 91, 88, "and taken at last");
	reports(log, CLEAR, 90, 90, "the next time nobody knows");
	is_int(domain_unmap(domain, IOVA, 70 * PAGE), 1, "one of the mappings goes");
	stands(log, 90, 90, 50, "right away fewer are mapped, all are reported");
	reports(log, CLEAR, 90, 90, "once");
	reports(log, CLEAR, 50, 50, "then only the other's");
	is_int(domain_unmap_all(domain), 2, "all go");
	stands(log, 50, 50, 0, "none is mapped");
	reports(log, CLEAR, 50, 50, "once more");
	reports(log, CLEAR, 0, 0, "then no more");
	close(other);
	close(log);
	teardown();
}

/* As ranges, with too little room for all of them. */
static void counted_ranges(void)
{
	struct vmplat_range r[2];
	struct vmplat_log_fetch f = {
		.flags = CLEAR | VMPLAT_LOG_FETCH_F_RANGES, .nr_pages = NR, .buf = (uintptr_t)r,
		.buf_bytes = sizeof(r),
	};
	int log;

	setup();
	memset((void *)map, 1, NR * PAGE);
	log = need(log_new(mem, 0, 0));
	lru_drain();
	fetch(log);
	for (int i = 0; i < 3; i++)
		need(domain_map(domain, RW, mem, IOVA + i * (1 << 20), (20 + 40 * i) * PAGE, 10 * PAGE));
	map[20 * PAGE] = 3;
	need(log_fetch(log, &f));
	ok(f.out_nr_ranges == 2 && f.out_nr_dirty == 20 && f.out_nr_unsure == 19 && f.out_next == 100,
	   "two ranges: what is unsure of them is counted, and no more");
	f.first = f.out_next;
	f.nr_pages = NR - f.first;
	need(log_fetch(log, &f));
	/* beside the third range, those of the first two in the same word are found again */
	ok(f.out_nr_ranges == 1 && f.out_nr_dirty == 10 && f.out_nr_unsure == 10, "then the third");
	close(log);
	teardown();
}

/* Who mapped it is killed: the counts are right at once. */
static void counted_killed(void)
{
	int log, go[2];
	pid_t pid;
	char c;

	setup();
	close(domain);
	memset((void *)map, 1, NR * PAGE);
	log = need(log_new(mem, 0, 0));
	lru_drain();
	fetch(log);
	need(pipe(go));
	pid = need(fork());
	if (!pid) {
		domain = domain_new();
		if (domain >= 0 && !domain_map(domain, RW, mem, IOVA, 0, 30 * PAGE))
			need(write(go[1], "x", 1));
		for (;;)
			pause();
	}
	close(go[1]);
	is_int(read(go[0], &c, 1), 1, "another process maps");
	stands(log, 30, 30, 30, "which counts");
	fetch(log);
	kill(pid, SIGKILL);
	need(waitpid(pid, NULL, 0));
	stands(log, 30, 30, 0, "kill -9: nothing is mapped, all is reported");
	reports(log, CLEAR, 30, 30, "once more");
	reports(log, CLEAR, 0, 0, "then no more");
	close(go[0]);
	close(log);
	domain = need(domain_new());
	teardown();
}

/* ---- pages that are to be filled ------------------------------------------------------ */

static void *mapper(void *unused)
{
	return (void *)(intptr_t)(domain_map(domain, RW, mem, IOVA, 0, 2 * PAGE) ? errno : 0);
}

static uint64_t demanded(int fd)
{
	uint64_t page;

	return need(read(fd, &page, sizeof(page))) == sizeof(page) ? page : UINT64_MAX;
}

static void put(int fd, uint64_t page, const void *content)
{
	struct vmplat_fill_put arg = {
		.size = sizeof(arg), .first = page, .nr_pages = 1, .buf = (uintptr_t)content,
	};

	need(ioctl(fd, VMPLAT_FILL_PUT, &arg));
}

static void filled(void)
{
	char content[PAGE];
	pthread_t thread;
	void *err;
	int fd;

	setup();
	memset(content, 7, sizeof(content));
	fd = need(fill_new(mem));
	pthread_create(&thread, NULL, mapper, NULL);
	is_int(demanded(fd), 0, "a mapping waits for its missing page");
	is_int(domain_status(domain).out_nr_mappings, 0, "and nobody waits for it");
	put(fd, 0, content);
	while (demanded(fd) != 1)
		;
	put(fd, 1, content);
	pthread_join(thread, &err);
	is_int((intptr_t)err, 0, "filled, they are mapped");
	ok(map[PAGE] == 7, "with their content");
	close(fd);
	fails(domain_map(domain, RW, mem, 0, 2 * PAGE, PAGE), EIO, "a filler that is gone");
	is_int(domain_status(domain).out_nr_mappings, 1, "leaves nothing");
	is_int(fdinfo(mem, "vmplat-pins"), 1, "held");
	teardown();
}

static void killed_waiting(void)
{
	pid_t pid;
	int fd;

	setup();
	fd = need(fill_new(mem));
	pid = need(fork());
	if (!pid) {
		mapper(NULL);
		_exit(0);
	}
	demanded(fd);
	kill(pid, SIGKILL);
	need(waitpid(pid, NULL, 0));
	ok(is_empty(), "who is killed while it waits for a page leaves nothing");
	close(fd);
	teardown();
}

/* ---- blocks ------------------------------------------------------------------------------ */

static bool in_one_piece(volatile uint8_t *p)
{
	uint64_t at = physical(p);

	for (uint64_t i = 0; i < BLOCK; i += PAGE)
		if (physical(p + i) != at + i)
			return false;
	return at % BLOCK == 0;
}

static void blocks(void)
{
	const uint64_t bytes = 3 * BLOCK + 5 * PAGE;
	static uint64_t marks[(3 * 512 + 5 + 63) / 64];
	volatile uint8_t *p;
	int fd, log;

	fails(mem_new_kind(BLOCK, VMPLAT_MEM_F_HUGE), EINVAL, "blocks in a freezable memory");
	/* What ran before in this host has left pieces; and compaction, now, will not move what comes. */
	lru_drain();
	fd = need(mem_new_kind(bytes, VMPLAT_MEM_F_PINNABLE | VMPLAT_MEM_F_HUGE));
	p = map_mem(fd, bytes);
	p[BLOCK + 9 * PAGE] = 1;
	is_int(fdinfo(fd, "vmplat-blocks"), 1, "a touch makes a block");
	is_int(fdinfo(fd, "vmplat-present"), 512, "of 512 pages");
	need(pwrite(fd, "x", 1, 2 * BLOCK));
	need(fallocate(fd, FALLOC_FL_KEEP_SIZE, 0, bytes));
	is_int(fdinfo(fd, "vmplat-blocks"), 3, "so do a write and fallocate");
	is_int(fdinfo(fd, "vmplat-present"), bytes / PAGE, "what is less than a block comes in pages");
	for (uint64_t i = 0; i < bytes; i += PAGE)
		(void)p[i];
	ok(in_one_piece(p) && in_one_piece(p + BLOCK) && in_one_piece(p + 2 * BLOCK),
	   "each is one piece of physical memory, aligned");
	ok(p[BLOCK + 9 * PAGE] == 1 && p[2 * BLOCK] == 'x' && !p[BLOCK], "zeroes and what was written");
	need(punch(fd, BLOCK + 5 * PAGE, PAGE));
	is_int(fdinfo(fd, "vmplat-blocks"), 2, "a hole ends a block");
	ok(!p[BLOCK + 5 * PAGE] && p[BLOCK + 9 * PAGE] == 1, "and is one page");
	/* From here on blocks may be moved, and be none: this compacts again. */
	log = need(log_new(fd, 0, 0));
	lru_drain();
	need(log_bitmap(log, VMPLAT_LOG_FETCH_F_CLEAR, bytes / PAGE, marks));
	p[700 * PAGE] = 3;
	is_int(log_bitmap(log, VMPLAT_LOG_FETCH_F_CLEAR, bytes / PAGE, marks), 1,
	       "a log tells their pages apart");
	ok(bit(marks, 700), "which was written");
	domain = need(domain_new());
	works(domain_map(domain, RW, fd, IOVA, PAGE, bytes - PAGE), "blocks, pieces and pages are mapped");
	fails(punch(fd, 2 * BLOCK, PAGE), EBUSY, "then they stay");
	close(domain);
	need(punch(fd, 0, bytes));
	is_int(fdinfo(fd, "vmplat-blocks"), 0, "all punched out, there is none");
	p[0] = 1;
	is_int(fdinfo(fd, "vmplat-blocks"), 1, "and again one");
	munmap((void *)p, bytes);
	close(log);
	close(fd);
}

static void blocks_in_files(void)
{
	const char *dir = fs_mount("pinnable,huge,size=3M");
	struct statfs st;
	char path[128];
	int fd;

	if (!ok(dir, "vmplatfs is mounted with blocks"))
		return;
	lru_drain();	/* whole blocks are free again */
	snprintf(path, sizeof(path), "%s/a", dir);
	fd = need(open(path, O_RDWR | O_CREAT | O_CLOEXEC, 0600));
	need(ftruncate(fd, 2 * BLOCK));
	need(ftruncate(fd, BLOCK));
	need(ftruncate(fd, 2 * BLOCK));
	fails(fallocate(fd, 0, 0, 2 * BLOCK), ENOSPC, "more than its size");
	is_int(fdinfo(fd, "vmplat-present"), 768, "what fits is there");
	is_int(fdinfo(fd, "vmplat-blocks"), 1, "as a block and pages");
	need(statfs(dir, &st));
	is_int(st.f_bfree, 0, "each page counts once");
	need(punch(fd, 0, 2 * BLOCK));
	need(statfs(dir, &st));
	is_int(st.f_bfree, 768, "and is given back once");
	close(fd);
	unlink(path);
	if (fork() == 0) {
		/* the mount of a freezable kind with blocks */
		execlp("mount", "mount", "-t", "vmplatfs", "-o", "huge", "none", dir, NULL);
		_exit(127);
	}
	{
		int status;

		need(wait(&status));
		ok(WIFEXITED(status) && WEXITSTATUS(status) && WEXITSTATUS(status) != 127,
		   "blocks are refused where memory is not pinnable");
	}
}

/* ---- all at once --------------------------------------------------------------------------- */

#define RACE_BYTES (4 * BLOCK)

static _Atomic bool stop;
static int race_mem;
static volatile uint8_t *race_map;

/* Whoever has mapped pages finds them where they were, for as long as they are mapped. */
static void *race_maps(void *seed)
{
	uint64_t rng = (uintptr_t)seed, wrong = 0;
	int mine = domain_new();

	while (!stop) {
		uint64_t first = rnd(&rng) % (RACE_BYTES / PAGE - 64), nr = 1 + rnd(&rng) % 64;
		uint64_t at[2];

		if (rnd(&rng) % 8 == 0) {
			first = rnd(&rng) % 4 * 512;
			nr = 512;
		}
		if (domain_map(mine, RW, race_mem, first * PAGE, first * PAGE, nr * PAGE)) {
			wrong++;
			continue;
		}
		race_map[first * PAGE] = 1;
		race_map[(first + nr - 1) * PAGE] = 1;
		at[0] = physical(race_map + first * PAGE);
		at[1] = physical(race_map + (first + nr - 1) * PAGE);
		for (int i = 0; i < 4; i++) {
			wrong += at[0] != physical(race_map + first * PAGE);
			wrong += at[1] != physical(race_map + (first + nr - 1) * PAGE);
		}
		wrong += domain_unmap(mine, first * PAGE, nr * PAGE) != 1;
	}
	close(mine);
	return (void *)(uintptr_t)wrong;
}

static void *race_punches(void *unused)
{
	uint64_t rng = 77, wrong = 0;

	while (!stop) {
		uint64_t first = rnd(&rng) % (RACE_BYTES / PAGE), nr = 1 + rnd(&rng) % 64;

		if (rnd(&rng) % 16 == 0) {
			first = first / 512 * 512;
			nr = 512;
		}
		if (punch(race_mem, first * PAGE, nr * PAGE))
			wrong += errno != EBUSY;
	}
	return (void *)(uintptr_t)wrong;
}

static void *race_fetches(void *unused)
{
	static uint64_t marks[RACE_BYTES / PAGE / 64];
	int log = log_new(race_mem, 0, 0);
	uint64_t wrong = 0;

	while (!stop)
		wrong += log_bitmap(log, VMPLAT_LOG_FETCH_F_CLEAR, RACE_BYTES / PAGE, marks) < 0;
	close(log);
	return (void *)(uintptr_t)wrong;
}

static void races(void)
{
	static void *(*const what[])(void *) = { race_maps, race_maps, race_punches, race_fetches };
	pthread_t threads[ARRAY_SIZE(what)];
	size_t bytes = RACE_BYTES;
	uint64_t wrong = 0, end;
	void *at, *result;

	race_mem = need(mem_new_kind(RACE_BYTES, VMPLAT_MEM_F_PINNABLE | VMPLAT_MEM_F_HUGE));
	race_map = at = map_mem(race_mem, RACE_BYTES);
	disturb_start(DISTURB_MIGRATE | DISTURB_COMPACT | DISTURB_DROP, &at, &bytes, 1);
	for (uintptr_t i = 0; i < ARRAY_SIZE(what); i++)
		pthread_create(&threads[i], NULL, what[i], (void *)(i + 1));
	for (end = now_ns() + 4000000000ULL; now_ns() < end;)
		usleep(100000);
	stop = true;
	for (size_t i = 0; i < ARRAY_SIZE(what); i++) {
		pthread_join(threads[i], &result);
		wrong += (uintptr_t)result;
	}
	disturb_stop();
	is_int(wrong, 0, "mapping, punching, migrating and logging at once");
	is_int(fdinfo(race_mem, "vmplat-pins"), 0, "nothing is held in the end");
	works(punch(race_mem, 0, RACE_BYTES), "all of it can be punched out");
	munmap(at, RACE_BYTES);
	close(race_mem);
}

int main(void)
{
	dev_open();
	refused();
	places();
	limit();
	memlock();
	kept();
	not_migrated();
	logged();
	counted();
	counted_ranges();
	counted_killed();
	filled();
	killed_waiting();
	blocks();
	blocks_in_files();
	races();
	return done();
}
