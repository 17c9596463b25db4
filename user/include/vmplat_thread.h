/* SPDX-License-Identifier: LGPL-2.1-or-later */
/*
 * libvmplat: threads that run where and how they are told, or do not start; and where threads ran.
 *
 * The kernel leaves out CPUs that are offline or not for the process, and says nothing. Here that is
 * an error which names the CPU, and no thread is left behind.
 */
#ifndef VMPLAT_THREAD_H
#define VMPLAT_THREAD_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <sys/types.h>

#ifdef __cplusplus
extern "C" {
#endif

/* ---- sets of CPUs ---------------------------------------------------------- */

#define VMPLAT_CPUS_MAX		4096u
/** VMPLAT_CPUS_TEXT - bytes that vmplat_cpus_format() never needs more of for 64 CPUs */
#define VMPLAT_CPUS_TEXT	200

/** struct vmplat_cpus - CPU n is bit n % 64 of word n / 64 */
struct vmplat_cpus {
	uint64_t bits[VMPLAT_CPUS_MAX / 64];
};

static inline bool vmplat_cpus_has(const struct vmplat_cpus *cpus, unsigned int cpu)
{
	return cpu < VMPLAT_CPUS_MAX && cpus->bits[cpu / 64] >> cpu % 64 & 1;
}

static inline void vmplat_cpus_add(struct vmplat_cpus *cpus, unsigned int cpu)
{
	if (cpu < VMPLAT_CPUS_MAX)
		cpus->bits[cpu / 64] |= UINT64_C(1) << cpu % 64;
}

/** vmplat_cpus_count - how many there are in it */
unsigned int vmplat_cpus_count(const struct vmplat_cpus *cpus);
/**
 * vmplat_cpus_parse - a list as taskset(1) has them: "0,2-5"
 * @end: set to what follows the list; NULL: nothing may
 *
 * -EINVAL: not such a list, or a CPU of VMPLAT_CPUS_MAX and more.
 */
int vmplat_cpus_parse(struct vmplat_cpus *cpus, const char *text, const char **end);
/** vmplat_cpus_format - the list; returns its length, cut to less than @bytes */
size_t vmplat_cpus_format(const struct vmplat_cpus *cpus, char *text, size_t bytes);
/** vmplat_cpus_allowed - those the calling thread may run on; 0 or -errno */
int vmplat_cpus_allowed(struct vmplat_cpus *cpus);
/** vmplat_cpus_of_node - those of a NUMA node; -ENOENT: there is no such node */
int vmplat_cpus_of_node(struct vmplat_cpus *cpus, unsigned int node);

/**
 * enum vmplat_cpu_issue - what disturbs a thread that has a CPU to itself
 * @VMPLAT_CPU_OFFLINE: it is not running
 * @VMPLAT_CPU_SHARED: the scheduler puts other tasks on it, too
 * @VMPLAT_CPU_TICKS: the kernel's tick interrupts it even when one task runs
 * @VMPLAT_CPU_SIBLING: a CPU that is not in the set shares its core
 * @VMPLAT_CPU_IRQS: devices interrupt it
 * @VMPLAT_CPU_SLOWS: its frequency follows the load
 */
enum vmplat_cpu_issue {
	VMPLAT_CPU_OFFLINE,
	VMPLAT_CPU_SHARED,
	VMPLAT_CPU_TICKS,
	VMPLAT_CPU_SIBLING,
	VMPLAT_CPU_IRQS,
	VMPLAT_CPU_SLOWS,
};

/**
 * vmplat_cpus_advise - what to do so that threads on these CPUs are left alone
 * @tell: called for each issue, CPU by CPU; @text says what it is and what to do about it
 *
 * Returns how many there are. What the kernel does not tell is not an issue.
 */
int vmplat_cpus_advise(const struct vmplat_cpus *cpus,
		       void (*tell)(void *ctx, unsigned int cpu, enum vmplat_cpu_issue issue,
				    const char *text), void *ctx);

/* ---- threads ------------------------------------------------------------------ */

/**
 * enum vmplat_thread_class - how it competes for CPUs, see sched(7)
 * @VMPLAT_THREAD_NORMAL: SCHED_OTHER
 * @VMPLAT_THREAD_BATCH: SCHED_BATCH
 * @VMPLAT_THREAD_IDLE: SCHED_IDLE: with what others leave
 * @VMPLAT_THREAD_FIFO: SCHED_FIFO: before all of the above, until it sleeps
 * @VMPLAT_THREAD_RR: SCHED_RR: the same, in turns with others of its priority
 */
enum vmplat_thread_class {
	VMPLAT_THREAD_NORMAL,
	VMPLAT_THREAD_BATCH,
	VMPLAT_THREAD_IDLE,
	VMPLAT_THREAD_FIFO,
	VMPLAT_THREAD_RR,
};

/** VMPLAT_THREAD_F_NO_SIGNALS - it blocks all signals but those of its own faults */
#define VMPLAT_THREAD_F_NO_SIGNALS	(1u << 0)

/**
 * struct vmplat_thread_options - zero is the default of each
 * @name: for people; 15 bytes of it are seen
 * @cpus: where it may run; NULL: where its maker may
 * @class_: &enum vmplat_thread_class
 * @priority: 1 to 99 with VMPLAT_THREAD_FIFO and _RR, else 0
 * @flags: 0 or VMPLAT_THREAD_F_NO_SIGNALS
 * @stack_bytes: 0: the system's default
 */
struct vmplat_thread_options {
	const char *name;
	const struct vmplat_cpus *cpus;
	enum vmplat_thread_class class_;
	int priority;
	uint32_t flags;
	size_t stack_bytes;
};

struct vmplat_thread;

/**
 * vmplat_thread_start - run @fn in a thread of its own
 * @o: NULL for the defaults
 *
 * -EINVAL: a CPU that is offline or not for this process, or options that make no sense; -EPERM: the
 * class needs CAP_SYS_NICE or RLIMIT_RTPRIO; -EAGAIN: too many threads; -ENOMEM. @fn is not called
 * then. The sentence has no subject: "cannot run on CPU 5: ...".
 */
int vmplat_thread_start(struct vmplat_thread **thread, const struct vmplat_thread_options *o,
			void *(*fn)(void *data), void *data);
/** vmplat_thread_join - wait until it ends; returns what @fn did. The handle is gone. Accepts NULL */
void *vmplat_thread_join(struct vmplat_thread *thread);
/** vmplat_thread_detach - nobody will join it. The handle is gone */
void vmplat_thread_detach(struct vmplat_thread *thread);
/** vmplat_thread_signal - as pthread_kill(); not after it has been joined */
int vmplat_thread_signal(struct vmplat_thread *thread, int signo);
/** vmplat_thread_tid - by which the kernel knows it */
pid_t vmplat_thread_tid(struct vmplat_thread *thread);
/**
 * vmplat_thread_pin - move a thread to @cpus
 * @tid: 0 for the calling one
 *
 * All of them or none: -EINVAL: one is offline or not for it; -ESRCH; -EPERM.
 */
int vmplat_thread_pin(pid_t tid, const struct vmplat_cpus *cpus);
/** vmplat_thread_set_class - @priority as in &vmplat_thread_options; -EPERM, -EINVAL, -ESRCH */
int vmplat_thread_set_class(pid_t tid, enum vmplat_thread_class class_, int priority);

/**
 * struct vmplat_thread_facts - what the kernel knows of a thread
 * @name: as ps(1) shows it
 * @cpus: where it may run
 * @cpu: where it ran last
 * @class_: &enum vmplat_thread_class
 * @priority: 1 to 99, or 0
 * @nice: -20 to 19
 * @run_ns: how long it has run
 * @wait_ns: how long it was ready to run and others did; 0 where the kernel does not count it
 * @yielded: how often it went to sleep
 * @preempted: how often others were put in its place
 */
struct vmplat_thread_facts {
	char name[16];
	struct vmplat_cpus cpus;
	unsigned int cpu;
	enum vmplat_thread_class class_;
	int priority;
	int nice;
	uint64_t run_ns;
	uint64_t wait_ns;
	uint64_t yielded;
	uint64_t preempted;
};

/** vmplat_thread_query - @tid 0 for the calling thread; -ESRCH: there is none; -ENOENT: no /proc */
int vmplat_thread_query(pid_t tid, struct vmplat_thread_facts *facts);

#ifdef __cplusplus
}
#endif

#endif /* VMPLAT_THREAD_H */
