// SPDX-License-Identifier: GPL-2.0-only
/*
 * Every command of every object, called in every wrong way the header documents.
 *
 * One table describes the commands; each generic test walks it with a fresh set
 * of objects, so that a command that "fails but did something" shows as a leaked
 * descriptor, a lost mark or a changed status.
 */
#include <fcntl.h>
#include <stdlib.h>
#include <sys/ioctl.h>
#include <sys/mman.h>
#include <sys/resource.h>
#include <unistd.h>

#include "domain/edu.h"
#include "mem/util.h"

enum kind { DEV, MEM, LOG, VIEW, FILL, DOMAIN, NR_KINDS };
static const char *const kind_names[] = { "device", "memory", "log", "view", "fill",
					 "domain" };

#define NR_PAGES 200		/* not a multiple of 64 */

/* What all tests work on; fresh for each. */
static struct {
	int fd[NR_KINDS];
	int raw_mem;		/* no page yet, for a fill */
	int fill_mem;
	int pinnable;		/* its first page is mapped at 0 */
	char *map;
	uint64_t bits[(NR_PAGES + 63) / 64];
	struct vmplat_view_mem vm;
	char page[2 * PAGE];
} fx;

static void fx_open(void)
{
	fx.fd[DEV] = dev_fd;
	fx.fd[MEM] = need(mem_new(NR_PAGES * PAGE));
	fx.fd[LOG] = need(log_new(fx.fd[MEM], 0, 0));
	fx.map = map_mem(fx.fd[MEM], NR_PAGES * PAGE);
	fx.map[3 * PAGE] = 1;
	fx.map[(NR_PAGES - 1) * PAGE] = 1;
	fx.fd[VIEW] = need(view_of(fx.fd[MEM], -1, 0, 0));
	fx.raw_mem = need(mem_new(NR_PAGES * PAGE));
	fx.fill_mem = need(mem_new(NR_PAGES * PAGE));
	fx.fd[FILL] = need(fill_new(fx.fill_mem));
	fx.pinnable = need(mem_new_kind(NR_PAGES * PAGE, VMPLAT_MEM_F_PINNABLE));
	fx.fd[DOMAIN] = need(domain_new());
	need(domain_map(fx.fd[DOMAIN], RW, fx.pinnable, 0, 0, PAGE));
	fx.vm = (struct vmplat_view_mem) { .mem_fd = fx.fd[MEM], .log_fd = fx.fd[LOG] };
}

static void fx_close(void)
{
	munmap(fx.map, NR_PAGES * PAGE);
	close(fx.fd[DOMAIN]);
	close(fx.pinnable);
	close(fx.fd[FILL]);
	close(fx.fill_mem);
	close(fx.raw_mem);
	close(fx.fd[VIEW]);
	close(fx.fd[LOG]);
	close(fx.fd[MEM]);
}

/* The log still has exactly the two pages that fx_open() wrote, the domain its mapping. */
static bool fx_untouched(void)
{
	struct vmplat_log_status st = log_status(fx.fd[LOG]);
	struct vmplat_view_status vs = view_status(fx.fd[VIEW]);
	static const uint8_t zero[VMPLAT_ID_BYTES];

	return st.out_nr_dirty == 2 && !st.out_nr_borrowed && !st.out_view_busy &&
	       !memcmp(st.out_id, zero, sizeof(zero)) && !vs.out_committed &&
	       vs.out_state == VMPLAT_VIEW_OK &&
	       domain_status(fx.fd[DOMAIN]).out_bytes == PAGE;
}

/* ---- the table ---------------------------------------------------------- */

union arg {
	uint32_t size;
	uint8_t bytes[8192];
	struct { uint32_t size, flags; } head;
	struct vmplat_info info;
	struct vmplat_mem_create mem_create;
	struct vmplat_log_create log_create;
	struct vmplat_view_create view_create;
	struct vmplat_fill_create fill_create;
	struct vmplat_log_fetch log_fetch;
	struct vmplat_log_end log_end;
	struct vmplat_log_status log_status;
	struct vmplat_view_status view_status;
	struct vmplat_view_discard view_discard;
	struct vmplat_view_commit view_commit;
	struct vmplat_fill_put fill_put;
	struct vmplat_fill_end fill_end;
	struct vmplat_fill_status fill_status;
	struct vmplat_pci_hold pci_hold;
	struct vmplat_domain_create domain_create;
	struct vmplat_domain_attach domain_attach;
	struct vmplat_domain_detach domain_detach;
	struct vmplat_domain_map domain_map;
	struct vmplat_domain_unmap domain_unmap;
	struct vmplat_domain_query domain_query;
	struct vmplat_domain_regions domain_regions;
	struct vmplat_domain_status domain_status;
	struct vmplat_sriov_create sriov_create;
	struct vmplat_sriov_bind sriov_bind;
	struct vmplat_sriov_destroy sriov_destroy;
	struct vmplat_sriov_status sriov_status;
};

static void set_mem_create(union arg *a) { a->mem_create.mem_bytes = PAGE; }
static void set_log_create(union arg *a) { a->log_create.mem_fd = fx.fd[MEM]; }
static void set_fill_create(union arg *a) { a->fill_create.mem_fd = fx.raw_mem; }
static void set_commit(union arg *a) { a->view_commit.id[0] = 1; }
static void set_discard(union arg *a) { a->view_discard.nr_pages = 1; }
static void set_nothing(union arg *a) { }

