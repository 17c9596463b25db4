// SPDX-License-Identifier: GPL-2.0-only
/*
 * Each operation again and again, with its first, second, third ... allocation or
 * user copy made to fail, until it needs no more of them. A failed operation must
 * have a sane errno, leave the state as it was, and work when tried again. Leaks
 * and splats are for the host to find.
 *
 * Needs fault injection (the debug kernel).
 *
 *	failnth [WORD]		operations with WORD in their names, or all
 */
#include <fcntl.h>
#include <setjmp.h>
#include <signal.h>
#include <stdlib.h>
#include <sys/ioctl.h>
#include <sys/mman.h>
#include <sys/mount.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <sys/utsname.h>
#include <unistd.h>

#include "domain/edu.h"
#include "mem/util.h"

#define NR_PAGES 200

static int nth_fd;

/* ---- the injector ------------------------------------------------------- */

static void arm(int nth)
{
	char text[16];
	int n = snprintf(text, sizeof(text), "%d", nth);

	if (pwrite(nth_fd, text, n, 0) != n)
		bail("fail-nth");
}

/* Whether the armed failure has happened since. */
static bool disarm(void)
{
	char text[16] = "";
	int n = pread(nth_fd, text, sizeof(text) - 1, 0);
	bool hit = n > 0 && atoi(text) == 0;

	/* The failure may hit these two themselves, and is then used up. */
	if (pwrite(nth_fd, "0", 1, 0) != 1 && pwrite(nth_fd, "0", 1, 0) != 1)
		bail("fail-nth");
	return hit;
}

static bool injector_open(void)
{
	static const char *const knobs[][2] = {
		{ "failslab/ignore-gfp-wait", "N" },
		{ "failslab/verbose", "0" },
		{ "fail_page_alloc/ignore-gfp-wait", "N" },
		{ "fail_page_alloc/ignore-gfp-highmem", "N" },
		{ "fail_page_alloc/min-order", "0" },
		{ "fail_page_alloc/verbose", "0" },
		{ "fail_usercopy/verbose", "0" },
	};

	nth_fd = open("/proc/thread-self/fail-nth", O_RDWR | O_CLOEXEC);
	if (nth_fd < 0)
		return false;
	for (size_t i = 0; i < ARRAY_SIZE(knobs); i++) {
		char path[128];

		snprintf(path, sizeof(path), "/sys/kernel/debug/%s", knobs[i][0]);
		if (poke(path, knobs[i][1]))
			diag("%s: %s", path, strerror(errno));
	}
	return true;
}

/* ---- what is worked on -------------------------------------------------- */

static struct {
	int mem, second, log, view, fill, fill_mem, out;
	int domain, pinnable;
	char *map, *fill_map;
	uint64_t bits[(NR_PAGES + 63) / 64];
	struct vmplat_range ranges[8];
	char page[PAGE];
	uint64_t marks;
	bool marks_change;	/* the operation writes */
} fx;

static const char *dir;

static uint64_t marks(void)
{
	struct vmplat_log_status st = log_status(fx.log);

	return st.out_nr_dirty + st.out_nr_borrowed;
}

static void fx_open(void)
{
	memset(&fx, 0, sizeof(fx));
	fx.out = fx.view = fx.fill = fx.domain = fx.pinnable = -1;
	fx.mem = need(mem_new(NR_PAGES * PAGE));
	fx.second = need(mem_new(3 * PAGE));
	fx.log = need(log_new(fx.mem, 0, 0));
	fx.map = map_mem(fx.mem, NR_PAGES * PAGE);
	for (int p = 0; p < NR_PAGES; p += 23)
		fx.map[p * PAGE] = 'a';
	fx.fill_mem = need(mem_new(NR_PAGES * PAGE));
	fx.marks = marks();
}

static void fx_close(void)
{
	munmap(fx.map, NR_PAGES * PAGE);
	if (fx.out >= 0)
		close(fx.out);
	if (fx.view >= 0)
		close(fx.view);
	if (fx.fill >= 0)
		close(fx.fill);
	if (fx.domain >= 0)
		close(fx.domain);
	if (fx.pinnable >= 0)
		close(fx.pinnable);
	close(fx.fill_mem);
	close(fx.log);
	close(fx.second);
	close(fx.mem);
}

static void with_view(void)
{
	fx_open();
	fx.view = need(view_of(fx.mem, fx.log, VMPLAT_VIEW_F_INCREMENT, 0));
}

static void with_fill(void)
{
	fx_open();
	fx.fill = need(fill_new(fx.fill_mem));
}

