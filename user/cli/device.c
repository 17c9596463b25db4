// SPDX-License-Identifier: GPL-2.0-only
/* vmplat vm device: what is plugged into a running VM, and plugging it. */
#include <errno.h>
#include <getopt.h>
#include <json-c/json.h>
#include <limits.h>
#include <stdlib.h>
#include <string.h>

#include "cli.h"
#include "run/client.h"
#include "run/config.h"

int cmd_vm_device(int argc, char **argv);

static const char intro[] =
"usage: vmplat vm device COMMAND VM ...\n"
"\n"
"Disks, network devices, memory and PCI functions of a running VM. A command waits for the guest:\n"
"what it does not take or give up in time stays as it was.\n";

static const char add_help[] =
"usage: vmplat vm device add VM blk file=FILE[,ro][,id=ID]\n"
"       vmplat vm device add VM net tap=NAME|socket=PATH|passt[,mac=ADDRESS][,id=ID]\n"
"       vmplat vm device add VM memory size=SIZE[,id=ID]\n"
"       vmplat vm device add VM pci host=ADDRESS[#VF][,owner=NAME][,id=ID]\n"
"\n"
"Plug a device into the running VM, and wait until the guest uses it: its driver\n"
"drives the disk or network device, or it has taken the memory in. Otherwise the\n"
"device is taken out again. Adding what is there already, by its ID, does nothing.\n"
"\n"
"  -t, --timeout SECONDS  for the guest, 30 unless given\n"
"      --json             print the device as a JSON object\n"
"\n"
"Memory comes in multiples of 128 MiB. A guest gives it back only if it onlined it\n"
"as movable (memhp_default_state=online_movable on its command line).\n"
"\n"
"pci: a PCI function of the host, or VF number VF of it, that a VFIO driver has\n"
"(vmplat claim add). Its VM was started with --pinnable, or with a --device. NAME is\n"
"whose claim may have it, $VMPLAT_OWNER or root unless given.\n";

static const char remove_help[] =
"usage: vmplat vm device remove VM ID [OPTION]...\n"
"\n"
"Ask the guest to give the device ID up, and wait until it has ejected it. A disk\n"
"that is mounted goes as if its cable were pulled: unmount it first. Memory that\n"
"the guest cannot empty stays.\n"
"\n"
"  -t, --timeout SECONDS  for the guest, 30 unless given\n"
"      --force            take a PCI function of the host away after that, as if it\n"
"                         were pulled out: what the guest did with it is lost\n"
"      --if-present       no error if there is no such device\n"
"      --json             print what happened as a JSON object\n";

static const char list_help[] =
"usage: vmplat vm device list VM [--json]\n"
"\n"
"What is plugged into the VM, from its start or later.\n";

struct args {
	const char *verb;
	bool json, if_present, force, help;
	uint64_t timeout_ms;
	struct vm_client *vm;
};

enum { OPT_JSON = 256, OPT_IF_PRESENT, OPT_FORCE };

static const struct option options[] = {
	{ "timeout", required_argument, NULL, 't' },
	{ "if-present", no_argument, NULL, OPT_IF_PRESENT },
	{ "force", no_argument, NULL, OPT_FORCE },
	{ "json", no_argument, NULL, OPT_JSON },
	{ "help", no_argument, NULL, 'h' },
	{ }
};

static int parse_timeout(struct args *a, const char *text)
{
	char *end;
	double s = strtod(text, &end);

	if (end == text || *end || !(s >= 0.001 && s <= 24 * 3600))
		return cli_usage(a->verb, "--timeout '%s': seconds, 0.001 to 86400", text);
	a->timeout_ms = (uint64_t)(s * 1000);
	return CLI_OK;
}

