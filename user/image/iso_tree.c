// SPDX-License-Identifier: LGPL-2.1-or-later
/*
 * Names: looking one up, listing a directory, walking a tree.
 *
 * A walk is depth first and remembers, for each directory it is in, only where that
 * stands and how far it got. It ends on any disc: directories below each other
 * cannot repeat, and those entered cannot be longer together than the image,
 * which true ones are not, since they do not overlap.
 */
#include <inttypes.h>
#include <limits.h>
#include <stdlib.h>
#include <strings.h>
#include <sys/stat.h>

#include "image/iso.h"

void iso_root(struct vmplat_iso *iso, struct iso_node *n)
{
	const struct iso_volume *vol = iso_tree_volume(iso);
	uint8_t self[255];
	struct iso_rr rr;
	uint64_t extra = 0;
	size_t at;

	memset(&n->st, 0, sizeof(n->st));
	n->name[0] = n->link[0] = '\0';
	n->name_len = 0;
	n->err = 0;
	memset(n->place, 0, sizeof(n->place));
	n->place[3] = PLACE_TREE(iso->tree) | PLACE_ROOT;
	if (iso->tree == VMPLAT_ISO_EFI) {
		iso_fat_root(iso, n);
		return;
	}
	if (!vol) {
		n->err = iso_udf_node(iso, iso_udf_root(iso), n, NULL);
		n->place[0] = iso_udf_root(iso);
		return;
	}
	n->st.mode = S_IFDIR | 0555;
	n->st.nlink = 1;
	n->st.nr_sections = 1;
	n->st.pos = vol->root.pos;
	n->st.bytes = n->st.stored_bytes = vol->root.bytes;
	if (!iso_dir_self(iso, vol, vol->root.pos, self)) {
		if (iso_time7(self + 18, &n->st.mtime))
			n->st.times = VMPLAT_ISO_MTIME;
		at = iso_susp_start(self);
		if (iso->tree == VMPLAT_ISO_RR && at < self[0])
			iso_susp(iso, vol, self + at, self[0] - at, vol->root.pos + at, n, &rr, &extra);
		n->name_len = 0;
		n->name[0] = '\0';
	}
}

int iso_loc_of(struct vmplat_iso *iso, const struct vmplat_iso_entry *e, struct iso_loc *loc)
{
	if ((uint32_t)e->place[3] != PLACE_TREE(iso->tree))
		return lib_error(-EINVAL, "the entry is not of the %s tree, which is being read",
				 vmplat_iso_tree_name(iso->tree));
	if (!S_ISDIR(e->st.mode))
		return lib_error(-ENOTDIR, "'%s' is not a directory", e->name);
	if (iso->tree == VMPLAT_ISO_UDF)
		*loc = (struct iso_loc) { e->place[0], 0 };
	else
		*loc = (struct iso_loc) { e->st.pos, e->st.stored_bytes };
	return 0;
}

void iso_entry(const struct iso_node *n, struct vmplat_iso_entry *e)
{
	e->name = n->name;
	e->link = n->link;
	e->st = n->st;
	memcpy(e->place, n->place, sizeof(e->place));
}

/* ---- one directory ----------------------------------------------------- */

struct vmplat_iso_dir {
	struct iso_cursor cursor;
	struct iso_node node;
};

API int vmplat_iso_dir_open(struct vmplat_iso_dir **out, struct vmplat_iso *iso,
			    const struct vmplat_iso_entry *e)
{
	struct vmplat_iso_dir *dir;
	struct iso_loc loc;
	int rc;

	*out = NULL;
	rc = iso_loc_of(iso, e, &loc);
	if (rc)
		return rc;
	dir = malloc(sizeof(*dir));
	if (!dir)
		return lib_error(-ENOMEM, "out of memory");
	rc = iso_cursor_open(&dir->cursor, iso, loc);
	if (rc) {
		vmplat_iso_dir_close(dir);
		return rc;
	}
	*out = dir;
	return 0;
}

