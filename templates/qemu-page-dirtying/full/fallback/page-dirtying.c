/*
 * Have the devices removed whose pages are not marked.  Until the first page is
 * read that is as good.
 */
static bool page_dirtying_unplug(MigrationState *s, Error **errp)
{
    int64_t limit = (int64_t)migrate_page_dirtying_timeout() + UNPLUG_GRACE_MS;
    int64_t deadline = qemu_clock_get_ms(QEMU_CLOCK_REALTIME) + limit;
    g_autofree char *path = NULL;
    DeviceState *dev;
    PageDirtying *pd;

    QTAILQ_FOREACH(pd, &blocks, next) {
        if (!pd->relied_on && !pd->ops->unplug(pd->dev, errp)) {
            return false;
        }
    }

    while (s->state == MIGRATION_STATUS_WAIT_PAGE_DIRTYING) {
        dev = NULL;
        QTAILQ_FOREACH(pd, &blocks, next) {
            if (!pd->relied_on && !dev) {
                dev = pd->ops->to_go(pd->dev);
            }
        }
        if (!dev) {
            return true;
        }
        if (qemu_clock_get_ms(QEMU_CLOCK_REALTIME) >= deadline) {
            path = object_get_canonical_path(OBJECT(dev));
            error_setg(errp, "Guest does not mark what devices write, and has "
                       "not released '%s' in %" PRId64 " ms", path, limit);
            return false;
        }
        qemu_cond_timedwait_bql(&wake, UNPLUG_POLL_MS);
    }
    return true;
}

