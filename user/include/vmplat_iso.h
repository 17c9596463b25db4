/* SPDX-License-Identifier: LGPL-2.1-or-later */
/*
 * Optical disc images: ISO 9660 with Rock Ridge, Joliet and ISO 9660:1999, UDF,
 * El Torito with the FAT file system of its image for UEFI, and what makes an image a hard
 * disk as well. Part of libvmplat; needs
 * neither the kernel module nor privileges.
 *
 * One disc can hold the same files in several trees. A handle reads one of them.
 * Memory is bounded whatever the disc says: a handle takes about 3 MiB, a walk or
 * an open file less than 4 MiB more. Discs are not trusted. What is wrong with one is an
 * error (-EBADMSG) for whatever cannot be read safely, and an issue for the rest: see
 * vmplat_iso_on_issue(). Nothing is cut short silently, and no disc makes a loop.
 *
 * Conventions as in vmplat.h: 0, a count, or -errno with vmplat_last_error().
 * -EBADMSG: the disc contradicts itself or the format; -EOPNOTSUPP: it uses
 * something that is not read, named in the sentence; -ENODATA: it ends too early.
 * Offsets and lengths are in bytes. Threads may share a handle while none of them changes
 * its tree or listens to issues; a walk, a directory or a file belongs to one thread at a
 * time.
 */
#ifndef VMPLAT_ISO_H
#define VMPLAT_ISO_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <sys/types.h>
#include <time.h>

