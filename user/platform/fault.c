// SPDX-License-Identifier: LGPL-2.1-or-later
/*
 * The router of SIGSEGV and SIGBUS.
 *
 * Handlers find their range in a sorted table that is never changed once it is published.
 * Whoever changes the set of ranges makes another table, publishes it, and waits until no handler
 * that may have seen the old one runs: a handler counts itself in one of two counters, of which the
 * writer closes one after the other, so that faults that go on meanwhile do not keep it waiting.
 * Two tables are enough, and a removal needs no memory: the table that comes out of use has room for
 * one entry less than the one in use.
 *
 * The lock orders writers; handlers never take it.
 */
#include <pthread.h>
#include <setjmp.h>
#include <stdatomic.h>
#include <stdlib.h>
#include <ucontext.h>
#include <unistd.h>

#include <vmplat_clock.h>

#include "lib/lib.h"
#include "platform/fault.h"

#define NR_SIGNALS	2
#define MOMENT_NS	50000u
#define SAFE_TLS	__attribute__((tls_model("initial-exec")))	/* no malloc at first touch */

static const int signals[NR_SIGNALS] = { SIGSEGV, SIGBUS };

struct vmplat_fault_range {
	uintptr_t first, last;
	bool everything;
	uint64_t thread;			/* 0: any */
	uint64_t number;			/* order of registration */
	vmplat_fault_fn *fn;
	void *data;
	const struct vmplat_mmio_ops *ops;	/* instead of @fn */
	atomic_bool gone;			/* removed by a handler; swept by the next writer */
	struct vmplat_fault_range *next;	/* lock */
};

struct entry {
	uintptr_t first, last;
	struct vmplat_fault_range *range;
	size_t parent;				/* index + 1 of the range around it, 0: none */
};

struct table {
	size_t nr, room;
	struct entry e[];
};

/* a handler that runs; on its stack */
struct section {
	struct section *outer;
	unsigned int counter;
};

struct guard {
	struct guard *outer;
	struct section *sections;		/* that were entered around it */
	uintptr_t first, last;
	struct vmplat_fault *fault;
	sigjmp_buf back;
};

static pthread_mutex_t lock = PTHREAD_MUTEX_INITIALIZER;
static struct vmplat_fault_range *ranges;	/* lock */
static struct table *spare;			/* lock */
static uint64_t next_number;			/* lock */
static struct table none;
static struct table *_Atomic table = &none;
static atomic_uint epoch;			/* its lowest bit: the counter to use */
static atomic_uint running[2];
static struct sigaction earlier[NR_SIGNALS];	/* constant once installed */
static atomic_bool earlier_used[NR_SIGNALS];	/* it was SA_RESETHAND */
static atomic_uint_fast64_t next_thread = 1;

static _Thread_local uint64_t this_thread SAFE_TLS;	/* 0: has no range of its own */
static _Thread_local struct section *sections SAFE_TLS;
static _Thread_local struct guard *guards SAFE_TLS;

/* ---- handlers that run ----------------------------------------------------- */

static void enter(struct section *s)
{
	s->counter = atomic_load(&epoch) & 1;
	atomic_fetch_add(&running[s->counter], 1);
	s->outer = sections;
	sections = s;
}

static void leave(void)
{
	unsigned int counter = sections->counter;

	sections = sections->outer;
	atomic_fetch_sub(&running[counter], 1);
}

/* Lock held. Until no handler runs that began before. */
static void wait_for_handlers(void)
{
	/*
	 * Twice: a handler may have read the epoch long ago and count itself only after the first
	 * wait, in the counter that is waited for second.
	 */
	for (int i = 0; i < 2; i++) {
		unsigned int closed = atomic_fetch_add(&epoch, 1) & 1;

		while (atomic_load(&running[closed]))
			vmplat_sleep_ns(MOMENT_NS);
	}
}

/* ---- the table --------------------------------------------------------------- */

static int by_place(const void *x, const void *y)
{
	const struct entry *a = x, *b = y;

	if (a->first != b->first)
		return a->first < b->first ? -1 : 1;
	if (a->last != b->last)
		return a->last > b->last ? -1 : 1;
	return a->range->number < b->range->number ? -1 : 1;
}

