// SPDX-License-Identifier: GPL-2.0-only
/* vmplat hotplug: what to do with what is plugged into this host. */
#include <errno.h>
#include <getopt.h>
#include <json-c/json.h>
#include <signal.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

#include "cli.h"
#include "hotplug/plug.h"

#define POLICY	"/etc/vmplat/hotplug.policy"
#define JOURNAL	"/var/lib/vmplat/hotplug/journal"

static const char intro[] =
"usage: vmplat hotplug COMMAND [OPTION]...\n"
"\n"
"Have a policy decide what becomes of the CPUs, memory blocks, PCI devices and taps\n"
"of this host, at once or as they are plugged; keep account of each change, and take\n"
"it back. vmplat-hotplug(1) describes the policy.\n";

static const char check_help[] =
"usage: vmplat hotplug check [-p FILE]\n"
"\n"
"Read the policy and say what is wrong with it, line by line. Changes nothing.\n"
"\n"
"  -p, --policy FILE    " POLICY " unless given\n";

static const char plan_help[] =
"usage: vmplat hotplug plan [-p FILE] [--json]\n"
"\n"
"Show what 'apply' would change now, by which writes, and why everything else is left\n"
"alone. Changes nothing, and needs no root.\n"
"\n"
"  -p, --policy FILE    " POLICY " unless given\n"
"      --json           print a JSON object\n";

static const char apply_help[] =
"usage: vmplat hotplug apply [-p FILE] [-J FILE] [--follow] [--json]\n"
"\n"
"Make what is there what the policy wants. Each change is in the journal before it is\n"
"begun, and again, with the state found, when it has ended.\n"
"\n"
"  -p, --policy FILE    " POLICY " unless given\n"
"  -J, --journal FILE   " JOURNAL " unless given\n"
"      --follow         go on with what is plugged later, until SIGTERM or Ctrl-C;\n"
"                       SIGHUP reads the policy again and tries again what failed\n"
"      --json           print each change as a JSON object, one a line\n";

static const char log_help[] =
"usage: vmplat hotplug log [-J FILE] [--json]\n"
"\n"
"Show the changes made since the machine was booted: the state before, the one they\n"
"led to, and whether they stand.\n"
"\n"
"  -J, --journal FILE   " JOURNAL " unless given;\n"
"                       that of the boot before is kept with .1 behind its name\n"
"      --json           print each change as a JSON object, one a line\n";

static const char undo_help[] =
"usage: vmplat hotplug undo [--since N | --all] [-J FILE] [--json]\n"
"\n"
"Bring back the state before the changes of the latest 'apply', newest first. What\n"
"somebody else has changed since stays as it is, and is named.\n"
"\n"
"      --since N        undo change N and all later ones, of whatever 'apply'\n"
"      --all            undo all changes since the machine was booted\n"
"  -J, --journal FILE   " JOURNAL " unless given\n"
"      --json           print each change as a JSON object, one a line\n";

struct args {
	const char *verb;		/* "hotplug plan" */
	const char *policy, *journal;
	uint64_t since;
	bool all, follow, json, help;
};

static const struct plug_host this_host = { .sysfs = "/sys" };

/* ---- command line ------------------------------------------------------------------ */

enum { OPT_JSON = 256, OPT_FOLLOW, OPT_SINCE, OPT_ALL };

static const struct option check_options[] = {
	{ "policy", required_argument, NULL, 'p' },
	{ "help", no_argument, NULL, 'h' },
	{ }
};

static const struct option plan_options[] = {
	{ "policy", required_argument, NULL, 'p' },
	{ "json", no_argument, NULL, OPT_JSON },
	{ "help", no_argument, NULL, 'h' },
	{ }
};

static const struct option apply_options[] = {
	{ "policy", required_argument, NULL, 'p' },
	{ "journal", required_argument, NULL, 'J' },
	{ "follow", no_argument, NULL, OPT_FOLLOW },
	{ "json", no_argument, NULL, OPT_JSON },
	{ "help", no_argument, NULL, 'h' },
	{ }
};

