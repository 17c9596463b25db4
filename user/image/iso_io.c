// SPDX-License-Identifier: LGPL-2.1-or-later
/*
 * Bytes of a disc, and what is wrong with them. Small reads (descriptors, directories,
 * small files) go through windows of 64 KiB, the least recently used of which is
 * replaced; large ones go straight to the file.
 */
#include <inttypes.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <unistd.h>

#include "image/iso.h"
#include "lib/pread.h"

bool iso_inside(const struct vmplat_iso *iso, uint64_t pos, uint64_t bytes)
{
	return pos <= iso->bytes && bytes <= iso->bytes - pos;
}

static int read_error(struct vmplat_iso *iso, int err, size_t len, uint64_t off)
{
	if (err == -ENODATA)
		return lib_error(err, "the disc ends at %" PRIu64 ", in what it has at %" PRIu64
				 " (%zu bytes): the image is cut short", iso->bytes, off, len);
	return lib_error(err, "cannot read %zu bytes at %" PRIu64 " of the disc: %s", len, off,
			 strerror(-err));
}

static int window_fill(struct vmplat_iso *iso, struct iso_window *w, uint64_t off)
{
	ssize_t n;

	if (!w->buf)
		w->buf = malloc(WINDOW_BYTES);
	if (!w->buf)
		return -ENOMEM;
	w->len = 0;
	n = pread_some(iso->fd, w->buf, WINDOW_BYTES, off);
	if (n < 0)
		return n;
	w->off = off;
	w->len = n;
	return 0;
}

/* The window that begins at @off; lock held. */
static int window_get(struct vmplat_iso *iso, uint64_t off, struct iso_window **out)
{
	struct iso_window *oldest = iso->window;
	int rc;

	for (struct iso_window *w = iso->window; w < iso->window + NR_WINDOWS; w++) {
		if (w->len && w->off == off) {
			w->used = ++iso->clock;
			*out = w;
			return 0;
		}
		if (!w->len || (int32_t)(w->used - oldest->used) < 0)
			oldest = w;
		if (!w->len)
			break;
	}
	rc = window_fill(iso, oldest, off);
	oldest->used = ++iso->clock;
	*out = oldest;
	return rc;
}

static int read_cached(struct vmplat_iso *iso, uint8_t *buf, size_t len, uint64_t off)
{
	struct iso_window *w;
	int rc = 0;

	pthread_mutex_lock(&iso->lock);
	while (len) {
		uint64_t base = off - off % WINDOW_BYTES;
		size_t in = off - base, n = WINDOW_BYTES - in;

		if (n > len)
			n = len;
		rc = window_get(iso, base, &w);
		if (!rc && in + n > w->len)
			rc = -ENODATA;
		if (rc)
			break;
		memcpy(buf, w->buf + in, n);
		buf += n;
		off += n;
		len -= n;
	}
	pthread_mutex_unlock(&iso->lock);
	return rc;
}

int iso_read(struct vmplat_iso *iso, void *buf, size_t len, uint64_t off)
{
	int rc;

	if (!iso_inside(iso, off, len))
		return read_error(iso, -ENODATA, len, off);
	if (len < WINDOW_BYTES / 2) {
		rc = read_cached(iso, buf, len, off);
	} else {
		ssize_t n = pread_some(iso->fd, buf, len, off);

		rc = n < 0 ? n : (size_t)n < len ? -ENODATA : 0;
	}
	return rc ? read_error(iso, rc, len, off) : 0;
}

/* ---- what is wrong ----------------------------------------------------- */

int iso_issue(struct vmplat_iso *iso, enum vmplat_iso_severity severity, const char *name,
	      uint64_t off, const char *fmt, ...)
{
	struct vmplat_iso_issue issue = {
		.name = name, .severity = severity, .offset = off, .path = iso->where,
	};
	char text[200];
	va_list ap;

	if (severity != VMPLAT_ISO_ERROR && (!iso->on_issue || iso->quiet))
		return -EBADMSG;
	va_start(ap, fmt);
	vsnprintf(text, sizeof(text), fmt, ap);
	va_end(ap);
	issue.text = text;
	if (severity == VMPLAT_ISO_ERROR)
		lib_error(-EBADMSG, "%s (%s, at offset %" PRIu64 ")", text, name, off);
	if (iso->on_issue && !iso->quiet) {
		iso->nr_errors += severity == VMPLAT_ISO_ERROR;
		iso->on_issue(iso->issue_ctx, &issue);
	}
	return -EBADMSG;
}

