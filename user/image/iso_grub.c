// SPDX-License-Identifier: LGPL-2.1-or-later
/*
 * GRUB's configurations, as its manual describes them: a small shell. They are run, with
 * what a PC with UEFI would say, as far as they tell which kernel is started with what:
 * variables, conditions, loops, functions, other files. Everything else does nothing.
 *
 * menuentry and submenu keep their bodies. When the file has ended, each entry's body is
 * run as if it had been chosen, beginning with the variables of that moment. Variables
 * are a list, newest first: what a body has set is forgotten by going back.
 */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "iso_menu.h"

#define WORDS_MAX	256
#define NEST_MAX	24		/* blocks in each other */
#define CALLS_MAX	16
#define MENUS_MAX	8		/* in each other */

struct cursor {
	const char *p, *end;
	const char *file;
	unsigned int line;
};

struct binding {
	const struct binding *next;
	const char *name, *value;	/* NULL: unset */
};

struct function {
	const struct function *next;
	const char *name;
	struct cursor body;
};

/* an entry of the menu that waits for the end of the file */
struct pending {
	struct pending *next;
	const char *id, *title;
	unsigned int nr_params;
	const char **params;
	struct cursor body;
	bool submenu;
	struct pending *inner;		/* of a submenu */
	int choice;			/* its number, or -1 */
};

struct grub {
	struct menu *m;
	const struct binding *vars;
	const struct function *functions;
	const char **params;		/* $1 and so on */
	unsigned int nr_params;
	struct pending *first, **last;	/* of the current menu */
	struct menu_choice *choice;	/* whose body is run */
	const char *hint;		/* what it starts that is no kernel */
	bool failed;			/* the last command: $? */
	unsigned int nest, calls, menus;
};

enum stop { STOP_END, STOP_BRACE, STOP_THEN, STOP_ELIF, STOP_ELSE, STOP_FI, STOP_DO, STOP_DONE };

static enum stop run(struct grub *g, struct cursor *c, bool live);
static struct pending *run_menu(struct grub *g, struct cursor *c, const char **wanted);

static void syntax(struct grub *g, struct cursor *c, const char *what)
{
	menu_note(g->m, "%s:%u: %s", c->file, c->line, what);
	c->p = c->end;
}

/* ---- variables ------------------------------------------------------------------- */

static void set_var(struct grub *g, const char *name, const char *value)
{
	struct binding *b = menu_alloc(g->m, sizeof(*b));

	if (!b)
		return;
	*b = (struct binding){ g->vars, name, value };
	g->vars = b;
}

static const char *number(struct grub *g, unsigned int n)
{
	return menu_print(g->m, "%u", n);
}

/* "$@" as one word */
static const char *all_params(struct grub *g)
{
	const char *all = "";

	for (unsigned int i = 0; i < g->nr_params; i++)
		all = menu_print(g->m, "%s%s%s", all, i ? " " : "", g->params[i]);
	return all;
}

static const char *get_var(struct grub *g, const char *name, size_t len)
{
	if (len == 1 && *name == '?')
		return g->failed ? "1" : "0";
	if (len == 1 && *name == '#')
		return number(g, g->nr_params);
	if (len == 1 && (*name == '@' || *name == '*'))
		return all_params(g);
	if (len == 1 && *name >= '1' && *name <= '9')
		return (unsigned int)(*name - '1') < g->nr_params ? g->params[*name - '1'] : "";
	for (const struct binding *b = g->vars; b && menu_step(g->m); b = b->next)
		if (strlen(b->name) == len && !memcmp(b->name, name, len))
			return b->value ? b->value : "";
	/* what GRUB says of itself */
	return len > 8 && !memcmp(name, "feature_", 8) ? "y" : "";
}

/* ---- words ------------------------------------------------------------------------- */

enum end { END_COMMAND, END_OPEN, END_CLOSE, END_KEYWORD, END_FILE };

struct words {
	const char *w[WORDS_MAX];
	unsigned int nr;
	/* the word being read */
	char text[MENU_TEXT_MAX];
	size_t len;
	bool begun, quoted;
};

static void put(struct words *w, char ch)
{
	w->begun = true;
	if (w->len < sizeof(w->text) - 1)
		w->text[w->len++] = ch;
}

static void end_word(struct grub *g, struct words *w)
{
	if (!w->begun)
		return;
	if (w->nr < WORDS_MAX)
		w->w[w->nr++] = menu_text(g->m, w->text, w->len);
	w->len = 0;
	w->begun = false;
}

