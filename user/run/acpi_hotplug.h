/* SPDX-License-Identifier: GPL-2.0-only */
#ifndef VMPLAT_RUN_ACPI_HOTPLUG_H
#define VMPLAT_RUN_ACPI_HOTPLUG_H

struct aml;

/* In the scope \_SB: the controller, its event device, the slots of memory. */
void acpi_hotplug(struct aml *b);
/* In the scope of \_SB.PCI0: the slots of the bus. */
void acpi_hotplug_pci(struct aml *b);

#endif
