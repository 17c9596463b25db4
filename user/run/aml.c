// SPDX-License-Identifier: GPL-2.0-only
#include "aml.h"

#include <stdio.h>
#include <string.h>

/* ---- bytes ----------------------------------------------------------------- */

void aml_put(struct aml *b, const void *p, size_t n)
{
	if (b->len + n <= b->cap)
		memcpy(b->p + b->len, p, n);
	b->len += n;
}

void aml_put8(struct aml *b, unsigned int v)
{
	uint8_t c = (uint8_t)v;

	aml_put(b, &c, 1);
}

void aml_put16(struct aml *b, unsigned int v)
{
	aml_put8(b, v);
	aml_put8(b, v >> 8);
}

void aml_put32(struct aml *b, uint32_t v)
{
	aml_put16(b, v);
	aml_put16(b, v >> 16);
}

void aml_put64(struct aml *b, uint64_t v)
{
	aml_put32(b, (uint32_t)v);
	aml_put32(b, (uint32_t)(v >> 32));
}

void aml_zero(struct aml *b, size_t n)
{
	while (n--)
		aml_put8(b, 0);
}

/* extended opcodes have a prefix */
static void ext(struct aml *b, unsigned int op)
{
	aml_put8(b, 0x5b);
	aml_put8(b, op);
}

/* ---- packages ---------------------------------------------------------------- */

/* Lengths are always written in their 3-byte form. */
size_t aml_pkg_begin(struct aml *b)
{
	size_t at = b->len;

	aml_zero(b, 3);
	return at;
}

void aml_pkg_end(struct aml *b, size_t at)
{
	size_t n = b->len - at;

	if (b->len > b->cap)
		return;
	b->p[at] = (uint8_t)(0x80 | (n & 0xf));
	b->p[at + 1] = (uint8_t)(n >> 4);
	b->p[at + 2] = (uint8_t)(n >> 12);
}

/* ---- names, numbers ---------------------------------------------------------- */

void aml_name(struct aml *b, const char *name)
{
	aml_put8(b, 0x08);
	aml_put(b, name, 4);
}

void aml_int(struct aml *b, uint32_t v)
{
	aml_put8(b, 0x0c);
	aml_put32(b, v);
}

void aml_string(struct aml *b, const char *text)
{
	aml_put8(b, 0x0d);
	aml_put(b, text, strlen(text) + 1);
}

/* three letters of 5 bits, then four hexadecimal digits, big endian */
void aml_hid(struct aml *b, const char *id)
{
	unsigned int v = 0, product = 0;

	for (int i = 0; i < 3; i++)
		v = v << 5 | (unsigned int)(id[i] - '@');
	sscanf(id + 3, "%4x", &product);
	aml_name(b, "_HID");
	aml_put8(b, 0x0c);
	aml_put8(b, v >> 8);
	aml_put8(b, v);
	aml_put8(b, product >> 8);
	aml_put8(b, product);
}

void aml_path(struct aml *b, unsigned int nr, const char *const *segs)
{
	aml_put8(b, '\\');
	aml_put8(b, 0x2f);
	aml_put8(b, nr);
	for (unsigned int i = 0; i < nr; i++)
		aml_put(b, segs[i], 4);
}

/* ---- objects ----------------------------------------------------------------- */

size_t aml_scope(struct aml *b, const char *path)
{
	size_t at;

	aml_put8(b, 0x10);
	at = aml_pkg_begin(b);
	aml_put(b, path, strlen(path));
	return at;
}

size_t aml_device(struct aml *b, const char *name)
{
	size_t at;

	ext(b, 0x82);
	at = aml_pkg_begin(b);
	aml_put(b, name, 4);
	return at;
}

/* serialized: what a method creates has one owner at a time */
size_t aml_method(struct aml *b, const char *name, unsigned int nr_args)
{
	size_t at;

	aml_put8(b, 0x14);
	at = aml_pkg_begin(b);
	aml_put(b, name, 4);
	aml_put8(b, nr_args | 0x08);
	return at;
}

void aml_region_io(struct aml *b, const char *name, unsigned int port, unsigned int bytes)
{
	ext(b, 0x80);
	aml_put(b, name, 4);
	aml_put8(b, 1);
	aml_int(b, port);
	aml_int(b, bytes);
}

