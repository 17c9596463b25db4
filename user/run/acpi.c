// SPDX-License-Identifier: GPL-2.0-only
/*
 * ACPI tables, as few as a stock kernel needs for SMP, PCI interrupts, power-off
 * and reset: RSDP, XSDT, FADT, FACS, MADT, DSDT (ACPI 6.5, chapters 5 and 20).
 */
#include <errno.h>
#include <stdio.h>
#include <string.h>

#include "board.h"
#include "vm_priv.h"

#define IOAPIC_ADDR	0xfec00000u
#define LAPIC_ADDR	0xfee00000u

/* A table is written front to back; lengths are put in when it is complete. */
struct buf {
	uint8_t *p;
	size_t len, cap;	/* len beyond cap: it did not fit */
};

static void put(struct buf *b, const void *p, size_t n)
{
	if (b->len + n <= b->cap)
		memcpy(b->p + b->len, p, n);
	b->len += n;
}

static void put8(struct buf *b, unsigned int v)
{
	uint8_t c = (uint8_t)v;

	put(b, &c, 1);
}

static void put16(struct buf *b, unsigned int v)
{
	put8(b, v);
	put8(b, v >> 8);
}

static void put32(struct buf *b, uint32_t v)
{
	put16(b, v);
	put16(b, v >> 16);
}

static void put64(struct buf *b, uint64_t v)
{
	put32(b, (uint32_t)v);
	put32(b, (uint32_t)(v >> 32));
}

static void put_zero(struct buf *b, size_t n)
{
	while (n--)
		put8(b, 0);
}

/* ---- tables --------------------------------------------------------------- */

static size_t table_begin(struct buf *b, const char *sig, unsigned int revision)
{
	size_t at;

	while (b->len % 16)
		put8(b, 0);
	at = b->len;
	put(b, sig, 4);
	put32(b, 0);		/* length */
	put8(b, revision);
	put8(b, 0);		/* checksum */
	put(b, "VMPLATVMPLAT  ", 14);
	put32(b, 1);
	put(b, "VMPL", 4);
	put32(b, 1);
	return at;
}

static uint8_t sum(const uint8_t *p, size_t n)
{
	uint8_t s = 0;

	while (n--)
		s = (uint8_t)(s + *p++);
	return s;
}

static void table_end(struct buf *b, size_t at)
{
	uint32_t len = (uint32_t)(b->len - at);

	if (b->len > b->cap)
		return;
	memcpy(b->p + at + 4, &len, sizeof(len));
	b->p[at + 9] = (uint8_t)-sum(b->p + at, len);
}

/* ---- AML ------------------------------------------------------------------ */

/* Package lengths are always written in their 3-byte form. */
static size_t pkg_begin(struct buf *b)
{
	size_t at = b->len;

	put_zero(b, 3);
	return at;
}

static void pkg_end(struct buf *b, size_t at)
{
	size_t n = b->len - at;

	if (b->len > b->cap)
		return;
	b->p[at] = (uint8_t)(0x80 | (n & 0xf));
	b->p[at + 1] = (uint8_t)(n >> 4);
	b->p[at + 2] = (uint8_t)(n >> 12);
}

static void aml_name(struct buf *b, const char *name)
{
	put8(b, 0x08);
	put(b, name, 4);
}

static void aml_int(struct buf *b, uint32_t v)
{
	put8(b, 0x0c);
	put32(b, v);
}

static size_t aml_device(struct buf *b, const char *name)
{
	size_t at;

	put8(b, 0x5b);
	put8(b, 0x82);
	at = pkg_begin(b);
	put(b, name, 4);
	return at;
}

/* "PNP0A03" packed into 32 bits, 5 bits a letter */
static void aml_hid(struct buf *b, const char *id)
{
	unsigned int v = 0, product = 0;

	for (int i = 0; i < 3; i++)
		v = v << 5 | (unsigned int)(id[i] - '@');
	sscanf(id + 3, "%4x", &product);
	aml_name(b, "_HID");
	put8(b, 0x0c);
	put8(b, v >> 8);
	put8(b, v);
	put8(b, product >> 8);
	put8(b, product);
}

static size_t aml_buffer(struct buf *b, size_t *size_at)
{
	size_t at;

	put8(b, 0x11);
	at = pkg_begin(b);
	put8(b, 0x0b);		/* the size, as a word */
	*size_at = b->len;
	put16(b, 0);
	return at;
}

static void aml_buffer_end(struct buf *b, size_t at, size_t size_at)
{
	size_t n;

	put8(b, 0x79);		/* end tag, checksum not used */
	put8(b, 0);
	n = b->len - size_at - 2;
	if (b->len <= b->cap) {
		b->p[size_at] = (uint8_t)n;
		b->p[size_at + 1] = (uint8_t)(n >> 8);
	}
	pkg_end(b, at);
}

static void res_io(struct buf *b, unsigned int base, unsigned int len)
{
	put8(b, 0x47);
	put8(b, 1);
	put16(b, base);
	put16(b, base);
	put8(b, 1);
	put8(b, len);
}

