// SPDX-License-Identifier: LGPL-2.1-or-later
/*
 * What only this very host can answer: CPUID, /dev/kvm, /dev/vmplat, who asks. Nothing is changed;
 * one VM is made and closed at once.
 */
#include <fcntl.h>
#include <grp.h>
#include <linux/kvm.h>
#include <pwd.h>
#include <stdio.h>
#include <sys/ioctl.h>
#include <sys/stat.h>
#include <sys/utsname.h>
#include <unistd.h>

#if defined(__x86_64__) || defined(__i386__)
#include <cpuid.h>
#endif

#include "host/host.h"

#define DEV_KVM		"/dev/kvm"
#define DEV_VMPLAT	"/dev/vmplat"

/* of Linux 6.8 and 6.11; the headers may be older */
#ifndef KVM_CAP_GUEST_MEMFD
#define KVM_CAP_GUEST_MEMFD 234
#endif
#ifndef KVM_CAP_PRE_FAULT_MEMORY
#define KVM_CAP_PRE_FAULT_MEMORY 236
#endif

/* ---- hypervisor ------------------------------------------------------------ */

#if defined(__x86_64__) || defined(__i386__)
static const char *hypervisor_name(struct vmplat_host *host)
{
	static const struct {
		const char *signature, *name;
	} known[] = {
		{ "KVMKVMKVM", "KVM" }, { "TCGTCGTCGTCG", "QEMU without KVM" },
		{ "Microsoft Hv", "Hyper-V" }, { "VMwareVMware", "VMware" },
		{ "XenVMMXenVMM", "Xen" }, { "VBoxVBoxVBox", "VirtualBox" },
		{ "bhyve bhyve ", "bhyve" }, { "ACRNACRNACRN", "ACRN" },
	};
	char signature[13] = "";
	unsigned int eax, ebx, ecx, edx;

	__cpuid(0x40000000, eax, ebx, ecx, edx);
	memcpy(signature, &ebx, 4);
	memcpy(signature + 4, &ecx, 4);
	memcpy(signature + 8, &edx, 4);
	for (size_t i = 0; i < sizeof(known) / sizeof(known[0]); i++)
		if (!strcmp(signature, known[i].signature))
			return known[i].name;
	for (size_t i = 0; i < 12; i++)
		if (signature[i] && (signature[i] < ' ' || signature[i] > '~'))
			return NULL;
	return *signature ? dev_strdup(host->devs, signature, strlen(signature)) : NULL;
}
#else
static const char *hypervisor_name(struct vmplat_host *host)
{
	return NULL;
}
#endif

/* ---- device files ------------------------------------------------------------ */

static const char *group_name(struct vmplat_host *host, gid_t gid)
{
	struct group *group = getgrgid(gid);

	return group ? dev_strdup(host->devs, group->gr_name, strlen(group->gr_name)) :
		       dev_printf(host->devs, "%u", gid);
}

static void describe(struct vmplat_host *host, const char *path, struct vmplat_host_access *access)
{
	struct stat st;

	access->tried = true;
	if (stat(path, &st)) {
		access->error = -errno;
		return;
	}
	access->mode = st.st_mode & 07777;
	access->group = group_name(host, st.st_gid);
}

/* ---- KVM ------------------------------------------------------------------------- */

/*
 * Needed is what user/run calls without an alternative. "Good to have" is what it uses if it is
 * there, and what other VMMs on the same host look for.
 */
static const struct {
	const char *name;
	int number;
	bool needed;
	const char *what;
} kvm_caps[] = {
#define NEEDED(cap, text) { #cap, cap, true, text }
#define NICE(cap, text) { #cap, cap, false, text }
	NEEDED(KVM_CAP_USER_MEMORY, "guest memory that is mapped here"),
	NEEDED(KVM_CAP_SYNC_MMU, "guest memory whose pages may move and be write-protected"),
	NEEDED(KVM_CAP_IRQCHIP, "interrupt controllers in the kernel"),
	NEEDED(KVM_CAP_PIT2, "the timer"),
	NEEDED(KVM_CAP_SET_TSS_ADDR, "Intel's real mode"),
	NEEDED(KVM_CAP_SET_IDENTITY_MAP_ADDR, "Intel's real mode"),
	NEEDED(KVM_CAP_EXT_CPUID, "what the guest's processor is"),
	NEEDED(KVM_CAP_IRQ_ROUTING, "interrupts of PCI devices"),
	NEEDED(KVM_CAP_SIGNAL_MSI, "interrupts of PCI devices"),
	NEEDED(KVM_CAP_IRQFD, "interrupts of devices"),
	NEEDED(KVM_CAP_IRQFD_RESAMPLE, "interrupt lines that are shared"),
	NEEDED(KVM_CAP_IOEVENTFD, "doorbells of devices"),
	NEEDED(KVM_CAP_IMMEDIATE_EXIT, "stopping at once"),
	NEEDED(KVM_CAP_MP_STATE, "snapshots: processors that wait"),
	NEEDED(KVM_CAP_VCPU_EVENTS, "snapshots: pending exceptions"),
	NEEDED(KVM_CAP_DEBUGREGS, "snapshots: debug registers"),
	NEEDED(KVM_CAP_XSAVE, "snapshots: vector registers"),
	NEEDED(KVM_CAP_XCRS, "snapshots: vector registers"),
	NEEDED(KVM_CAP_ADJUST_CLOCK, "snapshots: the guest's clock"),
	NICE(KVM_CAP_GET_TSC_KHZ, "the TSC's rate in snapshots"),
	NICE(KVM_CAP_TSC_CONTROL, "a TSC at the rate of another host"),
	NICE(KVM_CAP_KVMCLOCK_CTRL, "no soft lockup reports behind a pause"),
	NICE(KVM_CAP_TSC_DEADLINE_TIMER, "cheaper timers"),
	NICE(KVM_CAP_PRE_FAULT_MEMORY, "quicker starts (Linux 6.11)"),
	NICE(KVM_CAP_DIRTY_LOG_RING_ACQ_REL, "dirty rings, of other VMMs"),
	NICE(KVM_CAP_GUEST_MEMFD, "guest_memfd, of other VMMs (Linux 6.8)"),
	NICE(KVM_CAP_MAX_VCPUS, "how many processors a guest may have"),
#undef NEEDED
#undef NICE
};
#define NR_KVM_CAPS (sizeof(kvm_caps) / sizeof(kvm_caps[0]))

