// SPDX-License-Identifier: LGPL-2.1-or-later
/* Names and dates as discs have them. */
#include <ctype.h>

#include "image/iso.h"

/* ---- text -------------------------------------------------------------- */

static size_t put_utf8(char *out, size_t room, uint32_t c)
{
	unsigned int n = c < 0x80 ? 1 : c < 0x800 ? 2 : c < 0x10000 ? 3 : 4;

	if (room <= n)
		return 0;
	if (n == 1) {
		out[0] = c;
		return 1;
	}
	for (unsigned int i = n; i-- > 1; c >>= 6)
		out[i] = 0x80 | (c & 0x3f);
	out[0] = (0xf00 >> n & 0xff) | c;
	return n;
}

bool iso_utf16(char *out, size_t room, const uint8_t *in, size_t bytes)
{
	bool whole = bytes % 2 == 0;
	size_t at = 0, n;

	for (size_t i = 0; i + 1 < bytes; i += 2) {
		uint32_t c = be16(in + i);

		if (c >= 0xd800 && c < 0xdc00 && i + 3 < bytes && (be16(in + i + 2) & 0xfc00) == 0xdc00) {
			c = 0x10000 + ((c & 0x3ff) << 10) + (be16(in + i + 2) & 0x3ff);
			i += 2;
		} else if (c >= 0xd800 && c < 0xe000) {
			c = 0xfffd;
			whole = false;
		}
		n = put_utf8(out + at, room - at, c);
		if (!n) {
			whole = false;
			break;
		}
		at += n;
	}
	out[at] = '\0';
	return whole;
}

bool iso_latin1(char *out, size_t room, const uint8_t *in, size_t bytes)
{
	size_t at = 0, n;

	for (size_t i = 0; i < bytes; i++) {
		n = put_utf8(out + at, room - at, in[i]);
		if (!n)
			break;
		at += n;
	}
	out[at] = '\0';
	return true;
}

bool iso_tame(char *name, size_t *len)
{
	bool bad = false;

	for (size_t i = 0; i < *len; i++) {
		if (name[i] == '/' || name[i] == '\0') {
			name[i] = '_';
			bad = true;
		}
	}
	name[*len] = '\0';
	if (!*len || !strcmp(name, ".") || !strcmp(name, "..")) {
		memset(name, '_', 2);
		name[2] = '\0';
		*len = 2;
		bad = true;
	}
	return bad;
}

/* ---- time -------------------------------------------------------------- */

/* Days from 1970 on in the Gregorian calendar; years that begin in March. */
static int64_t days(int64_t y, int m, int d)
{
	int64_t era;
	int yoe, doy;

	y -= m <= 2;
	era = (y >= 0 ? y : y - 399) / 400;
	yoe = y - era * 400;
	doy = (153 * (m + (m > 2 ? -3 : 9)) + 2) / 5 + d - 1;
	return era * 146097 + yoe * 365 + yoe / 4 - yoe / 100 + doy - 719468;
}

/* @east: minutes east of Greenwich */
static bool make_time(struct timespec *ts, int y, int mon, int d, int h, int min, int s, int east)
{
	if (mon < 1 || mon > 12 || d < 1 || d > 31 || h > 23 || min > 59 || s > 60)
		return false;
	ts->tv_sec = days(y, mon, d) * 86400 + h * 3600 + min * 60 + s - east * 60;
	return true;
}

bool iso_time7(const uint8_t *p, struct timespec *ts)
{
	ts->tv_nsec = 0;
	return make_time(ts, 1900 + p[0], p[1], p[2], p[3], p[4], p[5], (int8_t)p[6] * 15);
}

bool iso_time17(const uint8_t *p, struct timespec *ts)
{
	static const uint8_t digits[] = { 4, 2, 2, 2, 2, 2, 2 };
	int v[7] = { 0 };

	for (size_t i = 0, at = 0; i < 7; i++) {
		for (int n = 0; n < digits[i]; n++, at++) {
			if (!isdigit(p[at]))
				return false;
			v[i] = v[i] * 10 + p[at] - '0';
		}
	}
	ts->tv_nsec = v[6] * 10000000L;
	return make_time(ts, v[0], v[1], v[2], v[3], v[4], v[5], (int8_t)p[16] * 15);
}

bool iso_time_udf(const uint8_t *p, struct timespec *ts)
{
	uint16_t zone = le16(p);
	int east = zone & 0xfff;

	/* 12 bits with a sign; -2047 is "not said", and only type 1 is local time */
	if (east & 0x800)
		east -= 0x1000;
	if (zone >> 12 != 1 || east < -1440 || east > 1440)
		east = 0;
	ts->tv_nsec = p[9] * 10000000L + p[10] * 100000L + p[11] * 1000L;
	if (ts->tv_nsec > 999999999)
		ts->tv_nsec = 0;
	return make_time(ts, (int16_t)le16(p + 2), p[4], p[5], p[6], p[7], p[8], east);
}

bool iso_time_fat(uint16_t date, uint16_t time, uint8_t hundredths, struct timespec *ts)
{
	if (!make_time(ts, 1980 + (date >> 9), date >> 5 & 15, date & 31, time >> 11, time >> 5 & 63,
		       2 * (time & 31), 0))
		return false;
	ts->tv_sec += hundredths / 100;
	ts->tv_nsec = hundredths % 100 * 10000000L;
	return true;
}
