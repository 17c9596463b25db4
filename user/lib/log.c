// SPDX-License-Identifier: LGPL-2.1-or-later
/* Dirty logs: what may have changed since somebody last asked. */
#include <inttypes.h>
#include <stdlib.h>
#include <unistd.h>

#include "lib.h"

API int vmplat_log_new(struct vmplat_log **out, struct vmplat *dev, struct vmplat_mem *mem,
		       uint32_t flags, uint64_t threshold_pages)
{
	struct vmplat_log_create arg = {
		.size = sizeof(arg), .flags = flags, .mem_fd = mem->fd, .out_fd = -1,
		.threshold_pages = threshold_pages,
	};
	struct vmplat_log *log;
	int rc;

	*out = NULL;
	log = malloc(sizeof(*log));
	if (!log)
		return lib_error(-ENOMEM, "out of memory");
	rc = lib_ioctl(dev->fd, VMPLAT_LOG_CREATE, &arg);
	if (rc) {
		free(log);
		return lib_error(rc, "cannot open a log on memory descriptor %d (flags %#x): %s",
				 mem->fd, flags, lib_reason(rc));
	}
	*log = (struct vmplat_log) {
		.fd = arg.out_fd, .nr_pages = mem->bytes / vmplat_page_bytes(dev),
	};
	*out = log;
	return 0;
}

API void vmplat_log_close(struct vmplat_log *log)
{
	if (!log)
		return;
	close(log->fd);
	free(log);
}

API int vmplat_log_fd(const struct vmplat_log *log)
{
	return log->fd;
}

static int fetch(struct vmplat_log *log, struct vmplat_log_fetch *arg)
{
	int rc = lib_ioctl(log->fd, VMPLAT_LOG_FETCH, arg);

	log->nr_unsure = rc ? 0 : arg->out_nr_unsure;
	switch (rc) {
	case 0:
		return 0;
	case -EBUSY:
		return lib_error(rc, "cannot fetch from the log: its marks are borrowed by an "
				 "earlier fetch or by a view");
	case -ERANGE:
	case -EOVERFLOW:
		return lib_error(rc, "cannot fetch pages %" PRIu64 " + %" PRIu64 " from the log of "
				 "%" PRIu64 " pages: %s", (uint64_t)arg->first,
				 (uint64_t)arg->nr_pages, log->nr_pages, lib_reason(rc));
	default:
		return lib_error(rc, "cannot fetch pages %" PRIu64 " + %" PRIu64 " from the log "
				 "(flags %#x, %" PRIu64 " bytes of room): %s", (uint64_t)arg->first,
				 (uint64_t)arg->nr_pages, arg->flags, (uint64_t)arg->buf_bytes,
				 lib_reason(rc));
	}
}

API int64_t vmplat_log_bitmap(struct vmplat_log *log, uint32_t flags, uint64_t first,
			      uint64_t nr_pages, uint64_t *bits)
{
	struct vmplat_log_fetch arg = {
		.size = sizeof(arg), .flags = flags, .first = first, .nr_pages = nr_pages,
		.buf = (uintptr_t)bits, .buf_bytes = (nr_pages / 64 + !!(nr_pages % 64)) * 8,
	};
	int rc;

	if (flags & VMPLAT_LOG_FETCH_F_RANGES)
		return lib_error(-EOPNOTSUPP, "a bitmap was asked for with the flag for ranges");
	rc = fetch(log, &arg);
	return rc ? rc : (int64_t)arg.out_nr_dirty;
}

#define TAKE_PAGES	(1ULL << 20)

API int64_t vmplat_log_take(struct vmplat_log *log)
{
	uint64_t *bits = malloc(TAKE_PAGES / 8);
	int64_t sum = 0, nr = 0;
	uint64_t unsure = 0;

	if (!bits)
		return lib_error(-ENOMEM, "out of memory");
	for (uint64_t first = 0; first < log->nr_pages && nr >= 0; first += TAKE_PAGES) {
		uint64_t left = log->nr_pages - first;

		nr = vmplat_log_bitmap(log, VMPLAT_LOG_FETCH_F_CLEAR, first,
				       left < TAKE_PAGES ? left : TAKE_PAGES, bits);
		sum += nr;
		unsure += log->nr_unsure;
	}
	free(bits);
	log->nr_unsure = nr < 0 ? 0 : unsure;
	return nr < 0 ? nr : sum;
}

API uint64_t vmplat_log_unsure(const struct vmplat_log *log)
{
	return log->nr_unsure;
}

API int64_t vmplat_log_ranges(struct vmplat_log *log, uint32_t flags, uint64_t first,
			      uint64_t nr_pages, struct vmplat_range *ranges, size_t nr_ranges,
			      uint64_t *next)
{
	struct vmplat_log_fetch arg = {
		.size = sizeof(arg), .flags = flags | VMPLAT_LOG_FETCH_F_RANGES, .first = first,
		.nr_pages = nr_pages, .buf = (uintptr_t)ranges,
		.buf_bytes = (uint64_t)nr_ranges * sizeof(*ranges),
	};
	int rc = fetch(log, &arg);

	if (rc)
		return rc;
	if (next)
		*next = arg.out_next;
	return (int64_t)arg.out_nr_ranges;
}

static int end(struct vmplat_log *log, uint32_t flags, const uint8_t *id)
{
	struct vmplat_log_end arg = { .size = sizeof(arg), .flags = flags };
	int rc;

	if (id)
		memcpy(arg.id, id, sizeof(arg.id));
	rc = lib_ioctl(log->fd, VMPLAT_LOG_END, &arg);
	if (!rc)
		return 0;
	return lib_error(rc, "cannot %s what was fetched from the log: %s",
			 flags & VMPLAT_LOG_END_F_ABORT ? "give back" : "commit",
			 rc == -EBUSY ? "a view holds its marks" : lib_reason(rc));
}

API int vmplat_log_commit(struct vmplat_log *log, const uint8_t id[VMPLAT_ID_BYTES])
{
	return end(log, 0, id);
}

API int vmplat_log_abort(struct vmplat_log *log)
{
	return end(log, VMPLAT_LOG_END_F_ABORT, NULL);
}

API int vmplat_log_query(struct vmplat_log *log, struct vmplat_log_status *st)
{
	int rc;

	*st = (struct vmplat_log_status) { .size = sizeof(*st) };
	rc = lib_ioctl(log->fd, VMPLAT_LOG_STATUS, st);
	return rc ? lib_error(rc, "cannot ask the log how it stands: %s", lib_reason(rc)) : 0;
}
