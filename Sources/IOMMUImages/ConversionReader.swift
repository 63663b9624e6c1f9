import IOMMUFormats

/// Reads memory in large steps and tells its pages of zeros from the others.
final class ConversionReader {
  static let chunkByteCount = 1 << 20

  let image: MemoryImage
  private(set) var done: UInt64 = 0
  private let total: UInt64
  private let progress: (UInt64, UInt64) -> Void
  private let buffer: UnsafeMutableRawBufferPointer
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
    buffer = .allocate(byteCount: Self.chunkByteCount, alignment: 4096)
  }

  deinit { buffer.deallocate() }

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
    _ body: (_ bytes: UnsafeRawBufferPointer?, _ address: UInt64) throws(ImageError) -> Void
  ) throws(ImageError) {
    var address = range.lowerBound.rawValue
    while address < range.upperBound.rawValue {
      // Chunks end at multiples of their length, so that pages stay whole.
      let toEnd = UInt64(Self.chunkByteCount) - address % UInt64(Self.chunkByteCount)
      let count = Int(min(toEnd, range.upperBound.rawValue - address))
      let chunk = UnsafeMutableRawBufferPointer(rebasing: buffer[..<count])
      try fill(chunk, at: address)
      try split(UnsafeRawBufferPointer(chunk), at: address, body)
      address += UInt64(count)
    }
  }

  /// Hands over whole pages of a run of frames in order, those of `nil` all zero. Bytes of a page
  /// that the image does not hold are zero.
  ///
  /// - Precondition: runs ascend from call to call, and the image holds a byte of each page.
  func forEachPage(
    in frames: Range<UInt64>, pageByteCount: UInt64,
    _ body: (UnsafeRawBufferPointer?) throws(ImageError) -> Void
  ) throws(ImageError) {
    let chunkFrameCount = UInt64(Self.chunkByteCount) / pageByteCount
    var frame = frames.lowerBound
    while frame < frames.upperBound {
      let count = min(chunkFrameCount, frames.upperBound - frame)
      let start = frame * pageByteCount
      let chunk = UnsafeMutableRawBufferPointer(rebasing: buffer[..<Int(count * pageByteCount)])
      try fillPages(chunk, at: start)
      for offset in stride(from: 0, to: chunk.count, by: Int(pageByteCount)) {
        let page = UnsafeRawBufferPointer(
          rebasing: chunk[offset..<offset + Int(pageByteCount)])
        try body(isAllZero(page) ? nil : page)
      }
      frame += count
    }
  }

  /// The parts of a chunk that the image holds, zeros between them.
  private func fillPages(_ chunk: UnsafeMutableRawBufferPointer, at start: UInt64)
    throws(ImageError)
  {
    let last = start + UInt64(chunk.count - 1)
    var filled = 0
    while nextRange < ranges.count, ranges[nextRange].lowerBound.rawValue <= last {
      let range = ranges[nextRange]
      let from = Int(max(range.lowerBound.rawValue, start) - start)
      let to = Int(min(range.upperBound.rawValue - 1, last) - start) + 1
      if from > filled {
        UnsafeMutableRawBufferPointer(rebasing: chunk[filled..<from])
          .initializeMemory(as: UInt8.self, repeating: 0)
      }
      try fill(
        UnsafeMutableRawBufferPointer(rebasing: chunk[from..<to]), at: start + UInt64(from))
      filled = to
      guard range.upperBound.rawValue - 1 <= last else { break }
      nextRange += 1
    }
    UnsafeMutableRawBufferPointer(rebasing: chunk[filled...])
      .initializeMemory(as: UInt8.self, repeating: 0)
  }

  private func fill(_ chunk: UnsafeMutableRawBufferPointer, at address: UInt64)
    throws(ImageError)
  {
    guard image.read(at: PhysicalAddress(address), into: chunk) == chunk.count else {
      try check()
      throw ImageError(
        file: image.path, place: "memory \(hexadecimal(address))",
        found: "could not be read", remedy: "the dump is damaged, copy it again")
    }
    done += UInt64(chunk.count)
    progress(done, total)
  }

  private func split(
    _ chunk: UnsafeRawBufferPointer, at address: UInt64,
    _ body: (UnsafeRawBufferPointer?, UInt64) throws(ImageError) -> Void
  ) throws(ImageError) {
    var start = 0
    var isZeroRun = false
    var offset = 0
    while offset < chunk.count {
      let toEnd = 4096 - (Int(truncatingIfNeeded: address) + offset) & 4095
      let count = min(toEnd, chunk.count - offset)
      let isZero = isAllZero(UnsafeRawBufferPointer(rebasing: chunk[offset..<offset + count]))
      if offset > start, isZero != isZeroRun {
        try hand(chunk, start..<offset, isZeroRun, address, body)
        start = offset
      }
      isZeroRun = isZero
      offset += count
    }
    try hand(chunk, start..<offset, isZeroRun, address, body)
  }

  private func hand(
    _ chunk: UnsafeRawBufferPointer, _ run: Range<Int>, _ isZero: Bool, _ address: UInt64,
    _ body: (UnsafeRawBufferPointer?, UInt64) throws(ImageError) -> Void
  ) throws(ImageError) {
    try body(
      isZero ? nil : UnsafeRawBufferPointer(rebasing: chunk[run]), address + UInt64(run.lowerBound))
  }
}

/// Whether bytes are all zero.
func isAllZero(_ bytes: UnsafeRawBufferPointer) -> Bool {
  var offset = 0
  // Four words at a time: the first word of a page is zero more often than not.
  while bytes.count - offset >= 32 {
    let first = bytes.loadUnaligned(fromByteOffset: offset, as: UInt64.self)
    let second = bytes.loadUnaligned(fromByteOffset: offset + 8, as: UInt64.self)
    let third = bytes.loadUnaligned(fromByteOffset: offset + 16, as: UInt64.self)
    let fourth = bytes.loadUnaligned(fromByteOffset: offset + 24, as: UInt64.self)
    if first | second | third | fourth != 0 { return false }
    offset += 32
  }
  while offset < bytes.count {
    if bytes[offset] != 0 { return false }
    offset += 1
  }
  return true
}
