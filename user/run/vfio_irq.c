// SPDX-License-Identifier: GPL-2.0-only
/*
 * Interrupts of a device of the host: an event descriptor for each, which VFIO rings and
 * KVM listens to, so that none passes through this process.
 *
 * A vector that the guest has masked is one that KVM does not listen to. What the device
 * sends meanwhile stays in the descriptor, is what the pending bit says, and is delivered
 * when KVM listens again. A vector costs the host nothing before the guest unmasks it.
 *
 * INTx is a level: VFIO masks it when it has rung, and KVM tells VFIO to unmask it when
 * the guest has acknowledged it at the interrupt controller.
 */
#include <errno.h>
#include <poll.h>
#include <stdlib.h>
#include <string.h>
#include <sys/eventfd.h>
#include <unistd.h>

#include <linux/pci_regs.h>

#include "vfio_priv.h"

#define VECTOR_BYTES	16u
#define FIRST_VECTORS	32u	/* how many VFIO is to make room for at first */

static void complain(struct vfio_dev *dev, const char *what, int err)
{
	if (!dev->irqs.complained)
		vm_notice(dev->vm, "%s (%s): %s: %s", dev->id, dev->address, what,
			  err > 0 ? "the host has not that many" : strerror(-err));
	dev->irqs.complained = true;
}

/* ---- one vector; lock held --------------------------------------------------------- */

static int make_vector(struct vfio_dev *dev, struct vfio_vector *v)
{
	if (v->fd < 0)
		v->fd = eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK);
	if (v->fd < 0)
		return -errno;
	if (v->gsi < 0)
		v->gsi = vm_msi_route_new(dev->vm);
	return v->gsi < 0 ? v->gsi : 0;
}

static void unlink_vector(struct vfio_dev *dev, struct vfio_vector *v)
{
	if (v->linked)
		vm_irqfd_remove(dev->vm, (uint32_t)v->gsi, v->fd);
	v->linked = false;
}

static void free_vector(struct vfio_dev *dev, struct vfio_vector *v)
{
	unlink_vector(dev, v);
	if (v->gsi >= 0)
		vm_msi_route_free(dev->vm, (uint32_t)v->gsi);
	if (v->fd >= 0)
		close(v->fd);
	v->fd = v->gsi = -1;
}

/* KVM listens; what is in the descriptor already is delivered at once */
static int link_vector(struct vfio_dev *dev, struct vfio_vector *v, uint64_t addr, uint32_t data)
{
	int ret = vm_msi_route_set(dev->vm, (uint32_t)v->gsi, addr, data);

	if (!ret && !v->linked) {
		ret = vm_irqfd(dev->vm, (uint32_t)v->gsi, v->fd, -1);
		v->linked = !ret;
	}
	return ret;
}

/* ---- MSI-X --------------------------------------------------------------------------- */

/* VFIO has room for vectors from 0 to @nr, those that are used ring. 0, how many it has, -errno */
static int msix_room(struct vfio_dev *dev, unsigned int nr)
{
	struct vfio_irqs *q = &dev->irqs;
	int *fds = calloc(nr, sizeof(*fds)), ret;

	if (!fds)
		return -ENOMEM;
	for (unsigned int n = 0; n < nr; n++)
		fds[n] = q->vectors[n].fd;
	vfio_irq_disable(dev, VFIO_PCI_MSIX_IRQ_INDEX);
	ret = vfio_irq_set(dev, VFIO_PCI_MSIX_IRQ_INDEX, VFIO_IRQ_SET_ACTION_TRIGGER, 0, fds, nr);
	q->live = ret ? 0 : nr;
	/* One that came while there was no room is lost: say all of them again, which does no harm. */
	for (unsigned int n = 0; n < nr && !ret; n++)
		if (fds[n] >= 0)
			eventfd_write(fds[n], 1);
	free(fds);
	return ret;
}

/* Asks for less if the host has less, but for @least. */
static int msix_grow(struct vfio_dev *dev, unsigned int least, unsigned int nr)
{
	int ret = msix_room(dev, nr);

	if (ret >= (int)least)
		ret = msix_room(dev, (unsigned int)ret);
	return ret;
}

static unsigned int least_of(unsigned int a, unsigned int b)
{
	return a < b ? a : b;
}

static int ring_vector(struct vfio_dev *dev, unsigned int n)
{
	struct vfio_irqs *q = &dev->irqs;
	int ret;

	if (n < q->live || q->msix_grows)
		return vfio_irq_set(dev, VFIO_PCI_MSIX_IRQ_INDEX, VFIO_IRQ_SET_ACTION_TRIGGER, n,
				    &q->vectors[n].fd, 1);
	ret = msix_grow(dev, n + 1, least_of(q->nr, 2 * (n + 1)));
	return ret;
}

