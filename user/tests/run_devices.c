// SPDX-License-Identifier: GPL-2.0-only
/*
 * Devices that come and go, with a guest that answers, refuses, keeps silent, or
 * answers late. A machine without KVM: this file stands in for vm.c and mem.c.
 */
#include <errno.h>
#include <fcntl.h>
#include <json-c/json.h>
#include <linux/pci_regs.h>
#include <linux/virtio_pci.h>
#include <stdarg.h>
#include <stdlib.h>
#include <string.h>
#include <sys/eventfd.h>
#include <unistd.h>

#include "run/devices.h"
#include "run/hotplug.h"
#include "run/pci.h"
#include "run/vfio.h"
#include "run/vm_priv.h"
#include "tap.h"

#define MIB		(1ull << 20)
#define QUICK_MS	40

/* --- vm.c and mem.c --------------------------------------------------------- */

static unsigned int nr_halts;
static bool halted;
static uint64_t clock_ns;		/* stands still, but for pass_ms() */

uint64_t vmplat_clock_now(clockid_t clock)
{
	return clock_ns;
}

static void pass_ms(uint64_t ms)
{
	clock_ns += ms * 1000000;
}

void *vm_gpa(struct vm *vm, uint64_t gpa, uint64_t len) { return NULL; }
int vm_irq_line(struct vm *vm, uint32_t gsi, int level) { return 0; }
int vm_msi(struct vm *vm, uint64_t addr, uint32_t data) { return 0; }

int vm_ioeventfd(struct vm *vm, enum vm_space space, uint64_t addr, unsigned int len,
		 const uint64_t *match, int fd)
{
	return 0;
}

void vm_ioeventfd_remove(struct vm *vm, enum vm_space space, uint64_t addr, unsigned int len,
			 const uint64_t *match, int fd)
{
}

struct bus *vm_bus(struct vm *vm, enum vm_space space)
{
	return space == VM_PIO ? &vm->pio : &vm->mmio;
}

int vm_device_add(struct vm *vm, struct vm_device *dev)
{
	struct vm_device **p = &vm->devices;

	CHECK(halted);
	while (*p)
		p = &(*p)->next;
	dev->next = NULL;
	*p = dev;
	return 0;
}

void vm_device_remove(struct vm *vm, struct vm_device *dev)
{
	struct vm_device **p = &vm->devices;

	CHECK(halted);
	while (*p != dev)
		p = &(*p)->next;
	*p = dev->next;
	dev->ops->destroy(dev->opaque);
}

void vm_device_changed(struct vm *vm)
{
	eventfd_write(vm->changed_fd, 1);
}

int vm_error(struct vm *vm, int err, const char *fmt, ...)
{
	va_list ap;

	va_start(ap, fmt);
	err = vmplat_error_format(&vm->error, err, fmt, ap);
	va_end(ap);
	return err;
}

static unsigned int nr_notices;

void vm_notice(struct vm *vm, const char *fmt, ...) { nr_notices++; }
enum vm_status vm_status(struct vm *vm) { return vm->status; }

void vm_halt(struct vm *vm)
{
	CHECK(!halted);
	halted = true;
	nr_halts++;
}

void vm_unhalt(struct vm *vm)
{
	CHECK(halted);
	halted = false;
}

uint64_t mem_place(struct vm *vm, uint64_t bytes) { return VM_HIGHMEM_BASE; }

int mem_plug(struct vm *vm, const struct vm_dimm *d)
{
	CHECK(halted);
	vm->dimms[d->slot].bytes = d->bytes;
	return 0;
}

void mem_unplug(struct vm *vm, unsigned int slot)
{
	CHECK(halted);
	vm->dimms[slot].bytes = 0;
}

/* --- vfio.c: one function of the host, which is opened and closed while the guest runs -- */

struct vfio_dev {
	struct pci_dev pci;
	struct vm_device entry;
};

static unsigned int nr_open;
static int open_error;
static bool wanted_back, pulled_out;

