// SPDX-License-Identifier: GPL-2.0-only
/* vmplat sriov: virtual functions, as a file wants them. */
#include <getopt.h>
#include <inttypes.h>
#include <stdlib.h>
#include <string.h>

#include <errno.h>
#include <json-c/json.h>
#include <vmplat.h>
#include <vmplat_dev.h>

#include "cli.h"
#include "cli/pci.h"
#include "sriov/sriov.h"

static const char intro[] =
"usage: vmplat sriov COMMAND [ARGUMENT...]\n"
"\n"
"Virtual functions (VFs) of PCI devices: how many, whose, for which driver, with which\n"
"attributes. VFs go straight to their driver; the one the host would choose never sees\n"
"them. What is changed is changed as a whole, or not at all, also after kill -9.\n";

static const char show_help[] =
"usage: vmplat sriov show [PF...] [--json | --file]\n"
"\n"
"The physical functions (PFs) of this host that can have VFs, or these, and their VFs.\n"
"\n"
"  PF           0000:01:00.0, a slot path, serial:NUMBER, a network interface\n"
"      --json   as a JSON array\n"
"      --file   as a file for 'sriov apply'\n";

static const char apply_help[] =
"usage: vmplat sriov apply FILE|- [OPTION]...\n"
"\n"
"Make VFs what FILE (or standard input) says. Everything is checked first; then VFs are\n"
"made, given attributes, which are read back, and given to their driver. The first error\n"
"undoes all of it.\n"
"\n"
"  -n, --dry-run      say what would change and what is in the way; change nothing\n"
"      --owner NAME   whose VFs they shall be ($VMPLAT_OWNER, or root)\n"
"      --dir DIR      where the journal is (" SRIOV_DIR ")\n"
"      --json         as a JSON object\n"
"\n"
"  [pf 0000:01:00.0]       or a slot path, serial:NUMBER, a network interface\n"
"  numvfs = 4              first; 0 removes them\n"
"  driver = vfio-pci       or none; without it VFs keep theirs, new ones have none\n"
"  spoofchk = on           of all its VFs\n"
"\n"
"  [vf 0-1,3]              these VFs\n"
"  mac = 02:00:00:00:00:01\n"
"  vlan = 100              0 for none\n"
"  qos = 3                 0-7\n"
"  proto = 802.1Q          or 802.1ad\n"
"  min_rate = 100          Mbit/s, 0 for no limit; max_rate as well\n"
"  trust = off             or on; spoofchk as well\n"
"  link = auto             or on, off\n"
"  msix = 8                interrupt vectors, where the driver can set them\n";

static const char diff_help[] =
"usage: vmplat sriov diff FILE|- [--owner NAME] [--json]\n"
"\n"
"What 'sriov apply' would change, and what is in its way. Exit status 0: nothing, all is\n"
"as FILE says; 1: there are differences, or an error.\n";

static const char set_help[] =
"usage: vmplat sriov set PF [VFS] KEY=VALUE... [OPTION]...\n"
"\n"
"Change attributes of VFs that are there, all or none; the keys are those of 'sriov apply'.\n"
"\n"
"  VFS                such as 0-1,3; without it, of all\n"
"      --owner NAME   whose they have to be ($VMPLAT_OWNER, or root)\n"
"      --dir DIR      where the journal is\n"
"\n"
"  vmplat sriov set eth2 0 mac=02:00:00:00:00:01 vlan=100 qos=3\n"
"  vmplat sriov set 0000:01:00.0 driver=vfio-pci\n";

static const char destroy_help[] =
"usage: vmplat sriov destroy PF... [OPTION]...\n"
"\n"
"Remove the VFs. Refused while one is in use or claimed, or is another owner's.\n"
"\n"
"      --generation N   these VFs, not later ones of the same PF: a command that comes\n"
"                       too late does nothing. 'sriov apply' and 'sriov show' tell it\n"
"      --owner NAME     whose they have to be ($VMPLAT_OWNER, or root)\n"
"      --any-owner      whoever they are of\n";

static const char recover_help[] =
"usage: vmplat sriov recover [--dir DIR]\n"
"\n"
"Undo what was interrupted. 'sriov apply' and 'sriov set' do so first.\n";

struct args {
	const char *cmd, *dir, *owner;
	bool dry_run, json, file, any_owner;
	uint64_t generation;
	char **names;
	int nr_names;
};

