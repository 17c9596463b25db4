/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* Reasons as sentences: kept for this thread until its next one from the same file. */
#ifndef VMPLAT_IMAGE_WHY_H
#define VMPLAT_IMAGE_WHY_H

#include <stdarg.h>
#include <stdio.h>

static inline const char *why_keep(const char *fmt, va_list ap)
{
	static _Thread_local char text[240];

	vsnprintf(text, sizeof(text), fmt, ap);
	return text;
}

/* the sentence itself */
__attribute__((format(printf, 1, 2)))
static inline const char *sentence(const char *fmt, ...)
{
	const char *text;
	va_list ap;

	va_start(ap, fmt);
	text = why_keep(fmt, ap);
	va_end(ap);
	return text;
}

/* @err, with the sentence in @why */
__attribute__((format(printf, 3, 4)))
static inline int image_fail(const char **why, int err, const char *fmt, ...)
{
	va_list ap;

	va_start(ap, fmt);
	*why = why_keep(fmt, ap);
	va_end(ap);
	return err;
}

#endif
