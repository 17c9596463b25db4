// SPDX-License-Identifier: LGPL-2.1-or-later
/*
 * Damaged, truncated and hostile snapshots. A flipped bit anywhere is found by
 * verify, and reading gives an error or the right bytes; what carries right
 * checksums over wrong content gives an error or some bytes, and never a crash.
 */
#include "store_test.h"

static struct store *st;
static struct shadow s;
static char dir_of[2][512];	/* "full", "inc" */
static const char *const files[] = { "manifest.json", "state", "memory.index",
				     "memory.data", "ancestors" };

#define NR_FILES 5

static void build(void)
{
	struct store_snap *snap;
	char hex[STORE_ID_CHARS + 1];

	st = store_at("damage");
	shadow_init(&s, 150 * PAGE + 77);
	shadow_scribble(&s, 70);
	MUST(take(st, "full", NULL, STORE_CODEC_ZSTD, 1, &s, STORE_SRC_FULL));
	memset(s.changed, 0, s.nr_pages);
	shadow_scribble(&s, 25);
	MUST(take(st, "inc", "full", STORE_CODEC_LZ4, 1, &s,
		  STORE_SRC_INCREMENT));
	for (int i = 0; i < 2; i++) {
		MUST(store_snap_open(&snap, st, i ? "inc" : "full"));
		store_id_to_hex(store_snap_info(snap)->id, hex);
		snprintf(dir_of[i], sizeof(dir_of[i]), "%s/%s", store_path(st),
			 hex);
		store_snap_close(snap);
	}
}

static char *slurp(int snap, const char *name, size_t *len)
{
	char path[1024], *buf;
	struct stat sb;
	int fd;

	snprintf(path, sizeof(path), "%s/%s", dir_of[snap], name);
	fd = open(path, O_RDONLY);
	MUST(fd);
	MUST(fstat(fd, &sb));
	buf = malloc(sb.st_size + 1);
	MUST(pread(fd, buf, sb.st_size, 0) == sb.st_size ? 0 : -1);
	close(fd);
	*len = sb.st_size;
	return buf;
}

static void put(int snap, const char *name, const void *buf, size_t len)
{
	char path[1024];
	int fd;

	snprintf(path, sizeof(path), "%s/%s", dir_of[snap], name);
	fd = open(path, O_WRONLY | O_CREAT | O_TRUNC, 0600);
	MUST(fd);
	MUST(write(fd, buf, len) == (ssize_t)len ? 0 : -1);
	close(fd);
}

enum { GOOD, DETECTED, WRONG };

/* Opened, read and verified as a restore would. */
static int judge(void)
{
	const char *ref = strrchr(dir_of[1], '/') + 1;	/* by id */
	uint8_t *buf = malloc(s.bytes);
	struct store_image *img = NULL;
	struct store_snap *snap;
	int read_err, err;
	void *state;
	size_t len;

	err = read_err = store_snap_open(&snap, st, ref);
	if (!err) {
		img = store_image(snap, "memory");
		read_err = img ? store_read(img, buf, 0, s.bytes) : -ENOENT;
		if (!read_err)
			read_err = memcmp(buf, s.mem, s.bytes) ? 1 : 0;
		if (!store_state(snap, &state, &len)) {
			if (len != 3 || memcmp(state, "inc", 3))
				read_err = 1;
			free(state);
		}
		err = store_verify(snap, NULL);
		store_snap_close(snap);
	}
	free(buf);
	if (read_err == 1)
		return WRONG;
	return err ? DETECTED : GOOD;
}

static void flips(void)
{
	for (int k = 0; k < 2 * NR_FILES; k++) {
		const char *name = files[k % NR_FILES];
		int which = k / NR_FILES, missed = 0, wrong = 0, tried = 0;
		size_t len, step;
		char *buf = slurp(which, name, &len);

		step = len > 2000 ? len / 300 : 2;
		for (size_t i = 0; i < len; i += 1 + rnd() % (2 * step - 1)) {
			char bit = 1 << rnd() % 8;
			int v;

			buf[i] ^= bit;
			put(which, name, buf, len);
			v = judge();
			missed += v == GOOD;
			wrong += v == WRONG;
			tried++;
			buf[i] ^= bit;
		}
		put(which, name, buf, len);
		ok(!missed && !wrong, "%s of %s: %d flipped bits, %d missed, "
		   "%d gave wrong bytes", name, which ? "inc" : "full", tried,
		   missed, wrong);
		free(buf);
	}
	ok(judge() == GOOD, "mended, it is good again");
}

