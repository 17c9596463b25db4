// SPDX-License-Identifier: LGPL-2.1-or-later
/* Reading small files below sys and proc, into the memory of a picture. */
#include <ctype.h>
#include <dirent.h>
#include <fcntl.h>
#include <limits.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/stat.h>
#include <unistd.h>

#include "dev/dev.h"

#define TEXT_MAX	(1u << 20)	/* no file read here is longer; mountinfo may be long */

/* ---- arena ------------------------------------------------------------- */

struct dev_chunk {
	struct dev_chunk *next;
	size_t used, room;
	_Alignas(max_align_t) uint8_t data[];
};

#define CHUNK_BYTES 65536

static struct dev_chunk *new_chunk(struct vmplat_devs *devs, size_t bytes)
{
	size_t room = bytes > CHUNK_BYTES ? bytes : CHUNK_BYTES;
	struct dev_chunk *c = calloc(1, sizeof(*c) + room);

	if (!c) {
		devs->no_memory = true;
		return NULL;
	}
	c->room = room;
	c->next = devs->chunks;
	devs->chunks = c;
	return c;
}

void *dev_alloc(struct vmplat_devs *devs, size_t bytes)
{
	struct dev_chunk *c = devs->chunks;
	void *p;

	bytes = (bytes + sizeof(max_align_t) - 1) / sizeof(max_align_t) * sizeof(max_align_t);
	if (!c || c->room - c->used < bytes)
		c = new_chunk(devs, bytes);
	if (!c)
		return NULL;
	p = c->data + c->used;
	c->used += bytes;
	return p;
}

char *dev_strdup(struct vmplat_devs *devs, const char *s, size_t n)
{
	char *p = dev_alloc(devs, n + 1);

	if (p)
		memcpy(p, s, n);
	return p;
}

char *dev_vprintf(struct vmplat_devs *devs, const char *fmt, va_list ap)
{
	char *tmp, *p;
	int n = vasprintf(&tmp, fmt, ap);

	if (n < 0) {
		devs->no_memory = true;
		return NULL;
	}
	p = dev_strdup(devs, tmp, n);
	free(tmp);
	return p;
}

char *dev_printf(struct vmplat_devs *devs, const char *fmt, ...)
{
	va_list ap;
	char *p;

	va_start(ap, fmt);
	p = dev_vprintf(devs, fmt, ap);
	va_end(ap);
	return p;
}

void dev_free_all(struct vmplat_devs *devs)
{
	while (devs->chunks) {
		struct dev_chunk *c = devs->chunks;

		devs->chunks = c->next;
		free(c);
	}
}

bool dev_append(struct vmplat_devs *devs, struct dev_list *list, const void *item, size_t bytes)
{
	if (list->nr == list->room) {
		size_t room = list->room ? 2 * list->room : 8;
		void *items = dev_alloc(devs, room * bytes);

		if (!items)
			return false;
		if (list->nr)
			memcpy(items, list->items, list->nr * bytes);
		list->items = items;
		list->room = room;
	}
	memcpy((char *)list->items + list->nr++ * bytes, item, bytes);
	return true;
}

void dev_find(struct vmplat_devs *devs, struct dev_list *list, enum vmplat_severity severity,
	      const char *name, const struct vmplat_pci *pci, const char *fmt, ...)
{
	struct vmplat_finding f = { .name = name, .severity = severity, .pci = pci };
	va_list ap;

	va_start(ap, fmt);
	f.text = dev_vprintf(devs, fmt, ap);
	va_end(ap);
	if (f.text)
		dev_append(devs, list, &f, sizeof(f));
}

struct vmplat_findings dev_findings(const struct dev_list *list)
{
	return (struct vmplat_findings) { .items = list->items, .nr = list->nr };
}

/* ---- files ------------------------------------------------------------- */

static bool path_of(char path[PATH_MAX], const char *fmt, va_list ap)
{
	int n = vsnprintf(path, PATH_MAX, fmt, ap);

	return n >= 0 && n < PATH_MAX;
}

/* How many bytes, or -errno. Files of sysfs and proc have no length: read until the end. */
static ssize_t read_all(int fd, char *buf, size_t room)
{
	size_t len = 0;

	while (len < room) {
		ssize_t n = read(fd, buf + len, room - len);

		if (n < 0 && errno == EINTR)
			continue;
		if (n < 0)
			return len ? (ssize_t)len : -errno;
		if (!n)
			break;
		len += n;
	}
	return len;
}

static const char *read_text(struct vmplat_devs *devs, int dirfd, const char *path)
{
	char small[4096], *big = NULL, *text = NULL;
	int fd = openat(dirfd, path, O_RDONLY | O_CLOEXEC | O_NONBLOCK);
	ssize_t n, more;

	if (fd < 0)
		return NULL;
	n = read_all(fd, small, sizeof(small));
	if (n == sizeof(small)) {
		big = malloc(TEXT_MAX);
		if (big) {
			memcpy(big, small, n);
			more = read_all(fd, big + n, TEXT_MAX - n);
			n += more > 0 ? more : 0;
		} else {
			devs->no_memory = true;
		}
	}
	close(fd);
	if (n >= 0) {
		const char *from = big ? big : small;

		while (n && isspace((unsigned char)from[n - 1]))
			n--;
		text = dev_strdup(devs, from, n);
	}
	free(big);
	return text;
}

