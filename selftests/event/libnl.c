// SPDX-License-Identifier: GPL-2.0-only
/*
 * A second client, which shares nothing with libvmplat but the numbers: libnl, multicast
 * groups, and the rule that a hole in class-seq, or ENOBUFS, is a loss.
 *
 * The VM of a runner that is killed is gone; filters let through what they should; a reader
 * that sleeps is told, and has everything after one replay; and so is one for whose events there
 * was no memory, where the kernel injects that.
 */
#include <dirent.h>
#include <fcntl.h>
#include <poll.h>
#include <signal.h>
#include <sys/wait.h>
#include <unistd.h>

#include <netlink/genl/ctrl.h>
#include <netlink/genl/genl.h>
#include <netlink/netlink.h>

#include <linux/vmplat_netlink.h>

#include "mem/util.h"

struct seen {
	uint64_t epoch, seq, class_seq, id;
	uint32_t class, action, state, nlmsg_seq;
	uint64_t lost_first, lost_last;
	bool gone, overrun;
};

struct client {
	struct nl_sock *sk;
	struct nl_cb *cb;
	int family;
	int err;			/* from an error message or from receiving */
	bool done;			/* an answer is complete */
	struct seen seen[64];
	unsigned int nr;		/* how many, though only the last are kept */
	uint64_t holes;
};

static int on_valid(struct nl_msg *msg, void *arg)
{
	struct client *c = arg;
	struct nlattr *attrs[VMPLAT_NL_A_MAX + 1], *vm[VMPLAT_NL_VM_MAX + 1];
	struct nlattr *overrun[VMPLAT_NL_OVERRUN_MAX + 1];
	struct seen *s = &c->seen[c->nr++ % ARRAY_SIZE(c->seen)];

	memset(s, 0, sizeof(*s));
	if (genlmsg_parse(nlmsg_hdr(msg), 0, attrs, VMPLAT_NL_A_MAX, NULL))
		return NL_SKIP;
	s->nlmsg_seq = nlmsg_hdr(msg)->nlmsg_seq;
	if (attrs[VMPLAT_NL_A_EPOCH])
		s->epoch = nla_get_u64(attrs[VMPLAT_NL_A_EPOCH]);
	if (attrs[VMPLAT_NL_A_SEQ])
		s->seq = nla_get_u64(attrs[VMPLAT_NL_A_SEQ]);
	if (attrs[VMPLAT_NL_A_CLASS_SEQ])
		s->class_seq = nla_get_u64(attrs[VMPLAT_NL_A_CLASS_SEQ]);
	if (attrs[VMPLAT_NL_A_ID])
		s->id = nla_get_u64(attrs[VMPLAT_NL_A_ID]);
	if (attrs[VMPLAT_NL_A_CLASS])
		s->class = nla_get_u32(attrs[VMPLAT_NL_A_CLASS]);
	if (attrs[VMPLAT_NL_A_ACTION])
		s->action = nla_get_u32(attrs[VMPLAT_NL_A_ACTION]);
	s->gone = attrs[VMPLAT_NL_A_GONE];
	s->overrun = attrs[VMPLAT_NL_A_OVERRUN];
	if (s->overrun &&
	    !nla_parse_nested(overrun, VMPLAT_NL_OVERRUN_MAX, attrs[VMPLAT_NL_A_OVERRUN], NULL) &&
	    overrun[VMPLAT_NL_OVERRUN_FIRST] && overrun[VMPLAT_NL_OVERRUN_LAST]) {
		s->lost_first = nla_get_u64(overrun[VMPLAT_NL_OVERRUN_FIRST]);
		s->lost_last = nla_get_u64(overrun[VMPLAT_NL_OVERRUN_LAST]);
	}
	if (attrs[VMPLAT_NL_A_VM] &&
	    !nla_parse_nested(vm, VMPLAT_NL_VM_MAX, attrs[VMPLAT_NL_A_VM], NULL) &&
	    vm[VMPLAT_NL_VM_STATE])
		s->state = nla_get_u32(vm[VMPLAT_NL_VM_STATE]);
	return NL_OK;
}

static int on_error(struct sockaddr_nl *addr, struct nlmsgerr *err, void *arg)
{
	struct client *c = arg;

	c->err = -err->error;
	c->done = true;
	return NL_STOP;
}

static int on_done(struct nl_msg *msg, void *arg)
{
	((struct client *)arg)->done = true;
	return NL_STOP;
}

static int any_seq(struct nl_msg *msg, void *arg)
{
	return NL_OK;
}

