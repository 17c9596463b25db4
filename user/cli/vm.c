// SPDX-License-Identifier: GPL-2.0-only
/* vmplat vm: what runs, and what to do with it. */
#include <errno.h>
#include <getopt.h>
#include <json-c/json.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>
#include <unistd.h>

#include "cli.h"
#include "run/client.h"
#include "run/cpus.h"
#include "run/life.h"

static const char intro[] =
"usage: vmplat vm COMMAND [NAME]\n"
"\n"
"Guests started by `vmplat run`, `vmplat restore` and `vmplat vm start`. NAME may be\n"
"left out while only one runs.\n";

#define JSON_OPTION	{ "json", no_argument, NULL, 'j' }
#define HELP_OPTION	{ "help", no_argument, NULL, 'h' }

/* ---- finding one ------------------------------------------------------------ */

struct only {
	char name[64];
	unsigned int nr;
};

static int count(void *ctx, const char *name)
{
	struct only *o = ctx;
	struct vm_client *c;

	if (vm_client_open(&c, name))
		return 0;
	vm_client_close(c);
	if (!o->nr++)
		snprintf(o->name, sizeof(o->name), "%s", name);
	return 0;
}

/* the name of the VM that is meant */
static int find(const char *verb, int argc, char **argv, struct only *o)
{
	if (argc - optind > 1)
		return cli_usage(verb, "'%s' is one word too many", argv[optind + 1]);
	if (argc - optind == 1) {
		snprintf(o->name, sizeof(o->name), "%s", argv[optind]);
		return CLI_OK;
	}
	vm_client_list(count, o);
	if (o->nr == 1)
		return CLI_OK;
	return cli_usage(verb, o->nr ? "which VM? %u are running; `vmplat vm list` names them"
				     : "no VM is running (%u)", o->nr);
}

static int call(struct vm_client *c, const char *cmd, struct json_object **reply)
{
	struct json_object *req = json_object_new_object();
	int ret;

	json_object_object_add(req, "cmd", json_object_new_string(cmd));
	ret = vm_client_call(c, req, NULL, 0, reply, NULL, NULL);
	json_object_put(req);
	return ret ? cli_fail("%s", vm_client_error()) : CLI_OK;
}

static const char *text(struct json_object *o, const char *key)
{
	struct json_object *v;

	return json_object_object_get_ex(o, key, &v) && v ? json_object_get_string(v) : "-";
}

static uint64_t number(struct json_object *o, const char *key)
{
	struct json_object *v;

	return json_object_object_get_ex(o, key, &v) ? (uint64_t)json_object_get_int64(v) : 0;
}

/* ---- list -------------------------------------------------------------------- */

static int ask_status(const char *name, struct json_object **reply)
{
	struct json_object *req = json_object_new_object();
	struct vm_client *c;
	int ret;

	ret = vm_client_open(&c, name);
	if (!ret) {
		json_object_object_add(req, "cmd", json_object_new_string("status"));
		ret = vm_client_call(c, req, NULL, 0, reply, NULL, NULL);
		vm_client_close(c);
	}
	json_object_put(req);
	if (!ret)
		json_object_object_del(*reply, "ok");
	return ret;
}

/* as the VM itself would answer, if it could */
static struct json_object *from_record(struct json_object *record)
{
	static const char *const keys[] = {
		"state", "reason", "since", "pid", "engine", "latest", "history",
	};
	struct json_object *o = NULL, *v;

	if (json_object_object_get_ex(record, "config", &v) &&
	    json_object_is_type(v, json_type_object))
		o = json_object_get(v);
	else
		o = json_object_new_object();
	for (size_t i = 0; i < sizeof(keys) / sizeof(keys[0]); i++)
		if (json_object_object_get_ex(record, keys[i], &v))
			json_object_object_add(o, keys[i], json_object_get(v));
	json_object_put(record);
	return o;
}

static int status_of(void *ctx, const char *name)
{
	struct json_object *all = ctx, *reply, *record;
	int ret = ask_status(name, &reply);

	if (ret) {
		record = vm_client_record(name);
		reply = record ? from_record(record) : json_object_new_object();
	}
	if (ret && !record) {
		json_object_object_add(reply, "name", json_object_new_string(name));
		json_object_object_add(reply, "state", json_object_new_string(
			ret == -ECONNREFUSED ? "dead" : ret == -EACCES ? "not yours" : "no answer"));
	}
	json_object_array_add(all, reply);
	return 0;
}

