// SPDX-License-Identifier: GPL-2.0-only
/*
 * bzImage by the 64-bit boot protocol (Documentation/arch/x86/boot.rst), and the
 * uncompressed ELF vmlinux, whose entry follows the same protocol.
 */
#include "image.h"

#include <elf.h>
#include <errno.h>
#include <stdarg.h>
#include <stdbool.h>
#include <stdio.h>
#include <string.h>

#define HDR_OFF		0x1f1	/* struct setup_header in the file and zero page */
#define HDR_MAGIC	0x53726448	/* "HdrS" */
#define ENTRY_64	0x200	/* startup_64 from the start of the 32-bit part */
#define LOAD_MIN	0x100000

static _Thread_local char reason[200];

__attribute__((format(printf, 3, 4)))
static int fail(const char **why, int err, const char *fmt, ...)
{
	va_list ap;

	va_start(ap, fmt);
	vsnprintf(reason, sizeof(reason), fmt, ap);
	va_end(ap);
	*why = reason;
	return err;
}

static bool is_bzimage(const uint8_t *p, size_t len)
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
static int read_header(struct setup_header *h, const uint8_t *p, size_t len,
		       const char **why)
{
	size_t end = 0x202 + (size_t)p[0x201];
	size_t n = end - HDR_OFF;

	memset(h, 0, sizeof(*h));
	if (len < end)
		return fail(why, -EBADMSG, "the file ends inside its boot header");
	memcpy(h, p + HDR_OFF, n < sizeof(*h) ? n : sizeof(*h));
	if (h->version < 0x20c)
		return fail(why, -ENOEXEC, "its boot protocol is %u.%02u; 2.12 (Linux 3.8) is the oldest with a 64-bit entry",
			    h->version >> 8, h->version & 0xff);
	if (!(h->loadflags & LOADED_HIGH))
		return fail(why, -ENOEXEC, "it is a zImage, loaded low; only bzImages are supported");
	if (!(h->xloadflags & XLF_KERNEL_64))
		return fail(why, -ENOEXEC, "it is a 32-bit kernel");
	return 0;
}

static int parse_bzimage(struct image *img, const uint8_t *p, size_t len,
			 uint64_t low_bytes, const char **why)
{
	const struct setup_header *h = &img->hdr;
	uint64_t setup, body, need, gpa;
	int ret = read_header(&img->hdr, p, len, why);

	if (ret)
		return ret;
	setup = ((h->setup_sects ? h->setup_sects : 4u) + 1u) * 512u;
	body = (uint64_t)h->syssize * 16;
	if (setup >= len || len - setup < ENTRY_64 + 1)
		return fail(why, -EBADMSG, "the file ends after %zu bytes, inside its setup code of %llu",
			    len, (unsigned long long)setup);
	/* syssize counts what the linker saw; a signature may follow */
	if (body > len - setup + 16)
		return fail(why, -EBADMSG, "the file is cut short: %zu bytes of %llu",
			    len, (unsigned long long)(setup + body));
	body = len - setup;
	need = h->init_size > body ? h->init_size : body;
	gpa = h->pref_address;
	if (gpa < LOAD_MIN || gpa + need > low_bytes || gpa + need < gpa) {
		if (!h->relocatable_kernel)
			return fail(why, -EFBIG, "it must be at 0x%llx, which is beyond the guest's %llu MiB",
				    (unsigned long long)gpa, (unsigned long long)low_bytes >> 20);
		gpa = LOAD_MIN;
		if (h->kernel_alignment > LOAD_MIN)
			gpa = h->kernel_alignment;
	}
	if (gpa + need > low_bytes)
		return fail(why, -EFBIG, "it needs %llu MiB to unpack itself, the guest has %llu; give it more --memory",
			    (unsigned long long)(gpa + need) >> 20,
			    (unsigned long long)low_bytes >> 20);
	img->kind = IMAGE_BZIMAGE;
	img->parts[0] = (struct image_part){ setup, body, gpa, body };
	img->nr_parts = 1;
	img->entry = gpa + ENTRY_64;
	img->end = gpa + need;
	return 0;
}

/* ---- ELF ----------------------------------------------------------------- */

