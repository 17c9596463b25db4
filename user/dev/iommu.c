// SPDX-License-Identifier: LGPL-2.1-or-later
/*
 * IOMMU units, groups, and what they are worth. A group's "type" says how the DMA of host drivers
 * is treated; once VFIO has a group it makes a domain of its own, so that an identity type
 * (iommu=pt) leaves the host's drivers unconfined, not the guests'.
 */
#include <stdio.h>
#include <stdlib.h>

#include "dev/dev.h"

#define CLASS_IOMMU	"class/iommu"
#define GROUPS		"kernel/iommu_groups"

#define SUBVENDOR_QEMU	0x1af4

/* ---- groups ------------------------------------------------------------ */

static enum vmplat_domain_type domain_of(const char *type)
{
	static const struct {
		const char *name;
		enum vmplat_domain_type domain;
	} known[] = {
		{ "identity", VMPLAT_DOMAIN_IDENTITY }, { "DMA", VMPLAT_DOMAIN_DMA },
		{ "DMA-FQ", VMPLAT_DOMAIN_DMA_FQ }, { "unmanaged", VMPLAT_DOMAIN_UNMANAGED },
		{ "blocked", VMPLAT_DOMAIN_BLOCKED },
	};

	for (size_t i = 0; type && i < sizeof(known) / sizeof(known[0]); i++)
		if (!strcmp(type, known[i].name))
			return known[i].domain;
	return VMPLAT_DOMAIN_UNKNOWN;
}

static void read_reserved(struct vmplat_devs *devs, struct vmplat_group *group)
{
	struct dev_list list = { };
	char *rest = (char *)dev_text(devs, devs->sys_fd, GROUPS "/%u/reserved_regions", group->id);
	char *line;

	while ((line = dev_next_line(&rest))) {
		unsigned long long start, last;
		int at = 0;

		if (sscanf(line, "%llx %llx %n", &start, &last, &at) == 2 && at) {
			struct vmplat_reserved r = { .start = start, .last = last, .type = line + at };

			dev_append(devs, &list, &r, sizeof(r));
		}
	}
	group->reserved = list.items;
	group->nr_reserved = list.nr;
}

static void read_members(struct vmplat_devs *devs, struct vmplat_group *group)
{
	struct dev_names names = dev_list_dir(devs, devs->sys_fd, GROUPS "/%u/devices", group->id);
	struct dev_list list = { };

	for (size_t i = 0; i < names.nr; i++) {
		const struct vmplat_pci *found;
		struct vmplat_pci *pci;

		if (vmplat_devs_find(devs, names.names[i], &found))
			continue;
		pci = &devs->pci[found - devs->pci];
		pci->group = group;
		dev_append(devs, &list, &found, sizeof(found));
	}
	group->members = list.items;
	group->nr_members = list.nr;
}

static void read_groups(struct vmplat_devs *devs)
{
	struct dev_names names = dev_list_dir(devs, devs->sys_fd, GROUPS);

	devs->groups = dev_alloc(devs, (names.nr ? names.nr : 1) * sizeof(*devs->groups));
	if (!devs->groups)
		return;
	for (size_t i = 0; i < names.nr; i++) {
		struct vmplat_group *group = &devs->groups[i];

		group->id = strtoul(names.names[i], NULL, 10);
		group->type = dev_text(devs, devs->sys_fd, GROUPS "/%u/type", group->id);
		group->domain = domain_of(group->type);
		read_reserved(devs, group);
		read_members(devs, group);
	}
	devs->iommu.groups = devs->groups;
	devs->iommu.nr_groups = names.nr;
}

/* ---- units ------------------------------------------------------------- */

static uint64_t hex(const char *text)
{
	return text ? strtoull(text, NULL, 16) : 0;
}

static struct vmplat_iommu read_unit(struct vmplat_devs *devs, const char *name)
{
	struct vmplat_iommu unit = { .name = name };
	int sys = devs->sys_fd;

