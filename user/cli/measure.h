/* SPDX-License-Identifier: GPL-2.0-only */
/* What a host is worth to a VMM, measured; measure.c. */
#ifndef VMPLAT_CLI_MEASURE_H
#define VMPLAT_CLI_MEASURE_H

#include <stdint.h>
#include <vmplat_clock.h>

#define NR_MEASURED_CLOCKS	5
#define MEASURE_WHY		300

struct json_object;

/*
 * struct measured - times in ns; each sentence is why its part could not be measured, or ""
 *
 * tsc_off_ns is by how much the counter was ahead of CLOCK_MONOTONIC tsc_after_ns after
 * they agreed.
 */
struct measured {
	struct vmplat_clock_facts clocks[NR_MEASURED_CLOCKS];
	char tsc_why[MEASURE_WHY];
	double tsc_hz, tsc_read_ns;
	int64_t tsc_off_ns;
	uint64_t tsc_after_ns;
	char timer_why[MEASURE_WHY];
	struct vmplat_timer_stats timer;
	char code_why[MEASURE_WHY];
	char mmio_why[MEASURE_WHY];
	double mmio_read_ns;
};

/* takes about a quarter of a second */
void measure(struct measured *m);
struct json_object *measured_json(const struct measured *m);
void measured_print(const struct measured *m);

#endif