static void function_destroy(void *opaque)
{
	pci_dev_exit(&((struct vfio_dev *)opaque)->pci);
}

static const struct vm_device_ops function_ops = { .destroy = function_destroy };

int vfio_open(struct vm *vm, const struct vm_hostdev *d, struct vfio_dev **dev)
{
	CHECK(!halted);
	if (open_error)
		return vm_error(vm, open_error, "it is busy");
	*dev = calloc(1, sizeof(**dev));
	nr_open++;
	return 0;
}

void vfio_close(struct vfio_dev *dev)
{
	if (!dev)
		return;
	CHECK(!dev->pci.bus);
	nr_open--;
	free(dev);
}

int vfio_plug(struct vfio_dev *dev, struct pci_bus *bus, unsigned int slot)
{
	static const struct pci_ids ids = { .vendor = 0x1234, .device = 0x11e8 };

	CHECK(halted);
	pci_dev_init(&dev->pci, &ids, NULL, NULL);
	if (pci_dev_plug(bus, &dev->pci, slot))
		abort();
	dev->entry = (struct vm_device){ .name = "vfio", .ops = &function_ops, .opaque = dev };
	return vm_device_add(pci_bus_vm(bus), &dev->entry);
}

struct vm_device *vfio_entry(struct vfio_dev *dev) { return &dev->entry; }
unsigned int vfio_slot(const struct vfio_dev *dev) { return dev->pci.slot; }
bool vfio_driven(struct vfio_dev *dev) { return pci_dev_command(&dev->pci) & PCI_COMMAND_MEMORY; }
bool vfio_resets(const struct vfio_dev *dev) { return true; }
const char *vfio_address(const struct vfio_dev *dev) { return "0000:01:00.0"; }
bool vfio_gone(struct vfio_dev *dev) { return pulled_out; }

bool vfio_wanted(struct vfio_dev *dev)
{
	bool was = wanted_back;

	wanted_back = false;
	return was;
}

/* --- the guest ----------------------------------------------------------------- */

static struct vm *vm;
static char image[] = "/tmp/vmplat-devices-XXXXXX";

static uint32_t hp_read(unsigned int off)
{
	return (uint32_t)bus_read(&vm->pio, HOTPLUG_PORT + off, 4);
}

static void hp_write(unsigned int off, uint32_t val)
{
	bus_write(&vm->pio, HOTPLUG_PORT + off, 4, val);
}

/* what _EVT does: reads, acknowledges; 1: of memory */
static uint32_t guest_looks(unsigned int reg, unsigned int word)
{
	uint32_t bits = hp_read(reg + 4 * word);

	hp_write(reg + 4 * word, bits);
	return bits;
}

static void guest_answers(unsigned int unit, unsigned int event, unsigned int status)
{
	hp_write(HOTPLUG_OST, unit << 24 | event << 8 | status);
}

static void cfg_write(unsigned int slot, unsigned int off, unsigned int len, uint32_t val)
{
	bus_write(&vm->pio, 0xcf8, 4, 0x80000000u | slot << 11 | (off & 0xfc));
	bus_write(&vm->pio, 0xcfc + (off & 3), len, val);
}

static uint32_t cfg_read(unsigned int slot, unsigned int off)
{
	bus_write(&vm->pio, 0xcf8, 4, 0x80000000u | slot << 11 | off);
	return (uint32_t)bus_read(&vm->pio, 0xcfc, 4);
}

/* as much of a driver as sets DRIVER_OK */
static void guest_drives(unsigned int slot)
{
	uint64_t common;

	cfg_write(slot, PCI_COMMAND, 2, PCI_COMMAND_MEMORY);
	common = cfg_read(slot, PCI_BASE_ADDRESS_0) & ~15u;
	bus_write(&vm->mmio, common + VIRTIO_PCI_COMMON_STATUS, 1, 3);
	bus_write(&vm->mmio, common + VIRTIO_PCI_COMMON_GFSELECT, 4, 1);
	bus_write(&vm->mmio, common + VIRTIO_PCI_COMMON_GF, 4, 1);
	bus_write(&vm->mmio, common + VIRTIO_PCI_COMMON_STATUS, 1, 3 | 8);
	bus_write(&vm->mmio, common + VIRTIO_PCI_COMMON_STATUS, 1, 3 | 8 | 4);
}

