/* SPDX-License-Identifier: GPL-2.0-only */
/*
 * The other end of a VM's control socket (control.c has the protocol): one JSON
 * object a line, descriptors beside it by SCM_RIGHTS.
 *
 * A failed call leaves its reason in vm_client_error(), per thread.
 */
#ifndef VMPLAT_RUN_CLIENT_H
#define VMPLAT_RUN_CLIENT_H

#include <json-c/json.h>
#include <stddef.h>
#include <vmplat_error.h>

#define VM_CLIENT_FDS_MAX	64

struct vm_client;

static inline const char *vm_client_error(void)
{
	return vmplat_last_error();
}

/**
 * vm_run_dir - where control sockets live
 *
 * $VMPLAT_RUN_DIR, else /run/vmplat-vms for root, else
 * $XDG_RUNTIME_DIR/vmplat. NULL (and vm_client_error()) if there is none.
 */
const char *vm_run_dir(void);

/**
 * vm_client_open - -ENOENT: no VM of that name; -ECONNREFUSED: there is, but nobody runs it
 *
 * The sentence says what became of it, and what can be done.
 */
int vm_client_open(struct vm_client **c, const char *name);
void vm_client_close(struct vm_client *c);
int vm_client_fd(const struct vm_client *c);

/** vm_client_send - @fds may be NULL */
int vm_client_send(struct vm_client *c, struct json_object *req,
		   const int *fds, size_t nr_fds);
/**
 * vm_client_recv - the next line: a reply, or an {"event": ...}
 * @fds: room for VM_CLIENT_FDS_MAX descriptors, NULL to close what comes
 * @timeout_ms: -1 for none; -ETIMEDOUT
 *
 * -EPIPE: the VM has hung up. Free *@msg with json_object_put().
 */
int vm_client_recv(struct vm_client *c, struct json_object **msg, int *fds,
		   size_t *nr_fds, int timeout_ms);
/**
 * vm_client_call - send, then wait for the reply (events are skipped)
 *
 * A reply {"ok":false} gives its "errno" as -errno and its "error" as
 * vm_client_error(); *@reply is NULL then.
 */
int vm_client_call(struct vm_client *c, struct json_object *req,
		   const int *fds, size_t nr_fds, struct json_object **reply,
		   int *out_fds, size_t *nr_out_fds);

/**
 * vm_client_record - what is known of a VM that does not answer, see record.h; to be put
 *
 * NULL with vm_client_error(): nothing.
 */
struct json_object *vm_client_record(const char *name);

/** vm_client_list - call @fn for every VM that has a socket or a record, by name */
int vm_client_list(int (*fn)(void *ctx, const char *name), void *ctx);

#endif
