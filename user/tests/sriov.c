// SPDX-License-Identifier: GPL-2.0-only
/*
 * vmplat sriov without hardware: the file, the plan, and transactions on PFs that live in memory
 * shared with a child that is killed before, or fails at, each of its steps.
 */
#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/wait.h>
#include <unistd.h>

#include <vmplat.h>

#include "sriov/sriov.h"
#include "tap.h"

/* ---- the file ----------------------------------------------------------------- */

static struct sriov_wish wish;

static int read_wish(const char *text)
{
	return sriov_wish_read(&wish, "f", text, strlen(text));
}

/* It is refused with exactly this. */
static bool refuses(const char *text, const char *why)
{
	int err = read_wish(text);

	if (err == -EINVAL && !wish.pfs && !wish.file && !strcmp(vmplat_last_error(), why))
		return true;
	printf("# %d: %s\n", err, vmplat_last_error());
	if (!err)
		sriov_wish_free(&wish);
	return false;
}

static bool has(const struct sriov_values *v, enum sriov_attr a, uint64_t want)
{
	return v->has & 1u << a && v->v[a] == want;
}

TEST(file)
{
	REQUIRE(!read_wish("# two PFs\n"
			   "[pf 0000:01:00.0]\n numvfs = 3 \r\ndriver=vfio-pci\nspoofchk = on\nlink = auto\n"
			   "; and\n[vf 0]\nmac = 02:00:00:00:0a:FF\nvlan = 100\nqos = 3\nproto = 802.1AD\n"
			   "[vf 1-2]\nspoofchk = off\nmin_rate = 10\nmax_rate = 0\ntrust = on\nmsix = 4\n"
			   "[vf 2]\nvlan = 0\n"
			   "[pf eth2]\nnumvfs = 0"));
	CHECK_EQ(wish.nr, 2);
	CHECK(!strcmp(wish.pfs[0].name, "0000:01:00.0") && !strcmp(wish.pfs[1].name, "eth2"));
	CHECK_EQ(wish.pfs[0].nr_vfs, 3);
	CHECK_EQ(wish.pfs[0].line, 2);
	CHECK(!strcmp(wish.pfs[0].driver, "vfio-pci"));
	CHECK(!wish.pfs[1].driver);
	CHECK(has(&wish.pfs[0].vfs[0].values, SRIOV_MAC, 0x020000000aff));
	CHECK(has(&wish.pfs[0].vfs[0].values, SRIOV_PROTO, 0x88a8));
	CHECK(has(&wish.pfs[0].vfs[0].values, SRIOV_SPOOFCHK, 1));
	CHECK(has(&wish.pfs[0].vfs[1].values, SRIOV_SPOOFCHK, 0));
	CHECK(has(&wish.pfs[0].vfs[2].values, SRIOV_SPOOFCHK, 0));
	CHECK(has(&wish.pfs[0].vfs[2].values, SRIOV_MSIX, 4));
	CHECK(has(&wish.pfs[0].vfs[2].values, SRIOV_VLAN, 0));
	CHECK(has(&wish.pfs[0].vfs[1].values, SRIOV_LINK, 0));
	CHECK_EQ(wish.pfs[0].vfs[1].values.has >> SRIOV_NR_ATTRS, 0);
	CHECK_EQ(wish.pfs[0].vfs[2].lines[SRIOV_VLAN], 20);
	sriov_wish_free(&wish);
	REQUIRE(!read_wish("[pf a]\nnumvfs=1\ndriver = none\n"));
	CHECK(wish.pfs[0].driver && !*wish.pfs[0].driver);
	sriov_wish_free(&wish);
}

#define PF "[pf a]\nnumvfs = 2\n"