static const struct option log_options[] = {
	{ "journal", required_argument, NULL, 'J' },
	{ "json", no_argument, NULL, OPT_JSON },
	{ "help", no_argument, NULL, 'h' },
	{ }
};

static const struct option undo_options[] = {
	{ "journal", required_argument, NULL, 'J' },
	{ "since", required_argument, NULL, OPT_SINCE },
	{ "all", no_argument, NULL, OPT_ALL },
	{ "json", no_argument, NULL, OPT_JSON },
	{ "help", no_argument, NULL, 'h' },
	{ }
};

static int parse(struct args *a, int argc, char **argv, const char *letters,
		 const struct option *options)
{
	int opt, rc = CLI_OK;

	a->policy = POLICY;
	a->journal = JOURNAL;
	opterr = 0;
	while (!rc && !a->help && (opt = getopt_long(argc, argv, letters, options, NULL)) != -1) {
		if (opt == 'h')
			a->help = true;
		else if (opt == 'p')
			a->policy = optarg;
		else if (opt == 'J')
			a->journal = optarg;
		else if (opt == OPT_JSON)
			a->json = true;
		else if (opt == OPT_FOLLOW)
			a->follow = true;
		else if (opt == OPT_ALL)
			a->all = true;
		else if (opt == OPT_SINCE)
			rc = cli_parse_u64(a->verb, "--since", optarg, 1, UINT32_MAX, &a->since);
		else
			rc = cli_bad_option(a->verb, opt, argv);
	}
	if (!rc && !a->help && optind < argc)
		rc = cli_usage(a->verb, "'%s' is one word too many", argv[optind]);
	if (!rc && a->all && a->since)
		rc = cli_usage(a->verb, "--all and --since exclude each other");
	return rc;
}

static int load_policy(const struct args *a, struct plug_policy *policy)
{
	if (!plug_policy_load(policy, a->policy))
		return CLI_OK;
	for (size_t i = 0; i < policy->nr_errors; i++)
		cli_fail("%s: %s", a->policy, policy->errors[i]);
	if (!policy->nr_errors)
		cli_fail("%s", plug_error());
	plug_policy_free(policy);
	return CLI_FAILED;
}

/* ---- check ---------------------------------------------------------------------------- */

static int hotplug_check(int argc, char **argv)
{
	struct args a = { .verb = "hotplug check" };
	struct plug_policy policy;
	int rc = parse(&a, argc, argv, ":p:h", check_options);

	if (rc || a.help)
		return rc ? rc : cli_help(check_help);
	rc = load_policy(&a, &policy);
	if (rc)
		return rc;
	printf("%s: %zu %s\n", a.policy, policy.nr_rules, policy.nr_rules == 1 ? "rule" : "rules");
	plug_policy_free(&policy);
	return CLI_OK;
}

/* ---- plan ------------------------------------------------------------------------------ */

/* Of a tap that no rule gives to a VM, nobody has asked whether one has it. */
static bool is_known(const struct plug_object *o, const struct plug_verdict *v)
{
	return o->class_ != PLUG_NETDEV || v->change || *o->now.vm;
}

static struct json_object *steps_json(const struct plug_object *o, const struct plug_verdict *v)
{
	struct json_object *list = json_object_new_array();
	struct plug_step steps[PLUG_STEPS_MAX];
	size_t nr = plug_steps(o, &o->now, &v->after, steps);
	char text[PLUG_STEP_TEXT];

	for (size_t i = 0; i < nr; i++)
		json_object_array_add(list, json_object_new_string(
					      plug_step_text(&this_host, &steps[i], text)));
	return list;
}

static struct json_object *verdict_json(const struct plug_object *o, const struct plug_verdict *v)
{
	struct json_object *j = json_object_new_object();

