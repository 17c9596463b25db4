// SPDX-License-Identifier: GPL-2.0
/*
 * Virtual functions that somebody owns.
 *
 * A set is the VFs of one PF, as VMPLAT_SRIOV_CREATE made them. It lives as long as
 * they do, longer than the command that made it: it ends with VMPLAT_SRIOV_DESTROY,
 * or when somebody else removes them (sriov_numvfs, the PF's driver, an unplug). Its
 * generation is never used again, not by a later load of the module either: who
 * destroys by generation cannot hit VFs made since. Each set holds the module.
 *
 * VFs are told their driver between their birth and the first probe, by the bus's
 * notifier: the driver the host would choose never sees them. Creating and removing
 * is left to what sriov_numvfs does, with its locks, which kernels do not agree on.
 *
 * sets_lock is a leaf: the notifier takes it below the PF's lock, and nobody takes a
 * device's lock below it. A set that is @busy belongs to the command at work on it;
 * the notifier then only notes that it is gone. Nothing stops a root who writes to
 * sysfs meanwhile; such VFs are in no set.
 */
#include <linux/capability.h>
#include <linux/ctype.h>
#include <linux/device.h>
#include <linux/iommu.h>
#include <linux/module.h>
#include <linux/pci.h>
#include <linux/slab.h>
#include <linux/timekeeping.h>

#include "domain.h"
#include "pci_use.h"
#include "vmplat.h"

/* What the sysfs of drivers and driverctl call a device nobody may drive. */
#define NO_DRIVER	"none"

struct vf_set {
	struct list_head link;		/* sets_lock */
	struct pci_dev *pf;
	u64 generation;
	bool busy;			/* sets_lock */
	bool coming, going;		/* sets_lock to write: VFs do so by our hand */
	bool gone;			/* sets_lock: a VF left by another */
	int err;			/* sets_lock: a VF that came could not be told */
	u8 id[VMPLAT_ID_BYTES];
	char owner[VMPLAT_SRIOV_OWNER_BYTES];
	char driver[VMPLAT_SRIOV_DRIVER_BYTES];	/* @busy or sets_lock */
	unsigned int nr_wanted;
	unsigned int nr;		/* as below */
	struct pci_dev *vfs[];		/* sets_lock while @coming, then fixed */
};

static DEFINE_MUTEX(sets_lock);
static LIST_HEAD(sets);
static u64 last_generation;		/* sets_lock */

/* Why, and which VF, for whoever has to be told. */
struct blocker {
	u32 why;
	u32 vf;
};

static int blocked(struct blocker *b, int err, u32 why, unsigned int vf)
{
	b->why = why;
	b->vf = vf;
	return err;
}

/* ---- sets ------------------------------------------------------------------ */

static struct vf_set *find_pf(const struct pci_dev *pf)
{
	struct vf_set *set;

	lockdep_assert_held(&sets_lock);
	list_for_each_entry(set, &sets, link)
		if (set->pf == pf)
			return set;
	return NULL;
}

static struct vf_set *find_generation(u64 generation)
{
	struct vf_set *set;

	lockdep_assert_held(&sets_lock);
	list_for_each_entry(set, &sets, link)
		if (set->generation == generation)
			return set;
	return NULL;
}

static struct vf_set *new_set(struct pci_dev *pf,
			      const struct vmplat_sriov_create *arg)
{
	struct vf_set *set;

	set = kzalloc(struct_size(set, vfs, arg->nr_vfs), GFP_KERNEL_ACCOUNT);
	if (!set)
		return NULL;
	INIT_LIST_HEAD(&set->link);
	set->pf = pci_dev_get(pf);
	set->busy = true;
	set->nr_wanted = arg->nr_vfs;
	memcpy(set->id, arg->id, sizeof(set->id));
	strscpy(set->owner, arg->owner, sizeof(set->owner));
	strscpy(set->driver, arg->driver, sizeof(set->driver));
	__module_get(THIS_MODULE);
	return set;
}

static void free_set(struct vf_set *set)
{
	unsigned int i;

	for (i = 0; i < set->nr; i++)
		pci_dev_put(set->vfs[i]);
	pci_dev_put(set->pf);
	kfree(set);
	module_put(THIS_MODULE);
}

/* From here on the notifier knows it, and nobody else makes one for this PF. */
static int publish(struct vf_set *set, struct blocker *b)
{
	int err = 0;

	mutex_lock(&sets_lock);
	if (find_pf(set->pf)) {
		err = blocked(b, -EBUSY, VMPLAT_SRIOV_WHY_OWNED, 0);
	} else {
		/* greater than all before, whoever counted them */
		last_generation = max(last_generation + 1,
				      ktime_get_boottime_ns());
		set->generation = last_generation;
		list_add_tail(&set->link, &sets);
	}
	mutex_unlock(&sets_lock);
	return err;
}

