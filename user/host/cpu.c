// SPDX-License-Identifier: LGPL-2.1-or-later
/* Processors: what they are, how they hang together, what they leak. */
#include <stdio.h>
#include <stdlib.h>

#include "host/host.h"

#define CPUS "devices/system/cpu"

/* ---- /proc/cpuinfo: its first processor -------------------------------------- */

/* the value behind "name	: " in the first stanza, or NULL */
static const char *info_field(struct vmplat_host *host, const char *info, const char *name)
{
	size_t n = strlen(name);
	const char *line, *end;

	for (line = info; line && *line && *line != '\n'; line = end ? end + 1 : NULL) {
		const char *s = line + n;

		end = strchr(line, '\n');
		if (strncmp(line, name, n))
			continue;
		s += strspn(s, " \t");
		if (*s != ':')
			continue;
		s++;
		s += strspn(s, " \t");
		return dev_strdup(host->devs, s, strcspn(s, "\n"));
	}
	return NULL;
}

static int info_number(struct vmplat_host *host, const char *info, const char *name)
{
	const char *text = info_field(host, info, name);
	char *end;
	long v;

	if (!text)
		return -1;
	v = strtol(text, &end, 10);
	return end == text || v < 0 || v > 0xffff ? -1 : (int)v;
}

/* The kernel's names. EPT is among "vmx flags", which hold what VMX can do. */
static const char *const flags_known[] = {
	"vmx", "ept", "vpid", "svm", "npt", "avic", "x2apic", "constant_tsc", "nonstop_tsc",
	"tsc_deadline_timer", "pdpe1gb", "la57", "pcid", "smep", "smap", "sme", "sev", "sev_es",
	"sev_snp", "tdx_host_platform", "hypervisor",
};
#define NR_FLAGS (sizeof(flags_known) / sizeof(flags_known[0]))

static void read_flags(struct vmplat_host *host, const char *info)
{
	struct vmplat_host_flag *flags = dev_alloc(host->devs, NR_FLAGS * sizeof(*flags));
	const char *words = info_field(host, info, "flags");
	const char *vmx = info_field(host, info, "vmx flags");
	struct vmplat_host_cpu *cpu = &host->facts.cpu;

	if (!flags)
		return;
	for (size_t i = 0; i < NR_FLAGS; i++) {
		flags[i].name = flags_known[i];
		flags[i].have = host_has_word(words, flags_known[i]) || host_has_word(vmx, flags_known[i]);
	}
	cpu->flags = flags;
	cpu->nr_flags = NR_FLAGS;
	cpu->vmx = host_has_word(words, "vmx");
	cpu->svm = host_has_word(words, "svm");
	cpu->nested_paging = host_has_word(vmx, "ept") || host_has_word(words, "ept") ||
			     host_has_word(words, "npt");
	host->facts.guest = host_has_word(words, "hypervisor");
}

static void read_identity(struct vmplat_host *host)
{
	const char *info = dev_text(host->devs, host->devs->proc_fd, "cpuinfo");
	struct vmplat_host_cpu *cpu = &host->facts.cpu;

	cpu->vendor = info_field(host, info, "vendor_id");
	cpu->model_name = info_field(host, info, "model name");
	cpu->family = info_number(host, info, "cpu family");
	cpu->model = info_number(host, info, "model");
	cpu->stepping = info_number(host, info, "stepping");
	read_flags(host, info);
}

/* ---- topology ------------------------------------------------------------ */

/* is @cpu the first of a list such as "0-3,8"? */
static bool leads(const char *list, unsigned int cpu)
{
	char *end;

	return list && strtoul(list, &end, 10) == cpu && end != list;
}

static uint64_t cache_bytes(const char *text)
{
	char *end;
	uint64_t v = text ? strtoull(text, &end, 10) : 0;

	if (v && *end == 'K')
		v <<= 10;
	else if (v && *end == 'M')
		v <<= 20;
	return v;
}

static void add_cache(struct vmplat_host *host, struct dev_list *list,
		      const struct vmplat_host_cache *cache)
{
	struct vmplat_host_cache *have = list->items;

	for (size_t i = 0; i < list->nr; i++) {
		if (have[i].level == cache->level && have[i].bytes == cache->bytes &&
		    !strcmp(have[i].type, cache->type)) {
			have[i].count++;
			return;
		}
	}
	dev_append(host->devs, list, cache, sizeof(*cache));
}

