import IOMMUFormats
import IOMMUTranslation

extension VTd {
  /// Finds the ACPI tables in which firmware lists remapping units.
  struct DMARFinder: TableFinder {
    private var places: [PhysicalAddress] = []
    private var budget = Budget()

    static var hardware: String { VTd.hardware }
    static var signature: StaticString? { "DMAR" }

    var isExhausted: Bool { budget.isExhausted }

    mutating func seeSignature(at address: PhysicalAddress) {
      if places.count < KeptPages.limit { places.append(address) }
    }

    mutating func candidates(
      in memory: some PhysicalMemory, crashKernel _: [Range<PhysicalAddress>]
    ) -> [TableCandidate] {
      places.compactMap { dmar(at: $0, in: memory) }
    }

    /// Bytes of DMAR tables that may still be added up: real ones have a few hundred, and a page may
    /// hold hundreds of headers that each claim 64 KiB.
    private struct Budget {
      var bytes = 1 << 22
      var isExhausted: Bool { bytes <= 0 }
    }

    /// An ACPI DMAR table at `address`; `nil` for anything that merely has its signature, and when
    /// the budget is used up.
    private mutating func dmar(
      at address: PhysicalAddress, in memory: some PhysicalMemory
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
  }
}

extension TableCandidate.Kind {
  /// The ACPI table that lists remapping units.
  public static let dmar = Self(
    "ACPI DMAR table", translates: false, of: VTd.DMARFinder.self)
}
