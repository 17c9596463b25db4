// SPDX-License-Identifier: GPL-2.0-only
/* Life and death of a VM; vm.h has threads, locks and states. */
#include "vm_priv.h"

#include <errno.h>
#include <fcntl.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/eventfd.h>
#include <sys/ioctl.h>
#include <time.h>
#include <unistd.h>
#include <vmplat_thread.h>

#include "board.h"
#include "devices.h"
#include "hotplug.h"
#include "pci.h"
#include "qemu.h"
#include "record.h"
#include "serial.h"
#include "virtio_rng.h"

#define RNG_SLOT	31u	/* out of the way of what comes and goes */

/* ---- what is said -------------------------------------------------------- */

int vm_error(struct vm *vm, int err, const char *fmt, ...)
{
	va_list ap;

	pthread_mutex_lock(&vm->error_lock);
	va_start(ap, fmt);
	err = vmplat_error_format(&vm->error, err, fmt, ap);
	va_end(ap);
	pthread_mutex_unlock(&vm->error_lock);
	return err;
}

const char *vm_last_error(struct vm *vm, char *buf, size_t bytes)
{
	pthread_mutex_lock(&vm->error_lock);
	snprintf(buf, bytes, "%s", vm->error.text);
	pthread_mutex_unlock(&vm->error_lock);
	return buf;
}

void vm_notice(struct vm *vm, const char *fmt, ...)
{
	char text[400];
	va_list ap;

	if (vm->quiet)
		return;
	va_start(ap, fmt);
	vsnprintf(text, sizeof(text), fmt, ap);
	va_end(ap);
	fprintf(stderr, "vmplat: %s: %s\r\n", vm->cfg.name, text);
}

enum vm_status vm_status(struct vm *vm)
{
	enum vm_status s;

	pthread_mutex_lock(&vm->run_lock);
	s = vm->status;
	pthread_mutex_unlock(&vm->run_lock);
	return s;
}

/* ---- from state to state --------------------------------------------------- */

void (*vm_on_step)(struct vm *vm, enum vm_status to, enum vm_step step);

static void step(struct vm *vm, enum vm_status to, enum vm_step which)
{
	if (vm_on_step)
		vm_on_step(vm, to, which);
}

/* why it is in state @s; NULL: that needs no reason */
static const char *reason(struct vm *vm, enum vm_status s, char *buf, size_t bytes)
{
	const char *why = atomic_load(&vm->end_why);

	if (s == VM_FAILED)
		return vm_last_error(vm, buf, bytes);
	return s != VM_STOPPED ? NULL : why ? why : "the guest ended it";
}

static void record(struct vm *vm, enum vm_status to)
{
	char buf[VMPLAT_ERROR_TEXT];
	int ret = record_state(vm->record, to, reason(vm, to, buf, sizeof(buf)));

	if (ret && !vm->record_failed)
		vm_notice(vm, "what this VM does is not recorded: %s", strerror(-ret));
	vm->record_failed = ret;
}

void vm_enter(struct vm *vm, enum vm_status to)
{
	enum vm_status from = vm_status(vm);

	if (from == to)
		return;
	if (!vm_may_become(from, to))
		vm_notice(vm, "this is a bug: it was %s, and is %s", vm_status_name(from),
			  vm_status_name(to));
	pthread_mutex_lock(&vm->run_lock);
	vm->status = to;
	pthread_cond_broadcast(&vm->run_cond);
	pthread_mutex_unlock(&vm->run_lock);
	step(vm, to, VM_STEP_DECIDED);
	record(vm, to);
	step(vm, to, VM_STEP_RECORDED);
	report_status(vm, to);
	vm_device_changed(vm);		/* requests wait for another state */
	step(vm, to, VM_STEP_TOLD);
}

void vm_begin(struct vm *vm, enum vm_status s)
{
	pthread_mutex_lock(&vm->op);
	vm_enter(vm, s);
	pthread_mutex_unlock(&vm->op);
}

/* ---- requests ---------------------------------------------------------------- */

