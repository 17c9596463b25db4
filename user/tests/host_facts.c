// SPDX-License-Identifier: GPL-2.0-only
/*
 * The facts of a host, read from trees of sys, proc, etc and lib that are made up here: what is there
 * must be read as it is, what is not must be unknown, and not something else.
 */
#include <errno.h>
#include <ftw.h>
#include <limits.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include <vmplat.h>
#include <vmplat_host.h>

#include "tap.h"

static char root[64];
static struct vmplat_host *host;
static const struct vmplat_host_facts *f;

/* ---- trees -------------------------------------------------------------------- */

static void put_bytes(const char *path, const void *data, size_t bytes)
{
	char full[PATH_MAX];
	FILE *file;

	snprintf(full, sizeof(full), "%s/%s", root, path);
	for (char *s = full + strlen(root) + 1; *s; s++) {
		if (*s != '/')
			continue;
		*s = '\0';
		mkdir(full, 0755);
		*s = '/';
	}
	file = fopen(full, "w");
	if (!file || fwrite(data, 1, bytes, file) != bytes || fclose(file))
		abort();
}

static void put(const char *path, const char *text)
{
	put_bytes(path, text, strlen(text));
}

static int drop(const char *path, const struct stat *st, int flag, struct FTW *ftw)
{
	return remove(path);
}

static void tree_new(void)
{
	strcpy(root, "/tmp/vmplat-host.XXXXXX");
	if (!mkdtemp(root))
		abort();
	put("sys/kernel/ostype", "");
	put("proc/cmdline", "quiet\n");
}

static void tree_open(void)
{
	if (vmplat_host_open(&host, root))
		printf("# %s\n", vmplat_last_error());
	f = host ? vmplat_host_facts(host) : NULL;
}

static void tree_end(void)
{
	vmplat_host_close(host);
	host = NULL;
	nftw(root, drop, 16, FTW_DEPTH | FTW_PHYS);
}

static bool same(const char *got, const char *want)
{
	bool equal = got && want ? !strcmp(got, want) : got == want;

	if (!equal)
		printf("# got '%s', want '%s'\n", got ? got : "nothing", want ? want : "nothing");
	return equal;
}

static bool flag(const char *name)
{
	for (size_t i = 0; i < f->cpu.nr_flags; i++)
		if (!strcmp(f->cpu.flags[i].name, name))
			return f->cpu.flags[i].have;
	printf("# flag %s is not known\n", name);
	return false;
}

/* ---- tests ----------------------------------------------------------------------- */

/* the last processor differs, and must not be taken for the first */
static const char cpuinfo[] =
"processor\t: 0\n"
"vendor_id\t: GenuineIntel\n"
"cpu family\t: 6\n"
"model\t\t: 85\n"
"model name\t: Intel(R) Xeon(R) Gold 6248\n"
"stepping\t: 7\n"
"flags\t\t: fpu vmx x2apic constant_tsc nonstop_tsc svmx smepx xsmap la57\n"
"vmx flags\t: vnmi ept vpid\n"
"\n"
"processor\t: 1\n"
"vendor_id\t: Other\n"
"model\t\t: 86\n"
"flags\t\t: fpu svm hypervisor\n";

TEST(cpu)
{
	tree_new();
	put("proc/cpuinfo", cpuinfo);
	tree_open();
	if (f) {
		CHECK(same(f->cpu.vendor, "GenuineIntel"));
		CHECK(same(f->cpu.model_name, "Intel(R) Xeon(R) Gold 6248"));
		CHECK_EQ(f->cpu.family, 6);
		CHECK_EQ(f->cpu.model, 85);
		CHECK_EQ(f->cpu.stepping, 7);
		CHECK(f->cpu.vmx && !f->cpu.svm && f->cpu.nested_paging && !f->guest);
		CHECK(flag("x2apic") && flag("la57") && flag("ept") && flag("nonstop_tsc"));
		CHECK(!flag("smep") && !flag("smap") && !flag("svm") && !flag("hypervisor"));
	}
	CHECK(f);
	tree_end();
}

TEST(cpu_amd_guest)
{
	tree_new();
	put("proc/cpuinfo",
	    "vendor_id\t: AuthenticAMD\ncpu family\t: 70000\nflags\t\t: svm npt hypervisor\n"
	    "\nvendor_id\t: Other\nmodel name\t: Other\n");
	put("sys/hypervisor/type", "xen\n");
	tree_open();
	REQUIRE(f);
	CHECK(f->cpu.svm && !f->cpu.vmx && f->cpu.nested_paging);
	CHECK(f->guest && same(f->hypervisor, "xen"));
	CHECK_EQ(f->cpu.family, -1);
	CHECK(!f->cpu.model_name);
	tree_end();
}

