import Glibc
import IOMMUFormats
import IOMMUInspection

/// How fast a search is, beside the machine's streaming read: a loop that adds up 256 MiB of memory.
///
/// Both run in turn, five times after a round that is not counted: the first brings a file's pages
/// into memory.
struct SearchMeasurement {
  /// Bytes of the image.
  let byteCount: UInt64
  /// Bytes per second, the median of the rounds.
  let searchRate: Double
  let readRate: Double
  /// The median of the rounds' ratios.
  let ratio: Double
  /// What the loop added up: a sum that nobody sees need not be computed.
  let checksum: UInt64

  private static let readByteCount = 256 << 20

  init(_ memory: some PhysicalMemory) {
    let buffer = UnsafeMutableRawBufferPointer.allocate(
      byteCount: Self.readByteCount, alignment: 4096)
    defer { buffer.deallocate() }
    for offset in stride(from: 0, to: buffer.count, by: 8) {
      buffer.storeBytes(of: UInt64(offset), toByteOffset: offset, as: UInt64.self)
    }
    var rates: [(search: Double, read: Double)] = []
    var byteCount: UInt64 = 0
    var checksum: UInt64 = 0
    for round in 0...5 {
      let start = Self.seconds()
      byteCount = TableSearch(in: memory).byteCount
      let middle = Self.seconds()
      checksum &+= Self.sum(UnsafeRawBufferPointer(buffer))
      let end = Self.seconds()
      guard round > 0 else { continue }
      rates.append(
        (Double(byteCount) / (middle - start), Double(Self.readByteCount) / (end - middle)))
    }
    self.byteCount = byteCount
    self.checksum = checksum
    searchRate = Self.median(rates.map(\.search))
    readRate = Self.median(rates.map(\.read))
    ratio = Self.median(rates.map { $0.search / $0.read })
  }

  func write(to out: inout some TextOutputStream) {
    out.write("image           \(grouped(byteCount)) bytes\n")
    out.write("search          \(Self.threeDigits(searchRate / 1e9)) GB/s\n")
    out.write(
      "streaming read  \(Self.threeDigits(readRate / 1e9)) GB/s (sum \(hexadecimal(checksum)))\n")
    out.write("ratio           \(Self.threeDigits(ratio))\n")
  }

  /// Two digits behind the point, and more for what is so small that two would be zeros.
  static func threeDigits(_ value: Double) -> String {
    guard value > 0, value < 0.1 else { return fixed(value, digits: 2) }
    var digits = 3
    var least = 0.01
    while value < least, digits < 12 {
      digits += 1
      least /= 10
    }
    return fixed(value, digits: digits + 1)
  }

  /// Adds up all quadwords, in four sums that do not wait for each other.
  private static func sum(_ bytes: UnsafeRawBufferPointer) -> UInt64 {
    var sums = (SIMD8<UInt64>.zero, SIMD8<UInt64>.zero, SIMD8<UInt64>.zero, SIMD8<UInt64>.zero)
    var offset = 0
    while offset + 256 <= bytes.count {
      // Safe: offset + 256 was checked.
      let base = bytes.baseAddress.unsafelyUnwrapped + offset
      sums.0 &+= base.loadUnaligned(as: SIMD8<UInt64>.self)
      sums.1 &+= base.loadUnaligned(fromByteOffset: 64, as: SIMD8<UInt64>.self)
      sums.2 &+= base.loadUnaligned(fromByteOffset: 128, as: SIMD8<UInt64>.self)
      sums.3 &+= base.loadUnaligned(fromByteOffset: 192, as: SIMD8<UInt64>.self)
      offset &+= 256
    }
    return (sums.0 &+ sums.1 &+ sums.2 &+ sums.3).wrappedSum()
  }

  private static func median(_ values: [Double]) -> Double { values.sorted()[values.count / 2] }

  private static func seconds() -> Double {
    var time = timespec()
    clock_gettime(CLOCK_MONOTONIC, &time)
    return Double(time.tv_sec) + Double(time.tv_nsec) / 1e9
  }
}

extension SearchMeasurement: Encodable {
  enum CodingKeys: String, CodingKey {
    case bytes, ratio
    case searchRate = "search_bytes_per_second"
    case readRate = "read_bytes_per_second"
  }

  func encode(to encoder: any Encoder) throws {
    var container = encoder.container(keyedBy: CodingKeys.self)
    try container.encode(hexadecimal(byteCount), forKey: .bytes)
    try container.encode(searchRate, forKey: .searchRate)
    try container.encode(readRate, forKey: .readRate)
    try container.encode(ratio, forKey: .ratio)
  }
}
