// SPDX-License-Identifier: LGPL-2.1-or-later
/* ELF kernels and their relocations; see kernel.h. */
#include <elf.h>
#include <errno.h>
#include <string.h>

#include "kernel.h"
#include "lib/lib.h"
#include "why.h"

#define KERNEL_MAP	0xffffffff80000000ULL	/* virtual address of physical 0 */
#define NOTE_PVH	18			/* XEN_ELFNOTE_PHYS32_ENTRY */

API bool elf_is(const uint8_t *p, size_t len)
{
	return len >= EI_NIDENT && !memcmp(p, ELFMAG, SELFMAG);
}

static bool within(uint64_t off, uint64_t n, uint64_t len)
{
	return off <= len && n <= len - off;
}

static void reach(struct elf_image *e, uint64_t off, uint64_t n)
{
	if (off + n > e->file_end)
		e->file_end = off + n;
}

/* notes: name and contents padded to 4 bytes each */
static void find_pvh(struct elf_image *e, const uint8_t *p, uint64_t n)
{
	while (n >= sizeof(Elf64_Nhdr)) {
		uint64_t name, desc, all;
		Elf64_Nhdr nh;

		memcpy(&nh, p, sizeof(nh));
		name = (nh.n_namesz + 3ULL) & ~3ULL;
		desc = (nh.n_descsz + 3ULL) & ~3ULL;
		all = sizeof(nh) + name + desc;
		if (all > n)
			return;
		if (nh.n_type == NOTE_PVH && nh.n_namesz == 4 && !memcmp(p + sizeof(nh), "Xen", 4) &&
		    (nh.n_descsz == 4 || nh.n_descsz == 8)) {
			e->has_pvh = true;
			memcpy(&e->pvh_entry, p + sizeof(nh) + name, nh.n_descsz);
		}
		p += all;
		n -= all;
	}
}

static int add_part(struct elf_image *e, const Elf64_Phdr *ph, const char **why)
{
	if (e->nr_parts == KERNEL_PARTS_MAX)
		return image_fail(why, -ENOEXEC, "it has more than %d segments", KERNEL_PARTS_MAX);
	if (ph->p_filesz > ph->p_memsz || ph->p_paddr + ph->p_memsz < ph->p_paddr)
		return image_fail(why, -EBADMSG, "a segment is larger in the file than in memory, or ends nowhere");
	if (!e->nr_parts || ph->p_paddr < e->start)
		e->start = ph->p_paddr;
	if (e->end < ph->p_paddr + ph->p_memsz)
		e->end = ph->p_paddr + ph->p_memsz;
	e->parts[e->nr_parts++] = (struct kernel_part){
		ph->p_offset, ph->p_filesz, ph->p_paddr, ph->p_memsz,
	};
	return 0;
}

static int read_segment(struct elf_image *e, const Elf64_Phdr *ph, const uint8_t *p, size_t len,
			const char **why)
{
	if (!within(ph->p_offset, ph->p_filesz, len))
		return image_fail(why, -EBADMSG, "a segment lies outside the file: is it cut short?");
	reach(e, ph->p_offset, ph->p_filesz);
	if (ph->p_type == PT_INTERP)
		e->has_interp = true;
	if (ph->p_type == PT_NOTE)
		find_pvh(e, p + ph->p_offset, ph->p_filesz);
	if (ph->p_type == PT_LOAD && ph->p_memsz)
		return add_part(e, ph, why);
	return 0;
}

static int read_segments(struct elf_image *e, const Elf64_Ehdr *eh, const uint8_t *p, size_t len,
			 const char **why)
{
	int ret = 0;

	if (eh->e_phnum && (eh->e_phentsize != sizeof(Elf64_Phdr) ||
			    !within(eh->e_phoff, eh->e_phnum * sizeof(Elf64_Phdr), len)))
		return image_fail(why, -EBADMSG, "its ELF program headers lie outside the file");
	reach(e, eh->e_phoff, eh->e_phnum * sizeof(Elf64_Phdr));
	for (unsigned int i = 0; i < eh->e_phnum && !ret; i++) {
		Elf64_Phdr ph;

		memcpy(&ph, p + eh->e_phoff + i * sizeof(ph), sizeof(ph));
		ret = read_segment(e, &ph, p, len, why);
	}
	return ret;
}

/* sections matter only for where the file ends */
static int read_sections(struct elf_image *e, const Elf64_Ehdr *eh, const uint8_t *p, size_t len,
			 const char **why)
{
	if (!eh->e_shnum)
		return 0;
	if (eh->e_shentsize != sizeof(Elf64_Shdr) ||
	    !within(eh->e_shoff, eh->e_shnum * sizeof(Elf64_Shdr), len))
		return image_fail(why, -EBADMSG, "its ELF section headers lie outside the file");
	reach(e, eh->e_shoff, eh->e_shnum * sizeof(Elf64_Shdr));
	for (unsigned int i = 0; i < eh->e_shnum; i++) {
		Elf64_Shdr sh;

		memcpy(&sh, p + eh->e_shoff + i * sizeof(sh), sizeof(sh));
		if (sh.sh_type == SHT_NOBITS || sh.sh_type == SHT_NULL)
			continue;
		if (!within(sh.sh_offset, sh.sh_size, len))
			return image_fail(why, -EBADMSG, "a section lies outside the file: is it cut short?");
		reach(e, sh.sh_offset, sh.sh_size);
	}
	return 0;
}