static void truncations(void)
{
	for (int k = 0; k < 2 * NR_FILES; k++) {
		const char *name = files[k % NR_FILES];
		int which = k / NR_FILES, bad = 0, tried = 0;
		size_t len;
		char *buf = slurp(which, name, &len);
		size_t step = len > 2000 ? len / 100 : 2;

		for (size_t i = 0; i < len; i += step) {
			put(which, name, buf, i);
			bad += judge() != DETECTED;
			tried++;
		}
		/* a byte before the end, one after */
		if (len) {
			put(which, name, buf, len - 1);
			bad += judge() != DETECTED;
		}
		buf = realloc(buf, len + 1);
		buf[len] = 0;
		put(which, name, buf, len + 1);
		bad += judge() != DETECTED;
		put(which, name, buf, len);
		ok(!bad, "%s of %s: %d lengths, %d not detected", name,
		   which ? "inc" : "full", tried + 2, bad);
		free(buf);
	}
}

static void missing(void)
{
	char path[1024], away[1040];
	int good;

	for (int k = 0; k < 2 * NR_FILES; k++) {
		snprintf(path, sizeof(path), "%s/%s", dir_of[k / NR_FILES],
			 files[k % NR_FILES]);
		snprintf(away, sizeof(away), "%s.away", path);
		MUST(rename(path, away));
		good = judge() == DETECTED &&
		       strstr(store_error(), files[k % NR_FILES]) &&
		       strstr(store_error(), "missing");
		ok(good, "%s of %s is missing", files[k % NR_FILES],
		   k / NR_FILES ? "inc" : "full");
		MUST(mkfifo(path, 0600));
		if (judge() != DETECTED)
			ok(0, "a FIFO in its place");
		MUST(unlink(path));
		MUST(symlink(away, path));
		if (judge() != DETECTED)
			ok(0, "a symbolic link in its place");
		MUST(unlink(path));
		MUST(rename(away, path));
	}
	snprintf(away, sizeof(away), "%s/away", store_path(st));
	MUST(rename(dir_of[0], away));
	ok(verified(st, "inc") == -ENOENT &&
	   strstr(store_error(), strrchr(dir_of[0], '/') + 1),
	   "a missing ancestor is named");
	MUST(rename(away, dir_of[0]));
}

/* ---- right checksums over wrong content -------------------------------- */

static void reseal_manifest(char *text, size_t len, const struct fmt_hash *index)
{
	char hex[STORE_ID_CHARS + 1], *p;
	struct fmt_hash root;

	p = strstr(text, "\"index_xxh3\":\"");
	if (index && p) {
		store_id_to_hex(index->b, hex);
		memcpy(p + 14, hex, STORE_ID_CHARS);
	}
	fmt_hash(&root, text, len - 43);
	store_id_to_hex(root.b, hex);
	memcpy(text + len - 43 + 8, hex, STORE_ID_CHARS);
}

static int inside(uint64_t off, uint64_t len, size_t size)
{
	return off <= size && len <= size - off;
}

