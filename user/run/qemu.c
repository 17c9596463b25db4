// SPDX-License-Identifier: GPL-2.0-only
#include "qemu.h"

#include <errno.h>
#include <fcntl.h>
#include <linux/kvm.h>
#include <poll.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/eventfd.h>
#include <sys/ioctl.h>
#include <sys/mman.h>
#include <sys/pidfd.h>
#include <sys/prctl.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/utsname.h>
#include <sys/wait.h>
#include <unistd.h>
#include <vmplat_thread.h>

#include "input.h"
#include "lib/write_all.h"
#include "net.h"
#include "qemu_args.h"
#include "qmp.h"
#include "vm_priv.h"

#define END_MS		10000		/* between SIGTERM and SIGKILL */
#define INPUT_MAX	256
#define INITRD_ALIGN	4u
#define FILES_MAX	(2ULL << 30)	/* of a kernel, or of initrds */
#define POLL_NS		1000000u

struct qemu {
	struct vm *vm;
	char *program;
	const char *code, *template;	/* OVMF's, NULL without it */
	char machine[64];		/* its type, versioned */
	struct net *nets[VM_NETS_MAX];	/* QEMU has them, too */

	pid_t pid;
	int pidfd;			/* -1: not started */
	struct qmp commands;		/* operation lock */

	/* the watching thread's */
	struct vmplat_thread *thread;	/* NULL: nobody watches */
	struct qmp events;
	int console;			/* anybody's */
	int errors;
	bool console_ended, powered_off;
	char line[300];			/* of standard error, so far */
	char said[300];			/* the last one that is complete */

	atomic_bool ending;		/* we end it */
	atomic_bool starved;		/* somebody waits for room for input, and has signalled it */
	int starved_fd;
	void (*on_room)(void *ctx);
	void *on_room_ctx;
};

/* ---- what is there -------------------------------------------------------------- */

static const struct ovmf {
	enum vm_arch arch;
	const char *code, *vars, *package;
} ovmfs[] = {
	{ VM_ARCH_X86_64, "/usr/share/OVMF/OVMF_CODE_4M.fd", "/usr/share/OVMF/OVMF_VARS_4M.fd", "ovmf" },
	{ VM_ARCH_X86_64, "/usr/share/edk2/ovmf/OVMF_CODE.fd", "/usr/share/edk2/ovmf/OVMF_VARS.fd", "ovmf" },
	{ VM_ARCH_AARCH64, "/usr/share/AAVMF/AAVMF_CODE.fd", "/usr/share/AAVMF/AAVMF_VARS.fd", "qemu-efi-aarch64" },
};

static int find_ovmf(struct qemu *q)
{
	const struct vm_config *cfg = &q->vm->cfg;
	const char *package = NULL;

	for (size_t i = 0; i < sizeof(ovmfs) / sizeof(ovmfs[0]); i++) {
		const struct ovmf *o = &ovmfs[i];

		if (o->arch != cfg->arch)
			continue;
		if (!access(o->code, R_OK) && !access(o->vars, R_OK)) {
			q->code = o->code;
			q->template = o->vars;
			return 0;
		}
		package = package ? package : o->package;
	}
	return vm_error(q->vm, -ENOENT, "there is no OVMF for %s; Debian has it in the package %s",
			vm_arch_name(cfg->arch), package);
}

static int find_firmware(struct qemu *q)
{
	const char *name = q->vm->cfg.firmware;

	if (!name || !strcmp(name, "seabios"))
		return 0;
	if (!strcmp(name, "ovmf"))
		return find_ovmf(q);
	if (access(name, R_OK))
		return vm_error(q->vm, -errno, "firmware %s: %s", name, strerror(errno));
	return 0;
}

static int find_program(struct qemu *q)
{
	const char *name = qemu_program(q->vm->cfg.arch), *path = getenv("PATH"), *end;

	for (path = path ? path : "/usr/bin:/bin"; *path; path = *end ? end + 1 : end) {
		end = strchrnul(path, ':');
		if (asprintf(&q->program, "%.*s/%s", (int)(end - path), path, name) < 0) {
			q->program = NULL;
			return vm_error(q->vm, -ENOMEM, "out of memory");
		}
		if (!access(q->program, X_OK))
			return 0;
		free(q->program);
		q->program = NULL;
	}
	return vm_error(q->vm, -ENOENT, "there is no %s, which runs such a VM; Debian has it in the package %s",
			name, qemu_package(q->vm->cfg.arch));
}