	json_object_object_add(j, "class", json_object_new_string(plug_class_name(o->class_)));
	json_object_object_add(j, "object", json_object_new_string(o->name));
	json_object_object_add(j, "line", v->rule ? json_object_new_int64(v->rule->line) : NULL);
	json_object_object_add(j, "now", is_known(o, v) ? plug_state_to_json(o->class_, &o->now) :
			       NULL);
	if (v->change) {
		json_object_object_add(j, "after", plug_state_to_json(o->class_, &v->after));
		json_object_object_add(j, "steps", steps_json(o, v));
	} else {
		json_object_object_add(j, "why", json_object_new_string(v->why));
	}
	return j;
}

static int plan_json(const struct args *a, const struct plug_scan *scan,
		     const struct plug_verdict *verdicts)
{
	struct json_object *o = json_object_new_object();
	struct json_object *changes = json_object_new_array(), *left = json_object_new_array();

	for (size_t i = 0; i < scan->nr; i++)
		json_object_array_add(verdicts[i].change ? changes : left,
				      verdict_json(&scan->objects[i], &verdicts[i]));
	json_object_object_add(o, "policy", json_object_new_string(a->policy));
	json_object_object_add(o, "changes", changes);
	json_object_object_add(o, "left", left);
	return cli_json(o);
}

static void print_change(const struct plug_object *o, const struct plug_verdict *v)
{
	char now[PLUG_STATE_TEXT], after[PLUG_STATE_TEXT], text[PLUG_STEP_TEXT];
	struct plug_step steps[PLUG_STEPS_MAX];
	size_t nr = plug_steps(o, &o->now, &v->after, steps);

	printf("%s%s%s: %s -> %s (line %u)\n", cli_style(stdout, CLI_BOLD), o->name,
	       cli_style(stdout, CLI_PLAIN), plug_state_text(o->class_, &o->now, now),
	       plug_state_text(o->class_, &v->after, after), v->rule->line);
	for (size_t i = 0; i < nr; i++)
		printf("    %s%s%s\n", cli_style(stdout, CLI_DIM),
		       plug_step_text(&this_host, &steps[i], text), cli_style(stdout, CLI_PLAIN));
}

static bool same_fate(const struct plug_object *o, const struct plug_verdict *v,
		      const struct plug_object *p, const struct plug_verdict *w)
{
	return o->class_ == p->class_ && (o->class_ == PLUG_CPU || o->class_ == PLUG_MEMORY) &&
	       v->rule == w->rule && !w->change && !strcmp(v->why, w->why) &&
	       plug_state_same(&o->now, &p->now);
}

/* CPUs and blocks that are left alone for the same reason share a line. */
static void print_left(const struct plug_scan *scan, const struct plug_verdict *verdicts)
{
	static const char *const heads[] = { "LEFT ALONE", "NOW", "LINE", "WHY", NULL };
	struct cli_table *t = cli_table_new("<<><", heads);
	char now[PLUG_STATE_TEXT];
	size_t last;

	for (size_t i = 0; i < scan->nr; i = last + 1) {
		const struct plug_object *o = &scan->objects[i];
		const struct plug_verdict *v = &verdicts[i];

		last = i;
		if (v->change)
			continue;
		while (last + 1 < scan->nr && same_fate(o, v, &scan->objects[last + 1],
							&verdicts[last + 1]))
			last++;
		if (last > i)
			cli_cell(t, "%s to %s", o->name, scan->objects[last].name);
		else
			cli_cell(t, "%s", o->name);
		cli_cell(t, "%s", is_known(o, v) ? plug_state_text(o->class_, &o->now, now) : "-");
		if (v->rule)
			cli_cell(t, "%u", v->rule->line);
		else
			cli_cell(t, "-");
		cli_cell(t, "%s", v->why);
	}
	cli_table_print(t);
}

static void print_plan(const struct plug_scan *scan, const struct plug_verdict *verdicts)
{
	size_t nr = 0;

	for (size_t i = 0; i < scan->nr; i++) {
		if (!verdicts[i].change)
			continue;
		print_change(&scan->objects[i], &verdicts[i]);
		nr++;
	}
	printf(nr ? "\n" : "Nothing would be changed.\n\n");
	print_left(scan, verdicts);
}

