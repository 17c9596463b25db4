// SPDX-License-Identifier: GPL-2.0-only
/*
 * A view is one instant: freeze under running writers, read slowly, check.
 *
 * A writer works on a *chain*: words scattered over pages of several memories. It
 * stores n to the first word, then to the second, ... then n + 1 to the first.
 * At any one instant the words of a chain, in order, are some n's followed by
 * only (n - 1)'s. An image for which that does not hold was never there: a later
 * store is in it, an earlier one is not. Chains are written by threads, a second
 * process, pwrite(), a guest, and by two threads in turn (so that order between
 * CPUs counts as well); one also punches holes.
 *
 *	view [-t SECONDS] [-p PAGES] [-d DISTURBERS]
 */
#include <fcntl.h>
#include <getopt.h>
#include <pthread.h>
#include <sched.h>
#include <signal.h>
#include <stdatomic.h>
#include <sys/ioctl.h>
#include <sys/mman.h>
#include <sys/prctl.h>
#include <sys/resource.h>
#include <sys/uio.h>
#include <sys/wait.h>
#include <unistd.h>

#include "mem/util.h"

#define NR_MEMS		3
#define LENGTH		96	/* words in a chain */
#define MIN_ROUNDS	8	/* however slow the machine */

enum { C_STORE, C_STORE2, C_PROCESS, C_PWRITE, C_MIXED, C_TURNS, C_KVM, C_PUNCH, NR_CHAINS };
static const char *const chain_names[] = {
	"store", "store 2", "process", "pwrite", "store and pwrite", "two threads in turn",
	"kvm", "punch",
};

static uint64_t nr_pages = 515, seconds = 10;	/* of each memory */
static int mems[NR_MEMS], logs[NR_MEMS];
static char *maps[NR_MEMS];

struct word {
	unsigned int mem;
	uint64_t at;		/* bytes into the memory */
};

static struct word chains[NR_CHAINS][LENGTH];

static struct shared {
	atomic_bool stop;
	_Atomic uint32_t turn;
	_Atomic uint32_t pass[NR_CHAINS];
} *sh;

static pthread_t threads[NR_CHAINS + 1];
static bool running[NR_CHAINS + 1];
static pid_t child;
static struct kvm_guest *kvm;

/* ---- writers ------------------------------------------------------------ */

/* Pages anywhere, in any memory; each chain has its own word of a page. */
static void lay_out(void)
{
	uint64_t seed = 88172645463325252ULL;

	for (int c = 0; c < NR_CHAINS; c++) {
		for (int i = 0; i < LENGTH; i++) {
			unsigned int m = c == C_KVM ? 0 : rnd(&seed) % NR_MEMS;
			uint64_t page = rnd(&seed) % (nr_pages - 1);

			if (c == C_KVM)		/* the guest goes page by page */
				page = i;
			if (c == C_PUNCH) {	/* two pages of its own */
				m = i & 1;
				page = nr_pages - 1;
			}
			chains[c][i] = (struct word) { m, page * PAGE + c * 512 + i * 4 % 512 };
			if (c == C_KVM)
				chains[c][i].at = page * PAGE + c * 512;
		}
	}
}

static volatile uint32_t *word_of(int c, int i)
{
	return (void *)(maps[chains[c][i].mem] + chains[c][i].at);
}

static void store(int c, int i, uint32_t n)
{
	*word_of(c, i) = n;
}

static void pwrite_word(int c, int i, uint32_t n)
{
	if (pwrite(mems[chains[c][i].mem], &n, 4, chains[c][i].at) != 4)
		bail("pwrite");
}

static void punch(int m)
{
	need(fallocate(mems[m], FALLOC_FL_PUNCH_HOLE | FALLOC_FL_KEEP_SIZE,
		       (nr_pages - 1) * PAGE, PAGE));
}

/* Page A = n, page B = n, no A, no B: A and B are never two different numbers. */
static void pass_punch(uint32_t n)
{
	store(C_PUNCH, 0, n);
	store(C_PUNCH, 1, n);
	punch(0);
	punch(1);
}

