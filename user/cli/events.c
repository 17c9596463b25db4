// SPDX-License-Identifier: GPL-2.0-only
/* vmplat events: what happens on this host, as it happens, and what there is. */
#include <ctype.h>
#include <errno.h>
#include <fcntl.h>
#include <getopt.h>
#include <inttypes.h>
#include <poll.h>
#include <signal.h>
#include <spawn.h>
#include <stdarg.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

#include <json-c/json.h>
#include <vmplat.h>
#include <vmplat_clock.h>

#include "cli.h"

static const char help[] =
"usage: vmplat events [OPTION]...\n"
"       vmplat events --state [OPTION]...\n"
"\n"
"Print what happens to PCI functions, CPUs, memory, network devices, guest\n"
"memories, logs, views and VMs of this host. No event is lost silently: what could\n"
"not be delivered is fetched again, and if it is no longer kept, the state is\n"
"told anew, after the word reset. Ends with Ctrl-C.\n"
"\n"
"  --since N           begin after event N (0: all that are kept)\n"
"  --resume FILE       go on where the last one with this FILE had got to, and keep\n"
"                      the position there; at first: all objects, then events\n"
"  --state             print the objects there are, and end\n"
"  --class CLASS,...   pci, vf, cpu, memory, net, mem, log, view, domain, vm\n"
"  --id N              of the object with this number\n"
"  --owner UID         of this user's objects\n"
"  --count N           end after N events\n"
"  --json              one JSON object a line\n"
"  --exec COMMAND      run COMMAND CLASS ACTION ID for each event, one after the\n"
"                      other, with the event in the environment: VMPLAT_EVENT_SEQ,\n"
"                      VMPLAT_PCI_DRIVER and so on; no shell is involved\n";

struct options {
	struct vmplat_event_filter filter;
	const char *resume;
	const char *exec;
	bool has_since;
	uint64_t since;
	uint64_t count;
	bool state;
	bool json;
};

struct reader {
	const struct options *opts;
	struct vmplat_events *events;
	struct vmplat *dev;
	int64_t to_wall_ns;		/* from CLOCK_BOOTTIME */
	uint64_t nr_events;
};

/* ---- people ---------------------------------------------------------------- */

static enum cli_style style_of(const struct vmplat_event *e)
{
	if (e->action == VMPLAT_ACTION_BROKEN)
		return CLI_RED;
	if (e->gone || e->action == VMPLAT_ACTION_OFFLINE)
		return CLI_YELLOW;
	if (e->action == VMPLAT_ACTION_ADD || e->action == VMPLAT_ACTION_ONLINE)
		return CLI_GREEN;
	return CLI_PLAIN;
}

static void print_time(const struct reader *r, uint64_t time_ns)
{
	int64_t ns = time_ns + r->to_wall_ns;
	time_t seconds = ns / 1000000000;
	char text[32];
	struct tm tm;

	localtime_r(&seconds, &tm);
	strftime(text, sizeof(text), "%H:%M:%S", &tm);
	printf("%s%s.%03d%s ", cli_style(stdout, CLI_DIM), text,
	       (int)(ns / 1000000 % 1000), cli_style(stdout, CLI_PLAIN));
}

/* Names come from users and devices: nothing that a terminal would act on. */
static void print_safely(const char *s)
{
	for (; *s; s++)
		putchar(isprint((unsigned char)*s) && *s != '\\' ? *s : '?');
}

static void print_bytes(const uint8_t *bytes, size_t nr)
{
	for (size_t i = 0; i < nr; i++)
		printf("%s%02x", i ? ":" : "", bytes[i]);
}

static bool in_hex(const struct vmplat_event *e, const struct vmplat_field *f)
{
	if (e->class_ == VMPLAT_CLASS_MEMORY)
		return f->attr == VMPLAT_NL_MEMORY_START;
	return e->class_ == VMPLAT_CLASS_PCI && f->attr >= VMPLAT_NL_PCI_VENDOR &&
	       f->attr <= VMPLAT_NL_PCI_REVISION;
}

