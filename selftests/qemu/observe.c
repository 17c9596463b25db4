// SPDX-License-Identifier: GPL-2.0-only
/*
 * observe FILE MIB: watches from outside the memory of a guest that runs load(1).
 * observe --image FILE OUT: copies the view of one instant to OUT, another file
 * of the same size; says "frozen" on standard output as soon as the guest may go
 * on.
 * observe --sum FILE: a sum over all bytes of FILE and where they are.
 */
#include <fcntl.h>
#include <poll.h>
#include <stdlib.h>
#include <sys/stat.h>
#include <unistd.h>

#include "mem/util.h"
#include "qemu/load.h"

#define WAIT_MS	120000

static const uint8_t first_id[VMPLAT_ID_BYTES] = "first", second_id[VMPLAT_ID_BYTES] = "second",
		     third_id[VMPLAT_ID_BYTES] = "third", no_id[VMPLAT_ID_BYTES] = "nobody's";

/* ---- the guest's invariant ------------------------------------------------------- */

struct found {
	uint64_t generation;
	bool there, whole;
};

static struct found look(const uint64_t *page)
{
	struct found f = { .generation = page[LOAD_HEAD], .there = true };

	f.whole = page[LOAD_TAIL] == f.generation;
	for (unsigned int i = LOAD_BODY; i < LOAD_TAIL; i++)
		f.whole &= page[i] == load_body(f.generation, page[LOAD_INDEX], i);
	return f;
}

/* A page that the guest's kernel moved leaves an old copy behind: the latest counts. */
static void find_pages(const uint64_t *image, size_t image_pages, struct found *found, size_t nr)
{
	uint64_t magic = load_magic();

	memset(found, 0, nr * sizeof(*found));
	for (size_t p = 0; p < image_pages; p++) {
		const uint64_t *page = image + p * LOAD_WORDS;
		struct found f;

		if (page[LOAD_MAGIC] != magic || page[LOAD_INDEX] >= nr)
			continue;
		f = look(page);
		if (!found[page[LOAD_INDEX]].there ||
		    found[page[LOAD_INDEX]].generation < f.generation)
			found[page[LOAD_INDEX]] = f;
	}
}

/* Returns the generation of the first page, or -1 when the image is of no instant. */
static int64_t one_instant(const uint64_t *image, size_t image_pages, size_t nr)
{
	struct found *found = calloc(nr, sizeof(*found));
	uint64_t g, torn = 0, before = 0;
	int64_t result = -1;

	find_pages(image, image_pages, found, nr);
	g = found[0].generation;
	for (size_t i = 0; i < nr; i++) {
		uint64_t want = before ? g - 1 : g;

		if (!found[i].there) {
			diag("page %zu of the guest's program is missing", i);
			goto out;
		}
		if (!found[i].whole && found[i].generation == g && !before && !torn++) {
			before = 1;
			continue;
		}
		if (found[i].generation != want && found[i].generation == g - 1 && !before) {
			before = 1;
			want = g - 1;
		}
		if (!found[i].whole || found[i].generation != want) {
			diag("page %zu has generation %llu (%s), want %llu", i,
			     (unsigned long long)found[i].generation,
			     found[i].whole ? "whole" : "torn", (unsigned long long)want);
			goto out;
		}
	}
	result = g;
out:
	free(found);
	return result;
}

/* ---- images ------------------------------------------------------------------------ */

static void read_image(int fd, void *buf, size_t bytes)
{
	for (size_t at = 0; at < bytes; at += 1 << 20)
		need(read_all(fd, (char *)buf + at, bytes - at < 1 << 20 ? bytes - at : 1 << 20, at));
}

/* Copies what SEEK_DATA shows; returns how many pages that was. */
static size_t apply_increment(int view, char *image, size_t bytes)
{
	size_t pages = 0;
	off_t data, hole;

	for (hole = 0; (data = lseek(view, hole, SEEK_DATA)) >= 0;) {
		hole = need(lseek(view, data, SEEK_HOLE));
		need(read_all(view, image + data, hole - data, data));
		pages += (hole - data) / PAGE;
	}
	return pages;
}

static bool wait_marks(int log)
{
	struct pollfd p = { .fd = log, .events = POLLIN };

	return poll(&p, 1, WAIT_MS) == 1;
}

static int freeze(int mem, int log, const uint8_t *id, uint32_t flags)
{
	struct vmplat_view_mem m = { .mem_fd = mem, .log_fd = log };

	if (id)
		memcpy(m.id, id, sizeof(m.id));
	return view_new(&m, 1, flags, 0);
}

/* ---- observe --------------------------------------------------------------------- */

static void watch_dirty(int mem, size_t pages, size_t nr)
{
	uint64_t *bits = calloc((pages + 63) / 64, 8);
	int log = works(log_new(mem, 0, nr), "a log on the memory of a running guest");
	int64_t dirty;

	ok(wait_marks(log), "the log is ready when the guest wrote %zu pages", nr);
	dirty = log_bitmap(log, VMPLAT_LOG_FETCH_F_CLEAR, pages, bits);
	ok(dirty >= (int64_t)nr / 2 && dirty < (int64_t)pages,
	   "it shows pages of the guest's program, not all: %lld of %zu", (long long)dirty, pages);
	close(log);
	free(bits);
}

/* Where the guest's memory has the first page of its program. */
static off_t first_page(const uint64_t *image, size_t pages)
{
	uint64_t magic = load_magic();

	for (size_t p = 0; p < pages; p++, image += LOAD_WORDS)
		if (image[LOAD_MAGIC] == magic && !image[LOAD_INDEX])
			return p * PAGE;
	bail("the guest's program is not in the image");
}

