// SPDX-License-Identifier: GPL-2.0-only
#include "input.h"

#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include <vmplat.h>
#include <vmplat_iso.h>

#include "image/uki.h"
#include "image/why.h"

static const char iso_prefix[] = "iso:/", efi_prefix[] = "efi:/";	/* of one length */
static const char section_prefix[] = "section:";

static bool in_boot_image(const char *path)
{
	return !strncmp(path, efi_prefix, strlen(efi_prefix));
}

/* behind "section:NAME:", if that is what @path begins with */
static const char *file_of(const char *path)
{
	const char *end = strncmp(path, section_prefix, strlen(section_prefix)) ? NULL :
			  strchr(path + strlen(section_prefix), ':');

	return end ? end + 1 : path;
}

bool input_on_disc(const char *path)
{
	path = file_of(path);
	return !strncmp(path, iso_prefix, strlen(iso_prefix)) || in_boot_image(path);
}

static int open_plain(const char *path, uint64_t *bytes, const char **why)
{
	int fd = open(path, O_RDONLY | O_CLOEXEC | O_NONBLOCK), ret = 0;
	struct stat st;

	if (fd < 0 || fstat(fd, &st))
		ret = image_fail(why, -errno, "%s", strerror(errno));
	else if (!S_ISREG(st.st_mode))
		ret = image_fail(why, -EINVAL, "it is not a regular file");
	else
		*bytes = (uint64_t)st.st_size;
	if (ret && fd >= 0)
		close(fd);
	return ret ? ret : fd;
}

/* the library's sentence, which its next call may replace */
static int disc_error(int err, const char **why)
{
	return image_fail(why, err, "%s", vmplat_last_error());
}

static int open_on_disc(struct input *in, const char *disc, const char *path, const char **why)
{
	int fd = open(disc, O_RDONLY | O_CLOEXEC), ret;

	if (fd < 0)
		return image_fail(why, -errno, "the disc %s: %s", disc, strerror(errno));
	ret = vmplat_iso_open(&in->iso, fd);
	if (ret) {
		close(fd);
		return disc_error(ret, why);
	}
	if (in_boot_image(path))
		ret = vmplat_iso_use(in->iso, VMPLAT_ISO_EFI);
	if (!ret)
		ret = vmplat_iso_file_open_path(&in->file, in->iso, path + strlen(iso_prefix) - 1);
	if (ret) {
		disc_error(ret, why);
		vmplat_iso_close(in->iso);
		return ret;
	}
	in->bytes = vmplat_iso_file_bytes(in->file);
	return 0;
}

static int open_whole(struct input *in, const char *iso, const char *path, const char **why)
{
	if (!input_on_disc(path)) {
		in->fd = open_plain(path, &in->bytes, why);
		return in->fd < 0 ? in->fd : 0;
	}
	if (!iso)
		return image_fail(why, -EINVAL, "there is no disc; --iso FILE names it");
	return open_on_disc(in, iso, path, why);
}

static ssize_t read_some(struct input *in, uint8_t *to, size_t len, uint64_t at)
{
	ssize_t n = in->file ? vmplat_iso_file_read(in->file, to, len, in->off + at)
			     : pread(in->fd, to, len, (off_t)(in->off + at));

	return n < 0 && !in->file ? -errno : n;
}

static int read_at(struct input *in, uint8_t *to, uint64_t bytes, const char **why)
{
	uint64_t at = 0;

	while (at < bytes) {
		uint64_t left = bytes - at;
		ssize_t n = read_some(in, to + at, left < 1 << 20 ? (size_t)left : 1 << 20, at);

		if (in->file && n < 0)
			return disc_error((int)n, why);
		if (n == -EINTR)
			continue;
		if (n <= 0)
			return image_fail(why, n ? (int)n : -EIO, "%s",
					  n ? strerror((int)-n) : "it became shorter while it was read");
		at += (uint64_t)n;
	}
	return 0;
}

/* only the section whose name @path has behind its prefix */
static int narrow(struct input *in, const char *path, const char **why)
{
	const char *name = path + strlen(section_prefix);
	int len = (int)strcspn(name, ":"), ret;
	uint8_t head[UKI_HEAD];
	struct uki_section s;
	char word[16];
	size_t n = in->bytes < sizeof(head) ? (size_t)in->bytes : sizeof(head);

	snprintf(word, sizeof(word), "%.*s", len, name);
	ret = read_at(in, head, n, why);
	if (ret)
		return ret;
	ret = uki_find(&s, head, n, in->bytes, word);
	if (ret)
		return image_fail(why, ret, ret == -ENOENT ? "it has no section %s" : "it is cut short, or its section %s is damaged",
				  word);
	in->off = s.off;
	in->bytes = s.bytes;
	return 0;
}

int input_open(struct input *in, const char *iso, const char *path, const char **why)
{
	const char *file = file_of(path);
	int ret;

	*in = (struct input){ .fd = -1 };
	ret = open_whole(in, iso, file, why);
	if (ret || file == path)
		return ret;
	ret = narrow(in, path, why);
	if (ret)
		input_close(in);
	return ret;
}

int input_read(struct input *in, uint8_t *to, const char **why)
{
	return read_at(in, to, in->bytes, why);
}

void input_close(struct input *in)
{
	if (in->fd >= 0)
		close(in->fd);
	vmplat_iso_file_close(in->file);
	vmplat_iso_close(in->iso);
}
