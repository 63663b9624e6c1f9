import IOMMUFormats

extension VTd {
  /// A VT-d remapping unit, as its registers stand.
  public struct Unit: Sendable, Hashable {
    /// Physical base of the unit's registers.
    public var base: PhysicalAddress
    public var rootTableAddress: VTd.RootTableAddress
    /// GSTS_REG; `nil` where nobody knows it.
    public var status: VTd.GlobalStatus?
    public var limits: VTd.Limits
    /// IRTA_REG; `nil` where nobody knows it.
    public var interruptTableAddress: VTd.InterruptTableAddress?
    /// The PCI segment of the devices behind it, from its DRHD structure; `nil` when not known.
    public var segment: UInt16?
    /// Which devices are behind it, from the DMAR table; `nil` when not known.
    public var scope: VTd.UnitScope?

    public init(
      base: PhysicalAddress, rootTableAddress: VTd.RootTableAddress, status: VTd.GlobalStatus?,
      limits: VTd.Limits, interruptTableAddress: VTd.InterruptTableAddress? = nil,
      segment: UInt16? = nil, scope: VTd.UnitScope? = nil
    ) {
      self.base = base
      self.rootTableAddress = rootTableAddress
      self.status = status
      self.limits = limits
      self.interruptTableAddress = interruptTableAddress
      self.segment = segment
      self.scope = scope
    }

    /// Whether requests are translated. *Assumed* where the status is not known: whoever has tables and
    /// no registers looks at them because they were in use.
    public var translates: Bool { status?.translates ?? true }

    /// Where the root entry of a bus lies, in either mode.
    @inlinable
    public func rootEntryAddress(bus: UInt8) -> PhysicalAddress {
      PhysicalAddress(rootTableAddress.rootTable.rawValue &+ UInt64(bus) &* 16)
    }

    /// Where the context entry of a requester lies in its bus's context table.
    @inlinable
    public static func contextEntryAddress(
      in contextTable: PhysicalAddress, deviceFunction: UInt8
    ) -> PhysicalAddress {
      PhysicalAddress(contextTable.rawValue &+ UInt64(deviceFunction) &* 16)
    }

    /// Where the scalable-mode context entry lies in the table that serves the device and function.
    @inlinable
    public static func scalableContextEntryAddress(
      in contextTable: PhysicalAddress, deviceFunction: UInt8
    ) -> PhysicalAddress {
      PhysicalAddress(contextTable.rawValue &+ UInt64(deviceFunction & 0x7f) &* 32)
    }

    /// Where a PASID's directory entry lies.
    @inlinable
    public static func directoryEntryAddress(
      in directory: PhysicalAddress, _ pasid: PASID
    ) -> PhysicalAddress {
      PhysicalAddress(directory.rawValue &+ pasid.directoryIndex &* 8)
    }

    /// Where a PASID's entry lies in its PASID table.
    @inlinable
    public static func pasidEntryAddress(
      in table: PhysicalAddress, _ pasid: PASID
    ) -> PhysicalAddress {
      PhysicalAddress(table.rawValue &+ pasid.tableIndex &* 64)
    }

    /// What the tables above the page tables say of a requester, and of one of its address spaces.
    ///
    /// Reads two entries in legacy mode, four in scalable mode.
    ///
    /// - Parameters:
    ///   - requester: The device.
    ///   - pasid: What the requests carry; `nil` for requests without PASID.
    ///   - memory: Memory that holds the tables.
    ///   - observer: Shown every entry read.
    public func resolve(
      _ requester: Requester, pasid: PASID? = nil, in memory: some PhysicalMemory,
      observer: inout some WalkObserver
    ) -> DeviceHandle.Route {
      VTd.Resolver.made(for: self).route(
        of: VTd.Request(requester, IOVA(0), pasid: pasid), in: memory, observer: &observer)
    }
  }

  // The tables above the page tables, as observers see them.
  @inlinable public static var rootTable: UpperTableKind {
    UpperTableKind(height: 4, "root table")
  }
  @inlinable public static var contextTable: UpperTableKind {
    UpperTableKind(height: 3, "context table")
  }
  @inlinable public static var pasidDirectory: UpperTableKind {
    UpperTableKind(height: 2, "PASID directory")
  }
  @inlinable public static var pasidTable: UpperTableKind {
    UpperTableKind(height: 1, "PASID table")
  }
  @inlinable public static var interruptTable: UpperTableKind {
    UpperTableKind(height: 0, "interrupt remapping table")
  }
}
