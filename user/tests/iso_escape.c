/* SPDX-License-Identifier: GPL-2.0-only */
/*
 * Discs that want to write outside of the directory they are extracted to: a link that
 * leads out, and a directory of the same name with a file in it; names with ".."; links, and
 * files with a second name outside, that are in the target already; directories that become
 * links meanwhile; devices and set-ID bits. All of it twice: with openat2(), and as on kernels without it.
 */
#include <dirent.h>
#include <linux/filter.h>
#include <linux/seccomp.h>
#include <signal.h>
#include <stddef.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/prctl.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <sys/wait.h>
#include <ucontext.h>

#include "cli/iso.h"
#include "iso_image.h"
#include "tap.h"

static char base[] = "/tmp/iso-escape.XXXXXX";
static char target[60], outside[] = "/tmp/XXXXX";	/* as long as the link on the disc can be */
static char victim[] = "/tmp/XXXXX/v";
static const char before[] = "nothing of the disc";
#define BEFORE_TIME 1000

static unsigned int entries(const char *dir)
{
	unsigned int nr = 0;
	DIR *d = opendir(dir);
	struct dirent *e;

	while (d && (e = readdir(d)))
		nr += strcmp(e->d_name, ".") && strcmp(e->d_name, "..");
	if (d)
		closedir(d);
	return nr;
}

/* five letters, of which no file in /tmp is called yet */
static void make_outside(void)
{
	const struct timespec then[2] = { { BEFORE_TIME, 0 }, { BEFORE_TIME, 0 } };
	FILE *f;

	for (unsigned int i = (unsigned int)getpid(); ; i++) {
		sprintf(outside, "/tmp/%05x", i & 0xfffff);
		if (!mkdir(outside, 0700))
			break;
		if (errno != EEXIST)
			abort();
	}
	snprintf(victim, sizeof(victim), "%s/v", outside);
	f = fopen(victim, "w");
	if (!f || fputs(before, f) < 0 || fclose(f) || chmod(victim, 0600) ||
	    utimensat(AT_FDCWD, victim, then, 0) || utimensat(AT_FDCWD, outside, then, 0))
		abort();
}

static bool untouched(const char *path, mode_t mode)
{
	struct stat st;

	return !stat(path, &st) && st.st_mode == mode && st.st_mtime == BEFORE_TIME && st.st_uid == geteuid();
}

static void check_outside(void)
{
	char text[100] = "";
	FILE *f = fopen(victim, "r");

	CHECK(f && fgets(text, sizeof(text), f) && !strcmp(text, before));
	if (f)
		fclose(f);
	CHECK(untouched(victim, 0100600));
	CHECK(untouched(outside, 040700));
	CHECK_EQ(entries(outside), 1);
	CHECK_EQ(entries(base), 1);
}

enum { OVERWRITE = 1, OWNER = 2, PLAIN = 4, JSON = 8 };

/* @path alone, or everything */
static int extract(struct disc *d, const char *path, int how)
{
	char *args[10] = { "extract", "-C", target }, image[40];
	int fd = disc_fd(d), nr = 3, rc;

	snprintf(image, sizeof(image), "/proc/self/fd/%d", fd);
	if (how & OVERWRITE)
		args[nr++] = "--overwrite";
	if (how & OWNER)
		args[nr++] = "--owner";
	if (how & JSON)
		args[nr++] = "--json";
	if (how & PLAIN)
		args[nr++] = "--tree=iso";
	args[nr++] = image;
	if (path)
		args[nr++] = strdup(path);
	rc = iso_extract(nr, args);
	if (path)
		free(args[nr - 1]);
	close(fd);
	return rc;
}

static void begin(void)
{
	strcpy(base + strlen(base) - 6, "XXXXXX");
	if (!mkdtemp(base))
		abort();
	snprintf(target, sizeof(target), "%s/target", base);
	if (mkdir(target, 0700))
		abort();
	make_outside();
}

