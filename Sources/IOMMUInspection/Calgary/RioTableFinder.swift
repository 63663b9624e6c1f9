import IOMMUFormats
import IOMMUTranslation

extension Calgary {
  /// Finds the table in which firmware lists a machine's chips, by the chain that leads to it.
  struct RioTableFinder: TableFinder {
    static var hardware: String { Calgary.hardware }

    mutating func candidates(
      in memory: some PhysicalMemory, crashKernel _: [Range<PhysicalAddress>]
    ) -> [TableCandidate] {
      rioTable(in: memory).map { [$0] } ?? []
    }

    /// The Rio table that a Calgary machine's firmware keeps in its EBDA; `nil` where there is none,
    /// or none with a Calgary chip.
    private func rioTable(in memory: some PhysicalMemory) -> TableCandidate? {
      guard let base = try? Calgary.ExtendedBIOSData.base(in: memory), base.rawValue != 0,
        let (table, address) = try? Calgary.ExtendedBIOSData.rioTable(in: memory, nodeLimit: 255),
        !table.calgaryBases.isEmpty
      else { return nil }
      return TableCandidate(
        kind: .rioTable, address: address, byteCount: UInt64(table.byteCount), score: 90,
        reasons: [
          "version \(table.version.rawValue), in the EBDA at \(base)",
          "Calgary chips with registers at " + listText(table.calgaryBases.map { "\($0)" }),
        ])
    }
  }

  /// What tables of these chips are found as.
  static var hardware: String { "Calgary" }
}

extension TableCandidate.Kind {
  /// The table that lists Calgary chips.
  public static let rioTable = Self(
    "Rio table in the EBDA", translates: false, of: Calgary.RioTableFinder.self)
}
