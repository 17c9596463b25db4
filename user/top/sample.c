// SPDX-License-Identifier: GPL-2.0-only
/* What VMs did during an interval: pages written, processor time, side memory. */
#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <inttypes.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "top/top.h"

/* The name of a process; "?" if it is gone. */
static void process_name(pid_t pid, char name[TOP_NAME])
{
	char path[32];
	FILE *f;

	strcpy(name, "?");
	snprintf(path, sizeof(path), "/proc/%d/comm", pid);
	f = fopen(path, "re");
	if (!f)
		return;
	if (fgets(name, TOP_NAME, f))
		name[strcspn(name, "\n")] = 0;
	fclose(f);
	for (char *c = name; *c; c++)
		if (*c < ' ' || *c > '~')
			*c = '?';
}

/* ---- files of other processes -------------------------------------------------- */

/*
 * A memory that is open in a process is opened once more, read-only. That is enough for a log: reading what is written
 * is no more than its owner lets us.
 */
static void adopt_mem(struct top *top, struct top_mem *mem, pid_t pid, int dir, const char *name)
{
	struct vmplat_mem *file;
	int fd = openat(dir, name, O_RDONLY | O_CLOEXEC);

	if (fd < 0)
		return;
	if (!vmplat_mem_from_fd(&file, top->dev, fd)) {
		if (!vmplat_log_new(&mem->log, top->dev, file, 0, 0)) {
			mem->holder = pid;
			snprintf(mem->holder_fd, sizeof(mem->holder_fd), "%.11s", name);
			process_name(pid, mem->holder_name);
		}
		vmplat_mem_close(file);
	}
	close(fd);
}

/* Our log keeps a memory alive: it goes as soon as the process where we found it lets go. */
static void drop_left(struct top_mem *mem)
{
	char path[64];
	struct stat st;

	snprintf(path, sizeof(path), "/proc/%d/fd/%s", mem->holder, mem->holder_fd);
	if (!mem->log || (!stat(path, &st) && st.st_dev == mem->dev && st.st_ino == mem->ino))
		return;
	vmplat_log_close(mem->log);
	mem->log = NULL;
	mem->dirty_pages = TOP_UNKNOWN;
}

static bool same_mems(const struct top_view *view, const uint64_t *mems, size_t nr)
{
	return view->nr_mems == nr && !memcmp(view->mems, mems, nr * sizeof(*mems));
}

/* What /proc/PID/fdinfo/FD says of a view goes to that view: the first of these memories without it. */
static void adopt_view(struct top *top, pid_t pid, const char *name)
{
	uint64_t mems[VMPLAT_VIEW_MAX_MEMS], side = 0, id;
	char path[64], line[128];
	size_t nr = 0;
	FILE *f;

	snprintf(path, sizeof(path), "/proc/%d/fdinfo/%.16s", pid, name);
	f = fopen(path, "re");
	if (!f)
		return;
	while (fgets(line, sizeof(line), f)) {
		if (sscanf(line, "vmplat-side-bytes: %" SCNu64, &id) == 1)
			side = id;
		else if (sscanf(line, "vmplat-mem-id: %" SCNu64, &id) == 1 && nr < VMPLAT_VIEW_MAX_MEMS)
			mems[nr++] = id;
	}
	fclose(f);
	for (size_t i = 0; i < top->views.nr; i++) {
		struct top_view *view = &top->views.items[i];

		if (view->side_bytes == TOP_UNKNOWN && same_mems(view, mems, nr)) {
			view->side_bytes = side;
			return;
		}
	}
}

static void look_at_file(struct top *top, pid_t pid, int dir, const char *name)
{
	char target[64];
	ssize_t len = readlinkat(dir, name, target, sizeof(target) - 1);
	struct stat st;

	if (len < 0)
		return;
	target[len] = 0;
	if (strstr(target, "[vmplat-view]")) {
		adopt_view(top, pid, name);
		return;
	}
	if (top->no_dirty || target[0] != '/' || fstatat(dir, name, &st, 0) || !S_ISREG(st.st_mode))
		return;
	for (size_t i = 0; i < top->mems.nr; i++) {
		struct top_mem *mem = &top->mems.items[i];

		if (!mem->log && mem->bytes && mem->dev == st.st_dev && mem->ino == st.st_ino)
			adopt_mem(top, mem, pid, dir, name);
	}
}

