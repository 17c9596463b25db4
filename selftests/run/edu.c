// SPDX-License-Identifier: GPL-2.0-only
/*
 * Drives QEMU's "edu" inside a guest that was given it: registers, DMA both ways, interrupts
 * of both kinds.
 *
 *	edu [ABOVE]	what works as TAP; exit status 0: all of it
 *
 * DMA reaches pages at ABOVE, an address, and higher.
 * An MSI is sent to a vector of the guest's kernel that does nothing but count in
 * /proc/interrupts, of KVM's posted interrupts. INTx goes through uio_pci_generic.
 */
#include <errno.h>
#include <fcntl.h>
#include <poll.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <unistd.h>

#include <linux/pci_regs.h>

#include "domain/edu.h"

#define PCI		"/sys/bus/pci/"
#define COUNTER		"PIN:"
#define VECTOR		0xf2u		/* POSTED_INTR_VECTOR */
#define MSI_CPU(apic)	(0xfee00000u | (apic) << 12)
#define ROUNDS		5
#define PATIENCE_MS	120000

enum { ID = 0x00, INVERT = 0x04, FACTORIAL = 0x08, STATUS = 0x20, IRQ_STATUS = 0x24, IRQ_RAISE = 0x60, IRQ_ACK = 0x64 };

#define TRIES		30000		/* pages until one is high enough */

static struct edu edu;
static int config;
static uint64_t above;

static uint32_t r32(unsigned int reg)
{
	return *(volatile uint32_t *)(edu.bar + reg);
}

static void w32(unsigned int reg, uint32_t val)
{
	*(volatile uint32_t *)(edu.bar + reg) = val;
}

static uint16_t cfg16(unsigned int at)
{
	uint16_t val;

	need(pread(config, &val, sizeof(val), at));
	return val;
}

static void cfg_put(unsigned int at, uint32_t val, unsigned int len)
{
	need(pwrite(config, &val, len, at));
}

static void test_registers(void)
{
	is_int(r32(ID) & 0xffff, 0xed, "its BAR is there: the device says who it is");
	w32(INVERT, 0x12345678);
	is_int(r32(INVERT), (uint32_t)~0x12345678, "it is alive");
	w32(FACTORIAL, 10);
	while (r32(STATUS) & 1)
		usleep(1000);
	is_int(r32(FACTORIAL), 3628800, "and computes");
}

/* ---- DMA --------------------------------------------------------------------------- */

/* What is not high enough stays allocated: otherwise it would come again. */
static uint8_t *page(uint8_t fill)
{
	for (unsigned int i = 0; i < TRIES; i++) {
		uint8_t *p = mmap(NULL, PAGE, PROT_READ | PROT_WRITE,
				  MAP_PRIVATE | MAP_ANONYMOUS | MAP_LOCKED | MAP_POPULATE, -1, 0);

		if (p == MAP_FAILED)
			bail("a page: %s", strerror(errno));
		memset(p, fill, PAGE);
		if (physical(p) >= above)
			return p;
	}
	bail("no page at 0x%llx or above", (unsigned long long)above);
}

static void test_dma(void)
{
	uint16_t command = cfg16(PCI_COMMAND);
	unsigned int wrong = 0;
	uint8_t *a = page(0), *b = page(0xee);

	for (unsigned int i = 0; i < ROUNDS; i++) {
		for (unsigned int k = 0; k < PAGE; k++)
			a[k] = (uint8_t)(k * 7 + i);
		edu_load(&edu, physical(a), PAGE);
		edu_store(&edu, physical(b), PAGE);
		wrong += memcmp(a, b, PAGE) != 0;
	}
	is_int(wrong, 0, "it reads the guest's memory, and writes to it, where the guest says");
	memset(b, 0xee, PAGE);
	cfg_put(PCI_COMMAND, command & ~PCI_COMMAND_MASTER, 2);
	edu_store(&edu, physical(b), PAGE);
	is_int(b[100], 0xee, "not while the guest has its DMA turned off");
	cfg_put(PCI_COMMAND, command | PCI_COMMAND_MASTER, 2);
	edu_store(&edu, physical(b), PAGE);
	is_int(memcmp(a, b, PAGE), 0, "and again when it is on");
}

/* ---- MSI ----------------------------------------------------------------------------- */

