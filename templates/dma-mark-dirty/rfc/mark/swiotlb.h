
#ifdef CONFIG_SWIOTLB_PAGE_DIRTYING
/**
 * dma_mark_dirty - mark the pages of a buffer dirty that a device has written
 * @addr: the buffer, in the direct map
 * @size: its size in bytes, may be 0
 *
 * Stores to the buffer's own first byte in each page without changing it. Only a
 * store sets the dirty bit that the hypervisor looks at, a load does not. The
 * device may still write next to the buffer, or even this very byte again, so the
 * store has to be an atomic read-modify-write. LOCK_PREFIX will not do: it is
 * patched out on a guest with one CPU, where the device is a second writer all
 * the same.
 */
static inline void dma_mark_dirty(void *addr, size_t size)
{
	unsigned long at = (unsigned long)addr;
	unsigned long last = at + size - 1;

	if (!size || last < at)
		return;

	for (;;) {
		/* A page that is not mapped writable is passed over. */
		asm volatile("1:	lock orb $0, %[byte]\n"
			     "2:\n"
			     _ASM_EXTABLE(1b, 2b)
			     : [byte] "+m" (*(u8 *)at));

		/* No end address is compared: that of the last page wraps. */
		if ((at & PAGE_MASK) == (last & PAGE_MASK))
			break;
		at = (at & PAGE_MASK) + PAGE_SIZE;
	}
}
{{- if .Has.clean_x86}}
#else
static inline void dma_mark_dirty(void *addr, size_t size) {}
{{- end}}
#endif
