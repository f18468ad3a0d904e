/**
 * dma_mark_dirty_arm - let marking be made active in this boot
 *
 * For who finds that a hypervisor may ask for it. It has an effect until drivers
 * probe, and unless the boot parameter forbids it. Process context.
 *
 * Return: %true if marking is armed, be it by this or before
 */
bool dma_mark_dirty_arm(void)
{
	if (dma_mark_dirty_may_arm && !dma_mark_dirty_armed()) {
		WRITE_ONCE(__dma_mark_dirty_armed, true);
		pr_info("armed\n");
	}

	return dma_mark_dirty_armed();
}

/**
 * dma_mark_dirty_get - ask for marking
 *
 * It is active until all who asked have called dma_mark_dirty_put().
 *
 * What is unmapped or synced after this has returned is marked, what was before
 * is not: whoever copies this guest's memory has to begin after that. Process
 * context only, since switching a static key sleeps.
 *
 * Return: 0, or -EOPNOTSUPP if marking was not armed at boot
{{- if not .Has.syncs_kept}}: drivers may have
 * been told then that their syncs and unmaps do nothing
{{- end}}.
 */
int dma_mark_dirty_get(void)
{
	if (!dma_mark_dirty_armed())
		return -EOPNOTSUPP;

	static_branch_inc(&dma_mark_dirty_active);
	return 0;
}

/**
 * dma_mark_dirty_put - ask for marking no more
 *
 * Once for each dma_mark_dirty_get() that returned 0. Process context only.
 */
void dma_mark_dirty_put(void)
{
	static_branch_dec(&dma_mark_dirty_active);
}

/**
 * dma_mark_dirty_enable - say whether a person wants marking
 * @enable: %true if so; %false leaves it active for others who asked
 *
 * Return: 0, or what dma_mark_dirty_get() does.
 */
int dma_mark_dirty_enable(bool enable)
{
	static DEFINE_MUTEX(lock);
	static bool enabled;
	int err = 0;

	mutex_lock(&lock);
	if (enable && !enabled)
		err = dma_mark_dirty_get();
	else if (!enable && enabled)
		dma_mark_dirty_put();
	if (!err)
		enabled = enable;
	mutex_unlock(&lock);

	return err;
}
