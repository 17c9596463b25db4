/* SPDX-License-Identifier: LGPL-2.1-or-later */
/*
 * The inside of a picture of a host. Data flows one way: cpu.c, memory.c and host.c read files into
 * the facts, probe.c asks what only this very host can answer, judge.c concludes.
 *
 * It stands on the picture of the host's devices: whose files, whose memory; see dev/dev.h.
 */
#ifndef VMPLAT_HOST_HOST_H
#define VMPLAT_HOST_HOST_H

#include <vmplat_host.h>

#include "dev/dev.h"

struct vmplat_host {
	struct vmplat_devs *devs;
	int root_fd;
	struct vmplat_host_facts facts;
};

/* the word in brackets of "always [madvise] never", or the text itself; NULL for NULL */
const char *host_choice(struct vmplat_host *host, const char *text);
/* 1 for "Y" and "1", 0 for "N" and "0", -1 for NULL and all else */
int host_yes(const char *text);
/* is @word among @words, which blanks separate? Not if @words is NULL */
bool host_has_word(const char *words, const char *word);

/* cpu.c: processors, topology, caches, vulnerabilities */
void host_read_cpu(struct vmplat_host *host);
/* memory.c: memory, nodes, huge pages */
void host_read_memory(struct vmplat_host *host);
/* probe.c: KVM, the module, who asks; opens devices */
void host_probe(struct vmplat_host *host);

#endif
