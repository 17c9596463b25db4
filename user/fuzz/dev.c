// SPDX-License-Identifier: GPL-2.0-only
/* Configuration spaces of hostile devices, and journals of hostile disks. */
#include <fcntl.h>
#include <stdlib.h>
#include <sys/mman.h>
#include <unistd.h>

#include "dev/dev.h"
#include "lib/journal.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

static void fuzz_config(const uint8_t *data, size_t size)
{
	struct vmplat_devs devs = { .sys_fd = -1, .proc_fd = -1 };
	struct vmplat_bar bars[2] = { { .index = 0 }, { .index = 2 } };
	struct vmplat_pci pci = { .bars = bars, .nr_bars = 2 };

	config_parse(&devs, &pci, data, size > 4096 ? 4096 : size);
	for (size_t i = 0; i < pci.nr_caps; i++)
		if (pci.caps[i].offset >= size)
			abort();
	dev_free_all(&devs);
}

static int count(void *ctx, const char *text)
{
	char buf[64];

	++*(size_t *)ctx;
	journal_value(text, "id", buf, sizeof(buf));
	return 0;
}

static void fuzz_journal(const uint8_t *data, size_t size)
{
	static int dirfd = -1;
	struct journal *j;
	size_t nr = 0;
	int fd;

	if (dirfd < 0) {
		char dir[] = "/dev/shm/vmplat-fuzz.XXXXXX";

		if (!mkdtemp(dir))
			abort();
		dirfd = open(dir, O_RDONLY | O_DIRECTORY);
	}
	fd = openat(dirfd, "j", O_WRONLY | O_CREAT | O_TRUNC, 0644);
	if (write(fd, data, size) != (ssize_t)size)
		abort();
	close(fd);
	if (journal_open(&j, dirfd, "j", JOURNAL_READ, count, &nr))
		return;
	journal_close(j);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
	if (!size)
		return 0;
	if (data[0] & 1)
		fuzz_config(data + 1, size - 1);
	else
		fuzz_journal(data + 1, size - 1);
	return 0;
}