TEST(file_errors)
{
	CHECK(refuses("", "f:1: there is no [pf] section"));
	CHECK(refuses("numvfs = 1", "f:1: numvfs: a [pf NAME] section comes first"));
	CHECK(refuses("[pf ]", "f:1: a PF is an address, a slot path, serial:NUMBER, or a network interface"));
	CHECK(refuses("[pf a", "f:1: a section ends with ']', and nothing behind it"));
	CHECK(refuses("[of a]", "f:1: there is no section 'of': it is [pf NAME] or [vf LIST]"));
	CHECK(refuses("[vf 0]", "f:1: a [vf] section belongs below a [pf] section"));
	CHECK(refuses("[pf a]\n", "f:1: [pf a] does not say numvfs"));
	CHECK(refuses(PF "[pf a]", "f:3: a has a section already, in line 1"));
	CHECK(refuses("[pf a]\n[vf 0]", "f:2: numvfs of a has to be said before its [vf] sections"));
	CHECK(refuses("[pf a]\nvlan=1", "f:2: numvfs has to be said before the attributes of VFs"));
	CHECK(refuses("[pf a]\nnumvfs = 4097", "f:2: numvfs: it is a number from 0 to 4096"));
	CHECK(refuses("[pf a]\nnumvfs = -1", "f:2: numvfs: it is a number from 0 to 4096"));
	CHECK(refuses("[pf a]\nnumvfs = 99999999999999999999", "f:2: numvfs: it is a number from 0 to 4096"));
	CHECK(refuses(PF "numvfs = 2", "f:3: numvfs: given in line 2 already"));
	CHECK(refuses(PF "driver = a b", "f:3: driver: 'a b' is no name of a driver; none is for none"));
	CHECK(refuses(PF "driver=a\ndriver=b", "f:4: driver: given in line 3 already"));
	CHECK(refuses(PF "[vf 0]\ndriver = a", "f:4: driver is of a PF, not of some of its VFs"));
	CHECK(refuses(PF "[vf 2]", "f:3: [vf 2]: there is no such VF: they count from 0 and are fewer than numvfs"));
	CHECK(refuses(PF "[vf 0-]", "f:3: [vf 0-]: it is a list of VFs such as 0-3,7"));
	CHECK(refuses(PF "[vf 1-0]", "f:3: [vf 1-0]: a range begins with the smaller number"));
	CHECK(refuses(PF "[vf 0,0]", "f:3: [vf 0,0]: a VF is listed twice"));
	CHECK(refuses(PF "[vf ]", "f:3: [vf ]: it is a list of VFs such as 0-3,7"));
	CHECK(refuses(PF "vlan = 4095", "f:3: vlan: '4095': it is a number from 0, for none, to 4094"));
	CHECK(refuses(PF "qos = 8", "f:3: qos: '8': it is a number from 0 to 7"));
	CHECK(refuses(PF "proto = ipx", "f:3: proto: 'ipx': it is 802.1Q or 802.1ad"));
	CHECK(refuses(PF "spoofchk = maybe", "f:3: spoofchk: 'maybe': it is on or off"));
	CHECK(refuses(PF "link = up", "f:3: link: 'up': it is auto, on or off"));
	CHECK(refuses(PF "msix = 0", "f:3: msix: '0': it is a number of vectors from 1 to 2048"));
	CHECK(refuses(PF "max_rate = 4294967296", "f:3: max_rate: '4294967296': it is a number of Mbit/s, 0 for no limit"));
	CHECK(refuses(PF "[vf 0]\nmac = 01:00:00:00:00:00",
		      "f:4: mac: '01:00:00:00:00:00': it is a unicast address such as 02:00:00:00:00:01"));
	CHECK(refuses(PF "[vf 0]\nmac = 02:00:00:00:00:001",
		      "f:4: mac: '02:00:00:00:00:001': it is a unicast address such as 02:00:00:00:00:01"));
	CHECK(refuses(PF "mac = 02:00:00:00:00:01", "f:3: mac: 2 VFs cannot have one address"));
	CHECK(refuses(PF "[vf 0]\nmac = 02:00:00:00:00:01\n[vf 1]\nmac = 02:00:00:00:00:01",
		      "f:6: mac: VF 0 of a has this address already (line 4)"));
	CHECK(refuses(PF "[vf 0]\nvlan=1\n[vf 0-1]\nvlan=2", "f:6: vlan of VF 0: given in line 4 already"));
	CHECK(refuses(PF "vlan=1\nvlan=2", "f:4: vlan: given in line 3 already"));
	CHECK(refuses(PF "[vf 0]\nqos=1", "f:4: VF 0: qos needs a vlan that is not 0"));
	CHECK(refuses(PF "[vf 1]\nproto=802.1ad\nvlan=0", "f:5: VF 1: proto 802.1ad needs a vlan that is not 0"));
	CHECK(refuses(PF "[vf 1]\nmin_rate=5\nmax_rate=4", "f:5: VF 1: min_rate is more than max_rate"));
	CHECK(refuses(PF "vlam = 1", "f:3: there is no setting 'vlam': numvfs, driver, mac, vlan, qos, proto, min_rate, max_rate, spoofchk, trust, link, msix"));
	CHECK(refuses(PF "what", "f:3: a line is KEY = VALUE, [SECTION], or a # comment"));
	CHECK(sriov_wish_read(&wish, "f", "[pf a]\0\n", 8) == -EINVAL);
	CHECK(!strcmp(vmplat_last_error(), "f:1: a zero byte: this is no text"));
}

