// SPDX-License-Identifier: LGPL-2.1-or-later
/* The router of faults: lazy fills, devices, guards, threads, handlers within handlers. */
#include <errno.h>
#include <pthread.h>
#include <stdatomic.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/resource.h>
#include <sys/wait.h>
#include <unistd.h>

#include <vmplat.h>
#include <vmplat_fault.h>

#include "tap.h"

#define PAGE 4096UL

static uint8_t *reserve(size_t pages)
{
	void *p = mmap(NULL, pages * PAGE, PROT_NONE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);

	if (p == MAP_FAILED)
		abort();
	return p;
}

/* ---- handlers ------------------------------------------------------------------ */

struct lazy {
	uint8_t *base;
	atomic_int calls;
	struct vmplat_fault last;
};

/* a page is 0x80 | its number */
static enum vmplat_fault_verdict fill(const struct vmplat_fault *f, void *data)
{
	struct lazy *l = data;
	size_t page = (f->addr - (uintptr_t)l->base) / PAGE;

	atomic_fetch_add(&l->calls, 1);
	l->last = *f;
	if (mprotect(l->base + page * PAGE, PAGE, PROT_READ | PROT_WRITE))
		return VMPLAT_FAULT_PASS;
	memset(l->base + page * PAGE, 0x80 | (int)page, PAGE);
	return VMPLAT_FAULT_RETRY;
}

static enum vmplat_fault_verdict pass(const struct vmplat_fault *f, void *data)
{
	atomic_fetch_add((atomic_int *)data, 1);
	return VMPLAT_FAULT_PASS;
}

static void touch(void *p)
{
	*(volatile uint8_t *)p;
}

static void store(void *p)
{
	*(volatile uint8_t *)p = 1;
}

/* ---- who was there before: each in a process where nothing is installed yet ------- */

static uint8_t *wild;

static void earlier(int sig, siginfo_t *info, void *context)
{
	sigset_t mask;

	pthread_sigmask(SIG_BLOCK, NULL, &mask);
	_exit(sig == SIGSEGV && info->si_addr == wild && context && sigismember(&mask, SIGUSR1) &&
	      sigismember(&mask, SIGSEGV) ? 42 : 1);
}

static void earlier_plain(int sig)
{
	_exit(sig == SIGSEGV ? 43 : 1);
}

static void silence(int sig)
{
	struct rlimit none = { 0, 0 };

	setrlimit(RLIMIT_CORE, &none);
	signal(sig, SIG_DFL);		/* the sanitizer has one */
}

/* wait status of a child that touches what only the handler before ours may know */
static int child_touches(const struct sigaction *before, bool send)
{
	atomic_int calls = 0;
	struct vmplat_fault_range *r;
	int status;
	pid_t pid;

	wild = reserve(2);
	pid = fork();
	if (!pid) {
		silence(SIGSEGV);
		if (before)
			sigaction(SIGSEGV, before, NULL);
		if (vmplat_fault_add(&r, wild, 2 * PAGE, pass, &calls, 0))
			_exit(2);
		if (send)
			kill(getpid(), SIGSEGV);
		else
			touch(wild);
		_exit(3);
	}
	waitpid(pid, &status, 0);
	munmap(wild, 2 * PAGE);
	return status;
}

TEST(earlier_handler_is_called)
{
	struct sigaction sa = { .sa_sigaction = earlier, .sa_flags = SA_SIGINFO };
	int status;

	sigaddset(&sa.sa_mask, SIGUSR1);
	status = child_touches(&sa, false);
	CHECK(WIFEXITED(status) && WEXITSTATUS(status) == 42);
	sa = (struct sigaction){ .sa_handler = earlier_plain };
	status = child_touches(&sa, false);
	CHECK(WIFEXITED(status) && WEXITSTATUS(status) == 43);
	status = child_touches(&sa, true);
	CHECK(WIFEXITED(status) && WEXITSTATUS(status) == 43);
}

TEST(without_one_the_process_dies)
{
	struct sigaction ignore = { .sa_handler = SIG_IGN };
	int status = child_touches(NULL, false);

	CHECK(WIFSIGNALED(status) && WTERMSIG(status) == SIGSEGV);
	status = child_touches(NULL, true);
	CHECK(WIFSIGNALED(status) && WTERMSIG(status) == SIGSEGV);
	status = child_touches(&ignore, false);
	CHECK(WIFSIGNALED(status) && WTERMSIG(status) == SIGSEGV);
	status = child_touches(&ignore, true);
	CHECK(WIFEXITED(status) && WEXITSTATUS(status) == 3);
}