void vm_request(struct vm *vm, enum vm_request what)
{
	uint64_t one = 1;

	atomic_fetch_or(&vm->requests, (unsigned int)what);
	if (write(vm->event_fd, &one, sizeof(one)) < 0)
		abort();	/* an eventfd takes a one unless it is full of them */
}

void vm_end(struct vm *vm, const char *why)
{
	const char *none = NULL;

	atomic_compare_exchange_strong(&vm->end_why, &none, why);
	vm_request(vm, VM_REQ_POWEROFF);
}

/* ---- buses and devices --------------------------------------------------- */

struct bus *vm_bus(struct vm *vm, enum vm_space space)
{
	return space == VM_PIO ? &vm->pio : &vm->mmio;
}

int vm_device_add(struct vm *vm, struct vm_device *dev)
{
	struct vm_device **p = &vm->devices;

	for (; *p; p = &(*p)->next)
		if (!strcmp((*p)->name, dev->name))
			return vm_error(vm, -EEXIST, "two devices are called %s", dev->name);
	dev->next = NULL;
	*p = dev;
	if (vm->devices_quiet && dev->ops->quiesce)
		dev->ops->quiesce(dev->opaque);
	return 0;
}

void vm_device_remove(struct vm *vm, struct vm_device *dev)
{
	struct vm_device **p = &vm->devices;

	while (*p != dev)
		p = &(*p)->next;
	*p = dev->next;
	if (dev->ops->destroy)
		dev->ops->destroy(dev->opaque);
}

void vm_device_changed(struct vm *vm)
{
	eventfd_write(vm->changed_fd, 1);	/* full is as good as one more */
}

static void devices_quiesce(struct vm *vm)
{
	if (vm->devices_quiet)
		return;
	for (struct vm_device *d = vm->devices; d; d = d->next)
		if (d->ops->quiesce)
			d->ops->quiesce(d->opaque);
	vm->devices_quiet = true;
}

static void devices_resume(struct vm *vm)
{
	if (!vm->devices_quiet)
		return;
	for (struct vm_device *d = vm->devices; d; d = d->next)
		if (d->ops->resume)
			d->ops->resume(d->opaque);
	vm->devices_quiet = false;
}

/* last added goes first */
static void devices_destroy(struct vm *vm)
{
	struct vm_device *rest = vm->devices, *reversed = NULL;

	while (rest) {
		struct vm_device *d = rest;

		rest = d->next;
		d->next = reversed;
		reversed = d;
	}
	while (reversed) {
		struct vm_device *d = reversed;

		reversed = d->next;	/* destroy frees it */
		if (d->ops->destroy)
			d->ops->destroy(d->opaque);
	}
	vm->devices = NULL;
}

/* ---- making -------------------------------------------------------------- */

static int open_kvm(struct vm *vm)
{
	int ret;

	vm->kvm_fd = open("/dev/kvm", O_RDWR | O_CLOEXEC);
	if (vm->kvm_fd < 0 && errno == ENOENT)
		return vm_error(vm, -errno, "there is no /dev/kvm: load kvm_intel or kvm_amd; in a VM, its host must allow nesting");
	if (vm->kvm_fd < 0)
		return vm_error(vm, -errno, "/dev/kvm: %s; members of its group (usually kvm) may open it", strerror(errno));
	ret = ioctl(vm->kvm_fd, KVM_GET_API_VERSION, 0);
	if (ret != KVM_API_VERSION)
		return vm_error(vm, -EPROTO, "KVM speaks API %d, not %d", ret, KVM_API_VERSION);
	vm->fd = ioctl(vm->kvm_fd, KVM_CREATE_VM, 0UL);
	if (vm->fd < 0)
		return vm_error(vm, -errno, "KVM makes no VM: %s", strerror(errno));
	ret = ioctl(vm->kvm_fd, KVM_GET_VCPU_MMAP_SIZE, 0);
	if (ret < (int)sizeof(struct kvm_run))
		return vm_error(vm, -EPROTO, "KVM's run area has %d bytes", ret);
	vm->run_bytes = (size_t)ret;
	return 0;
}

