// SPDX-License-Identifier: LGPL-2.1-or-later
/*
 * Can a GPU be given to a guest, and will it come back? Each check below is one thing that goes
 * wrong in the field, and adds a finding if it does here; the worst of them is the verdict.
 */
#include <stdio.h>
#include <stdlib.h>

#include <linux/pci_regs.h>

#include "dev/dev.h"

#define VENDOR_AMD	0x1002
#define VENDOR_NVIDIA	0x10de
#define CLASS_DISPLAY	0x03
#define CLASS_ACCEL	0x12
#define SUBCLASS_VGA	0x0300

#define MIB		(1ULL << 20)

struct judge {
	struct vmplat_devs *devs;
	const struct vmplat_pci *pci;
	struct dev_list together;
	struct dev_list found;
};

/* ---- what belongs to it ---------------------------------------------------- */

static bool goes_along(const struct judge *j, const struct vmplat_pci *pci)
{
	const struct vmplat_pci *const *all = j->together.items;

	for (size_t i = 0; i < j->together.nr; i++)
		if (all[i] == pci)
			return true;
	return false;
}

static void take_along(struct judge *j, const struct vmplat_pci *pci)
{
	if (!pci->is_bridge && !goes_along(j, pci))
		dev_append(j->devs, &j->together, &pci, sizeof(pci));
}

static bool is_sibling(const struct vmplat_pci *a, const struct vmplat_pci *b)
{
	for (size_t i = 0; i < a->nr_siblings; i++)
		if (a->siblings[i] == b)
			return true;
	return false;
}

static const char *role(const struct vmplat_pci *pci)
{
	switch (pci->class_code >> 8) {
	case 0x0403: return "audio";
	case 0x0c03: return "USB";
	case 0x0c80: return "USB-C";
	case 0x0300: case 0x0302: case 0x0380: return "display";
	default: return "other";
	}
}

static void judge_companions(struct judge *j)
{
	const char *words = "";
	size_t nr = 0;

	for (size_t i = 0; i < j->pci->nr_siblings; i++) {
		const struct vmplat_pci *s = j->pci->siblings[i];

		take_along(j, s);
		words = dev_printf(j->devs, "%s%s %s (%s%s%s)", words ? words : "", nr++ ? "," : "",
				   s->address, role(s), s->driver ? ", " : "",
				   s->driver ? s->driver : "");
	}
	if (nr)
		dev_find(j->devs, &j->found, VMPLAT_NOTE, "companions", j->pci,
			 "functions of the same board that go with it:%s", words ? words : "");
}

static void judge_group(struct judge *j)
{
	const struct vmplat_group *group = j->pci->group;

	for (size_t i = 0; group && i < group->nr_members; i++) {
		const struct vmplat_pci *m = group->members[i];

		if (m == j->pci || m->is_bridge)
			continue;
		take_along(j, m);
		if (is_sibling(j->pci, m))
			continue;
		if (m->driver && !driver_is_vfio(m->driver) && strcmp(m->driver, "pci-stub"))
			dev_find(j->devs, &j->found, VMPLAT_BLOCKER, "group-host-driver", m,
				 "%s (%s) is in the same IOMMU group %u and driven by the host: it has to go to the guest's side as well",
				 m->address, m->driver, group->id);
		else
			dev_find(j->devs, &j->found, VMPLAT_WARNING, "group-stranger", m,
				 "%s is in the same IOMMU group %u: no other guest and no host driver may have it",
				 m->address, group->id);
	}
}

static void judge_iommu(struct judge *j)
{
	const struct vmplat_findings *all = &j->devs->iommu.findings;

	for (size_t i = 0; i < all->nr; i++)
		if (all->items[i].severity != VMPLAT_NOTE)
			dev_append(j->devs, &j->found, &all->items[i], sizeof(all->items[i]));
	if (!j->pci->group && j->devs->iommu.nr_groups)
		dev_find(j->devs, &j->found, VMPLAT_BLOCKER, "no-group", j->pci,
			 "%s is in no IOMMU group: VFIO cannot take it", j->pci->address);
	if (j->pci->isolation == VMPLAT_ISOLATION_DOUBTFUL)
		for (size_t i = 0; i < j->pci->reasons.nr; i++)
			dev_append(j->devs, &j->found, &j->pci->reasons.items[i],
				   sizeof(j->pci->reasons.items[i]));
}

