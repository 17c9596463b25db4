// SPDX-License-Identifier: LGPL-2.1-or-later
/* IOMMU domains: what devices see of memories. */
#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <unistd.h>

#include "lib.h"

static const char *prot_text(uint32_t prot)
{
	static const char *const words[] = { "nothing", "reading", "writing", "reading and writing" };

	return words[prot & (VMPLAT_DOMAIN_MAP_F_READ | VMPLAT_DOMAIN_MAP_F_WRITE)];
}

API int vmplat_domain_new(struct vmplat_domain **out, struct vmplat *dev)
{
	struct vmplat_domain_create arg = { .size = sizeof(arg), .out_fd = -1 };
	struct vmplat_domain *domain;
	int rc;

	*out = NULL;
	domain = malloc(sizeof(*domain));
	if (!domain)
		return lib_error(-ENOMEM, "out of memory");
	rc = lib_ioctl(dev->fd, VMPLAT_DOMAIN_CREATE, &arg);
	if (rc) {
		free(domain);
		return lib_error(rc, "cannot create an IOMMU domain: %s", lib_reason(rc));
	}
	domain->fd = arg.out_fd;
	*out = domain;
	return 0;
}

API int vmplat_domain_from_fd(struct vmplat_domain **out, int fd)
{
	struct vmplat_domain_status st = { .size = sizeof(st) };
	struct vmplat_domain *domain;
	int rc;

	*out = NULL;
	rc = lib_ioctl(fd, VMPLAT_DOMAIN_STATUS, &st);
	if (rc)
		return lib_error(rc, "descriptor %d is not an IOMMU domain: %s", fd, strerror(-rc));
	domain = malloc(sizeof(*domain));
	if (!domain)
		return lib_error(-ENOMEM, "out of memory");
	domain->fd = fd;
	*out = domain;
	return 0;
}

API void vmplat_domain_close(struct vmplat_domain *domain)
{
	if (!domain)
		return;
	close(domain->fd);
	free(domain);
}

API int vmplat_domain_fd(const struct vmplat_domain *domain)
{
	return domain->fd;
}

/* ---- devices ------------------------------------------------------------------- */

static int parse_address(const char *address, uint64_t *function)
{
	unsigned int domain, bus, slot, fn;
	char rest;

	if (sscanf(address, "%8x:%2x:%2x.%1x%c", &domain, &bus, &slot, &fn, &rest) != 4 ||
	    domain > 0xffff || slot > 0x1f || fn > 7)
		return lib_error(-EINVAL, "%s: not the address of a PCI function, DDDD:BB:SS.F",
				 address);
	*function = (uint64_t)domain << 16 | bus << 8 | slot << 3 | fn;
	return 0;
}

