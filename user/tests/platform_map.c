// SPDX-License-Identifier: LGPL-2.1-or-later
/* Mapped memory: guards, protection, placement, locking, and what the kernel says of it. */
#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/resource.h>
#include <sys/wait.h>
#include <unistd.h>

#include <vmplat.h>
#include <vmplat_fault.h>
#include <vmplat_map.h>

#include "tap.h"

#define GUARD	(1ul << 30)

#define PAGE	4096UL
#define MIB	(1UL << 20)

static void load(void *p)
{
	*(volatile uint8_t *)p;
}

static void store(void *p)
{
	*(volatile uint8_t *)p = 1;
}

static bool can(void (*fn)(void *), void *p)
{
	return !vmplat_fault_try(NULL, 0, fn, p, NULL);
}

TEST(between_guards)
{
	struct vmplat_map_options wide = { .guard_bytes = 5 * PAGE + 1 };
	struct vmplat_map *m;
	uint8_t *p;

	REQUIRE(!vmplat_map_new(&m, 2 * PAGE + 1, NULL));
	p = vmplat_map_addr(m);
	CHECK_EQ(vmplat_map_bytes(m), 3 * PAGE);
	for (size_t i = 0; i < 3 * PAGE; i++)
		if (p[i])
			CHECK(!"zeroes");
	memset(p, 1, 3 * PAGE);
	CHECK(!can(load, p - 1) && !can(store, p - PAGE));
	CHECK(!can(load, p + 3 * PAGE) && !can(store, p + 4 * PAGE - 1));
	vmplat_map_close(m);
	REQUIRE(!vmplat_map_new(&m, 1, &wide));
	p = vmplat_map_addr(m);
	CHECK(!can(load, p - 6 * PAGE) && !can(load, p + 7 * PAGE - 1) && can(store, p));
	vmplat_map_close(m);
	vmplat_map_close(NULL);
}

/* is there anything at @addr? A guard stays as it is. */
static bool mapped(char *addr)
{
	return !mprotect(addr, (size_t)sysconf(_SC_PAGESIZE), PROT_NONE);
}

/* Guards are as long as was asked, on both sides, and go with the map. */
TEST(long_guards)
{
	const struct vmplat_map_options o = { .guard_bytes = GUARD };
	size_t page = (size_t)sysconf(_SC_PAGESIZE);
	struct vmplat_map *m;
	char *addr;

	REQUIRE(!vmplat_map_new(&m, page, &o));
	addr = vmplat_map_addr(m);
	CHECK(mapped(addr - GUARD) && mapped(addr - page));
	CHECK(mapped(addr + page) && mapped(addr + GUARD));
	CHECK(can(load, addr) && !can(load, addr - 1) && !can(load, addr + page));
	vmplat_map_close(m);
	CHECK(!mapped(addr - GUARD) && !mapped(addr) && !mapped(addr + GUARD));
}

/* a word of smaps' VmFlags for the mapping that begins at @addr */
static bool has_flag(const void *addr, const char *flag)
{
	FILE *f = fopen("/proc/self/smaps", "re");
	unsigned long begin, end;
	bool ours = false, found = false;
	char line[512];

	while (f && fgets(line, sizeof(line), f)) {
		if (sscanf(line, "%lx-%lx ", &begin, &end) == 2)
			ours = begin == (unsigned long)addr;
		else if (ours && !strncmp(line, "VmFlags:", 8))
			found = strstr(line, flag) != NULL;
	}
	if (f)
		fclose(f);
	return found;
}

TEST(not_in_cores)
{
	const struct vmplat_map_options o = { .flags = VMPLAT_MAP_F_NO_DUMP };
	struct vmplat_map *m, *plain;

	REQUIRE(!vmplat_map_new(&m, 1 << 16, &o) && !vmplat_map_new(&plain, 1 << 16, NULL));
	CHECK(has_flag(vmplat_map_addr(m), " dd"));
	CHECK(!has_flag(vmplat_map_addr(plain), " dd"));
	vmplat_map_close(m);
	vmplat_map_close(plain);
}

/* What cannot be written can be had before it is touched, too. */
TEST(populated_to_be_read)
{
	const struct vmplat_map_options o = {
		.flags = VMPLAT_MAP_F_READ_ONLY | VMPLAT_MAP_F_POPULATE,
	};
	struct vmplat_map *m;

	REQUIRE(!vmplat_map_new(&m, 1 << 16, &o));
	CHECK(can(load, vmplat_map_addr(m)) && !can(store, vmplat_map_addr(m)));
	vmplat_map_close(m);
}

