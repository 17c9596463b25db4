// SPDX-License-Identifier: GPL-2.0-only
/* vmplat host: what this machine is, what of vmplat works on it, and what to do about the rest. */
#include <getopt.h>
#include <inttypes.h>
#include <stdio.h>
#include <string.h>

#include <json-c/json.h>
#include <vmplat.h>
#include <vmplat_host.h>

#include "cli.h"
#include "cli/measure.h"
#include "cli/pci.h"

static const char help[] =
"usage: vmplat host [--json] [--measure] [--root DIR]\n"
"       vmplat host --check USE [--root DIR]\n"
"\n"
"What this machine is, what of vmplat works on it, and what to do about the rest.\n"
"Neither the module nor privileges are needed; nothing is changed.\n"
"\n"
"      --json       all facts and verdicts as a JSON object\n"
"      --measure    also what its clocks and timers are worth, and whether code may be\n"
"                   generated and devices emulated by faults; for a quarter of a second\n"
"  -c, --check USE  one verdict only: status 0 if it works, perhaps with limits, 1 if\n"
"                   not. USE is one of:\n"
"                     run          guests by vmplat run (KVM)\n"
"                     snapshots    memory tracking, snapshots of running guests\n"
"                     passthrough  devices given to guests, confined by an IOMMU\n"
"                     sriov        virtual functions of PCI devices\n"
"                     hugepages    huge pages for guests\n"
"                     events       vmplat events\n"
"      --root DIR   of the host whose sys, proc, etc and lib were copied to DIR;\n"
"                   what only opening a device tells is not known then\n";

struct args {
	bool json, measure, help;
	const char *check, *root;
};

/* ---- JSON -------------------------------------------------------------------- */

static void json_flag(struct json_object *o, const char *key, bool v)
{
	json_object_object_add(o, key, json_object_new_boolean(v));
}

/* -1 is null */
static void json_answer(struct json_object *o, const char *key, int v)
{
	json_object_object_add(o, key, v < 0 ? NULL : json_object_new_boolean(v));
}

/* "No such file or directory", or null for 0 */
static void json_error(struct json_object *o, const char *key, int err)
{
	json_text(o, key, err ? strerror(-err) : NULL);
}

static struct json_object *caches_json(const struct vmplat_host_cpu *cpu)
{
	struct json_object *list = json_object_new_array();

	for (size_t i = 0; i < cpu->nr_caches; i++) {
		struct json_object *o = json_object_new_object();

		json_number(o, "level", cpu->caches[i].level);
		json_text(o, "type", cpu->caches[i].type);
		json_number(o, "bytes", cpu->caches[i].bytes);
		json_number(o, "count", cpu->caches[i].count);
		json_object_array_add(list, o);
	}
	return list;
}

static struct json_object *cpu_json(const struct vmplat_host_cpu *cpu)
{
	struct json_object *o = json_object_new_object(), *flags = json_object_new_object();

	json_text(o, "vendor", cpu->vendor);
	json_text(o, "model_name", cpu->model_name);
	json_maybe(o, "family", cpu->family, cpu->family < 0);
	json_maybe(o, "model", cpu->model, cpu->model < 0);
	json_maybe(o, "stepping", cpu->stepping, cpu->stepping < 0);
	for (size_t i = 0; i < cpu->nr_flags; i++)
		json_flag(flags, cpu->flags[i].name, cpu->flags[i].have);
	json_object_object_add(o, "flags", flags);
	json_flag(o, "nested_paging", cpu->nested_paging);
	json_number(o, "packages", cpu->packages);
	json_number(o, "cores", cpu->cores);
	json_number(o, "threads", cpu->threads);
	json_text(o, "smt", cpu->smt);
	json_object_object_add(o, "caches", caches_json(cpu));
	return o;
}

static struct json_object *vulnerabilities_json(const struct vmplat_host_facts *f)
{
	struct json_object *o = json_object_new_object();

	for (size_t i = 0; i < f->nr_vulnerabilities; i++) {
		const struct vmplat_host_vulnerability *v = &f->vulnerabilities[i];
		struct json_object *one = json_object_new_object();

		json_text(one, "state", vmplat_host_exposure_name(v->exposure));
		json_text(one, "text", v->text);
		json_object_object_add(o, v->name, one);
	}
	return o;
}

static struct json_object *pools_json(const struct vmplat_host_memory *m)
{
	struct json_object *list = json_object_new_array();

