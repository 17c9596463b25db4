/* SPDX-License-Identifier: GPL-2.0-only */
/* The console: raw on a terminal and put back whatever happens, plain elsewhere. */
#include <errno.h>
#include <fcntl.h>
#include <pty.h>
#include <signal.h>
#include <stdlib.h>
#include <string.h>
#include <sys/wait.h>
#include <termios.h>
#include <unistd.h>

#include "run/console.h"
#include "tap.h"

static int master, kept_in, kept_out;

/* Standard input and output become @fd until give_back(). */
static void take(int fd)
{
	fflush(stdout);
	kept_in = dup(STDIN_FILENO);
	kept_out = dup(STDOUT_FILENO);
	dup2(fd, STDIN_FILENO);
	dup2(fd, STDOUT_FILENO);
	close(fd);
}

static void give_back(void)
{
	dup2(kept_in, STDIN_FILENO);
	dup2(kept_out, STDOUT_FILENO);
	close(kept_in);
	close(kept_out);
}

static struct console *on_terminal(void)
{
	struct console *c;
	int slave;

	if (openpty(&master, &slave, NULL, NULL, NULL))
		abort();
	take(slave);
	if (console_open(&c, "stdio"))
		abort();
	console_start(c);
	return c;
}

static void off_terminal(struct console *c)
{
	console_close(c);
	give_back();
	close(master);
}

static bool raw(int fd)
{
	struct termios t;

	tcgetattr(fd, &t);
	return !(t.c_lflag & (ICANON | ECHO | ISIG)) && !(t.c_oflag & OPOST);
}

/* What the guest gets of @keys, typed at once, and what the runner is told. */
static size_t type(struct console *c, const char *keys, uint8_t *got, enum console_key *key)
{
	if (write(master, keys, strlen(keys)) != (ssize_t)strlen(keys))
		abort();
	return console_read(c, got, 64, key);
}

TEST(terminal_is_raw_and_comes_back)
{
	struct console *c = on_terminal();
	bool was = raw(STDIN_FILENO), is;

	console_close(c);
	is = raw(STDIN_FILENO);
	give_back();
	close(master);
	CHECK(was);
	CHECK(!is);
}

TEST(keys)
{
	static const struct {
		const char *typed;
		const char *guest;
		enum console_key key;
	} cases[] = {
		{ "ls\r", "ls\r", CONSOLE_NOTHING },
		{ "\003\032", "\003\032", CONSOLE_NOTHING },	/* Ctrl-C, Ctrl-Z */
		{ "\001x", "", CONSOLE_QUIT },
		{ "\001p", "", CONSOLE_PAUSE },
		{ "a\001pb", "ab", CONSOLE_PAUSE },
		{ "\001\001", "\001", CONSOLE_NOTHING },
		{ "\001qz", "z", CONSOLE_NOTHING },
		{ "\001x\001p", "", CONSOLE_QUIT },	/* pasted: the end is the end */
	};
	struct console *c = on_terminal();
	bool right[sizeof(cases) / sizeof(cases[0])];

	for (size_t i = 0; i < sizeof(cases) / sizeof(cases[0]); i++) {
		enum console_key key;
		uint8_t got[64];
		size_t n = type(c, cases[i].typed, got, &key);

		right[i] = n == strlen(cases[i].guest) && !memcmp(got, cases[i].guest, n) &&
			   key == cases[i].key;
	}
	off_terminal(c);
	for (size_t i = 0; i < sizeof(cases) / sizeof(cases[0]); i++)
		CHECK(right[i]);
}

TEST(escape_in_two_reads)
{
	struct console *c = on_terminal();
	enum console_key first, second;
	uint8_t got[64];
	size_t n = type(c, "\001", got, &first);

	n += type(c, "x", got, &second);
	off_terminal(c);
	CHECK(!n);
	CHECK(first == CONSOLE_NOTHING);
	CHECK(second == CONSOLE_QUIT);
}

TEST(help_is_for_people)
{
	struct console *c = on_terminal();
	enum console_key key;
	uint8_t got[64];
	char said[512] = "";
	size_t n = type(c, "\001h", got, &key);
	ssize_t len = read(master, said, sizeof(said) - 1);

	off_terminal(c);
	CHECK(!n);
	CHECK(len > 0 && strstr(said, "Ctrl-A") && strstr(said, "pause"));
}

/* Whatever ends the process: a crash and exit(3) without console_close(). */
static bool comes_back_after(bool crash)
{
	int slave, status;
	bool cooked;
	pid_t pid;

	if (openpty(&master, &slave, NULL, NULL, NULL))
		abort();
	pid = fork();
	if (!pid) {
		struct console *c;

		take(slave);
		if (console_open(&c, "stdio"))
			_exit(1);
		console_start(c);
		if (!raw(STDIN_FILENO))
			_exit(1);
		if (crash)
			raise(SIGBUS);
		exit(0);
	}
	waitpid(pid, &status, 0);
	cooked = !raw(slave);
	close(slave);
	close(master);
	return cooked && (crash ? WIFSIGNALED(status) : WIFEXITED(status) && !WEXITSTATUS(status));
}

TEST(terminal_comes_back_after_crash)
{
	CHECK(comes_back_after(true));
}

TEST(terminal_comes_back_after_exit)
{
	CHECK(comes_back_after(false));
}

TEST(pipe_is_plain)
{
	struct console *c;
	enum console_key key, end;
	uint8_t got[64];
	int in[2];
	size_t n, more;

	if (pipe(in) || write(in[1], "\001x\n", 3) != 3)
		abort();
	close(in[1]);
	take(in[0]);
	if (console_open(&c, "stdio"))
		abort();
	console_start(c);
	n = console_read(c, got, sizeof(got), &key);
	more = console_read(c, got + n, sizeof(got) - n, &end);
	console_close(c);
	give_back();
	CHECK(n == 3 && !memcmp(got, "\001x\n", 3));
	CHECK(key == CONSOLE_NOTHING);
	CHECK(!more && end == CONSOLE_EOF);
}

TEST(file_takes_output)
{
	char name[] = "/tmp/run_console-XXXXXX", back[16] = "";
	int fd = mkstemp(name);
	struct console *c;

	CHECK(!console_open(&c, name));
	CHECK_EQ(console_input_fd(c), -1);
	console_write(c, (const uint8_t *)"boot\n", 5);
	console_close(c);
	CHECK_EQ(read(fd, back, sizeof(back)), 5);
	CHECK(!memcmp(back, "boot\n", 5));
	close(fd);
	unlink(name);
}

TEST(bad_file)
{
	struct console *c;

	CHECK_EQ(console_open(&c, "/nonexistent/console"), -ENOENT);
	CHECK(!c);
}

int main(void)
{
	signal(SIGBUS, SIG_DFL);	/* not the sanitizer's: a crash is a signal */
	RUN(terminal_is_raw_and_comes_back);
	RUN(keys);
	RUN(escape_in_two_reads);
	RUN(help_is_for_people);
	RUN(terminal_comes_back_after_crash);
	RUN(terminal_comes_back_after_exit);
	RUN(pipe_is_plain);
	RUN(file_takes_output);
	RUN(bad_file);
	return tap_done();
}
