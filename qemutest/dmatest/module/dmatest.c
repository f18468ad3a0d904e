// SPDX-License-Identifier: GPL-2.0
/*
 * Map memory for a PCI device with each call of the DMA API, and hand it back,
 * as user space says.
 *
 * The host writes the memory as the device would and watches which pages the
 * kernel dirties. So what is mapped here, or was once, is not touched again: it
 * is neither freed before the module goes, nor cleared.
 *
 * The devices are QEMU's ivshmem-plain, which do nothing by themselves. The
 * first one found gets 64 address bits, the second one 32.
 */

#include <linux/bits.h>
#include <linux/dma-mapping.h>
#include <linux/fs.h>
#include <linux/ioctl.h>
#include <linux/irqflags.h>
#include <linux/ktime.h>
#include <linux/miscdevice.h>
#include <linux/mm.h>
#include <linux/module.h>
#include <linux/mutex.h>
#include <linux/pci.h>
#include <linux/scatterlist.h>
#include <linux/sched/signal.h>
#include <linux/sizes.h>
#include <linux/slab.h>
#include <linux/uaccess.h>
#include <linux/xarray.h>

#include <asm/tsc.h>

/* What user space says: the guest's agent, whose tests compare it with this. */

enum dmatest_map {
	DMATEST_SINGLE,
	DMATEST_PAGE,
	DMATEST_SG,
	DMATEST_PHYS,
	DMATEST_RESOURCE,	/* of BAR 2, no memory */
	DMATEST_COHERENT,
	DMATEST_MAPS
};

enum dmatest_how {
	DMATEST_UNMAP,
	DMATEST_SYNC,		/* all of it for the CPU */
	DMATEST_RANGE,		/* a part of it for the CPU */
	DMATEST_DEVICE		/* all of it for the device */
};

#define DMATEST_SKIP_SYNC	BIT(0)	/* DMA_ATTR_SKIP_CPU_SYNC */
#define DMATEST_STRICT		BIT(1)	/* DMA_ATTR_REQUIRE_COHERENT */
#define DMATEST_ATTRS		(DMATEST_SKIP_SYNC | DMATEST_STRICT)

#define DMATEST_ENTRIES		4

/*
 * Buffers of physically contiguous memory, each with a page before and behind
 * it that is nobody's: a guard. Buffer i begins @offset bytes into page
 * 1 + i * (pages that a buffer covers + 1).
 */
struct dmatest_cell {
	__u32 device;		/* 0 or 1 */
	__u32 map;		/* enum dmatest_map */
	__u32 dir;		/* enum dma_data_direction */
	__u32 attrs;		/* DMATEST_SKIP_SYNC, DMATEST_STRICT */
	__u32 high;		/* all above 4 GiB, or all below */
	__u32 offset;		/* of each buffer in its first page; in BAR 2 */
	__u32 length;		/* of each buffer, bytes */
	__u32 entries;		/* buffers; more than one only in a scatterlist */
	/* Filled in: */
	__u32 id;		/* from 1 */
	__u32 pages;		/* with the guards; 0 if there is no memory */
	__u64 frame;		/* of the first page */
	__u64 dma[DMATEST_ENTRIES]; /* what the device is to use, by buffer */
};

struct dmatest_return {
	__u32 id;
	__u32 how;		/* enum dmatest_how */
	__u32 offset;		/* of the range in the buffer, bytes */
	__u32 length;
};

/* Sync two ranges for the CPU in turn. */
struct dmatest_stress {
	__u32 id;
	__u32 milliseconds;
	struct {
		__u32 offset;
		__u32 length;
	} range[2];
	__u64 syncs;		/* filled in */
};

enum dmatest_call {
	DMATEST_UNMAP_PAGE,
	DMATEST_SYNC_SINGLE,	/* for the CPU */
	DMATEST_CALLS
};

#define DMATEST_SAMPLES		16

/*
 * What a call takes, of a buffer that the first device fills and that is not
 * bounced, in ticks of the time stamp counter.
 */
