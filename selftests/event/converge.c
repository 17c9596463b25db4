// SPDX-License-Identifier: GPL-2.0-only
/*
 * Readers that stall, die and resume, while writers make events as fast as they can.
 *
 *	converge [-n EVENTS] [-s SEED]
 *
 * Each reader is a process that keeps its table and its position in shared memory,
 * two copies of them, of which one is whole at any time; so what it had is there
 * for its successor when it is killed. Between two resets it must see every number
 * of the sequence: a hole that it was not told of is a failure. In the end its table
 * must be, byte for byte, that of a fresh dump.
 */
#include <poll.h>
#include <signal.h>
#include <stdatomic.h>
#include <sys/mman.h>
#include <sys/prctl.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

#include "event/table.h"
#include "mem/util.h"

#define NR_WRITERS	2
#define NR_READERS	3
#define NR_VMS		12		/* of each writer */

struct saved {
	struct vmplat_event_position pos;
	struct table table;
};

struct reader {
	struct saved saved[2];
	_Atomic int whole;		/* which of the two */
	_Atomic uint64_t holes;		/* numbers missed without a word */
	_Atomic uint64_t resets;
	_Atomic uint64_t replays;
	_Atomic uint64_t events;
	_Atomic uint64_t deaths;
	_Atomic uint64_t stalls;
	_Atomic int full;		/* the table had no room: the test's own fault */
};

static struct shared {
	_Atomic uint64_t made;		/* about: what writers did */
	_Atomic uint64_t last;		/* when the writers were done */
	uint64_t ring_events;		/* more than the ring holds */
	_Atomic int stop;		/* they are: read up to @last */
	struct reader readers[NR_READERS];
} *sh;

static uint64_t seed = 1;

static uint32_t chance(uint64_t *state)
{
	*state = *state * 6364136223846793005ULL + 1442695040888963407ULL;
	return *state >> 33;
}

/* ---- writers ---------------------------------------------------------------- */

static int64_t write_events(struct vmplat *dev, uint64_t nr, uint64_t rnd)
{
	struct vmplat_report *vms[NR_VMS] = { NULL };
	char name[32];
	uint64_t made = 0;

	while (made < nr) {
		unsigned int i = chance(&rnd) % NR_VMS;
		uint32_t state = 1 + chance(&rnd) % VMPLAT_VM_STATE_MAX;
		int rc;

		if (!vms[i]) {
			snprintf(name, sizeof(name), "vm%u-%llu", i, (unsigned long long)made);
			rc = vmplat_report_new(&vms[i], dev, name, state, NULL, 0);
		} else if (chance(&rnd) % 50) {
			rc = vmplat_report_state(vms[i], state);
		} else {
			vmplat_report_close(vms[i]);
			vms[i] = NULL;
			rc = 0;
		}
		if (rc) {
			fprintf(stderr, "# writer: %s\n", vmplat_last_error());
			return rc;
		}
		made++;
		atomic_fetch_add(&sh->made, 1);
	}
	/* Those that are still there vanish with the process. */
	return 0;
}

/* ---- readers ------------------------------------------------------------------ */

struct reading {
	struct reader *r;
	struct saved now;
	uint64_t expect;		/* next number; 0 if any will do */
	uint64_t rnd;
	uint64_t left;			/* events to the next checkpoint */
};

/* The other copy, then the switch: whoever comes after a kill finds one whole. */
static void checkpoint(struct reading *rd)
{
	int other = !atomic_load(&rd->r->whole);

	rd->r->saved[other] = rd->now;
	atomic_store(&rd->r->whole, other);
}

static int on_event(const struct vmplat_event *e, void *data)
{
	struct reading *rd = data;

	switch (e->kind) {
	case VMPLAT_EVENT_RESET:
		table_clear(&rd->now.table);
		atomic_fetch_add(&rd->r->resets, 1);
		rd->expect = 0;
		break;
	case VMPLAT_EVENT_PRESENT:
		if (!table_apply(&rd->now.table, e))
			atomic_store(&rd->r->full, 1);
		rd->expect = e->seq + 1;
		break;
	case VMPLAT_EVENT_CHANGED:
		if (rd->expect && e->seq != rd->expect)
			atomic_fetch_add(&rd->r->holes, 1);
		rd->expect = e->seq + 1;
		atomic_fetch_add(&rd->r->events, 1);
		if (!table_apply(&rd->now.table, e))
			atomic_store(&rd->r->full, 1);
		return rd->left && !--rd->left;
	default:
		break;
	}
	return 0;
}

