// SPDX-License-Identifier: GPL-2.0-only
/*
 * A transaction: what all its PFs are is in the journal before the first of them changes, and the
 * journal says that it ended when the last one has. In between, or after a crash in between, every
 * PF is brought back to what it was.
 *
 * Going back looks at what is there: VFs that are neither those of before nor of this transaction
 * belong to somebody who came later, and are left alone.
 */
#include <errno.h>
#include <fcntl.h>
#include <inttypes.h>
#include <stdarg.h>
#include <stdlib.h>
#include <string.h>
#include <sys/random.h>
#include <sys/stat.h>
#include <unistd.h>

#include <vmplat.h>

#include "lib/journal.h"
#include "sriov/sriov.h"

#define COMPACT_BYTES	65536
#define ID_TEXT		(2 * VMPLAT_ID_BYTES + 1)

/* a PF as it was */
struct before {
	char address[64];
	uint8_t id[VMPLAT_ID_BYTES];
	bool owned;
	struct sriov_goal state;
};

struct sriov_work {
	const struct sriov_host *host;
	struct sriov_told told;
	struct journal *journal;
	char boot[40];

	/* the transaction under way */
	bool open;
	uint8_t id[VMPLAT_ID_BYTES];
	char its_boot[40];
	struct before *pfs;
	size_t nr;
};

__attribute__((format(printf, 2, 3)))
static void tell(const struct sriov_work *w, const char *fmt, ...)
{
	char text[SRIOV_WHY_MAX + 100];
	va_list ap;

	va_start(ap, fmt);
	vsnprintf(text, sizeof(text), fmt, ap);
	va_end(ap);
	if (w->told.told)
		w->told.told(w->told.ctx, text);
}

/* ---- to a state ---------------------------------------------------------------- */

static int named(int err, const char *address, int vf, const char *what)
{
	char why[SRIOV_WHY_MAX];

	snprintf(why, sizeof(why), "%s", vmplat_last_error());
	if (vf < 0)
		return sriov_fail(err, "%s: %s: %.200s", address, what, why);
	return sriov_fail(err, "%s: VF %d: %s: %.200s", address, vf, what, why);
}

static int look_again(const struct sriov_host *h, struct sriov_pf *pf)
{
	char address[sizeof(pf->address)];

	strcpy(address, pf->address);
	sriov_pf_free(pf);
	return h->look(h->ctx, address, pf);
}

static int reach_number(const struct sriov_host *h, struct sriov_pf *pf, const struct sriov_goal *to,
			const uint8_t id[VMPLAT_ID_BYTES])
{
	int err = 0;

	if (pf->nr_vfs == to->nr_vfs)
		return 0;
	if (pf->nr_vfs) {
		err = h->destroy(h->ctx, pf);
		if (err)
			return named(err, pf->address, -1, "its VFs cannot be removed");
	}
	if (to->nr_vfs) {
		err = h->create(h->ctx, pf, to->nr_vfs, to->owner, id);
		if (err)
			return named(err, pf->address, -1, "its VFs cannot be made");
	}
	return look_again(h, pf);
}

static const char *first_name(uint32_t mask)
{
	enum sriov_attr a = 0;

	while (!(mask & 1u << a))
		a++;
	return sriov_attr_name(a);
}

static bool any_driver(const struct sriov_pf *pf)
{
	for (unsigned int i = 0; i < pf->nr_vfs; i++)
		if (*pf->vfs[i].driver)
			return true;
	return false;
}

/* Vectors are counted anew only while nobody drives the VF. */
static int free_for_msix(const struct sriov_host *h, struct sriov_pf *pf, const struct sriov_goal *to)
{
	for (unsigned int i = 0; i < to->nr_vfs; i++)
		if (sriov_values_differ(&pf->vfs[i].values, &to->vfs[i]) & 1u << SRIOV_MSIX &&
		    pf->generation && any_driver(pf)) {
			int err = h->bind(h->ctx, pf, "");

			return err ? named(err, pf->address, (int)i, "msix") : look_again(h, pf);
		}
	return 0;
}

