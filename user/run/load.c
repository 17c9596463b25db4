// SPDX-License-Identifier: GPL-2.0-only
/*
 * Puts a kernel, its initrds and what they are told into guest memory:
 *
 *   0x000500 GDT   0x007000 zero page   0x009000 page tables   0x020000 command line
 *   0x0e0000 ACPI tables   1 MiB and up: the kernel; initrds as high as they may be
 *
 * A compressed kernel is unpacked here and entered directly, as if its own code had
 * unpacked it: at random addresses unless the command line says nokaslr. What cannot
 * be unpacked here, or --unpack guest, is left to that code.
 */
#include <errno.h>
#include <string.h>
#include <sys/random.h>

#include "image/kernel.h"
#include "input.h"
#include "kcache.h"
#include <vmplat_map.h>

#include "vm_priv.h"

#define E820_RAM	1
#define E820_RESERVED	2
#define EBDA		0x9fc00
#define ONE_MIB		0x100000
#define CMDLINE_MAX	(0x9f000 - BOOT_CMDLINE)
#define KERNEL_VIRT_MAX	(1ULL << 30)	/* of the kernel's mapping, with KASLR */
#define FILE_MAX	(2ULL << 30)

/* what has been loaded, for the zero page and the entry */
struct loaded {
	struct setup_header hdr;
	uint64_t entry;
	uint64_t start, end;		/* of the kernel with all that it needs to start */
	uint64_t initrd_at, initrd_bytes;
	bool la57;			/* it may be entered with 5-level paging */
};

struct initrds {
	struct input in[VM_INITRDS_MAX];
	unsigned int nr;		/* open ones */
};

/* ---- bytes ---------------------------------------------------------------- */

struct bytes {
	struct vmplat_map *map;
	uint8_t *p;
	size_t len;
};

static void bytes_free(struct bytes *b)
{
	vmplat_map_close(b->map);
	*b = (struct bytes){ };
}

/* of its own, so that it is gone after the boot; in huge pages, it is used once */
static int bytes_alloc(struct vm *vm, struct bytes *b, size_t len)
{
	const struct vmplat_map_options huge = { .flags = VMPLAT_MAP_F_HUGE };

	if (vmplat_map_new(&b->map, len, &huge))
		return vm_error(vm, -ENOMEM, "no memory to unpack the kernel");
	b->p = vmplat_map_addr(b->map);
	b->len = len;
	return 0;
}

/* one fault instead of one a page; what cannot be had fails later, where it is used */
static void populate(struct vm *vm, const uint8_t *p, uint64_t len)
{
	if (vm->ram_map)
		vmplat_map_populate(vm->ram_map, (size_t)(p - vm->ram), len);
}

/* ---- files ---------------------------------------------------------------- */

/* what input_open() and input_read() say, behind what file it is */
static int input_error(struct vm *vm, int err, const char *what, const char *path, const char *why)
{
	return vm_error(vm, err, "%s %s: %s", what, path, why);
}

static int open_file(struct vm *vm, const char *what, const char *path, struct input *in)
{
	const char *why;
	int ret = input_open(in, vm->cfg.iso, path, &why);

	if (ret)
		return input_error(vm, ret, what, path, why);
	if (!in->bytes)
		ret = vm_error(vm, -ENOEXEC, "%s %s: it is empty", what, path);
	else if (in->bytes > FILE_MAX)
		ret = vm_error(vm, -EFBIG, "%s %s: its %llu MiB are more than is taken (%llu MiB)",
			       what, path, (unsigned long long)in->bytes >> 20, FILE_MAX >> 20);
	if (ret)
		input_close(in);
	return ret;
}

static int read_kernel(struct vm *vm, struct bytes *b)
{
	struct input in;
	const char *why;
	int ret = open_file(vm, "kernel", vm->cfg.kernel, &in);

	if (ret)
		return ret;
	ret = bytes_alloc(vm, b, in.bytes);
	if (!ret) {
		ret = input_read(&in, b->p, &why);
		if (ret)
			ret = input_error(vm, ret, "kernel", vm->cfg.kernel, why);
	}
	input_close(&in);
	return ret;
}