static void end(void)
{
	char cmd[100];

	snprintf(cmd, sizeof(cmd), "chmod -R u+w %s && rm -rf %s %s", base, base, outside);
	if (system(cmd))
		abort();
}

static void check_and_end(void)
{
	check_outside();
	CHECK(entries(target) > 3);
	end();
}

static const char *in_target(const char *name)
{
	static char path[100];

	snprintf(path, sizeof(path), "%s/%s", target, name);
	return path;
}

static mode_t mode_of(const char *name)
{
	struct stat st;

	return lstat(in_target(name), &st) ? 0 : st.st_mode;
}

static bool leads_outside(const char *name)
{
	char to[40] = "";

	return readlink(in_target(name), to, sizeof(to) - 1) > 0 && !strcmp(to, outside);
}

/* set-ID bits and owners are for root to restore */
static int all_rights(void)
{
	return geteuid() ? OVERWRITE : OVERWRITE | OWNER;
}

/* "link" leads outside, and is called as the directory "sub" behind it, in which files lie */
TEST(through_a_link)
{
	struct disc d = iso_disc();
	uint8_t *r = find_record(&d, AT_ROOT, "LINK.;1", 7), *nm = find_field(r, "NM"), *sl;

	begin();
	memcpy(nm + 5, "sub", 3);
	nm[2]--;
	memmove(nm + 8, nm + 9, (size_t)(r + r[0] - (nm + 9)));
	sl = find_field(r, "SL");
	memcpy(sl + 5, "\x8\0\0\3tmp\0\5", 9);
	memcpy(sl + 14, outside + 5, 5);
	extract(&d, NULL, all_rights());
	/* the link came first, and nothing went through it */
	CHECK(leads_outside("sub"));
	/* a second time, over what is there now */
	extract(&d, NULL, all_rights());
	check_and_end();
	disc_free(&d);
}

/* how many directories it says that it made */
static int directories_made(struct disc *d)
{
	static const char key[] = "\"directories\": ";
	int real = dup(STDOUT_FILENO), fd = memfd_create("counts", MFD_CLOEXEC);
	char text[500] = "";
	const char *at;

	fflush(stdout);
	if (real < 0 || fd < 0 || dup2(fd, STDOUT_FILENO) < 0)
		abort();
	extract(d, NULL, OVERWRITE | JSON);
	fflush(stdout);
	dup2(real, STDOUT_FILENO);
	if (pread(fd, text, sizeof(text) - 1, 0) <= 0)
		abort();
	close(real);
	close(fd);
	at = strstr(text, key);
	return at ? atoi(at + strlen(key)) : -1;
}

/* the target has such a link already, from an earlier disc or somebody else */
TEST(through_a_link_that_is_there)
{
	struct disc d = iso_disc();

	begin();
	REQUIRE(!symlink(outside, in_target("deep")));
	REQUIRE(!symlink(outside, in_target("sub")));
	CHECK(extract(&d, NULL, OVERWRITE) != CLI_OK);
	CHECK_EQ(directories_made(&d), 1);	/* rr_moved: what is a link is none, wherever it leads */
	CHECK(extract(&d, "sub/zf1", OVERWRITE) != CLI_OK);
	CHECK(extract(&d, "/deep/bottom", OVERWRITE) != CLI_OK);
	REQUIRE(!symlink(outside, in_target("RR_MOVED")));
	CHECK(extract(&d, "RR_MOVED/DEEP/BOTTOM", OVERWRITE | PLAIN) != CLI_OK);
	check_and_end();
	disc_free(&d);
}

static bool end_with(const char *end)
{
	bool found = false;
	DIR *d = opendir(target);
	struct dirent *e;

	while (d && (e = readdir(d)))
		found |= strlen(e->d_name) >= strlen(end) && !strcmp(e->d_name + strlen(e->d_name) - strlen(end), end);
	if (d)
		closedir(d);
	return found;
}

