// SPDX-License-Identifier: LGPL-2.1-or-later
/* The picture: every PCI function with its facts, then groups and conclusions. */
#include <ctype.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <unistd.h>

#include <linux/pci_regs.h>

#include "dev/dev.h"

#define CONFIG_MAX	4096
#define CLASS_HOST_BRIDGE	0x0600
#define CLASS_PCI_BRIDGE	0x0604
#define CLASS_SEMI_BRIDGE	0x0609

/* of include/linux/ioport.h in the kernel: what the third column of "resource" means */
#define RES_IO		0x00000100
#define RES_MEM		0x00000200
#define RES_PREFETCH	0x00002000
#define RES_WIDE	0x00100000
#define RES_UNSET	0x20000000
#define RES_ROM_SHADOW	0x00000002

#define BUS_PCI		"bus/pci/devices"

/* ---- addresses --------------------------------------------------------- */

bool parse_address(const char *s, uint32_t *domain, uint8_t *bus, uint8_t *dev, uint8_t *fn)
{
	unsigned int d = 0, b, v, f;
	int n = 0;

	/* sscanf takes signs and blanks, an address has none */
	if (strspn(s, "0123456789abcdefABCDEF:.") != strlen(s))
		return false;
	if (sscanf(s, "%8x:%2x:%2x.%1x%n", &d, &b, &v, &f, &n) != 4 || s[n]) {
		d = 0;
		n = 0;
		if (sscanf(s, "%2x:%2x.%1x%n", &b, &v, &f, &n) != 3 || s[n])
			return false;
	}
	if (v > 31 || f > 7)
		return false;
	*domain = d;
	*bus = b;
	*dev = v;
	*fn = f;
	return true;
}

static uint64_t address_key(const struct vmplat_pci *p)
{
	return (uint64_t)p->domain << 16 | p->bus << 8 | p->device << 3 | p->function;
}

static int by_address(const void *a, const void *b)
{
	uint64_t x = address_key(a), y = address_key(b);

	return x < y ? -1 : x > y;
}

static const struct vmplat_pci *find_address(const struct vmplat_devs *devs, const char *address)
{
	struct vmplat_pci key = { };

	if (!devs->nr_pci ||
	    !parse_address(address, &key.domain, &key.bus, &key.device, &key.function))
		return NULL;
	return bsearch(&key, devs->pci, devs->nr_pci, sizeof(key), by_address);
}

/* ---- facts of a function ------------------------------------------------- */

static unsigned int number(struct vmplat_devs *devs, const char *dir, const char *name,
			   unsigned int unknown)
{
	uint64_t v;

	return dev_number(devs, &v, devs->sys_fd, "%s/%s", dir, name) ? (unsigned int)v : unknown;
}

/* "8.0 GT/s PCIe" as 80; "Unknown" as 0 */
static unsigned int link_speed(struct vmplat_devs *devs, const char *dir, const char *name)
{
	const char *text = dev_text(devs, devs->sys_fd, "%s/%s", dir, name);
	unsigned int whole, tenth = 0;

	if (!text || sscanf(text, "%u.%1u", &whole, &tenth) < 1)
		return 0;
	return 10 * whole + tenth;
}

static unsigned int link_width(struct vmplat_devs *devs, const char *dir, const char *name)
{
	unsigned int width = number(devs, dir, name, 0);

	return width > 32 ? 0 : width;		/* 255 or 63: not known */
}

static void read_bars(struct vmplat_devs *devs, struct vmplat_pci *pci, const char *dir)
{
	struct dev_list bars = { };
	char *rest = (char *)dev_text(devs, devs->sys_fd, "%s/resource", dir), *line;

	for (unsigned int i = 0; (line = dev_next_line(&rest)); i++) {
		unsigned long long start, last, flags;
		struct vmplat_bar bar = { .index = i };

		if (sscanf(line, "%llx %llx %llx", &start, &last, &flags) != 3 ||
		    !(flags & (RES_IO | RES_MEM)) || last < start)
			continue;
		bar.start = start;
		bar.bytes = last - start + 1;
		bar.io = flags & RES_IO;
		bar.prefetchable = flags & RES_PREFETCH;
		bar.wide = flags & RES_WIDE;
		bar.unassigned = flags & RES_UNSET;
		bar.shadow = i == 6 && flags & RES_ROM_SHADOW;
		dev_append(devs, &bars, &bar, sizeof(bar));
	}
	pci->bars = bars.items;
	pci->nr_bars = bars.nr;
}

