// SPDX-License-Identifier: LGPL-2.1-or-later
/*
 * Verdicts. Each function asks from the ground up, and stops at the first thing that is in the way:
 * its removal is the next step. Nothing is read here but the facts.
 */
#include <stdarg.h>
#include <stdio.h>

#include "host/host.h"

#define KVM_API	12	/* has not changed since Linux 2.6.22 */
#define COPY	"the facts are of a copy: what opening %s gives is not among them"

__attribute__((format(printf, 3, 4)))
static void say(struct vmplat_host_verdict *v, enum vmplat_host_ability ability,
		const char *fmt, ...)
{
	va_list ap;

	v->ability = ability;
	va_start(ap, fmt);
	vsnprintf(v->reason, sizeof(v->reason), fmt, ap);
	va_end(ap);
}

__attribute__((format(printf, 2, 3)))
static void next(struct vmplat_host_verdict *v, const char *fmt, ...)
{
	va_list ap;

	va_start(ap, fmt);
	vsnprintf(v->next, sizeof(v->next), fmt, ap);
	va_end(ap);
}

static const char *or_unknown(const char *text)
{
	return text ? text : "unknown";
}

/* A device file that exists, and that this user may not open. */
static void say_closed(const struct vmplat_host_facts *f, struct vmplat_host_verdict *v,
		       const char *path, const struct vmplat_host_access *access)
{
	const char *group = or_unknown(access->group);

	say(v, VMPLAT_ABILITY_NO, "%s may not open %s (group %s, mode %04o)", or_unknown(f->user),
	    path, group, access->mode);
	if ((access->mode & 060) == 060 && strcmp(group, "root"))
		next(v, "join its group and log in again: usermod -aG %s %s", group,
		     or_unknown(f->user));
	else
		next(v, "give it to a group, as its udev rule does: chgrp kvm %s && chmod 660 %s; and usermod -aG kvm %s",
		     path, path, or_unknown(f->user));
}

/* ---- run ------------------------------------------------------------------------ */

static void no_virtualization(const struct vmplat_host_facts *f, struct vmplat_host_verdict *v)
{
	bool amd = f->cpu.vendor && strcmp(f->cpu.vendor, "GenuineIntel");

	if (f->guest) {
		say(v, VMPLAT_ABILITY_NO, "this host is a guest of %s, which gives its processor neither VMX nor SVM",
		    f->hypervisor ? f->hypervisor : "a hypervisor");
		next(v, "allow nested virtualization there; for QEMU: -cpu host, and kvm_intel or kvm_amd with nested=1");
		return;
	}
	say(v, VMPLAT_ABILITY_NO, "the processor has %s, or firmware hides it", amd ? "no SVM" : "no VMX");
	next(v, "enable %s in the firmware", amd ? "SVM (AMD-V)" : "VMX (VT-x)");
}

/* There is no /dev/kvm, or nobody behind it. */
static void no_kvm(const struct vmplat_host_facts *f, struct vmplat_host_verdict *v)
{
	const char *module = f->cpu.svm ? "kvm_amd" : "kvm_intel";

	if (!f->cpu.vmx && !f->cpu.svm) {
		no_virtualization(f, v);
	} else if (f->kvm.module) {
		say(v, VMPLAT_ABILITY_NO, "%s is there and /dev/kvm is not usable: %s", f->kvm.module,
		    strerror(-f->kvm.access.error));
		next(v, "in a container: give it /dev/kvm; on the host: mknod /dev/kvm c 10 232, or look for kvm in the kernel's log");
	} else {
		say(v, VMPLAT_ABILITY_NO, "there is no /dev/kvm: %s is not loaded", module);
		next(v, "modprobe %s; if it fails, look for kvm in the kernel's log: firmware may disable %s",
		     module, f->cpu.svm ? "SVM" : "VMX");
	}
}

static const struct vmplat_host_cap *missing_cap(const struct vmplat_host_facts *f)
{
	for (size_t i = 0; i < f->kvm.nr_caps; i++)
		if (f->kvm.caps[i].needed && !f->kvm.caps[i].value)
			return &f->kvm.caps[i];
	return NULL;
}

