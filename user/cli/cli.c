// SPDX-License-Identifier: GPL-2.0-only
/* Finding commands, saying what went wrong, reading and showing numbers. */
#include <ctype.h>
#include <errno.h>
#include <getopt.h>
#include <inttypes.h>
#include <stdarg.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>
#include <unistd.h>

#include <json-c/json.h>
#include <vmplat.h>
#include <vmplat_clock.h>

#include "cli.h"

/* ---- commands ---------------------------------------------------------- */

/* Edit distance with swaps of neighbours as one step; words beyond 31 are far. */
static unsigned int distance(const char *a, const char *b)
{
	size_t la = strlen(a), lb = strlen(b);
	unsigned int d[33][33];

	if (la > 31 || lb > 31)
		return 99;
	for (size_t i = 0; i <= la; i++)
		d[i][0] = i;
	for (size_t j = 0; j <= lb; j++)
		d[0][j] = j;
	for (size_t i = 1; i <= la; i++) {
		for (size_t j = 1; j <= lb; j++) {
			unsigned int best = d[i - 1][j - 1] + (a[i - 1] != b[j - 1]);

			if (d[i - 1][j] + 1 < best)
				best = d[i - 1][j] + 1;
			if (d[i][j - 1] + 1 < best)
				best = d[i][j - 1] + 1;
			if (i > 1 && j > 1 && a[i - 1] == b[j - 2] && a[i - 2] == b[j - 1] &&
			    d[i - 2][j - 2] + 1 < best)
				best = d[i - 2][j - 2] + 1;
			d[i][j] = best;
		}
	}
	return d[la][lb];
}

const char *cli_nearest(const char *word, const char *const *names)
{
	unsigned int best = strlen(word) > 4 ? 3 : 2;	/* further is not a typo */
	const char *name = NULL;

	for (; *names; names++) {
		unsigned int d = distance(word, *names);

		if (d && !strncmp(word, *names, strlen(word)))
			d = 1;
		if (d < best || (d == best && !name)) {
			best = d;
			name = *names;
		}
	}
	return name;
}

static int list_commands(const char *intro, const struct cli_command *table)
{
	printf("%s\n", intro);
	for (; table->name; table++)
		printf("  %s%-10s%s %s\n", cli_style(stdout, CLI_BOLD), table->name,
		       cli_style(stdout, CLI_PLAIN), table->summary);
	return CLI_OK;
}

static int unknown_command(const char *prog, const struct cli_command *table,
			   const char *word)
{
	const char *names[32] = { NULL };
	const char *near;

	for (size_t i = 0; table[i].name && i < 31; i++)
		names[i] = table[i].name;
	near = cli_nearest(word, names);
	fprintf(stderr, "%s: there is no command '%s'", prog, word);
	if (near)
		fprintf(stderr, "; did you mean '%s'?\n", near);
	else
		fprintf(stderr, "; see '%s --help'\n", prog);
	return CLI_USAGE;
}

int cli_dispatch(const char *prog, const char *intro,
		 const struct cli_command *table, int argc, char **argv)
{
	if (argc < 2) {
		fprintf(stderr, "%s: a command is missing; see '%s --help'\n", prog, prog);
		return CLI_USAGE;
	}
	if (!strcmp(argv[1], "-h") || !strcmp(argv[1], "--help"))
		return list_commands(intro, table);
	for (const struct cli_command *c = table; c->name; c++) {
		if (!strcmp(argv[1], c->name)) {
			/* A command may parse its arguments, and its verb's, anew. */
			optind = 0;
			return c->main(argc - 1, argv + 1);
		}
	}
	return unknown_command(prog, table, argv[1]);
}

int cli_help(const char *text)
{
	fputs(text, stdout);
	return CLI_OK;
}

/* ---- messages ---------------------------------------------------------- */

static void say(const char *prefix, const char *fmt, va_list ap, const char *more)
{
	flockfile(stderr);
	fprintf(stderr, "%s", prefix);
	vfprintf(stderr, fmt, ap);
	if (more)
		fprintf(stderr, ": %s", more);
	fputc('\n', stderr);
	funlockfile(stderr);
}

