// SPDX-License-Identifier: GPL-2.0-only
/*
 * kill -9 at random instants: of writers, of readers with borrowed marks, of
 * holders of views, of servers that fill memory. The survivors go on, nothing is
 * lost, and in the end the module can be unloaded, and only then.
 *
 *	kill [-n ROUNDS]
 */
#include <fcntl.h>
#include <getopt.h>
#include <poll.h>
#include <pthread.h>
#include <signal.h>
#include <stdatomic.h>
#include <sys/mman.h>
#include <sys/syscall.h>
#include <sys/wait.h>
#include <unistd.h>

#include "mem/util.h"

#define NR_PAGES 515

static int mem_fd, log_fd;
static uint32_t *map;
static _Atomic uint32_t *complete;	/* per page, shared: last value surely stored */

static pid_t spawn(void (*fn)(void))
{
	pid_t pid = need(fork());

	if (!pid) {
		fn();
		_exit(0);
	}
	return pid;
}

static void kill_and_wait(pid_t pid)
{
	kill(pid, SIGKILL);
	waitpid(pid, NULL, 0);
}

/* ---- who gets killed ---------------------------------------------------- */

static void writer(void)
{
	uint64_t seed = now_ns() | 1;
	uint32_t *own = map_mem(mem_fd, NR_PAGES * PAGE);

	for (uint32_t n = 0;; n++) {
		uint64_t p = rnd(&seed) % NR_PAGES;
		uint32_t v = atomic_load(&complete[p]) + 1;

		if (n & 1)
			own[p * PAGE / 4] = v;
		else if (pwrite(mem_fd, &v, 4, p * PAGE) != 4)
			_exit(1);
		atomic_store(&complete[p], v);
	}
}

static void borrower(void)
{
	uint64_t bits[NR_PAGES / 64 + 1];

	for (;;) {
		if (log_bitmap(log_fd, 0, NR_PAGES, bits) < 0 && errno != EBUSY)
			_exit(1);
		if (log_end(log_fd, VMPLAT_LOG_END_F_ABORT, NULL) && errno != EBUSY)
			_exit(1);
	}
}

/* Freezes, reads, and never commits. */
static void snapshotter(void)
{
	static char page[PAGE];

	for (;;) {
		int view = view_of(mem_fd, log_fd, VMPLAT_VIEW_F_INCREMENT, 0);

		if (view < 0)
			continue;
		for (int p = 0; p < NR_PAGES; p += 3)
			if (pread(view, page, PAGE, p * PAGE) != PAGE)
				_exit(1);
		close(view);
	}
}

/* ---- bits survive ------------------------------------------------------- */

/* Everything the log says into the shadow; then the shadow must be the memory. */
static uint64_t catch_up(char *shadow)
{
	static uint64_t bits[NR_PAGES / 64 + 1];
	uint64_t bad = 0;

	/* What a dead reader borrowed through a log that lives on, it did not give back. */
	need(log_end(log_fd, VMPLAT_LOG_END_F_ABORT, NULL));
	need(log_bitmap(log_fd, 0, NR_PAGES, bits));
	for (int p = 0; p < NR_PAGES; p++)
		if (bit(bits, p))
			memcpy(shadow + p * PAGE, (char *)map + p * PAGE, PAGE);
	need(log_end(log_fd, 0, NULL));
	for (int p = 0; p < NR_PAGES; p++)
		bad += !!memcmp(shadow + p * PAGE, (char *)map + p * PAGE, PAGE);
	return bad;
}

static void test_bits(int rounds)
{
	char *shadow = calloc(NR_PAGES, PAGE);
	uint64_t seed = now_ns() | 1, bad = 0;

	for (int i = 0; i < rounds; i++) {
		pid_t w = spawn(writer), b = spawn(borrower), s = spawn(snapshotter);

		usleep(20000 + rnd(&seed) % 50000);
		kill_and_wait(b);
		kill_and_wait(s);
		kill_and_wait(w);
		bad += catch_up(shadow);
	}
	ok(!bad, "%d times writer, borrower and snapshotter killed: no page lost", rounds);
	is_int(log_status(log_fd).out_view_busy, 0, "no dead view holds the log");
	free(shadow);
}

/* ---- views survive their writers ---------------------------------------- */

