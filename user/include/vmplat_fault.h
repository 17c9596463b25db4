/* SPDX-License-Identifier: LGPL-2.1-or-later */
/*
 * libvmplat: who answers when memory cannot be touched.
 *
 * SIGSEGV and SIGBUS are one per process, but each part of a program that uses them means its own
 * addresses. Here a part registers a range with a handler. A fault goes to the narrowest range
 * around its address, from there outwards while handlers pass it on, then to the guards of the
 * thread (vmplat_fault_try()), then to the handler that was installed before this library's. With
 * none of these the process dies of the very fault, so that a core shows where.
 *
 * Ranges lie within each other or apart. Handlers run on the thread that faulted, as signal
 * handlers: they may call what signal-safety(7) allows, and must return. A handler may itself
 * touch memory that faults. Finding a handler takes no lock and is logarithmic.
 *
 * A program that installs a handler of its own later is asked first; it should pass on what it
 * does not know. Handlers run on the alternate signal stack where a thread has one; without, a
 * stack that is full cannot be reported.
 */
#ifndef VMPLAT_FAULT_H
#define VMPLAT_FAULT_H

#include <signal.h>
#include <stddef.h>
#include <stdint.h>

#ifdef __cplusplus
extern "C" {
#endif

enum vmplat_fault_access {
	VMPLAT_FAULT_UNKNOWN,	/* the processor did not say */
	VMPLAT_FAULT_READ,
	VMPLAT_FAULT_WRITE,
	VMPLAT_FAULT_EXECUTE,
};

/**
 * struct vmplat_fault - one fault
 * @signo: SIGSEGV or SIGBUS
 * @code: si_code: SEGV_MAPERR (nothing mapped), SEGV_ACCERR (protected), BUS_ADRERR (beyond the
 *	end of a file, or its content cannot be had), ...; 0 or less: somebody sent the signal
 * @addr: the address that was touched
 * @pc: the instruction that did, 0 where it is not known
 * @access: &enum vmplat_fault_access; known on x86-64 only
 * @context: registers, a ucontext_t; what a handler changes in it is what the thread goes on with
 * @info: as the kernel gave it
 */
struct vmplat_fault {
	int signo;
	int code;
	uintptr_t addr;
	uintptr_t pc;
	enum vmplat_fault_access access;
	void *context;
	const siginfo_t *info;
};

enum vmplat_fault_verdict {
	VMPLAT_FAULT_PASS,	/* not mine: ask further out */
	VMPLAT_FAULT_RETRY,	/* go on where @context says: at the instruction, if it is unchanged */
};

typedef enum vmplat_fault_verdict vmplat_fault_fn(const struct vmplat_fault *fault, void *data);

struct vmplat_fault_range;

/** VMPLAT_FAULT_F_THREAD - only faults of the thread that registers the range */
#define VMPLAT_FAULT_F_THREAD	(1u << 0)

/**
 * vmplat_fault_add - be asked about faults in a range
 * @range: the new handle
 * @first: its first address
 * @bytes: its length; 0, with @first NULL: every fault, asked last, and also signals that
 *	somebody sent
 * @fn: called with @data
 * @flags: 0 or VMPLAT_FAULT_F_THREAD
 *
 * Of ranges that are the same, the later one is asked first.
 *
 * -EINVAL: an empty range, unknown flags; -EOVERFLOW: it runs past the end of memory; -EEXIST: it
 * overlaps another one in part; -EDEADLK: called by a handler; -ENOMEM.
 */
int vmplat_fault_add(struct vmplat_fault_range **range, const void *first, size_t bytes,
		     vmplat_fault_fn *fn, void *data, uint32_t flags);
/**
 * vmplat_fault_remove - be asked no more; accepts NULL
 *
 * On return no thread is in the handler any more, so that its data may be freed: hold no lock that
 * the handler takes. Called by a handler it does not wait.
 */
void vmplat_fault_remove(struct vmplat_fault_range *range);

/**
 * struct vmplat_mmio_ops - registers of a device that is emulated
 * @read: the value of @bytes (1, 2, 4, 8) at @offset in the range
 * @write: store it
 *
 * Both run as fault handlers, on any thread.
 */
struct vmplat_mmio_ops {
	uint64_t (*read)(void *data, uint64_t offset, unsigned int bytes);
	void (*write)(void *data, uint64_t offset, unsigned int bytes, uint64_t value);
};

/**
 * vmplat_fault_add_mmio - a range whose loads and stores are calls
 * @first: of memory that is mapped PROT_NONE
 * @ops: must stay as long as the range
 *
 * x86-64: MOV, MOVZX, MOVSX of general registers and constants in 64-bit mode, which is what
 * compilers make of volatile integers. Any other instruction (LOCK, SSE, string, arithmetic on
 * memory) or an access across the end of the range is passed on, never half done.
 *
 * As vmplat_fault_add(), and -EOPNOTSUPP on other processors.
 */
int vmplat_fault_add_mmio(struct vmplat_fault_range **range, const void *first, size_t bytes,
			  const struct vmplat_mmio_ops *ops, void *data, uint32_t flags);

/**
 * vmplat_fault_try - call @fn; if it touches what cannot be touched, come back
 * @first: only faults in this range end @fn;
 * @bytes: its length, or 0 for all faults
 * @fault: what happened, or NULL; its context and info are NULL, they are gone
 *
 * For memory that others can take away, a file that may be truncated: @fn is left in the middle, so
 * it must hold no lock and own nothing that would be lost. Ranges with handlers are asked before.
 * Calls nest; each thread has its own.
 *
 * 0: @fn returned; -EFAULT: it did not.
 */
int vmplat_fault_try(const void *first, size_t bytes, void (*fn)(void *data), void *data,
		     struct vmplat_fault *fault);

/**
 * vmplat_fault_text - a fault as words: "SIGBUS: write to 0x7f... by 0x55..."
 *
 * May be called in a handler. Returns its length, less than @bytes; 128 are always enough.
 */
size_t vmplat_fault_text(const struct vmplat_fault *fault, char *text, size_t bytes);

#ifdef __cplusplus
}
#endif

#endif /* VMPLAT_FAULT_H */