#define DOMAIN_BYTES	(4UL << 20)

static void with_domain(void)
{
	fx_open();
	fx.pinnable = need(mem_new_kind(DOMAIN_BYTES, VMPLAT_MEM_F_PINNABLE | VMPLAT_MEM_F_HUGE));
	/* blocks, a hole, a piece of a block */
	need(fallocate(fx.pinnable, FALLOC_FL_KEEP_SIZE, 0, DOMAIN_BYTES));
	need(fallocate(fx.pinnable, FALLOC_FL_PUNCH_HOLE | FALLOC_FL_KEEP_SIZE, 7 * PAGE, PAGE));
	fx.domain = need(domain_new());
}

/* With @edu, if there is one: a page table, or what is to become one. */
static struct edu edu;

static void with_attached(void)
{
	with_domain();
	if (edu.bar)
		need(domain_attach(fx.domain, edu.id, 0));
}

static void with_mapping(void)
{
	with_domain();
	need(domain_map(fx.domain, RW, fx.pinnable, PAGE, 0, DOMAIN_BYTES));
}

static bool domain_is(uint64_t nr_mappings)
{
	return domain_status(fx.domain).out_nr_mappings == nr_mappings &&
	       fdinfo(fx.pinnable, "vmplat-pins") == (int64_t)nr_mappings;
}

/* ---- operations --------------------------------------------------------- */

static int op_mem_create(void) { return fx.out = mem_new(9 * PAGE); }
static int op_log_create(void) { return fx.out = log_new(fx.mem, VMPLAT_LOG_F_ALL_DIRTY, 0); }
static int op_fill_create(void) { return fx.out = fill_new(fx.fill_mem); }
static int op_peek(void) { return log_bitmap(fx.log, VMPLAT_LOG_FETCH_F_PEEK, NR_PAGES, fx.bits) < 0 ? -1 : 0; }
static int op_borrow(void) { return log_bitmap(fx.log, 0, NR_PAGES, fx.bits) < 0 ? -1 : 0; }
static int op_abort(void) { return log_end(fx.log, VMPLAT_LOG_END_F_ABORT, NULL); }
static int op_view_read(void) { return pread(fx.view, fx.page, PAGE, 23 * PAGE) == PAGE ? 0 : -1; }
static int op_discard(void) { return view_discard(fx.view, 5, 100); }

static int op_view_create(void)
{
	struct vmplat_view_mem m[] = { { .mem_fd = fx.mem, .log_fd = fx.log },
				       { .mem_fd = fx.second, .log_fd = -1 } };

	return fx.out = view_new(m, 2, 0, 0);
}

static int op_ranges(void)
{
	struct vmplat_log_fetch f = {
		.flags = VMPLAT_LOG_FETCH_F_RANGES, .nr_pages = NR_PAGES,
		.buf = (uintptr_t)fx.ranges, .buf_bytes = sizeof(fx.ranges),
	};

	return log_fetch(fx.log, &f);
}

/* Clearing forgets on purpose, so a failure must not have cleared. */
static int op_clear(void)
{
	if (log_bitmap(fx.log, VMPLAT_LOG_FETCH_F_CLEAR, NR_PAGES, fx.bits) < 0)
		return -1;
	fx.marks = 0;
	return 0;
}

static int op_commit(void)
{
	uint8_t id[VMPLAT_ID_BYTES] = { 3 };

	if (view_commit(fx.view, id))
		return -1;
	fx.marks = 0;
	return 0;
}

static int op_domain_create(void) { return fx.out = domain_new(); }
static int op_unmap(void) { return domain_unmap(fx.domain, PAGE, DOMAIN_BYTES) == 1 ? 0 : -1; }
static bool none_or_mapped(void) { return domain_is(0) || domain_is(1); }
static bool none_or_attached(void) { return domain_status(fx.domain).out_nr_quarantined == 0; }

static int op_map(void)
{
	return domain_map(fx.domain, RW, fx.pinnable, PAGE, 0, DOMAIN_BYTES);
}

static int op_attach(void)
{
	return edu.bar ? domain_attach(fx.domain, edu.id, 0) : 0;
}

static int op_regions(void)
{
	struct vmplat_domain_region list[8];
	struct vmplat_domain_regions arg = {
		.size = sizeof(arg), .buf = (uintptr_t)list, .nr = ARRAY_SIZE(list),
	};

	return ioctl(fx.domain, VMPLAT_DOMAIN_REGIONS, &arg);
}

