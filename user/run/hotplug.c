// SPDX-License-Identifier: LGPL-2.1-or-later
/*
 * State, "hotplug" version 1: u64 added, u64 wanted. What memory slots hold is
 * what the VM is made of; answers are of no use to another process, which is why
 * no snapshot is taken while somebody waits for one.
 */
#include "hotplug.h"

#include <errno.h>
#include <pthread.h>
#include <stdlib.h>
#include <string.h>

#include "vm.h"

struct mem_slot {
	uint64_t gpa, bytes;
	bool described;
};

struct answer {
	bool given;
	uint8_t event, status;
};

struct hotplug {
	struct vm_device dev;
	struct vm *vm;
	pthread_mutex_t lock;		/* all below; vm_irq_line() is called under it */
	uint64_t added, wanted, ejected;
	struct answer answers[HOTPLUG_UNITS];
	struct mem_slot mem[HOTPLUG_MEM_SLOTS];
};

#define UNITS_MASK ((UINT64_C(1) << HOTPLUG_UNITS) - 1)

static uint64_t bit(unsigned int unit)
{
	return UINT64_C(1) << unit;
}

/* lock held */
static void update_line(struct hotplug *hp)
{
	vm_irq_line(hp->vm, HOTPLUG_GSI, (hp->added | hp->wanted) != 0);
}

/* ---- the guest's side ---------------------------------------------------- */

static uint32_t half(uint64_t val, unsigned int off)
{
	return (uint32_t)(val >> (off & 4 ? 32 : 0));
}

static uint32_t mem_read(struct hotplug *hp, unsigned int off)
{
	struct mem_slot *m = &hp->mem[off / HOTPLUG_MEM_BYTES];
	unsigned int reg = off % HOTPLUG_MEM_BYTES;

	switch (reg & ~4u) {
	case HOTPLUG_MEM_BASE:
		m->described |= m->bytes != 0;
		return half(m->gpa, reg);
	case HOTPLUG_MEM_LENGTH:
		return half(m->bytes, reg);
	case HOTPLUG_MEM_STATUS:
		return reg == HOTPLUG_MEM_STATUS && m->bytes ? 0x0f : 0;
	}
	return 0;
}

static uint64_t port_read(void *opaque, uint64_t off, unsigned int len)
{
	struct hotplug *hp = opaque;
	uint32_t val = 0;

	if (len != 4 || off % 4)
		return 0;
	pthread_mutex_lock(&hp->lock);
	if (off >= HOTPLUG_MEM)
		val = mem_read(hp, (unsigned int)off - HOTPLUG_MEM);
	else if ((off & ~4u) == HOTPLUG_ADDED)
		val = half(hp->added, (unsigned int)off);
	else if ((off & ~4u) == HOTPLUG_WANTED)
		val = half(hp->wanted, (unsigned int)off);
	pthread_mutex_unlock(&hp->lock);
	return val;
}

/* What was ejected is gone for the guest at once; its _STA says so. */
static void eject(struct hotplug *hp, uint64_t units)
{
	hp->ejected |= units;
	hp->added &= ~units;
	hp->wanted &= ~units;
	for (unsigned int n = 0; n < HOTPLUG_MEM_SLOTS; n++)
		if (units & bit(HOTPLUG_UNIT_MEM + n))
			hp->mem[n] = (struct mem_slot){ 0 };
}

static void answer(struct hotplug *hp, uint32_t val)
{
	unsigned int unit = val >> 24;

	if (unit < HOTPLUG_UNITS)
		hp->answers[unit] = (struct answer){
			true, (uint8_t)(val >> 8), (uint8_t)val,
		};
}

static void port_write(void *opaque, uint64_t off, unsigned int len, uint64_t val)
{
	struct hotplug *hp = opaque;
	uint64_t units = (val & 0xffffffff) << (off & 4 ? 32 : 0) & UNITS_MASK;
	bool tell = false;

	if (len != 4 || off % 4)
		return;
	pthread_mutex_lock(&hp->lock);
	if (off == HOTPLUG_OST) {
		answer(hp, (uint32_t)val);
		tell = true;
	} else if ((off & ~4u) == HOTPLUG_ADDED) {
		hp->added &= ~units;
	} else if ((off & ~4u) == HOTPLUG_WANTED) {
		hp->wanted &= ~units;
	} else if ((off & ~4u) == HOTPLUG_EJECTED) {
		eject(hp, units);
		tell = true;
	}
	update_line(hp);
	pthread_mutex_unlock(&hp->lock);
	if (tell)
		vm_device_changed(hp->vm);
}

static const struct bus_ops port_ops = { port_read, port_write };

/* ---- the VM's side ------------------------------------------------------- */

