/* SPDX-License-Identifier: LGPL-2.1-or-later */
/*
 * What the files of the disc reader share. Data flows one way: iso_io reads bytes
 * through a small cache; iso_vol finds the trees; iso_dir with iso_rr, iso_udf_dir, and
 * iso_fat turn one directory's bytes into nodes, one at a time; iso_tree walks;
 * iso_file with iso_zf reads contents; iso_check looks at all of it.
 *
 * Words: a sector is 2048 bytes. A section is a run of a file's bytes on the disc. A
 * record is what ISO 9660 has in a directory for a section, a FID what UDF has for a
 * name. A loc says where a directory is; two directories are the same if their locs are.
 * Everything that counts is in bytes from the start of the image, except where a
 * name says blocks.
 *
 * The rule for hostile discs: no length or place that was read is used before it has
 * been compared with iso->bytes, every chain has a limit, and a walk may not look at
 * more bytes of directories than the disc has.
 */
#ifndef VMPLAT_IMAGE_ISO_H
#define VMPLAT_IMAGE_ISO_H

#include <pthread.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include <vmplat_iso.h>

#include "lib/lib.h"

#define ISO_SECTOR	2048u
#define ISO_LINK_MAX	4095

/* ---- numbers ----------------------------------------------------------- */

static inline uint16_t le16(const uint8_t *p)
{
	return p[0] | p[1] << 8;
}

static inline uint32_t le32(const uint8_t *p)
{
	return le16(p) | (uint32_t)le16(p + 2) << 16;
}

static inline uint64_t le64(const uint8_t *p)
{
	return le32(p) | (uint64_t)le32(p + 4) << 32;
}

static inline uint16_t be16(const uint8_t *p)
{
	return p[0] << 8 | p[1];
}

static inline uint32_t be32(const uint8_t *p)
{
	return (uint32_t)be16(p) << 16 | be16(p + 2);
}

static inline void wr_be16(uint8_t *p, uint16_t v)
{
	p[0] = v >> 8;
	p[1] = v & 0xff;
}

/* ---- discs ------------------------------------------------------------- */

#define WINDOW_BYTES	65536u
#define NR_WINDOWS	32

struct iso_window {
	uint64_t off;
	uint32_t len;
	uint32_t used;		/* when, on the clock of the cache */
	uint8_t *buf;
};

/* A directory: ISO: its extent; UDF: its ICB in @pos; FAT: its first cluster's place; these have no length. */
struct iso_loc {
	uint64_t pos, bytes;
};

/* One of the directory hierarchies that ISO 9660 descriptors root. */
struct iso_volume {
	bool present;
	uint64_t offset;	/* of the descriptor */
	uint32_t block;		/* logical block size, 512 to 2048 */
	uint16_t sequence;	/* this disc's number in its set */
	struct iso_loc root;
	uint8_t joliet_level;
};

struct iso_udf;
struct iso_fat;

struct vmplat_iso {
	int fd;
	uint64_t bytes;
	pthread_mutex_t lock;	/* the windows */
	struct iso_window window[NR_WINDOWS];
	uint32_t clock;

	struct iso_volume primary, joliet, enhanced;
	uint64_t terminator;	/* offset of the set terminator, 0 if there is none */
	uint64_t boot_catalog;
	struct iso_udf *udf;
	struct iso_fat *fat;	/* in the boot image for UEFI */
	bool rock_ridge;
	uint8_t susp_skip;	/* SP: bytes before the fields in each record */
	char rr_version[32];
	enum vmplat_iso_tree tree;

	void (*on_issue)(void *ctx, const struct vmplat_iso_issue *issue);
	void *issue_ctx;
	const char *where;	/* path for issues, set by walks */
	unsigned int quiet;	/* issues are not reported while looking again */
	unsigned int nr_errors;
};

/*
 * Read all of [@off, @off + @len), which may lie outside the image: -ENODATA. Short
 * reads go through the windows.
 */
int iso_read(struct vmplat_iso *iso, void *buf, size_t len, uint64_t off);
/* Whether [@pos, @pos + @bytes) lies in the image. */
bool iso_inside(const struct vmplat_iso *iso, uint64_t pos, uint64_t bytes);

/* Something is wrong: tell the listener; an error is also the thread's last one. -EBADMSG */
int iso_issue(struct vmplat_iso *iso, enum vmplat_iso_severity severity, const char *name,
	      uint64_t off, const char *fmt, ...) __attribute__((format(printf, 5, 6)));
#define iso_bad(iso, name, off, ...) \
	iso_issue(iso, VMPLAT_ISO_ERROR, name, off, __VA_ARGS__)
#define iso_warn(iso, name, off, ...) \
	((void)iso_issue(iso, VMPLAT_ISO_WARNING, name, off, __VA_ARGS__))
