// SPDX-License-Identifier: GPL-2.0-only
/*
 * The filler is a process of its own. A vCPU or an ioctl that waits for a page may
 * hold its process's mmap_lock for as long as it waits, and a filler in the same
 * process would sooner or later wait for that lock (an allocation that grows the
 * heap is enough). It is also what makes a crash of the filler visible: with its
 * last descriptor gone, missing pages are errors, not zeroes.
 *
 * In it, threads that answer demand, and one that streams all that nobody asked
 * for. Each brings what one read of the snapshot gives, which is a frame; two may
 * bring the same one, and the kernel keeps the first. Stretches of zeroes take no
 * reading; those nobody asks for are left to the end of filling, which makes them
 * so. The verdict comes back through a pipe.
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
#include <vmplat_thread.h>

#include "store/store.h"
#include "vm_priv.h"

#define PAGE		4096ULL
#define SERVERS_MAX	4
#define STREAM_NICE	10
#define QUIET_NS	5000000		/* without demand before the stream goes on */
#define HOLD_NS		20000000	/* but it brings a frame after so long */
#define PUT_PAGES	16	/* supplied at once: only then those who wait look again */

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
	_Atomic uint64_t asked_ns;	/* when there was demand last */
	_Atomic uint64_t *have;		/* bits of pages the kernel has by now */
	pthread_mutex_t end;		/* the first verdict is the last */
	int verdict_fd;

	/* in the VM's process */
	void (*done)(void *ctx, int err, const struct filler_stats *st);
	void *ctx;
	pid_t pid;
	struct vmplat_thread *watcher;
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
	struct vmplat_error why;

	vmplat_error_get(&why);
	snprintf(v.why, sizeof(v.why), "memory page %llu cannot be brought from the snapshot: %.220s",
		 (unsigned long long)page, why.err == err ? why.text : strerror(-err));
	leave(f, &v);
}

static bool have(struct filler *f, uint64_t page)
{
	return atomic_load_explicit(&f->have[page / 64], memory_order_relaxed) >> page % 64 & 1;
}

/* pages [first, end), zeroes without @content */
static int put(struct filler *f, uint64_t first, uint64_t end, const char *content)
{
	int ret = 0;

	for (uint64_t nr; !ret && first < end; first += nr) {
		nr = end - first;
		if (content && nr > PUT_PAGES)
			nr = PUT_PAGES;
		ret = vmplat_fill_put(f->fill, first, nr, content);
		for (uint64_t p = first; !ret && p < first + nr; p++)
			atomic_fetch_or_explicit(&f->have[p / 64], 1ULL << p % 64,
						 memory_order_relaxed);
		content += content ? nr * PAGE : 0;
	}
	return ret;
}

/* ---- demand --------------------------------------------------------------------- */

/* the page first: somebody waits for it; then what came with it */
static int put_around(struct filler *f, uint64_t page, const struct store_extent *e, char *buf)
{
	uint64_t first = e->off / PAGE, end = (e->off + e->len) / PAGE;
	int ret;

	if (e->kind != STORE_DATA)
		return put(f, first, end, NULL);
	ret = store_read(f->image, buf, e->off, e->len);
	if (!ret)
		ret = put(f, page, page + 1, buf + (page - first) * PAGE);
	if (!ret)
		ret = put(f, first, page, buf);
	if (!ret)
		ret = put(f, page + 1, end, buf + (page + 1 - first) * PAGE);
	return ret;
}

static int answer(struct filler *f, uint64_t page, char *buf)
{
	struct store_extent e;
	int ret;

	if (page >= f->nr_pages)
		return -ERANGE;
	if (have(f, page))
		return 0;	/* it came with another one since it was asked for */
	ret = store_around(f->image, page * PAGE, &e);
	if (ret != 1)
		return ret ? ret : -ERANGE;
	return put_around(f, page, &e, buf);
}

