/* SPDX-License-Identifier: GPL-2.0-only */
/*
 * Discs that want to write outside of the directory they are extracted to: a link that
 * leads out, and a directory of the same name with a file in it; names with "..".
 */
#include <dirent.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>

#include "cli/iso.h"
#include "iso_image.h"
#include "tap.h"

static char base[] = "/tmp/iso-escape.XXXXXX";
static char target[60], outside[] = "/tmp/XXXXX";	/* as long as the link on the disc can be */

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
	for (unsigned int i = (unsigned int)getpid(); ; i++) {
		sprintf(outside, "/tmp/%05x", i & 0xfffff);
		if (!mkdir(outside, 0700))
			return;
		if (errno != EEXIST)
			abort();
	}
}

/* @path alone, or everything */
static int extract(struct disc *d, const char *path)
{
	int fd = disc_fd(d), rc;
	char image[40];
	char *args[] = { "extract", "--overwrite", "-C", target, image, (char *)path, NULL };

	snprintf(image, sizeof(image), "/proc/self/fd/%d", fd);
	rc = iso_extract(path ? 6 : 5, args);
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

static void check_and_end(void)
{
	char cmd[100];

	CHECK_EQ(entries(outside), 0);
	CHECK_EQ(entries(base), 1);
	CHECK(entries(target) > 3);
	snprintf(cmd, sizeof(cmd), "chmod -R u+w %s && rm -rf %s", base, base);
	if (system(cmd) || rmdir(outside))
		abort();
}

/* "link" leads outside, and is called as the directory "sub" behind it, in which files lie */
TEST(through_a_link)
{
	struct disc d = iso_disc();
	uint8_t *r = find_record(&d, AT_ROOT, "LINK.;1", 7), *nm = find_field(r, "NM"), *sl;
	char path[100], to[40] = "";

	begin();
	memcpy(nm + 5, "sub", 3);
	nm[2]--;
	memmove(nm + 8, nm + 9, (size_t)(r + r[0] - (nm + 9)));
	sl = find_field(r, "SL");
	memcpy(sl + 5, "\x8\0\0\3tmp\0\5", 9);
	memcpy(sl + 14, outside + 5, 5);
	extract(&d, NULL);
	/* the link came first, and nothing went through it */
	snprintf(path, sizeof(path), "%s/sub", target);
	CHECK(readlink(path, to, sizeof(to) - 1) > 0 && !strcmp(to, outside));
	/* a second time, over what is there now */
	extract(&d, NULL);
	check_and_end();
	disc_free(&d);
}

/* the target has such a link already, from an earlier disc or somebody else */
TEST(through_a_link_that_is_there)
{
	struct disc d = iso_disc();
	char path[100];

	begin();
	snprintf(path, sizeof(path), "%s/deep", target);
	REQUIRE(!symlink(outside, path));
	snprintf(path, sizeof(path), "%s/sub", target);
	REQUIRE(!symlink(outside, path));
	CHECK(extract(&d, NULL) != CLI_OK);
	CHECK(extract(&d, "sub/zf1") != CLI_OK);
	CHECK(extract(&d, "/deep/bottom") != CLI_OK);
	check_and_end();
	disc_free(&d);
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
		extract(&d, NULL);
		check_and_end();
		disc_free(&d);
	}
}

int main(void)
{
	RUN(through_a_link);
	RUN(through_a_link_that_is_there);
	RUN(names_that_lead_up);
	return tap_done();
}
