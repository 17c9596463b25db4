// SPDX-License-Identifier: GPL-2.0-only
/*
 * The hot-plug manager at work on a tree with a kernel in it: applied, undone, refused,
 * and killed at every single step of it.
 */
#include <fcntl.h>
#include <json-c/json.h>
#include <pthread.h>
#include <sys/file.h>
#include <sys/socket.h>
#include <sys/syscall.h>
#include <sys/un.h>
#include <sys/wait.h>

#include "lib/journal.h"
#include "plug_tree.h"
#include "run/line.h"
#include "tap.h"

#define BOOT	"11111111-2222-3333-4444-555555555555"
#define KILLED	77

static const char policy_text[] =
	"cpu number=1 => online\n"
	"memory block=40 => online_movable\n"
	"memory block=41 => online_movable rezone\n"
	"pci id=8086:10ed => driver vfio-pci rebind\n"
	"pci id=8086:1000 => no-driver\n";

static struct plug_policy policy;
static char journal_path[PATH_MAX];

static void setup(const char *rules)
{
	tree_new();
	tree_cpu(0, 0, NULL);
	tree_cpu(1, 0, "0");
	tree_memory(9, 0, "online", "DMA32");
	tree_memory(40, 1, "offline", "Normal Movable");
	tree_memory(41, 1, "online", "Normal");
	tree_pci("0000:03:00.0", "8086:10ed", "0x020000", "ixgbe", true);
	tree_pci("0000:03:00.1", "8086:10ed", "0x020000", "ixgbe", false);
	tree_pci("0000:04:00.0", "8086:1000", "0x020000", "ixgbe", true);
	tree_put("ixgbe", PCI_DIR "/0000:04:00.0/driver_override");
	snprintf(journal_path, sizeof(journal_path), "%s/var/journal", tree);
	plug_policy_free(&policy);
	if (plug_policy_parse(&policy, rules, strlen(rules)))
		abort();
	plug_write_hook = tree_kernel;
}

/* ---- the disk: what libc would do for the journal --------------------------------------- */

enum disk_op { DISK_WRITE, DISK_SYNC };
/* When set, hears of each. Returns 0, or an errno to fail it; may have less than @n written. */
static int (*disk_hook)(enum disk_op op, size_t *n);
static bool dies;	/* once that is written */

ssize_t pwrite(int fd, const void *buf, size_t n, off_t at)
{
	int err = disk_hook ? disk_hook(DISK_WRITE, &n) : 0;
	ssize_t done;

	if (err) {
		errno = err;
		return -1;
	}
	done = syscall(SYS_pwrite64, fd, buf, n, at);
	if (dies)
		_exit(KILLED);
	return done;
}

static int sync_as(long call, int fd)
{
	int err = disk_hook ? disk_hook(DISK_SYNC, NULL) : 0;

	if (err) {
		errno = err;
		return -1;
	}
	return (int)syscall(call, fd);
}

int fsync(int fd)
{
	return sync_as(SYS_fsync, fd);
}

int fdatasync(int fd)
{
	return sync_as(SYS_fdatasync, fd);
}

/* ---- one call of the command ---------------------------------------------------------- */

static unsigned int nr_ended, nr_harmless;
static char last_refusal[600];

static void ended(void *ctx, const struct plug_change *c)
{
	nr_ended++;
}

static void refused(void *ctx, const struct plug_change *c, bool harmless, const char *why)
{
	nr_harmless += harmless;
	snprintf(last_refusal, sizeof(last_refusal), "%s: %s", c->object, why);
}

static struct plug_work work;
static struct plug_journal journal;

static int begin(const char *boot)
{
	nr_ended = nr_harmless = 0;
	*last_refusal = '\0';
	work = (struct plug_work) { .host = &tree_host, .journal = &journal, .ended = ended,
				    .refused = refused };
	return plug_journal_open(&journal, journal_path, boot) ?: plug_recover(&work);
}

/* Leaves the counts in @work, and @journal closed. */
static int apply(void)
{
	int err = begin(BOOT) ?: plug_apply(&work, &policy);

	plug_journal_close(&journal);
	return err;
}

static int undo(unsigned int since)
{
	int err = begin(BOOT) ?: plug_undo(&work, since);

	plug_journal_close(&journal);
	return err;
}