static void client_open(struct client *c)
{
	memset(c, 0, sizeof(*c));
	c->sk = nl_socket_alloc();
	c->cb = nl_cb_alloc(NL_CB_DEFAULT);
	if (!c->sk || !c->cb || genl_connect(c->sk))
		bail("libnl");
	nl_cb_set(c->cb, NL_CB_VALID, NL_CB_CUSTOM, on_valid, c);
	nl_cb_set(c->cb, NL_CB_FINISH, NL_CB_CUSTOM, on_done, c);
	nl_cb_set(c->cb, NL_CB_ACK, NL_CB_CUSTOM, on_done, c);
	nl_cb_set(c->cb, NL_CB_SEQ_CHECK, NL_CB_CUSTOM, any_seq, NULL);
	nl_cb_err(c->cb, NL_CB_CUSTOM, on_error, c);
	c->family = genl_ctrl_resolve(c->sk, VMPLAT_FAMILY_NAME);
	if (c->family < 0)
		bail("no family vmplat");
}

static void client_close(struct client *c)
{
	nl_cb_put(c->cb);
	nl_socket_free(c->sk);
}

/* Send and wait for the end of the answer: 0 or errno. */
static int ask(struct client *c, struct nl_msg *msg)
{
	c->err = 0;
	c->done = false;
	c->nr = 0;
	if (nl_send_auto(c->sk, msg) < 0)
		bail("nl_send_auto");
	nlmsg_free(msg);
	while (!c->done)
		if (nl_recvmsgs(c->sk, c->cb) < 0 && !c->done)
			return EIO;
	return c->err;
}

static struct nl_msg *message(struct client *c, uint8_t cmd, int flags)
{
	struct nl_msg *msg = nlmsg_alloc();

	if (!msg || !genlmsg_put(msg, NL_AUTO_PORT, NL_AUTO_SEQ, c->family, 0, flags, cmd, 1))
		bail("nlmsg_alloc");
	return msg;
}

static int report(struct client *c, const char *name, uint32_t state)
{
	struct nl_msg *msg = message(c, VMPLAT_NL_CMD_VM_SET, NLM_F_ACK);
	struct nlattr *nest;

	nla_put_s32(msg, VMPLAT_NL_A_DEVICE_FD, dev_fd);
	nest = nla_nest_start(msg, VMPLAT_NL_A_VM);
	if (name)
		nla_put_string(msg, VMPLAT_NL_VM_NAME, name);
	nla_put_u32(msg, VMPLAT_NL_VM_STATE, state);
	nla_nest_end(msg, nest);
	return ask(c, msg);
}

/* Receive what comes until @want more have been seen, or @ms went by. Last errno. */
static int receive(struct client *c, unsigned int want, int ms)
{
	unsigned int until = c->nr + want;
	int err = 0;

	while (c->nr < until) {
		struct pollfd p = { .fd = nl_socket_get_fd(c->sk), .events = POLLIN };
		int rc;

		if (poll(&p, 1, ms) < 1)
			break;
		rc = nl_recvmsgs(c->sk, c->cb);
		if (rc < 0)
			err = rc;
	}
	return err;
}

static const struct seen *last(const struct client *c, unsigned int back)
{
	return &c->seen[(c->nr - 1 - back) % ARRAY_SIZE(c->seen)];
}

static void join(struct client *c, const char *group)
{
	nl_socket_disable_seq_check(c->sk);
	if (nl_socket_add_membership(c->sk, genl_ctrl_resolve_grp(c->sk, VMPLAT_FAMILY_NAME, group)))
		bail("cannot join %s", group);
}

/* A runner of its own process; killed with SIGKILL when @to_runner is closed. */
static pid_t start_runner(const char *name, int *ready)
{
	struct client c;
	int fds[2];
	char x;
	pid_t pid;

	need(pipe(fds));
	pid = need(fork());
	if (pid) {
		close(fds[1]);
		*ready = read(fds[0], &x, 1);
		close(fds[0]);
		return pid;
	}
	client_open(&c);
	if (!report(&c, name, VMPLAT_VM_STATE_RUNNING) && write(fds[1], "x", 1) == 1)
		pause();
	_exit(1);
}

static void test_kill(void)
{
	struct client c;
	uint64_t id;
	int ready;
	pid_t pid;

	client_open(&c);
	join(&c, "vm");
	pid = start_runner("victim", &ready);
	is_int(ready, 1, "a runner reports its VM");
	receive(&c, 1, 10000);
	is_int(last(&c, 0)->action, VMPLAT_ACTION_ADD, "the group of VMs hears of it");
	id = last(&c, 0)->id;
	kill(pid, SIGKILL);
	waitpid(pid, NULL, 0);
	receive(&c, 1, 10000);
	is_int(last(&c, 0)->id, id, "it is killed");
	ok(last(&c, 0)->gone && last(&c, 0)->action == VMPLAT_ACTION_REMOVE, "and its VM is gone");
	is_int(last(&c, 0)->state, VMPLAT_VM_STATE_RUNNING, "which was running: it was lost");
	is_int(last(&c, 0)->class_seq, last(&c, 1)->class_seq + 1, "nothing was missed between");
	client_close(&c);
}