static bool name_char(char ch)
{
	return (ch >= 'a' && ch <= 'z') || (ch >= 'A' && ch <= 'Z') || (ch >= '0' && ch <= '9') || ch == '_';
}

/* the value, which is several words if it has blanks and is not quoted */
static void put_value(struct grub *g, struct words *w, const char *value, bool quoted)
{
	for (; *value && menu_step(g->m); value++) {
		if (!quoted && strchr(" \t\n", *value))
			end_word(g, w);
		else
			put(w, *value);
	}
}

/* behind a '$' */
static void expand(struct grub *g, struct cursor *c, struct words *w, bool quoted, bool live)
{
	bool braces = c->p < c->end && *c->p == '{';
	const char *name;
	size_t len;

	c->p += braces;
	name = c->p;
	while (c->p < c->end && name_char(*c->p))
		c->p++;
	if (c->p == name && c->p < c->end && strchr("?#@*", *c->p))
		c->p++;
	len = (size_t)(c->p - name);
	if (braces) {
		while (c->p < c->end && *c->p != '}' && *c->p != '\n')
			c->p++;
		c->p += c->p < c->end && *c->p == '}';
	}
	if (!len && !braces) {
		put(w, '$');
		return;
	}
	if (quoted)
		w->begun = true;
	if (live)
		put_value(g, w, get_var(g, name, len), quoted);
}

static void newline(struct cursor *c, char ch)
{
	c->line += ch == '\n';
}

static void single_quotes(struct cursor *c, struct words *w)
{
	w->begun = w->quoted = true;
	for (; c->p < c->end && *c->p != '\''; c->p++) {
		newline(c, *c->p);
		put(w, *c->p);
	}
	c->p += c->p < c->end;
}

static void double_quotes(struct grub *g, struct cursor *c, struct words *w, bool live)
{
	w->begun = w->quoted = true;
	while (c->p < c->end && *c->p != '"') {
		char ch = *c->p++;

		newline(c, ch);
		if (ch == '$')
			expand(g, c, w, true, live);
		else if (ch == '\\' && c->p < c->end && strchr("\"\\$", *c->p))
			put(w, *c->p++);
		else
			put(w, ch);
	}
	c->p += c->p < c->end;
}

static bool is_keyword(const struct words *w)
{
	static const char *const keywords[] = {
		"if", "then", "elif", "else", "fi", "for", "while", "until", "do", "done", "function",
	};

	for (size_t i = 0; i < sizeof(keywords) / sizeof(keywords[0]); i++)
		if (w->len == strlen(keywords[i]) && !memcmp(w->text, keywords[i], w->len))
			return true;
	return false;
}

/* The characters between words and at the end of a command. True: it has ended. */
static bool between(struct grub *g, struct cursor *c, struct words *w, enum end *how)
{
	char ch = *c->p;

	if (ch == '#') {
		while (c->p < c->end && *c->p != '\n')
			c->p++;
		return false;
	}
	end_word(g, w);
	if (ch == '}') {	/* an end of its own */
		*how = w->nr ? END_COMMAND : END_CLOSE;
		c->p += !w->nr;
		return true;
	}
	c->p++;
	newline(c, ch);
	*how = ch == '{' ? END_OPEN : END_COMMAND;
	return ch == '\n' || ch == ';' || ch == '{';
}

/* The words of one command, until what ends it; a keyword alone. Not @live: nothing is expanded. */
static enum end read_words(struct grub *g, struct cursor *c, struct words *w, bool live)
{
	enum end how = END_FILE;

	w->nr = 0;
	w->len = 0;
	w->begun = w->quoted = false;
	while (c->p < c->end && menu_step(g->m)) {
		char ch = *c->p;
		bool edge = strchr(" \t\r\n;{}", ch) || (!w->begun && ch == '#');

		if (edge && w->begun && !w->nr && !w->quoted && is_keyword(w)) {
			end_word(g, w);
			return END_KEYWORD;
		}
		if (edge) {
			if (between(g, c, w, &how))
				return how;
			w->quoted = false;
			continue;
		}
		c->p++;
		if (ch == '\'') {
			single_quotes(c, w);
		} else if (ch == '"') {
			double_quotes(g, c, w, live);
		} else if (ch == '$' && c->p < c->end && (*c->p == '"' || *c->p == '\'')) {
			continue;	/* a text to be translated: as it is */
		} else if (ch == '$') {
			w->quoted = true;
			expand(g, c, w, false, live);
		} else if (ch == '\\' && c->p < c->end) {
			newline(c, *c->p);
			if (*c->p != '\n')
				put(w, *c->p);
			c->p++;
		} else {
			put(w, ch);
		}
	}
	if (w->begun && !w->nr && !w->quoted && is_keyword(w)) {
		end_word(g, w);
		return END_KEYWORD;
	}
	end_word(g, w);
	return w->nr ? END_COMMAND : END_FILE;
}

