// SPDX-License-Identifier: LGPL-2.1-or-later
/* What the module's errnos mean, in words. */
#include <sys/ioctl.h>

#include "lib.h"

int lib_ioctl(int fd, unsigned long cmd, void *arg)
{
	return ioctl(fd, cmd, arg) < 0 ? -errno : 0;
}

const char *lib_reason(int err)
{
	switch (-err) {
	case ENOTTY:
		return "the file is not a vmplat object of this kind, or the module is older "
		       "than this program";
	case E2BIG:
		return "this program asks for something the module is too old to know";
	case EOPNOTSUPP:
		return "the module does not know one of the flags";
	case EMEDIUMTYPE:
		return "the descriptor is not the kind of vmplat object that is needed";
	case EACCES:
		return "the memory is not open for the access that is needed";
	case EOVERFLOW:
		return "first page and number of pages run past 2^64";
	case ERANGE:
		return "the pages lie beyond the end of the object";
	case ENOMEM:
		return "out of memory, or over the memory cgroup's limit";
	case EMFILE:
		return "too many open files in this process";
	case EBADF:
		return "the descriptor is not open";
	default:
		return strerror(-err);
	}
}
