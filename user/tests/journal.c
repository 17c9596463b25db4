// SPDX-License-Identifier: GPL-2.0-only
/* The journal: what a power cut, damage, or a full disk leaves of it. */
#include <errno.h>
#include <fcntl.h>
#include <signal.h>
#include <stdlib.h>
#include <string.h>
#include <sys/resource.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <unistd.h>

#include "lib/journal.h"
#include "tap.h"

static char dir[] = "/tmp/vmplat-journal.XXXXXX";
static int dirfd;

struct seen {
	char lines[64][128];
	size_t nr;
};

static int remember(void *ctx, const char *text)
{
	struct seen *s = ctx;

	if (s->nr == 64 || strlen(text) >= 128)
		return -E2BIG;
	strcpy(s->lines[s->nr++], text);
	return 0;
}

static struct journal *open_journal(struct seen *s, int *rc)
{
	struct journal *j;
	int ret;

	s->nr = 0;
	ret = journal_open(&j, dirfd, "j", 0, remember, s);
	if (rc)
		*rc = ret;
	return j;
}

static void begin(void)
{
	unlinkat(dirfd, "j", 0);
}

static size_t slurp(char *buf, size_t room)
{
	int fd = openat(dirfd, "j", O_RDONLY);
	ssize_t n = read(fd, buf, room);

	close(fd);
	return n < 0 ? 0 : n;
}

static void spill(const char *buf, size_t n)
{
	int fd = openat(dirfd, "j", O_WRONLY | O_CREAT | O_TRUNC, 0644);

	if (write(fd, buf, n) != (ssize_t)n)
		abort();
	close(fd);
}

/* With a hole. */
static void truncate_to(off_t n)
{
	int fd = openat(dirfd, "j", O_WRONLY);

	if (ftruncate(fd, n))
		abort();
	close(fd);
}

/* Four records as a file; how long each prefix of records is goes to @ends. */
static size_t make(char *buf, size_t room, size_t ends[5])
{
	struct seen s;
	struct journal *j;

	begin();
	j = open_journal(&s, NULL);
	ends[0] = 0;
	for (int i = 0; i < 4; i++) {
		if (journal_append(j, "record n=%d %.*s", i, i * 9, "abcdefghijklmnopqrstuvwxyz0123456789"))
			abort();
		ends[i + 1] = journal_bytes(j);
	}
	journal_close(j);
	return slurp(buf, room);
}

TEST(empty_and_appended)
{
	struct seen s;
	struct journal *j;

	begin();
	j = open_journal(&s, NULL);
	REQUIRE(j);
	CHECK_EQ(s.nr, 0);
	CHECK_EQ(journal_append(j, "one"), 0);
	CHECK_EQ(journal_append(j, "two two"), 0);
	CHECK_EQ(journal_append(j, "th\nree"), -EINVAL);
	CHECK_EQ(journal_append(j, "%5000d", 1), -EMSGSIZE);
	journal_close(j);
	j = open_journal(&s, NULL);
	REQUIRE(j);
	CHECK_EQ(s.nr, 2);
	CHECK(!strcmp(s.lines[0], "one") && !strcmp(s.lines[1], "two two"));
	journal_close(j);
}

/* Cut anywhere: the whole records before the cut, and going on behind them. */
TEST(torn_anywhere)
{
	char buf[1024];
	size_t ends[5], n = make(buf, sizeof(buf), ends);

	for (size_t cut = 0; cut <= n; cut++) {
		size_t whole = 0;
		struct seen s;
		struct journal *j;

		while (whole < 4 && ends[whole + 1] <= cut)
			whole++;
		spill(buf, cut);
		j = open_journal(&s, NULL);
		REQUIRE(j);
		CHECK_EQ(s.nr, whole);
		CHECK_EQ(journal_append(j, "behind"), 0);
		journal_close(j);
		j = open_journal(&s, NULL);
		REQUIRE(j);
		CHECK_EQ(s.nr, whole + 1);
		CHECK(!strcmp(s.lines[whole], "behind"));
		journal_close(j);
	}
}

/* A file system may have given the file its length before its bytes. */
TEST(torn_with_zeroes)
{
	char buf[1024];
	size_t ends[5], n = make(buf, sizeof(buf), ends);

	for (size_t cut = ends[3]; cut < n; cut++) {
		struct seen s;
		struct journal *j;
		char torn[1024] = "";

		memcpy(torn, buf, cut);
		spill(torn, n + 50);
		j = open_journal(&s, NULL);
		REQUIRE(j);
		CHECK_EQ(s.nr, 3);
		CHECK_EQ(journal_bytes(j), ends[3]);
		journal_close(j);
	}
}

