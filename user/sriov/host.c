// SPDX-License-Identifier: GPL-2.0-only
/*
 * This host: PFs in sysfs, whose their VFs are from the module, attributes from rtnetlink.
 *
 * What is no PCI function (netdevsim) has no module's set: its VFs are made by sriov_numvfs, and belong
 * to nobody.
 */
#include <ctype.h>
#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <net/if.h>
#include <stdarg.h>
#include <stdlib.h>
#include <string.h>
#include <sys/ioctl.h>
#include <unistd.h>

#include <vmplat.h>
#include <vmplat_clock.h>
#include <vmplat_dev.h>

#include "dev/claim.h"
#include "sriov/sriov.h"

#define LINK_WAIT_NS	30000000000u
#define LINK_POLL_NS	20000000u

struct host {
	int dev_fd;			/* -1: @dev_why */
	char dev_why[SRIOV_WHY_MAX];
	struct sriov_net *net;
	/* for questions that need them; forgotten when something changes */
	struct vmplat_devs *devs;
	struct vmplat_claims *claims;
};

/* ---- files ------------------------------------------------------------------- */

#define PATH(path, fmt) do {						\
	va_list path_ap;						\
									\
	va_start(path_ap, fmt);						\
	vsnprintf(path, sizeof(path), fmt, path_ap);			\
	va_end(path_ap);						\
} while (0)

__attribute__((format(printf, 3, 4)))
static bool read_text(char *buf, size_t room, const char *fmt, ...)
{
	char path[PATH_MAX];
	FILE *f;
	bool good;

	PATH(path, fmt);
	f = fopen(path, "re");
	good = f && fgets(buf, (int)room, f);
	if (good)
		buf[strcspn(buf, "\n")] = '\0';
	if (f)
		fclose(f);
	return good;
}

__attribute__((format(printf, 2, 3)))
static bool read_number(unsigned int *v, const char *fmt, ...)
{
	char path[PATH_MAX], text[32];
	long n;

	PATH(path, fmt);
	if (!read_text(text, sizeof(text), "%s", path))
		return false;
	n = strtol(text, NULL, 0);
	*v = n > 0 ? (unsigned int)n : 0;
	return true;
}

/* the last component of where a link leads; false: no link */
__attribute__((format(printf, 3, 4)))
static bool read_link_name(char *buf, size_t room, const char *fmt, ...)
{
	char path[PATH_MAX], to[PATH_MAX];
	const char *name;
	ssize_t n;

	PATH(path, fmt);
	n = readlink(path, to, sizeof(to) - 1);
	if (n < 0)
		return false;
	to[n] = '\0';
	name = strrchr(to, '/') ? strrchr(to, '/') + 1 : to;
	return snprintf(buf, room, "%s", name) < (int)room;
}

static int write_text(const char *text, const char *path)
{
	int fd = open(path, O_WRONLY | O_CLOEXEC), err = 0;

	if (fd < 0)
		return sriov_fail(-errno, "%s: %s", path, strerror(errno));
	if (write(fd, text, strlen(text)) < 0)
		err = sriov_fail(-errno, "'%s' to %s: %s", text, path, strerror(errno));
	close(fd);
	return err;
}

/* ---- which PF ------------------------------------------------------------------- */

/* "0000:01:00.0", or BUS/NAME for what is no PCI function */
static void directory(const char *address, char dir[PATH_MAX])
{
	const char *slash = strchr(address, '/');

	if (slash)
		snprintf(dir, PATH_MAX, "/sys/bus/%.*s/devices/%s", (int)(slash - address), address,
			 slash + 1);
	else
		snprintf(dir, PATH_MAX, "/sys/bus/pci/devices/%s", address);
}

static bool is_plain(const char *name)
{
	for (const char *s = name; *s; s++)
		if (!isalnum((unsigned char)*s) && !strchr("-_.:/@", *s))
			return false;
	return *name && *name != '/' && !strstr(name, "..");
}