static void setup(void)
{
	clock_ns = 1000000000;
	nr_halts = nr_notices = 0;
	open_error = 0;
	wanted_back = pulled_out = false;
	vm = calloc(1, sizeof(*vm));
	pthread_mutex_init(&vm->op, NULL);
	bus_init(&vm->pio, 0x10000);
	bus_init(&vm->mmio, 0);
	vm->changed_fd = eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK);
	vm->cfg.mem_bytes = 256 * MIB;
	vm->status = VM_RUNNING;
	halted = true;			/* not running yet is as good */
	if (hotplug_new(vm, &vm->hotplug) || pci_bus_new(vm, &vm->pci) || devices_init(vm))
		abort();
	halted = false;
}

static void teardown(void)
{
	halted = true;
	while (vm->devices) {		/* the last one first, as vm.c does */
		struct vm_device *d = vm->devices;

		while (d->next)
			d = d->next;
		vm_device_remove(vm, d);
	}
	devices_exit(vm);
	CHECK_EQ(nr_open, 0);
	bus_exit(&vm->pio);
	bus_exit(&vm->mmio);
	vm_config_free(&vm->cfg);
	close(vm->changed_fd);
	pthread_mutex_destroy(&vm->op);
	free(vm);
}

/* --- the client ------------------------------------------------------------------ */

static int me;				/* its address is who waits */
static unsigned int nr_done;
static int done_err;
static char done_why[400], done_state[20];

static void on_done(void *waiter, int err, const char *why, struct json_object *device)
{
	struct json_object *v;

	CHECK(waiter == &me);
	nr_done++;
	done_err = err;
	snprintf(done_why, sizeof(done_why), "%s", why);
	done_state[0] = 0;
	if (device && json_object_object_get_ex(device, "state", &v))
		snprintf(done_state, sizeof(done_state), "%s", json_object_get_string(v));
}

/* true: decided by now */
static bool poll_devices(void)
{
	unsigned int before = nr_done;

	devices_poll(vm, on_done);
	return nr_done > before;
}

static int ask(int (*fn)(struct json_object *req), const char *fmt, ...)
{
	struct json_object *req;
	char text[300];
	va_list ap;
	int ret;

	va_start(ap, fmt);
	vsnprintf(text, sizeof(text), fmt, ap);
	va_end(ap);
	req = json_tokener_parse(text);
	if (!req)
		abort();
	ret = fn(req);
	json_object_put(req);
	return ret;
}

static int do_add(struct json_object *req)
{
	struct json_object *reply = json_object_new_object();
	int ret = devices_add(vm, req, &me, reply);

	CHECK_EQ(json_object_object_length(reply), ret ? 0 : 1);
	json_object_put(reply);
	return ret;
}

static int do_remove(struct json_object *req)
{
	return devices_remove(vm, req, &me);
}

static int add_disk(void)
{
	return ask(do_add, "{\"type\":\"blk\",\"timeout_ms\":%d,\"device\":{\"name\":\"data\",\"path\":\"%s\"}}",
		   QUICK_MS, image);
}

static int add_memory(void)
{
	return ask(do_add, "{\"type\":\"memory\",\"timeout_ms\":%d,\"device\":{\"name\":\"more\",\"bytes\":%llu}}",
		   QUICK_MS, 128 * MIB);
}

static int add_pci(void)
{
	return ask(do_add, "{\"type\":\"pci\",\"timeout_ms\":%d,\"device\":{\"name\":\"nic\",\"host\":\"0000:01:00.0\"}}",
		   QUICK_MS);
}

static int remove_it(const char *id)
{
	return ask(do_remove, "{\"id\":\"%s\",\"timeout_ms\":%d}", id, QUICK_MS);
}

