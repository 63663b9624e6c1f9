/// An entry of a table in memory, or a register, as a value: its bits, and one list of what they
/// are.
///
/// The `fields` list names every bit once. Accessors, printing, annotation, JSON and the
/// reserved-bit check all read it, so that a bit position is written down in one place only.
public protocol TableEntry: Sendable, Hashable {
  /// What changes the meaning of the bits from case to case: a level, a capability.
  associatedtype Variant: Sendable = OnlyVariant

  /// The entry's name as people say it, such as `context entry`.
  static var name: StaticString { get }

  /// Where the manual defines it.
  static var specification: StaticString { get }

  /// Bits in the entry: 32, 64 or 128.
  static var bitCount: Int { get }

  /// Whether the entry's bytes lie in memory with the most significant first.
  static var isBigEndian: Bool { get }

  /// Every bit of the entry, once, ascending.
  static func fields(_ variant: Variant) -> [BitField]

  /// One of each kind of variant, for checks that hold of all of them.
  static var exampleVariants: [Variant] { get }

  init(low: UInt64, high: UInt64)

  /// The entry, or its first quadword.
  var low: UInt64 { get set }

  /// The second quadword of a 128-bit entry; 0 in smaller ones.
  var high: UInt64 { get set }
}

/// The variant of an entry whose bits always mean the same.
public struct OnlyVariant: Sendable {
  public init() {}
}

extension TableEntry {
  @inlinable public static var isBigEndian: Bool { false }

  /// Bytes in the entry.
  @inlinable public static var byteCount: Int { bitCount / 8 }

  /// The value of one field.
  @inlinable
  public subscript(field: BitField) -> UInt64 {
    @inline(__always) get {
      ((field.isInHighQuadword ? high : low) &>> field.shift) & field.valueMask
    }
    @inline(__always) set {
      precondition(newValue & ~field.valueMask == 0, "a value wider than its field")
      if field.isInHighQuadword {
        high = high & ~field.mask | newValue &<< field.shift
      } else {
        low = low & ~field.mask | newValue &<< field.shift
      }
    }
  }

  /// The field as an address: its bits where they lie, all others zero.
  @inlinable @inline(__always)
  public func addressBits(_ field: BitField) -> UInt64 { low & field.mask }

  /// The reserved fields that are not zero.
  public func reservedViolations(_ variant: Variant) -> [BitField] {
    Self.fields(variant).filter { $0.use == .reserved && self[$0] != 0 }
  }

  /// The bits that must be zero, as masks over the two quadwords.
  public static func reservedMasks(_ variant: Variant) -> (low: UInt64, high: UInt64) {
    fields(variant).reduce(into: (low: 0, high: 0)) { masks, field in
      guard field.use == .reserved else { return }
      if field.isInHighQuadword { masks.high |= field.mask } else { masks.low |= field.mask }
    }
  }

  /// The entry's bytes in the order they lie in memory.
  public var bytes: [UInt8] {
    let little = (0..<Self.byteCount).map { index in
      UInt8(truncatingIfNeeded: (index < 8 ? low : high) >> UInt64(8 * (index % 8)))
    }
    return Self.isBigEndian ? little.reversed() : little
  }

  /// The entry that lies at `address`; `nil` when memory does not hold all of it.
  ///
  /// A 128-bit entry is read as two quadwords, the low one with its present bit first; the manual
  /// lets hardware do the same with anything wider.
  @inlinable
  public init?(from memory: some PhysicalMemory, at address: PhysicalAddress) {
    switch Self.bitCount {
    case 32:
      guard let word = memory.doubleword(at: address) else { return nil }
      self.init(low: UInt64(Self.isBigEndian ? word.byteSwapped : word), high: 0)
    case 64:
      guard let word = memory.quadword(at: address) else { return nil }
      self.init(low: Self.isBigEndian ? word.byteSwapped : word, high: 0)
    default:
      guard let low = memory.quadword(at: address),
        let high = address.advanced(byBytes: 8).flatMap({ memory.quadword(at: $0) })
      else { return nil }
      self.init(low: low, high: high)
    }
  }

  /// Stores the entry; the quadword with the present bit last, so that no reader sees half an entry
  /// as present.
  ///
  /// - Precondition: `address` is aligned to the entry's size, at most 8, and in RAM.
  public func store(to memory: FlatMemory, at address: PhysicalAddress) {
    switch Self.bitCount {
    case 32:
      let word = UInt32(truncatingIfNeeded: low)
      memory.store(Self.isBigEndian ? word.byteSwapped : word, at: address)
    case 64:
      memory.store(Self.isBigEndian ? low.byteSwapped : low, at: address)
    default:
      memory.store(high, at: PhysicalAddress(address.rawValue + 8))
      memory.store(low, at: address)
    }
  }
}

extension TableEntry where Variant == OnlyVariant {
  /// Every bit of the entry, once, ascending.
  public static var fields: [BitField] { fields(OnlyVariant()) }
  public static var exampleVariants: [OnlyVariant] { [OnlyVariant()] }
  /// The reserved fields that are not zero.
  public var reservedViolations: [BitField] { reservedViolations(OnlyVariant()) }
}

/// A table entry or register of at most 64 bits.
public protocol WordEntry: TableEntry, RawRepresentable
where RawValue: FixedWidthInteger & UnsignedInteger & Sendable {
  var rawValue: RawValue { get set }
  init(rawValue: RawValue)
}

extension WordEntry {
  @inlinable public static var bitCount: Int { RawValue.bitWidth }

  @inlinable
  public init(low: UInt64, high _: UInt64) {
    self.init(rawValue: RawValue(truncatingIfNeeded: low))
  }

  @inlinable
  public var low: UInt64 {
    @inline(__always) get { UInt64(truncatingIfNeeded: rawValue) }
    @inline(__always) set { rawValue = RawValue(truncatingIfNeeded: newValue) }
  }

  @inlinable
  public var high: UInt64 {
    get { 0 }
    set { precondition(newValue == 0, "an entry of one word has no second quadword") }
  }
}
