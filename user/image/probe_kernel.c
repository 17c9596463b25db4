// SPDX-License-Identifier: LGPL-2.1-or-later
/*
 * Kernels and what else a firmware would start: bzImage and ELF (kernel.h reads them),
 * the Images of arm64 and RISC-V (Documentation/arch/{arm64,riscv}), EFI zboot, PE.
 */
#include <elf.h>
#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include <vmplat_map.h>

#include "image.h"
#include "kernel.h"
#include "uki.h"

#define NO_BIG_ENDIAN	"vmplat run takes little-endian ones"

/* offset of the PE header, 0 if it is none */
static uint64_t pe_header(const struct vmplat_image *img)
{
	uint64_t at = image_le(img, 0x3c, 4);

	return image_magic(img, 0, "MZ", 2) && image_magic(img, at, "PE\0\0", 4) ? at : 0;
}

/* ---- bzImage ------------------------------------------------------------------ */

static void describe_header(struct vmplat_image *img, const struct bzimage *b)
{
	const struct setup_header *h = &b->hdr;

	image_text(img, "protocol", "%u.%02u", h->version >> 8, h->version & 0xff);
	image_flag(img, "entry_64", h->version >= 0x20c && h->xloadflags & XLF_KERNEL_64);
	image_flag(img, "relocatable", h->version >= 0x205 && h->relocatable_kernel);
	image_flag(img, "paging_5_level", h->version >= 0x20c && h->xloadflags & XLF_5LEVEL_ENABLED);
	image_flag(img, "efi_stub", pe_header(img));
	if (h->version >= 0x20a)
		image_address(img, "preferred_address", h->pref_address);
	if (img->bytes != IMAGE_BYTES_UNKNOWN)
		image_bytes(img, "memory_to_start", b->need_bytes);
	image_number(img, "cmdline_max", h->version >= 0x206 ? h->cmdline_size : 255);
	if (b->format)
		image_text(img, "compression", "%s", unpack_name(b->format));
	if (b->payload_bytes) {
		image_bytes(img, "compressed_bytes", b->payload_bytes);
		image_bytes(img, "unpacked_bytes", b->unpacked_bytes);
	}
}

/* the vmlinux within */
static void describe_payload(struct vmplat_image *img, const struct bzimage *b)
{
	struct vmplat_image *part;
	struct elf_relocs r;
	struct elf_image e;
	const struct vmplat_map_options lazy = { .flags = VMPLAT_MAP_F_LAZY };
	struct vmplat_map *map;
	const char *why;
	uint8_t *p;

	if (!b->payload_bytes || !b->unpacked_bytes || b->unpacked_bytes > KERNEL_PAYLOAD_MAX)
		return;
	if (vmplat_map_new(&map, b->unpacked_bytes, &lazy)) {
		img->no_memory = true;
		return;
	}
	p = vmplat_map_addr(map);
	if (bzimage_unpack(b, img->p, p, &why)) {
		image_text(img, "damage", "%s", why);
	} else {
		part = image_part(img);
		if (part)
			image_describe(part, p, b->unpacked_bytes, b->unpacked_bytes);
		image_flag(img, "kaslr", elf_is(p, b->unpacked_bytes) &&
			   !elf_parse(&e, p, b->unpacked_bytes, &why) &&
			   !elf_relocs(&r, &e, p, b->unpacked_bytes, &why));
	}
	vmplat_map_close(map);
}

bool probe_bzimage(struct vmplat_image *img)
{
	const char *why = NULL;
	struct bzimage b;
	int ret;

	if (!bzimage_is(img->p, img->len))
		return false;
	ret = bzimage_parse(&b, img->p, img->len, img->bytes, &why);
	if (!ret)
		why = bzimage_obstacle(&b);
	if (*b.version)
		image_text(img, "version", "%s", b.version);
	describe_header(img, &b);
	image_summary(img, "Linux kernel for x86, bzImage%s%.*s%s%s", *b.version ? ", " : "",
		      (int)strcspn(b.version, " "), b.version, b.format ? ", " : "",
		      b.format ? unpack_name(b.format) : "");
	if (why)
		image_obstacle(img, "%s", why);
	else
		img->role = "kernel";
	if (!ret && img->flags & VMPLAT_IMAGE_F_DEEP && image_is_whole(img))
		describe_payload(img, &b);
	return true;
}

/* ---- ELF ------------------------------------------------------------------------ */

static const char *machine_name(uint16_t machine)
{
	static const struct {
		uint16_t machine;
		const char *name;
	} names[] = {
		{ EM_X86_64, "x86-64" }, { EM_386, "x86" }, { EM_AARCH64, "arm64" },
		{ EM_ARM, "arm" }, { EM_RISCV, "riscv" }, { EM_PPC64, "ppc64" },
		{ EM_S390, "s390" }, { EM_MIPS, "mips" }, { EM_SPARCV9, "sparc64" },
	};

	for (size_t i = 0; i < sizeof(names) / sizeof(names[0]); i++)
		if (names[i].machine == machine)
			return names[i].name;
	return "another machine";
}

