/* SPDX-License-Identifier: GPL-2.0-only */
/* The runner's half of a snapshot: freeze, hand out, wait for the verdict. */
#ifndef VMPLAT_RUN_SNAPSHOT_H
#define VMPLAT_RUN_SNAPSHOT_H

#include <stddef.h>
#include <stdint.h>

#define SNAPSHOT_FDS	2

struct json_object;
struct snapshot;
struct vm;

/**
 * snapshot_take - request and reply as snapshot.c describes
 * @conn: the client's socket, for events; used from another thread later
 * @in: descriptors of the request; those taken over become -1
 * @out: descriptors for the reply; they belong to the snapshot until
 *	snapshot_sent()
 */
int snapshot_take(struct snapshot **snap, struct vm *vm, int conn,
		  struct json_object *req, int *in, size_t nr_in,
		  struct json_object *reply, int out[SNAPSHOT_FDS], size_t *nr_out,
		  char *why, size_t why_bytes);
/** snapshot_sent - the client has the reply and its descriptors: copy disks now */
void snapshot_sent(struct snapshot *snap);
/** snapshot_commit - disks forget what they lent */
int snapshot_commit(struct snapshot *snap, char *why, size_t why_bytes);
/** snapshot_free - whatever is not committed is taken back. Accepts NULL */
void snapshot_free(struct snapshot *snap);

/** snapshot_id_json - 32 hexadecimal digits, or null for all zero */
struct json_object *snapshot_id_json(const uint8_t id[16], char hex[33]);

#endif