int cli_fail(const char *fmt, ...)
{
	va_list ap;

	va_start(ap, fmt);
	say("vmplat: ", fmt, ap, NULL);
	va_end(ap);
	return CLI_FAILED;
}

int cli_fail_lib(const char *fmt, ...)
{
	va_list ap;

	va_start(ap, fmt);
	say("vmplat: ", fmt, ap, vmplat_last_error());
	va_end(ap);
	return CLI_FAILED;
}

int cli_usage(const char *cmd, const char *fmt, ...)
{
	char prefix[80];
	va_list ap;

	snprintf(prefix, sizeof(prefix), "vmplat %s: ", cmd);
	va_start(ap, fmt);
	say(prefix, fmt, ap, NULL);
	va_end(ap);
	fprintf(stderr, "See 'vmplat help %s'.\n", cmd);
	return CLI_USAGE;
}

int cli_bad_option(const char *cmd, int opt, char **argv)
{
	const char *arg = optind > 0 ? argv[optind - 1] : "";

	if (opt == ':')
		return cli_usage(cmd, "option '%s' needs a value", arg);
	if (optopt && optopt < 128 && isgraph(optopt) && arg[0] == '-' && arg[1] != '-')
		return cli_usage(cmd, "there is no option '-%c'", optopt);
	return cli_usage(cmd, "option '%s' is not understood", arg);
}

void cli_warn(const char *fmt, ...)
{
	va_list ap;

	va_start(ap, fmt);
	say("vmplat: warning: ", fmt, ap, NULL);
	va_end(ap);
}

void cli_note(const char *fmt, ...)
{
	va_list ap;

	va_start(ap, fmt);
	say("", fmt, ap, NULL);
	va_end(ap);
}

/* ---- numbers ----------------------------------------------------------- */

static int refuse(int err, char *why, size_t why_bytes, const char *fmt, ...)
{
	va_list ap;

	if (why) {
		va_start(ap, fmt);
		vsnprintf(why, why_bytes, fmt, ap);
		va_end(ap);
	}
	return err;
}

/* log2 of the unit at @s, moved past it; -1 if it is none. */
static int size_shift(const char *s)
{
	static const char units[] = "KMGTPE";
	const char *u;

	if (!*s || !strcmp(s, "B"))
		return 0;
	u = strchr(units, toupper((unsigned char)*s));
	if (!u)
		return -1;
	s++;
	if (*s && strcasecmp(s, "B") && strcasecmp(s, "iB"))
		return -1;
	return 10 * (u - units + 1);
}

int cli_size(const char *text, uint64_t *bytes, char *why, size_t n)
{
	uint64_t frac = 0, unit = 1, whole;
	const char *s = text;
	char *end;
	int shift;

	if (!isdigit((unsigned char)*s))
		return refuse(-EINVAL, why, n, *s ? "'%s' does not start with a digit" :
			      "it is empty", text);
	errno = 0;
	whole = strtoull(s, &end, 10);
	if (errno)
		return refuse(-ERANGE, why, n, "'%s' is 2^64 bytes or more", text);
	s = end;
	if (*s == '.') {
		for (s++; isdigit((unsigned char)*s); s++) {
			if (unit < 1000000) {
				frac = frac * 10 + (*s - '0');
				unit *= 10;
			}
		}
		if (unit == 1)
			return refuse(-EINVAL, why, n, "'%s' has no digit after the point", text);
	}
	shift = size_shift(s);
	if (shift < 0)
		return refuse(-EINVAL, why, n, "'%s' ends in '%s', not in K, M, G, T, P or E",
			      text, s);
	if (frac && !shift)
		return refuse(-EINVAL, why, n, "'%s' is not a whole number of bytes", text);
	if (whole > UINT64_MAX >> shift)
		return refuse(-ERANGE, why, n, "'%s' is 2^64 bytes or more", text);
	frac = (uint64_t)(((__uint128_t)frac << shift) / unit);
	*bytes = (whole << shift) + frac;
	return 0;
}

