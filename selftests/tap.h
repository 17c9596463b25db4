/* SPDX-License-Identifier: GPL-2.0-only */
/*
 * TAP for tests in C, in one header.
 *
 *	#include "tap.h"
 *
 *	int main(void)
 *	{
 *		int fd = open("/dev/vmplat", O_RDWR);
 *
 *		if (fd < 0)
 *			skip_all("no /dev/vmplat");
 *		ok(fd > 2, "the device opens");
 *		is_int(lseek(fd, 0, SEEK_CUR), 0, "it starts at zero");
 *		fails(ioctl(fd, 0), ENOTTY, "command 0");
 *		return done();
 *	}
 *
 * Each check returns whether it held and prints its own line; what it found
 * follows a failure as a comment. done() prints the plan. A child process
 * reports through its exit status: only one process prints.
 */
#ifndef SELFTESTS_TAP_H
#define SELFTESTS_TAP_H

#include <errno.h>
#include <stdarg.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

static int tap_run, tap_failed, tap_planned;

#define TAP_UNUSED __attribute__((unused))
#define TAP_PRINTF(f, a) __attribute__((unused, format(printf, f, a)))

/* A comment: shown with the test's output, not judged. */
TAP_PRINTF(1, 2) static void diag(const char *fmt, ...)
{
	va_list ap;

	va_start(ap, fmt);
	printf("# ");
	vprintf(fmt, ap);
	putchar('\n');
	fflush(stdout);
	va_end(ap);
}

static bool TAP_UNUSED tap_line(bool held, const char *file, int line, const char *suffix,
				const char *fmt, va_list ap)
{
	tap_run++;
	printf("%sok %d ", held ? "" : "not ", tap_run);
	vprintf(fmt, ap);
	printf("%s\n", suffix);
	if (!held) {
		tap_failed++;
		printf("# failed at %s:%d\n", file, line);
	}
	fflush(stdout);
	return held;
}

__attribute__((unused, format(printf, 4, 5)))
static bool tap_ok(bool held, const char *file, int line, const char *fmt, ...)
{
	va_list ap;

	va_start(ap, fmt);
	tap_line(held, file, line, "", fmt, ap);
	va_end(ap);
	return held;
}

/* Optional: tell the number of checks beforehand, so that a lost one counts as a failure. */
static void TAP_UNUSED plan(int nr)
{
	tap_planned = nr;
	printf("1..%d\n", nr);
	fflush(stdout);
}

#define ok(held, ...) tap_ok(!!(held), __FILE__, __LINE__, __VA_ARGS__)

#define is_int(got, want, ...)								\
({											\
	long long tap_got = (long long)(got), tap_want = (long long)(want);		\
	bool tap_held = tap_ok(tap_got == tap_want, __FILE__, __LINE__, __VA_ARGS__);	\
	if (!tap_held)									\
		diag("got %lld (%#llx), want %lld (%#llx)", tap_got,			\
		     (unsigned long long)tap_got, tap_want, (unsigned long long)tap_want); \
	tap_held;									\
})

#define is_str(got, want, ...)								\
({											\
	const char *tap_got = (got), *tap_want = (want);				\
	bool tap_held = tap_ok(tap_got && !strcmp(tap_got, tap_want),			\
			       __FILE__, __LINE__, __VA_ARGS__);			\
	if (!tap_held)									\
		diag("got \"%s\", want \"%s\"", tap_got ? tap_got : "(null)", tap_want);	\
	tap_held;									\
})

/* A system call that must succeed; gives its result. */
#define works(call, ...)								\
({											\
	long long tap_ret = (long long)(call);						\
	int tap_err = errno;								\
	if (!tap_ok(tap_ret >= 0, __FILE__, __LINE__, __VA_ARGS__))			\
		diag("%s: %s", #call, strerror(tap_err));				\
	tap_ret;									\
})

/* A system call that must fail with one errno. */
#define fails(call, want, ...)								\
({											\
	long long tap_ret;								\
	int tap_err, tap_want = (want);							\
	errno = 0;									\
	tap_ret = (long long)(call);							\
	tap_err = errno;								\
	bool tap_held = tap_ok(tap_ret < 0 && tap_err == tap_want,			\
			       __FILE__, __LINE__, __VA_ARGS__);			\
	if (!tap_held)									\
		diag("%s gave %lld, %s; want %s", #call, tap_ret,			\
		     tap_ret < 0 ? strerrorname_np(tap_err) : "no error",		\
		     strerrorname_np(tap_want));					\
	tap_held;									\
})

/* A check that cannot be made here. */
TAP_PRINTF(1, 2) static void skip(const char *why, ...)
{
	va_list ap;

	va_start(ap, why);
	printf("ok %d # SKIP ", ++tap_run);
	vprintf(why, ap);
	putchar('\n');
	fflush(stdout);
	va_end(ap);
}

/* Nothing of this test can be done here. */
__attribute__((noreturn)) TAP_PRINTF(1, 2) static void skip_all(const char *why, ...)
{
	va_list ap;

	va_start(ap, why);
	printf("1..0 # SKIP ");
	vprintf(why, ap);
	putchar('\n');
	fflush(stdout);
	va_end(ap);
	exit(0);
}

/* The test cannot go on; counts as one failure. */
__attribute__((noreturn)) TAP_PRINTF(1, 2) static void bail(const char *why, ...)
{
	int err = errno;
	va_list ap;

	va_start(ap, why);
	printf("Bail out! ");
	vprintf(why, ap);
	printf(" (errno: %s)\n", strerror(err));
	fflush(stdout);
	va_end(ap);
	exit(1);
}

/* The end of main(): return done(); */
static int TAP_UNUSED done(void)
{
	if (!tap_planned)
		printf("1..%d\n", tap_run);
	else if (tap_planned != tap_run)
		printf("# planned %d checks, made %d\n", tap_planned, tap_run);
	fflush(stdout);
	return tap_failed || (tap_planned && tap_planned != tap_run);
}

#endif
