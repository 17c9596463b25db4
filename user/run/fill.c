// SPDX-License-Identifier: GPL-2.0-only
/*
 * The filler is a process of its own. A vCPU or an ioctl that waits for a page may
 * hold its process's mmap_lock for as long as it waits, and a filler in the same
 * process would sooner or later wait for that lock (an allocation that grows the
 * heap is enough). It is also what makes a crash of the filler visible: with its
 * last descriptor gone, missing pages are errors, not zeroes.
 *
 * In it, two threads: one answers demand, one streams. Both may bring the same
 * page; the kernel keeps the first. What the snapshot does not hold is left to the
 * end of filling, which makes it zero. The verdict comes back through a pipe.
 */
#include "fill.h"

#include <errno.h>
#include <fcntl.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/prctl.h>
#include <sys/resource.h>
#include <sys/wait.h>
#include <unistd.h>

#include "store/store.h"
#include "vm_priv.h"

#define PAGE		4096ULL
#define STREAM_BYTES	(1ULL << 20)
#define AROUND_PAGES	64	/* brought together with a page in demand: a frame's worth */
#define WANTED_MAX	64
#define STREAM_NICE	10

/* what the process says at its end */
struct verdict {
	int err;
	struct filler_stats stats;
	char why[300];
};

struct filler {
	struct vm *vm;
	struct vm_memory mem;		/* its name is not used: that may go */
	struct vmplat_fill *fill;	/* the process's alone, once it runs */
	struct store_image *image;
	uint64_t nr_pages;
	uint64_t start_ns;

	/* in the process */
	atomic_bool ended;		/* pages are not taken any more, nor needed */
	atomic_uint demand;		/* pages being answered: the stream stands back */
	pthread_mutex_t end;		/* the first verdict is the last */
	int verdict_fd;

	/* in the VM's process */
	void (*done)(void *ctx, int err, const struct filler_stats *st);
	void *ctx;
	pid_t pid;
	pthread_t watcher;
	bool watching;
	atomic_bool stop;
};

/* ---- in the process --------------------------------------------------------------- */

static _Noreturn void leave(struct filler *f, const struct verdict *v)
{
	pthread_mutex_lock(&f->end);
	if (write(f->verdict_fd, v, sizeof(*v)) != sizeof(*v))
		_exit(2);
	_exit(v->err ? 1 : 0);
}

static void failed(struct filler *f, int err, uint64_t page)
{
	struct verdict v = { .err = err };

	snprintf(v.why, sizeof(v.why), "memory page %llu cannot be brought from the snapshot: %s",
		 (unsigned long long)page, *store_error() ? store_error() : strerror(-err));
	leave(f, &v);
}

/* pages [first, first + nr), all of one kind */
static int put(struct filler *f, uint64_t first, uint64_t nr, enum store_kind kind, void *buf)
{
	int ret;

	if (kind != STORE_DATA)
		return vmplat_fill_put(f->fill, first, nr, NULL);
	ret = store_read(f->image, buf, first * PAGE, nr * PAGE);
	return ret ? ret : vmplat_fill_put(f->fill, first, nr, buf);
}

/* ---- demand --------------------------------------------------------------------- */

/* the page and its neighbours, as far as they are of the same kind */
static int answer(struct filler *f, uint64_t page, void *buf)
{
	uint64_t first = page & ~(uint64_t)(AROUND_PAGES - 1);
	struct store_extent e;
	uint64_t end;
	int ret;

	if (page >= f->nr_pages)
		return -ERANGE;
	ret = store_extent(f->image, page * PAGE, &e);
	if (ret != 1)
		return ret ? ret : -ERANGE;
	end = (e.off + e.len) / PAGE;
	if (e.off / PAGE > first)
		first = e.off / PAGE;
	if (first < page)	/* the extent is only known from here on */
		first = page;
	if (end > page + AROUND_PAGES)
		end = page + AROUND_PAGES;
	return put(f, first, end - first, e.kind, buf);
}

