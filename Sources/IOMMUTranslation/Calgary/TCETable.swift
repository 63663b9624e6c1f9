import IOMMUFormats

extension Calgary {
  /// A TCE table in force.
  @frozen
  public struct TCETable: Sendable, Hashable {
    /// I/O addresses that the chip does not translate.
    @frozen
    public struct Holes: Sendable, Hashable {
      public var legacy: Range<UInt64>
      public var memory1: Range<UInt64>
      public var memory2: Range<UInt64>

      @inlinable
      public init(legacy: Range<UInt64>, memory1: Range<UInt64>, memory2: Range<UInt64>) {
        self.legacy = legacy
        self.memory1 = memory1
        self.memory2 = memory2
      }

      @inlinable @inline(__always)
      public func contains(_ address: UInt64) -> Bool {
        legacy.contains(address) || memory1.contains(address) || memory2.contains(address)
      }

      /// The first hole that overlaps `range`.
      public func overlapping(_ range: Range<UInt64>) -> Range<UInt64>? {
        [legacy, memory1, memory2].first { $0.overlaps(range) }
      }
    }

    public let table: PhysicalAddress
    public let size: Calgary.TableSize
    public let refusesDualAddressCycles: Bool
    public let holes: Holes

    @inlinable
    public init(
      table: PhysicalAddress, size: Calgary.TableSize, refusesDualAddressCycles: Bool, holes: Holes
    ) {
      self.table = table
      self.size = size
      self.refusesDualAddressCycles = refusesDualAddressCycles
      self.holes = holes
    }

    @inlinable public var root: PhysicalAddress { table }
    @inlinable public var format: Calgary.TCEFormat { Calgary.TCEFormat(size: size) }

    /// Translates the first page's worth of a request.
    @inlinable
    public func translate(
      _ address: UInt64, byteCount: UInt64, access: Access, in memory: some PhysicalMemory,
      observer: inout some WalkObserver
    ) -> Translation {
      guard address &>> 32 == 0 else {
        // Assumed: without DAC_DISABLE, addresses of 4 GiB and more pass untranslated.
        return refusesDualAddressCycles
          ? .fault(.calgary(.dualAddressCycle))
          : .mapped(PhysicalAddress(address), byteCount: byteCount)
      }
      // Assumed: what lies in the range of interrupt messages never goes through a table.
      guard !VTd.isInterruptAddress(address) else {
        return access == .write ? .interruptMessage : .fault(.calgary(.untranslatedHole))
      }
      guard !holes.contains(address) else { return .fault(.calgary(.untranslatedHole)) }
      guard address &>> 12 < size.entryCount else { return .fault(.calgary(.beyondTable)) }
      let walk = format.walk(address, from: table, in: memory, observer: &observer)
      switch walk.end {
      case .page:
        guard walk.permissions.contains(access.permission) else {
          return .fault(.calgary(access == .read ? .readNotPermitted : .writeNotPermitted))
        }
        return .mapped(
          place(address, in: walk.page, sizeLog2: 12),
          byteCount: bytesInPage(address, sizeLog2: 12, atMost: byteCount))
      case .unreadable:
        return .fault(.calgary(.tableUnreadable))
      case .empty, .malformed, .skippedBits, .refused:
        return .fault(.calgary(.emptyEntry))
      }
    }
  }
}

extension Calgary.TCETable: IOTable {
  public var space: IOVASpace {
    IOVASpace(
      byteCount: size.coverage,
      holes: ([holes.legacy, holes.memory1, holes.memory2].filter { !$0.isEmpty }
        + [VTd.interruptAddresses]).filter { $0.lowerBound < size.coverage },
      // Assumed, as in a translation.
      passing: refusesDualAddressCycles ? [] : [1 << 32 ..< .max])
  }
  public var identity: Self { self }
}