static void set_filter(struct client *c, uint32_t classes, uint64_t id)
{
	struct nl_msg *msg = message(c, VMPLAT_NL_CMD_FILTER_SET, NLM_F_ACK);

	nla_put_u32(msg, VMPLAT_NL_A_CLASSES, classes);
	nla_put_s32(msg, VMPLAT_NL_A_DEVICE_FD, dev_fd);
	if (id)
		nla_put_u64(msg, VMPLAT_NL_A_ID, id);
	is_int(ask(c, msg), 0, "a filter");
	c->nr = 0;
}

static void test_filter(void)
{
	struct client by_class, by_id, none, a, b;
	uint64_t id;

	client_open(&a);
	client_open(&b);
	client_open(&by_class);
	client_open(&by_id);
	client_open(&none);
	is_int(report(&a, "a", VMPLAT_VM_STATE_STARTING), 0, "VM a");
	id = last(&a, 0)->id;
	set_filter(&by_class, 1 << VMPLAT_CLASS_VM, 0);
	set_filter(&by_id, 1 << VMPLAT_CLASS_VM | 1 << VMPLAT_CLASS_MEM, id);
	set_filter(&none, 1 << VMPLAT_CLASS_CPU, 0);
	report(&b, "b", VMPLAT_VM_STATE_STARTING);
	report(&b, NULL, VMPLAT_VM_STATE_RUNNING);
	report(&b, NULL, VMPLAT_VM_STATE_RUNNING);	/* nothing new: no event */
	report(&a, NULL, VMPLAT_VM_STATE_PAUSED);
	close(mem_new(4 * PAGE));
	receive(&by_class, 3, 10000);
	receive(&by_id, 1, 10000);
	is_int(by_class.nr, 3, "by class: three of VMs");
	is_int(last(&by_class, 0)->nlmsg_seq, 3, "counted from 1");
	is_int(last(&by_class, 0)->id, id, "in order");
	is_int(by_id.nr, 1, "by id: one");
	is_int(last(&by_id, 0)->id, id, "of this VM");
	is_int(last(&by_id, 0)->state, VMPLAT_VM_STATE_PAUSED, "with all of it");
	set_filter(&by_class, 0, 0);
	report(&a, NULL, VMPLAT_VM_STATE_RUNNING);
	receive(&by_id, 1, 10000);
	/* That one had been sent after all others would have been. */
	receive(&by_class, 1, 100);
	is_int(by_class.nr, 0, "a filter that was taken back");
	receive(&none, 1, 100);
	is_int(none.nr, 0, "another class");
	client_close(&a);
	client_close(&b);
	client_close(&by_class);
	client_close(&by_id);
	client_close(&none);
}

static void test_overrun(void)
{
	const unsigned int nr = 1500;
	struct client c, runner, asker;
	struct nl_msg *msg;
	uint64_t position, had, from;
	unsigned int before;
	bool told = false;

	client_open(&c);
	client_open(&runner);
	client_open(&asker);
	join(&c, "vm");
	report(&runner, "noisy", VMPLAT_VM_STATE_RUNNING);
	/* Before it come the last words of earlier ones, which were on their way. */
	while (receive(&c, 1, 10000) == 0 && last(&c, 0)->id != last(&runner, 0)->id)
		;
	before = c.nr;
	position = last(&c, 0)->seq;
	from = last(&c, 0)->class_seq;
	for (unsigned int i = 0; i < nr; i++)
		report(&runner, NULL, i % 2 ? VMPLAT_VM_STATE_RUNNING : VMPLAT_VM_STATE_PAUSED);
	/* Until nothing comes for a while: the kernel's worker may be behind. */
	do {
		had = c.nr;
		if (receive(&c, 1, 1000) == -NLE_NOMEM)
			told = true;
	} while (c.nr != had);
	ok(told, "a reader that slept is told with ENOBUFS");
	ok(c.nr - before < nr, "that events were lost (%u of %u came)", c.nr - before, nr);
	/* One replay from the last event before the hole. */
	msg = message(&asker, VMPLAT_NL_CMD_EVENT_GET, NLM_F_DUMP);
	nla_put_u64(msg, VMPLAT_NL_A_SINCE, position);
	nla_put_u32(msg, VMPLAT_NL_A_CLASSES, 1 << VMPLAT_CLASS_VM);
	is_int(ask(&asker, msg), 0, "a replay");
	is_int(asker.nr - 1, nr, "has all of them");
	is_int(last(&asker, 0)->class_seq, from + nr, "to the last");
	client_close(&c);
	client_close(&runner);
	client_close(&asker);
}

