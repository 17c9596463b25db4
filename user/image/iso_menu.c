// SPDX-License-Identifier: LGPL-2.1-or-later
/*
 * Which Linux kernels a disc would boot, and with what: the menus of isolinux, GRUB and
 * systemd-boot, also in the boot image for UEFI, or, if they have none, the places where
 * distributions put them.
 */
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/stat.h>

#include "image/iso.h"
#include "image/kernel.h"
#include "iso_menu.h"
#include "uki.h"

/* ---- the arena ---------------------------------------------------------------- */

struct menu_block {
	struct menu_block *next;
	uint64_t bytes[];
};

static void stop(struct menu *m, const char *why)
{
	if (!m->stopped)
		menu_note(m, "%s%s%s: the rest is left out", m->depth ? m->open[m->depth - 1] : "",
			  m->depth ? ": " : "", why);
	m->stopped = true;
}

static void *take(struct menu *m, size_t bytes)
{
	struct menu_block *b;

	b = calloc(1, sizeof(*b) + bytes);
	if (!b)
		return NULL;
	b->next = m->blocks;
	m->blocks = b;
	m->arena_bytes += sizeof(*b) + bytes;
	return b->bytes;
}

/* notes, of which there are few, are beyond the limit */
void *menu_alloc(struct menu *m, size_t bytes)
{
	bool room = m->arena_bytes < MENU_ARENA_MAX && bytes < MENU_ARENA_MAX - m->arena_bytes;
	void *p = m->stopped || !room ? NULL : take(m, bytes);

	if (!p)
		stop(m, "it takes too much memory");
	return p;
}

const char *menu_text(struct menu *m, const char *p, size_t len)
{
	char *text = menu_alloc(m, len + 1);

	return text ? memcpy(text, p, len) : "";
}

const char *menu_print(struct menu *m, const char *fmt, ...)
{
	char text[MENU_TEXT_MAX];
	va_list ap;

	va_start(ap, fmt);
	vsnprintf(text, sizeof(text), fmt, ap);
	va_end(ap);
	return menu_text(m, text, strlen(text));
}

void menu_note(struct menu *m, const char *fmt, ...)
{
	char text[300], *kept;
	va_list ap;

	if (m->nr_notes == MENU_NOTES_MAX)
		return;
	va_start(ap, fmt);
	vsnprintf(text, sizeof(text), fmt, ap);
	va_end(ap);
	for (char *p = text; *p; p++)
		if ((unsigned char)*p < 32 || *p == 127)
			*p = '?';
	kept = take(m, strlen(text) + 1);
	if (kept)
		m->notes[m->nr_notes++] = strcpy(kept, text);
}

bool menu_step(struct menu *m)
{
	if (++m->steps > MENU_STEPS_MAX)
		stop(m, "it does not come to an end");
	return !m->stopped;
}

void menu_init(struct menu *m, const struct menu_files *files)
{
	memset(m, 0, sizeof(*m));
	m->files = files;
}

void menu_exit(struct menu *m)
{
	while (m->blocks) {
		struct menu_block *b = m->blocks;

		m->blocks = b->next;
		free(b);
	}
}

/* ---- files ------------------------------------------------------------------------ */

bool menu_seen(const struct menu *m, const char *path)
{
	for (unsigned int i = 0; i < m->nr_seen; i++)
		if (!strcmp(m->seen[i], path))
			return true;
	return false;
}

/* NULL, or why @path is not to be read now */
static const char *not_now(const struct menu *m, const char *path)
{
	for (unsigned int i = 0; i < m->depth; i++)
		if (!strcmp(m->open[i], path))
			return "it includes itself";
	if (m->depth == MENU_DEPTH_MAX)
		return "files include each other too deep";
	return NULL;
}

static void not_read(struct menu *m, const char *path, const char *why)
{
	menu_note(m, "%s%s%s: %s", m->depth ? m->open[m->depth - 1] : "", m->depth ? ": " : "", path,
		  why);
}

