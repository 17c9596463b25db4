// SPDX-License-Identifier: GPL-2.0-only
/*
 * The objects of sysfs. What vanishes while it is looked at was unplugged, and is left
 * out; what cannot be read for another reason is an error.
 */
#include <ctype.h>
#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <inttypes.h>
#include <json-c/json.h>
#include <limits.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "plug.h"
#include "run/client.h"

#define TUN_FLAG_TAP	0x0002u		/* IFF_TAP in tun_flags */

/* ---- reading ---------------------------------------------------------------------- */

__attribute__((format(printf, 3, 4)))
static void path_of(const struct plug_host *host, char path[PATH_MAX], const char *fmt, ...)
{
	int n = snprintf(path, PATH_MAX, "%s/", host->sysfs);
	va_list ap;

	va_start(ap, fmt);
	if (n < PATH_MAX)
		vsnprintf(path + n, PATH_MAX - n, fmt, ap);
	va_end(ap);
}

/* The first line of the file @name in @dir. 0 or -errno. */
static int read_line(const char *dir, const char *name, char *buf, size_t room)
{
	char path[PATH_MAX + 64];
	ssize_t n;
	int fd;

	snprintf(path, sizeof(path), "%s/%s", dir, name);
	fd = open(path, O_RDONLY | O_CLOEXEC);
	if (fd < 0)
		return -errno;
	n = read(fd, buf, room - 1);
	if (n < 0)
		n = -errno;
	close(fd);
	if (n < 0)
		return n;
	buf[n] = '\0';
	buf[strcspn(buf, "\n")] = '\0';
	return 0;
}

static uint64_t read_number(const char *dir, const char *name, int base, uint64_t without)
{
	char buf[32], *end;
	uint64_t v;

	if (read_line(dir, name, buf, sizeof(buf)))
		return without;
	v = strtoull(buf, &end, base);
	return end == buf ? without : v;
}

/* false: it does not fit, and @to is empty */
static bool copy(char *to, size_t room, const char *from)
{
	size_t len = strlen(from);

	*to = '\0';
	if (len >= room)
		return false;
	memcpy(to, from, len + 1);
	return true;
}

/* The last part of where the link @name in @dir leads; "" if there is none. */
static void read_link(const char *dir, const char *name, char *buf, size_t room)
{
	char path[PATH_MAX + 64], to[PATH_MAX];
	const char *last;
	ssize_t n;

	snprintf(path, sizeof(path), "%s/%s", dir, name);
	n = readlink(path, to, sizeof(to) - 1);
	to[n > 0 ? n : 0] = '\0';
	last = strrchr(to, '/');
	copy(buf, room, last ? last + 1 : to);
}

/* CPUs and memory blocks have a link to their node among their entries */
static int node_of(const char *dir)
{
	DIR *d = opendir(dir);
	struct dirent *e;
	int node = -1;

	while (d && (e = readdir(d)))
		if (!strncmp(e->d_name, "node", 4) && isdigit((unsigned char)e->d_name[4]))
			node = atoi(e->d_name + 4);
	if (d)
		closedir(d);
	return node;
}

/* ---- each class ---------------------------------------------------------------------- */

static int look_cpu(const struct plug_host *host, const char *dir, struct plug_object *o)
{
	char text[8];
	int err = read_line(dir, "online", text, sizeof(text));

	if (err && err != -ENOENT)
		return err;
	o->cpu.number = strtoull(o->name + 3, NULL, 10);
	o->cpu.fixed = err;
	o->now.online = err || text[0] == '1';
	o->node = node_of(dir);
	return 0;
}

static int look_memory(const struct plug_host *host, const char *dir, struct plug_object *o)
{
	char text[16], top[PATH_MAX];
	int err = read_line(dir, "state", text, sizeof(text));

	if (!err)
		err = read_line(dir, "valid_zones", o->memory.zones, sizeof(o->memory.zones));
	if (err)
		return err;
	path_of(host, top, "devices/system/memory");
	o->memory.number = strtoull(o->name + 6, NULL, 10);
	o->memory.bytes = read_number(top, "block_size_bytes", 16, 0);
	o->memory.start = o->memory.number * o->memory.bytes;
	o->now.online = strcmp(text, "offline");
	if (o->now.online)	/* then it is the zone that it is in */
		snprintf(o->now.zone, sizeof(o->now.zone), "%.*s",
			 (int)strcspn(o->memory.zones, " "), o->memory.zones);
	o->node = node_of(dir);
	return 0;
}

