import IOMMUFormats
import IOMMUTranslation

/// A unit that can be put into words: one conformance for each kind, beside its hardware.
protocol DescribedUnit: UnitModel {
  /// What the unit is and where its tables begin.
  var text: String { get }
  /// What people call the unit, and where it is: `Intel VT-d unit at 0xfed90000`.
  var name: String { get }
  /// Every table above the page tables, once for each who uses it.
  func describedUpperTables(in memory: some PhysicalMemory) -> [any DescribedUpperTable]
  /// The interrupt remapping table in force for all devices; `nil` where there is none, or nobody knows.
  var describedInterruptTable: (any DescribedUpperTable)? { get }
  /// An interrupt remapping table in force; `nil` for one that is not the unit's.
  func describedTable(of mappings: InterruptMappings) -> (any DescribedUpperTable)?
}

extension DescribedUnit {
  func describedUpperTables(in _: some PhysicalMemory) -> [any DescribedUpperTable] { [] }
  var describedInterruptTable: (any DescribedUpperTable)? { nil }
  func describedTable(of _: InterruptMappings) -> (any DescribedUpperTable)? {
    describedInterruptTable
  }
}

extension PartialTable: DescribedUnit {
  var name: String { "the unit of the table at \(start)" }
  var text: String { "a table at \(start), of which \(missing) is not in this dump" }
}

extension UnsearchedTables: DescribedUnit {
  var name: String { "a unit whose table was not looked for" }
  var text: String { "a table that was not looked for: too many places look like tables" }
}

extension TranslationUnit {
  /// The unit in words.
  var words: any DescribedUnit {
    guard let words = model as? any DescribedUnit else {
      preconditionFailure("every kind of unit has words")
    }
    return words
  }

  /// What people call the unit, and where it is: `Intel VT-d unit at 0xfed90000`.
  public var name: String { words.name }
}
