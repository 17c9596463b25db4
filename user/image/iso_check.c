// SPDX-License-Identifier: LGPL-2.1-or-later
/*
 * Looking at all of a disc. Most of what can be wrong is found by the reader itself, so
 * a check is reading everything with a listener; here are the things that reading does
 * not need: path tables, what directories say of themselves, names given twice, and
 * whether the trees of one disc have the same files.
 *
 * Memory stays bounded for any number of files: names are compared within a directory,
 * and files in slices of FILES_MAX, for each of which the trees are walked again.
 */
#include <inttypes.h>
#include <stdlib.h>
#include <sys/stat.h>

#include "image/iso.h"

#define NAMES_MAX	(1u << 16)	/* of one directory that are compared */
#define FILES_MAX	(1u << 17)
#define DIRS_MAX	65535u		/* a path table cannot count further */
#define REPORTS_MAX	20		/* of one kind, for a pair of trees */

struct check {
	struct vmplat_iso *iso;
	void (*progress)(void *ctx, uint64_t bytes);
	void *ctx;
	uint64_t bytes, told;
	/* names of the directory at hand: hashes, each stamped with the directory's number */
	struct { uint64_t hash; uint32_t dir; } *names;
	uint32_t dir, nr_names;
	uint64_t dir_hash;
	/* directories of the hierarchy at hand, in any order */
	uint64_t dirs_sum, nr_dirs;
	uint64_t clusters;	/* of a FAT file system's files */
};

/* FNV-1a, with the bits mixed: sums of it compare sets, and a set is indexed by it. */
static uint64_t hash(const void *data, size_t len)
{
	const uint8_t *p = data;
	uint64_t h = 0xcbf29ce484222325;

	while (len--)
		h = (h ^ *p++) * 0x100000001b3;
	h ^= h >> 32;
	h *= 0xd6e8feb86659fd93;
	return h ^ h >> 32;
}

static void advance(struct check *c, uint64_t bytes)
{
	c->bytes += bytes;
	if (!c->progress || c->bytes - c->told < 65536)
		return;
	c->told = c->bytes;
	c->progress(c->ctx, c->bytes);
}

/* ---- directories ------------------------------------------------------- */

static uint64_t dir_hash(uint64_t parent, uint64_t pos, const char *name, size_t len)
{
	uint64_t key[3] = { parent, pos, hash(name, len) };

	return hash(key, sizeof(key));
}

/* What a directory's first two records say, against what led to it. */
static void check_dots(struct check *c, const struct iso_volume *vol,
		       const struct vmplat_iso_entry *e)
{
	struct vmplat_iso *iso = c->iso;
	uint64_t parent = e->place[0], up;
	uint8_t self[255], dots[255];
	struct iso_node *n;
	struct iso_rr rr;
	uint64_t extra = 0;
	size_t at;

	if (iso_dir_self(iso, vol, e->st.pos, self)) {
		iso_warn(iso, "directory-self", e->st.pos, "the directory does not begin with a record "
			 "of itself");
		return;
	}
	if (le32(self + 10) != e->st.stored_bytes)
		iso_warn(iso, "directory-self", e->st.pos, "the directory has %" PRIu64 " bytes where it "
			 "is named and %" PRIu32 " in itself", e->st.stored_bytes, le32(self + 10));
	up = e->st.pos + self[0];
	if (iso_read(iso, dots, 34, up) || dots[0] < 34 || dots[32] != 1 || dots[33] != 1) {
		iso_warn(iso, "directory-parent", up, "the directory's second record is not that of its "
			 "parent");
		return;
	}
	if (!(e->st.flags & VMPLAT_ISO_RELOCATED)) {
		if (((uint64_t)le32(dots + 2) + dots[1]) * vol->block != parent)
			iso_warn(iso, "directory-parent", up, "the directory says that its parent is at %"
				 PRIu64 "; it is at %" PRIu64, (uint64_t)le32(dots + 2) * vol->block,
				 parent);
		return;
	}
	at = iso_susp_start(dots) + iso->susp_skip;
	n = malloc(sizeof(*n));
	if (n && at < dots[0] && !iso_read(iso, dots, dots[0], up)) {
		n->st = e->st;
		iso_susp(iso, vol, dots + at, dots[0] - at, up + at, n, &rr, &extra);
		if (!rr.parent || (uint64_t)rr.parent_block * vol->block != parent)
			iso_warn(iso, "rr-parent-link", up, "a relocated directory does not lead back to its "
				 "parent at %" PRIu64, parent);
	}
	free(n);
}

