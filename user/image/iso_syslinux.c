// SPDX-License-Identifier: LGPL-2.1-or-later
/*
 * Configurations of isolinux and syslinux, as their manual describes them: lines of a
 * keyword and what belongs to it. LABEL begins a choice; what comes before the first is
 * for all. INCLUDE goes on in another file; CONFIG, and a menu's own file, are menus of
 * their own, whose choices are put behind. Names of files begin from the directory of
 * the first file.
 */
#include <stdlib.h>
#include <string.h>
#include <strings.h>

#include "iso_menu.h"

struct syslinux {
	struct menu *m;
	const char *dir;
	const char *file;
	unsigned int line;

	const char *append;		/* for all */
	const char *wanted, *on_timeout;	/* DEFAULT, ONTIMEOUT */
	unsigned int first;		/* choice of this menu */
	int chosen;			/* MENU DEFAULT, or -1 */

	struct menu_choice *choice;	/* being described, or NULL */
	const char *choice_append;
	bool in_help;
	unsigned int submenus;		/* MENU BEGIN in each other */
};

static int read_menu(struct menu *m, const char *dir, const char *path);

/* ---- words ----------------------------------------------------------------- */

/* the next word of @text, in place; "" at the end */
static char *word(char **text)
{
	char *begin = *text + strspn(*text, " \t"), *end = begin + strcspn(begin, " \t");

	*text = end;
	if (*end) {
		*end = '\0';
		*text = end + 1 + strspn(end + 1, " \t");
	}
	return begin;
}

static const char *copy(struct syslinux *s, const char *text)
{
	return menu_text(s->m, text, strlen(text));
}

static const char *path_of(struct syslinux *s, const char *name)
{
	return menu_path(s->m, s->dir, name);
}

/* ---- choices ----------------------------------------------------------------- */

/* "a,b": one behind the other */
static void add_initrds(struct syslinux *s, struct menu_choice *c, const char *list)
{
	while (*list && !s->m->stopped) {
		size_t len = strcspn(list, ",");

		if (len)
			menu_initrd(s->m, c, path_of(s, menu_text(s->m, list, len)));
		list += len + (list[len] == ',');
	}
}

/* Arguments without initrd=, which isolinux itself understands. */
static void set_args(struct syslinux *s, struct menu_choice *c, const char *append)
{
	bool own = c->pub.nr_initrds;	/* INITRD goes before */
	char *text = menu_alloc(s->m, strlen(append) + 1), *to = text;

	if (!text)
		return;
	while (*append) {
		size_t len = strcspn(append, " \t");

		if (!strncmp(append, "initrd=", 7)) {
			if (!own)
				add_initrds(s, c, menu_text(s->m, append + 7, len - 7));
		} else if (len) {
			if (to != text)
				*to++ = ' ';
			memcpy(to, append, len);
			to += len;
		}
		append += len + strspn(append + len, " \t");
	}
	c->pub.args = text;
}

/* what KERNEL names beside kernels, by its end */
static const char *foreign(const char *kernel)
{
	static const struct {
		const char *end, *what;
	} kinds[] = {
		{ ".c32", "it starts a module of isolinux" }, { ".com", "it starts a program for a BIOS" },
		{ ".cbt", "it starts a program for a BIOS" }, { ".0", "it starts another boot loader" },
		{ ".bin", "it starts another boot loader" }, { ".bs", "it starts a boot sector" },
		{ ".bss", "it starts a boot sector" }, { ".img", "it starts a disk image" },
		{ ".efi", "it starts a program for UEFI" }, { "/memdisk", "it starts a disk image by a BIOS" },
	};
	size_t len = strlen(kernel);

	for (size_t i = 0; i < sizeof(kinds) / sizeof(kinds[0]); i++) {
		size_t n = strlen(kinds[i].end);

		if (len > n && !strcasecmp(kernel + len - n, kinds[i].end))
			return kinds[i].what;
	}
	return NULL;
}