API int elf_parse(struct elf_image *e, const uint8_t *p, size_t len, const char **why)
{
	Elf64_Ehdr eh;
	int ret;

	memset(e, 0, sizeof(*e));
	if (len < sizeof(Elf32_Ehdr))
		return image_fail(why, -EBADMSG, "the file ends inside its ELF header");
	memcpy(&eh, p, len < sizeof(eh) ? sizeof(Elf32_Ehdr) : sizeof(eh));
	e->class = eh.e_ident[EI_CLASS];
	if (eh.e_ident[EI_DATA] == ELFDATA2MSB) {
		e->machine = (uint16_t)(p[18] << 8 | p[19]);
		e->type = (uint16_t)(p[16] << 8 | p[17]);
		return 0;
	}
	e->machine = eh.e_machine;
	e->type = eh.e_type;
	if (e->class != ELFCLASS64)
		return 0;
	if (len < sizeof(eh))
		return image_fail(why, -EBADMSG, "the file ends inside its ELF header");
	e->entry = eh.e_entry;
	e->file_end = sizeof(eh);
	ret = read_segments(e, &eh, p, len, why);
	return ret ? ret : read_sections(e, &eh, p, len, why);
}

static bool entry_in_part(const struct elf_image *e)
{
	for (unsigned int i = 0; i < e->nr_parts; i++)
		if (e->entry >= e->parts[i].gpa &&
		    e->entry - e->parts[i].gpa < e->parts[i].file_bytes)
			return true;
	return false;
}

API const char *elf_obstacle(const struct elf_image *e)
{
	const char *why;

	if (e->class != ELFCLASS64 || e->machine != EM_X86_64)
		return "it is an ELF file, but not for x86-64";
	if (e->type != ET_EXEC && e->type != ET_DYN)
		return "it is an ELF file, but not an executable (a module?)";
	if (e->has_interp)
		return "it is a program for a running system, not a kernel";
	if (entry_in_part(e))
		return NULL;
	image_fail(&why, 0, "its entry point 0x%llx is in none of its segments: not a kernel",
		   (unsigned long long)e->entry);
	return why;
}

API int elf_fits(const struct elf_image *e, uint64_t low_bytes, const char **why)
{
	*why = NULL;
	if (e->nr_parts && e->start >= KERNEL_LOAD_MIN && e->end <= low_bytes)
		return 0;
	return image_fail(why, -EFBIG, "it belongs at 0x%llx..0x%llx, the guest has RAM from 0x%x to 0x%llx",
			  (unsigned long long)e->start, (unsigned long long)e->end,
			  KERNEL_LOAD_MIN, (unsigned long long)low_bytes);
}

/* ---- relocations ------------------------------------------------------------ */

static uint32_t word(const uint8_t *list, size_t i)
{
	uint32_t v;

	memcpy(&v, list + 4 * i, sizeof(v));
	return v;
}

/* From the last word backwards to the zero in front of the list; false: there is none. */
static bool take_list(struct elf_relocs *r, int kind, const uint8_t *table, size_t *nr)
{
	size_t i = *nr;

	while (i && word(table, i - 1))
		i--;
	if (!i)
		return false;
	r->list[kind] = table + 4 * i;
	r->nr[kind] = *nr - i;
	*nr = i - 1;
	return true;
}

API int elf_relocs(struct elf_relocs *r, const struct elf_image *e, const uint8_t *p, size_t len,
		   const char **why)
{
	const uint8_t *table = p + e->file_end;
	size_t nr = (len - e->file_end) / 4, lists = 0;

	memset(r, 0, sizeof(*r));
	if (e->file_end == len)
		return image_fail(why, -ENOENT, "it has no relocations");
	for (size_t i = 0; i < nr; i++)
		lists += !word(table, i);
	if ((len - e->file_end) % 4 || word(table, 0) || (lists != 2 && lists != 3))
		return image_fail(why, -EBADMSG, "what is behind its ELF file are no relocations");
	take_list(r, RELOC_32, table, &nr);
	if (lists == 3)
		take_list(r, RELOC_32_INVERSE, table, &nr);
	take_list(r, RELOC_64, table, &nr);
	return 0;
}

static void add32(uint8_t *at, uint32_t delta)
{
	uint32_t v;

	memcpy(&v, at, sizeof(v));
	v += delta;
	memcpy(at, &v, sizeof(v));
}

static void add64(uint8_t *at, uint64_t delta)
{
	uint64_t v;

	memcpy(&v, at, sizeof(v));
	v += delta;
	memcpy(at, &v, sizeof(v));
}

API int elf_relocate(const struct elf_relocs *r, const struct elf_image *e, uint8_t *mem,
		     uint64_t delta, const char **why)
{
	uint64_t span = e->end - e->start;

	for (int kind = 0; kind < RELOC_KINDS; kind++) {
		for (size_t i = 0; i < r->nr[kind]; i++) {
			uint64_t virt = (uint64_t)(int64_t)(int32_t)word(r->list[kind], i);
			uint64_t off = virt - KERNEL_MAP - e->start;

			if (off > span || span - off < (kind == RELOC_64 ? 8 : 4))
				return image_fail(why, -EBADMSG, "a relocation is for 0x%llx, which is outside the kernel",
						  (unsigned long long)virt);
			if (kind == RELOC_64)
				add64(mem + off, delta);
			else
				add32(mem + off, (uint32_t)(kind == RELOC_32 ? delta : -delta));
		}
	}
	return 0;
}
