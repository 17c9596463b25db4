// SPDX-License-Identifier: GPL-2.0-only
/*
 * Every attribute of every command: of a wrong type, of every length, nested where it
 * should not be, not nested where it should, filled with garbage, cut off; as root and
 * as nobody; with each allocation failing in turn where the kernel can do that.
 *
 * A message gets an answer, or an error with a reason in words, and nothing changes.
 * Dumps may be refused without words: Linux 6.1 has no way to say them so early.
 */
#include <fcntl.h>
#include <grp.h>
#include <linux/genetlink.h>
#include <linux/netlink.h>
#include <poll.h>
#include <sys/socket.h>
#include <sys/wait.h>
#include <unistd.h>

#include <libmnl/libmnl.h>

#include "event/table.h"
#include "mem/util.h"

#define NR_COMMANDS	(VMPLAT_NL_CMD_MAX + 3)
#define NR_ATTRS	(VMPLAT_NL_A_MAX + 3)
#define GARBAGE		2000

static int sock;
static uint16_t family;
static int device = -1;
static char buf[16384], reply[65536];
static uint64_t nr_sent, nr_accepted, nr_silent, nr_wordless;

/* Which attributes a command takes; anything else is a mistake. */
static const struct {
	uint8_t cmd;
	bool dump;
	uint64_t takes;
} commands[] = {
#define A(name) (1ULL << VMPLAT_NL_A_##name)
	{ VMPLAT_NL_CMD_INFO_GET, false, 0 },
	{ VMPLAT_NL_CMD_OBJECT_GET, false, A(CLASS) | A(ID) | A(DEVICE_FD) },
	{ VMPLAT_NL_CMD_OBJECT_GET, true, A(CLASSES) | A(ID) | A(OWNER) | A(DEVICE_FD) },
	{ VMPLAT_NL_CMD_EVENT_GET, true,
	  A(SINCE) | A(EPOCH) | A(CLASSES) | A(ID) | A(OWNER) | A(DEVICE_FD) },
	{ VMPLAT_NL_CMD_FILTER_SET, false, A(CLASSES) | A(ID) | A(OWNER) | A(DEVICE_FD) },
	{ VMPLAT_NL_CMD_VM_SET, false, A(VM) | A(DEVICE_FD) },
};

static size_t length_of(unsigned int attr)
{
	switch (attr) {
	case VMPLAT_NL_A_ID:
	case VMPLAT_NL_A_SINCE:
	case VMPLAT_NL_A_EPOCH:
		return 8;
	default:
		return 4;
	}
}

static int open_socket(void)
{
	struct sockaddr_nl addr = { .nl_family = AF_NETLINK };
	struct timeval limit = { .tv_sec = 60 };
	int on = 1, fd = need(socket(AF_NETLINK, SOCK_RAW | SOCK_CLOEXEC, NETLINK_GENERIC));

	need(bind(fd, (struct sockaddr *)&addr, sizeof(addr)));
	need(setsockopt(fd, SOL_NETLINK, NETLINK_EXT_ACK, &on, sizeof(on)));
	setsockopt(fd, SOL_SOCKET, SO_RCVTIMEO, &limit, sizeof(limit));
	return fd;
}

static struct nlmsghdr *begin(uint16_t type, uint8_t cmd, uint16_t flags)
{
	static uint32_t seq;
	struct nlmsghdr *nlh = mnl_nlmsg_put_header(buf);
	struct genlmsghdr *genl;

	nlh->nlmsg_type = type;
	nlh->nlmsg_flags = NLM_F_REQUEST | NLM_F_ACK | flags;
	nlh->nlmsg_seq = ++seq;
	genl = mnl_nlmsg_put_extra_header(nlh, sizeof(*genl));
	genl->cmd = cmd;
	genl->version = 1;
	return nlh;
}

static bool has_words(const struct nlmsghdr *nlh, size_t skip)
{
	const struct nlattr *attr;

	if (!(nlh->nlmsg_flags & NLM_F_ACK_TLVS))
		return false;
	mnl_attr_for_each(attr, nlh, skip)
		if (mnl_attr_get_type(attr) == NLMSGERR_ATTR_MSG)
			return true;
	return false;
}