enum { OPT_OWNER = 256, OPT_DIR, OPT_JSON, OPT_ANY, OPT_FILE, OPT_GENERATION };

static bool has_option(int opt, char verb)
{
	switch (opt) {
	case 'n':
		return verb == 'a';
	case OPT_OWNER:
		return strchr("adtx", verb);
	case OPT_DIR:
		return strchr("atr", verb);
	case OPT_JSON:
		return strchr("sad", verb);
	case OPT_FILE:
		return verb == 's';
	case OPT_ANY: case OPT_GENERATION:
		return verb == 'x';
	default:
		return false;
	}
}

static int take_option(struct args *a, int opt)
{
	switch (opt) {
	case 'n':
		a->dry_run = true;
		break;
	case OPT_OWNER:
		a->owner = optarg;
		break;
	case OPT_DIR:
		a->dir = optarg;
		break;
	case OPT_JSON:
		a->json = true;
		break;
	case OPT_FILE:
		a->file = true;
		break;
	case OPT_ANY:
		a->any_owner = true;
		break;
	case OPT_GENERATION:
		return cli_parse_u64(a->cmd, "--generation", optarg, 1, UINT64_MAX, &a->generation);
	}
	return CLI_OK;
}

static int check_owner(const struct args *a)
{
	size_t len = strlen(a->owner);

	for (const char *s = a->owner; *s; s++)
		if (*s <= ' ' || *s > '~')
			return cli_usage(a->cmd, "the owner's name has blanks or letters beyond ASCII in it");
	if (!len || len >= VMPLAT_SRIOV_OWNER_BYTES)
		return cli_usage(a->cmd, "the owner is a name of 1 to 63 letters");
	return CLI_OK;
}

/* -1: help was printed. @least, @most names; @most < 0: any number */
static int parse(struct args *a, const char *cmd, char verb, const char *help, int least, int most,
		 int argc, char **argv)
{
	static const struct option options[] = {
		{ "dry-run", no_argument, NULL, 'n' },
		{ "owner", required_argument, NULL, OPT_OWNER },
		{ "dir", required_argument, NULL, OPT_DIR },
		{ "json", no_argument, NULL, OPT_JSON },
		{ "file", no_argument, NULL, OPT_FILE },
		{ "any-owner", no_argument, NULL, OPT_ANY },
		{ "generation", required_argument, NULL, OPT_GENERATION },
		{ "help", no_argument, NULL, 'h' },
		{ }
	};
	int opt, rc;

	*a = (struct args) { .cmd = cmd, .owner = getenv("VMPLAT_OWNER") };
	opterr = 0;
	optind = 0;
	while ((opt = getopt_long(argc, argv, ":nh", options, NULL)) != -1) {
		if (opt == 'h')
			return cli_help(help), -1;
		if (!has_option(opt, verb))
			return cli_bad_option(cmd, opt, argv);
		rc = take_option(a, opt);
		if (rc)
			return rc;
	}
	if (!a->owner || !*a->owner)
		a->owner = "root";
	a->names = argv + optind;
	a->nr_names = argc - optind;
	if (a->nr_names < least)
		return cli_usage(cmd, verb == 'a' || verb == 'd' ? "which file?" :
				 verb == 't' && a->nr_names ? "which KEY=VALUE?" : "which PF?");
	if (most >= 0 && a->nr_names > most)
		return cli_usage(cmd, "'%s' is one argument too many", a->names[most]);
	return check_owner(a);
}

static void told(void *ctx, const char *sentence)
{
	cli_note("%s", sentence);
}

/* ---- show ------------------------------------------------------------------------ */

static struct json_object *vf_json(const struct sriov_vf *vf, unsigned int i)
{
	struct json_object *o = json_object_new_object();

	json_number(o, "index", i);
	json_text(o, "address", *vf->address ? vf->address : NULL);
	json_text(o, "driver", *vf->driver ? vf->driver : NULL);
	for (enum sriov_attr a = 0; a < SRIOV_NR_ATTRS; a++)
		json_object_object_add(o, sriov_attr_name(a), vf->values.has & 1u << a ?
				       sriov_attr_json(a, vf->values.v[a]) : NULL);
	return o;
}

