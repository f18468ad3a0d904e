// SPDX-License-Identifier: GPL-2.0
/*
 * KUnit tests for dma_mark_dirty() and for the places that call it.
 *
 * Whether a page was stored to is read from where a hypervisor would read it:
 * the dirty bit that the CPU sets in the page table, here that of the direct
 * map. It is cleared before each step, and so is the TLB.
 */
#include <kunit/test.h>
{{- if .Has.kunit_device}}
#include <kunit/device.h>
{{- end}}

#include <linux/cpumask.h>
#include <linux/device.h>
#include <linux/dma-direct.h>
#include <linux/dma-map-ops.h>
#include <linux/dma-mapping.h>
#include <linux/dma-mark-dirty.h>
#include <linux/gfp.h>
#include <linux/hw_breakpoint.h>
#include <linux/io.h>
#include <linux/kthread.h>
#include <linux/mm.h>
#include <linux/perf_event.h>
#include <linux/pgtable.h>
#include <linux/prandom.h>
#include <linux/scatterlist.h>
#include <linux/set_memory.h>
#include <linux/sizes.h>
#include <linux/string.h>
#include <linux/swiotlb.h>

#include <asm/tlbflush.h>

#include "mark_dirty.h"

/* The buffer, with a page before and a page behind it that must stay clean. */
#define TEST_PAGES	10
#define TEST_SIZE	(TEST_PAGES * PAGE_SIZE)
#define TEST_BUF	PAGE_SIZE
#define TEST_SEED	0x6d61726b
#define TEST_STORES	4000000

struct mark_dirty_test {
	struct device *dev;
	void *mem;
	u64 before[DMA_MARK_DIRTY_NR_COUNTERS];
	bool was_armed;
	bool was_active;
{{- if .Has.swiotlb_force}}
	enum swiotlb_force was_force;
{{- else}}
	bool was_force_bounce;
{{- end}}
};

static pte_t *test_pte(struct kunit *test, void *addr)
{
	unsigned int level;
	pte_t *pte = lookup_address((unsigned long)addr, &level);

	KUNIT_ASSERT_NOT_ERR_OR_NULL(test, pte);
	KUNIT_ASSERT_EQ(test, level, (unsigned int)PG_LEVEL_4K);

	return pte;
}

/* Fill the memory with data that no store but a no-op leaves as it is. */
static void test_fill(void *mem, size_t size)
{
	struct rnd_state rnd;

	prandom_seed_state(&rnd, TEST_SEED);
	prandom_bytes_state(&rnd, mem, size);
}

/* From here on a store to a page of the test's memory shows. */
static void test_clean(struct kunit *test)
{
	struct mark_dirty_test *t = test->priv;
	unsigned long start = (unsigned long)t->mem;
	int i;

	test_fill(t->mem, TEST_SIZE);

	for (i = 0; i < TEST_PAGES; i++) {
		pte_t *pte = test_pte(test, t->mem + i * PAGE_SIZE);

		set_pte_atomic(pte, pte_mkclean(*pte));
	}
	flush_tlb_kernel_range(start, start + TEST_SIZE);

	for (i = 0; i < DMA_MARK_DIRTY_NR_COUNTERS; i++)
		t->before[i] = dma_mark_dirty_count(i);
}

/* Which pages were stored to since test_clean(), bit 0 for the first one. */
static unsigned long test_dirty(struct kunit *test)
{
	struct mark_dirty_test *t = test->priv;
	unsigned long dirty = 0;
	int i;

	for (i = 0; i < TEST_PAGES; i++)
		if (pte_dirty(*test_pte(test, t->mem + i * PAGE_SIZE)))
			dirty |= BIT(i);

	return dirty;
}

static u64 test_counted(struct kunit *test, enum dma_mark_dirty_counter counter)
{
	struct mark_dirty_test *t = test->priv;

	return dma_mark_dirty_count(counter) - t->before[counter];
}

static void test_expect_unchanged(struct kunit *test)
{
	struct mark_dirty_test *t = test->priv;
	void *want = kunit_kmalloc(test, TEST_SIZE, GFP_KERNEL);

	KUNIT_ASSERT_NOT_ERR_OR_NULL(test, want);
	test_fill(want, TEST_SIZE);
	KUNIT_EXPECT_EQ(test, memcmp(t->mem, want, TEST_SIZE), 0);
	kunit_kfree(test, want);
}

static void test_expect_dirty(struct kunit *test, unsigned long want)
{
	KUNIT_EXPECT_EQ(test, test_dirty(test), want);
	KUNIT_EXPECT_EQ(test, test_counted(test, DMA_MARK_DIRTY_PAGES),
			(u64)hweight_long(want));
	KUNIT_EXPECT_EQ(test, test_counted(test, DMA_MARK_DIRTY_SKIPPED), 0ULL);
	KUNIT_EXPECT_EQ(test, test_counted(test, DMA_MARK_DIRTY_FAULTS), 0ULL);
	test_expect_unchanged(test);
}

