import IOMMUFormats

/// Reads memory in large steps and tells its pages of zeros from the others.
final class ConversionReader {
  static let chunkByteCount = 1 << 20

  let image: MemoryImage
  private(set) var done: UInt64 = 0
  private let total: UInt64
  private let progress: (UInt64, UInt64) -> Void

  /// - Parameters:
  ///   - total: Bytes that will be read.
  ///   - progress: Told how many of them are.
  init(
    image: MemoryImage, total: UInt64, progress: @escaping (_ done: UInt64, _ total: UInt64) -> Void
  ) {
    self.image = image
    self.total = total
    self.progress = progress
  }

  /// Throws what the image says of itself when a byte of it was not there.
  func check() throws(ImageError) {
    if let problem = image.problems.first { throw problem }
  }

  /// Hands over the bytes of a range of memory in order: runs of pages that are not all zero, and
  /// `nil` for runs that are.
  ///
  /// - Precondition: the image holds the range.
  func forEachRun(
    in range: Range<PhysicalAddress>,
    _ body: (_ bytes: Span<UInt8>?, _ address: UInt64) throws(ImageError) -> Void
  ) throws(ImageError) {
    var piece = MemoryPiece()
    var address = range.lowerBound.rawValue
    while address < range.upperBound.rawValue {
      // Chunks end at multiples of their length, so that pages stay whole.
      let toEnd = UInt64(Self.chunkByteCount) - address % UInt64(Self.chunkByteCount)
      let count = Int(min(toEnd, range.upperBound.rawValue - address))
      piece.read(count, at: address, of: image)
      try note(piece)
      try split(piece.bytes, at: address, body)
      address += UInt64(count)
    }
  }

  /// Throws why a piece was not read; else counts its bytes as done.
  ///
  /// - Precondition: pieces ascend from call to call, and are whole up to the one before.
  func note(_ piece: MemoryPiece) throws(ImageError) {
    if let address = piece.failure {
      if let problem = image.problems(before: address + 1).first { throw problem }
      throw ImageError(
        file: image.path, place: "memory \(hexadecimal(address))",
        found: "could not be read", remedy: "the dump is damaged, copy it again")
    }
    done += piece.byteCount
    progress(done, total)
  }

  private func split(
    _ chunk: [UInt8], at address: UInt64,
    _ body: (Span<UInt8>?, UInt64) throws(ImageError) -> Void
  ) throws(ImageError) {
    let bytes = chunk.span
    var start = 0
    var isZeroRun = false
    var offset = 0
    func handRun() throws(ImageError) {
      try body(
        isZeroRun ? nil : bytes.extracting(start..<offset), address + UInt64(start))
    }
    while offset < bytes.count {
      let toEnd = 4096 - (Int(truncatingIfNeeded: address) + offset) & 4095
      let count = min(toEnd, bytes.count - offset)
      let isZero = bytes.extracting(offset..<offset + count).isAllZero
      if offset > start, isZero != isZeroRun {
        try handRun()
        start = offset
      }
      isZeroRun = isZero
      offset += count
    }
    try handRun()
  }
}

/// Memory that was read in one go.
struct MemoryPiece: Sendable {
  private(set) var bytes: [UInt8] = []
  /// Bytes that the image has; all others are zero.
  private(set) var byteCount: UInt64 = 0
  /// The first byte that could not be read; the piece ends there.
  private(set) var failure: UInt64?

  /// Bytes of one range.
  ///
  /// - Precondition: the image holds them.
  mutating func read(_ count: Int, at address: UInt64, of image: MemoryImage) {
    bytes.removeAll(keepingCapacity: true)
    (byteCount, failure) = (0, nil)
    append(count, at: address, of: image)
  }

  /// Whole pages. Bytes that the image does not hold are zero.
  ///
  /// - Parameter ranges: The image's ``MemoryImage/backedRanges``.
  mutating func readPages(
    _ count: Int, at start: UInt64, of image: MemoryImage, _ ranges: [Range<PhysicalAddress>]
  ) {
    bytes.removeAll(keepingCapacity: true)
    (byteCount, failure) = (0, nil)
    let last = start + UInt64(count - 1)
    var index = ranges.partitioningIndex { $0.upperBound.rawValue > start }
    while failure == nil, index < ranges.count, ranges[index].lowerBound.rawValue <= last {
      let from = max(ranges[index].lowerBound.rawValue, start)
      let to = min(ranges[index].upperBound.rawValue - 1, last)
      bytes.append(contentsOf: repeatElement(0, count: Int(from - start) - bytes.count))
      append(Int(to - from) + 1, at: from, of: image)
      index += 1
    }
    guard failure == nil else { return }
    bytes.append(contentsOf: repeatElement(0, count: count - bytes.count))
  }

  /// Counts one that follows this, without its bytes.
  mutating func count(_ next: MemoryPiece) {
    byteCount += next.byteCount
    failure = failure ?? next.failure
  }

  private mutating func append(_ count: Int, at address: UInt64, of image: MemoryImage) {
    let end = bytes.count + count
    bytes.append(addingCapacity: count) { image.read(at: address, into: &$0) }
    byteCount += UInt64(count)
    if bytes.count < end { failure = address + UInt64(count - (end - bytes.count)) }
  }
}
