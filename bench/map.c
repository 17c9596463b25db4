// SPDX-License-Identifier: GPL-2.0-only
/*
 * Mapped memory against plain system calls, and code that is generated through two views against
 * mprotect() between writing and executing. Rounds are interleaved; the best of each counts.
 */
#define _GNU_SOURCE
#include <pthread.h>
#include <stdatomic.h>
#include <string.h>
#include <sys/mman.h>

#include <vmplat_map.h>

#include "bench.h"

#define ROUNDS	301
#define CYCLES	100
#define BYTES	(64 * 1024UL)

/* ---- map, touch, protect, unmap ----------------------------------------------------- */

static void ours_cycle(void)
{
	struct vmplat_map *m;

	must(vmplat_map_new(&m, BYTES, NULL));
	*(volatile char *)vmplat_map_addr(m) = 1;
	must(vmplat_map_protect(m, 0, BYTES, PROT_READ));
	vmplat_map_close(m);
}

/* the same memory with the same guards */
static void guarded_cycle(void)
{
	char *p = mmap(NULL, BYTES + 2 * PAGE, PROT_NONE, MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE,
		       -1, 0);

	must(p == MAP_FAILED ? -1 : 0);
	must(mprotect(p + PAGE, BYTES, PROT_READ | PROT_WRITE));
	*(volatile char *)(p + PAGE) = 1;
	must(mprotect(p + PAGE, BYTES, PROT_READ));
	must(munmap(p, BYTES + 2 * PAGE));
}

/* and with none */
static void plain_cycle(void)
{
	char *p = mmap(NULL, BYTES, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);

	must(p == MAP_FAILED ? -1 : 0);
	*(volatile char *)p = 1;
	must(mprotect(p, BYTES, PROT_READ));
	must(munmap(p, BYTES));
}

static double timed(void (*fn)(void))
{
	uint64_t begin = now_ns();

	for (int i = 0; i < CYCLES; i++)
		fn();
	return (double)(now_ns() - begin) / CYCLES;
}

static void cycle(const char *name)
{
	double o[ROUNDS], p[ROUNDS], bare[ROUNDS];

	for (int i = 0; i < ROUNDS; i++) {
		o[i] = timed(ours_cycle);
		p[i] = timed(guarded_cycle);
		bare[i] = timed(plain_cycle);
	}
	note("without guards, plain system calls take %.0f ns", least(bare, ROUNDS));
	report(name, least(o, ROUNDS), least(p, ROUNDS), "ns", LESS);
}

/* ---- one transition ------------------------------------------------------------------- */

static struct vmplat_map *flipped;

static void ours_flip(void)
{
	must(vmplat_map_protect(flipped, 0, BYTES, PROT_READ));
	must(vmplat_map_protect(flipped, 0, BYTES, PROT_READ | PROT_WRITE));
}

static void plain_flip(void)
{
	must(mprotect(vmplat_map_addr(flipped), BYTES, PROT_READ));
	must(mprotect(vmplat_map_addr(flipped), BYTES, PROT_READ | PROT_WRITE));
}

static void protect(const char *name)
{
	double o[ROUNDS], p[ROUNDS];

	must(vmplat_map_new(&flipped, BYTES, NULL));
	memset(vmplat_map_addr(flipped), 1, BYTES);
	for (int i = 0; i < ROUNDS; i++) {
		o[i] = timed(ours_flip) / 2;
		p[i] = timed(plain_flip) / 2;
	}
	vmplat_map_close(flipped);
	report(name, least(o, ROUNDS), least(p, ROUNDS), "ns", LESS);
}

/* ---- a function of a few bytes, written and called --------------------------------------- */

static struct vmplat_jit *jit;
static char *page;
static unsigned char code[] = { 0xb8, 1, 0, 0, 0, 0xc3 };	/* mov eax, 1; ret */
static atomic_bool end;

static void call(const void *at)
{
	must(((int (*)(void))(uintptr_t)at)() == 1 ? 0 : -1);
}

static void ours_emit(void)
{
	memcpy(vmplat_jit_write(jit), code, sizeof(code));
	must(vmplat_jit_publish(jit, 0, sizeof(code), 0));
	call(vmplat_jit_exec(jit));
}

static void mprotect_emit(void)
{
	must(mprotect(page, PAGE, PROT_READ | PROT_WRITE));
	memcpy(page, code, sizeof(code));
	must(mprotect(page, PAGE, PROT_READ | PROT_EXEC));
	call(page);
}

/* a program that has threads pays for their TLBs, too */
static void *other(void *arg)
{
	while (!atomic_load(&end))
		;
	return NULL;
}

static void emit(const char *name)
{
	double o[ROUNDS], p[ROUNDS];
	pthread_t thread;

	must(vmplat_jit_new(&jit, PAGE));
	page = mmap(NULL, PAGE, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
	must(page == MAP_FAILED ? -1 : 0);
	atomic_store(&end, false);
	must(-pthread_create(&thread, NULL, other, NULL));
	for (int i = 0; i < ROUNDS; i++) {
		o[i] = timed(ours_emit);
		p[i] = timed(mprotect_emit);
	}
	atomic_store(&end, true);
	pthread_join(thread, NULL);
	munmap(page, PAGE);
	vmplat_jit_close(jit);
	report(name, least(o, ROUNDS), least(p, ROUNDS), "ns", LESS);
}

int main(int argc, char **argv)
{
	static const struct bench benches[] = {
		{ "map-cycle-vs-mmap", cycle },
		{ "map-protect-vs-mprotect", protect },
		{ "jit-emit-vs-mprotect", emit },
	};

	return bench_main(argc, argv, benches, 3);
}
