// SPDX-License-Identifier: LGPL-2.1-or-later
/*
 * The network device and its far end, without KVM and without privileges: a driver
 * on one side, the stream protocol on the other.
 */
#include <arpa/inet.h>
#include <fcntl.h>
#include <linux/pci_regs.h>
#include <linux/virtio_config.h>
#include <linux/virtio_net.h>
#include <linux/virtio_pci.h>
#include <linux/virtio_ring.h>
#include <poll.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/un.h>
#include <unistd.h>

#include "fake_vm.h"
#include "run/config.h"
#include "run/net.h"
#include "run/virtio_net.h"
#include "run/virtio_pci.h"
#include "tap.h"

#define HDR		NET_HDR_BYTES
#define QSIZE		16u
#define RING(q)		(0x10000u + (q) * 0x4000u)	/* descriptors, then the two rings */
#define AVAIL(q)	(RING(q) + 0x1000u)
#define USED(q)		(RING(q) + 0x2000u)
#define BUF(q, n)	(0x40000u + (q) * 0x40000u + (n) * 0x2000u)
#define BUF_BYTES	0x1000u

static char dir[] = "/tmp/vmplat-net-XXXXXX";
static char path[64];

struct driver {
	struct vm *vm;
	struct pci_bus *bus;
	struct net *net;
	uint64_t common, notify;
	uint16_t avail[2], seen[2];
};

/* --- the driver --------------------------------------------------------------- */

static void common_wr(struct driver *d, unsigned int off, unsigned int len, uint32_t val)
{
	fake_write(d->vm, d->common + off, len, val);
}

static void find_regions(struct driver *d)
{
	unsigned int at = fake_cfg_read(d->vm, 1, PCI_CAPABILITY_LIST, 1);
	uint64_t bar = fake_cfg_read(d->vm, 1, PCI_BASE_ADDRESS_0, 4);

	for (; at; at = fake_cfg_read(d->vm, 1, at + 1, 1)) {
		uint64_t addr = bar + fake_cfg_read(d->vm, 1, at + 8, 4);

		if (fake_cfg_read(d->vm, 1, at, 1) != PCI_CAP_ID_VNDR)
			continue;
		if (fake_cfg_read(d->vm, 1, at + 3, 1) == VIRTIO_PCI_CAP_COMMON_CFG)
			d->common = addr;
		if (fake_cfg_read(d->vm, 1, at + 3, 1) == VIRTIO_PCI_CAP_NOTIFY_CFG)
			d->notify = addr;
	}
}

static void driver_start(struct driver *d, uint64_t features)
{
	fake_cfg_write(d->vm, 1, PCI_COMMAND, 2, PCI_COMMAND_MEMORY | PCI_COMMAND_MASTER);
	find_regions(d);
	memset(d->vm->low + RING(0), 0, 0x8000);
	memset(d->avail, 0, sizeof(d->avail));
	memset(d->seen, 0, sizeof(d->seen));
	common_wr(d, VIRTIO_PCI_COMMON_STATUS, 1, 0);
	common_wr(d, VIRTIO_PCI_COMMON_STATUS, 1, 3);
	common_wr(d, VIRTIO_PCI_COMMON_GFSELECT, 4, 0);
	common_wr(d, VIRTIO_PCI_COMMON_GF, 4, (uint32_t)features);
	common_wr(d, VIRTIO_PCI_COMMON_GFSELECT, 4, 1);
	common_wr(d, VIRTIO_PCI_COMMON_GF, 4, 1);
	common_wr(d, VIRTIO_PCI_COMMON_STATUS, 1, 3 | 8);
	for (unsigned int q = 0; q < 2; q++) {
		common_wr(d, VIRTIO_PCI_COMMON_Q_SELECT, 2, q);
		common_wr(d, VIRTIO_PCI_COMMON_Q_SIZE, 2, QSIZE);
		common_wr(d, VIRTIO_PCI_COMMON_Q_DESCLO, 4, RING(q));
		common_wr(d, VIRTIO_PCI_COMMON_Q_AVAILLO, 4, AVAIL(q));
		common_wr(d, VIRTIO_PCI_COMMON_Q_USEDLO, 4, USED(q));
		common_wr(d, VIRTIO_PCI_COMMON_Q_ENABLE, 2, 1);
	}
	common_wr(d, VIRTIO_PCI_COMMON_STATUS, 1, 3 | 8 | 4);
}

