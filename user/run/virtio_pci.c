// SPDX-License-Identifier: LGPL-2.1-or-later
/*
 * The PCI transport.  Section numbers are of virtio 1.2.
 *
 * BAR 0 holds one page each for the common configuration, the ISR, the device
 * configuration and the notification registers; BAR 1 is MSI-X.
 */
#include <errno.h>
#include <linux/pci_regs.h>
#include <linux/virtio_config.h>
#include <linux/virtio_pci.h>
#include <linux/virtio_ring.h>
#include <poll.h>
#include <signal.h>
#include <stdio.h>
#include <string.h>
#include <sys/eventfd.h>
#include <unistd.h>
#include <vmplat_thread.h>

#include "virtio_pci.h"

#define VENDOR_VIRTIO	0x1af4
#define ID_MODERN	0x1040	/* + device type (4.1.2) */

#define REGION_BAR	0u
#define MSIX_BAR	1u
#define REGION_BYTES	0x1000u
#define REGION_COMMON	0x0000u
#define REGION_ISR	0x1000u
#define REGION_DEVICE	0x2000u
#define REGION_NOTIFY	0x3000u
#define REGIONS_BYTES	0x4000u
#define NOTIFY_STRIDE	4u

#define ISR_QUEUE	1u
#define ISR_CONFIG	2u

#define TRANSPORT_FEATURES (UINT64_C(1) << VIRTIO_F_VERSION_1 | \
			    UINT64_C(1) << VIRTIO_RING_F_EVENT_IDX | \
			    UINT64_C(1) << VIRTIO_RING_F_INDIRECT_DESC)

bool virtio_has_feature(const struct virtio_dev *dev, unsigned int bit)
{
	return dev->driver_features >> bit & 1;
}

bool virtio_driver_ok(const struct virtio_dev *dev)
{
	return atomic_load(&dev->status) & VIRTIO_CONFIG_S_DRIVER_OK;
}

/* --- iovecs -------------------------------------------------------------- */

static uint64_t iov_copy(const struct iovec *iov, unsigned int nr, uint64_t off,
			 char *buf, uint64_t len, bool write)
{
	uint64_t done = 0;

	for (unsigned int i = 0; i < nr && done < len; i++) {
		uint64_t n = iov[i].iov_len;
		char *p = iov[i].iov_base;

		if (off >= n) {
			off -= n;
			continue;
		}
		p += off;
		n -= off;
		off = 0;
		if (n > len - done)
			n = len - done;
		memcpy(write ? p : buf + done, write ? buf + done : p, n);
		done += n;
	}
	return done;
}

uint64_t virtio_iov_read(const struct iovec *iov, unsigned int nr, uint64_t off,
			 void *buf, uint64_t len)
{
	return iov_copy(iov, nr, off, buf, len, false);
}

uint64_t virtio_iov_write(const struct iovec *iov, unsigned int nr, uint64_t off,
			  const void *buf, uint64_t len)
{
	return iov_copy(iov, nr, off, (char *)(uintptr_t)buf, len, true);
}

unsigned int virtio_iov_trim_front(struct iovec **iov, unsigned int nr, uint64_t bytes)
{
	while (nr && bytes >= (*iov)->iov_len) {
		bytes -= (*iov)->iov_len;
		(*iov)++;
		nr--;
	}
	if (nr) {
		(*iov)->iov_base = (char *)(*iov)->iov_base + bytes;
		(*iov)->iov_len -= bytes;
	}
	return nr;
}

unsigned int virtio_iov_trim_back(struct iovec *iov, unsigned int nr, uint64_t bytes)
{
	while (nr && bytes >= iov[nr - 1].iov_len)
		bytes -= iov[--nr].iov_len;
	if (nr)
		iov[nr - 1].iov_len -= bytes;
	return nr;
}

/* --- interrupts ---------------------------------------------------------- */

static void interrupt(struct virtio_dev *dev, uint16_t vector, uint8_t cause)
{
	if (pci_msix_enabled(&dev->pci)) {
		if (vector != VIRTIO_MSI_NO_VECTOR)
			pci_msix_raise(&dev->pci, vector);
		return;
	}
	pthread_mutex_lock(&dev->isr_lock);
	dev->isr |= cause;
	pci_intx_set(&dev->pci, true);
	pthread_mutex_unlock(&dev->isr_lock);
}

