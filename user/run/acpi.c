// SPDX-License-Identifier: GPL-2.0-only
/*
 * ACPI tables, as few as a stock kernel needs for SMP, PCI interrupts, power-off
 * and reset: RSDP, XSDT, FADT, FACS, MADT, DSDT (ACPI 6.5, chapters 5 and 20).
 */
#include <errno.h>
#include <string.h>

#include "acpi_hotplug.h"
#include "aml.h"
#include "board.h"
#include "vm_priv.h"

#define IOAPIC_ADDR	0xfec00000u
#define LAPIC_ADDR	0xfee00000u

/* ---- tables --------------------------------------------------------------- */

static size_t table_begin(struct aml *b, const char *sig, unsigned int revision)
{
	size_t at;

	while (b->len % 16)
		aml_put8(b, 0);
	at = b->len;
	aml_put(b, sig, 4);
	aml_put32(b, 0);		/* length */
	aml_put8(b, revision);
	aml_put8(b, 0);		/* checksum */
	aml_put(b, "VMPLATVMPLAT  ", 14);
	aml_put32(b, 1);
	aml_put(b, "VMPL", 4);
	aml_put32(b, 1);
	return at;
}

static uint8_t sum(const uint8_t *p, size_t n)
{
	uint8_t s = 0;

	while (n--)
		s = (uint8_t)(s + *p++);
	return s;
}

static void table_end(struct aml *b, size_t at)
{
	uint32_t len = (uint32_t)(b->len - at);

	if (b->len > b->cap)
		return;
	memcpy(b->p + at + 4, &len, sizeof(len));
	b->p[at + 9] = (uint8_t)-sum(b->p + at, len);
}

/* ---- AML ------------------------------------------------------------------ */

/* slot and pin to GSI: 32 slots, 4 pins each */
static void aml_prt(struct aml *b)
{
	size_t all;

	aml_name(b, "_PRT");
	aml_put8(b, 0x12);
	all = aml_pkg_begin(b);
	aml_put8(b, 128);
	for (uint32_t slot = 0; slot < 32; slot++) {
		for (uint32_t pin = 0; pin < 4; pin++) {
			size_t one;

			aml_put8(b, 0x12);
			one = aml_pkg_begin(b);
			aml_put8(b, 4);
			aml_int(b, slot << 16 | 0xffff);
			aml_int(b, pin);
			aml_int(b, 0);
			aml_int(b, VM_PCI_INTX_GSI(slot, pin));
			aml_pkg_end(b, one);
		}
	}
	aml_pkg_end(b, all);
}

static void aml_pci(struct aml *b)
{
	size_t dev = aml_device(b, "PCI0"), crs, size_at;

	aml_hid(b, "PNP0A03");
	aml_name(b, "_UID");
	aml_put8(b, 0);
	aml_name(b, "_BBN");
	aml_put8(b, 0);
	aml_name(b, "_CRS");
	crs = aml_buffer(b, &size_at);
	aml_res_word(b, AML_RES_BUS, 0, 0);
	aml_res_io(b, 0xcf8, 8);
	aml_res_word(b, AML_RES_IO, 0, 0xcf7);
	aml_res_word(b, AML_RES_IO, VM_PCI_PIO_BASE, VM_PCI_PIO_END - 1);
	aml_res_mem32(b, VM_PCI_MMIO_BASE, VM_PCI_MMIO_END - 1);
	aml_res_mmio64(b, VM_PCI_MMIO64_BASE, VM_PCI_MMIO64_END - 1);
	aml_buffer_end(b, crs, size_at);
	aml_prt(b);
	acpi_hotplug_pci(b);
	aml_pkg_end(b, dev);
}

static void aml_legacy(struct aml *b, const char *name, const char *hid,
		       unsigned int port, unsigned int len, unsigned int irq)
{
	size_t dev = aml_device(b, name), crs, size_at;

	aml_hid(b, hid);
	aml_name(b, "_UID");
	aml_put8(b, 0);
	aml_name(b, "_STA");
	aml_put8(b, 0x0a);
	aml_put8(b, 0x0f);
	aml_name(b, "_CRS");
	crs = aml_buffer(b, &size_at);
	aml_res_io(b, port, len);
	aml_res_irq(b, irq);
	aml_buffer_end(b, crs, size_at);
	aml_pkg_end(b, dev);
}

static void aml_s5(struct aml *b)
{
	size_t pkg;

	aml_name(b, "_S5_");
	aml_put8(b, 0x12);
	pkg = aml_pkg_begin(b);
	aml_put8(b, 4);
	aml_put8(b, 0x0a);
	aml_put8(b, ACPI_S5_TYPE);
	aml_put8(b, 0x0a);
	aml_put8(b, ACPI_S5_TYPE);
	aml_put8(b, 0);
	aml_put8(b, 0);
	aml_pkg_end(b, pkg);
}

static size_t build_dsdt(struct aml *b)
{
	size_t at = table_begin(b, "DSDT", 2), scope;

	aml_s5(b);
	scope = aml_scope(b, "\\_SB_");
	aml_pci(b);
	aml_legacy(b, "COM1", "PNP0501", SERIAL_PORT, 8, SERIAL_IRQ);
	aml_legacy(b, "RTC_", "PNP0B00", RTC_PORT, 2, RTC_IRQ);
	acpi_hotplug(b);
	aml_pkg_end(b, scope);
	table_end(b, at);
	return at;
}

/* ---- the fixed tables ----------------------------------------------------- */

static size_t build_facs(struct aml *b)
{
	size_t at;

	while (b->len % 64)
		aml_put8(b, 0);
	at = b->len;
	aml_put(b, "FACS", 4);
	aml_put32(b, 64);
	aml_zero(b, 24);
	aml_put8(b, 2);
	aml_zero(b, 31);
	return at;
}

