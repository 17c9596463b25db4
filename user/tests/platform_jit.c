// SPDX-License-Identifier: LGPL-2.1-or-later
/* Memory for code: run, written again while others run it, sealed; never writable and executable. */
#include <dirent.h>
#include <errno.h>
#include <pthread.h>
#include <stdatomic.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <unistd.h>

#include <vmplat.h>
#include <vmplat_fault.h>
#include <vmplat_map.h>

#include "tap.h"

#define PAGE 4096UL

/* a function that returns @n, below 2048; its length */
static size_t generate(void *to, unsigned int n)
{
#if defined(__x86_64__)
	uint8_t code[] = { 0xb8, n & 0xff, n >> 8, 0, 0, 0xc3 };
#elif defined(__aarch64__)
	uint32_t code[] = { 0x52800000 | n << 5, 0xd65f03c0 };
#elif defined(__riscv)
	uint32_t code[] = { 0x00000513 | n << 20, 0x00008067 };
#else
#error "no code for this processor"
#endif
	memcpy(to, code, sizeof(code));
	return sizeof(code);
}

typedef unsigned int fn(void);

static fn *entry(const struct vmplat_jit *j)
{
	return (fn *)(uintptr_t)vmplat_jit_exec(j);
}

/* whether any mapping of this process is both */
static bool both(void)
{
	FILE *f = fopen("/proc/self/maps", "r");
	char line[512], perms[8];
	bool found = false;

	if (!f)
		abort();
	while (fgets(line, sizeof(line), f))
		found |= sscanf(line, "%*s %7s", perms) == 1 && perms[1] == 'w' && perms[2] == 'x';
	fclose(f);
	return found;
}

/* the memory itself, through this process's own descriptor */
static int memory_of(void)
{
	DIR *d = opendir("/proc/self/fd");
	struct dirent *de;
	char target[64];
	int fd = -1;

	while (d && (de = readdir(d))) {
		ssize_t n = readlinkat(dirfd(d), de->d_name, target, sizeof(target) - 1);

		target[n > 0 ? n : 0] = 0;
		if (!strncmp(target, "/memfd:vmplat-jit", 17))
			fd = atoi(de->d_name);
	}
	closedir(d);
	return fd;
}

static void store(void *p)
{
	*(volatile uint8_t *)p = 1;
}

TEST(runs)
{
	struct vmplat_jit *j;
	size_t n;

	REQUIRE(!vmplat_jit_new(&j, 1));
	CHECK_EQ(vmplat_jit_bytes(j), PAGE);
	CHECK(!both());
	n = generate(vmplat_jit_write(j), 1234);
	CHECK(!vmplat_jit_publish(j, 0, n, 0));
	CHECK_EQ(entry(j)(), 1234);
	CHECK(!both());
	vmplat_jit_close(j);
	vmplat_jit_close(NULL);
}

TEST(refused)
{
	struct vmplat_jit *j;

	CHECK_EQ(vmplat_jit_new(&j, 0), -EINVAL);
	CHECK(!j);
	CHECK_EQ(vmplat_jit_new(&j, SIZE_MAX), -ENOMEM);
	CHECK(!j);
	REQUIRE(!vmplat_jit_new(&j, PAGE));
	CHECK_EQ(vmplat_jit_publish(j, 1, PAGE, 0), -ERANGE);
	CHECK_EQ(vmplat_jit_publish(j, SIZE_MAX, 2, 0), -ERANGE);
	CHECK_EQ(vmplat_jit_publish(j, 0, PAGE, 2), -EINVAL);
	vmplat_jit_close(j);
}

/* not by a store, not by mprotect() */
TEST(code_cannot_be_made_writable)
{
	struct vmplat_jit *j;
	void *exec;

	REQUIRE(!vmplat_jit_new(&j, PAGE));
	exec = (void *)(uintptr_t)vmplat_jit_exec(j);
	CHECK_EQ(vmplat_fault_try(exec, PAGE, store, exec, NULL), -EFAULT);
	CHECK(mprotect(exec, PAGE, PROT_READ | PROT_WRITE) && errno == EACCES);
	CHECK(mprotect(exec, PAGE, PROT_READ | PROT_WRITE | PROT_EXEC) && errno == EACCES);
	vmplat_jit_close(j);
}

struct runner {
	struct vmplat_jit *jit;
	atomic_uint at_least;		/* published */
	atomic_bool end;
	unsigned long runs;
	bool stale;
};

static void *run(void *arg)
{
	struct runner *r = arg;

	while (!atomic_load(&r->end)) {
		unsigned int published = atomic_load(&r->at_least);

		r->stale |= entry(r->jit)() < published;
		r->runs++;
	}
	return NULL;
}

/* code is replaced under a thread that runs it: what is published before a call is what it runs */
TEST(replaced_while_it_runs)
{
	struct runner r = { };
	pthread_t t;

	REQUIRE(!vmplat_jit_new(&r.jit, PAGE));
	generate(vmplat_jit_write(r.jit), 0);
	CHECK(!vmplat_jit_publish(r.jit, 0, 16, 0));
	if (vmplat_jit_publish(r.jit, 0, 16, VMPLAT_JIT_F_REUSED)) {
		CHECK_EQ(vmplat_code_of(EOPNOTSUPP), VMPLAT_UNSUPPORTED);
		tap_skip(vmplat_last_error());
		vmplat_jit_close(r.jit);
		return;
	}
	REQUIRE(!pthread_create(&t, NULL, run, &r));
	/* one byte of the constant at a time: each state is whole code */
	for (unsigned int n = 1; n < 256; n++) {
#if defined(__x86_64__)
		__atomic_store_n((uint8_t *)vmplat_jit_write(r.jit) + 1, n, __ATOMIC_RELAXED);
#else
		generate(vmplat_jit_write(r.jit), n);
#endif
		CHECK(!vmplat_jit_publish(r.jit, 0, 16, VMPLAT_JIT_F_REUSED));
		CHECK_EQ(entry(r.jit)(), n);
		atomic_store(&r.at_least, n);
	}
	atomic_store(&r.end, true);
	pthread_join(t, NULL);
	CHECK(!r.stale);
	vmplat_jit_close(r.jit);
}

TEST(sealed)
{
	struct vmplat_jit *j;
	void *write_view;
	int fd;

	REQUIRE(!vmplat_jit_new(&j, PAGE));
	write_view = vmplat_jit_write(j);
	generate(write_view, 77);
	CHECK(!vmplat_jit_publish(j, 0, 16, 0));
	fd = memory_of();
	REQUIRE(fd >= 0);
	CHECK(pwrite(fd, "", 1, PAGE - 1) == 1);
	CHECK(ftruncate(fd, 0) && errno == EPERM);
	CHECK(!vmplat_jit_seal(j));
	CHECK(!vmplat_jit_write(j));
	CHECK(mprotect(write_view, PAGE, PROT_READ) && errno == ENOMEM);	/* nothing is there */
	CHECK(pwrite(fd, "", 1, PAGE - 1) < 0 && errno == EPERM);
	CHECK(mmap(NULL, PAGE, PROT_READ | PROT_WRITE, MAP_SHARED, fd, 0) == MAP_FAILED);
	CHECK_EQ(entry(j)(), 77);
	CHECK(!vmplat_jit_seal(j));
	vmplat_jit_close(j);
	CHECK_EQ(memory_of(), -1);
}

int main(void)
{
	RUN(runs);
	RUN(refused);
	RUN(code_cannot_be_made_writable);
	RUN(replaced_while_it_runs);
	RUN(sealed);
	return tap_done();
}
