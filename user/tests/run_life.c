// SPDX-License-Identifier: GPL-2.0-only
/*
 * The life of a VM: its table; each command in each state on a control socket; a runner that
 * is killed at each transition, and what is told of it then. With a program in QEMU's place
 * everywhere, and under KVM, with guests of a few instructions, where that is; in the test
 * host with the module as well ("kvm" as an argument: only these).
 */
#include <elf.h>
#include <errno.h>
#include <fcntl.h>
#include <json-c/json.h>
#include <poll.h>
#include <pthread.h>
#include <signal.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <unistd.h>

#include <linux/vmplat_netlink.h>
#include <vmplat_clock.h>
#include <vmplat_error.h>

#include "cli/cli.h"
#include "fake_qemu.h"
#include "run/client.h"
#include "run/control.h"
#include "run/cpus.h"
#include "run/life.h"
#include "run/record.h"
#include "run/serve.h"
#include "run/vm_priv.h"
#include "tap.h"

static char dir[] = "/tmp/vmplat-life-XXXXXX";
static char guest_path[80];		/* of the kernel of KVM's guests */
static bool with_kvm, with_module;

/* ---- the table ---------------------------------------------------------------------- */

/* once more, by letters: what is changed in one place only is found */
static const struct { enum vm_command cmd; const char *answers; } expected[] = {
	/*			  defined starting restoring running paused
				  snapshotting stopping stopped failed */
	{ VM_CMD_STATUS,	  "+++++~+++" },
	{ VM_CMD_PAUSE,		  "-~~+-~---" },
	{ VM_CMD_RESUME,	  "-~~-+~---" },
	{ VM_CMD_RESET,		  "-~~++~---" },
	{ VM_CMD_STOP,		  "-++++~+--" },
	{ VM_CMD_POWERDOWN,	  "-~~++~---" },
	{ VM_CMD_CPUS,		  "-~~++~---" },
	{ VM_CMD_SNAPSHOT,	  "-~~++~---" },
	{ VM_CMD_SNAPSHOT_COMMIT, "-++++~+--" },
	{ VM_CMD_SNAPSHOT_ABORT,  "-++++~+--" },
	{ VM_CMD_DEVICE_ADD,	  "-~~+-~---" },
	{ VM_CMD_DEVICE_REMOVE,	  "-~~+-~---" },
	{ VM_CMD_DEVICE_LIST,	  "-~~++~+--" },
	{ VM_CMD_START,		  "+------++" },
	{ VM_CMD_FORGET,	  "+------++" },
};

TEST(each_command_in_each_state)
{
	CHECK_EQ(sizeof(expected) / sizeof(expected[0]), VM_NR_COMMANDS);
	for (enum vm_command c = 0; c < VM_NR_COMMANDS; c++) {
		CHECK_EQ(strlen(expected[c].answers), VM_NR_STATUS);
		for (enum vm_status s = 0; s < VM_NR_STATUS; s++) {
			char text[VM_REFUSAL_TEXT], begin[80];
			const char *why = vm_refusal(s, c, text);

			CHECK_EQ("-+~"[vm_answer(s, c)], expected[c].answers[s]);
			CHECK_EQ(!why, vm_answer(s, c) != VM_REFUSE);
			snprintf(begin, sizeof(begin), "cannot %s: it %s", vm_command_name(c),
				 vm_status_phrase(s));
			CHECK(!why || !strncmp(why, begin, strlen(begin)));
			/* who is refused by what is over is told what else there is to do */
			if (why && vm_status_ends(s) && c != VM_CMD_STOP && c != VM_CMD_POWERDOWN)
				CHECK(strchr(why, ';') != NULL);
		}
	}
}

/* The manual has the table, too: a line each, "``pause``  no  queued ..." */
TEST(manual)
{
	static const char *const answers[] = {
		[VM_REFUSE] = "no", [VM_DO] = "yes", [VM_WAIT] = "queued",
	};
	FILE *f = fopen("../Documentation/runner.rst", "r");
	unsigned int nr = 0;
	char line[300];

	if (!f)
		f = fopen("Documentation/runner.rst", "r");
	REQUIRE(f);
	while (fgets(line, sizeof(line), f)) {
		char *rest = line, *word = strsep(&rest, " \n");
		size_t len = strlen(word);
		enum vm_status s = 0;
		enum vm_command c;

		if (nr == VM_NR_COMMANDS || len < 5 || strncmp(word, "``", 2))
			continue;
		word[len - 2] = 0;
		if (!vm_command_parse(&c, word + 2) || c != (enum vm_command)nr)
			continue;
		while ((word = strsep(&rest, " \n")))
			if (*word && s < VM_NR_STATUS)
				CHECK(!strcmp(word, answers[vm_answer(s++, c)]));
		CHECK_EQ(s, VM_NR_STATUS);
		nr++;
	}
	fclose(f);
	CHECK_EQ(nr, VM_NR_COMMANDS);
}

TEST(words)
{
	enum vm_command cmd;
	enum vm_status s;

	for (enum vm_command c = 0; c < VM_NR_COMMANDS; c++)
		CHECK(vm_command_parse(&cmd, vm_command_name(c)) && cmd == c);
	CHECK(vm_command_parse(&cmd, "quit") && cmd == VM_CMD_STOP);
	CHECK(!vm_command_parse(&cmd, "") && !vm_command_parse(&cmd, "pauses"));
	for (enum vm_status i = 0; i < VM_NR_STATUS; i++)
		CHECK(vm_status_parse(&s, vm_status_name(i)) && s == i);
	CHECK(!vm_status_parse(&s, "") && !vm_status_parse(&s, "dead"));
	/* events have a number for each but defined, and the same one always */
	CHECK_EQ(vm_status_event(VM_DEFINED), 0);
	CHECK_EQ(vm_status_event(VM_STARTING), VMPLAT_VM_STATE_STARTING);
	CHECK_EQ(vm_status_event(VM_RESTORING), VMPLAT_VM_STATE_RESTORING);
	CHECK_EQ(vm_status_event(VM_RUNNING), VMPLAT_VM_STATE_RUNNING);
	CHECK_EQ(vm_status_event(VM_PAUSED), VMPLAT_VM_STATE_PAUSED);
	CHECK_EQ(vm_status_event(VM_SNAPSHOTTING), VMPLAT_VM_STATE_SNAPSHOTTING);
	CHECK_EQ(vm_status_event(VM_STOPPING), VMPLAT_VM_STATE_STOPPING);
	CHECK_EQ(vm_status_event(VM_STOPPED), VMPLAT_VM_STATE_STOPPED);
	CHECK_EQ(vm_status_event(VM_FAILED), VMPLAT_VM_STATE_FAILED);
}

