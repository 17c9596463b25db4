// SPDX-License-Identifier: LGPL-2.1-or-later
/*
 * Who can reach a function without passing the IOMMU. A request that a bridge or a multifunction
 * device may turn around to a peer never gets to the IOMMU; Access Control Services (PCI Express
 * Base Specification 6.0, 6.12) forbid it. The kernel puts together in one group what they do not
 * keep apart; here the same rules are followed (drivers/pci/pci.c: pci_acs_enabled(),
 * drivers/iommu/iommu.c: pci_device_group()) to say why a group is as it is.
 */
#include <linux/pci_regs.h>

#include "dev/dev.h"

/* Source validation, redirection of requests and completions, forwarding upstream. */
#define ACS_NEEDED	(PCI_ACS_SV | PCI_ACS_RR | PCI_ACS_CR | PCI_ACS_UF)

/* What the function has and does not enforce; what it does not have does not apply to it. */
static uint16_t acs_lacking(const struct vmplat_pci *pci)
{
	return ACS_NEEDED & pci->acs_cap & ~pci->acs;
}

static bool needs_acs(const struct vmplat_pci *pci)
{
	switch (pci->port) {
	case VMPLAT_PORT_ROOT:
	case VMPLAT_PORT_DOWNSTREAM:
		return true;
	case VMPLAT_PORT_ENDPOINT:
	case VMPLAT_PORT_LEGACY_ENDPOINT:
	case VMPLAT_PORT_INTEGRATED_ENDPOINT:
	case VMPLAT_PORT_UPSTREAM:
		return pci->multifunction;
	default:
		return true;	/* conventional: cannot have it */
	}
}

static bool enforces(const struct vmplat_pci *pci)
{
	return !needs_acs(pci) || (pci->has_acs && !acs_lacking(pci));
}

static bool readable(const struct vmplat_pci *pci)
{
	return pci->port != VMPLAT_PORT_UNKNOWN;
}

static const char *acs_words(struct vmplat_devs *devs, uint16_t bits)
{
	return dev_printf(devs, "%s%s%s%s", bits & PCI_ACS_SV ? " source-validation" : "",
			  bits & PCI_ACS_RR ? " request-redirect" : "",
			  bits & PCI_ACS_CR ? " completion-redirect" : "",
			  bits & PCI_ACS_UF ? " upstream-forwarding" : "");
}

/* ---- causes ---------------------------------------------------------------- */

static void explain_bridge(struct vmplat_devs *devs, struct dev_list *list,
			   const struct vmplat_pci *bridge)
{
	const char *words;

	if (bridge->port == VMPLAT_PORT_CONVENTIONAL || bridge->port == VMPLAT_PORT_TO_PCI ||
	    bridge->port == VMPLAT_PORT_FROM_PCI) {
		dev_find(devs, list, VMPLAT_WARNING, "conventional-bridge", bridge,
			 "behind %s is conventional PCI: all functions there look alike to the IOMMU",
			 bridge->address);
	} else if (!bridge->has_acs) {
		dev_find(devs, list, VMPLAT_WARNING, "acs-missing", bridge,
			 "the %s %s has no ACS: what is below it can be reached from its peers without passing the IOMMU",
			 vmplat_port_name(bridge->port), bridge->address);
	} else {
		words = acs_words(devs, acs_lacking(bridge));
		dev_find(devs, list, VMPLAT_WARNING, "acs-disabled", bridge,
			 "the %s %s has ACS but does not enforce%s",
			 vmplat_port_name(bridge->port), bridge->address, words ? words : "");
	}
}

/* A function among others in its slot that cannot keep out of their reach. */
static void explain_function(struct vmplat_devs *devs, struct dev_list *list,
			     const struct vmplat_pci *pci)
{
	dev_find(devs, list, VMPLAT_WARNING, "multifunction", pci,
		 "%s is one of %zu functions of a device without ACS%s: they can reach each other inside it",
		 pci->address, pci->nr_siblings + 1, pci->has_acs ? " turned on" : "");
}

/* True if there is a cause in the hardware. */
static bool explain_path(struct vmplat_devs *devs, struct dev_list *list,
			 const struct vmplat_pci *pci)
{
	bool open = false;

	if (readable(pci) && pci->multifunction && !enforces(pci)) {
		explain_function(devs, list, pci);
		open = true;
	}
	for (const struct vmplat_pci *b = pci->bridge; b; b = b->bridge) {
		if (!readable(b) || enforces(b))
			continue;
		explain_bridge(devs, list, b);
		open = true;
	}
	return open;
}

static bool path_readable(const struct vmplat_pci *pci)
{
	for (const struct vmplat_pci *p = pci; p; p = p->bridge)
		if (!readable(p))
			return false;
	return true;
}

/* ---- verdict --------------------------------------------------------------- */

/* Bridges do no DMA of their own that matters and may stay with the host. */
static const char *companions(struct vmplat_devs *devs, const struct vmplat_pci *pci, size_t *nr)
{
	const char *words = "";

	*nr = 0;
	for (size_t i = 0; i < pci->group->nr_members; i++) {
		const struct vmplat_pci *m = pci->group->members[i];

		if (m == pci || m->is_bridge)
			continue;
		++*nr;
		words = dev_printf(devs, "%s %s", words ? words : "", m->address);
	}
	return words ? words : "";
}

void isolation_judge(struct vmplat_devs *devs, struct vmplat_pci *pci)
{
	struct dev_list list = { };
	const char *words;
	size_t nr;
	bool open;

	if (!pci->group) {
		pci->isolation = VMPLAT_ISOLATION_NONE;
		dev_find(devs, &list, VMPLAT_WARNING, "no-group", pci,
			 "%s is in no IOMMU group: its DMA is not translated", pci->address);
		pci->reasons = dev_findings(&list);
		return;
	}
	words = companions(devs, pci, &nr);
	if (nr)
		dev_find(devs, &list, VMPLAT_WARNING, "shared", pci, "group %u also holds%s",
			 pci->group->id, words);
	open = explain_path(devs, &list, pci);
	if (nr) {
		pci->isolation = VMPLAT_ISOLATION_SHARED;
	} else if (open) {
		pci->isolation = VMPLAT_ISOLATION_DOUBTFUL;
		dev_find(devs, &list, VMPLAT_WARNING, "alone-nevertheless", pci,
			 "the kernel keeps it in a group of its own nevertheless: %s",
			 cmdline_value(devs, "pcie_acs_override=") ?
			 "pcie_acs_override= told it to" :
			 "nothing else is there now, or it knows better about this hardware");
	} else if (path_readable(pci)) {
		pci->isolation = VMPLAT_ISOLATION_ALONE;
	} else {
		pci->isolation = VMPLAT_ISOLATION_UNVERIFIED;
		dev_find(devs, &list, VMPLAT_NOTE, "unverified", pci,
			 "it is alone in its group; why could not be checked: configuration space is readable by root only, and while the device is awake");
	}
	pci->reasons = dev_findings(&list);
}

API const char *vmplat_isolation_name(enum vmplat_isolation isolation)
{
	static const char *const words[] = { "none", "shared", "doubtful", "unverified", "alone" };

	return (size_t)isolation < 5 ? words[isolation] : NULL;
}
