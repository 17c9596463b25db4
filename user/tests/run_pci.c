// SPDX-License-Identifier: LGPL-2.1-or-later
/* Config space, BARs, MSI-X and INTx of the PCI bus, without KVM. */
#include <linux/pci_regs.h>

#include "fake_vm.h"
#include "run/pci.h"
#include "tap.h"

struct fixture {
	struct vm *vm;
	struct pci_bus *bus;
	struct pci_dev dev;
	unsigned int mapped, unmapped;
};

static uint64_t echo_read(void *opaque, uint64_t off, unsigned int len)
{
	return 0x1000 + off;
}

static void echo_write(void *opaque, uint64_t off, unsigned int len, uint64_t val)
{
}

static const struct bus_ops echo_ops = { .read = echo_read, .write = echo_write };

static void on_map(struct pci_dev *dev, unsigned int bar)
{
	((struct fixture *)dev->opaque)->mapped++;
}

static void on_unmap(struct pci_dev *dev, unsigned int bar)
{
	((struct fixture *)dev->opaque)->unmapped++;
}

static const struct pci_dev_ops dev_ops = { .bar_mapped = on_map, .bar_unmapped = on_unmap };
static const struct pci_ids ids = {
	.vendor = 0x1234, .device = 0x5678, .class_rev = 0xff000001,
	.sub_vendor = 1, .sub_device = 2,
};

#define MEM32	0
#define MEM64	1
#define IO	3
#define MSIX	4
#define BAR_REG(n) (PCI_BASE_ADDRESS_0 + 4 * (n))

static void build(struct fixture *f, struct pci_dev *dev)
{
	pci_dev_init(dev, &ids, &dev_ops, f);
	pci_dev_bar(dev, MEM32, PCI_BAR_MEM32, 0x4000, &echo_ops, f);
	dev->bar[MEM64].prefetch = true;
	pci_dev_bar(dev, MEM64, PCI_BAR_MEM64, 0x100000, &echo_ops, f);
	pci_dev_bar(dev, IO, PCI_BAR_IO, 0x20, &echo_ops, f);
	pci_dev_intx(dev);
	pci_msix_add(dev, MSIX, 70);
}

static void setup(struct fixture *f)
{
	*f = (struct fixture){ .vm = fake_vm_new() };
	if (pci_bus_new(f->vm, &f->bus))
		abort();
	build(f, &f->dev);
	if (pci_dev_plug(f->bus, &f->dev, 0))
		abort();
}

static void teardown(struct fixture *f)
{
	pci_dev_exit(&f->dev);
	fake_vm_free(f->vm);
}

static uint32_t rd(struct fixture *f, unsigned int off, unsigned int len)
{
	return fake_cfg_read(f->vm, 1, off, len);
}

static void wr(struct fixture *f, unsigned int off, unsigned int len, uint32_t val)
{
	fake_cfg_write(f->vm, 1, off, len, val);
}

/* The probe that a kernel does before it believes in mechanism #1. */
TEST(mechanism_1)
{
	struct fixture f;

	setup(&f);
	fake_out(f.vm, 0xcfb, 1, 1);
	fake_out(f.vm, 0xcf8, 4, 0x80000000);
	CHECK_EQ(fake_in(f.vm, 0xcf8, 4), 0x80000000);
	CHECK_EQ(fake_in(f.vm, 0xcfc, 4), 0x0d578086);
	CHECK_EQ(fake_cfg_read(f.vm, 0, PCI_CLASS_DEVICE, 2), 0x0600);
	CHECK_EQ(fake_cfg_read(f.vm, 7, 0, 4), 0xffffffff);
	CHECK_EQ(fake_in(f.vm, 0xcfe, 4), 0xffffffff);	/* straddles */
	fake_out(f.vm, 0xcf8, 4, 0x80010000 | 1 << 11);	/* bus 1 */
	CHECK_EQ(fake_in(f.vm, 0xcfc, 4), 0xffffffff);
	fake_out(f.vm, 0xcf8, 4, 0x80000100 | 1 << 11);	/* function 1 */
	CHECK_EQ(fake_in(f.vm, 0xcfc, 4), 0xffffffff);
	fake_out(f.vm, 0xcf8, 4, 1 << 11);		/* not enabled */
	CHECK_EQ(fake_in(f.vm, 0xcfc, 4), 0xffffffff);
	CHECK_EQ(rd(&f, 0, 4), 0x56781234);
	CHECK_EQ(rd(&f, 2, 2), 0x5678);
	CHECK_EQ(rd(&f, 3, 1), 0x56);
	teardown(&f);
}

