/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* What the describer says about images made here, byte by byte. */
#include <asm/bootparam.h>
#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <unistd.h>
#include <vmplat.h>
#include <zlib.h>
#include <zstd.h>

#include "tap.h"

#define MIB	(1u << 20)

static uint8_t *buf;

static void put(size_t off, const void *p, size_t n)
{
	memcpy(buf + off, p, n);
}

static void put_le(size_t off, uint64_t v, unsigned int n)
{
	memcpy(buf + off, &v, n);
}

static void put_be(size_t off, uint64_t v, unsigned int n)
{
	while (n--) {
		buf[off + n] = (uint8_t)v;
		v >>= 8;
	}
}

/* describes the first @len bytes, from memory that ends there; and clears the buffer */
static struct vmplat_image *describe(size_t len)
{
	struct vmplat_image *img;
	uint8_t *copy = malloc(len ? len : 1);

	memcpy(copy, buf, len);
	CHECK_EQ(vmplat_image_from_bytes(&img, copy, len, VMPLAT_IMAGE_F_DEEP), 0);
	free(copy);
	memset(buf, 0, 4 * MIB);
	return img;
}

static const char *text(const struct vmplat_image *img, const char *name)
{
	const struct vmplat_fact *f = vmplat_image_find(img, name);

	return f && f->text ? f->text : "";
}

static uint64_t number(const struct vmplat_image *img, const char *name)
{
	const struct vmplat_fact *f = vmplat_image_find(img, name);

	return f ? f->number : ~0ULL;
}

/* kind, role, and words that the obstacle or else the summary has; leaves @img open */
static void is(const struct vmplat_image *img, enum vmplat_image_kind kind, const char *role,
	       const char *words)
{
	const char *said = vmplat_image_obstacle(img);

	CHECK_EQ(vmplat_image_kind(img), kind);
	CHECK(!role == !vmplat_image_role(img));
	if (role && vmplat_image_role(img))
		CHECK(!strcmp(role, vmplat_image_role(img)));
	CHECK(!role == !!said);		/* one of the two, always */
	if (!said)
		said = vmplat_image_summary(img);
	CHECK(strstr(said, words));
	if (!strstr(said, words))
		printf("# it says: %s\n", said);
}

static void ends(size_t len, enum vmplat_image_kind kind, const char *role, const char *words)
{
	struct vmplat_image *img = describe(len);

	is(img, kind, role, words);
	vmplat_image_close(img);
}

/* ---- other machines, other loaders ------------------------------------------- */

TEST(other_machines)
{
	struct vmplat_image *img;

	put(56, "ARM\x64", 4);
	put_le(16, 32 * MIB, 8);
	put_le(24, 0xa, 8);
	img = describe(4096);
	is(img, VMPLAT_IMAGE_ARM64, "kernel", "arm64");
	CHECK_EQ(number(img, "memory_to_start"), 32 * MIB);
	CHECK(!strcmp(text(img, "page_size"), "4 KiB"));
	vmplat_image_close(img);

	put(48, "RISCV\0\0\0RSC\x05", 12);
	put_le(32, 2, 4);
	img = describe(4096);
	is(img, VMPLAT_IMAGE_RISCV, "kernel", "RISC-V");
	CHECK(!strcmp(text(img, "header"), "0.2"));
	vmplat_image_close(img);

	put(56, "ARM\x64", 4);
	put_le(24, 0xb, 8);
	img = describe(4096);
	is(img, VMPLAT_IMAGE_ARM64, NULL, "arm64");
	CHECK(strstr(vmplat_image_obstacle(img), "big-endian"));
	vmplat_image_close(img);

	put(0, "\x27\x05\x19\x56", 4);
	ends(4096, VMPLAT_IMAGE_UNKNOWN, NULL, "U-Boot");
	put(0, "ANDROID!", 8);
	ends(4096, VMPLAT_IMAGE_UNKNOWN, NULL, "Android");
	put(0, "#!/bin/sh\n", 10);
	ends(10, VMPLAT_IMAGE_UNKNOWN, NULL, "script");
	ends(0, VMPLAT_IMAGE_UNKNOWN, NULL, "empty");
	put(0, "hello", 5);
	ends(5, VMPLAT_IMAGE_UNKNOWN, NULL, "68 65 6c 6c");
}

