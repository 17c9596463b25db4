/* SPDX-License-Identifier: GPL-2.0-only */
/*
 * A program in QEMU's place that speaks its protocol: the test itself, called as
 * qemu-system-riscv64. main() is to begin with
 *
 *	if (fake_qemu_called(argv))
 *		return fake_qemu(argc, argv);
 *	if (fake_qemu_install())
 *		return 1;
 *
 * and to end with fake_qemu_remove(). Words on the guest's command line change what it
 * does: "complain" does not start, "mortal" ends with status 3 at a reset and with 0 at
 * the power button. cont counts up the first byte of guest memory.
 */
#ifndef VMPLAT_TESTS_FAKE_QEMU_H
#define VMPLAT_TESTS_FAKE_QEMU_H

#include <fcntl.h>
#include <poll.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <unistd.h>

#include "run/line.h"
#include "run/qmp.h"

#define STATE	"state of devices"

struct fake {
	int console, commands, events;
	int pipe;			/* getfd's */
	const char *status;		/* of a migration */
	unsigned int looks;		/* at its jobs */
	bool cancelled, mortal;
	unsigned char *memory;
};

static int number_behind(const char *text, const char *key)
{
	const char *at = strstr(text, key);

	return at ? atoi(at + strlen(key)) : -1;
}

static void fake_send(int fd, const char *text)
{
	if (write(fd, text, strlen(text)) < 0 || write(fd, "\r\n", 2) < 0)
		_exit(9);
}

/* "migrate" writes a state, "migrate-incoming" takes that and no other */
static void fake_migrate(struct fake *f, bool incoming)
{
	char buf[100] = "";
	ssize_t n = 0, at = 0;

	if (incoming)
		while (at < 99 && (n = read(f->pipe, buf + at, 99 - (size_t)at)) > 0)
			at += n;
	else
		n = write(f->pipe, STATE, strlen(STATE));
	f->status = n < 0 || (incoming && strcmp(buf, STATE)) ?
		    "{\"return\": {\"status\": \"failed\", \"error-desc\": \"not mine\"}}" :
		    "{\"return\": {\"status\": \"completed\"}}";
	close(f->pipe);
}

/* of a disk: running when it is looked at first, then complete, or cancelled for as long as it is asked */
static bool fake_copies(struct fake *f, const char *cmd)
{
	static const char job[] = "{\"return\": [{\"id\": \"other\"}, {\"id\": \"copy-root\", \"status\": \"%s\", \"current-progress\": 512%s}]}";
	char text[300];

	if (!strcmp(cmd, "add-fd")) {
		fake_send(f->commands, "{\"return\": {\"fdset-id\": 7, \"fd\": 9}}");
	} else if (!strcmp(cmd, "query-jobs")) {
		snprintf(text, sizeof(text), job, f->looks++ ? "concluded" : "running",
			 f->cancelled ? ", \"error\": \"it was cancelled\"" : "");
		fake_send(f->commands, text);
	} else if (!strcmp(cmd, "blockdev-set-active") && f->cancelled) {
		fake_send(f->commands, "{\"error\": {\"desc\": \"The command has not been found\"}}");
	} else if (!strcmp(cmd, "job-cancel")) {
		f->cancelled = true;
		f->looks = 0;
		fake_send(f->commands, "{\"return\": {}}");
	} else if (!strcmp(cmd, "remove-fd")) {
		f->memory[1]++;		/* all of it is forgotten */
		fake_send(f->commands, "{\"return\": {}}");
	} else {
		return false;
	}
	return true;
}

