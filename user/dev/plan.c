// SPDX-License-Identifier: LGPL-2.1-or-later
/* What a claim would do, and everything that is in its way. Nothing is changed here. */
#include <ctype.h>
#include <stdio.h>
#include <stdlib.h>

#include "dev/claim.h"

struct planner {
	struct vmplat_devs *devs;
	const struct vmplat_claims *claims;
	struct vmplat_wish wish;
	struct dev_list devices, steps, found;
};

/* What one may want to take away knowingly. Data would be lost with the rest, or nothing gained. */
static const char *const forceable[] = {
	"console", "boot-framebuffer", "node-open", "net-address", "default-route", "net-master",
	"net-elsewhere",
};
#define NR_FORCEABLE (sizeof(forceable) / sizeof(forceable[0]))

static int check_wish(const struct vmplat_wish *w)
{
	if (!*w->owner || strlen(w->owner) > 64)
		return lib_error(-EINVAL, "the owner is a name of 1 to 64 letters");
	for (const char *s = w->owner; *s; s++)
		if (!isgraph((unsigned char)*s))
			return lib_error(-EINVAL, "the owner's name has blanks or letters beyond ASCII in it");
	if (!step_driver_name(w->driver))
		return lib_error(-EINVAL, "'%s' is no name of a driver", w->driver);
	if (w->reset && strspn(w->reset, "abcdefghijklmnopqrstuvwxyz_ ") != strlen(w->reset))
		return lib_error(-EINVAL, "'%s' are no reset methods: flr, bus, pm, ...", w->reset);
	for (const char *const *f = w->force; f && *f; f++) {
		size_t i;

		for (i = 0; i < NR_FORCEABLE && strcmp(forceable[i], *f); i++)
			;
		if (i == NR_FORCEABLE)
			return lib_error(-EINVAL, "'%s' cannot be forced", *f);
	}
	return 0;
}

static bool is_forced(const struct planner *p, const char *name)
{
	for (const char *const *f = p->wish.force; f && *f; f++)
		if (!strcmp(*f, name))
			return true;
	return false;
}

/* ---- which functions ------------------------------------------------------- */

static bool planned(const struct planner *p, const struct vmplat_pci *pci)
{
	const struct vmplat_pci *const *all = p->devices.items;

	for (size_t i = 0; i < p->devices.nr; i++)
		if (all[i] == pci)
			return true;
	return false;
}

static void add_device(struct planner *p, const struct vmplat_pci *pci)
{
	if (!planned(p, pci))
		dev_append(p->devs, &p->devices, &pci, sizeof(pci));
}

/* Bridges stay with the host if their driver lets DMA alone, as the kernel's own does. */
static bool bridge_may_stay(const struct vmplat_pci *pci)
{
	return !pci->driver || !strcmp(pci->driver, "pcieport") || !strcmp(pci->driver, "shpchp") ||
	       !strcmp(pci->driver, "pci-stub") || driver_is_vfio(pci->driver);
}

static void add_group(struct planner *p, const struct vmplat_group *group)
{
	for (size_t i = 0; i < group->nr_members; i++) {
		const struct vmplat_pci *m = group->members[i];

		if (planned(p, m))
			continue;
		if (!m->is_bridge) {
			dev_find(p->devs, &p->found, VMPLAT_NOTE, "group-member", m,
				 "%s is in the same IOMMU group %u and goes along", m->address, group->id);
			add_device(p, m);
		} else if (!bridge_may_stay(m)) {
			dev_find(p->devs, &p->found, VMPLAT_BLOCKER, "group-bridge", m,
				 "the bridge %s is in IOMMU group %u and its driver %s does DMA: the group cannot leave the host",
				 m->address, group->id, m->driver);
		}
	}
}

static int add_named(struct planner *p, const char *name)
{
	const struct vmplat_pci *pci;
	int rc = vmplat_devs_find(p->devs, name, &pci);

	if (rc)
		return rc;
	if (pci->is_bridge)
		dev_find(p->devs, &p->found, VMPLAT_BLOCKER, "bridge", pci,
			 "%s is a bridge: claim the devices behind it", pci->address);
	else
		add_device(p, pci);
	return 0;
}

static void add_groups(struct planner *p)
{
	/* the list grows meanwhile, by functions whose group has been seen */
	for (size_t i = 0; i < p->devices.nr; i++) {
		const struct vmplat_pci *pci = ((const struct vmplat_pci **)p->devices.items)[i];

		if (pci->group)
			add_group(p, pci->group);
		else if (driver_is_vfio(p->wish.driver))
			dev_find(p->devs, &p->found, VMPLAT_BLOCKER, "no-group", pci,
				 "%s is in no IOMMU group: %s cannot take it; see 'vmplat iommu show'",
				 pci->address, p->wish.driver);
	}
}

/* ---- what is in the way ------------------------------------------------------ */

static void add_finding(struct planner *p, struct vmplat_finding f)
{
	if (f.severity == VMPLAT_BLOCKER && is_forced(p, f.name))
		f.severity = VMPLAT_WARNING;
	dev_append(p->devs, &p->found, &f, sizeof(f));
}

static void check_screen(struct planner *p, const struct vmplat_pci *pci)
{
	struct vmplat_gpu gpu;

	if (!vmplat_pci_is_gpu(pci) || vmplat_gpu_judge(p->devs, pci, &gpu))
		return;
	for (size_t i = 0; i < gpu.findings.nr; i++) {
		struct vmplat_finding f = gpu.findings.items[i];

		if (strcmp(f.name, "boot-framebuffer"))
			continue;
		f.severity = VMPLAT_BLOCKER;
		add_finding(p, f);
	}
}

