// SPDX-License-Identifier: LGPL-2.1-or-later
/*
 * MSI-X: capability, vector table, pending bits (PCI Local Bus 3.0, 6.8.2).
 *
 * A vector is masked by its own bit, by the function mask, or because MSI-X is
 * off.  Raised while masked (and MSI-X on), it becomes pending and is sent on
 * the transition to unmasked.  Messages are sent under the lock, so an unmask
 * and a raise cannot both or neither deliver.
 */
#include <errno.h>
#include <linux/pci_regs.h>
#include <stdlib.h>
#include <string.h>

#include "pci.h"

#define VEC_BYTES	16u
#define PAGE		4096u

struct pci_msix {
	struct pci_dev *dev;
	unsigned int cap;
	unsigned int nr;
	uint32_t pba;			/* offset of the pending bits in the BAR */

	pthread_mutex_t lock;		/* below */
	bool enabled, masked;		/* copies of the control register */
	uint32_t (*vec)[4];		/* address low, high, data, control */
	uint64_t *pending;
};

static unsigned int pba_words(const struct pci_msix *m)
{
	return (m->nr + 63) / 64;
}

static bool is_masked(const struct pci_msix *m, unsigned int n)
{
	return m->masked || (m->vec[n][3] & PCI_MSIX_ENTRY_CTRL_MASKBIT);
}

static void send(struct pci_msix *m, unsigned int n)
{
	const uint32_t *v = m->vec[n];

	vm_msi(pci_bus_vm(m->dev->bus), (uint64_t)v[1] << 32 | v[0], v[2]);
}

/* Send what became deliverable. */
static void flush(struct pci_msix *m, unsigned int n)
{
	uint64_t bit = UINT64_C(1) << (n % 64);

	if (!m->enabled || is_masked(m, n) || !(m->pending[n / 64] & bit))
		return;
	m->pending[n / 64] &= ~bit;
	send(m, n);
}

void pci_msix_raise(struct pci_dev *dev, unsigned int n)
{
	struct pci_msix *m = dev->msix;

	if (!m || n >= m->nr)
		return;
	pthread_mutex_lock(&m->lock);
	if (m->enabled) {
		if (is_masked(m, n))
			m->pending[n / 64] |= UINT64_C(1) << (n % 64);
		else
			send(m, n);
	}
	pthread_mutex_unlock(&m->lock);
}

bool pci_msix_enabled(struct pci_dev *dev)
{
	bool ret;

	if (!dev->msix)
		return false;
	pthread_mutex_lock(&dev->msix->lock);
	ret = dev->msix->enabled;
	pthread_mutex_unlock(&dev->msix->lock);
	return ret;
}

unsigned int pci_msix_nr(const struct pci_dev *dev)
{
	return dev->msix ? dev->msix->nr : 0;
}

void pci_msix_cfg_written(struct pci_dev *dev)
{
	struct pci_msix *m = dev->msix;
	uint16_t ctrl = pci_cfg_get(dev, m->cap + PCI_MSIX_FLAGS, 2);

	pthread_mutex_lock(&m->lock);
	m->enabled = ctrl & PCI_MSIX_FLAGS_ENABLE;
	m->masked = ctrl & PCI_MSIX_FLAGS_MASKALL;
	for (unsigned int n = 0; n < m->nr; n++)
		flush(m, n);
	pthread_mutex_unlock(&m->lock);
}

static uint64_t bar_read(void *opaque, uint64_t off, unsigned int len)
{
	struct pci_msix *m = opaque;
	uint64_t val = 0;

	if ((len != 4 && len != 8) || off % len)
		return 0;
	pthread_mutex_lock(&m->lock);
	for (unsigned int i = 0; i < len; i += 4) {
		uint64_t at = off + i, word = 0;

		if (at / VEC_BYTES < m->nr)
			word = m->vec[at / VEC_BYTES][at % VEC_BYTES / 4];
		else if (at >= m->pba && at < m->pba + 8 * pba_words(m))
			word = (uint32_t)(m->pending[(at - m->pba) / 8] >>
					  (at % 8 ? 32 : 0));
		val |= word << (8 * i);
	}
	pthread_mutex_unlock(&m->lock);
	return val;
}

static void bar_write(void *opaque, uint64_t off, unsigned int len, uint64_t val)
{
	struct pci_msix *m = opaque;

	if ((len != 4 && len != 8) || off % len)
		return;
	pthread_mutex_lock(&m->lock);
	for (unsigned int i = 0; i < len; i += 4) {
		unsigned int n = (off + i) / VEC_BYTES;
		unsigned int field = (off + i) % VEC_BYTES / 4;
		uint32_t word = val >> (8 * i);

		if (n >= m->nr)
			break;	/* pending bits are read-only */
		if (field == 0)
			word &= ~3u;
		else if (field == 3)
			word &= PCI_MSIX_ENTRY_CTRL_MASKBIT;
		m->vec[n][field] = word;
		flush(m, n);
	}
	pthread_mutex_unlock(&m->lock);
}

