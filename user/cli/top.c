// SPDX-License-Identifier: GPL-2.0-only
/* vmplat top: the VMs of this host, live. */
#include <errno.h>
#include <getopt.h>
#include <locale.h>
#include <poll.h>
#include <signal.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include <curses.h>
#include <json-c/json.h>

#include "cli/cli.h"
#include "top/top.h"

static const char help[] =
"usage: vmplat top [--interval SECONDS] [--count N] [--sort KEY] [--no-dirty]\n"
"                  [--batch | --json]\n"
"\n"
"VMs, what they compute and write, views and their copies, devices in use, and the\n"
"last events, anew each interval. VMs of other programs show as the memories they\n"
"have. To know what is written, a dirty log of its own is put on each memory: its\n"
"cost is that of `vmplat log watch`, and no snapshot is disturbed.\n"
"\n"
"  -i, --interval SECONDS   0.1 to 3600 (2)\n"
"  -n, --count N            end after N intervals\n"
"  -s, --sort KEY           name, cpu or dirty (dirty)\n"
"      --no-dirty           make no logs\n"
"  -b, --batch              lines, as without a terminal\n"
"      --json               one JSON object a line, null for what is not known\n"
"\n"
"Keys: q ends it, s sorts by the next column, arrows and Page Up/Down scroll, space\n"
"looks at once.\n";

struct options {
	double interval;
	uint64_t count;
	bool json;
	bool batch;
};

static volatile sig_atomic_t stop;

static void on_signal(int sig)
{
	stop = 1;
}

/* ---- lines ---------------------------------------------------------------------- */

static void print_line(void *data, enum top_style style, const char *text)
{
	static const enum cli_style styles[] = {
		[TOP_TITLE] = CLI_BOLD, [TOP_HEAD] = CLI_DIM, [TOP_GOOD] = CLI_GREEN,
		[TOP_CARE] = CLI_YELLOW, [TOP_BAD] = CLI_RED, [TOP_FAINT] = CLI_DIM,
	};

	printf("%s%s%s\n", cli_style(stdout, styles[style]), text, cli_style(stdout, CLI_PLAIN));
}

static void print_page(struct top *top, const struct options *o)
{
	struct json_object *json;

	if (!o->json) {
		top_draw(top, 5, print_line, NULL);
		putchar('\n');
	} else {
		json = top_json(top);
		puts(json_object_to_json_string_ext(json, JSON_C_TO_STRING_PLAIN |
						    JSON_C_TO_STRING_NOSLASHESCAPE));
		json_object_put(json);
	}
	fflush(stdout);
}

/* ---- a terminal ----------------------------------------------------------------- */

struct screen {
	int row;		/* of the next line */
	int scroll;		/* lines below the title that are above the screen */
};

static void draw_line(void *data, enum top_style style, const char *text)
{
	static const attr_t attrs[] = {
		[TOP_TITLE] = A_REVERSE, [TOP_HEAD] = A_BOLD, [TOP_FAINT] = A_DIM,
	};
	static const short pairs[] = { [TOP_GOOD] = 1, [TOP_CARE] = 2, [TOP_BAD] = 3 };
	struct screen *s = data;
	int row = s->row ? s->row - s->scroll : 0;
	attr_t attr = style < sizeof(attrs) / sizeof(*attrs) ? attrs[style] : A_NORMAL;
	short pair = style < sizeof(pairs) / sizeof(*pairs) ? pairs[style] : 0;

	if (row < LINES && (row > 0 || !s->row)) {
		attr_set(attr, pair, NULL);
		mvaddnstr(row, 0, text, COLS);
		if (style == TOP_TITLE)
			for (int x = strlen(text); x < COLS; x++)
				addch(' ');
		attr_set(A_NORMAL, 0, NULL);
	}
	s->row++;
}

static void draw_page(struct top *top, struct screen *s)
{
	int most;

	erase();
	s->row = 0;
	top_draw(top, TOP_EVENTS, draw_line, s);
	most = s->row > LINES ? s->row - LINES : 0;
	if (s->scroll > most) {
		s->scroll = most;
		draw_page(top, s);
		return;
	}
	refresh();
}

static void screen_begin(void)
{
	setlocale(LC_ALL, "");
	initscr();
	cbreak();
	noecho();
	curs_set(0);
	keypad(stdscr, TRUE);
	nodelay(stdscr, TRUE);
	if (!has_colors())
		return;
	start_color();
	use_default_colors();
	init_pair(1, COLOR_GREEN, -1);
	init_pair(2, COLOR_YELLOW, -1);
	init_pair(3, COLOR_RED, -1);
}

/* What the keys say: whether to look at once. */
static bool read_keys(struct top *top, struct screen *s)
{
	bool look = false;
	int key;

	while ((key = getch()) != ERR) {
		switch (key) {
		case 'q':
			stop = 1;
			break;
		case 's':
			top->sort = (top->sort + 1) % TOP_NR_SORTS;
			break;
		case ' ':
			look = true;
			break;
		case KEY_DOWN:
			s->scroll++;
			break;
		case KEY_UP:
			s->scroll -= s->scroll > 0;
			break;
		case KEY_NPAGE:
			s->scroll += LINES - 1;
			break;
		case KEY_PPAGE:
			s->scroll = s->scroll < LINES ? 0 : s->scroll - LINES + 1;
			break;
		}
	}
	return look;
}

