// SPDX-License-Identifier: GPL-2.0-only
/*
 * The hot-plug controller's half in the guest: AML that acts between its
 * registers (hotplug.h) and the guest's ACPI core.
 *
 * A generic event device (ACPI 6.5, 5.6.9) runs _EVT on each interrupt, which
 * acknowledges what it reads and notifies the devices it was about. Each slot of
 * the PCI bus that can be plugged is a device with _EJ0, and so is each slot of
 * memory (PNP0C80), which also says where its memory lies and whether there is any.
 */
#include "acpi_hotplug.h"

#include <stdio.h>

#include "aml.h"
#include "hotplug.h"

#define FIRST_SLOT	1u	/* the host bridge stays */
#define LAST_SLOT	30u	/* and so does the entropy device */

static void pci_name(char name[5], unsigned int slot)
{
	snprintf(name, 5, "S%02X_", slot & 0xff);
}

static void mem_name(char name[5], unsigned int n)
{
	snprintf(name, 5, "M%02X_", n & 0xff);
}

/* Method(_EJ0, 1) { Store(1 << bit, @ejected) } */
static void method_ej0(struct aml *b, unsigned int bit, const char *ejected)
{
	size_t m = aml_method(b, "_EJ0", 1);

	aml_op(b, AML_STORE);
	aml_int(b, 1u << bit);
	aml_ref(b, ejected);
	aml_pkg_end(b, m);
}

/* Method(_OST, 3) { HOST(@unit, Arg0, Arg1) } */
static void method_ost(struct aml *b, unsigned int unit)
{
	size_t m = aml_method(b, "_OST", 3);

	aml_ref(b, "HOST");
	aml_int(b, unit);
	aml_var(b, AML_ARG(0));
	aml_var(b, AML_ARG(1));
	aml_pkg_end(b, m);
}

void acpi_hotplug_pci(struct aml *b)
{
	for (unsigned int slot = FIRST_SLOT; slot <= LAST_SLOT; slot++) {
		char name[5];
		size_t dev;

		pci_name(name, slot);
		dev = aml_device(b, name);
		aml_name(b, "_ADR");
		aml_int(b, slot << 16);
		aml_name(b, "_SUN");
		aml_int(b, slot);
		method_ej0(b, slot, "EJC0");
		method_ost(b, slot);
		aml_pkg_end(b, dev);
	}
}

/* @to = @v @op @n */
static void var_op_int(struct aml *b, enum aml_op op, unsigned int v, uint32_t n, unsigned int to)
{
	aml_op(b, op);
	aml_var(b, v);
	aml_int(b, n);
	aml_var(b, to);
}

/* @to = @v @op @w */
static void var_op_var(struct aml *b, enum aml_op op, unsigned int v, unsigned int w, unsigned int to)
{
	aml_op(b, op);
	aml_var(b, v);
	aml_var(b, w);
	aml_var(b, to);
}

/* Method(HOST, 3): one word of unit, event and status */
static void method_host(struct aml *b)
{
	size_t m = aml_method(b, "HOST", 3);

	var_op_int(b, AML_SHL, AML_ARG(0), 24, AML_LOCAL(0));
	var_op_int(b, AML_AND, AML_ARG(1), 0xff, AML_LOCAL(1));
	var_op_int(b, AML_SHL, AML_LOCAL(1), 8, AML_LOCAL(1));
	var_op_var(b, AML_OR, AML_LOCAL(0), AML_LOCAL(1), AML_LOCAL(0));
	var_op_int(b, AML_AND, AML_ARG(2), 0xff, AML_LOCAL(1));
	aml_op(b, AML_OR);
	aml_var(b, AML_LOCAL(0));
	aml_var(b, AML_LOCAL(1));
	aml_ref(b, "OSTR");
	aml_pkg_end(b, m);
}

/* Method(HCRS, 2): the resource template of memory at Arg0, Arg1 bytes long */
static void method_hcrs(struct aml *b)
{
	size_t m = aml_method(b, "HCRS", 2), buf, size_at;

	aml_op(b, AML_STORE);
	buf = aml_buffer(b, &size_at);
	aml_res_mem64(b);
	aml_buffer_end(b, buf, size_at);
	aml_var(b, AML_LOCAL(0));
	aml_qword_field(b, AML_LOCAL(0), AML_MEM64_MIN, "MIN_");
	aml_qword_field(b, AML_LOCAL(0), AML_MEM64_MAX, "MAX_");
	aml_qword_field(b, AML_LOCAL(0), AML_MEM64_LEN, "LEN_");
	aml_op(b, AML_STORE);
	aml_var(b, AML_ARG(0));
	aml_ref(b, "MIN_");
	aml_op(b, AML_STORE);
	aml_var(b, AML_ARG(1));
	aml_ref(b, "LEN_");
	var_op_var(b, AML_ADD, AML_ARG(0), AML_ARG(1), AML_LOCAL(1));
	aml_op(b, AML_SUBTRACT);
	aml_var(b, AML_LOCAL(1));
	aml_int(b, 1);
	aml_ref(b, "MAX_");
	aml_op(b, AML_RETURN);
	aml_var(b, AML_LOCAL(0));
	aml_pkg_end(b, m);
}