static void put_gas_io(struct aml *b, unsigned int bits, unsigned int port)
{
	aml_put8(b, 1);
	aml_put8(b, bits);
	aml_put8(b, 0);
	aml_put8(b, bits == 32 ? 3 : bits == 16 ? 2 : 1);
	aml_put64(b, port);
}

static size_t build_fadt(struct aml *b, uint64_t facs, uint64_t dsdt)
{
	size_t at = table_begin(b, "FACP", 6);

	aml_put32(b, (uint32_t)facs);
	aml_put32(b, (uint32_t)dsdt);
	aml_put8(b, 0);
	aml_put8(b, 0);		/* no preferred profile */
	aml_put16(b, ACPI_SCI);
	aml_put32(b, 0);		/* no SMI command: always in ACPI mode */
	aml_zero(b, 4);
	aml_put32(b, ACPI_PM1_EVT);
	aml_put32(b, 0);
	aml_put32(b, ACPI_PM1_CNT);
	aml_put32(b, 0);
	aml_put32(b, 0);
	aml_put32(b, ACPI_PM_TMR);
	aml_put32(b, 0);		/* no GPE blocks */
	aml_put32(b, 0);
	aml_put8(b, 4);		/* lengths of the blocks above */
	aml_put8(b, 2);
	aml_put8(b, 0);
	aml_put8(b, 4);
	aml_put8(b, 0);
	aml_put8(b, 0);
	aml_put8(b, 0);
	aml_put8(b, 0);
	aml_put16(b, 0xffff);	/* no C2, no C3 */
	aml_put16(b, 0xffff);
	aml_zero(b, 2 + 2 + 1 + 1 + 1 + 1);
	aml_put8(b, 0x32);		/* century in the RTC */
	aml_put16(b, 1 << 0 | 1 << 2);	/* legacy devices; no VGA */
	aml_put8(b, 0);
	/* WBINVD, C1, no sleep button, RTC not a wake-up, 32-bit timer, reset reg. */
	aml_put32(b, 1 << 0 | 1 << 2 | 1 << 5 | 1 << 6 | 1 << 8 | 1 << 10);
	put_gas_io(b, 8, RESET_PORT);
	aml_put8(b, RESET_VALUE);
	aml_put16(b, 0);
	aml_put8(b, 5);		/* FADT minor version */
	aml_put64(b, facs);
	aml_put64(b, dsdt);
	put_gas_io(b, 32, ACPI_PM1_EVT);
	aml_zero(b, 12);
	put_gas_io(b, 16, ACPI_PM1_CNT);
	aml_zero(b, 12);
	aml_zero(b, 12);
	put_gas_io(b, 32, ACPI_PM_TMR);
	aml_zero(b, 12 * 4);	/* GPEs, sleep registers */
	aml_put(b, "VMPLAT\0\0", 8);
	table_end(b, at);
	return at;
}

static void put_override(struct aml *b, unsigned int irq, unsigned int gsi,
			 unsigned int flags)
{
	aml_put8(b, 2);
	aml_put8(b, 10);
	aml_put8(b, 0);
	aml_put8(b, irq);
	aml_put32(b, gsi);
	aml_put16(b, flags);
}

static size_t build_madt(struct aml *b, unsigned int nr_cpus)
{
	size_t at = table_begin(b, "APIC", 5);

	aml_put32(b, LAPIC_ADDR);
	aml_put32(b, 1);		/* there are 8259s too */
	for (unsigned int i = 0; i < nr_cpus; i++) {
		aml_put8(b, 0);
		aml_put8(b, 8);
		aml_put8(b, i);
		aml_put8(b, i);
		aml_put32(b, 1);
	}
	aml_put8(b, 1);		/* IOAPIC */
	aml_put8(b, 12);
	aml_put8(b, nr_cpus);
	aml_put8(b, 0);
	aml_put32(b, IOAPIC_ADDR);
	aml_put32(b, 0);
	put_override(b, 0, 2, 0);
	put_override(b, ACPI_SCI, ACPI_SCI, 0xd);	/* level, active high */
	aml_put8(b, 4);		/* NMI on LINT1 of all */
	aml_put8(b, 6);
	aml_put8(b, 0xff);
	aml_put16(b, 0);
	aml_put8(b, 1);
	table_end(b, at);
	return at;
}

static size_t build_xsdt(struct aml *b, uint64_t fadt, uint64_t madt)
{
	size_t at = table_begin(b, "XSDT", 1);

	aml_put64(b, fadt);
	aml_put64(b, madt);
	table_end(b, at);
	return at;
}

static void build_rsdp(uint8_t *p, uint64_t xsdt)
{
	struct aml b = { .p = p, .cap = 36 };

	aml_put(&b, "RSD PTR ", 8);
	aml_put8(&b, 0);
	aml_put(&b, "VMPLAT", 6);
	aml_put8(&b, 2);
	aml_put32(&b, 0);
	aml_put32(&b, 36);
	aml_put64(&b, xsdt);
	aml_put32(&b, 0);
	p[8] = (uint8_t)-sum(p, 20);
	p[32] = (uint8_t)-sum(p, 36);
}

int acpi_build(struct vm *vm, uint64_t *rsdp)
{
	size_t room = BOOT_ACPI_END - BOOT_ACPI;
	struct aml b = { .p = vm_gpa(vm, BOOT_ACPI, room), .cap = room };
	size_t dsdt, facs, fadt, madt, xsdt;

	aml_zero(&b, 64);	/* the RSDP goes here */
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