TEST(what_follows_what)
{
	for (enum vm_status s = 0; s < VM_NR_STATUS; s++) {
		bool ends = vm_status_ends(s);

		CHECK(!vm_may_become(s, s) && !vm_may_become(s, VM_DEFINED));
		/* what lives may fail; what does not may begin again, and nothing else */
		CHECK_EQ(vm_may_become(s, VM_FAILED), !ends);
		CHECK_EQ(vm_may_become(s, VM_STARTING), ends);
		CHECK_EQ(vm_may_become(s, VM_RESTORING), ends);
		CHECK(!ends || !vm_may_become(s, VM_RUNNING));
		CHECK_EQ(vm_may_become(s, VM_STOPPED), s == VM_STOPPING);
		CHECK_EQ(vm_may_become(s, VM_SNAPSHOTTING), s == VM_RUNNING || s == VM_PAUSED);
		/* nothing waits for ever: from where it waits a state follows that answers */
		for (enum vm_command c = 0; c < VM_NR_COMMANDS; c++) {
			bool answered = false;

			for (enum vm_status to = 0; to < VM_NR_STATUS; to++)
				answered |= vm_may_become(s, to) && vm_answer(to, c) != VM_WAIT;
			CHECK(vm_answer(s, c) != VM_WAIT || (answered && !ends));
		}
	}
}

/* ---- VMs ------------------------------------------------------------------------------- */

static struct vm_config config(bool kvm, const char *cmdline)
{
	return (struct vm_config){
		.name = strdup("a"), .arch = kvm ? VM_ARCH_X86_64 : VM_ARCH_RISCV64,
		.mem_bytes = 32 << 20, .nr_cpus = 1,
		.backend = kvm && with_module ? VM_BACKEND_VMPLAT : VM_BACKEND_MEMFD,
		.kernel = strdup(kvm ? guest_path : "/proc/self/exe"), .cmdline = strdup(cmdline),
	};
}

/* a runner in this process, but for its main thread */
struct runner {
	struct vm *vm;
	struct control *control;
	struct record *record;
};

static bool runner_new(struct runner *r)
{
	struct vm_config c = config(false, "");
	char why[600];
	bool good;

	good = !control_new(&r->control, c.name, why, sizeof(why)) &&
	       !record_begin(&r->record, dir, &c, "none", VM_STARTING, why, sizeof(why)) &&
	       !vm_new(&r->vm, &c, why, sizeof(why));
	if (!good) {
		printf("# %s\n", why);
		return false;
	}
	r->vm->quiet = true;
	r->vm->record = r->record;
	vm_begin(r->vm, VM_STARTING);
	return !vm_boot(r->vm) && !control_start(r->control, r->vm);
}

static void runner_free(struct runner *r)
{
	vm_stop(r->vm, VM_STOPPED);
	control_free(r->control);
	vm_free(r->vm);
	record_free(r->record);
}

/* into any state, by any way */
static void force(struct vm *vm, enum vm_status s)
{
	pthread_mutex_lock(&vm->op);
	atomic_store(&vm->requests, 0);
	if (s == VM_RUNNING && vm_status(vm) != s)
		vm_unhalt(vm);
	vm_enter(vm, s);
	pthread_mutex_unlock(&vm->op);
}

/* ---- the socket -------------------------------------------------------------------------- */

static struct vm_client *ask(const char *cmd)
{
	struct json_object *req = json_object_new_object();
	struct vm_client *c = NULL;

	json_object_object_add(req, "cmd", json_object_new_string(cmd));
	json_object_object_add(req, "id", json_object_new_string("x"));
	json_object_object_add(req, "type", json_object_new_string("blk"));
	if (vm_client_open(&c, "a") || vm_client_send(c, req, NULL, 0))
		printf("# cannot ask for %s: %s\n", cmd, vm_client_error());
	json_object_put(req);
	return c;
}

/* its reply as the errno and the sentence in @why, or -EIO */
static int reply(struct vm_client *c, char *why, size_t bytes)
{
	struct json_object *msg, *v;
	int err = 0;

	*why = 0;
	if (!c || vm_client_recv(c, &msg, NULL, NULL, -1))
		return -EIO;
	if (json_object_object_get_ex(msg, "errno", &v))
		err = -json_object_get_int(v);
	if (json_object_object_get_ex(msg, "error", &v))
		snprintf(why, bytes, "%s", json_object_get_string(v));
	json_object_put(msg);
	return err;
}

/* whoever asked before this one has been heard: what is no command is answered in any state */
static void all_heard(void)
{
	struct vm_client *c = ask("nonsense");
	char why[300];

	CHECK_EQ(reply(c, why, sizeof(why)), -ENOSYS);
	vm_client_close(c);
}

static bool has_reply(struct vm_client *c)
{
	struct pollfd p = { .fd = vm_client_fd(c), .events = POLLIN };

	return poll(&p, 1, 0) != 0;
}

/* What QEMU on a memfd makes of what it is to do; else 0. */
static int outcome(enum vm_command cmd)
{
	switch (cmd) {
	case VM_CMD_CPUS:
	case VM_CMD_SNAPSHOT:
	case VM_CMD_DEVICE_ADD:
	case VM_CMD_DEVICE_REMOVE:
		return -EOPNOTSUPP;
	case VM_CMD_SNAPSHOT_COMMIT:
	case VM_CMD_SNAPSHOT_ABORT:
		return -ENOENT;
	case VM_CMD_START:
	case VM_CMD_FORGET:
		return -EBUSY;		/* not while there is a runner */
	default:
		return 0;
	}
}

