extension VTd {
  /// Why a unit blocked a request: the number in the fault record.
  ///
  /// Open: a number that has no name here keeps its value. Specification: Intel VT-d 7.1.3.
  @frozen
  public struct FaultReason: RawRepresentable, Hashable, Sendable {
    public var rawValue: UInt8
    @inlinable public init(rawValue: UInt8) { self.rawValue = rawValue }

    public static let rootEntryNotPresent = Self(rawValue: 0x01)
    public static let contextEntryNotPresent = Self(rawValue: 0x02)
    public static let contextEntryInvalid = Self(rawValue: 0x03)
    public static let addressBeyondWidth = Self(rawValue: 0x04)
    public static let writeNotPermitted = Self(rawValue: 0x05)
    public static let readNotPermitted = Self(rawValue: 0x06)
    public static let tableUnreadable = Self(rawValue: 0x07)
    public static let rootTableUnreadable = Self(rawValue: 0x08)
    public static let contextTableUnreadable = Self(rawValue: 0x09)
    public static let rootEntryReserved = Self(rawValue: 0x0a)
    public static let contextEntryReserved = Self(rawValue: 0x0b)
    public static let secondStageEntryReserved = Self(rawValue: 0x0c)
    public static let interruptAddressReached = Self(rawValue: 0x0e)
    public static let malformedInterruptRequest = Self(rawValue: 0x29)
    public static let invalidTableMode = Self(rawValue: 0x30)
    public static let abortDMAMode = Self(rawValue: 0x33)

    /// Whether FPD in the context entry suppresses the record (never the blocking).
    public var isQualified: Bool {
      switch rawValue {
      case 0x02...0x07, 0x0b...0x0e: true
      default: false
      }
    }

    /// What the number means, in a few words of our own.
    public var meaning: String {
      switch self {
      case .rootEntryNotPresent: "the bus has no context table: root entry not present"
      case .contextEntryNotPresent: "the device has no domain: context entry not present"
      case .contextEntryInvalid: "context entry with a width or type that the unit does not support"
      case .addressBeyondWidth: "IOVA beyond the width of the table"
      case .writeNotPermitted: "write without write permission, or no mapping"
      case .readNotPermitted: "read without read permission, or no mapping"
      case .tableUnreadable: "pointer to a second-stage table where no memory answers"
      case .rootTableUnreadable: "root table where no memory answers"
      case .contextTableUnreadable: "context table where no memory answers"
      case .rootEntryReserved: "reserved bit set in the root entry"
      case .contextEntryReserved: "reserved bit set in the context entry"
      case .secondStageEntryReserved: "reserved bit set in a second-stage entry"
      case .interruptAddressReached: "page that lies in the interrupt address range"
      case .malformedInterruptRequest: "request to the interrupt address range that is no interrupt"
      case .invalidTableMode: "translation table mode that the unit does not support"
      case .abortDMAMode: "all DMA is aborted: abort-DMA mode"
      default: "fault reason \(hexadecimal(rawValue))"
      }
    }
  }
}
