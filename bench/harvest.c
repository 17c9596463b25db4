// SPDX-License-Identifier: GPL-2.0-only
/*
 * Finding out what a guest wrote: vmplat's log against PAGEMAP_SCAN with
 * asynchronous userfaultfd-wp and against KVM's own dirty log.
 *
 * One round: the vCPU writes some pages, spread evenly; reads one word of every
 * page where the benchmark says so (a tracker that throws the guest's mappings
 * away pays for it here); the tracker collects. The cost of a round is all of
 * it, write faults included. Memory is 4 KiB pages throughout, a memfd for the
 * peers. After each round the answer is checked: no page missing.
 */
#define _GNU_SOURCE
#include <fcntl.h>
#include <stdlib.h>
#include <string.h>
#include <sys/ioctl.h>
#include <sys/mman.h>
#include <unistd.h>

#include "bench.h"
#include "peers.h"

#define ROUNDS	3

struct tracked {
	const struct tracker *how;
	void *map;
	size_t bytes, nr_pages;
	bool kvm;			/* a vCPU writes, else this CPU */
	struct guest *guest;
	uint64_t *bits;			/* the answer as a bitmap, or */
	struct page_region *regions;	/* the answer as regions */
	long nr_regions;
	/* what the tracker keeps */
	struct vmplat_mem *mem;
	struct vmplat_log *log;
	int memfd, uffd, pagemap;
};

struct tracker {
	const char *name;
	void (*open)(struct tracked *t);
	void (*start)(struct tracked *t);	/* everything present and written once */
	void (*collect)(struct tracked *t);
	void (*close)(struct tracked *t);
};

/* ---- vmplat -------------------------------------------------------------------- */

static void log_open(struct tracked *t)
{
	t->mem = ours_new(t->bytes, &t->map);
}

/* No vCPU: the processor's dirty bits tell everything. */
static void pinnable_open(struct tracked *t)
{
	t->mem = ours_new_kind(t->bytes, VMPLAT_MEM_F_PINNABLE, &t->map);
}

static void log_start(struct tracked *t)
{
	if (vmplat_log_new(&t->log, device(), t->mem, 0, 0))
		die("%s", vmplat_last_error());
}

static void log_collect(struct tracked *t)
{
	if (vmplat_log_bitmap(t->log, VMPLAT_LOG_FETCH_F_CLEAR, 0, t->nr_pages, t->bits) < 0)
		die("%s", vmplat_last_error());
}

static void log_close(struct tracked *t)
{
	vmplat_log_close(t->log);
	vmplat_mem_close(t->mem);
}

static const struct tracker vmplat_log = {
	"vmplat", log_open, log_start, log_collect, log_close
};

static const struct tracker vmplat_pinnable = {
	"vmplat (pinnable)", pinnable_open, log_start, log_collect, log_close
};

/* ---- PAGEMAP_SCAN ---------------------------------------------------------------- */

static void pagemap_open(struct tracked *t)
{
	t->map = memfd_new(t->bytes, &t->memfd);
	t->regions = calloc(t->nr_pages, sizeof(*t->regions));
	memset(t->regions, 1, t->nr_pages * sizeof(*t->regions));
	t->pagemap = must(open("/proc/self/pagemap", O_RDONLY | O_CLOEXEC));
}

static void pagemap_start(struct tracked *t)
{
	t->uffd = uffd_register(t->map, t->bytes, UFFD_FEATURE_WP_ASYNC | UFFD_FEATURE_WP_UNPOPULATED);
	uffd_protect(t->uffd, t->map, t->bytes, 1);
}

static void pagemap_collect(struct tracked *t)
{
	struct pm_scan_arg arg = {
		.size = sizeof(arg), .flags = PM_SCAN_WP_MATCHING | PM_SCAN_CHECK_WPASYNC,
		.start = (uintptr_t)t->map, .end = (uintptr_t)t->map + t->bytes,
		.vec = (uintptr_t)t->regions, .vec_len = t->nr_pages,
		.category_mask = PAGE_IS_WRITTEN, .return_mask = PAGE_IS_WRITTEN,
	};

	t->nr_regions = must(ioctl(t->pagemap, PAGEMAP_SCAN, &arg));
}

static void pagemap_close(struct tracked *t)
{
	close(t->uffd);
	close(t->pagemap);
	close(t->memfd);
	free(t->regions);
}

static const struct tracker pagemap_scan = {
	"PAGEMAP_SCAN", pagemap_open, pagemap_start, pagemap_collect, pagemap_close
};

/* ---- KVM ------------------------------------------------------------------------- */

static void kvm_open(struct tracked *t)
{
	t->map = memfd_new(t->bytes, &t->memfd);
}

static void kvm_start(struct tracked *t)
{
}

static void kvm_collect(struct tracked *t)
{
	guest_dirty_log(t->guest, t->bits);
}

static void kvm_close(struct tracked *t)
{
	close(t->memfd);
}

static const struct tracker kvm_log = {
	"KVM_GET_DIRTY_LOG", kvm_open, kvm_start, kvm_collect, kvm_close
};

/* ---- rounds ----------------------------------------------------------------------- */