static void pe(unsigned int machine, unsigned int subsystem, unsigned int sections)
{
	put(0, "MZ", 2);
	put_le(0x3c, 0x80, 4);
	put(0x80, "PE\0\0", 4);
	put_le(0x84, machine, 2);
	put_le(0x86, sections, 2);
	put_le(0x94, 240, 2);
	put_le(0x98 + 68, subsystem, 2);
}

#define KERNEL_BYTES (5 * 512 + 0x1000)

/* a kernel of headers and zeroes at 8192, which the section says is at @at */
static void unified(uint32_t at)
{
	struct setup_header h = {
		.setup_sects = 4, .boot_flag = 0xaa55, .jump = 0x6aeb, .header = 0x53726448, .version = 0x20f,
		.loadflags = LOADED_HIGH, .relocatable_kernel = 1, .xloadflags = XLF_KERNEL_64,
		.kernel_alignment = 0x200000, .pref_address = 0x1000000, .init_size = 0x800000,
		.cmdline_size = 2047, .initrd_addr_max = 0x7fffffff, .syssize = 0x100,
	};

	pe(0x8664, 10, 1);
	put(0x98 + 240, ".linux\0\0", 8);
	put_le(0x98 + 248, KERNEL_BYTES, 4);
	put_le(0x98 + 256, 16384, 4);
	put_le(0x98 + 260, at, 4);
	put(8192 + 0x1f1, &h, sizeof(h));
}

TEST(efi)
{
	struct vmplat_image *img;
	uint8_t kernel[4096] = { 0 };
	uLongf n = MIB;

	pe(0x8664, 10, 0);
	ends(4096, VMPLAT_IMAGE_PE, NULL, "UEFI");
	pe(0xaa64, 3, 0);
	img = describe(4096);
	is(img, VMPLAT_IMAGE_PE, NULL, "Windows");
	CHECK(!strcmp(text(img, "machine"), "arm64"));
	vmplat_image_close(img);

	pe(0x8664, 10, 2);
	put(0x98 + 240, ".linux\0\0", 8);
	put(0x98 + 280, ".cmdline", 8);
	put_le(0x98 + 288, 9, 4);
	put_le(0x98 + 296, 512, 4);
	put_le(0x98 + 300, 2048, 4);
	put(2048, "root=/dev", 9);
	img = describe(4096);
	is(img, VMPLAT_IMAGE_PE, NULL, "not of a bzImage");
	CHECK(!strcmp(text(img, "cmdline"), "root=/dev"));
	vmplat_image_close(img);

	unified(8192);
	img = describe(8192 + KERNEL_BYTES);
	is(img, VMPLAT_IMAGE_PE, "kernel", "unified kernel image for x86-64");
	CHECK_EQ(number(img, "kernel_bytes"), KERNEL_BYTES);
	vmplat_image_close(img);
	/* beyond the file, cut short, more sections than there can be, their table outside */
	unified(0xffffffff);
	ends(8192 + KERNEL_BYTES, VMPLAT_IMAGE_PE, NULL, "cut short");
	unified(8192);
	ends(8192 + KERNEL_BYTES - 1, VMPLAT_IMAGE_PE, NULL, "cut short");
	unified(8192);
	put_le(0x86, 97, 2);
	ends(8192 + KERNEL_BYTES, VMPLAT_IMAGE_PE, NULL, "cut short");
	unified(8192);
	put_le(0x94, 0xffff, 2);
	ends(8192 + KERNEL_BYTES, VMPLAT_IMAGE_PE, NULL, "cut short");

	/* an arm64 Image in an EFI program that unpacks itself */
	memcpy(kernel + 56, "ARM\x64", 4);
	pe(0xaa64, 10, 0);
	n = (uLongf)ZSTD_compress(buf + 4096, MIB, kernel, sizeof(kernel), 3);
	put(4, "zimg", 4);
	put_le(8, 4096, 4);
	put_le(12, n, 4);
	put(24, "zstd", 5);
	img = describe(4096 + n);
	is(img, VMPLAT_IMAGE_ZBOOT, NULL, "UEFI");
	CHECK(!strcmp(text(img, "compression"), "zstd"));
	CHECK_EQ(vmplat_image_nr_parts(img), 1);
	if (vmplat_image_nr_parts(img))
		CHECK_EQ(vmplat_image_kind(vmplat_image_part(img, 0)), VMPLAT_IMAGE_ARM64);
	vmplat_image_close(img);
	pe(0xaa64, 10, 0);
	put(4, "zimg", 4);
	put_le(8, 4096, 4);
	put_le(12, 4096, 4);
	ends(5000, VMPLAT_IMAGE_ZBOOT, NULL, "cut short");
}

