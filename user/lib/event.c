// SPDX-License-Identifier: LGPL-2.1-or-later
/*
 * A reader of events that always gets to the truth.
 *
 * Two sockets: one only listens, so that answers never compete with events for its
 * receive buffer; one only asks. All events up to @pos have been told. What arrives
 * later and is no newer is a repetition and is passed over.
 *
 * A loss shows as ENOBUFS, as a hole in the count that the kernel keeps for this
 * socket, or as an overrun message. Then, in this order: read the socket until it is
 * empty (before that the kernel drops events without saying so again), and ask for
 * what followed @pos. Whatever was dropped until then is in the answer, whatever is
 * dropped after that will be noticed.
 *
 * If it is no longer to be had, all objects are asked for. Such a dump takes a
 * while and is blurred: it has everything up to its first sequence number, and
 * more here and there. Events carry whole objects, so telling all that followed
 * that number makes it sharp.
 */
#include <linux/genetlink.h>
#include <stdlib.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <unistd.h>

#include <libmnl/libmnl.h>

#include "lib.h"

#define BUFFER_BYTES	(64 * 1024)
#define HARDWARE	(1u << VMPLAT_CLASS_PCI | 1u << VMPLAT_CLASS_VF |	\
			 1u << VMPLAT_CLASS_CPU | 1u << VMPLAT_CLASS_MEMORY |	\
			 1u << VMPLAT_CLASS_NET)
#define ALL		((2u << VMPLAT_CLASS_MAX) - 2)
#ifndef SOL_NETLINK
#define SOL_NETLINK	270
#endif

/* A socket that asks, and what it asks. */
struct asker {
	struct mnl_socket *nl;
	uint16_t family;
	uint32_t seq;
	char buf[BUFFER_BYTES];
};

struct vmplat_events {
	struct mnl_socket *nl;		/* listens */
	struct asker ask;
	struct vmplat *dev;
	struct vmplat_event_filter filter;
	struct vmplat_event_position pos;
	uint32_t count;			/* last nlmsg_seq of the kernel's count */
	bool subscribed;
	bool lost;			/* ask again once the socket is empty */
	bool down_told;
	bool reset;			/* @pos is worthless: tell all objects */
	bool sync_due;			/* they have been told, but not that they are all */
	uint64_t replays;

	/* While vmplat_events_read() runs: */
	vmplat_event_fn *fn;
	void *data;
	int nr_told;
	int verdict;			/* what @fn ended it with */
	char buf[BUFFER_BYTES];
};

struct vmplat_report {
	struct asker ask;
	struct vmplat *dev;
	uint64_t id;
};

/* ---- asking -------------------------------------------------------------- */

static void asker_close(struct asker *ask)
{
	if (ask->nl)
		mnl_socket_close(ask->nl);
	ask->nl = NULL;
}

static int asker_open(struct asker *ask)
{
	int on = 1;

	ask->nl = mnl_socket_open2(NETLINK_GENERIC, SOCK_CLOEXEC);
	if (!ask->nl)
		return lib_error(-errno, "cannot open a netlink socket: %s", strerror(errno));
	mnl_socket_setsockopt(ask->nl, NETLINK_EXT_ACK, &on, sizeof(on));
	mnl_socket_setsockopt(ask->nl, NETLINK_GET_STRICT_CHK, &on, sizeof(on));
	if (mnl_socket_bind(ask->nl, 0, MNL_SOCKET_AUTOPID) < 0) {
		int err = -errno;

		asker_close(ask);
		return lib_error(err, "cannot bind a netlink socket: %s", strerror(-err));
	}
	return 0;
}

static struct nlmsghdr *request(struct asker *ask, uint16_t type, uint8_t cmd, uint16_t flags)
{
	struct nlmsghdr *nlh = mnl_nlmsg_put_header(ask->buf);
	struct genlmsghdr *genl;

	nlh->nlmsg_type = type;
	nlh->nlmsg_flags = NLM_F_REQUEST | flags;
	nlh->nlmsg_seq = ++ask->seq;
	genl = mnl_nlmsg_put_extra_header(nlh, sizeof(*genl));
	genl->cmd = cmd;
	genl->version = 1;
	return nlh;
}

