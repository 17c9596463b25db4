// SPDX-License-Identifier: GPL-2.0-only
/* The table of a VM's life; life.h says who asks it. */
#include "life.h"

#include <linux/vmplat_netlink.h>
#include <stdio.h>
#include <string.h>

#define BIT(state)	(1u << (state))
#define NR(array)	(sizeof(array) / sizeof((array)[0]))

/* ---- states ----------------------------------------------------------------------- */

static const struct state {
	const char *name;
	const char *phrase;		/* "it ..." */
	const char *advice;		/* where a command has no better; NULL: none */
	uint32_t event;
	uint32_t next;			/* bits of states that may follow */
} states[VM_NR_STATUS] = {
	[VM_DEFINED] = {
		"defined", "is defined, and nothing runs", "start it first", 0,
		BIT(VM_STARTING) | BIT(VM_RESTORING),
	},
	[VM_STARTING] = {
		"starting", "is starting", NULL, VMPLAT_VM_STATE_STARTING,
		BIT(VM_RUNNING) | BIT(VM_PAUSED) | BIT(VM_STOPPING) | BIT(VM_FAILED),
	},
	[VM_RESTORING] = {
		"restoring", "is being restored", NULL, VMPLAT_VM_STATE_RESTORING,
		BIT(VM_RUNNING) | BIT(VM_PAUSED) | BIT(VM_STOPPING) | BIT(VM_FAILED),
	},
	[VM_RUNNING] = {
		"running", "is running", NULL, VMPLAT_VM_STATE_RUNNING,
		BIT(VM_PAUSED) | BIT(VM_SNAPSHOTTING) | BIT(VM_STOPPING) | BIT(VM_FAILED),
	},
	[VM_PAUSED] = {
		"paused", "is paused", NULL, VMPLAT_VM_STATE_PAUSED,
		BIT(VM_RUNNING) | BIT(VM_SNAPSHOTTING) | BIT(VM_STOPPING) | BIT(VM_FAILED),
	},
	[VM_SNAPSHOTTING] = {
		"snapshotting", "stands still for a snapshot", NULL, VMPLAT_VM_STATE_SNAPSHOTTING,
		BIT(VM_RUNNING) | BIT(VM_PAUSED) | BIT(VM_FAILED),
	},
	[VM_STOPPING] = {
		"stopping", "is stopping", NULL, VMPLAT_VM_STATE_STOPPING,
		BIT(VM_STOPPED) | BIT(VM_FAILED),
	},
	[VM_STOPPED] = {
		"stopped", "has stopped", "start it again, or restore a snapshot of it",
		VMPLAT_VM_STATE_STOPPED,
		BIT(VM_STARTING) | BIT(VM_RESTORING),
	},
	[VM_FAILED] = {
		"failed", "has failed", "start it again, or restore a snapshot of it",
		VMPLAT_VM_STATE_FAILED,
		BIT(VM_STARTING) | BIT(VM_RESTORING),
	},
};

/* ---- commands ----------------------------------------------------------------------- */

struct rule {
	enum vm_answer answer;
	const char *advice;		/* in place of the state's; "": none */
};

#define NO		{ VM_REFUSE, NULL }
#define NO_BUT(advice)	{ VM_REFUSE, advice }
#define DO		{ VM_DO, NULL }
#define WAIT		{ VM_WAIT, NULL }

#define FIRST_STOP	"stop it first"
#define NOT_YET		"try again when it has stopped"
#define NO_ANSWER	"its guest cannot answer; resume it first"

