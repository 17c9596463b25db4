// SPDX-License-Identifier: GPL-2.0-only
/*
 * vmplat restore: a VM that goes on where a snapshot was taken. It runs at once;
 * its memory comes on demand and in the background. Its disks are copied out of
 * the snapshot first, into files of the new VM.
 */
#include <errno.h>
#include <fcntl.h>
#include <getopt.h>
#include <json-c/json.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include <vmplat.h>

#include "cli.h"
#include "lib/write_all.h"
#include "run/client.h"
#include "run/config.h"
#include "run/fill.h"
#include "run/record.h"
#include "run/serve.h"
#include "run/vm_priv.h"
#include "store/store.h"

static const char help[] =
"usage: vmplat restore SNAPSHOT [OPTION]...\n"
"\n"
"Continue a guest where SNAPSHOT was taken. It runs at once, its memory follows on\n"
"demand. The next `vmplat vm snapshot` of it may be an increment on SNAPSHOT.\n"
"\n"
"  -s, --store DIR     default: $VMPLAT_STORE or " STORE_DEFAULT_DIR "\n"
"      --name NAME     of the VM; the old one's unless given\n"
"  -d, --disk FILE     where the next writable disk goes, instead of a file below\n"
"                      $VMPLAT_VM_DIR or /var/lib/vmplat/vms/NAME; must not exist\n"
"      --overwrite     but may\n"
"      --net WHERE     what the next network device is connected to now, instead of\n"
"                      what it was: a tap=NAME stays a tap, socket=PATH or passt one\n"
"                      of these two\n"
"      --cpu-affinity CPUS[:CPUS]...\n"
"                      where virtual CPUs run now: one list, or one for each\n"
"      --console WHERE stdio, none, or a file to append to\n"
"      --detach        go on in the background\n"
"      --paused        wait for `vmplat vm resume`\n"
"      --no-reboot     end when the guest resets itself\n";

enum { OPT_NAME = 256, OPT_NET, OPT_AFFINITY, OPT_OVERWRITE, OPT_CONSOLE, OPT_DETACH, OPT_PAUSED, OPT_NO_REBOOT };

static const struct option options[] = {
	{ "store", required_argument, NULL, 's' },
	{ "name", required_argument, NULL, OPT_NAME },
	{ "disk", required_argument, NULL, 'd' },
	{ "net", required_argument, NULL, OPT_NET },
	{ "cpu-affinity", required_argument, NULL, OPT_AFFINITY },
	{ "overwrite", no_argument, NULL, OPT_OVERWRITE },
	{ "console", required_argument, NULL, OPT_CONSOLE },
	{ "detach", no_argument, NULL, OPT_DETACH },
	{ "paused", no_argument, NULL, OPT_PAUSED },
	{ "no-reboot", no_argument, NULL, OPT_NO_REBOOT },
	{ "help", no_argument, NULL, 'h' },
	{ }
};

struct restore {
	const char *ref, *store_dir, *name, *console, *affinity;
	const char *disks[VM_DISKS_MAX];
	unsigned int nr_disks;
	const char *nets[VM_NETS_MAX];
	unsigned int nr_nets;
	bool overwrite, detach, paused, no_reboot, help;

	struct store *st;
	struct store_snap *snap;
	struct vm_config cfg;
	void *state;
	size_t state_len;
	struct filler *fillers[VM_MEMORIES_MAX];
};

/* ---- disks ----------------------------------------------------------------- */

static int make_dirs(char *path)
{
	for (char *p = path + 1; *p; p++) {
		if (*p != '/')
			continue;
		*p = 0;
		if (mkdir(path, 0700) && errno != EEXIST) {
			int err = errno;

			*p = '/';
			return -err;
		}
		*p = '/';
	}
	return 0;
}

/* where disk @i goes: as told, or into the VM's own directory */
static int disk_path(struct restore *r, unsigned int i, unsigned int writable, char **path)
{
	const char *dir = getenv("VMPLAT_VM_DIR");
	int ret;

	if (writable < r->nr_disks) {
		*path = strdup(r->disks[writable]);
		return *path ? CLI_OK : cli_fail("out of memory");
	}
	if (dir && *dir)
		ret = asprintf(path, "%s/%s/%s.raw", dir, r->cfg.name, r->cfg.disks[i].id);
	else
		ret = asprintf(path, "/var/lib/vmplat/vms/%s/%s.raw", r->cfg.name,
			       r->cfg.disks[i].id);
	if (ret < 0)
		return cli_fail("out of memory");
	ret = make_dirs(*path);
	return ret ? cli_fail("%s: %s", *path, strerror(-ret)) : CLI_OK;
}