static void *server_main(void *arg)
{
	struct filler *f = arg;
	uint64_t wanted[WANTED_MAX];
	void *buf = malloc(AROUND_PAGES * PAGE);

	pthread_setname_np(pthread_self(), "fill-demand");
	if (!buf)
		failed(f, -ENOMEM, 0);
	for (;;) {
		ssize_t n = read(vmplat_fill_fd(f->fill), wanted, sizeof(wanted));

		if (n < 0 && errno == EINTR)
			continue;
		if (n <= 0)
			break;		/* all is there: nobody will ask any more */
		atomic_store(&f->demand, (unsigned int)(n / 8));
		for (ssize_t i = 0; i < n / 8; i++) {
			int ret = answer(f, wanted[i], buf);

			/* What was asked for just before the end is there by now. */
			if (ret < 0 && atomic_load(&f->ended))
				return NULL;
			if (ret < 0)
				failed(f, ret, wanted[i]);
		}
		atomic_store(&f->demand, 0);
	}
	free(buf);
	return NULL;
}

/* ---- the stream ------------------------------------------------------------------- */

static void stream_extent(struct filler *f, const struct store_extent *e, void *buf)
{
	uint64_t off = e->off, end = e->off + e->len;

	while (off < end) {
		uint64_t n = end - off < STREAM_BYTES ? end - off : STREAM_BYTES;
		int ret;

		for (int i = 0; i < 100 && atomic_load(&f->demand); i++)
			usleep(100);
		ret = put(f, off / PAGE, n / PAGE, STORE_DATA, buf);
		if (ret)
			failed(f, ret, off / PAGE);
		off += n;
	}
}

static _Noreturn void complete(struct filler *f)
{
	struct vmplat_fill_status st;
	struct verdict v = { 0 };
	int ret;

	atomic_store(&f->ended, true);
	ret = vmplat_fill_end(f->fill);
	if (ret)
		failed(f, ret, f->nr_pages);
	if (!vmplat_fill_query(f->fill, &st))
		v.stats = (struct filler_stats){
			st.out_nr_pages, st.out_nr_filled, st.out_nr_demanded, st.out_wait_ns,
			now_ns() - f->start_ns,
		};
	leave(f, &v);
}

/* who waits for the end of the VM's output must not wait for us */
static void drop_stdio(void)
{
	int null = open("/dev/null", O_RDWR | O_CLOEXEC);

	for (int fd = 0; fd <= 2 && null >= 0; fd++)
		dup2(null, fd);
}

static _Noreturn void process_main(struct filler *f)
{
	void *buf = malloc(STREAM_BYTES);
	struct store_extent e;
	pthread_t server;
	uint64_t off = 0;
	int ret;

	drop_stdio();
	prctl(PR_SET_PDEATHSIG, SIGKILL);
	prctl(PR_SET_NAME, "fill-stream");
	if (!buf || pthread_create(&server, NULL, server_main, f))
		failed(f, -ENOMEM, 0);
	/* The guest runs already; this thread, and only it, takes what is left. */
	setpriority(PRIO_PROCESS, 0, STREAM_NICE);
	while ((ret = store_extent(f->image, off, &e)) == 1) {
		off = e.off + e.len;
		if (e.kind == STORE_DATA)
			stream_extent(f, &e, buf);
	}
	if (ret)
		failed(f, ret, off / PAGE);
	complete(f);
}

/* ---- without demand filling ---------------------------------------------------------- */

/* what filling wrote is not what the guest changed */
static int forget_marks(struct filler *f)
{
	struct vmplat_range r[256];
	uint64_t at = 0, nr = f->nr_pages;

	while (f->mem.log && at < nr) {
		int64_t n = vmplat_log_ranges(f->mem.log, VMPLAT_LOG_FETCH_F_CLEAR, at, nr - at,
					      r, 256, &at);

		if (n < 0)
			return vm_error(f->vm, (int)n, "dirty log: %s", vmplat_last_error());
	}
	return 0;
}

static int fill_eagerly(struct filler *f)
{
	struct filler_stats s = { .nr_pages = f->nr_pages };
	struct store_extent e;
	uint64_t off = 0;
	int ret;

	vm_notice(f->vm, "this module cannot fill memory on demand: reading all of it first");
	while ((ret = store_extent(f->image, off, &e)) == 1) {
		off = e.off + e.len;
		if (e.kind != STORE_DATA)
			continue;
		ret = store_read(f->image, f->mem.ram + e.off, e.off, e.len);
		if (ret)
			break;
		s.nr_filled += e.len / PAGE;
	}
	if (ret)
		return vm_error(f->vm, ret, "memory at %llu: %s", (unsigned long long)e.off,
				store_error());
	s.elapsed_ns = now_ns() - f->start_ns;
	f->done(f->ctx, 0, &s);
	return forget_marks(f);
}