static struct json_object *pf_json(const struct sriov_pf *pf)
{
	struct json_object *o = json_object_new_object(), *vfs = json_object_new_array();

	json_text(o, "address", pf->address);
	json_text(o, "netdev", *pf->netdev ? pf->netdev : NULL);
	json_number(o, "numvfs", pf->nr_vfs);
	json_number(o, "max_vfs", pf->limit);
	json_maybe(o, "generation", (int64_t)pf->generation, !pf->generation);
	json_text(o, "owner", pf->generation ? pf->owner : NULL);
	json_text(o, "vf_driver", pf->generation ? (*pf->driver ? pf->driver : "none") : NULL);
	for (unsigned int i = 0; i < pf->nr_vfs; i++)
		json_object_array_add(vfs, vf_json(&pf->vfs[i], i));
	json_object_object_add(o, "vfs", vfs);
	return o;
}

static void print_pf(const struct sriov_pf *pf)
{
	printf("%s%s%s: %u of %u VFs", pf->address, *pf->netdev ? " " : "", pf->netdev, pf->nr_vfs,
	       pf->limit);
	if (pf->generation)
		printf(", of %s, generation %" PRIu64, pf->owner, pf->generation);
	else if (pf->nr_vfs && pf->is_pci)
		printf(", made through sriov_numvfs");
	putchar('\n');
	for (unsigned int i = 0; i < pf->nr_vfs; i++) {
		const struct sriov_vf *vf = &pf->vfs[i];
		char text[SRIOV_TEXT];

		printf("  VF %u %s driver %s\n", i, *vf->address ? vf->address : "-",
		       *vf->driver ? vf->driver : "none");
		if (!vf->values.has)
			continue;
		printf("   ");
		for (enum sriov_attr a = 0; a < SRIOV_NR_ATTRS; a++)
			if (vf->values.has & 1u << a)
				printf(" %s %s", sriov_attr_name(a),
				       sriov_attr_text(a, vf->values.v[a], text));
		putchar('\n');
	}
}

static void print_file(const struct sriov_pf *pf)
{
	char text[SRIOV_TEXT];

	printf("[pf %s]\nnumvfs = %u\n", pf->address, pf->nr_vfs);
	if (pf->generation)
		printf("driver = %s\n", *pf->driver ? pf->driver : "none");
	for (unsigned int i = 0; i < pf->nr_vfs; i++) {
		const struct sriov_values *v = &pf->vfs[i].values;

		if (!v->has)
			continue;
		printf("\n[vf %u]\n", i);
		for (enum sriov_attr a = 0; a < SRIOV_NR_ATTRS; a++)
			/* an address of zeroes is none, which cannot be set */
			if (v->has & 1u << a && (a != SRIOV_MAC || v->v[a]) && (a != SRIOV_MSIX || v->v[a]))
				printf("%s = %s\n", sriov_attr_name(a), sriov_attr_text(a, v->v[a], text));
	}
	putchar('\n');
}

static int show_one(const struct args *a, const struct sriov_host *h, const char *name,
		    struct json_object *list)
{
	struct sriov_pf pf;

	if (h->look(h->ctx, name, &pf))
		return cli_fail("%s", vmplat_last_error());
	if (list)
		json_object_array_add(list, pf_json(&pf));
	else if (a->file)
		print_file(&pf);
	else
		print_pf(&pf);
	sriov_pf_free(&pf);
	return CLI_OK;
}

static int show_all(const struct args *a, const struct sriov_host *h, struct json_object *list)
{
	struct vmplat_devs *devs;
	int rc = CLI_OK;

	if (vmplat_devs_open(&devs, NULL))
		return cli_fail("%s", vmplat_last_error());
	for (size_t i = 0; i < vmplat_devs_nr_pci(devs); i++) {
		const struct vmplat_pci *pci = vmplat_devs_pci(devs, i);
		int one = pci->max_vfs ? show_one(a, h, pci->address, list) : CLI_OK;

		rc = rc ? rc : one;
	}
	vmplat_devs_close(devs);
	return rc;
}

