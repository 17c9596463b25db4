// SPDX-License-Identifier: GPL-2.0-only
/*
 * Verdicts over hosts that are made up: a host on which everything works, and what each single
 * thing that is in the way makes of it. What it does not concern must stay as it was.
 */
#include <errno.h>
#include <string.h>

#include <vmplat.h>
#include <vmplat_host.h>

#include "tap.h"

static struct vmplat_host_cap caps[3];
static struct vmplat_group groups[3];
static struct vmplat_iommu_state iommu;
static struct vmplat_pci pf;
static const struct vmplat_pci *pfs[] = { &pf };
static struct vmplat_host_pool pools[2];
static struct vmplat_finding finding;
static struct vmplat_host_facts h;

static void good_host(void)
{
	caps[0] = (struct vmplat_host_cap) { "KVM_CAP_IRQFD", 1, true, "interrupts" };
	caps[1] = (struct vmplat_host_cap) { "KVM_CAP_XSAVE", 1, true, "vector registers" };
	caps[2] = (struct vmplat_host_cap) { "KVM_CAP_GUEST_MEMFD", 0, false, "others" };
	for (int i = 0; i < 3; i++)
		groups[i] = (struct vmplat_group) { .id = i, .domain = VMPLAT_DOMAIN_DMA_FQ };
	iommu = (struct vmplat_iommu_state) {
		.groups = groups, .nr_groups = 3, .irq_remapping = 1,
		.protection = VMPLAT_PROTECTION_ALL,
	};
	pf = (struct vmplat_pci) { .address = "0000:01:00.0", .driver = "igb", .max_vfs = 7 };
	pools[0] = (struct vmplat_host_pool) { 2 << 20, 16, 10, 4, 0 };
	pools[1] = (struct vmplat_host_pool) { 1 << 30, 0, 0, 0, 0 };
	h = (struct vmplat_host_facts) {
		.live = true, .os_id = "debian", .kernel = "6.12.1", .arch = "x86_64",
		.user = "jo", .cmdline = "quiet", .vfio = true,
		.cpu = { .vendor = "AuthenticAMD", .svm = true, .nested_paging = true },
		.memory = { .thp = "madvise", .pools = pools, .nr_pools = 2 },
		.kvm = { .module = "kvm_amd", .nested = 1, .paging = 1, .api = 12,
			 .access = { .tried = true, .group = "kvm", .mode = 0660 },
			 .caps = caps, .nr_caps = 3 },
		.module = { .loaded = true, .abi = VMPLAT_ABI,
			    .caps = VMPLAT_CAP_MEM | VMPLAT_CAP_LOG | VMPLAT_CAP_VIEW,
			    .access = { .tried = true, .group = "kvm", .mode = 0660 } },
		.loading = { .lockdown = "none", .signatures = 0, .secure_boot = 0, .disabled = 0 },
		.iommu = &iommu, .pfs = pfs, .nr_pfs = 1,
	};
}

