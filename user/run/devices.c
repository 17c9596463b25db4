// SPDX-License-Identifier: GPL-2.0-only
#include "devices.h"

#include <errno.h>
#include <json-c/json.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/eventfd.h>

#include "hotplug.h"
#include "net.h"
#include "vfio.h"
#include "virtio_blk.h"
#include "virtio_net.h"
#include "virtio_pci.h"
#include "vm_priv.h"

#define PAUSED_MS	1000	/* look again: nobody says that the VM goes on */

enum plug_kind { PLUG_BLK, PLUG_NET, PLUG_MEMORY, PLUG_PCI, NR_PLUG_KINDS };
enum plug_state { PRESENT, ADDING, WITHDRAWING, REMOVING, GONE };

struct plug {
	struct plug *next;
	char id[VM_ID_MAX + 1];
	enum plug_kind kind;
	unsigned int unit;		/* of the hot-plug controller */
	struct virtio_dev *virtio;	/* NULL: memory, devices of the host */
	struct blk *blk;		/* disks */
	struct vfio_dev *vfio;		/* devices of the host */
	bool reclaimed;			/* by the host, which is told what comes of it */
	bool force;			/* it goes even if the guest does not give it up */

	enum plug_state state;
	bool ejected;			/* by the guest; seen, not yet acted on */
	int64_t timeout_ms, left_ms;	/* as asked for; of the present state */
	uint64_t counted_ms;		/* when left_ms was right */

	void *waiter;			/* NULL: nobody */
	bool decided;
	int err;
	char why[300];
};

static const char *const kinds[] = {
	[PLUG_BLK] = "blk", [PLUG_NET] = "net", [PLUG_MEMORY] = "memory",
	[PLUG_PCI] = "pci",
};

static const char *const states[] = {
	[PRESENT] = "present", [ADDING] = "adding", [WITHDRAWING] = "withdrawing",
	[REMOVING] = "removing", [GONE] = "gone",
};

static uint64_t now_ms(void)
{
	return vmplat_now_ns() / 1000000;
}

/* ---- the list ------------------------------------------------------------------ */

static struct plug *find(struct vm *vm, const char *id)
{
	for (struct plug *p = vm->plugs; p; p = p->next)
		if (p->state != GONE && !strcmp(p->id, id))
			return p;
	return NULL;
}

static void append(struct vm *vm, struct plug *plug)
{
	struct plug **p = &vm->plugs;

	while (*p)
		p = &(*p)->next;
	*p = plug;
}

static struct plug *plug_new(enum plug_kind kind, const char *id)
{
	struct plug *p = calloc(1, sizeof(*p));

	if (!p)
		return NULL;
	p->kind = kind;
	snprintf(p->id, sizeof(p->id), "%s", id);
	return p;
}

struct blk *devices_blk(struct vm *vm, const char *id)
{
	struct plug *p = find(vm, id);

	return p ? p->blk : NULL;
}

static struct json_object *config_json(struct vm *vm, const struct plug *p)
{
	switch (p->kind) {
	case PLUG_BLK:
		return vm_disk_to_json(vm_config_disk(&vm->cfg, p->id));
	case PLUG_NET:
		return vm_net_to_json(vm_config_net(&vm->cfg, p->id));
	case PLUG_PCI:
		return vm_hostdev_to_json(vm_config_hostdev(&vm->cfg, p->id));
	default:
		return vm_dimm_to_json(vm_config_dimm(&vm->cfg, p->id));
	}
}

/* what can be said of a device of the host while it is plugged in */
static void vfio_json(struct json_object *o, const struct plug *p)
{
	json_object_object_add(o, "driver", json_object_new_boolean(vfio_driven(p->vfio)));
	json_object_object_add(o, "address", json_object_new_string(vfio_address(p->vfio)));
	json_object_object_add(o, "resets", json_object_new_boolean(vfio_resets(p->vfio)));
}

static struct json_object *plug_json(struct vm *vm, const struct plug *p)
{
	struct json_object *o = json_object_new_object(), *cfg = config_json(vm, p);

	json_object_object_add(o, "id", json_object_new_string(p->id));
	json_object_object_add(o, "type", json_object_new_string(kinds[p->kind]));
	json_object_object_add(o, "state", json_object_new_string(states[p->state]));
	if (p->virtio)
		json_object_object_add(o, "driver",
				       json_object_new_boolean(virtio_driver_ok(p->virtio)));
	if (p->vfio)
		vfio_json(o, p);
	json_object_object_foreach(cfg, key, v)
		if (strcmp(key, "name"))
			json_object_object_add(o, key, json_object_get(v));
	json_object_put(cfg);
	return o;
}