TEST(names_that_lead_up)
{
	static const char *const names[] = { "../xyz", "/tmp/x", "../../" };	/* of as many letters */

	for (unsigned int i = 0; i < 3; i++) {
		struct disc d = iso_disc();
		uint8_t *nm = find_field(find_record(&d, AT_ROOT, "HELLO.TXT;1", 11), "NM");

		begin();
		CHECK_EQ(nm[2] - 5, strlen(names[i]));
		memcpy(nm + 5, names[i], strlen(names[i]));
		CHECK(extract(&d, NULL, OVERWRITE) != CLI_OK);
		/* nor is it there by another name */
		CHECK(!end_with("world"));
		check_and_end();
		disc_free(&d);
	}
}

/* what is asked for is a path of the disc, and becomes one below the target */
TEST(paths_that_lead_up)
{
	static const char *const paths[] = { "../hello-world", "sub/../../hello-world", "..", "../sub", "sub/.." };

	for (unsigned int i = 0; i < sizeof(paths) / sizeof(paths[0]); i++) {
		struct disc d = iso_disc();

		begin();
		CHECK(extract(&d, paths[i], OVERWRITE) != CLI_OK);
		check_outside();
		CHECK_EQ(entries(target), 0);
		end();
		disc_free(&d);
	}
}

/* a file that is there: a link to one outside, and another name of one outside */
TEST(over_files_that_are_there)
{
	struct disc d = iso_disc();

	begin();
	REQUIRE(!symlink(victim, in_target("hello-world")));
	REQUIRE(!link(victim, in_target("multi")));
	REQUIRE(!symlink(outside, in_target("link")));
	CHECK(extract(&d, NULL, 0) != CLI_OK);
	CHECK(S_ISLNK(mode_of("hello-world")));
	CHECK(leads_outside("link"));
	check_outside();
	extract(&d, NULL, all_rights());
	CHECK_EQ(mode_of("hello-world"), 0100644);
	CHECK_EQ(mode_of("multi"), 0100600);
	CHECK(S_ISLNK(mode_of("link")) && !leads_outside("link"));
	check_and_end();
	disc_free(&d);
}

/* a link that was dangling would make its target; what takes its place is a file */
TEST(over_a_dangling_link)
{
	struct disc d = iso_disc();
	char path[40];

	begin();
	snprintf(path, sizeof(path), "%s/new", outside);
	REQUIRE(!symlink(path, in_target("hello-world")));
	CHECK(extract(&d, "hello-world", 0) != CLI_OK);
	check_outside();
	CHECK_EQ(extract(&d, "hello-world", OVERWRITE), CLI_OK);
	CHECK_EQ(mode_of("hello-world"), 0100644);
	check_outside();
	end();
	disc_free(&d);
}

/* set-ID bits and devices are not made for those who did not ask for owners */
TEST(privileges)
{
	struct disc d = iso_disc();
	uint8_t *px = find_field(find_record(&d, AT_ROOT, "HELLO.TXT;1", 11), "PX");

	both32(px + 4, 0106755);
	begin();
	CHECK(extract(&d, NULL, 0) != CLI_OK);
	CHECK_EQ(mode_of("hello-world"), 0100755);
	CHECK_EQ(mode_of("null"), 0);
	check_and_end();
	/* root of a container may not */
	if (!geteuid() && !chown(in_target("hello-world"), 1000, 100)) {
		begin();
		extract(&d, NULL, OWNER);
		CHECK_EQ(mode_of("hello-world"), 0106755);
		check_and_end();
	}
	disc_free(&d);
}

/* what cannot be read as it should is not there, and not a part of it */
TEST(nothing_half)
{
	struct disc d = iso_disc();

	memset(sector(&d, AT_ZF1) + 40, 0xff, 30);
	begin();
	CHECK(extract(&d, NULL, 0) != CLI_OK);
	CHECK_EQ(mode_of("sub/zf1"), 0);
	CHECK(S_ISREG(mode_of("sub/zf2")));
	check_and_end();
	disc_free(&d);
}