static void print_field(const struct vmplat_event *e, const struct vmplat_field *f)
{
	printf(" %s", f->name);
	if (f->type == VMPLAT_FIELD_FLAG)
		return;
	putchar('=');
	switch (f->type) {
	case VMPLAT_FIELD_STRING:
		print_safely(f->string);
		break;
	case VMPLAT_FIELD_BYTES:
		print_bytes(f->bytes, f->nr_bytes);
		break;
	case VMPLAT_FIELD_SIGNED:
		printf("%" PRId64, f->signed_number);
		break;
	default:
		if (f->word)
			printf("%s", f->word);
		else
			printf(in_hex(e, f) ? "%#" PRIx64 : "%" PRIu64, f->number);
	}
}

static void print_text(const struct reader *r, const struct vmplat_event *e)
{
	const char *action = vmplat_action_name(e->action), *class = vmplat_class_name(e->class_);
	struct vmplat_field f;
	size_t pos = 0;

	if (e->kind == VMPLAT_EVENT_CHANGED) {
		print_time(r, e->time_ns);
		printf("%s%-6s %-9s%s", cli_style(stdout, style_of(e)), class ? class : "?",
		       action ? action : "?", cli_style(stdout, CLI_PLAIN));
	} else {
		printf("%-6s", class ? class : "?");
	}
	printf(" %" PRIu64, e->id);
	while (vmplat_event_field(e, &pos, &f))
		print_field(e, &f);
	if (e->has_owner)
		printf(" owner=%u", e->owner);
	if (e->pid) {
		printf(" %sby ", cli_style(stdout, CLI_DIM));
		print_safely(e->comm);
		printf("(%u)%s", e->pid, cli_style(stdout, CLI_PLAIN));
	}
	putchar('\n');
}

/* ---- machines ---------------------------------------------------------------- */

static struct json_object *json_of(const struct vmplat_field *f)
{
	char text[3 * 32 + 1] = "";

	switch (f->type) {
	case VMPLAT_FIELD_STRING:
		return json_object_new_string(f->string);
	case VMPLAT_FIELD_FLAG:
		return json_object_new_boolean(true);
	case VMPLAT_FIELD_SIGNED:
		return json_object_new_int64(f->signed_number);
	case VMPLAT_FIELD_BYTES:
		for (size_t i = 0; i < f->nr_bytes && i < 32; i++)
			snprintf(text + strlen(text), 4, "%s%02x", i ? ":" : "", f->bytes[i]);
		return json_object_new_string(text);
	default:
		return f->word ? json_object_new_string(f->word) :
		       json_object_new_uint64(f->number);
	}
}

static struct json_object *json_object_part(const struct vmplat_event *e)
{
	struct json_object *o = json_object_new_object(), *list;
	struct vmplat_field f;
	size_t pos = 0;

	while (vmplat_event_field(e, &pos, &f)) {
		if (!f.list) {
			json_object_object_add(o, f.name, json_of(&f));
			continue;
		}
		if (!json_object_object_get_ex(o, f.name, &list)) {
			list = json_object_new_array();
			json_object_object_add(o, f.name, list);
		}
		json_object_array_add(list, json_of(&f));
	}
	return o;
}

static void add_u64(struct json_object *o, const char *name, uint64_t value)
{
	json_object_object_add(o, name, json_object_new_uint64(value));
}

static void add_string(struct json_object *o, const char *name, const char *value)
{
	json_object_object_add(o, name, json_object_new_string(value));
}