TEST(readonly_bits)
{
	struct fixture f;
	uint8_t before[256];

	setup(&f);
	for (unsigned int i = 0; i < 256; i++)
		before[i] = rd(&f, i, 1);
	for (unsigned int i = 0; i < 256; i += 4)
		wr(&f, i, 4, 0xffffffff);
	CHECK_EQ(rd(&f, 0, 4), 0x56781234);
	CHECK_EQ(rd(&f, PCI_CLASS_REVISION, 4), 0xff000001);
	CHECK_EQ(rd(&f, PCI_STATUS, 2), PCI_STATUS_CAP_LIST);
	CHECK_EQ(rd(&f, PCI_ROM_ADDRESS, 4), 0);
	CHECK_EQ(rd(&f, PCI_INTERRUPT_LINE, 1), 0xff);
	pci_dev_reset(&f.dev);
	for (unsigned int i = 0; i < 256; i++)
		CHECK_EQ(rd(&f, i, 1), before[i]);
	teardown(&f);
}

TEST(bar_sizing)
{
	struct fixture f;
	uint32_t home;

	setup(&f);
	home = rd(&f, BAR_REG(MEM32), 4);
	CHECK(home >= VM_PCI_MMIO_BASE && home < VM_PCI_MMIO_END);
	wr(&f, BAR_REG(MEM32), 4, 0xffffffff);
	CHECK_EQ(rd(&f, BAR_REG(MEM32), 4), 0xffffc000);
	wr(&f, BAR_REG(MEM32), 4, home);
	CHECK_EQ(rd(&f, BAR_REG(MEM32), 4), home);
	wr(&f, BAR_REG(MEM64), 4, 0xffffffff);
	wr(&f, BAR_REG(MEM64 + 1), 4, 0xffffffff);
	CHECK_EQ(rd(&f, BAR_REG(MEM64), 4), 0xfff0000c);
	CHECK_EQ(rd(&f, BAR_REG(MEM64 + 1), 4), 0xffffffff);
	wr(&f, BAR_REG(IO), 4, 0xffffffff);
	CHECK_EQ(rd(&f, BAR_REG(IO), 4), 0xffffffe1);
	wr(&f, BAR_REG(5), 4, 0xffffffff);
	CHECK_EQ(rd(&f, BAR_REG(5), 4), 0);
	CHECK_EQ(f.mapped, 0);
	teardown(&f);
}

TEST(bar_moves)
{
	struct fixture f;
	uint64_t home, io;

	setup(&f);
	home = rd(&f, BAR_REG(MEM32), 4);
	io = rd(&f, BAR_REG(IO), 4) & ~3u;
	CHECK_EQ(fake_read(f.vm, home, 4), 0xffffffff);
	wr(&f, PCI_COMMAND, 2, PCI_COMMAND_MEMORY);
	CHECK_EQ(fake_read(f.vm, home + 8, 4), 0x1008);
	CHECK_EQ(fake_in(f.vm, io, 4), 0xffffffff);
	wr(&f, PCI_COMMAND, 2, PCI_COMMAND_MEMORY | PCI_COMMAND_IO);
	CHECK_EQ(fake_in(f.vm, io + 4, 4), 0x1004);
	wr(&f, BAR_REG(MEM32), 4, 0xd0000000);
	CHECK_EQ(fake_read(f.vm, home + 8, 4), 0xffffffff);
	CHECK_EQ(fake_read(f.vm, 0xd0000008, 4), 0x1008);
	/* above 4 GiB, one half at a time */
	wr(&f, BAR_REG(MEM64), 4, 0xd1000000);
	wr(&f, BAR_REG(MEM64 + 1), 4, 0x20);
	CHECK_EQ(fake_read(f.vm, 0x20d1000010, 4), 0x1010);
	/* sizing while it decodes, then back */
	wr(&f, BAR_REG(MEM32), 4, 0xffffffff);
	wr(&f, BAR_REG(MEM32), 4, 0xd0000000);
	CHECK_EQ(fake_read(f.vm, 0xd0000008, 4), 0x1008);
	wr(&f, PCI_COMMAND, 2, 0);
	CHECK_EQ(fake_read(f.vm, 0xd0000008, 4), 0xffffffff);
	CHECK_EQ(f.mapped, f.unmapped);
	teardown(&f);
}

