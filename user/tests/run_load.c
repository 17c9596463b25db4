/* SPDX-License-Identifier: GPL-2.0-only */
/*
 * Where the loader puts what: kernels made here, unpacked by the runner or left to
 * themselves, at random addresses, beside initrds, into little memory.
 */
#include <elf.h>
#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <unistd.h>
#include <zlib.h>

#include "image/kernel.h"
#include "iso_image.h"
#include "run/vm_priv.h"
#include "tap.h"

#define MIB		(1ULL << 20)
#define KERNEL_MAP	0xffffffff80000000ULL
#define LINKED_AT	(16 * MIB)
#define TEXT_BYTES	(2 * MIB)
#define SPAN		(4 * MIB)	/* in memory, with bss */
#define SETUP_BYTES	(5 * 512)
#define ALIGN		(2 * MIB)

/* what the text begins with: a pointer of its own, a per-CPU offset, half a pointer */
struct text {
	uint64_t pointer;
	uint32_t inverse, half;
};

static struct vm vm;
static struct boot_info info;
static char why[512];

/* a file of these bytes, by name */
static char *file(const void *p, size_t n)
{
	int fd = memfd_create("file", 0);
	char path[40];

	if (write(fd, p, n) != (ssize_t)n)
		abort();
	snprintf(path, sizeof(path), "/proc/self/fd/%d", fd);
	return strdup(path);
}

static uint8_t *vmlinux(size_t *len, bool relocs)
{
	uint64_t virt = KERNEL_MAP + LINKED_AT;
	uint32_t table[] = { 0, (uint32_t)virt, 0, (uint32_t)virt + 8, 0, (uint32_t)virt + 12 };
	size_t head = sizeof(Elf64_Ehdr) + sizeof(Elf64_Phdr);
	uint8_t *p = calloc(1, head + TEXT_BYTES + sizeof(table));
	struct text t = { virt + 100, 1000, (uint32_t)virt + 200 };
	Elf64_Ehdr *eh = (void *)p;
	Elf64_Phdr *ph = (void *)(eh + 1);

	memcpy(eh->e_ident, ELFMAG, SELFMAG);
	eh->e_ident[EI_CLASS] = ELFCLASS64;
	eh->e_ident[EI_DATA] = ELFDATA2LSB;
	eh->e_type = ET_EXEC;
	eh->e_machine = EM_X86_64;
	eh->e_entry = LINKED_AT + 0x123;
	eh->e_phoff = sizeof(*eh);
	eh->e_phentsize = sizeof(*ph);
	eh->e_phnum = 1;
	*ph = (Elf64_Phdr){
		.p_type = PT_LOAD, .p_offset = head, .p_vaddr = virt, .p_paddr = LINKED_AT,
		.p_filesz = TEXT_BYTES, .p_memsz = SPAN,
	};
	memset(p + head, 0x90, TEXT_BYTES);
	memcpy(p + head, &t, sizeof(t));
	memcpy(p + head + TEXT_BYTES, table, sizeof(table));
	*len = head + TEXT_BYTES + (relocs ? sizeof(table) : 0);
	return p;
}

