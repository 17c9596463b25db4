// SPDX-License-Identifier: GPL-2.0-only
/*
 * The journal: what is going to be changed is on disk before it is, and what came of it
 * afterwards. So at any instant of a kill -9 or a power cut, a change is either not in
 * the journal and has not been begun, or is there with the state before it.
 *
 * It is a journal of lib/journal.h, which sees to lines, checksums, torn ends, damage and
 * the lock. What is here is what the lines say, in JSON:
 *
 *	{"journal":1,"boot":ID}
 *	{"begin":N,"run":R,"time_ns":T,"class":C,"object":O,"ino":I,"before":S,"after":S,
 *	 "line":L}		or "undoes":M instead of "line"
 *	{"end":N,"time_ns":T,"result":W,"now":S,"why":TEXT}	"gone":true instead of "now"
 *
 * and that there is one for each boot. States of sysfs do not outlive a boot, so neither
 * does a journal: the first to make changes after a boot keeps the old one as PATH.1 and
 * begins a new one.
 */
#include <errno.h>
#include <fcntl.h>
#include <json-c/json.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <time.h>
#include <unistd.h>

#include <vmplat.h>
#include <vmplat_clock.h>

#include "lib/journal.h"
#include "plug.h"

#define NEEDS_ROOT	"; changing hardware needs root"

static const char *const results[] = {
	[PLUG_UNFINISHED] = "unfinished", [PLUG_DONE] = "done", [PLUG_FAILED] = "failed",
	[PLUG_RECOVERED] = "recovered",
};

const char *plug_result_name(enum plug_result result)
{
	return results[result];
}

/* ---- records as JSON ------------------------------------------------------------------- */

static void put_u64(struct json_object *o, const char *key, uint64_t v)
{
	json_object_object_add(o, key, json_object_new_uint64(v));
}

static void put_text(struct json_object *o, const char *key, const char *v)
{
	json_object_object_add(o, key, json_object_new_string(v));
}

static void put_cause(struct json_object *o, const struct plug_change *c)
{
	if (c->undoes)
		put_u64(o, "undoes", c->undoes);
	else
		put_u64(o, "line", c->line);
}

static struct json_object *begin_record(const struct plug_change *c)
{
	struct json_object *o = json_object_new_object();

	put_u64(o, "begin", c->number);
	put_u64(o, "run", c->run);
	put_u64(o, "time_ns", c->begin_ns);
	put_text(o, "class", plug_class_name(c->class_));
	put_text(o, "object", c->object);
	put_u64(o, "ino", c->ino);
	json_object_object_add(o, "before", plug_state_to_json(c->class_, &c->before));
	json_object_object_add(o, "after", plug_state_to_json(c->class_, &c->after));
	put_cause(o, c);
	return o;
}

static void put_outcome(struct json_object *o, const struct plug_change *c)
{
	put_text(o, "result", results[c->result]);
	if (c->gone)
		json_object_object_add(o, "gone", json_object_new_boolean(true));
	else if (c->result != PLUG_UNFINISHED)
		json_object_object_add(o, "now", plug_state_to_json(c->class_, &c->now));
	if (*c->why)
		put_text(o, "why", c->why);
}

struct json_object *plug_change_to_json(const struct plug_change *c)
{
	struct json_object *o = json_object_new_object();

	put_u64(o, "change", c->number);
	put_u64(o, "run", c->run);
	put_u64(o, "time_ns", c->begin_ns);
	put_text(o, "class", plug_class_name(c->class_));
	put_text(o, "object", c->object);
	put_cause(o, c);
	json_object_object_add(o, "before", plug_state_to_json(c->class_, &c->before));
	json_object_object_add(o, "after", plug_state_to_json(c->class_, &c->after));
	put_outcome(o, c);
	if (c->undone_by)
		put_u64(o, "undone_by", c->undone_by);
	return o;
}

/* ---- and back --------------------------------------------------------------------------- */

static bool get_u64(struct json_object *o, const char *key, uint64_t max, uint64_t *v)
{
	struct json_object *member;

	if (!json_object_object_get_ex(o, key, &member) ||
	    !json_object_is_type(member, json_type_int))
		return false;
	*v = json_object_get_uint64(member);
	return *v <= max;
}

