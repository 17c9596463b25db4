// SPDX-License-Identifier: LGPL-2.1-or-later
/* Disk images and their frozen views against a shadow copy. */
#include <errno.h>
#include <fcntl.h>
#include <pthread.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <unistd.h>

#include "run/blk.h"
#include "tap.h"

#define KIB		1024ull
#define CLUSTER		((uint64_t)BLK_CLUSTER_BYTES)
/* Not a multiple of the cluster nor of 64 clusters. */
#define IMAGE_BYTES	(150 * CLUSTER + 512 * 5)

static char image_path[] = "/tmp/vmplat-blk-XXXXXX";

static uint32_t rnd(uint32_t *s)
{
	*s ^= *s << 13;
	*s ^= *s >> 17;
	*s ^= *s << 5;
	return *s;
}

static int scratch_file(void)
{
	char path[] = "/tmp/vmplat-out-XXXXXX";
	int fd = mkostemp(path, O_CLOEXEC);

	unlink(path);
	return fd;
}

static void image_new(uint64_t bytes)
{
	int fd = open(image_path, O_RDWR | O_TRUNC | O_CLOEXEC);

	if (ftruncate(fd, bytes))
		abort();
	close(fd);
}

static struct blk *image_open(void)
{
	struct blk *blk;
	char err[256];

	if (blk_open(image_path, 0, &blk, err, sizeof(err))) {
		printf("# %s\n", err);
		abort();
	}
	return blk;
}

static int put(struct blk *blk, const void *buf, uint64_t len, uint64_t off)
{
	struct iovec iov[2] = {
		{ .iov_base = (void *)(uintptr_t)buf, .iov_len = len / 2 },
		{ .iov_base = (char *)(uintptr_t)buf + len / 2, .iov_len = len - len / 2 },
	};

	return blk_writev(blk, iov, 2, off);
}

static char *slurp(int fd, uint64_t bytes)
{
	char *buf = malloc(bytes);

	for (uint64_t done = 0; done < bytes;) {
		ssize_t n = pread(fd, buf + done, bytes - done, done);

		if (n <= 0)
			abort();
		done += n;
	}
	return buf;
}

TEST(io)
{
	struct blk *blk;
	char a[4096], b[4096];
	struct iovec iov = { b, sizeof(b) };

	image_new(IMAGE_BYTES);
	blk = image_open();
	CHECK_EQ(blk_size_bytes(blk), IMAGE_BYTES);
	memset(a, 0x5a, sizeof(a));
	CHECK_EQ(put(blk, a, sizeof(a), 12288), 0);
	CHECK_EQ(blk_readv(blk, &iov, 1, 12288), 0);
	CHECK(!memcmp(a, b, sizeof(a)));
	CHECK_EQ(blk_dirty_bytes(blk), CLUSTER);
	CHECK_EQ(blk_flush(blk), 0);
	CHECK_EQ(put(blk, a, 4096, IMAGE_BYTES - 512), -EINVAL);
	CHECK_EQ(put(blk, a, 4096, UINT64_MAX - 511), -EINVAL);
	CHECK_EQ(blk_readv(blk, &iov, 1, IMAGE_BYTES), -EINVAL);
	CHECK_EQ(blk_discard(blk, 12288, 4096), 0);
	CHECK_EQ(blk_readv(blk, &iov, 1, 12288), 0);
	CHECK(!b[0] && !memcmp(b, b + 1, sizeof(b) - 1));
	CHECK_EQ(put(blk, a, 512, 0), 0);
	CHECK_EQ(blk_write_zeroes(blk, 0, 512, false), 0);
	CHECK_EQ(blk_write_zeroes(blk, 512, UINT64_MAX, true), -EINVAL);
	iov.iov_len = 512;
	CHECK_EQ(blk_readv(blk, &iov, 1, 0), 0);
	CHECK(!b[0] && !memcmp(b, b + 1, 511));
	CHECK_EQ(put(blk, a, 512, IMAGE_BYTES - 512), 0);
	CHECK_EQ(blk_dirty_bytes(blk), CLUSTER + 512 * 5);
	blk_close(blk);
}

