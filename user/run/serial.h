/* SPDX-License-Identifier: GPL-2.0-only */
/*
 * A 16550A UART. Its other end is two functions, so that it can be tested without
 * a VM: where bytes go, and where its interrupt line goes.
 */
#ifndef VMPLAT_RUN_SERIAL_H
#define VMPLAT_RUN_SERIAL_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "bus.h"
#include "state.h"

struct serial;

struct serial_ops {
	void (*output)(void *ctx, const uint8_t *p, size_t n);
	void (*irq)(void *ctx, bool level);
};

struct serial *serial_new(const struct serial_ops *ops, void *ctx);
void serial_free(struct serial *s);
/* the 8 registers, for a bus range or a test */
extern const struct bus_ops serial_bus_ops;

/* room for input now, and bytes for the guest; takes what fits */
size_t serial_input_room(struct serial *s);
size_t serial_input(struct serial *s, const uint8_t *p, size_t n);
/* called, on whatever thread made it, when there is room for input again */
void serial_on_room(struct serial *s, void (*fn)(void *ctx), void *ctx);

void serial_reset(struct serial *s);
void serial_save(struct serial *s, struct state_writer *w);
int serial_load(struct serial *s, struct state_reader *r);

#endif
