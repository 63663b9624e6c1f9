import IOMMUFormats

/// One file of a kdump-compressed dump: pages packed one by one, with bitmaps that say which are
/// there.
///
/// zlib, LZO, Snappy, Zstandard and unpacked pages may be mixed. Pages of zeros may share one
/// descriptor's bytes.
struct KdumpFile: Sendable {
  let file: DumpFile
  let header: KdumpHeader
  /// Pages that were dumped, those of the other files of a split dump too.
  let dumped: FrameBitmap
  /// Dumped pages before this file's first: its descriptors start after them.
  private let firstRank: UInt64

  /// The descriptors that this file should have, as far as its bitmap is known.
  let descriptorCount: UInt64
  /// Whether this file is known to lack pages that it should have: its disk was full, or it ends
  /// too early.
  private(set) var isIncomplete: Bool

  init(_ file: DumpFile) throws(ImageError) {
    self.file = file
    let header = try KdumpHeader(file)
    self.header = header
    dumped = FrameBitmap(
      file: file, offset: header.dumpedBitmap, frameCount: header.frameCount)
    firstRank = dumped.rank(of: header.frames.lowerBound)
    descriptorCount = dumped.rank(of: header.frames.upperBound) - firstRank
    isIncomplete = header.isIncomplete
    if !isIncomplete { isIncomplete = endsTooEarly() }
  }

  /// Frames of this file of which the bitmap does not say whether they were dumped: it is cut off.
  var unknownFrames: Range<UInt64> {
    let known = dumped.knownFrameCount
    return min(
      max(known, header.frames.lowerBound), header.frames.upperBound)..<header.frames.upperBound
  }

  /// Whether the last page with bytes of its own is not in the file. Pages are written in the order
  /// of their frames, but those of zeros share the bytes of one that comes first: where the last
  /// pages are such, the last before them counts.
  private func endsTooEarly() -> Bool {
    guard unknownFrames.isEmpty else { return true }
    guard descriptorCount > 0 else { return false }
    // Descriptors in a hole were never written.
    if storedDescriptorCount < descriptorCount { return true }
    var index = descriptorCount - 1
    let last = descriptor(at: index)
    if isLost(last) { return true }
    let first = index - min(index, Self.descriptorsLookedAt)
    while index > first {
      index -= 1
      let descriptor = descriptor(at: index)
      if descriptor.offset != last.offset {
        return descriptor.offset > last.offset && isLost(descriptor)
      }
    }
    return false
  }

  /// Descriptors that are stored, in part at least: no more pages can be.
  var storedDescriptorCount: UInt64 {
    let stride = Descriptor.byteCount
    let table = header.descriptors..<header.descriptors + descriptorCount * stride
    return min(descriptorCount, (file.storedByteCount(in: table) + stride - 1) / stride)
  }

  /// Descriptors that opening looks at; the pages of a dump whose last million pages are zero are
  /// found to be lost when they are read.
  private static let descriptorsLookedAt: UInt64 = 1 << 20

  /// What is strange about this file and no error.
  var warnings: [String] {
    var warnings: [String] = []
    if header.version > KdumpLayout.currentVersion {
      warnings.append(
        "\(file.path): header version \(header.version) is newer than "
          + "\(KdumpLayout.currentVersion), and is read as that")
    }
    if header.isMiscounted {
      warnings.append(
        "\(file.path): the header counts one bitmap of the two that are there, as kdumpling's "
          + "does; read with two")
    }
    return warnings
  }

  /// Where a page's packed bytes lie.
  struct Descriptor {
    static let byteCount = KdumpLayout.Descriptor.byteCount
    var place: UInt64
    var offset: UInt64
    var byteCount: UInt64
    var flags: UInt32

    var packing: UInt32 { flags & PageCodec.mask }

    /// - Precondition: the bytes are as many as a descriptor has.
    init(at place: UInt64, _ bytes: Span<UInt8>) {
      self.place = place
      offset = bytes.integer(UInt64.self, at: Int(KdumpLayout.Descriptor.offset))
      byteCount = UInt64(bytes.integer(UInt32.self, at: Int(KdumpLayout.Descriptor.size)))
      flags = bytes.integer(UInt32.self, at: Int(KdumpLayout.Descriptor.flags))
    }

