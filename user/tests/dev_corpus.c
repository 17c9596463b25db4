// SPDX-License-Identifier: GPL-2.0-only
/*
 * Hosts that nobody has at hand: each file of selftests/dev/corpus describes one, is expanded to a
 * tree of sys and proc, and says what has to be concluded about it. The README there explains the lines.
 * Findings are compared as whole sets, so that one too many fails like one too few.
 */
#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <ftw.h>
#include <libgen.h>
#include <limits.h>
#include <stdarg.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include <vmplat.h>
#include <vmplat_dev.h>

#include "tap.h"

#define CORPUS	"../selftests/dev/corpus"
#define NR_PCI	32
#define CONFIG	4096

struct function {
	char address[16];
	char dir[256];		/* below the root: "sys/devices/..." */
	uint8_t config[CONFIG];
	size_t config_bytes;
};

static char root[64];
static struct function functions[NR_PCI];
static size_t nr_functions;
static struct vmplat_devs *devs;
static const char *file_name;
static int line_nr;

static bool complain(const char *fmt, ...)
{
	va_list ap;

	printf("# %s:%d: ", file_name, line_nr);
	va_start(ap, fmt);
	vprintf(fmt, ap);
	va_end(ap);
	putchar('\n');
	return false;
}

/* ---- making the tree ----------------------------------------------------------- */

static bool make_dirs(char *path)
{
	for (char *s = path + 1; *s; s++) {
		if (*s != '/')
			continue;
		*s = '\0';
		if (mkdir(path, 0755) && errno != EEXIST)
			return complain("mkdir %s: %s", path, strerror(errno));
		*s = '/';
	}
	return true;
}

static bool put_bytes(const char *path, const void *p, size_t n)
{
	char full[PATH_MAX];
	FILE *f;

	snprintf(full, sizeof(full), "%s/%s", root, path);
	if (!make_dirs(full))
		return false;
	f = fopen(full, "w");
	if (!f)
		return complain("%s: %s", full, strerror(errno));
	fwrite(p, 1, n, f);
	return !fclose(f);
}

__attribute__((format(printf, 2, 3)))
static bool put(const char *path, const char *fmt, ...)
{
	char text[8192];
	va_list ap;
	int n;

	va_start(ap, fmt);
	n = vsnprintf(text, sizeof(text), fmt, ap);
	va_end(ap);
	return put_bytes(path, text, n);
}

static bool put_link(const char *path, const char *target)
{
	char full[PATH_MAX];

	snprintf(full, sizeof(full), "%s/%s", root, path);
	if (!make_dirs(full))
		return false;
	if (symlink(target, full) && errno != EEXIST)
		return complain("%s: %s", full, strerror(errno));
	return true;
}

/* a path with each "\n" made a newline */
static char *unescape(char *s)
{
	char *to = s;

	for (char *from = s; *from; from++) {
		if (from[0] == '\\' && from[1] == 'n') {
			*to++ = '\n';
			from++;
		} else {
			*to++ = *from;
		}
	}
	*to = '\0';
	return s;
}

static struct function *find_function(const char *address)
{
	for (size_t i = 0; i < nr_functions; i++)
		if (!strcmp(functions[i].address, address))
			return &functions[i];
	complain("no function %s", address);
	return NULL;
}

/* ---- pci ADDRESS KEY=VALUE... ---------------------------------------------------- */

#define PUT(f, name, ...) do {						\
	char put_path[PATH_MAX];					\
	snprintf(put_path, sizeof(put_path), "%s/%s", (f)->dir, name);	\
	if (!put(put_path, __VA_ARGS__))				\
		return false;						\
} while (0)

static bool link_in(const struct function *f, const char *name, const char *target)
{
	char path[PATH_MAX];

	snprintf(path, sizeof(path), "%s/%s", f->dir, name);
	return put_link(path, target);
}

static void le(uint8_t *p, unsigned int off, uint32_t v, int n)
{
	for (int i = 0; i < n; i++)
		p[off + i] = v >> 8 * i;
}

