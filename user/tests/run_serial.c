/* SPDX-License-Identifier: GPL-2.0-only */
/* The serial port against what its data sheet and Linux' driver expect. */
#include <errno.h>
#include <string.h>

#include "run/serial.h"
#include "tap.h"

static char sent[64];
static size_t nr_sent;
static bool line;
static unsigned int room_calls;

static void output(void *ctx, const uint8_t *p, size_t n)
{
	for (size_t i = 0; i < n && nr_sent < sizeof(sent); i++)
		sent[nr_sent++] = (char)p[i];
}

static void irq(void *ctx, bool level)
{
	line = level;
}

static void on_room(void *ctx)
{
	room_calls++;
}

static const struct serial_ops ops = { output, irq };

static uint8_t in(struct serial *s, unsigned int reg)
{
	return (uint8_t)serial_bus_ops.read(s, reg, 1);
}

static void out(struct serial *s, unsigned int reg, uint8_t v)
{
	serial_bus_ops.write(s, reg, 1, v);
}

static struct serial *fresh(void)
{
	nr_sent = 0;
	line = false;
	return serial_new(&ops, NULL);
}

TEST(sends)
{
	struct serial *s = fresh();

	CHECK_EQ(in(s, 5), 0x60);
	out(s, 0, 'h');
	out(s, 0, 'i');
	CHECK(nr_sent == 2 && !memcmp(sent, "hi", 2));
	CHECK(!line);
	serial_free(s);
}

TEST(divisor_is_no_data)
{
	struct serial *s = fresh();

	out(s, 3, 0x83);
	out(s, 0, 1);
	out(s, 1, 2);
	CHECK_EQ(in(s, 0), 1);
	CHECK_EQ(in(s, 1), 2);
	out(s, 3, 3);
	CHECK_EQ(in(s, 1), 0);
	CHECK_EQ(nr_sent, 0);
	serial_free(s);
}

TEST(transmit_interrupt)
{
	struct serial *s = fresh();

	out(s, 4, 8);
	out(s, 1, 2);
	CHECK(line);
	CHECK_EQ(in(s, 2), 0x02);	/* reading acknowledges */
	CHECK(!line);
	CHECK_EQ(in(s, 2), 0x01);
	out(s, 0, 'x');
	CHECK(line);
	out(s, 1, 0);
	CHECK(!line);
	serial_free(s);
}

TEST(receives)
{
	struct serial *s = fresh();

	out(s, 4, 8);
	out(s, 2, 0x81);	/* FIFO, trigger at 8 */
	out(s, 1, 1);
	CHECK_EQ(serial_input(s, (const uint8_t *)"ab", 2), 2);
	CHECK(line);
	CHECK_EQ(in(s, 2), 0xcc);	/* fewer than 8: time-out */
	CHECK_EQ(in(s, 5) & 1, 1);
	CHECK_EQ(in(s, 0), 'a');
	CHECK(line);
	CHECK_EQ(in(s, 0), 'b');
	CHECK(!line);
	CHECK_EQ(in(s, 5) & 1, 0);
	serial_input(s, (const uint8_t *)"12345678", 8);
	CHECK_EQ(in(s, 2), 0xc4);
	out(s, 2, 0x83);		/* clear */
	CHECK(!line);
	serial_free(s);
}

TEST(no_line_without_out2)
{
	struct serial *s = fresh();

	out(s, 1, 3);
	serial_input(s, (const uint8_t *)"a", 1);
	CHECK(!line);
	out(s, 4, 8);
	CHECK(line);
	serial_free(s);
}

TEST(loopback)
{
	struct serial *s = fresh();

	out(s, 4, 0x1a);
	CHECK_EQ(in(s, 6) & 0xf0, 0x90);	/* what Linux' probe looks for */
	out(s, 0, 'z');
	CHECK_EQ(nr_sent, 0);
	CHECK_EQ(in(s, 0), 'z');
	serial_free(s);
}

TEST(full_queue)
{
	struct serial *s = fresh();
	uint8_t byte = 'q';
	size_t n = 0;

	serial_on_room(s, on_room, NULL);
	while (serial_input(s, &byte, 1))
		n++;
	CHECK_EQ(n, 4096);
	CHECK_EQ(serial_input_room(s), 0);
	CHECK_EQ(room_calls, 0);
	in(s, 0);
	CHECK_EQ(room_calls, 1);
	CHECK_EQ(serial_input_room(s), 1);
	serial_free(s);
}

/* What empties it all at once is heard of, too: the guest's FIFO reset, the machine's. */
TEST(emptied_queue)
{
	struct serial *s = fresh();
	uint8_t all[5000] = { 0 };

	serial_on_room(s, on_room, NULL);
	room_calls = 0;
	serial_input(s, all, sizeof(all));
	CHECK_EQ(serial_input_room(s), 0);
	out(s, 2, 0x03);
	CHECK_EQ(room_calls, 1);
	serial_input(s, all, sizeof(all));
	serial_reset(s);
	CHECK_EQ(room_calls, 2);
	serial_reset(s);
	CHECK_EQ(room_calls, 2);
	serial_free(s);
}

TEST(state)
{
	struct serial *a = fresh(), *b = serial_new(&ops, NULL);
	struct state_writer w;
	struct state_reader r;

	out(a, 4, 8);
	out(a, 1, 1);
	out(a, 7, 0x5a);
	serial_input(a, (const uint8_t *)"xyz", 3);
	state_writer_init(&w);
	state_begin(&w, "serial0", 1);
	size_t at = w.len;
	serial_save(a, &w);
	line = false;
	r = (struct state_reader){ .p = w.buf + at, .end = w.buf + w.len };
	CHECK_EQ(serial_load(b, &r), 0);
	CHECK_EQ(state_left(&r), 0);
	CHECK(line);
	CHECK_EQ(in(b, 7), 0x5a);
	CHECK_EQ(in(b, 0), 'x');
	CHECK_EQ(in(b, 0), 'y');
	for (size_t cut = at; cut < w.len; cut++) {
		r = (struct state_reader){ .p = w.buf + at, .end = w.buf + cut };
		CHECK_EQ(serial_load(b, &r), -EBADMSG);
	}
	state_writer_free(&w);
	serial_free(a);
	serial_free(b);
}

int main(void)
{
	RUN(sends);
	RUN(divisor_is_no_data);
	RUN(transmit_interrupt);
	RUN(receives);
	RUN(no_line_without_out2);
	RUN(loopback);
	RUN(full_queue);
	RUN(emptied_queue);
	RUN(state);
	return tap_done();
}
