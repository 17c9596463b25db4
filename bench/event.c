// SPDX-License-Identifier: GPL-2.0-only
/*
 * Events beside the kernel's uevents and udev.
 *
 * Latency: a PCI function is taken off its bus and found again, over and over, while three programs listen: ours,
 * "udevadm monitor --kernel" and "udevadm monitor --udev", with a udevd that has the distribution's rules. Each notes
 * when it has an event in hand, by CLOCK_MONOTONIC: udevadm prints that in front of each line.
 *
 * Cost: what makes an event and nothing else, and as many listeners as wanted, each of which reads it. The
 * same request without anything new is subtracted.
 */
#include <errno.h>
#include <fcntl.h>
#include <linux/genetlink.h>
#include <linux/netlink.h>
#include <poll.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/prctl.h>
#include <sys/socket.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

#include <libmnl/libmnl.h>

#include "bench.h"

#define NR_PLUGS	100
#define NR_WARM		5
#define NR_COSTS	300
#define MAX_LISTENERS	100

static void write_file(const char *path, const char *text)
{
	int fd = open(path, O_WRONLY | O_CLOEXEC);

	if (fd < 0 || write(fd, text, strlen(text)) < 0)
		die("%s", path);
	close(fd);
}

/* ---- who listens ------------------------------------------------------------- */

/* One PCI function that came or went. */
struct heard {
	uint64_t at_ns;			/* CLOCK_MONOTONIC */
	uint64_t made_ns;		/* the same, when the kernel made the event; ours only */
	uint64_t id;			/* ours only */
	bool added;
};

/* Events have CLOCK_BOOTTIME, which counts the time a machine was suspended. */
static uint64_t boottime_ahead_ns(void)
{
	struct timespec boot;

	clock_gettime(CLOCK_BOOTTIME, &boot);
	return boot.tv_sec * 1000000000ULL + boot.tv_nsec - now_ns();
}

static int on_event(const struct vmplat_event *e, void *data)
{
	struct heard h = { .at_ns = now_ns(), .id = e->id };

	h.made_ns = e->time_ns - boottime_ahead_ns();
	h.added = e->action == VMPLAT_ACTION_ADD;
	if (e->kind != VMPLAT_EVENT_CHANGED || (!h.added && !e->gone))
		return 0;
	return write(*(int *)data, &h, sizeof(h)) != sizeof(h);
}

/* A process, as udevadm is one; the end of its pipe. */
static int listen_ours(pid_t *pid)
{
	struct vmplat_event_filter filter = { .classes = 1 << VMPLAT_CLASS_PCI };
	struct vmplat_events *events;
	int fds[2];

	must(pipe(fds));
	*pid = must(fork());
	if (*pid) {
		struct heard ready;

		close(fds[1]);
		if (read(fds[0], &ready, sizeof(ready)) != sizeof(ready))
			die("our listener");
		return fds[0];
	}
	prctl(PR_SET_PDEATHSIG, SIGKILL);
	if (vmplat_events_open(&events, NULL, &filter, NULL, VMPLAT_EVENTS_F_NEW))
		die("%s", vmplat_last_error());
	if (write(fds[1], &(struct heard) { 0 }, sizeof(struct heard)) < 0)
		_exit(1);
	for (;;) {
		struct pollfd p = { .fd = vmplat_events_fd(events), .events = POLLIN };

		if (vmplat_events_read(events, on_event, &fds[1]) < 0)
			die("%s", vmplat_last_error());
		poll(&p, 1, -1);
	}
}

static FILE *listen_udevadm(pid_t *pid, const char *which)
{
	char line[512];
	int fds[2];
	FILE *f;

	must(pipe(fds));
	*pid = must(fork());
	if (!*pid) {
		prctl(PR_SET_PDEATHSIG, SIGKILL);
		dup2(fds[1], STDOUT_FILENO);
		execlp("udevadm", "udevadm", "monitor", which, "--subsystem-match=pci", (char *)NULL);
		_exit(127);
	}
	close(fds[1]);
	f = fdopen(fds[0], "r");
	/* It says what it will print, then an empty line; it has subscribed by then. */
	do {
		if (!f || !fgets(line, sizeof(line), f))
			die("udevadm monitor %s", which);
	} while (*line != '\n');
	return f;
}

