// SPDX-License-Identifier: LGPL-2.1-or-later
/* One failure a thread: errno, code, sentence; and that all parts of vmplat keep theirs there. */
#include <errno.h>
#include <pthread.h>
#include <stdlib.h>
#include <string.h>

#include <vmplat.h>

#include "hotplug/plug.h"
#include "store/io.h"
#include "store/store.h"
#include "tap.h"

static struct vmplat_error now(void)
{
	struct vmplat_error e;

	vmplat_error_get(&e);
	return e;
}

TEST(nothing_yet)
{
	CHECK(!now().err && now().code == VMPLAT_OK);
	CHECK(!strcmp(vmplat_last_error(), "no error"));
}

TEST(three_parts)
{
	errno = ERANGE;
	CHECK_EQ(vmplat_error_set(ENOENT, "no %s", "cat"), -ENOENT);
	CHECK_EQ(errno, ERANGE);
	CHECK_EQ(now().err, -ENOENT);
	CHECK_EQ(now().code, VMPLAT_NOT_FOUND);
	CHECK(!strcmp(now().text, "no cat"));
	CHECK_EQ(vmplat_error_set_code(VMPLAT_NO_MODULE, -ENOENT, "x"), -ENOENT);
	CHECK_EQ(now().code, VMPLAT_NO_MODULE);
}

TEST(sentences_nest_and_are_cut)
{
	static char big[2 * VMPLAT_ERROR_TEXT];

	vmplat_error_set(-EIO, "inner");
	vmplat_error_set(-EIO, "outer: %s", vmplat_last_error());
	CHECK(!strcmp(vmplat_last_error(), "outer: inner"));
	memset(big, 'a', sizeof(big) - 1);
	vmplat_error_set(-EIO, "%s", big);
	CHECK_EQ(strlen(vmplat_last_error()), VMPLAT_ERROR_TEXT - 1);
	CHECK(!strcmp(vmplat_last_error() + VMPLAT_ERROR_TEXT - 5, "a..."));
}

static void *other_thread(void *arg)
{
	struct vmplat_error *e = arg;

	if (now().err)
		return "a failure of another thread";
	vmplat_error_set(-EBUSY, "of the other");
	vmplat_error_get(e);
	return NULL;
}

TEST(each_thread_has_its_own)
{
	struct vmplat_error e;
	pthread_t t;
	void *wrong;

	vmplat_error_set(-EPERM, "mine");
	REQUIRE(!pthread_create(&t, NULL, other_thread, &e));
	pthread_join(t, &wrong);
	CHECK(!wrong);
	CHECK_EQ(now().err, -EPERM);
	vmplat_error_put(&e);
	CHECK_EQ(now().err, -EBUSY);
	CHECK(!strcmp(vmplat_last_error(), "of the other"));
}

TEST(parts_share_it)
{
	CHECK_EQ(store_fail(ESTALE, "store"), -ESTALE);
	CHECK(!strcmp(vmplat_last_error(), "store") && !strcmp(store_error(), "store"));
	CHECK_EQ(now().code, VMPLAT_STALE);
	CHECK_EQ(plug_fail(-EINVAL, "plug"), -EINVAL);
	CHECK(!strcmp(vmplat_last_error(), "plug") && !strcmp(plug_error(), "plug"));
}

TEST(no_module)
{
	struct vmplat *dev;

	CHECK_EQ(vmplat_open(&dev, "/nonexistent"), -ENOENT);
	CHECK(!dev);
	CHECK_EQ(now().code, VMPLAT_NO_MODULE);
}

TEST(names_are_stable)
{
	static const char *const names[] = {
		"ok", "failed", "invalid", "not-found", "no-module", "exists", "denied", "busy",
		"no-memory", "no-space", "limit", "unsupported", "wrong-object", "range",
		"damaged", "stale", "interrupted", "timeout", "gone", "unreachable", "io",
	};
	const unsigned int nr = sizeof(names) / sizeof(names[0]);

	for (unsigned int i = 0; i < nr; i++)
		CHECK(vmplat_code_name(i) && !strcmp(vmplat_code_name(i), names[i]));
	CHECK(!vmplat_code_name(nr));
	CHECK(!vmplat_code_name((enum vmplat_code)-1));
}

static int errno_of(const char *name)
{
	for (int e = 1; e < 200; e++)
		if (strerrorname_np(e) && !strcmp(strerrorname_np(e), name))
			return e;
	return 0;
}

/* every errno in the table at the head of the kernel's interface has a code of its own kind */
TEST(kernel_contract_has_codes)
{
	FILE *f = fopen("../uapi/linux/vmplat.h", "r");
	char line[256], name[32];
	unsigned int nr = 0;

	REQUIRE(f);
	while (fgets(line, sizeof(line), f)) {
		if (strncmp(line, " *   E", 6) || sscanf(line + 5, "%31[A-Z0-9]", name) != 1)
			continue;
		nr++;
		CHECK(errno_of(name));
		CHECK(vmplat_code_of(errno_of(name)) != VMPLAT_FAILED);
		CHECK_EQ(vmplat_code_of(-errno_of(name)), vmplat_code_of(errno_of(name)));
	}
	fclose(f);
	CHECK(nr >= 13);
}

int main(void)
{
	RUN(nothing_yet);
	RUN(three_parts);
	RUN(sentences_nest_and_are_cut);
	RUN(each_thread_has_its_own);
	RUN(parts_share_it);
	RUN(no_module);
	RUN(names_are_stable);
	RUN(kernel_contract_has_codes);
	return tap_done();
}