static const char *get_text(struct json_object *o, const char *key, size_t max)
{
	struct json_object *member;

	if (!json_object_object_get_ex(o, key, &member) ||
	    !json_object_is_type(member, json_type_string) ||
	    (size_t)json_object_get_string_len(member) > max)
		return NULL;
	return json_object_get_string(member);
}

static bool get_state(struct json_object *o, const char *key, enum plug_class class_,
		      struct plug_state *s)
{
	struct json_object *member;

	return json_object_object_get_ex(o, key, &member) &&
	       json_object_is_type(member, json_type_object) &&
	       !plug_state_from_json(class_, member, s);
}

static struct plug_change *new_change(struct plug_journal *j)
{
	struct plug_change *more = realloc(j->changes, (j->nr + 1) * sizeof(*more));

	if (!more)
		return NULL;
	j->changes = more;
	more[j->nr] = (struct plug_change) { .number = (unsigned int)j->nr + 1 };
	return &more[j->nr++];
}

static int take_begin(struct plug_journal *j, struct json_object *o, uint64_t number)
{
	const char *class_ = get_text(o, "class", 16), *object = get_text(o, "object", PLUG_NAME_MAX);
	uint64_t run, line = 0, undoes = 0, ino, time;
	struct plug_change c = { 0 };
	struct plug_change *to;

	if (number != j->nr + 1 || !class_ || plug_class_of(class_) < 0 || !object ||
	    !get_u64(o, "run", UINT32_MAX, &run) || run < j->last_run ||
	    !get_u64(o, "ino", UINT64_MAX, &ino) || !get_u64(o, "time_ns", UINT64_MAX, &time) ||
	    (!get_u64(o, "line", UINT32_MAX, &line) && !get_u64(o, "undoes", j->nr, &undoes)))
		return -EBADMSG;
	c.class_ = (enum plug_class)plug_class_of(class_);
	if (!get_state(o, "before", c.class_, &c.before) || !get_state(o, "after", c.class_, &c.after))
		return -EBADMSG;
	to = new_change(j);
	if (!to)
		return -ENOMEM;
	c.number = to->number;
	c.run = (unsigned int)run;
	c.line = (unsigned int)line;
	c.undoes = (unsigned int)undoes;
	c.begin_ns = time;
	c.ino = ino;
	strcpy(c.object, object);
	*to = c;
	j->last_run = c.run;
	return 0;
}

static int result_of(const char *name)
{
	for (int i = PLUG_DONE; i <= PLUG_RECOVERED; i++)
		if (name && !strcmp(name, results[i]))
			return i;
	return -1;
}

/* An undo that got to the state it was to restore has taken its change back. */
static void note_undone(struct plug_journal *j, const struct plug_change *c)
{
	if (c->undoes && !c->gone && plug_state_same(&c->now, &j->changes[c->undoes - 1].before))
		j->changes[c->undoes - 1].undone_by = c->number;
}

static int take_end(struct plug_journal *j, struct json_object *o, uint64_t number)
{
	int result = result_of(get_text(o, "result", 16));
	const char *why = get_text(o, "why", PLUG_WHY_MAX);
	struct plug_change *c;
	uint64_t time;

	if (!number || number > j->nr || result < 0 || !get_u64(o, "time_ns", UINT64_MAX, &time))
		return -EBADMSG;
	c = &j->changes[number - 1];
	if (c->result != PLUG_UNFINISHED)
		return -EBADMSG;
	c->gone = !get_state(o, "now", c->class_, &c->now);
	if (c->gone && !json_object_object_get_ex(o, "gone", NULL))
		return -EBADMSG;
	c->result = (enum plug_result)result;
	c->end_ns = time;
	strcpy(c->why, why ? why : "");
	note_undone(j, c);
	return 0;
}

static int take_head(struct plug_journal *j, struct json_object *o)
{
	const char *boot = get_text(o, "boot", sizeof(j->boot) - 1);
	uint64_t version;

	if (!boot || !get_u64(o, "journal", 1, &version) || version != 1)
		return -EBADMSG;
	strcpy(j->boot, boot);
	return 0;
}

