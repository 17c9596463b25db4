// SPDX-License-Identifier: GPL-2.0-only
/* vmplat run: a VM in this process. */
#include <errno.h>
#include <fcntl.h>
#include <getopt.h>
#include <json-c/json.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include <vmplat.h>
#include <vmplat_iso.h>

#include "cli.h"
#include "run/client.h"
#include "run/config.h"
#include "image/uki.h"
#include "run/input.h"
#include "run/qemu_args.h"
#include "run/record.h"
#include "run/serve.h"
#include "run/vfio.h"
#include "settings.h"

static const char help_head[] =
"usage: vmplat run [FILE] [OPTION]...\n"
"\n"
"Boot a Linux kernel under KVM on vmplat memory. It runs until the guest powers\n"
"off, `vmplat vm stop`, SIGTERM, or Ctrl-A x on its console. FILE is a disc image,\n"
"as with --iso, or a configuration, see vmplat.conf(5): what that says, options\n"
"replace.\n"
"\n";

static const char help_tail[] =
"      --check              say what would be booted, or what is wrong, and end\n"
"      --print-config       print all of it as a configuration file, and end\n";

enum { OPT_CHECK = 'C', OPT_PRINT = 'P', OPTIONS_MAX = 64, FLAGS_MAX = 256 };

static const struct option own_options[] = {
	{ "check", no_argument, NULL, OPT_CHECK },
	{ "print-config", no_argument, NULL, OPT_PRINT },
	{ "help", no_argument, NULL, 'h' },
	{ }
};

/* Flags wait until FILE has been read, wherever it stands between them. */
struct flag {
	int opt;
	const char *value;
};

struct run_args {
	struct flag flags[FLAGS_MAX];
	unsigned int nr_flags;
	const char *file;
	bool check, print, help;
	bool define;		/* `vmplat vm define`, not `vmplat run` */
};

static int parse_args(struct run_args *a, int argc, char **argv)
{
	struct option options[OPTIONS_MAX];
	char letters[2 * OPTIONS_MAX];
	size_t nr = 0;
	int opt;

	settings_options(options, OPTIONS_MAX - 4, letters, sizeof(letters) - 2);
	while (options[nr].name)
		nr++;
	memcpy(options + nr, own_options, sizeof(own_options));
	strcat(letters, "h");
	opterr = 0;
	while ((opt = getopt_long(argc, argv, letters, options, NULL)) != -1) {
		if (opt == '?' || opt == ':')
			return cli_bad_option("run", opt, argv);
		if (a->nr_flags == FLAGS_MAX)
			return cli_usage("run", "more than %d options", FLAGS_MAX);
		a->check |= opt == OPT_CHECK;
		a->print |= opt == OPT_PRINT;
		a->help |= opt == 'h';
		if (opt != OPT_CHECK && opt != OPT_PRINT && opt != 'h')
			a->flags[a->nr_flags++] = (struct flag){ opt, optarg };
	}
	if (optind < argc)
		a->file = argv[optind++];
	if (optind < argc && !a->help)
		return cli_usage("run", "'%s' is one word too many; is a quote missing around --cmdline?",
				 argv[optind]);
	return CLI_OK;
}

/* 1 with @iso open, 0: no disc, or CLI_FAILED after saying why as a negative number */
static int open_disc(const char *path, struct vmplat_iso **iso)
{
	int fd = open(path, O_RDONLY | O_CLOEXEC | O_NONBLOCK), rc;

	if (fd < 0) {
		cli_fail("%s: %s", path, strerror(errno));
		return -CLI_FAILED;
	}
	rc = vmplat_iso_open(iso, fd);
	if (!rc)
		return 1;
	close(fd);
	return 0;
}

/* What else than a configuration FILE is, which is text. */
static int not_text(const char *path)
{
	char buf[512];
	int fd = open(path, O_RDONLY | O_CLOEXEC | O_NONBLOCK);
	ssize_t n = fd < 0 ? 0 : read(fd, buf, sizeof(buf));
	struct vmplat_image *img;
	const char *role;
	int rc;

	if (fd >= 0)
		close(fd);
	if (n <= 0 || !memchr(buf, '\0', (size_t)n) || vmplat_image_open(&img, path, 0))
		return CLI_OK;
	role = vmplat_image_role(img);
	rc = cli_usage("run", "%s is no disc and no configuration: %s%s%s", path,
		       vmplat_image_summary(img), role ? "; it comes with --" : "", role ? role : "");
	vmplat_image_close(img);
	return rc;
}

