    if (QTAILQ_EMPTY(&blocks)) {
        g_clear_pointer(&vm_change_state, qemu_del_vm_change_state_handler);
    }
    page_dirtying_wake();
}

void page_dirtying_changed(PageDirtying *pd)
{
    page_dirtying_wake();
}

bool page_dirtying_ask(void)
{
    PageDirtying *pd;

    asked = !QTAILQ_EMPTY(&blocks);
    QTAILQ_FOREACH(pd, &blocks, next) {
        page_dirtying_request(pd, true);
    }
    return asked;
}

/* All have answered, or what the others say makes no difference any more */
static bool page_dirtying_decided(void)
{
    bool decided = true;
    PageDirtying *pd;

    QTAILQ_FOREACH(pd, &blocks, next) {
        if (!page_dirtying_query(pd).answered) {
            decided = false;
        } else if (!page_dirtying_active(pd)) {
            return true;
        }
    }
    return decided;
}

static bool page_dirtying_fail(PageDirtying *pd, Error **errp)
{
    g_autofree char *name = page_dirtying_name(pd);

    if (!page_dirtying_query(pd).answered) {
        error_setg(errp, "Guest has not answered in %" PRIu32 " ms at '%s' "
                   "whether it marks what devices write",
                   migrate_page_dirtying_timeout(), name);
    } else {
        error_setg(errp, "Guest refuses at '%s' to mark what devices write",
                   name);
    }
    return false;
}

bool page_dirtying_wait(MigrationState *s, Error **errp)
{
    int64_t now = qemu_clock_get_ms(QEMU_CLOCK_REALTIME);
    int64_t deadline = now + migrate_page_dirtying_timeout();
    PageDirtying *pd;

    while (s->state == MIGRATION_STATUS_WAIT_PAGE_DIRTYING &&
           runstate_is_running() && !page_dirtying_decided() &&
           now < deadline) {
        qemu_cond_timedwait_bql(&wake, MIN(deadline - now, INT_MAX));
        now = qemu_clock_get_ms(QEMU_CLOCK_REALTIME);
    }

    if (s->state != MIGRATION_STATUS_WAIT_PAGE_DIRTYING) {
        return true;
    }

    /* A guest that stands still can't answer, and doesn't hand back buffers */
    if (!runstate_is_running()) {
        return true;
    }

    QTAILQ_FOREACH(pd, &blocks, next) {
        if (!page_dirtying_active(pd)) {
            return page_dirtying_fail(pd, errp);
        }
    }
    return true;
}

void page_dirtying_end(void)
{
    if (asked) {
        asked = false;
        page_dirtying_request_idle();
    }
