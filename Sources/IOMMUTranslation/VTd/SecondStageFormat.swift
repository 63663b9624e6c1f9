import IOMMUFormats
import Synchronization

extension VTd {
  /// The layout of VT-d second-stage tables. Specification: Intel VT-d 3.7, 9.8.
  @frozen
  public struct SecondStageFormat: TableFormat {
    public typealias Entry = VTd.SecondStageEntry

    public let levels: Int
    /// RTADDR_REG.SSIRWE: IR and IW say what devices may do.
    public let usesIOPermissions: Bool
    /// What the unit allows in entries.
    public let limits: VTd.Limits

    // Bits that must be zero, from the entries' field tables: pages of level 1 to 3, and pointers to
    // tables from level 2 and 3 and from level 4 and 5.
    @usableFromInline let reservedInPages: (UInt64, UInt64, UInt64)
    @usableFromInline let reservedInLowPointers: UInt64
    @usableFromInline let reservedInHighPointers: UInt64

    /// - Parameters:
    ///   - levels: 3 to 5.
    ///   - limits: What the unit allows in entries.
    ///   - usesIOPermissions: RTADDR_REG.SSIRWE: IR and IW say what devices may do.
    public init(levels: Int, limits: VTd.Limits, usesIOPermissions: Bool = false) {
      precondition(3...5 ~= levels, "a second-stage table has three to five levels")
      self.usesIOPermissions = usesIOPermissions
      self.limits = limits
      self.levels = levels
      let masks = Masks.made(for: limits, usesIOPermissions: usesIOPermissions)
      reservedInPages = (masks.words[0], masks.words[1], masks.words[2])
      reservedInLowPointers = masks.words[3]
      reservedInHighPointers = masks.words[4]
    }

    /// What must be zero in entries, by what the unit allows.
    private struct Masks {
      var limits: VTd.Limits
      var usesIOPermissions: Bool
      /// Pages of level 1 to 3, pointers from level 2 and 3, pointers from level 4 and 5.
      var words: [UInt64]

      /// The last that were asked for: to make them, from the tables of all fields, takes longer than to
      /// play a whole crash through a unit.
      private static let made = Mutex<[Masks]>([])
      private static let madeLimit = 8

      static func made(for limits: VTd.Limits, usesIOPermissions: Bool) -> Masks {
        func isWanted(_ masks: Masks) -> Bool {
          masks.usesIOPermissions == usesIOPermissions && masks.limits == limits
        }
        if let known = made.withLock({ $0.first(where: isWanted) }) { return known }
        let kinds = [(1, true), (2, true), (3, true), (2, false), (4, false)]
        let new = Masks(
          limits: limits, usesIOPermissions: usesIOPermissions,
          words: kinds.map { level, isLeaf in
            Entry.reservedMasks(
              .init(
                level: level, isLeaf: isLeaf, usesIOPermissions: usesIOPermissions, limits: limits)
            ).rawValue
          })
        made.withLock { made in
          if made.count >= madeLimit { made.removeFirst() }
          made.append(new)
        }
        return new
      }
    }

    /// The leaf that PS picks at `level`, or a pointer.
    @inlinable
    public func variant(of entry: Entry, level: Int) -> Entry.Variant {
      Entry.Variant(
        level: level, isLeaf: entry.hasPageSizeBit, usesIOPermissions: usesIOPermissions,
        limits: limits)
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
      return .table(entry.address, level: level &- 1)
    }

    @inlinable @inline(__always)
    public func permissions(of entry: Entry, level _: Int) -> Permissions {
      usesIOPermissions ? entry.ioPermissions : entry.permissions
    }
  }
}

extension VTd.SecondStageFormat: Hashable {
  // The masks follow from the rest.
  public static func == (left: Self, right: Self) -> Bool {
    left.levels == right.levels && left.usesIOPermissions == right.usesIOPermissions
      && left.limits == right.limits
  }

  public func hash(into hasher: inout Hasher) {
    hasher.combine(levels)
    hasher.combine(usesIOPermissions)
    hasher.combine(limits)
  }
}
