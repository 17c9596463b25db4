// SPDX-License-Identifier: GPL-2.0
/*
 * The generic netlink family: events out, questions answered. What each message
 * means is specified in Documentation/netlink/specs/vmplat.yaml.
 *
 * One worker sends what is in the ring, in order: to the multicast group of the
 * class, and to each socket whose filter matches, by unicast and with a count of its own in
 * nlmsg_seq. Whatever keeps an event from a reader is said to that reader:
 *
 *  - its receive buffer is full: netlink makes its next recvmsg() ENOBUFS;
 *  - there is no memory for the message: the same for the group, and for a filter
 *    an overrun message as soon as there is memory;
 *  - the worker was slower than the ring: as if there were no memory.
 *
 * What is said here is in the ring already, so a reader that asks for what it
 * missed after it was told gets it.
 */
#include <linux/capability.h>
#include <linux/file.h>
#include <linux/list.h>
#include <linux/mutex.h>
#include <linux/slab.h>
#include <linux/workqueue.h>
#include <net/genetlink.h>
#include <net/sock.h>

#include "event.h"
#include "vmplat.h"

#define HARDWARE_CLASSES	(BIT(VMPLAT_CLASS_PCI) | BIT(VMPLAT_CLASS_VF) |	\
				 BIT(VMPLAT_CLASS_CPU) |			\
				 BIT(VMPLAT_CLASS_MEMORY) |			\
				 BIT(VMPLAT_CLASS_NET))
#define GUEST_CLASSES		(BIT(VMPLAT_CLASS_MEM) | BIT(VMPLAT_CLASS_LOG) |	\
				 BIT(VMPLAT_CLASS_VIEW) |			\
				 BIT(VMPLAT_CLASS_DOMAIN) |			\
				 BIT(VMPLAT_CLASS_VM))
#define ALL_CLASSES		(HARDWARE_CLASSES | GUEST_CLASSES)

/* How long to wait for memory for a message that says that there was none. */
#define RETRY			(HZ / 20)

static struct genl_family family;

struct filter {
	u32 classes;
	u64 id;
	kuid_t owner;
	bool by_id;
	bool by_owner;
};

static bool matches(const struct filter *f, const struct vmplat_event_record *rec)
{
	return f->classes & BIT(rec->class) &&
	       (!f->by_id || f->id == rec->id) &&
	       (!f->by_owner || uid_eq(f->owner, rec->owner));
}

/* A socket that has set a filter. It is held as a VM holds its own, source_vm.c. */
struct subscriber {
	struct list_head link;
	struct sock *sk;
	u32 portid;
	struct filter filter;
	u64 from;			/* events up to here were before its time */
	u32 count;			/* messages it has got or lost */
	u64 lost_first, lost_last;	/* to be told; 0 if nothing */
};

static LIST_HEAD(subscribers);
static DEFINE_MUTEX(subscribers_lock);	/* @subscribers and what is in them */

/* ---- messages ---------------------------------------------------------------- */

static int put_u64(struct sk_buff *skb, int type, u64 value)
{
	return nla_put_u64_64bit(skb, type, value, VMPLAT_NL_A_PAD);
}

static int put_position(struct sk_buff *skb, u64 epoch, u64 seq)
{
	if (put_u64(skb, VMPLAT_NL_A_EPOCH, epoch) ||
	    put_u64(skb, VMPLAT_NL_A_SEQ, seq))
		return -EMSGSIZE;
	return 0;
}

static int put_object(struct sk_buff *skb, const struct vmplat_event_record *rec)
{
	if (nla_put_u32(skb, VMPLAT_NL_A_CLASS, rec->class) ||
	    put_u64(skb, VMPLAT_NL_A_ID, rec->id) ||
	    put_u64(skb, VMPLAT_NL_A_BORN, rec->born))
		return -EMSGSIZE;
	if (uid_valid(rec->owner) &&
	    nla_put_u32(skb, VMPLAT_NL_A_OWNER,
			from_kuid_munged(&init_user_ns, rec->owner)))
		return -EMSGSIZE;
	return nla_append(skb, rec->bytes, rec->object);
}

static int put_event(struct sk_buff *skb, const struct vmplat_event_record *rec,
		     u64 epoch)
{
	if (put_position(skb, epoch, rec->seq) ||
	    put_u64(skb, VMPLAT_NL_A_CLASS_SEQ, rec->class_seq) ||
	    nla_put_u32(skb, VMPLAT_NL_A_ACTION, rec->action) ||
	    put_u64(skb, VMPLAT_NL_A_TIME, rec->time_ns))
		return -EMSGSIZE;
	if (rec->gone && nla_put_flag(skb, VMPLAT_NL_A_GONE))
		return -EMSGSIZE;
	if (rec->pid && (nla_put_u32(skb, VMPLAT_NL_A_PID, rec->pid) ||
			 nla_put_string(skb, VMPLAT_NL_A_COMM, rec->comm)))
		return -EMSGSIZE;
	return put_object(skb, rec);
}