TEST(many_buffers)
{
	struct iovec iov[200];
	struct blk *blk;
	char *buf = malloc(200 * 512), *back = malloc(200 * 512);

	image_new(IMAGE_BYTES);
	blk = image_open();
	for (int i = 0; i < 200; i++) {
		memset(buf + i * 512, i, 512);
		iov[i] = (struct iovec){ buf + i * 512, 512 };
	}
	CHECK_EQ(blk_writev(blk, iov, 200, 1024), 0);
	for (int i = 0; i < 200; i++)
		iov[i].iov_base = back + i * 512;
	CHECK_EQ(blk_readv(blk, iov, 200, 1024), 0);
	CHECK(!memcmp(buf, back, 200 * 512));
	blk_close(blk);
	free(buf);
	free(back);
}

TEST(readonly)
{
	struct blk *blk;
	char buf[512] = "x";

	image_new(IMAGE_BYTES);
	REQUIRE(!blk_open(image_path, BLK_OPEN_READONLY, &blk, NULL, 0));
	CHECK_EQ(put(blk, buf, 512, 0), -EROFS);
	CHECK_EQ(blk_discard(blk, 0, 512), -EROFS);
	CHECK_EQ(blk_write_zeroes(blk, 0, 512, true), -EROFS);
	CHECK_EQ(blk_flush(blk), 0);
	blk_close(blk);
}

TEST(bad_images)
{
	struct blk *blk;
	char err[256];

	CHECK_EQ(blk_open("/nonexistent/disk", 0, &blk, err, sizeof(err)), -ENOENT);
	CHECK(strstr(err, "/nonexistent/disk"));
	CHECK_EQ(blk_open("/dev/null", 0, &blk, err, sizeof(err)), -EINVAL);
	image_new(1000);
	CHECK_EQ(blk_open(image_path, 0, &blk, err, sizeof(err)), -EINVAL);
	CHECK(strstr(err, "1000"));
	image_new(0);
	CHECK_EQ(blk_open(image_path, 0, &blk, err, sizeof(err)), -EINVAL);
	CHECK_EQ(blk_open(image_path, 1u << 31, &blk, err, sizeof(err)), -EOPNOTSUPP);
}

/* Another process holds the image: the refusal names file and holder. */
TEST(lock)
{
	struct blk *blk, *second;
	char err[512], pid_text[32];
	int go[2], ready[2];
	pid_t pid;
	char c;

	image_new(IMAGE_BYTES);
	REQUIRE(!pipe(go) && !pipe(ready));
	pid = fork();
	if (!pid) {
		close(go[1]);
		blk = image_open();
		if (write(ready[1], "r", 1) != 1 || read(go[0], &c, 1) < 0)
			_exit(1);
		_exit(0);
	}
	close(go[0]);
	REQUIRE(read(ready[0], &c, 1) == 1);
	CHECK_EQ(blk_open(image_path, 0, &second, err, sizeof(err)), -EBUSY);
	snprintf(pid_text, sizeof(pid_text), "process %d", pid);
	CHECK(strstr(err, image_path) && strstr(err, pid_text));
	CHECK_EQ(blk_open(image_path, BLK_OPEN_READONLY, &second, err, sizeof(err)), -EBUSY);
	close(go[1]);
	waitpid(pid, NULL, 0);
	blk = image_open();
	/* Also within one process: the lock belongs to the descriptor. */
	CHECK_EQ(blk_open(image_path, 0, &second, err, sizeof(err)), -EBUSY);
	blk_close(blk);
	REQUIRE(!blk_open(image_path, BLK_OPEN_READONLY, &blk, err, sizeof(err)));
	CHECK_EQ(blk_open(image_path, BLK_OPEN_READONLY, &second, err, sizeof(err)), 0);
	blk_close(second);
	blk_close(blk);
	close(ready[0]);
	close(ready[1]);
}

