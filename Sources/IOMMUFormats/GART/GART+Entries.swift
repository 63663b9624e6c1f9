extension GART {
  /// Table entries and registers, for ``EntryCatalog``.
  static let entries = EntryCatalog.Group(
    "AMD GART",
    [
      .init(
        "gatt", aliases: ["gart", "gart-entry"],
        "GART table entry, one 4 KiB page of the aperture", GATTEntry.self),
      .init(
        "gart-control", "GART aperture control, function 3 offset 0x90", ApertureControl.self),
      .init("gart-base", "GART aperture base, function 3 offset 0x94", ApertureBase.self),
      .init("gart-table", "GART table base, function 3 offset 0x98", TableBase.self),
      .init("gart-cache", "GART cache control, function 3 offset 0x9c", CacheControl.self),
      .init(
        "mce-control", aliases: ["nb-mce-control"],
        "northbridge machine check control, function 3 offset 0x40", MachineCheckControl.self),
      .init(
        "mce-status", aliases: ["nb-mce-status"],
        "northbridge machine check status, function 3 offset 0x48", MachineCheckStatus.self),
      .init(
        "mce-address", aliases: ["nb-mce-address"],
        "northbridge machine check address, function 3 offset 0x50", MachineCheckAddress.self),
    ])
}

extension AGP {
  /// Registers, for ``EntryCatalog``.
  static let entries = EntryCatalog.Group(
    "AGP bridge",
    [
      .init("agp-size", aliases: ["apsize"], "AGP aperture size", ApertureSize.self),
      .init("agp-base", aliases: ["apbase"], "AGP aperture base", ApertureBase.self),
    ])
}