/* NULL: it works; else why not */
static const char *kvm_obstacle(const struct vm_config *cfg)
{
	static _Thread_local char text[160];
	struct utsname host;
	int fd, vm_fd = -1;

	if (!uname(&host) && strcmp(host.machine, vm_arch_name(cfg->arch))) {
		snprintf(text, sizeof(text), "KVM runs guests of this machine's architecture, %s",
			 host.machine);
		return text;
	}
	fd = open("/dev/kvm", O_RDWR | O_CLOEXEC);
	if (fd >= 0 && ioctl(fd, KVM_GET_API_VERSION, 0) == KVM_API_VERSION)
		vm_fd = ioctl(fd, KVM_CREATE_VM, 0UL);
	snprintf(text, sizeof(text), "/dev/kvm: %s", strerror(errno));
	if (fd >= 0)
		close(fd);
	if (vm_fd < 0)
		return text;
	close(vm_fd);
	return NULL;
}

static int choose_accel(struct vm *vm)
{
	struct vm_config *cfg = &vm->cfg;
	const char *why = cfg->accel == VM_ACCEL_TCG ? NULL : kvm_obstacle(cfg);

	if (why && cfg->accel == VM_ACCEL_KVM)
		return vm_error(vm, -EOPNOTSUPP, "no KVM: %s; --accel tcg emulates the CPU", why);
	if (cfg->accel == VM_ACCEL_AUTO)
		cfg->accel = why ? VM_ACCEL_TCG : VM_ACCEL_KVM;
	return 0;
}

int qemu_new(struct vm *vm)
{
	struct qemu *q = calloc(1, sizeof(*q));
	int ret;

	if (!q)
		return vm_error(vm, -ENOMEM, "out of memory");
	vm->qemu = q;
	q->vm = vm;
	q->pidfd = q->console = q->errors = -1;
	q->starved_fd = eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK);
	q->commands.io.fd = q->events.io.fd = -1;
	ret = find_program(q);
	if (!ret)
		ret = find_firmware(q);
	return ret ? ret : choose_accel(vm);
}

/* ---- files as descriptors -------------------------------------------------------- */

static int new_memfd(struct vm *vm, const char *name, uint64_t bytes, uint8_t **at)
{
	int fd = memfd_create(name, MFD_CLOEXEC);
	void *p = MAP_FAILED;

	if (fd >= 0 && !ftruncate(fd, (off_t)bytes))
		p = mmap(NULL, bytes, PROT_READ | PROT_WRITE, MAP_SHARED, fd, 0);
	if (p == MAP_FAILED) {
		vm_error(vm, -errno, "no memory for the %s: %s", name, strerror(errno));
		if (fd >= 0)
			close(fd);
		return -ENOMEM;
	}
	*at = p;
	return fd;
}

static uint64_t padded(uint64_t bytes)
{
	return (bytes + INITRD_ALIGN - 1) / INITRD_ALIGN * INITRD_ALIGN;
}

static int read_inputs(struct vm *vm, const char *what, struct input *in, char *const *paths,
		       unsigned int nr, uint64_t bytes)
{
	const char *why;
	uint8_t *p, *at;
	int fd = new_memfd(vm, what, bytes, &p), ret = 0;

	if (fd < 0)
		return fd;
	at = p;
	for (unsigned int i = 0; i < nr && !ret; i++) {
		ret = input_read(&in[i], at, &why);
		if (ret)
			vm_error(vm, ret, "%s %s: %s", what, paths[i], why);
		at += padded(in[i].bytes);
	}
	munmap(p, bytes);
	if (ret)
		close(fd);
	return ret ? ret : fd;
}

/* @paths one behind the other, each at a multiple of 4; a descriptor, or -1 if there are none */
static int gather(struct vm *vm, const char *what, char *const *paths, unsigned int nr, int *fd)
{
	struct input in[VM_INITRDS_MAX];
	unsigned int open = 0;
	uint64_t bytes = 0;
	const char *why;
	int ret = 0;

	*fd = -1;
	for (; open < nr && !ret; open++) {
		ret = input_open(&in[open], vm->cfg.iso, paths[open], &why);
		if (ret) {
			vm_error(vm, ret, "%s %s: %s", what, paths[open], why);
			break;
		}
		bytes = padded(bytes) + in[open].bytes;
		if (!in[open].bytes || bytes > FILES_MAX)
			ret = vm_error(vm, -EFBIG, "%s %s: it is empty, or too long", what, paths[open]);
	}
	if (!ret && nr) {
		ret = read_inputs(vm, what, in, paths, nr, bytes);
		*fd = ret;
	}
	while (open--)
		input_close(&in[open]);
	return ret < 0 ? ret : 0;
}

static int copy_template(struct qemu *q, const char *to, int fd)
{
	char buf[65536];
	int from = open(q->template, O_RDONLY | O_CLOEXEC);
	ssize_t n = from < 0 ? -1 : 1;

	while (n > 0) {
		n = read(from, buf, sizeof(buf));
		if (n > 0 && write(fd, buf, (size_t)n) != n)
			n = -1;
	}
	if (n < 0)
		vm_error(q->vm, -errno, "OVMF's variables, from %s to %s: %s", q->template, to, strerror(errno));
	if (from >= 0)
		close(from);
	return n < 0 ? -EIO : 0;
}