/* --- a guest that writes while we look ----------------------------------- */

struct guest {
	struct blk *blk;
	char *shadow;
	pthread_rwlock_t instant;	/* writers read-lock; a freeze write-locks */
	atomic_bool stop;
	atomic_int failures;
	atomic_ulong writes;
	atomic_uint pause_us;
};

struct guest_thread {
	struct guest *g;
	pthread_t thread;
	uint32_t seed;
	uint64_t first, end;		/* its own part of the image */
};

static void guest_step(struct guest_thread *t, char *buf)
{
	struct guest *g = t->g;
	uint64_t sectors = (t->end - t->first) / 512;
	uint64_t off = t->first + rnd(&t->seed) % sectors * 512;
	uint64_t len = 512 + rnd(&t->seed) % 128 * 1536;
	uint32_t kind = rnd(&t->seed) % 10;
	int ret;

	if (len > t->end - off)
		len = t->end - off;
	memset(buf, kind < 8 ? (int)rnd(&t->seed) : 0, len);
	pthread_rwlock_rdlock(&g->instant);
	if (kind == 9)
		ret = blk_discard(g->blk, off, len);
	else if (kind == 8)
		ret = blk_write_zeroes(g->blk, off, len, rnd(&t->seed) & 1);
	else
		ret = put(g->blk, buf, len, off);
	memcpy(g->shadow + off, buf, len);
	pthread_rwlock_unlock(&g->instant);
	atomic_fetch_add(&g->failures, ret != 0);
	atomic_fetch_add(&g->writes, 1);
}

static void *guest_main(void *arg)
{
	struct guest_thread *t = arg;
	char *buf = malloc(256 * KIB);

	while (!atomic_load(&t->g->stop)) {
		guest_step(t, buf);
		if (t->g->pause_us)
			usleep(t->g->pause_us);
	}
	free(buf);
	return NULL;
}

static void guest_start(struct guest *g, struct guest_thread *t, uint32_t seed)
{
	uint64_t middle = IMAGE_BYTES / 2 / 512 * 512;

	*g = (struct guest){ .shadow = calloc(1, IMAGE_BYTES) };
	image_new(IMAGE_BYTES);
	g->blk = image_open();
	pthread_rwlock_init(&g->instant, NULL);
	g->pause_us = 200;
	for (int i = 0; i < 2; i++) {
		t[i] = (struct guest_thread){
			.g = g, .seed = seed + i,
			.first = i ? middle : 0,
			.end = i ? IMAGE_BYTES : middle,
		};
		pthread_create(&t[i].thread, NULL, guest_main, &t[i]);
	}
}

static void guest_stop(struct guest *g, struct guest_thread *t)
{
	atomic_store(&g->stop, true);
	pthread_join(t[0].thread, NULL);
	pthread_join(t[1].thread, NULL);
}

static void guest_free(struct guest *g)
{
	blk_close(g->blk);
	pthread_rwlock_destroy(&g->instant);
	free(g->shadow);
}

static int freeze(struct guest *g, enum blk_freeze_mode mode, struct blk_view **v,
		  char **instant)
{
	int ret;

	*instant = malloc(IMAGE_BYTES);
	pthread_rwlock_wrlock(&g->instant);
	ret = blk_freeze(g->blk, mode, v);
	memcpy(*instant, g->shadow, IMAGE_BYTES);
	pthread_rwlock_unlock(&g->instant);
	return ret;
}

static void wait_writes(struct guest *g, unsigned long n)
{
	unsigned long from = atomic_load(&g->writes);

	while (atomic_load(&g->writes) - from < n)
		usleep(500);
}

