// SPDX-License-Identifier: GPL-2.0-only
/* See bench.h. */
#define _GNU_SOURCE
#include <errno.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <unistd.h>
#include <vmplat_clock.h>

#include "bench.h"

void die(const char *fmt, ...)
{
	int err = errno;
	va_list ap;

	va_start(ap, fmt);
	fflush(stdout);
	vfprintf(stderr, fmt, ap);
	fprintf(stderr, ": %s\n", strerror(err));
	va_end(ap);
	exit(1);
}

/* ---- results ------------------------------------------------------------- */

static void figure(const char *label, double v)
{
	if (v < 100)
		printf(" %s=%.3g", label, v);
	else
		printf(" %s=%.0f", label, v);
}

void report(const char *name, double ours, double peer, const char *unit, enum better better)
{
	printf("bench %s", name);
	figure("ours", ours);
	figure("peer", peer);
	printf(" unit=%s", unit);
	printf(" ratio=%.3g\n", better == LESS ? peer / ours : ours / peer);
	fflush(stdout);
}

void note(const char *fmt, ...)
{
	va_list ap;

	va_start(ap, fmt);
	printf("# ");
	vprintf(fmt, ap);
	putchar('\n');
	va_end(ap);
	fflush(stdout);
}

static const struct bench *find(const struct bench *benches, size_t nr, const char *name)
{
	for (size_t i = 0; i < nr; i++)
		if (!strcmp(benches[i].name, name))
			return &benches[i];
	return NULL;
}

int bench_main(int argc, char **argv, const struct bench *benches, size_t nr)
{
	for (int i = 1; i < argc; i++)
		if (!find(benches, nr, argv[i])) {
			fprintf(stderr, "%s: no benchmark \"%s\"\n", argv[0], argv[i]);
			return 2;
		}
	for (size_t i = 0; argc == 1 && i < nr; i++)
		benches[i].run(benches[i].name);
	for (int i = 1; i < argc; i++)
		find(benches, nr, argv[i])->run(argv[i]);
	return 0;
}

/* ---- time ---------------------------------------------------------------- */

uint64_t now_ns(void)
{
	return vmplat_now_ns();
}

static int by_value(const void *a, const void *b)
{
	double x = *(const double *)a, y = *(const double *)b;

	return x < y ? -1 : x > y;
}

double median(double *values, size_t nr)
{
	qsort(values, nr, sizeof(*values), by_value);
	return nr % 2 ? values[nr / 2] : (values[nr / 2 - 1] + values[nr / 2]) / 2;
}

double least(const double *values, size_t nr)
{
	double v = values[0];

	for (size_t i = 1; i < nr; i++)
		if (values[i] < v)
			v = values[i];
	return v;
}

/* ---- memory ---------------------------------------------------------------- */

struct vmplat *device(void)
{
	static struct vmplat *dev;

	if (!dev && vmplat_open(&dev, NULL))
		die("%s", vmplat_last_error());
	return dev;
}

struct vmplat_mem *ours_new_kind(size_t bytes, uint32_t flags, void **map)
{
	struct vmplat_mem *mem;

	if (vmplat_mem_new(&mem, device(), bytes, flags) || vmplat_mem_map(mem, map))
		die("%s", vmplat_last_error());
	return mem;
}

struct vmplat_mem *ours_new(size_t bytes, void **map)
{
	return ours_new_kind(bytes, 0, map);
}

void *memfd_new(size_t bytes, int *fd)
{
	void *map;

	*fd = must(memfd_create("peer", MFD_CLOEXEC));
	must(ftruncate(*fd, bytes));
	map = mmap(NULL, bytes, PROT_READ | PROT_WRITE, MAP_SHARED, *fd, 0);
	if (map == MAP_FAILED)
		die("mmap of %zu bytes", bytes);
	return map;
}

void fill(void *map, size_t bytes)
{
	for (size_t page = 0; page < bytes / PAGE; page++)
		memset((char *)map + page * PAGE, 1 + page % 255, PAGE);
}
