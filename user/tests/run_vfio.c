// SPDX-License-Identifier: GPL-2.0-only
/*
 * What a guest sees of a function that it was given: configuration space made from the
 * function's own, BARs without the pages that are trapped, places for them.
 */
#include <linux/pci_regs.h>

#include "fake_vm.h"
#include "run/vfio_cfg.h"
#include "tap.h"

#define PM	0x40
#define MSI	0x50
#define MSIX	0x70
#define AF	0x80
#define EXP	0xa0
#define VNDR	0xe0
#define PAGE	4096ull

static uint8_t host[PCI_CFG_BYTES];
static struct vfio_cfg cfg;
static struct pci_dev dev;

static void put(unsigned int off, unsigned int len, uint32_t val)
{
	for (unsigned int i = 0; i < len; i++)
		host[off + i] = (uint8_t)(val >> (8 * i));
}

static void cap(unsigned int at, uint8_t id, unsigned int next)
{
	host[at] = id;
	host[at + 1] = (uint8_t)next;
}

/* a network card of sorts */
static void make_host(void)
{
	memset(host, 0xa5, sizeof(host));	/* what is nobody's */
	put(PCI_VENDOR_ID, 4, 0x10c98086);
	put(PCI_COMMAND, 4, PCI_STATUS_CAP_LIST << 16 | 0x7);
	put(PCI_CLASS_REVISION, 4, 0x02000001);
	put(PCI_CACHE_LINE_SIZE, 4, 0x80 << 16);
	memset(host + PCI_BASE_ADDRESS_0, 0, 24);
	put(PCI_BASE_ADDRESS_0, 4, 0xfe000000);
	put(PCI_BASE_ADDRESS_2, 4, 0xc001);
	put(PCI_BASE_ADDRESS_4, 4, 0xd000000c);
	put(PCI_SUBSYSTEM_VENDOR_ID, 4, 0xa03c8086);
	put(PCI_ROM_ADDRESS, 4, 0xfe100001);
	host[PCI_CAPABILITY_LIST] = PM;
	host[PCI_INTERRUPT_PIN] = 2;
	cap(PM, PCI_CAP_ID_PM, MSI);
	put(PM + PCI_PM_PMC, 2, 0xc803);
	put(PM + PCI_PM_CTRL, 2, 0x8103);
	cap(MSI, PCI_CAP_ID_MSI, MSIX);
	put(MSI + PCI_MSI_FLAGS, 2, PCI_MSI_FLAGS_ENABLE | PCI_MSI_FLAGS_64BIT | PCI_MSI_FLAGS_MASKBIT | 3 << 1);
	put(MSI + PCI_MSI_ADDRESS_LO, 4, 0xfee01004);
	cap(MSIX, PCI_CAP_ID_MSIX, AF);
	put(MSIX + PCI_MSIX_FLAGS, 2, PCI_MSIX_FLAGS_ENABLE | 9);
	put(MSIX + PCI_MSIX_TABLE, 4, 0x3000 | 0);
	put(MSIX + PCI_MSIX_PBA, 4, 0x2000 | 4);
	cap(AF, PCI_CAP_ID_AF, EXP);
	cap(EXP, PCI_CAP_ID_EXP, VNDR);
	put(EXP + PCI_EXP_FLAGS, 2, 2 | PCI_EXP_TYPE_ENDPOINT << 4);
	put(EXP + PCI_EXP_DEVCAP, 4, PCI_EXP_DEVCAP_FLR | 2);
	put(EXP + PCI_EXP_LNKCAP, 4, 0x12345678);
	put(EXP + PCI_EXP_LNKSTA, 2, 0x1041);
	cap(VNDR, PCI_CAP_ID_VNDR, 0);
	host[VNDR + 2] = 0x10;
}

static const char *build(void)
{
	struct pci_ids ids = vfio_cfg_ids(host);

	pci_dev_init(&dev, &ids, NULL, NULL);
	return vfio_cfg_build(&cfg, &dev, host);
}

static unsigned int guest(unsigned int off, unsigned int len)
{
	return pci_cfg_get(&dev, off, len);
}

/* bits that the guest can change, or that reach the function */
static uint64_t writable(unsigned int off, unsigned int len)
{
	uint64_t bits = 0;

	for (unsigned int i = 0; i < len; i++)
		bits |= (uint64_t)dev.wmask[off + i] << (8 * i);
	return bits;
}