/* Lay an increment over @base where its map says so; also check its holes. */
static void overlay(char *base, int fd, const struct blk_view *v)
{
	uint64_t nr;
	const uint64_t *map = blk_view_map(v, &nr);
	char *img = slurp(fd, IMAGE_BYTES);

	for (uint64_t c = 0; c < nr; c++) {
		uint64_t off = c * CLUSTER;
		uint64_t len = IMAGE_BYTES - off < CLUSTER ? IMAGE_BYTES - off : CLUSTER;

		if (map[c / 64] >> (c % 64) & 1)
			memcpy(base + off, img + off, len);
		else
			CHECK(lseek(fd, off, SEEK_DATA) != (off_t)off);
	}
	/* What changed to zero is data, not a hole. */
	for (uint64_t c = 0; c < nr; c++)
		if (map[c / 64] >> (c % 64) & 1)
			CHECK_EQ(lseek(fd, c * CLUSTER, SEEK_DATA), c * CLUSTER);
	free(img);
}

static void slow_reader(void *opaque, const struct blk_progress *p)
{
	struct blk_progress *last = opaque;

	CHECK(p->done_bytes >= last->done_bytes && p->done_bytes <= p->total_bytes);
	*last = *p;
	usleep(1000);
}

/* full, then increments; some are aborted; each image is the instant's. */
static void against_shadow(uint32_t seed, uint64_t side_ram)
{
	struct guest_thread t[2];
	struct guest g;
	char *chain = calloc(1, IMAGE_BYTES);

	guest_start(&g, t, seed);
	blk_side_limits(g.blk, side_ram, 64 << 20, "/tmp");
	wait_writes(&g, 20);
	for (int round = 0; round < 8; round++) {
		bool full = round == 0 || round == 5, drop = round == 3 || round == 6;
		struct blk_progress last = { 0 };
		int fd = scratch_file();
		struct blk_view *v;
		char *want;

		if (round == 1 || round == 4)	/* a sparse increment */
			g.pause_us = 3000;
		else
			g.pause_us = 200;
		CHECK_EQ(freeze(&g, full ? BLK_FREEZE_FULL : BLK_FREEZE_INCREMENT, &v, &want), 0);
		wait_writes(&g, 5);	/* before the copier starts */
		CHECK_EQ(blk_view_commit(v), -EBUSY);
		CHECK_EQ(blk_view_copy(v, fd, slow_reader, &last, NULL), 0);
		CHECK_EQ(last.done_bytes, blk_view_total_bytes(v));
		if (full) {
			char *img = slurp(fd, IMAGE_BYTES);

			CHECK(!memcmp(img, want, IMAGE_BYTES));
			memcpy(chain, img, IMAGE_BYTES);
			free(img);
		} else {
			char *tip = malloc(IMAGE_BYTES);

			memcpy(tip, chain, IMAGE_BYTES);
			overlay(tip, fd, v);
			CHECK(!memcmp(tip, want, IMAGE_BYTES));
			if (!drop)
				memcpy(chain, tip, IMAGE_BYTES);
			free(tip);
		}
		if (drop)
			blk_view_abort(v);
		else
			CHECK_EQ(blk_view_commit(v), 0);
		free(want);
		close(fd);
	}
	guest_stop(&g, t);
	CHECK_EQ(atomic_load(&g.failures), 0);
	free(chain);
	guest_free(&g);
}

TEST(shadow_side_ram)
{
	against_shadow(0x1234567, 64 << 20);
}

TEST(shadow_side_file)
{
	against_shadow(0x7654321, 0);
}

TEST(shadow_side_both)
{
	against_shadow(0xabcdef1, 3 * CLUSTER);
}

static void cancel_at_third(void *opaque, const struct blk_progress *p)
{
	if (p->done_bytes > p->total_bytes / 3)
		atomic_store((atomic_bool *)opaque, true);
}