char *menu_open(struct menu *m, const char *path, size_t *len)
{
	const char *why = not_now(m, path);
	char *buf;
	int rc;

	if (why || m->stopped) {
		if (!m->stopped)
			not_read(m, path, why);
		return NULL;
	}
	if (m->nr_seen == MENU_FILES_MAX) {
		stop(m, "it includes more than 100 files");
		return NULL;
	}
	buf = malloc(MENU_FILE_MAX);
	if (!buf) {
		stop(m, "out of memory");
		return NULL;
	}
	rc = m->files->read(m->files->ctx, path, buf, MENU_FILE_MAX, len);
	if (rc) {
		not_read(m, path, rc == -EFBIG ? "more than 256 KiB are no configuration" :
			 strerror(-rc));
		free(buf);
		return NULL;
	}
	m->seen[m->nr_seen++] = path;
	m->open[m->depth++] = path;
	why = menu_text(m, buf, *len);
	free(buf);
	if (m->stopped) {
		m->depth--;
		return NULL;
	}
	return (char *)why;	/* of the arena, not yet anybody's */
}

void menu_close(struct menu *m)
{
	m->depth--;
}

const char *menu_path(struct menu *m, const char *dir, const char *path)
{
	size_t room = strlen(dir) + strlen(path) + 3;
	char *out = menu_alloc(m, room), *to = out;
	const char *parts[] = { *path == '/' ? "" : dir, path };

	if (!out)
		return "";
	for (int i = 0; i < 2; i++) {
		const char *p = parts[i];

		while (*p) {
			size_t n;

			p += strspn(p, "/");
			n = strcspn(p, "/");
			if (n && !(n == 1 && *p == '.')) {
				*to++ = '/';
				memcpy(to, p, n);
				to += n;
			}
			p += n;
		}
	}
	if (to == out)
		*to = '/';
	return out;
}

const char *menu_dir_of(struct menu *m, const char *path)
{
	const char *slash = strrchr(path, '/');

	return slash && slash != path ? menu_text(m, path, (size_t)(slash - path)) : "/";
}

/* ---- choices ------------------------------------------------------------------------ */

struct menu_choice *menu_add(struct menu *m, const char *id, const char *title, const char *file,
			     unsigned int line)
{
	struct menu_choice *c;

	if (m->nr_choices == MENU_CHOICES_MAX) {
		stop(m, "it has more than 256 entries");
		return NULL;
	}
	c = menu_alloc(m, sizeof(*c));
	if (!c)
		return NULL;
	c->pub = (struct vmplat_iso_choice){
		.id = id, .title = title, .kernel = "", .args = "", .file = file, .line = line,
		.initrds = c->initrds,
	};
	m->choices[m->nr_choices++] = c;
	return c;
}

void menu_initrd(struct menu *m, struct menu_choice *c, const char *path)
{
	if (c->pub.nr_initrds == MENU_INITRDS_MAX)
		c->pub.obstacle = "it has more than 16 initrds";
	else
		c->initrds[c->pub.nr_initrds++] = path;
}

static bool same(const struct vmplat_iso_choice *a, const struct vmplat_iso_choice *b)
{
	if (strcmp(a->id, b->id) || strcmp(a->title, b->title) || strcmp(a->kernel, b->kernel) ||
	    strcmp(a->args, b->args) || a->nr_initrds != b->nr_initrds)
		return false;
	for (unsigned int i = 0; i < a->nr_initrds; i++)
		if (strcmp(a->initrds[i], b->initrds[i]))
			return false;
	return true;
}

bool menu_repeats(const struct menu *m, const struct menu_choice *c)
{
	for (unsigned int i = 0; i < m->nr_choices && m->choices[i] != c; i++)
		if (same(&m->choices[i]->pub, &c->pub))
			return true;
	return false;
}

/* ---- the disc's files ----------------------------------------------------------------- */

/* The trees that a loader sees as one: UEFI's first, for a loader that comes from there. */
struct disc {
	struct vmplat_iso *iso;
	enum vmplat_iso_tree trees[2];
	unsigned int nr_trees;
};

/* The file @path of the first tree that has it, which is the current one then. */
static int disc_find(struct disc *d, const char *path, struct vmplat_iso_entry *e)
{
	int rc = -ENOENT;

	for (unsigned int i = 0; i < d->nr_trees && rc; i++) {
		vmplat_iso_use(d->iso, d->trees[i]);
		rc = vmplat_iso_lookup(d->iso, path, VMPLAT_ISO_FOLLOW, e);
	}
	return rc;
}