/* KVM opens: will it do? */
static bool kvm_serves(const struct vmplat_host_facts *f, struct vmplat_host_verdict *v)
{
	const struct vmplat_host_cap *missing = missing_cap(f);

	if (f->kvm.api != KVM_API) {
		say(v, VMPLAT_ABILITY_NO, "KVM speaks API %d, not %d", f->kvm.api, KVM_API);
		next(v, "boot a kernel of Linux 6.1 or later");
	} else if (f->kvm.create_error == -EBUSY) {
		say(v, VMPLAT_ABILITY_NO, "KVM makes no VM: another hypervisor has the processor's virtualization");
		next(v, "stop it (VirtualBox, VMware) and unload its modules");
	} else if (f->kvm.create_error) {
		say(v, VMPLAT_ABILITY_NO, "KVM makes no VM: %s", strerror(-f->kvm.create_error));
		next(v, "look for kvm in the kernel's log");
	} else if (missing) {
		say(v, VMPLAT_ABILITY_NO, "KVM lacks %s (%s), which vmplat run needs", missing->name,
		    missing->what);
		next(v, "boot a kernel of Linux 6.1 or later");
	} else {
		return true;
	}
	return false;
}

static void judge_run(const struct vmplat_host_facts *f, struct vmplat_host_verdict *v)
{
	if (f->arch && strcmp(f->arch, "x86_64")) {
		say(v, VMPLAT_ABILITY_NO, "vmplat run is for x86_64; this is %s", f->arch);
	} else if (!f->kvm.access.tried) {
		say(v, VMPLAT_ABILITY_UNKNOWN, COPY, "/dev/kvm");
	} else if (f->kvm.access.error == -EACCES || f->kvm.access.error == -EPERM) {
		say_closed(f, v, "/dev/kvm", &f->kvm.access);
	} else if (f->kvm.access.error) {
		no_kvm(f, v);
	} else if (!kvm_serves(f, v)) {
		return;
	} else if (f->module.access.error) {
		say(v, VMPLAT_ABILITY_LIMITED, "KVM works; without the module there are no snapshots, and guests need --memory-backend memfd");
		next(v, "vmplat run --memory-backend memfd, or what is said of snapshots");
	} else if (!f->kvm.paging || (f->kvm.paging < 0 && !f->cpu.nested_paging)) {
		say(v, VMPLAT_ABILITY_LIMITED, "KVM works without nested paging (EPT, NPT): guests are slow");
		if (f->cpu.nested_paging)
			next(v, "load %s with %s=1", or_unknown(f->kvm.module),
			     f->cpu.svm ? "npt" : "ept");
	} else {
		say(v, VMPLAT_ABILITY_YES, "KVM API %d has all that vmplat run needs%s%s", f->kvm.api,
		    f->guest ? "; this host is itself a guest of " : "",
		    !f->guest ? "" : f->hypervisor ? f->hypervisor : "a hypervisor");
	}
}

/* ---- the module ------------------------------------------------------------------ */

static void next_headers(const struct vmplat_host_facts *f, struct vmplat_host_verdict *v)
{
	static const struct {
		const char *id, *command;
	} known[] = {
		{ "debian", "apt install linux-headers-%s" },
		{ "ubuntu", "apt install linux-headers-%s" },
		{ "fedora", "dnf install kernel-devel-%s" },
		{ "rhel", "dnf install kernel-devel-%s" },
	};
	char command[128] = "install the headers of this kernel";

	for (size_t i = 0; f->os_id && i < sizeof(known) / sizeof(known[0]); i++) {
		if (!strstr(f->os_id, known[i].id))
			continue;
		/* the release goes behind the command's last word */
		snprintf(command, sizeof(command), "%.*s%s",
			 (int)(strlen(known[i].command) - 2), known[i].command,
			 or_unknown(f->kernel));
		break;
	}
	next(v, "%s; then make, make install and modprobe vmplat", command);
}

static bool signed_only(const struct vmplat_host_facts *f)
{
	const char *l = f->loading.lockdown;

	return f->loading.signatures > 0 || (l && strcmp(l, "none"));
}

static const char *why_signed(const struct vmplat_host_facts *f)
{
	return f->loading.signatures > 0 ? "the kernel takes signed modules only (sig_enforce)" :
					   "the kernel is locked down and takes signed modules only";
}