const char *dev_text(struct vmplat_devs *devs, int fd, const char *fmt, ...)
{
	char path[PATH_MAX];
	va_list ap;
	bool fits;

	va_start(ap, fmt);
	fits = path_of(path, fmt, ap);
	va_end(ap);
	return fits ? read_text(devs, fd, path) : NULL;
}

bool dev_number(struct vmplat_devs *devs, uint64_t *v, int fd, const char *fmt, ...)
{
	char path[PATH_MAX], *end;
	const char *text;
	va_list ap;
	bool fits;

	va_start(ap, fmt);
	fits = path_of(path, fmt, ap);
	va_end(ap);
	text = fits ? read_text(devs, fd, path) : NULL;
	if (!text || !*text)
		return false;
	*v = strtoull(text, &end, 0);
	return end != text && (!*end || isspace((unsigned char)*end));
}

const char *dev_link(struct vmplat_devs *devs, int fd, const char *fmt, ...)
{
	char path[PATH_MAX], target[PATH_MAX];
	va_list ap;
	ssize_t n;
	bool fits;

	va_start(ap, fmt);
	fits = path_of(path, fmt, ap);
	va_end(ap);
	if (!fits)
		return NULL;
	n = readlinkat(fd, path, target, sizeof(target));
	return n < 0 || n == sizeof(target) ? NULL : dev_strdup(devs, target, n);
}

const char *dev_link_name(struct vmplat_devs *devs, int fd, const char *fmt, ...)
{
	char path[PATH_MAX];
	const char *target, *slash;
	va_list ap;
	bool fits;

	va_start(ap, fmt);
	fits = path_of(path, fmt, ap);
	va_end(ap);
	target = fits ? dev_link(devs, fd, "%s", path) : NULL;
	slash = target ? strrchr(target, '/') : NULL;
	return slash ? slash + 1 : target;
}

bool dev_exists(struct vmplat_devs *devs, int fd, const char *fmt, ...)
{
	char path[PATH_MAX];
	va_list ap;
	bool fits;

	va_start(ap, fmt);
	fits = path_of(path, fmt, ap);
	va_end(ap);
	return fits && !faccessat(fd, path, F_OK, AT_SYMLINK_NOFOLLOW);
}

static int by_version(const void *a, const void *b)
{
	return strverscmp(*(const char *const *)a, *(const char *const *)b);
}

struct dev_names dev_list_dir(struct vmplat_devs *devs, int fd, const char *fmt, ...)
{
	struct dev_list list = { };
	char path[PATH_MAX];
	struct dirent *e;
	va_list ap;
	int dirfd;
	bool fits;
	DIR *d;

	va_start(ap, fmt);
	fits = path_of(path, fmt, ap);
	va_end(ap);
	dirfd = fits ? openat(fd, path, O_RDONLY | O_DIRECTORY | O_CLOEXEC) : -1;
	if (dirfd < 0)
		return (struct dev_names) { };
	d = fdopendir(dirfd);
	if (!d) {
		close(dirfd);
		devs->no_memory = true;
		return (struct dev_names) { };
	}
	while ((e = readdir(d))) {
		const char *name;

		if (!strcmp(e->d_name, ".") || !strcmp(e->d_name, ".."))
			continue;
		name = dev_strdup(devs, e->d_name, strlen(e->d_name));
		if (!name || !dev_append(devs, &list, &name, sizeof(name)))
			break;
	}
	closedir(d);
	if (list.nr)
		qsort(list.items, list.nr, sizeof(char *), by_version);
	return (struct dev_names) { .names = list.items, .nr = list.nr };
}

int dev_bytes(struct vmplat_devs *devs, const uint8_t **p, size_t bytes, int fd, const char *fmt,
	      ...)
{
	char path[PATH_MAX], *buf;
	va_list ap;
	ssize_t n;
	bool fits;
	int file;

	*p = NULL;
	va_start(ap, fmt);
	fits = path_of(path, fmt, ap);
	va_end(ap);
	if (!fits)
		return -ENAMETOOLONG;
	file = openat(fd, path, O_RDONLY | O_CLOEXEC);
	if (file < 0)
		return -errno;
	buf = dev_alloc(devs, bytes);
	n = buf ? read_all(file, buf, bytes) : -ENOMEM;
	close(file);
	*p = (uint8_t *)buf;
	return n;
}

char *dev_next_line(char **rest)
{
	char *line = *rest, *end;

	if (!line || !*line)
		return NULL;
	end = strchr(line, '\n');
	*rest = end ? end + 1 : NULL;
	if (end)
		*end = '\0';
	return line;
}