static void res_irq(struct buf *b, unsigned int irq)
{
	put8(b, 0x22);
	put16(b, 1u << irq);
}

/* address space descriptors; kind 0 memory, 1 I/O, 2 bus numbers */
static void res_word(struct buf *b, unsigned int kind, unsigned int min, unsigned int max)
{
	put8(b, 0x88);
	put16(b, 13);
	put8(b, kind);
	put8(b, 0x0c);		/* fixed on both sides, producer */
	put8(b, kind == 1 ? 3 : 0);
	put16(b, 0);
	put16(b, min);
	put16(b, max);
	put16(b, 0);
	put16(b, max - min + 1);
}

static void res_mem(struct buf *b, uint32_t min, uint32_t max)
{
	put8(b, 0x87);
	put16(b, 23);
	put8(b, 0);
	put8(b, 0x0c);
	put8(b, 1);		/* writable, not cacheable */
	put32(b, 0);
	put32(b, min);
	put32(b, max);
	put32(b, 0);
	put32(b, max - min + 1);
}

/* slot and pin to GSI: 32 slots, 4 pins each */
static void aml_prt(struct buf *b)
{
	size_t all;

	aml_name(b, "_PRT");
	put8(b, 0x12);
	all = pkg_begin(b);
	put8(b, 128);
	for (uint32_t slot = 0; slot < 32; slot++) {
		for (uint32_t pin = 0; pin < 4; pin++) {
			size_t one;

			put8(b, 0x12);
			one = pkg_begin(b);
			put8(b, 4);
			aml_int(b, slot << 16 | 0xffff);
			aml_int(b, pin);
			aml_int(b, 0);
			aml_int(b, VM_PCI_INTX_GSI(slot, pin));
			pkg_end(b, one);
		}
	}
	pkg_end(b, all);
}

static void aml_pci(struct buf *b)
{
	size_t dev = aml_device(b, "PCI0"), crs, size_at;

	aml_hid(b, "PNP0A03");
	aml_name(b, "_UID");
	put8(b, 0);
	aml_name(b, "_BBN");
	put8(b, 0);
	aml_name(b, "_CRS");
	crs = aml_buffer(b, &size_at);
	res_word(b, 2, 0, 0);
	res_io(b, 0xcf8, 8);
	res_word(b, 1, 0, 0xcf7);
	res_word(b, 1, VM_PCI_PIO_BASE, VM_PCI_PIO_END - 1);
	res_mem(b, VM_PCI_MMIO_BASE, VM_PCI_MMIO_END - 1);
	aml_buffer_end(b, crs, size_at);
	aml_prt(b);
	pkg_end(b, dev);
}

static void aml_legacy(struct buf *b, const char *name, const char *hid,
		       unsigned int port, unsigned int len, unsigned int irq)
{
	size_t dev = aml_device(b, name), crs, size_at;

	aml_hid(b, hid);
	aml_name(b, "_UID");
	put8(b, 0);
	aml_name(b, "_STA");
	put8(b, 0x0a);
	put8(b, 0x0f);
	aml_name(b, "_CRS");
	crs = aml_buffer(b, &size_at);
	res_io(b, port, len);
	res_irq(b, irq);
	aml_buffer_end(b, crs, size_at);
	pkg_end(b, dev);
}

static void aml_s5(struct buf *b)
{
	size_t pkg;

	aml_name(b, "_S5_");
	put8(b, 0x12);
	pkg = pkg_begin(b);
	put8(b, 4);
	put8(b, 0x0a);
	put8(b, ACPI_S5_TYPE);
	put8(b, 0x0a);
	put8(b, ACPI_S5_TYPE);
	put8(b, 0);
	put8(b, 0);
	pkg_end(b, pkg);
}

static size_t build_dsdt(struct buf *b)
{
	size_t at = table_begin(b, "DSDT", 2), scope;

	aml_s5(b);
	put8(b, 0x10);
	scope = pkg_begin(b);
	put(b, "\\_SB_", 5);
	aml_pci(b);
	aml_legacy(b, "COM1", "PNP0501", SERIAL_PORT, 8, SERIAL_IRQ);
	aml_legacy(b, "RTC_", "PNP0B00", RTC_PORT, 2, RTC_IRQ);
	pkg_end(b, scope);
	table_end(b, at);
	return at;
}

/* ---- the fixed tables ----------------------------------------------------- */

static size_t build_facs(struct buf *b)
{
	size_t at;

	while (b->len % 64)
		put8(b, 0);
	at = b->len;
	put(b, "FACS", 4);
	put32(b, 64);
	put_zero(b, 24);
	put8(b, 2);
	put_zero(b, 31);
	return at;
}

static void put_gas_io(struct buf *b, unsigned int bits, unsigned int port)
{
	put8(b, 1);
	put8(b, bits);
	put8(b, 0);
	put8(b, bits == 32 ? 3 : bits == 16 ? 2 : 1);
	put64(b, port);
}

