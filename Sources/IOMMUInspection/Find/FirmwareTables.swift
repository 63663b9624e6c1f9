import IOMMUFormats

/// The tables in which firmware says what IOMMUs a machine has.
enum FirmwareTables {
  /// Bytes of DMAR tables that may still be added up: real ones have a few hundred, and a page may
  /// hold hundreds of headers that each claim 64 KiB.
  struct Budget {
    var bytes = 1 << 22
    var isExhausted: Bool { bytes <= 0 }
  }

  /// An ACPI DMAR table at `address`; `nil` for anything that merely has its signature, and when
  /// the budget is used up.
  static func dmar(
    at address: PhysicalAddress, in memory: some PhysicalMemory, budget: inout Budget
  ) -> TableCandidate? {
    guard !budget.isExhausted,
      let length = ACPI.TableHeader.statedByteCount(at: address, in: memory),
      VTd.DMAR.headerByteCount...65_536 ~= length,
      let bytes = memory.bytes(at: address, count: length)
    else { return nil }
    budget.bytes -= length
    var score = 20
    var reasons = ["signature \(VTd.DMAR.signature), \(countText(length, "byte"))"]
    if bytes.reduce(0, { $0 &+ $1 }) == 0 {
      score += 50
      reasons.append("its bytes add up to zero")
    }
    let platform = address.advanced(byBytes: UInt64(VTd.DMAR.platformOffset)).flatMap {
      VTd.DMAR.Platform(from: memory, at: $0)
    }
    if let width = platform?.hostAddressWidth, 32...52 ~= width {
      score += 10
      reasons.append("host addresses of \(width) bits")
    }
    do {
      let units = try VTd.DMAR(parsing: bytes, ignoringChecksum: true).hardwareUnits
      if !units.isEmpty {
        score += 20
        reasons.append("units at " + listText(units.map { "\($0.base)" }))
      }
    } catch {
      reasons.append("\(error)")
    }
    return TableCandidate(
      kind: .dmar, address: address, byteCount: UInt64(length), score: score, reasons: reasons)
  }

  /// The Rio table that a Calgary machine's firmware keeps in its EBDA; `nil` where there is none,
  /// or none with a Calgary chip.
  static func rioTable(in memory: some PhysicalMemory) -> TableCandidate? {
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
