/* SPDX-License-Identifier: GPL-2.0-only */
/* struct vm itself, for the files of the engine; devices use vm.h. */
#ifndef VMPLAT_RUN_VM_PRIV_H
#define VMPLAT_RUN_VM_PRIV_H

#include <errno.h>
#include <linux/kvm.h>
#include <pthread.h>
#include <signal.h>
#include <stdatomic.h>
#include <vmplat.h>
#include <vmplat_clock.h>

#include "blk.h"
#include "config.h"
#include "life.h"
#include "ram_watch.h"
#include "vm.h"

struct vmplat_map;
struct vmplat_thread;

#define VM_KICK_SIGNAL	(SIGRTMIN + 1)
#define VM_ROUTES_MAX	1024
#define VM_GSI_LINES	24

struct vcpu {
	struct vm *vm;
	unsigned int index;
	int fd;
	struct vmplat_map *run_map;
	struct kvm_run *run;		/* its address */
	struct vmplat_thread *thread;	/* NULL: not started, or ended */
	bool parked;			/* run lock */
	struct kvm_cpuid2 *cpuid;	/* as given to KVM; constant */
};

struct vm_route {
	bool used;			/* route lock */
	bool set;
	uint64_t addr;
	uint32_t data;
};

/* Memory that came later; one for each slot of the hot-plug controller. */
struct vm_dimm_ram {
	uint64_t gpa, bytes;		/* 0 bytes: none */
	struct vmplat_map *map;
	uint8_t *ram;			/* its address */
	struct vmplat_mem *mem;		/* NULL with the memfd backend */
	struct vmplat_log *log;
	int memfd;
};

struct vm {
	/* Devices in it change under the operation lock; all else is constant. */
	struct vm_config cfg;
	int kvm_fd, fd;
	size_t run_bytes;

	/* memory; constant once created */
	struct vmplat *dev;		/* NULL with the memfd backend */
	struct vmplat_mem *mem;
	struct vmplat_log *log;
	int memfd;
	struct vmplat_map *ram_map;
	uint8_t *ram;			/* its address; file order: low RAM, then high RAM */
	uint64_t low_bytes, high_bytes;
	struct vm_dimm_ram dimms[VM_DIMMS_MAX];	/* change while the VM is halted */
	struct ram_watch watch[2 + VM_DIMMS_MAX];	/* by KVM's slot; likewise */

	struct qemu *qemu;		/* the engine; NULL: KVM, in this process */
	struct vcpu *vcpus;
	unsigned int nr_vcpus;
	struct bus pio, mmio;
	struct vm_device *devices;	/* operation lock */
	bool devices_quiet;		/* operation lock */

	/* what can come and go: devices.c */
	struct pci_bus *pci;
	struct hotplug *hotplug;
	struct vfio *vfio;		/* operation lock; NULL: no device of the host */
	struct plug *plugs;		/* operation lock */
	int changed_fd;			/* vm_device_changed() */

	struct vmplat_report *report;	/* operation lock; NULL: nobody is told */
	bool report_failed;		/* operation lock; that has been said */
	struct record *record;		/* record.h; the caller's, NULL: nothing is recorded */
	bool record_failed;		/* operation lock; that has been said */

	pthread_mutex_t op;		/* operation lock */

	pthread_mutex_t run_lock;
	pthread_cond_t run_cond;	/* any change below */
	enum vm_status status;
	bool pause_wanted;
	bool quit;
	unsigned int nr_parked;
	uint64_t parked_clock_ns;	/* kvmclock at a long pause, 0 if none */

	atomic_uint requests;		/* enum vm_request */
	_Atomic(const char *) end_why;	/* why it is to stop, NULL: the guest wants to */
	int event_fd;			/* signalled with requests */

	pthread_mutex_t route_lock;
	struct vm_route routes[VM_ROUTES_MAX];	/* GSI VM_GSI_LINES + index */

	struct serial *serial;
	struct vm_device com1;
	void (*console_output)(void *ctx, const uint8_t *p, size_t n);
	void *console_ctx;		/* both set before the VM starts */
	struct power *power;

	struct kvm_msr_list *msrs;	/* that read back; operation lock */
	void *initial;			/* CPUs and board at power-on, for reset */
	size_t initial_len;

	pthread_mutex_t error_lock;
	struct vmplat_error error;	/* error lock */
	bool quiet;			/* no notices */
};

/* ---- vm.c: life cycle; all but vm_new/vm_free take the operation lock ---- */

/* On failure @err_text has the sentence. Takes over @cfg's contents. */
int vm_new(struct vm **vm, struct vm_config *cfg, char *err_text, size_t err_bytes);
void vm_free(struct vm *vm);
/* Load the kernel (again), everything in its power-on state. */
int vm_boot(struct vm *vm);
/* It begins, VM_STARTING or VM_RESTORING: for those who follow events, too. */
void vm_begin(struct vm *vm, enum vm_status s);
/* Start vCPU threads; @paused: parked. */
int vm_start(struct vm *vm, bool paused);
/* Press the power button. */
int vm_powerdown(struct vm *vm);
int vm_pause(struct vm *vm);
int vm_resume(struct vm *vm);
int vm_reset(struct vm *vm);
/* Ask the main thread to end it in order, for the reason @why, a literal. */
void vm_end(struct vm *vm, const char *why);
/* End vCPU threads; final. */
void vm_stop(struct vm *vm, enum vm_status status);
enum vm_status vm_status(struct vm *vm);
const char *vm_last_error(struct vm *vm, char *buf, size_t bytes);

/* The serial console's input: how much it takes now, and a call when it takes more again. */
size_t vm_input_room(struct vm *vm);
void vm_input(struct vm *vm, const uint8_t *p, size_t n);
void vm_on_input_room(struct vm *vm, void (*fn)(void *ctx), void *ctx);