/* It is not loaded: can it be? */
static void not_loaded(const struct vmplat_host_facts *f, struct vmplat_host_verdict *v)
{
	int major = 0, minor = 0;

	if (f->kernel && sscanf(f->kernel, "%d.%d", &major, &minor) == 2 &&
	    (major < 6 || (major == 6 && minor < 1))) {
		say(v, VMPLAT_ABILITY_NO, "Linux %s is too old for the module", f->kernel);
		next(v, "boot Linux 6.1 or later");
	} else if (f->loading.disabled > 0) {
		say(v, VMPLAT_ABILITY_NO, "the module is not loaded, and modules cannot be loaded until the next boot (kernel.modules_disabled)");
		next(v, "boot without kernel.modules_disabled=1, see /etc/sysctl.d");
	} else if (signed_only(f)) {
		say(v, VMPLAT_ABILITY_NO, "the module is not loaded; %s", why_signed(f));
		next(v, "sign it with a key of yours (scripts/sign-file of the headers; DKMS does it) and enroll the key: mokutil --import; or boot without Secure Boot and lockdown=");
	} else if (f->module.file) {
		say(v, VMPLAT_ABILITY_NO, "the module is not loaded; it is installed for this kernel");
		next(v, "modprobe vmplat");
	} else if (f->loading.headers) {
		say(v, VMPLAT_ABILITY_NO, "the module is not loaded, nor installed for Linux %s; headers are there",
		    or_unknown(f->kernel));
		next(v, "make, make install (or make dkms) and modprobe vmplat");
	} else {
		say(v, VMPLAT_ABILITY_NO, "the module is not loaded, nor installed for Linux %s; its headers are missing",
		    or_unknown(f->kernel));
		next_headers(f, v);
	}
}

/* The device is open to us? If not the verdict is said. */
static bool module_opens(const struct vmplat_host_facts *f, struct vmplat_host_verdict *v)
{
	int err = f->module.access.error;

	if (!f->module.loaded) {
		not_loaded(f, v);
	} else if (!f->module.access.tried) {
		say(v, VMPLAT_ABILITY_UNKNOWN, COPY, "/dev/vmplat");
	} else if (err == -EACCES || err == -EPERM) {
		say_closed(f, v, "/dev/vmplat", &f->module.access);
	} else if (err) {
		say(v, VMPLAT_ABILITY_NO, "the module is loaded and /dev/vmplat is not usable: %s",
		    strerror(-err));
		next(v, "in a container: give it /dev/vmplat; on the host: is devtmpfs mounted on /dev?");
	} else {
		return true;
	}
	return false;
}

static void judge_snapshots(const struct vmplat_host_facts *f, struct vmplat_host_verdict *v)
{
	const uint64_t needed = VMPLAT_CAP_MEM | VMPLAT_CAP_LOG | VMPLAT_CAP_VIEW;

	if (!module_opens(f, v))
		return;
	if ((f->module.caps & needed) != needed) {
		say(v, VMPLAT_ABILITY_NO, "the module has no memory files, logs or views");
		next(v, "load the module that comes with this program: rmmod vmplat, modprobe vmplat");
	} else if (f->module.abi < VMPLAT_ABI) {
		say(v, VMPLAT_ABILITY_LIMITED, "the module's interface is %u, this program knows %d: what is newer does not work",
		    f->module.abi, VMPLAT_ABI);
		next(v, "load the module that comes with this program: rmmod vmplat, modprobe vmplat");
	} else {
		say(v, VMPLAT_ABILITY_YES, "the module's interface %u %s", f->module.abi,
		    f->module.abi > VMPLAT_ABI ? "is newer than this program, which is no harm" :
		    "is this program's");
	}
}

static void judge_events(const struct vmplat_host_facts *f, struct vmplat_host_verdict *v)
{
	int err = f->module.access.error;

	if (!f->module.loaded) {
		not_loaded(f, v);
	} else if (!f->module.access.tried) {
		say(v, VMPLAT_ABILITY_UNKNOWN, COPY, "a netlink socket");
	} else if (f->module.events_error) {
		say(v, VMPLAT_ABILITY_NO, "the module is loaded and tells no events: %s",
		    strerror(-f->module.events_error));
		next(v, "load the module that comes with this program: rmmod vmplat, modprobe vmplat");
	} else if (err) {
		module_opens(f, v);	/* for the next step */
		say(v, VMPLAT_ABILITY_LIMITED, "hardware and networks only: memories, logs, views and VMs need /dev/vmplat, which %s may not open",
		    or_unknown(f->user));
	} else {
		say(v, VMPLAT_ABILITY_YES, "hardware, networks, memories, logs, views and VMs");
	}
}

