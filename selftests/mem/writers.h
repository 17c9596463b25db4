/* SPDX-License-Identifier: GPL-2.0-only */
/*
 * Every way a page of a shared file mapping can be written, as threads and a
 * process that do it until they are stopped.
 *
 * Each writer owns one slot of every page. Writing a slot fills it with the
 * writer's next generation for that page; once the write has completed, the
 * generation is published in done(). So whoever reads a page later than done()
 * must find at least that generation. The puncher owns no slot: on hole pages
 * (is_hole()) generations may fall back to zero.
 */
#ifndef TEST_WRITERS_H
#define TEST_WRITERS_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

enum writer {
	W_SEQ,		/* CPU stores, page after page */
	W_RANDOM,	/* CPU stores, here and there */
	W_PROCESS,	/* CPU stores of a second process, through its own mapping */
	W_PWRITE,
	W_READ,		/* read(2) from a pipe into the mapping */
	W_URING,	/* the same by io_uring, from a file */
	W_SPLICE,	/* a pipe spliced to the file */
	W_VMSPLICE,	/* a pipe vmspliced into the mapping */
	W_VM_WRITEV,	/* process_vm_writev() into the second process */
	W_PROC_MEM,	/* /proc/PID/mem, what ptrace POKE does */
	W_KVM,		/* stores of a guest */
	W_REMAP,	/* CPU stores through a mapping that comes and goes */
	W_DIRECT,	/* O_DIRECT read from a block device into the mapping */
	W_URING_DIRECT,	/* the same, asynchronously */
	NR_SLOTS,
	W_PUNCH = NR_SLOTS,	/* punches holes into hole pages */
	NR_WRITERS,
};

extern const char *const writer_names[NR_WRITERS];

/* Start those of @mask that work here; tells about the others. */
void writers_start(int mem_fd, void *map, uint64_t nr_pages, uint32_t mask);
void writers_stop(void);
/* Wait until no write is under way and keep new ones from starting. */
void writers_pause(void);
void writers_resume(void);
bool writer_active(enum writer w);
uint64_t writer_ops(enum writer w);

bool is_hole(uint64_t page);
/* Generation of @w in a copy of a page. */
uint32_t slot_gen(const void *page, enum writer w);
uint32_t done_gen(enum writer w, uint64_t page);

#endif /* TEST_WRITERS_H */
