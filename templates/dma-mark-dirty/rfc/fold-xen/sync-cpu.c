/*
 * Gives a buffer that stays mapped to the CPU, which can read then what the device
 * has written. Before the device writes it again, it has to be synced for it.
 */
{{if .Has.xen_static_sync}}static {{end}}void
xen_swiotlb_sync_single_for_cpu(struct device *hwdev, dma_addr_t dev_addr,
				size_t size, enum dma_data_direction dir)
{
	phys_addr_t paddr = xen_bus_to_phys(dev_addr);

	BUG_ON(dir == DMA_NONE);

	xen_dma_sync_single_for_cpu(hwdev, dev_addr, size, dir);

	/* It is the bus address that tells. */
	if (is_xen_swiotlb_buffer(dev_addr))
		swiotlb_tbl_sync_single(hwdev, paddr, size, dir, SYNC_FOR_CPU);

	if (dir != DMA_FROM_DEVICE)
		return;

	dma_mark_clean(phys_to_virt(paddr), size);
}