/* What the kernel says beside an error number, or NULL. */
static const char *ext_ack(const struct nlmsghdr *nlh)
{
	const struct nlmsgerr *err = mnl_nlmsg_get_payload(nlh);
	size_t skip = sizeof(*err);
	struct nlattr *attr;

	if (!(nlh->nlmsg_flags & NLM_F_ACK_TLVS))
		return NULL;
	if (nlh->nlmsg_type == NLMSG_DONE)
		skip = sizeof(int);
	else if (!(nlh->nlmsg_flags & NLM_F_CAPPED))
		skip += MNL_ALIGN(err->msg.nlmsg_len - sizeof(err->msg));
	mnl_attr_for_each(attr, nlh, skip)
		if (mnl_attr_get_type(attr) == NLMSGERR_ATTR_MSG &&
		    !mnl_attr_validate(attr, MNL_TYPE_NUL_STRING))
			return mnl_attr_get_str(attr);
	return NULL;
}

static int refusal(const struct nlmsghdr *nlh)
{
	const struct nlmsgerr *msg = mnl_nlmsg_get_payload(nlh);
	const char *why = ext_ack(nlh);
	int err = msg->error;	/* in NLMSG_DONE it is the first int, too */

	if (!err)
		return 0;
	return lib_error(err, "the kernel refuses: %s", why ? why : strerror(-err));
}

typedef int answer_fn(const struct nlmsghdr *nlh, void *data);

/* Send ask->buf and hand each answer to @fn. 0, -errno, or what @fn ended it with. */
static int converse(struct asker *ask, answer_fn *fn, void *data)
{
	struct nlmsghdr *nlh = (struct nlmsghdr *)ask->buf;
	bool dump = (nlh->nlmsg_flags & NLM_F_DUMP) == NLM_F_DUMP;
	uint32_t seq = nlh->nlmsg_seq;
	int rc = 0;

	if (mnl_socket_sendto(ask->nl, nlh, nlh->nlmsg_len) < 0)
		return lib_error(-errno, "cannot ask the kernel: %s", strerror(errno));
	for (;;) {
		ssize_t n = mnl_socket_recvfrom(ask->nl, ask->buf, sizeof(ask->buf));
		int left = n;

		if (n < 0 && errno == EINTR)
			continue;
		if (n < 0)
			return lib_error(-errno, "no answer from the kernel: %s",
					 strerror(errno));
		for (nlh = (struct nlmsghdr *)ask->buf; mnl_nlmsg_ok(nlh, left);
		     nlh = mnl_nlmsg_next(nlh, &left)) {
			if (nlh->nlmsg_seq != seq)
				continue;	/* of a dump that was given up */
			if (nlh->nlmsg_type == NLMSG_ERROR || nlh->nlmsg_type == NLMSG_DONE) {
				int err = refusal(nlh);

				if (err || dump || !(nlh->nlmsg_flags & NLM_F_MULTI))
					return err;
				continue;
			}
			rc = fn(nlh, data);
			if (rc)
				return rc;
		}
	}
}

struct family {
	uint16_t id;
	uint32_t notify_group;		/* of nlctrl */
};

static void read_group(const struct nlattr *nest, struct family *family)
{
	const struct nlattr *attr;
	const char *name = "";
	uint32_t id = 0;

	mnl_attr_for_each_nested(attr, nest) {
		if (mnl_attr_get_type(attr) == CTRL_ATTR_MCAST_GRP_NAME)
			name = mnl_attr_get_str(attr);
		else if (mnl_attr_get_type(attr) == CTRL_ATTR_MCAST_GRP_ID)
			id = mnl_attr_get_u32(attr);
	}
	if (!strcmp(name, "notify"))
		family->notify_group = id;
}