static int put_overrun(struct sk_buff *skb, u64 epoch, u64 newest, u64 first,
		       u64 last)
{
	struct nlattr *nest;

	if (put_position(skb, epoch, newest))
		return -EMSGSIZE;
	nest = nla_nest_start(skb, VMPLAT_NL_A_OVERRUN);
	if (!nest ||
	    nla_put_u64_64bit(skb, VMPLAT_NL_OVERRUN_FIRST, first,
			      VMPLAT_NL_OVERRUN_PAD) ||
	    nla_put_u64_64bit(skb, VMPLAT_NL_OVERRUN_LAST, last,
			      VMPLAT_NL_OVERRUN_PAD))
		return -EMSGSIZE;
	nla_nest_end(skb, nest);
	return 0;
}

/* What all but the object of a message takes, generously. */
#define MESSAGE_BYTES	256

static u64 epoch(void)
{
	struct vmplat_event_info info;

	vmplat_event_query(&info);
	return info.epoch;
}

/* ---- sending ----------------------------------------------------------------- */

static struct sk_buff *new_message(void **head, size_t bytes)
{
	struct sk_buff *skb = genlmsg_new(bytes, GFP_KERNEL);

	if (!skb)
		return NULL;
	*head = genlmsg_put(skb, 0, 0, &family, 0, VMPLAT_NL_CMD_EVENT_NTF);
	return skb;
}

static struct sk_buff *event_message(const struct vmplat_event_record *rec)
{
	void *head;
	struct sk_buff *skb = new_message(&head, MESSAGE_BYTES + rec->bytes);

	if (!skb)
		return NULL;
	if (WARN_ON_ONCE(put_event(skb, rec, epoch()))) {
		kfree_skb(skb);
		return NULL;
	}
	genlmsg_end(skb, head);
	return skb;
}

static void unicast(struct subscriber *sub, struct sk_buff *skb)
{
	nlmsg_hdr(skb)->nlmsg_seq = ++sub->count;
	/* A full receive buffer is ENOBUFS to its owner. */
	netlink_unicast(init_net.genl_sock, skb, sub->portid, MSG_DONTWAIT);
}

static void lose(struct subscriber *sub, u64 first, u64 last)
{
	sub->count++;
	if (!sub->lost_first)
		sub->lost_first = first;
	sub->lost_last = last;
}

/* Tell what could not be sent. False: there is still no memory for it. */
static bool tell_lost(struct subscriber *sub)
{
	struct sk_buff *skb;
	void *head;

	if (!sub->lost_first)
		return true;
	skb = new_message(&head, MESSAGE_BYTES);
	if (!skb)
		return false;
	if (!WARN_ON_ONCE(put_overrun(skb, epoch(), sub->lost_last,
				      sub->lost_first, sub->lost_last))) {
		genlmsg_end(skb, head);
		unicast(sub, skb);
	} else {
		kfree_skb(skb);
	}
	sub->lost_first = 0;
	return true;
}

static void send_to_group(const struct vmplat_event_record *rec,
			  struct sk_buff *skb)
{
	unsigned int group = rec->class - 1;

	/* A copy that cannot be made, or delivered, is ENOBUFS to that reader. */
	if (skb)
		genlmsg_multicast_netns(&family, &init_net, skb, 0, group,
					GFP_KERNEL);
	else
		genl_set_err(&family, &init_net, 0, group, -ENOBUFS);
}

static void send_to_subscriber(struct subscriber *sub,
			       const struct vmplat_event_record *rec,
			       const struct sk_buff *skb)
{
	struct sk_buff *copy = NULL;

	if (rec->seq <= sub->from || !matches(&sub->filter, rec))
		return;
	/* In order: what was lost comes before what follows. */
	if (skb && tell_lost(sub))
		copy = skb_copy(skb, GFP_KERNEL);
	if (copy)
		unicast(sub, copy);
	else
		lose(sub, rec->seq, rec->seq);
}

static bool anybody_wants(const struct vmplat_event_record *rec)
{
	struct subscriber *sub;

	if (genl_has_listeners(&family, &init_net, rec->class - 1))
		return true;
	list_for_each_entry(sub, &subscribers, link)
		if (matches(&sub->filter, rec))
			return true;
	return false;
}

