// SPDX-License-Identifier: GPL-2.0-only
/*
 * VMs that QEMU runs, without QEMU: its command line, its protocol, and the life of one
 * with a program in its place that speaks the protocol. That is this program itself,
 * called as qemu-system-riscv64.
 */
#include <errno.h>
#include <fcntl.h>
#include <poll.h>
#include <pthread.h>
#include <signal.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <unistd.h>

#include "run/qemu.h"
#include "run/qemu_args.h"
#include "run/qmp.h"
#include "run/vm_priv.h"
#include "fake_qemu.h"
#include "tap.h"

/* ---- the command line ------------------------------------------------------------ */

static struct qemu_args args;

static void compose(const struct vm_config *cfg, struct qemu_parts p)
{
	p.memory = 10;
	p.console = 11;
	p.commands = 12;
	p.events = 13;
	CHECK(!qemu_args(&args, cfg, &p));
}

/* is @option there with exactly this @value? NULL: with any */
static bool has(const char *option, const char *value)
{
	for (unsigned int i = 0; i + 1 < args.nr; i++)
		if (!strcmp(args.argv[i], option) && (!value || !strcmp(args.argv[i + 1], value)))
			return true;
	return false;
}

static bool told_all(const char *option, const char *value)
{
	if (has(option, value))
		return true;
	for (unsigned int i = 0; i < args.nr; i++)
		printf("# %s\n", args.argv[i]);
	return false;
}

#define HAS(option, value) CHECK(told_all(option, value))
#define NO_PARTS { .kernel = -1, .initrd = -1, .vars = -1 }

static const struct qemu_parts none = NO_PARTS;

TEST(seabios_and_devices)
{
	struct vm_config c = {
		.name = "a", .firmware = "seabios", .mem_bytes = 96 << 20, .nr_cpus = 3, .no_reboot = true,
		.iso = "/d,isc.iso",
		.disks = {
			{ .id = "root", .path = "/a,b \"c\".raw" },
			{ .id = "a-very-long-name-of-a-disk", .path = "/ro", .readonly = true },
			{ .id = "cdrom", .path = "/d,isc.iso", .readonly = true },
		},
		.nr_disks = 3,
		.nets = {
			{ .id = "net0", .kind = VM_NET_TAP, .where = "tap0", .mac = { 2, 0, 0, 0, 0, 1 } },
			{ .id = "net1", .kind = VM_NET_SOCKET, .where = "/so,ck", .mac = { 2, 0, 0, 0, 0, 2 } },
			{ .id = "net2", .kind = VM_NET_PASST, .mac = { 2, 0, 0, 0, 0, 3 } },
		},
		.nr_nets = 3,
	};
	struct qemu_parts p = NO_PARTS;

	p.kvm = true;
	p.nets[0] = 20;
	p.nets[1] = 22;
	p.listens[1] = true;
	p.nets[2] = 21;
	compose(&c, p);
	CHECK(!strcmp(args.argv[0], "qemu-system-x86_64") && !args.argv[args.nr]);
	HAS("-machine", "q35,accel=kvm,memory-backend=memory,graphics=off");
	HAS("-cpu", "host");
	HAS("-smp", "3");
	HAS("-m", "96M");
	HAS("-object", "memory-backend-file,id=memory,size=100663296,mem-path=/proc/self/fd/10,share=on");
	HAS("-chardev", "socket,id=console,fd=11");
	HAS("-chardev", "socket,id=commands,fd=12");
	HAS("-chardev", "socket,id=events,fd=13");
	HAS("-blockdev", "{\"driver\":\"raw\",\"node-name\":\"image-root\",\"read-only\":false,\"file\":{\"driver\":\"file\",\"filename\":\"/a,b \\\"c\\\".raw\"}}");
	HAS("-device", "{\"driver\":\"virtio-blk-pci\",\"id\":\"root\",\"drive\":\"image-root\",\"serial\":\"vmplat-root\",\"bootindex\":1,\"werror\":\"report\",\"rerror\":\"report\"}");
	HAS("-device", "{\"driver\":\"virtio-blk-pci\",\"id\":\"a-very-long-name-of-a-disk\",\"drive\":\"image-a-very-long-name-of-a-disk\",\"serial\":\"vmplat-a-very-long-n\",\"bootindex\":2,\"werror\":\"report\",\"rerror\":\"report\"}");
	HAS("-device", "{\"driver\":\"scsi-cd\",\"id\":\"cdrom\",\"drive\":\"image-cdrom\",\"bootindex\":0,\"werror\":\"report\",\"rerror\":\"report\"}");
	HAS("-netdev", "{\"id\":\"net0\",\"type\":\"tap\",\"fd\":\"20\"}");
	HAS("-netdev", "{\"id\":\"net1\",\"type\":\"stream\",\"server\":true,\"addr\":{\"type\":\"fd\",\"str\":\"22\"}}");
	HAS("-netdev", "{\"id\":\"net2\",\"type\":\"stream\",\"server\":false,\"addr\":{\"type\":\"fd\",\"str\":\"21\"}}");
	HAS("-device", "{\"driver\":\"virtio-net-pci\",\"netdev\":\"net2\",\"mac\":\"02:00:00:00:00:03\",\"romfile\":\"\"}");
	HAS("-no-reboot", NULL);
	HAS("-S", NULL);
	CHECK(!has("-bios", NULL) && !has("-kernel", NULL) && !has("-incoming", NULL));
	qemu_args_free(&args);
}