/* Take the set of this generation for a command. */
static struct vf_set *take_set(u64 generation, struct blocker *b)
{
	struct vf_set *set;

	mutex_lock(&sets_lock);
	set = find_generation(generation);
	if (!set)
		set = ERR_PTR(-ESTALE);
	else if (set->busy)
		set = ERR_PTR(blocked(b, -EBUSY, VMPLAT_SRIOV_WHY_CHANGING, 0));
	else
		set->busy = true;
	mutex_unlock(&sets_lock);
	return set;
}

/* The command is done; a set that has no VFs any more ends with it. */
static void finish_set(struct vf_set *set, bool ended)
{
	mutex_lock(&sets_lock);
	set->busy = false;
	set->coming = false;
	set->going = false;
	ended |= set->gone;
	if (ended)
		list_del_init(&set->link);
	mutex_unlock(&sets_lock);
	if (ended)
		free_set(set);
}

/* ---- what the bus tells ------------------------------------------------------ */

static int set_override(struct pci_dev *vf, const char *driver)
{
	return vmplat_set_driver_override(vf, *driver ? driver : NO_DRIVER);
}

/* Before anybody can probe it. */
static void vf_added(struct pci_dev *vf)
{
	char driver[VMPLAT_SRIOV_DRIVER_BYTES];
	struct vf_set *set;
	bool ours;
	int err;

	mutex_lock(&sets_lock);
	set = find_pf(pci_physfn(vf));
	ours = set && set->coming && set->nr < set->nr_wanted;
	if (ours) {
		set->vfs[set->nr++] = pci_dev_get(vf);
		strscpy(driver, set->driver, sizeof(driver));
	}
	mutex_unlock(&sets_lock);
	if (!ours)
		return;
	err = set_override(vf, driver);
	if (!err)
		return;
	mutex_lock(&sets_lock);
	set = find_pf(pci_physfn(vf));
	if (set && set->coming)
		set->err = err;
	mutex_unlock(&sets_lock);
}

static bool belongs(const struct vf_set *set, const struct pci_dev *pdev)
{
	unsigned int i;

	for (i = 0; i < set->nr; i++)
		if (set->vfs[i] == pdev)
			return true;
	return set->pf == pdev;
}

static void removed(struct pci_dev *pdev)
{
	struct vf_set *set, *end = NULL;

	mutex_lock(&sets_lock);
	list_for_each_entry(set, &sets, link) {
		if (set->going || !belongs(set, pdev))
			continue;
		set->gone = true;
		if (!set->busy)
			end = set;
		break;
	}
	if (end)
		list_del_init(&end->link);
	mutex_unlock(&sets_lock);
	if (end)
		free_set(end);
}

static int notify(struct notifier_block *nb, unsigned long what, void *data)
{
	struct pci_dev *pdev = to_pci_dev(data);

	if (what == BUS_NOTIFY_ADD_DEVICE && pdev->is_virtfn)
		vf_added(pdev);
	else if (what == BUS_NOTIFY_REMOVED_DEVICE)
		removed(pdev);
	return NOTIFY_DONE;
}

static struct notifier_block nb = { .notifier_call = notify };

int vmplat_sriov_init(void)
{
	return bus_register_notifier(&pci_bus_type, &nb);
}

void vmplat_sriov_exit(void)
{
	bus_unregister_notifier(&pci_bus_type, &nb);
}

/* ---- the number of VFs -------------------------------------------------------- */

static struct device_attribute *find_attr(const struct device *dev,
					  const char *name)
{
	const struct attribute_group **group;
	struct attribute **attr;

	for (group = dev->type ? dev->type->groups : NULL; group && *group; group++)
		for (attr = (*group)->attrs; attr && *attr; attr++)
			if (!strcmp((*attr)->name, name))
				return container_of(*attr, struct device_attribute,
						    attr);
	return NULL;
}

/*
 * What a write to sriov_numvfs does. Some kernels take the lock of rescans in there, some
 * below the driver's callback, and a few stable ones changed from one to the other: to
 * call the callback from here would be right for some of them only.
 */
static int write_nr_vfs(struct pci_dev *pf, unsigned int nr)
{
	struct device_attribute *attr = find_attr(&pf->dev, "sriov_numvfs");
	char text[12];
	ssize_t rc;

	if (!attr || !attr->store)
		return -EOPNOTSUPP;
	rc = attr->store(&pf->dev, attr, text,
			 scnprintf(text, sizeof(text), "%u\n", nr));
	return rc < 0 ? rc : 0;
}

