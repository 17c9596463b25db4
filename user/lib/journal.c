// SPDX-License-Identifier: LGPL-2.1-or-later
/* See journal.h. A record is "CCCCCCCC NUMBER TEXT\n", C the CRC-32 of what follows up to the newline. */
#include <fcntl.h>
#include <limits.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/file.h>
#include <sys/stat.h>
#include <unistd.h>

#include <zlib.h>

#include "lib/journal.h"
#include "lib/lib.h"
#include "lib/write_all.h"

#define RECORD_MAX	4096
#define CRC_CHARS	9		/* with the blank behind them */
#define BYTES_MAX	(1LL << 30)	/* all of it is read into memory */

struct journal {
	int dirfd, fd, lock;
	char *name;
	uint64_t bytes;			/* of whole records */
	uint64_t number;		/* of the latest record */
	bool torn;			/* there was more when it was opened */
	bool broken;			/* a failed append could not be taken back */
};

/* ---- records ----------------------------------------------------------- */

static uint32_t checksum(const char *s, size_t n)
{
	return crc32(crc32(0, NULL, 0), (const Bytef *)s, n);
}

/* The line at @s, without its newline: its text, or NULL if it is not whole. */
static const char *record_text(const char *s, size_t n, uint64_t *number)
{
	char crc[CRC_CHARS + 1], *end;

	if (n < CRC_CHARS + 2 || n >= RECORD_MAX)
		return NULL;
	snprintf(crc, sizeof(crc), "%08x ", checksum(s + CRC_CHARS, n - CRC_CHARS));
	if (memcmp(s, crc, CRC_CHARS))
		return NULL;
	*number = strtoull(s + CRC_CHARS, &end, 10);
	return *end == ' ' ? end + 1 : NULL;
}

static int format_record(const struct journal *j, char *buf, uint64_t number, const char *text)
{
	int n = snprintf(buf + CRC_CHARS, RECORD_MAX - CRC_CHARS - 1, "%llu %s",
			 (unsigned long long)number, text);

	if (n < 0 || n >= RECORD_MAX - CRC_CHARS - 1)
		return lib_error(-EMSGSIZE, "%s: a record of %zu bytes is too long", j->name,
				 strlen(text));
	if (strchr(text, '\n'))
		return lib_error(-EINVAL, "%s: a record is one line", j->name);
	snprintf(buf, CRC_CHARS, "%08x", checksum(buf + CRC_CHARS, n));
	buf[CRC_CHARS - 1] = ' ';
	buf[CRC_CHARS + n] = '\n';
	return CRC_CHARS + n + 1;
}

/*
 * Behind what cannot be read no whole record may follow: that would be no torn end but damage. It
 * may begin anywhere, as the newline before it may be what was damaged.
 */
static bool records_follow(const char *s, size_t n)
{
	const char *end = s + n, *nl = NULL;
	uint64_t number;

	for (; s < end; s++) {
		if (!nl || nl < s)
			nl = memchr(s, '\n', end - s);
		if (!nl)
			return false;
		if (record_text(s, nl - s, &number))
			return true;
	}
	return false;
}

/* What is behind the whole records, from @s on, must be the beginning of one more. */
static int judge_end(const struct journal *j, const char *s, size_t n, unsigned int flags)
{
	unsigned long long at = j->bytes;

	if (n && !at && flags & JOURNAL_HEAD)
		return lib_error(-EBADMSG, "%s is no journal", j->name);
	if (n > RECORD_MAX)
		return lib_error(-EBADMSG, "the journal %s is damaged at byte %llu: more than one record cannot be read",
				 j->name, at);
	if (records_follow(s, n))
		return lib_error(-EBADMSG, "the journal %s is damaged at byte %llu: records follow that are whole",
				 j->name, at);
	return 0;
}

static int replay_all(struct journal *j, char *data, size_t n, unsigned int flags,
		      journal_replay_fn *replay, void *ctx)
{
	char *s = data, *nl;

	while ((nl = memchr(s, '\n', data + n - s))) {
		const char *text;
		uint64_t number;
		int rc;

		text = record_text(s, nl - s, &number);
		if (!text || (j->number && number != j->number + 1))
			break;
		*nl = '\0';
		rc = replay(ctx, text);
		if (rc < 0)
			return rc;
		j->number = number;
		s = nl + 1;
	}
	j->bytes = s - data;
	j->torn = j->bytes < n;
	return judge_end(j, s, n - j->bytes, flags);
}

