/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* Reasons as sentences: kept for this thread until its next one. */
#ifndef VMPLAT_IMAGE_WHY_H
#define VMPLAT_IMAGE_WHY_H

#include <stdarg.h>
#include <stdio.h>

__attribute__((format(printf, 3, 4)))
static inline int image_fail(const char **why, int err, const char *fmt, ...)
{
	static _Thread_local char text[200];
	va_list ap;

	va_start(ap, fmt);
	vsnprintf(text, sizeof(text), fmt, ap);
	va_end(ap);
	*why = text;
	return err;
}

#endif