/* INDEX:START:SIZE:FLAGS,... in hex; eight lines, as the kernel writes them */
static bool put_bars(const struct function *f, char *value)
{
	char text[1024] = "", *save, *word;
	unsigned long long bars[8][3] = { };
	size_t n = 0;

	for (word = strtok_r(value, ",", &save); word; word = strtok_r(NULL, ",", &save)) {
		unsigned long long start, size, flags;
		unsigned int i;

		if (sscanf(word, "%u:%llx:%llx:%llx", &i, &start, &size, &flags) != 4 || i > 7)
			return complain("bar '%s'", word);
		bars[i][0] = start;
		bars[i][1] = start + size - 1;
		bars[i][2] = flags;
	}
	for (int i = 0; i < 8; i++)
		n += snprintf(text + n, sizeof(text) - n, "0x%016llx 0x%016llx 0x%016llx\n",
			      bars[i][0], bars[i][1], bars[i][2]);
	PUT(f, "resource", "%s", text);
	return true;
}

static bool put_driver(const struct function *f, const char *driver)
{
	char path[PATH_MAX];

	snprintf(path, sizeof(path), "../../../bus/pci/drivers/%s", driver);
	return link_in(f, "driver", path);
}

static bool put_group(const struct function *f, const char *group)
{
	char path[PATH_MAX], target[PATH_MAX];

	snprintf(target, sizeof(target), "../../../kernel/iommu_groups/%s", group);
	snprintf(path, sizeof(path), "sys/kernel/iommu_groups/%s/devices/%s", group, f->address);
	return link_in(f, "iommu_group", target) && put_link(path, "../../../../devices/x");
}

static bool put_ids(struct function *f, const char *value)
{
	unsigned int vendor, device;

	if (sscanf(value, "%x:%x", &vendor, &device) != 2)
		return complain("id '%s'", value);
	le(f->config, 0, vendor, 2);
	le(f->config, 2, device, 2);
	PUT(f, "vendor", "0x%04x\n", vendor);
	PUT(f, "device", "0x%04x\n", device);
	return true;
}

/* "under": the bridge, which was described before */
static bool place(struct function *f, const char *under)
{
	const struct function *bridge;
	char target[PATH_MAX], path[64];

	if (under) {
		bridge = find_function(under);
		if (!bridge)
			return false;
		snprintf(f->dir, sizeof(f->dir), "%.200s/%s", bridge->dir, f->address);
	} else {
		snprintf(f->dir, sizeof(f->dir), "sys/devices/pci%.7s/%s", f->address, f->address);
	}
	snprintf(target, sizeof(target), "../../../%s", f->dir + 4);
	snprintf(path, sizeof(path), "sys/bus/pci/devices/%s", f->address);
	return put_link(path, target);
}

static bool put_key(struct function *f, const char *key, char *value)
{
	static const char *const plain[] = {
		"class", "reset_method", "boot_vga", "sriov_numvfs", "sriov_totalvfs",
		"driver_override", "power_state", "numa_node", "current_link_speed",
		"max_link_speed", "current_link_width", "max_link_width",
	};

	if (!strcmp(key, "under"))
		return true;
	if (!strcmp(key, "id"))
		return put_ids(f, value);
	if (!strcmp(key, "driver"))
		return put_driver(f, value);
	if (!strcmp(key, "group"))
		return put_group(f, value);
	if (!strcmp(key, "bars"))
		return put_bars(f, value);
	if (!strcmp(key, "pf")) {
		char target[PATH_MAX];

		snprintf(target, sizeof(target), "../%s", value);
		return link_in(f, "physfn", target);
	}
	for (size_t i = 0; i < sizeof(plain) / sizeof(plain[0]); i++) {
		if (strcmp(key, plain[i]))
			continue;
		for (char *s = value; *s; s++)		/* methods are separated by blanks */
			if (*s == '+')
				*s = ' ';
		PUT(f, key, "%s\n", value);
		return true;
	}
	return complain("key '%s'", key);
}

