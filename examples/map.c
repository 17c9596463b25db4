// SPDX-License-Identifier: GPL-2.0-only
/*
 * Memory for a small guest: in huge pages if the kernel has some, on node 0, locked if that is allowed;
 * and what came of all that.
 *
 *	cc map.c $(pkg-config --cflags --libs vmplat) -o map && ./map
 */
#include <stdio.h>
#include <sys/mman.h>

#include <vmplat_error.h>
#include <vmplat_map.h>

#define MIB	(1UL << 20)

int main(void)
{
	struct vmplat_map_options wishes = { .flags = VMPLAT_MAP_F_HUGE | VMPLAT_MAP_F_NO_DUMP };
	struct vmplat_map_facts facts;
	struct vmplat_map *map;
	struct vmplat_error why;

	if (vmplat_map_new(&map, 16 * MIB, &wishes)) {
		fprintf(stderr, "map: %s\n", vmplat_last_error());
		return 1;
	}
	/* what this machine refuses is said, and is no reason to give up */
	if (vmplat_map_place(map, 0, 16 * MIB, VMPLAT_MAP_PREFER, 1))
		printf("anywhere: %s\n", vmplat_last_error());
	if (vmplat_map_lock(map, 0, 4 * MIB)) {
		vmplat_error_get(&why);
		printf("not locked (%s): %s\n", vmplat_code_name(why.code), why.text);
	}
	/* the first MiB is firmware: from now on it is only read */
	if (vmplat_map_protect(map, 0, MIB, PROT_READ) || vmplat_map_query(map, &facts)) {
		fprintf(stderr, "map: %s\n", vmplat_last_error());
		return 1;
	}
	printf("%llu KiB there, %llu of them in huge pages, %llu locked\n",
	       (unsigned long long)facts.resident_bytes >> 10,
	       (unsigned long long)facts.huge_bytes >> 10,
	       (unsigned long long)facts.locked_bytes >> 10);
	vmplat_map_close(map);
	return 0;
}
