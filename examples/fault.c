// SPDX-License-Identifier: GPL-2.0-only
/*
 * Three things to do with memory that cannot be touched: fill it when it is, put a device
 * behind it, and live through its loss.
 *
 *	cc fault.c $(pkg-config --cflags --libs vmplat) -o fault && ./fault
 */
#include <stdio.h>
#include <string.h>
#include <sys/mman.h>
#include <unistd.h>

#include <vmplat_error.h>
#include <vmplat_fault.h>

#define PAGE	4096UL
#define PAGES	16UL

static int die(const char *what)
{
	fprintf(stderr, "fault: %s: %s\n", what, vmplat_last_error());
	return 1;
}

static char *reserve(size_t bytes)
{
	void *p = mmap(NULL, bytes, PROT_NONE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);

	return p == MAP_FAILED ? NULL : p;
}

/* ---- pages that come when they are wanted ------------------------------------------ */

static enum vmplat_fault_verdict bring(const struct vmplat_fault *fault, void *data)
{
	char *page = (char *)(fault->addr & ~(PAGE - 1));

	if (mprotect(page, PAGE, PROT_READ | PROT_WRITE))
		return VMPLAT_FAULT_PASS;
	memset(page, 'a' + (int)((page - (char *)data) / (long)PAGE), PAGE);
	return VMPLAT_FAULT_RETRY;
}

static int lazy(void)
{
	struct vmplat_fault_range *range;
	char *base = reserve(PAGES * PAGE);

	if (!base || vmplat_fault_add(&range, base, PAGES * PAGE, bring, base, 0))
		return die("lazy memory");
	printf("page 0 has '%c', page 7 has '%c'\n", base[0], base[7 * PAGE]);
	vmplat_fault_remove(range);
	munmap(base, PAGES * PAGE);
	return 0;
}

/* ---- a counter that is a register ----------------------------------------------------- */

static uint64_t counter_read(void *data, uint64_t offset, unsigned int bytes)
{
	return offset ? 0 : ++*(uint64_t *)data;
}

static void counter_write(void *data, uint64_t offset, unsigned int bytes, uint64_t value)
{
	if (!offset)
		*(uint64_t *)data = value;
}

static int device(void)
{
	static const struct vmplat_mmio_ops ops = { counter_read, counter_write };
	struct vmplat_fault_range *range;
	uint64_t counter = 0;
	volatile uint32_t *reg;

	reg = (volatile uint32_t *)reserve(PAGE);
	if (!reg)
		return die("memory");
	if (vmplat_fault_add_mmio(&range, (void *)reg, PAGE, &ops, &counter, 0)) {
		printf("no device: %s\n", vmplat_last_error());	/* not on this processor */
		return 0;
	}
	*reg = 41;
	printf("the register says %u\n", *reg);
	vmplat_fault_remove(range);
	munmap((void *)reg, PAGE);
	return 0;
}

/* ---- a file that gets shorter --------------------------------------------------------- */

struct sum {
	const unsigned char *p;
	size_t bytes;
	unsigned long sum;
};

static void add_up(void *data)
{
	struct sum *s = data;

	for (size_t i = 0; i < s->bytes; i++)
		s->sum += s->p[i];
}

static int truncated(void)
{
	struct sum s = { .bytes = 4 * PAGE };
	struct vmplat_fault fault;
	int fd = memfd_create("example", MFD_CLOEXEC);
	char words[128];

	if (fd < 0 || ftruncate(fd, 4 * PAGE))
		return die("memfd");
	s.p = mmap(NULL, s.bytes, PROT_READ, MAP_SHARED, fd, 0);
	if (s.p == MAP_FAILED || ftruncate(fd, PAGE))
		return die("mapping");
	if (!vmplat_fault_try(s.p, s.bytes, add_up, &s, &fault))
		return die("nothing happened");
	vmplat_fault_text(&fault, words, sizeof(words));
	printf("the file ended at byte %zu; %.7s did not end us\n",
	       (size_t)(fault.addr - (uintptr_t)s.p), words);
	munmap((void *)s.p, s.bytes);
	close(fd);
	return 0;
}

int main(void)
{
	return lazy() || device() || truncated();
}
