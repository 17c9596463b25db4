// SPDX-License-Identifier: GPL-2.0-only
/* vmplat iso: look into optical disc images, and take files out of them. */
#include <errno.h>
#include <fcntl.h>
#include <getopt.h>
#include <inttypes.h>
#include <stdlib.h>
#include <string.h>
#include <sys/sendfile.h>
#include <sys/stat.h>
#include <time.h>
#include <unistd.h>

#include <json-c/json.h>
#include <vmplat.h>

#include "iso.h"
#include "lib/write_all.h"

/* ---- what the verbs share ---------------------------------------------- */

static int parse_tree(const char *verb, const char *word, enum vmplat_iso_tree *tree)
{
	const char *names[VMPLAT_ISO_NR_TREES + 1] = { NULL }, *near;

	for (int i = 0; i < VMPLAT_ISO_NR_TREES; i++) {
		names[i] = vmplat_iso_tree_name(i);
		if (!strcmp(word, names[i])) {
			*tree = i;
			return CLI_OK;
		}
	}
	near = cli_nearest(word, names);
	return cli_usage(verb, "--tree: '%s' is none of rr, joliet, iso, udf, 1999, efi, auto%s%s%s", word,
			 near ? "; did you mean '" : "", near ? near : "", near ? "'?" : "");
}

int iso_parse(struct iso_args *a, const char *verb, const char *help, const char *letters,
	      int argc, char **argv)
{
	static const struct option longopts[] = {
		{ "tree", required_argument, NULL, 't' },
		{ "json", no_argument, NULL, 'j' },
		{ "all", no_argument, NULL, 'a' },
		{ "recursive", no_argument, NULL, 'R' },
		{ "long", no_argument, NULL, 'l' },
		{ "directory", required_argument, NULL, 'C' },
		{ "overwrite", no_argument, NULL, 'f' },
		{ "owner", no_argument, NULL, 'o' },
		{ "quiet", no_argument, NULL, 'q' },
		{ "entries", no_argument, NULL, 'e' },
		{ "help", no_argument, NULL, 'h' },
		{ }
	};
	int c, rc;

	memset(a, 0, sizeof(*a));
	a->verb = verb;
	opterr = 0;
	optind = 0;
	while ((c = getopt_long(argc, argv, ":t:jaRlC:foqeh", longopts, NULL)) >= 0) {
		if (c != ':' && c != '?' && c != 'h' && c != 't' && c != 'j' && !strchr(letters, c))
			return cli_usage(verb, "option '%s' is not for this verb", argv[optind - 1]);
		switch (c) {
		case 't':
			rc = parse_tree(verb, optarg, &a->tree);
			if (rc)
				return rc;
			break;
		case 'j': a->json = true; break;
		case 'a': a->all = true; break;
		case 'R': a->recursive = true; break;
		case 'l': a->verbose = true; break;
		case 'C': a->into = optarg; break;
		case 'f': a->overwrite = true; break;
		case 'o': a->owner = true; break;
		case 'q': a->quiet = true; break;
		case 'e': a->entries = true; break;
		case 'h': cli_help(help); return -1;
		default: return cli_bad_option(verb, c, argv);
		}
	}
	if (optind == argc)
		return cli_usage(verb, "an IMAGE is needed");
	a->image = argv[optind++];
	a->paths = argv + optind;
	a->nr_paths = argc - optind;
	return CLI_OK;
}

static void on_issue(void *ctx, const struct vmplat_iso_issue *issue)
{
	struct iso_args *a = ctx;

	if (issue->severity != VMPLAT_ISO_ERROR)
		return;
	a->nr_errors++;
	cli_warn("%s: %s%s%s (%s, at offset %" PRIu64 ")", a->image, issue->path ? issue->path : "",
		 issue->path ? ": " : "", issue->text, issue->name, issue->offset);
}

void iso_listen(struct iso_args *a, bool on)
{
	vmplat_iso_on_issue(a->iso, on ? on_issue : NULL, a);
}

int iso_open_image(struct iso_args *a)
{
	int fd = open(a->image, O_RDONLY | O_CLOEXEC);

	if (fd < 0)
		return cli_fail("%s: cannot open: %s", a->image, strerror(errno));
	if (vmplat_iso_open(&a->iso, fd)) {
		close(fd);
		return cli_fail("%s: %s", a->image, vmplat_last_error());
	}
	if (vmplat_iso_use(a->iso, a->tree)) {
		cli_fail("%s: %s; 'vmplat iso info' shows what there is", a->image,
			 vmplat_last_error());
		vmplat_iso_close(a->iso);
		return CLI_FAILED;
	}
	iso_listen(a, true);
	return CLI_OK;
}

int iso_done(struct iso_args *a, int rc)
{
	vmplat_iso_close(a->iso);
	if (rc == CLI_OK && fflush(stdout))
		rc = cli_fail("cannot write the output: %s", strerror(errno));
	return rc == CLI_OK && a->nr_errors ? CLI_FAILED : rc;
}

bool iso_walk_goes_on(struct iso_args *a, int rc, const char *path)
{
	bool told = rc == -EBADMSG || rc == -ELOOP || rc == -ENAMETOOLONG;

	if (!told) {
		a->nr_errors++;
		cli_warn("%s: %s: %s", a->image, path, vmplat_last_error());
	}
	return told || rc == -ENODATA || rc == -EIO || rc == -EFBIG;
}

/* "2026-11-23T01:02:03Z", or "" */
static const char *show_utc(const struct timespec *ts, char buf[CLI_NUM_LEN])
{
	time_t t = ts->tv_sec;
	struct tm tm;

	if (!gmtime_r(&t, &tm) || !strftime(buf, CLI_NUM_LEN, "%Y-%m-%dT%H:%M:%SZ", &tm))
		buf[0] = '\0';
	return buf;
}

static void add_string(struct json_object *o, const char *key, const char *s)
{
	json_object_object_add(o, key, json_object_new_string(s));
}

static void add_u64(struct json_object *o, const char *key, uint64_t v)
{
	json_object_object_add(o, key, json_object_new_uint64(v));
}