static void touch(struct tracked *t, bool write, size_t stride, size_t nr)
{
	volatile uint32_t *word = t->map;
	size_t i;

	if (t->kvm) {
		if (write)
			guest_write(t->guest, 0, stride, nr, 0x12345678);
		else
			guest_read(t->guest, 0, stride, nr);
		return;
	}
	for (i = 0; i < nr; i++, word += stride * PAGE / sizeof(*word))
		if (write)
			*word = 0x12345678;
		else
			(void)*word;
}

static bool reported(const struct tracked *t, size_t page)
{
	uint64_t addr = (uintptr_t)t->map + page * PAGE;

	if (!t->regions)
		return t->bits[page / 64] >> page % 64 & 1;
	for (long i = 0; i < t->nr_regions; i++)
		if (t->regions[i].start <= addr && addr < t->regions[i].end)
			return true;
	return false;
}

static void check(const struct tracked *t, size_t stride, size_t nr)
{
	for (size_t i = 0; i < nr; i += 1 + nr / 64)
		if (!reported(t, i * stride))
			die("%s lost page %zu", t->how->name, i * stride);
}

struct work {
	size_t mib;
	size_t stride;		/* one page in so many is written; 0: none */
	bool read_all;
	bool cpu;		/* written by this CPU, not by a vCPU */
};

/* BENCH_PROFILE=collect leaves the guest's part of a round out. */
static bool profile_all(void)
{
	const char *what = getenv("BENCH_PROFILE");

	return what && strcmp(what, "collect");
}

/* ns of one round */
static double measure(const struct tracker *how, const struct work *w, const char *name)
{
	struct tracked t = { .how = how, .bytes = w->mib * MIB, .nr_pages = w->mib * MIB / PAGE,
			     .kvm = !w->cpu };
	size_t nr = w->stride ? t.nr_pages / w->stride : 0;
	uint64_t start, sum = 0, gather = 0;

	t.bits = calloc(t.nr_pages / 64, sizeof(*t.bits));
	how->open(&t);
	fill(t.map, t.bytes);
	if (t.kvm)
		t.guest = guest_new(t.map, t.bytes, how == &kvm_log);
	touch(&t, true, 1, t.nr_pages);
	how->start(&t);
	how->collect(&t);
	for (int round = 0; round <= ROUNDS; round++) {
		uint64_t mid;

		if (round == 1 && how->collect == log_collect)
			profile_start();
		if (!profile_all())
			profile_pause();
		start = now_ns();
		if (nr)
			touch(&t, true, w->stride, nr);
		if (w->read_all)
			touch(&t, false, 1, t.nr_pages);
		profile_resume();
		mid = now_ns();
		how->collect(&t);
		if (round) {		/* the first one warms up */
			gather += now_ns() - mid;
			sum += now_ns() - start;
		}
		if (nr)
			check(&t, w->stride, nr);
	}
	if (how->collect == log_collect)
		profile_stop(name);
	if (t.guest)
		guest_free(t.guest);
	munmap(t.map, t.bytes);
	how->close(&t);
	free(t.bits);
	note("%s, %s: %.0f ns a round, of it %.0f to collect; %zu of %zu pages written", name,
	     how->name, (double)sum / ROUNDS, (double)gather / ROUNDS, nr, t.nr_pages);
	return (double)sum / ROUNDS;
}

static void compare(const char *name, const struct tracker *ours,
		    const struct tracker *peer, struct work w)
{
	double theirs = measure(peer, &w, name);

	report(name, measure(ours, &w, name), theirs, "ns", LESS);
}

static void read_1pct(const char *name)
{
	compare(name, &vmplat_log, &pagemap_scan, (struct work) { .mib = 64, .stride = 100, .read_all = true });
}

static void read_10pct(const char *name)
{
	compare(name, &vmplat_log, &pagemap_scan, (struct work) { .mib = 64, .stride = 10, .read_all = true });
}

static void read_100pct(const char *name)
{
	compare(name, &vmplat_log, &pagemap_scan, (struct work) { .mib = 64, .stride = 1, .read_all = true });
}

static void idle(const char *name)
{
	compare(name, &vmplat_log, &kvm_log, (struct work) { .mib = 256 });
}

static void kvm_1pct(const char *name)
{
	compare(name, &vmplat_log, &kvm_log, (struct work) { .mib = 64, .stride = 100 });
}

static void cpu_100pct(const char *name)
{
	compare(name, &vmplat_pinnable, &pagemap_scan,
		(struct work) { .mib = 64, .stride = 1, .cpu = true });
}

int main(int argc, char **argv)
{
	static const struct bench benches[] = {
		{ "harvest-kvm-read-1pct", read_1pct },
		{ "harvest-kvm-read-10pct", read_10pct },
		{ "harvest-kvm-read-100pct", read_100pct },
		{ "harvest-idle-vs-kvmlog", idle },
		{ "harvest-kvm-1pct-vs-kvmlog", kvm_1pct },
		{ "track-cpu-100pct-vs-pagemap", cpu_100pct },
	};

	return bench_main(argc, argv, benches, sizeof(benches) / sizeof(benches[0]));
}
