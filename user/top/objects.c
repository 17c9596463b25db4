// SPDX-License-Identifier: GPL-2.0-only
/* Which VMs, memories and views there are, and who uses which device: as events tell. */
#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "top/top.h"

#define SHOWN_CLASSES	(1u << VMPLAT_CLASS_PCI | 1u << VMPLAT_CLASS_MEM | \
			 1u << VMPLAT_CLASS_VIEW | 1u << VMPLAT_CLASS_VM)

/* The item with this id, which every item begins with; NULL if there is none. */
static void *find(void *items, size_t nr, size_t size, uint64_t id)
{
	for (char *at = items; nr--; at += size)
		if (!memcmp(at, &id, sizeof(id)))
			return at;
	return NULL;
}

#define FIND(list, id)	((__typeof__((list)->items))find((list)->items, (list)->nr, \
							 sizeof(*(list)->items), id))

/* Room for one more item, zeroed, or NULL. */
static void *append(void **items, size_t *nr, size_t *room, size_t size)
{
	if (*nr == *room) {
		size_t more = *room ? 2 * *room : 16;
		void *new = reallocarray(*items, more, size);

		if (!new)
			return NULL;
		*items = new;
		*room = more;
	}
	return memset((char *)*items + (*nr)++ * size, 0, size);
}

static void drop(void *items, size_t *nr, size_t size, void *item)
{
	char *end = (char *)items + (*nr)-- * size, *next = (char *)item + size;

	memmove(item, next, end - next);
}

/*
 * The item of a list that an event is about. *@isnew: there was none, and it is zeroed but for its id. NULL: it is gone,
 * after @forget, or top->error says why it cannot be had.
 */
static void *item_of(struct top *top, void **items, size_t *nr, size_t *room, size_t size,
		     const struct vmplat_event *e, void (*forget)(void *item), bool *isnew)
{
	void *item = find(*items, *nr, size, e->id);

	*isnew = !item;
	if (e->gone) {
		if (item && forget)
			forget(item);
		if (item)
			drop(*items, nr, size, item);
		return NULL;
	}
	if (item)
		return item;
	item = append(items, nr, room, size);
	if (item)
		memcpy(item, &e->id, sizeof(e->id));
	else
		top->error = -ENOMEM;
	return item;
}

#define ITEM_OF(top, list, e, forget, isnew)						\
	((__typeof__((list)->items))item_of(top, (void **)&(list)->items, &(list)->nr,	\
					    &(list)->room, sizeof(*(list)->items), e, forget, isnew))

struct top_mem *top_mem(struct top *top, uint64_t id)
{
	return FIND(&top->mems, id);
}

struct top_vm *top_vm_of(struct top *top, uint64_t mem)
{
	for (size_t i = 0; i < top->vms.nr; i++)
		for (size_t j = 0; j < top->vms.items[i].nr_mems; j++)
			if (top->vms.items[i].mems[j] == mem)
				return &top->vms.items[i];
	return NULL;
}

/* Names come from users: nothing that a terminal would act on. */
static void copy_name(char *to, size_t bytes, const char *from)
{
	size_t n = 0;

	for (; *from && n + 1 < bytes; from++)
		to[n++] = *from >= ' ' && *from <= '~' ? *from : '?';
	to[n] = 0;
}

/* ---- one class each ---------------------------------------------------------- */

static void close_log(void *item)
{
	struct top_mem *mem = item;

	vmplat_log_close(mem->log);
}

static void set_mem(struct top *top, const struct vmplat_event *e)
{
	bool isnew;
	struct top_mem *mem = ITEM_OF(top, &top->mems, e, close_log, &isnew);
	struct vmplat_field f;
	size_t pos = 0;

	if (!mem)
		return;
	if (isnew)
		mem->dirty_pages = TOP_UNKNOWN;
	while (vmplat_event_field(e, &pos, &f)) {
		switch (f.attr) {
		case VMPLAT_NL_MEM_BYTES:
			mem->bytes = f.number;
			break;
		case VMPLAT_NL_MEM_DEV:
			mem->dev = f.number;
			break;
		case VMPLAT_NL_MEM_INO:
			mem->ino = f.number;
			break;
		case VMPLAT_NL_MEM_FILL:
			mem->fill = f.number;
			break;
		}
	}
}

static void set_vm(struct top *top, const struct vmplat_event *e)
{
	bool isnew;
	struct top_vm *vm = ITEM_OF(top, &top->vms, e, NULL, &isnew);
	struct vmplat_field f;
	size_t pos = 0;

	if (!vm)
		return;
	if (isnew)
		vm->cpu_percent = TOP_UNKNOWN;
	vm->nr_mems = 0;
	vm->reason[0] = 0;
	while (vmplat_event_field(e, &pos, &f)) {
		switch (f.attr) {
		case VMPLAT_NL_VM_NAME:
			copy_name(vm->name, sizeof(vm->name), f.string);
			break;
		case VMPLAT_NL_VM_REASON:
			copy_name(vm->reason, sizeof(vm->reason), f.string);
			break;
		case VMPLAT_NL_VM_STATE:
			vm->state = f.number;
			vm->state_name = f.word;
			break;
		case VMPLAT_NL_VM_PID:
			vm->pid = f.number;
			break;
		case VMPLAT_NL_VM_MEM:
			if (vm->nr_mems < VMPLAT_VM_MEMS_MAX)
				vm->mems[vm->nr_mems++] = f.number;
			break;
		}
	}
}