static void check_duplicate(struct check *c, const char *path, const struct vmplat_iso_entry *e)
{
	uint64_t dir = hash(path, strlen(path) - strlen(e->name)), name = hash(e->name, strlen(e->name));
	uint32_t i = name % (2 * NAMES_MAX);

	if (dir != c->dir_hash) {
		c->dir++;
		c->nr_names = 0;
		c->dir_hash = dir;
	}
	for (; c->names[i].dir == c->dir; i = (i + 1) % (2 * NAMES_MAX)) {
		if (c->names[i].hash != name)
			continue;
		iso_bad(c->iso, "duplicate-name", e->st.pos, "the name is in the directory twice");
		return;
	}
	if (c->nr_names++ == NAMES_MAX)
		iso_note(c->iso, "many-names", e->st.pos, "a directory of more than %u names: the others "
			 "are not compared with each other", NAMES_MAX);
	if (c->nr_names > NAMES_MAX)
		return;
	c->names[i].hash = name;
	c->names[i].dir = c->dir;
}

/* zisofs and sections are looked at when a file is opened. */
static void check_contents(struct check *c, const struct vmplat_iso_entry *e)
{
	struct vmplat_iso_file *f;

	if (c->iso->tree == VMPLAT_ISO_EFI && S_ISREG(e->st.mode))
		iso_fat_check_file(c->iso, e, &c->clusters);
	if (!(e->st.flags & VMPLAT_ISO_ZISOFS) || (e->st.flags & VMPLAT_ISO_BROKEN))
		return;
	if (!vmplat_iso_file_open(&f, c->iso, e))
		vmplat_iso_file_close(f);
}

static int walk_tree(struct check *c, enum vmplat_iso_tree tree)
{
	const struct iso_volume *vol;
	struct vmplat_iso_entry e;
	struct vmplat_iso_walk *w;
	int rc;

	rc = vmplat_iso_use(c->iso, tree);
	if (!rc)
		rc = vmplat_iso_lookup(c->iso, "", 0, &e);
	if (rc)
		return rc == -EBADMSG ? 0 : rc;
	vol = iso_tree_volume(c->iso);
	if (vol)
		check_dots(c, vol, &(struct vmplat_iso_entry) { .st = e.st, .place = { e.st.pos } });
	rc = vmplat_iso_walk_open(&w, c->iso, &e, "", VMPLAT_ISO_WALK_GROUPED | VMPLAT_ISO_WALK_ALL);
	if (rc)
		return rc == -EBADMSG ? 0 : rc;
	c->dirs_sum = c->nr_dirs = c->dir_hash = 0;
	while ((rc = vmplat_iso_walk_next(w, &e))) {
		if (rc == -ENODATA)
			iso_bad(c->iso, "cut-short", c->iso->bytes, "the image ends in a directory");
		if (rc == -ENOMEM || rc == -EIO)
			break;
		if (rc < 0)
			continue;
		c->iso->where = vmplat_iso_walk_path(w);
		advance(c, 34 + strlen(e.name));
		if (!(e.st.flags & VMPLAT_ISO_ASSOCIATED))
			check_duplicate(c, c->iso->where, &e);
		check_contents(c, &e);
		if (vol && S_ISDIR(e.st.mode) && !(e.st.flags & VMPLAT_ISO_BROKEN)) {
			check_dots(c, vol, &e);
			c->dirs_sum += dir_hash(e.place[0], e.st.pos, e.name, strlen(e.name));
			c->nr_dirs++;
		}
	}
	c->iso->where = NULL;
	vmplat_iso_walk_close(w);
	return rc < 0 ? rc : 0;
}

/* ---- path tables ------------------------------------------------------- */

struct path_record {
	uint8_t len, xar;
	uint32_t block;
	uint16_t parent;
	uint8_t id[256];
};

