import IOMMUFormats

/// Runs of memory that lie in a mapped file or are zero, and the one that holds an address.
///
/// Loads come here from every walk over a dump. They check their bounds themselves, against segments
/// whose bytes were checked against the file when the table was made.
@safe @usableFromInline
struct SegmentTable: ~Copyable, @unchecked Sendable {
  // Safe: both lists are this table's from the initialiser to `deinit`, and as long as the counts
  // below say; the bytes of every segment lie in the mapping, which the table keeps. Sendable:
  // nothing is written after the initialiser.

  /// A run of memory from one source; those of a table ascend and do not overlap.
  @unsafe @usableFromInline
  struct Segment {
    @usableFromInline let start: UInt64
    /// At least 1, but for the one segment of an empty table; `start + byteCount` is at most
    /// 2^64 − 1.
    @usableFromInline let byteCount: UInt64
    /// The first byte, in the mapped file; `nil` for zeros.
    @usableFromInline let bytes: UnsafeRawPointer?

    init(start: UInt64, byteCount: UInt64, bytes: UnsafeRawPointer?) {
      unsafe self.start = start
      unsafe self.byteCount = byteCount
      unsafe self.bytes = bytes
    }
  }

  /// At least one; of a table without memory one that holds no byte.
  @usableFromInline let segments: UnsafeMutablePointer<Segment>
  /// Memory up to the last segment's end, in equal parts of 2^bucketShift bytes: for the first byte
  /// of each the last segment that starts at or below it, and at the end the last segment.
  @usableFromInline let buckets: UnsafeMutablePointer<UInt32>
  @usableFromInline let bucketShift: UInt64
  @inlinable static var bucketCount: Int { 4096 }
  /// Where the bytes lie.
  private let mapping: FileMapping?

  /// - Precondition: the pieces ascend, do not overlap and are not lost; those with bytes have them
  ///   in the mapping.
  init(_ pieces: [ImagePiece], in mapping: FileMapping?) {
    self.mapping = mapping
    unsafe segments = .allocate(capacity: max(1, pieces.count))
    unsafe segments.initialize(to: Segment(start: 0, byteCount: 0, bytes: nil))
    for (index, piece) in pieces.enumerated() {
      var start: UnsafeRawPointer?
      if case .file(let offset) = piece.source {
        guard let mapping, offset <= mapping.byteCount,
          piece.byteCount <= UInt64(mapping.byteCount) - offset
        else { preconditionFailure("a piece lies in its file") }
        unsafe start = mapping.bytes.baseAddress! + Int(offset)
      }
      unsafe (segments + index).initialize(
        to: Segment(start: piece.start, byteCount: piece.byteCount, bytes: start))
    }
    let lastByte = pieces.last.map { $0.end - 1 } ?? 0
    var shift: UInt64 = 0
    while lastByte >> shift >= UInt64(Self.bucketCount) { shift += 1 }
    bucketShift = shift
    unsafe buckets = .allocate(capacity: Self.bucketCount + 1)
    var index = 0
    for bucket in 0..<Self.bucketCount {
      let start = UInt64(bucket) << shift
      while index + 1 < pieces.count, pieces[index + 1].start <= start { index += 1 }
      unsafe (buckets + bucket).initialize(to: UInt32(index))
    }
    unsafe (buckets + Self.bucketCount).initialize(to: UInt32(max(1, pieces.count) - 1))
  }

  deinit {
    unsafe segments.deallocate()
    unsafe buckets.deallocate()
  }

  /// Goes through what the table was made of, ascending.
  func forEach(_ body: (ImagePiece) -> Void) {
    // Safe: the bucket at the end has the last segment's index.
    for index in 0...Int(unsafe buckets[Self.bucketCount]) {
      let segment = unsafe segments[index]
      guard unsafe segment.byteCount > 0 else { continue }
      var source = ImagePiece.Source.zeros
      if let bytes = unsafe segment.bytes, let start = unsafe mapping?.bytes.baseAddress {
        // Safe: both point into the mapping, as the initialiser has checked.
        source = unsafe .file(UInt64(bytes - start))
      }
      unsafe body(
        ImagePiece(
          start: segment.start, end: segment.start + segment.byteCount, source: source,
          priority: 0))
    }
  }