static bool all_through(unsigned int off, unsigned int len, bool want)
{
	for (unsigned int i = off; i < off + len; i++)
		if (cfg.through[i] != want) {
			printf("# byte 0x%02x\n", i);
			return false;
		}
	return true;
}

TEST(header)
{
	make_host();
	REQUIRE(!build());
	CHECK_EQ(guest(0, 4), 0x10c98086);
	CHECK_EQ(guest(PCI_CLASS_REVISION, 4), 0x02000001);
	CHECK_EQ(guest(PCI_SUBSYSTEM_VENDOR_ID, 4), 0xa03c8086);
	CHECK_EQ(guest(PCI_COMMAND, 2), 0);		/* nothing of what the host has on */
	CHECK_EQ(guest(PCI_HEADER_TYPE, 1), 0);	/* one function */
	CHECK_EQ(guest(PCI_ROM_ADDRESS, 4), 0);
	CHECK_EQ(writable(PCI_ROM_ADDRESS, 4), 0);
	CHECK_EQ(guest(PCI_BASE_ADDRESS_0, 4), 0);	/* no address of the host's */
	CHECK(all_through(0, PCI_STD_HEADER_SIZEOF, false));
	CHECK_EQ(vfio_cfg_command(0), PCI_COMMAND_IO | PCI_COMMAND_MEMORY);
	CHECK_EQ(vfio_cfg_command(PCI_COMMAND_MASTER) & PCI_COMMAND_MASTER, PCI_COMMAND_MASTER);
	host[PCI_HEADER_TYPE] = PCI_HEADER_TYPE_BRIDGE;
	CHECK(build());
}

/* Each where it was, those that cannot work left out. */
TEST(list)
{
	static const uint8_t want[] = { PM, MSI, MSIX, EXP, VNDR };
	unsigned int at, n = 0;

	make_host();
	REQUIRE(!build());
	CHECK_EQ(guest(PCI_STATUS, 2), PCI_STATUS_CAP_LIST);
	for (at = guest(PCI_CAPABILITY_LIST, 1); at && n < sizeof(want); at = guest(at + 1, 1))
		CHECK_EQ(at, want[n++]);
	CHECK_EQ(at, 0);
	CHECK_EQ(n, sizeof(want));
	CHECK_EQ(guest(AF, 2), 0);
	CHECK(all_through(AF, 2, false));
	CHECK(all_through(0x90, 0x10, true));		/* drivers know of it */
	put(PCI_STATUS, 2, 0);
	REQUIRE(!build());
	CHECK_EQ(guest(PCI_STATUS, 2), 0);
	CHECK(!cfg.pm && !cfg.msi && !cfg.msix && !cfg.exp);
}

TEST(broken_lists)
{
	make_host();
	host[VNDR + 1] = MSI;
	CHECK(build() && strstr(build(), "comes back to 0x50"));
	host[VNDR + 1] = 0x10;
	CHECK(build() && strstr(build(), "leads to 0x10"));
	host[VNDR + 1] = 0;
	host[VNDR + 2] = 0x21;
	CHECK(build() && strstr(build(), "longer than configuration space"));
	host[VNDR + 2] = 0x20;
	CHECK(!build());
	host[VNDR + 2] = 0;				/* a length that is none */
	CHECK(!build());
	cap(VNDR, PCI_CAP_ID_MSI, 0xfc);
	cap(0xfc, PCI_CAP_ID_MSIX, 0);
	CHECK(build());
	make_host();
	put(MSIX + PCI_MSIX_TABLE, 4, 6);
	CHECK(build() && strstr(build(), "BAR that there is not"));
}

TEST(power)
{
	make_host();
	REQUIRE(!build());
	CHECK_EQ(guest(PM + PCI_PM_PMC, 2), 0x0003);	/* wakes nobody */
	CHECK_EQ(guest(PM + PCI_PM_CTRL, 2), PCI_PM_CTRL_NO_SOFT_RESET);
	CHECK_EQ(writable(PM + PCI_PM_CTRL, 2), 3);
	CHECK(all_through(PM, PCI_PM_SIZEOF, false));
}

