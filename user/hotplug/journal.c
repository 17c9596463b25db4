// SPDX-License-Identifier: GPL-2.0-only
/*
 * The journal: what is going to be changed is on disk before it is, and what came of it
 * afterwards. So at any instant of a kill -9 or a power cut, a change is either not in
 * the journal and has not been begun, or is there with the state before it.
 *
 * A record is a line: 16 hexadecimal digits, the XXH3 of the rest, a blank, JSON.
 *
 *	{"journal":1,"boot":ID}
 *	{"begin":N,"run":R,"time_ns":T,"class":C,"object":O,"ino":I,"before":S,"after":S,
 *	 "line":L}		or "undoes":M instead of "line"
 *	{"end":N,"time_ns":T,"result":W,"now":S,"why":TEXT}	"gone":true instead of "now"
 *
 * Records are appended one at a time, so only the last may be cut short. It then was not
 * on disk, nothing followed from it, and it is dropped. Another that is damaged makes the
 * journal unusable for changes.
 *
 * States of sysfs do not outlive a boot, so neither does a journal: the first to make
 * changes after a boot keeps the old one as PATH.1 and begins a new one.
 *
 * Writers hold an flock(2) on the file, from reading it to their end.
 */
#include <errno.h>
#include <fcntl.h>
#include <inttypes.h>
#include <json-c/json.h>
#include <libgen.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/file.h>
#include <sys/stat.h>
#include <time.h>
#include <unistd.h>
#include <xxhash.h>

#include "plug.h"

#define SUM_CHARS	16
#define JOURNAL_MAX	(1u << 30)
#define NEEDS_ROOT	"; changing hardware needs root"

static const char *const results[] = {
	[PLUG_UNFINISHED] = "unfinished", [PLUG_DONE] = "done", [PLUG_FAILED] = "failed",
	[PLUG_RECOVERED] = "recovered",
};

const char *plug_result_name(enum plug_result result)
{
	return results[result];
}

