// SPDX-License-Identifier: LGPL-2.1-or-later
/*
 * Who uses a function on this host. Its directory in sysfs is walked for everything the kernel
 * hangs below it: device nodes, disks, network interfaces. Disks are followed upwards through
 * device mapper, MD and NVMe multipath; then mounts, swap areas and open files are searched
 * for these nodes.
 */
#include <ctype.h>
#include <fcntl.h>
#include <ifaddrs.h>
#include <net/if.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/stat.h>
#include <sys/sysmacros.h>
#include <unistd.h>

#include "dev/claim.h"
#include "dev/dev.h"

#define WALK_DEPTH_MAX	24
#define HOLDERS_DEPTH_MAX 8
#define CLASS_NETWORK	0x02

/* a device node that leads to the function */
struct node {
	const char *subsystem;		/* "block", "drm", "vfio"; NULL if not known */
	const char *name;		/* below /dev */
	unsigned int major, minor;
	bool block;
	bool own;			/* of the function itself, not built on it */
	bool part;			/* a partition */
};

struct user {
	struct vmplat_devs *devs;
	const struct vmplat_pci *pci;
	struct dev_list nodes;		/* struct node */
	struct dev_list nets;		/* const char * */
	struct dev_list found;
};

/* ---- nodes ------------------------------------------------------------- */

static bool known_node(const struct user *u, const struct node *n)
{
	const struct node *nodes = u->nodes.items;

	for (size_t i = 0; i < u->nodes.nr; i++)
		if (nodes[i].block == n->block && nodes[i].major == n->major &&
		    nodes[i].minor == n->minor)
			return true;
	return false;
}

/* DEVNAME of "uevent", which may be in a directory below /dev */
static const char *node_name(struct vmplat_devs *devs, const char *dir, const char *fallback)
{
	char *rest = (char *)dev_text(devs, devs->sys_fd, "%s/uevent", dir), *line;

	while ((line = dev_next_line(&rest)))
		if (!strncmp(line, "DEVNAME=", 8))
			return line + 8;
	return fallback;
}

/* True if @dir is a device node and was not known yet. */
static bool add_node(struct user *u, const char *dir, bool own)
{
	struct vmplat_devs *devs = u->devs;
	const char *slash = strrchr(dir, '/');
	const char *dev = dev_text(devs, devs->sys_fd, "%s/dev", dir);
	struct node n = { .own = own };

	if (!dev || sscanf(dev, "%u:%u", &n.major, &n.minor) != 2)
		return false;
	n.subsystem = dev_link_name(devs, devs->sys_fd, "%s/subsystem", dir);
	n.block = n.subsystem && !strcmp(n.subsystem, "block");
	n.part = n.block && dev_exists(devs, devs->sys_fd, "%s/partition", dir);
	n.name = node_name(devs, dir, slash ? slash + 1 : dir);
	if (!n.name || known_node(u, &n))
		return false;
	return dev_append(devs, &u->nodes, &n, sizeof(n));
}

/* dm-0 on sda2, md0 on nvme0n1: what stands on a disk uses it. */
static void add_holders(struct user *u, const char *block, int depth)
{
	struct vmplat_devs *devs = u->devs;
	struct dev_names names = dev_list_dir(devs, devs->sys_fd, "class/block/%s/holders", block);

	for (size_t i = 0; i < names.nr && depth < HOLDERS_DEPTH_MAX; i++) {
		const char *dir = dev_printf(devs, "class/block/%s", names.names[i]);

		if (!dir || !add_node(u, dir, false))
			continue;
		dev_find(devs, &u->found, VMPLAT_NOTE, "disk-holder", u->pci, "%s is built on %s",
			 names.names[i], block);
		add_holders(u, names.names[i], depth + 1);
	}
}

static bool is_function(const char *name)
{
	uint8_t bus, dev, fn;
	uint32_t domain;

	return strchr(name, ':') && parse_address(name, &domain, &bus, &dev, &fn);
}

static bool is_directory(struct vmplat_devs *devs, const char *dir)
{
	struct stat st;

	return !fstatat(devs->sys_fd, dir, &st, AT_SYMLINK_NOFOLLOW) && S_ISDIR(st.st_mode);
}