TEST(messages)
{
	make_host();
	REQUIRE(!build());
	CHECK_EQ(cfg.msi, MSI);
	CHECK_EQ(cfg.msi_max, 8);
	CHECK(cfg.msi_64);
	CHECK_EQ(guest(MSI + PCI_MSI_FLAGS, 2), PCI_MSI_FLAGS_64BIT | 3 << 1);
	CHECK_EQ(guest(MSI + PCI_MSI_ADDRESS_LO, 4), 0);
	CHECK_EQ(writable(MSI + PCI_MSI_FLAGS, 2), PCI_MSI_FLAGS_ENABLE | PCI_MSI_FLAGS_QSIZE);
	CHECK_EQ(writable(MSI + PCI_MSI_DATA_64, 2), 0xffff);
	CHECK_EQ(writable(MSI + PCI_MSI_MASK_64, 4), 0);
	CHECK(all_through(MSI, 0x18, false));
	CHECK_EQ(cfg.msix_nr, 10);
	CHECK_EQ(cfg.table_bar, 0);
	CHECK_EQ(cfg.table, 0x3000);
	CHECK_EQ(cfg.pba_bar, 4);
	CHECK_EQ(cfg.pba, 0x2000);
	CHECK_EQ(guest(MSIX + PCI_MSIX_FLAGS, 2), 9);
	CHECK_EQ(guest(MSIX + PCI_MSIX_TABLE, 4), 0x3000);
	CHECK_EQ(writable(MSIX + PCI_MSIX_FLAGS, 2), PCI_MSIX_FLAGS_ENABLE | PCI_MSIX_FLAGS_MASKALL);
	CHECK_EQ(writable(MSIX + PCI_MSIX_TABLE, 8), 0);
	CHECK(all_through(MSIX, PCI_CAP_MSIX_SIZEOF, false));
	put(MSI + PCI_MSI_FLAGS, 2, 7 << 1);		/* reserved, 32-bit */
	REQUIRE(!build());
	CHECK_EQ(cfg.msi_max, 1);
	CHECK_EQ(writable(MSI + PCI_MSI_DATA_32, 2), 0xffff);
}

TEST(express)
{
	make_host();
	REQUIRE(!build());
	CHECK(cfg.flr);
	CHECK_EQ(guest(EXP + PCI_EXP_FLAGS, 2), 2 | PCI_EXP_TYPE_RC_END << 4);
	CHECK(all_through(EXP + PCI_EXP_DEVCAP, 8, true));
	CHECK(all_through(EXP + PCI_EXP_LNKCAP, 0x18, false));
	CHECK_EQ(guest(EXP + PCI_EXP_LNKCAP, 4), 0);
	CHECK_EQ(guest(EXP + PCI_EXP_LNKSTA, 2), 0);
	CHECK(all_through(EXP + PCI_EXP_DEVCAP2, 8, true));
	CHECK(all_through(EXP + PCI_EXP_LNKCAP2, 0x10, false));
	put(EXP + PCI_EXP_FLAGS, 2, 1);			/* version 1 ends where the link does */
	put(EXP + PCI_EXP_DEVCAP, 4, 0);
	REQUIRE(!build());
	CHECK(!cfg.flr);
	CHECK(all_through(EXP + PCI_EXP_LNKCAP, 8, false));
	CHECK(all_through(EXP + 0x14, 0x20, true));
}

TEST(bars)
{
	bool prefetch;

	make_host();
	CHECK_EQ(vfio_cfg_bar(host, 0, &prefetch), PCI_BAR_MEM32);
	CHECK(!prefetch);
	CHECK_EQ(vfio_cfg_bar(host, 2, &prefetch), PCI_BAR_IO);
	CHECK_EQ(vfio_cfg_bar(host, 4, &prefetch), PCI_BAR_MEM64);
	CHECK(prefetch);
}

static unsigned int pieces(unsigned int bar, uint64_t from, uint64_t to, struct vfio_piece p[VFIO_PIECES_MAX])
{
	struct vfio_piece part = { from, to };

	return vfio_cfg_pieces(&cfg, bar, &part, 1, p);
}

