// SPDX-License-Identifier: LGPL-2.1-or-later
/* Sets of CPUs: as text, of nodes, and what disturbs whoever runs there. */
#include <dirent.h>
#include <sched.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <unistd.h>

#include <vmplat_thread.h>

#include "lib/lib.h"

#define SYS_CPU		"/sys/devices/system/cpu"

API unsigned int vmplat_cpus_count(const struct vmplat_cpus *cpus)
{
	unsigned int n = 0;

	for (size_t i = 0; i < VMPLAT_CPUS_MAX / 64; i++)
		n += (unsigned int)__builtin_popcountll(cpus->bits[i]);
	return n;
}

static bool is_digit(char c)
{
	return c >= '0' && c <= '9';
}

API int vmplat_cpus_parse(struct vmplat_cpus *cpus, const char *text, const char **end)
{
	const char *at = text;
	char *past;

	memset(cpus, 0, sizeof(*cpus));
	while (is_digit(*at)) {
		unsigned long first = strtoul(at, &past, 10), last = first;

		if (*past == '-' && is_digit(past[1]))
			last = strtoul(past + 1, &past, 10);
		at = past;
		if (last >= VMPLAT_CPUS_MAX)
			return lib_error(-EINVAL, "there is no CPU %lu", last);
		if (first > last)
			return lib_error(-EINVAL, "%lu-%lu runs backwards", first, last);
		for (; first <= last; first++)
			vmplat_cpus_add(cpus, (unsigned int)first);
		if (*at != ',') {
			if (!end && *at)
				break;
			if (end)
				*end = at;
			return 0;
		}
		at++;
	}
	return lib_error(-EINVAL, "'%s' is no list of CPUs, such as 0,2-5", text);
}

API size_t vmplat_cpus_format(const struct vmplat_cpus *cpus, char *text, size_t bytes)
{
	size_t n = 0;

	if (bytes)
		*text = 0;
	for (unsigned int first = 0, last; first < VMPLAT_CPUS_MAX; first = last + 1) {
		char part[32];
		int len;

		for (last = first; vmplat_cpus_has(cpus, last); last++)
			;
		if (last == first)
			continue;
		len = snprintf(part, sizeof(part), last - first > 1 ? "%s%u-%u" : "%s%u", n ? "," : "",
			       first, last - 1);
		if (n + (size_t)len >= bytes)
			break;
		memcpy(text + n, part, (size_t)len + 1);
		n += (size_t)len;
	}
	return n;
}

API int vmplat_cpus_allowed(struct vmplat_cpus *cpus)
{
	memset(cpus, 0, sizeof(*cpus));
	if (sched_getaffinity(0, sizeof(*cpus), (cpu_set_t *)cpus))
		return lib_error(-errno, "CPUs of this thread: %s", strerror(errno));
	return 0;
}

/* ---- files ----------------------------------------------------------------------- */

/* The first line of a file; false: there is none. */
__attribute__((format(printf, 3, 4)))
static bool read_line(char *line, size_t bytes, const char *fmt, ...)
{
	char path[128];
	va_list ap;
	bool ok;
	FILE *f;

	va_start(ap, fmt);
	vsnprintf(path, sizeof(path), fmt, ap);
	va_end(ap);
	f = fopen(path, "re");
	ok = f && fgets(line, (int)bytes, f);
	if (f)
		fclose(f);
	if (ok)
		line[strcspn(line, "\n")] = 0;
	return ok;
}

/* An empty or missing file is an empty set. */
static void read_set(struct vmplat_cpus *cpus, const char *path)
{
	char line[4096];

	memset(cpus, 0, sizeof(*cpus));
	if (read_line(line, sizeof(line), "%s", path) && is_digit(*line))
		vmplat_cpus_parse(cpus, line, NULL);
}

API int vmplat_cpus_of_node(struct vmplat_cpus *cpus, unsigned int node)
{
	char line[4096];

	memset(cpus, 0, sizeof(*cpus));
	if (!read_line(line, sizeof(line), "/sys/devices/system/node/node%u/cpulist", node))
		return lib_error(-ENOENT, "there is no node %u", node);
	return *line ? vmplat_cpus_parse(cpus, line, NULL) : 0;
}

/* ---- advice ------------------------------------------------------------------------- */

