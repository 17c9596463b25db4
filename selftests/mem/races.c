// SPDX-License-Identifier: GPL-2.0-only
/*
 * Holes that were found by reading, each with the interleaving that showed it:
 * dirty PTEs that mprotect(2) makes writable, soft-dirty bits, pages that are
 * supplied while they are read or sought, mmap_lock held for a missing page, punches
 * that race with stores, labels that outlive their marks.
 */
#include <fcntl.h>
#include <pthread.h>
#include <signal.h>
#include <stdatomic.h>
#include <sys/ioctl.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <sys/uio.h>
#include <sys/wait.h>
#include <unistd.h>

#include "util.h"

#define PAGES		512UL
#define RUN		16UL	/* harvested as one */
#define RACE_NS		(4ULL * 1000 * 1000 * 1000)

static int fill_put(int fill, uint64_t first, uint64_t nr, const void *buf)
{
	struct vmplat_fill_put a = {
		.size = sizeof(a), .first = first, .nr_pages = nr, .buf = (uintptr_t)buf,
	};

	return ioctl(fill, VMPLAT_FILL_PUT, &a);
}

static void protect(char *map, uint64_t pages, int prot)
{
	need(mprotect(map, pages * PAGE, prot));
}

/* ---- mprotect ------------------------------------------------------------- */

static void fill(char *map, uint64_t pages, char c)
{
	for (uint64_t i = 0; i < pages; i++)
		map[i * PAGE] = c;
}

/* A page by itself and @pages that follow each other are protected each in their way. */
static void test_mprotect(uint64_t pages)
{
	int mem = need(mem_new(pages * PAGE)), log = need(log_new(mem, 0, 0)), view;
	char *map = map_mem(mem, pages * PAGE), seen[RUN];
	uint64_t bits[1], old = 0;

	fill(map, pages, 1);
	need(log_bitmap(log, VMPLAT_LOG_FETCH_F_CLEAR, pages, bits));
	protect(map, pages, PROT_READ);
	protect(map, pages, PROT_READ | PROT_WRITE);
	fill(map, pages, 2);
	is_int(log_bitmap(log, VMPLAT_LOG_FETCH_F_CLEAR, pages, bits), pages,
	       "%d written after mprotect: logged", (int)pages);
	view = need(view_of(mem, -1, 0, 0));
	protect(map, pages, PROT_READ);
	protect(map, pages, PROT_READ | PROT_WRITE);
	fill(map, pages, 3);
	for (uint64_t i = 0; i < pages; i++) {
		need(pread(view, &seen[i], 1, i * PAGE));
		old += seen[i] == 2;
	}
	is_int(old, pages, "%d written after mprotect: pass the gate of a view", (int)pages);
	close(view);
	munmap(map, pages * PAGE);
	close(log);
	close(mem);
}

/* ---- the log of somebody else: the kernel's soft-dirty bits, as CRIU uses them -- */

static bool soft_dirty(const volatile char *addr)
{
	uint64_t entry;
	int fd = need(open("/proc/self/pagemap", O_RDONLY));

	need(pread(fd, &entry, sizeof(entry), (uintptr_t)addr / PAGE * sizeof(entry)));
	close(fd);
	return entry >> 55 & 1;
}

static void test_soft_dirty(void)
{
	int mem = need(mem_new(4 * PAGE)), log = need(log_new(mem, 0, 0));
	volatile char *map = map_mem(mem, 4 * PAGE), own = 0;
	uint64_t bits[1];

	need(poke("/proc/self/clear_refs", "4"));
	own = 1;
	if (!soft_dirty(&own)) {
		skip("soft-dirty bits: not in this kernel");
		goto out;
	}
	map[0] = 1;
	map[PAGE] = 1;
	need(poke("/proc/self/clear_refs", "4"));
	ok(!soft_dirty(map) && !soft_dirty(map + PAGE), "cleared soft-dirty bits");
	map[0] = 2;
	ok(soft_dirty(map), "a write sets the soft-dirty bit of a page with a dirty PTE");
	need(log_bitmap(log, VMPLAT_LOG_FETCH_F_CLEAR, 4, bits));
	need(poke("/proc/self/clear_refs", "4"));
	map[PAGE] = 2;
	ok(soft_dirty(map + PAGE), "and of one that was harvested");
	is_int(log_bitmap(log, VMPLAT_LOG_FETCH_F_CLEAR, 4, bits), 1, "which is logged, too");
out:
	munmap((void *)map, 4 * PAGE);
	close(log);
	close(mem);
}

