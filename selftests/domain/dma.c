// SPDX-License-Identifier: GPL-2.0-only
/*
 * What a device reaches: DMA of QEMU's "edu" through a domain, and all the ways in
 * which it must not get through. Every claim that nothing was reached stands beside
 * one that the same transfer works where it may.
 */
#include <fcntl.h>
#include <sched.h>
#include <signal.h>
#include <sys/ioctl.h>
#include <sys/mman.h>
#include <sys/wait.h>
#include <unistd.h>

#include "domain/edu.h"

#define NR	16
#define IOVA	0x10000000UL

static struct edu edu;
static int mem, domain;
static volatile uint8_t *map;

static void fill(unsigned int page, uint8_t value)
{
	memset((void *)(map + page * PAGE), value, PAGE);
}

static bool all(const volatile uint8_t *p, uint8_t value)
{
	for (size_t i = 0; i < PAGE; i++)
		if (p[i] != value)
			return false;
	return true;
}

static void setup(void)
{
	mem = need(mem_new_kind(NR * PAGE, VMPLAT_MEM_F_PINNABLE));
	map = map_mem(mem, NR * PAGE);
	domain = need(domain_new());
	need(domain_attach(domain, edu.id, 0));
	edu_start(&edu);
}

static void teardown(void)
{
	munmap((void *)map, NR * PAGE);
	close(mem);
	close(domain);
}

/* Put @value into the device's memory, by a way that is known to work. */
static void arm(uint8_t value)
{
	int other = need(mem_new_kind(PAGE, VMPLAT_MEM_F_PINNABLE));
	uint8_t *p = map_mem(other, PAGE);

	memset(p, value, PAGE);
	need(domain_map(domain, RW, other, IOVA * 2, 0, PAGE));
	edu_load(&edu, IOVA * 2, PAGE);
	/* proof: it comes back */
	memset(p, 0, PAGE);
	edu_store(&edu, IOVA * 2, PAGE);
	if (!all(p, value))
		bail("the device does not do what it is told");
	need(domain_unmap(domain, IOVA * 2, PAGE));
	munmap(p, PAGE);
	close(other);
}

/* ---- what the kernel said ---------------------------------------------------------- */

static int kmsg;

/* Intel's is the one whose faults are logged. */
static bool faults_are_logged(void)
{
	const char *iommu = getenv("VMPLAT_IOMMU");

	return iommu && !strcmp(iommu, "intel");
}

/* Has a fault at @address been logged since? */
static bool is_reported(uint64_t address)
{
	char line[8192], text[64];
	bool found = false;
	ssize_t n;

	snprintf(text, sizeof(text), "fault addr %#lx ", address & -PAGE);
	while ((n = read(kmsg, line, sizeof(line) - 1)) > 0 || (n < 0 && errno == EPIPE)) {
		line[n > 0 ? n : 0] = 0;
		found |= strstr(line, "DMAR: [DMA Write") && strstr(line, text);
	}
	return found;
}

/* The device is told to write its memory to @to, which is @page if it is anything. */
static void blocked_store(uint64_t to, const volatile uint8_t *page, uint8_t is, const char *what)
{
	edu_store(&edu, to, PAGE);
	ok(all(page, is), "%s: nothing is written", what);
}

/* The kernel does not log each fault, so some more are made. */
static void reported_store(uint64_t to, const volatile uint8_t *page, uint8_t is, const char *what)
{
	bool reported = false;

	lseek(kmsg, 0, SEEK_END);
	blocked_store(to, page, is, what);
	if (!faults_are_logged())
		return;
	for (int i = 0; i < 1000 && !(reported = is_reported(to)); i++)
		edu_store(&edu, to, PAGE);
	ok(reported, "%s: the IOMMU reports it", what);
}

/* ---- tests -------------------------------------------------------------------------- */