static void send_event(const struct vmplat_event_record *rec)
{
	struct subscriber *sub;
	struct sk_buff *skb;

	lockdep_assert_held(&subscribers_lock);
	if (!anybody_wants(rec))
		return;
	skb = event_message(rec);
	list_for_each_entry(sub, &subscribers, link)
		send_to_subscriber(sub, rec, skb);
	send_to_group(rec, skb);	/* and frees it */
}

/* Events that were overwritten before they were sent; of what class, who knows. */
static void lose_for_all(u64 first, u64 last)
{
	struct subscriber *sub;
	unsigned int group;

	list_for_each_entry(sub, &subscribers, link)
		if (last > sub->from)
			lose(sub, first, last);
	for (group = 0; group < VMPLAT_CLASS_MAX; group++)
		genl_set_err(&family, &init_net, 0, group, -ENOBUFS);
}

static void send_work(struct work_struct *work);
static DECLARE_WORK(sender, send_work);
static struct vmplat_event_record *sending;	/* the worker's */
static u64 next_seq = 1;			/* the worker's */

static void retry_later(struct work_struct *work)
{
	vmplat_event_kick();
}
static DECLARE_DELAYED_WORK(retry, retry_later);

static void send_work(struct work_struct *work)
{
	struct subscriber *sub;
	bool told = true;
	u64 seq;

	for (;;) {
		seq = vmplat_event_copy(next_seq, sending);
		if (!seq)
			break;
		mutex_lock(&subscribers_lock);
		if (seq > next_seq)
			lose_for_all(next_seq, seq - 1);
		send_event(sending);
		mutex_unlock(&subscribers_lock);
		next_seq = seq + 1;
		cond_resched();
	}
	mutex_lock(&subscribers_lock);
	list_for_each_entry(sub, &subscribers, link)
		told &= tell_lost(sub);
	mutex_unlock(&subscribers_lock);
	if (!told)
		schedule_delayed_work(&retry, RETRY);
}

/* ---- who may what ---------------------------------------------------------------- */

/* Is the descriptor one of /dev/vmplat? Called in the task that sent the message. */
static int check_device_fd(int fd, struct netlink_ext_ack *extack)
{
	struct file *file = fget(fd);
	bool good;

	if (!file) {
		NL_SET_ERR_MSG(extack, "device-fd is not an open file");
		return -EBADF;
	}
	good = vmplat_is_device(file);
	fput(file);
	if (good)
		return 0;
	NL_SET_ERR_MSG(extack, "device-fd is not a file of /dev/vmplat");
	return -EMEDIUMTYPE;
}

/* 1 if the sender may know of virtual machines, 0 if not, or an error. */
static int sees_guests(struct sk_buff *skb, struct nlattr **attrs,
		       struct netlink_ext_ack *extack)
{
	int err;

	if (attrs[VMPLAT_NL_A_DEVICE_FD]) {
		err = check_device_fd(nla_get_s32(attrs[VMPLAT_NL_A_DEVICE_FD]),
				      extack);
		return err ?: 1;
	}
	return netlink_capable(skb, CAP_NET_ADMIN);
}

static int deny_guests(struct netlink_ext_ack *extack)
{
	NL_SET_ERR_MSG(extack, "classes mem, log, view, domain and vm need device-fd or CAP_NET_ADMIN");
	return -EPERM;
}

static int read_filter(struct sk_buff *skb, struct nlattr **attrs,
		       struct filter *f, struct netlink_ext_ack *extack)
{
	int guests = sees_guests(skb, attrs, extack);

	if (guests < 0)
		return guests;
	f->classes = guests ? ALL_CLASSES : HARDWARE_CLASSES;
	if (attrs[VMPLAT_NL_A_CLASSES]) {
		f->classes = nla_get_u32(attrs[VMPLAT_NL_A_CLASSES]);
		if (f->classes & GUEST_CLASSES && !guests)
			return deny_guests(extack);
	}
	if (attrs[VMPLAT_NL_A_ID]) {
		f->by_id = true;
		f->id = nla_get_u64(attrs[VMPLAT_NL_A_ID]);
	}
	if (attrs[VMPLAT_NL_A_OWNER]) {
		f->by_owner = true;
		f->owner = make_kuid(&init_user_ns,
				     nla_get_u32(attrs[VMPLAT_NL_A_OWNER]));
		if (!uid_valid(f->owner)) {
			NL_SET_ERR_MSG_ATTR(extack, attrs[VMPLAT_NL_A_OWNER],
					    "owner is no user");
			return -EINVAL;
		}
	}
	return 0;
}

#define missing(extack, what)						\
({									\
	NL_SET_ERR_MSG(extack, what " is missing");			\
	-EINVAL;							\
})

