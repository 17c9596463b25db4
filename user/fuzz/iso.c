// SPDX-License-Identifier: LGPL-2.1-or-later
/*
 * Hostile discs. The input picks one of the images that the unit tests are made with, and
 * is a list of patches on it: where, and which bytes; no bytes cut the image there. Then
 * everything is asked of it: descriptors, all trees, contents, boot entries, a check.
 */
#include <sys/stat.h>

#include "tests/iso_image.h"

int LLVMFuzzerInitialize(int *argc, char ***argv);
int LLVMFuzzerTestOneInput(const uint8_t *in, size_t len);

#define NR_DISCS 6
#define READ_MAX (1u << 20)

static struct disc discs[NR_DISCS];
static uint8_t *work;
static size_t work_bytes;
static int fd;

int LLVMFuzzerInitialize(int *argc, char ***argv)
{
	struct fat_volume fat;

	discs[0] = iso_disc();
	for (int i = 1; i < 5; i++)
		discs[i] = udf_disc(i - 1);
	discs[5] = fat_disc(32, &fat);
	for (int i = 0; i < NR_DISCS; i++)
		if (discs[i].bytes > work_bytes)
			work_bytes = discs[i].bytes;
	work = malloc(work_bytes);
	fd = memfd_create("disc", MFD_CLOEXEC);
	return work && fd >= 0 ? 0 : 1;
}

/* CRCs would keep nearly all patches from the parsers: set them right again. */
static void mend_tags(uint8_t *p, size_t bytes)
{
	for (size_t at = 0; at + SECT <= bytes; at += SECT) {
		uint8_t *t = p + at;
		uint16_t len = le16(t + 10);

		if (!le16(t) || le16(t) > 270 || t[2] != 2 || len > SECT - 16)
			continue;
		udf_tag(t, le16(t), le32(t + 12), len);
	}
}

static size_t patch(const struct disc *d, const uint8_t *in, size_t len)
{
	size_t bytes = d->bytes;

	memcpy(work, d->p, d->bytes);
	while (len >= 4) {
		size_t at = (in[0] | in[1] << 8 | in[2] << 16) % d->bytes, n = in[3] % 33;

		in += 4;
		len -= 4;
		if (n > len)
			n = len;
		if (n > d->bytes - at)
			n = d->bytes - at;
		if (!n)
			bytes = at;
		memcpy(work + at, in, n);
		in += n;
		len -= n;
	}
	mend_tags(work, bytes);
	return bytes;
}

static void read_file(struct vmplat_iso *iso, const struct vmplat_iso_entry *e)
{
	struct vmplat_iso_file *f;
	struct vmplat_iso_extent x;
	static uint8_t buf[65536];
	uint64_t off = 0, bytes;

	if (vmplat_iso_file_open(&f, iso, e))
		return;
	bytes = vmplat_iso_file_bytes(f);
	while (off < bytes && off < READ_MAX) {
		ssize_t n = vmplat_iso_file_read(f, buf, sizeof(buf), off);

		if (n <= 0)
			break;
		off += n;
	}
	off = 0;
	for (int i = 0; i < 100 && vmplat_iso_file_extent(f, off, &x) == 1; i++) {
		if (!x.bytes || x.off != off || (!x.hole && !iso_inside(iso, x.pos, x.bytes)))
			abort();
		off += x.bytes;
	}
	vmplat_iso_file_close(f);
}

static void read_tree(struct vmplat_iso *iso, unsigned int flags)
{
	struct vmplat_iso_entry e;
	struct vmplat_iso_walk *w;
	char path[600];
	int rc, nr = 0;

	if (vmplat_iso_lookup(iso, "/", 0, &e) || vmplat_iso_walk_open(&w, iso, &e, "", flags))
		return;
	/* every step costs at least a byte of the disc */
	while ((rc = vmplat_iso_walk_next(w, &e))) {
		if (++nr > 100000)
			abort();
		if (rc < 0)
			continue;
		if (strchr(e.name, '/') || !*e.name || !strcmp(e.name, "..") || !strcmp(e.name, "."))
			abort();
		if (S_ISREG(e.st.mode) && nr < 1000)
			read_file(iso, &e);
		snprintf(path, sizeof(path), "%s", vmplat_iso_walk_path(w));
		if (nr < 20)
			vmplat_iso_lookup(iso, path, VMPLAT_ISO_FOLLOW, &e);
	}
	vmplat_iso_walk_close(w);
}

static void heard(void *ctx, const struct vmplat_iso_issue *issue)
{
	(*(unsigned int *)ctx)++;
}

int LLVMFuzzerTestOneInput(const uint8_t *in, size_t len)
{
	struct vmplat_iso_partition parts[8];
	struct vmplat_iso_boot boot[4];
	struct vmplat_iso_volume v;
	struct vmplat_iso *iso;
	unsigned int nr = 0;
	size_t bytes;
	int disc;

	if (!len)
		return 0;
	bytes = patch(&discs[in[0] % NR_DISCS], in + 1, len - 1);
	if (ftruncate(fd, bytes) || pwrite(fd, work, bytes, 0) != (ssize_t)bytes)
		abort();
	disc = dup(fd);
	if (vmplat_iso_open(&iso, disc)) {
		close(disc);	/* is taken over on success only */
		return 0;
	}
	for (unsigned int i = 0; vmplat_iso_volume(iso, i, &v) == 1; i++)
		;
	for (int t = 1; t < VMPLAT_ISO_NR_TREES; t++) {
		if (vmplat_iso_use(iso, t))
			continue;
		read_tree(iso, 0);
		read_tree(iso, VMPLAT_ISO_WALK_GROUPED | VMPLAT_ISO_WALK_ALL);
	}
	vmplat_iso_boot(iso, boot, 4);
	vmplat_iso_partitions(iso, parts, 8);
	/* a check has large tables: not each time */
	vmplat_iso_on_issue(iso, heard, &nr);
	if (in[0] & 0x80)
		vmplat_iso_check(iso, NULL, NULL);
	vmplat_iso_close(iso);
	return 0;
}
