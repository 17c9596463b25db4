// SPDX-License-Identifier: GPL-2.0-only
/*
 * Which function a name means, and what is in the way of giving it to a guest. All of it
 * is said before anything is opened, so that what is said can be precise; VFIO itself
 * has the last word.
 */
#include <errno.h>
#include <limits.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>
#include <vmplat_dev.h>
#include <vmplat_error.h>

#include "config.h"
#include "vfio.h"

struct look {
	struct vmplat_devs *devs;
	const struct vm_hostdev *d;
	const struct vmplat_pci *pci;
	char *why;
	size_t room;
};

__attribute__((format(printf, 3, 4)))
static int blocked(const struct look *l, int err, const char *fmt, ...)
{
	va_list ap;

	va_start(ap, fmt);
	vsnprintf(l->why, l->room, fmt, ap);
	va_end(ap);
	return err;
}

/* "vmplat claim add --owner web" as it has to be for this device */
static const char *claim_command(const struct look *l, char buf[120])
{
	const char *owner = l->d->owner;

	snprintf(buf, 120, "vmplat claim add %s%s%s%s", owner ? "--owner " : "", owner ? owner : "",
		 owner ? " " : "", l->pci->address);
	return buf;
}

/* ---- the name ------------------------------------------------------------------- */

/* "0000:01:00.0#2": what the PF's virtfn2 is */
static int find_vf(struct look *l, const char *pf_name, const char *index)
{
	const struct vmplat_pci *pf;
	char path[96], target[PATH_MAX];
	const char *slash;
	ssize_t n;
	int rc = vmplat_devs_find(l->devs, pf_name, &pf);

	if (rc)
		return blocked(l, rc, "%s", vmplat_last_error());
	if (!pf->max_vfs)
		return blocked(l, -ENODEV, "%s has no virtual functions: it is no SR-IOV device", pf->address);
	snprintf(path, sizeof(path), "/sys/bus/pci/devices/%s/virtfn%s", pf->address, index);
	n = readlink(path, target, sizeof(target) - 1);
	if (n < 0)
		return blocked(l, -ENODEV, "%s has %u virtual functions, and none is number %s; `vmplat sriov show %s`, `vmplat sriov apply` makes more",
			       pf->address, pf->nr_vfs, index, pf->address);
	target[n] = '\0';
	slash = strrchr(target, '/');
	rc = vmplat_devs_find(l->devs, slash ? slash + 1 : target, &l->pci);
	return rc ? blocked(l, rc, "%s", vmplat_last_error()) : 0;
}

static int find(struct look *l)
{
	const char *hash = strchr(l->d->host, '#');
	char pf[160];
	int rc;

	if (hash) {
		snprintf(pf, sizeof(pf), "%.*s", (int)(hash - l->d->host), l->d->host);
		return find_vf(l, pf, hash + 1);
	}
	rc = vmplat_devs_find(l->devs, l->d->host, &l->pci);
	return rc ? blocked(l, rc, "%s; `vmplat pci list` has those there are", vmplat_last_error()) : 0;
}

/* ---- the function ------------------------------------------------------------------ */

/* a driver of VFIO has registered it: the kernel says so since 6.0 */
static bool by_vfio(const struct vmplat_pci *pci)
{
	char path[80];

	snprintf(path, sizeof(path), "/sys/bus/pci/devices/%s/vfio-dev", pci->address);
	return !access(path, F_OK);
}

static int check_function(const struct look *l)
{
	const struct vmplat_pci *pci = l->pci;
	char cmd[120];

	if (pci->is_bridge)
		return blocked(l, -EINVAL, "%s is a bridge, which stays with the host", pci->address);
	if (!pci->group)
		return blocked(l, -ENODEV, "%s is in no IOMMU group: nothing would keep its DMA from the host's memory; `vmplat iommu show` says what is there",
			       pci->address);
	if (!pci->driver)
		return blocked(l, -ENODEV, "no driver has %s; `%s` gives it to vfio-pci", pci->address,
			       claim_command(l, cmd));
	if (!by_vfio(pci))
		return blocked(l, -EBUSY, "%s is driven by %s, for the host; `%s` takes it from there, if nobody uses it",
			       pci->address, pci->driver, claim_command(l, cmd));
	return 0;
}