static void add_bool(struct json_object *o, const char *key, bool v)
{
	json_object_object_add(o, key, json_object_new_boolean(v));
}

/* One object on a line of its own. */
static void json_line(struct json_object *o)
{
	puts(json_object_to_json_string_ext(o, JSON_C_TO_STRING_PLAIN |
					    JSON_C_TO_STRING_NOSLASHESCAPE));
	json_object_put(o);
}

/*
 * A verb about the image as a whole: parsed and opened, with an object to fill if that is
 * asked for. As iso_parse() returns.
 */
static int iso_begin(struct iso_args *a, const char *verb, const char *help, const char *letters,
		     int argc, char **argv, struct json_object **o)
{
	int rc = iso_parse(a, verb, help, letters, argc, argv);

	*o = NULL;
	if (rc)
		return rc;
	if (a->nr_paths)
		return cli_usage(a->verb, "'%s' is one argument too many", a->paths[0]);
	rc = iso_open_image(a);
	if (!rc && a->json)
		*o = json_object_new_object();
	return rc;
}

/* The object printed, and the image closed. */
static int iso_end(struct iso_args *a, int rc, struct json_object *o)
{
	if (o && cli_json(o))
		rc = CLI_FAILED;
	return iso_done(a, rc);
}

/* ---- info -------------------------------------------------------------- */

static const char info_help[] =
"usage: vmplat iso info [--json] IMAGE\n"
"\n"
"All volume descriptors of a disc image with their times, the trees that can be\n"
"read, how it boots, and the partition tables it has as a hard disk.\n"
"\n"
"  --tree TREE   look up boot images' names in this tree\n";

static const char *const kinds[] = {
	[VMPLAT_ISO_VOL_PRIMARY] = "primary", [VMPLAT_ISO_VOL_JOLIET] = "joliet",
	[VMPLAT_ISO_VOL_ENHANCED] = "enhanced (ISO 9660:1999)",
	[VMPLAT_ISO_VOL_SUPPLEMENTARY] = "supplementary", [VMPLAT_ISO_VOL_BOOT] = "boot record",
	[VMPLAT_ISO_VOL_PARTITION] = "partition", [VMPLAT_ISO_VOL_TERMINATOR] = "terminator",
	[VMPLAT_ISO_VOL_UDF] = "udf", [VMPLAT_ISO_VOL_OTHER] = "other",
};

static const char *const time_names[] = { "created", "modified", "expires", "effective" };

static const struct {
	const char *name;
	size_t at;
} texts[] = {
	{ "volume_id", offsetof(struct vmplat_iso_volume, volume_id) },
	{ "system_id", offsetof(struct vmplat_iso_volume, system_id) },
	{ "volume_set_id", offsetof(struct vmplat_iso_volume, volume_set_id) },
	{ "publisher_id", offsetof(struct vmplat_iso_volume, publisher_id) },
	{ "preparer_id", offsetof(struct vmplat_iso_volume, preparer_id) },
	{ "application_id", offsetof(struct vmplat_iso_volume, application_id) },
	{ "copyright_file", offsetof(struct vmplat_iso_volume, copyright_file) },
	{ "abstract_file", offsetof(struct vmplat_iso_volume, abstract_file) },
	{ "bibliographic_file", offsetof(struct vmplat_iso_volume, bibliographic_file) },
};
#define NR_TEXTS (sizeof(texts) / sizeof(texts[0]))

static struct json_object *volume_json(const struct vmplat_iso_volume *v)
{
	struct json_object *o = json_object_new_object(), *tables;
	char buf[CLI_NUM_LEN];

	add_string(o, "kind", kinds[v->kind]);
	add_string(o, "standard", v->standard);
	add_u64(o, "offset", v->offset);
	add_u64(o, "version", v->version);
	for (size_t i = 0; i < NR_TEXTS; i++)
		if (*((const char *)v + texts[i].at))
			add_string(o, texts[i].name, (const char *)v + texts[i].at);
	if (v->block_bytes) {
		add_u64(o, "bytes", v->volume_bytes);
		add_u64(o, "block_bytes", v->block_bytes);
	}
	if (v->set_size) {
		add_u64(o, "set_size", v->set_size);
		add_u64(o, "sequence", v->sequence);
		add_u64(o, "root_offset", v->root_pos);
		add_u64(o, "root_bytes", v->root_bytes);
		add_u64(o, "path_table_bytes", v->path_table_bytes);
		tables = json_object_new_array();
		for (int i = 0; i < 4; i++)
			json_object_array_add(tables, json_object_new_uint64(v->path_table[i]));
		json_object_object_add(o, "path_tables", tables);
	}
	if (v->joliet_level)
		add_u64(o, "joliet_level", v->joliet_level);
	if (v->udf_revision) {
		snprintf(buf, sizeof(buf), "%x.%02x", v->udf_revision >> 8, v->udf_revision & 0xff);
		add_string(o, "udf_revision", buf);
	}
	if (v->kind == VMPLAT_ISO_VOL_BOOT)
		add_u64(o, "boot_catalog", v->boot_catalog);
	for (int i = 0; i < 4; i++)
		if (v->time_set & 1 << i)
			add_string(o, time_names[i], show_utc(&v->time[i], buf));
	return o;
}

static void volume_text(const struct vmplat_iso_volume *v)
{
	char buf[CLI_NUM_LEN];

	printf("%s%s%s at %" PRIu64, cli_style(stdout, CLI_BOLD), kinds[v->kind],
	       cli_style(stdout, CLI_PLAIN), v->offset);
	if (v->kind == VMPLAT_ISO_VOL_OTHER)
		printf(", %s", v->standard);
	if (v->joliet_level)
		printf(", level %u", v->joliet_level);
	if (v->udf_revision)
		printf(", revision %x.%02x", v->udf_revision >> 8, v->udf_revision & 0xff);
	if (v->block_bytes)
		printf(", %s in blocks of %u", cli_show_bytes(v->volume_bytes, buf), v->block_bytes);
	if (v->set_size > 1)
		printf(", disc %u of %u", v->sequence, v->set_size);
	putchar('\n');
	for (size_t i = 0; i < NR_TEXTS; i++)
		if (*((const char *)v + texts[i].at))
			printf("  %-18s %s\n", texts[i].name, (const char *)v + texts[i].at);
	for (int i = 0; i < 4; i++)
		if (v->time_set & 1 << i)
			printf("  %-18s %s\n", time_names[i], show_utc(&v->time[i], buf));
	if (v->set_size)
		printf("  %-18s at %" PRIu64 ", %" PRIu64 " bytes; path tables of %" PRIu64 " bytes\n",
		       "root", v->root_pos, v->root_bytes, v->path_table_bytes);
	if (v->kind == VMPLAT_ISO_VOL_BOOT && v->boot_catalog)
		printf("  %-18s at %" PRIu64 "\n", "boot catalogue", v->boot_catalog);
}

