/*
 * Guests that mark the pages that their devices write
 *
 * A block is a place where a guest can be asked to: see
 * docs/specs/pci-page-dirtying.rst.  Migration knows blocks by what is here,
 * and not what they are.  All of it needs the BQL.
 *
 * SPDX-License-Identifier: GPL-2.0-or-later
 */

#ifndef MIGRATION_PAGE_DIRTYING_H
#define MIGRATION_PAGE_DIRTYING_H

#include "qapi/qapi-types-migration.h"
#include "qemu/queue.h"

typedef struct PageDirtyingOps {
    /* Fill in all of @info but who it is about */
    void (*query)(DeviceState *dev, PageDirtyingInfo *info);
} PageDirtyingOps;

typedef struct PageDirtying {
    DeviceState *dev;
    const PageDirtyingOps *ops;
    QTAILQ_ENTRY(PageDirtying) next;
} PageDirtying;

/* @pd is a block of @dev now, until it is removed */
void page_dirtying_add(PageDirtying *pd, DeviceState *dev,
                       const PageDirtyingOps *ops);
void page_dirtying_remove(PageDirtying *pd);

#endif /* MIGRATION_PAGE_DIRTYING_H */
