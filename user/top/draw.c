// SPDX-License-Identifier: GPL-2.0-only
/* The picture for people, line by line, and the same for programs. */
#include <inttypes.h>
#include <json-c/json.h>
#include <stdarg.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

#include "cli/cli.h"
#include "top/top.h"

struct page {
	struct top *top;
	top_line_fn *line;
	void *data;
};

__attribute__((format(printf, 3, 4)))
static void put(const struct page *p, enum top_style style, const char *fmt, ...)
{
	char text[512];
	va_list ap;

	va_start(ap, fmt);
	vsnprintf(text, sizeof(text), fmt, ap);
	va_end(ap);
	p->line(p->data, style, text);
}

struct top_sum top_sum(struct top *top, const uint64_t *mems, size_t nr)
{
	struct top_sum sum = { .dirty_pages = nr ? 0 : TOP_UNKNOWN };

	for (size_t i = 0; i < nr; i++) {
		const struct top_mem *mem = top_mem(top, mems[i]);

		sum.bytes += mem ? mem->bytes : 0;
		if (!mem || mem->dirty_pages == TOP_UNKNOWN)
			sum.dirty_pages = TOP_UNKNOWN;
		else if (sum.dirty_pages != TOP_UNKNOWN)
			sum.dirty_pages += mem->dirty_pages;
	}
	for (size_t v = 0; v < top->views.nr && nr; v++)
		for (size_t i = 0; i < top->views.items[v].nr_mems; i++)
			if (top->views.items[v].mems[i] == mems[0])
				sum.nr_views++;
	return sum;
}

int64_t top_rate(const struct top *top, int64_t pages)
{
	if (pages == TOP_UNKNOWN || top->seconds <= 0)
		return TOP_UNKNOWN;
	return pages * vmplat_page_bytes(top->dev) / top->seconds;
}

static const char *show_rate(int64_t rate, char buf[CLI_NUM_LEN])
{
	return rate == TOP_UNKNOWN ? "-" : cli_show_bytes(rate, buf);
}

static const char *show_cpu(double percent, char buf[CLI_NUM_LEN])
{
	if (percent < 0)
		return "-";
	snprintf(buf, CLI_NUM_LEN, "%.1f", percent);
	return buf;
}

/* ---- rows ---------------------------------------------------------------------- */

/* A VM, or a memory that no reported VM names, as the VM of who holds it. */
struct row {
	const struct top_vm *vm;
	char name[TOP_NAME + 24];
	pid_t pid;
	double cpu_percent;
	struct top_sum sum;
};

static struct row *rows_of(struct top *top, size_t *nr)
{
	struct row *rows = calloc(top->vms.nr + top->mems.nr + 1, sizeof(*rows));

	*nr = 0;
	if (!rows)
		return NULL;
	for (size_t i = 0; i < top->vms.nr; i++) {
		const struct top_vm *vm = &top->vms.items[i];
		struct row *r = &rows[(*nr)++];

		*r = (struct row) {
			.vm = vm, .pid = vm->pid, .cpu_percent = vm->cpu_percent,
			.sum = top_sum(top, vm->mems, vm->nr_mems),
		};
		snprintf(r->name, sizeof(r->name), "%s", vm->name);
	}
	for (size_t i = 0; i < top->mems.nr; i++) {
		const struct top_mem *mem = &top->mems.items[i];
		struct row *r;

		if (top_vm_of(top, mem->id))
			continue;
		r = &rows[(*nr)++];
		*r = (struct row) {
			.pid = mem->holder, .cpu_percent = TOP_UNKNOWN,
			.sum = top_sum(top, &mem->id, 1),
		};
		snprintf(r->name, sizeof(r->name), "memory %" PRIu64 "%s%s", mem->id,
			 mem->holder ? " of " : "", mem->holder_name);
	}
	return rows;
}

static int by_name(const void *a, const void *b)
{
	return strcmp(((const struct row *)a)->name, ((const struct row *)b)->name);
}

