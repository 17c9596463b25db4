// SPDX-License-Identifier: GPL-2.0-only
/*
 * How late a periodic timer is, against cyclictest with the same period and class; and what it costs
 * to read the time from the counter, against clock_gettime(). Rounds take turns, the best counts.
 */
#define _GNU_SOURCE
#include <sched.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include <vmplat_clock.h>

#include "bench.h"

#define ROUNDS		5
#define PERIOD_US	1000
#define EXPIRATIONS	1000
#define PRIORITY	80
#define READS		1000
#define READ_ROUNDS	1000

/* ---- timers ------------------------------------------------------------------- */

static double ours(void)
{
	struct vmplat_timer_stats stats;
	struct vmplat_timer *timer;

	must(vmplat_timer_new(&timer, CLOCK_MONOTONIC));
	must(vmplat_timer_every(timer, PERIOD_US * 1000));
	for (int i = 0; i < EXPIRATIONS; i++)
		must(vmplat_timer_wait(timer, UINT64_MAX));
	vmplat_timer_query(timer, &stats);
	vmplat_timer_close(timer);
	note("ours: mean %.1f us late, 99 %% within %.0f us, at most %.0f us, jitter %.1f us, drift %.2f ppm, %llu missed",
	     stats.late_mean_ns / 1000, (double)vmplat_timer_late_ns(&stats, 0.99) / 1000,
	     (double)stats.late_max_ns / 1000, stats.jitter_ns / 1000, stats.drift_ppm,
	     (unsigned long long)stats.missed);
	return stats.late_mean_ns / 1000;
}

static double cyclictest(bool fifo)
{
	unsigned int mean, max;
	char line[512];
	FILE *f;

	snprintf(line, sizeof(line), "cyclictest -q -t1 -i%d -l%d --default-system %s", PERIOD_US,
		 EXPIRATIONS, fifo ? "-p80" : "--policy=other");
	f = popen(line, "r");
	while (f && fgets(line, sizeof(line), f)) {
		char *at = strstr(line, "Avg:");

		if (!at || sscanf(at, "Avg: %u Max: %u", &mean, &max) != 2)
			continue;
		pclose(f);
		note("cyclictest: mean %u us late, at most %u us", mean, max);
		return mean;
	}
	die("cyclictest says nothing; it is in rt-tests");
}

static void jitter(const char *name)
{
	struct sched_param p = { .sched_priority = PRIORITY };
	bool fifo = !sched_setscheduler(0, SCHED_FIFO | SCHED_RESET_ON_FORK, &p);
	double o[ROUNDS], c[ROUNDS];

	note("%s", fifo ? "both with SCHED_FIFO" : "both with SCHED_OTHER, as nobody may do more here");
	for (int i = 0; i < ROUNDS; i++) {
		o[i] = ours();
		c[i] = cyclictest(fifo);
	}
	p.sched_priority = 0;
	sched_setscheduler(0, SCHED_OTHER, &p);
	report(name, least(o, ROUNDS), least(c, ROUNDS), "us", LESS);
}

/* ---- the counter ------------------------------------------------------------------ */

static void reading(const char *name)
{
	double o[READ_ROUNDS], p[READ_ROUNDS];
	struct vmplat_tsc *tsc;
	uint64_t sum = 0, begin;

	if (vmplat_tsc_open(&tsc, 100000000)) {
		note("%s: left out: the counter is not to be trusted here", name);
		return;
	}
	for (int round = 0; round < READ_ROUNDS; round++) {
		begin = now_ns();
		for (int i = 0; i < READS; i++)
			sum += vmplat_tsc_ns(tsc);
		o[round] = (double)(now_ns() - begin) / READS;
		begin = now_ns();
		for (int i = 0; i < READS; i++)
			sum += vmplat_now_ns();
		p[round] = (double)(now_ns() - begin) / READS;
	}
	note("after that, the counter was %lld ns ahead (%llx)", (long long)vmplat_tsc_sync(tsc),
	     (unsigned long long)sum & 0xf);
	vmplat_tsc_close(tsc);
	report(name, least(o, READ_ROUNDS), least(p, READ_ROUNDS), "ns", LESS);
}

int main(int argc, char **argv)
{
	static const struct bench benches[] = {
		{ "timer-late-vs-cyclictest", jitter },
		{ "tsc-read-vs-clock-gettime", reading },
	};

	return bench_main(argc, argv, benches, 2);
}