struct dmatest_measure {
	__u32 call;		/* enum dmatest_call */
	__u32 length;		/* of the buffer, bytes */
	/* Filled in: */
	__u64 khz;		/* ticks in a millisecond */
	__u64 empty[DMATEST_SAMPLES]; /* of a call that does nothing */
	__u64 ticks[DMATEST_SAMPLES];
};

#define DMATEST_IOC_MAP		_IOWR(0xd7, 0, struct dmatest_cell)
#define DMATEST_IOC_RETURN	_IOW(0xd7, 1, struct dmatest_return)
#define DMATEST_IOC_STRESS	_IOWR(0xd7, 2, struct dmatest_stress)
#define DMATEST_IOC_MEASURE	_IOWR(0xd7, 3, struct dmatest_measure)

#define DMATEST_MAX_CELLS	4096
#define DMATEST_MAX_LENGTH	SZ_4M
#define DMATEST_WARM_UP		4
#define DMATEST_MAX_STRESS	(60 * MSEC_PER_SEC)
/* Of alloc_pages(); the macro for it has had two names. */
#define DMATEST_MAX_ORDER	10

/* What memory is filled with: a page of zeros would be sent as nothing. */
#define DMATEST_FILL		0xa5

#define DMATEST_BAR		2

struct cell {
	struct dmatest_cell is;
	unsigned long attrs;
	struct device *dev;	/* NULL if it is not mapped */
	void *mem;		/* the pages, or those of DMATEST_COHERENT */
	struct scatterlist sg[DMATEST_ENTRIES];
};

static DEFINE_MUTEX(lock);	/* of all that follows */
static DEFINE_XARRAY_ALLOC1(cells);
static struct pci_dev *devices[2];

#ifndef HAVE_DMA_MAP_PHYS
static dma_addr_t dma_map_phys(struct device *dev, phys_addr_t phys, size_t size,
			       enum dma_data_direction dir, unsigned long attrs)
{
	return DMA_MAPPING_ERROR;
}

static void dma_unmap_phys(struct device *dev, dma_addr_t addr, size_t size,
			   enum dma_data_direction dir, unsigned long attrs)
{
}
#endif

static u32 cell_stride(const struct dmatest_cell *c)
{
	return DIV_ROUND_UP(c->offset + c->length, PAGE_SIZE) + 1;
}

static size_t cell_size(const struct dmatest_cell *c)
{
	return (size_t)c->pages << PAGE_SHIFT;
}

static void *cell_buffer(const struct cell *cell, u32 i)
{
	return cell->mem + (1 + i * cell_stride(&cell->is)) * PAGE_SIZE + cell->is.offset;
}

static int cell_check(const struct dmatest_cell *c)
{
	struct pci_dev *pdev;

	if (c->device >= ARRAY_SIZE(devices) || c->map >= DMATEST_MAPS ||
	    c->dir > DMA_FROM_DEVICE || c->attrs & ~DMATEST_ATTRS || c->high > 1 ||
	    c->offset >= PAGE_SIZE || !c->length || c->length > DMATEST_MAX_LENGTH ||
	    !c->entries || c->entries > DMATEST_ENTRIES)
		return -EINVAL;
	if (c->entries > 1 && c->map != DMATEST_SG)
		return -EINVAL;
	if (c->map == DMATEST_COHERENT && (c->attrs || c->high || c->offset))
		return -EINVAL;
#ifndef HAVE_DMA_MAP_PHYS
	if (c->map == DMATEST_PHYS)
		return -EOPNOTSUPP;
#endif
#ifndef DMA_ATTR_REQUIRE_COHERENT
	if (c->attrs & DMATEST_STRICT)
		return -EOPNOTSUPP;
#endif
	pdev = devices[c->device];
	if (!pdev)
		return -ENODEV;
	if (c->map == DMATEST_RESOURCE &&
	    c->offset + c->length > pci_resource_len(pdev, DMATEST_BAR))
		return -EINVAL;
	return 0;
}