static enum vmplat_fault_verdict last_word(const struct vmplat_fault *f, void *data)
{
	char text[128];
	size_t n = vmplat_fault_text(f, text, sizeof(text));

	if (write(*(int *)data, text, n) != (ssize_t)n)
		_exit(9);
	return VMPLAT_FAULT_PASS;
}

/* a range over everything is told of all that is fatal, sent signals as well, and of nothing else */
TEST(last_words)
{
	struct vmplat_fault_range *r, *all;
	struct lazy l = { .base = reserve(1) };
	char said[200], want[64];
	int p[2], status;
	ssize_t n;

	wild = reserve(1);
	for (int sent = 0; sent < 2; sent++) {
		pid_t pid;

		REQUIRE(!pipe(p));
		pid = fork();
		if (!pid) {
			silence(SIGSEGV);
			silence(SIGBUS);
			if (vmplat_fault_add(&r, l.base, PAGE, fill, &l, 0) ||
			    vmplat_fault_add(&all, NULL, 0, last_word, &p[1], 0))
				_exit(2);
			touch(l.base);
			if (sent)
				kill(getpid(), SIGBUS);
			store(wild);
			_exit(3);
		}
		waitpid(pid, &status, 0);
		close(p[1]);
		n = read(p[0], said, sizeof(said) - 1);
		close(p[0]);
		said[n > 0 ? n : 0] = 0;
		CHECK(WIFSIGNALED(status) && WTERMSIG(status) == (sent ? SIGBUS : SIGSEGV));
#if defined(__x86_64__)
		snprintf(want, sizeof(want), "SIGSEGV: write to %p by 0x", (void *)wild);
#else
		snprintf(want, sizeof(want), "SIGSEGV: access to %p", (void *)wild);
#endif
		CHECK(!strncmp(said, sent ? "SIGBUS, sent" : want, strlen(sent ? "SIGBUS, sent" : want)));
	}
	munmap(l.base, PAGE);
	munmap(wild, PAGE);
}

/* ---- ranges ---------------------------------------------------------------------- */

TEST(lazy_fill)
{
	struct lazy l = { .base = reserve(8) };
	struct vmplat_fault_range *r;

	REQUIRE(!vmplat_fault_add(&r, l.base, 8 * PAGE, fill, &l, 0));
	errno = 123;
	CHECK_EQ(l.base[5 * PAGE + 7], 0x85);
	CHECK_EQ(errno, 123);
	CHECK_EQ(l.last.addr, (uintptr_t)l.base + 5 * PAGE + 7);
	CHECK_EQ(l.last.signo, SIGSEGV);
	CHECK_EQ(l.last.code, SEGV_ACCERR);
#if defined(__x86_64__)
	CHECK_EQ(l.last.access, VMPLAT_FAULT_READ);
	CHECK(l.last.pc);
#endif
	store(l.base + 8 * PAGE - 1);
#if defined(__x86_64__)
	CHECK_EQ(l.last.access, VMPLAT_FAULT_WRITE);
#endif
	CHECK_EQ(l.base[7 * PAGE], 0x87);
	CHECK_EQ(l.base[8 * PAGE - 1], 1);
	CHECK_EQ(l.calls, 2);
	vmplat_fault_remove(r);
	CHECK_EQ(vmplat_fault_try(NULL, 0, touch, l.base, NULL), -EFAULT);
	CHECK_EQ(l.calls, 2);
	munmap(l.base, 8 * PAGE);
}

TEST(bad_ranges)
{
	uint8_t *base = reserve(4);
	struct vmplat_fault_range *r, *other;
	atomic_int n = 0;

	CHECK_EQ(vmplat_fault_add(&r, base, 0, pass, &n, 0), -EINVAL);
	CHECK(!r);
	CHECK_EQ(vmplat_fault_add(&r, base, PAGE, pass, &n, 2), -EINVAL);
	CHECK_EQ(vmplat_fault_add(&r, base, SIZE_MAX, pass, &n, 0), -EOVERFLOW);
	REQUIRE(!vmplat_fault_add(&r, base, 2 * PAGE, pass, &n, 0));
	CHECK_EQ(vmplat_fault_add(&other, base + PAGE, 2 * PAGE, pass, &n, 0), -EEXIST);
	CHECK(strstr(vmplat_last_error(), "overlaps in part"));
	CHECK(!vmplat_fault_add(&other, base + 2 * PAGE, PAGE, pass, &n, 0));
	vmplat_fault_remove(other);
	vmplat_fault_remove(r);
	vmplat_fault_remove(NULL);
	munmap(base, 4 * PAGE);
}