	for (size_t i = 0; i < m->nr_pools; i++) {
		struct json_object *o = json_object_new_object();

		json_number(o, "page_bytes", m->pools[i].page_bytes);
		json_number(o, "pages", m->pools[i].pages);
		json_number(o, "free", m->pools[i].free_pages);
		json_number(o, "reserved", m->pools[i].reserved_pages);
		json_number(o, "surplus", m->pools[i].surplus_pages);
		json_object_array_add(list, o);
	}
	return list;
}

static struct json_object *nodes_json(const struct vmplat_host_memory *m)
{
	struct json_object *list = json_object_new_array();

	for (size_t i = 0; i < m->nr_nodes; i++) {
		struct json_object *o = json_object_new_object();

		json_number(o, "id", m->nodes[i].id);
		json_text(o, "cpus", m->nodes[i].cpus);
		json_number(o, "bytes", m->nodes[i].bytes);
		json_number(o, "free_bytes", m->nodes[i].free_bytes);
		json_object_array_add(list, o);
	}
	return list;
}

static struct json_object *memory_json(const struct vmplat_host_memory *m)
{
	struct json_object *o = json_object_new_object();

	json_number(o, "bytes", m->bytes);
	json_number(o, "available_bytes", m->available_bytes);
	json_text(o, "transparent_huge_pages", m->thp);
	json_text(o, "transparent_huge_pages_shared", m->thp_shared);
	json_object_object_add(o, "huge_pages", pools_json(m));
	json_object_object_add(o, "nodes", nodes_json(m));
	return o;
}

static void access_json(struct json_object *o, const struct vmplat_host_access *a)
{
	char mode[8];

	snprintf(mode, sizeof(mode), "%04o", a->mode);
	json_object_object_add(o, "opens", a->tried ? json_object_new_boolean(!a->error) : NULL);
	json_error(o, "error", a->error);
	json_text(o, "group", a->group);
	json_text(o, "mode", a->mode ? mode : NULL);
}

static struct json_object *kvm_json(const struct vmplat_host_kvm *kvm)
{
	struct json_object *o = json_object_new_object(), *caps = json_object_new_object();

	json_text(o, "module", kvm->module);
	json_answer(o, "nested", kvm->nested);
	json_answer(o, "nested_paging", kvm->paging);
	access_json(o, &kvm->access);
	json_maybe(o, "api", kvm->api, !kvm->api);
	json_error(o, "create_error", kvm->create_error);
	for (size_t i = 0; i < kvm->nr_caps; i++) {
		struct json_object *cap = json_object_new_object();

		json_number(cap, "value", kvm->caps[i].value);
		json_flag(cap, "needed", kvm->caps[i].needed);
		json_text(cap, "for", kvm->caps[i].what);
		json_object_object_add(caps, kvm->caps[i].name, cap);
	}
	json_object_object_add(o, "capabilities", caps);
	return o;
}

static struct json_object *module_json(const struct vmplat_host_facts *f)
{
	const struct vmplat_host_loading *l = &f->loading;
	const struct vmplat_host_module *m = &f->module;
	struct json_object *o = json_object_new_object();

	json_flag(o, "loaded", m->loaded);
	json_text(o, "version", m->version);
	access_json(o, &m->access);
	json_maybe(o, "abi", m->abi, !m->abi);
	json_number(o, "abi_known", VMPLAT_ABI);
	json_text(o, "file", m->file);
	json_text(o, "lockdown", l->lockdown);
	json_answer(o, "signatures_enforced", l->signatures);
	json_answer(o, "secure_boot", l->secure_boot);
	json_answer(o, "loading_disabled", l->disabled);
	json_flag(o, "kernel_headers", l->headers);
	return o;
}

static struct json_object *iommu_json(const struct vmplat_iommu_state *s)
{
	struct json_object *o = json_object_new_object(), *types = json_object_new_object();

	json_text(o, "protection", vmplat_protection_name(s->protection));
	json_number(o, "units", s->nr_units);
	json_number(o, "groups", s->nr_groups);
	for (size_t i = 0; i < s->nr_groups; i++) {
		const char *type = s->groups[i].type ? s->groups[i].type : "unknown";
		struct json_object *had;
		int nr = json_object_object_get_ex(types, type, &had) ? json_object_get_int(had) : 0;

		json_object_object_add(types, type, json_object_new_int(nr + 1));
	}
	json_object_object_add(o, "group_types", types);
	json_answer(o, "irq_remapping", s->irq_remapping);
	json_object_object_add(o, "findings", pci_json_findings(&s->findings));
	return o;
}