static void one_pass(int c, uint32_t n)
{
	if (c == C_PUNCH) {
		pass_punch(n);
	} else if (c == C_KVM) {
		if (kvm_fill(kvm, chains[c][0].at, LENGTH, n))
			bail("the guest failed");
	} else {
		for (int i = 0; i < LENGTH; i++) {
			if (c == C_PWRITE || (c == C_MIXED && i % 3 == 0))
				pwrite_word(c, i, n);
			else
				store(c, i, n);
		}
	}
	sh->pass[c] = n;
}

/* The reader has to get a turn on few CPUs. */
static void stand_back(void)
{
	setpriority(PRIO_PROCESS, gettid(), 15);
}

static void *writer(void *arg)
{
	int c = (intptr_t)arg;

	stand_back();
	if (c == C_KVM) {
		kvm = kvm_new(maps[0], nr_pages * PAGE);
		if (!kvm)
			return NULL;
	}
	for (uint32_t n = sh->pass[c] + 1; !sh->stop; n++)
		one_pass(c, n);
	if (c == C_KVM)
		kvm_free(kvm);
	return NULL;
}

/* Even words are mine, odd words are the other's. */
static void *writer_in_turn(void *arg)
{
	uint32_t mine = (intptr_t)arg;

	stand_back();
	for (;;) {
		uint32_t turn;

		while ((turn = atomic_load(&sh->turn)) % 2 != mine) {
			if (sh->stop)
				return NULL;
			sched_yield();
		}
		store(C_TURNS, turn % LENGTH, turn / LENGTH + 1);
		sh->pass[C_TURNS] = turn / LENGTH;
		atomic_store(&sh->turn, turn + 1);
	}
}

static void start_thread(int slot, void *(*fn)(void *), int arg)
{
	if (pthread_create(&threads[slot], NULL, fn, (void *)(intptr_t)arg))
		bail("pthread_create");
	running[slot] = true;
}

static void writers_go(void)
{
	sh->stop = false;
	child = need(fork());
	if (!child) {
		prctl(PR_SET_PDEATHSIG, SIGKILL);
		writer((void *)C_PROCESS);
		_exit(0);
	}
	for (int c = 0; c < NR_CHAINS; c++)
		if (c != C_PROCESS && c != C_TURNS)
			start_thread(c, writer, c);
	start_thread(C_TURNS, writer_in_turn, 0);
	start_thread(NR_CHAINS, writer_in_turn, 1);
}

static void writers_halt(void)
{
	int status;

	sh->stop = true;
	for (int i = 0; i <= NR_CHAINS; i++) {
		if (running[i])
			pthread_join(threads[i], NULL);
		running[i] = false;
	}
	waitpid(child, &status, 0);
	if (status)
		ok(false, "the second process ended well, not with %#x", status);
}

/* ---- judging an image --------------------------------------------------- */

static uint64_t mem_bytes(void)
{
	return nr_pages * PAGE;
}

static uint32_t image_word(const char *image, int c, int i)
{
	uint32_t v;

	memcpy(&v, image + chains[c][i].mem * mem_bytes() + chains[c][i].at, 4);
	return v;
}

static uint64_t bad_images;

static void show_chain(const char *image, int c)
{
	char text[512];
	int n = 0;

	for (int i = 0; i < LENGTH && n < 480; i++)
		if (!i || image_word(image, c, i) != image_word(image, c, i - 1))
			n += snprintf(text + n, sizeof(text) - n, " [%d]=%u(m%u p%llu)", i,
				      image_word(image, c, i), chains[c][i].mem,
				      (unsigned long long)(chains[c][i].at / PAGE));
	diag("chain %s:%s", chain_names[c], text);
}

static bool chain_good(const char *image, int c)
{
	uint32_t first = image_word(image, c, 0), prev = first, v;

	if (c == C_PUNCH) {
		v = image_word(image, c, 1);
		return first == v || !first || !v;
	}
	for (int i = 1; i < LENGTH; i++) {
		v = image_word(image, c, i);
		if (v != prev && (v > prev || v != first - 1))
			return false;
		prev = v;
	}
	return true;
}

