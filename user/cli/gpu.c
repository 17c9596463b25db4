// SPDX-License-Identifier: GPL-2.0-only
/* vmplat gpu: can it be given to a guest, and will it come back? */
#include <stdio.h>

#include <json-c/json.h>
#include <vmplat.h>

#include "cli.h"
#include "cli/pci.h"

static const char intro[] =
"usage: vmplat gpu COMMAND [ARGUMENT...]\n"
"\n"
"GPUs and accelerators: can they be given to a guest, and will they come back?\n";

static const char list_help[] =
"usage: vmplat gpu list [--json] [--root DIR]\n"
"\n"
"The GPUs of this host with a verdict.\n"
"\n"
"      --json       as a JSON array, with findings\n"
"      --root DIR   of the host whose sys and proc were copied to DIR\n"
"\n"
"  VERDICT  no     as it is, it cannot be given to a guest\n"
"           care   it can, with consequences that one has to want\n"
"           yes    it can\n"
"           ready  and a VFIO driver has it already\n";

static const char show_help[] =
"usage: vmplat gpu show DEVICE... [--json] [--root DIR]\n"
"\n"
"The verdict over GPUs, with everything that led to it.\n"
"\n"
"  DEVICE           0000:01:00.0 or 01:00.0, a slot path, serial:NUMBER\n"
"      --json       as a JSON array\n"
"      --root DIR   of the host whose sys and proc were copied to DIR\n";

static struct json_object *gpu_json(struct pci_access *names, const struct vmplat_gpu *gpu)
{
	struct json_object *o = pci_json_short(names, gpu->pci), *list = json_object_new_array();

	json_text(o, "verdict", vmplat_verdict_name(gpu->verdict));
	for (size_t i = 0; i < gpu->nr_together; i++)
		json_object_array_add(list, json_object_new_string(gpu->together[i]->address));
	json_object_object_add(o, "together", list);
	json_object_object_add(o, "findings", pci_json_findings(&gpu->findings));
	return o;
}

static const char *verdict_style(enum vmplat_verdict verdict)
{
	return cli_style(stdout, verdict == VMPLAT_VERDICT_NO ? CLI_RED :
			 verdict == VMPLAT_VERDICT_CARE ? CLI_YELLOW : CLI_GREEN);
}

/* ---- list ------------------------------------------------------------------------ */

/* The first of the worst, as the reason in one word. */
static const char *main_reason(const struct vmplat_gpu *gpu)
{
	for (int s = VMPLAT_BLOCKER; s > VMPLAT_NOTE; s--)
		for (size_t i = 0; i < gpu->findings.nr; i++)
			if ((int)gpu->findings.items[i].severity == s)
				return gpu->findings.items[i].name;
	return "";
}

static int list(struct vmplat_devs *devs, struct pci_access *names, bool json)
{
	static const char *const heads[] = { "ADDRESS", "DRIVER", "VERDICT", "BECAUSE", "WHAT" };
	struct cli_table *t = json ? NULL : cli_table_new("<<<<<", heads);
	struct json_object *array = json ? json_object_new_array() : NULL;
	char name[PCI_NAME_LEN];
	int rc = CLI_OK;

	for (size_t i = 0; i < vmplat_devs_nr_pci(devs) && !rc; i++) {
		const struct vmplat_pci *pci = vmplat_devs_pci(devs, i);
		struct vmplat_gpu gpu;

		if (!vmplat_pci_is_gpu(pci))
			continue;
		if (vmplat_gpu_judge(devs, pci, &gpu)) {
			rc = cli_fail("%s", vmplat_last_error());
			break;
		}
		if (json) {
			json_object_array_add(array, gpu_json(names, &gpu));
			continue;
		}
		cli_cell(t, "%s", pci->address);
		cli_cell(t, "%s", pci->driver ? pci->driver : "-");
		cli_cell(t, "%s", vmplat_verdict_name(gpu.verdict));
		cli_cell(t, "%s", main_reason(&gpu));
		cli_cell(t, "%s", pci_name(names, pci, name));
	}
	if (t)
		cli_table_print(t);
	if (array && rc)
		json_object_put(array);
	return array && !rc ? cli_json(array) : rc;
}

static int gpu_list(int argc, char **argv)
{
	struct pci_access *names;
	struct vmplat_devs *devs;
	struct pci_args a;
	int rc = pci_parse(&a, "gpu list", list_help, false, false, argc, argv);

	if (rc)
		return rc < 0 ? CLI_OK : rc;
	if (pci_open(&devs, &names, a.root))
		return CLI_FAILED;
	rc = list(devs, names, a.json);
	pci_close(devs, names);
	return rc;
}

/* ---- show ------------------------------------------------------------------------ */

static void print_gpu(struct pci_access *names, const struct vmplat_gpu *gpu)
{
	static const char *const words[] = {
		[VMPLAT_VERDICT_NO] = "no: as it is, it cannot be given to a guest",
		[VMPLAT_VERDICT_CARE] = "with care: it can be given to a guest, with consequences",
		[VMPLAT_VERDICT_YES] = "yes: it can be given to a guest",
		[VMPLAT_VERDICT_READY] = "ready: a VFIO driver has it",
	};
	char name[PCI_NAME_LEN];

	printf("%s%s%s %s\n", cli_style(stdout, CLI_BOLD), gpu->pci->address,
	       cli_style(stdout, CLI_PLAIN), pci_name(names, gpu->pci, name));
	printf("  verdict  %s%s%s\n", verdict_style(gpu->verdict), words[gpu->verdict],
	       cli_style(stdout, CLI_PLAIN));
	printf("  driver   %s\n", gpu->pci->driver ? gpu->pci->driver : "none");
	printf("  together");
	for (size_t i = 0; i < gpu->nr_together; i++)
		printf(" %s", gpu->together[i]->address);
	putchar('\n');
	pci_print_findings(&gpu->findings);
}

static int show_one(struct vmplat_devs *devs, struct pci_access *names, const char *name,
		    struct json_object *array)
{
	const struct vmplat_pci *pci;
	struct vmplat_gpu gpu;

	if (vmplat_devs_find(devs, name, &pci) || vmplat_gpu_judge(devs, pci, &gpu))
		return cli_fail("%s", vmplat_last_error());
	if (array)
		json_object_array_add(array, gpu_json(names, &gpu));
	else
		print_gpu(names, &gpu);
	return CLI_OK;
}

static int gpu_show(int argc, char **argv)
{
	struct json_object *array = NULL;
	struct pci_access *names;
	struct vmplat_devs *devs;
	struct pci_args a;
	int rc = pci_parse(&a, "gpu show", show_help, true, false, argc, argv);

	if (rc)
		return rc < 0 ? CLI_OK : rc;
	if (pci_open(&devs, &names, a.root))
		return CLI_FAILED;
	if (a.json)
		array = json_object_new_array();
	for (int i = 0; i < a.nr_names && !rc; i++)
		rc = show_one(devs, names, a.names[i], array);
	if (array && rc)
		json_object_put(array);
	else if (array)
		rc = cli_json(array);
	pci_close(devs, names);
	return rc;
}

int cmd_gpu(int argc, char **argv)
{
	static const struct cli_command verbs[] = {
		{ "list", "the GPUs there are, with a verdict", gpu_list },
		{ "show", "the verdict and all that led to it", gpu_show },
		{ }
	};

	return cli_dispatch("vmplat gpu", intro, verbs, argc, argv);
}