static int sriov_show(int argc, char **argv)
{
	struct json_object *list = NULL;
	struct sriov_host h;
	struct args a;
	int rc = parse(&a, "sriov show", 's', show_help, 0, -1, argc, argv);

	if (rc)
		return rc < 0 ? CLI_OK : rc;
	if (a.json && a.file)
		return cli_usage(a.cmd, "--json or --file, not both");
	if (sriov_host_open(&h))
		return cli_fail("%s", vmplat_last_error());
	if (a.json)
		list = json_object_new_array();
	if (!a.nr_names)
		rc = show_all(&a, &h, list);
	for (int i = 0; i < a.nr_names; i++) {
		int one = show_one(&a, &h, a.names[i], list);

		rc = rc ? rc : one;
	}
	sriov_host_close(&h);
	if (list) {
		int one = cli_json(list);

		rc = rc ? rc : one;
	}
	return rc;
}

/* ---- plans ------------------------------------------------------------------------- */

/* All the PFs of a wish, what they are and shall become. */
struct plan {
	const struct args *a;
	const char *file;
	struct json_object *differences, *blockers;	/* with --json */
	bool quiet;					/* differences are not printed */
	struct sriov_pf pfs[SRIOV_PFS_MAX];
	struct sriov_goal goals[SRIOV_PFS_MAX];
	size_t nr;
	unsigned int nr_differ, nr_blocks;
};

static void said_json(struct plan *p, enum sriov_says what, const struct sriov_pf *pf, int vf,
		      unsigned int line, const char *key, const char *now, const char *want,
		      const char *sentence)
{
	struct json_object *o = json_object_new_object();

	json_text(o, "pf", pf->address);
	json_maybe(o, "vf", vf, vf < 0);
	json_maybe(o, "line", line, !line);
	if (what == SRIOV_BLOCKS) {
		json_text(o, "text", sentence);
		json_object_array_add(p->blockers, o);
		return;
	}
	json_text(o, "key", key);
	json_text(o, "now", now);
	json_text(o, "want", want);
	json_object_array_add(p->differences, o);
}

static void said(void *ctx, enum sriov_says what, const struct sriov_pf *pf, int vf,
		 unsigned int line, const char *key, const char *now, const char *want,
		 const char *sentence)
{
	struct plan *p = ctx;
	char name[24] = "";

	if (p->differences) {
		said_json(p, what, pf, vf, line, key, now, want, sentence);
		return;
	}
	if (vf >= 0)
		snprintf(name, sizeof(name), " VF %d", vf);
	if (what == SRIOV_DIFFERS && !p->quiet)
		printf("%s%s: %s %s -> %s\n", pf->address, name, key, now ? now : "?", want);
	if (what != SRIOV_BLOCKS)
		return;
	if (line && p->file)
		fprintf(stderr, "vmplat: %s:%u: %s%s: %s\n", p->file, line, pf->address, name, sentence);
	else
		fprintf(stderr, "vmplat: %s%s: %s\n", pf->address, name, sentence);
}

static int plan_one(struct plan *p, const struct sriov_host *h, const struct sriov_pf_wish *wish)
{
	const struct sriov_listener listener = { p, said };
	struct sriov_pf *pf = &p->pfs[p->nr];
	unsigned int differ, blocks;

	if (h->look(h->ctx, wish->name, pf))
		return p->file ? cli_fail("%s:%u: %s", p->file, wish->line, vmplat_last_error()) :
		       cli_fail("%s", vmplat_last_error());
	for (size_t i = 0; i < p->nr; i++)
		if (!strcmp(p->pfs[i].address, pf->address)) {
			sriov_pf_free(pf);
			return cli_fail("%s:%u: %s is %s, which has a section already", p->file, wish->line,
					wish->name, p->pfs[i].address);
		}
	if (sriov_plan(h, pf, wish, p->a->owner, &listener, &p->goals[p->nr], &differ, &blocks)) {
		sriov_pf_free(pf);
		return cli_fail("%s", vmplat_last_error());
	}
	p->nr++;
	p->nr_differ += differ;
	p->nr_blocks += blocks;
	return CLI_OK;
}

static int plan_all(struct plan *p, const struct sriov_host *h, const struct sriov_wish *wish)
{
	int rc = CLI_OK;

	if (p->a->json) {
		p->differences = json_object_new_array();
		p->blockers = json_object_new_array();
	}
	for (size_t i = 0; i < wish->nr && !rc; i++)
		rc = plan_one(p, h, &wish->pfs[i]);
	return rc;
}

