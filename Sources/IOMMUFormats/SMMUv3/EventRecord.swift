extension SMMUv3 {
  /// A record of the event queue: a transaction that was stopped, or a configuration that cannot be
  /// used.
  ///
  /// Thirty-two bytes. Specification: Arm IHI 0070, 7.3; places of the fields by Linux
  /// `arm-smmu-v3.h`.
  @frozen
  public struct EventRecord: WideEntry {
    public var quadwords: Quadwords<4>
    @inlinable public init(quadwords: Quadwords<4>) { self.quadwords = quadwords }
  }

  /// What happened: bits 7:0 of a record. Open: a number without a name here keeps its value.
  @frozen
  public struct EventNumber: RawRepresentable, Hashable, Sendable {
    public var rawValue: UInt8
    @inlinable public init(rawValue: UInt8) { self.rawValue = rawValue }

    @inlinable public static var badStreamID: Self { Self(rawValue: 0x02) }
    @inlinable public static var streamTableEntryFetch: Self { Self(rawValue: 0x03) }
    @inlinable public static var badStreamTableEntry: Self { Self(rawValue: 0x04) }
    @inlinable public static var streamDisabled: Self { Self(rawValue: 0x06) }
    @inlinable public static var badSubstreamID: Self { Self(rawValue: 0x08) }
    @inlinable public static var contextDescriptorFetch: Self { Self(rawValue: 0x09) }
    @inlinable public static var badContextDescriptor: Self { Self(rawValue: 0x0a) }
    @inlinable public static var walkAbort: Self { Self(rawValue: 0x0b) }
    @inlinable public static var translation: Self { Self(rawValue: 0x10) }
    @inlinable public static var addressSize: Self { Self(rawValue: 0x11) }
    @inlinable public static var access: Self { Self(rawValue: 0x12) }
    @inlinable public static var permission: Self { Self(rawValue: 0x13) }
    @inlinable public static var machineStructureFetch: Self { Self(rawValue: 0x25) }

    /// A transaction's input address was looked up: the record has it, and how it was reached for.
    @inlinable public var isOfTransaction: Bool { 0x0b...0x13 ~= rawValue }

    /// The manual's name; `nil` for a number that has none here.
    public var name: String? { Self.names[rawValue] }

    /// The number with this name.
    public init?(named name: some StringProtocol) {
      guard let number = Self.names.first(where: { $0.value == name })?.key else { return nil }
      self.init(rawValue: number)
    }

    private static let names: [UInt8: String] = [
      0x01: "F_UUT", 0x02: "C_BAD_STREAMID", 0x03: "F_STE_FETCH", 0x04: "C_BAD_STE",
      0x05: "F_BAD_ATS_TREQ", 0x06: "F_STREAM_DISABLED", 0x07: "F_TRANSL_FORBIDDEN",
      0x08: "C_BAD_SUBSTREAMID", 0x09: "F_CD_FETCH", 0x0a: "C_BAD_CD", 0x0b: "F_WALK_EABT",
      0x10: "F_TRANSLATION", 0x11: "F_ADDR_SIZE", 0x12: "F_ACCESS", 0x13: "F_PERMISSION",
      0x20: "F_TLB_CONFLICT", 0x21: "F_CFG_CONFLICT", 0x24: "E_PAGE_REQUEST",
      0x25: "F_VMS_FETCH",
    ]
  }
}

extension SMMUv3.EventRecord {
  public static var name: StaticString { "SMMUv3 event record" }
  public static var specification: StaticString { "Arm IHI 0070 7.3" }
  public static var exampleVariants: [SMMUv3.EventNumber] {
    [.badStreamID, .streamTableEntryFetch, .translation]
  }

