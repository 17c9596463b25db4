// SPDX-License-Identifier: LGPL-2.1-or-later
/* The picture of a host: system, loading of modules, virtual functions; and how it is opened. */
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <unistd.h>

#include "host/host.h"

const char *host_choice(struct vmplat_host *host, const char *text)
{
	const char *open = text ? strchr(text, '[') : NULL;

	return open ? dev_strdup(host->devs, open + 1, strcspn(open + 1, "]")) : text;
}

int host_yes(const char *text)
{
	if (!text || !*text || text[1])
		return -1;
	return *text == 'Y' || *text == '1' ? 1 : *text == 'N' || *text == '0' ? 0 : -1;
}

bool host_has_word(const char *words, const char *word)
{
	size_t n = strlen(word);

	for (const char *s = words; s && (s = strstr(s, word)); s += n)
		if ((s == words || s[-1] == ' ') && (!s[n] || s[n] == ' '))
			return true;
	return false;
}

/* ---- system ---------------------------------------------------------------- */

/* the value of NAME= in os-release, without its quotes */
static const char *os_field(struct vmplat_host *host, const char *text, const char *name)
{
	size_t n = strlen(name), len;

	for (const char *s = text; s && *s; s += strcspn(s, "\n"), s += *s == '\n') {
		if (strncmp(s, name, n))
			continue;
		s += n;
		len = strcspn(s, "\n");
		if (len > 1 && (*s == '"' || *s == '\'') && s[len - 1] == *s) {
			s++;
			len -= 2;
		}
		return dev_strdup(host->devs, s, len);
	}
	return NULL;
}

static void read_os(struct vmplat_host *host)
{
	const char *text = dev_text(host->devs, host->root_fd, "etc/os-release");
	struct vmplat_host_facts *facts = &host->facts;
	const char *id, *like;

	if (!text)
		text = dev_text(host->devs, host->root_fd, "usr/lib/os-release");
	facts->os = os_field(host, text, "PRETTY_NAME=");
	id = os_field(host, text, "ID=");
	like = os_field(host, text, "ID_LIKE=");
	facts->os_id = id && like ? dev_printf(host->devs, "%s %s", id, like) : id;
}

static void read_machine(struct vmplat_host *host)
{
	struct vmplat_devs *devs = host->devs;
	const char *vendor = dev_text(devs, devs->sys_fd, "class/dmi/id/sys_vendor");
	const char *product = dev_text(devs, devs->sys_fd, "class/dmi/id/product_name");

	host->facts.machine = vendor && product ? dev_printf(devs, "%s %s", vendor, product) :
			      vendor ? vendor : product;
}

/* ---- loading of modules ------------------------------------------------------- */

/* Four bytes of attributes, then the value. */
static int secure_boot(struct vmplat_devs *devs)
{
	const uint8_t *value;

	if (!dev_exists(devs, devs->sys_fd, "firmware/efi"))
		return 0;
	if (dev_bytes(devs, &value, 5, devs->sys_fd, "firmware/efi/efivars/"
		      "SecureBoot-8be4df61-93ca-11d2-aa0d-00e098032b8c") != 5)
		return -1;
	return value[4] == 1;
}

static void read_loading(struct vmplat_host *host)
{
	struct vmplat_host_loading *l = &host->facts.loading;
	struct vmplat_devs *devs = host->devs;

	l->lockdown = host_choice(host, dev_text(devs, devs->sys_fd, "kernel/security/lockdown"));
	l->signatures = host_yes(dev_text(devs, devs->sys_fd,
					  "module/module/parameters/sig_enforce"));
	l->secure_boot = secure_boot(devs);
	l->disabled = host_yes(dev_text(devs, devs->proc_fd, "sys/kernel/modules_disabled"));
	/* a link that is left when the headers are removed leads nowhere */
	l->headers = host->facts.kernel &&
		     dev_exists(devs, host->root_fd, "lib/modules/%s/build/Makefile",
				host->facts.kernel);
}

/* Where "make install", DKMS on Debian, and DKMS elsewhere put it; each may be compressed. */
static const char *module_file(struct vmplat_host *host)
{
	static const char *const dirs[] = { "updates", "updates/dkms", "extra" };
	static const char *const ends[] = { "", ".xz", ".zst", ".gz" };

	for (size_t d = 0; host->facts.kernel && d < sizeof(dirs) / sizeof(dirs[0]); d++) {
		for (size_t e = 0; e < sizeof(ends) / sizeof(ends[0]); e++) {
			const char *path = dev_printf(host->devs, "lib/modules/%s/%s/vmplat.ko%s",
						      host->facts.kernel, dirs[d], ends[e]);

			if (path && dev_exists(host->devs, host->root_fd, "%s", path))
				return path;
		}
	}
	return NULL;
}

