/* SPDX-License-Identifier: GPL-2.0-only */
/*
 * Where COM1 ends: the terminal, standard input and output that are none, a file,
 * or nowhere. On a terminal it is raw and Ctrl-A is the escape key.
 */
#ifndef VMPLAT_RUN_CONSOLE_H
#define VMPLAT_RUN_CONSOLE_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

struct console;

enum console_key {
	CONSOLE_NOTHING,
	CONSOLE_QUIT,
	CONSOLE_PAUSE,		/* or resume */
	CONSOLE_EOF,
};

/**
 * console_open - @what: "stdio", "none" or the name of a file to append to
 *
 * -errno; the terminal becomes raw in console_start().
 */
int console_open(struct console **c, const char *what);
void console_start(struct console *c);
/** console_close - also restores the terminal, as does any exit of the process */
void console_close(struct console *c);

/** console_input_fd - to poll for input, -1 if there is none */
int console_input_fd(const struct console *c);
/**
 * console_read - take input, at most @room bytes for the guest into @buf
 *
 * Returns how many; *@key tells what else was typed.
 */
size_t console_read(struct console *c, uint8_t *buf, size_t room, enum console_key *key);
/** console_write - the guest's output; any thread */
void console_write(void *console, const uint8_t *p, size_t n);

#endif
