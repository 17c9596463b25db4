// SPDX-License-Identifier: GPL-2.0-only
/* vmplat view: copy one instant of memory files while they are in use. */
#include <errno.h>
#include <fcntl.h>
#include <getopt.h>
#include <inttypes.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include <json-c/json.h>
#include <vmplat.h>

#include "cli.h"

static const char help[] =
"usage: vmplat view [--side SIZE] [--block] [--json] -o OUT FILE...\n"
"\n"
"Freeze the memory FILEs, all at one instant, and copy that instant to OUT, one\n"
"after the other, while whoever uses them goes on writing. OUT is sparse: what\n"
"was never allocated is a hole. OUT must not exist, and exists only if the copy\n"
"is complete and on disk.\n"
"\n"
"  -o, --output OUT   where to\n"
"      --side SIZE    most memory to spend on pages that are written before they\n"
"                     are copied; default: no limit. Beyond it the copy fails,\n"
"      --block        or, with --block, writers wait\n"
"      --json         print what happened as a JSON object\n";

#define CHUNK (1U << 20)

struct copy {
	struct vmplat_view *view;
	uint64_t page_bytes;
	int out;
	const char *path;
	void *buf;
	uint64_t data_bytes;
	struct cli_progress progress;
};

static int write_all(struct copy *c, size_t len, off_t at)
{
	for (size_t done = 0; done < len;) {
		ssize_t n = pwrite(c->out, (char *)c->buf + done, len - done, at + done);

		if (n < 0 && errno == EINTR)
			continue;
		if (n <= 0)
			return cli_fail("%s: cannot write %zu bytes at %lld: %s", c->path,
					len - done, (long long)(at + done),
					n ? strerror(errno) : "nothing was written");
		done += n;
	}
	return CLI_OK;
}

/* Copy bytes [at, end) and tell the view that nobody needs them any more. */
static int copy_extent(struct copy *c, off_t at, off_t end)
{
	while (at < end) {
		size_t want = end - at < CHUNK ? end - at : CHUNK;
		ssize_t n = pread(vmplat_view_fd(c->view), c->buf, want, at);
		int rc;

		if (n < 0 && errno == EINTR)
			continue;
		if (n < 0 && errno == ENODATA)
			return cli_fail("the view broke at byte %lld: its pages were written faster "
					"than copied; allow more with --side, or make writers wait "
					"with --block", (long long)at);
		if (n <= 0)
			return cli_fail("cannot read the view at byte %lld: %s", (long long)at,
					n ? strerror(errno) : "it ends there");
		rc = write_all(c, n, at);
		if (rc)
			return rc;
		if (vmplat_view_discard(c->view, at / c->page_bytes, n / c->page_bytes))
			return cli_fail("%s", vmplat_last_error());
		at += n;
		c->data_bytes += n;
		cli_progress_set(&c->progress, at);
	}
	return CLI_OK;
}

static int discard_hole(struct copy *c, off_t at, off_t end)
{
	if (at < end && vmplat_view_discard(c->view, at / c->page_bytes,
					    (end - at) / c->page_bytes))
		return cli_fail("%s", vmplat_last_error());
	return CLI_OK;
}

static int copy_view(struct copy *c)
{
	off_t end = vmplat_view_bytes(c->view), at = 0;
	int fd = vmplat_view_fd(c->view), rc = CLI_OK;

	while (at < end && !rc) {
		off_t data = lseek(fd, at, SEEK_DATA), hole = end;

		if (data < 0 && errno != ENXIO)
			return cli_fail("cannot find data in the view from byte %lld: %s",
					(long long)at, strerror(errno));
		if (data < 0)
			data = end;
		else
			hole = lseek(fd, data, SEEK_HOLE);
		if (hole < 0)
			return cli_fail("cannot find a hole in the view from byte %lld: %s",
					(long long)data, strerror(errno));
		rc = discard_hole(c, at, data);
		if (!rc)
			rc = copy_extent(c, data, hole);
		at = hole;
	}
	if (!rc)
		cli_progress_set(&c->progress, end);
	if (!rc && (ftruncate(c->out, end) || fsync(c->out)))
		rc = cli_fail("%s: cannot finish: %s", c->path, strerror(errno));
	return rc;
}