static void test_expect_clean(struct kunit *test)
{
	test_expect_dirty(test, 0);
	KUNIT_EXPECT_EQ(test, test_counted(test, DMA_MARK_DIRTY_CALLS), 0ULL);
}

static dma_addr_t test_map(struct kunit *test, unsigned long offset,
			   size_t size, enum dma_data_direction dir)
{
	struct mark_dirty_test *t = test->priv;
	dma_addr_t addr = dma_map_single(t->dev, t->mem + offset, size, dir);

	KUNIT_ASSERT_FALSE(test, dma_mapping_error(t->dev, addr));

	return addr;
}

struct mark_dirty_range {
	const char *name;
	unsigned long offset;
	size_t size;
	unsigned long dirty;
};

static const struct mark_dirty_range mark_dirty_ranges[] = {
	{ "one byte", TEST_BUF, 1, 0x2 },
	{ "one byte inside", TEST_BUF + 1234, 1, 0x2 },
	{ "last byte of a page", 2 * PAGE_SIZE - 1, 1, 0x2 },
	{ "two bytes across a boundary", 2 * PAGE_SIZE - 1, 2, 0x6 },
	{ "exactly one page", TEST_BUF, PAGE_SIZE, 0x2 },
	{ "one page and a byte", TEST_BUF, PAGE_SIZE + 1, 0x6 },
	{ "one page less a byte", TEST_BUF, PAGE_SIZE - 1, 0x2 },
	{ "one page, unaligned", TEST_BUF + 1, PAGE_SIZE, 0x6 },
	{ "two pages", TEST_BUF, 2 * PAGE_SIZE, 0x6 },
	{ "a byte, a page, a byte", 2 * PAGE_SIZE - 1, PAGE_SIZE + 2, 0xe },
	{ "half a page from the middle", TEST_BUF + SZ_2K, SZ_2K, 0x2 },
	{ "a packet of 1514 bytes at 64", TEST_BUF + 64, 1514, 0x2 },
	{ "all pages", TEST_BUF, 8 * PAGE_SIZE, 0x1fe },
	{ "all pages but the edges", TEST_BUF + 3, 8 * PAGE_SIZE - 6, 0x1fe },
};
{{- if .Has.kunit_params}}

static void mark_dirty_range_desc(const struct mark_dirty_range *range,
				  char *desc)
{
	strscpy(desc, range->name, KUNIT_PARAM_DESC_SIZE);
}

KUNIT_ARRAY_PARAM(mark_dirty_range, mark_dirty_ranges, mark_dirty_range_desc);
{{- end}}

