// SPDX-License-Identifier: GPL-2.0-only
/*
 * Pinnable memories: what sets them apart from the others. That no write is lost
 * is for "shadow -H"; this is about exactness, pins, second MMUs that come and go,
 * and pages that must not vanish.
 */
#include <fcntl.h>
#include <liburing.h>
#include <poll.h>
#include <signal.h>
#include <stdlib.h>
#include <sys/mman.h>
#include <sys/uio.h>
#include <sys/wait.h>
#include <unistd.h>

#include "mem/util.h"

#define NR	200

static int mem, log_fd;
static volatile char *map;
static uint64_t bits[(NR + 63) / 64];

static void setup(void)
{
	mem = need(mem_new_kind(NR * PAGE, VMPLAT_MEM_F_PINNABLE));
	map = map_mem(mem, NR * PAGE);
	log_fd = need(log_new(mem, 0, 0));
}

static void teardown(void)
{
	munmap((void *)map, NR * PAGE);
	close(log_fd);
	close(mem);
}

static uint64_t nr_unsure;

static int64_t fetch(void)
{
	struct vmplat_log_fetch f = {
		.flags = VMPLAT_LOG_FETCH_F_CLEAR, .nr_pages = NR, .buf = (uintptr_t)bits,
		.buf_bytes = sizeof(bits),
	};

	need(log_fetch(log_fd, &f));
	nr_unsure = f.out_nr_unsure;
	return f.out_nr_dirty;
}

/* Are the pages reported just those of @pages, which ends with -1? */
static bool just(const int *pages)
{
	uint64_t want[ARRAY_SIZE(bits)] = {};

	for (; *pages >= 0; pages++)
		want[*pages / 64] |= 1ULL << *pages % 64;
	return !memcmp(want, bits, sizeof(bits));
}

static void drop_caches(void)
{
	int fd = need(open("/proc/sys/vm/drop_caches", O_WRONLY | O_CLOEXEC));

	need(write(fd, "3", 1));
	close(fd);
}

/* ---- what is reported ------------------------------------------------------- */

static void exact(void)
{
	static const int first[] = { 0, 1, 63, 64, 130, 199, -1 };
	char word = 7;

	setup();
	lru_drain();
	for (int i = 0; first[i] >= 0; i++)
		map[first[i] * PAGE] = 1;
	fetch();
	ok(just(first), "the first write of a page is reported");
	is_int(nr_unsure, 0, "as a fact");
	is_int(fetch(), 0, "and once only");
	for (int i = 0; first[i] >= 0; i++)
		map[first[i] * PAGE]++;
	fetch();
	ok(just(first), "so is the next, which no fault tells of");
	(void)map[5 * PAGE];
	is_int(fetch(), 0, "reading is not reported");
	map[5 * PAGE] = 1;
	fetch();
	ok(just((int []) { 5, -1 }), "a write to a page that was read first is");
	need(pwrite(mem, &word, 1, 64 * PAGE));
	need(fallocate(mem, FALLOC_FL_PUNCH_HOLE | FALLOC_FL_KEEP_SIZE, 0, 2 * PAGE));
	fetch();
	ok(just((int []) { 0, 1, 64, -1 }), "pwrite and a hole are");
	ok(!map[0] && !map[PAGE] && map[63 * PAGE] == 2, "and the hole is one");
	map[63 * PAGE] = 3;
	munmap((void *)map, NR * PAGE);
	fetch();
	ok(just((int []) { 63, -1 }), "a mapping that went away told what it wrote");
	map = map_mem(mem, NR * PAGE);
	teardown();
}

static void refused(void)
{
	struct pollfd pfd;

	setup();
	fails(view_of(mem, -1, 0, 0), EOPNOTSUPP, "no view of it");
	fails(log_new(mem, 0, 2), EOPNOTSUPP, "no threshold");
	pfd = (struct pollfd) { .fd = log_fd, .events = POLLIN };
	ok(poll(&pfd, 1, 0) == 1 && pfd.revents & POLLIN, "poll() does not wait for what it cannot see");
	teardown();
}

/* ---- pages that stay ------------------------------------------------------------ */

