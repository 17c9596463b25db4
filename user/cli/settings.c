// SPDX-License-Identifier: GPL-2.0-only
#include "settings.h"

#include <errno.h>
#include <fcntl.h>
#include <getopt.h>
#include <limits.h>
#include <stdarg.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "cli.h"
#include "run/input.h"

/* ---- the table ------------------------------------------------------------- */

enum {
	SWITCH	= 1 << 0,	/* yes or no; the flag alone means yes */
	PATH	= 1 << 1,	/* the value is a file's name */
	LIST	= 1 << 2,	/* may be repeated; flags replace the whole list of a file */
	DISC	= 1 << 3,	/* a PATH that may be iso:/PATH */
	STDIO	= 1 << 4,	/* a PATH that may be stdio or none */
	BIOS	= 1 << 5,	/* a PATH that may be seabios or ovmf */
};

struct setting {
	const char *name;
	int letter;
	const char *arg;	/* what its value is called */
	unsigned int flags;
	/* NULL, or a sentence. The value of a SWITCH is "yes". */
	const char *(*set)(struct launch *l, const char *value);
	const struct vm_device_kind *device;	/* instead of set(): may be repeated */
	const char *help;
};

static const char *keep(char **to, const char *value)
{
	free(*to);
	*to = strdup(value);
	return *to ? NULL : "out of memory";
}

static const char *set_kernel(struct launch *l, const char *v)
{
	return keep(&l->cfg.kernel, v);
}

static const char *set_initrd(struct launch *l, const char *v)
{
	return vm_config_add_initrd(&l->cfg, v);
}

static const char *set_cmdline(struct launch *l, const char *v)
{
	return keep(&l->cmdline, v);
}

static const char *set_append(struct launch *l, const char *v)
{
	return keep(&l->append, v);
}

static const char *set_iso(struct launch *l, const char *v)
{
	return keep(&l->cfg.iso, v);
}

static const char *set_iso_entry(struct launch *l, const char *v)
{
	return keep(&l->iso_entry, v);
}

static const char *set_firmware(struct launch *l, const char *v)
{
	return *v ? keep(&l->cfg.firmware, v) : "it is seabios, ovmf, or a file";
}

static const char *set_efi_vars(struct launch *l, const char *v)
{
	return keep(&l->cfg.efi_vars, v);
}

static const char *set_arch(struct launch *l, const char *v)
{
	l->arch_given = true;
	return vm_arch_parse(&l->cfg.arch, v) ? NULL : "it is x86_64, aarch64 or riscv64";
}

static const char *set_accel(struct launch *l, const char *v)
{
	return vm_accel_parse(&l->cfg.accel, v) ? NULL : "it is auto, kvm or tcg";
}

static const char *set_memory(struct launch *l, const char *v)
{
	static _Thread_local char why[120];

	return cli_size(v, &l->cfg.mem_bytes, why, sizeof(why)) ? why
								: vm_check_memory(l->cfg.mem_bytes);
}

static const char *set_cpus(struct launch *l, const char *v)
{
	char *end;
	unsigned long n = strtoul(v, &end, 10);

	if (*v < '0' || *v > '9' || *end || n < 1 || n > VM_CPUS_MAX)
		return "it is a number from 1 to 64";
	_Static_assert(VM_CPUS_MAX == 64, "the sentence says it");
	l->cfg.nr_cpus = (unsigned int)n;
	return NULL;
}

static const char *set_affinity(struct launch *l, const char *v)
{
	unsigned int nr;
	const char *why = vm_affinity_parse(v, 0, NULL, &nr);

	return why ? why : keep(&l->cfg.affinity, v);
}

static const char *set_name(struct launch *l, const char *v)
{
	const char *why = vm_check_name(v);

	return why ? why : keep(&l->cfg.name, v);
}

static const char *set_console(struct launch *l, const char *v)
{
	return keep(&l->console, v);
}

static const char *set_detach(struct launch *l, const char *v)
{
	l->detach = true;
	return NULL;
}

static const char *set_paused(struct launch *l, const char *v)
{
	l->paused = true;
	return NULL;
}

static const char *set_no_reboot(struct launch *l, const char *v)
{
	l->cfg.no_reboot = true;
	return NULL;
}