/* Lock held; @t has room for all. */
static void fill_table(struct table *t)
{
	t->nr = 0;
	for (struct vmplat_fault_range *r = ranges; r; r = r->next)
		if (!atomic_load(&r->gone))
			t->e[t->nr++] = (struct entry){ r->first, r->last, r };
	qsort(t->e, t->nr, sizeof(*t->e), by_place);
	for (size_t i = 0; i < t->nr; i++) {
		size_t around = i;	/* the one before, or one around that */

		while (around && t->e[around - 1].last < t->e[i].first)
			around = t->e[around - 1].parent;
		t->e[i].parent = around;
	}
}

/* Lock held: @ranges and the spare table become what handlers see; what is gone is freed. */
static void publish(void)
{
	struct vmplat_fault_range **at = &ranges, *r;
	struct table *old;

	fill_table(spare);
	old = atomic_exchange(&table, spare);
	wait_for_handlers();
	spare = old;
	while ((r = *at)) {
		if (!atomic_load(&r->gone)) {
			at = &r->next;
			continue;
		}
		*at = r->next;
		free(r);
	}
}

/* Lock held. */
static int make_room(size_t nr)
{
	struct table *more;

	if (spare && spare->room >= nr)
		return 0;
	more = malloc(sizeof(*more) + 2 * nr * sizeof(more->e[0]));
	if (!more)
		return -ENOMEM;
	more->room = 2 * nr;
	if (spare != &none)
		free(spare);
	spare = more;
	return 0;
}

/* index + 1 of the last entry that begins at or below @addr */
static size_t find(const struct table *t, uintptr_t addr)
{
	size_t low = 0, high = t->nr;

	while (low < high) {
		size_t mid = low + (high - low) / 2;

		if (t->e[mid].first <= addr)
			low = mid + 1;
		else
			high = mid;
	}
	return low;
}

/* ---- in the handler ------------------------------------------------------------ */

static enum vmplat_fault_verdict ask(struct vmplat_fault_range *r, const struct vmplat_fault *f)
{
	if (atomic_load(&r->gone) || (r->thread && r->thread != this_thread) ||
	    (f->code <= 0 && !r->everything))
		return VMPLAT_FAULT_PASS;
	if (!r->ops)
		return r->fn(f, r->data);
	return mmio_emulate(f, r->first, r->last, r->ops, r->data) ? VMPLAT_FAULT_RETRY
								   : VMPLAT_FAULT_PASS;
}

static bool dispatch(const struct vmplat_fault *f)
{
	enum vmplat_fault_verdict verdict = VMPLAT_FAULT_PASS;
	struct section s;
	struct table *t;

	enter(&s);
	t = atomic_load(&table);
	for (size_t i = find(t, f->addr); i && verdict == VMPLAT_FAULT_PASS; i = t->e[i - 1].parent)
		if (f->addr <= t->e[i - 1].last)
			verdict = ask(t->e[i - 1].range, f);
	leave();
	return verdict == VMPLAT_FAULT_RETRY;
}

/* Back to the innermost vmplat_fault_try() that waits for this address, if there is one. */
static void escape(const struct vmplat_fault *f)
{
	struct guard *g = guards;

	while (g && (f->addr < g->first || f->addr > g->last))
		g = g->outer;
	if (!g)
		return;
	while (sections != g->sections)		/* a handler within it faulted */
		leave();
	guards = g->outer;
	if (g->fault) {
		*g->fault = *f;
		g->fault->context = NULL;
		g->fault->info = NULL;
	}
	siglongjmp(g->back, 1);
}

/* The process ends, by the fault itself where there is one. */
static void die(int signo, const siginfo_t *info)
{
	struct sigaction sa = { .sa_handler = SIG_DFL };

	sigaction(signo, &sa, NULL);
	if (info->si_code <= 0)
		raise(signo);
}

static void pass_on(int nr, siginfo_t *info, void *context)
{
	const struct sigaction *old = &earlier[nr];
	sigset_t block = old->sa_mask, mask;

	if (!(old->sa_flags & SA_SIGINFO) && old->sa_handler == SIG_IGN && info->si_code <= 0)
		return;
	if ((!(old->sa_flags & SA_SIGINFO) &&
	     (old->sa_handler == SIG_DFL || old->sa_handler == SIG_IGN)) ||
	    (old->sa_flags & SA_RESETHAND && atomic_exchange(&earlier_used[nr], true))) {
		die(signals[nr], info);
		return;
	}
	if (!(old->sa_flags & SA_NODEFER))
		sigaddset(&block, signals[nr]);
	pthread_sigmask(SIG_BLOCK, &block, &mask);
	if (old->sa_flags & SA_SIGINFO)
		old->sa_sigaction(signals[nr], info, context);
	else
		old->sa_handler(signals[nr]);
	pthread_sigmask(SIG_SETMASK, &mask, NULL);
}

