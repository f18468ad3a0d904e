// SPDX-License-Identifier: GPL-2.0
/*
 * Mark DMA memory as dirty while the hypervisor asks for it.
 *
 * A hypervisor that migrates this guest asks in a register block of a PCI bridge
 * which it emulates, and copies the first page only when it was answered there.
 * The registers and the rules are in Documentation/PCI/page-dirtying.{{if .Has.docs_pci}}rst{{else}}txt{{end}}.
 *
 * The bridges belong to their drivers, and marking has to be armed before any
 * driver probes. So no driver is bound here: fixups find the blocks.
 */
#include <linux/bits.h>
#include <linux/dcache.h>
#include <linux/debugfs.h>
#include <linux/device.h>
#include <linux/dma-mark-dirty.h>
#include <linux/err.h>
#include <linux/init.h>
#include <linux/jiffies.h>
#include <linux/kernel.h>
#include <linux/list.h>
#include <linux/lockdep.h>
#include <linux/mutex.h>
#include <linux/notifier.h>
#include <linux/pci.h>
#include <linux/reboot.h>
#include <linux/seq_file.h>
#include <linux/slab.h>
#include <linux/workqueue.h>

/* The block: offsets from the capability, and what is there. */
#define PAGE_DIRTYING_HEADER		0x00	/* id, next, length, type */
#define  PAGE_DIRTYING_MIN_LENGTH	0x14
#define  PAGE_DIRTYING_TYPE		2
#define PAGE_DIRTYING_INFO		0x04	/* version, vector, poll */
#define PAGE_DIRTYING_REQUEST		0x08
#define  PAGE_DIRTYING_STATE		GENMASK(7, 0)
#define   PAGE_DIRTYING_IDLE		0
#define   PAGE_DIRTYING_ACTIVE		1
#define   PAGE_DIRTYING_REFUSED		2	/* in an answer */
#define  PAGE_DIRTYING_GENERATION	GENMASK(30, 8)
#define  PAGE_DIRTYING_ATTENTION	BIT(31)
#define PAGE_DIRTYING_GUEST		0x0c
#define  PAGE_DIRTYING_DRIVER		BIT(0)
#define  PAGE_DIRTYING_STREAMING	BIT(1)
#define PAGE_DIRTYING_ANSWER		0x10

/* Milliseconds between two looks. */
#define PAGE_DIRTYING_POLL_MIN		10
#define PAGE_DIRTYING_POLL_DEFAULT	100
#define PAGE_DIRTYING_POLL_MAX		10000

/* What is read where nothing is, and therefore is no request. */
#define PAGE_DIRTYING_NOTHING		U32_MAX

struct page_dirtying {
	struct list_head list;
	struct pci_dev *dev;
	u8 pos;
	u8 version;
	unsigned int poll;
	u32 request;		/* that was answered last, or NOTHING */
	u32 answer;
};

static LIST_HEAD(page_dirtying_blocks);
static bool page_dirtying_running;
static u64 page_dirtying_polls;
static DEFINE_MUTEX(page_dirtying_lock);	/* of all the above */

static u32 page_dirtying_read(struct page_dirtying *pd, int reg)
{
	u32 val;

	if (pci_read_config_dword(pd->dev, pd->pos + reg, &val))
		return PAGE_DIRTYING_NOTHING;

	return val;
}

static void page_dirtying_write(struct page_dirtying *pd, int reg, u32 val)
{
	pci_write_config_dword(pd->dev, pd->pos + reg, val);
}

static unsigned int page_dirtying_interval(u16 poll)
{
	if (!poll)
		return PAGE_DIRTYING_POLL_DEFAULT;

	return clamp_t(unsigned int, poll, PAGE_DIRTYING_POLL_MIN,
		       PAGE_DIRTYING_POLL_MAX);
}

/* Find the block of a bridge. Return false if it has none that makes sense. */
static bool page_dirtying_find(struct page_dirtying *pd, struct pci_dev *dev)
{
	pd->dev = dev;
	pd->request = PAGE_DIRTYING_NOTHING;
	pd->answer = PAGE_DIRTYING_IDLE;

	for (pd->pos = pci_find_capability(dev, PCI_CAP_ID_VNDR); pd->pos;
	     pd->pos = pci_find_next_capability(dev, pd->pos,
						PCI_CAP_ID_VNDR)) {
		u32 header = page_dirtying_read(pd, PAGE_DIRTYING_HEADER);
		u8 length = header >> 16;
		u32 info;

		if (header >> 24 != PAGE_DIRTYING_TYPE ||
		    length < PAGE_DIRTYING_MIN_LENGTH ||
		    pd->pos + length > PCI_CFG_SPACE_SIZE)
			continue;

		info = page_dirtying_read(pd, PAGE_DIRTYING_INFO);
		pd->version = info;
		if (!pd->version || info == PAGE_DIRTYING_NOTHING)
			continue;

		pd->poll = page_dirtying_interval(info >> 16);
		return true;
	}

	return false;
}