static void set_view_create(union arg *a)
{
	a->view_create.mems = (uintptr_t)&fx.vm;
	a->view_create.nr_mems = 1;
}

static void set_fetch(union arg *a)
{
	a->log_fetch.nr_pages = NR_PAGES;
	a->log_fetch.buf = (uintptr_t)fx.bits;
	a->log_fetch.buf_bytes = sizeof(fx.bits);
}

static void set_pci_hold(union arg *a) { a->pci_hold.domain = 0xffff; }
static void set_attach(union arg *a) { a->domain_attach.function = -1ULL; }
static void set_detach(union arg *a) { a->domain_detach.function = -1ULL; }
static void set_unmap(union arg *a) { a->domain_unmap.bytes = PAGE; }

static void set_map(union arg *a)
{
	a->domain_map.flags = RW;
	a->domain_map.mem_fd = fx.pinnable;
	a->domain_map.iova = PAGE;
	a->domain_map.bytes = PAGE;
}

static void set_put(union arg *a)
{
	a->fill_put.nr_pages = 1;
	a->fill_put.buf = (uintptr_t)fx.page;
}

/* These commands work on hardware, which is not here: what they say of it is the right answer. */
#define NO_SUCH_PF	0xffffffULL

static void set_sriov_create(union arg *a)
{
	a->sriov_create.pf = NO_SUCH_PF;
	a->sriov_create.nr_vfs = 1;
	strcpy(a->sriov_create.owner, "uapi");
}

static void set_sriov_bind(union arg *a) { a->sriov_bind.generation = 1; }
static void set_sriov_destroy(union arg *a) { a->sriov_destroy.generation = 1; }
static void set_sriov_status(union arg *a) { a->sriov_status.pf = NO_SUCH_PF; }

struct op {
	const char *name;
	unsigned long cmd;
	enum kind kind;
	uint32_t size;
	uint32_t first_size;	/* of its first version, if it has grown since, or 0 */
	uint32_t known_flags;
	int reserved;		/* offset of a reserved member, or 0 */
	int out_fd;		/* offset of the descriptor it makes, or 0 */
	bool has_out;
	int fails;		/* the errno of a right call, here, where there is no device */
	void (*set)(union arg *a);
};

#define OP(c, k, s, ...) { .name = #c, .cmd = VMPLAT_##c, .kind = k, .size = sizeof(struct s), \
			   __VA_ARGS__ }
