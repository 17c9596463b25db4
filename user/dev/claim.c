// SPDX-License-Identifier: LGPL-2.1-or-later
/*
 * The claims of a host, in a journal. Whoever has them open holds its lock, so that one process at a
 * time takes or releases. Records, each KEY=VALUE behind one word:
 *
 *	next id			numbers below have been used, perhaps by claims that left no other record
 *	begin id owner driver reset boot
 *	device id address ...	one for each function, as it was
 *	touch id address	about to change it; without it, undoing leaves it alone
 *	held id			all of them are bound
 *	release id		going back: must be finished
 *	restored id address	is as it was
 *	end id
 *
 * begin without held is undone when the journal is next opened; release without end is finished.
 */
#include <fcntl.h>
#include <inttypes.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/stat.h>
#include <unistd.h>

#include "dev/claim.h"
#include "lib/journal.h"

#define COMPACT_BYTES	(64u << 10)

struct claim {
	struct vmplat_claim pub;
	char owner[CLAIM_TEXT], driver[CLAIM_TEXT], reset[CLAIM_TEXT], boot[CLAIM_TEXT];
	struct taken *taken;
	struct vmplat_claim_device *devices;	/* of pub */
	size_t nr;
};

struct vmplat_claims {
	struct journal *journal;
	struct claim **claims;
	size_t nr;
	uint64_t next;			/* number of the next claim */
	bool read_only;
	char boot[64];
	struct listener listener;
};

/* ---- claims in memory ------------------------------------------------------ */

static struct claim *find_claim(const struct vmplat_claims *c, uint64_t id)
{
	for (size_t i = 0; i < c->nr; i++)
		if (c->claims[i]->pub.id == id)
			return c->claims[i];
	return NULL;
}

static void free_claim(struct claim *claim)
{
	if (claim) {
		free(claim->taken);
		free(claim->devices);
		free(claim);
	}
}

static void forget(struct vmplat_claims *c, struct claim *claim)
{
	for (size_t i = 0; i < c->nr; i++) {
		if (c->claims[i] != claim)
			continue;
		memmove(&c->claims[i], &c->claims[i + 1], (c->nr - i - 1) * sizeof(*c->claims));
		c->nr--;
		break;
	}
	free_claim(claim);
}

static const char *or_null(const char *s)
{
	return *s ? s : NULL;
}

/* Points the public picture of @claim at what is in it. */
static void publish(struct claim *claim)
{
	claim->pub.owner = claim->owner;
	claim->pub.driver = claim->driver;
	claim->pub.boot = claim->boot;
	claim->pub.devices = claim->devices;
	claim->pub.nr_devices = claim->nr;
	for (size_t i = 0; i < claim->nr; i++) {
		struct taken *t = &claim->taken[i];

		claim->devices[i] = (struct vmplat_claim_device) {
			.address = t->address, .path = t->path, .serial = t->serial,
			.driver = or_null(t->driver), .override = or_null(t->override),
			.reset = or_null(t->reset),
		};
	}
}

static struct claim *new_claim(struct vmplat_claims *c, uint64_t id)
{
	struct claim *claim = calloc(1, sizeof(*claim));
	struct claim **all = realloc(c->claims, (c->nr + 1) * sizeof(*all));

	if (all)
		c->claims = all;
	if (!claim || !all) {
		free(claim);
		return NULL;
	}
	claim->pub.id = id;
	claim->pub.state = VMPLAT_CLAIM_TAKING;
	all[c->nr++] = claim;
	if (id >= c->next)
		c->next = id + 1;
	return claim;
}

static struct taken *add_taken(struct claim *claim, const struct taken *t)
{
	struct taken *taken = realloc(claim->taken, (claim->nr + 1) * sizeof(*taken));
	struct vmplat_claim_device *devices;

	if (!taken)
		return NULL;
	claim->taken = taken;
	devices = realloc(claim->devices, (claim->nr + 1) * sizeof(*devices));
	if (!devices)
		return NULL;
	claim->devices = devices;
	taken[claim->nr++] = *t;
	publish(claim);
	return &claim->taken[claim->nr - 1];
}

static struct taken *find_taken(struct claim *claim, const char *address)
{
	for (size_t i = 0; i < claim->nr; i++)
		if (!strcmp(claim->taken[i].address, address))
			return &claim->taken[i];
	return NULL;
}

/* ---- records --------------------------------------------------------------- */

static uint64_t get_number(const char *line, const char *key)
{
	char buf[32];

	return journal_value(line, key, buf, sizeof(buf)) ? strtoull(buf, NULL, 0) : 0;
}