/* ---- the loop ---------------------------------------------------------------------- */

/* Takes events until @until_ns; with a screen, obeys keys. */
static int wait_for(struct top *top, uint64_t until_ns, struct screen *s)
{
	struct pollfd fds[] = {
		{ .fd = vmplat_events_fd(top->events), .events = POLLIN },
		{ .fd = s ? STDIN_FILENO : -1, .events = POLLIN },
	};
	int rc = 0;

	while (!stop && !rc) {
		uint64_t now = vmplat_now_ns();

		if (now >= until_ns && top->synced)
			break;
		if (poll(fds, 2, now < until_ns ? (until_ns - now) / 1000000 + 1 : 100) < 0 &&
		    errno != EINTR)
			return vmplat_error_set(-errno, "poll: %s", strerror(errno));
		if (s && read_keys(top, s))
			return top_read(top);
		if (s && fds[1].revents)
			draw_page(top, s);
		rc = top_read(top);
	}
	return rc;
}

static int watch(struct top *top, const struct options *o, struct screen *s)
{
	uint64_t interval = o->interval * 1e9;
	int rc = wait_for(top, 0, s);

	if (!rc)
		rc = top_sample(top);
	/* what is there is shown at once; rates need an interval */
	if (!rc && s)
		draw_page(top, s);
	for (uint64_t i = 0; !rc && !stop && (!o->count || i < o->count); i++) {
		rc = wait_for(top, top->sampled_ns + interval, s);
		if (!rc && !stop)
			rc = top_sample(top);
		if (rc || stop)
			break;
		if (s)
			draw_page(top, s);
		else
			print_page(top, o);
	}
	return rc;
}

static int run_top(struct top *top, const struct options *o)
{
	struct sigaction sa = { .sa_handler = on_signal };
	bool terminal = !o->json && !o->batch && isatty(STDIN_FILENO) && isatty(STDOUT_FILENO);
	struct screen s = { 0 };
	int rc;

	sigaction(SIGINT, &sa, NULL);
	sigaction(SIGTERM, &sa, NULL);
	rc = top_open(top);
	if (rc)
		return cli_fail("%s", vmplat_last_error());
	if (terminal)
		screen_begin();
	rc = watch(top, o, terminal ? &s : NULL);
	if (terminal)
		endwin();
	if (rc)
		cli_fail("%s", vmplat_last_error());
	top_close(top);
	return rc ? CLI_FAILED : CLI_OK;
}

static int sort_of(const char *name, enum top_sort *sort)
{
	static const char *const names[] = {
		[TOP_BY_NAME] = "name", [TOP_BY_CPU] = "cpu", [TOP_BY_DIRTY] = "dirty",
	};

	for (*sort = 0; *sort < TOP_NR_SORTS; (*sort)++)
		if (!strcmp(name, names[*sort]))
			return CLI_OK;
	return cli_usage("top", "--sort: '%s' is none of name, cpu, dirty", name);
}

int cmd_top(int argc, char **argv)
{
	static const struct option options[] = {
		{ "interval", required_argument, NULL, 'i' },
		{ "count", required_argument, NULL, 'n' },
		{ "sort", required_argument, NULL, 's' },
		{ "no-dirty", no_argument, NULL, 'd' },
		{ "batch", no_argument, NULL, 'b' },
		{ "json", no_argument, NULL, 'j' },
		{ "help", no_argument, NULL, 'h' },
		{ }
	};
	struct options o = { .interval = 2 };
	struct top top = { .sort = TOP_BY_DIRTY };
	struct vmplat *dev;
	char *end;
	int opt, rc = CLI_OK;

	opterr = 0;
	while ((opt = getopt_long(argc, argv, ":i:n:s:bh", options, NULL)) != -1) {
		switch (opt) {
		case 'i':
			o.interval = strtod(optarg, &end);
			if (*end || end == optarg || !(o.interval >= 0.1 && o.interval <= 3600))
				return cli_usage("top", "--interval: '%s' is not between 0.1 and "
						 "3600 seconds", optarg);
			break;
		case 'n':
			rc = cli_parse_u64("top", "--count", optarg, 1, UINT64_MAX, &o.count);
			break;
		case 's':
			rc = sort_of(optarg, &top.sort);
			break;
		case 'd':
			top.no_dirty = true;
			break;
		case 'b':
			o.batch = true;
			break;
		case 'j':
			o.json = true;
			break;
		case 'h':
			return cli_help(help);
		default:
			return cli_bad_option("top", opt, argv);
		}
		if (rc)
			return rc;
	}
	if (optind < argc)
		return cli_usage("top", "unexpected argument '%s'", argv[optind]);
	rc = cli_open_device(&dev);
	if (rc)
		return rc;
	top.dev = dev;
	rc = run_top(&top, &o);
	vmplat_close(dev);
	return rc;
}
