/*
 * Gives a buffer that stays mapped to the CPU, which can read then what the device
 * has written. Before the device writes it again, it has to be synced for it.
 */
void
swiotlb_sync_single_for_cpu(struct device *hwdev, dma_addr_t dev_addr,
			    size_t size, enum dma_data_direction dir)
{
	phys_addr_t paddr = dma_to_phys(hwdev, dev_addr);

	BUG_ON(dir == DMA_NONE);

{{- if .Has.swiotlb_one_unmap}}

	if (!dev_is_dma_coherent(hwdev))
		arch_sync_dma_for_cpu(hwdev, paddr, size, dir);
{{- end}}

	if (is_swiotlb_buffer(paddr)) {
		swiotlb_tbl_sync_single(hwdev, paddr, size, dir, SYNC_FOR_CPU);
		return;
	}

	if (dir != DMA_FROM_DEVICE)
		return;

	dma_mark_clean(phys_to_virt(paddr), size);
}