static void round_trip(void)
{
	setup();
	fill(3, 0x5a);
	fill(4, 0x11);
	works(domain_map(domain, RW, mem, IOVA, 3 * PAGE, 2 * PAGE), "two pages are mapped");
	edu_load(&edu, IOVA, PAGE);
	edu_store(&edu, IOVA + PAGE, PAGE);
	ok(all(map + 4 * PAGE, 0x5a), "the device reads one page and writes the other");
	ok(all(map + 3 * PAGE, 0x5a) && all(map + 5 * PAGE, 0), "and no other");
	is_int(domain_unmap(domain, IOVA, 2 * PAGE), 1, "unmapped");
	fill(4, 0x22);
	reported_store(IOVA + PAGE, map + 4 * PAGE, 0x22, "an address that was mapped");
	works(domain_map(domain, RW, mem, IOVA, 0, PAGE), "mapped anew");
	blocked_store(IOVA + PAGE, map + 4 * PAGE, 0x22, "the page behind a mapping");
	edu_store(&edu, IOVA, PAGE);
	ok(all(map, 0x5a), "the same transfer works where it may");
	teardown();
}

static void physical_addresses(void)
{
	volatile uint8_t *own = mmap(NULL, PAGE, PROT_READ | PROT_WRITE,
				     MAP_PRIVATE | MAP_ANONYMOUS | MAP_POPULATE, -1, 0);

	setup();
	arm(0x77);
	memset((void *)own, 0x01, PAGE);
	fill(2, 0x02);
	mlock((void *)own, PAGE);
	reported_store(physical(own), own, 0x01, "the physical address of a page of a process");
	blocked_store(physical(map + 2 * PAGE), map + 2 * PAGE, 0x02,
		      "that of a page of the memory");
	works(domain_map(domain, RW, mem, IOVA, 2 * PAGE, PAGE), "that page is mapped elsewhere");
	blocked_store(physical(map + 2 * PAGE), map + 2 * PAGE, 0x02,
		      "its physical address, still");
	edu_store(&edu, IOVA, PAGE);
	ok(all(map + 2 * PAGE, 0x77), "where it is mapped it is written");
	munmap((void *)own, PAGE);
	teardown();
}

static void protection(void)
{
	setup();
	arm(0x33);
	fill(0, 0x44);
	works(domain_map(domain, VMPLAT_DOMAIN_MAP_F_READ, mem, IOVA, 0, PAGE), "mapped to be read");
	blocked_store(IOVA, map, 0x44, "a page mapped to be read");
	edu_load(&edu, IOVA, PAGE);
	works(domain_map(domain, RW, mem, IOVA + PAGE, PAGE, PAGE), "another one to be written");
	edu_store(&edu, IOVA + PAGE, PAGE);
	ok(all(map + PAGE, 0x44), "it was read");
	teardown();
}

static void mapped_before_attach(void)
{
	setup();
	close(domain);
	domain = need(domain_new());
	fill(0, 0x66);
	works(domain_map(domain, RW, mem, IOVA, 0, NR * PAGE), "mapped before there is a device");
	works(domain_attach(domain, edu.id, 0), "attached");
	edu_start(&edu);
	edu_load(&edu, IOVA, PAGE);
	edu_store(&edu, IOVA + (NR - 1) * PAGE, PAGE);
	ok(all(map + (NR - 1) * PAGE, 0x66), "the device sees it");
	teardown();
}

/* ---- what a log says of it ------------------------------------------------------------- */

/* Does the next fetch report page @page, and how many in all? */
static bool reported(int log, unsigned int page, uint64_t nr, uint64_t unsure, const char *what)
{
	uint64_t bits[1] = {};
	struct vmplat_log_fetch f = {
		.flags = VMPLAT_LOG_FETCH_F_CLEAR, .nr_pages = NR, .buf = (uintptr_t)bits,
		.buf_bytes = sizeof(bits),
	};

	need(log_fetch(log, &f));
	if (ok((!nr || bit(bits, page)) && f.out_nr_dirty == nr && f.out_nr_unsure == unsure, "%s", what))
		return true;
	diag("%#llx: %llu pages, %llu of them unsure", (unsigned long long)bits[0], f.out_nr_dirty,
	     f.out_nr_unsure);
	return false;
}