/* The file of OVMF's variables, or one without a name that begins as the package has it. */
static int open_vars(struct qemu *q)
{
	const char *path = q->vm->cfg.efi_vars;
	struct stat st;
	int fd;

	if (!q->code)
		return -1;
	fd = path ? open(path, O_RDWR | O_CREAT | O_CLOEXEC, 0600)
		  : memfd_create("vmplat-efi-vars", MFD_CLOEXEC);
	if (fd < 0 || fstat(fd, &st))
		return vm_error(q->vm, -EIO, "efi-vars %s: %s", path ? path : "", strerror(errno));
	if (!st.st_size && copy_template(q, path ? path : "memory", fd)) {
		close(fd);
		return -EIO;
	}
	return fd;
}

/* ---- networks -------------------------------------------------------------------- */

/* They stay open here as well: what has a name in the file system goes with them. */
static int open_nets(struct qemu *q, struct qemu_parts *p)
{
	struct vm *vm = q->vm;
	char why[300];

	for (unsigned int i = 0; i < vm->cfg.nr_nets; i++) {
		const struct vm_net *n = &vm->cfg.nets[i];
		int ret = net_open(n, &q->nets[i], why, sizeof(why));

		if (ret)
			return vm_error(vm, ret, "network %s: %s", n->id, why);
		p->nets[i] = net_hand_over(q->nets[i], &p->listens[i]);
		if (p->nets[i] < 0)
			return vm_error(vm, -EAGAIN, "network %s: the other end of %s comes and goes; try again",
					n->id, n->where);
	}
	return 0;
}

/* ---- its beginning ---------------------------------------------------------------- */

static void inherit(int fd)
{
	if (fd >= 0)
		fcntl(fd, F_SETFD, 0);
}

/* In the child: nothing but what may be done between fork() and exec(). */
static _Noreturn void become(const struct qemu *q, const struct qemu_args *a,
			     const struct qemu_parts *p, pid_t parent, int errors)
{
	sigset_t none;
	int null;

	prctl(PR_SET_PDEATHSIG, SIGKILL);
	if (getppid() != parent)
		_exit(1);
	setsid();	/* keys of our terminal are for us */
	sigemptyset(&none);
	sigprocmask(SIG_SETMASK, &none, NULL);
	signal(SIGPIPE, SIG_DFL);
	null = open("/dev/null", O_RDWR);
	dup2(null, STDIN_FILENO);
	dup2(errors, STDOUT_FILENO);
	dup2(errors, STDERR_FILENO);
	inherit(p->memory);
	inherit(p->kernel);
	inherit(p->initrd);
	inherit(p->vars);
	inherit(p->console);
	inherit(p->commands);
	inherit(p->events);
	for (unsigned int i = 0; i < q->vm->cfg.nr_nets; i++)
		inherit(p->nets[i]);
	execv(q->program, a->argv);
	dprintf(STDERR_FILENO, "%s: %s\n", q->program, strerror(errno));
	_exit(127);
}

static int spawn(struct qemu *q, const struct qemu_args *a, const struct qemu_parts *p)
{
	pid_t parent = getpid();
	int errors[2];

	if (pipe2(errors, O_CLOEXEC))
		return vm_error(q->vm, -errno, "no pipe: %s", strerror(errno));
	fflush(NULL);
	q->pid = fork();
	if (!q->pid)
		become(q, a, p, parent, errors[1]);
	close(errors[1]);
	q->errors = errors[0];
	if (q->pid > 0)
		q->pidfd = pidfd_open(q->pid, 0);
	if (q->pid > 0 && q->pidfd >= 0)
		return 0;
	vm_error(q->vm, -errno, "no process for QEMU: %s", strerror(errno));
	if (q->pid > 0) {
		kill(q->pid, SIGKILL);
		waitpid(q->pid, NULL, 0);
	}
	q->pid = 0;
	return -EAGAIN;
}

/* a stream between us and the child: ours is returned */
static int pair(struct vm *vm, int *theirs)
{
	int s[2];

	if (socketpair(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0, s))
		return vm_error(vm, -errno, "no socket: %s", strerror(errno));
	*theirs = s[1];
	return s[0];
}

static void forget(int *fd)
{
	if (*fd >= 0)
		close(*fd);
	*fd = -1;
}

/* What QEMU says when it does not like its command line; it ends then. */
static int not_started(struct qemu *q, const char *what)
{
	char text[400];
	size_t len = 0;
	ssize_t n;

	while (len < sizeof(text) - 1 &&
	       (n = read(q->errors, text + len, sizeof(text) - 1 - len)) > 0)
		len += (size_t)n;
	text[len] = 0;
	text[strcspn(text, "\n")] = 0;
	return vm_error(q->vm, -EIO, "QEMU does not start: %s", len ? text : what);
}

