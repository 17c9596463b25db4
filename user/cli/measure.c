// SPDX-License-Identifier: GPL-2.0-only
/*
 * vmplat host --measure: what no file tells of a host, tried on it: what its clocks are worth,
 * how punctual it wakes who sleeps, and whether a VMM may generate code and emulate devices by
 * faults. For about a quarter of a second.
 */
#include "measure.h"

#include <inttypes.h>
#include <json-c/json.h>
#include <stdio.h>
#include <string.h>

#include <vmplat_clock.h>
#include <vmplat_error.h>
#include <vmplat_fault.h>
#include <vmplat_map.h>

#include "cli.h"
#include "pci.h"

#define PERIOD_NS	1000000u
#define PERIODS		100u
#define TSC_READS	100000u
#define MMIO_BYTES	4096u
#define MMIO_READS	1000u
#define ANSWER		0x600dc0deu

static const struct {
	clockid_t id;
	const char *name;
} clocks[NR_MEASURED_CLOCKS] = {
	{ CLOCK_MONOTONIC, "monotonic" },
	{ CLOCK_MONOTONIC_RAW, "monotonic-raw" },
	{ CLOCK_MONOTONIC_COARSE, "monotonic-coarse" },
	{ CLOCK_BOOTTIME, "boottime" },
	{ CLOCK_REALTIME, "realtime" },
};

/* why the call before did not work */
static void keep_reason(char why[MEASURE_WHY])
{
	snprintf(why, MEASURE_WHY, "%s", vmplat_last_error());
}

/* ---- time ---------------------------------------------------------------------- */

static void measure_timer(struct measured *m)
{
	struct vmplat_timer *t;
	int64_t ret = vmplat_timer_new(&t, CLOCK_MONOTONIC);

	if (!ret)
		ret = vmplat_timer_every(t, PERIOD_NS);
	for (unsigned int i = 0; i < PERIODS && ret >= 0; i++)
		ret = vmplat_timer_wait(t, UINT64_MAX);
	if (ret < 0)
		keep_reason(m->timer_why);
	else
		vmplat_timer_query(t, &m->timer);
	vmplat_timer_close(t);
}

/* How far off the counter's time is shows after a while: the timer is measured meanwhile. */
static void measure_time(struct measured *m)
{
	struct vmplat_tsc *tsc;
	uint64_t begin, end;

	if (vmplat_tsc_open(&tsc, 0)) {
		keep_reason(m->tsc_why);
		measure_timer(m);
		return;
	}
	m->tsc_hz = vmplat_tsc_hz(tsc);
	begin = end = vmplat_tsc_ns(tsc);
	for (unsigned int i = 1; i < TSC_READS; i++)
		end = vmplat_tsc_ns(tsc);
	m->tsc_read_ns = (double)(end - begin) / (TSC_READS - 1);
	vmplat_tsc_sync(tsc);
	begin = vmplat_now_ns();
	measure_timer(m);
	m->tsc_off_ns = vmplat_tsc_sync(tsc);
	m->tsc_after_ns = vmplat_now_ns() - begin;
	vmplat_tsc_close(tsc);
}

/* ---- code ---------------------------------------------------------------------- */

#if defined(__x86_64__)

/* mov $ANSWER, %eax; ret */
static const uint8_t code[] = {
	0xb8, ANSWER & 0xff, ANSWER >> 8 & 0xff, ANSWER >> 16 & 0xff, ANSWER >> 24, 0xc3,
};

static bool answers(const struct vmplat_jit *jit)
{
	uint32_t (*fn)(void);
	const void *at = vmplat_jit_exec(jit);

	memcpy(&fn, &at, sizeof(fn));
	return fn() == ANSWER;
}

#else

static const uint8_t code[1];

static bool answers(const struct vmplat_jit *jit)
{
	return true;		/* that it may be mapped is all that is tried here */
}

#endif

static void measure_code(struct measured *m)
{
	struct vmplat_jit *jit;

	if (vmplat_jit_new(&jit, sizeof(code))) {
		keep_reason(m->code_why);
		return;
	}
	memcpy(vmplat_jit_write(jit), code, sizeof(code));
	if (vmplat_jit_publish(jit, 0, sizeof(code), 0) || vmplat_jit_seal(jit))
		keep_reason(m->code_why);
	else if (!answers(jit))
		snprintf(m->code_why, sizeof(m->code_why), "the code that ran is not the one that was written");
	vmplat_jit_close(jit);
}

/* ---- faults ---------------------------------------------------------------------- */

static uint64_t mmio_read(void *data, uint64_t offset, unsigned int bytes)
{
	return offset;
}

static void mmio_write(void *data, uint64_t offset, unsigned int bytes, uint64_t value)
{
}

static const struct vmplat_mmio_ops mmio_ops = { mmio_read, mmio_write };

static void read_device(struct measured *m, const volatile uint32_t *registers)
{
	uint64_t begin = vmplat_now_ns();
	unsigned int wrong = 0;

	for (unsigned int i = 0; i < MMIO_READS; i++)
		wrong += registers[i % 16] != 4 * (i % 16);
	m->mmio_read_ns = (double)(vmplat_now_ns() - begin) / MMIO_READS;
	if (wrong)
		snprintf(m->mmio_why, sizeof(m->mmio_why), "%u of %u registers were read wrongly",
			 wrong, MMIO_READS);
}

