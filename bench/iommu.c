// SPDX-License-Identifier: GPL-2.0-only
/*
 * Mapping 1 GiB (256 MiB where instructions are counted) for a device, and unmapping it: a domain of ours against VFIO's type 1,
 * the same device, in turns. Half of the rounds begin with ours, half with VFIO.
 *
 * huge: ours is a memory in blocks; the peer has hugetlbfs, the best there is for it. In
 *	 a remark: VFIO on our memory.
 * 4k:	 one memory for both, pages that were made in random order, so that the IOMMU
 *	 needs an entry for each.
 *
 * All pages exist before.
 */
#define _GNU_SOURCE
#include <dirent.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/ioctl.h>
#include <sys/mman.h>
#include <unistd.h>

#include <linux/vfio.h>

#include "bench.h"

#define IOVA	(4UL << 30)
#define ROUNDS	4		/* an even number */

static size_t bytes = 1UL << 30;	/* a quarter where instructions are counted: they are exact */

/* Under icount, as the test host says. */
static bool is_counted(void)
{
	const char *text = getenv("VMPLAT_ICOUNT");

	return text && *text;
}

/* ---- the device ------------------------------------------------------------------ */

static char address[32], group[32];

static void put(const char *path, const char *text)
{
	int fd = must(open(path, O_WRONLY | O_CLOEXEC));

	must(write(fd, text, strlen(text)));
	close(fd);
}

static bool has_id(const char *name)
{
	char path[512], text[32] = "";
	FILE *f;

	snprintf(path, sizeof(path), "/sys/bus/pci/devices/%s/device", name);
	f = fopen(path, "re");
	if (!f || !fgets(text, sizeof(text), f))
		text[0] = 0;
	if (f)
		fclose(f);
	return !strcmp(text, "0x11e8\n");	/* QEMU's edu */
}

/* With vfio-pci, as both want it: ours lets drivers be that do no DMA of their own. */
static void find_device(void)
{
	DIR *dir = opendir("/sys/bus/pci/devices");
	char path[512], link[512];
	struct dirent *d;
	ssize_t n;

	while (dir && !address[0] && (d = readdir(dir)))
		if (has_id(d->d_name))
			snprintf(address, sizeof(address), "%.31s", d->d_name);
	if (dir)
		closedir(dir);
	if (!address[0])
		die("no edu device");
	/* as the kernel does it: the test host has its modules elsewhere */
	if (system("$(cat /proc/sys/kernel/modprobe) vfio-pci && "
		   "$(cat /proc/sys/kernel/modprobe) vfio_iommu_type1"))
		die("vfio-pci and vfio_iommu_type1 cannot be loaded");
	snprintf(path, sizeof(path), "/sys/bus/pci/devices/%s/driver", address);
	if (access(path, F_OK)) {
		snprintf(path, sizeof(path), "/sys/bus/pci/devices/%s/driver_override", address);
		put(path, "vfio-pci");
		put("/sys/bus/pci/drivers_probe", address);
	}
	snprintf(path, sizeof(path), "/sys/bus/pci/devices/%s/iommu_group", address);
	n = must(readlink(path, link, sizeof(link) - 1));
	link[n] = 0;
	snprintf(group, sizeof(group), "%.31s", strrchr(link, '/') + 1);
}

/* ---- one round of each ------------------------------------------------------------- */

struct cost {
	double map, unmap;
};

static struct cost by_us(struct vmplat_mem *mem)
{
	struct vmplat_domain *domain;
	struct cost cost;
	uint64_t start;

	if (vmplat_domain_new(&domain, device()) || vmplat_domain_attach(domain, address, 0))
		die("%s", vmplat_last_error());
	start = now_ns();
	if (vmplat_domain_map(domain, IOVA, mem, 0, bytes,
			      VMPLAT_DOMAIN_MAP_F_READ | VMPLAT_DOMAIN_MAP_F_WRITE))
		die("%s", vmplat_last_error());
	cost.map = now_ns() - start;
	start = now_ns();
	if (vmplat_domain_unmap(domain, IOVA, bytes) != (int64_t)bytes)
		die("%s", vmplat_last_error());
	cost.unmap = now_ns() - start;
	vmplat_domain_close(domain);
	return cost;
}

static struct cost by_vfio(void *map)
{
	struct vfio_iommu_type1_dma_map in = {
		.argsz = sizeof(in), .flags = VFIO_DMA_MAP_FLAG_READ | VFIO_DMA_MAP_FLAG_WRITE,
		.vaddr = (uintptr_t)map, .iova = IOVA, .size = bytes,
	};
	struct vfio_iommu_type1_dma_unmap out = {
		.argsz = sizeof(out), .iova = IOVA, .size = bytes,
	};
	int container = must(open("/dev/vfio/vfio", O_RDWR | O_CLOEXEC)), fd;
	struct cost cost;
	uint64_t start;
	char path[64];

	snprintf(path, sizeof(path), "/dev/vfio/%s", group);
	fd = must(open(path, O_RDWR | O_CLOEXEC));
	must(ioctl(fd, VFIO_GROUP_SET_CONTAINER, &container));
	must(ioctl(container, VFIO_SET_IOMMU, VFIO_TYPE1v2_IOMMU));
	start = now_ns();
	must(ioctl(container, VFIO_IOMMU_MAP_DMA, &in));
	cost.map = now_ns() - start;
	start = now_ns();
	must(ioctl(container, VFIO_IOMMU_UNMAP_DMA, &out));
	cost.unmap = now_ns() - start;
	if (out.size != bytes)
		die("VFIO unmapped %llu bytes", (unsigned long long)out.size);
	close(fd);
	close(container);
	return cost;
}

