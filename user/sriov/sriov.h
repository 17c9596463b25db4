/* SPDX-License-Identifier: GPL-2.0-only */
/*
 * Virtual functions as a file wants them.
 *
 *	attr.c	what can be set of a VF: names, values as text
 *	file.c	the file, read
 *	plan.c	a wish against what there is: blockers, differences, what to reach
 *	apply.c	reaching it, all or nothing, with a journal
 *	host.c	this host: sysfs, the module, claims
 *	net.c	VF attributes through rtnetlink
 *
 * A state is all of a PF that this room ever changes: VFs, whose they are, their driver and
 * attributes. Going to a state and going back to one that was written down before are the same:
 * what differs between now and then is changed. So rolling back after an error, and after a kill -9,
 * needs no record of how far somebody got.
 *
 * Functions return 0 or -errno and leave a sentence in vmplat_last_error(). Nothing here prints.
 */
#ifndef VMPLAT_SRIOV_SRIOV_H
#define VMPLAT_SRIOV_SRIOV_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>

#include <linux/vmplat.h>

struct json_object;
struct journal;

#define SRIOV_WHY_MAX	400
#define SRIOV_NAME_MAX	128	/* of a PF: address, slot path, serial number, network interface */
#define SRIOV_VFS_MAX	4096	/* of one PF; PCI allows 65535, nothing has them */
#define SRIOV_PFS_MAX	64	/* of one file */
#define SRIOV_DIR	"/var/lib/vmplat/sriov"

/* vmplat_error_set(), but that @err, which is negative, is what it returns */
int sriov_fail(int err, const char *fmt, ...) __attribute__((format(printf, 2, 3)));

/* ---- attr.c ------------------------------------------------------------- */

enum sriov_attr {
	SRIOV_MAC, SRIOV_VLAN, SRIOV_QOS, SRIOV_PROTO, SRIOV_MIN_RATE, SRIOV_MAX_RATE,
	SRIOV_SPOOFCHK, SRIOV_TRUST, SRIOV_LINK, SRIOV_MSIX, SRIOV_NR_ATTRS
};

/* attributes that the kernel takes only together */
enum sriov_group {
	SRIOV_G_MAC, SRIOV_G_VLAN, SRIOV_G_RATE, SRIOV_G_SPOOFCHK, SRIOV_G_TRUST, SRIOV_G_LINK,
	SRIOV_G_MSIX, SRIOV_NR_GROUPS
};

/**
 * struct sriov_values - some attributes of a VF
 * @has: bit n: attribute n is wanted, or known
 * @v: MAC as a 48-bit number; VLAN 0 is none; PROTO an ethertype; rates in Mbit/s, 0 is no limit;
 *	SPOOFCHK, TRUST 0 or 1; LINK 0 auto, 1 on, 2 off
 */
struct sriov_values {
	uint32_t has;
	uint64_t v[SRIOV_NR_ATTRS];
};

const char *sriov_attr_name(enum sriov_attr a);
/* SRIOV_NR_ATTRS if there is none */
enum sriov_attr sriov_attr_find(const char *name);
enum sriov_group sriov_attr_group(enum sriov_attr a);
bool sriov_attr_is_net(enum sriov_attr a);
/* the attributes of a group, as a mask */
uint32_t sriov_group_mask(enum sriov_group g);
/* NULL, or what is wrong with it */
const char *sriov_attr_parse(enum sriov_attr a, const char *text, uint64_t *v);
#define SRIOV_TEXT 24
/* returns @buf */
const char *sriov_attr_text(enum sriov_attr a, uint64_t v, char buf[SRIOV_TEXT]);
struct json_object *sriov_attr_json(enum sriov_attr a, uint64_t v);
/* NULL, or why these cannot be together */
const char *sriov_values_check(const struct sriov_values *v);
/* the attributes of @want that @now does not have so */
uint32_t sriov_values_differ(const struct sriov_values *now, const struct sriov_values *want);

/* ---- the wish (file.c) --------------------------------------------------- */

struct sriov_vf_wish {
	struct sriov_values values;
	unsigned int lines[SRIOV_NR_ATTRS];
};

/** struct sriov_pf_wish - a [pf] section; @driver NULL: not said, "" none */
struct sriov_pf_wish {
	char name[SRIOV_NAME_MAX];
	unsigned int line, numvfs_line, driver_line;
	unsigned int nr_vfs;
	char *driver;
	struct sriov_vf_wish *vfs;
};

struct sriov_wish {
	char *file;
	struct sriov_pf_wish *pfs;
	size_t nr;
};

/** sriov_wish_read - @text of the file called @name; -EINVAL with "NAME:LINE: ..." */
int sriov_wish_read(struct sriov_wish *w, const char *name, const char *text, size_t len);
/** sriov_wish_read_file - the same of a file; "-" is standard input */
int sriov_wish_read_file(struct sriov_wish *w, const char *path);
void sriov_wish_free(struct sriov_wish *w);
/** sriov_parse_list - "0-3,7" below @limit, each told once in order; NULL or what is wrong */
const char *sriov_parse_list(const char *text, unsigned int limit,
			     void (*one)(void *ctx, unsigned int nr), void *ctx);

/* ---- a state ------------------------------------------------------------- */

