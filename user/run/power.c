// SPDX-License-Identifier: GPL-2.0-only
/*
 * The ways a guest ends: ACPI's PM1 block with power button and timer (ACPI 6.5,
 * 4.8), the reset port 0xcf9, port 0x92.
 *
 * State, "power" version 1: u16 PM1 status, enable, control; u32 timer.
 */
#include <errno.h>
#include <pthread.h>
#include <stdlib.h>

#include "board.h"
#include "vm_priv.h"

#define PM1_PWRBTN	(1u << 8)
#define PM1_SLP_EN	(1u << 13)
#define PM1_SCI_EN	(1u << 0)
#define PM_TMR_HZ	3579545ULL

struct power {
	struct vm_device dev;
	struct vm *vm;
	pthread_mutex_t lock;		/* all below */
	uint16_t status, enable, control;
	uint32_t timer_base;		/* ticks to add to the host's clock */
	uint8_t reset_port;
};

/* lock held */
static void update_sci(struct power *p)
{
	vm_irq_line(p->vm, ACPI_SCI, !!(p->status & p->enable));
}

static uint64_t evt_read(void *opaque, uint64_t off, unsigned int len)
{
	struct power *p = opaque;
	uint32_t v;

	pthread_mutex_lock(&p->lock);
	v = (uint32_t)p->enable << 16 | p->status;
	pthread_mutex_unlock(&p->lock);
	return v >> (8 * off);
}

/* status is cleared by ones, enable is plain; any width */
static void evt_write(void *opaque, uint64_t off, unsigned int len, uint64_t val)
{
	struct power *p = opaque;
	uint64_t mask = (len >= 4 ? 0xffffffffULL : (1ULL << 8 * len) - 1) << (8 * off);
	uint64_t v = val << (8 * off);

	pthread_mutex_lock(&p->lock);
	p->status &= (uint16_t)~(v & mask);
	p->enable = (uint16_t)((p->enable & ~(mask >> 16)) | (v >> 16 & mask >> 16));
	update_sci(p);
	pthread_mutex_unlock(&p->lock);
}

static uint64_t cnt_read(void *opaque, uint64_t off, unsigned int len)
{
	struct power *p = opaque;
	uint32_t v;

	pthread_mutex_lock(&p->lock);
	v = p->control | PM1_SCI_EN;
	pthread_mutex_unlock(&p->lock);
	return v >> (8 * off);
}

static void cnt_write(void *opaque, uint64_t off, unsigned int len, uint64_t val)
{
	struct power *p = opaque;
	uint64_t mask = (len >= 2 ? 0xffffULL : 0xffULL) << (8 * off);
	uint64_t v = val << (8 * off) & mask;

	pthread_mutex_lock(&p->lock);
	p->control = (uint16_t)((p->control & ~mask) | v) & (uint16_t)~PM1_SLP_EN;
	pthread_mutex_unlock(&p->lock);
	if (v & PM1_SLP_EN && (v >> 10 & 7) == ACPI_S5_TYPE)
		vm_request(p->vm, VM_REQ_POWEROFF);
}

static uint32_t ticks(void)
{
	return (uint32_t)((unsigned __int128)vmplat_now_ns() * PM_TMR_HZ / 1000000000u);
}

static uint64_t tmr_read(void *opaque, uint64_t off, unsigned int len)
{
	struct power *p = opaque;
	uint32_t v;

	pthread_mutex_lock(&p->lock);
	v = ticks() + p->timer_base;
	pthread_mutex_unlock(&p->lock);
	return v >> (8 * off);
}

static uint64_t reset_read(void *opaque, uint64_t off, unsigned int len)
{
	struct power *p = opaque;

	return p->reset_port;
}

static void reset_write(void *opaque, uint64_t off, unsigned int len, uint64_t val)
{
	struct power *p = opaque;

	p->reset_port = val & 0x0a;
	if (val & 4)
		vm_request(p->vm, VM_REQ_RESET);
}

static uint64_t a20_read(void *opaque, uint64_t off, unsigned int len)
{
	return 2;
}

static void a20_write(void *opaque, uint64_t off, unsigned int len, uint64_t val)
{
	struct power *p = opaque;

	if (val & 1)
		vm_request(p->vm, VM_REQ_RESET);
}

static const struct bus_ops evt_bus = { evt_read, evt_write };
static const struct bus_ops cnt_bus = { cnt_read, cnt_write };
static const struct bus_ops tmr_bus = { tmr_read, NULL };
static const struct bus_ops reset_bus = { reset_read, reset_write };
static const struct bus_ops a20_bus = { a20_read, a20_write };

void power_button(struct vm *vm)
{
	struct power *p = vm->power;

	pthread_mutex_lock(&p->lock);
	p->status |= PM1_PWRBTN;
	update_sci(p);
	pthread_mutex_unlock(&p->lock);
}

static void power_reset(void *opaque)
{
	struct power *p = opaque;

	pthread_mutex_lock(&p->lock);
	p->status = p->enable = p->control = 0;
	p->reset_port = 0;
	update_sci(p);
	pthread_mutex_unlock(&p->lock);
}

static void power_save(void *opaque, struct state_writer *w)
{
	struct power *p = opaque;

	pthread_mutex_lock(&p->lock);
	state_put_u16(w, p->status);
	state_put_u16(w, p->enable);
	state_put_u16(w, p->control);
	state_put_u32(w, ticks() + p->timer_base);
	pthread_mutex_unlock(&p->lock);
}

static int power_load(void *opaque, struct state_reader *r, uint32_t version)
{
	struct power *p = opaque;

	pthread_mutex_lock(&p->lock);
	p->status = state_get_u16(r);
	p->enable = state_get_u16(r);
	p->control = state_get_u16(r);
	p->timer_base = state_get_u32(r) - ticks();
	update_sci(p);
	pthread_mutex_unlock(&p->lock);
	return r->err;
}

static void power_destroy(void *opaque)
{
	free(opaque);
}

static const struct vm_device_ops power_ops = {
	.reset = power_reset,
	.save = power_save,
	.load = power_load,
	.destroy = power_destroy,
};

int power_init(struct vm *vm)
{
	struct power *p = calloc(1, sizeof(*p));
	int ret;

	if (!p)
		return -ENOMEM;
	p->vm = vm;
	pthread_mutex_init(&p->lock, NULL);
	p->dev = (struct vm_device){
		.name = "power", .version = 1, .ops = &power_ops, .opaque = p,
	};
	vm_device_add(vm, &p->dev);
	vm->power = p;
	ret = bus_register(vm_bus(vm, VM_PIO), ACPI_PM1_EVT, 4, &evt_bus, p);
	if (!ret)
		ret = bus_register(vm_bus(vm, VM_PIO), ACPI_PM1_CNT, 2, &cnt_bus, p);
	if (!ret)
		ret = bus_register(vm_bus(vm, VM_PIO), ACPI_PM_TMR, 4, &tmr_bus, p);
	if (!ret)
		ret = bus_register(vm_bus(vm, VM_PIO), RESET_PORT, 1, &reset_bus, p);
	if (!ret)
		ret = bus_register(vm_bus(vm, VM_PIO), 0x92, 1, &a20_bus, p);
	return ret;
}
