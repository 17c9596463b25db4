// SPDX-License-Identifier: GPL-2.0-only
#include <stdlib.h>
#include <string.h>

#include "tap.h"
#include "event/table.h"

void table_clear(struct table *t)
{
	t->nr = 0;
}

struct row *table_find(struct table *t, uint32_t class_, uint64_t id)
{
	for (uint32_t i = 0; i < t->nr; i++)
		if (t->rows[i].class_ == class_ && t->rows[i].id == id)
			return &t->rows[i];
	return NULL;
}

bool table_apply(struct table *t, const struct vmplat_event *e)
{
	struct row *row = table_find(t, e->class_, e->id);

	if (e->gone) {
		if (row)
			*row = t->rows[--t->nr];
		return true;
	}
	if (!row) {
		if (t->nr == TABLE_ROWS)
			return false;
		row = &t->rows[t->nr++];
	}
	if (e->object_bytes > TABLE_BYTES)
		return false;
	memset(row, 0, sizeof(*row));
	row->class_ = e->class_;
	row->id = e->id;
	row->born = e->born;
	row->nr_bytes = e->object_bytes;
	memcpy(row->bytes, e->object, e->object_bytes);
	return true;
}

static int by_key(const void *a, const void *b)
{
	const struct row *x = a, *y = b;

	if (x->class_ != y->class_)
		return x->class_ < y->class_ ? -1 : 1;
	return x->id < y->id ? -1 : x->id > y->id;
}

int table_diff(struct table *a, struct table *b)
{
	int differ = 0;

	qsort(a->rows, a->nr, sizeof(*a->rows), by_key);
	qsort(b->rows, b->nr, sizeof(*b->rows), by_key);
	for (uint32_t i = 0; i < a->nr || i < b->nr; i++) {
		if (i < a->nr && i < b->nr && !memcmp(&a->rows[i], &b->rows[i], sizeof(*a->rows)))
			continue;
		if (!differ++)
			diag("row %u: %s %llu and %s %llu differ", i,
			     i < a->nr ? vmplat_class_name(a->rows[i].class_) : "-",
			     i < a->nr ? (unsigned long long)a->rows[i].id : 0,
			     i < b->nr ? vmplat_class_name(b->rows[i].class_) : "-",
			     i < b->nr ? (unsigned long long)b->rows[i].id : 0);
	}
	return differ;
}

static int on_event(const struct vmplat_event *e, void *data)
{
	struct table *t = data;

	if (e->kind == VMPLAT_EVENT_RESET)
		table_clear(t);
	else if (e->kind == VMPLAT_EVENT_PRESENT || e->kind == VMPLAT_EVENT_CHANGED)
		table_apply(t, e);
	return 0;
}

int table_dump(struct table *t, struct vmplat *dev, const struct vmplat_event_filter *filter)
{
	struct vmplat_events *ev;
	int rc = vmplat_events_open(&ev, dev, filter, NULL, 0);

	if (rc)
		return rc;
	rc = vmplat_events_read(ev, on_event, t);
	vmplat_events_close(ev);
	return rc < 0 ? rc : 0;
}