  // MARK: Loads

  /// The last segment that starts at or below `address`; the first one when none does, any beyond
  /// the end of memory.
  ///
  /// The bucket of the address leaves one segment or a few to search: jumps of a search over all of
  /// them cannot be predicted, and cost more than everything else in a load.
  @unsafe @inlinable @inline(__always)
  func segment(below address: UInt64) -> UnsafePointer<Segment> {
    let bucket = address &>> bucketShift
    guard bucket < UInt64(truncatingIfNeeded: Self.bucketCount) else {
      return unsafe UnsafePointer(segments)
    }
    // Safe: there is one element more than there are buckets.
    let index = Int(truncatingIfNeeded: bucket)
    var first = unsafe Int(truncatingIfNeeded: buckets[index])
    var count = unsafe Int(truncatingIfNeeded: buckets[index &+ 1]) &- first &+ 1
    while count > 1 {
      let half = count &>> 1
      // Safe: first + half is at most the next bucket's segment.
      if unsafe segments[first &+ half].start <= address { first &+= half }
      count &-= half
    }
    return unsafe UnsafePointer(segments + first)
  }

  /// The little-endian word at an address where one segment holds all of it.
  @inlinable @inline(__always)
  func word<Word: FixedWidthInteger & UnsignedInteger & BitwiseCopyable>(
    _: Word.Type, at address: UInt64
  ) -> Word? {
    let segment = unsafe segment(below: address)
    // Below the first segment this wraps and is past the end of any.
    let offset = unsafe address &- segment.pointee.start
    let byteCount = UInt64(truncatingIfNeeded: MemoryLayout<Word>.size)
    guard unsafe offset < segment.pointee.byteCount,
      unsafe segment.pointee.byteCount &- offset >= byteCount
    else { return nil }
    guard let bytes = unsafe segment.pointee.bytes else { return 0 }
    // Safe: the guard has checked that the word lies in the segment, all of which is mapped.
    return unsafe Word(
      littleEndian: (bytes + Int(truncatingIfNeeded: offset)).loadUnaligned(as: Word.self))
  }

  /// What there is of an address.
  func presence(of address: UInt64) -> Presence {
    let segment = unsafe segment(below: address).pointee
    guard unsafe address &- segment.start < segment.byteCount else { return .absent }
    return unsafe segment.bytes == nil ? .zeroFill : .stored
  }

  /// The bytes from an address up to the end of their segment; `nil` for zeros and for no memory.
  @unsafe func bytes(from address: UInt64) -> UnsafeRawBufferPointer? {
    let segment = unsafe segment(below: address).pointee
    let offset = unsafe address &- segment.start
    guard unsafe offset < segment.byteCount, let bytes = unsafe segment.bytes else { return nil }
    // Safe: offset is below the segment's length, all of which is mapped.
    return unsafe UnsafeRawBufferPointer(
      start: bytes + Int(offset), count: Int(segment.byteCount - offset))
  }

  /// Appends bytes from `address` on until `output` is full or one does not answer.
  func read(at address: UInt64, into output: inout OutputSpan<UInt8>) {
    var place = address
    while !output.isFull {
      let segment = unsafe segment(below: place).pointee
      let offset = unsafe place &- segment.start
      guard unsafe offset < segment.byteCount else { return }
      let count = unsafe Int(min(UInt64(output.freeCapacity), segment.byteCount - offset))
      if let bytes = unsafe segment.bytes {
        // Safe: offset + count is at most the segment's length, all of which is mapped.
        let part = unsafe Span<UInt8>(
          _unsafeBytes: UnsafeRawBufferPointer(start: bytes + Int(offset), count: count))
        output.append(copying: part)
      } else {
        output.append(repeating: 0, count: count)
      }
      // At most the segment's end.
      place += UInt64(count)
    }
  }
}