static int make_vcpus(struct vm *vm)
{
	int ret = 0;

	vm->vcpus = calloc(vm->cfg.nr_cpus, sizeof(*vm->vcpus));
	if (!vm->vcpus)
		return vm_error(vm, -ENOMEM, "out of memory");
	for (unsigned int i = 0; i < vm->cfg.nr_cpus && !ret; i++) {
		vm->vcpus[i].fd = -1;
		vm->nr_vcpus++;
		ret = vcpu_init(vm, &vm->vcpus[i], i);
	}
	return ret;
}

static int make_devices(struct vm *vm)
{
	int ret;

	ret = board_init(vm);
	if (!ret)
		ret = hotplug_new(vm, &vm->hotplug);
	if (!ret)
		ret = pci_bus_new(vm, &vm->pci);
	if (!ret)
		ret = virtio_rng_add(vm, vm->pci, RNG_SLOT);
	if (!ret)
		ret = devices_init(vm);
	if (ret && !vm->error.text[0])
		vm_error(vm, ret, "a device cannot be made: %s", strerror(-ret));
	return ret;
}

/* what reset goes back to */
static int keep_initial(struct vm *vm)
{
	struct state_writer w;
	int ret;

	state_writer_init(&w);
	vm_save_cpus(vm, &w);
	ret = state_writer_finish(&w);
	if (ret) {
		state_writer_free(&w);
		return ret;
	}
	vm->initial = w.buf;
	vm->initial_len = w.len;
	return 0;
}

static int make_for_kvm(struct vm *vm)
{
	int ret = open_kvm(vm);

	if (!ret)
		ret = mem_init(vm);
	if (!ret)
		ret = arch_vm_init(vm);
	if (!ret)
		ret = irq_init(vm);
	if (!ret)
		ret = make_vcpus(vm);
	if (!ret)
		ret = make_devices(vm);
	vm->devices_quiet = false;
	if (!ret) {
		devices_quiesce(vm);
		ret = keep_initial(vm);
	}
	return ret;
}

static int make_for_qemu(struct vm *vm)
{
	int ret = qemu_new(vm);

	return ret ? ret : mem_init(vm);
}

static int make(struct vm *vm)
{
	vm->event_fd = eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK);
	vm->changed_fd = eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK);
	if (vm->event_fd < 0 || vm->changed_fd < 0)
		return vm_error(vm, -errno, "no eventfd: %s", strerror(errno));
	return vm_config_uses_qemu(&vm->cfg) ? make_for_qemu(vm) : make_for_kvm(vm);
}

int vm_new(struct vm **out, struct vm_config *cfg, char *err_text, size_t err_bytes)
{
	struct vm *vm = calloc(1, sizeof(*vm));
	int ret;

	*out = NULL;
	if (!vm) {
		snprintf(err_text, err_bytes, "out of memory");
		return -ENOMEM;
	}
	vm->cfg = *cfg;
	vm->cfg.pinnable |= vm->cfg.nr_hostdevs > 0;
	memset(cfg, 0, sizeof(*cfg));
	vm->kvm_fd = vm->fd = vm->memfd = vm->event_fd = vm->changed_fd = -1;
	pthread_mutex_init(&vm->op, NULL);
	pthread_mutex_init(&vm->run_lock, NULL);
	pthread_mutex_init(&vm->route_lock, NULL);
	pthread_mutex_init(&vm->error_lock, NULL);
	pthread_cond_init(&vm->run_cond, NULL);
	bus_init(&vm->pio, 0x10000);
	bus_init(&vm->mmio, 0);
	vcpu_signal_setup();
	ret = make(vm);
	if (ret) {
		vm_last_error(vm, err_text, err_bytes);
		if (!*err_text)
			snprintf(err_text, err_bytes, "%s", strerror(-ret));
		vm_free(vm);
		return ret;
	}
	*out = vm;
	return 0;
}

