extension VTd {
  /// PQH_REG, 0x0c0: software's place in the page request queue. 64 bits. Specification: Intel VT-d
  /// 11.4.11.1.
  @frozen
  public struct PageRequestQueueHead: WordEntry, VTdRegister {
    public var rawValue: UInt64
    @inlinable public init(rawValue: UInt64) { self.rawValue = rawValue }
  }

  /// PQT_REG, 0x0c8: hardware's place in the page request queue. 64 bits. Specification: Intel VT-d
  /// 11.4.11.2.
  @frozen
  public struct PageRequestQueueTail: WordEntry, VTdRegister {
    public var rawValue: UInt64
    @inlinable public init(rawValue: UInt64) { self.rawValue = rawValue }
  }

  /// PQA_REG, 0x0d0: where the page request queue lies and how large it is. 64 bits. Specification:
  /// Intel VT-d 11.4.11.3.
  @frozen
  public struct PageRequestQueueAddress: WordEntry, VTdRegister {
    public var rawValue: UInt64
    @inlinable public init(rawValue: UInt64) { self.rawValue = rawValue }
  }

  /// PRS_REG, 0x0dc: page requests wait, or were lost. 32 bits. Specification: Intel VT-d 11.4.11.4.
  @frozen
  public struct PageRequestStatus: WordEntry, VTdRegister {
    public var rawValue: UInt32
    @inlinable public init(rawValue: UInt32) { self.rawValue = rawValue }
  }
}

extension VTd.PageRequestQueueHead {
  public static var name: StaticString { "PQH_REG" }
  public static var specification: StaticString { "Intel VT-d 11.4.11.1" }
  static var pqh: BitField { BitField(5...18, "PQH", .address) }
  public static var registerFields: [VTd.RegisterField] {
    [.reserved(0...4), .readWrite(pqh), .reserved(19...63)]
  }
  /// Bytes from the start of the queue.
  public var byteOffset: UInt64 { addressBits(Self.pqh) }
}

extension VTd.PageRequestQueueTail {
  public static var name: StaticString { "PQT_REG" }
  public static var specification: StaticString { "Intel VT-d 11.4.11.2" }
  static var pqt: BitField { BitField(5...18, "PQT", .address) }
  public static var registerFields: [VTd.RegisterField] {
    [.reserved(0...4), .readWrite(pqt), .reserved(19...63)]
  }
  /// Bytes from the start of the queue.
  public var byteOffset: UInt64 { addressBits(Self.pqt) }
}

extension VTd.PageRequestQueueAddress {
  public static var name: StaticString { "PQA_REG" }
  public static var specification: StaticString { "Intel VT-d 11.4.11.3" }

  static var pqs: BitField { BitField(0...2, "PQS") }
  static var pqa: BitField { BitField(12...63, "PQA", .address) }

  public static var registerFields: [VTd.RegisterField] {
    [.readWrite(pqs), .reserved(3...11), .readWrite(pqa)]
  }

  /// - Parameters:
  ///   - queue: The queue's first byte.
  ///   - sizeCode: PQS; the queue has 2^PQS pages.
  /// - Precondition: `queue` is 4 KiB aligned and `sizeCode` below 8.
  public init(queue: PhysicalAddress, sizeCode: Int) {
    precondition(queue.isAligned(to: 4096), "a page request queue lies at a multiple of 4 KiB")
    self.init(rawValue: queue.rawValue)
    self[Self.pqs] = UInt64(sizeCode)
  }

  /// The queue's first byte.
  public var queue: PhysicalAddress { PhysicalAddress(addressBits(Self.pqa)) }
  /// 2^PQS pages, 2^(PQS + 7) descriptors.
  public var byteCount: UInt64 { 4096 << self[Self.pqs] }
}

extension VTd.PageRequestStatus {
  public static var name: StaticString { "PRS_REG" }
  public static var specification: StaticString { "Intel VT-d 11.4.11.4" }
  static var ppr: BitField { BitField(0...0, "PPR") }
  static var pro: BitField { BitField(1...1, "PRO") }
  public static var registerFields: [VTd.RegisterField] {
    [.writeOneToClear(ppr), .writeOneToClear(pro), .reserved(2...31)]
  }
  /// PPR: page requests were written to the queue.
  public var hasPendingRequest: Bool {
    get { self[Self.ppr] != 0 }
    set { self[Self.ppr] = newValue ? 1 : 0 }
  }
  /// PRO: the queue was full.
  public var hasOverflow: Bool {
    get { self[Self.pro] != 0 }
    set { self[Self.pro] = newValue ? 1 : 0 }
  }
}