static int add_segment(struct image *img, const Elf64_Phdr *ph, size_t len,
		       uint64_t low_bytes, const char **why)
{
	if (ph->p_type != PT_LOAD || !ph->p_memsz)
		return 0;
	if (img->nr_parts == IMAGE_PARTS_MAX)
		return fail(why, -ENOEXEC, "it has more than %d segments", IMAGE_PARTS_MAX);
	if (ph->p_offset > len || ph->p_filesz > len - ph->p_offset ||
	    ph->p_filesz > ph->p_memsz)
		return fail(why, -EBADMSG, "a segment lies outside the file: is it cut short?");
	if (ph->p_paddr < LOAD_MIN || ph->p_memsz > low_bytes ||
	    ph->p_paddr > low_bytes - ph->p_memsz)
		return fail(why, -EFBIG, "a segment belongs at 0x%llx..0x%llx, the guest has RAM from 0x%x to 0x%llx",
			    (unsigned long long)ph->p_paddr,
			    (unsigned long long)(ph->p_paddr + ph->p_memsz), LOAD_MIN,
			    (unsigned long long)low_bytes);
	img->parts[img->nr_parts++] = (struct image_part){
		ph->p_offset, ph->p_filesz, ph->p_paddr, ph->p_memsz,
	};
	if (img->end < ph->p_paddr + ph->p_memsz)
		img->end = ph->p_paddr + ph->p_memsz;
	return 0;
}

static bool entry_in_part(const struct image *img)
{
	for (unsigned int i = 0; i < img->nr_parts; i++)
		if (img->entry >= img->parts[i].gpa &&
		    img->entry - img->parts[i].gpa < img->parts[i].file_bytes)
			return true;
	return false;
}

static int parse_elf(struct image *img, const uint8_t *p, size_t len,
		     uint64_t low_bytes, const char **why)
{
	Elf64_Ehdr eh;
	int ret = 0;

	if (len < sizeof(eh))
		return fail(why, -EBADMSG, "the file ends inside its ELF header");
	memcpy(&eh, p, sizeof(eh));
	if (eh.e_ident[EI_CLASS] != ELFCLASS64 || eh.e_machine != EM_X86_64)
		return fail(why, -ENOEXEC, "it is an ELF file, but not for x86-64");
	if (eh.e_type != ET_EXEC && eh.e_type != ET_DYN)
		return fail(why, -ENOEXEC, "it is an ELF file, but not an executable (a module?)");
	if (eh.e_phentsize != sizeof(Elf64_Phdr) || eh.e_phoff > len ||
	    eh.e_phnum > (len - eh.e_phoff) / sizeof(Elf64_Phdr))
		return fail(why, -EBADMSG, "its ELF program headers lie outside the file");
	img->kind = IMAGE_ELF;
	for (unsigned int i = 0; i < eh.e_phnum && !ret; i++) {
		Elf64_Phdr ph;

		memcpy(&ph, p + eh.e_phoff + i * sizeof(ph), sizeof(ph));
		ret = add_segment(img, &ph, len, low_bytes, why);
	}
	if (ret)
		return ret;
	img->entry = eh.e_entry;
	if (!entry_in_part(img))
		return fail(why, -ENOEXEC, "its entry point 0x%llx is in none of its segments: not a kernel",
			    (unsigned long long)img->entry);
	img->hdr.header = HDR_MAGIC;
	img->hdr.boot_flag = 0xaa55;
	img->hdr.version = 0x20c;
	img->hdr.initrd_addr_max = 0x7fffffff;
	img->hdr.cmdline_size = 2047;
	img->hdr.kernel_alignment = 0x200000;
	return 0;
}

int image_parse(struct image *img, const void *buf, size_t len,
		uint64_t low_bytes, const char **why)
{
	const uint8_t *p = buf;

	memset(img, 0, sizeof(*img));
	if (!len)
		return fail(why, -ENOEXEC, "the file is empty");
	if (is_bzimage(p, len))
		return parse_bzimage(img, p, len, low_bytes, why);
	if (len >= 4 && !memcmp(p, ELFMAG, SELFMAG))
		return parse_elf(img, p, len, low_bytes, why);
	if (len >= 64 && !memcmp(p + 56, "ARM\x64", 4))
		return fail(why, -ENOEXEC, "it is an arm64 kernel, this machine is x86-64");
	if (len >= 2 && p[0] == 0x1f && p[1] == 0x8b)
		return fail(why, -ENOEXEC, "it is a gzip file: an initrd, or a kernel to unpack first");
	return fail(why, -ENOEXEC, "it is neither a bzImage nor an ELF kernel (it starts with %02x %02x %02x %02x)",
		    p[0], len > 1 ? p[1] : 0, len > 2 ? p[2] : 0, len > 3 ? p[3] : 0);
}
