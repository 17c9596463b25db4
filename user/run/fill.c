// SPDX-License-Identifier: GPL-2.0-only
/*
 * Two threads: one answers demand, one streams. Both may bring the same page; the
 * kernel keeps the first. A page of zeroes costs no copy, and what the snapshot
 * does not hold at all is left to the end of filling, which makes it zero.
 */
#include "fill.h"

#include <errno.h>
#include <poll.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/eventfd.h>
#include <unistd.h>

#include "store/store.h"
#include "vm_priv.h"

#define PAGE		4096ULL
#define STREAM_BYTES	(1ULL << 20)
#define AROUND_PAGES	16	/* brought together with a page in demand */
#define WANTED_MAX	64

struct filler {
	struct vm *vm;
	struct vmplat_fill *fill;
	struct store_image *image;
	uint64_t nr_pages;
	void (*done)(void *ctx, int err, const struct filler_stats *st);
	void *ctx;
	uint64_t start_ns;
	int stop_fd;
	atomic_bool stop;
	atomic_bool failed;
	atomic_uint demand;	/* pages being answered: the stream stands back */
	atomic_uint alive;	/* threads */
	pthread_t stream, server;
	bool stream_started, server_started;
};

static void wake(struct filler *f)
{
	uint64_t one = 1;

	if (write(f->stop_fd, &one, sizeof(one)) < 0)
		abort();	/* an eventfd takes a one unless it is full of them */
}

static void failed(struct filler *f, int err, uint64_t page)
{
	if (atomic_exchange(&f->failed, true))
		return;
	vm_error(f->vm, err, "memory page %llu cannot be brought from the snapshot: %s",
		 (unsigned long long)page, err == -EBADMSG ? store_error() : strerror(-err));
	f->done(f->ctx, err, NULL);
	vm_request(f->vm, VM_REQ_FAIL);
	wake(f);
}

/*
 * After a failure the last thread closes the fill: who waits for a page gets an
 * error then, instead of waiting for ever.
 */
static void leave(struct filler *f)
{
	if (atomic_fetch_sub(&f->alive, 1) != 1 || !atomic_load(&f->failed))
		return;
	vmplat_fill_close(f->fill);
	f->fill = NULL;
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
	while (buf && !atomic_load(&f->stop) && !atomic_load(&f->failed)) {
		struct pollfd p[] = {
			{ .fd = vmplat_fill_fd(f->fill), .events = POLLIN },
			{ .fd = f->stop_fd, .events = POLLIN },
		};
		ssize_t n;

		if (poll(p, 2, -1) < 0 || p[1].revents || p[0].revents & ~POLLIN)
			continue;
		n = read(p[0].fd, wanted, sizeof(wanted));
		if (n <= 0)
			continue;
		atomic_store(&f->demand, (unsigned int)(n / 8));
		for (ssize_t i = 0; i < n / 8; i++) {
			int ret = answer(f, wanted[i], buf);

			if (ret < 0)
				failed(f, ret, wanted[i]);
		}
		atomic_store(&f->demand, 0);
	}
	if (!buf)
		failed(f, -ENOMEM, 0);
	free(buf);
	leave(f);
	return NULL;
}

/* ---- the stream ------------------------------------------------------------------- */

static int stream_extent(struct filler *f, const struct store_extent *e, void *buf)
{
	uint64_t off = e->off, end = e->off + e->len;

	while (off < end && !atomic_load(&f->stop) && !atomic_load(&f->failed)) {
		uint64_t n = end - off < STREAM_BYTES ? end - off : STREAM_BYTES;
		int ret;

		while (atomic_load(&f->demand) && !atomic_load(&f->failed))
			usleep(100);
		ret = put(f, off / PAGE, n / PAGE, STORE_DATA, buf);
		if (ret) {
			failed(f, ret, off / PAGE);
			return ret;
		}
		off += n;
	}
	return 0;
}

static void complete(struct filler *f)
{
	struct vmplat_fill_status st;
	struct filler_stats s = { 0 };
	int ret = vmplat_fill_end(f->fill);

	if (ret) {
		failed(f, ret, f->nr_pages);
		return;
	}
	if (!vmplat_fill_query(f->fill, &st))
		s = (struct filler_stats){
			st.out_nr_pages, st.out_nr_filled, st.out_nr_demanded, st.out_wait_ns,
			now_ns() - f->start_ns,
		};
	f->done(f->ctx, 0, &s);
}

