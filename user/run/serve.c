// SPDX-License-Identifier: GPL-2.0-only
/*
 * Signals, console input, and requests the guest makes, all in one poll loop.
 * SIGTERM, SIGINT and SIGHUP end the VM cleanly.
 */
#include "serve.h"

#include <errno.h>
#include <fcntl.h>
#include <poll.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/signalfd.h>
#include <unistd.h>

#include "client.h"
#include "console.h"
#include "control.h"
#include "record.h"
#include "vm_priv.h"

struct serve {
	struct vm *vm;
	struct console *console;
	struct control *control;
	struct record *record;
	int signal_fd;
	int ready_fd;		/* the parent waits here, -1 if there is none */
	int ret;
	char why[512];
};

/* ---- the background ---------------------------------------------------------- */

/*
 * Fork; the parent waits for the child's word, which is empty when all is well,
 * and returns it. The child returns with *ready set.
 */
static int go_background(int *ready, char *err, size_t err_bytes, bool *parent)
{
	char text[512] = "";
	int p[2];
	size_t at = 0;
	ssize_t n;
	pid_t pid;

	*parent = true;
	if (pipe2(p, O_CLOEXEC)) {
		snprintf(err, err_bytes, "no pipe: %s", strerror(errno));
		return -errno;
	}
	fflush(NULL);
	pid = fork();
	if (pid < 0) {
		snprintf(err, err_bytes, "no process: %s", strerror(errno));
		return -errno;
	}
	if (!pid) {
		close(p[0]);
		setsid();
		*ready = p[1];
		*parent = false;
		return 0;
	}
	close(p[1]);
	/* not until the end: processes the child starts have the pipe, too */
	while (text[0] != '+' && at < sizeof(text) - 1 &&
	       (n = read(p[0], text + at, sizeof(text) - 1 - at)) > 0)
		at += (size_t)n;
	close(p[0]);
	if (at && text[0] == '+')
		return 0;
	snprintf(err, err_bytes, "%s", at ? text : "the VM's process died while it started");
	return -EIO;
}

/* tell the parent, and let go of its terminal */
static void background_ready(struct serve *s)
{
	int null;

	if (s->ready_fd < 0)
		return;
	if (write(s->ready_fd, "+", 1) != 1)
		return;
	close(s->ready_fd);
	s->ready_fd = -1;
	null = open("/dev/null", O_RDWR | O_CLOEXEC);
	if (null < 0)
		return;
	dup2(null, STDIN_FILENO);
	dup2(null, STDOUT_FILENO);
	dup2(null, STDERR_FILENO);
	close(null);
}

/* ---- the loop ------------------------------------------------------------------ */

static void console_event(struct serve *s)
{
	uint8_t buf[256];
	enum console_key key;
	size_t n;

	n = console_read(s->console, buf, vm_input_room(s->vm), &key);
	vm_input(s->vm, buf, n);
	if (key == CONSOLE_QUIT)
		vm_end(s->vm, "Ctrl-A x on the console");
	if (key == CONSOLE_PAUSE && vm_pause(s->vm))
		vm_resume(s->vm);
}

/* false: the VM has ended */
static bool requests(struct serve *s)
{
	struct vm *vm = s->vm;
	unsigned int r = atomic_load(&vm->requests);

	if (r & VM_REQ_FAIL) {
		vm_last_error(vm, s->why, sizeof(s->why));
		s->ret = -EIO;
		vm_stop(vm, VM_FAILED);
		return false;
	}
	if (r & VM_REQ_RESET && vm->cfg.no_reboot)
		vm_end(vm, "the guest asked for a reset, and --no-reboot");
	if (atomic_load(&vm->requests) & VM_REQ_POWEROFF) {
		vm_stop(vm, VM_STOPPED);
		return false;
	}
	if (r & VM_REQ_RESET && vm_reset(vm)) {
		vm_last_error(vm, s->why, sizeof(s->why));
		s->ret = -EIO;
		vm_stop(vm, VM_FAILED);
		return false;
	}
	return true;
}

static void drain(int fd)
{
	uint64_t n;

	if (read(fd, &n, sizeof(n)) < 0)
		return;		/* somebody else took it */
}

static const char *signal_reason(uint32_t signo)
{
	return signo == SIGTERM ? "SIGTERM" : signo == SIGINT ? "SIGINT" : "SIGHUP";
}

