// SPDX-License-Identifier: LGPL-2.1-or-later
/*
 * Split virtqueues, device side.  Section numbers are of virtio 1.2.
 */
#include <endian.h>
#include <errno.h>
#include <linux/virtio_ring.h>
#include <string.h>

#include "virtio_ring.h"

#define AVAIL_FLAGS	0u
#define AVAIL_IDX	2u
#define AVAIL_RING	4u
#define USED_FLAGS	0u
#define USED_IDX	2u
#define USED_RING	4u

/* One load or store, whatever the guest does meanwhile. */
static uint16_t get16(const void *base, unsigned int off)
{
	const uint16_t *p = (const void *)((const char *)base + off);

	return le16toh(__atomic_load_n(p, __ATOMIC_RELAXED));
}

static void put16(void *base, unsigned int off, uint16_t val)
{
	uint16_t *p = (void *)((char *)base + off);

	__atomic_store_n(p, htole16(val), __ATOMIC_RELAXED);
}

static void put32(void *base, unsigned int off, uint32_t val)
{
	uint32_t *p = (void *)((char *)base + off);

	__atomic_store_n(p, htole32(val), __ATOMIC_RELAXED);
}

/* 2.7.7 and 2.7.10: each side's event index lies behind the other's ring. */
static unsigned int used_event_off(const struct virtq *vq)
{
	return AVAIL_RING + 2u * vq->size;
}

static unsigned int avail_event_off(const struct virtq *vq)
{
	return USED_RING + 8u * vq->size;
}

static int fault(struct virtq *vq, const char *why)
{
	vq->fault = why;
	return -EPROTO;
}

void virtq_reset(struct virtq *vq)
{
	*vq = (struct virtq){
		.vm = vq->vm,
		.size = VIRTQ_SIZE_MAX,
		.vector = 0xffff,
	};
}

/* Sizes and alignment: 2.7. */
static int map_rings(struct virtq *vq)
{
	if (!vq->size || vq->size > VIRTQ_SIZE_MAX || vq->size & (vq->size - 1))
		return fault(vq, "queue size is not a power of two in range");
	if (vq->desc_gpa % 16 || vq->avail_gpa % 2 || vq->used_gpa % 4)
		return fault(vq, "ring address is misaligned");
	vq->desc = vm_gpa(vq->vm, vq->desc_gpa, 16u * vq->size);
	vq->avail = vm_gpa(vq->vm, vq->avail_gpa, AVAIL_RING + 2u * vq->size + 2);
	vq->used = vm_gpa(vq->vm, vq->used_gpa, USED_RING + 8u * vq->size + 2);
	if (!vq->desc || !vq->avail || !vq->used)
		return fault(vq, "ring lies outside guest memory");
	return 0;
}

int virtq_enable(struct virtq *vq)
{
	int ret = map_rings(vq);

	vq->enabled = !ret;
	return ret;
}

int virtq_remap(struct virtq *vq)
{
	return vq->enabled ? virtq_enable(vq) : 0;
}

/* --- requests ------------------------------------------------------------ */

static struct vring_desc read_desc(const void *table, unsigned int n)
{
	struct vring_desc d;

	/* A torn value is the driver's own loss: only this copy is used. */
	memcpy(&d, (const char *)table + n * sizeof(d), sizeof(d));
	__atomic_signal_fence(__ATOMIC_SEQ_CST);
	d.addr = le64toh(d.addr);
	d.len = le32toh(d.len);
	d.flags = le16toh(d.flags);
	d.next = le16toh(d.next);
	return d;
}

static int add_buffer(struct virtq *vq, struct virtq_chain *chain,
		      const struct vring_desc *d)
{
	unsigned int n = chain->nr_out + chain->nr_in;
	void *p;

	if (n == VIRTQ_SIZE_MAX || n == vq->size)
		return fault(vq, "chain is longer than the queue, or a loop");
	if (!d->len)
		return fault(vq, "empty buffer");
	p = vm_gpa(vq->vm, d->addr, d->len);
	if (!p)
		return fault(vq, "buffer lies outside guest memory");
	chain->iov[n] = (struct iovec){ .iov_base = p, .iov_len = d->len };
	if (d->flags & VRING_DESC_F_WRITE) {
		chain->nr_in++;
		chain->in_bytes += d->len;
	} else {
		if (chain->nr_in)
			return fault(vq, "readable buffer after a writable one");
		chain->nr_out++;
		chain->out_bytes += d->len;
	}
	return 0;
}

/*
 * Follow one table from @n.  A chain cannot have more entries than add_buffer
 * accepts, so a loop ends there.  @d is left at the first indirect entry.
 */
static int walk(struct virtq *vq, struct virtq_chain *chain, const void *table,
		unsigned int table_len, unsigned int n, struct vring_desc *d)
{
	int ret;

	for (;;) {
		if (n >= table_len)
			return fault(vq, "descriptor index out of range");
		*d = read_desc(table, n);
		if (d->flags & VRING_DESC_F_INDIRECT)
			return 0;
		ret = add_buffer(vq, chain, d);
		if (ret || !(d->flags & VRING_DESC_F_NEXT))
			return ret;
		n = d->next;
	}
}

/* 2.7.5.3: an indirect entry ends its chain and points to one flat table. */
static int walk_indirect(struct virtq *vq, struct virtq_chain *chain,
			 struct vring_desc *d)
{
	unsigned int nr = d->len / sizeof(*d);
	const void *table;
	int ret;

