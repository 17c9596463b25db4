// SPDX-License-Identifier: LGPL-2.1-or-later
/* Disk images, raw or not, firmware, device trees: by their magic numbers. */
#include <string.h>

#include "image.h"

#define SECTOR		512u
#define RAW_ONLY	"disks are raw images: qemu-img convert -O raw FILE disk.raw"

/* ---- formats of hypervisors ----------------------------------------------------- */

static bool probe_qcow2(struct vmplat_image *img)
{
	uint64_t bits = image_be(img, 20, 4);

	if (!image_magic(img, 0, "QFI\xfb", 4))
		return false;
	image_text(img, "format", "qcow2");
	image_number(img, "version", image_be(img, 4, 4));
	image_bytes(img, "virtual_bytes", image_be(img, 24, 8));
	if (bits < 64)
		image_bytes(img, "cluster_bytes", 1ULL << bits);
	image_flag(img, "backing_file", image_be(img, 8, 8));
	image_flag(img, "encrypted", image_be(img, 32, 4));
	image_number(img, "snapshots", image_be(img, 60, 4));
	return true;
}

static bool probe_vmdk(struct vmplat_image *img)
{
	if (image_magic(img, 0, "KDMV", 4)) {
		image_text(img, "format", "vmdk");
		image_number(img, "version", image_le(img, 4, 4));
		image_bytes(img, "virtual_bytes", image_le(img, 12, 8) * SECTOR);
		return true;
	}
	if (!image_magic(img, 0, "COWD", 4) && !image_magic(img, 0, "# Disk DescriptorFile", 21))
		return false;
	image_text(img, "format", "vmdk");
	return true;
}

static bool probe_vhd(struct vmplat_image *img)
{
	const uint8_t *p = NULL;
	uint64_t bytes = 0;

	if (image_magic(img, 0, "conectix", 8))
		p = image_at(img, 0, SECTOR);
	else if (img->tail_len == SECTOR && !memcmp(img->tail, "conectix", 8))
		p = img->tail;
	if (!p)
		return false;
	for (int i = 48; i < 56; i++)
		bytes = bytes << 8 | p[i];
	image_text(img, "format", "vhd");
	image_bytes(img, "virtual_bytes", bytes);
	return true;
}

static bool probe_vdi(struct vmplat_image *img)
{
	if (!image_magic(img, 0x40, "\x7f\x10\xda\xbe", 4))
		return false;
	image_text(img, "format", "vdi");
	image_bytes(img, "virtual_bytes", image_le(img, 0x170, 8));
	return true;
}

static bool probe_by_magic(struct vmplat_image *img)
{
	static const struct {
		const char *magic, *format;
		size_t len;
	} formats[] = {
		{ "vhdxfile", "vhdx", 8 },
		{ "QED\0", "qed", 4 },
		{ "WithoutFreeSpace", "parallels", 16 },
		{ "WithouFreSpacExt", "parallels", 16 },
		{ "OOOM", "user-mode-linux cow", 4 },
		{ "LUKS\xba\xbe", "luks", 6 },
	};

	for (size_t i = 0; i < sizeof(formats) / sizeof(formats[0]); i++) {
		if (!image_magic(img, 0, formats[i].magic, formats[i].len))
			continue;
		image_text(img, "format", "%s", formats[i].format);
		return true;
	}
	if (img->tail_len != SECTOR || memcmp(img->tail, "koly", 4))
		return false;
	image_text(img, "format", "dmg");
	return true;
}

bool probe_disk_format(struct vmplat_image *img)
{
	const struct vmplat_fact *f;

	if (!probe_qcow2(img) && !probe_vmdk(img) && !probe_vhd(img) && !probe_vdi(img) &&
	    !probe_by_magic(img))
		return false;
	f = vmplat_image_find(img, "format");
	if (!f)
		return true;
	image_summary(img, "disk image, %s", f->text);
	if (!strcmp(f->text, "luks"))
		img->role = "disk";	/* a raw one, of the guest's own making */
	else
		image_obstacle(img, "it is a %s image; " RAW_ONLY, f->text);
	return true;
}

/* ---- raw ------------------------------------------------------------------------- */

static void raw(struct vmplat_image *img, const char *what)
{
	image_text(img, "format", "raw");
	image_summary(img, "raw disk image, %s", what);
	img->role = "disk";
}

bool probe_iso(struct vmplat_image *img)
{
	const char *label = (const char *)image_at(img, 32768 + 40, 32);

	if (!image_magic(img, 32769, "CD001", 5))
		return false;
	raw(img, "ISO 9660");
	for (int n = 32; label && n; n--) {
		if (label[n - 1] == ' ' || !label[n - 1])
			continue;
		image_text(img, "label", "%.*s", n, label);
		break;
	}
	image_flag(img, "el_torito", image_magic(img, 17 * 2048, "\0CD001\x01" "EL TORITO SPECIFICATION", 30));
	return true;
}

bool probe_gpt(struct vmplat_image *img)
{
	uint64_t sector = SECTOR, nr = 0, used = 0, at;

	if (!image_magic(img, sector, "EFI PART", 8))
		sector = 4096;
	if (!image_magic(img, sector, "EFI PART", 8))
		return false;
	raw(img, "GPT");
	nr = image_le(img, sector + 80, 4);
	at = image_le(img, sector + 72, 8);
	if (at < img->len / sector && image_le(img, sector + 84, 4) == 128)
		for (uint64_t i = 0; i < nr && i < 1024; i++)
			used += image_le(img, at * sector + i * 128, 8) ||
				image_le(img, at * sector + i * 128 + 8, 8);
	image_number(img, "partitions", used);
	image_number(img, "sector_bytes", sector);
	return true;
}

