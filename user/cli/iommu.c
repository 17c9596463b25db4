// SPDX-License-Identifier: GPL-2.0-only
/* vmplat iommu: what really isolates this host's devices. */
#include <inttypes.h>
#include <stdio.h>

#include <json-c/json.h>
#include <vmplat.h>

#include "cli.h"
#include "cli/pci.h"

static const char intro[] =
"usage: vmplat iommu COMMAND [ARGUMENT...]\n"
"\n"
"The IOMMU of this host, and what it really isolates.\n";

static const char show_help[] =
"usage: vmplat iommu show [--json] [--root DIR]\n"
"\n"
"What keeps a guest's device from the host's memory, the groups in which devices\n"
"can be given away, and how the DMA of the host's own drivers is treated.\n"
"\n"
"      --json       as a JSON object\n"
"      --root DIR   of the host whose sys and proc were copied to DIR\n"
"\n"
"  TYPE  DMA: translated; DMA-FQ: translated, with unmapping put off for speed;\n"
"        identity: not translated\n";

static const char *protection_text(enum vmplat_protection p)
{
	switch (p) {
	case VMPLAT_PROTECTION_NONE:
		return "none: every device can reach all memory";
	case VMPLAT_PROTECTION_UNPROVEN:
		return "unproven: mappings are accepted, and perhaps ignored";
	case VMPLAT_PROTECTION_GUESTS:
		return "guests: devices given away are confined, the host's own are not";
	default:
		return "all: devices given away and the host's own are confined";
	}
}

static const char *kind_name(enum vmplat_iommu_kind kind)
{
	static const char *const words[] = { "other", "intel", "amd", "arm" };

	return words[kind];
}

/* ---- JSON ---------------------------------------------------------------------- */

static struct json_object *group_json(const struct vmplat_group *g)
{
	struct json_object *o = json_object_new_object(), *members = json_object_new_array();
	struct json_object *reserved = json_object_new_array();

	json_number(o, "id", g->id);
	json_text(o, "type", g->type);
	for (size_t i = 0; i < g->nr_members; i++)
		json_object_array_add(members, json_object_new_string(g->members[i]->address));
	json_object_object_add(o, "members", members);
	for (size_t i = 0; i < g->nr_reserved; i++) {
		struct json_object *r = json_object_new_object();

		json_hex(r, "start", g->reserved[i].start, 0);
		json_hex(r, "last", g->reserved[i].last, 0);
		json_text(r, "type", g->reserved[i].type);
		json_object_array_add(reserved, r);
	}
	json_object_object_add(o, "reserved", reserved);
	return o;
}

static int show_json(const struct vmplat_iommu_state *s)
{
	struct json_object *o = json_object_new_object(), *units = json_object_new_array();
	struct json_object *groups = json_object_new_array();

	json_text(o, "protection", vmplat_protection_name(s->protection));
	json_object_object_add(o, "irq_remapping", s->irq_remapping < 0 ? NULL :
			       json_object_new_boolean(s->irq_remapping));
	for (size_t i = 0; i < s->nr_units; i++) {
		struct json_object *u = json_object_new_object();

		json_text(u, "name", s->units[i].name);
		json_text(u, "kind", kind_name(s->units[i].kind));
		json_hex(u, "cap", s->units[i].cap, 0);
		json_hex(u, "ecap", s->units[i].ecap, 0);
		json_number(u, "devices", s->units[i].nr_devices);
		json_object_array_add(units, u);
	}
	json_object_object_add(o, "units", units);
	for (size_t i = 0; i < s->nr_groups; i++)
		json_object_array_add(groups, group_json(&s->groups[i]));
	json_object_object_add(o, "groups", groups);
	json_object_object_add(o, "findings", pci_json_findings(&s->findings));
	return cli_json(o);
}

/* ---- people ---------------------------------------------------------------------- */

static void print_groups(const struct vmplat_iommu_state *s, struct pci_access *names)
{
	static const char *const heads[] = { "GROUP", "TYPE", "ADDRESS", "DRIVER", "WHAT" };
	struct cli_table *t = cli_table_new("><<<<", heads);
	char name[PCI_NAME_LEN];

	for (size_t i = 0; i < s->nr_groups; i++) {
		const struct vmplat_group *g = &s->groups[i];

		for (size_t m = 0; m < g->nr_members; m++) {
			if (m)
				cli_cell(t, "%s", "");
			else
				cli_cell(t, "%u", g->id);
			cli_cell(t, "%s", m ? "" : g->type ? g->type : "unknown");
			cli_cell(t, "%s", g->members[m]->address);
			cli_cell(t, "%s", g->members[m]->driver ? g->members[m]->driver : "-");
			cli_cell(t, "%s", pci_name(names, g->members[m], name));
		}
	}
	cli_table_print(t);
}

static int show_text(const struct vmplat_iommu_state *s, struct pci_access *names)
{
	printf("protection: %s\n", protection_text(s->protection));
	for (size_t i = 0; i < s->nr_units; i++)
		printf("unit %s (%s), %zu devices\n", s->units[i].name, kind_name(s->units[i].kind),
		       s->units[i].nr_devices);
	if (s->irq_remapping >= 0 && s->nr_units)
		printf("interrupt remapping: %s\n", s->irq_remapping ? "yes" : "no");
	pci_print_findings(&s->findings);
	if (s->nr_groups) {
		putchar('\n');
		print_groups(s, names);
	}
	return CLI_OK;
}

static int iommu_show(int argc, char **argv)
{
	struct pci_access *names;
	struct vmplat_devs *devs;
	struct pci_args a;
	int rc = pci_parse(&a, "iommu show", show_help, false, false, argc, argv);

	if (rc)
		return rc < 0 ? CLI_OK : rc;
	if (pci_open(&devs, &names, a.root))
		return CLI_FAILED;
	rc = a.json ? show_json(vmplat_devs_iommu(devs)) : show_text(vmplat_devs_iommu(devs), names);
	pci_close(devs, names);
	return rc;
}

int cmd_iommu(int argc, char **argv)
{
	static const struct cli_command verbs[] = {
		{ "show", "what isolates devices here, and the groups", iommu_show },
		{ }
	};

	return cli_dispatch("vmplat iommu", intro, verbs, argc, argv);
}
