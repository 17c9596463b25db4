// SPDX-License-Identifier: GPL-2.0-only
/* vmplat run: a VM in this process. */
#include <getopt.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "cli.h"
#include "run/client.h"
#include "run/config.h"
#include "run/serve.h"

static const char help[] =
"usage: vmplat run --kernel FILE [OPTION]...\n"
"\n"
"Boot a Linux kernel under KVM on vmplat memory. It runs until the guest powers\n"
"off, `vmplat vm stop`, SIGTERM, or Ctrl-A x on its console.\n"
"\n"
"  -k, --kernel FILE        a bzImage (/boot/vmlinuz-*) or an uncompressed vmlinux\n"
"  -i, --initrd FILE        its initial RAM disk\n"
"  -c, --cmdline TEXT       its command line; console=ttyS0 is added unless TEXT\n"
"                           names a console\n"
"  -m, --memory SIZE        RAM, 512M unless given\n"
"  -n, --cpus N             virtual CPUs, 1 unless given\n"
"  -d, --disk FILE[,ro][,id=ID]\n"
"                           a raw image as virtio disk; may be repeated\n"
"      --net WHERE[,mac=ADDRESS][,id=ID]\n"
"                           a network device; WHERE is tap=NAME (made if it is not\n"
"                           there), socket=PATH (two VMs with the same path, or a\n"
"                           program that speaks QEMU's stream protocol), or passt\n"
"                           (user-mode networking by passt(1)); may be repeated\n"
"      --name NAME          for `vmplat vm`; vm-PID unless given\n"
"      --console WHERE      stdio, none, or a file to append to\n"
"      --detach             go on in the background; the console goes to a file\n"
"                           beside the control socket unless --console says where\n"
"      --paused             wait for `vmplat vm resume`\n"
"      --no-reboot          end when the guest resets itself\n"
"      --memory-backend B   vmplat, or memfd: without the module and its snapshots\n"
"      --unpack WHO         who unpacks a compressed kernel: host (unless told\n"
"                           otherwise; quick, and kept in ~/.cache/vmplat for the\n"
"                           next time), host-nocache, or guest: its own code\n";

enum { OPT_NAME = 256, OPT_NET, OPT_CONSOLE, OPT_DETACH, OPT_PAUSED, OPT_NO_REBOOT, OPT_BACKEND,
       OPT_UNPACK };

static const struct option options[] = {
	{ "kernel", required_argument, NULL, 'k' },
	{ "initrd", required_argument, NULL, 'i' },
	{ "cmdline", required_argument, NULL, 'c' },
	{ "memory", required_argument, NULL, 'm' },
	{ "cpus", required_argument, NULL, 'n' },
	{ "disk", required_argument, NULL, 'd' },
	{ "net", required_argument, NULL, OPT_NET },
	{ "name", required_argument, NULL, OPT_NAME },
	{ "console", required_argument, NULL, OPT_CONSOLE },
	{ "detach", no_argument, NULL, OPT_DETACH },
	{ "paused", no_argument, NULL, OPT_PAUSED },
	{ "no-reboot", no_argument, NULL, OPT_NO_REBOOT },
	{ "memory-backend", required_argument, NULL, OPT_BACKEND },
	{ "unpack", required_argument, NULL, OPT_UNPACK },
	{ "help", no_argument, NULL, 'h' },
	{ }
};

struct run_args {
	struct vm_config cfg;
	const char *cmdline, *console;
	bool detach, paused, help;
};

static int parse_disk(struct run_args *a, const char *text)
{
	struct vm_disk d;
	const char *why = vm_disk_parse(&d, text);

	if (!why)
		why = vm_config_add_disk(&a->cfg, &d);
	free(d.path);
	return why ? cli_usage("run", "--disk %s: %s", text, why) : CLI_OK;
}

static int parse_net(struct run_args *a, const char *text)
{
	struct vm_net n;
	const char *why = vm_net_parse(&n, text);

	if (!why)
		why = vm_config_add_net(&a->cfg, &n);
	free(n.where);
	return why ? cli_usage("run", "--net %s: %s", text, why) : CLI_OK;
}

static int parse_backend(struct run_args *a, const char *text)
{
	if (!strcmp(text, "memfd"))
		a->cfg.backend = VM_BACKEND_MEMFD;
	else if (!strcmp(text, "vmplat"))
		a->cfg.backend = VM_BACKEND_VMPLAT;
	else
		return cli_usage("run", "--memory-backend '%s': it is vmplat or memfd", text);
	return CLI_OK;
}