static const char *set_backend(struct launch *l, const char *v)
{
	if (strcmp(v, "memfd") && strcmp(v, "vmplat"))
		return "it is vmplat or memfd";
	l->cfg.backend = *v == 'm' ? VM_BACKEND_MEMFD : VM_BACKEND_VMPLAT;
	return NULL;
}

static const char *set_pinnable(struct launch *l, const char *v)
{
	l->cfg.pinnable = true;
	return NULL;
}

static const char *set_unpack(struct launch *l, const char *v)
{
	return vm_unpack_parse(&l->cfg.unpack, v) ? NULL : "it is host, host-nocache or guest";
}

/* In the order of --help and of a printed file; devices are sections, and come last. */
static const struct setting table[] = {
	{ "name", 0, "NAME", 0, set_name, NULL,
	  "for `vmplat vm`; vm-PID unless given" },
	{ "kernel", 'k', "FILE", PATH | DISC, set_kernel, NULL,
	  "a bzImage (/boot/vmlinuz-*), an uncompressed vmlinux, a unified kernel image, or an Image for arm64 or riscv64, which QEMU runs; iso:/PATH is a file of the disc, efi:/PATH one of its boot image for UEFI" },
	{ "initrd", 'i', "FILE", PATH | LIST | DISC, set_initrd, NULL,
	  "its initial RAM disk; may be repeated, one is put behind the other" },
	{ "cmdline", 'c', "TEXT", 0, set_cmdline, NULL,
	  "its command line; console=ttyS0 is added unless TEXT names a console" },
	{ "append", 0, "TEXT", 0, set_append, NULL,
	  "put behind the command line, also behind the disc's own" },
	{ "iso", 0, "FILE", PATH, set_iso, NULL,
	  "boot this disc image as its boot menu says, with the disc as a read-only disk behind the others; --kernel, --initrd and --cmdline replace what the menu says" },
	{ "iso-entry", 0, "ENTRY", 0, set_iso_entry, NULL,
	  "which entry of the menu: its number, label or title in `vmplat iso boot --entries FILE`; the menu's default unless given" },
	{ "firmware", 0, "WHICH", PATH | BIOS, set_firmware, NULL,
	  "boot as a machine does, by seabios, ovmf (UEFI) or what is in a FILE, from the disc or the first disk; QEMU runs it" },
	{ "efi-vars", 0, "FILE", PATH, set_efi_vars, NULL,
	  "where OVMF keeps its variables, such as the boot entries that an installer adds; made if it is not there. Unless given they are forgotten at the end" },
	{ "arch", 0, "ARCH", 0, set_arch, NULL,
	  "x86_64, aarch64 or riscv64; the kernel's unless given" },
	{ "accel", 0, "HOW", 0, set_accel, NULL,
	  "where QEMU runs it: kvm, tcg (emulation), or auto: KVM if it works for the architecture" },
	{ "memory", 'm', "SIZE", 0, set_memory, NULL,
	  "RAM, 512M unless given" },
	{ "cpus", 'n', "N", 0, set_cpus, NULL,
	  "virtual CPUs, 1 unless given" },
	{ "cpu-affinity", 0, "CPUS[:CPUS]...", 0, set_affinity, NULL,
	  "the CPUs of the host they may run on, such as 2-5: one list for all, or one for each, as in 2:3:4-5" },
	{ "console", 0, "WHERE", PATH | STDIO, set_console, NULL,
	  "stdio, none, or a file to append to" },
	{ "detach", 0, NULL, SWITCH, set_detach, NULL,
	  "go on in the background; the console goes to a file beside the control socket unless --console says where" },
	{ "paused", 0, NULL, SWITCH, set_paused, NULL,
	  "wait for `vmplat vm resume`" },
	{ "no-reboot", 0, NULL, SWITCH, set_no_reboot, NULL,
	  "end when the guest resets itself" },
	{ "memory-backend", 0, "B", 0, set_backend, NULL,
	  "vmplat, or memfd: without the module and its snapshots" },
	{ "pinnable", 0, NULL, SWITCH, set_pinnable, NULL,
	  "memory that devices of the host may reach, which cannot be frozen for a snapshot: for `vmplat vm device add VM pci`; with --device it is always so" },
	{ "unpack", 0, "WHO", 0, set_unpack, NULL,
	  "who unpacks a compressed kernel: host (unless told otherwise; quick, and kept in ~/.cache/vmplat for the next time), host-nocache, or guest: its own code" },
	{ "disk", 'd', "FILE[,ro][,id=ID]", 0, NULL, &vm_disk_kind,
	  "a raw image as virtio disk; may be repeated" },
	{ "net", 0, "WHERE[,mac=ADDRESS][,id=ID]", 0, NULL, &vm_net_kind,
	  "a network device; WHERE is tap=NAME (made if it is not there), socket=PATH (two VMs with the same path, or a program that speaks QEMU's stream protocol), or passt (user-mode networking by passt(1)); may be repeated" },
	{ "device", 0, "ADDRESS[#VF][,owner=NAME][,id=ID]", 0, NULL, &vm_hostdev_kind,
	  "give this PCI function of the host, or that VF of it, to the guest; `vmplat claim add` takes it from the host's driver first; may be repeated" },
};