struct sriov_vf {
	char address[20];		/* "" if it is no PCI function */
	char driver[SRIOV_NAME_MAX];	/* now; "" none */
	struct sriov_values values;
};

/**
 * struct sriov_pf - a PF and its VFs
 * @address: PCI address, or of what is no PCI function the name of its sysfs directory
 * @netdev: its network interface, or ""
 * @generation: of the module's set; 0: there is none, and @id, @owner, @driver are empty
 * @driver: that the VFs shall have
 * @limit: the most VFs it can have
 * @is_pci: VFs are PCI functions, made by the module
 * @why_not: NULL, or why no VFs can be made
 * @nr_msix: vectors for all VFs together; 0: cannot be set
 * @speed: of its link in Mbit/s, 0 if there is none
 */
struct sriov_pf {
	char address[64];
	char netdev[16];
	int ifindex;
	bool is_pci;
	unsigned int limit, nr_vfs, nr_msix, speed;
	char why_not[SRIOV_WHY_MAX];
	uint64_t generation;
	uint8_t id[VMPLAT_ID_BYTES];
	char owner[VMPLAT_SRIOV_OWNER_BYTES];
	char driver[VMPLAT_SRIOV_DRIVER_BYTES];
	struct sriov_vf *vfs;
};

void sriov_pf_free(struct sriov_pf *pf);

/**
 * struct sriov_host - what is asked and told; tests put something of their own in its place
 * @look: the PF that @name means, as it is now; sriov_pf_free() afterwards
 * @load: make sure that there is a driver of that name
 * @in_use: -EBUSY with a sentence if VF @i of @pf is in use or claimed
 * @create: VFs that nobody drives
 * @set: the attributes of one group; all of them are in @v
 */
struct sriov_host {
	void *ctx;
	int (*look)(void *ctx, const char *name, struct sriov_pf *pf);
	int (*load)(void *ctx, const char *driver);
	int (*in_use)(void *ctx, const struct sriov_pf *pf, unsigned int i);
	int (*create)(void *ctx, const struct sriov_pf *pf, unsigned int nr, const char *owner,
		      const uint8_t id[VMPLAT_ID_BYTES]);
	int (*bind)(void *ctx, const struct sriov_pf *pf, const char *driver);
	int (*destroy)(void *ctx, const struct sriov_pf *pf);
	int (*set)(void *ctx, const struct sriov_pf *pf, unsigned int i, enum sriov_group g,
		   const struct sriov_values *v);
};

/* This host (host.c). */
int sriov_host_open(struct sriov_host *host);
void sriov_host_close(struct sriov_host *host);

/* net.c: attributes of all VFs of an interface, and one group of one of them */
struct sriov_net;
int sriov_net_open(struct sriov_net **net);
void sriov_net_close(struct sriov_net *net);
int sriov_net_get(struct sriov_net *net, int ifindex, struct sriov_vf *vfs, unsigned int nr);
int sriov_net_set(struct sriov_net *net, int ifindex, unsigned int i, enum sriov_group g,
		  const struct sriov_values *v);

/* ---- plan.c --------------------------------------------------------------- */

/** struct sriov_goal - what a PF shall become; @vfs: nr_vfs of them */
struct sriov_goal {
	unsigned int nr_vfs;
	bool anew;			/* VFs go and come again, though as many */
	char owner[VMPLAT_SRIOV_OWNER_BYTES];
	char driver[VMPLAT_SRIOV_DRIVER_BYTES];
	struct sriov_values *vfs;
};

enum sriov_says { SRIOV_DIFFERS, SRIOV_BLOCKS };
/*
 * Hears of each difference and blocker. @line: of the file, or 0. @vf: -1 for the PF itself;
 * @key, @now, @want are NULL for blockers.
 */
struct sriov_listener {
	void *ctx;
	void (*said)(void *ctx, enum sriov_says what, const struct sriov_pf *pf, int vf,
		     unsigned int line, const char *key, const char *now, const char *want,
		     const char *sentence);
};

/**
 * sriov_plan - compare, and say what is in the way
 * @goal: what to reach; sriov_goal_free() afterwards
 * @nr_differ, @nr_blocks: how often the listener was called
 */
int sriov_plan(const struct sriov_host *host, const struct sriov_pf *pf,
	       const struct sriov_pf_wish *wish, const char *owner,
	       const struct sriov_listener *listener, struct sriov_goal *goal,
	       unsigned int *nr_differ, unsigned int *nr_blocks);
void sriov_goal_free(struct sriov_goal *goal);

/* ---- apply.c --------------------------------------------------------------- */

struct sriov_work;

/** struct sriov_told - sentences about what was put in order, or could not be */
struct sriov_told {
	void *ctx;
	void (*told)(void *ctx, const char *sentence);
};

/**
 * sriov_work_open - the journal in @dir (NULL: SRIOV_DIR), locked; what was interrupted is undone
 *
 * -EBADMSG: it is damaged.
 */
int sriov_work_open(struct sriov_work **work, const struct sriov_host *host, const char *dir,
		    struct sriov_told told);
void sriov_work_close(struct sriov_work *work);

struct sriov_change {
	const struct sriov_pf *pf;
	const struct sriov_goal *goal;
};

/** sriov_work_apply - all of these changes, or after an error none of them */
int sriov_work_apply(struct sriov_work *work, const struct sriov_change *changes, size_t nr);

#endif
