// SPDX-License-Identifier: GPL-2.0-only
/* Dispatch of port and MMIO accesses; bus.h has the rules. */
#include "bus.h"

#include <errno.h>
#include <stdbool.h>
#include <stdlib.h>
#include <string.h>

void bus_init(struct bus *bus, uint64_t end)
{
	memset(bus, 0, sizeof(*bus));
	pthread_rwlock_init(&bus->lock, NULL);
	bus->end = end;
}

void bus_exit(struct bus *bus)
{
	free(bus->ranges);
	pthread_rwlock_destroy(&bus->lock);
}

static struct bus_range *find_exact(struct bus *bus, uint64_t base, uint64_t len)
{
	for (size_t i = 0; i < bus->nr; i++)
		if (bus->ranges[i].base == base && bus->ranges[i].len == len)
			return &bus->ranges[i];
	return NULL;
}

static int grow(struct bus *bus)
{
	size_t cap = bus->cap ? 2 * bus->cap : 32;
	struct bus_range *ranges;

	if (bus->nr < bus->cap)
		return 0;
	ranges = realloc(bus->ranges, cap * sizeof(*ranges));
	if (!ranges)
		return -ENOMEM;
	bus->ranges = ranges;
	bus->cap = cap;
	return 0;
}

int bus_register(struct bus *bus, uint64_t base, uint64_t len,
		 const struct bus_ops *ops, void *opaque)
{
	uint64_t last = base + len - 1;
	int ret;

	if (!len || last < base || (bus->end && last >= bus->end))
		return -EINVAL;
	pthread_rwlock_wrlock(&bus->lock);
	ret = find_exact(bus, base, len) ? -EEXIST : grow(bus);
	if (!ret)
		bus->ranges[bus->nr++] = (struct bus_range){
			.base = base, .len = len, .ops = ops, .opaque = opaque,
		};
	pthread_rwlock_unlock(&bus->lock);
	return ret;
}

void bus_unregister(struct bus *bus, uint64_t base, uint64_t len)
{
	struct bus_range *r;

	pthread_rwlock_wrlock(&bus->lock);
	r = find_exact(bus, base, len);
	if (r)
		*r = bus->ranges[--bus->nr];
	pthread_rwlock_unlock(&bus->lock);
}

/* a copy, so that the handler runs without the lock */
static bool lookup(struct bus *bus, uint64_t addr, unsigned int len,
		   struct bus_range *out)
{
	bool found = false;

	pthread_rwlock_rdlock(&bus->lock);
	for (size_t i = 0; i < bus->nr; i++) {
		const struct bus_range *r = &bus->ranges[i];

		if (addr < r->base || addr - r->base >= r->len ||
		    len > r->len - (addr - r->base))
			continue;
		if (found && r->len >= out->len)
			continue;
		*out = *r;
		found = true;
	}
	pthread_rwlock_unlock(&bus->lock);
	return found;
}

uint64_t bus_read(struct bus *bus, uint64_t addr, unsigned int len)
{
	struct bus_range r;

	if (!lookup(bus, addr, len, &r) || !r.ops->read)
		return ~0ULL;
	return r.ops->read(r.opaque, addr - r.base, len);
}

void bus_write(struct bus *bus, uint64_t addr, unsigned int len, uint64_t val)
{
	struct bus_range r;

	if (lookup(bus, addr, len, &r) && r.ops->write)
		r.ops->write(r.opaque, addr - r.base, len, val);
}
