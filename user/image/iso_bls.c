// SPDX-License-Identifier: LGPL-2.1-or-later
/*
 * Menus of systemd-boot: entries of the Boot Loader Specification. Each file
 * /loader/entries/NAME.conf is an entry, with a key and its value on a line, and
 * /loader/loader.conf says by a pattern of names which is the default; and of its second type,
 * unified kernel images in /EFI/Linux, which are called as their files. Entries stand in the
 * order that the specification asks for. A name may count attempts: NAME+LEFT-DONE.conf; one
 * without any left comes last.
 */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <strings.h>

#include "iso_menu.h"

struct entry {
	struct menu_choice *choice;
	const char *sort_key, *machine_id, *version;	/* "" if there is none */
	bool tried_out;
};

static const char type_1[] = ".conf", type_2[] = ".efi";

struct bls {
	struct menu *m;
	const char *dir, *suffix;	/* of the files that are entries */
	const char *wanted;		/* pattern, or "" */
	const char *names[MENU_CHOICES_MAX];
	unsigned int nr_names;
	struct entry entries[MENU_CHOICES_MAX];
	unsigned int nr_entries;
};

/* ---- lines ----------------------------------------------------------------- */

typedef void take_line(struct bls *b, void *ctx, const char *key, char *value);

static void one_line(struct bls *b, take_line *take, void *ctx, char *text)
{
	size_t len = strcspn(text, " \t");
	char *value = text + len + strspn(text + len, " \t");

	if (!len || *text == '#')
		return;
	text[len] = '\0';
	for (len = strlen(value); len && strchr(" \t\r", value[len - 1]); len--)
		value[len - 1] = '\0';
	take(b, ctx, text, value);
}

static void each_line(struct bls *b, const char *path, take_line *take, void *ctx)
{
	char *rest, *text;
	size_t len;

	rest = menu_open(b->m, path, &len);
	if (!rest)
		return;
	while (menu_step(b->m) && (text = strsep(&rest, "\n"))) {
		text += strspn(text, " \t\r");
		len = strlen(text);
		if (len < MENU_TEXT_MAX)
			one_line(b, take, ctx, text);
		else
			menu_note(b->m, "%s: a line of %zu characters is left out", path, len);
	}
	menu_close(b->m);
}

static const char *copy(struct bls *b, const char *text)
{
	return menu_text(b->m, text, strlen(text));
}

/* Paths begin at the top, and firmware's have backslashes. */
static const char *path_of(struct bls *b, const char *text)
{
	char *path = (char *)copy(b, text);

	for (char *p = path; *p; p++)
		if (*p == '\\')
			*p = '/';
	return menu_path(b->m, "/", path);
}

/* ---- entries ------------------------------------------------------------------ */

/* Several lines of options are one behind the other; initrd= is for the kernel's own loader. */
static void add_options(struct bls *b, struct menu_choice *c, const char *options)
{
	char *text = menu_alloc(b->m, strlen(c->pub.args) + strlen(options) + 2), *to;

	if (!text)
		return;
	to = stpcpy(text, c->pub.args);
	while (*options) {
		size_t len = strcspn(options, " \t");

		if (!strncmp(options, "initrd=", 7)) {
			menu_initrd(b->m, c, path_of(b, menu_text(b->m, options + 7, len - 7)));
		} else if (len) {
			if (to != text)
				*to++ = ' ';
			memcpy(to, options, len);
			to += len;
		}
		options += len + strspn(options + len, " \t");
	}
	*to = '\0';
	c->pub.args = text;
}

static void entry_line(struct bls *b, void *ctx, const char *key, char *value)
{
	struct entry *e = ctx;
	struct menu_choice *c = e->choice;

	if (!strcmp(key, "title"))
		c->pub.title = copy(b, value);
	else if (!strcmp(key, "version"))
		e->version = copy(b, value);
	else if (!strcmp(key, "machine-id"))
		e->machine_id = copy(b, value);
	else if (!strcmp(key, "sort-key"))
		e->sort_key = copy(b, value);
	else if (!strcmp(key, "linux"))
		c->pub.kernel = path_of(b, value);
	else if (!strcmp(key, "initrd"))
		menu_initrd(b->m, c, path_of(b, value));
	else if (!strcmp(key, "options"))
		add_options(b, c, value);
	else if (!strcmp(key, "uki") || !strcmp(key, "efi"))
		c->pub.kernel = path_of(b, value);
	else if (!strcmp(key, "uki-url"))
		c->pub.obstacle = "it is fetched from the network";
	else if (!strcmp(key, "architecture") && strcasecmp(value, "x64"))
		c->pub.obstacle = menu_print(b->m, "it is for the architecture %s", value);
}

/* "a+3-1.conf" is called "a.conf" */
static const char *id_of(struct bls *b, const char *name, bool *tried_out)
{
	const char *plus = strrchr(name, '+'), *end;
	size_t digits = plus ? strspn(plus + 1, "0123456789") : 0;

	*tried_out = false;
	if (!digits)
		return name;
	end = plus + 1 + digits;
	if (*end == '-')
		end += 1 + strspn(end + 1, "0123456789");
	if (strcasecmp(end, b->suffix))
		return name;
	*tried_out = strspn(plus + 1, "0") == digits;
	return menu_print(b->m, "%.*s%s", (int)(plus - name), name, end);
}

