// SPDX-License-Identifier: LGPL-2.1-or-later
/*
 * Volume descriptors (ECMA-119 section 8): opening a disc means finding the trees
 * that they root. A descriptor that cannot be used is an issue and no tree; a disc
 * without any tree is refused.
 */
#include <fcntl.h>
#include <inttypes.h>
#include <linux/fs.h>
#include <stdlib.h>
#include <sys/ioctl.h>
#include <sys/stat.h>
#include <unistd.h>

#include "image/iso.h"

#define FIRST_DESCRIPTOR	(16 * ISO_SECTOR)
#define DESCRIPTORS_MAX		256	/* nobody has more than ten */

enum { TYPE_BOOT, TYPE_PRIMARY, TYPE_SUPPLEMENTARY, TYPE_PARTITION, TYPE_TERMINATOR = 255 };

static const char *const tree_names[VMPLAT_ISO_NR_TREES] = {
	[VMPLAT_ISO_AUTO] = "auto", [VMPLAT_ISO_PLAIN] = "iso", [VMPLAT_ISO_RR] = "rr",
	[VMPLAT_ISO_JOLIET] = "joliet", [VMPLAT_ISO_1999] = "1999", [VMPLAT_ISO_UDF] = "udf",
	[VMPLAT_ISO_EFI] = "efi",
};

API const char *vmplat_iso_tree_name(enum vmplat_iso_tree tree)
{
	return (unsigned int)tree < VMPLAT_ISO_NR_TREES ? tree_names[tree] : NULL;
}

/* ---- finding the trees ------------------------------------------------- */

/* ISO 10646 in UCS-2, level 1 to 3: ESC 2/5 2/15 and 4/0, 4/3, 4/5 */
static uint8_t joliet_level(const uint8_t *vd)
{
	const uint8_t *esc = vd + 88;

	for (int i = 0; i + 3 <= 32; i++) {
		if (esc[i] != '%' || esc[i + 1] != '/')
			continue;
		switch (esc[i + 2]) {
		case '@': return 1;
		case 'C': return 2;
		case 'E': return 3;
		}
	}
	return 0;
}

static enum vmplat_iso_volume_kind kind_of(const uint8_t *vd)
{
	if (memcmp(vd + 1, "CD001", 5))
		return VMPLAT_ISO_VOL_OTHER;
	switch (vd[0]) {
	case TYPE_BOOT:
		return VMPLAT_ISO_VOL_BOOT;
	case TYPE_PRIMARY:
		return VMPLAT_ISO_VOL_PRIMARY;
	case TYPE_SUPPLEMENTARY:
		if (vd[6] == 2)
			return VMPLAT_ISO_VOL_ENHANCED;
		return joliet_level(vd) ? VMPLAT_ISO_VOL_JOLIET : VMPLAT_ISO_VOL_SUPPLEMENTARY;
	case TYPE_PARTITION:
		return VMPLAT_ISO_VOL_PARTITION;
	case TYPE_TERMINATOR:
		return VMPLAT_ISO_VOL_TERMINATOR;
	default:
		return VMPLAT_ISO_VOL_OTHER;
	}
}

/* The root directory of a descriptor that is good enough to read it. */
static int take_root(struct vmplat_iso *iso, const uint8_t *vd, uint64_t off,
		     struct iso_volume *v)
{
	const uint8_t *root = vd + 156;
	uint32_t block = iso_both16(iso, vd + 128, off + 128, "the logical block size");
	uint32_t blocks = iso_both32(iso, vd + 80, off + 80, "the volume's size");
	uint64_t pos;