/* Of the class "bridge" only those to PCI are: an ISA bridge is an endpoint like others. */
static bool is_bridge(unsigned int kind)
{
	return kind == CLASS_HOST_BRIDGE || kind == CLASS_PCI_BRIDGE || kind == CLASS_SEMI_BRIDGE;
}

static void read_ids(struct vmplat_devs *devs, struct vmplat_pci *pci, const char *dir)
{
	pci->vendor = number(devs, dir, "vendor", 0xffff);
	pci->device_id = number(devs, dir, "device", 0xffff);
	pci->subvendor = number(devs, dir, "subsystem_vendor", 0);
	pci->subdevice = number(devs, dir, "subsystem_device", 0);
	pci->class_code = number(devs, dir, "class", 0) & 0xffffff;
	pci->revision = number(devs, dir, "revision", 0);
	pci->is_bridge = is_bridge(pci->class_code >> 8);
}

static void read_settings(struct vmplat_devs *devs, struct vmplat_pci *pci, const char *dir)
{
	int sys = devs->sys_fd;
	const char *override = dev_text(devs, sys, "%s/driver_override", dir);

	pci->driver = dev_link_name(devs, sys, "%s/driver", dir);
	pci->module = dev_link_name(devs, sys, "%s/driver/module", dir);
	/* the kernel's printf spells no override like this */
	pci->override = override && *override && strcmp(override, "(null)") ? override : NULL;
	/* without the file there is none, where the kernel has such files at all */
	pci->reset = dev_text(devs, sys, "%s/reset_method", dir);
	pci->power = dev_text(devs, sys, "%s/power_state", dir);
	pci->numa_node = (int)number(devs, dir, "numa_node", -1);
	pci->boot_vga = (int)number(devs, dir, "boot_vga", -1);
	pci->nr_vfs = number(devs, dir, "sriov_numvfs", 0);
	pci->max_vfs = number(devs, dir, "sriov_totalvfs", 0);
	pci->link.speed = link_speed(devs, dir, "current_link_speed");
	pci->link.max_speed = link_speed(devs, dir, "max_link_speed");
	pci->link.width = link_width(devs, dir, "current_link_width");
	pci->link.max_width = link_width(devs, dir, "max_link_width");
}

/* ---- how functions stand to each other ------------------------------------- */

/* "../../../devices/pci0000:00/0000:00:02.0" is below sys/ once the dots are gone. */
static const char *below_sys(const char *link)
{
	while (link && !strncmp(link, "../", 3))
		link += 3;
	return link;
}

/*
 * "devices/pci0000:00/0000:00:1c.0/0000:01:00.0" as "pci0000:00/1c.0/00.0": the bus number, which
 * firmware gives out anew, is left out on each level.
 */
static const char *slot_path(struct vmplat_devs *devs, const char *dir)
{
	char *path = NULL, *copy = dev_strdup(devs, dir, strlen(dir)), *save, *part;

	if (!copy)
		return NULL;
	for (part = strtok_r(copy, "/", &save); part; part = strtok_r(NULL, "/", &save)) {
		uint8_t bus, dev, fn;
		uint32_t domain;

		if (parse_address(part, &domain, &bus, &dev, &fn))
			path = dev_printf(devs, "%s/%02x.%x", path ? path : "", dev, fn);
		else if (!strncmp(part, "pci", 3))
			path = dev_printf(devs, "%s", part);
	}
	return path;
}