void vm_free(struct vm *vm)
{
	if (!vm)
		return;
	vm_stop(vm, VM_STOPPED);
	report_end(vm);
	qemu_free(vm->qemu);
	devices_destroy(vm);
	devices_exit(vm);
	for (unsigned int i = 0; i < vm->nr_vcpus; i++)
		vcpu_exit(&vm->vcpus[i]);
	free(vm->vcpus);
	if (vm->fd >= 0)
		close(vm->fd);
	vm->fd = -1;
	if (vm->kvm_fd >= 0)
		close(vm->kvm_fd);
	mem_exit(vm);
	if (vm->event_fd >= 0)
		close(vm->event_fd);
	if (vm->changed_fd >= 0)
		close(vm->changed_fd);
	bus_exit(&vm->pio);
	bus_exit(&vm->mmio);
	free(vm->initial);
	free(vm->msrs);
	vm_config_free(&vm->cfg);
	free(vm);
}

int vm_boot(struct vm *vm)
{
	struct boot_info info;
	int ret;

	if (vm->qemu)
		return qemu_boot(vm);
	ret = load_linux(vm, &info);
	if (!ret)
		ret = arch_vcpu_boot(&vm->vcpus[0], &info);
	if (ret)
		return ret;
	mem_prefault(vm, info.kernel, info.kernel_bytes);
	mem_prefault(vm, info.initrd, info.initrd_bytes);
	return 0;
}

/* ---- running ------------------------------------------------------------- */

static void kick_all(struct vm *vm)
{
	for (unsigned int i = 0; i < vm->nr_vcpus; i++) {
		vm->vcpus[i].run->immediate_exit = 1;
		if (vm->vcpus[i].thread)
			vmplat_thread_signal(vm->vcpus[i].thread, VM_KICK_SIGNAL);
	}
}

void vm_park(struct vm *vm)
{
	unsigned int started = 0;

	for (unsigned int i = 0; i < vm->nr_vcpus; i++)
		started += vm->vcpus[i].thread != NULL;
	pthread_mutex_lock(&vm->run_lock);
	vm->pause_wanted = true;
	kick_all(vm);
	while (vm->nr_parked < started)
		pthread_cond_wait(&vm->run_cond, &vm->run_lock);
	pthread_mutex_unlock(&vm->run_lock);
}

void vm_unpark(struct vm *vm)
{
	pthread_mutex_lock(&vm->run_lock);
	vm->pause_wanted = false;
	pthread_cond_broadcast(&vm->run_cond);
	while (vm->nr_parked && !atomic_load(&vm->requests) && !vm->quit)
		pthread_cond_wait(&vm->run_cond, &vm->run_lock);
	pthread_mutex_unlock(&vm->run_lock);
}

/* A QEMU that does not obey has ended, and the main thread hears of that. */
void vm_halt(struct vm *vm)
{
	if (vm->qemu) {
		qemu_halt(vm);
		return;
	}
	vm_park(vm);
	devices_quiesce(vm);
}

void vm_unhalt(struct vm *vm)
{
	if (vm->qemu) {
		qemu_go(vm);
		return;
	}
	devices_resume(vm);
	vm_unpark(vm);
}

int vm_start(struct vm *vm, bool paused)
{
	int ret = 0;

	pthread_mutex_lock(&vm->op);
	vm->pause_wanted = true;
	for (unsigned int i = 0; i < vm->nr_vcpus && !ret; i++)
		ret = vcpu_start(&vm->vcpus[i]);
	if (!ret) {
		if (!paused)
			vm_unhalt(vm);
		vm_enter(vm, paused ? VM_PAUSED : VM_RUNNING);
	}
	pthread_mutex_unlock(&vm->op);
	return ret;
}

int vm_pause(struct vm *vm)
{
	int ret;

	pthread_mutex_lock(&vm->op);
	ret = vm_admit(vm, VM_CMD_PAUSE);
	if (!ret) {
		vm_halt(vm);
		if (!vm->qemu)
			arch_pause_clock(vm);
		vm_enter(vm, VM_PAUSED);
	}
	pthread_mutex_unlock(&vm->op);
	return ret;
}

