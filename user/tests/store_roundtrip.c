// SPDX-License-Identifier: LGPL-2.1-or-later
/* What goes into the store comes out, page by page and kind by kind. */
#include "store_test.h"

#include <pthread.h>

static const struct {
	enum store_codec codec;
	unsigned int threads;
	uint64_t bytes;
} cases[] = {
	{ STORE_CODEC_NONE, 1, 5 * 1024 * 1024 + 4096 },
	{ STORE_CODEC_NONE, 3, 17 * 1024 * 1024 },
	{ STORE_CODEC_ZSTD, 1, 33 * 1024 * 1024 + 7 },
	{ STORE_CODEC_ZSTD, 4, 16 * 1024 * 1024 },
	{ STORE_CODEC_LZ4, 1, 16 * 1024 * 1024 + 12288 },
	{ STORE_CODEC_LZ4, 4, 20 * 1024 * 1024 + 4095 },
	{ STORE_CODEC_ZSTD, 2, 1 },
	{ STORE_CODEC_ZSTD, 2, 4096 },
	{ STORE_CODEC_ZSTD, 2, 0 },
	{ STORE_CODEC_LZ4, 2, 65 * 4096 },
};

/* Full, two increments, one compared; each against the shadow of its time. */
static void chains(void)
{
	char dir[32];

	for (size_t i = 0; i < sizeof(cases) / sizeof(*cases); i++) {
		enum store_codec c = cases[i].codec;
		unsigned int t = cases[i].threads;
		struct store *st;
		struct shadow s;
		int good;

		snprintf(dir, sizeof(dir), "chain%zu", i);
		st = store_at(dir);
		shadow_init(&s, cases[i].bytes);
		shadow_scribble(&s, 60);
		good = !take(st, "full", NULL, c, t, &s, STORE_SRC_FULL) &&
		       same(st, "full", &s);
		memset(s.changed, 0, s.nr_pages);
		shadow_scribble(&s, 10);
		good = good && !take(st, "inc1", "full", c, t, &s,
				     STORE_SRC_INCREMENT) &&
		       same(st, "inc1", &s);
		memset(s.changed, 0, s.nr_pages);
		shadow_scribble(&s, 3);
		good = good && !take(st, "inc2", "inc1", c, t, &s,
				     STORE_SRC_INCREMENT) &&
		       same(st, "inc2", &s);
		shadow_scribble(&s, 3);
		for (uint64_t p = 0; p < s.nr_pages; p++)
			if (rnd() % 50 == 0) {	/* punched */
				memset(s.mem + p * PAGE, 0,
				       p + 1 < s.nr_pages ? PAGE : 0);
				if (p + 1 < s.nr_pages)
					s.kind[p] = STORE_HOLE;
			}
		good = good && !take(st, "cmp", "inc2", c, t, &s,
				     STORE_SRC_COMPARE);
		/* a zero page may inherit "hole", which reads the same */
		ok(good && !verified(st, "cmp") && !verified(st, "inc1") &&
		   !verified(st, "full") && !verified(st, "inc2"),
		   "full and increments, %s, %u threads, %llu bytes",
		   store_codec_name(c), t, (unsigned long long)cases[i].bytes);
		shadow_free(&s);
		store_close(st);
	}
}

static void compare(void)
{
	struct store *st = store_at("compare");
	struct store_snap *snap;
	struct shadow s;
	uint64_t own;

	shadow_init(&s, 3000 * PAGE + 100);
	for (uint64_t p = 0; p < s.nr_pages; p++)
		if (p % 7)
			shadow_write(&s, p);
	MUST(take(st, "a", NULL, STORE_CODEC_ZSTD, 2, &s, STORE_SRC_FULL));
	shadow_write(&s, 5);
	s.mem[5 * PAGE] = 77;
	s.kind[5] = STORE_DATA;
	s.kind[8] = STORE_HOLE;		/* punched */
	memset(s.mem + 8 * PAGE, 0, PAGE);
	MUST(take(st, "b", "a", STORE_CODEC_ZSTD, 2, &s, STORE_SRC_COMPARE));
	ok(same(st, "b", &s), "a compared image has the new bytes and holes");
	MUST(store_snap_open(&snap, st, "b"));
	own = store_snap_info(snap)->images[0].own_data_pages;
	ok(own == 1, "a compared image stores only what differs: %llu page",
	   (unsigned long long)own);
	store_snap_close(snap);
	shadow_free(&s);
	store_close(st);
}