static void machine_new(struct driver *d)
{
	struct vm_net cfg = { .kind = VM_NET_SOCKET, .where = path, .mac = { 2, 0, 0, 0, 0, 7 } };
	char err[200] = "";

	*d = (struct driver){ .vm = fake_vm_new() };
	if (pci_bus_new(d->vm, &d->bus) || net_open(&cfg, &d->net, err, sizeof(err)) ||
	    virtio_net_add(d->vm, d->bus, 0, d->net, cfg.mac, NULL)) {
		printf("# %s\n", err);
		abort();
	}
}

static void machine_free(struct driver *d)
{
	fake_vm_free(d->vm);
}

static void put_desc(struct driver *d, unsigned int q, unsigned int n, uint64_t addr,
		     uint32_t len, uint16_t flags)
{
	struct vring_desc desc = { .addr = addr, .len = len, .flags = flags };

	memcpy(vm_gpa(d->vm, RING(q) + n * sizeof(desc), sizeof(desc)), &desc, sizeof(desc));
}

static void offer(struct driver *d, unsigned int q, uint16_t head)
{
	uint16_t *ring = vm_gpa(d->vm, AVAIL(q), 4 + 2 * QSIZE);

	ring[2 + d->avail[q] % QSIZE] = head;
	__atomic_store_n(&ring[1], ++d->avail[q], __ATOMIC_SEQ_CST);
	fake_write(d->vm, d->notify + 4 * q, 2, q);
}

/* empty buffers @first .. @first + @nr of @bytes each */
static void stock(struct driver *d, unsigned int first, unsigned int nr, uint32_t bytes)
{
	for (unsigned int n = first; n < first + nr; n++) {
		put_desc(d, 0, n % QSIZE, BUF(0, n % QSIZE), bytes, VRING_DESC_F_WRITE);
		offer(d, 0, (uint16_t)(n % QSIZE));
	}
}

static bool wait_used(struct driver *d, unsigned int q, uint16_t nr)
{
	uint16_t *used = vm_gpa(d->vm, USED(q), 4);

	for (int i = 0; i < 100000; i++) {
		if ((uint16_t)(__atomic_load_n(&used[1], __ATOMIC_SEQ_CST) - d->seen[q]) >= nr)
			return true;
		usleep(100);
	}
	return false;
}

static bool nothing_used(struct driver *d, unsigned int q)
{
	uint16_t *used = vm_gpa(d->vm, USED(q), 4);

	usleep(50000);
	return __atomic_load_n(&used[1], __ATOMIC_SEQ_CST) == d->seen[q];
}

static struct vring_used_elem take_used(struct driver *d, unsigned int q)
{
	struct vring_used_elem e;

	memcpy(&e, vm_gpa(d->vm, USED(q) + 4 + 8 * (d->seen[q] % QSIZE), 8), 8);
	d->seen[q]++;
	return e;
}

/* --- the far end ---------------------------------------------------------------- */

static int far_connect(void)
{
	struct sockaddr_un sa = { .sun_family = AF_UNIX };
	int fd = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0);
	struct timeval patience = { .tv_sec = 10 };

	strcpy(sa.sun_path, path);
	setsockopt(fd, SOL_SOCKET, SO_RCVTIMEO, &patience, sizeof(patience));
	setsockopt(fd, SOL_SOCKET, SO_SNDTIMEO, &patience, sizeof(patience));
	for (int i = 0; i < 1000; i++) {
		if (!connect(fd, (struct sockaddr *)&sa, sizeof(sa)))
			return fd;
		usleep(10000);
	}
	close(fd);
	return -1;
}

static void pattern(uint8_t *p, size_t n, unsigned int seed)
{
	for (size_t i = 0; i < n; i++)
		p[i] = (uint8_t)(i * 7 + i / 256 + seed);
}

static bool far_send(int fd, size_t bytes, unsigned int seed)
{
	static uint8_t buf[4 + NET_FRAME_MAX];
	uint32_t len = htonl((uint32_t)bytes);

	memcpy(buf, &len, 4);
	pattern(buf + 4, bytes, seed);
	return send(fd, buf, 4 + bytes, MSG_NOSIGNAL) == (ssize_t)(4 + bytes);
}