  static var numberField: BitField { BitField(0...7, "event") }
  static var ssv: BitField { BitField(11...11, "SSV") }
  static var substreamID: BitField { BitField(12...31, "SubstreamID") }
  static var streamID: BitField { BitField(32...63, "StreamID") }
  static var stag: BitField { BitField(64...79, "STAG") }
  static var stall: BitField { BitField(95...95, "Stall") }
  static var pnu: BitField { BitField(97...97, "PnU") }
  static var ind: BitField { BitField(98...98, "InD") }
  static var rnw: BitField { BitField(99...99, "RnW") }
  static var nsipa: BitField { BitField(100...100, "NSIPA") }
  static var s2: BitField { BitField(103...103, "S2") }
  static var classField: BitField { BitField(104...105, "CLASS") }
  static var ttrnw: BitField { BitField(108...108, "TTRnW") }
  static var inputAddress: BitField { BitField(128...191, "InputAddress", .address) }
  static var ipa: BitField { BitField(204...243, "IPA", .address) }
  static var fetchAddress: BitField { BitField(195...243, "FetchAddr", .address) }

  public static func fields(_ number: SMMUv3.EventNumber) -> [BitField] {
    let head = [
      numberField, .ignored(8...10), ssv, substreamID, streamID, stag, .ignored(80...94), stall,
      .ignored(96...96), pnu, ind, rnw, nsipa, .ignored(101...102), s2, classField,
      .ignored(106...107), ttrnw, .ignored(109...127), inputAddress,
    ]
    switch number {
    case .streamTableEntryFetch, .contextDescriptorFetch, .machineStructureFetch, .walkAbort:
      return head + [.ignored(192...194), fetchAddress, .ignored(244...255)]
    default: return head + [.ignored(192...203), ipa, .ignored(244...255)]
    }
  }

  /// A record with these words, low first.
  public init(words: (UInt64, UInt64, UInt64, UInt64)) {
    self.init(low: words.0, high: words.1)
    self[quadword: 2] = words.2
    self[quadword: 3] = words.3
  }

  /// A record as a kernel prints it, field by field.
  public init(
    _ number: SMMUv3.EventNumber, stream: UInt32, substream: UInt32? = nil,
    address: UInt64 = 0, isRead: Bool = false, isPrivileged: Bool = false,
    isInstruction: Bool = false, isSecondStage: Bool = false
  ) {
    self.init(low: 0, high: 0)
    self[Self.numberField] = UInt64(number.rawValue)
    self[Self.streamID] = UInt64(stream)
    if let substream {
      self[Self.ssv] = 1
      self[Self.substreamID] = UInt64(substream) & Self.substreamID.valueMask
    }
    self[Self.inputAddress] = address
    self[Self.rnw] = isRead ? 1 : 0
    self[Self.pnu] = isPrivileged ? 1 : 0
    self[Self.ind] = isInstruction ? 1 : 0
    self[Self.s2] = isSecondStage ? 1 : 0
  }

  /// What happened.
  public var number: SMMUv3.EventNumber {
    SMMUv3.EventNumber(rawValue: UInt8(self[Self.numberField]))
  }
  /// Who sent the transaction; which device that is, firmware's tables say.
  public var stream: UInt32 { UInt32(self[Self.streamID]) }
  /// The address space within the stream; `nil` where the transaction carried none.
  public var substream: UInt32? {
    self[Self.ssv] == 0 ? nil : UInt32(self[Self.substreamID])
  }
  /// The address as the device sent it.
  public var address: UInt64 { self[Self.inputAddress] }
  /// The address that the first stage made of it; of a fault in the second.
  public var intermediateAddress: UInt64 { addressBits(Self.ipa) }
  /// Where an entry could not be read.
  public var fetchAddress: UInt64 { addressBits(Self.fetchAddress) }
  /// RnW: a read.
  public var isRead: Bool { self[Self.rnw] != 0 }
  /// PnU: privileged.
  public var isPrivileged: Bool { self[Self.pnu] != 0 }
  /// InD: an instruction fetch.
  public var isInstruction: Bool { self[Self.ind] != 0 }
  /// S2: the second stage stopped it.
  public var isSecondStage: Bool { self[Self.s2] != 0 }
  /// Stall: the transaction waits for software.
  public var isStalled: Bool { self[Self.stall] != 0 }
  /// CLASS: 0 the fetch of a context descriptor, 1 of a table's entry, 2 the input address.
  public var faultClass: UInt8 { UInt8(self[Self.classField]) }
}