/* The function whose directory the one of @pci lies in. */
static const struct vmplat_pci *find_bridge(struct vmplat_devs *devs, const struct vmplat_pci *pci)
{
	const char *dir = pci_priv(devs, pci)->dir, *end = strrchr(dir, '/'), *begin = end;
	char *name;

	if (!end)
		return NULL;
	while (begin > dir && begin[-1] != '/')
		begin--;
	name = dev_strdup(devs, begin, end - begin);
	return name ? find_address(devs, name) : NULL;
}

static bool same_slot(const struct vmplat_pci *a, const struct vmplat_pci *b)
{
	return a->domain == b->domain && a->bus == b->bus && a->device == b->device && !a->pf &&
	       !b->pf;
}

static void find_siblings(struct vmplat_devs *devs, struct vmplat_pci *pci)
{
	struct dev_list list = { };

	for (size_t i = 0; i < devs->nr_pci; i++) {
		const struct vmplat_pci *other = &devs->pci[i];

		if (other != pci && same_slot(other, pci))
			dev_append(devs, &list, &other, sizeof(other));
	}
	pci->siblings = list.items;
	pci->nr_siblings = list.nr;
}

static void read_config(struct vmplat_devs *devs, struct vmplat_pci *pci)
{
	struct pci_priv *priv = pci_priv(devs, pci);
	int n = dev_bytes(devs, &priv->config, CONFIG_MAX, devs->sys_fd, "%s/config", priv->dir);

	if (n > 0)
		config_parse(devs, pci, priv->config, n);
}

/* Where a device is asleep or gone, its configuration space says nothing. */
static void connect(struct vmplat_devs *devs, struct vmplat_pci *pci)
{
	const char *pf = dev_link_name(devs, devs->sys_fd, "%s/physfn", pci_priv(devs, pci)->dir);

	pci->path = slot_path(devs, pci_priv(devs, pci)->dir);
	pci->bridge = find_bridge(devs, pci);
	pci->pf = pf ? find_address(devs, pf) : NULL;
}

static void read_function(struct vmplat_devs *devs, struct vmplat_pci *pci, const char *name)
{
	struct pci_priv *priv = pci_priv(devs, pci);
	const char *dir = below_sys(dev_link(devs, devs->sys_fd, BUS_PCI "/%s", name));

	priv->dir = dir ? dir : dev_printf(devs, BUS_PCI "/%s", name);
	pci->address = name;
	pci->numa_node = pci->boot_vga = -1;
	if (!priv->dir)
		return;
	read_ids(devs, pci, priv->dir);
	read_settings(devs, pci, priv->dir);
	read_bars(devs, pci, priv->dir);
}

/*
 * Kernels from 5.15 on have reset_method where there is a method. No file on any function
 * means an old kernel, or a copy without it: then nothing is known.
 */
static void settle_resets(struct vmplat_devs *devs)
{
	bool told = false;

	for (size_t i = 0; i < devs->nr_pci; i++)
		told |= devs->pci[i].reset != NULL;
	for (size_t i = 0; told && i < devs->nr_pci; i++)
		if (!devs->pci[i].reset)
			devs->pci[i].reset = "";
}

int scan_pci(struct vmplat_devs *devs)
{
	struct dev_names names = dev_list_dir(devs, devs->sys_fd, BUS_PCI);
	size_t room = names.nr ? names.nr : 1;

	devs->pci = dev_alloc(devs, room * sizeof(*devs->pci));
	devs->priv = dev_alloc(devs, room * sizeof(*devs->priv));
	if (!devs->pci || !devs->priv)
		return -ENOMEM;
	for (size_t i = 0; i < names.nr; i++) {
		struct vmplat_pci *p = &devs->pci[devs->nr_pci];

		if (parse_address(names.names[i], &p->domain, &p->bus, &p->device, &p->function)) {
			p->address = names.names[i];
			devs->nr_pci++;
		}
	}
	qsort(devs->pci, devs->nr_pci, sizeof(*devs->pci), by_address);
	for (size_t i = 0; i < devs->nr_pci; i++)
		read_function(devs, &devs->pci[i], devs->pci[i].address);
	if (devs->no_memory)
		return -ENOMEM;
	for (size_t i = 0; i < devs->nr_pci; i++)
		connect(devs, &devs->pci[i]);
	for (size_t i = 0; i < devs->nr_pci; i++) {
		find_siblings(devs, &devs->pci[i]);
		read_config(devs, &devs->pci[i]);
	}
	settle_resets(devs);
	return 0;
}