static void try_one(struct vm *vm, enum vm_status s, enum vm_command cmd)
{
	char why[600], refusal[VM_REFUSAL_TEXT];
	struct vm_client *c;
	enum vm_status then = VM_RUNNING;

	force(vm, s);
	c = ask(vm_command_name(cmd));
	if (vm_answer(s, cmd) == VM_WAIT) {
		all_heard();
		CHECK(!has_reply(c));
		/* the next state answers: as one that runs, or as one that does not any more */
		if (cmd % 2)
			then = VM_FAILED;
		force(vm, then);
		s = then;
	}
	if (vm_answer(s, cmd) == VM_DO) {
		CHECK_EQ(reply(c, why, sizeof(why)), outcome(cmd));
		CHECK(strncmp(why, "cannot", 6));
	} else {
		CHECK_EQ(reply(c, why, sizeof(why)), -EINVAL);
		CHECK(!strcmp(why, vm_refusal(s, cmd, refusal)));
	}
	vm_client_close(c);
}

TEST(each_command_in_each_state_by_socket)
{
	struct runner r;

	REQUIRE(runner_new(&r));
	for (enum vm_status s = VM_STARTING; s < VM_NR_STATUS; s++)
		for (enum vm_command cmd = 0; cmd < VM_NR_COMMANDS; cmd++)
			try_one(r.vm, s, cmd);
	runner_free(&r);
}

/* Queued requests are answered in the end, and one whose client has gone is forgotten. */
TEST(queues)
{
	struct vm_client *a, *b, *c;
	struct runner r;
	char why[600];

	REQUIRE(runner_new(&r));
	a = ask("pause");
	b = ask("snapshot");
	c = ask("resume");
	all_heard();
	CHECK(!has_reply(a) && !has_reply(b) && !has_reply(c));
	vm_client_close(c);
	CHECK(!vm_start(r.vm, false));
	CHECK_EQ(reply(a, why, sizeof(why)), 0);
	CHECK_EQ(reply(b, why, sizeof(why)), -EOPNOTSUPP);
	CHECK_EQ(vm_status(r.vm), VM_PAUSED);
	vm_client_close(b);
	/* the runner ends: who waits is told, before the connection ends */
	force(r.vm, VM_SNAPSHOTTING);
	b = ask("pause");
	all_heard();
	CHECK(!has_reply(b));
	force(r.vm, VM_FAILED);
	control_free(r.control);
	r.control = NULL;
	CHECK_EQ(reply(b, why, sizeof(why)), -EINVAL);
	CHECK(strstr(why, "cannot pause: it has failed"));
	CHECK_EQ(reply(b, why, sizeof(why)), -EIO);
	vm_client_close(a);
	vm_client_close(b);
	runner_free(&r);
}

/* what the commands do to the state */
TEST(verbs)
{
	static const struct { const char *cmd; enum vm_status then; } steps[] = {
		{ "pause", VM_PAUSED }, { "status", VM_PAUSED }, { "resume", VM_RUNNING },
		{ "reset", VM_RUNNING }, { "pause", VM_PAUSED }, { "reset", VM_RUNNING },
		{ "powerdown", VM_RUNNING },
	};
	struct vm_client *c;
	struct runner r;
	char why[600];

	REQUIRE(runner_new(&r));
	CHECK(!vm_start(r.vm, false));
	for (size_t i = 0; i < sizeof(steps) / sizeof(steps[0]); i++) {
		c = ask(steps[i].cmd);
		CHECK_EQ(reply(c, why, sizeof(why)), 0);
		CHECK_EQ(vm_status(r.vm), steps[i].then);
		CHECK_EQ(record_now(r.record), steps[i].then);
		vm_client_close(c);
	}
	c = ask("stop");
	CHECK_EQ(reply(c, why, sizeof(why)), 0);
	vm_client_close(c);
	CHECK_EQ(atomic_load(&r.vm->requests), VM_REQ_POWEROFF);
	vm_stop(r.vm, VM_STOPPED);
	CHECK_EQ(record_now(r.record), VM_STOPPED);
	runner_free(&r);
}

/* ---- the command --------------------------------------------------------------------------- */

int cmd_vm(int argc, char **argv);

static char said[8192];

/* `vmplat vm WORD...`, ended by NULL: its status; @said has what it printed, on either stream */
static int cli(const char *word, ...)
{
	char *argv[8] = { (char *)"vm", (char *)word };
	int argc = 2, out, status;
	ssize_t n;
	va_list ap;
	pid_t pid;

	va_start(ap, word);
	while ((argv[argc] = va_arg(ap, char *)))
		argc++;
	va_end(ap);
	fflush(NULL);
	out = memfd_create("said", 0);
	pid = fork();
	if (!pid) {
		int rc;

		dup2(out, STDOUT_FILENO);
		dup2(out, STDERR_FILENO);
		rc = cmd_vm(argc, argv);
		fflush(NULL);
		_exit(rc);
	}
	waitpid(pid, &status, 0);
	n = pread(out, said, sizeof(said) - 1, 0);
	said[n > 0 ? n : 0] = 0;
	close(out);
	return WIFEXITED(status) ? WEXITSTATUS(status) : -1;
}

static bool says(const char *text)
{
	if (strstr(said, text))
		return true;
	printf("# not '%s' but: %s\n", text, said);
	return false;
}

/* ---- killed ---------------------------------------------------------------------------------- */

/* where in its life, and how it gets there */
static const struct point {
	enum vm_status from, to;
	const char *commands;		/* "fail" makes it fail */
	bool paused, restored;
	const char *cmdline;		/* of the guest */
} points[] = {
	{ VM_DEFINED, VM_STARTING, "" },
	{ VM_STARTING, VM_RUNNING, "" },
	{ VM_STARTING, VM_PAUSED, "", .paused = true },
	{ VM_STARTING, VM_FAILED, "", .cmdline = "complain" },
	{ VM_DEFINED, VM_RESTORING, "", .restored = true },
	{ VM_RESTORING, VM_RUNNING, "", .restored = true },
	{ VM_RESTORING, VM_PAUSED, "", .restored = true, .paused = true },
	{ VM_RESTORING, VM_FAILED, "", .restored = true, .cmdline = "complain" },
	{ VM_RUNNING, VM_PAUSED, "pause" },
	{ VM_PAUSED, VM_RUNNING, "pause resume" },
	{ VM_RUNNING, VM_SNAPSHOTTING, "snapshot" },
	{ VM_SNAPSHOTTING, VM_RUNNING, "snapshot" },
	{ VM_PAUSED, VM_SNAPSHOTTING, "snapshot", .paused = true },
	{ VM_SNAPSHOTTING, VM_PAUSED, "snapshot", .paused = true },
	{ VM_RUNNING, VM_STOPPING, "stop" },
	{ VM_PAUSED, VM_STOPPING, "stop", .paused = true },
	{ VM_STOPPING, VM_STOPPED, "stop" },
	{ VM_RUNNING, VM_FAILED, "fail" },
	{ VM_PAUSED, VM_FAILED, "fail", .paused = true },
};