static struct json_object *sriov_json(const struct vmplat_host_facts *f)
{
	struct json_object *list = json_object_new_array();

	for (size_t i = 0; i < f->nr_pfs; i++) {
		struct json_object *o = json_object_new_object();

		json_text(o, "address", f->pfs[i]->address);
		json_text(o, "driver", f->pfs[i]->driver);
		json_number(o, "vfs", f->pfs[i]->nr_vfs);
		json_number(o, "max_vfs", f->pfs[i]->max_vfs);
		json_object_array_add(list, o);
	}
	return list;
}

static struct json_object *verdict_json(const struct vmplat_host_verdict *v)
{
	struct json_object *o = json_object_new_object();

	json_text(o, "works", vmplat_host_ability_name(v->ability));
	json_text(o, "reason", v->reason);
	json_text(o, "next", *v->next ? v->next : NULL);
	return o;
}

static int show_json(const struct vmplat_host_facts *f, const struct measured *m)
{
	struct json_object *o = json_object_new_object(), *verdicts = json_object_new_object();

	json_text(o, "os", f->os);
	json_text(o, "kernel", f->kernel);
	json_text(o, "arch", f->arch);
	json_text(o, "machine", f->machine);
	json_flag(o, "guest", f->guest);
	json_text(o, "hypervisor", f->hypervisor);
	json_object_object_add(o, "cpu", cpu_json(&f->cpu));
	json_object_object_add(o, "vulnerabilities", vulnerabilities_json(f));
	json_object_object_add(o, "memory", memory_json(&f->memory));
	json_object_object_add(o, "kvm", kvm_json(&f->kvm));
	json_object_object_add(o, "module", module_json(f));
	json_object_object_add(o, "iommu", iommu_json(f->iommu));
	json_object_object_add(o, "sriov", sriov_json(f));
	for (int use = 0; use < VMPLAT_NR_USES; use++) {
		struct vmplat_host_verdict v;

		vmplat_host_judge(f, use, &v);
		json_object_object_add(verdicts, vmplat_host_use_name(use), verdict_json(&v));
	}
	json_object_object_add(o, "verdicts", verdicts);
	if (m)
		json_object_object_add(o, "measured", measured_json(m));
	return cli_json(o);
}

/* ---- people -------------------------------------------------------------------- */

#define LABEL "%-10s "

static const char *or_unknown(const char *text)
{
	return text ? text : "unknown";
}

static void print_system(const struct vmplat_host_facts *f)
{
	printf(LABEL "%s, Linux %s, %s\n", "system", or_unknown(f->os), or_unknown(f->kernel),
	       or_unknown(f->arch));
	printf(LABEL "%s%s%s\n", "machine", or_unknown(f->machine),
	       f->guest ? ", a guest of " : "",
	       !f->guest ? "" : f->hypervisor ? f->hypervisor : "a hypervisor");
}

static void print_cpu(const struct vmplat_host_cpu *cpu)
{
	char buf[CLI_NUM_LEN];

	printf(LABEL "%s (%s), family %d, model %d, stepping %d\n", "cpu", or_unknown(cpu->model_name),
	       or_unknown(cpu->vendor), cpu->family, cpu->model, cpu->stepping);
	printf(LABEL "packages %u, cores %u, threads %u; SMT %s\n", "", cpu->packages,
	       cpu->cores, cpu->threads, or_unknown(cpu->smt));
	printf(LABEL, "");
	for (size_t i = 0; i < cpu->nr_caches; i++)
		printf("%s%u x L%u %s %s", i ? ", " : "", cpu->caches[i].count, cpu->caches[i].level,
		       cpu->caches[i].type, cli_show_bytes(cpu->caches[i].bytes, buf));
	printf("%s\n" LABEL "has", cpu->nr_caches ? "" : "caches unknown", "");
	for (size_t i = 0; i < cpu->nr_flags; i++)
		if (cpu->flags[i].have)
			printf(" %s", cpu->flags[i].name);
	printf("\n" LABEL "not", "");
	for (size_t i = 0; i < cpu->nr_flags; i++)
		if (!cpu->flags[i].have)
			printf(" %s", cpu->flags[i].name);
	putchar('\n');
}

