// SPDX-License-Identifier: GPL-2.0
/*
 * Groups: which devices a domain has.
 *
 * What can be isolated is an IOMMU group. A domain takes the DMA ownership of a
 * group from the host, which the kernel grants only while no function of it has a
 * driver that does DMA of its own, and while no VFIO user has it:
 *
 *   the host's --ATTACH--> attached --DETACH--> quarantined --DETACH(RELEASE)--> the host's
 *
 * A quarantined group is blocked: none of its DMA gets anywhere. Taking ownership
 * blocks already, so between two states a group is never open. Before it is given
 * back its functions lose bus mastering: what they still write could go to
 * memory of the host, where that does not translate its own DMA.
 *
 * The kernel wants a group back before its last function goes. A function that is
 * unplugged is told to the bus's notifiers, of which the IOMMU core has one in the
 * middle: ours come before it, to give the group back, and after it. In between
 * no group may change hands: the core might have passed it already, and on 6.1 it takes
 * a function from its domain without the group's lock.
 *
 * vmplat_groups_lock is held wherever a group changes hands or state; then the
 * domain's lock. Device locks are outside of both: that of a PF is held when its
 * VFs go.
 */
#include <linux/capability.h>
#include <linux/pci.h>
#include <linux/slab.h>
#include <linux/wait.h>

#include "domain.h"

static DEFINE_MUTEX(vmplat_groups_lock);
static LIST_HEAD(groups);		/* vmplat_groups_lock */
static LIST_HEAD(claims);		/* vmplat_groups_lock */
static unsigned int nr_leaving;		/* functions between the two notifiers; as above */
static DECLARE_WAIT_QUEUE_HEAD(left);	/* nr_leaving is 0 */

/*
 * vmplat_groups_lock, with no function on its way out. Who is between the notifiers
 * needs nothing that a caller has.
 */
static void lock_groups(void)
{
	for (;;) {
		mutex_lock(&vmplat_groups_lock);
		if (!nr_leaving)
			return;
		mutex_unlock(&vmplat_groups_lock);
		wait_event(left, !READ_ONCE(nr_leaving));
	}
}

static int lock_groups_interruptible(void)
{
	for (;;) {
		if (mutex_lock_interruptible(&vmplat_groups_lock))
			return -EINTR;
		if (!nr_leaving)
			return 0;
		mutex_unlock(&vmplat_groups_lock);
		if (wait_event_interruptible(left, !READ_ONCE(nr_leaving)))
			return -EINTR;
	}
}

/* ---- functions ---------------------------------------------------------------- */

static struct pci_dev *get_function(u64 id)
{
	if (id > U32_MAX)
		return NULL;
	return pci_get_domain_bus_and_slot(id >> 16, (id >> 8) & 0xff, id & 0xff);
}

static u64 function_id(struct pci_dev *pdev)
{
	return (u64)pci_domain_nr(pdev->bus) << 16 | pci_dev_id(pdev);
}

struct nth {
	unsigned int left;
	struct device *dev;
};

static int is_nth(struct device *dev, void *data)
{
	struct nth *nth = data;

	if (nth->left--)
		return 0;
	nth->dev = get_device(dev);
	return 1;
}

/* Returns whether @dev's driver keeps the group; then it is in @arg. */
static bool is_blocker(struct device *dev, struct vmplat_domain_attach *arg)
{
	struct device_driver *driver;
	bool found = false;

	if (!dev_is_pci(dev))
		return false;
	device_lock(dev);
	driver = dev->driver;
	if (driver && !to_pci_driver(driver)->driver_managed_dma) {
		arg->out_blocker = function_id(to_pci_dev(dev));
		strscpy(arg->out_driver, driver->name, sizeof(arg->out_driver));
		found = true;
	}
	device_unlock(dev);
	return found;
}

/*
 * Who has the group? A guess made afterwards, so it may be nobody any more. One at
 * a time, because a device's lock cannot be taken below the group's.
 */
static void find_blocker(struct iommu_group *group,
			 struct vmplat_domain_attach *arg)
{
	unsigned int i;
	bool found;

	arg->out_why = VMPLAT_DOMAIN_WHY_OWNED;
	for (i = 0;; i++) {
		struct nth nth = { .left = i };

		iommu_group_for_each_dev(group, &nth, is_nth);
		if (!nth.dev)
			return;
		found = is_blocker(nth.dev, arg);
		put_device(nth.dev);
		if (found) {
			arg->out_why = VMPLAT_DOMAIN_WHY_DRIVER;
			return;
		}
	}
}

