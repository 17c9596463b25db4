/* SPDX-License-Identifier: GPL-2.0-only */
/*
 * QEMU's machine protocol: one command at a time, JSON a line each way, over a socket.
 * Events that come between are passed over, or taken by qmp_event() on a connection
 * that is kept for them.
 */
#ifndef VMPLAT_RUN_QMP_H
#define VMPLAT_RUN_QMP_H

#include <json-c/json.h>
#include <stdbool.h>

#include "line.h"

struct qmp {
	struct line_io io;
	char why[400];		/* the sentence of the last failure */
};

/**
 * qmp_open - wait for the greeting on @fd, which it owns from now on, and answer it
 *
 * -EPIPE: QEMU ended first. -EPROTO: this is no QEMU. @q->why has the sentence; call
 * qmp_close() in any case.
 */
int qmp_open(struct qmp *q, int fd);
void qmp_close(struct qmp *q);

/**
 * qmp_call - one command, and its answer
 * @args: taken over; NULL: none
 * @fd: goes with the command, -1: none
 * @ret: what it returned, to be put; may be NULL
 *
 * -EIO: QEMU refused, -EPIPE: it is gone.
 */
int qmp_call(struct qmp *q, const char *cmd, struct json_object *args, int fd,
	     struct json_object **ret);

/**
 * qmp_event - read what is there; blocks only if nothing is
 *
 * 1 and *@event, to be put; 0: no complete one yet; -EPIPE: QEMU is gone.
 */
int qmp_event(struct qmp *q, struct json_object **event);
/** qmp_pending - is there more than poll() knows of? */
bool qmp_pending(const struct qmp *q);

/** qmp_text - the string @key of @o, or "" */
const char *qmp_text(struct json_object *o, const char *key);

#endif