static int reach_values(const struct sriov_host *h, const struct sriov_pf *pf, unsigned int i,
			const struct sriov_values *to)
{
	uint32_t differs = sriov_values_differ(&pf->vfs[i].values, to);

	for (enum sriov_group g = 0; g < SRIOV_NR_GROUPS; g++) {
		uint32_t mask = differs & sriov_group_mask(g);
		int err = mask ? h->set(h->ctx, pf, i, g, to) : 0;

		if (err)
			return named(err, pf->address, (int)i, first_name(mask));
	}
	return 0;
}

/* What the kernel says now, not that it took what it was told. */
static int check_values(const struct sriov_pf *pf, const struct sriov_goal *to)
{
	for (unsigned int i = 0; i < to->nr_vfs; i++) {
		uint32_t differs = sriov_values_differ(&pf->vfs[i].values, &to->vfs[i]);
		char now[SRIOV_TEXT], want[SRIOV_TEXT];
		enum sriov_attr a = 0;

		if (!differs)
			continue;
		while (!(differs & 1u << a))
			a++;
		return sriov_fail(-EIO, "%s: VF %u: %s: the driver took %s without an error, and says it is %s",
				  pf->address, i, sriov_attr_name(a),
				  sriov_attr_text(a, to->vfs[i].v[a], want),
				  pf->vfs[i].values.has & 1u << a ?
				  sriov_attr_text(a, pf->vfs[i].values.v[a], now) : "not known");
	}
	return 0;
}

static int reach_driver(const struct sriov_host *h, const struct sriov_pf *pf, const char *driver)
{
	bool right = !strcmp(pf->driver, driver);
	int err = 0;

	if (!pf->generation)
		return 0;
	for (unsigned int i = 0; i < pf->nr_vfs; i++)
		right &= !strcmp(pf->vfs[i].driver, driver);
	if (right)
		return 0;
	if (*driver)
		err = h->load(h->ctx, driver);
	if (!err)
		err = h->bind(h->ctx, pf, driver);
	return err ? named(err, pf->address, -1, *driver ? driver : "no driver") : 0;
}

static int reach(const struct sriov_host *h, struct sriov_pf *pf, const struct sriov_goal *to,
		 const uint8_t id[VMPLAT_ID_BYTES])
{
	int err = reach_number(h, pf, to, id);

	if (!err && pf->nr_vfs != to->nr_vfs)
		err = sriov_fail(-EIO, "%s: it has %u VFs, not %u", pf->address, pf->nr_vfs, to->nr_vfs);
	if (!err)
		err = free_for_msix(h, pf, to);
	for (unsigned int i = 0; i < to->nr_vfs && !err; i++)
		err = reach_values(h, pf, i, &to->vfs[i]);
	if (!err)
		err = look_again(h, pf);
	if (!err)
		err = check_values(pf, to);
	return err ? err : reach_driver(h, pf, to->driver);
}

/* ---- back -------------------------------------------------------------------------- */

static bool same_id(const uint8_t a[VMPLAT_ID_BYTES], const uint8_t b[VMPLAT_ID_BYTES])
{
	return !memcmp(a, b, VMPLAT_ID_BYTES);
}

/* Are the VFs there those of before, or this transaction's? */
static bool is_mine(const struct sriov_work *w, const struct before *b, const struct sriov_pf *pf)
{
	if (!pf->nr_vfs || !pf->is_pci)
		return true;
	if (!pf->generation)
		return !b->owned && pf->nr_vfs == b->state.nr_vfs;
	return same_id(pf->id, w->id) || (b->owned && same_id(pf->id, b->id));
}

static int go_back(const struct sriov_work *w, const struct before *b)
{
	const struct sriov_host *h = w->host;
	struct sriov_pf pf;
	int err = h->look(h->ctx, b->address, &pf);

	if (err == -ENOENT || err == -ENODEV) {
		tell(w, "%s is gone: nothing to restore", b->address);
		return 0;
	}
	if (err)
		return err;
	if (is_mine(w, b, &pf))
		err = reach(h, &pf, &b->state, b->id);
	else
		tell(w, "%s has VFs of %s now: left alone", b->address,
		     *pf.owner ? pf.owner : "somebody else");
	sriov_pf_free(&pf);
	return err;
}

