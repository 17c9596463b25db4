// SPDX-License-Identifier: GPL-2.0-only
/*
 * Layouts: PCI Local Bus 3.0, chapter 6; PCI Bus Power Management 1.2, 3.2; PCI Express
 * Base 5.0, 7.5.3.
 */
#include "vfio_cfg.h"

#include <linux/pci_regs.h>
#include <string.h>

#include "image/why.h"

#define PAGE		4096u
#define VECTOR_BYTES	16u
#define EXP_V1_BYTES	(PCI_EXP_LNKSTA + 2)	/* an endpoint's, version 1 */
#define EXP_V2_BYTES	(PCI_EXP_SLTSTA2 + 2)

static uint32_t get(const uint8_t *host, unsigned int off, unsigned int len)
{
	uint32_t val = 0;

	for (unsigned int i = 0; i < len; i++)
		val |= (uint32_t)host[off + i] << (8 * i);
	return val;
}

static void writable(struct pci_dev *dev, unsigned int off, unsigned int len, uint32_t mask)
{
	for (unsigned int i = 0; i < len; i++)
		dev->wmask[off + i] = mask >> (8 * i);
}

/* @len bytes are ours; zeroes until something is put there */
static void own(struct vfio_cfg *c, unsigned int off, unsigned int len)
{
	for (unsigned int i = off; i < off + len && i < PCI_CFG_BYTES; i++)
		c->through[i] = false;
}

static void through(struct vfio_cfg *c, unsigned int off, unsigned int len)
{
	for (unsigned int i = off; i < off + len && i < PCI_CFG_BYTES; i++)
		c->through[i] = true;
}

/* ---- capabilities -------------------------------------------------------------- */

static unsigned int msi_bytes(uint16_t flags)
{
	unsigned int bytes = flags & PCI_MSI_FLAGS_64BIT ? PCI_MSI_DATA_64 + 2 : PCI_MSI_DATA_32 + 2;

	return flags & PCI_MSI_FLAGS_MASKBIT ? bytes + 2 + 8 : bytes;
}

static unsigned int exp_bytes(const uint8_t *host, unsigned int at)
{
	return (host[at + PCI_EXP_FLAGS] & PCI_EXP_FLAGS_VERS) > 1 ? EXP_V2_BYTES : EXP_V1_BYTES;
}

/* 0: not for the guest */
static unsigned int cap_bytes(const uint8_t *host, unsigned int at)
{
	switch (host[at]) {
	case PCI_CAP_ID_PM:
		return PCI_PM_SIZEOF;
	case PCI_CAP_ID_MSI:
		return msi_bytes((uint16_t)get(host, at + PCI_MSI_FLAGS, 2));
	case PCI_CAP_ID_MSIX:
		return PCI_CAP_MSIX_SIZEOF;
	case PCI_CAP_ID_EXP:
		return exp_bytes(host, at);
	case PCI_CAP_ID_VPD:
		return PCI_CAP_VPD_SIZEOF;
	case PCI_CAP_ID_VNDR:
		return host[at + 2] > 3 ? host[at + 2] : 3;
	default:
		return 0;
	}
}

/* States come and go as the guest likes, and lose nothing: the function stays in D0. */
static void build_pm(struct vfio_cfg *c, struct pci_dev *dev, const uint8_t *host, unsigned int at)
{
	c->pm = (uint8_t)at;
	pci_cfg_put(dev, at + PCI_PM_PMC, 2, get(host, at + PCI_PM_PMC, 2) & ~(uint32_t)PCI_PM_CAP_PME_MASK);
	pci_cfg_put(dev, at + PCI_PM_CTRL, 2, PCI_PM_CTRL_NO_SOFT_RESET);
	writable(dev, at + PCI_PM_CTRL, 2, PCI_PM_CTRL_STATE_MASK);
}

/* No mask bits: KVM has none, and drivers do without. */
static void build_msi(struct vfio_cfg *c, struct pci_dev *dev, const uint8_t *host, unsigned int at)
{
	uint16_t flags = (uint16_t)get(host, at + PCI_MSI_FLAGS, 2);

	c->msi = (uint8_t)at;
	c->msi_64 = flags & PCI_MSI_FLAGS_64BIT;
	c->msi_max = 1u << ((flags & PCI_MSI_FLAGS_QMASK) >> 1);
	if (c->msi_max > 32)	/* reserved encodings */
		c->msi_max = 1;
	pci_cfg_put(dev, at + PCI_MSI_FLAGS, 2, flags & (PCI_MSI_FLAGS_64BIT | PCI_MSI_FLAGS_QMASK));
	writable(dev, at + PCI_MSI_FLAGS, 2, PCI_MSI_FLAGS_ENABLE | PCI_MSI_FLAGS_QSIZE);
	writable(dev, at + PCI_MSI_ADDRESS_LO, 4, ~3u);
	if (c->msi_64)
		writable(dev, at + PCI_MSI_ADDRESS_HI, 4, ~0u);
	writable(dev, at + (c->msi_64 ? PCI_MSI_DATA_64 : PCI_MSI_DATA_32), 2, 0xffff);
}

