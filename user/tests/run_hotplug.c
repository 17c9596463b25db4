// SPDX-License-Identifier: LGPL-2.1-or-later
/* The hot-plug controller's registers and answers, and the AML that uses them. */
#include <stdint.h>

#include "fake_vm.h"
#include "run/acpi_hotplug.h"
#include "run/aml.h"
#include "run/hotplug.h"
#include "tap.h"

#define MEM0		HOTPLUG_UNIT_MEM
#define MEM_REG(n, off)	(HOTPLUG_PORT + HOTPLUG_MEM + (n) * HOTPLUG_MEM_BYTES + (off))

struct fixture {
	struct vm *vm;
	struct hotplug *hp;
};

static void setup(struct fixture *f)
{
	f->vm = fake_vm_new();
	if (hotplug_new(f->vm, &f->hp))
		abort();
}

static void teardown(struct fixture *f)
{
	fake_vm_free(f->vm);
}

static uint32_t rd(struct fixture *f, unsigned int off)
{
	return (uint32_t)fake_in(f->vm, (uint16_t)(HOTPLUG_PORT + off), 4);
}

static void wr(struct fixture *f, unsigned int off, uint32_t val)
{
	fake_out(f->vm, (uint16_t)(HOTPLUG_PORT + off), 4, val);
}

static int line(struct fixture *f)
{
	return f->vm->line[HOTPLUG_GSI];
}

TEST(requests_and_line)
{
	struct fixture f;

	setup(&f);
	CHECK_EQ(line(&f), 0);
	hotplug_tell(f.hp, 3);
	CHECK_EQ(line(&f), 1);
	CHECK_EQ(rd(&f, HOTPLUG_ADDED), 1 << 3);
	CHECK_EQ(rd(&f, HOTPLUG_ADDED + 4), 0);
	hotplug_want(f.hp, MEM0 + 5);
	CHECK_EQ(rd(&f, HOTPLUG_WANTED), 0);
	CHECK_EQ(rd(&f, HOTPLUG_WANTED + 4), 1 << 5);
	wr(&f, HOTPLUG_ADDED, ~(1u << 3));	/* acknowledges others only */
	CHECK_EQ(rd(&f, HOTPLUG_ADDED), 1 << 3);
	wr(&f, HOTPLUG_ADDED, 1 << 3);
	CHECK_EQ(line(&f), 1);
	wr(&f, HOTPLUG_WANTED + 4, 1 << 5);
	CHECK_EQ(line(&f), 0);
	CHECK_EQ(hotplug_cancel(f.hp, 3), false);	/* the guest has seen it */
	hotplug_tell(f.hp, 4);
	CHECK_EQ(hotplug_cancel(f.hp, 4), true);
	CHECK_EQ(line(&f), 0);
	/* wanting back replaces telling */
	hotplug_tell(f.hp, 4);
	hotplug_want(f.hp, 4);
	CHECK_EQ(rd(&f, HOTPLUG_ADDED), 0);
	CHECK_EQ(rd(&f, HOTPLUG_WANTED), 1 << 4);
	teardown(&f);
}

TEST(answers)
{
	struct fixture f;
	unsigned int told;

	setup(&f);
	CHECK_EQ(hotplug_answer(f.hp, MEM0, HOTPLUG_EVENT_CHECK), -1);
	told = f.vm->nr_changed;
	wr(&f, HOTPLUG_OST, MEM0 << 24 | HOTPLUG_EVENT_CHECK << 8 | HOTPLUG_OST_BUSY);
	CHECK_EQ(f.vm->nr_changed, told + 1);
	CHECK_EQ(hotplug_answer(f.hp, MEM0, HOTPLUG_EVENT_EJECT), -1);	/* to something else */
	CHECK_EQ(hotplug_answer(f.hp, MEM0, HOTPLUG_EVENT_CHECK), HOTPLUG_OST_BUSY);
	CHECK_EQ(hotplug_answer(f.hp, MEM0, HOTPLUG_EVENT_CHECK), -1);	/* once */
	wr(&f, HOTPLUG_OST, HOTPLUG_UNITS << 24 | HOTPLUG_EVENT_CHECK << 8);
	wr(&f, HOTPLUG_OST, 0xff000000);
	/* an old answer is none to a new question */
	wr(&f, HOTPLUG_OST, MEM0 << 24 | HOTPLUG_EVENT_EJECT << 8 | HOTPLUG_OST_BUSY);
	hotplug_want(f.hp, MEM0);
	CHECK_EQ(hotplug_answer(f.hp, MEM0, HOTPLUG_EVENT_EJECT), -1);
	teardown(&f);
}