static const struct op ops[] = {
	OP(INFO, DEV, vmplat_info, .reserved = offsetof(struct vmplat_info, __reserved),
	   .has_out = true, .set = set_nothing),
	OP(MEM_CREATE, DEV, vmplat_mem_create, .known_flags = VMPLAT_MEM_F_PINNABLE | VMPLAT_MEM_F_HUGE,
	   .reserved = offsetof(struct vmplat_mem_create, __reserved),
	   .out_fd = offsetof(struct vmplat_mem_create, out_fd), .has_out = true,
	   .set = set_mem_create),
	OP(LOG_CREATE, DEV, vmplat_log_create, .known_flags = VMPLAT_LOG_F_ALL_DIRTY,
	   .out_fd = offsetof(struct vmplat_log_create, out_fd), .has_out = true,
	   .set = set_log_create),
	OP(VIEW_CREATE, DEV, vmplat_view_create,
	   .known_flags = VMPLAT_VIEW_F_INCREMENT | VMPLAT_VIEW_F_BLOCK,
	   .out_fd = offsetof(struct vmplat_view_create, out_fd), .has_out = true,
	   .set = set_view_create),
	OP(FILL_CREATE, DEV, vmplat_fill_create,
	   .out_fd = offsetof(struct vmplat_fill_create, out_fd), .has_out = true,
	   .set = set_fill_create),
	OP(LOG_FETCH, LOG, vmplat_log_fetch,
	   .first_size = offsetof(struct vmplat_log_fetch, out_nr_unsure),
	   .known_flags = VMPLAT_LOG_FETCH_F_PEEK | VMPLAT_LOG_FETCH_F_CLEAR |
			  VMPLAT_LOG_FETCH_F_RANGES,
	   .has_out = true, .set = set_fetch),
	OP(LOG_END, LOG, vmplat_log_end, .known_flags = VMPLAT_LOG_END_F_ABORT,
	   .set = set_nothing),
	OP(LOG_STATUS, LOG, vmplat_log_status,
	   .first_size = offsetof(struct vmplat_log_status, out_nr_unsure),
	   .reserved = offsetof(struct vmplat_log_status, __reserved), .has_out = true,
	   .set = set_nothing),
	OP(VIEW_STATUS, VIEW, vmplat_view_status, .has_out = true, .set = set_nothing),
	OP(VIEW_DISCARD, VIEW, vmplat_view_discard, .set = set_discard),
	OP(VIEW_COMMIT, VIEW, vmplat_view_commit, .set = set_commit),
	OP(FILL_PUT, FILL, vmplat_fill_put, .has_out = true, .set = set_put),
	OP(FILL_END, FILL, vmplat_fill_end, .set = set_nothing),
	OP(FILL_STATUS, FILL, vmplat_fill_status, .has_out = true, .set = set_nothing),
	OP(PCI_HOLD, DEV, vmplat_pci_hold, .known_flags = VMPLAT_PCI_HOLD_F_ASK,
	   .reserved = offsetof(struct vmplat_pci_hold, __reserved),
	   .out_fd = offsetof(struct vmplat_pci_hold, out_fd), .has_out = true, .fails = ENODEV,
	   .set = set_pci_hold),
	OP(DOMAIN_CREATE, DEV, vmplat_domain_create,
	   .reserved = offsetof(struct vmplat_domain_create, __reserved),
	   .out_fd = offsetof(struct vmplat_domain_create, out_fd), .has_out = true,
	   .set = set_nothing),
	OP(DOMAIN_ATTACH, DOMAIN, vmplat_domain_attach,
	   .known_flags = VMPLAT_DOMAIN_ATTACH_F_QUARANTINE |
			  VMPLAT_DOMAIN_ATTACH_F_UNSAFE_INTERRUPTS,
	   .reserved = offsetof(struct vmplat_domain_attach, __reserved), .has_out = true,
	   .fails = ENODEV, .set = set_attach),
	OP(DOMAIN_DETACH, DOMAIN, vmplat_domain_detach,
	   .known_flags = VMPLAT_DOMAIN_DETACH_F_RELEASE, .fails = ENODEV, .set = set_detach),
	OP(DOMAIN_MAP, DOMAIN, vmplat_domain_map, .known_flags = RW,
	   .reserved = offsetof(struct vmplat_domain_map, __reserved), .set = set_map),
	OP(DOMAIN_UNMAP, DOMAIN, vmplat_domain_unmap, .known_flags = VMPLAT_DOMAIN_UNMAP_F_ALL,
	   .has_out = true, .set = set_unmap),
	OP(DOMAIN_QUERY, DOMAIN, vmplat_domain_query,
	   .reserved = offsetof(struct vmplat_domain_query, __reserved), .has_out = true,
	   .set = set_nothing),
	OP(DOMAIN_REGIONS, DOMAIN, vmplat_domain_regions,
	   .reserved = offsetof(struct vmplat_domain_regions, __reserved), .has_out = true,
	   .set = set_nothing),
	OP(DOMAIN_STATUS, DOMAIN, vmplat_domain_status, .has_out = true, .set = set_nothing),
	OP(SRIOV_CREATE, DEV, vmplat_sriov_create,
	   .reserved = offsetof(struct vmplat_sriov_create, __reserved), .has_out = true,
	   .fails = ENODEV, .set = set_sriov_create),
	OP(SRIOV_BIND, DEV, vmplat_sriov_bind, .has_out = true, .fails = ESTALE,
	   .set = set_sriov_bind),
	OP(SRIOV_DESTROY, DEV, vmplat_sriov_destroy, .has_out = true, .fails = ESTALE,
	   .set = set_sriov_destroy),
	OP(SRIOV_STATUS, DEV, vmplat_sriov_status, .has_out = true, .fails = ENODEV,
	   .set = set_sriov_status),
};

static union arg *prepare(const struct op *op)
{
	static union arg a;

	memset(&a, 0, sizeof(a));
	a.size = op->size;
	op->set(&a);
	return &a;
}

static int call(const struct op *op, void *a)
{
	return ioctl(fx.fd[op->kind], op->cmd, a);
}

/* Did it do what a right call does? */
static bool is_right(const struct op *op, int rc)
{
	return op->fails ? rc == -1 && errno == op->fails : !rc;
}

/* Close the descriptor a successful call made. */
static void undo(const struct op *op, const union arg *a)
{
	int fd;

	if (!op->out_fd || op->fails)
		return;
	memcpy(&fd, a->bytes + op->out_fd, sizeof(fd));
	close(fd);
}

/* ---- generic tests ------------------------------------------------------ */

/* Programs built against an older version: they get what they know, and nothing behind it. */
static void test_older(const struct op *op)
{
	int wrong = 0, written = 0;

	for (uint32_t size = op->first_size; size && size < op->size; size++) {
		union arg *a;

		fx_open();
		a = prepare(op);
		a->size = size;
		memset(a->bytes + size, 0x5a, op->size - size);
		wrong += !is_right(op, call(op, a));
		for (uint32_t i = size; i < op->size; i++)
			written += a->bytes[i] != 0x5a;
		fx_close();
	}
	if (op->first_size)
		ok(!wrong && !written, "%s: each size of older programs", op->name);
}

