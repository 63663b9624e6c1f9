import IOMMUFormats

/// A dump as physical memory: an ELF core, or raw bytes from address 0.
///
/// The file is mapped, not read: opening costs its headers, and pages come in when they are looked
/// at. *Absent* is not *zero*: an address that the dump does not hold gives `nil`.
///
/// The file must neither shrink nor change while the image is open. When it shrinks, the system
/// ends the program with SIGBUS at the first look beyond its new end.
public final class MemoryImage: PhysicalMemory, @unchecked Sendable {
  // Sendable: nothing is written after the initialiser.

  /// A run of memory from one source; those of an image ascend and do not overlap.
  @usableFromInline
  struct Segment {
    @usableFromInline let start: UInt64
    /// At least 1; `start + byteCount` is at most 2^64 − 1.
    @usableFromInline let byteCount: UInt64
    /// The first byte, in the mapped file; `nil` for zeros.
    @usableFromInline let bytes: UnsafeRawPointer?

    @usableFromInline
    init(start: UInt64, byteCount: UInt64, bytes: UnsafeRawPointer?) {
      self.start = start
      self.byteCount = byteCount
      self.bytes = bytes
    }
  }

  /// The file's path as it was given.
  public let path: String
  /// How the file holds memory.
  public let format: ImageFormat
  /// What the image holds: half-open, ascending, not touching each other.
  public let backedRanges: [Range<PhysicalAddress>]

  /// Keeps the bytes mapped that the segments point to.
  private let file: FileMapping
  /// At least one.
  @usableFromInline let segments: UnsafeMutablePointer<Segment>
  /// Memory up to the last segment's end, in equal parts of 2^bucketShift bytes: for the first byte
  /// of each the last segment that starts at or below it, and at the end the last segment.
  @usableFromInline let buckets: UnsafeMutablePointer<UInt32>
  @usableFromInline let bucketShift: UInt64
  @inlinable static var bucketCount: Int { 4096 }

  /// Opens a dump; the format is told by its first bytes.
  ///
  /// In an ELF core every PT_LOAD is memory at its physical address; memory beyond its bytes in the
  /// file is zero. Where several hold a byte, bytes of the file count before zeros, then the
  /// earlier header. A file without a known mark is raw.
  ///
  /// - Throws: ``ImageError`` when the file cannot be read, is damaged, is empty, or has a format
  ///   that is known and not read.
  /// - Complexity: O(*n* log *n*) in the number of program headers.
  public init(path: String) throws(ImageError) {
    let file = try FileMapping(path: path)
    if let foreign = ForeignFormat.recognised(file.bytes) {
      throw ImageError(
        file: path, offset: 0, found: "\(foreign.name), which is not read yet",
        remedy: foreign.remedy)
    }
    let pieces: [ImagePiece]
    if file.bytes.starts(with: ELF64.magic) {
      format = .elfCore
      pieces = disjointPieces(try ELFCoreReader(file: file).pieces())
    } else {
      format = .raw
      pieces = [
        ImagePiece(start: 0, end: UInt64(file.bytes.count), fileOffset: 0, priority: 0)
      ]
    }
    self.path = path
    self.file = file
    segments = .allocate(capacity: pieces.count)
    var ranges: [Range<PhysicalAddress>] = []
    for (index, piece) in pieces.enumerated() {
      // Safe: the reader has checked that each piece's bytes lie in the file.
      let bytes = piece.fileOffset.map { file.bytes.baseAddress! + Int($0) }
      (segments + index).initialize(
        to: Segment(start: piece.start, byteCount: piece.end - piece.start, bytes: bytes))
      let start = PhysicalAddress(piece.start)
      let end = PhysicalAddress(piece.end)
      if let last = ranges.last, last.upperBound == start {
        ranges[ranges.count - 1] = last.lowerBound..<end
      } else {
        ranges.append(start..<end)
      }
    }
    backedRanges = ranges
    let lastByte = pieces[pieces.count - 1].end - 1
    var shift: UInt64 = 0
    while lastByte >> shift >= UInt64(Self.bucketCount) { shift += 1 }
    bucketShift = shift
    buckets = .allocate(capacity: Self.bucketCount + 1)
    var index = 0
    for bucket in 0..<Self.bucketCount {
      let start = UInt64(bucket) << shift
      while index + 1 < pieces.count, pieces[index + 1].start <= start { index += 1 }
      (buckets + bucket).initialize(to: UInt32(index))
    }
    (buckets + Self.bucketCount).initialize(to: UInt32(pieces.count - 1))
  }

