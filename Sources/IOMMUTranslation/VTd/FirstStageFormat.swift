import IOMMUFormats

extension VTd {
  /// The layout of VT-d first-stage tables. Specification: Intel VT-d 3.6, 9.7.
  @frozen
  public struct FirstStageFormat: TableFormat {
    public typealias Entry = VTd.FirstStageEntry

    public let levels: Int
    /// Addresses in entries are guest addresses.
    public let isNested: Bool
    /// What the unit allows in entries.
    public let limits: VTd.Limits

    // Bits that must be zero, from the entries' field tables: pages of level 1 to 3, and pointers to
    // tables from level 2 and 3 and from level 4 and 5.
    @usableFromInline let reservedInPages: (UInt64, UInt64, UInt64)
    @usableFromInline let reservedInLowPointers: UInt64
    @usableFromInline let reservedInHighPointers: UInt64

    /// - Parameters:
    ///   - levels: 4 or 5.
    ///   - isNested: Addresses in entries are guest addresses.
    ///   - limits: What the unit allows in entries.
    public init(levels: Int, isNested: Bool = false, limits: VTd.Limits) {
      precondition(4...5 ~= levels, "a first-stage table has four or five levels")
      func mask(_ level: Int, leaf: Bool) -> UInt64 {
        Entry.reservedMasks(.init(level: level, isLeaf: leaf, isNested: isNested, limits: limits))
          .rawValue
      }
      self.levels = levels
      self.isNested = isNested
      self.limits = limits
      reservedInPages = (mask(1, leaf: true), mask(2, leaf: true), mask(3, leaf: true))
      reservedInLowPointers = mask(2, leaf: false)
      reservedInHighPointers = mask(4, leaf: false)
    }

    /// Bits of IOVA that count: 48 or 57; those above repeat the highest one.
    @inlinable public var addressWidth: Int { VTd.Paging.addressWidth(levels: levels) }

    /// The leaf that PS picks at `level`, or a pointer.
    @inlinable
    public func variant(of entry: Entry, level: Int) -> Entry.Variant {
      Entry.Variant(
        level: level, isLeaf: entry.hasPageSizeBit, isNested: isNested, limits: limits)
    }

    @inlinable public func entryCount(level _: Int) -> UInt64 { VTd.Paging.entryCount }
    @inlinable @inline(__always)
    public func sizeLog2(level: Int) -> Int { VTd.Paging.sizeLog2(level: level) }
    @inlinable @inline(__always)
    public func index(of address: UInt64, level: Int) -> UInt64 {
      VTd.Paging.index(of: address, level: level)
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
      return .table(entry.address, level: level &- 1)
    }

    @inlinable @inline(__always)
    public func permissions(of entry: Entry, level _: Int) -> Permissions { entry.permissions }

    @inlinable public var unrestricted: Permissions { [.read, .write, .user] }
  }
}

extension VTd.FirstStageFormat: Hashable {
  // The masks follow from the rest.
  public static func == (left: Self, right: Self) -> Bool {
    left.levels == right.levels && left.isNested == right.isNested && left.limits == right.limits
  }

  public func hash(into hasher: inout Hasher) {
    hasher.combine(levels)
    hasher.combine(isNested)
    hasher.combine(limits)
  }
}