TEST(ovmf)
{
	struct vm_config c = { .name = "a", .firmware = "ovmf", .mem_bytes = 64 << 20, .nr_cpus = 1 };
	struct qemu_parts p = NO_PARTS;

	p.code = "/code.fd";
	p.vars = 30;
	p.kernel = 31;
	c.cmdline = "a, b";
	compose(&c, p);
	HAS("-machine", "q35,accel=tcg,memory-backend=memory,graphics=off,pflash0=code,pflash1=vars");
	HAS("-cpu", "max");
	HAS("-blockdev", "{\"driver\":\"raw\",\"node-name\":\"code\",\"read-only\":true,\"file\":{\"driver\":\"file\",\"filename\":\"/code.fd\"}}");
	HAS("-blockdev", "{\"driver\":\"raw\",\"node-name\":\"vars\",\"read-only\":false,\"file\":{\"driver\":\"file\",\"filename\":\"/proc/self/fd/30\"}}");
	HAS("-kernel", "/proc/self/fd/31");
	HAS("-append", "a, b");
	CHECK(!has("-bios", NULL) && !has("-no-reboot", NULL) && !has("-initrd", NULL));
	qemu_args_free(&args);
}

TEST(other_machines)
{
	struct vm_config c = { .name = "a", .arch = VM_ARCH_RISCV64, .mem_bytes = 64 << 20, .nr_cpus = 1 };
	struct qemu_parts p = NO_PARTS;

	p.kernel = 31;
	p.initrd = 32;
	compose(&c, p);
	CHECK(!strcmp(args.argv[0], "qemu-system-riscv64"));
	HAS("-machine", "virt,accel=tcg,memory-backend=memory");
	HAS("-initrd", "/proc/self/fd/32");
	HAS("-append", "");
	qemu_args_free(&args);

	c.arch = VM_ARCH_AARCH64;
	c.firmware = "/my,bios";
	p = none;
	p.machine = "virt-9.2";
	p.incoming = true;
	compose(&c, p);
	CHECK(!strcmp(args.argv[0], "qemu-system-aarch64"));
	HAS("-machine", "virt-9.2,accel=tcg,memory-backend=memory,gic-version=3");
	HAS("-cpu", "max,pauth-impdef=on");
	HAS("-bios", "/my,bios");
	HAS("-incoming", "defer");
	CHECK(!strcmp(qemu_console(VM_ARCH_AARCH64), "ttyAMA0"));
	qemu_args_free(&args);
}

/* as many devices as there can be find room */
TEST(many_devices)
{
	struct vm_config c = { .name = "a", .firmware = "seabios", .mem_bytes = 64 << 20, .nr_cpus = 1 };

	c.nr_disks = VM_DISKS_MAX;
	for (unsigned int i = 0; i < VM_DISKS_MAX; i++) {
		snprintf(c.disks[i].id, sizeof(c.disks[i].id), "disk%u", i);
		c.disks[i].path = "/x";
	}
	c.nr_nets = VM_NETS_MAX;
	for (unsigned int i = 0; i < VM_NETS_MAX; i++)
		c.nets[i].kind = VM_NET_TAP;
	compose(&c, none);
	CHECK(args.nr < QEMU_ARGS_MAX);
	qemu_args_free(&args);
}

/* ---- the protocol ------------------------------------------------------------------ */

static int far_end;

