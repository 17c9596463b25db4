// SPDX-License-Identifier: GPL-2.0-only
/*
 * A guest of 1 KiB in place of firmware, in machine mode, for where no kernel would come up in
 * time. It counts aloud, five times a second, over memory that it fills and reads again, until a
 * byte comes in; then it says whether all of it was right, and powers off.
 */
#include <stdbool.h>
#include <stdint.h>

/* QEMU's machine virt */
#define UART		((volatile uint8_t *)0x10000000)
#define UART_STATUS	5
#define RECEIVED	1
#define MAY_SEND	0x20
#define TIME		(*(volatile uint64_t *)0x0200bff8)	/* 10 MHz */
#define POWER		(*(volatile uint32_t *)0x00100000)
#define POWER_OFF	0x5555

#define PAGES		32
#define WORDS		(4096 / 8)
#define MEMORY		((volatile uint64_t *)0x81000000)

__asm__(".section .text.startup,\"ax\"\n.globl _start\n_start: li sp, 0x80800000\ncall begin\n.text\n");

static void say_char(char c)
{
	while (!(UART[UART_STATUS] & MAY_SEND))
		;
	UART[0] = (uint8_t)c;
}

static void say(const char *text)
{
	for (; *text; text++)
		say_char(*text);
}

static void say_number(uint64_t n)
{
	if (n >= 10)
		say_number(n / 10);
	say_char((char)('0' + n % 10));
}

static uint64_t value(uint64_t round, unsigned int at)
{
	return (round << 32 | at) * 0x9e3779b97f4a7c15;
}

static bool holds(uint64_t round)
{
	for (unsigned int i = 0; i < PAGES * WORDS; i++)
		if (MEMORY[i] != value(round, i))
			return false;
	return true;
}

__attribute__((noreturn, used)) void begin(void)
{
	uint64_t round = 1, next = TIME;
	bool whole = true;

	for (; !(UART[UART_STATUS] & RECEIVED); round++) {
		for (unsigned int i = 0; i < PAGES * WORDS; i++)
			MEMORY[i] = value(round, i);
		next += 2000000;
		while (TIME < next)
			;
		whole &= holds(round);
		say("round ");
		say_number(round);
		say(whole ? "\n" : " BAD\n");
	}
	say(whole ? "every page whole\n" : "pages are lost\n");
	for (;;)
		POWER = POWER_OFF;
}
