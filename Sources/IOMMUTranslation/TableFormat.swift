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

/// The layout of a Calgary TCE table: flat, 4 KiB pages.
@frozen
public struct TCEFormat: TableFormat {
  public typealias Entry = Calgary.TranslationControlEntry
  public let size: Calgary.TableSize

  @inlinable public init(size: Calgary.TableSize) { self.size = size }

  @inlinable public var levels: Int { 1 }
  @inlinable public func entryCount(level _: Int) -> UInt64 { size.entryCount }
  @inlinable public func sizeLog2(level _: Int) -> Int { 12 }
  @inlinable @inline(__always)
  public func index(of address: UInt64, level _: Int) -> UInt64 { address &>> 12 }
  @inlinable @inline(__always)
  public func kind(of entry: Entry, level _: Int) -> EntryKind {
    entry.permissions.isEmpty ? .empty : .page(entry.page, sizeLog2: 12)
  }
  @inlinable @inline(__always)
  public func permissions(of entry: Entry, level _: Int) -> Permissions { entry.permissions }
}

/// The layout of a GATT: flat, 4 KiB pages, no permissions.
@frozen
public struct GATTFormat: TableFormat {
  public typealias Entry = GART.GATTEntry
  public let apertureByteCount: UInt64

  @inlinable public init(apertureByteCount: UInt64) { self.apertureByteCount = apertureByteCount }

  @inlinable public var levels: Int { 1 }
  @inlinable public func entryCount(level _: Int) -> UInt64 { apertureByteCount &>> 12 }
  @inlinable public func sizeLog2(level _: Int) -> Int { 12 }
  @inlinable @inline(__always)
  public func index(of address: UInt64, level _: Int) -> UInt64 { address &>> 12 }
  @inlinable @inline(__always)
  public func kind(of entry: Entry, level _: Int) -> EntryKind {
    entry.isValid ? .page(entry.page, sizeLog2: 12) : .empty
  }
  @inlinable @inline(__always)
  public func permissions(of entry: Entry, level _: Int) -> Permissions { .readWrite }
}

/// The layout of VT-d second-stage tables. Specification: Intel VT-d 3.7, 9.8.
@frozen
public struct SecondStageFormat: TableFormat {
  public typealias Entry = VTd.SecondStageEntry

  public let levels: Int
  /// RTADDR_REG.SSIRWE: IR and IW say what devices may do.
  public let usesIOPermissions: Bool

  // Bits that must be zero, from the entries' field tables: pages of level 1 to 3, and pointers to
  // tables from level 2 and 3 and from level 4 and 5.
  @usableFromInline let reservedInPages: (UInt64, UInt64, UInt64)
  @usableFromInline let reservedInLowPointers: UInt64
  @usableFromInline let reservedInHighPointers: UInt64

  /// - Parameter levels: 3 to 5.
  public init(levels: Int, limits: VTd.Limits, usesIOPermissions: Bool = false) {
    precondition(3...5 ~= levels, "a second-stage table has three to five levels")
    func mask(_ level: Int, leaf: Bool) -> UInt64 {
      Entry.reservedMasks(
        .init(level: level, isLeaf: leaf, usesIOPermissions: usesIOPermissions, limits: limits)
      ).rawValue
    }
    self.usesIOPermissions = usesIOPermissions
    self.levels = levels
    reservedInPages = (mask(1, leaf: true), mask(2, leaf: true), mask(3, leaf: true))
    reservedInLowPointers = mask(2, leaf: false)
    reservedInHighPointers = mask(4, leaf: false)
  }

  @inlinable public func entryCount(level _: Int) -> UInt64 { 512 }
  @inlinable @inline(__always)
  public func sizeLog2(level: Int) -> Int { Entry.sizeLog2(level: level) }
  @inlinable @inline(__always)
  public func index(of address: UInt64, level: Int) -> UInt64 {
    address &>> UInt64(truncatingIfNeeded: sizeLog2(level: level)) & 511
  }

  @inlinable @inline(__always)
  public func kind(of entry: Entry, level: Int) -> EntryKind {
    guard !permissions(of: entry, level: level).isEmpty else { return .empty }
    if level == 1 {
      guard entry.rawValue & reservedInPages.0 == 0 else { return .malformed }
      return .page(entry.address, sizeLog2: 12)
    }
    if level <= 3, entry.hasPageSizeBit {
      let reserved = level == 2 ? reservedInPages.1 : reservedInPages.2
      guard entry.rawValue & reserved == 0 else { return .malformed }
      return .page(entry.address, sizeLog2: sizeLog2(level: level))
    }
    let reserved = level <= 3 ? reservedInLowPointers : reservedInHighPointers
    guard entry.rawValue & reserved == 0 else { return .malformed }
    return .table(entry.address)
  }

  @inlinable @inline(__always)
  public func permissions(of entry: Entry, level _: Int) -> Permissions {
    usesIOPermissions ? entry.ioPermissions : entry.permissions
  }
}
