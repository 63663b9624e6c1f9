extension AMDVi {
  /// Entries of tables, for ``EntryCatalog``.
  static let tableKinds: [EntryCatalog.Kind] =
    [
      .init(
        "amdvi-dte", aliases: ["dte", "device-table-entry"], "AMD-Vi device table entry",
        DeviceTableEntry.self
      ) { _, _ in Limits.permissive }
    ]
    + (1...6).map { level in
      .init(
        "amdvi-pte\(level)", aliases: level == 1 ? ["amdvi-pte"] : [],
        "AMD-Vi host (v1) page table entry of level \(level)", PageTableEntry.self
      ) { entry, _ in PageTableEntry.Variant(level: level, isLeaf: entry.isLeaf) }
    }
    + (1...5).map { level in
      .init(
        "amdvi-guest-pte\(level)", aliases: level == 1 ? ["amdvi-guest-pte"] : [],
        "AMD-Vi guest (v2) page table entry of level \(level)", GuestPageTableEntry.self
      ) { entry, _ in GuestPageTableEntry.Variant(level: level, isLeaf: entry.hasPageSizeBit) }
    }
    + [.init("amdvi-gcr3", aliases: ["gcr3"], "AMD-Vi GCR3 table entry", GuestRootEntry.self)]
}
