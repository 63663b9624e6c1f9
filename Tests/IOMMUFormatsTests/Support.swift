import IOMMUFormats

/// SplitMix64: random numbers that come again with the same seed.
struct SeededGenerator: RandomNumberGenerator {
  var state: UInt64
  init(seed: UInt64) { state = seed }

  mutating func next() -> UInt64 {
    state &+= 0x9e37_79b9_7f4a_7c15
    var word = state
    word = (word ^ (word >> 30)) &* 0xbf58_476d_1ce4_e5b9
    word = (word ^ (word >> 27)) &* 0x94d0_49bb_1331_11eb
    return word ^ (word >> 31)
  }
}

/// Two seeds that never change and one of today; a failing test shows the seed it was given.
let seeds: [UInt64] = [1, 2008, UInt64.random(in: 0...UInt64.max)]

/// Bytes as a hexdump shows them: `00 00 00 00 12 34 50 03`; white space does not count.
func hexdump(_ text: String) -> [UInt8] {
  let digits = text.filter { !$0.isWhitespace }.map { UInt8($0.hexDigitValue!) }
  precondition(digits.count % 2 == 0, "a byte has two digits")
  return stride(from: 0, to: digits.count, by: 2).map { digits[$0] << 4 | digits[$0 + 1] }
}

/// Reads an entry from its bytes the way hardware does: out of memory.
func entry<Entry: TableEntry>(_: Entry.Type, from bytes: [UInt8]) throws -> Entry {
  let memory = try FlatMemory(byteCount: 4096)
  bytes.withUnsafeBytes { _ = memory.write($0, at: PhysicalAddress(0x40)) }
  return Entry(from: memory, at: PhysicalAddress(0x40))!
}

/// What lies in memory after the entry was stored.
func stored<Entry: TableEntry>(_ entry: Entry) throws -> [UInt8] {
  let memory = try FlatMemory(byteCount: 4096)
  entry.store(to: memory, at: PhysicalAddress(0x40))
  return memory.bytes(at: PhysicalAddress(0x40), count: Entry.byteCount)!
}

extension TableEntry {
  /// The field that the manual calls `name`, by the entry's own list.
  static func field(_ name: String, _ variant: Variant) -> BitField {
    fields(variant).first { $0.name.description == name }!
  }
}