#define misplaced(extack, attr, what)					\
({									\
	NL_SET_ERR_MSG_ATTR(extack, attr, what);			\
	-EINVAL;							\
})

/* ---- answers ------------------------------------------------------------------------ */

static struct sk_buff *new_reply(struct genl_info *info, u8 cmd, void **head)
{
	struct sk_buff *skb = genlmsg_new(MESSAGE_BYTES + VMPLAT_EVENT_OBJECT_BYTES,
					  GFP_KERNEL);

	if (!skb)
		return NULL;
	*head = genlmsg_put_reply(skb, info, &family, 0, cmd);
	return skb;
}

static int reply(struct sk_buff *skb, void *head, struct genl_info *info, int err)
{
	if (WARN_ON_ONCE(err)) {	/* it was allocated large enough */
		kfree_skb(skb);
		return err;
	}
	genlmsg_end(skb, head);
	return genlmsg_reply(skb, info);
}

static int info_get(struct sk_buff *request, struct genl_info *ginfo)
{
	struct vmplat_event_info info;
	struct sk_buff *skb;
	void *head;
	int err;

	skb = new_reply(ginfo, VMPLAT_NL_CMD_INFO_GET, &head);
	if (!skb)
		return -ENOMEM;
	vmplat_event_query(&info);
	err = put_position(skb, info.epoch, info.newest) ?:
	      put_u64(skb, VMPLAT_NL_A_OLDEST, info.oldest) ?:
	      nla_put_u32(skb, VMPLAT_NL_A_CAPACITY, info.ring_bytes);
	return reply(skb, head, ginfo, err);
}

static int reply_object(struct genl_info *ginfo, u8 cmd, u8 class, u64 id)
{
	struct vmplat_event_info info;
	struct vmplat_event_record *rec;
	struct sk_buff *skb;
	void *head;
	int err = -ENOMEM;

	rec = kmalloc(VMPLAT_EVENT_RECORD_BYTES, GFP_KERNEL);
	if (!rec)
		return -ENOMEM;
	skb = new_reply(ginfo, cmd, &head);
	if (!skb)
		goto free_rec;
	/* First the position: what the object says is no older. */
	vmplat_event_query(&info);
	if (vmplat_event_object(class, id, rec)) {
		err = put_position(skb, info.epoch, info.newest) ?:
		      put_object(skb, rec);
		err = reply(skb, head, ginfo, err);
	} else {
		NL_SET_ERR_MSG(ginfo->extack, "no such object");
		kfree_skb(skb);
		err = -ENOENT;
	}
free_rec:
	kfree(rec);
	return err;
}

static int object_get(struct sk_buff *request, struct genl_info *info)
{
	u8 class;
	int guests;

	if (info->attrs[VMPLAT_NL_A_CLASSES])
		return misplaced(info->extack, info->attrs[VMPLAT_NL_A_CLASSES],
				 "classes is for dumps; use class");
	if (info->attrs[VMPLAT_NL_A_OWNER])
		return misplaced(info->extack, info->attrs[VMPLAT_NL_A_OWNER],
				 "owner is for dumps");
	if (!info->attrs[VMPLAT_NL_A_CLASS])
		return missing(info->extack, "class");
	if (!info->attrs[VMPLAT_NL_A_ID])
		return missing(info->extack, "id");
	class = nla_get_u32(info->attrs[VMPLAT_NL_A_CLASS]);
	guests = sees_guests(request, info->attrs, info->extack);
	if (guests < 0)
		return guests;
	if (BIT(class) & GUEST_CLASSES && !guests)
		return deny_guests(info->extack);
	return reply_object(info, VMPLAT_NL_CMD_OBJECT_GET, class,
			    nla_get_u64(info->attrs[VMPLAT_NL_A_ID]));
}

/* ---- dumps ---------------------------------------------------------------------------- */

/* Where a dump stands, from one call for a buffer full to the next. */
struct dump {
	struct filter filter;
	u64 epoch;
	bool begun;			/* the first message is out */
	u64 newest;			/* when it began */
	u64 next_seq;
	u8 next_class;
	u64 next_id;
	struct vmplat_event_record rec;
};

static struct dump *dump_of(struct netlink_callback *cb)
{
	return (struct dump *)cb->args[0];
}

static int dump_begin(struct netlink_callback *cb, struct nlattr **attrs)
{
	struct dump *dump = kzalloc(sizeof(*dump) + VMPLAT_EVENT_OBJECT_BYTES,
				    GFP_KERNEL_ACCOUNT);
	struct vmplat_event_info info;
	int err;

	if (!dump)
		return -ENOMEM;
	err = read_filter(cb->skb, attrs, &dump->filter, cb->extack);
	if (err) {
		kfree(dump);
		return err;
	}
	vmplat_event_query(&info);
	dump->epoch = info.epoch;
	dump->newest = info.newest;
	cb->args[0] = (long)dump;
	return 0;
}

