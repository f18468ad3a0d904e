{{if not .Has.no_spdx}}/* SPDX-License-Identifier: GPL-2.0 */
{{end -}}
#ifndef _LINUX_DMA_MARK_DIRTY_H
#define _LINUX_DMA_MARK_DIRTY_H

#include <linux/dma-direction.h>
#include <linux/jump_label.h>
#include <linux/types.h>

struct device;

#ifdef CONFIG_SWIOTLB_PAGE_DIRTYING
{{if .Has.no_static_key_declaration}}extern struct static_key_false dma_mark_dirty_active;{{else}}DECLARE_STATIC_KEY_FALSE(dma_mark_dirty_active);{{end}}
extern bool __dma_mark_dirty_armed;

void __dma_mark_dirty(struct device *dev, phys_addr_t paddr, size_t size,
		      enum dma_data_direction dir);

/**
 * dma_mark_dirty_armed - can marking be active in this boot?
 *
{{- if .Has.swiotlb_ops}}
 * While it can, x86 has to map buffers by swiotlb, which marks, and which does not
 * have to bounce them. That is decided at boot and does not change afterwards.
{{- else if .Has.syncs_kept}}
 * That is decided at boot and does not change afterwards.
{{- else}}
 * While it can, a driver must not be told that it may leave out a sync or an
 * unmap. Drivers keep that answer, so it is decided before they probe and does
 * not change afterwards.
{{- end}}
 *
 * Return: %true if marking is active or can be made so at run time.
 */
static inline bool dma_mark_dirty_armed(void)
{
	return READ_ONCE(__dma_mark_dirty_armed);
}

/**
 * dma_mark_dirty - mark the pages of a DMA buffer dirty
 * @dev: device that the buffer is mapped for
 * @paddr: physical address that the device uses: the buffer or its bounce slot
 * @size: size in bytes, may be 0
 * @dir: direction of the transfer
 *
 * Makes the CPU store to each page that @dev may have written, without changing
 * it, so that a hypervisor which logs the guest's own stores sends the page
 * again. To be called where the CPU gets the buffer back: after the caches were
 * invalidated and after the data was copied from a bounce slot, but while that
 * slot is still allocated. Any context.
 */
static inline void dma_mark_dirty(struct device *dev, phys_addr_t paddr,
				  size_t size, enum dma_data_direction dir)
{
	if (static_branch_unlikely(&dma_mark_dirty_active))
		__dma_mark_dirty(dev, paddr, size, dir);
}
#else
static inline bool dma_mark_dirty_armed(void)
{
	return false;
}

static inline void dma_mark_dirty(struct device *dev, phys_addr_t paddr,
				  size_t size, enum dma_data_direction dir)
{
}
#endif /* CONFIG_SWIOTLB_PAGE_DIRTYING */

#endif /* _LINUX_DMA_MARK_DIRTY_H */
