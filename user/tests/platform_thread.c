// SPDX-License-Identifier: LGPL-2.1-or-later
/* Threads and CPUs: sets as text, pinning that is proved by where threads run, refusals that leave nothing. */
#include <dirent.h>
#include <errno.h>
#include <pthread.h>
#include <sched.h>
#include <signal.h>
#include <stdatomic.h>
#include <stdlib.h>
#include <string.h>
#include <sys/wait.h>
#include <unistd.h>

#include <vmplat.h>
#include <vmplat_thread.h>

#include "tap.h"

static struct vmplat_cpus set_of(const char *text)
{
	struct vmplat_cpus c;

	if (vmplat_cpus_parse(&c, text, NULL))
		abort();
	return c;
}

static struct vmplat_cpus allowed(void)
{
	struct vmplat_cpus c;

	if (vmplat_cpus_allowed(&c))
		abort();
	return c;
}

static unsigned int last_of(const struct vmplat_cpus *c)
{
	unsigned int cpu = VMPLAT_CPUS_MAX;

	while (cpu && !vmplat_cpus_has(c, --cpu))
		;
	return cpu;
}

static unsigned int nr_threads(void)
{
	DIR *d = opendir("/proc/self/task");
	unsigned int n = 0;

	while (d && readdir(d))
		n++;
	closedir(d);
	return n;
}

/* ---- sets ------------------------------------------------------------------------ */

TEST(lists)
{
	struct vmplat_cpus c = set_of("0,2-5,63-65,4095");
	char text[VMPLAT_CPUS_TEXT];
	const char *end;

	CHECK_EQ(vmplat_cpus_count(&c), 9);
	CHECK(vmplat_cpus_has(&c, 0) && !vmplat_cpus_has(&c, 1) && vmplat_cpus_has(&c, 64) &&
	      vmplat_cpus_has(&c, 4095) && !vmplat_cpus_has(&c, 4096));
	CHECK_EQ(vmplat_cpus_format(&c, text, sizeof(text)), strlen("0,2-5,63-65,4095"));
	CHECK(!strcmp(text, "0,2-5,63-65,4095"));
	CHECK_EQ(vmplat_cpus_format(&c, text, 6), 5);
	CHECK(!strcmp(text, "0,2-5"));
	c = set_of("3,1,2,1");
	vmplat_cpus_format(&c, text, sizeof(text));
	CHECK(!strcmp(text, "1-3"));
	c = set_of("6,7");
	vmplat_cpus_format(&c, text, sizeof(text));
	CHECK(!strcmp(text, "6-7"));
	CHECK(!vmplat_cpus_parse(&c, "1-2:3", &end) && !strcmp(end, ":3"));
}

TEST(no_lists)
{
	static const char *const bad[] = {
		"", ",", "1,", "1,,2", "-1", "1-", "a", "1 ", "2-1", "4096", "1-4096",
		"99999999999999999999", "1:2",
	};
	struct vmplat_cpus c;

	for (size_t i = 0; i < sizeof(bad) / sizeof(bad[0]); i++)
		CHECK_EQ(vmplat_cpus_parse(&c, bad[i], NULL), -EINVAL);
	CHECK_EQ(vmplat_cpus_of_node(&c, 4000), -ENOENT);
}

TEST(nodes)
{
	struct vmplat_cpus c, here = allowed();

	if (vmplat_cpus_of_node(&c, 0)) {
		tap_skip("no NUMA");
		return;
	}
	CHECK(vmplat_cpus_count(&c) || vmplat_cpus_count(&here));
}

/* ---- threads ----------------------------------------------------------------------- */

struct probe {
	unsigned int cpu;
	bool strayed;
	struct vmplat_thread_facts facts;
	int ret;
};

/* where it is, again and again, by the processor's own word, and then by /proc */
static void *stay(void *data)
{
	struct probe *p = data;

	for (int i = 0; i < 20000; i++) {
		p->strayed |= sched_getcpu() != (int)p->cpu;
		if (i % 1000 == 0)
			sched_yield();
	}
	p->ret = vmplat_thread_query(0, &p->facts);
	return p;
}

