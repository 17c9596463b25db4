// SPDX-License-Identifier: LGPL-2.1-or-later
/* Boot images: reading them, asking the probes, keeping what they say. */
#include "image.h"

#include <errno.h>
#include <fcntl.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/stat.h>
#include <unistd.h>

#include <vmplat_map.h>

#include "kernel.h"
#include "lib/lib.h"

#define HEAD_BYTES	(1u << 20)	/* enough for what large files have in front */
#define TAIL_BYTES	512u
#define SMALL_BYTES	(16u << 20)	/* read as a whole whatever it is */
#define WHOLE_MAX	(2ULL << 30)	/* read as a whole if it is a kernel or an initrd */
#define FACTS_MAX	256

static const struct {
	enum vmplat_image_kind kind;
	image_probe *probe;
} probes[] = {
	{ VMPLAT_IMAGE_BZIMAGE,		probe_bzimage },
	{ VMPLAT_IMAGE_ELF,		probe_elf },
	{ VMPLAT_IMAGE_ARM64,		probe_arm64 },
	{ VMPLAT_IMAGE_RISCV,		probe_riscv },
	{ VMPLAT_IMAGE_ZBOOT,		probe_zboot },
	{ VMPLAT_IMAGE_PE,		probe_pe },
	{ VMPLAT_IMAGE_INITRD,		probe_initrd },
	{ VMPLAT_IMAGE_COMPRESSED,	probe_compressed },
	{ VMPLAT_IMAGE_DTB,		probe_dtb },
	{ VMPLAT_IMAGE_DISK,		probe_disk_format },
	{ VMPLAT_IMAGE_DISK,		probe_iso },
	{ VMPLAT_IMAGE_DISK,		probe_gpt },
	{ VMPLAT_IMAGE_DISK,		probe_filesystem },
	{ VMPLAT_IMAGE_DISK,		probe_mbr },
	{ VMPLAT_IMAGE_FIRMWARE,	probe_firmware },
	{ VMPLAT_IMAGE_UNKNOWN,		probe_other_kernel },
};

/* ---- bytes ------------------------------------------------------------------- */

uint64_t image_le(const struct vmplat_image *img, uint64_t off, unsigned int n)
{
	const uint8_t *p = image_at(img, off, n);
	uint64_t v = 0;

	while (p && n--)
		v = v << 8 | p[n];
	return v;
}

uint64_t image_be(const struct vmplat_image *img, uint64_t off, unsigned int n)
{
	const uint8_t *p = image_at(img, off, n);
	uint64_t v = 0;

	for (unsigned int i = 0; p && i < n; i++)
		v = v << 8 | p[i];
	return v;
}

/* ---- what is said -------------------------------------------------------------- */

static char *format(struct vmplat_image *img, const char *fmt, va_list ap)
{
	char *text;

	if (vasprintf(&text, fmt, ap) < 0) {
		img->no_memory = true;
		return NULL;
	}
	for (char *c = text; *c; c++)
		if (*c < ' ' || *c > '~')
			*c = '?';
	return text;
}

static struct vmplat_fact *add_fact(struct vmplat_image *img, const char *name,
				    enum vmplat_fact_type type)
{
	struct vmplat_fact *f;

	if (img->nr_facts == FACTS_MAX)
		return NULL;
	f = realloc(img->facts, (img->nr_facts + 1) * sizeof(*f));
	if (!f) {
		img->no_memory = true;
		return NULL;
	}
	img->facts = f;
	f += img->nr_facts++;
	*f = (struct vmplat_fact){ .name = name, .type = type };
	return f;
}

void image_text(struct vmplat_image *img, const char *name, const char *fmt, ...)
{
	struct vmplat_fact *f = add_fact(img, name, VMPLAT_FACT_TEXT);
	va_list ap;

	if (!f)
		return;
	va_start(ap, fmt);
	f->text = format(img, fmt, ap);
	va_end(ap);
	if (!f->text)
		img->nr_facts--;
}

static void add_number(struct vmplat_image *img, const char *name, enum vmplat_fact_type type,
		       uint64_t v)
{
	struct vmplat_fact *f = add_fact(img, name, type);

	if (f)
		f->number = v;
}

void image_number(struct vmplat_image *img, const char *name, uint64_t v)
{
	add_number(img, name, VMPLAT_FACT_NUMBER, v);
}

void image_bytes(struct vmplat_image *img, const char *name, uint64_t v)
{
	add_number(img, name, VMPLAT_FACT_BYTES, v);
}

void image_address(struct vmplat_image *img, const char *name, uint64_t v)
{
	add_number(img, name, VMPLAT_FACT_ADDRESS, v);
}

void image_flag(struct vmplat_image *img, const char *name, bool v)
{
	add_number(img, name, VMPLAT_FACT_FLAG, v);
}

void image_summary(struct vmplat_image *img, const char *fmt, ...)
{
	va_list ap;

	va_start(ap, fmt);
	free(img->summary);
	img->summary = format(img, fmt, ap);
	va_end(ap);
}