static void list_one(struct vm *vm, struct json_object *list, enum plug_kind kind, const char *id)
{
	struct plug p = { .kind = kind, .state = PRESENT };

	snprintf(p.id, sizeof(p.id), "%s", id);
	json_object_array_add(list, plug_json(vm, &p));
}

/* QEMU's devices are as they were configured, and stay so. */
static void list_configured(struct vm *vm, struct json_object *list)
{
	for (unsigned int i = 0; i < vm->cfg.nr_disks; i++)
		list_one(vm, list, PLUG_BLK, vm->cfg.disks[i].id);
	for (unsigned int i = 0; i < vm->cfg.nr_nets; i++)
		list_one(vm, list, PLUG_NET, vm->cfg.nets[i].id);
}

struct json_object *devices_list(struct vm *vm)
{
	struct json_object *list = json_object_new_array();

	pthread_mutex_lock(&vm->op);
	if (vm->qemu)
		list_configured(vm, list);
	for (struct plug *p = vm->plugs; p; p = p->next)
		if (p->state != GONE)
			json_object_array_add(list, plug_json(vm, p));
	pthread_mutex_unlock(&vm->op);
	return list;
}

/* ---- into the slot, and out of it ------------------------------------------------ */

/* What a device needs besides its configuration; handed over when it is plugged. */
struct ends {
	struct blk *blk;
	struct net *net;
	struct vfio_dev *vfio;
};

static void ends_close(struct ends *e)
{
	blk_close(e->blk);
	net_close(e->net);
	vfio_close(e->vfio);
	*e = (struct ends){ 0 };
}

static int open_disk(struct vm *vm, const struct vm_disk *d, struct ends *e)
{
	char why[300] = "";
	int ret = blk_open(d->path, d->readonly ? BLK_OPEN_READONLY : 0, &e->blk, why, sizeof(why));

	return ret ? vm_error(vm, ret, "disk %s: %s", d->path, *why ? why : strerror(-ret)) : 0;
}

static int open_net(struct vm *vm, const struct vm_net *n, struct ends *e)
{
	char why[300] = "";
	int ret = net_open(n, &e->net, why, sizeof(why));

	return ret ? vm_error(vm, ret, "network: %s", *why ? why : strerror(-ret)) : 0;
}

static int plug_failed(struct vm *vm, const struct plug *p, int ret)
{
	return vm_error(vm, ret, "%s: no virtio-%s device: %s", p->id, kinds[p->kind],
			ret == -ENOSPC ? "all PCI slots are taken" : strerror(-ret));
}

static int plug_disk(struct vm *vm, struct plug *p, struct ends *e)
{
	struct vm_disk *d = vm_config_disk(&vm->cfg, p->id);
	char serial[48];
	int ret;

	snprintf(serial, sizeof(serial), "vmplat-%s", d->id);
	ret = virtio_blk_add(vm, vm->pci, d->slot, e->blk, serial, &p->virtio);
	if (ret)
		return plug_failed(vm, p, ret);
	p->blk = e->blk;
	e->blk = NULL;
	p->unit = d->slot = p->virtio->pci.slot;
	return 0;
}

static int plug_net(struct vm *vm, struct plug *p, struct ends *e)
{
	struct vm_net *n = vm_config_net(&vm->cfg, p->id);
	int ret = virtio_net_add(vm, vm->pci, n->slot, e->net, n->mac, &p->virtio);

	if (ret)
		return plug_failed(vm, p, ret);
	e->net = NULL;
	p->unit = n->slot = p->virtio->pci.slot;
	return 0;
}

static int plug_pci(struct vm *vm, struct plug *p, struct ends *e)
{
	struct vm_hostdev *d = vm_config_hostdev(&vm->cfg, p->id);
	int ret = vfio_plug(e->vfio, vm->pci, d->slot);

	if (ret)
		return ret;
	p->vfio = e->vfio;
	e->vfio = NULL;
	p->unit = d->slot = vfio_slot(p->vfio);
	return 0;
}