static void print_json(const struct vmplat_event *e)
{
	static const char *const kinds[] = {
		[VMPLAT_EVENT_CHANGED] = "changed", [VMPLAT_EVENT_RESET] = "reset",
		[VMPLAT_EVENT_PRESENT] = "present", [VMPLAT_EVENT_SYNC] = "sync",
		[VMPLAT_EVENT_DOWN] = "down",
	};
	const char *action = vmplat_action_name(e->action), *class = vmplat_class_name(e->class_);
	struct json_object *o = json_object_new_object();
	char epoch[24];

	snprintf(epoch, sizeof(epoch), "%016" PRIx64, e->epoch);
	add_string(o, "kind", kinds[e->kind]);
	add_string(o, "epoch", epoch);
	add_u64(o, "seq", e->seq);
	if (class) {
		add_string(o, "class", class);
		if (action)
			add_string(o, "action", action);
		add_u64(o, "id", e->id);
		add_u64(o, "born", e->born);
		json_object_object_add(o, "gone", json_object_new_boolean(e->gone));
		if (e->time_ns)
			add_u64(o, "time_ns", e->time_ns);
		if (e->pid) {
			add_u64(o, "pid", e->pid);
			add_string(o, "comm", e->comm);
		}
		if (e->has_owner)
			add_u64(o, "owner", e->owner);
		json_object_object_add(o, class, json_object_part(e));
	}
	puts(json_object_to_json_string_ext(o, JSON_C_TO_STRING_PLAIN |
					    JSON_C_TO_STRING_NOSLASHESCAPE));
	json_object_put(o);
}

/* ---- hooks -------------------------------------------------------------------- */

extern char **environ;

/* "VMPLAT_PCI_NUMA_NODE=0": a name from @parts, made of capitals. */
__attribute__((format(printf, 3, 4)))
static void set_env(const char *group, const char *name, const char *fmt, ...)
{
	char variable[64], value[512];
	va_list ap;

	snprintf(variable, sizeof(variable), "VMPLAT_%s_%s", group, name);
	for (char *c = variable; *c; c++)
		*c = *c == '-' ? '_' : toupper((unsigned char)*c);
	va_start(ap, fmt);
	vsnprintf(value, sizeof(value), fmt, ap);
	va_end(ap);
	setenv(variable, value, 1);
}

static void set_list(const char *group, const char *name, uint64_t number)
{
	char variable[64];
	const char *old;

	snprintf(variable, sizeof(variable), "VMPLAT_%s_%s", group, name);
	for (char *c = variable; *c; c++)
		*c = toupper((unsigned char)*c);
	old = getenv(variable);
	set_env(group, name, "%s%s%" PRIu64, old ? old : "", old ? " " : "", number);
}

static void set_field(const char *class, const struct vmplat_field *f)
{
	char text[3 * 32 + 1] = "";

	switch (f->type) {
	case VMPLAT_FIELD_STRING:
		set_env(class, f->name, "%s", f->string);
		break;
	case VMPLAT_FIELD_FLAG:
		set_env(class, f->name, "1");
		break;
	case VMPLAT_FIELD_SIGNED:
		set_env(class, f->name, "%" PRId64, f->signed_number);
		break;
	case VMPLAT_FIELD_BYTES:
		for (size_t i = 0; i < f->nr_bytes && i < 32; i++)
			snprintf(text + strlen(text), 4, "%s%02x", i ? ":" : "", f->bytes[i]);
		set_env(class, f->name, "%s", text);
		break;
	default:
		if (f->list)
			set_list(class, f->name, f->number);
		else if (f->word)
			set_env(class, f->name, "%s", f->word);
		else
			set_env(class, f->name, "%" PRIu64, f->number);
	}
}

/* Nothing of an earlier event, nor of who called us, may look like this one's. */
static void clear_env(void)
{
	static const char *const groups[] = { "EVENT_", NULL };
	char name[64];

	for (char **v = environ; *v;) {
		size_t len = strcspn(*v, "=");
		bool ours = !strncmp(*v, "VMPLAT_", 7) && !strncmp(*v + 7, groups[0], 6);

		for (uint32_t c = 1; vmplat_class_name(c) && !ours; c++) {
			size_t n = strlen(vmplat_class_name(c));

			ours = !strncmp(*v, "VMPLAT_", 7) &&
			       !strncasecmp(*v + 7, vmplat_class_name(c), n) && (*v)[7 + n] == '_';
		}
		if (!ours || len >= sizeof(name)) {
			v++;
			continue;
		}
		memcpy(name, *v, len);
		name[len] = '\0';
		unsetenv(name);		/* moves the others up */
	}
}