/* KVM listens to the vector, or not, as the guest has it. */
static void msix_sync(struct vfio_dev *dev, unsigned int n)
{
	struct vfio_irqs *q = &dev->irqs;
	struct vfio_vector *v = &q->vectors[n];
	bool fresh = v->fd < 0;
	int ret;

	if (q->mode != VFIO_IRQ_MSIX || q->masked || v->entry[3] & PCI_MSIX_ENTRY_CTRL_MASKBIT) {
		unlink_vector(dev, v);
		return;
	}
	ret = make_vector(dev, v);
	if (!ret && fresh)
		ret = ring_vector(dev, n);
	if (!ret)
		ret = link_vector(dev, v, (uint64_t)v->entry[1] << 32 | v->entry[0], v->entry[2]);
	if (!ret)
		return;
	free_vector(dev, v);
	complain(dev, "an MSI-X vector cannot be had", ret);
}

/* The function has MSI-X on from the start, as the guest believes, if only without a vector. */
static void msix_start(struct vfio_dev *dev)
{
	struct vfio_irqs *q = &dev->irqs;
	int ret = msix_grow(dev, 1, least_of(q->nr, FIRST_VECTORS));

	if (ret)
		complain(dev, "MSI-X cannot be turned on", ret);
	for (unsigned int n = 0; n < q->nr; n++)
		msix_sync(dev, n);
}

static void vectors_free(struct vfio_dev *dev)
{
	for (unsigned int n = 0; n < dev->irqs.nr; n++)
		free_vector(dev, &dev->irqs.vectors[n]);
	dev->irqs.live = 0;
}

/* ---- MSI ----------------------------------------------------------------------------- */

static unsigned int msi_nr(struct vfio_dev *dev)
{
	unsigned int flags = pci_cfg_get(&dev->pci, dev->cfg.msi + PCI_MSI_FLAGS, 2);
	unsigned int nr = 1u << ((flags & PCI_MSI_FLAGS_QSIZE) >> 4);

	return least_of(nr, dev->cfg.msi_max);
}

/* The low bits of the message are the vector's number. */
static int msi_link(struct vfio_dev *dev)
{
	unsigned int at = dev->cfg.msi, nr = msi_nr(dev);
	uint64_t addr = pci_cfg_get(&dev->pci, at + PCI_MSI_ADDRESS_LO, 4);
	uint32_t data = pci_cfg_get(&dev->pci, at + (dev->cfg.msi_64 ? PCI_MSI_DATA_64 : PCI_MSI_DATA_32), 2);
	int ret = 0;

	if (dev->cfg.msi_64)
		addr |= (uint64_t)pci_cfg_get(&dev->pci, at + PCI_MSI_ADDRESS_HI, 4) << 32;
	for (unsigned int n = 0; n < nr && !ret; n++) {
		ret = make_vector(dev, &dev->irqs.vectors[n]);
		if (!ret)
			ret = link_vector(dev, &dev->irqs.vectors[n], addr, (data & ~(nr - 1)) | n);
	}
	return ret;
}

static int msi_start(struct vfio_dev *dev)
{
	int fds[32], ret = msi_link(dev);
	unsigned int nr = msi_nr(dev);

	if (ret)
		return ret;
	for (unsigned int n = 0; n < nr; n++)
		fds[n] = dev->irqs.vectors[n].fd;
	return vfio_irq_set(dev, VFIO_PCI_MSI_IRQ_INDEX, VFIO_IRQ_SET_ACTION_TRIGGER, 0, fds, nr);
}

/* ---- INTx ---------------------------------------------------------------------------- */

static uint32_t intx_gsi(struct vfio_dev *dev)
{
	return VM_PCI_INTX_GSI(dev->pci.slot, 0);
}

static void intx_stop(struct vfio_dev *dev)
{
	struct vfio_irqs *q = &dev->irqs;

	vfio_irq_disable(dev, VFIO_PCI_INTX_IRQ_INDEX);
	if (q->intx_fd >= 0) {
		vm_irqfd_remove(dev->vm, intx_gsi(dev), q->intx_fd);
		close(q->intx_fd);
	}
	if (q->resample_fd >= 0)
		close(q->resample_fd);
	q->intx_fd = q->resample_fd = -1;
}