static uint64_t now_ns(void)
{
	struct timespec ts;

	clock_gettime(CLOCK_REALTIME, &ts);
	return (uint64_t)ts.tv_sec * 1000000000u + (uint64_t)ts.tv_nsec;
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

static bool take_begin(struct plug_journal *j, struct json_object *o, uint64_t number)
{
	const char *class_ = get_text(o, "class", 16), *object = get_text(o, "object", PLUG_NAME_MAX);
	uint64_t run, line = 0, undoes = 0, ino, time;
	struct plug_change c = { 0 };
	struct plug_change *to;

	if (number != j->nr + 1 || !class_ || plug_class_of(class_) < 0 || !object ||
	    !get_u64(o, "run", UINT32_MAX, &run) || run < j->last_run ||
	    !get_u64(o, "ino", UINT64_MAX, &ino) || !get_u64(o, "time_ns", UINT64_MAX, &time) ||
	    (!get_u64(o, "line", UINT32_MAX, &line) && !get_u64(o, "undoes", j->nr, &undoes)))
		return false;
	c.class_ = (enum plug_class)plug_class_of(class_);
	if (!get_state(o, "before", c.class_, &c.before) || !get_state(o, "after", c.class_, &c.after))
		return false;
	to = new_change(j);
	if (!to)
		return false;
	c.number = to->number;
	c.run = (unsigned int)run;
	c.line = (unsigned int)line;
	c.undoes = (unsigned int)undoes;
	c.begin_ns = time;
	c.ino = ino;
	strcpy(c.object, object);
	*to = c;
	j->last_run = c.run;
	return true;
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

static bool take_end(struct plug_journal *j, struct json_object *o, uint64_t number)
{
	int result = result_of(get_text(o, "result", 16));
	const char *why = get_text(o, "why", PLUG_WHY_MAX);
	struct plug_change *c;
	uint64_t time;

	if (!number || number > j->nr || result < 0 || !get_u64(o, "time_ns", UINT64_MAX, &time))
		return false;
	c = &j->changes[number - 1];
	if (c->result != PLUG_UNFINISHED)
		return false;
	c->gone = !get_state(o, "now", c->class_, &c->now);
	if (c->gone && !json_object_object_get_ex(o, "gone", NULL))
		return false;
	c->result = (enum plug_result)result;
	c->end_ns = time;
	strcpy(c->why, why ? why : "");
	note_undone(j, c);
	return true;
}

static bool take_head(struct plug_journal *j, struct json_object *o)
{
	const char *boot = get_text(o, "boot", sizeof(j->boot) - 1);
	uint64_t version;

	if (!boot || !get_u64(o, "journal", 1, &version) || version != 1)
		return false;
	strcpy(j->boot, boot);
	return true;
}

static bool take_record(struct plug_journal *j, struct json_object *o)
{
	uint64_t number;

	if (!*j->boot)
		return take_head(j, o);
	if (get_u64(o, "begin", UINT32_MAX, &number))
		return take_begin(j, o, number);
	return get_u64(o, "end", UINT32_MAX, &number) && take_end(j, o, number);
}

/* ---- lines ------------------------------------------------------------------------------------ */

/* @line of @len bytes has a good sum: its JSON, else NULL */
static struct json_object *open_line(const char *line, size_t len)
{
	char sum[SUM_CHARS + 2];
	struct json_tokener *tok;
	struct json_object *o;

	if (len <= SUM_CHARS + 1)
		return NULL;
	snprintf(sum, sizeof(sum), "%016" PRIx64 " ",
		 (uint64_t)XXH3_64bits(line + SUM_CHARS + 1, len - SUM_CHARS - 1));
	if (memcmp(line, sum, SUM_CHARS + 1))
		return NULL;
	tok = json_tokener_new();
	if (!tok)
		return NULL;
	o = json_tokener_parse_ex(tok, line + SUM_CHARS + 1, (int)(len - SUM_CHARS - 1));
	json_tokener_free(tok);
	return o;
}

static int parse(struct plug_journal *j, const char *text, size_t bytes)
{
	unsigned int number = 0;

	while (j->bytes < bytes) {
		const char *line = text + j->bytes;
		const char *end = memchr(line, '\n', bytes - j->bytes);
		size_t len = end ? (size_t)(end - line) : bytes - j->bytes;
		struct json_object *o = end ? open_line(line, len) : NULL;
		bool good = o && take_record(j, o);

		number++;
		json_object_put(o);
		if (!good && !o && (!end || end == text + bytes - 1) && number > 1) {
			j->torn = true;
			return 0;
		}
		if (!good)
			return plug_fail(-EBADMSG, number == 1 ? "%s is no journal (line %u)" :
					 "the journal %s is damaged in line %u; what it says before that is true; move it away to begin a new one",
					 j->path, number);
		j->bytes += len + 1;
	}
	return number ? 0 : plug_fail(-EBADMSG, "%s is empty, and no journal", j->path);
}

/* the whole of @fd */
static int load(struct plug_journal *j, int fd)
{
	struct stat sb;
	char *text;
	size_t len = 0;
	ssize_t n = 1;
	int err = 0;

	if (fstat(fd, &sb) || !S_ISREG(sb.st_mode) || sb.st_size > JOURNAL_MAX)
		return plug_fail(-EBADMSG, "%s is no journal", j->path);
	text = malloc((size_t)sb.st_size + 1);
	if (!text)
		return plug_fail(-ENOMEM, "out of memory");
	while (len < (size_t)sb.st_size && n > 0) {
		n = pread(fd, text + len, (size_t)sb.st_size - len, (off_t)len);
		if (n < 0)
			err = plug_fail(-errno, "cannot read %s: %s", j->path, strerror(errno));
		else
			len += (size_t)n;
	}
	if (!err)
		err = parse(j, text, len);
	free(text);
	return err;
}

static int hook(enum plug_io io, const char *where, const char *what)
{
	return plug_io_hook ? plug_io_hook(io, where, what) : 0;
}

static int write_all(int fd, const char *text, size_t len, uint64_t at)
{
	while (len) {
		ssize_t n = pwrite(fd, text, len, (off_t)at);

		if (n < 0 && errno == EINTR)
			continue;
		if (n <= 0)
			return n ? -errno : -ENOSPC;
		text += n;
		len -= (size_t)n;
		at += (uint64_t)n;
	}
	return 0;
}

/* One record, on disk. What could not be written whole is taken away again. */
static int append(struct plug_journal *j, int fd, struct json_object *o)
{
	const char *json = json_object_to_json_string_ext(o, JSON_C_TO_STRING_PLAIN |
							  JSON_C_TO_STRING_NOSLASHESCAPE);
	char *line;
	int len = asprintf(&line, "%016" PRIx64 " %s\n", (uint64_t)XXH3_64bits(json, strlen(json)),
			   json);
	int err;

	json_object_put(o);
	if (len < 0)
		return plug_fail(-ENOMEM, "out of memory");
	err = hook(PLUG_IO_APPEND, j->path, line);
	if (!err)
		err = write_all(fd, line, (size_t)len, j->bytes);
	if (!err)
		err = hook(PLUG_IO_SYNC, j->path, line);
	if (!err && fsync(fd))
		err = -errno;
	if (err) {
		plug_fail(err, "cannot write the journal %s: %s%s", j->path, strerror(-err),
			  ftruncate(fd, (off_t)j->bytes) ? ", and its last record is cut short" : "");
	} else {
		j->bytes += (uint64_t)len;
		hook(PLUG_IO_SYNCED, j->path, line);
	}
	free(line);
	return err;
}

/* ---- files -------------------------------------------------------------------------------------- */

static int sync_dir(const char *path)
{
	char *copy = strdup(path);
	int fd, err = 0;

	if (!copy)
		return plug_fail(-ENOMEM, "out of memory");
	fd = open(dirname(copy), O_RDONLY | O_DIRECTORY | O_CLOEXEC);
	if (fd < 0 || fsync(fd))
		err = plug_fail(-errno, "cannot make the directory of %s durable: %s", path,
				strerror(errno));
	if (fd >= 0)
		close(fd);
	free(copy);
	return err;
}

static int make_dir(const char *path)
{
	char *copy = strdup(path), *dir = copy ? dirname(copy) : NULL;
	int err = 0;

	if (!copy)
		return plug_fail(-ENOMEM, "out of memory");
	for (char *s = dir + 1; !err && *s; s++) {
		if (*s != '/')
			continue;
		*s = '\0';
		err = mkdir(dir, 0755) && errno != EEXIST ? -errno : 0;
		*s = '/';
	}
	if (!err && mkdir(dir, 0755) && errno != EEXIST)
		err = -errno;
	if (err)
		plug_fail(err, "cannot make the directory %s of the journal: %s%s", dir,
			  strerror(-err), err == -EACCES ? NEEDS_ROOT : "");
	free(copy);
	return err;
}

/* Another may have kept the file as PATH.1 before the lock was had. */
static bool still_named(int fd, const char *path)
{
	struct stat a, b;

	return !fstat(fd, &a) && !stat(path, &b) && a.st_dev == b.st_dev && a.st_ino == b.st_ino;
}

/*
 * Writes the head to @fd, PATH.new, and gives it its name. Whoever gets the lock later
 * finds that PATH.new is not this file any more; after a kill it may still be a second
 * name of a journal, which must not be touched.
 */
static int name_new(struct plug_journal *j, int fd, const char *tmp, const char *boot)
{
	struct json_object *head;
	struct stat sb;
	int err;

	if (flock(fd, LOCK_EX) || fstat(fd, &sb))
		return plug_fail(-errno, "cannot lock %s: %s", tmp, strerror(errno));
	if (!still_named(fd, tmp))
		return -ESTALE;
	if (sb.st_nlink > 1)
		return unlink(tmp) ? plug_fail(-errno, "cannot remove %s: %s", tmp, strerror(errno)) :
		       -ESTALE;
	if (ftruncate(fd, 0))
		return plug_fail(-errno, "cannot write %s: %s", tmp, strerror(errno));
	head = json_object_new_object();
	put_u64(head, "journal", 1);
	put_text(head, "boot", boot);
	j->bytes = 0;
	err = append(j, fd, head);
	if (!err && link(tmp, j->path) && errno != EEXIST)
		err = plug_fail(-errno, "cannot create the journal %s: %s", j->path, strerror(errno));
	unlink(tmp);
	return err ? err : sync_dir(j->path);
}

/* A journal has its head from the first moment that it has its name. */
static int create(struct plug_journal *j, const char *boot)
{
	char *tmp;
	int fd, err;

	if (asprintf(&tmp, "%s.new", j->path) < 0)
		return plug_fail(-ENOMEM, "out of memory");
	fd = open(tmp, O_WRONLY | O_CREAT | O_CLOEXEC, 0644);
	if (fd < 0)
		err = plug_fail(-errno, "cannot create the journal %s: %s%s", j->path,
				strerror(errno), errno == EACCES ? NEEDS_ROOT : "");
	else
		err = name_new(j, fd, tmp, boot);
	if (fd >= 0)
		close(fd);
	free(tmp);
	return err;
}

/* Locked, whole, of whatever boot. -ESTALE: try again */
static int open_locked(struct plug_journal *j)
{
	int err;

	j->fd = open(j->path, O_RDWR | O_CLOEXEC);
	if (j->fd < 0 && errno == ENOENT)
		return -ENOENT;
	if (j->fd < 0)
		return plug_fail(-errno, "cannot open the journal %s: %s%s", j->path, strerror(errno),
				 errno == EACCES ? NEEDS_ROOT : "");
	if (flock(j->fd, LOCK_EX | LOCK_NB)) {
		err = -errno;
		return err == -EWOULDBLOCK ?
			plug_fail(-EBUSY, "another 'vmplat hotplug' is at work with the journal %s; end it first", j->path) :
			plug_fail(err, "cannot lock %s: %s", j->path, strerror(-err));
	}
	if (!still_named(j->fd, j->path))
		return -ESTALE;
	return load(j, j->fd);
}

static int keep_old(struct plug_journal *j)
{
	char *old;
	int err = 0;

	if (asprintf(&old, "%s.1", j->path) < 0)
		return plug_fail(-ENOMEM, "out of memory");
	if (rename(j->path, old))
		err = plug_fail(-errno, "cannot keep %s, which is of an earlier boot, as %s: %s",
				j->path, old, strerror(errno));
	free(old);
	return err;
}

static void forget(struct plug_journal *j)
{
	if (j->fd >= 0)
		close(j->fd);
	free(j->changes);
	*j = (struct plug_journal) { .path = j->path, .fd = -1 };
}

static int open_once(struct plug_journal *j, const char *boot)
{
	int err = open_locked(j);

	if (err == -ENOENT)
		return create(j, boot) ?: -ESTALE;
	if (!err && strcmp(j->boot, boot)) {
		err = keep_old(j);
		return err ? err : -ESTALE;
	}
	if (!err && j->torn && ftruncate(j->fd, (off_t)j->bytes))
		err = plug_fail(-errno, "cannot write the journal %s: %s", j->path, strerror(errno));
	return err;
}

int plug_journal_open(struct plug_journal *j, const char *path, const char *boot)
{
	int err;

	*j = (struct plug_journal) { .fd = -1, .path = strdup(path) };
	err = j->path ? make_dir(path) : plug_fail(-ENOMEM, "out of memory");
	while (!err) {
		err = open_once(j, boot);
		if (err != -ESTALE)
			break;
		forget(j);
		err = 0;
	}
	if (err)
		plug_journal_close(j);
	return err;
}

int plug_journal_read(struct plug_journal *j, const char *path)
{
	int fd, err;

	*j = (struct plug_journal) { .fd = -1, .path = strdup(path) };
	if (!j->path)
		return plug_fail(-ENOMEM, "out of memory");
	fd = open(path, O_RDONLY | O_CLOEXEC);
	if (fd < 0)
		err = plug_fail(-errno, "cannot read the journal %s: %s", path, strerror(errno));
	else
		err = load(j, fd);
	if (fd >= 0)
		close(fd);
	if (err && err != -EBADMSG)	/* of a damaged one, what is good stays */
		plug_journal_close(j);
	return err;
}

void plug_journal_close(struct plug_journal *j)
{
	forget(j);
	free(j->path);
	j->path = NULL;
}

/* ---- changes ---------------------------------------------------------------------------------------- */

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
	c->begin_ns = now_ns();
	c->result = PLUG_UNFINISHED;
	err = append(j, j->fd, begin_record(c));
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
	uint64_t time = now_ns();
	int err;

	put_u64(o, "end", c->number);
	put_u64(o, "time_ns", time);
	put_outcome(o, c);
	err = append(j, j->fd, o);
	if (err)
		return err;
	*kept = *c;
	kept->end_ns = time;
	note_undone(j, kept);
	return 0;
}
