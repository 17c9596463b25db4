/* SPDX-License-Identifier: GPL-2.0-only */
/*
 * What is known of a VM when nobody is left to be asked: NAME.life beside its socket.
 *
 * The runner replaces the file at each transition, before anybody is told of it, so that
 * after a kill -9 it says what the VM was doing. It is one JSON object:
 *
 *	name, pid, engine	whose it is
 *	state, since		vm_status_name(), CLOCK_REALTIME in ns
 *	reason			why it has stopped or failed; absent in other states
 *	config			vm_config_to_json(), and what that leaves to the host
 *	cwd, console		what relative names in it begin from; where the console went
 *	snapshot		{"name","id","store"}: on its way, neither committed nor given up
 *	latest			the same: the last one committed, or the one it was restored from
 *	history			[{"state","at"}], the latest RECORD_HISTORY transitions
 *
 * NAME.lock is locked by whoever owns the name, and the kernel drops the lock with its
 * owner. Together they tell what happened: a record that says "running", with nobody who
 * holds the lock, is of a VM whose process died while it ran.
 *
 * A record is of no more use than the directory: on a tmpfs both end with the host.
 */
#ifndef VMPLAT_RUN_RECORD_H
#define VMPLAT_RUN_RECORD_H

#include <stdbool.h>
#include <stddef.h>

#include "life.h"

#define RECORD_HISTORY	16u
#define RECORD_WHY	700u

struct json_object;
struct record;
struct vm_config;

/* ---- names ------------------------------------------------------------------------- */

/**
 * name_lock - own @name in @dir until the descriptor is closed
 *
 * The descriptor, or -EADDRINUSE: somebody does; a sentence in @err for that and all else.
 */
int name_lock(const char *dir, const char *name, char *err, size_t err_bytes);
/** name_locked - whether somebody does; nothing is locked by asking */
bool name_locked(const char *dir, const char *name);

/* ---- the runner's side; any thread --------------------------------------------------- */

/**
 * record_begin - a new life of @name, whose lock the caller holds: what was recorded goes
 * @s: VM_DEFINED, VM_STARTING or VM_RESTORING
 * @console: may be NULL
 *
 * 0, or -errno with a sentence in @err.
 */
int record_begin(struct record **r, const char *dir, const struct vm_config *cfg,
		 const char *console, enum vm_status s, char *err, size_t err_bytes);
/** record_free - the file stays. Accepts NULL */
void record_free(struct record *r);
/**
 * record_state - it is in state @s now, for the reason @why (NULL: none); accepts NULL
 *
 * 0 or -errno; a state that cannot be written is in the file with the next that can.
 */
int record_state(struct record *r, enum vm_status s, const char *why);
/** record_remove - nobody is to know of it; the caller holds the lock still */
void record_remove(struct record *r);
/** record_now - the state it is in */
enum vm_status record_now(struct record *r);

/**
 * record_snapshot - a snapshot of it begins: {"name","id","store"}; takes a reference
 *
 * It is written with the transition that follows.
 * False: another one is on its way, and remains what is recorded. Accepts a NULL record.
 */
bool record_snapshot(struct record *r, struct json_object *snapshot);
/** record_snapshot_end - what began is committed, or given up */
void record_snapshot_end(struct record *r, bool committed);
/** record_latest - it was restored from this one; takes a reference. Accepts NULL */
void record_latest(struct record *r, struct json_object *snapshot);

/* ---- the others' side ---------------------------------------------------------------- */

/**
 * record_read - the record of @name in @dir, as it is true now
 *
 * A VM whose process died is "failed" in it, and "reason" says when. "alive" is whether
 * somebody owns the name. NULL with vmplat_last_error(): there is none (-ENOENT), or it is
 * damaged.
 */
struct json_object *record_read(const char *dir, const char *name);
/** record_status - its state */
enum vm_status record_status(struct json_object *record);
/**
 * record_sentence - "has failed: the runner (pid 7) died while running"
 *
 * And, as a second sentence after "; ", what can be done about it.
 */
void record_sentence(struct json_object *record, char *text, size_t bytes);
/** record_config - the VM it is of, to be freed; and enter the directory its names begin from */
int record_config(struct json_object *record, struct vm_config *cfg);
/**
 * record_forget - remove what is left of @name, the socket as well; the console's file stays
 *
 * -EADDRINUSE: it is alive; -ENOENT: there is nothing. vmplat_last_error() has the sentence.
 */
int record_forget(const char *dir, const char *name);

#endif