/* Reading acknowledges (4.1.4.5). */
static uint8_t isr_read(struct virtio_dev *dev)
{
	uint8_t isr;

	pthread_mutex_lock(&dev->isr_lock);
	isr = dev->isr;
	dev->isr = 0;
	pci_intx_set(&dev->pci, false);
	pthread_mutex_unlock(&dev->isr_lock);
	return isr;
}

static void isr_clear(struct virtio_dev *dev)
{
	isr_read(dev);
}

/* --- the lock and the thread --------------------------------------------- */

static void dev_lock(struct virtio_dev *dev)
{
	atomic_fetch_add(&dev->want, 1);
	pthread_mutex_lock(&dev->lock);
}

static void dev_unlock(struct virtio_dev *dev)
{
	atomic_fetch_sub(&dev->want, 1);
	pthread_cond_broadcast(&dev->cond);
	pthread_mutex_unlock(&dev->lock);
}

static void kick(struct virtio_dev *dev, unsigned int q)
{
	eventfd_write(dev->kick[q], 1);
}

static void kick_all(struct virtio_dev *dev)
{
	for (unsigned int q = 0; q < dev->model->nr_queues; q++)
		kick(dev, q);
}

/* 2.1.2: tell the driver that only a reset helps. */
static void needs_reset(struct virtio_dev *dev)
{
	if (dev->status & VIRTIO_CONFIG_S_NEEDS_RESET)
		return;
	dev->status |= VIRTIO_CONFIG_S_NEEDS_RESET;
	if (dev->status & VIRTIO_CONFIG_S_DRIVER_OK)
		interrupt(dev, dev->config_vector, ISR_CONFIG);
}

static bool is_up(const struct virtio_dev *dev)
{
	return dev->status & VIRTIO_CONFIG_S_DRIVER_OK &&
	       !(dev->status & VIRTIO_CONFIG_S_NEEDS_RESET);
}

static bool is_live(const struct virtio_dev *dev, unsigned int q)
{
	return is_up(dev) && dev->vq[q].enabled;
}

static bool has_source(const struct virtio_dev *dev)
{
	return dev->model->ops->source_wait;
}

static int serve_one(struct virtio_dev *dev, unsigned int q)
{
	struct virtq *vq = &dev->vq[q];
	int ret;

	ret = virtq_pop(vq, &dev->chain);
	if (ret <= 0)
		return ret;
	ret = dev->model->ops->request(dev, q, &dev->chain);
	if (ret < 0) {
		vq->fault = "malformed request";
		return ret;
	}
	virtq_push(vq, dev->chain.head, ret);
	if (virtq_should_notify(vq))
		interrupt(dev, vq->vector, ISR_QUEUE);
	return 1;
}

static void broken(struct virtio_dev *dev, unsigned int q)
{
	const char *fault = dev->vq[q].fault;

	vm_notice(dev->vm, "%s: queue %u: %s; the guest must reset it", dev->entry.name, q,
		  fault ? fault : "malformed request");
	needs_reset(dev);
}

/* Serve until the queue is empty, broken, or somebody wants the lock. */
static void serve(struct virtio_dev *dev, unsigned int q)
{
	struct virtq *vq = &dev->vq[q];
	int ret;

	if (has_source(dev) && q == dev->model->stock_queue) {
		virtq_kicks_off(vq);
		dev->stock_out = false;
		return;
	}
	do {
		virtq_kicks_off(vq);
		while ((ret = serve_one(dev, q)) > 0) {
			if (atomic_load(&dev->want)) {
				kick(dev, q);
				return;
			}
		}
		if (ret < 0) {
			broken(dev, q);
			return;
		}
	} while (virtq_kicks_on(vq));
}

int virtio_dev_stock(struct virtio_dev *dev, struct virtq_chain *chain)
{
	struct virtq *vq = &dev->vq[dev->model->stock_queue];
	int ret = 0;

	if (!vq->enabled)
		return 0;
	do
		ret = virtq_pop(vq, chain);
	while (!ret && virtq_kicks_on(vq));
	dev->stock_out = !ret;
	return ret;
}

void virtio_dev_deliver(struct virtio_dev *dev, unsigned int nr)
{
	struct virtq *vq = &dev->vq[dev->model->stock_queue];

	virtq_publish(vq, nr);
	if (virtq_should_notify(vq))
		interrupt(dev, vq->vector, ISR_QUEUE);
}