static int report(struct copy *c, bool json)
{
	char data[CLI_NUM_LEN], blocked[CLI_NUM_LEN], side[CLI_NUM_LEN];
	struct vmplat_view_status st;
	struct json_object *o;

	if (vmplat_view_query(c->view, &st))
		return cli_fail("%s", vmplat_last_error());
	if (!json) {
		printf("%s: %s of data; writers waited %s for the freeze; %s of side memory at most\n",
		       c->path, cli_show_bytes(c->data_bytes, data),
		       cli_show_ns(st.out_blocked_ns, blocked),
		       cli_show_bytes(st.out_side_peak_bytes, side));
		return CLI_OK;
	}
	o = json_object_new_object();
	json_object_object_add(o, "output", json_object_new_string(c->path));
	json_object_object_add(o, "bytes", json_object_new_uint64(st.out_bytes));
	json_object_object_add(o, "data_bytes", json_object_new_uint64(c->data_bytes));
	json_object_object_add(o, "blocked_ns", json_object_new_uint64(st.out_blocked_ns));
	json_object_object_add(o, "copied_pages", json_object_new_uint64(st.out_nr_copied));
	json_object_object_add(o, "side_peak_bytes",
			       json_object_new_uint64(st.out_side_peak_bytes));
	json_object_object_add(o, "wait_ns", json_object_new_uint64(st.out_wait_ns));
	return cli_json(o);
}

/* To make writers wait takes the right to write. */
static int open_mems(struct vmplat *dev, char **paths, size_t nr, uint32_t flags,
		     struct vmplat_freeze_mem *mems)
{
	for (size_t i = 0; i < nr; i++) {
		int mode = flags & VMPLAT_VIEW_F_BLOCK ? O_RDWR : O_RDONLY;
		int fd = open(paths[i], mode | O_CLOEXEC), rc;

		if (fd < 0)
			return cli_fail("%s: %s", paths[i], strerror(errno));
		rc = vmplat_mem_from_fd(&mems[i].mem, dev, fd);
		close(fd);
		if (rc)
			return cli_fail("%s: not a memory file (not on a vmplatfs)", paths[i]);
	}
	return CLI_OK;
}

static int freeze_and_copy(struct copy *c, char **paths, size_t nr, uint32_t flags,
			   uint64_t side, bool json)
{
	struct vmplat_freeze_mem mems[VMPLAT_VIEW_MAX_MEMS] = { };
	struct vmplat *dev;
	int rc;

	rc = cli_open_device(&dev);
	if (rc)
		return rc;
	rc = open_mems(dev, paths, nr, flags, mems);
	if (rc)
		goto close_mems;
	c->page_bytes = vmplat_page_bytes(dev);
	if (vmplat_freeze(&c->view, dev, mems, nr, flags, side)) {
		rc = cli_fail("%s", vmplat_last_error());
		goto close_mems;
	}
	cli_progress_start(&c->progress, c->path, vmplat_view_bytes(c->view));
	rc = copy_view(c);
	cli_progress_end(&c->progress, !rc);
	if (!rc)
		rc = report(c, json);
	vmplat_view_close(c->view);
close_mems:
	for (size_t i = 0; i < nr; i++)
		vmplat_mem_close(mems[i].mem);
	vmplat_close(dev);
	return rc;
}

static int view_to(const char *path, char **paths, size_t nr, uint32_t flags, uint64_t side,
		   bool json)
{
	struct copy c = { .path = path, .out = -1 };
	int rc;

	c.buf = aligned_alloc(4096, CHUNK);
	if (!c.buf)
		return cli_fail("out of memory");
	c.out = open(path, O_WRONLY | O_CREAT | O_EXCL | O_CLOEXEC, 0600);
	if (c.out < 0) {
		rc = cli_fail("%s: cannot create: %s", path, strerror(errno));
	} else {
		rc = freeze_and_copy(&c, paths, nr, flags, side, json);
		close(c.out);
		if (rc)
			unlink(path);
	}
	free(c.buf);
	return rc;
}

int cmd_view(int argc, char **argv)
{
	static const struct option options[] = {
		{ "output", required_argument, NULL, 'o' },
		{ "side", required_argument, NULL, 's' },
		{ "block", no_argument, NULL, 'b' },
		{ "json", no_argument, NULL, 'j' },
		{ "help", no_argument, NULL, 'h' },
		{ }
	};
	const char *out = NULL;
	uint32_t flags = 0;
	uint64_t side = 0;
	bool json = false;
	int opt, rc, nr;

	opterr = 0;
	while ((opt = getopt_long(argc, argv, ":o:h", options, NULL)) != -1) {
		switch (opt) {
		case 'o':
			out = optarg;
			break;
		case 's':
			rc = cli_parse_size("view", "--side", optarg, &side);
			if (rc)
				return rc;
			break;
		case 'b':
			flags |= VMPLAT_VIEW_F_BLOCK;
			break;
		case 'j':
			json = true;
			break;
		case 'h':
			return cli_help(help);
		default:
			return cli_bad_option("view", opt, argv);
		}
	}
	nr = argc - optind;
	if (!out)
		return cli_usage("view", "-o OUT is missing");
	if (nr < 1 || nr > VMPLAT_VIEW_MAX_MEMS)
		return cli_usage("view", "between 1 and %d FILEs are needed, %d given",
				 VMPLAT_VIEW_MAX_MEMS, nr);
	return view_to(out, argv + optind, nr, flags, side, json);
}