static void look_at_process(struct top *top, const char *pid)
{
	char path[32];
	struct dirent *d;
	DIR *dir;

	snprintf(path, sizeof(path), "/proc/%.16s/fd", pid);
	dir = opendir(path);
	if (!dir) {
		top->hidden |= errno == EACCES;
		return;
	}
	while ((d = readdir(dir)))
		if (d->d_name[0] != '.')
			look_at_file(top, atoi(pid), dirfd(dir), d->d_name);
	closedir(dir);
}

/* Only when something is to be found there: walking /proc is not free. */
static void look_at_processes(struct top *top)
{
	bool need = top->views.nr;
	struct dirent *d;
	DIR *proc;

	for (size_t i = 0; i < top->mems.nr && !top->no_dirty; i++) {
		drop_left(&top->mems.items[i]);
		need |= !top->mems.items[i].log && top->mems.items[i].bytes;
	}
	for (size_t i = 0; i < top->views.nr; i++)
		top->views.items[i].side_bytes = TOP_UNKNOWN;
	if (!need)
		return;
	top->hidden = false;
	proc = opendir("/proc");
	if (!proc)
		return;
	while ((d = readdir(proc)))
		if (d->d_name[0] >= '1' && d->d_name[0] <= '9' && atoi(d->d_name) != getpid())
			look_at_process(top, d->d_name);
	closedir(proc);
}

/* ---- the interval -------------------------------------------------------------- */

static void sample_cpu(struct top_vm *vm, double seconds)
{
	unsigned long long user, system;
	char path[32], text[1024], *end;
	uint64_t ticks;
	size_t n;
	FILE *f;

	vm->cpu_percent = TOP_UNKNOWN;
	snprintf(path, sizeof(path), "/proc/%d/stat", vm->pid);
	f = vm->pid ? fopen(path, "re") : NULL;
	if (!f)
		return;
	n = fread(text, 1, sizeof(text) - 1, f);
	fclose(f);
	text[n] = 0;
	end = strrchr(text, ')');	/* the name before it may hold anything */
	if (!end || sscanf(end + 1, " %*c %*d %*d %*d %*d %*d %*u %*u %*u %*u %*u %llu %llu",
			   &user, &system) != 2)
		return;
	ticks = user + system;
	if (vm->ticks && seconds > 0)
		vm->cpu_percent = 100.0 * (ticks - vm->ticks) / sysconf(_SC_CLK_TCK) / seconds;
	vm->ticks = ticks ? ticks : 1;
}

/* The first look at a new log is no interval yet. */
static int sample_dirty(struct top_mem *mem)
{
	bool first = mem->dirty_pages == TOP_UNKNOWN;
	int64_t pages;

	if (!mem->log)
		return 0;
	pages = vmplat_log_take(mem->log);
	if (pages < 0)
		return pages;
	mem->dirty_pages = first ? 0 : pages;
	return 0;
}

int top_sample(struct top *top)
{
	uint64_t now;
	int rc = 0;

	look_at_processes(top);
	for (size_t i = 0; i < top->mems.nr && !rc; i++)
		rc = sample_dirty(&top->mems.items[i]);
	if (rc)
		return rc;
	now = vmplat_now_ns();
	top->seconds = top->sampled_ns ? (now - top->sampled_ns) / 1e9 : 0;
	top->sampled_ns = now;
	for (size_t i = 0; i < top->vms.nr; i++)
		sample_cpu(&top->vms.items[i], top->seconds);
	for (size_t i = 0; i < top->users.nr; i++)
		process_name(top->users.items[i].user, top->users.items[i].user_name);
	return 0;
}
