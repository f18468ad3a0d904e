/*
 * Bridges write nothing by themselves, and may have blocks of their own.  A
 * virtual function goes with the physical one, and of the primary device of a
 * failover pair that the guest has let go only QEMU's part stays.
 */
static bool pci_page_dirtying_has_to_go(PCIDevice *dev)
{
    return dev && !IS_PCI_BRIDGE(dev) && !pci_is_vf(dev) &&
           !dev->partially_hotplugged;
}

/* As in qmp_device_del(): a guest may have missed what was long ago */
static bool pci_page_dirtying_is_asked(DeviceState *qdev)
{
    return qdev->pending_deleted_event &&
           (!qdev->pending_deleted_expires_ms ||
            qdev->pending_deleted_expires_ms >
            qemu_clock_get_ms(QEMU_CLOCK_VIRTUAL));
}

static DeviceState *pci_page_dirtying_to_go(DeviceState *qdev)
{
    PCIBus *bus = pci_bridge_get_sec_bus(PCI_BRIDGE(qdev));
    int devfn;

    for (devfn = 0; devfn < PCI_DEVFN_MAX; devfn++) {
        if (pci_page_dirtying_has_to_go(bus->devices[devfn])) {
            return DEVICE(bus->devices[devfn]);
        }
    }
    return NULL;
}

static bool pci_page_dirtying_unplug(DeviceState *qdev, Error **errp)
{
    ERRP_GUARD();
    PCIBus *bus = pci_bridge_get_sec_bus(PCI_BRIDGE(qdev));
    int devfn;

    for (devfn = 0; devfn < PCI_DEVFN_MAX; devfn++) {
        /* Asked again for each function, the guest would take it back */
        int first = pci_bus_is_express(bus) ? 0 :
                    PCI_DEVFN(PCI_SLOT(devfn), 0);
        PCIDevice *dev = bus->devices[devfn];

        if (!pci_page_dirtying_has_to_go(dev) ||
            pci_page_dirtying_is_asked(DEVICE(dev)) ||
            (devfn != first && bus->devices[first])) {
            continue;
        }
        qdev_unplug(DEVICE(dev), errp);
        if (*errp && DEVICE(dev)->pending_deleted_event) {
            /* It is busy with an earlier request */
            error_free(*errp);
            *errp = NULL;
        }
        if (*errp) {
            g_autofree char *path = object_get_canonical_path(OBJECT(dev));

            error_prepend(errp, "Guest does not mark what devices write, and "
                          "'%s' can't be unplugged: ", path);
            return false;
        }
    }
    return true;
}