static int count_one(struct device *dev, void *data)
{
	++*(u32 *)data;
	return 0;
}

static u32 count_devices(struct iommu_group *group)
{
	u32 nr = 0;

	iommu_group_for_each_dev(group, &nr, count_one);
	return nr;
}

static int silence(struct device *dev, void *unused)
{
	if (dev_is_pci(dev))
		pci_clear_master(to_pci_dev(dev));
	return 0;
}

/* Is it still one of the group? Asked with no function on its way out, so that it stays. */
static bool is_member(struct pci_dev *pdev, const struct iommu_group *group)
{
	struct iommu_group *now = iommu_group_get(&pdev->dev);

	lockdep_assert_held(&vmplat_groups_lock);
	iommu_group_put(now);
	return now == group;
}

/* ---- taking and giving back ----------------------------------------------------- */

static struct vmplat_group *find_group(const struct iommu_group *group)
{
	struct vmplat_group *g;

	lockdep_assert_held(&vmplat_groups_lock);
	list_for_each_entry(g, &groups, all)
		if (g->group == group)
			return g;
	return NULL;
}

static int check_isolation(struct pci_dev *pdev, struct iommu_group *group,
			   struct vmplat_domain_attach *arg)
{
	if (!device_iommu_capable(&pdev->dev, IOMMU_CAP_CACHE_COHERENCY)) {
		arg->out_why = VMPLAT_DOMAIN_WHY_COHERENCE;
		return -EPERM;
	}
	if (!(arg->flags & VMPLAT_DOMAIN_ATTACH_F_UNSAFE_INTERRUPTS) &&
	    !vmplat_iommu_isolates_msi(group, &pdev->dev)) {
		arg->out_why = VMPLAT_DOMAIN_WHY_INTERRUPTS;
		return -EPERM;
	}
	return 0;
}

static int claim(struct vmplat_group *g, struct vmplat_domain_attach *arg)
{
	int err = iommu_group_claim_dma_owner(g->group, g->domain);

	switch (err) {
	case -EINVAL:
		arg->out_why = VMPLAT_DOMAIN_WHY_FIRMWARE;
		return -EPERM;
	case -EPERM:
		return -EBUSY;
	default:
		return err;
	}
}

static void free_group(struct vmplat_group *g)
{
	iommu_put_resv_regions(&g->pdev->dev, &g->reserved);
	pci_dev_put(g->pdev);
	iommu_group_put(g->group);
	kfree(g);
}

/* A group becomes the domain's, blocked. */
static struct vmplat_group *take(struct vmplat_domain *domain,
				 struct pci_dev *pdev, struct iommu_group *group,
				 struct vmplat_domain_attach *arg)
{
	struct vmplat_group *g;
	int err;

	if (domain->nr_groups >= VMPLAT_DOMAIN_MAX_GROUPS)
		return ERR_PTR(-ENOSPC);
	err = check_isolation(pdev, group, arg);
	if (err)
		return ERR_PTR(err);
	g = kzalloc(sizeof(*g), GFP_KERNEL_ACCOUNT);
	if (!g)
		return ERR_PTR(-ENOMEM);
	g->domain = domain;
	g->group = iommu_group_ref_get(group);
	g->pdev = pci_dev_get(pdev);
	INIT_LIST_HEAD(&g->reserved);
	err = iommu_get_group_resv_regions(group, &g->reserved);
	if (!err)
		err = claim(g, arg);
	if (err) {
		free_group(g);
		return ERR_PTR(err);
	}
	g->fresh = true;
	list_add_tail(&g->all, &groups);
	mutex_lock(&domain->lock);
	list_add_tail(&g->link, &domain->groups);
	domain->nr_groups++;
	mutex_unlock(&domain->lock);
	return g;
}

static void block(struct vmplat_group *g)
{
	struct vmplat_domain *domain = g->domain;

	lockdep_assert_held(&vmplat_groups_lock);
	mutex_lock(&domain->lock);
	if (g->attached)
		iommu_detach_group(domain->hw, g->group);
	g->attached = false;
	mutex_unlock(&domain->lock);
}

static void tell(struct vmplat_domain *domain, enum vmplat_action action)
{
	mutex_lock(&domain->lock);
	vmplat_event_domain_changed(domain, action);
	mutex_unlock(&domain->lock);
}

static void give_back(struct vmplat_group *g)
{
	struct vmplat_domain *domain = g->domain;

	block(g);
	iommu_group_release_dma_owner(g->group);
	mutex_lock(&domain->lock);
	list_del(&g->link);
	domain->nr_groups--;
	mutex_unlock(&domain->lock);
	list_del(&g->all);
	free_group(g);
}