static int dump_done(struct netlink_callback *cb)
{
	kfree(dump_of(cb));
	return 0;
}

static void *dump_head(struct sk_buff *skb, struct netlink_callback *cb, u8 cmd)
{
	void *head = genlmsg_put(skb, NETLINK_CB(cb->skb).portid,
				 cb->nlh->nlmsg_seq, &family, NLM_F_MULTI, cmd);

	if (head)
		genl_dump_check_consistent(cb, head);
	return head;
}

static int dump_end(struct sk_buff *skb, void *head, int err)
{
	if (err)
		genlmsg_cancel(skb, head);
	else
		genlmsg_end(skb, head);
	return err;
}

static int dump_position(struct sk_buff *skb, struct netlink_callback *cb, u8 cmd)
{
	struct dump *dump = dump_of(cb);
	void *head;
	int err;

	if (dump->begun)
		return 0;
	head = dump_head(skb, cb, cmd);
	if (!head)
		return -EMSGSIZE;
	err = dump_end(skb, head, put_position(skb, dump->epoch, dump->newest));
	dump->begun = !err;
	return err;
}

static int dump_object(struct sk_buff *skb, struct netlink_callback *cb)
{
	struct dump *dump = dump_of(cb);
	void *head = dump_head(skb, cb, VMPLAT_NL_CMD_OBJECT_GET);

	if (!head)
		return -EMSGSIZE;
	return dump_end(skb, head, put_position(skb, dump->epoch, dump->newest) ?:
				   put_object(skb, &dump->rec));
}

static int object_get_start(struct netlink_callback *cb)
{
	struct nlattr **attrs = vmplat_dump_attrs(cb);

	if (attrs[VMPLAT_NL_A_CLASS])
		return misplaced(cb->extack, attrs[VMPLAT_NL_A_CLASS],
				 "class is for a single object; use classes");
	return dump_begin(cb, attrs);
}

static int object_get_dump(struct sk_buff *skb, struct netlink_callback *cb)
{
	struct dump *dump = dump_of(cb);
	struct vmplat_event_record *rec = &dump->rec;

	/* Never 0: that would mean that consistency is not checked. */
	cb->seq = vmplat_event_generation(dump->filter.classes) * 2 + 1;
	if (dump_position(skb, cb, VMPLAT_NL_CMD_OBJECT_GET))
		return skb->len;
	while (vmplat_event_next_object(dump->next_class, dump->next_id, rec)) {
		if (matches(&dump->filter, rec) && dump_object(skb, cb))
			break;
		dump->next_class = rec->class;
		dump->next_id = rec->id + 1;
		if (!dump->next_id)
			dump->next_class++;
	}
	return skb->len;
}

static int event_get_start(struct netlink_callback *cb)
{
	struct nlattr **attrs = vmplat_dump_attrs(cb);
	u64 since = 0;
	int err;

	err = dump_begin(cb, attrs);
	if (err)
		return err;
	if (attrs[VMPLAT_NL_A_SINCE])
		since = nla_get_u64(attrs[VMPLAT_NL_A_SINCE]);
	if (attrs[VMPLAT_NL_A_EPOCH] &&
	    nla_get_u64(attrs[VMPLAT_NL_A_EPOCH]) != dump_of(cb)->epoch) {
		NL_SET_ERR_MSG_ATTR(cb->extack, attrs[VMPLAT_NL_A_EPOCH],
				    "since is of another epoch; use object-get");
		err = -ESTALE;
	} else if (since > dump_of(cb)->newest) {
		NL_SET_ERR_MSG_ATTR(cb->extack, attrs[VMPLAT_NL_A_SINCE],
				    "since has not happened yet");
		err = -ERANGE;
	}
	if (err)
		dump_done(cb);
	else
		dump_of(cb)->next_seq = since + 1;
	return err;
}

static int dump_event(struct sk_buff *skb, struct netlink_callback *cb)
{
	struct dump *dump = dump_of(cb);
	void *head = dump_head(skb, cb, VMPLAT_NL_CMD_EVENT_GET);

	if (!head)
		return -EMSGSIZE;
	return dump_end(skb, head, put_event(skb, &dump->rec, dump->epoch));
}