static int set_capability(struct qemu *q)
{
	static const char text[] =
		"{\"capabilities\":[{\"capability\":\"x-ignore-shared\",\"state\":true}]}";

	return qmp_call(&q->commands, "migrate-set-capabilities", json_tokener_parse(text), -1, NULL);
}

/* "pc-q35-10.0-machine" without its last word */
static int ask_machine(struct qemu *q)
{
	struct json_object *args = json_tokener_parse("{\"path\":\"/machine\",\"property\":\"type\"}");
	struct json_object *ret;
	int err = qmp_call(&q->commands, "qom-get", args, -1, &ret);

	if (err)
		return err;
	snprintf(q->machine, sizeof(q->machine), "%s", json_object_get_string(ret));
	json_object_put(ret);
	if (strlen(q->machine) > 8)
		q->machine[strlen(q->machine) - 8] = 0;
	return 0;
}

static int greet(struct qemu *q, int commands, int events)
{
	int ret = qmp_open(&q->commands, commands), second = qmp_open(&q->events, events);

	if (ret || second)
		return not_started(q, ret ? q->commands.why : q->events.why);
	ret = set_capability(q);
	if (!ret)
		ret = ask_machine(q);
	return ret ? vm_error(q->vm, ret, "%s", q->commands.why) : 0;
}

static void *watch_main(void *arg);

static int launch(struct qemu *q, struct qemu_parts *p)
{
	struct vm *vm = q->vm;
	int commands, events = -1, ret;
	struct qemu_args a = { .nr = 0 };

	commands = pair(vm, &p->commands);
	if (commands >= 0)
		events = pair(vm, &p->events);
	if (events >= 0)
		q->console = pair(vm, &p->console);
	ret = q->console < 0 ? -EMFILE : open_nets(q, p);
	if (!ret) {
		ret = qemu_args(&a, &vm->cfg, p);
		if (ret)
			vm_error(vm, ret, "out of memory, or more devices than QEMU's command line takes here");
	}
	if (!ret)
		ret = spawn(q, &a, p);
	qemu_args_free(&a);
	forget(&p->commands);
	forget(&p->events);
	forget(&p->console);
	if (!ret)
		return greet(q, commands, events);
	forget(&commands);
	forget(&events);
	return ret;
}

/* One that goes on has its kernel in memory, and needs the file for a reset alone. */
static int gather_kernel(struct vm *vm, struct qemu_parts *p)
{
	char why[sizeof(vm->error)];
	int ret = gather(vm, "kernel", &vm->cfg.kernel, vm->cfg.kernel ? 1 : 0, &p->kernel);

	if (!ret)
		ret = gather(vm, "initrd", vm->cfg.initrds, vm->cfg.nr_initrds, &p->initrd);
	if (!ret || !p->incoming)
		return ret;
	vm_notice(vm, "a reset will boot nothing: %s", vm_last_error(vm, why, sizeof(why)));
	forget(&p->kernel);
	return 0;
}

static int start(struct qemu *q, const char *machine)
{
	struct vm *vm = q->vm;
	struct qemu_parts p = {
		.memory = vm->mem ? vmplat_mem_fd(vm->mem) : vm->memfd,
		.kernel = -1, .initrd = -1, .console = -1, .commands = -1, .events = -1, .vars = -1,
		.code = q->code, .kvm = vm->cfg.accel == VM_ACCEL_KVM,
		.machine = machine, .incoming = machine,
	};
	const struct vmplat_thread_options o = { .name = "qemu-watch" };
	int ret;

	ret = gather_kernel(vm, &p);
	if (!ret && q->code) {
		p.vars = open_vars(q);
		ret = p.vars < 0 ? p.vars : 0;
	}
	if (!ret)
		ret = launch(q, &p);
	forget(&p.kernel);
	forget(&p.initrd);
	forget(&p.vars);
	if (ret)
		return ret;
	ret = vmplat_thread_start(&q->thread, &o, watch_main, q);
	return ret ? vm_error(vm, ret, "the thread that watches QEMU %s", vmplat_last_error()) : 0;
}

int qemu_boot(struct vm *vm)
{
	return start(vm->qemu, NULL);
}

/* ---- its end --------------------------------------------------------------------- */

static bool ended_within(struct qemu *q, int ms)
{
	struct pollfd p = { .fd = q->pidfd, .events = POLLIN };
	uint64_t end = vmplat_now_ns() + (uint64_t)ms * 1000000;

	for (;;) {
		int ret = poll(&p, 1, ms);

		if (ret >= 0 || errno != EINTR)
			return ret > 0;
		ms = vmplat_now_ns() < end ? (int)((end - vmplat_now_ns()) / 1000000) : 0;
	}
}