/* Of a VM where there is one: some answers differ from those of /dev/kvm. */
static void ask_caps(struct vmplat_host *host, int fd)
{
	struct vmplat_host_cap *caps = dev_alloc(host->devs, NR_KVM_CAPS * sizeof(*caps));

	if (!caps)
		return;
	for (size_t i = 0; i < NR_KVM_CAPS; i++) {
		int value = ioctl(fd, KVM_CHECK_EXTENSION, (unsigned long)kvm_caps[i].number);

		caps[i] = (struct vmplat_host_cap) {
			.name = kvm_caps[i].name, .value = value > 0 ? value : 0,
			.needed = kvm_caps[i].needed, .what = kvm_caps[i].what,
		};
	}
	host->facts.kvm.caps = caps;
	host->facts.kvm.nr_caps = NR_KVM_CAPS;
}

static void probe_kvm(struct vmplat_host *host)
{
	struct vmplat_host_kvm *kvm = &host->facts.kvm;
	int fd, vm;

	describe(host, DEV_KVM, &kvm->access);
	if (kvm->access.error)
		return;
	fd = open(DEV_KVM, O_RDWR | O_CLOEXEC);
	if (fd < 0) {
		kvm->access.error = -errno;
		return;
	}
	kvm->api = ioctl(fd, KVM_GET_API_VERSION, 0);
	vm = ioctl(fd, KVM_CREATE_VM, 0UL);
	kvm->create_error = vm < 0 ? -errno : 0;
	ask_caps(host, vm < 0 ? fd : vm);
	if (vm >= 0)
		close(vm);
	close(fd);
}

/* ---- the module ------------------------------------------------------------------ */

static int listen_to_events(void)
{
	struct vmplat_events *events;
	int rc = vmplat_events_open(&events, NULL, NULL, NULL, VMPLAT_EVENTS_F_NEW);

	if (!rc)
		vmplat_events_close(events);
	return rc;
}

static void probe_module(struct vmplat_host *host)
{
	struct vmplat_host_module *module = &host->facts.module;
	struct vmplat_info info = { };
	struct vmplat *dev;

	describe(host, DEV_VMPLAT, &module->access);
	if (!module->access.error)
		module->access.error = vmplat_open(&dev, NULL);
	if (!module->access.error) {
		vmplat_query(dev, &info);
		module->abi = info.out_abi;
		module->caps = info.out_caps;
		vmplat_close(dev);
	}
	/* without it the question alone could have the kernel load it */
	module->events_error = module->loaded ? listen_to_events() : -ENOENT;
}

/* ---- who asks ---------------------------------------------------------------------- */

static void probe_user(struct vmplat_host *host)
{
	struct passwd *user = getpwuid(geteuid());

	host->facts.root = !geteuid();
	host->facts.user = user ? dev_strdup(host->devs, user->pw_name, strlen(user->pw_name)) :
			   dev_printf(host->devs, "%u", geteuid());
}

void host_probe(struct vmplat_host *host)
{
	struct vmplat_host_facts *facts = &host->facts;
	struct utsname uts;

	if (!facts->arch && !uname(&uts))	/* there is no such file before Linux 6.1 */
		facts->arch = dev_strdup(host->devs, uts.machine, strlen(uts.machine));
	if (facts->guest && hypervisor_name(host))
		facts->hypervisor = hypervisor_name(host);
	probe_user(host);
	probe_kvm(host);
	probe_module(host);
}