/* No processor touches these pages: all that tells of a write is that a device could. */
static void logged(void)
{
	int log, late;

	setup();
	arm(0xd1);
	for (int i = 0; i < NR; i++)
		fill(i, 0);
	log = need(log_new(mem, 0, 0));
	late = need(log_new(mem, 0, 0));
	lru_drain();
	need(log_bitmap(log, VMPLAT_LOG_FETCH_F_CLEAR, NR, &(uint64_t) { 0 }));
	need(log_bitmap(late, VMPLAT_LOG_FETCH_F_CLEAR, NR, &(uint64_t) { 0 }));
	reported(log, 0, 0, 0, "nothing is written");
	reported(late, 0, 0, 0, "as both logs say");
	need(domain_map(domain, RW, mem, IOVA, 4 * PAGE, 3 * PAGE));
	need(domain_map(domain, VMPLAT_DOMAIN_MAP_F_READ, mem, 4 * IOVA, 8 * PAGE, PAGE));
	edu_load(&edu, 4 * IOVA, PAGE);
	arm(0xd1);
	edu_store(&edu, IOVA + PAGE, PAGE);
	reported(log, 5, 3, 3, "a page that a device wrote is reported, with all it could have written");
	ok(all(map + 5 * PAGE, 0xd1), "it did write");
	edu_store(&edu, IOVA + 2 * PAGE, PAGE);
	is_int(log_status(log).out_nr_device, 3, "three pages are mapped to be written");
	is_int(domain_unmap_all(domain), 2, "unmapped");
	is_int(log_status(log).out_nr_device, 0, "none is");
	reported(log, 6, 3, 3, "what it wrote before that is reported");
	ok(all(map + 6 * PAGE, 0xd1), "it did write");
	reported(log, 6, 0, 0, "and not again");
	reported(late, 5, 3, 3, "a log that was not asked meanwhile tells of both");
	reported(late, 5, 0, 0, "once");
	need(domain_map(domain, RW, mem, IOVA, 4 * PAGE, PAGE));
	edu_store(&edu, IOVA, PAGE);
	works(domain_detach(domain, edu.id, VMPLAT_DOMAIN_DETACH_F_RELEASE), "the device goes, the mapping stays");
	reported(log, 4, 1, 1, "what it wrote is reported");
	reported(log, 4, 1, 1, "again: another may come");
	close(domain);
	reported(log, 4, 1, 1, "and once more when the domain is closed");
	reported(log, 4, 0, 0, "then no more");
	close(late);
	close(log);
	domain = need(domain_new());
	teardown();
}

/* Pieces of every kind, each at the address it was mapped at, whatever entries that took. */
static void blocks(uint64_t iova, uint64_t from)
{
	static const unsigned int where[] = { 0, 1, 511, 512, 519, 520, 521, 1023, 1024, 1535, 1536, 1540 };
	const uint64_t nr = 3 * 512 + 5;
	volatile uint8_t *p;
	int fd, wrong = 0;

	setup();
	arm(0xc3);
	fd = need(mem_new_kind(nr * PAGE, VMPLAT_MEM_F_PINNABLE | VMPLAT_MEM_F_HUGE));
	need(fallocate(fd, FALLOC_FL_KEEP_SIZE, 0, nr * PAGE));
	need(fallocate(fd, FALLOC_FL_PUNCH_HOLE | FALLOC_FL_KEEP_SIZE, 520 * PAGE, PAGE));
	p = map_mem(fd, nr * PAGE);
	works(domain_map(domain, RW, fd, iova, from * PAGE, (nr - from) * PAGE),
	      "blocks are mapped at %#llx, from page %llu on", (unsigned long long)iova,
	      (unsigned long long)from);
	for (size_t i = 0; i < ARRAY_SIZE(where); i++) {
		if (where[i] < from)
			continue;
		edu_store(&edu, iova + (where[i] - from) * PAGE, PAGE);
		wrong += !all(p + where[i] * PAGE, 0xc3);
	}
	for (uint64_t page = 0; page < nr; page++) {
		bool hit = false;

		for (size_t i = 0; i < ARRAY_SIZE(where); i++)
			hit |= page == where[i] && page >= from;
		wrong += !hit && !all(p + page * PAGE, 0);
	}
	is_int(wrong, 0, "each page is where it should be, and no other is written");
	munmap((void *)p, nr * PAGE);
	close(fd);
	teardown();
}

