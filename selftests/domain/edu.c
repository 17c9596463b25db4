// SPDX-License-Identifier: GPL-2.0-only
/* See edu.h. Registers: docs/specs/edu.rst of QEMU. */
#include <dirent.h>
#include <fcntl.h>
#include <sys/ioctl.h>
#include <sys/mman.h>
#include <unistd.h>

#include "domain/edu.h"

#define DEVICES "/sys/bus/pci/devices/"

/* ---- domains ------------------------------------------------------------------ */

int domain_new(void)
{
	struct vmplat_domain_create arg = { .size = sizeof(arg) };

	return ioctl(dev_fd, VMPLAT_DOMAIN_CREATE, &arg) ? -1 : arg.out_fd;
}

struct vmplat_domain_attach domain_attach_arg(uint64_t function, uint32_t flags)
{
	return (struct vmplat_domain_attach) {
		.size = sizeof(struct vmplat_domain_attach), .flags = flags, .function = function,
	};
}

int domain_attach(int domain, uint64_t function, uint32_t flags)
{
	struct vmplat_domain_attach arg = domain_attach_arg(function, flags);

	if (!ioctl(domain, VMPLAT_DOMAIN_ATTACH, &arg))
		return 0;
	if (errno != EPERM || arg.out_why != VMPLAT_DOMAIN_WHY_INTERRUPTS)
		return -1;
	arg.flags |= VMPLAT_DOMAIN_ATTACH_F_UNSAFE_INTERRUPTS;
	return ioctl(domain, VMPLAT_DOMAIN_ATTACH, &arg);
}

int domain_detach(int domain, uint64_t function, uint32_t flags)
{
	struct vmplat_domain_detach arg = {
		.size = sizeof(arg), .flags = flags, .function = function,
	};

	return ioctl(domain, VMPLAT_DOMAIN_DETACH, &arg);
}

int domain_map(int domain, uint32_t flags, int mem, uint64_t iova, uint64_t offset, uint64_t bytes)
{
	struct vmplat_domain_map arg = {
		.size = sizeof(arg), .flags = flags, .mem_fd = mem, .iova = iova,
		.mem_offset = offset, .bytes = bytes,
	};

	return ioctl(domain, VMPLAT_DOMAIN_MAP, &arg);
}

static int unmap(int domain, uint32_t flags, uint64_t iova, uint64_t bytes)
{
	struct vmplat_domain_unmap arg = {
		.size = sizeof(arg), .flags = flags, .iova = iova, .bytes = bytes,
	};

	return ioctl(domain, VMPLAT_DOMAIN_UNMAP, &arg) ? -1 : (int)arg.out_nr;
}

int domain_unmap(int domain, uint64_t iova, uint64_t bytes)
{
	return unmap(domain, 0, iova, bytes);
}

int domain_unmap_all(int domain)
{
	return unmap(domain, VMPLAT_DOMAIN_UNMAP_F_ALL, 0, 0);
}

struct vmplat_domain_status domain_status(int domain)
{
	struct vmplat_domain_status st = { .size = sizeof(st) };

	need(ioctl(domain, VMPLAT_DOMAIN_STATUS, &st));
	return st;
}

/* ---- functions ------------------------------------------------------------------- */

void pci_read(const char *address, const char *file, char *text, size_t room)
{
	char path[128];
	ssize_t n;
	int fd;

	snprintf(path, sizeof(path), DEVICES "%s/%s", address, file);
	fd = open(path, O_RDONLY | O_CLOEXEC);
	n = fd < 0 ? 0 : read(fd, text, room - 1);
	if (fd >= 0)
		close(fd);
	text[n > 0 ? n : 0] = 0;
	text[strcspn(text, " \n")] = 0;
}

bool pci_find(const char *vendor, const char *device, char address[16])
{
	DIR *dir = opendir(DEVICES);
	bool found = false;
	struct dirent *d;
	char v[16], p[16];

	while (dir && !found && (d = readdir(dir))) {
		pci_read(d->d_name, "vendor", v, sizeof(v));
		pci_read(d->d_name, "device", p, sizeof(p));
		found = !strcmp(v, vendor) && !strcmp(p, device);
		if (found)
			snprintf(address, 16, "%.15s", d->d_name);
	}
	if (dir)
		closedir(dir);
	return found;
}