static bool find_netdev(const char *name, char address[64])
{
	char bus[32], device[32];

	if (strchr(name, '/') ||
	    !read_link_name(bus, sizeof(bus), "/sys/class/net/%s/device/subsystem", name) ||
	    !read_link_name(device, sizeof(device), "/sys/class/net/%s/device", name))
		return false;
	if (strcmp(bus, "pci"))
		snprintf(address, 64, "%s/%s", bus, device);
	else
		snprintf(address, 64, "%s", device);
	return true;
}

static int find(const char *name, char address[64])
{
	const struct vmplat_pci *pci;
	struct vmplat_devs *devs;
	char dir[PATH_MAX];
	int err;

	if (!is_plain(name))
		return sriov_fail(-EINVAL, "'%.60s' is no address, slot path, serial:NUMBER or network interface",
				  name);
	directory(name, dir);
	if (!access(dir, F_OK) && strlen(name) < 64) {
		strcpy(address, name);
		return 0;
	}
	if (find_netdev(name, address))
		return 0;
	err = vmplat_devs_open(&devs, NULL);
	if (!err)
		err = vmplat_devs_find(devs, name, &pci);
	if (err)
		sriov_fail(err, "%s: %s", name, vmplat_last_error());
	else
		snprintf(address, 64, "%s", pci->address);
	vmplat_devs_close(devs);
	return err;
}

/* ---- a PF, as it is now ------------------------------------------------------------ */

static uint64_t pci_number(const char *address)
{
	unsigned int domain, bus, dev, fn;

	if (sscanf(address, "%x:%x:%x.%x", &domain, &bus, &dev, &fn) != 4)
		return UINT64_MAX;
	return (uint64_t)domain << 16 | bus << 8 | dev << 3 | fn;
}

static void look_netdev(struct sriov_pf *pf, const char *dir)
{
	char path[PATH_MAX + 8];
	struct dirent *e;
	DIR *d;

	snprintf(path, sizeof(path), "%s/net", dir);
	d = opendir(path);
	while (d && (e = readdir(d)))
		/* of several ports the first by name */
		if (*e->d_name != '.' && strlen(e->d_name) < sizeof(pf->netdev) &&
		    (!*pf->netdev || strcmp(e->d_name, pf->netdev) < 0))
			strcpy(pf->netdev, e->d_name);
	if (d)
		closedir(d);
	if (!*pf->netdev)
		return;
	pf->ifindex = (int)if_nametoindex(pf->netdev);
	if (!read_number(&pf->speed, "/sys/class/net/%s/speed", pf->netdev))
		pf->speed = 0;	/* EINVAL while there is no link */
}

static int look_set(const struct host *h, struct sriov_pf *pf)
{
	struct vmplat_sriov_status st = { .size = sizeof(st), .pf = pci_number(pf->address) };

	if (h->dev_fd < 0)
		return 0;
	if (ioctl(h->dev_fd, VMPLAT_SRIOV_STATUS, &st))
		return sriov_fail(-errno, "%s: the module does not know it: %s", pf->address,
				  strerror(errno));
	pf->generation = st.out_generation;
	memcpy(pf->id, st.out_id, sizeof(pf->id));
	memcpy(pf->owner, st.out_owner, sizeof(pf->owner));
	memcpy(pf->driver, st.out_driver, sizeof(pf->driver));
	return 0;
}

static void look_vf(struct sriov_pf *pf, const char *dir, unsigned int i)
{
	struct sriov_vf *vf = &pf->vfs[i];
	unsigned int nr;

	if (!read_link_name(vf->address, sizeof(vf->address), "%s/virtfn%u", dir, i))
		return;
	read_link_name(vf->driver, sizeof(vf->driver), "%s/virtfn%u/driver", dir, i);
	if (pf->nr_msix && read_number(&nr, "%s/virtfn%u/sriov_vf_msix_count", dir, i)) {
		vf->values.has |= 1u << SRIOV_MSIX;
		vf->values.v[SRIOV_MSIX] = nr;
	}
}