/* Everything below @dir that is no other PCI function's. */
static void walk(struct user *u, const char *dir, const char *name, const char *above, int depth)
{
	struct vmplat_devs *devs = u->devs;
	struct dev_names names = dev_list_dir(devs, devs->sys_fd, "%s", dir);

	if (add_node(u, dir, true)) {
		const struct node *n = (const struct node *)u->nodes.items + u->nodes.nr - 1;

		if (n->block)
			add_holders(u, name, 0);
	}
	if (above && !strcmp(above, "net"))
		dev_append(devs, &u->nets, &name, sizeof(name));
	for (size_t i = 0; i < names.nr && depth < WALK_DEPTH_MAX; i++) {
		const char *sub;

		if (is_function(names.names[i]) || !strcmp(names.names[i], "power"))
			continue;
		sub = dev_printf(devs, "%s/%s", dir, names.names[i]);
		if (sub && is_directory(devs, sub))
			walk(u, sub, names.names[i], name, depth + 1);
	}
}

/*
 * With NVMe multipath the disks hang below a subsystem, which has a link to each of its
 * controllers; only one of these need be ours.
 */
static void walk_nvme(struct user *u)
{
	struct vmplat_devs *devs = u->devs;
	struct dev_names ctrls = dev_list_dir(devs, devs->sys_fd, "%s/nvme",
					      pci_priv(devs, u->pci)->dir);
	struct dev_names subs = dev_list_dir(devs, devs->sys_fd, "class/nvme-subsystem");

	for (size_t s = 0; s < subs.nr; s++) {
		for (size_t c = 0; c < ctrls.nr; c++) {
			const char *dir;

			if (!dev_exists(devs, devs->sys_fd, "class/nvme-subsystem/%s/%s",
					subs.names[s], ctrls.names[c]))
				continue;
			dir = dev_printf(devs, "class/nvme-subsystem/%s", subs.names[s]);
			if (dir)
				walk(u, dir, subs.names[s], NULL, WALK_DEPTH_MAX - 3);
		}
	}
}

/* The group's node, which is no child of the function. */
static void add_vfio_group(struct user *u)
{
	const char *dir = NULL;

	if (u->pci->group && u->pci->driver)
		dir = dev_printf(u->devs, "class/vfio/%u", u->pci->group->id);
	if (dir)
		add_node(u, dir, true);
}

/* NVIDIA's own driver does not tell sysfs of its nodes. */
static void add_nvidia(struct user *u)
{
	struct vmplat_devs *devs = u->devs;
	char *rest = (char *)dev_text(devs, devs->proc_fd, "driver/nvidia/gpus/%s/information",
				      u->pci->address), *line;
	struct node n = { .subsystem = "nvidia", .major = 195 };

	while ((line = dev_next_line(&rest))) {
		if (sscanf(line, "Device Minor: %u", &n.minor) != 1)
			continue;
		n.name = dev_printf(devs, "nvidia%u", n.minor);
		if (n.name)
			dev_append(devs, &u->nodes, &n, sizeof(n));
	}
}

/* ---- mounts and swap ------------------------------------------------------- */

static bool is_number(const char *name)
{
	return *name && strspn(name, "0123456789") == strlen(name);
}

/* A file system on several disks has a number of its own: then only the name tells. */
static bool node_is(const struct node *n, unsigned int major, unsigned int minor,
		    const char *source)
{
	if (n->major == major && n->minor == minor)
		return true;
	return !strncmp(source, "/dev/", 5) && !strcmp(source + 5, n->name);
}

static void find_mount(struct user *u, char *line)
{
	const struct node *nodes = u->nodes.items;
	unsigned int major, minor;
	char *place, *save, *word, *source = NULL;

	/* ID PARENT MAJOR:MINOR ROOT PLACE OPTIONS [TAG]... - TYPE SOURCE OPTIONS */
	if (sscanf(line, "%*u %*u %u:%u", &major, &minor) != 2)
		return;
	word = strtok_r(line, " ", &save);
	for (int i = 0; word && i < 4; i++)
		word = strtok_r(NULL, " ", &save);
	place = word;
	while (word && strcmp(word, "-"))
		word = strtok_r(NULL, " ", &save);
	if (word && strtok_r(NULL, " ", &save))
		source = strtok_r(NULL, " ", &save);
	for (size_t i = 0; place && i < u->nodes.nr; i++) {
		if (!nodes[i].block || !node_is(&nodes[i], major, minor, source ? source : ""))
			continue;
		dev_find(u->devs, &u->found, VMPLAT_BLOCKER, "mounted", u->pci,
			 "/dev/%s is mounted on %s", nodes[i].name, place);
	}
}