static void build_msix(struct vfio_cfg *c, struct pci_dev *dev, const uint8_t *host, unsigned int at)
{
	uint16_t flags = (uint16_t)get(host, at + PCI_MSIX_FLAGS, 2);
	uint32_t table = get(host, at + PCI_MSIX_TABLE, 4), pba = get(host, at + PCI_MSIX_PBA, 4);

	c->msix = (uint8_t)at;
	c->msix_nr = (flags & PCI_MSIX_FLAGS_QSIZE) + 1;
	c->table_bar = table & PCI_MSIX_TABLE_BIR;
	c->table = table & PCI_MSIX_TABLE_OFFSET;
	c->pba_bar = pba & PCI_MSIX_PBA_BIR;
	c->pba = pba & PCI_MSIX_PBA_OFFSET;
	pci_cfg_put(dev, at + PCI_MSIX_FLAGS, 2, flags & PCI_MSIX_FLAGS_QSIZE);
	pci_cfg_put(dev, at + PCI_MSIX_TABLE, 4, table);
	pci_cfg_put(dev, at + PCI_MSIX_PBA, 4, pba);
	writable(dev, at + PCI_MSIX_FLAGS, 2, PCI_MSIX_FLAGS_ENABLE | PCI_MSIX_FLAGS_MASKALL);
}

/* There is no link that the guest could see both ends of. */
static void build_exp(struct vfio_cfg *c, struct pci_dev *dev, const uint8_t *host, unsigned int at)
{
	uint16_t flags = (uint16_t)get(host, at + PCI_EXP_FLAGS, 2);

	c->exp = (uint8_t)at;
	c->flr = get(host, at + PCI_EXP_DEVCAP, 4) & PCI_EXP_DEVCAP_FLR;
	flags &= PCI_EXP_FLAGS_VERS | PCI_EXP_FLAGS_IRQ;
	pci_cfg_put(dev, at + PCI_EXP_FLAGS, 2, flags | PCI_EXP_TYPE_RC_END << 4);
	through(c, at + PCI_EXP_DEVCAP, 8);	/* and DEVCTL, DEVSTA */
	if (exp_bytes(host, at) == EXP_V2_BYTES)
		through(c, at + PCI_EXP_DEVCAP2, 8);
}

static void build_cap(struct vfio_cfg *c, struct pci_dev *dev, const uint8_t *host, unsigned int at,
		      unsigned int bytes)
{
	own(c, at, bytes);
	switch (host[at]) {
	case PCI_CAP_ID_PM:
		build_pm(c, dev, host, at);
		break;
	case PCI_CAP_ID_MSI:
		build_msi(c, dev, host, at);
		break;
	case PCI_CAP_ID_MSIX:
		build_msix(c, dev, host, at);
		break;
	case PCI_CAP_ID_EXP:
		build_exp(c, dev, host, at);
		break;
	default:
		through(c, at + 2, bytes - 2);
	}
}

static void link_cap(struct pci_dev *dev, uint8_t id, unsigned int at)
{
	dev->cfg[dev->cap_last ? dev->cap_last + PCI_CAP_LIST_NEXT : PCI_CAPABILITY_LIST] = (uint8_t)at;
	dev->cap_last = at;
	dev->cfg[at] = id;
	dev->cfg[PCI_STATUS] |= PCI_STATUS_CAP_LIST;
}

/* Each is where the function has it: drivers may count on that. */
static const char *build_caps(struct vfio_cfg *c, struct pci_dev *dev, const uint8_t *host)
{
	bool seen[PCI_CFG_BYTES] = { false };
	unsigned int at = host[PCI_CAPABILITY_LIST] & ~3u;

	if (!(host[PCI_STATUS] & PCI_STATUS_CAP_LIST))
		return NULL;
	for (; at; at = host[at + PCI_CAP_LIST_NEXT] & ~3u) {
		unsigned int bytes;

		if (at < PCI_STD_HEADER_SIZEOF || seen[at])
			return sentence("its list of capabilities %s 0x%02x",
					seen[at] ? "comes back to" : "leads to", at);
		seen[at] = true;
		bytes = cap_bytes(host, at);
		if (at + bytes > PCI_CFG_BYTES)
			return sentence("its capability 0x%02x at 0x%02x, of %u bytes, is longer than configuration space",
					host[at], at, bytes);
		own(c, at, 2);
		if (!bytes)
			continue;
		build_cap(c, dev, host, at, bytes);
		link_cap(dev, host[at], at);
	}
	return NULL;
}

