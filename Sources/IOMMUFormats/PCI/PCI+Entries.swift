extension PCI {
  /// Registers, for ``EntryCatalog``.
  static let entries = EntryCatalog.Group(
    "PCI",
    [
      .init("pci-identity", "vendor and device, offset 0x00", Identity.self),
      .init(
        "pci-command", aliases: ["pci-status"], "command and status, offset 0x04",
        CommandStatus.self),
      .init(
        "pci-class", aliases: ["pci-revision"], "class and revision, offset 0x08",
        ClassRevision.self),
      .init("pci-header-type", "layout of the header, offset 0x0c", HeaderType.self),
      .init("pci-bus-numbers", "buses of a bridge, offset 0x18", BusNumbers.self),
      .init("pci-capability", "header of a capability", CapabilityHeader.self),
      .init("pci-express", "header of the PCI Express capability", ExpressCapability.self),
      .init(
        "pci-extended-capability", aliases: ["pci-ext-capability"],
        "header of an extended capability, from offset 0x100", ExtendedCapabilityHeader.self),
      .init(
        "pci-ats", "address translation services, offset 4 of the capability",
        AddressTranslationServices.self),
      .init(
        "pci-sriov", "where virtual functions are, offset 0x14 of the SR-IOV capability",
        VirtualFunctionRouting.self),
    ])
}
