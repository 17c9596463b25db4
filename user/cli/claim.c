// SPDX-License-Identifier: GPL-2.0-only
/* vmplat claim: take devices from this host's drivers, whole IOMMU groups, and give them back. */
#include <errno.h>
#include <getopt.h>
#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <json-c/json.h>
#include <vmplat.h>

#include "cli.h"
#include "cli/pci.h"

#define NR_FORCE 16

static const char intro[] =
"usage: vmplat claim COMMAND [ARGUMENT...]\n"
"\n"
"Take devices from this host's drivers, for guests, and give them back as they were.\n"
"A claim is of whole IOMMU groups and has a number that is never used again. What is\n"
"interrupted, even by kill -9 or a power cut, is undone by the next command.\n";

static const char add_help[] =
"usage: vmplat claim add DEVICE... [OPTION]...\n"
"\n"
"Claim devices, with the rest of their IOMMU groups, for a driver. All or nothing. A\n"
"device that is in use is not taken; each thing in the way is named. Claiming what\n"
"the same owner has claimed in the same way already changes nothing.\n"
"\n"
"  DEVICE              0000:01:00.0 or 01:00.0, a slot path, serial:NUMBER\n"
"  -n, --dry-run       say what would be done and what is in the way; change nothing\n"
"      --driver NAME   for this driver, loaded if need be (vfio-pci)\n"
"      --owner NAME    whose claim it is ($VMPLAT_OWNER, or root)\n"
"      --reset METHODS set reset methods while it is claimed: flr, 'flr bus', ...\n"
"      --force NAME    accept what is in the way by that name: console,\n"
"                      boot-framebuffer, node-open, net-address, default-route,\n"
"                      net-master, net-elsewhere; may be repeated\n"
"      --dir DIR       where claims are kept ($VMPLAT_CLAIMS_DIR, or\n"
"                      " VMPLAT_CLAIMS_DIR ")\n"
"      --json          print the plan, and the claim, as a JSON object\n"
"\n"
"Prints the claim's number.\n";

static const char release_help[] =
"usage: vmplat claim release CLAIM|DEVICE... [OPTION]...\n"
"\n"
"Give claimed devices back: driver, driver_override, reset methods and VFs as they\n"
"were. Refused while a guest has one open. CLAIM is the number that 'claim add'\n"
"printed: it cannot mean a later claim of the same device, and releasing it twice\n"
"is no error. A DEVICE means the claim that has it now, if it is the owner's.\n"
"\n"
"      --owner NAME   whose claim it has to be ($VMPLAT_OWNER, or root)\n"
"      --any-owner    whoever it is\n"
"      --dir DIR      where claims are kept\n";

static const char list_help[] =
"usage: vmplat claim list [--dir DIR] [--json]\n"
"\n"
"The claims there are, and what their devices were before. 'taking' and 'releasing'\n"
"are under way, or were interrupted: 'claim recover' puts these in order.\n";

static const char recover_help[] =
"usage: vmplat claim recover [--dir DIR]\n"
"\n"
"Undo what was interrupted, and forget the claims of the last boot. Every 'claim add'\n"
"and 'claim release' does so first.\n";

struct args {
	const char *cmd, *dir;
	struct vmplat_wish wish;
	const char *force[NR_FORCE + 1];
	bool dry_run, json, any_owner;
	char **names;
	int nr_names;
};

enum { OPT_DRIVER = 256, OPT_OWNER, OPT_RESET, OPT_FORCE, OPT_DIR, OPT_JSON, OPT_ANY };

static const struct option options[] = {
	{ "dry-run", no_argument, NULL, 'n' },
	{ "driver", required_argument, NULL, OPT_DRIVER },
	{ "owner", required_argument, NULL, OPT_OWNER },
	{ "reset", required_argument, NULL, OPT_RESET },
	{ "force", required_argument, NULL, OPT_FORCE },
	{ "dir", required_argument, NULL, OPT_DIR },
	{ "json", no_argument, NULL, OPT_JSON },
	{ "any-owner", no_argument, NULL, OPT_ANY },
	{ "help", no_argument, NULL, 'h' },
	{ }
};