/* ---- beginning and end ------------------------------------------------------------------ */

/* wait for the verdict; a process that dies without one has failed */
static void *watcher_main(void *arg)
{
	struct filler *f = arg;
	struct verdict v;
	ssize_t n;

	pthread_setname_np(pthread_self(), "fill-watch");
	do
		n = read(f->verdict_fd, &v, sizeof(v));
	while (n < 0 && errno == EINTR);
	if (n != sizeof(v)) {
		v.err = -EIO;
		snprintf(v.why, sizeof(v.why), "the process that fills memory from the snapshot has died");
	}
	if (atomic_load(&f->stop))
		return NULL;
	f->done(f->ctx, v.err, v.err ? NULL : &v.stats);
	if (v.err) {
		v.why[sizeof(v.why) - 1] = 0;
		vm_error(f->vm, v.err, "%s", v.why);
		vm_request(f->vm, VM_REQ_FAIL);
	}
	return NULL;
}

static int start_process(struct filler *f)
{
	int p[2], ret;

	ret = vmplat_fill_new(&f->fill, f->vm->dev, f->mem.mem);
	if (ret)
		return vm_error(f->vm, ret, "memory does not fill: %s", vmplat_last_error());
	if (pipe2(p, O_CLOEXEC))
		return vm_error(f->vm, -errno, "no pipe: %s", strerror(errno));
	fflush(NULL);
	f->pid = fork();
	if (!f->pid) {
		close(p[0]);
		f->verdict_fd = p[1];
		process_main(f);
	}
	ret = f->pid < 0 ? errno : 0;
	close(p[1]);
	f->verdict_fd = p[0];
	vmplat_fill_close(f->fill);
	f->fill = NULL;
	if (!ret)
		ret = pthread_create(&f->watcher, NULL, watcher_main, f);
	f->watching = !ret;
	return ret ? vm_error(f->vm, -ret, "no process to fill memory: %s", strerror(ret)) : 0;
}

int filler_start(struct filler **out, struct vm *vm, const struct vm_memory *m,
		 struct store_image *image,
		 void (*done)(void *ctx, int err, const struct filler_stats *st), void *ctx)
{
	struct vmplat_info info = { 0 };
	struct filler *f = calloc(1, sizeof(*f));
	int ret;

	*out = NULL;
	if (!f)
		return vm_error(vm, -ENOMEM, "out of memory");
	*f = (struct filler){
		.vm = vm, .mem = *m, .image = image, .nr_pages = m->bytes / PAGE,
		.done = done, .ctx = ctx, .start_ns = now_ns(), .verdict_fd = -1, .pid = -1,
	};
	pthread_mutex_init(&f->end, NULL);
	f->mem.name = NULL;
	if (store_image_bytes(image) != m->bytes) {
		ret = vm_error(vm, -EBADMSG, "%s in the snapshot has %llu bytes, in the VM it has %llu",
			       m->name, (unsigned long long)store_image_bytes(image),
			       (unsigned long long)m->bytes);
	} else if (m->mem && !vmplat_query(vm->dev, &info) &&
		   info.out_caps & VMPLAT_CAP_FILL) {
		ret = start_process(f);
	} else {
		ret = fill_eagerly(f);
	}
	if (ret) {
		filler_stop(f);
		return ret;
	}
	*out = f;
	return 0;
}

/* vCPUs have ended: nobody misses what has not come yet */
void filler_stop(struct filler *f)
{
	if (!f)
		return;
	atomic_store(&f->stop, true);
	if (f->pid > 0) {
		kill(f->pid, SIGKILL);
		waitpid(f->pid, NULL, 0);
	}
	if (f->watching)
		pthread_join(f->watcher, NULL);
	vmplat_fill_close(f->fill);
	if (f->verdict_fd >= 0)
		close(f->verdict_fd);
	free(f);
}
