// SPDX-License-Identifier: GPL-2.0-only
/*
 * init of a guest: checks what the CPU computes and what it keeps from programs, says so on
 * the console, and powers off. With the word "stay" it then counts aloud instead, over memory
 * that it fills and reads again, until a line comes in.
 */
#include <stddef.h>

#include "guest.h"

/* asm-generic, which riscv64 and aarch64 share */
enum {
	NR_read = 63, NR_write = 64, NR_ppoll = 73, NR_exit = 93, NR_sched_yield = 124,
	NR_reboot = 142, NR_clone = 220, NR_wait4 = 260,
};

#define POWER_OFF	0x4321fedc
#define PAGES		64
#define PAGE		4096

static unsigned int passed, failed;
static uint64_t memory[PAGES][PAGE / sizeof(uint64_t)];

/* the compiler may call them */
void *memset(void *p, int c, size_t n)
{
	for (volatile char *at = p; n--; at++)
		*at = (char)c;
	return p;
}

void *memcpy(void *to, const void *from, size_t n)
{
	volatile char *t = to;

	for (const char *f = from; n--; t++, f++)
		*t = *f;
	return to;
}

/* ---- words ------------------------------------------------------------------- */

struct line {
	char text[200];
	unsigned int len;
};

static void add(struct line *l, const char *text)
{
	while (*text && l->len < sizeof(l->text))
		l->text[l->len++] = *text++;
}

static void add_number(struct line *l, uint64_t v, unsigned int base)
{
	char digits[21] = "";
	unsigned int at = sizeof(digits) - 1;

	do {
		digits[--at] = "0123456789abcdef"[v % base];
		v /= base;
	} while (v);
	add(l, digits + at);
}

static void say(struct line *l)
{
	add(l, "\n");
	arch_syscall(NR_write, 1, (long)l->text, l->len, 0);
}

static void verdict(const char *name, bool ok, uint64_t got, uint64_t want)
{
	struct line l = { .len = 0 };

	add(&l, ok ? "ok " : "BAD ");
	add(&l, name);
	if (!ok) {
		add(&l, ": ");
		add_number(&l, got, 16);
		add(&l, ", not ");
		add_number(&l, want, 16);
	}
	say(&l);
	*(ok ? &passed : &failed) += 1;
}

void check(const char *name, uint64_t got, uint64_t want)
{
	verdict(name, got == want, got, want);
}

/* ---- processes --------------------------------------------------------------- */

#define SIGCHLD	17

static long start(void)
{
	return arch_syscall(NR_clone, SIGCHLD, 0, 0, 0);
}

static void leave(int status)
{
	for (;;)
		arch_syscall(NR_exit, status, 0, 0, 0);
}

/* as wait(2) has it */
static unsigned int end_of(long pid)
{
	unsigned int status = ~0u;

	arch_syscall(NR_wait4, pid, (long)&status, 0, 0);
	return status;
}

void check_end(const char *name, void (*fn)(void), unsigned int want)
{
	long pid = start();

	if (!pid) {
		fn();
		leave(0);
	}
	check(name, pid < 0 ? (uint64_t)pid : end_of(pid), want);
}

static void yield(void)
{
	arch_syscall(NR_sched_yield, 0, 0, 0, 0);
}

/* two processes with values of their own in the same registers, taking turns */
static void check_switches(void)
{
	long pid = start();
	bool ok = arch_keeps_float(pid ? 0x4010203040506070 : 0x3f0e0d0c0b0a0908, yield);

	if (!pid)
		leave(ok ? 0 : 1);
	check("registers of one process", ok, true);
	check("registers of the other", end_of(pid), 0);
}

/* ---- counting ---------------------------------------------------------------- */

static uint64_t value(uint64_t round, unsigned int page, unsigned int word)
{
	return (round << 32 | page << 16 | word) * 0x9e3779b97f4a7c15;
}

static void fill(uint64_t round)
{
	for (unsigned int p = 0; p < PAGES; p++)
		for (unsigned int w = 0; w < PAGE / sizeof(uint64_t); w++)
			memory[p][w] = value(round, p, w);
}

static bool holds(uint64_t round)
{
	for (unsigned int p = 0; p < PAGES; p++)
		for (unsigned int w = 0; w < PAGE / sizeof(uint64_t); w++)
			if (memory[p][w] != value(round, p, w))
				return false;
	return true;
}

/* Sleeps 200 ms, or until a line comes in. */
static bool told_to_end(void)
{
	struct { int fd; short events, revents; } p = { 0, 1, 0 };
	struct { long s, ns; } wait = { 0, 200000000 };
	char buf[64];

	if (arch_syscall(NR_ppoll, (long)&p, 1, (long)&wait, 0) <= 0)
		return false;
	return arch_syscall(NR_read, 0, (long)buf, sizeof(buf), 0) > 0;
}

static void count(void)
{
	bool whole = true;

	for (uint64_t round = 1; whole && !told_to_end(); round++) {
		struct line l = { .len = 0 };

		fill(round);
		yield();
		whole = holds(round);
		add(&l, whole ? "round " : "BAD round ");
		add_number(&l, round, 10);
		say(&l);
	}
	check("memory holds what was written", whole, true);
}

/* ---- all of it --------------------------------------------------------------- */

static bool same(const char *a, const char *b)
{
	while (*a && *a == *b)
		a++, b++;
	return *a == *b;
}

__attribute__((noreturn, used)) void begin(long *stack)
{
	char **argv = (char **)(stack + 1);
	struct line l = { .len = 0 };
	bool stay = false;

	for (long i = 1; i < stack[0]; i++)
		stay |= same(argv[i], "stay");
	arch_check_float();
	check_switches();
	arch_check_privilege();
	if (stay)
		count();
	add(&l, "SELF-CHECK ");
	add(&l, arch_name);
	add(&l, ": ");
	add_number(&l, passed, 10);
	add(&l, " passed, ");
	add_number(&l, failed, 10);
	add(&l, " failed");
	say(&l);
	for (;;)
		arch_syscall(NR_reboot, (long)0xfee1dead, 672274793, POWER_OFF, 0);
}
