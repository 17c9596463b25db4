// SPDX-License-Identifier: GPL-2.0
/*
 * PCI functions whose driver says who has them open.
 *
 * To unbind a driver whose device is open waits, unkillably, until its user lets
 * go. So whoever wants to take a function away holds it first: a hold is refused
 * at once while the function is open, and while there is one nobody can open it.
 * Between the two there is no gap, and the unbind that follows finds it idle.
 */
#include <linux/anon_inodes.h>
#include <linux/capability.h>
#include <linux/file.h>
#include <linux/fs.h>
#include <linux/kref.h>
#include <linux/list.h>
#include <linux/module.h>
#include <linux/mutex.h>
#include <linux/pci.h>
#include <linux/sched.h>
#include <linux/slab.h>
#include <linux/spinlock.h>

#include "pci_use.h"
#include "vmplat.h"

/*
 * Lives as long as its driver has the function, or somebody holds it. @mutex is
 * taken first, and keeps the driver's @data while it is asked.
 */
struct vmplat_pci_use {
	struct kref kref;
	struct list_head link;
	struct pci_dev *pdev;
	struct vmplat_pci_user user;
	u32 nr_holds;

	struct mutex mutex;		/* @ask and @data */
	void (*ask)(void *data);	/* NULL once the driver is gone */
	void *data;
};

static LIST_HEAD(uses);
/* @uses, and what they say. Taken inside the lock of the events. */
static DEFINE_SPINLOCK(lock);

static struct vmplat_pci_use *find(const struct pci_dev *pdev)
{
	struct vmplat_pci_use *use;

	lockdep_assert_held(&lock);
	list_for_each_entry(use, &uses, link)
		if (use->pdev == pdev)
			return use;
	return NULL;
}

static void free_use(struct kref *kref)
{
	struct vmplat_pci_use *use = container_of(kref, struct vmplat_pci_use,
						  kref);

	pci_dev_put(use->pdev);
	kfree(use);
}

/* ---- for drivers ------------------------------------------------------------ */

/**
 * vmplat_pci_use_add - a driver that will say who has the function open
 * @pdev: the function; not yet open
 * @ask: asks the user to let go, or NULL; may sleep
 * @data: for @ask
 *
 * Return: what the other functions take, or NULL without memory.
 */
struct vmplat_pci_use *vmplat_pci_use_add(struct pci_dev *pdev,
					  void (*ask)(void *data), void *data)
{
	struct vmplat_pci_use *use = kzalloc(sizeof(*use), GFP_KERNEL);
	unsigned long flags;

	if (!use)
		return NULL;
	kref_init(&use->kref);
	use->pdev = pci_dev_get(pdev);
	mutex_init(&use->mutex);
	use->ask = ask;
	use->data = data;
	spin_lock_irqsave(&lock, flags);
	list_add_tail(&use->link, &uses);
	spin_unlock_irqrestore(&lock, flags);
	return use;
}
EXPORT_SYMBOL_GPL(vmplat_pci_use_add);

/* vmplat_pci_use_remove - the driver gives the function back; it is not open */
void vmplat_pci_use_remove(struct vmplat_pci_use *use)
{
	unsigned long flags;

	mutex_lock(&use->mutex);
	use->ask = NULL;
	mutex_unlock(&use->mutex);
	spin_lock_irqsave(&lock, flags);
	list_del(&use->link);
	spin_unlock_irqrestore(&lock, flags);
	kref_put(&use->kref, free_use);
}
EXPORT_SYMBOL_GPL(vmplat_pci_use_remove);

/**
 * vmplat_pci_use_begin - the current process opens the function
 * @use: of it; not open
 *
 * Return: 0, or -EBUSY while it is held.
 */
int vmplat_pci_use_begin(struct vmplat_pci_use *use)
{
	unsigned long flags;
	int err = 0;

	spin_lock_irqsave(&lock, flags);
	if (use->nr_holds)
		err = -EBUSY;
	else
		use->user = (struct vmplat_pci_user) {
			.pid = task_tgid_nr(current),
		};
	spin_unlock_irqrestore(&lock, flags);
	if (!err)
		vmplat_event_pci_opened(use->pdev);
	return err;
}
EXPORT_SYMBOL_GPL(vmplat_pci_use_begin);

/* vmplat_pci_use_asked - the user has been asked to let go */
void vmplat_pci_use_asked(struct vmplat_pci_use *use)
{
	unsigned long flags;

	spin_lock_irqsave(&lock, flags);
	use->user.asked = use->user.pid;
	spin_unlock_irqrestore(&lock, flags);
	vmplat_event_pci_asked(use->pdev);
}
EXPORT_SYMBOL_GPL(vmplat_pci_use_asked);