/* Take what the source has until it is dry, or somebody wants the lock. */
static void feed(struct virtio_dev *dev, short revents)
{
	int ret = 1;

	while (ret > 0 && is_up(dev) && !atomic_load(&dev->want))
		ret = dev->model->ops->source_ready(dev, revents);
	if (ret < 0)
		broken(dev, dev->model->stock_queue);
}

/* The lock, when nobody who announced himself is waiting for it. */
static bool thread_lock(struct virtio_dev *dev)
{
	pthread_mutex_lock(&dev->lock);
	while ((dev->parked || atomic_load(&dev->want)) && !dev->stop)
		pthread_cond_wait(&dev->cond, &dev->lock);
	return !dev->stop;
}

static void *io_thread(void *arg)
{
	struct virtio_dev *dev = arg;
	unsigned int nr = dev->model->nr_queues;
	struct pollfd fds[VIRTIO_QUEUES_MAX + 2], *source = &fds[nr + 1];
	int timeout = -1, ready;

	for (unsigned int q = 0; q < nr; q++)
		fds[q] = (struct pollfd){ .fd = dev->kick[q], .events = POLLIN };
	fds[nr] = (struct pollfd){ .fd = dev->wake, .events = POLLIN };
	*source = (struct pollfd){ .fd = -1 };
	do {
		eventfd_t n;

		ready = poll(fds, nr + 2, timeout);
		if (ready < 0)
			continue;
		if (!thread_lock(dev))
			break;
		for (unsigned int q = 0; q < nr; q++) {
			/* Consume the kick before looking, or it could be lost. */
			if (!(fds[q].revents & POLLIN) || eventfd_read(dev->kick[q], &n))
				continue;
			if (is_live(dev, q))
				serve(dev, q);
		}
		if (has_source(dev) && (source->revents || !ready))
			feed(dev, source->revents);
		timeout = -1;
		*source = (struct pollfd){ .fd = -1 };
		if (has_source(dev) && is_up(dev))
			dev->model->ops->source_wait(dev, source, &timeout);
		pthread_mutex_unlock(&dev->lock);
	} while (true);
	pthread_mutex_unlock(&dev->lock);
	return NULL;
}

/* --- common configuration (4.1.4.3) -------------------------------------- */

static struct virtq *selected(struct virtio_dev *dev)
{
	return dev->queue_select < dev->model->nr_queues ?
		&dev->vq[dev->queue_select] : NULL;
}

/* dev->lock held: everything the driver set up is gone. */
static void device_reset(struct virtio_dev *dev)
{
	if (has_source(dev) && dev->status & VIRTIO_CONFIG_S_DRIVER_OK)
		dev->model->ops->source_driver(dev, false);
	dev->status = 0;
	dev->stock_out = false;
	dev->driver_features = 0;
	dev->feature_select = 0;
	dev->driver_feature_select = 0;
	dev->queue_select = 0;
	dev->config_vector = VIRTIO_MSI_NO_VECTOR;
	for (unsigned int q = 0; q < dev->model->nr_queues; q++)
		virtq_reset(&dev->vq[q]);
	isr_clear(dev);
}

static bool features_acceptable(const struct virtio_dev *dev)
{
	return !(dev->driver_features & ~dev->features) &&
	       virtio_has_feature(dev, VIRTIO_F_VERSION_1);
}

static void driver_up(struct virtio_dev *dev)
{
	if (has_source(dev))
		dev->model->ops->source_driver(dev, true);
	/* Buffers may have been made available before. */
	kick_all(dev);
	vm_device_changed(dev->vm);
}

static void status_write(struct virtio_dev *dev, uint8_t val)
{
	uint8_t fresh = val & ~dev->status;

	if (!val) {
		device_reset(dev);
		return;
	}
	/* 2.2.2: refuse a set of features by not showing the bit. */
	if (fresh & VIRTIO_CONFIG_S_FEATURES_OK && !features_acceptable(dev))
		val &= ~VIRTIO_CONFIG_S_FEATURES_OK;
	val |= dev->status & (VIRTIO_CONFIG_S_NEEDS_RESET | VIRTIO_CONFIG_S_FEATURES_OK);
	if (!(val & VIRTIO_CONFIG_S_FEATURES_OK))
		val &= ~VIRTIO_CONFIG_S_DRIVER_OK;
	dev->status = val;
	if (fresh & dev->status & VIRTIO_CONFIG_S_DRIVER_OK)
		driver_up(dev);
}