static int plug_memory(struct vm *vm, struct plug *p)
{
	struct vm_dimm *d = vm_config_dimm(&vm->cfg, p->id);
	int ret = mem_plug(vm, d);

	if (ret)
		return ret;
	hotplug_memory(vm->hotplug, d->slot, d->gpa, d->bytes);
	p->unit = HOTPLUG_UNIT_MEM + d->slot;
	return 0;
}

/* Makes the configured device @id; what it uses of @e is its own then. */
static int plug(struct vm *vm, enum plug_kind kind, const char *id, struct ends *e,
		struct plug **out)
{
	struct plug *p = plug_new(kind, id);
	int ret;

	if (!p)
		return vm_error(vm, -ENOMEM, "out of memory");
	ret = kind == PLUG_BLK ? plug_disk(vm, p, e) :
	      kind == PLUG_NET ? plug_net(vm, p, e) :
	      kind == PLUG_PCI ? plug_pci(vm, p, e) : plug_memory(vm, p);
	if (ret) {
		free(p);
		return ret;
	}
	append(vm, p);
	if (out)
		*out = p;
	return 0;
}

/* VM halted; vfio_close() is to follow, when it may take its time */
static void unplug(struct vm *vm, struct plug *p)
{
	if (p->virtio)
		vm_device_remove(vm, &p->virtio->entry);
	p->virtio = NULL;
	if (p->vfio)
		vm_device_remove(vm, vfio_entry(p->vfio));
	blk_close(p->blk);
	p->blk = NULL;
	if (p->kind == PLUG_MEMORY) {
		hotplug_memory(vm->hotplug, p->unit - HOTPLUG_UNIT_MEM, 0, 0);
		mem_unplug(vm, p->unit - HOTPLUG_UNIT_MEM);
	}
	hotplug_cancel(vm->hotplug, p->unit);
	vm_config_remove(&vm->cfg, p->id);
	p->state = GONE;
	p->ejected = false;
}

static void unplug_running(struct vm *vm, struct plug *p)
{
	bool running = vm_status(vm) == VM_RUNNING;

	if (running)
		vm_halt(vm);
	unplug(vm, p);
	if (running)
		vm_unhalt(vm);
	vfio_close(p->vfio);
	p->vfio = NULL;
}

/* ---- life of the VM --------------------------------------------------------------- */

int devices_init(struct vm *vm)
{
	struct vm_config *c = &vm->cfg;
	struct ends e = { 0 };
	int ret = 0;

	for (unsigned int i = 0; i < c->nr_disks && !ret; i++) {
		ret = open_disk(vm, &c->disks[i], &e);
		if (!ret)
			ret = plug(vm, PLUG_BLK, c->disks[i].id, &e, NULL);
	}
	for (unsigned int i = 0; i < c->nr_nets && !ret; i++) {
		ret = open_net(vm, &c->nets[i], &e);
		if (!ret)
			ret = plug(vm, PLUG_NET, c->nets[i].id, &e, NULL);
	}
	for (unsigned int i = 0; i < c->nr_hostdevs && !ret; i++) {
		ret = vfio_open(vm, &c->hostdevs[i], &e.vfio);
		if (!ret)
			ret = plug(vm, PLUG_PCI, c->hostdevs[i].id, &e, NULL);
	}
	for (unsigned int i = 0; i < c->nr_dimms && !ret; i++)
		ret = plug(vm, PLUG_MEMORY, c->dimms[i].id, &e, NULL);
	ends_close(&e);
	return ret;
}

void devices_exit(struct vm *vm)
{
	while (vm->plugs) {
		struct plug *p = vm->plugs;

		vm->plugs = p->next;
		blk_close(p->blk);
		vfio_close(p->vfio);
		free(p);
	}
}

/* ---- decisions -------------------------------------------------------------------- */

static bool pending(const struct plug *p)
{
	return p->state == ADDING || p->state == WITHDRAWING || p->state == REMOVING;
}

/* @fmt NULL: all is well */
__attribute__((format(printf, 4, 5)))
static void decide(struct plug *p, enum plug_state state, int err, const char *fmt, ...)
{
	va_list ap;

	p->state = state;
	p->decided = p->waiter;
	p->err = err;
	p->why[0] = 0;
	if (!fmt)
		return;
	va_start(ap, fmt);
	vsnprintf(p->why, sizeof(p->why), fmt, ap);
	va_end(ap);
}

