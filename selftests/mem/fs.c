// SPDX-License-Identifier: GPL-2.0-only
/*
 * vmplatfs: what a VMM, an administrator and a backup tool rely on.
 */
#include <fcntl.h>
#include <pthread.h>
#include <setjmp.h>
#include <signal.h>
#include <sys/mman.h>
#include <sys/mount.h>
#include <sys/stat.h>
#include <sys/statfs.h>
#include <sys/wait.h>
#include <unistd.h>

#include "mem/util.h"

static const char *dir;
static char path_buf[4][128];

/* A path in the mount; four at a time. */
static const char *in(const char *name)
{
	static int turn;
	char *p = path_buf[turn++ % 4];

	snprintf(p, sizeof(path_buf[0]), "%s/%s", dir, name);
	return p;
}

static void remount(const char *options)
{
	dir = fs_mount(options);
	if (!dir)
		bail("mount -t vmplatfs -o '%s'", options);
}

static int create(const char *name, uint64_t bytes)
{
	int fd = need(open(in(name), O_RDWR | O_CREAT | O_EXCL | O_CLOEXEC, 0600));

	need(ftruncate(fd, bytes));
	return fd;
}

static uint64_t used(int fd)
{
	struct stat st;

	need(fstat(fd, &st));
	return st.st_blocks * 512ULL;
}

static sigjmp_buf bus;

static void on_bus(int sig)
{
	siglongjmp(bus, 1);
}

/* Whether storing there is SIGBUS. */
static bool bus_error(volatile char *p)
{
	if (sigsetjmp(bus, 1))
		return true;
	*p = 1;
	return false;
}

/* ---- mount options ------------------------------------------------------ */

static void test_options(void)
{
	struct statfs fs;
	struct stat st;

	fails(mount("none", "/tmp", "vmplatfs", 0, "size=banana"), EINVAL, "size=banana");
	fails(mount("none", "/tmp", "vmplatfs", 0, "colour=red"), EINVAL, "unknown option");
	fails(mount("none", "/tmp", "vmplatfs", 0, "mode=99"), EINVAL, "mode=99");
	remount("size=8M,mode=0750,uid=1234,gid=4321");
	need(statfs(dir, &fs));
	is_int((uint32_t)fs.f_type, VMPLATFS_MAGIC, "statfs: type");
	is_int(fs.f_blocks * fs.f_bsize, 8 << 20, "statfs: size");
	is_int(fs.f_bfree, fs.f_blocks, "statfs: all of it free");
	need(stat(dir, &st));
	is_int(st.st_mode & 07777, 0750, "mode=");
	is_int(st.st_uid, 1234, "uid=");
	is_int(st.st_gid, 4321, "gid=");
}

/* ---- the limit ---------------------------------------------------------- */

static void test_limit(void)
{
	struct statfs fs;
	char *map, page[PAGE] = { 1 };
	uint64_t i;
	int fd;

	remount("size=1M");
	fd = create("big", 4 << 20);	/* length costs nothing */
	map = map_mem(fd, 4 << 20);
	for (i = 0; i < 1024 && !bus_error(map + i * PAGE); i++)
		;
	is_int(i, 256, "pages before SIGBUS at the limit");
	fails(pwrite(fd, page, PAGE, 600 * PAGE), ENOSPC, "pwrite at the limit");
	need(statfs(dir, &fs));
	is_int(fs.f_bfree, 0, "statfs: nothing free");
	ok(!fallocate(fd, FALLOC_FL_PUNCH_HOLE | FALLOC_FL_KEEP_SIZE, 0, 16 * PAGE), "punch");
	need(statfs(dir, &fs));
	is_int(fs.f_bfree * fs.f_bsize / PAGE, 16, "statfs: punched pages are free again");
	ok(!bus_error(map + 700 * PAGE), "and can be used elsewhere");
	munmap(map, 4 << 20);
	close(fd);
	need(unlink(in("big")));
	need(statfs(dir, &fs));
	is_int(fs.f_bfree, fs.f_blocks, "statfs: all free after unlink and close");
}

/* ---- names -------------------------------------------------------------- */