	if (block != 512 && block != 1024 && block != 2048)
		return iso_bad(iso, "block-size", off + 128,
			       "the logical block size is %u, not 512, 1024 or 2048", block);
	if ((uint64_t)blocks * block > iso->bytes)
		iso_warn(iso, "volume-size", off + 80, "the volume has %" PRIu64 " bytes, the "
			 "image only %" PRIu64, (uint64_t)blocks * block, iso->bytes);
	if (root[0] < 34 || !(root[25] & 2))
		return iso_bad(iso, "root-record", off + 156, "the descriptor's root record is not "
			       "that of a directory");
	pos = ((uint64_t)iso_both32(iso, root + 2, off + 158, "the root's extent") + root[1]) * block;
	*v = (struct iso_volume) {
		.offset = off, .block = block,
		.sequence = iso_both16(iso, vd + 124, off + 124, "the volume sequence number"),
		.root = { pos, iso_both32(iso, root + 10, off + 166, "the root's length") },
	};
	if (!v->root.bytes || !iso_inside(iso, pos, v->root.bytes))
		return iso_bad(iso, "root-extent", off + 158, "the root directory, %" PRIu64
			       " bytes at %" PRIu64 ", does not lie in the image",
			       v->root.bytes, pos);
	v->present = true;
	return 0;
}

static void take_volume(struct vmplat_iso *iso, const uint8_t *vd, uint64_t off)
{
	switch (kind_of(vd)) {
	case VMPLAT_ISO_VOL_BOOT:
		if (!memcmp(vd + 7, "EL TORITO SPECIFICATION", 23) && !iso->boot_catalog)
			iso->boot_catalog = (uint64_t)le32(vd + 71) * ISO_SECTOR;
		break;
	case VMPLAT_ISO_VOL_PRIMARY:
		if (!iso->primary.present)
			take_root(iso, vd, off, &iso->primary);
		break;
	case VMPLAT_ISO_VOL_JOLIET:
		if (!iso->joliet.present && !take_root(iso, vd, off, &iso->joliet))
			iso->joliet.joliet_level = joliet_level(vd);
		break;
	case VMPLAT_ISO_VOL_ENHANCED:
		if (!iso->enhanced.present)
			take_root(iso, vd, off, &iso->enhanced);
		break;
	case VMPLAT_ISO_VOL_TERMINATOR:
		iso->terminator = off;
		break;
	default:
		break;
	}
}

static int find_volumes(struct vmplat_iso *iso)
{
	uint8_t vd[ISO_SECTOR];
	uint64_t off = FIRST_DESCRIPTOR;
	int rc;

	for (int i = 0; i < DESCRIPTORS_MAX && !iso->terminator; i++, off += ISO_SECTOR) {
		if (!iso_inside(iso, off, ISO_SECTOR))
			break;
		rc = iso_read(iso, vd, ISO_SECTOR, off);
		if (rc)
			return rc;
		if (i == 0 && !memcmp(vd + 9, "CDROM", 5))
			return lib_error(-EOPNOTSUPP, "this is a High Sierra disc, the format before "
					 "ISO 9660, which is not read");
		if (memcmp(vd + 1, "CD001", 5))
			break;
		take_volume(iso, vd, off);
	}
	if (off > FIRST_DESCRIPTOR && !iso->terminator)
		iso_warn(iso, "no-terminator", off, "the volume descriptors have no terminator");
	return 0;
}

/* ---- trees ------------------------------------------------------------- */

API unsigned int vmplat_iso_trees(const struct vmplat_iso *iso)
{
	unsigned int mask = 0;

	if (iso->primary.present)
		mask |= 1 << VMPLAT_ISO_PLAIN;
	if (iso->primary.present && iso->rock_ridge)
		mask |= 1 << VMPLAT_ISO_RR;
	if (iso->joliet.present)
		mask |= 1 << VMPLAT_ISO_JOLIET;
	if (iso->enhanced.present)
		mask |= 1 << VMPLAT_ISO_1999;
	if (iso->udf)
		mask |= 1 << VMPLAT_ISO_UDF;
	if (iso->fat)
		mask |= 1 << VMPLAT_ISO_EFI;
	return mask;
}

API int vmplat_iso_use(struct vmplat_iso *iso, enum vmplat_iso_tree tree)
{
	static const enum vmplat_iso_tree order[] = {
		VMPLAT_ISO_RR, VMPLAT_ISO_UDF, VMPLAT_ISO_JOLIET, VMPLAT_ISO_1999, VMPLAT_ISO_PLAIN,
	};
	unsigned int have = vmplat_iso_trees(iso);

	for (size_t i = 0; tree == VMPLAT_ISO_AUTO && i < sizeof(order) / sizeof(order[0]); i++)
		if (have & 1 << order[i])
			tree = order[i];
	if ((unsigned int)tree >= VMPLAT_ISO_NR_TREES)
		return lib_error(-EINVAL, "there is no tree %d", tree);
	if (!(have & 1 << tree))
		return lib_error(-ENOENT, "the disc has no %s tree", tree_names[tree]);
	iso->tree = tree;
	return 0;
}

