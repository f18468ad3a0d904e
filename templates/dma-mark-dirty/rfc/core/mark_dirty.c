// SPDX-License-Identifier: GPL-2.0
/*
 * Mark the memory that devices have written by DMA as dirty.
 *
 * A hypervisor that migrates a running guest logs which pages the guest's CPUs
 * write, in order to send them again. It does not see what a pass-through device
 * writes unless that device or an IOMMU can log it. Where neither can, the guest
 * stores to each page that it gets back from a device, without changing it.
 */
#include <linux/device.h>
{{- if .Has.dma_map_ops}}
#include <linux/dma-map-ops.h>
#include <linux/dma-mark-dirty.h>
{{- else}}
#include <linux/dma-mark-dirty.h>
#include <linux/dma-noncoherent.h>
{{- end}}
#include <linux/io.h>
#include <linux/memremap.h>
#include <linux/mm.h>
#include <linux/swiotlb.h>

#include <asm/dma-mark-dirty.h>

/*
 * Memory that migrates with the guest, and that may be stored to. Registers and
 * memory of a device, be it of the one that did the transfer or of a peer, may
 * not: a store to them can have any effect.
 */
static bool dma_mark_dirty_is_ram(unsigned long pfn)
{
	struct page *page;

	if (!pfn_valid(pfn))
		return false;

	page = pfn_to_page(pfn);
	if (is_zone_device_page(page))
		return !is_device_private_page(page) &&
{{- if .Has.device_coherent}}
		       !is_device_coherent_page(page) &&
{{- end}}
		       !is_pci_p2pdma_page(page);

	return likely(!PageReserved(page)) ||
	       arch_dma_reserved_page_is_ram(pfn);
}

/**
 * dma_mark_dirty - mark the pages of a DMA buffer dirty
 * @dev: device that the buffer is mapped for
 * @paddr: physical address that the device uses: the buffer or its bounce slot
 * @size: size in bytes, may be 0
 * @dir: direction of the transfer
 *
 * Stores to each page that @dev may have written, without changing it, so that a
 * hypervisor which logs the guest's own stores sends the page again. To be called
 * where the CPU gets the buffer back: after the caches were invalidated and after
 * the data was copied from a bounce slot, but while that slot is still allocated.
 * Any context.
 */
void dma_mark_dirty(struct device *dev, phys_addr_t paddr, size_t size,
		    enum dma_data_direction dir)
{
	phys_addr_t last = paddr + size - 1;
	unsigned long pfn, last_pfn;

	if (dir != DMA_FROM_DEVICE && dir != DMA_BIDIRECTIONAL)
		return;

	if (!size)
		return;

	if (last < paddr) {
		dev_warn_once(dev, "DMA buffer %pap+%zu wraps, not marked\n",
			      &paddr, size);
		return;
	}

	/*
	 * The copy out of a bounce slot has dirtied the buffer already. What is
	 * left in the slot is not needed any more.
	 */
	if ({{.Name.bounced}}({{if not .Has.one_bounce_pool}}dev, {{end}}paddr))
		return;

	/* A dirty cache line could be written back over the device's data. */
	if (!dev_is_dma_coherent(dev))
		return;

	pfn = PHYS_PFN(paddr);
	last_pfn = PHYS_PFN(last);

	/*
	 * One store a page, to the buffer's own first byte in it. The loop is
	 * on frame numbers, because the end address of the last page wraps.
	 */
	for (;;) {
		if (dma_mark_dirty_is_ram(pfn) &&
		    arch_dma_mark_dirty(phys_to_virt(paddr)))
			dev_warn_once(dev, "a page of a DMA buffer is not mapped writable, not marked\n");

		if (pfn == last_pfn)
			break;
		paddr = PFN_PHYS(++pfn);
	}
}
