// SPDX-License-Identifier: GPL-2.0-only
/*
 * Whole guests, live: QEMU as it is, QEMU on vmplat memory, and vmplat's own
 * runner, with the same kernel, initrd, load and accelerator. Needs BENCH_INITRD
 * (bench/run makes it), VMPLAT_GUEST_KERNEL, and QEMU.
 *
 * The load (selftests/qemu/load.c) rewrites some MiB of memory in a loop. Pauses of QEMU
 * are the time between its own STOP and RESUME events; those of the runner are
 * what it reports. Files go to the tmpfs on /tmp, for both sides.
 */
#define _GNU_SOURCE
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mount.h>
#include <sys/stat.h>
#include <unistd.h>

#include "bench.h"
#include "vmm.h"

#define ROUNDS		3
#define MONITOR		"/tmp/bench.qmp"
#define FILE_OUT	"/tmp/bench.out"
#define DISK		"/tmp/bench.qcow2"
#define MOUNT		"/run/vmplat"
#define MEMORY		MOUNT "/bench"

static const char *env(const char *name)
{
	const char *v = getenv(name);

	if (!v)
		die("%s is not set", name);
	return v;
}

/* Kernel command line; the words after "--" are what the guest runs. */
static char *cmdline(const char *command)
{
	static char text[256];

	snprintf(text, sizeof(text), "console=ttyS0 quiet panic=-1 transparent_hugepage=never -- %s",
		 command);
	return text;
}

static void run_command(const char *fmt, const char *arg)
{
	char command[512];

	snprintf(command, sizeof(command), fmt, arg);
	if (system(command))
		die("%s", command);
}

/* ---- the VMMs --------------------------------------------------------------------- */

enum ram { PLAIN, ON_VMPLAT };

static struct vmm *qemu(enum ram ram, const char *size, const char *command, const char *more)
{
	struct words w = { 0 };
	struct vmm *v;

	unlink(MONITOR);
	words_add(&w, "qemu-system-x86_64 -no-user-config -nodefaults -display none -no-reboot");
	words_add(&w, "-accel kvm -cpu host -m %s -machine q35,memory-backend=m", size);
	if (ram == PLAIN) {
		words_add(&w, "-object memory-backend-ram,id=m,size=%s", size);
	} else {
		words_add(&w, "-object memory-backend-file,id=m,size=%s,mem-path=" MEMORY ",share=on", size);
		mkdir(MOUNT, 0755);
		umount(MOUNT);
		must(mount("none", MOUNT, "vmplatfs", 0, NULL));
	}
	words_add(&w, "-kernel %s -initrd %s -append", env("VMPLAT_GUEST_KERNEL"), env("BENCH_INITRD"));
	words_one(&w, cmdline(command));
	words_add(&w, "-chardev stdio,id=c,signal=off -serial chardev:c -qmp unix:" MONITOR ",server=on,wait=off");
	words_add(&w, "%s", more);
	v = vmm_start(&w);
	qmp_open(v, MONITOR);
	qmp_capabilities(v, "events");
	qmp(v, "migrate-set-parameters", "\"max-bandwidth\":100000000000");
	return v;
}

static struct vmm *microvm(const char *command)
{
	struct words w = { 0 };

	words_add(&w, "qemu-system-x86_64 -no-user-config -nodefaults -display none -no-reboot");
	words_add(&w, "-machine microvm -accel kvm -cpu host -m 256M -kernel %s -initrd %s -append",
		  env("VMPLAT_GUEST_KERNEL"), env("BENCH_INITRD"));
	words_one(&w, cmdline(command));
	words_add(&w, "-chardev stdio,id=c,signal=off -serial chardev:c");
	return vmm_start(&w);
}

static struct vmm *runner_with(const char *size, const char *command, const char *more)
{
	struct words w = { 0 };

	words_add(&w, "vmplat run --name bench --no-reboot --memory %s --cpus 1 %s --kernel %s --initrd %s --cmdline",
		  size, more, env("VMPLAT_GUEST_KERNEL"), env("BENCH_INITRD"));
	words_one(&w, cmdline(command));
	return vmm_start(&w);
}

static struct vmm *runner(const char *size, const char *command)
{
	return runner_with(size, command, "");
}

