// SPDX-License-Identifier: GPL-2.0-only
/*
 * IOMMU domains as libvmplat has them: its sentences, and the events that come meanwhile.
 * What needs a device is done with QEMU's edu.
 */
#include <unistd.h>

#include "domain/edu.h"
#include "event/expect.h"

#define NR	8
#define LIMIT	"/sys/module/vmplat/parameters/domain_mappings"

static struct vmplat *dev;
static struct vmplat_mem *mem;
static struct vmplat_domain *domain;
static struct edu edu;

static bool says(const char *text)
{
	bool held = strstr(vmplat_last_error(), text);

	if (!held)
		diag("%s", vmplat_last_error());
	return held;
}

static bool map(uint64_t iova, uint64_t offset, uint64_t bytes)
{
	return !vmplat_domain_map(domain, iova, mem, offset, bytes, RW);
}

static void make(void)
{
	if (vmplat_mem_new(&mem, dev, NR * PAGE, VMPLAT_MEM_F_PINNABLE) ||
	    vmplat_domain_new(&domain, dev))
		bail("%s", vmplat_last_error());
	comes(VMPLAT_CLASS_DOMAIN, VMPLAT_ACTION_ADD, "a domain");
}

static void mappings(void)
{
	struct vmplat_domain_query q;
	struct vmplat_domain_status st;
	uint64_t id, at = 0;
	int nr = 0;

	id = last.id;
	ok(!vmplat_domain_query(domain, &st) && st.out_id == id, "its status has the id of its events");
	ok(map(0, 0, 2 * PAGE) && map(4 * PAGE, 0, PAGE), "two mappings");
	quiet("a mapping is no event");
	ok(!map(PAGE, 0, PAGE) && says("something is mapped there"), "an overlap is named");
	ok(!map(1, 0, PAGE) && says("multiples of the page size"), "so is what is not aligned");
	ok(!map(8 * PAGE, 0, (NR + 1) * PAGE) && says("beyond the end"), "and what is too much");
	while (vmplat_domain_next(domain, at, &q) == 1) {
		nr++;
		at = q.out_iova + q.out_bytes;
	}
	is_int(nr, 2, "they are listed");
	is_int(vmplat_domain_unmap(domain, 0, PAGE), -EINVAL, "one is not cut");
	is_int(vmplat_domain_unmap(domain, 0, 2 * PAGE), 2 * PAGE, "but unmapped whole");
	is_int(vmplat_domain_unmap_all(domain), PAGE, "and the rest");

	need(poke(LIMIT, "4"));
	ok(map(0, 0, PAGE) && map(PAGE, 0, PAGE), "two of four");
	quiet("are no event");
	ok(map(2 * PAGE, 0, PAGE), "the third");
	comes(VMPLAT_CLASS_DOMAIN, VMPLAT_ACTION_MAPPINGS_HIGH, "is told");
	ok(last.id == id && last.has[VMPLAT_NL_DOMAIN_MAPPINGS_HIGH], "of this domain");
	ok(map(3 * PAGE, 0, PAGE), "the last");
	ok(!map(4 * PAGE, 0, PAGE) && says("domain_mappings"), "a fifth is refused, with what to change");
	quiet("once is enough");
	ok(vmplat_domain_unmap(domain, 0, PAGE) == PAGE, "one goes");
	quiet("which is not far below");
	ok(vmplat_domain_unmap(domain, PAGE, PAGE) == PAGE, "another");
	comes(VMPLAT_CLASS_DOMAIN, VMPLAT_ACTION_CHANGE, "is told");
	ok(!last.has[VMPLAT_NL_DOMAIN_MAPPINGS_HIGH], "half of them are left");
	need(poke(LIMIT, "65535"));
	vmplat_domain_unmap_all(domain);
}