int cli_parse_size(const char *cmd, const char *what, const char *text, uint64_t *bytes)
{
	char why[120];

	if (cli_size(text, bytes, why, sizeof(why)))
		return cli_usage(cmd, "%s: %s", what, why);
	return CLI_OK;
}

int cli_parse_u64(const char *cmd, const char *what, const char *text,
		  uint64_t min, uint64_t max, uint64_t *value)
{
	uint64_t v;
	char *end;

	errno = 0;
	v = strtoull(text, &end, 0);
	if (!isdigit((unsigned char)*text) || *end)
		return cli_usage(cmd, "%s: '%s' is not a number", what, text);
	if (errno || v < min || v > max)
		return cli_usage(cmd, "%s: %s is not between %" PRIu64 " and %" PRIu64,
				 what, text, min, max);
	*value = v;
	return CLI_OK;
}

const char *cli_show_bytes(uint64_t bytes, char buf[CLI_NUM_LEN])
{
	static const char *const units[] = { "B", "KiB", "MiB", "GiB", "TiB", "PiB", "EiB" };
	double v = bytes;
	size_t u = 0;

	while (v >= 1024 && u < 6) {
		v /= 1024;
		u++;
	}
	snprintf(buf, CLI_NUM_LEN, "%.*f %s", u == 0 || v >= 100 ? 0 : v >= 10 ? 1 : 2,
		 v, units[u]);
	return buf;
}

const char *cli_show_ns(uint64_t ns, char buf[CLI_NUM_LEN])
{
	if (ns < 1000)
		snprintf(buf, CLI_NUM_LEN, "%" PRIu64 " ns", ns);
	else if (ns < 1000000)
		snprintf(buf, CLI_NUM_LEN, "%.3g us", ns / 1e3);
	else if (ns < 1000000000)
		snprintf(buf, CLI_NUM_LEN, "%.3g ms", ns / 1e6);
	else if (ns < 60 * 1000000000ULL)
		snprintf(buf, CLI_NUM_LEN, "%.1f s", ns / 1e9);
	else
		snprintf(buf, CLI_NUM_LEN, "%d:%02d min", (int)(ns / 60000000000ULL),
			 (int)(ns / 1000000000ULL % 60));
	return buf;
}

/* ---- output ------------------------------------------------------------ */

const char *cli_style(FILE *to, enum cli_style style)
{
	static const char *const codes[] = {
		[CLI_PLAIN] = "\033[0m", [CLI_BOLD] = "\033[1m", [CLI_DIM] = "\033[2m",
		[CLI_RED] = "\033[31m", [CLI_GREEN] = "\033[32m", [CLI_YELLOW] = "\033[33m",
	};
	const char *no = getenv("NO_COLOR"), *term = getenv("TERM");

	if ((no && *no) || !isatty(fileno(to)) || !term || !strcmp(term, "dumb"))
		return "";
	return codes[style];
}

int cli_json(struct json_object *obj)
{
	int rc = CLI_OK;

	if (puts(json_object_to_json_string_ext(obj, JSON_C_TO_STRING_PRETTY |
						JSON_C_TO_STRING_SPACED |
						JSON_C_TO_STRING_NOSLASHESCAPE)) < 0 ||
	    fflush(stdout))
		rc = cli_fail("cannot write to standard output: %s", strerror(errno));
	json_object_put(obj);
	return rc;
}

struct cli_table {
	const char *align;
	size_t nr_cols;
	size_t nr_cells;
	char **cells;		/* the headings are the first row */
};

struct cli_table *cli_table_new(const char *align, const char *const *heads)
{
	struct cli_table *t = calloc(1, sizeof(*t));

	if (!t)
		abort();
	t->align = align;
	t->nr_cols = strlen(align);
	for (size_t i = 0; i < t->nr_cols; i++)
		cli_cell(t, "%s", heads[i]);
	return t;
}