static unsigned int nr_changes(void)
{
	struct plug_journal j;
	unsigned int nr = plug_journal_read(&j, journal_path) ? 9999 : (unsigned int)j.nr;

	plug_journal_close(&j);
	return nr;
}

static bool is_torn(void)
{
	struct plug_journal j;
	bool torn = plug_journal_read(&j, journal_path) || j.torn;

	plug_journal_close(&j);
	return torn;
}

static struct plug_change change(unsigned int number)
{
	struct plug_change c = { 0 };
	struct plug_journal j;

	if (!plug_journal_read(&j, journal_path) && number <= j.nr)
		c = j.changes[number - 1];
	plug_journal_close(&j);
	return c;
}

/* ---- the straight way -------------------------------------------------------------------- */

TEST(apply_and_undo)
{
	char *before, *after, *then;

	setup(policy_text);
	before = tree_text();
	CHECK_EQ(apply(), 0);
	CHECK_EQ(work.nr_done, 6);
	CHECK_EQ(work.nr_failed, 0);
	CHECK_EQ(nr_ended, 6);
	after = tree_text();
	CHECK(!strcmp(tree_get(CPU_DIR "/cpu1/online"), "1"));
	CHECK(!strcmp(tree_get(MEMORY_DIR "/memory40/valid_zones"), "Movable"));
	CHECK(!strcmp(tree_get(MEMORY_DIR "/memory41/valid_zones"), "Movable"));
	CHECK(!strcmp(tree_get(MEMORY_DIR "/memory9/valid_zones"), "DMA32"));
	CHECK(!strcmp(tree_driver_of("0000:03:00.0"), "vfio-pci"));
	CHECK(!strcmp(tree_driver_of("0000:03:00.1"), "vfio-pci"));
	CHECK(!strcmp(tree_get(PCI_DIR "/0000:03:00.0/driver_override"), "vfio-pci"));
	CHECK(!strcmp(tree_driver_of("0000:04:00.0"), ""));
	CHECK(!strcmp(tree_get(PCI_DIR "/0000:04:00.0/driver_override"), "ixgbe"));

	CHECK_EQ(apply(), 0);		/* a second time */
	CHECK_EQ(work.nr_done, 0);
	CHECK_EQ(nr_changes(), 6);
	then = tree_text();
	CHECK(!strcmp(after, then));
	free(then);

	CHECK_EQ(undo(0), 0);
	CHECK_EQ(work.nr_done, 6);
	CHECK_EQ(work.nr_refused, 0);
	then = tree_text();
	CHECK(!strcmp(before, then));
	CHECK(!strcmp(tree_get(PCI_DIR "/0000:03:00.0/driver_override"), "(null)"));
	free(then);
	CHECK_EQ(change(7).undoes, 6);	/* the newest first */
	CHECK_EQ(change(12).undoes, 1);
	CHECK_EQ(change(1).undone_by, 12);

	CHECK_EQ(undo(0), 0);
	CHECK_EQ(work.nr_done, 0);
	CHECK_EQ(nr_changes(), 12);
	free(before);
	free(after);
	tree_free();
}

TEST(undo_some)
{
	char *first;

	setup("cpu number=1 => online\n");
	CHECK_EQ(apply(), 0);
	first = tree_text();
	plug_policy_free(&policy);
	CHECK_EQ(plug_policy_parse(&policy, policy_text, sizeof(policy_text) - 1), 0);
	CHECK_EQ(apply(), 0);
	CHECK_EQ(work.nr_done, 5);
	CHECK_EQ(undo(0), 0);		/* the latest run alone */
	CHECK_EQ(work.nr_done, 5);
	free(first);
	first = tree_text();
	CHECK(!strcmp(tree_get(CPU_DIR "/cpu1/online"), "1"));
	CHECK_EQ(apply(), 0);
	CHECK_EQ(undo(15), 0);		/* changes 15 and 16 */
	CHECK_EQ(work.nr_done, 2);
	CHECK(!strcmp(tree_driver_of("0000:03:00.0"), "vfio-pci"));
	CHECK_EQ(undo(1), 0);		/* everything */
	CHECK(!strcmp(tree_get(CPU_DIR "/cpu1/online"), "0"));
	CHECK(!strcmp(tree_driver_of("0000:03:00.0"), "ixgbe"));
	free(first);
	tree_free();
}

/* ---- a world that changes -------------------------------------------------------------------- */