static void test_sizes(const struct op *op)
{
	static const uint32_t longer[] = { 1, 4, 8, 100, 4096 };
	uint32_t bad = 0, errs = 0;
	union arg *a;

	fx_open();
	for (uint32_t size = 0; size < (op->first_size ?: op->size); size++) {
		a = prepare(op);
		a->size = size;
		errno = 0;
		if (call(op, a) != -1 || errno != EINVAL) {
			bad = size;
			errs++;
		}
	}
	if (!ok(!errs, "%s: every shorter size is EINVAL", op->name))
		diag("%u sizes, the last %u", errs, bad);
	ok(fx_untouched(), "%s: and changes nothing", op->name);

	for (size_t i = 0; i < ARRAY_SIZE(longer); i++) {
		uint32_t tail = longer[i] == 4096 ? 4096 - op->size : longer[i];

		a = prepare(op);
		a->size = op->size + tail;
		a->bytes[op->size + tail - 1] = 1;
		fails(call(op, a), E2BIG, "%s: %u unknown bytes, the last one set", op->name, tail);
	}
	ok(fx_untouched(), "%s: and changes nothing", op->name);
	fx_close();

	for (size_t i = 0; i < ARRAY_SIZE(longer); i++) {
		uint32_t tail = longer[i] == 4096 ? 4096 - op->size : longer[i];
		int rc;

		fx_open();
		a = prepare(op);
		a->size = op->size + tail;
		memset(a->bytes + 8192 - 64, 0x5a, 64);
		rc = call(op, a);
		if (!ok(is_right(op, rc), "%s: %u unknown bytes, all zero", op->name, tail))
			diag("%s", strerror(errno));
		else
			undo(op, a);
		fx_close();
	}
	fx_open();
	a = prepare(op);
	if (ok(is_right(op, call(op, a)), "%s: its own size", op->name))
		undo(op, a);
	else
		diag("%s", strerror(errno));
	fx_close();
}

static void test_flags(const struct op *op)
{
	int errs = 0;

	fx_open();
	for (int b = 0; b < 32; b++) {
		union arg *a = prepare(op);

		if (op->known_flags & (1U << b))
			continue;
		a->head.flags = 1U << b;
		errno = 0;
		if (call(op, a) != -1 || errno != EOPNOTSUPP) {
			diag("flag bit %d: %s", b, strerror(errno));
			errs++;
		}
	}
	ok(!errs, "%s: each unknown flag is EOPNOTSUPP", op->name);
	if (op->reserved) {
		union arg *a = prepare(op);

		a->bytes[op->reserved + 3] = 0x80;
		fails(call(op, a), EOPNOTSUPP, "%s: reserved member", op->name);
	}
	ok(fx_untouched(), "%s: and changes nothing", op->name);
	fx_close();
}