static void test_names(void)
{
	struct stat st;
	char path[64], *map;
	int fd, again, tmp;

	remount("");
	fd = create("a", 4 * PAGE);
	fails(open(in("a"), O_RDWR | O_CREAT | O_EXCL, 0600), EEXIST, "O_EXCL");
	map = map_mem(fd, 4 * PAGE);
	strcpy(map, "hello");
	works(rename(in("a"), in("b")), "rename");
	fails(stat(in("a"), &st), ENOENT, "the old name is gone");
	works(mkdir(in("d"), 0700), "mkdir");
	works(rename(in("b"), in("d/b")), "rename into a directory");
	fails(rmdir(in("d")), ENOTEMPTY, "rmdir of a full directory");
	works(unlink(in("d/b")), "unlink while open");
	works(rmdir(in("d")), "rmdir");
	snprintf(path, sizeof(path), "/proc/self/fd/%d", fd);
	again = works(open(path, O_RDWR), "re-open an unlinked file");
	ok(pread(again, path, 6, 0) == 6 && !strcmp(path, "hello"), "it is the same memory");
	close(again);
	munmap(map, 4 * PAGE);
	close(fd);
	tmp = works(open(dir, O_TMPFILE | O_RDWR, 0600), "O_TMPFILE");
	works(ftruncate(tmp, 2 * PAGE), "with a length");
	map = map_mem(tmp, 2 * PAGE);
	map[PAGE] = 3;
	munmap(map, 2 * PAGE);
	close(tmp);
	fails(symlink("x", in("l")), EPERM, "no symbolic links");
	errno = 0;
}

/* ---- length ------------------------------------------------------------- */

static void test_length(void)
{
	int fd, log, view;
	char *map;

	fd = need(open(in("len"), O_RDWR | O_CREAT | O_EXCL, 0600));
	works(ftruncate(fd, 8 * PAGE), "set the length of a new file");
	works(ftruncate(fd, 4 * PAGE), "change it while nobody uses it");
	works(ftruncate(fd, 6 * PAGE), "and again");
	map = map_mem(fd, 6 * PAGE);
	fails(ftruncate(fd, 8 * PAGE), EBUSY, "grow while mapped");
	fails(ftruncate(fd, PAGE), EBUSY, "shrink while mapped");
	map[0] = 1;
	munmap(map, 6 * PAGE);
	close(fd);
	need(unlink(in("len")));

	fd = create("log", 4 * PAGE);
	log = need(log_new(fd, 0, 0));
	fails(ftruncate(fd, 8 * PAGE), EBUSY, "grow while a log is open");
	close(log);
	view = need(view_of(fd, -1, 0, 0));
	fails(ftruncate(fd, PAGE), EBUSY, "shrink while a view is open");
	close(view);
	close(fd);
	need(unlink(in("log")));

	fd = need(open(in("empty"), O_RDWR | O_CREAT | O_EXCL, 0600));
	fails(log_new(fd, 0, 0), EINVAL, "a log on an empty file");
	fails(view_of(fd, -1, 0, 0), EINVAL, "a view of an empty file");
	works(ftruncate(fd, PAGE + 100), "a length that is no multiple of the page size") ;
	close(fd);
	need(unlink(in("empty")));
}

/* ---- mapping, holes ----------------------------------------------------- */