static const struct bus_ops bar_ops = {
	.read = bar_read,
	.write = bar_write,
};

static uint32_t round_pow2(uint32_t v)
{
	uint32_t p = PAGE;

	while (p < v)
		p *= 2;
	return p;
}

int pci_msix_add(struct pci_dev *dev, unsigned int bar, unsigned int nr)
{
	struct pci_msix *m;
	int cap;

	if (!nr || nr > PCI_MSIX_FLAGS_QSIZE + 1)
		return -EINVAL;
	m = calloc(1, sizeof(*m));
	if (!m)
		return -ENOMEM;
	m->dev = dev;
	m->nr = nr;
	m->vec = calloc(nr, sizeof(*m->vec));
	m->pending = calloc(pba_words(m), sizeof(*m->pending));
	cap = pci_dev_cap(dev, PCI_CAP_ID_MSIX, PCI_CAP_MSIX_SIZEOF);
	if (!m->vec || !m->pending || cap < 0) {
		free(m->vec);
		free(m->pending);
		free(m);
		return cap < 0 ? cap : -ENOMEM;
	}
	m->cap = cap;
	pthread_mutex_init(&m->lock, NULL);
	/* Table and pending bits on pages of their own (6.8.2). */
	m->pba = round_pow2(nr * VEC_BYTES);
	pci_cfg_put(dev, cap + PCI_MSIX_FLAGS, 2, nr - 1);
	pci_cfg_put(dev, cap + PCI_MSIX_TABLE, 4, bar);
	pci_cfg_put(dev, cap + PCI_MSIX_PBA, 4, m->pba | bar);
	dev->wmask[cap + PCI_MSIX_FLAGS + 1] =
		(PCI_MSIX_FLAGS_ENABLE | PCI_MSIX_FLAGS_MASKALL) >> 8;
	pci_dev_bar(dev, bar, PCI_BAR_MEM32, round_pow2(m->pba + 8 * pba_words(m)),
		    &bar_ops, m);
	dev->msix = m;
	pci_msix_reset(dev);
	return 0;
}

/* Per-vector masks are set after reset (6.8.2.9). */
void pci_msix_reset(struct pci_dev *dev)
{
	struct pci_msix *m = dev->msix;

	pthread_mutex_lock(&m->lock);
	memset(m->vec, 0, m->nr * sizeof(*m->vec));
	memset(m->pending, 0, pba_words(m) * sizeof(*m->pending));
	for (unsigned int n = 0; n < m->nr; n++)
		m->vec[n][3] = PCI_MSIX_ENTRY_CTRL_MASKBIT;
	pthread_mutex_unlock(&m->lock);
}

void pci_msix_save(struct pci_dev *dev, struct state_writer *w)
{
	struct pci_msix *m = dev->msix;

	pthread_mutex_lock(&m->lock);
	state_put_u16(w, m->nr);
	for (unsigned int n = 0; n < m->nr; n++)
		for (unsigned int i = 0; i < 4; i++)
			state_put_u32(w, m->vec[n][i]);
	for (unsigned int i = 0; i < pba_words(m); i++)
		state_put_u64(w, m->pending[i]);
	pthread_mutex_unlock(&m->lock);
}

/* The control register comes with the config bytes. */
int pci_msix_load(struct pci_dev *dev, struct state_reader *r)
{
	struct pci_msix *m = dev->msix;

	if (state_get_u16(r) != m->nr)
		return r->err ? r->err : -EINVAL;
	pthread_mutex_lock(&m->lock);
	for (unsigned int n = 0; n < m->nr; n++) {
		for (unsigned int i = 0; i < 4; i++)
			m->vec[n][i] = state_get_u32(r);
		m->vec[n][0] &= ~3u;
		m->vec[n][3] &= PCI_MSIX_ENTRY_CTRL_MASKBIT;
	}
	for (unsigned int i = 0; i < pba_words(m); i++)
		m->pending[i] = state_get_u64(r);
	pthread_mutex_unlock(&m->lock);
	return r->err;
}

void pci_msix_free(struct pci_dev *dev)
{
	struct pci_msix *m = dev->msix;

	if (!m)
		return;
	dev->msix = NULL;
	pthread_mutex_destroy(&m->lock);
	free(m->vec);
	free(m->pending);
	free(m);
}
