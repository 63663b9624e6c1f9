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
    func hundredths(_ value: Double) -> Double { (value * 100).rounded() / 100 }
    out.write("image           \(grouped(byteCount)) bytes\n")
    out.write("search          \(hundredths(searchRate / 1e9)) GB/s\n")
    out.write("streaming read  \(hundredths(readRate / 1e9)) GB/s (sum \(hexadecimal(checksum)))\n")
    out.write("ratio           \(hundredths(ratio))\n")
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