/* The errno a message ends with; 0 if it was accepted. */
static int send_it(struct nlmsghdr *nlh)
{
	bool dump = (nlh->nlmsg_flags & NLM_F_DUMP) == NLM_F_DUMP;
	uint8_t cmd = ((struct genlmsghdr *)mnl_nlmsg_get_payload(nlh))->cmd;
	uint32_t seq = nlh->nlmsg_seq;

	nr_sent++;
	if (send(sock, nlh, nlh->nlmsg_len, 0) < 0)
		return errno;
	for (;;) {
		ssize_t n = recv(sock, reply, sizeof(reply), 0);
		int left = n;

		if (n < 0 && errno == ENOBUFS)
			continue;
		if (n < 0) {
			nr_silent++;
			return ETIMEDOUT;
		}
		for (nlh = (void *)reply; mnl_nlmsg_ok(nlh, left); nlh = mnl_nlmsg_next(nlh, &left)) {
			const struct nlmsgerr *err = mnl_nlmsg_get_payload(nlh);
			size_t skip = sizeof(*err);

			if (nlh->nlmsg_seq != seq)
				continue;
			if (nlh->nlmsg_type == NLMSG_DONE) {
				int e = -*(int *)mnl_nlmsg_get_payload(nlh);

				if (!e)
					nr_accepted++;
				return e;
			}
			if (nlh->nlmsg_type != NLMSG_ERROR || (dump && !err->error))
				continue;
			if (!(nlh->nlmsg_flags & NLM_F_CAPPED))
				skip += MNL_ALIGN(err->msg.nlmsg_len - sizeof(err->msg));
			if (!err->error)
				nr_accepted++;
			else if (err->error != -EOPNOTSUPP && !dump && !has_words(nlh, skip) &&
				 !nr_wordless++)
				diag("command %u: %s without a word", cmd,
				     strerrorname_np(-err->error));
			return -err->error;
		}
	}
}

static void put_valid(struct nlmsghdr *nlh, unsigned int attr)
{
	struct nlattr *nest;

	switch (attr) {
	case VMPLAT_NL_A_CLASS:
		mnl_attr_put_u32(nlh, attr, VMPLAT_CLASS_CPU);
		break;
	case VMPLAT_NL_A_CLASSES:
		mnl_attr_put_u32(nlh, attr, 1 << VMPLAT_CLASS_CPU);
		break;
	case VMPLAT_NL_A_DEVICE_FD:
		mnl_attr_put_u32(nlh, attr, device);
		break;
	case VMPLAT_NL_A_VM:
		nest = mnl_attr_nest_start(nlh, attr);
		mnl_attr_put_strz(nlh, VMPLAT_NL_VM_NAME, "fuzz");
		mnl_attr_put_u32(nlh, VMPLAT_NL_VM_STATE, VMPLAT_VM_STATE_RUNNING);
		mnl_attr_nest_end(nlh, nest);
		break;
	default:
		if (length_of(attr) == 8)
			mnl_attr_put_u64(nlh, attr, 0);
		else
			mnl_attr_put_u32(nlh, attr, 0);
	}
}

static bool accepted(int err)
{
	return !err || err == ESTALE || err == ENOENT;
}

/* Each command with one attribute right, of every length, and of the wrong kind. */
static void test_each(void)
{
	unsigned int wrong = 0;
	static const char zeroes[64];

	for (size_t c = 0; c < ARRAY_SIZE(commands); c++) {
		uint16_t flags = commands[c].dump ? NLM_F_DUMP : 0;

		for (unsigned int attr = 0; attr < NR_ATTRS; attr++) {
			bool takes = attr < 64 && commands[c].takes >> attr & 1;

			for (size_t len = 0; len <= 40; len++) {
				struct nlmsghdr *nlh = begin(family, commands[c].cmd, flags);
				int err;

				mnl_attr_put(nlh, attr, len, zeroes);
				err = send_it(nlh);
				if (takes && len == length_of(attr))
					continue;	/* its value decides */
				/* An empty nest is one, and attribute 0 is passed over. */
				if ((takes && attr == VMPLAT_NL_A_VM) || !attr)
					continue;
				if (err == EINVAL || err == ERANGE)
					continue;
				if (!wrong++)
					diag("command %u%s, attribute %u, %zu bytes: %s",
					     commands[c].cmd, flags ? " dump" : "", attr, len,
					     strerrorname_np(err));
			}
		}
	}
	is_int(wrong, 0, "what is not in the specification is refused, and so is a wrong length");
}

static void test_each_valid(void)
{
	unsigned int wrong = 0;

	for (size_t c = 0; c < ARRAY_SIZE(commands); c++) {
		struct nlmsghdr *nlh = begin(family, commands[c].cmd,
					     commands[c].dump ? NLM_F_DUMP : 0);
		int err;

		for (unsigned int attr = 1; attr < NR_ATTRS && attr < 64; attr++)
			if (commands[c].takes >> attr & 1)
				put_valid(nlh, attr);
		err = send_it(nlh);
		if (accepted(err))
			continue;
		wrong++;
		diag("command %u: %s", commands[c].cmd, strerrorname_np(err));
	}
	is_int(wrong, 0, "what the specification allows is accepted");
}