static void set_state(struct plug *p, enum plug_state state)
{
	p->state = state;
	p->left_ms = p->timeout_ms;
	p->counted_ms = now_ms();
}

static const char *status_text(int status, char buf[64])
{
	snprintf(buf, 64, "%s (_OST status 0x%02x)",
		 status == HOTPLUG_OST_BUSY ? "it is in use" :
		 status == HOTPLUG_OST_UNSUPPORTED ? "it does not know how" : "it failed", status);
	return buf;
}

static const char *seconds(int64_t ms, char buf[32])
{
	snprintf(buf, 32, "%g s", (double)ms / 1000);
	return buf;
}

/* Take an add back: at once if the guest knows nothing of it, else by asking. */
static void withdraw(struct vm *vm, struct plug *p, int err, const char *why)
{
	bool unseen = hotplug_cancel(vm->hotplug, p->unit);

	snprintf(p->why, sizeof(p->why), "%s", why);
	p->err = err;
	if (unseen) {
		unplug_running(vm, p);
		decide(p, GONE, err, "%s; it was taken out again", why);
		return;
	}
	hotplug_want(vm->hotplug, p->unit);
	set_state(p, WITHDRAWING);
}

static void step_adding(struct vm *vm, struct plug *p)
{
	int status = hotplug_answer(vm->hotplug, p->unit, HOTPLUG_EVENT_CHECK);
	char text[200], num[64];

	/* Whether a driver wants a device of the host is the guest's business: it has found it. */
	if (p->virtio ? virtio_driver_ok(p->virtio) : status == HOTPLUG_OST_SUCCESS) {
		decide(p, PRESENT, 0, NULL);
	} else if (status > 0) {
		snprintf(text, sizeof(text), "the guest does not take %s: %s", p->id,
			 status_text(status, num));
		withdraw(vm, p, -EIO, text);
	} else if (p->left_ms <= 0) {
		snprintf(text, sizeof(text), "the guest did not take %s within %s: %s", p->id,
			 seconds(p->timeout_ms, num),
			 p->virtio ? "has it booted, and the driver?" : "has it booted?");
		withdraw(vm, p, -ETIMEDOUT, text);
	}
}

/* Nothing can use memory whose place was never asked for, or a device without a driver. */
static bool surely_unused(struct vm *vm, const struct plug *p)
{
	if (p->virtio)
		return !virtio_driver_ok(p->virtio);
	if (p->vfio)
		return !vfio_driven(p->vfio);
	return !hotplug_described(vm->hotplug, p->unit - HOTPLUG_UNIT_MEM);
}

static void step_withdrawing(struct vm *vm, struct plug *p)
{
	int status = hotplug_answer(vm->hotplug, p->unit, HOTPLUG_EVENT_EJECT);
	bool refused = status > 0 && status != HOTPLUG_OST_PENDING;
	char why[sizeof(p->why)];

	if (!refused && p->left_ms > 0)
		return;
	memcpy(why, p->why, sizeof(why));
	hotplug_cancel(vm->hotplug, p->unit);
	if (surely_unused(vm, p)) {
		unplug_running(vm, p);
		decide(p, GONE, p->err, "%.200s; it was taken out again", why);
	} else if (p->kind != PLUG_MEMORY) {
		decide(p, PRESENT, 0, NULL);	/* late, but it took it */
	} else {
		decide(p, PRESENT, p->err, "%.200s; it knows of that memory and does not give it back either, so it stays",
		       why);
	}
}

/* The guest keeps it: that is the end of it, unless it is taken all the same. */
__attribute__((format(printf, 4, 5)))
static void kept(struct vm *vm, struct plug *p, int err, const char *fmt, ...)
{
	bool pulled = p->vfio && vfio_gone(p->vfio);
	char why[sizeof(p->why)];
	va_list ap;

	va_start(ap, fmt);
	vsnprintf(why, sizeof(why), fmt, ap);
	va_end(ap);
	if (p->force || pulled) {
		unplug_running(vm, p);
		decide(p, GONE, 0, NULL);
		vm_notice(vm, "%.200s; it was taken from it, %s", why,
			  pulled ? "being gone from the host" : "by force");
		return;
	}
	decide(p, PRESENT, err, "%.200s; it is still there", why);
	if (p->reclaimed)
		vm_notice(vm, "the host wants %s back, and %s", p->id, p->why);
}

