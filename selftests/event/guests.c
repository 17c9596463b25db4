// SPDX-License-Identifier: GPL-2.0-only
/*
 * What the objects of the module itself tell: thresholds of logs, side memory of views, fills, VMs.
 *
 *	guests [threshold|view|fill|mem-id|report]...
 */
#include <fcntl.h>
#include <poll.h>
#include <sys/mman.h>
#include <unistd.h>

#include <vmplat.h>

#include "event/expect.h"
#include "mem/util.h"

#define NR_PAGES	64
static struct vmplat *dev;

static struct vmplat_mem *new_mem(char **map, uint64_t *id)
{
	struct vmplat_mem *mem;
	void *addr = NULL;

	if (vmplat_mem_new(&mem, dev, NR_PAGES * PAGE, 0) || vmplat_mem_map(mem, &addr))
		bail("%s", vmplat_last_error());
	comes(VMPLAT_CLASS_MEM, VMPLAT_ACTION_ADD, "a memory");
	is_int(last.number[VMPLAT_NL_MEM_FILL], VMPLAT_FILL_STATE_NONE, "it is not being filled");
	*id = last.id;
	*map = addr;
	return mem;
}

static void free_mem(struct vmplat_mem *mem, char *map, uint64_t id)
{
	munmap(map, NR_PAGES * PAGE);
	vmplat_mem_close(mem);
	comes(VMPLAT_CLASS_MEM, VMPLAT_ACTION_REMOVE, "the memory is gone");
	is_int(last.id, id, "this one");
}

static void write_pages(char *map, unsigned int first, unsigned int nr)
{
	static char value;

	value++;
	for (unsigned int i = first; i < first + nr; i++)
		map[i * PAGE] = value ?: 1;
}

/* ---- logs -------------------------------------------------------------------------- */

static struct vmplat_log *new_log(struct vmplat_mem *mem, uint64_t threshold, uint64_t *id)
{
	struct vmplat_log *log;

	if (vmplat_log_new(&log, dev, mem, 0, threshold))
		bail("%s", vmplat_last_error());
	comes(VMPLAT_CLASS_LOG, VMPLAT_ACTION_ADD, "a log");
	is_int(last.number[VMPLAT_NL_LOG_THRESHOLD_PAGES], threshold, "with its threshold");
	ok(!last.has[VMPLAT_NL_LOG_REACHED], "which it has not reached");
	*id = last.id;
	return log;
}

/* The kernel looks at its marks now, not when it likes. */
static void look_at(struct vmplat_log *log)
{
	struct vmplat_log_status st;

	if (vmplat_log_query(log, &st))
		bail("%s", vmplat_last_error());
}

static void reaches(uint64_t id, const char *what)
{
	comes(VMPLAT_CLASS_LOG, VMPLAT_ACTION_THRESHOLD, what);
	ok(last.id == id && last.has[VMPLAT_NL_LOG_REACHED], "it says which");
}

static void falls_below(uint64_t id, const char *what)
{
	comes(VMPLAT_CLASS_LOG, VMPLAT_ACTION_CHANGE, what);
	ok(last.id == id && !last.has[VMPLAT_NL_LOG_REACHED], "it says which");
}

