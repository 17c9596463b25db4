/* SPDX-License-Identifier: GPL-2.0-only */
/*
 * What the tests of IOMMU domains share: domains by raw ioctl, and QEMU's "edu", a
 * PCI function with a DMA engine and 4 KiB of memory of its own, driven from here
 * through sysfs. Give it all addresses: -global edu.dma_mask=0xffffffffffffffff
 */
#ifndef DOMAIN_EDU_H
#define DOMAIN_EDU_H

#include "mem/util.h"

/* ---- domains: 0 or a descriptor, or -1 and errno ----------------------------- */

#define RW (VMPLAT_DOMAIN_MAP_F_READ | VMPLAT_DOMAIN_MAP_F_WRITE)

int domain_new(void);
struct vmplat_domain_attach domain_attach_arg(uint64_t function, uint32_t flags);
/* Also lets interrupts be, where the IOMMU of this host does not isolate them. */
int domain_attach(int domain, uint64_t function, uint32_t flags);
int domain_detach(int domain, uint64_t function, uint32_t flags);
int domain_map(int domain, uint32_t flags, int mem, uint64_t iova, uint64_t offset, uint64_t bytes);
/* How many mappings went. */
int domain_unmap(int domain, uint64_t iova, uint64_t bytes);
int domain_unmap_all(int domain);
struct vmplat_domain_status domain_status(int domain);

/* ---- functions ------------------------------------------------------------------ */

#define EDU_VENDOR	"0x1234"
#define EDU_DEVICE	"0x11e8"

/* "DDDD:BB:SS.F" of the first function of that kind; false if there is none. */
bool pci_find(const char *vendor, const char *device, char address[16]);
uint64_t pci_id(const char *address);
/* A file of a function in sysfs: its first word, or "". */
void pci_read(const char *address, const char *file, char *text, size_t room);
bool pci_is_master(const char *address);

/* ---- the engine ----------------------------------------------------------------- */

struct edu {
	char address[16];
	uint64_t id;
	volatile uint8_t *bar;
};

bool edu_open(struct edu *e);		/* false if there is none */
void edu_start(struct edu *e);		/* memory decoding and bus mastering on */
void edu_close(struct edu *e);
/* Through its own memory, at most 4 KiB; returns when the engine is done, whatever it did. */
void edu_load(struct edu *e, uint64_t from, uint32_t bytes);
void edu_store(struct edu *e, uint64_t to, uint32_t bytes);

/* The physical address behind one of ours. */
uint64_t physical(const volatile void *p);

#endif
