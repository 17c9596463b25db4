/* SPDX-License-Identifier: GPL-2.0-only */
/* The VM state blob: round trips, and every way a hostile one can be wrong. */
#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include "run/state.h"
#include "tap.h"

static void make(struct state_writer *w)
{
	state_writer_init(w);
	state_begin(w, "one", 3);
	state_put_u8(w, 0x12);
	state_put_u16(w, 0x3456);
	state_put_u32(w, 0x789abcde);
	state_put_u64(w, 0x0123456789abcdefULL);
	state_put_blob(w, "hello", 5);
	state_end(w);
	state_begin(w, "dev/empty", 1);
	state_end(w);
}

TEST(round_trip)
{
	struct state_writer w;
	struct state_blob b;
	struct state_reader r;
	const char *why;
	uint32_t version, len;
	const void *p;

	make(&w);
	REQUIRE(!state_writer_finish(&w));
	REQUIRE(!state_blob_parse(&b, w.buf, w.len, &why));
	CHECK_EQ(b.nr_sections, 2);
	REQUIRE(!state_blob_find(&b, "one", &r, &version));
	CHECK_EQ(version, 3);
	CHECK_EQ(state_get_u8(&r), 0x12);
	CHECK_EQ(state_get_u16(&r), 0x3456);
	CHECK_EQ(state_get_u32(&r), 0x789abcde);
	CHECK_EQ(state_get_u64(&r), 0x0123456789abcdefULL);
	p = state_get_blob(&r, &len);
	CHECK(p && len == 5 && !memcmp(p, "hello", 5));
	CHECK_EQ(state_left(&r), 0);
	CHECK_EQ(r.err, 0);
	CHECK_EQ(state_get_u8(&r), 0);
	CHECK_EQ(r.err, -EBADMSG);
	CHECK_EQ(state_blob_find(&b, "two", &r, &version), -ENOENT);
	state_blob_free(&b);
	state_writer_free(&w);
}

TEST(writer_misuse)
{
	struct state_writer w;

	state_writer_init(&w);
	state_end(&w);
	CHECK_EQ(state_writer_finish(&w), -EINVAL);
	state_writer_free(&w);
	state_writer_init(&w);
	state_begin(&w, "a", 1);
	state_begin(&w, "b", 1);
	CHECK_EQ(state_writer_finish(&w), -EINVAL);
	state_writer_free(&w);
	state_writer_init(&w);
	state_begin(&w, "", 1);
	CHECK_EQ(state_writer_finish(&w), -EINVAL);
	state_writer_free(&w);
	state_writer_init(&w);
	state_begin(&w, "left open", 1);
	CHECK_EQ(state_writer_finish(&w), -EINVAL);
	state_writer_free(&w);
}

/* every prefix, in a buffer of exactly that size: the sanitizer watches its end */
TEST(truncated)
{
	struct state_writer w;
	const char *why;

	make(&w);
	REQUIRE(!state_writer_finish(&w));
	for (size_t n = 0; n < w.len; n++) {
		uint8_t *copy = malloc(n ? n : 1);
		struct state_blob b;

		memcpy(copy, w.buf, n);
		CHECK(state_blob_parse(&b, copy, n, &why) < 0);
		free(copy);
	}
	state_writer_free(&w);
}

TEST(every_bit_flipped)
{
	struct state_writer w;
	const char *why;

	make(&w);
	REQUIRE(!state_writer_finish(&w));
	for (size_t bit = 0; bit < 8 * w.len; bit++) {
		struct state_blob b;

		w.buf[bit / 8] ^= (uint8_t)(1 << bit % 8);
		CHECK(state_blob_parse(&b, w.buf, w.len, &why) < 0);
		w.buf[bit / 8] ^= (uint8_t)(1 << bit % 8);
	}
	state_writer_free(&w);
}

TEST(twice_the_same_name)
{
	struct state_writer w;
	struct state_blob b;
	const char *why;

	state_writer_init(&w);
	for (int i = 0; i < 2; i++) {
		state_begin(&w, "same", 1);
		state_end(&w);
	}
	REQUIRE(!state_writer_finish(&w));
	CHECK_EQ(state_blob_parse(&b, w.buf, w.len, &why), -EBADMSG);
	CHECK(strstr(why, "twice"));
	state_writer_free(&w);
}

/* random bytes behind a proper header, and random cuts of a proper blob's reader */
TEST(random_bytes)
{
	uint64_t seed = 42;
	const char *why;

	for (int round = 0; round < 20000; round++) {
		uint8_t buf[128];
		size_t len = 32 + (size_t)(seed >> 40) % 96;
		struct state_blob b;

		for (size_t i = 0; i < len; i++) {
			seed = seed * 6364136223846793005ULL + 1442695040888963407ULL;
			buf[i] = (uint8_t)(seed >> 56);
		}
		memset(buf, 0, 32);
		memcpy(buf, STATE_MAGIC, 8);
		buf[8] = STATE_VERSION;
		buf[12] = (uint8_t)(round % 4);
		buf[16] = (uint8_t)len;
		if (!state_blob_parse(&b, buf, len, &why))
			state_blob_free(&b);
	}
	CHECK(true);
}

TEST(blob_longer_than_the_rest)
{
	uint8_t bytes[8] = { 0xff, 0xff, 0xff, 0xff, 1, 2, 3, 4 };
	struct state_reader r = { .p = bytes, .end = bytes + sizeof(bytes) };
	uint32_t len = 77;

	CHECK(!state_get_blob(&r, &len));
	CHECK_EQ(len, 0);
	CHECK_EQ(r.err, -EBADMSG);
	CHECK_EQ(state_left(&r), 0);
}

int main(void)
{
	RUN(round_trip);
	RUN(writer_misuse);
	RUN(truncated);
	RUN(every_bit_flipped);
	RUN(twice_the_same_name);
	RUN(random_bytes);
	RUN(blob_longer_than_the_rest);
	return tap_done();
}
