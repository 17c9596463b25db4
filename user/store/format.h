/* SPDX-License-Identifier: LGPL-2.1-or-later */
/*
 * The bytes of a snapshot's index and data files, as
 * Documentation/snapshot-format.rst describes them. Little-endian, fixed width,
 * naturally aligned; every reserved byte is zero. Hashes are XXH3-128 in
 * canonical (big-endian) form.
 */
#ifndef VMPLAT_STORE_FORMAT_H
#define VMPLAT_STORE_FORMAT_H

#include <assert.h>
#include <endian.h>
#include <stddef.h>
#include <stdint.h>

#define FMT_VERSION		1
#define FMT_HASH_BYTES		16
#define FMT_INDEX_MAGIC		"vmplatIX"
#define FMT_DATA_MAGIC		"vmplatDA"
#define FMT_PAGE_BYTES		4096u
#define FMT_GROUP_PAGES		4096u	/* 16 MiB: unit of the index that is loaded */
#define FMT_FRAME_PAGES		64u	/* what the writer packs into a frame */
#define FMT_FRAME_PAGES_MAX	1024u	/* what a reader accepts */
#define FMT_CHUNK_FRAMES	1024u	/* frame records under one hash */
#define FMT_MAX_SOURCES		65536u
#define FMT_DATA_HEAD_BYTES	4096u
#define FMT_MANIFEST_MAX	(32u << 20)

struct fmt_hash {
	uint8_t b[FMT_HASH_BYTES];
};

struct fmt_index_head {
	uint8_t magic[8];
	uint32_t version;
	uint32_t page_bytes;
	uint8_t id[16];			/* of the snapshot this file belongs to */
	uint64_t image_bytes;
	uint64_t nr_pages;		/* image_bytes / page_bytes, rounded up */
	uint32_t group_pages;
	uint32_t frame_pages_max;
	uint64_t nr_frames;
	uint64_t nr_groups;
	uint64_t groups_off;		/* struct fmt_group[nr_groups] */
	uint64_t frames_off;		/* struct fmt_frame[nr_frames] */
	uint64_t chunks_off;		/* struct fmt_hash, one a FMT_CHUNK_FRAMES frames */
	uint64_t refs_off;		/* uint64_t[nr_sources]: data pages from each */
	uint64_t index_bytes;		/* length of this file */
	uint64_t data_bytes;		/* length of the data file */
	uint64_t data_pages;
	uint64_t zero_pages;
	uint64_t hole_pages;
	uint64_t own_data_pages;
	uint64_t own_zero_pages;
	uint32_t nr_sources;		/* the snapshot itself, then its ancestors */
	uint32_t reserved[3];
	struct fmt_hash groups_hash;
	struct fmt_hash chunks_hash;
	struct fmt_hash refs_hash;
	struct fmt_hash head_hash;	/* of the bytes before it */
};
static_assert(sizeof(struct fmt_index_head) == 240, "index head");
static_assert(offsetof(struct fmt_index_head, head_hash) == 224, "head hash");

struct fmt_group {
	uint64_t off;			/* struct fmt_run[nr_runs] */
	uint32_t nr_runs;
	uint32_t reserved;
	struct fmt_hash hash;
};
static_assert(sizeof(struct fmt_group) == 32, "group");

/* Runs of a group are in order and cover it without a gap. */
struct fmt_run {
	uint16_t first;			/* page within the group */
	uint16_t nr_pages;
	uint8_t kind;			/* enum store_kind */
	uint8_t reserved;
	uint16_t source;		/* 0 this snapshot, k its k-th ancestor */
	uint32_t frame;			/* data only: frame of the source's data file */
	uint16_t frame_page;		/* data only: page within the frame */
	uint16_t reserved2;
};
static_assert(sizeof(struct fmt_run) == 16, "run");

struct fmt_frame {
	uint64_t off;			/* in the data file */
	uint32_t stored_bytes;
	uint16_t nr_pages;
	uint8_t codec;			/* enum store_codec */
	uint8_t reserved;
	struct fmt_hash hash;		/* of the stored bytes */
};
static_assert(sizeof(struct fmt_frame) == 32, "frame");

struct fmt_data_head {
	uint8_t magic[8];
	uint32_t version;
	uint32_t head_bytes;
	uint8_t id[16];
	uint8_t image[32];
	uint8_t reserved[FMT_DATA_HEAD_BYTES - 64 - FMT_HASH_BYTES];
	struct fmt_hash head_hash;
};
static_assert(sizeof(struct fmt_data_head) == FMT_DATA_HEAD_BYTES, "data head");

#endif /* VMPLAT_STORE_FORMAT_H */