void hotplug_memory(struct hotplug *hp, unsigned int n, uint64_t gpa, uint64_t bytes)
{
	pthread_mutex_lock(&hp->lock);
	hp->mem[n] = (struct mem_slot){ .gpa = bytes ? gpa : 0, .bytes = bytes };
	pthread_mutex_unlock(&hp->lock);
}

void hotplug_tell(struct hotplug *hp, unsigned int unit)
{
	pthread_mutex_lock(&hp->lock);
	hp->wanted &= ~bit(unit);
	hp->ejected &= ~bit(unit);
	hp->answers[unit].given = false;
	hp->added |= bit(unit);
	update_line(hp);
	pthread_mutex_unlock(&hp->lock);
}

/* What was ejected a moment ago stays ejected. */
void hotplug_want(struct hotplug *hp, unsigned int unit)
{
	pthread_mutex_lock(&hp->lock);
	hp->added &= ~bit(unit);
	hp->answers[unit].given = false;
	hp->wanted |= bit(unit);
	update_line(hp);
	pthread_mutex_unlock(&hp->lock);
}

bool hotplug_cancel(struct hotplug *hp, unsigned int unit)
{
	bool unseen;

	pthread_mutex_lock(&hp->lock);
	unseen = (hp->added | hp->wanted) & bit(unit);
	hp->added &= ~bit(unit);
	hp->wanted &= ~bit(unit);
	update_line(hp);
	pthread_mutex_unlock(&hp->lock);
	return unseen;
}

bool hotplug_ejected(struct hotplug *hp, unsigned int unit)
{
	bool gone;

	pthread_mutex_lock(&hp->lock);
	gone = hp->ejected & bit(unit);
	hp->ejected &= ~bit(unit);
	pthread_mutex_unlock(&hp->lock);
	return gone;
}

int hotplug_answer(struct hotplug *hp, unsigned int unit, unsigned int event)
{
	struct answer *a = &hp->answers[unit];
	int status = -1;

	pthread_mutex_lock(&hp->lock);
	if (a->given && a->event == event) {
		status = a->status;
		a->given = false;
	}
	pthread_mutex_unlock(&hp->lock);
	return status;
}

bool hotplug_described(struct hotplug *hp, unsigned int n)
{
	bool ret;

	pthread_mutex_lock(&hp->lock);
	ret = hp->mem[n].described;
	pthread_mutex_unlock(&hp->lock);
	return ret;
}

/* ---- as a device --------------------------------------------------------- */

static void op_reset(void *opaque)
{
	struct hotplug *hp = opaque;

	pthread_mutex_lock(&hp->lock);
	hp->added = hp->wanted = hp->ejected = 0;
	memset(hp->answers, 0, sizeof(hp->answers));
	for (unsigned int n = 0; n < HOTPLUG_MEM_SLOTS; n++)
		hp->mem[n].described = false;
	update_line(hp);
	pthread_mutex_unlock(&hp->lock);
}

static void op_save(void *opaque, struct state_writer *w)
{
	struct hotplug *hp = opaque;

	pthread_mutex_lock(&hp->lock);
	state_put_u64(w, hp->added);
	state_put_u64(w, hp->wanted);
	pthread_mutex_unlock(&hp->lock);
}

static int op_load(void *opaque, struct state_reader *r, uint32_t version)
{
	struct hotplug *hp = opaque;

	pthread_mutex_lock(&hp->lock);
	hp->added = state_get_u64(r) & UNITS_MASK;
	hp->wanted = state_get_u64(r) & UNITS_MASK;
	update_line(hp);
	pthread_mutex_unlock(&hp->lock);
	return r->err;
}

static void op_destroy(void *opaque)
{
	struct hotplug *hp = opaque;

	bus_unregister(vm_bus(hp->vm, VM_PIO), HOTPLUG_PORT, HOTPLUG_PORT_BYTES);
	pthread_mutex_destroy(&hp->lock);
	free(hp);
}

static const struct vm_device_ops device_ops = {
	.reset = op_reset,
	.save = op_save,
	.load = op_load,
	.destroy = op_destroy,
};

int hotplug_new(struct vm *vm, struct hotplug **out)
{
	struct hotplug *hp = calloc(1, sizeof(*hp));
	int ret;

	*out = NULL;
	if (!hp)
		return -ENOMEM;
	hp->vm = vm;
	pthread_mutex_init(&hp->lock, NULL);
	hp->dev = (struct vm_device){
		.name = "hotplug", .version = 1, .ops = &device_ops, .opaque = hp,
	};
	ret = bus_register(vm_bus(vm, VM_PIO), HOTPLUG_PORT, HOTPLUG_PORT_BYTES, &port_ops, hp);
	if (!ret)
		ret = vm_device_add(vm, &hp->dev);
	if (ret) {
		op_destroy(hp);
		return ret;
	}
	*out = hp;
	return 0;
}
