/* SPDX-License-Identifier: GPL-2.0-only */
/*
 * The hot-plug manager: what to do with what is plugged into the host.
 *
 *	policy.c   a file of rules, read
 *	scan.c     the objects of sysfs, each with its state
 *	plan.c     what the first rule that fits an object makes of it
 *	steps.c    the writes that lead from one state to another
 *	journal.c  each change before it is begun and after it has ended, in a lib/journal
 *	apply.c    changes made, recovered and undone
 *	follow.c   waiting until something is plugged
 *
 * An object is a CPU, a memory block, a PCI function or a network device. Its state
 * is all that this manager ever changes of it, so that a state that was written down
 * can be brought back. Objects are told apart by name and by the inode of their sysfs
 * directory: what was unplugged and plugged again is another object.
 *
 * Functions return 0 or -errno and leave a sentence in plug_error(), per thread.
 * Nothing here prints.
 */
#ifndef VMPLAT_HOTPLUG_PLUG_H
#define VMPLAT_HOTPLUG_PLUG_H

#include <signal.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include <vmplat_error.h>

struct journal;
struct json_object;

#define PLUG_NAME_MAX	63
#define PLUG_WORD_MAX	63	/* drivers, VMs */
#define PLUG_WHY_MAX	255
#define PLUG_PATH_MAX	191	/* below sysfs */
#define PLUG_STEPS_MAX	4

static inline const char *plug_error(void)
{
	return vmplat_last_error();
}

#define plug_fail(err, ...)	vmplat_error_set(err, __VA_ARGS__)

enum plug_class { PLUG_CPU, PLUG_MEMORY, PLUG_PCI, PLUG_NETDEV, PLUG_NR_CLASSES };

/* "cpu", "memory", "pci", "net" */
const char *plug_class_name(enum plug_class class_);
/* -1 if there is none of that name */
int plug_class_of(const char *name);

/* ---- state.c: what is changed ------------------------------------------------ */

#define PLUG_ZONE_ANY		""
#define PLUG_ZONE_KERNEL	"kernel"	/* any but Movable */
#define PLUG_ZONE_MOVABLE	"Movable"

/**
 * struct plug_state - state of an object, or a wish for one
 * @online: of CPUs and memory blocks
 * @zone: of a memory block that is online: "Normal", "Movable", "DMA32", or "none" if it
 *	spans several; a wish may also be one of PLUG_ZONE_*
 * @driver: of a PCI function, "" for none
 * @override: driver_override of a PCI function, "" for none
 * @vm: which a network device is plugged into, "" for none
 * @id: its name there
 *
 * Members that the class of the object does not have are zero.
 */
struct plug_state {
	bool online;
	char zone[16];
	char driver[PLUG_WORD_MAX + 1];
	char override[PLUG_WORD_MAX + 1];
	char vm[PLUG_WORD_MAX + 1];
	char id[32];
};

bool plug_state_same(const struct plug_state *a, const struct plug_state *b);
/* plug_state_meets - is @now what @wish asks for? */
bool plug_state_meets(const struct plug_state *now, const struct plug_state *wish);
#define PLUG_STATE_TEXT 256
/* For people; returns @buf */
const char *plug_state_text(enum plug_class class_, const struct plug_state *s,
			    char buf[PLUG_STATE_TEXT]);
struct json_object *plug_state_to_json(enum plug_class class_, const struct plug_state *s);
int plug_state_from_json(enum plug_class class_, struct json_object *o, struct plug_state *s);

/* ---- scan.c: what there is ---------------------------------------------------- */

/**
 * struct plug_host - where to look
 * @sysfs: "/sys", or a tree that looks like it
 */
struct plug_host {
	const char *sysfs;
};

struct plug_object {
	enum plug_class class_;
	char name[PLUG_NAME_MAX + 1];	/* cpu3, memory41, 0000:01:00.0, tap0 */
	uint64_t ino;
	int node;			/* -1: not known */
	struct plug_state now;
	union {
		struct {
			uint64_t number;
			bool fixed;		/* cannot go offline */
		} cpu;
		struct {
			uint64_t number;
			uint64_t start, bytes;
			char zones[48];		/* as the kernel lists them */
		} memory;
		struct {
			unsigned int vendor, device, subvendor, subdevice, class_code;
			int group;		/* -1: none */
			char slot[32];		/* "": none */
			bool odd;		/* an override too long to be put back */
		} pci;
		struct {
			bool tap;
		} net;
	};
};

struct plug_scan {
	struct plug_object *objects;
	size_t nr;
};

/* plug_scan - all objects: CPUs, memory, PCI, network, each in the order of their numbers */
int plug_scan(const struct plug_host *host, struct plug_scan *scan);
void plug_scan_free(struct plug_scan *scan);
/**
 * plug_look - one object, as it is now
 * @vm: which a network device may be plugged into, or ""
 *
 * -ENOENT: there is none of that name.
 */
