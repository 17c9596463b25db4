// SPDX-License-Identifier: GPL-2.0-only
/*
 * iommufd, which pins what it maps, and its mock IOMMU, which knows what a device wrote: a log
 * has to have all of that, as long as it is mapped and once more afterwards.
 *
 * Needs CONFIG_IOMMUFD_TEST (the debug kernel). Its interface is no header of the system's.
 */
#include <fcntl.h>
#include <stdlib.h>
#include <sys/ioctl.h>
#include <sys/mman.h>
#include <unistd.h>

#include "mem/util.h"

#define NR	64
#define FIRST	8
#define COUNT	16
#define IOVA	(1UL << 24)	/* where the mock can address memory */
#define MOCK_PAGE (PAGE / 2)

/* ---- the interface --------------------------------------------------------- */

#define IOMMUFD(nr)	_IO(';', 0x80 + (nr))
#define IOAS_ALLOC	IOMMUFD(1)
#define IOAS_MAP	IOMMUFD(5)
#define IOAS_UNMAP	IOMMUFD(6)
#define HWPT_ALLOC	IOMMUFD(9)
#define SET_TRACKING	IOMMUFD(11)
#define GET_BITMAP	IOMMUFD(12)
#define TEST		IOMMUFD(32)

enum { MAP_FIXED_IOVA = 1, MAP_WRITE = 2, MAP_READ = 4 };
enum { ALLOC_DIRTY_TRACKING = 2 };
enum { TEST_MOCK_DOMAIN = 2, TEST_CREATE_ACCESS = 5, TEST_ACCESS_RW = 8, TEST_DIRTY = 13 };
enum { ACCESS_WRITE = 1, ACCESS_SLOW = 4 };	/* not through the page table of who asks */

struct test {
	uint32_t size, op, id, reserved;
	union {
		struct { uint32_t stdev, hwpt, idev; } mock;
		struct { uint32_t fd, flags; } access;
		struct { uint64_t iova, length, uptr; uint32_t flags; } rw;
		struct { uint32_t flags; uint64_t iova, length, page_size, uptr, nr; } dirty;
		uint8_t room[48];
	};
	uint32_t last;
};

static int iommufd, mem, log_fd, access_fd;
static uint32_t ioas, tracker;
static volatile uint8_t *map;

/* ---- a device of the mock, tracked ------------------------------------------- */

static void attach(void)
{
	struct { uint32_t size, flags, id; } alloc = { sizeof(alloc) };
	struct test t = { .size = sizeof(t), .op = TEST_MOCK_DOMAIN };
	struct test access = { .size = sizeof(access), .op = TEST_CREATE_ACCESS };
	struct {
		uint32_t size, flags, dev, pt, hwpt, reserved, type, len;
		uint64_t uptr;
		uint32_t fault, reserved2;
	} hwpt = { .size = sizeof(hwpt), .flags = ALLOC_DIRTY_TRACKING };
	struct { uint32_t size, flags, hwpt, reserved; } on = { sizeof(on), 1 };

	need(ioctl(iommufd, IOAS_ALLOC, &alloc));
	ioas = alloc.id;
	t.id = ioas;
	need(ioctl(iommufd, TEST, &t));
	hwpt.dev = t.mock.idev;
	hwpt.pt = ioas;
	need(ioctl(iommufd, HWPT_ALLOC, &hwpt));
	tracker = on.hwpt = hwpt.hwpt;
	need(ioctl(iommufd, SET_TRACKING, &on));
	access.id = ioas;
	need(ioctl(iommufd, TEST, &access));
	access_fd = access.access.fd;
}

static int dma_map(uint64_t page, uint64_t nr, uint32_t prot)
{
	struct {
		uint32_t size, flags, ioas, reserved;
		uint64_t va, length, iova;
	} arg = { sizeof(arg), MAP_FIXED_IOVA | prot, ioas, 0, (uintptr_t)(map + page * PAGE), nr * PAGE,
		  IOVA + page * PAGE };

	return ioctl(iommufd, IOAS_MAP, &arg);
}

static int dma_unmap(uint64_t page, uint64_t nr)
{
	struct {
		uint32_t size, ioas;
		uint64_t iova, length;
	} arg = { sizeof(arg), ioas, IOVA + page * PAGE, nr * PAGE };

	return ioctl(iommufd, IOAS_UNMAP, &arg);
}