/* ---- test ----------------------------------------------------------------------------- */

/* "(cd0)/boot/x" and "/boot/x" are the same here: there is one disc */
static const char *path_of(struct grub *g, const char *name)
{
	const char *end = *name == '(' ? strchr(name, ')') : NULL;

	return menu_path(g->m, "/", end ? end + 1 : name);
}

static bool exists(struct grub *g, const char *name, bool directory)
{
	return g->m->files->exists(g->m->files->ctx, path_of(g, name), directory);
}

struct expr {
	const char **w;
	unsigned int nr, at, depth;
};

static bool test_or(struct grub *g, struct expr *e);

static bool test_unary(struct grub *g, const char *op, const char *arg)
{
	if (!strcmp(op, "-n"))
		return *arg;
	if (!strcmp(op, "-z"))
		return !*arg;
	if (!strcmp(op, "-d"))
		return exists(g, arg, true);
	if (!strcmp(op, "-e"))
		return exists(g, arg, false) || exists(g, arg, true);
	return exists(g, arg, false);	/* -f, -s */
}

static bool test_binary(const char *a, const char *op, const char *b)
{
	long long x = strtoll(a, NULL, 10), y = strtoll(b, NULL, 10);

	if (!strcmp(op, "=") || !strcmp(op, "=="))
		return !strcmp(a, b);
	if (!strcmp(op, "!="))
		return strcmp(a, b);
	if (!strcmp(op, "<"))
		return strcmp(a, b) < 0;
	if (!strcmp(op, ">"))
		return strcmp(a, b) > 0;
	if (!strcmp(op, "-eq"))
		return x == y;
	if (!strcmp(op, "-ne"))
		return x != y;
	if (!strcmp(op, "-lt"))
		return x < y;
	if (!strcmp(op, "-le"))
		return x <= y;
	if (!strcmp(op, "-gt"))
		return x > y;
	return x >= y;	/* -ge */
}

static bool one_of(const char *word, const char *const *list)
{
	while (*list && strcmp(word, *list))
		list++;
	return *list;
}

static bool test_primary(struct grub *g, struct expr *e)
{
	static const char *const unary[] = { "-n", "-z", "-d", "-e", "-f", "-s", NULL };
	static const char *const binary[] = { "=", "==", "!=", "<", ">", "-eq", "-ne", "-lt", "-le", "-gt",
					      "-ge", NULL };
	unsigned int left = e->nr - e->at;
	const char **w = e->w + e->at;
	bool yes;

	if (!left || e->depth > NEST_MAX)
		return false;
	if (left >= 3 && one_of(w[1], binary)) {
		e->at += 3;
		return test_binary(w[0], w[1], w[2]);
	}
	if (!strcmp(w[0], "!") && left > 1) {
		e->at++;
		e->depth++;
		return !test_primary(g, e);
	}
	if (!strcmp(w[0], "(")) {
		e->at++;
		e->depth++;
		yes = test_or(g, e);
		e->at += e->at < e->nr;	/* ")" */
		return yes;
	}
	if (left >= 2 && one_of(w[0], unary)) {
		e->at += 2;
		return test_unary(g, w[0], w[1]);
	}
	e->at++;
	return *w[0];
}

static bool test_and(struct grub *g, struct expr *e)
{
	bool yes = test_primary(g, e);

	while (e->at < e->nr && !strcmp(e->w[e->at], "-a")) {
		e->at++;
		yes &= test_primary(g, e);
	}
	return yes;
}

static bool test_or(struct grub *g, struct expr *e)
{
	bool yes = test_and(g, e);

	while (e->at < e->nr && !strcmp(e->w[e->at], "-o")) {
		e->at++;
		yes |= test_and(g, e);
	}
	return yes;
}

