// SPDX-License-Identifier: GPL-2.0-only
/* The command: one table. Everything else is in the file a subcommand is named after. */
#include <stdio.h>
#include <string.h>

#include "cli.h"

static int cmd_help(int argc, char **argv);

static int cmd_version(int argc, char **argv)
{
	printf("vmplat %s\n", VMPLAT_VERSION);
	return CLI_OK;
}

static const char intro[] =
"usage: vmplat COMMAND [ARGUMENT...]\n"
"\n"
"Guest memory as a file, its changes as a log, its past as a view.\n";

static const struct cli_command commands[] = {
	{ "run",	"boot a Linux guest on vmplat memory",			cmd_run },
	{ "restore",	"continue a guest from a snapshot",			cmd_restore },
	{ "vm",		"list, pause, resume, stop, reset, snapshot guests",	cmd_vm },
	{ "snap",	"list, show and verify snapshots",			cmd_snap },
	{ "image",	"say what a kernel, initrd, firmware or disk file is",	cmd_image },
	{ "mem",	"create and look at memory files",			cmd_mem },
	{ "log",	"watch what is written to a memory file",		cmd_log },
	{ "view",	"copy one instant of memory files while they are used",	cmd_view },
	{ "iso",	"look into optical disc images, check them, take files out", cmd_iso },
	{ "events",	"what happens on this host; nothing is lost silently",	cmd_events },
	{ "top",	"what VMs compute and write, live",				cmd_top },
	{ "hotplug",	"have a policy decide what becomes of what is plugged in", cmd_hotplug },
	{ "pci",	"the PCI functions of this host, what isolates and who uses them", cmd_pci },
	{ "iommu",	"what keeps guests' devices from the host's memory",	cmd_iommu },
	{ "gpu",	"can a GPU be given to a guest, and will it come back",	cmd_gpu },
	{ "claim",	"take devices from this host's drivers, and give them back", cmd_claim },
	{ "sriov",	"virtual functions of PCI devices: made, set, removed",	cmd_sriov },
	{ "host",	"what this machine is, what of vmplat works here, and what to do", cmd_host },
	{ "info",	"what the kernel module offers, or why it is not there", cmd_info },
	{ "help",	"explain a command",					cmd_help },
	{ "version",	"print the version",					cmd_version },
	{ }
};

static int cmd_help(int argc, char **argv)
{
	char *args[8] = { "vmplat" };
	int n = 1;

	for (int i = 1; i < argc && n < 6; i++)
		args[n++] = argv[i];
	args[n++] = "--help";
	return cli_dispatch("vmplat", intro, commands, n, args);
}

int main(int argc, char **argv)
{
	if (argc > 1 && (!strcmp(argv[1], "--version") || !strcmp(argv[1], "-V")))
		return cmd_version(argc, argv);
	return cli_dispatch("vmplat", intro, commands, argc, argv);
}