bool probe_elf(struct vmplat_image *img)
{
	static const char *const types[] = { "none", "relocatable", "executable",
					     "shared", "core dump" };
	const char *why = NULL;
	struct elf_image e;
	int ret;

	if (!elf_is(img->p, img->len))
		return false;
	if (!image_is_whole(img)) {
		image_summary(img, "ELF file");
		image_obstacle(img, "an ELF file of more than 2 GiB is no kernel");
		return true;
	}
	ret = elf_parse(&e, img->p, img->len, &why);
	if (!ret)
		why = elf_obstacle(&e);
	image_text(img, "machine", "%s", machine_name(e.machine));
	image_text(img, "type", "%s", e.type < 5 ? types[e.type] : "of its own");
	image_number(img, "bits", e.class == ELFCLASS64 ? 64 : 32);
	image_summary(img, "ELF %s for %s", e.type < 5 ? types[e.type] : "file",
		      machine_name(e.machine));
	if (!ret && e.nr_parts) {
		image_address(img, "entry", e.entry);
		image_number(img, "segments", e.nr_parts);
		image_address(img, "start", e.start);
		image_address(img, "end", e.end);
	}
	if (e.has_pvh)
		image_address(img, "pvh_entry", e.pvh_entry);
	if (why)
		image_obstacle(img, "%s", why);
	else
		img->role = "kernel";
	return true;
}

/* ---- arm64, RISC-V ---------------------------------------------------------------- */

bool probe_arm64(struct vmplat_image *img)
{
	static const char *const pages[] = { "not said", "4 KiB", "16 KiB", "64 KiB" };
	uint64_t flags = image_le(img, 24, 8);

	if (!image_magic(img, 56, "ARM\x64", 4))
		return false;
	image_summary(img, "Linux kernel for arm64, Image");
	image_address(img, "text_offset", image_le(img, 8, 8));
	image_bytes(img, "memory_to_start", image_le(img, 16, 8));
	image_text(img, "byte_order", flags & 1 ? "big-endian" : "little-endian");
	image_text(img, "page_size", "%s", pages[flags >> 1 & 3]);
	image_flag(img, "efi_stub", pe_header(img));
	if (flags & 1)
		image_obstacle(img, "it is a big-endian arm64 kernel; " NO_BIG_ENDIAN);
	else
		img->role = "kernel";	/* QEMU runs it */
	return true;
}

bool probe_riscv(struct vmplat_image *img)
{
	uint64_t version = image_le(img, 32, 4);

	if (!image_magic(img, 56, "RSC\x05", 4))
		return false;
	image_summary(img, "Linux kernel for RISC-V, Image");
	image_text(img, "header", "%u.%u", (unsigned int)(version >> 16 & 0xffff),
		   (unsigned int)(version & 0xffff));
	image_address(img, "text_offset", image_le(img, 8, 8));
	image_bytes(img, "memory_to_start", image_le(img, 16, 8));
	image_text(img, "byte_order", image_le(img, 24, 8) & 1 ? "big-endian" : "little-endian");
	image_flag(img, "efi_stub", pe_header(img));
	if (image_le(img, 24, 8) & 1)
		image_obstacle(img, "it is a big-endian RISC-V kernel; " NO_BIG_ENDIAN);
	else
		img->role = "kernel";	/* QEMU runs it */
	return true;
}

/* ---- PE ----------------------------------------------------------------------------- */

static const char *pe_machine(uint64_t machine)
{
	switch (machine) {
	case 0x8664:
		return "x86-64";
	case 0x14c:
		return "x86";
	case 0xaa64:
		return "arm64";
	case 0x1c2:
		return "arm";
	case 0x5064:
		return "riscv64";
	case 0x6264:
		return "loongarch64";
	default:
		return "another machine";
	}
}

static const char *pe_subsystem(uint64_t subsystem)
{
	switch (subsystem) {
	case 10:
		return "EFI application";
	case 11:
		return "EFI boot service driver";
	case 12:
		return "EFI runtime driver";
	case 13:
		return "EFI ROM";
	default:
		return "program, not for EFI";
	}
}

/* a section's contents as text; those of a unified kernel image */
/* to the first NUL or end of a line */
static size_t text_length(const char *p, size_t max)
{
	size_t n = 0;

	while (n < max && p[n] && p[n] != '\n')
		n++;
	return n;
}

static void section_text(struct vmplat_image *img, const char *fact, const char *name)
{
	struct uki_section s;
	const char *p;

	if (uki_find(&s, img->p, img->len, img->bytes, name))
		return;
	if (s.bytes > 512)
		s.bytes = 512;
	p = (const char *)image_at(img, s.off, s.bytes);
	if (p)
		image_text(img, fact, "%.*s", (int)text_length(p, s.bytes), p);
}