static void queue_enable(struct virtio_dev *dev, struct virtq *vq)
{
	vq->event_idx = virtio_has_feature(dev, VIRTIO_RING_F_EVENT_IDX);
	vq->indirect = virtio_has_feature(dev, VIRTIO_RING_F_INDIRECT_DESC);
	if (virtq_enable(vq)) {
		vm_notice(dev->vm, "%s: queue %u: %s", dev->entry.name,
			  dev->queue_select, vq->fault);
		needs_reset(dev);
	} else if (dev->status & VIRTIO_CONFIG_S_DRIVER_OK) {
		kick(dev, dev->queue_select);
	}
}

static uint16_t valid_vector(struct virtio_dev *dev, uint16_t vector)
{
	return vector < pci_msix_nr(&dev->pci) ? vector : VIRTIO_MSI_NO_VECTOR;
}

static void set_half(uint64_t *val, bool high, uint32_t half)
{
	unsigned int shift = high ? 32 : 0;

	*val = (*val & ~(UINT64_C(0xffffffff) << shift)) | (uint64_t)half << shift;
}

static void driver_feature_write(struct virtio_dev *dev, uint32_t val)
{
	if (dev->driver_feature_select < 2 &&
	    !(dev->status & VIRTIO_CONFIG_S_FEATURES_OK))
		set_half(&dev->driver_features, dev->driver_feature_select, val);
}

/* Registers of the selected queue; it cannot be changed once enabled. */
static void queue_write(struct virtio_dev *dev, struct virtq *vq, unsigned int off,
			uint32_t val)
{
	if (off == VIRTIO_PCI_COMMON_Q_MSIX) {
		vq->vector = valid_vector(dev, val);
		return;
	}
	if (vq->enabled)
		return;
	switch (off) {
	case VIRTIO_PCI_COMMON_Q_SIZE:
		vq->size = val;
		break;
	case VIRTIO_PCI_COMMON_Q_ENABLE:
		if (val == 1)
			queue_enable(dev, vq);
		break;
	case VIRTIO_PCI_COMMON_Q_DESCLO:
	case VIRTIO_PCI_COMMON_Q_DESCHI:
		set_half(&vq->desc_gpa, off == VIRTIO_PCI_COMMON_Q_DESCHI, val);
		break;
	case VIRTIO_PCI_COMMON_Q_AVAILLO:
	case VIRTIO_PCI_COMMON_Q_AVAILHI:
		set_half(&vq->avail_gpa, off == VIRTIO_PCI_COMMON_Q_AVAILHI, val);
		break;
	case VIRTIO_PCI_COMMON_Q_USEDLO:
	case VIRTIO_PCI_COMMON_Q_USEDHI:
		set_half(&vq->used_gpa, off == VIRTIO_PCI_COMMON_Q_USEDHI, val);
		break;
	}
}

static void common_write(struct virtio_dev *dev, unsigned int off, uint32_t val)
{
	struct virtq *vq = selected(dev);

	switch (off) {
	case VIRTIO_PCI_COMMON_DFSELECT:
		dev->feature_select = val;
		break;
	case VIRTIO_PCI_COMMON_GFSELECT:
		dev->driver_feature_select = val;
		break;
	case VIRTIO_PCI_COMMON_GF:
		driver_feature_write(dev, val);
		break;
	case VIRTIO_PCI_COMMON_MSIX:
		dev->config_vector = valid_vector(dev, val);
		break;
	case VIRTIO_PCI_COMMON_STATUS:
		status_write(dev, val);
		break;
	case VIRTIO_PCI_COMMON_Q_SELECT:
		dev->queue_select = val;
		break;
	default:
		if (vq)
			queue_write(dev, vq, off, val);
	}
}

static uint32_t half(uint64_t val, uint32_t select)
{
	return select == 0 ? (uint32_t)val : select == 1 ? val >> 32 : 0;
}

static uint32_t queue_read(struct virtio_dev *dev, const struct virtq *vq, unsigned int off)
{
	switch (off) {
	case VIRTIO_PCI_COMMON_Q_SIZE:
		return vq->size;
	case VIRTIO_PCI_COMMON_Q_MSIX:
		return vq->vector;
	case VIRTIO_PCI_COMMON_Q_ENABLE:
		return vq->enabled;
	case VIRTIO_PCI_COMMON_Q_NOFF:
		return dev->queue_select;
	case VIRTIO_PCI_COMMON_Q_DESCLO:
	case VIRTIO_PCI_COMMON_Q_DESCHI:
		return half(vq->desc_gpa, off == VIRTIO_PCI_COMMON_Q_DESCHI);
	case VIRTIO_PCI_COMMON_Q_AVAILLO:
	case VIRTIO_PCI_COMMON_Q_AVAILHI:
		return half(vq->avail_gpa, off == VIRTIO_PCI_COMMON_Q_AVAILHI);
	case VIRTIO_PCI_COMMON_Q_USEDLO:
	case VIRTIO_PCI_COMMON_Q_USEDHI:
		return half(vq->used_gpa, off == VIRTIO_PCI_COMMON_Q_USEDHI);
	}
	return 0;
}