#define NR_SETTINGS	(sizeof(table) / sizeof(table[0]))
#define FIRST_FLAG	1000	/* of those without a letter: it and the place in the table */

static const struct setting *find_setting(const char *name, size_t len)
{
	for (const struct setting *t = table; t < table + NR_SETTINGS; t++)
		if (strlen(t->name) == len && !memcmp(t->name, name, len))
			return t;
	return NULL;
}

/* ---- assignments ----------------------------------------------------------- */

struct assignment {
	const struct setting *setting;
	const struct vm_key *key;	/* of a device */
	unsigned int device;		/* counts devices from 1, 0: none */
	char *value;
	unsigned int line;		/* of the file; 0: a flag */
};

struct settings {
	struct assignment list[SETTINGS_MAX];
	unsigned int nr, nr_devices;
	char *file;			/* for messages */
};

struct settings *settings_new(void)
{
	struct settings *s = calloc(1, sizeof(*s));

	if (!s)
		abort();
	return s;
}

static void drop(struct settings *s, unsigned int i)
{
	free(s->list[i].value);
	memmove(s->list + i, s->list + i + 1, (--s->nr - i) * sizeof(s->list[0]));
}

void settings_free(struct settings *s)
{
	while (s->nr)
		drop(s, s->nr - 1);
	free(s->file);
	free(s);
}

static int add(struct settings *s, struct assignment a, const char *value)
{
	if (s->nr == SETTINGS_MAX)
		return -E2BIG;
	a.value = strdup(value);
	if (!a.value)
		return -ENOMEM;
	s->list[s->nr++] = a;
	return 0;
}

__attribute__((format(printf, 3, 4)))
static int fail(char why[SETTINGS_WHY], int err, const char *fmt, ...)
{
	va_list ap;

	va_start(ap, fmt);
	vsnprintf(why, SETTINGS_WHY, fmt, ap);
	va_end(ap);
	return err;
}

/* "web.conf:7: memory" or "--memory 7Q" */
static int fail_at(const struct settings *s, const struct assignment *a, char why[SETTINGS_WHY],
		   const char *text)
{
	const char *key = a->key ? a->key->name : a->setting->name;

	if (a->line)
		return fail(why, -EINVAL, "%s:%u: %s: %s", s->file, a->line, key, text);
	if (a->setting->flags & SWITCH)
		return fail(why, -EINVAL, "--%s: %s", a->setting->name, text);
	return fail(why, -EINVAL, "--%s %s: %s", a->setting->name, a->value, text);
}

/* "yes" or "no", or NULL for what is neither */
static const char *yes_no(const char *value)
{
	if (!strcmp(value, "yes") || !strcmp(value, "no"))
		return value;
	return NULL;
}

bool settings_has(const struct settings *s, const char *name)
{
	for (unsigned int i = 0; i < s->nr; i++)
		if (!strcmp(s->list[i].setting->name, name))
			return true;
	return false;
}

/* ---- flags ------------------------------------------------------------------ */

void settings_options(struct option *options, size_t max, char *letters, size_t letters_max)
{
	size_t at = 0;

	if (max <= NR_SETTINGS || letters_max < 2 * NR_SETTINGS + 1)
		abort();
	for (size_t i = 0; i < NR_SETTINGS; i++) {
		const struct setting *t = &table[i];

		options[i] = (struct option){
			.name = t->name,
			.has_arg = t->flags & SWITCH ? optional_argument : required_argument,
			.val = t->letter ? t->letter : FIRST_FLAG + (int)i,
		};
		if (!t->letter)
			continue;
		letters[at++] = (char)t->letter;
		letters[at++] = ':';
	}
	options[NR_SETTINGS] = (struct option){ };
	letters[at] = '\0';
}