int plug_look(const struct plug_host *host, enum plug_class class_, const char *name,
	      const char *vm, struct plug_object *object);
/* plug_look_vm - has @vm the network device @object? 0 with @object->now, or -errno */
int plug_look_vm(struct plug_object *object, const char *vm);
/* What the kernel of this life of the machine is called, for journals. */
int plug_boot_id(char id[40]);

/* ---- policy.c: what is wanted -------------------------------------------------- */

enum plug_verb {
	PLUG_LEAVE,
	PLUG_ONLINE,
	PLUG_ONLINE_KERNEL,
	PLUG_ONLINE_MOVABLE,
	PLUG_OFFLINE,
	PLUG_DRIVER,
	PLUG_NO_DRIVER,
	PLUG_TO_VM,
};

enum plug_key {
	PLUG_KEY_NUMBER,	/* ranges */
	PLUG_KEY_BLOCK,		/* ranges */
	PLUG_KEY_NODE,		/* ranges */
	PLUG_KEY_GROUP,		/* ranges */
	PLUG_KEY_RANGE,		/* ranges: of addresses */
	PLUG_KEY_CLASS,		/* text: 2, 4 or 6 hexadecimal digits */
	PLUG_KEY_ID,		/* ids */
	PLUG_KEY_SUBSYSTEM,	/* ids */
	PLUG_KEY_ADDRESS,	/* text: a pattern */
	PLUG_KEY_SLOT,		/* text: a pattern */
	PLUG_KEY_NAME,		/* text: a pattern */
};

#define PLUG_ID_ANY	0xffffffffu

struct plug_match {
	enum plug_key key;
	char text[PLUG_WORD_MAX + 1];
	unsigned int vendor, device;		/* PLUG_ID_ANY */
	struct plug_span { uint64_t first, last; } *spans;
	size_t nr_spans;
};

struct plug_rule {
	unsigned int line;
	enum plug_class class_;
	struct plug_match *matches;	/* all of them have to fit */
	size_t nr_matches;
	enum plug_verb verb;
	char arg[PLUG_WORD_MAX + 1];	/* driver, VM */
	bool take;			/* rezone, rebind: even what is in another zone, has another driver */
};

struct plug_policy {
	struct plug_rule *rules;
	size_t nr_rules;
	char **errors;			/* "line 3: ..." */
	size_t nr_errors;
};

/**
 * plug_policy_parse - -EINVAL: @policy->errors says what is wrong, line by line
 *
 * Free it in any case.
 */
int plug_policy_parse(struct plug_policy *policy, const char *text, size_t bytes);
/* plug_policy_load - the same from a file */
int plug_policy_load(struct plug_policy *policy, const char *path);
void plug_policy_free(struct plug_policy *policy);
bool plug_rule_fits(const struct plug_rule *rule, const struct plug_object *object);

/* ---- plan.c: what would be done -------------------------------------------------- */

/**
 * struct plug_verdict - what becomes of an object
 * @rule: the first that fits, or NULL
 * @change: @after is wanted
 * @why: it is left alone, otherwise
 */
struct plug_verdict {
	const struct plug_rule *rule;
	bool change;
	struct plug_state after;
	char why[PLUG_WHY_MAX + 1];
};

/* plug_decide - asks a VM for the state of a network device, which gets into @object */
void plug_decide(const struct plug_host *host, const struct plug_policy *policy,
		 struct plug_object *object, struct plug_verdict *verdict);

/* ---- steps.c: how it is done ------------------------------------------------------- */

enum plug_step_kind { PLUG_STEP_WRITE, PLUG_STEP_VM_ADD, PLUG_STEP_VM_REMOVE };

struct plug_step {
	enum plug_step_kind kind;
	char path[PLUG_PATH_MAX + 1];	/* below sysfs; of a VM: its name */
	char value[PLUG_WORD_MAX + 1];	/* written; of a VM: the tap, or the device's id */
	char id[32];			/* of the device to be, in a VM */
	bool patient;			/* the device may not be ready to be bound yet */
};

/* plug_steps - how many of @steps lead from @from to @to */
size_t plug_steps(const struct plug_object *object, const struct plug_state *from,
		  const struct plug_state *to, struct plug_step steps[PLUG_STEPS_MAX]);
/* As one would type it; returns @buf. */
#define PLUG_STEP_TEXT 512
const char *plug_step_text(const struct plug_host *host, const struct plug_step *step,
			   char buf[PLUG_STEP_TEXT]);
/* plug_step_allowed - may this process? -EACCES, -EROFS... without doing anything */
int plug_step_allowed(const struct plug_host *host, const struct plug_step *step);
int plug_step_do(const struct plug_host *host, const struct plug_step *step);