static bool image_good(const char *image, const char *what)
{
	bool good = true;

	for (int c = 0; c < NR_CHAINS; c++) {
		if (chain_good(image, c))
			continue;
		good = false;
		if (bad_images < 5) {
			diag("%s: not one instant", what);
			show_chain(image, c);
		}
	}
	bad_images += !good;
	return good;
}

/* ---- reading ------------------------------------------------------------ */

static void read_image(int view, char *image, uint64_t *seed, bool slowly)
{
	uint64_t pages = NR_MEMS * nr_pages;
	uint64_t first = rnd(seed) % pages;

	if (!slowly) {
		need(read_all(view, image, pages * PAGE, 0));
		return;
	}
	/* From the middle on, in pieces of all sizes, then the rest. */
	for (uint64_t p = first; p < pages;) {
		uint64_t n = 1 + rnd(seed) % 40;

		if (n > pages - p)
			n = pages - p;
		need(read_all(view, image + p * PAGE, n * PAGE, p * PAGE));
		p += n;
		if (rnd(seed) % 8 == 0)
			usleep(500);	/* a slow reader is the point */
	}
	need(read_all(view, image, first * PAGE, 0));
}

static int freeze(bool with_logs, uint32_t flags, const uint8_t *id)
{
	struct vmplat_view_mem m[NR_MEMS];

	for (int i = 0; i < NR_MEMS; i++) {
		m[i] = (struct vmplat_view_mem) {
			.mem_fd = mems[i], .log_fd = with_logs ? logs[i] : -1,
		};
		if (id)
			memcpy(m[i].id, id, VMPLAT_ID_BYTES);
	}
	return view_new(m, NR_MEMS, flags, 0);
}

/* ---- tests -------------------------------------------------------------- */

/* Several views at once, each read twice. */
static void test_instants(void)
{
	enum { OVERLAP = 3 };
	size_t bytes = NR_MEMS * mem_bytes();
	char *once = malloc(bytes), *twice = malloc(bytes);
	char *kept[OVERLAP] = { malloc(bytes), malloc(bytes), malloc(bytes) };
	int views[OVERLAP] = { -1, -1, -1 };
	uint64_t seed = now_ns() | 1, n = 0, differ = 0, blocked = 0;
	struct vmplat_view_status st;
	uint64_t end = now_ns() + seconds * 1000000000;

	for (; now_ns() < end || n < MIN_ROUNDS; n++) {
		int i = n % OVERLAP;

		if (views[i] >= 0) {	/* the oldest: still the same instant? */
			read_image(views[i], twice, &seed, rnd(&seed) & 1);
			differ += !!memcmp(kept[i], twice, bytes);
			close(views[i]);
		}
		views[i] = need(freeze(false, 0, NULL));
		st = view_status(views[i]);
		if (st.out_blocked_ns > blocked)
			blocked = st.out_blocked_ns;
		if (rnd(&seed) % 8 == 0) {	/* left half-way */
			need(read_all(views[i], once, PAGE, 0));
			close(views[i]);
			views[i] = -1;
			continue;
		}
		read_image(views[i], once, &seed, true);
		image_good(once, "full view");
		read_image(views[i], twice, &seed, false);
		differ += !!memcmp(once, twice, bytes);
		memcpy(kept[i], once, bytes);
	}
	for (int i = 0; i < OVERLAP; i++)
		if (views[i] >= 0)
			close(views[i]);
	diag("%llu views, writers blocked %llu us at most", (unsigned long long)n,
	     (unsigned long long)blocked / 1000);
	ok(!bad_images, "every image is one instant");
	ok(!differ, "every image reads the same again");
	free(once);
	free(twice);
	for (int i = 0; i < OVERLAP; i++)
		free(kept[i]);
}

