import IOMMUFormats

extension VTd {
  /// The layout of VT-d first-stage tables. Specification: Intel VT-d 3.6, 9.7.
  @frozen
  public struct FirstStageFormat: TableFormat {
    public typealias Entry = VTd.FirstStageEntry

    public let levels: Int

    // Bits that must be zero, from the entries' field tables: pages of level 1 to 3, and pointers to
    // tables from level 2 and 3 and from level 4 and 5.
    @usableFromInline let reservedInPages: (UInt64, UInt64, UInt64)
    @usableFromInline let reservedInLowPointers: UInt64
    @usableFromInline let reservedInHighPointers: UInt64

    /// - Parameters:
    ///   - levels: 4 or 5.
    ///   - isNested: Addresses in entries are guest addresses.
    public init(levels: Int, isNested: Bool = false, limits: VTd.Limits) {
      precondition(4...5 ~= levels, "a first-stage table has four or five levels")
      func mask(_ level: Int, leaf: Bool) -> UInt64 {
        Entry.reservedMasks(.init(level: level, isLeaf: leaf, isNested: isNested, limits: limits))
          .rawValue
      }
      self.levels = levels
      reservedInPages = (mask(1, leaf: true), mask(2, leaf: true), mask(3, leaf: true))
      reservedInLowPointers = mask(2, leaf: false)
      reservedInHighPointers = mask(4, leaf: false)
    }

    /// Bits of IOVA that count: 48 or 57; those above repeat the highest one.
    @inlinable public var addressWidth: Int { 12 + 9 * levels }

    @inlinable public func entryCount(level _: Int) -> UInt64 { 512 }
    @inlinable @inline(__always)
    public func sizeLog2(level: Int) -> Int { Entry.sizeLog2(level: level) }
    @inlinable @inline(__always)
    public func index(of address: UInt64, level: Int) -> UInt64 {
      address &>> UInt64(truncatingIfNeeded: sizeLog2(level: level)) & 511
    }

    @inlinable @inline(__always)
    public func kind(of entry: Entry, level: Int) -> EntryKind {
      guard entry.isPresent else { return .empty }
      if level == 1 {
        guard entry.rawValue & reservedInPages.0 == 0 else { return .malformed }
        return .page(entry.address, sizeLog2: 12)
      }
      if level <= 3, entry.hasPageSizeBit {
        let reserved = level == 2 ? reservedInPages.1 : reservedInPages.2
        guard entry.rawValue & reserved == 0 else { return .malformed }
        return .page(entry.page(level: level), sizeLog2: sizeLog2(level: level))
      }
      let reserved = level <= 3 ? reservedInLowPointers : reservedInHighPointers
      guard entry.rawValue & reserved == 0 else { return .malformed }
      return .table(entry.address)
    }

    @inlinable @inline(__always)
    public func permissions(of entry: Entry, level _: Int) -> Permissions { entry.permissions }

    @inlinable public var unrestricted: Permissions { [.read, .write, .user] }
  }
}