static bool far_read(int fd, void *buf, size_t n)
{
	return recv(fd, buf, n, MSG_WAITALL) == (ssize_t)n;
}

/* a frame of @bytes arrived, as sent with @seed, over the buffers it took */
static void check_frame(struct driver *d, size_t bytes, unsigned int seed, uint32_t room)
{
	static uint8_t want[NET_FRAME_MAX], got[NET_FRAME_MAX + 2 * BUF_BYTES];
	struct virtio_net_hdr_v1 hdr;
	size_t have = 0;
	unsigned int nr;

	REQUIRE(wait_used(d, 0, 1));
	nr = (unsigned int)((HDR + bytes + room - 1) / room);
	REQUIRE(wait_used(d, 0, (uint16_t)nr));
	for (unsigned int i = 0; i < nr; i++) {
		struct vring_used_elem e = take_used(d, 0);
		uint8_t *p = vm_gpa(d->vm, BUF(0, e.id), room);

		CHECK(e.len <= room);
		if (!i)
			memcpy(&hdr, p, sizeof(hdr));
		memcpy(got + have, p, e.len);
		have += e.len;
	}
	CHECK_EQ(have, HDR + bytes);
	CHECK_EQ(hdr.num_buffers, nr);
	CHECK_EQ(hdr.flags | hdr.gso_type, 0);
	pattern(want, bytes, seed);
	CHECK(!memcmp(got + HDR, want, bytes));
}

/* --- tests ------------------------------------------------------------------------- */

#define MERGE (1ull << VIRTIO_NET_F_MRG_RXBUF | 1ull << VIRTIO_NET_F_MAC)

TEST(config_and_features)
{
	struct driver d;
	uint64_t bar;

	machine_new(&d);
	driver_start(&d, MERGE);
	CHECK_EQ(fake_cfg_read(d.vm, 1, 0, 4), 0x10411af4);
	CHECK_EQ(fake_cfg_read(d.vm, 1, PCI_CLASS_DEVICE, 2), 0x0200);
	bar = fake_cfg_read(d.vm, 1, PCI_BASE_ADDRESS_0, 4);
	CHECK_EQ(fake_read(d.vm, bar + 0x2000, 4), 2);
	CHECK_EQ(fake_read(d.vm, bar + 0x2004, 2), 0x0700);
	common_wr(&d, VIRTIO_PCI_COMMON_DFSELECT, 4, 0);
	/* a stream has no offloads */
	CHECK_EQ(fake_read(d.vm, d.common + VIRTIO_PCI_COMMON_DF, 4) & 0xffffff, MERGE);
	CHECK(d.vm->nr_changed > 0);		/* somebody may have waited for DRIVER_OK */
	machine_free(&d);
	CHECK(access(path, F_OK));		/* the socket is gone with the device */
}

TEST(both_ways)
{
	struct driver d;
	uint8_t head[4], frame[64], want[64];
	int fd;

	machine_new(&d);
	driver_start(&d, MERGE);
	stock(&d, 0, 4, BUF_BYTES);
	fd = far_connect();
	REQUIRE(fd >= 0);
	REQUIRE(far_send(fd, 60, 1));
	check_frame(&d, 60, 1, BUF_BYTES);

	/* header and frame in one buffer, and split in the middle of the header */
	memset(vm_gpa(d.vm, BUF(1, 0), HDR), 0, HDR);
	pattern(vm_gpa(d.vm, BUF(1, 0) + HDR, 60), 60, 2);
	put_desc(&d, 1, 0, BUF(1, 0), HDR + 60, 0);
	offer(&d, 1, 0);
	REQUIRE(wait_used(&d, 1, 1));
	take_used(&d, 1);
	REQUIRE(far_read(fd, head, 4) && far_read(fd, frame, 60));
	pattern(want, 60, 2);
	CHECK(!memcmp(head, "\0\0\0\x3c", 4) && !memcmp(frame, want, 60));
	put_desc(&d, 1, 1, BUF(1, 0), 5, VRING_DESC_F_NEXT);
	((struct vring_desc *)vm_gpa(d.vm, RING(1), 16 * QSIZE))[1].next = 2;
	put_desc(&d, 1, 2, BUF(1, 0) + 5, HDR + 60 - 5, 0);
	offer(&d, 1, 1);
	REQUIRE(far_read(fd, head, 4) && far_read(fd, frame, 60));
	CHECK(!memcmp(head, "\0\0\0\x3c", 4) && !memcmp(frame, want, 60));
	/* too short and too long to be frames: dropped, and the queue goes on */
	put_desc(&d, 1, 3, BUF(1, 0), HDR + 13, 0);
	offer(&d, 1, 3);
	put_desc(&d, 1, 4, 0x1000, NET_FRAME_MAX + HDR + 1, 0);
	offer(&d, 1, 4);
	put_desc(&d, 1, 5, BUF(1, 0), HDR + 60, 0);
	offer(&d, 1, 5);
	REQUIRE(far_read(fd, head, 4) && far_read(fd, frame, 60));
	CHECK(!memcmp(head, "\0\0\0\x3c", 4));
	close(fd);
	machine_free(&d);
}