/* ---- headers --------------------------------------------------------------- */

/* the kernel's header is known: it says how high the initrd may be */
static void use_header(struct vm *vm, struct loaded *to, const struct setup_header *h)
{
	uint64_t max = h->initrd_addr_max + 1ULL;

	if (max > vm->low_bytes)
		max = vm->low_bytes;
	if (to->initrd_bytes)
		to->initrd_at = to->initrd_bytes < max ? (max - to->initrd_bytes) & ~0xfffULL : 0;
	to->hdr = *h;
	to->hdr.ramdisk_image = to->hdr.ramdisk_size = 0;
}

/* an uncompressed vmlinux has none: this is what one would say */
static const struct setup_header elf_header = {
	.header = 0x53726448,
	.boot_flag = 0xaa55,
	.version = 0x20c,
	.loadflags = LOADED_HIGH,
	.initrd_addr_max = 0x7fffffff,
	.cmdline_size = 2047,
	.kernel_alignment = 0x200000,
};

/* ---- command line --------------------------------------------------------- */

static const char *cmdline(const struct vm *vm)
{
	return vm->cfg.cmdline ? vm->cfg.cmdline : "";
}

/* a word, or one that begins with @word if that ends in '=' */
static bool cmdline_has(const struct vm *vm, const char *word)
{
	size_t n = strlen(word);

	for (const char *at = cmdline(vm); (at = strstr(at, word)); at += n)
		if ((at == cmdline(vm) || at[-1] == ' ') &&
		    (word[n - 1] == '=' || at[n] == ' ' || !at[n]))
			return true;
	return false;
}

static int load_cmdline(struct vm *vm, struct setup_header *h)
{
	size_t len = strlen(cmdline(vm)), max = h->cmdline_size;

	if (!max || max > CMDLINE_MAX)
		max = max ? CMDLINE_MAX : 255;
	if (len > max)
		return vm_error(vm, -E2BIG, "the command line has %zu characters, this kernel takes %zu",
				len, max);
	memcpy(vm_gpa(vm, BOOT_CMDLINE, len + 1), cmdline(vm), len + 1);
	h->cmd_line_ptr = BOOT_CMDLINE;
	return 0;
}

/* ---- the kernel ----------------------------------------------------------- */

static int kernel_error(struct vm *vm, int err, const char *why)
{
	return vm_error(vm, err, "kernel %s: %s", vm->cfg.kernel, why);
}

/* parts of @from, each moved by @delta; all of it is known to be RAM */
static void copy_parts(struct vm *vm, const struct kernel_part *part, unsigned int nr,
		       const uint8_t *from, uint64_t delta)
{
	for (unsigned int i = 0; i < nr; i++, part++) {
		uint8_t *to = vm_gpa(vm, part->gpa + delta, part->mem_bytes);

		populate(vm, to, part->mem_bytes);
		memcpy(to, from + part->off, part->file_bytes);
		memset(to + part->file_bytes, 0, part->mem_bytes - part->file_bytes);
	}
}

/* @nr choices: one of them */
static uint64_t choose(uint64_t nr)
{
	uint64_t v;

	if (getrandom(&v, sizeof(v), 0) != sizeof(v))
		return 0;
	return v % nr;
}

/* the kernel ends below what is above it */
static uint64_t room_end(const struct vm *vm, const struct loaded *to)
{
	return to->initrd_bytes ? to->initrd_at : vm->low_bytes;
}

/*
 * Where the kernel's own code would put it: the same slots, below the initrd. Memory
 * above 4 GiB is left out, the page tables of the entry end there.
 */
static uint64_t physical_delta(const struct elf_image *e, uint64_t align, uint64_t end)
{
	return align * choose((end - e->end) / align + 1);
}