static void runner_stop(struct vmm *v)
{
	run_command("vmplat vm stop %s >/dev/null", "bench");
	vmm_kill(v);
}

/* `vmplat vm snapshot`: returns one number of what it says about itself */
static double runner_snapshot(const char *name, const char *codec, const char *field)
{
	char command[256], text[4096] = "", key[64], *at;
	FILE *f;

	snprintf(command, sizeof(command), "vmplat vm snapshot bench %s --codec %s --json", name, codec);
	f = popen(command, "re");
	if (!f || !fread(text, 1, sizeof(text) - 1, f) || pclose(f))
		die("%s", command);
	snprintf(key, sizeof(key), "\"%s\":", field);
	at = strstr(text, key);
	if (!at)
		die("%s does not say %s", command, field);
	return strtod(at + strlen(key), NULL);
}

static void store_new(void)
{
	run_command("rm -rf %s && mkdir -p /tmp/store /tmp/run", "/tmp/store");
	setenv("VMPLAT_STORE", "/tmp/store", 1);
	setenv("VMPLAT_RUN_DIR", "/tmp/run", 1);
}

/* ---- pauses ------------------------------------------------------------------------- */

static struct vmplat_view *freeze_file(void)
{
	int fd = must(open(MEMORY, O_RDWR | O_CLOEXEC));
	struct vmplat_freeze_mem what = { 0 };
	struct vmplat_view *view;

	if (vmplat_mem_from_fd(&what.mem, device(), fd) || vmplat_freeze(&view, device(), &what, 1, 0, 0))
		die("%s", vmplat_last_error());
	vmplat_mem_close(what.mem);
	close(fd);
	return view;
}

/* QEMU stops itself to write its devices; the memory is frozen; it goes on. */
static double pause_live(struct vmm *v)
{
	struct vmplat_view *view;

	vmm_forget(v);
	qmp(v, "migrate", "\"uri\":\"file:" FILE_OUT "\"");
	qmp_wait_migrated(v);
	view = freeze_file();
	qmp(v, "cont", "%s", "");
	qmp_wait_resume(v);
	vmplat_view_close(view);
	return v->resume_us - v->stop_us;
}

static double pause_mapped_ram(struct vmm *v)
{
	vmm_forget(v);
	qmp(v, "stop", "%s", "");
	qmp(v, "migrate", "\"uri\":\"file:" FILE_OUT "\"");
	qmp_wait_migrated(v);
	qmp(v, "cont", "%s", "");
	qmp_wait_resume(v);
	unlink(FILE_OUT);
	return v->resume_us - v->stop_us;
}

static double pauses(enum ram ram, const char *capabilities, double (*pause_once)(struct vmm *))
{
	struct vmm *v = qemu(ram, "256M", "load 32", "");
	double us[ROUNDS];

	qmp_capabilities(v, capabilities);
	vmm_expect(v, "load: round 2");
	for (int i = 0; i < ROUNDS; i++) {
		us[i] = pause_once(v);
		vmm_expect(v, "load: round");
		vmm_expect(v, "load: round");
	}
	vmm_kill(v);
	return median(us, ROUNDS);
}

static void live_snapshot(const char *name)
{
	double peer = pauses(PLAIN, "mapped-ram", pause_mapped_ram);
	double ours = pauses(ON_VMPLAT, "x-ignore-shared", pause_live);

	report(name, ours / 1e3, peer / 1e3, "ms", LESS);
}

static double pause_savevm(struct vmm *v)
{
	vmm_forget(v);
	qmp(v, "snapshot-save", "\"job-id\":\"j\",\"tag\":\"t\",\"vmstate\":\"disk\",\"devices\":[\"disk\"]");
	qmp_wait_job(v);
	qmp_wait_resume(v);
	qmp(v, "job-dismiss", "\"id\":\"j\"");
	return v->resume_us - v->stop_us;
}

static void savevm(const char *name)
{
	double us[ROUNDS], peer;
	struct vmm *v;

	run_command("qemu-img create -q -f qcow2 %s 1G", DISK);
	v = qemu(PLAIN, "256M", "load 32", "-device virtio-blk-pci,drive=disk -blockdev "
		 "driver=qcow2,node-name=disk,file.driver=file,file.filename=" DISK);
	vmm_expect(v, "load: round 2");
	peer = pause_savevm(v);
	vmm_kill(v);
	unlink(DISK);

	store_new();
	v = runner("256M", "load 32");
	vmm_expect(v, "load: round 2");
	for (int i = 0; i < ROUNDS; i++) {
		char tag[8] = { 's', '0' + i };

		us[i] = runner_snapshot(tag, "lz4", "pause_ns") / 1e3;
		vmm_expect(v, "load: round");
	}
	runner_stop(v);
	report(name, median(us, ROUNDS) / 1e3, peer / 1e3, "ms", LESS);
}

