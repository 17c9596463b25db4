/* SPDX-License-Identifier: GPL-2.0-only */
/*
 * The VM state blob: everything of a VM but its memory and its disks.
 *
 * All integers are little-endian, nothing is aligned or padded.
 *
 *   offset size
 *        0    8  magic "VMPLSTAT"
 *        8    4  version of this framing: 1
 *       12    4  number of sections
 *       16    8  length of the whole blob in bytes, this header included
 *       24    8  reserved, 0
 *       32       the sections, one after the other:
 *
 *        0    1  length of the name, 1 to 63
 *        1    n  name, printable ASCII ("vcpu/0", "serial0"), each name once
 *      1+n    4  version of the payload, owned by whoever owns the name
 *      5+n    8  length of the payload
 *     13+n    4  CRC-32 (IEEE 802.3, reflected) of name, version, length, payload
 *     17+n       payload
 *
 * The reader trusts nothing: every length is checked against what is left, every
 * checksum before the first byte of a payload is looked at. Readers and writers
 * keep their first error, so a chain of calls needs one check at its end: a
 * failed get gives zeroes.
 */
#ifndef VMPLAT_RUN_STATE_H
#define VMPLAT_RUN_STATE_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#define STATE_MAGIC		"VMPLSTAT"
#define STATE_VERSION		1
#define STATE_NAME_MAX		63
#define STATE_SECTIONS_MAX	4096
#define STATE_BYTES_MAX		(64u << 20)

/* ---- writing ------------------------------------------------------------ */

struct state_writer {
	uint8_t *buf;
	size_t len, cap;
	size_t section;		/* offset of the open section, 0 if none */
	uint32_t nr_sections;
	int err;		/* first error, -errno; sticky */
};

void state_writer_init(struct state_writer *w);
void state_writer_free(struct state_writer *w);
/** state_writer_finish - completes the header; returns the first error */
int state_writer_finish(struct state_writer *w);

void state_begin(struct state_writer *w, const char *name, uint32_t version);
void state_end(struct state_writer *w);

void state_put_u8(struct state_writer *w, uint8_t v);
void state_put_u16(struct state_writer *w, uint16_t v);
void state_put_u32(struct state_writer *w, uint32_t v);
void state_put_u64(struct state_writer *w, uint64_t v);
/** state_put_bytes - @len bytes, without their length */
void state_put_bytes(struct state_writer *w, const void *p, size_t len);
/** state_put_blob - a 32-bit length, then the bytes */
void state_put_blob(struct state_writer *w, const void *p, uint32_t len);

/* ---- reading ------------------------------------------------------------ */

/** struct state_reader - a cursor on one section's payload */
struct state_reader {
	const uint8_t *p, *end;
	int err;		/* first error, -errno; sticky */
};

uint8_t state_get_u8(struct state_reader *r);
uint16_t state_get_u16(struct state_reader *r);
uint32_t state_get_u32(struct state_reader *r);
uint64_t state_get_u64(struct state_reader *r);
/** state_get_bytes - exactly @len bytes; zeroes and -EBADMSG if fewer are left */
void state_get_bytes(struct state_reader *r, void *p, size_t len);
/**
 * state_get_blob - what state_put_blob wrote
 *
 * Returns a pointer into the blob and its length, NULL on error.
 */
const void *state_get_blob(struct state_reader *r, uint32_t *len);
static inline size_t state_left(const struct state_reader *r)
{
	return r->err ? 0 : (size_t)(r->end - r->p);
}

struct state_section {
	char name[STATE_NAME_MAX + 1];
	uint32_t version;
	const uint8_t *payload;
	size_t len;
};

/** struct state_blob - a parsed and verified blob; points into the caller's bytes */
struct state_blob {
	struct state_section *sections;
	uint32_t nr_sections;
};

/**
 * state_blob_parse - check the framing of all of a blob
 * @why: a sentence on failure, static storage
 *
 * -EBADMSG: not a blob, truncated, or damaged; -EOPNOTSUPP: newer framing.
 */
int state_blob_parse(struct state_blob *b, const void *buf, size_t len,
		     const char **why);
void state_blob_free(struct state_blob *b);
/** state_blob_find - a reader for section @name; -ENOENT if there is none */
int state_blob_find(const struct state_blob *b, const char *name,
		    struct state_reader *r, uint32_t *version);

#endif
