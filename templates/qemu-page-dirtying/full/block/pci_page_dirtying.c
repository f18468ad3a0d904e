/*
 * Asking a guest to mark the pages that its devices write
 *
 * A device that writes guest memory without QEMU knowing where (one that is
 * passed through, behind an IOMMU without dirty tracking) makes a migration
 * lose those pages.  The guest knows them: its DMA API hands them back to its
 * drivers.  With the registers here it is asked to dirty them with the CPU as
 * well, and says whether it does.  See docs/specs/pci-page-dirtying.rst.
 *
 * SPDX-License-Identifier: GPL-2.0-or-later
 */

#include "qemu/osdep.h"
#include "qemu/bitops.h"
#include "hw/pci/pci_bridge.h"
#include "hw/pci/pci_page_dirtying.h"
#include "trace.h"

static uint32_t pci_page_dirtying_get(PCIDevice *dev, unsigned int reg)
{
    return pci_get_long(dev->config + PCI_BRIDGE(dev)->page_dirtying.cap + reg);
}

static void pci_page_dirtying_set(PCIDevice *dev, unsigned int reg,
                                  uint32_t val)
{
    pci_set_long(dev->config + PCI_BRIDGE(dev)->page_dirtying.cap + reg, val);
}

static uint32_t pci_page_dirtying_state(uint32_t word)
{
    return extract32(word, PCI_PAGE_DIRTYING_STATE_SHIFT,
                     PCI_PAGE_DIRTYING_STATE_LENGTH);
}

static uint32_t pci_page_dirtying_generation(uint32_t word)
{
    return extract32(word, PCI_PAGE_DIRTYING_GENERATION_SHIFT,
                     PCI_PAGE_DIRTYING_GENERATION_LENGTH);
}

/* Each request has a generation of its own, which the guest has to answer */
static void pci_page_dirtying_request(PCIDevice *dev, uint32_t state)
{
    uint32_t request = pci_page_dirtying_get(dev, PCI_PAGE_DIRTYING_REQUEST);
    uint32_t generation = pci_page_dirtying_generation(request) + 1;

    request = deposit32(PCI_PAGE_DIRTYING_ATTENTION,
                        PCI_PAGE_DIRTYING_GENERATION_SHIFT,
                        PCI_PAGE_DIRTYING_GENERATION_LENGTH, generation);
    request = deposit32(request, PCI_PAGE_DIRTYING_STATE_SHIFT,
                        PCI_PAGE_DIRTYING_STATE_LENGTH, state);
    pci_page_dirtying_set(dev, PCI_PAGE_DIRTYING_REQUEST, request);
    trace_pci_page_dirtying_request(dev->name, dev->devfn, request);
}

bool pci_page_dirtying_init(PCIDevice *dev, Error **errp)
{
    PCIPageDirtying *pd = &PCI_BRIDGE(dev)->page_dirtying;
    uint8_t *cap;
    int offset;

    if (!pd->enabled) {
        return true;
    }

    offset = pci_add_capability(dev, PCI_CAP_ID_VNDR, 0,
                                PCI_PAGE_DIRTYING_SIZEOF, errp);
    if (offset < 0) {
        return false;
    }
    pd->cap = offset;

    cap = dev->config + offset;
    cap[PCI_CAP_FLAGS] = PCI_PAGE_DIRTYING_SIZEOF;
    cap[REDHAT_PCI_CAP_TYPE_OFFSET] = REDHAT_PCI_CAP_PAGE_DIRTYING;
    cap[PCI_PAGE_DIRTYING_VERSION] = PCI_PAGE_DIRTYING_VERSION_1;
    cap[PCI_PAGE_DIRTYING_VECTOR] = PCI_PAGE_DIRTYING_VECTOR_NONE;
    pci_set_word(cap + PCI_PAGE_DIRTYING_POLL, pd->poll);
    /* Nobody has looked yet: let the guest's driver introduce itself */
    pci_set_long(cap + PCI_PAGE_DIRTYING_REQUEST, PCI_PAGE_DIRTYING_ATTENTION);

    /* These are the source's on the destination of a migration, not its own */
    memset(dev->cmask + offset + PCI_PAGE_DIRTYING_REQUEST, 0,
           PCI_PAGE_DIRTYING_ANSWER + 4 - PCI_PAGE_DIRTYING_REQUEST);
    return true;
}

/*
 * The guest starts anew: what it said counts no more, what it is asked still
 * does.
 */
void pci_page_dirtying_reset(PCIDevice *dev)
{
    uint32_t request;

    if (!PCI_BRIDGE(dev)->page_dirtying.cap) {
        return;
    }

    pci_page_dirtying_set(dev, PCI_PAGE_DIRTYING_GUEST, 0);
    pci_page_dirtying_set(dev, PCI_PAGE_DIRTYING_ANSWER, 0);
    request = pci_page_dirtying_get(dev, PCI_PAGE_DIRTYING_REQUEST);
    pci_page_dirtying_request(dev, pci_page_dirtying_state(request));
}

static void pci_page_dirtying_answer(PCIDevice *dev, uint32_t answer)
{
    uint32_t request = pci_page_dirtying_get(dev, PCI_PAGE_DIRTYING_REQUEST);

    answer &= ~PCI_PAGE_DIRTYING_ATTENTION;
    pci_page_dirtying_set(dev, PCI_PAGE_DIRTYING_ANSWER, answer);
    trace_pci_page_dirtying_answer(dev->name, dev->devfn, answer);

    /* An answer to an earlier request is none to this one */
    if (pci_page_dirtying_generation(answer) ==
        pci_page_dirtying_generation(request)) {
        pci_page_dirtying_set(dev, PCI_PAGE_DIRTYING_REQUEST,
                              request & ~PCI_PAGE_DIRTYING_ATTENTION);
    }
}

void pci_page_dirtying_write_config(PCIDevice *dev, uint32_t addr,
                                    uint32_t val, int len)
{
    uint8_t cap = PCI_BRIDGE(dev)->page_dirtying.cap;

    /* A part of a register is ignored, as its other part would be stale */
    if (!cap || len != 4) {
        return;
    }

    if (addr == cap + PCI_PAGE_DIRTYING_GUEST) {
        val &= PCI_PAGE_DIRTYING_DRIVER | PCI_PAGE_DIRTYING_STREAMING;
        pci_page_dirtying_set(dev, PCI_PAGE_DIRTYING_GUEST, val);
        trace_pci_page_dirtying_guest(dev->name, dev->devfn, val);
    } else if (addr == cap + PCI_PAGE_DIRTYING_ANSWER) {
        pci_page_dirtying_answer(dev, val);
    }
}