static void test_mapping(void)
{
	char *map, page[PAGE];
	int fd = create("m", 16 * PAGE), ro;
	void *p;

	p = mmap(NULL, PAGE, PROT_READ | PROT_WRITE, MAP_PRIVATE, fd, 0);
	ok(p == MAP_FAILED && errno == EINVAL, "MAP_PRIVATE, writable: EINVAL");
	p = mmap(NULL, PAGE, PROT_READ, MAP_PRIVATE, fd, 0);
	ok(p == MAP_FAILED && errno == EINVAL, "MAP_PRIVATE, read-only: EINVAL");
	snprintf(page, sizeof(page), "/proc/self/fd/%d", fd);
	ro = need(open(page, O_RDONLY));
	p = mmap(NULL, PAGE, PROT_READ | PROT_WRITE, MAP_SHARED, ro, 0);
	ok(p == MAP_FAILED && errno == EACCES, "no writable mapping of a read-only descriptor");
	p = mmap(NULL, PAGE, PROT_READ, MAP_SHARED, ro, 0);
	ok(p != MAP_FAILED, "a read-only one is fine");
	fails(mprotect(p, PAGE, PROT_READ | PROT_WRITE), EACCES, "and stays so");
	munmap(p, PAGE);
	close(ro);

	map = map_mem(fd, 16 * PAGE);
	is_int(used(fd), 0, "mapping allocates nothing");
	ok(map[5 * PAGE] == 0, "a page never written reads as zero");
	memset(map + 3 * PAGE, 7, 2 * PAGE);
	memset(map + 9 * PAGE, 7, PAGE);
	is_int(lseek(fd, 10 * PAGE, SEEK_HOLE), 10 * PAGE, "SEEK_HOLE in a hole");
	is_int(lseek(fd, 3 * PAGE, SEEK_HOLE), (off_t)(used(fd) == 3 * PAGE ? 5 : 6) * PAGE,
	       "SEEK_HOLE after data");
	is_int(lseek(fd, 6 * PAGE, SEEK_DATA), 9 * PAGE, "SEEK_DATA");
	fails(lseek(fd, 10 * PAGE, SEEK_DATA), ENXIO, "SEEK_DATA after the last data");
	fails(lseek(fd, 16 * PAGE, SEEK_HOLE), ENXIO, "SEEK_HOLE beyond the end");
	ok(!fallocate(fd, FALLOC_FL_PUNCH_HOLE | FALLOC_FL_KEEP_SIZE, 3 * PAGE, PAGE), "punch");
	ok(map[3 * PAGE] == 0 && map[4 * PAGE] == 7, "the hole is zero, its neighbour is not");
	ok(!fallocate(fd, FALLOC_FL_PUNCH_HOLE | FALLOC_FL_KEEP_SIZE, 4 * PAGE + 100, 50),
	   "punch part of a page");
	ok(map[4 * PAGE + 99] == 7 && map[4 * PAGE + 100] == 0 && map[4 * PAGE + 149] == 0 &&
	   map[4 * PAGE + 150] == 7, "exactly that part is zero");
	fails(fallocate(fd, FALLOC_FL_PUNCH_HOLE, 0, PAGE), EOPNOTSUPP, "punch without KEEP_SIZE");
	fails(fallocate(fd, FALLOC_FL_COLLAPSE_RANGE, 0, PAGE), EOPNOTSUPP, "collapse");
	fails(pwrite(fd, "xyz", 3, 16 * PAGE - 2), EFBIG, "a write across the end");
	ok(map[16 * PAGE - 2] == 0, "writes nothing");
	fails(pwrite(fd, "x", 1, 16 * PAGE), EFBIG, "a write beyond the end");
	ok(pread(fd, page, PAGE, 16 * PAGE) == 0, "a read beyond the end");
	munmap(map, 16 * PAGE);
	close(fd);
	need(unlink(in("m")));
}

static void test_data_stays(void)
{
	int fd = create("stay", 256 * PAGE), drop, bad = 0;
	char *map = map_mem(fd, 256 * PAGE);

	for (int i = 0; i < 256; i++)
		map[i * PAGE] = i | 1;
	munmap(map, 256 * PAGE);
	drop = need(open("/proc/sys/vm/drop_caches", O_WRONLY));
	for (int i = 0; i < 3; i++)
		need(write(drop, "3", 1));
	close(drop);
	map = map_mem(fd, 256 * PAGE);
	for (int i = 0; i < 256; i++)
		bad += map[i * PAGE] != (char)(i | 1);
	ok(!bad, "drop_caches drops nothing");
	munmap(map, 256 * PAGE);
	close(fd);
	need(unlink(in("stay")));
}

