// SPDX-License-Identifier: LGPL-2.1-or-later
/*
 * Configuration space, as far as it could be read: 64 bytes without privileges, 256 without PCI
 * Express, else 4096. The numbers are of linux/pci_regs.h, the rules of the PCI Express Base
 * Specification 6.0, chapter 7. A device that is gone or asleep reads as all ones.
 */
#include <linux/pci_regs.h>

#include "dev/dev.h"

#define COMMON_BYTES	256

struct space {
	const uint8_t *p;
	unsigned int bytes;
};

/* little endian; all ones beyond the end, as from a device that does not answer */
static uint32_t read_le(const struct space *s, unsigned int off, unsigned int n)
{
	uint32_t v = 0;

	if (off > s->bytes || n > s->bytes - off)
		return n == 4 ? UINT32_MAX : (1u << 8 * n) - 1;
	for (unsigned int i = 0; i < n; i++)
		v |= (uint32_t)s->p[off + i] << 8 * i;
	return v;
}

uint32_t config_read32(const uint8_t *config, unsigned int bytes, unsigned int off)
{
	return read_le(&(struct space){ config, bytes }, off, 4);
}

/* ---- names ------------------------------------------------------------- */

static const char *const cap_names[] = {
	[PCI_CAP_ID_PM] = "Power Management", [PCI_CAP_ID_AGP] = "AGP",
	[PCI_CAP_ID_VPD] = "Vital Product Data", [PCI_CAP_ID_SLOTID] = "Slot Identification",
	[PCI_CAP_ID_MSI] = "MSI", [PCI_CAP_ID_CHSWP] = "CompactPCI Hot Swap",
	[PCI_CAP_ID_PCIX] = "PCI-X", [PCI_CAP_ID_HT] = "HyperTransport",
	[PCI_CAP_ID_VNDR] = "Vendor Specific", [PCI_CAP_ID_DBG] = "Debug Port",
	[PCI_CAP_ID_CCRC] = "CompactPCI Resource Control", [PCI_CAP_ID_SHPC] = "Hot-Plug Controller",
	[PCI_CAP_ID_SSVID] = "Subsystem IDs", [PCI_CAP_ID_AGP3] = "AGP 8x",
	[PCI_CAP_ID_SECDEV] = "Secure Device", [PCI_CAP_ID_EXP] = "PCI Express",
	[PCI_CAP_ID_MSIX] = "MSI-X", [PCI_CAP_ID_SATA] = "SATA Configuration",
	[PCI_CAP_ID_AF] = "Advanced Features", [PCI_CAP_ID_EA] = "Enhanced Allocation",
};

static const char *const ext_cap_names[] = {
	[PCI_EXT_CAP_ID_ERR] = "Advanced Error Reporting", [PCI_EXT_CAP_ID_VC] = "Virtual Channel",
	[PCI_EXT_CAP_ID_DSN] = "Device Serial Number", [PCI_EXT_CAP_ID_PWR] = "Power Budgeting",
	[PCI_EXT_CAP_ID_RCLD] = "Root Complex Link", [PCI_EXT_CAP_ID_RCILC] = "Root Complex Link Control",
	[PCI_EXT_CAP_ID_RCEC] = "Root Complex Event Collector",
	[PCI_EXT_CAP_ID_MFVC] = "Multi-Function Virtual Channel",
	[PCI_EXT_CAP_ID_VC9] = "Virtual Channel", [PCI_EXT_CAP_ID_RCRB] = "RCRB Header",
	[PCI_EXT_CAP_ID_VNDR] = "Vendor Specific", [PCI_EXT_CAP_ID_ACS] = "Access Control Services",
	[PCI_EXT_CAP_ID_ARI] = "Alternative Routing-ID", [PCI_EXT_CAP_ID_ATS] = "Address Translation",
	[PCI_EXT_CAP_ID_SRIOV] = "Single Root I/O Virtualization",
	[PCI_EXT_CAP_ID_MCAST] = "Multicast", [PCI_EXT_CAP_ID_PRI] = "Page Request",
	[PCI_EXT_CAP_ID_REBAR] = "Resizable BAR", [PCI_EXT_CAP_ID_DPA] = "Dynamic Power Allocation",
	[PCI_EXT_CAP_ID_TPH] = "Transaction Processing Hints",
	[PCI_EXT_CAP_ID_LTR] = "Latency Tolerance Reporting",
	[PCI_EXT_CAP_ID_SECPCI] = "Secondary PCI Express", [PCI_EXT_CAP_ID_PASID] = "Process Address Space ID",
	[PCI_EXT_CAP_ID_DPC] = "Downstream Port Containment",
	[PCI_EXT_CAP_ID_L1SS] = "L1 PM Substates", [PCI_EXT_CAP_ID_PTM] = "Precision Time Measurement",
	[PCI_EXT_CAP_ID_DVSEC] = "Designated Vendor Specific", [0x24] = "VF Resizable BAR",
	[PCI_EXT_CAP_ID_DLF] = "Data Link Feature", [PCI_EXT_CAP_ID_PL_16GT] = "Physical Layer 16.0 GT/s",
	[0x27] = "Lane Margining", [0x2a] = "Physical Layer 32.0 GT/s",
	[PCI_EXT_CAP_ID_DOE] = "Data Object Exchange",
};