static size_t nr_listed(void)
{
	struct json_object *list = devices_list(vm);
	size_t nr = json_object_array_length(list);

	json_object_put(list);
	return nr;
}

static void gone(void)
{
	CHECK_EQ(nr_listed(), 0);
	CHECK_EQ(vm->cfg.nr_disks + vm->cfg.nr_dimms + vm->cfg.nr_hostdevs, 0);
	CHECK_EQ(nr_open, 0);
	CHECK_EQ(cfg_read(1, 0), 0xffffffff);
	CHECK_EQ(vm->dimms[0].bytes, 0);
	CHECK_EQ(hp_read(HOTPLUG_MEM + HOTPLUG_MEM_STATUS), 0);
	CHECK_EQ(hp_read(HOTPLUG_ADDED) | hp_read(HOTPLUG_WANTED), 0);
	CHECK_EQ(devices_settled(vm), 0);
	CHECK_EQ(devices_timeout_ms(vm), -1);
}

#define DISK	(1u << 1)		/* its slot: the first one */
#define MEM	HOTPLUG_UNIT_MEM

/* --- tests ------------------------------------------------------------------------- */

static void present_disk(void)
{
	CHECK_EQ(add_disk(), -EINPROGRESS);
	CHECK_EQ(guest_looks(HOTPLUG_ADDED, 0), DISK);
	guest_drives(1);
	CHECK(poll_devices());
	CHECK_EQ(done_err, 0);
}

static void present_memory(void)
{
	CHECK_EQ(add_memory(), -EINPROGRESS);
	CHECK_EQ(guest_looks(HOTPLUG_ADDED, 1), 1);
	hp_read(HOTPLUG_MEM + HOTPLUG_MEM_BASE);
	guest_answers(MEM, HOTPLUG_EVENT_CHECK, 0);
	CHECK(poll_devices());
	CHECK_EQ(done_err, 0);
}

TEST(disk_comes_and_goes)
{
	setup();
	CHECK_EQ(add_disk(), -EINPROGRESS);
	CHECK_EQ(devices_settled(vm), -EBUSY);
	CHECK(devices_timeout_ms(vm) >= 0);
	CHECK(!poll_devices());
	CHECK_EQ(add_disk(), -EBUSY);
	CHECK_EQ(remove_it("data"), -EBUSY);
	CHECK_EQ(guest_looks(HOTPLUG_ADDED, 0), DISK);
	CHECK(!poll_devices());
	guest_drives(1);
	CHECK(poll_devices());
	CHECK_EQ(done_err, 0);
	CHECK(!strcmp(done_state, "present"));
	CHECK_EQ(devices_settled(vm), 0);
	CHECK(devices_blk(vm, "data"));
	CHECK_EQ(add_disk(), 0);		/* it is there */
	CHECK_EQ(nr_halts, 1);
	CHECK_EQ(ask(do_add, "{\"type\":\"blk\",\"device\":{\"name\":\"data\",\"path\":\"/dev/null\"}}"), -EEXIST);
	CHECK_EQ(ask(do_add, "{\"type\":\"blk\",\"device\":{\"path\":\"%s\"}}", image), -EBUSY);	/* locked */
	CHECK_EQ(remove_it("nobody"), -ENOENT);
	CHECK_EQ(remove_it("data"), -EINPROGRESS);
	CHECK_EQ(guest_looks(HOTPLUG_WANTED, 0), DISK);
	CHECK(!poll_devices());
	hp_write(HOTPLUG_EJECTED, DISK);
	guest_answers(1, HOTPLUG_EVENT_EJECT, 0);
	CHECK(poll_devices());
	CHECK_EQ(done_err, 0);
	gone();
	present_disk();			/* and again */
	teardown();
}