/*
 * When set, hears of each write to sysfs, or request to a VM, before it happens. Returns 0;
 * -errno to fail it; 1 to have done it. How tests play the kernel.
 */
extern int (*plug_write_hook)(const char *where, const char *what);

/* ---- journal.c ------------------------------------------------------------------------ */

enum plug_result {
	PLUG_UNFINISHED,	/* being done, or cut short by a kill */
	PLUG_DONE,
	PLUG_FAILED,
	PLUG_RECOVERED,		/* was cut short; a later run has looked what came of it */
};

/**
 * struct plug_change - one change of one object
 * @number: counts from 1
 * @run: which call of the manager
 * @undoes: number of the change that this one takes back, or 0
 * @undone_by: number of the change that took this one back, or 0
 * @line: of the policy; 0 for an undo
 * @before: state when it began
 * @after: the wish
 * @now: state when it ended; without a meaning while PLUG_UNFINISHED or when @gone
 * @gone: the object had been unplugged when it ended
 */
struct plug_change {
	unsigned int number, run, undoes, undone_by, line;
	uint64_t begin_ns, end_ns;	/* CLOCK_REALTIME */
	enum plug_class class_;
	char object[PLUG_NAME_MAX + 1];
	uint64_t ino;
	struct plug_state before, after, now;
	enum plug_result result;
	bool gone;
	char why[PLUG_WHY_MAX + 1];
};

struct plug_journal {
	char *path;
	struct journal *file;		/* open for writing; else NULL */
	unsigned int nr_lines;		/* that are good */
	char boot[40];			/* "": nothing has been written to it yet */
	unsigned int run;		/* of this call; 0 until its first change */
	unsigned int last_run;
	struct plug_change *changes;	/* by number, less one */
	size_t nr;
	bool torn;			/* the last record was cut short, and is left out */
};

/**
 * plug_journal_open - for changes: created if need be, locked until it is closed
 * @boot: plug_boot_id(); a journal of an earlier boot is renamed to PATH.1
 *
 * -EBUSY: somebody else is at it; -EBADMSG: damaged, or no journal.
 */
int plug_journal_open(struct plug_journal *j, const char *path, const char *boot);
/* plug_journal_read - look only; -ENOENT if there is none; after -EBADMSG what is before the damage */
int plug_journal_read(struct plug_journal *j, const char *path);
void plug_journal_close(struct plug_journal *j);
/**
 * plug_journal_begin - write @c down; its number, run, and begin are filled in
 *
 * On disk when it returns 0. After an error nothing may be changed.
 */
int plug_journal_begin(struct plug_journal *j, struct plug_change *c);
/* plug_journal_end - and what came of it: result, now, gone, why of @c */
int plug_journal_end(struct plug_journal *j, const struct plug_change *c);
const char *plug_result_name(enum plug_result result);
/* As the command prints it with --json. */
struct json_object *plug_change_to_json(const struct plug_change *c);

/* ---- apply.c ----------------------------------------------------------------------------- */

struct plug_work {
	const struct plug_host *host;
	struct plug_journal *journal;
	/* called for each change when it has ended, in whatever way */
	void (*ended)(void *ctx, const struct plug_change *c);
	/* @c cannot be taken back, or need not if @harmless; a follower: @c will not be repeated */
	void (*refused)(void *ctx, const struct plug_change *c, bool harmless, const char *why);
	void *ctx;
	unsigned int nr_done, nr_failed, nr_refused;
	bool follows;	/* what failed in this run is not tried again in the same state */
	unsigned int told;	/* the change of which "something else" was said last */
};

/* plug_recover - look what came of changes that were cut short; before anything else */
int plug_recover(struct plug_work *work);
/**
 * plug_apply - do what @policy wants with all that is there
 *
 * A change that fails is one of @work->nr_failed, and the others go on. An error is
 * one after which nothing may be changed any more: of the journal, of permissions.
 */
int plug_apply(struct plug_work *work, const struct plug_policy *policy);
/* plug_undo - take back all changes from @since on, newest first; 0: the latest run's */
int plug_undo(struct plug_work *work, unsigned int since);

/* ---- follow.c ------------------------------------------------------------------------------ */

struct plug_follow;

/* plug_follow_open - -ENOENT: the module, which tells events, is not loaded */
int plug_follow_open(struct plug_follow **follow);
void plug_follow_close(struct plug_follow *follow);
/**
 * plug_follow_wait - until something may have been plugged
 * @unblocked: signals blocked while it waits, for ppoll()
 *
 * 1: look; 0: a signal; -errno. The first call returns at once, so that whoever looks
 * after each return misses nothing.
 */
int plug_follow_wait(struct plug_follow *follow, const sigset_t *unblocked);

#endif