/* ---- a writer beside a reader of the log ------------------------------------ */

struct race {
	int mem;
	char *map;
	atomic_bool stop;
	void (*disturb)(struct race *r);
};

static void *disturber(void *arg)
{
	struct race *r = arg;
	uint64_t seed = 99;

	for (unsigned int round = 1; !r->stop; round++) {
		r->disturb(r);
		for (int i = 0; i < 64; i++)
			r->map[rnd(&seed) % PAGES * PAGE] = (char)round;
		fill(r->map + rnd(&seed) % (PAGES - RUN) * PAGE, RUN, (char)round);
	}
	return NULL;
}

static void disturb_mprotect(struct race *r)
{
	protect(r->map, PAGES, PROT_READ);
	protect(r->map, PAGES, PROT_READ | PROT_WRITE);
}

static void disturb_punch(struct race *r)
{
	need(fallocate(r->mem, FALLOC_FL_PUNCH_HOLE | FALLOC_FL_KEEP_SIZE, 0, PAGES * PAGE));
}

static void collect(int log, const char *map, char *shadow)
{
	uint64_t bits[PAGES / 64];

	need(log_bitmap(log, VMPLAT_LOG_FETCH_F_CLEAR, PAGES, bits));
	for (uint64_t i = 0; i < PAGES; i++)
		if (bit(bits, i))
			shadow[i] = map[i * PAGE];
}

/* A shadow kept by nothing but the log equals memory whenever the writers rest. */
static void test_race(void (*disturb)(struct race *), const char *what)
{
	struct race r = { .disturb = disturb };
	char *other, shadow[PAGES] = { 0 };
	uint64_t end = now_ns() + RACE_NS;
	int log, lost = 0, rests = 0;
	pthread_t writer;

	r.mem = need(mem_new(PAGES * PAGE));
	r.map = map_mem(r.mem, PAGES * PAGE);
	other = map_mem(r.mem, PAGES * PAGE);	/* not subject to the mprotect */
	log = need(log_new(r.mem, 0, 0));
	while (now_ns() < end || rests < 2) {
		uint64_t pause = now_ns() + RACE_NS / 20;

		r.stop = false;
		need(-pthread_create(&writer, NULL, disturber, &r));
		while (now_ns() < pause)
			collect(log, other, shadow);
		r.stop = true;
		pthread_join(writer, NULL);
		collect(log, other, shadow);
		for (uint64_t i = 0; i < PAGES; i++)
			lost += shadow[i] != other[i * PAGE];
		rests++;
	}
	ok(!lost, "%s beside a harvest loses nothing: %d pages, %d rests", what, lost,
	   rests);
	munmap(r.map, PAGES * PAGE);
	munmap(other, PAGES * PAGE);
	close(log);
	close(r.mem);
}

/* ---- filling ------------------------------------------------------------------ */

static void test_seek_missing(void)
{
	int mem = need(mem_new(64 * PAGE)), fill = need(fill_new(mem)), view;
	char page[PAGE];
	struct stat st;

	memset(page, 5, sizeof(page));
	need(fill_put(fill, 0, 4, NULL));
	need(fill_put(fill, 20, 1, page));
	is_int(lseek(mem, 0, SEEK_DATA), 4 * PAGE, "missing pages are data of the memory");
	view = need(view_of(mem, -1, 0, 0));
	is_int(lseek(view, 0, SEEK_DATA), 4 * PAGE, "and of a view");
	need(fstat(view, &st));
	ok(st.st_blocks > 0, "a view has blocks, or tar -S stores nothing");
	close(view);
	close(fill);
	close(mem);
}