static int op_put(void)
{
	struct vmplat_fill_put arg = {
		.size = sizeof(arg), .first = 3, .nr_pages = 1, .buf = (uintptr_t)fx.page,
	};

	return ioctl(fx.fill, VMPLAT_FILL_PUT, &arg);
}

static int op_fill_end(void)
{
	struct vmplat_fill_end arg = { .size = sizeof(arg) };

	return ioctl(fx.fill, VMPLAT_FILL_END, &arg);
}

static int op_pwrite(void)
{
	if (pwrite(fx.mem, fx.page, PAGE, 7 * PAGE) != PAGE)
		return -1;
	fx.marks_change = true;
	return 0;
}

static int op_pread(void) { return pread(fx.mem, fx.page, PAGE, 23 * PAGE) == PAGE ? 0 : -1; }

static int op_punch(void)
{
	if (fallocate(fx.mem, FALLOC_FL_PUNCH_HOLE | FALLOC_FL_KEEP_SIZE, 0, 20 * PAGE + 10))
		return -1;
	fx.marks_change = true;
	return 0;
}

static sigjmp_buf bus;

static void on_bus(int sig)
{
	siglongjmp(bus, 1);
}

static int store_at(uint64_t page)
{
	if (sigsetjmp(bus, 1)) {
		errno = ENOMEM;
		return -1;
	}
	*(volatile char *)(fx.map + page * PAGE) = 'b';
	fx.marks_change = true;
	return 0;
}

static int op_touch(void) { return store_at(11); }

/* A copy that cannot be made breaks the view, but never the writer or the image. */
static int op_cow(void)
{
	return store_at(23);
}

static bool cow_sane(void)
{
	struct vmplat_view_status st = view_status(fx.view);
	ssize_t n = pread(fx.view, fx.page, PAGE, 23 * PAGE);

	return st.out_state == VMPLAT_VIEW_OK ? n == PAGE && fx.page[0] == 'a' :
	       n == -1 && errno == ENODATA;
}

/* ---- file system -------------------------------------------------------- */

static char path_a[128], path_b[128];

static int op_create(void)
{
	int fd = open(path_a, O_RDWR | O_CREAT | O_EXCL, 0600);

	if (fd < 0)
		return -1;
	close(fd);
	return 0;
}

static int op_tmpfile(void)
{
	int fd = open(dir, O_TMPFILE | O_RDWR, 0600);

	if (fd < 0)
		return -1;
	close(fd);
	return 0;
}

static int op_mkdir(void) { return mkdir(path_b, 0700); }
static int op_mount(void) { return mount("none", path_b, "vmplatfs", 0, "size=1M,mode=0700"); }

static void fs_setup(void)
{
	fx_open();
	unlink(path_a);
	rmdir(path_b);
}

static void mount_setup(void)
{
	fs_setup();
	need(mkdir(path_b, 0700));
}

static void mount_teardown(void)
{
	umount2(path_b, MNT_DETACH);
	fx_close();
}

/* ---- PCI functions ------------------------------------------------------ */

/*
 * A PF: QEMU's igb with vmplat_vfio for a driver, which makes VFs and does nothing else.
 * A function to be held: edu, by the same driver while that is tested.
 */
static struct {
	char address[16];
	uint64_t id, generation;
} pf;

static bool have_vfio;

static int load(const char *module)
{
	int fd = open(module, O_RDONLY | O_CLOEXEC);
	long rc = fd < 0 ? -1 : syscall(SYS_finit_module, fd, "", 0);

	if (fd >= 0)
		close(fd);
	return rc && errno != EEXIST ? -1 : 0;
}

static bool load_vfio(void)
{
	char path[256];
	struct utsname name;

	uname(&name);
	snprintf(path, sizeof(path), "build/kmod/%s/vmplat_vfio.ko", name.release);
	return !system("$(cat /proc/sys/kernel/modprobe) -q vfio-pci") && !load(path);
}

static void give_to(const char *address, const char *driver)
{
	char path[128];

	snprintf(path, sizeof(path), "/sys/bus/pci/devices/%s/driver_override", address);
	need(poke(path, *driver ? driver : "\n"));
	snprintf(path, sizeof(path), "/sys/bus/pci/devices/%s/driver/unbind", address);
	if (!access(path, F_OK))
		need(poke(path, address));
	if (*driver)
		need(poke("/sys/bus/pci/drivers_probe", address));
}

