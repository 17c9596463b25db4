// SPDX-License-Identifier: GPL-2.0-only
/*
 * No write is lost: readers keep shadow copies of a memory by nothing but its
 * dirty logs, while everybody writes to it.
 *
 * Each reader has its own log, its own way of asking, and its own shadow. Two
 * things are checked:
 *   - in full flight: a write that completed before a harvest began is in the
 *     shadow once the reported pages are copied (done_gen(), taken before);
 *   - with writers paused: after one more harvest the shadow is the memory.
 *
 *	shadow [-H] [-t SECONDS] [-p PAGES] [-d DISTURBERS] [-w WRITERS] [-m MODES]
 *
 * -H: a pinnable memory, found dirty by the page tables
 */
#include <getopt.h>
#include <poll.h>
#include <pthread.h>
#include <stdatomic.h>
#include <sys/mman.h>
#include <unistd.h>

#include "mem/util.h"
#include "mem/writers.h"

enum mode {
	CLEAR_BITMAP,	/* all of it, at once */
	BORROW_RANGES,	/* few ranges a call; sometimes the copy "fails": abort */
	PEEK_THEN_CLEAR,
	WINDOWS,	/* parts of the memory, in any order */
	POLL_BORROW,	/* woken by the threshold */
	NR_MODES,
};
static const char *const mode_names[] = {
	"clear by bitmap", "borrow ranges and abort", "peek, then clear", "windows",
	"poll and borrow",
};

static uint64_t nr_pages = 2051, seconds = 10;
static uint32_t kind;
static int mem_fd;
static char *map;
static atomic_bool stop;

struct reader {
	enum mode mode;
	int log;
	uint64_t seed;
	char *shadow;
	uint64_t *bits;
	uint32_t *before;	/* [slot][page]: done_gen() before the harvest */
	pthread_mutex_t lock;	/* a round, or the quiescent check */
	pthread_t thread;
	uint64_t rounds, reported, aborts, lost, again;
};

/* ---- asking ------------------------------------------------------------- */

static void mark(uint64_t *bits, uint64_t first, uint64_t nr)
{
	for (uint64_t p = first; p < first + nr; p++)
		bits[p / 64] |= 1ULL << (p % 64);
}

/* All ranges of [first, first + nr) into the bitmap, through a small buffer. */
static void fetch_ranges(struct reader *r, uint32_t flags, uint64_t first, uint64_t nr)
{
	struct vmplat_range few[7];
	uint64_t end = first + nr;

	while (first < end) {
		struct vmplat_log_fetch f = {
			.flags = flags | VMPLAT_LOG_FETCH_F_RANGES, .first = first,
			.nr_pages = end - first, .buf = (uintptr_t)few,
			.buf_bytes = sizeof(few),
		};
		uint64_t sum = 0;

		need(log_fetch(r->log, &f));
		for (uint64_t i = 0; i < f.out_nr_ranges; i++) {
			if (few[i].first < first || few[i].first + few[i].nr_pages > end ||
			    !few[i].nr_pages)
				bail("range outside of what was asked for");
			mark(r->bits, few[i].first, few[i].nr_pages);
			sum += few[i].nr_pages;
		}
		if (sum != f.out_nr_dirty || f.out_next <= first || f.out_next > end)
			bail("out_nr_dirty %llu for %llu pages, out_next %llu from %llu to %llu",
			     (unsigned long long)f.out_nr_dirty, (unsigned long long)sum,
			     (unsigned long long)f.out_next, (unsigned long long)first,
			     (unsigned long long)end);
		first = f.out_next;
	}
}

static void fetch_bitmap(struct reader *r, uint32_t flags, uint64_t first, uint64_t nr)
{
	struct vmplat_log_fetch f = {
		.flags = flags, .first = first, .nr_pages = nr,
		.buf = (uintptr_t)(r->bits + first / 64), .buf_bytes = (nr + 63) / 64 * 8,
	};
	uint64_t sum = 0;

	need(log_fetch(r->log, &f));
	for (uint64_t w = first / 64; w < (first + nr + 63) / 64; w++)
		sum += __builtin_popcountll(r->bits[w]);
	if (sum != f.out_nr_dirty)
		bail("out_nr_dirty %llu, bits %llu", (unsigned long long)f.out_nr_dirty,
		     (unsigned long long)sum);
}

/* ---- copying and checking ----------------------------------------------- */

static void remember(struct reader *r)
{
	for (int w = 0; w < NR_SLOTS; w++)
		for (uint64_t p = 0; p < nr_pages; p++)
			r->before[w * nr_pages + p] = done_gen(w, p);
}