static void test_threshold(void)
{
	uint64_t mem_id, ten_id, four_id, none_id, bits[1];
	struct vmplat_log *ten, *four, *none;
	struct vmplat_mem *mem;
	struct pollfd p = { .events = POLLIN };
	char *map;

	mem = new_mem(&map, &mem_id);
	write_pages(map, 0, NR_PAGES);
	lru_drain();
	ten = new_log(mem, 10, &ten_id);
	is_int(last.number[VMPLAT_NL_LOG_MEM], mem_id, "of this memory");
	four = new_log(mem, 4, &four_id);
	none = new_log(mem, 0, &none_id);
	vmplat_log_bitmap(ten, VMPLAT_LOG_FETCH_F_CLEAR, 0, NR_PAGES, bits);
	vmplat_log_bitmap(four, VMPLAT_LOG_FETCH_F_CLEAR, 0, NR_PAGES, bits);
	quiet("a log begins without marks");

	write_pages(map, 0, 3);
	look_at(ten);
	quiet("three pages");
	write_pages(map, 3, 1);
	reaches(four_id, "four pages");
	write_pages(map, 4, 5);
	look_at(ten);
	quiet("nine pages");
	p.fd = vmplat_log_fd(ten);
	is_int(poll(&p, 1, 0), 0, "poll() says the same");
	write_pages(map, 9, 1);
	reaches(ten_id, "ten pages");
	is_int(poll(&p, 1, 0), 1, "poll() says the same");
	write_pages(map, 10, 20);
	look_at(ten);
	quiet("more is nothing new");

	is_int(vmplat_log_bitmap(ten, VMPLAT_LOG_FETCH_F_CLEAR, 0, NR_PAGES, bits), 30, "the marks are taken");
	falls_below(ten_id, "and it is below its threshold");
	write_pages(map, 0, 9);
	look_at(ten);
	quiet("nine pages again");
	write_pages(map, 9, 1);
	reaches(ten_id, "ten pages again");

	is_int(vmplat_log_bitmap(ten, 0, 0, NR_PAGES, bits), 10, "the marks are borrowed");
	falls_below(ten_id, "it is below");
	is_int(vmplat_log_abort(ten), 0, "and given back");
	reaches(ten_id, "it has them again");

	vmplat_log_close(none);
	comes(VMPLAT_CLASS_LOG, VMPLAT_ACTION_REMOVE, "a log without a threshold had nothing to say");
	is_int(last.id, none_id, "it is gone");
	vmplat_log_close(four);
	comes(VMPLAT_CLASS_LOG, VMPLAT_ACTION_REMOVE, "another is gone");
	vmplat_log_close(ten);
	comes(VMPLAT_CLASS_LOG, VMPLAT_ACTION_REMOVE, "and the last");
	ok(last.id == ten_id && last.has[VMPLAT_NL_LOG_REACHED], "as it was");
	free_mem(mem, map, mem_id);
}

/* ---- views ------------------------------------------------------------------------- */

static void test_view(void)
{
	struct vmplat_freeze_mem what = { 0 };
	struct vmplat_view *view;
	uint64_t mem_id, id;
	char *map, byte;

	what.mem = new_mem(&map, &mem_id);
	write_pages(map, 0, NR_PAGES);
	lru_drain();
	if (vmplat_freeze(&view, dev, &what, 1, 0, 16 * PAGE))
		bail("%s", vmplat_last_error());
	comes(VMPLAT_CLASS_VIEW, VMPLAT_ACTION_ADD, "a view");
	id = last.id;
	is_int(last.number[VMPLAT_NL_VIEW_MEM], mem_id, "of the memory");
	is_int(last.number[VMPLAT_NL_VIEW_BYTES], NR_PAGES * PAGE, "of its length");
	is_int(last.number[VMPLAT_NL_VIEW_SIDE_LIMIT], 16 * PAGE, "with a limit");
	is_int(last.number[VMPLAT_NL_VIEW_STATE], VMPLAT_VIEW_OK, "and whole");
	ok(!last.has[VMPLAT_NL_VIEW_SIDE_HIGH], "with room");

	write_pages(map, 0, 11);
	quiet("eleven copies in room for sixteen");
	write_pages(map, 11, 1);
	comes(VMPLAT_CLASS_VIEW, VMPLAT_ACTION_SIDE_HIGH, "twelve: three quarters");
	ok(last.id == id && last.has[VMPLAT_NL_VIEW_SIDE_HIGH], "it says so");
	is_int(last.number[VMPLAT_NL_VIEW_STATE], VMPLAT_VIEW_OK, "it is still whole");
	write_pages(map, 12, 4);
	quiet("sixteen: that was said");
	write_pages(map, 16, 1);
	comes(VMPLAT_CLASS_VIEW, VMPLAT_ACTION_BROKEN, "seventeen");
	is_int(last.number[VMPLAT_NL_VIEW_STATE], VMPLAT_VIEW_BROKEN_LIMIT, "why");
	fails(pread(vmplat_view_fd(view), &byte, 1, 0), ENODATA, "it cannot be read");
	write_pages(map, 17, 10);
	quiet("it breaks once");
	vmplat_view_close(view);
	comes(VMPLAT_CLASS_VIEW, VMPLAT_ACTION_REMOVE, "it is closed");
	is_int(last.number[VMPLAT_NL_VIEW_STATE], VMPLAT_VIEW_BROKEN_LIMIT, "as it was");

	lru_drain();
	if (vmplat_freeze(&view, dev, &what, 1, 0, 0))
		bail("%s", vmplat_last_error());
	comes(VMPLAT_CLASS_VIEW, VMPLAT_ACTION_ADD, "a view without a limit");
	ok(!last.has[VMPLAT_NL_VIEW_SIDE_LIMIT], "says so");
	write_pages(map, 0, NR_PAGES);
	quiet("and never has too much");
	vmplat_view_close(view);
	comes(VMPLAT_CLASS_VIEW, VMPLAT_ACTION_REMOVE, "it is closed");
	free_mem(what.mem, map, mem_id);
}