static int take_record(struct plug_journal *j, struct json_object *o)
{
	uint64_t number;

	if (!*j->boot)
		return take_head(j, o);
	if (get_u64(o, "begin", UINT32_MAX, &number))
		return take_begin(j, o, number);
	return get_u64(o, "end", UINT32_MAX, &number) ? take_end(j, o, number) : -EBADMSG;
}

static int take_line(void *ctx, const char *text)
{
	struct plug_journal *j = ctx;
	struct json_object *o = json_tokener_parse(text);
	int err = o ? take_record(j, o) : -EBADMSG;

	json_object_put(o);
	j->nr_lines += !err;
	return err;
}

/* ---- the file ---------------------------------------------------------------------------------- */

static const char *name_of(const char *path)
{
	const char *slash = strrchr(path, '/');

	return slash ? slash + 1 : path;
}

/* What lib/journal.h has said, which begins with the name of the file in its directory. */
static int fail(const struct plug_journal *j, int err, const char *advice)
{
	switch (err) {
	case -ENOMEM:
		return plug_fail(err, "out of memory");
	case -EBUSY:
		return plug_fail(err, "another 'vmplat hotplug' is at work with the journal %s; end it first",
				 j->path);
	case -EBADMSG:
		return j->nr_lines ?
			plug_fail(err, "the journal %s is damaged in line %u; what it says before that is true; move it away to begin a new one",
				  j->path, j->nr_lines + 1) :
			plug_fail(err, "%s is no journal", j->path);
	default:
		return plug_fail(err, "the journal %.*s%s%s", (int)(name_of(j->path) - j->path), j->path,
				 vmplat_last_error(), advice);
	}
}

static const char *text_of(struct json_object *o)
{
	return json_object_to_json_string_ext(o, JSON_C_TO_STRING_PLAIN | JSON_C_TO_STRING_NOSLASHESCAPE);
}

/* @dir ends with a slash, or is "." */
static int make_dir(char *dir)
{
	for (char *s = dir + 1; *s; s++) {
		int err = 0;

		if (*s != '/')
			continue;
		*s = '\0';
		if (mkdir(dir, 0755) && errno != EEXIST)
			err = plug_fail(-errno, "cannot make the directory %s of the journal: %s%s", dir,
					strerror(errno), errno == EACCES ? NEEDS_ROOT : "");
		*s = '/';
		if (err)
			return err;
	}
	return 0;
}