void qemu_end(struct qemu *q)
{
	atomic_store(&q->ending, true);
	if (q->pidfd < 0)
		return;
	pidfd_send_signal(q->pidfd, SIGTERM, NULL, 0);
	if (ended_within(q, END_MS))
		return;
	pidfd_send_signal(q->pidfd, SIGKILL, NULL, 0);
	ended_within(q, -1);
}

void qemu_free(struct qemu *q)
{
	if (!q)
		return;
	qemu_end(q);
	if (q->thread)
		vmplat_thread_join(q->thread);
	else if (q->pid > 0)
		waitpid(q->pid, NULL, 0);
	qmp_close(&q->commands);
	qmp_close(&q->events);
	forget(&q->console);
	forget(&q->errors);
	forget(&q->pidfd);
	forget(&q->starved_fd);
	for (unsigned int i = 0; i < VM_NETS_MAX; i++)
		net_close(q->nets[i]);
	free(q->program);
	free(q);
}

/* ---- watching -------------------------------------------------------------------- */

static void on_console(struct qemu *q)
{
	struct vm *vm = q->vm;
	uint8_t buf[4096];
	ssize_t n = recv(q->console, buf, sizeof(buf), MSG_DONTWAIT);

	if (n > 0)
		vm->console_output(vm->console_ctx, buf, (size_t)n);
	else if (!n || errno != EAGAIN)
		q->console_ended = true;
}

/* Tells what it says, line by line; that we have ended it we know. */
static void complete_line(struct qemu *q)
{
	if (!*q->line)
		return;
	snprintf(q->said, sizeof(q->said), "%s", q->line);
	if (!atomic_load(&q->ending))
		vm_notice(q->vm, "%s", q->line);
	q->line[0] = 0;
}

static void on_errors(struct qemu *q)
{
	char buf[256];
	ssize_t n = read(q->errors, buf, sizeof(buf));

	if (n <= 0)
		forget(&q->errors);
	for (ssize_t i = 0; i < n; i++) {
		size_t len = strlen(q->line);

		if (buf[i] == '\n')
			complete_line(q);
		else if (len < sizeof(q->line) - 1)
			memcpy(q->line + len, (char[2]){ buf[i], 0 }, 2);
	}
}

static void on_event(struct qemu *q, struct json_object *event)
{
	const char *name = qmp_text(event, "event");
	struct json_object *data = NULL;

	json_object_object_get_ex(event, "data", &data);
	if (!strcmp(name, "SHUTDOWN"))
		q->powered_off = true;
	else if (!strcmp(name, "GUEST_PANICKED"))
		vm_notice(q->vm, "the guest says that it has panicked");
	else if (!strcmp(name, "BLOCK_IO_ERROR"))
		vm_notice(q->vm, "disk %s: %s", qmp_text(data, "node-name"), qmp_text(data, "reason"));
}

static void on_events(struct qemu *q)
{
	struct json_object *event;
	int ret;

	do {
		ret = qmp_event(&q->events, &event);
		if (ret == 1) {
			on_event(q, event);
			json_object_put(event);
		}
	} while (ret == 1 && qmp_pending(&q->events));
	if (ret < 0)
		qmp_close(&q->events);
}

/* what it left behind when it ended */
static void drain(struct qemu *q)
{
	struct pollfd p[3];

	for (;;) {
		p[0] = (struct pollfd){ .fd = q->events.io.fd, .events = POLLIN };
		p[1] = (struct pollfd){ .fd = q->console_ended ? -1 : q->console, .events = POLLIN };
		p[2] = (struct pollfd){ .fd = q->errors, .events = POLLIN };
		if (poll(p, 3, 0) <= 0)
			break;
		if (p[0].revents)
			on_events(q);
		if (p[1].revents)
			on_console(q);
		if (p[2].revents)
			on_errors(q);
	}
	complete_line(q);
}

static void conclude(struct qemu *q)
{
	int status = 0;

	drain(q);
	waitpid(q->pid, &status, 0);
	if (atomic_load(&q->ending) || (q->powered_off && WIFEXITED(status))) {
		vm_request(q->vm, VM_REQ_POWEROFF);
		return;
	}
	if (WIFSIGNALED(status))
		vm_error(q->vm, -EIO, "QEMU was ended by signal %d (%s)", WTERMSIG(status),
			 strsignal(WTERMSIG(status)));
	else
		vm_error(q->vm, -EIO, "QEMU ended with status %d%s%s", WEXITSTATUS(status),
			 *q->said ? ": " : "", q->said);
	vm_request(q->vm, VM_REQ_FAIL);
}

