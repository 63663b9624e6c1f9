import IOMMUFormats

/// A dump as physical memory: an ELF core, a kdump-compressed dump in one file or several, raw bytes
/// from address 0; each also as a flattened stream; or the memory of the machine that runs.
///
/// Opening costs the headers, and no byte is read before it is looked at. A plain ELF core or raw
/// file is mapped, and words are read in place; of packed pages a bounded number is kept. Any
/// number of threads may read at once.
///
/// *Absent* is not *zero*: an address that the dump does not hold gives `nil`, whether the dump
/// leaves its page out or the machine has no memory there; ``presence(of:)`` tells which.
///
/// A file that shrinks, a disk that fails, a page that is damaged or needs a library that is not
/// installed: none of these ends the program. The bytes concerned are absent or zero, and
/// ``problem`` says so; ask for it before answers are believed.
public final class MemoryImage: PhysicalMemory, @unchecked Sendable {
  // Sendable: nothing is written after the initialiser but caches, which have locks.

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

  /// The path of the first file as it was given.
  public let path: String
  /// How the file holds memory.
  public let format: ImageFormat

  /// The files; they keep the bytes mapped that the segments point to.
  let files: [DumpFile]
  /// Memory that cannot be looked at in place; `nil` when the segments are all there is.
  let paged: (any PagedMemory)?
  private let rangesInPlace: [Range<PhysicalAddress>]
  /// At least one; of paged memory one that holds no byte.
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
  /// - Complexity: O(*n* log *n*) in the number of program headers, or of a flattened stream's
  ///   records; O(*n*) in the bytes stored of a kdump-compressed file's bitmap.
  public convenience init(path: String) throws(ImageError) { try self.init(paths: [path]) }

  /// Opens the files that `makedumpfile --split` made of one dump, in any order; or one file, as
  /// ``init(path:)`` does.
  ///
  /// - Throws: as ``init(path:)``, and when the files are not parts of one dump.
  /// - Precondition: there is a path.
  public convenience init(paths: [String]) throws(ImageError) {
    var files: [DumpFile] = []
    for path in paths { files.append(try DumpFile(FileBytes(path: path))) }
    try self.init(files)
  }

  /// - Precondition: there is a file.
  init(_ files: [DumpFile]) throws(ImageError) {
    precondition(!files.isEmpty, "an image has a file")
    for file in files {
      guard let foreign = ForeignFormat.recognised(file) else { continue }
      throw ImageError(
        file: file.path, offset: 0, found: "\(foreign.name), which is not read",
        remedy: foreign.remedy)
    }
    let first = files[0]
    self.files = files
    path = first.path
    format = Self.format(of: first)
    for file in files.dropFirst()
    where format != .kdumpCompressed || Self.format(of: file) != format {
      throw ImageError(
        file: file.path, found: "is not a part of a split kdump-compressed dump",
        remedy: "name one file; only 'makedumpfile --split' makes several")
    }
    var pieces: [ImagePiece] = []
    switch format {
    case .kdumpCompressed: paged = try KdumpMemory(files)
    case .elfCore:
      pieces = disjointPieces(try ELFCoreReader(file: first).pieces())
      paged = first.bytesInPlace == nil ? PieceMemory(file: first, pieces: pieces) : nil
    case .raw:
      pieces = [ImagePiece(start: 0, end: first.byteCount, fileOffset: 0, priority: 0)]
      paged = first.bytesInPlace == nil ? PieceMemory(file: first, pieces: pieces) : nil
    case .device:
      paged = PieceMemory(file: first, pieces: try SystemRAM.pieces())
    }
    // Headers that could not be read must not pass for what they seem to say.
    for file in files {
      if let problem = file.file.problem { throw problem }
    }
    if paged != nil { pieces = [] }
    rangesInPlace = joinedRanges(pieces)
    segments = Self.segments(pieces, in: first.bytesInPlace)
    (buckets, bucketShift) = Self.buckets(pieces)
  }

  private static func format(of file: DumpFile) -> ImageFormat {
    if file.file.isDevice { return .device }
    if file.starts(with: ELF64.magic) { return .elfCore }
    if file.starts(with: KdumpLayout.kdumpMagic) || file.starts(with: KdumpLayout.diskdumpMagic) {
      return .kdumpCompressed
    }
    return .raw
  }

  /// The pieces as pointers into the mapped file; one without bytes when there are none, so that
  /// every look misses it.
  private static func segments(
    _ pieces: [ImagePiece], in bytes: UnsafeRawBufferPointer?
  ) -> UnsafeMutablePointer<Segment> {
    let segments = UnsafeMutablePointer<Segment>.allocate(capacity: max(1, pieces.count))
    segments.initialize(to: Segment(start: 0, byteCount: 0, bytes: nil))
    for (index, piece) in pieces.enumerated() {
      // Safe: the reader has checked that each piece's bytes lie in the file.
      let start = piece.fileOffset.map { bytes!.baseAddress! + Int($0) }
      (segments + index).initialize(
        to: Segment(start: piece.start, byteCount: piece.end - piece.start, bytes: start))
    }
    return segments
  }