/* ---- files ------------------------------------------------------------- */

static int read_file(struct journal *j, char **data, size_t *n)
{
	struct stat st;
	size_t done = 0;

	if (fstat(j->fd, &st))
		return lib_error(-errno, "%s: %s", j->name, strerror(errno));
	if (!S_ISREG(st.st_mode))
		return lib_error(-EBADMSG, "%s is no journal", j->name);
	if (st.st_size > BYTES_MAX)
		return lib_error(-EFBIG, "%s: with %lld bytes too long for a journal", j->name,
				 (long long)st.st_size);
	*data = malloc(st.st_size + 1);
	if (!*data)
		return lib_error(-ENOMEM, "%s: out of memory", j->name);
	while (done < (size_t)st.st_size) {
		ssize_t got = pread(j->fd, *data + done, st.st_size - done, done);

		if (got < 0 && errno == EINTR)
			continue;
		if (got < 0)
			return lib_error(-errno, "%s: %s", j->name, strerror(errno));
		if (!got)
			break;
		done += got;
	}
	*n = done;
	return 0;
}

/* The end that a crash tore off goes, before anything is written behind it. */
static int cut_torn_end(struct journal *j)
{
	if (ftruncate(j->fd, j->bytes) || fsync(j->fd))
		return lib_error(-errno, "%s: cannot cut off its torn end: %s", j->name, strerror(errno));
	return 0;
}

static int take_lock(struct journal *j, unsigned int flags)
{
	int op = flags & JOURNAL_NOWAIT ? LOCK_EX | LOCK_NB : LOCK_EX;
	char path[NAME_MAX + 1];

	if (snprintf(path, sizeof(path), "%s.lock", j->name) >= (int)sizeof(path))
		return lib_error(-ENAMETOOLONG, "%s.lock: name too long", j->name);
	j->lock = openat(j->dirfd, path, O_RDWR | O_CREAT | O_CLOEXEC, 0644);
	if (j->lock < 0)
		return lib_error(-errno, "%s: %s", path, strerror(errno));
	while (flock(j->lock, op)) {
		if (errno == EWOULDBLOCK)
			return lib_error(-EBUSY, "%s: another process has it open", j->name);
		if (errno != EINTR)
			return lib_error(-errno, "%s: %s", path, strerror(errno));
	}
	return 0;
}

static int open_file(struct journal *j, bool read_only)
{
	j->fd = openat(j->dirfd, j->name, (read_only ? O_RDONLY : O_RDWR | O_CREAT) | O_CLOEXEC, 0644);
	if (j->fd < 0)
		return lib_error(-errno, "%s: %s", j->name, strerror(errno));
	/* the name, too, has to be there after a crash */
	if (!read_only && fsync(j->dirfd))
		return lib_error(-errno, "%s: %s", j->name, strerror(errno));
	return 0;
}

API int journal_open(struct journal **out, int dirfd, const char *name, unsigned int flags,
		     journal_replay_fn *replay, void *ctx)
{
	struct journal *j = calloc(1, sizeof(*j));
	bool read_only = flags & JOURNAL_READ;
	char *data = NULL;
	size_t n = 0;
	int rc;

	*out = NULL;
	if (!j)
		return lib_error(-ENOMEM, "%s: out of memory", name);
	j->fd = j->lock = -1;
	j->name = strdup(name);
	j->dirfd = fcntl(dirfd, F_DUPFD_CLOEXEC, 3);
	rc = !j->name ? lib_error(-ENOMEM, "%s: out of memory", name) :
	     j->dirfd < 0 ? lib_error(-errno, "%s: %s", name, strerror(errno)) :
	     read_only ? 0 : take_lock(j, flags);
	if (!rc)
		rc = open_file(j, read_only);
	if (rc == -ENOENT && read_only)
		rc = 0;
	else if (!rc)
		rc = read_file(j, &data, &n);
	if (!rc && data)
		rc = replay_all(j, data, n, flags, replay, ctx);
	if (!rc && j->torn && !read_only)
		rc = cut_torn_end(j);
	free(data);
	if (rc)
		journal_close(j);
	else
		*out = j;
	return rc;
}

API void journal_close(struct journal *j)
{
	if (!j)
		return;
	if (j->fd >= 0)
		close(j->fd);
	if (j->lock >= 0)
		close(j->lock);
	if (j->dirfd >= 0)
		close(j->dirfd);
	free(j->name);
	free(j);
}

