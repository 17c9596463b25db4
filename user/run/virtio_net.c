// SPDX-License-Identifier: LGPL-2.1-or-later
/*
 * Network device (virtio 1.2, 5.1) over a struct net: one receive queue, one
 * transmit queue, mergeable receive buffers.
 *
 * A frame that comes in waits in `frame` until the driver's buffers hold all of
 * it; until then no other is taken, and the host's queue fills up behind it. It
 * is no state worth saving: a network may lose a frame.
 */
#include <endian.h>
#include <errno.h>
#include <linux/virtio_ids.h>
#include <linux/virtio_net.h>
#include <stdlib.h>
#include <string.h>

#include "net.h"
#include "virtio_net.h"
#include "virtio_pci.h"

#define QUEUE_RX	0u
#define QUEUE_TX	1u
#define CLASS_NETWORK	0x020000

struct virtio_net {
	struct virtio_dev dev;
	struct virtio_model model;
	struct virtio_net_config config;
	struct net *net;

	/* virtio_dev.lock */
	struct virtq_chain first;		/* the buffer that gets the header */
	size_t frame_bytes;			/* 0: none waits */
	uint8_t frame[NET_HDR_BYTES + NET_FRAME_MAX];
};

/* ---- to the network --------------------------------------------------------- */

static int request(struct virtio_dev *dev, unsigned int queue, struct virtq_chain *c)
{
	struct virtio_net *vn = dev->opaque;

	if (queue != QUEUE_TX || c->out_bytes < NET_HDR_BYTES)
		return -EPROTO;
	if (c->out_bytes >= NET_HDR_BYTES + NET_ETH_MIN &&
	    c->out_bytes <= NET_HDR_BYTES + NET_FRAME_MAX)
		net_send(vn->net, c->iov, c->nr_out);
	return 0;
}

/* ---- to the driver ---------------------------------------------------------- */

static void forget_frame(struct virtio_net *vn)
{
	vn->frame_bytes = 0;
}

/*
 * Spread the frame over buffers. Returns how many it took, 0 if there are not
 * enough yet, -EPROTO if the driver broke the rules.
 */
static int scatter(struct virtio_net *vn)
{
	bool merge = virtio_has_feature(&vn->dev, VIRTIO_NET_F_MRG_RXBUF);
	struct virtq *vq = &vn->dev.vq[QUEUE_RX];
	struct virtq_chain *c = &vn->first;
	size_t done = 0;
	int nr = 0, ret;

	for (;;) {
		size_t n;

		ret = virtio_dev_stock(&vn->dev, c);
		if (ret <= 0)
			break;
		nr++;
		n = virtio_iov_write(c->iov + c->nr_out, c->nr_in, 0, vn->frame + done,
				     vn->frame_bytes - done);
		virtq_fill(vq, (unsigned int)nr - 1, c->head, (uint32_t)n);
		done += n;
		if (done == vn->frame_bytes)
			return nr;
		/* Too long for what the driver gave, now and for ever: it is dropped. */
		if (!merge || nr == vq->size || done < NET_HDR_BYTES) {
			forget_frame(vn);
			break;
		}
		c = &vn->dev.chain;
	}
	virtq_unpop(vq, (unsigned int)nr);
	return ret < 0 ? ret : 0;
}

/* The header says how many buffers the frame is in; known only at the end. */
static void finish_header(struct virtio_net *vn, int nr)
{
	uint16_t le = htole16(nr);

	virtio_iov_write(vn->first.iov + vn->first.nr_out, vn->first.nr_in,
			 offsetof(struct virtio_net_hdr_v1, num_buffers), &le, sizeof(le));
}

static int source_ready(struct virtio_dev *dev, short revents)
{
	struct virtio_net *vn = dev->opaque;
	int nr;

	net_event(vn->net, revents);
	if (dev->stock_out)
		return 0;
	if (!vn->frame_bytes)
		vn->frame_bytes = net_recv(vn->net, vn->frame);
	if (!vn->frame_bytes)
		return 0;
	nr = scatter(vn);
	if (nr <= 0)
		return nr < 0 ? nr : !vn->frame_bytes;
	finish_header(vn, nr);
	virtio_dev_deliver(dev, (unsigned int)nr);
	forget_frame(vn);
	return 1;
}

static void source_wait(struct virtio_dev *dev, struct pollfd *p, int *timeout_ms)
{
	struct virtio_net *vn = dev->opaque;

	if (vn->frame_bytes && !dev->stock_out)
		*timeout_ms = 0;
	else
		net_wait(vn->net, !dev->stock_out, p, timeout_ms);
}

static void source_driver(struct virtio_dev *dev, bool up)
{
	struct virtio_net *vn = dev->opaque;

	forget_frame(vn);
	net_set_offloads(vn->net, up && virtio_has_feature(dev, VIRTIO_NET_F_GUEST_CSUM),
			 up && virtio_has_feature(dev, VIRTIO_NET_F_GUEST_TSO4),
			 up && virtio_has_feature(dev, VIRTIO_NET_F_GUEST_TSO6));
}

/* ---- the device ------------------------------------------------------------- */

static void destroy(struct virtio_dev *dev)
{
	struct virtio_net *vn = dev->opaque;

	net_close(vn->net);
	free(vn);
}

static const struct virtio_ops ops = {
	.request = request,
	.destroy = destroy,
	.source_wait = source_wait,
	.source_ready = source_ready,
	.source_driver = source_driver,
};

#define F(bit) (UINT64_C(1) << VIRTIO_NET_F_##bit)

static uint64_t net_features(const struct net *net)
{
	uint64_t f = F(MAC) | F(MRG_RXBUF);

	if (net_offloads(net))
		f |= F(CSUM) | F(HOST_TSO4) | F(HOST_TSO6) |
		     F(GUEST_CSUM) | F(GUEST_TSO4) | F(GUEST_TSO6);
	return f;
}

int virtio_net_add(struct vm *vm, struct pci_bus *bus, unsigned int slot, struct net *net,
		   const uint8_t mac[6], struct virtio_dev **out)
{
	struct virtio_net *vn = calloc(1, sizeof(*vn));
	int ret;

	if (!vn)
		return -ENOMEM;
	vn->net = net;
	memcpy(vn->config.mac, mac, 6);
	vn->model = (struct virtio_model){
		.name = "virtio-net",
		.type = VIRTIO_ID_NET,
		.pci_class = CLASS_NETWORK,
		.features = net_features(net),
		.nr_queues = 2,
		.stock_queue = QUEUE_RX,
		.config = &vn->config,
		.config_bytes = offsetof(struct virtio_net_config, status),
		.ops = &ops,
	};
	ret = virtio_dev_add(&vn->dev, vm, bus, slot, &vn->model, vn);
	if (ret)
		free(vn);
	else if (out)
		*out = &vn->dev;
	return ret;
}