    /// That of a page of which nothing is there.
    init(lostAt place: UInt64) {
      self.place = place
      offset = 0
      byteCount = 0
      flags = 0
    }
  }

  /// Whether a page is not in the file: its descriptor was never written or is cut off, or its
  /// packed bytes are. No page lies at the header.
  func isLost(_ descriptor: Descriptor) -> Bool {
    descriptor.offset == 0
      || descriptor.byteCount <= header.pageByteCount
        && !file.holds(descriptor.byteCount, at: descriptor.offset)
  }

  /// The number of the descriptor of a dumped page of this file.
  func descriptorIndex(of frame: UInt64) -> UInt64 { dumped.rank(of: frame) - firstRank }

  /// The descriptor of a number; that of a lost page when the file ends before it.
  func descriptor(at index: UInt64) -> Descriptor {
    let place = header.descriptors + index * Descriptor.byteCount
    return file.withBytes(at: place, count: Int(Descriptor.byteCount)) {
      descriptor(at: place, $0)
    } ?? Descriptor(lostAt: place)
  }

  private func descriptor(at place: UInt64, _ bytes: Span<UInt8>) -> Descriptor {
    var descriptor = Descriptor(at: place, bytes)
    // The flag is on every page of such a file; alone it means Snappy where the page is packed.
    let isSnappy = descriptor.packing == PageCodec.snappy.rawValue
    if header.isMiscounted, !isSnappy || descriptor.byteCount == header.pageByteCount {
      descriptor.flags &= ~PageCodec.snappy.rawValue
    }
    return descriptor
  }

  /// Appends descriptors that follow each other: as many as lie in the file in a row, or that of one
  /// lost page.
  ///
  /// - Precondition: the first is one of this file's; `count` is not 0.
  func appendDescriptors(from index: UInt64, atMost count: UInt64, to list: inout [Descriptor]) {
    let stride = Descriptor.byteCount
    let start = header.descriptors + index * stride
    let known = min(count, file.knownByteCount(from: start) / stride)
    let isRead: Void? = file.withBytes(at: start, count: Int(known * stride)) { bytes in
      for number in 0..<known {
        let from = Int(number * stride)
        list.append(
          descriptor(at: start + number * stride, bytes.extracting(from..<from + Int(stride))))
      }
    }
    if known == 0 || isRead == nil { list.append(Descriptor(lostAt: start)) }
  }

  /// Goes through the dumped frames that this file should have, ascending, in runs that are there
  /// and runs that are lost.
  ///
  /// - Complexity: O(*n*) in the bitmap's bytes, and in the descriptors that are stored of a file that
  ///   is incomplete.
  func forEachRun(_ body: (_ frames: Range<UInt64>, _ isLost: Bool) -> Void) {
    var descriptors = KdumpDescriptors(self)
    dumped.forEachRun(in: header.frames) { run in
      guard isIncomplete else { return body(run, false) }
      var start = run.lowerBound
      var wasLost = false
      var frame = run.lowerBound
      while frame < run.upperBound {
        let skipped = descriptors.skipLost(atMost: run.upperBound - frame)
        let isLost = skipped > 0 || descriptors.next().map { self.isLost($0) } ?? true
        if isLost != wasLost, frame > start {
          body(start..<frame, wasLost)
          start = frame
        }
        wasLost = isLost
        frame += max(skipped, 1)
      }
      body(start..<run.upperBound, wasLost)
    }
  }

  /// Unpacks a dumped page of this file into room for a page.
  func unpack(
    frame: UInt64, into output: inout OutputSpan<UInt8>
  ) throws(KdumpPageFailure) {
    try unpack(at: descriptorIndex(of: frame), into: &output)
  }

