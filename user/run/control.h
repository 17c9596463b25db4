/* SPDX-License-Identifier: GPL-2.0-only */
/*
 * The control socket: NAME.sock, mode 0600, one JSON object a line each way.
 *
 *   request {"cmd":"NAME", ...}, descriptors beside it by SCM_RIGHTS
 *   reply   {"ok":true, ...} or {"ok":false,"errno":N,"error":"a sentence"}
 *   event   {"event":"NAME", ...}, between replies
 *
 *   status           "state", "pid", what the VM is made of, its log's label; also
 *                    while it starts
 *   pause, resume    the vCPUs and devices; the guest's clock stands still
 *   cpus             what each vCPU is doing, see cpus.h; they stand still for it
 *   reset            power-on state, kernel loaded again
 *   stop, quit       the VM ends; the reply comes before its end
 *   powerdown        press the power button
 *   snapshot         see snapshot.c
 *   snapshot-commit, snapshot-abort
 *   device-add, device-remove, device-list
 *                    see devices.h; the reply to the first two comes when the
 *                    guest has decided, and nothing else is read from that
 *                    connection until then
 *
 * One thread answers; a request waits for the one before it, but not for another
 * client's device. Up to 16 clients may be connected.
 *
 * What a command comes to in a state of the VM is life.h's to say. One that is not for
 * this state, but for another, is queued: it is answered when the VM is in a state that
 * knows an answer, and until then nothing else is read from its connection.
 */
#ifndef VMPLAT_RUN_CONTROL_H
#define VMPLAT_RUN_CONTROL_H

#include <stddef.h>

struct control;
struct vm;

/**
 * control_new - listen under @name, before the VM exists
 *
 * A socket nobody answers on is replaced. -EADDRINUSE: a VM of that name lives.
 * The sentence for a failure goes to @err.
 */
int control_new(struct control **c, const char *name, char *err, size_t err_bytes);
/** control_start - answer for @vm from now on, be it that it starts only */
int control_start(struct control *c, struct vm *vm);
/** control_free - stop answering; the socket is gone. Accepts NULL */
void control_free(struct control *c);
const char *control_path(const struct control *c);

#endif
