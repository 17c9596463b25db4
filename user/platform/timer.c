// SPDX-License-Identifier: LGPL-2.1-or-later
/*
 * Timers: timerfd(2), and how well it kept. When each expiration was due is counted here, from the
 * absolute time the timer was set to, so that lateness does not add up.
 */
#include <math.h>
#include <poll.h>
#include <stdlib.h>
#include <sys/timerfd.h>
#include <unistd.h>

#include <vmplat_clock.h>

#include "lib/lib.h"

struct vmplat_timer {
	int fd;
	clockid_t clock;
	bool running;
	uint64_t period_ns;		/* 0: once */
	uint64_t due_ns;		/* of the next expiration */
	uint64_t first_read_ns, last_read_ns, first_due_ns, last_due_ns;
	struct vmplat_timer_stats stats;
	double sum_squares;		/* of differences from the mean, after Welford */
};

API int vmplat_timer_new(struct vmplat_timer **out, clockid_t clock)
{
	struct vmplat_timer *t;

	*out = NULL;
	t = calloc(1, sizeof(*t));
	if (!t)
		return lib_error(-ENOMEM, "out of memory");
	t->clock = clock;
	t->fd = timerfd_create(clock, TFD_CLOEXEC);
	if (t->fd < 0) {
		int err = errno;

		free(t);
		return lib_error(-err, "no timer of clock %d: %s", (int)clock, strerror(err));
	}
	*out = t;
	return 0;
}

API void vmplat_timer_close(struct vmplat_timer *t)
{
	if (!t)
		return;
	close(t->fd);
	free(t);
}

API int vmplat_timer_fd(const struct vmplat_timer *t)
{
	return t->fd;
}

static struct timespec spec(uint64_t ns)
{
	return (struct timespec){ (time_t)(ns / 1000000000u), (long)(ns % 1000000000u) };
}

static int set(struct vmplat_timer *t, uint64_t due_ns, uint64_t period_ns)
{
	/* a time of 0 would stop it */
	struct itimerspec when = { spec(period_ns), spec(due_ns ? due_ns : 1) };

	if (due_ns > INT64_MAX || period_ns > INT64_MAX)
		return lib_error(-EINVAL, "a timer that expires in more than 292 years");
	if (timerfd_settime(t->fd, TFD_TIMER_ABSTIME, &when, NULL))
		return lib_error(-errno, "the timer cannot be set: %s", strerror(errno));
	*t = (struct vmplat_timer){
		.fd = t->fd, .clock = t->clock, .running = true, .period_ns = period_ns, .due_ns = due_ns,
	};
	return 0;
}

API int vmplat_timer_at(struct vmplat_timer *t, uint64_t time_ns)
{
	return set(t, time_ns, 0);
}

/* a sum that is too large is refused by set() */
static uint64_t from_now(const struct vmplat_timer *t, uint64_t ns)
{
	uint64_t due;

	return __builtin_add_overflow(vmplat_clock_now(t->clock), ns, &due) ? UINT64_MAX : due;
}

API int vmplat_timer_after(struct vmplat_timer *t, uint64_t delay_ns)
{
	return set(t, from_now(t, delay_ns), 0);
}

API int vmplat_timer_every(struct vmplat_timer *t, uint64_t period_ns)
{
	if (!period_ns)
		return lib_error(-EINVAL, "a timer with a period of 0 ns");
	return set(t, from_now(t, period_ns), period_ns);
}

API void vmplat_timer_stop(struct vmplat_timer *t)
{
	const struct itimerspec never = { };

	timerfd_settime(t->fd, 0, &never, NULL);
	t->running = false;
}

/* ---- expirations ------------------------------------------------------------------- */

static void note_late(struct vmplat_timer *t, uint64_t late)
{
	struct vmplat_timer_stats *s = &t->stats;
	unsigned int bucket = late ? 64 - (unsigned int)__builtin_clzll(late) : 0;
	double from_mean = (double)late - s->late_mean_ns;

	if (!s->taken++ || late < s->late_min_ns)
		s->late_min_ns = late;
	if (late > s->late_max_ns)
		s->late_max_ns = late;
	s->late_mean_ns += from_mean / (double)s->taken;
	t->sum_squares += from_mean * ((double)late - s->late_mean_ns);
	s->late[bucket < VMPLAT_TIMER_BUCKETS ? bucket : VMPLAT_TIMER_BUCKETS - 1]++;
}

static void note_expirations(struct vmplat_timer *t, uint64_t nr)
{
	uint64_t now = vmplat_clock_now(t->clock);
	uint64_t due = t->due_ns + (nr - 1) * t->period_ns;

	t->stats.missed += nr - 1;
	/* CLOCK_REALTIME may have been set back */
	note_late(t, now > due ? now - due : 0);
	if (t->stats.taken == 1) {
		t->first_read_ns = now;
		t->first_due_ns = due;
	}
	t->last_read_ns = now;
	t->last_due_ns = due;
	t->due_ns = due + t->period_ns;
	t->running = t->period_ns;
}

/* waits */
static int64_t take(struct vmplat_timer *t)
{
	uint64_t nr;

	if (read(t->fd, &nr, sizeof(nr)) != sizeof(nr))
		return lib_error(-errno, "waiting for a timer: %s", strerror(errno));
	note_expirations(t, nr);
	return (int64_t)nr;
}

/* 1, 0 or -errno */
static int expires_within(const struct vmplat_timer *t, uint64_t timeout_ns)
{
	struct pollfd p = { .fd = t->fd, .events = POLLIN };
	struct timespec limit = spec(timeout_ns);
	int ret = ppoll(&p, 1, &limit, NULL);

	return ret < 0 ? lib_error(-errno, "waiting for a timer: %s", strerror(errno)) : ret;
}

API int64_t vmplat_timer_read(struct vmplat_timer *t)
{
	int ret = expires_within(t, 0);

	return ret > 0 ? take(t) : ret;
}

API int64_t vmplat_timer_wait(struct vmplat_timer *t, uint64_t timeout_ns)
{
	int ret = 1;

	if (!t->running)
		return lib_error(-EINVAL, "the timer is not running: to wait for it is to wait for ever");
	if (timeout_ns <= INT64_MAX)
		ret = expires_within(t, timeout_ns);
	return ret > 0 ? take(t) : ret;
}

/* ---- how it has kept ------------------------------------------------------------------- */

API void vmplat_timer_query(const struct vmplat_timer *t, struct vmplat_timer_stats *s)
{
	*s = t->stats;
	if (s->taken)
		s->jitter_ns = sqrt(t->sum_squares / (double)s->taken);
	if (t->last_due_ns > t->first_due_ns) {
		double asked = (double)(t->last_due_ns - t->first_due_ns);

		s->drift_ppm = 1e6 * ((double)(t->last_read_ns - t->first_read_ns) - asked) / asked;
	}
}

API uint64_t vmplat_timer_late_ns(const struct vmplat_timer_stats *s, double share)
{
	double want = share * (double)s->taken, seen = 0;

	for (int i = 0; i < VMPLAT_TIMER_BUCKETS - 1; i++) {
		seen += (double)s->late[i];
		if (seen >= want && s->taken) {
			uint64_t bound = UINT64_C(1) << i;

			return bound < s->late_max_ns ? bound : s->late_max_ns;
		}
	}
	return s->late_max_ns;
}