static bool add_force(struct args *a, const char *name)
{
	size_t n = 0;

	while (a->force[n])
		n++;
	if (n == NR_FORCE)
		return false;
	a->force[n] = name;
	return true;
}

/* Which options a verb has: 'a' add, 'r' release, 'l' list, 'c' recover. */
static bool has_option(int opt, char verb)
{
	switch (opt) {
	case 'n': case OPT_DRIVER: case OPT_RESET: case OPT_FORCE:
		return verb == 'a';
	case OPT_OWNER:
		return verb == 'a' || verb == 'r';
	case OPT_ANY:
		return verb == 'r';
	case OPT_JSON:
		return verb == 'a' || verb == 'l';
	default:
		return opt == OPT_DIR;
	}
}

/* CLI_OK, CLI_USAGE, or -1 when @help was printed. */
static int parse(struct args *a, const char *cmd, char verb, const char *help, int argc, char **argv)
{
	int opt;

	*a = (struct args) { .cmd = cmd, .dir = getenv("VMPLAT_CLAIMS_DIR"),
			     .wish.owner = getenv("VMPLAT_OWNER") };
	a->wish.force = a->force;
	opterr = 0;
	optind = 0;
	while ((opt = getopt_long(argc, argv, ":nh", options, NULL)) != -1) {
		if (opt == 'h')
			return cli_help(help), -1;
		if (!has_option(opt, verb))
			return cli_bad_option(cmd, opt, argv);
		switch (opt) {
		case 'n':
			a->dry_run = true;
			break;
		case OPT_DRIVER:
			a->wish.driver = optarg;
			break;
		case OPT_OWNER:
			a->wish.owner = optarg;
			break;
		case OPT_RESET:
			a->wish.reset = optarg;
			break;
		case OPT_DIR:
			a->dir = optarg;
			break;
		case OPT_JSON:
			a->json = true;
			break;
		case OPT_ANY:
			a->any_owner = true;
			break;
		case OPT_FORCE:
			if (!add_force(a, optarg))
				return cli_usage(cmd, "--force too often");
			break;
		}
	}
	if (!a->wish.owner || !*a->wish.owner)
		a->wish.owner = "root";
	a->names = argv + optind;
	a->nr_names = argc - optind;
	if ((verb == 'a' || verb == 'r') && !a->nr_names)
		return cli_usage(cmd, verb == 'a' ? "which device?" : "which claim or device?");
	if ((verb == 'l' || verb == 'c') && a->nr_names)
		return cli_usage(cmd, "'%s' is one argument too many", a->names[0]);
	return CLI_OK;
}

static void told(void *ctx, const char *sentence)
{
	cli_warn("%s", sentence);
}

static int open_claims(struct vmplat_claims **claims, const struct args *a, uint32_t flags)
{
	return vmplat_claims_open(claims, a->dir, flags, told, NULL) ?
	       cli_fail("%s", vmplat_last_error()) : CLI_OK;
}

/* ---- add ------------------------------------------------------------------------- */

static struct json_object *plan_json(const struct vmplat_plan *plan)
{
	struct json_object *o = json_object_new_object(), *devices = json_object_new_array();
	struct json_object *steps = json_object_new_array();

	for (size_t i = 0; i < plan->nr_devices; i++)
		json_object_array_add(devices, json_object_new_string(plan->devices[i]->address));
	for (size_t i = 0; i < plan->nr_steps; i++)
		json_object_array_add(steps, json_object_new_string(plan->steps[i]));
	json_object_object_add(o, "devices", devices);
	json_object_object_add(o, "blocked", json_object_new_boolean(plan->blocked));
	json_object_object_add(o, "findings", pci_json_findings(&plan->findings));
	json_object_object_add(o, "steps", steps);
	json_maybe(o, "claim", plan->existing, !plan->existing);
	return o;
}

static void print_findings(const struct vmplat_plan *plan, FILE *to)
{
	for (size_t i = 0; i < plan->findings.nr; i++) {
		const struct vmplat_finding *f = &plan->findings.items[i];

		fprintf(to, "  %s %s: %s\n", vmplat_severity_name(f->severity), f->name, f->text);
	}
}

