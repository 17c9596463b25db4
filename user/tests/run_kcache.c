/* SPDX-License-Identifier: GPL-2.0-only */
/* The cache of unpacked kernels: what is kept, what is trusted, what goes. */
#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "run/kcache.h"
#include "tap.h"

static char base[64], dir[128];
static uint8_t data[100000], out[100000];
static struct kcache_key key;

static void fresh(void)
{
	char command[200];

	snprintf(command, sizeof(command), "rm -rf %s && mkdir -m 700 %s", base, base);
	if (system(command))
		printf("# %s\n", command);
	setenv("XDG_CACHE_HOME", base, 1);
	kcache_key(&key, "packed", 6);
	for (size_t i = 0; i < sizeof(data); i++)
		data[i] = (uint8_t)(i * 7 + (i >> 8));
	memset(out, 0, sizeof(out));
}

static int get(void)
{
	return kcache_get(&key, out, sizeof(out));
}

static const char *file(void)
{
	static char path[300];

	snprintf(path, sizeof(path), "%s/%s", dir, key.name);
	return path;
}

static int count(void)
{
	DIR *d = opendir(dir);
	struct dirent *e;
	int n = 0;

	while (d && (e = readdir(d)))
		n += e->d_name[0] != '.';
	if (d)
		closedir(d);
	return n;
}

TEST(kept_and_found)
{
	struct stat st;

	fresh();
	/* the digest of "packed", as sha256sum prints it */
	CHECK(!strcmp(key.name, "88cb8a087b6e8cebfc9ae5602f5a2159a6bcf923e7f2c56809bcda6cad1727a7"));
	CHECK_EQ(strlen(key.name), 64);
	CHECK_EQ(get(), -ENOENT);
	CHECK_EQ(access(dir, F_OK), -1);	/* looking makes nothing */
	kcache_put(&key, data, sizeof(data));
	CHECK_EQ(get(), 0);
	CHECK(!memcmp(data, out, sizeof(out)));
	CHECK_EQ(stat(file(), &st), 0);
	CHECK_EQ(st.st_mode & 0777, 0600);
	CHECK_EQ(stat(dir, &st), 0);
	CHECK_EQ(st.st_mode & 0777, 0700);
	CHECK_EQ(kcache_get(&key, out, sizeof(out) - 1), -ENOENT);
}

TEST(damage_is_noticed)
{
	for (off_t at = 0; at < (off_t)sizeof(data) + 32; at += 997) {
		uint8_t c;
		int fd;

		fresh();
		kcache_put(&key, data, sizeof(data));
		fd = open(file(), O_RDWR);
		CHECK_EQ(pread(fd, &c, 1, at), 1);
		c ^= 0x10;
		CHECK_EQ(pwrite(fd, &c, 1, at), 1);
		close(fd);
		CHECK_EQ(get(), -ENOENT);
		CHECK_EQ(access(file(), F_OK), -1);	/* so that the next one is kept */
	}
	fresh();
	kcache_put(&key, data, sizeof(data));
	CHECK_EQ(truncate(file(), 5000), 0);
	CHECK_EQ(get(), -ENOENT);
}

TEST(others_are_not_trusted)
{
	fresh();
	kcache_put(&key, data, sizeof(data));
	CHECK_EQ(chmod(file(), 0660), 0);
	CHECK_EQ(get(), -ENOENT);
	kcache_put(&key, data, sizeof(data));
	CHECK_EQ(get(), 0);
	CHECK_EQ(chmod(dir, 0770), 0);
	CHECK_EQ(get(), -ENOENT);
	CHECK_EQ(chmod(dir, 0700), 0);
	CHECK_EQ(chmod(base, 0777), 0);
	CHECK_EQ(get(), -ENOENT);
	CHECK_EQ(chmod(base, 0700), 0);
	CHECK_EQ(get(), 0);
	/* a link to a file that would do */
	CHECK_EQ(rename(file(), "/tmp/kcache-elsewhere"), 0);
	CHECK_EQ(symlink("/tmp/kcache-elsewhere", file()), 0);
	CHECK_EQ(get(), -ENOENT);
	unlink("/tmp/kcache-elsewhere");
	if (geteuid()) {
		tap_skip("the owner can be changed by root only");
		return;
	}
	fresh();
	kcache_put(&key, data, sizeof(data));
	CHECK_EQ(chown(file(), 65534, 65534), 0);
	CHECK_EQ(get(), -ENOENT);
	fresh();
	CHECK_EQ(chown(base, 65534, 65534), 0);
	kcache_put(&key, data, sizeof(data));
	CHECK_EQ(access(dir, F_OK), -1);	/* nothing of ours in somebody else's home */
}

TEST(no_home)
{
	fresh();
	unsetenv("XDG_CACHE_HOME");
	setenv("HOME", base, 1);
	kcache_put(&key, data, sizeof(data));
	CHECK_EQ(get(), 0);
	setenv("HOME", "relative", 1);
	CHECK_EQ(get(), -ENOENT);
	unsetenv("HOME");
	kcache_put(&key, data, sizeof(data));
	CHECK_EQ(get(), -ENOENT);
}

/* sparse files stand for large kernels; the one used last stays */
TEST(bounded)
{
	char path[300];
	struct stat st;

	fresh();
	kcache_put(&key, data, sizeof(data));
	for (int i = 0; i < 8; i++) {
		struct timespec t[2] = { { .tv_sec = 1000 + i }, { .tv_sec = 1000 + i } };
		int fd;

		snprintf(path, sizeof(path), "%s/%064d", dir, i);
		fd = open(path, O_WRONLY | O_CREAT, 0600);
		CHECK_EQ(ftruncate(fd, 100 << 20), 0);
		futimens(fd, t);
		close(fd);
	}
	snprintf(path, sizeof(path), "%s/notes", dir);	/* nobody's business */
	close(open(path, O_WRONLY | O_CREAT, 0600));
	CHECK_EQ(get(), 0);
	kcache_key(&key, "another", 7);
	kcache_put(&key, data, sizeof(data));
	CHECK_EQ(get(), 0);
	kcache_key(&key, "packed", 6);
	CHECK_EQ(get(), 0);
	CHECK_EQ(count(), 5 + 2 + 1);
	snprintf(path, sizeof(path), "%s/%064d", dir, 2);
	CHECK_EQ(stat(path, &st), -1);
	snprintf(path, sizeof(path), "%s/%064d", dir, 3);
	CHECK_EQ(stat(path, &st), 0);
}

int main(void)
{
	char command[100];

	snprintf(base, sizeof(base), "/tmp/vmplat-kcache.%d", (int)getpid());
	snprintf(dir, sizeof(dir), "%s/vmplat/unpacked", base);
	RUN(kept_and_found);
	RUN(damage_is_noticed);
	RUN(others_are_not_trusted);
	/* ~/.cache does not exist: it is made */
	snprintf(dir, sizeof(dir), "%s/.cache/vmplat/unpacked", base);
	RUN(no_home);
	snprintf(dir, sizeof(dir), "%s/vmplat/unpacked", base);
	RUN(bounded);
	snprintf(command, sizeof(command), "rm -rf %s", base);
	return system(command) ? 1 : tap_done();
}
