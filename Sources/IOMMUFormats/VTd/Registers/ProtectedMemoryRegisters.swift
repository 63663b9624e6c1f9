extension VTd {
  /// PMEN_REG, 0x064: switches the protected memory regions on. 32 bits. Specification: Intel VT-d
  /// 11.4.8.1.
  @frozen
  public struct ProtectedMemoryEnable: WordEntry, VTdRegister {
    public var rawValue: UInt32
    @inlinable public init(rawValue: UInt32) { self.rawValue = rawValue }
  }

  /// PLMBASE_REG and PLMLIMIT_REG, 0x068 and 0x06c: the region below 4 GiB. 32 bits each.
  ///
  /// Low bits are not there in a unit: the base reads them as zero, the limit takes them as ones.
  /// Specification: Intel VT-d 11.4.8.2, 11.4.8.3.
  @frozen
  public struct ProtectedLowMemory: WordEntry, VTdRegister {
    public var rawValue: UInt32
    @inlinable public init(rawValue: UInt32) { self.rawValue = rawValue }
  }

  /// PHMBASE_REG and PHMLIMIT_REG, 0x070 and 0x078: the region anywhere. 64 bits each.
  ///
  /// Specification: Intel VT-d 11.4.8.4, 11.4.8.5.
  @frozen
  public struct ProtectedHighMemory: WordEntry, VTdRegister {
    public var rawValue: UInt64
    @inlinable public init(rawValue: UInt64) { self.rawValue = rawValue }
  }
}

extension VTd.ProtectedMemoryEnable {
  public static var name: StaticString { "PMEN_REG" }
  public static var specification: StaticString { "Intel VT-d 11.4.8.1" }

  static var prs: BitField { BitField(0...0, "PRS") }
  static var epm: BitField { BitField(31...31, "EPM") }

  public static var registerFields: [VTd.RegisterField] {
    [.readOnly(prs), .reserved(1...30), .readWrite(epm)]
  }

  /// EPM: software wants the regions protected.
  public var isRequested: Bool { self[Self.epm] != 0 }
  /// PRS: they are.
  public var isOn: Bool {
    get { self[Self.prs] != 0 }
    set { self[Self.prs] = newValue ? 1 : 0 }
  }
}

extension VTd.ProtectedLowMemory {
  /// N of the manual, plus one: the region's granularity in a unit here is 2 MiB (*assumed*; real
  /// units differ, software finds out by writing ones).
  public static var alignmentLog2: Int { 21 }

  public static var name: StaticString { "protected low memory register" }
  public static var specification: StaticString { "Intel VT-d 11.4.8.2" }
  static var address: BitField { BitField(alignmentLog2...31, "PLM", .address) }
  public static var registerFields: [VTd.RegisterField] {
    [.reserved(0...(alignmentLog2 - 1)), .readWrite(address)]
  }
}

extension VTd.ProtectedHighMemory {
  /// As in the low region: 2 MiB (*assumed*).
  public static var alignmentLog2: Int { 21 }

  public static var name: StaticString { "protected high memory register" }
  public static var specification: StaticString { "Intel VT-d 11.4.8.4" }
  static var address: BitField { BitField(alignmentLog2...63, "PHM", .address) }
  public static var registerFields: [VTd.RegisterField] {
    [.reserved(0...(alignmentLog2 - 1)), .readWrite(address)]
  }
}