	unit.nr_devices = dev_list_dir(devs, sys, CLASS_IOMMU "/%s/devices", name).nr;
	if (dev_exists(devs, sys, CLASS_IOMMU "/%s/intel-iommu", name)) {
		unit.kind = VMPLAT_IOMMU_INTEL;
		unit.cap = hex(dev_text(devs, sys, CLASS_IOMMU "/%s/intel-iommu/cap", name));
		unit.ecap = hex(dev_text(devs, sys, CLASS_IOMMU "/%s/intel-iommu/ecap", name));
	} else if (dev_exists(devs, sys, CLASS_IOMMU "/%s/amd-iommu", name)) {
		unit.kind = VMPLAT_IOMMU_AMD;
		unit.cap = hex(dev_text(devs, sys, CLASS_IOMMU "/%s/amd-iommu/cap", name));
		unit.ecap = hex(dev_text(devs, sys, CLASS_IOMMU "/%s/amd-iommu/features", name));
	} else if (!strncmp(name, "smmu", 4)) {
		unit.kind = VMPLAT_IOMMU_ARM;
	}
	return unit;
}

static void read_units(struct vmplat_devs *devs)
{
	struct dev_names names = dev_list_dir(devs, devs->sys_fd, CLASS_IOMMU);
	struct dev_list list = { };

	for (size_t i = 0; i < names.nr; i++) {
		struct vmplat_iommu unit = read_unit(devs, names.names[i]);

		dev_append(devs, &list, &unit, sizeof(unit));
	}
	devs->iommu.units = list.items;
	devs->iommu.nr_units = list.nr;
}

/*
 * The kernel names a remapped interrupt's chip IR-something, in /proc/interrupts; there is no
 * file that says it. Arm's interrupt controllers isolate by themselves.
 */
static int irq_remapping(struct vmplat_devs *devs)
{
	const char *irqs;

	for (size_t i = 0; i < devs->iommu.nr_units; i++)
		if (devs->iommu.units[i].kind == VMPLAT_IOMMU_ARM)
			return 1;
	irqs = dev_text(devs, devs->proc_fd, "interrupts");
	if (!irqs || !*irqs)
		return -1;
	return strstr(irqs, " IR-") || strstr(irqs, "\tIR-");
}

/* ---- what it is worth ------------------------------------------------------ */

/*
 * QEMU's amd-iommu lets all DMA through untranslated unless it was started with pt=off.
 * Capabilities, tables and types are the same either way: all that can be seen is that it is QEMU's.
 */
static const struct vmplat_iommu *emulated_amd(struct vmplat_devs *devs)
{
	for (size_t i = 0; i < devs->iommu.nr_units; i++) {
		const struct vmplat_iommu *unit = &devs->iommu.units[i];
		uint64_t subvendor;

		if (unit->kind == VMPLAT_IOMMU_AMD &&
		    dev_number(devs, &subvendor, devs->sys_fd,
			       CLASS_IOMMU "/%s/device/subsystem_vendor", unit->name) &&
		    subvendor == SUBVENDOR_QEMU)
			return unit;
	}
	return NULL;
}

static size_t groups_with(const struct vmplat_devs *devs, enum vmplat_domain_type domain)
{
	size_t nr = 0;

	for (size_t i = 0; i < devs->iommu.nr_groups; i++)
		nr += devs->groups[i].domain == domain;
	return nr;
}

static bool noiommu(struct vmplat_devs *devs)
{
	const char *on = dev_text(devs, devs->sys_fd,
				  "module/vfio/parameters/enable_unsafe_noiommu_mode");

	return on && *on == 'Y';
}

static void no_iommu(struct vmplat_devs *devs, struct dev_list *list)
{
	const char *how = "enable VT-d or AMD-Vi in the firmware";

	if (cmdline_has(devs, "intel_iommu=off") || cmdline_has(devs, "amd_iommu=off") ||
	    cmdline_has(devs, "iommu=off"))
		how = "the kernel's command line turns it off";
	else if (dev_exists(devs, devs->sys_fd, "firmware/acpi/tables/DMAR"))
		how = "there is one: boot with intel_iommu=on";
	else if (dev_exists(devs, devs->sys_fd, "firmware/acpi/tables/IVRS"))
		how = "firmware describes one, the kernel does not use it: look for AMD-Vi in its log";
	dev_find(devs, list, VMPLAT_BLOCKER, "no-iommu", NULL,
		 "no IOMMU is in use, every device can reach all memory: %s", how);
	if (noiommu(devs))
		dev_find(devs, list, VMPLAT_WARNING, "noiommu-mode", NULL,
			 "VFIO is in no-IOMMU mode: a guest with a device owns this host");
}

