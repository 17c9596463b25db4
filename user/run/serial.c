// SPDX-License-Identifier: GPL-2.0-only
/*
 * 16550A (National PC16550D data sheet). Transmission takes no time: the holding
 * register is always empty again, with the interrupt that a driver waits for.
 * Input waits in a queue of its own behind the 16-byte FIFO, so that a paste is
 * not an overrun. The character time-out interrupt is given at once.
 *
 * State, "serial0" version 1: u8 ier, lcr, mcr, scr, dll, dlm, fcr, thre_pending,
 * then the input as a blob.
 */
#include "serial.h"

#include <errno.h>
#include <pthread.h>
#include <stdlib.h>
#include <string.h>

#define QUEUE_BYTES	4096

#define IER_RX		0x01
#define IER_THRE	0x02
#define IER_MASK	0x0f
#define IIR_NONE	0x01
#define IIR_THRE	0x02
#define IIR_RX		0x04
#define IIR_TIMEOUT	0x0c
#define FCR_ENABLE	0x01
#define FCR_CLEAR_RX	0x02
#define LCR_DLAB	0x80
#define MCR_OUT2	0x08
#define MCR_LOOP	0x10
#define LSR_DR		0x01
#define LSR_EMPTY	0x60

struct serial {
	const struct serial_ops *ops;
	void *ctx;
	void (*room_fn)(void *ctx);
	void *room_ctx;

	pthread_mutex_t lock;	/* all below */
	uint8_t ier, lcr, mcr, scr, dll, dlm, fcr;
	bool thre;		/* the interrupt of an empty holding register */
	bool level;
	uint8_t q[QUEUE_BYTES];
	size_t head, len;
};

struct serial *serial_new(const struct serial_ops *ops, void *ctx)
{
	struct serial *s = calloc(1, sizeof(*s));

	if (!s)
		return NULL;
	s->ops = ops;
	s->ctx = ctx;
	pthread_mutex_init(&s->lock, NULL);
	serial_reset(s);
	return s;
}

void serial_free(struct serial *s)
{
	if (s)
		pthread_mutex_destroy(&s->lock);
	free(s);
}

/* ---- the lock ---------------------------------------------------------------- */

/* Takes it; is the queue full? */
static bool lock(struct serial *s)
{
	pthread_mutex_lock(&s->lock);
	return s->len == QUEUE_BYTES;
}

/* Gives it back. Whoever has input and found no room is told of it, whatever made it. */
static void unlock(struct serial *s, bool was_full)
{
	bool room = was_full && s->len < QUEUE_BYTES;

	pthread_mutex_unlock(&s->lock);
	if (room && s->room_fn)
		s->room_fn(s->room_ctx);
}

/* ---- interrupt; lock held --------------------------------------------------- */

static unsigned int trigger(const struct serial *s)
{
	static const uint8_t level[] = { 1, 4, 8, 14 };

	return s->fcr & FCR_ENABLE ? level[s->fcr >> 6] : 1;
}

static uint8_t cause(const struct serial *s)
{
	if (s->ier & IER_RX && s->len)
		return s->len >= trigger(s) ? IIR_RX : IIR_TIMEOUT;
	if (s->ier & IER_THRE && s->thre)
		return IIR_THRE;
	return IIR_NONE;
}

static void update(struct serial *s)
{
	/* OUT2 gates the line on a PC; drivers that poll leave it off */
	bool level = cause(s) != IIR_NONE && s->mcr & MCR_OUT2;

	if (level != s->level) {
		s->level = level;
		s->ops->irq(s->ctx, level);
	}
}

/* ---- registers; lock held ---------------------------------------------------- */

static size_t queue_put(struct serial *s, const uint8_t *p, size_t n)
{
	size_t i;

	for (i = 0; i < n && s->len < QUEUE_BYTES; i++)
		s->q[(s->head + s->len++) % QUEUE_BYTES] = p[i];
	return i;
}

static uint8_t read_rbr(struct serial *s)
{
	uint8_t c;

	if (!s->len)
		return 0;
	c = s->q[s->head];
	s->head = (s->head + 1) % QUEUE_BYTES;
	s->len--;
	return c;
}

static uint8_t read_iir(struct serial *s)
{
	uint8_t v = cause(s);

	if (v == IIR_THRE)
		s->thre = false;	/* reading it is the acknowledgement */
	return v | (s->fcr & FCR_ENABLE ? 0xc0 : 0);
}

/* what is at the other end, or in loopback mode our own outputs */
static uint8_t read_msr(const struct serial *s)
{
	if (!(s->mcr & MCR_LOOP))
		return 0xb0;	/* carrier, ready, clear to send */
	return (uint8_t)((s->mcr & 2) << 3 | (s->mcr & 1) << 5 | (s->mcr & 4) << 4 |
			 (s->mcr & 8) << 4);
}

