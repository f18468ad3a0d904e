{{if not .Has.no_spdx}}/* SPDX-License-Identifier: GPL-2.0 */
{{end -}}
#ifndef _KERNEL_DMA_MARK_DIRTY_H
#define _KERNEL_DMA_MARK_DIRTY_H

#include <linux/types.h>

/* What is counted, in the order of the files in debugfs. */
enum dma_mark_dirty_counter {
	DMA_MARK_DIRTY_CALLS,	/* buffers that were marked */
	DMA_MARK_DIRTY_PAGES,	/* pages that were marked */
	DMA_MARK_DIRTY_SKIPPED,	/* pages that are no memory of this guest */
	DMA_MARK_DIRTY_FAULTS,	/* pages that are not mapped writable */
	DMA_MARK_DIRTY_NR_COUNTERS
};

u64 dma_mark_dirty_count(enum dma_mark_dirty_counter counter);
int dma_mark_dirty_enable(bool enable);

#endif /* _KERNEL_DMA_MARK_DIRTY_H */