static int print_plan(const struct args *a, const struct vmplat_plan *plan)
{
	if (a->json) {
		int rc = cli_json(plan_json(plan));

		return rc ? rc : plan->blocked ? CLI_FAILED : CLI_OK;
	}
	if (plan->existing)
		printf("claim %" PRIu64 " has these devices already: nothing to do\n", plan->existing);
	print_findings(plan, stdout);
	for (size_t i = 0; i < plan->nr_steps; i++)
		printf("  %zu. %s\n", i + 1, plan->steps[i]);
	if (plan->blocked)
		return cli_fail("this claim is not possible: see the blockers above");
	return CLI_OK;
}

static int take(const struct args *a, struct vmplat_claims *claims, struct vmplat_devs *devs,
		const struct vmplat_plan *plan)
{
	struct json_object *o;
	uint64_t id;

	if (plan->blocked) {
		if (a->json)
			cli_json(plan_json(plan));
		else
			print_findings(plan, stderr);
		return cli_fail("nothing was claimed: see the blockers above");
	}
	if (vmplat_claim_take(claims, devs, plan, &id))
		return cli_fail("nothing was claimed: %s", vmplat_last_error());
	if (!a->json) {
		printf("%" PRIu64 "\n", id);
		return CLI_OK;
	}
	o = plan_json(plan);
	json_number(o, "claim", id);
	return cli_json(o);
}

static int claim_add(int argc, char **argv)
{
	struct vmplat_claims *claims = NULL;
	struct vmplat_devs *devs = NULL;
	struct vmplat_plan plan;
	struct args a;
	int rc = parse(&a, "claim add", 'a', add_help, argc, argv);

	if (rc)
		return rc < 0 ? CLI_OK : rc;
	rc = open_claims(&claims, &a, a.dry_run ? VMPLAT_CLAIMS_F_READ : 0);
	if (rc)
		return rc;
	/* the picture after the claims: what they put in order is in it */
	if (vmplat_devs_open(&devs, NULL) ||
	    vmplat_claim_plan(devs, claims, (const char *const *)a.names, a.nr_names, &a.wish, &plan))
		rc = cli_fail("%s", vmplat_last_error());
	else
		rc = a.dry_run ? print_plan(&a, &plan) : take(&a, claims, devs, &plan);
	vmplat_devs_close(devs);
	vmplat_claims_close(claims);
	return rc;
}

/* ---- release --------------------------------------------------------------------- */

/* A number is a claim's; anything else a device's, which means the claim that has it. */
static int find_claim(const struct args *a, const struct vmplat_claims *claims, const char *name,
		      uint64_t *id)
{
	const struct vmplat_claim *claim;
	const struct vmplat_pci *pci;
	struct vmplat_devs *devs;
	int rc = CLI_OK;

	if (strspn(name, "0123456789") == strlen(name))
		return cli_parse_u64(a->cmd, "CLAIM", name, 1, UINT64_MAX, id);
	if (vmplat_devs_open(&devs, NULL) || vmplat_devs_find(devs, name, &pci)) {
		rc = cli_fail("%s", vmplat_last_error());
	} else {
		claim = vmplat_claims_holder(claims, pci->address);
		if (claim)
			*id = claim->id;
		else
			rc = cli_fail("%s is not claimed", pci->address);
	}
	vmplat_devs_close(devs);
	return rc;
}

static int release_one(const struct args *a, struct vmplat_claims *claims, const char *name)
{
	uint64_t id;
	int rc = find_claim(a, claims, name, &id);

	if (rc)
		return rc;
	rc = vmplat_claim_release(claims, id, a->any_owner ? NULL : a->wish.owner);
	if (rc == 1)
		cli_note("claim %" PRIu64 " was released before", id);
	else if (rc == -EPERM)
		return cli_fail("%s; --owner or --any-owner says otherwise", vmplat_last_error());
	else if (rc)
		return cli_fail("%s", vmplat_last_error());
	return CLI_OK;
}

