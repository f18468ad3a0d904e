void
swiotlb_sync_single_for_device(struct device *hwdev, dma_addr_t dev_addr,
			       size_t size, enum dma_data_direction dir)
{
	phys_addr_t paddr = dma_to_phys(hwdev, dev_addr);

	BUG_ON(dir == DMA_NONE);
{{if .Has.swiotlb_one_unmap}}
	if (is_swiotlb_buffer(paddr))
		swiotlb_tbl_sync_single(hwdev, paddr, size, dir, SYNC_FOR_DEVICE);

	if (!dev_is_dma_coherent(hwdev))
		arch_sync_dma_for_device(hwdev, paddr, size, dir);

	if (!is_swiotlb_buffer(paddr) && dir == DMA_FROM_DEVICE)
		dma_mark_clean(phys_to_virt(paddr), size);
}
{{else}}
	if (is_swiotlb_buffer(paddr)) {
		swiotlb_tbl_sync_single(hwdev, paddr, size, dir,
					SYNC_FOR_DEVICE);
		return;
	}

	if (dir != DMA_FROM_DEVICE)
		return;

	dma_mark_clean(phys_to_virt(paddr), size);
}
{{end}}