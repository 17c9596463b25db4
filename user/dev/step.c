// SPDX-License-Identifier: LGPL-2.1-or-later
/*
 * One function changes hands, by driver_override, unbind and a probe of this one function. new_id is
 * never used: it binds every device of a model, now and later.
 */
#include <fcntl.h>
#include <spawn.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/wait.h>
#include <unistd.h>

#include "dev/claim.h"

#define DEVICE	"bus/pci/devices"
#define DRIVER	"bus/pci/drivers"

void tell(const struct listener *l, const char *fmt, ...)
{
	char text[512];
	va_list ap;

	if (!l->told)
		return;
	va_start(ap, fmt);
	vsnprintf(text, sizeof(text), fmt, ap);
	va_end(ap);
	l->told(l->ctx, text);
}

/* ---- guards ---------------------------------------------------------------- */

/*
 * A disk that is mounted, swap, part of a volume group or of an array cannot be opened with O_EXCL,
 * and while it is open like that cannot become so. A VFIO group is open once, or not at all: to
 * unbind one that a guest has open would wait for the guest, unkillably.
 */
static int guard_open(struct guards *g, struct vmplat_devs *devs, const char *name)
{
	bool vfio = !strncmp(name, "vfio/", 5);
	const char *const *held = g->names.items;
	char path[300];
	int fd;

	for (size_t i = 0; i < g->names.nr; i++)
		if (!strcmp(held[i], name))
			return 0;	/* functions of one group share its node */
	snprintf(path, sizeof(path), "/dev/%s", name);
	fd = open(path, vfio ? O_RDWR | O_CLOEXEC : O_RDONLY | O_EXCL | O_NONBLOCK | O_CLOEXEC);
	if (fd < 0)			/* no node, no medium: nothing to guard */
		return errno == EBUSY ? -EBUSY : 0;
	if (!dev_append(devs, &g->fds, &fd, sizeof(fd))) {
		close(fd);
		return -ENOMEM;
	}
	return dev_append(devs, &g->names, &name, sizeof(name)) ? 0 : -ENOMEM;
}

/*
 * vmplat_vfio knows who has the function open, and keeps it shut while it is held, whichever way it
 * would be opened: by its group or by a node of its own. What this module cannot say, the nodes do.
 */
static int guard_hold(struct guards *g, struct vmplat_devs *devs, const struct vmplat_pci *pci)
{
	struct vmplat *dev;
	int fd = -ENXIO;

	if (!pci->driver || strcmp(pci->driver, "vmplat_vfio"))
		return 0;
	if (!vmplat_open(&dev, NULL))
		fd = vmplat_pci_hold(dev, pci->address, 0);
	vmplat_close(dev);
	if (fd < 0)
		return fd == -EBUSY ? fd : 0;
	if (dev_append(devs, &g->fds, &fd, sizeof(fd)))
		return 0;
	close(fd);
	return -ENOMEM;
}

int guards_add(struct guards *g, struct vmplat_devs *devs, const struct vmplat_pci *pci)
{
	struct dev_list list = { };
	const char **names;
	int rc = guard_hold(g, devs, pci);

	if (rc)
		return rc;
	use_exclusive_nodes(devs, pci, &list);
	names = list.items;
	for (size_t i = 0; i < list.nr && !devs->no_memory; i++)
		if (guard_open(g, devs, names[i]) == -EBUSY)
			return lib_error(-EBUSY, "%s is in use: /dev/%s is open", pci->address,
					 names[i]);
	return devs->no_memory ? lib_error(-ENOMEM, "out of memory") : 0;
}

void guards_drop(struct guards *g)
{
	const int *fds = g->fds.items;

	for (size_t i = 0; i < g->fds.nr; i++)
		close(fds[i]);
	*g = (struct guards) { };
}

/* ---- sysfs ----------------------------------------------------------------- */