/* how often the vector came to @cpu */
static unsigned long counted(unsigned int cpu)
{
	char line[4096], *at = NULL;
	FILE *f = fopen("/proc/interrupts", "re");
	unsigned long n = 0;

	while (f && !at && fgets(line, sizeof(line), f))
		at = strstr(line, COUNTER);
	if (!at)
		bail("/proc/interrupts has no " COUNTER);
	fclose(f);
	at += strlen(COUNTER);
	for (unsigned int i = 0; i <= cpu; i++)
		n = strtoul(at, &at, 10);
	return n;
}

static unsigned int find_cap(uint8_t id)
{
	unsigned int at = cfg16(PCI_CAPABILITY_LIST) & 0xfc;

	while (at && (cfg16(at) & 0xff) != id)
		at = cfg16(at) >> 8 & 0xfc;
	return at;
}

/* 64-bit, as edu has it; enabled */
static void set_msi(unsigned int at, uint32_t addr, uint32_t data)
{
	cfg_put(at + PCI_MSI_ADDRESS_LO, addr, 4);
	cfg_put(at + PCI_MSI_ADDRESS_HI, 0, 4);
	cfg_put(at + PCI_MSI_DATA_64, data, 2);
	cfg_put(at + PCI_MSI_FLAGS, cfg16(at + PCI_MSI_FLAGS) | PCI_MSI_FLAGS_ENABLE, 2);
}

static void raise_msi(unsigned int cpu)
{
	unsigned long before = counted(cpu);

	w32(IRQ_RAISE, 1);
	for (int ms = 0; ms < PATIENCE_MS && counted(cpu) == before; ms++)
		usleep(1000);
	w32(IRQ_ACK, 1);
}

static void test_msi(unsigned int at, unsigned int cpu)
{
	unsigned long before = counted(cpu);

	set_msi(at, MSI_CPU(cpu), VECTOR);
	for (unsigned int i = 0; i < ROUNDS; i++)
		raise_msi(cpu);
	is_int(counted(cpu) - before, ROUNDS, "each MSI comes, once, to CPU %u", cpu);
}

/* ---- INTx ------------------------------------------------------------------------------ */

static void write_file(const char *path, const char *text)
{
	int fd = open(path, O_WRONLY | O_CLOEXEC);

	if (fd < 0 || write(fd, text, strlen(text)) < 0)
		bail("%s: %s", path, strerror(errno));
	close(fd);
}

static bool rings(int uio)
{
	struct pollfd p = { .fd = uio, .events = POLLIN };
	uint32_t n;

	return poll(&p, 1, PATIENCE_MS) == 1 && read(uio, &n, sizeof(n)) == sizeof(n);
}

static void test_intx(void)
{
	char path[128];
	unsigned int came = 0;
	uint16_t command;
	int uio;

	snprintf(path, sizeof(path), PCI "devices/%s/driver_override", edu.address);
	write_file(path, "uio_pci_generic");
	write_file(PCI "drivers_probe", edu.address);
	uio = need(open("/dev/uio0", O_RDONLY | O_CLOEXEC));
	command = cfg16(PCI_COMMAND) & ~PCI_COMMAND_INTX_DISABLE;
	for (unsigned int i = 1; i <= ROUNDS; i++) {
		cfg_put(PCI_COMMAND, command, 2);
		w32(IRQ_RAISE, i);
		came += rings(uio) && r32(IRQ_STATUS) == i && cfg16(PCI_COMMAND) & PCI_COMMAND_INTX_DISABLE;
		w32(IRQ_ACK, i);
	}
	is_int(came, ROUNDS, "each INTx comes, and can be masked");
	close(uio);
	snprintf(path, sizeof(path), PCI "devices/%s/driver_override", edu.address);
	write_file(path, "\n");
	snprintf(path, sizeof(path), PCI "devices/%s/driver/unbind", edu.address);
	write_file(path, edu.address);
}

int main(int argc, char **argv)
{
	char path[128];
	unsigned int msi;

	above = argc > 1 ? strtoull(argv[1], NULL, 0) : 0;
	if (!edu_open(&edu))
		bail("the guest has no edu");
	snprintf(path, sizeof(path), PCI "devices/%s/config", edu.address);
	config = need(open(path, O_RDWR | O_CLOEXEC));
	test_registers();
	test_dma();
	msi = find_cap(PCI_CAP_ID_MSI);
	if (!msi)
		bail("there is no MSI");
	test_msi(msi, 0);
	test_msi(msi, 1);
	cfg_put(msi + PCI_MSI_FLAGS, cfg16(msi + PCI_MSI_FLAGS) & ~PCI_MSI_FLAGS_ENABLE, 2);
	test_intx();
	edu_start(&edu);
	test_msi(msi, 0);
	edu_close(&edu);
	return done();
}