TEST(undo_leaves_what_others_changed)
{
	setup(policy_text);
	CHECK_EQ(apply(), 0);
	tree_put("offline", MEMORY_DIR "/memory41/state");
	tree_put("Normal Movable", MEMORY_DIR "/memory41/valid_zones");
	CHECK_EQ(undo(0), 0);
	CHECK_EQ(work.nr_refused, 1);
	CHECK_EQ(work.nr_done, 5);
	CHECK(strstr(last_refusal, "memory41: somebody else has changed it since: it was left online in zone Movable, and is offline"));
	CHECK(!strcmp(tree_get(MEMORY_DIR "/memory41/state"), "offline"));
	tree_put("online", MEMORY_DIR "/memory41/state");
	tree_put("Movable", MEMORY_DIR "/memory41/valid_zones");
	CHECK_EQ(undo(0), 0);		/* as it was left: it can be undone after all */
	CHECK_EQ(work.nr_done, 1);
	CHECK(!strcmp(tree_get(MEMORY_DIR "/memory41/valid_zones"), "Normal"));
	tree_free();
}

TEST(undo_of_what_is_back_already)
{
	setup("cpu number=1 => online\n");
	CHECK_EQ(apply(), 0);
	tree_put("0", CPU_DIR "/cpu1/online");
	CHECK_EQ(undo(0), 0);
	CHECK_EQ(work.nr_refused, 0);
	CHECK_EQ(work.nr_done, 1);
	CHECK_EQ(undo(0), 0);
	CHECK_EQ(work.nr_done, 0);
	tree_free();
}

TEST(undo_knows_another_device)
{
	setup("pci address=03:00.0 => driver vfio-pci rebind\n");
	CHECK_EQ(apply(), 0);
	CHECK_EQ(work.nr_done, 1);
	/* the same in the same place, and even in the same state; its inode is another */
	tree_pci("0000:03:00.9", "8086:10ed", "0x020000", "ixgbe", false);
	tree_put("vfio-pci", PCI_DIR "/0000:03:00.9/driver_override");
	tree_bind("0000:03:00.9", "vfio-pci");
	tree_remove(PCI_DIR "/0000:03:00.0");
	tree_rename(PCI_DIR "/0000:03:00.9", PCI_DIR "/0000:03:00.0");
	CHECK_EQ(undo(0), 0);
	CHECK_EQ(work.nr_done, 0);
	CHECK_EQ(nr_harmless, 1);
	CHECK(strstr(last_refusal, "unplugged since"));
	CHECK(!strcmp(tree_driver_of("0000:03:00.0"), "vfio-pci"));
	tree_free();
}

static int steal(const char *where, const char *what)
{
	if (!strcmp(where, DRIVER_DIR "/vfio-pci/bind") &&
	    !*tree_driver_of(what))
		tree_bind(what, "thief");
	return tree_kernel(where, what);
}

TEST(somebody_was_faster)
{
	setup("pci address=03:00.1 => driver vfio-pci\n");
	tree_driver("thief");
	plug_write_hook = steal;
	CHECK_EQ(apply(), 0);
	CHECK_EQ(work.nr_failed, 1);
	CHECK(!strcmp(tree_driver_of("0000:03:00.1"), "thief"));	/* not ours to take away */
	CHECK(!strcmp(tree_get(PCI_DIR "/0000:03:00.1/driver_override"), "(null)"));
	tree_free();
}

static int steal_once(const char *where, const char *what)
{
	static bool stolen;

	if (!strcmp(where, DRIVER_DIR "/vfio-pci/bind") && !stolen) {
		stolen = true;
		tree_bind(what, "ixgbe");
	}
	return tree_kernel(where, what);
}

/* The kernel gives it to the driver of its ids: a follower sees that, and takes it. */
TEST(the_kernel_was_faster)
{
	setup("pci address=03:00.1 => driver vfio-pci rebind\n");
	plug_write_hook = steal_once;
	CHECK_EQ(begin(BOOT), 0);
	work.follows = true;
	CHECK_EQ(plug_apply(&work, &policy), 0);
	CHECK_EQ(work.nr_failed, 1);
	CHECK(!strcmp(tree_driver_of("0000:03:00.1"), "ixgbe"));
	CHECK_EQ(plug_apply(&work, &policy), 0);
	CHECK_EQ(work.nr_done, 1);
	CHECK(!strcmp(tree_driver_of("0000:03:00.1"), "vfio-pci"));
	plug_journal_close(&journal);
	CHECK_EQ(undo(1), 0);
	CHECK_EQ(work.nr_refused, 0);
	CHECK(!strcmp(tree_driver_of("0000:03:00.1"), ""));	/* where it all began */
	tree_free();
}

