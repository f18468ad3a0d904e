/* When the switch-over does not wait any longer for a device to go, 0: later */
static int64_t unplug_deadline;

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

static void page_dirtying_not_released(DeviceState *dev)
{
    g_autofree char *path = object_get_canonical_path(OBJECT(dev));
    Error *err = NULL;

    error_setg(&err, "Device '%s' is to be unplugged, but the guest has not "
               "released it in %" PRIu64 " ms", path,
               (uint64_t)migrate_page_dirtying_timeout() + UNPLUG_GRACE_MS);
    migrate_set_error(migrate_get_current(), err);
    error_free(err);
    qatomic_set(&broken, true);
}

bool page_dirtying_wait_unplug(void)
{
    DeviceState *dev = NULL;
    int64_t now;

    if (!qatomic_read(&asked)) {
        return false;
    }

    bql_lock();
    now = qemu_clock_get_ms(QEMU_CLOCK_REALTIME);
    /* A guest that stands still releases nothing any more */
    if (runstate_is_running()) {
        dev = page_dirtying_unplug_pending();
    }
    if (!dev) {
        unplug_deadline = 0;
    } else if (!unplug_deadline) {
        unplug_deadline = now + migrate_page_dirtying_timeout() +
                          UNPLUG_GRACE_MS;
    } else if (now >= unplug_deadline) {
        page_dirtying_not_released(dev);
    } else {
        /* Nothing tells when the device has gone */
        qemu_cond_timedwait_bql(&wake, UNPLUG_POLL_MS);
    }
    bql_unlock();
    return dev != NULL;
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