/* ---- drivers -------------------------------------------------------------------- */

static bool is_driven_by(struct pci_dev *vf, const char *driver)
{
	bool yes;

	device_lock(&vf->dev);	/* keeps the driver, and so its name */
	yes = vf->dev.driver ? !strcmp(vf->dev.driver->name, driver) : !*driver;
	device_unlock(&vf->dev);
	return yes;
}

static int check_ready(const struct vf_set *set, struct blocker *b)
{
	unsigned int i;

	for (i = 0; i < set->nr; i++)
		if (!is_driven_by(set->vfs[i], set->driver))
			return blocked(b, -ENODEV, VMPLAT_SRIOV_WHY_NOT_BOUND, i);
	return 0;
}

static int tell_all(const struct vf_set *set, const char *driver)
{
	unsigned int i;
	int err;

	for (i = 0; i < set->nr; i++) {
		err = set_override(set->vfs[i], driver);
		if (err)
			return err;
	}
	return 0;
}

/* -ENODEV: a VF was not taken. */
static int attach_all(const struct vf_set *set, struct blocker *b)
{
	unsigned int i;
	int err;

	err = tell_all(set, set->driver);
	if (err || !*set->driver)
		return err;
	for (i = 0; i < set->nr; i++)
		if (device_attach(&set->vfs[i]->dev) < 0)
			break;		/* check_ready() names it */
	return check_ready(set, b);
}

/*
 * VFs that VFIO could hand out, kept: to take a VF from a VFIO driver while a guest has it
 * waits for the guest, with no way out. While this is held nobody can begin to: the
 * IOMMU group is claimed, and vmplat_vfio, if it is that, opens nothing.
 */
struct claim {
	struct vmplat_group_claim group;	/* none if an earlier VF's is the same */
	struct vmplat_pci_use *use;
};

struct claims {
	unsigned int nr;
	struct claim vfs[];
};

static bool has_group(const struct claims *c, const struct iommu_group *group)
{
	unsigned int i;

	for (i = 0; i < c->nr; i++)
		if (READ_ONCE(c->vfs[i].group.group) == group)
			return true;
	return false;
}

/* Takes over the reference to @group. */
static int claim_group(struct claims *c, struct claim *vf,
		       struct pci_dev *pdev, struct iommu_group *group)
{
	int err = 0;

	if (has_group(c, group))
		goto put_group;
	err = vmplat_group_claim(&vf->group, pdev, group);
	if (err == -ENODEV)
		err = 0;	/* removed by hand: nobody opens it any more */
	else if (err && iommu_group_dma_owner_claimed(group))
		err = -EBUSY;
	else if (err == -EPERM || err == -EBUSY)
		err = 0;	/* a driver of the host's has its neighbour: no VFIO */
put_group:
	iommu_group_put(group);
	return err;
}

static int hold(struct claim *vf, struct pci_dev *pdev)
{
	struct vmplat_pci_user user;
	struct vmplat_pci_use *use = vmplat_pci_hold(pdev, false, &user);

	if (IS_ERR(use))	/* -ENXIO: another driver */
		return PTR_ERR(use) == -EBUSY ? -EBUSY : 0;
	vf->use = use;
	return 0;
}

static int claim_vf(struct claims *c, struct claim *vf, struct pci_dev *pdev)
{
	struct iommu_group *group;
	bool user, enabled;
	int err;

	device_lock(&pdev->dev);
	/* without a driver it may be in a domain of somebody's all the same */
	user = !pdev->driver || pdev->driver->driver_managed_dma;
	/* by an open of VFIO, also without IOMMU */
	enabled = pdev->driver && pci_is_enabled(pdev);
	device_unlock(&pdev->dev);
	if (!user)
		return 0;
	if (enabled)
		return -EBUSY;
	err = hold(vf, pdev);
	if (err)
		return err;
	/* A group that VFIO made up, for want of an IOMMU, has no DMA to be owned. */
	group = pdev->dev.iommu ? iommu_group_get(&pdev->dev) : NULL;
	return group ? claim_group(c, vf, pdev, group) : 0;
}

static void drop_claims(struct claims *c)
{
	struct claim *vf;

	while (c->nr--) {
		vf = &c->vfs[c->nr];
		vmplat_group_unclaim(&vf->group);
		if (vf->use)
			vmplat_pci_unhold(vf->use);
	}
	kfree(c);
}

static int claim_all(const struct vf_set *set, struct claims *c,
		     struct blocker *b)
{
	unsigned int i;
	int err;