/* Why no VFs can be made of it. */
static void look_why_not(const struct host *h, struct sriov_pf *pf, const char *dir)
{
	char driver[64];

	if (!pf->is_pci)
		return;
	if (h->dev_fd < 0)
		snprintf(pf->why_not, sizeof(pf->why_not), "%s", h->dev_why);
	else if (!read_link_name(driver, sizeof(driver), "%s/driver", dir))
		snprintf(pf->why_not, sizeof(pf->why_not), "%s has no driver, which has to make its VFs",
			 pf->address);
}

static int look_number(struct sriov_pf *pf, const char *dir)
{
	char of[64];

	if (access(dir, F_OK))
		return sriov_fail(-ENOENT, "%s: there is no such device", pf->address);
	if (read_link_name(of, sizeof(of), "%s/physfn", dir))
		return sriov_fail(-EINVAL, "%s is itself a VF, of %s", pf->address, of);
	if (!read_number(&pf->nr_vfs, "%s/sriov_numvfs", dir))
		return sriov_fail(-EINVAL, "%s has no SR-IOV", pf->address);
	if (!read_number(&pf->limit, "%s/sriov_totalvfs", dir))
		pf->limit = SRIOV_VFS_MAX;
	if (pf->nr_vfs > SRIOV_VFS_MAX)
		return sriov_fail(-EOVERFLOW, "%s has %u VFs, more than this program knows of",
				  pf->address, pf->nr_vfs);
	return 0;
}

static int look(void *ctx, const char *name, struct sriov_pf *pf)
{
	struct host *h = ctx;
	char dir[PATH_MAX];
	int err;

	*pf = (struct sriov_pf) { };
	err = find(name, pf->address);
	if (err)
		return err;
	pf->is_pci = !strchr(pf->address, '/');
	directory(pf->address, dir);
	err = look_number(pf, dir);
	if (!err && pf->is_pci)
		err = look_set(h, pf);
	if (err)
		return err;
	pf->vfs = calloc(pf->nr_vfs + 1, sizeof(*pf->vfs));
	if (!pf->vfs)
		return sriov_fail(-ENOMEM, "out of memory");
	read_number(&pf->nr_msix, "%s/sriov_vf_total_msix", dir);
	look_why_not(h, pf, dir);
	look_netdev(pf, dir);
	for (unsigned int i = 0; i < pf->nr_vfs; i++)
		look_vf(pf, dir, i);
	if (pf->ifindex && pf->nr_vfs)
		err = sriov_net_get(h->net, pf->ifindex, pf->vfs, pf->nr_vfs);
	if (err)
		sriov_pf_free(pf);
	return err;
}

/* ---- who uses a VF -------------------------------------------------------------------- */

static void changed(struct host *h)
{
	vmplat_devs_close(h->devs);
	vmplat_claims_close(h->claims);
	h->devs = NULL;
	h->claims = NULL;
}

static int in_use(void *ctx, const struct sriov_pf *pf, unsigned int i)
{
	const char *address = pf->vfs[i].address;
	const struct vmplat_claim *claim;
	struct vmplat_findings use;
	const struct vmplat_pci *pci;
	struct host *h = ctx;

	if (!*address)
		return 0;
	if (!h->devs && (vmplat_claims_open(&h->claims, NULL, VMPLAT_CLAIMS_F_READ, NULL, NULL) ||
			 vmplat_devs_open(&h->devs, NULL)))
		return sriov_fail(-EIO, "whether it is in use cannot be told: %s", vmplat_last_error());
	claim = vmplat_claims_holder(h->claims, address);
	if (claim)
		return sriov_fail(-EBUSY, "%s belongs to claim %llu of %s", address,
				  (unsigned long long)claim->id, claim->owner);
	if (vmplat_devs_find(h->devs, address, &pci) || vmplat_pci_use(h->devs, pci, &use))
		return sriov_fail(-EIO, "whether it is in use cannot be told: %s", vmplat_last_error());
	for (size_t f = 0; f < use.nr; f++)
		if (use.items[f].severity == VMPLAT_BLOCKER)
			return sriov_fail(-EBUSY, "%s is in use: %s", address, use.items[f].text);
	return 0;
}