#define IS(use, ability, why, how) \
	do { if (!is(VMPLAT_USE_##use, VMPLAT_ABILITY_##ability, why, how)) tap_bad = true; } while (0)

/* The verdict, a part of its reason, a part of its next step; NULL: there is none to take. */
static bool is(enum vmplat_host_use use, enum vmplat_host_ability ability, const char *why,
	       const char *how)
{
	struct vmplat_host_verdict v;
	bool right;

	vmplat_host_judge(&h, use, &v);
	right = v.ability == ability && strstr(v.reason, why) &&
		(how ? strstr(v.next, how) != NULL : !*v.next);
	if (!right)
		printf("# %s: %s: %s -> %s\n# not %s: %s -> %s\n", vmplat_host_use_name(use),
		       vmplat_host_ability_name(v.ability), v.reason, v.next,
		       vmplat_host_ability_name(ability), why, how ? how : "");
	return right;
}

static void others_work(unsigned int but)
{
	for (int use = 0; use < VMPLAT_NR_USES; use++) {
		struct vmplat_host_verdict v;

		vmplat_host_judge(&h, use, &v);
		if (!(but & 1u << use) && v.ability != VMPLAT_ABILITY_YES) {
			printf("# %s: %s\n", vmplat_host_use_name(use), v.reason);
			tap_bad = true;
		}
	}
}

#define RUNS (1u << VMPLAT_USE_RUN)
#define MODULE (1u << VMPLAT_USE_SNAPSHOTS | 1u << VMPLAT_USE_EVENTS)

TEST(all_works)
{
	good_host();
	others_work(0);
	IS(RUN, YES, "KVM API 12", NULL);
	IS(SNAPSHOTS, YES, "is this program's", NULL);
	IS(PASSTHROUGH, YES, "of 3 groups", NULL);
	IS(SRIOV, YES, "1 functions can have 7", "0000:01:00.0/sriov_numvfs");
	IS(HUGEPAGES, YES, "6 of 16 pages of 2 MiB", NULL);
	IS(EVENTS, YES, "VMs", NULL);
}

TEST(no_kvm)
{
	good_host();
	h.kvm.access.error = -ENOENT;
	IS(RUN, NO, "not usable", "mknod");
	h.kvm.module = NULL;
	IS(RUN, NO, "kvm_amd is not loaded", "modprobe kvm_amd");
	others_work(RUNS);
	h.cpu.svm = false;
	IS(RUN, NO, "no SVM", "enable SVM (AMD-V) in the firmware");
	h.cpu.vendor = "GenuineIntel";
	IS(RUN, NO, "no VMX", "enable VMX (VT-x) in the firmware");
	h.cpu.vmx = true;
	IS(RUN, NO, "kvm_intel is not loaded", "modprobe kvm_intel");
	h.cpu.vmx = false;
	h.guest = true;
	IS(RUN, NO, "a guest of a hypervisor", "nested virtualization");
	h.hypervisor = "Hyper-V";
	IS(RUN, NO, "a guest of Hyper-V", "nested virtualization");
}

TEST(kvm_closed)
{
	good_host();
	h.kvm.access.error = -EACCES;
	IS(RUN, NO, "jo may not open /dev/kvm (group kvm, mode 0660)", "usermod -aG kvm jo");
	h.kvm.access.group = "root";
	IS(RUN, NO, "group root", "chgrp kvm /dev/kvm");
	h.kvm.access.group = "kvm";
	h.kvm.access.mode = 0600;
	IS(RUN, NO, "mode 0600", "chmod 660 /dev/kvm");
	others_work(RUNS);
}

TEST(kvm_unfit)
{
	good_host();
	h.kvm.api = 11;
	IS(RUN, NO, "API 11", "6.1");
	h.kvm.api = 12;
	h.kvm.create_error = -EBUSY;
	IS(RUN, NO, "another hypervisor", "stop it");
	h.kvm.create_error = -EIO;
	IS(RUN, NO, "makes no VM", "log");
	h.kvm.create_error = 0;
	caps[1].value = 0;
	IS(RUN, NO, "KVM_CAP_XSAVE (vector registers)", "6.1");
	caps[1].value = 1;
	others_work(0);
	h.kvm.paging = 0;
	IS(RUN, LIMITED, "nested paging", "kvm_amd with npt=1");
	h.kvm.paging = -1;
	others_work(0);
	h.cpu.nested_paging = false;
	IS(RUN, LIMITED, "nested paging", NULL);
	h.arch = "aarch64";
	IS(RUN, NO, "aarch64", NULL);
}

static void unload(void)
{
	good_host();
	h.module = (struct vmplat_host_module) { .access = { .tried = true, .error = -ENOENT } };
}

TEST(module_not_loaded)
{
	unload();
	others_work(RUNS | MODULE);
	IS(RUN, LIMITED, "--memory-backend memfd", "--memory-backend memfd");
	IS(SNAPSHOTS, NO, "headers are missing", "apt install linux-headers-6.12.1; then make");
	IS(EVENTS, NO, "headers are missing", "apt install linux-headers-6.12.1; then make");
	h.os_id = "centos rhel fedora";
	IS(SNAPSHOTS, NO, "headers are missing", "dnf install kernel-devel-6.12.1; then make");
	h.os_id = NULL;
	IS(SNAPSHOTS, NO, "headers are missing", "install the headers of this kernel; then make");
	h.loading.headers = true;
	IS(SNAPSHOTS, NO, "headers are there", "make install");
	h.module.file = "lib/modules/6.12.1/updates/vmplat.ko";
	IS(SNAPSHOTS, NO, "it is installed", "modprobe vmplat");
}

TEST(module_not_loadable)
{
	unload();
	h.module.file = "lib/modules/6.12.1/updates/vmplat.ko";
	h.loading.lockdown = "integrity";
	IS(SNAPSHOTS, NO, "locked down", "mokutil --import");
	h.loading.lockdown = NULL;
	h.loading.signatures = 1;
	IS(SNAPSHOTS, NO, "sig_enforce", "mokutil --import");
	h.loading.disabled = 1;
	IS(EVENTS, NO, "kernel.modules_disabled", "boot without");
	h.kernel = "5.10.0-30";
	IS(EVENTS, NO, "5.10.0-30 is too old", "6.1");
	h.kernel = "6.0.1";
	IS(EVENTS, NO, "too old", "6.1");
	/* it is loaded: how does not matter any more */
	good_host();
	h.loading.disabled = h.loading.signatures = 1;
	others_work(0);
}

TEST(module_closed)
{
	good_host();
	h.module.access.error = -EACCES;
	h.module.access.group = "virt";
	IS(SNAPSHOTS, NO, "jo may not open /dev/vmplat", "usermod -aG virt jo");
	IS(EVENTS, LIMITED, "hardware and networks only", "usermod -aG virt jo");
	IS(RUN, LIMITED, "memfd", "memfd");
	others_work(RUNS | MODULE);
	h.module.access.error = -ENOENT;
	IS(SNAPSHOTS, NO, "/dev/vmplat is not usable", "devtmpfs");
}

TEST(module_of_another_time)
{
	good_host();
	h.module.abi = VMPLAT_ABI - 1;
	IS(SNAPSHOTS, LIMITED, "interface is", "rmmod vmplat");
	h.module.abi = VMPLAT_ABI + 1;
	IS(SNAPSHOTS, YES, "newer than this program", NULL);
	h.module.caps &= ~VMPLAT_CAP_VIEW;
	IS(SNAPSHOTS, NO, "no memory files, logs or views", "rmmod vmplat");
	h.module.events_error = -ENOENT;
	IS(EVENTS, NO, "tells no events", "rmmod vmplat");
}

TEST(no_iommu)
{
	const unsigned int devices = 1u << VMPLAT_USE_PASSTHROUGH | 1u << VMPLAT_USE_SRIOV;

	good_host();
	iommu = (struct vmplat_iommu_state) { .protection = VMPLAT_PROTECTION_NONE };
	others_work(devices);
	IS(PASSTHROUGH, NO, "every device reaches all memory", "(IOMMU) in the firmware");
	IS(SRIOV, LIMITED, "for this host's own use only", "(IOMMU) in the firmware");
	h.ivrs = true;
	IS(PASSTHROUGH, NO, "no IOMMU", "AMD-Vi in the kernel's log");
	h.dmar = true;
	IS(PASSTHROUGH, NO, "no IOMMU", "add intel_iommu=on");
	h.cmdline = "quiet intel_iommu=off";
	IS(PASSTHROUGH, NO, "no IOMMU", "take intel_iommu=off off");
	h.cmdline = "xiommu=off iommu=offx";
	h.dmar = h.ivrs = false;
	h.guest = true;
	IS(PASSTHROUGH, NO, "no IOMMU", "-device intel-iommu");
}

TEST(iommu_isolates_less)
{
	good_host();
	groups[1].domain = VMPLAT_DOMAIN_IDENTITY;
	iommu.protection = VMPLAT_PROTECTION_GUESTS;
	IS(PASSTHROUGH, LIMITED, "1 of 3 IOMMU groups are in identity (pass-through) domains, which isolate nothing",
	   "iommu=pt");
	finding = (struct vmplat_finding) { "unproven", VMPLAT_WARNING, NULL, "perhaps ignored" };
	iommu.findings = (struct vmplat_findings) { &finding, 1 };
	iommu.protection = VMPLAT_PROTECTION_UNPROVEN;
	IS(PASSTHROUGH, LIMITED, "perhaps ignored", "pt=off");
	finding = (struct vmplat_finding) { "no-irq-remapping", VMPLAT_BLOCKER, NULL, "any interrupt" };
	IS(PASSTHROUGH, NO, "any interrupt", "allow_unsafe_interrupts=1");
	others_work(1u << VMPLAT_USE_PASSTHROUGH);
	good_host();
	h.vfio = false;
	IS(PASSTHROUGH, YES, "of 3 groups", "modprobe vfio-pci");
}

TEST(virtual_functions)
{
	good_host();
	pf.nr_vfs = 2;
	IS(SRIOV, YES, "there are 2", NULL);
	pf.driver = NULL;
	IS(SRIOV, LIMITED, "none has a driver", "driver of 0000:01:00.0");
	h.nr_pfs = 0;
	IS(SRIOV, NO, "no PCI function", "SR-IOV");
	others_work(1u << VMPLAT_USE_SRIOV);
}

TEST(huge_pages)
{
	good_host();
	pools[0].free_pages = 4;	/* all promised */
	IS(HUGEPAGES, LIMITED, "in use; transparent ones are possible (madvise)", "vm.nr_hugepages");
	pools[1].pages = pools[1].free_pages = 1;
	IS(HUGEPAGES, YES, "1 of 1 pages of 1024 MiB", NULL);
	h.memory.nr_pools = 1;
	pools[0].pages = 0;
	h.memory.thp = "never";
	IS(HUGEPAGES, NO, "no huge pages are reserved", "vm.nr_hugepages");
	h.memory.nr_pools = 0;
	h.memory.thp = NULL;
	IS(HUGEPAGES, NO, "this kernel has no huge pages", "CONFIG_HUGETLBFS");
	others_work(1u << VMPLAT_USE_HUGEPAGES);
}

TEST(a_copy)
{
	good_host();
	h.kvm.access.tried = h.module.access.tried = false;
	IS(RUN, UNKNOWN, "/dev/kvm", NULL);
	IS(SNAPSHOTS, UNKNOWN, "/dev/vmplat", NULL);
	IS(EVENTS, UNKNOWN, "netlink", NULL);
	others_work(RUNS | MODULE);
	h.module.loaded = false;
	IS(SNAPSHOTS, NO, "not loaded", "linux-headers");
}

TEST(names)
{
	struct vmplat_host_verdict v;

	CHECK_EQ(vmplat_host_judge(&h, VMPLAT_NR_USES, &v), -EINVAL);
	CHECK(!vmplat_host_use_name(VMPLAT_NR_USES));
	CHECK(!vmplat_host_ability_name(VMPLAT_ABILITY_YES + 1));
	CHECK(!strcmp(vmplat_host_ability_name(VMPLAT_ABILITY_LIMITED), "limited"));
}

int main(void)
{
	RUN(all_works);
	RUN(no_kvm);
	RUN(kvm_closed);
	RUN(kvm_unfit);
	RUN(module_not_loaded);
	RUN(module_not_loadable);
	RUN(module_closed);
	RUN(module_of_another_time);
	RUN(no_iommu);
	RUN(iommu_isolates_less);
	RUN(virtual_functions);
	RUN(huge_pages);
	RUN(a_copy);
	RUN(names);
	return tap_done();
}
