// SPDX-License-Identifier: LGPL-2.1-or-later
/*
 * Hostile snapshots. The input is a list of patches on a snapshot and its parent
 * that are right: which file, where, and which bytes; no bytes cut the file there.
 * Checksums are not compared in this build, so that every parser is reached. What
 * comes out is opened, listed, read, verified, and built upon.
 */
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <unistd.h>

#include "store/internal.h"

#define IMAGE_BYTES	(100 * STORE_PAGE_BYTES + 50)
#define PER_SNAP	5
#define NR_FILES	(2 * PER_SNAP)

int LLVMFuzzerInitialize(int *argc, char ***argv);
int LLVMFuzzerTestOneInput(const uint8_t *in, size_t len);

static const char *const names[] = { "manifest.json", "memory.index", "memory.data", "state",
				     "ancestors" };
static struct store *st;
static char inc_id[STORE_ID_CHARS + 1];
static struct file {
	char path[512];
	uint8_t *good;
	size_t len;
} files[NR_FILES];
static int source;

static void must(int err)
{
	if (err < 0) {
		fprintf(stderr, "%s\n", store_error());
		abort();
	}
}

static int write_snap(const char *name, const char *parent, enum store_source kind)
{
	struct store_create_opts o = { .name = name, .parent = parent, .threads = 1,
				       .codec = parent ? STORE_CODEC_LZ4 : STORE_CODEC_ZSTD };
	struct store_add_opts a = { .source = kind };
	struct store_writer *w;
	int err;

	err = store_create(&w, st, &o);
	if (err)
		return err;
	err = store_add_image(w, "memory", source, &a);
	if (!err)
		err = store_set_state(w, "state", 5);
	if (!err)
		return store_commit(w);
	store_abort(w);
	return err;
}

static void scribble(unsigned int seed)
{
	uint8_t page[STORE_PAGE_BYTES];

	for (unsigned int p = 0; p < 100; p += 1 + seed % 3 + p % 5) {
		for (unsigned int i = 0; i < sizeof(page); i++)
			page[i] = p % 7 ? i / (seed + 3) : 0;
		must(pwrite(source, page, sizeof(page), p * sizeof(page)));
	}
}

static void remember(const char *name, struct file *f)
{
	char hex[STORE_ID_CHARS + 1];
	struct store_snap *snap;

	must(store_snap_open(&snap, st, name));
	store_id_to_hex(store_snap_info(snap)->id, hex);
	memcpy(inc_id, hex, sizeof(hex));
	store_snap_close(snap);
	for (int i = 0; i < PER_SNAP; i++) {
		int fd;

		snprintf(f[i].path, sizeof(f[i].path), "%s/%s/%s", store_path(st), hex, names[i]);
		fd = open(f[i].path, O_RDONLY);
		must(fd);
		f[i].len = lseek(fd, 0, SEEK_END);
		f[i].good = malloc(f[i].len + 1);
		must(pread(fd, f[i].good, f[i].len, 0));
		close(fd);
	}
}

static void sweep(void)
{
	char cmd[600];

	snprintf(cmd, sizeof(cmd), "rm -rf '%s'", store_path(st));
	if (system(cmd))
		perror("rm");
}

int LLVMFuzzerInitialize(int *argc, char ***argv)
{
	char dir[] = "/dev/shm/vmplat-fuzz-XXXXXX";

	if (!mkdtemp(dir))
		abort();
	must(store_open(&st, dir, 0));
	atexit(sweep);
	source = memfd_create("source", 0);
	must(ftruncate(source, IMAGE_BYTES));
	scribble(1);
	must(write_snap("full", NULL, STORE_SRC_FULL));
	remember("full", files);
	scribble(2);
	must(write_snap("inc", "full", STORE_SRC_COMPARE));
	remember("inc", files + PER_SNAP);
	return 0;
}

static void put(const struct file *f, const uint8_t *buf, size_t len)
{
	int fd = open(f->path, O_WRONLY | O_TRUNC | O_CREAT, 0600);

	must(fd);
	must(write(fd, buf, len));
	close(fd);
}

/* One file's patches; returns whether there were any. */
static bool patch(int nr, const uint8_t *in, size_t len)
{
	struct file *f = files + nr;
	uint8_t *buf = NULL;
	size_t file_len = f->len;

	while (len >= 4) {
		size_t at = in[1] | in[2] << 8, n = in[3] % 17;

		if (n > len - 4)
			n = len - 4;
		if (in[0] % NR_FILES == nr && file_len) {
			if (!buf) {
				buf = malloc(f->len);
				memcpy(buf, f->good, f->len);
			}
			at %= file_len;
			if (!n)
				file_len = at;
			else
				memcpy(buf + at, in + 4, n < file_len - at ? n : file_len - at);
		}
		in += 4 + n;
		len -= 4 + n;
	}
	if (!buf)
		return false;
	put(f, buf, file_len);
	free(buf);
	return true;
}

static void look(struct store_snap *snap)
{
	struct store_image *img = store_image(snap, "memory");
	static uint8_t buf[IMAGE_BYTES + 5000];
	struct store_extent e;
	uint64_t off = 0;
	void *state;
	size_t len;

	if (!store_state(snap, &state, &len))
		free(state);
	store_verify(snap, NULL);
	if (!img)
		return;
	for (int i = 0; i < 1000 && store_extent(img, off, &e) == 1; i++)
		off = e.off + e.len;
	for (off = 0; store_around(img, off, &e) == 1; off = e.off + e.len)
		if (e.off != off || !e.len || (e.kind == STORE_DATA && e.len > STORE_AROUND_MAX))
			abort();
	len = store_image_bytes(img) < sizeof(buf) ? store_image_bytes(img) : sizeof(buf);
	for (off = 0; off < len; off += 7777)
		store_read(img, buf, off, len - off < 9000 ? len - off : 9000);
	store_read(img, buf, 0, len);
}

int LLVMFuzzerTestOneInput(const uint8_t *in, size_t len)
{
	struct store_snap *snap;
	struct store_info *list;
	bool dirty[NR_FILES];
	size_t nr;

	for (int i = 0; i < NR_FILES; i++)
		dirty[i] = patch(i, in, len);
	if (!store_list(st, &list, &nr, NULL, NULL))
		store_list_free(list, nr);
	if (!store_snap_open(&snap, st, inc_id)) {
		look(snap);
		store_snap_close(snap);
		if (!write_snap("more", inc_id, len % 2 ? STORE_SRC_COMPARE : STORE_SRC_INCREMENT))
			store_remove(st, "more");
	}
	for (int i = 0; i < NR_FILES; i++)
		if (dirty[i])
			put(files + i, files[i].good, files[i].len);
	return 0;
}