static int intx_start(struct vfio_dev *dev)
{
	struct vfio_irqs *q = &dev->irqs;
	int ret;

	q->intx_fd = eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK);
	q->resample_fd = eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK);
	if (q->intx_fd < 0 || q->resample_fd < 0)
		return -errno;
	ret = vm_irqfd(dev->vm, intx_gsi(dev), q->intx_fd, q->resample_fd);
	if (!ret)
		ret = vfio_irq_set(dev, VFIO_PCI_INTX_IRQ_INDEX, VFIO_IRQ_SET_ACTION_TRIGGER, 0,
				   &q->intx_fd, 1);
	if (!ret)
		ret = vfio_irq_set(dev, VFIO_PCI_INTX_IRQ_INDEX, VFIO_IRQ_SET_ACTION_UNMASK, 0,
				   &q->resample_fd, 1);
	return ret;
}

/* ---- which of them --------------------------------------------------------------------- */

static enum vfio_irq_mode mode_of(struct vfio_dev *dev)
{
	const struct vfio_cfg *c = &dev->cfg;

	if (c->msix && pci_cfg_get(&dev->pci, c->msix + PCI_MSIX_FLAGS, 2) & PCI_MSIX_FLAGS_ENABLE)
		return VFIO_IRQ_MSIX;
	if (c->msi && pci_cfg_get(&dev->pci, c->msi + PCI_MSI_FLAGS, 2) & PCI_MSI_FLAGS_ENABLE)
		return VFIO_IRQ_MSI;
	return dev->irqs.intx_there ? VFIO_IRQ_INTX : VFIO_IRQ_OFF;
}

static void stop(struct vfio_dev *dev)
{
	switch (dev->irqs.mode) {
	case VFIO_IRQ_INTX:
		intx_stop(dev);
		break;
	case VFIO_IRQ_MSI:
		vfio_irq_disable(dev, VFIO_PCI_MSI_IRQ_INDEX);
		vectors_free(dev);
		break;
	case VFIO_IRQ_MSIX:
		vfio_irq_disable(dev, VFIO_PCI_MSIX_IRQ_INDEX);
		vectors_free(dev);
		break;
	default:
		break;
	}
	dev->irqs.mode = VFIO_IRQ_OFF;
}

static void start(struct vfio_dev *dev, enum vfio_irq_mode mode)
{
	int ret = 0;

	dev->irqs.mode = mode;
	if (mode == VFIO_IRQ_MSIX)
		msix_start(dev);
	else if (mode == VFIO_IRQ_MSI)
		ret = msi_start(dev);
	else if (mode == VFIO_IRQ_INTX)
		ret = intx_start(dev);
	if (!ret)
		return;
	stop(dev);
	complain(dev, mode == VFIO_IRQ_MSI ? "MSI cannot be turned on" : "INTx cannot be turned on", ret);
}

void vfio_irqs_update(struct vfio_dev *dev, bool off)
{
	struct vfio_irqs *q = &dev->irqs;
	enum vfio_irq_mode mode = off ? VFIO_IRQ_OFF : mode_of(dev);
	bool masked;

	pthread_mutex_lock(&q->lock);
	masked = mode == VFIO_IRQ_MSIX &&
		 pci_cfg_get(&dev->pci, dev->cfg.msix + PCI_MSIX_FLAGS, 2) & PCI_MSIX_FLAGS_MASKALL;
	if (mode != q->mode) {
		stop(dev);
		q->masked = masked;
		if (mode != VFIO_IRQ_OFF)
			start(dev, mode);
	} else if (mode == VFIO_IRQ_MSIX && masked != q->masked) {
		q->masked = masked;
		for (unsigned int n = 0; n < q->nr; n++)
			msix_sync(dev, n);
	} else if (mode == VFIO_IRQ_MSI && msi_link(dev)) {
		complain(dev, "the MSI message cannot be changed", -EINVAL);
	}
	pthread_mutex_unlock(&q->lock);
}

/* ---- the MSI-X table ----------------------------------------------------------------- */

/* lock held; it waits for somebody to listen */
static bool pending(const struct vfio_irqs *q, unsigned int n)
{
	struct pollfd p = { .fd = q->vectors[n].fd, .events = POLLIN };

	return p.fd >= 0 && !q->vectors[n].linked && poll(&p, 1, 0) == 1;
}

static uint32_t pending_word(const struct vfio_irqs *q, unsigned int first)
{
	uint32_t word = 0;

	for (unsigned int i = 0; i < 32 && first + i < q->nr; i++)
		if (pending(q, first + i))
			word |= 1u << i;
	return word;
}

static bool within(uint64_t off, unsigned int len, uint64_t base, uint64_t bytes)
{
	return off >= base && off - base + len <= bytes;
}

static bool in_table(struct vfio_dev *dev, unsigned int bar, uint64_t off, unsigned int len)
{
	const struct vfio_cfg *c = &dev->cfg;

	return c->msix && c->table_bar == bar && within(off, len, c->table, c->msix_nr * VECTOR_BYTES);
}

