// SPDX-License-Identifier: GPL-2.0-only
/* vmplat snap: look at stored snapshots, check, export and remove them. */
#include <errno.h>
#include <fcntl.h>
#include <getopt.h>
#include <inttypes.h>
#include <signal.h>
#include <stdatomic.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <time.h>
#include <unistd.h>

#include <json-c/json.h>

#include "cli.h"
#include "store/store.h"

/* ---- what the verbs share ---------------------------------------------- */

struct args {
	const char *store_dir, *image, *raw, *base, *codec;
	int level;
	uint64_t threads;
	bool json, all, dry_run;
	char **names;
	int nr_names;
};

/* CLI_OK, CLI_USAGE, or -1 when help was printed. */
static int parse(struct args *a, const char *cmd, const char *help, int argc, char **argv)
{
	static const struct option longopts[] = {
		{ "store", required_argument, NULL, 's' },
		{ "json", no_argument, NULL, 'j' },
		{ "all", no_argument, NULL, 'a' },
		{ "dry-run", no_argument, NULL, 'n' },
		{ "image", required_argument, NULL, 'i' },
		{ "raw", required_argument, NULL, 'r' },
		{ "base", required_argument, NULL, 'b' },
		{ "codec", required_argument, NULL, 'c' },
		{ "level", required_argument, NULL, 'l' },
		{ "threads", required_argument, NULL, 't' },
		{ "help", no_argument, NULL, 'h' },
		{ }
	};
	char *end;
	int c, rc;

	memset(a, 0, sizeof(*a));
	opterr = 0;
	optind = 0;
	while ((c = getopt_long(argc, argv, ":s:ani:b:c:l:t:h", longopts, NULL)) >= 0) {
		switch (c) {
		case 'b': a->base = optarg; break;
		case 'c': a->codec = optarg; break;
		case 'l':
			a->level = strtol(optarg, &end, 10);
			if (!*optarg || *end)
				return cli_usage(cmd, "level '%s' is not a number", optarg);
			break;
		case 't':
			rc = cli_parse_u64(cmd, "--threads", optarg, 1, 256, &a->threads);
			if (rc)
				return rc;
			break;
		case 's': a->store_dir = optarg; break;
		case 'j': a->json = true; break;
		case 'a': a->all = true; break;
		case 'n': a->dry_run = true; break;
		case 'i': a->image = optarg; break;
		case 'r': a->raw = optarg; break;
		case 'h': cli_help(help); return -1;
		default: return cli_bad_option(cmd, c, argv);
		}
	}
	a->names = argv + optind;
	a->nr_names = argc - optind;
	return CLI_OK;
}

static int open_store(struct store **st, const struct args *a)
{
	return store_open(st, a->store_dir, 0) ? cli_fail("%s", store_error()) : CLI_OK;
}

/* A name is looked up in the store; a path brings its own. */
static int open_snap(struct store_snap **snap, struct store *st, const char *ref)
{
	return store_snap_open(snap, st, ref) ? cli_fail("%s", store_error()) : CLI_OK;
}

static const char *show_time(uint64_t ns, char buf[CLI_NUM_LEN])
{
	time_t t = ns / 1000000000;
	struct tm tm;

	localtime_r(&t, &tm);
	strftime(buf, CLI_NUM_LEN, "%Y-%m-%d %H:%M:%S", &tm);
	return buf;
}

static struct json_object *hex_json(const uint8_t *id)
{
	char hex[STORE_ID_CHARS + 1];

	store_id_to_hex(id, hex);
	return json_object_new_string(hex);
}

static void add_u64(struct json_object *o, const char *key, uint64_t v)
{
	json_object_object_add(o, key, json_object_new_uint64(v));
}

static struct json_object *image_json(const struct store_image_info *ii)
{
	struct json_object *o = json_object_new_object();

	json_object_object_add(o, "name", json_object_new_string(ii->name));
	add_u64(o, "bytes", ii->bytes);
	add_u64(o, "stored_bytes", ii->stored_bytes);
	add_u64(o, "data_pages", ii->data_pages);
	add_u64(o, "zero_pages", ii->zero_pages);
	add_u64(o, "hole_pages", ii->hole_pages);
	add_u64(o, "own_data_pages", ii->own_data_pages);
	add_u64(o, "own_zero_pages", ii->own_zero_pages);
	json_object_object_add(o, "codec", json_object_new_string(store_codec_name(ii->codec)));
	json_object_object_add(o, "level", json_object_new_int(ii->level));
	json_object_object_add(o, "inherits", json_object_new_boolean(ii->inherits));
	return o;
}