static bool get_text(const char *line, const char *key, char buf[CLAIM_TEXT])
{
	return journal_value(line, key, buf, CLAIM_TEXT);
}

static int bad_record(const char *line)
{
	return lib_error(-EBADMSG, "the claims' journal has a record that makes no sense: %.100s", line);
}

static int replay_begin(struct vmplat_claims *c, const char *line, uint64_t id)
{
	struct claim *claim;

	if (!id || find_claim(c, id))
		return bad_record(line);
	claim = new_claim(c, id);
	if (!claim)
		return lib_error(-ENOMEM, "out of memory");
	publish(claim);
	if (!get_text(line, "owner", claim->owner) || !get_text(line, "driver", claim->driver) ||
	    !get_text(line, "reset", claim->reset) || !get_text(line, "boot", claim->boot))
		return bad_record(line);
	return 0;
}

static int replay_device(struct claim *claim, const char *line)
{
	struct taken t = { };

	if (!journal_value(line, "address", t.address, sizeof(t.address)) ||
	    !get_text(line, "path", t.path) || !get_text(line, "driver", t.driver) ||
	    !get_text(line, "override", t.override) || !get_text(line, "reset", t.reset))
		return bad_record(line);
	t.serial = get_number(line, "serial");
	t.vendor = get_number(line, "vendor");
	t.device = get_number(line, "device");
	return add_taken(claim, &t) ? 0 : lib_error(-ENOMEM, "out of memory");
}

static int replay_mark(struct claim *claim, const char *line, bool restored)
{
	char address[20];
	struct taken *t;

	if (!journal_value(line, "address", address, sizeof(address)))
		return bad_record(line);
	t = find_taken(claim, address);
	if (!t)
		return bad_record(line);
	t->touched = true;
	t->restored = restored;
	return 0;
}

static bool word_is(const char *line, const char *word)
{
	size_t n = strlen(word);

	return !strncmp(line, word, n) && line[n] == ' ';
}

static int replay(void *ctx, const char *line)
{
	struct vmplat_claims *c = ctx;
	uint64_t id = get_number(line, "id");
	struct claim *claim = find_claim(c, id);

	if (word_is(line, "next")) {
		c->next = id > c->next ? id : c->next;
		return 0;
	}
	if (word_is(line, "begin"))
		return replay_begin(c, line, id);
	if (!claim)
		return bad_record(line);
	if (word_is(line, "device"))
		return replay_device(claim, line);
	if (word_is(line, "touch"))
		return replay_mark(claim, line, false);
	if (word_is(line, "restored"))
		return replay_mark(claim, line, true);
	if (word_is(line, "held"))
		claim->pub.state = VMPLAT_CLAIM_HELD;
	else if (word_is(line, "release"))
		claim->pub.state = VMPLAT_CLAIM_RELEASING;
	else if (word_is(line, "end"))
		forget(c, claim);
	else
		return bad_record(line);
	return 0;
}

static void format_begin(const struct claim *claim, char *buf, size_t room)
{
	char owner[3 * CLAIM_TEXT], driver[3 * CLAIM_TEXT], reset[3 * CLAIM_TEXT], boot[3 * CLAIM_TEXT];

	snprintf(buf, room, "begin id=%" PRIu64 " owner=%s driver=%s reset=%s boot=%s", claim->pub.id,
		 journal_quote(claim->owner, owner, sizeof(owner)),
		 journal_quote(claim->driver, driver, sizeof(driver)),
		 journal_quote(claim->reset, reset, sizeof(reset)),
		 journal_quote(claim->boot, boot, sizeof(boot)));
}

static void format_device(const struct claim *claim, const struct taken *t, char *buf, size_t room)
{
	char path[3 * CLAIM_TEXT], driver[3 * CLAIM_TEXT], override[3 * CLAIM_TEXT], reset[3 * CLAIM_TEXT];

	snprintf(buf, room,
		 "device id=%" PRIu64 " address=%s path=%s serial=0x%" PRIx64 " vendor=0x%x device=0x%x driver=%s override=%s reset=%s",
		 claim->pub.id, t->address, journal_quote(t->path, path, sizeof(path)), t->serial,
		 t->vendor, t->device, journal_quote(t->driver, driver, sizeof(driver)),
		 journal_quote(t->override, override, sizeof(override)),
		 journal_quote(t->reset, reset, sizeof(reset)));
}

#define LINE_MAX_BYTES 4000

struct lines {
	char **lines;
	size_t nr;
	bool no_memory;
};