static bool mounted_already(const struct user *u)
{
	const struct vmplat_finding *f = u->found.items;

	for (size_t i = 0; i < u->found.nr; i++)
		if (!strcmp(f[i].name, "mounted"))
			return true;
	return false;
}

/* Of this mount namespace; if there is nothing, of each other one. */
static void find_mounts(struct user *u)
{
	struct vmplat_devs *devs = u->devs;
	struct dev_names pids = { };
	struct dev_list seen = { };
	char *rest = (char *)dev_text(devs, devs->proc_fd, "self/mountinfo"), *line;

	while ((line = dev_next_line(&rest)))
		find_mount(u, line);
	if (mounted_already(u))
		return;
	pids = dev_list_dir(devs, devs->proc_fd, ".");
	for (size_t i = 0; i < pids.nr; i++) {
		const char *ns, *const *known = seen.items;
		bool old = false;

		if (!is_number(pids.names[i]))
			continue;
		ns = dev_link(devs, devs->proc_fd, "%s/ns/mnt", pids.names[i]);
		for (size_t s = 0; ns && s < seen.nr; s++)
			old |= !strcmp(known[s], ns);
		if (!ns || old || !dev_append(devs, &seen, &ns, sizeof(ns)))
			continue;
		rest = (char *)dev_text(devs, devs->proc_fd, "%s/mountinfo", pids.names[i]);
		while ((line = dev_next_line(&rest)))
			find_mount(u, line);
		if (mounted_already(u))
			return;
	}
}

static void find_swap(struct user *u)
{
	struct vmplat_devs *devs = u->devs;
	const struct node *nodes = u->nodes.items;
	char *rest = (char *)dev_text(devs, devs->proc_fd, "swaps"), *line;

	while ((line = dev_next_line(&rest))) {
		line[strcspn(line, " \t")] = '\0';
		for (size_t i = 0; i < u->nodes.nr; i++) {
			if (!nodes[i].block || !node_is(&nodes[i], -1, -1, line))
				continue;
			dev_find(devs, &u->found, VMPLAT_BLOCKER, "swap", u->pci,
				 "/dev/%s is swap space", nodes[i].name);
		}
	}
}

/* ---- open files ------------------------------------------------------------ */

/* The node that a link below /proc/PID/fd leads to; NULL: none of ours */
static const struct node *node_of_link(const struct user *u, const char *pid, const char *fd,
				       const char *target)
{
	const struct node *nodes = u->nodes.items;
	const char *dev = strstr(target, "/dev/");
	char path[64];
	struct stat st;

	if (!dev)
		return NULL;
	if (u->devs->live) {
		snprintf(path, sizeof(path), "%s/fd/%s", pid, fd);
		if (fstatat(u->devs->proc_fd, path, &st, 0))
			return NULL;
	}
	for (size_t i = 0; i < u->nodes.nr; i++) {
		if (!u->devs->live) {
			if (!strcmp(dev + 5, nodes[i].name))
				return &nodes[i];
		} else if ((nodes[i].block ? S_ISBLK(st.st_mode) : S_ISCHR(st.st_mode)) &&
			   st.st_rdev == makedev(nodes[i].major, nodes[i].minor)) {
			return &nodes[i];
		}
	}
	return NULL;
}

static void find_open_by(struct user *u, const char *pid, bool *hidden)
{
	struct vmplat_devs *devs = u->devs;
	struct dev_names fds = dev_list_dir(devs, devs->proc_fd, "%s/fd", pid);
	const struct node *last = NULL;

	if (!fds.nr && devs->live) {
		char path[32];

		snprintf(path, sizeof(path), "%s/fd", pid);
		*hidden |= faccessat(devs->proc_fd, path, R_OK, AT_EACCESS) && errno == EACCES;
	}
	for (size_t i = 0; i < fds.nr; i++) {
		const char *target = dev_link(devs, devs->proc_fd, "%s/fd/%s", pid, fds.names[i]);
		const struct node *n = target ? node_of_link(u, pid, fds.names[i], target) : NULL;
		const char *comm;
		bool vfio;

		if (!n || n == last)
			continue;
		last = n;
		comm = dev_text(devs, devs->proc_fd, "%s/comm", pid);
		vfio = n->subsystem && !strncmp(n->subsystem, "vfio", 4);
		dev_find(devs, &u->found, VMPLAT_BLOCKER, vfio ? "vfio-open" : "node-open", u->pci,
			 "/dev/%s is open in process %s (%s)", n->name, pid, comm ? comm : "?");
	}
}