/* One bit wrong anywhere: an error, or, in the last record, a history without it. Never another. */
TEST(damaged_anywhere)
{
	char buf[1024];
	size_t ends[5], n = make(buf, sizeof(buf), ends);

	for (size_t at = 0; at < n; at++) {
		for (int bit = 0; bit < 8; bit++) {
			struct seen s;
			struct journal *j;
			int rc;

			buf[at] ^= 1 << bit;
			spill(buf, n);
			j = open_journal(&s, &rc);
			if (j) {
				CHECK(at >= ends[3]);
				CHECK_EQ(s.nr, 3);
			} else {
				CHECK_EQ(rc, -EBADMSG);
			}
			journal_close(j);
			buf[at] ^= 1 << bit;
		}
	}
}

TEST(a_record_taken_out)
{
	char buf[1024];
	size_t ends[5], n = make(buf, sizeof(buf), ends);
	struct seen s;
	int rc;

	memmove(buf + ends[1], buf + ends[2], n - ends[2]);
	spill(buf, n - (ends[2] - ends[1]));
	CHECK(!open_journal(&s, &rc));
	CHECK_EQ(rc, -EBADMSG);
}

/* A crash tears one record. If more cannot be read, something else has happened. */
TEST(torn_end_of_more_than_a_record)
{
	char buf[8192];
	size_t ends[5], n = make(buf, 1024, ends);
	struct seen s;
	int rc;

	memset(buf + n, 'x', sizeof(buf) - n);
	spill(buf, n + 4096);
	journal_close(open_journal(&s, &rc));
	CHECK_EQ(rc, 0);
	CHECK_EQ(s.nr, 4);
	spill(buf, n + 4097);
	CHECK(!open_journal(&s, &rc));
	CHECK_EQ(rc, -EBADMSG);
}

TEST(torn_is_told)
{
	char buf[1024];
	size_t ends[5], n = make(buf, sizeof(buf), ends);
	struct journal *j;
	struct seen s;

	spill(buf, n - 1);
	for (int i = 0; i < 2; i++) {
		s.nr = 0;
		CHECK_EQ(journal_open(&j, dirfd, "j", JOURNAL_READ, remember, &s), 0);
		CHECK(journal_torn(j));		/* who looks, repairs nothing */
		journal_close(j);
	}
	for (int i = 0; i < 2; i++) {
		j = open_journal(&s, NULL);
		REQUIRE(j);
		CHECK_EQ(journal_torn(j), !i);
		journal_close(j);
	}
}

/* What comes before damage has been told, to who looks and to who would write. */
TEST(true_before_damage)
{
	char buf[1024];
	size_t ends[5], n = make(buf, sizeof(buf), ends);
	struct journal *j;
	struct seen s;

	buf[ends[2] + 20] ^= 1;
	spill(buf, n);
	for (unsigned int flags = 0; flags <= JOURNAL_READ; flags++) {
		s.nr = 0;
		CHECK_EQ(journal_open(&j, dirfd, "j", flags, remember, &s), -EBADMSG);
		CHECK(!j);
		CHECK_EQ(s.nr, 2);
	}
}

/* With a head, what begins otherwise is left alone; an empty file is not: nobody's, or killed before. */
TEST(head)
{
	static const char *const lines[] = { "head" };
	char buf[1024], then[1024];
	size_t ends[5], n = make(buf, sizeof(buf), ends);
	struct journal *j;
	struct seen s;

	for (size_t cut = 0; cut <= ends[1]; cut++) {
		bool good = !cut || cut == ends[1];

		spill(buf, cut);
		s.nr = 0;
		CHECK_EQ(journal_open(&j, dirfd, "j", JOURNAL_HEAD, remember, &s), good ? 0 : -EBADMSG);
		CHECK_EQ(s.nr, cut == ends[1]);
		journal_close(j);
		n = slurp(then, sizeof(then));
		CHECK(n == cut && !memcmp(buf, then, n));
	}
	begin();
	CHECK_EQ(journal_open(&j, dirfd, "j", JOURNAL_HEAD, remember, &s), 0);
	CHECK_EQ(journal_replace(j, lines, 1), 0);
	CHECK_EQ(journal_append(j, "tail"), 0);
	spill(buf, slurp(buf, sizeof(buf)) - 1);
	journal_close(j);
	s.nr = 0;
	CHECK_EQ(journal_open(&j, dirfd, "j", JOURNAL_HEAD, remember, &s), 0);
	CHECK_EQ(s.nr, 1);
	CHECK(journal_torn(j));
	journal_close(j);
}

TEST(no_file)
{
	struct journal *j;
	struct seen s;

	begin();
	REQUIRE(!mkfifoat(dirfd, "j", 0644));
	CHECK_EQ(journal_open(&j, dirfd, "j", 0, remember, &s), -EBADMSG);
	begin();
	spill("", 0);
	truncate_to((1LL << 30) + 1);
	CHECK_EQ(journal_open(&j, dirfd, "j", 0, remember, &s), -EFBIG);
	begin();
}