/* ---- the module --------------------------------------------------------------------------- */

static const char *vf_name(const struct sriov_pf *pf, unsigned int i, char buf[64])
{
	if (i < pf->nr_vfs && *pf->vfs[i].address)
		snprintf(buf, 64, "VF %u (%s)", i, pf->vfs[i].address);
	else
		snprintf(buf, 64, "VF %u", i);
	return buf;
}

/* -errno, with what is in the way */
static int refused(const struct sriov_pf *pf, int err, uint32_t why, uint32_t vf, const char *driver)
{
	char name[64];

	switch (why) {
	case VMPLAT_SRIOV_WHY_OWNED:
		return sriov_fail(err, "it has VFs of somebody already; 'vmplat sriov show' says whose");
	case VMPLAT_SRIOV_WHY_VFS:
		return sriov_fail(err, "it has VFs that were made through sriov_numvfs");
	case VMPLAT_SRIOV_WHY_CHANGING:
		return sriov_fail(err, "another program is changing its VFs");
	case VMPLAT_SRIOV_WHY_PF_DRIVER:
		return sriov_fail(err, "it has no driver, or one that makes no VFs");
	case VMPLAT_SRIOV_WHY_FEWER:
		return sriov_fail(err, "its driver makes %u VFs only", vf);
	case VMPLAT_SRIOV_WHY_NOT_BOUND:
		return sriov_fail(err, "%s did not take %s: the kernel's log may say why", driver,
				  vf_name(pf, vf, name));
	case VMPLAT_SRIOV_WHY_OPEN:
		return sriov_fail(err, "%s is in use: a program has it, or its IOMMU group, open",
				  vf_name(pf, vf, name));
	case VMPLAT_SRIOV_WHY_ASSIGNED:
		return sriov_fail(err, "%s is assigned to a guest", vf_name(pf, vf, name));
	}
	if (err == -ESTALE)
		return sriov_fail(err, "generation %llu of its VFs is over",
				  (unsigned long long)pf->generation);
	if (err == -EPERM)
		return sriov_fail(err, "only root may do that");
	return sriov_fail(err, "%s", strerror(-err));
}

static bool has_link(const struct sriov_pf *pf)
{
	unsigned int carrier;

	return *pf->netdev && read_number(&carrier, "/sys/class/net/%s/carrier", pf->netdev) && carrier;
}

/* Drivers take their link down when VFs come, and refuse rates until it is back. */
static void wait_link(const struct sriov_pf *pf)
{
	uint64_t begin = vmplat_now_ns();

	while (!has_link(pf) && vmplat_now_ns() - begin < LINK_WAIT_NS)
		vmplat_sleep_ns(LINK_POLL_NS);
}

static int write_numvfs(const struct sriov_pf *pf, unsigned int nr)
{
	char dir[PATH_MAX], path[PATH_MAX + 16], text[16];

	directory(pf->address, dir);
	snprintf(path, sizeof(path), "%s/sriov_numvfs", dir);
	snprintf(text, sizeof(text), "%u", nr);
	return write_text(text, path);
}

static int create(void *ctx, const struct sriov_pf *pf, unsigned int nr, const char *owner,
		  const uint8_t id[VMPLAT_ID_BYTES])
{
	struct vmplat_sriov_create c = { .size = sizeof(c), .pf = pci_number(pf->address), .nr_vfs = nr };
	struct host *h = ctx;
	bool linked = has_link(pf);
	int err = 0;

	changed(h);
	if (!pf->is_pci)
		return write_numvfs(pf, nr);
	if (h->dev_fd < 0)
		return sriov_fail(-ENODEV, "%s", h->dev_why);
	memcpy(c.id, id, sizeof(c.id));
	snprintf(c.owner, sizeof(c.owner), "%s", owner);
	if (ioctl(h->dev_fd, VMPLAT_SRIOV_CREATE, &c))
		err = refused(pf, -errno, c.out_why, c.out_vf, "");
	else if (linked)
		wait_link(pf);
	return err;
}

