// SPDX-License-Identifier: GPL-2.0-only
/* See vmm.h. */
#define _GNU_SOURCE
#include <errno.h>
#include <fcntl.h>
#include <poll.h>
#include <signal.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/prctl.h>
#include <sys/socket.h>
#include <sys/un.h>
#include <sys/wait.h>
#include <unistd.h>

#include "bench.h"
#include "vmm.h"

#define PATIENCE_MS	240000

/* ---- process ---------------------------------------------------------------------- */

void words_one(struct words *w, const char *word)
{
	w->argv[w->nr++] = strdup(word);
}

void words_add(struct words *w, const char *fmt, ...)
{
	char *text, *at, *word;
	va_list ap;

	va_start(ap, fmt);
	if (vasprintf(&text, fmt, ap) < 0)
		die("out of memory");
	va_end(ap);
	for (at = text; (word = strsep(&at, " "));)
		if (*word)
			words_one(w, word);
	free(text);
}

static void become(struct words *w, const int *in, const int *out)
{
	prctl(PR_SET_PDEATHSIG, SIGKILL);
	dup2(in[0], 0);
	dup2(out[1], 1);
	execvp(w->argv[0], w->argv);
	_exit(127);
}

struct vmm *vmm_start(struct words *w)
{
	struct vmm *v = calloc(1, sizeof(*v));
	int in[2], out[2];

	must(pipe2(in, O_CLOEXEC));
	must(pipe2(out, O_CLOEXEC));
	v->qmp = -1;
	v->pid = must(fork());
	if (!v->pid)
		become(w, in, out);
	close(in[0]);
	close(out[1]);
	v->keys = in[1];
	v->console = out[0];
	while (w->nr)
		free(w->argv[--w->nr]);
	memset(w, 0, sizeof(*w));
	return v;
}

void vmm_kill(struct vmm *v)
{
	kill(v->pid, SIGKILL);
	waitpid(v->pid, NULL, 0);
	close(v->console);
	close(v->keys);
	if (v->qmp >= 0)
		close(v->qmp);
	free(v);
}

/* ---- console ----------------------------------------------------------------------- */

/* Appends what @fd has to say; the older half goes when there is no room. */
static void more(int fd, char *text, size_t room, size_t *len, const char *what)
{
	struct pollfd p = { .fd = fd, .events = POLLIN };
	ssize_t n;

	if (*len > room / 2) {
		memmove(text, text + *len / 2, *len - *len / 2);
		*len -= *len / 2;
	}
	errno = ETIMEDOUT;
	if (poll(&p, 1, PATIENCE_MS) != 1)
		die("waiting for %s; so far:\n%s\n", what, text);
	n = read(fd, text + *len, room - *len - 1);
	if (n <= 0) {
		errno = EPIPE;
		die("waiting for %s; it ended:\n%s\n", what, text);
	}
	*len += n;
	text[*len] = 0;
}

uint64_t vmm_expect(struct vmm *v, const char *what)
{
	uint64_t when;
	char *at;

	while (!(at = strstr(v->text, what)))
		more(v->console, v->text, sizeof(v->text), &v->text_len, what);
	when = now_ns();
	at += strlen(what);
	v->text_len -= at - v->text;
	memmove(v->text, at, v->text_len + 1);
	return when;
}

void vmm_forget(struct vmm *v)
{
	int flags = fcntl(v->console, F_GETFL);
	char drop[4096];

	fcntl(v->console, F_SETFL, flags | O_NONBLOCK);
	while (read(v->console, drop, sizeof(drop)) > 0)
		;
	fcntl(v->console, F_SETFL, flags);
	v->text[0] = 0;
	v->text_len = 0;
	v->stop_us = v->resume_us = 0;
	v->migration[0] = v->job[0] = 0;
}

/* ---- monitor ------------------------------------------------------------------------ */

static void value_of(const char *line, const char *key, char *out, size_t room)
{
	const char *at = strstr(line, key);

	if (at)
		snprintf(out, room, "%.*s", (int)strcspn(at + strlen(key), "\""), at + strlen(key));
}

static void news(struct vmm *v, const char *line)
{
	const char *s = strstr(line, "\"seconds\": "), *us = strstr(line, "\"microseconds\": ");
	uint64_t when;

	if (!s || !us)
		return;
	when = strtoull(s + 11, NULL, 10) * 1000000 + strtoull(us + 16, NULL, 10);
	if (strstr(line, "\"event\": \"STOP\""))
		v->stop_us = when;
	else if (strstr(line, "\"event\": \"RESUME\""))
		v->resume_us = when;
	else if (strstr(line, "\"event\": \"MIGRATION\""))
		value_of(line, "\"status\": \"", v->migration, sizeof(v->migration));
	else if (strstr(line, "\"event\": \"JOB_STATUS_CHANGE\""))
		value_of(line, "\"status\": \"", v->job, sizeof(v->job));
}

/* Handles one line; true if it is the answer to a command. */
static bool next_line(struct vmm *v, const char *what)
{
	bool answer;
	char *end;

	while (!(end = memchr(v->line, '\n', v->line_len)))
		more(v->qmp, v->line, sizeof(v->line), &v->line_len, what);
	*end = 0;
	if (strstr(v->line, "\"error\": {"))
		die("%s: %s", what, v->line);
	answer = strstr(v->line, "\"return\": ");
	if (!answer)
		news(v, v->line);
	v->line_len -= end + 1 - v->line;
	memmove(v->line, end + 1, v->line_len);
	return answer;
}

void qmp(struct vmm *v, const char *command, const char *fmt, ...)
{
	char args[1024];
	va_list ap;

	va_start(ap, fmt);
	vsnprintf(args, sizeof(args), fmt, ap);
	va_end(ap);
	must(dprintf(v->qmp, "{\"execute\":\"%s\",\"arguments\":{%s}}\n", command, args));
	while (!next_line(v, command))
		;
}

void qmp_open(struct vmm *v, const char *path)
{
	struct sockaddr_un addr = { .sun_family = AF_UNIX };

	snprintf(addr.sun_path, sizeof(addr.sun_path), "%s", path);
	v->qmp = must(socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0));
	for (int i = 0; connect(v->qmp, (void *)&addr, sizeof(addr)); i++) {
		if (i > 6000)
			die("%s", path);
		usleep(10000);
	}
	qmp(v, "qmp_capabilities", "%s", "");
}

void qmp_capabilities(struct vmm *v, const char *names)
{
	char *copy = strdup(names), *at = copy, *name;

	while ((name = strsep(&at, " ")))
		qmp(v, "migrate-set-capabilities", "\"capabilities\":[{\"capability\":\"%s\",\"state\":true}]",
		    name);
	free(copy);
}

void qmp_wait_migrated(struct vmm *v)
{
	while (strcmp(v->migration, "completed")) {
		if (!strcmp(v->migration, "failed"))
			die("the migration failed");
		next_line(v, "migration");
	}
}

void qmp_wait_job(struct vmm *v)
{
	while (strcmp(v->job, "concluded"))
		next_line(v, "job");
}

void qmp_wait_resume(struct vmm *v)
{
	while (!v->resume_us)
		next_line(v, "RESUME");
}
