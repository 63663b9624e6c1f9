import IOMMUFormats

/// What only a format knows when tables are written: the one door to ``map(_:at:_:attributes:sizes:root:in:release:allocateTable:)``
/// and its like, which are the same for all.
///
/// A format says which entries there are; where they go, and which tables are made, split and given back, is
/// nobody's business but the writer's.
public protocol WritableTableFormat: TableFormat where Entry: WordEntry {
  /// What tables of this kind are called, as in `a second-stage table`.
  static var tableName: String { get }

  /// The addresses that entries are for: closed, ascending, at least one.
  var addresses: [ClosedRange<UInt64>] { get }

  /// Pages and tables lie below this address, as far as entries can name them.
  var physicalLimit: UInt64 { get }

  /// Whether the unit has pages of 2^`sizeLog2` bytes; 4 KiB always.
  func hasPages(ofSizeLog2 sizeLog2: Int) -> Bool

  /// The largest size of page in any unit, as a power of two.
  var largestPageSizeLog2: Int { get }

  /// The level in whose tables pages of 2^`sizeLog2` bytes are.
  func level(ofPageSizeLog2 sizeLog2: Int) -> Int

  /// Whether leaves can say it.
  func expresses(_ permissions: Permissions) -> Bool

  /// Attributes that leaves can say.
  var expressibleAttributes: PageAttributes { get }

  /// What drivers say of a page where nobody asks for anything.
  func usualAttributes(for permissions: Permissions) -> PageAttributes

  /// What leads to a table whose entries are of `level`, with all permissions.
  func entry(toTable table: PhysicalAddress, level: Int) -> Entry

  /// What maps a page, in each of the entries that it spans.
  ///
  /// - Precondition: The size is one of the unit's, the page aligned to it and below ``physicalLimit``; the
  ///   format expresses the rest.
  func entry(
    toPage page: PhysicalAddress, sizeLog2: Int, _ permissions: Permissions,
    _ attributes: PageAttributes
  ) -> Entry

  /// What a leaf says beside address and permissions, of what ``PageAttributes`` has.
  func attributes(of leaf: Entry, level: Int) -> PageAttributes

  /// What is stored where nothing is mapped any more.
  var clearedEntry: Entry { get }
}

extension WritableTableFormat {
  /// Bytes of address from 0 on that entries are for; 2^64 counts as one less.
  @inlinable public var reach: UInt64 {
    let last = addresses[0].upperBound
    return last == .max ? .max : last + 1
  }

  @inlinable public var clearedEntry: Entry { Entry(low: 0, high: 0) }
  @inlinable public func usualAttributes(for _: Permissions) -> PageAttributes { [] }
  @inlinable public func level(ofPageSizeLog2 _: Int) -> Int { 1 }
  @inlinable public func hasPages(ofSizeLog2 sizeLog2: Int) -> Bool { sizeLog2 == 12 }
  @inlinable public var largestPageSizeLog2: Int { 12 }
  @inlinable public func expresses(_ permissions: Permissions) -> Bool {
    permissions.isSubset(of: .readWrite)
  }
  @inlinable public var expressibleAttributes: PageAttributes { [] }
  @inlinable public func attributes(of _: Entry, level _: Int) -> PageAttributes { [] }
}

/// Why tables do not take a mapping, or do not give one up.
public enum TableMappingError: Error, Equatable, CustomStringConvertible {
  /// The range ends beyond the `reach` bytes of address that the table has entries for. Nothing was
  /// stored.
  case beyondTable(Range<IOVA>, reach: UInt64)
  /// No page is left for a table on the way to this address. What lies below it was changed, unless what
  /// was called says that it takes its changes back.
  case noPageForTable(IOVA)
  /// A number is no multiple of 4 KiB: of an argument of this name. Nothing was stored.
  case unaligned(argument: String, UInt64)
  /// Entries have no bits for addresses from `limit` on. Nothing was stored.
  case physicalBeyondEntries(Range<PhysicalAddress>, limit: UInt64)
  /// The unit has no pages of this size. Nothing was stored.
  case pageSizeMissing(sizeLog2: Int)
  /// No leaf of these tables says this. Nothing was stored.
  case permissionsNotExpressible(Permissions, tables: String)
  /// No leaf of these tables says this. Nothing was stored.
  case attributesNotExpressible(PageAttributes, tables: String)
  /// Something is mapped at this address, or a damaged entry is there. Nothing was stored.
  case alreadyMapped(IOVA)
  /// The address lies in a larger page of 2^`sizeLog2` bytes, of which a part would go. Nothing was stored.
  case partOfLargerPage(IOVA, sizeLog2: Int)
  /// An entry of a table lies where memory does not take stores. What lies below the address that it is
  /// for was changed.
  case tableNotWritable(PhysicalAddress, for: IOVA)

  public var description: String {
    switch self {
    case .beyondTable(let range, let reach):
      "\(range.text) ends beyond the \(hexadecimal(reach)) bytes that the table covers: "
        + "use a table with more levels"
    case .noPageForTable(let iova):
      "no page is left for a table on the way to \(iova): give more memory for tables"
    case .unaligned(let argument, let value):
      "\(argument) is \(hexadecimal(value)): pages are mapped whole, at multiples of 4 KiB"
    case .physicalBeyondEntries(let range, let limit):
      "\(range.text) ends beyond \(hexadecimal(limit)), and entries have no bits for that: "
        + "map memory below it"
    case .pageSizeMissing(let sizeLog2):
      "the unit has no pages of 2^\(sizeLog2) bytes: choose another size, or the largest possible"
    case .permissionsNotExpressible(let permissions, let tables):
      "no entry of \(tables) says \(permissions): read and write together is what all can say"
    case .attributesNotExpressible(let attributes, let tables):
      "no entry of \(tables) says this of a page: \(attributes)"
    case .alreadyMapped(let iova):
      "\(iova) is mapped already: unmap it first, or remap"
    case .partOfLargerPage(let iova, let sizeLog2):
      "\(iova) lies in a page of 2^\(sizeLog2) bytes that would change only in part: "
        + "change all of it, or let it be split"
    case .tableNotWritable(let place, let iova):
      "the entry at \(place), on the way to \(iova), is not in memory that takes stores: "
        + "a damaged table, or another root"
    }
  }
}
