// SPDX-License-Identifier: GPL-2.0
/*
 * Events: one sequence, the last of them in a ring, and the objects they made.
 *
 * Everything here is one critical section. In it an object is turned into
 * attributes, gets its sequence number, replaces its predecessor in the table
 * and is written to the ring. So the order of events is the order in which the
 * objects were looked at, and the table is at any moment what a reader gets who
 * applies all events: to dump it is to dump the truth as of the newest event.
 *
 * Nothing in it can fail. Ring and scratch buffer are there beforehand, and the
 * table's entries come from whoever adds an object, who may sleep; changes and
 * removals are allowed anywhere.
 *
 * Before vmplat_event_start() there are no events: the sources fill the table
 * from what they find, while their notifiers already run. A removal that comes
 * before the object was found leaves a tombstone, so that it is not found later.
 */
#include <linux/log2.h>
#include <linux/module.h>
#include <linux/random.h>
#include <linux/rbtree.h>
#include <linux/slab.h>
#include <linux/timekeeping.h>
#include <linux/vmalloc.h>
#include <net/netlink.h>

#include "event.h"

#define RECORD_ALIGN	64
#define MIN_RING	SZ_64K
#define MAX_RING	SZ_1G

static unsigned int event_ring_bytes = SZ_1M;
module_param(event_ring_bytes, uint, 0444);
MODULE_PARM_DESC(event_ring_bytes,
		 "memory for past events, 64 KiB to 1 GiB, rounded up to a power of two (1 MiB)");

struct entry {
	struct rb_node rb;
	u64 id;
	u64 born;
	kuid_t owner;
	u8 class;
	bool dead;			/* tombstone */
	u16 bytes;
	u8 object[];
};

/* All of it, and the content of ring and entries: lock. */
static struct {
	spinlock_t lock;
	struct rb_root table;		/* by class and id */
	struct sk_buff *scratch;

	u8 *ring;
	u32 *where;			/* offset in @ring, by sequence number */
	u32 ring_bytes;
	u32 nr_where;			/* more than records can be in @ring */
	u64 head, tail;			/* bytes ever written, and dropped */
	u64 newest, oldest;		/* in the ring if oldest <= newest */
	u64 class_seq[VMPLAT_CLASS_MAX + 1];

	bool started;
	u64 epoch;			/* constant */
	struct workqueue_struct *wq;	/* constant */
	struct work_struct *listener;
} ev = {
	.lock = __SPIN_LOCK_UNLOCKED(ev.lock),
	.oldest = 1,
};

u64 vmplat_event_new_id(void)
{
	static atomic64_t last = ATOMIC64_INIT(0);

	return atomic64_inc_return(&last);
}

/* ---- table ----------------------------------------------------------------- */

static int compare(u8 class, u64 id, const struct entry *entry)
{
	if (class != entry->class)
		return class < entry->class ? -1 : 1;
	return id < entry->id ? -1 : id > entry->id;
}

/* The first entry at or behind (class, id). */
static struct entry *find_from(u8 class, u64 id)
{
	struct rb_node *at = ev.table.rb_node;
	struct entry *best = NULL;

	lockdep_assert_held(&ev.lock);
	while (at) {
		struct entry *entry = rb_entry(at, struct entry, rb);

		if (compare(class, id, entry) <= 0) {
			best = entry;
			at = at->rb_left;
		} else {
			at = at->rb_right;
		}
	}
	return best;
}

static struct entry *find(u8 class, u64 id)
{
	struct entry *entry = find_from(class, id);

	return entry && !compare(class, id, entry) ? entry : NULL;
}

/* Not a tombstone. */
static struct entry *find_live(u8 class, u64 id)
{
	struct entry *entry = find(class, id);

	return entry && !entry->dead ? entry : NULL;
}

static void insert(struct entry *new)
{
	struct rb_node **at = &ev.table.rb_node, *parent = NULL;

	while (*at) {
		parent = *at;
		at = compare(new->class, new->id,
			     rb_entry(parent, struct entry, rb)) < 0 ?
		     &parent->rb_left : &parent->rb_right;
	}
	rb_link_node(&new->rb, parent, at);
	rb_insert_color(&new->rb, &ev.table);
}

/*
 * Small, and there is nobody to tell: a notifier cannot refuse what happened. Whoever
 * makes memories, logs or VMs pays for it in their memory cgroup.
 */