/* A flag replaces what the file says; the first of a list all of the file's. */
static void replace(struct settings *s, const struct setting *t)
{
	for (unsigned int i = s->nr; i--;)
		if (s->list[i].setting == t && (s->list[i].line || !(t->flags & LIST)))
			drop(s, i);
}

/* A device replaces the file's that has its id. */
static void replace_device(struct settings *s, unsigned int device)
{
	const struct assignment *id = NULL, *same = NULL;
	unsigned int old = 0;

	for (unsigned int i = 0; i < s->nr; i++)
		if (s->list[i].device == device && !strcmp(s->list[i].key->name, "id"))
			id = &s->list[i];
	for (unsigned int i = 0; id && i < s->nr; i++) {
		same = &s->list[i];
		if (same->line && same->device && same->setting == id->setting && same->key == id->key &&
		    !strcmp(same->value, id->value))
			old = same->device;
	}
	for (unsigned int i = s->nr; old && i--;)
		if (s->list[i].device == old)
			drop(s, i);
}

struct words {
	struct settings *s;
	struct assignment a;
};

static const char *add_word(void *ctx, const struct vm_key *key, const char *value)
{
	struct words *w = ctx;

	w->a.key = key;
	return add(w->s, w->a, key->arg ? value : "yes") ? "that is too much" : NULL;
}

static int flag_device(struct settings *s, const struct setting *t, const char *value,
		       char why[SETTINGS_WHY])
{
	struct words w = { s, { .setting = t, .device = ++s->nr_devices } };
	const char *text = vm_device_words(t->device, value, add_word, &w);

	if (text)
		return fail(why, -EINVAL, "--%s %s: %s", t->name, value, text);
	replace_device(s, w.a.device);
	return 0;
}

static int flag(struct settings *s, const struct setting *t, const char *value,
		char why[SETTINGS_WHY])
{
	if (t->device)
		return flag_device(s, t, value, why);
	if (t->flags & SWITCH) {
		value = value ? yes_no(value) : "yes";
		if (!value)
			return fail(why, -EINVAL, "--%s: it is yes or no", t->name);
	}
	replace(s, t);
	return add(s, (struct assignment){ .setting = t }, value) ?
	       fail(why, -E2BIG, "--%s %s: that is too much", t->name, value) : 0;
}

int settings_flag(struct settings *s, int val, const char *value, char why[SETTINGS_WHY])
{
	const struct setting *t = table;

	while (t < table + NR_SETTINGS && (t->letter ? t->letter : FIRST_FLAG + (int)(t - table)) != val)
		t++;
	return t == table + NR_SETTINGS ? -ENOENT : flag(s, t, value, why);
}

int settings_assign(struct settings *s, const char *name, const char *value,
		    char why[SETTINGS_WHY])
{
	return flag(s, find_setting(name, strlen(name)), value, why);
}

/* @text in lines of at most 80 characters from column 27 on */
static void print_wrapped(FILE *to, const char *text, int column)
{
	while (*text) {
		size_t len = strlen(text), room = 80 - 27;

		if (len > room) {
			len = room;
			while (text[len] != ' ')
				len--;
		}
		fprintf(to, "%*s%.*s\n", 27 - column, "", (int)len, text);
		text += len + strspn(text + len, " ");
		column = 0;
	}
}

void settings_help(FILE *to)
{
	for (const struct setting *t = table; t < table + NR_SETTINGS; t++) {
		int n = t->letter ? fprintf(to, "  -%c, ", t->letter) : fprintf(to, "      ");

		n += fprintf(to, "--%s%s%s", t->name, t->arg ? " " : "", t->arg ? t->arg : "");
		if (n > 25) {
			putc('\n', to);
			n = 0;
		}
		print_wrapped(to, t->help, n);
	}
}

/* ---- the file ---------------------------------------------------------------- */

struct reader {
	struct settings *s;
	const char *dir;
	const struct setting *section;	/* NULL: the VM itself */
	unsigned int section_line;
	unsigned int line;
	char *why;
};