__attribute__((format(printf, 2, 3)))
static void add_line(struct lines *l, const char *fmt, ...)
{
	char **lines = realloc(l->lines, (l->nr + 1) * sizeof(*lines));
	va_list ap;

	if (lines)
		l->lines = lines;
	va_start(ap, fmt);
	if (!lines || vasprintf(&lines[l->nr], fmt, ap) < 0)
		l->no_memory = true;
	else
		l->nr++;
	va_end(ap);
}

static void add_claim_lines(struct lines *l, const struct claim *claim)
{
	char line[LINE_MAX_BYTES];

	format_begin(claim, line, sizeof(line));
	add_line(l, "%s", line);
	for (size_t i = 0; i < claim->nr; i++) {
		format_device(claim, &claim->taken[i], line, sizeof(line));
		add_line(l, "%s", line);
	}
	for (size_t i = 0; i < claim->nr; i++)
		if (claim->taken[i].touched)
			add_line(l, "%s id=%" PRIu64 " address=%s",
				 claim->taken[i].restored ? "restored" : "touch", claim->pub.id,
				 claim->taken[i].address);
	if (claim->pub.state != VMPLAT_CLAIM_TAKING)
		add_line(l, "%s id=%" PRIu64,
			 claim->pub.state == VMPLAT_CLAIM_HELD ? "held" : "release", claim->pub.id);
}

/* All that is still true, in place of a long history. */
static int compact(struct vmplat_claims *c)
{
	struct lines l = { };
	int rc;

	add_line(&l, "next id=%" PRIu64, c->next);
	for (size_t i = 0; i < c->nr; i++)
		add_claim_lines(&l, c->claims[i]);
	rc = l.no_memory ? lib_error(-ENOMEM, "out of memory") :
	     journal_replace(c->journal, (const char *const *)l.lines, l.nr);
	for (size_t i = 0; i < l.nr; i++)
		free(l.lines[i]);
	free(l.lines);
	return rc;
}

/* ---- putting back ---------------------------------------------------------- */

/* Nobody may have a function open while it is taken from the claim's driver. */
static int guard_all(struct vmplat_devs *devs, struct claim *claim, struct guards *g)
{
	static const struct listener nobody;

	for (size_t i = 0; i < claim->nr; i++) {
		const struct taken *t = &claim->taken[i];
		const struct vmplat_pci *pci;
		int rc;

		/* what stays with its driver need not be free */
		if (!t->touched || t->restored || !strcmp(t->driver, claim->driver))
			continue;
		pci = step_same(devs, t, &nobody);
		if (!pci || !pci->driver || strcmp(pci->driver, claim->driver))
			continue;
		rc = guards_add(g, devs, pci);
		if (!rc && pci->nr_vfs)
			rc = step_vfs_idle(devs, pci);
		if (rc)
			return rc;
	}
	return 0;
}

/*
 * Restores what was touched and not restored yet, in reverse order, and ends the claim. It looks at the
 * functions anew: what was known when the claim was planned is not what is there now.
 */
static int restore_all(struct vmplat_claims *c, struct claim *claim)
{
	struct guards guards = { };
	struct vmplat_devs *devs;
	int rc = vmplat_devs_open(&devs, NULL);

	if (rc)
		return rc;
	rc = guard_all(devs, claim, &guards);
	if (!rc && claim->pub.state == VMPLAT_CLAIM_HELD) {
		rc = journal_append(c->journal, "release id=%" PRIu64, claim->pub.id);
		if (!rc)
			claim->pub.state = VMPLAT_CLAIM_RELEASING;
	}
	for (size_t i = claim->nr; i-- > 0 && !rc;) {
		struct taken *t = &claim->taken[i];

		if (!t->touched || t->restored)
			continue;
		if (step_same(devs, t, &c->listener))
			step_restore(devs, t, claim->driver, claim->reset, &c->listener);
		rc = journal_append(c->journal, "restored id=%" PRIu64 " address=%s", claim->pub.id,
				    t->address);
		t->restored = !rc;
	}
	guards_drop(&guards);
	vmplat_devs_close(devs);
	if (!rc)
		rc = journal_append(c->journal, "end id=%" PRIu64, claim->pub.id);
	if (!rc)
		forget(c, claim);
	return rc;
}

