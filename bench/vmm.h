/* SPDX-License-Identifier: GPL-2.0-only */
/* A VMM as a child process: its guest's console on pipes, and QEMU's monitor. */
#ifndef VMM_H
#define VMM_H

#include <stdint.h>
#include <sys/types.h>

struct vmm {
	pid_t pid;
	int console, keys;
	char text[65536];	/* what the console said and nobody asked for yet */
	size_t text_len;
	int qmp;
	char line[65536];	/* of the monitor: read, not yet handled */
	size_t line_len;
	/* latest of each, in microseconds of QEMU's clock; 0: not since vmm_forget() */
	uint64_t stop_us, resume_us;
	char migration[24];	/* status in the latest MIGRATION event */
	char job[24];		/* status in the latest JOB_STATUS_CHANGE */
};

/* Words are separated by spaces; @fmt may be used several times for one command. */
struct words {
	char *argv[96];
	int nr;
};
__attribute__((format(printf, 2, 3))) void words_add(struct words *w, const char *fmt, ...);
void words_one(struct words *w, const char *word);	/* may contain spaces */

struct vmm *vmm_start(struct words *w);	/* frees the words */
void vmm_kill(struct vmm *v);
/* Waits until the console says @what, forgets all up to it; returns when that was. */
uint64_t vmm_expect(struct vmm *v, const char *what);
void vmm_forget(struct vmm *v);		/* drop what the console said and the monitor's news */

void qmp_open(struct vmm *v, const char *path);
/* One command: name, and arguments as JSON without the outer braces. Ends the program on an error. */
__attribute__((format(printf, 3, 4))) void qmp(struct vmm *v, const char *command, const char *fmt, ...);
void qmp_capabilities(struct vmm *v, const char *names);	/* of migration; separated by spaces */
void qmp_wait_migrated(struct vmm *v);
void qmp_wait_job(struct vmm *v);
void qmp_wait_resume(struct vmm *v);

#endif