static void read_entry(struct bls *b, const char *name)
{
	const char *path = menu_path(b->m, b->dir, name);
	struct entry *e = &b->entries[b->nr_entries];
	bool tried_out;
	const char *id = id_of(b, name, &tried_out);

	*e = (struct entry){ menu_add(b->m, id, id, path, 1), "", "", "", tried_out };
	if (!e->choice)
		return;
	b->nr_entries++;
	if (b->suffix == type_1)
		each_line(b, path, entry_line, e);
	else
		e->choice->pub.kernel = path;
}

/* ---- which, and in what order --------------------------------------------------- */

static void found(void *ctx, const char *name)
{
	struct bls *b = ctx;
	size_t len = strlen(name), end = strlen(b->suffix);

	if (*name == '.' || len <= end || strcasecmp(name + len - end, b->suffix) || !menu_step(b->m))
		return;
	if (b->nr_names < MENU_CHOICES_MAX)
		b->names[b->nr_names++] = copy(b, name);
	else if (b->nr_names++ == MENU_CHOICES_MAX)
		menu_note(b->m, "%s: the rest of more than %d entries is left out", b->dir, MENU_CHOICES_MAX);
}

/* With a sort key before those without; the newest of what has the same. */
static int by_order(const void *pa, const void *pb)
{
	const struct entry *a = pa, *b = pb;
	int order = a->tried_out - b->tried_out;

	if (!order)
		order = !*a->sort_key - !*b->sort_key;
	if (!order && *a->sort_key) {
		order = strcmp(a->sort_key, b->sort_key);
		if (!order)
			order = strcmp(a->machine_id, b->machine_id);
		if (!order)
			order = strverscmp(b->version, a->version);
	}
	return order ? order : strverscmp(b->choice->pub.id, a->choice->pub.id);
}

static char lower(char c)
{
	return c >= 'A' && c <= 'Z' ? (char)(c + 32) : c;
}

/*
 * @text matches @pattern of '*', '?' and others. Back to the latest '*' only, which is enough,
 * and does not take exponential time.
 */
static bool matches(const char *pattern, const char *text)
{
	const char *star = NULL, *from = NULL;

	while (*text) {
		if (*pattern == '*') {
			star = ++pattern;
			from = text;
		} else if (*pattern == '?' || (*pattern && lower(*pattern) == lower(*text))) {
			pattern++;
			text++;
		} else if (star) {
			pattern = star;
			text = ++from;
		} else {
			return false;
		}
	}
	return !pattern[strspn(pattern, "*")];
}

/* by its whole name, or without what it ends in */
static bool is_wanted(const struct bls *b, const char *id)
{
	char stem[MENU_TEXT_MAX];

	snprintf(stem, sizeof(stem), "%.*s", (int)(strrchr(id, '.') - id), id);
	return *b->wanted && (matches(b->wanted, id) || matches(b->wanted, stem));
}

static void loader_line(struct bls *b, void *ctx, const char *key, char *value)
{
	if (!strcmp(key, "default"))
		b->wanted = copy(b, value);
}

static void read_dir(struct bls *b, const char *dir, const char *suffix)
{
	struct menu *m = b->m;

	b->dir = dir;
	b->suffix = suffix;
	b->nr_names = 0;
	m->files->list(m->files->ctx, dir, found, b);
	if (b->nr_names > MENU_CHOICES_MAX)
		b->nr_names = MENU_CHOICES_MAX;
	for (unsigned int i = 0; i < b->nr_names && b->nr_entries < MENU_CHOICES_MAX && !m->stopped; i++)
		read_entry(b, b->names[i]);
}

static int read_all(struct bls *b, const char *path)
{
	struct menu *m = b->m;
	unsigned int first = m->nr_choices;
	int chosen = -1;

	if (m->files->exists(m->files->ctx, path, false))
		each_line(b, path, loader_line, NULL);
	read_dir(b, menu_path(m, menu_dir_of(m, path), "entries"), type_1);
	read_dir(b, "/EFI/Linux", type_2);
	qsort(b->entries, b->nr_entries, sizeof(b->entries[0]), by_order);
	for (unsigned int i = 0; i < b->nr_entries; i++) {
		m->choices[first + i] = b->entries[i].choice;
		if (chosen < 0 && is_wanted(b, b->entries[i].choice->pub.id))
			chosen = (int)(first + i);
	}
	return chosen;
}

int bls_read(struct menu *m, const char *path)
{
	struct bls *b = calloc(1, sizeof(*b));
	int chosen;

	if (!b) {
		menu_note(m, "%s: out of memory", path);
		return -1;
	}
	b->m = m;
	b->wanted = "";
	chosen = read_all(b, path);
	free(b);
	return chosen;
}