static int plan_json(struct plan *p, bool applied)
{
	struct json_object *o = json_object_new_object();
	struct json_object *pfs = json_object_new_array();

	json_object_object_add(o, "differences", json_object_get(p->differences));
	json_object_object_add(o, "blockers", json_object_get(p->blockers));
	json_object_object_add(o, "applied", json_object_new_boolean(applied));
	for (size_t i = 0; i < p->nr; i++)
		json_object_array_add(pfs, pf_json(&p->pfs[i]));
	json_object_object_add(o, "pfs", pfs);
	return cli_json(o);
}

static void plan_free(struct plan *p)
{
	for (size_t i = 0; i < p->nr; i++) {
		sriov_pf_free(&p->pfs[i]);
		sriov_goal_free(&p->goals[i]);
	}
	json_object_put(p->differences);
	json_object_put(p->blockers);
	free(p);
}

static struct plan *plan_new(const struct args *a, const char *file)
{
	struct plan *p = calloc(1, sizeof(*p));

	if (!p)
		cli_fail("out of memory");
	else
		*p = (struct plan) { .a = a, .file = file };
	return p;
}

/* ---- apply, set --------------------------------------------------------------------- */

static int carry_out(struct plan *p, struct sriov_work *w, const struct sriov_host *h)
{
	struct sriov_change changes[SRIOV_PFS_MAX];

	for (size_t i = 0; i < p->nr; i++)
		changes[i] = (struct sriov_change) { &p->pfs[i], &p->goals[i] };
	if (p->nr_differ && sriov_work_apply(w, changes, p->nr))
		return cli_fail("nothing was changed: %s", vmplat_last_error());
	for (size_t i = 0; i < p->nr; i++) {
		char address[sizeof(p->pfs[i].address)];

		strcpy(address, p->pfs[i].address);
		sriov_pf_free(&p->pfs[i]);
		if (h->look(h->ctx, address, &p->pfs[i]))
			return cli_fail("%s", vmplat_last_error());
		if (!p->a->json && p->pfs[i].generation)
			printf("%s generation %" PRIu64 "\n", address, p->pfs[i].generation);
	}
	return CLI_OK;
}

/* The journal first: what it puts in order is seen by the plan. */
static int apply_wish(const struct args *a, const struct sriov_wish *wish)
{
	struct plan *p = plan_new(a, wish->file);
	struct sriov_work *w = NULL;
	struct sriov_host h = { };
	int rc = CLI_OK;

	if (!p)
		return CLI_FAILED;
	p->quiet = !a->dry_run;
	if (sriov_host_open(&h) ||
	    (!a->dry_run && sriov_work_open(&w, &h, a->dir, (struct sriov_told) { NULL, told })))
		rc = cli_fail("%s", vmplat_last_error());
	if (!rc)
		rc = plan_all(p, &h, wish);
	if (!rc && p->nr_blocks)
		rc = a->json ? CLI_FAILED : cli_fail("nothing was changed: see above what is in the way");
	else if (!rc && !a->dry_run)
		rc = carry_out(p, w, &h);
	if (a->json && p->differences) {
		int one = plan_json(p, !rc && !a->dry_run);

		rc = rc ? rc : one;
	}
	plan_free(p);
	sriov_work_close(w);
	sriov_host_close(&h);
	return rc;
}

static int sriov_apply(int argc, char **argv)
{
	struct sriov_wish wish;
	struct args a;
	int rc = parse(&a, "sriov apply", 'a', apply_help, 1, 1, argc, argv);

	if (rc)
		return rc < 0 ? CLI_OK : rc;
	if (sriov_wish_read_file(&wish, a.names[0]))
		return cli_fail("%s", vmplat_last_error());
	rc = apply_wish(&a, &wish);
	sriov_wish_free(&wish);
	return rc;
}

static int sriov_diff(int argc, char **argv)
{
	struct sriov_host h = { };
	struct sriov_wish wish;
	struct plan *p;
	struct args a;
	int rc = parse(&a, "sriov diff", 'd', diff_help, 1, 1, argc, argv);

	if (rc)
		return rc < 0 ? CLI_OK : rc;
	if (sriov_wish_read_file(&wish, a.names[0]))
		return cli_fail("%s", vmplat_last_error());
	p = plan_new(&a, wish.file);
	if (!p)
		rc = CLI_FAILED;
	else if (sriov_host_open(&h))
		rc = cli_fail("%s", vmplat_last_error());
	else
		rc = plan_all(p, &h, &wish);
	if (!rc && a.json)
		rc = plan_json(p, false);
	if (!rc && (p->nr_differ || p->nr_blocks))
		rc = CLI_FAILED;
	if (p)
		plan_free(p);
	sriov_host_close(&h);
	sriov_wish_free(&wish);
	return rc;
}