/* ---- devices ------------------------------------------------------------------------ */

static const struct vmplat_finding *first_of(const struct vmplat_findings *list,
					  enum vmplat_severity severity)
{
	for (size_t i = 0; i < list->nr; i++)
		if (list->items[i].severity == severity)
			return &list->items[i];
	return NULL;
}

static void next_iommu(const struct vmplat_host_facts *f, struct vmplat_host_verdict *v)
{
	static const char *const off[] = { "intel_iommu=off", "amd_iommu=off", "iommu=off" };

	for (size_t i = 0; i < sizeof(off) / sizeof(off[0]); i++) {
		if (host_has_word(f->cmdline, off[i])) {
			next(v, "take %s off the kernel's command line and boot again", off[i]);
			return;
		}
	}
	if (f->dmar)
		next(v, "add intel_iommu=on to the kernel's command line and boot again");
	else if (f->ivrs)
		next(v, "look for AMD-Vi in the kernel's log: firmware has an IOMMU that the kernel does not take");
	else if (f->guest)
		next(v, "give this VM an IOMMU; for QEMU: -device intel-iommu,intremap=on with kernel-irqchip=split, and intel_iommu=on on the kernel's command line");
	else
		next(v, "enable VT-d or AMD-Vi (IOMMU) in the firmware%s",
		     f->cpu.svm ? "" : ", and boot with intel_iommu=on");
}

static void judge_protected(const struct vmplat_host_facts *f, struct vmplat_host_verdict *v)
{
	const struct vmplat_finding *found;
	size_t open = 0;

	switch (f->iommu->protection) {
	case VMPLAT_PROTECTION_GUESTS:
		for (size_t i = 0; i < f->iommu->nr_groups; i++)
			open += f->iommu->groups[i].domain == VMPLAT_DOMAIN_IDENTITY;
		say(v, VMPLAT_ABILITY_LIMITED, "%zu of %zu IOMMU groups are in identity (pass-through) domains, which isolate nothing: only a device that VFIO has taken over is confined, the host's own drivers are not",
		    open, f->iommu->nr_groups);
		next(v, "take iommu=pt or iommu.passthrough=1 off the kernel's command line, if the host's drivers shall be confined too");
		break;
	case VMPLAT_PROTECTION_UNPROVEN:
		found = first_of(&f->iommu->findings, VMPLAT_WARNING);
		say(v, VMPLAT_ABILITY_LIMITED, "%s", found ? found->text : "the IOMMU may isolate nothing");
		next(v, "start that QEMU with -device amd-iommu,pt=off, or intel-iommu");
		break;
	default:
		say(v, VMPLAT_ABILITY_YES, "the IOMMU confines the devices of %zu groups (vmplat claim, and QEMU; vmplat run takes no devices yet)",
		    f->iommu->nr_groups);
		if (!f->vfio)
			next(v, "modprobe vfio-pci, before a device is claimed");
	}
}

static void judge_passthrough(const struct vmplat_host_facts *f, struct vmplat_host_verdict *v)
{
	const struct vmplat_finding *blocker = first_of(&f->iommu->findings, VMPLAT_BLOCKER);

	if (f->iommu->protection == VMPLAT_PROTECTION_NONE) {
		say(v, VMPLAT_ABILITY_NO, "no IOMMU is in use: every device reaches all memory");
		next_iommu(f, v);
	} else if (blocker) {
		say(v, VMPLAT_ABILITY_NO, "%s", blocker->text);
		next(v, "enable x2APIC and interrupt remapping in the firmware; only if guests are trusted: modprobe vfio_iommu_type1 allow_unsafe_interrupts=1");
	} else {
		judge_protected(f, v);
	}
}