static uint64_t virtual_delta(const struct elf_image *e, const struct setup_header *h)
{
	uint64_t span = e->end - e->start;

	if (h->init_size > span)
		span = h->init_size;
	if (e->start + span >= KERNEL_VIRT_MAX)
		return 0;
	return h->kernel_alignment * choose((KERNEL_VIRT_MAX - e->start - span) / h->kernel_alignment + 1);
}

/* an unpacked payload */
struct vmlinux {
	struct elf_image elf;
	struct elf_relocs relocs;	/* empty: it runs where it was linked */
};

static int place_unpacked(struct vm *vm, const struct vmlinux *k, const struct bytes *b,
			  struct loaded *out)
{
	const struct elf_image *e = &k->elf;
	struct setup_header *h = &out->hdr;
	uint64_t phys = 0, virt;
	const char *why;
	int ret;

	h->loadflags &= (uint8_t)~KASLR_FLAG;
	if (k->relocs.nr[RELOC_32] && !cmdline_has(vm, "nokaslr")) {
		/* who chooses what memory there is does not want it chosen for him */
		if (!cmdline_has(vm, "mem=") && !cmdline_has(vm, "memmap="))
			phys = physical_delta(e, h->kernel_alignment, room_end(vm, out));
		h->loadflags |= KASLR_FLAG;
	}
	copy_parts(vm, e->parts, e->nr_parts, b->p, phys);
	out->start = e->start + phys;
	out->end = e->end + phys;
	out->entry = e->entry + phys;
	out->la57 = h->xloadflags & XLF_5LEVEL_ENABLED && !cmdline_has(vm, "no5lvl");
	if (!(h->loadflags & KASLR_FLAG))
		return 0;
	virt = virtual_delta(e, h);
	ret = elf_relocate(&k->relocs, e, vm_gpa(vm, out->start, e->end - e->start), virt, &why);
	return ret ? kernel_error(vm, ret, why) : 0;
}

static int unpack_payload(struct vm *vm, const struct bzimage *z, const struct bytes *file,
			  struct bytes *out)
{
	struct kcache_key key;
	const char *why;
	int ret;

	if (vm->cfg.unpack != VM_UNPACK_HOST_NOCACHE) {
		kcache_key(&key, file->p + z->payload_off, z->payload_bytes);
		if (!kcache_get(&key, out->p, out->len))
			return 0;
	}
	ret = bzimage_unpack(z, file->p, out->p, &why);
	if (ret)
		return kernel_error(vm, ret, why);
	if (vm->cfg.unpack != VM_UNPACK_HOST_NOCACHE)
		kcache_put(&key, out->p, out->len);
	return 0;
}

/* NULL: it can be unpacked here; else why it is left to the guest */
static const char *not_here(const struct bzimage *z)
{
	uint32_t align = z->hdr.kernel_alignment;

	if (!z->payload_bytes)
		return "it does not say what is compressed in it";
	if (z->format == UNPACK_NONE || z->format == UNPACK_LZO)
		return "its compression is not understood here";
	if (z->unpacked_bytes < ONE_MIB || z->unpacked_bytes > KERNEL_PAYLOAD_MAX)
		return "its length when unpacked makes no sense";
	if (align < 0x200000 || align & (align - 1) || !z->hdr.relocatable_kernel)
		return "it cannot be moved";
	return NULL;
}

static const char *not_loadable(struct vm *vm, struct vmlinux *k, const struct bytes *b,
				const struct loaded *to)
{
	struct elf_image *e = &k->elf;
	const char *why;
	int ret;

	if (!elf_is(b->p, b->len))
		return "what is compressed in it is no ELF file";
	if (elf_parse(e, b->p, b->len, &why))
		return why;
	why = elf_obstacle(e);
	if (why || elf_fits(e, room_end(vm, to), &why))
		return why;
	ret = elf_relocs(&k->relocs, e, b->p, b->len, &why);
	return ret && ret != -ENOENT ? why : NULL;
}

/* 1: leave it to the guest */
static int load_unpacked(struct vm *vm, const struct bzimage *z, const struct bytes *file,
			 struct loaded *to)
{
	const char *why = not_here(z);
	struct bytes b = { 0 };
	struct vmlinux k;
	int ret;