bool probe_filesystem(struct vmplat_image *img)
{
	static const struct {
		uint64_t off;
		const char *magic, *name;
		size_t len;
	} filesystems[] = {
		{ 0x438, "\x53\xef", "ext2/3/4", 2 },
		{ 0, "XFSB", "XFS", 4 },
		{ 0x10040, "_BHRfS_M", "btrfs", 8 },
		{ 0, "hsqs", "squashfs", 4 },
		{ 1024, "\xe2\xe1\xf5\xe0", "erofs", 4 },
		{ 54, "FAT12   ", "FAT", 8 },
		{ 54, "FAT16   ", "FAT", 8 },
		{ 82, "FAT32   ", "FAT", 8 },
		{ 3, "NTFS    ", "NTFS", 8 },
		{ 0x218, "LVM2 001", "LVM physical volume", 8 },
		{ 4086, "SWAPSPACE2", "swap space", 10 },
	};

	for (size_t i = 0; i < sizeof(filesystems) / sizeof(filesystems[0]); i++) {
		if (!image_magic(img, filesystems[i].off, filesystems[i].magic, filesystems[i].len))
			continue;
		raw(img, filesystems[i].name);
		image_text(img, "filesystem", "%s", filesystems[i].name);
		return true;
	}
	return false;
}

/* four entries that make sense, at least one of them in use */
bool probe_mbr(struct vmplat_image *img)
{
	unsigned int used = 0;

	if (!image_magic(img, 510, "\x55\xaa", 2))
		return false;
	for (uint64_t at = 446; at < 510; at += 16) {
		uint64_t status = image_le(img, at, 1), type = image_le(img, at + 4, 1);

		if (status & 0x7f)
			return false;
		if (type && !image_le(img, at + 12, 4))
			return false;
		used += type != 0;
	}
	if (!used)
		return false;
	raw(img, "MBR");
	image_number(img, "partitions", used);
	return true;
}

/* ---- firmware --------------------------------------------------------------------- */

static bool contains(const struct vmplat_image *img, const char *text)
{
	return memmem(img->p, img->len, text, strlen(text));
}

bool probe_firmware(struct vmplat_image *img)
{
	bool uefi = image_magic(img, 40, "_FVH", 4), bios;
	const uint8_t *reset;

	if (!image_is_whole(img) || img->len < 65536 || img->len % 4096)
		return false;
	/* x86 starts at the last 16 bytes: a jump, near or to segment f000 */
	reset = img->p + img->len - 16;
	bios = (reset[0] == 0xea && reset[3] == 0x00 && reset[4] == 0xf0) || reset[0] == 0xe9;
	if (!uefi && !bios && !contains(img, "_FVH"))
		return false;
	if (uefi || contains(img, "_FVH")) {
		image_summary(img, "UEFI firmware");
		image_text(img, "interface", "UEFI");
		image_flag(img, "variables_only", uefi && *reset == 0xff);
	} else {
		image_summary(img, contains(img, "SeaBIOS") ? "BIOS firmware, SeaBIOS" : "BIOS firmware");
		image_text(img, "interface", "BIOS");
	}
	img->role = "firmware";
	return true;
}

/* ---- device trees: the Devicetree Specification, chapter 5 ---------------------------- */

#define FDT_BEGIN_NODE	1
#define FDT_PROP	3
#define FDT_NOP		4

/* name of a property, in the block of strings */
static bool prop_is(const struct vmplat_image *img, uint64_t off, const char *name)
{
	return image_magic(img, image_be(img, 12, 4) + off, name, strlen(name) + 1);
}

/* properties of the root node, until its first child; true: it is a FIT */
static bool describe_root(struct vmplat_image *img)
{
	uint64_t at = image_be(img, 8, 4) + 8;
	bool fit = false;

	for (int i = 0; i < 64; i++) {
		uint64_t token = image_be(img, at, 4), n = image_be(img, at + 4, 4);
		uint64_t name = image_be(img, at + 8, 4);
		const char *text;

		if (token == FDT_NOP) {
			at += 4;
			continue;
		}
		if (token == FDT_BEGIN_NODE)
			fit = fit || image_magic(img, at + 4, "images", 7);
		if (token != FDT_PROP)
			break;
		text = (const char *)image_at(img, at + 12, n);
		if (text && n && prop_is(img, name, "model"))
			image_text(img, "model", "%.*s", (int)strnlen(text, n < 128 ? n : 128), text);
		else if (text && n && prop_is(img, name, "compatible"))
			image_text(img, "compatible", "%.*s", (int)strnlen(text, n < 128 ? n : 128), text);
		at += 12 + ((n + 3) & ~3ULL);
	}
	return fit;
}

bool probe_dtb(struct vmplat_image *img)
{
	uint64_t bytes = image_be(img, 4, 4);
	bool fit;

	if (!image_magic(img, 0, "\xd0\x0d\xfe\xed", 4) || bytes < 40)
		return false;
	image_number(img, "version", image_be(img, 20, 4));
	image_bytes(img, "tree_bytes", bytes);
	fit = describe_root(img);
	image_summary(img, fit ? "FIT image (kernels in a device tree)" : "device tree blob");
	if (bytes > img->bytes)
		image_obstacle(img, "the file is cut short: %llu bytes of %llu",
			       (unsigned long long)img->bytes, (unsigned long long)bytes);
	else
		image_obstacle(img, "x86-64 guests are described by ACPI, not by a device tree");
	return true;
}