	for (i = 0; i < set->nr; i++) {
		if (pci_is_dev_assigned(set->vfs[i]))
			return blocked(b, -EBUSY, VMPLAT_SRIOV_WHY_ASSIGNED, i);
		err = claim_vf(c, &c->vfs[i], set->vfs[i]);
		c->nr++;
		if (err == -EBUSY)
			return blocked(b, err, VMPLAT_SRIOV_WHY_OPEN, i);
		if (err)
			return err;
	}
	return 0;
}

/* All of them or none; afterwards nobody drives them, and nobody may. */
static int take_from_drivers(const struct vf_set *set, struct blocker *b)
{
	struct claims *c;
	unsigned int i;
	int err;

	c = kzalloc(struct_size(c, vfs, set->nr), GFP_KERNEL_ACCOUNT);
	if (!c)
		return -ENOMEM;
	err = claim_all(set, c, b);
	if (!err) {
		err = tell_all(set, "");
		if (err)
			tell_all(set, set->driver);
	}
	for (i = 0; i < set->nr && !err; i++)
		device_release_driver(&set->vfs[i]->dev);
	drop_claims(c);
	return err;
}

static int take_down(struct vf_set *set, struct blocker *b)
{
	struct blocker unused;
	int err;

	err = take_from_drivers(set, b);
	if (err)
		return err;
	mutex_lock(&sets_lock);
	set->going = !set->gone;
	err = set->gone ? -ESTALE : 0;
	mutex_unlock(&sets_lock);
	if (err)
		return err;
	err = write_nr_vfs(set->pf, 0);
	if (!err)
		return 0;
	mutex_lock(&sets_lock);
	set->going = false;
	mutex_unlock(&sets_lock);
	if (err == -ENOENT)
		blocked(b, err, VMPLAT_SRIOV_WHY_PF_DRIVER, 0);
	attach_all(set, &unused);
	return err;
}

/* ---- commands ------------------------------------------------------------------- */

static bool is_name(const char *s, size_t room, bool may_be_empty)
{
	size_t len = strnlen(s, room), i;

	for (i = 0; i < len; i++)
		if (!isascii(s[i]) || !isgraph(s[i]))
			return false;
	return len < room && (len || may_be_empty);
}

/* @id as in events of class pci. */
static struct pci_dev *get_pf(u64 id)
{
	struct pci_dev *pf;

	if (id >> 48)
		return ERR_PTR(-EINVAL);
	pf = pci_get_domain_bus_and_slot(id >> 16, id >> 8 & 0xff, id & 0xff);
	if (!pf)
		return ERR_PTR(-ENODEV);
	if (!pf->is_physfn) {
		pci_dev_put(pf);
		return ERR_PTR(-EINVAL);
	}
	return pf;
}

/* Make them come; on an error none is left, or *@left is set. */
static int bring(struct vf_set *set, struct blocker *b, bool *left)
{
	struct blocker unused;
	bool mine;
	int err;

	if (pci_num_vf(set->pf))
		return blocked(b, -EBUSY, VMPLAT_SRIOV_WHY_VFS, 0);
	mutex_lock(&sets_lock);
	set->coming = true;
	mutex_unlock(&sets_lock);
	err = write_nr_vfs(set->pf, set->nr_wanted);
	mutex_lock(&sets_lock);
	set->coming = false;
	mine = set->nr && !set->gone;
	if (!err && !mine)	/* somebody was faster, and took them away or not */
		err = blocked(b, -EBUSY, VMPLAT_SRIOV_WHY_VFS, 0);
	else if (!err)
		err = set->err;
	mutex_unlock(&sets_lock);
	if (err == -ENOENT)
		blocked(b, err, VMPLAT_SRIOV_WHY_PF_DRIVER, 0);
	if (!err && set->nr < set->nr_wanted)
		err = blocked(b, -ERANGE, VMPLAT_SRIOV_WHY_FEWER, set->nr);
	if (!err)
		err = check_ready(set, b);
	*left = err && mine && take_down(set, &unused);
	return err;
}

static int check_create(const struct vmplat_sriov_create *arg)
{
	if (arg->__reserved)
		return -EOPNOTSUPP;
	if (!is_name(arg->owner, sizeof(arg->owner), false) ||
	    !is_name(arg->driver, sizeof(arg->driver), true) || !arg->nr_vfs)
		return -EINVAL;
	return capable(CAP_SYS_ADMIN) ? 0 : -EPERM;
}

static int create(struct pci_dev *pf, struct vmplat_sriov_create *arg,
		  struct blocker *b)
{
	struct vf_set *set;
	bool left = false;
	int err;