static int parse_options(struct args *a, int argc, char **argv)
{
	bool add = !strcmp(a->verb, "vm device add"), remove = !strcmp(a->verb, "vm device remove");
	int opt, rc = CLI_OK;

	opterr = 0;
	while (!rc && !a->help && (opt = getopt_long(argc, argv, "t:h", options, NULL)) != -1) {
		if (opt == 'h')
			a->help = true;
		else if (opt == OPT_JSON)
			a->json = true;
		else if (opt == 't' && (add || remove))
			rc = parse_timeout(a, optarg);
		else if (opt == OPT_IF_PRESENT && remove)
			a->if_present = true;
		else if (opt == OPT_FORCE && remove)
			a->force = true;
		else
			rc = cli_bad_option(a->verb, opt, argv);
	}
	return rc;
}

static int open_vm(struct args *a, const char *name)
{
	return vm_client_open(&a->vm, name) ? cli_fail("%s", vm_client_error()) : CLI_OK;
}

static struct json_object *request(const struct args *a, const char *cmd)
{
	struct json_object *o = json_object_new_object();

	json_object_object_add(o, "cmd", json_object_new_string(cmd));
	if (a->timeout_ms)
		json_object_object_add(o, "timeout_ms", json_object_new_int64((int64_t)a->timeout_ms));
	return o;
}

/* Sends and releases @req. */
static int call(struct args *a, struct json_object *req, struct json_object **reply)
{
	int ret = vm_client_call(a->vm, req, NULL, 0, reply, NULL, NULL);

	json_object_put(req);
	vm_client_close(a->vm);
	a->vm = NULL;
	return ret;
}

static const char *text(struct json_object *o, const char *key)
{
	struct json_object *v;

	return json_object_object_get_ex(o, key, &v) && v ? json_object_get_string(v) : "-";
}

/* ---- add --------------------------------------------------------------------- */

/* The VM looks for files from where it was started, not from here. */
static int absolute(char **path)
{
	char *full = realpath(*path, NULL);

	if (!full)
		return cli_fail("%s: %s", *path, strerror(errno));
	free(*path);
	*path = full;
	return CLI_OK;
}

/* a socket need not be there yet */
static int absolute_socket(char **path)
{
	char *dir, *full = NULL;

	if (**path == '/')
		return CLI_OK;
	dir = realpath(".", NULL);
	if (!dir || asprintf(&full, "%s/%s", dir, *path) < 0) {
		free(dir);
		return cli_fail("the current directory: %s", strerror(errno));
	}
	free(dir);
	free(*path);
	*path = full;
	return CLI_OK;
}

static int wish_blk(struct args *a, const char *word, struct json_object **device)
{
	struct vm_disk d = { 0 };
	const char *why = NULL;
	int rc;

	if (strncmp(word, "file=", 5))
		return cli_usage(a->verb, "blk %s: a disk begins with file=FILE", word);
	why = vm_disk_parse(&d, word + 5);
	rc = why ? cli_usage(a->verb, "blk %s: %s", word, why) : absolute(&d.path);
	if (!rc)
		*device = vm_disk_to_json(&d);
	free(d.path);
	return rc;
}

static int wish_net(struct args *a, const char *word, struct json_object **device)
{
	struct vm_net n = { 0 };
	const char *why = vm_net_parse(&n, word);
	int rc = why ? cli_usage(a->verb, "net %s: %s", word, why) : CLI_OK;

	if (!rc && n.kind == VM_NET_SOCKET)
		rc = absolute_socket(&n.where);
	if (!rc)
		*device = vm_net_to_json(&n);
	free(n.where);
	return rc;
}

