/* SPDX-License-Identifier: GPL-2.0 */
/*
 * Who uses a PCI function, as its driver says, and holds against it.
 *
 *   driver (vfio.c)  ->  pci_use.c  <-  source_pci.c, VMPLAT_PCI_HOLD
 */
#ifndef VMPLAT_PCI_USE_H
#define VMPLAT_PCI_USE_H

#include <linux/types.h>

struct pci_dev;
struct vmplat_pci_use;

/* For drivers, from probe to remove. */
struct vmplat_pci_use *vmplat_pci_use_add(struct pci_dev *pdev,
					  void (*ask)(void *data), void *data);
void vmplat_pci_use_remove(struct vmplat_pci_use *use);
int vmplat_pci_use_begin(struct vmplat_pci_use *use);
void vmplat_pci_use_asked(struct vmplat_pci_use *use);
void vmplat_pci_use_end(struct vmplat_pci_use *use);

/**
 * struct vmplat_pci_user - who has a function open
 * @pid: its process, as seen from the initial PID namespace; 0 if nobody has
 * @asked: somebody waits for it to let go
 */
struct vmplat_pci_user {
	u32 pid;
	bool asked;
};

struct vmplat_pci_user vmplat_pci_user(const struct pci_dev *pdev);
struct vmplat_pci_use *vmplat_pci_hold(const struct pci_dev *pdev, bool ask,
				       struct vmplat_pci_user *user);
void vmplat_pci_unhold(struct vmplat_pci_use *use);

/* source_pci.c */
void vmplat_event_pci_opened(struct pci_dev *pdev);
void vmplat_event_pci_asked(struct pci_dev *pdev);
void vmplat_event_pci_closed(struct pci_dev *pdev);

#endif /* VMPLAT_PCI_USE_H */