/* ---- fills ------------------------------------------------------------------------- */

static struct vmplat_fill *new_fill(struct vmplat_mem *mem, uint64_t mem_id)
{
	struct vmplat_fill *fill;

	if (vmplat_fill_new(&fill, dev, mem))
		bail("%s", vmplat_last_error());
	comes(VMPLAT_CLASS_MEM, VMPLAT_ACTION_CHANGE, "a filler");
	ok(last.id == mem_id && last.number[VMPLAT_NL_MEM_FILL] == VMPLAT_FILL_STATE_ACTIVE,
	   "its memory is being filled");
	return fill;
}

static void test_fill(void)
{
	static char pages[NR_PAGES * PAGE];
	struct vmplat_fill *fill;
	struct vmplat_mem *mem;
	uint64_t id;
	char *map;

	mem = new_mem(&map, &id);
	fill = new_fill(mem, id);
	is_int(vmplat_fill_put(fill, 0, NR_PAGES, pages), 0, "it puts pages");
	quiet("no event for each");
	is_int(vmplat_fill_end(fill), 0, "it is done");
	comes(VMPLAT_CLASS_MEM, VMPLAT_ACTION_CHANGE, "the memory changes");
	is_int(last.number[VMPLAT_NL_MEM_FILL], VMPLAT_FILL_STATE_ENDED, "it is complete");
	vmplat_fill_close(fill);
	quiet("closing it is nothing new");
	free_mem(mem, map, id);

	mem = new_mem(&map, &id);
	fill = new_fill(mem, id);
	vmplat_fill_close(fill);
	comes(VMPLAT_CLASS_MEM, VMPLAT_ACTION_CHANGE, "a filler ends before it is done");
	is_int(last.number[VMPLAT_NL_MEM_FILL], VMPLAT_FILL_STATE_DEAD, "its memory will never be complete");
	free_mem(mem, map, id);
}

/* ---- VMs --------------------------------------------------------------------------- */

static void test_mem_id(void)
{
	const char *dir = fs_mount("size=1M");
	struct vmplat_mem *mem, *file;
	uint64_t id, got = 0;
	char *map, path[64];
	int fd;

	mem = new_mem(&map, &id);
	is_int(vmplat_mem_id(mem, dev, &got), 0, "the id of a memory");
	is_int(got, id, "is that of its events");

	snprintf(path, sizeof(path), "%s/file", dir);
	fd = need(open(path, O_RDWR | O_CREAT, 0600));
	need(ftruncate(fd, 2 * PAGE));
	if (vmplat_mem_from_fd(&file, dev, fd))
		bail("%s", vmplat_last_error());
	comes(VMPLAT_CLASS_MEM, VMPLAT_ACTION_ADD, "a file of a vmplatfs");
	id = last.id;
	comes(VMPLAT_CLASS_MEM, VMPLAT_ACTION_CHANGE, "gets its length");
	is_int(last.number[VMPLAT_NL_MEM_BYTES], 2 * PAGE, "this one");
	is_int(vmplat_mem_id(file, dev, &got), 0, "has an id");
	is_int(got, id, "that of its events, too");
	vmplat_mem_close(file);
	close(fd);
	unlink(path);
	comes(VMPLAT_CLASS_MEM, VMPLAT_ACTION_REMOVE, "it is gone");
	munmap(map, NR_PAGES * PAGE);
	vmplat_mem_close(mem);
	comes(VMPLAT_CLASS_MEM, VMPLAT_ACTION_REMOVE, "and the other");
}