/* ---- the handle ------------------------------------------------------------ */

static int open_roots(struct vmplat_devs *devs, const char *root)
{
	int fd = open(root ? root : "/", O_PATH | O_DIRECTORY | O_CLOEXEC), rc = 0;

	if (fd < 0)
		return lib_error(-errno, "%s: %s", root ? root : "/", strerror(errno));
	devs->sys_fd = openat(fd, "sys", O_PATH | O_DIRECTORY | O_CLOEXEC);
	if (devs->sys_fd < 0)
		rc = lib_error(-errno, "%s/sys: %s", root ? root : "", strerror(errno));
	/* a copy may come without */
	devs->proc_fd = openat(fd, "proc", O_PATH | O_DIRECTORY | O_CLOEXEC);
	close(fd);
	return rc;
}

API int vmplat_devs_open(struct vmplat_devs **out, const char *root)
{
	struct vmplat_devs *devs = calloc(1, sizeof(*devs));
	int rc;

	*out = NULL;
	if (!devs)
		return lib_error(-ENOMEM, "out of memory");
	devs->sys_fd = devs->proc_fd = -1;
	devs->live = !root;
	rc = open_roots(devs, root);
	if (rc)
		goto fail;
	devs->cmdline = dev_text(devs, devs->proc_fd, "cmdline");
	if (!devs->cmdline)
		devs->cmdline = "";
	rc = scan_pci(devs);
	if (!rc)
		iommu_scan(devs);
	for (size_t i = 0; !rc && i < devs->nr_pci; i++)
		isolation_judge(devs, &devs->pci[i]);
	if (rc || devs->no_memory) {
		rc = lib_error(-ENOMEM, "out of memory");
		goto fail;
	}
	*out = devs;
	return 0;
fail:
	vmplat_devs_close(devs);
	return rc;
}

API void vmplat_devs_close(struct vmplat_devs *devs)
{
	if (!devs)
		return;
	if (devs->sys_fd >= 0)
		close(devs->sys_fd);
	if (devs->proc_fd >= 0)
		close(devs->proc_fd);
	dev_free_all(devs);
	free(devs);
}

API size_t vmplat_devs_nr_pci(const struct vmplat_devs *devs)
{
	return devs->nr_pci;
}

API const struct vmplat_pci *vmplat_devs_pci(const struct vmplat_devs *devs, size_t i)
{
	return i < devs->nr_pci ? &devs->pci[i] : NULL;
}

/* Functions of one device share its serial number; two devices must not. */
static int find_serial(const struct vmplat_devs *devs, const char *text,
		       const struct vmplat_pci **pci)
{
	uint64_t serial = 0;
	size_t digits = 0;

	for (const char *s = text; *s; s++) {
		if (*s == '-')
			continue;
		if (!isxdigit((unsigned char)*s) || ++digits > 16)
			return lib_error(-EINVAL, "'%s' is not a serial number: 16 hex digits, with dashes or without", text);
		serial = serial << 4 | (isdigit((unsigned char)*s) ? *s - '0' : tolower(*s) - 'a' + 10);
	}
	if (digits != 16)
		return lib_error(-EINVAL, "'%s' is not a serial number: 16 hex digits, with dashes or without", text);
	for (size_t i = 0; i < devs->nr_pci; i++) {
		const struct vmplat_pci *p = &devs->pci[i];

		if (!serial || p->serial != serial)
			continue;
		if (*pci && !same_slot(*pci, p) && p->pf != *pci)
			return lib_error(-ENOTUNIQ, "%s and %s both have the serial number %s",
					 (*pci)->address, p->address, text);
		if (!*pci)
			*pci = p;
	}
	return *pci ? 0 : lib_error(-ENOENT, "no PCI device has the serial number %s", text);
}

