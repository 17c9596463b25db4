// SPDX-License-Identifier: GPL-2.0-only
#include "console.h"

#include <errno.h>
#include <fcntl.h>
#include <poll.h>
#include <signal.h>
#include <stdlib.h>
#include <string.h>
#include <termios.h>
#include <unistd.h>
#include <vmplat_fault.h>

#define ESCAPE	1	/* Ctrl-A */

static const char help[] =
	"\r\nvmplat console, after Ctrl-A:\r\n"
	"  x        end the VM at once\r\n"
	"  p        pause the VM, or resume it\r\n"
	"  Ctrl-A   send Ctrl-A to the guest\r\n"
	"  h, ?     this help\r\n";

struct console {
	int in, out;
	bool tty;
	bool escaped;
	struct vmplat_fault_range *crash;
};

/* One terminal a process: what to restore, whatever ends it. */
static struct termios saved;
static volatile sig_atomic_t is_raw;

static void restore_tty(void)
{
	if (is_raw)
		tcsetattr(STDIN_FILENO, TCSANOW, &saved);
	is_raw = 0;
}

static void crash_handler(int sig)
{
	restore_tty();
	signal(sig, SIG_DFL);
	raise(sig);
}

static enum vmplat_fault_verdict crash_of_memory(const struct vmplat_fault *f, void *data)
{
	restore_tty();
	return VMPLAT_FAULT_PASS;
}

int console_open(struct console **out, const char *what)
{
	struct console *c = calloc(1, sizeof(*c));

	*out = NULL;
	if (!c)
		return -ENOMEM;
	c->in = c->out = -1;
	if (!strcmp(what, "stdio")) {
		c->in = STDIN_FILENO;
		c->out = STDOUT_FILENO;
		c->tty = isatty(STDIN_FILENO);
	} else if (strcmp(what, "none")) {
		c->out = open(what, O_WRONLY | O_CREAT | O_APPEND | O_CLOEXEC, 0600);
		if (c->out < 0) {
			int err = errno;

			free(c);
			return -err;
		}
	}
	*out = c;
	return 0;
}

void console_start(struct console *c)
{
	static const int fatal[] = { SIGABRT, SIGFPE, SIGILL };
	struct termios t;

	if (!c->tty || is_raw || tcgetattr(STDIN_FILENO, &saved))
		return;
	atexit(restore_tty);
	for (size_t i = 0; i < sizeof(fatal) / sizeof(fatal[0]); i++)
		signal(fatal[i], crash_handler);
	if (vmplat_fault_add(&c->crash, NULL, 0, crash_of_memory, NULL, 0))
		c->crash = NULL;	/* a terminal that stays raw after a crash is no reason not to run */
	t = saved;
	cfmakeraw(&t);
	is_raw = 1;
	tcsetattr(STDIN_FILENO, TCSANOW, &t);
}

void console_close(struct console *c)
{
	if (!c)
		return;
	if (c->tty)
		restore_tty();
	vmplat_fault_remove(c->crash);
	if (c->out > STDERR_FILENO)
		close(c->out);
	free(c);
}

int console_input_fd(const struct console *c)
{
	return c->in;
}

/* one typed byte: true if it is the guest's */
static bool typed(struct console *c, uint8_t b, enum console_key *key)
{
	if (!c->tty)
		return true;
	if (!c->escaped) {
		c->escaped = b == ESCAPE;
		return !c->escaped;
	}
	c->escaped = false;
	switch (b) {
	case ESCAPE:
		return true;
	case 'x':
	case 'X':
		*key = CONSOLE_QUIT;
		return false;
	case 'p':
	case 'P':
		if (*key != CONSOLE_QUIT)
			*key = CONSOLE_PAUSE;
		return false;
	case 'h':
	case '?':
		console_write(c, (const uint8_t *)help, sizeof(help) - 1);
		return false;
	default:
		return false;
	}
}

size_t console_read(struct console *c, uint8_t *buf, size_t room, enum console_key *key)
{
	uint8_t in[256];
	size_t n = 0;
	ssize_t got;

	*key = CONSOLE_NOTHING;
	if (room > sizeof(in))
		room = sizeof(in);
	got = read(c->in, in, room);
	if (got < 0 && (errno == EINTR || errno == EAGAIN))
		return 0;
	if (got <= 0) {
		c->in = -1;
		*key = CONSOLE_EOF;
		return 0;
	}
	for (ssize_t i = 0; i < got; i++)
		if (typed(c, in[i], key))
			buf[n++] = in[i];
	return n;
}

void console_write(void *console, const uint8_t *p, size_t n)
{
	struct console *c = console;

	while (n && c->out >= 0) {
		ssize_t done = write(c->out, p, n);
		struct pollfd wait = { .fd = c->out, .events = POLLOUT };

		if (done > 0) {
			p += done;
			n -= (size_t)done;
		} else if (done < 0 && errno == EAGAIN) {
			poll(&wait, 1, 1000);
		} else if (done < 0 && errno != EINTR) {
			return;		/* nobody reads it: the guest goes on */
		}
	}
}
