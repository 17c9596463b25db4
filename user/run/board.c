// SPDX-License-Identifier: GPL-2.0-only
/* The board: COM1, RTC, power, and as much keyboard controller as resets a PC. */
#include "board.h"

#include <errno.h>
#include <stdlib.h>

#include "serial.h"
#include "vm_priv.h"

/* ---- COM1 ------------------------------------------------------------------ */

static void com1_output(void *ctx, const uint8_t *p, size_t n)
{
	struct vm *vm = ctx;

	if (vm->console_output)
		vm->console_output(vm->console_ctx, p, n);
}

static void com1_irq(void *ctx, bool level)
{
	vm_irq_line(ctx, SERIAL_IRQ, level);
}

static const struct serial_ops com1_serial = { com1_output, com1_irq };

static void com1_reset(void *opaque)
{
	struct vm *vm = opaque;

	serial_reset(vm->serial);
}

static void com1_save(void *opaque, struct state_writer *w)
{
	struct vm *vm = opaque;

	serial_save(vm->serial, w);
}

static int com1_load(void *opaque, struct state_reader *r, uint32_t version)
{
	struct vm *vm = opaque;

	return serial_load(vm->serial, r);
}

static void com1_destroy(void *opaque)
{
	struct vm *vm = opaque;

	serial_free(vm->serial);
	vm->serial = NULL;
}

static const struct vm_device_ops com1_ops = {
	.reset = com1_reset,
	.save = com1_save,
	.load = com1_load,
	.destroy = com1_destroy,
};

static int com1_init(struct vm *vm)
{
	vm->serial = serial_new(&com1_serial, vm);
	if (!vm->serial)
		return -ENOMEM;
	vm->com1 = (struct vm_device){
		.name = "serial0", .version = 1, .ops = &com1_ops, .opaque = vm,
	};
	vm_device_add(vm, &vm->com1);
	return bus_register(vm_bus(vm, VM_PIO), SERIAL_PORT, 8, &serial_bus_ops, vm->serial);
}

/* ---- keyboard controller: status says empty, command 0xfe resets ------------- */

static uint64_t i8042_read(void *opaque, uint64_t off, unsigned int len)
{
	return 0;
}

static void i8042_write(void *opaque, uint64_t off, unsigned int len, uint64_t val)
{
	if ((val & 0xff) == 0xfe)
		vm_request(opaque, VM_REQ_RESET);
}

static const struct bus_ops i8042_bus = { i8042_read, i8042_write };

int i8042_init(struct vm *vm)
{
	return bus_register(vm_bus(vm, VM_PIO), 0x64, 1, &i8042_bus, vm);
}

int board_init(struct vm *vm)
{
	int ret = com1_init(vm);

	if (!ret)
		ret = rtc_init(vm);
	if (!ret)
		ret = power_init(vm);
	if (!ret)
		ret = i8042_init(vm);
	return ret;
}
