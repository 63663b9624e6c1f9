import IOMMUFormats

/// What one entry says to the walker. Nothing else about an entry steers a walk.
@frozen
public enum EntryKind: Equatable, Sendable {
  /// Nothing is mapped here.
  case empty
  /// A bit that must be zero is set.
  case malformed
  /// The next table, one level down.
  case table(PhysicalAddress)
  /// A page of 2^`sizeLog2` bytes.
  case page(PhysicalAddress, sizeLog2: Int)
}

/// How tables of one kind are laid out: the walker's only knowledge of a format.
///
/// Levels are numbered from the bottom: entries of level 1 always map pages, and the root is at
/// level `levels`. A flat table (TCE, GATT) is a radix table one level deep.
public protocol TableFormat: Sendable {
  associatedtype Entry: TableEntry

  /// Levels from the root down, at least 1.
  var levels: Int { get }

  /// Entries in one table of `level`.
  func entryCount(level: Int) -> UInt64

  /// Bits of address that one entry of `level` covers; 12 at level 1.
  func sizeLog2(level: Int) -> Int

  /// The number of the entry for `address` in its table of `level`.
  ///
  /// In a flat table this may be past the table's end; the unit has to look before it walks.
  func index(of address: UInt64, level: Int) -> UInt64

  /// What the entry says.
  func kind(of entry: Entry, level: Int) -> EntryKind

  /// What the entry allows; combined with AND over all levels.
  func permissions(of entry: Entry, level: Int) -> Permissions

  /// What the entry at the start of `bytes` and those after it say, up to the first that says
  /// something else.
  ///
  /// - Parameter bytes: Whole entries of one table of `level`, at least one, at a multiple of their
  ///   size in this process; entries are words of 32 or 64 bits.
  /// - Complexity: O(entries of the row).
  func row(in bytes: UnsafeRawBufferPointer, level: Int) -> EntryRow

  /// What a table without entries would allow: every permission that the format knows.
  var unrestricted: Permissions { get }
}

extension TableFormat {
  @inlinable public var unrestricted: Permissions { .readWrite }
}