API int vmplat_iso_dir_next(struct vmplat_iso_dir *dir, struct vmplat_iso_entry *e)
{
	int rc = iso_cursor_next(&dir->cursor, &dir->node);

	if (rc == 1)
		iso_entry(&dir->node, e);
	return rc;
}

API void vmplat_iso_dir_close(struct vmplat_iso_dir *dir)
{
	if (!dir)
		return;
	iso_cursor_close(&dir->cursor);
	free(dir);
}

/* ---- looking up -------------------------------------------------------- */

#define LINKS_MAX 40

/* The state of a lookup: the path still to go, and the directories passed, for "..". */
struct lookup {
	struct vmplat_iso *iso;
	char rest[PATH_MAX + ISO_LINK_MAX + 2];
	struct vmplat_iso_entry *stack;
	unsigned int depth, links;
	struct iso_node node;
};

/* A second, inexact match is not accepted where an exact one exists: one pass, best kept. */
static int find_name(struct lookup *l, const char *name, size_t len, struct vmplat_iso_entry *out)
{
	bool fold = l->iso->tree != VMPLAT_ISO_RR && l->iso->tree != VMPLAT_ISO_UDF;
	char link[ISO_LINK_MAX + 1];
	struct iso_cursor c;
	struct iso_loc loc;
	bool found = false;
	int rc;

	if (!S_ISDIR(l->stack[l->depth].st.mode))
		return lib_error(-ENOTDIR, "what '%.*s' should be in is not a directory", (int)len, name);
	rc = iso_loc_of(l->iso, &l->stack[l->depth], &loc);
	if (!rc)
		rc = iso_cursor_open(&c, l->iso, loc);
	if (rc)
		return rc;
	while ((rc = iso_cursor_next(&c, &l->node)) == 1 || rc == -EBADMSG) {
		const struct iso_node *n = &l->node;
		bool exact;

		if (rc != 1 || n->name_len != len || (n->st.flags & VMPLAT_ISO_ASSOCIATED))
			continue;
		exact = !memcmp(n->name, name, len);
		if (!exact && (!fold || found || strncasecmp(n->name, name, len)))
			continue;
		iso_entry(n, out);
		memcpy(link, n->link, sizeof(link));
		found = true;
		if (exact)
			break;
	}
	iso_cursor_close(&c);
	if (rc < 0)
		return rc;
	if (!found)
		return lib_error(-ENOENT, "there is no '%.*s' in the %s tree", (int)len, name,
				 vmplat_iso_tree_name(l->iso->tree));
	memcpy(l->node.link, link, sizeof(link));
	out->name = "";
	out->link = l->node.link;
	return 0;
}

/* Put a link's target before what is left of the path. */
static int follow(struct lookup *l, const char *rest)
{
	char joined[sizeof(l->rest)];
	const char *target = l->node.link;

	if (++l->links > LINKS_MAX)
		return lib_error(-ELOOP, "more than %d symbolic links on the way", LINKS_MAX);
	if (strlen(target) + strlen(rest) + 2 > sizeof(joined))
		return lib_error(-ENAMETOOLONG, "the path is too long with its links followed");
	stpcpy(stpcpy(stpcpy(joined, target), "/"), rest);
	if (*target == '/')
		l->depth = 0;
	memcpy(l->rest, joined, strlen(joined) + 1);
	return 0;
}

static int push(struct lookup *l, const struct vmplat_iso_entry *e)
{
	struct vmplat_iso_entry *stack;

	if (l->depth + 1 >= VMPLAT_ISO_DEPTH_MAX)
		return lib_error(-ENAMETOOLONG, "the path has more than %d directories",
				 VMPLAT_ISO_DEPTH_MAX);
	stack = realloc(l->stack, (l->depth + 2) * sizeof(*stack));
	if (!stack)
		return lib_error(-ENOMEM, "out of memory");
	l->stack = stack;
	stack[++l->depth] = *e;
	return 0;
}

