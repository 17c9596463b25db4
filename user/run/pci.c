// SPDX-License-Identifier: LGPL-2.1-or-later
/*
 * Config space, BARs and INTx of one PCI bus.
 *
 * Register layout and BAR sizing: PCI Local Bus Specification 3.0, chapter 6.
 */
#include <errno.h>
#include <linux/pci_regs.h>
#include <stdlib.h>
#include <string.h>

#include "pci.h"

#define CFG_PORT	0xcf8	/* address latch, then the data window */
#define CFG_PORT_LEN	8
#define CFG_ENABLE	0x80000000u
#define INTX_GSI_FIRST	16u
#define INTX_GSIS	8u
#define BAR_LARGE	(UINT64_C(64) << 20)

struct pci_bus {
	struct vm *vm;
	struct vm_device entry;
	struct pci_dev bridge;

	pthread_mutex_t lock;
	uint32_t latch;
	struct pci_dev *slots[PCI_SLOTS];

	pthread_mutex_t irq_lock;
	unsigned int intx_users[INTX_GSIS];	/* functions asserting the line */
};

/* --- config bytes -------------------------------------------------------- */

uint32_t pci_cfg_get(const struct pci_dev *dev, unsigned int off, unsigned int len)
{
	uint32_t val = 0;

	for (unsigned int i = 0; i < len; i++)
		val |= (uint32_t)dev->cfg[off + i] << (8 * i);
	return val;
}

void pci_cfg_put(struct pci_dev *dev, unsigned int off, unsigned int len, uint32_t val)
{
	for (unsigned int i = 0; i < len; i++)
		dev->cfg[off + i] = val >> (8 * i);
}

static void mask_put(struct pci_dev *dev, unsigned int off, unsigned int len, uint32_t val)
{
	for (unsigned int i = 0; i < len; i++)
		dev->wmask[off + i] = val >> (8 * i);
}

static unsigned int bar_reg(unsigned int n)
{
	return PCI_BASE_ADDRESS_0 + 4 * n;
}

/* --- INTx ---------------------------------------------------------------- */

/* irq_lock held: account for the difference between two line states. */
static void intx_apply(struct pci_dev *dev, bool was, bool is)
{
	struct pci_bus *bus = dev->bus;
	uint32_t gsi = VM_PCI_INTX_GSI(dev->slot, 0);
	unsigned int *users = &bus->intx_users[gsi - INTX_GSI_FIRST];

	if (was == is)
		return;
	*users += is ? 1 : -1;
	if (*users == (is ? 1u : 0u))
		vm_irq_line(bus->vm, gsi, is);
}

void pci_intx_set(struct pci_dev *dev, bool level)
{
	if (!dev->has_intx || !dev->bus)
		return;
	pthread_mutex_lock(&dev->bus->irq_lock);
	intx_apply(dev, dev->intx_asserted && !dev->intx_disabled,
		   level && !dev->intx_disabled);
	dev->intx_asserted = level;
	pthread_mutex_unlock(&dev->bus->irq_lock);
}

static void intx_set_disabled(struct pci_dev *dev, bool disabled)
{
	if (!dev->has_intx)
		return;
	pthread_mutex_lock(&dev->bus->irq_lock);
	intx_apply(dev, dev->intx_asserted && !dev->intx_disabled,
		   dev->intx_asserted && !disabled);
	dev->intx_disabled = disabled;
	pthread_mutex_unlock(&dev->bus->irq_lock);
}

/* --- BARs ---------------------------------------------------------------- */

static bool bar_is_io(const struct pci_bar *bar)
{
	return bar->kind == PCI_BAR_IO;
}

/* The address in the register; false if it cannot decode there. */
static bool bar_wanted(const struct pci_dev *dev, unsigned int n, uint64_t *addr)
{
	const struct pci_bar *bar = &dev->bar[n];
	uint16_t cmd = pci_cfg_get(dev, PCI_COMMAND, 2);
	uint64_t limit = UINT64_C(1) << (bar_is_io(bar) ? 16 : 32);

	if (!(cmd & (bar_is_io(bar) ? PCI_COMMAND_IO : PCI_COMMAND_MEMORY)))
		return false;
	*addr = pci_cfg_get(dev, bar_reg(n), 4);
	*addr &= bar_is_io(bar) ? ~UINT64_C(3) : ~UINT64_C(15);
	if (bar->kind == PCI_BAR_MEM64) {
		*addr |= (uint64_t)pci_cfg_get(dev, bar_reg(n + 1), 4) << 32;
		/* Physical addresses end at 52 bits; sizing writes all ones. */
		limit = UINT64_C(1) << 52;
	}
	return *addr && *addr <= limit - bar->size;
}

