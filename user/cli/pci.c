// SPDX-License-Identifier: GPL-2.0-only
/* vmplat pci: the PCI functions of this host. */
#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <json-c/json.h>
#include <linux/pci_regs.h>
#include <vmplat.h>

#include "cli.h"
#include "cli/pci.h"

static const char intro[] =
"usage: vmplat pci COMMAND [ARGUMENT...]\n"
"\n"
"The PCI functions of this host: what they are, who drives them, what isolates them.\n";

static const char list_help[] =
"usage: vmplat pci list [--all] [--json] [--root DIR]\n"
"\n"
"The PCI functions of this host.\n"
"\n"
"  -a, --all        bridges too\n"
"      --json       everything that is known, as a JSON array\n"
"      --root DIR   of the host whose sys and proc were copied to DIR\n"
"\n"
"  GROUP  IOMMU group\n"
"  ALONE  whether it can be given away alone: alone, shared (with the rest of its\n"
"         group), doubtful, unverified (not root), none (no IOMMU); 'pci show' says why\n";

static const char show_help[] =
"usage: vmplat pci show DEVICE... [--json] [--root DIR]\n"
"\n"
"All that is known of functions, what isolates them, and who uses them.\n"
"\n"
"  DEVICE           0000:01:00.0 or 01:00.0; a slot path, which does not change when\n"
"                   buses are numbered anew; serial:00-1b-21-ff-ff-8a-c0-12\n"
"      --json       as a JSON array\n"
"      --root DIR   of the host whose sys and proc were copied to DIR\n"
"\n"
"Without root, configuration space and other users' open files are out of sight.\n";

static const struct {
	uint16_t bit;
	const char *name;
} acs_bits[] = {
	{ PCI_ACS_SV, "source-validation" }, { PCI_ACS_TB, "translation-blocking" },
	{ PCI_ACS_RR, "request-redirect" }, { PCI_ACS_CR, "completion-redirect" },
	{ PCI_ACS_UF, "upstream-forwarding" }, { PCI_ACS_EC, "egress-control" },
	{ PCI_ACS_DT, "direct-translated" },
};
#define NR_ACS_BITS (sizeof(acs_bits) / sizeof(acs_bits[0]))

/* ---- JSON ---------------------------------------------------------------------- */

/* What the function has, and whether it is enforced. */
static struct json_object *acs_json(const struct vmplat_pci *pci)
{
	struct json_object *o;

	if (!pci->has_acs)
		return NULL;
	o = json_object_new_object();
	for (size_t i = 0; i < NR_ACS_BITS; i++)
		if (pci->acs_cap & acs_bits[i].bit)
			json_object_object_add(o, acs_bits[i].name,
					       json_object_new_boolean(pci->acs & acs_bits[i].bit));
	return o;
}

static struct json_object *link_json(const struct vmplat_link *l)
{
	struct json_object *o = json_object_new_object();

	/* in GT/s */
	json_object_object_add(o, "speed", json_object_new_double(l->speed / 10.0));
	json_object_object_add(o, "max_speed", json_object_new_double(l->max_speed / 10.0));
	json_number(o, "width", l->width);
	json_number(o, "max_width", l->max_width);
	return o;
}

static struct json_object *resizable_json(uint64_t sizes)
{
	struct json_object *list = json_object_new_array();

	for (int i = 0; i < 44; i++)
		if (sizes & 1ULL << i)
			json_object_array_add(list, json_object_new_uint64(1ULL << (i + 20)));
	return list;
}

static struct json_object *bars_json(const struct vmplat_pci *pci)
{
	struct json_object *list = json_object_new_array();

	for (size_t i = 0; i < pci->nr_bars; i++) {
		const struct vmplat_bar *b = &pci->bars[i];
		struct json_object *o = json_object_new_object();

		json_number(o, "index", b->index);
		json_hex(o, "start", b->start, 0);
		json_number(o, "bytes", b->bytes);
		json_text(o, "kind", b->io ? "io" : "memory");
		json_object_object_add(o, "prefetchable", json_object_new_boolean(b->prefetchable));
		json_object_object_add(o, "wide", json_object_new_boolean(b->wide));
		json_object_object_add(o, "assigned", json_object_new_boolean(!b->unassigned));
		if (b->index == 6)
			json_object_object_add(o, "shadow", json_object_new_boolean(b->shadow));
		if (b->resizable)
			json_object_object_add(o, "sizes", resizable_json(b->resizable));
		json_object_array_add(list, o);
	}
	return list;
}