/* from the narrowest outwards; of equal ones the later first */
TEST(ranges_nest)
{
	struct vmplat_fault_range *outer, *inner, *same;
	struct lazy l = { .base = reserve(8) };
	atomic_int in = 0, again = 0;

	REQUIRE(!vmplat_fault_add(&outer, l.base, 8 * PAGE, fill, &l, 0));
	REQUIRE(!vmplat_fault_add(&inner, l.base + 2 * PAGE, 2 * PAGE, pass, &in, 0));
	touch(l.base + PAGE);
	CHECK_EQ(in, 0);
	touch(l.base + 2 * PAGE);
	CHECK_EQ(in, 1);
	touch(l.base + 4 * PAGE);
	CHECK_EQ(in, 1);
	CHECK_EQ(l.calls, 3);
	REQUIRE(!vmplat_fault_add(&same, l.base, 8 * PAGE, pass, &again, 0));
	touch(l.base + 3 * PAGE);
	CHECK(in == 2 && again == 1 && l.calls == 4);
	vmplat_fault_remove(outer);
	CHECK_EQ(vmplat_fault_try(NULL, 0, touch, l.base + 5 * PAGE, NULL), -EFAULT);
	CHECK(in == 2 && again == 2 && l.calls == 4);
	vmplat_fault_remove(same);
	vmplat_fault_remove(inner);
	munmap(l.base, 8 * PAGE);
}

/* each of many finds its own */
TEST(many_ranges)
{
	enum { NR = 500 };
	static struct vmplat_fault_range *r[NR];
	static struct lazy l[NR];
	uint8_t *base = reserve(2 * NR);
	unsigned int seed = 7;

	for (int i = 0; i < NR; i++) {
		l[i] = (struct lazy){ .base = base + 2 * i * PAGE };
		REQUIRE(!vmplat_fault_add(&r[i], l[i].base, PAGE, fill, &l[i], 0));
	}
	for (int i = 0; i < NR; i++) {
		int k = rand_r(&seed) % NR;

		touch(l[k].base + rand_r(&seed) % PAGE);
		CHECK_EQ(l[k].calls, 1);
		CHECK_EQ(vmplat_fault_try(NULL, 0, touch, l[k].base + PAGE, NULL), -EFAULT);
	}
	for (int i = 0; i < NR; i++)
		vmplat_fault_remove(r[i]);
	munmap(base, 2 * NR * PAGE);
}

/* ---- threads ---------------------------------------------------------------------- */

struct visitor {
	struct lazy *l;
	int ret;
};

static void *visit(void *arg)
{
	struct visitor *v = arg;

	v->ret = vmplat_fault_try(NULL, 0, touch, v->l->base, NULL);
	return NULL;
}

TEST(range_of_one_thread)
{
	struct lazy l = { .base = reserve(1) };
	struct vmplat_fault_range *r;
	struct visitor v = { &l };
	pthread_t t;

	REQUIRE(!vmplat_fault_add(&r, l.base, PAGE, fill, &l, VMPLAT_FAULT_F_THREAD));
	REQUIRE(!pthread_create(&t, NULL, visit, &v));
	pthread_join(t, NULL);
	CHECK_EQ(v.ret, -EFAULT);
	CHECK_EQ(l.calls, 0);
	touch(l.base);
	CHECK_EQ(l.calls, 1);
	vmplat_fault_remove(r);
	munmap(l.base, PAGE);
}

#define ROUNDS		300
#define STRESS_PAGES	16

static atomic_bool stress_ends;

static void *stress(void *arg)
{
	struct lazy *l = arg;

	for (int round = 0; round < ROUNDS; round++) {
		for (size_t i = 0; i < STRESS_PAGES; i++)
			if (l->base[i * PAGE + 1] != (0x80 | i))
				return "wrong content";
		if (mprotect(l->base, STRESS_PAGES * PAGE, PROT_NONE))
			return "mprotect";
	}
	return NULL;
}