	if (!why) {
		ret = bytes_alloc(vm, &b, z->unpacked_bytes);
		if (!ret)
			ret = unpack_payload(vm, z, file, &b);
		if (!ret)
			why = not_loadable(vm, &k, &b, to);
		if (!ret && !why)
			ret = place_unpacked(vm, &k, &b, to);
		bytes_free(&b);
	}
	if (!why)
		return ret;
	vm_notice(vm, "the kernel unpacks itself: %s", why);
	return 1;
}

static int load_bzimage(struct vm *vm, const struct bytes *file, struct loaded *to)
{
	struct kernel_part part;
	struct bzimage z;
	const char *why;
	int ret;

	ret = bzimage_parse(&z, file->p, file->len, file->len, &why);
	if (!ret) {
		why = bzimage_obstacle(&z);
		ret = why ? -ENOEXEC : 0;
	}
	if (ret)
		return kernel_error(vm, ret, why);
	use_header(vm, to, &z.hdr);
	if (vm->cfg.unpack != VM_UNPACK_GUEST) {
		ret = load_unpacked(vm, &z, file, to);
		if (ret <= 0)
			return ret;
	}
	ret = bzimage_place(&z, vm->low_bytes, &part, &to->entry, &to->end, &why);
	if (ret)
		return kernel_error(vm, ret, why);
	to->start = part.gpa;
	copy_parts(vm, &part, 1, file->p, 0);
	return 0;
}

static int load_elf(struct vm *vm, const struct bytes *file, struct loaded *to)
{
	struct elf_image e;
	const char *why;
	int ret;

	ret = elf_parse(&e, file->p, file->len, &why);
	if (!ret) {
		why = elf_obstacle(&e);
		ret = why ? -ENOEXEC : elf_fits(&e, vm->low_bytes, &why);
	}
	if (ret)
		return kernel_error(vm, ret, why);
	use_header(vm, to, &elf_header);
	copy_parts(vm, e.parts, e.nr_parts, file->p, 0);
	to->start = e.start;
	to->end = e.end;
	to->entry = e.entry;
	return 0;
}

/* what else it may be is told by who knows all images */
static int not_a_kernel(struct vm *vm)
{
	struct vmplat_image *img;
	const char *why;
	int ret;

	if (input_on_disc(vm->cfg.kernel))
		return kernel_error(vm, -ENOEXEC, "it is no kernel: neither a bzImage nor an ELF file");
	ret = vmplat_image_open(&img, vm->cfg.kernel, 0);
	if (ret)
		return kernel_error(vm, ret, vmplat_last_error());
	why = vmplat_image_obstacle(img);
	if (why)
		ret = kernel_error(vm, -ENOEXEC, why);
	else
		ret = vm_error(vm, -ENOEXEC, "kernel %s: it is no kernel: %s", vm->cfg.kernel,
			       vmplat_image_summary(img));
	vmplat_image_close(img);
	return ret;
}

static int load_kernel(struct vm *vm, struct loaded *to)
{
	struct bytes file = { 0 };
	int ret = read_kernel(vm, &file);

	if (!ret) {
		if (bzimage_is(file.p, file.len))
			ret = load_bzimage(vm, &file, to);
		else if (elf_is(file.p, file.len))
			ret = load_elf(vm, &file, to);
		else
			ret = not_a_kernel(vm);
	}
	bytes_free(&file);
	return ret;
}

/* ---- initrds --------------------------------------------------------------- */

/* The kernel unpacks one archive after the other; each must begin at a multiple of 4. */
#define INITRD_ALIGN	4u

static uint64_t padded(uint64_t bytes)
{
	return (bytes + INITRD_ALIGN - 1) / INITRD_ALIGN * INITRD_ALIGN;
}

