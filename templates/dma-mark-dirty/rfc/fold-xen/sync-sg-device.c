{{if .Has.xen_static_sync_sg}}static {{end}}void
xen_swiotlb_sync_sg_for_device(struct device *hwdev, struct scatterlist *sgl,
			       int nelems, enum dma_data_direction dir)
{
	struct scatterlist *sg;
	int i;

	for_each_sg(sgl, sg, nelems, i)
		xen_swiotlb_sync_single_for_device(hwdev, sg->dma_address,
						   sg_dma_len(sg), dir);
}
