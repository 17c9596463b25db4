// SPDX-License-Identifier: LGPL-2.1-or-later
/* Demand filling: pages that come when somebody asks for them. */
#include <inttypes.h>
#include <stdlib.h>
#include <unistd.h>

#include "lib.h"

API int vmplat_fill_new(struct vmplat_fill **out, struct vmplat *dev, struct vmplat_mem *mem)
{
	struct vmplat_fill_create arg = {
		.size = sizeof(arg), .mem_fd = mem->fd, .out_fd = -1,
	};
	struct vmplat_fill *fill;
	int rc;

	*out = NULL;
	fill = malloc(sizeof(*fill));
	if (!fill)
		return lib_error(-ENOMEM, "out of memory");
	rc = lib_ioctl(dev->fd, VMPLAT_FILL_CREATE, &arg);
	if (rc) {
		free(fill);
		return lib_error(rc, "cannot fill memory descriptor %d on demand: %s", mem->fd,
				 rc == -EBUSY ? "it has pages already, or is being filled" :
				 lib_reason(rc));
	}
	*fill = (struct vmplat_fill) { .fd = arg.out_fd, .page_bytes = vmplat_page_bytes(dev) };
	*out = fill;
	return 0;
}

API void vmplat_fill_close(struct vmplat_fill *fill)
{
	if (!fill)
		return;
	close(fill->fd);
	free(fill);
}

API int vmplat_fill_fd(const struct vmplat_fill *fill)
{
	return fill->fd;
}

/* A signal may stop the kernel part of the way: go on from where it was. */
API int vmplat_fill_put(struct vmplat_fill *fill, uint64_t first, uint64_t nr_pages,
			const void *buf)
{
	uint64_t done = 0;
	int rc;

	do {
		struct vmplat_fill_put arg = {
			.size = sizeof(arg), .first = first + done, .nr_pages = nr_pages - done,
			.buf = buf ? (uintptr_t)buf + done * fill->page_bytes : 0,
		};

		rc = lib_ioctl(fill->fd, VMPLAT_FILL_PUT, &arg);
		if (arg.out_done > nr_pages - done)
			break;
		done += arg.out_done;
	} while ((rc == -EINTR || rc == -EAGAIN) && done < nr_pages);
	if (rc == 0 || done == nr_pages)
		return 0;
	return lib_error(rc, "cannot supply pages %" PRIu64 " + %" PRIu64 " (stopped after "
			 "%" PRIu64 "): %s", first, nr_pages, done, lib_reason(rc));
}

API int vmplat_fill_end(struct vmplat_fill *fill)
{
	struct vmplat_fill_end arg = { .size = sizeof(arg) };
	int rc = lib_ioctl(fill->fd, VMPLAT_FILL_END, &arg);

	return rc ? lib_error(rc, "cannot end the filling: %s", lib_reason(rc)) : 0;
}

API int vmplat_fill_query(struct vmplat_fill *fill, struct vmplat_fill_status *st)
{
	int rc;

	*st = (struct vmplat_fill_status) { .size = sizeof(*st) };
	rc = lib_ioctl(fill->fd, VMPLAT_FILL_STATUS, st);
	return rc ? lib_error(rc, "cannot ask how the filling stands: %s", lib_reason(rc)) : 0;
}
