static PageDirtyingState pci_page_dirtying_qapi(uint32_t word)
{
    switch (pci_page_dirtying_state(word)) {
    case PCI_PAGE_DIRTYING_IDLE:
        return PAGE_DIRTYING_STATE_IDLE;
    case PCI_PAGE_DIRTYING_ACTIVE:
        return PAGE_DIRTYING_STATE_ACTIVE;
    case PCI_PAGE_DIRTYING_REFUSED:
        return PAGE_DIRTYING_STATE_REFUSED;
    default:
        return PAGE_DIRTYING_STATE_UNKNOWN;
    }
}

static void pci_page_dirtying_query(DeviceState *qdev, PageDirtyingInfo *info)
{
    PCIDevice *dev = PCI_DEVICE(qdev);
    uint32_t request = pci_page_dirtying_get(dev, PCI_PAGE_DIRTYING_REQUEST);
    uint32_t guest = pci_page_dirtying_get(dev, PCI_PAGE_DIRTYING_GUEST);
    uint32_t answer = pci_page_dirtying_get(dev, PCI_PAGE_DIRTYING_ANSWER);

    info->requested = pci_page_dirtying_qapi(request);
    info->generation = pci_page_dirtying_generation(request);
    /* Generations alone don't tell: after a reset they may be equal */
    info->answered = !(request & PCI_PAGE_DIRTYING_ATTENTION) &&
                     pci_page_dirtying_generation(answer) == info->generation;
    info->has_answer = info->answered;
    info->answer = pci_page_dirtying_qapi(answer);
    info->driver = guest & PCI_PAGE_DIRTYING_DRIVER;
    info->streaming = guest & PCI_PAGE_DIRTYING_STREAMING;
}

static const PageDirtyingOps pci_page_dirtying_ops = {
    .query = pci_page_dirtying_query,
};