TEST(pinned)
{
	struct vmplat_cpus here = allowed(), one = { };
	struct vmplat_thread_options o = { .name = "a-name-longer-than-15", .cpus = &one };
	struct vmplat_thread *t;

	for (unsigned int cpu = 0; cpu < VMPLAT_CPUS_MAX; cpu++) {
		struct probe p = { .cpu = cpu };

		if (!vmplat_cpus_has(&here, cpu))
			continue;
		memset(&one, 0, sizeof(one));
		vmplat_cpus_add(&one, cpu);
		REQUIRE(!vmplat_thread_start(&t, &o, stay, &p));
		CHECK(vmplat_thread_tid(t) > 0 && vmplat_thread_tid(t) != getpid());
		CHECK(vmplat_thread_join(t) == &p);
		CHECK(!p.strayed && !p.ret);
		CHECK_EQ(p.facts.cpu, cpu);
		CHECK(!memcmp(&p.facts.cpus, &one, sizeof(one)));
		CHECK(!strcmp(p.facts.name, "a-name-longer-t"));
		CHECK_EQ(p.facts.class_, VMPLAT_THREAD_NORMAL);
		CHECK(p.facts.run_ns > 0);
	}
}

static void *mark(void *data)
{
	atomic_store((atomic_bool *)data, true);
	return NULL;
}

/* a CPU that is not there, beside one that is: no thread, and its function was not called */
TEST(refused)
{
	struct vmplat_cpus here = allowed(), cpus;
	struct vmplat_thread_options o = { .cpus = &cpus };
	unsigned int before = nr_threads();
	atomic_bool ran = false;
	struct vmplat_thread *t;

	cpus = set_of("4000");
	CHECK_EQ(vmplat_thread_start(&t, &o, mark, &ran), -EINVAL);
	CHECK(!t && strstr(vmplat_last_error(), "none of the CPUs"));
	vmplat_cpus_add(&cpus, last_of(&here));
	CHECK_EQ(vmplat_thread_start(&t, &o, mark, &ran), -EINVAL);
	CHECK(!t && strstr(vmplat_last_error(), "cannot run on CPU 4000: "));
	CHECK_EQ(vmplat_thread_pin(0, &cpus), -EINVAL);
	CHECK(!memcmp(&here, &(struct vmplat_cpus[]){ allowed() }, sizeof(here)));
	o = (struct vmplat_thread_options){ .priority = 1 };
	CHECK_EQ(vmplat_thread_start(&t, &o, mark, &ran), -EINVAL);
	o = (struct vmplat_thread_options){ .class_ = VMPLAT_THREAD_FIFO };
	CHECK_EQ(vmplat_thread_start(&t, &o, mark, &ran), -EINVAL);
	o = (struct vmplat_thread_options){ .class_ = 9 };
	CHECK_EQ(vmplat_thread_start(&t, &o, mark, &ran), -EINVAL);
	o = (struct vmplat_thread_options){ .flags = 2 };
	CHECK_EQ(vmplat_thread_start(&t, &o, mark, &ran), -EINVAL);
	o = (struct vmplat_thread_options){ .stack_bytes = 1 };
	CHECK_EQ(vmplat_thread_start(&t, &o, mark, &ran), -EINVAL);
	CHECK(!t && !atomic_load(&ran));
	/* a thread that was joined may be seen for a moment longer */
	for (int i = 0; i < 10000 && nr_threads() > before; i++)
		usleep(1000);
	CHECK_EQ(nr_threads(), before);
	CHECK(!vmplat_thread_join(NULL));
}

TEST(moved)
{
	struct vmplat_cpus here = allowed(), one = { };

	vmplat_cpus_add(&one, last_of(&here));
	CHECK(!vmplat_thread_pin(0, &one));
	CHECK_EQ(sched_getcpu(), last_of(&here));
	CHECK(!memcmp(&one, &(struct vmplat_cpus[]){ allowed() }, sizeof(one)));
	CHECK(!vmplat_thread_pin(0, &here));
	CHECK_EQ(vmplat_thread_pin(0x3ffffff0, &here), -ESRCH);
}

struct lazy {
	struct vmplat_thread_facts facts;
	sigset_t mask;
};

static void *look(void *data)
{
	struct lazy *l = data;

	vmplat_thread_query(0, &l->facts);
	pthread_sigmask(SIG_BLOCK, NULL, &l->mask);
	return NULL;
}

