// SPDX-License-Identifier: LGPL-2.1-or-later
/* Threads: started as told, or not at all; and what /proc says of them. */
#include <pthread.h>
#include <sched.h>
#include <semaphore.h>
#include <signal.h>
#include <stdatomic.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/resource.h>
#include <sys/syscall.h>
#include <unistd.h>

#include <vmplat_thread.h>

#include "lib/lib.h"

struct vmplat_thread {
	pthread_t thread;
	void *(*fn)(void *data);
	void *data;
	char name[16];
	sem_t known;		/* @tid is set */
	pid_t tid;
	sem_t decided;		/* @refused is set */
	bool refused;		/* it runs, but not as it was to: it never calls @fn */
	atomic_uint users;	/* the thread itself, and its handle */
};

static const int policies[] = {
	[VMPLAT_THREAD_NORMAL] = SCHED_OTHER, [VMPLAT_THREAD_BATCH] = SCHED_BATCH,
	[VMPLAT_THREAD_IDLE] = SCHED_IDLE, [VMPLAT_THREAD_FIFO] = SCHED_FIFO,
	[VMPLAT_THREAD_RR] = SCHED_RR,
};

/* ---- sentences without a subject, so that the caller may say who -------------------- */

static int no_cpus_error(void)
{
	return lib_error(-EINVAL, "cannot run: none of the CPUs it is to run on is there");
}

/* 0, or -EINVAL about the first CPU that is in @want alone */
static int check_cpus(const struct vmplat_cpus *want, const struct vmplat_cpus *have)
{
	for (unsigned int cpu = 0; cpu < VMPLAT_CPUS_MAX; cpu++)
		if (vmplat_cpus_has(want, cpu) && !vmplat_cpus_has(have, cpu))
			return lib_error(-EINVAL,
					 "cannot run on CPU %u: it is offline, or not for this process", cpu);
	return 0;
}

static int check_class(enum vmplat_thread_class class_, int priority)
{
	bool realtime = class_ == VMPLAT_THREAD_FIFO || class_ == VMPLAT_THREAD_RR;

	if ((unsigned int)class_ > VMPLAT_THREAD_RR)
		return lib_error(-EINVAL, "cannot run: scheduling class %u is not known", class_);
	if (realtime ? priority < 1 || priority > 99 : priority != 0)
		return lib_error(-EINVAL, realtime ? "cannot run: priority %d is not 1 to 99"
						   : "cannot run: its class has no priority %d", priority);
	return 0;
}

/* ---- starting --------------------------------------------------------------------------- */

static void release(struct vmplat_thread *t)
{
	if (atomic_fetch_sub(&t->users, 1) > 1)
		return;
	sem_destroy(&t->known);
	sem_destroy(&t->decided);
	free(t);
}

static void *trampoline(void *arg)
{
	struct vmplat_thread *t = arg;
	void *(*fn)(void *) = t->fn, *data = t->data;
	bool refused;

	if (*t->name)
		pthread_setname_np(pthread_self(), t->name);
	t->tid = (pid_t)syscall(SYS_gettid);
	sem_post(&t->known);
	while (sem_wait(&t->decided))
		;
	refused = t->refused;
	release(t);
	return refused ? NULL : fn(data);
}

static int fill_attr(pthread_attr_t *attr, const struct vmplat_thread_options *o)
{
	struct sched_param p = { .sched_priority = o->priority };
	int ret = 0;

	if (o->stack_bytes)
		ret = pthread_attr_setstacksize(attr, o->stack_bytes);
	if (ret)
		return lib_error(ret, "cannot run: no stack of %zu bytes", o->stack_bytes);
	if (o->cpus)
		ret = pthread_attr_setaffinity_np(attr, sizeof(*o->cpus), (const cpu_set_t *)o->cpus);
	if (ret)
		return lib_error(ret, "out of memory");
	/* batch and idle are not classes of POSIX: glibc does not take them here */
	if (o->class_ == VMPLAT_THREAD_FIFO || o->class_ == VMPLAT_THREAD_RR) {
		pthread_attr_setschedpolicy(attr, policies[o->class_]);
		pthread_attr_setschedparam(attr, &p);
		pthread_attr_setinheritsched(attr, PTHREAD_EXPLICIT_SCHED);
	}
	return 0;
}