static int disc_read(void *ctx, const char *path, char *buf, size_t max, size_t *len)
{
	struct vmplat_iso_entry e;
	struct vmplat_iso_file *f;
	struct disc *d = ctx;
	ssize_t n;
	int rc = disc_find(d, path, &e);

	if (!rc)
		rc = S_ISDIR(e.st.mode) ? -EISDIR : vmplat_iso_file_open(&f, d->iso, &e);
	if (rc)
		return rc;
	*len = vmplat_iso_file_bytes(f);
	n = *len > max ? -EFBIG : vmplat_iso_file_read(f, buf, *len, 0);
	vmplat_iso_file_close(f);
	if (n < 0)
		return (int)n;
	*len = (size_t)n;
	return 0;
}

static bool disc_exists(void *ctx, const char *path, bool directory)
{
	struct vmplat_iso_entry e;

	return !disc_find(ctx, path, &e) && (directory ? S_ISDIR(e.st.mode) : S_ISREG(e.st.mode));
}

static void disc_list(void *ctx, const char *path, void (*found)(void *to, const char *name), void *to)
{
	struct vmplat_iso_entry e;
	struct vmplat_iso_dir *dir;
	struct disc *d = ctx;
	int rc;

	if (disc_find(d, path, &e) || vmplat_iso_dir_open(&dir, d->iso, &e))
		return;
	while ((rc = vmplat_iso_dir_next(dir, &e)) == 1 || rc == -EBADMSG)
		if (rc == 1 && S_ISREG(e.st.mode))
			found(to, e.name);
	vmplat_iso_dir_close(dir);
}

/* @path as people and the runner are told it: which tree it is in */
static const char *disc_name(struct menu *m, struct disc *d, const char *path)
{
	struct vmplat_iso_entry e;

	if (!path || disc_find(d, path, &e) || vmplat_iso_tree(d->iso) != VMPLAT_ISO_EFI)
		return path;
	return menu_print(m, "efi:%s", path);
}

/* NULL and @e, or why the file @path of the disc cannot be read */
static const char *file_obstacle(struct menu *m, struct disc *d, const char *what, const char *path,
				 struct vmplat_iso_entry *e)
{
	if (disc_find(d, path, e))
		return menu_print(m, "%s %s: %s", what, path, vmplat_last_error());
	if (!S_ISREG(e->st.mode) || !e->st.bytes)
		return menu_print(m, "%s %s: it is %s", what, path,
				  S_ISREG(e->st.mode) ? "empty" : "no regular file");
	return NULL;
}

/* the same of a kernel, as far as its headers tell */
static const char *kernel_obstacle(struct menu *m, struct disc *d, const char *path)
{
	struct vmplat_iso_entry e;
	const char *why = file_obstacle(m, d, "kernel", path, &e);
	static const size_t head = 65536;
	struct vmplat_iso_file *f;
	struct bzimage z;
	uint8_t *buf;
	ssize_t n = -1;

	if (why)
		return why;
	if (vmplat_iso_file_open(&f, d->iso, &e))
		return menu_print(m, "kernel %s: %s", path, vmplat_last_error());
	buf = malloc(head);
	if (buf)
		n = vmplat_iso_file_read(f, buf, head, 0);
	if (n < 0)
		why = menu_print(m, "kernel %s: %s", path, buf ? vmplat_last_error() : "out of memory");
	else if (bzimage_is(buf, (size_t)n))
		why = bzimage_parse(&z, buf, (size_t)n, vmplat_iso_file_bytes(f), &why) ? why :
		      bzimage_obstacle(&z);
	else if (!elf_is(buf, (size_t)n) && !uki_is(buf, (size_t)n, vmplat_iso_file_bytes(f)))
		why = "it is neither a bzImage nor an ELF file";
	if (why && n >= 0)
		why = menu_print(m, "kernel %s: %s", path, why);
	free(buf);
	vmplat_iso_file_close(f);
	return why;
}

/* Text of the disc is shown to people: nothing in it may steer their terminal. */
static void clean(const char *text)
{
	for (char *p = (char *)text; *p; p++)	/* of the arena if there is anything to do */
		if ((unsigned char)*p < 32 || *p == 127)
			*p = '?';
}