  deinit {
    segments.deallocate()
    buckets.deallocate()
  }

  /// Pages of the file: no dump stores more, whatever its headers claim.
  public var storedPageCount: UInt64 { UInt64(file.bytes.count) / 4096 + 1 }

  // MARK: Loads

  /// The last segment that starts at or below `address`; the first one when none does, any beyond
  /// the end of memory.
  ///
  /// The bucket of the address leaves one segment or a few to search: jumps of a search over all of
  /// them cannot be predicted, and cost more than everything else in a load.
  @inlinable @inline(__always)
  func segment(below address: UInt64) -> UnsafePointer<Segment> {
    let bucket = address &>> bucketShift
    guard bucket < UInt64(truncatingIfNeeded: Self.bucketCount) else {
      return UnsafePointer(segments)
    }
    // Safe: there is one element more than there are buckets.
    let index = Int(truncatingIfNeeded: bucket)
    var first = Int(truncatingIfNeeded: buckets[index])
    var count = Int(truncatingIfNeeded: buckets[index &+ 1]) &- first &+ 1
    while count > 1 {
      let half = count &>> 1
      // Safe: first + half is at most the next bucket's segment.
      if segments[first &+ half].start <= address { first &+= half }
      count &-= half
    }
    return UnsafePointer(segments + first)
  }

  @inlinable @inline(__always)
  func word<Word: FixedWidthInteger & UnsignedInteger>(_: Word.Type, at address: UInt64) -> Word? {
    let segment = segment(below: address)
    // Below the first segment this wraps and is past the end of any.
    let offset = address &- segment.pointee.start
    let byteCount = UInt64(truncatingIfNeeded: MemoryLayout<Word>.size)
    guard offset < segment.pointee.byteCount, segment.pointee.byteCount &- offset >= byteCount
    else { return wordByBytes(address, byteCount: byteCount).map { Word(truncatingIfNeeded: $0) } }
    guard let bytes = segment.pointee.bytes else { return 0 }
    // Safe: the guard has checked that the word lies in the segment, all of which is mapped.
    return Word(
      littleEndian: (bytes + Int(truncatingIfNeeded: offset)).loadUnaligned(as: Word.self))
  }

  /// A word that one segment does not hold: each byte from its own, `nil` when one is absent.
  @usableFromInline @inline(never)
  func wordByBytes(_ address: UInt64, byteCount: UInt64) -> UInt64? {
    var word: UInt64 = 0
    for index in 0..<byteCount {
      let (place, wraps) = address.addingReportingOverflow(index)
      let segment = segment(below: place).pointee
      let offset = place &- segment.start
      guard !wraps, offset < segment.byteCount else { return nil }
      // Safe: offset is below the segment's length.
      let byte = segment.bytes.map { ($0 + Int(offset)).load(as: UInt8.self) } ?? 0
      word |= UInt64(byte) << (8 * index)
    }
    return word
  }

  /// The little-endian quadword at `address`, aligned or not; `nil` when any byte is absent.
  @inlinable @inline(__always)
  public func quadword(at address: PhysicalAddress) -> UInt64? {
    word(UInt64.self, at: address.rawValue)
  }

  /// The little-endian doubleword at `address`, aligned or not; `nil` when any byte is absent.
  @inlinable @inline(__always)
  public func doubleword(at address: PhysicalAddress) -> UInt32? {
    word(UInt32.self, at: address.rawValue)
  }

  /// Copies bytes from `address` up to the buffer's length or the first absent byte.
  ///
  /// - Returns: Bytes copied; 0 when the first is absent.
  public func read(at address: PhysicalAddress, into buffer: UnsafeMutableRawBufferPointer) -> Int {
    var copied = 0
    while copied < buffer.count {
      let (place, wraps) = address.rawValue.addingReportingOverflow(UInt64(copied))
      let segment = segment(below: place).pointee
      let offset = place &- segment.start
      guard !wraps, offset < segment.byteCount else { break }
      let count = Int(min(UInt64(buffer.count - copied), segment.byteCount - offset))
      let target = UnsafeMutableRawBufferPointer(rebasing: buffer[copied..<copied + count])
      if let bytes = segment.bytes {
        // Safe: offset + count is at most the segment's length.
        target.copyMemory(from: UnsafeRawBufferPointer(start: bytes + Int(offset), count: count))
      } else {
        target.initializeMemory(as: UInt8.self, repeating: 0)
      }
      copied += count
    }
    return copied
  }
}
