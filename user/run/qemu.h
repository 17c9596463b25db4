/* SPDX-License-Identifier: GPL-2.0-only */
/*
 * The other engine: QEMU as a child of this process runs the guest, on memory of ours.
 *
 * All else is as with a VM of our own: the control socket and its verbs, events,
 * console, memory with its log, views, snapshots and restores. Guest memory is the file
 * that vm->mem is, which QEMU maps; so whatever it or its guest writes is in our logs.
 * The rest of the state QEMU writes itself, as a migration that leaves memory out
 * (x-ignore-shared), and it is a section "qemu" of the VM's state.
 *
 * Threads: commands go over one connection, under the operation lock. A thread watches
 * the console, QEMU's events, what it says on standard error, and its end. It takes no
 * lock, so that whoever holds one may wait for it.
 *
 * QEMU does not outlive this process (PR_SET_PDEATHSIG), and nothing of it has a name
 * in the file system: memory, sockets and kernels are descriptors it inherits.
 */
#ifndef VMPLAT_RUN_QEMU_H
#define VMPLAT_RUN_QEMU_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

struct qemu;
struct state_reader;
struct state_writer;
struct vm;

/** qemu_new - look for QEMU and firmware, and decide how it runs; nothing is started */
int qemu_new(struct vm *vm);
/** qemu_free - end it, if it has not ended. Accepts NULL */
void qemu_free(struct qemu *q);

/*
 * All of these: vm_error() has the sentence. From here to qemu_reset(): under the
 * operation lock, or before the VM runs.
 */

/** qemu_boot - start it; the guest does not run yet. On the main thread, which QEMU dies with */
int qemu_boot(struct vm *vm);
/** qemu_load - the same, with what qemu_save() wrote */
int qemu_load(struct vm *vm, struct state_reader *r);
/** qemu_save - halted; state_begin() and state_end() are the caller's */
int qemu_save(struct vm *vm, struct state_writer *w);
int qemu_halt(struct vm *vm);
int qemu_go(struct vm *vm);
int qemu_reset(struct vm *vm);
int qemu_powerdown(struct vm *vm);

/*
 * struct qemu_copy - a disk as it was at one instant, on its way into a file
 *
 * QEMU copies what the guest is about to overwrite first. All fields are qemu.c's.
 */
struct qemu_copy {
	const char *id;			/* of the disk; NULL: there is none */
	int64_t fdset;			/* -1: none */
	bool node, job;
	uint64_t bytes;			/* of the disk */
};

/**
 * qemu_copy_begin - copy the disk @id into @fd, as it is now, while the guest goes on
 * @id: lives as long as the copy
 *
 * Halted, after qemu_save(), under the operation lock. Needs QEMU 10. On failure
 * qemu_copy_end() is still to be called.
 */
int qemu_copy_begin(struct vm *vm, struct qemu_copy *c, const char *id, int fd);
/** qemu_copy_poll - 1: complete, 0: not yet, or -errno. Without the lock */
int qemu_copy_poll(struct vm *vm, struct qemu_copy *c, uint64_t *done_bytes);
/** qemu_copy_end - give up what is not complete, and forget it. Without the lock */
void qemu_copy_end(struct vm *vm, struct qemu_copy *c);

/** qemu_end - SIGTERM, and SIGKILL to one that does not follow; any thread, no lock */
void qemu_end(struct qemu *q);

/** qemu_input_room - how much qemu_input() takes now; none: on_room comes later */
size_t qemu_input_room(struct qemu *q);
void qemu_input(struct qemu *q, const uint8_t *p, size_t n);
/** qemu_on_room - @fn is called on the thread that watches; before the VM starts */
void qemu_on_room(struct qemu *q, void (*fn)(void *ctx), void *ctx);

#endif