/* ---- a host -------------------------------------------------------------------- */

#define NR_PFS	2
#define NR_VFS	4

struct fake_pf {
	unsigned int nr;
	uint64_t generation;
	uint8_t id[VMPLAT_ID_BYTES];
	char owner[64], driver[32];
	struct sriov_values vfs[NR_VFS];
	bool busy[NR_VFS];
};

/* shared with children */
static struct shared {
	struct fake_pf pfs[NR_PFS];
	uint64_t generation;
	int steps;			/* so many changes were made */
	int fail_at, kill_at;		/* -1: never */
	bool lies;			/* takes a VLAN and does something else */
} *sh;

static int step(void)
{
	int n = sh->steps++;

	if (n == sh->kill_at)
		_exit(9);
	return n == sh->fail_at ? sriov_fail(-EIO, "step %d fails", n) : 0;
}

static struct fake_pf *fake(const char *address)
{
	return !strcmp(address, "a") ? &sh->pfs[0] : !strcmp(address, "b") ? &sh->pfs[1] : NULL;
}

static int fake_look(void *ctx, const char *name, struct sriov_pf *pf)
{
	const struct fake_pf *f = fake(name);

	*pf = (struct sriov_pf) { .limit = NR_VFS, .is_pci = true, .ifindex = 1, .nr_msix = 16, .speed = 1000 };
	if (!f)
		return sriov_fail(-ENOENT, "no such PF");
	strcpy(pf->address, name);
	strcpy(pf->netdev, "eth");
	pf->nr_vfs = f->nr;
	pf->generation = f->generation;
	memcpy(pf->id, f->id, sizeof(pf->id));
	strcpy(pf->owner, f->owner);
	strcpy(pf->driver, f->driver);
	pf->vfs = calloc(f->nr + 1, sizeof(*pf->vfs));
	for (unsigned int i = 0; i < f->nr; i++) {
		strcpy(pf->vfs[i].driver, f->driver);
		pf->vfs[i].values = f->vfs[i];
	}
	return 0;
}

static int fake_load(void *ctx, const char *driver)
{
	return strcmp(driver, "missing") ? 0 : sriov_fail(-ENODEV, "no such driver");
}

static int fake_in_use(void *ctx, const struct sriov_pf *pf, unsigned int i)
{
	return fake(pf->address)->busy[i] ? sriov_fail(-EBUSY, "a guest has it") : 0;
}

static void born(struct fake_pf *f, unsigned int nr)
{
	f->nr = nr;
	for (unsigned int i = 0; i < nr; i++)
		f->vfs[i] = (struct sriov_values) { .has = (1u << SRIOV_NR_ATTRS) - 1,
			.v = { [SRIOV_PROTO] = 0x8100, [SRIOV_SPOOFCHK] = 1, [SRIOV_MSIX] = 2 } };
}

static int fake_create(void *ctx, const struct sriov_pf *pf, unsigned int nr, const char *owner,
		       const uint8_t id[VMPLAT_ID_BYTES])
{
	struct fake_pf *f = fake(pf->address);
	int err = step();

	if (err)
		return err;
	if (f->nr)
		return sriov_fail(-EBUSY, "there are VFs");
	born(f, nr);
	f->generation = ++sh->generation;
	memcpy(f->id, id, sizeof(f->id));
	strcpy(f->owner, owner);
	*f->driver = '\0';
	return 0;
}

