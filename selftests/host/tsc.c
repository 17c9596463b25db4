// SPDX-License-Identifier: GPL-2.0-only
/*
 * Prints the frequency of this machine's TSC in kHz, or nothing where there is none.
 *
 * Two pairs of TSC and clock a fifth of a second apart; of many pairs at each end the
 * one that took least time counts, so a busy machine makes no difference.
 */
#include <stdint.h>
#include <stdio.h>
#include <time.h>
#include <unistd.h>

#if defined(__x86_64__)
#include <x86intrin.h>

struct pair {
	uint64_t tsc, ns;
};

static uint64_t clock_ns(void)
{
	struct timespec t;

	clock_gettime(CLOCK_MONOTONIC_RAW, &t);
	return (uint64_t)t.tv_sec * 1000000000u + (uint64_t)t.tv_nsec;
}

static struct pair take_pair(void)
{
	struct pair best = { 0 };
	uint64_t shortest = UINT64_MAX;

	for (int i = 0; i < 1000; i++) {
		uint64_t before = __rdtsc(), ns = clock_ns(), took = __rdtsc() - before;

		if (took >= shortest)
			continue;
		shortest = took;
		best = (struct pair) { .tsc = before + took / 2, .ns = ns };
	}
	return best;
}

int main(void)
{
	struct pair a = take_pair(), b;

	usleep(200000);
	b = take_pair();
	printf("%.0f\n", (double)(b.tsc - a.tsc) * 1e6 / (double)(b.ns - a.ns));
	return 0;
}
#else
int main(void)
{
	return 0;
}
#endif