static void look_at(struct vmplat_fault *f)
{
	ucontext_t *uc = f->context;

#if defined(__x86_64__)
	f->pc = (uintptr_t)uc->uc_mcontext.gregs[REG_RIP];
	if (uc->uc_mcontext.gregs[REG_TRAPNO] == 14) {	/* a page fault: the error code tells */
		greg_t err = uc->uc_mcontext.gregs[REG_ERR];

		f->access = err & 16 ? VMPLAT_FAULT_EXECUTE : err & 2 ? VMPLAT_FAULT_WRITE
								       : VMPLAT_FAULT_READ;
	}
#elif defined(__aarch64__)
	f->pc = (uintptr_t)uc->uc_mcontext.pc;
#elif defined(__riscv)
	f->pc = (uintptr_t)uc->uc_mcontext.__gregs[REG_PC];
#else
	(void)uc;
#endif
}

static void on_fault(int signo, siginfo_t *info, void *context)
{
	struct vmplat_fault f = {
		.signo = signo, .code = info->si_code, .context = context, .info = info,
	};
	int saved = errno;

	if (f.code > 0) {
		f.addr = (uintptr_t)info->si_addr;
		look_at(&f);
	}
	/* another thread's or CPU's broken memory is not something that this one touched */
	if ((signo != SIGBUS || f.code != BUS_MCEERR_AO) && dispatch(&f)) {
		errno = saved;
		return;
	}
	if (f.code > 0)
		escape(&f);
	pass_on(signo == SIGBUS, info, context);
	errno = saved;
}

/* ---- installing ------------------------------------------------------------------ */

static void before_fork(void)
{
	pthread_mutex_lock(&lock);
}

static void after_fork(void)
{
	pthread_mutex_unlock(&lock);
}

/* only this thread is in the child, and only its handlers run there */
static void in_child(void)
{
	atomic_store(&running[0], 0);
	atomic_store(&running[1], 0);
	for (struct section *s = sections; s; s = s->outer)
		atomic_fetch_add(&running[s->counter], 1);
	pthread_mutex_unlock(&lock);
}

static void install_once(void)
{
	/* NODEFER: handlers may fault, too */
	struct sigaction sa = { .sa_sigaction = on_fault,
				.sa_flags = SA_SIGINFO | SA_NODEFER | SA_ONSTACK };

	pthread_atfork(before_fork, after_fork, in_child);
	for (int i = 0; i < NR_SIGNALS; i++) {
		sigaction(signals[i], NULL, &earlier[i]);
		sigaction(signals[i], &sa, NULL);
	}
}

static void install(void)
{
	static pthread_once_t once = PTHREAD_ONCE_INIT;

	pthread_once(&once, install_once);
}

/* ---- ranges ------------------------------------------------------------------------ */

static bool crosses(const struct vmplat_fault_range *a, const struct vmplat_fault_range *b)
{
	bool apart = a->last < b->first || b->last < a->first;
	bool a_in_b = a->first >= b->first && a->last <= b->last;
	bool b_in_a = b->first >= a->first && b->last <= a->last;

	return !apart && !a_in_b && !b_in_a;
}

/* Lock held. */
static int insert(struct vmplat_fault_range *range)
{
	size_t nr = 1;

	for (struct vmplat_fault_range *r = ranges; r; r = r->next, nr++)
		if (!atomic_load(&r->gone) && crosses(range, r))
			return lib_error(-EEXIST, "faults at %p to %p: another range, %p to %p, overlaps in part",
					 (void *)range->first, (void *)range->last,
					 (void *)r->first, (void *)r->last);
	if (make_room(nr))
		return lib_error(-ENOMEM, "out of memory");
	range->number = next_number++;
	range->next = ranges;
	ranges = range;
	publish();
	return 0;
}