static int dump_overrun(struct sk_buff *skb, struct netlink_callback *cb,
			u64 first, u64 last)
{
	u64 epoch = dump_of(cb)->epoch;
	void *head = dump_head(skb, cb, VMPLAT_NL_CMD_EVENT_GET);

	if (!head)
		return -EMSGSIZE;
	return dump_end(skb, head, put_overrun(skb, epoch, last, first, last));
}

static int event_get_dump(struct sk_buff *skb, struct netlink_callback *cb)
{
	struct dump *dump = dump_of(cb);
	int err = 0;
	u64 seq;

	if (dump_position(skb, cb, VMPLAT_NL_CMD_EVENT_GET))
		return skb->len;
	while (dump->next_seq <= dump->newest) {
		seq = vmplat_event_copy(dump->next_seq, &dump->rec);
		if (seq > dump->next_seq) {	/* the ring went past us */
			err = dump_overrun(skb, cb, dump->next_seq, seq - 1);
		} else {
			if (matches(&dump->filter, &dump->rec))
				err = dump_event(skb, cb);
			seq++;
		}
		if (err)	/* the buffer is full: here again with the next one */
			break;
		dump->next_seq = seq;
	}
	return skb->len;
}

/* ---- filters ---------------------------------------------------------------------------- */

static struct subscriber *find_subscriber(const struct sock *sk)
{
	struct subscriber *sub;

	list_for_each_entry(sub, &subscribers, link)
		if (sub->sk == sk)
			return sub;
	return NULL;
}

static void drop_subscriber(struct subscriber *sub)
{
	list_del(&sub->link);
	sock_put(sub->sk);
	kfree(sub);
}

static int filter_set(struct sk_buff *request, struct genl_info *ginfo)
{
	struct sock *sk = NETLINK_CB(request).sk;
	struct vmplat_event_info info;
	struct subscriber *sub, *old;
	struct sk_buff *skb;
	void *head;
	int err;

	if (!ginfo->attrs[VMPLAT_NL_A_CLASSES])
		return missing(ginfo->extack, "classes");
	sub = kzalloc(sizeof(*sub), GFP_KERNEL_ACCOUNT);
	skb = new_reply(ginfo, VMPLAT_NL_CMD_FILTER_SET, &head);
	err = sub && skb ? read_filter(request, ginfo->attrs, &sub->filter,
				       ginfo->extack) : -ENOMEM;
	if (err) {
		kfree(sub);
		kfree_skb(skb);
		return err;
	}
	sock_hold(sk);
	sub->sk = sk;
	sub->portid = ginfo->snd_portid;

	mutex_lock(&subscribers_lock);
	vmplat_event_query(&info);
	sub->from = info.newest;
	old = find_subscriber(sk);
	if (old)
		drop_subscriber(old);
	list_add_tail(&sub->link, &subscribers);
	if (!sub->filter.classes)
		drop_subscriber(sub);
	mutex_unlock(&subscribers_lock);
	return reply(skb, head, ginfo, put_position(skb, info.epoch, info.newest));
}

/* ---- VMs ---------------------------------------------------------------------------------- */

static int read_mems(struct nlattr *nest, struct vmplat_vm_report *report,
		     struct netlink_ext_ack *extack)
{
	struct nlattr *attr;
	int rest;

	nla_for_each_nested(attr, nest, rest) {
		if (nla_type(attr) != VMPLAT_NL_VM_MEM)
			continue;
		report->nr_mems = max(report->nr_mems, 0);
		if (report->nr_mems == VMPLAT_VM_MEMS_MAX) {
			NL_SET_ERR_MSG_ATTR(extack, attr, "too many memories");
			return -E2BIG;
		}
		if (!vmplat_event_exists(VMPLAT_CLASS_MEM, nla_get_u64(attr))) {
			NL_SET_ERR_MSG_ATTR(extack, attr, "no such memory");
			return -ENOENT;
		}
		report->mems[report->nr_mems++] = nla_get_u64(attr);
	}
	return 0;
}

static const struct nla_policy vm_policy[VMPLAT_NL_VM_MAX + 1] = {
	[VMPLAT_NL_VM_NAME] = {
		.type = NLA_NUL_STRING,
		.len = VMPLAT_VM_NAME_MAX,
	},
	[VMPLAT_NL_VM_STATE] = NLA_POLICY_RANGE(NLA_U32, VMPLAT_VM_STATE_STARTING,
						VMPLAT_VM_STATE_MAX),
	[VMPLAT_NL_VM_MEM] = { .type = NLA_U64 },
	[VMPLAT_NL_VM_REASON] = {
		.type = NLA_NUL_STRING,
		.len = VMPLAT_VM_REASON_MAX,
	},
};

static int read_report(struct nlattr *nest, struct vmplat_vm_report *report,
		       struct netlink_ext_ack *extack)
{
	struct nlattr *attrs[VMPLAT_NL_VM_MAX + 1];
	int err;