static int copy_extent(struct store_image *img, const struct store_extent *e, int fd,
		       char *buf, size_t room, struct cli_progress *p)
{
	uint64_t off = e->off, end = e->off + e->len;

	while (e->kind == STORE_DATA && off < end) {
		size_t n = end - off < room ? (size_t)(end - off) : room;
		int ret = store_read(img, buf, off, n);

		if (ret)
			return cli_fail("%s", store_error());
		ret = pwrite_all(fd, buf, n, off);
		if (ret)
			return cli_fail("the disk's file: %s", strerror(-ret));
		off += n;
		cli_progress_set(p, off);
	}
	return CLI_OK;
}

static int copy_disk(struct store_image *img, int fd, const char *name)
{
	const size_t room = 1 << 20;
	char *buf = malloc(room);
	struct cli_progress p;
	struct store_extent e;
	uint64_t off = 0;
	int ret = 1, rc = CLI_OK;

	if (!buf)
		return cli_fail("out of memory");
	if (ftruncate(fd, (off_t)store_image_bytes(img))) {
		free(buf);
		return cli_fail("the disk's file: %s", strerror(errno));
	}
	cli_progress_start(&p, name, store_image_bytes(img));
	while (!rc && (ret = store_extent(img, off, &e)) == 1) {
		rc = copy_extent(img, &e, fd, buf, room, &p);
		off = e.off + e.len;
	}
	if (!rc && ret < 0)
		rc = cli_fail("%s", store_error());
	if (!rc)
		cli_progress_set(&p, store_image_bytes(img));
	cli_progress_end(&p, !rc);
	free(buf);
	return rc;
}

static int restore_disk(struct restore *r, unsigned int i, unsigned int writable)
{
	const char *name = r->cfg.disks[i].id;
	struct store_image *img = store_image(r->snap, name);
	char *path = NULL;
	int fd, rc;

	if (!img)
		return cli_fail("the snapshot has no %s (%s): it was taken without disks",
				name, store_error());
	rc = disk_path(r, i, writable, &path);
	if (rc)
		return rc;
	fd = open(path, O_RDWR | O_CREAT | O_CLOEXEC | (r->overwrite ? O_TRUNC : O_EXCL), 0600);
	if (fd < 0 && errno == EEXIST)
		rc = cli_fail("disk file %s is there already; give --disk another, or --overwrite to lose what it holds",
			      path);
	else if (fd < 0)
		rc = cli_fail("disk file %s: %s", path, strerror(errno));
	else
		rc = copy_disk(img, fd, name);
	if (fd >= 0)
		close(fd);
	if (!rc) {
		free(r->cfg.disks[i].path);
		r->cfg.disks[i].path = path;
		return CLI_OK;
	}
	free(path);
	return rc;
}

static int restore_disks(struct restore *r)
{
	unsigned int writable = 0;
	int rc = CLI_OK;

	for (unsigned int i = 0; i < r->cfg.nr_disks && !rc; i++)
		if (!r->cfg.disks[i].readonly)
			rc = restore_disk(r, i, writable++);
	if (!rc && r->nr_disks > writable)
		rc = cli_usage("restore", "%u times --disk, but the VM has %u writable disks",
			       r->nr_disks, writable);
	return rc;
}

/* ---- networks --------------------------------------------------------------- */

/* The guest has been promised offloads that only a tap has. */
static int restore_net(struct restore *r, unsigned int i)
{
	struct vm_net *to = &r->cfg.nets[i], from;
	const char *why = vm_net_parse(&from, r->nets[i]);

	if (!why && (*from.id || memcmp(from.mac, (uint8_t[6]){ 0 }, 6)))
		why = "a device keeps its id and its MAC";
	if (!why && (from.kind == VM_NET_TAP) != (to->kind == VM_NET_TAP))
		why = to->kind == VM_NET_TAP ? "it was on a tap, and must be on one again"
					     : "it was on no tap, and cannot be on one now";
	if (why) {
		free(from.where);
		return cli_usage("restore", "--net %s (%s): %s", r->nets[i], to->id, why);
	}
	free(to->where);
	to->kind = from.kind;
	to->where = from.where;
	return CLI_OK;
}