/* As a device would: the bytes through the pin, the bit in the mock's page table. */
static void dma_write(uint64_t page, uint8_t value)
{
	uint8_t bytes[16];
	uint64_t bit = 1;
	struct test w = {
		.size = sizeof(w), .op = TEST_ACCESS_RW, .id = access_fd,
		.rw = { IOVA + page * PAGE, sizeof(bytes), (uintptr_t)bytes, ACCESS_WRITE | ACCESS_SLOW },
	};
	struct test d = {
		.size = sizeof(d), .op = TEST_DIRTY, .id = tracker,
		.dirty = { 0, IOVA + page * PAGE, MOCK_PAGE, MOCK_PAGE, (uintptr_t)&bit, 0 },
	};

	memset(bytes, value, sizeof(bytes));
	need(ioctl(iommufd, TEST, &w));
	need(ioctl(iommufd, TEST, &d));
	is_int(d.dirty.nr, 1, "a device writes page %u", (unsigned int)page);
}

/* What the hardware knows of the pages written() has mapped. */
static uint64_t hardware(void)
{
	uint64_t bits = 0;
	struct {
		uint32_t size, hwpt, flags, reserved;
		uint64_t iova, length, page_size, data;
	} arg = { sizeof(arg), tracker, 0, 0, IOVA + FIRST * PAGE, COUNT * PAGE, PAGE, (uintptr_t)&bits };

	need(ioctl(iommufd, GET_BITMAP, &arg));
	return bits << FIRST;
}

/* ---- what the log says --------------------------------------------------------- */

static uint64_t pages(unsigned int first, unsigned int nr)
{
	return ((1ULL << nr) - 1) << first;
}

static void reports(uint64_t want, uint64_t unsure, const char *what)
{
	uint64_t bits = 0;
	struct vmplat_log_fetch f = {
		.flags = VMPLAT_LOG_FETCH_F_CLEAR, .nr_pages = NR, .buf = (uintptr_t)&bits,
		.buf_bytes = sizeof(bits),
	};

	need(log_fetch(log_fd, &f));
	if (!ok(bits == want && f.out_nr_unsure == unsure, "%s", what))
		diag("%#llx, %llu unsure", (unsigned long long)bits, f.out_nr_unsure);
}

static void written(void)
{
	need(dma_map(FIRST, COUNT, MAP_READ | MAP_WRITE));
	need(dma_map(40, 4, MAP_READ));
	need(log_bitmap(log_fd, VMPLAT_LOG_FETCH_F_CLEAR, NR, &(uint64_t) { 0 }));
	reports(pages(FIRST, COUNT) | pages(40, 4), 20, "what iommufd pinned is reported, nobody knows better");
	is_int(hardware(), 0, "but the hardware, which saw nothing");
	dma_write(9, 0x5a);
	dma_write(20, 0x5b);
	is_int(hardware(), pages(9, 1) | pages(20, 1), "the hardware knows which");
	reports(pages(FIRST, COUNT) | pages(40, 4), 18, "the log has these among the others, and knows that they are");
	ok(map[9 * PAGE] == 0x5a && map[20 * PAGE] == 0x5b, "they are written");
	is_int(hardware(), 0, "the hardware told once");
	reports(pages(FIRST, COUNT) | pages(40, 4), 20, "the log tells each time");
	dma_write(10, 0x5c);
	need(dma_unmap(FIRST, COUNT));
	reports(pages(FIRST, COUNT) | pages(40, 4), 4, "unmapped, iommufd says that all was written");
	reports(pages(40, 4), 4, "and not again");
	need(dma_unmap(40, 4));
	reports(0, 0, "what could only be read was not");
}

/* Everything ends with the descriptor. */
static void closed(void)
{
	need(dma_map(0, 4, MAP_READ | MAP_WRITE));
	need(log_bitmap(log_fd, VMPLAT_LOG_FETCH_F_CLEAR, NR, &(uint64_t) { 0 }));
	reports(pages(0, 4), 4, "mapped again");
	dma_write(2, 0x11);
	close(access_fd);
	close(iommufd);
	reports(pages(0, 4), 0, "closed, all of it is reported once more");
	reports(0, 0, "then no more");
	ok(map[2 * PAGE] == 0x11, "and one was written");
}

int main(void)
{
	dev_open();
	if (system("$(cat /proc/sys/kernel/modprobe) -q iommufd"))
		skip_all("this kernel has no iommufd");
	iommufd = need(open("/dev/iommu", O_RDWR | O_CLOEXEC));
	mem = need(mem_new_kind(NR * PAGE, VMPLAT_MEM_F_PINNABLE));
	map = map_mem(mem, NR * PAGE);
	memset((void *)map, 1, NR * PAGE);
	log_fd = need(log_new(mem, 0, 0));
	lru_drain();
	need(log_bitmap(log_fd, VMPLAT_LOG_FETCH_F_CLEAR, NR, &(uint64_t) { 0 }));
	attach();
	written();
	closed();
	munmap((void *)map, NR * PAGE);
	close(log_fd);
	close(mem);
	return done();
}