static int show_plan(const struct args *a, const struct plug_policy *policy)
{
	struct plug_verdict *verdicts;
	struct plug_scan scan;
	int rc = CLI_OK;

	if (plug_scan(&this_host, &scan))
		return cli_fail("%s", plug_error());
	verdicts = calloc(scan.nr + 1, sizeof(*verdicts));
	if (!verdicts)
		abort();
	for (size_t i = 0; i < scan.nr; i++)
		plug_decide(&this_host, policy, &scan.objects[i], &verdicts[i]);
	if (a->json)
		rc = plan_json(a, &scan, verdicts);
	else
		print_plan(&scan, verdicts);
	free(verdicts);
	plug_scan_free(&scan);
	if (!rc && fflush(stdout))
		rc = cli_fail("cannot write to standard output: %s", strerror(errno));
	return rc;
}

static int hotplug_plan(int argc, char **argv)
{
	struct args a = { .verb = "hotplug plan" };
	struct plug_policy policy;
	int rc = parse(&a, argc, argv, ":p:h", plan_options);

	if (rc || a.help)
		return rc ? rc : cli_help(plan_help);
	rc = load_policy(&a, &policy);
	if (rc)
		return rc;
	rc = show_plan(&a, &policy);
	plug_policy_free(&policy);
	return rc;
}

/* ---- changes, as they end ---------------------------------------------------------------- */

static void print_json(const struct plug_change *c)
{
	struct json_object *o = plug_change_to_json(c);

	puts(json_object_to_json_string_ext(o, JSON_C_TO_STRING_PLAIN |
					    JSON_C_TO_STRING_NOSLASHESCAPE));
	json_object_put(o);
}

static enum cli_style style_of(const struct plug_change *c)
{
	return c->result == PLUG_DONE ? CLI_GREEN : c->result == PLUG_FAILED ? CLI_RED : CLI_YELLOW;
}

static const char *outcome(const struct plug_change *c, char buf[PLUG_STATE_TEXT])
{
	if (c->result == PLUG_UNFINISHED)
		return "not known";
	return c->gone ? "unplugged" : plug_state_text(c->class_, &c->now, buf);
}

static void print_cause(const struct plug_change *c)
{
	if (c->undoes)
		printf(" (undoes change %u)", c->undoes);
	else
		printf(" (line %u)", c->line);
}

static void print_ended(void *ctx, const struct plug_change *c)
{
	const struct args *a = ctx;
	char before[PLUG_STATE_TEXT], after[PLUG_STATE_TEXT], now[PLUG_STATE_TEXT];

	if (a->json) {
		print_json(c);
		fflush(stdout);
		return;
	}
	printf("%u %s: %s -> %s", c->number, c->object,
	       plug_state_text(c->class_, &c->before, before),
	       c->result == PLUG_DONE ? outcome(c, now) :
	       plug_state_text(c->class_, &c->after, after));
	print_cause(c);
	printf(" %s%s%s", cli_style(stdout, style_of(c)), plug_result_name(c->result),
	       cli_style(stdout, CLI_PLAIN));
	if (*c->why)
		printf(": %s", c->why);
	if (c->result != PLUG_DONE)
		printf("; now %s", outcome(c, now));
	putchar('\n');
	fflush(stdout);
}

static void print_refused(void *ctx, const struct plug_change *c, bool harmless, const char *why)
{
	if (harmless)
		cli_note("change %u of %s: %s", c->number, c->object, why);
	else
		cli_warn("change %u of %s: %s", c->number, c->object, why);
}

static int open_journal(const struct args *a, struct plug_journal *journal)
{
	char boot[40];

	if (plug_boot_id(boot) || plug_journal_open(journal, a->journal, boot))
		return cli_fail("%s", plug_error());
	if (journal->torn)
		cli_note("The last record of the journal was cut short, and nothing followed from it: dropped.");
	return CLI_OK;
}

/* ---- apply ---------------------------------------------------------------------------------- */

static volatile sig_atomic_t stopped, hung_up;