#define NR_POINTS (sizeof(points) / sizeof(points[0]))

static const struct point *point;
static enum vm_step point_step;
static bool point_kvm;
static enum vm_status before;

static struct json_object *label(void)
{
	return json_tokener_parse("{\"name\":\"monday\",\"id\":\"00112233445566778899aabbccddeeff\"}");
}

/* in place of one of QEMU's, which needs the module */
static void pretend_snapshot(struct vm *vm, enum vm_status to)
{
	struct json_object *o = label();
	static bool done;

	if (!done && strstr(point->commands, "snapshot")) {
		done = true;
		record_snapshot(vm->record, o);
		vm_enter(vm, VM_SNAPSHOTTING);
		vm_enter(vm, to);
	}
	json_object_put(o);
}

static void on_step(struct vm *vm, enum vm_status to, enum vm_step step)
{
	if (before == point->from && to == point->to && step == point_step)
		raise(SIGKILL);
	if (step != VM_STEP_TOLD)
		return;
	before = to;
	if (!point_kvm && (to == VM_RUNNING || to == VM_PAUSED))
		pretend_snapshot(vm, to);
}

static int prepare(struct vm *vm, void *ctx)
{
	return vm_boot(vm);
}

/* in a child: lives until it is killed */
static _Noreturn void live(void)
{
	struct serve_opts o = { .console = "none", .paused = point->paused,
				.prepare = point->restored ? prepare : NULL };
	struct vm_config c = config(point_kvm, point->cmdline ? point->cmdline : "mortal");
	int null = open("/dev/null", O_RDWR);
	char err[600];

	dup2(null, STDIN_FILENO);
	dup2(null, STDERR_FILENO);
	if (point_kvm && point->cmdline) {
		free(c.kernel);
		c.kernel = strdup("/nonexistent/kernel");
	}
	before = VM_DEFINED;
	vm_on_step = on_step;
	serve_vm(&c, &o, err, sizeof(err));
	_exit(0);
}

/* this is queued until there is a guest */
static void wait_until_up(void)
{
	struct vm_client *c;
	char why[300];

	if (!*point->commands)
		return;
	c = ask("device-list");
	if (c)
		reply(c, why, sizeof(why));
	vm_client_close(c);
}

/* The answers do not matter: it may be dead before it answers. */
static void drive(void)
{
	char words[80], *word, *rest = words;

	snprintf(words, sizeof(words), "%s", point->commands);
	wait_until_up();
	while ((word = strsep(&rest, " "))) {
		bool fails = !strcmp(word, "fail");
		struct json_object *req, *answer;
		struct vm_client *c;
		int fds[VM_CLIENT_FDS_MAX];
		size_t nr = 0;

		if (!*word || (!point_kvm && !strcmp(word, "snapshot")))
			continue;
		req = label();
		/* what it would boot again is gone; QEMU ends at a reset, it is mortal */
		if (fails)
			rename(guest_path, "/tmp/vmplat-life-away");
		json_object_object_add(req, "cmd", json_object_new_string(fails ? "reset" : word));
		if (!vm_client_open(&c, "a")) {
			if (!vm_client_call(c, req, NULL, 0, &answer, fds, &nr))
				json_object_put(answer);
			vm_client_close(c);
		}
		while (nr)
			close(fds[--nr]);
		json_object_put(req);
	}
}

static bool answers(void)
{
	struct vm_client *c;

	if (vm_client_open(&c, "a"))
		return false;
	vm_client_close(c);
	return true;
}

/* What is found must be what was. */
static void check_truth(pid_t pid)
{
	enum vm_status was = point_step == VM_STEP_DECIDED ? point->from : point->to;
	struct json_object *o = record_read(dir, "a"), *v;
	bool snapshot = strstr(point->commands, "snapshot") && (was == VM_SNAPSHOTTING ||
								point->from == VM_SNAPSHOTTING);
	char want[200] = "", *at;

	if (was == VM_DEFINED)		/* its record begins with the process */
		was = point->to;
	REQUIRE(o);
	CHECK(json_object_object_get_ex(o, "alive", &v) && !json_object_get_boolean(v));
	CHECK_EQ(record_status(o), vm_status_ends(was) ? was : VM_FAILED);
	REQUIRE(json_object_object_get_ex(o, "reason", &v));
	if (!vm_status_ends(was))
		snprintf(want, sizeof(want), "the runner (pid %d) died while %s%s", (int)pid, vm_status_name(was),
			 snapshot ? ", the snapshot 'monday' was not committed" : "");
	if (*want)
		CHECK(!strcmp(json_object_get_string(v), want));
	json_object_put(o);

	CHECK_EQ(cli("list", NULL), 0);
	CHECK(says(want));
	at = strstr(said, "\na ");
	CHECK(at && strstr(at, vm_status_ends(was) ? vm_status_name(was) : "failed"));
}

static void kill_at(const struct point *p, enum vm_step step, bool kvm)
{
	int status;
	pid_t pid;

	point = p;
	point_step = step;
	point_kvm = kvm;
	fflush(NULL);
	pid = fork();
	if (!pid)
		live();
	while (*p->commands && !answers() && !waitpid(pid, &status, WNOHANG))
		usleep(1000);
	drive();
	waitpid(pid, &status, 0);
	rename("/tmp/vmplat-life-away", guest_path);
	if (!WIFSIGNALED(status) || WTERMSIG(status) != SIGKILL) {
		printf("# %s to %s, step %d: it was not there\n", vm_status_name(p->from),
		       vm_status_name(p->to), step);
		tap_bad = true;
		return;
	}
	check_truth(pid);
	if (tap_bad)
		printf("# that was %s to %s, step %d\n", vm_status_name(p->from), vm_status_name(p->to), step);
}

TEST(killed_at_each_transition)
{
	for (size_t i = 0; i < NR_POINTS; i++)
		for (enum vm_step step = VM_STEP_DECIDED; step <= VM_STEP_TOLD; step++)
			kill_at(&points[i], step, false);
}