static bool test(struct grub *g, const char **w, unsigned int nr)
{
	struct expr e = { w, nr, 0, 0 };

	return test_or(g, &e);
}

/* ---- commands ---------------------------------------------------------------------------- */

/* "NAME=VALUE" */
static bool assign(struct grub *g, const char *word)
{
	const char *eq = strchr(word, '=');
	const char *p = word;

	while (name_char(*p))
		p++;
	if (!eq || eq == word || p != eq)
		return false;
	set_var(g, menu_text(g->m, word, (size_t)(eq - word)), eq + 1);
	return true;
}

static void source_file(struct grub *g, const char *name)
{
	struct cursor c = { .file = path_of(g, name), .line = 1 };
	size_t len;

	c.p = menu_open(g->m, c.file, &len);
	g->failed = !c.p;
	if (!c.p)
		return;
	c.end = c.p + len;
	run(g, &c, true);
	menu_close(g->m);
}

/* A menu of its own. Menus lead back to each other: once is enough. */
static void config_file(struct grub *g, const char *name)
{
	struct cursor c = { .file = path_of(g, name), .line = 1 };
	size_t len;

	if (menu_seen(g->m, c.file))
		return;
	c.p = menu_open(g->m, c.file, &len);
	if (!c.p)
		return;
	c.end = c.p + len;
	run_menu(g, &c, NULL);
	menu_close(g->m);
}

/* search --set=root --file /x: is there such a file; by label or UUID it is this disc */
static void search(struct grub *g, const struct words *w)
{
	const char *var = NULL, *file = NULL;
	bool by_file = false;

	for (unsigned int i = 1; i < w->nr; i++) {
		const char *o = w->w[i];

		if (!strcmp(o, "-f") || !strcmp(o, "--file"))
			by_file = true;
		else if (!strncmp(o, "--set=", 6))
			var = o + 6;
		else if ((!strcmp(o, "--set") || !strcmp(o, "-s")))
			var = i + 2 < w->nr && *w->w[i + 1] != '-' ? w->w[++i] : "root";
		else if (!strcmp(o, "--hint") || !strcmp(o, "-h"))
			i++;
		else if (*o != '-')
			file = o;
	}
	g->failed = by_file && !(file && exists(g, file, false));
	if (!g->failed && var)
		set_var(g, var, "cd0");
}

static struct menu_choice *choice_of(struct grub *g, const struct cursor *c)
{
	/* a file without a menu is an entry itself */
	if (!g->choice)
		g->choice = menu_add(g->m, "", c->file, c->file, c->line);
	return g->choice;
}

static void set_kernel(struct grub *g, const struct cursor *c, const struct words *w)
{
	struct menu_choice *choice = choice_of(g, c);
	char args[MENU_TEXT_MAX];
	size_t at = 0;
	unsigned int i = 1;

	while (i < w->nr && !strncmp(w->w[i], "--", 2))
		i++;
	if (!choice || i >= w->nr)
		return;
	choice->pub.kernel = path_of(g, w->w[i]);
	args[0] = '\0';
	while (++i < w->nr) {
		size_t len = strlen(w->w[i]);

		if (at + len + 2 > sizeof(args)) {
			choice->pub.obstacle = "its arguments are longer than any kernel takes";
			break;
		}
		at += (size_t)sprintf(args + at, "%s%s", at ? " " : "", w->w[i]);
	}
	choice->pub.args = menu_text(g->m, args, at);
}

static void add_initrds(struct grub *g, const struct cursor *c, const struct words *w)
{
	struct menu_choice *choice = choice_of(g, c);

	if (choice)
		choice->pub.nr_initrds = 0;	/* the last command counts */
	for (unsigned int i = 1; choice && i < w->nr; i++)
		if (strncmp(w->w[i], "newc:", 5))
			menu_initrd(g->m, choice, path_of(g, w->w[i]));
}

static bool call(struct grub *g, const struct words *w)
{
	const struct function *f = g->functions;
	const char **params = g->params;
	unsigned int nr = g->nr_params;
	struct cursor body;

	while (f && strcmp(f->name, w->w[0]))
		f = f->next;
	if (!f)
		return false;
	if (g->calls == CALLS_MAX) {
		menu_note(g->m, "%s:%u: functions call each other too deep", f->body.file, f->body.line);
		return true;
	}
	g->calls++;
	g->params = menu_alloc(g->m, w->nr * sizeof(char *));
	if (g->params) {
		memcpy(g->params, w->w + 1, (w->nr - 1) * sizeof(char *));
		g->nr_params = w->nr - 1;
		body = f->body;
		run(g, &body, true);
	}
	g->params = params;
	g->nr_params = nr;
	g->calls--;
	return true;
}