static void measure_faults(struct measured *m)
{
	const struct vmplat_map_options o = { .flags = VMPLAT_MAP_F_NO_ACCESS };
	struct vmplat_fault_range *range;
	struct vmplat_map *map;

	if (vmplat_map_new(&map, MMIO_BYTES, &o)) {
		keep_reason(m->mmio_why);
		return;
	}
	if (vmplat_fault_add_mmio(&range, vmplat_map_addr(map), MMIO_BYTES, &mmio_ops, NULL,
				  VMPLAT_FAULT_F_THREAD)) {
		keep_reason(m->mmio_why);
	} else {
		read_device(m, vmplat_map_addr(map));
		vmplat_fault_remove(range);
	}
	vmplat_map_close(map);
}

/* ---- all of it ---------------------------------------------------------------------- */

void measure(struct measured *m)
{
	memset(m, 0, sizeof(*m));
	for (size_t i = 0; i < NR_MEASURED_CLOCKS; i++)
		vmplat_clock_query(clocks[i].id, &m->clocks[i]);
	measure_time(m);
	measure_code(m);
	measure_faults(m);
}

static struct json_object *real(double v)
{
	char text[40];

	snprintf(text, sizeof(text), "%.2f", v);
	return json_object_new_double_s(v, text);
}

/* an object for what worked, or with the reason why it did not */
static struct json_object *ability(const char *why)
{
	struct json_object *o = json_object_new_object();

	json_object_object_add(o, "works", json_object_new_boolean(!*why));
	json_text(o, "reason", *why ? why : NULL);
	return o;
}

static struct json_object *clocks_json(const struct measured *m)
{
	struct json_object *all = json_object_new_object();

	for (size_t i = 0; i < NR_MEASURED_CLOCKS; i++) {
		struct json_object *o = json_object_new_object();

		json_number(o, "resolution_ns", m->clocks[i].resolution_ns);
		json_number(o, "step_ns", m->clocks[i].step_ns);
		json_object_object_add(o, "read_ns", real(m->clocks[i].read_ns));
		json_object_object_add(all, clocks[i].name, o);
	}
	return all;
}

static struct json_object *tsc_json(const struct measured *m)
{
	struct json_object *o = ability(m->tsc_why);

	if (*m->tsc_why)
		return o;
	json_object_object_add(o, "hz", real(m->tsc_hz));
	json_object_object_add(o, "read_ns", real(m->tsc_read_ns));
	json_object_object_add(o, "off_ns", json_object_new_int64(m->tsc_off_ns));
	json_number(o, "after_ns", m->tsc_after_ns);
	return o;
}

static struct json_object *timer_json(const struct measured *m)
{
	struct json_object *o = ability(m->timer_why);

	if (*m->timer_why)
		return o;
	json_number(o, "period_ns", PERIOD_NS);
	json_number(o, "taken", m->timer.taken);
	json_number(o, "missed", m->timer.missed);
	json_object_object_add(o, "late_mean_ns", real(m->timer.late_mean_ns));
	json_number(o, "late_99_ns", vmplat_timer_late_ns(&m->timer, 0.99));
	json_number(o, "late_max_ns", m->timer.late_max_ns);
	json_object_object_add(o, "jitter_ns", real(m->timer.jitter_ns));
	return o;
}

struct json_object *measured_json(const struct measured *m)
{
	struct json_object *o = json_object_new_object(), *mmio = ability(m->mmio_why);

	json_text(o, "clock_source", *m->clocks[0].source ? m->clocks[0].source : NULL);
	json_object_object_add(o, "clocks", clocks_json(m));
	json_object_object_add(o, "counter", tsc_json(m));
	json_object_object_add(o, "timer", timer_json(m));
	json_object_object_add(o, "generated_code", ability(m->code_why));
	if (!*m->mmio_why)
		json_object_object_add(mmio, "read_ns", real(m->mmio_read_ns));
	json_object_object_add(o, "emulation_by_faults", mmio);
	return o;
}

void measured_print(const struct measured *m)
{
	char a[CLI_NUM_LEN], b[CLI_NUM_LEN], c[CLI_NUM_LEN];

	for (size_t i = 0; i < NR_MEASURED_CLOCKS; i++)
		printf("%-10s %s: steps of %s, %.1f ns to read%s%s\n", i ? "" : "clocks", clocks[i].name,
		       cli_show_ns(m->clocks[i].step_ns, a), m->clocks[i].read_ns,
		       i ? "" : ", by ", i ? "" : m->clocks[i].source);
	if (*m->tsc_why)
		printf("%-10s %s\n", "counter", m->tsc_why);
	else
		printf("%-10s %.3f MHz, %.1f ns to read; off by %" PRId64 " ns after %s\n", "counter",
		       m->tsc_hz / 1e6, m->tsc_read_ns, m->tsc_off_ns, cli_show_ns(m->tsc_after_ns, a));
	if (*m->timer_why)
		printf("%-10s %s\n", "timer", m->timer_why);
	else
		printf("%-10s %" PRIu64 " of 1 ms: late by %s on average, 99 %% by less than %s, all by %s or less; %" PRIu64 " missed\n",
		       "timer", m->timer.taken + m->timer.missed, cli_show_ns((uint64_t)m->timer.late_mean_ns, a),
		       cli_show_ns(vmplat_timer_late_ns(&m->timer, 0.99), b),
		       cli_show_ns(m->timer.late_max_ns, c), m->timer.missed);
	printf("%-10s %s\n", "code", *m->code_why ? m->code_why :
	       "may be generated: never writable where it is executed, and sealed in the end");
	if (*m->mmio_why)
		printf("%-10s %s\n", "faults", m->mmio_why);
	else
		printf("%-10s emulate devices: %s a register\n", "faults",
		       cli_show_ns((uint64_t)m->mmio_read_ns, a));
}