/* ---- attaching ------------------------------------------------------------------ */

/* Is a mapping where the group cannot have one? */
static bool collides(struct vmplat_domain *domain, const struct vmplat_group *g)
{
	const struct iommu_resv_region *r;

	list_for_each_entry(r, &g->reserved, list)
		if (vmplat_region_counts(r) &&
		    vmplat_domain_has(domain, r->start, r->start + r->length - 1))
			return true;
	return false;
}

static bool out_of_reach(struct vmplat_domain *domain,
			 const struct iommu_domain_geometry *reach)
{
	return (reach->aperture_start &&
		vmplat_domain_has(domain, 0, reach->aperture_start - 1)) ||
	       (reach->aperture_end < ULONG_MAX &&
		vmplat_domain_has(domain, reach->aperture_end + 1, ULONG_MAX));
}

/* The first group decides which IOMMU it is. */
static int make_hw(struct vmplat_domain *domain, struct pci_dev *pdev,
		   struct vmplat_domain_attach *arg)
{
	struct iommu_domain *hw = vmplat_iommu_domain_alloc(&pdev->dev);
	int err;

	if (IS_ERR(hw))
		return PTR_ERR(hw);
	if (!(hw->pgsize_bitmap & PAGE_SIZE)) {
		arg->out_why = VMPLAT_DOMAIN_WHY_IOMMU;
		err = -EXDEV;
	} else if (out_of_reach(domain, &hw->geometry)) {
		arg->out_why = VMPLAT_DOMAIN_WHY_RESERVED;
		err = -EADDRNOTAVAIL;
	} else {
		domain->hw = hw;
		err = vmplat_domain_replay(domain);
	}
	if (err) {
		domain->hw = NULL;
		iommu_domain_free(hw);
	}
	return err;
}

static void drop_hw(struct vmplat_domain *domain)
{
	vmplat_domain_clear(domain);
	iommu_domain_free(domain->hw);
	domain->hw = NULL;
}

static int join(struct vmplat_group *g, struct vmplat_domain_attach *arg)
{
	struct vmplat_domain *domain = g->domain;
	bool first = !domain->hw;
	int err;

	lockdep_assert_held(&domain->lock);
	if (collides(domain, g)) {
		arg->out_why = VMPLAT_DOMAIN_WHY_RESERVED;
		return -EADDRNOTAVAIL;
	}
	if (first) {
		err = make_hw(domain, g->pdev, arg);
		if (err)
			return err;
	}
	err = iommu_attach_group(domain->hw, g->group);
	if (err && first)
		drop_hw(domain);
	if (err == -EINVAL) {
		arg->out_why = VMPLAT_DOMAIN_WHY_IOMMU;
		return -EXDEV;
	}
	g->attached = !err;
	return err;
}

static int attach_group(struct vmplat_domain *domain, struct pci_dev *pdev,
			struct iommu_group *group, struct vmplat_domain_attach *arg)
{
	bool quarantine = arg->flags & VMPLAT_DOMAIN_ATTACH_F_QUARANTINE;
	struct vmplat_group *g = find_group(group);
	bool taken = g;
	int err = 0;

	if (!is_member(pdev, group))
		return -ENODEV;
	if (g && g->domain != domain)
		return -EBUSY;
	if (g && (g->attached || quarantine))
		return -EALREADY;
	if (!g)
		g = take(domain, pdev, group, arg);
	if (IS_ERR(g))
		return PTR_ERR(g);
	if (!quarantine) {
		mutex_lock(&domain->lock);
		err = join(g, arg);
		mutex_unlock(&domain->lock);
	}
	if (err && !taken)
		give_back(g);
	if (!err)
		tell(domain, quarantine ? VMPLAT_ACTION_CHANGE :
					  VMPLAT_ACTION_ATTACH);
	return err;
}

/* vmplat_group_attach - VMPLAT_DOMAIN_ATTACH */
int vmplat_group_attach(struct vmplat_domain *domain,
			struct vmplat_domain_attach *arg)
{
	struct iommu_group *group;
	struct pci_dev *pdev;
	int err;

