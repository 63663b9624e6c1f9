extension AMDVi {
  /// A device's page request as the unit logs it (PAGE_SERVICE_REQUEST).
  ///
  /// Sixteen bytes. Specification: AMD IOMMU 2.6.
  @frozen
  public struct PageRequestEntry: TableEntry {
    public var low: UInt64
    public var high: UInt64
    @inlinable
    public init(low: UInt64 = 0, high: UInt64 = 0) {
      self.low = low
      self.high = high
    }
  }
}

extension AMDVi.PageRequestEntry {
  public static var name: StaticString { "PPR log entry" }
  public static var specification: StaticString { "AMD IOMMU 2.6" }
  @inlinable public static var bitCount: Int { 128 }

  static var deviceID: BitField { BitField(0...15, "DeviceID") }
  static var pasidLow: BitField { BitField(16...31, "PASID15:0") }
  static var tagField: BitField { BitField(32...40, "Tag") }
  static var last: BitField { BitField(41...41, "Last") }
  static var pasidHigh: BitField { BitField(42...45, "PASID19:16") }
  static var execute: BitField { BitField(49...49, "Exec") }
  static var read: BitField { BitField(50...50, "Read") }
  static var write: BitField { BitField(53...53, "Write") }
  static var user: BitField { BitField(54...54, "US") }
  static var gn: BitField { BitField(56...56, "GN") }
  /// All flags as the kernel prints them.
  static var flagBits: BitField { BitField(48...59, "flags") }
  static var codeField: BitField { BitField(60...63, "PPRCode") }
  static var page: BitField { BitField(76...127, "Address", .address) }

  public static func fields(_: OnlyVariant) -> [BitField] {
    [
      deviceID, pasidLow, tagField, last, pasidHigh, .ignored(46...48), execute, read,
      .ignored(51...52), write, user, .reserved(55...55), gn, .ignored(57...59), codeField,
      .ignored(64...75), page,
    ]
  }

  /// A request for one page.
  ///
  /// - Parameters:
  ///   - device: Who asks.
  ///   - pasid: GN: of this address space.
  ///   - address: In the page.
  ///   - reads: The page is to be readable.
  ///   - writes: The page is to be writable.
  ///   - executes: What is read is to be executed.
  ///   - isUser: The request is of user privilege.
  ///   - tag: The group of requests; its lower 9 bits.
  ///   - isLast: The last request of its group; it is answered.
  public init(
    _ device: Requester, pasid: PASID?, address: IOVA, reads: Bool, writes: Bool,
    executes: Bool = false, isUser: Bool = false, tag: UInt16, isLast: Bool
  ) {
    self.init()
    self[Self.codeField] = 1
    self[Self.deviceID] = UInt64(device.rawValue)
    self[Self.pasidLow] = UInt64(pasid?.rawValue ?? 0) & 0xffff
    self[Self.pasidHigh] = UInt64(pasid?.rawValue ?? 0) >> 16
    self[Self.gn] = pasid == nil ? 0 : 1
    self[Self.tagField] = UInt64(tag & 0x1ff)
    self[Self.last] = isLast ? 1 : 0
    self[Self.read] = reads ? 1 : 0
    self[Self.write] = writes ? 1 : 0
    self[Self.execute] = executes ? 1 : 0
    self[Self.user] = isUser ? 1 : 0
    self[Self.page] = address.pageNumber
  }

  /// A request as a kernel prints it, field by field.
  ///
  /// - Parameters:
  ///   - device: Who asks.
  ///   - pasid: The address space; its lower 20 bits.
  ///   - tag: Bits 41:32, the group of requests, and Last; its lower 10 bits.
  ///   - flags: Bits 59:48; its lower 12 bits.
  ///   - address: In the page.
  public init(
    printed device: Requester, pasid: UInt64, tag: UInt64, flags: UInt64, address: UInt64
  ) {
    self.init()
    self[Self.codeField] = 1
    self[Self.deviceID] = UInt64(device.rawValue)
    self[Self.pasidLow] = pasid & 0xffff
    self[Self.pasidHigh] = pasid >> 16 & 0xf
    self[Self.tagField] = tag & 0x1ff
    self[Self.last] = tag >> 9 & 1
    self[Self.flagBits] = flags & 0xfff
    self[Self.page] = address >> 12
  }

  /// Bits 63:60: 1; 0 in a place that is not written yet.
  public var code: UInt8 { UInt8(self[Self.codeField]) }
  /// The address space, whether GN is set or not.
  public var pasidBits: UInt32 { UInt32(self[Self.pasidHigh] << 16 | self[Self.pasidLow]) }
  /// Bits 59:48 as kernels print them.
  public var flags: UInt64 { self[Self.flagBits] }
  /// Who asks.
  public var device: Requester { Requester(rawValue: UInt16(self[Self.deviceID])) }
  /// GN: of this address space; `nil` for one without PASID.
  public var pasid: PASID? {
    guard self[Self.gn] != 0 else { return nil }
    return PASID(pasidBits)
  }
  /// The first byte of the page.
  public var address: IOVA { IOVA(addressBits(Self.page)) }
  /// The page is to be readable.
  public var reads: Bool { self[Self.read] != 0 }
  /// The page is to be writable.
  public var writes: Bool { self[Self.write] != 0 }
  /// What is read is to be executed.
  public var executes: Bool { self[Self.execute] != 0 }
  /// The request is of user privilege.
  public var isUser: Bool { self[Self.user] != 0 }
  /// The group of requests.
  public var tag: UInt16 { UInt16(self[Self.tagField]) }
  /// The last request of its group; it is answered.
  public var isLast: Bool { self[Self.last] != 0 }
}