static int attach_error(int rc, const char *address, const struct vmplat_domain_attach *arg)
{
	switch (arg->out_why) {
	case VMPLAT_DOMAIN_WHY_DRIVER:
		return lib_error(rc, "cannot attach %s: %04x:%02x:%02x.%x of its IOMMU group %u is "
				 "bound to the driver %.32s; take it with \"vmplat claim take\"",
				 address, (unsigned int)(arg->out_blocker >> 16),
				 (unsigned int)(arg->out_blocker >> 8 & 0xff),
				 (unsigned int)(arg->out_blocker >> 3 & 0x1f),
				 (unsigned int)(arg->out_blocker & 7), arg->out_group,
				 (const char *)arg->out_driver);
	case VMPLAT_DOMAIN_WHY_OWNED:
		return lib_error(rc, "cannot attach %s: a VFIO user or another domain has its "
				 "IOMMU group %u", address, arg->out_group);
	case VMPLAT_DOMAIN_WHY_INTERRUPTS:
		return lib_error(rc, "cannot attach %s: this host does not isolate interrupts, so "
				 "the device could raise any of the host's; switch interrupt "
				 "remapping on, or allow it explicitly", address);
	case VMPLAT_DOMAIN_WHY_COHERENCE:
		return lib_error(rc, "cannot attach %s: its DMA would not see the CPUs' caches",
				 address);
	case VMPLAT_DOMAIN_WHY_FIRMWARE:
		return lib_error(rc, "cannot attach %s: the firmware shares memory with IOMMU group "
				 "%u, which cannot be taken from it", address, arg->out_group);
	case VMPLAT_DOMAIN_WHY_IOMMU:
		return lib_error(rc, "cannot attach %s: it is behind an IOMMU that the domain's page "
				 "table is not for; make another domain", address);
	case VMPLAT_DOMAIN_WHY_RESERVED:
		return lib_error(rc, "cannot attach %s: something is mapped at an address that is "
				 "reserved for IOMMU group %u", address, arg->out_group);
	}
	switch (-rc) {
	case EPERM:
		return lib_error(rc, "cannot attach %s: that needs CAP_SYS_ADMIN", address);
	case ENODEV:
		return lib_error(rc, "cannot attach %s: there is no such PCI function", address);
	case ENXIO:
		return lib_error(rc, "cannot attach %s: it is behind no IOMMU; see \"vmplat iommu "
				 "show\"", address);
	case EALREADY:
		return lib_error(rc, "cannot attach %s: it is, already", address);
	case ENOSPC:
		return lib_error(rc, "cannot attach %s: the domain has %d groups", address,
				 VMPLAT_DOMAIN_MAX_GROUPS);
	default:
		return lib_error(rc, "cannot attach %s: %s", address, lib_reason(rc));
	}
}

API int vmplat_domain_attach(struct vmplat_domain *domain, const char *address, uint32_t flags)
{
	struct vmplat_domain_attach arg = { .size = sizeof(arg), .flags = flags };
	uint64_t function;
	int rc = parse_address(address, &function);

	if (rc)
		return rc;
	arg.function = function;
	rc = lib_ioctl(domain->fd, VMPLAT_DOMAIN_ATTACH, &arg);
	return rc ? attach_error(rc, address, &arg) : 0;
}

API int vmplat_domain_detach(struct vmplat_domain *domain, const char *address, uint32_t flags)
{
	struct vmplat_domain_detach arg = { .size = sizeof(arg), .flags = flags };
	uint64_t function;
	int rc = parse_address(address, &function);

	if (rc)
		return rc;
	arg.function = function;
	rc = lib_ioctl(domain->fd, VMPLAT_DOMAIN_DETACH, &arg);
	switch (-rc) {
	case 0:
		return 0;
	case ENOENT:
		return lib_error(rc, "cannot detach %s: the domain does not have it", address);
	case EALREADY:
		return lib_error(rc, "cannot detach %s: it is in quarantine already", address);
	case ENODEV:
		return lib_error(rc, "cannot detach %s: there is no such PCI function", address);
	default:
		return lib_error(rc, "cannot detach %s: %s", address, lib_reason(rc));
	}
}

/* ---- mappings -------------------------------------------------------------------- */

static int map_error(int rc, const struct vmplat_domain_map *arg)
{
	const char *why;

	switch (-rc) {
	case EINVAL:
		why = "address, offset and length must be multiples of the page size, and "
		      "something must be allowed";
		break;
	case EOPNOTSUPP:
		why = "the memory is not pinnable (VMPLAT_MEM_F_PINNABLE)";
		break;
	case EEXIST:
		why = "something is mapped there";
		break;
	case EADDRNOTAVAIL:
		why = "addresses there are reserved, or beyond what the IOMMU can address";
		break;
	case EDQUOT:
		why = "over RLIMIT_MEMLOCK (ulimit -l)";
		break;
	case ENOSPC:
		why = "the domain has as many mappings as the module parameter domain_mappings "
		      "allows, or the vmplatfs is full";
		break;
	case EOVERFLOW:
		why = "the range runs past 2^64";
		break;
	case EIO:
		why = "pages are missing and their filler is gone";
		break;
	default:
		why = lib_reason(rc);
	}
	return lib_error(rc, "cannot map %" PRIu64 " bytes at %#" PRIx64 " for %s: %s",
			 (uint64_t)arg->bytes, (uint64_t)arg->iova, prot_text(arg->flags), why);
}

