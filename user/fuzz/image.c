// SPDX-License-Identifier: LGPL-2.1-or-later
/*
 * Hostile boot images: every probe, the loader's own parsing, unpacking, relocation.
 * The first byte chooses; the rest is the file. Seeds are worth having:
 * `image CORPUS` on a folder with the heads of real kernels and initrds.
 */
#include <stdlib.h>
#include <string.h>

#include <vmplat.h>

#include "image/kernel.h"

#define SPAN_MAX	(1u << 20)

int LLVMFuzzerTestOneInput(const uint8_t *in, size_t len);

static void describe(const uint8_t *p, size_t len, uint32_t flags)
{
	struct vmplat_image *img;

	if (vmplat_image_from_bytes(&img, p, len, flags))
		return;
	/* exactly one of both, always */
	if (!vmplat_image_role(img) == !vmplat_image_obstacle(img))
		abort();
	vmplat_image_close(img);
}

static void relocate(const uint8_t *p, size_t len)
{
	struct elf_relocs r;
	struct elf_image e;
	const char *why;
	uint8_t *mem;

	if (!elf_is(p, len) || elf_parse(&e, p, len, &why) || elf_obstacle(&e) ||
	    elf_relocs(&r, &e, p, len, &why) || e.end - e.start > SPAN_MAX)
		return;
	mem = calloc(1, e.end - e.start);
	if (mem)
		elf_relocate(&r, &e, mem, 0x200000, &why);
	free(mem);
}

static void load(const uint8_t *p, size_t len)
{
	struct kernel_part part;
	uint64_t entry, end;
	struct bzimage b;
	const char *why;
	uint8_t *out;

	if (!bzimage_is(p, len) || bzimage_parse(&b, p, len, len, &why) || bzimage_obstacle(&b))
		return;
	if (!bzimage_place(&b, 512u << 20, &part, &entry, &end, &why) &&
	    (part.off + part.file_bytes > len || part.gpa + part.mem_bytes > 512u << 20))
		abort();
	if (!b.payload_bytes || b.unpacked_bytes > SPAN_MAX)
		return;
	out = malloc(b.unpacked_bytes + 1);
	if (out && !bzimage_unpack(&b, p, out, &why))
		relocate(out, b.unpacked_bytes);
	free(out);
}

int LLVMFuzzerTestOneInput(const uint8_t *in, size_t len)
{
	if (!len)
		return 0;
	describe(in + 1, len - 1, *in & 1 ? VMPLAT_IMAGE_F_DEEP : 0);
	load(in + 1, len - 1);
	relocate(in + 1, len - 1);
	return 0;
}
