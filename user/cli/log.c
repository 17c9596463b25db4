// SPDX-License-Identifier: GPL-2.0-only
/* vmplat log: how much of a memory file is being written. */
#include <errno.h>
#include <fcntl.h>
#include <getopt.h>
#include <inttypes.h>
#include <signal.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>
#include <unistd.h>

#include <json-c/json.h>
#include <vmplat.h>
#include <vmplat_clock.h>

#include "cli.h"

static const char help_watch[] =
"usage: vmplat log watch [--interval SECONDS] [--count N] [--json] FILE\n"
"\n"
"Print, each interval, how many pages of the memory FILE were written during it.\n"
"Other logs and snapshots of the same memory are not disturbed. A page written\n"
"many times within an interval counts once: this is what the next increment or\n"
"migration pass would have to copy. Ctrl-C ends it.\n"
"\n"
"Of a pinnable memory some pages may be reported unsure: a device, a pin or KVM could\n"
"have written them unseen. They have to be copied as well, but say nothing of the rate.\n"
"\n"
"  -i, --interval SECONDS   default 1\n"
"  -n, --count N            stop after N intervals\n"
"      --json               one JSON object a line\n";

static volatile sig_atomic_t stop;

static void on_signal(int sig)
{
	stop = 1;
}

struct watch {
	struct vmplat_log *log;
	uint64_t nr_pages;
	uint64_t page_bytes;
	struct vmplat_timer *timer;
	bool json;
};

static void report(const struct watch *w, uint64_t dirty, double secs)
{
	char total[CLI_NUM_LEN], rate[CLI_NUM_LEN];
	uint64_t bytes = dirty * w->page_bytes, unsure = vmplat_log_unsure(w->log);

	if (w->json) {
		printf("{\"seconds\":%.3f,\"dirty_pages\":%" PRIu64 ",\"unsure_pages\":%" PRIu64
		       ",\"dirty_bytes\":%" PRIu64 ",\"bytes_per_second\":%.0f}\n", secs, dirty,
		       unsure, bytes, bytes / secs);
	} else {
		printf("%10" PRIu64 " pages  %10s  %5.1f %%  %10s/s", dirty,
		       cli_show_bytes(bytes, total), 100.0 * dirty / w->nr_pages,
		       cli_show_bytes(bytes / secs, rate));
		if (unsure)
			printf("  %" PRIu64 " unsure", unsure);
		putchar('\n');
	}
	fflush(stdout);
}

static int watch(struct watch *w, uint64_t count)
{
	uint64_t last = vmplat_now_ns(), now;
	int64_t dirty;

	for (uint64_t i = 0; !stop && (!count || i < count); i++) {
		int64_t ret = vmplat_timer_wait(w->timer, UINT64_MAX);

		if (ret < 0 && ret != -EINTR)
			return cli_fail("%s", vmplat_last_error());
		dirty = vmplat_log_take(w->log);
		if (dirty < 0)
			return cli_fail("%s", vmplat_last_error());
		now = vmplat_now_ns();
		if (now > last)
			report(w, dirty, (now - last) / 1e9);
		last = now;
	}
	return CLI_OK;
}

static int watch_file(const char *path, uint64_t interval_ns, uint64_t count, bool json)
{
	struct sigaction sa = { .sa_handler = on_signal };
	struct watch w = { .json = json };
	struct vmplat_mem *mem = NULL;
	struct vmplat *dev;
	int fd, rc;

	rc = cli_open_device(&dev);
	if (rc)
		return rc;
	rc = CLI_FAILED;
	fd = open(path, O_RDONLY | O_CLOEXEC);
	if (fd < 0) {
		cli_fail("%s: %s", path, strerror(errno));
		goto close_dev;
	}
	if (vmplat_mem_from_fd(&mem, dev, fd)) {
		cli_fail("%s: not a memory file (not on a vmplatfs)", path);
		goto close_fd;
	}
	w.page_bytes = vmplat_page_bytes(dev);
	w.nr_pages = vmplat_mem_bytes(mem) / w.page_bytes;
	if (!w.nr_pages) {
		cli_fail("%s: it is empty, nothing can be written to it", path);
		goto close_mem;
	}
	if (vmplat_log_new(&w.log, dev, mem, 0, 0)) {
		cli_fail("%s: %s", path, vmplat_last_error());
		goto close_mem;
	}
	sigaction(SIGINT, &sa, NULL);
	sigaction(SIGTERM, &sa, NULL);
	if (vmplat_timer_new(&w.timer, CLOCK_MONOTONIC) || vmplat_timer_every(w.timer, interval_ns))
		cli_fail("%s", vmplat_last_error());
	else
		rc = watch(&w, count);
	vmplat_timer_close(w.timer);
	vmplat_log_close(w.log);
close_mem:
	vmplat_mem_close(mem);
close_fd:
	close(fd);
close_dev:
	vmplat_close(dev);
	return rc;
}

static int log_watch(int argc, char **argv)
{
	static const struct option options[] = {
		{ "interval", required_argument, NULL, 'i' },
		{ "count", required_argument, NULL, 'n' },
		{ "json", no_argument, NULL, 'j' },
		{ "help", no_argument, NULL, 'h' },
		{ }
	};
	double interval = 1;
	uint64_t count = 0;
	bool json = false;
	char *end;
	int opt, rc;

	opterr = 0;
	while ((opt = getopt_long(argc, argv, ":i:n:h", options, NULL)) != -1) {
		switch (opt) {
		case 'i':
			interval = strtod(optarg, &end);
			if (*end || end == optarg || !(interval >= 0.001 && interval <= 86400))
				return cli_usage("log watch", "--interval: '%s' is not between "
						 "0.001 and 86400 seconds", optarg);
			break;
		case 'n':
			rc = cli_parse_u64("log watch", "--count", optarg, 1, UINT64_MAX, &count);
			if (rc)
				return rc;
			break;
		case 'j':
			json = true;
			break;
		case 'h':
			return cli_help(help_watch);
		default:
			return cli_bad_option("log watch", opt, argv);
		}
	}
	if (argc - optind != 1)
		return cli_usage("log watch", "one FILE is needed, %d given", argc - optind);
	return watch_file(argv[optind], interval * 1e9, count, json);
}

int cmd_log(int argc, char **argv)
{
	static const struct cli_command verbs[] = {
		{ "watch",	"print how fast a memory file is written",	log_watch },
		{ }
	};

	return cli_dispatch("vmplat log", "usage: vmplat log VERB [ARGUMENT...]\n", verbs,
			    argc, argv);
}
