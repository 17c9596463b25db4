// SPDX-License-Identifier: GPL-2.0-only
/* See writers.h. */
#include <fcntl.h>
#include <liburing.h>
#include <linux/loop.h>
#include <pthread.h>
#include <signal.h>
#include <stdatomic.h>
#include <sys/ioctl.h>
#include <sys/mman.h>
#include <sys/prctl.h>
#include <sys/uio.h>
#include <sys/wait.h>
#include <unistd.h>

#include "mem/util.h"
#include "mem/writers.h"

#define SLOT		64
#define SECTOR		512
#define FIRST_SECTOR	6	/* of W_DIRECT; the small slots lie before it */

const char *const writer_names[NR_WRITERS] = {
	[W_SEQ] = "seq", [W_RANDOM] = "random", [W_PROCESS] = "process", [W_PWRITE] = "pwrite",
	[W_READ] = "read", [W_URING] = "io_uring", [W_SPLICE] = "splice",
	[W_VMSPLICE] = "vmsplice", [W_VM_WRITEV] = "process_vm_writev",
	[W_PROC_MEM] = "/proc/PID/mem", [W_KVM] = "kvm", [W_REMAP] = "remap",
	[W_DIRECT] = "O_DIRECT", [W_URING_DIRECT] = "io_uring O_DIRECT", [W_PUNCH] = "punch",
};

/* Shared with the second process. */
struct shared {
	pthread_rwlock_t gate;	/* writers hold it for reading during each batch */
	atomic_bool stop;
	atomic_ulong ops[NR_WRITERS];
	_Atomic uint32_t done[];	/* [writer][page] */
};

static struct {
	struct shared *sh;
	size_t sh_bytes;
	int mem_fd;
	char *map;
	uint64_t nr_pages;
	uint32_t active;
	pthread_t threads[NR_WRITERS];
	pid_t child;
	int child_pipe;		/* closed by writers_stop(): the child may go */
	struct kvm_guest *kvm;
	char loop_path[32];
	int loop_fd;
} all;

struct ctx {
	enum writer id;
	uint64_t seed;
	uint64_t cursor;
	char *map;
	int pipe[2];
	int fd;
	struct io_uring ring;
	bool fixed;
	char *buf;		/* page aligned */
};

bool is_hole(uint64_t page)
{
	return page % 8 == 7;
}

static size_t slot_at(enum writer w)
{
	return w < W_DIRECT ? w * SLOT : (FIRST_SECTOR + w - W_DIRECT) * SECTOR;
}

static size_t slot_bytes(enum writer w)
{
	return w < W_DIRECT ? SLOT : SECTOR;
}

uint32_t slot_gen(const void *page, enum writer w)
{
	uint32_t gen;

	memcpy(&gen, (const char *)page + slot_at(w), sizeof(gen));
	return gen;
}

static _Atomic uint32_t *done_at(enum writer w, uint64_t page)
{
	return &all.sh->done[w * all.nr_pages + page];
}

uint32_t done_gen(enum writer w, uint64_t page)
{
	return atomic_load(done_at(w, page));
}

static void fill(void *slot, enum writer w, uint32_t gen)
{
	uint32_t *p = slot;

	for (size_t i = 0; i < slot_bytes(w) / 4; i++)
		p[i] = gen;
}

/* ---- one write of each kind --------------------------------------------- */

static int by_store(struct ctx *c, uint64_t page, uint32_t gen)
{
	volatile uint32_t *p = (void *)(c->map + page * PAGE + slot_at(c->id));

	for (size_t i = 0; i < SLOT / 4; i++)
		p[i] = gen;
	return 0;
}

static int by_pwrite(struct ctx *c, uint64_t page, uint32_t gen)
{
	fill(c->buf, c->id, gen);
	return pwrite(all.mem_fd, c->buf, SLOT, page * PAGE + slot_at(c->id)) == SLOT ? 0 : -1;
}

static int into_pipe(struct ctx *c, uint32_t gen)
{
	fill(c->buf, c->id, gen);
	return write(c->pipe[1], c->buf, SLOT) == SLOT ? 0 : -1;
}

static int by_read(struct ctx *c, uint64_t page, uint32_t gen)
{
	if (into_pipe(c, gen))
		return -1;
	return read(c->pipe[0], c->map + page * PAGE + slot_at(c->id), SLOT) == SLOT ? 0 : -1;
}

static int by_splice(struct ctx *c, uint64_t page, uint32_t gen)
{
	loff_t at = page * PAGE + slot_at(c->id);

	if (into_pipe(c, gen))
		return -1;
	return splice(c->pipe[0], NULL, all.mem_fd, &at, SLOT, 0) == SLOT ? 0 : -1;
}

