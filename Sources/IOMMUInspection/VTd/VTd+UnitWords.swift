import IOMMUFormats
import IOMMUTranslation

extension VTd.Unit: DescribedUnit {
  /// A unit whose tables were found in memory has no known place.
  var name: String { base.rawValue == 0 ? "an Intel VT-d unit" : "Intel VT-d unit at \(base)" }

  var text: String {
    translates ? "\(name): \(rootTableAddress.meaning(OnlyVariant()))" : "\(name), off"
  }

  func describedUpperTables(in memory: some PhysicalMemory) -> [any DescribedUpperTable] {
    guard translates else { return [] }
    return upperTables(in: memory).tables.map {
      VTdUpperTableWords(table: $0, limits: limits, segment: UInt32(segment ?? 0))
    }
  }

  var describedInterruptTable: (any DescribedUpperTable)? {
    interruptTable.map { VTdInterruptTableWords(table: $0) }
  }
}

extension VTd.UnseenUnit: DescribedUnit {
  var name: String {
    "Intel VT-d unit at " + scope.bases.map { "\($0)" }.joined(separator: " or ")
  }
  var text: String { "\(name), whose registers are not known" }
}