/* where snapshots need the module they are left out */
TEST(killed_at_each_transition_under_kvm)
{
	if (!with_kvm) {
		tap_skip("no KVM");
		return;
	}
	for (size_t i = 0; i < NR_POINTS; i++)
		if (with_module || !strstr(points[i].commands, "snapshot"))
			kill_at(&points[i], VM_STEP_RECORDED, true);
}

/* Each verb says what became of it, and what can be done. */
TEST(verbs_on_one_that_was_killed)
{
	static const char *const refused[] = { "pause", "resume", "reset", "stop" };
	static const char *const away[] = { "pause", "resume", "show", "start", "forget", "stop" };

	kill_at(&points[8], VM_STEP_TOLD, false);	/* running to paused */
	for (size_t i = 0; i < sizeof(refused) / sizeof(refused[0]); i++) {
		CHECK_EQ(cli(refused[i], "a", NULL), 1);
		CHECK(says("VM 'a' has failed: the runner (pid ") && says(") died while paused; "));
		CHECK(says("`vmplat vm start a` boots it again, `vmplat vm forget a` forgets it"));
		CHECK(says("cannot "));
	}
	CHECK_EQ(cli("snapshot", "a", "s", "--store", dir, NULL), 1);
	CHECK(says("VM 'a' has failed: "));
	CHECK_EQ(cli("device", "list", "a", NULL), 1);
	CHECK(says("VM 'a' has failed: "));
	CHECK_EQ(cli("show", "a", "--json", NULL), 0);
	CHECK(says("\"state\": \"failed\"") && says("\"state\": \"paused\"") && says("\"memory\": 33554432"));
	CHECK_EQ(cli("show", "a", NULL), 0);
	CHECK(says("died while paused") && says("starting") && says("/proc/self/exe"));
	CHECK_EQ(cli("forget", "a", NULL), 0);
	for (size_t i = 0; i < sizeof(away) / sizeof(away[0]); i++) {
		CHECK_EQ(cli(away[i], "a", NULL), 1);
		CHECK(says(strcmp(away[i], "forget") ? "there is no VM called 'a'" : "there is nothing of a VM called 'a'"));
	}
	CHECK_EQ(cli("list", NULL), 0);
	CHECK(!strstr(said, "\na "));
}

static bool state_is(const char *state)
{
	return !cli("show", "a", NULL) && strstr(said, state);
}

/* defined, started, stopped, started, killed, started */
TEST(lives)
{
	struct vm_config c = config(false, "mortal");
	struct record *r;
	struct json_object *o, *v;
	char err[300];
	int lock;

	REQUIRE(!record_begin(&r, dir, &c, "none", VM_DEFINED, err, sizeof(err)));
	record_free(r);
	vm_config_free(&c);
	CHECK_EQ(cli("pause", "a", NULL), 1);
	CHECK(says("VM 'a' is defined, and nothing runs; `vmplat vm start a` starts it"));
	for (int i = 0; i < 2; i++) {
		CHECK_EQ(cli("start", "a", NULL), 0);
		CHECK(state_is("state     running"));
		CHECK_EQ(cli("start", "a", NULL), 1);
		CHECK(says("cannot start: it is running"));
		CHECK_EQ(cli("forget", "a", NULL), 1);
		CHECK(says("cannot forget: it is running; stop it first"));
		CHECK_EQ(cli("stop", "a", NULL), 0);
		while (name_locked(dir, "a"))
			usleep(1000);
		CHECK(state_is("state     stopped") && says("reason    `vmplat vm stop`"));
	}
	/* the power button */
	CHECK_EQ(cli("start", "a", "--paused", NULL), 0);
	CHECK(state_is("state     paused"));
	CHECK_EQ(cli("stop", "a", "--guest", NULL), 0);
	while (name_locked(dir, "a"))
		usleep(1000);
	CHECK(state_is("state     stopped") && says("reason    the guest ended it"));
	/* killed */
	CHECK_EQ(cli("start", "a", NULL), 0);
	o = record_read(dir, "a");
	REQUIRE(o && json_object_object_get_ex(o, "pid", &v));
	CHECK(!kill(json_object_get_int(v), SIGKILL));
	json_object_put(o);
	while (name_locked(dir, "a"))
		usleep(1000);
	CHECK(state_is("state     failed") && says("died while running"));
	CHECK_EQ(cli("start", "a", NULL), 0);
	CHECK(state_is("state     running") && !strstr(said, "died"));
	CHECK_EQ(cli("stop", "a", NULL), 0);
	while (name_locked(dir, "a"))
		usleep(1000);
	/* a name that is taken, by somebody who does not answer */
	lock = name_lock(dir, "a", err, sizeof(err));
	CHECK(lock >= 0);
	CHECK_EQ(name_lock(dir, "a", err, sizeof(err)), -EADDRINUSE);
	CHECK_EQ(record_forget(dir, "a"), -EADDRINUSE);
	CHECK_EQ(cli("start", "a", NULL), 1);
	CHECK(says("is running already"));
	close(lock);
	CHECK(!record_forget(dir, "a"));
}

/* ---- records -------------------------------------------------------------------------------- */

static void write_record(const char *text, size_t len)
{
	char path[100];
	int fd;

	snprintf(path, sizeof(path), "%s/a.life", dir);
	fd = open(path, O_WRONLY | O_CREAT | O_TRUNC, 0600);
	CHECK_EQ(write(fd, text, len), len);
	close(fd);
}

/* A damaged one is no reason to fall over, nor to tell what is not true. */
TEST(damage)
{
	static const char good[] = "{\"name\":\"a\",\"pid\":1,\"state\":\"running\",\"config\":{\"name\":\"a\"}}";
	struct json_object *o;
	char copy[sizeof(good)];

	for (size_t len = 0; len < sizeof(good) - 1; len++) {
		write_record(good, len);
		o = record_read(dir, "a");
		CHECK(!o && strstr(vmplat_last_error(), "is damaged; `vmplat vm forget a` removes it"));
		json_object_put(o);
	}
	for (size_t i = 0; i < sizeof(good) - 1; i++) {
		memcpy(copy, good, sizeof(good));
		copy[i] ^= 1 << i % 7;
		write_record(copy, sizeof(good) - 1);
		CHECK_EQ(cli("list", NULL), 0);
		json_object_put(record_read(dir, "a"));
	}
	write_record("[1]", 3);
	CHECK_EQ(cli("pause", "a", NULL), 1);
	CHECK_EQ(cli("start", "a", NULL), 1);
	CHECK(says("is damaged"));
	CHECK_EQ(cli("forget", "a", NULL), 0);
	write_record(good, sizeof(good) - 1);
	CHECK_EQ(cli("start", "a", NULL), 1);
	CHECK(says("does not say what it is made of"));
	CHECK_EQ(cli("forget", "a", NULL), 0);
}