static struct bus *bar_bus(struct pci_dev *dev, const struct pci_bar *bar)
{
	return vm_bus(dev->bus->vm, bar_is_io(bar) ? VM_PIO : VM_MMIO);
}

static void bar_unmap(struct pci_dev *dev, unsigned int n)
{
	struct pci_bar *bar = &dev->bar[n];

	if (!bar->mapped)
		return;
	if (dev->ops && dev->ops->bar_unmapped)
		dev->ops->bar_unmapped(dev, n);
	bus_unregister(bar_bus(dev, bar), bar->addr, bar->size);
	bar->mapped = false;
}

/* An address that is taken leaves the BAR undecoded, like a lost bus fight. */
static void bar_map(struct pci_dev *dev, unsigned int n, uint64_t addr)
{
	struct pci_bar *bar = &dev->bar[n];

	if (bus_register(bar_bus(dev, bar), addr, bar->size, bar->ops, bar->opaque))
		return;
	bar->addr = addr;
	bar->mapped = true;
	if (dev->ops && dev->ops->bar_mapped)
		dev->ops->bar_mapped(dev, n);
}

/* Make what decodes agree with the registers. */
static void bars_update(struct pci_dev *dev)
{
	for (unsigned int n = 0; n < PCI_BARS; n++) {
		struct pci_bar *bar = &dev->bar[n];
		uint64_t addr;
		bool want;

		if (bar->kind == PCI_BAR_NONE)
			continue;
		want = bar_wanted(dev, n, &addr);
		if (bar->mapped && want && bar->addr == addr)
			continue;
		bar_unmap(dev, n);
		if (want)
			bar_map(dev, n, addr);
	}
}

static void bar_set_home(struct pci_dev *dev, unsigned int n, uint64_t addr)
{
	struct pci_bar *bar = &dev->bar[n];
	uint32_t type = bar_is_io(bar) ? PCI_BASE_ADDRESS_SPACE_IO : 0;

	if (bar->kind == PCI_BAR_MEM64)
		type |= PCI_BASE_ADDRESS_MEM_TYPE_64;
	if (bar->prefetch)
		type |= PCI_BASE_ADDRESS_MEM_PREFETCH;
	bar->home = addr;
	pci_cfg_put(dev, bar_reg(n), 4, (uint32_t)addr | type);
	if (bar->kind == PCI_BAR_MEM64)
		pci_cfg_put(dev, bar_reg(n + 1), 4, addr >> 32);
}

/* Does [addr, addr + size) meet another BAR's home? Returns where that one ends. */
static uint64_t home_conflict(const struct pci_bus *bus, bool io, uint64_t addr,
			      uint64_t size, const struct pci_dev *self, unsigned int below)
{
	for (unsigned int s = 0; s < PCI_SLOTS; s++) {
		const struct pci_dev *dev = bus->slots[s];
		unsigned int end = dev == self ? below : PCI_BARS;

		for (unsigned int n = 0; dev && n < end; n++) {
			const struct pci_bar *bar = &dev->bar[n];

			if (bar->kind == PCI_BAR_NONE || bar_is_io(bar) != io)
				continue;
			if (addr < bar->home + bar->size && bar->home < addr + size)
				return bar->home + bar->size;
		}
	}
	return 0;
}

/* The first place for the BAR in [addr, end); 0: none. */
static uint64_t find_place(const struct pci_dev *dev, unsigned int n, uint64_t addr, uint64_t end)
{
	const struct pci_bar *bar = &dev->bar[n];
	bool io = bar_is_io(bar);
	/* A page each, so that a guest can map one without its neighbours. */
	uint64_t align = !io && bar->size < 4096 ? 4096 : bar->size;

	for (;;) {
		uint64_t past;

		addr = (addr + align - 1) & ~(align - 1);
		if (addr >= end || bar->size > end - addr)
			return 0;
		past = home_conflict(dev->bus, io, addr, bar->size, dev, n);
		if (!past)
			return addr;
		addr = past;
	}
}

/* What is scarce is left to those who need it. */
static uint64_t find_mem64(const struct pci_dev *dev, unsigned int n)
{
	uint64_t addr = 0;

	if (dev->bar[n].size < BAR_LARGE)
		addr = find_place(dev, n, VM_PCI_MMIO_BASE, VM_PCI_MMIO_END);
	return addr ? addr : find_place(dev, n, VM_PCI_MMIO64_BASE, VM_PCI_MMIO64_END);
}

