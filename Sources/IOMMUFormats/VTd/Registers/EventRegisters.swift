extension VTd {
  /// FECTL_REG, IECTL_REG and PECTL_REG: whether an event's interrupt is masked. 32 bits.
  ///
  /// Specification: Intel VT-d 11.4.7.2, 11.4.9.6, 11.4.11.5.
  @frozen
  public struct EventControl: WordEntry, VTdRegister {
    public var rawValue: UInt32
    @inlinable public init(rawValue: UInt32) { self.rawValue = rawValue }
  }

  /// FEDATA_REG, IEDATA_REG and PEDATA_REG: an event's interrupt data. 32 bits. Specification:
  /// Intel VT-d 11.4.7.3.
  @frozen
  public struct EventData: WordEntry, VTdRegister {
    public var rawValue: UInt32
    @inlinable public init(rawValue: UInt32) { self.rawValue = rawValue }
  }

  /// FEADDR_REG, IEADDR_REG and PEADDR_REG: an event's interrupt address, low half. 32 bits.
  ///
  /// Specification: Intel VT-d 11.4.7.4.
  @frozen
  public struct EventAddress: WordEntry, VTdRegister {
    public var rawValue: UInt32
    @inlinable public init(rawValue: UInt32) { self.rawValue = rawValue }
  }

  /// FEUADDR_REG, IEUADDR_REG and PEUADDR_REG: an event's interrupt address, high half. 32 bits.
  ///
  /// Specification: Intel VT-d 11.4.7.5.
  @frozen
  public struct EventUpperAddress: WordEntry, VTdRegister {
    public var rawValue: UInt32
    @inlinable public init(rawValue: UInt32) { self.rawValue = rawValue }
  }
}

extension VTd.EventControl {
  public static var name: StaticString { "event control register" }
  public static var specification: StaticString { "Intel VT-d 11.4.7.2" }

  static var ip: BitField { BitField(30...30, "IP") }
  static var im: BitField { BitField(31...31, "IM") }

  public static var registerFields: [VTd.RegisterField] {
    [.reserved(0...29), .readOnly(ip), .readWrite(im)]
  }
  public static var resetValue: UInt64 { 0x8000_0000 }

  /// IM: messages are held back.
  public var isMasked: Bool {
    get { self[Self.im] != 0 }
    set { self[Self.im] = newValue ? 1 : 0 }
  }
  /// IP: a message waits.
  public var isPending: Bool {
    get { self[Self.ip] != 0 }
    set { self[Self.ip] = newValue ? 1 : 0 }
  }
}

extension VTd.EventData {
  public static var name: StaticString { "event data register" }
  public static var specification: StaticString { "Intel VT-d 11.4.7.3" }
  static var data: BitField { BitField(0...15, "IMD") }
  public static var registerFields: [VTd.RegisterField] { [.readWrite(data), .reserved(16...31)] }
}

extension VTd.EventAddress {
  public static var name: StaticString { "event address register" }
  public static var specification: StaticString { "Intel VT-d 11.4.7.4" }
  static var address: BitField { BitField(2...31, "MA", .address) }
  public static var registerFields: [VTd.RegisterField] { [.reserved(0...1), .readWrite(address)] }
}

extension VTd.EventUpperAddress {
  public static var name: StaticString { "event upper address register" }
  public static var specification: StaticString { "Intel VT-d 11.4.7.5" }
  static var address: BitField { BitField(0...31, "MUA") }
  public static var registerFields: [VTd.RegisterField] { [.readWrite(address)] }
}
