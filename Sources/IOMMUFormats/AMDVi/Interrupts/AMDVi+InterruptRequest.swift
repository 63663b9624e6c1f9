extension AMDVi {
  /// An interrupt as a device sends it: a store of four bytes to 0xfeex_xxxx.
  ///
  /// Specification: AMD IOMMU 2.2.5.
  public struct InterruptRequest: Hashable, Sendable {
    /// Where the store goes.
    public var address: UInt64
    /// What is stored.
    public var data: UInt32

    /// The store of `data` to `address`.
    public init(address: UInt64, data: UInt32) {
      self.address = address
      self.data = data
    }

    /// As Linux has it: all of the entry's number in the data.
    public init(index: UInt16) { self.init(address: 0xfee0_0000, data: UInt32(index & 0x7ff)) }

    /// As an I/O APIC sends it for an entry of its redirection table: vector and delivery mode are the
    /// index.
    public init(redirectionEntry entry: UInt64) {
      self.init(
        address: 0xfee0_0000 | (entry >> 56) << 12 | (entry >> 11 & 1) << 2,
        data: UInt32(truncatingIfNeeded: entry & 0x87ff))
    }

    /// Data bits 10:0: the entry of the device's interrupt table, 0 to 2,047. The address carries
    /// nothing.
    public var index: Int { Int(data & 0x7ff) }
    /// Data bits 10:8.
    public var deliveryMode: InterruptDeliveryMode {
      InterruptDeliveryMode(rawValue: UInt8(data >> 8 & 7))!
    }
    /// Address bit 2: the destination names a set of processors.
    public var isLogical: Bool { address & 4 != 0 }
  }

  /// How an interrupt is delivered, as the data of a message has it.
  public enum InterruptDeliveryMode: UInt8, Sendable, CaseIterable {
    /// To the processors of the destination.
    case fixed
    /// To whichever of the destination has least to do.
    case arbitrated
    /// System management.
    case systemManagement
    /// No meaning.
    case reserved3
    /// Not maskable.
    case nonMaskable
    /// Processor start.
    case initialize
    /// No meaning.
    case reserved6
    /// From an 8259.
    case external
  }

  /// Addresses that are interrupt messages, not memory: bits 63:20 are 0xfee.
  @inlinable
  public static func isInterruptAddress(_ address: UInt64) -> Bool { address &>> 20 == 0xfee }
}