/* Every length around the edges of buffers; the largest one there is. */
TEST(merged_buffers)
{
	static const size_t lengths[] = {
		14, 1514, BUF_BYTES - HDR - 1, BUF_BYTES - HDR, BUF_BYTES - HDR + 1,
		2 * BUF_BYTES - HDR, 2 * BUF_BYTES - HDR + 1, 15 * BUF_BYTES, 16 * BUF_BYTES - HDR,
	};
	struct driver d;
	int fd;

	machine_new(&d);
	driver_start(&d, MERGE);
	fd = far_connect();
	for (unsigned int i = 0; i < sizeof(lengths) / sizeof(lengths[0]); i++) {
		unsigned int first = d.avail[0];

		stock(&d, first, QSIZE - (uint16_t)(d.avail[0] - d.seen[0]), BUF_BYTES);
		REQUIRE(far_send(fd, lengths[i], i));
		check_frame(&d, lengths[i], i, BUF_BYTES);
	}
	close(fd);
	machine_free(&d);
}

/* Frames wait while there are no buffers, and for the rest of them. */
TEST(no_buffers)
{
	struct driver d;
	int fd;

	machine_new(&d);
	driver_start(&d, MERGE);
	fd = far_connect();
	REQUIRE(far_send(fd, 100, 1) && far_send(fd, 3 * BUF_BYTES - HDR, 2) && far_send(fd, 100, 3));
	CHECK(nothing_used(&d, 0));
	stock(&d, 0, 1, BUF_BYTES);
	check_frame(&d, 100, 1, BUF_BYTES);
	stock(&d, 1, 2, BUF_BYTES);
	CHECK(nothing_used(&d, 0));		/* two of three: not even a part is shown */
	stock(&d, 3, 1, BUF_BYTES);
	check_frame(&d, 3 * BUF_BYTES - HDR, 2, BUF_BYTES);
	stock(&d, 4, 1, BUF_BYTES);
	check_frame(&d, 100, 3, BUF_BYTES);
	close(fd);
	machine_free(&d);
}

/* Without merging, or in a queue that cannot hold it: dropped, the next one comes. */
TEST(too_long)
{
	struct driver d;
	int fd;

	machine_new(&d);
	driver_start(&d, 0);
	stock(&d, 0, 2, BUF_BYTES);
	fd = far_connect();
	REQUIRE(far_send(fd, BUF_BYTES, 1) && far_send(fd, 100, 2));
	check_frame(&d, 100, 2, BUF_BYTES);
	driver_start(&d, MERGE);
	stock(&d, 0, QSIZE, 64);
	REQUIRE(far_send(fd, QSIZE * 64 - HDR + 1, 3) && far_send(fd, QSIZE * 64 - HDR, 4));
	check_frame(&d, QSIZE * 64 - HDR, 4, 64);
	close(fd);
	machine_free(&d);
}

/* A length that is none ends the connection, not the device; the next one is served. */
TEST(far_end_misbehaves)
{
	static const uint32_t bad[] = { 0, NET_FRAME_MAX + 1, 0xffffffff };
	struct driver d;
	uint8_t c;
	int fd;

	machine_new(&d);
	driver_start(&d, MERGE);
	stock(&d, 0, 8, BUF_BYTES);
	for (unsigned int i = 0; i < 3; i++) {
		uint32_t len = htonl(bad[i]);

		fd = far_connect();
		REQUIRE(send(fd, &len, 4, MSG_NOSIGNAL) == 4);
		CHECK_EQ(recv(fd, &c, 1, 0), 0);	/* hung up */
		close(fd);
	}
	fd = far_connect();		/* a frame in crumbs */
	for (unsigned int i = 0; i < 4 + 20; i++) {
		uint8_t b = i < 3 ? 0 : i == 3 ? 20 : (uint8_t)((i - 4) * 7 + 9);

		REQUIRE(send(fd, &b, 1, MSG_NOSIGNAL) == 1);
	}
	check_frame(&d, 20, 9, BUF_BYTES);
	close(fd);
	machine_free(&d);
}

