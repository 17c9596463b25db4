// SPDX-License-Identifier: GPL-2.0-only
/* See util.h. */
#include <dirent.h>
#include <fcntl.h>
#include <pthread.h>
#include <sched.h>
#include <stdarg.h>
#include <stdatomic.h>
#include <stdlib.h>
#include <sys/ioctl.h>
#include <sys/mman.h>
#include <sys/mount.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <time.h>
#include <unistd.h>

#include "mem/util.h"

/* ---- objects ----------------------------------------------------------- */

int dev_fd = -1;

void dev_open(void)
{
	dev_fd = open("/dev/vmplat", O_RDWR | O_CLOEXEC);
	if (dev_fd < 0)
		bail("/dev/vmplat");
}

int mem_new_kind(uint64_t bytes, uint32_t flags)
{
	struct vmplat_mem_create arg = {
		.size = sizeof(arg), .flags = flags, .mem_bytes = bytes,
	};

	return ioctl(dev_fd, VMPLAT_MEM_CREATE, &arg) ? -1 : arg.out_fd;
}

int mem_new(uint64_t bytes)
{
	return mem_new_kind(bytes, 0);
}

int log_new(int mem, uint32_t flags, uint64_t threshold)
{
	struct vmplat_log_create arg = {
		.size = sizeof(arg), .flags = flags, .mem_fd = mem, .threshold_pages = threshold,
	};

	return ioctl(dev_fd, VMPLAT_LOG_CREATE, &arg) ? -1 : arg.out_fd;
}

int log_fetch(int log, struct vmplat_log_fetch *f)
{
	f->size = sizeof(*f);
	return ioctl(log, VMPLAT_LOG_FETCH, f);
}

int64_t log_bitmap(int log, uint32_t flags, uint64_t nr_pages, uint64_t *bits)
{
	struct vmplat_log_fetch f = {
		.flags = flags, .nr_pages = nr_pages, .buf = (uintptr_t)bits,
		.buf_bytes = (nr_pages + 63) / 64 * 8,
	};

	return log_fetch(log, &f) ? -1 : (int64_t)f.out_nr_dirty;
}

int log_end(int log, uint32_t flags, const void *id)
{
	struct vmplat_log_end arg = { .size = sizeof(arg), .flags = flags };

	if (id)
		memcpy(arg.id, id, sizeof(arg.id));
	return ioctl(log, VMPLAT_LOG_END, &arg);
}

struct vmplat_log_status log_status(int log)
{
	struct vmplat_log_status st = { .size = sizeof(st) };

	need(ioctl(log, VMPLAT_LOG_STATUS, &st));
	return st;
}

int view_new(const struct vmplat_view_mem *mems, unsigned int nr, uint32_t flags,
	     uint64_t side_bytes)
{
	struct vmplat_view_create arg = {
		.size = sizeof(arg), .flags = flags, .mems = (uintptr_t)mems, .nr_mems = nr,
		.side_bytes = side_bytes,
	};

	return ioctl(dev_fd, VMPLAT_VIEW_CREATE, &arg) ? -1 : arg.out_fd;
}

int view_of(int mem, int log, uint32_t flags, uint64_t side_bytes)
{
	struct vmplat_view_mem m = { .mem_fd = mem, .log_fd = log };

	return view_new(&m, 1, flags, side_bytes);
}

struct vmplat_view_status view_status(int view)
{
	struct vmplat_view_status st = { .size = sizeof(st) };

	need(ioctl(view, VMPLAT_VIEW_STATUS, &st));
	return st;
}

int view_commit(int view, const void *id)
{
	struct vmplat_view_commit arg = { .size = sizeof(arg) };

	memcpy(arg.id, id, sizeof(arg.id));
	return ioctl(view, VMPLAT_VIEW_COMMIT, &arg);
}

int view_discard(int view, uint64_t first, uint64_t nr)
{
	struct vmplat_view_discard arg = { .size = sizeof(arg), .first = first, .nr_pages = nr };

	return ioctl(view, VMPLAT_VIEW_DISCARD, &arg);
}