static void fake_command(struct fake *f, struct json_object *msg)
{
	const char *cmd = qmp_text(msg, "execute");

	if (!strcmp(cmd, "qom-get")) {
		fake_send(f->commands, "{\"return\": \"virt-9.2-machine\"}");
		return;
	}
	if (fake_copies(f, cmd))
		return;
	if (!strcmp(cmd, "query-migrate")) {
		fake_send(f->commands, f->status);
		return;
	}
	if (!strcmp(cmd, "cont"))
		f->memory[0]++;		/* what the guest does */
	fake_send(f->commands, "{\"return\": {}}");
	if (!strcmp(cmd, "migrate") || !strcmp(cmd, "migrate-incoming"))
		fake_migrate(f, cmd[7]);
	if (f->mortal && !strcmp(cmd, "system_powerdown")) {
		fake_send(f->events, "{\"event\": \"SHUTDOWN\", \"data\": {\"guest\": true}}");
		_exit(0);
	}
	if (f->mortal && !strcmp(cmd, "system_reset")) {
		fprintf(stderr, "first words\nlast words\n");
		_exit(3);
	}
}

static int fake_map(const char *object, struct fake *f)
{
	char path[40];
	int fd;

	snprintf(path, sizeof(path), "/proc/self/fd/%d", number_behind(object, "mem-path=/proc/self/fd/"));
	fd = open(path, O_RDWR);
	f->memory = mmap(NULL, 4096, PROT_READ | PROT_WRITE, MAP_SHARED, fd, 0);
	return fd < 0 || f->memory == MAP_FAILED;
}

static int fake_qemu(int argc, char **argv)
{
	static const char greeting[] = "{\"QMP\": {}}";
	struct fake f = { .console = -1, .pipe = -1, .status = "{\"return\": {}}" };
	struct json_object *msg;
	struct line_io io, other;

	for (int i = 0; i < argc; i++) {
		if (!strncmp(argv[i], "socket,id=console,", 18))
			f.console = number_behind(argv[i], "fd=");
		if (!strncmp(argv[i], "socket,id=commands,", 19))
			f.commands = number_behind(argv[i], "fd=");
		if (!strncmp(argv[i], "socket,id=events,", 17))
			f.events = number_behind(argv[i], "fd=");
		if (!strncmp(argv[i], "memory-backend-file", 19) && fake_map(argv[i], &f))
			return 8;
		f.mortal |= strstr(argv[i], "mortal") != NULL;
		if (strstr(argv[i], "complain")) {
			fprintf(stderr, "qemu: I do not like that\n");
			return 1;
		}
	}
	line_init(&io, f.commands);
	line_init(&other, f.events);
	fake_send(f.commands, greeting);
	fake_send(f.events, greeting);
	for (;;) {
		struct pollfd p[] = {
			{ f.commands, POLLIN, 0 }, { f.console, POLLIN, 0 }, { f.events, POLLIN, 0 },
		};
		int fds[LINE_FDS_MAX], ret;
		char buf[64];
		ssize_t n;

		if (!memchr(io.buf ? io.buf : "", '\n', io.len) && poll(p, 3, -1) < 0)
			return 7;
		if (p[2].revents) {
			if (line_recv(&other, &msg) < 0)
				return 4;
			fake_send(f.events, "{\"return\": {}}");
		}
		if (p[1].revents && (n = read(f.console, buf, sizeof(buf))) > 0 &&
		    write(f.console, buf, (size_t)n) < 0)
			return 6;
		if (!p[0].revents && !io.len)
			continue;
		ret = line_recv(&io, &msg);
		if (ret < 0)
			return 5;
		if (line_take_fds(&io, fds))
			f.pipe = fds[0];
		if (ret)
			fake_command(&f, msg);
	}
}

/* ---- in its place ---------------------------------------------------------------------- */

static char fake_dir[] = "/tmp/vmplat-qemu-XXXXXX", fake_path[200];

static bool fake_qemu_called(char **argv)
{
	return strstr(argv[0], "qemu-system-") != NULL;
}

/* alone on PATH; 0 or 1 */
static int fake_qemu_install(void)
{
	char self[200] = "";

	if (!mkdtemp(fake_dir) || readlink("/proc/self/exe", self, sizeof(self) - 1) < 0)
		return 1;
	snprintf(fake_path, sizeof(fake_path), "%s/qemu-system-riscv64", fake_dir);
	if (symlink(self, fake_path))
		return 1;
	return setenv("PATH", fake_dir, 1) ? 1 : 0;
}

static void fake_qemu_remove(void)
{
	unlink(fake_path);
	rmdir(fake_dir);
}

#endif