TEST(half_a_placement)
{
	struct vmplat_map *m;

	REQUIRE(!vmplat_map_new(&m, 1 << 16, NULL));
	CHECK_EQ(vmplat_map_place(m, 0, 1 << 16, VMPLAT_MAP_BIND, 0), -EINVAL);
	CHECK(strstr(vmplat_last_error(), "a placement needs nodes"));
	CHECK_EQ(vmplat_map_place(m, 0, 1 << 16, VMPLAT_MAP_ANYWHERE, 1), -EINVAL);
	CHECK(strstr(vmplat_last_error(), "nodes need a placement"));
	vmplat_map_close(m);
}

TEST(refused)
{
	struct vmplat_map_options o = { .flags = 1u << 20 };
	struct vmplat_map *m;

	CHECK_EQ(vmplat_map_new(&m, 0, NULL), -EINVAL);
	CHECK(!m);
	CHECK_EQ(vmplat_map_new(&m, PAGE, &o), -EINVAL);
	o.flags = VMPLAT_MAP_F_HUGE | VMPLAT_MAP_F_HUGE_2M;
	CHECK_EQ(vmplat_map_new(&m, PAGE, &o), -EINVAL);
	o.flags = VMPLAT_MAP_F_NO_ACCESS | VMPLAT_MAP_F_LOCK;
	CHECK_EQ(vmplat_map_new(&m, PAGE, &o), -EINVAL);
	CHECK_EQ(vmplat_map_new(&m, SIZE_MAX - PAGE, NULL), -ENOMEM);
	CHECK_EQ(vmplat_map_new(&m, SIZE_MAX, NULL), -ENOMEM);
	CHECK_EQ(vmplat_map_new(&m, SIZE_MAX / 4, NULL), -ENOMEM);
	o = (struct vmplat_map_options){ .guard_bytes = SIZE_MAX / 2 + 1 };
	CHECK_EQ(vmplat_map_new(&m, PAGE, &o), -ENOMEM);
	CHECK_EQ(vmplat_map_file(&m, -1, 0, PAGE, NULL), -EBADF);
	o = (struct vmplat_map_options){ .flags = VMPLAT_MAP_F_HUGE_2M };
	CHECK_EQ(vmplat_map_file(&m, 0, 0, PAGE, &o), -EINVAL);
	CHECK(!m);
}

TEST(protection)
{
	struct vmplat_map_options none = { .flags = VMPLAT_MAP_F_NO_ACCESS };
	struct vmplat_map *m;
	uint8_t *p;

	REQUIRE(!vmplat_map_new(&m, 4 * PAGE, &none));
	p = vmplat_map_addr(m);
	CHECK(!can(load, p));
	CHECK_EQ(vmplat_map_populate(m, 0, PAGE), -EOPNOTSUPP);
	CHECK(!vmplat_map_protect(m, PAGE + 7, PAGE, PROT_READ | PROT_WRITE));	/* pages 1 and 2 */
	CHECK(!can(load, p) && can(store, p + PAGE) && can(store, p + 3 * PAGE - 1) &&
	      !can(load, p + 3 * PAGE));
	CHECK(!vmplat_map_protect(m, PAGE, PAGE, PROT_READ));
	CHECK(can(load, p + PAGE) && !can(store, p + PAGE));
	CHECK_EQ(vmplat_map_protect(m, 0, PAGE, PROT_READ | PROT_WRITE | PROT_EXEC), -EINVAL);
	CHECK(strstr(vmplat_last_error(), "vmplat_jit"));
	CHECK_EQ(vmplat_map_protect(m, PAGE, 4 * PAGE, PROT_READ), -ERANGE);
	CHECK_EQ(vmplat_map_protect(m, SIZE_MAX, 2, PROT_READ), -ERANGE);
	vmplat_map_close(m);
}