/* A claim of another boot holds nothing any more; one that was under way goes back. */
static int recover(struct vmplat_claims *c)
{
	int rc = 0;

	for (size_t i = 0; i < c->nr && !rc;) {
		struct claim *claim = c->claims[i];
		uint64_t id = claim->pub.id;

		if (strcmp(claim->boot, c->boot)) {
			tell(&c->listener, "claim %" PRIu64 " of %s ended with the host's last boot", id,
			     claim->owner);
			rc = journal_append(c->journal, "end id=%" PRIu64, id);
			if (!rc)
				forget(c, claim);
			continue;
		}
		if (claim->pub.state == VMPLAT_CLAIM_HELD) {
			i++;
			continue;
		}
		tell(&c->listener, claim->pub.state == VMPLAT_CLAIM_TAKING ?
		     "claim %" PRIu64 " of %s was interrupted: undoing it" :
		     "the release of claim %" PRIu64 " of %s was interrupted: finishing it", id,
		     claim->owner);
		rc = restore_all(c, claim);
		if (rc == -EBUSY) {	/* one for later must not stop the others */
			tell(&c->listener, "claim %" PRIu64 " stays as it is: %s", id,
			     vmplat_last_error());
			rc = 0;
			i++;
		}
	}
	return rc;
}

/* ---- opening ------------------------------------------------------------------ */

