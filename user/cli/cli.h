/* SPDX-License-Identifier: GPL-2.0-only */
/*
 * What the subcommands of vmplat share: how a command is found, how it fails,
 * how numbers are read and shown. The command is the only place that prints;
 * library, engine and store return errors.
 *
 * A subcommand NAME is `int cmd_NAME(int argc, char **argv)` in cli/NAME.c, with
 * argv[0] the name; it returns one of enum cli_exit, and prints its help on -h
 * and --help with cli_help(). `vmplat help NAME...` calls it with --help.
 */
#ifndef VMPLAT_CLI_H
#define VMPLAT_CLI_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <sys/types.h>

struct json_object;
struct vmplat;

enum cli_exit {
	CLI_OK		= 0,
	CLI_FAILED	= 1,	/* the system said no, or a check found a fault */
	CLI_USAGE	= 2,	/* the command line makes no sense */
};

/* ---- commands ---------------------------------------------------------- */

struct cli_command {
	const char *name;
	const char *summary;
	int (*main)(int argc, char **argv);
};

int cmd_run(int argc, char **argv);
int cmd_restore(int argc, char **argv);
int cmd_vm(int argc, char **argv);
int cmd_snap(int argc, char **argv);
int cmd_image(int argc, char **argv);
int cmd_mem(int argc, char **argv);
int cmd_log(int argc, char **argv);
int cmd_view(int argc, char **argv);
int cmd_iso(int argc, char **argv);
int cmd_events(int argc, char **argv);
int cmd_top(int argc, char **argv);
int cmd_hotplug(int argc, char **argv);
int cmd_pci(int argc, char **argv);
int cmd_iommu(int argc, char **argv);
int cmd_gpu(int argc, char **argv);
int cmd_claim(int argc, char **argv);
int cmd_sriov(int argc, char **argv);
int cmd_host(int argc, char **argv);
int cmd_info(int argc, char **argv);

/*
 * Call the command that argv[1] names, with argv moved on by one. @table ends
 * with an empty entry. A missing or unknown name is CLI_USAGE with the nearest
 * names; -h, --help list the table under @intro. For a command with verbs:
 *
 *	int cmd_snap(int argc, char **argv)
 *	{
 *		return cli_dispatch("vmplat snap", intro, verbs, argc, argv);
 *	}
 */
int cli_dispatch(const char *prog, const char *intro,
		 const struct cli_command *table, int argc, char **argv);
/* Print @text on stdout, return CLI_OK. */
int cli_help(const char *text);
/* The nearest of @names (ended by NULL) to a mistyped @word, or NULL. */
const char *cli_nearest(const char *word, const char *const *names);

/* ---- messages, all on stderr ------------------------------------------- */

/* "vmplat: ..."; returns CLI_FAILED. */
int cli_fail(const char *fmt, ...) __attribute__((format(printf, 1, 2)));
/* The same, followed by vmplat_last_error(). */
int cli_fail_lib(const char *fmt, ...) __attribute__((format(printf, 1, 2)));
/* "vmplat: ..." and a pointer to the help of @cmd ("run", "snap list"); CLI_USAGE. */
int cli_usage(const char *cmd, const char *fmt, ...)
	__attribute__((format(printf, 2, 3)));
/* What getopt_long() just refused ('?' or ':', with opterr = 0), as CLI_USAGE. */
int cli_bad_option(const char *cmd, int opt, char **argv);
void cli_warn(const char *fmt, ...) __attribute__((format(printf, 1, 2)));
void cli_note(const char *fmt, ...) __attribute__((format(printf, 1, 2)));

/* ---- numbers ----------------------------------------------------------- */

/*
 * Read "512", "64K", "1.5G", "2GiB": powers of 1024. 0 or -EINVAL, -ERANGE with
 * the reason in @why (may be NULL).
 */
int cli_size(const char *text, uint64_t *bytes, char *why, size_t why_bytes);
/* Read @what from @text, or say what is wrong with it: CLI_OK or CLI_USAGE. */
int cli_parse_size(const char *cmd, const char *what, const char *text,
		   uint64_t *bytes);
int cli_parse_u64(const char *cmd, const char *what, const char *text,
		  uint64_t min, uint64_t max, uint64_t *value);
#define CLI_NUM_LEN 32
/* "1.50 GiB", "210 us"; both return @buf. */
const char *cli_show_bytes(uint64_t bytes, char buf[CLI_NUM_LEN]);
const char *cli_show_ns(uint64_t ns, char buf[CLI_NUM_LEN]);

/* ---- output ------------------------------------------------------------ */

enum cli_style { CLI_PLAIN, CLI_BOLD, CLI_DIM, CLI_RED, CLI_GREEN, CLI_YELLOW };
/* Escape sequence, or "" if @to is no terminal or NO_COLOR is set. */
const char *cli_style(FILE *to, enum cli_style style);

/* Print indented on stdout and release; returns CLI_OK, or CLI_FAILED if stdout does. */
int cli_json(struct json_object *obj);

/* A table whose columns are as wide as they need; numbers ('>' in @align) right. */
struct cli_table;
struct cli_table *cli_table_new(const char *align, const char *const *heads);
/* One cell, left to right, row after row. */
void cli_cell(struct cli_table *t, const char *fmt, ...)
	__attribute__((format(printf, 2, 3)));
void cli_table_print(struct cli_table *t);	/* and free */

/* ---- progress ---------------------------------------------------------- */

/*
 * One line on stderr with share, rate and ETA: rewritten a few times a second on a
 * terminal, silent otherwise. cli_progress_end() always writes a last line.
 */
struct cli_progress {
	const char *label;
	uint64_t total;		/* bytes; 0 if unknown */
	uint64_t done;
	uint64_t start_ns;
	uint64_t shown_ns;
	bool live;
};
void cli_progress_start(struct cli_progress *p, const char *label, uint64_t total);
void cli_progress_set(struct cli_progress *p, uint64_t done);
void cli_progress_end(struct cli_progress *p, bool ok);

/* ---- the module -------------------------------------------------------- */

/* vmplat_open(), or CLI_FAILED after saying what to do about it. */
int cli_open_device(struct vmplat **dev);

#endif /* VMPLAT_CLI_H */
