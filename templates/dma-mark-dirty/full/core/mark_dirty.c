{{if not .Has.no_spdx}}// SPDX-License-Identifier: GPL-2.0
{{end -}}
/*
 * Mark the memory that devices have written by DMA as dirty.
 *
 * A hypervisor that migrates a running guest logs which pages the guest's CPUs
 * write, in order to send them again. It does not see what a pass-through device
 * writes unless that device or an IOMMU can log it. Where neither can, the guest
 * stores to each page that it gets back from a device, without changing it.
 *
{{- if .Has.swiotlb_ops}}
 * There are two levels. Once "armed", at boot, buffers are mapped by swiotlb on
 * any machine, but nothing is marked. "Active", a static key that can be switched
 * while armed, marks.
{{- else if .Has.syncs_kept}}
 * There are two levels. "Armed", at boot, allows it, but nothing is marked.
 * "Active", a static key that can be switched while armed, marks.
{{- else}}
 * There are two levels. Once "armed", at boot, no driver is told that it may
 * leave out syncs or unmaps, but nothing is marked. "Active", a static key that
 * can be switched while armed, marks.
{{- end}}
 */
#define pr_fmt(fmt) "dma_page_dirtying: " fmt

#include <linux/cache.h>
#include <linux/debugfs.h>
#include <linux/device.h>
{{- if .Has.dma_map_ops}}
#include <linux/dma-map-ops.h>
#include <linux/dma-mark-dirty.h>
{{- else}}
#include <linux/dma-mark-dirty.h>
{{- if not .Has.swiotlb_ops}}
#include <linux/dma-noncoherent.h>
{{- end}}
{{- end}}
#include <linux/init.h>
#include <linux/io.h>
{{- if not .Has.no_zone_device}}
#include <linux/memremap.h>
{{- end}}
#include <linux/mm.h>
{{- if .Has.no_static_key_lock}}
#include <linux/mutex.h>
{{- end}}
#include <linux/percpu.h>
#include <linux/printk.h>
#include <linux/string.h>
#include <linux/swiotlb.h>

#include <asm/dma-mark-dirty.h>

#include "{{base .Name.core}}.h"

DEFINE_STATIC_KEY_FALSE(dma_mark_dirty_active);
bool __dma_mark_dirty_armed __read_mostly;

static bool dma_mark_dirty_on_at_boot __initdata;
{{- if .Has.no_static_key_lock}}

static DEFINE_MUTEX(dma_mark_dirty_lock);
{{- end}}

struct dma_mark_dirty_counts {
	unsigned long nr[DMA_MARK_DIRTY_NR_COUNTERS];
};

static DEFINE_PER_CPU(struct dma_mark_dirty_counts, dma_mark_dirty_counts);

static void dma_mark_dirty_add(enum dma_mark_dirty_counter counter,
			       unsigned long nr)
{
	if (nr)
		this_cpu_add(dma_mark_dirty_counts.nr[counter], nr);
}

/*
 * Memory that migrates with the guest, and that may be stored to. Registers and
 * memory of a device, be it of the one that did the transfer or of a peer, may
 * not: a store to them can have any effect.
 */
static bool dma_mark_dirty_is_ram(unsigned long pfn)
{
	struct page *page;

	if (!pfn_valid(pfn))
		return false;

	page = pfn_to_page(pfn);
{{- if not .Has.no_zone_device}}
	if (is_zone_device_page(page))
{{- if .Has.no_device_private}}
		return true;
{{- else if .Has.no_p2pdma}}
		return !is_device_private_page(page);
{{- else}}
		return !is_device_private_page(page) &&
{{- if .Has.device_coherent}}
		       !is_device_coherent_page(page) &&
{{- end}}
		       !is_pci_p2pdma_page(page);
{{- end}}
{{end}}
	return likely(!PageReserved(page)) ||
	       arch_dma_reserved_page_is_ram(pfn);
}

void __dma_mark_dirty(struct device *dev, phys_addr_t paddr, size_t size,
		      enum dma_data_direction dir)
{
	unsigned long pages = 0, skipped = 0, faults = 0;
	phys_addr_t last = paddr + size - 1;
	unsigned long pfn, last_pfn;

	if (dir != DMA_FROM_DEVICE && dir != DMA_BIDIRECTIONAL)
		return;