static int read_family(const struct nlmsghdr *nlh, void *data)
{
	struct family *family = data;
	const struct nlattr *attr, *group;

	mnl_attr_for_each(attr, nlh, sizeof(struct genlmsghdr)) {
		if (mnl_attr_get_type(attr) == CTRL_ATTR_FAMILY_ID)
			family->id = mnl_attr_get_u16(attr);
		else if (mnl_attr_get_type(attr) == CTRL_ATTR_MCAST_GROUPS)
			mnl_attr_for_each_nested(group, attr)
				read_group(group, family);
	}
	return 0;
}

static int find_family(struct asker *ask, const char *name, struct family *family)
{
	struct nlmsghdr *nlh = request(ask, GENL_ID_CTRL, CTRL_CMD_GETFAMILY, NLM_F_ACK);
	int err;

	mnl_attr_put_strz(nlh, CTRL_ATTR_FAMILY_NAME, name);
	err = converse(ask, read_family, family);
	if (err == -ENOENT)
		lib_error(err, "there are no events: the kernel module vmplat is not loaded");
	return err;
}

/* ---- messages ---------------------------------------------------------------- */

struct message {
	struct vmplat_event event;
	bool overrun;
};

static const uint32_t nest_of_class[] = {
	[VMPLAT_CLASS_PCI] = VMPLAT_NL_A_PCI, [VMPLAT_CLASS_VF] = VMPLAT_NL_A_VF,
	[VMPLAT_CLASS_CPU] = VMPLAT_NL_A_CPU, [VMPLAT_CLASS_MEMORY] = VMPLAT_NL_A_MEMORY,
	[VMPLAT_CLASS_NET] = VMPLAT_NL_A_NET, [VMPLAT_CLASS_MEM] = VMPLAT_NL_A_MEM,
	[VMPLAT_CLASS_LOG] = VMPLAT_NL_A_LOG, [VMPLAT_CLASS_VIEW] = VMPLAT_NL_A_VIEW,
	[VMPLAT_CLASS_VM] = VMPLAT_NL_A_VM, [VMPLAT_CLASS_DOMAIN] = VMPLAT_NL_A_DOMAIN,
};

static void read_attr(const struct nlattr *attr, struct message *m)
{
	struct vmplat_event *e = &m->event;
	uint32_t type = mnl_attr_get_type(attr);

	switch (type) {
	case VMPLAT_NL_A_EPOCH:
		e->epoch = mnl_attr_get_u64(attr);
		break;
	case VMPLAT_NL_A_SEQ:
		e->seq = mnl_attr_get_u64(attr);
		break;
	case VMPLAT_NL_A_CLASS:
		e->class_ = mnl_attr_get_u32(attr);
		break;
	case VMPLAT_NL_A_ACTION:
		e->action = mnl_attr_get_u32(attr);
		break;
	case VMPLAT_NL_A_ID:
		e->id = mnl_attr_get_u64(attr);
		break;
	case VMPLAT_NL_A_BORN:
		e->born = mnl_attr_get_u64(attr);
		break;
	case VMPLAT_NL_A_TIME:
		e->time_ns = mnl_attr_get_u64(attr);
		break;
	case VMPLAT_NL_A_GONE:
		e->gone = true;
		break;
	case VMPLAT_NL_A_PID:
		e->pid = mnl_attr_get_u32(attr);
		break;
	case VMPLAT_NL_A_COMM:
		e->comm = mnl_attr_get_str(attr);
		break;
	case VMPLAT_NL_A_OWNER:
		e->has_owner = true;
		e->owner = mnl_attr_get_u32(attr);
		break;
	case VMPLAT_NL_A_OVERRUN:
		m->overrun = true;
		break;
	default:
		if (e->class_ < sizeof(nest_of_class) / sizeof(*nest_of_class) &&
		    type == nest_of_class[e->class_] && type) {
			e->object = mnl_attr_get_payload(attr);
			e->object_bytes = mnl_attr_get_payload_len(attr);
		}
	}
}

static struct message read_message(const struct nlmsghdr *nlh)
{
	struct message m = { .event = { .comm = "" } };
	const struct nlattr *attr;

	mnl_attr_for_each(attr, nlh, sizeof(struct genlmsghdr))
		read_attr(attr, &m);
	return m;
}