static void on_signal(int sig)
{
	if (sig == SIGHUP)
		hung_up = 1;
	else
		stopped = 1;
}

/* Signals come while we wait, never within a change. */
static void hold_signals(sigset_t *old)
{
	static const int signals[] = { SIGINT, SIGTERM, SIGHUP };
	struct sigaction sa = { .sa_handler = on_signal };
	sigset_t block;

	sigemptyset(&block);
	for (size_t i = 0; i < sizeof(signals) / sizeof(signals[0]); i++)
		sigaddset(&block, signals[i]);
	sigprocmask(SIG_BLOCK, &block, old);
	for (size_t i = 0; i < sizeof(signals) / sizeof(signals[0]); i++)
		sigaction(signals[i], &sa, NULL);
}

/* A policy that has become wrong does not replace the one that is followed. */
static void reload(const struct args *a, struct plug_policy *policy, struct plug_work *work)
{
	struct plug_policy next;

	if (load_policy(a, &next)) {
		cli_warn("the policy of before is still followed");
		return;
	}
	plug_policy_free(policy);
	*policy = next;
	work->journal->run = 0;		/* what failed may be tried again */
	cli_note("%s: read again, %zu rules", a->policy, policy->nr_rules);
}

static int follow(const struct args *a, struct plug_policy *policy, struct plug_work *work)
{
	struct plug_follow *f;
	sigset_t old;
	int n = 1;

	if (plug_follow_open(&f))
		return cli_fail("%s", plug_error());
	hold_signals(&old);
	work->follows = true;
	while (!stopped && n >= 0) {
		n = plug_follow_wait(f, &old);
		if (n >= 0 && hung_up) {
			hung_up = 0;
			reload(a, policy, work);
			n = 1;
		}
		if (n > 0)
			n = plug_apply(work, policy);
	}
	plug_follow_close(f);
	return n < 0 ? cli_fail("%s", plug_error()) : CLI_OK;
}

static int apply(const struct args *a, struct plug_policy *policy, struct plug_journal *journal)
{
	struct plug_work work = {
		.host = &this_host, .journal = journal, .ended = print_ended,
		.refused = print_refused, .ctx = (void *)a,
	};
	int rc;

	if (plug_recover(&work))
		return cli_fail("%s", plug_error());
	if (a->follow)
		return follow(a, policy, &work);
	rc = plug_apply(&work, policy) ? cli_fail("%s", plug_error()) : CLI_OK;
	if (!rc && !a->json && !work.nr_done && !work.nr_failed)
		puts("Nothing to change.");
	if (!rc && work.nr_failed)
		rc = cli_fail("%u of %u changes failed", work.nr_failed,
			      work.nr_failed + work.nr_done);
	return rc;
}

static int hotplug_apply(int argc, char **argv)
{
	struct args a = { .verb = "hotplug apply" };
	struct plug_journal journal;
	struct plug_policy policy;
	int rc = parse(&a, argc, argv, ":p:J:h", apply_options);

	if (rc || a.help)
		return rc ? rc : cli_help(apply_help);
	rc = load_policy(&a, &policy);
	if (rc)
		return rc;
	rc = open_journal(&a, &journal);
	if (!rc) {
		rc = apply(&a, &policy, &journal);
		plug_journal_close(&journal);
	}
	plug_policy_free(&policy);
	return rc;
}

/* ---- log --------------------------------------------------------------------------------------- */

static void remark(const struct plug_change *c, char *buf, size_t room)
{
	int n = c->undoes ? snprintf(buf, room, "undoes %u", c->undoes) :
		snprintf(buf, room, "line %u", c->line);

	if (c->undone_by)
		n += snprintf(buf + n, room - n, ", undone by %u", c->undone_by);
	if (*c->why)
		snprintf(buf + n, room - n, "; %s", c->why);
}

