// SPDX-License-Identifier: GPL-2.0-only
/* vmplat info: what the kernel module offers, or why it is not there. */
#include <errno.h>
#include <getopt.h>
#include <string.h>
#include <unistd.h>

#include <json-c/json.h>
#include <vmplat.h>

#include "cli.h"

static const char help[] =
"usage: vmplat info [--json]\n"
"\n"
"Show the interface version and the capabilities of the kernel module. Fails,\n"
"and says what to do, if the module is not loaded or may not be used.\n"
"\n"
"  --json   the same as a JSON object; \"loaded\" tells whether it is there\n";

static const struct {
	uint64_t bit;
	const char *name;
	const char *text;
} caps[] = {
	{ VMPLAT_CAP_MEM,	"mem",		"memory files and vmplatfs" },
	{ VMPLAT_CAP_LOG,	"log",		"dirty logs" },
	{ VMPLAT_CAP_VIEW,	"view",		"frozen views" },
	{ VMPLAT_CAP_FILL,	"fill",		"demand filling" },
	{ VMPLAT_CAP_PINNABLE,	"pinnable",	"memory that devices may pin" },
	{ VMPLAT_CAP_PCI_HOLD,	"pci-hold",	"holds on PCI functions" },
	{ VMPLAT_CAP_HUGE,	"huge",		"memory in blocks of 2 MiB" },
	{ VMPLAT_CAP_DOMAIN,	"domain",	"IOMMU domains" },
	{ VMPLAT_CAP_SRIOV,	"sriov",	"virtual functions with an owner" },
};
#define NR_CAPS (sizeof(caps) / sizeof(caps[0]))

static uint64_t known_caps(void)
{
	uint64_t all = 0;

	for (size_t i = 0; i < NR_CAPS; i++)
		all |= caps[i].bit;
	return all;
}

static int show_json(const struct vmplat_info *info, int err)
{
	struct json_object *o = json_object_new_object(), *list;

	json_object_object_add(o, "version", json_object_new_string(VMPLAT_VERSION));
	json_object_object_add(o, "abi_known", json_object_new_int(VMPLAT_ABI));
	json_object_object_add(o, "loaded", json_object_new_boolean(!err));
	if (err) {
		json_object_object_add(o, "error", json_object_new_string(vmplat_last_error()));
		cli_json(o);
		return CLI_FAILED;
	}
	json_object_object_add(o, "abi", json_object_new_int64(info->out_abi));
	json_object_object_add(o, "page_bytes", json_object_new_int64(info->out_page_bytes));
	json_object_object_add(o, "max_view_mems", json_object_new_int64(info->out_max_view_mems));
	list = json_object_new_array();
	for (size_t i = 0; i < NR_CAPS; i++)
		if (info->out_caps & caps[i].bit)
			json_object_array_add(list, json_object_new_string(caps[i].name));
	json_object_object_add(o, "capabilities", list);
	json_object_object_add(o, "unknown_capabilities",
			       json_object_new_uint64(info->out_caps & ~known_caps()));
	return cli_json(o);
}

static int show(const struct vmplat_info *info)
{
	printf("vmplat %s, module interface %u", VMPLAT_VERSION, info->out_abi);
	if (info->out_abi != VMPLAT_ABI)
		printf(" (this program knows %d)", VMPLAT_ABI);
	printf("\npage size %u bytes, up to %u memories in one view\n",
	       info->out_page_bytes, info->out_max_view_mems);
	for (size_t i = 0; i < NR_CAPS; i++) {
		bool have = info->out_caps & caps[i].bit;

		printf("  %s%-3s%s %-9s %s\n", cli_style(stdout, have ? CLI_GREEN : CLI_YELLOW),
		       have ? "yes" : "no", cli_style(stdout, CLI_PLAIN), caps[i].name,
		       caps[i].text);
	}
	if (info->out_caps & ~known_caps())
		printf("  and capabilities this program does not know: %#llx\n",
		       (unsigned long long)(info->out_caps & ~known_caps()));
	return CLI_OK;
}

int cmd_info(int argc, char **argv)
{
	static const struct option options[] = {
		{ "json", no_argument, NULL, 'j' },
		{ "help", no_argument, NULL, 'h' },
		{ }
	};
	struct vmplat_info info;
	struct vmplat *dev;
	bool json = false;
	int opt, rc;

	opterr = 0;
	while ((opt = getopt_long(argc, argv, ":h", options, NULL)) != -1) {
		switch (opt) {
		case 'j':
			json = true;
			break;
		case 'h':
			return cli_help(help);
		default:
			return cli_bad_option("info", opt, argv);
		}
	}
	if (optind < argc)
		return cli_usage("info", "'%s' is one argument too many", argv[optind]);
	if (json) {
		rc = vmplat_open(&dev, NULL);
		if (!rc)
			rc = vmplat_query(dev, &info);
		rc = show_json(&info, rc);
	} else {
		rc = cli_open_device(&dev);
		if (rc)
			return rc;
		rc = vmplat_query(dev, &info) ? cli_fail("%s", vmplat_last_error()) : show(&info);
	}
	vmplat_close(dev);
	return rc;
}