static void step_removing(struct vm *vm, struct plug *p)
{
	int status = hotplug_answer(vm->hotplug, p->unit, HOTPLUG_EVENT_EJECT);
	char text[64];

	if (status > 0 && status != HOTPLUG_OST_PENDING) {
		kept(vm, p, -EBUSY, "the guest does not give %s up: %s%s", p->id,
		     status_text(status, text), p->kind != PLUG_MEMORY ? "" :
		     " (memory can be taken back if the guest onlined it as movable: memhp_default_state=online_movable)");
	} else if (p->left_ms <= 0) {
		bool unseen = hotplug_cancel(vm->hotplug, p->unit);

		kept(vm, p, -ETIMEDOUT, "the guest did not give %s up within %s%s", p->id,
		     seconds(p->timeout_ms, text),
		     unseen ? "" : " (should it let go of it later, it goes)");
	}
}

static void gone(struct vm *vm, struct plug *p)
{
	enum plug_state was = p->state;
	char why[sizeof(p->why)];

	memcpy(why, p->why, sizeof(why));
	unplug_running(vm, p);
	switch (was) {
	case REMOVING:
		decide(p, GONE, 0, NULL);
		if (p->reclaimed)
			vm_notice(vm, "%s is the host's again, which asked for it", p->id);
		break;
	case WITHDRAWING:
		decide(p, GONE, p->err, "%.200s; it was taken out again", why);
		break;
	case ADDING:
		decide(p, GONE, -ECANCELED, "the guest ejected %s", p->id);
		break;
	default:
		vm_notice(vm, "the guest ejected %s", p->id);
	}
}

static void count_time(struct plug *p, bool running)
{
	uint64_t now = now_ms();

	if (running)
		p->left_ms -= (int64_t)(now - p->counted_ms);
	p->counted_ms = now;
}

/* The kernel asks again while it waits, so that what comes at a bad time is not lost. */
static void reclaim(struct vm *vm, struct plug *p)
{
	if (!vfio_wanted(p->vfio))
		return;
	p->reclaimed = true;
	p->timeout_ms = DEVICES_TIMEOUT_MS;
	set_state(p, REMOVING);
	hotplug_want(vm->hotplug, p->unit);
}

static void step(struct vm *vm, struct plug *p, bool running)
{
	count_time(p, running);
	p->ejected |= hotplug_ejected(vm->hotplug, p->unit);
	if (p->ejected)
		gone(vm, p);
	else if (p->state == ADDING)
		step_adding(vm, p);
	else if (p->state == WITHDRAWING)
		step_withdrawing(vm, p);
	else if (p->state == REMOVING)
		step_removing(vm, p);
	else if (p->vfio && running)
		reclaim(vm, p);
}

/* The guest forgets everything, and finds at boot what is in its slots then. */
void devices_reset(struct vm *vm)
{
	for (struct plug *p = vm->plugs; p; p = p->next) {
		if (p->state == GONE)
			continue;
		p->ejected |= hotplug_ejected(vm->hotplug, p->unit);
		if (p->state == WITHDRAWING) {
			unplug(vm, p);
			decide(p, GONE, -ECANCELED, "the VM was reset; %s was taken out again", p->id);
		} else if (p->state == REMOVING || p->ejected) {
			unplug(vm, p);
			decide(p, GONE, 0, NULL);
		} else if (p->state == ADDING && (p->kind == PLUG_MEMORY || p->kind == PLUG_PCI)) {
			decide(p, PRESENT, 0, NULL);
		}
		if (p->state == GONE) {
			vfio_close(p->vfio);
			p->vfio = NULL;
		}
	}
	vm_device_changed(vm);
}

/* ---- time ----------------------------------------------------------------------------- */

int devices_timeout_ms(struct vm *vm)
{
	bool running = vm_status(vm) == VM_RUNNING;
	uint64_t now = now_ms();
	int64_t least = -1;

	pthread_mutex_lock(&vm->op);
	for (struct plug *p = vm->plugs; p; p = p->next) {
		int64_t left = p->left_ms - (int64_t)(now - p->counted_ms);

		if (!pending(p))
			continue;
		if (left < 0)
			left = 0;
		if (least < 0 || left < least)
			least = left;
	}
	pthread_mutex_unlock(&vm->op);
	return least < 0 ? -1 : running ? (int)least : PAUSED_MS;
}