/* Cancelled, side store full, output full: bits come back, the guest goes on. */
TEST(broken_views)
{
	struct guest_thread t[2];
	atomic_bool cancel = false;
	struct blk_view *v, *w;
	uint64_t before;
	struct guest g;
	char *want;
	int fd;

	guest_start(&g, t, 99);
	CHECK_EQ(blk_freeze(g.blk, BLK_FREEZE_INCREMENT, &v), -ENODATA);
	CHECK_EQ(blk_freeze(g.blk, 7, &v), -EINVAL);
	wait_writes(&g, 300);

	fd = scratch_file();
	CHECK_EQ(freeze(&g, BLK_FREEZE_FULL, &v, &want), 0);
	CHECK_EQ(blk_freeze(g.blk, BLK_FREEZE_FULL, &w), -EBUSY);
	CHECK_EQ(blk_view_copy(v, fd, cancel_at_third, &cancel, &cancel), -ECANCELED);
	CHECK_EQ(blk_view_commit(v), -EBUSY);
	blk_view_abort(v);
	CHECK(!blk_has_base(g.blk));
	free(want);
	close(fd);

	before = blk_dirty_bytes(g.blk);
	blk_side_limits(g.blk, 2 * CLUSTER, 0, NULL);
	fd = scratch_file();
	CHECK_EQ(freeze(&g, BLK_FREEZE_FULL, &v, &want), 0);
	wait_writes(&g, 100);
	CHECK_EQ(blk_view_copy(v, fd, NULL, NULL, NULL), -ENOSPC);
	blk_view_abort(v);
	CHECK(blk_dirty_bytes(g.blk) >= before);
	free(want);
	close(fd);

	blk_side_limits(g.blk, 64 << 20, 0, NULL);
	fd = open("/dev/full", O_WRONLY | O_CLOEXEC);
	CHECK_EQ(freeze(&g, BLK_FREEZE_FULL, &v, &want), 0);
	CHECK(blk_view_copy(v, fd, NULL, NULL, NULL) < 0);
	close(fd);
	blk_view_abort(v);
	free(want);

	/* A reader that never came: closing the image aborts its view. */
	CHECK_EQ(freeze(&g, BLK_FREEZE_FULL, &v, &want), 0);
	free(want);
	guest_stop(&g, t);
	CHECK_EQ(atomic_load(&g.failures), 0);
	guest_free(&g);
}

/* The reader dies at random instants; what it borrowed is in the next increment. */
TEST(dying_readers)
{
	struct guest_thread t[2];
	struct guest g;
	char *chain = malloc(IMAGE_BYTES), *want;
	struct blk_view *v;
	uint32_t seed = 4242;
	int fd;

	guest_start(&g, t, 7);
	fd = scratch_file();
	CHECK_EQ(freeze(&g, BLK_FREEZE_FULL, &v, &want), 0);
	CHECK_EQ(blk_view_copy(v, fd, NULL, NULL, NULL), 0);
	CHECK_EQ(blk_view_commit(v), 0);
	memcpy(chain, want, IMAGE_BYTES);
	free(want);
	close(fd);
	for (int i = 0; i < 40; i++) {
		atomic_bool cancel = false;

		wait_writes(&g, rnd(&seed) % 4);
		fd = scratch_file();
		CHECK_EQ(freeze(&g, BLK_FREEZE_INCREMENT, &v, &want), 0);
		wait_writes(&g, rnd(&seed) % 4);
		if (rnd(&seed) % 2) {
			atomic_store(&cancel, rnd(&seed) % 2);
			blk_view_copy(v, fd, cancel_at_third, &cancel, &cancel);
		}
		blk_view_abort(v);
		free(want);
		close(fd);
	}
	fd = scratch_file();
	CHECK_EQ(freeze(&g, BLK_FREEZE_INCREMENT, &v, &want), 0);
	CHECK_EQ(blk_view_copy(v, fd, NULL, NULL, NULL), 0);
	overlay(chain, fd, v);
	CHECK(!memcmp(chain, want, IMAGE_BYTES));
	CHECK_EQ(blk_view_commit(v), 0);
	free(want);
	free(chain);
	close(fd);
	guest_stop(&g, t);
	CHECK_EQ(atomic_load(&g.failures), 0);
	guest_free(&g);
}