static int cell_alloc(struct cell *cell)
{
	struct dmatest_cell *c = &cell->is;
	gfp_t gfp = GFP_KERNEL | __GFP_NOWARN | __GFP_NORETRY;
	u64 first, end;

	c->pages = 1 + c->entries * cell_stride(c);
	if (get_order(cell_size(c)) > DMATEST_MAX_ORDER)
		return -EINVAL;
	/* Without GFP_DMA32 it is tried above 4 GiB first, if there is anything. */
	cell->mem = alloc_pages_exact(cell_size(c), c->high ? gfp : gfp | GFP_DMA32);
	if (!cell->mem)
		return -ENOMEM;
	first = virt_to_phys(cell->mem);
	end = first + cell_size(c);
	if (c->high ? first < SZ_4G : end > SZ_4G) {
		free_pages_exact(cell->mem, cell_size(c));
		cell->mem = NULL;
		return -ENOMEM;
	}
	c->frame = first >> PAGE_SHIFT;
	memset(cell->mem, DMATEST_FILL, cell_size(c));
	return 0;
}

static int cell_map_sg(struct cell *cell, struct device *dev)
{
	struct dmatest_cell *c = &cell->is;
	int i, n;

	sg_init_table(cell->sg, c->entries);
	for (i = 0; i < c->entries; i++)
		sg_set_page(&cell->sg[i], virt_to_page(cell_buffer(cell, i)),
			    c->length, c->offset);
	n = dma_map_sg_attrs(dev, cell->sg, c->entries, c->dir, cell->attrs);
	if (!n)
		return -EIO;
	if (n != c->entries) {
		/* Merged: there is no address for each buffer. */
		dma_unmap_sg_attrs(dev, cell->sg, c->entries, c->dir, cell->attrs);
		return -EIO;
	}
	for (i = 0; i < n; i++)
		c->dma[i] = sg_dma_address(&cell->sg[i]);
	return 0;
}

static int cell_map_coherent(struct cell *cell, struct device *dev)
{
	struct dmatest_cell *c = &cell->is;
	dma_addr_t addr;

	cell->mem = dma_alloc_coherent(dev, c->length, &addr, GFP_KERNEL);
	if (!cell->mem)
		return -ENOMEM;
	memset(cell->mem, DMATEST_FILL, c->length);
	c->dma[0] = addr;
	/* Not of @mem, which may be remapped. There is no IOMMU. */
	c->frame = addr >> PAGE_SHIFT;
	c->pages = DIV_ROUND_UP(c->length, PAGE_SIZE);
	return 0;
}

static int cell_map(struct cell *cell)
{
	struct dmatest_cell *c = &cell->is;
	struct pci_dev *pdev = devices[c->device];
	struct device *dev = &pdev->dev;
	dma_addr_t addr = DMA_MAPPING_ERROR;
	void *buffer = NULL;
	int err = 0;

	if (c->attrs & DMATEST_SKIP_SYNC)
		cell->attrs |= DMA_ATTR_SKIP_CPU_SYNC;
#ifdef DMA_ATTR_REQUIRE_COHERENT
	if (c->attrs & DMATEST_STRICT)
		cell->attrs |= DMA_ATTR_REQUIRE_COHERENT;
#endif

	if (c->map != DMATEST_COHERENT && c->map != DMATEST_RESOURCE) {
		err = cell_alloc(cell);
		if (err)
			return err;
		buffer = cell_buffer(cell, 0);
	}

	switch (c->map) {
	case DMATEST_SINGLE:
		addr = dma_map_single_attrs(dev, buffer, c->length, c->dir, cell->attrs);
		break;
	case DMATEST_PAGE:
		addr = dma_map_page_attrs(dev, virt_to_page(buffer), c->offset, c->length,
					  c->dir, cell->attrs);
		break;
	case DMATEST_PHYS:
		addr = dma_map_phys(dev, virt_to_phys(buffer), c->length, c->dir,
				    cell->attrs);
		break;
	case DMATEST_RESOURCE:
		addr = dma_map_resource(dev, pci_resource_start(pdev, DMATEST_BAR) + c->offset,
					c->length, c->dir, cell->attrs);
		break;
	case DMATEST_SG:
		err = cell_map_sg(cell, dev);
		break;
	case DMATEST_COHERENT:
		err = cell_map_coherent(cell, dev);
		break;
	}
	if (c->map != DMATEST_SG && c->map != DMATEST_COHERENT) {
		if (dma_mapping_error(dev, addr))
			err = -EIO;
		c->dma[0] = addr;
	}
	if (!err)
		cell->dev = dev;
	return err;
}

