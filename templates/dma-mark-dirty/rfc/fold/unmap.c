/*
 * Ends a mapping. Address and size are those that swiotlb_map_page() gave and got.
 * The CPU reads what the device has written from then on.
 */
void swiotlb_unmap_page(struct device *hwdev, dma_addr_t dev_addr,
			size_t size, enum dma_data_direction dir,
			{{if .Has.attrs_struct}}struct dma_attrs *attrs{{else}}unsigned long attrs{{end}})
{
	phys_addr_t paddr = dma_to_phys(hwdev, dev_addr);

	BUG_ON(dir == DMA_NONE);

	if (is_swiotlb_buffer(paddr)) {
		swiotlb_tbl_unmap_single(hwdev, paddr, size, dir{{if .Has.unmap_attrs}}, attrs{{end}});
		return;
	}

	if (dir != DMA_FROM_DEVICE)
		return;

	/* Does nothing where there is highmem, for which this address is wrong. */
	dma_mark_clean(phys_to_virt(paddr), size);
}
