extension VTd {
  /// Tells software when everything before it is done: by a store, an interrupt, or both.
  ///
  /// Specification: Intel VT-d 6.5.2.9.
  @frozen
  public struct WaitDescriptor: InvalidationDescriptor {
    public var low: UInt64
    public var high: UInt64
    @inlinable
    public init(low: UInt64, high: UInt64) {
      self.low = low
      self.high = high
    }
  }
}

extension VTd.WaitDescriptor {
  public static var name: StaticString { "invalidation wait descriptor" }
  public static var specification: StaticString { "Intel VT-d 6.5.2.9" }
  public static var type: VTd.DescriptorType { .wait }

  static var ifField: BitField { BitField(4...4, "IF") }
  static var sw: BitField { BitField(5...5, "SW") }
  static var fn: BitField { BitField(6...6, "FN") }
  static var data: BitField { BitField(32...63, "STATUS DATA") }
  static var addr: BitField { BitField(66...127, "STATUS ADDR") }

  public static func fields(_ rules: VTd.DescriptorRules) -> [BitField] {
    [
      typeLow, ifField, sw, fn, rules.hasPageRequestDrain ? pd : .reserved(7...7), .reserved(8...8),
      typeHigh, .reserved(12...31), data, .reserved(64...65), addr,
    ]
  }

  static var pd: BitField { BitField(7...7, "PD") }

  /// - Parameters:
  ///   - status: What to store where; `nil` for no store.
  ///   - interrupts: IF: raise the completion event.
  ///   - isFence: FN: descriptors after this one start when it is done.
  ///   - drainsPageRequests: PD: page requests that arrived before are in their queue.
  /// - Precondition: the address is a multiple of four.
  public init(
    status: (address: PhysicalAddress, data: UInt32)? = nil, interrupts: Bool = false,
    isFence: Bool = false, drainsPageRequests: Bool = false
  ) {
    self = .empty
    if let status {
      precondition(status.address.isAligned(to: 4), "a status doubleword is aligned")
      self[Self.sw] = 1
      self[Self.data] = UInt64(status.data)
      self[Self.addr] = status.address.rawValue >> 2
    }
    self[Self.ifField] = interrupts ? 1 : 0
    self[Self.fn] = isFence ? 1 : 0
    self[Self.pd] = drainsPageRequests ? 1 : 0
  }

  /// IF: raise the completion event.
  public var interrupts: Bool { self[Self.ifField] != 0 }
  /// SW: store the status data.
  public var storesStatus: Bool { self[Self.sw] != 0 }
  /// FN: descriptors after this one start when it is done.
  public var isFence: Bool { self[Self.fn] != 0 }
  /// PD: page requests that arrived before are in their queue.
  public var drainsPageRequests: Bool { self[Self.pd] != 0 }
  /// What is stored.
  public var statusData: UInt32 { UInt32(self[Self.data]) }
  /// Where the status data is stored.
  public var statusAddress: PhysicalAddress { PhysicalAddress(self[Self.addr] << 2) }
}
