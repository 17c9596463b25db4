// SPDX-License-Identifier: LGPL-2.1-or-later
/* Views: one frozen instant of one or several memories. */
#include <inttypes.h>
#include <stdlib.h>
#include <sys/ioctl.h>
#include <unistd.h>

#include "lib.h"

static int freeze_error(int rc, size_t nr_mems, uint32_t flags)
{
	switch (-rc) {
	case EBUSY:
		return lib_error(rc, "cannot freeze: marks of a log are borrowed already, by a "
				 "fetch or by another view");
	case ESTALE:
		return lib_error(rc, "cannot freeze: a log does not stand where the base ends "
				 "(its label differs); take a full snapshot");
	case EINVAL:
		return lib_error(rc, "cannot freeze %zu memories (flags %#x): a log belongs to "
				 "another memory, a memory is given twice, an increment lacks a "
				 "log, or there are no memories or more than %d", nr_mems, flags,
				 VMPLAT_VIEW_MAX_MEMS);
	default:
		return lib_error(rc, "cannot freeze %zu memories (flags %#x): %s", nr_mems, flags,
				 lib_reason(rc));
	}
}

API int vmplat_freeze(struct vmplat_view **out, struct vmplat *dev,
		      const struct vmplat_freeze_mem *mems, size_t nr_mems, uint32_t flags,
		      uint64_t side_bytes)
{
	struct vmplat_view_mem list[VMPLAT_VIEW_MAX_MEMS];
	struct vmplat_view_create arg = {
		.size = sizeof(arg), .flags = flags, .mems = (uintptr_t)list,
		.nr_mems = nr_mems, .out_fd = -1, .side_bytes = side_bytes,
	};
	struct vmplat_view *view;
	int rc;

	*out = NULL;
	if (!nr_mems || nr_mems > VMPLAT_VIEW_MAX_MEMS)
		return lib_error(-EINVAL, "cannot freeze %zu memories: between 1 and %d", nr_mems,
				 VMPLAT_VIEW_MAX_MEMS);
	memset(list, 0, sizeof(list));
	for (size_t i = 0; i < nr_mems; i++) {
		list[i].mem_fd = mems[i].mem->fd;
		list[i].log_fd = mems[i].log ? mems[i].log->fd : -1;
		if (mems[i].id)
			memcpy(list[i].id, mems[i].id, sizeof(list[i].id));
	}
	view = malloc(sizeof(*view));
	if (!view)
		return lib_error(-ENOMEM, "out of memory");
	rc = lib_ioctl(dev->fd, VMPLAT_VIEW_CREATE, &arg);
	if (rc) {
		free(view);
		return freeze_error(rc, nr_mems, flags);
	}
	*view = (struct vmplat_view) { .fd = arg.out_fd, .bytes = arg.out_bytes };
	*out = view;
	return 0;
}

API int vmplat_view_from_fd(struct vmplat_view **out, int fd)
{
	struct vmplat_view_status st = { .size = sizeof(st) };
	struct vmplat_view *view;
	int rc;

	*out = NULL;
	rc = lib_ioctl(fd, VMPLAT_VIEW_STATUS, &st);
	if (rc)
		return lib_error(rc, "descriptor %d is not a view: %s", fd, strerror(-rc));
	view = malloc(sizeof(*view));
	if (!view)
		return lib_error(-ENOMEM, "out of memory");
	*view = (struct vmplat_view) { .fd = fd, .bytes = st.out_bytes };
	*out = view;
	return 0;
}

API void vmplat_view_close(struct vmplat_view *view)
{
	if (!view)
		return;
	close(view->fd);
	free(view);
}

API int vmplat_view_fd(const struct vmplat_view *view)
{
	return view->fd;
}

API uint64_t vmplat_view_bytes(const struct vmplat_view *view)
{
	return view->bytes;
}

API int vmplat_view_discard(struct vmplat_view *view, uint64_t first, uint64_t nr_pages)
{
	struct vmplat_view_discard arg = {
		.size = sizeof(arg), .first = first, .nr_pages = nr_pages,
	};
	int rc = lib_ioctl(view->fd, VMPLAT_VIEW_DISCARD, &arg);

	return rc ? lib_error(rc, "cannot discard pages %" PRIu64 " + %" PRIu64 " of a view of "
			      "%" PRIu64 " bytes: %s", first, nr_pages, view->bytes,
			      lib_reason(rc)) : 0;
}

API int vmplat_view_commit(struct vmplat_view *view, const uint8_t id[VMPLAT_ID_BYTES])
{
	struct vmplat_view_commit arg = { .size = sizeof(arg) };
	int rc;

	memcpy(arg.id, id, sizeof(arg.id));
	rc = lib_ioctl(view->fd, VMPLAT_VIEW_COMMIT, &arg);
	switch (rc) {
	case 0:
		return 0;
	case -ENODATA:
		return lib_error(rc, "cannot commit the view: it broke while it was read");
	case -EALREADY:
		return lib_error(rc, "cannot commit the view: it is committed");
	case -EINVAL:
		return lib_error(rc, "cannot commit the view: the label is all zero");
	default:
		return lib_error(rc, "cannot commit the view: %s", lib_reason(rc));
	}
}

API int vmplat_view_query(struct vmplat_view *view, struct vmplat_view_status *st)
{
	int rc;

	*st = (struct vmplat_view_status) { .size = sizeof(*st) };
	rc = lib_ioctl(view->fd, VMPLAT_VIEW_STATUS, st);
	return rc ? lib_error(rc, "cannot ask the view how it stands: %s", lib_reason(rc)) : 0;
}