static void judge_sriov(const struct vmplat_host_facts *f, struct vmplat_host_verdict *v)
{
	unsigned int most = 0, made = 0, driven = 0;
	const struct vmplat_pci *idle = NULL;

	for (size_t i = 0; i < f->nr_pfs; i++) {
		most += f->pfs[i]->max_vfs;
		made += f->pfs[i]->nr_vfs;
		driven += f->pfs[i]->driver != NULL;
		if (f->pfs[i]->driver && !idle)
			idle = f->pfs[i];
	}
	if (!f->nr_pfs) {
		say(v, VMPLAT_ABILITY_NO, "no PCI function here can have virtual functions");
		next(v, "needs a card with SR-IOV; if there is one, enable SR-IOV in the firmware's setup and in the card's");
	} else if (!driven) {
		say(v, VMPLAT_ABILITY_LIMITED, "%zu functions can have %u virtual functions, and none has a driver, which is what makes them",
		    f->nr_pfs, most);
		next(v, "load the driver of %s", f->pfs[0]->address);
	} else if (f->iommu->protection == VMPLAT_PROTECTION_NONE) {
		say(v, VMPLAT_ABILITY_LIMITED, "%zu functions can have %u virtual functions, for this host's own use only: no IOMMU confines them in a guest",
		    f->nr_pfs, most);
		next_iommu(f, v);
	} else {
		say(v, VMPLAT_ABILITY_YES, "%zu functions can have %u virtual functions; there are %u",
		    f->nr_pfs, most, made);
		if (!made && idle)
			next(v, "as root: echo N > /sys/bus/pci/devices/%s/sriov_numvfs", idle->address);
	}
}

/* ---- huge pages ----------------------------------------------------------------------- */

static void judge_hugepages(const struct vmplat_host_facts *f, struct vmplat_host_verdict *v)
{
	static const char own[] = "for guests of QEMU and the like; vmplat's own memory is in 4 KiB pages";
	const struct vmplat_host_memory *m = &f->memory;
	const struct vmplat_host_pool *pool = NULL;
	uint64_t reserved = 0;

	for (size_t i = 0; i < m->nr_pools; i++) {
		reserved += m->pools[i].pages;
		if (m->pools[i].free_pages > m->pools[i].reserved_pages &&
		    (!pool || m->pools[i].page_bytes < pool->page_bytes))
			pool = &m->pools[i];
	}
	if (pool) {
		say(v, VMPLAT_ABILITY_YES, "%llu of %llu pages of %llu MiB are free, %s",
		    (unsigned long long)(pool->free_pages - pool->reserved_pages),
		    (unsigned long long)pool->pages, (unsigned long long)pool->page_bytes >> 20, own);
		return;
	}
	if (m->thp && strcmp(m->thp, "never"))
		say(v, VMPLAT_ABILITY_LIMITED, "%s; transparent ones are possible (%s), %s",
		    reserved ? "all reserved huge pages are in use" : "no huge pages are reserved", m->thp, own);
	else
		say(v, VMPLAT_ABILITY_NO, "%s, and there are no transparent ones",
		    reserved ? "all reserved huge pages are in use" :
		    m->nr_pools ? "no huge pages are reserved" : "this kernel has no huge pages");
	if (m->nr_pools)
		next(v, "sysctl vm.nr_hugepages=N; of 1 GiB: hugepagesz=1G hugepages=N on the kernel's command line");
	else
		next(v, "boot a kernel with CONFIG_HUGETLBFS");
}

/* ---- all ---------------------------------------------------------------------------- */

static const struct {
	const char *name;
	void (*judge)(const struct vmplat_host_facts *f, struct vmplat_host_verdict *v);
} uses[VMPLAT_NR_USES] = {
	[VMPLAT_USE_RUN]		= { "run", judge_run },
	[VMPLAT_USE_SNAPSHOTS]		= { "snapshots", judge_snapshots },
	[VMPLAT_USE_PASSTHROUGH]	= { "passthrough", judge_passthrough },
	[VMPLAT_USE_SRIOV]		= { "sriov", judge_sriov },
	[VMPLAT_USE_HUGEPAGES]		= { "hugepages", judge_hugepages },
	[VMPLAT_USE_EVENTS]		= { "events", judge_events },
};

API int vmplat_host_judge(const struct vmplat_host_facts *facts, enum vmplat_host_use use,
			  struct vmplat_host_verdict *verdict)
{
	*verdict = (struct vmplat_host_verdict) { };
	if ((size_t)use >= VMPLAT_NR_USES)
		return lib_error(-EINVAL, "there is no use %d of a host", (int)use);
	uses[use].judge(facts, verdict);
	return 0;
}

API const char *vmplat_host_use_name(enum vmplat_host_use use)
{
	return (size_t)use < VMPLAT_NR_USES ? uses[use].name : NULL;
}

API const char *vmplat_host_ability_name(enum vmplat_host_ability ability)
{
	static const char *const words[] = { "unknown", "no", "limited", "yes" };

	return (size_t)ability < sizeof(words) / sizeof(words[0]) ? words[ability] : NULL;
}
