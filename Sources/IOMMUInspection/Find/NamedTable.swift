import IOMMUFormats
import IOMMUTranslation

/// What tables of a kind are called where somebody names one.
package struct TableName: Sendable {
  /// `vtd`, `tce`; lower case.
  package let text: String
  /// What it means, in a few words.
  package let summary: String
  /// A length may be said.
  let takesByteCount: Bool
  /// The place of the unit's registers may be said.
  let takesUnitBase: Bool
  /// Who finds such tables.
  let finder: any TableFinder.Type

  init(
    _ text: String, _ summary: String, takesByteCount: Bool = false, takesUnitBase: Bool = false,
    of finder: any TableFinder.Type
  ) {
    self.text = text
    self.summary = summary
    self.takesByteCount = takesByteCount
    self.takesUnitBase = takesUnitBase
    self.finder = finder
  }

  /// All names.
  package static let all: [TableName] = TableFinders.all.flatMap { $0.names }
}

/// A table that somebody names: `0x6a04000`, `vtd:6a04000@fed90000`, `tce:3f400000+4M`.
package struct NamedTable: Sendable {
  /// What kind of table it is.
  package var name: TableName
  /// The first byte.
  package var address: PhysicalAddress
  /// How long it is; `nil` where that is not said.
  package var byteCount: UInt64?
  /// Where the registers of its unit lie; `nil` where that is not said.
  package var unitBase: PhysicalAddress?

  /// Reads `[KIND:]ADDRESS[+SIZE][@BASE]`. An address alone is a VT-d root table's.
  ///
  /// - Throws: ``NotationError`` that says why not; of an unknown kind, with those there are.
  package init(_ text: String) throws(NotationError) {
    var rest = Substring(text)
    name = TableName.all[0]
    if let colon = rest.firstIndex(of: ":") {
      let kind = rest[..<colon].lowercased()
      guard let known = TableName.all.first(where: { $0.text == kind }) else {
        throw NotationError(
          "there are no tables called '\(kind)'; known are "
            + listText(TableName.all.map(\.text)))
      }
      name = known
      rest = rest[rest.index(after: colon)...]
    }
    if let at = rest.firstIndex(of: "@") {
      guard name.takesUnitBase else {
        throw NotationError(
          "'\(name.text)' is told from others by no place of registers; leave @ out")
      }
      let base = PhysicalAddress(try Notation.address(String(rest[rest.index(after: at)...])))
      guard base.rawValue != 0, base.isAligned(to: 4096) else {
        throw NotationError("registers lie at a multiple of 4 KiB that is not 0")
      }
      unitBase = base
      rest = rest[..<at]
    }
    if let plus = rest.firstIndex(of: "+") {
      guard name.takesByteCount else {
        throw NotationError("a table called '\(name.text)' has one length; leave + out")
      }
      byteCount = try Notation.size(String(rest[rest.index(after: plus)...]))
      rest = rest[..<plus]
    }
    address = PhysicalAddress(try Notation.address(String(rest)))
  }
}

/// Why a named table is none, and what to say instead.
package struct NamedTableError: Error, CustomStringConvertible {
  package let description: String
  init(_ description: String) { self.description = description }
}

extension NamedTable {
  /// The unit whose registers would lead to the table.
  ///
  /// - Parameters:
  ///   - hints: What else is known; the place of the unit's registers is the named one.
  /// - Throws: ``NamedTableError`` when no page begins there, or too little is said.
  package func unit(
    in memory: some PhysicalMemory, _ hints: TableHints
  ) throws(NamedTableError) -> TranslationUnit {
    guard address.isAligned(to: PageCount.pageByteCount),
      address.rawValue < KeptPages.addressLimit, memory.quadword(at: address) != nil
    else {
      throw NamedTableError("no page of the dump begins there; 'iommu find' lists root tables")
    }
    guard
      let candidate = name.finder.candidate(
        named: name, at: address, byteCount: byteCount, in: memory)
    else {
      let given = byteCount.map { "\(byteCountText($0)) is no length of such a table there" }
      throw NamedTableError(
        (given ?? "its entries do not tell how long the table is")
          + "; write \(name.text):\(address)+SIZE")
    }
    if let objection = name.finder.objection(to: name, at: address, in: memory) {
      throw NamedTableError(objection)
    }
    var hints = hints
    hints.unitBase = unitBase
    switch name.finder.unit(of: candidate, hints) {
    case .unit(let unit): return unit
    case .unknown(let reason): throw NamedTableError(reason)
    }
  }
}

extension Machine {
  /// The machine with these units in place of its own, and what its firmware says of them.
  package func with(_ units: [TranslationUnit]) -> Machine {
    var machine = self
    machine.units = TableFinders.all.reduce(units) { $1.complete($0, knowing: self.units) }
    return machine
  }
}