static int by_vmsplice(struct ctx *c, uint64_t page, uint32_t gen)
{
	struct iovec iov = { c->map + page * PAGE + slot_at(c->id), SLOT };

	if (into_pipe(c, gen))
		return -1;
	return vmsplice(c->pipe[0], &iov, 1, 0) == SLOT ? 0 : -1;
}

static int by_vm_writev(struct ctx *c, uint64_t page, uint32_t gen)
{
	struct iovec local = { c->buf, SLOT };
	struct iovec remote = { c->map + page * PAGE + slot_at(c->id), SLOT };

	fill(c->buf, c->id, gen);
	return process_vm_writev(all.child, &local, 1, &remote, 1, 0) == SLOT ? 0 : -1;
}

static int by_proc_mem(struct ctx *c, uint64_t page, uint32_t gen)
{
	off_t at = (off_t)(uintptr_t)(c->map + page * PAGE + slot_at(c->id));

	fill(c->buf, c->id, gen);
	return pwrite(c->fd, c->buf, SLOT, at) == SLOT ? 0 : -1;
}

static int uring_read(struct ctx *c, void *to, size_t bytes, off_t at)
{
	struct io_uring_sqe *sqe = io_uring_get_sqe(&c->ring);
	struct io_uring_cqe *cqe;
	int res;

	if (c->fixed)
		io_uring_prep_read_fixed(sqe, c->fd, to, bytes, at, 0);
	else
		io_uring_prep_read(sqe, c->fd, to, bytes, at);
	if (io_uring_submit_and_wait(&c->ring, 1) < 0 || io_uring_wait_cqe(&c->ring, &cqe))
		return -1;
	res = cqe->res;
	io_uring_cqe_seen(&c->ring, cqe);
	if (res < 0)
		errno = -res;
	return res == (int)bytes ? 0 : -1;
}

static int by_uring(struct ctx *c, uint64_t page, uint32_t gen)
{
	fill(c->buf, c->id, gen);
	if (pwrite(c->fd, c->buf, SLOT, 0) != SLOT)
		return -1;
	return uring_read(c, c->map + page * PAGE + slot_at(c->id), SLOT, 0);
}

/* A sector of the block device for each writer. */
static int prepare_sector(struct ctx *c, uint32_t gen, off_t *at)
{
	*at = c->id * PAGE;
	fill(c->buf, c->id, gen);
	return pwrite(c->fd, c->buf, SECTOR, *at) == SECTOR ? 0 : -1;
}

static int by_direct(struct ctx *c, uint64_t page, uint32_t gen)
{
	off_t at;

	if (prepare_sector(c, gen, &at))
		return -1;
	return pread(c->fd, c->map + page * PAGE + slot_at(c->id), SECTOR, at) == SECTOR ? 0 : -1;
}

static int by_uring_direct(struct ctx *c, uint64_t page, uint32_t gen)
{
	off_t at;

	if (prepare_sector(c, gen, &at))
		return -1;
	return uring_read(c, c->map + page * PAGE + slot_at(c->id), SECTOR, at);
}

static int (*const write_slot[NR_SLOTS])(struct ctx *c, uint64_t page, uint32_t gen) = {
	[W_SEQ] = by_store, [W_RANDOM] = by_store, [W_PROCESS] = by_store,
	[W_PWRITE] = by_pwrite, [W_READ] = by_read, [W_URING] = by_uring,
	[W_SPLICE] = by_splice, [W_VMSPLICE] = by_vmsplice, [W_VM_WRITEV] = by_vm_writev,
	[W_PROC_MEM] = by_proc_mem, [W_REMAP] = by_store, [W_DIRECT] = by_direct,
	[W_URING_DIRECT] = by_uring_direct,
};

/* ---- batches ------------------------------------------------------------ */

/* Mostly a hot spot that wanders, sometimes anywhere. */
static uint64_t pick(struct ctx *c)
{
	if (c->id == W_SEQ)
		return c->cursor = (c->cursor + 1) % all.nr_pages;
	if (rnd(&c->seed) % 64 == 0)
		c->cursor = rnd(&c->seed) % all.nr_pages;
	if (rnd(&c->seed) % 4)
		return (c->cursor + rnd(&c->seed) % 32) % all.nr_pages;
	return rnd(&c->seed) % all.nr_pages;
}

static void failed(struct ctx *c, const char *what)
{
	bail("writer %s: %s", writer_names[c->id], what);
}