static void *churn(void *arg)
{
	uint8_t *base = reserve(4);
	atomic_int n = 0;
	void *bad = NULL;

	while (!atomic_load(&stress_ends) && !bad) {
		struct vmplat_fault_range *a, *b;

		if (vmplat_fault_add(&a, base, 4 * PAGE, pass, &n, 0) ||
		    vmplat_fault_add(&b, base + PAGE, PAGE, pass, &n, 0)) {
			bad = "add";
			break;
		}
		vmplat_fault_remove(a);
		vmplat_fault_remove(b);
	}
	munmap(base, 4 * PAGE);
	return bad;
}

/* ranges come and go while four threads fault: no fault is lost, none is taken twice */
TEST(threads_while_ranges_change)
{
	struct vmplat_fault_range *r[4];
	struct lazy l[4] = { };
	pthread_t t[4], changer;
	void *bad;

	atomic_store(&stress_ends, false);
	for (int i = 0; i < 4; i++) {
		l[i].base = reserve(STRESS_PAGES);
		REQUIRE(!vmplat_fault_add(&r[i], l[i].base, STRESS_PAGES * PAGE, fill, &l[i], 0));
	}
	REQUIRE(!pthread_create(&changer, NULL, churn, NULL));
	for (int i = 0; i < 4; i++)
		REQUIRE(!pthread_create(&t[i], NULL, stress, &l[i]));
	for (int i = 0; i < 4; i++) {
		pthread_join(t[i], &bad);
		CHECK(!bad);
		CHECK_EQ(l[i].calls, ROUNDS * STRESS_PAGES);
	}
	atomic_store(&stress_ends, true);
	pthread_join(changer, &bad);
	CHECK(!bad);
	for (int i = 0; i < 4; i++) {
		vmplat_fault_remove(r[i]);
		munmap(l[i].base, STRESS_PAGES * PAGE);
	}
}

struct slow {
	uint8_t *base;
	atomic_bool inside, go, left;
};

static enum vmplat_fault_verdict slowly(const struct vmplat_fault *f, void *data)
{
	struct slow *s = data;

	atomic_store(&s->inside, true);
	while (!atomic_load(&s->go))
		usleep(100);
	mprotect(s->base, PAGE, PROT_READ);
	atomic_store(&s->left, true);
	return VMPLAT_FAULT_RETRY;
}

static void *touch_slow(void *arg)
{
	touch(((struct slow *)arg)->base);
	return NULL;
}

static void *let_go(void *arg)
{
	usleep(20000);
	atomic_store(&((struct slow *)arg)->go, true);
	return NULL;
}

TEST(removal_waits_for_handlers)
{
	struct slow s = { .base = reserve(1) };
	struct vmplat_fault_range *r;
	pthread_t toucher, other;
	int status;
	pid_t pid;

	REQUIRE(!vmplat_fault_add(&r, s.base, PAGE, slowly, &s, 0));
	REQUIRE(!pthread_create(&toucher, NULL, touch_slow, &s));
	while (!atomic_load(&s.inside))
		usleep(100);
	/* the handler of another thread does not run in a child, which must not wait for it */
	pid = fork();
	if (!pid) {
		alarm(60);
		vmplat_fault_remove(r);
		_exit(0);
	}
	waitpid(pid, &status, 0);
	CHECK(WIFEXITED(status) && !WEXITSTATUS(status));
	REQUIRE(!pthread_create(&other, NULL, let_go, &s));
	vmplat_fault_remove(r);
	CHECK(atomic_load(&s.left));
	pthread_join(toucher, NULL);
	pthread_join(other, NULL);
	munmap(s.base, PAGE);
}

/* ---- inside handlers --------------------------------------------------------------- */

struct nested {
	uint8_t *base;
	struct lazy *source;
	struct vmplat_fault_range *self, *added;
	int add_ret, try_ret;
	uint8_t *wild;
};

/* copies from memory that is filled lazily as well, and removes itself */
static enum vmplat_fault_verdict copy_in(const struct vmplat_fault *f, void *data)
{
	struct nested *n = data;