static void test_fdinfo(void)
{
	int fd = create("info", 16 * PAGE), log = need(log_new(fd, 0, 0));
	int view = need(view_of(fd, -1, 0, 0));
	int fds[] = { fd, log, view };
	const char *const names[] = { "memory", "log", "view" };

	for (int i = 0; i < 3; i++) {
		char path[64], text[4096];
		int info, n;

		snprintf(path, sizeof(path), "/proc/self/fdinfo/%d", fds[i]);
		info = need(open(path, O_RDONLY));
		n = need(read(info, text, sizeof(text) - 1));
		text[n] = '\0';
		if (!ok(strstr(text, "vmplat"), "fdinfo of a %s", names[i]))
			diag("%s", text);
		close(info);
	}
	close(view);
	close(log);
	close(fd);
	need(unlink(in("info")));
}

/* ---- lifetime ----------------------------------------------------------- */

static void test_lifetime(void)
{
	char here[64], page[PAGE];
	int fd = create("life", 8 * PAGE), view;
	char *map = map_mem(fd, 8 * PAGE);

	strcpy(here, dir);
	map[0] = 1;
	view = need(view_of(fd, -1, 0, 0));
	munmap(map, 8 * PAGE);
	close(fd);
	fails(umount(here), EBUSY, "a view keeps the mount busy");
	works(unlink(in("life")), "its file may be unlinked");
	ok(pread(view, page, PAGE, 0) == PAGE && page[0] == 1, "and its image stays");
	close(view);
	works(umount(here), "without the view the mount can go");
	remount("");
}

/* ---- memory cgroup ------------------------------------------------------ */

static void test_memcg(void)
{
	static const char cg[] = "/sys/fs/cgroup/vmplat-test";
	uint64_t before, after;
	int status, go[2], fd = create("cg", 4096 * PAGE);
	pid_t pid;

	if (cg_write("/sys/fs/cgroup", "cgroup.subtree_control", "+memory") ||
	    (mkdir(cg, 0755) && errno != EEXIST)) {
		skip("no memory cgroup");
		return;
	}
	need(pipe(go));
	pid = need(fork());
	if (!pid) {
		char *map, byte;

		if (cg_write(cg, "cgroup.procs", "0"))
			_exit(9);
		map = map_mem(fd, 4096 * PAGE);
		for (int i = 0; i < 2048; i++)
			map[i * PAGE] = 1;
		if (read(go[0], &byte, 1) < 0)
			_exit(8);
		_exit(0);
	}
	for (int i = 0; i < 200 && used(fd) < 2048 * PAGE; i++)
		usleep(50000);
	before = cg_stat(cg, "file");
	/* the kernel flushes memory.stat in batches, a CPU at a time */
	ok(before >= (2048 - 256) * PAGE, "the toucher's cgroup is charged: %lu KiB", before / 1024);
	need(fallocate(fd, FALLOC_FL_PUNCH_HOLE | FALLOC_FL_KEEP_SIZE, 0, 4096 * PAGE));
	after = cg_stat(cg, "file");
	ok(after + 1500 * PAGE <= before, "a hole gives the charge back: %lu KiB left", after / 1024);
	need(write(go[1], "x", 1));
	waitpid(pid, &status, 0);
	is_int(status, 0, "the toucher ended well");
	close(go[0]);
	close(go[1]);
	close(fd);
	need(unlink(in("cg")));
	rmdir(cg);
}

/* ---- the frozen limit --------------------------------------------------- */

static void test_side_limit(void)
{
	int fd = create("side", 64 * PAGE), log, view;
	uint8_t id[VMPLAT_ID_BYTES] = { 1 };
	char *map = map_mem(fd, 64 * PAGE), page[PAGE];
	struct vmplat_view_status st;

	memset(map, 'a', 64 * PAGE);
	lru_drain();
	log = need(log_new(fd, VMPLAT_LOG_F_ALL_DIRTY, 0));
	view = need(view_of(fd, log, 0, 4 * PAGE));
	for (int i = 0; i < 4; i++)
		map[i * PAGE] = 'b';
	st = view_status(view);
	is_int(st.out_state, VMPLAT_VIEW_OK, "at its limit a view is whole");
	is_int(st.out_side_bytes, 4 * PAGE, "and holds that much");
	ok(pread(view, page, PAGE, 2 * PAGE) == PAGE && page[0] == 'a', "the old content");
	map[10 * PAGE] = 'b';
	st = view_status(view);
	is_int(st.out_state, VMPLAT_VIEW_BROKEN_LIMIT, "one page more breaks it");
	fails(pread(view, page, PAGE, 2 * PAGE), ENODATA, "reading it");
	fails(pread(view, page, PAGE, 20 * PAGE), ENODATA, "reading a page nobody wrote");
	fails(view_commit(view, id), ENODATA, "committing it");
	is_int(log_status(log).out_nr_borrowed, 64, "its marks are still borrowed");
	close(view);
	is_int(log_status(log).out_nr_dirty, 64, "closing it gives them back");
	close(log);
	munmap(map, 64 * PAGE);
	close(fd);
	need(unlink(in("side")));
}