static uint32_t common_read(struct virtio_dev *dev, unsigned int off)
{
	const struct virtq *vq = selected(dev);

	switch (off) {
	case VIRTIO_PCI_COMMON_DFSELECT:
		return dev->feature_select;
	case VIRTIO_PCI_COMMON_DF:
		return half(dev->features, dev->feature_select);
	case VIRTIO_PCI_COMMON_GFSELECT:
		return dev->driver_feature_select;
	case VIRTIO_PCI_COMMON_GF:
		return half(dev->driver_features, dev->driver_feature_select);
	case VIRTIO_PCI_COMMON_MSIX:
		return dev->config_vector;
	case VIRTIO_PCI_COMMON_NUMQ:
		return dev->model->nr_queues;
	case VIRTIO_PCI_COMMON_STATUS:
		return dev->status;
	case VIRTIO_PCI_COMMON_Q_SELECT:
		return dev->queue_select;
	}
	/* Queue size 0: not there. */
	return vq ? queue_read(dev, vq, off) : 0;
}

/* The driver must use accesses of the field's width (4.1.3.1). */
static unsigned int common_width(unsigned int off)
{
	switch (off) {
	case VIRTIO_PCI_COMMON_STATUS:
	case VIRTIO_PCI_COMMON_CFGGENERATION:
		return 1;
	case VIRTIO_PCI_COMMON_DFSELECT:
	case VIRTIO_PCI_COMMON_DF:
	case VIRTIO_PCI_COMMON_GFSELECT:
	case VIRTIO_PCI_COMMON_GF:
		return 4;
	}
	if (off >= VIRTIO_PCI_COMMON_Q_DESCLO)
		return 4;
	return 2;
}

/* --- BAR 0 --------------------------------------------------------------- */

static uint64_t region_read(void *opaque, uint64_t off, unsigned int len)
{
	struct virtio_dev *dev = opaque;
	unsigned int at = off % REGION_BYTES;
	uint64_t val = 0;

	switch (off - at) {
	case REGION_COMMON:
		dev_lock(dev);
		if (len == common_width(at))
			val = common_read(dev, at);
		else if (len == 8 && at >= VIRTIO_PCI_COMMON_Q_DESCLO && at % 8 == 0)
			val = common_read(dev, at) |
			      (uint64_t)common_read(dev, at + 4) << 32;
		dev_unlock(dev);
		break;
	case REGION_ISR:
		if (!at)
			val = isr_read(dev);
		break;
	case REGION_DEVICE:
		for (unsigned int i = 0; i < len && at + i < dev->model->config_bytes; i++)
			val |= (uint64_t)((const uint8_t *)dev->model->config)[at + i]
				<< (8 * i);
		break;
	}
	return val;
}

static void region_write(void *opaque, uint64_t off, unsigned int len, uint64_t val)
{
	struct virtio_dev *dev = opaque;
	unsigned int at = off % REGION_BYTES;

	switch (off - at) {
	case REGION_COMMON:
		dev_lock(dev);
		if (len == common_width(at)) {
			common_write(dev, at, val);
		} else if (len == 8 && at >= VIRTIO_PCI_COMMON_Q_DESCLO && at % 8 == 0) {
			common_write(dev, at, val);
			common_write(dev, at + 4, val >> 32);
		}
		dev_unlock(dev);
		break;
	case REGION_NOTIFY:
		/* Only when there is no ioeventfd, or a queue that is not there. */
		if (at / NOTIFY_STRIDE < dev->model->nr_queues)
			kick(dev, at / NOTIFY_STRIDE);
		break;
	}
}

static const struct bus_ops region_ops = {
	.read = region_read,
	.write = region_write,
};

static void bar_mapped(struct pci_dev *pci, unsigned int bar)
{
	struct virtio_dev *dev = pci->opaque;
	uint64_t addr = pci->bar[bar].addr + REGION_NOTIFY;

	if (bar != REGION_BAR)
		return;
	/* A failure is no error: the kick then comes through region_write. */
	for (unsigned int q = 0; q < dev->model->nr_queues; q++)
		vm_ioeventfd(dev->vm, VM_MMIO, addr + q * NOTIFY_STRIDE, 0, NULL,
			     dev->kick[q]);
}

