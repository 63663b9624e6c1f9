extension VTd {
  /// A legacy-mode context entry: how one device's requests are translated.
  ///
  /// Sixteen bytes, 256 to a 4 KiB context table, by device and function.
  /// Specification: Intel VT-d 9.3.
  @frozen
  public struct ContextEntry: TableEntry {
    public var low: UInt64
    public var high: UInt64
    @inlinable
    public init(low: UInt64 = 0, high: UInt64 = 0) {
      self.low = low
      self.high = high
    }
  }

  /// The translation type of a legacy context entry, bits 3:2.
  public enum TranslationType: UInt8, Sendable {
    /// Second-stage tables; untranslated requests only.
    case secondStage
    /// Second-stage tables; translated requests and translation requests too.
    case secondStageWithDeviceTLB
    /// The IOVA is the physical address.
    case passThrough
    /// A code that hardware refuses.
    case reserved
  }
}

extension VTd.ContextEntry {
  public static var name: StaticString { "context entry" }
  public static var specification: StaticString { "Intel VT-d 9.3" }
  @inlinable public static var bitCount: Int { 128 }
  public static var exampleVariants: [VTd.Limits] { VTd.Limits.examples }

  @inlinable static var p: BitField { BitField(0...0, "P") }
  @inlinable static var fpd: BitField { BitField(1...1, "FPD") }
  @inlinable static var tt: BitField { BitField(2...3, "TT") }
  @inlinable static var ssptptr: BitField { BitField(12...63, "SSPTPTR", .address) }
  @inlinable static var aw: BitField { BitField(64...66, "AW") }
  @inlinable static var did: BitField { BitField(72...87, "DID") }

  public static func fields(_ limits: VTd.Limits) -> [BitField] {
    let width = limits.hostAddressWidth
    let did = did.limited(toBit: did.bits.lowerBound + limits.domainIDBits - 1)
    var fields = [
      p, fpd, tt, .reserved(4...11), ssptptr.limited(toBit: width - 1),
      .reserved(width...63), aw, .ignored(67...70), .reserved(71...71),
      did,
    ]
    if did.bits.upperBound < 87 { fields.append(.reserved((did.bits.upperBound + 1)...87)) }
    fields.append(.reserved(88...127))
    return fields
  }

  /// A present entry that translates through second-stage tables.
  ///
  /// - Parameters:
  ///   - secondStageTable: The uppermost table's first byte.
  ///   - levels: Levels of the table, 3 to 5.
  ///   - domainID: DID: the number by which caches tell translations of domains apart.
  ///   - allowsDeviceTLB: TT is 01: translation requests and translated ones pass as well.
  /// - Precondition: `secondStageTable` is 4 KiB aligned.
  public init(
    secondStageTable: PhysicalAddress, levels: Int, domainID: UInt16, allowsDeviceTLB: Bool = false
  ) {
    precondition(
      secondStageTable.isAligned(to: 4096), "a second-stage table lies at a multiple of 4 KiB")
    precondition(3...5 ~= levels, "a second-stage table has three to five levels")
    self.init(low: secondStageTable.rawValue)
    self[Self.p] = 1
    let type: VTd.TranslationType = allowsDeviceTLB ? .secondStageWithDeviceTLB : .secondStage
    self[Self.tt] = UInt64(type.rawValue)
    self[Self.aw] = UInt64(levels - 2)
    self[Self.did] = UInt64(domainID)
  }

  /// A present entry of a device whose requests pass untranslated; AW is the largest width that the unit
  /// has.
  ///
  /// - Precondition: `levels` is 3 to 5.
  public init(passingLevels levels: Int, domainID: UInt16) {
    precondition(3...5 ~= levels, "a second-stage table has three to five levels")
    self.init()
    self[Self.p] = 1
    self[Self.tt] = UInt64(VTd.TranslationType.passThrough.rawValue)
    self[Self.aw] = UInt64(levels - 2)
    self[Self.did] = UInt64(domainID)
  }

  /// P: hardware looks at the rest of the entry.
  @inlinable public var isPresent: Bool { self[Self.p] != 0 }
  /// FPD: faults of this device are not recorded. Counts also in an entry that is not present.
  @inlinable public var suppressesFaultReports: Bool { self[Self.fpd] != 0 }
  /// TT: how requests are translated.
  @inlinable
  public var translationType: VTd.TranslationType {
    VTd.TranslationType(rawValue: UInt8(truncatingIfNeeded: self[Self.tt])) ?? .reserved
  }
  /// The second-stage table's first byte.
  @inlinable
  public var secondStageTable: PhysicalAddress { PhysicalAddress(addressBits(Self.ssptptr)) }
  /// AW, the coded width of the table: two less than its levels.
  @inlinable public var addressWidthCode: UInt64 { self[Self.aw] }
  /// Levels of the second-stage table; 3 to 5 are legal, others are what the bits say.
  @inlinable public var levels: Int { Int(truncatingIfNeeded: addressWidthCode) &+ 2 }
  /// DID: the domain's number.
  @inlinable public var domainID: UInt16 { UInt16(truncatingIfNeeded: self[Self.did]) }
}

extension VTd.ContextEntry {
  /// The bits of SSPTPTR, which hardware does not look at when the type is pass-through.
  @inlinable package static var pointerMask: UInt64 { ssptptr.mask }
}