struct blocked {
	char *map;
	volatile int progress;
};

static void *blocked_writer(void *arg)
{
	struct blocked *b = arg;

	for (int i = 0; i < 32; i++) {
		b->map[i * PAGE] = 'b';
		b->progress = i + 1;
	}
	return NULL;
}

/* How far it got: at least as far as it must, if it takes a minute, and then no farther. */
static int settle(struct blocked *b, int must)
{
	int last;

	for (int i = 0; i < 6000 && b->progress < must; i++)
		usleep(10000);
	do {
		last = b->progress;
		usleep(200000);	/* nothing announces that a thread sleeps */
	} while (b->progress != last);
	return last;
}

static void test_block(void)
{
	int fd = create("block", 32 * PAGE), view;
	struct blocked b = { .map = map_mem(fd, 32 * PAGE) };
	char page[PAGE];
	pthread_t t;
	int at;

	memset(b.map, 'a', 32 * PAGE);
	lru_drain();
	view = need(view_of(fd, -1, VMPLAT_VIEW_F_BLOCK, 8 * PAGE));
	pthread_create(&t, NULL, blocked_writer, &b);
	at = settle(&b, 8);
	is_int(at, 8, "the writer waits when the side memory is used up");
	works(view_discard(view, 0, 3), "three pages discarded");
	at = settle(&b, 11);
	is_int(at, 11, "let it write three more");
	ok(pread(view, page, PAGE, 9 * PAGE) == PAGE && page[0] == 'a', "the image is whole");
	is_int(view_status(view).out_state, VMPLAT_VIEW_OK, "and the view not broken");
	close(view);
	pthread_join(t, NULL);
	is_int(b.progress, 32, "closing the view lets it finish");
	munmap(b.map, 32 * PAGE);
	close(fd);
	need(unlink(in("block")));
}

/* A process that waits for side memory can be killed, and its view as well. */
static void test_block_kill(void)
{
	int fd = create("bk", 32 * PAGE), view, status;
	char *map = map_mem(fd, 32 * PAGE);
	volatile int *progress = mmap(NULL, PAGE, PROT_READ | PROT_WRITE,
				      MAP_SHARED | MAP_ANONYMOUS, -1, 0);
	pid_t pid;

	memset(map, 'a', 32 * PAGE);
	lru_drain();
	view = need(view_of(fd, -1, VMPLAT_VIEW_F_BLOCK, 4 * PAGE));
	pid = need(fork());
	if (!pid) {
		for (int i = 0; i < 32; i++) {
			map[i * PAGE] = 'b';
			*progress = i + 1;
		}
		_exit(0);
	}
	for (int i = 0; i < 5000 && *progress < 4; i++)
		usleep(1000);
	usleep(200000);
	is_int(*progress, 4, "a second process waits");
	kill(pid, SIGKILL);
	waitpid(pid, &status, 0);
	ok(WIFSIGNALED(status) && WTERMSIG(status) == SIGKILL, "and can be killed");
	close(view);
	munmap(map, 32 * PAGE);
	munmap((void *)progress, PAGE);
	close(fd);
	need(unlink(in("bk")));
}

int main(void)
{
	struct sigaction sa = { .sa_handler = on_bus };

	sigaction(SIGBUS, &sa, NULL);
	dev_open();
	test_options();
	test_limit();
	test_names();
	test_length();
	test_mapping();
	test_data_stays();
	test_fdinfo();
	test_lifetime();
	test_side_limit();
	test_block();
	test_block_kill();
	test_memcg();
	return done();
}
