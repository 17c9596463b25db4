// SPDX-License-Identifier: LGPL-2.1-or-later
#include <errno.h>
#include <string.h>

#include "image/iso.h"
#include "uki.h"

#define SECTIONS_MAX	96u	/* of a PE file for any loader */
#define SECTION_BYTES	40u
#define NAME_BYTES	8u

/* Offset of the section table, and how many sections it has; 0: no PE file */
static size_t find_table(const uint8_t *p, size_t len, unsigned int *nr)
{
	size_t pe;

	if (len < 64 || p[0] != 'M' || p[1] != 'Z')
		return 0;
	pe = le32(p + 0x3c);
	if (pe > len || len - pe < 24 || memcmp(p + pe, "PE\0\0", 4))
		return 0;
	*nr = le16(p + pe + 6);
	return pe + 24 + le16(p + pe + 20);
}

/* What is behind the shorter of both lengths is padding, or not in the file. */
static int take(struct uki_section *s, const uint8_t *header, uint64_t file_bytes)
{
	uint32_t virtual_bytes = le32(header + 8), raw_bytes = le32(header + 16);

	s->off = le32(header + 20);
	s->bytes = virtual_bytes < raw_bytes ? virtual_bytes : raw_bytes;
	return s->off > file_bytes || s->bytes > file_bytes - s->off ? -EBADMSG : 0;
}

API int uki_find(struct uki_section *s, const uint8_t *p, size_t len, uint64_t file_bytes, const char *name)
{
	char padded[NAME_BYTES + 1] = "";
	unsigned int nr;
	size_t at = find_table(p, len, &nr);

	if (!at || strlen(name) > NAME_BYTES)
		return -ENOENT;
	if (nr > SECTIONS_MAX || at > len || nr * SECTION_BYTES > len - at)
		return -EBADMSG;
	memcpy(padded, name, strlen(name));
	for (; nr--; at += SECTION_BYTES)
		if (!memcmp(p + at, padded, NAME_BYTES))
			return take(s, p + at, file_bytes);
	return -ENOENT;
}

API bool uki_is(const uint8_t *p, size_t len, uint64_t file_bytes)
{
	struct uki_section s;

	return uki_find(&s, p, len, file_bytes, ".linux") != -ENOENT;
}