/* The history is bounded, the latest snapshot is known, one at a time is on its way. */
TEST(records)
{
	struct vm_config c = config(false, ""), again = { .name = NULL };
	struct json_object *o, *list, *one = label(), *two;
	struct record *r;
	char err[300], text[900];

	c.affinity = strdup("0");
	c.no_reboot = true;
	REQUIRE(!record_begin(&r, dir, &c, NULL, VM_STARTING, err, sizeof(err)));
	for (int i = 0; i < 40; i++)
		CHECK(!record_state(r, i % 2 ? VM_PAUSED : VM_RUNNING, NULL));
	two = json_tokener_parse("{\"name\":\"tuesday\"}");
	CHECK(record_snapshot(r, one) && !record_snapshot(r, two));
	record_snapshot_end(r, true);
	CHECK(record_snapshot(r, two));
	record_snapshot_end(r, false);
	CHECK(!record_state(r, VM_FAILED, "the sky fell"));
	o = record_read(dir, "a");
	REQUIRE(o && json_object_object_get_ex(o, "history", &list));
	CHECK_EQ(json_object_array_length(list), RECORD_HISTORY);
	record_sentence(o, text, sizeof(text));
	CHECK(!strcmp(text, "has failed: the sky fell; `vmplat restore monday --name a` goes on from its latest snapshot, "
		      "`vmplat vm start a` boots it again, `vmplat vm forget a` forgets it"));
	CHECK(!record_config(o, &again));
	CHECK(!strcmp(again.name, "a") && !strcmp(again.affinity, "0") && again.no_reboot);
	CHECK(again.backend == VM_BACKEND_MEMFD && again.arch == VM_ARCH_RISCV64);
	json_object_put(o);
	json_object_put(one);
	json_object_put(two);
	vm_config_free(&again);
	vm_config_free(&c);
	/* one that nobody needs to know of stays away */
	record_remove(r);
	CHECK(!record_state(r, VM_STOPPED, NULL));
	CHECK(!record_read(dir, "a"));
	record_free(r);
}

/* ---- time, as a guest under KVM sees it -------------------------------------------------------- */

#define CLOCK_PAGE	"0x201000"
#define ENTRY		0x100000

/*
 * guest_idle waits for ever. guest_clock prints kvmclock in ns and the TSC, a line each, as
 * 16 hexadecimal digits. guest_served takes interrupt 0x62, sends itself 0x41 from its
 * handler, and waits there for ever, with interrupts off.
 */
asm(".pushsection .rodata\n"
    "guest_idle:\n"
    "	cli\n"
    "1:	hlt\n"
    "	jmp 1b\n"
    "guest_clock:\n"
    "	mov $0x200000, %esp\n"
    "	mov $0x4b564d01, %ecx\n"		/* MSR_KVM_SYSTEM_TIME_NEW */
    "	mov $" CLOCK_PAGE "+1, %eax\n"
    "	xor %edx, %edx\n"
    "	wrmsr\n"
    "	mov $" CLOCK_PAGE ", %ebx\n"
    "2:	mov (%rbx), %r8d\n"			/* version: odd while it is written */
    "	test $1, %r8d\n"
    "	jnz 2b\n"
    "	lfence\n"
    "	rdtsc\n"
    "	shl $32, %rdx\n"
    "	or %rdx, %rax\n"
    "	mov %rax, %r9\n"
    "	sub 8(%rbx), %rax\n"			/* since tsc_timestamp */
    "	movsbl 28(%rbx), %ecx\n"		/* tsc_shift */
    "	test %ecx, %ecx\n"
    "	js 3f\n"
    "	shl %cl, %rax\n"
    "	jmp 4f\n"
    "3:	neg %ecx\n"
    "	shr %cl, %rax\n"
    "4:	mov 24(%rbx), %r10d\n"			/* tsc_to_system_mul */
    "	mul %r10\n"
    "	shrd $32, %rdx, %rax\n"
    "	add 16(%rbx), %rax\n"			/* system_time */
    "	cmp (%rbx), %r8d\n"
    "	jne 2b\n"
    "	mov %rax, %rdi\n"
    "	call 5f\n"
    "	mov $' ', %al\n"
    "	out %al, (%dx)\n"
    "	mov %r9, %rdi\n"
    "	call 5f\n"
    "	mov $'\\n', %al\n"
    "	out %al, (%dx)\n"
    "	jmp 2b\n"
    "5:	mov $16, %esi\n"
    "	mov $0x3f8, %edx\n"
    "6:	rol $4, %rdi\n"
    "	mov %edi, %eax\n"
    "	and $15, %eax\n"
    "	add $'0', %al\n"
    "	cmp $'9', %al\n"
    "	jbe 7f\n"
    "	add $39, %al\n"
    "7:	out %al, (%dx)\n"
    "	dec %esi\n"
    "	jnz 6b\n"
    "	ret\n"
    "guest_served:\n"
    "	mov $0x200000, %esp\n"
    "	mov $0x202620, %edi\n"			/* gate 0x62 of the IDT at 0x202000 */
    "	lea 8f(%rip), %eax\n"
    "	movzwl %ax, %edx\n"
    "	or $0x100000, %edx\n"			/* selector 0x10 */
    "	mov %edx, (%rdi)\n"
    "	mov $0x8e00, %ax\n"			/* present, an interrupt gate */
    "	mov %eax, 4(%rdi)\n"
    "	movq $0, 8(%rdi)\n"
    "	movw $0xfff, -10(%rsp)\n"
    "	movq $0x202000, -8(%rsp)\n"
    "	lidt -10(%rsp)\n"
    "	mov $0xfee00000, %ebx\n"
    "	movl $0x1ff, 0xf0(%rbx)\n"		/* on */
    "	movl $0x44062, 0x300(%rbx)\n"		/* to itself */
    "	sti\n"
    "7:	hlt\n"
    "	jmp 7b\n"
    "8:	movl $0x44041, 0x300(%rbx)\n"
    "	mov $0x1234567, %ecx\n"
    "9:	hlt\n"
    "	jmp 9b\n"
    "guest_end:\n"
    ".popsection\n");
