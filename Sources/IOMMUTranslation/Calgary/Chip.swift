import IOMMUFormats

extension Calgary {
  /// One Calgary or CalIOC2 chip, as its registers stand.
  public struct Chip: Sendable, Hashable {
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
      public var table: Calgary.TCETable? {
        guard configuration.translates else { return nil }
        return Calgary.TCETable(
          table: tableAddress.table, size: tableAddress.tableSize,
          refusesDualAddressCycles: configuration.refusesDualAddressCycles, holes: holes)
      }

      /// Where the chip does not translate: 640 KiB to 1 MiB, MEM_1, and MEM_2 when it is enabled.
      ///
      /// The authors of the driver found that translation fails there; what happens instead is
      /// *assumed*.
      public var holes: Calgary.TCETable.Holes {
        Calgary.TCETable.Holes(
          legacy: 0xa0000..<0x100000,
          memory1: memory1.lowerBound.rawValue..<memory1.upperBound.rawValue,
          memory2: configuration.hasSecondWindow
            ? memory2.lowerBound.rawValue..<memory2.upperBound.rawValue : 0..<0)
      }

      /// What the bridge does with requests from its buses.
      public var route: DeviceHandle.Route {
        if configuration.areSlotsDisabled { return .blocked(.calgary(.slotsDisabled)) }
        return table.map { .table(.tce($0)) } ?? .untranslated
      }
    }

    /// The bridge above `bus`. When several claim it the last one counts, as in the Linux driver.
    public func hostBridge(above bus: UInt8) -> HostBridge? {
      hostBridges.last { $0?.buses.contains(bus) == true } ?? nil
    }
  }
}
