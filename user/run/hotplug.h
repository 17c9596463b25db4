/* SPDX-License-Identifier: LGPL-2.1-or-later */
/*
 * The hot-plug controller: how the guest's firmware learns that something was put
 * into a slot or is wanted back, and how it answers. The other half is AML
 * (acpi_hotplug.c), which turns bits into Notify() and _EJ0 and _OST into writes.
 *
 * A unit is a slot of the PCI bus (0..31) or of memory (32..47). Ports, little
 * endian, accesses of 4 bytes:
 *
 *   0x00, 0x04  rw  added: units to look at, one bit each; ones clear
 *   0x08, 0x0c  rw  wanted: units to give up; ones clear
 *   0x10, 0x14  w   ejected: the guest has let go of these
 *   0x18        w   _OST: unit << 24 | (event & 0xff) << 8 | (status & 0xff)
 *   0x40 + 32*n     memory slot n:
 *     0x00  r  guest address, 64 bits
 *     0x08  r  length in bytes, 64 bits
 *     0x10  r  what _STA returns: 0x0f, or 0 for none
 *
 * An interrupt line is high while a bit of "added" or "wanted" is set.
 *
 * Requests come from whoever holds the operation lock, answers from vCPUs; they
 * are kept until they are taken, and vm_device_changed() says that there are any.
 */
#ifndef VMPLAT_RUN_HOTPLUG_H
#define VMPLAT_RUN_HOTPLUG_H

#include <stdbool.h>
#include <stdint.h>

#define HOTPLUG_PORT		0x680
#define HOTPLUG_GSI		10
#define HOTPLUG_ADDED		0x00
#define HOTPLUG_WANTED		0x08
#define HOTPLUG_EJECTED		0x10
#define HOTPLUG_OST		0x18
#define HOTPLUG_MEM		0x40
#define HOTPLUG_MEM_BYTES	0x20
#define HOTPLUG_MEM_BASE	0x00
#define HOTPLUG_MEM_LENGTH	0x08
#define HOTPLUG_MEM_STATUS	0x10
#define HOTPLUG_MEM_SLOTS	16u
#define HOTPLUG_PORT_BYTES	(HOTPLUG_MEM + HOTPLUG_MEM_SLOTS * HOTPLUG_MEM_BYTES)

#define HOTPLUG_UNIT_MEM	32u	/* the first slot of memory */
#define HOTPLUG_UNITS		(HOTPLUG_UNIT_MEM + HOTPLUG_MEM_SLOTS)

/* ACPI 6.5, 5.6.6 and 6.3.5 */
#define HOTPLUG_EVENT_CHECK	1u	/* Device Check */
#define HOTPLUG_EVENT_EJECT	3u	/* Eject Request */
#define HOTPLUG_OST_SUCCESS	0u
#define HOTPLUG_OST_UNSUPPORTED	0x80u
#define HOTPLUG_OST_BUSY	0x82u
#define HOTPLUG_OST_PENDING	0x84u

struct hotplug;
struct vm;

/* Adds itself to the VM's devices, which also free it. */
int hotplug_new(struct vm *vm, struct hotplug **out);

/** hotplug_memory - memory slot @n holds @bytes at @gpa; 0 bytes: nothing */
void hotplug_memory(struct hotplug *hp, unsigned int n, uint64_t gpa, uint64_t bytes);
/**
 * hotplug_tell - ask the guest to look at @unit, where there is something new
 *
 * The VM is halted: what is known of an older occupant is forgotten.
 */
void hotplug_tell(struct hotplug *hp, unsigned int unit);
/** hotplug_want - ask the guest to give @unit up */
void hotplug_want(struct hotplug *hp, unsigned int unit);
/** hotplug_cancel - take both requests back; true if the guest had not seen them */
bool hotplug_cancel(struct hotplug *hp, unsigned int unit);

/** hotplug_ejected - has the guest let go of @unit? Says so once */
bool hotplug_ejected(struct hotplug *hp, unsigned int unit);
/** hotplug_answer - status of the latest _OST of @unit for @event, -1: none; once */
int hotplug_answer(struct hotplug *hp, unsigned int unit, unsigned int event);
/** hotplug_described - has the guest read where the memory of slot @n is? */
bool hotplug_described(struct hotplug *hp, unsigned int n);

#endif