  private static func buckets(
    _ pieces: [ImagePiece]
  ) -> (UnsafeMutablePointer<UInt32>, shift: UInt64) {
    let lastByte = pieces.last.map { $0.end - 1 } ?? 0
    var shift: UInt64 = 0
    while lastByte >> shift >= UInt64(bucketCount) { shift += 1 }
    let buckets = UnsafeMutablePointer<UInt32>.allocate(capacity: bucketCount + 1)
    var index = 0
    for bucket in 0..<bucketCount {
      let start = UInt64(bucket) << shift
      while index + 1 < pieces.count, pieces[index + 1].start <= start { index += 1 }
      (buckets + bucket).initialize(to: UInt32(index))
    }
    (buckets + bucketCount).initialize(to: UInt32(max(1, pieces.count) - 1))
    return (buckets, shift)
  }

  deinit {
    segments.deallocate()
    buckets.deallocate()
  }

  /// What the image holds: half-open, ascending, not touching each other.
  ///
  /// - Complexity: O(1), but O(*n*) in the bitmap's bytes the first time for a kdump-compressed dump.
  public var backedRanges: [Range<PhysicalAddress>] { paged?.backedRanges ?? rangesInPlace }

  /// Pages of the file: no dump stores more, whatever its headers claim.
  public var storedPageCount: UInt64 {
    paged?.storedPageCount ?? files[0].byteCount / PageCount.pageByteCount + 1
  }

  /// What is strange about the files and no error.
  public var warnings: [String] {
    (paged as? KdumpMemory)?.warnings ?? files.flatMap(\.warnings)
  }

  /// Why bytes that the dump has could not be given, the first time that happened: the file shrank
  /// or could not be read, a page is damaged, or the library that unpacks it is not installed. What
  /// was read since then may be wrong.
  public var problem: ImageError? {
    for file in files {
      if let problem = file.file.problem { return problem }
    }
    return paged?.problem
  }

  /// What the dump has of an address: bytes, zeros that it does not store, nothing because the page
  /// was left out, or nothing because there was no memory.
  public func presence(of address: PhysicalAddress) -> Presence {
    if let paged { return paged.presence(of: address.rawValue) }
    let segment = segment(below: address.rawValue).pointee
    guard address.rawValue &- segment.start < segment.byteCount else { return .absent }
    return segment.bytes == nil ? .zeroFill : .stored
  }

  // MARK: Notes

  /// What the kernel says of itself; `nil` when the dump does not have it.
  public var vmcoreInfo: VMCoreInfo? {
    ELFNotes(bytes: notes).content(named: VMCoreInfo.noteName).map { VMCoreInfo($0) }
  }

  /// The notes of the dump, one after the other.
  var notes: [UInt8] {
    if let kdump = paged as? KdumpMemory { return kdump.notes }
    guard format == .elfCore, let reader = try? ELFCoreReader(file: files[0]) else { return [] }
    return reader.notes()
  }

  /// Goes through what can be looked at in place.
  func forEachSegment(_ body: (Segment) -> Void) {
    // The bucket at the end has the last one's index.
    for index in 0...Int(buckets[Self.bucketCount]) { body(segments[index]) }
  }

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
    if let paged {
      var word: UInt64 = 0
      let count = withUnsafeMutableBytes(of: &word) {
        paged.read(
          at: address, into: UnsafeMutableRawBufferPointer(rebasing: $0[..<Int(byteCount)]))
      }
      return count == Int(byteCount) ? UInt64(littleEndian: word) : nil
    }
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

  /// The bytes from `address` on in the mapped file, up to the end of their segment; `nil` for zeros
  /// that no file holds, and for a dump that cannot be looked at in place.
  public func bytesInPlace(from address: PhysicalAddress) -> UnsafeRawBufferPointer? {
    let segment = segment(below: address.rawValue).pointee
    let offset = address.rawValue &- segment.start
    guard offset < segment.byteCount, let bytes = segment.bytes else { return nil }
    // Safe: offset is below the segment's length, all of which is mapped.
    return UnsafeRawBufferPointer(
      start: bytes + Int(offset), count: Int(segment.byteCount - offset))
  }

  /// Copies bytes from `address` up to the buffer's length or the first absent byte.
  ///
  /// - Returns: Bytes copied; 0 when the first is absent.
  public func read(at address: PhysicalAddress, into buffer: UnsafeMutableRawBufferPointer) -> Int {
    if let paged { return paged.read(at: address.rawValue, into: buffer) }
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
