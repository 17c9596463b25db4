// SPDX-License-Identifier: GPL-2.0-only
/*
 * vmplat_vfio and holds: who has a function open is known and told; who has it open keeps it, who holds it keeps it
 * shut, and never both. On QEMU's edu device, behind an IOMMU.
 *
 *	vfio MODULE		vmplat_vfio.ko of the running kernel
 */
#include <fcntl.h>
#include <glob.h>
#include <poll.h>
#include <pthread.h>
#include <sys/eventfd.h>
#include <sys/ioctl.h>
#include <sys/prctl.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <sys/wait.h>
#include <unistd.h>

#include <linux/vfio.h>
#include <vmplat.h>

#include "event/expect.h"

#define PCI	"/sys/bus/pci"

static struct {
	char address[16];
	char group[32];		/* /dev/vfio/N */
	uint32_t devid;
} edu;

static struct vmplat *dev;

/* ---- set-up ---------------------------------------------------------------- */

static char *attribute(const char *address, const char *name)
{
	static char path[128];

	snprintf(path, sizeof(path), PCI "/devices/%s/%s", address, name);
	return path;
}

static const char *link_name(const char *path)
{
	static char target[256];
	ssize_t len = readlink(path, target, sizeof(target) - 1);
	char *slash;

	if (len < 0)
		return "";
	target[len] = 0;
	slash = strrchr(target, '/');
	return slash ? slash + 1 : target;
}

static const char *driver(void)
{
	return link_name(attribute(edu.address, "driver"));
}

static bool is_edu(const char *address)
{
	char text[16] = "";
	FILE *f = fopen(attribute(address, "vendor"), "r");
	bool is = f && fgets(text, sizeof(text), f) && !strcmp(text, "0x1234\n");

	if (f)
		fclose(f);
	f = fopen(attribute(address, "device"), "r");
	is = is && f && fgets(text, sizeof(text), f) && !strcmp(text, "0x11e8\n");
	if (f)
		fclose(f);
	return is;
}

static bool find_edu(void)
{
	unsigned int bus, slot, fn;
	glob_t all;

	if (glob(PCI "/devices/*", 0, NULL, &all))
		return false;
	for (size_t i = 0; i < all.gl_pathc && !*edu.address; i++) {
		const char *address = strrchr(all.gl_pathv[i], '/') + 1;

		if (is_edu(address))
			snprintf(edu.address, sizeof(edu.address), "%s", address);
	}
	globfree(&all);
	if (sscanf(edu.address, "%*x:%x:%x.%x", &bus, &slot, &fn) != 3)
		return false;
	edu.devid = bus << 8 | slot << 3 | fn;
	snprintf(edu.group, sizeof(edu.group), "/dev/vfio/%.16s",
		 link_name(attribute(edu.address, "iommu_group")));
	return true;
}

static void modprobe(const char *name)
{
	char command[64];

	snprintf(command, sizeof(command), "$(cat /proc/sys/kernel/modprobe) -q %s", name);
	if (system(command))
		bail("modprobe %s", name);
}

static int insmod(const char *path)
{
	int fd = open(path, O_RDONLY | O_CLOEXEC);
	long rc = fd < 0 ? -1 : syscall(SYS_finit_module, fd, "", 0);

	close(fd);
	return rc;
}

static void bind_edu(const char *name)
{
	poke(attribute(edu.address, "driver_override"), name);
	poke(PCI "/drivers_probe", edu.address);
}

static void unbind_edu(void)
{
	poke(attribute(edu.address, "driver_override"), "\n");
	poke(attribute(edu.address, "driver/unbind"), edu.address);
}

/* ---- the user of a function ------------------------------------------------- */

struct user {
	int container, group, device;
};

/* Its device is -1, and errno says why, if the function could not be opened. */
static void open_edu(struct user *u)
{
	u->container = need(open("/dev/vfio/vfio", O_RDWR | O_CLOEXEC));
	u->group = need(open(edu.group, O_RDWR | O_CLOEXEC));
	need(ioctl(u->group, VFIO_GROUP_SET_CONTAINER, &u->container));
	need(ioctl(u->container, VFIO_SET_IOMMU, VFIO_TYPE1_IOMMU));
	u->device = ioctl(u->group, VFIO_GROUP_GET_DEVICE_FD, edu.address);
}

static void close_edu(struct user *u)
{
	int err = errno;

	if (u->device >= 0)
		close(u->device);
	close(u->group);
	close(u->container);
	errno = err;
}