static void find_open(struct user *u)
{
	struct vmplat_devs *devs = u->devs;
	struct dev_names pids;
	bool hidden = false;

	if (!u->nodes.nr)
		return;
	pids = dev_list_dir(devs, devs->proc_fd, ".");
	for (size_t i = 0; i < pids.nr; i++)
		if (is_number(pids.names[i]))
			find_open_by(u, pids.names[i], &hidden);
	if (hidden)
		dev_find(devs, &u->found, VMPLAT_NOTE, "open-unknown", u->pci,
			 "open files of other users' processes were not seen: run as root");
}

/* ---- network ----------------------------------------------------------------- */

/* A route over @net in /proc/net/route; default ones have a zero destination. */
static bool has_route4(struct vmplat_devs *devs, const char *net, bool *is_default)
{
	char *rest = (char *)dev_text(devs, devs->proc_fd, "net/route"), *line;
	bool any = false;

	while ((line = dev_next_line(&rest))) {
		char name[IFNAMSIZ + 1];
		unsigned int dst, mask;

		if (sscanf(line, "%16s %x %*x %*x %*u %*u %*u %x", name, &dst, &mask) != 3 ||
		    strcmp(name, net))
			continue;
		any = true;
		*is_default |= !dst && !mask;
	}
	return any;
}

/* An address beyond the link-local one that every interface gets. */
static bool has_address6(struct vmplat_devs *devs, const char *net)
{
	char *rest = (char *)dev_text(devs, devs->proc_fd, "net/if_inet6"), *line;

	while ((line = dev_next_line(&rest))) {
		char name[IFNAMSIZ + 1];
		unsigned int scope;

		if (sscanf(line, "%*s %*x %*x %x %*x %16s", &scope, name) == 2 &&
		    !strcmp(name, net) && scope != 0x20)
			return true;
	}
	return false;
}

static bool has_address4(struct vmplat_devs *devs, const char *net)
{
	struct ifaddrs *all, *a;
	bool any = false;

	if (!devs->live || getifaddrs(&all))
		return false;
	for (a = all; a; a = a->ifa_next)
		any |= a->ifa_addr && a->ifa_addr->sa_family == AF_INET && !strcmp(a->ifa_name, net);
	freeifaddrs(all);
	return any;
}

static void find_net(struct user *u, const char *net)
{
	struct vmplat_devs *devs = u->devs;
	bool is_default = false, up, busy;
	const char *master = dev_link_name(devs, devs->sys_fd, "class/net/%s/master", net);
	uint64_t flags = 0;

	dev_number(devs, &flags, devs->sys_fd, "class/net/%s/flags", net);
	up = flags & IFF_UP;
	busy = has_route4(devs, net, &is_default);
	busy |= has_address4(devs, net) || has_address6(devs, net);
	if (is_default)
		dev_find(devs, &u->found, VMPLAT_BLOCKER, "default-route", u->pci,
			 "%s carries a default route of this host", net);
	else if (busy)
		dev_find(devs, &u->found, VMPLAT_BLOCKER, "net-address", u->pci,
			 "%s has an address or a route", net);
	if (master)
		dev_find(devs, &u->found, VMPLAT_BLOCKER, "net-master", u->pci,
			 "%s belongs to %s", net, master);
	if (up && !busy && !master)
		dev_find(devs, &u->found, VMPLAT_NOTE, "net-up", u->pci,
			 "%s is up, without an address", net);
}

static void find_nets(struct user *u)
{
	const char *const *nets = u->nets.items;

	for (size_t i = 0; i < u->nets.nr; i++)
		find_net(u, nets[i]);
	/* sysfs shows the interfaces of one network namespace only */
	if (!u->nets.nr && pci_base_class(u->pci) == CLASS_NETWORK && u->pci->driver &&
	    !driver_is_vfio(u->pci->driver) && strcmp(u->pci->driver, "pci-stub") &&
	    !strstr(u->pci->driver, "uio"))
		dev_find(u->devs, &u->found, VMPLAT_BLOCKER, "net-elsewhere", u->pci,
			 "%s drives it, but no network interface is seen: it may be in another network namespace",
			 u->pci->driver);
}

