// SPDX-License-Identifier: GPL-2.0-only
/*
 * A thread that is started, does nothing and is joined: with libvmplat and with pthread alone; and
 * the same pinned to a CPU and checked. Rounds take turns, the best of each counts.
 */
#define _GNU_SOURCE
#include <pthread.h>
#include <sched.h>

#include <vmplat_thread.h>

#include "bench.h"

#define ROUNDS	151
#define THREADS	30

static struct vmplat_cpus one;
static bool pinned;

static void *nothing(void *data)
{
	return NULL;
}

static void ours(void)
{
	struct vmplat_thread_options o = { .name = "bench", .cpus = pinned ? &one : NULL };
	struct vmplat_thread *t;

	must(vmplat_thread_start(&t, &o, nothing, NULL));
	vmplat_thread_join(t);
}

static void *named(void *data)
{
	cpu_set_t have;

	pthread_setname_np(pthread_self(), "bench");
	if (pinned) {
		must(-pthread_getaffinity_np(pthread_self(), sizeof(have), &have));
		must(CPU_EQUAL(&have, (cpu_set_t *)&one) ? 0 : -1);
	}
	return NULL;
}

/* what ours says it has done: the thread has a name, and is where it was to be */
static void plain(void)
{
	pthread_attr_t attr;
	pthread_t t;

	pthread_attr_init(&attr);
	if (pinned)
		pthread_attr_setaffinity_np(&attr, sizeof(one), (cpu_set_t *)&one);
	must(-pthread_create(&t, &attr, named, NULL));
	pthread_join(t, NULL);
	pthread_attr_destroy(&attr);
}

static double timed(void (*fn)(void))
{
	uint64_t begin = now_ns();

	for (int i = 0; i < THREADS; i++)
		fn();
	return (double)(now_ns() - begin) / THREADS / 1000;
}

static void compare(const char *name)
{
	double o[ROUNDS], p[ROUNDS];

	for (int i = 0; i < ROUNDS; i++) {
		o[i] = timed(ours);
		p[i] = timed(plain);
	}
	report(name, least(o, ROUNDS), least(p, ROUNDS), "us", LESS);
}

static void start(const char *name)
{
	pinned = false;
	compare(name);
}

static void start_pinned(const char *name)
{
	struct vmplat_cpus allowed;
	unsigned int cpu = VMPLAT_CPUS_MAX - 1;

	must(vmplat_cpus_allowed(&allowed));
	while (cpu && !vmplat_cpus_has(&allowed, cpu))
		cpu--;
	one = (struct vmplat_cpus){ };
	vmplat_cpus_add(&one, cpu);
	pinned = true;
	compare(name);
}

int main(int argc, char **argv)
{
	static const struct bench benches[] = {
		{ "thread-start-vs-pthread", start },
		{ "thread-pinned-vs-pthread", start_pinned },
	};

	return bench_main(argc, argv, benches, 2);
}