/* How many there are of each kind, and by name those that are open. */
static void print_vulnerabilities(const struct vmplat_host_facts *f)
{
	size_t nr[VMPLAT_EXPOSURE_VULNERABLE + 1] = { 0 };

	for (size_t i = 0; i < f->nr_vulnerabilities; i++)
		nr[f->vulnerabilities[i].exposure]++;
	printf(LABEL "%zu not affected, %zu mitigated, %zu partly, %zu vulnerable, %zu unknown\n", "leaks",
	       nr[VMPLAT_EXPOSURE_NONE], nr[VMPLAT_EXPOSURE_MITIGATED], nr[VMPLAT_EXPOSURE_PARTLY],
	       nr[VMPLAT_EXPOSURE_VULNERABLE], nr[VMPLAT_EXPOSURE_UNKNOWN]);
	for (size_t i = 0; i < f->nr_vulnerabilities; i++)
		if (f->vulnerabilities[i].exposure >= VMPLAT_EXPOSURE_PARTLY)
			printf(LABEL "%s: %s\n", "", f->vulnerabilities[i].name,
			       f->vulnerabilities[i].text);
}

static void print_memory(const struct vmplat_host_memory *m)
{
	char a[CLI_NUM_LEN], b[CLI_NUM_LEN];

	printf(LABEL "%s, %s available; transparent huge pages %s (shared memory: %s)\n", "memory",
	       cli_show_bytes(m->bytes, a), cli_show_bytes(m->available_bytes, b),
	       or_unknown(m->thp), or_unknown(m->thp_shared));
	for (size_t i = 0; i < m->nr_pools; i++)
		printf(LABEL "%" PRIu64 " huge pages of %s, %" PRIu64 " free, %" PRIu64 " promised\n", "",
		       m->pools[i].pages, cli_show_bytes(m->pools[i].page_bytes, a),
		       m->pools[i].free_pages, m->pools[i].reserved_pages);
	for (size_t i = 0; i < m->nr_nodes; i++)
		printf(LABEL "node %u: %s, %s free, CPUs %s\n", "", m->nodes[i].id,
		       cli_show_bytes(m->nodes[i].bytes, a), cli_show_bytes(m->nodes[i].free_bytes, b),
		       m->nodes[i].cpus && *m->nodes[i].cpus ? m->nodes[i].cpus : "none");
}

static const char *answer(int v)
{
	return v < 0 ? "unknown" : v ? "yes" : "no";
}

static void print_kvm(const struct vmplat_host_kvm *kvm)
{
	printf(LABEL "%s; /dev/kvm: %s", "kvm", kvm->module ? kvm->module : "no module",
	       !kvm->access.tried ? "not tried" : kvm->access.error ? strerror(-kvm->access.error) : "opens");
	if (kvm->api)
		printf(", API %d", kvm->api);
	printf("; nested guests: %s, nested paging: %s\n", answer(kvm->nested), answer(kvm->paging));
	if (!kvm->nr_caps)
		return;
	printf(LABEL "lacks", "");
	for (size_t i = 0; i < kvm->nr_caps; i++)
		if (!kvm->caps[i].value)
			printf(" %s%s", kvm->caps[i].name, kvm->caps[i].needed ? " (needed)" : "");
	putchar('\n');
}

static void print_module(const struct vmplat_host_facts *f)
{
	const struct vmplat_host_loading *l = &f->loading;
	const struct vmplat_host_module *m = &f->module;

	printf(LABEL "%s%s%s; /dev/vmplat: %s", "module", m->loaded ? "loaded" : "not loaded",
	       m->version ? ", version " : "", m->version ? m->version : "",
	       !m->access.tried ? "not tried" : m->access.error ? strerror(-m->access.error) : "opens");
	if (m->abi)
		printf(", interface %u, this program's is %d", m->abi, VMPLAT_ABI);
	printf("\n" LABEL "loading: lockdown %s, signatures enforced: %s, Secure Boot: %s; headers: %s\n", "",
	       or_unknown(l->lockdown), answer(l->signatures), answer(l->secure_boot),
	       l->headers ? "yes" : "no");
}

static void print_devices(const struct vmplat_host_facts *f)
{
	printf(LABEL "protection: %s; units %zu, groups %zu, interrupt remapping: %s\n", "iommu",
	       vmplat_protection_name(f->iommu->protection), f->iommu->nr_units,
	       f->iommu->nr_groups, answer(f->iommu->irq_remapping));
	for (size_t i = 0; i < f->nr_pfs; i++)
		printf(LABEL "%s: %u of %u virtual functions, driver %s\n", i ? "" : "sriov",
		       f->pfs[i]->address, f->pfs[i]->nr_vfs, f->pfs[i]->max_vfs,
		       f->pfs[i]->driver ? f->pfs[i]->driver : "none");
}