static struct json_object *caps_json(const struct vmplat_pci *pci)
{
	struct json_object *list = json_object_new_array();

	for (size_t i = 0; i < pci->nr_caps; i++) {
		const struct vmplat_pci_cap *c = &pci->caps[i];
		struct json_object *o = json_object_new_object();

		json_hex(o, "id", c->id, c->extended ? 4 : 2);
		json_text(o, "name", c->name);
		json_hex(o, "offset", c->offset, 2);
		json_object_object_add(o, "extended", json_object_new_boolean(c->extended));
		if (c->extended)
			json_number(o, "version", c->version);
		json_object_array_add(list, o);
	}
	return list;
}

static struct json_object *addresses_json(const struct vmplat_pci *const *all, size_t nr)
{
	struct json_object *list = json_object_new_array();

	for (size_t i = 0; i < nr; i++)
		json_object_array_add(list, json_object_new_string(all[i]->address));
	return list;
}

static struct json_object *words_json(const char *words)
{
	struct json_object *list;
	char *copy, *save, *word;

	if (!words)
		return NULL;
	list = json_object_new_array();
	copy = strdup(words);
	for (word = copy ? strtok_r(copy, " ", &save) : NULL; word; word = strtok_r(NULL, " ", &save))
		json_object_array_add(list, json_object_new_string(word));
	free(copy);
	return list;
}

static void add_settings(struct json_object *o, const struct vmplat_pci *pci)
{
	json_text(o, "driver_override", pci->override);
	json_text(o, "module", pci->module);
	json_object_object_add(o, "reset_methods", words_json(pci->reset));
	json_text(o, "power_state", pci->power);
	json_maybe(o, "numa_node", pci->numa_node, pci->numa_node < 0);
	json_object_object_add(o, "boot_vga", pci->boot_vga < 0 ? NULL :
			       json_object_new_boolean(pci->boot_vga));
}

static struct json_object *function_json(struct pci_access *names, const struct vmplat_pci *pci)
{
	struct json_object *o = pci_json_short(names, pci);

	json_hex(o, "subsystem_vendor", pci->subvendor, 4);
	json_hex(o, "subsystem_device", pci->subdevice, 4);
	json_hex(o, "revision", pci->revision, 2);
	add_settings(o, pci);
	json_object_object_add(o, "link", pci->link.max_width ? link_json(&pci->link) : NULL);
	json_object_object_add(o, "bars", bars_json(pci));
	json_text(o, "port", vmplat_port_name(pci->port));
	json_number(o, "config_bytes", pci->config_bytes);
	json_object_object_add(o, "capabilities", caps_json(pci));
	json_object_object_add(o, "acs", acs_json(pci));
	json_object_object_add(o, "flr", json_object_new_boolean(pci->flr));
	json_object_object_add(o, "multifunction", json_object_new_boolean(pci->multifunction));
	json_text(o, "bridge", pci->bridge ? pci->bridge->address : NULL);
	json_text(o, "physical_function", pci->pf ? pci->pf->address : NULL);
	json_number(o, "vfs", pci->nr_vfs);
	json_number(o, "max_vfs", pci->max_vfs);
	json_object_object_add(o, "siblings", addresses_json(pci->siblings, pci->nr_siblings));
	json_maybe(o, "iommu_group", pci->group ? pci->group->id : 0, !pci->group);
	json_text(o, "isolation", vmplat_isolation_name(pci->isolation));
	json_object_object_add(o, "reasons", pci_json_findings(&pci->reasons));
	return o;
}

/* ---- list ------------------------------------------------------------------------ */

static int list_json(struct vmplat_devs *devs, struct pci_access *names)
{
	struct json_object *list = json_object_new_array();

	for (size_t i = 0; i < vmplat_devs_nr_pci(devs); i++)
		json_object_array_add(list, function_json(names, vmplat_devs_pci(devs, i)));
	return cli_json(list);
}

