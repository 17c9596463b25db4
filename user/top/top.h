/* SPDX-License-Identifier: GPL-2.0-only */
/*
 * vmplat top: what the VMs of this host do, once an interval.
 *
 *	events -> objects.c -> sample.c -> draw.c -> cli/top.c (terminal, lines, JSON)
 *
 * Which objects there are is told by events. What they do meanwhile is sampled: written pages through a dirty log of our
 * own on each memory, processor time and side memory from /proc.
 */
#ifndef VMPLAT_TOP_H
#define VMPLAT_TOP_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <sys/types.h>

#include <vmplat.h>
#include <vmplat_clock.h>

#define TOP_NAME	64	/* bytes of a name, with its end */
#define TOP_EVENTS	32	/* that are remembered */
#define TOP_UNKNOWN	(-1)	/* of a sample: not to be seen by this user, or not yet */

struct top_mem {
	uint64_t id, bytes, dev, ino;
	uint32_t fill;			/* enum vmplat_fill_state */
	struct vmplat_log *log;		/* NULL until its file was found */
	pid_t holder;			/* process where it was found, or 0 */
	char holder_fd[12];		/* and its descriptor there */
	char holder_name[TOP_NAME];
	int64_t dirty_pages;		/* written during the interval */
};

struct top_vm {
	uint64_t id;
	char name[TOP_NAME];
	char reason[128];
	uint32_t state;			/* enum vmplat_vm_state */
	const char *state_name;
	pid_t pid;
	uint32_t nr_mems;
	uint64_t mems[VMPLAT_VM_MEMS_MAX];
	uint64_t ticks;			/* processor time at the last sample, clock ticks */
	double cpu_percent;		/* of one CPU; negative if unknown */
};

struct top_view {
	uint64_t id, bytes, side_limit;	/* 0: no limit */
	uint32_t state;			/* enum vmplat_view_state */
	const char *state_name;
	uint32_t nr_mems;
	uint64_t mems[VMPLAT_VIEW_MAX_MEMS];
	int64_t side_bytes;
};

struct top_user {
	uint64_t id;
	char address[16], driver[TOP_NAME], user_name[TOP_NAME];
	uint32_t user;			/* process that has it open */
	bool asked;
};

struct top_event {
	uint64_t time_ns;		/* CLOCK_BOOTTIME */
	char text[160];
};

/* Rows of one kind, in the order in which they came. */
#define TOP_LIST(type)	struct { type *items; size_t nr, room; }

enum top_sort { TOP_BY_NAME, TOP_BY_CPU, TOP_BY_DIRTY, TOP_NR_SORTS };

struct top {
	struct vmplat *dev;
	struct vmplat_events *events;
	bool no_dirty;			/* make no logs */
	enum top_sort sort;
	bool synced;			/* all objects have been told */
	bool down;			/* the module is gone */
	bool hidden;			/* other users' processes were not to be seen */
	int error;			/* the first that a callback met, -errno */

	TOP_LIST(struct top_mem) mems;
	TOP_LIST(struct top_vm) vms;
	TOP_LIST(struct top_view) views;
	TOP_LIST(struct top_user) users;
	struct top_event recent[TOP_EVENTS];
	uint64_t nr_events;		/* since the start */
	uint64_t nr_events_before;	/* ... until the last sample */

	uint64_t sampled_ns;		/* CLOCK_MONOTONIC; 0 before the first */
	double seconds;			/* length of the interval; 0 after the first sample */
};

/* ---- objects.c -------------------------------------------------------------- */

/* 0 or -errno with vmplat_last_error(). */
int top_open(struct top *top);
void top_close(struct top *top);
/* Takes what has happened: 0 or -errno. */
int top_read(struct top *top);
struct top_mem *top_mem(struct top *top, uint64_t id);
/* The VM that names a memory, or NULL. */
struct top_vm *top_vm_of(struct top *top, uint64_t mem);

/* ---- sample.c --------------------------------------------------------------- */

/* Measures what happened since the last time. 0 or -errno. */
int top_sample(struct top *top);

/* ---- draw.c ----------------------------------------------------------------- */

/* Of a row: memory, and pages written in all of it, or TOP_UNKNOWN. */
struct top_sum {
	uint64_t bytes;
	int64_t dirty_pages;
	unsigned int nr_views;
};

struct top_sum top_sum(struct top *top, const uint64_t *mems, size_t nr);
/* Bytes a second, or TOP_UNKNOWN. */
int64_t top_rate(const struct top *top, int64_t pages);

enum top_style { TOP_PLAIN, TOP_TITLE, TOP_HEAD, TOP_GOOD, TOP_CARE, TOP_BAD, TOP_FAINT };
typedef void top_line_fn(void *data, enum top_style style, const char *text);

/* The picture, line by line; @nr_events: how many of the last ones to show. */
void top_draw(struct top *top, size_t nr_events, top_line_fn *line, void *data);
/* The same for programs: one JSON object. */
struct json_object *top_json(struct top *top);

#endif /* VMPLAT_TOP_H */