static void far_says(const char *text)
{
	if (send(far_end, text, strlen(text), MSG_NOSIGNAL) < 0)
		return;
}

static int connect_far(void)
{
	int s[2];

	if (socketpair(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0, s))
		abort();
	far_end = s[1];
	return s[0];
}

static const char hello[] = "{\"QMP\": {\"version\": {}}}\r\n{\"return\": {}}\r\n";

/* what was sent to it so far */
static const char *far_heard(void)
{
	static char buf[1000];
	ssize_t n = recv(far_end, buf, sizeof(buf) - 1, MSG_DONTWAIT);

	buf[n > 0 ? n : 0] = 0;
	return buf;
}

TEST(commands)
{
	struct json_object *ret;
	struct qmp q;
	int fd = connect_far();

	far_says(hello);
	REQUIRE(!qmp_open(&q, fd));
	CHECK(!strcmp(far_heard(), "{\"execute\":\"qmp_capabilities\"}\n"));
	/* events come when they like, also between */
	far_says("{\"event\": \"STOP\"}\r\n{\"return\": {\"status\": \"fine\"}}\r\n{\"event\": \"RESUME\"}\r\n");
	CHECK(!qmp_call(&q, "query-x", json_tokener_parse("{\"a\": 1}"), -1, &ret));
	CHECK(!strcmp(qmp_text(ret, "status"), "fine") && !*qmp_text(ret, "else"));
	json_object_put(ret);
	CHECK(!strcmp(far_heard(), "{\"execute\":\"query-x\",\"arguments\":{\"a\":1}}\n"));
	far_says("{\"error\": {\"class\": \"GenericError\", \"desc\": \"no such thing\"}}\r\n");
	CHECK_EQ(qmp_call(&q, "do-x", NULL, -1, NULL), -EIO);
	CHECK(!strcmp(q.why, "QEMU refuses do-x: no such thing"));
	/* what is no JSON, and the end */
	far_says("Segmentation fault\n");
	CHECK_EQ(qmp_call(&q, "do-x", NULL, -1, NULL), -EBADMSG);
	close(far_end);
	CHECK_EQ(qmp_call(&q, "do-x", NULL, -1, NULL), -EPIPE);
	CHECK(!strcmp(q.why, "QEMU is gone"));
	qmp_close(&q);
}

TEST(greetings)
{
	static const struct { const char *text; int err; } bad[] = {
		{ "", -EPIPE }, { "{\"QMP\"", -EPIPE }, { "hello\n", -EBADMSG }, { "{\"a\": 1}\n", -EPROTO },
		{ "{\"QMP\": {}}\n{\"error\": {\"desc\": \"no\"}}\n", -EIO }, { "{\"QMP\": {}}\n", -EPIPE },
	};

	for (unsigned int i = 0; i < sizeof(bad) / sizeof(bad[0]); i++) {
		struct qmp q;
		int fd = connect_far();

		far_says(bad[i].text);
		shutdown(far_end, SHUT_WR);
		CHECK_EQ(qmp_open(&q, fd), bad[i].err);
		CHECK(*q.why);
		qmp_close(&q);
		close(far_end);
	}
}

TEST(events)
{
	struct json_object *event = NULL;
	struct qmp q;
	int fd = connect_far();

	far_says(hello);
	REQUIRE(!qmp_open(&q, fd));
	far_says("{\"timestamp\": {}, \"event\": \"A\"}\n{\"event\": \"B\"}\n{\"ret");
	CHECK_EQ(qmp_event(&q, &event), 1);
	CHECK(!strcmp(qmp_text(event, "event"), "A") && qmp_pending(&q));
	json_object_put(event);
	CHECK_EQ(qmp_event(&q, &event), 1);
	CHECK(!strcmp(qmp_text(event, "event"), "B") && !qmp_pending(&q));
	json_object_put(event);
	far_says("urn\": 1}\n");
	while (!qmp_pending(&q) && !qmp_event(&q, &event) && q.io.len)
		;	/* an answer nobody waits for is no event */
	CHECK(!event);
	close(far_end);
	CHECK_EQ(qmp_event(&q, &event), -EPIPE);
	qmp_close(&q);
}

/* ---- the life of a VM ---------------------------------------------------------------- */

struct heard {
	pthread_mutex_t lock;
	pthread_cond_t cond;
	char text[200];
	size_t len;
};

static struct heard heard = { PTHREAD_MUTEX_INITIALIZER, PTHREAD_COND_INITIALIZER, "", 0 };