static struct json_object *snap_json(const struct store_info *si)
{
	struct json_object *o = json_object_new_object(), *images = json_object_new_array();

	json_object_object_add(o, "name", json_object_new_string(si->name));
	json_object_object_add(o, "id", hex_json(si->id));
	json_object_object_add(o, "root", hex_json(si->root));
	json_object_object_add(o, "parent", si->has_parent ? hex_json(si->parent) : NULL);
	json_object_object_add(o, "ancestors", json_object_new_int(si->nr_ancestors));
	add_u64(o, "created_ns", si->created_ns);
	add_u64(o, "pause_ns", si->pause_ns);
	add_u64(o, "state_bytes", si->state_bytes);
	add_u64(o, "stored_bytes", si->stored_bytes);
	for (unsigned int i = 0; i < si->nr_images; i++)
		json_object_array_add(images, image_json(si->images + i));
	json_object_object_add(o, "images", images);
	json_object_object_add(o, "vm", json_tokener_parse(si->vm));
	return o;
}

/* Pages stored in this snapshot, uncompressed. */
static uint64_t own_bytes(const struct store_info *si)
{
	uint64_t pages = 0;

	for (unsigned int i = 0; i < si->nr_images; i++)
		pages += si->images[i].own_data_pages;
	return pages * STORE_PAGE_BYTES;
}

static uint64_t image_bytes(const struct store_info *si)
{
	uint64_t bytes = 0;

	for (unsigned int i = 0; i < si->nr_images; i++)
		bytes += si->images[i].bytes;
	return bytes;
}

static const char *show_ratio(uint64_t raw, uint64_t stored, char buf[CLI_NUM_LEN])
{
	if (raw && stored)
		snprintf(buf, CLI_NUM_LEN, "%.2f", (double)raw / stored);
	else
		snprintf(buf, CLI_NUM_LEN, "-");
	return buf;
}

/* ---- list -------------------------------------------------------------- */

static const char list_help[] =
"usage: vmplat snap list [--store DIR] [--json]\n"
"\n"
"The snapshots of a store, increments below what they build on.\n"
"\n"
"  IMAGES  length of memory and disks        DATA   changed pages stored here\n"
"  STORED  what they take on disk            RATIO  DATA / STORED\n";

static void told_broken(void *ctx, const char *dir, const char *why)
{
	unsigned int *nr = ctx;

	(*nr)++;
	cli_warn("not a usable snapshot: %s", why);
}

static void list_row(struct cli_table *t, const struct store_info *si, unsigned int depth)
{
	char a[CLI_NUM_LEN], b[CLI_NUM_LEN], c[CLI_NUM_LEN], d[CLI_NUM_LEN], e[CLI_NUM_LEN];

	if (depth > 20)		/* a long chain is no tree worth drawing */
		cli_cell(t, "%*s(%u) %s", 40, "", depth, si->name);
	else
		cli_cell(t, "%*s%s%s", depth ? 2 * (int)(depth - 1) : 0, "", depth ? "\\ " : "",
			 si->name);
	cli_cell(t, "%s", show_time(si->created_ns, a));
	cli_cell(t, "%s", cli_show_bytes(image_bytes(si), b));
	cli_cell(t, "%s", cli_show_bytes(own_bytes(si), c));
	cli_cell(t, "%s", cli_show_bytes(si->stored_bytes, d));
	cli_cell(t, "%s", show_ratio(own_bytes(si), si->stored_bytes, e));
	cli_cell(t, "%s", cli_show_ns(si->pause_ns, a));
}

/* Depth first without recursion: a chain may be thousands long. */
static void list_tree(struct cli_table *t, const struct store_info *l, size_t nr)
{
	size_t *stack = calloc(nr + 1, sizeof(*stack)), top = 0;
	unsigned int *depth = calloc(nr + 1, sizeof(*depth));
	bool *queued = calloc(nr + 1, sizeof(*queued));

	for (size_t root = 0; stack && depth && queued && root < nr; root++) {
		bool orphan = true;

		for (size_t i = 0; i < nr && l[root].has_parent && orphan; i++)
			orphan = memcmp(l[i].id, l[root].parent, STORE_ID_BYTES);
		if (!orphan || queued[root])
			continue;
		queued[root] = true;
		stack[top++] = root;
		while (top) {
			size_t me = stack[--top];

			list_row(t, l + me, depth[me]);
			for (size_t i = nr; i-- > 0; )
				if (!queued[i] && l[i].has_parent &&
				    !memcmp(l[i].parent, l[me].id, STORE_ID_BYTES)) {
					queued[i] = true;
					depth[i] = depth[me] + 1;
					stack[top++] = i;
				}
		}
	}
	free(stack);
	free(depth);
	free(queued);
}