	if (!size)
		return;

	if (last < paddr) {
{{- if .Has.swiotlb_ops}}
		pr_warn_once("DMA buffer %pap+%zu wraps, not marked\n",
			     &paddr, size);
{{- else}}
		dev_warn_once(dev, "DMA buffer %pap+%zu wraps, not marked\n",
			      &paddr, size);
{{- end}}
		return;
	}
{{- if .Name.bounced}}

	/*
	 * The copy out of a bounce slot has dirtied the buffer already. What is
	 * left in the slot is not needed any more.
	 */
	if ({{.Name.bounced}}({{if not .Has.one_bounce_pool}}dev, {{end}}paddr))
		return;

	/* A dirty cache line could be written back over the device's data. */
	if (!dev_is_dma_coherent(dev))
		return;
{{- end}}

	pfn = {{if .Has.swiotlb_ops}}PFN_DOWN{{else}}PHYS_PFN{{end}}(paddr);
	last_pfn = {{if .Has.swiotlb_ops}}PFN_DOWN{{else}}PHYS_PFN{{end}}(last);

	/*
	 * One store a page, to the buffer's own first byte in it. The loop is
	 * on frame numbers, because the end address of the last page wraps.
	 */
	for (;;) {
		if (!dma_mark_dirty_is_ram(pfn))
			skipped++;
		else if (arch_dma_mark_dirty(phys_to_virt(paddr)))
			faults++;
		else
			pages++;

		if (pfn == last_pfn)
			break;
		paddr = PFN_PHYS(++pfn);
	}

	dma_mark_dirty_add(DMA_MARK_DIRTY_CALLS, 1);
	dma_mark_dirty_add(DMA_MARK_DIRTY_PAGES, pages);
	dma_mark_dirty_add(DMA_MARK_DIRTY_SKIPPED, skipped);
	dma_mark_dirty_add(DMA_MARK_DIRTY_FAULTS, faults);
}

u64 dma_mark_dirty_count(enum dma_mark_dirty_counter counter)
{
	u64 sum = 0;
	int cpu;

	for_each_possible_cpu(cpu)
		sum += per_cpu(dma_mark_dirty_counts, cpu).nr[counter];

	return sum;
}

/**
 * dma_mark_dirty_enable - make marking active or idle
 * @enable: %true for active
 *
 * What is unmapped or synced after this has returned is marked, what was before
 * is not: whoever copies this guest's memory has to begin after that. Process
 * context only, since switching a static key sleeps.
 *
 * Return: 0, or -EOPNOTSUPP if marking was not armed at boot
{{- if .Has.swiotlb_ops}}: buffers may be
 * mapped by operations then that do not mark
{{- else if not .Has.syncs_kept}}: drivers may have
 * been told then that their syncs and unmaps do nothing
{{- end}}.
 */
int dma_mark_dirty_enable(bool enable)
{
	if (!dma_mark_dirty_armed())
		return -EOPNOTSUPP;

{{- if .Has.no_static_key_lock}}

	/* Two at the same time could count the key up twice. */
	mutex_lock(&dma_mark_dirty_lock);
{{- else}}
{{end}}
	if (enable)
		static_branch_enable(&dma_mark_dirty_active);
	else
		static_branch_disable(&dma_mark_dirty_active);
{{- if .Has.no_static_key_lock}}
	mutex_unlock(&dma_mark_dirty_lock);
{{- end}}

	return 0;
}

{{if .Has.swiotlb_ops -}}
/* An early parameter, because x86 chooses its DMA operations before others. */
{{- else if .Has.syncs_kept -}}
/* An early parameter, so that what is unmapped during boot is marked, too. */
{{- else -}}
/* An early parameter, because drivers probe before others are parsed. */
{{- end}}
static int __init dma_mark_dirty_setup(char *level)
{
	if (!level)
		return -EINVAL;

	if (!strcmp(level, "off")) {
		__dma_mark_dirty_armed = false;
		dma_mark_dirty_on_at_boot = false;
	} else if (!strcmp(level, "armed")) {
		__dma_mark_dirty_armed = true;
		dma_mark_dirty_on_at_boot = false;
	} else if (!strcmp(level, "on")) {
		__dma_mark_dirty_armed = true;
		dma_mark_dirty_on_at_boot = true;
	} else {
		pr_warn("unknown level \"%s\", use off, armed or on\n", level);
		return -EINVAL;
	}

	return 0;
}
early_param("dma_page_dirtying", dma_mark_dirty_setup);