/* FILE: a disc, or a configuration */
static int read_file(const char *path, struct settings *s)
{
	char why[SETTINGS_WHY];
	struct vmplat_iso *iso;
	int rc = open_disc(path, &iso);

	if (rc < 0)
		return -rc;
	if (rc) {
		vmplat_iso_close(iso);
		return settings_assign(s, "iso", path, why) ? cli_usage("run", "%s", why) : CLI_OK;
	}
	rc = not_text(path);
	if (!rc && settings_read_file(s, path, why))
		rc = cli_fail("%s", why);
	return rc;
}

static int read_settings(const struct run_args *a, struct settings *s)
{
	char why[SETTINGS_WHY];
	int rc = a->file ? read_file(a->file, s) : CLI_OK;

	for (unsigned int i = 0; i < a->nr_flags && !rc; i++)
		if (settings_flag(s, a->flags[i].opt, a->flags[i].value, why))
			rc = cli_usage("run", "%s", why);
	return rc;
}

/* ---- what is booted ---------------------------------------------------------- */

static bool has_word(const char *cmdline, const char *word)
{
	for (const char *at = cmdline; at && (at = strstr(at, word)); at++)
		if (at == cmdline || at[-1] == ' ')
			return true;
	return false;
}

/* "a b", of which either may be empty or NULL; NULL: out of memory */
static char *join(const char *a, const char *b)
{
	char *text;

	a = a ? a : "";
	b = b ? b : "";
	return asprintf(&text, "%s%s%s", a, *a && *b ? " " : "", b) < 0 ? NULL : text;
}

/* the guest should say something where we listen */
static int make_cmdline(struct launch *l)
{
	bool console = has_word(l->cmdline, "console=") || has_word(l->append, "console=");
	char word[32], *text;

	snprintf(word, sizeof(word), "console=%s", qemu_console(l->cfg.arch));
	text = join(console ? "" : word, l->cmdline);
	l->cfg.cmdline = text ? join(text, l->append) : NULL;
	free(text);
	return l->cfg.cmdline ? CLI_OK : cli_fail("out of memory");
}

/* ---- of what architecture ------------------------------------------------------- */

/* false: nothing that says so */
static bool arch_of_image(const struct vmplat_image *img, enum vm_arch *arch)
{
	switch (vmplat_image_kind(img)) {
	case VMPLAT_IMAGE_BZIMAGE:
		*arch = VM_ARCH_X86_64;
		return true;
	case VMPLAT_IMAGE_ARM64:
		*arch = VM_ARCH_AARCH64;
		return true;
	case VMPLAT_IMAGE_RISCV:
		*arch = VM_ARCH_RISCV64;
		return true;
	default:
		return false;
	}
}

static int read_kernel(const struct launch *l, struct vmplat_image **img)
{
	const char *why;
	struct input in;
	uint8_t *buf;
	int rc = CLI_OK;

	if (input_open(&in, l->cfg.iso, l->cfg.kernel, &why))
		return cli_fail("kernel %s: %s", l->cfg.kernel, why);
	buf = malloc(in.bytes + 1);
	if (!buf)
		rc = cli_fail("kernel %s: it does not fit into memory", l->cfg.kernel);
	else if (input_read(&in, buf, &why))
		rc = cli_fail("kernel %s: %s", l->cfg.kernel, why);
	else if (vmplat_image_from_bytes(img, buf, in.bytes, 0))
		rc = cli_fail("kernel %s: %s", l->cfg.kernel, vmplat_last_error());
	free(buf);
	input_close(&in);
	return rc;
}

/* ---- unified kernel images -------------------------------------------------------- */

static char *section_of(const char *name, const char *path)
{
	char *text;

	return asprintf(&text, "section:%s:%s", name, path) < 0 ? NULL : text;
}