extern const uint8_t guest_idle[], guest_clock[], guest_served[], guest_end[];

static void write_guest(const char *path, const uint8_t *entry)
{
	size_t len = (size_t)(guest_end - guest_idle), head = sizeof(Elf64_Ehdr) + sizeof(Elf64_Phdr);
	Elf64_Phdr ph = { .p_type = PT_LOAD, .p_offset = head, .p_paddr = ENTRY, .p_vaddr = ENTRY,
			  .p_filesz = len, .p_memsz = len };
	Elf64_Ehdr eh = { .e_type = ET_EXEC, .e_machine = EM_X86_64, .e_version = EV_CURRENT,
			  .e_entry = ENTRY + (uint64_t)(entry - guest_idle), .e_phoff = sizeof(eh),
			  .e_ehsize = sizeof(eh), .e_phentsize = sizeof(ph), .e_phnum = 1 };
	int fd = open(path, O_WRONLY | O_CREAT | O_TRUNC, 0600);

	memcpy(eh.e_ident, ELFMAG, SELFMAG);
	eh.e_ident[EI_CLASS] = ELFCLASS64;
	eh.e_ident[EI_DATA] = ELFDATA2LSB;
	eh.e_ident[EI_VERSION] = EV_CURRENT;
	CHECK(write(fd, &eh, sizeof(eh)) == sizeof(eh) && write(fd, &ph, sizeof(ph)) == sizeof(ph) &&
	      write(fd, guest_idle, len) == (ssize_t)len);
	close(fd);
}

/* one line: what the guest read, and when the line was complete, by the host's clock */
struct reading {
	uint64_t clock_ns, tsc, seen_ns;
};

#define READINGS 4096

static struct {
	pthread_mutex_t lock;
	pthread_cond_t cond;
	char line[64];
	size_t len;
	struct reading r[READINGS];	/* a ring */
	size_t nr;
} heard = { PTHREAD_MUTEX_INITIALIZER, PTHREAD_COND_INITIALIZER };

static void on_output(void *ctx, const uint8_t *p, size_t n)
{
	pthread_mutex_lock(&heard.lock);
	for (size_t i = 0; i < n; i++) {
		struct reading *r = &heard.r[heard.nr % READINGS];

		if (p[i] != '\n') {
			heard.line[heard.len++ % (sizeof(heard.line) - 1)] = (char)p[i];
			continue;
		}
		heard.line[heard.len % sizeof(heard.line)] = 0;
		heard.len = 0;
		if (sscanf(heard.line, "%16lx %16lx", &r->clock_ns, &r->tsc) != 2)
			continue;
		r->seen_ns = vmplat_now_ns();
		heard.nr++;
		pthread_cond_signal(&heard.cond);
	}
	pthread_mutex_unlock(&heard.lock);
}

/* how many there are, once there are @more than @than */
static size_t wait_readings(size_t than, size_t more)
{
	size_t nr;

	pthread_mutex_lock(&heard.lock);
	while (heard.nr < than + more)
		pthread_cond_wait(&heard.cond, &heard.lock);
	nr = heard.nr;
	pthread_mutex_unlock(&heard.lock);
	return nr;
}

static struct reading reading(size_t i)
{
	return heard.r[i % READINGS];
}

/*
 * Between two readings i < j no more time can have passed than from when line i - 1 was
 * complete to when line j was, and no less than from line i to line j - 1: the guest reads
 * between two lines. So a machine may be as slow as it likes.
 */
static void check_passed(size_t i, size_t j, uint64_t stood_ns)
{
	uint64_t passed = reading(j).clock_ns - reading(i).clock_ns;
	uint64_t most = reading(j).seen_ns - reading(i - 1).seen_ns - stood_ns;
	uint64_t least = reading(j - 1).seen_ns - reading(i).seen_ns;

	least = least > stood_ns ? least - stood_ns : 0;
	CHECK(reading(j).clock_ns > reading(i).clock_ns && reading(j).tsc > reading(i).tsc);
	/* two clocks, each calibrated by somebody */
	CHECK(passed <= most + most / 50 + 1000000);
	printf("# %.3f s passed for the guest, of %.3f s, in which it stood %.3f s\n", (double)passed / 1e9,
	       (double)(most + stood_ns) / 1e9, (double)stood_ns / 1e9);
	if (!stood_ns)
		CHECK(passed + passed / 50 + 1000000 >= least);
}

static struct vm *small_vm(void)
{
	struct vm_config c = config(true, "");
	char why[600];
	struct vm *vm;

	c.backend = VM_BACKEND_MEMFD;
	if (vm_new(&vm, &c, why, sizeof(why))) {
		printf("# %s\n", why);
		vm_config_free(&c);
		return NULL;
	}
	vm->quiet = true;
	vm->console_output = on_output;
	return vm;
}

/* one that runs @guest */
static struct vm *running(const uint8_t *guest)
{
	struct vm *vm;

	write_guest(guest_path, guest);
	vm = small_vm();
	if (!vm)
		return NULL;
	vm_begin(vm, VM_STARTING);
	if (!vm_boot(vm) && !vm_start(vm, false))
		return vm;
	vm_free(vm);
	return NULL;
}

#define STAND_NS 2000000000ull

/* a pause that lasts: how long it stood for certain */
static uint64_t stand(void)
{
	uint64_t begin = vmplat_now_ns(), now = begin;

	while (now - begin < STAND_NS) {
		usleep(10000);
		now = vmplat_now_ns();
	}
	return now - begin;
}