/* Memory the firmware insists on, other than for graphics and USB, which can do without. */
static void judge_reserved(struct judge *j)
{
	const struct vmplat_group *group = j->pci->group;

	for (size_t i = 0; group && i < group->nr_reserved; i++) {
		const struct vmplat_reserved *r = &group->reserved[i];

		if (strcmp(r->type, "direct"))
			continue;
		dev_find(j->devs, &j->found, VMPLAT_BLOCKER, "firmware-memory", j->pci,
			 "the firmware keeps memory at 0x%llx..0x%llx mapped for group %u (RMRR or IVMD): VFIO refuses it",
			 (unsigned long long)r->start, (unsigned long long)r->last, group->id);
	}
}

/* ---- use ------------------------------------------------------------------- */

static void judge_use(struct judge *j)
{
	const struct vmplat_pci *const *all = j->together.items;

	for (size_t i = 0; i < j->together.nr; i++) {
		struct vmplat_findings use;

		if (vmplat_pci_use(j->devs, all[i], &use))
			return;
		for (size_t f = 0; f < use.nr; f++)
			dev_append(j->devs, &j->found, &use.items[f], sizeof(use.items[f]));
	}
}

static const char *firmware_framebuffer(struct judge *j)
{
	static const char *const names[] = { "EFI VGA", "VESA VGA", "simple" };
	struct vmplat_devs *devs = j->devs;
	struct dev_names fbs = dev_list_dir(devs, devs->sys_fd, "class/graphics");
	struct dev_names cards = dev_list_dir(devs, devs->sys_fd, "class/drm");

	for (size_t i = 0; i < fbs.nr; i++) {
		const char *name = dev_text(devs, devs->sys_fd, "class/graphics/%s/name",
					    fbs.names[i]);

		for (size_t n = 0; name && n < sizeof(names) / sizeof(names[0]); n++)
			if (!strcmp(name, names[n]))
				return name;
	}
	for (size_t i = 0; i < cards.nr; i++) {
		const char *driver = dev_link_name(devs, devs->sys_fd, "class/drm/%s/device/driver",
						   cards.names[i]);

		if (driver && !strncmp(driver, "simple-framebuffer", 18))
			return "simpledrm";
	}
	return NULL;
}

static bool has_rom(const struct vmplat_pci *pci, bool *shadow)
{
	for (size_t i = 0; i < pci->nr_bars; i++) {
		if (pci->bars[i].index == 6) {
			*shadow = pci->bars[i].shadow;
			return true;
		}
	}
	return false;
}

static void judge_boot_vga(struct judge *j)
{
	bool shadow = false;
	const char *fb;

	if (j->pci->boot_vga != 1)
		return;
	fb = firmware_framebuffer(j);
	if (fb)
		dev_find(j->devs, &j->found, VMPLAT_WARNING, "boot-framebuffer", j->pci,
			 "the firmware's screen (%s) is on it: the host loses it when VFIO takes the GPU (kernels before 6.0 keep the memory and the guest gets none; there, boot with initcall_blacklist=sysfb_init)",
			 fb);
	else
		dev_find(j->devs, &j->found, VMPLAT_WARNING, "boot-vga", j->pci,
			 "the host booted with it as its screen: there may be no other console");
	if (!has_rom(j->pci, &shadow) || shadow)
		dev_find(j->devs, &j->found, VMPLAT_WARNING, "rom-shadow", j->pci,
			 "its ROM is the copy that the firmware changed while booting: give the guest a clean one from a file (romfile=)");
}

/* ---- virtual functions and slices -------------------------------------------- */

static void judge_vf(struct judge *j)
{
	struct vmplat_devs *devs = j->devs;
	const char *dir = pci_priv(devs, j->pci)->dir;
	uint64_t type;

	if (!j->pci->pf)
		return;
	dev_find(devs, &j->found, VMPLAT_NOTE, "vf", j->pci,
		 "it is a virtual function of %s, which stays with the host's %s",
		 j->pci->pf->address, j->pci->pf->driver ? j->pci->pf->driver : "driver");
	if (!dev_number(devs, &type, devs->sys_fd, "%s/nvidia/current_vgpu_type", dir))
		return;
	if (type)
		dev_find(devs, &j->found, VMPLAT_NOTE, "vgpu", j->pci,
			 "it is a vGPU of type %llu: a guest takes it from its own driver %s, not from vfio-pci",
			 (unsigned long long)type, j->pci->driver ? j->pci->driver : "(none now)");
	else
		dev_find(devs, &j->found, VMPLAT_BLOCKER, "vgpu-type", j->pci,
			 "no vGPU type is set: write one of nvidia/creatable_vgpu_types to nvidia/current_vgpu_type first");
}