static void batch_slots(struct ctx *c)
{
	for (int i = 0; i < 16; i++) {
		uint64_t page = pick(c);
		uint32_t gen = done_gen(c->id, page) + 1;

		if (write_slot[c->id](c, page, gen))
			failed(c, "a write failed");
		atomic_store(done_at(c->id, page), gen);
		all.sh->ops[c->id]++;
	}
}

static void batch_kvm(struct ctx *c)
{
	uint64_t page = pick(c), n = 1 + rnd(&c->seed) % 32;
	static uint32_t gen;

	if (n > all.nr_pages - page)
		n = all.nr_pages - page;
	gen++;
	if (kvm_fill(all.kvm, page * PAGE + slot_at(W_KVM), n, gen))
		failed(c, "the guest failed");
	for (uint64_t i = 0; i < n; i++)
		atomic_store(done_at(W_KVM, page + i), gen);
	all.sh->ops[W_KVM] += n;
}

static void batch_punch(struct ctx *c)
{
	for (int i = 0; i < 4; i++) {
		uint64_t page = pick(c) | 7;

		if (page >= all.nr_pages)
			continue;
		if (fallocate(all.mem_fd, FALLOC_FL_PUNCH_HOLE | FALLOC_FL_KEEP_SIZE,
			      page * PAGE, PAGE))
			failed(c, "punching a hole");
		all.sh->ops[W_PUNCH]++;
	}
}

static void batch_remap(struct ctx *c)
{
	c->map = map_mem(all.mem_fd, all.nr_pages * PAGE);
	batch_slots(c);
	munmap(c->map, all.nr_pages * PAGE);
}

static void run(struct ctx *c)
{
	while (!all.sh->stop) {
		pthread_rwlock_rdlock(&all.sh->gate);
		if (c->id == W_KVM)
			batch_kvm(c);
		else if (c->id == W_PUNCH)
			batch_punch(c);
		else if (c->id == W_REMAP)
			batch_remap(c);
		else
			batch_slots(c);
		pthread_rwlock_unlock(&all.sh->gate);
	}
}

/* ---- set-up ------------------------------------------------------------- */

static bool loop_open(void)
{
	struct loop_config cfg = { .info.lo_flags = LO_FLAGS_AUTOCLEAR };
	int ctl, nr, file;

	if (access("/dev/loop-control", F_OK) && system("modprobe loop 2>/dev/null"))
		return false;
	ctl = open("/dev/loop-control", O_RDWR | O_CLOEXEC);
	if (ctl < 0)
		return false;
	nr = ioctl(ctl, LOOP_CTL_GET_FREE);
	close(ctl);
	if (nr < 0)
		return false;
	snprintf(all.loop_path, sizeof(all.loop_path), "/dev/loop%d", nr);
	file = need(open("/tmp", O_TMPFILE | O_RDWR | O_CLOEXEC, 0600));
	need(ftruncate(file, 1 << 20));
	all.loop_fd = need(open(all.loop_path, O_RDWR | O_CLOEXEC));
	cfg.fd = file;
	need(ioctl(all.loop_fd, LOOP_CONFIGURE, &cfg));
	close(file);
	return true;
}

static bool uring_open(struct ctx *c)
{
	struct iovec iov = { c->map, (all.nr_pages < 64 ? all.nr_pages : 64) * PAGE };

	if (io_uring_queue_init(8, &c->ring, 0))
		return false;
	/* Pinned for long, a page cannot be tracked: to be refused, not to be lost. */
	if (io_uring_register_buffers(&c->ring, &iov, 1) == 0) {
		diag("io_uring fixed buffers are accepted");
		io_uring_unregister_buffers(&c->ring);
	}
	return true;
}

static const char *open_writer(struct ctx *c)
{
	char path[32];

	switch (c->id) {
	case W_READ:
	case W_SPLICE:
	case W_VMSPLICE:
		need(pipe2(c->pipe, O_CLOEXEC));
		return NULL;
	case W_URING:
		c->fd = need(memfd_create("source", MFD_CLOEXEC));
		return uring_open(c) ? NULL : "no io_uring";
	case W_URING_DIRECT:
		if (!uring_open(c))
			return "no io_uring";
		/* fall through */
	case W_DIRECT:
		if (!all.loop_fd && !loop_open())
			return "no loop device";
		c->fd = open(all.loop_path, O_RDWR | O_DIRECT | O_CLOEXEC);
		return c->fd < 0 ? "no O_DIRECT" : NULL;
	case W_PROC_MEM:
		snprintf(path, sizeof(path), "/proc/%d/mem", all.child);
		c->fd = need(open(path, O_RDWR | O_CLOEXEC));
		return NULL;
	case W_KVM:
		all.kvm = kvm_new(all.map, all.nr_pages * PAGE);
		return all.kvm ? NULL : "no KVM";
	default:
		return NULL;
	}
}