static struct entry *alloc_entry(const struct vmplat_event_class *c, u64 id,
			       kuid_t owner)
{
	struct entry *entry = kzalloc(struct_size(entry, object, c->max_bytes),
				    GFP_KERNEL_ACCOUNT | __GFP_NOFAIL);

	entry->class = c->class;
	entry->id = id;
	entry->owner = owner;
	return entry;
}

/* Put @obj into @entry. Returns whether that made a difference. */
static bool describe(struct entry *entry, const struct vmplat_event_class *c,
		     const void *obj)
{
	struct nlattr *nest;

	skb_trim(ev.scratch, 0);
	nest = nla_nest_start(ev.scratch, c->nest);
	if (WARN_ON_ONCE(c->put(ev.scratch, obj)))
		return false;
	nla_nest_end(ev.scratch, nest);
	if (WARN_ON_ONCE(ev.scratch->len > c->max_bytes))
		return false;
	if (entry->bytes == ev.scratch->len &&
	    !memcmp(entry->object, ev.scratch->data, entry->bytes))
		return false;
	entry->bytes = ev.scratch->len;
	memcpy(entry->object, ev.scratch->data, entry->bytes);
	return true;
}

/* ---- ring ------------------------------------------------------------------ */

static struct vmplat_event_record *record_at(u64 seq)
{
	return (void *)ev.ring + ev.where[seq & (ev.nr_where - 1)];
}

static u32 record_bytes(u16 object_bytes)
{
	return round_up(sizeof(struct vmplat_event_record) + object_bytes,
			RECORD_ALIGN);
}

static void drop_oldest(void)
{
	ev.oldest++;
	/* What lay unused before the wrap goes with the record in front of it. */
	if (ev.oldest > ev.newest)
		ev.tail = ev.head;
	else
		ev.tail += (ev.where[ev.oldest & (ev.nr_where - 1)] - ev.tail) &
			   (ev.ring_bytes - 1);
}

/* Room for the next record, in one piece; records in its place are dropped. */
static struct vmplat_event_record *make_room(u16 object_bytes)
{
	u32 need = record_bytes(object_bytes);
	u32 at = ev.head & (ev.ring_bytes - 1);
	u32 skip = at + need > ev.ring_bytes ? ev.ring_bytes - at : 0;

	while (ev.oldest <= ev.newest &&
	       ev.head + skip + need - ev.tail > ev.ring_bytes)
		drop_oldest();
	if (ev.oldest > ev.newest)	/* nothing is left to run into */
		ev.tail = ev.head + skip;
	ev.head += skip;
	at = ev.head & (ev.ring_bytes - 1);
	ev.head += need;
	ev.newest++;
	ev.where[ev.newest & (ev.nr_where - 1)] = at;
	return record_at(ev.newest);
}

static void set_cause(struct vmplat_event_record *rec)
{
	rec->pid = 0;
	memset(rec->comm, 0, sizeof(rec->comm));
	if (!in_task() || current->flags & PF_KTHREAD)
		return;
	rec->pid = task_tgid_nr(current);
	strscpy(rec->comm, current->comm, sizeof(rec->comm));
}

static void record(struct entry *entry, enum vmplat_action action, bool gone)
{
	struct vmplat_event_record *rec;

	lockdep_assert_held(&ev.lock);
	if (!ev.started)
		return;
	rec = make_room(entry->bytes);
	rec->seq = ev.newest;
	rec->class_seq = ++ev.class_seq[entry->class];
	rec->id = entry->id;
	rec->born = entry->born;
	rec->time_ns = ktime_get_boottime_ns();
	rec->owner = entry->owner;
	rec->bytes = entry->bytes;
	rec->class = entry->class;
	rec->action = action;
	rec->gone = gone;
	set_cause(rec);
	memcpy(rec->object, entry->object, entry->bytes);
	if (ev.listener)
		queue_work(ev.wq, ev.listener);
}

/* ---- for sources -------------------------------------------------------------- */

/**
 * vmplat_event_found - an object that was there before us
 * @c: its class
 * @id: its identity in the class
 * @obj: for c->put
 *
 * May sleep. Only before vmplat_event_start(). Does nothing if the object has been
 * added, or removed, meanwhile.
 */
void vmplat_event_found(const struct vmplat_event_class *c, u64 id,
			const void *obj)
{
	struct entry *new = alloc_entry(c, id, INVALID_UID);
	unsigned long flags;

	spin_lock_irqsave(&ev.lock, flags);
	if (!find(c->class, id)) {
		describe(new, c, obj);
		insert(new);
		new = NULL;
	}
	spin_unlock_irqrestore(&ev.lock, flags);
	kfree(new);
}