__attribute__((format(printf, 2, 3)))
static int bad_line(struct reader *r, const char *fmt, ...)
{
	int n = snprintf(r->why, SETTINGS_WHY, "%s:%u: ", r->s->file, r->line);
	va_list ap;

	if (n < 0 || n >= SETTINGS_WHY)
		return -EINVAL;
	va_start(ap, fmt);
	vsnprintf(r->why + n, SETTINGS_WHY - (size_t)n, fmt, ap);
	va_end(ap);
	return -EINVAL;
}

static int unknown(struct reader *r, const char *what, const char *name, const char *const *names)
{
	const char *near = strlen(name) < 32 ? cli_nearest(name, names) : NULL;

	return bad_line(r, "there is no %s '%.60s'%s%s%s", what, name, near ? "; did you mean '" : "",
			near ? near : "", near ? "'?" : "");
}

static int unknown_key(struct reader *r, const char *name)
{
	const char *names[NR_SETTINGS + 1] = { NULL };
	size_t nr = 0;
	char what[60];

	if (r->section) {
		for (const struct vm_key *k = r->section->device->keys; k->name && nr < NR_SETTINGS; k++)
			names[nr++] = k->name;
		snprintf(what, sizeof(what), "setting of a %s", r->section->name);
		return unknown(r, what, name, names);
	}
	for (size_t i = 0; i < NR_SETTINGS; i++) {
		if (table[i].device && !strcmp(table[i].name, name))
			return bad_line(r, "a %s is a section, [%s], with settings of its own", name, name);
		names[nr++] = table[i].name;
	}
	return unknown(r, "setting", name, names);
}

/* a device of which nothing is said */
static int end_section(struct reader *r)
{
	const struct settings *s = r->s;

	if (!r->section || (s->nr && s->list[s->nr - 1].device == s->nr_devices))
		return 0;
	r->line = r->section_line;
	return bad_line(r, "the section [%s] says nothing", r->section->name);
}

static int begin_section(struct reader *r, char *name, size_t len)
{
	const char *names[NR_SETTINGS + 1] = { NULL };
	const struct setting *t;
	size_t nr = 0;

	if (end_section(r))
		return -EINVAL;
	if (name[len - 1] != ']')
		return bad_line(r, "a section ends with ']', and nothing behind it");
	name[len - 1] = '\0';
	t = find_setting(name + 1, len - 2);
	if (t && t->device) {
		r->section = t;
		r->section_line = r->line;
		r->s->nr_devices++;
		return 0;
	}
	for (size_t i = 0; i < NR_SETTINGS; i++)
		if (table[i].device)
			names[nr++] = table[i].name;
	return unknown(r, "section", name + 1, names);
}

/* "..." with \" \\ \n \t, in place */
static int unquote(struct reader *r, char *value)
{
	static const char escapes[] = "\"\\nt", means[] = "\"\\\n\t";
	char *from = value + 1, *to = value;

	for (; *from != '"'; from++) {
		if (!*from)
			return bad_line(r, "a quote is not closed");
		if (*from == '\\') {
			const char *e = from[1] ? strchr(escapes, from[1]) : NULL;

			if (!e)
				return bad_line(r, "between quotes there are \\\", \\\\, \\n and \\t");
			*to++ = means[e - escapes];
			from++;
		} else {
			*to++ = *from;
		}
	}
	*to = '\0';
	if (from[1])
		return bad_line(r, "there is more behind the closing quote");
	return 0;
}

/* @value as it is seen from the file; words that are no names stay */
static char *from_dir(const char *dir, const struct setting *t, const struct vm_key *key,
		      const char *value)
{
	bool path = key ? key->path : t->flags & PATH;
	char *full;

	if (!path || !*dir || *value == '/' || !*value ||
	    (t->flags & DISC && input_on_disc(value)) ||
	    (t->flags & STDIO && (!strcmp(value, "stdio") || !strcmp(value, "none"))) ||
	    (t->flags & BIOS && (!strcmp(value, "seabios") || !strcmp(value, "ovmf"))))
		return strdup(value);
	return asprintf(&full, "%s/%s", dir, value) < 0 ? NULL : full;
}

static const struct assignment *given_already(const struct settings *s, const struct assignment *a)
{
	for (unsigned int i = 0; i < s->nr; i++) {
		const struct assignment *b = &s->list[i];

		if (b->line && b->setting == a->setting && b->key == a->key && b->device == a->device &&
		    !(a->setting->flags & LIST))
			return b;
	}
	return NULL;
}

