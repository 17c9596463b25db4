// SPDX-License-Identifier: GPL-2.0-only
/*
 * A thread that has the last CPU to itself, as far as this machine allows: where it ran, how long it
 * waited for others, and what would have to change.
 *
 *	cc thread.c $(pkg-config --cflags --libs vmplat) -o thread && ./thread
 */
#include <stdio.h>

#include <vmplat_clock.h>
#include <vmplat_error.h>
#include <vmplat_thread.h>

#define WORK_NS	20000000u

static void *work(void *data)
{
	uint64_t begin = vmplat_now_ns();

	while (vmplat_now_ns() - begin < WORK_NS)
		;
	return vmplat_thread_query(0, data) ? NULL : data;
}

static void advice(void *ctx, unsigned int cpu, enum vmplat_cpu_issue issue, const char *text)
{
	printf("advice for CPU %u: %s\n", cpu, text);
}

static unsigned int last_of(const struct vmplat_cpus *cpus)
{
	unsigned int cpu = VMPLAT_CPUS_MAX - 1;

	while (cpu && !vmplat_cpus_has(cpus, cpu))
		cpu--;
	return cpu;
}

int main(void)
{
	struct vmplat_cpus allowed, one = { };
	struct vmplat_thread_options options = { .name = "worker", .cpus = &one };
	struct vmplat_thread_facts facts;
	struct vmplat_thread *thread;

	if (vmplat_cpus_allowed(&allowed)) {
		fprintf(stderr, "thread: %s\n", vmplat_last_error());
		return 1;
	}
	vmplat_cpus_add(&one, last_of(&allowed));
	if (vmplat_thread_start(&thread, &options, work, &facts)) {
		fprintf(stderr, "thread: worker %s\n", vmplat_last_error());
		return 1;
	}
	if (!vmplat_thread_join(thread))
		return 1;
	printf("%s ran on CPU %u for %.1f ms, waited %.1f ms for others, was put aside %llu times\n",
	       facts.name, facts.cpu, (double)facts.run_ns / 1e6, (double)facts.wait_ns / 1e6,
	       (unsigned long long)facts.preempted);
	return vmplat_cpus_advise(&one, advice, NULL) < 0;
}
