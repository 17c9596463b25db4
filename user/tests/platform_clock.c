// SPDX-License-Identifier: LGPL-2.1-or-later
/* Clocks, the processor's counter, timers. Nothing here depends on how busy the machine is. */
#include <errno.h>
#include <poll.h>
#include <signal.h>
#include <string.h>
#include <sys/time.h>
#include <unistd.h>

#include <vmplat.h>
#include <vmplat_clock.h>

#include "tap.h"

#define MS 1000000ULL
#define HOUR (3600000 * MS)

TEST(now)
{
	struct timespec ts;
	uint64_t a, b;

	a = vmplat_now_ns();
	clock_gettime(CLOCK_MONOTONIC, &ts);
	b = vmplat_now_ns();
	CHECK(a <= (uint64_t)ts.tv_sec * 1000000000 + (uint64_t)ts.tv_nsec);
	CHECK(b >= (uint64_t)ts.tv_sec * 1000000000 + (uint64_t)ts.tv_nsec);
	CHECK_EQ(vmplat_clock_now(CLOCK_REALTIME) / 1000000000 - (uint64_t)time(NULL) + 2 < 5, 1);
	CHECK_EQ(vmplat_clock_now(12345), 0);
}

static volatile sig_atomic_t rings;

static void ring(int sig)
{
	rings = rings + 1;
}

/* Signals do not cut it short. */
TEST(sleep)
{
	const struct itimerval often = { { 0, 1000 }, { 0, 1000 } }, never = { };
	uint64_t begin = vmplat_now_ns();

	signal(SIGALRM, ring);
	setitimer(ITIMER_REAL, &often, NULL);
	vmplat_sleep_ns(30000000);
	setitimer(ITIMER_REAL, &never, NULL);
	CHECK(vmplat_now_ns() - begin >= 30000000 && rings);
	vmplat_sleep_ns(0);
}

TEST(what_a_clock_is_worth)
{
	struct vmplat_clock_facts fine, coarse;

	REQUIRE(!vmplat_clock_query(CLOCK_MONOTONIC, &fine));
	REQUIRE(!vmplat_clock_query(CLOCK_MONOTONIC_COARSE, &coarse));
	/* it may stand still for as long as is measured */
	CHECK(coarse.step_ns >= coarse.resolution_ns / 2 && coarse.step_ns < 1000 * MS);
	CHECK(fine.resolution_ns && fine.step_ns && fine.read_ns > 0);
	/* the coarse one steps with the kernel's tick */
	CHECK(coarse.resolution_ns >= MS);
	CHECK(coarse.step_ns >= MS / 2);
	CHECK_EQ(vmplat_clock_query(12345, &fine), -EINVAL);
}

static uint64_t apart(uint64_t a, uint64_t b)
{
	return a > b ? a - b : b - a;
}

/* Within 1 % of the time since it was calibrated: a wrong rate or base is far off. */
TEST(counter)
{
	struct vmplat_tsc *tsc;
	uint64_t begin, before, now, after, last = 0;
	int64_t ahead;

	if (vmplat_tsc_open(&tsc, 0)) {
		CHECK(!tsc && strstr(vmplat_last_error(), "no time from the counter: "));
		tap_skip(vmplat_last_error());
		return;
	}
	begin = vmplat_now_ns();
	CHECK(vmplat_tsc_hz(tsc) > 1e6);
	for (int i = 0; i < 100000; i++) {
		before = vmplat_now_ns();
		now = vmplat_tsc_ns(tsc);
		after = vmplat_now_ns();
		if (now < last || (now < before && apart(now, before) > MS + (after - begin) / 100) ||
		    (now > after && apart(now, after) > MS + (after - begin) / 100)) {
			CHECK(now >= last);
			CHECK_EQ(now, before);
			break;
		}
		last = now;
	}
	after = vmplat_now_ns();
	ahead = vmplat_tsc_sync(tsc);
	CHECK(apart((uint64_t)ahead + HOUR, HOUR) < MS + (after - begin) / 100);
	begin = vmplat_now_ns();
	CHECK(apart(vmplat_tsc_ns(tsc), begin) < MS + apart(vmplat_now_ns(), begin));
	vmplat_tsc_close(tsc);
	vmplat_tsc_close(NULL);
	CHECK_EQ(vmplat_tsc_open(&tsc, 20000 * MS), -EINVAL);
	CHECK(!tsc);
}