/* ---- a kernel that refuses ---------------------------------------------------------------------- */

TEST(failures_leave_things_as_they_were)
{
	char *before, *after;

	setup(policy_text);
	tree_put("", DRIVER_DIR "/vfio-pci/refuses");
	tree_put("", MEMORY_DIR "/memory40/no_movable");
	tree_put("", MEMORY_DIR "/memory41/no_movable");
	before = tree_text();
	CHECK_EQ(apply(), 0);
	CHECK_EQ(work.nr_failed, 4);
	CHECK_EQ(work.nr_done, 2);
	CHECK_EQ(change(5).result, PLUG_FAILED);
	CHECK(strstr(change(5).why, "vfio-pci/bind: Input/output error"));
	CHECK(!strcmp(tree_driver_of("0000:03:00.0"), "ixgbe"));
	CHECK(!strcmp(tree_get(MEMORY_DIR "/memory41/valid_zones"), "Normal"));
	CHECK_EQ(undo(0), 0);
	CHECK_EQ(work.nr_done, 2);	/* of what failed there is nothing to undo */
	after = tree_text();
	CHECK(!strcmp(before, after));
	free(before);
	free(after);
	tree_free();
}

TEST(busy_memory)
{
	setup("memory block=41 => offline\n");
	tree_put("", MEMORY_DIR "/memory41/unmovable");
	CHECK_EQ(apply(), 0);
	CHECK_EQ(work.nr_failed, 1);
	CHECK(strstr(change(1).why, "Device or resource busy"));
	tree_free();
}

TEST(a_kernel_that_does_otherwise)
{
	setup("memory block=40 => online_movable\n");
	tree_put("", MEMORY_DIR "/memory40/stubborn");
	CHECK_EQ(apply(), 0);
	CHECK_EQ(work.nr_failed, 1);
	CHECK(strstr(change(1).why, "did otherwise"));
	CHECK(!strcmp(tree_get(MEMORY_DIR "/memory40/state"), "offline"));
	tree_free();
}

static int slow_bus(const char *where, const char *what)
{
	static unsigned int asked;

	if (strstr(where, "/bind") && asked++ < 3)
		return -ENODEV;
	return tree_kernel(where, what);
}

TEST(a_bus_that_is_not_ready)
{
	setup("pci address=03:00.1 => driver vfio-pci\n");
	plug_write_hook = slow_bus;
	CHECK_EQ(apply(), 0);
	CHECK_EQ(work.nr_done, 1);
	tree_free();
}

/* ---- following --------------------------------------------------------------------------------------- */

TEST(a_follower_does_not_repeat_what_failed)
{
	setup("pci address=03:00.1 => driver vfio-pci\ncpu number=1 => online\n");
	tree_put("", DRIVER_DIR "/vfio-pci/refuses");
	CHECK_EQ(begin(BOOT), 0);
	work.follows = true;
	for (int i = 0; i < 3; i++)
		CHECK_EQ(plug_apply(&work, &policy), 0);
	CHECK_EQ(work.nr_failed, 1);
	journal.run = 0;	/* SIGHUP */
	CHECK_EQ(plug_apply(&work, &policy), 0);
	CHECK_EQ(work.nr_failed, 2);
	plug_journal_close(&journal);
	tree_free();
}

TEST(a_follower_does_not_struggle)
{
	setup("cpu number=1 => online\n");
	CHECK_EQ(begin(BOOT), 0);
	work.follows = true;
	for (int i = 0; i < 9; i++) {
		CHECK_EQ(plug_apply(&work, &policy), 0);
		tree_put("0", CPU_DIR "/cpu1/online");
	}
	CHECK_EQ(work.nr_done, 5);
	CHECK_EQ(work.nr_refused, 1);
	CHECK(strstr(last_refusal, "something else keeps changing it back"));
	plug_journal_close(&journal);
	tree_free();
}

/* ---- the journal --------------------------------------------------------------------------------------- */

static void append_raw(const char *bytes, size_t len)
{
	int fd = open(journal_path, O_WRONLY | O_APPEND);

	if (fd < 0 || write(fd, bytes, len) != (ssize_t)len)
		abort();
	close(fd);
}

