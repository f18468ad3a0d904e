/*
 * Guests that mark the pages that their devices write
 *
 * SPDX-License-Identifier: GPL-2.0-or-later
 */

#include "qemu/osdep.h"
#include "hw/qdev-core.h"
#include "migration/page-dirtying.h"
#include "qapi/qapi-commands-migration.h"

static QTAILQ_HEAD(, PageDirtying) blocks = QTAILQ_HEAD_INITIALIZER(blocks);

void page_dirtying_add(PageDirtying *pd, DeviceState *dev,
                       const PageDirtyingOps *ops)
{
    pd->dev = dev;
    pd->ops = ops;
    QTAILQ_INSERT_TAIL(&blocks, pd, next);
}

void page_dirtying_remove(PageDirtying *pd)
{
    QTAILQ_REMOVE(&blocks, pd, next);
}

PageDirtyingInfoList *qmp_query_page_dirtying(Error **errp)
{
    PageDirtyingInfoList *list = NULL, **tail = &list;
    PageDirtying *pd;

    QTAILQ_FOREACH(pd, &blocks, next) {
        PageDirtyingInfo *info = g_new0(PageDirtyingInfo, 1);

        info->qom_path = object_get_canonical_path(OBJECT(pd->dev));
        info->id = g_strdup(pd->dev->id);
        pd->ops->query(pd->dev, info);
        QAPI_LIST_APPEND(tail, info);
    }
    return list;
}