static void test_header(void)
{
	struct nlmsghdr *nlh;
	struct genlmsghdr *genl;
	unsigned int wrong = 0;

	for (unsigned int cmd = 0; cmd < NR_COMMANDS; cmd++) {
		bool known = false;

		for (size_t c = 0; c < ARRAY_SIZE(commands); c++)
			known |= commands[c].cmd == cmd;
		if (!known)
			wrong += send_it(begin(family, cmd, 0)) != EOPNOTSUPP;
		nlh = begin(family, cmd, 0);
		genl = mnl_nlmsg_get_payload(nlh);
		genl->reserved = 1;
		wrong += known && send_it(nlh) != EINVAL;
	}
	is_int(wrong, 0, "unknown commands and reserved bits are refused");
	fails((errno = send_it(begin(family, VMPLAT_NL_CMD_EVENT_GET, 0)), -1), EOPNOTSUPP,
	      "event-get for a single one");
	fails((errno = send_it(begin(family, VMPLAT_NL_CMD_VM_SET, NLM_F_DUMP)), -1), EOPNOTSUPP,
	      "vm-set as a dump");
}

/* Inside of the nest of a VM. */
static int set_vm(unsigned int attr, const void *data, size_t len, bool nested)
{
	struct nlmsghdr *nlh = begin(family, VMPLAT_NL_CMD_VM_SET, 0);
	struct nlattr *nest;

	put_valid(nlh, VMPLAT_NL_A_DEVICE_FD);
	nest = nested ? mnl_attr_nest_start(nlh, VMPLAT_NL_A_VM) : NULL;
	if (!nest)
		mnl_attr_put(nlh, VMPLAT_NL_A_VM, 0, "");
	mnl_attr_put(nlh, attr, len, data);
	if (nest)
		mnl_attr_nest_end(nlh, nest);
	return send_it(nlh);
}

static void test_vm_nest(void)
{
	char text[VMPLAT_VM_REASON_MAX + 20];
	uint32_t state = VMPLAT_VM_STATE_MAX + 1;
	unsigned int wrong = 0;

	memset(text, 'x', sizeof(text));
	for (unsigned int attr = VMPLAT_NL_VM_MAX + 1; attr < VMPLAT_NL_VM_MAX + 10; attr++)
		wrong += set_vm(attr, text, 8, true) != EINVAL;
	wrong += set_vm(VMPLAT_NL_VM_PID, &state, 4, true) != EINVAL;
	is_int(wrong, 0, "attributes that a VM has not are refused");
	is_int(set_vm(VMPLAT_NL_VM_STATE, &state, 4, true), ERANGE, "a state that is none");
	is_int(set_vm(VMPLAT_NL_VM_NAME, text, 20, true), EINVAL, "a name without an end");
	text[70] = '\0';
	is_int(set_vm(VMPLAT_NL_VM_NAME, text, 71, true), EINVAL, "a name that is too long");
	is_int(set_vm(VMPLAT_NL_VM_NAME, "", 1, true), EINVAL, "an empty name");
	is_int(set_vm(VMPLAT_NL_VM_REASON, "why", 4, true), EINVAL, "a reason of no failure");
	text[70] = 'x';
	is_int(set_vm(VMPLAT_NL_VM_REASON, text, 20, true), EINVAL, "a reason without an end");
	text[sizeof(text) - 1] = '\0';
	is_int(set_vm(VMPLAT_NL_VM_REASON, text, sizeof(text), true), EINVAL, "a reason that is too long");
	is_int(set_vm(VMPLAT_NL_VM_STATE, &state, 4, false), EINVAL, "an attribute outside of its nest");
}

/* Whatever: only that the kernel survives, and answers. */
static void test_garbage(void)
{
	uint64_t rnd = 42, silent = nr_silent;

	for (int i = 0; i < GARBAGE; i++) {
		size_t c, at, nr;
		struct nlmsghdr *nlh;

		rnd = rnd * 6364136223846793005ULL + 1442695040888963407ULL;
		c = (rnd >> 40) % ARRAY_SIZE(commands);
		nlh = begin(family, commands[c].cmd, commands[c].dump ? NLM_F_DUMP : 0);
		for (unsigned int attr = 1; attr < NR_ATTRS && attr < 64; attr++)
			if (commands[c].takes >> attr & 1 && rnd >> (attr + 8) & 1)
				put_valid(nlh, attr);
		nr = nlh->nlmsg_len - NLMSG_HDRLEN - GENL_HDRLEN;
		for (int k = (rnd >> 20) % 4; nr && k >= 0; k--) {
			rnd = rnd * 6364136223846793005ULL + 1442695040888963407ULL;
			at = NLMSG_HDRLEN + GENL_HDRLEN + (rnd >> 33) % nr;
			buf[at] = rnd >> 25;
		}
		send_it(nlh);
	}
	is_int(nr_silent, silent, "every message of garbage gets an answer");
}

