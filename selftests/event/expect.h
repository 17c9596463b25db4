/* SPDX-License-Identifier: GPL-2.0-only */
/*
 * Events one by one, for tests that know which comes next. In one header, as tap.h is.
 *
 * Events have one order. So each step says which event comes next, and quiet() that none has come: the next one is that
 * of a VM which was made to change for this.
 */
#ifndef EVENT_EXPECT_H
#define EVENT_EXPECT_H

#include <poll.h>

#include <vmplat.h>

#include "mem/util.h"

#define NR_ATTRS	16

/* An event, taken apart. */
struct got {
	uint32_t class_, action;
	uint64_t id;
	bool gone;
	bool has[NR_ATTRS];
	uint64_t number[NR_ATTRS];
	char text[NR_ATTRS][256];
	unsigned int nr_mems;
};

static struct vmplat_events *events;
static struct vmplat_report *marker;
static struct got queue[32], last;
static unsigned int nr_queued;

static int on_event(const struct vmplat_event *e, void *data)
{
	struct got *g = &queue[nr_queued++];
	struct vmplat_field f;
	size_t pos = 0;

	if (e->kind != VMPLAT_EVENT_CHANGED)
		bail("a reader that has lost nothing begins anew");
	*g = (struct got) {
		.class_ = e->class_, .action = e->action, .id = e->id, .gone = e->gone,
	};
	while (vmplat_event_field(e, &pos, &f)) {
		g->has[f.attr] = true;
		g->number[f.attr] = f.number;
		if (f.type == VMPLAT_FIELD_STRING)
			snprintf(g->text[f.attr], sizeof(g->text[0]), "%s", f.string);
		g->nr_mems += f.list;
	}
	return nr_queued == ARRAY_SIZE(queue);
}

/* The next event goes to @last. */
static void next_event(void)
{
	struct pollfd p = { .fd = vmplat_events_fd(events), .events = POLLIN };

	while (!nr_queued) {
		int rc = vmplat_events_read(events, on_event, NULL);

		if (rc < 0)
			bail("%s", vmplat_last_error());
		if (!rc && poll(&p, 1, 30000) < 1)
			bail("no event comes");
	}
	last = queue[0];
	memmove(queue, queue + 1, --nr_queued * sizeof(*queue));
}

static inline bool comes(uint32_t class_, uint32_t action, const char *what)
{
	bool held;

	next_event();
	held = ok(last.class_ == class_ && last.action == action, "%s", what);
	if (!held)
		diag("but %s %s %llu", vmplat_class_name(last.class_),
		     vmplat_action_name(last.action), (unsigned long long)last.id);
	return held;
}

static inline void quiet(const char *what)
{
	static bool paused;

	paused = !paused;
	if (vmplat_report_state(marker, paused ? VMPLAT_VM_STATE_PAUSED : VMPLAT_VM_STATE_RUNNING))
		bail("%s", vmplat_last_error());
	next_event();
	if (!ok(last.class_ == VMPLAT_CLASS_VM && last.id == vmplat_report_id(marker), "%s", what))
		diag("but %s %s %llu", vmplat_class_name(last.class_),
		     vmplat_action_name(last.action), (unsigned long long)last.id);
	while (last.class_ != VMPLAT_CLASS_VM)
		next_event();
}

/* Listens from now on, to the classes of @filter and to VMs; bails out if it cannot. */
static inline void expect_open(struct vmplat *dev, const struct vmplat_event_filter *filter)
{
	if (vmplat_report_new(&marker, dev, "marker", VMPLAT_VM_STATE_RUNNING, NULL, 0) ||
	    vmplat_events_open(&events, dev, filter, NULL, VMPLAT_EVENTS_F_NEW))
		bail("%s", vmplat_last_error());
}

static inline void expect_close(void)
{
	vmplat_events_close(events);
	vmplat_report_close(marker);
}

#endif /* EVENT_EXPECT_H */
