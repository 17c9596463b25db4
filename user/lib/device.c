// SPDX-License-Identifier: LGPL-2.1-or-later
/* The control device: opened once, asked once what it can do. */
#include <fcntl.h>
#include <stdio.h>
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

API int vmplat_pci_hold(struct vmplat *dev, const char *address, uint32_t flags)
{
	struct vmplat_pci_hold arg = { .size = sizeof(arg), .flags = flags, .out_fd = -1 };
	unsigned int domain, bus, slot, fn;
	int rc, end = 0;

	if (sscanf(address, "%x:%2x:%2x.%1o%n", &domain, &bus, &slot, &fn, &end) != 4 ||
	    address[end] || slot > 31)
		return lib_error(-EINVAL, "'%s' is no PCI address like 0000:00:1f.2", address);
	arg.domain = domain;
	arg.devid = bus << 8 | slot << 3 | fn;
	rc = lib_ioctl(dev->fd, VMPLAT_PCI_HOLD, &arg);
	switch (rc) {
	case 0:
		return arg.out_fd;
	case -EBUSY:
		return lib_error(rc, "%s is in use: process %u has it open", address, arg.out_pid);
	case -ENODEV:
		return lib_error(rc, "there is no PCI function %s", address);
	case -ENXIO:
		return lib_error(rc, "%s: its driver is not vmplat_vfio, so nobody knows who opens it",
				 address);
	default:
		return lib_error(rc, "%s cannot be held: %s", address, lib_reason(rc));
	}
}

API size_t vmplat_page_bytes(const struct vmplat *dev)
{
	return dev->info.out_page_bytes;
}
