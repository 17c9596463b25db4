// SPDX-License-Identifier: GPL-2.0-only
/*
 * How long writers are kept waiting so that an image of one instant can be made,
 * and how fast the image is read afterwards. Live time, a writer running.
 *
 * The writer stores to a tenth of the pages, in random order, over and over.
 * ours: what VMPLAT_VIEW_CREATE says it kept writers waiting.
 * peer: write-protection of all the memory, the faster of userfaultfd-wp and
 *	 mprotect(). Either way writers must not run before its end, or the image
 *	 has no single instant. Their protection is lifted between rounds.
 */
#define _GNU_SOURCE
#include <pthread.h>
#include <stdatomic.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <unistd.h>

#include "bench.h"
#include "peers.h"

#define BYTES	(512 * MIB)
#define PAGES	(BYTES / PAGE)
#define ROUNDS	9

struct writer {
	volatile uint32_t *map;
	size_t nr_pages;
	atomic_bool stop;
	atomic_ulong laps;
	uint64_t worst_ns;	/* longest store since worst_ns was cleared */
	pthread_t thread;
};

static void *write_on(void *arg)
{
	struct writer *w = arg;
	uint32_t *order = malloc(w->nr_pages / 10 * sizeof(*order));
	uint64_t seed = 88172645463325252ULL;

	for (size_t i = 0; i < w->nr_pages / 10; i++) {
		seed ^= seed << 13;
		seed ^= seed >> 7;
		seed ^= seed << 17;
		order[i] = seed % w->nr_pages;
	}
	while (!w->stop) {
		for (size_t i = 0; i < w->nr_pages / 10 && !w->stop; i++) {
			uint64_t start = now_ns(), ns;

			w->map[order[i] * (PAGE / 4)] = i;
			ns = now_ns() - start;
			if (ns > w->worst_ns)
				w->worst_ns = ns;
		}
		w->laps++;
	}
	free(order);
	return NULL;
}

static void writer_start(struct writer *w, void *map)
{
	*w = (struct writer) { .map = map, .nr_pages = PAGES };
	if (pthread_create(&w->thread, NULL, write_on, w))
		die("pthread_create");
}

/* Until it has been round once more: everything it writes is dirty again. */
static void writer_lap(struct writer *w)
{
	unsigned long laps = w->laps;

	while (w->laps < laps + 2)
		usleep(1000);
	w->worst_ns = 0;
}

static void writer_stop(struct writer *w)
{
	w->stop = true;
	pthread_join(w->thread, NULL);
}

/* ---- ours ---------------------------------------------------------------------------- */

static double ours(double *worst)
{
	double blocked[ROUNDS], stall[ROUNDS];
	struct vmplat_freeze_mem what;
	struct vmplat_view_status st;
	struct vmplat_view *view;
	struct writer w;
	void *map;

	what = (struct vmplat_freeze_mem) { .mem = ours_new(BYTES, &map) };
	fill(map, BYTES);
	writer_start(&w, map);
	for (int i = 0; i < ROUNDS; i++) {
		writer_lap(&w);
		if (vmplat_freeze(&view, device(), &what, 1, 0, 0) || vmplat_view_query(view, &st))
			die("%s", vmplat_last_error());
		stall[i] = w.worst_ns;
		blocked[i] = st.out_blocked_ns;
		vmplat_view_close(view);
	}
	writer_stop(&w);
	munmap(map, BYTES);
	vmplat_mem_close(what.mem);
	*worst = median(stall, ROUNDS);
	median(blocked, ROUNDS);
	note("freeze: blocked %.0f to %.0f us", blocked[0] / 1e3, blocked[ROUNDS - 1] / 1e3);
	return median(blocked, ROUNDS);
}

/* ---- full write-protection -------------------------------------------------------------- */

static double by_mprotect(double *worst)
{
	double took[ROUNDS], stall[ROUNDS];
	struct writer w;
	int memfd;
	void *map = memfd_new(BYTES, &memfd);

	fill(map, BYTES);
	for (int i = 0; i < ROUNDS; i++) {
		uint64_t start;

		writer_start(&w, map);
		writer_lap(&w);
		writer_stop(&w);	/* it would be killed: stopped as a VMM stops its vCPUs */
		start = now_ns();
		must(mprotect(map, BYTES, PROT_READ));
		took[i] = now_ns() - start;
		stall[i] = took[i];
		must(mprotect(map, BYTES, PROT_READ | PROT_WRITE));
	}
	munmap(map, BYTES);
	close(memfd);
	*worst = median(stall, ROUNDS);
	return median(took, ROUNDS);
}