TEST(a_torn_record_is_dropped)
{
	static const char *const tails[] = { "0123", "0123456789abcdef {\"begin\":9", "x\n" };

	setup(policy_text);
	for (size_t i = 0; i < 3; i++) {
		CHECK_EQ(apply(), 0);
		append_raw(tails[i], strlen(tails[i]));
		CHECK_EQ(nr_changes(), i ? 7 : 6);
		tree_put("0", CPU_DIR "/cpu1/online");
		CHECK_EQ(begin(BOOT), 0);
		CHECK(journal.torn);
		if (!i)
			CHECK_EQ(plug_apply(&work, &policy), 0);
		plug_journal_close(&journal);
		CHECK_EQ(nr_changes(), 7);
		CHECK(!is_torn());
		tree_put("1", CPU_DIR "/cpu1/online");
	}
	tree_free();
}

TEST(damage_is_not_overlooked)
{
	struct plug_journal j;
	char byte;
	int fd;

	setup(policy_text);
	CHECK_EQ(apply(), 0);
	fd = open(journal_path, O_RDWR);
	CHECK_EQ(pread(fd, &byte, 1, 400), 1);
	byte ^= 1;
	CHECK_EQ(pwrite(fd, &byte, 1, 400), 1);
	close(fd);
	CHECK_EQ(apply(), -EBADMSG);
	CHECK(strstr(plug_error(), "is damaged in line"));
	CHECK_EQ(undo(0), -EBADMSG);
	CHECK_EQ(plug_journal_read(&j, journal_path), -EBADMSG);
	CHECK(j.nr > 0 && j.nr < 6);	/* what comes before is shown */
	plug_journal_close(&j);
	tree_free();
}

static int write_other(void)
{
	struct journal *other;
	int dirfd = open(tree, O_RDONLY | O_DIRECTORY), err;

	err = journal_open(&other, dirfd, "other", 0, NULL, NULL) ?:
	      journal_append(other, "begin id=1 owner=x");
	journal_close(other);
	close(dirfd);
	return err;
}

TEST(what_is_no_journal)
{
	static const char *const texts[] = { "hello", "0", "01234567 1 {" };

	setup(policy_text);
	tree_dir("var");
	for (size_t i = 0; i < 3; i++) {
		tree_put(texts[i], "var/journal");
		CHECK_EQ(apply(), -EBADMSG);
		CHECK(strstr(plug_error(), "is no journal"));
		CHECK(!strcmp(tree_get("var/journal"), texts[i]));
	}
	CHECK_EQ(write_other(), 0);	/* somebody else's */
	tree_rename("other", "var/journal");
	CHECK_EQ(apply(), -EBADMSG);
	CHECK(strstr(plug_error(), "is no journal"));
	CHECK(strstr(tree_get("var/journal"), "begin id=1 owner=x"));
	tree_remove("var/journal");
	tree_dir("var/journal");
	CHECK_EQ(apply(), -EBADMSG);
	CHECK(!tree_has("var/journal.lock"));	/* nothing is left beside it */
	strcat(journal_path, "/");
	CHECK_EQ(apply(), -EISDIR);
	CHECK(!strcmp(tree_get(CPU_DIR "/cpu1/online"), "0"));
	tree_free();
}

/* Killed before it had anything in it. */
TEST(an_empty_file)
{
	struct plug_journal j;

	setup(policy_text);
	CHECK_EQ(plug_journal_read(&j, journal_path), -ENOENT);
	tree_dir("var");
	CHECK_EQ(plug_journal_read(&j, journal_path), -ENOENT);
	CHECK_EQ(close(creat(journal_path, 0644)), 0);
	CHECK_EQ(plug_journal_read(&j, journal_path), -ENOENT);
	CHECK_EQ(apply(), 0);
	CHECK_EQ(nr_changes(), 6);
	tree_free();
}

TEST(one_at_a_time)
{
	struct plug_journal other;

	setup(policy_text);
	CHECK_EQ(plug_journal_open(&other, journal_path, BOOT), 0);
	CHECK_EQ(apply(), -EBUSY);
	CHECK(strstr(plug_error(), "another 'vmplat hotplug' is at work"));
	CHECK_EQ(nr_changes(), 0);	/* reading is free */
	plug_journal_close(&other);
	CHECK_EQ(apply(), 0);
	tree_free();
}