/**
 * vmplat_event_add - a new object
 * @c: its class
 * @id: its identity in the class
 * @owner: whom it belongs to, or INVALID_UID
 * @action: why
 * @obj: for c->put
 *
 * May sleep. An object of the same identity that nobody removed is replaced.
 */
void vmplat_event_add(const struct vmplat_event_class *c, u64 id, kuid_t owner,
		      enum vmplat_action action, const void *obj)
{
	struct entry *new = alloc_entry(c, id, owner), *old;
	unsigned long flags;

	spin_lock_irqsave(&ev.lock, flags);
	old = find(c->class, id);
	if (old)
		rb_erase(&old->rb, &ev.table);
	describe(new, c, obj);
	new->born = ev.started ? ev.newest + 1 : 0;
	insert(new);
	record(new, action, false);
	spin_unlock_irqrestore(&ev.lock, flags);
	kfree(old);
}

/**
 * vmplat_event_change - something of an object is different now
 * @c: its class
 * @id: its identity in the class
 * @action: what happened
 * @obj: for c->put
 *
 * In any context. No event if the object is unknown or says the same as before.
 */
void vmplat_event_change(const struct vmplat_event_class *c, u64 id,
			 enum vmplat_action action, const void *obj)
{
	unsigned long flags;
	struct entry *entry;

	spin_lock_irqsave(&ev.lock, flags);
	entry = find_live(c->class, id);
	if (entry && describe(entry, c, obj))
		record(entry, action, false);
	spin_unlock_irqrestore(&ev.lock, flags);
}

static void bury(const struct vmplat_event_class *c, u64 id)
{
	struct entry *new = alloc_entry(c, id, INVALID_UID);
	unsigned long flags;

	new->dead = true;
	spin_lock_irqsave(&ev.lock, flags);
	if (!ev.started && !find(c->class, id)) {
		insert(new);
		new = NULL;
	}
	spin_unlock_irqrestore(&ev.lock, flags);
	kfree(new);
}

/**
 * vmplat_event_remove - an object is gone
 * @c: its class
 * @id: its identity in the class
 * @action: why
 *
 * In any context once events have started. No event if the object is unknown.
 */
void vmplat_event_remove(const struct vmplat_event_class *c, u64 id,
			 enum vmplat_action action)
{
	bool started = READ_ONCE(ev.started);
	unsigned long flags;
	struct entry *entry;

	spin_lock_irqsave(&ev.lock, flags);
	entry = find(c->class, id);
	if (entry) {
		rb_erase(&entry->rb, &ev.table);
		if (!entry->dead)
			record(entry, action, true);
	}
	spin_unlock_irqrestore(&ev.lock, flags);
	kfree(entry);
	if (!started)
		bury(c, id);
}

/* ---- for readers -------------------------------------------------------------- */

/**
 * vmplat_event_copy - an event from the ring
 * @seq: which; not newer than the newest
 * @rec: VMPLAT_EVENT_RECORD_BYTES
 *
 * Returns the sequence number of what was copied: @seq, or a greater one when the ring
 * no longer has it; 0 if there is nothing.
 */
u64 vmplat_event_copy(u64 seq, struct vmplat_event_record *rec)
{
	const struct vmplat_event_record *from;
	unsigned long flags;

	spin_lock_irqsave(&ev.lock, flags);
	seq = max(seq, ev.oldest);
	if (seq <= ev.newest) {
		from = record_at(seq);
		memcpy(rec, from, sizeof(*from) + from->bytes);
	} else {
		seq = 0;
	}
	spin_unlock_irqrestore(&ev.lock, flags);
	return seq;
}

static void copy_entry(struct vmplat_event_record *rec, const struct entry *entry)
{
	memset(rec, 0, sizeof(*rec));
	rec->class = entry->class;
	rec->id = entry->id;
	rec->born = entry->born;
	rec->owner = entry->owner;
	rec->bytes = entry->bytes;
	memcpy(rec->object, entry->object, entry->bytes);
}

bool vmplat_event_exists(u8 class, u64 id)
{
	unsigned long flags;
	bool exists;

	spin_lock_irqsave(&ev.lock, flags);
	exists = find_live(class, id);
	spin_unlock_irqrestore(&ev.lock, flags);
	return exists;
}

/* vmplat_event_object - copy one object; false if there is none */
bool vmplat_event_object(u8 class, u64 id, struct vmplat_event_record *rec)
{
	unsigned long flags;
	struct entry *entry;

	spin_lock_irqsave(&ev.lock, flags);
	entry = find_live(class, id);
	if (entry)
		copy_entry(rec, entry);
	spin_unlock_irqrestore(&ev.lock, flags);
	return entry;
}