	err = nla_parse_nested(attrs, VMPLAT_NL_VM_MAX, nest, vm_policy, extack);
	if (err)
		return err;
	if (attrs[VMPLAT_NL_VM_NAME]) {
		report->name = nla_data(attrs[VMPLAT_NL_VM_NAME]);
		if (!*report->name) {
			NL_SET_ERR_MSG_ATTR(extack, attrs[VMPLAT_NL_VM_NAME],
					    "name is empty");
			return -EINVAL;
		}
	}
	if (attrs[VMPLAT_NL_VM_STATE])
		report->state = nla_get_u32(attrs[VMPLAT_NL_VM_STATE]);
	if (attrs[VMPLAT_NL_VM_REASON]) {
		report->reason = nla_data(attrs[VMPLAT_NL_VM_REASON]);
		if (report->state != VMPLAT_VM_STATE_FAILED) {
			NL_SET_ERR_MSG_ATTR(extack, attrs[VMPLAT_NL_VM_REASON],
					    "reason is for state failed");
			return -EINVAL;
		}
	}
	return read_mems(nest, report, extack);
}

static int vm_set(struct sk_buff *request, struct genl_info *info)
{
	struct vmplat_vm_report *report;
	u64 id;
	int err;

	if (!info->attrs[VMPLAT_NL_A_VM])
		return missing(info->extack, "vm");
	if (!info->attrs[VMPLAT_NL_A_DEVICE_FD])
		return missing(info->extack, "device-fd");
	err = check_device_fd(nla_get_s32(info->attrs[VMPLAT_NL_A_DEVICE_FD]),
			      info->extack);
	if (err)
		return err;
	report = kzalloc(sizeof(*report), GFP_KERNEL);
	if (!report)
		return -ENOMEM;
	report->nr_mems = -1;
	err = read_report(info->attrs[VMPLAT_NL_A_VM], report, info->extack);
	if (err)
		goto free;
	err = vmplat_vm_set(NETLINK_CB(request).sk, info->snd_portid, report, &id);
	if (err == -EINVAL)
		NL_SET_ERR_MSG(info->extack, "a new VM needs a name and a state");
free:
	kfree(report);
	return err ?: reply_object(info, VMPLAT_NL_CMD_VM_SET, VMPLAT_CLASS_VM, id);
}

/* ---- family --------------------------------------------------------------------------------- */

static const struct nla_policy object_policy[VMPLAT_NL_A_MAX + 1] = {
	[VMPLAT_NL_A_CLASS] = NLA_POLICY_RANGE(NLA_U32, VMPLAT_CLASS_PCI,
					       VMPLAT_CLASS_MAX),
	[VMPLAT_NL_A_CLASSES] = NLA_POLICY_MASK(NLA_U32, ALL_CLASSES),
	[VMPLAT_NL_A_ID] = { .type = NLA_U64 },
	[VMPLAT_NL_A_OWNER] = { .type = NLA_U32 },
	[VMPLAT_NL_A_DEVICE_FD] = { .type = NLA_S32 },
};

static const struct nla_policy event_policy[VMPLAT_NL_A_MAX + 1] = {
	[VMPLAT_NL_A_SINCE] = { .type = NLA_U64 },
	[VMPLAT_NL_A_EPOCH] = { .type = NLA_U64 },
	[VMPLAT_NL_A_CLASSES] = NLA_POLICY_MASK(NLA_U32, ALL_CLASSES),
	[VMPLAT_NL_A_ID] = { .type = NLA_U64 },
	[VMPLAT_NL_A_OWNER] = { .type = NLA_U32 },
	[VMPLAT_NL_A_DEVICE_FD] = { .type = NLA_S32 },
};

static const struct nla_policy filter_policy[VMPLAT_NL_A_MAX + 1] = {
	[VMPLAT_NL_A_CLASSES] = NLA_POLICY_MASK(NLA_U32, ALL_CLASSES),
	[VMPLAT_NL_A_ID] = { .type = NLA_U64 },
	[VMPLAT_NL_A_OWNER] = { .type = NLA_U32 },
	[VMPLAT_NL_A_DEVICE_FD] = { .type = NLA_S32 },
};

static const struct nla_policy report_policy[VMPLAT_NL_A_MAX + 1] = {
	[VMPLAT_NL_A_DEVICE_FD] = { .type = NLA_S32 },
	[VMPLAT_NL_A_VM] = NLA_POLICY_NESTED(vm_policy),
};

static const struct nla_policy no_policy[VMPLAT_NL_A_MAX + 1] = {};

