// SPDX-License-Identifier: GPL-2.0-only
#include "input.h"

#include <errno.h>
#include <fcntl.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include <vmplat.h>
#include <vmplat_iso.h>

#include "image/why.h"

static const char iso_prefix[] = "iso:/", efi_prefix[] = "efi:/";	/* of one length */

static bool in_boot_image(const char *path)
{
	return !strncmp(path, efi_prefix, strlen(efi_prefix));
}

bool input_on_disc(const char *path)
{
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

int input_open(struct input *in, const char *iso, const char *path, const char **why)
{
	*in = (struct input){ .fd = -1 };
	if (!input_on_disc(path)) {
		in->fd = open_plain(path, &in->bytes, why);
		return in->fd < 0 ? in->fd : 0;
	}
	if (!iso)
		return image_fail(why, -EINVAL, "there is no disc; --iso FILE names it");
	return open_on_disc(in, iso, path, why);
}

int input_read(struct input *in, uint8_t *to, const char **why)
{
	uint64_t at = 0;

	while (at < in->bytes) {
		uint64_t left = in->bytes - at;
		size_t len = left < 1 << 20 ? (size_t)left : 1 << 20;
		ssize_t n = in->file ? vmplat_iso_file_read(in->file, to + at, len, at)
				     : read(in->fd, to + at, len);

		if (in->file && n < 0)
			return disc_error((int)n, why);
		if (n < 0 && errno == EINTR)
			continue;
		if (n <= 0)
			return image_fail(why, n ? -errno : -EIO, "%s",
					  n ? strerror(errno) : "it became shorter while it was read");
		at += (uint64_t)n;
	}
	return 0;
}

void input_close(struct input *in)
{
	if (in->fd >= 0)
		close(in->fd);
	vmplat_iso_file_close(in->file);
	vmplat_iso_close(in->iso);
}