static void *watch_main(void *arg)
{
	struct qemu *q = arg;
	struct pollfd p[5] = { { .fd = -1 } };
	eventfd_t n;

	do {
		p[0] = (struct pollfd){ .fd = q->pidfd, .events = POLLIN };
		p[1] = (struct pollfd){ .fd = q->events.io.fd, .events = POLLIN };
		p[2] = (struct pollfd){
			.fd = q->console_ended ? -1 : q->console,
			.events = atomic_load(&q->starved) ? POLLIN | POLLOUT : POLLIN,
		};
		p[3] = (struct pollfd){ .fd = q->errors, .events = POLLIN };
		p[4] = (struct pollfd){ .fd = q->starved_fd, .events = POLLIN };
		if (poll(p, 5, -1) < 0)
			continue;
		if (p[4].revents)
			eventfd_read(q->starved_fd, &n);
		if (p[1].revents)
			on_events(q);
		if (p[2].revents & (POLLIN | POLLHUP | POLLERR))
			on_console(q);
		if (p[2].revents & POLLOUT && atomic_exchange(&q->starved, false))
			q->on_room(q->on_room_ctx);
		if (p[3].revents)
			on_errors(q);
	} while (!(p[0].revents & POLLIN));
	conclude(q);
	return NULL;
}

/* ---- input ----------------------------------------------------------------------- */

void qemu_on_room(struct qemu *q, void (*fn)(void *ctx), void *ctx)
{
	q->on_room = fn;
	q->on_room_ctx = ctx;
}

size_t qemu_input_room(struct qemu *q)
{
	struct pollfd p = { .fd = q->console, .events = POLLOUT };

	if (poll(&p, 1, 0) > 0)
		return INPUT_MAX;
	if (!atomic_exchange(&q->starved, true))
		eventfd_write(q->starved_fd, 1);
	return 0;
}

void qemu_input(struct qemu *q, const uint8_t *p, size_t n)
{
	while (n) {
		ssize_t done = send(q->console, p, n, MSG_NOSIGNAL);

		if (done < 0 && errno == EINTR)
			continue;
		if (done <= 0)
			return;
		p += done;
		n -= (size_t)done;
	}
}

/* ---- verbs ----------------------------------------------------------------------- */

static int command(struct qemu *q, const char *cmd)
{
	int ret = qmp_call(&q->commands, cmd, NULL, -1, NULL);

	if (ret == -EPIPE && q->thread)		/* it ended: who watches it says why, before or after us */
		return ret;
	return ret ? vm_error(q->vm, ret, "%s", q->commands.why) : 0;
}

int qemu_halt(struct vm *vm)
{
	return command(vm->qemu, "stop");
}

int qemu_go(struct vm *vm)
{
	return command(vm->qemu, "cont");
}

int qemu_reset(struct vm *vm)
{
	int ret = command(vm->qemu, "system_reset");

	return ret ? ret : qemu_go(vm);
}

int qemu_powerdown(struct vm *vm)
{
	return command(vm->qemu, "system_powerdown");
}

/* ---- state ----------------------------------------------------------------------- */

/* The end of a pipe, by name, for a migration. */
static int give_pipe(struct qemu *q, int fd)
{
	struct json_object *args = json_object_new_object();

	json_object_object_add(args, "fdname", json_object_new_string("state"));
	return qmp_call(&q->commands, "getfd", args, fd, NULL);
}

static int migrate(struct qemu *q, const char *cmd)
{
	struct json_object *args = json_object_new_object();

	json_object_object_add(args, "uri", json_object_new_string("fd:state"));
	return qmp_call(&q->commands, cmd, args, -1, NULL);
}

/* until a migration has come to an end: 0 if to a good one */
static int migrated(struct qemu *q)
{
	struct json_object *ret;
	char status[40], why[200];
	int err;

	for (;;) {
		err = qmp_call(&q->commands, "query-migrate", NULL, -1, &ret);
		if (err)
			return vm_error(q->vm, err, "%s", q->commands.why);
		snprintf(status, sizeof(status), "%s", qmp_text(ret, "status"));
		snprintf(why, sizeof(why), "%s", qmp_text(ret, "error-desc"));
		json_object_put(ret);
		if (!strcmp(status, "completed"))
			return 0;
		if (!strcmp(status, "failed") || !strcmp(status, "cancelled"))
			return vm_error(q->vm, -EIO, "QEMU's state: %s", *why ? why : status);
		vmplat_sleep_ns(POLL_NS);
	}
}

struct bytes {
	uint8_t *p;
	size_t len, room;
};

/* all that comes, until the other end is closed */
static int read_state(struct vm *vm, int fd, struct bytes *b)
{
	for (;;) {
		ssize_t n;

		if (b->len == b->room) {
			size_t room = b->room ? 2 * b->room : 1 << 20;
			uint8_t *p = room > STATE_BYTES_MAX ? NULL : realloc(b->p, room);

			if (!p)
				return vm_error(vm, -ENOMEM, "QEMU's state is more than %u MiB",
						STATE_BYTES_MAX >> 20);
			b->p = p;
			b->room = room;
		}
		n = read(fd, b->p + b->len, b->room - b->len);
		if (n < 0 && errno == EINTR)
			continue;
		if (n < 0)
			return vm_error(vm, -errno, "QEMU's state: %s", strerror(errno));
		if (!n)
			return 0;
		b->len += (size_t)n;
	}
}

