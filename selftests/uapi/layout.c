// SPDX-License-Identifier: GPL-2.0-only
/*
 * The layout of every struct, as asserts: compiled for 64 and for 32 bit, where
 * alignment of 64-bit members differs unless the header takes care.
 */
#include <stddef.h>

#include <linux/vmplat.h>

#define SIZE(s, n) _Static_assert(sizeof(struct s) == (n), #s " is not " #n " bytes")
#define AT(s, m, n) _Static_assert(offsetof(struct s, m) == (n), #s "." #m " is not at " #n)

SIZE(vmplat_info, 32);
AT(vmplat_info, out_abi, 8);
AT(vmplat_info, out_caps, 16);
AT(vmplat_info, out_max_view_mems, 24);

SIZE(vmplat_mem_create, 24);
AT(vmplat_mem_create, mem_bytes, 8);
AT(vmplat_mem_create, out_fd, 16);

SIZE(vmplat_log_create, 24);
AT(vmplat_log_create, mem_fd, 8);
AT(vmplat_log_create, threshold_pages, 16);

SIZE(vmplat_range, 16);
SIZE(vmplat_log_fetch, 72);
AT(vmplat_log_fetch, first, 8);
AT(vmplat_log_fetch, buf, 24);
AT(vmplat_log_fetch, out_next, 56);
AT(vmplat_log_fetch, out_nr_unsure, 64);

SIZE(vmplat_log_end, 24);
SIZE(vmplat_log_status, 80);
AT(vmplat_log_status, out_nr_pages, 8);
AT(vmplat_log_status, out_id, 40);
AT(vmplat_log_status, out_view_busy, 56);
AT(vmplat_log_status, out_nr_unsure, 64);
AT(vmplat_log_status, out_nr_device, 72);

SIZE(vmplat_view_mem, 24);
SIZE(vmplat_view_create, 56);
AT(vmplat_view_create, mems, 8);
AT(vmplat_view_create, nr_mems, 16);
AT(vmplat_view_create, side_bytes, 24);
AT(vmplat_view_create, out_nr_dirty, 48);

SIZE(vmplat_view_status, 72);
AT(vmplat_view_status, out_bytes, 16);
AT(vmplat_view_status, out_wait_ns, 64);

SIZE(vmplat_view_discard, 24);
SIZE(vmplat_view_commit, 24);

SIZE(vmplat_pci_hold, 28);
AT(vmplat_pci_hold, devid, 12);
AT(vmplat_pci_hold, out_fd, 16);
AT(vmplat_pci_hold, out_pid, 20);

SIZE(vmplat_fill_create, 16);
SIZE(vmplat_fill_put, 40);
AT(vmplat_fill_put, first, 8);
AT(vmplat_fill_put, out_done, 32);
SIZE(vmplat_fill_end, 8);
SIZE(vmplat_fill_status, 40);

SIZE(vmplat_pci_hold, 28);
AT(vmplat_pci_hold, out_fd, 16);

SIZE(vmplat_domain_create, 16);
SIZE(vmplat_domain_attach, 72);
AT(vmplat_domain_attach, function, 8);
AT(vmplat_domain_attach, out_blocker, 24);
AT(vmplat_domain_attach, out_driver, 40);
SIZE(vmplat_domain_detach, 16);
SIZE(vmplat_domain_map, 40);
AT(vmplat_domain_map, iova, 16);
AT(vmplat_domain_map, bytes, 32);
SIZE(vmplat_domain_unmap, 40);
AT(vmplat_domain_unmap, out_bytes, 32);
SIZE(vmplat_domain_query, 56);
AT(vmplat_domain_query, out_prot, 48);
SIZE(vmplat_domain_region, 24);
SIZE(vmplat_domain_regions, 32);
AT(vmplat_domain_regions, out_nr, 20);
SIZE(vmplat_domain_status, 72);
AT(vmplat_domain_status, out_nr_attached, 64);

SIZE(vmplat_sriov_create, 152);
AT(vmplat_sriov_create, pf, 8);
AT(vmplat_sriov_create, id, 24);
AT(vmplat_sriov_create, out_generation, 136);
SIZE(vmplat_sriov_bind, 56);
AT(vmplat_sriov_bind, driver, 16);
AT(vmplat_sriov_bind, out_vf, 48);
SIZE(vmplat_sriov_destroy, 24);
SIZE(vmplat_sriov_status, 128 + 24);
AT(vmplat_sriov_status, out_generation, 16);
AT(vmplat_sriov_status, out_id, 40);
AT(vmplat_sriov_status, out_owner, 88);