static void test_view_survives(void)
{
	char *before = malloc(NR_PAGES * PAGE), *after = malloc(NR_PAGES * PAGE);
	pid_t w = spawn(writer);
	int view = need(view_of(mem_fd, -1, 0, 0));

	need(read_all(view, before, NR_PAGES * PAGE, 0));
	kill_and_wait(w);
	need(read_all(view, after, NR_PAGES * PAGE, 0));
	ok(!memcmp(before, after, NR_PAGES * PAGE), "a view survives the death of the writer");
	close(view);
	free(before);
	free(after);
}

/* ---- fills -------------------------------------------------------------- */

static void test_server_killed(void)
{
	int mem = need(mem_new(16 * PAGE)), ready[2], status;
	volatile char *p = map_mem(mem, 16 * PAGE);
	char byte;
	pid_t server, guest;

	need(pipe(ready));
	server = need(fork());
	if (!server) {
		int fill = fill_new(mem);
		struct pollfd pfd = { .fd = fill, .events = POLLIN };

		if (fill < 0 || write(ready[1], "x", 1) != 1)
			_exit(1);
		poll(&pfd, 1, -1);	/* somebody waits */
		if (write(ready[1], "y", 1) != 1)
			_exit(1);
		pause();
	}
	need(read(ready[0], &byte, 1));
	guest = need(fork());
	if (!guest)
		_exit(p[5 * PAGE]);
	need(read(ready[0], &byte, 1));
	is_int(byte, 'y', "the server sees who waits");
	kill_and_wait(server);
	waitpid(guest, &status, 0);
	ok(WIFSIGNALED(status) && WTERMSIG(status) == SIGBUS,
	   "its death is SIGBUS for who waits, not zeroes");
	munmap((void *)p, 16 * PAGE);
	close(mem);
	close(ready[0]);
	close(ready[1]);
}

static void test_waiter_killed(void)
{
	int mem = need(mem_new(16 * PAGE)), fill = need(fill_new(mem));
	volatile char *p = map_mem(mem, 16 * PAGE);
	struct pollfd pfd = { .fd = fill, .events = POLLIN };
	pid_t guest = need(fork());

	if (!guest)
		_exit(p[3 * PAGE]);
	need(poll(&pfd, 1, -1));
	kill_and_wait(guest);
	ok(true, "who waits for a page can be killed");
	munmap((void *)p, 16 * PAGE);
	close(fill);
	close(mem);
}

/* ---- the module --------------------------------------------------------- */

static long rmmod(void)
{
	return syscall(SYS_delete_module, "vmplat", O_NONBLOCK);
}

static void test_rmmod(void)
{
	int mem = need(mem_new(4 * PAGE)), log = need(log_new(mem, 0, 0));
	int view = need(view_of(mem, -1, 0, 0));
	char *p;

	fails(rmmod(), EWOULDBLOCK, "rmmod with everything open");
	close(dev_fd);
	fails(rmmod(), EWOULDBLOCK, "rmmod with memory, log and view open");
	close(mem);
	close(log);
	fails(rmmod(), EWOULDBLOCK, "rmmod with a view open");
	close(view);
	dev_open();
	mem = need(mem_new(4 * PAGE));
	close(dev_fd);
	p = map_mem(mem, 4 * PAGE);
	close(mem);
	fails(rmmod(), EWOULDBLOCK, "rmmod with only a mapping left");
	p[0] = 1;
	munmap(p, 4 * PAGE);
	if (!ok(!fs_mount("") == 0, "mount"))
		return;
	fails(rmmod(), EWOULDBLOCK, "rmmod with a vmplatfs mounted");
}

int main(int argc, char **argv)
{
	int rounds = 20, opt, view;

	while ((opt = getopt(argc, argv, "n:")) != -1) {
		if (opt != 'n')
			return 2;
		rounds = atoi(optarg);
	}
	dev_open();
	mem_fd = need(mem_new(NR_PAGES * PAGE));
	log_fd = need(log_new(mem_fd, 0, 0));
	map = map_mem(mem_fd, NR_PAGES * PAGE);
	complete = mmap(NULL, NR_PAGES * 4, PROT_READ | PROT_WRITE, MAP_SHARED | MAP_ANONYMOUS,
			-1, 0);
	test_bits(rounds);
	test_view_survives();
	test_server_killed();
	test_waiter_killed();
	view = need(view_of(mem_fd, log_fd, 0, 0));
	munmap(map, NR_PAGES * PAGE);
	close(mem_fd);
	is_int(log_status(log_fd).out_view_busy, 1, "a view outlives the memory's descriptor");
	close(view);
	close(log_fd);
	test_rmmod();
	return done();
}