/* commands that would fail here, or that say no */
static const char *const failing[] = {
	"false", "loadfont", "background_image", "regexp", "smbios", "keystatus", "terminal_input", NULL
};

/* what is started by these is no Linux kernel */
static const struct {
	const char *command, *what;
} others[] = {
	{ "chainloader", "it starts another boot loader" }, { "multiboot", "it starts a multiboot kernel" },
	{ "multiboot2", "it starts a multiboot kernel" }, { "xen_hypervisor", "it starts Xen" },
	{ "fwsetup", "it enters the firmware's setup" }, { "halt", "it powers the machine off" },
	{ "reboot", "it resets the machine" }, { "exit", "it leaves GRUB" },
	{ "ntldr", "it starts another system" }, { "kfreebsd", "it starts another system" },
};

static void other_command(struct grub *g, const struct words *w)
{
	g->failed = one_of(w->w[0], failing);
	for (size_t i = 0; i < sizeof(others) / sizeof(others[0]); i++)
		if (!strcmp(w->w[0], others[i].command))
			g->hint = others[i].what;
}

static void set_command(struct grub *g, const struct words *w)
{
	for (unsigned int i = 1; i < w->nr; i++)
		assign(g, w->w[i]);
}

static void command(struct grub *g, struct cursor *c, const struct words *w)
{
	static const char *const linux_commands[] = { "linux", "linuxefi", "linux16", "linux32", NULL };
	static const char *const initrd_commands[] = { "initrd", "initrdefi", "initrd16", NULL };
	const char *name = w->w[0];

	g->failed = false;
	if (call(g, w) || assign(g, name))
		return;
	if (!strcmp(name, "set"))
		set_command(g, w);
	else if (!strcmp(name, "export"))
		set_command(g, w);
	else if (!strcmp(name, "unset") && w->nr > 1)
		set_var(g, w->w[1], NULL);
	else if (!strcmp(name, "test"))
		g->failed = !test(g, (const char **)w->w + 1, w->nr - 1);
	else if (!strcmp(name, "["))
		g->failed = !test(g, (const char **)w->w + 1, w->nr - 1 - !strcmp(w->w[w->nr - 1], "]"));
	else if (!strcmp(name, "search") || !strncmp(name, "search.", 7))
		search(g, w);
	else if ((!strcmp(name, "source") || !strcmp(name, ".")) && w->nr > 1)
		source_file(g, w->w[1]);
	else if ((!strcmp(name, "configfile") || !strcmp(name, "normal")) && w->nr > 1)
		config_file(g, w->w[1]);
	else if (one_of(name, linux_commands))
		set_kernel(g, c, w);
	else if (one_of(name, initrd_commands))
		add_initrds(g, c, w);
	else
		other_command(g, w);
}

/* ---- blocks ---------------------------------------------------------------------------------- */

/* Pass over a block behind its '{'; @body becomes what is in it. */
static void pass_block(struct grub *g, struct cursor *c, struct cursor *body)
{
	*body = *c;
	if (run(g, c, false) != STOP_BRACE) {
		if (!g->m->stopped)
			syntax(g, c, "a block has no end");
		body->end = c->end;
	} else {
		body->end = c->p - 1;
	}
}

/* menuentry and submenu: "title" --id x --class y parameters */
static void keep_entry(struct grub *g, const struct words *w, const struct cursor *body)
{
	static const char *const with_value[] = { "--class", "--users", "--hotkey", "--source", "--id", NULL };
	struct pending *p = menu_alloc(g->m, sizeof(*p));
	const char **params = menu_alloc(g->m, w->nr * sizeof(char *));

	if (!p || !params)
		return;
	*p = (struct pending){
		.id = "", .body = *body, .params = params, .choice = -1,
		.submenu = !strcmp(w->w[0], "submenu"),
	};
	for (unsigned int i = 1; i < w->nr; i++) {
		const char *o = w->w[i];

		if (!strncmp(o, "--id=", 5))
			p->id = o + 5;
		else if (!strcmp(o, "--id") && i + 1 < w->nr)
			p->id = w->w[++i];
		else if (one_of(o, with_value))
			i++;
		else if (strncmp(o, "--", 2))
			params[p->nr_params++] = o;
	}
	p->title = p->nr_params ? params[0] : "";
	*g->last = p;
	g->last = &p->next;
}