/* NULL, or why the kernel in it cannot be entered */
static const char *uki_obstacle(struct vmplat_image *img)
{
	struct uki_section s;
	struct bzimage b;
	const uint8_t *p;
	const char *why;

	if (uki_find(&s, img->p, img->len, img->bytes, ".linux"))
		return "the unified kernel image is cut short, or its sections are damaged";
	p = image_at(img, s.off, s.bytes);
	if (!p || !bzimage_is(p, s.bytes))
		return "it is a unified kernel image, but not of a bzImage; objcopy -O binary -j .linux FILE takes out what it has";
	return bzimage_parse(&b, p, s.bytes, s.bytes, &why) ? why : bzimage_obstacle(&b);
}

static void describe_uki(struct vmplat_image *img, const char *machine)
{
	const char *why = uki_obstacle(img);
	struct uki_section s;

	image_summary(img, "unified kernel image for %s", machine);
	section_text(img, "version", ".uname");
	section_text(img, "cmdline", ".cmdline");
	if (!uki_find(&s, img->p, img->len, img->bytes, ".linux"))
		image_bytes(img, "kernel_bytes", s.bytes);
	if (!uki_find(&s, img->p, img->len, img->bytes, ".initrd"))
		image_bytes(img, "initrd_bytes", s.bytes);
	if (why)
		image_obstacle(img, "%s", why);
	else
		img->role = "kernel";	/* the runner takes the sections out */
}

bool probe_pe(struct vmplat_image *img)
{
	uint64_t pe = pe_header(img);
	const char *machine, *what;

	if (!pe)
		return false;
	machine = pe_machine(image_le(img, pe + 4, 2));
	what = pe_subsystem(image_le(img, pe + 24 + 68, 2));
	image_text(img, "machine", "%s", machine);
	image_text(img, "subsystem", "%s", what);
	if (uki_is(img->p, img->len, img->bytes)) {
		describe_uki(img, machine);
	} else {
		image_summary(img, "%s for %s", what, machine);
		image_obstacle(img, "it is a program for %s: put it on a disk, and boot that with --firmware ovmf",
			       strncmp(what, "EFI", 3) ? "Windows" : "UEFI");
	}
	return true;
}

/* ---- EFI zboot: drivers/firmware/efi/libstub/zboot-header.S -------------------------- */

static void describe_zboot(struct vmplat_image *img, uint64_t off, uint64_t n)
{
	const uint8_t *p = image_at(img, off, n);

	if (p)
		image_describe_head(img, unpack_detect(p, n), p, n);
}

bool probe_zboot(struct vmplat_image *img)
{
	uint64_t pe = pe_header(img), off = image_le(img, 8, 4), n = image_le(img, 12, 4);
	const char *comp = (const char *)image_at(img, 24, 32);

	if (!pe || !image_magic(img, 4, "zimg", 4) || !comp)
		return false;
	image_text(img, "machine", "%s", pe_machine(image_le(img, pe + 4, 2)));
	image_text(img, "compression", "%.*s", (int)strnlen(comp, 32), comp);
	image_bytes(img, "compressed_bytes", n);
	image_summary(img, "compressed Linux kernel for %s, EFI zboot",
		      pe_machine(image_le(img, pe + 4, 2)));
	if (!image_at(img, off, n))
		image_obstacle(img, "the file is cut short: its payload ends at byte %llu of %llu",
			       (unsigned long long)(off + n), (unsigned long long)img->bytes);
	else
		image_obstacle(img, "it unpacks itself under UEFI: unpack it, or boot a disk that has it with --firmware ovmf");
	if (img->flags & VMPLAT_IMAGE_F_DEEP)
		describe_zboot(img, off, n);
	return true;
}

/* ---- formats of other boot loaders ------------------------------------------------------ */

bool probe_other_kernel(struct vmplat_image *img)
{
	if (image_magic(img, 0, "\x27\x05\x19\x56", 4)) {
		const char *name = (const char *)image_at(img, 32, 32);

		image_summary(img, "U-Boot image");
		if (name)
			image_text(img, "version", "%.*s", (int)strnlen(name, 32), name);
		image_obstacle(img, "it is wrapped for U-Boot; the kernel is behind its first 64 bytes");
		return true;
	}
	if (image_magic(img, 0, "ANDROID!", 8)) {
		image_summary(img, "Android boot image");
		image_obstacle(img, "it is an Android boot image; unpack_bootimg takes the kernel out");
		return true;
	}
	if (image_magic(img, 0, "#!", 2)) {
		image_summary(img, "script");
		image_obstacle(img, "it is neither a bzImage nor an ELF kernel, but a script");
		return true;
	}
	return false;
}