static void test_pointers(const struct op *op)
{
	char *two = mmap(NULL, 2 * PAGE, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
	int fds, after;

	fx_open();
	fds = open_fds();
	fails(call(op, NULL), EFAULT, "%s: NULL", op->name);
	fails(call(op, (void *)-8L), EFAULT, "%s: kernel address", op->name);
	need(mprotect(two + PAGE, PAGE, PROT_NONE));
	for (uint32_t have = 1; have < op->size; have += op->size > 16 ? 7 : 3) {
		memcpy(two + PAGE - have, prepare(op), have);
		errno = 0;
		if (call(op, two + PAGE - have) != -1 || errno != EFAULT) {
			ok(false, "%s: only %u bytes readable: EFAULT, not %s", op->name, have,
			   strerror(errno));
			break;
		}
	}
	if (op->has_out) {
		memcpy(two, prepare(op), op->size);
		need(mprotect(two, PAGE, PROT_READ));
		fails(call(op, two), EFAULT, "%s: struct that cannot be written", op->name);
	}
	after = open_fds();
	if (!ok(after == fds, "%s: no descriptor leaked", op->name))
		diag("%d descriptors before, %d after", fds, after);
	ok(fx_untouched(), "%s: and nothing changed", op->name);
	if (op->kind == FILL) {
		union arg st = { .fill_status = { .size = sizeof(st.fill_status) } };

		need(ioctl(fx.fd[FILL], VMPLAT_FILL_STATUS, &st));
		ok(op->cmd == VMPLAT_FILL_PUT || st.fill_status.out_nr_filled == 0,
		   "%s: nothing filled", op->name);
	}
	fx_close();
	if (!op->has_out) {
		fx_open();
		need(mprotect(two, PAGE, PROT_READ | PROT_WRITE));
		memcpy(two, prepare(op), op->size);
		need(mprotect(two, PAGE, PROT_READ));
		ok(is_right(op, call(op, two)), "%s: has no output, so its struct may be read-only",
		   op->name);
		fx_close();
	}
	munmap(two, 2 * PAGE);
}

static void test_emfile(const struct op *op)
{
	struct rlimit old, low;
	int next, rc, err;

	if (!op->out_fd)
		return;
	fx_open();
	next = need(dup(0));
	close(next);
	need(getrlimit(RLIMIT_NOFILE, &old));
	low = old;
	low.rlim_cur = next;
	need(setrlimit(RLIMIT_NOFILE, &low));
	rc = call(op, prepare(op));
	err = errno;
	need(setrlimit(RLIMIT_NOFILE, &old));
	ok(rc == -1 && err == EMFILE, "%s: EMFILE with a full descriptor table", op->name);
	ok(fx_untouched(), "%s: and nothing changed", op->name);
	fx_close();
}

/* ---- unknown commands --------------------------------------------------- */

static bool known(enum kind kind, unsigned long cmd)
{
	for (size_t i = 0; i < ARRAY_SIZE(ops); i++)
		if (ops[i].kind == kind && ops[i].cmd == cmd)
			return true;
	return false;
}

static void test_unknown(enum kind kind)
{
	uint32_t arg[32] = { sizeof(arg) };
	int errs = 0;

	fx_open();
	for (unsigned int nr = 0; nr < 256; nr++) {
		unsigned long cmds[] = {
			_IO(VMPLAT_IOC_TYPE, nr), _IOWR(VMPLAT_IOC_TYPE, nr, uint64_t),
			_IO(VMPLAT_IOC_TYPE + 1, nr),
		};

		for (size_t i = 0; i < ARRAY_SIZE(cmds); i++) {
			if (known(kind, cmds[i]))
				continue;
			errno = 0;
			if (ioctl(fx.fd[kind], cmds[i], arg) == -1 && errno == ENOTTY)
				continue;
			if (!errs++)
				diag("command %#lx: %s", cmds[i], strerror(errno));
		}
	}
	ok(!errs, "%s: every unknown command is ENOTTY", kind_names[kind]);
	ok(fx_untouched(), "%s: and changes nothing", kind_names[kind]);
	fx_close();
}

/* ---- descriptors -------------------------------------------------------- */

static int create_on(const struct op *op, int mem)
{
	union arg *a = prepare(op);

	if (op->cmd == VMPLAT_LOG_CREATE)
		a->log_create.mem_fd = mem;
	else if (op->cmd == VMPLAT_FILL_CREATE)
		a->fill_create.mem_fd = mem;
	else
		fx.vm.mem_fd = mem;
	return call(op, a);
}

static int reopen(int fd, int flags)
{
	char path[32];

	snprintf(path, sizeof(path), "/proc/self/fd/%d", fd);
	return open(path, flags | O_CLOEXEC);
}

static void test_mem_fd(const struct op *op)
{
	int null, pipes[2], other, fds, path;
	bool fill = op->cmd == VMPLAT_FILL_CREATE;

	fx_open();
	null = need(open("/dev/null", O_RDWR));
	other = need(memfd_create("other", 0));
	need(pipe(pipes));
	path = need(reopen(fx.raw_mem, O_PATH));
	fds = open_fds();
	fails(create_on(op, -1), EBADF, "%s: memory descriptor -1", op->name);
	fails(create_on(op, 1 << 20), EBADF, "%s: memory descriptor not open", op->name);
	fails(create_on(op, path), EBADF, "%s: O_PATH", op->name);
	fails(create_on(op, null), EMEDIUMTYPE, "%s: /dev/null", op->name);
	fails(create_on(op, other), EMEDIUMTYPE, "%s: a memfd", op->name);
	fails(create_on(op, pipes[0]), EMEDIUMTYPE, "%s: a pipe", op->name);
	fails(create_on(op, dev_fd), EMEDIUMTYPE, "%s: the device", op->name);
	fails(create_on(op, fx.fd[LOG]), EMEDIUMTYPE, "%s: a log", op->name);
	fails(create_on(op, fx.fd[VIEW]), EMEDIUMTYPE, "%s: a view", op->name);
	fails(create_on(op, fx.fd[FILL]), EMEDIUMTYPE, "%s: a fill", op->name);

	close(null);
	null = need(reopen(fx.raw_mem, O_WRONLY));
	fails(create_on(op, null), EACCES, "%s: memory open for writing only", op->name);
	close(null);
	null = need(reopen(fx.raw_mem, O_RDONLY));
	if (fill)
		fails(create_on(op, null), EACCES, "%s: memory open for reading only", op->name);
	ok(open_fds() == fds, "%s: no descriptor leaked", op->name);
	close(null);
	close(path);
	close(other);
	close(pipes[0]);
	close(pipes[1]);
	fx.vm.mem_fd = fx.fd[MEM];
	ok(fx_untouched(), "%s: and nothing changed", op->name);
	fx_close();
}

/* ---- each command's own rules ------------------------------------------- */

static void test_mem_create(void)
{
	struct stat_free { int fd; } out;
	static const struct { uint64_t bytes; int err; } bad[] = {
		{ 0, EINVAL }, { 1, EINVAL }, { PAGE + 1, EINVAL }, { -1ULL, EINVAL },
		{ 1ULL << 63, EFBIG }, { -PAGE, EFBIG },
	};

	for (size_t i = 0; i < ARRAY_SIZE(bad); i++)
		fails(mem_new(bad[i].bytes), bad[i].err, "MEM_CREATE: %#llx bytes",
			 (unsigned long long)bad[i].bytes);
	out.fd = mem_new(5 * PAGE);
	ok(out.fd >= 0 && (fcntl(out.fd, F_GETFD) & FD_CLOEXEC), "MEM_CREATE: close-on-exec");
	ok((fcntl(out.fd, F_GETFL) & O_ACCMODE) == O_RDWR, "MEM_CREATE: read-write");
	ok(lseek(out.fd, 0, SEEK_END) == 5 * (off_t)PAGE, "MEM_CREATE: the length asked for");
	ok(ftruncate(out.fd, 6 * PAGE) == -1, "MEM_CREATE: the length is fixed (%s)", strerror(errno));
	close(out.fd);
}

static void fetch_errno(int err, const char *what, struct vmplat_log_fetch f)
{
	fails(log_fetch(fx.fd[LOG], &f), err, "LOG_FETCH: %s", what);
}

#pragma GCC diagnostic ignored "-Woverride-init"
#pragma GCC diagnostic ignored "-Wstringop-overflow"
#define FETCH(...) ((struct vmplat_log_fetch) { .nr_pages = NR_PAGES,	\
	.buf = (uintptr_t)fx.bits, .buf_bytes = sizeof(fx.bits), __VA_ARGS__ })