/* The first that is decided, or gone, as a copy with its device described; false: none */
static bool take_decided(struct vm *vm, struct plug *out, struct json_object **device)
{
	struct plug **p = &vm->plugs, *found;

	pthread_mutex_lock(&vm->op);
	while (*p && !(*p)->decided && (*p)->state != GONE)
		p = &(*p)->next;
	found = *p;
	if (found) {
		*out = *found;
		*device = found->state == GONE ? NULL : plug_json(vm, found);
		found->decided = false;
		found->waiter = NULL;
		if (found->state == GONE) {
			*p = found->next;
			free(found);
		}
	}
	pthread_mutex_unlock(&vm->op);
	return found;
}

void devices_poll(struct vm *vm,
		  void (*done)(void *waiter, int err, const char *why, struct json_object *device))
{
	struct json_object *device;
	struct plug p;
	eventfd_t n;
	bool running;

	if (eventfd_read(vm->changed_fd, &n))
		n = 0;		/* the time was over, or somebody else looked */
	pthread_mutex_lock(&vm->op);
	running = vm_status(vm) == VM_RUNNING;
	for (struct plug *q = vm->plugs; q; q = q->next)
		if (q->state != GONE)
			step(vm, q, running);
	pthread_mutex_unlock(&vm->op);
	while (take_decided(vm, &p, &device)) {
		if (p.decided)
			done(p.waiter, p.err, p.why, device);
		json_object_put(device);
	}
}

void devices_forget(struct vm *vm, void *waiter)
{
	pthread_mutex_lock(&vm->op);
	for (struct plug *p = vm->plugs; p; p = p->next)
		if (p->waiter == waiter)
			p->waiter = NULL;
	pthread_mutex_unlock(&vm->op);
}

int devices_settled(struct vm *vm)
{
	for (struct plug *p = vm->plugs; p; p = p->next) {
		p->ejected |= p->state != GONE && hotplug_ejected(vm->hotplug, p->unit);
		if (pending(p) || p->ejected)
			return vm_error(vm, -EBUSY, "device %s is on its way %s; wait for it (`vmplat vm device list` shows it)",
					p->id, p->state == ADDING && !p->ejected ? "in" : "out");
	}
	return 0;
}

/* ---- requests ------------------------------------------------------------------------- */

struct wish {
	enum plug_kind kind;
	struct vm_disk disk;
	struct vm_net net;
	struct vm_dimm dimm;
	struct vm_hostdev hostdev;
	struct ends ends;
	int64_t timeout_ms;
};

static const char *wish_id(const struct wish *w)
{
	return w->kind == PLUG_BLK ? w->disk.id : w->kind == PLUG_NET ? w->net.id :
	       w->kind == PLUG_PCI ? w->hostdev.id : w->dimm.id;
}

static void wish_free(struct wish *w)
{
	free(w->disk.path);
	free(w->net.where);
	vm_hostdev_free(&w->hostdev);
	ends_close(&w->ends);
}

static int get_timeout(struct vm *vm, struct json_object *req, int64_t *ms)
{
	struct json_object *v;

	*ms = DEVICES_TIMEOUT_MS;
	if (!json_object_object_get_ex(req, "timeout_ms", &v))
		return 0;
	*ms = json_object_get_int64(v);
	if (*ms < 1 || *ms > DEVICES_TIMEOUT_MAX_MS)
		return vm_error(vm, -EINVAL, "a time-out of %lld ms: must be 1 to %d",
				(long long)*ms, DEVICES_TIMEOUT_MAX_MS);
	return 0;
}

static int wish_parse(struct vm *vm, struct json_object *req, struct wish *w)
{
	struct json_object *o = NULL, *v;
	const char *type = "", *why;
	int k = 0, ret;

	if (json_object_object_get_ex(req, "type", &v))
		type = json_object_get_string(v);
	while (k < NR_PLUG_KINDS && strcmp(type, kinds[k]))
		k++;
	if (k == NR_PLUG_KINDS)
		return vm_error(vm, -EINVAL, "a device is of type blk, net, memory or pci, not '%.40s'", type);
	if (!json_object_object_get_ex(req, "device", &o) || !json_object_is_type(o, json_type_object))
		return vm_error(vm, -EINVAL, "the request has no \"device\"");
	w->kind = (enum plug_kind)k;
	why = k == PLUG_BLK ? vm_disk_from_json(&w->disk, o) :
	      k == PLUG_NET ? vm_net_from_json(&w->net, o) :
	      k == PLUG_PCI ? vm_hostdev_from_json(&w->hostdev, o) : vm_dimm_from_json(&w->dimm, o);
	ret = why ? vm_error(vm, -EINVAL, "%s", why) : get_timeout(vm, req, &w->timeout_ms);
	/* where things go is decided here */
	w->disk.slot = w->net.slot = w->hostdev.slot = w->dimm.slot = 0;
	w->dimm.gpa = 0;
	return ret;
}

