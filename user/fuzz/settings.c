/* SPDX-License-Identifier: GPL-2.0-only */
/*
 * Hostile configuration files. What is taken must print as a file that is taken, and that
 * prints as the same.
 */
#include <stdint.h>
#include <stdlib.h>
#include <string.h>

#include "cli/settings.h"

int LLVMFuzzerTestOneInput(const uint8_t *in, size_t len);

static char *printed(const struct settings *s, size_t *len)
{
	char *text = NULL;
	FILE *to = open_memstream(&text, len);

	if (!to || settings_print(s, to) || fclose(to))
		abort();
	return text;
}

int LLVMFuzzerTestOneInput(const uint8_t *in, size_t len)
{
	struct settings *s = settings_new(), *again = settings_new();
	char why[SETTINGS_WHY] = "", *first, *second;
	size_t first_len, second_len;
	struct launch l;

	if (len > SETTINGS_FILE_MAX || settings_read(s, "f", "/d", (const char *)in, len, why)) {
		if (len <= SETTINGS_FILE_MAX && !*why)
			abort();
		goto out;
	}
	if (settings_apply(s, &l, why)) {
		if (!*why)
			abort();
	} else {
		launch_free(&l);
	}
	first = printed(s, &first_len);
	if (settings_read(again, "f", "/d", first, first_len, why))
		abort();
	second = printed(again, &second_len);
	if (first_len != second_len || memcmp(first, second, first_len))
		abort();
	free(first);
	free(second);
out:
	settings_free(s);
	settings_free(again);
	return 0;
}