TEST(bad_requests)
{
	setup();
	CHECK_EQ(ask(do_add, "{}"), -EINVAL);
	CHECK_EQ(ask(do_add, "{\"type\":\"floppy\",\"device\":{}}"), -EINVAL);
	CHECK_EQ(ask(do_add, "{\"type\":\"blk\",\"device\":{}}"), -EINVAL);
	CHECK_EQ(ask(do_add, "{\"type\":\"blk\",\"device\":[]}"), -EINVAL);
	CHECK_EQ(ask(do_add, "{\"type\":\"blk\",\"device\":{\"path\":\"/nowhere\"}}"), -ENOENT);
	CHECK_EQ(ask(do_add, "{\"type\":\"blk\",\"device\":{\"path\":\"%s\",\"name\":\"A\"}}", image), -EINVAL);
	CHECK_EQ(ask(do_add, "{\"type\":\"blk\",\"device\":{\"path\":\"%s\",\"name\":\"memory\"}}", image), -EINVAL);
	CHECK_EQ(ask(do_add, "{\"type\":\"blk\",\"timeout_ms\":0,\"device\":{\"path\":\"%s\"}}", image), -EINVAL);
	CHECK_EQ(ask(do_add, "{\"type\":\"net\",\"device\":{\"kind\":\"wire\"}}"), -EINVAL);
	CHECK_EQ(ask(do_add, "{\"type\":\"memory\",\"device\":{\"bytes\":1}}"), -EINVAL);
	CHECK_EQ(ask(do_add, "{\"type\":\"memory\",\"device\":{\"bytes\":-134217728}}"), -EINVAL);
	CHECK_EQ(ask(do_add, "{\"type\":\"memory\",\"device\":{\"bytes\":%llu}}", VM_MEM_MAX), -EINVAL);
	CHECK_EQ(ask(do_remove, "{}"), -EINVAL);
	CHECK_EQ(nr_halts, 0);
	gone();
	teardown();
}

/* Nobody looked: it goes at once, without a question. */
TEST(add_unseen)
{
	setup();
	CHECK_EQ(add_disk(), -EINPROGRESS);
	CHECK_EQ(add_memory(), -EINPROGRESS);
	pass_ms(QUICK_MS);
	nr_done = 0;
	poll_devices();
	CHECK_EQ(nr_done, 2);
	CHECK_EQ(done_err, -ETIMEDOUT);
	CHECK(strstr(done_why, "taken out again"));
	gone();
	teardown();
}

/* The guest looked, and has no driver: it is asked, and does as it is told, or not. */
TEST(add_seen)
{
	for (int ejects = 0; ejects < 2; ejects++) {
		setup();
		CHECK_EQ(add_disk(), -EINPROGRESS);
		CHECK_EQ(guest_looks(HOTPLUG_ADDED, 0), DISK);
		guest_answers(1, HOTPLUG_EVENT_CHECK, 0);	/* not yet the driver */
		CHECK(!poll_devices());
		pass_ms(QUICK_MS);
		CHECK(!poll_devices());
		CHECK_EQ(guest_looks(HOTPLUG_WANTED, 0), DISK);
		CHECK_EQ(nr_listed(), 1);
		if (ejects)
			hp_write(HOTPLUG_EJECTED, DISK);
		else
			pass_ms(QUICK_MS);
		CHECK(poll_devices());
		CHECK_EQ(done_err, -ETIMEDOUT);
		gone();
		teardown();
	}
}

/* It took the device when it was to be taken back: then it has it. */
TEST(add_late)
{
	setup();
	CHECK_EQ(add_disk(), -EINPROGRESS);
	guest_looks(HOTPLUG_ADDED, 0);
	pass_ms(QUICK_MS);
	CHECK(!poll_devices());
	guest_drives(1);
	CHECK(!poll_devices());
	pass_ms(QUICK_MS);
	CHECK(poll_devices());
	CHECK_EQ(done_err, 0);
	CHECK(!strcmp(done_state, "present"));
	CHECK_EQ(hp_read(HOTPLUG_WANTED), 0);
	teardown();
}