static int assign_line(struct reader *r, const char *name, char *value)
{
	struct assignment a = { .line = r->line };
	const struct assignment *before;
	char *full;
	int ret;

	if (r->section) {
		a.setting = r->section;
		a.device = r->s->nr_devices;
		a.key = vm_key_find(r->section->device, name, strlen(name));
	} else {
		a.setting = find_setting(name, strlen(name));
	}
	if (!a.setting || (a.setting->device && !a.key))
		return unknown_key(r, name);
	if (*value == '"' && unquote(r, value))
		return -EINVAL;
	before = given_already(r->s, &a);
	if (before)
		return bad_line(r, "%s: given in line %u already", name, before->line);
	if (a.key ? !a.key->arg : a.setting->flags & SWITCH)
		if (!yes_no(value))
			return bad_line(r, "%s: it is yes or no", name);
	full = from_dir(r->dir, a.setting, a.key, value);
	if (!full)
		return fail(r->why, -ENOMEM, "out of memory");
	ret = add(r->s, a, full);
	free(full);
	return ret ? bad_line(r, "more than %d settings", SETTINGS_MAX) : 0;
}

static char *trim(char *from, char *end)
{
	while (end > from && strchr(" \t\r", end[-1]))
		end--;
	*end = '\0';
	return from + strspn(from, " \t");
}

static int read_line(struct reader *r, char *line)
{
	char *text = trim(line, line + strlen(line)), *value = strchr(text, '=');

	if (!*text || *text == '#' || *text == ';')
		return 0;
	if (*text == '[')
		return begin_section(r, text, strlen(text));
	if (!value || value == text)
		return bad_line(r, "a line is KEY = VALUE, [SECTION], or a # comment");
	*value = '\0';
	text = trim(text, value);
	value++;
	return assign_line(r, text, value + strspn(value, " \t"));
}

int settings_read(struct settings *s, const char *name, const char *dir, const char *text,
		  size_t len, char why[SETTINGS_WHY])
{
	struct reader r = { .s = s, .dir = dir, .why = why };
	char *copy = malloc(len + 1), *rest = copy, *line;
	int ret = 0;

	free(s->file);
	s->file = strdup(name);
	if (!copy || !s->file) {
		free(copy);
		return fail(why, -ENOMEM, "out of memory");
	}
	memcpy(copy, text, len);
	copy[len] = '\0';
	while (!ret && (line = strsep(&rest, "\n"))) {
		r.line++;
		/* a line ends at the newline that strsep() took, or at the end */
		if (strlen(line) != (size_t)((rest ? rest - 1 : copy + len) - line))
			ret = bad_line(&r, "a zero byte: this is no text");
		else
			ret = read_line(&r, line);
	}
	free(copy);
	return ret ? ret : end_section(&r);
}

static int read_all(const char *path, char *buf, size_t *len, char why[SETTINGS_WHY])
{
	int fd = open(path, O_RDONLY | O_CLOEXEC | O_NONBLOCK);
	struct stat st;
	ssize_t n = 0;

	*len = 0;
	if (fd < 0)
		return fail(why, -errno, "%s: %s", path, strerror(errno));
	if (!fstat(fd, &st) && S_ISDIR(st.st_mode))
		n = -1, errno = EISDIR;
	while (n >= 0 && *len <= SETTINGS_FILE_MAX) {
		n = read(fd, buf + *len, SETTINGS_FILE_MAX + 1 - *len);
		if (n <= 0)
			break;
		*len += (size_t)n;
	}
	close(fd);
	if (n < 0)
		return fail(why, -errno, "%s: %s", path, strerror(errno));
	if (*len > SETTINGS_FILE_MAX)
		return fail(why, -EFBIG, "%s: more than 1 MiB is no configuration", path);
	return 0;
}

int settings_read_file(struct settings *s, const char *path, char why[SETTINGS_WHY])
{
	const char *slash = strrchr(path, '/');
	char *buf = malloc(SETTINGS_FILE_MAX + 1);
	char *dir = slash ? strndup(path, slash == path ? 1 : (size_t)(slash - path)) : strdup("");
	size_t len;
	int ret;

	if (!buf || !dir) {
		ret = fail(why, -ENOMEM, "out of memory");
	} else {
		ret = read_all(path, buf, &len, why);
		if (!ret)
			ret = settings_read(s, path, dir, buf, len, why);
	}
	free(buf);
	free(dir);
	return ret;
}

