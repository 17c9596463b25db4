// SPDX-License-Identifier: LGPL-2.1-or-later
/*
 * Block device (virtio 1.2, 5.2) over a struct blk.
 *
 * A request is a 16-byte header, data, and one status byte at the very end of
 * its writable part; the split into buffers is the driver's choice.
 */
#include <endian.h>
#include <errno.h>
#include <linux/virtio_blk.h>
#include <linux/virtio_ids.h>
#include <stdlib.h>
#include <string.h>

#include "blk.h"
#include "virtio_blk.h"
#include "virtio_pci.h"

#define SECTOR_SHIFT	9
#define RANGES_MAX	16u		/* per discard or write-zeroes request */
#define RANGE_SECTORS	(128u << 11)	/* 128 MiB */
#define CLASS_STORAGE	0x018000

struct virtio_blk {
	struct virtio_dev dev;
	struct virtio_model model;
	struct virtio_blk_config config;
	struct blk *blk;
	char serial[VIRTIO_BLK_ID_BYTES];
};

static uint8_t to_status(int ret)
{
	switch (ret) {
	case 0:
		return VIRTIO_BLK_S_OK;
	case -EOPNOTSUPP:
		return VIRTIO_BLK_S_UNSUPP;
	default:
		return VIRTIO_BLK_S_IOERR;
	}
}

/* Bytes of an in or out request; -EINVAL unless whole sectors that exist. */
static int check_sectors(uint64_t sector, uint64_t bytes)
{
	if (bytes & ((1u << SECTOR_SHIFT) - 1) || sector > UINT64_MAX >> SECTOR_SHIFT)
		return -EINVAL;
	return 0;
}

static int do_ranges(struct virtio_blk *vb, uint32_t type, const struct iovec *out,
		     unsigned int nr_out, uint64_t bytes)
{
	struct virtio_blk_discard_write_zeroes ranges[RANGES_MAX];
	bool zero = type == VIRTIO_BLK_T_WRITE_ZEROES;
	int ret = 0;

	if (!bytes || bytes % sizeof(ranges[0]) || bytes > sizeof(ranges))
		return -EINVAL;
	virtio_iov_read(out, nr_out, 0, ranges, bytes);
	for (unsigned int i = 0; !ret && i < bytes / sizeof(ranges[0]); i++) {
		uint64_t sector = le64toh(ranges[i].sector);
		uint64_t len = (uint64_t)le32toh(ranges[i].num_sectors) << SECTOR_SHIFT;
		uint32_t flags = le32toh(ranges[i].flags);

		/* 5.2.6.2: reserved bits, and unmap on a discard */
		if (flags & ~(zero ? VIRTIO_BLK_WRITE_ZEROES_FLAG_UNMAP : 0))
			return -EOPNOTSUPP;
		if (len > (uint64_t)RANGE_SECTORS << SECTOR_SHIFT)
			return -EINVAL;
		ret = check_sectors(sector, len);
		if (ret)
			break;
		if (zero)
			ret = blk_write_zeroes(vb->blk, sector << SECTOR_SHIFT, len, flags);
		else
			ret = blk_discard(vb->blk, sector << SECTOR_SHIFT, len);
	}
	return ret;
}

static int do_get_id(struct virtio_blk *vb, const struct iovec *in, unsigned int nr_in,
		     uint64_t *written)
{
	*written = virtio_iov_write(in, nr_in, 0, vb->serial, sizeof(vb->serial));
	return 0;
}

struct request {
	uint32_t type;
	uint64_t sector;
	struct iovec *out, *in;		/* data only */
	unsigned int nr_out, nr_in;
	uint64_t out_bytes, in_bytes;
	uint64_t written;
};

static int execute(struct virtio_blk *vb, struct request *rq)
{
	int ret;

	switch (rq->type) {
	case VIRTIO_BLK_T_IN:
		ret = check_sectors(rq->sector, rq->in_bytes);
		if (!ret)
			ret = blk_readv(vb->blk, rq->in, rq->nr_in,
					rq->sector << SECTOR_SHIFT);
		if (!ret)
			rq->written = rq->in_bytes;
		return ret;
	case VIRTIO_BLK_T_OUT:
		ret = check_sectors(rq->sector, rq->out_bytes);
		return ret ? ret : blk_writev(vb->blk, rq->out, rq->nr_out,
					      rq->sector << SECTOR_SHIFT);
	case VIRTIO_BLK_T_FLUSH:
		return blk_flush(vb->blk);
	case VIRTIO_BLK_T_GET_ID:
		return do_get_id(vb, rq->in, rq->nr_in, &rq->written);
	case VIRTIO_BLK_T_DISCARD:
	case VIRTIO_BLK_T_WRITE_ZEROES:
		return do_ranges(vb, rq->type, rq->out, rq->nr_out, rq->out_bytes);
	default:
		return -EOPNOTSUPP;
	}
}