void cli_cell(struct cli_table *t, const char *fmt, ...)
{
	va_list ap;

	t->cells = realloc(t->cells, (t->nr_cells + 1) * sizeof(*t->cells));
	va_start(ap, fmt);
	if (!t->cells || vasprintf(&t->cells[t->nr_cells], fmt, ap) < 0)
		abort();
	va_end(ap);
	t->nr_cells++;
}

static int column_width(const struct cli_table *t, size_t col)
{
	size_t width = 0;

	for (size_t i = col; i < t->nr_cells; i += t->nr_cols)
		if (strlen(t->cells[i]) > width)
			width = strlen(t->cells[i]);
	return width;
}

void cli_table_print(struct cli_table *t)
{
	for (size_t i = 0; i < t->nr_cells; i++) {
		size_t col = i % t->nr_cols;
		bool last = col == t->nr_cols - 1 || i == t->nr_cells - 1;
		int width = column_width(t, col);

		if (i == 0)
			fputs(cli_style(stdout, CLI_BOLD), stdout);
		if (t->align[col] == '>')
			printf("%*s", width, t->cells[i]);
		else if (last)
			fputs(t->cells[i], stdout);
		else
			printf("%-*s", width, t->cells[i]);
		if (i == t->nr_cols - 1)
			fputs(cli_style(stdout, CLI_PLAIN), stdout);
		fputs(last ? "\n" : "  ", stdout);
	}
	for (size_t i = 0; i < t->nr_cells; i++)
		free(t->cells[i]);
	free(t->cells);
	free(t);
}

/* ---- progress ---------------------------------------------------------- */

#define PROGRESS_PERIOD_NS	200000000ULL

static void progress_line(const struct cli_progress *p, uint64_t now, const char *end)
{
	char done[CLI_NUM_LEN], total[CLI_NUM_LEN], rate[CLI_NUM_LEN], eta[CLI_NUM_LEN];
	double secs = (now - p->start_ns) / 1e9;
	double per_sec = secs > 0 ? p->done / secs : 0;

	fprintf(stderr, "%s%s: %s", p->live ? "\r" : "", p->label,
		cli_show_bytes(p->done, done));
	if (p->total)
		fprintf(stderr, " of %s (%.0f %%)", cli_show_bytes(p->total, total),
			100.0 * p->done / p->total);
	fprintf(stderr, ", %s/s", cli_show_bytes(per_sec, rate));
	if (*end)
		fprintf(stderr, ", %s", cli_show_ns(now - p->start_ns, eta));
	else if (p->total > p->done && per_sec > 0)
		fprintf(stderr, ", %s left",
			cli_show_ns((p->total - p->done) / per_sec * 1e9, eta));
	fprintf(stderr, "%s%s", p->live ? "\033[K" : "", end);
	fflush(stderr);
}

void cli_progress_start(struct cli_progress *p, const char *label, uint64_t total)
{
	*p = (struct cli_progress) {
		.label = label, .total = total, .start_ns = vmplat_now_ns(),
		.live = isatty(STDERR_FILENO),
	};
	p->shown_ns = p->start_ns;
}

void cli_progress_set(struct cli_progress *p, uint64_t done)
{
	uint64_t now;

	p->done = done;
	if (!p->live)
		return;
	now = vmplat_now_ns();
	if (now - p->shown_ns < PROGRESS_PERIOD_NS)
		return;
	p->shown_ns = now;
	progress_line(p, now, "");
}

void cli_progress_end(struct cli_progress *p, bool ok)
{
	progress_line(p, vmplat_now_ns(), ok ? "\n" : ", stopped\n");
}

/* ---- the module -------------------------------------------------------- */

int cli_open_device(struct vmplat **dev)
{
	int rc = vmplat_open(dev, NULL);

	if (!rc)
		return CLI_OK;
	cli_fail("%s", vmplat_last_error());
	if (rc == -ENOENT || rc == -ENODEV || rc == -ENXIO)
		cli_note("Load the module with 'modprobe vmplat' as root.");
	else if (rc == -EACCES)
		cli_note("Run as root, or as a member of the group that owns /dev/vmplat.");
	return CLI_FAILED;
}