/* ---- screens, functions, mediated devices ---------------------------------------- */

static void find_console(struct user *u)
{
	struct vmplat_devs *devs = u->devs;
	const struct node *nodes = u->nodes.items;

	for (size_t i = 0; i < u->nodes.nr; i++) {
		struct dev_names cons;

		if (!nodes[i].subsystem || strcmp(nodes[i].subsystem, "graphics"))
			continue;
		cons = dev_list_dir(devs, devs->sys_fd, "class/vtconsole");
		for (size_t c = 0; c < cons.nr; c++) {
			const char *name = dev_text(devs, devs->sys_fd, "class/vtconsole/%s/name",
						    cons.names[c]);
			const char *bind = dev_text(devs, devs->sys_fd, "class/vtconsole/%s/bind",
						    cons.names[c]);

			if (!name || !strstr(name, "frame buffer") || !bind || *bind != '1')
				continue;
			dev_find(devs, &u->found, VMPLAT_BLOCKER, "console", u->pci,
				 "the text console is on /dev/%s", nodes[i].name);
			return;
		}
	}
}

static void find_children(struct user *u)
{
	struct vmplat_devs *devs = u->devs;
	const struct pci_priv *priv = pci_priv(devs, u->pci);
	struct dev_names mdevs = dev_list_dir(devs, devs->sys_fd, "class/mdev_bus/%s",
					      u->pci->address);
	struct dev_names all = dev_list_dir(devs, devs->sys_fd, "bus/mdev/devices");
	size_t nr = 0;

	if (u->pci->nr_vfs)
		dev_find(devs, &u->found, VMPLAT_BLOCKER, "vfs", u->pci,
			 "%u of its VFs exist and would vanish", u->pci->nr_vfs);
	for (size_t i = 0; mdevs.nr && i < all.nr; i++) {
		const char *at = dev_link(devs, devs->sys_fd, "bus/mdev/devices/%s", all.names[i]);
		const char *in = at ? strstr(at, priv->dir) : NULL;

		nr += in && in[strlen(priv->dir)] == '/';
	}
	if (nr)
		dev_find(devs, &u->found, VMPLAT_BLOCKER, "mdevs", u->pci,
			 "%zu mediated devices (vGPUs) live on it", nr);
}

/* Whole disks and VFIO nodes: who opens one like this keeps others from mounting or opening it. */
void use_exclusive_nodes(struct vmplat_devs *devs, const struct vmplat_pci *pci,
			 struct dev_list *names)
{
	struct user u = { .devs = devs, .pci = pci };
	const struct node *nodes;

	walk(&u, pci_priv(devs, pci)->dir, pci->address, NULL, 0);
	walk_nvme(&u);
	add_vfio_group(&u);
	nodes = u.nodes.items;
	for (size_t i = 0; i < u.nodes.nr; i++) {
		bool vfio = nodes[i].subsystem && !strcmp(nodes[i].subsystem, "vfio");

		if (nodes[i].own && ((nodes[i].block && !nodes[i].part) || vfio))
			dev_append(devs, names, &nodes[i].name, sizeof(nodes[i].name));
	}
}

API int vmplat_pci_use(struct vmplat_devs *devs, const struct vmplat_pci *pci,
		       struct vmplat_findings *findings)
{
	struct pci_priv *priv = pci_priv(devs, pci);
	struct user u = { .devs = devs, .pci = pci };

	if (!priv->use_known) {
		walk(&u, priv->dir, pci->address, NULL, 0);
		walk_nvme(&u);
		add_vfio_group(&u);
		add_nvidia(&u);
		find_mounts(&u);
		find_swap(&u);
		find_nets(&u);
		find_console(&u);
		find_children(&u);
		find_open(&u);
		priv->use = dev_findings(&u.found);
		priv->use_known = !devs->no_memory;
	}
	*findings = priv->use;
	return devs->no_memory ? lib_error(-ENOMEM, "out of memory") : 0;
}
