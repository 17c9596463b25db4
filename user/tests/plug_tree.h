/* SPDX-License-Identifier: GPL-2.0-only */
/*
 * A tree that looks like sysfs, with a kernel in it that takes what is written, and says
 * no, as the real one does. Set plug_write_hook to tree_kernel.
 */
#ifndef VMPLAT_TESTS_PLUG_TREE_H
#define VMPLAT_TESTS_PLUG_TREE_H

#include <errno.h>
#include <ftw.h>
#include <limits.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "hotplug/plug.h"

static char tree[64];
static struct plug_host tree_host = { .sysfs = tree };

#define TREE_PATH(path, fmt) do {					\
	va_list tree_ap;						\
	int tree_n = snprintf(path, sizeof(path), "%s/", tree);		\
									\
	va_start(tree_ap, fmt);						\
	vsnprintf(path + tree_n, sizeof(path) - tree_n, fmt, tree_ap);	\
	va_end(tree_ap);						\
} while (0)

__attribute__((format(printf, 1, 2)))
static inline void tree_dir(const char *fmt, ...)
{
	char path[PATH_MAX];

	TREE_PATH(path, fmt);
	for (char *s = path + strlen(tree) + 1; *s; s++) {
		if (*s != '/')
			continue;
		*s = '\0';
		mkdir(path, 0755);
		*s = '/';
	}
	mkdir(path, 0755);
}

__attribute__((format(printf, 2, 3)))
static inline void tree_put(const char *text, const char *fmt, ...)
{
	char path[PATH_MAX];
	FILE *f;

	TREE_PATH(path, fmt);
	f = fopen(path, "w");
	if (!f)
		abort();
	fprintf(f, "%s\n", text);
	fclose(f);
}

/* "" if there is no such file */
__attribute__((format(printf, 1, 2)))
static inline const char *tree_get(const char *fmt, ...)
{
	static char text[4][64];
	static unsigned int turn;
	char path[PATH_MAX], *to = text[turn++ % 4];
	FILE *f;

	TREE_PATH(path, fmt);
	*to = '\0';
	f = fopen(path, "r");
	if (f && fgets(to, 64, f))
		to[strcspn(to, "\n")] = '\0';
	if (f)
		fclose(f);
	return to;
}

__attribute__((format(printf, 2, 3)))
static inline void tree_link(const char *to, const char *fmt, ...)
{
	char path[PATH_MAX];

	TREE_PATH(path, fmt);
	if (symlink(to, path))
		abort();
}

__attribute__((format(printf, 1, 2)))
static inline bool tree_has(const char *fmt, ...)
{
	char path[PATH_MAX];

	TREE_PATH(path, fmt);
	return !access(path, F_OK);
}

static inline int tree_remove_one(const char *path, const struct stat *sb, int type,
				  struct FTW *ftw)
{
	return remove(path);
}

__attribute__((format(printf, 1, 2)))
static inline void tree_remove(const char *fmt, ...)
{
	char path[PATH_MAX];

	TREE_PATH(path, fmt);
	if (nftw(path, tree_remove_one, 8, FTW_DEPTH | FTW_PHYS))
		abort();
}

static inline void tree_rename(const char *from, const char *to)
{
	char a[PATH_MAX], b[PATH_MAX];

	snprintf(a, sizeof(a), "%s/%s", tree, from);
	snprintf(b, sizeof(b), "%s/%s", tree, to);
	if (rename(a, b))
		abort();
}

/* ---- what is in it --------------------------------------------------------------- */

#define CPU_DIR		"devices/system/cpu"
#define MEMORY_DIR	"devices/system/memory"
#define PCI_DIR		"bus/pci/devices"
#define DRIVER_DIR	"bus/pci/drivers"

static inline void tree_cpu(unsigned int nr, int node, const char *online)
{
	tree_dir(CPU_DIR "/cpu%u/node%d", nr, node);
	if (online)
		tree_put(online, CPU_DIR "/cpu%u/online", nr);
}

static inline void tree_memory(unsigned int nr, int node, const char *state, const char *zones)
{
	tree_dir(MEMORY_DIR "/memory%u/node%d", nr, node);
	tree_put(state, MEMORY_DIR "/memory%u/state", nr);
	tree_put(zones, MEMORY_DIR "/memory%u/valid_zones", nr);
}

static inline void tree_driver(const char *name)
{
	tree_dir(DRIVER_DIR "/%s", name);
}

static inline void tree_bind(const char *address, const char *driver)
{
	char to[128];

	snprintf(to, sizeof(to), "../../drivers/%s", driver);
	tree_link(to, PCI_DIR "/%s/driver", address);
}