static void copy(struct reader *r, uint64_t first, uint64_t nr)
{
	for (uint64_t p = first; p < first + nr; p++) {
		if (!bit(r->bits, p))
			continue;
		r->reported++;
		if (r->rounds & 1)
			need(read_all(mem_fd, r->shadow + p * PAGE, PAGE, p * PAGE));
		else
			memcpy(r->shadow + p * PAGE, map + p * PAGE, PAGE);
	}
}

static void complain(struct reader *r, int w, uint64_t p)
{
	if (r->lost++ < 10)
		diag("%s, round %llu: page %llu, writer %s: shadow has %u, %u was complete, "
		     "memory has %u", mode_names[r->mode], (unsigned long long)r->rounds,
		     (unsigned long long)p, writer_names[w], slot_gen(r->shadow + p * PAGE, w),
		     r->before[w * nr_pages + p], slot_gen(map + p * PAGE, w));
}

static void check(struct reader *r, uint64_t first, uint64_t nr)
{
	for (int w = 0; w < NR_SLOTS; w++)
		for (uint64_t p = first; p < first + nr; p++)
			if (!is_hole(p) && slot_gen(r->shadow + p * PAGE, w) <
					   r->before[w * nr_pages + p])
				complain(r, w, p);
}

/* ---- rounds ------------------------------------------------------------- */

static void round_clear(struct reader *r)
{
	fetch_bitmap(r, VMPLAT_LOG_FETCH_F_CLEAR, 0, nr_pages);
	copy(r, 0, nr_pages);
	check(r, 0, nr_pages);
}

static void round_borrow(struct reader *r, bool may_abort)
{
	fetch_ranges(r, 0, 0, nr_pages);
	if (rnd(&r->seed) % 4 == 0)	/* and once more: both are borrowed */
		fetch_ranges(r, 0, 0, nr_pages);
	if (may_abort && rnd(&r->seed) % 3 == 0) {
		need(log_end(r->log, VMPLAT_LOG_END_F_ABORT, NULL));
		r->aborts++;
		return;
	}
	copy(r, 0, nr_pages);
	need(log_end(r->log, 0, NULL));
	check(r, 0, nr_pages);
}

static void round_peek(struct reader *r)
{
	size_t words = (nr_pages + 63) / 64;
	uint64_t *peeked = malloc(words * 8);

	fetch_bitmap(r, VMPLAT_LOG_FETCH_F_PEEK, 0, nr_pages);
	memcpy(peeked, r->bits, words * 8);
	memset(r->bits, 0, words * 8);
	fetch_ranges(r, VMPLAT_LOG_FETCH_F_CLEAR, 0, nr_pages);
	for (size_t i = 0; i < words; i++)
		if (peeked[i] & ~r->bits[i] && r->lost++ < 10)
			diag("pages from %zu: peeked %llx, cleared %llx", i * 64,
			     (unsigned long long)peeked[i], (unsigned long long)r->bits[i]);
	copy(r, 0, nr_pages);
	check(r, 0, nr_pages);
	free(peeked);
}

static void round_windows(struct reader *r)
{
	for (int i = 0; i < 4; i++) {
		uint64_t first = rnd(&r->seed) % nr_pages & ~63ULL;
		uint64_t nr = 1 + rnd(&r->seed) % (nr_pages - first);

		memset(r->bits, 0, (nr_pages + 63) / 64 * 8);
		if (rnd(&r->seed) & 1) {
			fetch_bitmap(r, 0, first, nr);
			copy(r, first, nr);
			need(log_end(r->log, 0, NULL));
		} else {
			fetch_ranges(r, VMPLAT_LOG_FETCH_F_CLEAR, first, nr);
			copy(r, first, nr);
		}
		check(r, first, nr);
		remember(r);
	}
}

static void round_poll(struct reader *r)
{
	fetch_bitmap(r, 0, 0, nr_pages);
	copy(r, 0, nr_pages);
	need(log_end(r->log, 0, NULL));
	check(r, 0, nr_pages);
}

static void one_round(struct reader *r)
{
	memset(r->bits, 0, (nr_pages + 63) / 64 * 8);
	remember(r);
	switch (r->mode) {
	case CLEAR_BITMAP:
		round_clear(r);
		break;
	case BORROW_RANGES:
		round_borrow(r, true);
		break;
	case PEEK_THEN_CLEAR:
		round_peek(r);
		break;
	case WINDOWS:
		round_windows(r);
		break;
	default:
		round_poll(r);
	}
	r->rounds++;
}

static void *reader_thread(void *arg)
{
	struct reader *r = arg;

	while (!stop) {
		if (r->mode == POLL_BORROW) {
			struct pollfd pfd = { .fd = r->log, .events = POLLIN };

			need(poll(&pfd, 1, 200));
		}
		pthread_mutex_lock(&r->lock);
		one_round(r);
		pthread_mutex_unlock(&r->lock);
	}
	return NULL;
}

