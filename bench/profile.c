// SPDX-License-Identifier: GPL-2.0-only
/*
 * Where time goes, by sampling with the CPU clock; symbols from /proc/kallsyms.
 *
 * An hrtimer does the sampling: what runs with interrupts off is charged to the
 * place that turns them on again.
 */
#define _GNU_SOURCE
#include <linux/perf_event.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/ioctl.h>
#include <sys/mman.h>
#include <sys/syscall.h>
#include <unistd.h>

#include "bench.h"

#define RING_BYTES	(2 * MIB)
#define PERIOD_NS	10000
#define TOP		32

struct symbol {
	uint64_t addr;
	char name[56];
	uint32_t hits;
};

static struct symbol *symbols;
static size_t nr_symbols;
static int fd = -1;
static struct perf_event_mmap_page *ring;

static int by_addr(const void *a, const void *b)
{
	uint64_t x = ((const struct symbol *)a)->addr, y = ((const struct symbol *)b)->addr;

	return x < y ? -1 : x > y;
}

static int by_hits(const void *a, const void *b)
{
	return (int)((const struct symbol *)b)->hits - (int)((const struct symbol *)a)->hits;
}

static void load_symbols(void)
{
	FILE *f = fopen("/proc/kallsyms", "re");
	size_t room = 0;
	char line[512];

	while (f && fgets(line, sizeof(line), f)) {
		struct symbol s = { 0 };
		char type;

		if (sscanf(line, "%lx %c %55s", &s.addr, &type, s.name) != 3 || !strchr("tTwW", type))
			continue;
		if (nr_symbols == room) {
			room = room ? 2 * room : 65536;
			symbols = realloc(symbols, room * sizeof(s));
		}
		symbols[nr_symbols++] = s;
	}
	if (f)
		fclose(f);
	qsort(symbols, nr_symbols, sizeof(*symbols), by_addr);
}

static void hit(uint64_t ip, uint32_t *user)
{
	size_t lo = 0, hi = nr_symbols;

	if (ip < 1ULL << 63) {
		(*user)++;
		return;
	}
	while (hi - lo > 1) {
		size_t mid = (lo + hi) / 2;

		if (symbols[mid].addr <= ip)
			lo = mid;
		else
			hi = mid;
	}
	if (nr_symbols)
		symbols[lo].hits++;
}

void profile_start(void)
{
	struct perf_event_attr attr = {
		.type = PERF_TYPE_SOFTWARE, .size = sizeof(attr), .config = PERF_COUNT_SW_CPU_CLOCK,
		.sample_period = PERIOD_NS, .sample_type = PERF_SAMPLE_IP, .disabled = 1,
	};

	if (!getenv("BENCH_PROFILE"))
		return;
	if (!nr_symbols)
		load_symbols();
	fd = must((int)syscall(SYS_perf_event_open, &attr, -1, 0, -1, 0));
	ring = mmap(NULL, RING_BYTES + PAGE, PROT_READ | PROT_WRITE, MAP_SHARED, fd, 0);
	if (ring == MAP_FAILED)
		die("perf ring");
	must(ioctl(fd, PERF_EVENT_IOC_ENABLE, 0));
}

void profile_pause(void)
{
	if (fd >= 0)
		must(ioctl(fd, PERF_EVENT_IOC_DISABLE, 0));
}

void profile_resume(void)
{
	if (fd >= 0)
		must(ioctl(fd, PERF_EVENT_IOC_ENABLE, 0));
}

void profile_stop(const char *what)
{
	const char *data = (const char *)ring + PAGE;
	uint32_t user = 0, total = 0;
	struct symbol *top;

	if (fd < 0)
		return;
	must(ioctl(fd, PERF_EVENT_IOC_DISABLE, 0));
	for (uint64_t at = 0; at < ring->data_head && at < RING_BYTES;) {
		const struct perf_event_header *h = (const void *)(data + at);

		if (h->type == PERF_RECORD_SAMPLE) {
			hit(*(const uint64_t *)(h + 1), &user);
			total++;
		}
		at += h->size;
	}
	note("profile of %s: %u samples, user %.1f %%", what, total, 100.0 * user / total);
	top = malloc(nr_symbols * sizeof(*top));
	memcpy(top, symbols, nr_symbols * sizeof(*top));
	qsort(top, nr_symbols, sizeof(*top), by_hits);
	for (int i = 0; i < TOP && top[i].hits; i++)
		note("  %5.1f %%  %s", 100.0 * top[i].hits / total, top[i].name);
	free(top);
	for (size_t i = 0; i < nr_symbols; i++)
		symbols[i].hits = 0;
	munmap(ring, RING_BYTES + PAGE);
	close(fd);
	fd = -1;
}
