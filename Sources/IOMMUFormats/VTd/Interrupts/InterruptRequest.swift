extension VTd {
  /// The address half of an interrupt request: a store to 0xFEEx_xxxx.
  ///
  /// 32 bits. Two formats, told apart by bit 4. Specification: Intel VT-d 5.1.2.
  @frozen
  public struct InterruptAddress: WordEntry {
    public var rawValue: UInt32
    @inlinable public init(rawValue: UInt32) { self.rawValue = rawValue }
  }

  /// The data half of an interrupt request. 32 bits. Specification: Intel VT-d 5.1.2.
  @frozen
  public struct InterruptData: WordEntry {
    public var rawValue: UInt32
    @inlinable public init(rawValue: UInt32) { self.rawValue = rawValue }
  }

  /// The two formats of interrupt requests.
  public enum InterruptFormat: Sendable, CaseIterable {
    /// Vector and destination stand in the request, as without a remapping unit.
    case compatibility
    /// The request names an entry of the remapping table.
    case remappable
  }

  /// An interrupt as a device sends it: a store of four bytes.
  public struct InterruptRequest: Hashable, Sendable {
    /// Where the store goes.
    public var address: InterruptAddress
    /// What is stored.
    public var data: InterruptData

    /// The store of `data` to `address`.
    public init(address: InterruptAddress, data: InterruptData) {
      self.address = address
      self.data = data
    }

    /// A request for entry `index`, as MSI messages have it: the handle in the address, and what
    /// is to be added to it in the data.
    public init(index: UInt16, subhandle: UInt16? = nil) {
      address = InterruptAddress(handle: index, addsSubhandle: subhandle != nil)
      data = InterruptData(rawValue: UInt32(subhandle ?? 0))
    }

    /// The entry that the request names, 0 to 131,070; `nil` in compatibility format.
    ///
    /// Specification: Intel VT-d 5.1.2.2.
    public var index: Int? {
      guard address.format == .remappable else { return nil }
      return Int(address.handle) + (address.addsSubhandle ? Int(data.subhandle) : 0)
    }

    /// A reserved bit is set that hardware looks at: data bits 31:16 with SHV.
    public var isReserved: Bool {
      address.format == .remappable && address.addsSubhandle
        && !data.reservedViolations(.remappable).isEmpty
    }
  }
}

extension VTd.InterruptAddress {
  public static var name: StaticString { "interrupt request address" }
  public static var specification: StaticString { "Intel VT-d 5.1.2" }
  public static var exampleVariants: [VTd.InterruptFormat] { VTd.InterruptFormat.allCases }

  static var formatField: BitField { BitField(4...4, "Interrupt Format") }
  static var handleHigh: BitField { BitField(2...2, "Handle[15]") }
  static var shv: BitField { BitField(3...3, "SHV") }
  static var handleLow: BitField { BitField(5...19, "Handle[14:0]") }
  static var dm: BitField { BitField(2...2, "Destination Mode") }
  static var rh: BitField { BitField(3...3, "Redirection Hint") }
  static var destinationField: BitField { BitField(12...19, "Destination ID") }
  static var window: BitField { BitField(20...31, "FEEh") }

  public static func fields(_ variant: VTd.InterruptFormat) -> [BitField] {
    switch variant {
    case .remappable: [.ignored(0...1), handleHigh, shv, formatField, handleLow, window]
    case .compatibility:
      [.ignored(0...1), dm, rh, formatField, .ignored(5...11), destinationField, window]
    }
  }

  /// The address of a remappable request.
  public init(handle: UInt16, addsSubhandle: Bool) {
    self.init(rawValue: 0)
    self[Self.window] = VTd.interruptAddresses.lowerBound >> Self.window.shift
    self[Self.formatField] = 1
    self[Self.handleHigh] = UInt64(handle >> 15)
    self[Self.handleLow] = UInt64(handle & 0x7fff)
    self[Self.shv] = addsSubhandle ? 1 : 0
  }

  /// The address of a request in compatibility format.
  public init(destination: UInt8, isLogical: Bool = false, hasRedirectionHint: Bool = false) {
    self.init(rawValue: 0)
    self[Self.window] = VTd.interruptAddresses.lowerBound >> Self.window.shift
    self[Self.destinationField] = UInt64(destination)
    self[Self.dm] = isLogical ? 1 : 0
    self[Self.rh] = hasRedirectionHint ? 1 : 0
  }

  /// Interrupt Format: which of the two layouts the address has.
  public var format: VTd.InterruptFormat {
    self[Self.formatField] == 0 ? .compatibility : .remappable
  }
  /// Of a remappable request.
  public var handle: UInt16 { UInt16(self[Self.handleHigh] << 15 | self[Self.handleLow]) }
  /// SHV: the data holds a number to add to the handle.
  public var addsSubhandle: Bool { self[Self.shv] != 0 }
  /// Of a request in compatibility format: the APIC id.
  public var destination: UInt8 { UInt8(self[Self.destinationField]) }
  /// DM: the destination is a set of processors.
  public var isLogical: Bool { self[Self.dm] != 0 }
  /// RH: of several destinations one is enough.
  public var hasRedirectionHint: Bool { self[Self.rh] != 0 }
}

extension VTd.InterruptData {
  public static var name: StaticString { "interrupt request data" }
  public static var specification: StaticString { "Intel VT-d 5.1.2" }
  public static var exampleVariants: [VTd.InterruptFormat] { VTd.InterruptFormat.allCases }

  static var subhandleField: BitField { BitField(0...15, "Subhandle") }
  static var vectorField: BitField { BitField(0...7, "Vector") }
  static var deliveryField: BitField { BitField(8...10, "Delivery Mode") }
  static var level: BitField { BitField(14...14, "Level") }
  static var trigger: BitField { BitField(15...15, "Trigger Mode") }

  public static func fields(_ variant: VTd.InterruptFormat) -> [BitField] {
    switch variant {
    case .remappable: [subhandleField, .reserved(16...31)]
    case .compatibility:
      [vectorField, deliveryField, .ignored(11...13), level, trigger, .ignored(16...31)]
    }
  }

  /// The data of a request in compatibility format.
  public init(
    vector: UInt8, deliveryMode: VTd.DeliveryMode = .fixed, isLevelTriggered: Bool = false
  ) {
    self.init(rawValue: 0)
    self[Self.vectorField] = UInt64(vector)
    self[Self.deliveryField] = UInt64(deliveryMode.rawValue)
    // A level-triggered message asserts; there is no message for the end of the level.
    self[Self.level] = isLevelTriggered ? 1 : 0
    self[Self.trigger] = isLevelTriggered ? 1 : 0
  }

  /// Of a remappable request with SHV.
  public var subhandle: UInt16 { UInt16(self[Self.subhandleField]) }
  /// Of a request in compatibility format.
  public var vector: UInt8 { UInt8(self[Self.vectorField]) }
  /// Of a request in compatibility format; `nil` for the two codes that are not defined.
  public var deliveryMode: VTd.DeliveryMode? {
    VTd.DeliveryMode(rawValue: UInt8(self[Self.deliveryField]))
  }
  /// TM: the interrupt stands until it is acknowledged.
  public var isLevelTriggered: Bool { self[Self.trigger] != 0 }
}
