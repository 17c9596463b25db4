// SPDX-License-Identifier: GPL-2.0-only
/* The VM state blob; state.h has the bytes. */
#include "state.h"

#include <ctype.h>
#include <errno.h>
#include <stdlib.h>
#include <string.h>

#define HEADER_BYTES	32
#define CRC_BYTES	4

static uint32_t crc32_update(uint32_t crc, const void *buf, size_t len)
{
	const uint8_t *p = buf;

	for (; len; len--, p++) {
		crc ^= *p;
		for (int i = 0; i < 8; i++)
			crc = crc >> 1 ^ (crc & 1 ? 0xedb88320u : 0);
	}
	return crc;
}

static void store_le(uint8_t *p, uint64_t v, unsigned int n)
{
	for (unsigned int i = 0; i < n; i++)
		p[i] = (uint8_t)(v >> (8 * i));
}

static uint64_t load_le(const uint8_t *p, unsigned int n)
{
	uint64_t v = 0;

	for (unsigned int i = 0; i < n; i++)
		v |= (uint64_t)p[i] << (8 * i);
	return v;
}

/* ---- writing ------------------------------------------------------------ */

/* room for @len more bytes, or NULL with the writer's error set */
static uint8_t *writer_grow(struct state_writer *w, size_t len)
{
	size_t cap = w->cap ? w->cap : 4096;
	uint8_t *buf;

	if (w->err)
		return NULL;
	if (len > STATE_BYTES_MAX || w->len + len > STATE_BYTES_MAX) {
		w->err = -EFBIG;
		return NULL;
	}
	while (cap < w->len + len)
		cap *= 2;
	if (cap != w->cap) {
		buf = realloc(w->buf, cap);
		if (!buf) {
			w->err = -ENOMEM;
			return NULL;
		}
		w->buf = buf;
		w->cap = cap;
	}
	w->len += len;
	return w->buf + w->len - len;
}

void state_writer_init(struct state_writer *w)
{
	uint8_t *p;

	memset(w, 0, sizeof(*w));
	p = writer_grow(w, HEADER_BYTES);
	if (p)
		memset(p, 0, HEADER_BYTES);
}

void state_writer_free(struct state_writer *w)
{
	free(w->buf);
	memset(w, 0, sizeof(*w));
}

int state_writer_finish(struct state_writer *w)
{
	if (!w->err && w->section)
		w->err = -EINVAL;
	if (w->err)
		return w->err;
	memcpy(w->buf, STATE_MAGIC, 8);
	store_le(w->buf + 8, STATE_VERSION, 4);
	store_le(w->buf + 12, w->nr_sections, 4);
	store_le(w->buf + 16, w->len, 8);
	store_le(w->buf + 24, 0, 8);
	return 0;
}

void state_begin(struct state_writer *w, const char *name, uint32_t version)
{
	size_t n = strlen(name);
	size_t at = w->len;
	uint8_t *p;

	if (!w->err && (w->section || !n || n > STATE_NAME_MAX ||
			w->nr_sections == STATE_SECTIONS_MAX))
		w->err = -EINVAL;
	p = writer_grow(w, 1 + n + 4 + 8 + CRC_BYTES);
	if (!p)
		return;
	p[0] = (uint8_t)n;
	memcpy(p + 1, name, n);
	store_le(p + 1 + n, version, 4);
	w->section = at;
}

void state_end(struct state_writer *w)
{
	uint8_t *p;
	size_t n, head;
	uint32_t crc;

	if (!w->err && !w->section)
		w->err = -EINVAL;
	if (w->err)
		return;
	p = w->buf + w->section;
	n = p[0];
	head = 1 + n + 4 + 8;
	store_le(p + 1 + n + 4, w->len - w->section - head - CRC_BYTES, 8);
	crc = crc32_update(~0u, p, head);
	crc = crc32_update(crc, p + head + CRC_BYTES,
			   w->len - w->section - head - CRC_BYTES);
	store_le(p + head, ~crc, CRC_BYTES);
	w->section = 0;
	w->nr_sections++;
}

static void put_le(struct state_writer *w, uint64_t v, unsigned int n)
{
	uint8_t *p = writer_grow(w, n);

	if (p)
		store_le(p, v, n);
}

void state_put_u8(struct state_writer *w, uint8_t v)
{
	put_le(w, v, 1);
}

void state_put_u16(struct state_writer *w, uint16_t v)
{
	put_le(w, v, 2);
}

void state_put_u32(struct state_writer *w, uint32_t v)
{
	put_le(w, v, 4);
}

void state_put_u64(struct state_writer *w, uint64_t v)
{
	put_le(w, v, 8);
}

void state_put_bytes(struct state_writer *w, const void *buf, size_t len)
{
	uint8_t *p = writer_grow(w, len);

	if (p && len)
		memcpy(p, buf, len);
}

void state_put_blob(struct state_writer *w, const void *buf, uint32_t len)
{
	state_put_u32(w, len);
	state_put_bytes(w, buf, len);
}

/* ---- reading ------------------------------------------------------------ */

static const uint8_t *reader_take(struct state_reader *r, size_t len)
{
	const uint8_t *p = r->p;

	if (r->err)
		return NULL;
	if (len > (size_t)(r->end - r->p)) {
		r->err = -EBADMSG;
		return NULL;
	}
	r->p += len;
	return p;
}

