import IOMMUFormats
import IOMMUTranslation

extension AMDVi {
  /// Finds the ACPI tables in which firmware lists AMD-Vi units.
  struct IVRSFinder: TableFinder {
    private var search = FirmwareTableSearch()

    static var hardware: String { AMDVi.hardware }
    static var signature: StaticString? { "IVRS" }

    var isExhausted: Bool { search.isExhausted }

    mutating func seeSignature(at address: PhysicalAddress) { search.add(address) }

    mutating func candidates(
      in memory: some PhysicalMemory, crashKernel _: [Range<PhysicalAddress>]
    ) -> [TableCandidate] {
      search.candidates(
        of: .ivrs, signature: AMDVi.IVRS.signature, headerByteCount: AMDVi.IVRS.headerByteCount,
        in: memory
      ) { candidate, bytes in
        do {
          let table = try AMDVi.IVRS(parsing: bytes, ignoringChecksum: true)
          if 32...52 ~= table.info.physicalAddressWidth {
            candidate.score += 10
            candidate.reasons.append(
              "physical addresses of \(table.info.physicalAddressWidth) bits")
          }
          let bases = Set(table.units.map(\.base)).sorted()
          if !bases.isEmpty, table.damage.isEmpty {
            candidate.score += 20
            candidate.reasons.append("units at " + listText(bases.map { "\($0)" }))
          }
        } catch {
          candidate.reasons.append("\(error)")
        }
      }
    }

    static func complete(
      _ units: [TranslationUnit], with tables: [TableCandidate], in memory: some PhysicalMemory
    ) -> (units: [TranslationUnit], remarks: [String]) {
      guard units.contains(where: { $0.as(AMDVi.Unit.self) != nil }) else { return (units, []) }
      let (found, remarks) = agreeing(
        on: tables, "IVRS table", in: memory, parse: { try AMDVi.IVRS(parsing: $0) },
        listsUnits: { !$0.units.isEmpty })
      guard let (address, table) = found else { return (units, remarks) }
      let bases = Set(table.units.map(\.base)).sorted().map { "\($0)" }
      return (
        table.completing(units),
        [
          "taking the IVRS table at \(address): \(countText(bases.count, "unit")), at "
            + listText(bases)
        ]
      )
    }

    static func complete(
      _ units: [TranslationUnit], knowing machine: [TranslationUnit]
    ) -> [TranslationUnit] {
      let scope = machine.lazy.compactMap { unit -> AMDVi.UnitScope? in
        unit.as(AMDVi.Unit.self)?.scope ?? unit.as(AMDVi.UnseenUnit.self)?.scope
      }.first
      return scope?.table.completing(units) ?? units
    }
  }
}

extension TableCandidate.Kind {
  /// The ACPI table that lists AMD-Vi units.
  public static let ivrs = Self("ACPI IVRS table", translates: false, of: AMDVi.IVRSFinder.self)
}