static struct heard hear_ours(int fd, bool added)
{
	struct heard h;

	do {
		if (read(fd, &h, sizeof(h)) != sizeof(h))
			die("our listener ended");
	} while (h.added != added);
	return h;
}

/* "UDEV  [12.345678] add      /devices/... (pci)" */
static struct heard hear_udevadm(FILE *f, bool added)
{
	const char *want = added ? "add" : "remove";
	char line[512], action[16];
	double at;

	do {
		if (!fgets(line, sizeof(line), f))
			die("udevadm ended");
	} while (sscanf(line, "%*[A-Z ][%lf] %15s", &at, action) != 2 || strcmp(action, want));
	return (struct heard) { .at_ns = (uint64_t)(at * 1e9 + 0.5), .added = added };
}

/* ---- latency ------------------------------------------------------------------- */

enum { OURS, KERNEL, UDEV, NR_LISTENERS };
static const char *const names[] = { "ours", "udevadm --kernel", "udevadm --udev" };

static struct {
	double from_plug[NR_LISTENERS][NR_PLUGS], from_event[NR_LISTENERS][NR_PLUGS];
} latency;

static double percentile(double *values, size_t nr, int percent)
{
	median(values, nr);	/* sorts */
	return values[(nr * percent + 99) / 100 - 1];
}

static void plug_card(void)
{
	if (system("selftests/host/qmp device_add '{\"driver\": \"virtio-rng-pci\", \"id\": \"bench\", \"bus\": \"rp1\"}'"))
		die("qmp device_add");
}

/* Needs the rest of the machine to be as on any: udevd, started as at boot. */
static void start_udevd(void)
{
	if (system("mkdir -p /run/udev && /lib/systemd/systemd-udevd --daemon 2>/dev/null && udevadm settle"))
		die("systemd-udevd does not start");
}

static void measure_latency(void)
{
	pid_t pids[NR_LISTENERS];
	char remove[80], rescan[80];
	struct heard h[NR_LISTENERS];
	FILE *kernel, *udev;
	int ours;

	start_udevd();
	ours = listen_ours(&pids[OURS]);
	kernel = listen_udevadm(&pids[KERNEL], "--kernel");
	udev = listen_udevadm(&pids[UDEV], "--udev");
	plug_card();
	h[UDEV] = hear_udevadm(udev, true);
	h[KERNEL] = hear_udevadm(kernel, true);
	h[OURS] = hear_ours(ours, true);
	snprintf(remove, sizeof(remove), "/sys/bus/pci/devices/%04x:%02x:%02x.%x/remove",
		 (int)(h[OURS].id >> 16), (int)(h[OURS].id >> 8 & 0xff),
		 (int)(h[OURS].id >> 3 & 0x1f), (int)(h[OURS].id & 7));
	snprintf(rescan, sizeof(rescan), "/sys/class/pci_bus/%04x:%02x/rescan",
		 (int)(h[OURS].id >> 16), (int)(h[OURS].id >> 8 & 0xff));
	for (int i = -NR_WARM; i < NR_PLUGS; i++) {
		uint64_t begin;

		write_file(remove, "1");
		hear_udevadm(udev, false);
		hear_udevadm(kernel, false);
		hear_ours(ours, false);
		usleep(20000);	/* what comes of it is over */
		begin = now_ns();
		write_file(rescan, "1");
		h[UDEV] = hear_udevadm(udev, true);
		h[KERNEL] = hear_udevadm(kernel, true);
		h[OURS] = hear_ours(ours, true);
		usleep(20000);
		for (int w = 0; w < NR_LISTENERS && i >= 0; w++) {
			latency.from_plug[w][i] = (h[w].at_ns - begin) / 1e3;
			latency.from_event[w][i] = ((double)h[w].at_ns - h[OURS].made_ns) / 1e3;
		}
	}
	for (int w = 0; w < NR_LISTENERS; w++) {
		kill(pids[w], SIGKILL);
		waitpid(pids[w], NULL, 0);
		note("%s: from plug p50 %.0f us, p99 %.0f us; since the kernel's event p50 %.0f us, p99 %.0f us",
		     names[w], percentile(latency.from_plug[w], NR_PLUGS, 50),
		     percentile(latency.from_plug[w], NR_PLUGS, 99),
		     percentile(latency.from_event[w], NR_PLUGS, 50),
		     percentile(latency.from_event[w], NR_PLUGS, 99));
	}
	if (system("udevadm control --exit"))
		note("udevd does not end");
}