#define RANGES VMPLAT_LOG_FETCH_F_RANGES

static void test_fetch(void)
{
	struct vmplat_range r[4];
	struct vmplat_log_fetch f;
	char *ro = mmap(NULL, PAGE, PROT_READ, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);

	fx_open();
	fetch_errno(EINVAL, "no pages", FETCH(.nr_pages = 0));
	fetch_errno(EINVAL, "bitmap from page 1", FETCH(.first = 1, .nr_pages = 1));
	fetch_errno(EOVERFLOW, "first + number past 2^64",
		    FETCH(.first = -64ULL, .nr_pages = 65, .buf_bytes = 16));
	fetch_errno(ERANGE, "one page too many", FETCH(.nr_pages = NR_PAGES + 1));
	fetch_errno(ERANGE, "first beyond the end", FETCH(.first = 256, .nr_pages = 1));
	fetch_errno(EMSGSIZE, "buffer 8 bytes short", FETCH(.buf_bytes = sizeof(fx.bits) - 8));
	fetch_errno(EMSGSIZE, "buffer 1 byte short", FETCH(.buf_bytes = sizeof(fx.bits) - 1));
	fetch_errno(EMSGSIZE, "no buffer", FETCH(.buf_bytes = 0));
	fetch_errno(EINVAL, "peek and clear", FETCH(.flags = VMPLAT_LOG_FETCH_F_PEEK |
						    VMPLAT_LOG_FETCH_F_CLEAR));
	fetch_errno(EINVAL, "ranges, no room", FETCH(.flags = RANGES, .buf_bytes = 0));
	fetch_errno(EINVAL, "ranges, 17 bytes", FETCH(.flags = RANGES, .buf_bytes = 17));
	fetch_errno(EFAULT, "NULL bitmap", FETCH(.buf = 0));
	fetch_errno(EFAULT, "bitmap that cannot be written", FETCH(.buf = (uintptr_t)ro));
	fetch_errno(EFAULT, "ranges that cannot be written",
		    FETCH(.flags = RANGES, .buf = (uintptr_t)ro, .buf_bytes = 64));
	fetch_errno(EFAULT, "clearing into memory that cannot be written",
		    FETCH(.flags = VMPLAT_LOG_FETCH_F_CLEAR, .buf = (uintptr_t)ro));
	ok(fx_untouched(), "LOG_FETCH: no mark was lost by any of these");

	f = FETCH(.flags = RANGES, .first = 1, .nr_pages = NR_PAGES - 1, .buf = (uintptr_t)r,
		  .buf_bytes = 16);
	ok(!log_fetch(fx.fd[LOG], &f) && f.out_nr_ranges == 1 && r[0].first == 3 &&
	   r[0].nr_pages == 1 && f.out_next > 3 && f.out_next <= NR_PAGES - 1,
	   "LOG_FETCH: ranges that fill the buffer say where to go on");
	f = FETCH(.flags = RANGES, .first = f.out_next, .nr_pages = NR_PAGES - f.out_next,
		  .buf = (uintptr_t)r, .buf_bytes = sizeof(r));
	ok(!log_fetch(fx.fd[LOG], &f) && f.out_nr_ranges == 1 && r[0].first == NR_PAGES - 1 &&
	   f.out_next == NR_PAGES, "LOG_FETCH: and going on there gives the rest");
	ok(log_status(fx.fd[LOG]).out_nr_borrowed == 2, "LOG_STATUS: both are borrowed");
	fetch_errno(EBUSY, "clear while marks are borrowed", FETCH(.flags = VMPLAT_LOG_FETCH_F_CLEAR));
	ok(!log_end(fx.fd[LOG], VMPLAT_LOG_END_F_ABORT, NULL) && fx_untouched(),
	   "LOG_END: an abort gives them back");
	memset(fx.bits, 0xff, sizeof(fx.bits));
	ok(log_bitmap(fx.fd[LOG], VMPLAT_LOG_FETCH_F_PEEK, NR_PAGES, fx.bits) == 2 &&
	   fx.bits[0] == 8 && !fx.bits[1] && !fx.bits[2] &&
	   fx.bits[3] == 1ULL << ((NR_PAGES - 1) % 64), "LOG_FETCH: the bitmap, tail bits zero");
	ok(fx_untouched(), "LOG_FETCH: a peek takes nothing");
	fx_close();
	munmap(ro, PAGE);
}

static void test_log_end(void)
{
	uint8_t id[VMPLAT_ID_BYTES] = { 7 };

	fx_open();
	fails(log_end(fx.fd[LOG], VMPLAT_LOG_END_F_ABORT, id), EINVAL,
		 "LOG_END: abort with a label");
	ok(!log_end(fx.fd[LOG], VMPLAT_LOG_END_F_ABORT, NULL), "LOG_END: nothing to abort");
	ok(fx_untouched(), "LOG_END: changes nothing");
	ok(!log_end(fx.fd[LOG], 0, id) && !memcmp(log_status(fx.fd[LOG]).out_id, id, sizeof(id)),
	   "LOG_END: sets the label");
	ok(!log_end(fx.fd[LOG], 0, NULL) && !memcmp(log_status(fx.fd[LOG]).out_id, id, sizeof(id)),
	   "LOG_END: a zero label leaves it");
	ok(log_status(fx.fd[LOG]).out_nr_dirty == 2, "LOG_END: takes nothing that was not borrowed");
	fx_close();
}

