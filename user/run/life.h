/* SPDX-License-Identifier: GPL-2.0-only */
/*
 * The life of a VM as a table: its states, what each command comes to in each of them,
 * and which state may follow which. Nothing here does anything. Both engines, the control
 * socket, and the command that finds no runner any more, ask it.
 *
 *	defined --start--> starting ----------> running <--> paused
 *	                   restoring -------->    |  \          |
 *	                                          |   snapshotting, and back
 *	   any of these but defined               v
 *	      |      `--stop, power-off--> stopping --> stopped --start, restore-->
 *	      `-----cannot go on, or its process died-> failed  --start, restore-->
 *
 * A state is the runner's as long as that lives. Of defined, stopped and failed ones only
 * the record is left (record.h).
 */
#ifndef VMPLAT_RUN_LIFE_H
#define VMPLAT_RUN_LIFE_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

enum vm_status {
	VM_DEFINED,		/* what it is made of is known */
	VM_STARTING,		/* from its beginning */
	VM_RESTORING,		/* from a snapshot */
	VM_RUNNING,
	VM_PAUSED,
	VM_SNAPSHOTTING,	/* standing still for a moment; its storing is not a state */
	VM_STOPPING,
	VM_STOPPED,		/* in order */
	VM_FAILED,		/* with a reason */
	VM_NR_STATUS
};

enum vm_command {
	VM_CMD_STATUS,
	VM_CMD_PAUSE,
	VM_CMD_RESUME,
	VM_CMD_RESET,
	VM_CMD_STOP,
	VM_CMD_POWERDOWN,
	VM_CMD_CPUS,
	VM_CMD_SNAPSHOT,
	VM_CMD_SNAPSHOT_COMMIT,
	VM_CMD_SNAPSHOT_ABORT,
	VM_CMD_DEVICE_ADD,
	VM_CMD_DEVICE_REMOVE,
	VM_CMD_DEVICE_LIST,
	VM_CMD_START,
	VM_CMD_FORGET,
	VM_NR_COMMANDS
};

enum vm_answer {
	VM_REFUSE,		/* with vm_refusal() */
	VM_DO,
	VM_WAIT,		/* queued: asked again when the state is another */
};

/** vm_answer - what @cmd comes to in state @s */
enum vm_answer vm_answer(enum vm_status s, enum vm_command cmd);

#define VM_REFUSAL_TEXT	200

/**
 * vm_refusal - "cannot pause: it is paused", or NULL unless the answer is VM_REFUSE
 *
 * What else there is to do is part of the sentence.
 */
const char *vm_refusal(enum vm_status s, enum vm_command cmd, char text[VM_REFUSAL_TEXT]);

/** vm_may_become - whether @to may follow @from; a state does not follow itself */
bool vm_may_become(enum vm_status from, enum vm_status to);

/** vm_status_ends - nobody runs it in this state: all that is left is its record */
bool vm_status_ends(enum vm_status s);

/** vm_status_event - the state as events tell it, VMPLAT_VM_STATE_*; 0: there is no event */
uint32_t vm_status_event(enum vm_status s);

/** vm_status_phrase - what comes behind "it": "has failed" */
const char *vm_status_phrase(enum vm_status s);
/** vm_status_name - one word; vm_status_parse() is false for another word */
const char *vm_status_name(enum vm_status s);
bool vm_status_parse(enum vm_status *s, const char *name);

/**
 * vm_command_name - as on the control socket; vm_command_parse() is false for another word
 *
 * "quit" is "stop".
 */
const char *vm_command_name(enum vm_command cmd);
bool vm_command_parse(enum vm_command *cmd, const char *name);

#endif