static void read_modules(struct vmplat_host *host)
{
	struct vmplat_host_facts *facts = &host->facts;
	struct vmplat_devs *devs = host->devs;
	int sys = devs->sys_fd;

	/* built into the kernel, both are there */
	if (dev_exists(devs, sys, "module/kvm_amd") &&
	    (facts->cpu.svm || !dev_exists(devs, sys, "module/kvm_intel")))
		facts->kvm.module = "kvm_amd";
	else if (dev_exists(devs, sys, "module/kvm_intel"))
		facts->kvm.module = "kvm_intel";
	facts->kvm.nested = facts->kvm.paging = -1;
	if (facts->kvm.module) {
		facts->kvm.nested = host_yes(dev_text(devs, sys, "module/%s/parameters/nested",
						      facts->kvm.module));
		facts->kvm.paging = host_yes(dev_text(devs, sys, "module/%s/parameters/%s",
						      facts->kvm.module, facts->kvm.module[4] == 'i' ?
						      "ept" : "npt"));
	}
	facts->module.loaded = dev_exists(devs, sys, "module/vmplat");
	facts->module.version = dev_text(devs, sys, "module/vmplat/version");
	facts->module.file = module_file(host);
}

/* ---- devices -------------------------------------------------------------------- */

static void read_devices(struct vmplat_host *host)
{
	struct vmplat_host_facts *facts = &host->facts;
	struct vmplat_devs *devs = host->devs;
	struct dev_list pfs = { };

	facts->iommu = vmplat_devs_iommu(devs);
	facts->dmar = dev_exists(devs, devs->sys_fd, "firmware/acpi/tables/DMAR");
	facts->ivrs = dev_exists(devs, devs->sys_fd, "firmware/acpi/tables/IVRS");
	facts->vfio = dev_exists(devs, devs->sys_fd, "bus/pci/drivers/vfio-pci");
	for (size_t i = 0; i < vmplat_devs_nr_pci(devs); i++) {
		const struct vmplat_pci *pci = vmplat_devs_pci(devs, i);

		if (pci->max_vfs)
			dev_append(devs, &pfs, &pci, sizeof(pci));
	}
	facts->pfs = pfs.items;
	facts->nr_pfs = pfs.nr;
}

/* ---- handles ---------------------------------------------------------------------- */

static void read_facts(struct vmplat_host *host)
{
	struct vmplat_host_facts *facts = &host->facts;
	struct vmplat_devs *devs = host->devs;

	facts->live = devs->live;
	facts->kernel = dev_text(devs, devs->proc_fd, "sys/kernel/osrelease");
	facts->arch = dev_text(devs, devs->proc_fd, "sys/kernel/arch");
	facts->cmdline = devs->cmdline;
	read_os(host);
	read_machine(host);
	host_read_cpu(host);
	host_read_memory(host);
	read_loading(host);
	read_modules(host);
	read_devices(host);
	facts->hypervisor = facts->guest ? dev_text(devs, devs->sys_fd, "hypervisor/type") : NULL;
	if (facts->live)
		host_probe(host);
}

API int vmplat_host_open(struct vmplat_host **out, const char *root)
{
	struct vmplat_host *host = calloc(1, sizeof(*host));
	int rc;

	*out = NULL;
	if (!host)
		return lib_error(-ENOMEM, "out of memory");
	host->root_fd = -1;
	rc = vmplat_devs_open(&host->devs, root);
	if (rc)
		goto fail;
	host->root_fd = open(root ? root : "/", O_PATH | O_DIRECTORY | O_CLOEXEC);
	if (host->root_fd < 0) {
		rc = lib_error(-errno, "%s: %s", root ? root : "/", strerror(errno));
		goto fail;
	}
	read_facts(host);
	if (host->devs->no_memory) {
		rc = lib_error(-ENOMEM, "out of memory");
		goto fail;
	}
	*out = host;
	return 0;
fail:
	vmplat_host_close(host);
	return rc;
}

API void vmplat_host_close(struct vmplat_host *host)
{
	if (!host)
		return;
	if (host->root_fd >= 0)
		close(host->root_fd);
	vmplat_devs_close(host->devs);
	free(host);
}

API const struct vmplat_host_facts *vmplat_host_facts(const struct vmplat_host *host)
{
	return &host->facts;
}

API const struct vmplat_devs *vmplat_host_devs(const struct vmplat_host *host)
{
	return host->devs;
}

API const char *vmplat_host_exposure_name(enum vmplat_host_exposure exposure)
{
	static const char *const words[] = {
		"unknown", "not affected", "mitigated", "partly mitigated", "vulnerable",
	};

	return (size_t)exposure < sizeof(words) / sizeof(words[0]) ? words[exposure] : NULL;
}