static void put_cpu(unsigned int n, const char *core, const char *package)
{
	static const char *const level[] = { "1", "1", "2", "3" };
	static const char *const type[] = { "Data", "Instruction", "Unified", "Unified" };
	static const char *const size[] = { "32K", "32K", "1024K", "1M" };
	char path[128];

	snprintf(path, sizeof(path), "sys/devices/system/cpu/cpu%u/topology/core_cpus_list", n);
	put(path, core);
	snprintf(path, sizeof(path), "sys/devices/system/cpu/cpu%u/topology/package_cpus_list", n);
	put(path, package);
	for (int i = 0; i < 4; i++) {
#define CACHE(name, text) do {							\
		snprintf(path, sizeof(path),					\
			 "sys/devices/system/cpu/cpu%u/cache/index%d/" name, n, i);	\
		put(path, text);						\
} while (0)
		CACHE("level", level[i]);
		CACHE("type", type[i]);
		CACHE("size", size[i]);
		CACHE("shared_cpu_list", i == 3 ? package : core);
#undef CACHE
	}
}

/* 2 packages of 2 cores of 2 threads; one processor is offline, "cpufreq" is none */
TEST(topology)
{
	tree_new();
	put_cpu(0, "0,4", "0-1,4-5");
	put_cpu(1, "1,5", "0-1,4-5");
	put_cpu(2, "2,6", "2-3,6-7");
	put_cpu(3, "3,7", "2-3,6-7");
	put_cpu(4, "0,4", "0-1,4-5");
	put_cpu(5, "1,5", "0-1,4-5");
	put_cpu(6, "2,6", "2-3,6-7");
	put_cpu(7, "3,7", "2-3,6-7");
	put("sys/devices/system/cpu/cpu8/online", "0\n");
	put("sys/devices/system/cpu/cpufreq/boost", "1\n");
	put("sys/devices/system/cpu/cpu0x/topology/core_cpus_list", "0\n");
	put("sys/devices/system/cpu/cpu0x/topology/package_cpus_list", "0\n");
	put("sys/devices/system/cpu/smt/control", "on\n");
	tree_open();
	REQUIRE(f);
	CHECK_EQ(f->cpu.threads, 8);
	CHECK_EQ(f->cpu.cores, 4);
	CHECK_EQ(f->cpu.packages, 2);
	CHECK(same(f->cpu.smt, "on"));
	CHECK_EQ(f->cpu.nr_caches, 4);
	for (size_t i = 0; i < f->cpu.nr_caches; i++) {
		CHECK_EQ(f->cpu.caches[i].count, f->cpu.caches[i].level == 3 ? 2 : 4);
		CHECK_EQ(f->cpu.caches[i].bytes, f->cpu.caches[i].level == 1 ? 32 << 10 :
			 1 << 20);
	}
	tree_end();
}

TEST(vulnerabilities)
{
	static const struct {
		const char *name, *text;
		enum vmplat_host_exposure exposure;
	} cases[] = {
		{ "gds", "Unknown: Dependent on hypervisor status", VMPLAT_EXPOSURE_UNKNOWN },
		{ "itlb_multihit", "KVM: Vulnerable", VMPLAT_EXPOSURE_VULNERABLE },
		{ "l1tf", "Mitigation: PTE Inversion; VMX: cache flushes, SMT vulnerable",
		  VMPLAT_EXPOSURE_PARTLY },
		{ "mds", "Mitigation: Clear CPU buffers; SMT Host state unknown",
		  VMPLAT_EXPOSURE_MITIGATED },
		{ "meltdown", "Not affected", VMPLAT_EXPOSURE_NONE },
		{ "retbleed", "Vulnerable: untrained return thunk", VMPLAT_EXPOSURE_VULNERABLE },
		{ "taa", "KVM: Mitigation: VMX disabled", VMPLAT_EXPOSURE_MITIGATED },
	};
	const size_t nr = sizeof(cases) / sizeof(cases[0]);
	char path[128];

	tree_new();
	for (size_t i = 0; i < nr; i++) {
		snprintf(path, sizeof(path), "sys/devices/system/cpu/vulnerabilities/%s",
			 cases[i].name);
		put(path, cases[i].text);
	}
	tree_open();
	REQUIRE(f);
	CHECK_EQ(f->nr_vulnerabilities, nr);
	for (size_t i = 0; i < nr && i < f->nr_vulnerabilities; i++) {
		CHECK(same(f->vulnerabilities[i].name, cases[i].name));
		CHECK(same(f->vulnerabilities[i].text, cases[i].text));
		CHECK(same(vmplat_host_exposure_name(f->vulnerabilities[i].exposure),
			   vmplat_host_exposure_name(cases[i].exposure)));
	}
	tree_end();
}

