// SPDX-License-Identifier: GPL-2.0-only
/*
 * Puts a kernel, its initrd and what they are told into guest memory:
 *
 *   0x000500 GDT   0x007000 zero page   0x009000 page tables   0x020000 command line
 *   0x0e0000 ACPI tables   1 MiB and up: the kernel; the initrd as high as it may be
 */
#include <errno.h>
#include <fcntl.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <unistd.h>

#include "image.h"
#include "vm_priv.h"

#define E820_RAM	1
#define E820_RESERVED	2
#define EBDA		0x9fc00
#define ONE_MIB		0x100000
#define CMDLINE_MAX	(0x9f000 - BOOT_CMDLINE)

struct file {
	int fd;
	uint8_t *p;
	size_t len;
};

static void file_close(struct file *f)
{
	if (f->p)
		munmap(f->p, f->len);
	if (f->fd >= 0)
		close(f->fd);
}

static int file_open(struct vm *vm, struct file *f, const char *what, const char *path)
{
	struct stat st;
	void *p;

	f->p = NULL;
	f->fd = open(path, O_RDONLY | O_CLOEXEC);
	if (f->fd < 0 || fstat(f->fd, &st))
		return vm_error(vm, -errno, "%s %s: %s", what, path, strerror(errno));
	if (!S_ISREG(st.st_mode))
		return vm_error(vm, -EINVAL, "%s %s: it is not a regular file", what, path);
	f->len = (size_t)st.st_size;
	if (!f->len)
		return vm_error(vm, -ENOEXEC, "%s %s: it is empty", what, path);
	p = mmap(NULL, f->len, PROT_READ, MAP_PRIVATE, f->fd, 0);
	if (p == MAP_FAILED)
		return vm_error(vm, -errno, "%s %s: %s", what, path, strerror(errno));
	f->p = p;
	return 0;
}

/* ---- the parts ------------------------------------------------------------ */

static int load_kernel(struct vm *vm, struct image *img)
{
	struct file f;
	const char *why;
	int ret = file_open(vm, &f, "kernel", vm->cfg.kernel);

	if (!ret) {
		ret = image_parse(img, f.p, f.len, vm->low_bytes, &why);
		if (ret)
			vm_error(vm, ret, "kernel %s: %s", vm->cfg.kernel, why);
	}
	for (unsigned int i = 0; i < img->nr_parts && !ret; i++) {
		const struct image_part *s = &img->parts[i];
		uint8_t *to = vm_gpa(vm, s->gpa, s->mem_bytes);

		memcpy(to, f.p + s->off, s->file_bytes);
		memset(to + s->file_bytes, 0, s->mem_bytes - s->file_bytes);
	}
	file_close(&f);
	return ret;
}

static int load_initrd(struct vm *vm, const struct image *img, struct setup_header *h)
{
	uint64_t max = img->hdr.initrd_addr_max + 1ULL;
	struct file f;
	uint64_t at;
	int ret;

	if (!vm->cfg.initrd)
		return 0;
	ret = file_open(vm, &f, "initrd", vm->cfg.initrd);
	if (!ret) {
		if (max > vm->low_bytes)
			max = vm->low_bytes;
		at = f.len < max ? (max - f.len) & ~0xfffULL : 0;
		if (at < img->end) {
			ret = vm_error(vm, -EFBIG, "initrd %s: its %zu MiB do not fit beside the kernel into %llu MiB; give the guest more --memory",
				       vm->cfg.initrd, f.len >> 20,
				       (unsigned long long)vm->low_bytes >> 20);
		} else {
			memcpy(vm_gpa(vm, at, f.len), f.p, f.len);
			h->ramdisk_image = (uint32_t)at;
			h->ramdisk_size = (uint32_t)f.len;
		}
	}
	file_close(&f);
	return ret;
}

static int load_cmdline(struct vm *vm, const struct image *img, struct setup_header *h)
{
	const char *text = vm->cfg.cmdline ? vm->cfg.cmdline : "";
	size_t len = strlen(text), max = img->hdr.cmdline_size;

	if (!max || max > CMDLINE_MAX)
		max = max ? CMDLINE_MAX : 255;
	if (len > max)
		return vm_error(vm, -E2BIG, "the command line has %zu characters, this kernel takes %zu",
				len, max);
	memcpy(vm_gpa(vm, BOOT_CMDLINE, len + 1), text, len + 1);
	h->cmd_line_ptr = BOOT_CMDLINE;
	return 0;
}

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

int load_linux(struct vm *vm, struct boot_info *info)
{
	struct boot_params *bp = vm_gpa(vm, BOOT_ZERO_PAGE, sizeof(*bp));
	struct image img = { 0 };
	uint64_t rsdp;
	int ret;

	memset(bp, 0, sizeof(*bp));
	ret = load_kernel(vm, &img);
	if (ret)
		return ret;
	bp->hdr = img.hdr;
	bp->hdr.type_of_loader = 0xff;
	bp->hdr.ramdisk_image = bp->hdr.ramdisk_size = 0;
	ret = load_initrd(vm, &img, &bp->hdr);
	if (!ret)
		ret = load_cmdline(vm, &img, &bp->hdr);
	if (!ret)
		ret = acpi_build(vm, &rsdp);
	if (ret)
		return ret;
	bp->acpi_rsdp_addr = rsdp;
	fill_e820(vm, bp);
	info->entry = img.entry;
	info->zero_page = BOOT_ZERO_PAGE;
	return 0;
}
