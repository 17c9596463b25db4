/* SPDX-License-Identifier: LGPL-2.1-or-later */
/*
 * manifest.json: what a snapshot is, and the hash that everything hangs from.
 *
 * The file is one JSON object whose last member is "root", written so that the
 * file's last bytes are exactly  "root":"<32 hex>"}\n ; the root hash is that of
 * all bytes before them. It covers the heads of the indexes and the state by
 * their hashes, these cover the rest.
 */
#ifndef VMPLAT_STORE_MANIFEST_H
#define VMPLAT_STORE_MANIFEST_H

#include "format.h"
#include "store.h"

#define MANIFEST_NAME	"manifest.json"
#define STATE_NAME	"state"
#define ANCESTORS_NAME	"ancestors"

/* As the file has it. */
struct ancestor {
	uint8_t id[STORE_ID_BYTES];
	uint8_t root[STORE_ID_BYTES];
};

struct manifest_image {
	uint64_t index_bytes;
	uint64_t data_bytes;
	struct fmt_hash index_hash;	/* head_hash of the index */
};

struct manifest {
	struct store_info info;		/* .images is owned, and so is .vm */
	struct manifest_image *files;	/* beside info.images */
	/* oldest first; source k is [k - 1]; NULL before manifest_ancestors() */
	struct ancestor *ancestors;
	struct fmt_hash ancestors_hash;
	struct fmt_hash state_hash;
};

void manifest_free(struct manifest *m);
/* manifest_read - of the snapshot directory @dirfd; @what names it in errors */
int manifest_read(struct manifest *m, int dirfd, const char *what);
/* manifest_parse - @text of @len bytes, not NUL-terminated */
int manifest_parse(struct manifest *m, const char *text, size_t len,
		   const char *what);
/*
 * manifest_ancestors - load the list of ancestors. It is a file by itself, so
 * that a chain is opened without parsing each member's list of all others.
 */
int manifest_ancestors(struct manifest *m, int dirfd);
/* manifest_write - create, fill and fsync both files; sets m->info.root */
int manifest_write(struct manifest *m, int dirfd);
/*
 * manifest_root - the root hash of the file in @dirfd, checked against its
 * text, without understanding it
 */
int manifest_root(uint8_t root[STORE_ID_BYTES], int dirfd, const char *what);
/*
 * manifest_peek - the name a snapshot seems to have, without reading all of it.
 * Good for looking, not for believing; -EBADMSG when it takes manifest_read().
 */
int manifest_peek(char name[STORE_NAME_CHARS + 1], int dirfd);
int manifest_vm_ok(const char *json);

/* names of an image's files */
#define FILE_NAME_CHARS	(STORE_IMAGE_NAME_CHARS + 8)
void data_name(char *buf, const char *image);
void index_name(char *buf, const char *image);
int image_name_ok(const char *name);

#endif /* VMPLAT_STORE_MANIFEST_H */