static void judge_protection(struct vmplat_devs *devs, struct dev_list *list)
{
	size_t open = groups_with(devs, VMPLAT_DOMAIN_IDENTITY), all = devs->iommu.nr_groups;
	const struct vmplat_iommu *amd = emulated_amd(devs);

	devs->iommu.protection = open ? VMPLAT_PROTECTION_GUESTS : VMPLAT_PROTECTION_ALL;
	if (open)
		dev_find(devs, list, VMPLAT_NOTE, "identity", NULL,
			 "%zu of %zu groups are in pass-through mode%s: DMA of the host's own drivers is not confined; devices that VFIO gives to a guest are",
			 open, all, cmdline_has(devs, "iommu=pt") ? " (iommu=pt)" : "");
	if (amd) {
		devs->iommu.protection = VMPLAT_PROTECTION_UNPROVEN;
		dev_find(devs, list, VMPLAT_WARNING, "unproven", NULL,
			 "%s is QEMU's: it isolates only if it was started with pt=off. With pt=on, QEMU's default, every mapping succeeds and DMA goes to raw physical addresses all the same; nothing seen from here tells the two apart",
			 amd->name);
	}
}

static void judge_interrupts(struct vmplat_devs *devs, struct dev_list *list)
{
	const char *unsafe = dev_text(devs, devs->sys_fd,
				      "module/vfio_iommu_type1/parameters/allow_unsafe_interrupts");
	bool allowed = unsafe && *unsafe == 'Y';

	if (devs->iommu.irq_remapping)
		return;
	dev_find(devs, list, allowed ? VMPLAT_WARNING : VMPLAT_BLOCKER, "no-irq-remapping", NULL,
		 "interrupts are not remapped: a guest's device can raise any interrupt of the host; %s",
		 allowed ? "VFIO was told to accept it (allow_unsafe_interrupts)" :
		 "VFIO refuses, unless vfio_iommu_type1 is loaded with allow_unsafe_interrupts=1");
}

static void judge_cmdline(struct vmplat_devs *devs, struct dev_list *list)
{
	const char *acs = cmdline_value(devs, "pcie_acs_override=");
	const char *relax = cmdline_value(devs, "intel_iommu=");

	if (acs)
		dev_find(devs, list, VMPLAT_WARNING, "acs-override", NULL,
			 "pcie_acs_override=%s: the kernel was told that bridges isolate though they do not; groups promise more than the hardware keeps",
			 acs);
	if (relax && strstr(relax, "relax_rmrr"))
		dev_find(devs, list, VMPLAT_WARNING, "rmrr-relaxed", NULL,
			 "intel_iommu=relax_rmrr: firmware may write to memory through devices given to guests");
}

void iommu_scan(struct vmplat_devs *devs)
{
	struct dev_list list = { };

	read_groups(devs);
	read_units(devs);
	devs->iommu.irq_remapping = irq_remapping(devs);
	if (devs->iommu.nr_groups) {
		judge_protection(devs, &list);
		judge_interrupts(devs, &list);
		judge_cmdline(devs, &list);
	} else {
		devs->iommu.protection = VMPLAT_PROTECTION_NONE;
		no_iommu(devs, &list);
	}
	devs->iommu.findings = dev_findings(&list);
}

API const struct vmplat_iommu_state *vmplat_devs_iommu(const struct vmplat_devs *devs)
{
	return &devs->iommu;
}

API const char *vmplat_protection_name(enum vmplat_protection protection)
{
	static const char *const words[] = { "none", "unproven", "guests", "all" };

	return (size_t)protection < 4 ? words[protection] : NULL;
}
