extension VTd {
  /// FSTS_REG, 0x034: which faults and errors wait for software. 32 bits. Specification: Intel VT-d
  /// 11.4.7.1.
  @frozen
  public struct FaultStatus: WordEntry, VTdRegister {
    public var rawValue: UInt32
    @inlinable public init(rawValue: UInt32) { self.rawValue = rawValue }
  }

  /// FRCD_REG, CAP.FRO·16 + 16·n: one recorded fault. 128 bits. Specification: Intel VT-d 11.4.7.6.
  @frozen
  public struct FaultRecord: VTdRegister {
    public var low: UInt64
    public var high: UInt64
    @inlinable
    public init(low: UInt64 = 0, high: UInt64 = 0) {
      self.low = low
      self.high = high
    }
  }
}

extension VTd.FaultStatus {
  public static var name: StaticString { "FSTS_REG" }
  public static var specification: StaticString { "Intel VT-d 11.4.7.1" }

  static var pfo: BitField { BitField(0...0, "PFO") }
  static var ppf: BitField { BitField(1...1, "PPF") }
  static var iqe: BitField { BitField(4...4, "IQE") }
  static var ice: BitField { BitField(5...5, "ICE") }
  static var ite: BitField { BitField(6...6, "ITE") }
  static var fri: BitField { BitField(8...15, "FRI") }

  public static var registerFields: [VTd.RegisterField] {
    [
      .writeOneToClear(pfo), .readOnly(ppf, sticky: true), .reserved(2...3),
      .writeOneToClear(iqe), .writeOneToClear(ice), .writeOneToClear(ite), .reserved(7...7),
      .readOnly(fri, sticky: true), .reserved(16...31),
    ]
  }

  /// PFO: a fault found no free record.
  public var hasOverflow: Bool {
    get { self[Self.pfo] != 0 }
    set { self[Self.pfo] = newValue ? 1 : 0 }
  }
  /// PPF: some record has its F bit set.
  public var hasPendingFault: Bool {
    get { self[Self.ppf] != 0 }
    set { self[Self.ppf] = newValue ? 1 : 0 }
  }
  /// IQE: the queue stopped at a bad descriptor.
  public var hasQueueError: Bool {
    get { self[Self.iqe] != 0 }
    set { self[Self.iqe] = newValue ? 1 : 0 }
  }
  /// ICE: a device answered an invalidation wrongly.
  public var hasCompletionError: Bool {
    get { self[Self.ice] != 0 }
    set { self[Self.ice] = newValue ? 1 : 0 }
  }
  /// ITE: a device did not answer an invalidation.
  public var hasTimeoutError: Bool {
    get { self[Self.ite] != 0 }
    set { self[Self.ite] = newValue ? 1 : 0 }
  }
  /// FRI: the oldest record, meaningful while PPF is set.
  public var firstRecord: UInt8 {
    get { UInt8(self[Self.fri]) }
    set { self[Self.fri] = UInt64(newValue) }
  }
  /// Whether any of the conditions that raise a fault event is there.
  public var isAnySet: Bool {
    hasOverflow || hasPendingFault || hasQueueError || hasCompletionError || hasTimeoutError
  }
}

extension VTd.FaultRecord {
  public static var name: StaticString { "FRCD_REG" }
  public static var specification: StaticString { "Intel VT-d 11.4.7.6" }
  @inlinable public static var bitCount: Int { 128 }

  static var fi: BitField { BitField(12...63, "FI", .address) }
  static var sid: BitField { BitField(64...79, "SID") }
  static var t2: BitField { BitField(92...92, "T2") }
  static var priv: BitField { BitField(93...93, "PRIV") }
  static var exe: BitField { BitField(94...94, "EXE") }
  static var pp: BitField { BitField(95...95, "PP") }
  static var fr: BitField { BitField(96...103, "FR") }
  static var pv: BitField { BitField(104...123, "PV") }
  static var at: BitField { BitField(124...125, "AT") }
  static var t1: BitField { BitField(126...126, "T1") }
  static var f: BitField { BitField(127...127, "F") }

  public static var registerFields: [VTd.RegisterField] {
    [
      .reserved(0...11), .readOnly(fi, sticky: true), .readOnly(sid, sticky: true),
      .reserved(80...91), .readOnly(t2, sticky: true), .readOnly(priv, sticky: true),
      .readOnly(exe, sticky: true), .readOnly(pp, sticky: true), .readOnly(fr, sticky: true),
      .readOnly(pv, sticky: true), .readOnly(at, sticky: true), .readOnly(t1, sticky: true),
      .writeOneToClear(f),
    ]
  }

  /// T1 and T2: what the request wanted.
  public enum RequestKind: UInt8, Sendable {
    /// T1 is bit 1, T2 bit 0.
    case write, pageRequest, read, atomic
  }

  /// AT: the kind of address the request carried.
  public enum AddressType: UInt8, Sendable {
    /// As PCI Express codes it.
    case untranslated, translationRequest, translated, reserved
  }

  /// A record with F set.
  ///
  /// - Parameters:
  ///   - reason: FR: the number of the fault.
  ///   - requester: SID: who sent the request.
  ///   - information: The page address of a DMA request (bits 11:0 are dropped), or for an
  ///     interrupt its index at bit 48.
  ///   - kind: T1 and T2: what the request wanted.
  ///   - addressType: AT: the kind of address the request carried.
  public init(
    reason: VTd.FaultReason, requester: Requester, information: UInt64, kind: RequestKind,
    addressType: AddressType = .untranslated
  ) {
    self.init()
    low = information & Self.fi.mask
    self[Self.sid] = UInt64(requester.rawValue)
    self[Self.t1] = UInt64(kind.rawValue >> 1)
    self[Self.t2] = UInt64(kind.rawValue & 1)
    self[Self.at] = UInt64(addressType.rawValue)
    self[Self.fr] = UInt64(reason.rawValue)
    self[Self.f] = 1
  }

  /// Adds what a PASID prefix says.
  public mutating func setPASID(_ pasid: UInt32, isPrivileged: Bool, isExecute: Bool) {
    self[Self.pp] = 1
    self[Self.pv] = UInt64(pasid)
    self[Self.priv] = isPrivileged ? 1 : 0
    self[Self.exe] = isExecute ? 1 : 0
  }

  /// F: the record holds a fault that software has not cleared.
  public var isValid: Bool { self[Self.f] != 0 }
  /// FR.
  public var reason: VTd.FaultReason { VTd.FaultReason(rawValue: UInt8(self[Self.fr])) }
  /// The device, by its requester-id.
  public var requester: Requester { Requester(rawValue: UInt16(self[Self.sid])) }
  /// FI: the page of the request, or an interrupt's index at bit 48.
  public var information: UInt64 { addressBits(Self.fi) }
  /// Of a fault that ``VTd/FaultReason/concernsInterrupts``: the entry of the interrupt.
  public var interruptIndex: Int { Int(information >> 48) }
  /// T1 and T2.
  public var kind: RequestKind {
    RequestKind(rawValue: UInt8(self[Self.t1] << 1 | self[Self.t2]))!
  }
  /// AT.
  public var addressType: AddressType { AddressType(rawValue: UInt8(self[Self.at]))! }
  /// The PASID, where the request had one.
  public var pasid: UInt32? { self[Self.pp] != 0 ? UInt32(self[Self.pv]) : nil }
  /// The request was of supervisor privilege.
  public var isPrivileged: Bool { self[Self.priv] != 0 }
  /// What was read was to be executed.
  public var isExecute: Bool { self[Self.exe] != 0 }
}