static const struct genl_ops ops[] = {
	{
		.cmd = VMPLAT_NL_CMD_INFO_GET,
		.doit = info_get,
		.policy = no_policy,
		.maxattr = VMPLAT_NL_A_MAX,
	},
	{
		.cmd = VMPLAT_NL_CMD_OBJECT_GET,
		.doit = object_get,
		.start = object_get_start,
		.dumpit = object_get_dump,
		.done = dump_done,
		.policy = object_policy,
		.maxattr = VMPLAT_NL_A_MAX,
	},
	{
		.cmd = VMPLAT_NL_CMD_EVENT_GET,
		.start = event_get_start,
		.dumpit = event_get_dump,
		.done = dump_done,
		.policy = event_policy,
		.maxattr = VMPLAT_NL_A_MAX,
	},
	{
		.cmd = VMPLAT_NL_CMD_FILTER_SET,
		.doit = filter_set,
		.policy = filter_policy,
		.maxattr = VMPLAT_NL_A_MAX,
	},
	{
		.cmd = VMPLAT_NL_CMD_VM_SET,
		.doit = vm_set,
		.policy = report_policy,
		.maxattr = VMPLAT_NL_A_MAX,
	},
};

/* Group of class c: c - 1. */
static const struct genl_multicast_group groups[] = {
	{ .name = VMPLAT_MCGRP_PCI },
	{ .name = VMPLAT_MCGRP_VF },
	{ .name = VMPLAT_MCGRP_CPU },
	{ .name = VMPLAT_MCGRP_MEMORY },
	{ .name = VMPLAT_MCGRP_NET },
	{ .name = VMPLAT_MCGRP_MEM, .flags = GENL_MCAST_CAP_NET_ADMIN },
	{ .name = VMPLAT_MCGRP_LOG, .flags = GENL_MCAST_CAP_NET_ADMIN },
	{ .name = VMPLAT_MCGRP_VIEW, .flags = GENL_MCAST_CAP_NET_ADMIN },
	{ .name = VMPLAT_MCGRP_DOMAIN, .flags = GENL_MCAST_CAP_NET_ADMIN },
	{ .name = VMPLAT_MCGRP_VM, .flags = GENL_MCAST_CAP_NET_ADMIN },
};

static struct genl_family family __ro_after_init = {
	.name = VMPLAT_FAMILY_NAME,
	.version = VMPLAT_FAMILY_VERSION,
	.module = THIS_MODULE,
	.ops = ops,
	.n_ops = ARRAY_SIZE(ops),
	.resv_start_op = VMPLAT_NL_CMD_INFO_GET,	/* reserved fields are checked */
	.mcgrps = groups,
	.n_mcgrps = ARRAY_SIZE(groups),
};

/* A socket was closed: its filter and its VM go with it. */
static int socket_released(struct notifier_block *nb, unsigned long what, void *data)
{
	const struct netlink_notify *n = data;
	struct subscriber *sub, *next;

	if (what != NETLINK_URELEASE || n->protocol != NETLINK_GENERIC ||
	    !net_eq(n->net, &init_net))
		return NOTIFY_DONE;
	mutex_lock(&subscribers_lock);
	list_for_each_entry_safe(sub, next, &subscribers, link)
		if (sub->portid == n->portid && sock_flag(sub->sk, SOCK_DEAD))
			drop_subscriber(sub);
	mutex_unlock(&subscribers_lock);
	vmplat_vm_released(n->portid);
	return NOTIFY_DONE;
}

static struct notifier_block nb = { .notifier_call = socket_released };

int vmplat_netlink_init(void)
{
	int err;

	BUILD_BUG_ON(ARRAY_SIZE(groups) != VMPLAT_CLASS_MAX);
	sending = kmalloc(VMPLAT_EVENT_RECORD_BYTES, GFP_KERNEL);
	if (!sending)
		return -ENOMEM;
	err = netlink_register_notifier(&nb);
	if (err)
		goto free;
	vmplat_event_start(&sender);
	err = genl_register_family(&family);
	if (!err)
		return 0;
	vmplat_event_stop();
	netlink_unregister_notifier(&nb);
free:
	kfree(sending);
	return err;
}

void vmplat_netlink_exit(void)
{
	struct subscriber *sub, *next;

	/* Nothing is sent any more, then nothing is asked any more. */
	vmplat_event_stop();
	cancel_delayed_work_sync(&retry);
	cancel_work_sync(&sender);
	genl_unregister_family(&family);
	netlink_unregister_notifier(&nb);
	list_for_each_entry_safe(sub, next, &subscribers, link)
		drop_subscriber(sub);
	vmplat_vm_exit();
	kfree(sending);
}
