// SPDX-License-Identifier: GPL-2.0-only
/*
 * What the clock is worth on this machine, and how well a timer of 1 ms keeps.
 *
 *	cc clock.c $(pkg-config --cflags --libs vmplat) -o clock && ./clock
 */
#include <stdio.h>

#include <vmplat_clock.h>
#include <vmplat_error.h>

#define PERIOD_NS	1000000u
#define EXPIRATIONS	200

static int die(void)
{
	fprintf(stderr, "clock: %s\n", vmplat_last_error());
	return 1;
}

int main(void)
{
	struct vmplat_timer_stats stats;
	struct vmplat_clock_facts clock;
	struct vmplat_timer *timer;
	struct vmplat_tsc *tsc;

	if (vmplat_clock_query(CLOCK_MONOTONIC, &clock))
		return die();
	printf("CLOCK_MONOTONIC by %s: steps of %llu ns, %.0f ns a reading\n",
	       *clock.source ? clock.source : "an unknown source",
	       (unsigned long long)clock.step_ns, clock.read_ns);
	if (vmplat_tsc_open(&tsc, 0)) {
		printf("%s\n", vmplat_last_error());
	} else {
		printf("counter: %.1f MHz, %lld ns ahead of the clock\n", vmplat_tsc_hz(tsc) / 1e6,
		       (long long)vmplat_tsc_sync(tsc));
		vmplat_tsc_close(tsc);
	}

	if (vmplat_timer_new(&timer, CLOCK_MONOTONIC) || vmplat_timer_every(timer, PERIOD_NS))
		return die();
	for (int i = 0; i < EXPIRATIONS; i++)
		if (vmplat_timer_wait(timer, UINT64_MAX) < 0)
			return die();
	vmplat_timer_query(timer, &stats);
	printf("timer: %llu taken, %llu missed; %.1f us late on average, 99 %% within %.0f us; "
	       "jitter %.1f us, drift %.1f ppm\n",
	       (unsigned long long)stats.taken, (unsigned long long)stats.missed,
	       stats.late_mean_ns / 1e3, (double)vmplat_timer_late_ns(&stats, 0.99) / 1e3,
	       stats.jitter_ns / 1e3, stats.drift_ppm);
	vmplat_timer_close(timer);
	return 0;
}