static int check_use(struct planner *p, const struct vmplat_pci *pci)
{
	struct vmplat_findings use;
	int rc = vmplat_pci_use(p->devs, pci, &use);

	for (size_t i = 0; !rc && i < use.nr; i++)
		add_finding(p, use.items[i]);
	check_screen(p, pci);
	return rc;
}

/* The claim that has all of these and nothing else, or 0 and a blocker for each that has some. */
static uint64_t check_claims(struct planner *p)
{
	const struct vmplat_pci *const *all = p->devices.items;
	const struct vmplat_claim *first = NULL;
	bool same = p->devices.nr > 0;

	for (size_t i = 0; p->claims && i < p->devices.nr; i++) {
		const struct vmplat_claim *c = vmplat_claims_holder(p->claims, all[i]->address);

		if (!i)
			first = c;
		same &= c && c == first;
	}
	if (p->claims && same && first && first->nr_devices == p->devices.nr &&
	    first->state == VMPLAT_CLAIM_HELD && !strcmp(first->owner, p->wish.owner) &&
	    !strcmp(first->driver, p->wish.driver))
		return first->id;
	for (size_t i = 0; p->claims && i < p->devices.nr; i++) {
		const struct vmplat_claim *c = vmplat_claims_holder(p->claims, all[i]->address);

		if (c)
			dev_find(p->devs, &p->found, VMPLAT_BLOCKER, "claimed", all[i],
				 "%s belongs to claim %llu of %s%s", all[i]->address,
				 (unsigned long long)c->id, c->owner,
				 c->state == VMPLAT_CLAIM_HELD ? "" :
				 ", which is under way, or was interrupted: 'vmplat claim recover' tells");
	}
	return 0;
}

static void check_driver(struct planner *p)
{
	if (!dev_exists(p->devs, p->devs->sys_fd, "bus/pci/drivers/%s", p->wish.driver))
		dev_find(p->devs, &p->found, VMPLAT_NOTE, "driver-load", NULL,
			 "the driver %s is not there yet: modprobe will be asked for it", p->wish.driver);
}

static void check_reset(struct planner *p, const struct vmplat_pci *pci)
{
	if (p->wish.reset && (!pci->reset || !*pci->reset))
		dev_find(p->devs, &p->found, VMPLAT_BLOCKER, "no-reset", pci,
			 "%s has no reset methods that could be set", pci->address);
}

/* ---- steps --------------------------------------------------------------------- */

static void add_step(struct planner *p, const char *text)
{
	if (text)
		dev_append(p->devs, &p->steps, &text, sizeof(text));
}

static void add_steps(struct planner *p, const struct vmplat_pci *pci)
{
	const char *driver = p->wish.driver, *a = pci->address;

	if (!pci->override || strcmp(pci->override, driver))
		add_step(p, dev_printf(p->devs, "%s: set driver_override to %s (now %s)", a, driver,
				       pci->override ? pci->override : "none"));
	if (pci->driver && strcmp(pci->driver, driver))
		add_step(p, dev_printf(p->devs, "%s: unbind it from %s", a, pci->driver));
	if (!pci->driver || strcmp(pci->driver, driver))
		add_step(p, dev_printf(p->devs, "%s: bind it to %s", a, driver));
	if (p->wish.reset)
		add_step(p, dev_printf(p->devs, "%s: set reset_method to %s (now %s)", a,
				       p->wish.reset, pci->reset ? pci->reset : "none"));
}

static bool has_blocker(const struct planner *p)
{
	const struct vmplat_finding *f = p->found.items;

	for (size_t i = 0; i < p->found.nr; i++)
		if (f[i].severity == VMPLAT_BLOCKER)
			return true;
	return false;
}

API int vmplat_claim_plan(struct vmplat_devs *devs, const struct vmplat_claims *claims,
			  const char *const *names, size_t nr, const struct vmplat_wish *wish,
			  struct vmplat_plan *plan)
{
	struct planner p = { .devs = devs, .claims = claims, .wish = wish ? *wish : (struct vmplat_wish){ } };
	const struct vmplat_pci **all;
	uint64_t existing;
	int rc;

	*plan = (struct vmplat_plan) { };
	if (!p.wish.owner)
		p.wish.owner = "root";
	if (!p.wish.driver)
		p.wish.driver = "vfio-pci";
	rc = check_wish(&p.wish);
	for (size_t i = 0; i < nr && !rc; i++)
		rc = add_named(&p, names[i]);
	if (rc)
		return rc;
	add_groups(&p);
	existing = check_claims(&p);
	check_driver(&p);
	all = p.devices.items;
	for (size_t i = 0; i < p.devices.nr && !rc && !existing; i++) {
		rc = check_use(&p, all[i]);
		check_reset(&p, all[i]);
		add_steps(&p, all[i]);
	}
	if (rc || devs->no_memory)
		return lib_error(-ENOMEM, "out of memory");
	*plan = (struct vmplat_plan) {
		.devices = p.devices.items, .nr_devices = p.devices.nr, .steps = p.steps.items,
		.nr_steps = p.steps.nr, .findings = dev_findings(&p.found),
		.blocked = has_blocker(&p), .existing = existing, .wish = p.wish,
	};
	return 0;
}