/* The directory that @path is in, or -errno. */
static int open_dir(const char *path, bool make)
{
	const char *name = name_of(path);
	char *dir = name == path ? strdup(".") : strndup(path, (size_t)(name - path));
	int fd;

	if (!dir)
		return plug_fail(-ENOMEM, "out of memory");
	fd = !*name ? plug_fail(-EISDIR, "%s is a directory, and no journal", path) :
	     make ? make_dir(dir) : 0;
	if (!fd) {
		fd = open(dir, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
		if (fd < 0)
			fd = plug_fail(-errno, "cannot open the directory %s of the journal: %s%s", dir,
				       strerror(errno), make && errno == EACCES ? NEEDS_ROOT : "");
	}
	free(dir);
	return fd;
}

static int keep_old(const struct plug_journal *j, int dirfd)
{
	const char *name = name_of(j->path);
	char *old;
	int err = 0;

	if (asprintf(&old, "%s.1", name) < 0)
		return plug_fail(-ENOMEM, "out of memory");
	/* what takes its place must not be on disk before it */
	if (renameat(dirfd, name, dirfd, old) || fsync(dirfd))
		err = plug_fail(-errno, "cannot keep %s, which is of an earlier boot, as %s: %s",
				j->path, old, strerror(errno));
	free(old);
	return err;
}

static void forget(struct plug_journal *j)
{
	free(j->changes);
	*j = (struct plug_journal) { .path = j->path, .file = j->file };
}

static int load(struct plug_journal *j, int dirfd, unsigned int flags, const char *if_denied)
{
	int err = journal_open(&j->file, dirfd, name_of(j->path), flags | JOURNAL_HEAD, take_line, j);

	if (err)
		return fail(j, err, err == -EACCES ? if_denied : "");
	j->torn = journal_torn(j->file);
	return 0;
}

/* Looks first: beside a file that is no journal, not even a lock is made. */
static int load_locked(struct plug_journal *j, int dirfd)
{
	int err = load(j, dirfd, JOURNAL_READ, NEEDS_ROOT);

	if (err)
		return err;
	journal_close(j->file);
	j->file = NULL;
	forget(j);
	return load(j, dirfd, JOURNAL_NOWAIT, NEEDS_ROOT);
}

static int write_head(struct plug_journal *j, const char *boot)
{
	struct json_object *head = json_object_new_object();
	const char *text;
	int err;

	put_u64(head, "journal", 1);
	put_text(head, "boot", boot);
	text = text_of(head);
	err = text ? journal_replace(j->file, &text, 1) : -ENOMEM;
	json_object_put(head);
	if (err)
		return fail(j, err, "");
	snprintf(j->boot, sizeof(j->boot), "%s", boot);
	return 0;
}

/* The lock is held, and is PATH.lock, which stays: nobody sees the file come or go. */
static int begin_boot(struct plug_journal *j, int dirfd, const char *boot)
{
	int err;

	if (!strcmp(j->boot, boot))
		return 0;
	if (*j->boot) {
		err = keep_old(j, dirfd);
		if (err)
			return err;
		forget(j);
	}
	return write_head(j, boot);
}

int plug_journal_open(struct plug_journal *j, const char *path, const char *boot)
{
	int dirfd, err;

	*j = (struct plug_journal) { .path = strdup(path) };
	if (!j->path)
		return plug_fail(-ENOMEM, "out of memory");
	dirfd = err = open_dir(path, true);
	if (dirfd >= 0) {
		err = load_locked(j, dirfd);
		if (!err)
			err = begin_boot(j, dirfd, boot);
		close(dirfd);
	}
	if (err)
		plug_journal_close(j);
	return err;
}

int plug_journal_read(struct plug_journal *j, const char *path)
{
	int dirfd, err;

	*j = (struct plug_journal) { .path = strdup(path) };
	if (!j->path)
		return plug_fail(-ENOMEM, "out of memory");
	dirfd = err = open_dir(path, false);
	if (dirfd >= 0) {
		err = load(j, dirfd, JOURNAL_READ, "");
		if (!err && !*j->boot)
			err = plug_fail(-ENOENT, "there is no journal %s", path);
		close(dirfd);
	}
	journal_close(j->file);
	j->file = NULL;
	if (err && err != -EBADMSG)	/* of a damaged one, what is good stays */
		plug_journal_close(j);
	return err;
}

void plug_journal_close(struct plug_journal *j)
{
	journal_close(j->file);
	free(j->changes);
	free(j->path);
	*j = (struct plug_journal) { 0 };
}

/* ---- changes ---------------------------------------------------------------------------------------- */

/* One record, on disk. What could not be written whole has been taken away again. */
static int append(struct plug_journal *j, struct json_object *o)
{
	const char *text = text_of(o);
	int err = text ? journal_append(j->file, "%s", text) : -ENOMEM;

	json_object_put(o);
	return err ? fail(j, err, "") : 0;
}

int plug_journal_begin(struct plug_journal *j, struct plug_change *c)
{
	struct plug_change *kept = new_change(j);
	int err;

	if (!kept)
		return plug_fail(-ENOMEM, "out of memory");
	if (!j->run)
		j->run = j->last_run + 1;
	c->number = kept->number;
	c->run = j->run;
	c->begin_ns = vmplat_clock_now(CLOCK_REALTIME);
	c->result = PLUG_UNFINISHED;
	err = append(j, begin_record(c));
	if (err) {
		j->nr--;
		return err;
	}
	*kept = *c;
	j->last_run = c->run;
	return 0;
}

int plug_journal_end(struct plug_journal *j, const struct plug_change *c)
{
	struct json_object *o = json_object_new_object();
	struct plug_change *kept = &j->changes[c->number - 1];
	uint64_t time = vmplat_clock_now(CLOCK_REALTIME);
	int err;

	put_u64(o, "end", c->number);
	put_u64(o, "time_ns", time);
	put_outcome(o, c);
	err = append(j, o);
	if (err)
		return err;
	*kept = *c;
	kept->end_ns = time;
	note_undone(j, kept);
	return 0;
}
