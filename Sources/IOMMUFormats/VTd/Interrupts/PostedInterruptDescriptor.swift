extension VTd {
  /// A posted-interrupt descriptor: interrupts that wait for a virtual processor, and whom to tell.
  ///
  /// Sixty-four bytes, aligned to their size. Specification: Intel VT-d 9.11.
  @frozen
  public struct PostedInterruptDescriptor: WideEntry {
    public var quadwords: Quadwords<8>
    @inlinable public init(quadwords: Quadwords<8>) { self.quadwords = quadwords }
  }
}

extension VTd.PostedInterruptDescriptor {
  public static var name: StaticString { "posted-interrupt descriptor" }
  public static var specification: StaticString { "Intel VT-d 9.11" }

  static var on: BitField { BitField(256...256, "ON") }
  static var sn: BitField { BitField(257...257, "SN") }
  static var nv: BitField { BitField(272...279, "NV") }
  static var ndst: BitField { BitField(288...319, "NDST") }

  public static func fields(_: OnlyVariant) -> [BitField] {
    [
      BitField(0...63, "PIR[63:0]"), BitField(64...127, "PIR[127:64]"),
      BitField(128...191, "PIR[191:128]"), BitField(192...255, "PIR[255:192]"), on, sn,
      .reserved(258...271), nv, .reserved(280...287), ndst, .reserved(320...383),
      .reserved(384...447), .reserved(448...511),
    ]
  }

  /// A descriptor without waiting interrupts.
  ///
  /// - Parameters:
  ///   - notificationVector: NV, the interrupt that tells the processor.
  ///   - destination: NDST, in extended mode an x2APIC id, otherwise an APIC id in bits 15:8.
  ///   - isSuppressed: SN: only urgent interrupts are told of.
  public init(notificationVector: UInt8, destination: UInt32, isSuppressed: Bool = false) {
    self.init()
    self[Self.sn] = isSuppressed ? 1 : 0
    self[Self.nv] = UInt64(notificationVector)
    self[Self.ndst] = UInt64(destination)
  }

  /// ON: the processor has been told and has not looked yet.
  public var isOutstanding: Bool { self[Self.on] != 0 }
  /// SN: only urgent interrupts are told of.
  public var isSuppressed: Bool { self[Self.sn] != 0 }
  /// NV: the interrupt that tells the processor.
  public var notificationVector: UInt8 { UInt8(self[Self.nv]) }
  /// NDST as it stands.
  public var destination: UInt32 { UInt32(self[Self.ndst]) }

  /// Whether an interrupt waits.
  public func isWaiting(_ vector: UInt8) -> Bool {
    quadwords[Int(vector) / 64] >> UInt64(vector % 64) & 1 != 0
  }

  /// Where ON, SN, NV and NDST lie: one quadword, which hardware updates at once.
  public static let controlQuadword = 4

  /// The control quadword with ON set, when an interrupt has to be told of; `nil` when it has not.
  public static func notified(control: UInt64, isUrgent: Bool) -> UInt64? {
    var descriptor = Self()
    descriptor.quadwords[controlQuadword] = control
    guard !descriptor.isOutstanding, !descriptor.isSuppressed || isUrgent else { return nil }
    descriptor[Self.on] = 1
    return descriptor.quadwords[controlQuadword]
  }
}