/* One component; it goes onto the stack, so that the end is what is on top. */
static int step(struct lookup *l, const char *name, size_t len, const char *rest,
		unsigned int flags)
{
	struct vmplat_iso_entry e;
	int rc;

	if (len == 1 && name[0] == '.')
		return 0;
	if (len == 2 && name[0] == '.' && name[1] == '.') {
		if (l->depth)
			l->depth--;
		return 0;
	}
	rc = find_name(l, name, len, &e);
	if (rc)
		return rc;
	if (S_ISLNK(e.st.mode) && (*rest || flags & VMPLAT_ISO_FOLLOW))
		return follow(l, rest);
	return push(l, &e);
}

static int resolve(struct lookup *l, unsigned int flags)
{
	char *p = l->rest;
	int rc;

	for (;;) {
		char name[VMPLAT_ISO_NAME_MAX + 1];
		unsigned int links = l->links;
		size_t len;

		p += strspn(p, "/");
		len = strcspn(p, "/");
		if (!len)
			return 0;
		if (len > VMPLAT_ISO_NAME_MAX)
			return lib_error(-ENAMETOOLONG, "a name of %zu bytes", len);
		memcpy(name, p, len);
		name[len] = '\0';
		p += len;
		p += strspn(p, "/");
		rc = step(l, name, len, p, flags);
		if (rc)
			return rc;
		if (l->links != links)
			p = l->rest;
	}
}

/*
 * Where a link's target is kept for this thread. Not a thread-local array: programs that load this library while they
 * run have little room for those.
 */
static pthread_key_t link_key;

static void make_link_key(void)
{
	pthread_key_create(&link_key, free);
}

static char *link_buffer(void)
{
	static pthread_once_t once = PTHREAD_ONCE_INIT;
	char *link;

	pthread_once(&once, make_link_key);
	link = pthread_getspecific(link_key);
	if (!link) {
		link = malloc(ISO_LINK_MAX + 1);
		pthread_setspecific(link_key, link);
	}
	return link;
}

API int vmplat_iso_lookup(struct vmplat_iso *iso, const char *path, unsigned int flags,
			  struct vmplat_iso_entry *entry)
{
	char *link = link_buffer();
	struct lookup *l;
	int rc;

	if (strlen(path) > PATH_MAX)
		return lib_error(-ENAMETOOLONG, "the path has more than %d bytes", PATH_MAX);
	l = link ? calloc(1, sizeof(*l)) : NULL;
	if (!l)
		return lib_error(-ENOMEM, "out of memory");
	l->iso = iso;
	l->stack = malloc(sizeof(*l->stack));
	rc = l->stack ? 0 : lib_error(-ENOMEM, "out of memory");
	if (!rc) {
		strcpy(l->rest, path);
		iso_root(iso, &l->node);
		iso_entry(&l->node, l->stack);
		rc = l->node.err ? l->node.err : resolve(l, flags);
	}
	if (!rc) {
		*entry = l->stack[l->depth];
		entry->name = "";
		link[0] = '\0';
		if (S_ISLNK(entry->st.mode))
			memcpy(link, l->node.link, ISO_LINK_MAX + 1);
		entry->link = link;
	}
	free(l->stack);
	free(l);
	return rc;
}

/* ---- walking ----------------------------------------------------------- */

struct frame {
	struct iso_loc loc;
	uint64_t off;		/* where to go on */
	size_t path_len;	/* of the directory's own path */
	bool descending;	/* grouped: entries are told, now for the subdirectories */
};

struct vmplat_iso_walk {
	struct vmplat_iso *iso;
	unsigned int flags;
	uint64_t budget;	/* bytes of directories that may still be entered */
	struct frame *stack;
	unsigned int depth, room;	/* frames in use */
	bool have_dir;		/* @dir is to be entered, unless it is skipped */
	struct iso_loc dir;
	struct iso_cursor cursor;	/* of the topmost frame, if @open */
	bool open;
	struct iso_node node;
	size_t path_len;
	char path[VMPLAT_ISO_PATH_MAX + VMPLAT_ISO_NAME_MAX + 2];
};