static bool do_pci(char *rest)
{
	char *save, *word = strtok_r(rest, " ", &save), *words[24];
	struct function *f = &functions[nr_functions];
	const char *under = NULL;
	size_t n = 0;

	if (!word || nr_functions == NR_PCI)
		return complain("pci what, or too many");
	*f = (struct function) { .config_bytes = CONFIG };
	snprintf(f->address, sizeof(f->address), "%s", word);
	while ((word = strtok_r(NULL, " ", &save)) && n < 24) {
		words[n++] = word;
		if (!strncmp(word, "under=", 6))
			under = word + 6;
	}
	if (!place(f, under))
		return false;
	nr_functions++;
	for (size_t i = 0; i < n; i++) {
		char *value = strchr(words[i], '=');

		if (!value)
			return complain("'%s'", words[i]);
		*value++ = '\0';
		if (!put_key(f, words[i], value))
			return false;
	}
	return true;
}

/* config ADDRESS OFFSET:HEX... | bytes=N */
static bool do_config(char *rest)
{
	char *save, *word = strtok_r(rest, " ", &save);
	struct function *f = word ? find_function(word) : NULL;

	if (!f)
		return false;
	while ((word = strtok_r(NULL, " ", &save))) {
		char *hex = strchr(word, ':');
		unsigned long off = strtoul(word, NULL, 16);

		if (!strncmp(word, "bytes=", 6)) {
			f->config_bytes = strtoul(word + 6, NULL, 0);
			continue;
		}
		if (!hex)
			return complain("'%s'", word);
		for (hex++; hex[0] && hex[1] && off < CONFIG; hex += 2, off++) {
			unsigned int byte;

			if (sscanf(hex, "%2x", &byte) != 1)
				return complain("hex '%s'", hex);
			f->config[off] = byte;
		}
	}
	return true;
}

static bool do_group(char *rest)
{
	char *save, *id = strtok_r(rest, " ", &save), *type = strtok_r(NULL, " ", &save), *word;
	char path[PATH_MAX], text[1024] = "";
	size_t n = 0;

	if (!id || !type)
		return complain("group N TYPE [START-LAST:TYPE]...");
	while ((word = strtok_r(NULL, " ", &save))) {
		unsigned long long start, last;
		char kind[32];

		if (sscanf(word, "%llx-%llx:%31s", &start, &last, kind) != 3)
			return complain("reserved '%s'", word);
		n += snprintf(text + n, sizeof(text) - n, "0x%016llx 0x%016llx %s\n", start, last,
			      kind);
	}
	snprintf(path, sizeof(path), "sys/kernel/iommu_groups/%s/type", id);
	if (!put(path, "%s\n", type))
		return false;
	snprintf(path, sizeof(path), "sys/kernel/iommu_groups/%s/reserved_regions", id);
	return put(path, "%s", text);
}

static bool do_file(char *rest)
{
	char *text = strchr(rest, ' ');

	if (text)
		*text++ = '\0';
	return put(rest, "%s\n", text ? unescape(text) : "");
}

static bool do_link(char *rest)
{
	char *target = strchr(rest, ' ');

	if (!target)
		return complain("link PATH TARGET");
	*target++ = '\0';
	return put_link(rest, target);
}

/* at ADDRESS PATH TEXT: a file in the function's directory */
static bool do_at(char *rest)
{
	char *save, *address = strtok_r(rest, " ", &save), *name = strtok_r(NULL, " ", &save);
	const struct function *f = address ? find_function(address) : NULL;
	char path[PATH_MAX];

	if (!f || !name)
		return false;
	snprintf(path, sizeof(path), "%s/%s", f->dir, name);
	return put(path, "%s\n", unescape(save));
}

/* ---- expectations ------------------------------------------------------------------ */

static bool open_picture(void)
{
	char path[PATH_MAX];

	if (devs)
		return true;
	for (size_t i = 0; i < nr_functions; i++) {
		snprintf(path, sizeof(path), "%s/config", functions[i].dir);
		if (functions[i].config_bytes &&
		    !put_bytes(path, functions[i].config, functions[i].config_bytes))
			return false;
	}
	if (vmplat_devs_open(&devs, root))
		return complain("%s", vmplat_last_error());
	return true;
}

static int by_text(const void *a, const void *b)
{
	return strcmp(*(char *const *)a, *(char *const *)b);
}