static void reseal_index(char *buf, size_t size, struct fmt_hash *out)
{
	struct fmt_index_head h;
	uint64_t nr;

	memcpy(&h, buf, sizeof(h));
	index_head_swap(&h);
	for (uint64_t i = 0; i < h.nr_groups && i < 10; i++) {
		struct fmt_group g;

		if (!inside(h.groups_off, (i + 1) * sizeof(g), size))
			break;
		memcpy(&g, buf + h.groups_off + i * sizeof(g), sizeof(g));
		index_group_swap(&g);
		if (!inside(g.off, (uint64_t)g.nr_runs * 16, size))
			continue;
		fmt_hash(&g.hash, buf + g.off, g.nr_runs * 16);
		memcpy(buf + h.groups_off + i * sizeof(g) + 16, &g.hash, 16);
	}
	nr = h.nr_frames < 1024 ? h.nr_frames : 1024;
	if (nr && inside(h.frames_off, nr * 32, size) &&
	    inside(h.chunks_off, 16, size))
		fmt_hash((void *)(buf + h.chunks_off), buf + h.frames_off,
			 nr * 32);
	memcpy(&h, buf, sizeof(h));
	if (inside(le64toh(h.groups_off), le64toh(h.nr_groups) % 1000 * 32, size))
		fmt_hash(&h.groups_hash, buf + le64toh(h.groups_off),
			 le64toh(h.nr_groups) % 1000 * 32);
	if (inside(le64toh(h.chunks_off), nr ? 16 : 0, size))
		fmt_hash(&h.chunks_hash, buf + le64toh(h.chunks_off),
			 nr ? 16 : 0);
	if (inside(le64toh(h.refs_off), le32toh(h.nr_sources) % 1000 * 8, size))
		fmt_hash(&h.refs_hash, buf + le64toh(h.refs_off),
			 le32toh(h.nr_sources) % 1000 * 8);
	fmt_hash(&h.head_hash, &h, offsetof(struct fmt_index_head, head_hash));
	memcpy(buf, &h, sizeof(h));
	*out = h.head_hash;
}

static uint64_t nasty(void)
{
	static const uint64_t v[] = { 0, 1, 2, 63, 64, 65, 4095, 4096, 0x7fff,
		0x8000, 0xffff, 0x10000, 0x7fffffff, 0x80000000, 0xffffffff,
		1ull << 40, INT64_MAX, 1ull << 63, UINT64_MAX };

	return rnd() % 3 ? v[rnd() % 19] : rnd() >> rnd() % 64;
}

static void hostile_index(void)
{
	size_t len, mlen;
	char *good = slurp(1, "memory.index", &len), *buf = malloc(len);
	char *m = slurp(1, "manifest.json", &mlen), *mm = malloc(mlen + 1);
	int found = 0, tried = 2500;

	for (int i = 0; i < tried; i++) {
		struct fmt_hash h;
		int nr = 1 + rnd() % 3;

		memcpy(buf, good, len);
		memcpy(mm, m, mlen);
		mm[mlen] = 0;
		while (nr--) {
			int width = 1 << rnd() % 4;
			size_t at = rnd() % 2 ? rnd() % 240 : rnd() % len;
			uint64_t v = htole64(nasty());

			at -= at % width;
			if (at + width <= len)
				memcpy(buf + at, &v, width);
		}
		reseal_index(buf, len, &h);
		reseal_manifest(mm, mlen, &h);
		put(1, "memory.index", buf, len);
		put(1, "manifest.json", mm, mlen);
		found += judge() == DETECTED;
	}
	put(1, "memory.index", good, len);
	put(1, "manifest.json", m, mlen);
	ok(judge() == GOOD, "%d hostile indexes under right checksums, %d "
	   "refused, none crashed", tried, found);
	free(good);
	free(buf);
	free(m);
	free(mm);
}

static void hostile_frames(void)
{
	size_t len, mlen, dlen;
	char *good = slurp(1, "memory.index", &len), *buf = malloc(len);
	char *m = slurp(1, "manifest.json", &mlen), *mm = malloc(mlen + 1);
	char *d = slurp(1, "memory.data", &dlen), *dd = malloc(dlen);
	struct fmt_index_head head;
	int tried = 700;

	memcpy(&head, good, sizeof(head));
	index_head_swap(&head);
	for (int i = 0; i < tried; i++) {
		uint64_t nr = rnd() % head.nr_frames;
		struct fmt_frame f;
		struct fmt_hash h;

		memcpy(buf, good, len);
		memcpy(mm, m, mlen);
		mm[mlen] = 0;
		memcpy(dd, d, dlen);
		memcpy(&f, buf + head.frames_off + nr * 32, 32);
		index_frame_swap(&f);
		for (int k = 1 + rnd() % 4; k--; )
			dd[f.off + (rnd() % 3 ? rnd() % f.stored_bytes :
				    rnd() % 16 % f.stored_bytes)] = rnd();
		if (rnd() % 4 == 0)
			f.codec = rnd() % 3;
		fmt_hash(&f.hash, dd + f.off, f.stored_bytes);
		index_frame_swap(&f);
		memcpy(buf + head.frames_off + nr * 32, &f, 32);
		reseal_index(buf, len, &h);
		reseal_manifest(mm, mlen, &h);
		put(1, "memory.index", buf, len);
		put(1, "manifest.json", mm, mlen);
		put(1, "memory.data", dd, dlen);
		judge();
	}
	put(1, "memory.index", good, len);
	put(1, "manifest.json", m, mlen);
	put(1, "memory.data", d, dlen);
	ok(judge() == GOOD, "%d hostile frames under right checksums", tried);
	free(good);
	free(buf);
	free(m);
	free(mm);
	free(d);
	free(dd);
}