static void *server_main(void *arg)
{
	char *buf = malloc(STORE_AROUND_MAX);
	struct filler *f = arg;
	uint64_t page;

	if (!buf)
		failed(f, -ENOMEM, 0);
	for (;;) {
		/* one at a time: the next is for the next server */
		ssize_t n = read(vmplat_fill_fd(f->fill), &page, sizeof(page));
		int ret;

		if (n < 0 && errno == EINTR)
			continue;
		if (n <= 0)
			break;		/* all is there: nobody will ask any more */
		atomic_store(&f->asked_ns, vmplat_now_ns());
		ret = answer(f, page, buf);
		/* What was asked for just before the end is there by now. */
		if (ret < 0 && atomic_load(&f->ended))
			break;
		if (ret < 0)
			failed(f, ret, page);
		atomic_store(&f->asked_ns, vmplat_now_ns());
	}
	free(buf);
	return NULL;
}

/* As many vCPUs can wait at once, and they need CPUs more than their servers do. */
static void start_servers(struct filler *f)
{
	long cpus = sysconf(_SC_NPROCESSORS_ONLN);
	unsigned int want = f->vm->cfg.nr_cpus;
	const struct vmplat_thread_options o = { .name = "fill-demand" };
	struct vmplat_thread *server;

	if (cpus > 0 && want > (cpus + 1) / 2)
		want = (cpus + 1) / 2;
	if (want > SERVERS_MAX)
		want = SERVERS_MAX;
	for (unsigned int i = 0; i < want; i++) {
		int ret = vmplat_thread_start(&server, &o, server_main, f);

		if (!ret)
			vmplat_thread_detach(server);
		else if (!i)
			failed(f, ret, 0);
	}
}

/* ---- the stream ------------------------------------------------------------------- */

/* A guest that waits for pages has use for the CPU and the disk that we would take. */
static void stand_back(struct filler *f)
{
	uint64_t start = vmplat_now_ns(), now = start;

	while (now - start < HOLD_NS && now < atomic_load(&f->asked_ns) + QUIET_NS) {
		vmplat_sleep_ns(1000000);
		now = vmplat_now_ns();
	}
}

static bool have_all(struct filler *f, uint64_t page, uint64_t end)
{
	while (page < end && have(f, page))
		page++;
	return page == end;
}

static void stream_extent(struct filler *f, const struct store_extent *e, void *buf)
{
	uint64_t first = e->off / PAGE, end = (e->off + e->len) / PAGE;
	int ret;

	if (e->kind != STORE_DATA || have_all(f, first, end))
		return;
	stand_back(f);
	ret = store_read(f->image, buf, e->off, e->len);
	if (!ret)
		ret = put(f, first, end, buf);
	if (ret)
		failed(f, ret, first);
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
			vmplat_now_ns() - f->start_ns,
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
	void *buf = malloc(STORE_AROUND_MAX);
	struct store_extent e;
	uint64_t off = 0;
	int ret;

	drop_stdio();
	prctl(PR_SET_PDEATHSIG, SIGKILL);
	prctl(PR_SET_NAME, "fill-stream");
	f->have = calloc(f->nr_pages / 64 + 1, sizeof(*f->have));
	if (!buf || !f->have)
		failed(f, -ENOMEM, 0);
	atomic_store(&f->asked_ns, vmplat_now_ns());	/* it will begin with a burst */
	start_servers(f);
	/* The guest runs already; this thread, and only it, takes what is left. */
	setpriority(PRIO_PROCESS, 0, STREAM_NICE);
	while ((ret = store_around(f->image, off, &e)) == 1) {
		off = e.off + e.len;
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
	s.elapsed_ns = vmplat_now_ns() - f->start_ns;
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
	const struct vmplat_thread_options o = { .name = "fill-watch" };
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
		ret = -vmplat_thread_start(&f->watcher, &o, watcher_main, f);
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
		.done = done, .ctx = ctx, .start_ns = vmplat_now_ns(), .verdict_fd = -1, .pid = -1,
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
	vmplat_thread_join(f->watcher);
	vmplat_fill_close(f->fill);
	if (f->verdict_fd >= 0)
		close(f->verdict_fd);
	free(f);
}