/* ---- all rounds ---------------------------------------------------------------------- */

struct costs {
	double map[ROUNDS], unmap[ROUNDS];
};

static void keep(struct costs *all, int round, struct cost cost)
{
	all->map[round] = cost.map / 1e3;
	all->unmap[round] = cost.unmap / 1e3;
}

static void in_turns(struct vmplat_mem *mem, void *peer, struct costs *ours, struct costs *theirs)
{
	by_us(mem);		/* once to warm up */
	by_vfio(peer);
	for (int i = 0; i < ROUNDS; i++) {
		if (i % 2) {
			keep(theirs, i, by_vfio(peer));
			keep(ours, i, by_us(mem));
		} else {
			keep(ours, i, by_us(mem));
			keep(theirs, i, by_vfio(peer));
		}
	}
}

/* Each order by itself, to show that it makes no difference. */
static void note_orders(const char *name, const struct costs *ours, const struct costs *theirs)
{
	for (int first = 0; first < 2; first++) {
		double a[ROUNDS / 2], b[ROUNDS / 2];

		for (int i = 0; i < ROUNDS / 2; i++) {
			a[i] = ours->map[2 * i + first];
			b[i] = theirs->map[2 * i + first];
		}
		note("%s: %s first: map %.0f us, VFIO %.0f us, ratio %.1f", name,
		     first ? "VFIO" : "ours", median(a, ROUNDS / 2), median(b, ROUNDS / 2),
		     median(b, ROUNDS / 2) / median(a, ROUNDS / 2));
	}
}

static void show(const char *name, bool unmap, struct costs *ours, struct costs *theirs)
{
	if (!unmap)
		note_orders(name, ours, theirs);
	report(name, median(unmap ? ours->unmap : ours->map, ROUNDS),
	       median(unmap ? theirs->unmap : theirs->map, ROUNDS), "us", LESS);
}

static struct vmplat_mem *memory(uint32_t flags, void **map)
{
	struct vmplat_mem *mem = ours_new_kind(bytes, VMPLAT_MEM_F_PINNABLE | flags, map);

	if (!address[0])
		find_device();
	return mem;
}

/* One page after the other would be one piece of physical memory after the other. */
static void touch_in_disorder(volatile char *map)
{
	const size_t nr = bytes / PAGE;

	for (size_t i = 0; i < nr; i++)
		map[i * 40503 % nr * PAGE] = 1;		/* odd: each page once */
}

static void small(const char *name, bool unmap)
{
	struct costs ours, theirs;
	struct vmplat_mem *mem;
	void *map;

	mem = memory(0, &map);
	touch_in_disorder(map);
	in_turns(mem, map, &ours, &theirs);
	show(name, unmap, &ours, &theirs);
	munmap(map, bytes);
	vmplat_mem_close(mem);
}

static void *hugetlb(void)
{
	int fd;
	void *map;

	put("/proc/sys/vm/compact_memory", "1");
	put("/proc/sys/vm/nr_hugepages", is_counted() ? "128" : "512");
	fd = must(memfd_create("huge", MFD_CLOEXEC | MFD_HUGETLB));
	must(ftruncate(fd, bytes));
	map = mmap(NULL, bytes, PROT_READ | PROT_WRITE, MAP_SHARED | MAP_POPULATE, fd, 0);
	if (map == MAP_FAILED)
		die("huge pages");
	close(fd);
	return map;
}

static void huge(const char *name, bool unmap)
{
	struct costs ours, theirs;
	struct vmplat_mem *mem;
	void *map, *peer;
	struct cost same;

	mem = memory(VMPLAT_MEM_F_HUGE, &map);
	must(fallocate(vmplat_mem_fd(mem), FALLOC_FL_KEEP_SIZE, 0, bytes));
	peer = hugetlb();
	in_turns(mem, peer, &ours, &theirs);
	if (!unmap) {
		madvise(map, bytes, MADV_POPULATE_WRITE);
		same = by_vfio(map);
		note("%s: VFIO on our memory: %.0f us", name, same.map / 1e3);
	}
	show(name, unmap, &ours, &theirs);
	munmap(peer, bytes);
	put("/proc/sys/vm/nr_hugepages", "0");
	munmap(map, bytes);
	vmplat_mem_close(mem);
}

static void map_huge(const char *name) { huge(name, false); }
static void unmap_huge(const char *name) { huge(name, true); }
static void map_small(const char *name) { small(name, false); }
static void unmap_small(const char *name) { small(name, true); }

int main(int argc, char **argv)
{
	static const struct bench benches[] = {
		{ "iommu-map-huge-vs-vfio", map_huge },
		{ "iommu-unmap-huge-vs-vfio", unmap_huge },
		{ "iommu-map-4k-vs-vfio", map_small },
		{ "iommu-unmap-4k-vs-vfio", unmap_small },
		{ "iommu-map-huge-instructions", map_huge },
		{ "iommu-map-4k-instructions", map_small },
	};

	if (is_counted())
		bytes /= 4;
	return bench_main(argc, argv, benches, sizeof(benches) / sizeof(benches[0]));
}