/* Lengths that change along the chain never show bytes from beyond an end. */
static void resize(void)
{
	struct store *st = store_at("resize");
	static const uint64_t lens[] = { 20 * PAGE + 9, 11 * PAGE + 100,
					 40 * PAGE + 1, 40 * PAGE + 4000 };
	char name[8], prev[8] = "";
	uint64_t old = 0;
	struct shadow s;
	int good = 1;

	shadow_init(&s, 64 * PAGE);
	for (size_t i = 0; i < 4; i++) {
		uint64_t end;

		s.bytes = lens[i];
		s.nr_pages = (s.bytes + PAGE - 1) / PAGE;
		end = old < s.bytes ? old : s.bytes;
		memset(s.mem + end, 0, 64 * PAGE - end);
		memset(s.kind + (end + PAGE - 1) / PAGE, STORE_HOLE,
		       64 - (end + PAGE - 1) / PAGE);
		memset(s.changed, 0, 64);
		if (!i)
			for (uint64_t p = 0; p < s.nr_pages; p++)
				shadow_write(&s, p);
		old = s.bytes;
		snprintf(name, sizeof(name), "s%zu", i);
		/* what a view gives: unchanged pages can be read all the same */
		{
			struct store_create_opts o = { .name = name,
				.parent = i ? prev : NULL,
				.codec = STORE_CODEC_NONE };
			struct store_add_opts a = { .source =
				i % 2 ? STORE_SRC_INCREMENT :
				i ? STORE_SRC_COMPARE : STORE_SRC_FULL };
			struct store_snap *snap;
			struct store_writer *w;
			uint8_t buf[64 * PAGE];
			int fd = shadow_file(&s, 0);

			if (a.source == STORE_SRC_INCREMENT)
				a.source = STORE_SRC_COMPARE;
			MUST(store_create(&w, st, &o));
			MUST(store_add_image(w, "memory", fd, &a));
			MUST(store_commit(w));
			close(fd);
			MUST(store_snap_open(&snap, st, name));
			MUST(store_read(store_image(snap, "memory"), buf, 0,
					s.bytes));
			good = good && !memcmp(buf, s.mem, s.bytes);
			good = good && store_read(store_image(snap, "memory"),
						  buf, s.bytes, 1) == -ERANGE;
			store_snap_close(snap);
		}
		memcpy(prev, name, sizeof(prev));
	}
	ok(good, "an image that shrinks and grows shows no stale bytes");
	shadow_free(&s);
	store_close(st);
}

/* Any page of a long chain is one run away, and its frame is in one ancestor. */
static void deep(void)
{
	struct store *st = store_at("deep");
	struct store_snap *snap;
	char name[16], parent[16];
	const struct fmt_run *runs;
	struct shadow s;
	uint32_t nr;
	int good = 1;

	shadow_init(&s, 600 * PAGE);
	shadow_scribble(&s, 70);
	MUST(take(st, "d0", NULL, STORE_CODEC_LZ4, 1, &s, STORE_SRC_FULL));
	for (int i = 1; i <= 50; i++) {
		memset(s.changed, 0, s.nr_pages);
		for (int k = 0; k < 5; k++)
			shadow_write(&s, rnd() % s.nr_pages);
		snprintf(name, sizeof(name), "d%d", i);
		snprintf(parent, sizeof(parent), "d%d", i - 1);
		MUST(take(st, name, parent, STORE_CODEC_LZ4, 1, &s,
			  STORE_SRC_INCREMENT));
	}
	ok(same(st, "d50", &s), "50 increments: the newest has every page");
	MUST(store_snap_open(&snap, st, "d50"));
	ok(store_snap_info(snap)->nr_ancestors == 50, "it knows 50 ancestors");
	MUST(image_runs(snap->images, 0, &runs, &nr));
	for (uint32_t i = 0; i < nr; i++)
		if (runs[i].kind == STORE_DATA) {
			struct store_image *from =
				snap->images->sources[runs[i].source];

			/* the frame lies in that ancestor's own data file */
			good = good && from &&
			       runs[i].frame < from->head.nr_frames;
		}
	ok(good, "each run names the snapshot that has the bytes");
	store_snap_close(snap);
	ok(!verified(st, "d50"), "the whole chain verifies");
	ok(store_remove(st, "d20") == -ENOTEMPTY && strstr(store_error(), "d21"),
	   "an ancestor is not removed, and the reason names who needs it");
	ok(!store_remove(st, "d50") && store_snap_open(&snap, st, "d50") ==
	   -ENOENT, "the newest is removed");
	shadow_free(&s);
	store_close(st);
}