/* "kvm", or "qemu/tcg riscv64" */
static const char *engine_of(struct json_object *o, char *buf, size_t room)
{
	if (strcmp(text(o, "engine"), "qemu"))
		snprintf(buf, room, "%s", text(o, "engine"));
	else
		snprintf(buf, room, "qemu/%s %s", text(o, "accel"), text(o, "arch"));
	return buf;
}

/* below the table: why those that are not there any more are not */
static void show_reasons(struct json_object *all)
{
	for (size_t i = 0; i < json_object_array_length(all); i++) {
		struct json_object *o = json_object_array_get_idx(all, i);

		if (json_object_object_get_ex(o, "reason", NULL))
			printf("%s: %s: %s\n", text(o, "name"), text(o, "state"), text(o, "reason"));
	}
}

static void show_list(struct json_object *all)
{
	static const char *const heads[] = {
		"NAME", "STATE", "PID", "CPUS", "MEMORY", "ENGINE", "BOOTS", NULL
	};
	struct cli_table *t = cli_table_new("<<>>><<", heads);

	for (size_t i = 0; i < json_object_array_length(all); i++) {
		struct json_object *o = json_object_array_get_idx(all, i);
		char size[CLI_NUM_LEN], engine[60];
		uint64_t mem = number(o, "memory");

		cli_cell(t, "%s", text(o, "name"));
		cli_cell(t, "%s", text(o, "state"));
		cli_cell(t, "%s", text(o, "pid"));
		cli_cell(t, "%s", text(o, "cpus"));
		cli_cell(t, "%s", mem ? cli_show_bytes(mem, size) : "-");
		cli_cell(t, "%s", engine_of(o, engine, sizeof(engine)));
		cli_cell(t, "%s", text(o, *text(o, "kernel") == '-' ? "firmware" : "kernel"));
	}
	cli_table_print(t);
	show_reasons(all);
}

static int vm_list(int argc, char **argv)
{
	static const struct option options[] = { JSON_OPTION, HELP_OPTION, { } };
	struct json_object *all;
	bool json = false;
	int opt, ret;

	opterr = 0;
	while ((opt = getopt_long(argc, argv, "h", options, NULL)) != -1) {
		if (opt == 'h')
			return cli_help("usage: vmplat vm list [--json]\n\nEvery VM of the directory of control sockets; those that were defined, have stopped\nor failed as well, until they are forgotten, with the reason.\n");
		if (opt != 'j')
			return cli_bad_option("vm list", opt, argv);
		json = true;
	}
	if (optind < argc)
		return cli_usage("vm list", "'%s' is one word too many", argv[optind]);
	all = json_object_new_array();
	ret = vm_client_list(status_of, all);
	if (ret) {
		json_object_put(all);
		return cli_fail("%s", vm_client_error());
	}
	if (json)
		return cli_json(all);
	show_list(all);
	json_object_put(all);
	return CLI_OK;
}

/* ---- one VM ------------------------------------------------------------------ */

static void show_disk(struct json_object *d)
{
	printf("%-9s %s%s\n", text(d, "name"), text(d, "path"),
	       !strcmp(text(d, "readonly"), "true") ? " (read-only)" : "");
}

static void show_net(struct json_object *n)
{
	const char *where = text(n, "where");

	printf("%-9s %s%s%s, %s\n", text(n, "name"), text(n, "kind"), *where == '-' ? "" : " ",
	       *where == '-' ? "" : where, text(n, "mac"));
}

static void show_hostdev(struct json_object *d)
{
	printf("%-9s %s of the host\n", text(d, "name"), text(d, "host"));
}

static void show_dimm(struct json_object *d)
{
	char size[CLI_NUM_LEN];

	printf("%-9s memory, %s\n", text(d, "name"), cli_show_bytes(number(d, "bytes"), size));
}

static void show_each(struct json_object *o, const char *key, void (*show)(struct json_object *o))
{
	struct json_object *list;

	if (json_object_object_get_ex(o, key, &list))
		for (size_t i = 0; i < json_object_array_length(list); i++)
			show(json_object_array_get_idx(list, i));
}