int fill_new(int mem)
{
	struct vmplat_fill_create arg = { .size = sizeof(arg), .mem_fd = mem };

	return ioctl(dev_fd, VMPLAT_FILL_CREATE, &arg) ? -1 : arg.out_fd;
}

void *map_mem(int fd, uint64_t bytes)
{
	void *p = mmap(NULL, bytes, PROT_READ | PROT_WRITE, MAP_SHARED, fd, 0);

	if (p == MAP_FAILED)
		bail("mmap of %llu bytes", (unsigned long long)bytes);
	return p;
}

int read_all(int fd, void *buf, size_t bytes, off_t at)
{
	for (size_t n = 0; n < bytes;) {
		ssize_t got = pread(fd, (char *)buf + n, bytes - n, at + n);

		if (got <= 0) {
			if (!got)
				errno = EPIPE;	/* ended early */
			return -1;
		}
		n += got;
	}
	return 0;
}

bool bit(const uint64_t *bits, uint64_t nr)
{
	return bits[nr / 64] >> (nr % 64) & 1;
}

void lru_drain(void)
{
	int fd = open("/proc/sys/vm/compact_memory", O_WRONLY | O_CLOEXEC);

	if (fd < 0 || write(fd, "1", 1) != 1)
		diag("compact_memory: %s", strerror(errno));
	close(fd);
}

static char mount_dir[64];

static void unmount(void)
{
	umount2(mount_dir, MNT_DETACH);
	rmdir(mount_dir);
}

const char *fs_mount(const char *options)
{
	if (mount_dir[0]) {
		umount2(mount_dir, MNT_DETACH);
	} else {
		need(unshare(CLONE_NEWNS));
		need(mount("none", "/", NULL, MS_REC | MS_PRIVATE, NULL));
		strcpy(mount_dir, "/tmp/vmplatfs.XXXXXX");
		if (!mkdtemp(mount_dir))
			bail("mkdtemp");
		atexit(unmount);
	}
	return mount("none", mount_dir, "vmplatfs", 0, options) ? NULL : mount_dir;
}

/* ---- time and chance --------------------------------------------------- */

uint64_t now_ns(void)
{
	struct timespec ts;

	clock_gettime(CLOCK_MONOTONIC, &ts);
	return ts.tv_sec * 1000000000ULL + ts.tv_nsec;
}

uint32_t rnd(uint64_t *s)
{
	*s ^= *s << 13;
	*s ^= *s >> 7;
	*s ^= *s << 17;
	return *s >> 16;
}

int open_fds(void)
{
	DIR *d = opendir("/proc/self/fd");
	int n = 0;

	while (d && readdir(d))
		n++;
	if (d)
		closedir(d);
	return n;
}

/* ---- disturbers -------------------------------------------------------- */

static struct {
	atomic_bool stop;
	unsigned int what;
	void *addrs[8];
	size_t bytes[8];
	unsigned int nr;
	pthread_t threads[4];
	unsigned int nr_threads;
	atomic_ulong moved;
} disturb;

static void *migrate(void *unused)
{
	enum { BATCH = 128 };
	int status[BATCH], nodes[BATCH], node = 1;
	void *pages[BATCH];

	while (!disturb.stop) {
		for (unsigned int m = 0; m < disturb.nr; m++) {
			size_t n = disturb.bytes[m] / PAGE;

			for (size_t i = 0; i < n && !disturb.stop; i += BATCH) {
				size_t k = n - i < BATCH ? n - i : BATCH;

				for (size_t j = 0; j < k; j++) {
					pages[j] = (char *)disturb.addrs[m] + (i + j) * PAGE;
					nodes[j] = node;
				}
				if (!syscall(SYS_move_pages, 0, k, pages, nodes, status, 4 /* ALL */))
					for (size_t j = 0; j < k; j++)
						disturb.moved += status[j] == node;
			}
		}
		node = !node;
	}
	return NULL;
}