/* @damage: of the compressed data, in percent of the way; 0: none */
static char *bzimage(bool relocs, int damage, const char *magic)
{
	struct setup_header h = {
		.setup_sects = 4, .boot_flag = 0xaa55, .jump = 0x6aeb, .header = 0x53726448,
		.version = 0x20f, .loadflags = LOADED_HIGH, .relocatable_kernel = 1,
		.xloadflags = XLF_KERNEL_64 | XLF_5LEVEL | XLF_5LEVEL_ENABLED,
		.kernel_alignment = ALIGN, .pref_address = LINKED_AT, .init_size = 8 * MIB,
		.cmdline_size = 2047, .initrd_addr_max = 0x7fffffff, .payload_offset = 1024,
	};
	size_t len, room = SETUP_BYTES + 1024 + 4 * MIB;
	uint8_t *p = calloc(1, room), *v = vmlinux(&len, relocs);
	z_stream z = { 0 };
	char *path;

	deflateInit2(&z, 1, Z_DEFLATED, 15 + 16, 8, Z_DEFAULT_STRATEGY);
	z.next_in = v;
	z.avail_in = (unsigned int)len;
	z.next_out = p + SETUP_BYTES + 1024;
	z.avail_out = 4 * MIB;
	deflate(&z, Z_FINISH);
	h.payload_length = (uint32_t)z.total_out;
	h.syssize = (uint32_t)((1024 + z.total_out) / 16);
	deflateEnd(&z);
	memcpy(p + 0x1f1, &h, sizeof(h));
	if (damage)
		memset(p + SETUP_BYTES + 1024 + h.payload_length * (unsigned int)damage / 100, 0x55, 16);
	if (magic)
		memcpy(p + SETUP_BYTES + 1024, magic, strlen(magic));
	path = file(p, SETUP_BYTES + 1024 + h.payload_length);
	free(p);
	free(v);
	return path;
}

static void make_vm(uint64_t bytes, char *kernel, size_t initrd, const char *cmdline)
{
	uint8_t *p = initrd ? malloc(initrd) : NULL;

	memset(&vm, 0, sizeof(vm));
	pthread_mutex_init(&vm.error_lock, NULL);
	vm.quiet = true;
	vm.cfg.kernel = kernel;
	vm.cfg.nr_cpus = 1;
	vm.cfg.mem_bytes = bytes;
	vm.cfg.unpack = VM_UNPACK_HOST_NOCACHE;
	vm.cfg.cmdline = strdup(cmdline);
	if (p) {
		memset(p, 0x77, initrd);
		vm.cfg.initrds[vm.cfg.nr_initrds++] = file(p, initrd);
		free(p);
	}
	vm.low_bytes = bytes;
	vm.ram = mmap(NULL, bytes, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE,
		      -1, 0);
}

static void close_file(char *path)
{
	if (path && !strncmp(path, "/proc/", 6))
		close(atoi(path + strlen("/proc/self/fd/")));
}

static void drop_vm(void)
{
	close_file(vm.cfg.kernel);
	for (unsigned int i = 0; i < vm.cfg.nr_initrds; i++)
		close_file(vm.cfg.initrds[i]);
	vm_config_free(&vm.cfg);
	munmap(vm.ram, vm.low_bytes);
}

static int load(void)
{
	int ret = load_linux(&vm, &info);

	vm_last_error(&vm, why, sizeof(why));
	return ret;
}

static const struct boot_params *zero_page(void)
{
	return vm_gpa(&vm, info.zero_page, sizeof(struct boot_params));
}

static bool says_kaslr(void)
{
	return zero_page()->hdr.loadflags & KASLR_FLAG;
}

/* the kernel is where it says, all of it, moved by one distance everywhere; that one */
static uint64_t check_kernel(void)
{
	const struct text *t = vm_gpa(&vm, info.kernel, SPAN);
	uint64_t moved;

	if (!t) {
		CHECK(t);
		return 0;
	}
	moved = t->pointer - (KERNEL_MAP + LINKED_AT + 100);
	CHECK_EQ(info.entry, info.kernel + 0x123);
	CHECK_EQ(info.kernel % ALIGN, 0);
	CHECK_EQ(moved % ALIGN, 0);
	CHECK(moved < 1024 * MIB - SPAN);
	CHECK_EQ(t->inverse, (uint32_t)(1000 - moved));
	CHECK_EQ(t->half, (uint32_t)(KERNEL_MAP + LINKED_AT + 200 + moved));
	CHECK_EQ(((uint8_t *)t)[TEXT_BYTES - 1], 0x90);
	CHECK_EQ(((uint8_t *)t)[SPAN - 1], 0);
	return moved;
}

