// SPDX-License-Identifier: GPL-2.0-only
/* From one state to another: which writes, and writing them. */
#include <errno.h>
#include <fcntl.h>
#include <json-c/json.h>
#include <limits.h>
#include <stdarg.h>
#include <stdio.h>
#include <string.h>
#include <unistd.h>
#include <vmplat_clock.h>

#include "plug.h"
#include "run/client.h"

#define PATIENCE_NS	5000000000u
#define PAUSE_NS	50000000u

int (*plug_write_hook)(const char *where, const char *what);

/* ---- which --------------------------------------------------------------------------- */

__attribute__((format(printf, 3, 4)))
static struct plug_step *step_write(struct plug_step *step, const char *value,
				    const char *fmt, ...)
{
	va_list ap;

	*step = (struct plug_step) { .kind = PLUG_STEP_WRITE };
	snprintf(step->value, sizeof(step->value), "%s", value);
	va_start(ap, fmt);
	vsnprintf(step->path, sizeof(step->path), fmt, ap);
	va_end(ap);
	return step;
}

static size_t memory_steps(const struct plug_object *o, const struct plug_state *from,
			   const struct plug_state *to, struct plug_step *steps)
{
	static const char path[] = "devices/system/memory/%s/state";
	size_t n = 0;

	if (from->online && (!to->online || !plug_state_meets(from, to)))
		step_write(&steps[n++], "offline", path, o->name);
	if (!to->online || (from->online && !n))
		return n;
	step_write(&steps[n++], !strcmp(to->zone, PLUG_ZONE_ANY) ? "online" :
		   !strcmp(to->zone, PLUG_ZONE_MOVABLE) ? "online_movable" : "online_kernel",
		   path, o->name);
	return n;
}

/*
 * The override first, as it decides who may bind from now on. By the old driver's own
 * file: it refuses if the device has got another one meanwhile. A state with a driver
 * that its override forbids is where a change was cut short; the way back to it leads
 * over an override that allows the driver.
 */
static size_t pci_steps(const struct plug_object *o, const struct plug_state *from,
			const struct plug_state *to, struct plug_step *steps)
{
	static const char override[] = "bus/pci/devices/%s/driver_override";
	bool other = strcmp(from->driver, to->driver), binds = other && *to->driver;
	bool forbids = binds && *to->override && strcmp(to->override, to->driver);
	const char *first = forbids ? to->driver : to->override;
	size_t n = 0;

	if (strcmp(from->override, first))
		step_write(&steps[n++], first, override, o->name);
	if (other && *from->driver)
		step_write(&steps[n++], o->name, "bus/pci/drivers/%s/unbind", from->driver);
	if (binds)
		step_write(&steps[n++], o->name, "bus/pci/drivers/%s/bind", to->driver)->patient = true;
	if (forbids)
		step_write(&steps[n++], to->override, override, o->name);
	return n;
}

static size_t net_steps(const struct plug_object *o, const struct plug_state *from,
			const struct plug_state *to, struct plug_step *steps)
{
	size_t n = 0;

	if (!strcmp(from->vm, to->vm) && !strcmp(from->id, to->id))
		return 0;
	if (*from->vm) {
		steps[n] = (struct plug_step) { .kind = PLUG_STEP_VM_REMOVE };
		strcpy(steps[n].path, from->vm);
		strcpy(steps[n++].id, from->id);
	}
	if (*to->vm) {
		steps[n] = (struct plug_step) { .kind = PLUG_STEP_VM_ADD };
		strcpy(steps[n].path, to->vm);
		strcpy(steps[n].value, o->name);
		strcpy(steps[n++].id, to->id);
	}
	return n;
}

size_t plug_steps(const struct plug_object *o, const struct plug_state *from,
		  const struct plug_state *to, struct plug_step steps[PLUG_STEPS_MAX])
{
	switch (o->class_) {
	case PLUG_CPU:
		if (from->online == to->online)
			return 0;
		step_write(&steps[0], to->online ? "1" : "0", "devices/system/cpu/%s/online", o->name);
		return 1;
	case PLUG_MEMORY:
		return memory_steps(o, from, to, steps);
	case PLUG_PCI:
		return pci_steps(o, from, to, steps);
	default:
		return net_steps(o, from, to, steps);
	}
}