static void kept(void)
{
	char back[NR] = {};
	int wrong = 0;

	setup();
	for (int i = 0; i < NR; i++)
		map[i * PAGE] = i;
	fetch();
	for (int i = 0; i < NR; i++)	/* no fault, so the folio is not PG_dirty */
		map[i * PAGE] = i + 1;
	fetch();
	munmap((void *)map, NR * PAGE);	/* clean PTEs, clean folios */
	lru_drain();
	drop_caches();
	drop_caches();
	for (int i = 0; i < NR; i++) {
		need(pread(mem, &back[i], 1, i * PAGE));
		wrong += back[i] != (char)(i + 1);
	}
	is_int(wrong, 0, "drop_caches takes no page that is clean and not mapped");
	map = map_mem(mem, NR * PAGE);
	teardown();
}

static uint64_t free_kib(void)
{
	FILE *f = fopen("/proc/meminfo", "re");
	unsigned long long kib = 0;
	char line[128];

	while (f && fgets(line, sizeof(line), f))
		sscanf(line, "MemFree: %llu", &kib);
	fclose(f);
	return kib;
}

static void freed(void)
{
	const uint64_t bytes = 256ULL << 20;
	uint64_t before, after;

	drop_caches();
	before = free_kib();
	for (int round = 0; round < 2; round++) {
		int fd = need(mem_new_kind(bytes, VMPLAT_MEM_F_PINNABLE));

		need(fallocate(fd, FALLOC_FL_KEEP_SIZE, 0, bytes));
		if (round)
			need(fallocate(fd, FALLOC_FL_PUNCH_HOLE | FALLOC_FL_KEEP_SIZE, 0, bytes));
		close(fd);
	}
	lru_drain();
	after = free_kib();
	ok(after + (128 << 10) > before, "punched and closed, the pages are free again");
	if (after + (128 << 10) <= before)
		diag("%llu KiB free before, %llu after", (unsigned long long)before,
		     (unsigned long long)after);
}

/* ---- pins -------------------------------------------------------------------------- */

/* Somebody has pages 10 to 12 from here ... */
static void held(const char *how)
{
	int64_t a = fetch(), b;

	ok(a == 3 && just((int []) { 10, 11, 12, -1 }), "what %s is reported", how);
	b = fetch();
	ok(b == 3 && just((int []) { 10, 11, 12, -1 }), "each time");
	is_int(nr_unsure, 3, "as unsure");
	if (a != 3 || b != 3)
		diag("%lld and %lld pages", (long long)a, (long long)b);
}

/* ... to here, and lets go in their own time. */
static void let_go(void)
{
	for (int tries = 0; tries < 100 && fetch(); tries++)
		usleep(100000);
	is_int(fetch(), 0, "until it is let go");
}

static void pinned(void)
{
	struct iovec iov;
	struct io_uring ring;
	int pipes[2], err;

	setup();
	for (int i = 0; i < NR; i++)
		map[i * PAGE] = 1;
	lru_drain();
	fetch();
	iov = (struct iovec) { (void *)(map + 10 * PAGE), 3 * PAGE };
	need(io_uring_queue_init(2, &ring, 0));
	err = io_uring_register_buffers(&ring, &iov, 1);
	if (err == -EOPNOTSUPP) {
		skip("io_uring of this kernel registers no files' memory");
	} else {
		is_int(err, 0, "io_uring may pin it for long");
		held("is pinned");
		io_uring_unregister_buffers(&ring);
		let_go();
	}
	io_uring_queue_exit(&ring);
	need(pipe(pipes));
	is_int(vmsplice(pipes[1], &iov, 1, 0), 3 * PAGE, "a pipe may hold it");
	held("a pipe holds");
	close(pipes[0]);
	close(pipes[1]);
	let_go();
	teardown();
}