static void put_device(struct nlmsghdr *nlh, const struct vmplat *dev)
{
	if (dev)
		mnl_attr_put_u32(nlh, VMPLAT_NL_A_DEVICE_FD, dev->fd);
}

static void put_filter(struct nlmsghdr *nlh, const struct vmplat_events *ev)
{
	mnl_attr_put_u32(nlh, VMPLAT_NL_A_CLASSES, ev->filter.classes);
	if (ev->filter.by_id)
		mnl_attr_put_u64(nlh, VMPLAT_NL_A_ID, ev->filter.id);
	if (ev->filter.by_owner)
		mnl_attr_put_u32(nlh, VMPLAT_NL_A_OWNER, ev->filter.owner);
	put_device(nlh, ev->dev);
}

/* ---- telling -------------------------------------------------------------------- */

static int tell(struct vmplat_events *ev, const struct vmplat_event *event)
{
	ev->nr_told++;
	ev->verdict = ev->fn(event, ev->data);
	return ev->verdict;
}

static int tell_kind(struct vmplat_events *ev, enum vmplat_event_kind kind)
{
	struct vmplat_event event = {
		.kind = kind, .epoch = ev->pos.epoch, .seq = ev->pos.seq, .comm = "",
	};

	return tell(ev, &event);
}

static int tell_change(struct vmplat_events *ev, struct vmplat_event *event)
{
	if (event->seq <= ev->pos.seq)
		return 0;
	event->kind = VMPLAT_EVENT_CHANGED;
	ev->pos.seq = event->seq;
	return tell(ev, event);
}

/* ---- catching up ------------------------------------------------------------------- */

/* What an answer can ask for, beside errors of the kernel. */
enum { TOO_OLD = 1, STOPPED = 2 };

struct replay {
	struct vmplat_events *ev;
	bool begun;
	uint64_t newest;
};

static int replay_one(const struct nlmsghdr *nlh, void *data)
{
	struct replay *r = data;
	struct message m = read_message(nlh);

	if (!r->begun) {
		r->begun = true;
		r->newest = m.event.seq;
		return 0;
	}
	if (m.overrun)
		return TOO_OLD;
	return tell_change(r->ev, &m.event) ? STOPPED : 0;
}

/* A dump was given up in the middle: the rest must not be taken for the next answer. */
static int renew_asker(struct vmplat_events *ev)
{
	uint16_t family = ev->ask.family;
	int err;

	asker_close(&ev->ask);
	err = asker_open(&ev->ask);
	ev->ask.family = family;
	return err;
}

/* Tell what followed @pos: 0, TOO_OLD, STOPPED or -errno. */
static int replay(struct vmplat_events *ev)
{
	struct replay r = { .ev = ev };
	struct nlmsghdr *nlh = request(&ev->ask, ev->ask.family, VMPLAT_NL_CMD_EVENT_GET,
				       NLM_F_DUMP);
	int rc, err;

	mnl_attr_put_u64(nlh, VMPLAT_NL_A_SINCE, ev->pos.seq);
	mnl_attr_put_u64(nlh, VMPLAT_NL_A_EPOCH, ev->pos.epoch);
	put_filter(nlh, ev);
	ev->replays++;
	rc = converse(&ev->ask, replay_one, &r);
	if (rc == -ERANGE)	/* a position that nobody can have come to */
		return TOO_OLD;
	if (rc > 0) {
		err = renew_asker(ev);
		return err ? err : rc;
	}
	/* What the filter kept away is not missing. */
	if (!rc && r.newest > ev->pos.seq)
		ev->pos.seq = r.newest;
	return rc;
}

static int present_one(const struct nlmsghdr *nlh, void *data)
{
	struct replay *r = data;
	struct message m = read_message(nlh);

	if (!r->begun) {
		r->begun = true;
		r->ev->pos.epoch = m.event.epoch;
		r->newest = m.event.seq;
		return 0;
	}
	m.event.kind = VMPLAT_EVENT_PRESENT;
	return tell(r->ev, &m.event) ? STOPPED : 0;
}