static int snap_list(int argc, char **argv)
{
	static const char *const heads[] = { "NAME", "CREATED", "IMAGES", "DATA", "STORED",
					     "RATIO", "PAUSE", NULL };
	unsigned int nr_broken = 0;
	struct store_info *l;
	struct json_object *o;
	struct cli_table *t;
	struct store *st;
	struct args a;
	size_t nr;
	int rc;

	rc = parse(&a, "snap list", list_help, argc, argv);
	if (rc)
		return rc < 0 ? CLI_OK : rc;
	if (a.nr_names)
		return cli_usage("snap list", "it takes no name; 'snap show' does");
	rc = open_store(&st, &a);
	if (rc)
		return rc;
	if (store_list(st, &l, &nr, told_broken, &nr_broken)) {
		store_close(st);
		return cli_fail("%s", store_error());
	}
	if (a.json) {
		o = json_object_new_array();
		for (size_t i = 0; i < nr; i++)
			json_object_array_add(o, snap_json(l + i));
		rc = cli_json(o);
	} else if (!nr) {
		printf("no snapshots in %s\n", store_path(st));
	} else {
		t = cli_table_new("<<>>>>>", heads);
		list_tree(t, l, nr);
		cli_table_print(t);
	}
	store_list_free(l, nr);
	store_close(st);
	return rc ? rc : nr_broken ? CLI_FAILED : CLI_OK;
}

/* ---- show -------------------------------------------------------------- */

static const char show_help[] =
"usage: vmplat snap show [--store DIR] [--json] NAME\n"
"\n"
"All about one snapshot. NAME is a name, an id, or the path of a snapshot's\n"
"directory.\n";

static void show_text(const struct store_info *si)
{
	static const char *const heads[] = { "IMAGE", "LENGTH", "DATA", "ZERO", "HOLE", "OWN DATA",
					     "STORED", "RATIO", "CODEC", NULL };
	char hex[STORE_ID_CHARS + 1], b[CLI_NUM_LEN];
	struct cli_table *t;

	store_id_to_hex(si->id, hex);
	printf("name     %s\nid       %s\n", si->name, hex);
	store_id_to_hex(si->root, hex);
	printf("root     %s\n", hex);
	if (si->has_parent) {
		store_id_to_hex(si->parent, hex);
		printf("parent   %s (%u in the chain below)\n", hex, si->nr_ancestors);
	}
	printf("created  %s\n", show_time(si->created_ns, b));
	printf("pause    %s\n", cli_show_ns(si->pause_ns, b));
	printf("state    %s\n", cli_show_bytes(si->state_bytes, b));
	printf("stored   %s\n", cli_show_bytes(si->stored_bytes, b));
	printf("vm       %s\n\n", si->vm);
	t = cli_table_new("<>>>>>>><", heads);
	for (unsigned int i = 0; i < si->nr_images; i++) {
		const struct store_image_info *ii = si->images + i;

		cli_cell(t, "%s", ii->name);
		cli_cell(t, "%s", cli_show_bytes(ii->bytes, b));
		cli_cell(t, "%s", cli_show_bytes(ii->data_pages * STORE_PAGE_BYTES, b));
		cli_cell(t, "%s", cli_show_bytes(ii->zero_pages * STORE_PAGE_BYTES, b));
		cli_cell(t, "%s", cli_show_bytes(ii->hole_pages * STORE_PAGE_BYTES, b));
		cli_cell(t, "%s", cli_show_bytes(ii->own_data_pages * STORE_PAGE_BYTES, b));
		cli_cell(t, "%s", cli_show_bytes(ii->stored_bytes, b));
		cli_cell(t, "%s", show_ratio(ii->own_data_pages * STORE_PAGE_BYTES,
					     ii->stored_bytes, b));
		cli_cell(t, "%s", store_codec_name(ii->codec));
	}
	cli_table_print(t);
}