static int list_table(struct vmplat_devs *devs, struct pci_access *names, bool all)
{
	static const char *const heads[] = { "ADDRESS", "ID", "DRIVER", "GROUP", "ALONE", "WHAT" };
	struct cli_table *t = cli_table_new("<<<><<", heads);
	char name[PCI_NAME_LEN], kind[PCI_NAME_LEN];

	for (size_t i = 0; i < vmplat_devs_nr_pci(devs); i++) {
		const struct vmplat_pci *pci = vmplat_devs_pci(devs, i);

		if (pci->is_bridge && !all)
			continue;
		cli_cell(t, "%s", pci->address);
		cli_cell(t, "%04x:%04x", pci->vendor, pci->device_id);
		cli_cell(t, "%s", pci->driver ? pci->driver : "-");
		if (pci->group)
			cli_cell(t, "%u", pci->group->id);
		else
			cli_cell(t, "-");
		cli_cell(t, "%s", vmplat_isolation_name(pci->isolation));
		cli_cell(t, "%s: %s", pci_class_name(names, pci, kind), pci_name(names, pci, name));
	}
	cli_table_print(t);
	return CLI_OK;
}

static int pci_list(int argc, char **argv)
{
	struct pci_access *names;
	struct vmplat_devs *devs;
	struct pci_args a;
	int rc = pci_parse(&a, "pci list", list_help, false, true, argc, argv);

	if (rc)
		return rc < 0 ? CLI_OK : rc;
	if (pci_open(&devs, &names, a.root))
		return CLI_FAILED;
	rc = a.json ? list_json(devs, names) : list_table(devs, names, a.all);
	pci_close(devs, names);
	return rc;
}

/* ---- show ------------------------------------------------------------------------ */

static void print_link(const struct vmplat_link *l)
{
	if (!l->max_width)
		return;
	printf("  link         %u.%u GT/s x%u", l->speed / 10, l->speed % 10, l->width);
	if (l->speed != l->max_speed || l->width != l->max_width)
		printf(" (up to %u.%u GT/s x%u)", l->max_speed / 10, l->max_speed % 10,
		       l->max_width);
	putchar('\n');
}

static void print_bars(const struct vmplat_pci *pci)
{
	char size[CLI_NUM_LEN];

	for (size_t i = 0; i < pci->nr_bars; i++) {
		const struct vmplat_bar *b = &pci->bars[i];

		printf("  %-12s ", i ? "" : "regions");
		if (b->index < 6)
			printf("BAR %u", b->index);
		else if (b->index == 6)
			printf("ROM");
		else
			printf(pci->is_bridge ? "window %u" : "VF BAR %u", b->index - 7);
		printf(" %s at ", cli_show_bytes(b->bytes, size));
		if (b->unassigned)
			printf("no address");
		else
			printf("0x%" PRIx64, b->start);
		printf("%s%s%s%s", b->io ? ", I/O" : b->wide ? ", 64-bit" : ", 32-bit",
		       b->prefetchable ? ", prefetchable" : "", b->shadow ? ", shadow copy" : "",
		       b->resizable ? ", resizable to" : "");
		for (int n = 0; n < 44; n++)
			if (b->resizable & 1ULL << n)
				printf(" %s", cli_show_bytes(1ULL << (n + 20), size));
		putchar('\n');
	}
}

static void print_acs(const struct vmplat_pci *pci)
{
	if (!pci->has_acs)
		return;
	printf("  ACS         ");
	for (size_t i = 0; i < NR_ACS_BITS; i++)
		if (pci->acs_cap & acs_bits[i].bit)
			printf(" %s%c", acs_bits[i].name, pci->acs & acs_bits[i].bit ? '+' : '-');
	putchar('\n');
}

static void print_caps(const struct vmplat_pci *pci)
{
	if (pci->port == VMPLAT_PORT_UNKNOWN) {
		printf("  capabilities not readable%s\n",
		       pci->config_bytes ? ": only root may" : "");
		return;
	}
	printf("  PCI Express  %s\n", vmplat_port_name(pci->port));
	for (size_t i = 0; i < pci->nr_caps; i++) {
		const struct vmplat_pci_cap *c = &pci->caps[i];

		printf("  %-12s [%0*x] ", i ? "" : "capabilities", c->extended ? 3 : 2, c->offset);
		if (c->name)
			printf("%s\n", c->name);
		else
			printf("0x%0*x\n", c->extended ? 4 : 2, c->id);
	}
	print_acs(pci);
}