/*
 * Marking is wanted for a block while, and only while, its answer is ACTIVE.
 * Return the state that is reached.
 */
static u32 page_dirtying_switch(struct page_dirtying *pd, u32 state)
{
	bool active = (pd->answer & PAGE_DIRTYING_STATE) == PAGE_DIRTYING_ACTIVE;

	if (state == PAGE_DIRTYING_ACTIVE) {
		if (!active && dma_mark_dirty_get())
			return PAGE_DIRTYING_REFUSED;
		return PAGE_DIRTYING_ACTIVE;
	}

	if (active)
		dma_mark_dirty_put();

	return state == PAGE_DIRTYING_IDLE ? state : PAGE_DIRTYING_REFUSED;
}

/* Look at the request, and answer it if it is another one. */
static void page_dirtying_poll(struct page_dirtying *pd)
{
	u32 request;

	/* There is no config space, and this is no reason to power it up. */
	if (pd->dev->current_state == PCI_D3cold)
		return;

	/* A bridge that cannot be reached may come back, so nothing changes. */
	request = page_dirtying_read(pd, PAGE_DIRTYING_REQUEST);
	if (request == PAGE_DIRTYING_NOTHING)
		return;

	/* ATTENTION is not in what was answered: while it is set they differ. */
	if (request == pd->request)
		return;

	page_dirtying_write(pd, PAGE_DIRTYING_GUEST,
			    PAGE_DIRTYING_DRIVER |
			    (dma_mark_dirty_armed() ?
			     PAGE_DIRTYING_STREAMING : 0));

	/* The answer promises that marking is on, so it comes last. */
	pd->answer = page_dirtying_switch(pd, request & PAGE_DIRTYING_STATE) |
		     (request & PAGE_DIRTYING_GENERATION);
	page_dirtying_write(pd, PAGE_DIRTYING_ANSWER, pd->answer);
	pd->request = request & ~PAGE_DIRTYING_ATTENTION;
}

/* Tell the hypervisor that nobody answers, and that no answer holds. */
static void page_dirtying_leave(struct page_dirtying *pd)
{
	if (pd->dev->current_state != PCI_D3cold)
		page_dirtying_write(pd, PAGE_DIRTYING_GUEST, 0);
}

/* Have a block ask no more. It is told first, then marking may end. */
static void page_dirtying_drop(struct page_dirtying *pd)
{
	page_dirtying_leave(pd);
	pd->answer = page_dirtying_switch(pd, PAGE_DIRTYING_IDLE);
}

static void page_dirtying_work(struct work_struct *work);
static DECLARE_DELAYED_WORK(page_dirtying_dwork, page_dirtying_work);

static void page_dirtying_schedule(void)
{
	unsigned int poll = PAGE_DIRTYING_POLL_MAX;
	struct page_dirtying *pd;

	lockdep_assert_held(&page_dirtying_lock);

	if (!page_dirtying_running || list_empty(&page_dirtying_blocks))
		return;

	list_for_each_entry(pd, &page_dirtying_blocks, list)
		poll = min(poll, pd->poll);

	/* While this guest sleeps, a bridge may sleep as well. */
	mod_delayed_work(system_freezable_power_efficient_wq,
			 &page_dirtying_dwork, msecs_to_jiffies(poll));
}

static void page_dirtying_work(struct work_struct *work)
{
	struct page_dirtying *pd;

	mutex_lock(&page_dirtying_lock);
	if (page_dirtying_running) {
		list_for_each_entry(pd, &page_dirtying_blocks, list) {
			page_dirtying_poll(pd);
			page_dirtying_polls++;
		}
	}
	page_dirtying_schedule();
	mutex_unlock(&page_dirtying_lock);
}

/* A bridge is enumerated, at boot or plugged later: too late to arm then. */
static void page_dirtying_add(struct pci_dev *dev)
{
	struct page_dirtying *pd = kzalloc(sizeof(*pd), GFP_KERNEL);

	if (!pd)
		return;

	if (!page_dirtying_find(pd, dev)) {
		kfree(pd);
		return;
	}

	pci_info(dev, "page dirtying: version %u, %s, looked at each %u ms\n",
		 pd->version,
		 dma_mark_dirty_arm() ? "armed" : "not armed",
		 pd->poll);

	/* What a kernel before this one (kexec) has answered does not hold. */
	page_dirtying_leave(pd);

	pci_dev_get(dev);
	mutex_lock(&page_dirtying_lock);
	list_add_tail(&pd->list, &page_dirtying_blocks);
	page_dirtying_schedule();
	mutex_unlock(&page_dirtying_lock);
}
DECLARE_PCI_FIXUP_HEADER(PCI_VENDOR_ID_REDHAT, 0x0001, page_dirtying_add);
DECLARE_PCI_FIXUP_HEADER(PCI_VENDOR_ID_REDHAT, 0x000a, page_dirtying_add);
DECLARE_PCI_FIXUP_HEADER(PCI_VENDOR_ID_REDHAT, 0x000c, page_dirtying_add);
DECLARE_PCI_FIXUP_HEADER(PCI_VENDOR_ID_REDHAT, 0x000e, page_dirtying_add);

