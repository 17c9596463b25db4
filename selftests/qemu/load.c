// SPDX-License-Identifier: GPL-2.0-only
/*
 * load MIB [BUSY]: what runs inside the guest; see load.h. With BUSY only the first
 * so many MiB are written over and over (and the model is about those). It checks
 * every page before it writes it again, says on the console how far it is, and
 * ends when a line comes in.
 */
#include <poll.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/mman.h>

#include "qemu/load.h"

#define PAGE_BYTES	(LOAD_WORDS * sizeof(uint64_t))

static void write_page(volatile uint64_t *page, uint64_t index, uint64_t generation)
{
	page[LOAD_HEAD] = generation;
	for (unsigned int i = LOAD_BODY; i < LOAD_TAIL; i++)
		page[i] = load_body(generation, index, i);
	page[LOAD_TAIL] = generation;
}

static int whole(volatile const uint64_t *page, uint64_t index, uint64_t generation)
{
	if (page[LOAD_MAGIC] != load_magic() || page[LOAD_INDEX] != index ||
	    page[LOAD_HEAD] != generation || page[LOAD_TAIL] != generation)
		return 0;
	for (unsigned int i = LOAD_BODY; i < LOAD_TAIL; i++)
		if (page[i] != load_body(generation, index, i))
			return 0;
	return 1;
}

static uint64_t *new_pages(size_t nr)
{
	uint64_t *pages = mmap(NULL, nr * PAGE_BYTES, PROT_READ | PROT_WRITE,
			       MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);

	if (pages == MAP_FAILED)
		return NULL;
	madvise(pages, nr * PAGE_BYTES, MADV_NOHUGEPAGE);
	for (size_t i = 0; i < nr; i++) {
		write_page(pages + i * LOAD_WORDS, i, 0);
		pages[i * LOAD_WORDS + LOAD_INDEX] = i;
		pages[i * LOAD_WORDS + LOAD_MAGIC] = load_magic();
	}
	return pages;
}

int main(int argc, char **argv)
{
	size_t nr = argc > 1 ? strtoul(argv[1], NULL, 0) * (1 << 20) / PAGE_BYTES : 0;
	size_t busy = argc > 2 ? strtoul(argv[2], NULL, 0) * (1 << 20) / PAGE_BYTES : nr;
	uint64_t *pages = nr ? new_pages(nr) : NULL;
	uint64_t generation = 0;
	struct pollfd in = { .fd = 0, .events = POLLIN };

	setvbuf(stdout, NULL, _IOLBF, 0);
	if (!pages) {
		printf("load: cannot start\n");
		return 2;
	}
	while (poll(&in, 1, 0) != 1) {
		generation++;
		for (size_t i = 0; i < busy; i++) {
			if (!whole(pages + i * LOAD_WORDS, i, generation - 1)) {
				printf("load: page %zu is damaged in round %lu\n", i, generation);
				return 1;
			}
			write_page(pages + i * LOAD_WORDS, i, generation);
		}
		printf("load: round %lu\n", generation);
	}
	printf("load: done, %lu rounds, every page whole\n", generation);
	return 0;
}