struct start {
	struct ctx ctx;
	pthread_barrier_t ready;
	const char *refused;
};

static void ctx_init(struct ctx *c, enum writer id)
{
	*c = (struct ctx) {
		.id = id, .seed = 0x9e3779b97f4a7c15ULL * (id + 1) ^ now_ns(), .map = all.map,
		.fd = -1,
	};
	c->buf = aligned_alloc(PAGE, PAGE);
}

/* A KVM vCPU belongs to the thread that made it, and so may a ring. */
static void *thread(void *arg)
{
	struct start *s = arg;
	struct ctx c = s->ctx;
	bool refused;

	s->refused = open_writer(&c);
	refused = s->refused;
	pthread_barrier_wait(&s->ready);
	if (!refused)
		run(&c);
	free(c.buf);
	return NULL;
}

static void start_thread(enum writer id)
{
	struct start s = { };

	ctx_init(&s.ctx, id);
	pthread_barrier_init(&s.ready, NULL, 2);
	if (pthread_create(&all.threads[id], NULL, thread, &s))
		bail("pthread_create");
	pthread_barrier_wait(&s.ready);
	pthread_barrier_destroy(&s.ready);	/* waits until the thread has left it */
	if (s.refused) {
		diag("writer %s is left out: %s", writer_names[id], s.refused);
		pthread_join(all.threads[id], NULL);
		return;
	}
	all.active |= 1u << id;
}

static void child_main(int go, bool write)
{
	struct ctx c;
	char byte;

	prctl(PR_SET_PDEATHSIG, SIGKILL);
	ctx_init(&c, W_PROCESS);
	/* Same address, other mapping: what W_VM_WRITEV and W_PROC_MEM write to. */
	if (write)
		run(&c);
	if (read(go, &byte, 1) < 0)
		_exit(1);
	_exit(0);
}

static void start_child(bool write)
{
	int fds[2];

	need(pipe2(fds, O_CLOEXEC));
	all.child = need(fork());
	if (!all.child) {
		close(fds[1]);
		child_main(fds[0], write);
	}
	close(fds[0]);
	all.child_pipe = fds[1];
	if (write)
		all.active |= 1u << W_PROCESS;
}

static void share(void)
{
	pthread_rwlockattr_t attr;

	all.sh_bytes = sizeof(*all.sh) + NR_SLOTS * all.nr_pages * sizeof(uint32_t);
	all.sh = mmap(NULL, all.sh_bytes, PROT_READ | PROT_WRITE, MAP_SHARED | MAP_ANONYMOUS, -1, 0);
	if (all.sh == MAP_FAILED)
		bail("mmap");
	pthread_rwlockattr_init(&attr);
	pthread_rwlockattr_setpshared(&attr, PTHREAD_PROCESS_SHARED);
	pthread_rwlockattr_setkind_np(&attr, PTHREAD_RWLOCK_PREFER_WRITER_NONRECURSIVE_NP);
	pthread_rwlock_init(&all.sh->gate, &attr);
}

void writers_start(int mem_fd, void *map, uint64_t nr_pages, uint32_t mask)
{
	all.mem_fd = mem_fd;
	all.map = map;
	all.nr_pages = nr_pages;
	all.active = 0;
	share();
	pthread_rwlock_wrlock(&all.sh->gate);
	start_child(mask & 1u << W_PROCESS);
	for (int w = 0; w < NR_WRITERS; w++)
		if (w != W_PROCESS && mask & 1u << w)
			start_thread(w);
	pthread_rwlock_unlock(&all.sh->gate);
}

void writers_stop(void)
{
	int status;

	all.sh->stop = true;
	for (int w = 0; w < NR_WRITERS; w++)
		if (w != W_PROCESS && all.active & 1u << w)
			pthread_join(all.threads[w], NULL);
	close(all.child_pipe);	/* only now: others write into it */
	waitpid(all.child, &status, 0);
	if (status)
		diag("the second process ended with status %#x", status);
	kvm_free(all.kvm);
	all.kvm = NULL;
	if (all.loop_fd > 0)
		close(all.loop_fd);
	all.loop_fd = 0;
}

void writers_pause(void)
{
	pthread_rwlock_wrlock(&all.sh->gate);
}

void writers_resume(void)
{
	pthread_rwlock_unlock(&all.sh->gate);
}

bool writer_active(enum writer w)
{
	return all.active & 1u << w;
}

uint64_t writer_ops(enum writer w)
{
	return all.sh->ops[w];
}