/* The record at @off, moved behind it; -EBADMSG if the table ends in it. */
static int path_record(struct vmplat_iso *iso, bool big, uint64_t *off, uint64_t end,
		       struct path_record *r)
{
	uint8_t h[8];
	int rc;

	if (end - *off < 9)
		return -EBADMSG;
	rc = iso_read(iso, h, 8, *off);
	if (rc)
		return rc;
	r->len = h[0];
	r->xar = h[1];
	r->block = big ? be32(h + 2) : le32(h + 2);
	r->parent = big ? be16(h + 6) : le16(h + 6);
	if (!r->len || r->len > end - *off - 8)
		return -EBADMSG;
	rc = iso_read(iso, r->id, r->len, *off + 8);
	*off += 8 + r->len + (r->len & 1);
	if (*off > end)
		*off = end;
	return rc;
}

static void compare_tables(struct vmplat_iso *iso, uint64_t l, uint64_t other, uint64_t bytes,
			   bool big)
{
	struct path_record a, b;
	uint64_t l_end = l + bytes, end = other + bytes;

	if (!iso_inside(iso, other, bytes)) {
		iso_bad(iso, "path-table", other, "a path table reaches beyond the image");
		return;
	}
	while (l < l_end && other < end) {
		uint64_t at = other;

		if (path_record(iso, false, &l, l_end, &a))
			return;		/* told where the L table was read */
		if (path_record(iso, big, &other, end, &b) || a.len != b.len || a.block != b.block ||
		    a.parent != b.parent || a.xar != b.xar || memcmp(a.id, b.id, a.len)) {
			iso_warn(iso, "path-table-differs", at, "the path tables differ from here on");
			return;
		}
	}
}

/* The L table against the directories that were walked. */
static int check_table(struct check *c, const struct iso_volume *vol, uint64_t off, uint64_t bytes)
{
	uint32_t *blocks = malloc((DIRS_MAX + 1) * sizeof(*blocks));
	uint64_t end = off + bytes, sum = 0, nr = 0;
	struct vmplat_iso *iso = c->iso;
	struct path_record r;
	char name[VMPLAT_ISO_NAME_MAX + 4];
	uint8_t self[255];

	if (!blocks)
		return lib_error(-ENOMEM, "out of memory");
	while (off < end && nr < DIRS_MAX) {
		uint64_t at = off, pos;
		size_t len;

		if (path_record(iso, false, &off, end, &r)) {
			iso_bad(iso, "path-table", at, "path table record %" PRIu64 " is cut short",
				nr + 1);
			break;
		}
		blocks[++nr] = r.block + r.xar;
		pos = (uint64_t)blocks[nr] * vol->block;
		if (!r.parent || r.parent > nr || (r.parent == nr && nr > 1)) {
			iso_bad(iso, "path-table", at, "path table record %" PRIu64 " has parent %u, which "
				"does not come before it", nr, r.parent);
			break;
		}
		if (iso_dir_self(iso, vol, pos, self))
			iso_bad(iso, "path-table", at, "path table record %" PRIu64 " leads to %" PRIu64
				", where no directory begins", nr, pos);
		if (nr == 1)
			continue;
		len = iso_id_name(iso, vol, name, sizeof(name) - 4, r.id, r.len, at + 8);
		iso_tame(name, &len);
		sum += dir_hash((uint64_t)blocks[r.parent] * vol->block, pos, name, strlen(name));
		advance(c, 8 + r.len);
	}
	if (nr == DIRS_MAX && off < end)
		iso_note(iso, "path-table-full", off, "more than %u directories: the path table cannot "
			 "name their parents", DIRS_MAX);
	else if (nr != c->nr_dirs + 1)
		iso_warn(iso, "path-table-differs", vol->offset, "the path table has %" PRIu64
			 " directories, the tree %" PRIu64, nr, c->nr_dirs + 1);
	else if (sum != c->dirs_sum)
		iso_warn(iso, "path-table-differs", vol->offset, "names or places in the path table are "
			 "not those of the tree");
	free(blocks);
	return 0;
}

