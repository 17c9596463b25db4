// SPDX-License-Identifier: GPL-2.0-only
/*
 * Who may what: the device belongs to a group, files on a vmplatfs have owners,
 * and a log or a view needs the right to read the memory.
 */
#include <fcntl.h>
#include <grp.h>
#include <sys/ioctl.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <unistd.h>

#include "mem/util.h"

#define NOBODY 65534

static const char *dir;

/* Exit status of @fn as user and group @id with the supplementary @group, or 255. */
static int as(uid_t id, gid_t group, int (*fn)(void))
{
	int status;
	pid_t pid = need(fork());

	if (!pid) {
		if (setgroups(1, &group) || setgid(id) || setuid(id))
			_exit(255);
		_exit(fn());
	}
	waitpid(pid, &status, 0);
	return WIFEXITED(status) ? WEXITSTATUS(status) : 255;
}

static int open_dev(void)
{
	return open("/dev/vmplat", O_RDWR) < 0 ? errno : 0;
}

static int open_dev_ro(void)
{
	return open("/dev/vmplat", O_RDONLY) < 0 ? errno : 0;
}

static char path[128];

static int open_file(void)
{
	return open(path, O_RDONLY) < 0 ? errno : 0;
}

static int open_file_rw(void)
{
	return open(path, O_RDWR) < 0 ? errno : 0;
}

/* With the device handed over, but no right to the memory. */
static int log_by_path(void)
{
	int fd = open(path, O_RDONLY | O_PATH);

	if (fd < 0)
		return 0;
	return log_new(fd, 0, 0) < 0 ? errno : 0;
}

static int create_file(void)
{
	char name[160];

	snprintf(name, sizeof(name), "%s/mine", dir);
	return open(name, O_RDWR | O_CREAT | O_EXCL, 0600) < 0 ? errno : 0;
}

static int reopen_writable(void)
{
	return open(path, O_RDWR) < 0 ? errno : 0;
}

static void test_device(void)
{
	struct stat st;

	need(stat("/dev/vmplat", &st));
	is_int(st.st_mode & 07, 0, "others have no access to the device");
	is_int(as(NOBODY, NOBODY, open_dev), EACCES, "a user outside of the group");
	is_int(as(NOBODY, NOBODY, open_dev_ro), EACCES, "not even for reading");
	if (st.st_gid)
		is_int(as(NOBODY, st.st_gid, open_dev), 0, "a member of the group");
	else
		skip("the device has no group here");
}

static void test_files(void)
{
	int fd, ro;

	dir = fs_mount("mode=0777");
	if (!dir)
		bail("mount");
	snprintf(path, sizeof(path), "%s/root", dir);
	fd = need(open(path, O_RDWR | O_CREAT, 0600));
	need(ftruncate(fd, 4 * PAGE));
	is_int(as(NOBODY, NOBODY, open_file), EACCES, "somebody else's memory");
	is_int(as(NOBODY, NOBODY, log_by_path), EBADF, "a log through O_PATH");
	need(fchmod(fd, 0644));
	is_int(as(NOBODY, NOBODY, open_file), 0, "readable memory can be read");
	is_int(as(NOBODY, NOBODY, open_file_rw), EACCES, "and not written");
	is_int(as(NOBODY, NOBODY, create_file), 0, "mode=0777: anybody creates");
	need(fchmod(fd, 0600));
	need(fchown(fd, NOBODY, NOBODY));
	is_int(as(NOBODY, NOBODY, open_file_rw), 0, "a new owner");
	close(fd);

	dir = fs_mount("uid=65534,mode=0700");
	is_int(as(1000, 1000, create_file), EACCES, "mode=0700: only the owner creates");
	is_int(as(NOBODY, NOBODY, create_file), 0, "the owner does");

	/* A read-only descriptor must not become a writable one. */
	fd = need(mem_new(4 * PAGE));
	snprintf(path, sizeof(path), "/proc/self/fd/%d", fd);
	ro = need(open(path, O_RDONLY));
	snprintf(path, sizeof(path), "/proc/self/fd/%d", ro);
	is_int(as(NOBODY, NOBODY, reopen_writable), EACCES,
	       "a handed-over descriptor is not re-opened for writing");
	close(ro);
	close(fd);
}

/* Who was handed the device may ask for VFs, not make them. */
static int dev;

static int sriov_create(void)
{
	struct vmplat_sriov_create arg = { .size = sizeof(arg), .pf = 0xffffff, .nr_vfs = 1, .owner = "me" };

	return ioctl(dev, VMPLAT_SRIOV_CREATE, &arg) ? errno : 0;
}

static int sriov_destroy(void)
{
	struct vmplat_sriov_destroy arg = { .size = sizeof(arg), .generation = 1 };

	return ioctl(dev, VMPLAT_SRIOV_DESTROY, &arg) ? errno : 0;
}

static int sriov_bind(void)
{
	struct vmplat_sriov_bind arg = { .size = sizeof(arg), .generation = 1 };

	return ioctl(dev, VMPLAT_SRIOV_BIND, &arg) ? errno : 0;
}

static int sriov_status(void)
{
	struct vmplat_sriov_status arg = { .size = sizeof(arg), .pf = 0xffffff };

	return ioctl(dev, VMPLAT_SRIOV_STATUS, &arg) ? errno : 0;
}

static void test_sriov(void)
{
	dev = need(open("/dev/vmplat", O_RDWR | O_CLOEXEC));
	is_int(as(NOBODY, NOBODY, sriov_create), EPERM, "VFs are not made without privilege");
	is_int(as(NOBODY, NOBODY, sriov_bind), EPERM, "nor given to a driver");
	is_int(as(NOBODY, NOBODY, sriov_destroy), EPERM, "nor removed");
	is_int(as(NOBODY, NOBODY, sriov_status), ENODEV, "but asked for");
	close(dev);
}

int main(void)
{
	dev_open();
	test_device();
	test_files();
	test_sriov();
	return done();
}