TEST(classes)
{
	struct vmplat_thread_options o = {
		.class_ = VMPLAT_THREAD_IDLE, .flags = VMPLAT_THREAD_F_NO_SIGNALS,
	};
	struct vmplat_thread *t;
	struct lazy l;
	sigset_t mine;
	int ret;

	REQUIRE(!vmplat_thread_start(&t, &o, look, &l));
	vmplat_thread_join(t);
	CHECK_EQ(l.facts.class_, VMPLAT_THREAD_IDLE);
	CHECK(sigismember(&l.mask, SIGTERM) == 1 && sigismember(&l.mask, SIGRTMIN + 1) == 1);
	CHECK(sigismember(&l.mask, SIGSEGV) == 0 && sigismember(&l.mask, SIGBUS) == 0);
	pthread_sigmask(SIG_BLOCK, NULL, &mine);
	CHECK(sigismember(&mine, SIGTERM) == 0);
	o = (struct vmplat_thread_options){ .class_ = VMPLAT_THREAD_FIFO, .priority = 7 };
	ret = vmplat_thread_start(&t, &o, look, &l);
	if (ret) {
		CHECK_EQ(ret, -EPERM);
		CHECK(strstr(vmplat_last_error(), "ulimit -r"));
		return;
	}
	vmplat_thread_join(t);
	CHECK(l.facts.class_ == VMPLAT_THREAD_FIFO && l.facts.priority == 7);
}

/* without the right to it */
TEST(not_for_everybody)
{
	struct vmplat_thread_options o = { .class_ = VMPLAT_THREAD_RR, .priority = 1 };
	struct vmplat_thread *t;
	struct lazy l;
	int status;
	pid_t pid = fork();

	if (!pid) {
		if (!geteuid() && setresuid(65534, 65534, 65534))
			_exit(2);
		if (vmplat_thread_start(&t, &o, look, &l) != -EPERM || t)
			_exit(3);
		_exit(strstr(vmplat_last_error(), "CAP_SYS_NICE") ? 0 : 4);
	}
	waitpid(pid, &status, 0);
	CHECK(WIFEXITED(status));
	CHECK_EQ(WEXITSTATUS(status), 0);
}

static atomic_int signals;
static atomic_bool end;

static void count(int sig)
{
	atomic_fetch_add(&signals, 1);
	atomic_store(&end, true);
}

static void *until_signalled(void *data)
{
	while (!atomic_load(&end))
		usleep(1000);
	return NULL;
}

TEST(signalled)
{
	struct sigaction sa = { .sa_handler = count };
	struct vmplat_thread *t;

	sigaction(SIGUSR2, &sa, NULL);
	REQUIRE(!vmplat_thread_start(&t, NULL, until_signalled, NULL));
	CHECK(!vmplat_thread_signal(t, SIGUSR2));
	vmplat_thread_join(t);
	CHECK_EQ(signals, 1);
}

TEST(detached)
{
	atomic_bool ran = false;
	struct vmplat_thread *t;

	REQUIRE(!vmplat_thread_start(&t, NULL, mark, &ran));
	vmplat_thread_detach(t);
	while (!atomic_load(&ran))
		usleep(100);
}

TEST(unknown)
{
	struct vmplat_thread_facts f;

	CHECK_EQ(vmplat_thread_query(0x3ffffff0, &f), -ESRCH);
	CHECK_EQ(vmplat_thread_set_class(0x3ffffff0, VMPLAT_THREAD_NORMAL, 0), -ESRCH);
}

/* ---- advice --------------------------------------------------------------------------- */

struct heard {
	unsigned int nr, offline, wrong_cpu;
	bool shared, says_what_to_do;
};

static void hear(void *ctx, unsigned int cpu, enum vmplat_cpu_issue issue, const char *text)
{
	struct heard *h = ctx;

	h->nr++;
	h->offline += issue == VMPLAT_CPU_OFFLINE && cpu == 4000;
	h->wrong_cpu += cpu != 4000 && cpu != 0;
	h->shared |= issue == VMPLAT_CPU_SHARED && cpu == 0;
	h->says_what_to_do |= strstr(text, "isolcpus=0") != NULL;
}

TEST(advice)
{
	struct vmplat_cpus c = set_of("0,4000");
	struct heard h = { };
	char isolated[64] = "";
	FILE *f = fopen("/sys/devices/system/cpu/isolated", "r");

	if (f && !fgets(isolated, sizeof(isolated), f))
		*isolated = 0;
	if (f)
		fclose(f);
	CHECK_EQ(vmplat_cpus_advise(&c, hear, &h), h.nr);
	CHECK_EQ(h.offline, 1);
	CHECK_EQ(h.wrong_cpu, 0);
	if (strcspn(isolated, "\n"))	/* somebody has isolated CPUs here */
		return;
	CHECK(h.shared && h.says_what_to_do);
}

int main(void)
{
	RUN(lists);
	RUN(no_lists);
	RUN(nodes);
	RUN(pinned);
	RUN(refused);
	RUN(moved);
	RUN(classes);
	RUN(not_for_everybody);
	RUN(signalled);
	RUN(detached);
	RUN(unknown);
	RUN(advice);
	return tap_done();
}
