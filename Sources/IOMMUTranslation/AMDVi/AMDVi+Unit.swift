import IOMMUFormats

extension AMDVi {
  /// A unit, as its registers stand.
  public struct Unit: Sendable, Hashable {
    /// Physical base of the registers.
    public var base: PhysicalAddress
    /// Control; `nil` where nobody knows it.
    public var control: AMDVi.Control?
    /// The device table, or its first segment.
    public var deviceTable: AMDVi.DeviceTableBase
    /// The segments after the first, as far as they are known.
    public var furtherSegments: [AMDVi.DeviceTableSegmentBase?]
    public var exclusionBase: AMDVi.ExclusionBase
    public var exclusionLimit: AMDVi.ExclusionLimit
    /// EFR; `nil` where nobody knows it.
    public var features: AMDVi.ExtendedFeatures?
    /// EFR2; `nil` where nobody knows it.
    public var features2: AMDVi.ExtendedFeatures2?
    /// The PCI segment of the devices behind it; `nil` when not known.
    public var segment: UInt16?
    /// Which devices are behind it, from the IVRS table; `nil` when not known.
    public var scope: AMDVi.UnitScope?

    /// A unit without an exclusion range and with one segment.
    public init(
      base: PhysicalAddress, deviceTable: AMDVi.DeviceTableBase, control: AMDVi.Control?,
      features: AMDVi.ExtendedFeatures? = nil, features2: AMDVi.ExtendedFeatures2? = nil,
      segment: UInt16? = nil
    ) {
      self.base = base
      self.deviceTable = deviceTable
      self.control = control
      furtherSegments = []
      exclusionBase = AMDVi.ExclusionBase(rawValue: 0)
      exclusionLimit = AMDVi.ExclusionLimit(rawValue: 0)
      self.features = features
      self.features2 = features2
      self.segment = segment
    }

    /// Whether requests are translated. *Assumed* where the register is not known: whoever has tables
    /// and no registers looks at them because they were in use.
    public var translates: Bool { control?.isEnabled ?? true }

    /// Whether guest tables are read; *assumed* where the register is not known.
    public var translatesGuests: Bool { control?.translatesGuests ?? true }

    /// Control asks for more segments of the device table than the unit has, or than there can be. No unit
    /// takes such a value, so that the register held another. Specification: AMD IOMMU 3.4.
    package var hasImpossibleSegments: Bool {
      (control?.segmentCode ?? 0) > (features?.maximumSegmentCode ?? 3)
    }

    /// Bits of a device's number that choose a segment of the device table. *Assumed* for what no unit
    /// takes: there is one table.
    var segmentBits: Int { hasImpossibleSegments ? 0 : control?.segmentCode ?? 0 }

    /// A segment of the device table.
    package struct TableSegment: Hashable, Sendable {
      package var start: PhysicalAddress
      package var byteCount: UInt64
      /// The device of the first entry.
      package var first: UInt16
      /// Devices that have an entry in it.
      package var devices: ClosedRange<UInt16> {
        let last = UInt32(first) + UInt32(byteCount / AMDVi.deviceTableEntryByteCount) - 1
        return first...UInt16(min(last, UInt32(first) | span))
      }
      /// Devices that it is for, less one.
      package var span: UInt32
    }

    /// Segment `index`; `nil` for one of which nobody knows where it is.
    package func tableSegment(_ index: Int) -> TableSegment? {
      let span = UInt32(0xffff) >> UInt32(segmentBits)
      let first = UInt16(UInt32(index) * (span + 1))
      if index == 0 {
        return TableSegment(
          start: deviceTable.address, byteCount: deviceTable.byteCount, first: first, span: span)
      }
      guard index <= furtherSegments.count, let base = furtherSegments[index - 1] else {
        return nil
      }
      return TableSegment(
        start: base.address, byteCount: base.byteCount, first: first, span: span)
    }

    /// All segments.
    package var tableSegments: [TableSegment?] { (0..<1 << segmentBits).map(tableSegment) }

    /// Where a device's entry lies.
    package enum EntryPlace: Hashable, Sendable {
      case at(PhysicalAddress)
      /// Behind the end of the table.
      case beyond
      /// In a segment of which nobody knows where it is.
      case unknown
    }

    package func entryPlace(of device: Requester) -> EntryPlace {
      let index = Int(device.rawValue) >> (16 - segmentBits)
      guard let segment = tableSegment(index) else { return .unknown }
      guard segment.devices.contains(device.rawValue) else { return .beyond }
      return .at(
        PhysicalAddress(
          segment.start.rawValue
            &+ UInt64(device.rawValue - segment.first) &* AMDVi.deviceTableEntryByteCount))
    }

    /// Addresses that devices reach untranslated when they may, half-open; empty for none.
    var exclusion: Range<UInt64> {
      guard exclusionBase.isEnabled else { return 0..<0 }
      let start = exclusionBase.address.rawValue
      let last = exclusionLimit.lastAddress.rawValue
      return start <= last ? start..<(last + 1) : 0..<0
    }
  }

  // The tables above the page tables, as observers see them.
  @inlinable public static var deviceTableKind: UpperTableKind {
    UpperTableKind(height: 4, "device table")
  }
  /// By the level of its entries: the table of level 1 has the guest tables' addresses.
  @inlinable public static func guestRootTableKind(level: Int) -> UpperTableKind {
    UpperTableKind(height: level, "GCR3 table")
  }
  @inlinable public static var interruptTableKind: UpperTableKind {
    UpperTableKind(height: 0, "interrupt remapping table")
  }
}