static size_t build_fadt(struct buf *b, uint64_t facs, uint64_t dsdt)
{
	size_t at = table_begin(b, "FACP", 6);

	put32(b, (uint32_t)facs);
	put32(b, (uint32_t)dsdt);
	put8(b, 0);
	put8(b, 0);		/* no preferred profile */
	put16(b, ACPI_SCI);
	put32(b, 0);		/* no SMI command: always in ACPI mode */
	put_zero(b, 4);
	put32(b, ACPI_PM1_EVT);
	put32(b, 0);
	put32(b, ACPI_PM1_CNT);
	put32(b, 0);
	put32(b, 0);
	put32(b, ACPI_PM_TMR);
	put32(b, 0);		/* no GPE blocks */
	put32(b, 0);
	put8(b, 4);		/* lengths of the blocks above */
	put8(b, 2);
	put8(b, 0);
	put8(b, 4);
	put8(b, 0);
	put8(b, 0);
	put8(b, 0);
	put8(b, 0);
	put16(b, 0xffff);	/* no C2, no C3 */
	put16(b, 0xffff);
	put_zero(b, 2 + 2 + 1 + 1 + 1 + 1);
	put8(b, 0x32);		/* century in the RTC */
	put16(b, 1 << 0 | 1 << 2);	/* legacy devices; no VGA */
	put8(b, 0);
	/* WBINVD, C1, no sleep button, RTC not a wake-up, 32-bit timer, reset reg. */
	put32(b, 1 << 0 | 1 << 2 | 1 << 5 | 1 << 6 | 1 << 8 | 1 << 10);
	put_gas_io(b, 8, RESET_PORT);
	put8(b, RESET_VALUE);
	put16(b, 0);
	put8(b, 5);		/* FADT minor version */
	put64(b, facs);
	put64(b, dsdt);
	put_gas_io(b, 32, ACPI_PM1_EVT);
	put_zero(b, 12);
	put_gas_io(b, 16, ACPI_PM1_CNT);
	put_zero(b, 12);
	put_zero(b, 12);
	put_gas_io(b, 32, ACPI_PM_TMR);
	put_zero(b, 12 * 4);	/* GPEs, sleep registers */
	put(b, "VMPLAT\0\0", 8);
	table_end(b, at);
	return at;
}

static void put_override(struct buf *b, unsigned int irq, unsigned int gsi,
			 unsigned int flags)
{
	put8(b, 2);
	put8(b, 10);
	put8(b, 0);
	put8(b, irq);
	put32(b, gsi);
	put16(b, flags);
}

static size_t build_madt(struct buf *b, unsigned int nr_cpus)
{
	size_t at = table_begin(b, "APIC", 5);

	put32(b, LAPIC_ADDR);
	put32(b, 1);		/* there are 8259s too */
	for (unsigned int i = 0; i < nr_cpus; i++) {
		put8(b, 0);
		put8(b, 8);
		put8(b, i);
		put8(b, i);
		put32(b, 1);
	}
	put8(b, 1);		/* IOAPIC */
	put8(b, 12);
	put8(b, nr_cpus);
	put8(b, 0);
	put32(b, IOAPIC_ADDR);
	put32(b, 0);
	put_override(b, 0, 2, 0);
	put_override(b, ACPI_SCI, ACPI_SCI, 0xd);	/* level, active high */
	put8(b, 4);		/* NMI on LINT1 of all */
	put8(b, 6);
	put8(b, 0xff);
	put16(b, 0);
	put8(b, 1);
	table_end(b, at);
	return at;
}

static size_t build_xsdt(struct buf *b, uint64_t fadt, uint64_t madt)
{
	size_t at = table_begin(b, "XSDT", 1);

	put64(b, fadt);
	put64(b, madt);
	table_end(b, at);
	return at;
}

static void build_rsdp(uint8_t *p, uint64_t xsdt)
{
	struct buf b = { .p = p, .cap = 36 };

	put(&b, "RSD PTR ", 8);
	put8(&b, 0);
	put(&b, "VMPLAT", 6);
	put8(&b, 2);
	put32(&b, 0);
	put32(&b, 36);
	put64(&b, xsdt);
	put32(&b, 0);
	p[8] = (uint8_t)-sum(p, 20);
	p[32] = (uint8_t)-sum(p, 36);
}

int acpi_build(struct vm *vm, uint64_t *rsdp)
{
	size_t room = BOOT_ACPI_END - BOOT_ACPI;
	struct buf b = { .p = vm_gpa(vm, BOOT_ACPI, room), .cap = room };
	size_t dsdt, facs, fadt, madt, xsdt;

	put_zero(&b, 64);	/* the RSDP goes here */
	dsdt = build_dsdt(&b);
	facs = build_facs(&b);
	fadt = build_fadt(&b, BOOT_ACPI + facs, BOOT_ACPI + dsdt);
	madt = build_madt(&b, vm->cfg.nr_cpus);
	xsdt = build_xsdt(&b, BOOT_ACPI + fadt, BOOT_ACPI + madt);
	if (b.len > b.cap)
		return vm_error(vm, -ENOSPC, "the ACPI tables need %zu bytes, there are %zu",
				b.len, b.cap);
	build_rsdp(b.p, BOOT_ACPI + xsdt);
	*rsdp = BOOT_ACPI;
	return 0;
}