/* the section's text as arguments: "" if there is none, NULL: out of memory */
static char *section_text(const struct launch *l, const char *name)
{
	char *path = section_of(name, l->cfg.kernel), *text = NULL;
	const char *why;
	struct input in;

	if (path && !input_open(&in, l->cfg.iso, path, &why)) {
		text = in.bytes < 65536 ? calloc(1, in.bytes + 1) : NULL;
		if (text && input_read(&in, (uint8_t *)text, &why))
			*text = '\0';
		input_close(&in);
	} else if (path) {
		text = strdup("");
	}
	free(path);
	for (size_t n = text ? strlen(text) : 0; n && strchr(" \t\r\n", text[n - 1]); n--)
		text[n - 1] = '\0';
	return text;
}

/* an initrd of it goes before those that were named */
static int prepend_section(struct launch *l, const char *name)
{
	struct vm_config *c = &l->cfg;
	char *path = section_of(name, c->kernel), *last;
	const char *why;
	struct input in;

	if (!path)
		return cli_fail("out of memory");
	if (input_open(&in, c->iso, path, &why)) {	/* it has none */
		free(path);
		return CLI_OK;
	}
	input_close(&in);
	why = vm_config_add_initrd(c, path);
	free(path);
	if (why)
		return cli_fail("kernel %s: %s", c->kernel, why);
	last = c->initrds[c->nr_initrds - 1];
	memmove(c->initrds + 1, c->initrds, (c->nr_initrds - 1) * sizeof(c->initrds[0]));
	c->initrds[0] = last;
	return CLI_OK;
}

/* What it is made of; what the command line says goes before that. */
static int take_apart(struct launch *l)
{
	char *kernel = section_of(".linux", l->cfg.kernel);
	int rc = kernel ? CLI_OK : cli_fail("out of memory");

	if (!rc && !l->cmdline) {
		l->cmdline = section_text(l, ".cmdline");
		rc = l->cmdline ? CLI_OK : cli_fail("kernel %s: its .cmdline is too long", l->cfg.kernel);
	}
	/* processors' microcode is for the host */
	if (!rc)
		rc = prepend_section(l, ".initrd");
	if (rc) {
		free(kernel);
		return rc;
	}
	free(l->cfg.kernel);
	l->cfg.kernel = kernel;
	return CLI_OK;
}

static int open_uki(struct launch *l)
{
	uint8_t head[UKI_HEAD];
	struct input in;
	const char *why;
	uint64_t bytes;
	bool is_uki;
	int rc;

	if (input_open(&in, l->cfg.iso, l->cfg.kernel, &why))
		return cli_fail("kernel %s: %s", l->cfg.kernel, why);
	bytes = in.bytes;
	if (in.bytes > sizeof(head))
		in.bytes = sizeof(head);
	rc = input_read(&in, head, &why) ? cli_fail("kernel %s: %s", l->cfg.kernel, why) : CLI_OK;
	is_uki = !rc && uki_is(head, in.bytes, bytes);
	input_close(&in);
	return is_uki ? take_apart(l) : rc;
}

/* The kernel says it, unless it was said. */
static int find_arch(struct launch *l)
{
	struct vmplat_image *img;
	enum vm_arch arch;
	const char *why;
	bool known;
	int rc = read_kernel(l, &img);

	if (rc)
		return rc;
	known = arch_of_image(img, &arch);
	vmplat_image_close(img);
	if (known && l->arch_given && arch != l->cfg.arch)
		return cli_usage("run", "kernel %s is for %s, not %s", l->cfg.kernel,
				 vm_arch_name(arch), vm_arch_name(l->cfg.arch));
	if (known)
		l->cfg.arch = arch;
	why = vm_config_check(&l->cfg);
	return why ? cli_usage("run", "%s", why) : CLI_OK;
}

static char *on_disc(const char *path)
{
	const char *tree = *path == '/' ? "iso:" : "";	/* what is elsewhere says so */
	char *text;

	return asprintf(&text, "%s%s", tree, path) < 0 ? NULL : text;
}

