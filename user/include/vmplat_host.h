/* SPDX-License-Identifier: LGPL-2.1-or-later */
/*
 * What this machine is, and what of vmplat works on it. Part of libvmplat; needs neither the
 * kernel module nor privileges, and says what it could not see for want of them.
 *
 * Facts and verdicts are kept apart. Facts are what kernel, processor and firmware tell; each
 * names its source. A verdict is a conclusion from facts alone: vmplat_host_judge() reads nothing
 * but what it is given, so that it can be asked about any host, or one that is made up.
 *
 * Conventions as in vmplat.h: 0 or -errno with vmplat_last_error(). Strings that are not known are
 * NULL; an int that answers a question is 1, 0, or -1 for not known. Sizes are in bytes.
 */
#ifndef VMPLAT_HOST_H
#define VMPLAT_HOST_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include <vmplat_dev.h>

#ifdef __cplusplus
extern "C" {
#endif

/* ---- facts ------------------------------------------------------------- */

/** struct vmplat_host_flag - a feature of the processor; @name as in /proc/cpuinfo */
struct vmplat_host_flag {
	const char *name;
	bool have;
};

/** struct vmplat_host_cache - @count caches of one kind, of @bytes each; from cpuN/cache */
struct vmplat_host_cache {
	unsigned int level;
	const char *type;	/* "Data", "Instruction", "Unified" */
	uint64_t bytes;
	unsigned int count;
};

/**
 * struct vmplat_host_cpu - the processors that are online
 * @vendor: and @model_name, @family, @model, @stepping: of the first in /proc/cpuinfo; numbers are
 *	-1 if it has none
 * @flags: those that matter to virtual machines, had or not
 * @vmx: can run guests as Intel's do; @svm: as AMD's. False too where firmware or a hypervisor
 *	hides it (for AMD's only since Linux 6.7)
 * @nested_paging: the processor has EPT or NPT
 * @packages: and @cores, @threads: from /sys/devices/system/cpu/cpuN/topology
 * @smt: /sys/devices/system/cpu/smt/control: "on", "off", "forceoff", "notsupported", ...
 */
struct vmplat_host_cpu {
	const char *vendor, *model_name;
	int family, model, stepping;
	const struct vmplat_host_flag *flags;
	size_t nr_flags;
	bool vmx, svm, nested_paging;
	unsigned int packages, cores, threads;
	const char *smt;
	const struct vmplat_host_cache *caches;
	size_t nr_caches;
};

/** struct vmplat_host_node - a NUMA node, of /sys/devices/system/node */
struct vmplat_host_node {
	unsigned int id;
	const char *cpus;	/* "0-3,8"; "" for one without */
	uint64_t bytes, free_bytes;
};

enum vmplat_host_exposure {
	VMPLAT_EXPOSURE_UNKNOWN,
	VMPLAT_EXPOSURE_NONE,		/* not affected */
	VMPLAT_EXPOSURE_MITIGATED,
	VMPLAT_EXPOSURE_PARTLY,		/* mitigated, and something in it is vulnerable still */
	VMPLAT_EXPOSURE_VULNERABLE,
};

/** struct vmplat_host_vulnerability - a file of /sys/devices/system/cpu/vulnerabilities */
struct vmplat_host_vulnerability {
	const char *name, *text;
	enum vmplat_host_exposure exposure;
};

/** struct vmplat_host_pool - huge pages of one size; from /sys/kernel/mm/hugepages, in pages */
struct vmplat_host_pool {
	uint64_t page_bytes, pages, free_pages, reserved_pages, surplus_pages;
};

/**
 * struct vmplat_host_memory - memory
 * @bytes: and @available_bytes: /proc/meminfo's MemTotal and MemAvailable
 * @thp: transparent huge pages: "always", "madvise", "never"
 * @thp_shared: the same for shared memory, of which a runner's memfd is: and "within_size", "advise",
 *	"deny", "force"
 */
struct vmplat_host_memory {
	uint64_t bytes, available_bytes;
	const char *thp, *thp_shared;
	const struct vmplat_host_pool *pools;
	size_t nr_pools;
	const struct vmplat_host_node *nodes;
	size_t nr_nodes;
};

/**
 * struct vmplat_host_access - what came of opening a device file
 * @tried: false: the facts are of a copy, nothing was opened
 * @error: 0, or -errno
 * @group: name or number of the group that owns the file
 * @mode: its permission bits; 0 if there is no file
 */
struct vmplat_host_access {
	bool tried;
	int error;
	const char *group;
	unsigned int mode;
};

/** struct vmplat_host_cap - an answer to KVM_CHECK_EXTENSION */
struct vmplat_host_cap {
	const char *name;	/* "KVM_CAP_IRQFD" */
	int value;		/* 0: KVM does not have it */
	bool needed;		/* by vmplat run; others are good to have */
	const char *what;	/* for what */
};

/**
 * struct vmplat_host_kvm - /dev/kvm
 * @module: "kvm_intel" or "kvm_amd" if it is loaded or built in
 * @nested: guests may run guests: its parameter "nested"
 * @paging: it uses nested paging: its parameter "ept" or "npt"
 * @api: KVM_GET_API_VERSION; 0 if not asked
 * @create_error: what came of KVM_CREATE_VM, the first that needs the processor: 0 or -errno. The
 *	VM is closed at once
 */
struct vmplat_host_kvm {
	const char *module;
	int nested, paging;
	struct vmplat_host_access access;
	int api, create_error;
	const struct vmplat_host_cap *caps;
	size_t nr_caps;
};

/**
 * struct vmplat_host_module - the kernel module vmplat
 * @loaded: /sys/module/vmplat is there
 * @version: its version
 * @abi: VMPLAT_ABI of it; 0 if not asked
 * @caps: its capabilities, enum vmplat_caps
 * @events_error: what came of listening to events of hardware: 0 or -errno; valid with access.tried
 * @file: where it lies below / for the kernel that runs; NULL: it was not installed for it
 */
struct vmplat_host_module {
	bool loaded;
	const char *version;
	struct vmplat_host_access access;
	uint32_t abi;
	uint64_t caps;
	int events_error;
	const char *file;
};

/**
 * struct vmplat_host_loading - may a module be loaded?
 * @lockdown: /sys/kernel/security/lockdown: "none", "integrity", "confidentiality"; NULL also where
 *	securityfs is not mounted
 * @signatures: unsigned modules are refused: /sys/module/module/parameters/sig_enforce
 * @secure_boot: the EFI variable SecureBoot; 0 where there is no EFI
 * @disabled: kernel.modules_disabled: none can be loaded until the next boot
 * @headers: there is what a module is built with, /lib/modules/RELEASE/build
 */
struct vmplat_host_loading {
	const char *lockdown;
	int signatures, secure_boot, disabled;
	bool headers;
};

/**
 * struct vmplat_host_facts - all of it
 * @live: of this host, now; false: of a copy
 * @os: and @os_id: PRETTY_NAME, and ID with ID_LIKE, of os-release
 * @kernel: its release; @arch: as uname -m has it
 * @machine: vendor and product, as firmware tells (DMI)
 * @user: who asks: name or number; @root: it is root
 * @guest: this host is itself a guest: the processor's flag "hypervisor"
 * @hypervisor: whose, by leaf 0x40000000 of CPUID or /sys/hypervisor/type; NULL: none, or not known
 * @iommu: see vmplat_dev.h
 * @cmdline: the kernel's command line
 * @dmar: firmware describes an IOMMU as Intel's (ACPI table DMAR); @ivrs: as AMD's
 * @vfio: the driver vfio-pci is there: 1 or 0
 * @pfs: PCI functions that can have virtual functions
 */
struct vmplat_host_facts {
	bool live;
	const char *os, *os_id, *kernel, *arch, *machine, *user;
	bool root;
	bool guest;
	const char *hypervisor;
	struct vmplat_host_cpu cpu;
	const struct vmplat_host_vulnerability *vulnerabilities;
	size_t nr_vulnerabilities;
	struct vmplat_host_memory memory;
	struct vmplat_host_kvm kvm;
	struct vmplat_host_module module;
	struct vmplat_host_loading loading;
	const struct vmplat_iommu_state *iommu;
	const char *cmdline;
	bool dmar, ivrs, vfio;
	const struct vmplat_pci *const *pfs;
	size_t nr_pfs;
};

struct vmplat_host;

/**
 * vmplat_host_open - look at this host
 * @host: the new handle: a picture of one moment
 * @root: NULL, or a directory with a copy of another host's sys and proc, and perhaps etc and lib,
 *	in it; devices are not opened then
 *
 * -ENOENT: @root has no sys/; -ENOMEM.
 */
int vmplat_host_open(struct vmplat_host **host, const char *root);
void vmplat_host_close(struct vmplat_host *host);
/** vmplat_host_facts - the facts, valid until @host is closed */
const struct vmplat_host_facts *vmplat_host_facts(const struct vmplat_host *host);
/** vmplat_host_devs - the devices of the same picture */
const struct vmplat_devs *vmplat_host_devs(const struct vmplat_host *host);
/* "unknown", "not affected", "mitigated", "partly mitigated", "vulnerable" */
const char *vmplat_host_exposure_name(enum vmplat_host_exposure exposure);

/* ---- verdicts ---------------------------------------------------------- */

enum vmplat_host_use {
	VMPLAT_USE_RUN,		/* guests by vmplat run */
	VMPLAT_USE_SNAPSHOTS,	/* memory tracking, and snapshots of running guests */
	VMPLAT_USE_PASSTHROUGH,	/* devices given to guests, confined */
	VMPLAT_USE_SRIOV,	/* virtual functions */
	VMPLAT_USE_HUGEPAGES,
	VMPLAT_USE_EVENTS,
	VMPLAT_NR_USES
};

enum vmplat_host_ability {
	VMPLAT_ABILITY_UNKNOWN,	/* the facts do not tell: they are of a copy */
	VMPLAT_ABILITY_NO,
	VMPLAT_ABILITY_LIMITED,	/* works, with a consequence that @reason names */
	VMPLAT_ABILITY_YES,
};

/**
 * struct vmplat_host_verdict - does it work here?
 * @reason: a sentence without its full stop
 * @next: what to do so that it works, or works better; "" if there is nothing to do
 */
struct vmplat_host_verdict {
	enum vmplat_host_ability ability;
	char reason[640];
	char next[320];
};

/** vmplat_host_judge - the verdict over one use; -EINVAL: there is no such use */
int vmplat_host_judge(const struct vmplat_host_facts *facts, enum vmplat_host_use use,
		      struct vmplat_host_verdict *verdict);
/* "run", "snapshots", "passthrough", "sriov", "hugepages", "events"; NULL out of range */
const char *vmplat_host_use_name(enum vmplat_host_use use);
/* "unknown", "no", "limited", "yes" */
const char *vmplat_host_ability_name(enum vmplat_host_ability ability);

#ifdef __cplusplus
}
#endif

#endif /* VMPLAT_HOST_H */