TEST(eject)
{
	struct fixture f;
	unsigned int told;

	setup(&f);
	hotplug_memory(f.hp, 2, 0x140000000, 0x8000000);
	hotplug_tell(f.hp, MEM0 + 2);
	hotplug_want(f.hp, 7);
	told = f.vm->nr_changed;
	wr(&f, HOTPLUG_EJECTED + 4, 1 << 2);
	CHECK_EQ(f.vm->nr_changed, told + 1);
	CHECK_EQ(fake_in(f.vm, MEM_REG(2, HOTPLUG_MEM_STATUS), 4), 0);	/* at once, for _STA */
	CHECK_EQ(rd(&f, HOTPLUG_ADDED + 4), 0);
	CHECK(hotplug_ejected(f.hp, MEM0 + 2));
	CHECK(!hotplug_ejected(f.hp, MEM0 + 2));
	CHECK(!hotplug_ejected(f.hp, 7));
	wr(&f, HOTPLUG_EJECTED, 1 << 7);
	hotplug_want(f.hp, 7);			/* crossed on the way */
	CHECK(hotplug_ejected(f.hp, 7));
	/* an empty slot is ejected, then filled: that was about the old occupant */
	wr(&f, HOTPLUG_EJECTED, 1 << 9);
	hotplug_tell(f.hp, 9);
	CHECK(!hotplug_ejected(f.hp, 9));
	/* units that there are not */
	wr(&f, HOTPLUG_EJECTED + 4, 0xffff0000);
	teardown(&f);
}

TEST(memory)
{
	struct fixture f;

	setup(&f);
	CHECK_EQ(fake_in(f.vm, MEM_REG(15, HOTPLUG_MEM_STATUS), 4), 0);
	CHECK_EQ(fake_in(f.vm, MEM_REG(15, HOTPLUG_MEM_BASE), 4), 0);
	CHECK(!hotplug_described(f.hp, 15));	/* there was nothing to describe */
	hotplug_memory(f.hp, 15, 0x7c0000000, 0x188000000);
	CHECK_EQ(fake_in(f.vm, MEM_REG(15, HOTPLUG_MEM_STATUS), 4), 0x0f);
	CHECK(!hotplug_described(f.hp, 15));
	CHECK_EQ(fake_in(f.vm, MEM_REG(15, HOTPLUG_MEM_BASE), 4), 0xc0000000);
	CHECK(hotplug_described(f.hp, 15));
	CHECK_EQ(fake_in(f.vm, MEM_REG(15, HOTPLUG_MEM_BASE + 4), 4), 7);
	CHECK_EQ(fake_in(f.vm, MEM_REG(15, HOTPLUG_MEM_LENGTH), 4), 0x88000000);
	CHECK_EQ(fake_in(f.vm, MEM_REG(15, HOTPLUG_MEM_LENGTH + 4), 4), 1);
	CHECK_EQ(fake_in(f.vm, MEM_REG(15, HOTPLUG_MEM_STATUS + 4), 4), 0);
	CHECK_EQ(fake_in(f.vm, MEM_REG(14, HOTPLUG_MEM_STATUS), 4), 0);
	hotplug_memory(f.hp, 15, 0, 0);
	CHECK_EQ(fake_in(f.vm, MEM_REG(15, HOTPLUG_MEM_STATUS), 4), 0);
	teardown(&f);
}

/* Every port, every width, whatever is in it: nothing but what the registers say. */
TEST(odd_accesses)
{
	struct fixture f;

	setup(&f);
	for (unsigned int off = 0; off < HOTPLUG_PORT_BYTES; off++) {
		for (unsigned int len = 1; len <= 4; len *= 2) {
			fake_out(f.vm, (uint16_t)(HOTPLUG_PORT + off), len, 0xffffffff);
			CHECK_EQ(fake_in(f.vm, (uint16_t)(HOTPLUG_PORT + off), len),
				 off + len > HOTPLUG_PORT_BYTES ? fake_cut(~0ull, len) : 0);
		}
	}
	CHECK_EQ(line(&f), 0);
	teardown(&f);
}

