import Glibc
import IOMMUFormats

/// How a workload's addresses follow each other.
public enum AddressPattern: String, CaseIterable, Sendable {
  /// One page, again and again.
  case hot
  /// Each page in turn.
  case sequential
  /// Any page, all alike.
  case random
  /// Zipf's law with exponent 0.99, the popular pages scattered.
  case zipf

  /// Addresses in `0..<span`, none of them in the interrupt range.
  ///
  /// - Parameters:
  ///   - count: How many addresses.
  ///   - span: Bytes of IOVA, a multiple of 4 KiB.
  ///   - seed: The same seed gives the same addresses.
  public func addresses(count: Int, span: UInt64, seed: UInt64 = 1) -> [IOVA] {
    precondition(span >= 4096, "a workload has at least a page")
    var generator = SeededGenerator(seed: seed)
    let pages = span >> 12
    let ranks = self == .zipf ? ZipfTable(count: pages) : nil
    return (0..<count).map { index in
      var page: UInt64
      switch self {
      case .hot: page = min(12345, pages - 1)
      case .sequential: page = UInt64(index) % pages
      case .random: page = generator.next() % pages
      case .zipf: page = ranks!.rank(using: &generator) &* 0x9e37_79b1 % pages
      }
      // The interrupt range is no memory: the MiB before it stands in.
      if VTd.isInterruptAddress(page << 12) { page -= 256 }
      return IOVA(page << 12 | generator.next() & 0xff8)
    }
  }
}

/// Chooses ranks by Zipf's law: rank r with a probability in proportion to (r + 1)^−0.99.
struct ZipfTable {
  private var sums: [Double] = []

  init(count: UInt64) {
    var sum = 0.0
    sums = (0..<count).map { rank in
      sum += pow(Double(rank + 1), -0.99)
      return sum
    }
  }

  func rank(using generator: inout SeededGenerator) -> UInt64 {
    let target = Double(generator.next() >> 11) * 0x1p-53 * sums[sums.count - 1]
    var low = 0
    var high = sums.count - 1
    while low < high {
      let middle = (low + high) / 2
      if sums[middle] < target { low = middle + 1 } else { high = middle }
    }
    return UInt64(low)
  }
}
