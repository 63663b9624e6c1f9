extension VTd {
  /// An I/O APIC's redirection table entry (RTE): what one of its pins sends.
  ///
  /// 64 bits. Specification: Intel VT-d 5.1.5.1; Intel 82093AA 3.2.4 for the compatibility format.
  @frozen
  public struct RedirectionEntry: WordEntry {
    public var rawValue: UInt64
    @inlinable public init(rawValue: UInt64) { self.rawValue = rawValue }
  }
}

extension VTd.RedirectionEntry {
  public static var name: StaticString { "I/O APIC redirection entry" }
  public static var specification: StaticString { "Intel VT-d 5.1.5.1" }
  public static var exampleVariants: [VTd.InterruptFormat] { VTd.InterruptFormat.allCases }

  static var vectorField: BitField { BitField(0...7, "Vector") }
  static var delivery: BitField { BitField(8...10, "Delivery Mode") }
  static var indexHigh: BitField { BitField(11...11, "Index[15]") }
  static var dm: BitField { BitField(11...11, "Destination Mode") }
  static var trigger: BitField { BitField(15...15, "Trigger Mode") }
  static var mask: BitField { BitField(16...16, "Mask") }
  static var formatField: BitField { BitField(48...48, "Interrupt Format") }
  static var indexLow: BitField { BitField(49...63, "Index[14:0]") }
  static var destinationField: BitField { BitField(56...63, "Destination") }

  public static func fields(_ variant: VTd.InterruptFormat) -> [BitField] {
    let status: [BitField] = [
      BitField(12...12, "Delivery Status"), BitField(13...13, "Polarity"),
      BitField(14...14, "Remote IRR"), trigger, mask, .reserved(17...47), formatField,
    ]
    switch variant {
    case .remappable: return [vectorField, .reserved(8...10), indexHigh] + status + [indexLow]
    case .compatibility:
      return [vectorField, delivery, dm] + status + [.reserved(49...55), destinationField]
    }
  }

  /// A remappable entry that is not masked.
  ///
  /// - Parameters:
  ///   - index: The entry of the remapping table.
  ///   - vector: What the I/O APIC compares with the end-of-interrupt message; the processor gets
  ///     the remapping entry's vector.
  ///   - isLevelTriggered: TM: the interrupt stands until it is acknowledged.
  public init(index: UInt16, vector: UInt8, isLevelTriggered: Bool = false) {
    self.init(rawValue: 0)
    self[Self.vectorField] = UInt64(vector)
    self[Self.indexHigh] = UInt64(index >> 15)
    self[Self.trigger] = isLevelTriggered ? 1 : 0
    self[Self.formatField] = 1
    self[Self.indexLow] = UInt64(index & 0x7fff)
  }

  /// Interrupt Format: which of the two layouts the entry has.
  public var format: VTd.InterruptFormat {
    self[Self.formatField] == 0 ? .compatibility : .remappable
  }
  /// The entry of the remapping table, when the format is remappable.
  public var index: UInt16 { UInt16(self[Self.indexHigh] << 15 | self[Self.indexLow]) }
  /// What the end-of-interrupt message names.
  public var vector: UInt8 { UInt8(self[Self.vectorField]) }
  /// Mask: the pin sends nothing.
  public var isMasked: Bool { self[Self.mask] != 0 }
  /// TM: the interrupt stands until it is acknowledged.
  public var isLevelTriggered: Bool { self[Self.trigger] != 0 }

  /// What the I/O APIC sends for a pin that is raised; `nil` while the entry is masked.
  ///
  /// A remappable entry never adds a subhandle. Specification: Intel VT-d 5.1.5.1.
  public var request: VTd.InterruptRequest? {
    guard !isMasked else { return nil }
    switch format {
    case .remappable:
      return VTd.InterruptRequest(index: index)
    case .compatibility:
      return VTd.InterruptRequest(
        address: VTd.InterruptAddress(
          destination: UInt8(self[Self.destinationField]), isLogical: self[Self.dm] != 0),
        data: VTd.InterruptData(
          // The delivery mode goes through as it stands, defined or not.
          rawValue: UInt32(self[Self.vectorField] | self[Self.delivery] << 8)
            | (isLevelTriggered ? VTd.InterruptData.levelAsserted : 0)))
    }
  }
}

extension VTd.InterruptData {
  /// Level and Trigger Mode, as an asserted level has them.
  static var levelAsserted: UInt32 { UInt32(level.mask | trigger.mask) }
}