int vm_resume(struct vm *vm)
{
	int ret;

	pthread_mutex_lock(&vm->op);
	ret = vm_admit(vm, VM_CMD_RESUME);
	if (!ret) {
		if (!vm->qemu)
			arch_resume_clock(vm);
		vm_unhalt(vm);
		vm_enter(vm, VM_RUNNING);
	}
	pthread_mutex_unlock(&vm->op);
	return ret;
}

int vm_powerdown(struct vm *vm)
{
	int ret;

	pthread_mutex_lock(&vm->op);
	ret = vm_admit(vm, VM_CMD_POWERDOWN);
	if (!ret && vm->qemu)
		ret = qemu_powerdown(vm);
	else if (!ret)
		power_button(vm);
	pthread_mutex_unlock(&vm->op);
	return ret;
}

/* ---- the console's input --------------------------------------------------- */

size_t vm_input_room(struct vm *vm)
{
	return vm->qemu ? qemu_input_room(vm->qemu) : serial_input_room(vm->serial);
}

void vm_input(struct vm *vm, const uint8_t *p, size_t n)
{
	if (vm->qemu)
		qemu_input(vm->qemu, p, n);
	else
		serial_input(vm->serial, p, n);
}

void vm_on_input_room(struct vm *vm, void (*fn)(void *ctx), void *ctx)
{
	if (vm->qemu)
		qemu_on_room(vm->qemu, fn, ctx);
	else
		serial_on_room(vm->serial, fn, ctx);
}

/* ---- resetting and ending -------------------------------------------------- */

/* everything in its power-on state, halted */
static int reset_kvm(struct vm *vm)
{
	int ret;

	vm_halt(vm);
	devices_reset(vm);
	for (struct vm_device *d = vm->devices; d; d = d->next)
		if (d->ops->reset)
			d->ops->reset(d->opaque);
	ret = vm_load_cpus(vm, vm->initial, vm->initial_len);
	if (!ret)
		ret = vm_boot(vm);
	atomic_fetch_and(&vm->requests, ~(unsigned int)(VM_REQ_RESET | VM_REQ_FAIL));
	if (ret) {
		vm_request(vm, VM_REQ_FAIL);
		return ret;
	}
	vm->parked_clock_ns = 0;
	vm_unhalt(vm);
	return 0;
}

/* back to power-on; a request that led here is forgotten */
int vm_reset(struct vm *vm)
{
	int ret;

	pthread_mutex_lock(&vm->op);
	ret = vm_admit(vm, VM_CMD_RESET);
	if (!ret) {
		ret = vm->qemu ? qemu_reset(vm) : reset_kvm(vm);
		if (!ret)
			vm_enter(vm, VM_RUNNING);
	}
	pthread_mutex_unlock(&vm->op);
	return ret;
}

void vm_stop(struct vm *vm, enum vm_status status)
{
	bool ends;

	/* Before the lock: whoever holds it may be waiting for QEMU. */
	if (vm->qemu)
		qemu_end(vm->qemu);
	pthread_mutex_lock(&vm->op);
	ends = !vm->quit && (vm->vcpus || vm->qemu);
	if (ends && status == VM_STOPPED && vm_may_become(vm_status(vm), VM_STOPPING))
		vm_enter(vm, VM_STOPPING);
	pthread_mutex_lock(&vm->run_lock);
	if (ends) {
		vm->quit = true;
		for (unsigned int i = 0; i < vm->nr_vcpus; i++)
			if (vm->vcpus[i].run)
				vm->vcpus[i].run->immediate_exit = 1;
		pthread_cond_broadcast(&vm->run_cond);
	}
	pthread_mutex_unlock(&vm->run_lock);
	for (unsigned int i = 0; i < vm->nr_vcpus; i++) {
		struct vcpu *v = &vm->vcpus[i];

		if (!v->thread)
			continue;
		vmplat_thread_signal(v->thread, VM_KICK_SIGNAL);
		vmplat_thread_join(v->thread);
		v->thread = NULL;
	}
	if (vm->fd >= 0 && vm->devices)
		devices_quiesce(vm);
	if (ends && vm_may_become(vm_status(vm), status))
		vm_enter(vm, status);
	pthread_mutex_unlock(&vm->op);
}