API int vmplat_devs_find(const struct vmplat_devs *devs, const char *name,
			 const struct vmplat_pci **pci)
{
	uint8_t bus, dev, fn;
	uint32_t domain;

	*pci = NULL;
	if (!strncmp(name, "serial:", 7)) {
		int rc = find_serial(devs, name + 7, pci);

		if (rc)
			*pci = NULL;
		return rc;
	}
	if (parse_address(name, &domain, &bus, &dev, &fn)) {
		*pci = find_address(devs, name);
		return *pci ? 0 : lib_error(-ENOENT, "there is no PCI function %s", name);
	}
	if (strncmp(name, "pci", 3))
		return lib_error(-EINVAL, "'%s' is no PCI address (0000:01:00.0), slot path (pci0000:00/1c.0/00.0) or serial:NUMBER", name);
	for (size_t i = 0; i < devs->nr_pci; i++) {
		if (devs->pci[i].path && !strcmp(devs->pci[i].path, name)) {
			*pci = &devs->pci[i];
			return 0;
		}
	}
	return lib_error(-ENOENT, "there is no PCI function at %s", name);
}

/* ---- words ----------------------------------------------------------------- */

#define WORD_OF(words, i) ((size_t)(i) < sizeof(words) / sizeof((words)[0]) ? (words)[i] : NULL)

API const char *vmplat_severity_name(enum vmplat_severity severity)
{
	static const char *const words[] = { "note", "warning", "blocker" };

	return WORD_OF(words, severity);
}

API const char *vmplat_port_name(enum vmplat_port port)
{
	static const char *const words[] = {
		[VMPLAT_PORT_UNKNOWN] = "unknown", [VMPLAT_PORT_CONVENTIONAL] = "conventional",
		[VMPLAT_PORT_ENDPOINT] = "endpoint", [VMPLAT_PORT_LEGACY_ENDPOINT] = "legacy endpoint",
		[VMPLAT_PORT_INTEGRATED_ENDPOINT] = "integrated endpoint",
		[VMPLAT_PORT_ROOT] = "root port", [VMPLAT_PORT_UPSTREAM] = "upstream port",
		[VMPLAT_PORT_DOWNSTREAM] = "downstream port",
		[VMPLAT_PORT_TO_PCI] = "PCIe to PCI bridge",
		[VMPLAT_PORT_FROM_PCI] = "PCI to PCIe bridge",
		[VMPLAT_PORT_EVENT_COLLECTOR] = "event collector",
	};

	return WORD_OF(words, port);
}

API const char *vmplat_pci_format_serial(uint64_t serial, char buf[24])
{
	snprintf(buf, 24, "%02x-%02x-%02x-%02x-%02x-%02x-%02x-%02x",
		 (uint8_t)(serial >> 56), (uint8_t)(serial >> 48), (uint8_t)(serial >> 40),
		 (uint8_t)(serial >> 32), (uint8_t)(serial >> 24), (uint8_t)(serial >> 16),
		 (uint8_t)(serial >> 8), (uint8_t)serial);
	return buf;
}

bool driver_is_vfio(const char *driver)
{
	/* vendors name their variants like this: nvgrace-gpu-vfio-pci, mlx5_vfio_pci, qat_vfio_pci */
	return driver && (strstr(driver, "vfio-pci") || strstr(driver, "vfio_pci") ||
			  !strcmp(driver, "vmplat_vfio"));
}

bool cmdline_has(const struct vmplat_devs *devs, const char *word)
{
	size_t n = strlen(word);

	for (const char *s = devs->cmdline; (s = strstr(s, word)); s += n)
		if ((s == devs->cmdline || s[-1] == ' ') && (!s[n] || s[n] == ' '))
			return true;
	return false;
}

const char *cmdline_value(struct vmplat_devs *devs, const char *name)
{
	size_t n = strlen(name);
	const char *s = devs->cmdline;

	for (; (s = strstr(s, name)); s += n)
		if (s == devs->cmdline || s[-1] == ' ')
			return dev_strdup(devs, s + n, strcspn(s + n, " "));
	return NULL;
}
