// SPDX-License-Identifier: GPL-2.0-only
#include "cpus.h"

#include <json-c/json.h>
#include <stdbool.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>

static struct json_object *get(struct json_object *o, const char *key)
{
	struct json_object *v = NULL;

	if (o)
		json_object_object_get_ex(o, key, &v);
	return v;
}

static const char *text(struct json_object *o, const char *key)
{
	struct json_object *v = get(o, key);

	return v ? json_object_get_string(v) : "-";
}

static bool is(struct json_object *o, const char *key)
{
	return json_object_get_boolean(get(o, key));
}

static void print_registers(FILE *f, struct json_object *r, const char *eol)
{
	static const char *const rows[][4] = {
		{ "rip", "rflags", "cs", "efer" }, { "rax", "rbx", "rcx", "rdx" },
		{ "rsi", "rdi", "rbp", "rsp" }, { "r8", "r9", "r10", "r11" },
		{ "r12", "r13", "r14", "r15" }, { "cr0", "cr2", "cr3", "cr4" },
	};

	for (size_t i = 0; i < sizeof(rows) / sizeof(rows[0]); i++) {
		for (size_t j = 0; j < 4; j++)
			fprintf(f, "  %-6s %016llx", rows[i][j], strtoull(text(r, rows[i][j]), NULL, 16));
		fputs(eol, f);
	}
}

static void print_vectors(FILE *f, struct json_object *list)
{
	size_t nr = list ? json_object_array_length(list) : 0;

	for (size_t i = 0; i < nr; i++)
		fprintf(f, " %d", json_object_get_int(json_object_array_get_idx(list, i)));
	if (!nr)
		fputs(" none", f);
}

static void print_timer(FILE *f, struct json_object *t, const char *eol)
{
	struct json_object *due = get(t, "due_ns");
	double ms = (double)json_object_get_int64(due) / 1e6;

	fprintf(f, "  timer: vector %s%s, %s", text(t, "vector"), is(t, "masked") ? ", masked" : "",
		text(t, "mode"));
	if (get(t, "left"))
		fprintf(f, ", %s of %s left%s", text(t, "left"), text(t, "initial"), eol);
	else if (!due)
		fprintf(f, ", not set%s", eol);
	else if (ms < 0)
		fprintf(f, ", overdue by %.3f ms%s", -ms, eol);
	else
		fprintf(f, ", due in %.3f ms%s", ms, eol);
}

static void print_interrupts(FILE *f, struct json_object *cpu, const char *eol)
{
	struct json_object *apic = get(cpu, "apic");

	if (get(cpu, "injecting"))
		fprintf(f, "  on its way in: %s%s", text(cpu, "injecting"), eol);
	if (is(cpu, "nmi_pending"))
		fprintf(f, "  an NMI waits%s", eol);
	if (!apic)
		return;
	fprintf(f, "  APIC%s: in service", is(apic, "enabled") ? "" : " (off)");
	print_vectors(f, get(apic, "in_service"));
	fputs("; waiting", f);
	print_vectors(f, get(apic, "waiting"));
	fputs(eol, f);
	print_timer(f, get(apic, "timer"), eol);
}

void cpus_print(FILE *f, struct json_object *cpu, const char *eol)
{
	fprintf(f, "vCPU %s %s, in %s mode, interrupts %s, latest exit %s%s", text(cpu, "index"),
		text(cpu, "activity"), text(cpu, "mode"), is(cpu, "interrupts") ? "on" : "off",
		text(cpu, "exit"), eol);
	print_registers(f, get(cpu, "registers"), eol);
	if (get(cpu, "code"))
		fprintf(f, "  code at rip: %s%s", text(cpu, "code"), eol);
	print_interrupts(f, cpu, eol);
}