static int request(struct virtio_dev *dev, unsigned int queue, struct virtq_chain *c)
{
	struct virtio_blk *vb = dev->opaque;
	struct virtio_blk_outhdr hdr;
	struct iovec *last;
	struct request rq;
	uint8_t *status;

	(void)queue;
	if (c->out_bytes < sizeof(hdr) || !c->in_bytes)
		return -EPROTO;
	virtio_iov_read(c->iov, c->nr_out, 0, &hdr, sizeof(hdr));
	last = &c->iov[c->nr_out + c->nr_in - 1];
	status = (uint8_t *)last->iov_base + last->iov_len - 1;
	rq = (struct request){
		.type = le32toh(hdr.type),
		.sector = le64toh(hdr.sector),
		.out = c->iov,
		.in = c->iov + c->nr_out,
		.out_bytes = c->out_bytes - sizeof(hdr),
		.in_bytes = c->in_bytes - 1,
	};
	rq.nr_out = virtio_iov_trim_front(&rq.out, c->nr_out, sizeof(hdr));
	rq.nr_in = virtio_iov_trim_back(rq.in, c->nr_in, 1);
	*status = to_status(execute(vb, &rq));
	/* Only a read this large could overflow, and no image is. */
	return rq.written < INT32_MAX ? (int)rq.written + 1 : 1;
}

static void destroy(struct virtio_dev *dev)
{
	free(dev->opaque);
}

static const struct virtio_ops ops = {
	.request = request,
	.destroy = destroy,
};

static uint64_t blk_features(const struct virtio_blk *vb)
{
	uint64_t f = UINT64_C(1) << VIRTIO_BLK_F_SEG_MAX |
		     UINT64_C(1) << VIRTIO_BLK_F_BLK_SIZE |
		     UINT64_C(1) << VIRTIO_BLK_F_TOPOLOGY |
		     UINT64_C(1) << VIRTIO_BLK_F_FLUSH;

	if (blk_readonly(vb->blk))
		return f | UINT64_C(1) << VIRTIO_BLK_F_RO;
	return f | UINT64_C(1) << VIRTIO_BLK_F_DISCARD |
	       UINT64_C(1) << VIRTIO_BLK_F_WRITE_ZEROES;
}

static void fill_config(struct virtio_blk *vb)
{
	struct virtio_blk_config *c = &vb->config;
	uint32_t block = blk_io_block_bytes(vb->blk) >> SECTOR_SHIFT;

	c->capacity = htole64(blk_size_bytes(vb->blk) >> SECTOR_SHIFT);
	/* Header and status take two entries of a chain. */
	c->seg_max = htole32(VIRTQ_SIZE_MAX - 2);
	c->blk_size = htole32(1u << SECTOR_SHIFT);
	c->physical_block_exp = __builtin_ctz(block);
	c->min_io_size = htole16(block);
	/* A cluster is what a frozen view copies as one. */
	c->opt_io_size = htole32(BLK_CLUSTER_BYTES >> SECTOR_SHIFT);
	c->max_discard_sectors = htole32(RANGE_SECTORS);
	c->max_discard_seg = htole32(RANGES_MAX);
	c->discard_sector_alignment = htole32(block);
	c->max_write_zeroes_sectors = htole32(RANGE_SECTORS);
	c->max_write_zeroes_seg = htole32(RANGES_MAX);
	c->write_zeroes_may_unmap = 1;
}

int virtio_blk_add(struct vm *vm, struct pci_bus *bus, unsigned int slot, struct blk *blk,
		   const char *serial, struct virtio_dev **out)
{
	struct virtio_blk *vb = calloc(1, sizeof(*vb));
	int ret;

	if (!vb)
		return -ENOMEM;
	vb->blk = blk;
	if (serial)
		memcpy(vb->serial, serial, strnlen(serial, sizeof(vb->serial)));
	fill_config(vb);
	vb->model = (struct virtio_model){
		.name = "virtio-blk",
		.type = VIRTIO_ID_BLOCK,
		.pci_class = CLASS_STORAGE,
		.features = blk_features(vb),
		.nr_queues = 1,
		.config = &vb->config,
		.config_bytes = sizeof(vb->config),
		.ops = &ops,
	};
	ret = virtio_dev_add(&vb->dev, vm, bus, slot, &vb->model, vb);
	if (ret)
		free(vb);
	else if (out)
		*out = &vb->dev;
	return ret;
}