/* @native: the driver that its ids lead to; bound to it if @bound */
static inline void tree_pci(const char *address, const char *id, const char *class_,
			    const char *native, bool bound)
{
	char half[8] = "0x";

	tree_dir(PCI_DIR "/%s", address);
	memcpy(half + 2, id, 4);
	tree_put(half, PCI_DIR "/%s/vendor", address);
	memcpy(half + 2, id + 5, 4);
	tree_put(half, PCI_DIR "/%s/device", address);
	tree_put("0x1af4", PCI_DIR "/%s/subsystem_vendor", address);
	tree_put("0x1100", PCI_DIR "/%s/subsystem_device", address);
	tree_put(class_, PCI_DIR "/%s/class", address);
	tree_put("0", PCI_DIR "/%s/numa_node", address);
	tree_put("(null)", PCI_DIR "/%s/driver_override", address);
	tree_put(native, PCI_DIR "/%s/native", address);
	if (bound)
		tree_bind(address, native);
}

static inline void tree_new(void)
{
	/* where fsync() costs nothing, if there is such a place */
	snprintf(tree, sizeof(tree), "%s/vmplat-plug.XXXXXX",
		 access("/dev/shm", W_OK) ? "/tmp" : "/dev/shm");
	if (!mkdtemp(tree))
		abort();
	tree_dir(CPU_DIR);
	tree_dir(MEMORY_DIR);
	tree_dir(PCI_DIR);
	tree_dir("bus/pci/slots/7");
	tree_put("0000:03:00", "bus/pci/slots/7/address");
	tree_put("8000000", MEMORY_DIR "/block_size_bytes");
	tree_driver("ixgbe");
	tree_driver("vfio-pci");
}

static inline void tree_free(void)
{
	nftw(tree, tree_remove_one, 8, FTW_DEPTH | FTW_PHYS);
}

/* ---- the kernel in it ---------------------------------------------------------------- */

static inline int kernel_memory(const char *name, const char *what)
{
	bool online = !strcmp(tree_get(MEMORY_DIR "/%s/state", name), "online");
	bool movable = !strcmp(what, "online_movable");

	if (!strcmp(what, "offline")) {
		if (!online)
			return -EINVAL;
		if (tree_has(MEMORY_DIR "/%s/unmovable", name))
			return -EBUSY;
		tree_put("offline", MEMORY_DIR "/%s/state", name);
		tree_put("Normal Movable", MEMORY_DIR "/%s/valid_zones", name);
		return 1;
	}
	if (online || (movable && tree_has(MEMORY_DIR "/%s/no_movable", name)))
		return -EINVAL;
	if (movable && tree_has(MEMORY_DIR "/%s/stubborn", name))
		movable = false;
	tree_put("online", MEMORY_DIR "/%s/state", name);
	tree_put(movable ? "Movable" : "Normal", MEMORY_DIR "/%s/valid_zones", name);
	return 1;
}

static inline const char *tree_driver_of(const char *address)
{
	static char to[PATH_MAX];
	char path[PATH_MAX];
	ssize_t n;

	snprintf(path, sizeof(path), "%s/" PCI_DIR "/%s/driver", tree, address);
	n = readlink(path, to, sizeof(to) - 1);
	to[n > 0 ? n : 0] = '\0';
	return n > 0 ? strrchr(to, '/') + 1 : "";
}

static inline int kernel_driver(const char *driver, const char *file, const char *address)
{
	const char *override = tree_get(PCI_DIR "/%s/driver_override", address);
	const char *only = strcmp(override, "(null)") ? override :
			   tree_get(PCI_DIR "/%s/native", address);

	if (!strcmp(file, "unbind")) {
		if (strcmp(tree_driver_of(address), driver))
			return -ENODEV;
		tree_remove(PCI_DIR "/%s/driver", address);
		return 1;
	}
	if (*tree_driver_of(address))
		return -EBUSY;
	if (strcmp(only, driver))
		return -ENODEV;
	if (tree_has(DRIVER_DIR "/%s/refuses", driver))
		return -EIO;
	tree_bind(address, driver);
	return 1;
}

/* 1, or -errno: what the kernel says */
static inline int tree_kernel(const char *where, const char *what)
{
	char name[64], file[32];

	if (sscanf(where, CPU_DIR "/%63[^/]/online", name) == 1) {
		tree_put(what, "%s", where);
		return 1;
	}
	if (sscanf(where, MEMORY_DIR "/%63[^/]/state", name) == 1)
		return kernel_memory(name, what);
	if (sscanf(where, PCI_DIR "/%63[^/]/driver_override", name) == 1) {
		tree_put(*what ? what : "(null)", "%s", where);
		return 1;
	}
	if (sscanf(where, DRIVER_DIR "/%63[^/]/%31s", name, file) == 2)
		return kernel_driver(name, file, what);
	return 0;	/* a VM */
}

/* Every state there is, as one text. Free it. */
static inline char *tree_text(void)
{
	char *text = NULL, state[PLUG_STATE_TEXT];
	struct plug_scan scan;
	size_t bytes = 0;
	FILE *f = open_memstream(&text, &bytes);

	if (!f || plug_scan(&tree_host, &scan))
		abort();
	for (size_t i = 0; i < scan.nr; i++)
		fprintf(f, "%s: %s\n", scan.objects[i].name,
			plug_state_text(scan.objects[i].class_, &scan.objects[i].now, state));
	plug_scan_free(&scan);
	fclose(f);
	return text;
}

#endif
