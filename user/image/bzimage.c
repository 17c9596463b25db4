// SPDX-License-Identifier: LGPL-2.1-or-later
/* Kernels by the x86 boot protocol; see kernel.h. */
#include "kernel.h"

#include <errno.h>
#include <string.h>

#include "lib/lib.h"
#include "why.h"

#define HDR_OFF		0x1f1	/* struct setup_header in the file and zero page */
#define HDR_MAGIC	0x53726448	/* "HdrS" */
#define ENTRY_64	0x200	/* startup_64 from the start of the 32-bit part */
#define VERSION_MIN	0x20c	/* the first with a 64-bit entry */

API bool bzimage_is(const uint8_t *p, size_t len)
{
	uint16_t flag;
	uint32_t magic;

	if (len < 0x206)
		return false;
	memcpy(&flag, p + 0x1fe, sizeof(flag));
	memcpy(&magic, p + 0x202, sizeof(magic));
	return flag == 0xaa55 && magic == HDR_MAGIC;
}

/* the header ends where the jump at its start goes */
static int read_header(struct setup_header *h, const uint8_t *p, size_t len, const char **why)
{
	size_t end = 0x202 + (size_t)p[0x201];
	size_t n = end - HDR_OFF;

	if (len < end)
		return image_fail(why, -EBADMSG, "the file ends inside its boot header");
	memcpy(h, p + HDR_OFF, n < sizeof(*h) ? n : sizeof(*h));
	return 0;
}

static void read_version(struct bzimage *b, const uint8_t *p, size_t len)
{
	size_t at = b->hdr.kernel_version + 0x200u, n = 0;

	if (!b->hdr.kernel_version || at >= b->setup_bytes || at >= len)
		return;
	if (len > b->setup_bytes)
		len = b->setup_bytes;
	while (n < sizeof(b->version) - 1 && at + n < len && p[at + n] >= ' ' && p[at + n] < 0x7f)
		n++;
	memcpy(b->version, p + at, n);
	b->version[n] = 0;
}

/* where the payload is; one that makes no sense is none, the kernel may know better */
static void read_payload(struct bzimage *b, const uint8_t *p, size_t len, uint64_t file_bytes)
{
	uint64_t off = b->setup_bytes + b->hdr.payload_offset, n = b->hdr.payload_length;
	uint32_t unpacked;

	if (b->hdr.version < 0x208 || n < 16 || off >= file_bytes || n > file_bytes - off)
		return;
	if (off + n > len) {	/* only the head is here */
		if (len > off)
			b->format = unpack_detect(p + off, len - off);
		return;
	}
	b->format = unpack_detect(p + off, n);
	memcpy(&unpacked, p + off + n - sizeof(unpacked), sizeof(unpacked));
	b->payload_off = off;
	b->payload_bytes = n;
	b->unpacked_bytes = unpacked;
}

API int bzimage_parse(struct bzimage *b, const uint8_t *p, size_t len, uint64_t file_bytes,
		      const char **why)
{
	const struct setup_header *h = &b->hdr;
	uint64_t said;
	int ret;

	memset(b, 0, sizeof(*b));
	ret = read_header(&b->hdr, p, len, why);
	if (ret)
		return ret;
	b->setup_bytes = ((h->setup_sects ? h->setup_sects : 4u) + 1u) * 512u;
	if (b->setup_bytes >= file_bytes || file_bytes - b->setup_bytes < ENTRY_64 + 1)
		return image_fail(why, -EBADMSG, "the file ends after %llu bytes, inside its setup code of %llu",
				  (unsigned long long)file_bytes,
				  (unsigned long long)b->setup_bytes);
	/* syssize counts what the linker saw; a signature may follow */
	said = (uint64_t)h->syssize * 16;
	b->code_bytes = file_bytes - b->setup_bytes;
	if (said > b->code_bytes + 16) {
		b->cut_short = true;
		return image_fail(why, -EBADMSG, "the file is cut short: %llu bytes of %llu",
				  (unsigned long long)file_bytes,
				  (unsigned long long)(b->setup_bytes + said));
	}
	b->need_bytes = h->version >= 0x20a && h->init_size > b->code_bytes ? h->init_size : b->code_bytes;
	read_version(b, p, len);
	read_payload(b, p, len, file_bytes);
	return 0;
}

API const char *bzimage_obstacle(const struct bzimage *b)
{
	const struct setup_header *h = &b->hdr;
	const char *why;

	if (h->version < VERSION_MIN) {
		image_fail(&why, 0, "its boot protocol is %u.%02u; 2.12 (Linux 3.8) is the oldest with a 64-bit entry",
			   h->version >> 8, h->version & 0xff);
		return why;
	}
	if (!(h->loadflags & LOADED_HIGH))
		return "it is a zImage, loaded low; only bzImages are supported";
	if (!(h->xloadflags & XLF_KERNEL_64))
		return "it is a 32-bit kernel";
	return NULL;
}

API int bzimage_place(const struct bzimage *b, uint64_t low_bytes, struct kernel_part *part,
		      uint64_t *entry, uint64_t *end, const char **why)
{
	const struct setup_header *h = &b->hdr;
	uint64_t gpa = h->pref_address, need = b->need_bytes;

	if (gpa < KERNEL_LOAD_MIN || gpa + need > low_bytes || gpa + need < gpa) {
		if (!h->relocatable_kernel)
			return image_fail(why, -EFBIG, "it must be at 0x%llx, which is beyond the guest's %llu MiB",
					  (unsigned long long)gpa,
					  (unsigned long long)low_bytes >> 20);
		gpa = KERNEL_LOAD_MIN;
		if (h->kernel_alignment > gpa)
			gpa = h->kernel_alignment;
	}
	if (gpa + need > low_bytes)
		return image_fail(why, -EFBIG, "it needs %llu MiB to unpack itself, the guest has %llu; give it more --memory",
				  (unsigned long long)(gpa + need) >> 20,
				  (unsigned long long)low_bytes >> 20);
	*part = (struct kernel_part){ b->setup_bytes, b->code_bytes, gpa, b->code_bytes };
	*entry = gpa + ENTRY_64;
	*end = gpa + need;
	return 0;
}

API int bzimage_unpack(const struct bzimage *b, const uint8_t *p, uint8_t *buf, const char **why)
{
	struct unpack_out out = { .buf = buf, .size = b->unpacked_bytes };
	size_t n = b->payload_bytes, used;
	int ret;

	if (b->format == UNPACK_NONE || b->format == UNPACK_LZO)
		return image_fail(why, -EOPNOTSUPP, "its compression (%s) is not one of those understood here",
				  b->format ? unpack_name(b->format) : "unknown");
	/* but for gzip, which ends in the length itself, the length was added */
	if (b->format != UNPACK_GZIP)
		n -= 4;
	ret = unpack_stream(b->format, p + b->payload_off, n, &out, &used);
	if (!ret && out.len != b->unpacked_bytes)
		ret = -EBADMSG;
	if (ret == -ENOMEM)
		return image_fail(why, ret, "not enough memory to unpack it");
	if (ret)
		return image_fail(why, -EBADMSG, "its %s data are damaged at or before byte %llu",
				  unpack_name(b->format),
				  (unsigned long long)(b->payload_off + used));
	return 0;
}