API bool journal_torn(const struct journal *j)
{
	return j->torn;
}

API uint64_t journal_bytes(const struct journal *j)
{
	return j->bytes;
}

API int journal_append(struct journal *j, const char *fmt, ...)
{
	char text[RECORD_MAX], record[RECORD_MAX];
	va_list ap;
	int n, rc;

	if (j->broken)
		return lib_error(-EIO, "%s: an earlier failure left its end unclear; open it anew", j->name);
	va_start(ap, fmt);
	n = vsnprintf(text, sizeof(text), fmt, ap);
	va_end(ap);
	if (n < 0 || n >= (int)sizeof(text))
		return lib_error(-EMSGSIZE, "%s: a record of %d bytes is too long", j->name, n);
	n = format_record(j, record, j->number + 1, text);
	if (n < 0)
		return n;
	rc = pwrite_all(j->fd, record, n, j->bytes);
	if (!rc && fdatasync(j->fd))
		rc = -errno;
	if (rc) {
		j->broken = ftruncate(j->fd, j->bytes) || fsync(j->fd);
		return lib_error(rc, "%s: %s", j->name, strerror(-rc));
	}
	j->bytes += n;
	j->number++;
	return 0;
}

static int write_new(struct journal *j, int fd, const char *const *lines, size_t nr, uint64_t *bytes)
{
	char record[RECORD_MAX];
	uint64_t number = j->number;

	*bytes = 0;
	for (size_t i = 0; i < nr; i++) {
		int n = format_record(j, record, ++number, lines[i]), rc;

		if (n < 0)
			return n;
		rc = pwrite_all(fd, record, n, *bytes);
		if (rc)
			return lib_error(rc, "%s: %s", j->name, strerror(-rc));
		*bytes += n;
	}
	if (fsync(fd))
		return lib_error(-errno, "%s: %s", j->name, strerror(errno));
	return 0;
}

API int journal_replace(struct journal *j, const char *const *lines, size_t nr)
{
	char path[NAME_MAX + 1];
	uint64_t bytes;
	int fd, rc;

	if (snprintf(path, sizeof(path), "%s.new", j->name) >= (int)sizeof(path))
		return lib_error(-ENAMETOOLONG, "%s.new: name too long", j->name);
	fd = openat(j->dirfd, path, O_RDWR | O_CREAT | O_TRUNC | O_CLOEXEC, 0644);
	if (fd < 0)
		return lib_error(-errno, "%s: %s", path, strerror(errno));
	rc = write_new(j, fd, lines, nr, &bytes);
	if (!rc && renameat(j->dirfd, path, j->dirfd, j->name))
		rc = lib_error(-errno, "%s: %s", j->name, strerror(errno));
	if (rc) {
		unlinkat(j->dirfd, path, 0);
		close(fd);
		return rc;
	}
	close(j->fd);
	j->fd = fd;
	j->bytes = bytes;
	j->number += nr;
	j->broken = false;
	if (fsync(j->dirfd))
		return lib_error(-errno, "%s: %s", j->name, strerror(errno));
	return 0;
}

/* ---- words ------------------------------------------------------------- */

static bool is_plain(unsigned char c)
{
	return c > ' ' && c < 0x7f && c != '%' && c != '=';
}

API const char *journal_quote(const char *value, char *buf, size_t room)
{
	size_t n = 0;

	for (; value && *value; value++) {
		unsigned char c = *value;

		if (n + 4 > room)
			return "";
		n += is_plain(c) ? snprintf(buf + n, room - n, "%c", c) :
				   snprintf(buf + n, room - n, "%%%02x", c);
	}
	buf[n] = '\0';
	return buf;
}

API bool journal_value(const char *line, const char *key, char *buf, size_t room)
{
	size_t len = strlen(key), n = 0;
	const char *s = line;

	while (s && (strncmp(s, key, len) || s[len] != '=')) {
		s = strchr(s, ' ');
		s = s ? s + 1 : NULL;
	}
	if (!s)
		return false;
	for (s += len + 1; *s && *s != ' '; s++) {
		unsigned int c = (unsigned char)*s;

		if (c == '%') {
			if (sscanf(s + 1, "%2x", &c) != 1)
				return false;
			s += 2;
		}
		if (n + 1 >= room)
			return false;
		buf[n++] = c;
	}
	buf[n] = '\0';
	return true;
}
