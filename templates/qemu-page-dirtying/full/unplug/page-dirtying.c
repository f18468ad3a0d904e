static DeviceState *page_dirtying_unplug_pending(void)
{
    DeviceState *dev = NULL;
    PageDirtying *pd;

    QTAILQ_FOREACH(pd, &blocks, next) {
        dev = pd->ops->unplug_pending(pd->dev);
        if (dev) {
            break;
        }
    }
    return dev;
}

bool page_dirtying_wait_unplug(void)
{
    bool pending;

    if (!qatomic_read(&asked)) {
        return false;
    }

    bql_lock();
    pending = page_dirtying_unplug_pending();
    if (pending) {
        /* Nothing tells when the device has gone */
        qemu_cond_timedwait_bql(&wake, UNPLUG_POLL_MS);
    }
    bql_unlock();
    return pending;
}

bool page_dirtying_unplug_late(void)
{
    DeviceState *dev = asked ? page_dirtying_unplug_pending() : NULL;
    g_autofree char *path = NULL;
    Error *err = NULL;

    if (!dev) {
        return false;
    }

    path = object_get_canonical_path(OBJECT(dev));
    error_setg(&err, "Device '%s' is to be unplugged, but the guest is already "
               "stopped", path);
    migrate_set_error(migrate_get_current(), err);
    error_free(err);
    return true;
}