struct setting {
	const struct args *a;
	struct sriov_pf_wish *pf;
	enum sriov_attr attr;
	uint64_t v;
};

static void set_vf(void *ctx, unsigned int i)
{
	struct setting *s = ctx;

	s->pf->vfs[i].values.has |= 1u << s->attr;
	s->pf->vfs[i].values.v[s->attr] = s->v;
}

static int set_driver(const struct args *a, struct sriov_pf_wish *pf, const char *value)
{
	if (!*value || strlen(value) >= VMPLAT_SRIOV_DRIVER_BYTES || strpbrk(value, " \t/\n"))
		return cli_usage(a->cmd, "driver: '%s' is no name of a driver", value);
	free(pf->driver);
	pf->driver = strdup(strcmp(value, "none") ? value : "");
	return pf->driver ? CLI_OK : cli_fail("out of memory");
}

static int set_word(const struct args *a, struct sriov_pf_wish *pf, const char *list, const char *word)
{
	const char *equal = strchr(word, '='), *why;
	struct setting s = { a, pf };
	char key[32];

	if (!equal || equal == word || equal - word >= (int)sizeof(key))
		return cli_usage(a->cmd, "'%s' is not KEY=VALUE", word);
	snprintf(key, sizeof(key), "%.*s", (int)(equal - word), word);
	if (!strcmp(key, "driver"))
		return list ? cli_usage(a->cmd, "driver is of a PF, not of some of its VFs") :
		       set_driver(a, pf, equal + 1);
	s.attr = sriov_attr_find(key);
	if (s.attr == SRIOV_NR_ATTRS)
		return cli_usage(a->cmd, "there is no attribute '%s'", key);
	why = sriov_attr_parse(s.attr, equal + 1, &s.v);
	if (why)
		return cli_usage(a->cmd, "%s: '%s': it is %s", key, equal + 1, why);
	why = list ? sriov_parse_list(list, pf->nr_vfs, set_vf, &s) : NULL;
	if (why)
		return cli_usage(a->cmd, "%s: %s", list, why);
	for (unsigned int i = 0; !list && i < pf->nr_vfs; i++)
		set_vf(&s, i);
	return CLI_OK;
}

static int one_mac(const struct args *a, const struct sriov_pf_wish *pf)
{
	unsigned int nr = 0;

	for (unsigned int i = 0; i < pf->nr_vfs; i++)
		nr += !!(pf->vfs[i].values.has & 1u << SRIOV_MAC);
	return nr > 1 ? cli_usage(a->cmd, "mac: %u VFs cannot have one address", nr) : CLI_OK;
}

/* A wish for what there is, but for the words. */
static int wish_of_words(const struct args *a, struct sriov_wish *wish)
{
	bool has_list = !strchr(a->names[1], '=');
	struct sriov_host h;
	struct sriov_pf pf;
	int rc = CLI_OK;

	*wish = (struct sriov_wish) { };
	if (has_list && a->nr_names < 3)
		return cli_usage(a->cmd, "which KEY=VALUE?");
	if (strlen(a->names[0]) >= SRIOV_NAME_MAX)
		return cli_usage(a->cmd, "'%s' is no PF", a->names[0]);
	if (sriov_host_open(&h))
		return cli_fail("%s", vmplat_last_error());
	if (h.look(h.ctx, a->names[0], &pf)) {
		sriov_host_close(&h);
		return cli_fail("%s", vmplat_last_error());
	}
	wish->pfs = calloc(1, sizeof(*wish->pfs));
	if (wish->pfs) {
		wish->nr = 1;
		strcpy(wish->pfs->name, a->names[0]);
		wish->pfs->nr_vfs = pf.nr_vfs;
		wish->pfs->vfs = calloc(pf.nr_vfs + 1, sizeof(*wish->pfs->vfs));
	}
	if (!wish->pfs || !wish->pfs->vfs)
		rc = cli_fail("out of memory");
	else if (!pf.nr_vfs)
		rc = cli_fail("%s has no VFs: 'vmplat sriov apply' makes some", pf.address);
	for (int i = has_list ? 2 : 1; i < a->nr_names && !rc; i++)
		rc = set_word(a, wish->pfs, has_list ? a->names[1] : NULL, a->names[i]);
	sriov_pf_free(&pf);
	sriov_host_close(&h);
	return rc ? rc : one_mac(a, wish->pfs);
}

