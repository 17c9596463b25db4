/* SPDX-License-Identifier: LGPL-2.1-or-later */
/*
 * The inside of a picture of the host's devices. Data flows one way: sysfs.c reads files,
 * config.c takes configuration space apart, scan.c makes functions and groups of it; from these
 * iommu.c, isolation.c, use.c and gpu.c draw conclusions. Nothing is written to sysfs here.
 *
 * All memory of a picture comes from one arena and lives as long as it. What finds no memory
 * sets no_memory, is left out, and makes opening fail.
 */
#ifndef VMPLAT_DEV_DEV_H
#define VMPLAT_DEV_DEV_H

#include <stdarg.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include <vmplat_dev.h>

#include "lib/lib.h"

struct dev_chunk;

/* what there is of a function beside what everybody may see */
struct pci_priv {
	const char *dir;		/* its directory below sys/: "devices/pci0000:00/0000:00:02.0" */
	const uint8_t *config;		/* config_bytes of it */
	bool use_known;
	struct vmplat_findings use;
};

struct vmplat_devs {
	int sys_fd, proc_fd;
	bool live;			/* this host, now; not a copy of another */
	struct dev_chunk *chunks;
	bool no_memory;

	struct vmplat_pci *pci;		/* in order of addresses */
	struct pci_priv *priv;		/* of pci[i] */
	size_t nr_pci;

	struct vmplat_group *groups;
	struct vmplat_iommu_state iommu;
	const char *cmdline;		/* the kernel's; "" if not known */
};

/* ---- arena (sysfs.c) --------------------------------------------------- */

/* zeroed memory of the picture; NULL and no_memory if there is none */
void *dev_alloc(struct vmplat_devs *devs, size_t bytes);
char *dev_strdup(struct vmplat_devs *devs, const char *s, size_t n);
char *dev_vprintf(struct vmplat_devs *devs, const char *fmt, va_list ap);
char *dev_printf(struct vmplat_devs *devs, const char *fmt, ...)
	__attribute__((format(printf, 2, 3)));
void dev_free_all(struct vmplat_devs *devs);

/* An array that grows in the arena. Appending copies @item; false: no memory. */
struct dev_list {
	void *items;
	size_t nr, room;
};

bool dev_append(struct vmplat_devs *devs, struct dev_list *list, const void *item, size_t bytes);

/* Adds a finding with that sentence. */
void dev_find(struct vmplat_devs *devs, struct dev_list *list, enum vmplat_severity severity,
	      const char *name, const struct vmplat_pci *pci, const char *fmt, ...)
	__attribute__((format(printf, 6, 7)));
/* The list as it is handed out. */
struct vmplat_findings dev_findings(const struct dev_list *list);

/* ---- files (sysfs.c): @fd is sys_fd or proc_fd, the path is below it --------- */

/* text without the newline at its end; NULL: not there or not readable */
const char *dev_text(struct vmplat_devs *devs, int fd, const char *fmt, ...)
	__attribute__((format(printf, 3, 4)));
/* a number, decimal or 0x; false if there is none */
bool dev_number(struct vmplat_devs *devs, uint64_t *v, int fd, const char *fmt, ...)
	__attribute__((format(printf, 4, 5)));
/* where a link points, as it is written there; NULL: no link */
const char *dev_link(struct vmplat_devs *devs, int fd, const char *fmt, ...)
	__attribute__((format(printf, 3, 4)));
/* the last component of it */
const char *dev_link_name(struct vmplat_devs *devs, int fd, const char *fmt, ...)
	__attribute__((format(printf, 3, 4)));
bool dev_exists(struct vmplat_devs *devs, int fd, const char *fmt, ...)
	__attribute__((format(printf, 3, 4)));
/* names in a directory, sorted as versions are, without . and ..; none if it is not there */
struct dev_names {
	const char *const *names;
	size_t nr;
};

struct dev_names dev_list_dir(struct vmplat_devs *devs, int fd, const char *fmt, ...)
	__attribute__((format(printf, 3, 4)));
/* up to @bytes of a binary file into the arena; how many, or -errno */
int dev_bytes(struct vmplat_devs *devs, const uint8_t **p, size_t bytes, int fd,
	      const char *fmt, ...) __attribute__((format(printf, 5, 6)));

/* Line by line over a text: the next line (in the arena's text, cut at its end), or NULL. */
char *dev_next_line(char **rest);

/* ---- facts and conclusions --------------------------------------------------- */

/* config.c: ports, capabilities, link of the device from its configuration space */
void config_parse(struct vmplat_devs *devs, struct vmplat_pci *pci, const uint8_t *config,
		  unsigned int bytes);
uint32_t config_read32(const uint8_t *config, unsigned int bytes, unsigned int off);

/* scan.c */
int scan_pci(struct vmplat_devs *devs);
/* "0000:01:00.0" or "01:00.0" into its parts */
bool parse_address(const char *s, uint32_t *domain, uint8_t *bus, uint8_t *dev, uint8_t *fn);

/* iommu.c: groups, units, protection; needs the functions */
void iommu_scan(struct vmplat_devs *devs);
/* isolation.c: needs the groups */
void isolation_judge(struct vmplat_devs *devs, struct vmplat_pci *pci);

static inline struct pci_priv *pci_priv(const struct vmplat_devs *devs,
					const struct vmplat_pci *pci)
{
	return &devs->priv[pci - devs->pci];
}

static inline unsigned int pci_base_class(const struct vmplat_pci *pci)
{
	return pci->class_code >> 16;
}

/* drivers that hand a function to user space; a group on these alone can be opened */
bool driver_is_vfio(const char *driver);
/* a word of the kernel's command line: "iommu=pt" */
bool cmdline_has(const struct vmplat_devs *devs, const char *word);
/* the value of "name=" there, up to a space; NULL: not given */
const char *cmdline_value(struct vmplat_devs *devs, const char *name);

#endif