TEST(clock_after_a_pause_and_a_restore)
{
	struct state_writer w;
	struct vm *vm, *two;
	uint64_t stood;
	size_t nr, then;

	if (!with_kvm) {
		tap_skip("no KVM");
		return;
	}
	vm = running(guest_clock);
	REQUIRE(vm);
	nr = wait_readings(0, 20);
	check_passed(1, 19, 0);			/* it runs */

	CHECK(!vm_pause(vm));
	nr = heard.nr;
	stood = stand();
	CHECK_EQ(heard.nr, nr);
	CHECK(!vm_resume(vm));
	then = wait_readings(nr, 20);
	check_passed(nr - 1, nr + 1, stood);	/* and the pause is none of its time */
	check_passed(nr + 2, then - 1, 0);

	/* stored, and restored in another VM a while later */
	CHECK(!vm_pause(vm));
	state_writer_init(&w);
	vm_save(vm, &w);
	CHECK(!state_writer_finish(&w));
	nr = heard.nr;
	two = small_vm();
	REQUIRE(two);
	memcpy(two->ram, vm->ram, 32 << 20);
	stood = stand();
	vm_begin(two, VM_RESTORING);
	CHECK(!vm_load(two, w.buf, w.len, true));
	CHECK(!vm_start(two, false));
	then = wait_readings(nr, 20);
	check_passed(nr - 1, nr + 1, stood);
	check_passed(nr + 2, then - 1, 0);
	vm_free(two);
	state_writer_free(&w);
	vm_free(vm);
	write_guest(guest_path, guest_idle);
}

/* ---- what a vCPU does ------------------------------------------------------------------------- */

/* what it does when it has come to where it waits */
static struct json_object *look_when_halted(struct vm *vm)
{
	for (;;) {
		struct json_object *o, *v;

		vm_park(vm);
		o = arch_vcpu_look(&vm->vcpus[0]);
		vm_unpark(vm);
		json_object_object_get_ex(o, "registers", &v);
		json_object_object_get_ex(v, "rcx", &v);
		if (!strcmp(json_object_get_string(v), "0x1234567"))
			return o;
		json_object_put(o);
		usleep(1000);
	}
}

static const char *plain(struct json_object *o, const char *key)
{
	struct json_object *v;

	return json_object_object_get_ex(o, key, &v) ?
	       json_object_to_json_string_ext(v, JSON_C_TO_STRING_PLAIN) : "";
}

TEST(what_a_vcpu_does)
{
	struct json_object *cpu, *apic, *timer;
	char *text = NULL;
	size_t len;
	struct vm *vm;
	FILE *f;

	if (!with_kvm) {
		tap_skip("no KVM");
		return;
	}
	vm = running(guest_served);
	REQUIRE(vm);
	cpu = look_when_halted(vm);
	CHECK(!strcmp(plain(cpu, "mode"), "\"kernel\"") && !strcmp(plain(cpu, "interrupts"), "false"));
	/* it may not have come to HLT */
	CHECK(!strcmp(plain(cpu, "activity"), "\"halted\"") || !strcmp(plain(cpu, "activity"), "\"runs\""));
	REQUIRE(json_object_object_get_ex(cpu, "apic", &apic) &&
		json_object_object_get_ex(apic, "timer", &timer));
	CHECK(!strcmp(plain(apic, "enabled"), "true"));
	/* paravirtual kinds of KVM, which the test host is none of, end its service themselves */
	if (with_module)
		CHECK(!strcmp(plain(apic, "in_service"), "[98]"));
	CHECK(!strcmp(plain(apic, "waiting"), "[65]"));
	CHECK(!strcmp(plain(timer, "masked"), "true"));

	f = open_memstream(&text, &len);
	cpus_print(f, cpu, "\r\n");
	fclose(f);
	CHECK(strstr(text, "in kernel mode, interrupts off") && strstr(text, "rcx    0000000001234567"));
	CHECK(strstr(text, "; waiting 65\r\n"));
	free(text);
	json_object_put(cpu);
	vm_free(vm);
	write_guest(guest_path, guest_idle);
}

/* A runner's answer need not have everything. */
TEST(print_of_a_vcpu)
{
	struct json_object *cpu = json_tokener_parse("{\"index\":3,\"activity\":\"halted\",\"mode\":\"user\","
		"\"nmi_pending\":true,\"injecting\":48,\"apic\":{\"in_service\":[],\"timer\":{\"vector\":236,"
		"\"mode\":\"tsc-deadline\",\"masked\":false,\"due_ns\":-1500000}}}");
	char *text = NULL;
	size_t len;
	FILE *f = open_memstream(&text, &len);

	cpus_print(f, cpu, "\n");
	fclose(f);
	CHECK(strstr(text, "vCPU 3 halted, in user mode, interrupts off"));
	CHECK(strstr(text, "  on its way in: 48\n  an NMI waits\n  APIC (off): in service none; waiting none\n"
			   "  timer: vector 236, tsc-deadline, overdue by 1.500 ms\n"));
	free(text);
	json_object_put(cpu);
}

/* ---- all of them -------------------------------------------------------------------------------- */

static bool opens(const char *path)
{
	int fd = open(path, O_RDWR | O_CLOEXEC);

	if (fd >= 0)
		close(fd);
	return fd >= 0;
}

int main(int argc, char **argv)
{
	char path[100];

	if (fake_qemu_called(argv))
		return fake_qemu(argc, argv);
	signal(SIGPIPE, SIG_IGN);
	if (fake_qemu_install() || !mkdtemp(dir))
		return 1;
	setenv("VMPLAT_RUN_DIR", dir, 1);
	snprintf(path, sizeof(path), "%s/store", dir);
	setenv("VMPLAT_STORE", path, 1);
	snprintf(guest_path, sizeof(guest_path), "%s/guest", dir);
	write_guest(guest_path, guest_idle);
	with_kvm = opens("/dev/kvm");
	with_module = opens("/dev/vmplat");

	if (argc < 2 || strcmp(argv[1], "kvm")) {
		RUN(each_command_in_each_state);
		RUN(manual);
		RUN(words);
		RUN(what_follows_what);
		RUN(each_command_in_each_state_by_socket);
		RUN(queues);
		RUN(verbs);
		RUN(killed_at_each_transition);
		RUN(verbs_on_one_that_was_killed);
		RUN(lives);
		RUN(damage);
		RUN(records);
		RUN(print_of_a_vcpu);
	}
	RUN(killed_at_each_transition_under_kvm);
	RUN(clock_after_a_pause_and_a_restore);
	RUN(what_a_vcpu_does);
	fake_qemu_remove();
	unlink(guest_path);
	snprintf(path, sizeof(path), "%s/a.lock", dir);
	unlink(path);
	rmdir(dir);
	return tap_done();
}