static int nvidia_minor(struct judge *j)
{
	char *rest = (char *)dev_text(j->devs, j->devs->proc_fd,
				      "driver/nvidia/gpus/%s/information", j->pci->address), *line;
	int minor;

	while ((line = dev_next_line(&rest)))
		if (sscanf(line, "Device Minor: %d", &minor) == 1)
			return minor;
	return -1;
}

static void judge_mig(struct judge *j)
{
	int minor = j->pci->vendor == VENDOR_NVIDIA ? nvidia_minor(j) : -1;
	struct dev_names names;
	size_t nr = 0;

	if (minor < 0)
		return;
	names = dev_list_dir(j->devs, j->devs->proc_fd, "driver/nvidia/capabilities/gpu%d/mig", minor);
	for (size_t i = 0; i < names.nr; i++)
		nr += !strncmp(names.names[i], "gi", 2);
	if (nr)
		dev_find(j->devs, &j->found, VMPLAT_BLOCKER, "mig", j->pci,
			 "it is split into %zu MIG instances: destroy them (nvidia-smi mig -dci; -dgi) and turn MIG off (nvidia-smi -mig 0)",
			 nr);
}

/* Other functions' BARs that a VF's driver shares are no matter here. */
static void judge_twins(struct judge *j)
{
	const char *ids = cmdline_value(j->devs, "vfio-pci.ids=");

	for (size_t i = 0; i < j->devs->nr_pci; i++) {
		const struct vmplat_pci *p = &j->devs->pci[i];

		if (p == j->pci || p->vendor != j->pci->vendor || p->device_id != j->pci->device_id ||
		    p->pf || j->pci->pf)
			continue;
		dev_find(j->devs, &j->found, ids ? VMPLAT_WARNING : VMPLAT_NOTE, "twin", p,
			 "%s is the same model: take this one by its address (driver_override), never by vendor and device%s",
			 p->address, ids ? ", as vfio-pci.ids= on the kernel's command line does" : " (new_id, vfio-pci.ids=)");
		return;
	}
}

/* ---- will it come back ----------------------------------------------------------- */

/*
 * AMD generations that do not come up again after a bus reset once a driver had them; what has
 * been collected by users in the vendor-reset project. Its module shows as device_specific.
 */
static const struct {
	uint16_t first, last;
	const char *name;
} reset_trouble[] = {
	{ 0x6640, 0x665f, "Bonaire" }, { 0x67a0, 0x67bf, "Hawaii" }, { 0x67c0, 0x67ff, "Polaris" },
	{ 0x6860, 0x687f, "Vega 10" }, { 0x66a0, 0x66af, "Vega 20" }, { 0x6980, 0x699f, "Polaris 12" },
	{ 0x69a0, 0x69af, "Vega 12" }, { 0x7310, 0x731f, "Navi 10" }, { 0x7340, 0x734f, "Navi 14" },
	{ 0x7360, 0x7362, "Navi 12" }, { 0x15d8, 0x15dd, "Raven" }, { 0x1636, 0x1638, "Renoir" },
};

static const char *amd_trouble(const struct vmplat_pci *pci)
{
	if (pci->vendor != VENDOR_AMD || (pci->reset && strstr(pci->reset, "device_specific")))
		return NULL;
	for (size_t i = 0; i < sizeof(reset_trouble) / sizeof(reset_trouble[0]); i++)
		if (pci->device_id >= reset_trouble[i].first && pci->device_id <= reset_trouble[i].last)
			return reset_trouble[i].name;
	return NULL;
}

static bool has_word(const char *words, const char *word)
{
	size_t n = strlen(word);

	for (const char *s = words; (s = strstr(s, word)); s += n)
		if ((s == words || s[-1] == ' ') && (!s[n] || s[n] == ' '))
			return true;
	return false;
}