static int snap_show(int argc, char **argv)
{
	struct store *st = NULL;
	struct store_snap *snap;
	struct args a;
	int rc;

	rc = parse(&a, "snap show", show_help, argc, argv);
	if (rc)
		return rc < 0 ? CLI_OK : rc;
	if (a.nr_names != 1)
		return cli_usage("snap show", "it takes the name of one snapshot");
	if (!strchr(a.names[0], '/'))
		rc = open_store(&st, &a);
	if (!rc)
		rc = open_snap(&snap, st, a.names[0]);
	store_close(st);
	if (rc)
		return rc;
	if (a.json)
		rc = cli_json(snap_json(store_snap_info(snap)));
	else
		show_text(store_snap_info(snap));
	store_snap_close(snap);
	return rc;
}

/* ---- verify ------------------------------------------------------------ */

static const char verify_help[] =
"usage: vmplat snap verify [--store DIR] [--json] NAME...\n"
"       vmplat snap verify [--store DIR] [--json] --all\n"
"\n"
"Read every byte of the snapshots and of those they build on, and compare it with\n"
"its checksum. Fails if anything is damaged or missing, and says what.\n";

static atomic_bool cancelled;

static void on_signal(int sig)
{
	atomic_store(&cancelled, true);
}

static void on_progress(void *ctx, const struct store_progress *p)
{
	struct cli_progress *shown = ctx;

	shown->total = p->total_bytes;
	cli_progress_set(shown, p->done_bytes);
}

struct verify {
	struct cli_progress progress;
	struct json_object *result;
};

static int verify_one(struct verify *v, struct store *st, const char *name, bool own_only)
{
	struct store_verify_opts o = { .progress = on_progress, .ctx = &v->progress,
				       .cancel = &cancelled, .no_ancestors = own_only };
	struct store_snap *snap;
	struct json_object *r;
	int err;

	cli_progress_start(&v->progress, name, 0);
	err = store_snap_open(&snap, st, name);
	if (!err) {
		err = store_verify(snap, &o);
		store_snap_close(snap);
	}
	if (v->progress.live)
		fprintf(stderr, "\r\033[K");
	if (v->result) {
		r = json_object_new_object();
		json_object_object_add(r, "name", json_object_new_string(name));
		json_object_object_add(r, "ok", json_object_new_boolean(!err));
		if (err)
			json_object_object_add(r, "error", json_object_new_string(store_error()));
		json_object_array_add(v->result, r);
	} else if (!err) {
		printf("%s: good\n", name);
	}
	if (err)
		cli_fail("%s: %s", name, store_error());
	return err ? CLI_FAILED : CLI_OK;
}

/* Each snapshot's own files once, rather than each chain again and again. */
static int verify_all(struct verify *v, struct store *st)
{
	unsigned int nr_broken = 0;
	struct store_info *l;
	size_t nr;
	int rc = CLI_OK;

	if (store_list(st, &l, &nr, told_broken, &nr_broken))
		return cli_fail("%s", store_error());
	for (size_t i = 0; i < nr && !atomic_load(&cancelled); i++)
		rc |= verify_one(v, st, l[i].name, true);
	store_list_free(l, nr);
	return rc || nr_broken || atomic_load(&cancelled) ? CLI_FAILED : CLI_OK;
}

static int snap_verify(int argc, char **argv)
{
	struct store *st = NULL;
	struct verify v = { };
	struct args a;
	int rc;

	rc = parse(&a, "snap verify", verify_help, argc, argv);
	if (rc)
		return rc < 0 ? CLI_OK : rc;
	if (!a.nr_names == !a.all)
		return cli_usage("snap verify", "it takes names of snapshots, or --all");
	if (a.all || !strchr(a.names[0], '/')) {
		rc = open_store(&st, &a);
		if (rc)
			return rc;
	}
	signal(SIGINT, on_signal);
	if (a.json)
		v.result = json_object_new_array();
	if (a.all)
		rc = verify_all(&v, st);
	for (int i = 0; i < a.nr_names && !atomic_load(&cancelled); i++)
		rc |= verify_one(&v, st, a.names[i], false);
	store_close(st);
	if (v.result)
		rc |= cli_json(v.result);
	return rc;
}

/* ---- rm, gc ------------------------------------------------------------ */

static const char rm_help[] =
"usage: vmplat snap rm [--store DIR] NAME...\n"
"\n"
"Remove snapshots. One that others build on, or that is being read, stays.\n";

static int snap_rm(int argc, char **argv)
{
	struct store *st;
	struct args a;
	int rc;

	rc = parse(&a, "snap rm", rm_help, argc, argv);
	if (rc)
		return rc < 0 ? CLI_OK : rc;
	if (!a.nr_names)
		return cli_usage("snap rm", "it takes names of snapshots");
	rc = open_store(&st, &a);
	if (rc)
		return rc;
	for (int i = 0; i < a.nr_names; i++)
		if (store_remove(st, a.names[i]))
			rc = cli_fail("%s", store_error());
	store_close(st);
	return rc;
}