/* Rings when the user is asked to let go. */
static int request_bell(const struct user *u)
{
	struct {
		struct vfio_irq_set set;
		int32_t fd;
	} irq = {
		.set = {
			.argsz = sizeof(irq), .index = VFIO_PCI_REQ_IRQ_INDEX, .count = 1,
			.flags = VFIO_IRQ_SET_DATA_EVENTFD | VFIO_IRQ_SET_ACTION_TRIGGER,
		},
		.fd = need(eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK)),
	};

	need(ioctl(u->device, VFIO_DEVICE_SET_IRQS, &irq));
	return irq.fd;
}

static bool rang(int bell)
{
	uint64_t times;

	return read(bell, &times, sizeof(times)) == sizeof(times);
}

/* Sooner or later, or the test runs out of time: who asks tells everybody else first. */
static bool rings(int bell)
{
	struct pollfd p = { .fd = bell, .events = POLLIN };

	return poll(&p, 1, -1) == 1 && rang(bell);
}

static int hold_of(uint32_t domain, uint32_t devid, uint32_t flags, uint32_t *pid)
{
	struct vmplat_pci_hold arg = {
		.size = sizeof(arg), .flags = flags, .domain = domain, .devid = devid, .out_fd = -1,
	};
	int rc = ioctl(dev_fd, VMPLAT_PCI_HOLD, &arg);

	if (pid)
		*pid = arg.out_pid;
	return rc ? -1 : arg.out_fd;
}

static int hold(uint32_t flags)
{
	return hold_of(0, edu.devid, flags, NULL);
}

/* ---- tests ------------------------------------------------------------------ */

static void test_refusals(void)
{
	struct vmplat_pci_hold arg = { .size = sizeof(arg), .devid = edu.devid, .__reserved = 1 };
	pid_t child;
	int status;

	fails(hold_of(0, 0x10000, 0, NULL), EINVAL, "a number that is no bus and function");
	fails(hold_of(0, 0xfff8, 0, NULL), ENODEV, "a function that is not there");
	fails(hold_of(0x7777, edu.devid, 0, NULL), ENODEV, "a domain that is not there");
	fails(hold_of(0, 0x00f8, 0, NULL), ENXIO, "a function whose driver does not tell");
	fails(ioctl(dev_fd, VMPLAT_PCI_HOLD, &arg), EOPNOTSUPP, "a reserved member");
	fails(hold(1u << 31), EOPNOTSUPP, "an unknown flag");
	is_int(vmplat_pci_hold(dev, "0000:00:1f.2x", 0), -EINVAL, "an address that is none");
	is_int(vmplat_pci_hold(dev, "0000:ff:1f.7", 0), -ENODEV, "the library says the same");
	child = need(fork());
	if (!child)
		_exit(setresuid(65534, 65534, 65534) || hold(0) != -1 || errno != EPERM);
	waitpid(child, &status, 0);
	is_int(status, 0, "somebody without the right to");
}

static bool edu_event(uint32_t action, uint32_t user, bool asked, const char *what)
{
	return comes(VMPLAT_CLASS_PCI, action, what) &&
	       is_int(last.id, edu.devid, "of this function") &&
	       is_int(last.number[VMPLAT_NL_PCI_USER], user, "with its user") &&
	       is_int(last.has[VMPLAT_NL_PCI_ASKED], asked, "asked or not");
}

static void test_open(void)
{
	uint32_t pid;
	struct user u;
	int bell;

	open_edu(&u);
	ok(u.device >= 0, "it is opened");
	edu_event(VMPLAT_ACTION_OPEN, getpid(), false, "which is told");
	bell = request_bell(&u);
	fails(hold_of(0, edu.devid, 0, &pid), EBUSY, "while it is open, it cannot be held");
	is_int(pid, getpid(), "and who has it open is said");
	ok(!rang(bell), "nobody has asked for it");
	quiet("so nothing is told");
	is_int(vmplat_pci_hold(dev, edu.address, 0), -EBUSY, "not by the library either");
	ok(strstr(vmplat_last_error(), "has it open"), "which names the user");
	fails(hold(VMPLAT_PCI_HOLD_F_ASK), EBUSY, "nor if it is asked for");
	ok(rang(bell), "but the user hears of it");
	edu_event(VMPLAT_ACTION_ASK, getpid(), true, "and everybody else");
	close(bell);
	close_edu(&u);
	edu_event(VMPLAT_ACTION_CLOSE, 0, false, "that it is closed, too");
}