static bool same_text(const char *a, const char *b)
{
	return !a || !b ? a == b : !strcmp(a, b);
}

static bool same_device(struct vm *vm, const struct wish *w, const struct plug *p)
{
	static const uint8_t no_mac[6];
	const struct vm_disk *d = vm_config_disk(&vm->cfg, p->id);
	const struct vm_net *n = vm_config_net(&vm->cfg, p->id);
	const struct vm_hostdev *h = vm_config_hostdev(&vm->cfg, p->id);
	const struct vm_dimm *m = vm_config_dimm(&vm->cfg, p->id);

	if (w->kind != p->kind)
		return false;
	switch (w->kind) {
	case PLUG_BLK:
		return !strcmp(d->path, w->disk.path) && d->readonly == w->disk.readonly;
	case PLUG_NET:
		return n->kind == w->net.kind && same_text(n->where, w->net.where) &&
		       (!memcmp(w->net.mac, no_mac, 6) || !memcmp(w->net.mac, n->mac, 6));
	case PLUG_PCI:
		return !strcmp(h->host, w->hostdev.host);
	default:
		return m->bytes == w->dimm.bytes;
	}
}

static int busy(struct vm *vm, const struct plug *p)
{
	return vm_error(vm, -EBUSY, "%s is %s; wait until that is decided", p->id, states[p->state]);
}

/* 1: there is no such device; 0: there is, the same; -errno */
static int look_for(struct vm *vm, const struct wish *w, struct json_object *reply)
{
	struct plug *p = *wish_id(w) ? find(vm, wish_id(w)) : NULL;

	if (!p)
		return 1;
	if (pending(p))
		return busy(vm, p);
	if (!same_device(vm, w, p))
		return vm_error(vm, -EEXIST, "there is a device %s already, and it is another", p->id);
	json_object_object_add(reply, "device", plug_json(vm, p));
	return 0;
}

static unsigned int free_dimm_slot(const struct vm *vm)
{
	unsigned int n = 0;

	while (n < VM_DIMMS_MAX && vm->dimms[n].bytes)
		n++;
	return n;
}

/* Into the configuration; the id it got there, NULL after vm_error(). */
static const char *configure(struct vm *vm, struct wish *w)
{
	struct vm_config *c = &vm->cfg;
	const char *why;

	switch (w->kind) {
	case PLUG_BLK:
		why = vm_config_add_disk(c, &w->disk);
		if (!why)
			return c->disks[c->nr_disks - 1].id;
		break;
	case PLUG_NET:
		why = vm_config_add_net(c, &w->net);
		if (!why)
			return c->nets[c->nr_nets - 1].id;
		break;
	case PLUG_PCI:
		why = vm_config_add_hostdev(c, &w->hostdev);
		if (!why)
			return c->hostdevs[c->nr_hostdevs - 1].id;
		break;
	default:
		w->dimm.slot = free_dimm_slot(vm);
		w->dimm.gpa = mem_place(vm, w->dimm.bytes);
		why = vm_config_add_dimm(c, &w->dimm);
		if (!why)
			return c->dimms[c->nr_dimms - 1].id;
	}
	vm_error(vm, -EINVAL, "%s", why);
	return NULL;
}

/* Frozen memory cannot be pinned, nor pinned memory frozen: that is settled when it is made. */
static int open_pci(struct vm *vm, const char *id, struct ends *e)
{
	if (vm->mem && !vm->cfg.pinnable)
		return vm_error(vm, -EOPNOTSUPP, "this VM's memory can be frozen for snapshots, and so cannot be given to devices; start it with --pinnable, or with the --device itself");
	return vfio_open(vm, vm_config_hostdev(&vm->cfg, id), &e->vfio);
}

