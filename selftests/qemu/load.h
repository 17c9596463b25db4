/* SPDX-License-Identifier: GPL-2.0-only */
/*
 * What the guest's program writes, and therefore what any image of one instant
 * must look like.
 *
 * The program owns a number of pages. Each names itself (a magic word and its
 * index) and carries a generation, at its head, in its body and at its tail. The
 * program writes the pages in order of their index, all of them with generation
 * 1, then all of them with 2, and so on. So at any instant the pages before
 * some index k have generation g, those after it have g - 1, and page k may be
 * half written. An image made of two instants breaks this.
 */
#ifndef QEMU_LOAD_H
#define QEMU_LOAD_H

#include <stdint.h>

enum {
	LOAD_MAGIC,
	LOAD_INDEX,
	LOAD_HEAD,
	LOAD_BODY,
	LOAD_TAIL = 511,
	LOAD_WORDS,
};

/* Made at run time: the program's own text must not look like one of its pages. */
static inline uint64_t load_magic(void)
{
	volatile uint64_t half = 0x766d706c61742031;

	return half * 0x9e3779b97f4a7c15;
}

static inline uint64_t load_body(uint64_t generation, uint64_t index, unsigned int word)
{
	return generation * 0x100000001b3 + index * 512 + word;
}

#endif