struct filler {
	int fill;
	atomic_ulong next;
};

static void *filler_main(void *arg)
{
	struct filler *f = arg;
	char page[PAGE];

	memset(page, 9, sizeof(page));
	for (; f->next < PAGES * 8; f->next++)
		need(fill_put(f->fill, f->next, 1, page));
	return NULL;
}

/* Readers run just ahead of the filler: they wait, and never read zeroes. */
static void test_read_beside_put(void)
{
	int mem = need(mem_new(PAGES * 8 * PAGE)), view, wrong = 0;
	struct filler f = { .fill = need(fill_new(mem)) };
	pthread_t thread;
	char c;

	view = need(view_of(mem, -1, 0, 0));
	need(-pthread_create(&thread, NULL, filler_main, &f));
	for (uint64_t i = 0; i < PAGES * 8; i++) {
		while (f.next + 1 < i)
			;
		need(pread(i & 1 ? mem : view, &c, 1, i * PAGE));
		wrong += c != 9;
	}
	pthread_join(thread, NULL);
	is_int(wrong, 0, "no page reads as zeroes while it is put");
	close(view);
	close(f.fill);
	close(mem);
}

static void *reader_main(void *arg)
{
	char c;
	struct iovec local = { &c, 1 }, remote = { arg, 1 };

	return (void *)process_vm_readv(getpid(), &local, 1, &remote, 1, 0);
}

/* In a child: if mmap_lock is held for the missing page, mmap() never returns. */
static int gup_child(void)
{
	int mem = need(mem_new(64 * PAGE)), fill = need(fill_new(mem));
	char *map = map_mem(mem, 64 * PAGE), page[PAGE];
	uint64_t wanted;
	pthread_t thread;
	void *got;

	memset(page, 5, sizeof(page));
	need(-pthread_create(&thread, NULL, reader_main, map + 10 * PAGE));
	need(read(fill, &wanted, sizeof(wanted)));
	for (int i = 0; i < 100; i++)
		need(munmap(mmap(NULL, PAGE, PROT_READ, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0),
			    PAGE));
	need(fill_put(fill, wanted, 1, page));
	pthread_join(thread, &got);
	return wanted == 10 && got == (void *)1 ? 0 : 1;
}

static void test_gup(void)
{
	pid_t pid = need(fork());
	int status = -1;

	if (!pid)
		_exit(gup_child());
	for (int i = 0; i < 600 && !waitpid(pid, &status, WNOHANG); i++)
		usleep(50000);
	if (status == -1) {
		kill(pid, SIGKILL);
		waitpid(pid, NULL, 0);
	}
	is_int(status, 0, "a filler can mmap() while get_user_pages() waits for it");
}

/* ---- labels --------------------------------------------------------------------- */

static void test_label(void)
{
	static const uint8_t id[VMPLAT_ID_BYTES] = { 1 };
	int mem = need(mem_new(4 * PAGE)), log = need(log_new(mem, 0, 0));
	struct vmplat_view_mem what = { .mem_fd = mem, .log_fd = log };
	char *map = map_mem(mem, 4 * PAGE);
	uint64_t bits[1];

	memcpy(what.id, id, sizeof(id));
	need(log_end(log, 0, id));
	map[0] = 1;
	need(log_bitmap(log, VMPLAT_LOG_FETCH_F_CLEAR, 4, bits));
	fails(view_new(&what, 1, VMPLAT_VIEW_F_INCREMENT, 0), ESTALE,
	      "an increment on a label whose marks were forgotten");
	munmap(map, 4 * PAGE);
	close(log);
	close(mem);
}

int main(void)
{
	dev_open();
	test_mprotect(1);
	test_mprotect(RUN);
	test_soft_dirty();
	test_race(disturb_mprotect, "mprotect");
	test_race(disturb_punch, "a punch");
	test_seek_missing();
	test_read_beside_put();
	test_gup();
	test_label();
	return done();
}