static bool pf_open(void)
{
	char total[16];

	if (system("$VMPLAT_SRC/selftests/host/qmp device_add "
		   "'{\"driver\": \"igb\", \"id\": \"igb0\", \"bus\": \"rp1\"}' >/dev/null"))
		return false;
	for (int i = 0; i < 600 && !pci_find("0x8086", "0x10c9", pf.address); i++)
		usleep(100000);
	pci_read(pf.address, "sriov_totalvfs", total, sizeof(total));
	if (!atoi(total))
		return false;
	pf.id = pci_id(pf.address);
	give_to(pf.address, "vmplat_vfio");
	return true;
}

static void pf_close(void)
{
	give_to(pf.address, "");
	if (system("$VMPLAT_SRC/selftests/host/qmp --wait DEVICE_DELETED device_del '{\"id\": \"igb0\"}' >/dev/null"))
		diag("the igb stays");
}

static struct vmplat_sriov_status pf_status(void)
{
	struct vmplat_sriov_status st = { .size = sizeof(st), .pf = pf.id };

	need(ioctl(dev_fd, VMPLAT_SRIOV_STATUS, &st));
	return st;
}

static int sriov_create(struct vmplat_sriov_create *arg)
{
	*arg = (struct vmplat_sriov_create) {
		.size = sizeof(*arg), .pf = pf.id, .nr_vfs = 2, .owner = "failnth",
	};
	return ioctl(dev_fd, VMPLAT_SRIOV_CREATE, arg);
}

/*
 * Of a PF that has VFs already: to Linux 6.12 an allocation that fails in the middle of
 * pci_iov_add_virtfn() is a BUG, whoever asked for VFs. And one that fails while an IOMMU group
 * goes back to the host's domain is a WARN, so to bind and destroy cannot be tried either.
 */
static int op_sriov_create(void)
{
	struct vmplat_sriov_create arg;

	if (!sriov_create(&arg))
		bail("two sets of one PF");
	/* why may be what could not be told */
	return errno == EBUSY && (arg.out_why == VMPLAT_SRIOV_WHY_OWNED || !arg.out_why) ? 0 : -1;
}

static int sriov_destroy(uint64_t generation)
{
	struct vmplat_sriov_destroy arg = { .size = sizeof(arg), .generation = generation };

	return ioctl(dev_fd, VMPLAT_SRIOV_DESTROY, &arg);
}

static int op_sriov_status(void)
{
	struct vmplat_sriov_status st = { .size = sizeof(st), .pf = pf.id };

	return ioctl(dev_fd, VMPLAT_SRIOV_STATUS, &st);
}

static int op_hold(void)
{
	uint64_t id = edu.id;
	struct vmplat_pci_hold arg = {
		.size = sizeof(arg), .domain = id >> 16, .devid = id & 0xffff, .out_fd = -1,
	};

	return fx.out = ioctl(dev_fd, VMPLAT_PCI_HOLD, &arg) ? -1 : arg.out_fd;
}

static bool same_set(void)
{
	struct vmplat_sriov_status st = pf_status();

	return !st.out_changing && st.out_generation == pf.generation && st.out_nr_vfs == 2;
}

static void with_set(void)
{
	struct vmplat_sriov_create arg;

	fx_open();
	need(sriov_create(&arg));
	pf.generation = arg.out_generation;
}

static void drop_set(void)
{
	need(sriov_destroy(pf.generation));
	if (pf_status().out_nr_vfs)
		bail("VFs are left");
	fx_close();
}

static bool needs_pf(void) { return *pf.address; }
static bool needs_held(void) { return have_vfio && edu.bar; }

static void with_held(void)
{
	fx_open();
	give_to(edu.address, "vmplat_vfio");
}

static void drop_held(void)
{
	fx_close();
	give_to(edu.address, "");
}

/* ---- the sweep ---------------------------------------------------------- */