/* vmplat_event_next_object - copy the first object from (class, id) on */
bool vmplat_event_next_object(u8 class, u64 id, struct vmplat_event_record *rec)
{
	unsigned long flags;
	struct entry *entry;

	spin_lock_irqsave(&ev.lock, flags);
	entry = find_from(class, id);
	if (entry)	/* once there are readers, there are no tombstones */
		copy_entry(rec, entry);
	spin_unlock_irqrestore(&ev.lock, flags);
	return entry;
}

void vmplat_event_query(struct vmplat_event_info *info)
{
	unsigned long flags;

	spin_lock_irqsave(&ev.lock, flags);
	info->epoch = ev.epoch;
	info->newest = ev.newest;
	info->oldest = ev.oldest;
	info->ring_bytes = ev.ring_bytes;
	spin_unlock_irqrestore(&ev.lock, flags);
}

/* vmplat_event_generation - differs after any event of one of @classes */
u64 vmplat_event_generation(u32 classes)
{
	unsigned long flags;
	u64 sum = 0;
	int i;

	spin_lock_irqsave(&ev.lock, flags);
	for (i = 1; i <= VMPLAT_CLASS_MAX; i++)
		if (classes & BIT(i))
			sum += ev.class_seq[i];
	spin_unlock_irqrestore(&ev.lock, flags);
	return sum;
}

/* ---- life ------------------------------------------------------------------------ */

static void sweep_tombstones(void)
{
	struct entry *entry, *next;

	for (entry = find_from(0, 0); entry; entry = next) {
		struct rb_node *rb = rb_next(&entry->rb);

		next = rb ? rb_entry(rb, struct entry, rb) : NULL;
		if (entry->dead) {
			rb_erase(&entry->rb, &ev.table);
			kfree(entry);
		}
	}
}

/**
 * vmplat_event_start - from now on, what changes is an event
 * @listener: queued after each; looks with vmplat_event_copy()
 */
void vmplat_event_start(struct work_struct *listener)
{
	unsigned long flags;

	spin_lock_irqsave(&ev.lock, flags);
	sweep_tombstones();
	ev.listener = listener;
	WRITE_ONCE(ev.started, true);
	spin_unlock_irqrestore(&ev.lock, flags);
}

/* vmplat_event_stop - the listener is not running and will not be queued again */
void vmplat_event_stop(void)
{
	struct work_struct *listener = ev.listener;
	unsigned long flags;

	spin_lock_irqsave(&ev.lock, flags);
	ev.listener = NULL;
	spin_unlock_irqrestore(&ev.lock, flags);
	if (listener)
		cancel_work_sync(listener);
}

/* vmplat_event_kick - queue the listener though nothing has happened */
void vmplat_event_kick(void)
{
	unsigned long flags;

	spin_lock_irqsave(&ev.lock, flags);
	if (ev.listener)
		queue_work(ev.wq, ev.listener);
	spin_unlock_irqrestore(&ev.lock, flags);
}

int vmplat_event_init(void)
{
	BUILD_BUG_ON(VMPLAT_EVENT_OBJECT_BYTES + sizeof(struct vmplat_event_record) >
		     MIN_RING / 4);
	ev.ring_bytes = roundup_pow_of_two(clamp_t(u32, event_ring_bytes, MIN_RING,
						   MAX_RING));
	event_ring_bytes = ev.ring_bytes;
	ev.nr_where = ev.ring_bytes / RECORD_ALIGN;
	ev.epoch = get_random_u64() ?: 1;
	ev.scratch = alloc_skb(VMPLAT_EVENT_OBJECT_BYTES + NLA_HDRLEN, GFP_KERNEL);
	ev.ring = vzalloc(ev.ring_bytes);
	ev.where = vcalloc(ev.nr_where, sizeof(*ev.where));
	ev.wq = alloc_ordered_workqueue("vmplat_events", WQ_HIGHPRI);
	if (ev.scratch && ev.ring && ev.where && ev.wq)
		return 0;
	vmplat_event_exit();
	return -ENOMEM;
}

void vmplat_event_exit(void)
{
	struct entry *entry, *next;

	if (ev.wq)
		destroy_workqueue(ev.wq);
	rbtree_postorder_for_each_entry_safe(entry, next, &ev.table, rb)
		kfree(entry);
	ev.table = RB_ROOT;
	vfree(ev.where);
	vfree(ev.ring);
	kfree_skb(ev.scratch);
}