static void end_choice(struct syslinux *s)
{
	struct menu_choice *c = s->choice;
	const char *append = s->choice_append ? s->choice_append : s->append;

	s->choice = NULL;
	if (!c)
		return;
	set_args(s, c, !append || !strcmp(append, "-") ? "" : append);
	/* the same files are often included by several menus */
	if (menu_repeats(s->m, c) && s->chosen != (int)s->m->nr_choices - 1)
		s->m->nr_choices--;
}

static void begin_choice(struct syslinux *s, const char *id)
{
	end_choice(s);
	s->choice = menu_add(s->m, id, id, s->file, s->line);
	s->choice_append = NULL;
}

/* "^Install" has a hot key, which is not part of its title */
static void set_title(struct syslinux *s, const char *text)
{
	char *title = menu_alloc(s->m, strlen(text) + 1), *to = title;

	if (!title || !s->choice)
		return;
	for (; *text; text++)
		if (*text != '^')
			*to++ = *text;
	s->choice->pub.title = title;
}

static void set_kernel(struct syslinux *s, const char *name, bool by_linux)
{
	if (!s->choice)
		return;
	s->choice->pub.kernel = path_of(s, name);
	s->choice->pub.obstacle = by_linux ? NULL : foreign(s->choice->pub.kernel);
}

/* ---- keywords ------------------------------------------------------------------ */

static void read_into(struct syslinux *s, const char *path);

/* a menu of its own: its default is not ours */
static void other_menu(struct syslinux *s, const char *name, const char *dir)
{
	const char *path = path_of(s, name);

	/* menus lead back to each other */
	if (*name && !menu_seen(s->m, path))
		read_menu(s->m, *dir ? path_of(s, dir) : s->dir, path);
}

/*
 * DEFAULT and UI name a label, or a module that shows a menu, and perhaps the menu's file.
 * The last DEFAULT counts: where it is a menu, no label that an earlier one named is. UI is
 * another setting, beside which DEFAULT still says which choice the menu begins with.
 */
static void set_default(struct syslinux *s, bool ui, char *text)
{
	const char *name = copy(s, text), *first = word(&text), *end = strrchr(first, '.');
	bool menu = end && !strcasecmp(end, ".c32");

	if (!ui || !menu)
		s->wanted = menu ? NULL : name;
	if (menu && *text && *text != '-')
		read_into(s, path_of(s, word(&text)));
}

/* Its choices are listed with the others; which of them is its default does not matter. */
static void submenu(struct syslinux *s, bool begin)
{
	end_choice(s);
	if (begin)
		s->submenus++;
	else if (s->submenus)
		s->submenus--;
}

static void menu_line(struct syslinux *s, char *text)
{
	const char *what = word(&text);

	if (!strcasecmp(what, "label"))
		set_title(s, text);
	else if (!strcasecmp(what, "default") && s->choice && !s->submenus)
		s->chosen = (int)s->m->nr_choices - 1;
	else if (!strcasecmp(what, "include"))
		read_into(s, path_of(s, word(&text)));
	else if ((!strcasecmp(what, "exit") || !strcasecmp(what, "goto") || !strcasecmp(what, "quit")) &&
		 s->choice)
		s->choice->pub.obstacle = "it is another menu";
	else if (!strcasecmp(what, "begin") || !strcasecmp(what, "end"))
		submenu(s, *what == 'b' || *what == 'B');
}

static void set_append(struct syslinux *s, const char *text)
{
	if (s->choice)
		s->choice_append = copy(s, text);
	else
		s->append = copy(s, text);
}

static void config_line(struct syslinux *s, char *text)
{
	const char *name = copy(s, word(&text)), *dir = copy(s, word(&text));

	if (s->choice)
		s->choice->pub.obstacle = "it is another menu";
	end_choice(s);
	other_menu(s, name, dir);
}