static int wish_memory(struct args *a, const char *word, struct json_object **device)
{
	struct vm_dimm d = { 0 };
	const char *comma = strchr(word, ',');
	char *size;
	int rc;

	if (strncmp(word, "size=", 5))
		return cli_usage(a->verb, "memory %s: begins with size=SIZE", word);
	if (comma && (strncmp(comma, ",id=", 4) || !comma[4] || strlen(comma + 4) > VM_ID_MAX))
		return cli_usage(a->verb, "memory %s: behind the size comes nothing but ,id=ID of 1 to %d characters",
				 word, VM_ID_MAX);
	if (comma)
		strcpy(d.id, comma + 4);
	size = comma ? strndup(word + 5, (size_t)(comma - word - 5)) : strdup(word + 5);
	if (!size)
		return cli_fail("out of memory");
	rc = cli_parse_size(a->verb, "size", size, &d.bytes);
	free(size);
	if (!rc)
		*device = vm_dimm_to_json(&d);
	return rc;
}

/* The owner is who asks, not who has started the VM. */
static int wish_pci(struct args *a, const char *word, struct json_object **device)
{
	const char *owner = getenv("VMPLAT_OWNER");
	struct vm_hostdev d = { 0 };
	const char *why;

	if (strncmp(word, "host=", 5))
		return cli_usage(a->verb, "pci %s: begins with host=ADDRESS", word);
	why = vm_hostdev_parse(&d, word + 5);
	if (!why && !d.owner && owner && *owner && !(d.owner = strdup(owner)))
		why = "out of memory";
	if (!why)
		*device = vm_hostdev_to_json(&d);
	vm_hostdev_free(&d);
	return why ? cli_usage(a->verb, "pci %s: %s", word, why) : CLI_OK;
}

static const struct {
	const char *type;
	int (*wish)(struct args *a, const char *word, struct json_object **device);
} types[] = {
	{ "blk", wish_blk },
	{ "net", wish_net },
	{ "memory", wish_memory },
	{ "pci", wish_pci },
};

static int make_wish(struct args *a, const char *type, const char *word,
		     struct json_object **device)
{
	for (size_t i = 0; i < sizeof(types) / sizeof(types[0]); i++)
		if (!strcmp(type, types[i].type))
			return types[i].wish(a, word, device);
	return cli_usage(a->verb, "'%s' is none of blk, net, memory, pci", type);
}

/* an id that was not given is the VM's to choose */
static void drop_empty_id(struct json_object *device)
{
	if (!strcmp(text(device, "name"), ""))
		json_object_object_del(device, "name");
	if (!strcmp(text(device, "mac"), "00:00:00:00:00:00"))
		json_object_object_del(device, "mac");
}

static int device_add(int argc, char **argv)
{
	struct args a = { .verb = "vm device add" };
	struct json_object *device = NULL, *req, *reply, *v;
	int rc = parse_options(&a, argc, argv);

	if (rc || a.help)
		return rc ? rc : cli_help(add_help);
	if (argc - optind != 3)
		return cli_usage(a.verb, argc - optind > 3 ? "'%s' is one word too many"
				 : "say which VM, what (blk, net, memory, pci), and which one%s",
				 argc - optind > 3 ? argv[optind + 3] : "");
	rc = make_wish(&a, argv[optind + 1], argv[optind + 2], &device);
	if (!rc)
		rc = open_vm(&a, argv[optind]);
	if (rc) {
		json_object_put(device);
		return rc;
	}
	drop_empty_id(device);
	req = request(&a, "device-add");
	json_object_object_add(req, "type", json_object_new_string(argv[optind + 1]));
	json_object_object_add(req, "device", device);
	if (call(&a, req, &reply))
		return cli_fail("%s", vm_client_error());
	json_object_object_get_ex(reply, "device", &v);
	v = json_object_get(v);
	json_object_put(reply);
	if (a.json)
		return cli_json(v);
	printf("%s\n", text(v, "id"));
	json_object_put(v);
	return CLI_OK;
}

/* ---- remove ------------------------------------------------------------------- */

