extension VTd {
  /// A device's page request as hardware writes it to the page request queue.
  ///
  /// 32 bytes, the upper 16 zero. Specification: Intel VT-d 7.4.1.1.
  @frozen
  public struct PageRequestDescriptor: TableEntry {
    public var low: UInt64
    public var high: UInt64
    @inlinable
    public init(low: UInt64 = 0, high: UInt64 = 0) {
      self.low = low
      self.high = high
    }
  }
}

extension VTd.PageRequestDescriptor {
  public static var name: StaticString { "page request descriptor" }
  public static var specification: StaticString { "Intel VT-d 7.4.1.1" }
  @inlinable public static var bitCount: Int { 128 }
  /// Bytes that one descriptor takes in the queue.
  public static var queueByteCount: UInt64 { 32 }

  static var type: BitField { BitField(0...7, "TYPE") }
  static var pp: BitField { BitField(8...8, "PP") }
  static var rid: BitField { BitField(16...31, "RID") }
  static var pasidField: BitField { BitField(32...51, "PASID") }
  static var exr: BitField { BitField(52...52, "EXR") }
  static var pmr: BitField { BitField(53...53, "PMR") }
  static var rdr: BitField { BitField(64...64, "RDR") }
  static var wrr: BitField { BitField(65...65, "WRR") }
  static var lpig: BitField { BitField(66...66, "LPIG") }
  static var prgi: BitField { BitField(67...75, "PRGI") }
  static var addr: BitField { BitField(76...127, "ADDR", .address) }

  public static func fields(_: OnlyVariant) -> [BitField] {
    [
      type, pp, .reserved(9...15), rid, pasidField, exr, pmr, .reserved(54...63), rdr, wrr, lpig,
      prgi, addr,
    ]
  }

  /// A request for one page.
  public init(
    requester: Requester, pasid: UInt32?, address: IOVA, reads: Bool, writes: Bool,
    isLastInGroup: Bool, groupIndex: UInt16, isPrivileged: Bool = false, isExecute: Bool = false
  ) {
    self.init()
    self[Self.type] = 1
    self[Self.pp] = pasid == nil ? 0 : 1
    self[Self.rid] = UInt64(requester.rawValue)
    self[Self.pasidField] = UInt64(pasid ?? 0)
    self[Self.exr] = isExecute ? 1 : 0
    self[Self.pmr] = isPrivileged ? 1 : 0
    self[Self.rdr] = reads ? 1 : 0
    self[Self.wrr] = writes ? 1 : 0
    self[Self.lpig] = isLastInGroup ? 1 : 0
    self[Self.prgi] = UInt64(groupIndex)
    self[Self.addr] = address.pageNumber
  }

  /// The device, by its requester-id.
  public var requester: Requester { Requester(rawValue: UInt16(self[Self.rid])) }
  /// The PASID; `nil` when there is none.
  public var pasid: UInt32? { self[Self.pp] != 0 ? UInt32(self[Self.pasidField]) : nil }
  /// The first byte of the page.
  public var address: IOVA { IOVA(self[Self.addr] << 12) }
  /// RDR: the page is to be readable.
  public var reads: Bool { self[Self.rdr] != 0 }
  /// WRR: the page is to be writable.
  public var writes: Bool { self[Self.wrr] != 0 }
  /// The request was of supervisor privilege.
  public var isPrivileged: Bool { self[Self.pmr] != 0 }
  /// What was read was to be executed.
  public var isExecute: Bool { self[Self.exr] != 0 }
  /// LPIG: the last request of its group; it is answered.
  public var isLastInGroup: Bool { self[Self.lpig] != 0 }
  /// PRGI: what ties an answer to its requests.
  public var groupIndex: UInt16 { UInt16(self[Self.prgi]) }
}
