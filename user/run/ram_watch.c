// SPDX-License-Identifier: GPL-2.0-only
#include "ram_watch.h"

#include <string.h>
#include <unistd.h>
#include <vmplat_fault.h>

/* in a signal handler: no stdio, no locks */
static void say(const char *text)
{
	if (write(STDERR_FILENO, text, strlen(text)) < 0)
		return;		/* nobody listens */
}

static enum vmplat_fault_verdict last_words(const struct vmplat_fault *f, void *data)
{
	const struct ram_watch *w = data;
	struct vmplat_fault guest = *f;
	char text[128];

	guest.addr = w->gpa + (f->addr - (uintptr_t)w->ram);
	vmplat_fault_text(&guest, text, sizeof(text));
	say("vmplat: ");
	say(w->name);
	say(": guest memory cannot be reached, the VM ends: ");
	say(text);
	say("\r\n");
	return VMPLAT_FAULT_PASS;
}

int ram_watch_begin(struct ram_watch *w, const char *name, const uint8_t *ram, uint64_t bytes,
		    uint64_t gpa)
{
	*w = (struct ram_watch){ .name = name, .ram = ram, .gpa = gpa };
	return vmplat_fault_add(&w->range, ram, bytes, last_words, w, 0);
}

void ram_watch_end(struct ram_watch *w)
{
	vmplat_fault_remove(w->range);
	w->range = NULL;
}