void image_obstacle(struct vmplat_image *img, const char *fmt, ...)
{
	va_list ap;

	va_start(ap, fmt);
	free(img->obstacle);
	img->obstacle = format(img, fmt, ap);
	va_end(ap);
	img->role = NULL;
}

struct vmplat_image *image_part(struct vmplat_image *img)
{
	struct vmplat_image *part, **parts;

	if (img->nr_parts == IMAGE_PARTS_MAX || img->depth == IMAGE_DEPTH_MAX)
		return NULL;
	part = calloc(1, sizeof(*part));
	parts = part ? realloc(img->parts, (img->nr_parts + 1) * sizeof(*parts)) : NULL;
	if (!parts) {
		free(part);
		img->no_memory = true;
		return NULL;
	}
	part->flags = img->flags;
	part->depth = img->depth + 1;
	img->parts = parts;
	img->parts[img->nr_parts++] = part;
	return part;
}

/* ---- asking -------------------------------------------------------------------- */

void image_describe(struct vmplat_image *img, const uint8_t *p, size_t len, uint64_t bytes)
{
	img->p = p;
	img->len = len;
	img->bytes = bytes;
	if (!img->tail && len == bytes) {
		img->tail_len = len < TAIL_BYTES ? len : TAIL_BYTES;
		img->tail = p + len - img->tail_len;
	}
	for (size_t i = 0; i < sizeof(probes) / sizeof(probes[0]); i++) {
		if (!probes[i].probe(img))
			continue;
		if (img->kind == VMPLAT_IMAGE_UNKNOWN)
			img->kind = probes[i].kind;
		break;
	}
	if (bytes == IMAGE_BYTES_UNKNOWN)
		image_obstacle(img, "only its beginning has been unpacked");
	if (!img->summary)
		image_summary(img, bytes ? "unknown content" : "empty");
	if (!img->role && !img->obstacle && !bytes)
		image_obstacle(img, "it is empty");
	else if (!img->role && !img->obstacle)
		image_obstacle(img, "it is neither a bzImage nor an ELF kernel (it starts with %02x %02x %02x %02x)",
			       (int)image_le(img, 0, 1), (int)image_le(img, 1, 1),
			       (int)image_le(img, 2, 1), (int)image_le(img, 3, 1));
	img->p = img->tail = NULL;
	img->len = img->tail_len = 0;
}

static int finish(struct vmplat_image **out, struct vmplat_image *img)
{
	bool lost = img->no_memory;

	for (size_t i = 0; i < img->nr_parts && !lost; i++)
		lost = img->parts[i]->no_memory;
	if (lost || !img->summary) {
		vmplat_image_close(img);
		return lib_error(-ENOMEM, "out of memory");
	}
	*out = img;
	return 0;
}

static int new_image(struct vmplat_image **img, uint32_t flags)
{
	if (flags & ~VMPLAT_IMAGE_F_DEEP)
		return lib_error(-EINVAL, "flags 0x%x are not known", flags);
	*img = calloc(1, sizeof(**img));
	if (!*img)
		return lib_error(-ENOMEM, "out of memory");
	(*img)->flags = flags;
	return 0;
}

API int vmplat_image_from_bytes(struct vmplat_image **out, const void *bytes, size_t len,
				uint32_t flags)
{
	struct vmplat_image *img;
	int ret;

	*out = NULL;
	ret = new_image(&img, flags);
	if (ret)
		return ret;
	image_describe(img, bytes, len, len);
	return finish(out, img);
}

/* ---- files ----------------------------------------------------------------------- */

static int read_at(int fd, uint8_t *p, size_t n, uint64_t off)
{
	while (n) {
		ssize_t got = pread(fd, p, n, (off_t)off);

		if (got < 0 && errno == EINTR)
			continue;
		if (got <= 0)
			return got ? -errno : -EIO;
		p += got;
		n -= (size_t)got;
		off += (uint64_t)got;
	}
	return 0;
}

/* kernels and initrds need to be seen as a whole; of a disk the head tells */
static bool wants_whole(const uint8_t *p, size_t len)
{
	return bzimage_is(p, len) || elf_is(p, len) || unpack_detect(p, len) ||
	       (len >= 2 && !memcmp(p, "MZ", 2)) || (len >= 5 && !memcmp(p, "07070", 5));
}

static int describe_fd(struct vmplat_image *img, int fd, uint64_t bytes)
{
	size_t len = bytes > SMALL_BYTES ? HEAD_BYTES : (size_t)bytes;
	const struct vmplat_map_options lazy = { .flags = VMPLAT_MAP_F_LAZY };
	uint8_t tail[TAIL_BYTES], *p;
	struct vmplat_map *map;
	int ret;

	/* as large as it may come to be; what is not used costs nothing */
	size_t room = bytes > WHOLE_MAX ? HEAD_BYTES : bytes ? (size_t)bytes : 1;

	if (vmplat_map_new(&map, room, &lazy))
		return -ENOMEM;
	p = vmplat_map_addr(map);
	ret = read_at(fd, p, len, 0);
	if (!ret && len < bytes && bytes <= WHOLE_MAX && wants_whole(p, len)) {
		ret = read_at(fd, p + len, (size_t)bytes - len, len);
		len = (size_t)bytes;
	}
	if (!ret && bytes >= TAIL_BYTES) {
		ret = read_at(fd, tail, TAIL_BYTES, bytes - TAIL_BYTES);
		img->tail = tail;
		img->tail_len = TAIL_BYTES;
	}
	if (!ret)
		image_describe(img, p, len, bytes);
	vmplat_map_close(map);
	return ret;
}

