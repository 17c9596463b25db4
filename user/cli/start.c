// SPDX-License-Identifier: GPL-2.0-only
/* vmplat vm start, vmplat vm forget: what is done with a VM that nobody runs. */
#include <getopt.h>
#include <json-c/json.h>
#include <stdio.h>
#include <string.h>

#include "cli.h"
#include "run/client.h"
#include "run/config.h"
#include "run/record.h"
#include "run/serve.h"

int cmd_vm_start(int argc, char **argv);
int cmd_vm_forget(int argc, char **argv);

static const char start_help[] =
"usage: vmplat vm start NAME [--paused] [--console WHERE]\n"
"\n"
"Boot a VM that is defined, has stopped or failed, in the background, as it was\n"
"defined or started first: its disks are as they were left, what was plugged later\n"
"is not there. `vmplat restore` goes on from a snapshot instead.\n"
"\n"
"      --paused         do not let it run yet\n"
"      --console WHERE  none, or a file to append to, instead of what it had\n";

static const char forget_help[] =
"usage: vmplat vm forget NAME\n"
"\n"
"Remove a VM that is defined, has stopped or failed from `vmplat vm list`. Its disks,\n"
"snapshots and the console's file stay.\n";

/* 0 with the record of a VM for which @cmd makes sense, or a status after saying why not */
static int find(const char *name, enum vm_command cmd, struct json_object **record)
{
	char text[VM_REFUSAL_TEXT];
	struct vmplat_error missing;
	struct vm_client *c;
	const char *why;

	/* A VM that answers says itself what it thinks of that. */
	*record = NULL;
	if (!vm_client_open(&c, name)) {
		struct json_object *req = json_object_new_object(), *reply = NULL;

		json_object_object_add(req, "cmd", json_object_new_string(vm_command_name(cmd)));
		vm_client_call(c, req, NULL, 0, &reply, NULL, NULL);
		json_object_put(req);
		json_object_put(reply);
		vm_client_close(c);
		return cli_fail("%s", vm_client_error());
	}
	vmplat_error_get(&missing);
	*record = vm_client_record(name);
	if (!*record) {
		vmplat_error_put(&missing);	/* of the two sentences the better one */
		return CLI_OK;
	}
	why = vm_refusal(record_status(*record), cmd, text);
	if (!why)
		return CLI_OK;
	json_object_put(*record);
	return cli_fail("VM '%s': %s", name, why);
}

struct start_args {
	const char *name, *console;
	bool paused, help;
};

static int parse_start(struct start_args *a, int argc, char **argv)
{
	static const struct option options[] = {
		{ "paused", no_argument, NULL, 'p' },
		{ "console", required_argument, NULL, 'c' },
		{ "help", no_argument, NULL, 'h' },
		{ }
	};
	int opt;

	opterr = 0;
	while ((opt = getopt_long(argc, argv, ":h", options, NULL)) != -1) {
		if (opt == 'p')
			a->paused = true;
		else if (opt == 'c')
			a->console = optarg;
		else if (opt == 'h')
			a->help = true;
		else
			return cli_bad_option("vm start", opt, argv);
	}
	if (a->help)
		return CLI_OK;
	if (argc - optind != 1)
		return cli_usage("vm start", "it takes the name of one VM; `vmplat vm list` names them");
	a->name = argv[optind];
	if (a->console && !strcmp(a->console, "stdio"))
		return cli_usage("vm start", "it starts in the background: give --console a file, or none");
	return CLI_OK;
}

/* As it was told, as it was before, or a file beside the socket. */
static const char *console_of(const struct start_args *a, struct json_object *record, char *file,
			      size_t bytes)
{
	struct json_object *v;
	const char *was = NULL;

	if (a->console)
		return a->console;
	if (json_object_object_get_ex(record, "console", &v))
		was = json_object_get_string(v);
	if (was && strcmp(was, "stdio"))
		return was;
	snprintf(file, bytes, "%s/%s.log", vm_run_dir(), a->name);
	return file;
}

static int start(const struct start_args *a, struct json_object *record)
{
	struct serve_opts o = { .detach = true, .paused = a->paused };
	char file[200], err[600] = "";
	struct vm_config cfg;

	if (record_config(record, &cfg))
		return cli_fail("VM '%s': %s", a->name, vmplat_last_error());
	o.console = console_of(a, record, file, sizeof(file));
	cli_note("VM '%s' starts in the background, console in %s", a->name, o.console);
	return serve_vm(&cfg, &o, err, sizeof(err)) ? cli_fail("%s", err) : CLI_OK;
}

int cmd_vm_start(int argc, char **argv)
{
	struct start_args a = { .name = NULL };
	struct json_object *record;
	int rc = parse_start(&a, argc, argv);

	if (rc || a.help)
		return rc ? rc : cli_help(start_help);
	rc = find(a.name, VM_CMD_START, &record);
	if (rc)
		return rc;
	rc = record ? start(&a, record) : cli_fail("%s", vm_client_error());
	json_object_put(record);
	return rc;
}

int cmd_vm_forget(int argc, char **argv)
{
	static const struct option options[] = { { "help", no_argument, NULL, 'h' }, { } };
	struct json_object *record;
	int opt, rc;

	opterr = 0;
	while ((opt = getopt_long(argc, argv, "h", options, NULL)) != -1)
		return opt == 'h' ? cli_help(forget_help) : cli_bad_option("vm forget", opt, argv);
	if (argc - optind != 1)
		return cli_usage("vm forget", "it takes the name of one VM; `vmplat vm list` names them");
	if (vm_check_name(argv[optind]))
		return cli_usage("vm forget", "%s", vm_check_name(argv[optind]));
	rc = find(argv[optind], VM_CMD_FORGET, &record);
	json_object_put(record);
	if (rc)
		return rc;
	/* also what is damaged, or left of a VM that kept no record */
	return record_forget(vm_run_dir(), argv[optind]) ? cli_fail("%s", vmplat_last_error()) : CLI_OK;
}