/* Leaves the memory as it is. */
static void cell_unmap(struct cell *cell)
{
	struct dmatest_cell *c = &cell->is;
	struct device *dev = cell->dev;

	if (!dev)
		return;
	switch (c->map) {
	case DMATEST_SINGLE:
		dma_unmap_single_attrs(dev, c->dma[0], c->length, c->dir, cell->attrs);
		break;
	case DMATEST_PAGE:
		dma_unmap_page_attrs(dev, c->dma[0], c->length, c->dir, cell->attrs);
		break;
	case DMATEST_PHYS:
		dma_unmap_phys(dev, c->dma[0], c->length, c->dir, cell->attrs);
		break;
	case DMATEST_RESOURCE:
		dma_unmap_resource(dev, c->dma[0], c->length, c->dir, cell->attrs);
		break;
	case DMATEST_SG:
		dma_unmap_sg_attrs(dev, cell->sg, c->entries, c->dir, cell->attrs);
		break;
	case DMATEST_COHERENT:
		dma_free_coherent(dev, c->length, cell->mem, c->dma[0]);
		cell->mem = NULL;
		break;
	}
	cell->dev = NULL;
}

static void cell_free(struct cell *cell)
{
	cell_unmap(cell);
	if (cell->mem)
		free_pages_exact(cell->mem, cell_size(&cell->is));
	kfree(cell);
}

static int dmatest_map(struct dmatest_cell *c)
{
	struct cell *cell;
	int err;

	err = cell_check(c);
	if (err)
		return err;
	cell = kzalloc(sizeof(*cell), GFP_KERNEL);
	if (!cell)
		return -ENOMEM;
	cell->is = *c;
	cell->is.pages = 0;
	cell->is.frame = 0;
	memset(cell->is.dma, 0, sizeof(cell->is.dma));
	err = cell_map(cell);
	if (!err)
		err = xa_alloc(&cells, &cell->is.id, cell, XA_LIMIT(1, DMATEST_MAX_CELLS),
			       GFP_KERNEL);
	if (err) {
		cell_free(cell);
		return err == -EBUSY ? -ENOSPC : err;
	}
	*c = cell->is;
	return 0;
}

/* Returns a cell that is mapped, or NULL. */
static struct cell *cell_find(u32 id)
{
	struct cell *cell = xa_load(&cells, id);

	return cell && cell->dev ? cell : NULL;
}

static bool cell_has(const struct cell *cell, u32 offset, u32 length)
{
	const struct dmatest_cell *c = &cell->is;

	/* A scatterlist has no call for a part of it. */
	return c->map != DMATEST_SG && c->map != DMATEST_COHERENT &&
	       offset <= c->length && length <= c->length - offset;
}

static int dmatest_return(const struct dmatest_return *r)
{
	struct cell *cell = cell_find(r->id);
	const struct dmatest_cell *c;

	if (!cell)
		return -ENOENT;
	c = &cell->is;
	if (r->how != DMATEST_UNMAP && c->map == DMATEST_COHERENT)
		return -EINVAL;
	if (r->how != DMATEST_RANGE && (r->offset || r->length))
		return -EINVAL;

	switch (r->how) {
	case DMATEST_UNMAP:
		cell_unmap(cell);
		return 0;
	case DMATEST_SYNC:
		if (c->map == DMATEST_SG)
			dma_sync_sg_for_cpu(cell->dev, cell->sg, c->entries, c->dir);
		else
			dma_sync_single_for_cpu(cell->dev, c->dma[0], c->length, c->dir);
		return 0;
	case DMATEST_RANGE:
		if (!cell_has(cell, r->offset, r->length))
			return -EINVAL;
		dma_sync_single_range_for_cpu(cell->dev, c->dma[0], r->offset, r->length,
					      c->dir);
		return 0;
	case DMATEST_DEVICE:
		if (c->map == DMATEST_SG)
			dma_sync_sg_for_device(cell->dev, cell->sg, c->entries, c->dir);
		else
			dma_sync_single_for_device(cell->dev, c->dma[0], c->length, c->dir);
		return 0;
	}
	return -EINVAL;
}