/* Tell all objects, blurred: 0, STOPPED or -errno. */
static int tell_objects(struct vmplat_events *ev)
{
	struct replay r = { .ev = ev };
	struct nlmsghdr *nlh;
	int rc, err;

	if (tell_kind(ev, VMPLAT_EVENT_RESET))
		return STOPPED;
	nlh = request(&ev->ask, ev->ask.family, VMPLAT_NL_CMD_OBJECT_GET, NLM_F_DUMP);
	put_filter(nlh, ev);
	rc = converse(&ev->ask, present_one, &r);
	if (rc > 0) {
		err = renew_asker(ev);
		return err ? err : rc;
	}
	if (!rc)
		ev->pos.seq = r.newest;
	return rc;
}

static int read_position(const struct nlmsghdr *nlh, void *data)
{
	struct vmplat_event_position *pos = data;
	struct message m = read_message(nlh);

	pos->epoch = m.event.epoch;
	pos->seq = m.event.seq;
	return 0;
}

/* The filter belongs to the listening socket, so it has to be the one that asks. */
static int subscribe(struct vmplat_events *ev, struct vmplat_event_position *now)
{
	struct asker *listener = calloc(1, sizeof(*listener));
	struct nlmsghdr *nlh;
	int rc;

	if (!listener)
		return lib_error(-ENOMEM, "out of memory");
	listener->nl = ev->nl;
	listener->seq = 0x80000000;	/* no count of events gets there by then */
	nlh = request(listener, ev->ask.family, VMPLAT_NL_CMD_FILTER_SET, NLM_F_ACK);
	put_filter(nlh, ev);
	rc = converse(listener, read_position, now);
	free(listener);
	ev->count = 0;
	ev->subscribed = !rc;
	return rc;
}

static int connect_family(struct vmplat_events *ev)
{
	struct vmplat_event_position now = { 0 };
	struct family family = { 0 };
	int rc;

	rc = find_family(&ev->ask, VMPLAT_FAMILY_NAME, &family);
	if (rc)
		return rc;
	ev->ask.family = family.id;
	rc = subscribe(ev, &now);
	if (rc)
		return rc;
	if (!ev->pos.epoch && !ev->reset)	/* begin here, with what is to come */
		ev->pos = now;
	else if (ev->pos.epoch != now.epoch)
		ev->reset = true;
	ev->lost = true;
	return 0;
}

/* The socket is empty: get what it did not bring. 0, STOPPED or -errno. */
static int catch_up(struct vmplat_events *ev)
{
	int rc;

	do {
		if (ev->reset) {
			rc = tell_objects(ev);
			if (rc)
				return rc;
			ev->reset = false;
			ev->sync_due = true;
		}
		rc = replay(ev);
		if (rc == TOO_OLD)
			ev->reset = true;
	} while (rc == TOO_OLD);
	if (rc)
		return rc;
	ev->lost = false;
	if (!ev->sync_due)
		return 0;
	ev->sync_due = false;
	return tell_kind(ev, VMPLAT_EVENT_SYNC) ? STOPPED : 0;
}

/* ---- listening ------------------------------------------------------------------------ */

/* The module came or went. */
static void controller_message(struct vmplat_events *ev, const struct nlmsghdr *nlh)
{
	const struct genlmsghdr *genl = mnl_nlmsg_get_payload(nlh);
	const struct nlattr *attr;

	mnl_attr_for_each(attr, nlh, sizeof(*genl))
		if (mnl_attr_get_type(attr) == CTRL_ATTR_FAMILY_NAME &&
		    !strcmp(mnl_attr_get_str(attr), VMPLAT_FAMILY_NAME) &&
		    (genl->cmd == CTRL_CMD_NEWFAMILY || genl->cmd == CTRL_CMD_DELFAMILY))
			ev->subscribed = false;
}

static int event_message(struct vmplat_events *ev, const struct nlmsghdr *nlh)
{
	struct message m = read_message(nlh);

	if (nlh->nlmsg_seq != ++ev->count || m.overrun || m.event.epoch != ev->pos.epoch) {
		ev->count = nlh->nlmsg_seq;
		ev->lost = true;
	}
	if (ev->lost)		/* it will come again */
		return 0;
	return tell_change(ev, &m.event) ? STOPPED : 0;
}