static int bar_find_home(struct pci_dev *dev, unsigned int n)
{
	uint64_t addr;

	switch (dev->bar[n].kind) {
	case PCI_BAR_IO:
		addr = find_place(dev, n, VM_PCI_PIO_BASE, VM_PCI_PIO_END);
		break;
	case PCI_BAR_MEM64:
		addr = find_mem64(dev, n);
		break;
	default:
		addr = find_place(dev, n, VM_PCI_MMIO_BASE, VM_PCI_MMIO_END);
	}
	if (!addr)
		return -ENOSPC;
	bar_set_home(dev, n, addr);
	return 0;
}

void pci_dev_bar(struct pci_dev *dev, unsigned int n, enum pci_bar_kind kind,
		 uint64_t size, const struct bus_ops *ops, void *opaque)
{
	struct pci_bar *bar = &dev->bar[n];
	uint64_t mask = ~(size - 1);

	bar->kind = kind;
	bar->size = size;
	bar->ops = ops;
	bar->opaque = opaque;
	mask_put(dev, bar_reg(n), 4, (uint32_t)mask & (kind == PCI_BAR_IO ? ~3u : ~15u));
	if (kind == PCI_BAR_MEM64)
		mask_put(dev, bar_reg(n + 1), 4, mask >> 32);
}

/* --- building a function ------------------------------------------------- */

void pci_dev_init(struct pci_dev *dev, const struct pci_ids *ids,
		  const struct pci_dev_ops *ops, void *opaque)
{
	memset(dev, 0, sizeof(*dev));
	dev->ops = ops;
	dev->opaque = opaque;
	dev->cap_end = PCI_STD_HEADER_SIZEOF;
	pci_cfg_put(dev, PCI_VENDOR_ID, 2, ids->vendor);
	pci_cfg_put(dev, PCI_DEVICE_ID, 2, ids->device);
	pci_cfg_put(dev, PCI_CLASS_REVISION, 4, ids->class_rev);
	pci_cfg_put(dev, PCI_SUBSYSTEM_VENDOR_ID, 2, ids->sub_vendor);
	pci_cfg_put(dev, PCI_SUBSYSTEM_ID, 2, ids->sub_device);
	mask_put(dev, PCI_COMMAND, 2, PCI_COMMAND_IO | PCI_COMMAND_MEMORY |
		 PCI_COMMAND_MASTER | PCI_COMMAND_PARITY | PCI_COMMAND_SERR |
		 PCI_COMMAND_INTX_DISABLE);
	mask_put(dev, PCI_CACHE_LINE_SIZE, 1, 0xff);
	mask_put(dev, PCI_LATENCY_TIMER, 1, 0xff);
	mask_put(dev, PCI_INTERRUPT_LINE, 1, 0xff);
}

int pci_dev_cap(struct pci_dev *dev, uint8_t id, unsigned int len)
{
	unsigned int off = dev->cap_end;

	if (off + len > PCI_CFG_BYTES)
		return -ENOSPC;
	dev->cap_end = (off + len + 3) & ~3u;
	dev->cfg[off] = id;
	if (dev->cap_last)
		dev->cfg[dev->cap_last + PCI_CAP_LIST_NEXT] = off;
	else
		dev->cfg[PCI_CAPABILITY_LIST] = off;
	dev->cap_last = off;
	dev->cfg[PCI_STATUS] |= PCI_STATUS_CAP_LIST;
	return off;
}

void pci_dev_intx(struct pci_dev *dev)
{
	dev->has_intx = true;
	dev->cfg[PCI_INTERRUPT_PIN] = 1;
}

/* bus->lock held */
static int plug_locked(struct pci_bus *bus, struct pci_dev *dev, unsigned int slot)
{
	int ret = 0;

	while (!slot && ret < PCI_SLOTS - 1)
		if (!bus->slots[++ret])
			slot = ret;
	if (!slot)
		return -ENOSPC;
	if (slot >= PCI_SLOTS)
		return -EINVAL;
	if (bus->slots[slot])
		return -EBUSY;
	dev->bus = bus;
	dev->slot = slot;
	bus->slots[slot] = dev;
	for (unsigned int n = 0; n < PCI_BARS; n++) {
		if (dev->bar[n].kind == PCI_BAR_NONE)
			continue;
		ret = bar_find_home(dev, n);
		if (ret < 0) {
			bus->slots[slot] = NULL;
			dev->bus = NULL;
			return ret;
		}
	}
	if (dev->has_intx)
		dev->cfg[PCI_INTERRUPT_LINE] = VM_PCI_INTX_GSI(slot, 0);
	memcpy(dev->home_cfg, dev->cfg, sizeof(dev->cfg));
	return 0;
}