static int dmatest_stress(struct dmatest_stress *s)
{
	struct cell *cell = cell_find(s->id);
	ktime_t end;
	int i;

	if (!cell)
		return -ENOENT;
	if (s->milliseconds > DMATEST_MAX_STRESS)
		return -EINVAL;
	for (i = 0; i < ARRAY_SIZE(s->range); i++)
		if (!cell_has(cell, s->range[i].offset, s->range[i].length))
			return -EINVAL;

	s->syncs = 0;
	end = ktime_add_ms(ktime_get(), s->milliseconds);
	do {
		/* Far more syncs than looks at the clock. */
		for (i = 0; i < 64; i++)
			dma_sync_single_range_for_cpu(cell->dev, cell->is.dma[0],
						      s->range[i % 2].offset,
						      s->range[i % 2].length,
						      cell->is.dir);
		s->syncs += 64;
		cond_resched();
		if (fatal_signal_pending(current))
			return -EINTR;
	} while (ktime_before(ktime_get(), end));
	return 0;
}

static noinline void measured_nothing(struct device *dev, dma_addr_t addr, size_t size)
{
	barrier();
}

static noinline void measured_unmap_page(struct device *dev, dma_addr_t addr, size_t size)
{
	dma_unmap_page(dev, addr, size, DMA_FROM_DEVICE);
}

static noinline void measured_sync_single(struct device *dev, dma_addr_t addr, size_t size)
{
	dma_sync_single_for_cpu(dev, addr, size, DMA_FROM_DEVICE);
}

static noinline u64 measure(void (*call)(struct device *, dma_addr_t, size_t),
			    struct device *dev, dma_addr_t addr, size_t size)
{
	unsigned long flags;
	u64 begin, end;

	/* What does nothing is to be called by the very same code. */
	OPTIMIZER_HIDE_VAR(call);

	local_irq_save(flags);
	begin = rdtsc_ordered();
	call(dev, addr, size);
	end = rdtsc_ordered();
	local_irq_restore(flags);
	return end - begin;
}

static int dmatest_measure(struct dmatest_measure *m)
{
	struct pci_dev *pdev = devices[0];
	u64 empty, ticks;
	struct device *dev;
	dma_addr_t addr;
	int i, err = 0;
	void *mem;

	if (m->call >= DMATEST_CALLS || !m->length || m->length > DMATEST_MAX_LENGTH)
		return -EINVAL;
	if (!pdev)
		return -ENODEV;
	dev = &pdev->dev;
	mem = alloc_pages_exact(m->length, GFP_KERNEL | __GFP_NOWARN | __GFP_NORETRY);
	if (!mem)
		return -ENOMEM;
	/*
	 * On which side of the bounce buffers it lies decides how many
	 * comparisons it takes to see that it is none of them.
	 */
	if (virt_to_phys(mem) < SZ_4G)
		err = -ENOMEM;

	m->khz = tsc_khz;
	for (i = -DMATEST_WARM_UP; !err && i < DMATEST_SAMPLES; i++) {
		addr = dma_map_page(dev, virt_to_page(mem), 0, m->length, DMA_FROM_DEVICE);
		if (dma_mapping_error(dev, addr)) {
			err = -EIO;
			break;
		}
		if (addr != virt_to_phys(mem)) {
			dma_unmap_page(dev, addr, m->length, DMA_FROM_DEVICE);
			err = -EXDEV;
			break;
		}
		empty = measure(measured_nothing, dev, addr, m->length);
		if (m->call == DMATEST_UNMAP_PAGE) {
			ticks = measure(measured_unmap_page, dev, addr, m->length);
		} else {
			ticks = measure(measured_sync_single, dev, addr, m->length);
			dma_unmap_page(dev, addr, m->length, DMA_FROM_DEVICE);
		}
		if (i >= 0) {
			m->empty[i] = empty;
			m->ticks[i] = ticks;
		}
	}
	free_pages_exact(mem, m->length);
	return err;
}