/* the last console is /dev/console, where installers and init are */
static int menu_cmdline(struct launch *l, const char *args)
{
	bool serial = has_word(args, "console=ttyS") || has_word(l->append, "console=ttyS") ||
		      has_word(args, "console=hvc") || has_word(l->append, "console=hvc");

	l->cmdline = join(args, serial ? "" : "console=ttyS0");
	if (!serial)
		cli_note("console=ttyS0 is added to the entry's arguments: it names no serial console");
	return l->cmdline ? CLI_OK : cli_fail("out of memory");
}

/* what the command line does not say is as the menu has it */
static int take_choice(struct launch *l, const struct vmplat_iso_choice *c)
{
	const char *why = NULL;

	cli_note("%s: booting '%s'", l->cfg.iso, c->title);
	l->cfg.kernel = on_disc(c->kernel);
	for (unsigned int i = 0, all = l->cfg.nr_initrds ? 0 : c->nr_initrds; i < all && !why; i++) {
		char *path = on_disc(c->initrds[i]);

		why = path ? vm_config_add_initrd(&l->cfg, path) : "out of memory";
		free(path);
	}
	if (!l->cfg.kernel)
		why = "out of memory";
	if (why)
		return cli_fail("%s: %s", l->cfg.iso, why);
	/* one that says nothing leaves it to its kernel, if that is a unified image */
	return l->cmdline || !*c->args ? CLI_OK : menu_cmdline(l, c->args);
}

static int choose_entry(struct launch *l, struct vmplat_iso *iso)
{
	const struct vmplat_iso_choice *c;
	struct vmplat_iso_menu *menu;
	int rc;

	if (vmplat_iso_menu_open(&menu, iso))
		return cli_fail("%s: %s", l->cfg.iso, vmplat_last_error());
	if (vmplat_iso_menu_pick(menu, l->iso_entry, &c))
		rc = cli_fail("%s: %s; `vmplat iso boot --entries` lists what there is, --kernel iso:/PATH names another",
			      l->cfg.iso, vmplat_last_error());
	else
		rc = take_choice(l, c);
	vmplat_iso_menu_close(menu);
	return rc;
}

/* the disc is a disk as well, behind the others */
static int attach_disc(struct launch *l)
{
	struct vm_disk d = { .path = l->cfg.iso, .readonly = true };
	const char *why;

	if (!vm_config_disk(&l->cfg, "cdrom"))
		strcpy(d.id, "cdrom");
	why = vm_config_add_disk(&l->cfg, &d);
	return why ? cli_fail("%s: %s", l->cfg.iso, why) : CLI_OK;
}

static int use_disc(struct launch *l)
{
	struct vmplat_iso *iso;
	int rc = open_disc(l->cfg.iso, &iso);

	if (rc < 0)
		return -rc;
	if (!rc)
		return cli_fail("%s: %s", l->cfg.iso, vmplat_last_error());
	rc = l->cfg.kernel || l->cfg.firmware ? CLI_OK : choose_entry(l, iso);
	vmplat_iso_close(iso);
	return rc ? rc : attach_disc(l);
}

/* firmware finds what it boots by itself; a kernel it may be given */
static int complete_firmware(const struct launch *l)
{
	if (l->iso_entry)
		return cli_usage("run", "--iso-entry and --firmware: firmware shows the menu itself, on the console");
	if (!l->cfg.kernel && (l->cfg.nr_initrds || l->cmdline || l->append))
		return cli_usage("run", "--initrd, --cmdline and --append go with a --kernel; what firmware boots has its own");
	return CLI_OK;
}

static int complete(struct launch *l)
{
	int rc = l->cfg.firmware ? complete_firmware(l) : CLI_OK;

	if (rc)
		return rc;
	if (l->iso_entry && (!l->cfg.iso || l->cfg.kernel))
		return cli_usage("run", l->cfg.iso ? "--kernel and --iso-entry: the entry has a kernel of its own"
					: "--iso-entry: of which disc? --iso FILE names it");
	if (l->cfg.iso)
		rc = use_disc(l);
	else if (!l->cfg.kernel && !l->cfg.firmware)
		rc = cli_usage("run", "which kernel? --kernel FILE names it, for example /boot/vmlinuz-$(uname -r), or --iso a disc; --firmware ovmf boots a disk as a machine does");
	if (!rc && l->cfg.kernel && !l->cfg.firmware)
		rc = open_uki(l);
	if (!rc && l->cfg.kernel)
		rc = find_arch(l);
	if (!rc && l->cfg.accel == VM_ACCEL_TCG && !vm_config_uses_qemu(&l->cfg))
		rc = cli_usage("run", "--accel tcg: this kernel is entered directly, under KVM; with --firmware seabios, QEMU can emulate the CPU");
	return rc || !l->cfg.kernel ? rc : make_cmdline(l);
}