/* What is not a bridge has to be with VFIO, or with nobody. */
static int check_group(const struct look *l)
{
	const struct vmplat_group *g = l->pci->group;
	char cmd[120];

	for (size_t i = 0; i < g->nr_members; i++) {
		const struct vmplat_pci *m = g->members[i];

		if (m == l->pci || m->is_bridge || !m->driver || by_vfio(m) ||
		    !strcmp(m->driver, "pci-stub"))
			continue;
		return blocked(l, -EBUSY, "%s shares IOMMU group %u with %s, which %s drives for the host: nothing keeps them apart, only all of the group can be given away; `%s` takes all of it",
			       l->pci->address, g->id, m->address, m->driver, claim_command(l, cmd));
	}
	return 0;
}

static int check_claim(const struct look *l)
{
	const char *owner = l->d->owner ? l->d->owner : getenv("VMPLAT_OWNER");
	const struct vmplat_claim *claim;
	struct vmplat_claims *claims;
	int rc = vmplat_claims_open(&claims, getenv("VMPLAT_CLAIMS_DIR"), VMPLAT_CLAIMS_F_READ, NULL, NULL);

	if (rc == -EACCES)	/* not for everybody to read: VFIO's nodes say who may */
		return 0;
	if (rc)
		return blocked(l, rc, "who has claimed %s cannot be read: %s", l->pci->address,
			       vmplat_last_error());
	if (!owner || !*owner)
		owner = "root";
	claim = vmplat_claims_holder(claims, l->pci->address);
	if (claim && claim->state != VMPLAT_CLAIM_HELD)
		rc = blocked(l, -EBUSY, "%s is in claim %llu, which is half done (%s); `vmplat claim recover` puts that in order",
			     l->pci->address, (unsigned long long)claim->id,
			     vmplat_claim_state_name(claim->state));
	else if (claim && strcmp(claim->owner, owner))
		rc = blocked(l, -EPERM, "%s is claimed by '%s' (claim %llu), not by '%s'; if it is meant, say so: %s,owner=%s",
			     l->pci->address, claim->owner, (unsigned long long)claim->id, owner,
			     l->d->host, claim->owner);
	vmplat_claims_close(claims);
	return rc;
}

/* The group opens once, for one process. */
static int check_open(const struct look *l)
{
	struct vmplat_findings f;
	char mine[32];

	if (vmplat_pci_use(l->devs, l->pci, &f))
		return 0;	/* VFIO will say that it is busy */
	snprintf(mine, sizeof(mine), " process %d (", (int)getpid());
	for (size_t i = 0; i < f.nr; i++)
		if (!strcmp(f.items[i].name, "vfio-open") && !strstr(f.items[i].text, mine))
			return blocked(l, -EBUSY, "%s is in use: %s", l->pci->address, f.items[i].text);
	return 0;
}

int vfio_host_check(const struct vm_hostdev *d, char address[VFIO_ADDRESS], unsigned int *group,
		    char *why, size_t room)
{
	struct look l = { .d = d, .why = why, .room = room };
	int rc = vmplat_devs_open(&l.devs, NULL);

	if (rc)
		return blocked(&l, rc, "%s", vmplat_last_error());
	rc = find(&l);
	if (!rc)
		rc = check_function(&l);
	if (!rc)
		rc = check_group(&l);
	if (!rc)
		rc = check_claim(&l);
	if (!rc)
		rc = check_open(&l);
	if (!rc) {
		snprintf(address, VFIO_ADDRESS, "%s", l.pci->address);
		*group = l.pci->group->id;
	}
	vmplat_devs_close(l.devs);
	return rc;
}
