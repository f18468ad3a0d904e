/* Bridges write nothing by themselves, and may have blocks of their own */
static bool pci_page_dirtying_is_pluggable(PCIDevice *dev)
{
    return dev && !IS_PCI_BRIDGE(dev) &&
           qdev_hotunplug_allowed(DEVICE(dev), NULL);
}

/* As in qmp_device_del(): a guest may have missed what was long ago */
static bool pci_page_dirtying_is_asked(DeviceState *qdev)
{
    return qdev->pending_deleted_event &&
           (!qdev->pending_deleted_expires_ms ||
            qdev->pending_deleted_expires_ms >
            qemu_clock_get_ms(QEMU_CLOCK_VIRTUAL));
}

static DeviceState *pci_page_dirtying_pluggable(DeviceState *qdev)
{
    PCIBus *bus = pci_bridge_get_sec_bus(PCI_BRIDGE(qdev));
    int devfn;

    for (devfn = 0; devfn < PCI_DEVFN_MAX; devfn++) {
        if (pci_page_dirtying_is_pluggable(bus->devices[devfn])) {
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

        if (!pci_page_dirtying_is_pluggable(dev) ||
            pci_page_dirtying_is_asked(DEVICE(dev)) ||
            (devfn != first && bus->devices[first])) {
            continue;
        }
        qdev_unplug(DEVICE(dev), errp);
        if (*errp) {
            g_autofree char *path = object_get_canonical_path(OBJECT(dev));

            error_prepend(errp, "Guest does not mark what devices write, and "
                          "'%s' can't be unplugged: ", path);
            return false;
        }
    }
    return true;
}