static uint64_t late(const struct vmplat_timer_stats *s)
{
	uint64_t n = 0;

	for (int i = 0; i < VMPLAT_TIMER_BUCKETS; i++)
		n += s->late[i];
	return n;
}

/* A reader that is late does not shift what follows: each expiration is due on the grid. */
TEST(late_reader)
{
	struct vmplat_timer_stats one, two;
	uint64_t set_from, set_until, read_from, read_until, due_from, due_until;
	struct vmplat_timer *t;
	double late;
	int64_t nr;

	REQUIRE(!vmplat_timer_new(&t, CLOCK_MONOTONIC));
	set_from = vmplat_now_ns();
	REQUIRE(!vmplat_timer_every(t, 40 * MS));
	set_until = vmplat_now_ns();
	vmplat_sleep_ns(60 * MS);
	nr = vmplat_timer_wait(t, UINT64_MAX);
	vmplat_timer_query(t, &one);
	vmplat_sleep_ns(40 * MS);
	read_from = vmplat_now_ns();
	nr += vmplat_timer_wait(t, UINT64_MAX);
	read_until = vmplat_now_ns();
	vmplat_timer_query(t, &two);
	REQUIRE(nr >= 2 && one.taken == 1 && two.taken == 2);
	due_from = set_from + (uint64_t)nr * 40 * MS;
	due_until = set_until + (uint64_t)nr * 40 * MS;
	late = 2 * two.late_mean_ns - one.late_mean_ns;
	CHECK(late <= (double)(read_until - due_from) + 1000);
	CHECK(read_from < due_until || late >= (double)(read_from - due_until) - 1000);
	vmplat_timer_close(t);
}

TEST(shares)
{
	struct vmplat_timer_stats s = { .taken = 2, .late_max_ns = 1000 };

	s.late[3] = s.late[10] = 1;
	CHECK_EQ(vmplat_timer_late_ns(&s, 0.5), 8);
	CHECK_EQ(vmplat_timer_late_ns(&s, 0.6), 1000);
	CHECK_EQ(vmplat_timer_late_ns(&s, 1), 1000);
}

TEST(once)
{
	struct vmplat_timer_stats s;
	struct vmplat_timer *t;
	struct pollfd p;
	uint64_t due;

	REQUIRE(!vmplat_timer_new(&t, CLOCK_MONOTONIC));
	CHECK_EQ(vmplat_timer_wait(t, UINT64_MAX), -EINVAL);
	due = vmplat_now_ns() + 5 * MS;
	CHECK(!vmplat_timer_at(t, due));
	CHECK_EQ(vmplat_timer_wait(t, UINT64_MAX), 1);
	CHECK(vmplat_now_ns() >= due);
	CHECK_EQ(vmplat_timer_read(t), 0);
	CHECK_EQ(vmplat_timer_wait(t, UINT64_MAX), -EINVAL);
	vmplat_timer_query(t, &s);
	CHECK(s.taken == 1 && !s.missed && late(&s) == 1);
	CHECK(s.late_min_ns == s.late_max_ns && s.late_mean_ns == (double)s.late_max_ns);
	CHECK(s.jitter_ns == 0 && s.drift_ppm == 0);
	CHECK(s.late_max_ns <= vmplat_now_ns() - due);
	/* what is past is now, also at the beginning of time */
	CHECK(!vmplat_timer_at(t, 0));
	p = (struct pollfd){ .fd = vmplat_timer_fd(t), .events = POLLIN };
	CHECK_EQ(poll(&p, 1, 60000), 1);
	CHECK_EQ(vmplat_timer_read(t), 1);
	vmplat_timer_close(t);
	vmplat_timer_close(NULL);
}

