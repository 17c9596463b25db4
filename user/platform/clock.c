// SPDX-License-Identifier: LGPL-2.1-or-later
/*
 * Clocks. The counter's path: ns = base + ((counter - start) * mult >> SHIFT), with what sync
 * changes behind a sequence count, so that readers take no lock.
 */
#include <stdatomic.h>
#include <stdio.h>
#include <stdlib.h>

#include <vmplat_clock.h>

#include "lib/lib.h"

#if defined(__x86_64__)
#include <cpuid.h>
#include <x86intrin.h>
#endif

#define SOURCE_PATH	"/sys/devices/system/clocksource/clocksource0/current_clocksource"
#define MEASURE_NS	500000
#define CALIBRATE_NS	10000000
#define CALIBRATE_MAX	10000000000u
#define RATE_NS		10000000000u
#define SHIFT		32

API uint64_t vmplat_clock_now(clockid_t clock)
{
	struct timespec ts;

	if (clock_gettime(clock, &ts))
		return 0;
	return (uint64_t)ts.tv_sec * 1000000000u + (uint64_t)ts.tv_nsec;
}

API void vmplat_sleep_ns(uint64_t ns)
{
	uint64_t until;
	struct timespec ts;

	/* until the end of time, rather than not at all */
	if (__builtin_add_overflow(vmplat_now_ns(), ns, &until) || until > INT64_MAX)
		until = INT64_MAX;
	ts = (struct timespec){ (time_t)(until / 1000000000u), (long)(until % 1000000000u) };
	while (clock_nanosleep(CLOCK_MONOTONIC, TIMER_ABSTIME, &ts, NULL) == EINTR)
		;
}

/* ---- what it is worth ---------------------------------------------------------- */

static void read_source(char *text, size_t bytes)
{
	FILE *f = fopen(SOURCE_PATH, "re");

	if (!f || !fgets(text, (int)bytes, f))
		*text = 0;
	text[strcspn(text, "\n")] = 0;
	if (f)
		fclose(f);
}

API int vmplat_clock_query(clockid_t clock, struct vmplat_clock_facts *facts)
{
	uint64_t begin, now, last, reads = 0;
	struct timespec res;

	memset(facts, 0, sizeof(*facts));
	if (clock_getres(clock, &res))
		return lib_error(-errno, "clock %d: %s", (int)clock, strerror(errno));
	facts->resolution_ns = (uint64_t)res.tv_sec * 1000000000u + (uint64_t)res.tv_nsec;
	facts->step_ns = UINT64_MAX;
	read_source(facts->source, sizeof(facts->source));
	begin = vmplat_now_ns();
	last = vmplat_clock_now(clock);
	/* a coarse clock may stand still for longer than this is to take */
	do {
		now = vmplat_clock_now(clock);
		reads++;
		if (now > last && now - last < facts->step_ns)
			facts->step_ns = now - last;
		last = now;
	} while (reads % 16 || vmplat_now_ns() - begin < MEASURE_NS);
	facts->read_ns = (double)(vmplat_now_ns() - begin) / (double)(reads + reads / 16);
	if (facts->step_ns == UINT64_MAX)
		facts->step_ns = facts->resolution_ns;
	return 0;
}

/* ---- the counter ------------------------------------------------------------------ */

struct point {
	uint64_t ticks, ns;
};

struct vmplat_tsc {
	atomic_uint seq;		/* odd while the rest changes */
	_Atomic uint64_t start, base, mult;
	struct point first;		/* the rate is from here to the latest sync */
};

#if defined(__x86_64__)

static inline uint64_t ticks(void)
{
	unsigned int aux;

	return __rdtscp(&aux);		/* not before what stands before it */
}

/* NULL, or why not */
static const char *obstacle(void)
{
	unsigned int a, b, c, d;
	char source[32];

	if (!__get_cpuid(0x80000001, &a, &b, &c, &d) || !(d & 1u << 27))
		return "the processor has no RDTSCP";
	if (!__get_cpuid(0x80000007, &a, &b, &c, &d) || !(d & 1u << 8))
		return "the processor does not say that its counter is invariant";
	read_source(source, sizeof(source));
	if (*source && strcmp(source, "tsc") && strcmp(source, "kvm-clock") &&
	    strcmp(source, "hyperv_clocksource_tsc_page"))
		return "the kernel counts with something else, for which it has its reasons (" SOURCE_PATH ")";
	return NULL;
}