static void forget(struct sriov_work *w)
{
	for (size_t i = 0; i < w->nr; i++)
		sriov_goal_free(&w->pfs[i].state);
	free(w->pfs);
	w->pfs = NULL;
	w->nr = 0;
	w->open = false;
}

static int append(struct sriov_work *w, const char *line)
{
	return journal_append(w->journal, "%s", line);
}

static int end(struct sriov_work *w)
{
	int err = append(w, "end");

	if (!err)
		forget(w);
	return err;
}

/* All of them, last first; the first error is kept, and the rest are done all the same. */
static int all_back(struct sriov_work *w)
{
	char why[SRIOV_WHY_MAX] = "";
	int err = 0;

	for (size_t i = w->nr; i-- > 0;) {
		int rc = go_back(w, &w->pfs[i]);

		if (rc && !err) {
			err = rc;
			snprintf(why, sizeof(why), "%s", vmplat_last_error());
		}
	}
	return err ? sriov_fail(err, "%s", why) : end(w);
}

/* ---- the journal -------------------------------------------------------------------- */

static void id_text(const uint8_t id[VMPLAT_ID_BYTES], char text[ID_TEXT])
{
	for (int i = 0; i < VMPLAT_ID_BYTES; i++)
		sprintf(text + 2 * i, "%02x", id[i]);
}

static bool get_id(const char *line, uint8_t id[VMPLAT_ID_BYTES])
{
	char text[ID_TEXT];

	if (!journal_value(line, "id", text, sizeof(text)) || strlen(text) != ID_TEXT - 1)
		return false;
	for (int i = 0; i < VMPLAT_ID_BYTES; i++)
		if (sscanf(text + 2 * i, "%2hhx", &id[i]) != 1)
			return false;
	return true;
}

static bool get_number(const char *line, const char *key, uint64_t *v)
{
	char text[24], *rest;

	if (!journal_value(line, key, text, sizeof(text)) || !*text)
		return false;
	*v = strtoull(text, &rest, 0);
	return !*rest;
}

static int senseless(const char *line)
{
	return sriov_fail(-EBADMSG, "the journal has a record that makes no sense: %.100s", line);
}

static bool word_is(const char *line, const char *word)
{
	size_t n = strlen(word);

	return !strncmp(line, word, n) && (!line[n] || line[n] == ' ');
}

static int replay_pf(struct sriov_work *w, const char *line)
{
	struct before *more = realloc(w->pfs, (w->nr + 1) * sizeof(*more)), *b;
	uint64_t nr, owned;

	if (!more)
		return sriov_fail(-ENOMEM, "out of memory");
	w->pfs = more;
	b = &w->pfs[w->nr];
	*b = (struct before) { };
	if (!journal_value(line, "address", b->address, sizeof(b->address)) || !get_id(line, b->id) ||
	    !journal_value(line, "owner", b->state.owner, sizeof(b->state.owner)) ||
	    !journal_value(line, "driver", b->state.driver, sizeof(b->state.driver)) ||
	    !get_number(line, "vfs", &nr) || nr > SRIOV_VFS_MAX || !get_number(line, "owned", &owned))
		return senseless(line);
	b->owned = owned;
	b->state.vfs = calloc(nr + 1, sizeof(*b->state.vfs));
	if (!b->state.vfs)
		return sriov_fail(-ENOMEM, "out of memory");
	b->state.nr_vfs = (unsigned int)nr;
	w->nr++;
	return 0;
}

static int replay_vf(struct sriov_work *w, const char *line)
{
	struct before *b = w->nr ? &w->pfs[w->nr - 1] : NULL;
	struct sriov_values *v;
	uint64_t i;

	if (!b || !get_number(line, "index", &i) || i >= b->state.nr_vfs)
		return senseless(line);
	v = &b->state.vfs[i];
	for (enum sriov_attr a = 0; a < SRIOV_NR_ATTRS; a++)
		if (get_number(line, sriov_attr_name(a), &v->v[a]))
			v->has |= 1u << a;
	return 0;
}

