// SPDX-License-Identifier: GPL-2.0-only
/*
 * Changes, made one after the other, each between two records of the journal.
 *
 * What a change led to is never concluded from what was written, but looked up. So a
 * change that was cut short, at whatever instant, needs no more than another look
 * (plug_recover), and its half-way state is the one that the next change, or the undo
 * of this one, begins with.
 */
#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <vmplat_clock.h>

#include "plug.h"

#define STRUGGLE_NR	5	/* changes of one object, in */
#define STRUGGLE_NS	60000000000ull

/* ---- looking -------------------------------------------------------------------------- */

/* The VM that a state or wish of @c speaks of, or "". */
static const char *vm_of(const struct plug_change *c)
{
	return *c->after.vm ? c->after.vm : c->before.vm;
}

/* The object of @c as it is now. -ENOENT: it is gone, or another has come in its place. */
static int look(const struct plug_host *host, const struct plug_change *c, struct plug_object *o)
{
	int err = plug_look(host, c->class_, c->object, "", o);

	if (!err && o->ino != c->ino)
		err = plug_fail(-ENOENT, "%s is not the one that it was", c->object);
	if (err || !*vm_of(c))
		return err;
	err = plug_look_vm(o, vm_of(c));
	/* a VM that has ended has nothing */
	return err == -ENOENT || err == -ECONNREFUSED || err == -EPIPE || err == -ECONNRESET ? 0 : err;
}

/* Ends @c with the state that is found. An error is one of the journal. */
static int finish(struct plug_work *w, struct plug_change *c, enum plug_result result)
{
	struct plug_object o;
	int err = look(w->host, c, &o);

	if (err && err != -ENOENT) {	/* unsaid is better than untrue: the next run looks again */
		snprintf(c->why, sizeof(c->why), "%s", plug_error());
		w->nr_failed++;
		w->ended(w->ctx, c);
		return 0;
	}
	c->result = result;
	c->gone = err == -ENOENT;
	if (!c->gone)
		c->now = o.now;
	err = plug_journal_end(w->journal, c);
	if (!err)
		w->ended(w->ctx, &w->journal->changes[c->number - 1]);
	return err;
}

int plug_recover(struct plug_work *w)
{
	int err = 0;

	for (size_t i = 0; i < w->journal->nr && !err; i++) {
		struct plug_change c = w->journal->changes[i];

		if (c.result != PLUG_UNFINISHED)
			continue;
		strcpy(c.why, "was cut short");
		err = finish(w, &c, PLUG_RECOVERED);
	}
	return err;
}

/* ---- one change -------------------------------------------------------------------------- */

static int go(const struct plug_host *host, const struct plug_object *o,
	      const struct plug_state *from, const struct plug_state *to)
{
	struct plug_step steps[PLUG_STEPS_MAX];
	size_t nr = plug_steps(o, from, to, steps);
	int err = 0;

	for (size_t i = 0; i < nr && !err; i++)
		err = plug_step_do(host, &steps[i]);
	return err;
}

static int allowed(const struct plug_host *host, const struct plug_object *o,
		   const struct plug_state *from, const struct plug_state *to)
{
	struct plug_step steps[PLUG_STEPS_MAX];
	size_t nr = plug_steps(o, from, to, steps);
	int err = 0;

	for (size_t i = 0; i < nr && !err; i++) {
		err = plug_step_allowed(host, &steps[i]);
		if (err == -ENOENT)	/* unplugged: the change itself will say so */
			err = 0;
	}
	return err;
}

/*
 * It failed half way: back to @c->before, as far as it was us who left it. A driver that
 * neither was there before nor was wanted has come by somebody else's doing, and stays.
 */
static void go_back(const struct plug_host *host, const struct plug_change *c,
		    const struct plug_object *o)
{
	struct plug_state to = c->before;
	char why[PLUG_WHY_MAX + 1];

	if (*o->now.driver && strcmp(o->now.driver, c->after.driver))
		strcpy(to.driver, o->now.driver);
	snprintf(why, sizeof(why), "%s", plug_error());
	go(host, o, &o->now, &to);
	plug_fail(-EIO, "%s", why);
}

/* @c->before, after, line or undoes are set. An error is one of the journal. */
static int make_change(struct plug_work *w, const struct plug_object *o, struct plug_change *c)
{
	struct plug_object now;
	int err = allowed(w->host, o, &c->before, &c->after);

	if (err)
		return err;
	c->class_ = o->class_;
	strcpy(c->object, o->name);
	c->ino = o->ino;
	err = plug_journal_begin(w->journal, c);
	if (err)
		return err;
	err = go(w->host, o, &c->before, &c->after);
	if (!look(w->host, c, &now)) {
		/* what failed may have happened all the same, and the reverse */
		if (plug_state_meets(&now.now, &c->after))
			err = 0;
		else if (!err)
			err = plug_fail(-EIO, "the kernel took what was written, and did otherwise");
		if (err)
			snprintf(c->why, sizeof(c->why), "%s", plug_error());
		if (err && !plug_state_same(&now.now, &c->before))
			go_back(w->host, c, &now);
	} else {
		snprintf(c->why, sizeof(c->why), "%s", plug_error());
		err = -ENOENT;
	}
	w->nr_done += !err;
	w->nr_failed += !!err;
	return finish(w, c, err ? PLUG_FAILED : PLUG_DONE);
}

/* ---- a policy ------------------------------------------------------------------------------- */

