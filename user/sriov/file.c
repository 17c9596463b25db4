// SPDX-License-Identifier: GPL-2.0-only
/*
 * The file:
 *
 *	[pf NAME]
 *	numvfs = 4
 *	driver = vfio-pci
 *	spoofchk = on		of all its VFs
 *
 *	[vf 0-1,3]
 *	vlan = 100		of these
 *
 * A file with an error has no wishes: half of them may be the wrong half.
 */
#include <ctype.h>
#include <errno.h>
#include <fcntl.h>
#include <stdarg.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "sriov/sriov.h"

#define FILE_BYTES_MAX (1u << 20)

struct reader {
	struct sriov_wish *wish;
	struct sriov_pf_wish *pf;	/* NULL before the first section */
	bool *in_section;		/* of the VFs of @pf; NULL: the section is the PF's */
	unsigned int *set_line;		/* where the section set each attribute; 0: not */
	unsigned int line;
};

__attribute__((format(printf, 2, 3)))
static int bad(const struct reader *r, const char *fmt, ...)
{
	char text[SRIOV_WHY_MAX];
	va_list ap;

	va_start(ap, fmt);
	vsnprintf(text, sizeof(text), fmt, ap);
	va_end(ap);
	return sriov_fail(-EINVAL, "%.120s:%u: %.250s", r->wish->file, r->line, text);
}

/* ---- lists of VFs --------------------------------------------------------------- */

static bool number(const char **s, unsigned int limit, unsigned int *v)
{
	char *end;
	unsigned long n;

	if (!isdigit((unsigned char)**s))
		return false;
	errno = 0;
	n = strtoul(*s, &end, 10);
	*s = end;
	*v = (unsigned int)n;
	return !errno && n < limit;
}

const char *sriov_parse_list(const char *text, unsigned int limit,
			     void (*one)(void *ctx, unsigned int nr), void *ctx)
{
	bool told[SRIOV_VFS_MAX] = { };
	unsigned int first, last;

	do {
		if (!isdigit((unsigned char)*text))
			return "it is a list of VFs such as 0-3,7";
		if (!number(&text, limit, &first))
			return "there is no such VF: they count from 0 and are fewer than numvfs";
		last = first;
		if (*text == '-') {
			text++;
			if (!isdigit((unsigned char)*text))
				return "it is a list of VFs such as 0-3,7";
			if (!number(&text, limit, &last))
				return "there is no such VF: they count from 0 and are fewer than numvfs";
		}
		if (*text && *text != ',')
			return "it is a list of VFs such as 0-3,7";
		if (last < first)
			return "a range begins with the smaller number";
		for (; first <= last; first++) {
			if (told[first])
				return "a VF is listed twice";
			told[first] = true;
			one(ctx, first);
		}
	} while (*text++ == ',');
	return NULL;
}

/* ---- sections --------------------------------------------------------------------- */

static void forget_section(struct reader *r)
{
	free(r->in_section);
	r->in_section = NULL;
	memset(r->set_line, 0, SRIOV_NR_ATTRS * sizeof(*r->set_line));
}

static int begin_pf(struct reader *r, const char *name)
{
	struct sriov_wish *w = r->wish;
	struct sriov_pf_wish *more;

	if (!*name || strlen(name) >= SRIOV_NAME_MAX)
		return bad(r, "a PF is an address, a slot path, serial:NUMBER, or a network interface");
	for (size_t i = 0; i < w->nr; i++)
		if (!strcmp(w->pfs[i].name, name))
			return bad(r, "%.100s has a section already, in line %u", name, w->pfs[i].line);
	if (w->nr == SRIOV_PFS_MAX)
		return bad(r, "more than %d PFs", SRIOV_PFS_MAX);
	more = realloc(w->pfs, (w->nr + 1) * sizeof(*more));
	if (!more)
		return sriov_fail(-ENOMEM, "out of memory");
	w->pfs = more;
	r->pf = &w->pfs[w->nr++];
	*r->pf = (struct sriov_pf_wish) { .line = r->line };
	strcpy(r->pf->name, name);
	return 0;
}

static void add_vf(void *ctx, unsigned int nr)
{
	struct reader *r = ctx;

	r->in_section[nr] = true;
}

static int begin_vf(struct reader *r, const char *list)
{
	const char *why;

	if (!r->pf)
		return bad(r, "a [vf] section belongs below a [pf] section");
	if (!r->pf->numvfs_line)
		return bad(r, "numvfs of %.100s has to be said before its [vf] sections", r->pf->name);
	r->in_section = calloc(r->pf->nr_vfs + 1, sizeof(bool));
	if (!r->in_section)
		return sriov_fail(-ENOMEM, "out of memory");
	why = sriov_parse_list(list, r->pf->nr_vfs, add_vf, r);
	return why ? bad(r, "[vf %.60s]: %s", list, why) : 0;
}