static int restore_nets(struct restore *r)
{
	int rc = CLI_OK;

	if (r->nr_nets > r->cfg.nr_nets)
		return cli_usage("restore", "%u times --net, but the VM has %u network devices",
				 r->nr_nets, r->cfg.nr_nets);
	for (unsigned int i = 0; i < r->nr_nets && !rc; i++)
		rc = restore_net(r, i);
	return rc;
}

/* ---- memory and state --------------------------------------------------------- */

static void filled(void *ctx, int err, const struct filler_stats *st)
{
	struct restore *r = ctx;
	char a[CLI_NUM_LEN], b[CLI_NUM_LEN];

	if (err || r->detach)
		return;
	cli_note("memory is complete: %s in %s, %llu pages on demand\r",
		 cli_show_bytes(st->nr_filled * 4096, a), cli_show_ns(st->elapsed_ns, b),
		 (unsigned long long)st->nr_demanded);
}

static int fill_memory(struct restore *r, struct vm *vm, const struct vm_memory *m,
		       struct filler **f)
{
	struct store_image *image = store_image(r->snap, m->name);

	if (!image)
		return vm_error(vm, -EBADMSG, "the snapshot lacks memory '%s': %s", m->name,
				store_error());
	return filler_start(f, vm, m, image, filled, r);
}

/* should it die, this is what it can be restored from again */
static void tell_origin(struct restore *r, struct vm *vm)
{
	const struct store_info *si = store_snap_info(r->snap);
	struct json_object *o = json_object_new_object();
	char hex[STORE_ID_CHARS + 1];
	char *dir = r->store_dir ? realpath(r->store_dir, NULL) : NULL;

	store_id_to_hex(si->id, hex);
	json_object_object_add(o, "name", json_object_new_string(r->ref));
	json_object_object_add(o, "id", json_object_new_string(hex));
	if (dir)
		json_object_object_add(o, "store", json_object_new_string(dir));
	record_latest(vm->record, o);
	json_object_put(o);
	free(dir);
}

/*
 * The logs are labelled before the first vCPU runs: from here on they hold exactly
 * what changes since the snapshot.
 */
static int prepare(struct vm *vm, void *ctx)
{
	struct vm_memory list[VM_MEMORIES_MAX];
	unsigned int nr = vm_memories(vm, list);
	struct restore *r = ctx;
	int ret = 0;

	for (unsigned int i = 0; i < nr && !ret; i++)
		ret = fill_memory(r, vm, &list[i], &r->fillers[i]);
	if (!ret)
		ret = vm_load(vm, r->state, r->state_len, true);
	for (unsigned int i = 0; i < nr && !ret; i++)
		if (list[i].log && vmplat_log_commit(list[i].log, store_snap_info(r->snap)->id))
			vm_notice(vm, "the next snapshot has to be a full one: %s",
				  vmplat_last_error());
	tell_origin(r, vm);
	return ret;
}

static void finish(struct vm *vm, void *ctx)
{
	struct restore *r = ctx;

	for (unsigned int i = 0; i < VM_MEMORIES_MAX; i++) {
		filler_stop(r->fillers[i]);
		r->fillers[i] = NULL;
	}
}

/* ---- the snapshot ---------------------------------------------------------------- */

static int open_snapshot(struct restore *r)
{
	struct json_object *vm;
	const char *why;
	int ret;

	if (!strchr(r->ref, '/') && store_open(&r->st, r->store_dir, 0))
		return cli_fail("%s", store_error());
	if (store_snap_open(&r->snap, r->st, r->ref))
		return cli_fail("%s", store_error());
	if (!store_image(r->snap, "memory") || store_state(r->snap, &r->state, &r->state_len))
		return cli_fail("'%s' is no snapshot of a VM: %s", r->ref, store_error());
	vm = json_tokener_parse(store_snap_info(r->snap)->vm ? store_snap_info(r->snap)->vm : "");
	ret = vm_config_from_json(&r->cfg, vm, &why);
	json_object_put(vm);
	if (ret)
		return cli_fail("'%s' does not say what VM it is of: %s", r->ref, why);
	return CLI_OK;
}