/* the system call @nr does @action instead */
static bool filter(unsigned int nr, unsigned int action)
{
	struct sock_filter code[] = {
		BPF_STMT(BPF_LD | BPF_W | BPF_ABS, offsetof(struct seccomp_data, nr)),
		BPF_JUMP(BPF_JMP | BPF_JEQ | BPF_K, nr, 0, 1),
		BPF_STMT(BPF_RET | BPF_K, action),
		BPF_STMT(BPF_RET | BPF_K, SECCOMP_RET_ALLOW),
	};
	const struct sock_fprog prog = { sizeof(code) / sizeof(code[0]), code };

	return !prctl(PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0) && !prctl(PR_SET_SECCOMP, SECCOMP_MODE_FILTER, &prog);
}

/* mkdirat(), and when it has made DEEP, somebody replaces the directory that it is in by a link */
static void on_mkdirat(int sig, siginfo_t *info, void *ctx)
{
	greg_t *regs = ((ucontext_t *)ctx)->uc_mcontext.gregs;
	const char *name = (const char *)regs[REG_RSI];
	char path[100], moved[100];
	int rc;

	snprintf(path, sizeof(path), "/proc/self/fd/%d/%s", (int)regs[REG_RDI], name);
	rc = mkdir(path, (mode_t)regs[REG_RDX]);
	regs[REG_RAX] = rc ? -errno : 0;
	if (strcmp(name, "DEEP"))
		return;
	snprintf(path, sizeof(path), "%s/RR_MOVED", target);
	snprintf(moved, sizeof(moved), "%s/moved", target);
	if (rename(path, moved) || symlink(outside, path))
		abort();
}

static void extract_raced(struct disc *d)
{
	const struct sigaction act = { .sa_sigaction = on_mkdirat, .sa_flags = SA_SIGINFO };

	if (sigaction(SIGSYS, &act, NULL) || !filter(SYS_mkdirat, SECCOMP_RET_TRAP))
		_exit(77);
	_exit(extract(d, NULL, PLAIN));
}

TEST(raced)
{
	struct disc d = iso_disc();
	char deep[40];
	int status;
	pid_t pid;

	begin();
	snprintf(deep, sizeof(deep), "%s/DEEP", outside);
	REQUIRE(!mkdir(deep, 0700));
	fflush(stdout);
	pid = fork();
	if (!pid)
		extract_raced(&d);
	REQUIRE(pid > 0 && waitpid(pid, &status, 0) == pid && WIFEXITED(status));
	if (WEXITSTATUS(status) == 77)
		tap_skip("no seccomp filters here");
	else
		CHECK(WEXITSTATUS(status) == CLI_FAILED && leads_outside("RR_MOVED"));
	CHECK_EQ(entries(deep), 0);
	CHECK_EQ(entries(outside), 2);
	end();
	disc_free(&d);
}

TEST(without_openat2)
{
	if (!filter(SYS_openat2, SECCOMP_RET_ERRNO | ENOSYS)) {
		tap_skip("no seccomp filters here");
		return;
	}
	test_through_a_link();
	test_through_a_link_that_is_there();
	test_names_that_lead_up();
	test_paths_that_lead_up();
	test_over_files_that_are_there();
	test_over_a_dangling_link();
	test_privileges();
	test_raced();
}

int main(void)
{
	RUN(through_a_link);
	RUN(through_a_link_that_is_there);
	RUN(names_that_lead_up);
	RUN(paths_that_lead_up);
	RUN(over_files_that_are_there);
	RUN(over_a_dangling_link);
	RUN(privileges);
	RUN(nothing_half);
	RUN(raced);
	RUN(without_openat2);
	return tap_done();
}