static void present_pci(void)
{
	CHECK_EQ(add_pci(), -EINPROGRESS);
	CHECK(!poll_devices());
	CHECK_EQ(guest_looks(HOTPLUG_ADDED, 0), DISK);
	guest_answers(1, HOTPLUG_EVENT_CHECK, HOTPLUG_OST_SUCCESS);
	CHECK(poll_devices());		/* it may have no driver */
	CHECK_EQ(done_err, 0);
	CHECK(!strcmp(done_state, "present"));
	CHECK_EQ(cfg_read(1, 0), 0x11e81234);
	CHECK_EQ(nr_open, 1);
}

TEST(pci_comes_and_goes)
{
	setup();
	present_pci();
	CHECK_EQ(add_pci(), 0);		/* there it is */
	CHECK_EQ(ask(do_add, "{\"type\":\"pci\",\"device\":{\"name\":\"nic\",\"host\":\"0000:02:00.0\"}}"), -EEXIST);
	CHECK_EQ(ask(do_add, "{\"type\":\"pci\",\"device\":{\"name\":\"x\",\"host\":\"0000:01:00.0\"}}"), -EINVAL);
	CHECK_EQ(remove_it("nic"), -EINPROGRESS);
	CHECK_EQ(guest_looks(HOTPLUG_WANTED, 0), DISK);
	hp_write(HOTPLUG_EJECTED, DISK);
	CHECK(poll_devices());
	CHECK_EQ(done_err, 0);
	gone();
	teardown();
}

TEST(pci_refused)
{
	struct vmplat_mem *freezable = (void *)1;

	setup();
	open_error = -EBUSY;
	CHECK_EQ(add_pci(), -EBUSY);
	CHECK_EQ(ask(do_add, "{\"type\":\"pci\",\"device\":{}}"), -EINVAL);
	CHECK_EQ(ask(do_add, "{\"type\":\"pci\",\"device\":{\"host\":\"0000:01:00.0#-1\"}}"), -EINVAL);
	open_error = 0;
	vm->mem = freezable;
	CHECK_EQ(add_pci(), -EOPNOTSUPP);
	CHECK(strstr(vm->error.text, "--pinnable"));
	vm->cfg.pinnable = true;
	present_pci();
	vm->mem = NULL;
	CHECK_EQ(nr_halts, 1);
	teardown();
}

/* Nobody looked: it goes at once. The guest refuses: it is asked to give it back. */
TEST(pci_not_taken)
{
	setup();
	CHECK_EQ(add_pci(), -EINPROGRESS);
	pass_ms(QUICK_MS);
	CHECK(poll_devices());
	CHECK_EQ(done_err, -ETIMEDOUT);
	gone();
	CHECK_EQ(add_pci(), -EINPROGRESS);
	guest_looks(HOTPLUG_ADDED, 0);
	guest_answers(1, HOTPLUG_EVENT_CHECK, HOTPLUG_OST_BUSY);
	CHECK(!poll_devices());
	CHECK_EQ(guest_looks(HOTPLUG_WANTED, 0), DISK);
	pass_ms(QUICK_MS);
	CHECK(poll_devices());
	CHECK_EQ(done_err, -EIO);
	gone();
	teardown();
}

TEST(pci_kept)
{
	setup();
	present_pci();
	CHECK_EQ(remove_it("nic"), -EINPROGRESS);
	guest_looks(HOTPLUG_WANTED, 0);
	pass_ms(QUICK_MS);
	CHECK(poll_devices());
	CHECK_EQ(done_err, -ETIMEDOUT);
	CHECK(strstr(done_why, "still there"));
	CHECK_EQ(nr_open, 1);
	/* by force: the guest is asked first, and has its time */
	CHECK_EQ(ask(do_remove, "{\"id\":\"nic\",\"timeout_ms\":%d,\"force\":true}", QUICK_MS), -EINPROGRESS);
	CHECK_EQ(guest_looks(HOTPLUG_WANTED, 0), DISK);
	CHECK(!poll_devices());
	pass_ms(QUICK_MS);
	CHECK(poll_devices());
	CHECK_EQ(done_err, 0);
	CHECK_EQ(nr_notices, 1);
	gone();
	/* nothing else goes by force */
	present_memory();
	CHECK_EQ(ask(do_remove, "{\"id\":\"more\",\"force\":true}"), -EINVAL);
	teardown();
}