  /// The same by the number of the page's descriptor.
  func unpack(
    at index: UInt64, into output: inout OutputSpan<UInt8>
  ) throws(KdumpPageFailure) {
    let descriptor = descriptor(at: index)
    // Packed bytes that are no fewer than the page's would have been stored unpacked.
    guard descriptor.byteCount <= header.pageByteCount else {
      throw damaged(descriptor, "\(descriptor.byteCount) packed bytes, more than a page")
    }
    if isLost(descriptor) { throw .lost(lost(descriptor)) }
    let codec = try codec(descriptor)
    let isWhole = file.withBytes(at: descriptor.offset, count: Int(descriptor.byteCount)) {
      let pageByteCount = Int(header.pageByteCount)
      if let codec { return codec.unpack($0, pageByteCount, into: &output) }
      guard $0.count == pageByteCount else { return false }
      output.append(copying: $0)
      return true
    }
    switch isWhole {
    // A file that cannot be mapped, and could not be read.
    case nil: throw .lost(lost(descriptor))
    case false?:
      throw damaged(
        descriptor,
        codec.map { "\($0.codec) data that does not unpack to a page" }
          ?? "an unpacked page of \(descriptor.byteCount) bytes")
    case true?: return
    }
  }

  /// How a page is packed; `nil` for one that is not.
  private func codec(_ descriptor: Descriptor) throws(KdumpPageFailure) -> LoadedCodec? {
    if descriptor.packing == 0 { return nil }
    guard let codec = PageCodec(rawValue: descriptor.packing) else {
      throw damaged(
        descriptor, "flags \(hexadecimal(descriptor.flags)), which name no one packing")
    }
    guard let loaded = codec.loaded else { throw .locked(codec, error(descriptor, "")) }
    return loaded
  }

  private func damaged(_ descriptor: Descriptor, _ found: String) -> KdumpPageFailure {
    .damaged(error(descriptor, found))
  }

  private func lost(_ descriptor: Descriptor) -> ImageError {
    error(
      descriptor,
      descriptor.offset == 0
        ? "no bytes for this page"
        : "\(descriptor.byteCount) bytes at byte \(hexadecimal(descriptor.offset)) of "
          + "\(hexadecimal(file.byteCount))")
  }

  private func error(_ descriptor: Descriptor, _ found: String) -> ImageError {
    ImageError(
      file: file.path, place: "page descriptor",
      offset: descriptor.place, found: found, remedy: "the dump is damaged, copy it again")
  }
}

/// Why a page of a kdump-compressed file cannot be given; the error tells where its descriptor is.
enum KdumpPageFailure: Error {
  /// Its descriptor or its bytes were never written, or are cut off.
  case lost(ImageError)
  /// What unpacks it is not installed.
  case locked(PageCodec, ImageError)
  /// What is there does not make a page.
  case damaged(ImageError)
}

/// The descriptors of a file one after the other, read in chunks.
struct KdumpDescriptors {
  private static let chunkCount: UInt64 = 1024
  private let file: KdumpFile
  private var chunk: [KdumpFile.Descriptor] = []
  private var position = 0
  private var index: UInt64 = 0

  init(_ file: KdumpFile) { self.file = file }

  /// Passes over descriptors that are not stored, in a hole or beyond the end of the file.
  ///
  /// - Returns: How many; 0 where the next one is stored.
  mutating func skipLost(atMost limit: UInt64 = .max) -> UInt64 {
    guard position == chunk.count, index < file.descriptorCount else { return 0 }
    let stride = KdumpFile.Descriptor.byteCount
    let place = file.header.descriptors + index * stride
    let next = file.file.firstStoredByte(from: place)
    let room = min(limit, file.descriptorCount - index)
    let lost =
      next >= file.file.byteCount ? room : min(room, (next - min(next, place)) / stride)
    index += lost
    return lost
  }

  /// The next one; `nil` after the last. One that is cut off is that of a lost page.
  mutating func next() -> KdumpFile.Descriptor? {
    if position == chunk.count {
      guard index < file.descriptorCount else { return nil }
      chunk.removeAll(keepingCapacity: true)
      file.appendDescriptors(
        from: index, atMost: min(Self.chunkCount, file.descriptorCount - index), to: &chunk)
      index += UInt64(chunk.count)
      position = 0
    }
    position += 1
    return chunk[position - 1]
  }
}
