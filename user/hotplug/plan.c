// SPDX-License-Identifier: GPL-2.0-only
/*
 * What the policy makes of one object. Nothing is taken from where it is in use, a zone
 * or a driver, unless the rule says so: a policy that is too broad does too little.
 */
#include <ctype.h>
#include <limits.h>
#include <stdarg.h>
#include <stdio.h>
#include <string.h>
#include <unistd.h>

#include "plug.h"

#define PCI_CLASS_BRIDGE_PCI	0x0604u

__attribute__((format(printf, 2, 3)))
static void leave(struct plug_verdict *v, const char *fmt, ...)
{
	va_list ap;

	v->change = false;
	va_start(ap, fmt);
	vsnprintf(v->why, sizeof(v->why), fmt, ap);
	va_end(ap);
}

static void want(struct plug_verdict *v, const struct plug_state *after)
{
	v->change = true;
	v->after = *after;
}

static void already(const struct plug_object *o, struct plug_verdict *v)
{
	char text[PLUG_STATE_TEXT];

	leave(v, "is so already: %s", plug_state_text(o->class_, &o->now, text));
}

/* ---- CPUs ------------------------------------------------------------------------ */

static void decide_cpu(struct plug_object *o, struct plug_verdict *v)
{
	struct plug_state after = { .online = v->rule->verb == PLUG_ONLINE };

	if (o->now.online == after.online)
		already(o, v);
	else if (o->cpu.fixed)
		leave(v, "the kernel does not let it go offline");
	else
		want(v, &after);
}

/* ---- memory ------------------------------------------------------------------------ */

/* Does the kernel offer an offline block to a zone that meets @zone? */
static bool offered(const struct plug_object *o, const char *zone)
{
	char zones[sizeof(o->memory.zones)], *save = NULL;
	struct plug_state wish = { 0 }, now = { 0 };

	strcpy(zones, o->memory.zones);
	strcpy(wish.zone, zone);
	for (char *z = strtok_r(zones, " ", &save); z; z = strtok_r(NULL, " ", &save)) {
		snprintf(now.zone, sizeof(now.zone), "%s", z);
		if (strcmp(z, "none") && plug_state_meets(&now, &wish))
			return true;
	}
	return false;
}

static void decide_zone(struct plug_object *o, struct plug_verdict *v, const char *zone)
{
	struct plug_state after = { .online = true };

	strcpy(after.zone, zone);
	if (plug_state_meets(&o->now, &after))
		already(o, v);
	else if (!o->now.online && !offered(o, zone))
		leave(v, "the kernel has no such zone for it (valid_zones: %s)", o->memory.zones);
	else if (!o->now.online)
		want(v, &after);
	else if (!strcmp(o->now.zone, "none"))
		leave(v, "it spans several zones and cannot go offline");
	else if (!v->rule->take)
		leave(v, "it is in zone %s, and would have to go offline first; 'rezone' in line %u allows that",
		      o->now.zone, v->rule->line);
	else
		want(v, &after);
}

static void decide_memory(struct plug_object *o, struct plug_verdict *v)
{
	static const struct plug_state offline;

	if (v->rule->verb == PLUG_ONLINE)
		decide_zone(o, v, PLUG_ZONE_ANY);
	else if (v->rule->verb == PLUG_ONLINE_KERNEL)
		decide_zone(o, v, PLUG_ZONE_KERNEL);
	else if (v->rule->verb == PLUG_ONLINE_MOVABLE)
		decide_zone(o, v, PLUG_ZONE_MOVABLE);
	else if (!o->now.online)
		already(o, v);
	else if (!strcmp(o->now.zone, "none"))
		leave(v, "it spans several zones and cannot go offline");
	else
		want(v, &offline);
}

/* ---- PCI ----------------------------------------------------------------------------- */

static bool driver_is_there(const struct plug_host *host, const char *driver)
{
	char path[PATH_MAX];

	snprintf(path, sizeof(path), "%s/bus/pci/drivers/%s", host->sysfs, driver);
	return !access(path, F_OK);
}

static void decide_driver(const struct plug_host *host, struct plug_object *o,
			  struct plug_verdict *v)
{
	const struct plug_rule *r = v->rule;
	struct plug_state after = { 0 };

	strcpy(after.driver, r->arg);
	strcpy(after.override, r->arg);
	if (!strcmp(o->now.driver, r->arg))	/* by which way it came is all the same */
		already(o, v);
	else if (!driver_is_there(host, r->arg))
		leave(v, "there is no PCI driver %s; 'modprobe %s' may load it", r->arg, r->arg);
	else if (*o->now.driver && !r->take)
		leave(v, "driver %s has it; 'rebind' in line %u would take it away",
		      o->now.driver, r->line);
	else
		want(v, &after);
}

static void decide_no_driver(struct plug_object *o, struct plug_verdict *v)
{
	struct plug_state after = o->now;

	after.driver[0] = '\0';
	if (!*o->now.driver)
		already(o, v);
	else
		want(v, &after);
}

static void decide_pci(const struct plug_host *host, struct plug_object *o,
		       struct plug_verdict *v)
{
	if (o->pci.class_code >> 8 == PCI_CLASS_BRIDGE_PCI)
		leave(v, "it is a PCI bridge, which others depend on");
	else if (o->pci.odd)
		leave(v, "its driver_override is longer than %d bytes", PLUG_WORD_MAX);
	else if (v->rule->verb == PLUG_DRIVER)
		decide_driver(host, o, v);
	else
		decide_no_driver(o, v);
}

/* ---- network ---------------------------------------------------------------------------- */

/* [a-z][a-z0-9-]*, which is what the runner takes */
static void device_id(const char *name, char id[32])
{
	snprintf(id, 32, "tap-%.27s", name);
	for (char *c = id; *c; c++)
		*c = isalnum((unsigned char)*c) ? (char)tolower((unsigned char)*c) : '-';
}

static void decide_net(struct plug_object *o, struct plug_verdict *v)
{
	struct plug_state after = { 0 };

	if (!o->net.tap) {
		leave(v, "it is no tap, and the runner takes no other network device");
	} else if (plug_look_vm(o, v->rule->arg)) {
		leave(v, "%s", plug_error());
	} else if (*o->now.vm) {
		already(o, v);
	} else {
		strcpy(after.vm, v->rule->arg);
		device_id(o->name, after.id);
		want(v, &after);
	}
}

void plug_decide(const struct plug_host *host, const struct plug_policy *policy,
		 struct plug_object *o, struct plug_verdict *v)
{
	*v = (struct plug_verdict) { 0 };
	for (size_t i = 0; i < policy->nr_rules && !v->rule; i++)
		if (plug_rule_fits(&policy->rules[i], o))
			v->rule = &policy->rules[i];
	if (!v->rule)
		leave(v, "no rule fits it");
	else if (v->rule->verb == PLUG_LEAVE)
		leave(v, "line %u says so", v->rule->line);
	else if (o->class_ == PLUG_CPU)
		decide_cpu(o, v);
	else if (o->class_ == PLUG_MEMORY)
		decide_memory(o, v);
	else if (o->class_ == PLUG_PCI)
		decide_pci(host, o, v);
	else
		decide_net(o, v);
}