static int create_error(int err, const struct vmplat_thread_options *o)
{
	if (err == EINVAL && o->cpus)
		return no_cpus_error();
	if (err == EPERM)
		return lib_error(-EPERM, "cannot run with priority %d: that takes CAP_SYS_NICE, or "
				 "RLIMIT_RTPRIO (`ulimit -r`)", o->priority);
	return lib_error(-err, "cannot run: no thread: %s", strerror(err));
}

static int create(struct vmplat_thread *t, const struct vmplat_thread_options *o)
{
	bool quiet = o->flags & VMPLAT_THREAD_F_NO_SIGNALS;
	pthread_attr_t attr;
	sigset_t all, old;
	int ret;

	pthread_attr_init(&attr);
	ret = fill_attr(&attr, o);
	if (!ret) {
		if (quiet) {
			sigfillset(&all);
			for (int sig = 1; sig < 32; sig++)
				if (sig == SIGSEGV || sig == SIGBUS || sig == SIGILL || sig == SIGFPE ||
				    sig == SIGTRAP || sig == SIGSYS)
					sigdelset(&all, sig);
			pthread_sigmask(SIG_SETMASK, &all, &old);
		}
		ret = pthread_create(&t->thread, &attr, trampoline, t);
		if (quiet)
			pthread_sigmask(SIG_SETMASK, &old, NULL);
		if (ret)
			ret = create_error(ret, o);
	}
	pthread_attr_destroy(&attr);
	return ret;
}

/* What the kernel took of it. The thread runs. */
static int check(struct vmplat_thread *t, const struct vmplat_thread_options *o)
{
	struct vmplat_cpus have = { };
	int ret = 0;

	if (o->cpus) {
		pthread_getaffinity_np(t->thread, sizeof(have), (cpu_set_t *)&have);
		ret = check_cpus(o->cpus, &have);
	}
	if (!ret && (o->class_ == VMPLAT_THREAD_BATCH || o->class_ == VMPLAT_THREAD_IDLE))
		ret = vmplat_thread_set_class(vmplat_thread_tid(t), o->class_, 0);
	return ret;
}

API int vmplat_thread_start(struct vmplat_thread **out, const struct vmplat_thread_options *o,
			    void *(*fn)(void *data), void *data)
{
	static const struct vmplat_thread_options plain;
	struct vmplat_thread *t;
	int ret;

	*out = NULL;
	o = o ? o : &plain;
	if (o->flags & ~VMPLAT_THREAD_F_NO_SIGNALS)
		return lib_error(-EINVAL, "cannot run: flags %#x are not known", o->flags);
	ret = check_class(o->class_, o->priority);
	if (ret)
		return ret;
	t = calloc(1, sizeof(*t));
	if (!t)
		return lib_error(-ENOMEM, "out of memory");
	t->fn = fn;
	t->data = data;
	snprintf(t->name, sizeof(t->name), "%s", o->name ? o->name : "");
	sem_init(&t->known, 0, 0);
	sem_init(&t->decided, 0, 0);
	atomic_store(&t->users, 2);
	ret = create(t, o);
	if (ret) {
		atomic_store(&t->users, 1);
		release(t);
		return ret;
	}
	ret = check(t, o);
	t->refused = ret;
	sem_post(&t->decided);
	if (ret)
		vmplat_thread_join(t);
	else
		*out = t;
	return ret;
}

API void *vmplat_thread_join(struct vmplat_thread *t)
{
	void *value = NULL;

	if (!t)
		return NULL;
	pthread_join(t->thread, &value);
	release(t);
	return value;
}

API void vmplat_thread_detach(struct vmplat_thread *t)
{
	pthread_detach(t->thread);
	release(t);
}

API int vmplat_thread_signal(struct vmplat_thread *t, int signo)
{
	return -pthread_kill(t->thread, signo);
}

API pid_t vmplat_thread_tid(struct vmplat_thread *t)
{
	while (sem_wait(&t->known))
		;
	sem_post(&t->known);
	return t->tid;
}

/* ---- threads that run -------------------------------------------------------------------- */

static int no_thread(pid_t tid)
{
	return lib_error(-ESRCH, "there is no thread %d", (int)tid);
}