static int info_volumes(struct iso_args *a, struct json_object *list)
{
	struct vmplat_iso_volume v;
	int rc;

	for (unsigned int i = 0; (rc = vmplat_iso_volume(a->iso, i, &v)) == 1; i++) {
		if (list)
			json_object_array_add(list, volume_json(&v));
		else
			volume_text(&v);
	}
	return rc < 0 ? cli_fail("%s: %s", a->image, vmplat_last_error()) : CLI_OK;
}

static struct json_object *trees_json(struct vmplat_iso *iso)
{
	struct json_object *list = json_object_new_array();

	for (int i = 1; i < VMPLAT_ISO_NR_TREES; i++)
		if (vmplat_iso_trees(iso) & 1 << i)
			json_object_array_add(list, json_object_new_string(vmplat_iso_tree_name(i)));
	return list;
}

static void trees_text(struct vmplat_iso *iso)
{
	printf("%strees%s", cli_style(stdout, CLI_BOLD), cli_style(stdout, CLI_PLAIN));
	for (int i = 1; i < VMPLAT_ISO_NR_TREES; i++)
		if (vmplat_iso_trees(iso) & 1 << i)
			printf(" %s%s", vmplat_iso_tree_name(i),
			       vmplat_iso_tree(iso) == (enum vmplat_iso_tree)i ? "*" : "");
	if (*vmplat_iso_rr_version(iso))
		printf(" (%s)", vmplat_iso_rr_version(iso));
	putchar('\n');
}

static int info_boot(struct iso_args *a, struct json_object *o);

static int iso_info(int argc, char **argv)
{
	struct json_object *o, *volumes = NULL;
	struct iso_args a;
	int rc = iso_begin(&a, "iso info", info_help, "", argc, argv, &o);

	if (rc)
		return rc < 0 ? CLI_OK : rc;
	if (o) {
		volumes = json_object_new_array();
		add_string(o, "image", a.image);
		add_u64(o, "bytes", vmplat_iso_bytes(a.iso));
		json_object_object_add(o, "trees", trees_json(a.iso));
		add_string(o, "tree", vmplat_iso_tree_name(vmplat_iso_tree(a.iso)));
		if (*vmplat_iso_rr_version(a.iso))
			add_string(o, "rock_ridge", vmplat_iso_rr_version(a.iso));
		json_object_object_add(o, "volumes", volumes);
	}
	rc = info_volumes(&a, volumes);
	if (!rc && !o)
		trees_text(a.iso);
	if (!rc)
		rc = info_boot(&a, o);
	return iso_end(&a, rc, o);
}

/* ---- ls ---------------------------------------------------------------- */

static const char ls_help[] =
"usage: vmplat iso ls [-l] [-R] [-a] [--tree TREE] [--json] IMAGE [PATH...]\n"
"\n"
"What is in a disc image, in the order in which the disc has it.\n"
"\n"
"  -l, --long       type and permissions, links, owner, group, size, time\n"
"  -R, --recursive  subdirectories too\n"
"  -a, --all        associated files (resource forks) too\n"
"  --tree TREE      rr, joliet, iso, udf, 1999, or auto: the first there is of\n"
"                   rr, udf, joliet, 1999, iso; efi: the FAT file system in the\n"
"                   boot image for UEFI\n"
"  --json           an object a line, with times, places on the disc and flags\n";

static const struct {
	uint32_t flag;
	const char *name;
} flag_names[] = {
	{ VMPLAT_ISO_HIDDEN, "hidden" }, { VMPLAT_ISO_ASSOCIATED, "associated" },
	{ VMPLAT_ISO_ZISOFS, "zisofs" }, { VMPLAT_ISO_INTERLEAVED, "interleaved" },
	{ VMPLAT_ISO_RELOCATED, "relocated" }, { VMPLAT_ISO_SPARSE, "sparse" },
	{ VMPLAT_ISO_XAR, "extended-attributes" }, { VMPLAT_ISO_BAD_NAME, "bad-name" },
	{ VMPLAT_ISO_BROKEN, "broken" },
};

/* The letter of ls, and the word. */
static char type_letter(uint32_t mode)
{
	switch (mode & S_IFMT) {
	case S_IFDIR: return 'd';
	case S_IFLNK: return 'l';
	case S_IFBLK: return 'b';
	case S_IFCHR: return 'c';
	case S_IFIFO: return 'p';
	case S_IFSOCK: return 's';
	default: return '-';
	}
}

static const char *type_name(uint32_t mode)
{
	switch (mode & S_IFMT) {
	case S_IFDIR: return "directory";
	case S_IFLNK: return "link";
	case S_IFBLK: return "block";
	case S_IFCHR: return "character";
	case S_IFIFO: return "fifo";
	case S_IFSOCK: return "socket";
	default: return "file";
	}
}

static struct json_object *entry_json(const char *path, const struct vmplat_iso_entry *e)
{
	const struct vmplat_iso_stat *st = &e->st;
	struct json_object *o = json_object_new_object(), *flags;
	const struct timespec *times[] = { &st->mtime, &st->atime, &st->ctime, &st->btime };
	static const char *const names[] = { "mtime", "atime", "ctime", "btime" };
	char buf[CLI_NUM_LEN];