/* ---- no memory ------------------------------------------------------------------- */

static bool is_worker(const char *pid)
{
	char path[300], comm[32] = "";
	FILE *f;

	snprintf(path, sizeof(path), "/proc/%s/comm", pid);
	f = fopen(path, "re");
	if (!f)
		return false;
	if (!fgets(comm, sizeof(comm), f))
		*comm = '\0';
	fclose(f);
	/* New workers are made by kthreadd, and take after it. */
	return !strncmp(comm, "kworker/", 8) || !strncmp(comm, "kthreadd", 8);
}

/* Message buffers are refused to those who may be running the module's worker; or all is as it was. */
static int starve(bool on)
{
	static const char *const knobs[][3] = {
		{ "/sys/kernel/slab/skbuff_head_cache/failslab", "0", "1" },
		{ "/sys/kernel/debug/failslab/cache-filter", "N", "Y" },
		{ "/sys/kernel/debug/failslab/task-filter", "N", "Y" },
		{ "/sys/kernel/debug/failslab/ignore-gfp-wait", "Y", "N" },
		{ "/sys/kernel/debug/failslab/verbose", "0", "0" },
		{ "/sys/kernel/debug/failslab/times", "1", "-1" },
		{ "/sys/kernel/debug/failslab/probability", "0", "100" },
	};
	DIR *proc = opendir("/proc");
	struct dirent *d;
	char path[300];

	while ((d = readdir(proc)))
		if (*d->d_name >= '1' && *d->d_name <= '9' && is_worker(d->d_name)) {
			snprintf(path, sizeof(path), "/proc/%s/make-it-fail", d->d_name);
			poke(path, on ? "1" : "0");
		}
	closedir(proc);
	/* The filters first, and last. */
	for (size_t i = 0; i < ARRAY_SIZE(knobs); i++) {
		size_t k = on ? i : ARRAY_SIZE(knobs) - 1 - i;

		if (poke(knobs[k][0], knobs[k][on ? 2 : 1]))
			return -1;
	}
	return 0;
}

static void test_no_memory(void)
{
	const unsigned int nr = 5;
	struct client filtered, group, runner;
	unsigned int told = 0;
	uint64_t before;
	uint32_t count;

	if (access("/sys/kernel/debug/failslab", F_OK)) {
		skip("this kernel does not refuse memory on request");
		return;
	}
	client_open(&filtered);
	client_open(&group);
	client_open(&runner);
	join(&group, "vm");
	set_filter(&filtered, 1 << VMPLAT_CLASS_VM, 0);
	report(&runner, "starved", VMPLAT_VM_STATE_RUNNING);
	while (receive(&group, 1, 10000) == 0 && last(&group, 0)->id != last(&runner, 0)->id)
		;
	while (receive(&filtered, 1, 10000) == 0 && last(&filtered, 0)->id != last(&runner, 0)->id)
		;
	before = last(&filtered, 0)->seq;
	count = last(&filtered, 0)->nlmsg_seq;

	is_int(starve(true), 0, "there is no memory for messages");
	for (unsigned int i = 0; i < nr; i++) {
		report(&runner, NULL, i % 2 ? VMPLAT_VM_STATE_RUNNING : VMPLAT_VM_STATE_PAUSED);
		told += receive(&group, 1, 10000) == -NLE_NOMEM;
	}
	is_int(told, nr, "the group is told with ENOBUFS, each time");
	/* Until it has been tried again, in vain. */
	usleep(300000);
	receive(&filtered, 1, 0);
	is_int(last(&filtered, 0)->seq, before, "a reader with a filter cannot be told yet");
	is_int(starve(false), 0, "there is memory again");
	receive(&filtered, 1, 10000);
	ok(last(&filtered, 0)->overrun, "without any new event it is told of its loss");
	is_int(last(&filtered, 0)->lost_first, before + 1, "from the first");
	is_int(last(&filtered, 0)->lost_last, before + nr, "to the last");
	is_int(last(&filtered, 0)->nlmsg_seq, count + nr + 1, "and its count has a hole of that size");
	report(&runner, NULL, VMPLAT_VM_STATE_RUNNING);
	report(&runner, NULL, VMPLAT_VM_STATE_PAUSED);
	receive(&filtered, 1, 10000);
	is_int(last(&filtered, 0)->nlmsg_seq, count + nr + 2, "then events follow");
	ok(!last(&filtered, 0)->overrun && last(&filtered, 0)->seq > before + nr, "as ever");
	client_close(&filtered);
	client_close(&group);
	client_close(&runner);
}

int main(void)
{
	dev_open();
	test_no_memory();
	test_kill();
	test_filter();
	test_overrun();
	return done();
}