static void show_initrd(struct json_object *o)
{
	printf("initrd    %s\n", json_object_get_string(o));
}

static void show_if(struct json_object *o, const char *title, const char *key)
{
	if (json_object_object_get_ex(o, key, NULL))
		printf("%-9s %s\n", title, text(o, key));
}

static void show_transition(struct json_object *o)
{
	time_t at = (time_t)(number(o, "at") / 1000000000);
	char when[40];

	strftime(when, sizeof(when), "%F %T", localtime(&at));
	printf("%-9s %s\n", when, text(o, "state"));
}

static void show_vcpu(struct json_object *o)
{
	char run[CLI_NUM_LEN], wait[CLI_NUM_LEN];

	printf("vcpu      on CPU %s of %s; ran %s, waited %s for it; thread %s\n", text(o, "cpu"),
	       text(o, "allowed"), cli_show_ns(number(o, "run_ns"), run),
	       cli_show_ns(number(o, "wait_ns"), wait), text(o, "tid"));
}

/* what a record has, and a VM that answers has not */
static void show_end(struct json_object *o)
{
	struct json_object *latest;

	show_if(o, "reason", "reason");
	if (json_object_object_get_ex(o, "latest", &latest))
		printf("%-9s %s\n", "latest", text(latest, "name"));
	show_each(o, "history", show_transition);
}

static void show_one(struct json_object *o)
{
	char size[CLI_NUM_LEN], engine[60];

	printf("name      %s\nstate     %s\npid       %s\n", text(o, "name"), text(o, "state"),
	       text(o, "pid"));
	show_end(o);
	printf("engine    %s\ncpus      %s\nmemory    %s\n",
	       engine_of(o, engine, sizeof(engine)), text(o, "cpus"),
	       cli_show_bytes(number(o, "memory"), size));
	show_each(o, "vcpus", show_vcpu);
	show_if(o, "firmware", "firmware");
	show_if(o, "efi-vars", "efi_vars");
	show_if(o, "kernel", "kernel");
	show_each(o, "initrds", show_initrd);
	show_if(o, "cmdline", "cmdline");
	show_each(o, "disks", show_disk);
	show_each(o, "nets", show_net);
	show_each(o, "devices", show_hostdev);
	show_each(o, "dimms", show_dimm);
	if (!strcmp(text(o, "snapshots"), "false"))
		printf("snapshots no: memory is %s\n", !strcmp(text(o, "pinnable"), "true") ?
		       "for devices (pinnable)" : "a memfd");
	else if (json_object_object_get_ex(o, "snapshots", NULL))
		printf("base      %s\ndirty     %s\n", text(o, "base"),
		       cli_show_bytes(number(o, "dirty_pages") * 4096, size));
}

/* SIGTERM's way: the reply, then the end; wait for it */
static void wait_gone(struct vm_client *c)
{
	struct json_object *msg;

	while (!vm_client_recv(c, &msg, NULL, NULL, 30000))
		json_object_put(msg);
}

/* every vCPU, a paragraph each */
static void show_cpus(struct json_object *reply)
{
	struct json_object *list = json_object_object_get(reply, "cpus");

	for (size_t i = 0; i < json_object_array_length(list); i++)
		cpus_print(stdout, json_object_array_get_idx(list, i), "\n");
}

struct verb {
	const char *name;
	enum vm_command cmd;
	const char *help;
	void (*show)(struct json_object *reply);
	bool wait;
};

static const struct verb verbs[] = {
	{ "show", VM_CMD_STATUS,
	  "usage: vmplat vm show [NAME] [--json]\n\nWhat the VM is made of, and its state. Of one that nobody runs: what became of it, its\nlatest snapshot, and the states it went through.\n", show_one },
	{ "cpus", VM_CMD_CPUS,
	  "usage: vmplat vm cpus [NAME] [--json]\n\nWhat each vCPU is doing: registers, the code it is at, and which interrupts its local\nAPIC has in service and waiting. For a guest that does not go on: look twice. It goes\non where it was.\n", show_cpus },
	{ "pause", VM_CMD_PAUSE,
	  "usage: vmplat vm pause [NAME]\n\nHalt CPUs and devices; the guest does not see the time pass.\n" },
	{ "resume", VM_CMD_RESUME,
	  "usage: vmplat vm resume [NAME]\n\nLet a paused VM go on.\n" },
	{ "reset", VM_CMD_RESET,
	  "usage: vmplat vm reset [NAME]\n\nAs the reset button: boots the kernel again. What the guest did not write to its\ndisks is lost.\n" },
	{ "stop", VM_CMD_STOP,
	  "usage: vmplat vm stop [NAME] [--guest]\n\nEnd the VM at once, as pulling the plug does. With --guest press its power\nbutton instead and let it shut down.\n", .wait = true },
};