static void set_event(const struct vmplat_event *e, const char *class, const char *action)
{
	struct vmplat_field f;
	size_t pos = 0;

	clear_env();
	set_env("event", "epoch", "%016" PRIx64, e->epoch);
	set_env("event", "seq", "%" PRIu64, e->seq);
	set_env("event", "class", "%s", class);
	set_env("event", "action", "%s", action);
	set_env("event", "id", "%" PRIu64, e->id);
	set_env("event", "born", "%" PRIu64, e->born);
	set_env("event", "time-ns", "%" PRIu64, e->time_ns);
	set_env("event", "gone", "%d", e->gone);
	if (e->pid) {
		set_env("event", "pid", "%u", e->pid);
		set_env("event", "comm", "%s", e->comm);
	}
	if (e->has_owner)
		set_env("event", "owner", "%u", e->owner);
	while (vmplat_event_field(e, &pos, &f))
		set_field(class, &f);
}

static void run_hook(const char *command, const struct vmplat_event *e)
{
	const char *action = e->kind == VMPLAT_EVENT_PRESENT ? "present" :
			     vmplat_action_name(e->action);
	const char *class = vmplat_class_name(e->class_);
	char id[24];
	char *argv[] = { (char *)command, (char *)(class ? class : "unknown"),
			 (char *)(action ? action : "unknown"), id, NULL };
	posix_spawnattr_t attr;
	sigset_t none, ours;
	int rc, status;
	pid_t pid;

	/* Signals that we hold back are for the hook what they are for any program. */
	sigemptyset(&none);
	sigemptyset(&ours);
	sigaddset(&ours, SIGINT);
	sigaddset(&ours, SIGTERM);
	posix_spawnattr_init(&attr);
	posix_spawnattr_setflags(&attr, POSIX_SPAWN_SETSIGMASK | POSIX_SPAWN_SETSIGDEF);
	posix_spawnattr_setsigmask(&attr, &none);
	posix_spawnattr_setsigdefault(&attr, &ours);
	snprintf(id, sizeof(id), "%" PRIu64, e->id);
	set_event(e, argv[1], argv[2]);
	fflush(stdout);
	rc = posix_spawnp(&pid, command, NULL, &attr, argv, environ);
	posix_spawnattr_destroy(&attr);
	if (rc) {
		cli_warn("event %" PRIu64 ": cannot run %s: %s", e->seq, command, strerror(rc));
		return;
	}
	while (waitpid(pid, &status, 0) < 0 && errno == EINTR)
		;
	if (WIFSIGNALED(status))
		cli_warn("event %" PRIu64 ": %s was ended by signal %d", e->seq, command,
			 WTERMSIG(status));
	else if (WEXITSTATUS(status))
		cli_warn("event %" PRIu64 ": %s ended with status %d", e->seq, command,
			 WEXITSTATUS(status));
}

/* ---- positions ------------------------------------------------------------------- */

static int load_position(const char *path, struct vmplat_event_position *pos)
{
	FILE *f = fopen(path, "re");
	int n;

	*pos = (struct vmplat_event_position) { 0 };
	if (!f && errno == ENOENT)
		return CLI_OK;
	if (!f)
		return cli_fail("cannot read %s: %s", path, strerror(errno));
	n = fscanf(f, "%" SCNx64 " %" SCNu64, &pos->epoch, &pos->seq);
	fclose(f);
	if (n != 2)
		return cli_fail("%s has no position in it; remove it to begin anew", path);
	return CLI_OK;
}