TEST(random_addresses)
{
	uint64_t phys = 0, virt = 0, low = ~0ULL, high = 0;

	make_vm(64 * MIB, bzimage(true, 0, NULL), 3 * MIB + 5, "quiet");
	for (int i = 0; i < 400; i++) {
		uint64_t v;

		memset(vm.ram + LINKED_AT, 0xee, 8 * MIB);	/* what a reset finds */
		REQUIRE(!load());
		v = check_kernel();
		CHECK(says_kaslr());
		CHECK(info.la57);
		CHECK(info.kernel >= LINKED_AT);
		CHECK(info.kernel + SPAN <= info.initrd);
		CHECK(info.initrd + info.initrd_bytes <= 64 * MIB);
		CHECK_EQ(vm.ram[info.initrd], 0x77);
		CHECK_EQ(vm.ram[info.initrd + info.initrd_bytes - 1], 0x77);
		CHECK_EQ(zero_page()->hdr.ramdisk_image, info.initrd);
		CHECK_EQ(zero_page()->hdr.ramdisk_size, 3 * MIB + 5);
		phys |= info.kernel;
		virt |= v;
		low = info.kernel < low ? info.kernel : low;
		high = info.kernel > high ? info.kernel : high;
	}
	/* 400 throws meet both ends of 21 slots, and each bit of 509 */
	CHECK_EQ(low, LINKED_AT);
	CHECK_EQ(high, 56 * MIB);
	CHECK_EQ(virt, 1022 * MIB & ~(ALIGN - 1));
	drop_vm();
}

TEST(told_not_to)
{
	static const char *const lines[] = { "nokaslr", "quiet nokaslr", "nokaslr quiet no5lvl" };

	for (int i = 0; i < 3; i++) {
		make_vm(256 * MIB, bzimage(true, 0, NULL), 0, lines[i]);
		CHECK_EQ(load(), 0);
		CHECK_EQ(check_kernel(), 0);
		CHECK_EQ(info.kernel, LINKED_AT);
		CHECK(!says_kaslr());
		CHECK_EQ(info.la57, i < 2);
		drop_vm();
	}
	/* words that only look like it */
	make_vm(256 * MIB, bzimage(true, 0, NULL), 0, "xnokaslr nokaslrx mem=200M");
	CHECK_EQ(load(), 0);
	check_kernel();
	CHECK(says_kaslr());
	CHECK_EQ(info.kernel, LINKED_AT);	/* of mem= */
	drop_vm();
	/* no relocations: it cannot move */
	make_vm(256 * MIB, bzimage(false, 0, NULL), 0, "");
	CHECK_EQ(load(), 0);
	CHECK_EQ(check_kernel(), 0);
	CHECK(!says_kaslr());
	drop_vm();
}

/* the bzImage itself lies there, entered where the boot protocol says */
static void check_left_to_itself(void)
{
	CHECK_EQ(info.entry, LINKED_AT + 0x200);
	CHECK_EQ(info.kernel_bytes, 8 * MIB);
	CHECK(!info.la57);
}

TEST(left_to_the_guest)
{
	make_vm(256 * MIB, bzimage(true, 0, NULL), MIB, "");
	vm.cfg.unpack = VM_UNPACK_GUEST;
	CHECK_EQ(load(), 0);
	check_left_to_itself();
	drop_vm();
	/* a format that is not decoded */
	make_vm(256 * MIB, bzimage(true, 0, "\x89LZO"), MIB, "");
	CHECK_EQ(load(), 0);
	check_left_to_itself();
	drop_vm();
}

