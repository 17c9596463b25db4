// SPDX-License-Identifier: GPL-2.0-only
/*
 * A compiler for sums: "3 + 4 - 2" becomes machine code that is run. The code is written through one
 * view and executed through another; no memory is ever both.
 *
 *	cc jit.c $(pkg-config --cflags --libs vmplat) -o jit && ./jit "3 + 4 - 2"
 */
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <vmplat_error.h>
#include <vmplat_map.h>

#define CODE_BYTES	4096UL

struct code {
	uint8_t *at, *end;
};

static void put(struct code *c, const void *bytes, size_t n)
{
	if (c->at + n <= c->end)
		memcpy(c->at, bytes, n);
	c->at += n;
}

/* result = value, result += value, or result -= value, where the processor's ABI returns an int */
static void put_step(struct code *c, char op, int32_t value)
{
#if defined(__x86_64__)
	uint8_t opcode = op == '=' ? 0xb8 : op == '+' ? 0x05 : 0x2d;	/* MOV, ADD, SUB eax */

	put(c, &opcode, 1);
	put(c, &value, 4);
#elif defined(__aarch64__)
	uint32_t insns[3] = {
		0x52800001 | (uint32_t)(value & 0xffff) << 5,		/* MOVZ w1 */
		0x72a00001 | ((uint32_t)value >> 16) << 5,		/* MOVK w1, lsl 16 */
		op == '=' ? 0x2a0103e0 : op == '+' ? 0x0b010000 : 0x4b010000,
	};

	put(c, insns, sizeof(insns));
#else
	(void)op, (void)value;
#endif
}

static void put_return(struct code *c)
{
#if defined(__x86_64__)
	put(c, "\xc3", 1);
#elif defined(__aarch64__)
	put(c, "\xc0\x03\x5f\xd6", 4);
#endif
}

/* false: not a sum */
static int compile(struct code *c, const char *text)
{
	char op = '=', *end;

	for (;;) {
		long value = strtol(text, &end, 10);

		if (end == text)
			return 0;
		put_step(c, op, (int32_t)value);
		text = end + strspn(end, " ");
		if (!*text)
			break;
		op = *text++;
		if (op != '+' && op != '-')
			return 0;
	}
	put_return(c);
	return 1;
}

int main(int argc, char **argv)
{
	const char *text = argc > 1 ? argv[1] : "3 + 4 - 2";
	struct vmplat_jit *jit;
	struct code c;
	int (*sum)(void);

#if !defined(__x86_64__) && !defined(__aarch64__)
	puts("this compiler does not know this processor");
	return 0;
#endif
	if (vmplat_jit_new(&jit, CODE_BYTES)) {
		fprintf(stderr, "jit: %s\n", vmplat_last_error());
		return 1;
	}
	c = (struct code){ vmplat_jit_write(jit), (uint8_t *)vmplat_jit_write(jit) + CODE_BYTES };
	if (!compile(&c, text) || c.at > c.end) {
		fprintf(stderr, "jit: '%s' is no sum that fits\n", text);
		return 1;
	}
	if (vmplat_jit_publish(jit, 0, CODE_BYTES, 0) || vmplat_jit_seal(jit)) {
		fprintf(stderr, "jit: %s\n", vmplat_last_error());
		return 1;
	}
	sum = (int (*)(void))(uintptr_t)vmplat_jit_exec(jit);
	printf("%s = %d\n", text, sum());
	vmplat_jit_close(jit);
	return 0;
}