static int fake_bind(void *ctx, const struct sriov_pf *pf, const char *driver)
{
	struct fake_pf *f = fake(pf->address);
	int err = step();

	if (!err && pf->generation != f->generation)
		err = sriov_fail(-ESTALE, "over");
	if (!err)
		strcpy(f->driver, driver);
	return err;
}

static int fake_destroy(void *ctx, const struct sriov_pf *pf)
{
	struct fake_pf *f = fake(pf->address);
	int err = step();

	if (!err && pf->generation != f->generation)
		err = sriov_fail(-ESTALE, "over");
	if (!err)
		*f = (struct fake_pf) { };
	return err;
}

static int fake_set(void *ctx, const struct sriov_pf *pf, unsigned int i, enum sriov_group g,
		    const struct sriov_values *v)
{
	struct fake_pf *f = fake(pf->address);
	int err = step();

	if (err)
		return err;
	if (g == SRIOV_G_MSIX && *f->driver)
		return sriov_fail(-EBUSY, "somebody drives it");
	for (enum sriov_attr a = 0; a < SRIOV_NR_ATTRS; a++)
		if (sriov_attr_group(a) == g)
			f->vfs[i].v[a] = v->v[a];
	if (sh->lies && g == SRIOV_G_VLAN)
		f->vfs[i].v[SRIOV_VLAN] ^= 1;
	return 0;
}

static const struct sriov_host host = {
	.look = fake_look, .load = fake_load, .in_use = fake_in_use, .create = fake_create,
	.bind = fake_bind, .destroy = fake_destroy, .set = fake_set,
};

static char dir[] = "/tmp/sriov-test-XXXXXX";

/* a: two VFs of root, with attributes; b: none */
static void reset_host(void)
{
	struct fake_pf *a = &sh->pfs[0];

	*sh = (struct shared) { .generation = 10, .fail_at = -1, .kill_at = -1 };
	born(a, 2);
	a->generation = 10;
	a->id[0] = 1;
	strcpy(a->owner, "root");
	strcpy(a->driver, "vfio-pci");
	a->vfs[0].v[SRIOV_VLAN] = 5;
	a->vfs[0].v[SRIOV_QOS] = 2;
	a->vfs[1].v[SRIOV_MAX_RATE] = 100;
}

/* ---- plans ------------------------------------------------------------------------ */

static char blockers[4096];

static void said(void *ctx, enum sriov_says what, const struct sriov_pf *pf, int vf,
		 unsigned int line, const char *key, const char *now, const char *want,
		 const char *sentence)
{
	size_t n = strlen(blockers);

	if (what == SRIOV_BLOCKS)
		snprintf(blockers + n, sizeof(blockers) - n, "%u %d %s\n", line, vf, sentence);
}

static const struct sriov_listener listener = { NULL, said };

/* Blockers, a line each, of this wish; @differ is told how many differences there are. */
static const char *plan(const char *text, const char *owner, unsigned int *differ)
{
	struct sriov_goal goal;
	struct sriov_pf pf;
	unsigned int blocks;

	*blockers = '\0';
	*differ = 99;
	if (read_wish(text))
		return vmplat_last_error();
	if (fake_look(NULL, wish.pfs[0].name, &pf))
		return "?";
	if (!sriov_plan(&host, &pf, &wish.pfs[0], owner, &listener, &goal, differ, &blocks))
		sriov_goal_free(&goal);
	sriov_pf_free(&pf);
	sriov_wish_free(&wish);
	return blockers;
}

#define PLAN(text, differences, why) do {				\
	unsigned int plan_n;						\
	const char *plan_why = plan(text, "root", &plan_n);		\
									\
	if (strcmp(plan_why, why))					\
		printf("# %s", plan_why);				\
	CHECK(!strcmp(plan_why, why));					\
	CHECK_EQ(plan_n, differences);					\
} while (0)

