/* SPDX-License-Identifier: LGPL-2.1-or-later */
/*
 * The device's side of a split virtqueue (virtio 1.2, 2.7).
 *
 * Rings and descriptors are guest memory: every value is read once into a
 * local, checked, and only then used.  What the device must remember (indices)
 * it keeps itself and never reads back.  Anything a driver may not do gives
 * -EPROTO, the caller then sets DEVICE_NEEDS_RESET.
 *
 * No locking: the owner serialises.
 */
#ifndef VMPLAT_RUN_VIRTIO_RING_H
#define VMPLAT_RUN_VIRTIO_RING_H

#include <stdbool.h>
#include <stdint.h>
#include <sys/uio.h>

#include "state.h"
#include "vm.h"

#define VIRTQ_SIZE_MAX	256u

struct virtq {
	struct vm *vm;
	uint16_t size;			/* power of two, <= VIRTQ_SIZE_MAX */
	uint16_t vector;		/* MSI-X */
	bool enabled;
	bool event_idx, indirect;	/* negotiated */
	uint64_t desc_gpa, avail_gpa, used_gpa;

	/* valid while enabled */
	const void *desc;
	const void *avail;
	void *used;
	uint16_t avail_next;		/* next entry to look at */
	uint16_t used_next;		/* next entry to fill */
	uint16_t used_told;		/* used_next when last asked to notify */
	bool used_told_valid;
	const char *fault;		/* why it broke; static storage */
};

/* A request: device-readable buffers first, then device-writable ones. */
struct virtq_chain {
	uint16_t head;
	unsigned int nr_out, nr_in;
	uint64_t out_bytes, in_bytes;
	struct iovec iov[VIRTQ_SIZE_MAX];
};

void virtq_reset(struct virtq *vq);
/* Check and map the rings.  -EPROTO: misaligned or outside RAM. */
int virtq_enable(struct virtq *vq);
/* Find the rings of an enabled queue again after guest memory moved.  As above. */
int virtq_remap(struct virtq *vq);
/* 1: @chain is the next request; 0: none; -EPROTO: the driver broke the rules */
int virtq_pop(struct virtq *vq, struct virtq_chain *chain);
/* Take the last @nr pops back: these requests stay the driver's next ones. */
void virtq_unpop(struct virtq *vq, unsigned int nr);
/* Give @head back, @written bytes of its writable part filled. */
void virtq_push(struct virtq *vq, uint16_t head, uint32_t written);
/*
 * The same for several at once: fill entries @n = 0, 1, ..., which the driver
 * sees together when they are published.
 */
void virtq_fill(struct virtq *vq, unsigned int n, uint16_t head, uint32_t written);
void virtq_publish(struct virtq *vq, unsigned int nr);
/* Does the driver want an interrupt for what was pushed since last asked? */
bool virtq_should_notify(struct virtq *vq);
/* Ask for kicks or do without.  True: requests are there already. */
bool virtq_kicks_on(struct virtq *vq);
void virtq_kicks_off(struct virtq *vq);

void virtq_save(const struct virtq *vq, struct state_writer *w);
int virtq_load(struct virtq *vq, struct state_reader *r);

#endif