static void set(char **to, const char *text)
{
	free(*to);
	*to = strdup(text);
}

static int parse_option(struct run_args *a, int opt, char **argv)
{
	uint64_t n;
	int ret;

	switch (opt) {
	case 'k':
		set(&a->cfg.kernel, optarg);
		return CLI_OK;
	case 'i':
		set(&a->cfg.initrd, optarg);
		return CLI_OK;
	case 'c':
		a->cmdline = optarg;
		return CLI_OK;
	case 'm':
		return cli_parse_size("run", "--memory", optarg, &a->cfg.mem_bytes);
	case 'n':
		ret = cli_parse_u64("run", "--cpus", optarg, 1, VM_CPUS_MAX, &n);
		if (!ret)
			a->cfg.nr_cpus = (unsigned int)n;
		return ret;
	case 'd':
		return parse_disk(a, optarg);
	case OPT_NET:
		return parse_net(a, optarg);
	case OPT_NAME:
		set(&a->cfg.name, optarg);
		return CLI_OK;
	case OPT_CONSOLE:
		a->console = optarg;
		return CLI_OK;
	case OPT_DETACH:
		a->detach = true;
		return CLI_OK;
	case OPT_PAUSED:
		a->paused = true;
		return CLI_OK;
	case OPT_NO_REBOOT:
		a->cfg.no_reboot = true;
		return CLI_OK;
	case OPT_BACKEND:
		return parse_backend(a, optarg);
	case OPT_UNPACK:
		if (vm_unpack_parse(&a->cfg.unpack, optarg))
			return CLI_OK;
		return cli_usage("run", "--unpack '%s': it is host, host-nocache or guest", optarg);
	case 'h':
		a->help = true;
		return CLI_OK;
	default:
		return cli_bad_option("run", opt, argv);
	}
}

/* the guest should say something where we listen */
static void default_cmdline(struct run_args *a)
{
	const char *c = a->cmdline ? a->cmdline : "";
	char *text;

	if (!strncmp(c, "console=", 8) || strstr(c, " console="))
		text = strdup(c);
	else if (asprintf(&text, "console=ttyS0%s%s", *c ? " " : "", c) < 0)
		text = NULL;
	a->cfg.cmdline = text;
}

static int start(struct run_args *a)
{
	struct serve_opts o = {
		.console = a->console, .detach = a->detach, .paused = a->paused,
	};
	char file[200], err[600] = "";

	if (!o.console && a->detach && vm_run_dir()) {
		snprintf(file, sizeof(file), "%s/%s.log", vm_run_dir(), a->cfg.name);
		o.console = file;
	}
	if (!o.console)
		o.console = "stdio";
	if (a->detach && !strcmp(o.console, "stdio"))
		return cli_usage("run", "--detach lets go of the terminal: give --console a file, or none");
	if (a->detach)
		cli_note("VM '%s' starts in the background, console in %s", a->cfg.name, o.console);
	return serve_vm(&a->cfg, &o, err, sizeof(err)) ? cli_fail("%s", err) : CLI_OK;
}

int cmd_run(int argc, char **argv)
{
	struct run_args a = { .cfg = { .mem_bytes = 512ULL << 20, .nr_cpus = 1 } };
	const char *why;
	int opt, ret = CLI_OK;

	opterr = 0;
	while (!ret && !a.help && (opt = getopt_long(argc, argv, "k:i:c:m:n:d:h", options, NULL)) != -1)
		ret = parse_option(&a, opt, argv);
	if (ret || a.help) {
		vm_config_free(&a.cfg);
		return ret ? ret : cli_help(help);
	}
	if (optind < argc)
		ret = cli_usage("run", "'%s' is one word too many; is a quote missing around --cmdline?", argv[optind]);
	else if (!a.cfg.kernel)
		ret = cli_usage("run", "which kernel? --kernel FILE names it, for example /boot/vmlinuz-$(uname -r)");
	if (!a.cfg.name && asprintf(&a.cfg.name, "vm-%d", (int)getpid()) < 0)
		a.cfg.name = NULL;
	default_cmdline(&a);
	why = vm_config_check(&a.cfg);
	if (!ret && why)
		ret = cli_usage("run", "%s", why);
	if (!ret)
		ret = start(&a);
	vm_config_free(&a.cfg);
	return ret;
}