static void view_errno(int err, const char *what, const struct vmplat_view_mem *m,
		       unsigned int nr, uint32_t flags)
{
	fails(view_new(m, nr, flags, 0), err, "VIEW_CREATE: %s", what);
}

static void test_view_create(void)
{
	struct vmplat_view_mem m[VMPLAT_VIEW_MAX_MEMS + 1];
	int other_mem, other_log, v, fds;
	int fill_fd, ro;

	fx_open();
	other_mem = need(mem_new(PAGE));
	other_log = need(log_new(other_mem, 0, 0));
	for (size_t i = 0; i < ARRAY_SIZE(m); i++)
		m[i] = (struct vmplat_view_mem) { .mem_fd = fx.fd[MEM], .log_fd = -1 };
	fds = open_fds();
	view_errno(EINVAL, "no memory", m, 0, 0);
	view_errno(EINVAL, "65 memories", m, ARRAY_SIZE(m), 0);
	view_errno(EINVAL, "a memory twice", m, 2, 0);
	view_errno(EINVAL, "an increment without a log", m, 1, VMPLAT_VIEW_F_INCREMENT);
	view_errno(EFAULT, "NULL array", NULL, 1, 0);
	m[0].log_fd = other_log;
	view_errno(EINVAL, "log of another memory", m, 1, 0);
	m[0].log_fd = 1 << 20;
	view_errno(EBADF, "log not open", m, 1, 0);
	m[0].log_fd = -2;
	view_errno(EBADF, "log descriptor -2", m, 1, 0);
	m[0].log_fd = fx.fd[MEM];
	view_errno(EMEDIUMTYPE, "log that is a memory", m, 1, 0);
	m[0].log_fd = dev_fd;
	view_errno(EMEDIUMTYPE, "log that is the device", m, 1, 0);
	m[0].log_fd = fx.fd[LOG];
	m[0].id[15] = 9;
	view_errno(ESTALE, "a label the log does not carry", m, 1, VMPLAT_VIEW_F_INCREMENT);
	m[0].id[15] = 0;
	m[1] = (struct vmplat_view_mem) { .mem_fd = 1 << 20, .log_fd = -1 };
	view_errno(EBADF, "second memory not open", m, 2, 0);
	ok(open_fds() == fds, "VIEW_CREATE: no descriptor leaked");
	ok(fx_untouched(), "VIEW_CREATE: and nothing changed");

	v = view_new(m, 1, VMPLAT_VIEW_F_INCREMENT, 0);
	ok(v >= 0 && (fcntl(v, F_GETFD) & FD_CLOEXEC), "VIEW_CREATE: close-on-exec");
	ok((fcntl(v, F_GETFL) & O_ACCMODE) == O_RDONLY, "VIEW_CREATE: read-only");
	view_errno(EBUSY, "marks borrowed by another view", m, 1, 0);
	ok(log_status(fx.fd[LOG]).out_view_busy == 1, "LOG_STATUS: a view is busy");
	fetch_errno(EBUSY, "borrow while a view holds the marks", FETCH());
	fails(log_end(fx.fd[LOG], 0, NULL), EBUSY, "LOG_END: while a view holds the marks");
	fails(log_end(fx.fd[LOG], VMPLAT_LOG_END_F_ABORT, NULL), EBUSY,
		 "LOG_END: abort while a view holds the marks");
	close(v);
	ok(fx_untouched(), "a view closed without commit gives the marks back");

	ok(log_bitmap(fx.fd[LOG], 0, NR_PAGES, fx.bits) == 2, "borrow by a fetch");
	view_errno(EBUSY, "marks borrowed by a fetch", m, 1, 0);
	need(log_end(fx.fd[LOG], VMPLAT_LOG_END_F_ABORT, NULL));

	ro = need(reopen(fx.fd[MEM], O_RDONLY));
	fails(view_of(ro, -1, VMPLAT_VIEW_F_BLOCK, PAGE), EACCES,
	      "VIEW_CREATE: who may only read may not make writers wait");
	close(ro);
	fill_fd = view_of(fx.fill_mem, -1, 0, 0);
	diag("freezing a memory that is being filled: %s", fill_fd < 0 ? strerror(errno) : "allowed");
	if (fill_fd >= 0)
		close(fill_fd);
	close(other_log);
	close(other_mem);
	fx_close();
}