API int vmplat_domain_map(struct vmplat_domain *domain, uint64_t iova, struct vmplat_mem *mem,
			  uint64_t offset, uint64_t bytes, uint32_t prot)
{
	struct vmplat_domain_map arg = {
		.size = sizeof(arg), .flags = prot, .mem_fd = mem->fd, .iova = iova,
		.mem_offset = offset, .bytes = bytes,
	};
	int rc = lib_ioctl(domain->fd, VMPLAT_DOMAIN_MAP, &arg);

	return rc ? map_error(rc, &arg) : 0;
}

static int64_t unmap(struct vmplat_domain *domain, struct vmplat_domain_unmap *arg)
{
	int rc;

	arg->size = sizeof(*arg);
	rc = lib_ioctl(domain->fd, VMPLAT_DOMAIN_UNMAP, arg);
	switch (-rc) {
	case 0:
		return arg->out_bytes;
	case EINVAL:
		return lib_error(rc, "cannot unmap %" PRIu64 " bytes at %#" PRIx64 ": that would cut "
				 "a mapping, or is no multiple of the page size",
				 (uint64_t)arg->bytes, (uint64_t)arg->iova);
	case ENOENT:
		return lib_error(rc, "cannot unmap %" PRIu64 " bytes at %#" PRIx64 ": nothing is "
				 "mapped there", (uint64_t)arg->bytes, (uint64_t)arg->iova);
	default:
		return lib_error(rc, "cannot unmap: %s", lib_reason(rc));
	}
}

API int64_t vmplat_domain_unmap(struct vmplat_domain *domain, uint64_t iova, uint64_t bytes)
{
	struct vmplat_domain_unmap arg = { .iova = iova, .bytes = bytes };

	return unmap(domain, &arg);
}

API int64_t vmplat_domain_unmap_all(struct vmplat_domain *domain)
{
	struct vmplat_domain_unmap arg = { .flags = VMPLAT_DOMAIN_UNMAP_F_ALL };

	return unmap(domain, &arg);
}

API int vmplat_domain_next(struct vmplat_domain *domain, uint64_t iova,
			   struct vmplat_domain_query *mapping)
{
	int rc;

	*mapping = (struct vmplat_domain_query) { .size = sizeof(*mapping), .iova = iova };
	rc = lib_ioctl(domain->fd, VMPLAT_DOMAIN_QUERY, mapping);
	if (rc == -ENOENT)
		return 0;
	return rc ? lib_error(rc, "cannot list mappings: %s", lib_reason(rc)) : 1;
}

/* ---- the rest -------------------------------------------------------------------- */

API int64_t vmplat_domain_reserved(struct vmplat_domain *domain,
				   struct vmplat_domain_region *regions, size_t nr)
{
	struct vmplat_domain_regions arg = {
		.size = sizeof(arg), .buf = (uintptr_t)regions, .nr = nr > UINT32_MAX ? UINT32_MAX : nr,
	};
	int rc = lib_ioctl(domain->fd, VMPLAT_DOMAIN_REGIONS, &arg);

	if (rc == -EMSGSIZE)
		return lib_error(rc, "there are %u reserved regions, more than the %zu asked for",
				 arg.out_nr, nr);
	return rc ? lib_error(rc, "cannot list reserved regions: %s", lib_reason(rc)) :
		    (int64_t)arg.out_nr;
}

API int vmplat_domain_query(struct vmplat_domain *domain, struct vmplat_domain_status *st)
{
	int rc;

	*st = (struct vmplat_domain_status) { .size = sizeof(*st) };
	rc = lib_ioctl(domain->fd, VMPLAT_DOMAIN_STATUS, st);
	return rc ? lib_error(rc, "cannot ask how the domain stands: %s", lib_reason(rc)) : 0;
}