TEST(another_boot)
{
	struct plug_journal j;

	setup(policy_text);
	CHECK_EQ(apply(), 0);
	CHECK_EQ(plug_journal_open(&j, journal_path, "another"), 0);
	CHECK_EQ(j.nr, 0);
	plug_journal_close(&j);
	CHECK(tree_has("var/journal.1"));
	CHECK_EQ(nr_changes(), 0);
	strcat(journal_path, ".1");
	CHECK_EQ(nr_changes(), 6);
	tree_free();
}

/* In place of libc's: another run, after a boot, is a moment faster with its lock. */
static bool race;

int flock(int fd, int op)
{
	char old[PATH_MAX + 2];

	if (race) {
		race = false;
		snprintf(old, sizeof(old), "%s.1", journal_path);
		rename(journal_path, old);
	}
	return (int)syscall(SYS_flock, fd, op);
}

TEST(renamed_before_it_was_locked)
{
	setup(policy_text);
	CHECK_EQ(apply(), 0);
	race = true;
	tree_put("0", CPU_DIR "/cpu1/online");
	CHECK_EQ(apply(), 0);
	CHECK(!race);
	CHECK_EQ(nr_changes(), 1);	/* not in the one that is called PATH.1 by now */
	tree_free();
}

static unsigned int io_nr, io_stop;

/* Half of a record fits. */
static int full_disk(enum disk_op op, size_t *n)
{
	if (op == DISK_WRITE && io_nr++ >= io_stop) {
		if (io_nr > io_stop + 1)
			return ENOSPC;
		*n /= 2;
	}
	return 0;
}

/* The disk is full from record N on: nothing is changed that is not written down. */
TEST(a_full_disk)
{
	char *before, *after;

	for (io_stop = 0; io_stop < 13; io_stop++) {
		setup(policy_text);
		before = tree_text();
		io_nr = 0;
		disk_hook = full_disk;
		CHECK_EQ(apply(), -ENOSPC);
		CHECK(strstr(plug_error(), "No space left"));
		CHECK(strstr(plug_error(), journal_path));
		disk_hook = NULL;
		CHECK(!io_stop || !is_torn());	/* taken back */
		CHECK_EQ(undo(1), 0);
		after = tree_text();
		CHECK(!strcmp(before, after));
		free(before);
		free(after);
		tree_free();
	}
	io_nr = 0;
}

static unsigned int nr_synced, nr_unsynced;
static bool appended;		/* and not yet on disk */

static int count_disk(enum disk_op op, size_t *n)
{
	if (op == DISK_SYNC)
		nr_synced++;
	else
		nr_unsynced += appended;
	appended = op == DISK_WRITE;
	return 0;
}

static int in_order(const char *where, const char *what)
{
	nr_unsynced += appended;
	return tree_kernel(where, what);
}

TEST(each_record_is_on_disk_before_the_next_step)
{
	setup(policy_text);
	plug_write_hook = in_order;
	disk_hook = count_disk;
	CHECK_EQ(apply(), 0);
	CHECK_EQ(undo(0), 0);
	disk_hook = NULL;
	CHECK(!appended);
	CHECK_EQ(nr_unsynced, 0);
	CHECK(nr_synced >= 25);		/* 24 records, and the directory */
	tree_free();
}

/* ---- killed at each step ----------------------------------------------------------------------------------- */

static void count_step(void)
{
	if (io_nr++ == io_stop)
		_exit(KILLED);
}

/* Before and after each write to sysfs. */
static int killer(const char *where, const char *what)
{
	int ret;

	count_step();
	ret = tree_kernel(where, what);
	count_step();
	return ret;
}

/* Before each record, half way into it, and before and after it is synced. */
static int disk_killer(enum disk_op op, size_t *n)
{
	count_step();
	if (op == DISK_WRITE && io_nr++ == io_stop) {
		*n /= 2;
		dies = true;
	}
	return 0;
}

/* In a process of its own, which dies at step @stop. True if it did. */
static bool killed_at(unsigned int stop, int (*fn)(void))
{
	int status;
	pid_t pid;

	fflush(stdout);
	pid = fork();
	if (!pid) {
		io_nr = 0;
		io_stop = stop;
		plug_write_hook = killer;
		disk_hook = disk_killer;
		_exit(fn() ? 1 : 0);
	}
	if (waitpid(pid, &status, 0) != pid || !WIFEXITED(status))
		abort();
	CHECK(WEXITSTATUS(status) == 0 || WEXITSTATUS(status) == KILLED);
	return WEXITSTATUS(status) == KILLED;
}