/* The slot whose address, without the function, is that of @o. */
static void find_slot(const struct plug_host *host, struct plug_object *o)
{
	size_t len = strcspn(o->name, ".");
	char top[PATH_MAX], dir[PATH_MAX + 256], text[32];
	struct dirent *e;
	DIR *d;

	path_of(host, top, "bus/pci/slots");
	d = opendir(top);
	while (d && (e = readdir(d))) {
		snprintf(dir, sizeof(dir), "%s/%s", top, e->d_name);
		if (*e->d_name != '.' && !read_line(dir, "address", text, sizeof(text)) &&
		    strlen(text) == len && !strncmp(text, o->name, len))
			copy(o->pci.slot, sizeof(o->pci.slot), e->d_name);
	}
	if (d)
		closedir(d);
}

static int look_pci(const struct plug_host *host, const char *dir, struct plug_object *o)
{
	char text[4096];
	int err = read_line(dir, "driver_override", text, sizeof(text));

	if (err)
		return err;
	if (strcmp(text, "(null)"))
		o->pci.odd = !copy(o->now.override, sizeof(o->now.override), text);
	read_link(dir, "driver", o->now.driver, sizeof(o->now.driver));
	o->pci.vendor = read_number(dir, "vendor", 16, 0);
	o->pci.device = read_number(dir, "device", 16, 0);
	o->pci.subvendor = read_number(dir, "subsystem_vendor", 16, 0);
	o->pci.subdevice = read_number(dir, "subsystem_device", 16, 0);
	o->pci.class_code = read_number(dir, "class", 16, 0);
	o->node = (int)read_number(dir, "numa_node", 10, (uint64_t)-1);
	read_link(dir, "iommu_group", text, sizeof(text));
	o->pci.group = *text ? atoi(text) : -1;
	find_slot(host, o);
	return 0;
}

static int look_net(const struct plug_host *host, const char *dir, struct plug_object *o)
{
	o->net.tap = read_number(dir, "tun_flags", 16, 0) & TUN_FLAG_TAP;
	o->node = -1;
	return 0;
}

static const struct {
	const char *dir;
	const char *prefix;	/* of names, followed by a digit; NULL: any name */
	int (*look)(const struct plug_host *host, const char *dir, struct plug_object *o);
} places[PLUG_NR_CLASSES] = {
	[PLUG_CPU] = { "devices/system/cpu", "cpu", look_cpu },
	[PLUG_MEMORY] = { "devices/system/memory", "memory", look_memory },
	[PLUG_PCI] = { "bus/pci/devices", NULL, look_pci },
	[PLUG_NETDEV] = { "class/net", NULL, look_net },
};

static bool is_object(enum plug_class class_, const char *name)
{
	const char *prefix = places[class_].prefix;
	size_t len = prefix ? strlen(prefix) : 0;

	if (*name == '.' || strlen(name) > PLUG_NAME_MAX)
		return false;
	return !prefix || (!strncmp(name, prefix, len) && name[len] &&
			   strspn(name + len, "0123456789") == strlen(name + len));
}

int plug_look(const struct plug_host *host, enum plug_class class_, const char *name,
	      const char *vm, struct plug_object *o)
{
	char dir[PATH_MAX];
	struct stat sb;
	int err;

	*o = (struct plug_object) { .class_ = class_ };
	snprintf(o->name, sizeof(o->name), "%s", name);
	path_of(host, dir, "%s/%s", places[class_].dir, name);
	err = stat(dir, &sb) ? -errno : 0;
	if (!err && !S_ISDIR(sb.st_mode))
		err = -ENOENT;
	o->ino = sb.st_ino;
	if (!err)
		err = places[class_].look(host, dir, o);
	if (err == -ENOENT || err == -ENODEV)
		return plug_fail(-ENOENT, "%s is not there", name);
	if (err)
		return plug_fail(err, "cannot read the state of %s in %s: %s", name, dir,
				 strerror(-err));
	return class_ == PLUG_NETDEV && *vm ? plug_look_vm(o, vm) : 0;
}