static const char gc_help[] =
"usage: vmplat snap gc [--store DIR] [--dry-run] [--json]\n"
"\n"
"Remove what writers that died and interrupted removals left behind.\n"
"\n"
"  -n, --dry-run   only say how much it is\n";

static int snap_gc(int argc, char **argv)
{
	char b[CLI_NUM_LEN];
	struct json_object *o;
	struct store *st;
	unsigned int nr;
	uint64_t bytes;
	struct args a;
	int rc;

	rc = parse(&a, "snap gc", gc_help, argc, argv);
	if (rc)
		return rc < 0 ? CLI_OK : rc;
	if (a.nr_names)
		return cli_usage("snap gc", "it takes no names");
	rc = open_store(&st, &a);
	if (rc)
		return rc;
	if (store_gc(st, a.dry_run, &nr, &bytes))
		rc = cli_fail("%s", store_error());
	store_close(st);
	if (rc)
		return rc;
	if (!a.json) {
		printf("%u unfinished snapshot%s, %s%s\n", nr, nr == 1 ? "" : "s",
		       cli_show_bytes(bytes, b), a.dry_run ? "" : ", removed");
		return CLI_OK;
	}
	o = json_object_new_object();
	json_object_object_add(o, "unfinished", json_object_new_int(nr));
	add_u64(o, "bytes", bytes);
	json_object_object_add(o, "removed", json_object_new_boolean(!a.dry_run));
	return cli_json(o);
}

/* ---- export ------------------------------------------------------------ */

static const char export_help[] =
"usage: vmplat snap export [--store DIR] [--image IMAGE] --raw FILE NAME\n"
"\n"
"Write an image of a snapshot (memory unless --image says which) to FILE as it\n"
"is, byte by byte; what is zero is a hole. FILE must not exist.\n";

#define EXPORT_CHUNK	(1U << 20)

static int export_extent(struct store_image *img, int fd, const struct store_extent *e, void *buf,
			 struct cli_progress *p)
{
	for (uint64_t done = 0; done < e->len; ) {
		size_t n = e->len - done < EXPORT_CHUNK ? e->len - done : EXPORT_CHUNK;

		if (atomic_load(&cancelled))
			return cli_fail("interrupted");
		if (store_read(img, buf, e->off + done, n))
			return cli_fail("%s", store_error());
		for (size_t k = 0; k < n; ) {
			ssize_t w = pwrite(fd, (char *)buf + k, n - k, e->off + done + k);

			if (w <= 0)
				return cli_fail("cannot write: %s", strerror(w ? errno : ENOSPC));
			k += w;
		}
		done += n;
		cli_progress_set(p, e->off + done);
	}
	return CLI_OK;
}

static int export_to(struct store_image *img, int fd, const char *file)
{
	struct cli_progress p;
	struct store_extent e;
	uint64_t off = 0;
	void *buf = malloc(EXPORT_CHUNK);
	int rc = CLI_OK, more;

	if (!buf)
		return cli_fail("out of memory");
	cli_progress_start(&p, file, store_image_bytes(img));
	while (!rc && (more = store_extent(img, off, &e)) == 1) {
		if (e.kind == STORE_DATA)
			rc = export_extent(img, fd, &e, buf, &p);
		off = e.off + e.len;
		cli_progress_set(&p, off);
	}
	free(buf);
	if (!rc && more < 0)
		rc = cli_fail("%s", store_error());
	if (!rc && (ftruncate(fd, store_image_bytes(img)) || fsync(fd)))
		rc = cli_fail("%s: %s", file, strerror(errno));
	cli_progress_end(&p, !rc);
	return rc;
}

static int export_image(struct store_snap *snap, const struct args *a)
{
	struct store_image *img = store_image(snap, a->image ? a->image : "memory");
	int fd, rc;

	if (!img)
		return cli_fail("%s", store_error());
	fd = open(a->raw, O_WRONLY | O_CREAT | O_EXCL | O_CLOEXEC, 0600);
	if (fd < 0)
		return cli_fail("cannot create %s: %s", a->raw, strerror(errno));
	rc = export_to(img, fd, a->raw);
	close(fd);
	if (rc)
		unlink(a->raw);
	return rc;
}