/* A restored disk: what it holds already is the base of the next increment. */
TEST(assumed_base)
{
	struct blk_view *v;
	struct blk *blk;
	char buf[512] = "new";

	image_new(IMAGE_BYTES);
	blk = image_open();
	CHECK_EQ(blk_assume_base(blk), 0);
	CHECK_EQ(put(blk, buf, 512, 5 * CLUSTER), 0);
	CHECK_EQ(blk_freeze(blk, BLK_FREEZE_INCREMENT, &v), 0);
	CHECK_EQ(blk_view_total_bytes(v), CLUSTER);
	CHECK_EQ(blk_assume_base(blk), -EBUSY);
	blk_view_abort(v);
	CHECK_EQ(blk_dirty_bytes(blk), CLUSTER);
	blk_close(blk);
}

/* An output where holes do not show: refused, for they would mean something. */
TEST(no_holes)
{
	struct blk_view *v;
	struct blk *blk;
	char buf[512] = "new";
	int fd = scratch_file();

	image_new(IMAGE_BYTES);
	blk = image_open();
	CHECK_EQ(blk_assume_base(blk), 0);
	CHECK_EQ(put(blk, buf, 512, 5 * CLUSTER), 0);
	CHECK_EQ(blk_freeze(blk, BLK_FREEZE_INCREMENT, &v), 0);
	CHECK_EQ(pwrite(fd, buf, 512, 9 * CLUSTER), 512);
	CHECK_EQ(blk_view_copy(v, fd, NULL, NULL, NULL), -EOPNOTSUPP);
	blk_view_abort(v);
	CHECK_EQ(blk_dirty_bytes(blk), CLUSTER);
	/* nothing changed: nothing but a hole */
	CHECK_EQ(blk_assume_base(blk), 0);
	CHECK_EQ(blk_freeze(blk, BLK_FREEZE_INCREMENT, &v), 0);
	CHECK(!ftruncate(fd, 0));
	CHECK_EQ(blk_view_copy(v, fd, NULL, NULL, NULL), 0);
	CHECK_EQ(blk_view_commit(v), 0);
	close(fd);
	blk_close(blk);
}

/* A huge image with little in it: time and output follow the data. */
TEST(sparse_full)
{
	uint64_t huge = UINT64_C(1) << 40;
	struct blk_view *v;
	struct blk *blk;
	struct stat st;
	char buf[512] = "here";
	int fd;

	image_new(huge);
	blk = image_open();
	CHECK_EQ(put(blk, buf, 512, huge / 3 / 512 * 512), 0);
	CHECK_EQ(put(blk, buf, 512, huge - 512), 0);
	fd = scratch_file();
	CHECK_EQ(blk_freeze(blk, BLK_FREEZE_FULL, &v), 0);
	/* Zero to data after the instant: must stay zero in the view. */
	CHECK_EQ(put(blk, buf, 512, huge / 2), 0);
	CHECK_EQ(blk_view_copy(v, fd, NULL, NULL, NULL), 0);
	CHECK_EQ(blk_view_commit(v), 0);
	CHECK(!fstat(fd, &st));
	CHECK_EQ(st.st_size, huge);
	CHECK(st.st_blocks * 512 <= (off_t)(4 * CLUSTER));
	CHECK(pread(fd, buf, 512, huge / 2) == 512 && !buf[0]);
	CHECK(pread(fd, buf, 512, huge - 512) == 512 && !strcmp(buf, "here"));
	close(fd);
	blk_close(blk);
}

int main(void)
{
	int fd = mkostemp(image_path, O_CLOEXEC);

	if (fd < 0)
		return 1;
	close(fd);
	RUN(io);
	RUN(many_buffers);
	RUN(readonly);
	RUN(bad_images);
	RUN(lock);
	RUN(shadow_side_ram);
	RUN(shadow_side_file);
	RUN(shadow_side_both);
	RUN(broken_views);
	RUN(dying_readers);
	RUN(assumed_base);
	RUN(no_holes);
	RUN(sparse_full);
	unlink(image_path);
	return tap_done();
}