static void bar_unmapped(struct pci_dev *pci, unsigned int bar)
{
	struct virtio_dev *dev = pci->opaque;
	uint64_t addr = pci->bar[bar].addr + REGION_NOTIFY;

	if (bar != REGION_BAR)
		return;
	for (unsigned int q = 0; q < dev->model->nr_queues; q++)
		vm_ioeventfd_remove(dev->vm, VM_MMIO, addr + q * NOTIFY_STRIDE, 0,
				    NULL, dev->kick[q]);
}

/* --- config space: capabilities and the access window (4.1.4, 4.1.4.9) ---- */

/* The window's target, if it names a valid access to BAR 0. */
static bool window_target(struct virtio_dev *dev, uint32_t *off, uint32_t *len)
{
	unsigned int cap = dev->pci_window;

	*off = pci_cfg_get(&dev->pci, cap + VIRTIO_PCI_CAP_OFFSET, 4);
	*len = pci_cfg_get(&dev->pci, cap + VIRTIO_PCI_CAP_LENGTH, 4);
	return dev->pci.cfg[cap + VIRTIO_PCI_CAP_BAR] == REGION_BAR &&
	       (*len == 1 || *len == 2 || *len == 4) && *off % *len == 0 &&
	       *off <= REGIONS_BYTES - *len;
}

static bool touches_window(const struct virtio_dev *dev, unsigned int off, unsigned int len)
{
	unsigned int data = dev->pci_window + sizeof(struct virtio_pci_cap);

	return dev->pci_window && off < data + 4 && data < off + len;
}

static void cfg_read(struct pci_dev *pci, unsigned int off, unsigned int len)
{
	struct virtio_dev *dev = pci->opaque;
	uint32_t at, n;

	if (touches_window(dev, off, len) && window_target(dev, &at, &n))
		pci_cfg_put(pci, dev->pci_window + sizeof(struct virtio_pci_cap), 4,
			    region_read(dev, at, n));
}

static void cfg_written(struct pci_dev *pci, unsigned int off, unsigned int len, uint32_t val)
{
	struct virtio_dev *dev = pci->opaque;
	uint32_t at, n;

	if (touches_window(dev, off, len) && window_target(dev, &at, &n))
		region_write(dev, at, n, pci_cfg_get(pci, dev->pci_window +
						     sizeof(struct virtio_pci_cap), n));
}

static const struct pci_dev_ops pci_ops = {
	.bar_mapped = bar_mapped,
	.bar_unmapped = bar_unmapped,
	.cfg_read = cfg_read,
	.cfg_written = cfg_written,
};

static int add_cap(struct virtio_dev *dev, uint8_t type, uint32_t off, uint32_t bytes,
		   unsigned int extra)
{
	unsigned int len = sizeof(struct virtio_pci_cap) + extra;
	int cap = pci_dev_cap(&dev->pci, PCI_CAP_ID_VNDR, len);

	if (cap < 0)
		return cap;
	dev->pci.cfg[cap + VIRTIO_PCI_CAP_LEN] = len;
	dev->pci.cfg[cap + VIRTIO_PCI_CAP_CFG_TYPE] = type;
	dev->pci.cfg[cap + VIRTIO_PCI_CAP_BAR] = REGION_BAR;
	pci_cfg_put(&dev->pci, cap + VIRTIO_PCI_CAP_OFFSET, 4, off);
	pci_cfg_put(&dev->pci, cap + VIRTIO_PCI_CAP_LENGTH, 4, bytes);
	return cap;
}

static int add_window(struct virtio_dev *dev)
{
	int cap = add_cap(dev, VIRTIO_PCI_CAP_PCI_CFG, 0, 0, 4);

	if (cap < 0)
		return cap;
	dev->pci_window = cap;
	dev->pci.wmask[cap + VIRTIO_PCI_CAP_BAR] = 0xff;
	memset(dev->pci.wmask + cap + VIRTIO_PCI_CAP_OFFSET, 0xff, 12);
	return 0;
}