static int configure(struct restore *r)
{
	const char *why;

	if (r->name) {
		free(r->cfg.name);
		r->cfg.name = strdup(r->name);
	}
	if (r->affinity) {
		r->cfg.affinity = strdup(r->affinity);
		if (!r->cfg.affinity)
			return cli_fail("out of memory");
	}
	r->cfg.no_reboot = r->no_reboot;
	why = vm_config_check(&r->cfg);
	return why ? cli_usage("restore", "%s", why) : CLI_OK;
}

/* the name must be free before its disks are written */
static int check_name(struct restore *r)
{
	struct vm_client *c;

	if (vm_client_open(&c, r->cfg.name))
		return CLI_OK;
	vm_client_close(c);
	return cli_fail("a VM called '%s' is running already; give this one another --name", r->cfg.name);
}

static int serve(struct restore *r)
{
	struct serve_opts o = {
		.console = r->console, .detach = r->detach, .paused = r->paused,
		.prepare = prepare, .finish = finish, .ctx = r,
	};
	char file[200], err[600] = "";

	if (!o.console && r->detach && vm_run_dir()) {
		snprintf(file, sizeof(file), "%s/%s.log", vm_run_dir(), r->cfg.name);
		o.console = file;
	}
	if (!o.console)
		o.console = "stdio";
	return serve_vm(&r->cfg, &o, err, sizeof(err)) ? cli_fail("%s", err) : CLI_OK;
}

static int parse_option(struct restore *r, int opt, char **argv)
{
	switch (opt) {
	case 's':
		r->store_dir = optarg;
		return CLI_OK;
	case OPT_NAME:
		r->name = optarg;
		return CLI_OK;
	case 'd':
		if (r->nr_disks == VM_DISKS_MAX)
			return cli_usage("restore", "more than %d disks", VM_DISKS_MAX);
		r->disks[r->nr_disks++] = optarg;
		return CLI_OK;
	case OPT_NET:
		if (r->nr_nets == VM_NETS_MAX)
			return cli_usage("restore", "more than %d network devices", VM_NETS_MAX);
		r->nets[r->nr_nets++] = optarg;
		return CLI_OK;
	case OPT_AFFINITY:
		r->affinity = optarg;
		return CLI_OK;
	case OPT_OVERWRITE:
		r->overwrite = true;
		return CLI_OK;
	case OPT_CONSOLE:
		r->console = optarg;
		return CLI_OK;
	case OPT_DETACH:
		r->detach = true;
		return CLI_OK;
	case OPT_PAUSED:
		r->paused = true;
		return CLI_OK;
	case OPT_NO_REBOOT:
		r->no_reboot = true;
		return CLI_OK;
	case 'h':
		r->help = true;
		return CLI_OK;
	default:
		return cli_bad_option("restore", opt, argv);
	}
}

int cmd_restore(int argc, char **argv)
{
	struct restore r = { 0 };
	int opt, rc = CLI_OK;

	opterr = 0;
	while (!rc && !r.help && (opt = getopt_long(argc, argv, "s:d:h", options, NULL)) != -1)
		rc = parse_option(&r, opt, argv);
	if (rc || r.help)
		return rc ? rc : cli_help(help);
	if (argc - optind != 1)
		return cli_usage("restore", argc > optind ? "'%s' is one word too many"
							  : "which snapshot? `vmplat snap list` names them%s",
				 argc > optind ? argv[optind + 1] : "");
	if (r.detach && r.console && !strcmp(r.console, "stdio"))
		return cli_usage("restore", "--detach lets go of the terminal: give --console a file, or none");
	r.ref = argv[optind];
	rc = open_snapshot(&r);
	if (!rc)
		rc = configure(&r);
	if (!rc)
		rc = check_name(&r);
	if (!rc)
		rc = restore_nets(&r);
	if (!rc)
		rc = restore_disks(&r);
	if (!rc)
		rc = serve(&r);
	free(r.state);
	store_snap_close(r.snap);
	store_close(r.st);
	vm_config_free(&r.cfg);
	return rc;
}