static int device_remove(int argc, char **argv)
{
	struct args a = { .verb = "vm device remove" };
	struct json_object *req, *reply = NULL;
	int rc = parse_options(&a, argc, argv), ret;

	if (rc || a.help)
		return rc ? rc : cli_help(remove_help);
	if (argc - optind != 2)
		return cli_usage(a.verb, argc - optind > 2 ? "'%s' is one word too many"
				 : "say which VM and which device; `vmplat vm device list` names them%s",
				 argc - optind > 2 ? argv[optind + 2] : "");
	rc = open_vm(&a, argv[optind]);
	if (rc)
		return rc;
	req = request(&a, "device-remove");
	json_object_object_add(req, "id", json_object_new_string(argv[optind + 1]));
	if (a.force)
		json_object_object_add(req, "force", json_object_new_boolean(true));
	ret = call(&a, req, &reply);
	if (ret && !(ret == -ENOENT && a.if_present))
		return cli_fail("%s", vm_client_error());
	if (!a.json) {
		json_object_put(reply);
		return CLI_OK;
	}
	json_object_put(reply);
	reply = json_object_new_object();
	json_object_object_add(reply, "id", json_object_new_string(argv[optind + 1]));
	json_object_object_add(reply, "removed", json_object_new_boolean(!ret));
	return cli_json(reply);
}

/* ---- list --------------------------------------------------------------------- */

static const char *what(struct json_object *o, char buf[CLI_NUM_LEN])
{
	struct json_object *v;

	if (json_object_object_get_ex(o, "bytes", &v))
		return cli_show_bytes((uint64_t)json_object_get_int64(v), buf);
	if (json_object_object_get_ex(o, "host", &v))
		return json_object_get_string(v);
	return json_object_object_get_ex(o, "path", &v) ? json_object_get_string(v) :
	       json_object_object_get_ex(o, "where", &v) ? json_object_get_string(v) :
	       text(o, "kind");
}

static void show_list(struct json_object *list)
{
	static const char *const heads[] = { "ID", "TYPE", "STATE", "DRIVER", "SLOT", "WHAT", NULL };
	struct cli_table *t = cli_table_new("<<<<><", heads);

	for (size_t i = 0; i < json_object_array_length(list); i++) {
		struct json_object *o = json_object_array_get_idx(list, i);
		const char *driver = text(o, "driver");
		char buf[CLI_NUM_LEN];

		cli_cell(t, "%s", text(o, "id"));
		cli_cell(t, "%s", text(o, "type"));
		cli_cell(t, "%s", text(o, "state"));
		cli_cell(t, "%s", !strcmp(driver, "true") ? "up" :
			 !strcmp(driver, "false") ? "none" : "-");
		cli_cell(t, "%s", text(o, "slot"));
		cli_cell(t, "%s", what(o, buf));
	}
	cli_table_print(t);
}

static int device_list(int argc, char **argv)
{
	struct args a = { .verb = "vm device list" };
	struct json_object *reply, *list;
	int rc = parse_options(&a, argc, argv);

	if (rc || a.help)
		return rc ? rc : cli_help(list_help);
	if (argc - optind != 1)
		return cli_usage(a.verb, argc > optind ? "'%s' is one word too many" : "which VM?%s",
				 argc > optind ? argv[optind + 1] : "");
	rc = open_vm(&a, argv[optind]);
	if (rc)
		return rc;
	if (call(&a, request(&a, "device-list"), &reply))
		return cli_fail("%s", vm_client_error());
	if (!json_object_object_get_ex(reply, "devices", &list)) {
		json_object_put(reply);
		return cli_fail("the VM does not know what devices it has");
	}
	list = json_object_get(list);
	json_object_put(reply);
	if (a.json)
		return cli_json(list);
	show_list(list);
	json_object_put(list);
	return CLI_OK;
}

static const struct cli_command table[] = {
	{ "list",	"what is plugged in",				device_list },
	{ "add",	"plug a disk, a network or PCI device, memory in",	device_add },
	{ "remove",	"have the guest give one up",			device_remove },
	{ }
};

int cmd_vm_device(int argc, char **argv)
{
	return cli_dispatch("vmplat vm device", intro, table, argc, argv);
}
