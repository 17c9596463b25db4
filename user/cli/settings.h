/* SPDX-License-Identifier: GPL-2.0-only */
/*
 * What `vmplat run` can be told, by flags and by a configuration file (vmplat.conf(5)).
 *
 * There is one table of settings. A setting is a flag and, by the same name, a key of
 * the file; a device is a flag of words, and a section of keys. Both become a list of
 * assignments, each with the place it comes from. Flags replace what the file says. In
 * the end the list is made a VM's configuration, or printed as a file again.
 */
#ifndef VMPLAT_CLI_SETTINGS_H
#define VMPLAT_CLI_SETTINGS_H

#include <stdbool.h>
#include <stddef.h>
#include <stdio.h>

#include "run/config.h"

struct option;
struct settings;

#define SETTINGS_FILE_MAX	(1u << 20)	/* bytes of a configuration file */
#define SETTINGS_MAX		1000		/* assignments */
#define SETTINGS_WHY		600		/* bytes for a sentence */

/* What the settings come to. */
struct launch {
	struct vm_config cfg;
	char *cmdline, *append, *iso_entry, *console;
	bool detach, paused;
	bool unnamed;		/* the name is one of ours */
	bool arch_given;	/* else the kernel's */
};

struct settings *settings_new(void);
void settings_free(struct settings *s);

/**
 * settings_read - add what the file @text says
 * @name: of the file, for messages
 * @dir: what relative names of files in it begin from; "" for the current directory
 *
 * 0, or -errno with "NAME:LINE: what is wrong" in @why.
 */
int settings_read(struct settings *s, const char *name, const char *dir, const char *text,
		  size_t len, char why[SETTINGS_WHY]);
/** settings_read_file - the same of the file @path */
int settings_read_file(struct settings *s, const char *path, char why[SETTINGS_WHY]);

/**
 * settings_options - the flags, for getopt_long(): room for @max, ended by an empty one
 * @letters: room for the short ones
 */
void settings_options(struct option *options, size_t max, char *letters, size_t letters_max);
/** settings_flag - a flag as getopt_long() returned it; @value may be NULL. 0 or -EINVAL */
int settings_flag(struct settings *s, int flag, const char *value, char why[SETTINGS_WHY]);
/** settings_help - a line or more for each flag */
void settings_help(FILE *to);

/** settings_has - is there an assignment of @name */
bool settings_has(const struct settings *s, const char *name);
/** settings_assign - as --NAME VALUE */
int settings_assign(struct settings *s, const char *name, const char *value,
		    char why[SETTINGS_WHY]);

/** settings_apply - make it a configuration; launch_free() after success */
int settings_apply(const struct settings *s, struct launch *to, char why[SETTINGS_WHY]);
void launch_free(struct launch *l);

/** settings_print - as a file, whose names of files are absolute */
int settings_print(const struct settings *s, FILE *to);

#endif