/* Many functions: addresses apart, all slots usable, room comes back. */
TEST(plug_and_unplug)
{
	struct pci_dev *devs = calloc(PCI_SLOTS, sizeof(*devs));
	struct fixture f;
	uint32_t first;

	setup(&f);
	first = rd(&f, BAR_REG(MEM64), 4);
	CHECK_EQ(pci_dev_plug(f.bus, &devs[0], 1), -EBUSY);
	for (unsigned int s = 2; s < PCI_SLOTS; s++) {
		build(&f, &devs[s]);
		CHECK_EQ(pci_dev_plug(f.bus, &devs[s], 0), 0);
		CHECK_EQ(devs[s].slot, s);
		fake_cfg_write(f.vm, s, PCI_COMMAND, 2, PCI_COMMAND_MEMORY | PCI_COMMAND_IO);
		for (unsigned int n = 0; n < PCI_BARS; n++)
			CHECK(devs[s].bar[n].kind == PCI_BAR_NONE || devs[s].bar[n].mapped);
	}
	build(&f, &devs[0]);
	CHECK_EQ(pci_dev_plug(f.bus, &devs[0], 0), -ENOSPC);
	pci_dev_unplug(&f.dev);
	CHECK_EQ(rd(&f, 0, 4), 0xffffffff);
	CHECK_EQ(pci_dev_plug(f.bus, &devs[0], 0), 0);
	CHECK_EQ(rd(&f, BAR_REG(MEM64), 4), first);
	for (unsigned int s = 0; s < PCI_SLOTS; s++)
		if (s != 1)
			pci_dev_exit(&devs[s]);
	teardown(&f);
	free(devs);
}

static unsigned int find_cap(struct fixture *f, uint8_t id)
{
	unsigned int at = rd(f, PCI_CAPABILITY_LIST, 1);

	for (int i = 0; at && i < 48; i++) {
		if (rd(f, at, 1) == id)
			return at;
		at = rd(f, at + 1, 1);
	}
	return 0;
}

static uint64_t msix_on(struct fixture *f, uint64_t *pba)
{
	unsigned int cap = find_cap(f, PCI_CAP_ID_MSIX);
	uint64_t table = rd(f, BAR_REG(MSIX), 4);

	CHECK_EQ(rd(f, cap + PCI_MSIX_FLAGS, 2), 69);
	CHECK_EQ(rd(f, cap + PCI_MSIX_TABLE, 4), MSIX);
	CHECK_EQ(rd(f, cap + PCI_MSIX_PBA, 4) & 7, MSIX);
	*pba = table + (rd(f, cap + PCI_MSIX_PBA, 4) & ~7u);
	wr(f, PCI_COMMAND, 2, PCI_COMMAND_MEMORY | PCI_COMMAND_MASTER);
	wr(f, cap + PCI_MSIX_FLAGS, 2, PCI_MSIX_FLAGS_ENABLE);
	return table;
}

static void program(struct fixture *f, uint64_t table, unsigned int n)
{
	fake_write(f->vm, table + 16 * n, 4, 0xfee00003 + 0x1000 * n);
	fake_write(f->vm, table + 16 * n + 4, 4, 0);
	fake_write(f->vm, table + 16 * n + 8, 4, 0x40 + n);
}

TEST(msix)
{
	struct fixture f;
	uint64_t table, pba;
	unsigned int cap;

	setup(&f);
	pci_msix_raise(&f.dev, 3);		/* off: nothing */
	table = msix_on(&f, &pba);
	cap = find_cap(&f, PCI_CAP_ID_MSIX);
	CHECK_EQ(fake_read(f.vm, table + 16 * 3 + 12, 4), 1);
	program(&f, table, 3);
	program(&f, table, 69);
	CHECK_EQ(fake_read(f.vm, table + 16 * 3, 8), 0xfee03000);
	CHECK_EQ(fake_read(f.vm, pba, 8), 0);

	pci_msix_raise(&f.dev, 3);		/* masked: pending */
	pci_msix_raise(&f.dev, 3);
	pci_msix_raise(&f.dev, 69);
	pci_msix_raise(&f.dev, 70);		/* no such vector */
	CHECK_EQ(f.vm->nr_msi, 0);
	CHECK_EQ(fake_read(f.vm, pba, 8), 1 << 3);
	CHECK_EQ(fake_read(f.vm, pba + 8, 8), 1 << 5);
	CHECK_EQ(fake_read(f.vm, pba + 4, 4), 0);
	fake_write(f.vm, pba, 8, ~0ull);	/* read-only */
	CHECK_EQ(fake_read(f.vm, pba, 8), 1 << 3);

	wr(&f, cap + PCI_MSIX_FLAGS, 2, PCI_MSIX_FLAGS_ENABLE | PCI_MSIX_FLAGS_MASKALL);
	fake_write(f.vm, table + 16 * 3 + 12, 4, 0);
	CHECK_EQ(f.vm->nr_msi, 0);		/* the function mask holds it */
	wr(&f, cap + PCI_MSIX_FLAGS, 2, PCI_MSIX_FLAGS_ENABLE);
	CHECK_EQ(f.vm->nr_msi, 1);
	CHECK_EQ(f.vm->msi_addr, 0xfee03000);
	CHECK_EQ(f.vm->msi_data, 0x43);
	CHECK_EQ(fake_read(f.vm, pba, 8), 0);
	pci_msix_raise(&f.dev, 3);
	CHECK_EQ(f.vm->nr_msi, 2);
	fake_write(f.vm, table + 16 * 69 + 12, 4, 0);
	CHECK_EQ(f.vm->nr_msi, 3);
	CHECK_EQ(f.vm->msi_data, 0x40 + 69);
	fake_write(f.vm, table + 16 * 70, 4, 1);	/* past the table */
	fake_write(f.vm, table + 2, 2, 1);		/* bad width */
	CHECK_EQ(fake_read(f.vm, table + 16 * 70, 4), 0);
	teardown(&f);
}