/* The pages of the table and of the pending bits are the runner's. */
TEST(trapped_pages)
{
	struct vfio_piece p[VFIO_PIECES_MAX], parts[2] = { { 0, 2 * PAGE }, { 3 * PAGE, 5 * PAGE } };

	make_host();
	REQUIRE(!build());
	CHECK_EQ(pieces(1, 0, 0x10000, p), 1);
	CHECK(p[0].from == 0 && p[0].to == 0x10000);
	CHECK_EQ(pieces(0, 0, 0x10000, p), 2);
	CHECK(p[0].from == 0 && p[0].to == 0x3000 && p[1].from == 0x4000 && p[1].to == 0x10000);
	CHECK_EQ(pieces(0, 0, 0x4000, p), 1);		/* it is the last page */
	CHECK(p[0].from == 0 && p[0].to == 0x3000);
	CHECK_EQ(pieces(0, 0x3000, 0x4000, p), 0);	/* and the only one */
	CHECK_EQ(pieces(1, 0, 0x800, p), 0);		/* less than a page is no memory */
	cfg.pba_bar = 0;				/* both, the bits before the table */
	cfg.pba = 0x1ff0;
	CHECK_EQ(pieces(0, 0, 0x10000, p), 3);
	CHECK(p[0].to == 0x1000 && p[1].from == 0x2000 && p[1].to == 0x3000 && p[2].from == 0x4000);
	cfg.pba = 0x3800;				/* both on one page */
	CHECK_EQ(pieces(0, 0, 0x10000, p), 2);
	cfg.msix_nr = 300;				/* a table of two pages, from the middle of one */
	cfg.table = 0x3800;
	cfg.pba_bar = 5;
	CHECK_EQ(pieces(0, 0, 0x10000, p), 2);
	CHECK(p[0].to == 0x3000 && p[1].from == 0x5000);
	CHECK_EQ(vfio_cfg_pieces(&cfg, 0, parts, 2, p), 1);
	CHECK(p[0].to == 2 * PAGE);
}

/* ---- places for BARs: the bus's half of it --------------------------------------------- */

static uint64_t place(struct pci_bus *bus, enum pci_bar_kind kind, uint64_t size, int *ret)
{
	static struct pci_dev devs[PCI_SLOTS];
	static const struct pci_ids ids = { .vendor = 1, .device = 2 };
	struct pci_dev *d = devs;

	while (d->bus)
		d++;
	pci_dev_init(d, &ids, NULL, NULL);
	pci_dev_bar(d, 0, kind, size, NULL, NULL);
	*ret = pci_dev_plug(bus, d, 0);
	return *ret ? 0 : d->bar[0].home;
}

TEST(places)
{
	struct vm *vm = fake_vm_new();
	struct pci_bus *bus;
	uint64_t at;
	int ret;

	REQUIRE(!pci_bus_new(vm, &bus));
	at = place(bus, PCI_BAR_MEM64, 1 << 20, &ret);	/* small ones where all guests reach them */
	CHECK(at >= VM_PCI_MMIO_BASE && at < VM_PCI_MMIO_END);
	at = place(bus, PCI_BAR_MEM64, 16ull << 30, &ret);
	CHECK_EQ(at, VM_PCI_MMIO64_BASE);
	at = place(bus, PCI_BAR_MEM64, 64ull << 20, &ret);
	CHECK_EQ(at, VM_PCI_MMIO64_BASE + (16ull << 30));
	at = place(bus, PCI_BAR_MEM64, 128ull << 30, &ret);
	CHECK_EQ(at, VM_PCI_MMIO64_BASE + (128ull << 30));
	place(bus, PCI_BAR_MEM64, 256ull << 30, &ret);	/* the window is not free any more */
	CHECK_EQ(ret, -ENOSPC);
	at = place(bus, PCI_BAR_MEM32, 256 << 20, &ret);
	CHECK_EQ(at, VM_PCI_MMIO_BASE + (256 << 20));
	place(bus, PCI_BAR_MEM32, 512 << 20, &ret);
	CHECK_EQ(ret, -ENOSPC);
	place(bus, PCI_BAR_MEM32, 256 << 20, &ret);
	CHECK_EQ(ret, -ENOSPC);
	at = place(bus, PCI_BAR_MEM64, 32 << 20, &ret);
	CHECK(at < VM_PCI_MMIO_BASE + (256 << 20));
	for (unsigned int i = 0; i < 7; i++)		/* what is left there */
		at = place(bus, PCI_BAR_MEM64, 32 << 20, &ret);
	CHECK(!ret && at >= VM_PCI_MMIO64_BASE);	/* small, but there is no room below */
	fake_vm_free(vm);
}

int main(void)
{
	RUN(header);
	RUN(list);
	RUN(broken_lists);
	RUN(power);
	RUN(messages);
	RUN(express);
	RUN(bars);
	RUN(trapped_pages);
	RUN(places);
	return tap_done();
}