static void keep_function(struct grub *g, const struct words *w, const struct cursor *body)
{
	struct function *f = menu_alloc(g->m, sizeof(*f));

	if (!f)
		return;
	*f = (struct function){ g->functions, w->w[0], *body };
	g->functions = f;
}

/* the command of @w, which a block follows */
static void block_command(struct grub *g, struct cursor *c, const struct words *w, bool live)
{
	struct cursor body;

	pass_block(g, c, &body);
	if (live && (!strcmp(w->w[0], "menuentry") || !strcmp(w->w[0], "submenu")))
		keep_entry(g, w, &body);
}

static void run_if(struct grub *g, struct cursor *c, bool live)
{
	bool decided = false, yes;
	enum stop stop = STOP_ELIF;

	while (stop == STOP_ELIF) {
		bool look = live && !decided;

		if (run(g, c, look) != STOP_THEN) {
			syntax(g, c, "an if has no then");
			return;
		}
		yes = look && !g->failed;
		decided |= yes;
		stop = run(g, c, yes);
	}
	if (stop == STOP_ELSE)
		stop = run(g, c, live && !decided);
	if (stop != STOP_FI)
		syntax(g, c, "an if has no fi");
}

static void run_while(struct grub *g, struct cursor *c, bool live, bool until)
{
	const struct cursor begin = *c;

	for (;;) {
		bool yes;

		*c = begin;
		if (run(g, c, live) != STOP_DO) {
			syntax(g, c, "a loop has no do");
			return;
		}
		yes = live && g->failed == until && menu_step(g->m);
		if (run(g, c, yes) != STOP_DONE) {
			syntax(g, c, "a loop has no done");
			return;
		}
		if (!yes)
			return;
	}
}

static void run_for(struct grub *g, struct cursor *c, struct words *w, bool live)
{
	struct cursor begin;
	unsigned int i = 2;

	read_words(g, c, w, live);
	if (w->nr < 2 || strcmp(w->w[1], "in") || run(g, c, false) != STOP_DO) {
		syntax(g, c, "a for is followed by NAME in WORDS; do");
		return;
	}
	begin = *c;
	do {
		bool yes = live && i < w->nr && menu_step(g->m);

		*c = begin;
		if (yes)
			set_var(g, w->w[0], w->w[i]);
		if (run(g, c, yes) != STOP_DONE) {
			syntax(g, c, "a loop has no done");
			return;
		}
	} while (live && ++i < w->nr && !g->m->stopped);
}

static void run_function(struct grub *g, struct cursor *c, struct words *w, bool live)
{
	struct cursor body;

	if (read_words(g, c, w, false) != END_OPEN || !w->nr) {
		syntax(g, c, "a function is a name and a block");
		return;
	}
	pass_block(g, c, &body);
	if (live)
		keep_function(g, w, &body);
}

/* Commands until something ends them that is not theirs, or the end. Not @live: only pass. */
static enum stop run_commands(struct grub *g, struct cursor *c, struct words *w, bool live)
{
	static const struct {
		const char *word;
		enum stop stop;
	} stops[] = {
		{ "then", STOP_THEN }, { "elif", STOP_ELIF }, { "else", STOP_ELSE }, { "fi", STOP_FI },
		{ "do", STOP_DO }, { "done", STOP_DONE },
	};

	while (!g->m->stopped) {
		enum end how = read_words(g, c, w, live);
		const char *name = w->nr ? w->w[0] : "";

		if (how == END_FILE)
			break;
		if (how == END_CLOSE)
			return STOP_BRACE;
		if (how == END_KEYWORD) {
			for (size_t i = 0; i < sizeof(stops) / sizeof(stops[0]); i++)
				if (!strcmp(name, stops[i].word))
					return stops[i].stop;
			if (!strcmp(name, "if"))
				run_if(g, c, live);
			else if (!strcmp(name, "for"))
				run_for(g, c, w, live);
			else if (!strcmp(name, "function"))
				run_function(g, c, w, live);
			else
				run_while(g, c, live, *name == 'u');
		} else if (how == END_OPEN && w->nr) {
			block_command(g, c, w, live);
		} else if (how == END_OPEN) {
			run(g, c, live);
		} else if (w->nr && live) {
			command(g, c, w);
		}
	}
	return STOP_END;
}