static void find_obstacle(struct menu *m, struct disc *d, struct vmplat_iso_choice *c)
{
	struct vmplat_iso_entry e;

	if (!c->obstacle && !*c->kernel)
		c->obstacle = "it names no kernel";
	if (!c->obstacle)
		c->obstacle = kernel_obstacle(m, d, c->kernel);
	for (unsigned int i = 0; i < c->nr_initrds && !c->obstacle; i++)
		c->obstacle = file_obstacle(m, d, "initrd", c->initrds[i], &e);
}

static void check_choice(struct menu *m, struct disc *d, struct menu_choice *choice)
{
	struct vmplat_iso_choice *c = &choice->pub;

	clean(c->id);
	clean(c->title);
	clean(c->kernel);
	clean(c->args);
	for (unsigned int i = 0; i < c->nr_initrds; i++)
		clean(c->initrds[i]);
	find_obstacle(m, d, c);
	c->kernel = disc_name(m, d, c->kernel);
	for (unsigned int i = 0; i < c->nr_initrds; i++)
		choice->initrds[i] = disc_name(m, d, c->initrds[i]);
	c->file = disc_name(m, d, c->file);
}

/* ---- where to look ---------------------------------------------------------------------- */

/* the first of each list, as the loaders themselves look for it */
static const char *const syslinux_paths[] = {
	"/boot/isolinux/isolinux.cfg", "/isolinux/isolinux.cfg", "/isolinux.cfg",
	"/boot/syslinux/isolinux.cfg", "/syslinux/isolinux.cfg",
	"/boot/syslinux/syslinux.cfg", "/syslinux/syslinux.cfg", "/syslinux.cfg",
	"/boot/extlinux/extlinux.conf", "/extlinux/extlinux.conf", NULL
};

static const char *const grub_paths[] = {
	"/boot/grub/grub.cfg", "/boot/grub2/grub.cfg", "/grub/grub.cfg", "/grub2/grub.cfg",
	"/EFI/BOOT/grub.cfg", "/EFI/boot/grub.cfg", "/efi/boot/grub.cfg", "/EFI/debian/grub.cfg",
	"/EFI/fedora/grub.cfg", "/boot/grub/x86_64-efi/grub.cfg", "/boot/grub/loopback.cfg", NULL
};

static const char *const bls_paths[] = { "/loader/loader.conf", NULL };

/*
 * Kernels where distributions put them, for discs whose menus are of another kind. LABEL
 * in the arguments is the volume's name.
 */
static const struct known {
	const char *title, *kernel, *initrd, *needs, *args;
} known[] = {
	{ "Debian installer", "/install.amd/vmlinuz", "/install.amd/initrd.gz", NULL, "quiet" },
	{ "Debian live", "/live/vmlinuz", "/live/initrd.img", NULL, "boot=live components" },
	{ "Ubuntu", "/casper/vmlinuz", "/casper/initrd", NULL, "boot=casper" },
	{ "Ubuntu", "/casper/vmlinuz", "/casper/initrd.lz", NULL, "boot=casper" },
	{ "Ubuntu", "/casper/vmlinuz", "/casper/initrd.gz", NULL, "boot=casper" },
	{ "Fedora live", "/images/pxeboot/vmlinuz", "/images/pxeboot/initrd.img", "/LiveOS/squashfs.img",
	  "root=live:CDLABEL=LABEL rd.live.image" },
	{ "Fedora installer", "/images/pxeboot/vmlinuz", "/images/pxeboot/initrd.img", NULL,
	  "inst.stage2=hd:LABEL=LABEL" },
	{ "Arch Linux", "/arch/boot/x86_64/vmlinuz-linux", "/arch/boot/x86_64/initramfs-linux.img", NULL,
	  "archisobasedir=arch archisolabel=LABEL" },
	{ "Alpine Linux", "/boot/vmlinuz-lts", "/boot/initramfs-lts", NULL,
	  "modules=loop,squashfs,sd-mod,usb-storage" },
	{ "Alpine Linux", "/boot/vmlinuz-virt", "/boot/initramfs-virt", NULL,
	  "modules=loop,squashfs,sd-mod,usb-storage" },
	{ "openSUSE", "/boot/x86_64/loader/linux", "/boot/x86_64/loader/initrd", NULL, "" },
	{ "Linux", "/linux", "/initrd.gz", NULL, "" },
	{ "Linux", "/boot/vmlinuz", "/boot/initrd.img", NULL, "" },
};