int qemu_save(struct vm *vm, struct state_writer *w)
{
	struct qemu *q = vm->qemu;
	struct bytes b = { 0 };
	int p[2], ret;

	if (pipe2(p, O_CLOEXEC))
		return vm_error(vm, -errno, "no pipe: %s", strerror(errno));
	ret = give_pipe(q, p[1]);
	close(p[1]);
	if (!ret)
		ret = migrate(q, "migrate");
	if (ret)
		vm_error(vm, ret, "%s", q->commands.why);
	else
		ret = read_state(vm, p[0], &b);
	close(p[0]);
	if (!ret)
		ret = migrated(q);
	if (!ret) {
		state_put_blob(w, q->machine, (uint32_t)strlen(q->machine));
		state_put_blob(w, b.p, (uint32_t)b.len);
	}
	free(b.p);
	return ret;
}

static int feed(struct qemu *q, const uint8_t *state, size_t len)
{
	int p[2], ret;

	if (pipe2(p, O_CLOEXEC))
		return vm_error(q->vm, -errno, "no pipe: %s", strerror(errno));
	ret = give_pipe(q, p[0]);
	close(p[0]);
	if (!ret)
		ret = migrate(q, "migrate-incoming");
	if (ret)
		vm_error(q->vm, ret, "%s", q->commands.why);
	else
		write_all(p[1], state, len);	/* if QEMU does not take it, it says why itself */
	close(p[1]);
	return ret ? ret : migrated(q);
}

int qemu_load(struct vm *vm, struct state_reader *r)
{
	struct qemu *q = vm->qemu;
	uint32_t machine_len, len;
	const char *machine = state_get_blob(r, &machine_len);
	const uint8_t *state = state_get_blob(r, &len);
	char name[sizeof(q->machine)];
	int ret;

	if (r->err || !machine_len || machine_len >= sizeof(name))
		return vm_error(vm, -EBADMSG, "the state is none of QEMU's");
	snprintf(name, sizeof(name), "%.*s", (int)machine_len, machine);
	if (strspn(name, "abcdefghijklmnopqrstuvwxyz0123456789.-") != machine_len)
		return vm_error(vm, -EBADMSG, "the state names no machine of QEMU's");
	ret = start(q, name);
	if (!ret)
		ret = feed(q, state, len);
	if (ret && q->thread)		/* it may have said more than we heard */
		vm_notice(vm, "QEMU does not take the state");
	return ret;
}

/* ---- copies of disks --------------------------------------------------------------- */

static int ask(struct qemu *q, const char *cmd, struct json_object *args, int fd,
	       struct json_object **ret)
{
	int err = qmp_call(&q->commands, cmd, args, fd, ret);

	return err ? vm_error(q->vm, err, "%s", q->commands.why) : 0;
}

/* {"@key": "@prefix@id"} */
static struct json_object *naming(const char *key, const char *prefix, const char *id)
{
	struct json_object *o = json_object_new_object();
	char name[VM_ID_MAX + 8];

	snprintf(name, sizeof(name), "%s%s", prefix, id);
	json_object_object_add(o, key, json_object_new_string(name));
	return o;
}

static void add_text(struct json_object *o, const char *key, const char *value)
{
	json_object_object_add(o, key, json_object_new_string(value));
}

/* a disk's bytes as QEMU counts them: in sectors */
static int disk_bytes(struct vm *vm, const char *id, uint64_t *bytes)
{
	const struct vm_disk *d = vm_config_disk(&vm->cfg, id);
	int fd = open(d->path, O_RDONLY | O_CLOEXEC);
	off_t end = fd < 0 ? -1 : lseek(fd, 0, SEEK_END);

	if (end < 0)
		vm_error(vm, -errno, "disk %s: %s", d->path, strerror(errno));
	if (fd >= 0)
		close(fd);
	*bytes = ((uint64_t)end + 511) & ~511ULL;
	return end < 0 ? -EIO : 0;
}

/* @fd as a node of QEMU's, as long as the disk */
static int add_target(struct qemu *q, struct qemu_copy *c, int fd)
{
	struct json_object *o, *file, *ret, *v;
	char name[40];
	int err;

	if (ftruncate(fd, (off_t)c->bytes))
		return vm_error(q->vm, -errno, "the file for disk %s: %s", c->id, strerror(errno));
	err = ask(q, "add-fd", NULL, fd, &ret);
	if (err)
		return err;
	json_object_object_get_ex(ret, "fdset-id", &v);
	c->fdset = json_object_get_int64(v);
	json_object_put(ret);

	snprintf(name, sizeof(name), "/dev/fdset/%lld", (long long)c->fdset);
	file = json_object_new_object();
	add_text(file, "driver", "file");
	add_text(file, "filename", name);
	add_text(file, "discard", "unmap");	/* zeroes are holes */
	o = naming("node-name", "copy-", c->id);
	add_text(o, "driver", "raw");
	add_text(o, "discard", "unmap");
	json_object_object_add(o, "file", file);
	err = ask(q, "blockdev-add", o, -1, NULL);
	c->node = !err;
	return err;
}