/* What SEEK_DATA shows, and nothing else, from the view into @image. */
static uint64_t apply(int view, char *image)
{
	off_t end = NR_MEMS * mem_bytes(), at = 0;
	uint64_t pages = 0;

	while (at < end) {
		off_t data = lseek(view, at, SEEK_DATA), hole;

		if (data < 0 && errno == ENXIO)
			break;
		need(data);
		hole = need(lseek(view, data, SEEK_HOLE));
		if (data < at || hole <= data || hole > end || data % PAGE || hole % PAGE)
			bail("data at %lld, hole at %lld, from %lld", (long long)data,
			     (long long)hole, (long long)at);
		need(read_all(view, image + data, hole - data, data));
		pages += (hole - data) / PAGE;
		at = hole;
	}
	return pages;
}

/* A reader that is killed while it holds the marks. */
static void killed_reader(const uint8_t *id)
{
	int fds[2], status;
	pid_t pid;
	char byte;

	need(pipe(fds));
	pid = need(fork());
	if (!pid) {
		char *image = malloc(NR_MEMS * mem_bytes());
		int view = freeze(true, VMPLAT_VIEW_F_INCREMENT, id);

		if (view < 0)
			_exit(1);
		apply(view, image);
		if (write(fds[1], "x", 1) != 1)
			_exit(1);
		pause();
	}
	if (read(fds[0], &byte, 1) != 1)
		ok(false, "the reader that is to be killed got its view");
	kill(pid, SIGKILL);
	waitpid(pid, &status, 0);
	close(fds[0]);
	close(fds[1]);
}

/* Full image + increments, some given up, must be the image of the last view. */
static void test_increments(void)
{
	size_t bytes = NR_MEMS * mem_bytes();
	char *base = calloc(1, bytes), *full = malloc(bytes), *spoilt = malloc(bytes);
	uint8_t id[VMPLAT_ID_BYTES] = { 1 }, other[VMPLAT_ID_BYTES] = { 99 };
	uint64_t seed = now_ns() | 1, n = 0, differ = 0, pages = 0, killed = 0;
	uint64_t end = now_ns() + seconds * 1000000000;
	int view;

	for (int i = 0; i < NR_MEMS; i++)
		logs[i] = need(log_new(mems[i], 0, 0));
	view = need(freeze(true, 0, NULL));
	need(read_all(view, base, bytes, 0));
	need(view_commit(view, id));
	close(view);
	image_good(base, "base");
	for (; now_ns() < end || n < MIN_ROUNDS; n++) {
		usleep(rnd(&seed) % 20000);	/* let writers run for a while */
		if (rnd(&seed) % 6 == 0) {
			killed_reader(id);
			killed++;
		}
		view = need(freeze(true, VMPLAT_VIEW_F_INCREMENT, id));
		if (rnd(&seed) % 4 == 0) {	/* given up after reading: nothing lost */
			apply(view, spoilt);
			close(view);
			continue;
		}
		pages += apply(view, base);
		need(read_all(view, full, bytes, 0));
		if (memcmp(base, full, bytes)) {
			if (!differ++)
				for (uint64_t p = 0; p < bytes / PAGE; p++)
					if (memcmp(base + p * PAGE, full + p * PAGE, PAGE))
						diag("increment %llu lacks page %llu of memory %llu",
						     (unsigned long long)n,
						     (unsigned long long)(p % nr_pages),
						     (unsigned long long)(p / nr_pages));
			memcpy(base, full, bytes);
		}
		image_good(base, "increment");
		id[1 + n % 15]++;
		need(view_commit(view, id));
		close(view);
	}
	fails(freeze(true, VMPLAT_VIEW_F_INCREMENT, other), ESTALE, "another base is refused");
	writers_halt();
	view = need(freeze(true, VMPLAT_VIEW_F_INCREMENT, id));
	apply(view, base);
	close(view);
	for (int i = 0; i < NR_MEMS; i++)
		differ += !!memcmp(base + i * mem_bytes(), maps[i], mem_bytes());
	diag("%llu increments, %llu pages, %llu readers killed", (unsigned long long)n,
	     (unsigned long long)pages, (unsigned long long)killed);
	ok(!differ, "full image and increments make the last image");
	ok(!bad_images, "and each of them is one instant");
	for (int i = 0; i < NR_MEMS; i++)
		close(logs[i]);
	free(base);
	free(full);
	free(spoilt);
}