static void loop(struct serve *s)
{
	struct signalfd_siginfo si;

	for (;;) {
		bool room = vm_input_room(s->vm) > 0;
		struct pollfd p[] = {
			{ .fd = s->vm->event_fd, .events = POLLIN },
			{ .fd = s->signal_fd, .events = POLLIN },
			{ .fd = room ? console_input_fd(s->console) : -1, .events = POLLIN },
		};

		if (poll(p, 3, -1) < 0 && errno != EINTR)
			return;
		if (p[0].revents) {
			drain(s->vm->event_fd);
			if (!requests(s))
				return;
		}
		if (p[1].revents && read(s->signal_fd, &si, sizeof(si)) == sizeof(si))
			vm_end(s->vm, signal_reason(si.ssi_signo));
		if (p[2].revents)
			console_event(s);
	}
}

/* there is room for input again: make the loop look */
static void on_room(void *ctx)
{
	uint64_t one = 1;
	struct vm *vm = ctx;

	if (write(vm->event_fd, &one, sizeof(one)) < 0)
		return;
}

/* ---- from beginning to end ------------------------------------------------------ */

static void block_signals(struct serve *s)
{
	sigset_t set;

	sigemptyset(&set);
	sigaddset(&set, SIGTERM);
	sigaddset(&set, SIGINT);
	sigaddset(&set, SIGHUP);
	pthread_sigmask(SIG_BLOCK, &set, NULL);
	s->signal_fd = signalfd(-1, &set, SFD_CLOEXEC | SFD_NONBLOCK);
	signal(SIGPIPE, SIG_IGN);
}

/* the name, and what is known under it from now on */
static int take_name(struct serve *s, const struct vm_config *cfg, const struct serve_opts *o)
{
	int ret = control_new(&s->control, cfg->name, s->why, sizeof(s->why));

	return ret ? ret : record_begin(&s->record, vm_run_dir(), cfg, o->console,
					o->prepare ? VM_RESTORING : VM_STARTING, s->why, sizeof(s->why));
}

/*
 * The control thread answers before there is a guest. A restore forks beside it, which is
 * safe: until the VM runs that thread takes no lock that the child would need.
 */
static int bring_up(struct serve *s, struct vm_config *cfg, const struct serve_opts *o)
{
	int ret = take_name(s, cfg, o);

	if (ret)
		return ret;
	ret = console_open(&s->console, o->console);
	if (ret) {
		snprintf(s->why, sizeof(s->why), "console %s: %s", o->console, strerror(-ret));
		return ret;
	}
	ret = vm_new(&s->vm, cfg, s->why, sizeof(s->why));
	if (ret)
		return ret;
	s->vm->record = s->record;
	s->vm->console_output = console_write;
	s->vm->console_ctx = s->console;
	vm_on_input_room(s->vm, on_room, s->vm);
	vm_begin(s->vm, record_now(s->record));
	ret = control_start(s->control, s->vm);
	if (!ret)
		ret = o->prepare ? o->prepare(s->vm, o->ctx) : vm_boot(s->vm);
	if (!ret)
		ret = vm_start(s->vm, o->paused);
	if (ret)
		vm_last_error(s->vm, s->why, sizeof(s->why));
	return ret;
}

/* Its record says how it ended, before its name is free. */
static void conclude(struct serve *s, const struct serve_opts *o)
{
	bool told = !o->detach || s->ready_fd >= 0;	/* who started it learns how */

	if (s->vm) {
		vm_stop(s->vm, s->ret ? VM_FAILED : VM_STOPPED);
		if (o->finish)
			o->finish(s->vm, o->ctx);
	}
	if (s->record && s->ret)
		record_state(s->record, VM_FAILED, s->why);
	if (s->record && o->forget && (told || record_now(s->record) == VM_STOPPED))
		record_remove(s->record);
	control_free(s->control);
	vm_free(s->vm);
	record_free(s->record);
}

int serve_vm(struct vm_config *cfg, const struct serve_opts *o, char *err, size_t err_bytes)
{
	struct serve s = { .signal_fd = -1, .ready_fd = -1 };
	bool parent;

	if (o->detach) {
		int ret = go_background(&s.ready_fd, err, err_bytes, &parent);

		if (parent) {
			vm_config_free(cfg);
			return ret;
		}
	}
	block_signals(&s);
	s.ret = bring_up(&s, cfg, o);
	if (!s.ret) {
		background_ready(&s);
		console_start(s.console);
		loop(&s);
	}
	console_close(s.console);
	conclude(&s, o);
	vm_config_free(cfg);
	if (s.signal_fd >= 0)
		close(s.signal_fd);
	snprintf(err, err_bytes, "%s", s.why);
	if (s.ready_fd >= 0 && s.ret) {	/* the parent says it */
		if (write(s.ready_fd, s.why, strlen(s.why)) < 0)
			_exit(1);
		_exit(1);
	}
	return s.ret;
}