static void join(char *out, size_t room, char **words, size_t n)
{
	size_t at = 0;

	qsort(words, n, sizeof(*words), by_text);
	out[0] = '\0';
	for (size_t i = 0; i < n && at < room; i++)
		at += snprintf(out + at, room - at, " %s", words[i]);
}

/* "!" a blocker, "~" a warning, nothing a note: findings as they are written in the corpus */
static bool same_findings(const struct vmplat_findings *f, char *rest)
{
	static const char *const marks[] = { "", "~", "!" };
	char have[64][48], *haves[64], *wants[64], got[2048], want[2048], *save, *word;
	size_t nr_have = 0, nr_want = 0;

	for (size_t i = 0; i < f->nr && nr_have < 64; i++) {
		snprintf(have[nr_have], sizeof(have[0]), "%s%s", marks[f->items[i].severity],
			 f->items[i].name);
		if (!f->items[i].text || strlen(f->items[i].text) < 12)
			return complain("%s: no sentence", f->items[i].name);
		haves[nr_have] = have[nr_have];
		nr_have++;
	}
	for (word = strtok_r(rest, " ", &save); word; word = strtok_r(NULL, " ", &save))
		wants[nr_want++] = word;
	join(got, sizeof(got), haves, nr_have);
	join(want, sizeof(want), wants, nr_want);
	if (!strcmp(got, want))
		return true;
	complain("found:%s", got);
	complain("want: %s", want);
	for (size_t i = 0; i < f->nr; i++)
		printf("#   %s: %s\n", f->items[i].name, f->items[i].text);
	return false;
}

static char *first(char **rest)
{
	return strsep(rest, " ");
}

static const struct vmplat_pci *get(char **rest)
{
	const struct vmplat_pci *pci;
	char *address = first(rest);

	if (!open_picture())
		return NULL;
	if (vmplat_devs_find(devs, address, &pci)) {
		complain("%s", vmplat_last_error());
		return NULL;
	}
	return pci;
}

static bool same(const char *got, const char *want)
{
	if (got && want && !strcmp(got, want))
		return true;
	return complain("is '%s', want '%s'", got ? got : "(null)", want ? want : "(null)");
}

static bool want_gpu(char *rest)
{
	const struct vmplat_pci *pci = get(&rest);
	struct vmplat_gpu gpu;
	char *verdict = first(&rest);

	if (!pci)
		return false;
	if (vmplat_gpu_judge(devs, pci, &gpu))
		return same("not a GPU", verdict ? verdict : "");
	return same_findings(&gpu.findings, rest ? rest : (char[]){ "" }) &&
	       same(vmplat_verdict_name(gpu.verdict), verdict);
}

static bool want_together(char *rest)
{
	const struct vmplat_pci *pci = get(&rest);
	struct vmplat_gpu gpu;
	char text[512] = "";
	size_t n = 0;

	if (!pci || vmplat_gpu_judge(devs, pci, &gpu))
		return false;
	for (size_t i = 0; i < gpu.nr_together; i++)
		n += snprintf(text + n, sizeof(text) - n, "%s%s", i ? " " : "",
			      gpu.together[i]->address);
	return same(text, rest);
}

static bool want_isolation(char *rest)
{
	const struct vmplat_pci *pci = get(&rest);
	char *word = first(&rest);

	return pci && same(vmplat_isolation_name(pci->isolation), word) &&
	       same_findings(&pci->reasons, rest ? rest : (char[]){ "" });
}

static bool want_use(char *rest)
{
	const struct vmplat_pci *pci = get(&rest);
	struct vmplat_findings use;

	if (!pci || vmplat_pci_use(devs, pci, &use))
		return false;
	return same_findings(&use, rest ? rest : (char[]){ "" });
}

static bool want_iommu(char *rest)
{
	char *word = first(&rest);

	return open_picture() &&
	       same(vmplat_protection_name(vmplat_devs_iommu(devs)->protection), word) &&
	       same_findings(&vmplat_devs_iommu(devs)->findings, rest ? rest : (char[]){ "" });
}

/* find NAME ADDRESS or an errno's name */
static bool want_find(char *rest)
{
	const struct vmplat_pci *pci;
	char *name = first(&rest);
	int rc;

	if (!open_picture())
		return false;
	rc = vmplat_devs_find(devs, name, &pci);
	return same(rc ? strerrorname_np(-rc) : pci->address, rest) && (!rc || !pci);
}