size_t aml_fields(struct aml *b, const char *region)
{
	size_t at;

	ext(b, 0x81);
	at = aml_pkg_begin(b);
	aml_put(b, region, 4);
	aml_put8(b, 3);		/* DWordAcc, NoLock, Preserve */
	return at;
}

/* the width is coded like a package's length; the 2-byte form does for all */
void aml_field(struct aml *b, const char *name, unsigned int bits)
{
	aml_put(b, name, 4);
	aml_put8(b, 0x40 | (bits & 0xf));
	aml_put8(b, bits >> 4);
}

/* ---- terms --------------------------------------------------------------------- */

size_t aml_if(struct aml *b)
{
	aml_put8(b, 0xa0);
	return aml_pkg_begin(b);
}

void aml_qword_field(struct aml *b, unsigned int buffer, unsigned int off, const char *name)
{
	aml_put8(b, 0x8f);
	aml_var(b, buffer);
	aml_int(b, off);
	aml_put(b, name, 4);
}

/* ---- resources ------------------------------------------------------------------ */

size_t aml_buffer(struct aml *b, size_t *size_at)
{
	size_t at;

	aml_put8(b, 0x11);
	at = aml_pkg_begin(b);
	aml_put8(b, 0x0b);	/* the size, as a word */
	*size_at = b->len;
	aml_put16(b, 0);
	return at;
}

void aml_buffer_end(struct aml *b, size_t at, size_t size_at)
{
	size_t n;

	aml_put8(b, 0x79);	/* end tag, checksum not used */
	aml_put8(b, 0);
	n = b->len - size_at - 2;
	if (b->len <= b->cap) {
		b->p[size_at] = (uint8_t)n;
		b->p[size_at + 1] = (uint8_t)(n >> 8);
	}
	aml_pkg_end(b, at);
}

void aml_res_io(struct aml *b, unsigned int base, unsigned int len)
{
	aml_put8(b, 0x47);
	aml_put8(b, 1);
	aml_put16(b, base);
	aml_put16(b, base);
	aml_put8(b, 1);
	aml_put8(b, len);
}

void aml_res_irq(struct aml *b, unsigned int irq)
{
	aml_put8(b, 0x22);
	aml_put16(b, 1u << irq);
}

void aml_res_gsi(struct aml *b, uint32_t gsi)
{
	aml_put8(b, 0x89);
	aml_put16(b, 6);
	aml_put8(b, 0x01);	/* consumer */
	aml_put8(b, 1);
	aml_put32(b, gsi);
}

void aml_res_word(struct aml *b, unsigned int kind, unsigned int min, unsigned int max)
{
	aml_put8(b, 0x88);
	aml_put16(b, 13);
	aml_put8(b, kind);
	aml_put8(b, 0x0c);	/* fixed on both sides, producer */
	aml_put8(b, kind == AML_RES_IO ? 3 : 0);
	aml_put16(b, 0);
	aml_put16(b, min);
	aml_put16(b, max);
	aml_put16(b, 0);
	aml_put16(b, max - min + 1);
}

void aml_res_mem32(struct aml *b, uint32_t min, uint32_t max)
{
	aml_put8(b, 0x87);
	aml_put16(b, 23);
	aml_put8(b, 0);
	aml_put8(b, 0x0c);
	aml_put8(b, 1);		/* writable, not cacheable */
	aml_put32(b, 0);
	aml_put32(b, min);
	aml_put32(b, max);
	aml_put32(b, 0);
	aml_put32(b, max - min + 1);
}

void aml_res_mmio64(struct aml *b, uint64_t min, uint64_t max)
{
	aml_put8(b, 0x8a);
	aml_put16(b, 43);
	aml_put8(b, 0);
	aml_put8(b, 0x0c);
	aml_put8(b, 1);		/* writable, not cacheable */
	aml_put64(b, 0);
	aml_put64(b, min);
	aml_put64(b, max);
	aml_put64(b, 0);
	aml_put64(b, max - min + 1);
}

void aml_res_mem64(struct aml *b)
{
	aml_put8(b, 0x8a);
	aml_put16(b, 43);
	aml_put8(b, 0);
	aml_put8(b, 0x0d);	/* fixed on both sides, consumer */
	aml_put8(b, 3);		/* writable, cacheable */
	/* granularity, minimum, maximum, translation, length: all there could be */
	aml_put64(b, 0);
	aml_put64(b, 0);
	aml_put64(b, UINT64_MAX - 1);
	aml_put64(b, 0);
	aml_put64(b, UINT64_MAX);
}
