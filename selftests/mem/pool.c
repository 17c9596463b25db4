// SPDX-License-Identifier: GPL-2.0-only
/*
 * Pages of copies are used again: by whom, what becomes of their content, who
 * pays for them, and when they go back to the system.
 */
#include <fcntl.h>
#include <poll.h>
#include <signal.h>
#include <sys/mman.h>
#include <sys/mount.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <unistd.h>

#include "mem/util.h"

#define NR		1024UL
#define LIMIT		16384UL		/* pages that a small mount's pool holds at most */

static int64_t pooled(int mem)
{
	return fdinfo(mem, "vmplat-pool-pages");
}

static int64_t reused(int mem)
{
	return fdinfo(mem, "vmplat-pool-reused");
}

static void write_pages(char *map, uint64_t nr, char value)
{
	for (uint64_t i = 0; i < nr; i++)
		map[i * PAGE + i % PAGE] = value;
}

/* A view, every page written, the view closed: @nr copies came and went. */
static void copy_all(int mem, char *map, uint64_t nr)
{
	static char value;
	int view = need(view_of(mem, -1, 0, 0));

	write_pages(map, nr, ++value);
	is_int(view_status(view).out_nr_copied, nr, "each page was copied");
	close(view);
}

static char *filled(int mem, uint64_t nr, int value)
{
	char *map = map_mem(mem, nr * PAGE);

	memset(map, value, nr * PAGE);
	lru_drain();	/* or the freeze copies what is on its way to the LRU */
	return map;
}

static void drop_caches(void)
{
	int fd = need(open("/proc/sys/vm/drop_caches", O_WRONLY));

	need(write(fd, "2", 1));
	close(fd);
}

/* ---- again and again ------------------------------------------------------ */

static void test_reuse(void)
{
	int mem = need(mem_new(NR * PAGE)), view;
	char *map = filled(mem, NR, 'a');

	is_int(pooled(mem), 0, "no view, no pool");
	copy_all(mem, map, NR);
	is_int(pooled(mem), NR, "a view that ends leaves its pages");
	is_int(reused(mem), 0, "none of which came from there");
	copy_all(mem, map, NR);
	is_int(reused(mem), NR, "the next view takes them");
	is_int(pooled(mem), NR, "and leaves them");
	view = need(view_of(mem, -1, 0, 0));
	write_pages(map, NR, 'x');
	is_int(pooled(mem), 0, "while a view has them they are not in the pool");
	works(view_discard(view, 0, 100), "pages are discarded");
	is_int(pooled(mem), 100, "and come back at once");
	close(view);
	drop_caches();
	is_int(pooled(mem), 0, "the system takes them all when it is asked to drop caches");
	copy_all(mem, map, NR);
	is_int(reused(mem), 2 * NR, "then they are new again");
	munmap(map, NR * PAGE);
	close(mem);
}

static void test_bound(void)
{
	uint64_t nr = LIMIT + 64;
	int mem = need(mem_new(nr * PAGE));
	char *map = filled(mem, nr, 'a');

	copy_all(mem, map, nr);
	is_int(pooled(mem), LIMIT, "a pool holds 64 MiB, not a page more");
	munmap(map, nr * PAGE);
	close(mem);
}

/* ---- whose content -------------------------------------------------------- */

static bool image_is(int view, uint64_t nr, int value)
{
	char *image = malloc(nr * PAGE), *want = malloc(nr * PAGE);
	bool same;

	memset(want, value, nr * PAGE);
	need(read_all(view, image, nr * PAGE, 0));
	same = !memcmp(image, want, nr * PAGE);
	free(image);
	free(want);
	return same;
}

/* Two memories of one mount, each with a secret of its own on every byte. */
static void test_content(void)
{
	const char *dir = fs_mount("");
	char path[2][160], *maps[2];
	int mems[2], view;

	for (int i = 0; i < 2; i++) {
		snprintf(path[i], sizeof(path[i]), "%s/%d", dir, i);
		mems[i] = need(open(path[i], O_RDWR | O_CREAT | O_CLOEXEC, 0600));
		need(ftruncate(mems[i], NR * PAGE));
		maps[i] = filled(mems[i], NR, 'A' + i);
	}
	copy_all(mems[0], maps[0], NR);
	is_int(pooled(mems[1]), NR, "memories of one mount have one pool");
	view = need(view_of(mems[1], -1, 0, 0));
	write_pages(maps[1], NR, 0);
	is_int(reused(mems[1]), NR, "and use each other's pages");
	ok(image_is(view, NR, 'B'), "in which nothing is left of the other");
	close(view);
	is_int(pooled(mems[0]), NR, "back in the pool");
	munmap(maps[1], NR * PAGE);
	close(mems[1]);
	need(unlink(path[1]));
	is_int(pooled(mems[0]), 0, "a memory that goes takes the pool with it");
	munmap(maps[0], NR * PAGE);
	close(mems[0]);
	need(unlink(path[0]));
}

static void test_apart(void)
{
	int a = need(mem_new(NR * PAGE)), b = need(mem_new(NR * PAGE));
	char *map_a = filled(a, NR, 'a'), *map_b = filled(b, NR, 'b');

	copy_all(a, map_a, NR);
	is_int(pooled(b), 0, "memories without a name share no pool");
	copy_all(b, map_b, NR);
	is_int(reused(b), 0, "and no page");
	munmap(map_a, NR * PAGE);
	munmap(map_b, NR * PAGE);
	close(a);
	close(b);
}