	if (!capable(CAP_SYS_ADMIN))
		return -EPERM;
	pdev = get_function(arg->function);
	if (!pdev)
		return -ENODEV;
	group = iommu_group_get(&pdev->dev);
	if (!group) {
		err = -ENXIO;
		goto put_function;
	}
	arg->out_group = iommu_group_id(group);
	arg->out_nr_devices = count_devices(group);
	err = lock_groups_interruptible();
	if (err)
		goto put_group;
	err = attach_group(domain, pdev, group, arg);
	mutex_unlock(&vmplat_groups_lock);
	if (err == -EBUSY)
		find_blocker(group, arg);
put_group:
	iommu_group_put(group);
put_function:
	pci_dev_put(pdev);
	return err;
}

/**
 * vmplat_group_attached - the caller has, or will never have, the answer
 * @domain: the domain
 * @arg: what has just succeeded
 * @keep: if not, everything becomes as it was before
 */
void vmplat_group_attached(struct vmplat_domain *domain,
			   const struct vmplat_domain_attach *arg, bool keep)
{
	struct vmplat_group *g;

	lock_groups();
	list_for_each_entry(g, &domain->groups, link)
		if (iommu_group_id(g->group) == arg->out_group)
			break;
	if (list_entry_is_head(g, &domain->groups, link))
		goto unlock;	/* unplugged meanwhile */
	if (!keep && g->fresh)
		give_back(g);
	else if (!keep)
		block(g);
	else
		g->fresh = false;
	if (!keep)
		tell(domain, VMPLAT_ACTION_DETACH);
unlock:
	mutex_unlock(&vmplat_groups_lock);
}

static int detach_group(struct vmplat_domain *domain,
			const struct iommu_group *group, bool release)
{
	struct vmplat_group *g = find_group(group);

	if (!g || g->domain != domain)
		return -ENOENT;
	if (!release && !g->attached)
		return -EALREADY;
	if (release) {
		iommu_group_for_each_dev(g->group, NULL, silence);
		give_back(g);
	} else {
		block(g);
	}
	tell(domain, VMPLAT_ACTION_DETACH);
	return 0;
}

/* vmplat_group_detach - VMPLAT_DOMAIN_DETACH */
int vmplat_group_detach(struct vmplat_domain *domain, u64 function, bool release)
{
	struct pci_dev *pdev = get_function(function);
	struct iommu_group *group;
	int err = -ENOENT;

	if (!pdev)
		return -ENODEV;
	group = iommu_group_get(&pdev->dev);
	if (!group)
		goto put_function;
	err = lock_groups_interruptible();
	if (err)
		goto put_group;
	err = detach_group(domain, group, release);
	mutex_unlock(&vmplat_groups_lock);
put_group:
	iommu_group_put(group);
put_function:
	pci_dev_put(pdev);
	return err;
}

/* vmplat_groups_release - the domain goes, its groups are the host's again */
void vmplat_groups_release(struct vmplat_domain *domain)
{
	struct vmplat_group *g, *next;

	lock_groups();
	list_for_each_entry_safe(g, next, &domain->groups, link) {
		iommu_group_for_each_dev(g->group, NULL, silence);
		give_back(g);
	}
	mutex_unlock(&vmplat_groups_lock);
}

/* ---- reserved addresses ------------------------------------------------------------ */

/* vmplat_groups_reserve - is any of [first, last] out of reach, or not for mappings? */
bool vmplat_groups_reserve(struct vmplat_domain *domain, unsigned long first,
			   unsigned long last)
{
	const struct iommu_resv_region *r;
	const struct vmplat_group *g;

	lockdep_assert_held(&domain->lock);
	if (domain->hw && (first < domain->hw->geometry.aperture_start ||
			   last > domain->hw->geometry.aperture_end))
		return true;
	list_for_each_entry(g, &domain->groups, link)
		list_for_each_entry(r, &g->reserved, list)
			if (vmplat_region_counts(r) && first <= r->start + r->length - 1 &&
			    last >= r->start)
				return true;
	return false;
}

static u32 region_type(const struct iommu_resv_region *r)
{
	switch (r->type) {
	case IOMMU_RESV_DIRECT:
		return VMPLAT_DOMAIN_REGION_DIRECT;
	case IOMMU_RESV_MSI:
	case IOMMU_RESV_SW_MSI:
		return VMPLAT_DOMAIN_REGION_MSI;
	default:
		return VMPLAT_DOMAIN_REGION_RESERVED;
	}
}

/*
 * vmplat_group_regions - list what is reserved, at most @room of it
 *
 * Returns how many there are. What several groups have is there several times.
 */
u32 vmplat_group_regions(struct vmplat_domain *domain,
			 struct vmplat_domain_region *regions, u32 room)
{
	const struct iommu_resv_region *r;
	const struct vmplat_group *g;
	u32 nr = 0;