static int open_initrds(struct vm *vm, struct initrds *all, struct loaded *to)
{
	for (unsigned int i = 0; i < vm->cfg.nr_initrds; i++) {
		int ret = open_file(vm, "initrd", vm->cfg.initrds[i], &all->in[i]);

		if (ret)
			return ret;
		all->nr++;
		/* of 16 files of at most 2 GiB: it does not overflow */
		to->initrd_bytes = padded(to->initrd_bytes) + all->in[i].bytes;
	}
	return 0;
}

static void close_initrds(struct initrds *all)
{
	for (unsigned int i = 0; i < all->nr; i++)
		input_close(&all->in[i]);
}

static int load_initrds(struct vm *vm, struct loaded *to, struct initrds *all)
{
	const char *why;
	uint8_t *at;

	if (!to->initrd_bytes)
		return 0;
	if (to->initrd_at < to->end)
		return vm_error(vm, -EFBIG, "initrd %s%s: %llu MiB do not fit beside the kernel into %llu MiB; give the guest more --memory",
				vm->cfg.initrds[0], all->nr > 1 ? " and the others" : "",
				(unsigned long long)to->initrd_bytes >> 20,
				(unsigned long long)vm->low_bytes >> 20);
	at = vm_gpa(vm, to->initrd_at, to->initrd_bytes);
	populate(vm, at, to->initrd_bytes);
	for (unsigned int i = 0; i < all->nr; i++) {
		int ret = input_read(&all->in[i], at, &why);

		if (ret)
			return input_error(vm, ret, "initrd", vm->cfg.initrds[i], why);
		at += all->in[i].bytes;
		if (i + 1 == all->nr)
			break;
		memset(at, 0, padded(all->in[i].bytes) - all->in[i].bytes);
		at += padded(all->in[i].bytes) - all->in[i].bytes;
	}
	to->hdr.ramdisk_image = (uint32_t)to->initrd_at;
	to->hdr.ramdisk_size = (uint32_t)to->initrd_bytes;
	return 0;
}

/* ---- all of it ------------------------------------------------------------- */

static void add_e820(struct boot_params *bp, uint64_t addr, uint64_t size, uint32_t type)
{
	if (size)
		bp->e820_table[bp->e820_entries++] = (struct boot_e820_entry){
			addr, size, type,
		};
}

static void fill_e820(struct vm *vm, struct boot_params *bp)
{
	add_e820(bp, 0, EBDA, E820_RAM);
	add_e820(bp, EBDA, ONE_MIB - EBDA, E820_RESERVED);
	add_e820(bp, ONE_MIB, vm->low_bytes - ONE_MIB, E820_RAM);
	add_e820(bp, VM_HIGHMEM_BASE, vm->high_bytes, E820_RAM);
}

static int load_files(struct vm *vm, struct loaded *to)
{
	struct initrds all = { .nr = 0 };
	int ret = open_initrds(vm, &all, to);

	if (!ret)
		ret = load_kernel(vm, to);
	if (!ret)
		ret = load_initrds(vm, to, &all);
	close_initrds(&all);
	return ret;
}

int load_linux(struct vm *vm, struct boot_info *info)
{
	struct boot_params *bp = vm_gpa(vm, BOOT_ZERO_PAGE, sizeof(*bp));
	struct loaded l = { 0 };
	uint64_t rsdp;
	int ret;

	memset(bp, 0, sizeof(*bp));
	ret = load_files(vm, &l);
	if (!ret)
		ret = load_cmdline(vm, &l.hdr);
	if (!ret)
		ret = acpi_build(vm, &rsdp);
	if (ret)
		return ret;
	bp->hdr = l.hdr;
	bp->hdr.type_of_loader = 0xff;
	bp->acpi_rsdp_addr = rsdp;
	fill_e820(vm, bp);
	*info = (struct boot_info){
		.entry = l.entry, .zero_page = BOOT_ZERO_PAGE, .la57 = l.la57,
		.kernel = l.start, .kernel_bytes = l.end - l.start,
		.initrd = l.initrd_at, .initrd_bytes = l.initrd_bytes,
	};
	return 0;
}