static int start_job(struct qemu *q, struct qemu_copy *c)
{
	struct json_object *o = naming("job-id", "copy-", c->id), *name;
	int err;

	name = naming("x", "image-", c->id);
	add_text(o, "device", qmp_text(name, "x"));
	json_object_put(name);
	name = naming("x", "copy-", c->id);
	add_text(o, "target", qmp_text(name, "x"));
	json_object_put(name);
	add_text(o, "sync", "full");
	json_object_object_add(o, "auto-dismiss", json_object_new_boolean(false));
	err = ask(q, "blockdev-backup", o, -1, NULL);
	c->job = !err;
	return err;
}

/* QEMU has let go of its disks when it wrote its state, for whoever might take that. */
static int take_disks_back(struct qemu *q)
{
	struct json_object *o = json_object_new_object();

	json_object_object_add(o, "active", json_object_new_boolean(true));
	if (!qmp_call(&q->commands, "blockdev-set-active", o, -1, NULL))
		return 0;
	return vm_error(q->vm, -EOPNOTSUPP, "%s; snapshots of disks need QEMU 10", q->commands.why);
}

int qemu_copy_begin(struct vm *vm, struct qemu_copy *c, const char *id, int fd)
{
	struct qemu *q = vm->qemu;
	int ret;

	*c = (struct qemu_copy){ .id = id, .fdset = -1 };
	ret = disk_bytes(vm, id, &c->bytes);
	if (!ret)
		ret = take_disks_back(q);
	if (!ret)
		ret = add_target(q, c, fd);
	return ret ? ret : start_job(q, c);
}

/* the job of @c in what query-jobs returns, or NULL */
static struct json_object *find_job(struct json_object *jobs, const struct qemu_copy *c)
{
	struct json_object *name = naming("id", "copy-", c->id), *found = NULL;

	for (size_t i = 0; i < json_object_array_length(jobs) && !found; i++) {
		struct json_object *job = json_object_array_get_idx(jobs, i);

		if (!strcmp(qmp_text(job, "id"), qmp_text(name, "id")))
			found = job;
	}
	json_object_put(name);
	return found;
}

/* under the operation lock */
static int look(struct qemu *q, struct qemu_copy *c, uint64_t *done_bytes)
{
	struct json_object *jobs, *job, *v;
	int ret = ask(q, "query-jobs", NULL, -1, &jobs);

	if (ret)
		return ret;
	job = find_job(jobs, c);
	if (!job) {
		ret = vm_error(q->vm, -EIO, "QEMU has forgotten the copy of disk %s", c->id);
	} else {
		if (json_object_object_get_ex(job, "current-progress", &v))
			*done_bytes = (uint64_t)json_object_get_int64(v);
		ret = !strcmp(qmp_text(job, "status"), "concluded");
		if (ret && *qmp_text(job, "error"))
			ret = vm_error(q->vm, -EIO, "disk %s: %s", c->id, qmp_text(job, "error"));
	}
	json_object_put(jobs);
	return ret;
}

int qemu_copy_poll(struct vm *vm, struct qemu_copy *c, uint64_t *done_bytes)
{
	int ret;

	pthread_mutex_lock(&vm->op);
	ret = look(vm->qemu, c, done_bytes);
	pthread_mutex_unlock(&vm->op);
	return ret;
}

static void cancel_job(struct qemu *q, struct qemu_copy *c)
{
	uint64_t done;

	qmp_call(&q->commands, "job-cancel", naming("id", "copy-", c->id), -1, NULL);
	while (!look(q, c, &done))
		vmplat_sleep_ns(POLL_NS);
	qmp_call(&q->commands, "job-dismiss", naming("id", "copy-", c->id), -1, NULL);
}

/* What fails here fails because QEMU is gone. */
void qemu_copy_end(struct vm *vm, struct qemu_copy *c)
{
	struct qemu *q = vm->qemu;
	struct json_object *o;

	if (!c->id)
		return;
	pthread_mutex_lock(&vm->op);
	if (c->job)
		cancel_job(q, c);
	if (c->node)
		qmp_call(&q->commands, "blockdev-del", naming("node-name", "copy-", c->id), -1, NULL);
	if (c->fdset >= 0) {
		o = json_object_new_object();
		json_object_object_add(o, "fdset-id", json_object_new_int64(c->fdset));
		qmp_call(&q->commands, "remove-fd", o, -1, NULL);
	}
	pthread_mutex_unlock(&vm->op);
	c->id = NULL;
}
