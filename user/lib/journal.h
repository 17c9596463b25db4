/* SPDX-License-Identifier: LGPL-2.1-or-later */
/*
 * A journal: lines of text in a file, each with a number and a checksum, for programs that have to
 * know after a crash how far they had got. A record is on stable storage when journal_append()
 * returns. A crash in the middle of an append leaves a torn end, which the next opening cuts off;
 * damage anywhere else is an error, never a shorter history. Whoever has a journal open for
 * writing holds its lock, which the kernel gives back when that process ends, however it ends.
 */
#ifndef VMPLAT_LIB_JOURNAL_H
#define VMPLAT_LIB_JOURNAL_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

struct journal;

/* One record that is there, in order; a negative return ends the opening with it. */
typedef int journal_replay_fn(void *ctx, const char *text);

/*
 * Opens NAME in the directory @dirfd, makes it if need be, and tells @replay what is in it. Waits
 * for NAME.lock. @read_only: takes no lock, sees what is whole at this moment, repairs nothing, and a
 * journal that is not there is empty. -EBADMSG: damaged; vmplat_last_error() says where.
 */
int journal_open(struct journal **j, int dirfd, const char *name, bool read_only,
		 journal_replay_fn *replay, void *ctx);
void journal_close(struct journal *j);

/* Adds one line, without a newline in it. On failure nothing is added. */
int journal_append(struct journal *j, const char *fmt, ...) __attribute__((format(printf, 2, 3)));
/* Puts these lines in place of all there are: afterwards, and after a crash, there are the old or the new. */
int journal_replace(struct journal *j, const char *const *lines, size_t nr);

/* How many bytes the file has: for deciding when to replace. */
uint64_t journal_bytes(const struct journal *j);

/*
 * Lines of KEY=VALUE with blanks between them, values with %XX for what is no plain letter.
 * journal_quote() gives @value so written, in @buf or "" if it does not fit (never NULL);
 * journal_value() finds KEY in @line and unquotes it into @buf; false: not there, or too long.
 */
const char *journal_quote(const char *value, char *buf, size_t room);
bool journal_value(const char *line, const char *key, char *buf, size_t room);

#endif