static const char *check_msix(const struct vfio_cfg *c)
{
	if (c->msix && (c->table_bar >= PCI_BARS || c->pba_bar >= PCI_BARS))
		return "its MSI-X table is in a BAR that there is not";
	return NULL;
}

/* ---- all of it ------------------------------------------------------------------ */

struct pci_ids vfio_cfg_ids(const uint8_t host[PCI_CFG_BYTES])
{
	return (struct pci_ids){
		.vendor = (uint16_t)get(host, PCI_VENDOR_ID, 2),
		.device = (uint16_t)get(host, PCI_DEVICE_ID, 2),
		.sub_vendor = (uint16_t)get(host, PCI_SUBSYSTEM_VENDOR_ID, 2),
		.sub_device = (uint16_t)get(host, PCI_SUBSYSTEM_ID, 2),
		.class_rev = get(host, PCI_CLASS_REVISION, 4),
	};
}

enum pci_bar_kind vfio_cfg_bar(const uint8_t host[PCI_CFG_BYTES], unsigned int n, bool *prefetch)
{
	uint32_t reg = get(host, PCI_BASE_ADDRESS_0 + 4 * n, 4);

	*prefetch = false;
	if (reg & PCI_BASE_ADDRESS_SPACE_IO)
		return PCI_BAR_IO;
	*prefetch = reg & PCI_BASE_ADDRESS_MEM_PREFETCH;
	return (reg & PCI_BASE_ADDRESS_MEM_TYPE_MASK) == PCI_BASE_ADDRESS_MEM_TYPE_64 ?
	       PCI_BAR_MEM64 : PCI_BAR_MEM32;
}

/* What decodes is for KVM's memory slots to say; here it always does. */
uint16_t vfio_cfg_command(uint16_t guest)
{
	return guest | PCI_COMMAND_IO | PCI_COMMAND_MEMORY;
}

const char *vfio_cfg_build(struct vfio_cfg *c, struct pci_dev *dev,
			   const uint8_t host[PCI_CFG_BYTES])
{
	const char *why;

	memset(c, 0, sizeof(*c));
	if ((host[PCI_HEADER_TYPE] & 0x7f) != PCI_HEADER_TYPE_NORMAL)
		return "it is a bridge";
	through(c, PCI_STD_HEADER_SIZEOF, PCI_CFG_BYTES - PCI_STD_HEADER_SIZEOF);
	why = build_caps(c, dev, host);
	return why ? why : check_msix(c);
}

/* ---- BARs ----------------------------------------------------------------------- */

static uint64_t down(uint64_t v)
{
	return v & ~(uint64_t)(PAGE - 1);
}

static uint64_t up(uint64_t v)
{
	return down(v + PAGE - 1);
}

static unsigned int put_piece(struct vfio_piece *pieces, unsigned int nr, uint64_t from, uint64_t to)
{
	if (from >= to || nr == VFIO_PIECES_MAX)
		return nr;
	pieces[nr] = (struct vfio_piece){ from, to };
	return nr + 1;
}

unsigned int vfio_cfg_pieces(const struct vfio_cfg *c, unsigned int bar,
			     const struct vfio_piece *parts, unsigned int nr_parts,
			     struct vfio_piece pieces[VFIO_PIECES_MAX])
{
	struct vfio_piece traps[2], t;
	unsigned int nr_traps = 0, nr = 0;

	if (c->msix && c->table_bar == bar)
		traps[nr_traps++] = (struct vfio_piece){
			down(c->table), up(c->table + c->msix_nr * VECTOR_BYTES),
		};
	if (c->msix && c->pba_bar == bar)
		traps[nr_traps++] = (struct vfio_piece){
			down(c->pba), up(c->pba + (c->msix_nr + 63) / 64 * 8),
		};
	if (nr_traps == 2 && traps[1].from < traps[0].from) {
		t = traps[0];
		traps[0] = traps[1];
		traps[1] = t;
	}
	for (unsigned int i = 0; i < nr_parts; i++) {
		uint64_t from = up(parts[i].from), to = down(parts[i].to);

		for (unsigned int k = 0; k < nr_traps; k++) {
			if (traps[k].to <= from || traps[k].from >= to)
				continue;
			nr = put_piece(pieces, nr, from, traps[k].from);
			from = traps[k].to;
		}
		nr = put_piece(pieces, nr, from, to);
	}
	return nr;
}