static void set_view(struct top *top, const struct vmplat_event *e)
{
	bool isnew;
	struct top_view *view = ITEM_OF(top, &top->views, e, NULL, &isnew);
	struct vmplat_field f;
	size_t pos = 0;

	if (!view)
		return;
	if (isnew)
		view->side_bytes = TOP_UNKNOWN;
	view->nr_mems = 0;
	while (vmplat_event_field(e, &pos, &f)) {
		switch (f.attr) {
		case VMPLAT_NL_VIEW_BYTES:
			view->bytes = f.number;
			break;
		case VMPLAT_NL_VIEW_STATE:
			view->state = f.number;
			view->state_name = f.word;
			break;
		case VMPLAT_NL_VIEW_SIDE_LIMIT:
			view->side_limit = f.number;
			break;
		case VMPLAT_NL_VIEW_MEM:
			if (view->nr_mems < VMPLAT_VIEW_MAX_MEMS)
				view->mems[view->nr_mems++] = f.number;
			break;
		}
	}
}

/* Only devices that somebody has open are of interest: others are as good as gone. */
static void set_user(struct top *top, const struct vmplat_event *e)
{
	struct top_user new = { .id = e->id }, *user;
	struct vmplat_event event = *e;
	struct vmplat_field f;
	size_t pos = 0;
	bool isnew;

	while (vmplat_event_field(e, &pos, &f)) {
		switch (f.attr) {
		case VMPLAT_NL_PCI_ADDRESS:
			copy_name(new.address, sizeof(new.address), f.string);
			break;
		case VMPLAT_NL_PCI_DRIVER:
			copy_name(new.driver, sizeof(new.driver), f.string);
			break;
		case VMPLAT_NL_PCI_USER:
			new.user = f.number;
			break;
		case VMPLAT_NL_PCI_ASKED:
			new.asked = true;
			break;
		}
	}
	event.gone |= !new.user;
	user = ITEM_OF(top, &top->users, &event, NULL, &isnew);
	if (user)
		*user = new;
}

static void remember(struct top *top, const struct vmplat_event *e)
{
	struct top_event *r = &top->recent[top->nr_events++ % TOP_EVENTS];
	const char *class = vmplat_class_name(e->class_), *action = vmplat_action_name(e->action);
	size_t pos = 0, len;
	struct vmplat_field f;
	char value[TOP_NAME];

	r->time_ns = e->time_ns;
	snprintf(r->text, sizeof(r->text), "%-6s %-9s", class ? class : "?", action ? action : "?");
	while (vmplat_event_field(e, &pos, &f)) {
		if (f.type != VMPLAT_FIELD_STRING && !f.word)
			continue;
		copy_name(value, sizeof(value), f.word ? f.word : f.string);
		len = strlen(r->text);
		snprintf(r->text + len, sizeof(r->text) - len, " %s", value);
	}
	if (e->pid) {
		copy_name(value, sizeof(value), e->comm);
		len = strlen(r->text);
		snprintf(r->text + len, sizeof(r->text) - len, "  by %s(%u)", value, e->pid);
	}
}

/* ---- the stream ---------------------------------------------------------------- */

static void forget(struct top *top)
{
	for (size_t i = 0; i < top->mems.nr; i++)
		vmplat_log_close(top->mems.items[i].log);
	top->mems.nr = top->vms.nr = top->views.nr = top->users.nr = 0;
}

static int on_event(const struct vmplat_event *e, void *data)
{
	static void (*const set[])(struct top *, const struct vmplat_event *) = {
		[VMPLAT_CLASS_PCI] = set_user, [VMPLAT_CLASS_MEM] = set_mem,
		[VMPLAT_CLASS_VIEW] = set_view, [VMPLAT_CLASS_VM] = set_vm,
	};
	struct top *top = data;

	switch (e->kind) {
	case VMPLAT_EVENT_RESET:
		forget(top);
		top->down = top->synced = false;
		return 0;
	case VMPLAT_EVENT_SYNC:
		top->synced = true;
		return 0;
	case VMPLAT_EVENT_DOWN:
		forget(top);
		top->down = true;
		return 0;
	case VMPLAT_EVENT_CHANGED:
		remember(top, e);
		break;
	default:
		break;
	}
	if (e->class_ < sizeof(set) / sizeof(*set) && set[e->class_])
		set[e->class_](top, e);
	return top->error;
}

int top_read(struct top *top)
{
	int rc = vmplat_events_read(top->events, on_event, top);

	return top->error ? vmplat_error_set(top->error, "out of memory") : rc < 0 ? rc : 0;
}

int top_open(struct top *top)
{
	static const struct vmplat_event_filter filter = { .classes = SHOWN_CLASSES };

	return vmplat_events_open(&top->events, top->dev, &filter, NULL, 0);
}

void top_close(struct top *top)
{
	forget(top);
	vmplat_events_close(top->events);
	free(top->mems.items);
	free(top->vms.items);
	free(top->views.items);
	free(top->users.items);
	*top = (struct top) { 0 };
}