/* ---- drain -------------------------------------------------------------------------- */

static void copy_view(struct vmplat_view *view)
{
	int in = vmplat_view_fd(view), out = must(open(FILE_OUT, O_WRONLY | O_CREAT | O_TRUNC, 0600));
	char *buf = malloc(MIB);
	off_t data, hole = 0;

	while ((data = lseek(in, hole, SEEK_DATA)) >= 0) {
		hole = must(lseek(in, data, SEEK_HOLE));
		while (data < hole) {
			size_t n = hole - data < (off_t)MIB ? (size_t)(hole - data) : MIB;

			if (pread(in, buf, n, data) != (ssize_t)n || pwrite(out, buf, n, data) != (ssize_t)n)
				die("copying the view");
			data += n;
		}
	}
	free(buf);
	close(out);
}

static void drain(const char *name)
{
	double mib = 256, ours[ROUNDS], peer;
	struct vmplat_view *view;
	uint64_t start;
	struct vmm *v;

	v = qemu(PLAIN, "256M", "load 32", "");
	qmp_capabilities(v, "background-snapshot");
	vmm_expect(v, "load: round 2");
	start = now_ns();
	qmp(v, "migrate", "\"uri\":\"file:" FILE_OUT "\"");
	qmp_wait_migrated(v);
	peer = mib / ((now_ns() - start) / 1e9);
	vmm_kill(v);
	unlink(FILE_OUT);

	v = qemu(ON_VMPLAT, "256M", "load 32", "");
	vmm_expect(v, "load: round 2");
	for (int i = 0; i < ROUNDS; i++) {
		start = now_ns();
		view = freeze_file();
		copy_view(view);
		ours[i] = mib / ((now_ns() - start) / 1e9);
		vmplat_view_close(view);
		unlink(FILE_OUT);
	}
	vmm_kill(v);
	report(name, median(ours, ROUNDS), peer, "MiB/s", MORE);
}

/* ---- boot ----------------------------------------------------------------------------- */

static double boot_once(struct vmm *(*boot)(void))
{
	uint64_t start = now_ns();
	struct vmm *v = boot();
	double ms = (vmm_expect(v, "init: up") - start) / 1e6;

	vmm_kill(v);
	return ms;
}

static struct vmm *boot_ours(void)
{
	return runner("256M", "sleep 1000");
}

static struct vmm *boot_peer(void)
{
	return microvm("sleep 1000");
}

static struct vmm *boot_uncached(void)
{
	return runner_with("256M", "sleep 1000", "--unpack host-nocache");
}

static struct vmm *boot_by_itself(void)
{
	return runner_with("256M", "sleep 1000", "--unpack guest");
}

static void boot(const char *name)
{
	double ours[ROUNDS], peer[ROUNDS];

	store_new();
	setenv("XDG_CACHE_HOME", "/tmp/cache", 1);
	/* the first round warms the page cache up, and ours its cache of unpacked kernels */
	for (int i = -1; i < ROUNDS; i++) {
		double o = boot_once(boot_ours), p = boot_once(boot_peer);

		if (i < 0)
			continue;
		ours[i] = o;
		peer[i] = p;
	}
	note("ours without its cache: %.0f ms; the kernel unpacked by its own code: %.0f ms",
	     boot_once(boot_uncached), boot_once(boot_by_itself));
	report(name, median(ours, ROUNDS), median(peer, ROUNDS), "ms", LESS);
}

/* ---- a large guest: snapshot and restore ------------------------------------------------ */

#define LARGE	"1G"
#define BUSY	"load 512 1"	/* 512 MiB in use, 1 MiB of it written all the time */
#define SMALL	"128M"
#define FEW	"load 16 1"