	add_string(o, "path", path);
	add_string(o, "type", type_name(st->mode));
	snprintf(buf, sizeof(buf), "%04o", st->mode & 07777);
	add_string(o, "mode", buf);
	add_bool(o, "posix", st->flags & VMPLAT_ISO_POSIX);
	add_u64(o, "nlink", st->nlink);
	add_u64(o, "uid", st->uid);
	add_u64(o, "gid", st->gid);
	add_u64(o, "bytes", st->bytes);
	add_u64(o, "stored_bytes", st->stored_bytes);
	for (int i = 0; i < 4; i++)
		if (st->times & 1 << i)
			add_string(o, names[i], show_utc(times[i], buf));
	if (S_ISLNK(st->mode))
		add_string(o, "link", e->link);
	if (S_ISBLK(st->mode) || S_ISCHR(st->mode)) {
		add_u64(o, "major", st->rdev_major);
		add_u64(o, "minor", st->rdev_minor);
	}
	if (st->flags & VMPLAT_ISO_INO)
		add_u64(o, "ino", st->ino);
	add_u64(o, "offset", st->pos);
	add_u64(o, "sections", st->nr_sections);
	if (st->flags & VMPLAT_ISO_XA)
		add_u64(o, "xa_attributes", st->xa_attributes);
	flags = json_object_new_array();
	for (size_t i = 0; i < sizeof(flag_names) / sizeof(flag_names[0]); i++)
		if (st->flags & flag_names[i].flag)
			json_object_array_add(flags, json_object_new_string(flag_names[i].name));
	json_object_object_add(o, "flags", flags);
	return o;
}

/* Names come from the disc: nothing in them may steer the terminal. */
static void put_name(const char *name)
{
	static int terminal = -1;

	if (terminal < 0)
		terminal = isatty(STDOUT_FILENO);
	if (!terminal) {
		fputs_unlocked(name, stdout);
		return;
	}
	for (; *name; name++)
		putchar_unlocked((unsigned char)*name < 32 || *name == 127 ? '?' : *name);
}

static char *put_number(char *end, uint64_t v)
{
	do
		*--end = '0' + v % 10;
	while (v /= 10);
	return end;
}

/* Right-aligned; printf() would be most of the cost of a long listing. */
static void put_padded(uint64_t v, int width)
{
	char buf[32], *p = put_number(buf + sizeof(buf), v);
	int len = buf + sizeof(buf) - p;

	for (; len < width; width--)
		putchar_unlocked(' ');
	fwrite_unlocked(p, 1, len, stdout);
}

static void put_mode(uint32_t mode)
{
	char s[] = "?rwxrwxrwx ";

	s[0] = type_letter(mode);
	for (int i = 0; i < 9; i++)
		if (!(mode & 0400 >> i))
			s[1 + i] = '-';
	if (mode & S_ISUID)
		s[3] = mode & 0100 ? 's' : 'S';
	if (mode & S_ISGID)
		s[6] = mode & 0010 ? 's' : 'S';
	if (mode & S_ISVTX)
		s[9] = mode & 0001 ? 't' : 'T';
	fputs_unlocked(s, stdout);
}

/* Local time to the minute; most files of a disc share few minutes. */
static void put_time(const struct vmplat_iso_stat *st)
{
	static char text[24];
	static time_t minute = -1;
	time_t t = st->mtime.tv_sec;
	struct tm tm;

	if (!(st->times & VMPLAT_ISO_MTIME)) {
		fputs_unlocked("                 ", stdout);
		return;
	}
	if (minute == -1 || t / 60 != minute) {
		if (!localtime_r(&t, &tm) || !strftime(text, sizeof(text), " %Y-%m-%d %H:%M", &tm))
			strcpy(text, " ?");
		minute = t / 60;
	}
	fputs_unlocked(text, stdout);
}

static void put_long(const struct vmplat_iso_entry *e)
{
	const struct vmplat_iso_stat *st = &e->st;

	put_mode(st->mode);
	put_padded(st->nlink, 3);
	putchar_unlocked(' ');
	put_padded(st->uid, 5);
	putchar_unlocked(' ');
	put_padded(st->gid, 5);
	putchar_unlocked(' ');
	if (S_ISBLK(st->mode) || S_ISCHR(st->mode)) {
		put_padded(st->rdev_major, 7);
		fputs_unlocked(", ", stdout);
		put_padded(st->rdev_minor, 3);
	} else {
		put_padded(st->bytes, 12);
	}
	put_time(st);
	putchar_unlocked(' ');
}

static void put_entry(const struct iso_args *a, const char *name, const struct vmplat_iso_entry *e)
{
	if (a->verbose)
		put_long(e);
	put_name(name);
	if (a->verbose && S_ISLNK(e->st.mode)) {
		fputs_unlocked(" -> ", stdout);
		put_name(e->link);
	}
	putchar_unlocked('\n');
}

/* "DIR:" before the entries of each directory, as ls -R does. */
static void put_heading(const char *path, size_t len, bool first)
{
	char dir[VMPLAT_ISO_PATH_MAX + 1];

	memcpy(dir, path, len);
	dir[len] = '\0';
	if (!first)
		putchar_unlocked('\n');
	put_name(len ? dir : "/");
	fputs_unlocked(":\n", stdout);
}

static int ls_dir(struct iso_args *a, const char *path, const struct vmplat_iso_entry *top,
		  bool heading)
{
	unsigned int flags = VMPLAT_ISO_WALK_GROUPED;
	struct vmplat_iso_walk *w;
	struct vmplat_iso_entry e;
	char last[VMPLAT_ISO_PATH_MAX + 1];
	size_t last_len = strlen(path);
	int rc;

	if (!a->recursive)
		flags |= VMPLAT_ISO_WALK_FLAT;
	if (a->all)
		flags |= VMPLAT_ISO_WALK_ALL;
	if (vmplat_iso_walk_open(&w, a->iso, top, path, flags))
		return cli_fail("%s: %s: %s", a->image, path, vmplat_last_error());
	memcpy(last, path, last_len + 1);
	if (!a->json && (a->recursive || heading))
		put_heading(path, last_len, true);
	while ((rc = vmplat_iso_walk_next(w, &e))) {
		const char *full = vmplat_iso_walk_path(w);
		size_t dir_len;

		if (rc < 0) {
			if (!iso_walk_goes_on(a, rc, full))
				break;
			continue;
		}
		if (a->json) {
			json_line(entry_json(full, &e));
			continue;
		}
		dir_len = strlen(full) - strlen(e.name);
		if (dir_len > 1)
			dir_len--;
		if (a->recursive && (dir_len != last_len || memcmp(full, last, dir_len))) {
			put_heading(full, dir_len, false);
			memcpy(last, full, dir_len);
			last_len = dir_len;
		}
		put_entry(a, e.name, &e);
	}
	vmplat_iso_walk_close(w);
	return rc < 0 ? CLI_FAILED : CLI_OK;
}

