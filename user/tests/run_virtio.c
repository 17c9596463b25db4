// SPDX-License-Identifier: LGPL-2.1-or-later
/*
 * Virtqueues under hostile drivers, the transport's registers, the disk, and
 * kicks across quiesce, all without KVM.
 */
#include <fcntl.h>
#include <linux/pci_regs.h>
#include <linux/virtio_blk.h>
#include <linux/virtio_config.h>
#include <linux/virtio_pci.h>
#include <linux/virtio_ring.h>
#include <unistd.h>

#include "fake_vm.h"
#include "run/blk.h"
#include "run/virtio_blk.h"
#include "run/virtio_pci.h"
#include "run/virtio_rng.h"
#include "tap.h"

static uint32_t rnd(uint32_t *s)
{
	*s ^= *s << 13;
	*s ^= *s >> 17;
	*s ^= *s << 5;
	return *s;
}

/* --- the ring alone ------------------------------------------------------ */

#define DESC	0x1000ull
#define AVAIL	0x3000ull
#define USED	0x4000ull
#define DATA	0x10000ull

static void vq_setup(struct virtq *vq, struct vm *vm, uint16_t size)
{
	vq->vm = vm;
	virtq_reset(vq);
	vq->size = size;
	vq->desc_gpa = DESC;
	vq->avail_gpa = AVAIL;
	vq->used_gpa = USED;
}

static void put_desc(struct vm *vm, uint64_t table, unsigned int n, uint64_t addr,
		     uint32_t len, uint16_t flags, uint16_t next)
{
	struct vring_desc d = { .addr = addr, .len = len, .flags = flags, .next = next };

	memcpy(vm_gpa(vm, table + n * sizeof(d), sizeof(d)), &d, sizeof(d));
}

static void offer(struct vm *vm, const struct virtq *vq, uint16_t head)
{
	uint16_t *avail = vm_gpa(vm, vq->avail_gpa, 4);

	avail[2 + (avail[1] & (vq->size - 1))] = head;
	__atomic_store_n(&avail[1], avail[1] + 1, __ATOMIC_SEQ_CST);
}

/* A fresh queue whose first request is what @fill lays out. */
static int pop_once(void (*fill)(struct vm *vm, struct virtq *vq), const char *why)
{
	static struct virtq_chain chain;
	struct vm *vm = fake_vm_new();
	struct virtq vq;
	int ret;

	vq_setup(&vq, vm, 8);
	vq.indirect = true;
	CHECK_EQ(virtq_enable(&vq), 0);
	offer(vm, &vq, 0);
	fill(vm, &vq);
	ret = virtq_pop(&vq, &chain);
	if (ret < 0 && (!vq.fault || !strstr(vq.fault, why))) {
		printf("# fault is \"%s\", not \"%s\"\n", vq.fault, why);
		ret = 1;
	}
	fake_vm_free(vm);
	return ret;
}

#define W VRING_DESC_F_WRITE
#define N VRING_DESC_F_NEXT
#define I VRING_DESC_F_INDIRECT

