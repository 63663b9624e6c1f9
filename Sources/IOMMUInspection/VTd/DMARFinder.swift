import IOMMUFormats
import IOMMUTranslation

extension VTd {
  /// Finds the ACPI tables in which firmware lists remapping units.
  struct DMARFinder: TableFinder {
    private var places: [PhysicalAddress] = []
    private var budget = Budget()

    static var hardware: String { VTd.hardware }
    static var signature: StaticString? { "DMAR" }

    private var isFull = false
    var isExhausted: Bool { isFull || budget.isExhausted }

    mutating func seeSignature(at address: PhysicalAddress) {
      if places.count < KeptPages.limit { places.append(address) } else { isFull = true }
    }

    mutating func candidates(
      in memory: some PhysicalMemory, crashKernel _: [Range<PhysicalAddress>]
    ) -> [TableCandidate] {
      places.compactMap { dmar(at: $0, in: memory) }
    }

    /// A unit's place is the one whose root table register, if memory holds it, leads to its tables; or
    /// the only one that is left.
    static func complete(
      _ units: [TranslationUnit], with tables: [TableCandidate], in memory: some PhysicalMemory
    ) -> (units: [TranslationUnit], remarks: [String]) {
      guard units.contains(where: { $0.as(VTd.Unit.self) != nil }) else { return (units, []) }
      var found: [(address: PhysicalAddress, table: VTd.DMAR)] = []
      var refused: [String] = []
      for candidate in tables {
        guard let bytes = memory.bytes(at: candidate.address, count: Int(candidate.byteCount))
        else { continue }
        do {
          let table = try VTd.DMAR(parsing: bytes)
          if !table.hardwareUnits.isEmpty, !found.contains(where: { $0.table == table }) {
            found.append((candidate.address, table))
          }
        } catch {
          refused.append("not taking the DMAR table at \(candidate.address): \(error)")
        }
      }
      guard let (address, table) = found.first else { return (units, refused) }
      guard found.count == 1 else {
        let places = listText(found.map { "\($0.address)" })
        return (units, ["not taking the DMAR tables at \(places): they differ"])
      }
      let placed = units.map { unit in
        guard var vtd = unit.as(VTd.Unit.self), vtd.base == PhysicalAddress(0) else { return unit }
        let own = table.hardwareUnits.filter { leads($0.base, to: vtd, in: memory) }
        if own.count == 1 { vtd.base = own[0].base }
        return .vtd(vtd)
      }
      let completed = table.completing(placed)
      return (completed, remarks(on: completed, address, table))
    }

    /// Whether memory holds registers at `base`, and they lead to the unit's tables.
    private static func leads(
      _ base: PhysicalAddress, to unit: VTd.Unit, in memory: some PhysicalMemory
    ) -> Bool {
      base.advanced(byBytes: VTd.RegisterOffset.rootTableAddress)
        .flatMap { memory.quadword(at: $0) } == unit.rootTableAddress.rawValue
    }

    private static func remarks(
      on units: [TranslationUnit], _ address: PhysicalAddress, _ table: VTd.DMAR
    ) -> [String] {
      let bases = table.hardwareUnits.map { "\($0.base)" }
      var remarks = [
        "taking the DMAR table at \(address): "
          + countText(bases.count, "unit") + ", at " + listText(bases)
      ]
      let found = units.compactMap { $0.as(VTd.Unit.self) }
      if found.contains(where: { $0.scope?.isUncertain == true }) {
        let segments = Set(table.hardwareUnits.map(\.segment))
        remarks.append(
          "nothing says which root table is which unit's"
            + (segments.count > 1 ? ", nor of which PCI segment: its devices have none here" : "")
            + "; --root vtd:ADDRESS@BASE, once for each, does")
      }
      let places = Set(table.hardwareUnits.map(\.base)).count
      if found.count > places {
        remarks.append(
          "there are \(found.count) root tables for \(countText(places, "unit")): not all of them are in "
            + "force")
      }
      return remarks
    }

    static func complete(
      _ units: [TranslationUnit], knowing machine: [TranslationUnit]
    ) -> [TranslationUnit] {
      let scope = machine.lazy.compactMap {
        $0.as(VTd.Unit.self)?.scope ?? $0.as(VTd.UnseenUnit.self)?.scope
      }.first
      return scope?.table.completing(units) ?? units
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