struct advice {
	const struct vmplat_cpus *cpus;
	struct vmplat_cpus online, isolated, nohz;
	unsigned int irqs[VMPLAT_CPUS_MAX];
	void (*tell)(void *ctx, unsigned int cpu, enum vmplat_cpu_issue issue, const char *text);
	void *ctx;
	int nr;
};

__attribute__((format(printf, 4, 5)))
static void tell(struct advice *a, unsigned int cpu, enum vmplat_cpu_issue issue, const char *fmt, ...)
{
	char text[256];
	va_list ap;

	va_start(ap, fmt);
	vsnprintf(text, sizeof(text), fmt, ap);
	va_end(ap);
	a->tell(a->ctx, cpu, issue, text);
	a->nr++;
}

/* interrupts that have happened and whose CPUs the administrator may choose */
static void count_irqs(struct advice *a)
{
	DIR *d = opendir("/proc/irq");
	struct vmplat_cpus on;
	struct dirent *de;
	char line[4096];

	while (d && (de = readdir(d))) {
		if (!is_digit(de->d_name[0]) ||
		    !read_line(line, sizeof(line), "/proc/irq/%.16s/effective_affinity_list", de->d_name) ||
		    !is_digit(*line) || vmplat_cpus_parse(&on, line, NULL))
			continue;
		for (unsigned int cpu = 0; cpu < VMPLAT_CPUS_MAX; cpu++)
			a->irqs[cpu] += vmplat_cpus_has(&on, cpu);
	}
	if (d)
		closedir(d);
}

static void about_sibling(struct advice *a, unsigned int cpu)
{
	struct vmplat_cpus core;
	char path[96];

	snprintf(path, sizeof(path), SYS_CPU "/cpu%u/topology/thread_siblings_list", cpu);
	read_set(&core, path);
	for (unsigned int other = 0; other < VMPLAT_CPUS_MAX; other++)
		if (vmplat_cpus_has(&core, other) && !vmplat_cpus_has(a->cpus, other))
			tell(a, cpu, VMPLAT_CPU_SIBLING,
			     "CPU %u runs on the same core: leave it empty, or take it as well", other);
}

static void about(struct advice *a, unsigned int cpu)
{
	char line[64];

	if (!vmplat_cpus_has(&a->online, cpu)) {
		tell(a, cpu, VMPLAT_CPU_OFFLINE,
		     "it is offline: echo 1 > " SYS_CPU "/cpu%u/online, if it exists", cpu);
		return;
	}
	if (!vmplat_cpus_has(&a->isolated, cpu))
		tell(a, cpu, VMPLAT_CPU_SHARED,
		     "other tasks run there: isolcpus=%u on the kernel's command line, or an isolated "
		     "cpuset partition", cpu);
	if (!vmplat_cpus_has(&a->nohz, cpu))
		tell(a, cpu, VMPLAT_CPU_TICKS,
		     "the tick interrupts it: nohz_full=%u on the kernel's command line", cpu);
	about_sibling(a, cpu);
	if (a->irqs[cpu])
		tell(a, cpu, VMPLAT_CPU_IRQS,
		     "%u interrupts are delivered there: see /proc/irq/*/smp_affinity_list", a->irqs[cpu]);
	if (read_line(line, sizeof(line), SYS_CPU "/cpu%u/cpufreq/scaling_governor", cpu) &&
	    strcmp(line, "performance"))
		tell(a, cpu, VMPLAT_CPU_SLOWS, "its frequency is governed by '%s': performance does not",
		     line);
}

API int vmplat_cpus_advise(const struct vmplat_cpus *cpus,
			   void (*fn)(void *ctx, unsigned int cpu, enum vmplat_cpu_issue issue,
				      const char *text), void *ctx)
{
	struct advice *a = calloc(1, sizeof(*a));
	int nr;

	if (!a)
		return lib_error(-ENOMEM, "out of memory");
	a->cpus = cpus;
	a->tell = fn;
	a->ctx = ctx;
	read_set(&a->online, SYS_CPU "/online");
	read_set(&a->isolated, SYS_CPU "/isolated");
	read_set(&a->nohz, SYS_CPU "/nohz_full");
	count_irqs(a);
	for (unsigned int cpu = 0; cpu < VMPLAT_CPUS_MAX; cpu++)
		if (vmplat_cpus_has(cpus, cpu))
			about(a, cpu);
	nr = a->nr;
	free(a);
	return nr;
}
