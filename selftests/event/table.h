/* SPDX-License-Identifier: GPL-2.0-only */
/* The objects a reader knows: what it gets who does what the events say. */
#ifndef EVENT_TABLE_H
#define EVENT_TABLE_H

#include <stdbool.h>
#include <stdint.h>

#include <vmplat.h>

#define TABLE_ROWS	512
#define TABLE_BYTES	1400

struct row {
	uint32_t class_;
	uint32_t nr_bytes;
	uint64_t id;
	uint64_t born;
	uint8_t bytes[TABLE_BYTES];
};

/* Without pointers, so that it can be kept in a file or in shared memory. */
struct table {
	uint32_t nr;
	struct row rows[TABLE_ROWS];
};

void table_clear(struct table *t);
/* False if there is no room. */
bool table_apply(struct table *t, const struct vmplat_event *e);
struct row *table_find(struct table *t, uint32_t class_, uint64_t id);
/* How many rows differ; says which. Sorts both. */
int table_diff(struct table *a, struct table *b);
/* A dump of what there is, taken until nothing happens during it. 0 or -errno. */
int table_dump(struct table *t, struct vmplat *dev, const struct vmplat_event_filter *filter);

#endif