TEST(refused)
{
	make_vm(256 * MIB, bzimage(true, 50, NULL), 0, "");
	CHECK_EQ(load(), -EBADMSG);
	CHECK(strstr(why, "gzip data are damaged"));
	drop_vm();
	/* room for the kernel, but not for the initrd above it */
	make_vm(32 * MIB, bzimage(true, 0, NULL), 15 * MIB, "");
	CHECK_EQ(load(), -EFBIG);
	CHECK(strstr(why, "give"));
	drop_vm();
	make_vm(32 * MIB, bzimage(true, 0, NULL), 40 * MIB, "");
	CHECK_EQ(load(), -EFBIG);
	CHECK(strstr(why, "40 MiB do not fit"));
	drop_vm();
	make_vm(64 * MIB, file("not a kernel at all, is it?", 27), 0, "");
	CHECK_EQ(load(), -ENOEXEC);
	CHECK(strstr(why, "neither a bzImage nor an ELF"));
	drop_vm();
	make_vm(64 * MIB, file("070701", 6), 0, "");
	CHECK_EQ(load(), -ENOEXEC);
	drop_vm();
}

TEST(a_vmlinux)
{
	size_t len;
	uint8_t *v = vmlinux(&len, false);

	make_vm(64 * MIB, file(v, len), MIB, "");
	CHECK_EQ(load(), 0);
	CHECK_EQ(check_kernel(), 0);
	CHECK_EQ(info.kernel, LINKED_AT);
	CHECK(!says_kaslr());
	CHECK_EQ(zero_page()->hdr.header, 0x53726448);
	drop_vm();
	free(v);
}

/* a PE file with the kernel and "initrd" as sections */
static uint8_t *unified(const uint8_t *kernel, size_t kernel_len, size_t *len)
{
	uint8_t *p, *s;

	*len = 4096 + kernel_len + 6;
	p = calloc(1, *len);
	memcpy(p, "MZ", 2);
	p[0x3c] = 0x80;
	memcpy(p + 0x80, "PE\0\0", 4);
	p[0x86] = 2;
	s = p + 0x98;
	memcpy(s, ".linux\0\0", 8);
	memcpy(s + 8, &(uint32_t){ kernel_len }, 4);
	memcpy(s + 16, &(uint32_t){ kernel_len }, 4);
	memcpy(s + 20, &(uint32_t){ 4096 }, 4);
	s += 40;
	memcpy(s, ".initrd\0", 8);
	memcpy(s + 8, &(uint32_t){ 6 }, 4);
	memcpy(s + 16, &(uint32_t){ 512 }, 4);
	memcpy(s + 20, &(uint32_t){ 4096 + kernel_len }, 4);
	memcpy(p + 4096, kernel, kernel_len);
	memcpy(p + 4096 + kernel_len, "initrd", 6);
	return p;
}

static char *section(const char *name, const char *path)
{
	char *text;

	return asprintf(&text, "section:%s:%s", name, path) < 0 ? NULL : text;
}

TEST(sections)
{
	size_t kernel_len, len;
	uint8_t *kernel = vmlinux(&kernel_len, false), *p = unified(kernel, kernel_len, &len);
	char *path = file(p, len);

	make_vm(64 * MIB, section(".linux", path), 0, "");
	vm.cfg.initrds[vm.cfg.nr_initrds++] = section(".initrd", path);
	CHECK_EQ(load(), 0);
	CHECK_EQ(check_kernel(), 0);
	CHECK_EQ(info.initrd_bytes, 6);
	CHECK(!memcmp(vm.ram + info.initrd, "initrd", 6));

	free(vm.cfg.initrds[0]);
	vm.cfg.initrds[0] = section(".none", path);
	CHECK_EQ(load(), -ENOENT);
	CHECK(strstr(why, "it has no section .none"));
	free(vm.cfg.initrds[0]);
	vm.cfg.initrds[0] = section(".longer_than_eight", path);
	CHECK_EQ(load(), -ENOENT);
	free(vm.cfg.initrds[0]);
	vm.cfg.initrds[0] = section(".initrd", "/nowhere");
	CHECK_EQ(load(), -ENOENT);
	/* longer than what is left */
	free(vm.cfg.initrds[0]);
	vm.cfg.initrds[0] = section(".initrd", path);
	memcpy(p + 0x98 + 48, &(uint32_t){ 7 }, 4);
	REQUIRE(pwrite(atoi(path + strlen("/proc/self/fd/")), p, 512, 0) == 512);
	CHECK_EQ(load(), -EBADMSG);
	CHECK(strstr(why, "its section .initrd is damaged"));
	drop_vm();
	close_file(path);
	free(path);
	free(p);
	free(kernel);
}