/* Each cache is counted at the first of the processors that share it. */
static void read_caches(struct vmplat_host *host, unsigned int cpu, struct dev_list *list)
{
	struct vmplat_devs *devs = host->devs;
	struct dev_names names = dev_list_dir(devs, devs->sys_fd, CPUS "/cpu%u/cache", cpu);

	for (size_t i = 0; i < names.nr; i++) {
		struct vmplat_host_cache cache = { .count = 1 };
		const char *name = names.names[i];
		uint64_t level;

		if (strncmp(name, "index", 5) ||
		    !leads(dev_text(devs, devs->sys_fd, CPUS "/cpu%u/cache/%s/shared_cpu_list",
				    cpu, name), cpu) ||
		    !dev_number(devs, &level, devs->sys_fd, CPUS "/cpu%u/cache/%s/level", cpu, name))
			continue;
		cache.level = level;
		cache.type = dev_text(devs, devs->sys_fd, CPUS "/cpu%u/cache/%s/type", cpu, name);
		cache.bytes = cache_bytes(dev_text(devs, devs->sys_fd, CPUS "/cpu%u/cache/%s/size",
						   cpu, name));
		if (cache.type && cache.bytes)
			add_cache(host, list, &cache);
	}
}

/* A processor that is offline has no topology. */
static void read_topology(struct vmplat_host *host)
{
	struct vmplat_devs *devs = host->devs;
	struct dev_names names = dev_list_dir(devs, devs->sys_fd, CPUS);
	struct vmplat_host_cpu *cpu = &host->facts.cpu;
	struct dev_list caches = { };

	for (size_t i = 0; i < names.nr; i++) {
		const char *cores, *packages;
		unsigned int n;
		int at = 0;

		if (sscanf(names.names[i], "cpu%u%n", &n, &at) != 1 || names.names[i][at])
			continue;
		cores = dev_text(devs, devs->sys_fd, CPUS "/cpu%u/topology/core_cpus_list", n);
		packages = dev_text(devs, devs->sys_fd, CPUS "/cpu%u/topology/package_cpus_list", n);
		if (!cores || !packages)
			continue;
		cpu->threads++;
		cpu->cores += leads(cores, n);
		cpu->packages += leads(packages, n);
		read_caches(host, n, &caches);
	}
	cpu->caches = caches.items;
	cpu->nr_caches = caches.nr;
	cpu->smt = dev_text(devs, devs->sys_fd, CPUS "/smt/control");
}

/* ---- vulnerabilities ----------------------------------------------------------- */

/*
 * Texts begin with the state; what comes behind a mitigation may take part of it back:
 * "Mitigation: PTE Inversion; VMX: conditional cache flushes, SMT vulnerable". "KVM: " in front
 * says whom it concerns.
 */
static enum vmplat_host_exposure exposure_of(const char *text)
{
	if (!strncmp(text, "KVM: ", 5))
		text += 5;
	if (!strncmp(text, "Not affected", 12))
		return VMPLAT_EXPOSURE_NONE;
	if (!strncmp(text, "Vulnerable", 10))
		return VMPLAT_EXPOSURE_VULNERABLE;
	if (strncmp(text, "Mitigation", 10))
		return VMPLAT_EXPOSURE_UNKNOWN;
	return strcasestr(text, "vulnerable") ? VMPLAT_EXPOSURE_PARTLY : VMPLAT_EXPOSURE_MITIGATED;
}

static void read_vulnerabilities(struct vmplat_host *host)
{
	struct vmplat_devs *devs = host->devs;
	struct dev_names names = dev_list_dir(devs, devs->sys_fd, CPUS "/vulnerabilities");
	struct dev_list list = { };

	for (size_t i = 0; i < names.nr; i++) {
		struct vmplat_host_vulnerability v = { .name = names.names[i] };

		v.text = dev_text(devs, devs->sys_fd, CPUS "/vulnerabilities/%s", v.name);
		if (!v.text)
			continue;
		v.exposure = exposure_of(v.text);
		dev_append(devs, &list, &v, sizeof(v));
	}
	host->facts.vulnerabilities = list.items;
	host->facts.nr_vulnerabilities = list.nr;
}

void host_read_cpu(struct vmplat_host *host)
{
	read_identity(host);
	read_topology(host);
	read_vulnerabilities(host);
}
