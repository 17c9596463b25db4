/* SPDX-License-Identifier: LGPL-2.1-or-later */
/*
 * libvmplat: time in nanoseconds, what a clock is worth here, and timers that say how well they keep.
 *
 * Times are unsigned 64-bit nanoseconds: of a clock of clock_gettime(2) since whatever it counts
 * from, which is enough for 584 years.
 */
#ifndef VMPLAT_CLOCK_H
#define VMPLAT_CLOCK_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <time.h>

#ifdef __cplusplus
extern "C" {
#endif

/* ---- what time it is ------------------------------------------------------- */

/** vmplat_clock_now - a clock of clock_gettime(); 0 if there is no such clock */
uint64_t vmplat_clock_now(clockid_t clock);

/** vmplat_now_ns - CLOCK_MONOTONIC: for durations, deadlines, timers */
static inline uint64_t vmplat_now_ns(void)
{
	return vmplat_clock_now(CLOCK_MONOTONIC);
}

/**
 * vmplat_sleep_ns - sleep so long, whatever signals come meanwhile
 *
 * By CLOCK_MONOTONIC. For threads that have nothing to poll; a timer below tells how well it keeps.
 */
void vmplat_sleep_ns(uint64_t ns);

/**
 * struct vmplat_clock_facts - what a clock is worth on this machine
 * @resolution_ns: as the kernel claims
 * @step_ns: the smallest step that was seen between two readings
 * @read_ns: what a reading costs
 * @source: what the kernel counts with: "tsc", "kvm-clock", "hpet"; "" if it does not say
 */
struct vmplat_clock_facts {
	uint64_t resolution_ns;
	uint64_t step_ns;
	double read_ns;
	char source[32];
};

/** vmplat_clock_query - measures for about a millisecond; -EINVAL: there is no such clock */
int vmplat_clock_query(clockid_t clock, struct vmplat_clock_facts *facts);

/* ---- the processor's counter -------------------------------------------------- */

struct vmplat_tsc;

/**
 * vmplat_tsc_open - read time from the time stamp counter, without the kernel
 * @tsc: the new handle
 * @calibrate_ns: how long to compare it with CLOCK_MONOTONIC; 0: 10 ms
 *
 * Costs somewhat less than CLOCK_MONOTONIC and agrees with it up to the error of the calibration,
 * which grows: vmplat_tsc_sync() now and then. Any thread may read, one at a time may sync.
 *
 * -EOPNOTSUPP: there is no counter, or it does not run at one rate on all processors at all times, or
 * the kernel has found reason not to trust it; the sentence says which. -EINVAL: more than 10 s.
 */
int vmplat_tsc_open(struct vmplat_tsc **tsc, uint64_t calibrate_ns);
void vmplat_tsc_close(struct vmplat_tsc *tsc);
/** vmplat_tsc_ns - CLOCK_MONOTONIC by the counter; never goes back within a calibration */
uint64_t vmplat_tsc_ns(const struct vmplat_tsc *tsc);
/** vmplat_tsc_hz - its rate as calibrated */
double vmplat_tsc_hz(const struct vmplat_tsc *tsc);
/**
 * vmplat_tsc_sync - compare again with CLOCK_MONOTONIC, and follow it from now on
 *
 * Returns by how many ns the counter was ahead (behind, if negative). Time may jump by as much.
 */
int64_t vmplat_tsc_sync(struct vmplat_tsc *tsc);

/* ---- timers --------------------------------------------------------------------- */

struct vmplat_timer;

/**
 * vmplat_timer_new - a timer, not running
 * @clock: CLOCK_MONOTONIC, CLOCK_BOOTTIME (goes on while the machine sleeps) or CLOCK_REALTIME
 *
 * A timer is used by one thread at a time. -EINVAL: no such clock; -EMFILE; -ENOMEM.
 */
int vmplat_timer_new(struct vmplat_timer **timer, clockid_t clock);
void vmplat_timer_close(struct vmplat_timer *timer);
/** vmplat_timer_fd - for poll(): readable once it has expired */
int vmplat_timer_fd(const struct vmplat_timer *timer);
/**
 * vmplat_timer_at - expire once, at @time_ns of its clock; a time that is past is now
 *
 * This and the following two set the statistics to zero. -EINVAL: 2^63 and more.
 */
int vmplat_timer_at(struct vmplat_timer *timer, uint64_t time_ns);
/** vmplat_timer_after - expire once, in @delay_ns */
int vmplat_timer_after(struct vmplat_timer *timer, uint64_t delay_ns);
/** vmplat_timer_every - expire each @period_ns, which is not 0; the first time in @period_ns */
int vmplat_timer_every(struct vmplat_timer *timer, uint64_t period_ns);
/** vmplat_timer_stop - expire no more; statistics stay */
void vmplat_timer_stop(struct vmplat_timer *timer);
/**
 * vmplat_timer_read - how often it has expired since it was asked last, without waiting
 *
 * Of several expirations all but the latest count as missed.
 */
int64_t vmplat_timer_read(struct vmplat_timer *timer);
/**
 * vmplat_timer_wait - the same, waiting for the next
 * @timeout_ns: at most so long; UINT64_MAX: for ever
 *
 * 0: it has not expired in @timeout_ns; -EINTR: a signal came; -EINVAL: it is not running, and would
 * never.
 */
int64_t vmplat_timer_wait(struct vmplat_timer *timer, uint64_t timeout_ns);

#define VMPLAT_TIMER_BUCKETS	40

/**
 * struct vmplat_timer_stats - how it has kept time since it was set
 * @taken: expirations that were read
 * @missed: that were not, because another followed before
 * @late_min_ns: from when one was due to when it was read
 * @late_max_ns: the same, at most
 * @late_mean_ns: on average
 * @jitter_ns: standard deviation of lateness
 * @drift_ppm: of a periodic timer: by how much its periods were longer than asked for, over all of them
 * @late: how many were late by less than 2^i ns, and not less than half of that
 */
struct vmplat_timer_stats {
	uint64_t taken;
	uint64_t missed;
	uint64_t late_min_ns;
	uint64_t late_max_ns;
	double late_mean_ns;
	double jitter_ns;
	double drift_ppm;
	uint64_t late[VMPLAT_TIMER_BUCKETS];
};

void vmplat_timer_query(const struct vmplat_timer *timer, struct vmplat_timer_stats *stats);
/** vmplat_timer_late_ns - @share (0 to 1) of all were not later than this, within a factor of 2 */
uint64_t vmplat_timer_late_ns(const struct vmplat_timer_stats *stats, double share);

#ifdef __cplusplus
}
#endif

#endif /* VMPLAT_CLOCK_H */