TEST(file)
{
	struct vmplat_map_options o = { .flags = VMPLAT_MAP_F_SHARED };
	int fd = memfd_create("map", MFD_CLOEXEC);
	struct vmplat_map *shared, *private;
	uint8_t b;

	REQUIRE(fd >= 0 && !ftruncate(fd, 4 * PAGE) && pwrite(fd, "x", 1, PAGE) == 1);
	REQUIRE(!vmplat_map_file(&shared, fd, PAGE, 2 * PAGE, &o));
	o.flags = 0;
	REQUIRE(!vmplat_map_file(&private, fd, PAGE, PAGE, &o));
	CHECK_EQ(*(uint8_t *)vmplat_map_addr(shared), 'x');
	*(uint8_t *)vmplat_map_addr(private) = 'p';
	CHECK(pread(fd, &b, 1, PAGE) == 1 && b == 'x');
	*(uint8_t *)vmplat_map_addr(shared) = 's';
	CHECK(pread(fd, &b, 1, PAGE) == 1 && b == 's');
	vmplat_map_close(shared);
	vmplat_map_close(private);
	CHECK_EQ(vmplat_map_file(&shared, fd, 1, PAGE, &o), -EINVAL);
	close(fd);
	o.flags = VMPLAT_MAP_F_SHARED;
	CHECK_EQ(vmplat_map_file(&shared, fd, 0, PAGE, &o), -EBADF);
}

/* status of a child that does @fn */
static int in_child(void (*fn)(void *), void *p)
{
	pid_t pid = fork();
	int status;

	if (!pid)
		_exit(can(fn, p) ? 0 : 1);
	waitpid(pid, &status, 0);
	return WIFEXITED(status) ? WEXITSTATUS(status) : -1;
}

TEST(children)
{
	struct vmplat_map_options o = { .flags = VMPLAT_MAP_F_SHARED };
	struct vmplat_map *m;
	uint8_t *p;

	REQUIRE(!vmplat_map_new(&m, PAGE, &o));
	p = vmplat_map_addr(m);
	CHECK_EQ(in_child(store, p), 0);
	CHECK_EQ(*p, 1);
	vmplat_map_close(m);
	REQUIRE(!vmplat_map_new(&m, PAGE, NULL));
	p = vmplat_map_addr(m);
	CHECK_EQ(in_child(store, p), 0);
	CHECK_EQ(*p, 0);
	vmplat_map_close(m);
	o.flags = VMPLAT_MAP_F_NO_FORK;
	REQUIRE(!vmplat_map_new(&m, PAGE, &o));
	CHECK_EQ(in_child(load, vmplat_map_addr(m)), 1);
	vmplat_map_close(m);
}

static struct vmplat_map_facts facts_of(const struct vmplat_map *m)
{
	struct vmplat_map_facts f;

	if (vmplat_map_query(m, &f))
		abort();
	return f;
}

TEST(facts)
{
	struct vmplat_map *m;
	struct vmplat_map_facts f;
	uint64_t on_nodes = 0;

	REQUIRE(!vmplat_map_new(&m, 100 * PAGE, NULL));
	f = facts_of(m);
	CHECK_EQ(f.resident_bytes, 0);
	CHECK_EQ(f.locked_bytes, 0);
	CHECK_EQ(f.page_bytes, PAGE);
	memset(vmplat_map_addr(m), 1, 10 * PAGE);
	CHECK_EQ(facts_of(m).resident_bytes, 10 * PAGE);
	CHECK(!vmplat_map_populate(m, 90 * PAGE, 10 * PAGE));
	/* the middle has another protection, so there are three kernel mappings */
	CHECK(!vmplat_map_protect(m, 40 * PAGE, PAGE, PROT_READ));
	f = facts_of(m);
	CHECK_EQ(f.resident_bytes, 20 * PAGE);
	for (int i = 0; i < VMPLAT_MAP_NODES_MAX; i++)
		on_nodes += f.node_bytes[i];
	CHECK_EQ(on_nodes, f.has_nodes ? 20 * PAGE : 0);
	vmplat_map_close(m);
}

TEST(locking)
{
	struct vmplat_map_options o = { .flags = VMPLAT_MAP_F_LOCK };
	struct vmplat_map *m;
	int status;
	pid_t pid;

	if (vmplat_map_new(&m, 8 * PAGE, &o)) {
		CHECK(strstr(vmplat_last_error(), "ulimit -l"));
		tap_skip("not even 32 KiB may be locked");
		return;
	}
	CHECK_EQ(facts_of(m).locked_bytes, 8 * PAGE);
	CHECK_EQ(facts_of(m).resident_bytes, 8 * PAGE);
	CHECK(!vmplat_map_unlock(m, 0, 3 * PAGE));
	CHECK_EQ(facts_of(m).locked_bytes, 5 * PAGE);
	vmplat_map_close(m);

	/* over the limit, as somebody whom it binds */
	pid = fork();
	if (!pid) {
		struct rlimit little = { PAGE, PAGE };

		if (setrlimit(RLIMIT_MEMLOCK, &little) || (!geteuid() && setresuid(65534, 65534, 65534)))
			_exit(2);
		if (vmplat_map_new(&m, 8 * PAGE, &o) != -ENOMEM || m)
			_exit(3);
		_exit(strstr(vmplat_last_error(), "limit of 4096 bytes") ? 0 : 4);
	}
	waitpid(pid, &status, 0);
	CHECK(WIFEXITED(status));
	CHECK_EQ(WEXITSTATUS(status), 0);
}