static int by_cpu(const void *a, const void *b)
{
	double x = ((const struct row *)a)->cpu_percent, y = ((const struct row *)b)->cpu_percent;

	return x < y ? 1 : x > y ? -1 : by_name(a, b);
}

static int by_dirty(const void *a, const void *b)
{
	int64_t x = ((const struct row *)a)->sum.dirty_pages, y = ((const struct row *)b)->sum.dirty_pages;

	return x < y ? 1 : x > y ? -1 : by_name(a, b);
}

static enum top_style style_of(const struct top_vm *vm)
{
	switch (vm ? vm->state : 0) {
	case VMPLAT_VM_STATE_RUNNING:
		return TOP_GOOD;
	case VMPLAT_VM_STATE_FAILED:
		return TOP_BAD;
	case 0:
	case VMPLAT_VM_STATE_STOPPED:
		return TOP_FAINT;
	default:
		return TOP_CARE;
	}
}

static void put_rows(const struct page *p)
{
	static int (*const orders[])(const void *, const void *) = {
		[TOP_BY_NAME] = by_name, [TOP_BY_CPU] = by_cpu, [TOP_BY_DIRTY] = by_dirty,
	};
	struct row *rows;
	size_t nr;

	rows = rows_of(p->top, &nr);
	put(p, TOP_HEAD, "%-26s %-13s %7s %10s %11s %7s %5s %8s", "VM", "STATE", "CPU %", "MEMORY",
	    "WRITTEN/s", "OF IT %", "VIEWS", "PID");
	if (rows)
		qsort(rows, nr, sizeof(*rows), orders[p->top->sort]);
	for (size_t i = 0; i < nr && rows; i++) {
		const struct row *r = &rows[i];
		char cpu[CLI_NUM_LEN], bytes[CLI_NUM_LEN], rate[CLI_NUM_LEN], share[CLI_NUM_LEN] = "-";

		if (r->sum.dirty_pages != TOP_UNKNOWN && r->sum.bytes && p->top->seconds > 0)
			snprintf(share, sizeof(share), "%.1f", 100.0 * r->sum.dirty_pages *
				 vmplat_page_bytes(p->top->dev) / r->sum.bytes);
		put(p, style_of(r->vm), "%-26.26s %-13s %7s %10s %11s %7s %5u %8d%s%s", r->name,
		    r->vm && r->vm->state_name ? r->vm->state_name : "-",
		    show_cpu(r->cpu_percent, cpu), cli_show_bytes(r->sum.bytes, bytes),
		    show_rate(top_rate(p->top, r->sum.dirty_pages), rate), share, r->sum.nr_views,
		    r->pid, r->vm && *r->vm->reason ? "  " : "", r->vm ? r->vm->reason : "");
	}
	if (!nr)
		put(p, TOP_FAINT, "none");
	free(rows);
}

static void put_views(const struct page *p)
{
	if (!p->top->views.nr)
		return;
	put(p, TOP_PLAIN, "%s", "");
	put(p, TOP_HEAD, "%-26s %-13s %7s %10s %11s %7s", "VIEW OF", "STATE", "", "BYTES", "COPIES",
	    "OF MAX %");
	for (size_t i = 0; i < p->top->views.nr; i++) {
		const struct top_view *view = &p->top->views.items[i];
		const struct top_vm *vm = view->nr_mems ? top_vm_of(p->top, view->mems[0]) : NULL;
		char name[32], bytes[CLI_NUM_LEN], side[CLI_NUM_LEN], share[CLI_NUM_LEN] = "-";

		snprintf(name, sizeof(name), "memory %" PRIu64, view->nr_mems ? view->mems[0] : 0);
		if (view->side_limit && view->side_bytes != TOP_UNKNOWN)
			snprintf(share, sizeof(share), "%.0f", 100.0 * view->side_bytes / view->side_limit);
		put(p, view->state == VMPLAT_VIEW_OK ? TOP_PLAIN : TOP_BAD, "%-26.26s %-13s %7s %10s %11s %7s",
		    vm ? vm->name : name, view->state_name ? view->state_name : "?", "",
		    cli_show_bytes(view->bytes, bytes),
		    view->side_bytes == TOP_UNKNOWN ? "-" : cli_show_bytes(view->side_bytes, side), share);
	}
}