/* Each page of the buffer, and no other, however it is given back. */
{{- if .Has.kunit_params}}
static void mark_dirty_test_pages(struct kunit *test)
{
	const struct mark_dirty_range *range = test->param_value;
{{- else}}
static void mark_dirty_test_range(struct kunit *test,
				  const struct mark_dirty_range *range)
{
{{- end}}
	struct mark_dirty_test *t = test->priv;
	dma_addr_t addr;

	test_clean(test);
	__dma_mark_dirty(t->dev, virt_to_phys(t->mem) + range->offset,
			 range->size, DMA_FROM_DEVICE);
	test_expect_dirty(test, range->dirty);
	KUNIT_EXPECT_EQ(test, test_counted(test, DMA_MARK_DIRTY_CALLS), 1ULL);

	addr = test_map(test, range->offset, range->size, DMA_FROM_DEVICE);
	test_clean(test);
	dma_sync_single_for_cpu(t->dev, addr, range->size, DMA_FROM_DEVICE);
	test_expect_dirty(test, range->dirty);

	test_clean(test);
	dma_unmap_single(t->dev, addr, range->size, DMA_FROM_DEVICE);
	test_expect_dirty(test, range->dirty);
	/* Once, although unmap syncs. */
	KUNIT_EXPECT_EQ(test, test_counted(test, DMA_MARK_DIRTY_CALLS), 1ULL);
}
{{- if not .Has.kunit_params}}

static void mark_dirty_test_pages(struct kunit *test)
{
	int i;

	for (i = 0; i < ARRAY_SIZE(mark_dirty_ranges); i++) {
		kunit_info(test, "%s\n", mark_dirty_ranges[i].name);
		mark_dirty_test_range(test, &mark_dirty_ranges[i]);
	}
}
{{- end}}

struct mark_dirty_watch {
	unsigned long offset;	/* from the buffer's first byte */
	int len;
	int want;
	int hits;
	struct perf_event * __percpu *events;
};

static void mark_dirty_watch_hit(struct perf_event *event,
				 struct perf_sample_data *data,
				 struct pt_regs *regs)
{
	struct mark_dirty_watch *watch = event->overflow_handler_context;

	watch->hits++;
}

/* How often marking a buffer stores to some bytes in it and around it. */
static void test_watch(struct kunit *test, void *buf, size_t size,
		       struct mark_dirty_watch *watches, int nr)
{
	struct mark_dirty_test *t = test->priv;
	bool watching;
	int i;

	for (i = 0; i < nr; i++) {
		struct perf_event_attr attr;

		hw_breakpoint_init(&attr);
		attr.bp_addr = (unsigned long)buf + watches[i].offset;
		attr.bp_len = watches[i].len;
		attr.bp_type = HW_BREAKPOINT_W;
		watches[i].events = register_wide_hw_breakpoint(&attr,
								mark_dirty_watch_hit,
								&watches[i]);
		if (IS_ERR((void __force *)watches[i].events))
			break;
	}

	watching = i == nr;
	if (watching)
		__dma_mark_dirty(t->dev, virt_to_phys(buf), size,
				 DMA_FROM_DEVICE);

	while (i--)
		unregister_wide_hw_breakpoint(watches[i].events);
{{- if .Has.kunit_skip}}
	if (!watching)
		kunit_skip(test, "needs four hardware breakpoints");
{{- else}}
	if (!watching) {
		kunit_info(test, "SKIP needs four hardware breakpoints\n");
		return;
	}
{{- end}}

	for (i = 0; i < nr; i++)
		KUNIT_EXPECT_EQ_MSG(test, watches[i].hits, watches[i].want,
				    "at %ld", (long)watches[i].offset);
}

/* Inside the page, the store hits the buffer's first byte and no other. */
static void mark_dirty_test_byte(struct kunit *test)
{
	struct mark_dirty_test *t = test->priv;
	unsigned long offset = 1024;
	struct mark_dirty_watch watches[] = {
		{ 0, HW_BREAKPOINT_LEN_1, 1 },
		{ 1, HW_BREAKPOINT_LEN_1, 0 },
		{ -8, HW_BREAKPOINT_LEN_8, 0 },
		{ -offset, HW_BREAKPOINT_LEN_8, 0 },
	};

	test_watch(test, t->mem + TEST_BUF + offset, 1, watches,
		   ARRAY_SIZE(watches));
}

/* In a further page it hits that page's first byte, and none behind the buffer. */
static void mark_dirty_test_last_page_byte(struct kunit *test)
{
	struct mark_dirty_test *t = test->priv;
	unsigned long offset = 1024;
	struct mark_dirty_watch watches[] = {
		{ 0, HW_BREAKPOINT_LEN_1, 1 },
		{ PAGE_SIZE - offset, HW_BREAKPOINT_LEN_1, 1 },
		{ PAGE_SIZE - offset + 1, HW_BREAKPOINT_LEN_1, 0 },
		{ PAGE_SIZE, HW_BREAKPOINT_LEN_8, 0 },
	};

	test_watch(test, t->mem + TEST_BUF + offset, PAGE_SIZE, watches,
		   ARRAY_SIZE(watches));
}

static void mark_dirty_test_size_0(struct kunit *test)
{
	struct mark_dirty_test *t = test->priv;

	test_clean(test);
	__dma_mark_dirty(t->dev, virt_to_phys(t->mem) + TEST_BUF, 0,
			 DMA_FROM_DEVICE);
	__dma_mark_dirty(t->dev, 0, 0, DMA_FROM_DEVICE);
	test_expect_clean(test);
}

/* A buffer cannot wrap around the end of the address space. */
static void mark_dirty_test_wrap(struct kunit *test)
{
	phys_addr_t last_page = ~(phys_addr_t)0 << PAGE_SHIFT;
	struct mark_dirty_test *t = test->priv;

	test_clean(test);
	__dma_mark_dirty(t->dev, last_page, PAGE_SIZE + 1, DMA_FROM_DEVICE);
	__dma_mark_dirty(t->dev, virt_to_phys(t->mem), SIZE_MAX,
			 DMA_FROM_DEVICE);
	test_expect_clean(test);

	/* But the last page is a page, and the loop ends behind it. */
	__dma_mark_dirty(t->dev, last_page, PAGE_SIZE, DMA_FROM_DEVICE);
	KUNIT_EXPECT_EQ(test, test_counted(test, DMA_MARK_DIRTY_SKIPPED), 1ULL);
}

struct mark_dirty_direction {
	const char *name;
	enum dma_data_direction dir;
	unsigned long dirty;
};

static const struct mark_dirty_direction mark_dirty_directions[] = {
	{ "from device", DMA_FROM_DEVICE, 0x6 },
	{ "bidirectional", DMA_BIDIRECTIONAL, 0x6 },
	{ "to device", DMA_TO_DEVICE, 0 },
};
{{- if .Has.kunit_params}}

static void mark_dirty_direction_desc(const struct mark_dirty_direction *d,
				      char *desc)
{
	strscpy(desc, d->name, KUNIT_PARAM_DESC_SIZE);
}

KUNIT_ARRAY_PARAM(mark_dirty_direction, mark_dirty_directions,
		  mark_dirty_direction_desc);
{{- end}}

/* What the device may have written is marked, what it only reads is not. */
{{- if .Has.kunit_params}}
static void mark_dirty_test_directions(struct kunit *test)
{
	const struct mark_dirty_direction *d = test->param_value;
{{- else}}
static void mark_dirty_test_direction(struct kunit *test,
				      const struct mark_dirty_direction *d)
{
{{- end}}
	struct mark_dirty_test *t = test->priv;
	size_t size = PAGE_SIZE + 1;
	struct scatterlist sg;
	dma_addr_t addr;

	test_clean(test);
	addr = test_map(test, TEST_BUF, size, d->dir);
	test_expect_clean(test);

	dma_sync_single_for_device(t->dev, addr, size, d->dir);
	test_expect_clean(test);

	dma_sync_single_for_cpu(t->dev, addr, size, d->dir);
	test_expect_dirty(test, d->dirty);

	test_clean(test);
	dma_unmap_single(t->dev, addr, size, d->dir);
	test_expect_dirty(test, d->dirty);

	sg_init_one(&sg, t->mem + TEST_BUF, size);
	KUNIT_ASSERT_EQ(test, dma_map_sg(t->dev, &sg, 1, d->dir), 1{{if .Has.map_sg_unsigned}}U{{end}});
	test_clean(test);
	dma_sync_sg_for_device(t->dev, &sg, 1, d->dir);
	test_expect_clean(test);

	dma_sync_sg_for_cpu(t->dev, &sg, 1, d->dir);
	test_expect_dirty(test, d->dirty);

	test_clean(test);
	dma_unmap_sg(t->dev, &sg, 1, d->dir);
	test_expect_dirty(test, d->dirty);
}
{{- if not .Has.kunit_params}}

static void mark_dirty_test_directions(struct kunit *test)
{
	int i;

	for (i = 0; i < ARRAY_SIZE(mark_dirty_directions); i++) {
		kunit_info(test, "%s\n", mark_dirty_directions[i].name);
		mark_dirty_test_direction(test, &mark_dirty_directions[i]);
	}
}
{{- end}}

/* A receive ring that syncs what has arrived and keeps the mapping. */
static void mark_dirty_test_partial_sync(struct kunit *test)
{
	struct mark_dirty_test *t = test->priv;
	size_t size = 4 * PAGE_SIZE;
	dma_addr_t addr = test_map(test, TEST_BUF, size, DMA_FROM_DEVICE);

	test_clean(test);
	dma_sync_single_range_for_cpu(t->dev, addr, 0, 60, DMA_FROM_DEVICE);
	test_expect_dirty(test, 0x2);

	test_clean(test);
	dma_sync_single_range_for_cpu(t->dev, addr, 2 * PAGE_SIZE + 100, 60,
				      DMA_FROM_DEVICE);
	test_expect_dirty(test, 0x8);

	/* The next sync of the same bytes has to mark them again. */
	test_clean(test);
	dma_sync_single_range_for_cpu(t->dev, addr, 2 * PAGE_SIZE + 100, 60,
				      DMA_FROM_DEVICE);
	test_expect_dirty(test, 0x8);

	test_clean(test);
	dma_unmap_single(t->dev, addr, size, DMA_FROM_DEVICE);
	test_expect_dirty(test, 0x1e);
}

static void mark_dirty_test_scatter_gather(struct kunit *test)
{
	struct mark_dirty_test *t = test->priv;
	struct scatterlist sg[3];
	{{if .Has.map_sg_unsigned}}unsigned {{end}}int nents = ARRAY_SIZE(sg);

	/* Not in the order of addresses, with gaps, across boundaries. */
	sg_init_table(sg, nents);
	sg_set_buf(&sg[0], t->mem + 7 * PAGE_SIZE - 1, 2);
	sg_set_buf(&sg[1], t->mem + TEST_BUF, 1);
	sg_set_buf(&sg[2], t->mem + 3 * PAGE_SIZE + 8, PAGE_SIZE);

	KUNIT_ASSERT_EQ(test, dma_map_sg(t->dev, sg, nents, DMA_FROM_DEVICE),
			nents);
	test_clean(test);
	dma_sync_sg_for_cpu(t->dev, sg, nents, DMA_FROM_DEVICE);
	test_expect_dirty(test, 0xda);

	test_clean(test);
	dma_unmap_sg(t->dev, sg, nents, DMA_FROM_DEVICE);
	test_expect_dirty(test, 0xda);
	KUNIT_EXPECT_EQ(test, test_counted(test, DMA_MARK_DIRTY_CALLS), 3ULL);
}

/* Skipping the sync does not mean that the device has not written. */
static void mark_dirty_test_skip_cpu_sync(struct kunit *test)
{
	struct mark_dirty_test *t = test->priv;
	struct scatterlist sg;
	dma_addr_t addr;

	addr = test_map(test, TEST_BUF, PAGE_SIZE, DMA_FROM_DEVICE);
	test_clean(test);
	dma_unmap_single_attrs(t->dev, addr, PAGE_SIZE, DMA_FROM_DEVICE,
			       DMA_ATTR_SKIP_CPU_SYNC);
	test_expect_dirty(test, 0x2);

	addr = test_map(test, TEST_BUF, PAGE_SIZE, DMA_TO_DEVICE);
	test_clean(test);
	dma_unmap_single_attrs(t->dev, addr, PAGE_SIZE, DMA_TO_DEVICE,
			       DMA_ATTR_SKIP_CPU_SYNC);
	test_expect_clean(test);

	sg_init_one(&sg, t->mem + TEST_BUF, PAGE_SIZE);
	KUNIT_ASSERT_EQ(test, dma_map_sg(t->dev, &sg, 1, DMA_BIDIRECTIONAL), 1{{if .Has.map_sg_unsigned}}U{{end}});
	test_clean(test);
	dma_unmap_sg_attrs(t->dev, &sg, 1, DMA_BIDIRECTIONAL,
			   DMA_ATTR_SKIP_CPU_SYNC);
	test_expect_dirty(test, 0x2);
}
{{- if .Has.require_coherent}}

/* Such memory is never synced, so the unmap is the only chance. */
static void mark_dirty_test_require_coherent(struct kunit *test)
{
	unsigned long attrs = DMA_ATTR_REQUIRE_COHERENT;
	struct mark_dirty_test *t = test->priv;
	dma_addr_t addr;

	addr = dma_map_single_attrs(t->dev, t->mem + TEST_BUF, PAGE_SIZE,
				    DMA_FROM_DEVICE, attrs);
	KUNIT_ASSERT_FALSE(test, dma_mapping_error(t->dev, addr));
	test_clean(test);
	dma_unmap_single_attrs(t->dev, addr, PAGE_SIZE, DMA_FROM_DEVICE, attrs);
	test_expect_dirty(test, 0x2);
}
{{- end}}

/* The CPU's copy dirties the buffer. The slot is of no interest. */
static void mark_dirty_test_bounced(struct kunit *test)
{
	struct mark_dirty_test *t = test->priv;
	size_t size = PAGE_SIZE;
	dma_addr_t addr;
	phys_addr_t slot;

{{if .Has.kunit_skip}}	if (!is_swiotlb_active({{if not .Has.swiotlb_force}}t->dev{{end}}))
		kunit_skip(test, "no bounce buffers, boot with swiotlb=force");
{{- else}}	if (!is_swiotlb_active()) {
		kunit_info(test, "SKIP no bounce buffers, boot with swiotlb=force\n");
		return;
	}
{{- end}}
{{if .Has.swiotlb_force}}
	swiotlb_force = SWIOTLB_FORCE;
	addr = test_map(test, TEST_BUF, size, DMA_FROM_DEVICE);
	swiotlb_force = SWIOTLB_NORMAL;
{{- else}}
	t->dev->dma_io_tlb_mem->force_bounce = true;
	addr = test_map(test, TEST_BUF, size, DMA_FROM_DEVICE);
	t->dev->dma_io_tlb_mem->force_bounce = false;
{{- end}}

	slot = dma_to_phys(t->dev, addr);
	KUNIT_ASSERT_NE(test, slot, virt_to_phys(t->mem + TEST_BUF));

	test_clean(test);
	memset(phys_to_virt(slot), 0x5a, size);
	dma_sync_single_for_cpu(t->dev, addr, size, DMA_FROM_DEVICE);
	KUNIT_EXPECT_EQ(test, test_dirty(test), 0x2UL);
	KUNIT_EXPECT_TRUE(test, !memchr_inv(t->mem + TEST_BUF, 0x5a, size));
	KUNIT_EXPECT_EQ(test, test_counted(test, DMA_MARK_DIRTY_PAGES), 0ULL);

	test_clean(test);
	memset(phys_to_virt(slot), 0xa5, size);
	dma_unmap_single(t->dev, addr, size, DMA_FROM_DEVICE);
	KUNIT_EXPECT_EQ(test, test_dirty(test), 0x2UL);
	KUNIT_EXPECT_TRUE(test, !memchr_inv(t->mem + TEST_BUF, 0xa5, size));
	KUNIT_EXPECT_EQ(test, test_counted(test, DMA_MARK_DIRTY_PAGES), 0ULL);
	KUNIT_EXPECT_EQ(test, test_counted(test, DMA_MARK_DIRTY_CALLS), 0ULL);
}

/* What is no memory must not be stored to, struct page or not. */
static void mark_dirty_test_mmio(struct kunit *test)
{
	struct mark_dirty_test *t = test->priv;
	phys_addr_t vga = 0xa0000, ioapic = 0xfec00000;
	dma_addr_t addr;

	test_clean(test);
	__dma_mark_dirty(t->dev, vga, 2 * PAGE_SIZE, DMA_FROM_DEVICE);
	KUNIT_EXPECT_EQ(test, test_counted(test, DMA_MARK_DIRTY_SKIPPED), 2ULL);

	__dma_mark_dirty(t->dev, ioapic, PAGE_SIZE, DMA_BIDIRECTIONAL);
	KUNIT_EXPECT_EQ(test, test_counted(test, DMA_MARK_DIRTY_SKIPPED), 3ULL);

	KUNIT_EXPECT_EQ(test, test_counted(test, DMA_MARK_DIRTY_PAGES), 0ULL);
	KUNIT_EXPECT_EQ(test, test_counted(test, DMA_MARK_DIRTY_FAULTS), 0ULL);

	addr = dma_map_resource(t->dev, ioapic, PAGE_SIZE, DMA_BIDIRECTIONAL, 0);
	KUNIT_ASSERT_FALSE(test, dma_mapping_error(t->dev, addr));
	test_clean(test);
	dma_unmap_resource(t->dev, addr, PAGE_SIZE, DMA_BIDIRECTIONAL, 0);
	test_expect_clean(test);
}

/* The kernel image is reserved memory, and memory for all that. */
static void mark_dirty_test_kernel_image(struct kunit *test)
{
	static u8 buf[16];
	struct mark_dirty_test *t = test->priv;

	test_clean(test);
	__dma_mark_dirty(t->dev, __pa_symbol(buf), sizeof(buf),
			 DMA_FROM_DEVICE);
	KUNIT_EXPECT_EQ(test, test_counted(test, DMA_MARK_DIRTY_SKIPPED), 0ULL);
	KUNIT_EXPECT_GE(test, test_counted(test, DMA_MARK_DIRTY_PAGES), 1ULL);
}

/* A page that cannot be written is counted, and those around it are marked. */
static void mark_dirty_test_unwritable(struct kunit *test)
{
	struct mark_dirty_test *t = test->priv;
	unsigned long page = (unsigned long)t->mem + 2 * PAGE_SIZE;

	test_clean(test);
	KUNIT_ASSERT_EQ(test, set_memory_ro(page, 1), 0);
	__dma_mark_dirty(t->dev, virt_to_phys(t->mem) + TEST_BUF, 3 * PAGE_SIZE,
			 DMA_FROM_DEVICE);
	KUNIT_EXPECT_EQ(test, test_counted(test, DMA_MARK_DIRTY_PAGES), 2ULL);
	KUNIT_EXPECT_EQ(test, test_counted(test, DMA_MARK_DIRTY_FAULTS), 1ULL);
	KUNIT_EXPECT_EQ(test, test_dirty(test) & ~BIT(2), 0xaUL);
	test_expect_unchanged(test);
	KUNIT_ASSERT_EQ(test, set_memory_rw(page, 1), 0);
}

/* Off is off: no store, no count. */
static void mark_dirty_test_off(struct kunit *test)
{
	struct mark_dirty_test *t = test->priv;
	size_t size = 2 * PAGE_SIZE;
	struct scatterlist sg;
	dma_addr_t addr;

	KUNIT_ASSERT_EQ(test, dma_mark_dirty_enable(false), 0);

	addr = test_map(test, TEST_BUF, size, DMA_FROM_DEVICE);
	sg_init_one(&sg, t->mem + TEST_BUF, size);
	KUNIT_ASSERT_EQ(test, dma_map_sg(t->dev, &sg, 1, DMA_FROM_DEVICE), 1{{if .Has.map_sg_unsigned}}U{{end}});
	test_clean(test);
	dma_sync_single_for_cpu(t->dev, addr, size, DMA_FROM_DEVICE);
	dma_sync_sg_for_cpu(t->dev, &sg, 1, DMA_FROM_DEVICE);
	dma_unmap_single(t->dev, addr, size, DMA_FROM_DEVICE);
	dma_unmap_sg(t->dev, &sg, 1, DMA_FROM_DEVICE);
	test_expect_clean(test);

	/* And on again in the middle of a mapping's life. */
	addr = test_map(test, TEST_BUF, size, DMA_FROM_DEVICE);
	KUNIT_ASSERT_EQ(test, dma_mark_dirty_enable(true), 0);
	test_clean(test);
	dma_unmap_single(t->dev, addr, size, DMA_FROM_DEVICE);
	test_expect_dirty(test, 0x6);
}

/* What is not armed cannot be made active. */
static void mark_dirty_test_not_armed(struct kunit *test)
{
	KUNIT_ASSERT_EQ(test, dma_mark_dirty_enable(false), 0);
	__dma_mark_dirty_armed = false;
	KUNIT_EXPECT_EQ(test, dma_mark_dirty_enable(true), -EOPNOTSUPP);
	KUNIT_EXPECT_FALSE(test, static_key_enabled(&dma_mark_dirty_active));
	__dma_mark_dirty_armed = true;
}

/* While armed, active or not, no driver may leave out a sync or an unmap. */
static void mark_dirty_test_need_sync(struct kunit *test)
{
	struct mark_dirty_test *t = test->priv;
	dma_addr_t addr;

	KUNIT_ASSERT_EQ(test, dma_mark_dirty_enable(false), 0);

	addr = test_map(test, TEST_BUF, PAGE_SIZE, DMA_FROM_DEVICE);
	KUNIT_EXPECT_TRUE(test, dma_need_sync(t->dev, addr));
{{- if .Has.dma_skip_sync}}
	KUNIT_EXPECT_TRUE(test, dma_dev_need_sync(t->dev));
{{- end}}
{{- if .Has.dma_need_unmap}}
	KUNIT_EXPECT_TRUE(test, dma_need_unmap(t->dev));
{{- end}}

	/* That it would be "no" otherwise, or this would test nothing. */
	__dma_mark_dirty_armed = false;
	KUNIT_ASSERT_EQ(test, dma_set_mask(t->dev, DMA_BIT_MASK(64)), 0);
	KUNIT_EXPECT_FALSE(test, dma_need_sync(t->dev, addr));
{{- if .Has.dma_skip_sync}}
	if (!IS_ENABLED(CONFIG_DMA_API_DEBUG))
		KUNIT_EXPECT_FALSE(test, dma_dev_need_sync(t->dev));
{{- end}}
	__dma_mark_dirty_armed = true;
	KUNIT_ASSERT_EQ(test, dma_set_mask(t->dev, DMA_BIT_MASK(64)), 0);

	dma_unmap_single(t->dev, addr, PAGE_SIZE, DMA_FROM_DEVICE);
}

struct mark_dirty_writer {
	u8 *byte;
	unsigned long stores;
	unsigned long lost;
};

/* What a device does: it stores, and knows of no lock. */
static int mark_dirty_writer(void *data)
{
	struct mark_dirty_writer *w = data;
	u8 val = 0;

	while (!kthread_should_stop()) {
		WRITE_ONCE(*w->byte, ++val);
		/* Let the store, and one that would undo it, become visible. */
		mb();
		if (READ_ONCE(*w->byte) != val)
			w->lost++;
		WRITE_ONCE(w->stores, w->stores + 1);
		if (!(w->stores % 1024))
			cond_resched();
	}

	return 0;
}

/* No store of the device's may be lost, in the very byte that is marked. */
static void mark_dirty_test_concurrent_writer(struct kunit *test)
{
	struct mark_dirty_test *t = test->priv;
	struct mark_dirty_writer w = { .byte = t->mem + TEST_BUF };
	unsigned long deadline;
	struct task_struct *task;
	unsigned long marks = 0;

{{if .Has.kunit_skip}}	if (num_online_cpus() < 2)
		kunit_skip(test, "needs a second CPU");
{{- else}}	if (num_online_cpus() < 2) {
		kunit_info(test, "SKIP needs a second CPU\n");
		return;
	}
{{- end}}

	task = kthread_create(mark_dirty_writer, &w, "mark_dirty_writer");
	KUNIT_ASSERT_FALSE(test, IS_ERR(task));
	kthread_bind(task, cpumask_any_but(cpu_online_mask,
					   raw_smp_processor_id()));
	wake_up_process(task);

	/* As many as a CPU does in a moment, unless it has better things to do. */
	deadline = jiffies + msecs_to_jiffies(5000);
	while (READ_ONCE(w.stores) < TEST_STORES &&
	       time_before(jiffies, deadline)) {
		__dma_mark_dirty(t->dev, virt_to_phys(w.byte), 1,
				 DMA_FROM_DEVICE);
		if (!(++marks % 1024))
			cond_resched();
	}
	kthread_stop(task);

	KUNIT_EXPECT_GT(test, w.stores, 0UL);
	KUNIT_EXPECT_GT(test, marks, 0UL);
	KUNIT_EXPECT_EQ(test, w.lost, 0UL);
}

static struct kunit_case mark_dirty_test_cases[] = {
{{- if .Has.kunit_params}}
	KUNIT_CASE_PARAM(mark_dirty_test_pages, mark_dirty_range_gen_params),
{{- else}}
	KUNIT_CASE(mark_dirty_test_pages),
{{- end}}
	KUNIT_CASE(mark_dirty_test_byte),
	KUNIT_CASE(mark_dirty_test_last_page_byte),
	KUNIT_CASE(mark_dirty_test_size_0),
	KUNIT_CASE(mark_dirty_test_wrap),
{{- if .Has.kunit_params}}
	KUNIT_CASE_PARAM(mark_dirty_test_directions,
			 mark_dirty_direction_gen_params),
{{- else}}
	KUNIT_CASE(mark_dirty_test_directions),
{{- end}}
	KUNIT_CASE(mark_dirty_test_partial_sync),
	KUNIT_CASE(mark_dirty_test_scatter_gather),
	KUNIT_CASE(mark_dirty_test_skip_cpu_sync),
{{- if .Has.require_coherent}}
	KUNIT_CASE(mark_dirty_test_require_coherent),
{{- end}}
	KUNIT_CASE(mark_dirty_test_bounced),
	KUNIT_CASE(mark_dirty_test_mmio),
	KUNIT_CASE(mark_dirty_test_kernel_image),
	KUNIT_CASE(mark_dirty_test_unwritable),
	KUNIT_CASE(mark_dirty_test_off),
	KUNIT_CASE(mark_dirty_test_not_armed),
	KUNIT_CASE(mark_dirty_test_need_sync),
	KUNIT_CASE(mark_dirty_test_concurrent_writer),
	{}
};

static int mark_dirty_test_init(struct kunit *test)
{
	struct mark_dirty_test *t;
{{- if not .Has.kunit_params}}

	/* It is not zero, and exit is called even if this fails. */
	test->priv = NULL;
{{- end}}

	t = kunit_kzalloc(test, sizeof(*t), GFP_KERNEL);
	if (!t)
		return -ENOMEM;

	t->mem = alloc_pages_exact(TEST_SIZE, GFP_KERNEL);
	if (!t->mem)
		return -ENOMEM;

	/* The direct map has large pages, but the test wants to see small ones. */
	if (set_memory_4k((unsigned long)t->mem, TEST_PAGES))
		goto err_free;

{{- if .Has.kunit_device}}

	t->dev = kunit_device_register(test, "dma-mark-dirty-test");
{{- else}}

	t->dev = root_device_register("dma-mark-dirty-test");
{{- end}}
	if (IS_ERR(t->dev))
		goto err_free;

	/* The level is set before the mask, as it is at boot. */
	t->was_armed = dma_mark_dirty_armed();
	__dma_mark_dirty_armed = true;
	t->was_active = static_key_enabled(&dma_mark_dirty_active);
	dma_mark_dirty_enable(true);

	t->dev->dma_mask = &t->dev->coherent_dma_mask;
	dma_set_mask(t->dev, DMA_BIT_MASK(64));
{{if .Has.swiotlb_force}}
	t->was_force = swiotlb_force;
	swiotlb_force = SWIOTLB_NORMAL;
{{- else}}
	t->was_force_bounce = is_swiotlb_force_bounce(t->dev);
	t->dev->dma_io_tlb_mem->force_bounce = false;
{{- end}}

	test->priv = t;
	return 0;

err_free:
	free_pages_exact(t->mem, TEST_SIZE);
	return -ENOMEM;
}

static void mark_dirty_test_exit(struct kunit *test)
{
	struct mark_dirty_test *t = test->priv;

	if (!t)
		return;

	dma_mark_dirty_enable(t->was_active);
	__dma_mark_dirty_armed = t->was_armed;
{{- if .Has.swiotlb_force}}
	swiotlb_force = t->was_force;
{{- else}}
	t->dev->dma_io_tlb_mem->force_bounce = t->was_force_bounce;
{{- end}}
{{- if not .Has.kunit_device}}
	root_device_unregister(t->dev);
{{- end}}
	free_pages_exact(t->mem, TEST_SIZE);
}

static struct kunit_suite mark_dirty_test_suite = {
	.name = "dma_mark_dirty",
	.init = mark_dirty_test_init,
	.exit = mark_dirty_test_exit,
	.test_cases = mark_dirty_test_cases,
};

kunit_test_suite(mark_dirty_test_suite);