static int open_file(const char *path, uint64_t *bytes)
{
	int fd = open(path, O_RDONLY | O_CLOEXEC | O_NONBLOCK);
	struct stat st;
	int ret = 0;

	if (fd < 0)
		return lib_error(-errno, "%s: %s", path, strerror(errno));
	if (fstat(fd, &st)) {
		ret = lib_error(-errno, "%s: %s", path, strerror(errno));
	} else if (S_ISREG(st.st_mode)) {
		*bytes = (uint64_t)st.st_size;
	} else if (S_ISBLK(st.st_mode)) {
		off_t end = lseek(fd, 0, SEEK_END);

		if (end < 0)
			ret = lib_error(-errno, "%s: %s", path, strerror(errno));
		*bytes = end < 0 ? 0 : (uint64_t)end;
	} else {
		ret = lib_error(-EINVAL, "%s: it is neither a regular file nor a block device", path);
	}
	if (ret)
		close(fd);
	return ret ? ret : fd;
}

API int vmplat_image_open(struct vmplat_image **out, const char *path, uint32_t flags)
{
	struct vmplat_image *img;
	uint64_t bytes;
	int ret, fd;

	*out = NULL;
	ret = new_image(&img, flags);
	if (ret)
		return ret;
	fd = open_file(path, &bytes);
	if (fd < 0) {
		free(img);
		return fd;
	}
	ret = describe_fd(img, fd, bytes);
	close(fd);
	if (ret) {
		vmplat_image_close(img);
		return lib_error(ret, "%s: %s", path, strerror(-ret));
	}
	return finish(out, img);
}

API void vmplat_image_close(struct vmplat_image *img)
{
	if (!img)
		return;
	for (size_t i = 0; i < img->nr_parts; i++)
		vmplat_image_close(img->parts[i]);
	for (size_t i = 0; i < img->nr_facts; i++)
		free((char *)img->facts[i].text);
	free(img->parts);
	free(img->facts);
	free(img->summary);
	free(img->obstacle);
	free(img);
}

/* ---- answers ----------------------------------------------------------------------- */

API enum vmplat_image_kind vmplat_image_kind(const struct vmplat_image *img)
{
	return img->kind;
}

API const char *vmplat_image_kind_name(enum vmplat_image_kind kind)
{
	static const char *const names[] = {
		[VMPLAT_IMAGE_UNKNOWN] = "unknown", [VMPLAT_IMAGE_BZIMAGE] = "bzimage",
		[VMPLAT_IMAGE_ELF] = "elf", [VMPLAT_IMAGE_ARM64] = "arm64",
		[VMPLAT_IMAGE_RISCV] = "riscv", [VMPLAT_IMAGE_ZBOOT] = "zboot",
		[VMPLAT_IMAGE_PE] = "pe", [VMPLAT_IMAGE_INITRD] = "initrd",
		[VMPLAT_IMAGE_COMPRESSED] = "compressed", [VMPLAT_IMAGE_DTB] = "dtb",
		[VMPLAT_IMAGE_FIRMWARE] = "firmware", [VMPLAT_IMAGE_DISK] = "disk",
	};

	return (size_t)kind < sizeof(names) / sizeof(names[0]) ? names[kind] : "unknown";
}

API const char *vmplat_image_summary(const struct vmplat_image *img)
{
	return img->summary;
}

API const char *vmplat_image_role(const struct vmplat_image *img)
{
	return img->role;
}

API const char *vmplat_image_obstacle(const struct vmplat_image *img)
{
	return img->obstacle;
}

API size_t vmplat_image_nr_facts(const struct vmplat_image *img)
{
	return img->nr_facts;
}

API const struct vmplat_fact *vmplat_image_fact(const struct vmplat_image *img, size_t i)
{
	return i < img->nr_facts ? &img->facts[i] : NULL;
}

API const struct vmplat_fact *vmplat_image_find(const struct vmplat_image *img, const char *name)
{
	for (size_t i = 0; i < img->nr_facts; i++)
		if (!strcmp(img->facts[i].name, name))
			return &img->facts[i];
	return NULL;
}

API size_t vmplat_image_nr_parts(const struct vmplat_image *img)
{
	return img->nr_parts;
}

API const struct vmplat_image *vmplat_image_part(const struct vmplat_image *img, size_t i)
{
	return i < img->nr_parts ? img->parts[i] : NULL;
}