static bool in_pba(struct vfio_dev *dev, unsigned int bar, uint64_t off, unsigned int len)
{
	const struct vfio_cfg *c = &dev->cfg;

	return c->msix && c->pba_bar == bar && within(off, len, c->pba, (c->msix_nr + 63) / 64 * 8);
}

static uint32_t table_word(struct vfio_dev *dev, uint64_t off, bool table)
{
	if (table)
		return dev->irqs.vectors[off / VECTOR_BYTES].entry[off % VECTOR_BYTES / 4];
	return pending_word(&dev->irqs, (unsigned int)off * 8);
}

bool vfio_table_read(struct vfio_dev *dev, unsigned int bar, uint64_t off, unsigned int len, uint64_t *val)
{
	bool table = in_table(dev, bar, off, len);

	if (!table && !in_pba(dev, bar, off, len))
		return false;
	*val = 0;
	if ((len != 4 && len != 8) || off % len)
		return true;
	off -= table ? dev->cfg.table : dev->cfg.pba;
	pthread_mutex_lock(&dev->irqs.lock);
	for (unsigned int i = 0; i < len; i += 4)
		*val |= (uint64_t)table_word(dev, off + i, table) << (8 * i);
	pthread_mutex_unlock(&dev->irqs.lock);
	return true;
}

/* lock held */
static void write_word(struct vfio_dev *dev, uint64_t off, uint32_t word)
{
	unsigned int n = (unsigned int)(off / VECTOR_BYTES), field = off % VECTOR_BYTES / 4;

	if (field == 0)
		word &= ~3u;
	else if (field == 3)
		word &= PCI_MSIX_ENTRY_CTRL_MASKBIT;
	dev->irqs.vectors[n].entry[field] = word;
	msix_sync(dev, n);
}

bool vfio_table_write(struct vfio_dev *dev, unsigned int bar, uint64_t off, unsigned int len, uint64_t val)
{
	if (!in_table(dev, bar, off, len))
		return in_pba(dev, bar, off, len);	/* which is read-only */
	if ((len != 4 && len != 8) || off % len)
		return true;
	off -= dev->cfg.table;
	pthread_mutex_lock(&dev->irqs.lock);
	for (unsigned int i = 0; i < len; i += 4)
		write_word(dev, off + i, (uint32_t)(val >> (8 * i)));
	pthread_mutex_unlock(&dev->irqs.lock);
	return true;
}

void vfio_table_reset(struct vfio_dev *dev)
{
	pthread_mutex_lock(&dev->irqs.lock);
	for (unsigned int n = 0; n < dev->irqs.nr; n++) {
		memset(dev->irqs.vectors[n].entry, 0, sizeof(dev->irqs.vectors[n].entry));
		dev->irqs.vectors[n].entry[3] = PCI_MSIX_ENTRY_CTRL_MASKBIT;
	}
	pthread_mutex_unlock(&dev->irqs.lock);
}

/* ---- beginning and end ------------------------------------------------------------------ */

int vfio_irqs_init(struct vfio_dev *dev)
{
	struct vfio_irqs *q = &dev->irqs;
	unsigned int nr = vfio_irq_nr(dev, VFIO_PCI_MSIX_IRQ_INDEX, &q->msix_grows);

	/* what VFIO does not offer the guest does not see */
	if (dev->cfg.msix && nr < dev->cfg.msix_nr)
		return vm_error(dev->vm, -EPROTO, "%s: VFIO has %u MSI-X vectors, the function %u",
				dev->address, nr, dev->cfg.msix_nr);
	q->intx_there = vfio_irq_nr(dev, VFIO_PCI_INTX_IRQ_INDEX, NULL);
	q->nr = dev->cfg.msix_nr > dev->cfg.msi_max ? dev->cfg.msix_nr : dev->cfg.msi_max;
	q->vectors = calloc(q->nr ? q->nr : 1, sizeof(*q->vectors));
	if (!q->vectors)
		return vm_error(dev->vm, -ENOMEM, "out of memory");
	for (unsigned int n = 0; n < q->nr; n++)
		q->vectors[n].fd = q->vectors[n].gsi = -1;
	pthread_mutex_init(&q->lock, NULL);
	vfio_table_reset(dev);
	return 0;
}

void vfio_irqs_exit(struct vfio_dev *dev)
{
	if (!dev->irqs.vectors)
		return;
	stop(dev);
	pthread_mutex_destroy(&dev->irqs.lock);
	free(dev->irqs.vectors);
	dev->irqs.vectors = NULL;
}
