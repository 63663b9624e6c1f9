import IOMMUFormats

/// Reads memory in large steps and tells its pages of zeros from the others.
final class ConversionReader {
  static let chunkByteCount = 1 << 20

  let image: MemoryImage
  private(set) var done: UInt64 = 0
  private let total: UInt64
  private let progress: (UInt64, UInt64) -> Void
  private let ranges: [Range<PhysicalAddress>]
  /// The first range that ``forEachPage(in:pageByteCount:_:)`` has not gone through.
  private var nextRange = 0

  /// - Parameters:
  ///   - total: Bytes that will be read.
  ///   - progress: Told how many of them are.
  init(
    image: MemoryImage, total: UInt64, progress: @escaping (_ done: UInt64, _ total: UInt64) -> Void
  ) {
    self.image = image
    self.total = total
    self.progress = progress
    ranges = image.backedRanges
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
    var chunk: [UInt8] = []
    var address = range.lowerBound.rawValue
    while address < range.upperBound.rawValue {
      // Chunks end at multiples of their length, so that pages stay whole.
      let toEnd = UInt64(Self.chunkByteCount) - address % UInt64(Self.chunkByteCount)
      let count = Int(min(toEnd, range.upperBound.rawValue - address))
      chunk.removeAll(keepingCapacity: true)
      try append(count, at: address, to: &chunk)
      try split(chunk, at: address, body)
      address += UInt64(count)
    }
  }

  /// Hands over whole pages of a run of frames in order, those of `nil` all zero. Bytes of a page
  /// that the image does not hold are zero.
  ///
  /// - Precondition: runs ascend from call to call, and the image holds a byte of each page.
  func forEachPage(
    in frames: Range<UInt64>, pageByteCount: UInt64,
    _ body: (Span<UInt8>?) throws(ImageError) -> Void
  ) throws(ImageError) {
    let chunkFrameCount = UInt64(Self.chunkByteCount) / pageByteCount
    var chunk: [UInt8] = []
    var frame = frames.lowerBound
    while frame < frames.upperBound {
      let count = min(chunkFrameCount, frames.upperBound - frame)
      chunk.removeAll(keepingCapacity: true)
      try appendPages(Int(count * pageByteCount), at: frame * pageByteCount, to: &chunk)
      let bytes = chunk.span
      for offset in stride(from: 0, to: bytes.count, by: Int(pageByteCount)) {
        let page = bytes.extracting(offset..<offset + Int(pageByteCount))
        try body(page.isAllZero ? nil : page)
      }
      frame += count
    }
  }

  /// The parts of a chunk that the image holds, zeros between them.
  private func appendPages(
    _ byteCount: Int, at start: UInt64, to chunk: inout [UInt8]
  ) throws(ImageError) {
    let last = start + UInt64(byteCount - 1)
    func appendZeros(upTo end: Int) {
      chunk.append(contentsOf: repeatElement(0, count: end - chunk.count))
    }
    while nextRange < ranges.count, ranges[nextRange].upperBound.rawValue <= start {
      nextRange += 1
    }
    while nextRange < ranges.count, ranges[nextRange].lowerBound.rawValue <= last {
      let range = ranges[nextRange]
      let from = Int(max(range.lowerBound.rawValue, start) - start)
      let to = Int(min(range.upperBound.rawValue - 1, last) - start) + 1
      appendZeros(upTo: from)
      try append(to - from, at: start + UInt64(from), to: &chunk)
      guard range.upperBound.rawValue - 1 <= last else { break }
      nextRange += 1
    }
    appendZeros(upTo: byteCount)
  }

  private func append(
    _ count: Int, at address: UInt64, to chunk: inout [UInt8]
  ) throws(ImageError) {
    let end = chunk.count + count
    chunk.append(addingCapacity: count) { image.read(at: address, into: &$0) }
    guard chunk.count == end else {
      try check()
      throw ImageError(
        file: image.path, place: "memory \(hexadecimal(address))",
        found: "could not be read", remedy: "the dump is damaged, copy it again")
    }
    done += UInt64(count)
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