static int check_tables(struct check *c, const struct iso_volume *vol)
{
	struct vmplat_iso *iso = c->iso;
	uint64_t table[4], bytes;
	uint8_t vd[192];
	int rc;

	rc = iso_read(iso, vd, sizeof(vd), vol->offset);
	if (rc)
		return rc;
	bytes = iso_both32(iso, vd + 132, vol->offset + 132, "the path table's length");
	iso_both16(iso, vd + 120, vol->offset + 120, "the volume set's size");
	table[0] = (uint64_t)le32(vd + 140) * vol->block;
	table[1] = (uint64_t)be32(vd + 148) * vol->block;
	table[2] = (uint64_t)le32(vd + 144) * vol->block;
	table[3] = (uint64_t)be32(vd + 152) * vol->block;
	if (!iso_inside(iso, table[0], bytes) || !bytes) {
		iso_bad(iso, "path-table", vol->offset + 132, "the path table, %" PRIu64 " bytes at %"
			PRIu64 ", does not lie in the image", bytes, table[0]);
		return 0;
	}
	rc = check_table(c, vol, table[0], bytes);
	if (rc)
		return rc;
	compare_tables(iso, table[0], table[1], bytes, true);
	if (table[2])
		compare_tables(iso, table[0], table[2], bytes, false);
	if (table[3])
		compare_tables(iso, table[0], table[3], bytes, true);
	return 0;
}

/* ---- trees against each other ------------------------------------------ */

struct file {
	uint64_t key, pos, bytes;
	bool met;
};

/* By place: has each file a counterpart? By path: is it the same file? */
enum by { BY_PLACE, BY_PATH };

struct compare {
	struct check *c;
	struct file *files;
	uint32_t nr;
	enum by by;
	uint32_t slice, nr_slices;
	enum vmplat_iso_tree a, b;
	unsigned int reports;
	uint64_t total;
};

static bool in_slice(const struct compare *p, const char *path,
		     const struct vmplat_iso_entry *e, uint64_t *key)
{
	if (!S_ISREG(e->st.mode) || (e->st.flags & (VMPLAT_ISO_BROKEN | VMPLAT_ISO_INTERLEAVED)))
		return false;
	/* files without bytes have no place */
	if (p->by == BY_PLACE && !e->st.pos)
		return false;
	*key = p->by == BY_PLACE ? e->st.pos : hash(path, strlen(path));
	return hash(key, 8) % p->nr_slices == p->slice;
}

static int each_file(struct compare *p, enum vmplat_iso_tree tree,
		     void (*fn)(struct compare *p, const char *path, uint64_t key,
				const struct vmplat_iso_entry *e))
{
	struct vmplat_iso *iso = p->c->iso;
	struct vmplat_iso_entry e;
	struct vmplat_iso_walk *w;
	uint64_t key;
	int rc;

	rc = vmplat_iso_use(iso, tree);
	if (!rc)
		rc = vmplat_iso_lookup(iso, "", 0, &e);
	if (!rc)
		rc = vmplat_iso_walk_open(&w, iso, &e, "", 0);
	if (rc)
		return rc == -EBADMSG ? 0 : rc;
	iso_hush(iso, true);
	while ((rc = vmplat_iso_walk_next(w, &e)) && rc != -ENOMEM && rc != -EIO) {
		if (rc < 0)
			continue;
		advance(p->c, 34 + strlen(e.name));
		if (!in_slice(p, vmplat_iso_walk_path(w), &e, &key))
			continue;
		iso_hush(iso, false);
		iso->where = vmplat_iso_walk_path(w);
		fn(p, iso->where, key, &e);
		iso->where = NULL;
		iso_hush(iso, true);
	}
	iso_hush(iso, false);
	vmplat_iso_walk_close(w);
	return rc < 0 ? rc : 0;
}

static void count_file(struct compare *p, const char *path, uint64_t key,
		       const struct vmplat_iso_entry *e)
{
	p->total++;
}

static void keep_file(struct compare *p, const char *path, uint64_t key,
		      const struct vmplat_iso_entry *e)
{
	/* a slice fuller than the average by half is told of below */
	if (p->nr < FILES_MAX)
		p->files[p->nr++] = (struct file) { key, e->st.pos, e->st.stored_bytes, false };
}

static int by_key(const void *pa, const void *pb)
{
	const struct file *a = pa, *b = pb;

	return a->key < b->key ? -1 : a->key > b->key;
}