static int undo_all(void)
{
	return undo(1);
}

/* No change is unaccounted for: each begins with what the one before of the object ended with. */
static void check_chain(void)
{
	struct plug_journal j;

	REQUIRE(!plug_journal_read(&j, journal_path));
	for (size_t i = 0; i < j.nr; i++) {
		const struct plug_change *c = &j.changes[i], *last = NULL;

		CHECK(c->result != PLUG_UNFINISHED);
		for (size_t k = 0; k < i; k++)
			if (!strcmp(j.changes[k].object, c->object))
				last = &j.changes[k];
		if (last)
			CHECK(plug_state_same(&last->now, &c->before));
	}
	plug_journal_close(&j);
}

TEST(killed_while_applying)
{
	char *before, *after, *then;
	unsigned int stop;

	setup(policy_text);
	before = tree_text();
	CHECK_EQ(apply(), 0);
	after = tree_text();
	tree_free();
	for (stop = 0; stop < 200; stop++) {
		setup(policy_text);
		if (!killed_at(stop, apply))
			break;
		if (stop % 2) {		/* go on */
			CHECK_EQ(apply(), 0);
			then = tree_text();
			CHECK(!strcmp(after, then));
			free(then);
		}
		CHECK_EQ(undo(1), 0);	/* or back at once */
		CHECK_EQ(work.nr_refused, 0);
		then = tree_text();
		CHECK(!strcmp(before, then));
		free(then);
		check_chain();
		tree_free();
	}
	tree_free();
	printf("# killed at each of %u steps\n", stop);
	CHECK(stop > 40 && stop < 200);
	free(before);
	free(after);
}

TEST(killed_while_undoing)
{
	char *before, *then;
	unsigned int stop;

	setup(policy_text);
	before = tree_text();
	tree_free();
	for (stop = 0; stop < 200; stop++) {
		bool killed;

		setup(policy_text);
		CHECK_EQ(apply(), 0);
		killed = killed_at(stop, undo_all);
		CHECK_EQ(undo(1), 0);
		CHECK_EQ(work.nr_refused, 0);
		then = tree_text();
		CHECK(!strcmp(before, then));
		free(then);
		check_chain();
		tree_free();
		if (!killed)
			break;
	}
	printf("# killed at each of %u steps\n", stop);
	CHECK(stop > 40 && stop < 200);
	free(before);
}

static int next_boot(void)
{
	int err = begin("another");

	plug_journal_close(&journal);
	return err;
}

/* The journal of before is kept, whole, by whoever gets there. */
TEST(killed_while_a_boot_begins)
{
	bool killed = true;
	unsigned int stop;

	for (stop = 0; killed && stop < 50; stop++) {
		setup(policy_text);
		CHECK_EQ(apply(), 0);
		killed = killed_at(stop, next_boot);
		CHECK_EQ(next_boot(), 0);
		CHECK_EQ(nr_changes(), 0);
		strcat(journal_path, ".1");
		CHECK_EQ(nr_changes(), 6);
		tree_free();
	}
	printf("# killed at each of %u steps\n", stop - 1);
	CHECK(stop > 5 && stop < 50);
}

/* ---- a tap into a VM ----------------------------------------------------------------------------------------- */

/* As the runner answers: one device at most. */
static struct {
	int fd;
	char id[32], where[32];
	unsigned int nr_adds;
} vm;

static void answer(struct json_object *msg, struct json_object *reply)
{
	struct json_object *v, *list, *device;
	const char *cmd;

	json_object_object_get_ex(msg, "cmd", &v);
	cmd = json_object_get_string(v);
	json_object_object_add(reply, "ok", json_object_new_boolean(true));
	if (!strcmp(cmd, "device-list")) {
		list = json_object_new_array();
		if (*vm.id) {
			device = json_object_new_object();
			json_object_object_add(device, "id", json_object_new_string(vm.id));
			json_object_object_add(device, "kind", json_object_new_string("tap"));
			json_object_object_add(device, "where", json_object_new_string(vm.where));
			json_object_array_add(list, device);
		}
		json_object_object_add(reply, "devices", list);
	} else if (!strcmp(cmd, "device-add")) {
		json_object_object_get_ex(msg, "device", &device);
		json_object_object_get_ex(device, "name", &v);
		snprintf(vm.id, sizeof(vm.id), "%s", json_object_get_string(v));
		json_object_object_get_ex(device, "where", &v);
		snprintf(vm.where, sizeof(vm.where), "%s", json_object_get_string(v));
		vm.nr_adds++;
	} else {
		json_object_object_get_ex(msg, "id", &v);
		if (!strcmp(vm.id, json_object_get_string(v)))
			vm.id[0] = '\0';
	}
}