static enum cli_style style_of(enum vmplat_host_ability ability)
{
	return ability == VMPLAT_ABILITY_YES ? CLI_GREEN : ability == VMPLAT_ABILITY_NO ? CLI_RED :
	       CLI_YELLOW;
}

static void print_verdict(enum vmplat_host_use use, const struct vmplat_host_verdict *v)
{
	printf("%-12s %s%-8s%s %s\n", vmplat_host_use_name(use), cli_style(stdout, style_of(v->ability)),
	       vmplat_host_ability_name(v->ability), cli_style(stdout, CLI_PLAIN), v->reason);
	if (*v->next)
		printf("%-12s %-8s next: %s\n", "", "", v->next);
}

static int show_text(const struct vmplat_host_facts *f, const struct measured *m)
{
	struct vmplat_host_verdict v;

	print_system(f);
	print_cpu(&f->cpu);
	print_vulnerabilities(f);
	print_memory(&f->memory);
	print_kvm(&f->kvm);
	print_module(f);
	print_devices(f);
	if (m)
		measured_print(m);
	putchar('\n');
	for (int use = 0; use < VMPLAT_NR_USES; use++) {
		vmplat_host_judge(f, use, &v);
		print_verdict(use, &v);
	}
	return CLI_OK;
}

/* ---- one verdict ---------------------------------------------------------------- */

static int find_use(const char *name)
{
	for (int use = 0; use < VMPLAT_NR_USES; use++)
		if (!strcmp(name, vmplat_host_use_name(use)))
			return use;
	return -1;
}

static int check(const struct vmplat_host_facts *f, int use, bool json)
{
	struct vmplat_host_verdict v;
	bool works;

	vmplat_host_judge(f, use, &v);
	works = v.ability == VMPLAT_ABILITY_YES || v.ability == VMPLAT_ABILITY_LIMITED;
	if (!json)
		print_verdict(use, &v);
	else if (cli_json(verdict_json(&v)))
		return CLI_FAILED;
	return works ? CLI_OK : CLI_FAILED;
}

static int parse(struct args *a, int argc, char **argv)
{
	static const struct option options[] = {
		{ "json", no_argument, NULL, 'j' },
		{ "measure", no_argument, NULL, 'm' },
		{ "check", required_argument, NULL, 'c' },
		{ "root", required_argument, NULL, 'r' },
		{ "help", no_argument, NULL, 'h' },
		{ }
	};
	int opt;

	opterr = 0;
	while ((opt = getopt_long(argc, argv, ":c:h", options, NULL)) != -1) {
		if (opt == 'j')
			a->json = true;
		else if (opt == 'm')
			a->measure = true;
		else if (opt == 'c')
			a->check = optarg;
		else if (opt == 'r')
			a->root = optarg;
		else if (opt == 'h')
			a->help = true;
		else
			return cli_bad_option("host", opt, argv);
	}
	if (a->help)
		return CLI_OK;
	if (optind < argc)
		return cli_usage("host", "'%s' is one argument too many", argv[optind]);
	if (a->measure && (a->root || a->check))
		return cli_usage("host", "--measure is for this host, and all of it: without --root and --check");
	if (a->check && find_use(a->check) < 0)
		return cli_usage("host", "--check '%s': one of run, snapshots, passthrough, sriov, hugepages, events",
				 a->check);
	return CLI_OK;
}

int cmd_host(int argc, char **argv)
{
	const struct vmplat_host_facts *facts;
	struct vmplat_host *host;
	struct measured m, *measured = NULL;
	struct args a = { 0 };
	int rc = parse(&a, argc, argv);

	if (rc || a.help)
		return rc ? rc : cli_help(help);
	if (vmplat_host_open(&host, a.root))
		return cli_fail("%s", vmplat_last_error());
	facts = vmplat_host_facts(host);
	if (a.measure) {
		measure(&m);
		measured = &m;
	}
	if (a.check)
		rc = check(facts, find_use(a.check), a.json);
	else
		rc = a.json ? show_json(facts, measured) : show_text(facts, measured);
	vmplat_host_close(host);
	return rc;
}