static void quarantine(void)
{
	struct vmplat_domain_status st;

	setup();
	arm(0x10);
	fill(0, 0x20);
	need(domain_map(domain, RW, mem, IOVA, 0, PAGE));
	works(domain_detach(domain, edu.id, 0), "detached");
	st = domain_status(domain);
	ok(!st.out_nr_attached && st.out_nr_quarantined == 1, "it is in quarantine");
	fails(domain_detach(domain, edu.id, 0), EALREADY, "to detach it again");
	ok(pci_is_master(edu.address), "it could do DMA");
	blocked_store(IOVA, map, 0x20, "what it had");
	blocked_store(physical(map), map, 0x20, "a physical address, in quarantine");
	works(domain_attach(domain, edu.id, 0), "attached again");
	edu_store(&edu, IOVA, PAGE);
	ok(all(map, 0x10), "it sees the mapping that stayed");
	fails(domain_attach(domain, edu.id, 0), EALREADY, "to attach it again");
	works(domain_detach(domain, edu.id, VMPLAT_DOMAIN_DETACH_F_RELEASE), "released");
	ok(!pci_is_master(edu.address), "without bus mastering");
	fails(domain_detach(domain, edu.id, VMPLAT_DOMAIN_DETACH_F_RELEASE), ENOENT,
	      "to release it again");
	works(domain_attach(domain, edu.id, VMPLAT_DOMAIN_ATTACH_F_QUARANTINE),
	      "taken into quarantine at once");
	edu_start(&edu);
	fill(0, 0x30);
	blocked_store(IOVA, map, 0x30, "an address it never had");
	teardown();
	ok(!pci_is_master(edu.address), "a closed domain leaves it without bus mastering");
}

static void two_domains(void)
{
	struct vmplat_domain_attach arg = domain_attach_arg(edu.id,
						VMPLAT_DOMAIN_ATTACH_F_UNSAFE_INTERRUPTS);
	int other;

	setup();
	other = need(domain_new());
	fails(ioctl(other, VMPLAT_DOMAIN_ATTACH, &arg), EBUSY, "a group of another domain");
	is_int(arg.out_why, VMPLAT_DOMAIN_WHY_OWNED, "it says that somebody has it");
	fails(domain_detach(other, edu.id, 0), ENOENT, "nor can that detach it");
	close(domain);
	works(domain_attach(other, edu.id, 0), "once that is closed it can be had");
	domain = other;
	teardown();
}

/* ---- refusals ------------------------------------------------------------------------ */

static void not_for_us(void)
{
	struct vmplat_domain_attach arg;
	char address[16], driver[64] = "", path[128], target[256];
	ssize_t n;

	domain = need(domain_new());
	/* the disk or channel the host lives on: any virtio function */
	if (pci_find("0x1af4", "0x1009", address) || pci_find("0x1af4", "0x1049", address)) {
		arg = domain_attach_arg(pci_id(address), VMPLAT_DOMAIN_ATTACH_F_UNSAFE_INTERRUPTS);
		fails(ioctl(domain, VMPLAT_DOMAIN_ATTACH, &arg), EBUSY, "a function with a driver");
		snprintf(path, sizeof(path), "/sys/bus/pci/devices/%s/driver", address);
		n = readlink(path, target, sizeof(target) - 1);
		target[n > 0 ? n : 0] = 0;
		snprintf(driver, sizeof(driver), "%s", strrchr(target, '/') + 1);
		is_int(arg.out_why, VMPLAT_DOMAIN_WHY_DRIVER, "it says so");
		is_int(arg.out_blocker, pci_id(address), "which function");
		is_str((char *)arg.out_driver, driver, "and which driver");
		ok(arg.out_nr_devices >= 1, "the group has %u functions", arg.out_nr_devices);
	} else {
		skip("no function with a driver");
	}
	fails(domain_attach(domain, 0xffff, 0), ENODEV, "no such function");
	fails(domain_attach(domain, 1ULL << 40, 0), ENODEV, "no function can be that");
	fails(domain_detach(domain, edu.id, 0), ENOENT, "to detach what was never attached");
	fails(domain_detach(domain, 0xffff, 0), ENODEV, "to detach no function");
	is_int(domain_status(domain).out_nr_attached, 0, "nothing is attached");
	close(domain);
}

static void without_privilege(void)
{
	pid_t pid;
	int status;

	domain = need(domain_new());
	pid = need(fork());
	if (!pid) {
		if (setresuid(1000, 1000, 1000))
			_exit(2);
		_exit(!(domain_attach(domain, edu.id, 0) && errno == EPERM));
	}
	need(waitpid(pid, &status, 0));
	is_int(status, 0, "who lacks CAP_SYS_ADMIN cannot attach, EPERM");
	close(domain);
}