static int snap_export(int argc, char **argv)
{
	struct store *st = NULL;
	struct store_snap *snap;
	struct args a;
	int rc;

	rc = parse(&a, "snap export", export_help, argc, argv);
	if (rc)
		return rc < 0 ? CLI_OK : rc;
	if (a.nr_names != 1 || !a.raw)
		return cli_usage("snap export", "it takes --raw FILE and the name of one snapshot");
	if (!strchr(a.names[0], '/'))
		rc = open_store(&st, &a);
	if (!rc)
		rc = open_snap(&snap, st, a.names[0]);
	store_close(st);
	if (rc)
		return rc;
	signal(SIGINT, on_signal);
	rc = export_image(snap, &a);
	store_snap_close(snap);
	return rc;
}

/* ---- import ------------------------------------------------------------ */

static const char import_help[] =
"usage: vmplat snap import [OPTION...] --raw FILE NAME\n"
"\n"
"Store FILE as the image of a new snapshot NAME: a copy of a guest's memory (of\n"
"'vmplat view', say), or a disk that nobody writes. Its holes stay holes.\n"
"\n"
"  -i, --image IMAGE   what it is; default: memory\n"
"  -b, --base SNAP     store only the pages that differ from SNAP's\n"
"  -c, --codec CODEC   zstd (default), lz4 or none\n"
"  -l, --level N       of the codec; default: its fast one\n"
"  -t, --threads N     that compress; default: one a CPU, at most 8\n"
"  -s, --store DIR     default: $VMPLAT_STORE or " STORE_DEFAULT_DIR "\n";

static int import_from(struct store *st, const struct args *a, int fd,
		       struct store_create_opts *o)
{
	struct store_add_opts add = { .source = a->base ? STORE_SRC_COMPARE : STORE_SRC_FULL };
	struct cli_progress p;
	struct store_writer *w;
	int err;

	o->progress = on_progress;
	o->ctx = &p;
	o->cancel = &cancelled;
	if (store_create(&w, st, o))
		return cli_fail("%s", store_error());
	cli_progress_start(&p, a->raw, 0);
	err = store_add_image(w, a->image ? a->image : "memory", fd, &add);
	if (err)
		store_abort(w);
	else
		err = store_commit(w);
	cli_progress_end(&p, !err);
	return err ? cli_fail("%s: %s", a->raw, store_error()) : CLI_OK;
}

static int snap_import(int argc, char **argv)
{
	struct store_create_opts o = { .codec = STORE_CODEC_ZSTD };
	struct store *st;
	struct args a;
	int rc, fd;

	rc = parse(&a, "snap import", import_help, argc, argv);
	if (rc)
		return rc < 0 ? CLI_OK : rc;
	if (a.nr_names != 1 || !a.raw)
		return cli_usage("snap import", "it takes --raw FILE and a name for the snapshot");
	if (a.codec && store_codec_parse(&o.codec, a.codec))
		return cli_usage("snap import", "%s", store_error());
	o.name = a.names[0];
	o.parent = a.base;
	o.level = a.level;
	o.threads = a.threads;
	fd = open(a.raw, O_RDONLY | O_CLOEXEC);
	if (fd < 0)
		return cli_fail("cannot open %s: %s", a.raw, strerror(errno));
	signal(SIGINT, on_signal);
	rc = store_open(&st, a.store_dir, STORE_OPEN_CREATE) ? cli_fail("%s", store_error()) :
							       CLI_OK;
	if (!rc) {
		rc = import_from(st, &a, fd, &o);
		store_close(st);
	}
	close(fd);
	return rc;
}

/* ---- the table --------------------------------------------------------- */

static const char intro[] =
"usage: vmplat snap VERB [ARGUMENT...]\n"
"\n"
"Stored snapshots. The store is --store DIR, or else $VMPLAT_STORE, or else\n"
STORE_DEFAULT_DIR ".\n";

static const struct cli_command verbs[] = {
	{ "list",	"snapshots, increments below what they build on",	snap_list },
	{ "show",	"all about one snapshot",				snap_show },
	{ "verify",	"read everything and compare checksums",		snap_verify },
	{ "rm",		"remove snapshots that nobody needs",			snap_rm },
	{ "gc",		"remove what dead writers left",			snap_gc },
	{ "export",	"write memory or a disk to a plain file",		snap_export },
	{ "import",	"store a plain file as a snapshot's memory or disk",	snap_import },
	{ }
};

int cmd_snap(int argc, char **argv)
{
	return cli_dispatch("vmplat snap", intro, verbs, argc, argv);
}