static void latency_vs_udev(const char *name)
{
	measure_latency();
	report(name, percentile(latency.from_event[OURS], NR_PLUGS, 50),
	       percentile(latency.from_event[UDEV], NR_PLUGS, 50), "us", LESS);
}

/* ---- cost ------------------------------------------------------------------------ */

/* What makes an event, and the same request that makes none. */
struct trigger {
	void (*event)(void);
	void (*nothing)(void);
};

static struct vmplat_report *vm;
static int uevent_fd, other_fd;

static void report_change(void)
{
	static bool paused;

	paused = !paused;
	must(vmplat_report_state(vm, paused ? VMPLAT_VM_STATE_PAUSED : VMPLAT_VM_STATE_RUNNING));
}

static void report_nothing(void)
{
	must(vmplat_report_mems(vm, NULL, 0));
}

static void uevent_change(void)
{
	must(pwrite(uevent_fd, "change", 6, 0));
}

static void uevent_nothing(void)
{
	must(pwrite(other_fd, "on", 2, 0));
}

static const struct trigger ours = { report_change, report_nothing };
static const struct trigger uevent = { uevent_change, uevent_nothing };

static void open_triggers(void)
{
	if (vm)
		return;
	if (vmplat_report_new(&vm, device(), "bench", VMPLAT_VM_STATE_RUNNING, NULL, 0))
		die("%s", vmplat_last_error());
	uevent_fd = must(open("/sys/class/mem/null/uevent", O_WRONLY | O_CLOEXEC));
	other_fd = must(open("/sys/class/mem/null/power/control", O_WRONLY | O_CLOEXEC));
}

static int netlink_socket(int protocol, unsigned int group)
{
	struct sockaddr_nl addr = { .nl_family = AF_NETLINK };
	int fd = must(socket(AF_NETLINK, SOCK_RAW | SOCK_CLOEXEC, protocol));

	must(bind(fd, (struct sockaddr *)&addr, sizeof(addr)));
	must(setsockopt(fd, SOL_NETLINK, NETLINK_ADD_MEMBERSHIP, &group, sizeof(group)));
	return fd;
}

static int listen_uevents(void)
{
	return netlink_socket(NETLINK_KOBJECT_UEVENT, 1);
}