/* ---- what it comes to -------------------------------------------------------- */

static int apply_device(const struct settings *s, unsigned int first, struct launch *to,
			char why[SETTINGS_WHY])
{
	const struct assignment *a = &s->list[first];
	const struct vm_device_kind *kind = a->setting->device;
	void *dev = calloc(1, kind->bytes);
	const char *text = dev ? NULL : "out of memory";
	unsigned int i;

	for (i = first; !text && i < s->nr && s->list[i].device == a->device; i++) {
		const struct assignment *b = &s->list[i];

		if (!b->key->arg && strcmp(b->value, "yes"))
			continue;
		text = b->key->set(dev, b->value);
		if (text)
			a = b;
	}
	if (!text)
		text = kind->complete(dev);
	if (!text)
		text = kind->add(&to->cfg, dev);
	if (dev)
		kind->free(dev);
	free(dev);
	return text ? fail_at(s, a, why, text) : 0;
}

static int apply_one(const struct settings *s, unsigned int i, struct launch *to,
		     char why[SETTINGS_WHY])
{
	const struct assignment *a = &s->list[i];
	const char *text;

	if (a->device)	/* its words follow each other */
		return i && s->list[i - 1].device == a->device ? 0 : apply_device(s, i, to, why);
	if (a->setting->flags & SWITCH && strcmp(a->value, "yes"))
		return 0;
	text = a->setting->set(to, a->value);
	return text ? fail_at(s, a, why, text) : 0;
}

void launch_free(struct launch *l)
{
	vm_config_free(&l->cfg);
	free(l->cmdline);
	free(l->append);
	free(l->iso_entry);
	free(l->console);
	memset(l, 0, sizeof(*l));
}

int settings_apply(const struct settings *s, struct launch *to, char why[SETTINGS_WHY])
{
	const char *text;
	int ret = 0;

	memset(to, 0, sizeof(*to));
	to->cfg.mem_bytes = 512ULL << 20;
	to->cfg.nr_cpus = 1;
	for (unsigned int i = 0; i < s->nr && !ret; i++)
		ret = apply_one(s, i, to, why);
	to->unnamed = !to->cfg.name;
	if (!ret && !to->cfg.name && asprintf(&to->cfg.name, "vm-%d", (int)getpid()) < 0) {
		to->cfg.name = NULL;
		ret = fail(why, -ENOMEM, "out of memory");
	}
	text = ret ? NULL : vm_config_check(&to->cfg);
	if (text)
		ret = s->file ? fail(why, -EINVAL, "%s: %s", s->file, text) : fail(why, -EINVAL, "%s", text);
	if (ret)
		launch_free(to);
	return ret;
}

/* ---- printing ------------------------------------------------------------------ */

static void print_value(FILE *to, const char *v)
{
	size_t len = strlen(v);
	bool quote = !len || *v == '"' || strpbrk(v, "\n\r\t") || *v == ' ' || v[len - 1] == ' ';

	if (!quote) {
		fputs(v, to);
		return;
	}
	putc('"', to);
	for (; *v; v++) {
		if (*v == '"' || *v == '\\')
			putc('\\', to);
		if (*v == '\n' || *v == '\t')
			fprintf(to, "\\%c", *v == '\n' ? 'n' : 't');
		else
			putc(*v, to);
	}
	putc('"', to);
}

static void print_assignment(const struct assignment *a, FILE *to, const char *cwd)
{
	char *full = from_dir(cwd, a->setting, a->key, a->value);

	if (!full)
		abort();
	fprintf(to, "%s = ", a->key ? a->key->name : a->setting->name);
	print_value(to, full);
	putc('\n', to);
	free(full);
}

int settings_print(const struct settings *s, FILE *to)
{
	char cwd[PATH_MAX];
	unsigned int device = 0;

	if (!getcwd(cwd, sizeof(cwd)))
		return -errno;
	for (size_t i = 0; i < NR_SETTINGS; i++) {
		for (unsigned int k = 0; k < s->nr; k++) {
			const struct assignment *a = &s->list[k];

			if (a->setting != &table[i])
				continue;
			if (a->device && a->device != device)
				fprintf(to, "\n[%s]\n", a->setting->name);
			device = a->device;
			print_assignment(a, to, cwd);
		}
	}
	return 0;
}
