// SPDX-License-Identifier: LGPL-2.1-or-later
/* Memory: how much, on which nodes, in pages of which size. */
#include <stdio.h>

#include "host/host.h"

#define NODES	"devices/system/node"
#define POOLS	"kernel/mm/hugepages"
#define THP	"kernel/mm/transparent_hugepage"

/* "MemTotal:  123 kB", behind "Node 0 " in a node's file; 0 if it is not there */
static uint64_t meminfo(const char *text, const char *name)
{
	const char *s = text ? strstr(text, name) : NULL;
	unsigned long long kib;

	return s && sscanf(s + strlen(name), ": %llu kB", &kib) == 1 ? kib << 10 : 0;
}

static void read_nodes(struct vmplat_host *host, struct vmplat_host_memory *memory)
{
	struct vmplat_devs *devs = host->devs;
	struct dev_names names = dev_list_dir(devs, devs->sys_fd, NODES);
	struct dev_list list = { };

	for (size_t i = 0; i < names.nr; i++) {
		struct vmplat_host_node node = { };
		const char *text;
		int at = 0;

		if (sscanf(names.names[i], "node%u%n", &node.id, &at) != 1 || names.names[i][at])
			continue;
		text = dev_text(devs, devs->sys_fd, NODES "/node%u/meminfo", node.id);
		node.bytes = meminfo(text, "MemTotal");
		node.free_bytes = meminfo(text, "MemFree");
		node.cpus = dev_text(devs, devs->sys_fd, NODES "/node%u/cpulist", node.id);
		dev_append(devs, &list, &node, sizeof(node));
	}
	memory->nodes = list.items;
	memory->nr_nodes = list.nr;
}

static void read_pools(struct vmplat_host *host, struct vmplat_host_memory *memory)
{
	struct vmplat_devs *devs = host->devs;
	struct dev_names names = dev_list_dir(devs, devs->sys_fd, POOLS);
	struct dev_list list = { };
	int sys = devs->sys_fd;

	for (size_t i = 0; i < names.nr; i++) {
		struct vmplat_host_pool pool = { };
		unsigned long long kib;
		int at = 0;

		if (sscanf(names.names[i], "hugepages-%llukB%n", &kib, &at) != 1 || !at)
			continue;
		pool.page_bytes = kib << 10;
		dev_number(devs, &pool.pages, sys, POOLS "/%s/nr_hugepages", names.names[i]);
		dev_number(devs, &pool.free_pages, sys, POOLS "/%s/free_hugepages", names.names[i]);
		dev_number(devs, &pool.reserved_pages, sys, POOLS "/%s/resv_hugepages",
			   names.names[i]);
		dev_number(devs, &pool.surplus_pages, sys, POOLS "/%s/surplus_hugepages",
			   names.names[i]);
		dev_append(devs, &list, &pool, sizeof(pool));
	}
	memory->pools = list.items;
	memory->nr_pools = list.nr;
}

void host_read_memory(struct vmplat_host *host)
{
	struct vmplat_host_memory *memory = &host->facts.memory;
	struct vmplat_devs *devs = host->devs;
	const char *text = dev_text(devs, devs->proc_fd, "meminfo");

	memory->bytes = meminfo(text, "MemTotal");
	memory->available_bytes = meminfo(text, "MemAvailable");
	memory->thp = host_choice(host, dev_text(devs, devs->sys_fd, THP "/enabled"));
	memory->thp_shared = host_choice(host, dev_text(devs, devs->sys_fd, THP "/shmem_enabled"));
	read_pools(host, memory);
	read_nodes(host, memory);
}