static void test_view_ops(void)
{
	uint8_t id[VMPLAT_ID_BYTES] = { 0 };
	struct vmplat_view_mem m;
	int v, full;

	fx_open();
	full = fx.fd[VIEW];
	fails(view_discard(full, 0, 0), EINVAL, "VIEW_DISCARD: no pages");
	fails(view_discard(full, -1ULL, 2), EOVERFLOW, "VIEW_DISCARD: past 2^64");
	fails(view_discard(full, NR_PAGES, 1), ERANGE, "VIEW_DISCARD: beyond the end");
	fails(view_discard(full, 1, NR_PAGES), ERANGE, "VIEW_DISCARD: past the end");
	fails(view_commit(full, id), EINVAL, "VIEW_COMMIT: zero label");
	ok(fx_untouched(), "VIEW_*: nothing changed");
	ok(pread(full, fx.page, PAGE, 3 * PAGE) == PAGE && fx.page[0] == 1, "view: readable");
	ok(pread(full, fx.page, PAGE, NR_PAGES * PAGE) == 0, "view: end of file at its end");
	fails(pread(full, fx.map + (1UL << 46), PAGE, 0), EFAULT, "view: read to a bad address");
	fails(write(full, fx.page, 1), EBADF, "view: not writable");
	ok(!view_discard(full, 3, 1), "VIEW_DISCARD: page 3");
	fails(pread(full, fx.page, PAGE, 3 * PAGE), ENODATA, "view: a discarded page is ENODATA");
	ok(pread(full, fx.page, 2 * PAGE, 2 * PAGE) == PAGE, "view: a read stops before it");

	lru_drain();
	m = (struct vmplat_view_mem) { .mem_fd = fx.fd[MEM], .log_fd = fx.fd[LOG] };
	v = need(view_new(&m, 1, VMPLAT_VIEW_F_INCREMENT, 0));
	id[0] = 5;
	ok(!view_commit(v, id), "VIEW_COMMIT");
	fails(view_commit(v, id), EALREADY, "VIEW_COMMIT: twice");
	ok(view_status(v).out_committed == 1, "VIEW_STATUS: committed");
	ok(log_status(fx.fd[LOG]).out_nr_dirty == 0 && !log_status(fx.fd[LOG]).out_view_busy &&
	   log_status(fx.fd[LOG]).out_id[0] == 5, "the log is empty, free and carries the label");
	ok(pread(v, fx.page, PAGE, 3 * PAGE) == PAGE && fx.page[0] == 1,
	   "a committed view is still readable");
	close(v);
	ok(log_status(fx.fd[LOG]).out_nr_dirty == 0, "closing it after the commit returns nothing");
	fx_close();
}

static int put(uint64_t first, uint64_t nr, const void *buf, uint64_t *done_pages)
{
	struct vmplat_fill_put arg = {
		.size = sizeof(arg), .first = first, .nr_pages = nr, .buf = (uintptr_t)buf,
	};
	int rc = ioctl(fx.fd[FILL], VMPLAT_FILL_PUT, &arg);

	if (done_pages)
		*done_pages = arg.out_done;
	return rc;
}

static void test_fill(void)
{
	char *two = mmap(NULL, 2 * PAGE, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
	uint64_t pages = 99;

	need(mprotect(two + PAGE, PAGE, PROT_NONE));
	memset(two, 0x33, PAGE);
	fx_open();
	fails(fill_new(fx.fd[MEM]), EBUSY, "FILL_CREATE: memory with pages");
	fails(fill_new(fx.fill_mem), EBUSY, "FILL_CREATE: memory being filled");
	fails(put(0, 0, fx.page, NULL), EINVAL, "FILL_PUT: no pages");
	fails(put(-1ULL, 2, fx.page, NULL), EOVERFLOW, "FILL_PUT: past 2^64");
	fails(put(NR_PAGES, 1, fx.page, NULL), ERANGE, "FILL_PUT: beyond the end");
	fails(put(0, 1, (void *)8, &pages), EFAULT, "FILL_PUT: a bad address");
	ok(pages == 0, "FILL_PUT: and says that nothing was done");
	fails(put(0, 2, two, &pages), EFAULT, "FILL_PUT: the second page cannot be read");
	ok(pages == 1, "FILL_PUT: and says that one was done");
	ok(!put(4, 2, NULL, &pages) && pages == 2, "FILL_PUT: zeroes");
	memset(fx.page, 0x44, PAGE);
	ok(!put(0, 1, fx.page, &pages) && pages == 1, "FILL_PUT: a page that exists");
	ok(pread(fx.fill_mem, fx.page, PAGE, 0) == PAGE && fx.page[0] == 0x33,
	   "FILL_PUT: is left alone");
	close(fx.fd[FILL]);
	fails(pread(fx.fill_mem, fx.page, PAGE, 8 * PAGE), EIO,
		 "a missing page without a server is EIO");
	ok(pread(fx.fill_mem, fx.page, PAGE, 4 * PAGE) == PAGE && !fx.page[0],
	   "a page supplied before is there");
	fx.fd[FILL] = need(dup(0));
	fx_close();
	munmap(two, 2 * PAGE);
}

int main(void)
{
	int fds;

	dev_open();
	fds = open_fds();
	for (size_t i = 0; i < ARRAY_SIZE(ops); i++) {
		test_sizes(&ops[i]);
		test_older(&ops[i]);
		test_flags(&ops[i]);
		test_pointers(&ops[i]);
		test_emfile(&ops[i]);
		if (ops[i].set == set_log_create || ops[i].set == set_view_create ||
		    ops[i].set == set_fill_create)
			test_mem_fd(&ops[i]);
	}
	for (int k = 0; k < NR_KINDS; k++)
		test_unknown(k);
	test_mem_create();
	test_fetch();
	test_log_end();
	test_view_create();
	test_view_ops();
	test_fill();
	ok(open_fds() == fds, "no descriptor is left at the end");
	return done();
}