static int replay(void *ctx, const char *line)
{
	struct sriov_work *w = ctx;

	if (word_is(line, "begin")) {
		if (w->open || !get_id(line, w->id) ||
		    !journal_value(line, "boot", w->its_boot, sizeof(w->its_boot)))
			return senseless(line);
		w->open = true;
		return 0;
	}
	if (word_is(line, "clean") && !w->open)
		return 0;
	if (!w->open)
		return senseless(line);
	if (word_is(line, "pf"))
		return replay_pf(w, line);
	if (word_is(line, "vf"))
		return replay_vf(w, line);
	if (!word_is(line, "end"))
		return senseless(line);
	forget(w);
	return 0;
}

static int write_vf(struct sriov_work *w, unsigned int i, const struct sriov_values *v)
{
	char line[600];
	int n = snprintf(line, sizeof(line), "vf index=%u", i);

	for (enum sriov_attr a = 0; a < SRIOV_NR_ATTRS; a++)
		if (v->has & 1u << a)
			n += snprintf(line + n, sizeof(line) - (size_t)n, " %s=0x%" PRIx64,
				      sriov_attr_name(a), v->v[a]);
	return append(w, line);
}

static int write_pf(struct sriov_work *w, const struct before *b)
{
	char line[1200], owner[3 * VMPLAT_SRIOV_OWNER_BYTES], driver[3 * VMPLAT_SRIOV_DRIVER_BYTES];
	char address[3 * sizeof(b->address)], id[ID_TEXT];
	int err;

	id_text(b->id, id);
	snprintf(line, sizeof(line), "pf address=%s id=%s owned=%d vfs=%u owner=%s driver=%s",
		 journal_quote(b->address, address, sizeof(address)), id, b->owned, b->state.nr_vfs,
		 journal_quote(b->state.owner, owner, sizeof(owner)),
		 journal_quote(b->state.driver, driver, sizeof(driver)));
	err = append(w, line);
	for (unsigned int i = 0; i < b->state.nr_vfs && !err; i++)
		err = write_vf(w, i, &b->state.vfs[i]);
	return err;
}

static int write_all(struct sriov_work *w)
{
	char line[200], id[ID_TEXT];
	int err;

	id_text(w->id, id);
	snprintf(line, sizeof(line), "begin id=%s boot=%s", id, w->boot);
	err = append(w, line);
	for (size_t i = 0; i < w->nr && !err; i++)
		err = write_pf(w, &w->pfs[i]);
	return err;
}

/* ---- opening ----------------------------------------------------------------------------- */