TEST(plans)
{
	unsigned int n;

	reset_host();
	PLAN("[pf a]\nnumvfs=2\ndriver=vfio-pci\nspoofchk=on\n[vf 0]\nvlan=5", 0, "");
	PLAN("[pf a]\nnumvfs=2\n[vf 0]\nvlan=6\nmsix=3", 2, "");
	PLAN("[pf b]\nnumvfs=2\ndriver=vfio-pci", 2, "");
	PLAN("[pf b]\nnumvfs=5", 1, "2 -1 numvfs = 5: it can have 4 VFs at most\n");
	PLAN("[pf b]\nnumvfs=2\nmax_rate=2000", 3,
	     "3 0 max_rate = 2000: the link of eth has 1000 Mbit/s\n3 1 max_rate = 2000: the link of eth has 1000 Mbit/s\n");
	PLAN("[pf b]\nnumvfs=4\nmsix=5", 5, "3 -1 msix: 20 vectors together, and there are 16\n");
	/* what it has counts: VF 1 has a limit of 100 */
	PLAN("[pf a]\nnumvfs=2\n[vf 1]\nmin_rate=200", 1, "1 1 with what it has already: min_rate is more than max_rate\n");
	CHECK(!strcmp(plan("[pf a]\nnumvfs=2", "eve", &n), "1 -1 its VFs are of root (generation 10), not of eve\n"));
	sh->pfs[0].busy[1] = true;
	PLAN("[pf a]\nnumvfs=3", 1, "2 1 a guest has it\n");
	PLAN("[pf a]\nnumvfs=2\ndriver=igbvf", 1, "3 1 a guest has it\n");
	PLAN("[pf a]\nnumvfs=2\nvlan=7", 2, "");
	sh->pfs[0].busy[1] = false;
	sh->pfs[0].generation = 0;
	*sh->pfs[0].owner = *sh->pfs[0].driver = '\0';
	PLAN("[pf a]\nnumvfs=2\nvlan=5", 1, "");
	PLAN("[pf a]\nnumvfs=0", 1, "2 -1 it has 2 VFs that somebody made through sriov_numvfs: remove them there first\n");
	PLAN("[pf a]\nnumvfs=2\ndriver=x", 0,
	     "3 -1 driver: its VFs were made through sriov_numvfs, and are not vmplat's to give away\n");
	sh->pfs[0].vfs[1].has &= ~(1u << SRIOV_TRUST);
	PLAN("[pf a]\nnumvfs=2\ntrust=on", 2, "3 1 trust: the driver of eth does not know it\n");
}

/* ---- transactions -------------------------------------------------------------------- */

static char heard[2048];

static void told(void *ctx, const char *sentence)
{
	size_t n = strlen(heard);

	snprintf(heard + n, sizeof(heard) - n, "%s\n", sentence);
}

static int open_work(struct sriov_work **w)
{
	*heard = '\0';
	return sriov_work_open(w, &host, dir, (struct sriov_told) { NULL, told });
}

static int apply(const char *text)
{
	struct sriov_change changes[NR_PFS];
	struct sriov_goal goals[NR_PFS];
	struct sriov_pf pfs[NR_PFS];
	struct sriov_work *w;
	unsigned int differ, blocks;
	int err = open_work(&w);

	if (err)
		return err;
	*blockers = '\0';
	if (read_wish(text))
		abort();
	for (size_t i = 0; i < wish.nr; i++) {
		if (fake_look(NULL, wish.pfs[i].name, &pfs[i]) ||
		    sriov_plan(&host, &pfs[i], &wish.pfs[i], "root", &listener, &goals[i], &differ, &blocks))
			abort();
		changes[i] = (struct sriov_change) { &pfs[i], &goals[i] };
	}
	err = sriov_work_apply(w, changes, wish.nr);
	for (size_t i = 0; i < wish.nr; i++) {
		sriov_pf_free(&pfs[i]);
		sriov_goal_free(&goals[i]);
	}
	sriov_wish_free(&wish);
	sriov_work_close(w);
	return err;
}

static int recover(void)
{
	struct sriov_work *w;
	int err = open_work(&w);

	sriov_work_close(w);
	return err;
}