	if (arg->nr_vfs > pci_sriov_get_totalvfs(pf))
		return -ERANGE;
	set = new_set(pf, arg);
	if (!set)
		return -ENOMEM;
	err = publish(set, b);
	if (err) {
		free_set(set);
		return err;
	}
	err = bring(set, b, &left);
	arg->out_generation = err && !left ? 0 : set->generation;
	finish_set(set, err && !left);
	return err;
}

int vmplat_sriov_create(struct vmplat_cmd *cmd)
{
	struct vmplat_sriov_create *arg = cmd->arg;
	struct blocker b = {};
	struct pci_dev *pf;
	int err;

	arg->out_generation = 0;
	arg->out_why = 0;
	arg->out_vf = 0;
	err = check_create(arg);
	if (err)
		return err;
	pf = get_pf(arg->pf);
	if (IS_ERR(pf))
		return PTR_ERR(pf);
	err = create(pf, arg, &b);
	pci_dev_put(pf);
	arg->out_why = b.why;
	arg->out_vf = b.vf;
	return err;
}

static int rebind(struct vf_set *set, const char *driver, struct blocker *b)
{
	char before[VMPLAT_SRIOV_DRIVER_BYTES];
	struct blocker unused;
	int err;

	strscpy(before, set->driver, sizeof(before));
	if (!strcmp(before, driver) && !check_ready(set, &unused))
		return 0;
	err = take_from_drivers(set, b);
	if (err)
		return err;
	mutex_lock(&sets_lock);
	strscpy(set->driver, driver, sizeof(set->driver));
	mutex_unlock(&sets_lock);
	err = attach_all(set, b);
	if (!err)
		return 0;
	/* those that were taken are free again, unless somebody was quick to use one */
	if (!take_from_drivers(set, &unused)) {
		mutex_lock(&sets_lock);
		strscpy(set->driver, before, sizeof(set->driver));
		mutex_unlock(&sets_lock);
		attach_all(set, &unused);
	}
	return err;
}

int vmplat_sriov_bind(struct vmplat_cmd *cmd)
{
	struct vmplat_sriov_bind *arg = cmd->arg;
	struct blocker b = {};
	struct vf_set *set;
	int err;

	arg->out_why = 0;
	arg->out_vf = 0;
	if (!is_name(arg->driver, sizeof(arg->driver), true))
		return -EINVAL;
	if (!capable(CAP_SYS_ADMIN))
		return -EPERM;
	set = take_set(arg->generation, &b);
	err = PTR_ERR_OR_ZERO(set);
	if (!err) {
		err = rebind(set, arg->driver, &b);
		finish_set(set, false);
	}
	arg->out_why = b.why;
	arg->out_vf = b.vf;
	return err;
}

int vmplat_sriov_destroy(struct vmplat_cmd *cmd)
{
	struct vmplat_sriov_destroy *arg = cmd->arg;
	struct blocker b = {};
	struct vf_set *set;
	int err;

	arg->out_why = 0;
	arg->out_vf = 0;
	if (!capable(CAP_SYS_ADMIN))
		return -EPERM;
	set = take_set(arg->generation, &b);
	err = PTR_ERR_OR_ZERO(set);
	if (!err) {
		err = take_down(set, &b);
		finish_set(set, !err);
	}
	arg->out_why = b.why;
	arg->out_vf = b.vf;
	return err;
}

static void clear_status(struct vmplat_sriov_status *arg)
{
	memset((void *)arg + offsetof(struct vmplat_sriov_status, out_generation),
	       0, sizeof(*arg) - offsetof(struct vmplat_sriov_status, out_generation));
}

int vmplat_sriov_status(struct vmplat_cmd *cmd)
{
	struct vmplat_sriov_status *arg = cmd->arg;
	struct pci_dev *pf = get_pf(arg->pf);
	struct vf_set *set;

	clear_status(arg);
	if (IS_ERR(pf))
		return PTR_ERR(pf);
	arg->out_total_vfs = pci_sriov_get_totalvfs(pf);
	arg->out_nr_vfs = pci_num_vf(pf);
	mutex_lock(&sets_lock);
	set = find_pf(pf);
	if (set) {
		arg->out_generation = set->generation;
		arg->out_changing = set->busy;
		memcpy(arg->out_id, set->id, sizeof(arg->out_id));
		memcpy(arg->out_driver, set->driver, sizeof(arg->out_driver));
		memcpy(arg->out_owner, set->owner, sizeof(arg->out_owner));
	}
	mutex_unlock(&sets_lock);
	pci_dev_put(pf);
	return 0;
}
