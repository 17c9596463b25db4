/* SPDX-License-Identifier: LGPL-2.1-or-later */
/*
 * A journal: lines of text in a file, each with a number and a checksum, for programs that have to
 * know after a crash how far they had got. A record is on stable storage when journal_append()
 * returns. A crash in the middle of an append leaves a torn end, no longer than one record, which the
 * next opening cuts off; damage anywhere else is an error, never a shorter history. Whoever has a
 * journal open for writing holds its lock, which the kernel gives back when that process ends,
 * however it ends.
 */
#ifndef VMPLAT_LIB_JOURNAL_H
#define VMPLAT_LIB_JOURNAL_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

struct journal;

/* One record that is there, in order; a negative return ends the opening with it. */
typedef int journal_replay_fn(void *ctx, const char *text);

/* Takes no lock, sees what is whole at this moment, and repairs nothing. What is not there is empty. */
#define JOURNAL_READ	0x1
/* Does not wait for who has it open: -EBUSY. */
#define JOURNAL_NOWAIT	0x2
/*
 * Its user puts the first record there with journal_replace(), so that one is never torn: a file that
 * begins with anything else is somebody else's, and is not touched. -EBADMSG.
 */
#define JOURNAL_HEAD	0x4

/*
 * Opens NAME in the directory @dirfd, makes it if need be, waits for NAME.lock, and tells @replay what
 * is in it. @flags: JOURNAL_*. -EBADMSG: damaged; vmplat_last_error() says where, and @replay has been
 * told what is before that, which is true.
 */
int journal_open(struct journal **j, int dirfd, const char *name, unsigned int flags,
		 journal_replay_fn *replay, void *ctx);
void journal_close(struct journal *j);
/* Had it a torn end when it was opened? */
bool journal_torn(const struct journal *j);

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
