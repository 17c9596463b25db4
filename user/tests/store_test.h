/* SPDX-License-Identifier: LGPL-2.1-or-later */
/*
 * For the tests of the snapshot store: TAP, a scratch directory, and a *shadow*:
 * an image kept in memory page by page, beside the sparse file that is stored.
 */
#ifndef STORE_TEST_H
#define STORE_TEST_H

#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <unistd.h>

#include "store/internal.h"

#define PAGE	STORE_PAGE_BYTES

/* ---- TAP --------------------------------------------------------------- */

static int tap_nr, tap_failed;

__attribute__((format(printf, 2, 3), unused))
static int ok(int good, const char *fmt, ...)
{
	va_list ap;

	printf("%sok %d - ", good ? "" : "not ", ++tap_nr);
	va_start(ap, fmt);
	vprintf(fmt, ap);
	va_end(ap);
	printf("\n");
	if (!good) {
		tap_failed++;
		printf("# store says: %s\n", store_error());
	}
	fflush(stdout);
	return good;
}

__attribute__((unused))
static int tap_end(void)
{
	printf("1..%d\n", tap_nr);
	return tap_failed ? 1 : 0;
}

#define MUST(x) do {							\
	int must_ = (x);						\
	if (must_ < 0) {						\
		printf("Bail out! %s:%d: %s: %d, %s\n", __FILE__,	\
		       __LINE__, #x, must_, store_error());		\
		exit(1);						\
	}								\
} while (0)

/* ---- random numbers ---------------------------------------------------- */

static uint64_t rng = 0x1234567;

__attribute__((unused))
static uint64_t rnd(void)
{
	rng ^= rng << 13;
	rng ^= rng >> 7;
	rng ^= rng << 17;
	return rng;
}

/* ---- scratch ----------------------------------------------------------- */

static char scratch[256];

__attribute__((unused))
static void wipe(const char *dir)
{
	DIR *d = opendir(dir);
	struct dirent *de;
	char path[1024];

	while (d && (de = readdir(d))) {
		if (!strcmp(de->d_name, ".") || !strcmp(de->d_name, ".."))
			continue;
		snprintf(path, sizeof(path), "%s/%s", dir, de->d_name);
		if (unlink(path) && (errno == EISDIR || errno == EPERM))
			wipe(path);
	}
	if (d)
		closedir(d);
	rmdir(dir);
}

static void scratch_end(void)
{
	wipe(scratch);
}

__attribute__((unused))
static void scratch_begin(void)
{
	const char *base = getenv("SCRATCH");

	if (!base)
		base = getenv("TMPDIR");
	snprintf(scratch, sizeof(scratch), "%s/vmplat-store-XXXXXX",
		 base ? base : "/tmp");
	if (!mkdtemp(scratch)) {
		printf("Bail out! cannot make %s\n", scratch);
		exit(1);
	}
	atexit(scratch_end);
	setvbuf(stdout, NULL, _IOLBF, 0);
}

/* A new, empty store below the scratch directory. */
__attribute__((unused))
static struct store *store_at(const char *name)
{
	struct store *st;
	char path[512];

	snprintf(path, sizeof(path), "%s/%s", scratch, name);
	MUST(store_open(&st, path, STORE_OPEN_CREATE));
	return st;
}

/* ---- shadow ------------------------------------------------------------ */

struct shadow {
	uint64_t bytes, nr_pages;
	uint8_t *mem;		/* content */
	uint8_t *kind;		/* enum store_kind the store should report */
	uint8_t *changed;	/* since the last snapshot */
};

__attribute__((unused))
static void shadow_init(struct shadow *s, uint64_t bytes)
{
	s->bytes = bytes;
	s->nr_pages = (bytes + PAGE - 1) / PAGE;
	s->mem = calloc(s->nr_pages + 1, PAGE);
	s->kind = calloc(s->nr_pages + 1, 1);
	s->changed = calloc(s->nr_pages + 1, 1);
}

__attribute__((unused))
static void shadow_free(struct shadow *s)
{
	free(s->mem);
	free(s->kind);
	free(s->changed);
}

/* Zeroes, text, repetition, noise: what guests have in memory. */
__attribute__((unused))
static void shadow_write(struct shadow *s, uint64_t page)
{
	uint8_t *p = s->mem + page * PAGE;
	size_t len = s->bytes - page * PAGE < PAGE ? s->bytes - page * PAGE :
						     PAGE;

	memset(p, 0, len);
	s->kind[page] = STORE_DATA;
	s->changed[page] = 1;
	switch (rnd() % 4) {
	case 0:
		s->kind[page] = STORE_ZERO;
		return;
	case 1:
		for (size_t i = 0; i < len; i += 1 + rnd() % 5)
			p[i] = 'a' + i % 26;
		break;
	case 2:
		for (size_t i = 0; i < len; i++)
			p[i] = rnd();
		break;
	case 3:
		p[rnd() % len] = 1 + rnd() % 255;
		return;
	}
	p[0] |= 1;
}

__attribute__((unused))
static void shadow_scribble(struct shadow *s, unsigned int percent)
{
	for (uint64_t p = 0; p < s->nr_pages; ) {
		uint64_t run = 1 + rnd() % (rnd() % 8 ? 9 : 300);
		int hit = rnd() % 100 < percent;

		for (; run-- && p < s->nr_pages; p++)
			if (hit)
				shadow_write(s, p);
	}
}