/* Until enough has happened to overrun the receive buffer, or the ring as well. */
static void stall(struct reading *rd)
{
	uint32_t nr = chance(&rd->rnd);
	bool rare = !atomic_load(&rd->r->stalls) || nr % 3 == 0;
	uint64_t until = atomic_load(&sh->made) +
			 (rare ? sh->ring_events : 300 + nr % 2000);
	struct timespec ms = { .tv_nsec = 1000000 };

	atomic_fetch_add(&rd->r->stalls, 1);
	while (atomic_load(&sh->made) < until && !atomic_load(&sh->stop))
		nanosleep(&ms, NULL);
}

static int read_events(struct vmplat *dev, struct reader *r, uint64_t rnd)
{
	struct reading *rd = calloc(1, sizeof(*rd));
	struct vmplat_events *ev;
	uint64_t replays = 0;
	int rc;

	rd->r = r;
	rd->rnd = rnd;
	rd->now = r->saved[atomic_load(&r->whole)];
	rd->expect = rd->now.pos.epoch ? rd->now.pos.seq + 1 : 0;
	rc = vmplat_events_open(&ev, dev, NULL, rd->now.pos.epoch ? &rd->now.pos : NULL, 0);
	if (rc) {
		fprintf(stderr, "# reader: %s\n", vmplat_last_error());
		return 1;
	}
	for (;;) {
		struct pollfd p = { .fd = vmplat_events_fd(ev), .events = POLLIN };
		bool end = atomic_load(&sh->stop);

		rd->left = 1 + chance(&rd->rnd) % 500;
		rc = vmplat_events_read(ev, on_event, rd);
		if (rc < 0) {
			fprintf(stderr, "# reader: %s\n", vmplat_last_error());
			return 1;
		}
		atomic_fetch_add(&r->replays, vmplat_events_replays(ev) - replays);
		replays = vmplat_events_replays(ev);
		rd->now.pos = vmplat_events_position(ev);
		checkpoint(rd);
		if (!rd->left)
			continue;	/* ended by the callback: there may be more */
		if (end && rd->now.pos.seq >= atomic_load(&sh->last))
			return 0;
		if (!end && !(chance(&rd->rnd) % 20))
			stall(rd);
		poll(&p, 1, 20);
	}
}

/* ---- the test --------------------------------------------------------------------- */

static pid_t start(int (*fn)(struct vmplat *, int, uint64_t), int nr, uint64_t arg)
{
	pid_t pid = need(fork());
	struct vmplat *dev;

	if (pid)
		return pid;
	prctl(PR_SET_PDEATHSIG, SIGKILL);
	if (vmplat_open(&dev, NULL))
		_exit(3);
	_exit(fn(dev, nr, arg));
}

static int writer_main(struct vmplat *dev, int nr, uint64_t events)
{
	return write_events(dev, events, seed * 100 + nr) ? 1 : 0;
}

static int reader_main(struct vmplat *dev, int nr, uint64_t life)
{
	return read_events(dev, &sh->readers[nr], seed * 1000 + nr * 77 + life);
}

static bool reap(pid_t *pid, int *status)
{
	if (*pid && waitpid(*pid, status, WNOHANG) == *pid) {
		*pid = 0;
		return true;
	}
	return false;
}

/* Kill a reader after some progress, again and again, until the writers are done. */
static int disturb(pid_t *writers, pid_t *readers)
{
	struct timespec ms = { .tv_nsec = 2000000 };
	uint64_t next = 500, rnd = seed;
	int status, left = NR_WRITERS, bad = 0, life = 1;

	while (left) {
		for (int i = 0; i < NR_WRITERS; i++) {
			if (!reap(&writers[i], &status))
				continue;
			left--;
			bad |= status;
		}
		if (atomic_load(&sh->made) >= next) {
			int i = chance(&rnd) % NR_READERS;

			next = atomic_load(&sh->made) + 500 + chance(&rnd) % 4000;
			kill(readers[i], SIGKILL);
			waitpid(readers[i], &status, 0);
			if (WIFEXITED(status))
				bad = 1;	/* it had ended by itself */
			atomic_fetch_add(&sh->readers[i].deaths, 1);
			readers[i] = start(reader_main, i, life++);
		}
		nanosleep(&ms, NULL);
	}
	return bad;
}

