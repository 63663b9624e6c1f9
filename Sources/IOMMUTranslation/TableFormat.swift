import IOMMUFormats

/// What one entry says to the walker. Nothing else about an entry steers a walk.
@frozen
public enum EntryKind: Equatable, Sendable {
  /// Nothing is mapped here.
  case empty
  /// A bit that must be zero is set.
  case malformed
  /// The next table, whose entries are of `level`: one level down, or further where the format lets
  /// tables skip levels. A walk takes no other.
  case table(PhysicalAddress, level: Int)
  /// A page of 2^`sizeLog2` bytes, of which this entry is for 2^`spanLog2`: less than all of it where
  /// several entries in a row name one page.
  case page(PhysicalAddress, sizeLog2: Int, spanLog2: Int)

  /// A page with an entry of its own.
  @inlinable @inline(__always)
  public static func page(_ page: PhysicalAddress, sizeLog2: Int) -> EntryKind {
    .page(page, sizeLog2: sizeLog2, spanLog2: sizeLog2)
  }
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

  /// What the bits of an entry mean in a table of `level`: which of them are reserved, whether it is
  /// a leaf, whose addresses it names. Observers hand it on to whoever puts the entry into words.
  func variant(of entry: Entry, level: Int) -> Entry.Variant

  /// What the entry allows; combined with AND over all levels.
  func permissions(of entry: Entry, level: Int) -> Permissions

  /// What the entry at the start of `bytes` and those after it say, up to the first that says
  /// something else.
  ///
  /// - Parameters:
  ///   - bytes: Whole entries of one table of `level`, at least one, at a multiple of their size in
  ///     this process; entries are words of 32 or 64 bits.
  ///   - level: The level of the table, 1 to ``levels``.
  /// - Complexity: O(entries of the row).
  func row(in bytes: UnsafeRawBufferPointer, level: Int) -> EntryRow

  /// What a table without entries would allow: every permission that the format knows.
  var unrestricted: Permissions { get }
}

extension TableFormat {
  @inlinable public var unrestricted: Permissions { .readWrite }

  /// Whether a table that an entry of `level` names may have entries of `lower`.
  @inlinable @inline(__always)
  func leads(from level: Int, to lower: Int) -> Bool { lower >= 1 && lower < level }

  /// The bits of address that a pointer from `level` to a table of `lower` leaves out: none when the
  /// table is one level down.
  @inlinable @inline(__always)
  func skippedBits(from level: Int, to lower: Int) -> UInt64 {
    guard lower &+ 1 < level else { return 0 }
    return 1 &<< UInt64(truncatingIfNeeded: sizeLog2(level: level))
      &- 1 &<< UInt64(truncatingIfNeeded: sizeLog2(level: lower &+ 1))
  }
}

extension TableFormat where Entry.Variant == OnlyVariant {
  @inlinable public func variant(of _: Entry, level _: Int) -> OnlyVariant { OnlyVariant() }
}
