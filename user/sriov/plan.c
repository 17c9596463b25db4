// SPDX-License-Identifier: GPL-2.0-only
/* A wish beside what there is. Nothing is changed here. */
#include <errno.h>
#include <stdarg.h>
#include <stdlib.h>
#include <string.h>

#include <vmplat.h>

#include "sriov/sriov.h"

struct planner {
	const struct sriov_host *host;
	const struct sriov_pf *pf;
	const struct sriov_pf_wish *wish;
	const char *owner;
	const struct sriov_listener *listener;
	struct sriov_goal *goal;
	unsigned int nr_differ, nr_blocks;
};

__attribute__((format(printf, 4, 5)))
static void block(struct planner *p, int vf, unsigned int line, const char *fmt, ...)
{
	char text[SRIOV_WHY_MAX];
	va_list ap;

	va_start(ap, fmt);
	vsnprintf(text, sizeof(text), fmt, ap);
	va_end(ap);
	p->nr_blocks++;
	p->listener->said(p->listener->ctx, SRIOV_BLOCKS, p->pf, vf, line, NULL, NULL, NULL, text);
}

static void differ(struct planner *p, int vf, unsigned int line, const char *key, const char *now,
		   const char *want)
{
	p->nr_differ++;
	p->listener->said(p->listener->ctx, SRIOV_DIFFERS, p->pf, vf, line, key, now, want, NULL);
}

/* ---- the PF ------------------------------------------------------------------ */

/* VFs that are there and go away: nobody may have them. */
static void check_use(struct planner *p, unsigned int line)
{
	for (unsigned int i = 0; i < p->pf->nr_vfs; i++)
		if (p->host->in_use(p->host->ctx, p->pf, i))
			block(p, (int)i, line, "%s", vmplat_last_error());
}

static void check_owner(struct planner *p)
{
	const struct sriov_pf *pf = p->pf;

	if (pf->generation && strcmp(pf->owner, p->owner))
		block(p, -1, p->wish->line, "its VFs are of %s (generation %llu), not of %s", pf->owner,
		      (unsigned long long)pf->generation, p->owner);
}

static bool is_anew(const struct sriov_pf *pf, unsigned int nr)
{
	return pf->nr_vfs != nr;
}

static void check_number(struct planner *p)
{
	const struct sriov_pf *pf = p->pf;
	unsigned int nr = p->wish->nr_vfs, line = p->wish->numvfs_line;
	char now[16], want[16];

	if (nr > pf->limit)
		block(p, -1, line, "numvfs = %u: it can have %u VFs at most", nr, pf->limit);
	if (!is_anew(pf, nr))
		return;
	snprintf(now, sizeof(now), "%u", pf->nr_vfs);
	snprintf(want, sizeof(want), "%u", nr);
	differ(p, -1, line, "numvfs", now, want);
	if (*pf->why_not)
		block(p, -1, line, "%s", pf->why_not);
	if (pf->nr_vfs && !pf->generation && pf->is_pci)
		block(p, -1, line, "it has %u VFs that somebody made through sriov_numvfs: remove them there first",
		      pf->nr_vfs);
	check_use(p, line);
}

static const char *driver_name(const char *name)
{
	return *name ? name : "none";
}

static void check_driver(struct planner *p)
{
	const struct sriov_pf *pf = p->pf;
	const char *want = p->wish->driver;
	unsigned int line = p->wish->driver_line;
	bool right = pf->generation && !is_anew(pf, p->wish->nr_vfs);
	const char *now = pf->driver;

	if (!want)
		return;
	if (!pf->is_pci) {
		block(p, -1, line, "driver: VFs of %s are no PCI functions", pf->address);
		return;
	}
	if (pf->nr_vfs && !pf->generation && !is_anew(pf, p->wish->nr_vfs)) {
		block(p, -1, line, "driver: its VFs were made through sriov_numvfs, and are not vmplat's to give away");
		return;
	}
	for (unsigned int i = 0; right && i < pf->nr_vfs; i++)
		if (strcmp(pf->vfs[i].driver, want)) {
			right = false;
			now = pf->vfs[i].driver;
		}
	if (right && !strcmp(pf->driver, want))
		return;
	if (p->wish->nr_vfs)
		differ(p, -1, line, "driver", driver_name(now), driver_name(want));
	if (!is_anew(pf, p->wish->nr_vfs))
		check_use(p, line);
}

/* ---- VFs ---------------------------------------------------------------------- */

static void check_support(struct planner *p, unsigned int i, enum sriov_attr a, bool known)
{
	const struct sriov_pf *pf = p->pf;
	const struct sriov_vf_wish *vf = &p->wish->vfs[i];
	unsigned int line = vf->lines[a];
	const char *name = sriov_attr_name(a);

	if (sriov_attr_is_net(a) && !*pf->netdev)
		block(p, (int)i, line, "%s: %s has no network interface through which it could be set",
		      name, pf->address);
	else if (a == SRIOV_MSIX && !pf->nr_msix)
		block(p, (int)i, line, "msix: the driver of %s cannot set it", pf->address);
	else if (known && !(pf->vfs[i].values.has & 1u << a))
		block(p, (int)i, line, "%s: the driver of %s does not know it", name, pf->netdev);
	else if ((a == SRIOV_MAX_RATE || a == SRIOV_MIN_RATE) && pf->speed &&
		 vf->values.v[a] > pf->speed)
		block(p, (int)i, line, "%s = %llu: the link of %s has %u Mbit/s", name,
		      (unsigned long long)vf->values.v[a], pf->netdev, pf->speed);
}