static int __init dma_mark_dirty_init(void)
{
	if (!dma_mark_dirty_armed())
		return 0;

	if (dma_mark_dirty_on_at_boot)
		dma_mark_dirty_enable(true);

	pr_info("%s\n", dma_mark_dirty_on_at_boot ? "armed and active" : "armed");
	return 0;
}
core_initcall(dma_mark_dirty_init);

#ifdef CONFIG_DEBUG_FS
static int dma_mark_dirty_armed_get(void *data, u64 *val)
{
	*val = dma_mark_dirty_armed();
	return 0;
}
{{- if .Has.no_debugfs_attribute}}
DEFINE_SIMPLE_ATTRIBUTE(dma_mark_dirty_armed_fops, dma_mark_dirty_armed_get,
			NULL, "%llu\n");
{{- else}}
DEFINE_DEBUGFS_ATTRIBUTE(dma_mark_dirty_armed_fops, dma_mark_dirty_armed_get,
			 NULL, "%llu\n");
{{- end}}

static int dma_mark_dirty_enabled_get(void *data, u64 *val)
{
	*val = static_key_enabled(&dma_mark_dirty_active);
	return 0;
}

static int dma_mark_dirty_enabled_set(void *data, u64 val)
{
	if (val > 1)
		return -EINVAL;

	return dma_mark_dirty_enable(val);
}
{{- if .Has.no_debugfs_attribute}}
DEFINE_SIMPLE_ATTRIBUTE(dma_mark_dirty_enabled_fops,
			dma_mark_dirty_enabled_get, dma_mark_dirty_enabled_set,
			"%llu\n");
{{- else}}
DEFINE_DEBUGFS_ATTRIBUTE(dma_mark_dirty_enabled_fops,
			 dma_mark_dirty_enabled_get, dma_mark_dirty_enabled_set,
			 "%llu\n");
{{- end}}

static int dma_mark_dirty_counter_get(void *data, u64 *val)
{
	*val = dma_mark_dirty_count((uintptr_t)data);
	return 0;
}
{{- if .Has.no_debugfs_attribute}}
DEFINE_SIMPLE_ATTRIBUTE(dma_mark_dirty_counter_fops,
			dma_mark_dirty_counter_get, NULL, "%llu\n");
{{- else}}
DEFINE_DEBUGFS_ATTRIBUTE(dma_mark_dirty_counter_fops,
			 dma_mark_dirty_counter_get, NULL, "%llu\n");
{{- end}}

static int __init dma_mark_dirty_debugfs_init(void)
{
	static const char * const names[DMA_MARK_DIRTY_NR_COUNTERS] = {
		[DMA_MARK_DIRTY_CALLS]		= "calls",
		[DMA_MARK_DIRTY_PAGES]		= "pages",
		[DMA_MARK_DIRTY_SKIPPED]	= "skipped",
		[DMA_MARK_DIRTY_FAULTS]		= "faults",
	};
	struct dentry *dir = debugfs_create_dir("dma_page_dirtying", NULL);
	uintptr_t i;

{{- if .Has.no_debugfs_attribute}}

	debugfs_create_file("armed", 0444, dir, NULL,
			    &dma_mark_dirty_armed_fops);
	debugfs_create_file("enabled", 0644, dir, NULL,
			    &dma_mark_dirty_enabled_fops);
	for (i = 0; i < ARRAY_SIZE(names); i++)
		debugfs_create_file(names[i], 0444, dir, (void *)i,
				    &dma_mark_dirty_counter_fops);
{{- else}}

	debugfs_create_file_unsafe("armed", 0444, dir, NULL,
				   &dma_mark_dirty_armed_fops);
	debugfs_create_file_unsafe("enabled", 0644, dir, NULL,
				   &dma_mark_dirty_enabled_fops);
	for (i = 0; i < ARRAY_SIZE(names); i++)
		debugfs_create_file_unsafe(names[i], 0444, dir, (void *)i,
					   &dma_mark_dirty_counter_fops);
{{- end}}

	return 0;
}
late_initcall(dma_mark_dirty_debugfs_init);
#endif /* CONFIG_DEBUG_FS */
