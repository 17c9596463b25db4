/* SPDX-License-Identifier: GPL-2.0-only */
/*
 * The two address spaces in which vCPUs meet devices: I/O ports and memory that
 * is not RAM.
 *
 * An access goes to the narrowest registered range that contains all of it, so a
 * device may sit inside another's range (0xcf9 inside 0xcf8..0xcff). Accesses
 * nobody claims read as all ones and are dropped when written.
 *
 * Handlers run on the vCPU's thread, several at once, with no bus lock held:
 * they may register and unregister (a BAR that moves), raise interrupts and
 * sleep; each device has its own lock. Unregistering does not wait for a handler
 * that is running, which is why devices live until all vCPUs have ended or are
 * parked.
 */
#ifndef VMPLAT_RUN_BUS_H
#define VMPLAT_RUN_BUS_H

#include <pthread.h>
#include <stddef.h>
#include <stdint.h>

struct bus_ops {
	/* @off counts from the base of the range; @len is 1, 2, 4 or 8 */
	uint64_t (*read)(void *opaque, uint64_t off, unsigned int len);
	void (*write)(void *opaque, uint64_t off, unsigned int len, uint64_t val);
};

struct bus_range {
	uint64_t base, len;
	const struct bus_ops *ops;
	void *opaque;
};

struct bus {
	pthread_rwlock_t lock;		/* protects all below */
	struct bus_range *ranges;	/* unsorted; tens of them */
	size_t nr, cap;
	uint64_t end;			/* exclusive end of the space, 0: 2^64 */
};

void bus_init(struct bus *bus, uint64_t end);
void bus_exit(struct bus *bus);
/* -EINVAL: empty or past the space's end; -EEXIST: the same range is taken */
int bus_register(struct bus *bus, uint64_t base, uint64_t len,
		 const struct bus_ops *ops, void *opaque);
/* base and length exactly as registered; no such range is no error */
void bus_unregister(struct bus *bus, uint64_t base, uint64_t len);
uint64_t bus_read(struct bus *bus, uint64_t addr, unsigned int len);
void bus_write(struct bus *bus, uint64_t addr, unsigned int len, uint64_t val);

#endif