/* Writers that say so only if the folio is not dirty yet. */
static void pinned_meanwhile(void)
{
	char word = 9;
	struct iovec from = { &word, 1 }, to;
	int self;

	setup();
	lru_drain();
	self = need(open("/proc/self/mem", O_RDWR | O_CLOEXEC));
	for (int i = 0; i < NR; i++)
		map[i * PAGE] = 1;
	fetch();
	for (int round = 0; round < 3; round++) {
		to = (struct iovec) { (void *)(map + 20 * PAGE), 1 };
		need(process_vm_writev(getpid(), &from, 1, &to, 1, 0));
		need(pwrite(self, &word, 1, (uintptr_t)(map + 70 * PAGE)));
		fetch();
		ok(just((int []) { 20, 70, -1 }), "a pin that came and went is reported, time %d",
		   round + 1);
	}
	close(self);
	teardown();
}

/* ---- a second MMU ------------------------------------------------------------------- */

static void guest_here(void)
{
	struct kvm_guest *g;

	setup();
	for (int i = 0; i < NR; i++)
		map[i * PAGE] = 1;
	fetch();
	g = kvm_new((void *)map, NR * PAGE);
	if (!g) {
		skip("no KVM");
		teardown();
		return;
	}
	need(kvm_fill(g, 3 * PAGE, 1, 0x1234));
	is_int(fetch(), NR, "beside a second MMU everything is reported, be it KVM's");
	ok(nr_unsure, "as unsure");
	need(kvm_fill(g, 3 * PAGE, 1, 0x1235));
	is_int(fetch(), NR, "again");
	ok(nr_unsure >= NR - 3, "all but what KVM tells of");
	kvm_free(g);
	teardown();
}

/* A process that maps the memory, is looked at, runs a guest, and is gone. */
static void guest_child(int ready, int go)
{
	volatile char *own = map_mem(mem, NR * PAGE);
	struct kvm_guest *g;
	char c;

	for (int i = 0; i < NR; i++)
		own[i * PAGE] = 1;
	need(write(ready, "r", 1));
	need(read(go, &c, 1));
	g = kvm_new((void *)own, NR * PAGE);
	if (!g || kvm_fill(g, 3 * PAGE, 1, 0x4321))
		_exit(1);
	need(write(ready, "d", 1));
	pause();
}

static void guest_gone(bool unmapped)
{
	int ready[2], go[2], status;
	char c = 0;
	pid_t pid;

	if (access("/dev/kvm", R_OK | W_OK)) {
		skip("no KVM");
		return;
	}
	setup();
	if (unmapped)
		munmap((void *)map, NR * PAGE);
	need(pipe(ready));
	need(pipe(go));
	pid = need(fork());
	if (!pid)
		guest_child(ready[1], go[0]);
	need(read(ready[0], &c, 1));
	fetch();
	need(write(go[1], "g", 1));
	close(ready[1]);
	need(read(ready[0], &c, 1));
	kill(pid, SIGKILL);
	waitpid(pid, &status, 0);
	ok(c == 'd' && fetch() == NR,
	   "so it is after the process that ran a guest was killed%s",
	   unmapped ? ", mapped by nobody else" : "");
	if (unmapped)
		map = map_mem(mem, NR * PAGE);
	is_int(fetch(), 0, "once");
	for (int i = 0; i < 2; i++) {
		close(go[i]);
		if (!i)
			close(ready[i]);
	}
	teardown();
}

/* ---- as a mount ---------------------------------------------------------------------- */

static void mounted(void)
{
	const char *dir = fs_mount("size=1M,pinnable");
	char path[128], line[512];
	bool shown = false;
	FILE *f;
	int fd;

	snprintf(path, sizeof(path), "%s/m", dir);
	fd = need(open(path, O_RDWR | O_CREAT | O_CLOEXEC, 0600));
	need(ftruncate(fd, 8 * PAGE));
	fails(view_of(fd, -1, 0, 0), EOPNOTSUPP, "-o pinnable makes files so");
	f = fopen("/proc/mounts", "re");
	while (f && fgets(line, sizeof(line), f))
		shown |= strstr(line, dir) && strstr(line, "pinnable");
	fclose(f);
	ok(shown, "and /proc/mounts says it");
	close(fd);
}

int main(void)
{
	dev_open();
	exact();
	refused();
	kept();
	freed();
	pinned();
	pinned_meanwhile();
	guest_gone(false);
	guest_gone(true);
	guest_here();		/* from here on this process counts as a VMM */
	mounted();
	return done();
}