static int show(const char *name, struct json_object **reply)
{
	struct json_object *record;
	int ret = ask_status(name, reply);
	char why[VMPLAT_ERROR_TEXT];

	if (!ret)
		return CLI_OK;
	snprintf(why, sizeof(why), "%s", vm_client_error());
	record = vm_client_record(name);
	if (!record)
		return cli_fail("%s", why);
	*reply = from_record(record);
	return CLI_OK;
}

static int tell(const struct verb *v, const char *name, enum vm_command cmd,
		struct json_object **reply)
{
	struct vm_client *c;
	int ret;

	if (vm_client_open(&c, name))
		return cli_fail("cannot %s: %s", v->name, vm_client_error());
	ret = call(c, vm_command_name(cmd), reply);
	if (!ret && v->wait && cmd == v->cmd)
		wait_gone(c);
	vm_client_close(c);
	return ret;
}

static int run_verb(const struct verb *v, int argc, char **argv)
{
	static const struct option options[] = {
		JSON_OPTION, HELP_OPTION, { "guest", no_argument, NULL, 'g' }, { }
	};
	bool json = false, guest = false;
	struct only o = { .nr = 0 };
	struct json_object *reply;
	char name[24];
	int opt, ret;

	snprintf(name, sizeof(name), "vm %s", v->name);
	opterr = 0;
	while ((opt = getopt_long(argc, argv, "h", options, NULL)) != -1) {
		if (opt == 'h')
			return cli_help(v->help);
		if (opt == 'j')
			json = true;
		else if (opt == 'g' && v->wait)
			guest = true;
		else
			return cli_bad_option(name, opt, argv);
	}
	ret = find(name, argc, argv, &o);
	if (ret)
		return ret;
	ret = v->cmd == VM_CMD_STATUS ? show(o.name, &reply)
				       : tell(v, o.name, guest ? VM_CMD_POWERDOWN : v->cmd, &reply);
	if (ret)
		return ret;
	if (json)
		return cli_json(reply);
	if (v->show)
		v->show(reply);
	json_object_put(reply);
	return CLI_OK;
}

static int by_name(int argc, char **argv)
{
	for (size_t i = 0; i < sizeof(verbs) / sizeof(verbs[0]); i++)
		if (!strcmp(argv[0], verbs[i].name))
			return run_verb(&verbs[i], argc, argv);
	return CLI_USAGE;
}

int cmd_snapshot(int argc, char **argv);	/* snapshot.c */
int cmd_vm_device(int argc, char **argv);	/* device.c */
int cmd_vm_define(int argc, char **argv);	/* run.c */
int cmd_vm_start(int argc, char **argv);	/* start.c */
int cmd_vm_forget(int argc, char **argv);	/* start.c */

static const struct cli_command table[] = {
	{ "list",	"every VM and its state",			vm_list },
	{ "show",	"one VM in detail",				by_name },
	{ "cpus",	"what its CPUs are doing",			by_name },
	{ "pause",	"halt it",					by_name },
	{ "resume",	"let it go on",					by_name },
	{ "reset",	"boot it again",				by_name },
	{ "stop",	"end it",					by_name },
	{ "define",	"keep what a VM is made of, to be started",	cmd_vm_define },
	{ "start",	"boot one that is defined, stopped or failed",	cmd_vm_start },
	{ "forget",	"remove one that nobody runs from the list",	cmd_vm_forget },
	{ "device",	"plug disks, networks, memory, PCI devices",	cmd_vm_device },
	{ "snapshot",	"store its memory, state and disks while it runs", cmd_snapshot },
	{ }
};

int cmd_vm(int argc, char **argv)
{
	return cli_dispatch("vmplat vm", intro, table, argc, argv);
}