TEST(nodes)
{
	struct vmplat_map_options o = {
		.flags = VMPLAT_MAP_F_POPULATE, .placement = VMPLAT_MAP_BIND, .nodes = 1,
	};
	struct vmplat_map_facts f;
	struct vmplat_map *m;
	int ret = vmplat_map_new(&m, 16 * PAGE, &o);

	if (ret == -EOPNOTSUPP || ret == -EPERM) {
		tap_skip(vmplat_last_error());
		return;
	}
	REQUIRE(!ret);
	f = facts_of(m);
	CHECK(f.has_nodes);
	CHECK_EQ(f.node_bytes[0], 16 * PAGE);
	CHECK_EQ(vmplat_map_place(m, 0, PAGE, VMPLAT_MAP_BIND, 1ULL << 62), -EINVAL);
	CHECK(strstr(vmplat_last_error(), "no node 62"));
	CHECK_EQ(vmplat_map_place(m, 0, PAGE, VMPLAT_MAP_BIND, 0), -EINVAL);
	CHECK_EQ(vmplat_map_place(m, 0, PAGE, VMPLAT_MAP_ANYWHERE, 1), -EINVAL);
	CHECK_EQ(vmplat_map_place(m, 0, PAGE, 9, 1), -EINVAL);
	CHECK(!vmplat_map_place(m, 0, PAGE, VMPLAT_MAP_PREFER, 1));
	CHECK(!vmplat_map_place(m, PAGE, PAGE, VMPLAT_MAP_INTERLEAVE, 1));
	CHECK(!vmplat_map_place(m, 0, 2 * PAGE, VMPLAT_MAP_ANYWHERE, 0));
	vmplat_map_close(m);
	/* a failure on the way leaves nothing */
	o.nodes = 1ULL << 62;
	CHECK_EQ(vmplat_map_new(&m, PAGE, &o), -EINVAL);
	CHECK(!m);
}

TEST(huge_if_it_can)
{
	struct vmplat_map_options o = { .flags = VMPLAT_MAP_F_HUGE | VMPLAT_MAP_F_POPULATE };
	struct vmplat_map_facts f;
	struct vmplat_map *m;

	REQUIRE(!vmplat_map_new(&m, 8 * MIB, &o));
	f = facts_of(m);
	CHECK_EQ((uintptr_t)vmplat_map_addr(m) % (2 * MIB), 0);
	CHECK_EQ(f.resident_bytes, 8 * MIB);
	CHECK(f.huge_bytes <= f.resident_bytes && !(f.huge_bytes % (2 * MIB)));
	vmplat_map_close(m);
	if (!f.huge_bytes)
		tap_skip("the kernel gave no huge pages");
}

/* either they are set aside, and the map has them, or the error says how to */
TEST(huge_or_not_at_all)
{
	struct vmplat_map_options o = { .flags = VMPLAT_MAP_F_HUGE_2M | VMPLAT_MAP_F_POPULATE };
	struct vmplat_map *m;
	int ret = vmplat_map_new(&m, 1, &o);

	if (ret) {
		CHECK(ret == -ENOMEM || ret == -EOPNOTSUPP);
		CHECK(ret != -ENOMEM || strstr(vmplat_last_error(), "hugepages-2048kB/nr_hugepages"));
		CHECK(!m);
		return;
	}
	CHECK_EQ(vmplat_map_bytes(m), 2 * MIB);
	CHECK_EQ(facts_of(m).huge_bytes, 2 * MIB);
	vmplat_map_close(m);
}

int main(void)
{
	RUN(between_guards);
	RUN(long_guards);
	RUN(not_in_cores);
	RUN(populated_to_be_read);
	RUN(half_a_placement);
	RUN(refused);
	RUN(protection);
	RUN(file);
	RUN(children);
	RUN(facts);
	RUN(locking);
	RUN(nodes);
	RUN(huge_if_it_can);
	RUN(huge_or_not_at_all);
	return tap_done();
}