/* The old position or the new one, never half of it. */
static int save_position(const char *path, struct vmplat_event_position pos)
{
	char *tmp = NULL;
	FILE *f = NULL;
	int rc = CLI_FAILED;

	if (asprintf(&tmp, "%s.new", path) < 0)
		return cli_fail("out of memory");
	f = fopen(tmp, "we");
	if (f && fprintf(f, "%016" PRIx64 " %" PRIu64 "\n", pos.epoch, pos.seq) > 0 &&
	    !fflush(f) && !fsync(fileno(f)) && !rename(tmp, path))
		rc = CLI_OK;
	else
		cli_fail("cannot keep the position in %s: %s", path, strerror(errno));
	if (f)
		fclose(f);
	free(tmp);
	return rc;
}

/* ---- reading ---------------------------------------------------------------------- */

static void print_event(const struct reader *r, const struct vmplat_event *e)
{
	if (r->opts->json)
		print_json(e);
	else if (e->kind == VMPLAT_EVENT_RESET)
		printf("%sreset%s: all objects follow\n", cli_style(stdout, CLI_BOLD),
		       cli_style(stdout, CLI_PLAIN));
	else if (e->kind == VMPLAT_EVENT_SYNC)
		printf("%ssync%s: these were all\n", cli_style(stdout, CLI_BOLD),
		       cli_style(stdout, CLI_PLAIN));
	else if (e->kind == VMPLAT_EVENT_DOWN)
		printf("%sdown%s: the module was unloaded\n", cli_style(stdout, CLI_RED),
		       cli_style(stdout, CLI_PLAIN));
	else
		print_text(r, e);
}

static int on_event(const struct vmplat_event *e, void *data)
{
	struct reader *r = data;
	bool object = e->kind == VMPLAT_EVENT_CHANGED || e->kind == VMPLAT_EVENT_PRESENT;

	if (r->opts->exec && object)
		run_hook(r->opts->exec, e);
	else if (!r->opts->exec)
		print_event(r, e);
	if (e->kind == VMPLAT_EVENT_CHANGED)
		r->nr_events++;
	return r->opts->count && r->nr_events == r->opts->count;
}

static volatile sig_atomic_t stopped;

static void stop(int sig)
{
	stopped = 1;
}

static void wait_readable(int fd, const sigset_t *unblocked)
{
	struct pollfd p = { .fd = fd, .events = POLLIN };

	ppoll(&p, 1, NULL, unblocked);
}

static int follow(struct reader *r)
{
	struct sigaction sa = { .sa_handler = stop };
	sigset_t block, old;
	int n, rc = CLI_OK;

	sigemptyset(&block);
	sigaddset(&block, SIGINT);
	sigaddset(&block, SIGTERM);
	sigprocmask(SIG_BLOCK, &block, &old);
	sigaction(SIGINT, &sa, NULL);
	sigaction(SIGTERM, &sa, NULL);
	while (!stopped && !rc) {
		n = vmplat_events_read(r->events, on_event, r);
		if (n < 0)
			return cli_fail_lib("events");
		if (fflush(stdout))
			return cli_fail("cannot write to standard output: %s", strerror(errno));
		if (r->opts->resume)
			rc = save_position(r->opts->resume, vmplat_events_position(r->events));
		if (r->opts->count && r->nr_events == r->opts->count)
			return rc;
		if (!rc)
			wait_readable(vmplat_events_fd(r->events), &old);
	}
	return rc;
}

/* ---- state -------------------------------------------------------------------------- */

struct object {
	struct vmplat_event event;
	char *bytes;
};

struct table {
	struct object *objects;
	size_t nr;
	bool synced;
};

static size_t find(const struct table *t, const struct vmplat_event *e)
{
	size_t i;

	for (i = 0; i < t->nr; i++)
		if (t->objects[i].event.class_ == e->class_ && t->objects[i].event.id == e->id)
			break;
	return i;
}

static void forget(struct table *t, size_t i)
{
	free(t->objects[i].bytes);
	t->nr--;
	memmove(&t->objects[i], &t->objects[i + 1], (t->nr - i) * sizeof(*t->objects));
}

