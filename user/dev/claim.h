/* SPDX-License-Identifier: LGPL-2.1-or-later */
/*
 * Claims from inside. plan.c says what a claim would do, claim.c keeps them in the journal, step.c
 * changes one function and changes it back.
 *
 * Undoing looks at the state a function is in, not at how far somebody had got, so that it may be
 * done again after a crash in its midst; the journal says which functions were touched at all, and
 * what they were before.
 */
#ifndef VMPLAT_DEV_CLAIM_H
#define VMPLAT_DEV_CLAIM_H

#include "dev/dev.h"

#define CLAIM_TEXT	256		/* the longest value in a record, with its end */

/* a function in a claim, as it was before; "" is none */
struct taken {
	char address[20], path[CLAIM_TEXT];
	uint64_t serial;
	unsigned int vendor, device;
	char driver[CLAIM_TEXT], override[CLAIM_TEXT], reset[CLAIM_TEXT];
	bool touched;			/* a change was announced in the journal */
	bool restored;
};

typedef void claim_told_fn(void *ctx, const char *sentence);

/* who wants to hear what was not done, and why */
struct listener {
	claim_told_fn *told;
	void *ctx;
};

void tell(const struct listener *l, const char *fmt, ...) __attribute__((format(printf, 2, 3)));

/* ---- step.c ------------------------------------------------------------ */

/*
 * Open nodes that keep a function from being used while it changes hands; of one picture, whose
 * memory they live in.
 */
struct guards {
	struct dev_list fds;		/* int */
	struct dev_list names;		/* const char *, below /dev */
};

/* -EBUSY with a sentence if somebody has the function open */
int guards_add(struct guards *g, struct vmplat_devs *devs, const struct vmplat_pci *pci);
void guards_drop(struct guards *g);

/* What there is to remember of a function, read now. */
void step_remember(struct vmplat_devs *devs, const struct vmplat_pci *pci, struct taken *t);
/* Loads the driver if it is not there: -ENODEV with a sentence. */
int step_load_driver(struct vmplat_devs *devs, const char *driver);
/* Makes @driver the function's; @reset "" leaves the reset methods. -errno with a sentence. */
int step_bind(struct vmplat_devs *devs, const struct taken *t, const char *driver,
	      const char *reset);
/* Still the function that was taken? Tells if not. */
const struct vmplat_pci *step_same(struct vmplat_devs *devs, const struct taken *t,
				   const struct listener *l);
/* -EBUSY with a sentence if VFs of the function are in use. */
int step_vfs_idle(struct vmplat_devs *devs, const struct vmplat_pci *pci);
/* Puts the function back, from whatever state a claim for @driver leaves it in. */
void step_restore(struct vmplat_devs *devs, const struct taken *t, const char *driver,
		  const char *reset, const struct listener *l);
/* letters, digits, - and _ */
bool step_driver_name(const char *name);

/* ---- use.c ------------------------------------------------------------- */

/* names below /dev (const char *) that can be open exclusively: whole disks, VFIO groups */
void use_exclusive_nodes(struct vmplat_devs *devs, const struct vmplat_pci *pci,
			 struct dev_list *names);

#endif