#define BAD(name, why, ...)						\
static void fill_##name(struct vm *vm, struct virtq *vq) { __VA_ARGS__; } \
TEST(bad_##name) { CHECK_EQ(pop_once(fill_##name, why), -EPROTO); }

BAD(head, "index out of range", *(uint16_t *)vm_gpa(vm, AVAIL + 4, 2) = 8)
BAD(avail_jump, "runs ahead", *(uint16_t *)vm_gpa(vm, AVAIL + 2, 2) = 9)
BAD(next, "index out of range", put_desc(vm, DESC, 0, DATA, 1, N, 8))
BAD(loop, "loop", put_desc(vm, DESC, 0, DATA, 1, N, 1); put_desc(vm, DESC, 1, DATA, 1, N, 0))
BAD(self_loop, "loop", put_desc(vm, DESC, 0, DATA, 1, N | W, 0))
BAD(zero, "empty", put_desc(vm, DESC, 0, DATA, 0, 0, 0))
BAD(out_of_ram, "outside", put_desc(vm, DESC, 0, FAKE_LOW_BYTES, 1, 0, 0))
BAD(past_ram, "outside", put_desc(vm, DESC, 0, FAKE_LOW_BYTES - 1, 2, W, 0))
BAD(past_high, "outside", put_desc(vm, DESC, 0, FAKE_HIGH_BASE + FAKE_HIGH_BYTES - 1, 2, W, 0))
BAD(wrap, "outside", put_desc(vm, DESC, 0, UINT64_MAX, 2, W, 0))
BAD(huge, "outside", put_desc(vm, DESC, 0, 0, UINT32_MAX, W, 0))
BAD(order, "after a writable", put_desc(vm, DESC, 0, DATA, 1, N | W, 1);
    put_desc(vm, DESC, 1, DATA, 1, 0, 0))
BAD(ind_next, "successor", put_desc(vm, DESC, 0, DATA, 32, I | N, 1))
BAD(ind_len, "odd length", put_desc(vm, DESC, 0, DATA, 17, I, 0))
BAD(ind_empty, "odd length", put_desc(vm, DESC, 0, DATA, 0, I, 0))
BAD(ind_ram, "table lies outside", put_desc(vm, DESC, 0, FAKE_LOW_BYTES - 16, 32, I, 0))
BAD(ind_nested, "inside an indirect", put_desc(vm, DESC, 0, DATA, 16, I, 0);
    put_desc(vm, DATA, 0, DATA, 16, I, 0))
BAD(ind_self, "inside an indirect", put_desc(vm, DESC, 0, DESC, 16, I, 0))
BAD(ind_loop, "loop", put_desc(vm, DESC, 0, DATA, 16, I, 0);
    put_desc(vm, DATA, 0, DATA, 16, N, 0))
BAD(ind_range, "index out of range", put_desc(vm, DESC, 0, DATA, 16, I, 0);
    put_desc(vm, DATA, 0, DATA, 16, N, 1))
BAD(ind_not_ours, "not negotiated", vq->indirect = false;
    put_desc(vm, DESC, 0, DATA, 16, I, 0))
BAD(ind_long, "longer than the queue", put_desc(vm, DESC, 0, DATA, 16 * 9, I, 0);
    for (int i = 0; i < 9; i++) put_desc(vm, DATA, i, DATA, 1, N, i + 1))

static void fill_good(struct vm *vm, struct virtq *vq)
{
	put_desc(vm, DESC, 0, DATA, 16, N, 7);
	put_desc(vm, DESC, 7, DATA + 4096, 16 * 3, I, 0);
	put_desc(vm, DATA + 4096, 0, DATA, 512, N, 2);
	put_desc(vm, DATA + 4096, 2, FAKE_HIGH_BASE, 512, N | W, 1);
	put_desc(vm, DATA + 4096, 1, FAKE_LOW_BYTES - 1, 1, W, 0);
}

TEST(good_chain)
{
	CHECK_EQ(pop_once(fill_good, ""), 1);
}

TEST(bad_rings)
{
	struct vm *vm = fake_vm_new();
	struct virtq vq;

	vq_setup(&vq, vm, 8);
	vq.desc_gpa = 8;
	CHECK_EQ(virtq_enable(&vq), -EPROTO);
	vq_setup(&vq, vm, 8);
	vq.used_gpa = FAKE_LOW_BYTES - 64;
	CHECK_EQ(virtq_enable(&vq), -EPROTO);
	vq_setup(&vq, vm, 8);
	vq.avail_gpa = UINT64_MAX - 1;
	CHECK_EQ(virtq_enable(&vq), -EPROTO);
	for (unsigned int size = 0; size < 65536; size++) {
		vq_setup(&vq, vm, size);
		CHECK_EQ(virtq_enable(&vq),
			 size && size <= VIRTQ_SIZE_MAX && !(size & (size - 1)) ? 0 : -EPROTO);
	}
	/* Exactly fitting the end of RAM: index and event must not pass it. */
	vq_setup(&vq, vm, 256);
	vq.used_gpa = FAKE_LOW_BYTES - (6 + 8 * 256 + 2);
	vq.avail_gpa = FAKE_HIGH_BASE + FAKE_HIGH_BYTES - (6 + 2 * 256);
	vq.event_idx = true;
	CHECK_EQ(virtq_enable(&vq), 0);
	virtq_push(&vq, 0, 0);
	virtq_kicks_on(&vq);
	virtq_should_notify(&vq);
	fake_vm_free(vm);
}

/* Addresses and lengths that like edges. */
static uint64_t odd_addr(uint32_t *s)
{
	switch (rnd(s) % 8) {
	case 0: return FAKE_LOW_BYTES - rnd(s) % 32;
	case 1: return FAKE_HIGH_BASE + rnd(s) % FAKE_HIGH_BYTES;
	case 2: return FAKE_HIGH_BASE + FAKE_HIGH_BYTES - rnd(s) % 32;
	case 3: return rnd(s) % 16 ? DESC : (uint64_t)rnd(s) << 32 | rnd(s);
	case 4: return UINT64_MAX - rnd(s) % 32;
	default: return rnd(s) % FAKE_LOW_BYTES;
	}
}

static uint32_t odd_len(uint32_t *s)
{
	switch (rnd(s) % 8) {
	case 0: return rnd(s) % 4;
	case 1: return rnd(s);
	case 2: return 16 * (rnd(s) % 300);
	default: return 1 + rnd(s) % 600;
	}
}

static void scramble(struct vm *vm, const struct virtq *vq, uint32_t *s)
{
	uint16_t *avail = vm_gpa(vm, vq->avail_gpa, 4);

	for (int i = 0; i < 24; i++)
		put_desc(vm, rnd(s) % 4 ? DESC : rnd(s) % (FAKE_LOW_BYTES / 2),
			 rnd(s) % vq->size, odd_addr(s), odd_len(s),
			 rnd(s) % 3 ? rnd(s) % 4 : rnd(s), rnd(s) % (vq->size + 1));
	for (int i = 0; i < 4; i++)
		avail[2 + rnd(s) % vq->size] = rnd(s) % (vq->size + (rnd(s) % 8 ? 0 : 2));
	avail[1] += rnd(s) % (rnd(s) % 16 ? 3 : vq->size + 2);
}

/* Touch the ends of every buffer: the sanitizer knows what is RAM. */
static void touch(const struct virtq_chain *c)
{
	static volatile uint8_t sum;

	for (unsigned int i = 0; i < c->nr_out + c->nr_in; i++) {
		uint8_t *p = c->iov[i].iov_base;
		size_t last = c->iov[i].iov_len - 1;

		if (i < c->nr_out)
			sum = sum + p[0] + p[last];
		else
			p[0] = p[last] = 0xcc;
	}
}

TEST(ring_fuzz)
{
	static struct virtq_chain chain;
	unsigned long served = 0, broken = 0;
	struct vm *vm = fake_vm_new();

	for (uint32_t seed = 1; seed <= 4000; seed++) {
		uint32_t s = seed * 2654435761u;
		struct virtq vq;

		vq_setup(&vq, vm, 1u << rnd(&s) % 9);
		vq.indirect = rnd(&s) % 2;
		vq.event_idx = rnd(&s) % 2;
		memset(vm->low + AVAIL, 0, 0x1000);
		if (virtq_enable(&vq))
			abort();
		for (int round = 0; round < 20; round++) {
			int ret;

			scramble(vm, &vq, &s);
			virtq_kicks_off(&vq);
			while ((ret = virtq_pop(&vq, &chain)) > 0) {
				CHECK(chain.nr_out + chain.nr_in <= VIRTQ_SIZE_MAX);
				touch(&chain);
				virtq_push(&vq, chain.head, rnd(&s));
				virtq_should_notify(&vq);
				served++;
			}
			virtq_kicks_on(&vq);
			if (ret < 0) {
				broken++;
				break;
			}
		}
	}
	printf("# %lu requests served, %lu queues broken\n", served, broken);
	CHECK(served > 1000 && broken > 1000);
	fake_vm_free(vm);
}

/* --- a driver ------------------------------------------------------------ */

static char image_path[] = "/tmp/vmplat-virtio-XXXXXX";
#define IMAGE_BYTES	(4u << 20)

struct driver {
	struct vm *vm;
	struct pci_bus *bus;
	struct blk *blk;
	struct virtq vq;		/* geometry only */
	uint64_t common, isr, config, notify, msix;
	bool event_idx;
	uint16_t avail_idx;
};

static uint32_t common_rd(struct driver *d, unsigned int off, unsigned int len)
{
	return fake_read(d->vm, d->common + off, len);
}

static void common_wr(struct driver *d, unsigned int off, unsigned int len, uint32_t val)
{
	fake_write(d->vm, d->common + off, len, val);
}

/* Find the regions as a driver does, through the capabilities. */
static void find_regions(struct driver *d)
{
	unsigned int at = fake_cfg_read(d->vm, 1, PCI_CAPABILITY_LIST, 1);
	uint64_t bar = fake_cfg_read(d->vm, 1, PCI_BASE_ADDRESS_0, 4);

	d->msix = fake_cfg_read(d->vm, 1, PCI_BASE_ADDRESS_0 + 4, 4);
	for (; at; at = fake_cfg_read(d->vm, 1, at + 1, 1)) {
		uint64_t addr = bar + fake_cfg_read(d->vm, 1, at + 8, 4);

		if (fake_cfg_read(d->vm, 1, at, 1) != PCI_CAP_ID_VNDR) {
			fake_cfg_write(d->vm, 1, at + 2, 2, PCI_MSIX_FLAGS_ENABLE);
			continue;
		}
		switch (fake_cfg_read(d->vm, 1, at + 3, 1)) {
		case VIRTIO_PCI_CAP_COMMON_CFG: d->common = addr; break;
		case VIRTIO_PCI_CAP_ISR_CFG: d->isr = addr; break;
		case VIRTIO_PCI_CAP_DEVICE_CFG: d->config = addr; break;
		case VIRTIO_PCI_CAP_NOTIFY_CFG: d->notify = addr; break;
		}
	}
}

static void machine_new(struct driver *d)
{
	char err[256];

	*d = (struct driver){ .vm = fake_vm_new() };
	if (pci_bus_new(d->vm, &d->bus) ||
	    blk_open(image_path, BLK_OPEN_NOLOCK, &d->blk, err, sizeof(err)) ||
	    virtio_blk_add(d->vm, d->bus, 0, d->blk, "serial-0123456789-too-long", NULL))
		abort();
}

static void machine_free(struct driver *d)
{
	fake_vm_free(d->vm);
	blk_close(d->blk);
}

static void vectors(struct driver *d)
{
	for (unsigned int v = 0; v < 2; v++) {
		fake_write(d->vm, d->msix + 16 * v, 4, 0xfee00000);
		fake_write(d->vm, d->msix + 16 * v + 8, 4, 0x30 + v);
		fake_write(d->vm, d->msix + 16 * v + 12, 4, 0);
	}
	common_wr(d, VIRTIO_PCI_COMMON_MSIX, 2, 0);
	common_wr(d, VIRTIO_PCI_COMMON_Q_MSIX, 2, 1);
}

static void driver_start(struct driver *d, uint16_t size)
{
	uint32_t low;

	fake_cfg_write(d->vm, 1, PCI_COMMAND, 2, PCI_COMMAND_MEMORY | PCI_COMMAND_MASTER);
	find_regions(d);
	vq_setup(&d->vq, d->vm, size);
	memset(d->vm->low + DESC, 0, 0x4000);
	d->avail_idx = 0;
	common_wr(d, VIRTIO_PCI_COMMON_STATUS, 1, 0);
	CHECK_EQ(common_rd(d, VIRTIO_PCI_COMMON_STATUS, 1), 0);
	common_wr(d, VIRTIO_PCI_COMMON_STATUS, 1, 3);
	common_wr(d, VIRTIO_PCI_COMMON_DFSELECT, 4, 0);
	low = common_rd(d, VIRTIO_PCI_COMMON_DF, 4);
	if (!d->event_idx)
		low &= ~(1u << VIRTIO_RING_F_EVENT_IDX);
	common_wr(d, VIRTIO_PCI_COMMON_GFSELECT, 4, 0);
	common_wr(d, VIRTIO_PCI_COMMON_GF, 4, low);
	common_wr(d, VIRTIO_PCI_COMMON_GFSELECT, 4, 1);
	common_wr(d, VIRTIO_PCI_COMMON_GF, 4, 1);
	common_wr(d, VIRTIO_PCI_COMMON_STATUS, 1, 3 | 8);
	CHECK_EQ(common_rd(d, VIRTIO_PCI_COMMON_STATUS, 1), 3 | 8);
	CHECK_EQ(common_rd(d, VIRTIO_PCI_COMMON_NUMQ, 2), 1);
	common_wr(d, VIRTIO_PCI_COMMON_Q_SELECT, 2, 0);
	CHECK_EQ(common_rd(d, VIRTIO_PCI_COMMON_Q_SIZE, 2), VIRTQ_SIZE_MAX);
	common_wr(d, VIRTIO_PCI_COMMON_Q_SIZE, 2, size);
	vectors(d);
	common_wr(d, VIRTIO_PCI_COMMON_Q_DESCLO, 4, DESC);
	common_wr(d, VIRTIO_PCI_COMMON_Q_AVAILLO, 4, AVAIL);
	common_wr(d, VIRTIO_PCI_COMMON_Q_USEDLO, 4, USED);
	common_wr(d, VIRTIO_PCI_COMMON_Q_ENABLE, 2, 1);
	CHECK_EQ(common_rd(d, VIRTIO_PCI_COMMON_Q_ENABLE, 2), 1);
	common_wr(d, VIRTIO_PCI_COMMON_STATUS, 1, 3 | 8 | 4);
}

static uint16_t used_idx(struct driver *d)
{
	return __atomic_load_n((uint16_t *)vm_gpa(d->vm, USED + 2, 2), __ATOMIC_SEQ_CST);
}

/* Exactly what a driver may rely on: kick only if the device asks for it. */
static void submit(struct driver *d, uint16_t head)
{
	uint16_t old = d->avail_idx++;
	bool want;

	offer(d->vm, &d->vq, head);
	__atomic_thread_fence(__ATOMIC_SEQ_CST);
	if (d->event_idx)
		want = vring_need_event(*(volatile uint16_t *)vm_gpa(d->vm, USED + 4 +
					8 * d->vq.size, 2), d->avail_idx, old);
	else
		want = !(*(volatile uint16_t *)vm_gpa(d->vm, USED, 2) & 1);
	if (want)
		fake_write(d->vm, d->notify, 2, 0);
}

static bool wait_used(struct driver *d, uint16_t idx)
{
	for (int i = 0; i < 100000; i++) {
		if (used_idx(d) == idx)
			return true;
		usleep(i < 1000 ? 20 : 100);
	}
	return false;
}

static bool wait_msi(struct driver *d, unsigned int nr)
{
	struct timespec ts;
	int ret = 0;

	clock_gettime(CLOCK_REALTIME, &ts);
	ts.tv_sec += 10;
	pthread_mutex_lock(&d->vm->lock);
	while (d->vm->nr_msi < nr && !ret)
		ret = pthread_cond_timedwait(&d->vm->cond, &d->vm->lock, &ts);
	pthread_mutex_unlock(&d->vm->lock);
	return !ret;
}

#define HDR	DATA
#define STATUS	(DATA + 64)
#define BUF	(DATA + 0x1000)

/* Lay out a request at descriptor @n: header, optional data, status. */
static void lay(struct driver *d, unsigned int n, uint32_t type, uint64_t sector,
		uint32_t len, bool write)
{
	struct virtio_blk_outhdr hdr = { .type = type, .sector = sector };

	memcpy(vm_gpa(d->vm, HDR, sizeof(hdr)), &hdr, sizeof(hdr));
	*(uint8_t *)vm_gpa(d->vm, STATUS, 1) = 0xee;
	put_desc(d->vm, DESC, n, HDR, sizeof(hdr), N, len ? n + 1 : n + 2);
	put_desc(d->vm, DESC, n + 1, BUF, len, N | (write ? W : 0), n + 2);
	put_desc(d->vm, DESC, n + 2, STATUS, 1, W, 0);
}

static uint8_t request(struct driver *d, uint32_t type, uint64_t sector, uint32_t len,
		       bool write)
{
	lay(d, 0, type, sector, len, write);
	submit(d, 0);
	if (!wait_used(d, d->avail_idx)) {
		CHECK(!"request completed");
		return 0xff;
	}
	return *(volatile uint8_t *)vm_gpa(d->vm, STATUS, 1);
}

TEST(registers)
{
	struct driver d;

	machine_new(&d);
	driver_start(&d, 16);
	CHECK_EQ(fake_cfg_read(d.vm, 1, 0, 4), 0x10421af4);
	CHECK_EQ(fake_read(d.vm, d.config, 8), IMAGE_BYTES / 512);
	CHECK_EQ(fake_read(d.vm, d.config, 4), IMAGE_BYTES / 512);
	common_wr(&d, VIRTIO_PCI_COMMON_Q_SELECT, 2, 1);
	CHECK_EQ(common_rd(&d, VIRTIO_PCI_COMMON_Q_SIZE, 2), 0);
	common_wr(&d, VIRTIO_PCI_COMMON_Q_ENABLE, 2, 1);
	common_wr(&d, VIRTIO_PCI_COMMON_MSIX, 2, 9);
	CHECK_EQ(common_rd(&d, VIRTIO_PCI_COMMON_MSIX, 2), VIRTIO_MSI_NO_VECTOR);
	/* features that were not offered, or no VERSION_1: not accepted */
	common_wr(&d, VIRTIO_PCI_COMMON_STATUS, 1, 0);
	common_wr(&d, VIRTIO_PCI_COMMON_STATUS, 1, 3);
	common_wr(&d, VIRTIO_PCI_COMMON_STATUS, 1, 3 | 8);
	CHECK_EQ(common_rd(&d, VIRTIO_PCI_COMMON_STATUS, 1), 3);
	common_wr(&d, VIRTIO_PCI_COMMON_GFSELECT, 4, 1);
	common_wr(&d, VIRTIO_PCI_COMMON_GF, 4, 0xffffffff);
	common_wr(&d, VIRTIO_PCI_COMMON_STATUS, 1, 3 | 8);
	CHECK_EQ(common_rd(&d, VIRTIO_PCI_COMMON_STATUS, 1), 3);
	common_wr(&d, VIRTIO_PCI_COMMON_STATUS, 1, 3 | 4);
	CHECK_EQ(common_rd(&d, VIRTIO_PCI_COMMON_STATUS, 1), 3);
	machine_free(&d);
}

/* The same registers through config space alone. */
TEST(config_window)
{
	struct driver d;
	unsigned int at;

	machine_new(&d);
	driver_start(&d, 16);
	at = fake_cfg_read(d.vm, 1, PCI_CAPABILITY_LIST, 1);
	while (at && !(fake_cfg_read(d.vm, 1, at, 1) == PCI_CAP_ID_VNDR &&
		       fake_cfg_read(d.vm, 1, at + 3, 1) == VIRTIO_PCI_CAP_PCI_CFG))
		at = fake_cfg_read(d.vm, 1, at + 1, 1);
	REQUIRE(at);
	fake_cfg_write(d.vm, 1, at + 8, 4, VIRTIO_PCI_COMMON_STATUS);
	fake_cfg_write(d.vm, 1, at + 12, 4, 1);
	CHECK_EQ(fake_cfg_read(d.vm, 1, at + 16, 1), 15);
	fake_cfg_write(d.vm, 1, at + 16, 1, 0);
	CHECK_EQ(common_rd(&d, VIRTIO_PCI_COMMON_STATUS, 1), 0);
	fake_cfg_write(d.vm, 1, at + 8, 4, 0x3fff);	/* ends past the BAR */
	fake_cfg_write(d.vm, 1, at + 12, 4, 4);
	fake_cfg_read(d.vm, 1, at + 16, 4);
	fake_cfg_write(d.vm, 1, at + 8, 4, 0xfffffffc);
	fake_cfg_read(d.vm, 1, at + 16, 4);
	machine_free(&d);
}

static void disk_requests(bool event_idx, bool slow_kick)
{
	struct virtio_blk_discard_write_zeroes range = { .sector = 8, .num_sectors = 1 };
	struct driver d;
	uint8_t *buf;

	machine_new(&d);
	d.event_idx = event_idx;
	d.vm->no_ioeventfd = slow_kick;
	driver_start(&d, 16);
	buf = vm_gpa(d.vm, BUF, 4096);
	memset(buf, 0xa5, 4096);
	CHECK_EQ(request(&d, VIRTIO_BLK_T_OUT, 8, 4096, false), VIRTIO_BLK_S_OK);
	CHECK(wait_msi(&d, 1));
	CHECK_EQ(d.vm->msi_data, 0x31);
	memset(buf, 0, 4096);
	CHECK_EQ(request(&d, VIRTIO_BLK_T_IN, 8, 4096, true), VIRTIO_BLK_S_OK);
	CHECK(buf[0] == 0xa5 && buf[4095] == 0xa5);
	CHECK_EQ(*(uint32_t *)vm_gpa(d.vm, USED + 4 + 8 + 4, 4), 4097);
	CHECK_EQ(request(&d, VIRTIO_BLK_T_FLUSH, 0, 0, false), VIRTIO_BLK_S_OK);
	CHECK_EQ(request(&d, VIRTIO_BLK_T_GET_ID, 0, 20, true), VIRTIO_BLK_S_OK);
	CHECK(!memcmp(buf, "serial-0123456789-to", 20));
	memcpy(buf, &range, sizeof(range));
	CHECK_EQ(request(&d, VIRTIO_BLK_T_DISCARD, 0, sizeof(range), false), VIRTIO_BLK_S_OK);
	range.sector = 9;
	range.flags = 1;
	memcpy(buf, &range, sizeof(range));
	CHECK_EQ(request(&d, VIRTIO_BLK_T_WRITE_ZEROES, 0, sizeof(range), false), 0);
	CHECK_EQ(request(&d, VIRTIO_BLK_T_DISCARD, 0, sizeof(range), false),
		 VIRTIO_BLK_S_UNSUPP);
	CHECK_EQ(request(&d, VIRTIO_BLK_T_IN, 8, 1536, true), VIRTIO_BLK_S_OK);
	CHECK(!buf[0] && !buf[1023] && buf[1024] == 0xa5);
	/* what a driver should not ask */
	CHECK_EQ(request(&d, 77, 0, 512, true), VIRTIO_BLK_S_UNSUPP);
	CHECK_EQ(request(&d, VIRTIO_BLK_T_IN, 8, 100, true), VIRTIO_BLK_S_IOERR);
	CHECK_EQ(request(&d, VIRTIO_BLK_T_IN, IMAGE_BYTES / 512, 512, true), VIRTIO_BLK_S_IOERR);
	CHECK_EQ(request(&d, VIRTIO_BLK_T_OUT, UINT64_MAX, 512, false), VIRTIO_BLK_S_IOERR);
	CHECK_EQ(request(&d, VIRTIO_BLK_T_OUT, UINT64_MAX >> 9, 512, false), VIRTIO_BLK_S_IOERR);
	CHECK_EQ(request(&d, VIRTIO_BLK_T_DISCARD, 0, 17, false), VIRTIO_BLK_S_IOERR);
	CHECK_EQ(d.vm->nr_notices, 0);
	machine_free(&d);
}

TEST(disk_event_idx)
{
	disk_requests(true, false);
}

TEST(disk_flags)
{
	disk_requests(false, false);
}

TEST(disk_slow_kick)
{
	disk_requests(true, true);
}

/* The header in three pieces, the status at the end of the data. */
TEST(odd_buffers)
{
	struct virtio_blk_outhdr hdr = { .type = VIRTIO_BLK_T_IN, .sector = 0 };
	struct driver d;
	uint8_t *p;

	machine_new(&d);
	driver_start(&d, 16);
	memcpy(vm_gpa(d.vm, HDR, sizeof(hdr)), &hdr, sizeof(hdr));
	put_desc(d.vm, DESC, 0, HDR, 3, N, 1);
	put_desc(d.vm, DESC, 1, HDR + 3, 9, N, 2);
	put_desc(d.vm, DESC, 2, HDR + 12, 4, N, 3);
	put_desc(d.vm, DESC, 3, BUF, 200, N | W, 4);
	put_desc(d.vm, DESC, 4, BUF + 200, 313, W, 0);
	p = vm_gpa(d.vm, BUF, 513);
	p[512] = 0xee;
	submit(&d, 0);
	CHECK(wait_used(&d, 1));
	CHECK_EQ(p[512], VIRTIO_BLK_S_OK);
	machine_free(&d);
}

/* A broken driver: NEEDS_RESET with a config interrupt; a reset heals. */
TEST(needs_reset)
{
	struct driver d;
	unsigned int msi;

	machine_new(&d);
	for (int kind = 0; kind < 3; kind++) {
		driver_start(&d, 16);
		msi = d.vm->nr_msi;
		lay(&d, 0, VIRTIO_BLK_T_IN, 0, 512, true);
		if (kind == 0)		/* no room for a status */
			put_desc(d.vm, DESC, 0, HDR, 16, 0, 0);
		else if (kind == 1)	/* a short header */
			put_desc(d.vm, DESC, 0, HDR, 15, N, 1);
		else
			put_desc(d.vm, DESC, 1, FAKE_LOW_BYTES, 512, N | W, 2);
		submit(&d, 0);
		CHECK(wait_msi(&d, msi + 1));
		CHECK_EQ(d.vm->msi_data, 0x30);
		CHECK(common_rd(&d, VIRTIO_PCI_COMMON_STATUS, 1) & VIRTIO_CONFIG_S_NEEDS_RESET);
		CHECK_EQ(used_idx(&d), 0);
	}
	driver_start(&d, 16);
	CHECK_EQ(request(&d, VIRTIO_BLK_T_IN, 0, 512, true), VIRTIO_BLK_S_OK);
	/* rings outside RAM */
	common_wr(&d, VIRTIO_PCI_COMMON_STATUS, 1, 0);
	common_wr(&d, VIRTIO_PCI_COMMON_Q_DESCHI, 4, 0x1000);
	common_wr(&d, VIRTIO_PCI_COMMON_Q_ENABLE, 2, 1);
	CHECK_EQ(common_rd(&d, VIRTIO_PCI_COMMON_Q_ENABLE, 2), 0);
	CHECK(common_rd(&d, VIRTIO_PCI_COMMON_STATUS, 1) & VIRTIO_CONFIG_S_NEEDS_RESET);
	machine_free(&d);
}

static void each_device(struct vm *vm, bool resume)
{
	for (struct vm_device *v = vm->devices; v; v = v->next) {
		if (resume && v->ops->resume)
			v->ops->resume(v->opaque);
		if (!resume && v->ops->quiesce)
			v->ops->quiesce(v->opaque);
	}
}

static void *park_and_go(void *arg)
{
	struct driver *d = arg;
	uint32_t s = 77;

	while (!__atomic_load_n(&d->avail_idx, __ATOMIC_RELAXED))
		usleep(10);
	for (int i = 0; i < 3000; i++) {
		uint16_t before;

		each_device(d->vm, false);
		before = used_idx(d);
		for (unsigned int n = rnd(&s) % 400; n; n--)
			__asm__ volatile("" ::: "memory");
		if (i % 64 == 0)
			usleep(200);
		/* parked means parked */
		if (used_idx(d) != before)
			return "used ring moved while parked";
		each_device(d->vm, true);
		for (unsigned int n = rnd(&s) % 4000; n; n--)
			__asm__ volatile("" ::: "memory");
	}
	return NULL;
}

/* Kicks at every moment of quiesce and resume; a lost one hangs a request. */
static void lost_kick(bool event_idx)
{
	struct driver d;
	pthread_t t;
	void *why;

	machine_new(&d);
	d.event_idx = event_idx;
	driver_start(&d, 16);
	pthread_create(&t, NULL, park_and_go, &d);
	for (int i = 0; i < 10000 && !tap_bad; i++)
		CHECK_EQ(request(&d, VIRTIO_BLK_T_IN, i % 64, 512, true), VIRTIO_BLK_S_OK);
	pthread_join(t, &why);
	if (why)
		printf("# %s\n", (char *)why);
	CHECK(!why);
	machine_free(&d);
}

TEST(lost_kick_event_idx)
{
	lost_kick(true);
}

TEST(lost_kick_flags)
{
	lost_kick(false);
}

static void save_all(struct vm *vm, struct state_writer *w)
{
	state_writer_init(w);
	for (struct vm_device *v = vm->devices; v; v = v->next) {
		state_begin(w, v->name, v->version);
		v->ops->save(v->opaque, w);
		state_end(w);
	}
	CHECK_EQ(state_writer_finish(w), 0);
}

static int load_all(struct vm *vm, const void *buf, size_t len)
{
	struct state_blob blob;
	struct state_reader r;
	const char *why;
	uint32_t version;
	int ret;

	ret = state_blob_parse(&blob, buf, len, &why);
	if (ret)
		return ret;
	for (struct vm_device *v = vm->devices; v && !ret; v = v->next) {
		ret = state_blob_find(&blob, v->name, &r, &version);
		if (!ret)
			ret = v->ops->load(v->opaque, &r, version);
		if (!ret)
			ret = r.err;
	}
	state_blob_free(&blob);
	return ret;
}

/* A request that was made while parked completes in the restored machine. */
TEST(save_load)
{
	struct state_writer w, w2;
	struct driver a, b;

	machine_new(&a);
	a.event_idx = true;
	driver_start(&a, 16);
	for (int i = 0; i < 37; i++)
		request(&a, VIRTIO_BLK_T_IN, i, 512, true);
	each_device(a.vm, false);
	lay(&a, 0, VIRTIO_BLK_T_IN, 3, 512, true);
	*(uint16_t *)vm_gpa(a.vm, AVAIL + 4 + 2 * 16, 2) = 37;	/* used_event */
	submit(&a, 0);
	usleep(2000);
	CHECK_EQ(used_idx(&a), 37);
	save_all(a.vm, &w);
	save_all(a.vm, &w2);
	CHECK(w.len == w2.len && !memcmp(w.buf, w2.buf, w.len));
	state_writer_free(&w2);

	machine_new(&b);
	each_device(b.vm, false);
	CHECK_EQ(load_all(b.vm, w.buf, w.len), 0);
	save_all(b.vm, &w2);
	CHECK(w.len == w2.len && !memcmp(w.buf, w2.buf, w.len));
	memcpy(b.vm->low, a.vm->low, FAKE_LOW_BYTES);
	each_device(b.vm, true);
	a.vq.vm = b.vm;
	b.vq = a.vq;
	b.notify = a.notify;
	b.event_idx = true;
	b.avail_idx = a.avail_idx;
	CHECK(wait_used(&b, 38));
	CHECK(wait_msi(&b, 1));
	CHECK_EQ(b.vm->msi_data, 0x31);
	for (int i = 0; i < 20; i++)
		CHECK_EQ(request(&b, VIRTIO_BLK_T_IN, i, 512, true), VIRTIO_BLK_S_OK);
	/* and in the old one, which only paused */
	each_device(a.vm, true);
	CHECK(wait_used(&a, 38));
	state_writer_free(&w);
	state_writer_free(&w2);
	machine_free(&a);
	machine_free(&b);
}

/* Saved state is a file somebody may have edited. */
/* Memory that moved, or went, while the device was still: no old pointer is used. */
TEST(memory_goes)
{
	struct driver d;
	struct vm_device *dev;
	uint8_t *low;

	machine_new(&d);
	driver_start(&d, 16);
	CHECK_EQ(request(&d, VIRTIO_BLK_T_IN, 0, 512, true), VIRTIO_BLK_S_OK);
	dev = d.vm->devices->next;
	dev->ops->quiesce(dev->opaque);
	low = malloc(FAKE_LOW_BYTES);
	memcpy(low, d.vm->low, FAKE_LOW_BYTES);
	free(d.vm->low);
	d.vm->low = low;
	dev->ops->resume(dev->opaque);
	CHECK_EQ(request(&d, VIRTIO_BLK_T_IN, 0, 512, true), VIRTIO_BLK_S_OK);
	dev->ops->quiesce(dev->opaque);
	d.vm->low_gone = true;
	dev->ops->resume(dev->opaque);
	CHECK(common_rd(&d, VIRTIO_PCI_COMMON_STATUS, 1) & VIRTIO_CONFIG_S_NEEDS_RESET);
	CHECK(strstr(d.vm->notice, "outside guest memory"));
	d.vm->low_gone = false;
	machine_free(&d);
}

TEST(load_fuzz)
{
	struct virtio_dev *dev;
	unsigned int taken = 0;
	struct state_writer w;
	struct driver a, b;

	machine_new(&a);
	driver_start(&a, 16);
	request(&a, VIRTIO_BLK_T_IN, 0, 512, true);
	each_device(a.vm, false);
	save_all(a.vm, &w);
	machine_new(&b);
	dev = b.vm->devices->next->opaque;
	for (uint32_t seed = 1; seed < 3000; seed++) {
		uint32_t s = seed * 2654435761u;
		struct state_reader r;
		struct state_blob blob;
		const char *why;
		uint8_t *p;
		size_t len;

		REQUIRE(!state_blob_parse(&blob, w.buf, w.len, &why));
		len = blob.sections[1].len;
		p = malloc(len);
		memcpy(p, blob.sections[1].payload, len);
		for (unsigned int i = rnd(&s) % 4 + 1; i; i--)
			p[len - 1 - rnd(&s) % (rnd(&s) % 2 ? 80 : len)] = rnd(&s);
		r = (struct state_reader){ .p = p, .end = p + len - (rnd(&s) % 8 ? 0 : rnd(&s) % len) };
		each_device(b.vm, false);
		if (!dev->entry.ops->load(dev, &r, 1) && !r.err) {
			taken++;
			memcpy(b.vm->low, a.vm->low, FAKE_LOW_BYTES);
			each_device(b.vm, true);
			each_device(b.vm, false);
		}
		dev->entry.ops->reset(dev);
		each_device(b.vm, true);
		free(p);
		state_blob_free(&blob);
	}
	printf("# %u of 2999 altered states were loadable\n", taken);
	CHECK(taken > 100);
	state_writer_free(&w);
	machine_free(&a);
	machine_free(&b);
}

/* Random register and ring writes into a live device. */
TEST(device_fuzz)
{
	struct driver d;

	machine_new(&d);
	CHECK_EQ(virtio_rng_add(d.vm, d.bus, 0), 0);
	for (uint32_t seed = 1; seed <= 300; seed++) {
		uint32_t s = seed * 2654435761u;

		d.event_idx = rnd(&s) % 2;
		driver_start(&d, 1u << (3 + rnd(&s) % 6));
		if (tap_bad)
			break;
		for (int i = 0; i < 60; i++) {
			uint64_t off = rnd(&s) % 3 ? rnd(&s) % 64 : rnd(&s) % 0x4000;
			unsigned int len = 1u << rnd(&s) % 4;

			scramble(d.vm, &d.vq, &s);
			fake_write(d.vm, d.notify, 4, rnd(&s));
			if (rnd(&s) % 4 == 0)
				fake_write(d.vm, d.common + off, len,
					   rnd(&s) % 2 ? rnd(&s) : rnd(&s) % 20);
			fake_read(d.vm, d.common + off, len);
			fake_read(d.vm, d.msix + off, len);
			if (rnd(&s) % 16 == 0)
				fake_cfg_write(d.vm, 1 + rnd(&s) % 2, off & 0xfc, 4, rnd(&s));
		}
		pci_dev_reset(&((struct virtio_dev *)d.vm->devices->next->opaque)->pci);
	}
	/* Still of use to an honest driver. */
	d.event_idx = true;
	driver_start(&d, 16);
	CHECK_EQ(request(&d, VIRTIO_BLK_T_IN, 0, 512, true), VIRTIO_BLK_S_OK);
	machine_free(&d);
}

int main(void)
{
	int fd = mkostemp(image_path, O_CLOEXEC);

	if (fd < 0 || ftruncate(fd, IMAGE_BYTES))
		return 1;
	close(fd);
	RUN(good_chain);
	RUN(bad_head);
	RUN(bad_avail_jump);
	RUN(bad_next);
	RUN(bad_loop);
	RUN(bad_self_loop);
	RUN(bad_zero);
	RUN(bad_out_of_ram);
	RUN(bad_past_ram);
	RUN(bad_past_high);
	RUN(bad_wrap);
	RUN(bad_huge);
	RUN(bad_order);
	RUN(bad_ind_next);
	RUN(bad_ind_len);
	RUN(bad_ind_empty);
	RUN(bad_ind_ram);
	RUN(bad_ind_nested);
	RUN(bad_ind_self);
	RUN(bad_ind_loop);
	RUN(bad_ind_range);
	RUN(bad_ind_not_ours);
	RUN(bad_ind_long);
	RUN(bad_rings);
	RUN(ring_fuzz);
	RUN(registers);
	RUN(config_window);
	RUN(disk_event_idx);
	RUN(disk_flags);
	RUN(disk_slow_kick);
	RUN(odd_buffers);
	RUN(needs_reset);
	RUN(lost_kick_event_idx);
	RUN(lost_kick_flags);
	RUN(save_load);
	RUN(memory_goes);
	RUN(load_fuzz);
	RUN(device_fuzz);
	unlink(image_path);
	return tap_done();
}