/* Each directory on the way that is missing is made. */
static int open_dir(const char *dir)
{
	char path[512];
	int fd;

	if (snprintf(path, sizeof(path), "%s", dir) >= (int)sizeof(path))
		return sriov_fail(-ENAMETOOLONG, "%.100s...: %s", dir, strerror(ENAMETOOLONG));
	for (char *s = path + 1; ; s++) {
		char c = *s;

		if (c && c != '/')
			continue;
		*s = '\0';
		if (mkdir(path, 0755) && errno != EEXIST)
			return sriov_fail(-errno, "%s: %s", path, strerror(errno));
		*s = c;
		if (!c)
			break;
	}
	fd = open(dir, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
	return fd < 0 ? sriov_fail(-errno, "%s: %s", dir, strerror(errno)) : fd;
}

static int read_boot(char boot[40])
{
	FILE *f = fopen("/proc/sys/kernel/random/boot_id", "re");
	bool good = f && fgets(boot, 40, f);

	if (f)
		fclose(f);
	if (!good)
		return sriov_fail(-EIO, "/proc/sys/kernel/random/boot_id cannot be read");
	boot[strcspn(boot, "\n")] = '\0';
	return 0;
}

/* VFs do not survive a reboot; what was interrupted before it is over. */
static int recover(struct sriov_work *w)
{
	char why[SRIOV_WHY_MAX];
	int err;

	if (!w->open)
		return 0;
	if (strcmp(w->its_boot, w->boot)) {
		tell(w, "a change that was interrupted ended with the host's last boot");
		return end(w);
	}
	tell(w, "a change of VFs was interrupted: undoing it");
	err = all_back(w);
	if (!err)
		return 0;
	snprintf(why, sizeof(why), "%s", vmplat_last_error());
	return sriov_fail(err, "an interrupted change cannot be undone now: %.300s", why);
}

static int compact(struct sriov_work *w)
{
	static const char *const lines[] = { "clean" };

	if (w->open || journal_bytes(w->journal) <= COMPACT_BYTES)
		return 0;
	return journal_replace(w->journal, lines, 1);
}

int sriov_work_open(struct sriov_work **out, const struct sriov_host *host, const char *dir,
		    struct sriov_told told)
{
	struct sriov_work *w = calloc(1, sizeof(*w));
	int fd, err;

	*out = NULL;
	if (!w)
		return sriov_fail(-ENOMEM, "out of memory");
	w->host = host;
	w->told = told;
	err = read_boot(w->boot);
	fd = err ? -1 : open_dir(dir ? dir : SRIOV_DIR);
	if (!err && fd < 0)
		err = fd;
	if (!err)
		err = journal_open(&w->journal, fd, "journal", 0, replay, w);
	if (fd >= 0)
		close(fd);
	if (!err)
		err = recover(w);
	if (!err)
		err = compact(w);
	if (err)
		sriov_work_close(w);
	else
		*out = w;
	return err;
}

void sriov_work_close(struct sriov_work *w)
{
	if (!w)
		return;
	forget(w);
	journal_close(w->journal);
	free(w);
}

/* ---- a transaction -------------------------------------------------------------------------- */

static int remember(struct sriov_work *w, const struct sriov_pf *pf)
{
	struct before *b = &w->pfs[w->nr];

	*b = (struct before) { .owned = pf->generation, .state.nr_vfs = pf->nr_vfs };
	strcpy(b->address, pf->address);
	memcpy(b->id, pf->id, sizeof(b->id));
	strcpy(b->state.owner, pf->owner);
	strcpy(b->state.driver, pf->driver);
	b->state.vfs = calloc(pf->nr_vfs + 1, sizeof(*b->state.vfs));
	if (!b->state.vfs)
		return sriov_fail(-ENOMEM, "out of memory");
	for (unsigned int i = 0; i < pf->nr_vfs; i++)
		b->state.vfs[i] = pf->vfs[i].values;
	w->nr++;
	return 0;
}

/* It may have changed since it was planned, by somebody who does not ask for the journal. */
static int check_same(const struct before *b, const struct sriov_pf *now)
{
	if (now->nr_vfs != b->state.nr_vfs || b->owned != !!now->generation ||
	    (b->owned && !same_id(now->id, b->id)))
		return sriov_fail(-EAGAIN, "%s: somebody has changed its VFs meanwhile", b->address);
	return 0;
}

static int change_one(struct sriov_work *w, const struct before *b, const struct sriov_goal *to)
{
	const struct sriov_host *h = w->host;
	struct sriov_pf pf;
	int err = h->look(h->ctx, b->address, &pf);

	if (err)
		return err;
	err = check_same(b, &pf);
	if (!err)
		err = reach(h, &pf, to, w->id);
	sriov_pf_free(&pf);
	return err;
}

static int begin(struct sriov_work *w, const struct sriov_change *changes, size_t nr)
{
	int err = 0;

	if (getrandom(w->id, sizeof(w->id), 0) != sizeof(w->id))
		return sriov_fail(-EIO, "no random numbers: %s", strerror(errno));
	w->pfs = calloc(nr + 1, sizeof(*w->pfs));
	if (!w->pfs)
		return sriov_fail(-ENOMEM, "out of memory");
	w->open = true;
	for (size_t i = 0; i < nr && !err; i++)
		err = remember(w, changes[i].pf);
	return err ? err : write_all(w);
}

int sriov_work_apply(struct sriov_work *w, const struct sriov_change *changes, size_t nr)
{
	char why[SRIOV_WHY_MAX];
	int err = begin(w, changes, nr);

	for (size_t i = 0; i < nr && !err; i++)
		err = change_one(w, &w->pfs[i], changes[i].goal);
	if (!err)
		err = end(w);
	if (!err)
		return 0;
	snprintf(why, sizeof(why), "%s", vmplat_last_error());
	if (w->open && all_back(w))
		tell(w, "not all could be undone: %s", vmplat_last_error());
	forget(w);
	return sriov_fail(err, "%s", why);
}