TEST(memory)
{
	const struct vmplat_host_memory *m;

	tree_new();
	put("proc/meminfo", "MemTotal:       16384 kB\nMemFree:  1 kB\nMemAvailable:  8192 kB\n");
	put("sys/kernel/mm/transparent_hugepage/enabled", "always [madvise] never\n");
	put("sys/kernel/mm/transparent_hugepage/shmem_enabled",
	    "always within_size advise [never] deny force\n");
	put("sys/kernel/mm/hugepages/hugepages-2048kB/nr_hugepages", "64\n");
	put("sys/kernel/mm/hugepages/hugepages-2048kB/free_hugepages", "60\n");
	put("sys/kernel/mm/hugepages/hugepages-2048kB/resv_hugepages", "5\n");
	put("sys/kernel/mm/hugepages/hugepages-2048kB/surplus_hugepages", "3\n");
	put("sys/kernel/mm/hugepages/hugepages-1048576kB/nr_hugepages", "1\n");
	put("sys/devices/system/node/node0/meminfo",
	    "Node 0 MemTotal:       12288 kB\nNode 0 MemFree:  4096 kB\n");
	put("sys/devices/system/node/node0/cpulist", "0-3\n");
	put("sys/devices/system/node/node2/meminfo", "Node 2 MemTotal:        4096 kB\n");
	put("sys/devices/system/node/node2/cpulist", "\n");
	put("sys/devices/system/node/possible", "0-2\n");
	put("sys/devices/system/node/node3x/cpulist", "\n");
	tree_open();
	REQUIRE(f);
	m = &f->memory;
	CHECK_EQ(m->bytes, 16 << 20);
	CHECK_EQ(m->available_bytes, 8 << 20);
	CHECK(same(m->thp, "madvise"));
	CHECK(same(m->thp_shared, "never"));
	CHECK_EQ(m->nr_pools, 2);
	REQUIRE(m->nr_pools == 2);
	CHECK_EQ(m->pools[0].page_bytes, 2 << 20);
	CHECK_EQ(m->pools[0].pages, 64);
	CHECK_EQ(m->pools[0].free_pages, 60);
	CHECK_EQ(m->pools[0].reserved_pages, 5);
	CHECK_EQ(m->pools[0].surplus_pages, 3);
	CHECK_EQ(m->pools[1].page_bytes, 1 << 30);
	REQUIRE(m->nr_nodes == 2);
	CHECK_EQ(m->nodes[0].bytes, 12 << 20);
	CHECK_EQ(m->nodes[0].free_bytes, 4 << 20);
	CHECK(same(m->nodes[0].cpus, "0-3"));
	CHECK_EQ(m->nodes[1].id, 2);
	CHECK(same(m->nodes[1].cpus, ""));
	tree_end();
}

TEST(system_and_modules)
{
	tree_new();
	put("etc/os-release", "NAME=x\nVERSION_ID=\"12\"\nID=mint\nID_LIKE=\"ubuntu debian\"\n"
	    "PRETTY_NAME=\"Mint 22\"\n");
	put("proc/sys/kernel/osrelease", "6.1.0-9\n");
	put("proc/sys/kernel/arch", "x86_64\n");
	put("proc/sys/kernel/modules_disabled", "1\n");
	put("sys/class/dmi/id/sys_vendor", "Dell Inc.\n");
	put("sys/class/dmi/id/product_name", "R740\n");
	put("sys/kernel/security/lockdown", "none [integrity] confidentiality\n");
	put("sys/module/module/parameters/sig_enforce", "Y\n");
	put_bytes("sys/firmware/efi/efivars/SecureBoot-8be4df61-93ca-11d2-aa0d-00e098032b8c",
		  "\6\0\0\0\1", 5);
	put("sys/module/kvm_intel/parameters/nested", "Y\n");
	put("sys/module/kvm_intel/parameters/ept", "N\n");
	put("sys/module/vmplat/version", "0.1.0\n");
	put("lib/modules/6.1.0-9/build/Makefile", "");
	put("lib/modules/6.1.0-9/updates/dkms/vmplat.ko.xz", "");
	put("sys/firmware/acpi/tables/IVRS", "");
	tree_open();
	REQUIRE(f);
	CHECK(!f->live && !f->kvm.access.tried && !f->module.access.tried);
	CHECK(same(f->os, "Mint 22"));
	CHECK(same(f->os_id, "mint ubuntu debian"));
	CHECK(same(f->kernel, "6.1.0-9"));
	CHECK(same(f->arch, "x86_64"));
	CHECK(same(f->machine, "Dell Inc. R740"));
	CHECK(same(f->cmdline, "quiet"));
	CHECK(same(f->loading.lockdown, "integrity"));
	CHECK_EQ(f->loading.signatures, 1);
	CHECK_EQ(f->loading.secure_boot, 1);
	CHECK_EQ(f->loading.disabled, 1);
	CHECK(f->loading.headers);
	CHECK(same(f->kvm.module, "kvm_intel"));
	CHECK_EQ(f->kvm.nested, 1);
	CHECK_EQ(f->kvm.paging, 0);
	CHECK(f->module.loaded && same(f->module.version, "0.1.0"));
	CHECK(same(f->module.file, "lib/modules/6.1.0-9/updates/dkms/vmplat.ko.xz"));
	CHECK(f->ivrs && !f->dmar);
	tree_end();
}