static int sriov_set(int argc, char **argv)
{
	struct sriov_wish wish;
	struct args a;
	int rc = parse(&a, "sriov set", 't', set_help, 2, -1, argc, argv);

	if (rc)
		return rc < 0 ? CLI_OK : rc;
	rc = wish_of_words(&a, &wish);
	if (!rc)
		rc = apply_wish(&a, &wish);
	sriov_wish_free(&wish);
	return rc;
}

/* ---- destroy, recover ------------------------------------------------------------------ */

static int check_destroy(const struct args *a, const struct sriov_host *h, struct sriov_pf *pf)
{
	if (a->generation && a->generation != pf->generation)
		return cli_fail("%s: generation %" PRIu64 " of its VFs is over%s", pf->address, a->generation,
				pf->nr_vfs ? "; those it has now are left alone" : "");
	if (!pf->nr_vfs)
		return CLI_OK;
	if (pf->generation && !a->any_owner && strcmp(pf->owner, a->owner))
		return cli_fail("%s: its VFs are of %s, not of %s; --owner or --any-owner says otherwise",
				pf->address, pf->owner, a->owner);
	for (unsigned int i = 0; i < pf->nr_vfs; i++)
		if (h->in_use(h->ctx, pf, i))
			return cli_fail("%s: VF %u: %s", pf->address, i, vmplat_last_error());
	return CLI_OK;
}

static int destroy_one(const struct args *a, const struct sriov_host *h, const char *name)
{
	struct sriov_pf pf;
	int rc;

	if (h->look(h->ctx, name, &pf))
		return cli_fail("%s", vmplat_last_error());
	rc = check_destroy(a, h, &pf);
	/* by the generation that was looked at: VFs made since are another's */
	if (!rc && pf.nr_vfs && h->destroy(h->ctx, &pf))
		rc = cli_fail("%s: %s", pf.address, vmplat_last_error());
	sriov_pf_free(&pf);
	return rc;
}

static int sriov_destroy(int argc, char **argv)
{
	struct sriov_host h;
	struct args a;
	int rc = parse(&a, "sriov destroy", 'x', destroy_help, 1, -1, argc, argv);

	if (rc)
		return rc < 0 ? CLI_OK : rc;
	if (a.generation && a.nr_names > 1)
		return cli_usage(a.cmd, "a generation is of one PF");
	if (sriov_host_open(&h))
		return cli_fail("%s", vmplat_last_error());
	for (int i = 0; i < a.nr_names; i++) {
		int one = destroy_one(&a, &h, a.names[i]);

		rc = rc ? rc : one;
	}
	sriov_host_close(&h);
	return rc;
}

static int sriov_recover(int argc, char **argv)
{
	struct sriov_work *w = NULL;
	struct sriov_host h = { };
	struct args a;
	int rc = parse(&a, "sriov recover", 'r', recover_help, 0, 0, argc, argv);

	if (rc)
		return rc < 0 ? CLI_OK : rc;
	if (sriov_host_open(&h) || sriov_work_open(&w, &h, a.dir, (struct sriov_told) { NULL, told }))
		rc = cli_fail("%s", vmplat_last_error());
	sriov_work_close(w);
	sriov_host_close(&h);
	return rc;
}

int cmd_sriov(int argc, char **argv)
{
	static const struct cli_command verbs[] = {
		{ "show", "physical functions, and their VFs", sriov_show },
		{ "apply", "make VFs what a file says, all or nothing", sriov_apply },
		{ "diff", "what 'apply' would change", sriov_diff },
		{ "set", "change attributes of VFs", sriov_set },
		{ "destroy", "remove VFs", sriov_destroy },
		{ "recover", "undo what was interrupted", sriov_recover },
		{ }
	};

	return cli_dispatch("vmplat sriov", intro, verbs, argc, argv);
}