/* The first of those with this key. */
static struct file *find(struct compare *p, uint64_t key)
{
	uint32_t lo = 0, hi = p->nr;

	while (lo < hi) {
		uint32_t mid = lo + (hi - lo) / 2;

		if (p->files[mid].key < key)
			lo = mid + 1;
		else
			hi = mid;
	}
	return lo < p->nr && p->files[lo].key == key ? &p->files[lo] : NULL;
}

static bool may_report(struct compare *p)
{
	if (p->reports++ < REPORTS_MAX)
		return true;
	if (p->reports == REPORTS_MAX + 1)
		iso_note(p->c->iso, "tree-more", 0, "and there is more in which the %s and %s trees differ",
			 vmplat_iso_tree_name(p->a), vmplat_iso_tree_name(p->b));
	return false;
}

static void only(struct compare *p, enum vmplat_iso_tree in, enum vmplat_iso_tree not_in,
		 uint64_t pos)
{
	if (may_report(p))
		iso_warn(p->c->iso, "tree-only", pos, "a file of the %s tree that the %s tree does not have",
			 vmplat_iso_tree_name(in), vmplat_iso_tree_name(not_in));
}

static void meet_place(struct compare *p, const char *path, uint64_t key,
		       const struct vmplat_iso_entry *e)
{
	struct file *f = find(p, key);
	bool same = false;

	if (!f) {
		only(p, p->b, p->a, key);
		return;
	}
	for (; f < p->files + p->nr && f->key == key; f++) {
		f->met = true;
		same |= f->bytes == e->st.stored_bytes;
	}
	if (!same && may_report(p))
		iso_bad(p->c->iso, "tree-length", key, "the file has %" PRIu64 " bytes in the %s tree "
			"and %" PRIu64 " in the %s tree", e->st.stored_bytes, vmplat_iso_tree_name(p->b),
			f[-1].bytes, vmplat_iso_tree_name(p->a));
}

static void miss_place(struct compare *p, const char *path, uint64_t key,
		       const struct vmplat_iso_entry *e)
{
	struct file *f = find(p, key);

	if (f && !f->met)
		only(p, p->a, p->b, key);
}

/* Two copies of the same bytes are no disagreement; small ones are read to see. */
static bool same_bytes(struct vmplat_iso *iso, const struct file *f,
		       const struct vmplat_iso_entry *e)
{
	uint8_t a[4096], b[4096];

	if (f->bytes != e->st.stored_bytes)
		return false;
	if (f->pos == e->st.pos || !f->bytes)
		return true;
	if (f->bytes > 1 << 20 || e->st.nr_sections > 1)
		return false;
	for (uint64_t at = 0; at < f->bytes; at += sizeof(a)) {
		size_t n = f->bytes - at < sizeof(a) ? f->bytes - at : sizeof(a);

		if (iso_read(iso, a, n, f->pos + at) || iso_read(iso, b, n, e->st.pos + at) ||
		    memcmp(a, b, n))
			return false;
	}
	return true;
}

static void meet_path(struct compare *p, const char *path, uint64_t key,
		      const struct vmplat_iso_entry *e)
{
	struct file *f = find(p, key);

	if (f && !same_bytes(p->c->iso, f, e) && may_report(p))
		iso_bad(p->c->iso, "tree-content", e->st.pos, "the file of this name is %" PRIu64
			" bytes at %" PRIu64 " in the %s tree, and %" PRIu64 " bytes at %" PRIu64
			" in the %s tree", f->bytes, f->pos, vmplat_iso_tree_name(p->a),
			e->st.stored_bytes, e->st.pos, vmplat_iso_tree_name(p->b));
}

static int compare_by(struct compare *p, enum by by)
{
	int rc;

	p->by = by;
	p->slice = 0;
	p->nr_slices = 1;
	p->total = 0;
	p->reports = 0;
	rc = each_file(p, p->a, count_file);
	/* hashes are even enough for slices two thirds full on average */
	p->nr_slices = p->total / (FILES_MAX / 3 * 2) + 1;
	for (; !rc && p->slice < p->nr_slices; p->slice++) {
		p->nr = 0;
		rc = each_file(p, p->a, keep_file);
		qsort(p->files, p->nr, sizeof(*p->files), by_key);
		if (!rc)
			rc = each_file(p, p->b, by == BY_PLACE ? meet_place : meet_path);
		if (!rc && by == BY_PLACE)
			rc = each_file(p, p->a, miss_place);
	}
	return rc;
}

