extension VTd {
  /// An interrupt remapping table entry (IRTE): what becomes of one interrupt, and who may send it.
  ///
  /// Sixteen bytes, 2 to 65,536 to a table, by index. Specification: Intel VT-d 9.9, 9.10.
  @frozen
  public struct InterruptRemappingEntry: TableEntry {
    public var low: UInt64
    public var high: UInt64
    @inlinable
    public init(low: UInt64 = 0, high: UInt64 = 0) {
      self.low = low
      self.high = high
    }
  }

  /// How an interrupt is delivered, bits 7:5 of a remapped entry and 10:8 of an I/O APIC's.
  public enum DeliveryMode: UInt8, Sendable, CaseIterable {
    /// To the destination, by the vector.
    case fixed = 0
    /// To the one of several destinations that is least busy.
    case lowestPriority = 1
    /// SMI.
    case systemManagement = 2
    /// NMI.
    case nonMaskable = 4
    /// INIT.
    case initialize = 5
    /// ExtINT.
    case external = 7
  }

  /// Which requesters an entry admits, bits 83:82.
  public enum SourceValidation: UInt8, Sendable {
    /// All.
    case none
    /// The one that SID names, but for the function bits that SQ takes out.
    case requester
    /// Those on a range of buses.
    case busRange
    /// A code that hardware refuses.
    case reserved
  }
}

extension VTd.InterruptRemappingEntry {
  /// What decides the meaning of an entry's bits.
  public struct Variant: Sendable, Hashable {
    /// IM: the entry posts interrupts rather than remapping them.
    public var isPosted: Bool
    /// EIME: destinations have 32 bits rather than 8. `nil` where nobody knows: all bits count.
    public var usesExtendedMode: Bool?
    /// CAP.PI: the unit can post interrupts; without it IM is reserved.
    public var canPost: Bool

    /// What the entry and the unit say.
    public init(isPosted: Bool, usesExtendedMode: Bool?, canPost: Bool) {
      self.isPosted = isPosted
      self.usesExtendedMode = usesExtendedMode
      self.canPost = canPost
    }
  }

  public static var name: StaticString { "interrupt remapping entry" }
  public static var specification: StaticString { "Intel VT-d 9.9, 9.10" }
  @inlinable public static var bitCount: Int { 128 }
  public static var exampleVariants: [Variant] {
    [false, true].flatMap { isPosted in
      [false, true, nil].flatMap { mode in
        [false, true].map {
          Variant(isPosted: isPosted, usesExtendedMode: mode, canPost: $0)
        }
      }
    }
  }

  static var p: BitField { BitField(0...0, "P") }
  static var fpd: BitField { BitField(1...1, "FPD") }
  static var dm: BitField { BitField(2...2, "DM") }
  static var rh: BitField { BitField(3...3, "RH") }
  static var tm: BitField { BitField(4...4, "TM") }
  static var dlm: BitField { BitField(5...7, "DLM") }
  static var urg: BitField { BitField(14...14, "URG") }
  static var im: BitField { BitField(15...15, "IM") }
  static var v: BitField { BitField(16...23, "V") }
  static var dst: BitField { BitField(32...63, "DST") }
  static var dst8: BitField { BitField(40...47, "DST") }
  static var pdaLow: BitField { BitField(38...63, "PDA[31:6]") }
  static var sid: BitField { BitField(64...79, "SID") }
  static var sq: BitField { BitField(80...81, "SQ") }
  static var svt: BitField { BitField(82...83, "SVT") }
  static var pdaHigh: BitField { BitField(96...127, "PDA[63:32]") }

  public static func fields(_ variant: Variant) -> [BitField] {
    let mode: [BitField] = [variant.canPost ? im : .reserved(15...15)]
    guard variant.isPosted else {
      let destination: [BitField] =
        variant.usesExtendedMode == false
        ? [.reserved(32...39), dst8, .reserved(48...63)] : [dst]
      return [p, fpd, dm, rh, tm, dlm, .ignored(8...11), .reserved(12...14)] + mode
        + [v, .reserved(24...31)] + destination + [sid, sq, svt, .reserved(84...127)]
    }
    return [p, fpd, .reserved(2...7), .ignored(8...11), .reserved(12...13), urg] + mode
      + [
        BitField(16...23, "VV"), .reserved(24...31), .reserved(32...37), pdaLow, sid, sq, svt,
        .reserved(84...95), pdaHigh,
      ]
  }

  /// A present entry that delivers interrupts to a processor.
  ///
  /// - Parameters:
  ///   - vector: V: what the processor gets.
  ///   - destination: An APIC id, or a set of them when `isLogical`.
  ///   - usesExtendedMode: EIME; without it an APIC id has eight bits.
  ///   - deliveryMode: DLM: how the processor takes the interrupt.
  ///   - isLogical: DM: the destination is a set of processors.
  ///   - isLevelTriggered: TM: the interrupt stands until it is acknowledged.
  ///   - hasRedirectionHint: RH: of several destinations one is enough.
  /// - Precondition: `destination` has eight bits without `usesExtendedMode`.
  public init(
    vector: UInt8, destination: UInt32, usesExtendedMode: Bool,
    deliveryMode: VTd.DeliveryMode = .fixed, isLogical: Bool = false,
    isLevelTriggered: Bool = false, hasRedirectionHint: Bool = false
  ) {
    self.init()
    self[Self.p] = 1
    self[Self.dm] = isLogical ? 1 : 0
    self[Self.rh] = hasRedirectionHint ? 1 : 0
    self[Self.tm] = isLevelTriggered ? 1 : 0
    self[Self.dlm] = UInt64(deliveryMode.rawValue)
    self[Self.v] = UInt64(vector)
    if usesExtendedMode {
      self[Self.dst] = UInt64(destination)
    } else {
      self[Self.dst8] = UInt64(destination)
    }
  }