static void print_group(const struct vmplat_pci *pci)
{
	if (!pci->group)
		return;
	printf("  IOMMU group  %u, type %s:", pci->group->id,
	       pci->group->type ? pci->group->type : "unknown");
	for (size_t i = 0; i < pci->group->nr_members; i++)
		printf(" %s", pci->group->members[i]->address);
	putchar('\n');
	for (size_t i = 0; i < pci->group->nr_reserved; i++) {
		const struct vmplat_reserved *r = &pci->group->reserved[i];

		printf("  %-12s 0x%" PRIx64 "..0x%" PRIx64 " %s\n", i ? "" : "reserved", r->start,
		       r->last, r->type);
	}
}

static void print_function(struct pci_access *names, const struct vmplat_pci *pci)
{
	char name[PCI_NAME_LEN], kind[PCI_NAME_LEN], serial[24];

	printf("%s%s%s %s: %s\n", cli_style(stdout, CLI_BOLD), pci->address,
	       cli_style(stdout, CLI_PLAIN), pci_class_name(names, pci, kind),
	       pci_name(names, pci, name));
	printf("  path         %s\n", pci->path ? pci->path : "unknown");
	if (pci->serial)
		printf("  serial       %s\n", vmplat_pci_format_serial(pci->serial, serial));
	printf("  IDs          %04x:%04x, class %06x, revision %02x, subsystem %04x:%04x\n",
	       pci->vendor, pci->device_id, pci->class_code, pci->revision, pci->subvendor,
	       pci->subdevice);
	printf("  driver       %s", pci->driver ? pci->driver : "none");
	if (pci->override)
		printf(", override %s", pci->override);
	putchar('\n');
	if (pci->numa_node >= 0)
		printf("  NUMA node    %d\n", pci->numa_node);
	if (pci->power)
		printf("  power        %s\n", pci->power);
	print_link(&pci->link);
	print_bars(pci);
	print_caps(pci);
	printf("  reset        %s\n", !pci->reset ? "unknown" : *pci->reset ? pci->reset : "none");
	if (pci->bridge)
		printf("  below        %s\n", pci->bridge->address);
	if (pci->pf)
		printf("  VF of        %s\n", pci->pf->address);
	if (pci->max_vfs)
		printf("  VFs          %u of %u\n", pci->nr_vfs, pci->max_vfs);
	print_group(pci);
	printf("  isolation    %s\n", vmplat_isolation_name(pci->isolation));
	pci_print_findings(&pci->reasons);
}

/* One function; JSON goes to @list. */
static int show_one(struct vmplat_devs *devs, struct pci_access *names, const char *name,
		    struct json_object *list)
{
	const struct vmplat_pci *pci;
	struct vmplat_findings use;

	if (vmplat_devs_find(devs, name, &pci) || vmplat_pci_use(devs, pci, &use))
		return cli_fail("%s", vmplat_last_error());
	if (list) {
		struct json_object *o = function_json(names, pci);

		json_object_object_add(o, "use", pci_json_findings(&use));
		json_object_array_add(list, o);
		return CLI_OK;
	}
	print_function(names, pci);
	printf("  use          %s\n", use.nr ? "" : "none seen");
	pci_print_findings(&use);
	return CLI_OK;
}

static int pci_show(int argc, char **argv)
{
	struct json_object *list = NULL;
	struct pci_access *names;
	struct vmplat_devs *devs;
	struct pci_args a;
	int rc = pci_parse(&a, "pci show", show_help, true, false, argc, argv);

	if (rc)
		return rc < 0 ? CLI_OK : rc;
	if (pci_open(&devs, &names, a.root))
		return CLI_FAILED;
	if (a.json)
		list = json_object_new_array();
	for (int i = 0; i < a.nr_names && !rc; i++)
		rc = show_one(devs, names, a.names[i], list);
	if (list && rc)
		json_object_put(list);
	else if (list)
		rc = cli_json(list);
	pci_close(devs, names);
	return rc;
}

int cmd_pci(int argc, char **argv)
{
	static const struct cli_command verbs[] = {
		{ "list", "the functions there are, with drivers and IOMMU groups", pci_list },
		{ "show", "all about some, and who uses them", pci_show },
		{ }
	};

	return cli_dispatch("vmplat pci", intro, verbs, argc, argv);
}