/* All that matters of the PFs: generations count on when VFs are made anew. */
static bool same_as(const struct shared *want)
{
	for (int i = 0; i < NR_PFS; i++) {
		const struct fake_pf *a = &sh->pfs[i], *b = &want->pfs[i];

		if (a->nr != b->nr || strcmp(a->owner, b->owner) || strcmp(a->driver, b->driver) ||
		    memcmp(a->id, b->id, sizeof(a->id)) ||
		    memcmp(a->vfs, b->vfs, a->nr * sizeof(*a->vfs))) {
			printf("# PF %d: %u VFs of '%s' for '%s', not %u of '%s' for '%s'\n", i, a->nr,
			       a->owner, a->driver, b->nr, b->owner, b->driver);
			return false;
		}
	}
	return true;
}

/* attributes of VFs that stay; VFs made anew; and new ones with all there is */
static const char *const texts[] = {
	"[pf a]\nnumvfs=2\nvlan=9\ntrust=on\n[vf 1]\nmax_rate=50\n[pf b]\nnumvfs=1\ndriver=vfio-pci\n",
	"[pf a]\nnumvfs=3\ndriver=igbvf\nlink=off\n[vf 0]\nmac=02:00:00:00:00:01\nmsix=4\n[pf b]\nnumvfs=4\nvlan=3\nqos=1\n",
	"[pf b]\nnumvfs=2\ndriver=vfio-pci\nmsix=3\n[pf a]\nnumvfs=0\n",
	"[pf a]\nnumvfs=2\nmsix=7\ndriver=other\n",
};
#define NR_TEXTS (sizeof(texts) / sizeof(texts[0]))

TEST(applied)
{
	reset_host();
	CHECK_EQ(apply(texts[1]), 0);
	CHECK_EQ(sh->pfs[0].nr, 3);
	CHECK(!strcmp(sh->pfs[0].driver, "igbvf"));
	CHECK_EQ(sh->pfs[0].vfs[0].v[SRIOV_MAC], 0x020000000001);
	CHECK_EQ(sh->pfs[0].vfs[0].v[SRIOV_MSIX], 4);
	CHECK_EQ(sh->pfs[0].vfs[2].v[SRIOV_LINK], 2);
	CHECK_EQ(sh->pfs[1].vfs[3].v[SRIOV_VLAN], 3);
	CHECK_EQ(sh->pfs[1].vfs[3].v[SRIOV_QOS], 1);
	/* what is not said stays: VF 0 keeps its priority, VF 1 its limit */
	reset_host();
	CHECK_EQ(apply("[pf a]\nnumvfs=2\nvlan=6\n"), 0);
	CHECK_EQ(sh->pfs[0].vfs[0].v[SRIOV_QOS], 2);
	CHECK_EQ(sh->pfs[0].vfs[1].v[SRIOV_MAX_RATE], 100);
	CHECK(!strcmp(sh->pfs[0].driver, "vfio-pci"));
	CHECK_EQ(sh->pfs[0].generation, 10);
	/* a VLAN that goes takes it along */
	CHECK_EQ(apply("[pf a]\nnumvfs=2\nvlan=0\n"), 0);
	CHECK_EQ(sh->pfs[0].vfs[0].v[SRIOV_QOS], 0);
	/* vectors are set while nobody drives the VFs, who then get their driver back */
	CHECK_EQ(apply("[pf a]\nnumvfs=2\nmsix=9\n"), 0);
	CHECK_EQ(sh->pfs[0].vfs[1].v[SRIOV_MSIX], 9);
	CHECK(!strcmp(sh->pfs[0].driver, "vfio-pci"));
	/* a driver that is not there is noticed last of all, and undoes all */
	struct shared before = *sh;

	CHECK_EQ(apply("[pf a]\nnumvfs=4\nvlan=1\ndriver=missing\n"), -ENODEV);
	CHECK(same_as(&before));
}