static int build_config_space(struct virtio_dev *dev)
{
	const struct virtio_model *m = dev->model;
	const struct pci_ids ids = {
		.vendor = VENDOR_VIRTIO,
		.device = ID_MODERN + m->type,
		.sub_vendor = VENDOR_VIRTIO,
		.sub_device = 0x1100,
		.class_rev = m->pci_class << 8 | 1,	/* revision >= 1: 4.1.2.1 */
	};
	int cap, ret;

	pci_dev_init(&dev->pci, &ids, &pci_ops, dev);
	pci_dev_bar(&dev->pci, REGION_BAR, PCI_BAR_MEM32, REGIONS_BYTES, &region_ops, dev);
	pci_dev_intx(&dev->pci);
	ret = add_cap(dev, VIRTIO_PCI_CAP_COMMON_CFG, REGION_COMMON,
		      sizeof(struct virtio_pci_common_cfg), 0);
	if (ret >= 0)
		ret = add_cap(dev, VIRTIO_PCI_CAP_ISR_CFG, REGION_ISR, 1, 0);
	if (ret >= 0 && m->config_bytes)
		ret = add_cap(dev, VIRTIO_PCI_CAP_DEVICE_CFG, REGION_DEVICE,
			      m->config_bytes, 0);
	if (ret < 0)
		return ret;
	cap = add_cap(dev, VIRTIO_PCI_CAP_NOTIFY_CFG, REGION_NOTIFY,
		      m->nr_queues * NOTIFY_STRIDE, 4);
	if (cap < 0)
		return cap;
	pci_cfg_put(&dev->pci, cap + VIRTIO_PCI_NOTIFY_CAP_MULT, 4, NOTIFY_STRIDE);
	ret = add_window(dev);
	return ret ? ret : pci_msix_add(&dev->pci, MSIX_BAR, m->nr_queues + 1);
}

/* --- life cycle ---------------------------------------------------------- */

static void op_reset(void *opaque)
{
	struct virtio_dev *dev = opaque;

	dev_lock(dev);
	device_reset(dev);
	dev_unlock(dev);
	pci_dev_reset(&dev->pci);
}

/* The thread holds the lock through a request: having it means none in flight. */
static void op_quiesce(void *opaque)
{
	struct virtio_dev *dev = opaque;

	dev_lock(dev);
	dev->parked = true;
	dev_unlock(dev);
}

/* Guest memory may have come or gone while the device was still. */
static void remap_queues(struct virtio_dev *dev)
{
	for (unsigned int q = 0; q < dev->model->nr_queues; q++)
		if (virtq_remap(&dev->vq[q]) && is_up(dev))
			broken(dev, q);
}

static void op_resume(void *opaque)
{
	struct virtio_dev *dev = opaque;

	dev_lock(dev);
	dev->parked = false;
	remap_queues(dev);
	kick_all(dev);
	dev_unlock(dev);
}

static void op_save(void *opaque, struct state_writer *w)
{
	struct virtio_dev *dev = opaque;

	pci_dev_save(&dev->pci, w);
	dev_lock(dev);
	state_put_u64(w, dev->features);
	state_put_u64(w, dev->driver_features);
	state_put_u32(w, dev->feature_select);
	state_put_u32(w, dev->driver_feature_select);
	state_put_u16(w, dev->config_vector);
	state_put_u16(w, dev->queue_select);
	state_put_u8(w, dev->status);
	state_put_u8(w, dev->isr);
	state_put_u16(w, dev->model->nr_queues);
	for (unsigned int q = 0; q < dev->model->nr_queues; q++)
		virtq_save(&dev->vq[q], w);
	dev_unlock(dev);
}

static int load_queues(struct virtio_dev *dev, struct state_reader *r)
{
	int ret;

	if (state_get_u16(r) != dev->model->nr_queues)
		return r->err ? r->err : -EINVAL;
	for (unsigned int q = 0; q < dev->model->nr_queues; q++) {
		struct virtq *vq = &dev->vq[q];

		vq->event_idx = virtio_has_feature(dev, VIRTIO_RING_F_EVENT_IDX);
		vq->indirect = virtio_has_feature(dev, VIRTIO_RING_F_INDIRECT_DESC);
		ret = virtq_load(vq, r);
		if (ret)
			return ret;
		if (vq->vector != VIRTIO_MSI_NO_VECTOR)
			vq->vector = valid_vector(dev, vq->vector);
	}
	return 0;
}