struct reader {
	struct store_image *img;
	const struct shadow *s;
	uint64_t seed;
	int bad;
};

static void *read_randomly(void *arg)
{
	struct reader *r = arg;
	uint64_t x = r->seed;
	uint8_t buf[20000];

	for (int i = 0; i < 3000 && !r->bad; i++) {
		uint64_t off, len;

		x = x * 6364136223846793005ull + 1442695040888963407ull;
		off = (x >> 20) % r->s->bytes;
		len = (x >> 8) % sizeof(buf);
		if (len > r->s->bytes - off)
			len = r->s->bytes - off;
		r->bad = store_read(r->img, buf, off, len) ||
			 memcmp(buf, r->s->mem + off, len);
	}
	return NULL;
}

static void readers(void)
{
	struct store *st = store_at("readers");
	struct store_snap *snap;
	struct reader r[6];
	pthread_t t[6];
	struct shadow s;
	int bad = 0;

	shadow_init(&s, 24 << 20);
	shadow_scribble(&s, 80);
	MUST(take(st, "x", NULL, STORE_CODEC_LZ4, 2, &s, STORE_SRC_FULL));
	memset(s.changed, 0, s.nr_pages);
	shadow_scribble(&s, 20);
	MUST(take(st, "y", "x", STORE_CODEC_ZSTD, 2, &s, STORE_SRC_INCREMENT));
	MUST(store_snap_open(&snap, st, "y"));
	MUST(store_snap_cache(snap, 1 << 20));	/* one set: fights for slots */
	for (int i = 0; i < 6; i++) {
		r[i] = (struct reader){ store_image(snap, "memory"), &s,
					i + 1, 0 };
		pthread_create(t + i, NULL, read_randomly, r + i);
	}
	for (int i = 0; i < 6; i++) {
		pthread_join(t[i], NULL);
		bad |= r[i].bad;
	}
	ok(!bad, "six readers of one image with a cache of one set");
	ok(store_remove(st, "y") == -EBUSY, "a snapshot being read stays");
	store_snap_close(snap);
	shadow_free(&s);
	store_close(st);
}

static uint64_t consumed_pages;
static uint8_t consumed_map[5000];

static int on_consumed(void *ctx, uint64_t off, uint64_t len)
{
	pthread_mutex_t *lock = ctx;

	pthread_mutex_lock(lock);
	for (uint64_t p = off / PAGE; p < (off + len) / PAGE; p++)
		consumed_map[p]++;
	consumed_pages += len / PAGE;
	pthread_mutex_unlock(lock);
	return 0;
}

