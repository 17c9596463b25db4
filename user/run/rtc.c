// SPDX-License-Identifier: GPL-2.0-only
/*
 * MC146818 real-time clock and CMOS: the host's time in UTC, binary-coded decimal,
 * 24 hours. Read-only time, no alarm, no periodic interrupt; kernels take the
 * time of day here once at boot.
 *
 * State, "rtc" version 1: u8 index, 128 bytes of CMOS.
 */
#include <errno.h>
#include <pthread.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

#include "board.h"
#include "vm_priv.h"

struct rtc {
	struct vm_device dev;
	pthread_mutex_t lock;
	uint8_t index;		/* lock */
	uint8_t ram[128];	/* lock */
};

static uint8_t bcd(int v)
{
	return (uint8_t)(v / 10 % 10 << 4 | v % 10);
}

static uint8_t rtc_get(struct rtc *r, uint8_t i)
{
	time_t now = time(NULL);
	struct tm t;

	gmtime_r(&now, &t);
	switch (i) {
	case 0:
		return bcd(t.tm_sec);
	case 2:
		return bcd(t.tm_min);
	case 4:
		return bcd(t.tm_hour);
	case 6:
		return bcd(t.tm_wday + 1);
	case 7:
		return bcd(t.tm_mday);
	case 8:
		return bcd(t.tm_mon + 1);
	case 9:
		return bcd(t.tm_year % 100);
	case 0x32:
		return bcd((t.tm_year + 1900) / 100);
	case 0xa:
		return 0x26;	/* never caught in an update */
	case 0xb:
		return (r->ram[0xb] & 0x70) | 0x02;
	case 0xc:
		return 0;
	case 0xd:
		return 0x80;	/* the battery is good */
	default:
		return r->ram[i];
	}
}

static uint64_t rtc_read(void *opaque, uint64_t off, unsigned int len)
{
	struct rtc *r = opaque;
	uint8_t v;

	pthread_mutex_lock(&r->lock);
	v = off ? rtc_get(r, r->index) : 0xff;
	pthread_mutex_unlock(&r->lock);
	return v;
}

static void rtc_write(void *opaque, uint64_t off, unsigned int len, uint64_t val)
{
	struct rtc *r = opaque;

	pthread_mutex_lock(&r->lock);
	if (off)
		r->ram[r->index] = (uint8_t)val;
	else
		r->index = val & 0x7f;
	pthread_mutex_unlock(&r->lock);
}

static const struct bus_ops rtc_bus = { rtc_read, rtc_write };

static void rtc_reset(void *opaque)
{
	struct rtc *r = opaque;

	pthread_mutex_lock(&r->lock);
	r->index = 0;
	memset(r->ram, 0, sizeof(r->ram));
	pthread_mutex_unlock(&r->lock);
}

static void rtc_save(void *opaque, struct state_writer *w)
{
	struct rtc *r = opaque;

	pthread_mutex_lock(&r->lock);
	state_put_u8(w, r->index);
	state_put_bytes(w, r->ram, sizeof(r->ram));
	pthread_mutex_unlock(&r->lock);
}

static int rtc_load(void *opaque, struct state_reader *s, uint32_t version)
{
	struct rtc *r = opaque;

	pthread_mutex_lock(&r->lock);
	r->index = state_get_u8(s) & 0x7f;
	state_get_bytes(s, r->ram, sizeof(r->ram));
	pthread_mutex_unlock(&r->lock);
	return s->err;
}

static void rtc_destroy(void *opaque)
{
	free(opaque);
}

static const struct vm_device_ops rtc_ops = {
	.reset = rtc_reset,
	.save = rtc_save,
	.load = rtc_load,
	.destroy = rtc_destroy,
};

int rtc_init(struct vm *vm)
{
	struct rtc *r = calloc(1, sizeof(*r));

	if (!r)
		return -ENOMEM;
	pthread_mutex_init(&r->lock, NULL);
	r->dev = (struct vm_device){
		.name = "rtc", .version = 1, .ops = &rtc_ops, .opaque = r,
	};
	vm_device_add(vm, &r->dev);
	return bus_register(vm_bus(vm, VM_PIO), RTC_PORT, 2, &rtc_bus, r);
}
