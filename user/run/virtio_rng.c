// SPDX-License-Identifier: LGPL-2.1-or-later
/*
 * Entropy device (virtio 1.2, 5.4): fills what the driver offers.
 */
#include <errno.h>
#include <linux/virtio_ids.h>
#include <stdlib.h>
#include <sys/random.h>

#include "virtio_pci.h"
#include "virtio_rng.h"

#define REQUEST_BYTES_MAX	65536u	/* a greedy driver gets the rest later */
#define CLASS_OTHER		0xff0000

static int request(struct virtio_dev *dev, unsigned int queue, struct virtq_chain *c)
{
	unsigned int left = REQUEST_BYTES_MAX;

	(void)dev;
	(void)queue;
	for (unsigned int i = c->nr_out; left && i < c->nr_out + c->nr_in; i++) {
		size_t n = c->iov[i].iov_len < left ? c->iov[i].iov_len : left;
		ssize_t got = getrandom(c->iov[i].iov_base, n, 0);

		if (got < 0)
			break;
		left -= got;
		if ((size_t)got < c->iov[i].iov_len)
			break;
	}
	return REQUEST_BYTES_MAX - left;
}

static void destroy(struct virtio_dev *dev)
{
	free(dev);
}

static const struct virtio_ops ops = {
	.request = request,
	.destroy = destroy,
};

static const struct virtio_model model = {
	.name = "virtio-rng",
	.type = VIRTIO_ID_RNG,
	.pci_class = CLASS_OTHER,
	.nr_queues = 1,
	.ops = &ops,
};

int virtio_rng_add(struct vm *vm, struct pci_bus *bus, unsigned int slot)
{
	struct virtio_dev *dev = calloc(1, sizeof(*dev));
	int ret;

	if (!dev)
		return -ENOMEM;
	ret = virtio_dev_add(dev, vm, bus, slot, &model, NULL);
	if (ret)
		free(dev);
	return ret;
}