const char *plug_step_text(const struct plug_host *host, const struct plug_step *s,
			   char buf[PLUG_STEP_TEXT])
{
	switch (s->kind) {
	case PLUG_STEP_WRITE:
		snprintf(buf, PLUG_STEP_TEXT, "echo %s > %s/%s", *s->value ? s->value : "''",
			 host->sysfs, s->path);
		break;
	case PLUG_STEP_VM_ADD:
		snprintf(buf, PLUG_STEP_TEXT, "vmplat vm device add %s net tap=%s,id=%s", s->path,
			 s->value, s->id);
		break;
	default:
		snprintf(buf, PLUG_STEP_TEXT, "vmplat vm device remove %s %s", s->path, s->id);
	}
	return buf;
}

/* ---- doing it -------------------------------------------------------------------------- */

static const char *advice(int err)
{
	return err == -EACCES || err == -EPERM ? "; changing hardware needs root" :
	       err == -EROFS ? "; /sys is mounted read-only" : "";
}

int plug_step_allowed(const struct plug_host *host, const struct plug_step *s)
{
	char path[PATH_MAX];

	if (s->kind != PLUG_STEP_WRITE)
		return 0;	/* its control socket says who may */
	snprintf(path, sizeof(path), "%s/%s", host->sysfs, s->path);
	if (!faccessat(AT_FDCWD, path, W_OK, AT_EACCESS))
		return 0;
	return plug_fail(-errno, "cannot write to %s: %s%s", path, strerror(errno), advice(-errno));
}

static int write_once(const char *path, const struct plug_step *s)
{
	char text[PLUG_WORD_MAX + 2];
	int fd, err, len;

	err = plug_write_hook ? plug_write_hook(s->path, s->value) : 0;
	if (err)
		return err > 0 ? 0 : err;
	fd = open(path, O_WRONLY | O_CLOEXEC);
	if (fd < 0)
		return -errno;
	len = snprintf(text, sizeof(text), "%s\n", s->value);
	/* sysfs takes all of it or none */
	err = write(fd, text, (size_t)len) < 0 ? -errno : 0;
	close(fd);
	return err;
}

/*
 * A PCI device is announced while the kernel is still busy with the bus it is on; until
 * that is done, no driver may have it, and says ENODEV.
 */
static int do_write(const struct plug_host *host, const struct plug_step *s)
{
	uint64_t begin = vmplat_now_ns();
	char path[PATH_MAX];
	int err;

	snprintf(path, sizeof(path), "%s/%s", host->sysfs, s->path);
	for (;;) {
		err = write_once(path, s);
		if (err != -ENODEV || !s->patient || vmplat_now_ns() - begin >= PATIENCE_NS)
			break;
		vmplat_sleep_ns(PAUSE_NS);
	}
	return err ? plug_fail(err, "'%s' to %s: %s%s", s->value, path, strerror(-err),
			       advice(err)) : 0;
}

static void put(struct json_object *o, const char *key, const char *value)
{
	json_object_object_add(o, key, json_object_new_string(value));
}

/* waits until the guest has taken it, or given it up */
static int do_vm(const struct plug_step *s)
{
	struct json_object *req, *device, *reply = NULL;
	struct vm_client *c;
	int err;

	err = plug_write_hook ? plug_write_hook(s->path, s->id) : 0;
	if (!err)
		err = vm_client_open(&c, s->path);
	if (err)
		return plug_fail(err, "%s", vm_client_error());
	req = json_object_new_object();
	if (s->kind == PLUG_STEP_VM_ADD) {
		device = json_object_new_object();
		put(device, "kind", "tap");
		put(device, "where", s->value);
		put(device, "name", s->id);
		put(req, "cmd", "device-add");
		put(req, "type", "net");
		json_object_object_add(req, "device", device);
	} else {
		put(req, "cmd", "device-remove");
		put(req, "id", s->id);
	}
	err = vm_client_call(c, req, NULL, 0, &reply, NULL, NULL);
	json_object_put(req);
	json_object_put(reply);
	vm_client_close(c);
	return err ? plug_fail(err, "%s", vm_client_error()) : 0;
}

int plug_step_do(const struct plug_host *host, const struct plug_step *s)
{
	return s->kind == PLUG_STEP_WRITE ? do_write(host, s) : do_vm(s);
}