static void *stream_main(void *arg)
{
	struct filler *f = arg;
	void *buf = malloc(STREAM_BYTES);
	uint64_t off = 0;
	int ret = buf ? 1 : -ENOMEM;

	pthread_setname_np(pthread_self(), "fill-stream");
	while (ret == 1 && !atomic_load(&f->stop) && !atomic_load(&f->failed)) {
		struct store_extent e;

		ret = store_extent(f->image, off, &e);
		if (ret == 1) {
			off = e.off + e.len;
			if (e.kind == STORE_DATA && stream_extent(f, &e, buf))
				break;
		}
	}
	if (ret < 0)
		failed(f, ret, off / PAGE);
	else if (!ret)
		complete(f);
	free(buf);
	leave(f);
	return NULL;
}

/* ---- without demand filling ---------------------------------------------------------- */

/* what filling wrote is not what the guest changed */
static int forget_marks(struct vm *vm)
{
	struct vmplat_range r[256];
	uint64_t at = 0, nr = vm->cfg.mem_bytes / PAGE;

	while (vm->log && at < nr) {
		int64_t n = vmplat_log_ranges(vm->log, VMPLAT_LOG_FETCH_F_CLEAR, at, nr - at,
					      r, 256, &at);

		if (n < 0)
			return vm_error(vm, (int)n, "dirty log: %s", vmplat_last_error());
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
		ret = store_read(f->image, f->vm->ram + e.off, e.off, e.len);
		if (ret)
			break;
		s.nr_filled += e.len / PAGE;
	}
	if (ret)
		return vm_error(f->vm, ret, "memory at %llu: %s", (unsigned long long)e.off,
				store_error());
	s.elapsed_ns = now_ns() - f->start_ns;
	f->done(f->ctx, 0, &s);
	return forget_marks(f->vm);
}

/* ---- beginning and end ------------------------------------------------------------------ */

static int start_threads(struct filler *f)
{
	int ret;

	ret = vmplat_fill_new(&f->fill, f->vm->dev, f->vm->mem);
	if (ret)
		return vm_error(f->vm, ret, "memory does not fill: %s", vmplat_last_error());
	f->stop_fd = eventfd(0, EFD_CLOEXEC);
	if (f->stop_fd < 0)
		return vm_error(f->vm, -errno, "no eventfd: %s", strerror(errno));
	ret = pthread_create(&f->server, NULL, server_main, f);
	f->server_started = !ret;
	if (!ret) {
		ret = pthread_create(&f->stream, NULL, stream_main, f);
		f->stream_started = !ret;
	}
	return ret ? vm_error(f->vm, -ret, "no thread: %s", strerror(ret)) : 0;
}

int filler_start(struct filler **out, struct vm *vm, struct store_image *image,
		 void (*done)(void *ctx, int err, const struct filler_stats *st), void *ctx)
{
	struct vmplat_info info = { 0 };
	struct filler *f = calloc(1, sizeof(*f));
	int ret;

	*out = NULL;
	if (!f)
		return vm_error(vm, -ENOMEM, "out of memory");
	*f = (struct filler){
		.vm = vm, .image = image, .nr_pages = vm->cfg.mem_bytes / PAGE,
		.done = done, .ctx = ctx, .start_ns = now_ns(), .stop_fd = -1, .alive = 2,
	};
	if (store_image_bytes(image) != vm->cfg.mem_bytes) {
		ret = vm_error(vm, -EBADMSG, "the memory in the snapshot has %llu bytes, the VM has %llu",
			       (unsigned long long)store_image_bytes(image),
			       (unsigned long long)vm->cfg.mem_bytes);
	} else if (vm->mem && !vmplat_query(vm->dev, &info) &&
		   info.out_caps & VMPLAT_CAP_FILL) {
		ret = start_threads(f);
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

/* threads that wait for the guest's memory get SIGBUS from now on: stop them first */
void filler_stop(struct filler *f)
{
	if (!f)
		return;
	atomic_store(&f->stop, true);
	if (f->stop_fd >= 0)
		wake(f);
	if (f->stream_started)
		pthread_join(f->stream, NULL);
	if (f->server_started)
		pthread_join(f->server, NULL);
	vmplat_fill_close(f->fill);
	if (f->stop_fd >= 0)
		close(f->stop_fd);
	free(f);
}