static void check_vf(struct planner *p, unsigned int i)
{
	const struct sriov_vf_wish *vf = &p->wish->vfs[i];
	bool there = !is_anew(p->pf, p->wish->nr_vfs);
	const struct sriov_values none = { }, *now = there ? &p->pf->vfs[i].values : &none;
	uint32_t differs = sriov_values_differ(now, &vf->values);

	for (enum sriov_attr a = 0; a < SRIOV_NR_ATTRS; a++) {
		char has[SRIOV_TEXT], want[SRIOV_TEXT];

		if (!(differs & 1u << a))
			continue;
		check_support(p, i, a, there);
		differ(p, (int)i, vf->lines[a], sriov_attr_name(a),
		       now->has & 1u << a ? sriov_attr_text(a, now->v[a], has) : NULL,
		       sriov_attr_text(a, vf->values.v[a], want));
	}
}

static void check_msix(struct planner *p)
{
	uint64_t sum = 0;
	unsigned int line = 0;

	for (unsigned int i = 0; i < p->wish->nr_vfs; i++) {
		const struct sriov_vf_wish *vf = &p->wish->vfs[i];

		if (!(vf->values.has & 1u << SRIOV_MSIX))
			continue;
		sum += vf->values.v[SRIOV_MSIX];
		line = vf->lines[SRIOV_MSIX];
	}
	if (p->pf->nr_msix && sum > p->pf->nr_msix)
		block(p, -1, line, "msix: %llu vectors together, and there are %u",
		      (unsigned long long)sum, p->pf->nr_msix);
}

/* ---- the goal ------------------------------------------------------------------- */

/*
 * Attributes the kernel takes only together: what the wish does not say stays as it is. VFs that
 * are new have no VLAN and no limits.
 */
static void complete(struct sriov_values *to, const struct sriov_values *now)
{
	static const uint64_t born[SRIOV_NR_ATTRS] = { [SRIOV_PROTO] = 0x8100 };

	for (enum sriov_attr a = 0; a < SRIOV_NR_ATTRS; a++) {
		if (to->has & 1u << a || !(to->has & sriov_group_mask(sriov_attr_group(a))))
			continue;
		to->v[a] = now && now->has & 1u << a ? now->v[a] : born[a];
	}
	/* a VLAN that goes takes its priority and protocol along */
	if (to->has & 1u << SRIOV_VLAN && !to->v[SRIOV_VLAN]) {
		to->v[SRIOV_QOS] = 0;
		to->v[SRIOV_PROTO] = born[SRIOV_PROTO];
	}
}

static int make_goal(struct planner *p)
{
	struct sriov_goal *g = p->goal;
	const struct sriov_pf *pf = p->pf;
	const struct sriov_pf_wish *w = p->wish;

	*g = (struct sriov_goal) { .nr_vfs = w->nr_vfs, .anew = is_anew(pf, w->nr_vfs) };
	snprintf(g->owner, sizeof(g->owner), "%s", p->owner);
	snprintf(g->driver, sizeof(g->driver), "%s", w->driver ? w->driver :
		 pf->generation ? pf->driver : "");
	g->vfs = calloc(w->nr_vfs + 1, sizeof(*g->vfs));
	if (!g->vfs)
		return sriov_fail(-ENOMEM, "out of memory");
	for (unsigned int i = 0; i < w->nr_vfs; i++) {
		const char *why;

		g->vfs[i] = w->vfs[i].values;
		complete(&g->vfs[i], g->anew ? NULL : &pf->vfs[i].values);
		why = sriov_values_check(&(struct sriov_values) {
			.has = (1u << SRIOV_NR_ATTRS) - 1, .v = {
				[SRIOV_VLAN] = g->vfs[i].v[SRIOV_VLAN], [SRIOV_QOS] = g->vfs[i].v[SRIOV_QOS],
				[SRIOV_PROTO] = g->vfs[i].v[SRIOV_PROTO] ?: 0x8100,
				[SRIOV_MIN_RATE] = g->vfs[i].v[SRIOV_MIN_RATE],
				[SRIOV_MAX_RATE] = g->vfs[i].v[SRIOV_MAX_RATE] } });
		if (why)
			block(p, (int)i, w->line, "with what it has already: %s", why);
	}
	return 0;
}

int sriov_plan(const struct sriov_host *host, const struct sriov_pf *pf,
	       const struct sriov_pf_wish *wish, const char *owner,
	       const struct sriov_listener *listener, struct sriov_goal *goal,
	       unsigned int *nr_differ, unsigned int *nr_blocks)
{
	struct planner p = { host, pf, wish, owner, listener, goal };
	int err;

	check_owner(&p);
	check_number(&p);
	check_driver(&p);
	for (unsigned int i = 0; i < wish->nr_vfs; i++)
		check_vf(&p, i);
	check_msix(&p);
	err = make_goal(&p);
	*nr_differ = p.nr_differ;
	*nr_blocks = p.nr_blocks;
	return err;
}

void sriov_goal_free(struct sriov_goal *g)
{
	free(g->vfs);
	*g = (struct sriov_goal) { };
}