API enum vmplat_iso_tree vmplat_iso_tree(const struct vmplat_iso *iso)
{
	return iso->tree;
}

const struct iso_volume *iso_tree_volume(const struct vmplat_iso *iso)
{
	switch (iso->tree) {
	case VMPLAT_ISO_JOLIET:
		return &iso->joliet;
	case VMPLAT_ISO_1999:
		return &iso->enhanced;
	case VMPLAT_ISO_UDF:
	case VMPLAT_ISO_EFI:
		return NULL;
	default:
		return &iso->primary;
	}
}

/* ---- opening ----------------------------------------------------------- */

static int image_bytes(int fd, uint64_t *bytes)
{
	struct stat st;

	if (fstat(fd, &st))
		return lib_error(-errno, "cannot stat the image: %s", strerror(errno));
	if (S_ISBLK(st.st_mode)) {
		if (ioctl(fd, BLKGETSIZE64, bytes))
			return lib_error(-errno, "cannot ask the device for its size: %s",
					 strerror(errno));
		return 0;
	}
	if (!S_ISREG(st.st_mode))
		return lib_error(-EINVAL, "an image has to be a regular file or a block device");
	*bytes = st.st_size;
	return 0;
}

int iso_find_trees(struct vmplat_iso *iso)
{
	int rc = find_volumes(iso);

	if (!rc && iso->primary.present)
		rc = iso_rr_detect(iso);
	if (!rc)
		rc = iso_udf_detect(iso);
	if (rc)
		return rc;
	if (!vmplat_iso_trees(iso))
		return lib_error(-EMEDIUMTYPE, "there is neither an ISO 9660 nor a UDF volume that "
				 "can be read in this image of %" PRIu64 " bytes", iso->bytes);
	rc = iso_fat_detect(iso);
	return rc ? rc : vmplat_iso_use(iso, VMPLAT_ISO_AUTO);
}

API int vmplat_iso_open(struct vmplat_iso **out, int fd)
{
	struct vmplat_iso *iso;
	int rc;

	*out = NULL;
	iso = calloc(1, sizeof(*iso));
	if (!iso)
		return lib_error(-ENOMEM, "out of memory");
	iso->fd = fd;
	pthread_mutex_init(&iso->lock, NULL);
	rc = image_bytes(fd, &iso->bytes);
	if (!rc)
		rc = iso_find_trees(iso);
	if (rc) {
		iso->fd = -1;
		vmplat_iso_close(iso);
		return rc;
	}
	*out = iso;
	return 0;
}

API void vmplat_iso_close(struct vmplat_iso *iso)
{
	if (!iso)
		return;
	iso_udf_free(iso->udf);
	free(iso->fat);
	for (size_t i = 0; i < NR_WINDOWS; i++)
		free(iso->window[i].buf);
	pthread_mutex_destroy(&iso->lock);
	if (iso->fd >= 0)
		close(iso->fd);
	free(iso);
}

API int vmplat_iso_fd(const struct vmplat_iso *iso)
{
	return iso->fd;
}

API uint64_t vmplat_iso_bytes(const struct vmplat_iso *iso)
{
	return iso->bytes;
}

API const char *vmplat_iso_rr_version(const struct vmplat_iso *iso)
{
	return iso->rr_version;
}

/* ---- describing -------------------------------------------------------- */

/* A field padded with blanks (or, by some makers, NULs), in the descriptor's character set. */
static void text(char *out, size_t room, const uint8_t *p, size_t len, bool ucs2)
{
	if (ucs2) {
		len &= ~1u;
		while (len && (be16(p + len - 2) == ' ' || !be16(p + len - 2)))
			len -= 2;
		iso_utf16(out, room, p, len);
		return;
	}
	while (len && (p[len - 1] == ' ' || !p[len - 1]))
		len--;
	iso_latin1(out, room, p, len);
}

#define TEXT(field, at, len) text(v->field, sizeof(v->field), vd + (at), len, ucs2)