static void on_output(void *ctx, const uint8_t *p, size_t n)
{
	pthread_mutex_lock(&heard.lock);
	for (size_t i = 0; i < n && heard.len < sizeof(heard.text) - 1; i++)
		heard.text[heard.len++] = (char)p[i];
	pthread_cond_signal(&heard.cond);
	pthread_mutex_unlock(&heard.lock);
}

static char why[600];

static struct vm *new_vm(const char *cmdline)
{
	struct vm_config c = {
		.name = strdup("a"), .arch = VM_ARCH_RISCV64, .mem_bytes = 32 << 20, .nr_cpus = 1,
		.backend = VM_BACKEND_MEMFD, .kernel = strdup("/proc/self/exe"), .cmdline = strdup(cmdline),
	};
	struct vm *vm;

	if (vm_new(&vm, &c, why, sizeof(why))) {
		vm_config_free(&c);
		return NULL;
	}
	vm->quiet = true;
	vm->console_output = on_output;
	vm_begin(vm, VM_STARTING);
	return vm;
}

static unsigned int wait_request(struct vm *vm)
{
	struct pollfd p = { .fd = vm->event_fd, .events = POLLIN };

	while (!atomic_load(&vm->requests))
		poll(&p, 1, -1);
	return atomic_load(&vm->requests);
}

static const char *last_error(struct vm *vm)
{
	return vm_last_error(vm, why, sizeof(why));
}

TEST(a_life)
{
	struct vm *vm = new_vm("mortal");

	REQUIRE(vm);
	CHECK(vm->cfg.accel == VM_ACCEL_TCG);
	REQUIRE(!vm_boot(vm));
	CHECK(!vm_start(vm, false));
	CHECK(vm_status(vm) == VM_RUNNING && vm->ram[0] == 1);
	CHECK(!vm_pause(vm) && vm_status(vm) == VM_PAUSED);
	CHECK(!vm_resume(vm) && vm->ram[0] == 2);
	REQUIRE(vm_input_room(vm) > 0);
	vm_input(vm, (const uint8_t *)"hello", 5);
	pthread_mutex_lock(&heard.lock);
	while (heard.len < 5)
		pthread_cond_wait(&heard.cond, &heard.lock);
	pthread_mutex_unlock(&heard.lock);
	CHECK(!strcmp(heard.text, "hello"));
	CHECK(!vm_powerdown(vm));
	CHECK_EQ(wait_request(vm), VM_REQ_POWEROFF);
	vm_stop(vm, VM_STOPPED);
	CHECK(vm_pause(vm) == -EINVAL);
	vm_free(vm);
	CHECK(waitpid(-1, NULL, WNOHANG) == -1 && errno == ECHILD);
}

TEST(its_last_words)
{
	struct vm *vm = new_vm("mortal");

	REQUIRE(vm && !vm_boot(vm) && !vm_start(vm, true));
	vm_reset(vm);	/* it dies, sooner or later than this one thinks */
	CHECK_EQ(wait_request(vm), VM_REQ_FAIL);
	CHECK(!strcmp(last_error(vm), "QEMU ended with status 3: last words"));
	vm_free(vm);
	CHECK(waitpid(-1, NULL, WNOHANG) == -1 && errno == ECHILD);
}

TEST(no_beginning)
{
	struct vm *vm = new_vm("complain");
	const char *path = getenv("PATH");
	char *before;

	REQUIRE(vm);
	CHECK_EQ(vm_boot(vm), -EIO);
	CHECK(!strcmp(last_error(vm), "QEMU does not start: qemu: I do not like that"));
	vm_free(vm);
	CHECK(waitpid(-1, NULL, WNOHANG) == -1 && errno == ECHILD);

	before = strdup(path);
	setenv("PATH", "/nowhere:", 1);
	CHECK(!new_vm(""));
	CHECK(strstr(why, "Debian has it in the package qemu-system-riscv"));
	setenv("PATH", before, 1);
	free(before);
}

static int save(struct vm *vm, struct state_writer *w)
{
	state_writer_init(w);
	vm_halt(vm);
	vm_save(vm, w);
	return state_writer_finish(w);
}

TEST(snapshots)
{
	struct state_writer w;
	struct vm *vm = new_vm(""), *two = new_vm("");

	REQUIRE(vm && two && !vm_boot(vm) && !vm_start(vm, false));
	CHECK(!save(vm, &w));
	vm_unhalt(vm);
	CHECK_EQ(vm->ram[0], 2);
	CHECK(!vm_load(two, w.buf, w.len, true));
	CHECK(!vm_start(two, false) && two->ram[0] == 1);
	vm_free(two);
	state_writer_free(&w);
	vm_free(vm);
}