static void rules(void)
{
	pthread_mutex_t lock = PTHREAD_MUTEX_INITIALIZER;
	struct store_create_opts o = { .name = "one", .threads = 3 };
	struct store_add_opts a = { .consumed = on_consumed, .ctx = &lock };
	struct store *st = store_at("rules");
	atomic_bool cancel = true;
	struct store_writer *w;
	struct store_snap *snap;
	struct store_info *list;
	char path[1024], hex[STORE_ID_CHARS + 1];
	struct shadow s;
	uint8_t id[16];
	void *state;
	size_t len;
	int fd, once = 1;

	shadow_init(&s, 5000 * PAGE);
	shadow_scribble(&s, 40);
	fd = shadow_file(&s, 0);
	MUST(store_create(&w, st, &o));
	MUST(store_add_image(w, "memory", fd, &a));
	for (int p = 0; p < 5000; p++)
		once = once && consumed_map[p] == 1;
	ok(once && consumed_pages == 5000, "every page is let go of once");
	ok(store_add_image(w, "memory", fd, NULL) == -EEXIST,
	   "two images of one name are refused");
	ok(store_commit(w) == -EINVAL, "and then it is not committed");
	ok(store_snap_open(&snap, st, "one") == -ENOENT, "nothing is visible");
	o.cancel = &cancel;
	MUST(store_create(&w, st, &o));
	ok(store_add_image(w, "memory", fd, NULL) == -ECANCELED, "cancelled");
	store_abort(w);
	o.cancel = NULL;
	MUST(store_create(&w, st, &o));
	MUST(store_add_image(w, "memory", fd, NULL));
	memcpy(id, store_writer_id(w), 16);
	MUST(store_set_state(w, "hello", 5));
	ok(store_set_vm(w, "[1]", 0) == -EINVAL, "a VM is a JSON object");
	MUST(store_set_vm(w, "{\"a/b\":\"\\u00e9\\n\"}", 77));
	MUST(store_commit(w));
	ok(store_create(&w, st, &o) == -EEXIST, "a name is given once");
	o.name = "0123456789abcdef0123456789abcdef";
	ok(store_create(&w, st, &o) == -EINVAL, "a name is no id");
	o.name = "../x";
	ok(store_create(&w, st, &o) == -EINVAL, "a name is no path");
	o.name = "two";
	o.level = 99;
	ok(store_create(&w, st, &o) == -EINVAL, "a level that is none");
	o.level = 0;
	o.parent = "nobody";
	ok(store_create(&w, st, &o) == -ENOENT, "a parent that is not there");

	store_id_to_hex(id, hex);
	MUST(store_snap_open(&snap, st, hex));
	ok(!strcmp(store_snap_info(snap)->name, "one") &&
	   store_snap_info(snap)->pause_ns == 77, "opened by id");
	MUST(store_state(snap, &state, &len));
	ok(len == 5 && !memcmp(state, "hello", 5), "the state comes back");
	free(state);
	ok(!store_image(snap, "disk0"), "an image that is not there");
	store_snap_close(snap);
	snprintf(path, sizeof(path), "%s/%s/", store_path(st), hex);
	MUST(store_snap_open(&snap, NULL, path));
	ok(!memcmp(store_snap_info(snap)->id, id, 16), "opened by path");
	store_snap_close(snap);

	MUST(store_list(st, &list, &len, NULL, NULL));
	ok(len == 1 && list[0].images[0].bytes == s.bytes &&
	   strstr(list[0].vm, "a/b"), "listed");
	store_list_free(list, len);
	close(fd);
	shadow_free(&s);
	store_close(st);
}

/* The files do not depend on how many wrote them. */
static void same_files(void)
{
	struct store *st = store_at("threads");
	struct fmt_hash h[2];
	struct shadow s;

	shadow_init(&s, 19 << 20);
	shadow_scribble(&s, 50);
	for (int i = 0; i < 2; i++) {
		struct store_snap *snap;
		char name[4] = { 't', '0' + i };
		uint8_t *buf;
		size_t len;

		MUST(take(st, name, NULL, STORE_CODEC_ZSTD, i ? 7 : 1, &s,
			  STORE_SRC_FULL));
		MUST(store_snap_open(&snap, st, name));
		len = snap->images->head.data_bytes - FMT_DATA_HEAD_BYTES;
		buf = malloc(len);
		MUST(sio_read(snap->images->data_fd, buf, len,
			     FMT_DATA_HEAD_BYTES, "data"));
		fmt_hash(h + i, buf, len);
		free(buf);
		store_snap_close(snap);
	}
	ok(!memcmp(h, h + 1, sizeof(*h)), "one thread and seven write the same");
	shadow_free(&s);
	store_close(st);
}

/* The hash is part of the format, whatever instructions compute it. */
static void known_hash(void)
{
	static const uint8_t want[FMT_HASH_BYTES] = {
		0x4e, 0x53, 0xfa, 0xed, 0xa1, 0xb5, 0x81, 0x2b,
		0xb2, 0x5c, 0xea, 0x78, 0x01, 0x84, 0x97, 0xff,
	};
	static uint8_t buf[100000];
	struct fmt_hash h;

	for (size_t i = 0; i < sizeof(buf); i++)
		buf[i] = i * 7 + (i >> 8);
	fmt_hash(&h, buf, sizeof(buf));
	ok(!memcmp(h.b, want, sizeof(want)), "the hash is XXH3-128, canonical");
}

int main(void)
{
	scratch_begin();
	known_hash();
	chains();
	compare();
	resize();
	deep();
	readers();
	rules();
	same_files();
	return tap_end();
}
