extension AMDVi {
  /// COMPLETION_WAIT: tells software when all commands before it are done.
  ///
  /// Specification: AMD IOMMU 2.4.1.
  @frozen
  public struct CompletionWaitCommand: AMDViCommand {
    public var low: UInt64
    public var high: UInt64
    @inlinable
    public init(low: UInt64, high: UInt64) {
      self.low = low
      self.high = high
    }
  }
}

extension AMDVi.CompletionWaitCommand {
  public static var name: StaticString { "completion wait command" }
  public static var specification: StaticString { "AMD IOMMU 2.4.1" }
  public static var code: AMDVi.CommandCode { .completionWait }

  static var s: BitField { BitField(0...0, "s") }
  static var i: BitField { BitField(1...1, "i") }
  static var f: BitField { BitField(2...2, "f") }
  static var storeAddressField: BitField { BitField(3...51, "StoreAddress", .address) }
  static var data: BitField { BitField(64...127, "StoreData") }

  public static func fields(_: AMDVi.CommandRules) -> [BitField] {
    [s, i, f, storeAddressField, .reserved(52...59), opcode, data]
  }

  /// - Parameters:
  ///   - store: What to store where; `nil` for no store.
  ///   - interrupts: i: set the status bit, and interrupt where that is on.
  ///   - isFence: f: commands after this one start when it is done.
  /// - Precondition: the address is a multiple of eight below 2^52.
  public init(
    store: (address: PhysicalAddress, data: UInt64)? = nil, interrupts: Bool = false,
    isFence: Bool = false
  ) {
    self = .empty
    if let store {
      precondition(
        store.address.rawValue & ~Self.storeAddressField.mask == 0, "a stored quadword is aligned")
      self[Self.s] = 1
      self[Self.storeAddressField] = store.address.rawValue >> 3
      self[Self.data] = store.data
    }
    self[Self.i] = interrupts ? 1 : 0
    self[Self.f] = isFence ? 1 : 0
  }

  /// s: store the data.
  public var stores: Bool { self[Self.s] != 0 }
  /// i: set the status bit, and interrupt where that is on.
  public var interrupts: Bool { self[Self.i] != 0 }
  /// f: commands after this one start when it is done.
  public var isFence: Bool { self[Self.f] != 0 }
  /// Where the data is stored.
  public var storeAddress: PhysicalAddress { PhysicalAddress(addressBits(Self.storeAddressField)) }
  /// What is stored.
  public var storeData: UInt64 { self[Self.data] }
}