API int vmplat_thread_pin(pid_t tid, const struct vmplat_cpus *cpus)
{
	struct vmplat_cpus before = { }, have = { };
	int ret;

	if (sched_getaffinity(tid, sizeof(before), (cpu_set_t *)&before))
		return errno == ESRCH ? no_thread(tid) : lib_error(-errno, "CPUs of thread %d: %s",
								   (int)tid, strerror(errno));
	if (sched_setaffinity(tid, sizeof(*cpus), (const cpu_set_t *)cpus))
		return errno == EINVAL ? no_cpus_error() :
		       errno == ESRCH ? no_thread(tid) :
		       lib_error(-errno, "thread %d cannot be moved: %s", (int)tid, strerror(errno));
	if (sched_getaffinity(tid, sizeof(have), (cpu_set_t *)&have))
		return no_thread(tid);
	ret = check_cpus(cpus, &have);
	if (ret)
		sched_setaffinity(tid, sizeof(before), (const cpu_set_t *)&before);
	return ret;
}

API int vmplat_thread_set_class(pid_t tid, enum vmplat_thread_class class_, int priority)
{
	struct sched_param p = { .sched_priority = priority };
	int ret = check_class(class_, priority);

	if (ret || !sched_setscheduler(tid, policies[class_], &p))
		return ret;
	if (errno == ESRCH)
		return no_thread(tid);
	return lib_error(-errno, "thread %d cannot run in that class: %s%s", (int)tid, strerror(errno),
			 errno == EPERM ? "; that takes CAP_SYS_NICE, or RLIMIT_RTPRIO (`ulimit -r`)" : "");
}

/* ---- what is known ----------------------------------------------------------------------- */

static void status_line(const char *line, struct vmplat_thread_facts *f)
{
	unsigned long long n;
	char text[1024];

	if (sscanf(line, "Name: %15[^\n]", text) == 1)
		snprintf(f->name, sizeof(f->name), "%.15s", text);
	else if (sscanf(line, "Cpus_allowed_list: %1023s", text) == 1)
		vmplat_cpus_parse(&f->cpus, text, NULL);
	else if (sscanf(line, "voluntary_ctxt_switches: %llu", &n) == 1)
		f->yielded = n;
	else if (sscanf(line, "nonvoluntary_ctxt_switches: %llu", &n) == 1)
		f->preempted = n;
}

static FILE *open_proc(pid_t tid, const char *name)
{
	char path[64];

	snprintf(path, sizeof(path), "/proc/%d/%s", (int)tid, name);
	return fopen(path, "re");
}

/* the 39th field of stat, counted from behind the name, which may have anything in it */
static void read_cpu(pid_t tid, struct vmplat_thread_facts *f)
{
	FILE *file = open_proc(tid, "stat");
	char line[1024], *at = NULL;

	if (file && fgets(line, sizeof(line), file))
		at = strrchr(line, ')');
	for (int field = 2; at && field < 39; field++)
		at = strchr(at + 1, ' ');
	if (at)
		f->cpu = (unsigned int)strtoul(at, NULL, 10);
	if (file)
		fclose(file);
}

static void read_schedstat(pid_t tid, struct vmplat_thread_facts *f)
{
	FILE *file = open_proc(tid, "schedstat");
	unsigned long long run, wait;

	if (file && fscanf(file, "%llu %llu", &run, &wait) == 2) {
		f->run_ns = run;
		f->wait_ns = wait;
	}
	if (file)
		fclose(file);
}

static void read_class(pid_t tid, struct vmplat_thread_facts *f)
{
	int policy = sched_getscheduler(tid) & ~SCHED_RESET_ON_FORK;
	struct sched_param p = { 0 };

	for (unsigned int i = 0; i < sizeof(policies) / sizeof(policies[0]); i++)
		if (policies[i] == policy)
			f->class_ = i;
	if (!sched_getparam(tid, &p))
		f->priority = p.sched_priority;
	f->nice = getpriority(PRIO_PROCESS, (id_t)tid);
}

API int vmplat_thread_query(pid_t tid, struct vmplat_thread_facts *facts)
{
	char line[1200];
	FILE *f;

	memset(facts, 0, sizeof(*facts));
	if (!tid)
		tid = (pid_t)syscall(SYS_gettid);
	f = open_proc(tid, "status");
	if (!f)
		return access("/proc/self", F_OK) ? lib_error(-ENOENT, "/proc is not mounted")
						  : no_thread(tid);
	while (fgets(line, sizeof(line), f))
		status_line(line, facts);
	fclose(f);
	read_cpu(tid, facts);
	read_schedstat(tid, facts);
	read_class(tid, facts);
	return 0;
}