#define NAME_OF(names, id) ((id) < sizeof(names) / sizeof((names)[0]) ? (names)[id] : NULL)

/* ---- capabilities ------------------------------------------------------ */

static void parse_express(struct vmplat_pci *pci, const struct space *s, unsigned int at)
{
	static const enum vmplat_port ports[16] = {
		[PCI_EXP_TYPE_ENDPOINT] = VMPLAT_PORT_ENDPOINT,
		[PCI_EXP_TYPE_LEG_END] = VMPLAT_PORT_LEGACY_ENDPOINT,
		[PCI_EXP_TYPE_ROOT_PORT] = VMPLAT_PORT_ROOT,
		[PCI_EXP_TYPE_UPSTREAM] = VMPLAT_PORT_UPSTREAM,
		[PCI_EXP_TYPE_DOWNSTREAM] = VMPLAT_PORT_DOWNSTREAM,
		[PCI_EXP_TYPE_PCI_BRIDGE] = VMPLAT_PORT_TO_PCI,
		[PCI_EXP_TYPE_PCIE_BRIDGE] = VMPLAT_PORT_FROM_PCI,
		[PCI_EXP_TYPE_RC_END] = VMPLAT_PORT_INTEGRATED_ENDPOINT,
		[PCI_EXP_TYPE_RC_EC] = VMPLAT_PORT_EVENT_COLLECTOR,
	};
	unsigned int type = (read_le(s, at + PCI_EXP_FLAGS, 2) & PCI_EXP_FLAGS_TYPE) >> 4;

	pci->port = ports[type];
	pci->flr = read_le(s, at + PCI_EXP_DEVCAP, 4) & PCI_EXP_DEVCAP_FLR;
}

static void parse_rebar(struct vmplat_devs *devs, struct vmplat_pci *pci, const struct space *s,
			unsigned int at)
{
	unsigned int nr = read_le(s, at + PCI_REBAR_CTRL, 4) >> PCI_REBAR_CTRL_NBAR_SHIFT & 7;

	for (unsigned int i = 0; i < nr && i < 6; i++) {
		uint32_t cap = read_le(s, at + PCI_REBAR_CAP + 8 * i, 4);
		uint32_t ctrl = read_le(s, at + PCI_REBAR_CTRL + 8 * i, 4);

		for (size_t b = 0; b < pci->nr_bars; b++) {
			struct vmplat_bar *bar = (struct vmplat_bar *)&pci->bars[b];

			if (bar->index == (ctrl & PCI_REBAR_CTRL_BAR_IDX))
				/* sizes from 256 TiB on are in ctrl, from bit 28 */
				bar->resizable = (cap & PCI_REBAR_CAP_SIZES) >> 4 |
						 (uint64_t)(ctrl >> 16) << 28;
		}
	}
}

static void parse_cap(struct vmplat_pci *pci, const struct space *s, unsigned int id,
		      unsigned int at)
{
	if (id == PCI_CAP_ID_EXP)
		parse_express(pci, s, at);
	else if (id == PCI_CAP_ID_AF && (read_le(s, at + PCI_AF_CAP, 1) & PCI_AF_CAP_FLR))
		pci->flr = true;
	else if (id == PCI_CAP_ID_PM)
		pci->no_soft_reset = read_le(s, at + PCI_PM_CTRL, 2) & PCI_PM_CTRL_NO_SOFT_RESET;
}

