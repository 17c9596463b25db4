/* SPDX-License-Identifier: GPL-2.0-only */
/* What the verbs of vmplat iso share. */
#ifndef VMPLAT_CLI_ISO_H
#define VMPLAT_CLI_ISO_H

#include <vmplat_iso.h>

#include "cli.h"

struct iso_args {
	const char *verb;	/* "iso ls" */
	enum vmplat_iso_tree tree;
	bool json, all, recursive, verbose, overwrite, owner, quiet, entries;
	const char *into;
	const char *image;
	char **paths;
	int nr_paths;

	struct vmplat_iso *iso;
	unsigned int nr_errors;	/* things of the disc that could not be read */
};

/* CLI_OK with image and paths set, CLI_USAGE, or -1 when help was printed. */
int iso_parse(struct iso_args *a, const char *verb, const char *help, const char *letters,
	      int argc, char **argv);
/* Open the image and choose the tree. What is wrong with the disc goes to stderr. */
int iso_open_image(struct iso_args *a);
/* Whether it does: not while looking at the same things again. */
void iso_listen(struct iso_args *a, bool on);
/* Close it; CLI_FAILED instead of CLI_OK if something of the disc could not be read. */
int iso_done(struct iso_args *a, int rc);
/* A walk's failure: count it, and say so unless the disc's listener did. False: give up. */
bool iso_walk_goes_on(struct iso_args *a, int rc, const char *path);

/* Copy [pos, pos + bytes) of @in to @out, in the kernel where that is possible. 0 or -errno */
int iso_copy_run(int in, uint64_t pos, uint64_t bytes, int out, struct cli_progress *progress);

int iso_extract(int argc, char **argv);

#endif /* VMPLAT_CLI_ISO_H */
