/* SPDX-License-Identifier: GPL-2.0 */
#ifndef _LINUX_DMA_MARK_DIRTY_H
#define _LINUX_DMA_MARK_DIRTY_H

#include <linux/dma-direction.h>
#include <linux/kconfig.h>
#include <linux/types.h>

struct device;

/**
 * dma_mark_dirty_armed - are pages marked that devices have written?
 *
 * If they are, a driver must not be told that it may leave out a sync or an
 * unmap.
 *
 * Return: %true if marking is built in.
 */
static inline bool dma_mark_dirty_armed(void)
{
	return IS_ENABLED(CONFIG_SWIOTLB_PAGE_DIRTYING);
}

#ifdef CONFIG_SWIOTLB_PAGE_DIRTYING
void dma_mark_dirty(struct device *dev, phys_addr_t paddr, size_t size,
		    enum dma_data_direction dir);
#else
static inline void dma_mark_dirty(struct device *dev, phys_addr_t paddr,
				  size_t size, enum dma_data_direction dir)
{
}
#endif /* CONFIG_SWIOTLB_PAGE_DIRTYING */

#endif /* _LINUX_DMA_MARK_DIRTY_H */