static struct page_dirtying *page_dirtying_of(struct device *dev)
{
	struct page_dirtying *pd;

	list_for_each_entry(pd, &page_dirtying_blocks, list)
		if (&pd->dev->dev == dev)
			return pd;

	return NULL;
}

/*
 * After hibernation the block may be another one, which another kernel has
 * answered, and look the same. So it is answered once more. What that kernel has
 * promised does not hold, and is taken back at once.
 */
static void page_dirtying_again(struct page_dirtying *pd)
{
	if (page_dirtying_read(pd, PAGE_DIRTYING_ANSWER) != pd->answer)
		page_dirtying_leave(pd);
	pd->request = PAGE_DIRTYING_NOTHING;
}

static void page_dirtying_resume(struct pci_dev *dev)
{
	struct page_dirtying *pd;

	mutex_lock(&page_dirtying_lock);
	pd = page_dirtying_of(&dev->dev);
	if (pd)
		page_dirtying_again(pd);
	mutex_unlock(&page_dirtying_lock);
}
DECLARE_PCI_FIXUP_RESUME(PCI_VENDOR_ID_REDHAT, 0x0001, page_dirtying_resume);
DECLARE_PCI_FIXUP_RESUME(PCI_VENDOR_ID_REDHAT, 0x000a, page_dirtying_resume);
DECLARE_PCI_FIXUP_RESUME(PCI_VENDOR_ID_REDHAT, 0x000c, page_dirtying_resume);
DECLARE_PCI_FIXUP_RESUME(PCI_VENDOR_ID_REDHAT, 0x000e, page_dirtying_resume);

static int page_dirtying_bus_notify(struct notifier_block *nb,
				    unsigned long action, void *data)
{
	struct page_dirtying *pd;

	if (action != BUS_NOTIFY_DEL_DEVICE)
		return NOTIFY_DONE;

	mutex_lock(&page_dirtying_lock);
	pd = page_dirtying_of(data);
	if (pd) {
		list_del(&pd->list);
		page_dirtying_drop(pd);
	}
	mutex_unlock(&page_dirtying_lock);

	if (pd) {
		pci_dev_put(pd->dev);
		kfree(pd);
	}

	return NOTIFY_OK;
}

static struct notifier_block page_dirtying_bus_nb = {
	.notifier_call = page_dirtying_bus_notify,
};

/* Whatever runs next, it does not answer for what this kernel has promised. */
static int page_dirtying_reboot_notify(struct notifier_block *nb,
				       unsigned long action, void *data)
{
	struct page_dirtying *pd;

	mutex_lock(&page_dirtying_lock);
	page_dirtying_running = false;
	list_for_each_entry(pd, &page_dirtying_blocks, list)
		page_dirtying_leave(pd);
	mutex_unlock(&page_dirtying_lock);

	return NOTIFY_DONE;
}

static struct notifier_block page_dirtying_reboot_nb = {
	.notifier_call = page_dirtying_reboot_notify,
};

static int page_dirtying_blocks_show(struct seq_file *m, void *v)
{
	struct page_dirtying *pd;

	mutex_lock(&page_dirtying_lock);
	list_for_each_entry(pd, &page_dirtying_blocks, list)
		seq_printf(m, "%s 0x%08x 0x%08x\n", pci_name(pd->dev),
			   pd->request, pd->answer);
	mutex_unlock(&page_dirtying_lock);

	return 0;
}
DEFINE_SHOW_ATTRIBUTE(page_dirtying_blocks);

static void __init page_dirtying_debugfs(void)
{
	struct dentry *dir = debugfs_lookup("dma_page_dirtying", NULL);

	if (IS_ERR_OR_NULL(dir))
		return;

	debugfs_create_u64("polls", 0444, dir, &page_dirtying_polls);
	debugfs_create_file("blocks", 0444, dir, NULL,
			    &page_dirtying_blocks_fops);
	dput(dir);
}

/* Before there are PCI devices that could go. */
static int __init page_dirtying_notify(void)
{
	bus_register_notifier(&pci_bus_type, &page_dirtying_bus_nb);
	register_reboot_notifier(&page_dirtying_reboot_nb);
	return 0;
}
arch_initcall(page_dirtying_notify);

static int __init page_dirtying_start(void)
{
	page_dirtying_debugfs();

	mutex_lock(&page_dirtying_lock);
	page_dirtying_running = true;
	page_dirtying_schedule();
	mutex_unlock(&page_dirtying_lock);

	return 0;
}
late_initcall(page_dirtying_start);
{{- if .Has.kunit}}

#ifdef CONFIG_PCI_PAGE_DIRTYING_KUNIT_TEST
#include "page_dirtying_test.c"
#endif
{{- end}}