/* A path as the disc knows it: from "/", without "." and doubled or trailing slashes. */
static char *tidy(const char *path)
{
	char *out = malloc(strlen(path) + 2), *to = out;

	if (!out)
		abort();
	while (*path) {
		size_t len;

		path += strspn(path, "/");
		len = strcspn(path, "/");
		if (len && !(len == 1 && *path == '.')) {
			*to++ = '/';
			memcpy(to, path, len);
			to += len;
		}
		path += len;
	}
	if (to == out)
		*to++ = '/';
	*to = '\0';
	return out;
}

static int ls_path(struct iso_args *a, const char *path)
{
	struct vmplat_iso_entry e;
	char *tidied;
	int rc;

	if (vmplat_iso_lookup(a->iso, path, 0, &e))
		return cli_fail("%s: %s: %s", a->image, path, vmplat_last_error());
	tidied = tidy(path);
	if (S_ISDIR(e.st.mode)) {
		rc = ls_dir(a, tidied, &e, a->nr_paths > 1);
	} else {
		rc = CLI_OK;
		if (a->json)
			json_line(entry_json(tidied, &e));
		else
			put_entry(a, path, &e);
	}
	free(tidied);
	return rc;
}

static int iso_ls(int argc, char **argv)
{
	static char out[65536];
	struct iso_args a;
	int rc = iso_parse(&a, "iso ls", ls_help, "aRl", argc, argv);

	if (rc)
		return rc < 0 ? CLI_OK : rc;
	rc = iso_open_image(&a);
	if (rc)
		return rc;
	setvbuf(stdout, out, _IOFBF, sizeof(out));
	if (!a.nr_paths)
		rc = ls_path(&a, "/");
	for (int i = 0; i < a.nr_paths; i++) {
		if (i && !a.json && a.nr_paths > 1)
			putchar('\n');
		rc |= ls_path(&a, a.paths[i]);
	}
	rc = iso_done(&a, rc);
	/* the buffer is gone before exit() flushes */
	fflush(stdout);
	return rc;
}

/* ---- cat --------------------------------------------------------------- */

static const char cat_help[] =
"usage: vmplat iso cat [--tree TREE] IMAGE PATH...\n"
"\n"
"Write files of a disc image to standard output, one after the other. zisofs is\n"
"uncompressed, links are followed within the disc.\n"
"\n"
"  --tree TREE   rr, joliet, iso, udf, 1999, efi or auto\n"
"  --json        on standard error, what was written, as an object a file\n";

static int copy_by_hand(int in, uint64_t pos, uint64_t bytes, int out,
			struct cli_progress *progress)
{
	size_t room = 1 << 20;
	char *buf = malloc(room);
	int rc = buf ? 0 : -ENOMEM;

	while (bytes && !rc) {
		ssize_t n = pread(in, buf, bytes < room ? bytes : room, pos);

		if (n < 0 && errno == EINTR)
			continue;
		if (n <= 0) {
			rc = n ? -errno : -ENODATA;
			break;
		}
		rc = write_all(out, buf, n);
		pos += n;
		bytes -= n;
		if (progress)
			cli_progress_set(progress, progress->done + n);
	}
	free(buf);
	return rc;
}

/*
 * Which call moves bytes without a copy depends on what @out is: reflinks or page to page
 * between files, pages into a pipe, sendfile() for the rest. Any of them may be refused.
 */
int iso_copy_run(int in, uint64_t pos, uint64_t bytes, int out, struct cli_progress *progress)
{
	struct stat st;

	if (fstat(out, &st))
		return -errno;
	/* as much as anybody may have: fewer turns between us and the reader */
	if (S_ISFIFO(st.st_mode) && bytes > 1 << 20)
		fcntl(out, F_SETPIPE_SZ, 1 << 20);
	while (bytes) {
		size_t want = bytes < 1 << 28 ? bytes : 1 << 28;
		off_t off = pos;
		ssize_t n;

		if (S_ISREG(st.st_mode))
			n = copy_file_range(in, &off, out, NULL, want, 0);
		else if (S_ISFIFO(st.st_mode))
			n = splice(in, &off, out, NULL, want < 1 << 20 ? want : 1 << 20,
				   SPLICE_F_MOVE | SPLICE_F_MORE);
		else
			n = sendfile(out, in, &off, want);
		if (n < 0 && errno == EINTR)
			continue;
		if (n < 0 && (errno == EPIPE || errno == ENOSPC || errno == EIO || errno == EDQUOT ||
			      errno == EFBIG))
			return -errno;
		if (n <= 0)
			return copy_by_hand(in, pos, bytes, out, progress);
		pos += n;
		bytes -= n;
		if (progress)
			cli_progress_set(progress, progress->done + n);
	}
	return 0;
}

static int cat_buffered(struct vmplat_iso_file *f, uint64_t off, uint64_t bytes,
			struct cli_progress *progress)
{
	size_t room = 1 << 20;
	char *buf = malloc(room);
	ssize_t n;
	int rc = buf ? 0 : -ENOMEM;

	while (bytes && !rc) {
		n = vmplat_iso_file_read(f, buf, bytes < room ? bytes : room, off);
		rc = n < 0 ? n : write_all(STDOUT_FILENO, buf, n);
		if (rc)
			break;
		off += n;
		bytes -= n;
		cli_progress_set(progress, progress->done + n);
	}
	free(buf);
	return rc;
}

