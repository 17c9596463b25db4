// SPDX-License-Identifier: GPL-2.0-only
/* States: compared, shown, written down. */
#include <errno.h>
#include <json-c/json.h>
#include <stdio.h>
#include <string.h>

#include "plug.h"

static const char *const classes[PLUG_NR_CLASSES] = {
	[PLUG_CPU] = "cpu", [PLUG_MEMORY] = "memory", [PLUG_PCI] = "pci", [PLUG_NETDEV] = "net",
};

const char *plug_class_name(enum plug_class class_)
{
	return classes[class_];
}

int plug_class_of(const char *name)
{
	for (int i = 0; i < PLUG_NR_CLASSES; i++)
		if (!strcmp(name, classes[i]))
			return i;
	return -1;
}

/* ---- comparing ----------------------------------------------------------------- */

bool plug_state_same(const struct plug_state *a, const struct plug_state *b)
{
	return a->online == b->online && !strcmp(a->zone, b->zone) &&
	       !strcmp(a->driver, b->driver) && !strcmp(a->override, b->override) &&
	       !strcmp(a->vm, b->vm) && !strcmp(a->id, b->id);
}

static bool zone_meets(const char *now, const char *wish)
{
	if (!strcmp(wish, PLUG_ZONE_ANY))
		return true;
	if (!strcmp(wish, PLUG_ZONE_KERNEL))
		return strcmp(now, PLUG_ZONE_MOVABLE);
	return !strcmp(now, wish);
}

bool plug_state_meets(const struct plug_state *now, const struct plug_state *wish)
{
	return now->online == wish->online && zone_meets(now->zone, wish->zone) &&
	       !strcmp(now->driver, wish->driver) && !strcmp(now->override, wish->override) &&
	       !strcmp(now->vm, wish->vm) && !strcmp(now->id, wish->id);
}

/* ---- for people ------------------------------------------------------------------ */

static void memory_text(const struct plug_state *s, char *buf)
{
	if (!s->online)
		strcpy(buf, "offline");
	else if (!strcmp(s->zone, PLUG_ZONE_ANY))
		strcpy(buf, "online");
	else if (!strcmp(s->zone, PLUG_ZONE_KERNEL))
		strcpy(buf, "online in a kernel zone");
	else if (!strcmp(s->zone, "none"))
		strcpy(buf, "online in several zones");
	else
		sprintf(buf, "online in zone %s", s->zone);
}

static void pci_text(const struct plug_state *s, char *buf)
{
	int n = sprintf(buf, *s->driver ? "driver %s" : "no driver", s->driver);

	if (*s->override)
		sprintf(buf + n, ", override %s", s->override);
}

const char *plug_state_text(enum plug_class class_, const struct plug_state *s,
			    char buf[PLUG_STATE_TEXT])
{
	switch (class_) {
	case PLUG_CPU:
		strcpy(buf, s->online ? "online" : "offline");
		break;
	case PLUG_MEMORY:
		memory_text(s, buf);
		break;
	case PLUG_PCI:
		pci_text(s, buf);
		break;
	default:
		if (*s->vm)
			sprintf(buf, "in VM %s as %s", s->vm, s->id);
		else
			strcpy(buf, "in no VM");
	}
	return buf;
}

/* ---- for machines ------------------------------------------------------------------ */

static void put(struct json_object *o, const char *key, const char *value)
{
	json_object_object_add(o, key, *value ? json_object_new_string(value) : NULL);
}

struct json_object *plug_state_to_json(enum plug_class class_, const struct plug_state *s)
{
	struct json_object *o = json_object_new_object();

	if (class_ == PLUG_CPU || class_ == PLUG_MEMORY)
		json_object_object_add(o, "online", json_object_new_boolean(s->online));
	if (class_ == PLUG_MEMORY)
		put(o, "zone", s->zone);
	if (class_ == PLUG_PCI) {
		put(o, "driver", s->driver);
		put(o, "driver_override", s->override);
	}
	if (class_ == PLUG_NETDEV) {
		put(o, "vm", s->vm);
		put(o, "id", s->id);
	}
	return o;
}

/* a member that is a string or null */
static int get(struct json_object *o, const char *key, char *to, size_t room)
{
	struct json_object *v;
	const char *text;

	if (!json_object_object_get_ex(o, key, &v))
		return -EBADMSG;
	if (v && !json_object_is_type(v, json_type_string))
		return -EBADMSG;
	text = v ? json_object_get_string(v) : "";
	if (strlen(text) >= room)
		return -EBADMSG;
	strcpy(to, text);
	return 0;
}

int plug_state_from_json(enum plug_class class_, struct json_object *o, struct plug_state *s)
{
	struct json_object *v;
	int err = 0;

	*s = (struct plug_state) { 0 };
	if (class_ == PLUG_CPU || class_ == PLUG_MEMORY) {
		if (!json_object_object_get_ex(o, "online", &v) ||
		    !json_object_is_type(v, json_type_boolean))
			return -EBADMSG;
		s->online = json_object_get_boolean(v);
	}
	if (class_ == PLUG_MEMORY)
		err = get(o, "zone", s->zone, sizeof(s->zone));
	if (class_ == PLUG_PCI)
		err = get(o, "driver", s->driver, sizeof(s->driver)) ?:
		      get(o, "driver_override", s->override, sizeof(s->override));
	if (class_ == PLUG_NETDEV)
		err = get(o, "vm", s->vm, sizeof(s->vm)) ?: get(o, "id", s->id, sizeof(s->id));
	return err;
}