static void parse_ext_cap(struct vmplat_devs *devs, struct vmplat_pci *pci, const struct space *s,
			  unsigned int id, unsigned int at)
{
	if (id == PCI_EXT_CAP_ID_DSN) {
		pci->serial = (uint64_t)read_le(s, at + 8, 4) << 32 | read_le(s, at + 4, 4);
		if (pci->serial == UINT64_MAX)
			pci->serial = 0;
	} else if (id == PCI_EXT_CAP_ID_ACS) {
		pci->has_acs = true;
		pci->acs_cap = read_le(s, at + PCI_ACS_CAP, 2) & 0x7f;
		pci->acs = read_le(s, at + PCI_ACS_CTRL, 2) & 0x7f;
	} else if (id == PCI_EXT_CAP_ID_REBAR) {
		parse_rebar(devs, pci, s, at);
	}
}

static void add_cap(struct vmplat_devs *devs, struct dev_list *caps, struct vmplat_pci_cap cap)
{
	dev_append(devs, caps, &cap, sizeof(cap));
}

/* A capability begins at a multiple of 4: one bit for each place where one has been seen. */
struct seen {
	uint32_t bits[PCI_CFG_SPACE_EXP_SIZE / 4 / 32];
};

static bool seen_before(struct seen *seen, unsigned int at)
{
	uint32_t bit = 1u << at / 4 % 32, *word = &seen->bits[at / 4 / 32];
	bool before = *word & bit;

	*word |= bit;
	return before;
}

/* A list that loops or leaves its place ends where it does: no device is trusted. */
static void walk_caps(struct vmplat_devs *devs, struct vmplat_pci *pci, const struct space *s,
		      struct dev_list *caps)
{
	unsigned int at = read_le(s, PCI_CAPABILITY_LIST, 1) & ~3u;
	struct seen seen = { };

	if (!(read_le(s, PCI_STATUS, 2) & PCI_STATUS_CAP_LIST))
		return;
	while (at >= PCI_STD_HEADER_SIZEOF && !seen_before(&seen, at)) {
		unsigned int id = read_le(s, at, 1);

		if (at + 2 > s->bytes || id == 0xff)
			return;
		add_cap(devs, caps, (struct vmplat_pci_cap) {
			.id = id, .offset = at, .name = NAME_OF(cap_names, id) });
		parse_cap(pci, s, id, at);
		at = read_le(s, at + 1, 1) & ~3u;
	}
}

static void walk_ext_caps(struct vmplat_devs *devs, struct vmplat_pci *pci, const struct space *s,
			  struct dev_list *caps)
{
	unsigned int at = PCI_CFG_SPACE_SIZE;
	struct seen seen = { };

	while (at >= PCI_CFG_SPACE_SIZE && !seen_before(&seen, at)) {
		uint32_t head = read_le(s, at, 4);
		unsigned int id = PCI_EXT_CAP_ID(head);

		if (head == UINT32_MAX || !head)
			return;
		add_cap(devs, caps, (struct vmplat_pci_cap) {
			.id = id, .offset = at, .extended = true, .version = PCI_EXT_CAP_VER(head),
			.name = NAME_OF(ext_cap_names, id) });
		parse_ext_cap(devs, pci, s, id, at);
		at = PCI_EXT_CAP_NEXT(head);
	}
}

void config_parse(struct vmplat_devs *devs, struct vmplat_pci *pci, const uint8_t *config,
		  unsigned int bytes)
{
	struct space s = { config, bytes };
	struct dev_list caps = { };
	unsigned int header;

	pci->config_bytes = bytes;
	if (bytes < PCI_STD_HEADER_SIZEOF || read_le(&s, PCI_VENDOR_ID, 4) == UINT32_MAX) {
		/* VFs have no ID of their own: theirs reads as all ones in some */
		if (!pci->pf || bytes < PCI_STD_HEADER_SIZEOF) {
			pci->config_bytes = 0;
			return;
		}
	}
	header = read_le(&s, PCI_HEADER_TYPE, 1);
	/* the kernel gives each function behind the first the mark, and never a VF */
	pci->multifunction = !pci->pf && (header & 0x80 || pci->function);
	if (bytes < COMMON_BYTES)
		return;
	pci->port = VMPLAT_PORT_CONVENTIONAL;
	walk_caps(devs, pci, &s, &caps);
	walk_ext_caps(devs, pci, &s, &caps);
	pci->caps = caps.items;
	pci->nr_caps = caps.nr;
}