/* The host wants it back: nobody waits, the operator is told. */
TEST(pci_reclaimed)
{
	for (int how = 0; how < 3; how++) {
		unsigned int before = nr_done;

		setup();
		present_pci();
		wanted_back = true;
		vm->status = VM_PAUSED;
		devices_poll(vm, on_done);
		CHECK_EQ(hp_read(HOTPLUG_WANTED), 0);
		vm->status = VM_RUNNING;
		devices_poll(vm, on_done);
		CHECK_EQ(guest_looks(HOTPLUG_WANTED, 0), DISK);
		if (how == 0)
			hp_write(HOTPLUG_EJECTED, DISK);
		else
			pass_ms(DEVICES_TIMEOUT_MS);
		pulled_out = how == 2;
		devices_poll(vm, on_done);
		CHECK_EQ(nr_done, before + 1);	/* of the add */
		CHECK_EQ(nr_notices, 1);
		CHECK_EQ(nr_open, how == 1);
		if (how != 1)
			gone();
		else
			CHECK_EQ(nr_listed(), 1);
		teardown();
	}
}

TEST(pci_reset)
{
	setup();
	present_pci();
	CHECK_EQ(remove_it("nic"), -EINPROGRESS);
	halted = true;
	devices_reset(vm);
	halted = false;
	CHECK(poll_devices());
	CHECK_EQ(done_err, 0);
	gone();
	teardown();
}

TEST(memory_comes_and_goes)
{
	setup();
	present_memory();
	CHECK_EQ(vm->dimms[0].bytes, 128 * MIB);
	CHECK_EQ(remove_it("more"), -EINPROGRESS);
	CHECK_EQ(guest_looks(HOTPLUG_WANTED, 1), 1);
	guest_answers(MEM, HOTPLUG_EVENT_EJECT, HOTPLUG_OST_PENDING);
	CHECK(!poll_devices());
	guest_answers(MEM, HOTPLUG_EVENT_EJECT, HOTPLUG_OST_BUSY);
	CHECK(poll_devices());
	CHECK_EQ(done_err, -EBUSY);
	CHECK(!strcmp(done_state, "present") && strstr(done_why, "0x82") && strstr(done_why, "movable"));
	CHECK_EQ(vm->dimms[0].bytes, 128 * MIB);
	CHECK_EQ(remove_it("more"), -EINPROGRESS);
	hp_write(HOTPLUG_EJECTED + 4, 1);
	CHECK_EQ(hp_read(HOTPLUG_MEM + HOTPLUG_MEM_STATUS), 0);
	CHECK(poll_devices());
	CHECK_EQ(done_err, 0);
	gone();
	teardown();
}

/* Never taken from who may use it; taken from who never asked where it is. */
TEST(memory_refused)
{
	for (int knows = 0; knows < 2; knows++) {
		setup();
		CHECK_EQ(add_memory(), -EINPROGRESS);
		guest_looks(HOTPLUG_ADDED, 1);
		if (knows)
			hp_read(HOTPLUG_MEM + HOTPLUG_MEM_BASE);
		guest_answers(MEM, HOTPLUG_EVENT_CHECK, 0x81);
		CHECK(!poll_devices());
		CHECK_EQ(guest_looks(HOTPLUG_WANTED, 1), 1);
		pass_ms(QUICK_MS);
		CHECK(poll_devices());
		CHECK_EQ(done_err, -EIO);
		if (knows) {
			CHECK(strstr(done_why, "stays"));
			CHECK_EQ(vm->dimms[0].bytes, 128 * MIB);
			CHECK_EQ(nr_listed(), 1);
			halted = true;
			mem_unplug(vm, 0);
		} else {
			gone();
		}
		teardown();
	}
}

