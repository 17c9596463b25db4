// SPDX-License-Identifier: LGPL-2.1-or-later
/*
 * Hostile boot menus. The input is the files of a disc, with bytes of 0xff between them; a
 * file's name ends with its number, so that they find each other. The first byte picks
 * the loader.
 */
#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "image/iso_menu.h"

int LLVMFuzzerTestOneInput(const uint8_t *in, size_t len);

struct files {
	const uint8_t *p;
	size_t len;
};

/* the file that the last character of @path names, or the last before ".conf" */
static const uint8_t *find(const struct files *f, const char *path, size_t *len)
{
	const uint8_t *p = f->p, *end = f->p + f->len, *stop;
	size_t n = strlen(path);
	int nr;

	if (n > 5 && !strcmp(path + n - 5, ".conf"))
		n -= 5;
	nr = n && path[n - 1] >= '0' && path[n - 1] <= '9' ? path[n - 1] - '0' : 99;

	for (;; p = stop + 1) {
		stop = memchr(p, 0xff, (size_t)(end - p));
		if (!stop)
			stop = end;
		if (!nr--)
			break;
		if (stop == end)
			return NULL;
	}
	*len = (size_t)(stop - p);
	return p;
}

static int read_file(void *ctx, const char *path, char *buf, size_t max, size_t *len)
{
	const uint8_t *p = find(ctx, path, len);

	if (!p)
		return -ENOENT;
	if (*len > max)
		return -EFBIG;
	memcpy(buf, p, *len);
	return 0;
}

static bool exists(void *ctx, const char *path, bool directory)
{
	size_t len;

	return !directory && find(ctx, path, &len);
}

/* every directory has all files but the first, some with attempts counted in their names */
static void list_dir(void *ctx, const char *path, void (*found)(void *to, const char *name), void *to)
{
	char name[16];
	size_t len;

	for (int i = 1; i < 10; i++) {
		snprintf(name, sizeof(name), "a%s%d.conf", i & 1 ? "+" : "", i);
		if (!find(ctx, name, &len))
			break;
		found(to, name);
	}
}

static size_t length(const char *text)
{
	size_t n = strlen(text);

	if (n > MENU_FILE_MAX)
		abort();
	return n;
}

static int (*const readers[])(struct menu *m, const char *path) = { syslinux_read, grub_read, bls_read };

int LLVMFuzzerTestOneInput(const uint8_t *in, size_t len)
{
	struct files f = { in + 1, len - 1 };
	struct menu_files files = { &f, read_file, exists, list_dir };
	struct menu m;
	size_t sum = 0;
	int chosen;

	if (!len)
		return 0;
	menu_init(&m, &files);
	chosen = readers[in[0] % 3](&m, "/boot/f0");
	if (chosen >= (int)m.nr_choices || m.nr_choices > MENU_CHOICES_MAX || m.depth)
		abort();
	for (unsigned int i = 0; i < m.nr_choices; i++) {
		const struct vmplat_iso_choice *c = &m.choices[i]->pub;

		sum += length(c->id) + length(c->title) + length(c->kernel) + length(c->args);
		if (c->nr_initrds > MENU_INITRDS_MAX)
			abort();
		for (unsigned int k = 0; k < c->nr_initrds; k++)
			sum += length(c->initrds[k]);
		if (*c->kernel && *c->kernel != '/')
			abort();
	}
	for (unsigned int i = 0; i < m.nr_notes; i++)
		sum += length(m.notes[i]);
	menu_exit(&m);
	if (sum > 3 * MENU_ARENA_MAX)
		abort();
	return 0;
}