static void test_report(void)
{
	uint64_t ids[VMPLAT_VM_MEMS_MAX + 1], id;
	char name[VMPLAT_VM_NAME_MAX + 2] = "", why[201] = "";
	struct vmplat_report *vm;
	struct vmplat_mem *mem;
	char *map;

	mem = new_mem(&map, &id);
	for (size_t i = 0; i < ARRAY_SIZE(ids); i++)
		ids[i] = id;
	memset(name, 'n', sizeof(name) - 1);
	for (size_t i = 0; i < sizeof(why) - 1; i += 2)
		memcpy(why + i, "\u00e9", 2);

	is_int(vmplat_report_new(&vm, dev, name, VMPLAT_VM_STATE_STARTING, NULL, 0), -EINVAL,
	       "a name that is too long");
	name[VMPLAT_VM_NAME_MAX] = '\0';
	is_int(vmplat_report_new(&vm, dev, name, VMPLAT_VM_STATE_STARTING, ids, ARRAY_SIZE(ids)), -E2BIG,
	       "too many memories");
	ids[0] = id + 1000;
	is_int(vmplat_report_new(&vm, dev, name, VMPLAT_VM_STATE_STARTING, ids, 1), -ENOENT,
	       "a memory that is not there");
	ids[0] = id;
	quiet("nothing of that is told");

	is_int(vmplat_report_new(&vm, dev, name, VMPLAT_VM_STATE_STARTING, ids, VMPLAT_VM_MEMS_MAX), 0,
	       "a VM with as much as it can have");
	comes(VMPLAT_CLASS_VM, VMPLAT_ACTION_ADD, "it is there");
	is_int(vmplat_report_failed(vm, why), 0, "it fails, for a reason that is too long");
	comes(VMPLAT_CLASS_VM, VMPLAT_ACTION_CHANGE, "it is told");
	is_int(last.number[VMPLAT_NL_VM_STATE], VMPLAT_VM_STATE_FAILED, "that it failed");
	is_str(last.text[VMPLAT_NL_VM_NAME], name, "its name");
	is_int(last.nr_mems, VMPLAT_VM_MEMS_MAX, "its memories");
	why[VMPLAT_VM_REASON_MAX - 1] = '\0';
	is_str(last.text[VMPLAT_NL_VM_REASON], why, "why, cut between two characters");
	is_int(vmplat_report_mems(vm, ids, 1), 0, "it has one memory now");
	comes(VMPLAT_CLASS_VM, VMPLAT_ACTION_CHANGE, "it is told");
	is_int(last.nr_mems, 1, "one");
	ok(last.has[VMPLAT_NL_VM_REASON], "the reason is still one");
	is_int(vmplat_report_state(vm, VMPLAT_VM_STATE_RUNNING), 0, "it runs again");
	comes(VMPLAT_CLASS_VM, VMPLAT_ACTION_CHANGE, "it is told");
	ok(!last.has[VMPLAT_NL_VM_REASON], "for no reason");
	vmplat_report_close(vm);
	comes(VMPLAT_CLASS_VM, VMPLAT_ACTION_REMOVE, "it is gone");
	free_mem(mem, map, id);
}

int main(int argc, char **argv)
{
	static const struct {
		const char *name;
		void (*run)(void);
	} tests[] = {
		{ "threshold", test_threshold }, { "view", test_view }, { "fill", test_fill },
		{ "mem-id", test_mem_id }, { "report", test_report },
	};

	dev_open();
	if (vmplat_open(&dev, NULL))
		bail("%s", vmplat_last_error());
	expect_open(dev, NULL);
	for (size_t i = 0; i < ARRAY_SIZE(tests); i++) {
		bool chosen = argc == 1;

		for (int a = 1; a < argc; a++)
			chosen |= !strcmp(argv[a], tests[i].name);
		if (chosen)
			tests[i].run();
	}
	expect_close();
	vmplat_close(dev);
	return done();
}