#else

static inline uint64_t ticks(void)
{
	return 0;
}

static const char *obstacle(void)
{
	return "there is a path for x86-64 only";
}

#endif

/* Both at one moment: of several tries the one that took the least time. */
static struct point look(void)
{
	struct point best = { };
	uint64_t least = UINT64_MAX;

	for (int i = 0; i < 16; i++) {
		uint64_t before = ticks(), ns = vmplat_now_ns(), took = ticks() - before;

		if (took < least) {
			least = took;
			best = (struct point){ before + took / 2, ns };
		}
	}
	return best;
}

/* @mult: ns a tick, times 2^SHIFT */
static void set(struct vmplat_tsc *t, struct point from, uint64_t mult)
{
	atomic_fetch_add(&t->seq, 1);
	atomic_store(&t->start, from.ticks);
	atomic_store(&t->base, from.ns);
	atomic_store(&t->mult, mult);
	atomic_fetch_add(&t->seq, 1);
}

static uint64_t rate(struct point a, struct point b)
{
	return (uint64_t)(((unsigned __int128)(b.ns - a.ns) << SHIFT) / (b.ticks - a.ticks));
}

API int vmplat_tsc_open(struct vmplat_tsc **out, uint64_t calibrate_ns)
{
	const char *why = obstacle();
	struct vmplat_tsc *t;
	struct point now;

	*out = NULL;
	if (why)
		return lib_error(-EOPNOTSUPP, "no time from the counter: %s", why);
	if (!calibrate_ns)
		calibrate_ns = CALIBRATE_NS;
	if (calibrate_ns > CALIBRATE_MAX)
		return lib_error(-EINVAL, "%llu ns are too long to calibrate; at most 10 s",
				 (unsigned long long)calibrate_ns);
	t = calloc(1, sizeof(*t));
	if (!t)
		return lib_error(-ENOMEM, "out of memory");
	t->first = look();
	do {
		vmplat_sleep_ns(calibrate_ns);
		now = look();
	} while (now.ticks <= t->first.ticks);
	set(t, now, rate(t->first, now));
	*out = t;
	return 0;
}

API void vmplat_tsc_close(struct vmplat_tsc *t)
{
	free(t);
}

API uint64_t vmplat_tsc_ns(const struct vmplat_tsc *tsc)
{
	struct vmplat_tsc *t = (struct vmplat_tsc *)tsc;
	uint64_t start, base, mult, now;
	unsigned int seq;

	do {
		seq = atomic_load_explicit(&t->seq, memory_order_acquire);
		start = atomic_load_explicit(&t->start, memory_order_relaxed);
		base = atomic_load_explicit(&t->base, memory_order_relaxed);
		mult = atomic_load_explicit(&t->mult, memory_order_relaxed);
		now = ticks();
		atomic_thread_fence(memory_order_acquire);
	} while (seq & 1 || seq != atomic_load_explicit(&t->seq, memory_order_relaxed));
	/* another processor's counter may be a few ticks behind the one of the calibration */
	if (now < start)
		return base;
	return base + (uint64_t)((unsigned __int128)(now - start) * mult >> SHIFT);
}

API double vmplat_tsc_hz(const struct vmplat_tsc *t)
{
	return 1e9 * (double)(UINT64_C(1) << SHIFT) / (double)atomic_load(&((struct vmplat_tsc *)t)->mult);
}

API int64_t vmplat_tsc_sync(struct vmplat_tsc *t)
{
	struct point now = look();
	uint64_t start = atomic_load(&t->start), here = atomic_load(&t->base);

	if (now.ticks > start)
		here += (uint64_t)((unsigned __int128)(now.ticks - start) * atomic_load(&t->mult) >> SHIFT);
	if (now.ticks > t->first.ticks)
		set(t, now, rate(t->first, now));
	/* CLOCK_MONOTONIC is steered: what it did long ago is not what it does */
	if (now.ns - t->first.ns > RATE_NS)
		t->first = now;
	return (int64_t)(here - now.ns);
}