	if (!vq->indirect)
		return fault(vq, "indirect descriptor was not negotiated");
	if (d->flags & VRING_DESC_F_NEXT)
		return fault(vq, "indirect descriptor with a successor");
	if (!nr || d->len % sizeof(*d))
		return fault(vq, "indirect table of odd length");
	table = vm_gpa(vq->vm, d->addr, d->len);
	if (!table)
		return fault(vq, "indirect table lies outside guest memory");
	ret = walk(vq, chain, table, nr, 0, d);
	if (!ret && d->flags & VRING_DESC_F_INDIRECT)
		return fault(vq, "indirect descriptor inside an indirect table");
	return ret;
}

int virtq_pop(struct virtq *vq, struct virtq_chain *chain)
{
	uint16_t waiting, head;
	struct vring_desc d;
	int ret;

	waiting = get16(vq->avail, AVAIL_IDX) - vq->avail_next;
	if (!waiting)
		return 0;
	if (waiting > vq->size)
		return fault(vq, "available index runs ahead of the queue");
	/* Pairs with the driver's barrier between ring entry and index. */
	__atomic_thread_fence(__ATOMIC_ACQUIRE);
	head = get16(vq->avail, AVAIL_RING + 2u * (vq->avail_next & (vq->size - 1)));
	chain->head = head;
	chain->nr_out = chain->nr_in = 0;
	chain->out_bytes = chain->in_bytes = 0;
	ret = walk(vq, chain, vq->desc, vq->size, head, &d);
	if (!ret && d.flags & VRING_DESC_F_INDIRECT)
		ret = walk_indirect(vq, chain, &d);
	if (ret)
		return ret;
	vq->avail_next++;
	return 1;
}

void virtq_unpop(struct virtq *vq, unsigned int nr)
{
	vq->avail_next -= nr;
}

void virtq_fill(struct virtq *vq, unsigned int n, uint16_t head, uint32_t written)
{
	unsigned int off = USED_RING + 8u * ((vq->used_next + n) & (vq->size - 1u));

	put32(vq->used, off, head);
	put32(vq->used, off + 4, written);
}

void virtq_publish(struct virtq *vq, unsigned int nr)
{
	vq->used_next += nr;
	/* The entries and the data before the index that reveals them. */
	__atomic_thread_fence(__ATOMIC_RELEASE);
	put16(vq->used, USED_IDX, vq->used_next);
}

void virtq_push(struct virtq *vq, uint16_t head, uint32_t written)
{
	virtq_fill(vq, 0, head, written);
	virtq_publish(vq, 1);
}

/* --- notifications (2.7.7, 2.7.10) --------------------------------------- */

bool virtq_should_notify(struct virtq *vq)
{
	uint16_t old = vq->used_told, now = vq->used_next;
	bool valid = vq->used_told_valid;
	uint16_t event;

	vq->used_told = now;
	vq->used_told_valid = true;
	/* Used index before the driver's wish; pairs with its enable + recheck. */
	__atomic_thread_fence(__ATOMIC_SEQ_CST);
	if (!vq->event_idx)
		return !(get16(vq->avail, AVAIL_FLAGS) & VRING_AVAIL_F_NO_INTERRUPT);
	event = get16(vq->avail, used_event_off(vq));
	return !valid || vring_need_event(event, now, old);
}

bool virtq_kicks_on(struct virtq *vq)
{
	if (vq->event_idx)
		put16(vq->used, avail_event_off(vq), vq->avail_next);
	else
		put16(vq->used, USED_FLAGS, 0);
	/* Our wish before the look; pairs with the driver's index + wish check. */
	__atomic_thread_fence(__ATOMIC_SEQ_CST);
	return get16(vq->avail, AVAIL_IDX) != vq->avail_next;
}

void virtq_kicks_off(struct virtq *vq)
{
	/* With event indices the old one is behind, which is off already. */
	if (!vq->event_idx)
		put16(vq->used, USED_FLAGS, VRING_USED_F_NO_NOTIFY);
}

/* --- state --------------------------------------------------------------- */

void virtq_save(const struct virtq *vq, struct state_writer *w)
{
	state_put_u16(w, vq->size);
	state_put_u16(w, vq->vector);
	state_put_u8(w, vq->enabled);
	state_put_u64(w, vq->desc_gpa);
	state_put_u64(w, vq->avail_gpa);
	state_put_u64(w, vq->used_gpa);
	state_put_u16(w, vq->avail_next);
	state_put_u16(w, vq->used_next);
	state_put_u16(w, vq->used_told);
	state_put_u8(w, vq->used_told_valid);
}

/* Translates addresses only; reads nothing of guest memory. */
int virtq_load(struct virtq *vq, struct state_reader *r)
{
	bool enabled;

	vq->size = state_get_u16(r);
	vq->vector = state_get_u16(r);
	enabled = state_get_u8(r);
	vq->desc_gpa = state_get_u64(r);
	vq->avail_gpa = state_get_u64(r);
	vq->used_gpa = state_get_u64(r);
	vq->avail_next = state_get_u16(r);
	vq->used_next = state_get_u16(r);
	vq->used_told = state_get_u16(r);
	vq->used_told_valid = state_get_u8(r);
	if (r->err)
		return r->err;
	if (!vq->size || vq->size > VIRTQ_SIZE_MAX)
		return -EINVAL;
	return enabled && virtq_enable(vq) ? -EINVAL : 0;
}