static void test_hold(void)
{
	int one = hold(0), two = hold(VMPLAT_PCI_HOLD_F_ASK);
	struct user u;

	ok(one >= 0 && two >= 0, "what is not open can be held, twice");
	open_edu(&u);
	ok(u.device < 0 && errno == EBUSY, "then it cannot be opened");
	close_edu(&u);
	close(one);
	open_edu(&u);
	ok(u.device < 0 && errno == EBUSY, "nor while one hold is left");
	close_edu(&u);
	quiet("which is nothing to tell");
	close(two);
	open_edu(&u);
	ok(u.device >= 0, "afterwards it can");
	edu_event(VMPLAT_ACTION_OPEN, getpid(), false, "it is told");
	close_edu(&u);
	edu_event(VMPLAT_ACTION_CLOSE, 0, false, "and that it is closed");
}

/* The kernel's own way: whoever writes to "unbind" waits for the user, and cannot be killed. */
static void test_unbind_open(void)
{
	pid_t child;
	struct user u;
	int status, bell;

	open_edu(&u);
	edu_event(VMPLAT_ACTION_OPEN, getpid(), false, "it is open");
	bell = request_bell(&u);
	child = need(fork());
	if (!child) {
		close_edu(&u);
		unbind_edu();
		_exit(0);
	}
	edu_event(VMPLAT_ACTION_ASK, getpid(), true, "its driver is to be unbound: the user is asked");
	ok(rings(bell), "and hears of it");
	is_int(waitpid(child, &status, WNOHANG), 0, "whoever unbinds it waits");
	close(bell);
	close_edu(&u);
	edu_event(VMPLAT_ACTION_CLOSE, 0, false, "until it is closed");
	comes(VMPLAT_CLASS_PCI, VMPLAT_ACTION_UNBIND, "then it is unbound");
	waitpid(child, &status, 0);
	bind_edu("vmplat_vfio");
	comes(VMPLAT_CLASS_PCI, VMPLAT_ACTION_BIND, "and bound again");
}

static void test_unbind_held(void)
{
	int fd = hold(0);

	ok(fd >= 0, "a hold");
	unbind_edu();
	is_str(driver(), "", "what is held can be unbound");
	comes(VMPLAT_CLASS_PCI, VMPLAT_ACTION_UNBIND, "which is told");
	fails(hold(0), ENXIO, "and then not held again");
	bind_edu("vmplat_vfio");
	comes(VMPLAT_CLASS_PCI, VMPLAT_ACTION_BIND, "it is bound again");
	close(fd);
	quiet("the old hold goes unnoticed");
}

/* Killed holders and killed users leave nothing. */
static void test_killed(void)
{
	int ready[2], status;
	struct user u;
	pid_t child;
	char c;

	need(pipe(ready));
	child = need(fork());
	if (!child) {
		c = hold(0) >= 0;
		need(write(ready[1], &c, 1));
		for (;;)
			pause();
	}
	ok(read(ready[0], &c, 1) == 1 && c, "a process holds it");
	kill(child, SIGKILL);
	waitpid(child, &status, 0);
	child = need(fork());
	if (!child) {
		open_edu(&u);
		c = u.device >= 0;
		need(write(ready[1], &c, 1));
		for (;;)
			pause();
	}
	ok(read(ready[0], &c, 1) == 1 && c, "it is killed, another can open it");
	edu_event(VMPLAT_ACTION_OPEN, child, false, "which is told of that one");
	kill(child, SIGKILL);
	waitpid(child, &status, 0);
	edu_event(VMPLAT_ACTION_CLOSE, 0, false, "and its end, too");
	close(ready[0]);
	close(ready[1]);
}

#define ENOUGH		30

static bool stop, is_open;
static unsigned long nr_opened, nr_refused, nr_wrong;

static void *opener(void *unused)
{
	struct user u;

	while (!__atomic_load_n(&stop, __ATOMIC_SEQ_CST)) {
		open_edu(&u);
		if (u.device >= 0) {
			__atomic_store_n(&is_open, true, __ATOMIC_SEQ_CST);
			nr_opened++;
			__atomic_store_n(&is_open, false, __ATOMIC_SEQ_CST);
		} else {
			nr_wrong += errno != EBUSY;
			nr_refused++;
		}
		close_edu(&u);
	}
	return NULL;
}