	n->try_ret = vmplat_fault_try(NULL, 0, touch, n->wild, NULL);
	mprotect(n->base, PAGE, PROT_READ | PROT_WRITE);
	for (size_t i = 0; i < PAGE; i++)
		n->base[i] = n->source->base[i];
	n->add_ret = vmplat_fault_add(&n->added, n->base, PAGE, pass, NULL, 0);
	vmplat_fault_remove(n->self);
	return VMPLAT_FAULT_RETRY;
}

TEST(handlers_may_fault)
{
	struct lazy l = { .base = reserve(1) };
	struct nested n = { .base = reserve(1), .source = &l, .wild = reserve(1) };
	struct vmplat_fault_range *r;

	REQUIRE(!vmplat_fault_add(&r, l.base, PAGE, fill, &l, 0));
	REQUIRE(!vmplat_fault_add(&n.self, n.base, PAGE, copy_in, &n, 0));
	CHECK_EQ(n.base[9], 0x80);
	CHECK_EQ(l.calls, 1);
	CHECK_EQ(n.add_ret, -EDEADLK);
	CHECK(!n.added);
	CHECK_EQ(n.try_ret, -EFAULT);
	/* it removed itself */
	mprotect(n.base, PAGE, PROT_NONE);
	CHECK_EQ(vmplat_fault_try(NULL, 0, touch, n.base, NULL), -EFAULT);
	vmplat_fault_remove(r);
	munmap(l.base, PAGE);
	munmap(n.base, PAGE);
	munmap(n.wild, PAGE);
}

static enum vmplat_fault_verdict crash_in_handler(const struct vmplat_fault *f, void *data)
{
	touch(data);
	return VMPLAT_FAULT_RETRY;
}

/* a guard around a fault whose handler faults: all is left, and nobody waits for it later */
TEST(guard_around_a_handler_that_faults)
{
	uint8_t *base = reserve(2);
	struct vmplat_fault_range *r;
	struct vmplat_fault f;

	REQUIRE(!vmplat_fault_add(&r, base, PAGE, crash_in_handler, base + PAGE, 0));
	CHECK_EQ(vmplat_fault_try(NULL, 0, touch, base, &f), -EFAULT);
	CHECK_EQ(f.addr, (uintptr_t)base + PAGE);
	vmplat_fault_remove(r);		/* would hang */
	munmap(base, 2 * PAGE);
}

/* ---- guards ---------------------------------------------------------------------------- */

static void sum_file(void *data)
{
	volatile uint8_t *p = data;
	unsigned int sum = 0;

	for (size_t i = 0; i < 4 * PAGE; i += PAGE)
		sum += p[i];
	p[0] = (uint8_t)sum;
}

TEST(guard_against_truncation)
{
	int fd = memfd_create("cut", MFD_CLOEXEC);
	struct vmplat_fault f;
	uint8_t *p;

	REQUIRE(fd >= 0 && !ftruncate(fd, 4 * PAGE));
	p = mmap(NULL, 4 * PAGE, PROT_READ | PROT_WRITE, MAP_SHARED, fd, 0);
	REQUIRE(p != MAP_FAILED);
	CHECK(!vmplat_fault_try(p, 4 * PAGE, sum_file, p, &f));
	REQUIRE(!ftruncate(fd, 2 * PAGE));
	CHECK_EQ(vmplat_fault_try(p, 4 * PAGE, sum_file, p, &f), -EFAULT);
	CHECK_EQ(f.signo, SIGBUS);
	CHECK_EQ(f.code, BUS_ADRERR);
	CHECK_EQ(f.addr, (uintptr_t)p + 2 * PAGE);
	CHECK(!f.context && !f.info);
	munmap(p, 4 * PAGE);
	close(fd);
}

struct inner_try {
	uint8_t *wild;
	int ret;
	bool went_on;
};

static void try_elsewhere(void *data)
{
	struct inner_try *t = data;

	/* means another page: the fault is the outer guard's */
	t->ret = vmplat_fault_try(t->wild + PAGE, PAGE, touch, t->wild, NULL);
	t->went_on = true;
}

static void try_here(void *data)
{
	struct inner_try *t = data;

	t->ret = vmplat_fault_try(t->wild, PAGE, touch, t->wild, NULL);
	t->went_on = true;
}

