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
        "AMD-Vi host (v1) page table entry of level \(level)", PageTableEntry.self,
        layouts: { _ in
          let lower = level == 2 ? "1" : level == 3 ? "1 or 2" : "1 to \(level - 1)"
          let layouts: [(condition: String, variant: PageTableEntry.Variant)] = [
            ("NextLevel = \(lower), leads to a table", .init(level: level, isLeaf: false)),
            ("NextLevel = 0 or 7, maps a page", .init(level: level, isLeaf: true)),
          ]
          return layouts.filter { $0.variant == $0.variant.possible }
        }
      ) { entry, _ in PageTableEntry.Variant(level: level, isLeaf: entry.isLeaf).possible }
    }
    + (1...5).map { level in
      .init(
        "amdvi-guest-pte\(level)", aliases: level == 1 ? ["amdvi-guest-pte"] : [],
        "AMD-Vi guest (v2) page table entry of level \(level)", GuestPageTableEntry.self,
        layouts: { _ in
          2...3 ~= level
            ? [
              ("PS = 0, leads to a table", .init(level: level, isLeaf: false)),
              ("PS = 1, maps a page", .init(level: level, isLeaf: true)),
            ] : [("", .init(level: level, isLeaf: level == 1))]
        }
      ) { entry, _ in GuestPageTableEntry.Variant(level: level, isLeaf: entry.hasPageSizeBit) }
    }
    + [.init("amdvi-gcr3", aliases: ["gcr3"], "AMD-Vi GCR3 table entry", GuestRootEntry.self)]
}
