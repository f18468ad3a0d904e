struct io_tlb_pool *swiotlb_find_pool(struct device *dev, phys_addr_t paddr);