static void device(void)
{
	struct vmplat_domain_region regions[32];
	struct vmplat_domain *other;
	char taken[16];

	/* Where interrupts are isolated no flag is needed; where not, that is said. */
	if (vmplat_domain_attach(domain, edu.address, 0)) {
		ok(says("interrupt"), "interrupts that are not isolated are named");
		if (vmplat_domain_attach(domain, edu.address, VMPLAT_DOMAIN_ATTACH_F_UNSAFE_INTERRUPTS))
			bail("%s", vmplat_last_error());
	}
	comes(VMPLAT_CLASS_DOMAIN, VMPLAT_ACTION_ATTACH, "a device is attached");
	ok(last.has[VMPLAT_NL_DOMAIN_GROUP] && !last.has[VMPLAT_NL_DOMAIN_QUARANTINED],
	   "its group is told");
	ok(vmplat_domain_attach(domain, edu.address, VMPLAT_DOMAIN_ATTACH_F_UNSAFE_INTERRUPTS) ==
	   -EALREADY && says("already"), "a second time is refused");
	ok(vmplat_domain_reserved(domain, regions, 32) > 0, "it has reserved regions");
	ok(vmplat_domain_reserved(domain, regions, 0) == -EMSGSIZE, "for which there must be room");
	ok(!map(0xfee00000, 0, PAGE) && says("reserved"), "where nothing is mapped");
	if (vmplat_domain_new(&other, dev))
		bail("%s", vmplat_last_error());
	comes(VMPLAT_CLASS_DOMAIN, VMPLAT_ACTION_ADD, "another domain");
	ok(vmplat_domain_attach(other, edu.address, VMPLAT_DOMAIN_ATTACH_F_UNSAFE_INTERRUPTS) == -EBUSY &&
	   says("another domain has"), "cannot have it");
	if (pci_find("0x1af4", "0x1049", taken) || pci_find("0x1af4", "0x1009", taken))
		ok(vmplat_domain_attach(other, taken, VMPLAT_DOMAIN_ATTACH_F_UNSAFE_INTERRUPTS) == -EBUSY &&
		   says("virtio-pci") && says(taken), "nor what a driver has, which is named");
	ok(vmplat_domain_attach(other, "0000:00:1f", 0) == -EINVAL && says("DDDD:BB:SS.F"),
	   "nor what is no address");
	ok(vmplat_domain_attach(other, "ffff:ff:1f.7", 0) == -ENODEV, "nor what is not there");
	quiet("what fails is no event");
	vmplat_domain_close(other);
	comes(VMPLAT_CLASS_DOMAIN, VMPLAT_ACTION_REMOVE, "it is closed");

	ok(!vmplat_domain_detach(domain, edu.address, 0), "detached");
	comes(VMPLAT_CLASS_DOMAIN, VMPLAT_ACTION_DETACH, "which is told");
	ok(!last.has[VMPLAT_NL_DOMAIN_GROUP] && last.has[VMPLAT_NL_DOMAIN_QUARANTINED],
	   "it is in quarantine");
	ok(!vmplat_domain_detach(domain, edu.address, VMPLAT_DOMAIN_DETACH_F_RELEASE), "released");
	comes(VMPLAT_CLASS_DOMAIN, VMPLAT_ACTION_DETACH, "which is told");
	ok(!last.has[VMPLAT_NL_DOMAIN_QUARANTINED], "it is free");
	ok(vmplat_domain_detach(domain, edu.address, 0) == -ENOENT && says("does not have it"),
	   "no more than that");
}

int main(void)
{
	static const struct vmplat_event_filter filter = { .classes = 1U << VMPLAT_CLASS_DOMAIN |
								      1U << VMPLAT_CLASS_VM };

	if (vmplat_open(&dev, NULL))
		bail("%s", vmplat_last_error());
	expect_open(dev, &filter);
	make();
	mappings();
	if (pci_find(EDU_VENDOR, EDU_DEVICE, edu.address))
		device();
	else
		skip("no edu device");
	vmplat_domain_close(domain);
	comes(VMPLAT_CLASS_DOMAIN, VMPLAT_ACTION_REMOVE, "the domain is closed");
	vmplat_mem_close(mem);
	expect_close();
	vmplat_close(dev);
	return done();
}