static uint64_t get_le(struct state_reader *r, unsigned int n)
{
	const uint8_t *p = reader_take(r, n);

	return p ? load_le(p, n) : 0;
}

uint8_t state_get_u8(struct state_reader *r)
{
	return (uint8_t)get_le(r, 1);
}

uint16_t state_get_u16(struct state_reader *r)
{
	return (uint16_t)get_le(r, 2);
}

uint32_t state_get_u32(struct state_reader *r)
{
	return (uint32_t)get_le(r, 4);
}

uint64_t state_get_u64(struct state_reader *r)
{
	return get_le(r, 8);
}

void state_get_bytes(struct state_reader *r, void *buf, size_t len)
{
	const uint8_t *p = reader_take(r, len);

	if (p)
		memcpy(buf, p, len);
	else
		memset(buf, 0, len);
}

const void *state_get_blob(struct state_reader *r, uint32_t *len)
{
	const uint8_t *p;

	*len = state_get_u32(r);
	p = reader_take(r, *len);
	if (!p)
		*len = 0;
	return p;
}

static bool name_ok(const uint8_t *p, size_t n)
{
	for (size_t i = 0; i < n; i++)
		if (p[i] <= ' ' || p[i] > '~')
			return false;
	return n >= 1 && n <= STATE_NAME_MAX;
}

/* parse one section at @p; returns bytes used, 0 if it is not whole and right */
static size_t section_parse(struct state_section *s, const uint8_t *p,
			    size_t left, const char **why)
{
	size_t n, head;
	uint64_t len;
	uint32_t crc;

	*why = "a section is cut short";
	if (left < 1)
		return 0;
	n = p[0];
	head = 1 + n + 4 + 8;
	if (left < head + CRC_BYTES)
		return 0;
	len = load_le(p + 1 + n + 4, 8);
	if (len > left - head - CRC_BYTES)
		return 0;
	*why = "a section's checksum is wrong";
	crc = crc32_update(~0u, p, head);
	crc = crc32_update(crc, p + head + CRC_BYTES, len);
	if (load_le(p + head, CRC_BYTES) != (uint32_t)~crc)
		return 0;
	*why = "a section has no proper name";
	if (!name_ok(p + 1, n))
		return 0;
	memcpy(s->name, p + 1, n);
	s->name[n] = 0;
	s->version = (uint32_t)load_le(p + 1 + n, 4);
	s->payload = p + head + CRC_BYTES;
	s->len = len;
	return head + CRC_BYTES + len;
}

static int header_check(const uint8_t *p, size_t len, const char **why)
{
	*why = "it is shorter than its header";
	if (len < HEADER_BYTES)
		return -EBADMSG;
	*why = "it does not start with " STATE_MAGIC;
	if (memcmp(p, STATE_MAGIC, 8))
		return -EBADMSG;
	*why = "its framing is of a newer version";
	if (load_le(p + 8, 4) != STATE_VERSION || load_le(p + 24, 8))
		return -EOPNOTSUPP;
	*why = "its length is not what its header says";
	if (load_le(p + 16, 8) != len || len > STATE_BYTES_MAX)
		return -EBADMSG;
	*why = "it has too many sections";
	if (load_le(p + 12, 4) > STATE_SECTIONS_MAX)
		return -EBADMSG;
	return 0;
}

static bool name_known(const struct state_blob *b, const char *name)
{
	for (uint32_t i = 0; i < b->nr_sections; i++)
		if (!strcmp(b->sections[i].name, name))
			return true;
	return false;
}

int state_blob_parse(struct state_blob *b, const void *buf, size_t len,
		     const char **why)
{
	const uint8_t *p = buf;
	size_t at = HEADER_BYTES;
	uint32_t nr;
	int ret;

	memset(b, 0, sizeof(*b));
	ret = header_check(p, len, why);
	if (ret)
		return ret;
	nr = (uint32_t)load_le(p + 12, 4);
	b->sections = calloc(nr ? nr : 1, sizeof(*b->sections));
	if (!b->sections) {
		*why = "out of memory";
		return -ENOMEM;
	}
	for (uint32_t i = 0; i < nr; i++) {
		size_t used = section_parse(&b->sections[i], p + at, len - at, why);

		if (used && name_known(b, b->sections[i].name)) {
			*why = "a section is there twice";
			used = 0;
		}
		if (!used)
			goto bad;
		at += used;
		b->nr_sections++;
	}
	if (at == len)
		return 0;
	*why = "it goes on after its last section";
bad:
	state_blob_free(b);
	return -EBADMSG;
}

void state_blob_free(struct state_blob *b)
{
	free(b->sections);
	memset(b, 0, sizeof(*b));
}

int state_blob_find(const struct state_blob *b, const char *name,
		    struct state_reader *r, uint32_t *version)
{
	for (uint32_t i = 0; i < b->nr_sections; i++) {
		const struct state_section *s = &b->sections[i];

		if (strcmp(s->name, name))
			continue;
		r->p = s->payload;
		r->end = s->payload + s->len;
		r->err = 0;
		*version = s->version;
		return 0;
	}
	return -ENOENT;
}