static int handle(struct vmplat_events *ev, int bytes)
{
	const struct nlmsghdr *nlh;
	int rc = 0;

	for (nlh = (struct nlmsghdr *)ev->buf; mnl_nlmsg_ok(nlh, bytes) && !rc;
	     nlh = mnl_nlmsg_next(nlh, &bytes)) {
		if (nlh->nlmsg_type == GENL_ID_CTRL)
			controller_message(ev, nlh);
		else if (nlh->nlmsg_type == ev->ask.family)
			rc = event_message(ev, nlh);
	}
	return rc;
}

/* Read until the socket is empty. 0, STOPPED or -errno. */
static int listen_all(struct vmplat_events *ev)
{
	for (;;) {
		ssize_t n = recv(mnl_socket_get_fd(ev->nl), ev->buf, sizeof(ev->buf),
				 MSG_DONTWAIT);
		int rc;

		if (n < 0 && errno == EAGAIN)
			return 0;
		if (n < 0 && errno == EINTR)
			continue;
		if (n < 0 && errno == ENOBUFS) {
			ev->lost = true;
			continue;
		}
		if (n < 0)
			return lib_error(-errno, "cannot read events: %s", strerror(errno));
		rc = handle(ev, n);
		if (rc)
			return rc;
	}
}

/* The module is not there: wait for it, having said so once. */
static int module_is_down(struct vmplat_events *ev)
{
	if (ev->down_told)
		return 0;
	ev->down_told = true;
	return tell_kind(ev, VMPLAT_EVENT_DOWN) ? STOPPED : 0;
}

static int read_all(struct vmplat_events *ev)
{
	int rc;

	do {
		rc = listen_all(ev);
		if (rc)
			return rc;
		if (!ev->subscribed) {
			rc = connect_family(ev);
			if (rc == -ENOENT)
				return module_is_down(ev);
			if (rc == -ENOBUFS)
				continue;
			if (rc)
				return rc;
			ev->down_told = false;
			continue;	/* the socket may have been lost to */
		}
		if (!ev->lost)
			return 0;
		rc = catch_up(ev);
		if (rc == -ENOENT || rc == -ESTALE)
			ev->subscribed = false;	/* unloaded, or another one by now */
		else if (rc)
			return rc;
	} while (!ev->subscribed || ev->lost);
	return listen_all(ev);
}

API int vmplat_events_read(struct vmplat_events *ev, vmplat_event_fn *fn, void *data)
{
	int rc;

	ev->fn = fn;
	ev->data = data;
	ev->nr_told = 0;
	ev->verdict = 0;
	rc = read_all(ev);
	if (rc == STOPPED)
		return ev->verdict;
	return rc ? rc : ev->nr_told;
}

/* ---- life -------------------------------------------------------------------------------- */

static int listener_open(struct vmplat_events *ev)
{
	struct family ctrl = { 0 };
	int on = 1, rc;

	ev->nl = mnl_socket_open2(NETLINK_GENERIC, SOCK_CLOEXEC);
	if (!ev->nl || mnl_socket_bind(ev->nl, 0, MNL_SOCKET_AUTOPID) < 0)
		return lib_error(-errno, "cannot open a netlink socket: %s", strerror(errno));
	mnl_socket_setsockopt(ev->nl, NETLINK_EXT_ACK, &on, sizeof(on));
	rc = find_family(&ev->ask, "nlctrl", &ctrl);
	if (rc)
		return rc;
	if (mnl_socket_setsockopt(ev->nl, NETLINK_ADD_MEMBERSHIP, &ctrl.notify_group,
				  sizeof(ctrl.notify_group)) < 0)
		return lib_error(-errno, "cannot listen for the module: %s", strerror(errno));
	return 0;
}

/* All classes, or, for those without the right to know of VMs, the hardware's. */
static int connect_default(struct vmplat_events *ev)
{
	int rc;

	if (ev->filter.classes)
		return connect_family(ev);
	ev->filter.classes = ALL;
	rc = connect_family(ev);
	if (rc != -EPERM)
		return rc;
	ev->filter.classes = HARDWARE;
	return connect_family(ev);
}