/* @args with the volume's name, as udev writes it, for the last LABEL */
static const char *known_args(struct menu *m, struct vmplat_iso *iso, const char *args)
{
	const char *at = NULL, *next = args;
	struct vmplat_iso_volume v;
	char name[4 * sizeof(v.volume_id) + 1], *to = name;

	while ((next = strstr(next, "LABEL")))
		at = next++;
	if (!at || vmplat_iso_volume(iso, 0, &v) != 1)
		return args;
	for (const char *from = v.volume_id; *from; from++) {
		if (*from == ' ')
			to = stpcpy(to, "\\x20");
		else
			*to++ = *from;
	}
	*to = '\0';
	return menu_print(m, "%.*s%s%s", (int)(at - args), args, name, at + strlen("LABEL"));
}

static void add_known(struct menu *m, struct disc *d)
{
	for (const struct known *k = known; k < known + sizeof(known) / sizeof(known[0]); k++) {
		struct menu_choice *c;

		if (!disc_exists(d, k->kernel, false) || !disc_exists(d, k->initrd, false) ||
		    (k->needs && !disc_exists(d, k->needs, false)))
			continue;
		c = menu_add(m, "", k->title, NULL, 0);
		if (!c)
			return;
		c->pub.kernel = k->kernel;
		menu_initrd(m, c, k->initrd);
		c->pub.args = known_args(m, d->iso, k->args);
	}
}

/* ---- the library's side -------------------------------------------------------------------- */

struct vmplat_iso_menu {
	struct menu m;
	struct menu_files files;
	struct disc disc;
	int chosen;		/* the default that can be booted, or -1 */
};

static bool bootable(const struct vmplat_iso_menu *menu, int nr)
{
	return nr >= 0 && nr < (int)menu->m.nr_choices && !menu->m.choices[nr]->pub.obstacle;
}

/* What has been said before does not count against what comes now. */
static void renew(struct menu *m)
{
	m->stopped = false;
	m->arena_bytes = 0;
	m->steps = 0;
	m->nr_seen = 0;
}

/* UEFI's GRUB goes on with the disc's own menu: what is listed already is not listed again. */
static void drop_repeats(struct menu *m, unsigned int first, int *wanted)
{
	unsigned int kept = first;

	for (unsigned int i = first; i < m->nr_choices; i++) {
		bool again = menu_repeats(m, m->choices[i]);

		if (*wanted == (int)i)
			*wanted = again ? -1 : (int)kept;
		if (!again)
			m->choices[kept++] = m->choices[i];
	}
	m->nr_choices = kept;
}

/* the default if it can be booted, else the first of this loader's that can */
static void choose(struct vmplat_iso_menu *menu, unsigned int first, int wanted)
{
	renew(&menu->m);
	for (unsigned int i = first; i < menu->m.nr_choices; i++)
		check_choice(&menu->m, &menu->disc, menu->m.choices[i]);
	if (menu->disc.nr_trees > 1)
		drop_repeats(&menu->m, first, &wanted);
	if (menu->chosen >= 0)
		return;
	if (bootable(menu, wanted))
		menu->chosen = wanted;
	for (unsigned int i = first; menu->chosen < 0 && i < menu->m.nr_choices; i++)
		if (bootable(menu, (int)i))
			menu->chosen = (int)i;
}

static void read_loader(struct vmplat_iso_menu *menu, const char *const *paths,
			int (*read)(struct menu *m, const char *path))
{
	unsigned int first = menu->m.nr_choices, all = menu->disc.nr_trees;

	renew(&menu->m);
	/* in the tree that the loader itself is in */
	menu->disc.nr_trees = 1;
	while (*paths && !disc_exists(&menu->disc, *paths, false) &&
	       !(read == bls_read && (disc_exists(&menu->disc, "/loader/entries", true) ||
				      disc_exists(&menu->disc, "/EFI/Linux", true))))
		paths++;
	menu->disc.nr_trees = all;
	if (*paths)
		choose(menu, first, read(&menu->m, *paths));
}