/* ---- who pays --------------------------------------------------------------- */

#define CG		"/sys/fs/cgroup/vmplat-pool"
#define CG_NR		2048UL
#define SLACK		256UL		/* pages of charge that each CPU keeps for later */

static int ask[2], answer[2];

/* In the cgroup: does one thing for each byte it is sent, answers, ends with the pipe. */
static int member(int mem)
{
	char *map, what;

	if (cg_write(CG, "cgroup.procs", "0"))
		return 9;
	map = filled(mem, CG_NR, 'a');
	while (read(ask[0], &what, 1) == 1) {
		if (what == 'v') {
			int view = view_of(mem, -1, 0, 0);

			if (view < 0)
				return 8;
			write_pages(map, CG_NR, 'v');
			close(view);
		} else {	/* memory of another kind */
			char *anon = mmap(NULL, CG_NR / 2 * PAGE, PROT_READ | PROT_WRITE,
					  MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);

			if (anon == MAP_FAILED)
				return 7;
			memset(anon, 1, CG_NR / 2 * PAGE);
		}
		if (write(answer[1], &what, 1) != 1)
			return 6;
	}
	return 0;
}

static pid_t start_member(int mem)
{
	pid_t pid;

	need(pipe2(ask, O_CLOEXEC));
	need(pipe2(answer, O_CLOEXEC));
	pid = need(fork());
	if (!pid) {
		close(ask[1]);
		close(answer[0]);
		_exit(member(mem));
	}
	close(ask[0]);
	close(answer[1]);
	return pid;
}

/* what it ended with */
static int end_member(pid_t pid)
{
	int status;

	close(ask[1]);
	waitpid(pid, &status, 0);
	close(answer[0]);
	return status;
}

/* false if the member is dead */
static bool tell(char what)
{
	struct pollfd p = { .fd = answer[0], .events = POLLIN };

	if (write(ask[1], &what, 1) != 1)
		return false;
	return poll(&p, 1, -1) == 1 && read(answer[0], &what, 1) == 1;
}

static uint64_t cg_current(void)
{
	uint64_t v = 0;
	FILE *f = fopen(CG "/memory.current", "re");

	if (!f || fscanf(f, "%lu", &v) != 1)
		bail("memory.current");
	fclose(f);
	return v;
}

static void test_charge(void)
{
	int mem = need(mem_new(CG_NR * PAGE));
	uint64_t before, after;
	char text[32], *map;
	pid_t pid;

	if (cg_write("/sys/fs/cgroup", "cgroup.subtree_control", "+memory") ||
	    (mkdir(CG, 0755) && errno != EEXIST)) {
		skip("no memory cgroup");
		return;
	}
	pid = start_member(mem);

	ok(tell('v'), "a member of a cgroup writes all pages of a view");
	is_int(pooled(mem), CG_NR, "the pages stay");
	before = cg_current();
	ok(before >= (2 * CG_NR - SLACK) * PAGE, "and its cgroup is charged for them: %lu KiB",
	   before / 1024);

	/* somebody outside writes the same memory */
	map = map_mem(mem, CG_NR * PAGE);
	copy_all(mem, map, NR);
	is_int(reused(mem), 0, "others do not get what it pays for");
	is_int(pooled(mem), CG_NR + NR, "but have their own");
	ok(tell('v'), "it writes again");
	is_int(reused(mem), CG_NR, "and takes its own");
	after = cg_current();
	ok(after < before + SLACK * PAGE, "for which it is charged as before: %lu KiB", after / 1024);

	/* twice the room that is left is needed */
	snprintf(text, sizeof(text), "%lu", after + CG_NR / 4 * PAGE);
	need(cg_write(CG, "memory.max", text));
	ok(tell('a'), "at its limit it gets the pool's pages rather than being killed");
	ok(pooled(mem) < (int64_t)(CG_NR + NR), "which the pool has lost: %ld left", pooled(mem));
	ok(pooled(mem) >= (int64_t)NR, "others' are left alone");

	is_int(end_member(pid), 0, "it ended well");
	drop_caches();
	is_int(pooled(mem), 0, "nothing is kept");
	ok(cg_current() < (CG_NR + SLACK) * PAGE, "nor charged: %lu KiB", cg_current() / 1024);
	munmap(map, CG_NR * PAGE);
	close(mem);
	rmdir(CG);
}

/* A cgroup that goes leaves its pages to its parent. */
static void test_orphans(void)
{
	int mem = need(mem_new(CG_NR * PAGE));
	pid_t pid;

	if (mkdir(CG, 0755)) {
		skip("no memory cgroup");
		return;
	}
	pid = start_member(mem);
	ok(tell('v'), "a member of a cgroup leaves pages in the pool");
	is_int(end_member(pid), 0, "it ended well");
	works(rmdir(CG), "the cgroup goes");
	is_int(pooled(mem), CG_NR, "its pages are still there");
	drop_caches();
	is_int(pooled(mem), 0, "and still found");
	close(mem);
}

int main(void)
{
	signal(SIGPIPE, SIG_IGN);
	dev_open();
	test_reuse();
	test_bound();
	test_content();
	test_apart();
	test_charge();
	test_orphans();
	return done();
}