static void describe_volume(const uint8_t *vd, struct vmplat_iso_volume *v)
{
	bool ucs2 = v->kind == VMPLAT_ISO_VOL_JOLIET;

	TEXT(system_id, 8, 32);
	TEXT(volume_id, 40, 32);
	TEXT(volume_set_id, 190, 128);
	TEXT(publisher_id, 318, 128);
	TEXT(preparer_id, 446, 128);
	TEXT(application_id, 574, 128);
	TEXT(copyright_file, 702, 37);
	TEXT(abstract_file, 739, 37);
	TEXT(bibliographic_file, 776, 37);
	v->joliet_level = ucs2 ? joliet_level(vd) : 0;
	v->block_bytes = le16(vd + 128);
	v->volume_bytes = (uint64_t)le32(vd + 80) * v->block_bytes;
	v->set_size = le16(vd + 120);
	v->sequence = le16(vd + 124);
	v->path_table_bytes = le32(vd + 132);
	v->path_table[0] = (uint64_t)le32(vd + 140) * v->block_bytes;
	v->path_table[1] = (uint64_t)be32(vd + 148) * v->block_bytes;
	v->path_table[2] = (uint64_t)le32(vd + 144) * v->block_bytes;
	v->path_table[3] = (uint64_t)be32(vd + 152) * v->block_bytes;
	v->root_pos = ((uint64_t)le32(vd + 158) + vd[157]) * v->block_bytes;
	v->root_bytes = le32(vd + 166);
	for (int i = 0; i < 4; i++)
		if (iso_time17(vd + 813 + 17 * i, &v->time[i]))
			v->time_set |= 1 << i;
}

static void describe(const uint8_t *vd, uint64_t off, struct vmplat_iso_volume *v)
{
	memset(v, 0, sizeof(*v));
	v->kind = kind_of(vd);
	v->offset = off;
	v->version = vd[6];
	memcpy(v->standard, vd + 1, 5);
	switch (v->kind) {
	case VMPLAT_ISO_VOL_PRIMARY:
	case VMPLAT_ISO_VOL_JOLIET:
	case VMPLAT_ISO_VOL_ENHANCED:
	case VMPLAT_ISO_VOL_SUPPLEMENTARY:
		describe_volume(vd, v);
		break;
	case VMPLAT_ISO_VOL_BOOT:
		text(v->system_id, sizeof(v->system_id), vd + 7, 32, false);
		v->boot_catalog = (uint64_t)le32(vd + 71) * ISO_SECTOR;
		break;
	case VMPLAT_ISO_VOL_PARTITION:
		text(v->system_id, sizeof(v->system_id), vd + 8, 32, false);
		text(v->volume_id, sizeof(v->volume_id), vd + 40, 32, false);
		v->root_pos = (uint64_t)le32(vd + 72) * ISO_SECTOR;
		v->volume_bytes = (uint64_t)le32(vd + 80) * ISO_SECTOR;
		break;
	default:
		break;
	}
}

/* ISO 9660's, the recognition sequence of ECMA-167 behind it, and then UDF itself. */
API int vmplat_iso_volume(struct vmplat_iso *iso, unsigned int nr, struct vmplat_iso_volume *v)
{
	static const char known[] = "CD001 BEA01 BOOT2 NSR02 NSR03 TEA01 CDW02";
	uint64_t off = FIRST_DESCRIPTOR;
	uint8_t vd[ISO_SECTOR];
	char standard[6] = "";
	int rc;

	for (unsigned int i = 0; i < DESCRIPTORS_MAX; i++, off += ISO_SECTOR) {
		if (!iso_inside(iso, off, ISO_SECTOR))
			break;
		rc = iso_read(iso, vd, ISO_SECTOR, off);
		if (rc)
			return rc;
		memcpy(standard, vd + 1, 5);
		if (strlen(standard) != 5 || !strstr(known, standard)) {
			nr -= i;
			break;
		}
		if (i == nr) {
			describe(vd, off, v);
			return 1;
		}
	}
	if (nr || !iso->udf)
		return 0;
	memset(v, 0, sizeof(*v));
	rc = iso_udf_volume(iso, v);
	return rc ? rc : 1;
}
