// SPDX-License-Identifier: LGPL-2.1-or-later
/* The control device: opened once, asked once what it can do. */
#include <fcntl.h>
#include <stdlib.h>
#include <unistd.h>

#include "lib.h"

#define DEFAULT_PATH "/dev/vmplat"

static int query(int fd, struct vmplat_info *info)
{
	*info = (struct vmplat_info) { .size = sizeof(*info) };
	return lib_ioctl(fd, VMPLAT_INFO, info);
}

static int open_error(int err, const char *path)
{
	switch (-err) {
	case ENOENT:
	case ENODEV:
	case ENXIO:
		return vmplat_error_set_code(VMPLAT_NO_MODULE, err,
					     "%s: no such device: the kernel module vmplat is not loaded",
					     path);
	case EACCES:
	case EPERM:
		return lib_error(err, "%s: permission denied: this user is not in the device's group",
				 path);
	default:
		return lib_error(err, "%s: cannot open: %s", path, strerror(-err));
	}
}

API int vmplat_open(struct vmplat **out, const char *path)
{
	struct vmplat *dev;
	int rc;

	*out = NULL;
	if (!path)
		path = DEFAULT_PATH;
	dev = calloc(1, sizeof(*dev));
	if (!dev)
		return lib_error(-ENOMEM, "out of memory");
	dev->fd = open(path, O_RDWR | O_CLOEXEC);
	if (dev->fd < 0) {
		rc = open_error(-errno, path);
		goto free_dev;
	}
	rc = query(dev->fd, &dev->info);
	if (rc) {
		lib_error(rc, "%s: not the vmplat device: %s", path, strerror(-rc));
		goto close_fd;
	}
	*out = dev;
	return 0;
close_fd:
	close(dev->fd);
free_dev:
	free(dev);
	return rc;
}

API void vmplat_close(struct vmplat *dev)
{
	if (!dev)
		return;
	close(dev->fd);
	free(dev);
}

API int vmplat_fd(const struct vmplat *dev)
{
	return dev->fd;
}

API int vmplat_query(struct vmplat *dev, struct vmplat_info *info)
{
	int rc = query(dev->fd, info);

	return rc ? lib_error(rc, "cannot ask the module what it offers: %s",
			      lib_reason(rc)) : 0;
}

API size_t vmplat_page_bytes(const struct vmplat *dev)
{
	return dev->info.out_page_bytes;
}