TEST(replaced)
{
	static const char *const lines[] = { "next id=7", "rest" };
	struct seen s;
	struct journal *j;
	char buf[1024];
	size_t ends[5];

	make(buf, sizeof(buf), ends);
	j = open_journal(&s, NULL);
	REQUIRE(j);
	CHECK_EQ(journal_replace(j, lines, 2), 0);
	CHECK_EQ(journal_append(j, "more"), 0);
	journal_close(j);
	j = open_journal(&s, NULL);
	REQUIRE(j);
	CHECK_EQ(s.nr, 3);
	CHECK(!strcmp(s.lines[0], "next id=7") && !strcmp(s.lines[2], "more"));
	journal_close(j);
}

/* A full disk, as RLIMIT_FSIZE makes one: nothing is added, and what is there stays. */
TEST(full_disk)
{
	struct rlimit old, full;
	struct journal *j;
	struct seen s;
	char buf[1024];
	size_t ends[5];

	make(buf, sizeof(buf), ends);
	signal(SIGXFSZ, SIG_IGN);
	getrlimit(RLIMIT_FSIZE, &old);
	full = (struct rlimit) { .rlim_cur = ends[4] + 5, .rlim_max = old.rlim_max };
	j = open_journal(&s, NULL);
	REQUIRE(j);
	setrlimit(RLIMIT_FSIZE, &full);
	CHECK_EQ(journal_append(j, "too much"), -EFBIG);
	CHECK_EQ(journal_bytes(j), ends[4]);
	setrlimit(RLIMIT_FSIZE, &old);
	CHECK_EQ(journal_append(j, "again"), 0);
	journal_close(j);
	j = open_journal(&s, NULL);
	REQUIRE(j);
	CHECK_EQ(s.nr, 5);
	CHECK(!strcmp(s.lines[4], "again"));
	journal_close(j);
}

/* A process that has it open keeps others waiting, and no longer than it lives. */
TEST(lock_ends_with_its_process)
{
	int pipes[2];
	struct journal *j;
	struct seen s;
	char c;
	pid_t pid;

	begin();
	REQUIRE(!pipe(pipes));
	pid = fork();
	if (!pid) {
		j = open_journal(&s, NULL);
		journal_append(j, "child");
		if (write(pipes[1], "x", 1) == 1)
			pause();
		_exit(1);
	}
	REQUIRE(read(pipes[0], &c, 1) == 1);
	CHECK_EQ(journal_open(&j, dirfd, "nothing", JOURNAL_READ, remember, &s), 0);
	journal_close(j);
	s.nr = 0;
	CHECK_EQ(journal_open(&j, dirfd, "j", JOURNAL_READ, remember, &s), 0);	/* does not wait */
	CHECK_EQ(s.nr, 1);
	journal_close(j);
	CHECK_EQ(journal_open(&j, dirfd, "j", JOURNAL_NOWAIT, remember, &s), -EBUSY);
	CHECK(!j);
	CHECK_EQ(kill(pid, 0), 0);
	kill(pid, SIGKILL);
	j = open_journal(&s, NULL);
	REQUIRE(j);
	CHECK_EQ(s.nr, 1);
	journal_close(j);
	waitpid(pid, NULL, 0);
	close(pipes[0]);
	close(pipes[1]);
}

TEST(words)
{
	char buf[64], line[200], small[5];

	CHECK(!strcmp(journal_quote("a b=c%\n", buf, sizeof(buf)), "a%20b%3dc%25%0a"));
	snprintf(line, sizeof(line), "begin id=7 owner=%s driver= xid=9", buf);
	CHECK(journal_value(line, "owner", buf, sizeof(buf)) && !strcmp(buf, "a b=c%\n"));
	CHECK(journal_value(line, "driver", buf, sizeof(buf)) && !*buf);
	CHECK(journal_value(line, "id", buf, sizeof(buf)) && !strcmp(buf, "7"));
	CHECK(!journal_value(line, "d", buf, sizeof(buf)));
	CHECK(!journal_value(line, "owner", small, sizeof(small)));
	CHECK(!*journal_quote("abcdef", small, sizeof(small)));
}

int main(void)
{
	char cmd[64];

	if (!mkdtemp(dir))
		return 1;
	dirfd = open(dir, O_RDONLY | O_DIRECTORY);
	RUN(empty_and_appended);
	RUN(torn_anywhere);
	RUN(torn_with_zeroes);
	RUN(damaged_anywhere);
	RUN(a_record_taken_out);
	RUN(torn_end_of_more_than_a_record);
	RUN(torn_is_told);
	RUN(true_before_damage);
	RUN(head);
	RUN(no_file);
	RUN(replaced);
	RUN(full_disk);
	RUN(lock_ends_with_its_process);
	RUN(words);
	close(dirfd);
	snprintf(cmd, sizeof(cmd), "rm -rf %s", dir);
	return system(cmd) ? 1 : tap_done();
}