  /// A present entry that posts interrupts in a descriptor.
  ///
  /// - Precondition: `descriptor` is 64-byte aligned.
  public init(postingIn descriptor: PhysicalAddress, vector: UInt8, isUrgent: Bool = false) {
    precondition(descriptor.isAligned(to: 64), "a posted descriptor lies at a multiple of 64")
    self.init()
    self[Self.p] = 1
    self[Self.im] = 1
    self[Self.urg] = isUrgent ? 1 : 0
    self[Self.v] = UInt64(vector)
    self[Self.pdaLow] = descriptor.rawValue >> 6 & Self.pdaLow.valueMask
    self[Self.pdaHigh] = descriptor.rawValue >> 32
  }

  /// The same entry, for one requester only.
  ///
  /// - Parameters:
  ///   - requester: SID: the one whose requests the entry admits, but for the ignored bits.
  ///   - ignoredFunctionBits: SQ: none, bit 2, bits 2:1 or bits 2:0, as 0 to 3.
  public func admitting(_ requester: Requester, ignoredFunctionBits: Int = 0) -> Self {
    var entry = self
    entry[Self.sid] = UInt64(requester.rawValue)
    entry[Self.sq] = UInt64(ignoredFunctionBits)
    entry[Self.svt] = UInt64(VTd.SourceValidation.requester.rawValue)
    return entry
  }

  /// The same entry, for the requesters of a range of buses.
  public func admitting(buses: ClosedRange<UInt8>) -> Self {
    var entry = self
    entry[Self.sid] = UInt64(buses.lowerBound) << 8 | UInt64(buses.upperBound)
    entry[Self.svt] = UInt64(VTd.SourceValidation.busRange.rawValue)
    return entry
  }

  // MARK: What it says

  /// P: hardware looks at the rest of the entry.
  public var isPresent: Bool { self[Self.p] != 0 }
  /// FPD: faults of this entry are not recorded. Counts also when it is not present.
  public var suppressesFaultReports: Bool { self[Self.fpd] != 0 }
  /// IM: interrupts are posted in a descriptor.
  public var isPosted: Bool { self[Self.im] != 0 }
  /// V, or VV of an entry that posts.
  public var vector: UInt8 { UInt8(self[Self.v]) }
  /// DM: the destination is a set of processors.
  public var isLogical: Bool { self[Self.dm] != 0 }
  /// RH: of several destinations one is enough.
  public var hasRedirectionHint: Bool { self[Self.rh] != 0 }
  /// TM: the interrupt stands until it is acknowledged.
  public var isLevelTriggered: Bool { self[Self.tm] != 0 }
  /// `nil` for the two codes that are not defined.
  public var deliveryMode: VTd.DeliveryMode? { VTd.DeliveryMode(rawValue: UInt8(self[Self.dlm])) }
  /// DST: a number of 32 bits in extended mode, of 8 bits without.
  public func destination(usesExtendedMode: Bool) -> UInt32 {
    UInt32(self[usesExtendedMode ? Self.dst : Self.dst8])
  }
  /// URG: the processor is notified even while it asks not to be.
  public var isUrgent: Bool { self[Self.urg] != 0 }
  /// Where a posted entry's descriptor lies; 64-byte aligned.
  public var postedDescriptor: PhysicalAddress {
    PhysicalAddress(self[Self.pdaHigh] << 32 | self[Self.pdaLow] << 6)
  }
  /// SVT: which requesters the entry admits.
  public var sourceValidation: VTd.SourceValidation {
    VTd.SourceValidation(rawValue: UInt8(self[Self.svt]))!
  }

  /// SID: the requester that the entry admits, when ``sourceValidation`` is by requester.
  public var requester: Requester { Requester(rawValue: UInt16(self[Self.sid])) }
  /// SQ: the bits of the requester's function that do not count.
  public var ignoredFunctionBits: VTd.FunctionMask {
    VTd.FunctionMask(rawValue: UInt8(self[Self.sq]))!
  }
  /// SID: the first and the last bus that the entry admits, when ``sourceValidation`` is by bus; in
  /// an entry that makes no sense the last may lie before the first.
  public var busRange: (first: UInt8, last: UInt8) {
    (requester.bus, requester.deviceFunction)
  }

  /// Whether the entry admits interrupts of a requester; of none when SVT is reserved.
  ///
  /// Specification: Intel VT-d 9.9, SVT and SQ.
  public func admits(_ requester: Requester) -> Bool {
    switch sourceValidation {
    case .none:
      return true
    case .requester:
      let different = self.requester.rawValue ^ requester.rawValue
      return different & ~ignoredFunctionBits.ignoredBits == 0
    case .busRange:
      return busRange.first <= requester.bus && requester.bus <= busRange.last
    case .reserved:
      return false
    }
  }
}