/* A far end that does not read: frames are dropped, whole ones; none is torn. */
TEST(far_end_is_slow)
{
	static uint8_t frame[NET_FRAME_MAX], want[NET_FRAME_MAX];
	struct driver d;
	unsigned int got = 0;
	int fd, status;

	machine_new(&d);
	driver_start(&d, MERGE);
	fd = far_connect();
	memset(vm_gpa(d.vm, BUF(1, 0), HDR), 0, HDR);
	pattern(vm_gpa(d.vm, BUF(1, 0) + HDR, 9000), 9000, 5);
	put_desc(&d, 1, 0, BUF(1, 0), HDR + 9000, 0);
	for (unsigned int i = 0; i < 400; i++) {
		offer(&d, 1, 0);
		REQUIRE(wait_used(&d, 1, 1));
		take_used(&d, 1);
	}
	pattern(want, 9000, 5);
	status = fcntl(fd, F_GETFL);
	for (;; got++) {
		struct pollfd p = { .fd = fd, .events = POLLIN };
		uint32_t len;

		if (poll(&p, 1, 300) != 1)
			break;
		REQUIRE(far_read(fd, &len, 4));
		REQUIRE(ntohl(len) == 9000 && far_read(fd, frame, 9000));
		CHECK(!memcmp(frame, want, 9000));
	}
	CHECK(status >= 0 && got > 1 && got < 400);
	printf("# %u of 400 frames went through\n", got);
	offer(&d, 1, 0);
	CHECK(far_read(fd, frame, 4 + 9000));
	close(fd);
	machine_free(&d);
}

/* Two of us: the first listens, the second connects; either may come back. */
TEST(two_ends)
{
	struct vm_net cfg = { .kind = VM_NET_SOCKET, .where = path };
	static uint8_t buf[HDR + NET_FRAME_MAX];
	uint8_t frame[HDR + 60] = { 0 };
	struct net *a, *b;
	char err[200];

	for (int round = 0; round < 3; round++) {
		struct iovec iov = { frame, sizeof(frame) };
		struct stat st;
		size_t n = 0;

		REQUIRE(!net_open(&cfg, &a, err, sizeof(err)));
		REQUIRE(!stat(path, &st));
		CHECK_EQ(st.st_mode & 0777, 0600);
		REQUIRE(!net_open(&cfg, &b, err, sizeof(err)));
		pattern(frame + HDR, 60, (unsigned int)round);
		net_event(a, 0);		/* accepts */
		net_send(b, &iov, 1);
		for (int i = 0; i < 1000 && !n; i++, usleep(1000))
			n = net_recv(a, buf);
		CHECK_EQ(n, sizeof(frame));
		CHECK(!memcmp(buf, frame, sizeof(frame)));
		if (round == 1) {		/* the one that listens goes first, and comes back */
			net_close(a);
			REQUIRE(!net_recv(b, buf));
			net_event(b, 0);
			usleep(1100000);
			net_event(b, 0);	/* now b listens */
			REQUIRE(!net_open(&cfg, &a, err, sizeof(err)));
			net_event(b, 0);
			iov = (struct iovec){ frame, sizeof(frame) };
			net_send(a, &iov, 1);
			for (int i = 0; i < 1000 && !(n = net_recv(b, buf)); i++)
				usleep(1000);
			CHECK_EQ(n, sizeof(frame));
		}
		net_close(b);
		net_close(a);
	}
	/* what a dead one left is replaced; what is no socket is not */
	{
		struct sockaddr_un sa = { .sun_family = AF_UNIX };
		int fd = socket(AF_UNIX, SOCK_STREAM, 0);

		strcpy(sa.sun_path, path);
		REQUIRE(!bind(fd, (struct sockaddr *)&sa, sizeof(sa)));
		close(fd);
		REQUIRE(!net_open(&cfg, &a, err, sizeof(err)));
		net_close(a);
		close(open(path, O_CREAT | O_WRONLY | O_CLOEXEC, 0600));
		CHECK(net_open(&cfg, &a, err, sizeof(err)) < 0);
		CHECK(!access(path, F_OK));
		unlink(path);
	}
}

