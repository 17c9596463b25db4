/* SPDX-License-Identifier: LGPL-2.1-or-later */
/*
 * Test Anything Protocol, for programs of one file.
 *
 *	TEST(name) { CHECK(1 + 1 == 2); }
 *	int main(void) { RUN(name); return tap_done(); }
 *
 * A test goes on after a failed CHECK, ends at a failed REQUIRE, and is one
 * "ok" or "not ok" line.  tap_skip("why") makes it a skip.
 */
#ifndef VMPLAT_TESTS_TAP_H
#define VMPLAT_TESTS_TAP_H

#include <stdbool.h>
#include <stdio.h>

static unsigned int tap_nr, tap_failed;
static bool tap_bad;
static const char *tap_skipped;

#define TEST(name) static void test_##name(void)

#define CHECK(cond) do {						\
	if (!(cond)) {							\
		printf("# %s:%d: %s\n", __FILE__, __LINE__, #cond);	\
		tap_bad = true;						\
	}								\
} while (0)

#define CHECK_EQ(a, b) do {						\
	long long tap_a = (long long)(a), tap_b = (long long)(b);	\
	if (tap_a != tap_b) {						\
		printf("# %s:%d: %s is %lld (0x%llx), not %lld\n", __FILE__, \
		       __LINE__, #a, tap_a, (unsigned long long)tap_a, tap_b); \
		tap_bad = true;						\
	}								\
} while (0)

#define REQUIRE(cond) do {						\
	if (!(cond)) {							\
		printf("# %s:%d: %s\n", __FILE__, __LINE__, #cond);	\
		tap_bad = true;						\
		return;							\
	}								\
} while (0)

#define tap_skip(why) (tap_skipped = (why))

static inline void tap_run(const char *name, void (*fn)(void))
{
	tap_bad = false;
	tap_skipped = NULL;
	fn();
	tap_failed += tap_bad;
	printf("%s %u - %s", tap_bad ? "not ok" : "ok", ++tap_nr, name);
	printf(tap_skipped && !tap_bad ? " # SKIP %s\n" : "\n", tap_skipped);
	fflush(stdout);
}

#define RUN(name) tap_run(#name, test_##name)

static inline int tap_done(void)
{
	printf("1..%u\n", tap_nr);
	return tap_failed ? 1 : 0;
}

#endif