__attribute__((format(printf, 3, 4)))
static int sys_write(struct vmplat_devs *devs, const char *text, const char *fmt, ...)
{
	char path[600];
	va_list ap;
	int fd, rc = 0;

	va_start(ap, fmt);
	vsnprintf(path, sizeof(path), fmt, ap);
	va_end(ap);
	fd = openat(devs->sys_fd, path, O_WRONLY | O_CLOEXEC);
	if (fd < 0)
		return lib_error(-errno, "/sys/%s: %s", path, strerror(errno));
	if (write(fd, text, strlen(text)) < 0)
		rc = lib_error(-errno, "'%s' to /sys/%s: %s", text[0] == '\n' ? "" : text, path,
			       strerror(errno));
	close(fd);
	return rc;
}

static const char *driver_now(struct vmplat_devs *devs, const char *address)
{
	return dev_link_name(devs, devs->sys_fd, DEVICE "/%s/driver", address);
}

static const char *override_now(struct vmplat_devs *devs, const char *address)
{
	const char *text = dev_text(devs, devs->sys_fd, DEVICE "/%s/driver_override", address);

	return text && strcmp(text, "(null)") ? text : "";
}

static int set_override(struct vmplat_devs *devs, const char *address, const char *driver)
{
	return sys_write(devs, *driver ? driver : "\n", DEVICE "/%s/driver_override", address);
}

static int unbind(struct vmplat_devs *devs, const char *address)
{
	return sys_write(devs, address, DEVICE "/%s/driver/unbind", address);
}

static bool is(const char *a, const char *b)
{
	return a && !strcmp(a, b);
}

bool step_driver_name(const char *name)
{
	static const char plain[] = "abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789-_";

	return *name && strlen(name) < 64 && strspn(name, plain) == strlen(name);
}

static void copy(char to[CLAIM_TEXT], const char *from)
{
	snprintf(to, CLAIM_TEXT, "%s", from ? from : "");
}

void step_remember(struct vmplat_devs *devs, const struct vmplat_pci *pci, struct taken *t)
{
	*t = (struct taken) {
		.serial = pci->serial, .vendor = pci->vendor, .device = pci->device_id,
	};
	snprintf(t->address, sizeof(t->address), "%s", pci->address);
	copy(t->path, pci->path);
	copy(t->driver, driver_now(devs, t->address));
	copy(t->override, override_now(devs, t->address));
	copy(t->reset, dev_text(devs, devs->sys_fd, DEVICE "/%s/reset_method", t->address));
}

/* ---- taking ---------------------------------------------------------------- */

API int step_load_driver(struct vmplat_devs *devs, const char *driver)
{
	const char *modprobe = dev_text(devs, devs->proc_fd, "sys/kernel/modprobe");
	char *argv[] = { (char *)modprobe, "-q", "--", (char *)driver, NULL };
	int status;
	pid_t pid;

	if (dev_exists(devs, devs->sys_fd, DRIVER "/%s", driver))
		return 0;
	if (modprobe && *modprobe && !posix_spawn(&pid, modprobe, NULL, NULL, argv, environ))
		while (waitpid(pid, &status, 0) < 0 && errno == EINTR)
			;
	if (dev_exists(devs, devs->sys_fd, DRIVER "/%s", driver))
		return 0;
	return lib_error(-ENODEV, "there is no PCI driver %s, and modprobe did not bring it", driver);
}

int step_bind(struct vmplat_devs *devs, const struct taken *t, const char *driver, const char *reset)
{
	const char *now;
	int rc = set_override(devs, t->address, driver);

	if (rc)
		return rc;
	now = driver_now(devs, t->address);
	if (now && strcmp(now, driver))
		rc = unbind(devs, t->address);
	if (!rc && !is(now, driver))
		rc = sys_write(devs, t->address, "bus/pci/drivers_probe");
	if (rc)
		return rc;
	if (!is(driver_now(devs, t->address), driver))
		return lib_error(-ENODEV, "%s did not take %s: the kernel's log may say why", driver,
				 t->address);
	if (*reset)
		rc = sys_write(devs, reset, DEVICE "/%s/reset_method", t->address);
	return rc;
}

/* ---- putting back ------------------------------------------------------------ */

