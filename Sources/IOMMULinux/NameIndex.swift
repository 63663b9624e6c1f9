/// Numbers by names of which many may be the same: one entry costs eight bytes, and no name is kept.
///
/// Equal names, or names made to collide, are a chain: adding one never takes longer for them.
struct NameIndex {
  private var heads: [UInt32]
  private var next: [UInt32] = []
  private let shift: UInt64

  /// - Parameter capacity: Names that are expected; more only cost time.
  init(capacity: Int) {
    let bits = max(4, Int.bitWidth - max(capacity, 1).leadingZeroBitCount)
    heads = Array(repeating: .max, count: 1 << bits)
    shift = UInt64(64 - bits)
    next.reserveCapacity(capacity)
  }

  /// Adds the next name; they are numbered from 0 as they are added.
  mutating func add(_ hash: UInt64) {
    let slot = slot(hash)
    next.append(heads[slot])
    heads[slot] = UInt32(next.count - 1)
  }

  /// Calls `body` with every number whose name may have this hash, the last first, until it says no.
  func forEach(_ hash: UInt64, _ body: (Int) -> Bool) {
    var number = heads[slot(hash)]
    while number != .max {
      guard body(Int(number)) else { return }
      number = next[Int(number)]
    }
  }

  private func slot(_ hash: UInt64) -> Int {
    Int(truncatingIfNeeded: (hash &* 0x9e37_79b9_7f4a_7c15) >> shift)
  }
}

/// A number for a string of bytes that two parts' numbers add up to: Σ byte·B^(bytes behind it), modulo 2^64.
struct NameHash {
  static let base: UInt64 = 0x0000_0100_0000_01b3

  /// The number.
  var value: UInt64 = 0
  /// B to the power of the bytes.
  var power: UInt64 = 1

  init() {}

  init(_ bytes: some Sequence<UInt8>) {
    for byte in bytes {
      value = value &* Self.base &+ UInt64(byte)
      power = power &* Self.base
    }
  }

  mutating func append(_ other: NameHash) {
    value = value &* other.power &+ other.value
    power = power &* other.power
  }

  /// Without its first byte.
  func dropping(first byte: UInt8) -> UInt64 {
    value &- UInt64(byte) &* (power &* Self.inverse)
  }

  /// What `base` has to be multiplied with to make 1: by Newton's steps, each of which doubles the bits that
  /// are right, and an odd number is its own inverse in the last three.
  private static let inverse: UInt64 = (0..<6).reduce(base) { inverse, _ in
    inverse &* (2 &- base &* inverse)
  }
}