static unsigned long load(const unsigned long *what)
{
	return __atomic_load_n(what, __ATOMIC_SEQ_CST);
}

/* Until the opener has done another one of these. */
static unsigned long wait_for(const unsigned long *what)
{
	unsigned long before = load(what), open = 0;

	while (load(what) == before && !load(&nr_wrong)) {
		open += __atomic_load_n(&is_open, __ATOMIC_SEQ_CST);
		sched_yield();
	}
	return open;
}

/* One opens as fast as it can, one holds whenever it may: it is never open while it is held. */
static void test_race(void)
{
	unsigned long nr_held = 0, nr_both = 0;
	pthread_t thread;

	need(-pthread_create(&thread, NULL, opener, NULL));
	while (nr_held < ENOUGH && !load(&nr_wrong)) {
		int fd = hold(0);

		if (fd < 0) {
			nr_wrong += errno != EBUSY;
			continue;
		}
		nr_held++;
		nr_both += wait_for(&nr_refused);
		close(fd);
		/* half of the holds right at the end of a use */
		if (nr_held % 2)
			wait_for(&nr_opened);
	}
	__atomic_store_n(&stop, true, __ATOMIC_SEQ_CST);
	pthread_join(thread, NULL);
	diag("%lu times held, %lu times opened, %lu times refused", nr_held, nr_opened, nr_refused);
	ok(nr_held >= ENOUGH && nr_opened >= ENOUGH / 2 && nr_refused >= ENOUGH, "both got their turns");
	is_int(nr_both, 0, "never held and open");
	is_int(nr_wrong, 0, "and refused for no other reason");
}

/* What "vmplat claim VERB edu" says and returns. */
static int claim(const char *verb, const char *more, char *said, size_t room)
{
	char command[160];
	size_t n;
	FILE *p;

	snprintf(command, sizeof(command), "vmplat claim %s %s --owner test --dir /tmp/vfio-claims %s 2>&1",
		 verb, edu.address, more);
	p = popen(command, "r");
	if (!p)
		bail("%s", command);
	n = fread(said, 1, room - 1, p);
	said[n] = 0;
	return WEXITSTATUS(pclose(p));
}

/* The same by the command, which goes through whole groups and a journal. */
static void test_claim(void)
{
	char said[1024], user[64];
	struct user u;

	is_int(claim("add", "--driver vmplat_vfio", said, sizeof(said)), 0,
	       "vmplat claim add --driver vmplat_vfio");
	is_str(driver(), "vmplat_vfio", "the driver has it");
	open_edu(&u);
	ok(u.device >= 0, "it is opened");
	is_int(claim("release", "", said, sizeof(said)), 1, "vmplat claim release while it is open");
	snprintf(user, sizeof(user), "process %d has it open", getpid());
	if (!ok(strstr(said, user), "it is refused, and the user is named"))
		diag("%s", said);
	is_str(driver(), "vmplat_vfio", "the driver still has it");
	close_edu(&u);
	is_int(claim("release", "", said, sizeof(said)), 0, "vmplat claim release");
	is_str(driver(), "", "it has it no more");
}

int main(int argc, char **argv)
{
	static const struct vmplat_event_filter filter = {
		.classes = 1 << VMPLAT_CLASS_PCI | 1 << VMPLAT_CLASS_VM,
	};
	bool loaded = !access("/sys/module/vmplat_vfio", F_OK);

	if (argc != 2)
		bail("vfio MODULE");
	dev_open();
	if (vmplat_open(&dev, NULL))
		bail("%s", vmplat_last_error());
	if (!find_edu())
		bail("no edu device: the test host is to have one");
	modprobe("vfio-pci");
	if (!loaded && insmod(argv[1]))
		bail("%s: %s", argv[1], strerror(errno));
	bind_edu("vmplat_vfio");
	is_str(driver(), "vmplat_vfio", "the driver takes the function that names it");

	test_refusals();
	expect_open(dev, &filter);
	test_open();
	test_hold();
	test_unbind_open();
	test_unbind_held();
	test_killed();
	expect_close();
	test_race();

	unbind_edu();
	is_str(driver(), "", "it is given back");
	test_claim();
	if (!loaded)
		ok(!syscall(SYS_delete_module, "vmplat_vfio", 0), "and the module can go");
	vmplat_close(dev);
	return done();
}