/* Under the operation lock: park all vCPUs, under KVM, while devices go on; and back. */
void vm_park(struct vm *vm);
void vm_unpark(struct vm *vm);
/* Likewise, and quiesce devices. */
void vm_halt(struct vm *vm);
void vm_unhalt(struct vm *vm);
/*
 * The one way from state to state, under the operation lock once the VM has started:
 * it is recorded, then told. Outside of the guest's pauses where that can be.
 */
void vm_enter(struct vm *vm, enum vm_status to);

enum vm_step { VM_STEP_DECIDED, VM_STEP_RECORDED, VM_STEP_TOLD };
/* For tests, called in the middle of vm_enter(); NULL unless one sets it. */
extern void (*vm_on_step)(struct vm *vm, enum vm_status to, enum vm_step step);

/* 0, or the sentence why @cmd is not for the state it is in: -EINVAL, or -EAGAIN: not yet. */
static inline int vm_admit(struct vm *vm, enum vm_command cmd)
{
	enum vm_status s = vm_status(vm);
	char text[VM_REFUSAL_TEXT];

	switch (vm_answer(s, cmd)) {
	case VM_DO:
		return 0;
	case VM_WAIT:
		return vm_error(vm, -EAGAIN, "cannot %s yet: it %s", vm_command_name(cmd),
				vm_status_phrase(s));
	default:
		return vm_error(vm, -EINVAL, "%s", vm_refusal(s, cmd, text));
	}
}

/* ---- report.c: events; under the operation lock once the VM has started ----- */

/* it is in state @s; the first one makes it known */
void report_status(struct vm *vm, enum vm_status s);
/* memory was plugged or unplugged */
void report_memories(struct vm *vm);
void report_end(struct vm *vm);

/* ---- save.c: the VM as a blob; halted, under the operation lock ---------- */

int vm_save(struct vm *vm, struct state_writer *w);
int vm_load(struct vm *vm, const void *buf, size_t len, bool with_clock);
/* The same of vCPUs, interrupt controllers and timers alone. */
int vm_save_cpus(struct vm *vm, struct state_writer *w);
int vm_load_cpus(struct vm *vm, const void *buf, size_t len);

/* ---- mem.c ---------------------------------------------------------------- */

int mem_init(struct vm *vm);
/* Show pages that are there to the guest before it asks for them, if KVM can. */
void mem_prefault(struct vm *vm, uint64_t gpa, uint64_t bytes);
void mem_exit(struct vm *vm);
/* where memory of @bytes could be put, 0: nowhere */
uint64_t mem_place(struct vm *vm, uint64_t bytes);
/* show memory as @d says to the guest, or take it away; halted, or not running yet */
int mem_plug(struct vm *vm, const struct vm_dimm *d);
void mem_unplug(struct vm *vm, unsigned int slot);

/* All memories of a VM in the order of their images, "memory" first. */
struct vm_memory {
	const char *name;		/* of its image in a snapshot */
	struct vmplat_mem *mem;
	struct vmplat_log *log;
	uint8_t *ram;
	uint64_t bytes;
};
#define VM_MEMORIES_MAX	(1 + VM_DIMMS_MAX)
unsigned int vm_memories(struct vm *vm, struct vm_memory list[VM_MEMORIES_MAX]);

/* ---- irq.c ---------------------------------------------------------------- */

int irq_init(struct vm *vm);

/* ---- vcpu.c ---------------------------------------------------------------- */

int vcpu_init(struct vm *vm, struct vcpu *vcpu, unsigned int index);
void vcpu_exit(struct vcpu *vcpu);
int vcpu_start(struct vcpu *vcpu);
void vcpu_signal_setup(void);

/* ---- x86_*.c: the architecture -------------------------------------------- */

int arch_vm_init(struct vm *vm);
int arch_vcpu_init(struct vcpu *vcpu);
void arch_vcpu_exit(struct vcpu *vcpu);
struct boot_info;
/* registers and page tables for a 64-bit kernel entry */
int arch_vcpu_boot(struct vcpu *vcpu, const struct boot_info *info);
/* VM-wide state around the vCPUs' own */
int arch_vm_save(struct vm *vm, struct state_writer *w);
int arch_vm_load(struct vm *vm, struct state_reader *r, uint32_t version);
int arch_vcpu_save(struct vcpu *vcpu, struct state_writer *w);
int arch_vcpu_load(struct vcpu *vcpu, struct state_reader *r, uint32_t version);
/* after all loads, before the first vCPU runs: clock */
int arch_vm_load_clock(struct vm *vm, struct state_reader *r);
int arch_vm_save_clock(struct vm *vm, struct state_writer *w);
void arch_pause_clock(struct vm *vm);
void arch_resume_clock(struct vm *vm);
int acpi_build(struct vm *vm, uint64_t *rsdp);

/* ---- load.c ---------------------------------------------------------------- */

#define BOOT_GDT	0x500
#define BOOT_ZERO_PAGE	0x7000
#define BOOT_PAGE_TABLE	0x9000
#define BOOT_CMDLINE	0x20000
#define BOOT_ACPI	0xe0000
#define BOOT_ACPI_END	0x100000

struct boot_info {
	uint64_t entry;
	uint64_t zero_page;
	bool la57;		/* the kernel takes 5-level paging at its entry */
	uint64_t kernel, kernel_bytes;
	uint64_t initrd, initrd_bytes;
};

int load_linux(struct vm *vm, struct boot_info *info);

/* ---- devices of the board --------------------------------------------------- */

int board_init(struct vm *vm);		/* board.c: all of them */

#endif