/* ---- without running it ---------------------------------------------------------- */

static int check_input(const struct launch *l, const char *what, const char *path)
{
	struct input in;
	char size[CLI_NUM_LEN];
	const char *why;

	if (input_open(&in, l->cfg.iso, path, &why))
		return cli_fail("%s %s: %s", what, path, why);
	printf("%-10s%s (%s)\n", what, path, cli_show_bytes(in.bytes, size));
	input_close(&in);
	return CLI_OK;
}

static int check_disk(const struct vm_disk *d)
{
	if (access(d->path, d->readonly ? R_OK : R_OK | W_OK))
		return cli_fail("disk %s: %s", d->path, strerror(errno));
	printf("%-10s%s, %s%s\n", "disk", d->path, d->id, d->readonly ? ", read-only" : "");
	return CLI_OK;
}

static int check_device(const struct vm_hostdev *d)
{
	char address[VFIO_ADDRESS], why[400];
	unsigned int group;

	if (vfio_host_check(d, address, &group, why, sizeof(why)))
		return cli_fail("device %s: %s", d->host, why);
	printf("%-10s%s, %s, IOMMU group %u\n", "device", address, d->id, group);
	return CLI_OK;
}

static void print_advice(void *ctx, unsigned int cpu, enum vmplat_cpu_issue issue, const char *text)
{
	printf("%-10sCPU %u: %s\n", "advice", cpu, text);
}

/* CPUs that somebody chose are to be left alone by others */
static int check_affinity(const struct vm_config *c)
{
	struct vmplat_cpus all = { }, one, allowed;
	unsigned int nr;

	if (!c->affinity)
		return CLI_OK;
	for (unsigned int vcpu = 0; vcpu < c->nr_cpus; vcpu++) {
		vm_affinity_parse(c->affinity, vcpu, &one, &nr);
		for (unsigned int cpu = 0; cpu < VMPLAT_CPUS_MAX; cpu++)
			if (vmplat_cpus_has(&one, cpu))
				vmplat_cpus_add(&all, cpu);
	}
	if (vmplat_cpus_allowed(&allowed))
		return cli_fail("%s", vmplat_last_error());
	vmplat_cpus_advise(&all, print_advice, NULL);
	for (unsigned int cpu = 0; cpu < VMPLAT_CPUS_MAX; cpu++)
		if (vmplat_cpus_has(&all, cpu) && !vmplat_cpus_has(&allowed, cpu))
			return cli_fail("virtual CPUs cannot run on CPU %u: it is offline, or not for this process",
					cpu);
	return CLI_OK;
}

static int check(const struct launch *l)
{
	const struct vm_config *c = &l->cfg;
	char size[CLI_NUM_LEN];
	int rc = c->kernel ? check_input(l, "kernel", c->kernel) : CLI_OK;

	if (vm_config_uses_qemu(c))
		printf("%-10s%s, %s\n", "engine", qemu_program(c->arch),
		       c->firmware ? c->firmware : "without firmware of ours");
	for (unsigned int i = 0; i < c->nr_initrds; i++)
		rc |= check_input(l, "initrd", c->initrds[i]);
	if (c->cmdline)
		printf("%-10s%s\n", "cmdline", c->cmdline);
	printf("%-10s%s\n%-10s%u%s%s\n", "memory",
	       cli_show_bytes(c->mem_bytes, size), "cpus", c->nr_cpus, c->affinity ? " on " : "",
	       c->affinity ? c->affinity : "");
	rc |= check_affinity(c);
	for (unsigned int i = 0; i < c->nr_disks; i++)
		rc |= check_disk(&c->disks[i]);
	for (unsigned int i = 0; i < c->nr_nets; i++)
		printf("%-10s%s%s%s, %s\n", "net", vm_net_kind_name(c->nets[i].kind),
		       c->nets[i].where ? " " : "", c->nets[i].where ? c->nets[i].where : "",
		       c->nets[i].id);
	for (unsigned int i = 0; i < c->nr_hostdevs; i++)
		rc |= check_device(&c->hostdevs[i]);
	return rc;
}

