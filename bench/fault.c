// SPDX-License-Identifier: GPL-2.0-only
/*
 * A fault that reaches its handler: through libvmplat's router with 100 ranges, against a bare
 * sigaction() that knows its one range, and against libsigsegv with as many ranges. Rounds are
 * interleaved; the best of each counts.
 */
#define _GNU_SOURCE
#include <signal.h>
#include <sigsegv.h>
#include <stdio.h>
#include <string.h>
#include <sys/mman.h>
#include <ucontext.h>

#include <vmplat_fault.h>

#include "bench.h"

#define ROUNDS	301
#define FAULTS	200
#define RANGES	100

static char *base;

static void protect(int prot)
{
	must(mprotect(base, PAGE, prot));
}

/* a store of three bytes, which the handlers of "skip" step over */
static void poke(void)
{
	asm volatile("movb $0, (%0)" : : "a"(base) : "memory");
}

static void skip(void *context)
{
	((ucontext_t *)context)->uc_mcontext.gregs[REG_RIP] += 3;
}

static enum vmplat_fault_verdict router_skips(const struct vmplat_fault *f, void *data)
{
	skip(f->context);
	return VMPLAT_FAULT_RETRY;
}

static enum vmplat_fault_verdict router_opens(const struct vmplat_fault *f, void *data)
{
	protect(PROT_READ | PROT_WRITE);
	return VMPLAT_FAULT_RETRY;
}

static void bare_skips(int signo, siginfo_t *info, void *context)
{
	if ((char *)info->si_addr < base || (char *)info->si_addr >= base + PAGE)
		signal(signo, SIG_DFL);
	else
		skip(context);
}

static int sigsegv_opens(void *addr, void *arg)
{
	protect(PROT_READ | PROT_WRITE);
	return 1;
}

static double skipping(void)
{
	uint64_t begin = now_ns();

	for (int i = 0; i < FAULTS; i++)
		poke();
	return (double)(now_ns() - begin) / FAULTS;
}

static double opening(void)
{
	uint64_t begin = now_ns();

	for (int i = 0; i < FAULTS; i++) {
		protect(PROT_NONE);
		poke();
	}
	return (double)(now_ns() - begin) / FAULTS;
}

/* the same two system calls, and no fault */
static double no_fault(void)
{
	uint64_t begin = now_ns();

	for (int i = 0; i < FAULTS; i++) {
		protect(PROT_NONE);
		protect(PROT_READ | PROT_WRITE);
		poke();
	}
	return (double)(now_ns() - begin) / FAULTS;
}

static void map(void)
{
	base = mmap(NULL, 2 * RANGES * PAGE, PROT_NONE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
	if (base == MAP_FAILED)
		die("mmap");
}

static struct vmplat_fault_range *ranges[RANGES];

/* the router's handler is that of the process from here on; @sa receives it */
static void route(vmplat_fault_fn *fn, struct sigaction *sa)
{
	for (size_t i = 0; i < RANGES; i++)
		must(vmplat_fault_add(&ranges[i], base + 2 * i * PAGE, PAGE, fn, NULL, 0));
	must(sigaction(SIGSEGV, NULL, sa));
}

static void unroute(void)
{
	for (size_t i = 0; i < RANGES; i++)
		vmplat_fault_remove(ranges[i]);
	munmap(base, 2 * RANGES * PAGE);
}

static void vs_bare(const char *name)
{
	struct sigaction bare = { .sa_sigaction = bare_skips, .sa_flags = SA_SIGINFO }, ours;
	double o[ROUNDS], p[ROUNDS];

	map();
	route(router_skips, &ours);
	for (int i = 0; i < ROUNDS; i++) {
		must(sigaction(SIGSEGV, &ours, NULL));
		o[i] = skipping();
		must(sigaction(SIGSEGV, &bare, NULL));
		p[i] = skipping();
	}
	must(sigaction(SIGSEGV, &ours, NULL));
	unroute();
	report(name, least(o, ROUNDS), least(p, ROUNDS), "ns", LESS);
}

static sigsegv_dispatcher dispatcher;

static int sigsegv_asks(void *addr, int serious)
{
	return sigsegv_dispatch(&dispatcher, addr);
}

static void vs_libsigsegv(const char *name)
{
	struct sigaction ours, theirs;
	double o[ROUNDS], p[ROUNDS], calls[ROUNDS], none;

	map();
	route(router_opens, &ours);
	sigsegv_init(&dispatcher);
	for (size_t i = 0; i < RANGES; i++)
		sigsegv_register(&dispatcher, base + 2 * i * PAGE, PAGE, sigsegv_opens, NULL);
	must(sigsegv_install_handler(sigsegv_asks));
	must(sigaction(SIGSEGV, NULL, &theirs));
	for (int i = 0; i < ROUNDS; i++) {
		must(sigaction(SIGSEGV, &ours, NULL));
		o[i] = opening();
		must(sigaction(SIGSEGV, &theirs, NULL));
		p[i] = opening();
		calls[i] = no_fault();
	}
	must(sigaction(SIGSEGV, &ours, NULL));
	unroute();
	none = least(calls, ROUNDS);
	note("without the two mprotect() of a round and the store, %.0f ns each", none);
	report(name, least(o, ROUNDS) - none, least(p, ROUNDS) - none, "ns", LESS);
}

int main(int argc, char **argv)
{
	static const struct bench benches[] = {
		{ "fault-dispatch-vs-bare", vs_bare },
		{ "fault-dispatch-vs-libsigsegv", vs_libsigsegv },
	};

	return bench_main(argc, argv, benches, 2);
}