static int compare_trees(struct check *c, enum vmplat_iso_tree a, enum vmplat_iso_tree b)
{
	struct compare p = { .c = c, .a = a, .b = b };
	int rc;

	p.files = malloc(FILES_MAX * sizeof(*p.files));
	if (!p.files)
		return lib_error(-ENOMEM, "out of memory");
	rc = compare_by(&p, BY_PLACE);
	/* names of the plain tree are short forms of the others' */
	if (!rc && a != VMPLAT_ISO_PLAIN && b != VMPLAT_ISO_PLAIN)
		rc = compare_by(&p, BY_PATH);
	free(p.files);
	return rc;
}

/* ---- all of it --------------------------------------------------------- */

/* What opening the disc met before anybody listened. */
static int check_opening(struct vmplat_iso *iso)
{
	struct vmplat_iso *again = calloc(1, sizeof(*again));

	if (!again)
		return lib_error(-ENOMEM, "out of memory");
	again->fd = iso->fd;
	again->bytes = iso->bytes;
	pthread_mutex_init(&again->lock, NULL);
	vmplat_iso_on_issue(again, iso->on_issue, iso->issue_ctx);
	iso_find_trees(again);
	iso->nr_errors += again->nr_errors;
	again->fd = -1;
	vmplat_iso_close(again);
	return 0;
}

static int check_trees(struct check *c)
{
	unsigned int have = vmplat_iso_trees(c->iso);
	int rc = 0;

	for (int t = 1; t < VMPLAT_ISO_NR_TREES && !rc; t++) {
		if (!(have & 1 << t))
			continue;
		rc = walk_tree(c, t);
		if (!rc && t == VMPLAT_ISO_EFI)
			rc = iso_fat_check_tables(c->iso);
		else if (!rc && t != VMPLAT_ISO_RR && t != VMPLAT_ISO_UDF)
			rc = check_tables(c, iso_tree_volume(c->iso));
	}
	return rc;
}

/* Each of the others with the one that people see. */
static int check_agreement(struct check *c)
{
	unsigned int have = vmplat_iso_trees(c->iso);
	enum vmplat_iso_tree best;
	int rc;

	rc = vmplat_iso_use(c->iso, VMPLAT_ISO_AUTO);
	best = c->iso->tree;
	/* other files; Rock Ridge is the plain tree with better names */
	have &= ~(1u << VMPLAT_ISO_EFI);
	if (have & 1 << VMPLAT_ISO_RR)
		have &= ~(1u << VMPLAT_ISO_PLAIN);
	for (int t = 1; t < VMPLAT_ISO_NR_TREES && !rc; t++)
		if ((have & 1 << t) && t != (int)best)
			rc = compare_trees(c, best, t);
	return rc;
}

static int check_boot(struct vmplat_iso *iso)
{
	struct vmplat_iso_boot *b = calloc(64, sizeof(*b));
	int rc;

	if (!b)
		return lib_error(-ENOMEM, "out of memory");
	rc = vmplat_iso_boot(iso, b, 64);
	if (rc >= 0 || rc == -EBADMSG)
		rc = vmplat_iso_partitions(iso, NULL, 0);
	free(b);
	return rc < 0 && rc != -EBADMSG ? rc : 0;
}

API int vmplat_iso_check(struct vmplat_iso *iso, void (*progress)(void *ctx, uint64_t bytes),
			 void *ctx)
{
	struct check c = { .iso = iso, .progress = progress, .ctx = ctx };
	enum vmplat_iso_tree tree = iso->tree;
	int rc;

	iso->nr_errors = 0;
	c.names = calloc(2 * NAMES_MAX, sizeof(*c.names));
	rc = c.names ? check_opening(iso) : lib_error(-ENOMEM, "out of memory");
	if (!rc)
		rc = check_trees(&c);
	if (!rc)
		rc = check_boot(iso);
	free(c.names);
	if (!rc)
		rc = check_agreement(&c);
	iso->tree = tree;
	return rc ? rc : (int)iso->nr_errors;
}
