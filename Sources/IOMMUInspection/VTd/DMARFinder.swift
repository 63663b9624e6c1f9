import IOMMUFormats
import IOMMUTranslation

extension VTd {
  /// Finds the ACPI tables in which firmware lists remapping units.
  struct DMARFinder: TableFinder {
    private var search = FirmwareTableSearch()

    static var hardware: String { VTd.hardware }
    static var signature: StaticString? { "DMAR" }

    var isExhausted: Bool { search.isExhausted }

    mutating func seeSignature(at address: PhysicalAddress) { search.add(address) }

    mutating func candidates(
      in memory: some PhysicalMemory, crashKernel _: [Range<PhysicalAddress>]
    ) -> [TableCandidate] {
      search.candidates(
        of: .dmar, signature: VTd.DMAR.signature, headerByteCount: VTd.DMAR.headerByteCount,
        in: memory
      ) { candidate, bytes in
        let platform = candidate.address.advanced(byBytes: UInt64(VTd.DMAR.platformOffset)).flatMap
        {
          VTd.DMAR.Platform(from: memory, at: $0)
        }
        if let width = platform?.hostAddressWidth, 32...52 ~= width {
          candidate.score += 10
          candidate.reasons.append("host addresses of \(width) bits")
        }
        do {
          let units = try VTd.DMAR(parsing: bytes, ignoringChecksum: true).hardwareUnits
          if !units.isEmpty {
            candidate.score += 20
            candidate.reasons.append("units at " + listText(units.map { "\($0.base)" }))
          }
        } catch {
          candidate.reasons.append("\(error)")
        }
      }
    }

    /// A unit's place is the one whose root table register, if memory holds it, leads to its tables; or
    /// the only one that is left.
    static func complete(
      _ units: [TranslationUnit], with tables: [TableCandidate], in memory: some PhysicalMemory
    ) -> (units: [TranslationUnit], remarks: [String]) {
      guard units.contains(where: { $0.as(VTd.Unit.self) != nil }) else { return (units, []) }
      let (found, refused) = agreeing(
        on: tables, "DMAR table", in: memory, parse: { try VTd.DMAR(parsing: $0) },
        listsUnits: { !$0.hardwareUnits.isEmpty })
      guard let (address, table) = found else { return (units, refused) }
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
  }
}

extension TableCandidate.Kind {
  /// The ACPI table that lists remapping units.
  public static let dmar = Self(
    "ACPI DMAR table", translates: false, of: VTd.DMARFinder.self)
}
