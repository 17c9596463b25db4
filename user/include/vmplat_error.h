/* SPDX-License-Identifier: LGPL-2.1-or-later */
/*
 * libvmplat: what went wrong, in one shape everywhere.
 *
 * A failure has three parts. The errno is what the kernel or the library refused with, and
 * what a program passes on. The code is a small, stable class of errnos, for programs that
 * act on a failure and for those who count failures: what an errno means here is in the table
 * of <linux/vmplat.h>, and the code follows it. The sentence is for people, and has the value
 * that was wrong.
 *
 * Each thread keeps its latest failure; a call that succeeds leaves it alone. Programs on top
 * of the library may keep their own failures in the same place, as the command does.
 */
#ifndef VMPLAT_ERROR_H
#define VMPLAT_ERROR_H

#include <stdarg.h>

#ifdef __cplusplus
extern "C" {
#endif

/**
 * enum vmplat_code - what kind of failure it is
 * @VMPLAT_OK: none
 * @VMPLAT_FAILED: none of the others
 * @VMPLAT_INVALID: a value makes no sense
 * @VMPLAT_NOT_FOUND: what is named is not there
 * @VMPLAT_NO_MODULE: the kernel module is not loaded
 * @VMPLAT_EXISTS: it is there already, or not empty
 * @VMPLAT_DENIED: no permission, or read-only
 * @VMPLAT_BUSY: in use; may succeed later
 * @VMPLAT_NO_MEMORY: out of memory, or over a limit on it
 * @VMPLAT_NO_SPACE: the disk, quota or file is full
 * @VMPLAT_LIMIT: a limit of the process or the system
 * @VMPLAT_UNSUPPORTED: this kernel, module or machine cannot do it
 * @VMPLAT_WRONG_OBJECT: a descriptor or file of another kind
 * @VMPLAT_RANGE: beyond an end, or a sum that overflows
 * @VMPLAT_DAMAGED: stored data that is not what was stored
 * @VMPLAT_STALE: continuity is broken: begin anew
 * @VMPLAT_INTERRUPTED: by a signal, or cancelled; nothing was done
 * @VMPLAT_TIMEOUT: it took too long
 * @VMPLAT_GONE: the other side has gone
 * @VMPLAT_UNREACHABLE: memory that cannot be touched
 * @VMPLAT_IO: a device failed
 *
 * Numbers and names never change; there may be more of them.
 */
enum vmplat_code {
	VMPLAT_OK,
	VMPLAT_FAILED,
	VMPLAT_INVALID,
	VMPLAT_NOT_FOUND,
	VMPLAT_NO_MODULE,
	VMPLAT_EXISTS,
	VMPLAT_DENIED,
	VMPLAT_BUSY,
	VMPLAT_NO_MEMORY,
	VMPLAT_NO_SPACE,
	VMPLAT_LIMIT,
	VMPLAT_UNSUPPORTED,
	VMPLAT_WRONG_OBJECT,
	VMPLAT_RANGE,
	VMPLAT_DAMAGED,
	VMPLAT_STALE,
	VMPLAT_INTERRUPTED,
	VMPLAT_TIMEOUT,
	VMPLAT_GONE,
	VMPLAT_UNREACHABLE,
	VMPLAT_IO,
};

/** VMPLAT_ERROR_TEXT - bytes of the longest sentence, with its NUL */
#define VMPLAT_ERROR_TEXT	512

/**
 * struct vmplat_error - a failure; a copy is independent
 * @err: -errno; 0: nothing has failed yet
 * @code: &enum vmplat_code
 * @text: one sentence without a newline; cut, with "..." at its end, when it is too long
 */
struct vmplat_error {
	int err;
	enum vmplat_code code;
	char text[VMPLAT_ERROR_TEXT];
};

/**
 * vmplat_last_error - the sentence for this thread's latest failure
 *
 * Never NULL; valid until the thread's next failure.
 */
const char *vmplat_last_error(void);
/** vmplat_error_get - a copy of this thread's latest failure */
void vmplat_error_get(struct vmplat_error *error);
/**
 * vmplat_error_put - make @error this thread's latest failure
 *
 * To pass on what failed in another thread, or before cleaning up.
 */
void vmplat_error_put(const struct vmplat_error *error);

/**
 * vmplat_error_set - keep a failure of one's own
 * @err: errno, of either sign
 * @fmt: may print the sentence before: what fails further out adds to it
 *
 * Returns -errno, so that `return vmplat_error_set(ENOENT, "...", ...)` reads well. The
 * caller's errno is left alone.
 */
int vmplat_error_set(int err, const char *fmt, ...) __attribute__((format(printf, 2, 3)));
/** vmplat_error_set_code - the same where the errno alone does not tell the kind */
int vmplat_error_set_code(enum vmplat_code code, int err, const char *fmt, ...)
	__attribute__((format(printf, 3, 4)));
/** vmplat_error_format - the same into @error; the thread's latest failure is left alone */
int vmplat_error_format(struct vmplat_error *error, int err, const char *fmt, va_list ap)
	__attribute__((format(printf, 3, 0)));

/** vmplat_code_of - the code of an errno of either sign */
enum vmplat_code vmplat_code_of(int err);
/** vmplat_code_name - "not-found"; NULL if there is no such code */
const char *vmplat_code_name(enum vmplat_code code);

#ifdef __cplusplus
}
#endif

#endif /* VMPLAT_ERROR_H */