/* ---- running it ------------------------------------------------------------------ */

static int start(struct launch *l)
{
	struct serve_opts o = {
		.console = l->console, .detach = l->detach, .paused = l->paused,
		.forget = l->unnamed,
	};
	char file[200], err[600] = "";

	if (!o.console && l->detach && vm_run_dir()) {
		snprintf(file, sizeof(file), "%s/%s.log", vm_run_dir(), l->cfg.name);
		o.console = file;
	}
	if (!o.console)
		o.console = "stdio";
	if (l->detach && !strcmp(o.console, "stdio"))
		return cli_usage("run", "--detach lets go of the terminal: give --console a file, or none");
	if (l->detach)
		cli_note("VM '%s' starts in the background, console in %s", l->cfg.name, o.console);
	return serve_vm(&l->cfg, &o, err, sizeof(err)) ? cli_fail("%s", err) : CLI_OK;
}

/* All there is to it until it is started; what is wrong already is found now. */
static int define(struct launch *l)
{
	const char *dir = vm_run_dir();
	struct json_object *old;
	struct record *r = NULL;
	char why[600];
	int lock, rc;

	if (l->unnamed)
		return cli_usage("vm define", "what is it to be called? --name NAME says it");
	rc = check(l);
	if (rc)
		return rc;
	lock = dir ? name_lock(dir, l->cfg.name, why, sizeof(why)) : -ENOENT;
	if (lock < 0)
		return cli_fail("%s", dir ? why : vm_client_error());
	old = record_read(dir, l->cfg.name);
	if (old)
		rc = cli_fail("there is a VM called '%s' already: it %s; `vmplat vm forget %s` forgets it",
			      l->cfg.name, vm_status_phrase(record_status(old)), l->cfg.name);
	else
		rc = record_begin(&r, dir, &l->cfg, l->console, VM_DEFINED, why, sizeof(why)) ?
		     cli_fail("%s", why) : CLI_OK;
	json_object_put(old);
	record_free(r);
	close(lock);
	return rc;
}

static int run(const struct run_args *a, const struct settings *s)
{
	struct launch l;
	char why[SETTINGS_WHY];
	int rc;

	if (settings_apply(s, &l, why))
		return cli_usage("run", "%s", why);
	rc = a->print ? CLI_OK : complete(&l);
	if (!rc && a->print)
		rc = settings_print(s, stdout) ? cli_fail("the current directory: %s", strerror(errno))
					       : CLI_OK;
	else if (!rc)
		rc = a->check ? check(&l) : a->define ? define(&l) : start(&l);
	launch_free(&l);
	return rc;
}

static const char define_help[] =
"usage: vmplat vm define [FILE] [OPTION]... --name NAME\n"
"\n"
"Check what FILE and options say, as those of `vmplat run`, and keep it until\n"
"`vmplat vm start NAME`. It is kept beside the control sockets, which go with the\n"
"host: what is to outlive that is a configuration, vmplat.conf(5).\n"
"\n";

static int read_and_run(struct run_args *a, int argc, char **argv)
{
	struct settings *s;
	int rc = parse_args(a, argc, argv);

	if (rc)
		return rc;
	if (a->help) {
		fputs(a->define ? define_help : help_head, stdout);
		settings_help(stdout);
		return cli_help(a->define ? "" : help_tail);
	}
	s = settings_new();
	rc = read_settings(a, s);
	if (!rc)
		rc = run(a, s);
	settings_free(s);
	return rc;
}

int cmd_run(int argc, char **argv)
{
	struct run_args a = { .nr_flags = 0 };

	return read_and_run(&a, argc, argv);
}

int cmd_vm_define(int argc, char **argv);

int cmd_vm_define(int argc, char **argv)
{
	struct run_args a = { .define = true };

	return read_and_run(&a, argc, argv);
}
