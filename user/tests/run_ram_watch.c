// SPDX-License-Identifier: GPL-2.0-only
/* Guest memory that is taken away: the process says which it was, and ends by the fault. */
#include <signal.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/resource.h>
#include <sys/wait.h>
#include <unistd.h>

#include "run/ram_watch.h"
#include "tap.h"

#define PAGE	4096
#define GPA	0x100000000ULL

static uint8_t *map(int *fd)
{
	uint8_t *ram;

	*fd = memfd_create("ram", MFD_CLOEXEC);
	if (*fd < 0 || ftruncate(*fd, 4 * PAGE))
		abort();
	ram = mmap(NULL, 4 * PAGE, PROT_READ | PROT_WRITE, MAP_SHARED, *fd, 0);
	if (ram == MAP_FAILED)
		abort();
	return ram;
}

static void touch_what_is_gone(int err)
{
	struct rlimit none = { 0, 0 };
	struct ram_watch w = { };
	int fd;
	volatile uint8_t *ram = map(&fd);

	setrlimit(RLIMIT_CORE, &none);
	signal(SIGBUS, SIG_DFL);
	dup2(err, STDERR_FILENO);
	ram_watch_end(&w);
	if (ram_watch_begin(&w, "web", (uint8_t *)ram, 4 * PAGE, GPA))
		_exit(2);
	ram[3 * PAGE] = 1;
	if (ftruncate(fd, 2 * PAGE))
		_exit(3);
	ram[3 * PAGE + 5] = 1;
	_exit(4);
}

TEST(last_words)
{
	static const char want[] = "vmplat: web: guest memory cannot be reached, the VM ends: SIGBUS: ";
	char said[300];
	int p[2], status;
	ssize_t n;
	pid_t pid;

	REQUIRE(!pipe(p));
	pid = fork();
	if (!pid)
		touch_what_is_gone(p[1]);
	close(p[1]);
	waitpid(pid, &status, 0);
	for (n = 0; n < (ssize_t)sizeof(said) - 1; ) {
		ssize_t more = read(p[0], said + n, sizeof(said) - 1 - (size_t)n);

		if (more <= 0)
			break;
		n += more;
	}
	said[n] = 0;
	close(p[0]);
	CHECK(WIFSIGNALED(status) && WTERMSIG(status) == SIGBUS);
	CHECK(!strncmp(said, want, sizeof(want) - 1));
	CHECK(strstr(said, "0x100003005"));
}

TEST(ends)
{
	struct ram_watch w;
	int fd;
	uint8_t *ram = map(&fd);

	CHECK(!ram_watch_begin(&w, "a", ram, 4 * PAGE, 0));
	ram_watch_end(&w);
	CHECK(!w.range);
	CHECK(!ram_watch_begin(&w, "b", ram, 4 * PAGE, 0));
	ram_watch_end(&w);
	munmap(ram, 4 * PAGE);
	close(fd);
}

int main(void)
{
	RUN(last_words);
	RUN(ends);
	return tap_done();
}