/* Every step fails once: all is as before, and the error says which step it was. */
TEST(failed)
{
	for (size_t t = 0; t < NR_TEXTS; t++)
		for (int at = 0; ; at++) {
			struct shared before;
			char why[32];
			int err;

			reset_host();
			before = *sh;
			sh->fail_at = at;
			err = apply(texts[t]);
			if (!err) {
				CHECK(at >= 4 && sh->steps <= at);
				break;
			}
			snprintf(why, sizeof(why), "step %d fails", at);
			CHECK_EQ(err, -EIO);
			CHECK(strstr(vmplat_last_error(), why));
			CHECK(same_as(&before));
			CHECK_EQ(recover(), 0);
			CHECK(!*heard);
		}
}

static int killed_at(const char *text, int at)
{
	int status;
	pid_t pid;

	fflush(stdout);
	pid = fork();
	if (!pid) {
		sh->kill_at = at;
		/* without the exit's check for leaks: it is a kill */
		_exit(apply(text) ? 1 : 0);
	}
	waitpid(pid, &status, 0);
	sh->kill_at = -1;
	return WEXITSTATUS(status);
}

/* Killed before each step, and the recovery before each of its steps, too. */
TEST(killed)
{
	for (size_t t = 0; t < NR_TEXTS; t++)
		for (int at = 0; ; at++) {
			struct shared before;
			int rc, first;

			reset_host();
			before = *sh;
			rc = killed_at(texts[t], at);
			if (!rc) {
				CHECK(at >= 4);
				break;
			}
			CHECK_EQ(rc, 9);
			first = sh->steps;
			/* an apply of nothing recovers first */
			rc = killed_at("[pf b]\nnumvfs=0\n", first + at % 3);
			CHECK(rc == 9 || rc == 0);
			CHECK_EQ(recover(), 0);
			CHECK(same_as(&before));
			CHECK_EQ(recover(), 0);
			CHECK(!*heard);
		}
}

/* Who made VFs after the kill keeps them. */
TEST(others)
{
	struct shared theirs;

	reset_host();
	CHECK_EQ(killed_at(texts[1], 3), 9);
	born(&sh->pfs[0], 1);
	sh->pfs[0].generation = ++sh->generation;
	memset(sh->pfs[0].id, 7, VMPLAT_ID_BYTES);
	strcpy(sh->pfs[0].owner, "eve");
	theirs = *sh;
	memset(&theirs.pfs[1], 0, sizeof(theirs.pfs[1]));
	CHECK_EQ(recover(), 0);
	CHECK(strstr(heard, "a has VFs of eve now: left alone"));
	CHECK(same_as(&theirs));
}

/* A driver that takes a value and has another. */
TEST(read_back)
{
	struct shared before;

	reset_host();
	before = *sh;
	sh->lies = true;
	CHECK_EQ(apply("[pf b]\nnumvfs=1\nvlan=4\n"), -EIO);
	CHECK(!strcmp(vmplat_last_error(), "b: VF 0: vlan: the driver took 4 without an error, and says it is 5"));
	CHECK(same_as(&before));
}

/* A bit of the first record is flipped: no guess is made of what was meant. */
TEST(journal_damaged)
{
	char path[80];
	FILE *f;

	reset_host();
	CHECK_EQ(apply(texts[0]), 0);
	snprintf(path, sizeof(path), "%s/journal", dir);
	f = fopen(path, "r+");
	REQUIRE(f);
	fseek(f, 12, SEEK_SET);
	fputc('#', f);
	fclose(f);
	CHECK_EQ(apply(texts[0]), -EBADMSG);
	CHECK(strstr(vmplat_last_error(), "damaged"));
	unlink(path);
	CHECK_EQ(recover(), 0);
}

int main(void)
{
	char command[80];

	sh = mmap(NULL, sizeof(*sh), PROT_READ | PROT_WRITE, MAP_SHARED | MAP_ANONYMOUS, -1, 0);
	if (sh == MAP_FAILED || !mkdtemp(dir))
		return 1;
	RUN(file);
	RUN(file_errors);
	RUN(plans);
	RUN(applied);
	RUN(failed);
	RUN(killed);
	RUN(others);
	RUN(read_back);
	RUN(journal_damaged);
	snprintf(command, sizeof(command), "rm -r %s", dir);
	return system(command) || tap_done();
}