int poke(const char *path, const char *text)
{
	int fd = open(path, O_WRONLY | O_CLOEXEC);
	ssize_t n;

	if (fd < 0)
		return -1;
	n = write(fd, text, strlen(text));
	close(fd);
	return n < 0 ? -1 : 0;
}

static void *compact(void *unused)
{
	while (!disturb.stop) {
		if (disturb.what & DISTURB_COMPACT)
			poke("/proc/sys/vm/compact_memory", "1");
		if (disturb.what & DISTURB_DROP)
			poke("/proc/sys/vm/drop_caches", "3");
		usleep(20000);
	}
	return NULL;
}

#define CGROUP "/sys/fs/cgroup/vmplat-stress"

/* Into a cgroup of our own, so that reclaim can be asked to look at our pages. */
static void enter_cgroup(void)
{
	poke("/sys/fs/cgroup/cgroup.subtree_control", "+memory");
	if (mkdir(CGROUP, 0755) && errno != EEXIST)
		diag("no memory cgroup: nothing is reclaimed");
	poke(CGROUP "/cgroup.procs", "0");
}

/* Reclaim, again and again, whatever it can get. */
static void *pressure(void *unused)
{
	while (!disturb.stop) {
		poke(CGROUP "/memory.reclaim", "64M");
		usleep(1000);
	}
	return NULL;
}

static void disturb_thread(void *(*fn)(void *))
{
	if (pthread_create(&disturb.threads[disturb.nr_threads], NULL, fn, NULL))
		bail("pthread_create");
	disturb.nr_threads++;
}

void disturb_start(unsigned int what, void *const *addrs, const size_t *bytes, unsigned int nr)
{
	disturb.stop = false;
	disturb.what = what;
	disturb.nr = nr < 8 ? nr : 8;
	disturb.nr_threads = 0;
	disturb.moved = 0;
	memcpy(disturb.addrs, addrs, disturb.nr * sizeof(*addrs));
	memcpy(disturb.bytes, bytes, disturb.nr * sizeof(*bytes));
	if (what & DISTURB_MIGRATE)
		disturb_thread(migrate);
	if (what & (DISTURB_COMPACT | DISTURB_DROP))
		disturb_thread(compact);
	if (what & DISTURB_PRESSURE) {
		enter_cgroup();
		disturb_thread(pressure);
	}
}

void disturb_stop(void)
{
	disturb.stop = true;
	for (unsigned int i = 0; i < disturb.nr_threads; i++)
		pthread_join(disturb.threads[i], NULL);
	if (disturb.what & DISTURB_MIGRATE)
		diag("%lu pages moved between nodes", disturb.moved);
	disturb.nr_threads = 0;
	disturb.what = 0;
}

/* ---- memory cgroup ------------------------------------------------------ */

int cg_write(const char *cg, const char *file, const char *text)
{
	char path[160];
	int fd, rc;

	snprintf(path, sizeof(path), "%s/%s", cg, file);
	fd = open(path, O_WRONLY | O_CLOEXEC);
	if (fd < 0)
		return -1;
	rc = write(fd, text, strlen(text)) < 0 ? -1 : 0;
	close(fd);
	return rc;
}

uint64_t cg_stat(const char *cg, const char *key)
{
	char path[160], name[64];
	uint64_t v, found = 0;
	FILE *f;

	snprintf(path, sizeof(path), "%s/memory.stat", cg);
	f = fopen(path, "r");
	while (f && fscanf(f, "%63s %lu", name, &v) == 2)
		if (!strcmp(name, key))
			found = v;
	if (f)
		fclose(f);
	return found;
}

/* ---- fdinfo ------------------------------------------------------------- */

int64_t fdinfo(int fd, const char *key)
{
	char path[64], name[64], value[256];
	int64_t found = -1;
	FILE *f;

	snprintf(path, sizeof(path), "/proc/self/fdinfo/%d", fd);
	f = fopen(path, "re");
	while (f && fscanf(f, "%63[^:]: %255[^\n] ", name, value) == 2)
		if (!strcmp(name, key))
			found = strtoll(value, NULL, 0);
	if (f)
		fclose(f);
	return found;
}