static enum stop run(struct grub *g, struct cursor *c, bool live)
{
	enum stop stop = STOP_END;
	struct words *w;

	if (g->nest == NEST_MAX) {
		syntax(g, c, "blocks lie too deep in each other");
		return STOP_END;
	}
	w = malloc(sizeof(*w));	/* too much for the stack, that often */
	if (!w)
		return STOP_END;
	g->nest++;
	stop = run_commands(g, c, w, live);
	g->nest--;
	free(w);
	return stop;
}

/* ---- menus ---------------------------------------------------------------------------------------- */

static void run_entry(struct grub *g, struct pending *p)
{
	struct cursor body = p->body;
	unsigned int nr = g->m->nr_choices;
	struct menu_choice *c = menu_add(g->m, p->id, p->title, body.file, body.line);

	if (!c)
		return;
	p->choice = (int)nr;
	g->choice = c;
	g->hint = NULL;
	run(g, &body, true);
	g->choice = NULL;
	if (!*c->pub.kernel && !c->pub.obstacle)
		c->pub.obstacle = g->m->nr_choices > nr + 1 ? "it is another menu" :
				  g->hint ? g->hint : "it starts no Linux kernel";
}

static void run_pending(struct grub *g, struct pending *p)
{
	const struct binding *vars = g->vars;
	struct cursor body = p->body;

	g->params = p->params;
	g->nr_params = p->nr_params;
	if (p->submenu)
		p->inner = run_menu(g, &body, NULL);
	else
		run_entry(g, p);
	g->vars = vars;
}

/* Everything of @c, and then the entries of its menu, each as if it were chosen. */
static struct pending *run_menu(struct grub *g, struct cursor *c, const char **wanted)
{
	struct grub outer = *g;
	struct pending *first;

	if (g->menus == MENUS_MAX) {
		syntax(g, c, "menus lie too deep in each other");
		return NULL;
	}
	g->menus++;
	g->first = NULL;
	g->last = &g->first;
	g->choice = NULL;
	if (run(g, c, true) != STOP_END && !g->m->stopped)
		syntax(g, c, "an end without a beginning");
	if (wanted)
		*wanted = get_var(g, "default", strlen("default"));
	g->choice = NULL;
	first = g->first;
	for (struct pending *p = first; p && !g->m->stopped; p = p->next)
		run_pending(g, p);
	*g = outer;
	return first;
}

/* ---- the default --------------------------------------------------------------------- */

static bool is(const struct pending *p, const char *word, size_t len, unsigned long nr)
{
	return (len && strspn(word, "0123456789") >= len && strtoul(word, NULL, 10) == nr) ||
	       (len && strlen(p->id) == len && !memcmp(p->id, word, len)) ||
	       (len && strlen(p->title) == len && !memcmp(p->title, word, len));
}

/* "2", "label", "title"; "1>label" is in a submenu; without any of it the first */
static int default_of(const struct pending *menu, const char *wanted)
{
	size_t len = strcspn(wanted, ">");
	unsigned long nr = 0;

	if (!*wanted)
		wanted = "0", len = 1;
	for (; menu; menu = menu->next, nr++) {
		if (!is(menu, wanted, len, nr))
			continue;
		if (menu->submenu)
			return default_of(menu->inner, wanted + len + (wanted[len] == '>'));
		return menu->choice;
	}
	return -1;
}

int grub_read(struct menu *m, const char *path)
{
	struct grub g = { .m = m };
	struct cursor c = { .file = path, .line = 1 };
	const char *wanted = "";
	struct pending *menu;
	size_t len;

	c.p = menu_open(m, path, &len);
	if (!c.p)
		return -1;
	c.end = c.p + len;
	set_var(&g, "prefix", menu_print(m, "(cd0)%s", menu_dir_of(m, path)));
	set_var(&g, "root", "cd0");
	set_var(&g, "cmdpath", "(cd0)/EFI/BOOT");
	set_var(&g, "grub_platform", "efi");
	set_var(&g, "grub_cpu", "x86_64");
	set_var(&g, "menuentry_id_option", "--id");
	menu = run_menu(&g, &c, &wanted);
	menu_close(m);
	return default_of(menu, wanted);
}