static int bind_all(void *ctx, const struct sriov_pf *pf, const char *driver)
{
	struct vmplat_sriov_bind b = { .size = sizeof(b), .generation = pf->generation };
	struct host *h = ctx;

	changed(h);
	snprintf(b.driver, sizeof(b.driver), "%s", driver);
	return ioctl(h->dev_fd, VMPLAT_SRIOV_BIND, &b) ?
	       refused(pf, -errno, b.out_why, b.out_vf, driver) : 0;
}

static int destroy(void *ctx, const struct sriov_pf *pf)
{
	struct vmplat_sriov_destroy d = { .size = sizeof(d), .generation = pf->generation };
	struct host *h = ctx;

	changed(h);
	if (!pf->is_pci)
		return write_numvfs(pf, 0);
	if (!pf->generation)
		return sriov_fail(-EPERM, "its VFs were made through sriov_numvfs: that is the way to remove them");
	return ioctl(h->dev_fd, VMPLAT_SRIOV_DESTROY, &d) ?
	       refused(pf, -errno, d.out_why, d.out_vf, "") : 0;
}

static int load(void *ctx, const char *driver)
{
	struct host *h = ctx;
	struct vmplat_devs *devs;
	int err = vmplat_devs_open(&devs, NULL);

	changed(h);
	if (!err)
		err = step_load_driver(devs, driver);
	vmplat_devs_close(devs);
	return err;
}

static int set(void *ctx, const struct sriov_pf *pf, unsigned int i, enum sriov_group g,
	       const struct sriov_values *v)
{
	struct host *h = ctx;
	char path[128], text[16], why[SRIOV_WHY_MAX];
	int err;

	if (g == SRIOV_G_MSIX) {
		snprintf(path, sizeof(path), "/sys/bus/pci/devices/%s/sriov_vf_msix_count",
			 pf->vfs[i].address);
		snprintf(text, sizeof(text), "%u", (unsigned int)v->v[SRIOV_MSIX]);
		return write_text(text, path);
	}
	err = sriov_net_set(h->net, pf->ifindex, i, g, v);
	if (err && g == SRIOV_G_RATE && !has_link(pf)) {
		snprintf(why, sizeof(why), "%s", vmplat_last_error());
		return sriov_fail(err, "%.200s; %s has no link, which its driver may want for that", why,
				  pf->netdev);
	}
	return err;
}

/* ---- opening ---------------------------------------------------------------------------------- */

static void open_device(struct host *h)
{
	struct vmplat_info info = { .size = sizeof(info) };
	const char *path = "/dev/vmplat";

	h->dev_fd = open(path, O_RDWR | O_CLOEXEC);
	if (h->dev_fd < 0) {
		snprintf(h->dev_why, sizeof(h->dev_why), "%s: %s%s", path, strerror(errno),
			 errno == ENOENT ? ": the module vmplat is not loaded ('modprobe vmplat')" : "");
	} else if (ioctl(h->dev_fd, VMPLAT_INFO, &info) || !(info.out_caps & VMPLAT_CAP_SRIOV)) {
		snprintf(h->dev_why, sizeof(h->dev_why), "the module vmplat is too old to make VFs");
		close(h->dev_fd);
		h->dev_fd = -1;
	}
}

int sriov_host_open(struct sriov_host *host)
{
	struct host *h = calloc(1, sizeof(*h));
	int err;

	if (!h)
		return sriov_fail(-ENOMEM, "out of memory");
	err = sriov_net_open(&h->net);
	if (err) {
		free(h);
		return err;
	}
	open_device(h);
	*host = (struct sriov_host) {
		.ctx = h, .look = look, .load = load, .in_use = in_use, .create = create,
		.bind = bind_all, .destroy = destroy, .set = set,
	};
	return 0;
}

void sriov_host_close(struct sriov_host *host)
{
	struct host *h = host->ctx;

	if (!h)
		return;
	changed(h);
	sriov_net_close(h->net);
	if (h->dev_fd >= 0)
		close(h->dev_fd);
	free(h);
	host->ctx = NULL;
}