static void mem_device(struct aml *b, unsigned int n)
{
	size_t dev, m, f;
	char name[5];

	mem_name(name, n);
	dev = aml_device(b, name);
	aml_hid(b, "PNP0C80");
	aml_name(b, "_UID");
	aml_int(b, n);
	aml_region_io(b, "MREG", HOTPLUG_PORT + HOTPLUG_MEM + n * HOTPLUG_MEM_BYTES,
		      HOTPLUG_MEM_BYTES);
	f = aml_fields(b, "MREG");
	aml_field(b, "BASE", 64);
	aml_field(b, "LENG", 64);
	aml_field(b, "STAT", 32);
	aml_pkg_end(b, f);
	m = aml_method(b, "_STA", 0);
	aml_op(b, AML_RETURN);
	aml_ref(b, "STAT");
	aml_pkg_end(b, m);
	m = aml_method(b, "_CRS", 0);
	aml_op(b, AML_RETURN);
	aml_ref(b, "HCRS");
	aml_ref(b, "BASE");
	aml_ref(b, "LENG");
	aml_pkg_end(b, m);
	method_ej0(b, n, "EJC1");
	method_ost(b, HOTPLUG_UNIT_MEM + n);
	aml_pkg_end(b, dev);
}

/* If (Local0 & (1 << @bit)) { Notify(@path, @event) } */
static void notify_if(struct aml *b, unsigned int bit, unsigned int nr_segs,
		      const char *const *path, unsigned int event)
{
	size_t m = aml_if(b);

	aml_op(b, AML_AND);
	aml_var(b, AML_LOCAL(0));
	aml_int(b, 1u << bit);
	aml_no_target(b);
	aml_op(b, AML_NOTIFY);
	aml_path(b, nr_segs, path);
	aml_int(b, event);
	aml_pkg_end(b, m);
}

/* read, acknowledge: what is asked for from here on raises the line again */
static void take(struct aml *b, const char *reg)
{
	aml_op(b, AML_STORE);
	aml_ref(b, reg);
	aml_var(b, AML_LOCAL(0));
	aml_op(b, AML_STORE);
	aml_var(b, AML_LOCAL(0));
	aml_ref(b, reg);
}

static void notify_pci(struct aml *b, const char *reg, unsigned int event)
{
	char name[5];
	const char *path[] = { "_SB_", "PCI0", name };

	take(b, reg);
	for (unsigned int slot = FIRST_SLOT; slot <= LAST_SLOT; slot++) {
		pci_name(name, slot);
		notify_if(b, slot, 3, path, event);
	}
}

static void notify_mem(struct aml *b, const char *reg, unsigned int event)
{
	char name[5];
	const char *path[] = { "_SB_", name };

	take(b, reg);
	for (unsigned int n = 0; n < HOTPLUG_MEM_SLOTS; n++) {
		mem_name(name, n);
		notify_if(b, n, 2, path, event);
	}
}

static void event_device(struct aml *b)
{
	size_t dev = aml_device(b, "GED_"), crs, size_at, m;

	aml_name(b, "_HID");
	aml_string(b, "ACPI0013");
	aml_name(b, "_UID");
	aml_int(b, 0);
	aml_name(b, "_CRS");
	crs = aml_buffer(b, &size_at);
	aml_res_gsi(b, HOTPLUG_GSI);
	aml_buffer_end(b, crs, size_at);
	m = aml_method(b, "_EVT", 1);
	notify_pci(b, "ADD0", HOTPLUG_EVENT_CHECK);
	notify_pci(b, "WAN0", HOTPLUG_EVENT_EJECT);
	notify_mem(b, "ADD1", HOTPLUG_EVENT_CHECK);
	notify_mem(b, "WAN1", HOTPLUG_EVENT_EJECT);
	aml_pkg_end(b, m);
	aml_pkg_end(b, dev);
}

void acpi_hotplug(struct aml *b)
{
	size_t f;

	aml_region_io(b, "HREG", HOTPLUG_PORT, HOTPLUG_MEM);
	f = aml_fields(b, "HREG");
	aml_field(b, "ADD0", 32);
	aml_field(b, "ADD1", 32);
	aml_field(b, "WAN0", 32);
	aml_field(b, "WAN1", 32);
	aml_field(b, "EJC0", 32);
	aml_field(b, "EJC1", 32);
	aml_field(b, "OSTR", 32);
	aml_pkg_end(b, f);
	method_host(b);
	method_hcrs(b);
	for (unsigned int n = 0; n < HOTPLUG_MEM_SLOTS; n++)
		mem_device(b, n);
	event_device(b);
}