/* ---- initrds --------------------------------------------------------------------- */

static size_t entry(size_t at, const char *name, unsigned int mode, size_t bytes)
{
	char head[111];
	size_t n = strlen(name) + 1;

	snprintf(head, sizeof(head), "070701%08x%08x%08x%08x%08x%08x%08x%08x%08x%08x%08x%08x%08x",
		 1, mode, 0, 0, 1, 0, (unsigned int)bytes, 0, 0, 0, 0, (unsigned int)n, 0);
	put(at, head, 110);
	put(at + 110, name, n);
	at = (at + 110 + n + 3) & ~3ul;
	return (at + bytes + 3) & ~3ul;
}

static size_t archive(size_t at, const char *name)
{
	at = entry(at, "dir", 040755, 0);
	at = entry(at, name, 0100755, 1001);
	return entry(at, "TRAILER!!!", 0, 0);
}

TEST(an_initrd)
{
	const struct vmplat_image *part;
	struct vmplat_image *img;
	size_t n = archive(0, "init");

	img = describe(n);
	is(img, VMPLAT_IMAGE_INITRD, "initrd", "1 archive");
	part = vmplat_image_part(img, 0);
	REQUIRE(part);
	CHECK_EQ(number(part, "entries"), 2);
	CHECK_EQ(number(part, "files"), 1);
	CHECK_EQ(number(part, "file_bytes"), 1001);
	CHECK_EQ(number(part, "init"), 1);
	vmplat_image_close(img);
	/* cut anywhere it is said, but where zeroes at the end are missing */
	for (size_t cut = 7; cut < n - 3; cut += 13) {
		archive(0, "init");
		img = describe(cut);
		CHECK(vmplat_image_obstacle(img));
		vmplat_image_close(img);
	}
	put(0, "070707", 6);
	ends(4096, VMPLAT_IMAGE_INITRD, NULL, "newc");
	/* what is behind it is neither zeroes nor an archive */
	n = archive(0, "init");
	put(n + 512, "rubbish", 7);
	ends(n + 600, VMPLAT_IMAGE_INITRD, NULL, "begins neither");
	/* names of no length, or of too much; headers that are not hexadecimal */
	entry(0, "x", 0100644, 0);
	put(94, "ffffffff", 8);
	ends(4096, VMPLAT_IMAGE_INITRD, NULL, "length of an entry's name");
	entry(0, "x", 0100644, 0);
	put(54, "0x000001", 8);
	ends(4096, VMPLAT_IMAGE_INITRD, NULL, "hexadecimal");
	/* the largest file there can be does not make it read far away */
	entry(0, "x", 0100644, 0);
	put(54, "ffffffff", 8);
	ends(4096, VMPLAT_IMAGE_INITRD, NULL, "cut short");
}

/* microcode, then compressed archives of both kinds, with zeroes between */
TEST(several_archives)
{
	const struct vmplat_image *part;
	struct vmplat_image *img;
	uint8_t *in = malloc(MIB);
	z_stream z = { 0 };
	size_t n, at;

	n = archive(0, "init");
	memcpy(in, buf, n);
	memset(buf, 0, n);
	at = archive(0, "kernel/x86/microcode/AuthenticAMD.bin");
	at = (at + 511) & ~511ul;
	at += ZSTD_compress(buf + at, MIB, in, n, 3);
	at = (at + 7) & ~3ul;
	deflateInit2(&z, 6, Z_DEFLATED, 15 + 16, 8, Z_DEFAULT_STRATEGY);
	z.next_in = in;
	z.avail_in = (unsigned int)n;
	z.next_out = buf + at;
	z.avail_out = MIB;
	deflate(&z, Z_FINISH);
	at += z.total_out;
	deflateEnd(&z);
	img = describe(at);
	is(img, VMPLAT_IMAGE_INITRD, "initrd", "3 archives");
	CHECK_EQ(vmplat_image_nr_parts(img), 3);
	part = vmplat_image_part(img, 0);
	CHECK_EQ(part ? number(part, "microcode") : 0, 1);
	part = vmplat_image_part(img, 1);
	CHECK(part && !strcmp(text(part, "compression"), "zstd"));
	CHECK_EQ(part ? number(part, "unpacked_bytes") : 0, n);
	part = vmplat_image_part(img, 2);
	CHECK(part && !strcmp(text(part, "compression"), "gzip"));
	CHECK_EQ(part ? number(part, "entries") : 0, 2);
	vmplat_image_close(img);
	/* one that is cut short, but not before it can be seen what it is */
	memset(&z, 0, sizeof(z));
	deflateInit2(&z, 6, Z_DEFLATED, 15 + 16, 8, Z_DEFAULT_STRATEGY);
	z.next_in = in;
	z.avail_in = (unsigned int)n;
	z.next_out = buf;
	z.avail_out = MIB;
	deflate(&z, Z_FINISH);
	ends(z.total_out - 5, VMPLAT_IMAGE_INITRD, NULL, "damaged or cut short");
	deflateEnd(&z);
	free(in);
}