#define iso_note(iso, name, off, ...) \
	((void)iso_issue(iso, VMPLAT_ISO_NOTE, name, off, __VA_ARGS__))

/*
 * Be silent while looking at the same things again. Without a listener nothing is written, so
 * that threads may share a disc.
 */
static inline void iso_hush(struct vmplat_iso *iso, bool on)
{
	if (iso->on_issue)
		iso->quiet += on ? 1 : -1;
}

static inline void iso_at_path(struct vmplat_iso *iso, const char *path)
{
	if (iso->on_issue)
		iso->where = path;
}

/* Both-endian numbers: the little-endian one, and a warning if they differ. */
uint32_t iso_both32(struct vmplat_iso *iso, const uint8_t *p, uint64_t off, const char *what);
uint16_t iso_both16(struct vmplat_iso *iso, const uint8_t *p, uint64_t off, const char *what);

/* ---- text and time ----------------------------------------------------- */

/*
 * UTF-16BE (@bytes of it) as UTF-8 into @out of @room, ended by NUL; what is no character
 * becomes U+FFFD. Returns false if something was replaced or cut.
 */
bool iso_utf16(char *out, size_t room, const uint8_t *in, size_t bytes);
bool iso_latin1(char *out, size_t room, const uint8_t *in, size_t bytes);
/* Make a name safe as one component of a path; returns whether it had to be changed. */
bool iso_tame(char *name, size_t *len);

/* 7 bytes of a directory record; 17 of a volume descriptor; 12 of UDF: false if unset or no date */
bool iso_time7(const uint8_t *p, struct timespec *ts);
bool iso_time17(const uint8_t *p, struct timespec *ts);
bool iso_time_udf(const uint8_t *p, struct timespec *ts);
/* FAT: a date, a time in steps of 2 s, and hundredths of a second on top of it */
bool iso_time_fat(uint16_t date, uint16_t time, uint8_t hundredths, struct timespec *ts);

/* ---- sections ---------------------------------------------------------- */

struct iso_section {
	uint64_t off;		/* in the file */
	uint64_t pos;		/* on the disc */
	uint64_t bytes;
	uint32_t unit, gap;	/* interleaved: bytes of data, bytes between */
	bool hole;
};

#define ISO_SECTIONS_MAX 65536

/* A file's sections; @one serves nearly all files. */
struct iso_sections {
	struct iso_section one, *many;
	unsigned int nr, room;
	uint64_t bytes;
};

/* Append, joined with the one before if it continues it. -ENOMEM, -EFBIG */
int iso_section_add(struct iso_sections *s, struct iso_section add);
const struct iso_section *iso_section_at(const struct iso_sections *s, uint64_t off);
void iso_sections_free(struct iso_sections *s);
/* The run at @off, which is inside; see vmplat_iso_file_extent(). */
void iso_sections_map(const struct iso_sections *s, uint64_t off, struct vmplat_iso_extent *x);
int iso_sections_read(struct vmplat_iso *iso, const struct iso_sections *s, void *buf,
		      size_t len, uint64_t off);

/* ---- directories ------------------------------------------------------- */

/* What ZF says of a compressed file. */
struct iso_zf {
	uint8_t version, header_bytes, block_shift;
};

/* One name. Large: it lives in a walk, a directory, or a check, not on the stack. */
struct iso_node {
	struct vmplat_iso_stat st;
	uint64_t place[4];
	struct iso_zf zf;
	int err;		/* with VMPLAT_ISO_BROKEN */
	size_t name_len;
	char name[VMPLAT_ISO_NAME_MAX + 4];
	char link[ISO_LINK_MAX + 1];
};

/* place[3]: kind and tree of an entry */
#define PLACE_TREE(tree)	(0x69736f00u + (tree))
#define PLACE_ROOT		(1ULL << 32)

/* Reading one directory. */
struct iso_cursor {
	struct vmplat_iso *iso;
	struct iso_loc loc;
	uint64_t off;			/* of the next record in the directory */
	uint64_t extra;			/* bytes of continuation areas looked at */
	const struct iso_volume *vol;	/* NULL: UDF or FAT */
	bool rr;
	uint64_t sector_pos;		/* what @sector holds, if not ~0 */
	uint8_t sector[ISO_SECTOR];
	struct iso_sections sections;	/* UDF, FAT */
};

int iso_cursor_open(struct iso_cursor *c, struct vmplat_iso *iso, struct iso_loc loc);
void iso_cursor_close(struct iso_cursor *c);
/* 1 and a node, 0 at the end, -errno. After -EBADMSG the next call goes on. */
int iso_cursor_next(struct iso_cursor *c, struct iso_node *n);