/* Headers that were removed leave a link; both KVM modules are built in; EFI variables are hidden. */
TEST(not_what_it_seems)
{
	char link[PATH_MAX];

	tree_new();
	put("proc/cpuinfo", "flags\t: svm npt\n");
	put("proc/sys/kernel/osrelease", "6.12.1\n");
	put("lib/modules/6.12.1/kernel/x", "");
	put("lib/modules/6.11.0/updates/vmplat.ko", "");
	put("sys/module/kvm_intel/parameters/nested", "N\n");
	put("sys/module/kvm_amd/parameters/nested", "1\n");
	put("sys/firmware/efi/fw_platform_size", "64\n");
	put("proc/sys/kernel/modules_disabled", "0\n");
	snprintf(link, sizeof(link), "%s/lib/modules/6.12.1/build", root);
	REQUIRE(!symlink("../../../usr/src/gone", link));
	tree_open();
	REQUIRE(f);
	CHECK(!f->loading.headers);
	CHECK(same(f->module.file, NULL));
	CHECK(same(f->kvm.module, "kvm_amd"));
	CHECK_EQ(f->kvm.nested, 1);
	CHECK_EQ(f->loading.secure_boot, -1);
	CHECK_EQ(f->loading.disabled, 0);
	tree_end();
}

TEST(nothing_known)
{
	tree_new();
	tree_open();
	REQUIRE(f);
	CHECK(!f->os && !f->kernel && !f->arch && !f->machine && !f->hypervisor && !f->guest);
	CHECK(!f->cpu.vendor && !f->cpu.threads && !f->cpu.smt && !f->cpu.nr_caches);
	CHECK_EQ(f->cpu.stepping, -1);
	CHECK(!f->memory.thp && !f->memory.bytes && !f->memory.nr_pools && !f->memory.nr_nodes);
	CHECK(!f->loading.lockdown && !f->loading.headers);
	CHECK_EQ(f->loading.signatures, -1);
	CHECK_EQ(f->loading.disabled, -1);
	CHECK_EQ(f->loading.secure_boot, 0);
	CHECK(!f->module.loaded && !f->kvm.module && !f->nr_pfs && !f->vfio);
	CHECK(f->iommu && f->iommu->protection == VMPLAT_PROTECTION_NONE);
	tree_end();
}

TEST(no_such_root)
{
	CHECK_EQ(vmplat_host_open(&host, "/nonexistent"), -ENOENT);
	CHECK(!host);
}

/* This very host: whatever it is, it can be described, and everything is said. */
TEST(this_host)
{
	REQUIRE(!vmplat_host_open(&host, NULL));
	f = vmplat_host_facts(host);
	CHECK(f->live && f->kernel && f->arch && f->user && f->memory.bytes);
	CHECK(f->kvm.access.tried && f->module.access.tried);
	for (int use = 0; use < VMPLAT_NR_USES; use++) {
		struct vmplat_host_verdict v;

		CHECK(!vmplat_host_judge(f, use, &v));
		CHECK(v.ability != VMPLAT_ABILITY_UNKNOWN && *v.reason);
	}
	vmplat_host_close(host);
	host = NULL;
}

int main(void)
{
	RUN(cpu);
	RUN(cpu_amd_guest);
	RUN(topology);
	RUN(vulnerabilities);
	RUN(memory);
	RUN(system_and_modules);
	RUN(not_what_it_seems);
	RUN(nothing_known);
	RUN(no_such_root);
	RUN(this_host);
	return tap_done();
}