static uint8_t reg_read(struct serial *s, unsigned int reg)
{
	switch (reg) {
	case 0:
		return s->lcr & LCR_DLAB ? s->dll : read_rbr(s);
	case 1:
		return s->lcr & LCR_DLAB ? s->dlm : s->ier;
	case 2:
		return read_iir(s);
	case 3:
		return s->lcr;
	case 4:
		return s->mcr;
	case 5:
		return LSR_EMPTY | (s->len ? LSR_DR : 0);
	case 6:
		return read_msr(s);
	default:
		return s->scr;
	}
}

static void write_ier(struct serial *s, uint8_t v)
{
	if (v & IER_THRE && !(s->ier & IER_THRE))
		s->thre = true;		/* it is empty: say so at once */
	s->ier = v & IER_MASK;
}

static void write_fcr(struct serial *s, uint8_t v)
{
	if (v & FCR_CLEAR_RX || (v ^ s->fcr) & FCR_ENABLE)
		s->len = 0;
	s->fcr = v & (FCR_ENABLE | 0xc0);
}

static void reg_write(struct serial *s, unsigned int reg, uint8_t v)
{
	switch (reg) {
	case 0:
		if (s->lcr & LCR_DLAB)
			s->dll = v;
		else
			s->thre = true;	/* sent by the caller */
		break;
	case 1:
		if (s->lcr & LCR_DLAB)
			s->dlm = v;
		else
			write_ier(s, v);
		break;
	case 2:
		write_fcr(s, v);
		break;
	case 3:
		s->lcr = v;
		break;
	case 4:
		s->mcr = v & 0x1f;
		break;
	case 7:
		s->scr = v;
		break;
	}
}

static uint64_t serial_read(void *opaque, uint64_t off, unsigned int len)
{
	struct serial *s = opaque;
	bool was_full = lock(s);
	uint8_t v;

	v = reg_read(s, (unsigned int)off & 7);
	update(s);
	unlock(s, was_full);
	return v;
}

static void serial_write(void *opaque, uint64_t off, unsigned int len, uint64_t val)
{
	struct serial *s = opaque;
	bool was_full = lock(s), send;
	uint8_t v = (uint8_t)val;

	send = !(off & 7) && !(s->lcr & LCR_DLAB);
	if (send && s->mcr & MCR_LOOP) {
		queue_put(s, &v, 1);
		send = false;
	}
	reg_write(s, (unsigned int)off & 7, v);
	/* under the lock, so that two vCPUs' bytes keep their order */
	if (send)
		s->ops->output(s->ctx, &v, 1);
	update(s);
	unlock(s, was_full);
}

const struct bus_ops serial_bus_ops = { serial_read, serial_write };

/* ---- the other end ----------------------------------------------------------- */

size_t serial_input_room(struct serial *s)
{
	size_t room;

	pthread_mutex_lock(&s->lock);
	room = QUEUE_BYTES - s->len;
	pthread_mutex_unlock(&s->lock);
	return room;
}

size_t serial_input(struct serial *s, const uint8_t *p, size_t n)
{
	pthread_mutex_lock(&s->lock);
	n = queue_put(s, p, n);
	update(s);
	pthread_mutex_unlock(&s->lock);
	return n;
}

void serial_on_room(struct serial *s, void (*fn)(void *ctx), void *ctx)
{
	s->room_fn = fn;
	s->room_ctx = ctx;
}

/* ---- state --------------------------------------------------------------------- */

void serial_reset(struct serial *s)
{
	bool was_full = lock(s);

	s->ier = s->lcr = s->mcr = s->scr = s->dlm = s->fcr = 0;
	s->dll = 12;		/* 9600 baud */
	s->thre = false;
	s->head = s->len = 0;
	update(s);
	unlock(s, was_full);
}

void serial_save(struct serial *s, struct state_writer *w)
{
	uint8_t flat[QUEUE_BYTES];

	pthread_mutex_lock(&s->lock);
	for (size_t i = 0; i < s->len; i++)
		flat[i] = s->q[(s->head + i) % QUEUE_BYTES];
	state_put_u8(w, s->ier);
	state_put_u8(w, s->lcr);
	state_put_u8(w, s->mcr);
	state_put_u8(w, s->scr);
	state_put_u8(w, s->dll);
	state_put_u8(w, s->dlm);
	state_put_u8(w, s->fcr);
	state_put_u8(w, s->thre);
	state_put_blob(w, flat, (uint32_t)s->len);
	pthread_mutex_unlock(&s->lock);
}

int serial_load(struct serial *s, struct state_reader *r)
{
	const uint8_t *input;
	uint32_t len;
	uint8_t v[8];
	bool was_full;

	state_get_bytes(r, v, sizeof(v));
	input = state_get_blob(r, &len);
	if (r->err || len > QUEUE_BYTES)
		return -EBADMSG;
	was_full = lock(s);
	s->ier = v[0] & IER_MASK;
	s->lcr = v[1];
	s->mcr = v[2] & 0x1f;
	s->scr = v[3];
	s->dll = v[4];
	s->dlm = v[5];
	s->fcr = v[6] & (FCR_ENABLE | 0xc0);
	s->thre = v[7] & 1;
	s->head = s->len = 0;
	queue_put(s, input, len);
	update(s);
	unlock(s, was_full);
	return 0;
}