TEST(guards_nest)
{
	struct inner_try t = { .wild = reserve(2) };

	CHECK_EQ(vmplat_fault_try(NULL, 0, try_elsewhere, &t, NULL), -EFAULT);
	CHECK(!t.went_on);
	CHECK_EQ(vmplat_fault_try(NULL, 0, try_here, &t, NULL), 0);
	CHECK(t.went_on && t.ret == -EFAULT);
	CHECK_EQ(vmplat_fault_try(t.wild, SIZE_MAX, touch, t.wild, NULL), -EOVERFLOW);
	munmap(t.wild, 2 * PAGE);
}

TEST(handlers_come_before_guards)
{
	struct lazy l = { .base = reserve(1) };
	struct vmplat_fault_range *r;

	REQUIRE(!vmplat_fault_add(&r, l.base, PAGE, fill, &l, 0));
	CHECK_EQ(vmplat_fault_try(NULL, 0, touch, l.base, NULL), 0);
	CHECK_EQ(l.calls, 1);
	vmplat_fault_remove(r);
	munmap(l.base, PAGE);
}

/* ---- a device that is not there --------------------------------------------------------- */

#if defined(__x86_64__)

struct device {
	uint64_t offset, value, answer;
	unsigned int bytes, reads, writes;
};

static uint64_t dev_read(void *data, uint64_t offset, unsigned int bytes)
{
	struct device *d = data;

	d->reads++;
	d->offset = offset;
	d->bytes = bytes;
	return d->answer;
}

static void dev_write(void *data, uint64_t offset, unsigned int bytes, uint64_t value)
{
	struct device *d = data;

	d->writes++;
	d->offset = offset;
	d->bytes = bytes;
	d->value = value;
}

static const struct vmplat_mmio_ops dev_ops = { dev_read, dev_write };

static struct device dev;
static uint8_t *regs;

#define WROTE(insn, off, nr, what, ...) do {				\
	dev = (struct device){ };					\
	asm volatile(insn : : __VA_ARGS__ : "memory");			\
	CHECK_EQ(dev.writes, 1);					\
	CHECK_EQ(dev.offset, off);					\
	CHECK_EQ(dev.bytes, nr);					\
	CHECK_EQ(dev.value, what);					\
} while (0)

#define READ(insn, off, nr, before, says, after) do {			\
	uint64_t reg = before;						\
	dev = (struct device){ .answer = says };			\
	asm volatile("mov %0, %%rax\n\t" insn "\n\tmov %%rax, %0"	\
		     : "+r"(reg) : "b"(regs), "D"(3UL) : "rax", "memory"); \
	CHECK_EQ(dev.reads, 1);						\
	CHECK_EQ(dev.offset, off);					\
	CHECK_EQ(dev.bytes, nr);					\
	CHECK_EQ(reg, after);						\
} while (0)

static void locked(void *p)
{
	asm volatile("lock incl (%0)" : : "r"(p) : "memory");
}

static void across(void *p)
{
	asm volatile("movl $1, (%0)" : : "r"(p) : "memory");
}

#define ONES 0xffffffffffffffffULL