/* ---- permission --------------------------------------------------------------- */

static int ask_classes(uint8_t cmd, bool dump, uint32_t classes, bool with_device)
{
	struct nlmsghdr *nlh = begin(family, cmd, dump ? NLM_F_DUMP : 0);

	mnl_attr_put_u32(nlh, VMPLAT_NL_A_CLASSES, classes);
	if (with_device)
		mnl_attr_put_u32(nlh, VMPLAT_NL_A_DEVICE_FD, device);
	return send_it(nlh);
}

static int nobody(void)
{
	const uint32_t hardware = 1 << VMPLAT_CLASS_PCI, guests = 1 << VMPLAT_CLASS_VM;
	int bad = 0;

	if (setgroups(0, NULL) || setgid(65534) || setuid(65534))
		return 100;
	sock = open_socket();
	bad |= (ask_classes(VMPLAT_NL_CMD_OBJECT_GET, true, hardware, false) != 0) << 0;
	bad |= (ask_classes(VMPLAT_NL_CMD_FILTER_SET, false, hardware, false) != 0) << 1;
	bad |= (ask_classes(VMPLAT_NL_CMD_OBJECT_GET, true, guests, false) != EPERM) << 2;
	bad |= (ask_classes(VMPLAT_NL_CMD_FILTER_SET, false, guests, false) != EPERM) << 3;
	bad |= (ask_classes(VMPLAT_NL_CMD_EVENT_GET, true, guests, false) != EPERM) << 4;
	/* The descriptor was opened by root and handed over: that is permission. */
	bad |= (ask_classes(VMPLAT_NL_CMD_OBJECT_GET, true, guests, true) != 0) << 5;
	bad |= (ask_classes(VMPLAT_NL_CMD_FILTER_SET, false, guests, true) != 0) << 6;
	return bad;
}

/* Groups of the classes: 0 if nobody may join that of VMs and may join that of PCI. */
static int nobody_joins(void)
{
	struct nlmsghdr *nlh;
	const struct nlattr *attr, *group, *part;
	uint32_t pci = 0, vm = 0;
	int left, bad;

	if (setgroups(0, NULL) || setgid(65534) || setuid(65534))
		return 100;
	sock = open_socket();
	nlh = begin(GENL_ID_CTRL, CTRL_CMD_GETFAMILY, 0);
	mnl_attr_put_strz(nlh, CTRL_ATTR_FAMILY_NAME, VMPLAT_FAMILY_NAME);
	send(sock, nlh, nlh->nlmsg_len, 0);
	left = recv(sock, reply, sizeof(reply), 0);
	nlh = (void *)reply;
	if (!mnl_nlmsg_ok(nlh, left))
		return 101;
	mnl_attr_for_each(attr, nlh, sizeof(struct genlmsghdr)) {
		if (mnl_attr_get_type(attr) != CTRL_ATTR_MCAST_GROUPS)
			continue;
		mnl_attr_for_each_nested(group, attr) {
			const char *name = "";
			uint32_t id = 0;

			mnl_attr_for_each_nested(part, group) {
				if (mnl_attr_get_type(part) == CTRL_ATTR_MCAST_GRP_NAME)
					name = mnl_attr_get_str(part);
				else
					id = mnl_attr_get_u32(part);
			}
			if (!strcmp(name, "pci"))
				pci = id;
			else if (!strcmp(name, "vm"))
				vm = id;
		}
	}
	bad = !pci || setsockopt(sock, SOL_NETLINK, NETLINK_ADD_MEMBERSHIP, &pci, sizeof(pci));
	bad |= (!vm || !setsockopt(sock, SOL_NETLINK, NETLINK_ADD_MEMBERSHIP, &vm, sizeof(vm)) ||
		errno != EPERM) << 1;
	return bad;
}

static int in_child(int (*fn)(void))
{
	int status;
	pid_t pid = need(fork());

	if (!pid)
		_exit(fn());
	waitpid(pid, &status, 0);
	return WIFEXITED(status) ? WEXITSTATUS(status) : 255;
}

