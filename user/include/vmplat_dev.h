/* SPDX-License-Identifier: LGPL-2.1-or-later */
/*
 * The PCI devices of a host: what there is, what the IOMMU really keeps apart, who uses a
 * device, and whether a GPU can be given to a guest. Part of libvmplat; needs neither the
 * kernel module nor, but for some facts, privileges.
 *
 * A &struct vmplat_devs is a picture of one moment: everything in it is read when it is
 * opened, nothing changes later, every pointer from it is valid until it is closed.
 * It is read from sysfs and proc only; no device is touched.
 *
 * Two things are kept apart: facts, as the kernel and configuration space tell them, and
 * findings, which are conclusions: each has a fixed name for programs and a sentence for people.
 *
 * Conventions as in vmplat.h: 0, a count, or -errno with vmplat_last_error(). Strings that
 * are not known are NULL, numbers say below what they are then.
 */
#ifndef VMPLAT_DEV_H
#define VMPLAT_DEV_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#ifdef __cplusplus
extern "C" {
#endif

/* ---- the picture ------------------------------------------------------- */

struct vmplat_devs;
struct vmplat_pci;

/**
 * vmplat_devs_open - look at the PCI devices and IOMMUs of this host
 * @devs: the new handle
 * @root: NULL, or a directory with a copy of another host's sys and proc in it
 *
 * A host without PCI is no error: there are no devices then. -ENOENT: @root has no sys/.
 */
int vmplat_devs_open(struct vmplat_devs **devs, const char *root);
void vmplat_devs_close(struct vmplat_devs *devs);

size_t vmplat_devs_nr_pci(const struct vmplat_devs *devs);
/** vmplat_devs_pci - the functions in order of their addresses; NULL beyond the last */
const struct vmplat_pci *vmplat_devs_pci(const struct vmplat_devs *devs, size_t i);
/**
 * vmplat_devs_find - the function that @name means
 * @pci: set to it
 * @name: an address ("0000:01:00.0", "01:00.0"), a slot path ("pci0000:00/1c.0/00.0"), or
 *        "serial:" and a device serial number ("serial:00-1b-21-ff-ff-8a-c0-12")
 *
 * A serial number is shared by the functions of a device: the first is meant. -ENOENT: there is
 * none; -EINVAL: @name is none of these; -ENOTUNIQ: two devices carry that serial number.
 */
int vmplat_devs_find(const struct vmplat_devs *devs, const char *name,
		     const struct vmplat_pci **pci);

/* ---- findings ---------------------------------------------------------- */

enum vmplat_severity {
	VMPLAT_NOTE,	/* good to know */
	VMPLAT_WARNING,	/* works, with a consequence one has to want */
	VMPLAT_BLOCKER,	/* does not work like this */
};

/**
 * struct vmplat_finding - one conclusion
 * @name: fixed and short, such as "boot-framebuffer"; Documentation/devices.rst has all
 * @pci: the function it is about, or NULL
 * @text: a sentence
 */
struct vmplat_finding {
	const char *name;
	enum vmplat_severity severity;
	const struct vmplat_pci *pci;
	const char *text;
};

/** struct vmplat_findings - an array of them; those the library gives live as long as @devs */
struct vmplat_findings {
	const struct vmplat_finding *items;
	size_t nr;
};

/* "note", "warning", "blocker" */
const char *vmplat_severity_name(enum vmplat_severity severity);

/* ---- IOMMU ------------------------------------------------------------- */

/** enum vmplat_domain_type - how the DMA of a group's host drivers is treated: the group's type */
enum vmplat_domain_type {
	VMPLAT_DOMAIN_UNKNOWN,
	VMPLAT_DOMAIN_IDENTITY,		/* passes untranslated */
	VMPLAT_DOMAIN_DMA,		/* translated, unmapped at once */
	VMPLAT_DOMAIN_DMA_FQ,		/* translated, unmapped in batches */
	VMPLAT_DOMAIN_UNMANAGED,	/* in the hands of VFIO or a driver */
	VMPLAT_DOMAIN_BLOCKED,
};

/** struct vmplat_reserved - addresses of a group that are not for mapping; @last is inclusive */
struct vmplat_reserved {
	uint64_t start, last;
	const char *type;	/* "direct", "direct-relaxable", "msi", "reserved" */
};

/** struct vmplat_group - an IOMMU group: what can only be given away together */
struct vmplat_group {
	unsigned int id;
	enum vmplat_domain_type domain;
	const char *type;			/* as the kernel spells it */
	const struct vmplat_pci *const *members;
	size_t nr_members;
	const struct vmplat_reserved *reserved;
	size_t nr_reserved;
};

enum vmplat_iommu_kind { VMPLAT_IOMMU_OTHER, VMPLAT_IOMMU_INTEL, VMPLAT_IOMMU_AMD, VMPLAT_IOMMU_ARM };

/** struct vmplat_iommu - one unit; registers are 0 if not told */
struct vmplat_iommu {
	const char *name;		/* "dmar0", "ivhd0", "smmu3.0x..." */
	enum vmplat_iommu_kind kind;
	uint64_t cap, ecap;		/* Intel's registers; AMD: capability header, extended features */
	size_t nr_devices;
};

/**
 * enum vmplat_protection - what keeps a guest's device from the host's memory
 * @VMPLAT_PROTECTION_NONE: nothing: a device reaches all memory
 * @VMPLAT_PROTECTION_UNPROVEN: there is an IOMMU that accepts mappings, but it may ignore them:
 *	QEMU's amd-iommu with pt=on does, and shows nothing that would tell it apart
 * @VMPLAT_PROTECTION_GUESTS: devices given away are confined; the host's own are not (iommu=pt)
 * @VMPLAT_PROTECTION_ALL: all devices are confined
 */
enum vmplat_protection {
	VMPLAT_PROTECTION_NONE,
	VMPLAT_PROTECTION_UNPROVEN,
	VMPLAT_PROTECTION_GUESTS,
	VMPLAT_PROTECTION_ALL,
};

/** struct vmplat_iommu_state - all of it; @irq_remapping is -1 if it cannot be told */
struct vmplat_iommu_state {
	const struct vmplat_iommu *units;
	size_t nr_units;
	const struct vmplat_group *groups;
	size_t nr_groups;
	int irq_remapping;
	enum vmplat_protection protection;
	struct vmplat_findings findings;
};

const struct vmplat_iommu_state *vmplat_devs_iommu(const struct vmplat_devs *devs);
/* "none", "unproven", "guests", "all" */
const char *vmplat_protection_name(enum vmplat_protection protection);

/* ---- PCI functions ----------------------------------------------------- */

/** struct vmplat_bar - a region; @unassigned: firmware and kernel found no room for it */
struct vmplat_bar {
	unsigned int index;		/* 0..5, 6 the ROM, from 7 the VFs' or a bridge's windows */
	uint64_t start, bytes;
	bool io, prefetchable, wide, unassigned;
	bool shadow;			/* ROM: a copy in memory that firmware made */
	uint64_t resizable;		/* sizes it can take, bit n: 2^n MiB, from bit 0; 0: fixed */
};

/** struct vmplat_pci_cap - a capability in configuration space */
struct vmplat_pci_cap {
	uint16_t id, offset;
	uint8_t version;		/* extended ones only */
	bool extended;
	const char *name;		/* "MSI-X", "Access Control Services"; NULL if not known here */
};

/** enum vmplat_port - what a function is for PCI Express */
enum vmplat_port {
	VMPLAT_PORT_UNKNOWN,		/* configuration space could not be read */
	VMPLAT_PORT_CONVENTIONAL,	/* no PCI Express capability */
	VMPLAT_PORT_ENDPOINT, VMPLAT_PORT_LEGACY_ENDPOINT, VMPLAT_PORT_INTEGRATED_ENDPOINT,
	VMPLAT_PORT_ROOT, VMPLAT_PORT_UPSTREAM, VMPLAT_PORT_DOWNSTREAM,
	VMPLAT_PORT_TO_PCI, VMPLAT_PORT_FROM_PCI, VMPLAT_PORT_EVENT_COLLECTOR,
};

/** struct vmplat_link - speeds in 0.1 GT/s, widths in lanes; 0 if not known */
struct vmplat_link {
	unsigned int speed, max_speed, width, max_width;
};

/**
 * enum vmplat_isolation - whether others can be reached without passing the IOMMU
 * @VMPLAT_ISOLATION_NONE: no IOMMU group: nothing isolates it
 * @VMPLAT_ISOLATION_SHARED: its group has other functions than bridges: only all together
 * @VMPLAT_ISOLATION_DOUBTFUL: alone in its group, but configuration space does not
 *	say why: a kernel quirk for the device, or an override on the kernel's command line
 * @VMPLAT_ISOLATION_UNVERIFIED: alone in its group; configuration space is not readable here
 * @VMPLAT_ISOLATION_ALONE: alone in its group, and every bridge on the way enforces it
 */
enum vmplat_isolation {
	VMPLAT_ISOLATION_NONE,
	VMPLAT_ISOLATION_SHARED,
	VMPLAT_ISOLATION_DOUBTFUL,
	VMPLAT_ISOLATION_UNVERIFIED,
	VMPLAT_ISOLATION_ALONE,
};

/**
 * struct vmplat_pci - one PCI function
 * @path: slot path: host bridge, then device.function on each level. Names the place, and unlike
 *	the address does not change when bus numbers do.
 * @serial: device serial number; 0 if there is none or it cannot be read
 * @class_code: 24 bits
 * @override: driver_override; NULL if there is none
 * @reset: reset methods in the order in which the kernel tries them, as in reset_method; "" if
 *	there is none, NULL if the kernel does not tell
 * @numa_node: -1 if unknown
 * @boot_vga: 1 or 0; -1 if it is no VGA device
 * @max_vfs: VFs it can have; 0 for others than PFs
 * @config_bytes: how much of configuration space could be read: 64 without privileges
 * @acs: what its ACS capability enforces (PCI_ACS_*), of what it has; valid with @has_acs
 * @is_bridge: a host bridge, or a bridge to PCI; these stay with the host whoever has the rest
 * @siblings: functions of the same slot, this one not among them
 * @reasons: why @isolation is what it is
 */
struct vmplat_pci {
	uint32_t domain;
	uint8_t bus, device, function;
	const char *address;
	const char *path;
	uint64_t serial;

	uint16_t vendor, device_id, subvendor, subdevice;
	uint32_t class_code;
	uint8_t revision;

	const char *driver, *override, *module;
	const char *reset, *power;
	int numa_node, boot_vga;
	struct vmplat_link link;
	const struct vmplat_bar *bars;
	size_t nr_bars;

	unsigned int config_bytes;
	enum vmplat_port port;
	bool is_bridge, multifunction, flr, no_soft_reset, has_acs;
	uint16_t acs_cap, acs;
	const struct vmplat_pci_cap *caps;
	size_t nr_caps;

	const struct vmplat_pci *bridge;	/* above it; NULL on a root bus */
	const struct vmplat_pci *pf;		/* of a VF */
	unsigned int nr_vfs, max_vfs;
	const struct vmplat_pci *const *siblings;
	size_t nr_siblings;

	const struct vmplat_group *group;	/* NULL: none */
	enum vmplat_isolation isolation;
	struct vmplat_findings reasons;
};

/* "none", "shared", "doubtful", "unverified", "alone" */
const char *vmplat_isolation_name(enum vmplat_isolation isolation);
const char *vmplat_port_name(enum vmplat_port port);
/** vmplat_pci_format_serial - "00-1b-21-ff-ff-8a-c0-12", as lspci has it; returns @buf */
const char *vmplat_pci_format_serial(uint64_t serial, char buf[24]);

/**
 * vmplat_pci_use - who uses a function on this host, and how
 * @findings: mounts, swap, network interfaces, consoles, open device nodes, VFs; in use is a
 *	blocker, the rest are notes
 *
 * Other processes' open files are seen by root only; a note says so where they were not.
 * Returns 0 or -errno. The first call for a function does the work.
 */
int vmplat_pci_use(struct vmplat_devs *devs, const struct vmplat_pci *pci,
		   struct vmplat_findings *findings);

/* ---- GPUs -------------------------------------------------------------- */

/** enum vmplat_verdict - can it be given to a guest, and will it come back? */
enum vmplat_verdict {
	VMPLAT_VERDICT_NO,	/* there is a blocker */
	VMPLAT_VERDICT_CARE,	/* there is a warning */
	VMPLAT_VERDICT_YES,
	VMPLAT_VERDICT_READY,	/* and a VFIO driver has it already */
};

/**
 * struct vmplat_gpu - the verdict over a GPU or accelerator
 * @together: all that has to be given away with it, itself first: its group and its slot
 */
struct vmplat_gpu {
	const struct vmplat_pci *pci;
	enum vmplat_verdict verdict;
	const struct vmplat_pci *const *together;
	size_t nr_together;
	struct vmplat_findings findings;
};

/** vmplat_pci_is_gpu - a display controller or processing accelerator */
bool vmplat_pci_is_gpu(const struct vmplat_pci *pci);
/** vmplat_gpu_judge - the verdict; -EINVAL: @pci is no GPU */
int vmplat_gpu_judge(struct vmplat_devs *devs, const struct vmplat_pci *pci,
		     struct vmplat_gpu *gpu);
/* "no", "care", "yes", "ready" */
const char *vmplat_verdict_name(enum vmplat_verdict verdict);

/* ---- claims ------------------------------------------------------------ */

/*
 * A claim takes whole IOMMU groups away from their host drivers and gives them to vfio-pci or another
 * driver, and its release puts everything back as it was. Each has a number that is never used
 * again: who releases by number cannot hit somebody else's later claim of the same device. A journal
 * is written before and after each step; what a crash left half done is undone, or a release finished,
 * when claims are opened next. A reboot ends claims: devices begin anew then.
 */
struct vmplat_claims;

#define VMPLAT_CLAIMS_DIR	"/var/lib/vmplat/claims"
/* Only look: waits for nobody's changes to end, repairs nothing, cannot take or release. */
#define VMPLAT_CLAIMS_F_READ	(1u << 0)

enum vmplat_claim_state {
	VMPLAT_CLAIM_TAKING,	/* under way, or its process died */
	VMPLAT_CLAIM_HELD,
	VMPLAT_CLAIM_RELEASING,
};

/** struct vmplat_claim_device - what a function was before, and will be again; NULL: none */
struct vmplat_claim_device {
	const char *address, *path;
	uint64_t serial;
	const char *driver, *override, *reset;
};

/** struct vmplat_claim - @boot: the boot ID under which it was taken */
struct vmplat_claim {
	uint64_t id;
	const char *owner, *driver, *boot;
	enum vmplat_claim_state state;
	const struct vmplat_claim_device *devices;
	size_t nr_devices;
};

/**
 * struct vmplat_wish - how to claim
 * @owner: who claims; NULL: "root". Printable, up to 64 bytes
 * @driver: NULL: "vfio-pci"
 * @reset: reset methods to set meanwhile, as for reset_method; NULL: leave them
 * @force: names of blockers to accept as warnings, ended by NULL; may be NULL. Only: console,
 *	boot-framebuffer, node-open, net-address, default-route, net-master, net-elsewhere
 */
struct vmplat_wish {
	const char *owner, *driver, *reset;
	const char *const *force;
};

/**
 * struct vmplat_plan - what a claim would do; all of it lives as long as the picture
 * @devices: the functions it would take: those asked for, and the rest of their groups
 * @steps: in words, in order
 * @existing: a claim of this owner that has exactly these devices and driver already; 0: none
 */
struct vmplat_plan {
	const struct vmplat_pci *const *devices;
	size_t nr_devices;
	const char *const *steps;
	size_t nr_steps;
	struct vmplat_findings findings;
	bool blocked;
	uint64_t existing;
	struct vmplat_wish wish;
};

/**
 * vmplat_claims_open - the claims of this host, and everything half done put in order
 * @dir: NULL for VMPLAT_CLAIMS_DIR, which is made if it is missing; locked until closed
 * @told: called with what was put in order, a sentence each; may be NULL
 *
 * -EBADMSG: the journal is damaged.
 */
int vmplat_claims_open(struct vmplat_claims **claims, const char *dir, uint32_t flags,
		       void (*told)(void *ctx, const char *sentence), void *ctx);
void vmplat_claims_close(struct vmplat_claims *claims);
size_t vmplat_claims_nr(const struct vmplat_claims *claims);
const struct vmplat_claim *vmplat_claims_get(const struct vmplat_claims *claims, size_t i);
/** vmplat_claims_holder - the claim that has the function at @address, or NULL */
const struct vmplat_claim *vmplat_claims_holder(const struct vmplat_claims *claims,
						const char *address);

/**
 * vmplat_claim_plan - what it would take to claim these functions, and what is in the way
 * @claims: NULL: as if there were none
 * @names: as for vmplat_devs_find()
 *
 * Changes nothing. -ENOENT, -EINVAL, -ENOTUNIQ as from vmplat_devs_find(); -EINVAL also for a bad wish.
 */
int vmplat_claim_plan(struct vmplat_devs *devs, const struct vmplat_claims *claims,
		      const char *const *names, size_t nr, const struct vmplat_wish *wish,
		      struct vmplat_plan *plan);
/**
 * vmplat_claim_take - carry a plan out
 * @id: the number of the claim
 *
 * All or nothing: after an error everything is as before. -EBUSY: the plan is blocked, or a
 * device came into use meanwhile; -ENODEV: the driver is not there or did not take a device.
 */
int vmplat_claim_take(struct vmplat_claims *claims, struct vmplat_devs *devs,
		      const struct vmplat_plan *plan, uint64_t *id);
/**
 * vmplat_claim_release - put a claim's devices back as they were
 * @owner: must be the claim's; NULL: whoever it is
 *
 * A claim that was released before is success: 1 is returned. -ENOENT: there never was one;
 * -EPERM: another's; -EBUSY: a device is open in a process, nothing was changed.
 */
int vmplat_claim_release(struct vmplat_claims *claims, uint64_t id, const char *owner);
/* "taking", "held", "releasing" */
const char *vmplat_claim_state_name(enum vmplat_claim_state state);

#ifdef __cplusplus
}
#endif

#endif /* VMPLAT_DEV_H */