static void keep(struct table *t, const struct vmplat_event *e)
{
	struct object *o;

	t->objects = realloc(t->objects, (t->nr + 1) * sizeof(*t->objects));
	if (!t->objects)
		abort();
	o = &t->objects[t->nr++];
	*o = (struct object) { .event = *e, .bytes = malloc(e->object_bytes + 1) };
	if (!o->bytes)
		abort();
	memcpy(o->bytes, e->object, e->object_bytes);
	o->event.object = o->bytes;
	o->event.kind = VMPLAT_EVENT_PRESENT;
	o->event.action = 0;
	o->event.time_ns = 0;
	o->event.pid = 0;
	o->event.comm = "";
}

static int on_state(const struct vmplat_event *e, void *data)
{
	struct table *t = data;
	size_t i;

	switch (e->kind) {
	case VMPLAT_EVENT_RESET:
		while (t->nr)
			forget(t, t->nr - 1);
		return 0;
	case VMPLAT_EVENT_SYNC:
		t->synced = true;
		return 1;
	case VMPLAT_EVENT_DOWN:
		return 1;
	default:
		i = find(t, e);
		if (i < t->nr)
			forget(t, i);
		if (!e->gone)
			keep(t, e);
		return 0;
	}
}

static int by_class_and_id(const void *a, const void *b)
{
	const struct vmplat_event *x = &((const struct object *)a)->event;
	const struct vmplat_event *y = &((const struct object *)b)->event;

	if (x->class_ != y->class_)
		return x->class_ < y->class_ ? -1 : 1;
	return x->id < y->id ? -1 : x->id > y->id;
}

static int show_state(struct reader *r)
{
	struct table t = { 0 };
	int n = vmplat_events_read(r->events, on_state, &t);

	if (n < 0)
		return cli_fail_lib("events");
	if (!t.synced)
		return cli_fail("the module was unloaded meanwhile");
	if (t.nr)
		qsort(t.objects, t.nr, sizeof(*t.objects), by_class_and_id);
	for (size_t i = 0; i < t.nr; i++)
		print_event(r, &t.objects[i].event);
	while (t.nr)
		forget(&t, t.nr - 1);
	free(t.objects);
	return fflush(stdout) ? cli_fail("cannot write to standard output: %s", strerror(errno)) :
	       CLI_OK;
}

/* ---- command line --------------------------------------------------------------------- */

static int parse_classes(const char *text, uint32_t *classes)
{
	char *copy = strdup(text), *save = NULL;
	int rc = CLI_OK;

	if (!copy)
		return cli_fail("out of memory");
	*classes = 0;
	for (char *w = strtok_r(copy, ",", &save); w && !rc; w = strtok_r(NULL, ",", &save)) {
		uint32_t class = vmplat_class_of(w);

		if (class)
			*classes |= 1u << class;
		else
			rc = cli_usage("events", "--class: there is no class '%s'", w);
	}
	if (!rc && !*classes)
		rc = cli_usage("events", "--class: no class is named");
	free(copy);
	return rc;
}

/*
 * The device only where it is needed: it would keep the module from being unloaded.
 * Who may not open it sees the hardware, unless VMs were asked for by name.
 */
static int open_events(struct reader *r, const struct vmplat_event_position *from,
		       uint32_t flags)
{
	struct vmplat_event_filter filter = r->opts->filter;
	int rc;

	if (!filter.classes)
		filter.classes = (2u << VMPLAT_CLASS_MAX) - 2;
	rc = vmplat_events_open(&r->events, r->dev, &filter, from, flags);
	if (rc != -EPERM)
		return rc;
	if (!r->dev && !vmplat_open(&r->dev, NULL))
		return vmplat_events_open(&r->events, r->dev, &filter, from, flags);
	return vmplat_events_open(&r->events, NULL, &r->opts->filter, from, flags);
}