static void close_cursor(struct vmplat_iso_walk *w)
{
	if (!w->open)
		return;
	w->stack[w->depth - 1].off = w->cursor.off;
	iso_cursor_close(&w->cursor);
	w->open = false;
}

static void leave(struct vmplat_iso_walk *w)
{
	close_cursor(w);
	w->depth--;
}

static int enter(struct vmplat_iso_walk *w, struct iso_loc loc)
{
	/* of those whose length is not known yet, the rest comes when they are opened */
	uint64_t cost = loc.bytes ? loc.bytes : w->iso->tree == VMPLAT_ISO_EFI ? 32 : ISO_SECTOR;
	struct frame *stack;

	for (unsigned int i = 0; i < w->depth; i++)
		if (w->stack[i].loc.pos == loc.pos)
			return iso_bad(w->iso, "directory-loop", loc.pos, "the directory %s is its own "
				       "ancestor", w->path), -ELOOP;
	if (w->depth == VMPLAT_ISO_DEPTH_MAX)
		return iso_bad(w->iso, "directory-depth", loc.pos, "more than %d directories below each "
			       "other", VMPLAT_ISO_DEPTH_MAX), -ENAMETOOLONG;
	if (w->path_len >= VMPLAT_ISO_PATH_MAX)
		return iso_bad(w->iso, "directory-depth", loc.pos, "a path of more than %d bytes",
			       VMPLAT_ISO_PATH_MAX), -ENAMETOOLONG;
	if (cost > w->budget)
		return iso_bad(w->iso, "directory-overlap", loc.pos, "the tree's directories are longer "
			       "than the disc: they overlap");
	w->budget -= cost;
	if (w->depth == w->room) {
		stack = realloc(w->stack, (w->room * 2 + 16) * sizeof(*stack));
		if (!stack)
			return lib_error(-ENOMEM, "out of memory");
		w->stack = stack;
		w->room = w->room * 2 + 16;
	}
	close_cursor(w);
	w->stack[w->depth++] = (struct frame) { .loc = loc, .path_len = w->path_len };
	return 0;
}

static int open_top(struct vmplat_iso_walk *w)
{
	struct frame *f = &w->stack[w->depth - 1];
	int rc;

	if (w->open)
		return 0;
	rc = iso_cursor_open(&w->cursor, w->iso, f->loc);
	if (rc) {
		iso_cursor_close(&w->cursor);
		w->path_len = f->path_len;
		w->path[w->path_len] = '\0';
		w->depth--;
		return rc;
	}
	w->cursor.off = f->off;
	/* how long a directory of UDF or FAT is is known only now */
	if (!w->cursor.vol && !f->off && !f->descending)
		w->cursor.extra = w->cursor.sections.bytes;
	w->open = true;
	return 0;
}

static void set_path(struct vmplat_iso_walk *w)
{
	size_t at = w->stack[w->depth - 1].path_len;

	if (at && w->path[at - 1] != '/')
		w->path[at++] = '/';
	memcpy(w->path + at, w->node.name, w->node.name_len);
	w->path_len = at + w->node.name_len;
	w->path[w->path_len] = '\0';
}

/*
 * Continuation areas count as well: they may be many times the record that has them. The
 * walk ends when there is more than the disc can have.
 */
static int charge(struct vmplat_iso_walk *w)
{
	uint64_t extra = w->cursor.extra;

	w->cursor.extra = 0;
	if (extra <= w->budget) {
		w->budget -= extra;
		return 0;
	}
	while (w->depth)
		leave(w);
	return iso_bad(w->iso, "directory-overlap", w->cursor.loc.pos, "the tree's directories and "
		       "continuation areas are longer than the disc: they overlap");
}

/*
 * The next of the topmost directory that concerns the caller, or that is to be entered.
 * 1, 0 at its end.
 */