	lockdep_assert_held(&domain->lock);
	list_for_each_entry(g, &domain->groups, link)
		list_for_each_entry(r, &g->reserved, list) {
			if (!vmplat_region_counts(r))
				continue;
			if (nr < room)
				regions[nr] = (struct vmplat_domain_region) {
					.first = r->start,
					.last = r->start + r->length - 1,
					.group = iommu_group_id(g->group),
					.type = region_type(r),
				};
			nr++;
		}
	return nr;
}

/* ---- claims --------------------------------------------------------------------------- */

/**
 * vmplat_group_claim - keep a group from VFIO, and from domains
 * @claim: what will stand for it
 * @pdev: a function of the group
 * @group: the group
 *
 * Return: 0; -ENODEV: the function is gone; or what iommu_group_claim_dma_owner()
 * says. After an error @claim is as before.
 */
int vmplat_group_claim(struct vmplat_group_claim *claim, struct pci_dev *pdev,
		       struct iommu_group *group)
{
	int err;

	lock_groups();
	err = -ENODEV;
	if (is_member(pdev, group))
		err = iommu_group_claim_dma_owner(group, claim);
	if (!err) {
		claim->group = iommu_group_ref_get(group);
		list_add_tail(&claim->link, &claims);
	}
	mutex_unlock(&vmplat_groups_lock);
	return err;
}

static void give_up(struct vmplat_group_claim *claim)
{
	lockdep_assert_held(&vmplat_groups_lock);
	iommu_group_release_dma_owner(claim->group);
	iommu_group_put(claim->group);
	claim->group = NULL;
	list_del(&claim->link);
}

/* vmplat_group_unclaim - end of a claim; it may be over because the group is gone */
void vmplat_group_unclaim(struct vmplat_group_claim *claim)
{
	lock_groups();
	if (claim->group)
		give_up(claim);
	mutex_unlock(&vmplat_groups_lock);
}

static struct vmplat_group_claim *find_claim(const struct iommu_group *group)
{
	struct vmplat_group_claim *claim;

	lockdep_assert_held(&vmplat_groups_lock);
	list_for_each_entry(claim, &claims, link)
		if (claim->group == group)
			return claim;
	return NULL;
}

/* ---- functions that go --------------------------------------------------------------- */

/* Give the group back if this is its last function. */
static void give_back_last(struct iommu_group *group)
{
	struct vmplat_group *g = find_group(group);
	struct vmplat_group_claim *claim = find_claim(group);

	if ((!g && !claim) || count_devices(group) != 1)
		return;
	if (claim)
		give_up(claim);
	if (g) {
		struct vmplat_domain *domain = g->domain;

		give_back(g);
		tell(domain, VMPLAT_ACTION_DETACH);
	}
}

static void leave(struct device *dev)
{
	struct iommu_group *group = iommu_group_get(dev);

	/* One at a time: of two of a group the second is the last. */
	lock_groups();
	nr_leaving++;
	if (group)
		give_back_last(group);
	mutex_unlock(&vmplat_groups_lock);
	iommu_group_put(group);
}

static int before_iommu(struct notifier_block *nb, unsigned long what, void *dev)
{
	if (what == BUS_NOTIFY_REMOVED_DEVICE)
		leave(dev);
	return NOTIFY_DONE;
}

static int after_iommu(struct notifier_block *nb, unsigned long what, void *dev)
{
	if (what != BUS_NOTIFY_REMOVED_DEVICE)
		return NOTIFY_DONE;
	mutex_lock(&vmplat_groups_lock);
	/* It may have been on its way when we came. */
	if (nr_leaving)
		nr_leaving--;
	mutex_unlock(&vmplat_groups_lock);
	wake_up_all(&left);
	return NOTIFY_DONE;
}

static struct notifier_block nb_before = {
	.notifier_call = before_iommu,
	.priority = INT_MAX,
};

static struct notifier_block nb_after = {
	.notifier_call = after_iommu,
	.priority = INT_MIN,
};

int vmplat_groups_init(void)
{
	int err;

	/* In this order nobody passes the first and misses the second. */
	err = bus_register_notifier(&pci_bus_type, &nb_after);
	if (err)
		return err;
	err = bus_register_notifier(&pci_bus_type, &nb_before);
	if (err)
		bus_unregister_notifier(&pci_bus_type, &nb_after);
	return err;
}

/* No domain is left, hence no group. */
void vmplat_groups_exit(void)
{
	bus_unregister_notifier(&pci_bus_type, &nb_before);
	bus_unregister_notifier(&pci_bus_type, &nb_after);
}