/* The number of the group "vm". */
static unsigned int vm_group(void)
{
	struct mnl_socket *nl = mnl_socket_open(NETLINK_GENERIC);
	const struct nlattr *attr, *group, *part;
	unsigned int number = 0, id = 0;
	char buf[8192];
	struct nlmsghdr *nlh = mnl_nlmsg_put_header(buf);
	struct genlmsghdr *genl;

	nlh->nlmsg_type = GENL_ID_CTRL;
	nlh->nlmsg_flags = NLM_F_REQUEST;
	genl = mnl_nlmsg_put_extra_header(nlh, sizeof(*genl));
	genl->cmd = CTRL_CMD_GETFAMILY;
	mnl_attr_put_strz(nlh, CTRL_ATTR_FAMILY_NAME, VMPLAT_FAMILY_NAME);
	if (!nl || mnl_socket_sendto(nl, nlh, nlh->nlmsg_len) < 0 ||
	    mnl_socket_recvfrom(nl, buf, sizeof(buf)) < 0)
		die("nlctrl");
	mnl_attr_for_each(attr, nlh, sizeof(*genl)) {
		if (mnl_attr_get_type(attr) != CTRL_ATTR_MCAST_GROUPS)
			continue;
		mnl_attr_for_each_nested(group, attr) {
			bool right = false;

			mnl_attr_for_each_nested(part, group) {
				if (mnl_attr_get_type(part) == CTRL_ATTR_MCAST_GRP_ID)
					id = mnl_attr_get_u32(part);
				else if (mnl_attr_get_type(part) == CTRL_ATTR_MCAST_GRP_NAME)
					right = !strcmp(mnl_attr_get_str(part), VMPLAT_MCGRP_VM);
			}
			if (right)
				number = id;
		}
	}
	mnl_socket_close(nl);
	return number;
}

static int listen_group(void)
{
	return netlink_socket(NETLINK_GENERIC, vm_group());
}

/* As libvmplat listens. Its handle stays open until the process ends. */
static int listen_filter(void)
{
	struct vmplat_event_filter filter = { .classes = 1 << VMPLAT_CLASS_VM };
	struct vmplat_events *events;

	if (vmplat_events_open(&events, device(), &filter, NULL, VMPLAT_EVENTS_F_NEW))
		die("%s", vmplat_last_error());
	return vmplat_events_fd(events);
}

/* ns for one call of @fn, and for each of @fds to read what comes of it */
static double time_of(void (*fn)(void), const int *fds, size_t nr)
{
	static char buf[8192];
	uint64_t begin = now_ns();

	for (int i = 0; i < NR_COSTS; i++) {
		fn();
		for (size_t k = 0; k < nr; k++)
			must(recv(fds[k], buf, sizeof(buf), 0));
	}
	/* Without listeners nobody waits for what happens behind a call. */
	if (!nr)
		usleep(1000);
	return (double)(now_ns() - begin - (nr ? 0 : 1000000)) / NR_COSTS;
}

static double cost(const struct trigger *t, int (*listen)(void), size_t nr)
{
	double with, without;
	int fds[MAX_LISTENERS];
	pid_t pid;
	int p[2];

	/* In a process of its own: its listeners go with it. */
	must(pipe(p));
	pid = must(fork());
	if (!pid) {
		for (size_t i = 0; i < nr; i++)
			fds[i] = listen();
		time_of(t->event, fds, nr);	/* warm */
		without = time_of(t->nothing, NULL, 0);
		with = time_of(t->event, fds, nr) - without;
		_exit(write(p[1], &with, sizeof(with)) != sizeof(with));
	}
	close(p[1]);
	if (read(p[0], &with, sizeof(with)) != sizeof(with))
		die("a measuring process ended");
	close(p[0]);
	waitpid(pid, NULL, 0);
	return with;
}

static void report_cost(const char *name, size_t nr)
{
	double group, peer;

	open_triggers();
	group = cost(&ours, listen_group, nr);
	peer = cost(&uevent, listen_uevents, nr);
	if (nr)
		note("%s: behind filters, as libvmplat listens: %.0f ns", name, cost(&ours, listen_filter, nr));
	report(name, group, peer, "ns", LESS);
}

static void cost_0(const char *name)
{
	report_cost(name, 0);
}

static void cost_1(const char *name)
{
	report_cost(name, 1);
}

static void cost_100(const char *name)
{
	report_cost(name, MAX_LISTENERS);
}

int main(int argc, char **argv)
{
	static const struct bench benches[] = {
		{ "event-latency-vs-udev", latency_vs_udev },
		{ "event-cost-0", cost_0 },
		{ "event-cost-1", cost_1 },
		{ "event-cost-100", cost_100 },
	};

	return bench_main(argc, argv, benches, sizeof(benches) / sizeof(benches[0]));
}