static int next_here(struct vmplat_iso_walk *w, bool *told)
{
	struct frame *f = &w->stack[w->depth - 1];
	bool grouped = w->flags & VMPLAT_ISO_WALK_GROUPED;
	int rc;

	for (;;) {
		rc = open_top(w);
		if (rc)
			return rc;
		/* the path for issues is the directory's until there is a name */
		w->path[f->path_len] = '\0';
		w->path_len = f->path_len;
		if (f->descending)
			iso_hush(w->iso, true);
		rc = iso_cursor_next(&w->cursor, &w->node);
		if (f->descending)
			iso_hush(w->iso, false);
		if (rc == 0 && grouped && !f->descending && !(w->flags & VMPLAT_ISO_WALK_FLAT)) {
			f->descending = true;
			w->cursor.off = 0;
			continue;
		}
		if (rc < 0 && f->descending)
			continue;	/* told the first time */
		if (rc != 1)
			return rc;
		if (!f->descending) {
			rc = charge(w);
			if (rc)
				return rc;
		}
		if ((w->node.st.flags & VMPLAT_ISO_ASSOCIATED) && !(w->flags & VMPLAT_ISO_WALK_ALL))
			continue;
		if (f->descending && (!S_ISDIR(w->node.st.mode) || w->node.err))
			continue;
		*told = !f->descending;
		set_path(w);
		return 1;
	}
}

static void note_dir(struct vmplat_iso_walk *w)
{
	struct vmplat_iso_entry e;

	w->have_dir = false;
	if (!S_ISDIR(w->node.st.mode) || w->node.err || (w->flags & VMPLAT_ISO_WALK_FLAT))
		return;
	iso_entry(&w->node, &e);
	w->have_dir = !iso_loc_of(w->iso, &e, &w->dir);
}

API int vmplat_iso_walk_next(struct vmplat_iso_walk *w, struct vmplat_iso_entry *e)
{
	bool told;
	int rc;

	iso_at_path(w->iso, w->path);
	for (;;) {
		if (w->have_dir) {
			w->have_dir = false;
			rc = enter(w, w->dir);
			if (rc)
				break;
		}
		if (!w->depth) {
			rc = 0;
			break;
		}
		rc = next_here(w, &told);
		if (rc == 0) {
			leave(w);
			continue;
		}
		if (rc < 0)
			break;
		if (!told || !(w->flags & VMPLAT_ISO_WALK_GROUPED))
			note_dir(w);
		if (told) {
			iso_entry(&w->node, e);
			break;
		}
	}
	iso_at_path(w->iso, NULL);
	return rc;
}

API int vmplat_iso_walk_open(struct vmplat_iso_walk **out, struct vmplat_iso *iso,
			     const struct vmplat_iso_entry *top, const char *path,
			     unsigned int flags)
{
	struct vmplat_iso_walk *w;
	struct iso_loc loc;
	int rc;

	*out = NULL;
	if (strlen(path) >= VMPLAT_ISO_PATH_MAX)
		return lib_error(-ENAMETOOLONG, "the path is too long");
	rc = iso_loc_of(iso, top, &loc);
	if (rc)
		return rc;
	w = calloc(1, sizeof(*w));
	if (!w)
		return lib_error(-ENOMEM, "out of memory");
	w->iso = iso;
	w->flags = flags;
	w->budget = iso->bytes;
	w->path_len = strlen(path);
	memcpy(w->path, path, w->path_len);
	rc = enter(w, loc);
	if (rc)
		vmplat_iso_walk_close(w);
	else
		*out = w;
	return rc;
}

API const char *vmplat_iso_walk_path(const struct vmplat_iso_walk *w)
{
	return w->path;
}

API unsigned int vmplat_iso_walk_depth(const struct vmplat_iso_walk *w)
{
	return w->depth ? w->depth - 1 : 0;
}

API void vmplat_iso_walk_skip(struct vmplat_iso_walk *w)
{
	w->have_dir = false;
}

API void vmplat_iso_walk_close(struct vmplat_iso_walk *w)
{
	if (!w)
		return;
	if (w->open)
		iso_cursor_close(&w->cursor);
	free(w->stack);
	free(w);
}
