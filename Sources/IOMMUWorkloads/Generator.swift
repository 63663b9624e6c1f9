/// SplitMix64: random numbers that come again with the same seed, cheap enough not to be measured.
public struct SeededGenerator: RandomNumberGenerator {
  private var state: UInt64

  public init(seed: UInt64) { state = seed }

  public mutating func next() -> UInt64 {
    state &+= 0x9e37_79b9_7f4a_7c15
    return scramble(state)
  }
}

/// A permutation of 64-bit words that leaves no pattern.
func scramble(_ value: UInt64) -> UInt64 {
  var word = value
  word = (word ^ (word >> 30)) &* 0xbf58_476d_1ce4_e5b9
  word = (word ^ (word >> 27)) &* 0x94d0_49bb_1331_11eb
  return word ^ (word >> 31)
}
