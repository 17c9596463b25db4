// SPDX-License-Identifier: GPL-2.0-only
/* Names from libpci's list, and how functions and findings are written. */
#include <getopt.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <json-c/json.h>
#include <pci/pci.h>
#include <vmplat.h>

#include "cli.h"
#include "cli/pci.h"

int pci_parse(struct pci_args *a, const char *cmd, const char *help, bool takes_names,
	      bool has_all, int argc, char **argv)
{
	static const struct option options[] = {
		{ "root", required_argument, NULL, 'r' },
		{ "json", no_argument, NULL, 'j' },
		{ "all", no_argument, NULL, 'a' },
		{ "help", no_argument, NULL, 'h' },
		{ }
	};
	int opt;

	*a = (struct pci_args) { };
	opterr = 0;
	optind = 0;
	while ((opt = getopt_long(argc, argv, ":ah", options, NULL)) != -1) {
		if (opt == 'r')
			a->root = optarg;
		else if (opt == 'j')
			a->json = true;
		else if (opt == 'a' && has_all)
			a->all = true;
		else if (opt == 'h')
			return cli_help(help), -1;
		else
			return cli_bad_option(cmd, opt, argv);
	}
	a->names = argv + optind;
	a->nr_names = argc - optind;
	if (takes_names && !a->nr_names)
		return cli_usage(cmd, "which device? Give an address such as 0000:01:00.0");
	if (!takes_names && a->nr_names)
		return cli_usage(cmd, "'%s' is one argument too many", a->names[0]);
	return CLI_OK;
}

__attribute__((format(printf, 1, 2)))
static void ignore(char *msg, ...)
{
}

int pci_open(struct vmplat_devs **devs, struct pci_access **names, const char *root)
{
	if (vmplat_devs_open(devs, root))
		return cli_fail("%s", vmplat_last_error());
	/* for its names alone: pci_init(), which sets up access to the bus, is not called */
	*names = pci_alloc();
	(*names)->warning = ignore;
	(*names)->debug = ignore;
	return CLI_OK;
}

void pci_close(struct vmplat_devs *devs, struct pci_access *names)
{
	vmplat_devs_close(devs);
	if (names)
		pci_cleanup(names);
}

/* ---- names ----------------------------------------------------------------- */

static const char *vendor_name(struct pci_access *names, const struct vmplat_pci *pci,
			       char buf[PCI_NAME_LEN])
{
	return pci_lookup_name(names, buf, PCI_NAME_LEN,
			       PCI_LOOKUP_VENDOR | PCI_LOOKUP_NO_NUMBERS, pci->vendor);
}

static const char *device_name(struct pci_access *names, const struct vmplat_pci *pci,
			       char buf[PCI_NAME_LEN])
{
	return pci_lookup_name(names, buf, PCI_NAME_LEN,
			       PCI_LOOKUP_DEVICE | PCI_LOOKUP_NO_NUMBERS, pci->vendor,
			       pci->device_id);
}

const char *pci_name(struct pci_access *names, const struct vmplat_pci *pci,
		     char buf[PCI_NAME_LEN])
{
	char vendor[PCI_NAME_LEN], device[PCI_NAME_LEN];
	const char *v = vendor_name(names, pci, vendor), *d = device_name(names, pci, device);

	if (v && d)
		snprintf(buf, PCI_NAME_LEN, "%.70s %.80s", v, d);
	else if (v)
		snprintf(buf, PCI_NAME_LEN, "%.70s device %04x", v, pci->device_id);
	else
		snprintf(buf, PCI_NAME_LEN, "device %04x:%04x", pci->vendor, pci->device_id);
	return buf;
}

const char *pci_class_name(struct pci_access *names, const struct vmplat_pci *pci,
			   char buf[PCI_NAME_LEN])
{
	if (!pci_lookup_name(names, buf, PCI_NAME_LEN, PCI_LOOKUP_CLASS | PCI_LOOKUP_NO_NUMBERS,
			     pci->class_code >> 8))
		snprintf(buf, PCI_NAME_LEN, "class %04x", pci->class_code >> 8);
	return buf;
}

/* ---- findings ---------------------------------------------------------------- */

void pci_print_findings(const struct vmplat_findings *findings)
{
	static const enum cli_style styles[] = {
		[VMPLAT_NOTE] = CLI_DIM, [VMPLAT_WARNING] = CLI_YELLOW, [VMPLAT_BLOCKER] = CLI_RED,
	};

	/* the worst first */
	for (int severity = VMPLAT_BLOCKER; severity >= VMPLAT_NOTE; severity--) {
		for (size_t i = 0; i < findings->nr; i++) {
			const struct vmplat_finding *f = &findings->items[i];

			if ((int)f->severity != severity)
				continue;
			printf("  %s%s%s %s: %s\n", cli_style(stdout, styles[severity]),
			       vmplat_severity_name(f->severity), cli_style(stdout, CLI_PLAIN),
			       f->name, f->text);
		}
	}
}

/* ---- JSON ---------------------------------------------------------------------- */

void json_text(struct json_object *o, const char *key, const char *text)
{
	json_object_object_add(o, key, text ? json_object_new_string(text) : NULL);
}

void json_number(struct json_object *o, const char *key, uint64_t v)
{
	json_object_object_add(o, key, json_object_new_uint64(v));
}

void json_hex(struct json_object *o, const char *key, uint64_t v, int digits)
{
	char buf[24];

	snprintf(buf, sizeof(buf), "0x%0*llx", digits, (unsigned long long)v);
	json_text(o, key, buf);
}

void json_maybe(struct json_object *o, const char *key, int64_t v, bool unknown)
{
	json_object_object_add(o, key, unknown ? NULL : json_object_new_int64(v));
}

struct json_object *pci_json_short(struct pci_access *names, const struct vmplat_pci *pci)
{
	struct json_object *o = json_object_new_object();
	char buf[PCI_NAME_LEN];

	json_text(o, "address", pci->address);
	json_text(o, "path", pci->path);
	json_text(o, "serial", pci->serial ? vmplat_pci_format_serial(pci->serial, buf) : NULL);
	json_hex(o, "vendor", pci->vendor, 4);
	json_hex(o, "device", pci->device_id, 4);
	json_hex(o, "class", pci->class_code, 6);
	json_text(o, "vendor_name", vendor_name(names, pci, buf));
	json_text(o, "device_name", device_name(names, pci, buf));
	json_text(o, "class_name", pci_class_name(names, pci, buf));
	json_text(o, "driver", pci->driver);
	return o;
}

struct json_object *pci_json_findings(const struct vmplat_findings *findings)
{
	struct json_object *list = json_object_new_array();

	for (size_t i = 0; i < findings->nr; i++) {
		const struct vmplat_finding *f = &findings->items[i];
		struct json_object *o = json_object_new_object();

		json_text(o, "name", f->name);
		json_text(o, "severity", vmplat_severity_name(f->severity));
		json_text(o, "address", f->pci ? f->pci->address : NULL);
		json_text(o, "text", f->text);
		json_object_array_add(list, o);
	}
	return list;
}
