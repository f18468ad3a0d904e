#include <linux/dma-map-ops.h>

static void dma_setup_need_sync(struct device *dev)
{
	const struct dma_map_ops *ops = get_dma_ops(dev);

	dev->dma_skip_sync = dma_map_direct(dev, ops) &&
			     dev_is_dma_coherent(dev);
}