static int load_regs(struct virtio_dev *dev, struct state_reader *r)
{
	/* What was offered then must be offered now, the driver counts on it. */
	uint64_t offered = state_get_u64(r);

	dev->driver_features = state_get_u64(r);
	if (offered & ~dev->features || dev->driver_features & ~offered)
		return -EINVAL;
	dev->feature_select = state_get_u32(r);
	dev->driver_feature_select = state_get_u32(r);
	dev->config_vector = valid_vector(dev, state_get_u16(r));
	dev->queue_select = state_get_u16(r);
	dev->status = state_get_u8(r);
	dev->isr = state_get_u8(r);
	return load_queues(dev, r);
}

static int op_load(void *opaque, struct state_reader *r, uint32_t version)
{
	struct virtio_dev *dev = opaque;
	int ret;

	if (version != dev->entry.version)
		return -EOPNOTSUPP;
	ret = pci_dev_load(&dev->pci, r);
	if (ret)
		return ret;
	dev_lock(dev);
	ret = load_regs(dev, r);
	if (ret)
		device_reset(dev);
	else if (has_source(dev) && dev->status & VIRTIO_CONFIG_S_DRIVER_OK)
		dev->model->ops->source_driver(dev, true);
	dev_unlock(dev);
	return ret;
}

static void dev_exit(struct virtio_dev *dev)
{
	if (dev->thread) {
		dev_lock(dev);
		dev->stop = true;
		eventfd_write(dev->wake, 1);
		dev_unlock(dev);
		vmplat_thread_join(dev->thread);
	}
	pci_dev_exit(&dev->pci);
	for (unsigned int q = 0; q < dev->model->nr_queues; q++)
		if (dev->kick[q] >= 0)
			close(dev->kick[q]);
	if (dev->wake >= 0)
		close(dev->wake);
	pthread_cond_destroy(&dev->cond);
	pthread_mutex_destroy(&dev->isr_lock);
	pthread_mutex_destroy(&dev->lock);
}

static void op_destroy(void *opaque)
{
	struct virtio_dev *dev = opaque;

	dev_exit(dev);
	dev->model->ops->destroy(dev);
}

static const struct vm_device_ops device_ops = {
	.reset = op_reset,
	.quiesce = op_quiesce,
	.resume = op_resume,
	.save = op_save,
	.load = op_load,
	.destroy = op_destroy,
};

/* Signals are for the main and vCPU threads. */
static int start_thread(struct virtio_dev *dev)
{
	const struct vmplat_thread_options o = {
		.name = "virtio", .flags = VMPLAT_THREAD_F_NO_SIGNALS,
	};

	return vmplat_thread_start(&dev->thread, &o, io_thread, dev);
}

static int open_eventfds(struct virtio_dev *dev)
{
	dev->wake = eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK);
	if (dev->wake < 0)
		return -errno;
	for (unsigned int q = 0; q < dev->model->nr_queues; q++) {
		dev->kick[q] = eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK);
		if (dev->kick[q] < 0)
			return -errno;
	}
	return 0;
}

int virtio_dev_add(struct virtio_dev *dev, struct vm *vm, struct pci_bus *bus,
		   unsigned int slot, const struct virtio_model *model, void *opaque)
{
	int ret;

	if (!model->nr_queues || model->nr_queues > VIRTIO_QUEUES_MAX ||
	    model->config_bytes > REGION_BYTES)
		return -EINVAL;
	memset(dev, 0, sizeof(*dev));
	dev->vm = vm;
	dev->model = model;
	dev->opaque = opaque;
	dev->features = model->features | TRANSPORT_FEATURES;
	dev->wake = -1;
	for (unsigned int q = 0; q < VIRTIO_QUEUES_MAX; q++) {
		dev->kick[q] = -1;
		dev->vq[q].vm = vm;
	}
	pthread_mutex_init(&dev->lock, NULL);
	pthread_mutex_init(&dev->isr_lock, NULL);
	pthread_cond_init(&dev->cond, NULL);
	device_reset(dev);
	ret = build_config_space(dev);
	if (!ret)
		ret = open_eventfds(dev);
	if (!ret)
		ret = pci_dev_plug(bus, &dev->pci, slot);
	if (!ret)
		ret = start_thread(dev);
	if (ret)
		goto fail;
	dev->entry = (struct vm_device){
		.version = 1, .ops = &device_ops, .opaque = dev,
	};
	snprintf(dev->entry.name, sizeof(dev->entry.name), "pci/00:%02x.0/%s",
		 dev->pci.slot, model->name);
	ret = vm_device_add(vm, &dev->entry);
	if (!ret)
		return 0;
fail:
	dev_exit(dev);
	return ret;
}