/* Runs of the disc go without a buffer; holes and compressed files do not. */
static int cat_file(struct iso_args *a, struct vmplat_iso_file *f, struct cli_progress *progress)
{
	uint64_t off = 0, bytes = vmplat_iso_file_bytes(f);
	struct vmplat_iso_extent x;
	int rc = 0;

	while (off < bytes && !rc) {
		rc = vmplat_iso_file_extent(f, off, &x);
		if (rc == -EOPNOTSUPP)
			return cat_buffered(f, off, bytes - off, progress);
		if (rc < 0)
			return rc;
		rc = x.hole ? cat_buffered(f, off, x.bytes, progress) :
			      iso_copy_run(vmplat_iso_fd(a->iso), x.pos, x.bytes, STDOUT_FILENO, progress);
		off += x.bytes;
	}
	return rc;
}

static int cat_path(struct iso_args *a, const char *path)
{
	struct cli_progress progress;
	struct vmplat_iso_file *f;
	struct json_object *o;
	int rc;

	if (vmplat_iso_file_open_path(&f, a->iso, path))
		return cli_fail("%s: %s: %s", a->image, path, vmplat_last_error());
	cli_progress_start(&progress, path, vmplat_iso_file_bytes(f));
	if (isatty(STDOUT_FILENO))
		progress.live = false;
	rc = cat_file(a, f, &progress);
	if (progress.live)
		cli_progress_end(&progress, !rc);
	if (rc == -EBADMSG || rc == -ENODATA)
		cli_fail("%s: %s: %s", a->image, path, vmplat_last_error());
	else if (rc)
		cli_fail("%s: %s: cannot write: %s", a->image, path, strerror(-rc));
	if (a->json) {
		o = json_object_new_object();
		add_string(o, "path", path);
		add_u64(o, "bytes", progress.done);
		add_bool(o, "complete", !rc);
		fprintf(stderr, "%s\n", json_object_to_json_string_ext(o, JSON_C_TO_STRING_PLAIN));
		json_object_put(o);
	}
	vmplat_iso_file_close(f);
	return rc ? CLI_FAILED : CLI_OK;
}

static int iso_cat(int argc, char **argv)
{
	struct iso_args a;
	int rc = iso_parse(&a, "iso cat", cat_help, "", argc, argv);

	if (rc)
		return rc < 0 ? CLI_OK : rc;
	if (!a.nr_paths)
		return cli_usage(a.verb, "a PATH is needed");
	rc = iso_open_image(&a);
	if (rc)
		return rc;
	for (int i = 0; i < a.nr_paths && !rc; i++)
		rc = cat_path(&a, a.paths[i]);
	return iso_done(&a, rc);
}

/* ---- boot -------------------------------------------------------------- */

static const char boot_help[] =
"usage: vmplat iso boot [--entries] [--tree TREE] [--json] IMAGE\n"
"\n"
"How a disc image boots: the entries of its El Torito catalogue, and the partition\n"
"tables that make it bootable as a hard disk. Fails if there is neither.\n"
"\n"
"  --entries   instead: the entries of its boot menus (isolinux, GRUB, systemd-boot),\n"
"              with kernel, initrds and arguments, and where each is from; efi: is the\n"
"              boot image for UEFI. What `vmplat run IMAGE` boots is marked. Fails if\n"
"              none can be booted.\n"
"\n"
"  LOAD   what the entry asks the firmware to load; often not the image's length\n"
"  BYTES  how long the image is, and how that is known: a file of the tree with\n"
"         its length, a FAT file system, the floppy's format, a partition table,\n"
"         the boot information table, a partition, or the entry alone\n";

#define BOOT_MAX	128
#define PARTITIONS_MAX	256

static const char *platform_name(uint8_t platform, char buf[CLI_NUM_LEN])
{
	switch (platform) {
	case VMPLAT_ISO_BIOS: return "bios";
	case VMPLAT_ISO_POWERPC: return "powerpc";
	case VMPLAT_ISO_MAC: return "mac";
	case VMPLAT_ISO_UEFI: return "uefi";
	default:
		snprintf(buf, CLI_NUM_LEN, "%#x", platform);
		return buf;
	}
}

static const char *const emulations[] = {
	[VMPLAT_ISO_NO_EMULATION] = "none", [VMPLAT_ISO_FLOPPY_1200] = "floppy-1200",
	[VMPLAT_ISO_FLOPPY_1440] = "floppy-1440", [VMPLAT_ISO_FLOPPY_2880] = "floppy-2880",
	[VMPLAT_ISO_HARD_DISK] = "hard-disk",
};

static const char *const schemes[] = {
	[VMPLAT_ISO_MBR] = "mbr", [VMPLAT_ISO_GPT] = "gpt", [VMPLAT_ISO_APM] = "apm",
};

static struct json_object *boot_json(const struct vmplat_iso_boot *b)
{
	struct json_object *o = json_object_new_object();
	char buf[CLI_NUM_LEN];

	add_string(o, "platform", platform_name(b->platform, buf));
	add_string(o, "emulation", emulations[b->emulation]);
	add_bool(o, "bootable", b->bootable);
	add_bool(o, "default", b->is_default);
	add_string(o, "section", b->section_id);
	add_u64(o, "entry_offset", b->offset);
	add_u64(o, "offset", b->pos);
	add_u64(o, "load_bytes", b->load_bytes);
	add_u64(o, "load_address", b->load_address);
	add_u64(o, "system_type", b->system_type);
	add_u64(o, "bytes", b->bytes);
	add_string(o, "bytes_from", b->bytes_from);
	add_string(o, "path", b->path);
	if (b->has_table) {
		add_bool(o, "info_table_ok", b->table_ok);
		add_u64(o, "info_table_bytes", b->table_bytes);
	}
	return o;
}

static struct json_object *partition_json(const struct vmplat_iso_partition *p)
{
	struct json_object *o = json_object_new_object();

	add_string(o, "scheme", schemes[p->scheme]);
	add_u64(o, "number", p->nr);
	add_u64(o, "offset", p->pos);
	add_u64(o, "bytes", p->bytes);
	add_bool(o, "active", p->active);
	add_string(o, "type", p->type);
	add_string(o, "name", p->name);
	return o;
}