static double by_uffd(double *worst)
{
	double took[ROUNDS], stall[ROUNDS];
	struct writer w;
	int memfd, uffd;
	void *map = memfd_new(BYTES, &memfd);

	fill(map, BYTES);
	uffd = uffd_register(map, BYTES, 0);
	writer_start(&w, map);
	for (int i = 0; i < ROUNDS; i++) {
		uint64_t start;

		writer_lap(&w);
		start = now_ns();
		uffd_protect(uffd, map, BYTES, 1);
		took[i] = now_ns() - start;
		uffd_protect(uffd, map, BYTES, 0);	/* wakes the writer */
		stall[i] = w.worst_ns;
	}
	writer_stop(&w);
	munmap(map, BYTES);
	close(uffd);
	close(memfd);
	*worst = median(stall, ROUNDS);
	return median(took, ROUNDS);
}

static void block(const char *name)
{
	double worst[3], mprotected = by_mprotect(&worst[0]), protected = by_uffd(&worst[1]);
	double frozen = ours(&worst[2]);

	report(name, frozen / 1e3, (mprotected < protected ? mprotected : protected) / 1e3, "us", LESS);
	note("%s: mprotect %.0f us, userfaultfd-wp %.0f us", name, mprotected / 1e3, protected / 1e3);
	note("%s: longest store during the freeze %.0f us", name, worst[2] / 1e3);
}

/* ---- drain -------------------------------------------------------------------------------- */

#define CHUNK	MIB

/* GB/s of reading it all by pread(), into a buffer that stays the same */
static double read_rate(int fd, char *buf)
{
	uint64_t start = now_ns();

	for (size_t at = 0; at < BYTES; at += CHUNK)
		if (pread(fd, buf, CHUNK, at) != CHUNK)
			die("pread");
	return BYTES * 1.0 / (now_ns() - start);
}

static double copy_rate(const char *map, char *buf)
{
	uint64_t start = now_ns();

	for (size_t at = 0; at < BYTES; at += CHUNK)
		memcpy(buf, map + at, CHUNK);
	return BYTES * 1.0 / (now_ns() - start);
}

static void drain(const char *name)
{
	double ours[ROUNDS], peer[ROUNDS], copy[ROUNDS];
	struct vmplat_freeze_mem what;
	struct vmplat_view *view;
	char *buf = malloc(CHUNK);
	void *map, *peer_map;
	struct writer w;
	int memfd;

	what = (struct vmplat_freeze_mem) { .mem = ours_new(BYTES, &map) };
	peer_map = memfd_new(BYTES, &memfd);
	memset(buf, 1, CHUNK);
	fill(map, BYTES);
	fill(peer_map, BYTES);
	writer_start(&w, map);
	for (int i = 0; i < ROUNDS; i++) {
		copy[i] = copy_rate(map, buf);
		peer[i] = read_rate(memfd, buf);
		if (vmplat_freeze(&view, device(), &what, 1, 0, 0))
			die("%s", vmplat_last_error());
		profile_start();
		ours[i] = read_rate(vmplat_view_fd(view), buf);
		profile_stop(name);
		vmplat_view_close(view);
	}
	writer_stop(&w);
	munmap(map, BYTES);
	munmap(peer_map, BYTES);
	vmplat_mem_close(what.mem);
	close(memfd);
	free(buf);
	report(name, median(ours, ROUNDS), median(peer, ROUNDS), "GB/s", MORE);
	note("%s: memcpy() from the mapping %.3g GB/s", name, median(copy, ROUNDS));
}

int main(int argc, char **argv)
{
	static const struct bench benches[] = {
		{ "freeze-block-vs-fullwp", block },
		{ "freeze-block-instructions", block },
		{ "view-drain-vs-memfd", drain },
	};

	return bench_main(argc, argv, benches, sizeof(benches) / sizeof(benches[0]));
}