/* Nobody writes: after one harvest, shadow and memory must be the same. */
static void settle(struct reader *r)
{
	uint64_t bad = 0;

	pthread_mutex_lock(&r->lock);
	memset(r->bits, 0, (nr_pages + 63) / 64 * 8);
	remember(r);
	round_borrow(r, false);
	for (uint64_t p = 0; p < nr_pages; p++) {
		if (!memcmp(r->shadow + p * PAGE, map + p * PAGE, PAGE))
			continue;
		if (!bad++ && r->lost < 10)
			diag("%s: page %llu differs though nobody writes",
			     mode_names[r->mode], (unsigned long long)p);
	}
	r->lost += bad;
	memset(r->bits, 0, (nr_pages + 63) / 64 * 8);
	fetch_bitmap(r, VMPLAT_LOG_FETCH_F_PEEK, 0, nr_pages);
	for (uint64_t p = 0; p < nr_pages; p++)
		r->again += bit(r->bits, p);
	pthread_mutex_unlock(&r->lock);
}

/* ---- the test ----------------------------------------------------------- */

static void reader_init(struct reader *r, enum mode mode)
{
	r->mode = mode;
	r->seed = now_ns() | 1;
	/* Half of them start from "all dirty", half from the memory as it is: zero. */
	r->log = need(log_new(mem_fd, mode & 1 ? VMPLAT_LOG_F_ALL_DIRTY : 0,
			      mode == POLL_BORROW && !kind ? 50 : 0));
	r->shadow = calloc(nr_pages, PAGE);
	r->bits = calloc((nr_pages + 63) / 64, 8);
	r->before = calloc(NR_SLOTS * nr_pages, 4);
	pthread_mutex_init(&r->lock, NULL);
}

int main(int argc, char **argv)
{
	static struct reader readers[NR_MODES];
	uint32_t disturb = DISTURB_MIGRATE | DISTURB_COMPACT | DISTURB_DROP;
	uint32_t writers = -1, modes = -1;
	uint64_t end, pauses = 0;
	size_t bytes;
	int opt;

	while ((opt = getopt(argc, argv, "Ht:p:d:w:m:")) != -1) {
		switch (opt) {
		case 'H': kind = VMPLAT_MEM_F_PINNABLE; break;
		case 't': seconds = strtoull(optarg, NULL, 0); break;
		case 'p': nr_pages = strtoull(optarg, NULL, 0); break;
		case 'd': disturb = strtoul(optarg, NULL, 0); break;
		case 'w': writers = strtoul(optarg, NULL, 0); break;
		case 'm': modes = strtoul(optarg, NULL, 0); break;
		default: return 2;
		}
	}
	dev_open();
	bytes = nr_pages * PAGE;
	mem_fd = need(mem_new_kind(bytes, kind));
	map = map_mem(mem_fd, bytes);
	disturb_start(disturb, (void *[]) { map }, &bytes, 1);
	for (int m = 0; m < NR_MODES; m++)
		if (modes & 1u << m)
			reader_init(&readers[m], m);
	writers_start(mem_fd, map, nr_pages, writers);
	for (int m = 0; m < NR_MODES; m++)
		if (modes & 1u << m && pthread_create(&readers[m].thread, NULL, reader_thread,
						      &readers[m]))
			bail("pthread_create");
	for (end = now_ns() + seconds * 1000000000; now_ns() < end; pauses++) {
		usleep(400000);		/* the length of a run between two checks */
		writers_pause();
		for (int m = 0; m < NR_MODES; m++)
			if (modes & 1u << m)
				settle(&readers[m]);
		writers_resume();
	}
	stop = true;
	disturb_stop();
	for (int m = 0; m < NR_MODES; m++)
		if (modes & 1u << m)
			pthread_join(readers[m].thread, NULL);
	writers_stop();
	for (int w = 0; w < NR_WRITERS; w++)
		if (writer_active(w))
			ok(writer_ops(w) > 0, "writer %s wrote", writer_names[w]);
	for (int m = 0; m < NR_MODES; m++) {
		struct reader *r = &readers[m];

		if (!(modes & 1u << m))
			continue;
		settle(r);
		diag("%s: %llu rounds, %llu pages reported, %llu aborts, %llu marked again while "
		     "nobody wrote", mode_names[m], (unsigned long long)r->rounds,
		     (unsigned long long)r->reported, (unsigned long long)r->aborts,
		     (unsigned long long)r->again);
		ok(!r->lost, "%s: no page lost", mode_names[m]);
		close(r->log);
	}
	for (int w = 0; w < NR_WRITERS; w++)
		if (writer_active(w))
			diag("%s: %llu writes", writer_names[w], (unsigned long long)writer_ops(w));
	ok(pauses > 0, "%llu times memory and shadows were compared", (unsigned long long)pauses);
	return done();
}