static void boot_table(const struct vmplat_iso_boot *b, int nr)
{
	static const char *const heads[] = { "PLATFORM", "EMULATION", "BOOTABLE", "OFFSET", "LOAD",
					     "ADDRESS", "BYTES", "FROM", "TABLE", "FILE" };
	struct cli_table *t = cli_table_new("<<<>>>><<<", heads);
	char buf[CLI_NUM_LEN];

	for (int i = 0; i < nr; i++, b++) {
		cli_cell(t, "%s", platform_name(b->platform, buf));
		cli_cell(t, "%s", emulations[b->emulation]);
		cli_cell(t, "%s", b->bootable ? b->is_default ? "default" : "yes" : "no");
		cli_cell(t, "%" PRIu64, b->pos);
		cli_cell(t, "%" PRIu64, b->load_bytes);
		cli_cell(t, "%#" PRIx64, b->load_address);
		cli_cell(t, "%" PRIu64, b->bytes);
		cli_cell(t, "%s", b->bytes_from);
		cli_cell(t, "%s", !b->has_table ? "-" : b->table_ok ? "ok" : "wrong");
		cli_cell(t, "%s", *b->path ? b->path : "-");
	}
	cli_table_print(t);
}

static void partition_table(const struct vmplat_iso_partition *p, int nr)
{
	static const char *const heads[] = { "TABLE", "NR", "OFFSET", "BYTES", "ACTIVE", "TYPE",
					     "NAME" };
	struct cli_table *t = cli_table_new("<>>><<<", heads);

	for (int i = 0; i < nr; i++, p++) {
		cli_cell(t, "%s", schemes[p->scheme]);
		cli_cell(t, "%u", p->nr);
		cli_cell(t, "%" PRIu64, p->pos);
		cli_cell(t, "%" PRIu64, p->bytes);
		cli_cell(t, "%s", p->active ? "yes" : "-");
		cli_cell(t, "%s", p->type);
		cli_cell(t, "%s", *p->name ? p->name : "-");
	}
	cli_table_print(t);
}

/* How many of what was found there is room for. */
static int shown(struct iso_args *a, int found, int max, const char *what)
{
	if (found <= max)
		return found;
	cli_warn("%s: %d %s; the first %d are shown", a->image, found, what, max);
	return max;
}

/* Into @o, or as text. How many entries and partitions, or -1 after saying what failed. */
static int show_boot(struct iso_args *a, struct json_object *o)
{
	struct vmplat_iso_partition *parts = calloc(PARTITIONS_MAX, sizeof(*parts));
	struct vmplat_iso_boot *b = calloc(BOOT_MAX, sizeof(*b));
	struct json_object *list;
	int nr, nr_parts, rc = -1;

	if (!b || !parts)
		abort();
	nr = vmplat_iso_boot(a->iso, b, BOOT_MAX);
	nr_parts = nr < 0 ? nr : vmplat_iso_partitions(a->iso, parts, PARTITIONS_MAX);
	if (nr_parts < 0) {
		cli_fail("%s: %s", a->image, vmplat_last_error());
		goto out;
	}
	nr = shown(a, nr, BOOT_MAX, "boot entries");
	nr_parts = shown(a, nr_parts, PARTITIONS_MAX, "partitions");
	rc = nr + nr_parts;
	if (o) {
		list = json_object_new_array();
		for (int i = 0; i < nr; i++)
			json_object_array_add(list, boot_json(b + i));
		json_object_object_add(o, "boot", list);
		list = json_object_new_array();
		for (int i = 0; i < nr_parts; i++)
			json_object_array_add(list, partition_json(parts + i));
		json_object_object_add(o, "partitions", list);
		goto out;
	}
	if (nr)
		boot_table(b, nr);
	if (nr && nr_parts)
		putchar('\n');
	if (nr_parts)
		partition_table(parts, nr_parts);
out:
	free(b);
	free(parts);
	return rc;
}

static int info_boot(struct iso_args *a, struct json_object *o)
{
	return show_boot(a, o) < 0 ? CLI_FAILED : CLI_OK;
}

/* ---- boot --entries ------------------------------------------------------ */

static struct json_object *choice_json(const struct vmplat_iso_choice *c, unsigned int nr)
{
	struct json_object *o = json_object_new_object(), *initrds = json_object_new_array();

	add_u64(o, "number", nr);
	add_string(o, "label", c->id);
	add_string(o, "title", c->title);
	add_bool(o, "default", c->is_default);
	add_string(o, "kernel", c->kernel);
	for (unsigned int i = 0; i < c->nr_initrds; i++)
		json_object_array_add(initrds, json_object_new_string(c->initrds[i]));
	json_object_object_add(o, "initrds", initrds);
	add_string(o, "arguments", c->args);
	if (c->file) {
		add_string(o, "file", c->file);
		add_u64(o, "line", c->line);
	}
	if (c->obstacle)
		add_string(o, "obstacle", c->obstacle);
	return o;
}

static void choice_text(const struct vmplat_iso_choice *c, unsigned int nr)
{
	bool label = *c->id && strcmp(c->id, c->title);

	printf("%s%u%s %s%s%s%s%s%s\n", cli_style(stdout, CLI_BOLD), nr, c->is_default ? "*" : " ", c->title,
	       cli_style(stdout, CLI_PLAIN), label ? " (" : "", label ? c->id : "", label ? ")" : "",
	       c->is_default ? ", booted unless told otherwise" : "");
	if (*c->kernel)
		printf("   kernel     %s\n", c->kernel);
	for (unsigned int i = 0; i < c->nr_initrds; i++)
		printf("   initrd     %s\n", c->initrds[i]);
	if (*c->args)
		printf("   arguments  %s\n", c->args);
	if (c->file)
		printf("   from       %s:%u\n", c->file, c->line);
	else
		printf("   from       where distributions put it\n");
	if (c->obstacle)
		printf("   %sbut        %s%s\n", cli_style(stdout, CLI_YELLOW), c->obstacle,
		       cli_style(stdout, CLI_PLAIN));
}

