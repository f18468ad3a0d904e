static inline bool dev_is_dma_coherent(struct device *dev);