static int get_regions(struct vmplat_domain_region *list, uint32_t room, uint32_t *nr)
{
	struct vmplat_domain_regions arg = {
		.size = sizeof(arg), .buf = (uintptr_t)list, .nr = room,
	};
	int rc = ioctl(domain, VMPLAT_DOMAIN_REGIONS, &arg);

	*nr = arg.out_nr;
	return rc;
}

static void reserved(void)
{
	struct vmplat_domain_region list[64];
	uint32_t nr = 0, fewer;
	int msi = -1;

	setup();
	works(get_regions(list, ARRAY_SIZE(list), &nr), "reserved regions are listed");
	for (uint32_t i = 0; i < nr; i++) {
		diag("%#llx-%#llx group %u type %u", list[i].first, list[i].last, list[i].group,
		     list[i].type);
		if (list[i].type == VMPLAT_DOMAIN_REGION_MSI)
			msi = i;
	}
	ok(msi >= 0, "there is one for interrupts");
	if (msi < 0)
		return;
	fails(get_regions(list, nr - 1, &fewer), EMSGSIZE, "a list that is too short");
	is_int(fewer, nr, "says how long it has to be");
	is_int(list[msi].first, 0xfee00000, "where x86 has them");
	fails(domain_map(domain, RW, mem, list[msi].first, 0, PAGE), EADDRNOTAVAIL,
	      "to map its first page");
	fails(domain_map(domain, RW, mem, list[msi].last + 1 - PAGE, 0, PAGE), EADDRNOTAVAIL,
	      "its last page");
	fails(domain_map(domain, RW, mem, list[msi].first - PAGE, 0, 2 * PAGE), EADDRNOTAVAIL,
	      "a range that reaches into it");
	works(domain_map(domain, RW, mem, list[msi].first - PAGE, 0, PAGE), "the page before it");
	works(domain_map(domain, RW, mem, list[msi].last + 1, 0, PAGE), "the page behind it");
	fails(domain_map(domain, RW, mem, domain_status(domain).out_iova_last + 1 - PAGE, 0, 2 * PAGE),
	      domain_status(domain).out_iova_last == UINT64_MAX ? EOVERFLOW : EADDRNOTAVAIL,
	      "what the IOMMU cannot address");
	works(domain_detach(domain, edu.id, VMPLAT_DOMAIN_DETACH_F_RELEASE), "released");
	works(domain_map(domain, RW, mem, list[msi].first, 0, PAGE),
	      "without the group nothing is reserved there");
	{
		struct vmplat_domain_attach arg = domain_attach_arg(edu.id,
						VMPLAT_DOMAIN_ATTACH_F_UNSAFE_INTERRUPTS);

		fails(ioctl(domain, VMPLAT_DOMAIN_ATTACH, &arg), EADDRNOTAVAIL,
		      "so it cannot be attached");
		is_int(arg.out_why, VMPLAT_DOMAIN_WHY_RESERVED, "it says why");
		is_int(domain_status(domain).out_nr_quarantined, 0, "and stays the host's");
	}
	teardown();
}

/* ---- ends ------------------------------------------------------------------------------ */

static void mapper_killed(void)
{
	int go[2];
	pid_t pid;
	char c;

	setup();
	arm(0x99);
	close(domain);
	need(pipe(go));
	pid = need(fork());
	if (!pid) {
		domain = domain_new();
		if (domain < 0 || domain_map(domain, RW, mem, IOVA, 0, NR * PAGE) ||
		    domain_attach(domain, edu.id, 0))
			_exit(1);
		edu_start(&edu);
		edu_store(&edu, IOVA, PAGE);
		need(write(go[1], "x", 1));
		for (;;)
			pause();
	}
	close(go[1]);
	is_int(read(go[0], &c, 1), 1, "a process maps and attaches");
	ok(all(map, 0x99), "its device writes");
	ok(fallocate(mem, FALLOC_FL_PUNCH_HOLE | FALLOC_FL_KEEP_SIZE, 0, PAGE) && errno == EBUSY,
	   "meanwhile nobody else can punch its pages out");
	kill(pid, SIGKILL);
	need(waitpid(pid, NULL, 0));
	close(go[0]);
	ok(!pci_is_master(edu.address), "kill -9: the device is silenced");
	works(fallocate(mem, FALLOC_FL_PUNCH_HOLE | FALLOC_FL_KEEP_SIZE, 0, PAGE),
	      "nothing is held");
	fill(0, 0x12);
	edu_start(&edu);
	blocked_store(IOVA, map, 0x12, "what it had mapped");
	domain = need(domain_new());
	works(domain_attach(domain, edu.id, 0), "the device can be attached by somebody else");
	teardown();
}