static void manifests(void)
{
	static const char *const texts[] = {
		"", "{", "{}", "[]", "null", "\"x\"",
		"{\"format\":\"vmplat-snapshot\",\"version\":1,",
		"{\"format\":\"vmplat-snapshot\",\"version\":2,",
		"{\"format\":\"vmplat-snapshot\",\"version\":-1,",
		"{\"format\":\"vmplat-snapshot\",\"version\":1,\"id\":\"00\",",
		"{\"format\":1,", "{\"a\":{\"b\":", "{\"format\":\"\\u0000\",",
		"{\"images\":[[]],\"ancestors\":{},",
	};
	char text[4096];
	struct manifest m;
	int refused = 0, nr = sizeof(texts) / sizeof(*texts);
	struct fmt_hash h;
	char hex[33];

	for (int i = 0; i < nr; i++) {
		int len = snprintf(text, sizeof(text), "%s", texts[i]);

		fmt_hash(&h, text, len);
		store_id_to_hex(h.b, hex);
		len += snprintf(text + len, sizeof(text) - len,
				"\"root\":\"%s\"}\n", hex);
		refused += manifest_parse(&m, text, len, "test") < 0;
	}
	ok(refused == nr, "%d of %d manifests that are none refused", refused,
	   nr);
}

/* Members changed one by one under a right root hash. */
static void hostile_manifest(void)
{
	size_t len;
	char *m = slurp(1, "manifest.json", &len), *mm = malloc(len + 1);
	int tried = 1200;

	for (int i = 0; i < tried; i++) {
		size_t at = rnd() % (len - 43);
		static const char chars[] = "0123456789-\"{}[],:nulltrueE.\\";

		memcpy(mm, m, len);
		mm[len] = 0;
		for (int k = 1 + rnd() % 3; k-- && at < len - 43; at++)
			mm[at] = chars[rnd() % (sizeof(chars) - 1)];
		reseal_manifest(mm, len, NULL);
		put(1, "manifest.json", mm, len);
		judge();
	}
	put(1, "manifest.json", m, len);
	ok(judge() == GOOD, "%d hostile manifests under a right root hash",
	   tried);
	free(m);
	free(mm);
}

/* An ancestor that is whole, but not the one the increment was made on. */
static void other_ancestor(void)
{
	size_t len;
	char *m = slurp(0, "manifest.json", &len), *p;
	char *mm = strndup(m, len);

	p = strstr(mm, "\"pause_ns\":1234");
	MUST(p ? 0 : -1);
	p[11] = '9';
	reseal_manifest(mm, len, NULL);
	put(0, "manifest.json", mm, len);
	ok(verified(st, "full") == 0, "the ancestor by itself is whole");
	ok(verified(st, "inc") == -ESTALE &&
	   strstr(store_error(), "root hash differs"),
	   "but not the one the increment was made on");
	put(0, "manifest.json", m, len);
	ok(judge() == GOOD, "and the right one is");
	free(m);
	free(mm);
}

int main(void)
{
	scratch_begin();
	build();
	flips();
	truncations();
	missing();
	other_ancestor();
	manifests();
	hostile_manifest();
	hostile_index();
	hostile_frames();
	shadow_free(&s);
	store_close(st);
	return tap_end();
}