int pci_dev_plug(struct pci_bus *bus, struct pci_dev *dev, unsigned int slot)
{
	int ret;

	pthread_mutex_lock(&bus->lock);
	ret = plug_locked(bus, dev, slot);
	pthread_mutex_unlock(&bus->lock);
	return ret;
}

void pci_dev_unplug(struct pci_dev *dev)
{
	struct pci_bus *bus = dev->bus;

	if (!bus)
		return;
	pci_intx_set(dev, false);
	pthread_mutex_lock(&bus->lock);
	for (unsigned int n = 0; n < PCI_BARS; n++)
		bar_unmap(dev, n);
	bus->slots[dev->slot] = NULL;
	pthread_mutex_unlock(&bus->lock);
	dev->bus = NULL;
}

void pci_dev_exit(struct pci_dev *dev)
{
	pci_dev_unplug(dev);
	pci_msix_free(dev);
}

/* --- the guest's accesses ------------------------------------------------ */

static uint32_t cfg_read(struct pci_dev *dev, unsigned int off, unsigned int len)
{
	if (dev->ops && dev->ops->cfg_read)
		dev->ops->cfg_read(dev, off, len);
	return pci_cfg_get(dev, off, len);
}

/* After the bytes changed, by a write, a reset or a load. */
void pci_cfg_changed(struct pci_dev *dev)
{
	bars_update(dev);
	intx_set_disabled(dev, pci_cfg_get(dev, PCI_COMMAND, 2) & PCI_COMMAND_INTX_DISABLE);
	if (dev->msix)
		pci_msix_cfg_written(dev);
}

static void cfg_write(struct pci_dev *dev, unsigned int off, unsigned int len, uint32_t val)
{
	for (unsigned int i = 0; i < len; i++) {
		uint8_t mask = dev->wmask[off + i];

		dev->cfg[off + i] = (dev->cfg[off + i] & ~mask) |
				    ((val >> (8 * i)) & mask);
	}
	pci_cfg_changed(dev);
	if (dev->ops && dev->ops->cfg_written)
		dev->ops->cfg_written(dev, off, len, val);
}

uint16_t pci_dev_command(struct pci_dev *dev)
{
	uint16_t command;

	pthread_mutex_lock(&dev->bus->lock);
	command = (uint16_t)pci_cfg_get(dev, PCI_COMMAND, 2);
	pthread_mutex_unlock(&dev->bus->lock);
	return command;
}

/* The function the latch names; *off is the register. NULL: nobody answers. */
static struct pci_dev *latched(struct pci_bus *bus, unsigned int port, unsigned int len,
			       unsigned int *off)
{
	unsigned int busno = bus->latch >> 16 & 0xff;
	unsigned int devfn = bus->latch >> 8 & 0xff;

	*off = (bus->latch & 0xfc) + port;
	if (!(bus->latch & CFG_ENABLE) || busno || devfn & 7 || port + len > 4)
		return NULL;
	return bus->slots[devfn >> 3];
}

static uint64_t port_read(void *opaque, uint64_t off, unsigned int len)
{
	struct pci_bus *bus = opaque;
	uint64_t val = len == 8 ? UINT64_MAX : (UINT64_C(1) << (8 * len)) - 1;
	struct pci_dev *dev;
	unsigned int reg;

	pthread_mutex_lock(&bus->lock);
	if (off == 0 && len == 4) {
		val = bus->latch;
	} else if (off >= 4) {
		dev = latched(bus, off - 4, len, &reg);
		if (dev)
			val = cfg_read(dev, reg, len);
	}
	pthread_mutex_unlock(&bus->lock);
	return val;
}

static void port_write(void *opaque, uint64_t off, unsigned int len, uint64_t val)
{
	struct pci_bus *bus = opaque;
	struct pci_dev *dev;
	unsigned int reg;

	pthread_mutex_lock(&bus->lock);
	if (off == 0 && len == 4) {
		bus->latch = val & ~3u;
	} else if (off >= 4) {
		dev = latched(bus, off - 4, len, &reg);
		if (dev)
			cfg_write(dev, reg, len, val);
	}
	pthread_mutex_unlock(&bus->lock);
}

static const struct bus_ops port_ops = {
	.read = port_read,
	.write = port_write,
};

/* --- reset and state ----------------------------------------------------- */

void pci_dev_reset(struct pci_dev *dev)
{
	pci_intx_set(dev, false);
	pthread_mutex_lock(&dev->bus->lock);
	memcpy(dev->cfg, dev->home_cfg, sizeof(dev->cfg));
	if (dev->msix)
		pci_msix_reset(dev);
	pci_cfg_changed(dev);
	pthread_mutex_unlock(&dev->bus->lock);
}