TEST(reset_save_load)
{
	struct fixture a, b;
	struct state_writer w;
	struct state_blob blob;
	struct state_reader r;
	struct vm_device *d;
	uint32_t version;
	const char *why;

	setup(&a);
	setup(&b);
	hotplug_tell(a.hp, 5);
	hotplug_want(a.hp, MEM0 + 1);
	d = a.vm->devices;
	state_writer_init(&w);
	state_begin(&w, d->name, d->version);
	d->ops->save(d->opaque, &w);
	state_end(&w);
	state_writer_finish(&w);
	REQUIRE(!state_blob_parse(&blob, w.buf, w.len, &why));
	REQUIRE(!state_blob_find(&blob, "hotplug", &r, &version));
	CHECK_EQ(b.vm->devices->ops->load(b.vm->devices->opaque, &r, version), 0);
	CHECK_EQ(state_left(&r), 0);
	CHECK_EQ(line(&b), 1);
	CHECK_EQ(rd(&b, HOTPLUG_ADDED), 1 << 5);
	CHECK_EQ(rd(&b, HOTPLUG_WANTED + 4), 1 << 1);
	for (size_t cut = 0; cut < 16; cut++) {
		struct state_reader s = { .p = blob.sections[0].payload };

		s.end = s.p + cut;
		CHECK(b.vm->devices->ops->load(b.vm->devices->opaque, &s, version) < 0);
	}
	d->ops->reset(d->opaque);
	CHECK_EQ(line(&a), 0);
	CHECK_EQ(rd(&a, HOTPLUG_ADDED), 0);
	state_blob_free(&blob);
	state_writer_free(&w);
	teardown(&a);
	teardown(&b);
}

/* ---- AML ------------------------------------------------------------------- */

static const uint8_t *seek(const uint8_t *p, size_t n, const char *name)
{
	for (size_t i = 0; i + 4 <= n; i++)
		if (!memcmp(p + i, name, 4))
			return p + i;
	return NULL;
}

static uint32_t package_length(const uint8_t *p)
{
	return (p[0] & 0xfu) | (uint32_t)p[1] << 4 | (uint32_t)p[2] << 12;
}

/* Each object the guest looks for is there, and packages lie within each other. */
TEST(aml_objects)
{
	static uint8_t buf[65536];
	struct aml b = { .p = buf, .cap = sizeof(buf) };
	size_t scope = aml_scope(&b, "\\_SB_");
	const uint8_t *p;
	char name[5];

	acpi_hotplug(&b);
	aml_pkg_end(&b, scope);
	REQUIRE(b.len < b.cap);
	CHECK_EQ(package_length(buf + 1), b.len - 1);
	for (unsigned int n = 0; n < HOTPLUG_MEM_SLOTS; n++) {
		snprintf(name, sizeof(name), "M%02X_", n);
		p = seek(buf, b.len, name);
		REQUIRE(p && p[-5] == 0x5b && p[-4] == 0x82);
		REQUIRE(p - 3 + package_length(p - 3) <= buf + b.len);
		for (const char *const *m = (const char *const []){ "_STA", "_CRS", "_EJ0", "_OST", NULL }; *m; m++)
			CHECK(seek(p, package_length(p - 3), *m));
	}
	p = seek(buf, b.len, "GED_");
	REQUIRE(p);
	CHECK(seek(p, package_length(p - 3), "_EVT"));
	CHECK(seek(p, package_length(p - 3), "S01_"));
	CHECK(seek(p, package_length(p - 3), "S1E_"));
	CHECK(!seek(p, package_length(p - 3), "S1F_"));
	CHECK(!seek(p, package_length(p - 3), "S00_"));
}

/* A buffer that is too small is counted, not overrun (the sanitizer looks). */
TEST(aml_no_room)
{
	struct aml whole = { .p = malloc(65536), .cap = 65536 };

	acpi_hotplug_pci(&whole);
	acpi_hotplug(&whole);
	for (size_t cap = 0; cap < whole.len; cap += 97) {
		struct aml b = { .p = malloc(cap ? cap : 1), .cap = cap };

		acpi_hotplug_pci(&b);
		acpi_hotplug(&b);
		CHECK_EQ(b.len, whole.len);
		free(b.p);
	}
	free(whole.p);
}

int main(void)
{
	RUN(requests_and_line);
	RUN(answers);
	RUN(eject);
	RUN(memory);
	RUN(odd_accesses);
	RUN(reset_save_load);
	RUN(aml_objects);
	RUN(aml_no_room);
	return tap_done();
}