static int open_at(struct reader *r)
{
	const struct options *o = r->opts;
	struct vmplat_event_position pos = { 0 };
	int rc;

	if (o->resume && load_position(o->resume, &pos))
		return CLI_FAILED;
	rc = open_events(r, o->resume ? &pos : NULL,
			 o->state || o->resume ? 0 : VMPLAT_EVENTS_F_NEW);
	if (rc || !o->has_since)
		return rc ? cli_fail_lib("events") : CLI_OK;
	pos = vmplat_events_position(r->events);
	if (o->since > pos.seq)
		return cli_fail("--since %" PRIu64 ": the latest event is %" PRIu64, o->since,
				pos.seq);
	pos.seq = o->since;
	vmplat_events_close(r->events);
	r->events = NULL;
	rc = open_events(r, &pos, 0);
	return rc ? cli_fail_lib("events") : CLI_OK;
}

static int run(const struct options *opts)
{
	struct reader r = { .opts = opts };
	int rc;

	r.to_wall_ns = (int64_t)(vmplat_clock_now(CLOCK_REALTIME) - vmplat_clock_now(CLOCK_BOOTTIME));
	rc = open_at(&r);
	if (!rc)
		rc = opts->state ? show_state(&r) : follow(&r);
	vmplat_events_close(r.events);
	vmplat_close(r.dev);
	return rc;
}

static int parse(int argc, char **argv, struct options *o)
{
	enum { SINCE = 256, RESUME, STATE, CLASS, ID, OWNER, COUNT, EXEC };
	static const struct option options[] = {
		{ "since", required_argument, NULL, SINCE },
		{ "resume", required_argument, NULL, RESUME },
		{ "state", no_argument, NULL, STATE },
		{ "class", required_argument, NULL, CLASS },
		{ "id", required_argument, NULL, ID },
		{ "owner", required_argument, NULL, OWNER },
		{ "count", required_argument, NULL, COUNT },
		{ "exec", required_argument, NULL, EXEC },
		{ "json", no_argument, NULL, 'j' },
		{ }
	};
	uint64_t number;
	int opt, rc = 0;

	opterr = 0;
	while (!rc && (opt = getopt_long(argc, argv, ":", options, NULL)) != -1) {
		switch (opt) {
		case SINCE:
			o->has_since = true;
			rc = cli_parse_u64("events", "--since", optarg, 0, UINT64_MAX, &o->since);
			break;
		case RESUME:
			o->resume = optarg;
			break;
		case STATE:
			o->state = true;
			break;
		case CLASS:
			rc = parse_classes(optarg, &o->filter.classes);
			break;
		case ID:
			o->filter.by_id = true;
			rc = cli_parse_u64("events", "--id", optarg, 0, UINT64_MAX, &o->filter.id);
			break;
		case OWNER:
			o->filter.by_owner = true;
			rc = cli_parse_u64("events", "--owner", optarg, 0, UINT32_MAX - 1, &number);
			o->filter.owner = rc ? 0 : number;
			break;
		case COUNT:
			rc = cli_parse_u64("events", "--count", optarg, 1, UINT64_MAX, &o->count);
			break;
		case EXEC:
			o->exec = optarg;
			break;
		case 'j':
			o->json = true;
			break;
		default:
			rc = cli_bad_option("events", opt, argv);
		}
	}
	return rc;
}

int cmd_events(int argc, char **argv)
{
	struct options opts = { 0 };
	int rc;

	for (int i = 1; i < argc; i++)
		if (!strcmp(argv[i], "-h") || !strcmp(argv[i], "--help"))
			return cli_help(help);
	rc = parse(argc, argv, &opts);
	if (rc)
		return rc;
	if (optind < argc)
		return cli_usage("events", "'%s' is not understood", argv[optind]);
	if (opts.state && (opts.has_since || opts.resume || opts.count || opts.exec))
		return cli_usage("events", "--state ends at once: it goes with --class, --id, --owner and --json alone");
	if (opts.has_since && opts.resume)
		return cli_usage("events", "--since and --resume both say where to begin");
	if (opts.exec && opts.json)
		return cli_usage("events", "--exec prints nothing: --json does not go with it");
	return run(&opts);
}