void iso_root(struct vmplat_iso *iso, struct iso_node *n);
/* The directory that an entry of a tree is; -ENOTDIR */
int iso_loc_of(struct vmplat_iso *iso, const struct vmplat_iso_entry *e, struct iso_loc *loc);
void iso_entry(const struct iso_node *n, struct vmplat_iso_entry *e);
/* The hierarchy of the current tree; NULL for UDF and FAT. */
const struct iso_volume *iso_tree_volume(const struct vmplat_iso *iso);

/* iso_dir.c */
int iso_dir_next(struct iso_cursor *c, struct iso_node *n);
int iso_dir_sections(struct vmplat_iso *iso, const uint64_t place[4], struct iso_sections *s,
		     struct iso_node *n);
/* The "." record at the start of a directory; -EBADMSG if there is none. */
int iso_dir_self(struct vmplat_iso *iso, const struct iso_volume *vol, uint64_t pos,
		 uint8_t record[255]);

/* A record's (or path table's) identifier as a name of at most @room bytes: its length */
size_t iso_id_name(struct vmplat_iso *iso, const struct iso_volume *vol, char *out, size_t room,
		   const uint8_t *id, size_t len, uint64_t off);

/* iso_vol.c: what opening a disc does once its length is known */
int iso_find_trees(struct vmplat_iso *iso);

/* iso_rr.c: fields that are not in a node */
struct iso_rr {
	bool child, relocated, parent;	/* CL, RE, PL */
	uint32_t child_block, parent_block;
	bool named, posix;
};

/* The SUSP fields of a record's system use area into @n. */
int iso_susp(struct vmplat_iso *iso, const struct iso_volume *vol, const uint8_t *area,
	     size_t len, uint64_t off, struct iso_node *n, struct iso_rr *rr, uint64_t *extra);
/* Whether the primary tree has Rock Ridge: sets rock_ridge, susp_skip, rr_version. */
int iso_rr_detect(struct vmplat_iso *iso);
/* System use area of a record: offset in it, and length */
static inline size_t iso_susp_start(const uint8_t *rec)
{
	return (33 + rec[32] + 1) & ~1u;
}

/* ---- UDF --------------------------------------------------------------- */

int iso_udf_detect(struct vmplat_iso *iso);
void iso_udf_free(struct iso_udf *udf);
uint64_t iso_udf_root(const struct vmplat_iso *iso);
int iso_udf_volume(struct vmplat_iso *iso, struct vmplat_iso_volume *v);
int iso_udf_next(struct iso_cursor *c, struct iso_node *n);
/* Attributes (and link) of the file whose ICB is @icb; @s gets its sections, may be NULL. */
int iso_udf_node(struct vmplat_iso *iso, uint64_t icb, struct iso_node *n,
		 struct iso_sections *s);
/* Sections for [@block, @block + @bytes) of partition reference @part. */
int iso_udf_map(struct vmplat_iso *iso, unsigned int part, uint32_t block, uint64_t bytes,
		struct iso_sections *s, bool hole);
uint32_t iso_udf_block(const struct vmplat_iso *iso);
/* Compare a descriptor's tag with what it should be; @room bytes of it are there. */
int iso_udf_tag(struct vmplat_iso *iso, const uint8_t *p, size_t room, int id, uint32_t block,
		uint64_t off);

/* ---- FAT --------------------------------------------------------------- */

/* iso_boot.c: places of the boot images for UEFI; how many, at most @max */
unsigned int iso_boot_efi(struct vmplat_iso *iso, uint64_t *pos, unsigned int max);
/* iso->fat, if one of them has such a file system that can be read; -ENOMEM */
int iso_fat_detect(struct vmplat_iso *iso);
void iso_fat_root(struct vmplat_iso *iso, struct iso_node *n);
/* The directory at @pos as sections. */
int iso_fat_dir(struct vmplat_iso *iso, uint64_t pos, struct iso_sections *s);
int iso_fat_next(struct iso_cursor *c, struct iso_node *n);
/* A file's or directory's data, and its true length in @n. */
int iso_fat_data(struct vmplat_iso *iso, const struct vmplat_iso_entry *e, struct iso_sections *s,
		 struct iso_node *n);
/* What is wrong with a file's chain; @clusters adds up those of all files. */
int iso_fat_check_file(struct vmplat_iso *iso, const struct vmplat_iso_entry *e, uint64_t *clusters);
/* Whether the copies of the allocation table are. */
int iso_fat_check_tables(struct vmplat_iso *iso);

/* ---- contents ---------------------------------------------------------- */

struct iso_zreader;
int iso_zf_open(struct iso_zreader **z, struct vmplat_iso *iso, const struct iso_sections *s,
		const struct iso_zf *zf, uint64_t bytes);
int iso_zf_read(struct iso_zreader *z, void *buf, size_t len, uint64_t off);
void iso_zf_close(struct iso_zreader *z);

#endif /* VMPLAT_IMAGE_ISO_H */