#ifdef __cplusplus
extern "C" {
#endif

/* ---- discs ------------------------------------------------------------- */

struct vmplat_iso;

/** enum vmplat_iso_tree - which of a disc's trees to read */
enum vmplat_iso_tree {
	VMPLAT_ISO_AUTO,	/* the first there is: rr, udf, joliet, 1999, iso */
	VMPLAT_ISO_PLAIN,	/* the primary tree as ISO 9660 has it */
	VMPLAT_ISO_RR,		/* the primary tree with Rock Ridge */
	VMPLAT_ISO_JOLIET,
	VMPLAT_ISO_1999,	/* of the enhanced volume descriptor */
	VMPLAT_ISO_UDF,
	VMPLAT_ISO_EFI,		/* other files: the FAT file system in the boot image for UEFI */
	VMPLAT_ISO_NR_TREES
};

/**
 * vmplat_iso_open - open a disc image
 * @iso: the new handle
 * @fd: a regular file or block device, readable; the handle takes it over on success
 *
 * The tree is chosen as VMPLAT_ISO_AUTO says. -EMEDIUMTYPE: no ISO 9660 and no UDF here.
 */
int vmplat_iso_open(struct vmplat_iso **iso, int fd);
void vmplat_iso_close(struct vmplat_iso *iso);
int vmplat_iso_fd(const struct vmplat_iso *iso);
/** vmplat_iso_bytes - length of the image */
uint64_t vmplat_iso_bytes(const struct vmplat_iso *iso);
/** vmplat_iso_trees - bit mask of the trees there are, 1 << enum vmplat_iso_tree */
unsigned int vmplat_iso_trees(const struct vmplat_iso *iso);
/** vmplat_iso_use - read another tree; -ENOENT if the disc has none of that kind */
int vmplat_iso_use(struct vmplat_iso *iso, enum vmplat_iso_tree tree);
enum vmplat_iso_tree vmplat_iso_tree(const struct vmplat_iso *iso);
/** vmplat_iso_tree_name - "rr", "joliet", ...; NULL for a number out of range */
const char *vmplat_iso_tree_name(enum vmplat_iso_tree tree);

/* ---- what is wrong with a disc ----------------------------------------- */

enum vmplat_iso_severity {
	VMPLAT_ISO_NOTE,	/* unusual, harmless */
	VMPLAT_ISO_WARNING,	/* against the standard; readers may disagree */
	VMPLAT_ISO_ERROR,	/* something is out of reach or ambiguous */
};

/**
 * struct vmplat_iso_issue - one thing that is wrong
 * @name: a fixed short name such as "susp-ce-loop"; Documentation/iso.rst has all
 * @offset: where on the disc
 * @path: the file it concerns, or NULL
 * @text: a sentence
 */
struct vmplat_iso_issue {
	const char *name;
	enum vmplat_iso_severity severity;
	uint64_t offset;
	const char *path;
	const char *text;
};

/** vmplat_iso_on_issue - hear of issues as reading meets them; NULL stops it */
void vmplat_iso_on_issue(struct vmplat_iso *iso,
			 void (*fn)(void *ctx, const struct vmplat_iso_issue *issue),
			 void *ctx);

/**
 * vmplat_iso_check - look at all of the disc's structures
 * @progress: called now and then with bytes of directories and tables seen; may be NULL
 *
 * Every tree is walked, trees are compared with each other, path tables with
 * directories, extents with the length of the disc. What is found goes to
 * vmplat_iso_on_issue(). Returns how many issues are errors, or -errno if the check
 * itself failed.
 */
int vmplat_iso_check(struct vmplat_iso *iso, void (*progress)(void *ctx, uint64_t bytes),
		     void *ctx);

/* ---- files and directories --------------------------------------------- */

enum vmplat_iso_flags {
	VMPLAT_ISO_HIDDEN	= 1 << 0,	/* the existence bit is set */
	VMPLAT_ISO_ASSOCIATED	= 1 << 1,	/* e.g. a resource fork */
	VMPLAT_ISO_ZISOFS	= 1 << 2,	/* stored compressed; bytes is the true length */
	VMPLAT_ISO_INTERLEAVED	= 1 << 3,
	VMPLAT_ISO_RELOCATED	= 1 << 4,	/* a directory that Rock Ridge moved here */
	VMPLAT_ISO_SPARSE	= 1 << 5,	/* an RRIP sparse file: -EOPNOTSUPP on reading */
	VMPLAT_ISO_XA		= 1 << 6,	/* @xa_attributes is valid */
	VMPLAT_ISO_XAR		= 1 << 7,	/* has an extended attribute record */
	VMPLAT_ISO_POSIX	= 1 << 8,	/* mode, uid, gid are from the disc */
	VMPLAT_ISO_BAD_NAME	= 1 << 9,	/* held '/', NUL, or was "." or "..": replaced */
	VMPLAT_ISO_BROKEN	= 1 << 10,	/* opening it fails; the sentence says why */
	VMPLAT_ISO_INO		= 1 << 11,	/* @ino is from the disc: equal for hard links */
};

enum vmplat_iso_times {
	VMPLAT_ISO_MTIME	= 1 << 0,
	VMPLAT_ISO_ATIME	= 1 << 1,
	VMPLAT_ISO_CTIME	= 1 << 2,	/* change of attributes */
	VMPLAT_ISO_BTIME	= 1 << 3,	/* creation */
};

/**
 * struct vmplat_iso_stat - what a tree tells of a file
 * @bytes: length as read
 * @stored_bytes: what it takes on the disc; differs for zisofs and holes
 * @mode: st_mode; made up (0555, 0444) without VMPLAT_ISO_POSIX
 * @times: which of the times are valid, &enum vmplat_iso_times
 * @pos: offset of the first byte on the disc, or 0 for none
 * @nr_sections: file sections (ISO 9660) or allocation descriptors (UDF); 0 for FAT, where
 *   opening the file tells
 */
struct vmplat_iso_stat {
	uint64_t bytes, stored_bytes;
	uint32_t mode, uid, gid, nlink;
	uint64_t ino;
	uint32_t rdev_major, rdev_minor;
	uint32_t flags, times;
	struct timespec mtime, atime, ctime, btime;
	uint64_t pos;
	uint32_t nr_sections;
	uint16_t xa_attributes;
};

/**
 * struct vmplat_iso_entry - one name in a directory
 * @name: UTF-8 (bytes as they are for plain ISO and Rock Ridge), never "." or ".."
 * @link: target of a symbolic link, else ""
 * @place: for the library
 *
 * The strings are valid until the next call with the same walk or directory.
 */
struct vmplat_iso_entry {
	const char *name;
	const char *link;
	struct vmplat_iso_stat st;
	uint64_t place[4];
};

#define VMPLAT_ISO_NAME_MAX	1020	/* bytes of a name */
#define VMPLAT_ISO_PATH_MAX	65536	/* bytes of a path a walk can make */
#define VMPLAT_ISO_DEPTH_MAX	1024	/* directories below each other in a walk */

enum vmplat_iso_lookup_flags {
	VMPLAT_ISO_FOLLOW	= 1 << 0,	/* also if the last component is a link */
};

/**
 * vmplat_iso_lookup - find a file by path
 * @path: from the root, with or without a leading '/'; "" is the root
 * @flags: &enum vmplat_iso_lookup_flags
 *
 * Symbolic links on the way are followed within the disc. Trees other than Rock Ridge
 * and UDF match without regard to ASCII case if nothing matches exactly. -ENOENT,
 * -ENOTDIR, -ELOOP. The entry's strings are "" and the link of a symlink not followed;
 * they live until the thread's next lookup.
 */
int vmplat_iso_lookup(struct vmplat_iso *iso, const char *path, unsigned int flags,
		      struct vmplat_iso_entry *entry);

struct vmplat_iso_dir;

/** vmplat_iso_dir_open - list the directory that @entry is */
int vmplat_iso_dir_open(struct vmplat_iso_dir **dir, struct vmplat_iso *iso,
			const struct vmplat_iso_entry *entry);
/**
 * vmplat_iso_dir_next - the next entry, in the disc's order
 *
 * 1, 0 at the end, -errno. After -EBADMSG the next call goes on behind the damage.
 */
int vmplat_iso_dir_next(struct vmplat_iso_dir *dir, struct vmplat_iso_entry *entry);
void vmplat_iso_dir_close(struct vmplat_iso_dir *dir);

/* ---- walks ------------------------------------------------------------- */

enum vmplat_iso_walk_flags {
	/* all entries of a directory before those of its subdirectories, as ls -R has it */
	VMPLAT_ISO_WALK_GROUPED	= 1 << 0,
	/* only the directory itself */
	VMPLAT_ISO_WALK_FLAT	= 1 << 1,
	/* associated files too */
	VMPLAT_ISO_WALK_ALL	= 1 << 2,
};

struct vmplat_iso_walk;

/** vmplat_iso_walk_open - walk the tree below the directory @top; @path is its name */
int vmplat_iso_walk_open(struct vmplat_iso_walk **walk, struct vmplat_iso *iso,
			 const struct vmplat_iso_entry *top, const char *path,
			 unsigned int flags);
/**
 * vmplat_iso_walk_next - the next entry
 *
 * 1, 0 at the end, -errno; after -EBADMSG, -ELOOP and -ENAMETOOLONG the walk can go on
 * and leaves out what cannot be read. Directories come before what is in them.
 */
int vmplat_iso_walk_next(struct vmplat_iso_walk *walk, struct vmplat_iso_entry *entry);
/** vmplat_iso_walk_path - path of the latest entry (or of what failed), from @path on */
const char *vmplat_iso_walk_path(const struct vmplat_iso_walk *walk);
/** vmplat_iso_walk_depth - how many directories lie between the top and the latest entry */
unsigned int vmplat_iso_walk_depth(const struct vmplat_iso_walk *walk);
/** vmplat_iso_walk_skip - do not descend into the directory just returned */
void vmplat_iso_walk_skip(struct vmplat_iso_walk *walk);
void vmplat_iso_walk_close(struct vmplat_iso_walk *walk);

/* ---- contents ---------------------------------------------------------- */

struct vmplat_iso_file;

/**
 * vmplat_iso_file_open - open a regular file for reading
 *
 * Also opens a directory's own records. -EBADMSG: its extents lie outside the disc,
 * a multi-extent file lacks its last section, or a zisofs header is wrong.
 */
int vmplat_iso_file_open(struct vmplat_iso_file **file, struct vmplat_iso *iso,
			 const struct vmplat_iso_entry *entry);
/** vmplat_iso_file_open_path - vmplat_iso_lookup() and vmplat_iso_file_open() */
int vmplat_iso_file_open_path(struct vmplat_iso_file **file, struct vmplat_iso *iso,
			      const char *path);
void vmplat_iso_file_close(struct vmplat_iso_file *file);
uint64_t vmplat_iso_file_bytes(const struct vmplat_iso_file *file);
/** vmplat_iso_file_read - like pread(), but short only at the end of the file */
ssize_t vmplat_iso_file_read(struct vmplat_iso_file *file, void *buf, size_t len, uint64_t off);

/**
 * struct vmplat_iso_extent - a run of a file's bytes
 * @pos: offset in the image of the byte at @off, meaningless for holes
 */
struct vmplat_iso_extent {
	uint64_t off, bytes, pos;
	bool hole;
};

/**
 * vmplat_iso_file_extent - the run that contains the file's byte @off
 *
 * The run begins at @off. 1, 0 at the end of the file, -EOPNOTSUPP where the bytes of
 * the file are not those of the disc (zisofs): read it.
 */
int vmplat_iso_file_extent(struct vmplat_iso_file *file, uint64_t off,
			   struct vmplat_iso_extent *extent);

/* ---- volume descriptors ------------------------------------------------ */

enum vmplat_iso_volume_kind {
	VMPLAT_ISO_VOL_PRIMARY,
	VMPLAT_ISO_VOL_JOLIET,
	VMPLAT_ISO_VOL_ENHANCED,	/* ISO 9660:1999 */
	VMPLAT_ISO_VOL_SUPPLEMENTARY,	/* with a character set that is not Joliet's */
	VMPLAT_ISO_VOL_BOOT,
	VMPLAT_ISO_VOL_PARTITION,
	VMPLAT_ISO_VOL_TERMINATOR,
	VMPLAT_ISO_VOL_UDF,
	VMPLAT_ISO_VOL_OTHER,		/* BEA01, NSR0x, TEA01 and unknown ones */
};

enum { VMPLAT_ISO_CREATED, VMPLAT_ISO_MODIFIED, VMPLAT_ISO_EXPIRES, VMPLAT_ISO_EFFECTIVE };

/**
 * struct vmplat_iso_volume - one descriptor; strings are UTF-8, "" where there is none
 * @volume_bytes: how much of the disc it claims
 * @root_pos, @root_bytes: extent of the root directory
 * @path_table: offsets of the L and M path tables and their optional copies, 0 for none
 * @time_set: bit n: @time[n] is valid
 * @joliet_level: 1 to 3, or 0
 * @udf_revision: 0x0102 to 0x0260, or 0
 * @standard: five letters, "CD001", "BEA01"
 */
struct vmplat_iso_volume {
	enum vmplat_iso_volume_kind kind;
	uint64_t offset;
	char standard[6];
	uint8_t version;
	char system_id[100], volume_id[200], volume_set_id[400], publisher_id[400],
	     preparer_id[400], application_id[400], copyright_file[120], abstract_file[120],
	     bibliographic_file[120];
	uint64_t volume_bytes;
	uint32_t block_bytes;
	uint16_t set_size, sequence;
	uint64_t root_pos, root_bytes, path_table_bytes, path_table[4];
	unsigned int time_set;
	struct timespec time[4];
	uint8_t joliet_level;
	uint16_t udf_revision;
	uint64_t boot_catalog;
};

/** vmplat_iso_volume - the descriptor @nr, from 0; 1, 0 behind the last, -errno */
int vmplat_iso_volume(struct vmplat_iso *iso, unsigned int nr, struct vmplat_iso_volume *volume);

/** vmplat_iso_rr_version - "RRIP_1991A" or what the disc says, "" without Rock Ridge */
const char *vmplat_iso_rr_version(const struct vmplat_iso *iso);

/* ---- booting ----------------------------------------------------------- */

enum vmplat_iso_platform {
	VMPLAT_ISO_BIOS		= 0,
	VMPLAT_ISO_POWERPC	= 1,
	VMPLAT_ISO_MAC		= 2,
	VMPLAT_ISO_UEFI		= 0xef,
};

enum vmplat_iso_emulation {
	VMPLAT_ISO_NO_EMULATION,
	VMPLAT_ISO_FLOPPY_1200,
	VMPLAT_ISO_FLOPPY_1440,
	VMPLAT_ISO_FLOPPY_2880,
	VMPLAT_ISO_HARD_DISK,
};

/**
 * struct vmplat_iso_boot - one entry of the El Torito boot catalogue
 * @offset: of the entry in the catalogue
 * @platform: &enum vmplat_iso_platform, or a number unknown here
 * @pos: where the boot image is on the disc
 * @load_bytes: how much the entry asks the firmware to load
 * @load_address: where, for a BIOS
 * @bytes: how long the image really is; @bytes_from says how that is known: "file",
 *   "fat", "floppy", "mbr", "table", "partition" or "entry"
 * @path: the file with these bytes in the current tree, or ""
 * @table_pos, @table_bytes, @table_checksum, @has_table, @table_ok: the boot information
 *   table that isolinux and GRUB have patched in, and whether it is right
 */
struct vmplat_iso_boot {
	uint64_t offset;
	bool bootable, is_default;
	uint8_t platform, media, system_type;
	enum vmplat_iso_emulation emulation;
	char section_id[29];
	uint64_t pos, load_bytes, load_address;
	uint64_t bytes;
	const char *bytes_from;
	char path[1024];
	bool has_table, table_ok;
	uint64_t table_pos, table_bytes;
	uint32_t table_checksum;
};

/**
 * vmplat_iso_boot - read the boot catalogue
 * @entries: room for @max entries
 *
 * Returns how many there are (at most @max are written), 0 without a catalogue.
 */
int vmplat_iso_boot(struct vmplat_iso *iso, struct vmplat_iso_boot *entries, unsigned int max);

/* ---- what Linux it boots ------------------------------------------------ */

struct vmplat_iso_menu;

/**
 * struct vmplat_iso_choice - an entry of the boot menu
 * @id: its label, or ""
 * @title: what the menu shows
 * @kernel, @initrds: absolute paths in the tree the menu was read in, or, behind "efi:",
 *   in VMPLAT_ISO_EFI; the kernel may be ""
 * @args: the kernel's arguments, without initrd=
 * @file, @line: the configuration on the disc that has it; NULL and 0: found where
 *   distributions put kernels
 * @is_default: what is booted unless told otherwise; one entry at most
 * @obstacle: why it cannot be booted, or NULL
 *
 * Text is as the disc has it, control characters replaced by '?'.
 */
struct vmplat_iso_choice {
	const char *id, *title;
	const char *kernel;
	const char *const *initrds;
	unsigned int nr_initrds;
	const char *args;
	const char *file;
	unsigned int line;
	bool is_default;
	const char *obstacle;
};

/**
 * vmplat_iso_menu_open - read the boot menus of isolinux, GRUB and systemd-boot
 *
 * In the current tree, then in VMPLAT_ISO_EFI, from where both are seen; other threads may not use
 * @iso meanwhile. Configurations are followed as far as they can be without the
 * loader: includes, submenus, variables, conditions. They are not trusted: lengths,
 * numbers, nesting and steps are bounded. Where no entry can be booted, the places are
 * looked at where distributions put kernels. Needs no open @iso afterwards.
 */
int vmplat_iso_menu_open(struct vmplat_iso_menu **menu, struct vmplat_iso *iso);
void vmplat_iso_menu_close(struct vmplat_iso_menu *menu);
unsigned int vmplat_iso_menu_nr(const struct vmplat_iso_menu *menu);
/** vmplat_iso_menu_choice - entry @nr, from 0; NULL behind the last */
const struct vmplat_iso_choice *vmplat_iso_menu_choice(const struct vmplat_iso_menu *menu,
						       unsigned int nr);
/** vmplat_iso_menu_note - what could not be followed, sentence @nr, or NULL */
const char *vmplat_iso_menu_note(const struct vmplat_iso_menu *menu, unsigned int nr);
/**
 * vmplat_iso_menu_pick - the entry to boot
 * @word: its number, from 1, its label or its title; NULL: the default
 *
 * -ENOENT: there is none; -ENOEXEC: it cannot be booted.
 */
int vmplat_iso_menu_pick(const struct vmplat_iso_menu *menu, const char *word,
			 const struct vmplat_iso_choice **choice);

enum vmplat_iso_scheme { VMPLAT_ISO_MBR, VMPLAT_ISO_GPT, VMPLAT_ISO_APM };

/**
 * struct vmplat_iso_partition - what a disk partition table in the image says
 * @nr: its number there, from 1
 * @type: MBR type in hex, GPT type GUID, APM type
 */
struct vmplat_iso_partition {
	enum vmplat_iso_scheme scheme;
	unsigned int nr;
	uint64_t pos, bytes;
	bool active;
	char type[40], name[112];
};

/**
 * vmplat_iso_partitions - the partition tables of an image that is a hard disk as well
 *
 * Returns how many there are (at most @max are written), 0 without any.
 */
int vmplat_iso_partitions(struct vmplat_iso *iso, struct vmplat_iso_partition *parts,
			  unsigned int max);

#ifdef __cplusplus
}
#endif

#endif /* VMPLAT_ISO_H */