static long dmatest_ioctl(struct file *file, unsigned int cmd, unsigned long arg)
{
	void __user *user = (void __user *)arg;
	union {
		struct dmatest_cell cell;
		struct dmatest_return ret;
		struct dmatest_stress stress;
		struct dmatest_measure measure;
	} u;
	long err;

	if (cmd != DMATEST_IOC_MAP && cmd != DMATEST_IOC_RETURN &&
	    cmd != DMATEST_IOC_STRESS && cmd != DMATEST_IOC_MEASURE)
		return -ENOTTY;
	if (copy_from_user(&u, user, _IOC_SIZE(cmd)))
		return -EFAULT;

	if (mutex_lock_killable(&lock))
		return -EINTR;
	switch (cmd) {
	case DMATEST_IOC_MAP:
		err = dmatest_map(&u.cell);
		break;
	case DMATEST_IOC_RETURN:
		err = dmatest_return(&u.ret);
		break;
	case DMATEST_IOC_STRESS:
		err = dmatest_stress(&u.stress);
		break;
	default:
		err = dmatest_measure(&u.measure);
	}
	mutex_unlock(&lock);

	/* A cell that nobody learns of goes with the module. */
	if (!err && _IOC_DIR(cmd) & _IOC_READ && copy_to_user(user, &u, _IOC_SIZE(cmd)))
		err = -EFAULT;
	return err;
}

static const struct file_operations dmatest_fops = {
	.owner = THIS_MODULE,
	.unlocked_ioctl = dmatest_ioctl,
	.compat_ioctl = compat_ptr_ioctl,
};

static struct miscdevice dmatest_misc = {
	.minor = MISC_DYNAMIC_MINOR,
	.name = "patchgen-dma",
	.fops = &dmatest_fops,
	.mode = 0600,
};

static int dmatest_probe(struct pci_dev *pdev, const struct pci_device_id *id)
{
	static const int bits[ARRAY_SIZE(devices)] = { 64, 32 };
	int i, err;

	err = pcim_enable_device(pdev);
	if (err)
		return err;

	mutex_lock(&lock);
	for (i = 0; i < ARRAY_SIZE(devices) && devices[i]; i++)
		;
	if (i == ARRAY_SIZE(devices))
		err = -EBUSY;
	else
		err = dma_set_mask_and_coherent(&pdev->dev, DMA_BIT_MASK(bits[i]));
	if (!err) {
		pci_set_master(pdev);
		devices[i] = pdev;
	}
	mutex_unlock(&lock);
	return err;
}

static void dmatest_remove(struct pci_dev *pdev)
{
	struct cell *cell;
	unsigned long id;
	int i;

	mutex_lock(&lock);
	xa_for_each(&cells, id, cell)
		if (cell->dev == &pdev->dev)
			cell_unmap(cell);
	for (i = 0; i < ARRAY_SIZE(devices); i++)
		if (devices[i] == pdev)
			devices[i] = NULL;
	mutex_unlock(&lock);
}

static const struct pci_device_id dmatest_ids[] = {
	{ PCI_DEVICE(PCI_VENDOR_ID_REDHAT_QUMRANET, 0x1110) },
	{ }
};
MODULE_DEVICE_TABLE(pci, dmatest_ids);

static struct pci_driver dmatest_driver = {
	.name = "patchgen-dma",
	.id_table = dmatest_ids,
	.probe = dmatest_probe,
	.remove = dmatest_remove,
};

static int __init dmatest_init(void)
{
	int err;

	err = pci_register_driver(&dmatest_driver);
	if (err)
		return err;
	err = misc_register(&dmatest_misc);
	if (err)
		pci_unregister_driver(&dmatest_driver);
	return err;
}

static void __exit dmatest_exit(void)
{
	struct cell *cell;
	unsigned long id;

	misc_deregister(&dmatest_misc);
	pci_unregister_driver(&dmatest_driver);
	xa_for_each(&cells, id, cell)
		cell_free(cell);
	xa_destroy(&cells);
}

module_init(dmatest_init);
module_exit(dmatest_exit);

MODULE_DESCRIPTION("Map memory for a PCI device with each call of the DMA API");
MODULE_LICENSE("GPL");