void pci_dev_save(struct pci_dev *dev, struct state_writer *w)
{
	pthread_mutex_lock(&dev->bus->lock);
	state_put_u8(w, dev->slot);
	state_put_bytes(w, dev->cfg, sizeof(dev->cfg));
	state_put_u8(w, dev->intx_asserted);
	if (dev->msix)
		pci_msix_save(dev, w);
	pthread_mutex_unlock(&dev->bus->lock);
}

/* Only what a guest could have written is taken over; the rest must agree. */
int pci_dev_load(struct pci_dev *dev, struct state_reader *r)
{
	uint8_t slot, cfg[PCI_CFG_BYTES];
	bool intx;
	int ret = 0;

	slot = state_get_u8(r);
	state_get_bytes(r, cfg, sizeof(cfg));
	intx = state_get_u8(r);
	if (r->err)
		return r->err;
	if (slot != dev->slot || memcmp(cfg, dev->home_cfg, 4) ||
	    memcmp(cfg + PCI_SUBSYSTEM_VENDOR_ID,
		   dev->home_cfg + PCI_SUBSYSTEM_VENDOR_ID, 4))
		return -EINVAL;
	pthread_mutex_lock(&dev->bus->lock);
	for (unsigned int i = 0; i < PCI_CFG_BYTES; i++)
		dev->cfg[i] = (dev->home_cfg[i] & ~dev->wmask[i]) |
			      (cfg[i] & dev->wmask[i]);
	if (dev->msix)
		ret = pci_msix_load(dev, r);
	pci_cfg_changed(dev);
	pthread_mutex_unlock(&dev->bus->lock);
	pci_intx_set(dev, intx);
	return ret;
}

static void bus_reset(void *opaque)
{
	struct pci_bus *bus = opaque;

	bus->latch = 0;
	pci_dev_reset(&bus->bridge);
}

static void bus_save(void *opaque, struct state_writer *w)
{
	struct pci_bus *bus = opaque;

	state_put_u32(w, bus->latch);
	pci_dev_save(&bus->bridge, w);
}

static int bus_load(void *opaque, struct state_reader *r, uint32_t version)
{
	struct pci_bus *bus = opaque;

	if (version != bus->entry.version)
		return -EOPNOTSUPP;
	bus->latch = state_get_u32(r) & ~3u;
	return pci_dev_load(&bus->bridge, r);
}

static void bus_free(struct pci_bus *bus)
{
	bus_unregister(vm_bus(bus->vm, VM_PIO), CFG_PORT, CFG_PORT_LEN);
	pci_dev_exit(&bus->bridge);
	pthread_mutex_destroy(&bus->irq_lock);
	pthread_mutex_destroy(&bus->lock);
	free(bus);
}

static void bus_destroy(void *opaque)
{
	bus_free(opaque);
}

static const struct vm_device_ops bus_dev_ops = {
	.reset = bus_reset,
	.save = bus_save,
	.load = bus_load,
	.destroy = bus_destroy,
};

/* --- the bus ------------------------------------------------------------- */

struct vm *pci_bus_vm(const struct pci_bus *bus)
{
	return bus->vm;
}

int pci_bus_new(struct vm *vm, struct pci_bus **out)
{
	/* An id without quirks; what matters is class 0600. */
	static const struct pci_ids bridge_ids = {
		.vendor = 0x8086, .device = 0x0d57, .class_rev = 0x060000 << 8,
	};
	struct pci_bus *bus = calloc(1, sizeof(*bus));
	int ret;

	*out = NULL;
	if (!bus)
		return -ENOMEM;
	bus->vm = vm;
	pthread_mutex_init(&bus->lock, NULL);
	pthread_mutex_init(&bus->irq_lock, NULL);
	pci_dev_init(&bus->bridge, &bridge_ids, NULL, NULL);
	bus->bridge.bus = bus;
	bus->slots[0] = &bus->bridge;
	memcpy(bus->bridge.home_cfg, bus->bridge.cfg, sizeof(bus->bridge.cfg));
	ret = bus_register(vm_bus(vm, VM_PIO), CFG_PORT, CFG_PORT_LEN, &port_ops, bus);
	if (ret)
		goto fail;
	bus->entry = (struct vm_device){
		.name = "pci", .version = 1, .ops = &bus_dev_ops, .opaque = bus,
	};
	ret = vm_device_add(vm, &bus->entry);
	if (ret)
		goto fail;
	*out = bus;
	return 0;
fail:
	bus_free(bus);
	return ret;
}
