static VMChangeStateEntry *vm_change_state;
/* Something has changed that page_dirtying_wait() waits for; with the BQL */
static QemuCond wake;
/* By a migration that has not ended yet */
static bool asked;

static void __attribute__((__constructor__)) page_dirtying_init(void)
{
    qemu_cond_init(&wake);
}

void page_dirtying_wake(void)
{
    qemu_cond_broadcast(&wake);
}

static PageDirtyingInfo page_dirtying_query(PageDirtying *pd)
{
    PageDirtyingInfo info = {};

    pd->ops->query(pd->dev, &info);
    return info;
}

static char *page_dirtying_name(PageDirtying *pd)
{
    return pd->dev->id ? g_strdup(pd->dev->id) :
                         object_get_canonical_path(OBJECT(pd->dev));
}

/* The guest does what it was asked: dirty what devices write */
static bool page_dirtying_active(PageDirtying *pd)
{
    PageDirtyingInfo info = page_dirtying_query(pd);

    return info.requested == PAGE_DIRTYING_STATE_ACTIVE && info.answered &&
           info.answer == PAGE_DIRTYING_STATE_ACTIVE &&
           info.driver && info.streaming;
}

static void page_dirtying_request(PageDirtying *pd, bool active)
{
    g_autofree char *name = page_dirtying_name(pd);

    trace_page_dirtying_request(name, active);
    pd->ops->request(pd->dev, active);
}

static void page_dirtying_request_idle(void)
{
    PageDirtying *pd;

    QTAILQ_FOREACH(pd, &blocks, next) {
        if (page_dirtying_query(pd).requested != PAGE_DIRTYING_STATE_IDLE) {
            page_dirtying_request(pd, false);
        }
    }
}

/*
 * Whoever takes over a guest, by migration or from a snapshot, finds it asked
 * by somebody else.
 */
static void page_dirtying_vm_change_state(void *opaque, bool running,
                                          RunState state)
{
    if (!running) {
        page_dirtying_wake();
        return;
    }
    if (!asked) {
        page_dirtying_request_idle();
    }
}