static int add(struct vmplat_fault_range **out, const void *first, size_t bytes, uint32_t flags,
	       const struct vmplat_fault_range *what)
{
	struct vmplat_fault_range *r;
	uintptr_t last;
	int ret;

	*out = NULL;
	if (flags & ~VMPLAT_FAULT_F_THREAD)
		return lib_error(-EINVAL, "faults: flags %#x are not known", flags);
	if (!bytes && first)
		return lib_error(-EINVAL, "faults at %p: the range is empty", first);
	if (bytes && __builtin_add_overflow((uintptr_t)first, bytes - 1, &last))
		return lib_error(-EOVERFLOW, "faults at %p: %zu bytes run past the end of memory",
				 first, bytes);
	if (sections)
		return lib_error(-EDEADLK, "faults: a handler cannot register another");
	r = malloc(sizeof(*r));
	if (!r)
		return lib_error(-ENOMEM, "out of memory");
	*r = *what;
	r->first = (uintptr_t)first;
	r->last = bytes ? last : UINTPTR_MAX;
	r->everything = !bytes;
	if (flags & VMPLAT_FAULT_F_THREAD) {
		if (!this_thread)
			this_thread = atomic_fetch_add(&next_thread, 1);
		r->thread = this_thread;
	}
	install();
	pthread_mutex_lock(&lock);
	ret = insert(r);
	pthread_mutex_unlock(&lock);
	if (ret)
		free(r);
	else
		*out = r;
	return ret;
}

API int vmplat_fault_add(struct vmplat_fault_range **range, const void *first, size_t bytes,
			 vmplat_fault_fn *fn, void *data, uint32_t flags)
{
	return add(range, first, bytes, flags,
		   &(struct vmplat_fault_range){ .fn = fn, .data = data });
}

API int vmplat_fault_add_mmio(struct vmplat_fault_range **range, const void *first, size_t bytes,
			      const struct vmplat_mmio_ops *ops, void *data, uint32_t flags)
{
	*range = NULL;
	if (!mmio_supported())
		return lib_error(-EOPNOTSUPP, "loads and stores can be emulated on x86-64 only");
	if (!bytes)
		return lib_error(-EINVAL, "faults at %p: the range is empty", first);
	return add(range, first, bytes, flags,
		   &(struct vmplat_fault_range){ .ops = ops, .data = data });
}

API void vmplat_fault_remove(struct vmplat_fault_range *range)
{
	if (!range)
		return;
	atomic_store(&range->gone, true);
	if (sections)
		return;		/* waiting for handlers would be waiting for ourselves */
	pthread_mutex_lock(&lock);
	publish();
	pthread_mutex_unlock(&lock);
}

/* ---- guards -------------------------------------------------------------------------- */

API int vmplat_fault_try(const void *first, size_t bytes, void (*fn)(void *data), void *data,
			 struct vmplat_fault *fault)
{
	struct guard g = {
		.outer = guards, .sections = sections, .fault = fault,
		.first = bytes ? (uintptr_t)first : 0, .last = UINTPTR_MAX,
	};

	if (bytes && __builtin_add_overflow(g.first, bytes - 1, &g.last))
		return lib_error(-EOVERFLOW, "faults at %p: %zu bytes run past the end of memory",
				 first, bytes);
	install();
	/* the mask is not saved: the handler runs without one of its own */
	if (sigsetjmp(g.back, 0))
		return lib_error(-EFAULT, "memory was touched that cannot be reached");
	guards = &g;
	fn(data);
	guards = g.outer;
	return 0;
}

/* ---- words, without stdio ---------------------------------------------------------------- */

struct words {
	char *at;
	size_t left;
};

static void put(struct words *w, const char *s)
{
	for (; *s && w->left > 1; w->left--)
		*w->at++ = *s++;
}

static void put_hex(struct words *w, uintptr_t v)
{
	char digits[2 * sizeof(v) + 1], *p = digits + sizeof(digits) - 1;

	*p = 0;
	do
		*--p = "0123456789abcdef"[v & 15];
	while (v >>= 4);
	put(w, "0x");
	put(w, p);
}

API size_t vmplat_fault_text(const struct vmplat_fault *f, char *text, size_t bytes)
{
	static const char *const verbs[] = { "access to ", "read of ", "write to ", "execution of " };
	struct words w = { text, bytes };

	if (!bytes)
		return 0;
	put(&w, f->signo == SIGBUS ? "SIGBUS" : "SIGSEGV");
	if (f->code > 0) {
		put(&w, ": ");
		put(&w, verbs[f->access]);
		put_hex(&w, f->addr);
		if (f->pc) {
			put(&w, " by ");
			put_hex(&w, f->pc);
		}
	} else {
		put(&w, ", sent");
	}
	*w.at = 0;
	return (size_t)(w.at - text);
}