API void vmplat_iso_on_issue(struct vmplat_iso *iso,
			     void (*fn)(void *ctx, const struct vmplat_iso_issue *issue),
			     void *ctx)
{
	iso->on_issue = fn;
	iso->issue_ctx = ctx;
}

uint32_t iso_both32(struct vmplat_iso *iso, const uint8_t *p, uint64_t off, const char *what)
{
	uint32_t le = le32(p), be = be32(p + 4);

	if (le != be)
		iso_warn(iso, "both-endian", off,
			 "%s is %" PRIu32 " in little-endian, %" PRIu32 " in big-endian order",
			 what, le, be);
	return le;
}

uint16_t iso_both16(struct vmplat_iso *iso, const uint8_t *p, uint64_t off, const char *what)
{
	uint16_t le = le16(p), be = be16(p + 2);

	if (le != be)
		iso_warn(iso, "both-endian", off,
			 "%s is %u in little-endian, %u in big-endian order", what, le, be);
	return le;
}

/* ---- sections ---------------------------------------------------------- */

static bool continues(const struct iso_section *a, const struct iso_section *b)
{
	return !a->unit && !b->unit && a->hole == b->hole &&
	       (a->hole || a->pos + a->bytes == b->pos);
}

int iso_section_add(struct iso_sections *s, struct iso_section add)
{
	struct iso_section *last = s->nr > 1 ? &s->many[s->nr - 1] : &s->one, *many;

	if (!add.bytes)
		return 0;
	if (add.bytes > INT64_MAX - s->bytes)
		return lib_error(-EBADMSG, "the file's sections add up to more than 2^63 bytes");
	add.off = s->bytes;
	s->bytes += add.bytes;
	if (s->nr && continues(last, &add)) {
		last->bytes += add.bytes;
		return 0;
	}
	if (!s->nr) {
		s->one = add;
		s->nr = 1;
		return 0;
	}
	if (s->nr == ISO_SECTIONS_MAX)
		return lib_error(-EFBIG, "the file lies in more than %d pieces", ISO_SECTIONS_MAX);
	if (s->nr >= s->room) {
		s->room = s->room ? s->room * 2 : 16;
		many = realloc(s->many, s->room * sizeof(*many));
		if (!many)
			return lib_error(-ENOMEM, "out of memory");
		s->many = many;
	}
	if (s->nr == 1)
		s->many[0] = s->one;
	s->many[s->nr++] = add;
	return 0;
}

const struct iso_section *iso_section_at(const struct iso_sections *s, uint64_t off)
{
	const struct iso_section *list = s->nr > 1 ? s->many : &s->one;
	unsigned int lo = 0, hi = s->nr;

	while (hi - lo > 1) {
		unsigned int mid = lo + (hi - lo) / 2;

		if (list[mid].off <= off)
			lo = mid;
		else
			hi = mid;
	}
	return list + lo;
}

void iso_sections_free(struct iso_sections *s)
{
	free(s->many);
	memset(s, 0, sizeof(*s));
}

void iso_sections_map(const struct iso_sections *s, uint64_t off, struct vmplat_iso_extent *x)
{
	const struct iso_section *e = iso_section_at(s, off);
	uint64_t in = off - e->off;

	*x = (struct vmplat_iso_extent) { .off = off, .bytes = e->bytes - in, .hole = e->hole };
	if (e->unit) {
		uint32_t r = in % e->unit;

		x->pos = e->pos + in / e->unit * ((uint64_t)e->unit + e->gap) + r;
		if (x->bytes > e->unit - r)
			x->bytes = e->unit - r;
	} else if (!e->hole) {
		x->pos = e->pos + in;
	}
}

int iso_sections_read(struct vmplat_iso *iso, const struct iso_sections *s, void *buf,
		      size_t len, uint64_t off)
{
	struct vmplat_iso_extent x;
	uint8_t *to = buf;
	int rc;

	while (len) {
		size_t n;

		iso_sections_map(s, off, &x);
		n = x.bytes < len ? x.bytes : len;
		rc = 0;
		if (x.hole)
			memset(to, 0, n);
		else
			rc = iso_read(iso, to, n, x.pos);
		if (rc)
			return rc;
		to += n;
		off += n;
		len -= n;
	}
	return 0;
}