/* Quiesced, it touches neither memory nor network; resumed, nothing is lost. */
TEST(quiesce)
{
	struct driver d;
	struct vm_device *dev;
	int fd;

	machine_new(&d);
	driver_start(&d, MERGE);
	stock(&d, 0, 8, BUF_BYTES);
	fd = far_connect();
	REQUIRE(far_send(fd, 60, 1));
	check_frame(&d, 60, 1, BUF_BYTES);
	dev = d.vm->devices->next;
	for (unsigned int i = 0; i < 3; i++) {
		dev->ops->quiesce(dev->opaque);
		REQUIRE(far_send(fd, 60, 2 + i));
		CHECK(nothing_used(&d, 0));
		dev->ops->resume(dev->opaque);
		check_frame(&d, 60, 2 + i, BUF_BYTES);
	}
	close(fd);
	machine_free(&d);
}

/* Words of the command line. */
TEST(parse)
{
	static const struct { const char *text, *why; } bad[] = {
		{ "", "to what" }, { "wire", "none of" }, { "tap", "needs the name" },
		{ "tap=", "needs the name" }, { "tap=a/b", "no name" },
		{ "tap=sixteen-letters-", "no name" }, { "passt=x", "no value" },
		{ "tap=a,socket=b", "one network device has one" },
		{ "passt,mac=1:2", "no MAC" }, { "passt,mac=02:00:00:00:00:0g", "no MAC" },
		{ "passt,id=", "1 to 31" }, { "passt,,", "none of" },
	};
	struct vm_config cfg = { 0 };
	struct vm_net n;
	struct vm_disk k;

	for (unsigned int i = 0; i < sizeof(bad) / sizeof(bad[0]); i++) {
		const char *why = vm_net_parse(&n, bad[i].text);

		CHECK(why && strstr(why, bad[i].why));
		CHECK(!n.where);
	}
	REQUIRE(!vm_net_parse(&n, "id=lan,tap=t0,mac=02:00:00:00:00:01"));
	CHECK(n.kind == VM_NET_TAP && !strcmp(n.where, "t0") && !strcmp(n.id, "lan") && n.mac[5] == 1);
	REQUIRE(!vm_config_add_net(&cfg, &n));
	CHECK(strstr(vm_config_add_net(&cfg, &n), "already"));
	n.id[0] = 0;
	n.mac[0] = 1;
	CHECK(strstr(vm_config_add_net(&cfg, &n), "multicast"));
	memset(n.mac, 0, 6);
	REQUIRE(!vm_config_add_net(&cfg, &n));
	CHECK(!strcmp(cfg.nets[1].id, "net0") && (cfg.nets[1].mac[0] & 3) == 2);
	free(n.where);
	/* a file's name may have commas */
	REQUIRE(!vm_disk_parse(&k, "a,b,ro,id=x"));
	CHECK(!strcmp(k.path, "a,b") && k.readonly && !strcmp(k.id, "x"));
	REQUIRE(!vm_config_add_disk(&cfg, &k));
	k.slot = 31;
	k.id[0] = 0;
	CHECK(strstr(vm_config_add_disk(&cfg, &k), "no PCI slot 31"));
	free(k.path);
	CHECK(vm_disk_parse(&k, ",ro"));
	vm_config_remove(&cfg, "lan");
	CHECK_EQ(cfg.nr_nets, 1);
	CHECK(!strcmp(cfg.nets[0].id, "net0"));
	vm_config_free(&cfg);
}

int main(void)
{
	if (!mkdtemp(dir))
		return 1;
	snprintf(path, sizeof(path), "%s/wire", dir);
	RUN(parse);
	RUN(config_and_features);
	RUN(both_ways);
	RUN(merged_buffers);
	RUN(no_buffers);
	RUN(too_long);
	RUN(far_end_misbehaves);
	RUN(far_end_is_slow);
	RUN(two_ends);
	RUN(quiesce);
	unlink(path);
	rmdir(dir);
	return tap_done();
}