API int vmplat_events_open(struct vmplat_events **out, struct vmplat *dev,
			   const struct vmplat_event_filter *filter,
			   const struct vmplat_event_position *from, uint32_t flags)
{
	struct vmplat_events *ev;
	int rc;

	*out = NULL;
	if (flags & ~VMPLAT_EVENTS_F_NEW)
		return lib_error(-EOPNOTSUPP, "flags %#x are not known", flags);
	ev = calloc(1, sizeof(*ev));
	if (!ev)
		return lib_error(-ENOMEM, "out of memory");
	ev->dev = dev;
	if (filter)
		ev->filter = *filter;
	if (from)
		ev->pos = *from;
	ev->reset = !ev->pos.epoch && !(flags & VMPLAT_EVENTS_F_NEW);
	rc = asker_open(&ev->ask);
	if (!rc)
		rc = listener_open(ev);
	if (!rc)
		rc = connect_default(ev);
	if (rc) {
		vmplat_events_close(ev);
		return rc;
	}
	*out = ev;
	return 0;
}

API void vmplat_events_close(struct vmplat_events *ev)
{
	if (!ev)
		return;
	asker_close(&ev->ask);
	if (ev->nl)
		mnl_socket_close(ev->nl);
	free(ev);
}

API int vmplat_events_fd(const struct vmplat_events *ev)
{
	return mnl_socket_get_fd(ev->nl);
}

API struct vmplat_event_position vmplat_events_position(const struct vmplat_events *ev)
{
	return ev->pos;
}

API uint64_t vmplat_events_replays(const struct vmplat_events *ev)
{
	return ev->replays;
}

/* ---- reporting a VM ------------------------------------------------------------------------ */

static int read_id(const struct nlmsghdr *nlh, void *data)
{
	struct message m = read_message(nlh);

	*(uint64_t *)data = m.event.id;
	return 0;
}

/* What is NULL, or 0, stays as it is. */
struct news {
	const char *name;
	uint32_t state;
	const char *reason;
	const uint64_t *mem_ids;
	size_t nr_mems;
};

static int report(struct vmplat_report *r, const struct news *news)
{
	struct nlmsghdr *nlh = request(&r->ask, r->ask.family, VMPLAT_NL_CMD_VM_SET, NLM_F_ACK);
	struct nlattr *nest;

	if (news->nr_mems > VMPLAT_VM_MEMS_MAX)
		return lib_error(-E2BIG, "%zu memories are more than %d", news->nr_mems,
				 VMPLAT_VM_MEMS_MAX);
	put_device(nlh, r->dev);
	nest = mnl_attr_nest_start(nlh, VMPLAT_NL_A_VM);
	if (news->name)
		mnl_attr_put_strz(nlh, VMPLAT_NL_VM_NAME, news->name);
	if (news->state)
		mnl_attr_put_u32(nlh, VMPLAT_NL_VM_STATE, news->state);
	if (news->reason)
		mnl_attr_put_strz(nlh, VMPLAT_NL_VM_REASON, news->reason);
	for (size_t i = 0; i < news->nr_mems; i++)
		mnl_attr_put_u64(nlh, VMPLAT_NL_VM_MEM, news->mem_ids[i]);
	mnl_attr_nest_end(nlh, nest);
	return converse(&r->ask, read_id, &r->id);
}

/* Whoever has the device open has the module loaded. */
static int find_reports(struct asker *ask)
{
	struct family family = { 0 };
	int rc = find_family(ask, VMPLAT_FAMILY_NAME, &family);

	ask->family = family.id;
	if (rc == -ENOENT)
		lib_error(rc, "there are no events in this network namespace, only in the initial one");
	return rc;
}