/*
 * A view that copies so many pages, and how many harvests it took. The kernel, too, takes
 * references for a moment, when it compacts memory or sorts its LRU lists: not the first
 * view may be like that, but one of them.
 */
static int frozen_with(int mem, uint64_t copied, int64_t *harvests)
{
	for (int tries = 20;; tries--) {
		int64_t before = fdinfo(mem, "vmplat-harvests");
		int view = need(view_of(mem, -1, 0, 0));

		*harvests = fdinfo(mem, "vmplat-harvests") - before;
		if (view_status(view).out_nr_copied == copied || tries == 1)
			return view;
		close(view);
		usleep(100000);
	}
}

/*
 * Pages that are referenced at the freeze are marked again by each pass: passes
 * must end all the same, and the pages be copied.
 */
static void test_pinned(void)
{
	enum { NR = 128, PINNED = 32 };
	int mem = need(mem_new(NR * PAGE)), pipes[2], view;
	char *map = map_mem(mem, NR * PAGE), page[PAGE];
	struct iovec iov = { map, PINNED * PAGE };
	int64_t harvests;

	memset(map, 'a', NR * PAGE);
	lru_drain();
	need(pipe2(pipes, O_CLOEXEC));
	need(fcntl(pipes[1], F_SETPIPE_SZ, 2 * PINNED * PAGE));
	is_int(vmsplice(pipes[1], &iov, 1, 0), PINNED * PAGE, "pages are in a pipe");
	view = frozen_with(mem, PINNED, &harvests);
	is_int(view_status(view).out_nr_copied, PINNED, "a freeze copies them");
	ok(harvests > 1 && harvests <= 8, "after a few passes: %lld", (long long)harvests);
	memset(map, 'b', NR * PAGE);
	ok(pread(view, page, PAGE, 0) == PAGE && page[0] == 'a', "as they were");
	close(view);
	close(pipes[0]);
	close(pipes[1]);
	view = frozen_with(mem, 0, &harvests);
	is_int(view_status(view).out_nr_copied, 0, "once they are let go it need not");
	is_int(harvests, 2, "and two passes do");
	close(view);
	munmap(map, NR * PAGE);
	close(mem);
}

int main(int argc, char **argv)
{
	uint32_t disturb = DISTURB_MIGRATE | DISTURB_COMPACT | DISTURB_DROP;
	size_t sizes[NR_MEMS];
	int opt;

	while ((opt = getopt(argc, argv, "t:p:d:")) != -1) {
		switch (opt) {
		case 't': seconds = strtoull(optarg, NULL, 0); break;
		case 'p': nr_pages = strtoull(optarg, NULL, 0); break;
		case 'd': disturb = strtoul(optarg, NULL, 0); break;
		default: return 2;
		}
	}
	if (nr_pages < LENGTH + 1)
		return 2;
	dev_open();
	sh = mmap(NULL, sizeof(*sh), PROT_READ | PROT_WRITE, MAP_SHARED | MAP_ANONYMOUS, -1, 0);
	for (int i = 0; i < NR_MEMS; i++) {
		mems[i] = need(mem_new(mem_bytes()));
		maps[i] = map_mem(mems[i], mem_bytes());
		sizes[i] = mem_bytes();
	}
	test_pinned();
	lay_out();
	disturb_start(disturb, (void **)maps, sizes, NR_MEMS);
	seconds = (seconds + 1) / 2;
	writers_go();
	test_instants();
	test_increments();	/* halts the writers */
	disturb_stop();
	for (int c = 0; c < NR_CHAINS; c++) {
		diag("%s: %u passes", chain_names[c], sh->pass[c]);
		if (c == C_KVM && !sh->pass[c])
			skip("no KVM");
		else
			ok(sh->pass[c] > 0, "chain %s was written", chain_names[c]);
	}
	return done();
}
