/* SPDX-License-Identifier: GPL-2.0-only */
/*
 * ACPI tables and AML, written front to back into a buffer (ACPI 6.5, chapter 20).
 *
 * A term is written by calls in the order of its encoding: aml_op(AML_STORE) begins one
 * whose source and target follow. What has a length is bracketed by a begin, which
 * gives a handle, and its end. A buffer that is too small takes nothing more but
 * counts on: the caller compares len and cap once, at the end.
 */
#ifndef VMPLAT_RUN_AML_H
#define VMPLAT_RUN_AML_H

#include <stddef.h>
#include <stdint.h>

struct aml {
	uint8_t *p;
	size_t len, cap;	/* len beyond cap: it did not fit */
};

/* ---- bytes ----------------------------------------------------------------- */

void aml_put(struct aml *b, const void *p, size_t n);
void aml_put8(struct aml *b, unsigned int v);
void aml_put16(struct aml *b, unsigned int v);
void aml_put32(struct aml *b, uint32_t v);
void aml_put64(struct aml *b, uint64_t v);
void aml_zero(struct aml *b, size_t n);

/* ---- packages of known length ------------------------------------------------ */

size_t aml_pkg_begin(struct aml *b);
void aml_pkg_end(struct aml *b, size_t at);

/* ---- names, numbers ---------------------------------------------------------- */

/* Name(@name, ...): four characters */
void aml_name(struct aml *b, const char *name);
void aml_int(struct aml *b, uint32_t v);
void aml_string(struct aml *b, const char *text);
/* Name(_HID, EISAID(@id)): "PNP0A03" */
void aml_hid(struct aml *b, const char *id);
/* "\_SB_" "PCI0" "S01_": from the root, @nr segments of four characters */
void aml_path(struct aml *b, unsigned int nr, const char *const *segs);

#define AML_LOCAL(n)	(0x60u + (n))
#define AML_ARG(n)	(0x68u + (n))
/* a local variable or an argument; a name of four characters */
#define aml_var(b, v)	aml_put8(b, v)
#define aml_ref(b, n)	aml_put(b, n, 4)

/* ---- objects ----------------------------------------------------------------- */

size_t aml_scope(struct aml *b, const char *path);
size_t aml_device(struct aml *b, const char *name);
size_t aml_method(struct aml *b, const char *name, unsigned int nr_args);
/* OperationRegion(@name, SystemIO, @port, @bytes) */
void aml_region_io(struct aml *b, const char *name, unsigned int port, unsigned int bytes);
/* Field(@region, DWordAcc): then aml_field() one after the other, then aml_pkg_end() */
size_t aml_fields(struct aml *b, const char *region);
void aml_field(struct aml *b, const char *name, unsigned int bits);

/* ---- terms: operands follow in the order given --------------------------------- */

enum aml_op {
	AML_STORE	= 0x70,		/* source, target */
	AML_ADD		= 0x72,		/* a, b, then AML_NO_TARGET or a target; so the next ones */
	AML_SUBTRACT	= 0x74,
	AML_SHL		= 0x79,
	AML_AND		= 0x7b,
	AML_OR		= 0x7d,
	AML_NOTIFY	= 0x86,		/* object, number */
	AML_RETURN	= 0xa4,		/* value */
};
#define aml_op(b, op)	aml_put8(b, op)
size_t aml_if(struct aml *b);		/* predicate, body; then aml_pkg_end() */
/* CreateQWordField(@buffer, @off, @name) */
void aml_qword_field(struct aml *b, unsigned int buffer, unsigned int off, const char *name);
#define AML_NO_TARGET	0u
#define aml_no_target(b) aml_put8(b, AML_NO_TARGET)

/* ---- resources ------------------------------------------------------------------ */

size_t aml_buffer(struct aml *b, size_t *size_at);
/* ends the template, and fills in both lengths */
void aml_buffer_end(struct aml *b, size_t at, size_t size_at);
void aml_res_io(struct aml *b, unsigned int base, unsigned int len);
void aml_res_irq(struct aml *b, unsigned int irq);
/* level, active high, not shared */
void aml_res_gsi(struct aml *b, uint32_t gsi);
#define AML_RES_IO	1u
#define AML_RES_BUS	2u
void aml_res_word(struct aml *b, unsigned int kind, unsigned int min, unsigned int max);
void aml_res_mem32(struct aml *b, uint32_t min, uint32_t max);
void aml_res_mmio64(struct aml *b, uint64_t min, uint64_t max);
/* cacheable memory of a device; the offsets of its fields in the descriptor */
void aml_res_mem64(struct aml *b);
#define AML_MEM64_MIN	14u
#define AML_MEM64_MAX	22u
#define AML_MEM64_LEN	38u

#endif