const struct vmplat_pci *step_same(struct vmplat_devs *devs, const struct taken *t,
				   const struct listener *l)
{
	const struct vmplat_pci *pci;

	if (vmplat_devs_find(devs, t->address, &pci)) {
		tell(l, "%s is gone: nothing to restore", t->address);
		return NULL;
	}
	if (pci->vendor != t->vendor || pci->device_id != t->device || !is(pci->path, t->path) ||
	    (pci->serial && t->serial && pci->serial != t->serial)) {
		tell(l, "at %s is another device now: left alone", t->address);
		return NULL;
	}
	return pci;
}

int step_vfs_idle(struct vmplat_devs *devs, const struct vmplat_pci *pci)
{
	for (size_t i = 0; i < vmplat_devs_nr_pci(devs); i++) {
		const struct vmplat_pci *vf = vmplat_devs_pci(devs, i);
		struct vmplat_findings use;

		if (vf->pf != pci)
			continue;
		if (vmplat_pci_use(devs, vf, &use))
			return -ENOMEM;
		for (size_t f = 0; f < use.nr; f++)
			if (use.items[f].severity == VMPLAT_BLOCKER)
				return lib_error(-EBUSY, "VF %s of %s is in use: %s", vf->address,
						 pci->address, use.items[f].text);
	}
	return 0;
}

/* Somebody else's hand: an override or a driver that is neither the claim's nor the one from before. */
static bool changed_by_others(struct vmplat_devs *devs, const struct taken *t, const char *driver,
			      const struct listener *l)
{
	const char *now = driver_now(devs, t->address), *override = override_now(devs, t->address);

	if (strcmp(override, driver) && strcmp(override, t->override) && strcmp(override, t->driver)) {
		tell(l, "%s: somebody set driver_override to %s meanwhile: left alone", t->address,
		     override);
		return true;
	}
	if (now && strcmp(now, driver) && strcmp(now, t->driver)) {
		tell(l, "%s: somebody gave it to %s meanwhile: left alone", t->address, now);
		return true;
	}
	return false;
}

static void restore_driver(struct vmplat_devs *devs, const struct taken *t, const struct listener *l)
{
	const char *now = driver_now(devs, t->address);
	int rc = 0;

	if (is(now, t->driver) || (!now && !*t->driver))
		return;
	/* the driver from before need not be the one that the kernel would choose */
	if (*t->driver)
		rc = set_override(devs, t->address, t->driver);
	if (!rc && now)
		rc = unbind(devs, t->address);
	if (!rc && *t->driver)
		rc = step_load_driver(devs, t->driver);
	if (!rc && *t->driver && !is(driver_now(devs, t->address), t->driver))
		rc = sys_write(devs, t->address, DRIVER "/%s/bind", t->driver);
	if (rc && !is(driver_now(devs, t->address), t->driver))
		tell(l, "%s: its driver %s could not be restored: %s", t->address,
		     *t->driver ? t->driver : "(none)", vmplat_last_error());
}

static void restore_vfs(struct vmplat_devs *devs, const struct taken *t, const struct listener *l)
{
	uint64_t nr;

	/* there was none, or the claim would not have been made */
	if (!dev_number(devs, &nr, devs->sys_fd, DEVICE "/%s/sriov_numvfs", t->address) || !nr)
		return;
	if (sys_write(devs, "0", DEVICE "/%s/sriov_numvfs", t->address))
		tell(l, "%s: its VFs could not be removed: %s", t->address, vmplat_last_error());
}

void step_restore(struct vmplat_devs *devs, const struct taken *t, const char *driver,
		  const char *reset, const struct listener *l)
{
	const char *now = dev_text(devs, devs->sys_fd, DEVICE "/%s/reset_method", t->address);

	if (changed_by_others(devs, t, driver, l))
		return;
	if (is(driver_now(devs, t->address), driver) && strcmp(driver, t->driver))
		restore_vfs(devs, t, l);
	restore_driver(devs, t, l);
	if (strcmp(override_now(devs, t->address), t->override) &&
	    set_override(devs, t->address, t->override))
		tell(l, "%s: driver_override could not be restored: %s", t->address,
		     vmplat_last_error());
	if (*reset && *t->reset && !is(now, t->reset) &&
	    sys_write(devs, t->reset, DEVICE "/%s/reset_method", t->address))
		tell(l, "%s: reset methods could not be restored: %s", t->address,
		     vmplat_last_error());
}