static int begin_section(struct reader *r, char *text)
{
	size_t len = strlen(text);
	char *name;

	forget_section(r);
	if (text[len - 1] != ']')
		return bad(r, "a section ends with ']', and nothing behind it");
	text[len - 1] = '\0';
	name = text + 1 + strcspn(text + 1, " \t");
	if (*name)
		*name++ = '\0';
	name += strspn(name, " \t");
	if (!strcmp(text + 1, "pf"))
		return begin_pf(r, name);
	if (!strcmp(text + 1, "vf"))
		return begin_vf(r, name);
	return bad(r, "there is no section '%.60s': it is [pf NAME] or [vf LIST]", text + 1);
}

/* ---- settings ------------------------------------------------------------------------ */

static int set_numvfs(struct reader *r, const char *value)
{
	struct sriov_pf_wish *pf = r->pf;
	const char *s = value;
	unsigned int nr;

	if (pf->numvfs_line)
		return bad(r, "numvfs: given in line %u already", pf->numvfs_line);
	if (!number(&s, SRIOV_VFS_MAX + 1, &nr) || *s)
		return bad(r, "numvfs: it is a number from 0 to %d", SRIOV_VFS_MAX);
	for (int a = 0; a < SRIOV_NR_ATTRS; a++)
		if (r->set_line[a])
			return bad(r, "numvfs has to be said before the attributes of VFs (line %u)",
				   r->set_line[a]);
	pf->vfs = calloc(nr + 1, sizeof(*pf->vfs));
	if (!pf->vfs)
		return sriov_fail(-ENOMEM, "out of memory");
	pf->nr_vfs = nr;
	pf->numvfs_line = r->line;
	return 0;
}

static bool is_driver(const char *name)
{
	size_t len = strlen(name);

	for (const char *s = name; *s; s++)
		if (!isalnum((unsigned char)*s) && !strchr("-_.", *s))
			return false;
	return len && len < VMPLAT_SRIOV_DRIVER_BYTES;
}

static int set_driver(struct reader *r, const char *value)
{
	struct sriov_pf_wish *pf = r->pf;

	if (pf->driver_line)
		return bad(r, "driver: given in line %u already", pf->driver_line);
	if (!is_driver(value))
		return bad(r, "driver: '%.60s' is no name of a driver; none is for none", value);
	pf->driver = strdup(strcmp(value, "none") ? value : "");
	pf->driver_line = r->line;
	return pf->driver ? 0 : sriov_fail(-ENOMEM, "out of memory");
}

static int set_attr(struct reader *r, enum sriov_attr a, const char *value)
{
	struct sriov_pf_wish *pf = r->pf;
	const char *name = sriov_attr_name(a), *why;
	unsigned int nr = 0;
	uint64_t v;

	if (!pf->numvfs_line)
		return bad(r, "numvfs has to be said before the attributes of VFs");
	if (r->set_line[a])
		return bad(r, "%s: given in line %u already", name, r->set_line[a]);
	why = sriov_attr_parse(a, value, &v);
	if (why)
		return bad(r, "%s: '%.60s': it is %s", name, value, why);
	r->set_line[a] = r->line;
	for (unsigned int i = 0; i < pf->nr_vfs; i++) {
		struct sriov_vf_wish *vf = &pf->vfs[i];

		if (r->in_section && !r->in_section[i])
			continue;
		/* a [vf] section says more exactly what [pf] says for all, but not what another [vf] did */
		if (r->in_section && vf->lines[a] && vf->lines[a] > r->pf->numvfs_line &&
		    vf->values.has & 1u << (a + 16))
			return bad(r, "%s of VF %u: given in line %u already", name, i, vf->lines[a]);
		vf->values.has |= 1u << a | (r->in_section ? 1u << (a + 16) : 0);
		vf->values.v[a] = v;
		vf->lines[a] = r->line;
		nr++;
	}
	if (a == SRIOV_MAC && nr > 1)
		return bad(r, "mac: %u VFs cannot have one address", nr);
	return 0;
}

static int assign(struct reader *r, const char *key, const char *value)
{
	enum sriov_attr a = sriov_attr_find(key);

	if (!r->pf)
		return bad(r, "%.60s: a [pf NAME] section comes first", key);
	if (a < SRIOV_NR_ATTRS)
		return set_attr(r, a, value);
	if (strcmp(key, "numvfs") && strcmp(key, "driver"))
		return bad(r, "there is no setting '%.60s': numvfs, driver, mac, vlan, qos, proto, min_rate, max_rate, spoofchk, trust, link, msix",
			   key);
	if (r->in_section)
		return bad(r, "%s is of a PF, not of some of its VFs", key);
	return *key == 'n' ? set_numvfs(r, value) : set_driver(r, value);
}

static char *trim(char *s)
{
	char *end = s + strlen(s);

	while (end > s && strchr(" \t\r", end[-1]))
		end--;
	*end = '\0';
	return s + strspn(s, " \t");
}