static void put_users(const struct page *p)
{
	if (!p->top->users.nr)
		return;
	put(p, TOP_PLAIN, "%s", "");
	put(p, TOP_HEAD, "%-26s %-13s %s", "DEVICE", "DRIVER", "OPEN IN");
	for (size_t i = 0; i < p->top->users.nr; i++) {
		const struct top_user *u = &p->top->users.items[i];

		put(p, u->asked ? TOP_CARE : TOP_PLAIN, "%-26s %-13s %s(%u)%s", u->address, u->driver,
		    u->user_name, u->user, u->asked ? ", which is asked to let go" : "");
	}
}

static void put_events(const struct page *p, size_t nr)
{
	struct top *top = p->top;
	int64_t to_wall;

	if (nr > TOP_EVENTS)
		nr = TOP_EVENTS;
	if (nr > top->nr_events)
		nr = top->nr_events;
	if (!nr)
		return;
	to_wall = (int64_t)(vmplat_clock_now(CLOCK_REALTIME) - vmplat_clock_now(CLOCK_BOOTTIME));
	put(p, TOP_PLAIN, "%s", "");
	put(p, TOP_HEAD, "%s", "LAST EVENTS");
	for (uint64_t i = top->nr_events - nr; i < top->nr_events; i++) {
		const struct top_event *e = &top->recent[i % TOP_EVENTS];
		time_t seconds = (e->time_ns + to_wall) / 1000000000;
		char when[16];
		struct tm tm;

		localtime_r(&seconds, &tm);
		strftime(when, sizeof(when), "%H:%M:%S", &tm);
		put(p, TOP_PLAIN, "%s %s", when, e->text);
	}
}

static void put_title(const struct page *p)
{
	static const char *const sorts[] = {
		[TOP_BY_NAME] = "name", [TOP_BY_CPU] = "CPU", [TOP_BY_DIRTY] = "writes",
	};
	struct top *top = p->top;
	uint64_t bytes = 0;
	size_t running = 0;
	char total[CLI_NUM_LEN], when[16];
	time_t now = time(NULL);
	struct tm tm;

	for (size_t i = 0; i < top->vms.nr; i++)
		running += top->vms.items[i].state == VMPLAT_VM_STATE_RUNNING;
	for (size_t i = 0; i < top->mems.nr; i++)
		bytes += top->mems.items[i].bytes;
	localtime_r(&now, &tm);
	strftime(when, sizeof(when), "%H:%M:%S", &tm);
	put(p, TOP_TITLE, "vmplat %s  %zu VMs, %zu running  %zu memories, %s  %zu views  %.0f events/s  sorted by %s",
	    when, top->vms.nr, running, top->mems.nr, cli_show_bytes(bytes, total), top->views.nr,
	    top->seconds > 0 ? (top->nr_events - top->nr_events_before) / top->seconds : 0,
	    sorts[top->sort]);
	if (top->down)
		put(p, TOP_BAD, "%s", "the module was unloaded; waiting until it is back");
	else if (top->hidden)
		put(p, TOP_CARE, "%s", "other users' processes cannot be looked into: run as root to see what their VMs write");
	put(p, TOP_PLAIN, "%s", "");
}

void top_draw(struct top *top, size_t nr_events, top_line_fn *line, void *data)
{
	const struct page p = { .top = top, .line = line, .data = data };

	put_title(&p);
	put_rows(&p);
	put_views(&p);
	put_users(&p);
	put_events(&p, nr_events);
	top->nr_events_before = top->nr_events;
}

