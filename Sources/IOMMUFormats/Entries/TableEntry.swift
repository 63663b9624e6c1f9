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

  /// Bits in the entry: 32, 64, 128, 256 or 512.
  static var bitCount: Int { get }

  /// Whether the entry's bytes lie in memory with the most significant first.
  static var isBigEndian: Bool { get }

  /// Every bit of the entry, once, ascending.
  static func fields(_ variant: Variant) -> [BitField]

  /// One of each kind of variant, for checks that hold of all of them.
  static var exampleVariants: [Variant] { get }

  /// The entry with these first two quadwords; those of a wider entry that follow are zero.
  init(low: UInt64, high: UInt64)

  /// The entry, or its first quadword.
  var low: UInt64 { get set }

  /// The second quadword of an entry of 128 bits and more; 0 in smaller ones.
  var high: UInt64 { get set }

  /// Quadword `index`; 0 holds bits 63:0.
  ///
  /// - Precondition: `index` is below ``quadwordCount``.
  subscript(quadword index: Int) -> UInt64 { get set }
}

/// The variant of an entry whose bits always mean the same.
public struct OnlyVariant: Sendable {
  /// The one there is.
  public init() {}
}

extension TableEntry {
  @inlinable public static var isBigEndian: Bool { false }

  /// Bytes in the entry.
  @inlinable public static var byteCount: Int { bitCount / 8 }

  /// Quadwords in the entry, at least 1.
  @inlinable public static var quadwordCount: Int { bitCount <= 64 ? 1 : bitCount / 64 }

  @inlinable
  public subscript(quadword index: Int) -> UInt64 {
    @inline(__always) get {
      precondition(index < 2, "an entry of at most 128 bits has two quadwords")
      return index == 0 ? low : high
    }
    @inline(__always) set {
      precondition(index < 2, "an entry of at most 128 bits has two quadwords")
      if index == 0 { low = newValue } else { high = newValue }
    }
  }

  /// The value of one field.
  @inlinable
  public subscript(field: BitField) -> UInt64 {
    @inline(__always) get {
      (self[quadword: field.quadwordIndex] &>> field.shift) & field.valueMask
    }
    @inline(__always) set {
      precondition(newValue & ~field.valueMask == 0, "a value wider than its field")
      let index = field.quadwordIndex
      self[quadword: index] = self[quadword: index] & ~field.mask | newValue &<< field.shift
    }
  }

  /// The field as an address: its bits where they lie in their quadword, all others zero.
  @inlinable @inline(__always)
  public func addressBits(_ field: BitField) -> UInt64 {
    self[quadword: field.quadwordIndex] & field.mask
  }

  /// The reserved fields that are not zero.
  public func reservedViolations(_ variant: Variant) -> [BitField] {
    Self.fields(variant).filter { $0.use == .reserved && self[$0] != 0 }
  }

  /// The bits that must be zero, as an entry in which they are one and all others zero.
  public static func reservedMasks(_ variant: Variant) -> Self {
    fields(variant).reduce(into: Self(low: 0, high: 0)) { masks, field in
      guard field.use == .reserved else { return }
      masks[quadword: field.quadwordIndex] |= field.mask
    }
  }

  /// Whether a bit is one in both.
  @inlinable
  public func overlaps(_ masks: Self) -> Bool {
    for index in 0..<Self.quadwordCount
    where self[quadword: index] & masks[quadword: index] != 0 {
      return true
    }
    return false
  }

  /// The entry's bytes in the order they lie in memory.
  public var bytes: [UInt8] {
    let little = (0..<Self.byteCount).map { index in
      UInt8(truncatingIfNeeded: self[quadword: index / 8] >> UInt64(8 * (index % 8)))
    }
    return Self.isBigEndian ? little.reversed() : little
  }

  /// The entry that lies at `address`; `nil` when memory does not hold all of it.
  ///
  /// An entry wider than 64 bits is read as quadwords, the first one with its present bit first;
  /// the manual lets hardware read anything wider than 128 bits in pieces.
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
      for index in 2..<max(2, Self.quadwordCount) {
        guard let place = address.advanced(byBytes: UInt64(index) * 8),
          let word = memory.quadword(at: place)
        else { return nil }
        self[quadword: index] = word
      }
    }
  }

  /// Stores the entry; the quadword with the present bit last, so that no reader sees half an entry
  /// as present.
  ///
  /// - Precondition: `address` is aligned to the entry's size, at most 8, and writable.
  @inlinable
  public func store(to memory: some WritableMemory, at address: PhysicalAddress) {
    switch Self.bitCount {
    case 32:
      let word = UInt32(truncatingIfNeeded: low)
      memory.store(Self.isBigEndian ? word.byteSwapped : word, at: address)
    case 64:
      memory.store(Self.isBigEndian ? low.byteSwapped : low, at: address)
    default:
      for index in (0..<Self.quadwordCount).reversed() {
        memory.store(
          self[quadword: index], at: PhysicalAddress(address.rawValue + UInt64(index) * 8))
      }
    }
  }
}

extension TableEntry where Variant == OnlyVariant {
  /// Every bit of the entry, once, ascending.
  public static var fields: [BitField] { fields(OnlyVariant()) }
  /// The one there is.
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