/* The file a view would look like: what is @which of the pages, the rest holes. */
__attribute__((unused))
static int shadow_file(const struct shadow *s, int only_changed)
{
	int fd = open(scratch, O_TMPFILE | O_RDWR, 0600);

	MUST(fd);
	MUST(ftruncate(fd, s->bytes));
	for (uint64_t p = 0; p < s->nr_pages; p++) {
		size_t len = s->bytes - p * PAGE < PAGE ? s->bytes - p * PAGE :
							  PAGE;

		if (only_changed ? !s->changed[p] : s->kind[p] == STORE_HOLE)
			continue;
		if (pwrite(fd, s->mem + p * PAGE, len, p * PAGE) != (ssize_t)len)
			MUST(-1);
	}
	return fd;
}

static int same_extent(const struct store_extent *a, const struct store_extent *b)
{
	return a->off == b->off && a->len == b->len && a->kind == b->kind &&
	       a->inherited == b->inherited;
}

/* What is around a page contains it, looks the same from its ends, and is of one kind. */
static int around_ok(const struct shadow *s, struct store_image *img, uint64_t off,
		     struct store_extent *e)
{
	struct store_extent a, b;

	if (store_around(img, off, e) != 1 || off < e->off || off >= e->off + e->len ||
	    e->off % PAGE || (e->kind == STORE_DATA && e->len > STORE_AROUND_MAX))
		return 0;
	for (uint64_t p = e->off / PAGE; p * PAGE < e->off + e->len; p++)
		if (s->kind[p] != e->kind)
			return 0;
	return store_around(img, e->off, &a) == 1 && same_extent(&a, e) &&
	       store_around(img, e->off + e->len - 1, &b) == 1 && same_extent(&b, e);
}

static int arounds_ok(const struct shadow *s, struct store_image *img)
{
	struct store_extent e = { 0 };
	uint64_t off;

	for (off = 0; off < s->bytes; off = e.off + e.len)
		if (!around_ok(s, img, off + rnd() % (s->bytes - off), &e) ||
		    !around_ok(s, img, off, &e) || e.off != off) {
			printf("# what is around %llu is wrong\n", (unsigned long long)off);
			return 0;
		}
	return off == s->bytes && !store_around(img, off, &e);
}

/* Same bytes and same kinds of pages as the store has? */
__attribute__((unused))
static int shadow_check(const struct shadow *s, struct store_image *img)
{
	uint8_t *buf = malloc(s->bytes + 1);
	struct store_extent e;
	uint64_t off = 0;
	int good = store_image_bytes(img) == s->bytes, r = 0;

	/* pieces of every size, across frames and groups */
	while (good && off < s->bytes) {
		size_t len = rnd() % 5 ? rnd() % 9000 : rnd() % 3000000;

		if (len > s->bytes - off)
			len = s->bytes - off;
		r = store_read(img, buf + off, off, len);
		good = !r;
		off += len;
	}
	if (!good)
		printf("# reading failed at %llu: %s\n",
		       (unsigned long long)off, store_error());
	if (good && memcmp(buf, s->mem, s->bytes)) {
		printf("# the bytes differ\n");
		good = 0;
	}
	for (off = 0; good && (r = store_extent(img, off, &e)) == 1;
	     off = e.off + e.len)
		for (uint64_t p = e.off / PAGE; p * PAGE < e.off + e.len; p++)
			if (s->kind[p] != e.kind) {
				printf("# page %llu is of kind %d, not %d\n",
				       (unsigned long long)p, e.kind,
				       s->kind[p]);
				good = 0;
				break;
			}
	free(buf);
	return good && !r && off == s->bytes && arounds_ok(s, img);
}

/* ---- taking and reading a snapshot ------------------------------------- */

__attribute__((unused))
static int take(struct store *st, const char *name, const char *parent,
		enum store_codec codec, unsigned int threads,
		const struct shadow *s, enum store_source source)
{
	struct store_create_opts o = { .name = name, .parent = parent,
				       .codec = codec, .threads = threads };
	struct store_add_opts a = { .source = source };
	int fd = shadow_file(s, source == STORE_SRC_INCREMENT);
	struct store_writer *w;
	int err;

	err = store_create(&w, st, &o);
	if (!err) {
		err = store_add_image(w, "memory", fd, &a);
		if (!err)
			err = store_set_state(w, name, strlen(name));
		if (!err)
			err = store_set_vm(w, "{\"cpus\":2}", 1234);
		if (err)
			store_abort(w);
		else
			err = store_commit(w);
	}
	close(fd);
	return err;
}

__attribute__((unused))
static int same(struct store *st, const char *name, const struct shadow *s)
{
	struct store_snap *snap;
	struct store_image *img;
	int good;

	if (store_snap_open(&snap, st, name))
		return 0;
	img = store_image(snap, "memory");
	good = img && shadow_check(s, img);
	store_snap_close(snap);
	return good;
}

__attribute__((unused))
static int verified(struct store *st, const char *name)
{
	struct store_snap *snap;
	int err = store_snap_open(&snap, st, name);

	if (!err)
		err = store_verify(snap, NULL);
	if (snap)
		store_snap_close(snap);
	return err;
}

#endif /* STORE_TEST_H */
