/* SPDX-License-Identifier: GPL-2.0-only */
/* What the commands about devices share: names of libpci, functions and findings as text and JSON. */
#ifndef VMPLAT_CLI_PCI_H
#define VMPLAT_CLI_PCI_H

#include <stdbool.h>

#include <vmplat_dev.h>

struct json_object;
struct pci_access;

/* what each of them takes; the rest are names of functions */
struct pci_args {
	const char *root;
	bool json, all;
	char **names;
	int nr_names;
};

/*
 * CLI_OK, CLI_USAGE, or -1 when @help was printed. @takes_names: some, otherwise none.
 * @has_all: there is an --all.
 */
int pci_parse(struct pci_args *a, const char *cmd, const char *help, bool takes_names,
	      bool has_all, int argc, char **argv);

/* The picture and the names; CLI_OK or CLI_FAILED. pci_names may be NULL later on. */
int pci_open(struct vmplat_devs **devs, struct pci_access **names, const char *root);
void pci_close(struct vmplat_devs *devs, struct pci_access *names);

#define PCI_NAME_LEN 160
/* "Intel Corporation 82576 Virtual Function", or numbers; returns @buf */
const char *pci_name(struct pci_access *names, const struct vmplat_pci *pci,
		     char buf[PCI_NAME_LEN]);
const char *pci_class_name(struct pci_access *names, const struct vmplat_pci *pci,
			   char buf[PCI_NAME_LEN]);

/* one finding a line, indented */
void pci_print_findings(const struct vmplat_findings *findings);

/* address, path, IDs and names: what tells a function */
struct json_object *pci_json_short(struct pci_access *names, const struct vmplat_pci *pci);
struct json_object *pci_json_findings(const struct vmplat_findings *findings);
/* {} with text, or null for NULL */
void json_text(struct json_object *o, const char *key, const char *text);
void json_number(struct json_object *o, const char *key, uint64_t v);
/* "0x10de" */
void json_hex(struct json_object *o, const char *key, uint64_t v, int digits);
/* null if @unknown */
void json_maybe(struct json_object *o, const char *key, int64_t v, bool unknown);

#endif