TEST(compressed_and_no_initrd)
{
	uint8_t kernel[4096] = { 0 };
	struct vmplat_image *img;
	size_t n;

	memcpy(kernel + 56, "ARM\x64", 4);
	n = ZSTD_compress(buf, MIB, kernel, sizeof(kernel), 3);
	img = describe(n);
	is(img, VMPLAT_IMAGE_COMPRESSED, NULL, "unpack");
	CHECK(strstr(vmplat_image_summary(img), "arm64"));
	vmplat_image_close(img);
	put(0, "\x1f\x8b\x08\0\0\0\0\0", 8);
	ends(64, VMPLAT_IMAGE_COMPRESSED, NULL, "gzip");
}

/* ---- disks ----------------------------------------------------------------------- */

TEST(disks)
{
	struct vmplat_image *img;

	put(0, "QFI\xfb", 4);
	put_be(4, 3, 4);
	put_be(20, 16, 4);
	put_be(24, 10ULL << 30, 8);
	img = describe(65536);
	is(img, VMPLAT_IMAGE_DISK, NULL, "qemu-img convert");
	CHECK_EQ(number(img, "virtual_bytes"), 10ULL << 30);
	CHECK_EQ(number(img, "cluster_bytes"), 65536);
	vmplat_image_close(img);
	put(0, "QFI\xfb", 4);
	ends(4, VMPLAT_IMAGE_DISK, NULL, "qcow2");	/* and nothing else */
	put(0, "KDMV", 4);
	ends(512, VMPLAT_IMAGE_DISK, NULL, "vmdk");
	put(0, "vhdxfile", 8);
	ends(512, VMPLAT_IMAGE_DISK, NULL, "vhdx");
	put(4096, "conectix", 8);
	put_be(4096 + 48, MIB, 8);
	img = describe(4096 + 512);
	is(img, VMPLAT_IMAGE_DISK, NULL, "vhd");
	CHECK_EQ(number(img, "virtual_bytes"), MIB);
	vmplat_image_close(img);
	put(0x40, "\x7f\x10\xda\xbe", 4);
	ends(1024, VMPLAT_IMAGE_DISK, NULL, "vdi");

	put(510, "\x55\xaa", 2);
	buf[446 + 4] = 0x83;
	put_le(446 + 8, 2048, 4);
	put_le(446 + 12, 2048, 4);
	img = describe(MIB);
	is(img, VMPLAT_IMAGE_DISK, "disk", "MBR");
	CHECK_EQ(number(img, "partitions"), 1);
	vmplat_image_close(img);
	put(510, "\x55\xaa", 2);
	ends(512, VMPLAT_IMAGE_UNKNOWN, NULL, "neither");	/* an empty table */
	put(512, "EFI PART", 8);
	put_le(512 + 72, 2, 8);
	put_le(512 + 80, 128, 4);
	put_le(512 + 84, 128, 4);
	put_le(1024, 1, 8);
	img = describe(MIB);
	is(img, VMPLAT_IMAGE_DISK, "disk", "GPT");
	CHECK_EQ(number(img, "partitions"), 1);
	vmplat_image_close(img);
	put(512, "EFI PART", 8);
	put_le(512 + 72, ~0ULL, 8);	/* the table is nowhere */
	put_le(512 + 80, ~0u, 4);
	put_le(512 + 84, 128, 4);
	ends(MIB, VMPLAT_IMAGE_DISK, "disk", "GPT");
	put(0x438, "\x53\xef", 2);
	ends(MIB, VMPLAT_IMAGE_DISK, "disk", "ext");
	put(32769, "CD001", 5);
	put(32768 + 40, "DEBIAN  ", 8);
	img = describe(65536);
	is(img, VMPLAT_IMAGE_DISK, "disk", "ISO 9660");
	CHECK(!strcmp(text(img, "label"), "DEBIAN"));
	vmplat_image_close(img);
}