/* ---- all ---------------------------------------------------------------------------------- */

static int add(const struct plug_host *host, struct plug_scan *scan, enum plug_class class_,
	       const char *name)
{
	struct plug_object *more;
	int err;

	if (!is_object(class_, name))
		return 0;
	more = realloc(scan->objects, (scan->nr + 1) * sizeof(*more));
	if (!more)
		return plug_fail(-ENOMEM, "out of memory");
	scan->objects = more;
	err = plug_look(host, class_, name, "", &more[scan->nr]);
	if (!err)
		scan->nr++;
	return err == -ENOENT ? 0 : err;
}

static int scan_class(const struct plug_host *host, struct plug_scan *scan, enum plug_class class_)
{
	char dir[PATH_MAX];
	struct dirent **list;
	int nr, err = 0;

	path_of(host, dir, "%s", places[class_].dir);
	nr = scandir(dir, &list, NULL, versionsort);
	if (nr < 0 && errno == ENOENT)	/* a host without such things */
		return 0;
	if (nr < 0)
		return plug_fail(-errno, "cannot read %s: %s", dir, strerror(errno));
	for (int i = 0; i < nr; i++) {
		if (!err)
			err = add(host, scan, class_, list[i]->d_name);
		free(list[i]);
	}
	free(list);
	return err;
}

int plug_scan(const struct plug_host *host, struct plug_scan *scan)
{
	int err = 0;

	*scan = (struct plug_scan) { 0 };
	if (access(host->sysfs, R_OK | X_OK))
		return plug_fail(-errno, "cannot read %s: %s", host->sysfs, strerror(errno));
	for (int c = 0; c < PLUG_NR_CLASSES && !err; c++)
		err = scan_class(host, scan, c);
	if (err)
		plug_scan_free(scan);
	return err;
}

void plug_scan_free(struct plug_scan *scan)
{
	free(scan->objects);
	*scan = (struct plug_scan) { 0 };
}

int plug_boot_id(char id[40])
{
	int err = read_line("/proc/sys/kernel/random", "boot_id", id, 40);

	return err ? plug_fail(err, "cannot read /proc/sys/kernel/random/boot_id: %s",
			       strerror(-err)) : 0;
}

/* ---- VMs ------------------------------------------------------------------------------------ */

static const char *text_of(struct json_object *o, const char *key)
{
	struct json_object *v;

	return json_object_object_get_ex(o, key, &v) && v ? json_object_get_string(v) : "";
}

int plug_look_vm(struct plug_object *o, const char *vm)
{
	struct json_object *req, *reply, *list;
	struct vm_client *c;
	int err = vm_client_open(&c, vm);

	o->now.vm[0] = o->now.id[0] = '\0';
	if (err)
		return plug_fail(err, "%s", vm_client_error());
	req = json_object_new_object();
	json_object_object_add(req, "cmd", json_object_new_string("device-list"));
	err = vm_client_call(c, req, NULL, 0, &reply, NULL, NULL);
	json_object_put(req);
	vm_client_close(c);
	if (err)
		return plug_fail(err, "%s", vm_client_error());
	if (!json_object_object_get_ex(reply, "devices", &list))
		err = plug_fail(-EPROTO, "VM '%s' does not say what devices it has", vm);
	for (size_t i = 0; !err && i < json_object_array_length(list); i++) {
		struct json_object *d = json_object_array_get_idx(list, i);

		if (strcmp(text_of(d, "kind"), "tap") || strcmp(text_of(d, "where"), o->name))
			continue;
		snprintf(o->now.vm, sizeof(o->now.vm), "%s", vm);
		snprintf(o->now.id, sizeof(o->now.id), "%s", text_of(d, "id"));
	}
	json_object_put(reply);
	return err;
}