TEST(removal_not_answered)
{
	for (int seen = 0; seen < 2; seen++) {
		setup();
		present_disk();
		CHECK_EQ(remove_it("data"), -EINPROGRESS);
		if (seen)
			guest_looks(HOTPLUG_WANTED, 0);
		pass_ms(QUICK_MS);
		CHECK(poll_devices());
		CHECK_EQ(done_err, -ETIMEDOUT);
		CHECK(!strcmp(done_state, "present"));
		CHECK_EQ(!strstr(done_why, "let go of it later"), !seen);
		CHECK_EQ(hp_read(HOTPLUG_WANTED), 0);
		CHECK(cfg_read(1, 0) != 0xffffffff);
		hp_write(HOTPLUG_EJECTED, DISK);	/* late, or of its own will */
		CHECK_EQ(devices_settled(vm), -EBUSY);
		CHECK(!poll_devices());
		CHECK_EQ(nr_notices, 1);
		gone();
		teardown();
	}
}

TEST(paused)
{
	setup();
	CHECK_EQ(add_disk(), -EINPROGRESS);
	vm->status = VM_PAUSED;
	poll_devices();
	pass_ms(1000 * QUICK_MS);
	CHECK(!poll_devices());
	CHECK(devices_timeout_ms(vm) > 0);
	CHECK_EQ(add_memory(), -EINVAL);
	CHECK_EQ(remove_it("data"), -EINVAL);
	vm->status = VM_RUNNING;
	guest_drives(1);
	CHECK(poll_devices());
	CHECK_EQ(done_err, 0);
	teardown();
}

/* Nobody is told when the one who waited is gone; it is decided all the same. */
TEST(forgotten)
{
	setup();
	CHECK_EQ(add_disk(), -EINPROGRESS);
	devices_forget(vm, &me);
	pass_ms(QUICK_MS);
	CHECK(!poll_devices());
	gone();
	teardown();
}

static void reset(void)
{
	vm_halt(vm);
	devices_reset(vm);
	for (struct vm_device *d = vm->devices; d; d = d->next)
		if (d->ops->reset)
			d->ops->reset(d->opaque);
	vm_unhalt(vm);
}

TEST(resets)
{
	setup();
	CHECK_EQ(add_disk(), -EINPROGRESS);		/* on its way in: found at boot */
	reset();
	CHECK(!poll_devices());
	guest_drives(1);
	CHECK(poll_devices());
	CHECK_EQ(done_err, 0);
	CHECK_EQ(remove_it("data"), -EINPROGRESS);	/* on its way out: gone */
	reset();
	CHECK(poll_devices());
	CHECK_EQ(done_err, 0);
	gone();
	CHECK_EQ(add_memory(), -EINPROGRESS);
	reset();
	CHECK(poll_devices());
	CHECK_EQ(done_err, 0);
	CHECK_EQ(hp_read(HOTPLUG_MEM + HOTPLUG_MEM_STATUS), 0x0f);
	hp_write(HOTPLUG_EJECTED + 4, 1);		/* let go of, not yet noticed */
	reset();
	CHECK(!poll_devices());
	gone();
	CHECK_EQ(add_disk(), -EINPROGRESS);		/* being taken back */
	guest_looks(HOTPLUG_ADDED, 0);
	pass_ms(QUICK_MS);
	CHECK(!poll_devices());
	reset();
	CHECK(poll_devices());
	CHECK_EQ(done_err, -ECANCELED);
	gone();
	teardown();
}

int main(void)
{
	int fd = mkostemp(image, O_CLOEXEC);

	if (fd < 0 || ftruncate(fd, 1 << 20))
		return 1;
	close(fd);
	RUN(bad_requests);
	RUN(disk_comes_and_goes);
	RUN(add_unseen);
	RUN(add_seen);
	RUN(add_late);
	RUN(pci_comes_and_goes);
	RUN(pci_refused);
	RUN(pci_not_taken);
	RUN(pci_kept);
	RUN(pci_reclaimed);
	RUN(pci_reset);
	RUN(memory_comes_and_goes);
	RUN(memory_refused);
	RUN(removal_not_answered);
	RUN(paused);
	RUN(forgotten);
	RUN(resets);
	unlink(image);
	return tap_done();
}