static double incoming(void)
{
	uint64_t start = now_ns();
	struct vmm *v = qemu(PLAIN, LARGE, BUSY, "-incoming file:" FILE_OUT);
	double ms = (vmm_expect(v, "load: round") - start) / 1e6;

	vmm_kill(v);
	return ms;
}

/* MiB/s, the median of @rounds images of one guest; FILE_OUT is the last of them */
static double qemu_save(const char *capabilities, int rounds)
{
	struct vmm *v = qemu(PLAIN, LARGE, BUSY, "");
	double rate[ROUNDS];

	if (*capabilities)
		qmp_capabilities(v, capabilities);
	vmm_expect(v, "load: round 2");
	for (int i = 0; i < rounds; i++) {
		uint64_t start;

		if (i) {	/* it stopped at the end */
			vmm_forget(v);
			qmp(v, "cont", "%s", "");
			qmp_wait_resume(v);
			vmm_expect(v, "load: round");
		}
		unlink(FILE_OUT);
		start = now_ns();
		qmp(v, "migrate", "\"uri\":\"file:" FILE_OUT "\"");
		qmp_wait_migrated(v);
		rate[i] = 1024 / ((now_ns() - start) / 1e9);
	}
	vmm_kill(v);
	return median(rate, rounds);
}

/* The same of ours. The store has the last, called like the guest's size. */
static double ours_save(const char *size, const char *load, const char *codec, int rounds)
{
	struct vmm *v = runner(size, load);
	double rate[ROUNDS];

	vmm_expect(v, "load: round 2");
	for (int i = 0; i < rounds; i++) {
		uint64_t start;

		if (i) {
			run_command("vmplat snap rm %s", size);
			vmm_expect(v, "load: round");
		}
		start = now_ns();
		note("vmplat vm snapshot --codec %s: pause %.1f ms", codec, runner_snapshot(size, codec, "pause_ns") / 1e6);
		rate[i] = 1024 / ((now_ns() - start) / 1e9);
	}
	runner_stop(v);
	return median(rate, rounds);
}

static void snapshot(const char *name)
{
	double peer, ours;

	store_new();
	peer = qemu_save("mapped-ram multifd", ROUNDS);
	unlink(FILE_OUT);
	/* uncompressed, as the peer: what an emulated CPU takes to compress is not the question */
	ours = ours_save(LARGE, BUSY, "none", ROUNDS);
	report(name, ours, peer, "MiB/s", MORE);
}

static double restore_once(const char *snapshot)
{
	struct words w = { 0 };
	uint64_t start = now_ns();
	struct vmm *v;
	double ms;

	words_add(&w, "vmplat restore %s --name bench --no-reboot", snapshot);
	v = vmm_start(&w);
	ms = (vmm_expect(v, "load: round") - start) / 1e6;
	runner_stop(v);
	return ms;
}

static double restore_ours(const char *snapshot)
{
	double ms[ROUNDS];

	for (int i = 0; i < ROUNDS; i++)
		ms[i] = restore_once(snapshot);
	return median(ms, ROUNDS);
}

static void restore(const char *name)
{
	double peer[ROUNDS];

	store_new();
	qemu_save("", 1);
	for (int i = 0; i < ROUNDS; i++)
		peer[i] = incoming();
	unlink(FILE_OUT);
	ours_save(LARGE, BUSY, "lz4", 1);
	report(name, restore_ours(LARGE), median(peer, ROUNDS), "ms", LESS);
}

/* Ours both: eight times the memory, and far more of it in use, against little. */
static void restore_size(const char *name)
{
	store_new();
	ours_save(SMALL, FEW, "lz4", 1);
	ours_save(LARGE, BUSY, "lz4", 1);
	report(name, restore_ours(LARGE), restore_ours(SMALL), "ms", LESS);
}

int main(int argc, char **argv)
{
	static const struct bench benches[] = {
		{ "qemu-live-snapshot-pause-vs-mapped-ram", live_snapshot },
		{ "freeze-pause-vs-qemu-savevm", savevm },
		{ "drain-vs-qemu-bgsnapshot", drain },
		{ "boot-vs-qemu-microvm", boot },
		{ "snapshot-vs-qemu-mapped-ram", snapshot },
		{ "restore-vs-qemu", restore },
		{ "restore-1g-vs-128m", restore_size },
	};

	return bench_main(argc, argv, benches, sizeof(benches) / sizeof(benches[0]));
}