/* Each directory on the way that is missing is made. */
static int open_dir(const char *dir, bool make)
{
	char path[512];
	int fd;

	if (snprintf(path, sizeof(path), "%s", dir) >= (int)sizeof(path))
		return lib_error(-ENAMETOOLONG, "%s: %s", dir, strerror(ENAMETOOLONG));
	for (char *s = path + 1; make; s++) {
		char end = *s;

		if (*s && *s != '/')
			continue;
		*s = '\0';
		if (mkdir(path, 0755) && errno != EEXIST)
			return lib_error(-errno, "%s: %s", path, strerror(errno));
		*s = end;
		if (!end)
			break;
	}
	fd = open(dir, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
	return fd < 0 ? lib_error(-errno, "%s: %s", dir, strerror(errno)) : fd;
}

static int read_boot_id(struct vmplat_claims *c)
{
	FILE *f = fopen("/proc/sys/kernel/random/boot_id", "re");

	if (!f || !fgets(c->boot, sizeof(c->boot), f)) {
		if (f)
			fclose(f);
		return lib_error(-EIO, "/proc/sys/kernel/random/boot_id cannot be read");
	}
	c->boot[strcspn(c->boot, "\n")] = '\0';
	fclose(f);
	return 0;
}

API int vmplat_claims_open(struct vmplat_claims **out, const char *dir, uint32_t flags,
			   void (*told)(void *ctx, const char *sentence), void *ctx)
{
	struct vmplat_claims *c = calloc(1, sizeof(*c));
	int fd = -1, rc;

	*out = NULL;
	if (!c)
		return lib_error(-ENOMEM, "out of memory");
	c->next = 1;
	c->read_only = flags & VMPLAT_CLAIMS_F_READ;
	c->listener = (struct listener) { told, ctx };
	rc = flags & ~VMPLAT_CLAIMS_F_READ ? lib_error(-EOPNOTSUPP, "unknown flags") :
	     read_boot_id(c);
	if (!rc) {
		fd = open_dir(dir ? dir : VMPLAT_CLAIMS_DIR, !c->read_only);
		rc = fd < 0 ? fd : 0;
	}
	if (rc == -ENOENT && c->read_only) {
		*out = c;
		return 0;
	}
	if (!rc)
		rc = journal_open(&c->journal, fd, "journal", c->read_only ? JOURNAL_READ : 0, replay, c);
	if (!rc && !c->read_only)
		rc = recover(c);
	if (!rc && !c->read_only && journal_bytes(c->journal) > COMPACT_BYTES)
		rc = compact(c);
	if (fd >= 0)
		close(fd);
	if (rc)
		vmplat_claims_close(c);
	else
		*out = c;
	return rc;
}

API void vmplat_claims_close(struct vmplat_claims *c)
{
	if (!c)
		return;
	for (size_t i = 0; i < c->nr; i++)
		free_claim(c->claims[i]);
	free(c->claims);
	journal_close(c->journal);
	free(c);
}

API size_t vmplat_claims_nr(const struct vmplat_claims *c)
{
	return c->nr;
}

API const struct vmplat_claim *vmplat_claims_get(const struct vmplat_claims *c, size_t i)
{
	return i < c->nr ? &c->claims[i]->pub : NULL;
}

API const struct vmplat_claim *vmplat_claims_holder(const struct vmplat_claims *c,
						    const char *address)
{
	for (size_t i = 0; i < c->nr; i++)
		if (!strcmp(c->claims[i]->boot, c->boot) && find_taken(c->claims[i], address))
			return &c->claims[i]->pub;
	return NULL;
}

/* ---- taking and releasing -------------------------------------------------------- */

static int write_begin(struct vmplat_claims *c, const struct claim *claim)
{
	char line[LINE_MAX_BYTES];
	int rc;

	format_begin(claim, line, sizeof(line));
	rc = journal_append(c->journal, "%s", line);
	for (size_t i = 0; i < claim->nr && !rc; i++) {
		format_device(claim, &claim->taken[i], line, sizeof(line));
		rc = journal_append(c->journal, "%s", line);
	}
	return rc;
}

static struct claim *claim_of_plan(struct vmplat_claims *c, struct vmplat_devs *devs,
				   const struct vmplat_plan *plan)
{
	struct claim *claim = new_claim(c, c->next);

	for (size_t i = 0; claim && i < plan->nr_devices; i++) {
		struct taken t;

		step_remember(devs, plan->devices[i], &t);
		if (!add_taken(claim, &t)) {
			forget(c, claim);
			claim = NULL;
		}
	}
	if (!claim)
		return NULL;
	snprintf(claim->owner, sizeof(claim->owner), "%s", plan->wish.owner);
	snprintf(claim->driver, sizeof(claim->driver), "%s", plan->wish.driver);
	snprintf(claim->reset, sizeof(claim->reset), "%s", plan->wish.reset ? plan->wish.reset : "");
	snprintf(claim->boot, sizeof(claim->boot), "%s", c->boot);
	publish(claim);
	return claim;
}

static int bind_all(struct vmplat_claims *c, struct vmplat_devs *devs, struct claim *claim)
{
	int rc = 0;

	for (size_t i = 0; i < claim->nr && !rc; i++) {
		struct taken *t = &claim->taken[i];

		rc = journal_append(c->journal, "touch id=%" PRIu64 " address=%s", claim->pub.id,
				    t->address);
		if (rc)
			break;
		t->touched = true;
		rc = step_bind(devs, t, claim->driver, claim->reset);
	}
	if (!rc)
		rc = journal_append(c->journal, "held id=%" PRIu64, claim->pub.id);
	return rc;
}

/* Undone, with the error kept that made it necessary. */
static void undo(struct vmplat_claims *c, struct claim *claim, int err)
{
	char why[200];

	snprintf(why, sizeof(why), "%s", vmplat_last_error());
	if (restore_all(c, claim))
		tell(&c->listener, "not all could be undone: %s", vmplat_last_error());
	lib_error(err, "%s", why);
}

static int take_all(struct vmplat_claims *c, struct vmplat_devs *devs,
		    const struct vmplat_plan *plan, struct guards *guards, uint64_t *id)
{
	struct claim *claim = claim_of_plan(c, devs, plan);
	int rc;

	if (!claim)
		return lib_error(-ENOMEM, "out of memory");
	rc = write_begin(c, claim);
	if (!rc)
		rc = bind_all(c, devs, claim);
	/* undoing takes guards of its own */
	guards_drop(guards);
	if (rc) {
		undo(c, claim, rc);
		return rc;
	}
	claim->pub.state = VMPLAT_CLAIM_HELD;
	*id = claim->pub.id;
	return 0;
}

API int vmplat_claim_take(struct vmplat_claims *c, struct vmplat_devs *devs,
			  const struct vmplat_plan *plan, uint64_t *id)
{
	struct guards guards = { };
	int rc;

	*id = plan->existing;
	if (plan->existing)
		return 0;
	if (c->read_only || !devs->live)
		return lib_error(-EROFS, "these claims, or this picture, are for looking only");
	if (plan->blocked || !plan->nr_devices)
		return lib_error(-EBUSY, "something is in the way");
	rc = step_load_driver(devs, plan->wish.driver);
	for (size_t i = 0; i < plan->nr_devices && !rc; i++)
		rc = guards_add(&guards, devs, plan->devices[i]);
	if (!rc)
		rc = take_all(c, devs, plan, &guards, id);
	guards_drop(&guards);
	return rc;
}

API int vmplat_claim_release(struct vmplat_claims *c, uint64_t id, const char *owner)
{
	struct claim *claim = find_claim(c, id);

	if (!claim && id && id < c->next)
		return 1;
	if (!claim)
		return lib_error(-ENOENT, "there never was a claim %" PRIu64, id);
	if (owner && strcmp(owner, claim->owner))
		return lib_error(-EPERM, "claim %" PRIu64 " is of %s, not of %s", id, claim->owner, owner);
	if (c->read_only)
		return lib_error(-EROFS, "these claims are open for looking only");
	return restore_all(c, claim);
}

API const char *vmplat_claim_state_name(enum vmplat_claim_state state)
{
	static const char *const words[] = { "taking", "held", "releasing" };

	return (size_t)state < 3 ? words[state] : NULL;
}