static void *serve(void *arg)
{
	for (;;) {
		struct json_object *msg, *reply;
		struct line_io io;
		int fd = accept(vm.fd, NULL, NULL), ret;

		if (fd < 0)
			return NULL;
		line_init(&io, fd);
		do {
			msg = NULL;
			ret = line_recv(&io, &msg);
			if (ret <= 0)
				continue;
			reply = json_object_new_object();
			answer(msg, reply);
			line_send(&io, reply, NULL, 0);
			json_object_put(reply);
			json_object_put(msg);
		} while (ret >= 0);
		line_exit(&io);
	}
}

static void vm_start(pthread_t *thread)
{
	struct sockaddr_un sa = { .sun_family = AF_UNIX };

	memset(&vm, 0, sizeof(vm));
	snprintf(sa.sun_path, sizeof(sa.sun_path), "%s/web.sock", tree);
	setenv("VMPLAT_RUN_DIR", tree, 1);
	vm.fd = socket(AF_UNIX, SOCK_STREAM, 0);
	if (bind(vm.fd, (struct sockaddr *)&sa, sizeof(sa)) || listen(vm.fd, 4) ||
	    pthread_create(thread, NULL, serve, NULL))
		abort();
}

static void vm_stop(pthread_t thread)
{
	shutdown(vm.fd, SHUT_RDWR);
	pthread_join(thread, NULL);
	close(vm.fd);
}

TEST(a_tap_for_a_vm)
{
	pthread_t thread;

	setup("net name=tap* => vm web\n");
	tree_dir("class/net/tap_A");
	tree_put("0x1002", "class/net/tap_A/tun_flags");
	CHECK_EQ(apply(), 0);
	CHECK_EQ(work.nr_done + work.nr_failed, 0);	/* no VM: left alone */
	vm_start(&thread);
	CHECK_EQ(apply(), 0);
	CHECK_EQ(work.nr_done, 1);
	CHECK(!strcmp(vm.id, "tap-tap-a") && !strcmp(vm.where, "tap_A"));
	CHECK_EQ(apply(), 0);
	CHECK_EQ(vm.nr_adds, 1);
	CHECK_EQ(undo(0), 0);
	CHECK_EQ(work.nr_done, 1);
	CHECK(!*vm.id);
	CHECK_EQ(apply(), 0);
	CHECK_EQ(vm.nr_adds, 2);
	vm_stop(thread);
	CHECK_EQ(undo(0), 0);		/* the VM has ended: so has this */
	CHECK_EQ(work.nr_refused, 0);
	CHECK_EQ(work.nr_failed, 0);
	CHECK_EQ(undo(0), 0);
	CHECK_EQ(work.nr_done, 0);
	tree_free();
}

int main(void)
{
	RUN(apply_and_undo);
	RUN(undo_some);
	RUN(undo_leaves_what_others_changed);
	RUN(undo_of_what_is_back_already);
	RUN(undo_knows_another_device);
	RUN(somebody_was_faster);
	RUN(the_kernel_was_faster);
	RUN(failures_leave_things_as_they_were);
	RUN(busy_memory);
	RUN(a_kernel_that_does_otherwise);
	RUN(a_bus_that_is_not_ready);
	RUN(a_follower_does_not_repeat_what_failed);
	RUN(a_follower_does_not_struggle);
	RUN(a_torn_record_is_dropped);
	RUN(damage_is_not_overlooked);
	RUN(what_is_no_journal);
	RUN(one_at_a_time);
	RUN(another_boot);
	RUN(renamed_before_it_was_locked);
	RUN(an_empty_file);
	RUN(a_full_disk);
	RUN(each_record_is_on_disk_before_the_next_step);
	RUN(killed_while_applying);
	RUN(killed_while_undoing);
	RUN(killed_while_a_boot_begins);
	RUN(a_tap_for_a_vm);
	plug_policy_free(&policy);
	return tap_done();
}