/* Wait until the program is in a later round than @g: marks may be anybody's. */
static bool wait_round(int mem, const char *image, size_t bytes, int64_t g)
{
	off_t at = first_page((const uint64_t *)image, bytes / PAGE) + LOAD_HEAD * 8;
	uint64_t end = now_ns() + WAIT_MS * 1000000ULL, now = g;

	while (need(read_all(mem, &now, sizeof(now), at)) >= 0 && (int64_t)now <= g) {
		if (now_ns() > end)
			return false;
		usleep(100000);
	}
	return true;
}

/* An increment on top of @image; the result must be what the view shows in full. */
static int64_t chain(int mem, int log, const uint8_t *base, const uint8_t *id, char *image,
		     char *full, size_t bytes, size_t nr)
{
	struct vmplat_view_status st;
	size_t copied;
	int64_t g;
	int view;

	ok(wait_marks(log), "the guest goes on writing");
	view = works(freeze(mem, log, base, VMPLAT_VIEW_F_INCREMENT), "an increment is frozen");
	copied = apply_increment(view, image, bytes);
	read_image(view, full, bytes);
	ok(copied < bytes / PAGE && !memcmp(image, full, bytes),
	   "base and increment (%zu pages) are the whole image", copied);
	g = one_instant((const uint64_t *)full, bytes / PAGE, nr);
	ok(g >= 0, "it is of one instant, in round %lld", (long long)g);
	st = view_status(view);
	diag("blocked %llu us, %llu pages copied before a write",
	     (unsigned long long)st.out_blocked_ns / 1000, (unsigned long long)st.out_nr_copied);
	works(view_commit(view, id), "committed");
	close(view);
	return g;
}

static void watch_frozen(int mem, size_t bytes, size_t nr)
{
	char *image = malloc(bytes), *full = malloc(bytes);
	int log = need(log_new(mem, VMPLAT_LOG_F_ALL_DIRTY, nr / 2));
	int64_t g, later;
	int view;

	view = works(freeze(mem, log, NULL, 0), "a running guest is frozen");
	read_image(view, image, bytes);
	read_image(view, full, bytes);
	ok(!memcmp(image, full, bytes), "the image reads the same twice");
	g = one_instant((const uint64_t *)image, bytes / PAGE, nr);
	ok(g >= 0, "it is of one instant, in round %lld", (long long)g);
	ok(view_status(view).out_nr_copied > 0, "the guest wrote meanwhile: pages were copied");
	works(view_commit(view, first_id), "committed");
	close(view);

	ok(wait_round(mem, image, bytes, g), "the guest goes on to the next round");
	later = chain(mem, log, first_id, second_id, image, full, bytes, nr);
	ok(later > g, "the guest is further by then");
	ok(wait_round(mem, image, bytes, later), "and to the next");
	g = chain(mem, log, second_id, third_id, image, full, bytes, nr);
	ok(g > later, "and further still");
	fails(freeze(mem, log, no_id, VMPLAT_VIEW_F_INCREMENT), ESTALE,
	      "an increment on something else is refused");
	close(log);
	free(image);
	free(full);
}

/* ---- image ------------------------------------------------------------------------- */

static int copy_image(const char *from, const char *to)
{
	int mem = need(open(from, O_RDWR | O_CLOEXEC)), view, out;
	static char buf[1 << 20];
	struct stat st;

	need(fstat(mem, &st));
	view = need(view_of(mem, -1, 0, 0));
	puts("frozen");
	fflush(stdout);
	out = need(open(to, O_RDWR | O_CREAT | O_EXCL | O_CLOEXEC, 0600));
	need(ftruncate(out, st.st_size));
	for (off_t at = 0; at < st.st_size; at += sizeof(buf)) {
		need(read_all(view, buf, sizeof(buf), at));
		if (pwrite(out, buf, sizeof(buf), at) != sizeof(buf))
			bail("write");
	}
	puts("copied");
	return 0;
}

static int sum_file(const char *path)
{
	int fd = need(open(path, O_RDONLY | O_CLOEXEC));
	static uint64_t buf[(1 << 20) / 8];
	uint64_t sum = 0;
	struct stat st;

	need(fstat(fd, &st));
	for (off_t at = 0; at < st.st_size; at += sizeof(buf)) {
		need(read_all(fd, (char *)buf, sizeof(buf), at));
		for (size_t i = 0; i < ARRAY_SIZE(buf); i++)
			sum = (sum ^ buf[i]) * 0x9e3779b97f4a7c15ull + (sum >> 29);
	}
	printf("%016lx\n", sum);
	return 0;
}

int main(int argc, char **argv)
{
	struct stat st;
	size_t nr;
	int mem;

	dev_open();
	if (argc == 4 && !strcmp(argv[1], "--image"))
		return copy_image(argv[2], argv[3]);
	if (argc == 3 && !strcmp(argv[1], "--sum"))
		return sum_file(argv[2]);
	if (argc != 3)
		bail("usage: observe FILE MIB");
	nr = strtoul(argv[2], NULL, 0) * 256;
	mem = need(open(argv[1], O_RDWR | O_CLOEXEC));
	need(fstat(mem, &st));
	watch_dirty(mem, st.st_size / PAGE, nr);
	watch_frozen(mem, st.st_size, nr);
	return done();
}