static void read_loaders(struct vmplat_iso_menu *menu, struct vmplat_iso *iso)
{
	enum vmplat_iso_tree tree = vmplat_iso_tree(iso);

	menu->disc = (struct disc){ iso, { tree }, 1 };
	read_loader(menu, syslinux_paths, syslinux_read);
	read_loader(menu, grub_paths, grub_read);
	read_loader(menu, bls_paths, bls_read);
	if (tree != VMPLAT_ISO_EFI && vmplat_iso_trees(iso) & 1 << VMPLAT_ISO_EFI) {
		menu->disc = (struct disc){ iso, { VMPLAT_ISO_EFI, tree }, 2 };
		read_loader(menu, grub_paths, grub_read);
		read_loader(menu, bls_paths, bls_read);
		menu->disc = (struct disc){ iso, { tree }, 1 };
	}
	if (menu->chosen < 0) {
		unsigned int first = menu->m.nr_choices;

		renew(&menu->m);
		add_known(&menu->m, &menu->disc);
		choose(menu, first, -1);
	}
	vmplat_iso_use(iso, tree);
}

API int vmplat_iso_menu_open(struct vmplat_iso_menu **out, struct vmplat_iso *iso)
{
	struct vmplat_iso_menu *menu = calloc(1, sizeof(*menu));

	*out = NULL;
	if (!menu)
		return lib_error(-ENOMEM, "out of memory");
	menu->files = (struct menu_files){ &menu->disc, disc_read, disc_exists, disc_list };
	menu->chosen = -1;
	menu_init(&menu->m, &menu->files);
	read_loaders(menu, iso);
	if (menu->chosen >= 0)
		menu->m.choices[menu->chosen]->pub.is_default = true;
	*out = menu;
	return 0;
}

API void vmplat_iso_menu_close(struct vmplat_iso_menu *menu)
{
	if (!menu)
		return;
	menu_exit(&menu->m);
	free(menu);
}

API unsigned int vmplat_iso_menu_nr(const struct vmplat_iso_menu *menu)
{
	return menu->m.nr_choices;
}

API const struct vmplat_iso_choice *vmplat_iso_menu_choice(const struct vmplat_iso_menu *menu,
							   unsigned int nr)
{
	return nr < menu->m.nr_choices ? &menu->m.choices[nr]->pub : NULL;
}

API const char *vmplat_iso_menu_note(const struct vmplat_iso_menu *menu, unsigned int nr)
{
	return nr < menu->m.nr_notes ? menu->m.notes[nr] : NULL;
}

/* a number from 1, a label, or a title */
static int find(const struct vmplat_iso_menu *menu, const char *word)
{
	char *end;
	unsigned long nr = strtoul(word, &end, 10);

	if (*word >= '0' && *word <= '9' && !*end && nr >= 1 && nr <= menu->m.nr_choices)
		return (int)nr - 1;
	for (unsigned int i = 0; i < menu->m.nr_choices; i++)
		if (!strcmp(menu->m.choices[i]->pub.id, word))
			return (int)i;
	for (unsigned int i = 0; i < menu->m.nr_choices; i++)
		if (!strcmp(menu->m.choices[i]->pub.title, word))
			return (int)i;
	return -1;
}

/* why there is no default */
static int nothing(const struct vmplat_iso_menu *menu)
{
	const struct vmplat_iso_choice *c;

	if (!menu->m.nr_choices)
		return lib_error(-ENOENT, "no boot menu of isolinux, GRUB or systemd-boot, and no kernel where distributions put it%s%s",
				 menu->m.nr_notes ? "; " : "", menu->m.nr_notes ? menu->m.notes[0] : "");
	c = &menu->m.choices[0]->pub;
	return lib_error(-ENOEXEC, "none of the %u entries of its boot menu can be booted; '%s', for one: %s",
			 menu->m.nr_choices, c->title, c->obstacle);
}

API int vmplat_iso_menu_pick(const struct vmplat_iso_menu *menu, const char *word,
			     const struct vmplat_iso_choice **choice)
{
	int nr = word ? find(menu, word) : menu->chosen;

	*choice = NULL;
	if (!word && nr < 0)
		return nothing(menu);
	if (nr < 0)
		return lib_error(-ENOENT, "its boot menu has no entry '%s' among %u", word,
				 menu->m.nr_choices);
	if (!bootable(menu, nr))
		return lib_error(-ENOEXEC, "entry %d, '%s': %s", nr + 1, menu->m.choices[nr]->pub.title,
				 menu->m.choices[nr]->pub.obstacle);
	*choice = &menu->m.choices[nr]->pub;
	return 0;
}