static void judge_reset(struct judge *j)
{
	const char *reset = j->pci->reset, *trouble = amd_trouble(j->pci);

	if (trouble)
		dev_find(j->devs, &j->found, VMPLAT_WARNING, "reset-trouble", j->pci,
			 "%s GPUs are known not to come back from a bus reset after a guest had them: load the module vendor-reset, or plan to reboot the host",
			 trouble);
	if (!reset) {
		dev_find(j->devs, &j->found, VMPLAT_NOTE, "reset-unknown", j->pci,
			 "the kernel does not tell how it would reset the GPU");
	} else if (!*reset) {
		dev_find(j->devs, &j->found, VMPLAT_WARNING, "no-reset", j->pci,
			 "the kernel knows no way to reset it: the next guest, or the host, gets it as the last guest left it");
	} else if (!has_word(reset, "flr") && !has_word(reset, "device_specific") &&
		   has_word(reset, "bus") && j->pci->nr_siblings) {
		dev_find(j->devs, &j->found, VMPLAT_NOTE, "reset-bus", j->pci,
			 "only a bus reset brings it back, which resets its companions too: one guest has to have them all");
	} else if (!strcmp(reset, "pm") && j->pci->no_soft_reset) {
		dev_find(j->devs, &j->found, VMPLAT_WARNING, "no-reset", j->pci,
			 "its only reset, by power state, does not reset it (NoSoftRst)");
	}
}

static void judge_power(struct judge *j)
{
	if (j->pci->config_bytes)
		return;
	dev_find(j->devs, &j->found, VMPLAT_WARNING, "asleep", j->pci,
		 "its configuration space does not answer%s%s: capabilities are not known",
		 j->pci->power ? ", power state " : "", j->pci->power ? j->pci->power : "");
}

/* ---- memory ---------------------------------------------------------------------- */

static uint64_t largest(uint64_t sizes)
{
	return sizes ? MIB << (63 - __builtin_clzll(sizes)) : 0;
}

static void judge_bars(struct judge *j)
{
	for (size_t i = 0; i < j->pci->nr_bars; i++) {
		const struct vmplat_bar *b = &j->pci->bars[i];
		uint64_t most = largest(b->resizable);

		if (b->unassigned && b->index < 6)
			dev_find(j->devs, &j->found, VMPLAT_BLOCKER, "bar-unassigned", j->pci,
				 "BAR %u (%llu MiB) got no address: the bridge above has no room; enable Above 4G Decoding, or boot with pci=realloc",
				 b->index, (unsigned long long)(b->bytes / MIB));
		else if (most > b->bytes)
			dev_find(j->devs, &j->found, VMPLAT_NOTE, "rebar", j->pci,
				 "BAR %u has %llu MiB and could have %llu: a guest sees what the host set before",
				 b->index, (unsigned long long)(b->bytes / MIB),
				 (unsigned long long)(most / MIB));
	}
}

/* ---- verdict --------------------------------------------------------------------- */

static enum vmplat_verdict verdict_of(const struct judge *j)
{
	const struct vmplat_finding *f = j->found.items;
	enum vmplat_severity worst = VMPLAT_NOTE;

	for (size_t i = 0; i < j->found.nr; i++)
		if (f[i].severity > worst)
			worst = f[i].severity;
	if (worst == VMPLAT_BLOCKER)
		return VMPLAT_VERDICT_NO;
	if (worst == VMPLAT_WARNING)
		return VMPLAT_VERDICT_CARE;
	return driver_is_vfio(j->pci->driver) ? VMPLAT_VERDICT_READY : VMPLAT_VERDICT_YES;
}

API bool vmplat_pci_is_gpu(const struct vmplat_pci *pci)
{
	return pci_base_class(pci) == CLASS_DISPLAY || pci_base_class(pci) == CLASS_ACCEL;
}

API int vmplat_gpu_judge(struct vmplat_devs *devs, const struct vmplat_pci *pci,
			 struct vmplat_gpu *gpu)
{
	static void (*const checks[])(struct judge *j) = {
		judge_iommu, judge_companions, judge_group, judge_reserved, judge_use,
		judge_boot_vga, judge_vf, judge_mig, judge_twins, judge_reset, judge_power,
		judge_bars,
	};
	struct judge j = { .devs = devs, .pci = pci };

	if (!vmplat_pci_is_gpu(pci))
		return lib_error(-EINVAL, "%s is of class %06x, no GPU", pci->address, pci->class_code);
	take_along(&j, pci);
	for (size_t i = 0; i < sizeof(checks) / sizeof(checks[0]); i++)
		checks[i](&j);
	if (devs->no_memory)
		return lib_error(-ENOMEM, "out of memory");
	*gpu = (struct vmplat_gpu) {
		.pci = pci, .verdict = verdict_of(&j), .together = j.together.items,
		.nr_together = j.together.nr, .findings = dev_findings(&j.found),
	};
	return 0;
}

API const char *vmplat_verdict_name(enum vmplat_verdict verdict)
{
	static const char *const words[] = { "no", "care", "yes", "ready" };

	return (size_t)verdict < 4 ? words[verdict] : NULL;
}
