/*
 * Asking a guest to mark the pages that its devices write
 *
 * The block of registers in a bridge's configuration space by which the
 * hypervisor asks, and the guest answers.  See
 * docs/specs/pci-page-dirtying.rst.
 *
 * SPDX-License-Identifier: GPL-2.0-or-later
 */

#ifndef QEMU_PCI_PAGE_DIRTYING_H
#define QEMU_PCI_PAGE_DIRTYING_H

#include "hw/pci/pci_device.h"

#define REDHAT_PCI_CAP_PAGE_DIRTYING    2

/* Offsets from the vendor-specific capability */
#define PCI_PAGE_DIRTYING_VERSION       0x04
#define PCI_PAGE_DIRTYING_VECTOR        0x05
#define PCI_PAGE_DIRTYING_POLL          0x06
#define PCI_PAGE_DIRTYING_REQUEST       0x08
#define PCI_PAGE_DIRTYING_GUEST         0x0c
#define PCI_PAGE_DIRTYING_ANSWER        0x10
#define PCI_PAGE_DIRTYING_SIZEOF        0x20

#define PCI_PAGE_DIRTYING_VERSION_1     1
#define PCI_PAGE_DIRTYING_VECTOR_NONE   0xff

/* REQUEST and ANSWER */
#define PCI_PAGE_DIRTYING_STATE_SHIFT       0
#define PCI_PAGE_DIRTYING_STATE_LENGTH      8
#define  PCI_PAGE_DIRTYING_IDLE             0
#define  PCI_PAGE_DIRTYING_ACTIVE           1
#define  PCI_PAGE_DIRTYING_REFUSED          2   /* an answer, never a request */
#define PCI_PAGE_DIRTYING_GENERATION_SHIFT  8
#define PCI_PAGE_DIRTYING_GENERATION_LENGTH 23
#define PCI_PAGE_DIRTYING_ATTENTION         0x80000000 /* REQUEST only */

/* GUEST */
#define PCI_PAGE_DIRTYING_DRIVER        0x00000001
#define PCI_PAGE_DIRTYING_STREAMING     0x00000002

typedef struct PCIPageDirtying {
    bool enabled;       /* property */
    uint16_t poll;      /* property, how often the guest should look, in ms */
    /*
     * Where the capability is, 0 for none.  The registers are kept in the
     * configuration space and nowhere else, so that they are migrated with it.
     */
    uint8_t cap;
} PCIPageDirtying;

/*
 * Add the capability to @dev, which has to be a bridge, if its property says
 * so.  Returns false with @errp set on failure.  PCIBridge calls the other
 * functions.
 */
bool pci_page_dirtying_init(PCIDevice *dev, Error **errp);

void pci_page_dirtying_reset(PCIDevice *dev);
void pci_page_dirtying_write_config(PCIDevice *dev, uint32_t addr,
                                    uint32_t val, int len);

#endif /* QEMU_PCI_PAGE_DIRTYING_H */
