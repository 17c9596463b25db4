// SPDX-License-Identifier: GPL-2.0-only
/*
 * The first write to a page while an image is being kept: what it costs the
 * writer until it can go on.
 *
 * ours: a view is active, the fault copies the page and lets the writer on. It is
 *	 the second view of the memory: copies are made in the pages that the first
 *	 one needed. What the first cost is told in a comment.
 * peer: userfaultfd-wp; a handler thread is woken, copies the page to a buffer
 *	 (touched before: it costs no fault), lifts the protection, wakes the
 *	 writer. This is what QEMU's background-snapshot does.
 * fork: private memory written by the parent of a child that does nothing, the
 *	 share of fork() itself included. A comment, as a vCPU in the parent is
 *	 not what anybody runs.
 *
 * Freezing and protecting happen outside the timed part. Every page is present,
 * has content, and was written by the same writer before.
 */
#define _GNU_SOURCE
#include <pthread.h>
#include <signal.h>
#include <stdlib.h>
#include <string.h>
#include <sys/ioctl.h>
#include <sys/mman.h>
#include <sys/wait.h>
#include <unistd.h>

#include "bench.h"
#include "peers.h"

#define BYTES	(32 * MIB)
#define PAGES	(BYTES / PAGE)

/* Writes one word of every page; NULL for this CPU. */
static void write_all(struct guest *g, void *map)
{
	volatile uint32_t *word = map;

	if (g) {
		guest_write(g, 0, 1, PAGES, 0x12345678);
		return;
	}
	for (size_t i = 0; i < PAGES; i++, word += PAGE / sizeof(*word))
		*word = 0x12345678;
}

static double timed_write(struct guest *g, void *map)
{
	uint64_t start = now_ns();

	write_all(g, map);
	return (double)(now_ns() - start) / PAGES;
}

/* ---- ours ------------------------------------------------------------------------ */

static void check_image(struct vmplat_view *view)
{
	uint8_t page[PAGE], want[PAGE];

	for (size_t i = 0; i < PAGES; i += 97) {
		memset(want, 1 + i % 255, PAGE);
		if (pread(vmplat_view_fd(view), page, PAGE, i * PAGE) != PAGE ||
		    memcmp(page, want, PAGE))
			die("page %zu of the view is not what it was", i);
	}
}

static double one_view(struct vmplat_mem *mem, struct guest *g, void *map, const char *profile)
{
	struct vmplat_freeze_mem what = { .mem = mem };
	struct vmplat_view *view;
	double ns;

	fill(map, BYTES);
	if (vmplat_freeze(&view, device(), &what, 1, 0, 0))
		die("%s", vmplat_last_error());
	if (profile)
		profile_start();
	ns = timed_write(g, map);
	if (profile)
		profile_stop(profile);
	check_image(view);
	vmplat_view_close(view);
	return ns;
}

static double ours(bool kvm, const char *name)
{
	void *map;
	struct vmplat_mem *mem = ours_new(BYTES, &map);
	struct guest *g = kvm ? guest_new(map, BYTES, false) : NULL;
	double first, ns;

	write_all(g, map);
	first = one_view(mem, g, map, NULL);
	ns = one_view(mem, g, map, name);
	note("%s: in the first view %.0f ns/page", name, first);
	if (g)
		guest_free(g);
	munmap(map, BYTES);
	vmplat_mem_close(mem);
	return ns;
}

/* ---- userfaultfd -------------------------------------------------------------------- */

struct handler {
	int uffd;
	char *map, *saved;
	size_t nr;
};

static void *handle(void *arg)
{
	struct handler *h = arg;

	for (h->nr = 0; h->nr < PAGES; h->nr++) {
		struct uffd_msg msg;
		uint64_t at;

		if (must(read(h->uffd, &msg, sizeof(msg))) != sizeof(msg) ||
		    msg.event != UFFD_EVENT_PAGEFAULT)
			die("an unexpected event");
		at = (msg.arg.pagefault.address & ~(PAGE - 1)) - (uintptr_t)h->map;
		memcpy(h->saved + at, h->map + at, PAGE);
		uffd_protect(h->uffd, h->map + at, PAGE, 0);
	}
	return NULL;
}

static double uffd(bool kvm)
{
	struct handler h = { .saved = malloc(BYTES) };
	struct guest *g;
	pthread_t thread;
	int memfd;
	double ns;

	h.map = memfd_new(BYTES, &memfd);
	g = kvm ? guest_new(h.map, BYTES, false) : NULL;
	write_all(g, h.map);
	fill(h.map, BYTES);
	memset(h.saved, 1, BYTES);
	h.uffd = uffd_register(h.map, BYTES, 0);
	uffd_protect(h.uffd, h.map, BYTES, 1);
	if (pthread_create(&thread, NULL, handle, &h))
		die("pthread_create");
	ns = timed_write(g, h.map);
	pthread_join(thread, NULL);
	for (size_t i = 0; i < PAGES; i += 97)
		if (h.saved[i * PAGE] != (char)(1 + i % 255))
			die("page %zu saved by the handler is not what it was", i);
	if (g)
		guest_free(g);
	munmap(h.map, BYTES);
	close(h.uffd);
	close(memfd);
	free(h.saved);
	return ns;
}

/* ---- fork ------------------------------------------------------------------------------ */

static double forked(void)
{
	char *map = mmap(NULL, BYTES, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
	uint64_t start;
	double ns;
	pid_t pid;

	must(madvise(map, BYTES, MADV_NOHUGEPAGE));
	fill(map, BYTES);
	start = now_ns();
	pid = must(fork());
	if (!pid) {
		pause();
		_exit(0);
	}
	write_all(NULL, map);
	ns = (double)(now_ns() - start) / PAGES;
	kill(pid, SIGKILL);
	waitpid(pid, NULL, 0);
	munmap(map, BYTES);
	return ns;
}

static void kvm(const char *name)
{
	double peer = uffd(true);

	report(name, ours(true, name), peer, "ns/page", LESS);
}

static void cpu(const char *name)
{
	double peer = uffd(false);

	report(name, ours(false, name), peer, "ns/page", LESS);
	note("%s: fork() %.0f ns/page", name, forked());
}

int main(int argc, char **argv)
{
	static const struct bench benches[] = {
		{ "cow-fault-kvm-vs-uffd", kvm },
		{ "cow-fault-cpu-vs-uffd", cpu },
	};

	return bench_main(argc, argv, benches, sizeof(benches) / sizeof(benches[0]));
}
