import IOMMUFormats

/// One Calgary or CalIOC2 chip, as its registers stand.
public struct CalgaryChip: Sendable, Hashable {
  public enum Model: String, Sendable { case calgary = "ibm-calgary", calioc2 = "ibm-calioc2" }

  public var model: Model
  /// BBAR: physical base of the chip's 1 MiB of registers.
  public var base: PhysicalAddress
  /// At most four; a bridge whose registers are not known is `nil`.
  public var hostBridges: [HostBridge?]

  public init(model: Model, base: PhysicalAddress, hostBridges: [HostBridge?]) {
    precondition(hostBridges.count <= Calgary.hostBridgeCount, "a chip has four PHBs")
    self.model = model
    self.base = base
    self.hostBridges = hostBridges
  }

  /// A PCI host bridge (PHB): a range of buses with one TCE table.
  public struct HostBridge: Sendable, Hashable {
    public var buses: ClosedRange<UInt8>
    public var tableAddress: Calgary.TableAddressRegister
    public var configuration: Calgary.ConfigurationRegister
    /// The MEM_1 window, which the chip does not translate; half-open, may be empty.
    public var memory1: Range<IOVA>
    /// The MEM_2 window, in force when the configuration says so.
    public var memory2: Range<IOVA>

    public init(
      buses: ClosedRange<UInt8>, tableAddress: Calgary.TableAddressRegister,
      configuration: Calgary.ConfigurationRegister, memory1: Range<IOVA>? = nil,
      memory2: Range<IOVA>? = nil
    ) {
      self.buses = buses
      self.tableAddress = tableAddress
      self.configuration = configuration
      self.memory1 = memory1 ?? IOVA(0)..<IOVA(0)
      self.memory2 = memory2 ?? IOVA(0)..<IOVA(0)
    }

    /// The table that translates for this bridge's devices; `nil` while it translates nothing.
    public var table: TCETable? {
      guard configuration.translates else { return nil }
      return TCETable(
        table: tableAddress.table, size: tableAddress.tableSize,
        refusesDualAddressCycles: configuration.refusesDualAddressCycles, holes: holes)
    }

    /// Where the chip does not translate: 640 KiB to 1 MiB, MEM_1, and MEM_2 when it is enabled.
    ///
    /// The authors of the driver found that translation fails there; what happens instead is
    /// *assumed*.
    public var holes: TCETable.Holes {
      TCETable.Holes(
        legacy: 0xa0000..<0x100000,
        memory1: memory1.lowerBound.rawValue..<memory1.upperBound.rawValue,
        memory2: configuration.hasSecondWindow
          ? memory2.lowerBound.rawValue..<memory2.upperBound.rawValue : 0..<0)
    }

    /// What the bridge does with requests from its buses.
    public var route: DeviceHandle.Route {
      if configuration.areSlotsDisabled { return .blocked(.calgary(.slotsDisabled)) }
      return table.map { .calgary($0) } ?? .untranslated
    }
  }

  /// The bridge above `bus`. When several claim it the last one counts, as in the Linux driver.
  public func hostBridge(above bus: UInt8) -> HostBridge? {
    hostBridges.last { $0?.buses.contains(bus) == true } ?? nil
  }
}

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

  @inlinable public var format: TCEFormat { TCEFormat(size: size) }

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
    case .empty, .malformed, .refused:
      return .fault(.calgary(.emptyEntry))
    }
  }
}