/* fact ADDRESS NAME VALUE */
static bool want_fact(char *rest)
{
	const struct vmplat_pci *pci = get(&rest);
	char *name = first(&rest), text[256] = "";

	if (!pci)
		return false;
	if (!strcmp(name, "path"))
		return same(pci->path, rest);
	if (!strcmp(name, "serial"))
		return same(vmplat_pci_format_serial(pci->serial, text), rest);
	if (!strcmp(name, "port"))
		return same(vmplat_port_name(pci->port), rest);
	if (!strcmp(name, "link"))
		snprintf(text, sizeof(text), "%u/%u x%u/%u", pci->link.speed, pci->link.max_speed,
			 pci->link.width, pci->link.max_width);
	else if (!strcmp(name, "caps"))
		for (size_t i = 0, n = 0; i < pci->nr_caps && n < sizeof(text); i++)
			n += snprintf(text + n, sizeof(text) - n, "%s%x@%x", i ? " " : "",
				      pci->caps[i].id, pci->caps[i].offset);
	else if (!strcmp(name, "override"))
		return same(pci->override ? pci->override : "-", rest);
	else
		return complain("fact '%s'", name);
	return same(text, rest);
}

/* ---- files ----------------------------------------------------------------------------- */

static const struct {
	const char *word;
	bool (*fn)(char *rest);
} statements[] = {
	{ "pci", do_pci }, { "config", do_config }, { "group", do_group }, { "file", do_file },
	{ "link", do_link }, { "at", do_at },
	{ "gpu", want_gpu }, { "together", want_together }, { "isolation", want_isolation },
	{ "use", want_use }, { "iommu", want_iommu }, { "find", want_find }, { "fact", want_fact },
};

static bool do_line(char *line)
{
	char *rest = line, *word = strsep(&rest, " ");

	for (size_t i = 0; i < sizeof(statements) / sizeof(statements[0]); i++)
		if (!strcmp(word, statements[i].word))
			return statements[i].fn(rest ? rest : (char[]){ "" });
	return complain("statement '%s'", word);
}

static int remove_one(const char *path, const struct stat *st, int type, struct FTW *ftw)
{
	return remove(path);
}

static bool run_file(const char *path)
{
	char buf[8192];
	FILE *f = fopen(path, "r");
	bool ok = f != NULL;
	int wants = 0;

	strcpy(root, "/tmp/vmplat-corpus.XXXXXX");
	if (!f || !mkdtemp(root))
		return complain("%s: %s", path, strerror(errno));
	nr_functions = 0;
	line_nr = 0;
	ok = put("sys/.here", "\n");
	while (ok && fgets(buf, sizeof(buf), f)) {
		line_nr++;
		buf[strcspn(buf, "\n")] = '\0';
		if (!buf[0] || buf[0] == '#')
			continue;
		ok = do_line(buf);
		wants += devs != NULL;
	}
	fclose(f);
	vmplat_devs_close(devs);
	devs = NULL;
	nftw(root, remove_one, 16, FTW_DEPTH | FTW_PHYS);
	return ok && (wants || complain("nothing is expected of it"));
}

static int is_host(const struct dirent *e)
{
	size_t n = strlen(e->d_name);

	return n > 5 && !strcmp(e->d_name + n - 5, ".host");
}

int main(void)
{
	struct dirent **list;
	int n = scandir(CORPUS, &list, is_host, alphasort);

	for (int i = 0; i < n; i++) {
		char path[PATH_MAX];

		snprintf(path, sizeof(path), CORPUS "/%s", list[i]->d_name);
		file_name = list[i]->d_name;
		tap_bad = !run_file(path);
		tap_failed += tap_bad;
		printf("%sok %u - %s\n", tap_bad ? "not " : "", ++tap_nr, file_name);
		free(list[i]);
	}
	if (n <= 0) {
		printf("not ok 1 - " CORPUS " has no hosts\n1..1\n");
		return 1;
	}
	free(list);
	return tap_done();
}