static int plug_halted(struct vm *vm, struct wish *w, const char *id, struct plug **p)
{
	int ret;

	vm_halt(vm);
	ret = plug(vm, w->kind, id, &w->ends, p);
	if (!ret)
		hotplug_tell(vm->hotplug, (*p)->unit);
	vm_unhalt(vm);
	return ret;
}

/* operation lock held, the VM runs */
static int add_locked(struct vm *vm, struct wish *w, void *waiter)
{
	const char *id = configure(vm, w);
	struct plug *p;
	int ret;

	if (!id)
		return -EINVAL;
	/* pins all memory: not while the guest stands, nor while memory comes and goes */
	ret = w->kind == PLUG_PCI ? open_pci(vm, id, &w->ends) : 0;
	if (!ret)
		ret = plug_halted(vm, w, id, &p);
	if (ret) {
		char copy[VM_ID_MAX + 1];

		vfio_close(w->ends.vfio);	/* under the lock */
		w->ends.vfio = NULL;
		snprintf(copy, sizeof(copy), "%s", id);
		vm_config_remove(&vm->cfg, copy);
		return ret;
	}
	p->timeout_ms = w->timeout_ms;
	p->waiter = waiter;
	set_state(p, ADDING);
	return -EINPROGRESS;
}

/* QEMU's devices are those it was started with. */
static int no_hotplug(struct vm *vm)
{
	return vm->qemu ? vm_error(vm, -EOPNOTSUPP, "QEMU runs this VM: devices cannot be plugged or unplugged; say them when it is started")
			: 0;
}

int devices_add(struct vm *vm, struct json_object *req, void *waiter, struct json_object *reply)
{
	struct wish w = { 0 };
	int ret = no_hotplug(vm) ?: wish_parse(vm, req, &w);

	pthread_mutex_lock(&vm->op);
	if (!ret)
		ret = look_for(vm, &w, reply);
	if (ret > 0)
		ret = vm_admit(vm, VM_CMD_DEVICE_ADD) ?: 1;
	pthread_mutex_unlock(&vm->op);
	/* may take its time, and concerns nobody else */
	if (ret > 0 && w.kind == PLUG_BLK)
		ret = open_disk(vm, &w.disk, &w.ends) ?: 1;
	else if (ret > 0 && w.kind == PLUG_NET)
		ret = open_net(vm, &w.net, &w.ends) ?: 1;
	if (ret > 0) {
		pthread_mutex_lock(&vm->op);
		ret = vm_admit(vm, VM_CMD_DEVICE_ADD);
		if (!ret)
			ret = add_locked(vm, &w, waiter);
		pthread_mutex_unlock(&vm->op);
	}
	wish_free(&w);
	return ret;
}

/* Pulling it out is what a bus knows how to do; taking memory or a disk's cable is another matter. */
static int check_force(struct vm *vm, const struct plug *p)
{
	return p->kind == PLUG_PCI ? 0 : vm_error(vm, -EINVAL, "%s is no device of the host: only such can be taken by force",
						   p->id);
}

static int remove_locked(struct vm *vm, const char *id, int64_t timeout_ms, bool force, void *waiter)
{
	struct plug *p = find(vm, id);

	if (!p)
		return vm_error(vm, -ENOENT, "there is no device '%.40s'", id);
	if (pending(p))
		return busy(vm, p);
	if (force && check_force(vm, p))
		return -EINVAL;
	p->timeout_ms = timeout_ms;
	p->waiter = waiter;
	p->force = force;
	p->reclaimed = false;
	set_state(p, REMOVING);
	hotplug_want(vm->hotplug, p->unit);
	return -EINPROGRESS;
}

int devices_remove(struct vm *vm, struct json_object *req, void *waiter)
{
	struct json_object *v, *f;
	int64_t timeout_ms;
	bool force;
	int ret;

	force = json_object_object_get_ex(req, "force", &f) && json_object_get_boolean(f);
	if (!json_object_object_get_ex(req, "id", &v) || !json_object_is_type(v, json_type_string))
		return vm_error(vm, -EINVAL, "the request has no \"id\"");
	ret = no_hotplug(vm) ?: get_timeout(vm, req, &timeout_ms);
	if (ret)
		return ret;
	pthread_mutex_lock(&vm->op);
	ret = vm_admit(vm, VM_CMD_DEVICE_REMOVE);
	if (!ret)
		ret = remove_locked(vm, json_object_get_string(v), timeout_ms, force, waiter);
	pthread_mutex_unlock(&vm->op);
	return ret;
}