/* ---- JSON ---------------------------------------------------------------------- */

static void add_int(struct json_object *o, const char *name, int64_t value)
{
	json_object_object_add(o, name, value == TOP_UNKNOWN ? NULL : json_object_new_int64(value));
}

static void add_string(struct json_object *o, const char *name, const char *value)
{
	json_object_object_add(o, name, value ? json_object_new_string(value) : NULL);
}

static struct json_object *ids(const uint64_t *of, size_t nr)
{
	struct json_object *list = json_object_new_array();

	for (size_t i = 0; i < nr; i++)
		json_object_array_add(list, json_object_new_uint64(of[i]));
	return list;
}

static struct json_object *json_vm(struct top *top, const struct top_vm *vm)
{
	struct top_sum sum = top_sum(top, vm->mems, vm->nr_mems);
	struct json_object *o = json_object_new_object();

	add_string(o, "name", vm->name);
	add_string(o, "state", vm->state_name);
	add_string(o, "reason", *vm->reason ? vm->reason : NULL);
	add_int(o, "pid", vm->pid);
	json_object_object_add(o, "cpu_percent", vm->cpu_percent < 0 ? NULL :
			       json_object_new_double(vm->cpu_percent));
	add_int(o, "memory_bytes", sum.bytes);
	add_int(o, "dirty_pages", sum.dirty_pages);
	add_int(o, "dirty_bytes_per_second", top_rate(top, sum.dirty_pages));
	add_int(o, "views", sum.nr_views);
	json_object_object_add(o, "memories", ids(vm->mems, vm->nr_mems));
	return o;
}

static struct json_object *json_mem(const struct top_mem *mem)
{
	struct json_object *o = json_object_new_object();

	add_int(o, "id", mem->id);
	add_int(o, "bytes", mem->bytes);
	add_int(o, "holder", mem->holder ? mem->holder : TOP_UNKNOWN);
	add_int(o, "dirty_pages", mem->dirty_pages);
	return o;
}

static struct json_object *json_view(const struct top_view *view)
{
	struct json_object *o = json_object_new_object();

	add_int(o, "id", view->id);
	add_string(o, "state", view->state_name);
	add_int(o, "bytes", view->bytes);
	add_int(o, "side_bytes", view->side_bytes);
	add_int(o, "side_limit", view->side_limit ? (int64_t)view->side_limit : TOP_UNKNOWN);
	json_object_object_add(o, "memories", ids(view->mems, view->nr_mems));
	return o;
}

static struct json_object *json_user(const struct top_user *u)
{
	struct json_object *o = json_object_new_object();

	add_string(o, "address", u->address);
	add_string(o, "driver", u->driver);
	add_int(o, "user", u->user);
	json_object_object_add(o, "asked", json_object_new_boolean(u->asked));
	return o;
}

struct json_object *top_json(struct top *top)
{
	struct json_object *o = json_object_new_object(), *vms = json_object_new_array(),
			   *mems = json_object_new_array(), *views = json_object_new_array(),
			   *users = json_object_new_array();

	for (size_t i = 0; i < top->vms.nr; i++)
		json_object_array_add(vms, json_vm(top, &top->vms.items[i]));
	for (size_t i = 0; i < top->mems.nr; i++)
		json_object_array_add(mems, json_mem(&top->mems.items[i]));
	for (size_t i = 0; i < top->views.nr; i++)
		json_object_array_add(views, json_view(&top->views.items[i]));
	for (size_t i = 0; i < top->users.nr; i++)
		json_object_array_add(users, json_user(&top->users.items[i]));
	json_object_object_add(o, "seconds", json_object_new_double(top->seconds));
	add_int(o, "events", top->nr_events - top->nr_events_before);
	json_object_object_add(o, "vms", vms);
	json_object_object_add(o, "memories", mems);
	json_object_object_add(o, "views", views);
	json_object_object_add(o, "devices", users);
	top->nr_events_before = top->nr_events;
	return o;
}