static void refuse(struct plug_work *w, const struct plug_change *c, bool harmless, const char *why)
{
	w->nr_refused += !harmless;
	w->refused(w->ctx, c, harmless, why);
}

/*
 * A follower sees the policy unmet again and again: where the kernel refuses, and where
 * somebody else changes things back. It must not go on for ever.
 */
static bool is_hopeless(struct plug_work *w, const struct plug_object *o,
			const struct plug_verdict *v)
{
	const struct plug_journal *j = w->journal;
	const struct plug_change *last = NULL;
	uint64_t now = vmplat_clock_now(CLOCK_REALTIME);
	unsigned int nr = 0;

	for (size_t i = j->nr; i-- && j->run && j->changes[i].run == j->run;) {
		const struct plug_change *c = &j->changes[i];

		if (c->class_ != o->class_ || c->ino != o->ino || strcmp(c->object, o->name))
			continue;
		if (c->result == PLUG_FAILED && plug_state_same(&c->before, &o->now) &&
		    plug_state_same(&c->after, &v->after))
			return true;
		if (!nr)
			last = c;
		if (now - c->begin_ns >= STRUGGLE_NS || ++nr < STRUGGLE_NR)
			continue;
		if (w->told != last->number)
			refuse(w, last, false, "something else keeps changing it back: it is left alone for now");
		w->told = last->number;
		return true;
	}
	return false;
}

static int apply_one(struct plug_work *w, const struct plug_policy *policy,
		     const struct plug_object *seen)
{
	struct plug_change c = { 0 };
	struct plug_object o;
	struct plug_verdict v;
	int err;

	/* the change before this one may have changed it, or taken its time */
	err = plug_look(w->host, seen->class_, seen->name, "", &o);
	if (err)
		return err == -ENOENT ? 0 : err;
	plug_decide(w->host, policy, &o, &v);
	if (!v.change || (w->follows && is_hopeless(w, &o, &v)))
		return 0;
	c.before = o.now;
	c.after = v.after;
	c.line = v.rule->line;
	return make_change(w, &o, &c);
}

int plug_apply(struct plug_work *w, const struct plug_policy *policy)
{
	struct plug_scan scan;
	int err = plug_scan(w->host, &scan);

	if (err)
		return err;
	for (size_t i = 0; i < scan.nr && !err; i++)
		err = apply_one(w, policy, &scan.objects[i]);
	plug_scan_free(&scan);
	return err;
}

/* ---- back ------------------------------------------------------------------------------------- */

static bool same_object(const struct plug_change *a, const struct plug_change *b)
{
	return a->class_ == b->class_ && a->ino == b->ino && !strcmp(a->object, b->object);
}

/* Is there something of @c to be taken back? */
static bool is_standing(const struct plug_change *c)
{
	return !c->undoes && !c->undone_by && !c->gone && c->result != PLUG_UNFINISHED &&
	       !plug_state_same(&c->before, &c->now);
}

/* The last of the journal about the object of @c, which has the state it was left in. */
static const struct plug_change *last_of(const struct plug_journal *j, const struct plug_change *c)
{
	for (size_t i = j->nr; i--;)
		if (same_object(&j->changes[i], c) && !j->changes[i].gone &&
		    j->changes[i].result != PLUG_UNFINISHED)
			return &j->changes[i];
	return c;
}

/* A later change of the same object that stands, or NULL. */
static const struct plug_change *later_of(const struct plug_journal *j, const struct plug_change *c)
{
	for (size_t i = c->number; i < j->nr; i++)
		if (same_object(&j->changes[i], c) && is_standing(&j->changes[i]))
			return &j->changes[i];
	return NULL;
}

static int undo_one(struct plug_work *w, unsigned int number)
{
	const struct plug_change *was = &w->journal->changes[number - 1];
	const struct plug_change *last = last_of(w->journal, was), *later = later_of(w->journal, was);
	struct plug_change c = { .undoes = number, .after = was->before };
	char now[PLUG_STATE_TEXT], left[PLUG_STATE_TEXT], why[2 * PLUG_STATE_TEXT + 128];
	struct plug_object o;
	int err = look(w->host, was, &o);

	if (err == -ENOENT) {
		refuse(w, was, true, "it has been unplugged since");
		return 0;
	}
	if (err)
		return err;
	if (later) {
		snprintf(why, sizeof(why), "change %u of the same object has to be undone first",
			 later->number);
		refuse(w, was, false, why);
		return 0;
	}
	if (!plug_state_same(&o.now, &last->now) && !plug_state_same(&o.now, &was->before)) {
		snprintf(why, sizeof(why), "somebody else has changed it since: it was left %s, and is %s",
			 plug_state_text(was->class_, &last->now, left),
			 plug_state_text(was->class_, &o.now, now));
		refuse(w, was, false, why);
		return 0;
	}
	c.before = o.now;
	return make_change(w, &o, &c);
}

/* The latest run of which something stands; 0: none. */
static unsigned int latest_run(const struct plug_journal *j)
{
	for (size_t i = j->nr; i--;)
		if (is_standing(&j->changes[i]))
			return j->changes[i].run;
	return 0;
}

int plug_undo(struct plug_work *w, unsigned int since)
{
	unsigned int run = since ? 0 : latest_run(w->journal);
	int err = 0;

	for (size_t i = w->journal->nr; i-- && !err;) {
		const struct plug_change *c = &w->journal->changes[i];

		if (is_standing(c) && (since ? c->number >= since : c->run == run))
			err = undo_one(w, c->number);
	}
	return err;
}