TEST(firmware_and_trees)
{
	struct vmplat_image *img;

	put(65536 - 16, "\xea\x5b\xe0\x00\xf0", 5);
	put(100, "SeaBIOS", 7);
	ends(65536, VMPLAT_IMAGE_FIRMWARE, "firmware", "firmware");
	put(40, "_FVH", 4);
	img = describe(65536);
	is(img, VMPLAT_IMAGE_FIRMWARE, "firmware", "firmware");
	CHECK(!strcmp(text(img, "interface"), "UEFI"));
	vmplat_image_close(img);

	put_be(0, 0xd00dfeed, 4);
	put_be(4, 200, 4);
	put_be(8, 56, 4);		/* structure */
	put_be(12, 150, 4);		/* strings */
	put_be(20, 17, 4);
	put_be(56, 1, 4);		/* the root node, no name */
	put_be(64, 3, 4);		/* a property of 6 bytes */
	put_be(68, 6, 4);
	put_be(72, 0, 4);
	put(76, "board", 6);
	put(150, "model", 6);
	img = describe(200);
	is(img, VMPLAT_IMAGE_DTB, NULL, "ACPI");
	CHECK(!strcmp(text(img, "model"), "board"));
	vmplat_image_close(img);
	put_be(0, 0xd00dfeed, 4);
	put_be(4, 2000, 4);
	put_be(8, 0xfffffff0, 4);
	ends(200, VMPLAT_IMAGE_DTB, NULL, "cut short");
}

/* ---- files ----------------------------------------------------------------------- */

/* a disk of a terabyte is described by what is in front, at once */
TEST(a_large_file)
{
	struct vmplat_image *img;
	int fd = memfd_create("disk", MFD_CLOEXEC);
	char path[40];

	snprintf(path, sizeof(path), "/proc/self/fd/%d", fd);
	REQUIRE(!ftruncate(fd, (off_t)1 << 40));
	CHECK_EQ(pwrite(fd, "\x53\xef", 2, 0x438), 2);
	CHECK_EQ(vmplat_image_open(&img, path, VMPLAT_IMAGE_F_DEEP), 0);
	is(img, VMPLAT_IMAGE_DISK, "disk", "ext");
	vmplat_image_close(img);
	/* an initrd of that size would be read as a whole */
	CHECK_EQ(pwrite(fd, "070701", 6, 0), 6);
	CHECK_EQ(vmplat_image_open(&img, path, VMPLAT_IMAGE_F_DEEP), 0);
	CHECK(vmplat_image_obstacle(img));
	vmplat_image_close(img);
	close(fd);
}

TEST(what_is_no_file)
{
	struct vmplat_image *img = (void *)1;

	CHECK_EQ(vmplat_image_open(&img, "/nonexistent", 0), -ENOENT);
	CHECK(!img);
	CHECK_EQ(vmplat_image_open(&img, "/", 0), -EINVAL);
	CHECK_EQ(vmplat_image_open(&img, "/dev/null", 0), -EINVAL);
	CHECK(strstr(vmplat_last_error(), "regular file"));
	CHECK_EQ(vmplat_image_open(&img, "/", 2), -EINVAL);
	CHECK(strstr(vmplat_last_error(), "0x2"));
}

int main(void)
{
	buf = calloc(1, 4 * MIB);
	RUN(other_machines);
	RUN(efi);
	RUN(an_initrd);
	RUN(several_archives);
	RUN(compressed_and_no_initrd);
	RUN(disks);
	RUN(firmware_and_trees);
	RUN(a_large_file);
	RUN(what_is_no_file);
	free(buf);
	return tap_done();
}