static const struct command {
	const char *name;
	struct rule rules[VM_NR_STATUS];
} commands[VM_NR_COMMANDS] = {
/*	  defined		starting	restoring	running			paused
	  snapshotting		stopping	stopped		failed */
[VM_CMD_STATUS] = { "status",
	{ DO,			DO,		DO,		DO,			DO,
	  WAIT,			DO,		DO,		DO } },
[VM_CMD_PAUSE] = { "pause",
	{ NO,			WAIT,		WAIT,		DO,			NO,
	  WAIT,			NO,		NO,		NO } },
[VM_CMD_RESUME] = { "resume",
	{ NO,			WAIT,		WAIT,		NO,			DO,
	  WAIT,			NO,		NO,		NO } },
[VM_CMD_RESET] = { "reset",
	{ NO,			WAIT,		WAIT,		DO,			DO,
	  WAIT,			NO,		NO,		NO } },
[VM_CMD_STOP] = { "stop",
	{ NO_BUT("forget it, if it is not wanted"),
				DO,		DO,		DO,			DO,
	  WAIT,			DO,		NO_BUT(""),	NO_BUT("") } },
[VM_CMD_POWERDOWN] = { "powerdown",
	{ NO,			WAIT,		WAIT,		DO,			DO,
	  WAIT,			NO,		NO_BUT(""),	NO_BUT("") } },
[VM_CMD_CPUS] = { "cpus",
	{ NO,			WAIT,		WAIT,		DO,			DO,
	  WAIT,			NO,		NO,		NO } },
[VM_CMD_SNAPSHOT] = { "snapshot",
	{ NO,			WAIT,		WAIT,		DO,			DO,
	  WAIT,			NO,		NO,		NO } },
/* These two concern what the connection holds, which is nothing before the VM runs. */
[VM_CMD_SNAPSHOT_COMMIT] = { "snapshot-commit",
	{ NO,			DO,		DO,		DO,			DO,
	  WAIT,			DO,		NO,		NO } },
[VM_CMD_SNAPSHOT_ABORT] = { "snapshot-abort",
	{ NO,			DO,		DO,		DO,			DO,
	  WAIT,			DO,		NO,		NO } },
[VM_CMD_DEVICE_ADD] = { "device-add",
	{ NO,			WAIT,		WAIT,		DO,			NO_BUT(NO_ANSWER),
	  WAIT,			NO,		NO,		NO } },
[VM_CMD_DEVICE_REMOVE] = { "device-remove",
	{ NO,			WAIT,		WAIT,		DO,			NO_BUT(NO_ANSWER),
	  WAIT,			NO,		NO,		NO } },
[VM_CMD_DEVICE_LIST] = { "device-list",
	{ NO,			WAIT,		WAIT,		DO,			DO,
	  WAIT,			DO,		NO,		NO } },
/* These two are for what nobody runs: a runner refuses them. */
[VM_CMD_START] = { "start",
	{ DO,			NO,		NO,		NO,			NO_BUT("resume it"),
	  NO,			NO_BUT(NOT_YET), DO,		DO } },
[VM_CMD_FORGET] = { "forget",
	{ DO,			NO_BUT(FIRST_STOP), NO_BUT(FIRST_STOP), NO_BUT(FIRST_STOP), NO_BUT(FIRST_STOP),
	  NO_BUT(FIRST_STOP),	NO_BUT(NOT_YET), DO,		DO } },
};

/* ---- questions ------------------------------------------------------------------------ */

enum vm_answer vm_answer(enum vm_status s, enum vm_command cmd)
{
	return commands[cmd].rules[s].answer;
}

const char *vm_refusal(enum vm_status s, enum vm_command cmd, char text[VM_REFUSAL_TEXT])
{
	const struct rule *r = &commands[cmd].rules[s];
	const char *advice = r->advice ? r->advice : states[s].advice;

	if (r->answer != VM_REFUSE)
		return NULL;
	snprintf(text, VM_REFUSAL_TEXT, "cannot %s: it %s%s%s", commands[cmd].name, states[s].phrase,
		 advice && *advice ? "; " : "", advice ? advice : "");
	return text;
}

bool vm_may_become(enum vm_status from, enum vm_status to)
{
	return states[from].next & BIT(to);
}

bool vm_status_ends(enum vm_status s)
{
	return s == VM_DEFINED || s == VM_STOPPED || s == VM_FAILED;
}

uint32_t vm_status_event(enum vm_status s)
{
	return states[s].event;
}

const char *vm_status_name(enum vm_status s)
{
	return states[s].name;
}

const char *vm_status_phrase(enum vm_status s)
{
	return states[s].phrase;
}

bool vm_status_parse(enum vm_status *s, const char *name)
{
	for (size_t i = 0; i < NR(states); i++) {
		if (strcmp(states[i].name, name))
			continue;
		*s = (enum vm_status)i;
		return true;
	}
	return false;
}

const char *vm_command_name(enum vm_command cmd)
{
	return commands[cmd].name;
}

bool vm_command_parse(enum vm_command *cmd, const char *name)
{
	if (!strcmp(name, "quit"))
		name = "stop";
	for (size_t i = 0; i < NR(commands); i++) {
		if (strcmp(commands[i].name, name))
			continue;
		*cmd = (enum vm_command)i;
		return true;
	}
	return false;
}