TEST(disks)
{
	struct vm *vm = new_vm("");
	struct vm_disk d = { .id = "root", .path = (char *)"/proc/self/exe" };
	struct qemu_copy c = { .id = NULL };
	int fd = memfd_create("copy", MFD_CLOEXEC);
	uint64_t done = 0;
	struct stat st;

	REQUIRE(vm && !vm_config_add_disk(&vm->cfg, &d) && !vm_boot(vm));
	qemu_copy_end(vm, &c);	/* of nothing */
	CHECK(!qemu_copy_begin(vm, &c, "root", fd));
	CHECK(!stat("/proc/self/exe", &st) && c.bytes == (((uint64_t)st.st_size + 511) & ~511ULL));
	CHECK(!fstat(fd, &st) && (uint64_t)st.st_size == c.bytes);
	CHECK_EQ(qemu_copy_poll(vm, &c, &done), 0);
	CHECK_EQ(done, 512);
	CHECK_EQ(qemu_copy_poll(vm, &c, &done), 1);
	qemu_copy_end(vm, &c);
	CHECK(!c.id && vm->ram[1] == 1);
	/* given up, it has been ended; then a QEMU that is too old */
	CHECK_EQ(qemu_copy_begin(vm, &c, "root", fd), -EOPNOTSUPP);
	CHECK(strstr(last_error(vm), "snapshots of disks need QEMU 10"));
	qemu_copy_end(vm, &c);
	CHECK_EQ(vm->ram[1], 1);
	/* what is not there */
	free(vm->cfg.disks[0].path);
	vm->cfg.disks[0].path = strdup("/nowhere/disk");
	CHECK_EQ(qemu_copy_begin(vm, &c, "root", fd), -EIO);
	CHECK(!strcmp(last_error(vm), "disk /nowhere/disk: No such file or directory"));
	qemu_copy_end(vm, &c);
	close(fd);
	vm_free(vm);
}

/* a section "qemu" of a VM of the right shape */
static int load(const char *machine, const char *state, bool rest)
{
	struct vm *vm = new_vm("");
	struct state_writer w;
	int ret;

	state_writer_init(&w);
	state_begin(&w, "shape", 1);
	state_put_u64(&w, 32 << 20);
	state_put_u32(&w, 0);
	state_put_u32(&w, 0);
	state_end(&w);
	state_begin(&w, "qemu", 1);
	state_put_blob(&w, machine, (uint32_t)strlen(machine));
	if (state)
		state_put_blob(&w, state, (uint32_t)strlen(state));
	if (rest)
		state_put_u8(&w, 0);
	state_end(&w);
	state_writer_finish(&w);
	ret = vm_load(vm, w.buf, w.len, true);
	last_error(vm);
	state_writer_free(&w);
	vm_free(vm);
	return ret;
}

TEST(other_states)
{
	CHECK_EQ(load("virt-9.2", STATE, false), 0);
	CHECK_EQ(load("virt-9.2", "another", false), -EIO);
	CHECK(!strcmp(why, "QEMU's state: not mine"));
	CHECK_EQ(load("virt-9.2", NULL, false), -EBADMSG);
	CHECK_EQ(load("virt-9.2", STATE, true), -EBADMSG);
	CHECK_EQ(load("", STATE, false), -EBADMSG);
	CHECK_EQ(load("virt,a=b", STATE, false), -EBADMSG);
	CHECK(!strcmp(why, "the state names no machine of QEMU's"));
	CHECK(waitpid(-1, NULL, WNOHANG) == -1 && errno == ECHILD);
}

int main(int argc, char **argv)
{
	if (fake_qemu_called(argv))
		return fake_qemu(argc, argv);
	signal(SIGPIPE, SIG_IGN);
	if (fake_qemu_install())
		return 1;

	RUN(seabios_and_devices);
	RUN(ovmf);
	RUN(other_machines);
	RUN(many_devices);
	RUN(commands);
	RUN(greetings);
	RUN(events);
	RUN(a_life);
	RUN(its_last_words);
	RUN(no_beginning);
	RUN(snapshots);
	RUN(disks);
	RUN(other_states);
	fake_qemu_remove();
	return tap_done();
}