TEST(mmio)
{
	register uint64_t r12 asm("r12") = ONES;
	struct vmplat_fault_range *r;

	regs = reserve(3);
	regs += PAGE;
	REQUIRE(!vmplat_fault_add_mmio(&r, regs, PAGE, &dev_ops, &dev, 0));
	WROTE("movl %0, 16(%1)", 16, 4, 0x12345678, "r"(0x12345678), "r"(regs));
	WROTE("movq %0, (%1)", 0, 8, 0x123456789abcdef0, "r"(0x123456789abcdef0), "r"(regs));
	WROTE("movw %w0, 0x234(%1)", 0x234, 2, 0x5678, "r"(0x12345678), "r"(regs));
	WROTE("movb %%ch, 1(%1)", 1, 1, 0x56, "c"(0x12345678), "r"(regs));
	WROTE("movb %%sil, 2(%1)", 2, 1, 0x78, "S"(0x12345678L), "r"(regs));
	WROTE("movq %0, 8(%1)", 8, 8, -1, "r"(r12), "r"(regs));
	WROTE("movl $-2, 4(%0)", 4, 4, 0xfffffffe, "r"(regs));
	WROTE("movq $-2, 8(%0)", 8, 8, -2, "r"(regs));
	WROTE("movw $7, 8(%0)", 8, 2, 7, "r"(regs));
	WROTE("movb $9, 8(%0)", 8, 1, 9, "r"(regs));
	WROTE("movl %0, -8(%1,%2,4)", 4, 4, 1, "r"(1), "r"(regs), "r"(3L));
	WROTE("movl %0, (%1,%2,8)", 4088, 4, 2, "r"(2), "r"(regs + PAGE), "r"(-1L));
	WROTE("movl %0, 0(,%1,1)", 12, 4, 3, "r"(3), "r"(regs + 12));

	READ("movl 4(%%rbx), %%eax", 4, 4, ONES, 0x80000001, 0x80000001);
	READ("movq 8(%%rbx), %%rax", 8, 8, 0, ONES, ONES);
	READ("movw 8(%%rbx), %%ax", 8, 2, ONES, 0x1234, 0xffffffffffff1234);
	READ("movb (%%rbx,%%rdi,2), %%al", 6, 1, ONES, 0x12, 0xffffffffffffff12);
	READ("movb (%%rbx), %%ah", 0, 1, ONES, 0x12, 0xffffffffffff12ff);
	READ("movzbl (%%rbx), %%eax", 0, 1, ONES, 0x81, 0x81);
	READ("movzwl (%%rbx), %%eax", 0, 2, ONES, 0x8181, 0x8181);
	READ("movsbl (%%rbx), %%eax", 0, 1, 0, 0x81, 0xffffff81);
	READ("movsbq (%%rbx), %%rax", 0, 1, 0, 0x81, 0xffffffffffffff81);
	READ("movswq (%%rbx), %%rax", 0, 2, 0, 0x8181, 0xffffffffffff8181);
	READ("movslq (%%rbx), %%rax", 0, 4, 0, 0x80000000, 0xffffffff80000000);

	/* what it does not know reaches the guard, and the device hears nothing */
	dev = (struct device){ };
	CHECK_EQ(vmplat_fault_try(regs, PAGE, locked, regs, NULL), -EFAULT);
	CHECK_EQ(vmplat_fault_try(NULL, 0, across, regs + PAGE - 2, NULL), -EFAULT);
	CHECK_EQ(vmplat_fault_try(NULL, 0, across, regs - 2, NULL), -EFAULT);
	CHECK(!dev.reads && !dev.writes);
	vmplat_fault_remove(r);
	CHECK_EQ(vmplat_fault_add_mmio(&r, regs, 0, &dev_ops, &dev, 0), -EINVAL);
	munmap(regs - PAGE, 3 * PAGE);
}

/* what the compiler makes of a driver */
TEST(mmio_from_c)
{
	struct { uint8_t a; int8_t b; uint16_t c; int32_t d; uint64_t e; } volatile *p;
	struct vmplat_fault_range *r;

	regs = reserve(1);
	p = (void *)regs;
	REQUIRE(!vmplat_fault_add_mmio(&r, regs, PAGE, &dev_ops, &dev, 0));
	dev = (struct device){ .answer = 0xfedcba98fedcba98 };
	CHECK_EQ(p->a, 0x98);
	CHECK_EQ(p->b, (int8_t)0x98);
	CHECK_EQ(p->c, 0xba98);
	CHECK_EQ(p->d, (int32_t)0xfedcba98);
	CHECK_EQ(p->e, 0xfedcba98fedcba98);
	CHECK_EQ(dev.reads, 5);
	p->c = 77;
	CHECK(dev.value == 77 && dev.bytes == 2 && dev.offset == 2);
	p->e = UINT64_MAX;
	CHECK(dev.value == UINT64_MAX && dev.bytes == 8 && dev.offset == 8);
	vmplat_fault_remove(r);
	munmap(regs, PAGE);
}
#endif

int main(void)
{
	RUN(earlier_handler_is_called);
	RUN(without_one_the_process_dies);
	RUN(last_words);
	RUN(lazy_fill);
	RUN(bad_ranges);
	RUN(ranges_nest);
	RUN(many_ranges);
	RUN(range_of_one_thread);
	RUN(threads_while_ranges_change);
	RUN(removal_waits_for_handlers);
	RUN(handlers_may_fault);
	RUN(guard_around_a_handler_that_faults);
	RUN(guard_against_truncation);
	RUN(guards_nest);
	RUN(handlers_come_before_guards);
#if defined(__x86_64__)
	RUN(mmio);
	RUN(mmio_from_c);
#endif
	return tap_done();
}