/* one behind the other, each from a multiple of 4 on, and one of them on the disc */
TEST(several_initrds)
{
	struct disc d = iso_disc();
	int fd = disc_fd(&d);
	char disc[40];
	uint8_t *at;

	snprintf(disc, sizeof(disc), "/proc/self/fd/%d", fd);
	make_vm(64 * MIB, bzimage(true, 0, NULL), 5, "");
	vm.cfg.iso = strdup(disc);
	vm.cfg.initrds[vm.cfg.nr_initrds++] = strdup("iso:/multi");
	vm.cfg.initrds[vm.cfg.nr_initrds++] = strdup("iso:/hello-world");
	memset(vm.ram, 0xee, 64 * MIB);	/* what a reset finds */
	CHECK_EQ(load(), 0);
	CHECK_EQ(info.initrd_bytes, 8 + (MULTI_BYTES + 3) / 4 * 4 + HELLO_BYTES);
	at = vm.ram + info.initrd;
	CHECK(!memcmp(at, "\x77\x77\x77\x77\x77\0\0\0" "1111", 12));
	CHECK_EQ(at[8 + MULTI_BYTES - 1], '1' + (MULTI_BYTES - 1) / SECT);
	CHECK(!memcmp(at + info.initrd_bytes - HELLO_BYTES, hello, HELLO_BYTES));

	free(vm.cfg.initrds[2]);
	vm.cfg.initrds[2] = strdup("efi:/loader/entry.con");
	CHECK_EQ(load(), 0);
	CHECK(!memcmp(vm.ram + info.initrd + info.initrd_bytes - 6, "title\n", 6));

	free(vm.cfg.initrds[2]);
	vm.cfg.initrds[2] = strdup("efi:/hello-world");
	CHECK_EQ(load(), -ENOENT);
	CHECK(strstr(why, "initrd efi:/hello-world: "));
	free(vm.cfg.initrds[2]);
	vm.cfg.initrds[2] = strdup("iso:/nothing");
	CHECK_EQ(load(), -ENOENT);
	CHECK(strstr(why, "initrd iso:/nothing: "));
	free(vm.cfg.initrds[2]);
	vm.cfg.initrds[2] = strdup("iso:/sub");
	CHECK(load() < 0);
	CHECK(strstr(why, "initrd iso:/sub: "));
	free(vm.cfg.initrds[2]);
	vm.cfg.initrds[2] = strdup("iso:/hello-world");
	free(vm.cfg.iso);
	vm.cfg.iso = NULL;
	CHECK_EQ(load(), -EINVAL);
	CHECK(strstr(why, "there is no disc"));
	vm.cfg.iso = file("no disc at all", 14);
	CHECK(load() < 0);
	close_file(vm.cfg.iso);
	drop_vm();

	/* a file of the disc that is no kernel */
	make_vm(64 * MIB, strdup("iso:/hello-world"), 0, "");
	vm.cfg.iso = strdup(disc);
	CHECK_EQ(load(), -ENOEXEC);
	CHECK(strstr(why, "kernel iso:/hello-world: it is no kernel"));
	drop_vm();
	close(fd);
	disc_free(&d);
}

int main(void)
{
	RUN(random_addresses);
	RUN(sections);
	RUN(several_initrds);
	RUN(told_not_to);
	RUN(left_to_the_guest);
	RUN(refused);
	RUN(a_vmlinux);
	return tap_done();
}