static uint64_t newest(struct vmplat *dev)
{
	struct vmplat_events *ev;
	uint64_t seq;

	if (vmplat_events_open(&ev, dev, NULL, NULL, VMPLAT_EVENTS_F_NEW))
		bail("%s", vmplat_last_error());
	seq = vmplat_events_position(ev).seq;
	vmplat_events_close(ev);
	return seq;
}

/* No record is smaller than this. */
static uint64_t events_in_ring(void)
{
	FILE *f = fopen("/sys/module/vmplat/parameters/event_ring_bytes", "re");
	unsigned long bytes;

	if (!f || fscanf(f, "%lu", &bytes) != 1)
		bail("event_ring_bytes");
	fclose(f);
	return bytes / 128;
}

int main(int argc, char **argv)
{
	pid_t writers[NR_WRITERS], readers[NR_READERS];
	static struct table fresh;
	uint64_t nr = 20000, replays = 0, resets = 0;
	struct vmplat *dev;
	struct timespec t0, t1;
	int opt, bad = 0;

	while ((opt = getopt(argc, argv, "n:s:")) != -1) {
		if (opt == 'n')
			nr = strtoull(optarg, NULL, 0);
		else if (opt == 's')
			seed = strtoull(optarg, NULL, 0);
		else
			return 2;
	}
	dev_open();
	if (vmplat_open(&dev, NULL))
		bail("%s", vmplat_last_error());
	sh = mmap(NULL, sizeof(*sh), PROT_READ | PROT_WRITE, MAP_SHARED | MAP_ANONYMOUS, -1, 0);
	if (sh == MAP_FAILED)
		bail("mmap");
	sh->ring_events = events_in_ring();
	clock_gettime(CLOCK_MONOTONIC, &t0);
	for (int i = 0; i < NR_READERS; i++)
		readers[i] = start(reader_main, i, 0);
	for (int i = 0; i < NR_WRITERS; i++)
		writers[i] = start(writer_main, i, nr / NR_WRITERS);
	ok(!disturb(writers, readers), "writers end well, readers only when killed");
	clock_gettime(CLOCK_MONOTONIC, &t1);
	atomic_store(&sh->last, newest(dev));
	atomic_store(&sh->stop, 1);
	for (int i = 0; i < NR_READERS; i++) {
		int status;

		waitpid(readers[i], &status, 0);
		bad |= status;
	}
	ok(!bad, "every reader gets to the end");
	is_int(table_dump(&fresh, dev, NULL), 0, "a fresh dump");
	for (int i = 0; i < NR_READERS; i++) {
		struct reader *r = &sh->readers[i];

		diag("reader %d: %llu events, %llu deaths, %llu stalls, %llu replays, %llu resets", i,
		     (unsigned long long)r->events, (unsigned long long)r->deaths,
		     (unsigned long long)r->stalls, (unsigned long long)r->replays,
		     (unsigned long long)r->resets);
		is_int(r->full, 0, "its table is large enough");
		is_int(r->holes, 0, "reader %d misses nothing without being told", i);
		is_int(table_diff(&r->saved[r->whole].table, &fresh), 0,
		       "reader %d knows what a fresh dump says", i);
		replays += r->replays;
		resets += r->resets;
	}
	ok(replays > 3 * NR_READERS, "events were lost and fetched again (%llu times)",
	   (unsigned long long)replays);
	diag("%llu events in %.1f s, seed %llu", (unsigned long long)sh->made,
	     t1.tv_sec - t0.tv_sec + (t1.tv_nsec - t0.tv_nsec) / 1e9, (unsigned long long)seed);
	if (nr >= 2 * sh->ring_events)
		ok(resets, "and some were lost for good (%llu resets)",
		   (unsigned long long)resets);
	else
		skip("%llu events do not overrun the ring", (unsigned long long)nr);
	diag("%u objects", fresh.nr);
	return done();
}