TEST(every)
{
	struct vmplat_timer_stats s;
	struct vmplat_timer *t;
	uint64_t begin = vmplat_now_ns(), total = 0;
	int64_t n;

	REQUIRE(!vmplat_timer_new(&t, CLOCK_MONOTONIC));
	REQUIRE(!vmplat_timer_every(t, 2 * MS));
	for (int i = 0; i < 20; i++) {
		n = vmplat_timer_wait(t, UINT64_MAX);
		REQUIRE(n > 0);
		total += (uint64_t)n;
	}
	vmplat_timer_query(t, &s);
	CHECK_EQ(s.taken, 20);
	CHECK_EQ(s.missed, total - 20);
	CHECK_EQ(late(&s), 20);
	/* not one too early, and none invented */
	CHECK(vmplat_now_ns() - begin >= total * 2 * MS);
	CHECK((double)s.late_min_ns <= s.late_mean_ns && s.late_mean_ns <= (double)s.late_max_ns);
	CHECK(s.jitter_ns <= (double)(s.late_max_ns - s.late_min_ns));
	CHECK(vmplat_timer_late_ns(&s, 1) == s.late_max_ns);
	CHECK(vmplat_timer_late_ns(&s, 0.5) <= s.late_max_ns);
	/* who does not look misses some */
	while (vmplat_timer_read(t))
		;
	begin = vmplat_now_ns();
	while (vmplat_now_ns() - begin < 21 * MS)
		usleep(1000);
	n = vmplat_timer_read(t);
	CHECK(n >= 10);
	vmplat_timer_query(t, &s);
	CHECK(s.missed >= total - 20 + (uint64_t)n - 1);
	vmplat_timer_stop(t);
	CHECK_EQ(vmplat_timer_read(t), 0);
	CHECK_EQ(vmplat_timer_wait(t, UINT64_MAX), -EINVAL);
	vmplat_timer_close(t);
}

static void nothing(int sig)
{
}

TEST(waiting_ends)
{
	struct sigaction sa = { .sa_handler = nothing };
	struct itimerval again = { { 0, 5000 }, { 0, 5000 } }, never = { };
	struct vmplat_timer *t;

	REQUIRE(!vmplat_timer_new(&t, CLOCK_BOOTTIME));
	REQUIRE(!vmplat_timer_after(t, HOUR));
	CHECK_EQ(vmplat_timer_read(t), 0);
	CHECK_EQ(vmplat_timer_wait(t, MS), 0);
	sigaction(SIGALRM, &sa, NULL);
	setitimer(ITIMER_REAL, &again, NULL);
	CHECK_EQ(vmplat_timer_wait(t, UINT64_MAX), -EINTR);
	setitimer(ITIMER_REAL, &never, NULL);
	vmplat_timer_close(t);
}

TEST(refused)
{
	struct vmplat_timer *t;

	CHECK_EQ(vmplat_timer_new(&t, 12345), -EINVAL);
	CHECK(!t);
	REQUIRE(!vmplat_timer_new(&t, CLOCK_REALTIME));
	CHECK_EQ(vmplat_timer_every(t, 0), -EINVAL);
	CHECK_EQ(vmplat_timer_every(t, 1ULL << 63), -EINVAL);
	CHECK_EQ(vmplat_timer_after(t, UINT64_MAX), -EINVAL);
	CHECK_EQ(vmplat_timer_at(t, 1ULL << 63), -EINVAL);
	vmplat_timer_close(t);
}

int main(void)
{
	RUN(now);
	RUN(sleep);
	RUN(what_a_clock_is_worth);
	RUN(counter);
	RUN(late_reader);
	RUN(shares);
	RUN(once);
	RUN(every);
	RUN(waiting_ends);
	RUN(refused);
	return tap_done();
}