static void memory_closed(void)
{
	uint8_t page[PAGE];
	int again;

	setup();
	arm(0xab);
	need(domain_map(domain, RW, mem, IOVA, 0, NR * PAGE));
	munmap((void *)map, NR * PAGE);
	close(mem);
	/* its pages are the device's: nobody else gets them */
	edu_store(&edu, IOVA, PAGE);
	memset(page, 0, sizeof(page));
	edu_load(&edu, IOVA, PAGE);
	again = need(mem_new_kind(NR * PAGE, VMPLAT_MEM_F_PINNABLE));
	map = map_mem(again, NR * PAGE);
	for (int i = 0; i < NR; i++)
		fill(i, 0);
	need(domain_map(domain, RW, again, IOVA * 3, 0, PAGE));
	edu_store(&edu, IOVA * 3, PAGE);
	ok(all(map, 0xab), "a memory that everybody closed is kept for the device");
	ok(all(map + PAGE, 0), "and its pages are not reused");
	mem = again;
	teardown();
}

static void unplugged(void)
{
	char path[128];
	int other, log;

	setup();
	log = need(log_new(mem, 0, 0));
	need(domain_map(domain, RW, mem, IOVA, 0, PAGE));
	edu_close(&edu);
	snprintf(path, sizeof(path), "/sys/bus/pci/devices/%s/remove", edu.address);
	is_int(poke(path, "1"), 0, "the function is unplugged while it is attached");
	is_int(domain_status(domain).out_nr_attached, 0, "its group is gone");
	fails(domain_detach(domain, edu.id, 0), ENODEV, "to detach it");
	is_int(domain_status(domain).out_nr_mappings, 1, "the mapping is there");
	is_int(log_status(log).out_nr_device, 1, "and its page counts, for whatever is attached next");
	close(log);
	is_int(poke("/sys/bus/pci/rescan", "1"), 0, "it is plugged again");
	if (!edu_open(&edu))
		bail("it did not come back");
	other = need(domain_new());
	works(domain_attach(other, edu.id, 0), "and can be had");
	close(other);
	works(domain_attach(domain, edu.id, 0), "also in the domain it was in");
	edu_start(&edu);
	edu_load(&edu, IOVA, PAGE);
	teardown();
}

/* Everything there is, again and again, while another process does the same. */
static void in_turns(void)
{
	pid_t pid;
	int status, got = 0;

	setup();
	close(domain);
	pid = need(fork());
	for (int i = 0; i < 40; i++) {
		domain = need(domain_new());
		need(domain_map(domain, RW, mem, IOVA, 0, NR * PAGE));
		if (!domain_attach(domain, edu.id, 0)) {
			got++;
			need(domain_detach(domain, edu.id, i % 2 ? VMPLAT_DOMAIN_DETACH_F_RELEASE : 0));
		} else if (errno != EBUSY) {
			bail("attach");
		}
		close(domain);
		sched_yield();
	}
	if (!pid)
		_exit(got ? 0 : 1);
	need(waitpid(pid, &status, 0));
	ok(got && !status, "two processes take turns with one device");
	domain = need(domain_new());
	works(domain_attach(domain, edu.id, 0), "and leave it free");
	teardown();
}

int main(void)
{
	dev_open();
	kmsg = need(open("/dev/kmsg", O_RDONLY | O_NONBLOCK | O_CLOEXEC));
	if (!edu_open(&edu))
		skip_all("no edu device");
	round_trip();
	physical_addresses();
	protection();
	mapped_before_attach();
	logged();
	blocks(0x40000000, 0);
	blocks(0x40000000 + 3 * PAGE, 7);
	quarantine();
	two_domains();
	not_for_us();
	without_privilege();
	reserved();
	mapper_killed();
	memory_closed();
	unplugged();
	in_turns();
	edu_close(&edu);
	return done();
}