/* vmplat_pci_use_end - the function is closed, or could not be opened after all */
void vmplat_pci_use_end(struct vmplat_pci_use *use)
{
	unsigned long flags;

	spin_lock_irqsave(&lock, flags);
	use->user = (struct vmplat_pci_user) {};
	spin_unlock_irqrestore(&lock, flags);
	vmplat_event_pci_closed(use->pdev);
}
EXPORT_SYMBOL_GPL(vmplat_pci_use_end);

/* ---- for everybody else ----------------------------------------------------- */

/* vmplat_pci_user - who has the function open, as far as its driver says */
struct vmplat_pci_user vmplat_pci_user(const struct pci_dev *pdev)
{
	struct vmplat_pci_user user = {};
	struct vmplat_pci_use *use;
	unsigned long flags;

	spin_lock_irqsave(&lock, flags);
	use = find(pdev);
	if (use)
		user = use->user;
	spin_unlock_irqrestore(&lock, flags);
	return user;
}

/* Outside of any spinlock: it may sleep, and ends up in vmplat_pci_use_asked(). */
static void ask_user(struct vmplat_pci_use *use)
{
	mutex_lock(&use->mutex);
	if (use->ask)
		use->ask(use->data);
	mutex_unlock(&use->mutex);
}

/**
 * vmplat_pci_hold - let nobody open a function
 * @pdev: the function
 * @ask: if it is open, ask its user to let go
 * @user: set to who has it open
 *
 * Return: what vmplat_pci_unhold() takes; -EBUSY: it is open; -ENXIO: its driver, if
 * it has one, does not say who opens it.
 */
struct vmplat_pci_use *vmplat_pci_hold(const struct pci_dev *pdev, bool ask,
				       struct vmplat_pci_user *user)
{
	struct vmplat_pci_use *use;
	unsigned long flags;

	*user = (struct vmplat_pci_user) {};
	spin_lock_irqsave(&lock, flags);
	use = find(pdev);
	if (use) {
		kref_get(&use->kref);
		*user = use->user;
		use->nr_holds += !user->pid;
	}
	spin_unlock_irqrestore(&lock, flags);
	if (!use)
		return ERR_PTR(-ENXIO);
	if (!user->pid)
		return use;
	if (ask)
		ask_user(use);
	kref_put(&use->kref, free_use);
	return ERR_PTR(-EBUSY);
}

/* vmplat_pci_unhold - the function may be opened again */
void vmplat_pci_unhold(struct vmplat_pci_use *use)
{
	unsigned long flags;

	spin_lock_irqsave(&lock, flags);
	use->nr_holds--;
	spin_unlock_irqrestore(&lock, flags);
	kref_put(&use->kref, free_use);
}

/* ---- VMPLAT_PCI_HOLD -------------------------------------------------------- */

static int hold_release(struct inode *inode, struct file *file)
{
	vmplat_pci_unhold(file->private_data);
	return 0;
}

static const struct file_operations hold_fops = {
	.owner = THIS_MODULE,
	.release = hold_release,
	.llseek = noop_llseek,
};

int vmplat_pci_hold_create(struct vmplat_cmd *cmd)
{
	struct vmplat_pci_hold *arg = cmd->arg;
	struct vmplat_pci_use *use;
	struct vmplat_pci_user user;
	struct pci_dev *pdev;
	struct file *file;

	arg->out_pid = 0;
	if (arg->__reserved)
		return -EOPNOTSUPP;
	if (arg->domain > INT_MAX || arg->devid > U16_MAX)
		return -EINVAL;
	/* Who can keep a function from being opened can keep a guest from starting. */
	if (!capable(CAP_SYS_ADMIN))
		return -EPERM;
	pdev = pci_get_domain_bus_and_slot(arg->domain, arg->devid >> 8,
					   arg->devid & 0xff);
	if (!pdev)
		return -ENODEV;
	use = vmplat_pci_hold(pdev, arg->flags & VMPLAT_PCI_HOLD_F_ASK, &user);
	pci_dev_put(pdev);
	arg->out_pid = user.pid;
	if (IS_ERR(use))
		return PTR_ERR(use);
	file = anon_inode_getfile("[vmplat-pci-hold]", &hold_fops, use, O_RDWR);
	if (IS_ERR(file)) {
		vmplat_pci_unhold(use);
		return PTR_ERR(file);
	}
	cmd->new_file = file;
	return 0;
}