static int claim_release(int argc, char **argv)
{
	struct vmplat_claims *claims;
	struct args a;
	int rc = parse(&a, "claim release", 'r', release_help, argc, argv);

	if (rc)
		return rc < 0 ? CLI_OK : rc;
	rc = open_claims(&claims, &a, 0);
	if (rc)
		return rc;
	for (int i = 0; i < a.nr_names; i++) {
		int one = release_one(&a, claims, a.names[i]);

		rc = rc ? rc : one;
	}
	vmplat_claims_close(claims);
	return rc;
}

/* ---- list, recover ------------------------------------------------------------------ */

static struct json_object *claim_json(const struct vmplat_claim *c)
{
	struct json_object *o = json_object_new_object(), *list = json_object_new_array();
	char serial[24];

	json_number(o, "id", c->id);
	json_text(o, "owner", c->owner);
	json_text(o, "driver", c->driver);
	json_text(o, "state", vmplat_claim_state_name(c->state));
	json_text(o, "boot", c->boot);
	for (size_t i = 0; i < c->nr_devices; i++) {
		const struct vmplat_claim_device *t = &c->devices[i];
		struct json_object *d = json_object_new_object(), *before = json_object_new_object();

		json_text(d, "address", t->address);
		json_text(d, "path", t->path);
		json_text(d, "serial",
			  t->serial ? vmplat_pci_format_serial(t->serial, serial) : NULL);
		json_text(before, "driver", t->driver);
		json_text(before, "driver_override", t->override);
		json_text(before, "reset_methods", t->reset);
		json_object_object_add(d, "before", before);
		json_object_array_add(list, d);
	}
	json_object_object_add(o, "devices", list);
	return o;
}

static void list_table(const struct vmplat_claims *claims)
{
	static const char *const heads[] = { "CLAIM", "OWNER", "STATE", "DRIVER", "DEVICE", "BEFORE" };
	struct cli_table *t = cli_table_new("><<<<<", heads);

	for (size_t i = 0; i < vmplat_claims_nr(claims); i++) {
		const struct vmplat_claim *c = vmplat_claims_get(claims, i);

		for (size_t d = 0; d < c->nr_devices; d++) {
			if (d)
				cli_cell(t, "%s", "");
			else
				cli_cell(t, "%" PRIu64, c->id);
			cli_cell(t, "%s", d ? "" : c->owner);
			cli_cell(t, "%s", d ? "" : vmplat_claim_state_name(c->state));
			cli_cell(t, "%s", d ? "" : c->driver);
			cli_cell(t, "%s", c->devices[d].address);
			cli_cell(t, "%s", c->devices[d].driver ? c->devices[d].driver : "-");
		}
	}
	cli_table_print(t);
}

static int claim_list(int argc, char **argv)
{
	struct vmplat_claims *claims;
	struct json_object *list;
	struct args a;
	int rc = parse(&a, "claim list", 'l', list_help, argc, argv);

	if (rc)
		return rc < 0 ? CLI_OK : rc;
	rc = open_claims(&claims, &a, VMPLAT_CLAIMS_F_READ);
	if (rc)
		return rc;
	if (a.json) {
		list = json_object_new_array();
		for (size_t i = 0; i < vmplat_claims_nr(claims); i++)
			json_object_array_add(list, claim_json(vmplat_claims_get(claims, i)));
		rc = cli_json(list);
	} else {
		list_table(claims);
	}
	vmplat_claims_close(claims);
	return rc;
}

static int claim_recover(int argc, char **argv)
{
	struct vmplat_claims *claims;
	struct args a;
	int rc = parse(&a, "claim recover", 'c', recover_help, argc, argv);

	if (rc)
		return rc < 0 ? CLI_OK : rc;
	rc = open_claims(&claims, &a, 0);
	if (!rc)
		vmplat_claims_close(claims);
	return rc;
}

int cmd_claim(int argc, char **argv)
{
	static const struct cli_command verbs[] = {
		{ "add", "take devices from their drivers, or say what is in the way", claim_add },
		{ "release", "give them back as they were", claim_release },
		{ "list", "the claims there are", claim_list },
		{ "recover", "put in order what was interrupted", claim_recover },
		{ }
	};

	return cli_dispatch("vmplat claim", intro, verbs, argc, argv);
}