/* Into @o, or as text. How many entries can be booted, or -1 after saying what failed. */
static int show_entries(struct iso_args *a, struct json_object *o)
{
	struct json_object *list = o ? json_object_new_array() : NULL;
	const struct vmplat_iso_choice *c;
	struct vmplat_iso_menu *menu;
	const char *note;
	int nr = 0;

	if (vmplat_iso_menu_open(&menu, a->iso)) {
		json_object_put(list);
		cli_fail("%s: %s", a->image, vmplat_last_error());
		return -1;
	}
	for (unsigned int i = 0; (c = vmplat_iso_menu_choice(menu, i)); i++) {
		if (o)
			json_object_array_add(list, choice_json(c, i + 1));
		else
			choice_text(c, i + 1);
		nr += !c->obstacle;
	}
	if (o) {
		json_object_object_add(o, "entries", list);
		list = json_object_new_array();
		json_object_object_add(o, "notes", list);
	}
	/* many discs include files that they do not have: it matters where nothing is found */
	for (unsigned int i = 0; (note = vmplat_iso_menu_note(menu, i)); i++) {
		if (o)
			json_object_array_add(list, json_object_new_string(note));
		else if (!nr)
			cli_note("%s: %s", a->image, note);
	}
	if (vmplat_iso_menu_pick(menu, NULL, &c)) {
		cli_fail("%s: %s", a->image, vmplat_last_error());
		nr = -1;
	}
	vmplat_iso_menu_close(menu);
	return nr;
}

static int iso_boot(int argc, char **argv)
{
	struct json_object *o;
	struct iso_args a;
	int nr, rc = iso_begin(&a, "iso boot", boot_help, "e", argc, argv, &o);

	if (rc)
		return rc < 0 ? CLI_OK : rc;
	nr = a.entries ? show_entries(&a, o) : show_boot(&a, o);
	if (nr == 0)
		cli_fail("%s: no boot catalogue and no partition table: it does not boot", a.image);
	return iso_end(&a, nr > 0 ? CLI_OK : CLI_FAILED, o);
}

/* ---- check ------------------------------------------------------------- */

static const char check_help[] =
"usage: vmplat iso check [-q] [--json] IMAGE\n"
"\n"
"Read every directory, table and descriptor of a disc image, in all of its trees, and\n"
"name what is wrong and where: malformations, and files that the trees do not agree\n"
"about. Exit status 1 if there is an error, which is something that cannot be read or\n"
"that readers will understand differently; 0 if there are only warnings or notes.\n"
"\n"
"  -q, --quiet   errors only\n"
"  --json        an object a line, then one with the counts\n";

struct check {
	struct iso_args *a;
	unsigned int nr[3];
	struct cli_progress progress;
};

static const char *const severities[] = {
	[VMPLAT_ISO_NOTE] = "note", [VMPLAT_ISO_WARNING] = "warning", [VMPLAT_ISO_ERROR] = "error",
};

static void check_issue(void *ctx, const struct vmplat_iso_issue *issue)
{
	static const enum cli_style styles[] = { CLI_DIM, CLI_YELLOW, CLI_RED };
	struct check *c = ctx;
	struct json_object *o;

	c->nr[issue->severity]++;
	if (c->a->quiet && issue->severity != VMPLAT_ISO_ERROR)
		return;
	if (c->a->json) {
		o = json_object_new_object();
		add_string(o, "severity", severities[issue->severity]);
		add_string(o, "name", issue->name);
		add_u64(o, "offset", issue->offset);
		if (issue->path)
			add_string(o, "path", issue->path);
		add_string(o, "text", issue->text);
		json_line(o);
		return;
	}
	printf("%s%s%s %s at %" PRIu64 ": ", cli_style(stdout, styles[issue->severity]),
	       severities[issue->severity], cli_style(stdout, CLI_PLAIN), issue->name,
	       issue->offset);
	if (issue->path) {
		put_name(issue->path);
		fputs(": ", stdout);
	}
	put_name(issue->text);
	putchar('\n');
}

static void check_progress(void *ctx, uint64_t bytes)
{
	struct check *c = ctx;

	cli_progress_set(&c->progress, bytes);
}

static int iso_check(int argc, char **argv)
{
	struct iso_args a;
	struct check c = { .a = &a };
	struct json_object *o;
	int rc = iso_parse(&a, "iso check", check_help, "q", argc, argv);

	if (rc)
		return rc < 0 ? CLI_OK : rc;
	if (a.nr_paths)
		return cli_usage(a.verb, "'%s' is one argument too many", a.paths[0]);
	rc = iso_open_image(&a);
	if (rc)
		return rc;
	vmplat_iso_on_issue(a.iso, check_issue, &c);
	cli_progress_start(&c.progress, "checking directories", 0);
	rc = vmplat_iso_check(a.iso, check_progress, &c);
	if (c.progress.live)
		cli_progress_end(&c.progress, rc >= 0);
	if (rc < 0)
		cli_fail("%s: %s", a.image, vmplat_last_error());
	if (a.json) {
		o = json_object_new_object();
		for (int i = 0; i < 3; i++)
			add_u64(o, (const char *[]){ "notes", "warnings", "errors" }[i], c.nr[i]);
		add_bool(o, "complete", rc >= 0);
		json_line(o);
	} else if (rc >= 0 && !a.quiet) {
		printf("%s: %u errors, %u warnings, %u notes\n", a.image, c.nr[2], c.nr[1], c.nr[0]);
	}
	return iso_done(&a, rc ? CLI_FAILED : CLI_OK);
}

int cmd_iso(int argc, char **argv)
{
	static const struct cli_command verbs[] = {
		{ "info",	"volume descriptors, times, trees, how it boots",	iso_info },
		{ "ls",		"list files",						iso_ls },
		{ "cat",	"write files to standard output",			iso_cat },
		{ "extract",	"take files out, with modes, times and links",		iso_extract },
		{ "boot",	"boot entries and partition tables",			iso_boot },
		{ "check",	"name what is wrong with a disc image",			iso_check },
		{ }
	};

	return cli_dispatch("vmplat iso", "usage: vmplat iso VERB [ARGUMENT...] IMAGE\n", verbs, argc,
			    argv);
}
