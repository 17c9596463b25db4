// SPDX-License-Identifier: GPL-2.0-only
/*
 * Events only wake: what there is to do is looked up in sysfs each time. So it does not
 * matter whether an event is told twice, is told late, or was lost, as long as something
 * wakes after it: libvmplat fetches again what was lost or tells everything anew.
 *
 * The module has no events of memory blocks that are offline, as the kernel tells
 * modules nothing of them. For these there are the kernel's uevents; they cannot be
 * fetched again, but that some were lost is said (ENOBUFS).
 */
#include <errno.h>
#include <linux/netlink.h>
#include <poll.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <unistd.h>

#include <vmplat.h>

#include "plug.h"

#define HARDWARE	(1u << VMPLAT_CLASS_CPU | 1u << VMPLAT_CLASS_MEMORY |	\
			 1u << VMPLAT_CLASS_PCI | 1u << VMPLAT_CLASS_NET)
#define UEVENT_GROUP	1u	/* of the kernel; udev's is another */

struct plug_follow {
	struct vmplat_events *events;
	int uevents;
	bool begun;
};

static int open_uevents(void)
{
	struct sockaddr_nl sa = { .nl_family = AF_NETLINK, .nl_groups = UEVENT_GROUP };
	int fd = socket(AF_NETLINK, SOCK_RAW | SOCK_CLOEXEC | SOCK_NONBLOCK, NETLINK_KOBJECT_UEVENT);

	if (fd >= 0 && !bind(fd, (struct sockaddr *)&sa, sizeof(sa)))
		return fd;
	plug_fail(-errno, "cannot listen for uevents: %s", strerror(errno));
	if (fd >= 0)
		close(fd);
	return -1;
}

/* VMs too, whose start may be what a network device waits for, if we may know of them. */
static int open_events(struct vmplat_events **events)
{
	struct vmplat_event_filter filter = { .classes = HARDWARE | 1u << VMPLAT_CLASS_VM };
	int err = vmplat_events_open(events, NULL, &filter, NULL, 0);

	if (err == -EPERM || err == -EACCES) {
		filter.classes = HARDWARE;
		err = vmplat_events_open(events, NULL, &filter, NULL, 0);
	}
	if (err == -ENOENT)
		return plug_fail(err, "the module vmplat, which tells of events, is not loaded; 'modprobe vmplat' loads it");
	return err ? plug_fail(err, "events: %s", vmplat_last_error()) : 0;
}

int plug_follow_open(struct plug_follow **out)
{
	struct plug_follow *f = calloc(1, sizeof(*f));
	int err;

	*out = NULL;
	if (!f)
		return plug_fail(-ENOMEM, "out of memory");
	f->uevents = open_uevents();
	err = f->uevents < 0 ? -EIO : open_events(&f->events);
	if (err) {
		plug_follow_close(f);
		return err;
	}
	*out = f;
	return 0;
}

void plug_follow_close(struct plug_follow *f)
{
	if (!f)
		return;
	vmplat_events_close(f->events);
	if (f->uevents >= 0)
		close(f->uevents);
	free(f);
}

static int on_event(const struct vmplat_event *e, void *data)
{
	return 0;
}

static bool concerns_us(const char *msg, size_t len)
{
	static const char *const ours[] = {
		"SUBSYSTEM=memory", "SUBSYSTEM=cpu", "SUBSYSTEM=pci", "SUBSYSTEM=net",
	};

	for (const char *s = msg; s < msg + len; s += strlen(s) + 1)
		for (size_t i = 0; i < sizeof(ours) / sizeof(ours[0]); i++)
			if (!strcmp(s, ours[i]))
				return true;
	return false;
}

/* All that is there; is there one for us, or one lost? */
static bool read_uevents(int fd)
{
	bool found = false;
	char buf[8192];

	for (;;) {
		ssize_t n = recv(fd, buf, sizeof(buf) - 1, 0);

		if (n < 0 && errno == EINTR)
			continue;
		if (n < 0 && errno == ENOBUFS) {
			found = true;
			continue;
		}
		if (n < 0)
			return found;
		buf[n] = '\0';
		found = found || concerns_us(buf, (size_t)n);
	}
}

int plug_follow_wait(struct plug_follow *f, const sigset_t *unblocked)
{
	struct pollfd p[] = {
		{ vmplat_events_fd(f->events), POLLIN, 0 }, { f->uevents, POLLIN, 0 },
	};

	for (;;) {
		bool woken = read_uevents(f->uevents) || !f->begun;
		int n = vmplat_events_read(f->events, on_event, NULL);

		if (n < 0)
			return plug_fail(n, "events: %s", vmplat_last_error());
		f->begun = true;
		if (n || woken)
			return 1;
		if (ppoll(p, 2, NULL, unblocked) < 0)
			return errno == EINTR ? 0 : plug_fail(-errno, "poll: %s", strerror(errno));
	}
}