API int vmplat_report_new(struct vmplat_report **out, struct vmplat *dev, const char *name,
			  uint32_t state, const uint64_t *mem_ids, size_t nr_mems)
{
	struct news news = {
		.name = name, .state = state, .mem_ids = mem_ids, .nr_mems = nr_mems,
	};
	struct vmplat_report *r;
	int rc;

	*out = NULL;
	if (strlen(name) > VMPLAT_VM_NAME_MAX)
		return lib_error(-EINVAL, "'%s' is longer than %d bytes", name,
				 VMPLAT_VM_NAME_MAX);
	r = calloc(1, sizeof(*r));
	if (!r)
		return lib_error(-ENOMEM, "out of memory");
	r->dev = dev;
	rc = asker_open(&r->ask);
	if (!rc)
		rc = find_reports(&r->ask);
	if (!rc)
		rc = report(r, &news);
	if (rc) {
		vmplat_report_close(r);
		return rc;
	}
	*out = r;
	return 0;
}

API int vmplat_report_state(struct vmplat_report *r, uint32_t state)
{
	return report(r, &(struct news) { .state = state });
}

API int vmplat_report_failed(struct vmplat_report *r, const char *reason)
{
	struct news news = { .state = VMPLAT_VM_STATE_FAILED };
	char cut[VMPLAT_VM_REASON_MAX + 1];
	size_t len = strlen(reason);

	if (len > VMPLAT_VM_REASON_MAX) {
		len = VMPLAT_VM_REASON_MAX;
		while (len && (reason[len] & 0xc0) == 0x80)	/* not within a character of UTF-8 */
			len--;
	}
	memcpy(cut, reason, len);
	cut[len] = 0;
	if (len)
		news.reason = cut;
	return report(r, &news);
}

API int vmplat_report_mems(struct vmplat_report *r, const uint64_t *mem_ids, size_t nr_mems)
{
	return report(r, &(struct news) { .mem_ids = mem_ids, .nr_mems = nr_mems });
}

API uint64_t vmplat_report_id(const struct vmplat_report *r)
{
	return r->id;
}

API void vmplat_report_close(struct vmplat_report *r)
{
	if (!r)
		return;
	asker_close(&r->ask);
	free(r);
}

/* ---- the id of a memory -------------------------------------------------------------------- */

struct wanted_mem {
	struct stat st;
	uint64_t id;
};

static int look_at_mem(const struct nlmsghdr *nlh, void *data)
{
	struct message m = read_message(nlh);
	struct wanted_mem *wanted = data;
	uint64_t dev = 0, ino = 0;
	struct vmplat_field f;
	size_t pos = 0;

	while (vmplat_event_field(&m.event, &pos, &f)) {
		if (f.attr == VMPLAT_NL_MEM_DEV)
			dev = f.number;
		else if (f.attr == VMPLAT_NL_MEM_INO)
			ino = f.number;
	}
	if (m.event.object && dev == wanted->st.st_dev && ino == wanted->st.st_ino)
		wanted->id = m.event.id;
	return 0;
}

static int find_mem(struct asker *ask, struct vmplat *dev, struct wanted_mem *wanted)
{
	struct nlmsghdr *nlh;
	int rc = find_reports(ask);

	if (rc)
		return rc;
	nlh = request(ask, ask->family, VMPLAT_NL_CMD_OBJECT_GET, NLM_F_DUMP);
	mnl_attr_put_u32(nlh, VMPLAT_NL_A_CLASSES, 1u << VMPLAT_CLASS_MEM);
	put_device(nlh, dev);
	rc = converse(ask, look_at_mem, wanted);
	if (!rc && !wanted->id)
		return lib_error(-ENODATA, "the kernel knows no such memory");
	return rc;
}

API int vmplat_mem_id(const struct vmplat_mem *mem, struct vmplat *dev, uint64_t *id)
{
	struct wanted_mem wanted = { .id = 0 };
	struct asker *ask;
	int rc;

	if (fstat(mem->fd, &wanted.st))
		return lib_error(-errno, "descriptor %d: %s", mem->fd, strerror(errno));
	ask = calloc(1, sizeof(*ask));
	if (!ask)
		return lib_error(-ENOMEM, "out of memory");
	rc = asker_open(ask);
	if (!rc)
		rc = find_mem(ask, dev, &wanted);
	asker_close(ask);
	free(ask);
	if (!rc)
		*id = wanted.id;
	return rc;
}