static void print_log(const struct plug_journal *j)
{
	static const char *const heads[] = {
		"N", "RUN", "TIME", "OBJECT", "BEFORE", "NOW", "RESULT", "REMARK", NULL
	};
	struct cli_table *t = cli_table_new(">><<<<<<", heads);
	char text[PLUG_STATE_TEXT + PLUG_WHY_MAX];
	struct tm tm;

	for (size_t i = 0; i < j->nr; i++) {
		const struct plug_change *c = &j->changes[i];
		time_t seconds = (time_t)(c->begin_ns / 1000000000u);

		localtime_r(&seconds, &tm);
		strftime(text, sizeof(text), "%Y-%m-%d %H:%M:%S", &tm);
		cli_cell(t, "%u", c->number);
		cli_cell(t, "%u", c->run);
		cli_cell(t, "%s", text);
		cli_cell(t, "%s", c->object);
		cli_cell(t, "%s", plug_state_text(c->class_, &c->before, text));
		cli_cell(t, "%s", outcome(c, text));
		cli_cell(t, "%s", plug_result_name(c->result));
		remark(c, text, sizeof(text));
		cli_cell(t, "%s", text);
	}
	cli_table_print(t);
}

static int hotplug_log(int argc, char **argv)
{
	struct args a = { .verb = "hotplug log" };
	struct plug_journal j;
	char boot[40];
	int rc = parse(&a, argc, argv, ":J:h", log_options), err;

	if (rc || a.help)
		return rc ? rc : cli_help(log_help);
	err = plug_journal_read(&j, a.journal);
	if (err == -ENOENT) {
		cli_note("There is no journal %s: nothing has been changed.", a.journal);
		return CLI_OK;
	}
	if (err && !j.path)
		return cli_fail("%s", plug_error());
	if (err)		/* what comes before the damage is shown */
		rc = cli_fail("%s", plug_error());
	if (a.json)
		for (size_t i = 0; i < j.nr; i++)
			print_json(&j.changes[i]);
	else if (j.nr)
		print_log(&j);
	else if (!err)
		puts("Nothing has been changed.");
	if (*j.boot && !plug_boot_id(boot) && strcmp(boot, j.boot))
		cli_note("These are changes of an earlier boot, and have ended with it.");
	plug_journal_close(&j);
	if (!rc && fflush(stdout))
		rc = cli_fail("cannot write to standard output: %s", strerror(errno));
	return rc;
}

/* ---- undo ---------------------------------------------------------------------------------------- */

static int undo(const struct args *a, struct plug_journal *journal)
{
	struct plug_work work = {
		.host = &this_host, .journal = journal, .ended = print_ended,
		.refused = print_refused, .ctx = (void *)a,
	};

	if (plug_recover(&work) || plug_undo(&work, a->all ? 1 : (unsigned int)a->since))
		return cli_fail("%s", plug_error());
	if (work.nr_failed || work.nr_refused)
		return cli_fail("%u changes could not be undone", work.nr_failed + work.nr_refused);
	if (!work.nr_done && !a->json)
		puts("Nothing to undo.");
	return CLI_OK;
}

static int hotplug_undo(int argc, char **argv)
{
	struct args a = { .verb = "hotplug undo" };
	struct plug_journal journal;
	int rc = parse(&a, argc, argv, ":J:h", undo_options);

	if (rc || a.help)
		return rc ? rc : cli_help(undo_help);
	rc = open_journal(&a, &journal);
	if (rc)
		return rc;
	if (a.since > journal.nr)
		rc = cli_fail("there is no change %u; the latest is %zu", (unsigned int)a.since,
			      journal.nr);
	else
		rc = undo(&a, &journal);
	plug_journal_close(&journal);
	return rc;
}

static const struct cli_command table[] = {
	{ "check",	"read the policy, and say what is wrong with it",	hotplug_check },
	{ "plan",	"show what would be changed, and what not and why",	hotplug_plan },
	{ "apply",	"make what is there what the policy wants",		hotplug_apply },
	{ "log",	"show what was changed",				hotplug_log },
	{ "undo",	"bring back the state before",				hotplug_undo },
	{ }
};

int cmd_hotplug(int argc, char **argv)
{
	return cli_dispatch("vmplat hotplug", intro, table, argc, argv);
}