uint64_t pci_id(const char *address)
{
	unsigned int domain, bus, slot, fn;

	if (sscanf(address, "%x:%x:%x.%x", &domain, &bus, &slot, &fn) != 4)
		bail("%s is no address", address);
	return (uint64_t)domain << 16 | bus << 8 | slot << 3 | fn;
}

static int open_file(const char *address, const char *file)
{
	char path[128];

	snprintf(path, sizeof(path), DEVICES "%s/%s", address, file);
	return need(open(path, O_RDWR | O_CLOEXEC));
}

#define COMMAND_AT	4
#define COMMAND_MEMORY	0x2
#define COMMAND_MASTER	0x4

static uint16_t command(const char *address, uint16_t set)
{
	int fd = open_file(address, "config");
	uint16_t word;

	need(pread(fd, &word, sizeof(word), COMMAND_AT));
	if (set) {
		word |= set;
		need(pwrite(fd, &word, sizeof(word), COMMAND_AT));
	}
	close(fd);
	return word;
}

bool pci_is_master(const char *address)
{
	return command(address, 0) & COMMAND_MASTER;
}

/* ---- the engine ------------------------------------------------------------------- */

#define BAR_BYTES	(1UL << 20)
#define BUFFER		0x40000		/* its own memory, as the engine addresses it */

enum { ID = 0x00, SOURCE = 0x80, TARGET = 0x88, COUNT = 0x90, CONTROL = 0x98 };
enum { CONTROL_RUN = 1, CONTROL_TO_RAM = 2 };

void edu_start(struct edu *e)
{
	command(e->address, COMMAND_MEMORY | COMMAND_MASTER);
}

bool edu_open(struct edu *e)
{
	int fd;

	if (!pci_find(EDU_VENDOR, EDU_DEVICE, e->address))
		return false;
	e->id = pci_id(e->address);
	edu_start(e);
	fd = open_file(e->address, "resource0");
	e->bar = mmap(NULL, BAR_BYTES, PROT_READ | PROT_WRITE, MAP_SHARED, fd, 0);
	close(fd);
	if (e->bar == MAP_FAILED)
		bail("resource0 of %s", e->address);
	if ((*(volatile uint32_t *)(e->bar + ID) & 0xffff) != 0xed)
		bail("%s is no edu", e->address);
	return true;
}

void edu_close(struct edu *e)
{
	munmap((void *)e->bar, BAR_BYTES);
}

static void transfer(struct edu *e, uint64_t from, uint64_t to, uint32_t bytes, uint32_t control)
{
	*(volatile uint64_t *)(e->bar + SOURCE) = from;
	*(volatile uint64_t *)(e->bar + TARGET) = to;
	*(volatile uint64_t *)(e->bar + COUNT) = bytes;
	*(volatile uint64_t *)(e->bar + CONTROL) = control | CONTROL_RUN;
	while (*(volatile uint64_t *)(e->bar + CONTROL) & CONTROL_RUN)
		usleep(1000);
}

void edu_load(struct edu *e, uint64_t from, uint32_t bytes)
{
	transfer(e, from, BUFFER, bytes, 0);
}

void edu_store(struct edu *e, uint64_t to, uint32_t bytes)
{
	transfer(e, BUFFER, to, bytes, CONTROL_TO_RAM);
}

uint64_t physical(const volatile void *p)
{
	int fd = need(open("/proc/self/pagemap", O_RDONLY | O_CLOEXEC));
	uint64_t entry;

	/* Who tries to migrate it takes it away for a moment; a touch waits for that. */
	do {
		(void)*(const volatile uint8_t *)p;
		need(pread(fd, &entry, sizeof(entry), (uintptr_t)p / PAGE * sizeof(entry)));
	} while (!(entry >> 63));
	close(fd);
	if (!(entry & ((1ULL << 55) - 1)))
		bail("physical addresses are hidden");
	return (entry & ((1ULL << 55) - 1)) * PAGE + (uintptr_t)p % PAGE;
}