/* ---- failing allocations --------------------------------------------------------- */

/* The task's nth allocation from here on fails; whether it came to that many. */
static void fail_nth(int nr)
{
	int fd = open("/proc/self/fail-nth", O_WRONLY);

	dprintf(fd, "%d", nr);
	close(fd);
}

static bool failed_nth(void)
{
	int fd = open("/proc/self/fail-nth", O_RDONLY);
	char text[16] = "";

	if (read(fd, text, sizeof(text) - 1) < 0)
		text[0] = '\0';
	close(fd);
	return atoi(text) == 0;
}

static void test_failing(void)
{
	unsigned int wrong = 0, injected = 0;

	if (access("/proc/self/fail-nth", W_OK)) {
		skip("this kernel cannot have allocations fail");
		return;
	}
	for (size_t c = 0; c < ARRAY_SIZE(commands); c++) {
		for (int nth = 1; nth < 100; nth++) {
			struct nlmsghdr *nlh = begin(family, commands[c].cmd,
						     commands[c].dump ? NLM_F_DUMP : 0);
			bool hit;
			int err;

			for (unsigned int attr = 1; attr < NR_ATTRS && attr < 64; attr++)
				if (commands[c].takes >> attr & 1)
					put_valid(nlh, attr);
			fail_nth(nth);
			err = send(sock, nlh, nlh->nlmsg_len, 0) < 0 ? errno : 0;
			hit = failed_nth();
			fail_nth(0);
			/* A lost answer is ENOBUFS to whoever waits for it. */
			while (!err) {
				struct pollfd p = { .fd = sock, .events = POLLIN };

				if (poll(&p, 1, 200) < 1)
					break;
				if (recv(sock, reply, sizeof(reply), 0) < 0 && errno != ENOBUFS)
					err = errno;
			}
			/* EFAULT: copies from user space can be made to fail, too. */
			if (err && err != ENOMEM && err != ENOBUFS && err != EFAULT && !wrong++)
				diag("command %u, allocation %d: %s", commands[c].cmd, nth,
				     strerrorname_np(err));
			if (!hit)
				break;
			injected++;
		}
	}
	ok(injected > 10, "allocations failed (%u)", injected);
	is_int(wrong, 0, "and were reported as what they were");
	close(sock);
	sock = open_socket();
	is_int(send_it(begin(family, VMPLAT_NL_CMD_INFO_GET, 0)), 0, "afterwards all is well");
}

static int read_family(void)
{
	struct nlmsghdr *nlh = begin(GENL_ID_CTRL, CTRL_CMD_GETFAMILY, 0);
	const struct nlattr *attr;
	int left;

	mnl_attr_put_strz(nlh, CTRL_ATTR_FAMILY_NAME, VMPLAT_FAMILY_NAME);
	send(sock, nlh, nlh->nlmsg_len, 0);
	left = recv(sock, reply, sizeof(reply), 0);
	nlh = (void *)reply;
	if (!mnl_nlmsg_ok(nlh, left) || nlh->nlmsg_type == NLMSG_ERROR)
		return -1;
	mnl_attr_for_each(attr, nlh, sizeof(struct genlmsghdr))
		if (mnl_attr_get_type(attr) == CTRL_ATTR_FAMILY_ID)
			family = mnl_attr_get_u16(attr);
	recv(sock, reply, sizeof(reply), 0);	/* its ACK */
	return 0;
}

int main(void)
{
	static struct table before, after;
	struct vmplat *dev;

	dev_open();
	device = dev_fd;
	if (vmplat_open(&dev, NULL))
		bail("%s", vmplat_last_error());
	sock = open_socket();
	if (read_family())
		bail("there is no family of that name");
	table_dump(&before, dev, NULL);
	test_header();
	test_each();
	test_each_valid();
	test_vm_nest();
	test_garbage();
	is_int(in_child(nobody), 0, "nobody sees hardware, and VMs by the device's descriptor alone");
	is_int(in_child(nobody_joins), 0, "nobody joins the groups of hardware alone");
	is_int(nr_wordless, 0, "every refusal has a reason in words");
	is_int(nr_silent, 0, "every message has an answer");
	test_failing();
	/* What was accepted were a filter and a VM of these sockets. */
	close(sock);
	table_dump(&after, dev, NULL);
	is_int(table_diff(&before, &after), 0, "nothing has changed");
	diag("%llu messages, %llu accepted", (unsigned long long)nr_sent,
	     (unsigned long long)nr_accepted);
	return done();
}
