// SPDX-License-Identifier: LGPL-2.1-or-later
/* Contents: a file is its sections, and perhaps zisofs on top of them. */
#include <inttypes.h>
#include <limits.h>
#include <stdlib.h>
#include <sys/stat.h>

#include "image/iso.h"

struct vmplat_iso_file {
	struct vmplat_iso *iso;
	uint64_t bytes;
	struct iso_sections sections;
	struct iso_zreader *z;
};

/* Where the entry's data is; its node says what is wrong with it. */
static int find_data(struct vmplat_iso *iso, const struct vmplat_iso_entry *e,
		     struct iso_sections *s, struct iso_node *n)
{
	if ((uint32_t)e->place[3] != PLACE_TREE(iso->tree))
		return lib_error(-EINVAL, "the entry is not of the %s tree, which is being read",
				 vmplat_iso_tree_name(iso->tree));
	if (iso->tree == VMPLAT_ISO_UDF)
		return iso_udf_node(iso, e->place[0], n, s);
	if (iso->tree == VMPLAT_ISO_EFI)
		return iso_fat_data(iso, e, s, n);
	if (!(e->place[3] & PLACE_ROOT) && !S_ISDIR(e->st.mode))
		return iso_dir_sections(iso, e->place, s, n);
	n->st = e->st;
	n->err = 0;
	if (!iso_inside(iso, e->st.pos, e->st.bytes))
		return lib_error(-EBADMSG, "the directory reaches beyond the image");
	return iso_section_add(s, (struct iso_section) { .pos = e->st.pos, .bytes = e->st.bytes });
}

static int open_data(struct vmplat_iso_file *f, const struct iso_node *n)
{
	if (n->err)
		return n->err;
	if (n->st.flags & VMPLAT_ISO_SPARSE)
		return lib_error(-EOPNOTSUPP, "the file is an RRIP sparse file (field SF); these are "
				 "not read");
	f->bytes = n->st.bytes;
	if (n->st.flags & VMPLAT_ISO_ZISOFS)
		return iso_zf_open(&f->z, f->iso, &f->sections, &n->zf, f->bytes);
	if (f->sections.bytes != f->bytes)
		return lib_error(-EBADMSG, "the file has %" PRIu64 " bytes, but its sections have %"
				 PRIu64, f->bytes, f->sections.bytes);
	return 0;
}

API int vmplat_iso_file_open(struct vmplat_iso_file **out, struct vmplat_iso *iso,
			     const struct vmplat_iso_entry *e)
{
	struct vmplat_iso_file *f;
	struct iso_node *n;
	int rc;

	*out = NULL;
	if (!S_ISREG(e->st.mode) && !S_ISDIR(e->st.mode))
		return lib_error(-EINVAL, "neither a file nor a directory");
	f = calloc(1, sizeof(*f));
	n = malloc(sizeof(*n));
	if (!f || !n) {
		rc = lib_error(-ENOMEM, "out of memory");
		goto out;
	}
	f->iso = iso;
	iso_hush(iso, true);
	rc = find_data(iso, e, &f->sections, n);
	iso_hush(iso, false);
	if (!rc)
		rc = open_data(f, n);
out:
	free(n);
	if (rc)
		vmplat_iso_file_close(f);
	else
		*out = f;
	return rc;
}

API int vmplat_iso_file_open_path(struct vmplat_iso_file **out, struct vmplat_iso *iso,
				  const char *path)
{
	struct vmplat_iso_entry e;
	int rc;

	*out = NULL;
	rc = vmplat_iso_lookup(iso, path, VMPLAT_ISO_FOLLOW, &e);
	if (!rc && S_ISDIR(e.st.mode))
		rc = lib_error(-EISDIR, "%s is a directory", path);
	return rc ? rc : vmplat_iso_file_open(out, iso, &e);
}

API void vmplat_iso_file_close(struct vmplat_iso_file *f)
{
	if (!f)
		return;
	iso_zf_close(f->z);
	iso_sections_free(&f->sections);
	free(f);
}

API uint64_t vmplat_iso_file_bytes(const struct vmplat_iso_file *f)
{
	return f->bytes;
}

API ssize_t vmplat_iso_file_read(struct vmplat_iso_file *f, void *buf, size_t len, uint64_t off)
{
	int rc;

	if (off >= f->bytes)
		return 0;
	if (len > f->bytes - off)
		len = f->bytes - off;
	if (len > SSIZE_MAX)
		len = SSIZE_MAX;
	rc = f->z ? iso_zf_read(f->z, buf, len, off) :
		    iso_sections_read(f->iso, &f->sections, buf, len, off);
	return rc ? rc : (ssize_t)len;
}

API int vmplat_iso_file_extent(struct vmplat_iso_file *f, uint64_t off,
			       struct vmplat_iso_extent *x)
{
	if (f->z)
		return lib_error(-EOPNOTSUPP, "the file is compressed");
	if (off >= f->bytes)
		return 0;
	iso_sections_map(&f->sections, off, x);
	return 1;
}