static const struct test {
	const char *name;
	void (*setup)(void);
	int (*op)(void);
	bool (*sane)(void);
	void (*teardown)(void);
	bool (*needs)(void);
} tests[] = {
	{ "MEM_CREATE", fx_open, op_mem_create },
	{ "LOG_CREATE", fx_open, op_log_create },
	{ "VIEW_CREATE", fx_open, op_view_create },
	{ "FILL_CREATE", fx_open, op_fill_create },
	{ "LOG_FETCH peek", fx_open, op_peek },
	{ "LOG_FETCH borrow", fx_open, op_borrow },
	{ "LOG_FETCH ranges", fx_open, op_ranges },
	{ "LOG_FETCH clear", fx_open, op_clear },
	{ "LOG_END abort", fx_open, op_abort },
	{ "VIEW_COMMIT", with_view, op_commit },
	{ "VIEW_DISCARD", with_view, op_discard },
	{ "read a view", with_view, op_view_read },
	{ "store under a view", with_view, op_cow, cow_sane },
	{ "punch under a view", with_view, op_punch },
	{ "pwrite under a view", with_view, op_pwrite },
	{ "FILL_PUT", with_fill, op_put },
	{ "FILL_END", with_fill, op_fill_end },
	{ "touch a page", fx_open, op_touch },
	{ "pwrite", fx_open, op_pwrite },
	{ "pread", fx_open, op_pread },
	{ "punch", fx_open, op_punch },
	{ "create a file", fs_setup, op_create },
	{ "O_TMPFILE", fs_setup, op_tmpfile },
	{ "mkdir", fs_setup, op_mkdir },
	{ "mount", mount_setup, op_mount, NULL, mount_teardown },
	{ "DOMAIN_CREATE", with_domain, op_domain_create },
	{ "DOMAIN_MAP", with_domain, op_map, none_or_mapped },
	{ "DOMAIN_MAP of an attached one", with_attached, op_map, none_or_mapped },
	{ "DOMAIN_UNMAP", with_mapping, op_unmap, none_or_mapped },
	{ "DOMAIN_ATTACH", with_mapping, op_attach, none_or_attached },
	{ "DOMAIN_REGIONS", with_attached, op_regions },
	{ "PCI_HOLD", with_held, op_hold, NULL, drop_held, needs_held },
	{ "SRIOV_CREATE", with_set, op_sriov_create, same_set, drop_set, needs_pf },
	{ "SRIOV_STATUS", with_set, op_sriov_status, same_set, drop_set, needs_pf },
};

static bool sane_errno(int err)
{
	return err == ENOMEM || err == EFAULT || err == ENOSPC || err == EINTR || err == EAGAIN ||
	       err == ENFILE || err == EMFILE;
}

/* One go with failure @nth; whether the failure was reached. */
static bool sweep_one(const struct test *t, int nth, int *errs)
{
	int rc, err, fds;
	bool hit;

	t->setup();
	fds = open_fds();
	arm(nth);
	errno = 0;
	rc = t->op();
	err = errno;
	hit = disarm();
	if (rc < 0 && hit && !sane_errno(err)) {
		diag("%s, failure %d: %s", t->name, nth, strerror(err));
		++*errs;
	}
	if (rc < 0 && !hit) {
		diag("%s: fails without a failure: %s", t->name, strerror(err));
		++*errs;
	}
	if (rc < 0 && open_fds() != fds) {
		diag("%s, failure %d: a descriptor leaked", t->name, nth);
		++*errs;
	}
	if (!fx.marks_change && marks() != fx.marks) {
		diag("%s, failure %d (%s): %lu marks became %lu", t->name, nth,
		     rc < 0 ? strerror(err) : "succeeded", fx.marks, marks());
		++*errs;
	}
	if (t->sane && !t->sane()) {
		diag("%s, failure %d: the outcome is wrong", t->name, nth);
		++*errs;
	}
	if (rc < 0 && t->op() < 0) {
		diag("%s, failure %d: does not work when tried again: %s", t->name, nth,
		     strerror(errno));
		++*errs;
	}
	(t->teardown ? t->teardown : fx_close)();
	return hit;
}

static void sweep(const struct test *t)
{
	int nth, errs = 0;

	if (t->needs && !t->needs()) {
		ok(false, "%s: what it needs is not there", t->name);
		return;
	}
	for (nth = 1; nth < 2000; nth++)
		if (!sweep_one(t, nth, &errs))
			break;
	ok(!errs && nth < 2000, "%s: %d failures", t->name, nth - 1);
}

int main(int argc, char **argv)
{
	const char *only = argc > 1 ? argv[1] : "";
	struct sigaction sa = { .sa_handler = on_bus };

	sigaction(SIGBUS, &sa, NULL);
	dev_open();
	if (!injector_open())
		skip_all("this kernel has no fault injection");
	edu_open(&edu);
	have_vfio = load_vfio();
	if (!have_vfio || !pf_open())
		*pf.address = 0;
	dir = fs_mount("");
	if (!dir)
		bail("mount");
	snprintf(path_a, sizeof(path_a), "%s/a", dir);
	snprintf(path_b, sizeof(path_b), "%s/b", dir);
	for (size_t i = 0; i < ARRAY_SIZE(tests); i++)
		if (!*only || strstr(tests[i].name, only))
			sweep(&tests[i]);
	unlink(path_a);
	if (needs_pf())
		pf_close();
	if (have_vfio)
		syscall(SYS_delete_module, "vmplat_vfio", 0);
	return done();
}
