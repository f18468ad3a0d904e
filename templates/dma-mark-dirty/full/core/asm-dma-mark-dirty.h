{{if not .Has.no_spdx}}/* SPDX-License-Identifier: GPL-2.0 */
{{end -}}
#ifndef _ASM_X86_DMA_MARK_DIRTY_H
#define _ASM_X86_DMA_MARK_DIRTY_H

#include <linux/errno.h>
#include <linux/types.h>

#include <asm/asm.h>
#include <asm/{{if .Has.no_e820_types}}e820{{else}}e820/api{{end}}.h>
#include <asm/page.h>

/**
 * arch_dma_mark_dirty - store to a byte without changing it
 * @byte: the byte, in the direct map
 *
 * Only a store sets the dirty bit that the hypervisor looks at, a load does not.
 * The device may still own the rest of the page, or even write this very byte
 * again, so the store has to be an atomic read-modify-write. LOCK_PREFIX will
{{- if .Has.smp_locks}}
 * not do: it is patched out on a guest with one CPU, where the device is a
 * second writer all the same. A single byte can neither leave the buffer nor
 * straddle a cache line.
{{- else}}
 * not do: it is empty without CONFIG_SMP, and the device is a second writer
 * all the same. A single byte can neither leave the buffer nor straddle a
 * cache line.
{{- end}}
 *
 * Return: 0, or -EFAULT if the page is not mapped writable.
 */
static __always_inline int arch_dma_mark_dirty(u8 *byte)
{
	int err = -EFAULT;

	/* A fault skips the xor. */
	asm volatile("1:	lock orb $0, %[byte]\n"
		     "	xorl %[err], %[err]\n"
		     "2:\n"
		     _ASM_EXTABLE(1b, 2b)
		     : [byte] "+m" (*byte), [err] "+r" (err));

	return err;
}

/*
 * A reserved page is either part of the kernel image, which some drivers do map
 * for DMA, or a hole with a struct page, such as the legacy VGA range. The
 * firmware's memory map tells them apart. It does not change after boot and is
 * read without a lock.
 */
static inline bool arch_dma_reserved_page_is_ram(unsigned long pfn)
{
	u64 start = (u64)pfn << PAGE_SHIFT;

	return {{if .Has.no_e820_types}}e820_any_mapped(start, start + PAGE_SIZE, E820_RAM){{else}}e820__mapped_any(start, start + PAGE_SIZE, E820_TYPE_RAM){{end}};
}

#endif /* _ASM_X86_DMA_MARK_DIRTY_H */
