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
    guard !budget.isExhausted, let header = memory.bytes(at: address, count: 48) else { return nil }
    let length = header[4..<8].reversed().reduce(0) { $0 << 8 | Int($1) }
    guard 48...65_536 ~= length, let bytes = memory.bytes(at: address, count: length) else {
      return nil
    }
    budget.bytes -= length
    var score = 20
    var reasons = ["signature DMAR, \(countText(length, "byte"))"]
    if bytes.reduce(0, { $0 &+ $1 }) == 0 {
      score += 50
      reasons.append("its bytes add up to zero")
    }
    let width = Int(bytes[36]) + 1
    if 32...52 ~= width {
      score += 10
      reasons.append("host addresses of \(width) bits")
    }
    if let units = unitBases(bytes) {
      score += 20
      reasons.append("units at " + listText(units.map { hexadecimal($0) }))
    }
    return TableCandidate(
      kind: .dmar, address: address, byteCount: UInt64(length), score: score, reasons: reasons)
  }

  /// The register bases of the units; `nil` when the structures do not add up.
  private static func unitBases(_ bytes: [UInt8]) -> [UInt64]? {
    var bases: [UInt64] = []
    var offset = 48
    while offset < bytes.count {
      guard offset + 4 <= bytes.count else { return nil }
      let type = Int(bytes[offset]) | Int(bytes[offset + 1]) << 8
      let length = Int(bytes[offset + 2]) | Int(bytes[offset + 3]) << 8
      guard length >= 4, offset + length <= bytes.count else { return nil }
      if type == 0 {
        guard length >= 16 else { return nil }
        bases.append(
          bytes[offset + 8..<offset + 16].reversed().reduce(0) { $0 << 8 | UInt64($1) })
      }
      offset += length
    }
    return bases.isEmpty ? nil : bases
  }

  /// The Rio table that a Calgary machine's firmware keeps in its EBDA: the EBDA's segment is at
  /// 0x40e, a chain of blocks begins 0x180 into it, and the right one has the mark 0x4752.
  static func rioTable(in memory: some PhysicalMemory) -> TableCandidate? {
    guard let segment = word(at: 0x40e, in: memory), segment != 0 else { return nil }
    let base = UInt64(segment) << 4
    var offset: UInt64 = 0
    var next: UInt64 = 0x180
    while next > offset {
      offset = next
      guard let mark = word(at: base + offset + 2, in: memory),
        let link = word(at: base + offset, in: memory)
      else { return nil }
      if mark == 0x4752 { return rioTable(at: base + offset + 4, ebda: base, in: memory) }
      next = UInt64(link)
    }
    return nil
  }

  private static func rioTable(
    at address: UInt64, ebda: UInt64, in memory: some PhysicalMemory
  ) -> TableCandidate? {
    guard let header = memory.bytes(at: PhysicalAddress(address), count: 3) else { return nil }
    let (scaleByteCount, rioByteCount) = header[0] == 3 ? (12, 15) : (11, 13)
    guard 2...3 ~= header[0] else { return nil }
    let length = 3 + Int(header[1]) * scaleByteCount + Int(header[2]) * rioByteCount
    guard let bytes = memory.bytes(at: PhysicalAddress(address), count: length) else { return nil }
    var bridges: [UInt64] = []
    for index in 0..<Int(header[2]) {
      let start = 3 + Int(header[1]) * scaleByteCount + index * rioByteCount
      // Types 4 and 5 are Calgary chips; bytes 1 to 4 are the chip's BBAR.
      guard 4...5 ~= bytes[start + 5] else { continue }
      bridges.append(bytes[start + 1...start + 4].reversed().reduce(0) { $0 << 8 | UInt64($1) })
    }
    guard !bridges.isEmpty else { return nil }
    return TableCandidate(
      kind: .rioTable, address: PhysicalAddress(address), byteCount: UInt64(length), score: 90,
      reasons: [
        "version \(header[0]), in the EBDA at \(hexadecimal(ebda))",
        "Calgary chips with registers at " + listText(bridges.map { hexadecimal($0) }),
      ])
  }

  private static func word(at address: UInt64, in memory: some PhysicalMemory) -> UInt16? {
    memory.bytes(at: PhysicalAddress(address), count: 2).map { UInt16($0[0]) | UInt16($0[1]) << 8 }
  }
}