static void line(struct syslinux *s, char *text)
{
	const char *key = word(&text);

	if (s->in_help) {
		s->in_help = strcasecmp(key, "endtext");
	} else if (!strcasecmp(key, "label")) {
		begin_choice(s, copy(s, word(&text)));
	} else if (!strcasecmp(key, "kernel") || !strcasecmp(key, "linux")) {
		set_kernel(s, word(&text), !strcasecmp(key, "linux"));
	} else if (!strcasecmp(key, "initrd")) {
		if (s->choice)
			add_initrds(s, s->choice, word(&text));
	} else if (!strcasecmp(key, "append")) {
		set_append(s, text);
	} else if (!strcasecmp(key, "default") || !strcasecmp(key, "ui")) {
		set_default(s, !strcasecmp(key, "ui"), text);
	} else if (!strcasecmp(key, "ontimeout")) {
		s->on_timeout = copy(s, text);
	} else if (!strcasecmp(key, "include")) {
		read_into(s, path_of(s, word(&text)));
	} else if (!strcasecmp(key, "config")) {
		config_line(s, text);
	} else if (!strcasecmp(key, "menu")) {
		menu_line(s, text);
	} else if (!strcasecmp(key, "text")) {
		s->in_help = !strcasecmp(word(&text), "help");
	} else if (s->choice && (!strcasecmp(key, "localboot") || !strcasecmp(key, "boot") ||
				 !strcasecmp(key, "bss") || !strcasecmp(key, "com32") ||
				 !strcasecmp(key, "pxe") || !strcasecmp(key, "fdimage"))) {
		s->choice->pub.obstacle = "it does not start a Linux kernel";
	}
	/* all others are for screens, keys and serial lines */
}

/* ---- files ----------------------------------------------------------------------- */

static void read_into(struct syslinux *s, const char *path)
{
	const char *outer = s->file;
	unsigned int outer_line = s->line;
	char *rest, *text;
	size_t len;

	rest = menu_open(s->m, path, &len);
	if (!rest)
		return;
	s->file = path;
	s->line = 0;
	while (menu_step(s->m) && (text = strsep(&rest, "\n"))) {
		len = strlen(text);
		if (len && text[len - 1] == '\r')
			text[len - 1] = '\0';
		s->line++;
		if (len < MENU_TEXT_MAX)
			line(s, text);
		else
			menu_note(s->m, "%s:%u: a line of %zu characters is left out", path, s->line, len);
	}
	menu_close(s->m);
	s->file = outer;
	s->line = outer_line;
}

/* the choice that the label at the beginning of @text names, or -1 */
static int find_label(const struct syslinux *s, const char *text)
{
	size_t len = strcspn(text, " \t");

	for (unsigned int i = s->first; i < s->m->nr_choices; i++) {
		const char *id = s->m->choices[i]->pub.id;

		if (strlen(id) == len && !strncasecmp(id, text, len))
			return (int)i;
	}
	return -1;
}

/* DEFAULT may also be a kernel and its arguments */
static int default_command(struct syslinux *s)
{
	size_t len = strcspn(s->wanted, " \t");
	const char *path = path_of(s, menu_text(s->m, s->wanted, len));

	if (!len || !s->m->files->exists(s->m->files->ctx, path, false))
		return -1;
	begin_choice(s, "default");
	if (!s->choice)
		return -1;
	set_kernel(s, path, false);
	s->choice_append = s->wanted + len;
	end_choice(s);
	return (int)s->m->nr_choices - 1;
}

static int default_of(struct syslinux *s)
{
	int nr = s->chosen;

	if (nr < 0 && s->wanted)
		nr = find_label(s, s->wanted);
	if (nr < 0 && s->wanted)
		nr = default_command(s);
	if (nr < 0 && s->on_timeout)
		nr = find_label(s, s->on_timeout);
	return nr;
}

/* the number of the default choice, or -1 */
static int read_menu(struct menu *m, const char *dir, const char *path)
{
	struct syslinux s = {
		.m = m, .dir = dir, .file = path, .first = m->nr_choices, .chosen = -1,
	};

	read_into(&s, path);
	end_choice(&s);
	return default_of(&s);
}

int syslinux_read(struct menu *m, const char *path)
{
	return read_menu(m, menu_dir_of(m, path), path);
}