TEST(intx)
{
	struct fixture f;
	struct pci_dev other;
	uint32_t gsi = VM_PCI_INTX_GSI(1, 0);

	setup(&f);
	build(&f, &other);
	CHECK_EQ(pci_dev_plug(f.bus, &other, 9), 0);	/* shares the line */
	CHECK_EQ(VM_PCI_INTX_GSI(9, 0), gsi);
	pci_intx_set(&f.dev, true);
	pci_intx_set(&f.dev, true);
	CHECK_EQ(f.vm->line[gsi], 1);
	pci_intx_set(&other, true);
	pci_intx_set(&f.dev, false);
	CHECK_EQ(f.vm->line[gsi], 1);
	fake_cfg_write(f.vm, 9, PCI_COMMAND, 2, PCI_COMMAND_INTX_DISABLE);
	CHECK_EQ(f.vm->line[gsi], 0);
	fake_cfg_write(f.vm, 9, PCI_COMMAND, 2, 0);
	CHECK_EQ(f.vm->line[gsi], 1);
	pci_dev_exit(&other);
	CHECK_EQ(f.vm->line[gsi], 0);
	teardown(&f);
}

static void save(struct fixture *f, struct state_writer *w)
{
	state_writer_init(w);
	state_begin(w, "dev", 1);
	pci_dev_save(&f->dev, w);
	state_end(w);
	state_writer_finish(w);
}

TEST(save_load)
{
	struct fixture a, b;
	struct state_writer w, w2;
	struct state_blob blob;
	struct state_reader r;
	uint32_t version;
	uint64_t table, pba;
	const char *why;

	setup(&a);
	table = msix_on(&a, &pba);
	program(&a, table, 5);
	pci_msix_raise(&a.dev, 5);
	wr(&a, BAR_REG(MEM32), 4, 0xd0000000);
	pci_intx_set(&a.dev, true);
	save(&a, &w);

	setup(&b);
	REQUIRE(!state_blob_parse(&blob, w.buf, w.len, &why));
	REQUIRE(!state_blob_find(&blob, "dev", &r, &version));
	CHECK_EQ(pci_dev_load(&b.dev, &r), 0);
	CHECK_EQ(r.err, 0);
	CHECK_EQ(state_left(&r), 0);
	CHECK_EQ(fake_read(b.vm, 0xd0000008, 4), 0x1008);
	CHECK_EQ(fake_read(b.vm, pba, 8), 1 << 5);
	CHECK_EQ(b.vm->line[VM_PCI_INTX_GSI(1, 0)], 1);
	save(&b, &w2);
	CHECK(w.len == w2.len && !memcmp(w.buf, w2.buf, w.len));
	fake_write(b.vm, table + 16 * 5 + 12, 4, 0);
	CHECK_EQ(b.vm->nr_msi, 1);
	CHECK_EQ(b.vm->msi_data, 0x45);

	/* Every truncation is an error, none a crash. */
	for (size_t cut = 0; cut < 1400; cut++) {
		struct state_reader s = { .p = blob.sections[0].payload };

		s.end = s.p + (cut < blob.sections[0].len - 1 ? cut : blob.sections[0].len - 1);
		CHECK(pci_dev_load(&b.dev, &s) < 0 || s.err);
	}
	state_blob_free(&blob);
	state_writer_free(&w);
	state_writer_free(&w2);
	teardown(&a);
	teardown(&b);
}

int main(void)
{
	RUN(mechanism_1);
	RUN(readonly_bits);
	RUN(bar_sizing);
	RUN(bar_moves);
	RUN(plug_and_unplug);
	RUN(msix);
	RUN(intx);
	RUN(save_load);
	return tap_done();
}
