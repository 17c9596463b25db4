/* SPDX-License-Identifier: LGPL-2.1-or-later */
/*
 * Boot menus of a disc: what the parsers of isolinux', GRUB's and systemd-boot's configurations share.
 *
 * All strings live in the menu's arena, which has a limit, as have the number of files,
 * their length, their nesting, and the steps taken. Whoever reaches one stops the menu:
 * what was found until then stays, and a note says why there is no more. A parser looks
 * at menu->stopped in its loops and needs no other care; an allocation that fails gives
 * an empty string, and stops the menu too.
 */
#ifndef VMPLAT_ISO_MENU_H
#define VMPLAT_ISO_MENU_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include <vmplat_iso.h>

#define MENU_ARENA_MAX		(8u << 20)
#define MENU_FILE_MAX		(256u << 10)
#define MENU_FILES_MAX		100
#define MENU_DEPTH_MAX		10
#define MENU_STEPS_MAX		1000000	/* characters, mostly */
#define MENU_CHOICES_MAX	256
#define MENU_NOTES_MAX		32
#define MENU_INITRDS_MAX	16
#define MENU_TEXT_MAX		4096	/* of a word, a title, arguments */

struct menu;

/* The files that a menu is in: a disc's, or a fuzzer's. */
struct menu_files {
	void *ctx;
	/*
	 * The file @path, of at most @max bytes: its length and its bytes in @buf; -EFBIG
	 * if it is longer; another -errno.
	 */
	int (*read)(void *ctx, const char *path, char *buf, size_t max, size_t *len);
	bool (*exists)(void *ctx, const char *path, bool directory);
	/* tells @found the names in the directory @path; nothing of one that is not there */
	void (*list)(void *ctx, const char *path, void (*found)(void *to, const char *name), void *to);
};

struct menu_choice {
	struct vmplat_iso_choice pub;
	const char *initrds[MENU_INITRDS_MAX];
};

struct menu {
	const struct menu_files *files;
	struct menu_choice *choices[MENU_CHOICES_MAX];
	unsigned int nr_choices;
	const char *notes[MENU_NOTES_MAX];
	unsigned int nr_notes;
	const char *open[MENU_DEPTH_MAX];	/* files being read, outermost first */
	unsigned int depth;
	const char *seen[MENU_FILES_MAX];	/* files ever read */
	unsigned int nr_seen;
	unsigned int steps;
	bool stopped;
	struct menu_block *blocks;
	size_t arena_bytes;
};

void menu_init(struct menu *m, const struct menu_files *files);
void menu_exit(struct menu *m);

/* zeroed; NULL when it is too much, and the menu stopped */
void *menu_alloc(struct menu *m, size_t bytes);
/* a copy, or "" */
const char *menu_text(struct menu *m, const char *p, size_t len);
__attribute__((format(printf, 2, 3)))
const char *menu_print(struct menu *m, const char *fmt, ...);
__attribute__((format(printf, 2, 3)))
void menu_note(struct menu *m, const char *fmt, ...);
/* one more; false when it is too much, and the menu stopped */
bool menu_step(struct menu *m);

/*
 * Begin to read the file @path, whose bytes end with a zero; NULL, with a note, if it
 * cannot be read or is being read already. menu_close() after success.
 */
char *menu_open(struct menu *m, const char *path, size_t *len);
void menu_close(struct menu *m);
bool menu_seen(const struct menu *m, const char *path);

/* @path from @dir on if it is not absolute; without doubled slashes */
const char *menu_path(struct menu *m, const char *dir, const char *path);
const char *menu_dir_of(struct menu *m, const char *path);

/* a choice of the line @line of @file; NULL when it is too much */
struct menu_choice *menu_add(struct menu *m, const char *id, const char *title, const char *file,
			     unsigned int line);
void menu_initrd(struct menu *m, struct menu_choice *c, const char *path);
/* @c says what another said before */
bool menu_repeats(const struct menu *m, const struct menu_choice *c);

/* Read the configuration @path; the number of the default choice, or -1. */
int syslinux_read(struct menu *m, const char *path);
int grub_read(struct menu *m, const char *path);
/* @path is that of loader.conf, which need not be there */
int bls_read(struct menu *m, const char *path);

#endif