static int read_line(struct reader *r, char *line)
{
	char *text = trim(line), *value = strchr(text, '=');

	if (!*text || *text == '#' || *text == ';')
		return 0;
	if (*text == '[')
		return begin_section(r, text);
	if (!value || value == text)
		return bad(r, "a line is KEY = VALUE, [SECTION], or a # comment");
	*value++ = '\0';
	return assign(r, trim(text), trim(value));
}

/* ---- the whole ------------------------------------------------------------------------ */

/* The last line of those that make @values what they are: where a person has to look. */
static unsigned int last_line(const struct sriov_vf_wish *vf)
{
	unsigned int last = 0;

	for (int a = 0; a < SRIOV_NR_ATTRS; a++)
		if (vf->lines[a] > last)
			last = vf->lines[a];
	return last;
}

static int check_macs(struct reader *r, size_t pf, unsigned int vf)
{
	const struct sriov_wish *w = r->wish;
	const struct sriov_vf_wish *mine = &w->pfs[pf].vfs[vf];

	if (!(mine->values.has & 1u << SRIOV_MAC))
		return 0;
	for (size_t p = 0; p <= pf; p++)
		for (unsigned int i = 0; i < (p < pf ? w->pfs[p].nr_vfs : vf); i++) {
			const struct sriov_vf_wish *o = &w->pfs[p].vfs[i];

			if (!(o->values.has & 1u << SRIOV_MAC) ||
			    o->values.v[SRIOV_MAC] != mine->values.v[SRIOV_MAC])
				continue;
			r->line = mine->lines[SRIOV_MAC];
			return bad(r, "mac: VF %u of %.60s has this address already (line %u)", i,
				   w->pfs[p].name, o->lines[SRIOV_MAC]);
		}
	return 0;
}

static int check(struct reader *r)
{
	struct sriov_wish *w = r->wish;

	if (!w->nr)
		return bad(r, "there is no [pf] section");
	for (size_t p = 0; p < w->nr; p++) {
		struct sriov_pf_wish *pf = &w->pfs[p];

		r->line = pf->line;
		if (!pf->numvfs_line)
			return bad(r, "[pf %.100s] does not say numvfs", pf->name);
		for (unsigned int i = 0; i < pf->nr_vfs; i++) {
			struct sriov_vf_wish *vf = &pf->vfs[i];
			const char *why;

			vf->values.has &= 0xffff;
			why = sriov_values_check(&vf->values);
			r->line = last_line(vf);
			if (why)
				return bad(r, "VF %u: %s", i, why);
			if (check_macs(r, p, i))
				return -EINVAL;
		}
	}
	return 0;
}

int sriov_wish_read(struct sriov_wish *w, const char *name, const char *text, size_t len)
{
	unsigned int set_line[SRIOV_NR_ATTRS] = { };
	struct reader r = { .wish = w, .set_line = set_line };
	char *copy = malloc(len + 1), *rest = copy, *line;
	int ret = 0;

	*w = (struct sriov_wish) { .file = strdup(name) };
	if (!copy || !w->file) {
		free(copy);
		sriov_wish_free(w);
		return sriov_fail(-ENOMEM, "out of memory");
	}
	memcpy(copy, text, len);
	copy[len] = '\0';
	while (!ret && (line = strsep(&rest, "\n"))) {
		r.line++;
		/* a line ends at the newline that strsep() took, or at the end */
		if (strlen(line) != (size_t)((rest ? rest - 1 : copy + len) - line))
			ret = bad(&r, "a zero byte: this is no text");
		else
			ret = read_line(&r, line);
	}
	free(copy);
	forget_section(&r);
	if (!ret)
		ret = check(&r);
	if (ret)
		sriov_wish_free(w);
	return ret;
}

int sriov_wish_read_file(struct sriov_wish *w, const char *path)
{
	bool std = !strcmp(path, "-");
	int fd = std ? STDIN_FILENO : open(path, O_RDONLY | O_CLOEXEC);
	char *buf = malloc(FILE_BYTES_MAX + 1);
	size_t len = 0;
	ssize_t n = 0;
	int ret;

	*w = (struct sriov_wish) { };
	while (fd >= 0 && buf && len <= FILE_BYTES_MAX &&
	       (n = read(fd, buf + len, FILE_BYTES_MAX + 1 - len)) > 0)
		len += (size_t)n;
	if (!buf)
		ret = sriov_fail(-ENOMEM, "out of memory");
	else if (fd < 0 || n < 0)
		ret = sriov_fail(-errno, "%s: %s", path, strerror(errno));
	else if (len > FILE_BYTES_MAX)
		ret = sriov_fail(-EFBIG, "%s: more than 1 MiB is no configuration", path);
	else
		ret = sriov_wish_read(w, std ? "standard input" : path, buf, len);
	if (fd >= 0 && !std)
		close(fd);
	free(buf);
	return ret;
}

void sriov_wish_free(struct sriov_wish *w)
{
	for (size_t i = 0; i < w->nr; i++) {
		free(w->pfs[i].driver);
		free(w->pfs[i].vfs);
	}
	free(w->pfs);
	free(w->file);
	*w = (struct sriov_wish) { };
}
