import IOMMUFormats
import Synchronization

/// A dump as physical memory: an ELF core, a kdump-compressed dump in one file or several, what LiME, AVML,
/// VMware and Xen write, raw bytes from address 0; each also as a flattened stream; or the memory of the
/// machine that runs.
///
/// Opening costs the headers, and no byte is read before it is looked at. A plain ELF core or raw
/// file is mapped, and words are read in place; of packed pages a bounded number is kept. Any
/// number of threads may read at once.
///
/// *Absent* is not *zero*: an address that the dump does not hold gives `nil`, whether the dump
/// leaves its page out, has lost it, or the machine has no memory there; ``presence(of:)`` tells
/// which.
///
/// A file that ends too early is read as far as it goes: what it lacks is absent, and
/// ``incompleteness`` says how much that is.
///
/// A file that shrinks, a disk that fails, a page that is damaged or needs a library that is not
/// installed: none of these ends the program. The bytes concerned are absent or zero, and
/// ``problems`` says so; ask for it before answers are believed.
public final class MemoryImage: ConcurrentMemory {
  /// The path of the first file as it was given.
  public let path: String
  /// The paths of all files, as they were given.
  package var paths: [String] { files.map(\.file.path) }
  /// How the file holds memory.
  public let format: ImageFormat

  /// The files; they keep the bytes mapped that the segments point to.
  let files: [DumpFile]
  /// Memory that cannot be looked at in place; `nil` when the segments are all there is.
  let paged: (any PagedMemory)?
  /// Where the bytes of pieces lie.
  let source: any PieceSource
  /// Where memory stands in the kernel's own map, as far as the file says it: ascending, not overlapping,
  /// the places in the file being virtual addresses.
  let virtualPieces: [ImagePiece]
  /// What is strange about the files and no error.
  private let notices: [String]
  private let rangesInPlace: [Range<PhysicalAddress>]
  private let stored = Mutex<Stored?>(nil)
  /// What a file lacks of memory that its headers name: half-open, ascending, not touching.
  private let lostInPlace: [Range<PhysicalAddress>]
  /// Of a file that is not kdump-compressed.
  private let incompletenessInPlace: Incompleteness?
  /// What its headers do not name may have been memory all the same: some are missing.
  let isRestUnknown: Bool
  /// Memory that is looked at in place; empty when there is ``paged``.
  @usableFromInline let table: SegmentTable

  /// Opens a dump; the format is told by its first bytes.
  ///
  /// In an ELF core every PT_LOAD is memory at its physical address; memory beyond its bytes in the
  /// file is zero. Where several hold a byte, bytes of the file count before zeros, then the
  /// earlier header. A file without a known mark is raw.
  ///
  /// A file that ends too early is opened when its header is there.
  ///
  /// - Throws: ``ImageError`` when the file cannot be read, is damaged, is empty, ends inside its
  ///   header, or has a format that is known and not read.
  /// - Complexity: O(*n* log *n*) in the number of program headers, or of a flattened stream's
  ///   records; O(*n*) in the bytes stored of a kdump-compressed file's bitmap.
  public convenience init(path: String) throws(ImageError) { try self.init(paths: [path]) }

  /// Opens the files that `makedumpfile --split` made of one dump, in any order; or one file, as
  /// ``init(path:)`` does.
  ///
  /// One path may also be that of a directory with one dump in it, or of a VMware guest's `.vmem` or
  /// `.vmss` file, to which the other is added when it is there.
  ///
  /// - Throws: as ``init(path:)``, and when the files are not parts of one dump.
  /// - Precondition: there is a path.
  public convenience init(paths: [String]) throws(ImageError) {
    var files: [DumpFile] = []
    for path in try DumpPaths.files(of: paths) { files.append(try DumpFile(FileBytes(path: path))) }
    try self.init(files)
  }

  /// - Precondition: there is a file.
  init(_ files: [DumpFile]) throws(ImageError) {
    precondition(!files.isEmpty, "an image has a file")
    let first = files[0]
    self.files = files
    path = first.path
    format = try Self.format(of: files)
    var content = PieceContent()
    var packed: SnappyStream?
    switch format {
    case .kdumpCompressed: break
    case .elfCore: content = try ELFCoreReader(file: first).content()
    case .lime, .avml: (content, packed) = try LiMEReader(file: first).content()
    case .vmware:
      content = try VMwareState(file: files[files.count - 1]).content(files.count > 1 ? first : nil)
    case .xenCore: content = try XenCore(file: first).content()
    case .raw: content = Self.rawContent(first)
    case .device: content.pieces = try SystemRAM.pieces()
    }
    notices = content.warnings
    let certain = content.areZerosCertain
    let all = disjointPieces(content.pieces.filter { certain || $0.source != .zeros })
    let lost = all.filter { $0.source == .lost }
    var pieces = lost.isEmpty ? all : all.filter { $0.source != .lost }
    source = packed ?? first
    virtualPieces = disjointPieces(content.virtualPieces)
    paged =
      format == .kdumpCompressed
      ? try KdumpMemory(files)
      : packed == nil && first.mappingInPlace != nil ? nil : PieceMemory(source, pieces: pieces)
    lostInPlace = joinedRanges(lost)
    isRestUnknown =
      content.missingHeaderCount > 0 || content.isMarkedIncomplete && lost.isEmpty
      || content.unknownFrom != nil
    incompletenessInPlace =
      lost.isEmpty && !isRestUnknown ? nil : Self.incompleteness(first, content, pieces, lost)
    // Headers that could not be read must not pass for what they seem to say.
    for file in files {
      if let problem = file.file.problem { throw problem }
    }
    if paged != nil { pieces = [] }
    rangesInPlace = joinedRanges(pieces)
    table = SegmentTable(pieces, in: first.mappingInPlace)
  }

  /// The format of files that make one dump together.
  private static func format(of files: [DumpFile]) throws(ImageError) -> ImageFormat {
    let last = files[files.count - 1]
    if files.count == 2, DumpPaths.isVMwareMemory(files[0].path), VMwareState.isState(last) {
      return .vmware
    }
    var formats: [ImageFormat] = []
    for file in files { formats.append(try Self.format(of: file)) }
    for (file, format) in zip(files, formats).dropFirst() {
      guard formats[0] == .kdumpCompressed, format == .kdumpCompressed else {
        throw ImageError(
          file: file.path, found: "is not a part of a split kdump-compressed dump",
          remedy: "name one file; only 'makedumpfile --split' makes several")
      }
    }
    return formats[0]
  }

  private static func format(of file: DumpFile) throws(ImageError) -> ImageFormat {
    if file.file.isDevice { return .device }
    if let format = DumpPaths.markedFormat(of: file) { return format }
    // What is cut off inside its mark must not pass for raw memory.
    let known = Int(min(file.knownByteCount(from: 0), UInt64(FlattenedStream.magic.count)))
    let start = file.bytes(at: 0, count: known) ?? []
    let magics = DumpPaths.marks + (file.isFlattened ? [] : [FlattenedStream.magic])
    let isWhole = !file.isCut && file.byteCount > UInt64(known)
    guard isWhole || !magics.contains(where: { $0.starts(with: start) }) else {
      throw ImageError(
        file: file.path, offset: file.file.byteCount,
        found: "the \(file.isFlattened ? "stream" : "file") ends inside the mark of a dump",
        remedy: "the file is truncated, copy it again")
    }
    if let foreign = ForeignFormat.recognised(file) {
      throw ImageError(
        file: file.path, offset: foreign.offset, found: "\(foreign.name), which is not read",
        remedy: foreign.remedy)
    }
    return .raw
  }

  /// All bytes of a file from address 0; those that a stream lacks are lost.
  private static func rawContent(_ file: DumpFile) -> PieceContent {
    var content = PieceContent()
    var end: UInt64 = 0
    file.forEachKnownRange(in: 0..<file.byteCount) { known in
      content.append(end, stored: 0, of: known.lowerBound - end, from: end)
      end = known.upperBound
      let byteCount = end - known.lowerBound
      content.append(
        known.lowerBound, stored: byteCount, of: byteCount, from: known.lowerBound)
    }
    if file.isCut { content.unknownFrom = file.byteCount }
    content.warnings.append(
      DumpPaths.isVMwareMemory(file.path)
        ? "\(file.path): no .vmss or .vmsn file of the same name beside it says where the guest's memory "
          + "lies; taken for raw bytes from address 0, which is wrong above a hole"
        : "\(file.path): no mark of any dump in it: taken for raw bytes from address 0")
    return content
  }

  private static func incompleteness(
    _ file: DumpFile, _ content: PieceContent, _ pieces: [ImagePiece], _ lost: [ImagePiece]
  ) -> Incompleteness {
    // Pieces do not overlap: neither sum is beyond 2^64 − 1.
    let missing = lost.reduce(UInt64(0)) { $0 + $1.byteCount }
    let stored = pieces.reduce(UInt64(0)) { $0 + ($1.source == .zeros ? 0 : $1.byteCount) }
    return Incompleteness(
      path: file.path, isMarked: content.isMarkedIncomplete, endOfFile: file.file.byteCount,
      missingByteCount: missing, claimedByteCount: stored + missing,
      firstMissing: lost.first.map { PhysicalAddress($0.start) },
      unknownFrom: content.unknownFrom.map { PhysicalAddress($0) },
      missingHeaderCount: content.missingHeaderCount)
  }

  /// What the image holds: half-open, ascending, not touching each other.
  ///
  /// - Complexity: O(1), but O(*n*) in the bitmap's bytes the first time for a kdump-compressed dump.
  public var backedRanges: [Range<PhysicalAddress>] { paged?.backedRanges ?? rangesInPlace }

  /// What the files store: half-open, ascending, not touching each other. The rest of what the image
  /// holds is zero: zeros that an ELF core counts, gaps between the records of a stream, holes of a
  /// file.
  ///
  /// - Complexity: O(1); the first time O(*n*) in pieces, records and holes, or in the bitmap's bytes
  ///   of a kdump-compressed dump.
  public var storedRanges: [Range<PhysicalAddress>] {
    // Whatever has a descriptor is a page of its own, of zeros perhaps.
    if let kdump = paged as? KdumpMemory { return kdump.backedRanges }
    return known.ranges
  }

  /// What the files store, other than kdump-compressed ones.
  private struct Stored {
    var ranges: [Range<PhysicalAddress>]
    var pageCount: UInt64
  }

  /// Made when it is first asked for: a file may have a million holes.
  private var known: Stored {
    stored.withLock { known in
      if let known { return known }
      let ranges = findStoredRanges()
      var pages: UInt64 = 0
      // One past the last page that was counted; the next range may begin in it.
      var end: UInt64 = 0
      for range in ranges {
        let first = max(range.lowerBound.rawValue / PageCount.pageByteCount, end)
        end = (range.upperBound.rawValue - 1) / PageCount.pageByteCount + 1
        pages += end - min(first, end)
      }
      known = Stored(ranges: ranges, pageCount: pages)
      return Stored(ranges: ranges, pageCount: pages)
    }
  }

  private func findStoredRanges() -> [Range<PhysicalAddress>] {
    var ranges: [Range<PhysicalAddress>] = []
    func append(_ start: UInt64, _ end: UInt64) {
      if let last = ranges.last, last.upperBound.rawValue == start {
        ranges[ranges.count - 1] = last.lowerBound..<PhysicalAddress(end)
      } else {
        ranges.append(PhysicalAddress(start)..<PhysicalAddress(end))
      }
    }
    forEachPiece { piece in
      guard case .file(let offset) = piece.source else { return }
      var next = piece.start
      source.forEachStoredRange(in: offset..<offset + piece.byteCount) { part in
        next = piece.start + (part.upperBound - offset)
        append(piece.start + (part.lowerBound - offset), next)
        return ranges.count < ELFCoreReader.pieceLimit
      }
      // Pieces over the same holes may be any number: what is not told apart counts as stored.
      if ranges.count >= ELFCoreReader.pieceLimit, next < piece.end { append(next, piece.end) }
    }
    return ranges
  }

  /// Goes through the pieces of a dump that is not kdump-compressed, ascending.
  func forEachPiece(_ body: (ImagePiece) -> Void) {
    if let pieces = (paged as? PieceMemory)?.pieces { return pieces.forEach(body) }
    table.forEach(body)
  }

  /// Pages with a byte that a file stores; no more than it has room for, whatever its headers claim.
  public var storedPageCount: UInt64 {
    if let kdump = paged as? KdumpMemory { return kdump.storedPageCount }
    let file = files[0]
    // What is packed has room for more than its bytes.
    guard format != .device, format != .avml else { return known.pageCount }
    let room = file.storedByteCount(in: 0..<file.byteCount) / PageCount.pageByteCount + 1
    return min(known.pageCount, room)
  }

  /// What is strange about the files and no error; what they lack comes first.
  ///
  /// - Complexity: as for ``incompleteness``.
  public var warnings: [String] {
    let incomplete = incompleteness
    let unended = files.filter { file in
      file.isCut && !incomplete.contains { $0.path == file.path }
    }
    return incomplete.map(\.description)
      + unended.map { "\($0.path): the stream ends without its end mark" }
      + ((paged as? KdumpMemory)?.warnings ?? []) + notices
  }

  /// What the files lack because a disk was full or a copy ended early; empty when they are whole.
  ///
  /// - Complexity: O(1); O(*n*) in the pages of a kdump-compressed dump that is incomplete, the
  ///   first time.
  public var incompleteness: [Incompleteness] {
    (paged as? KdumpMemory)?.incompleteness ?? incompletenessInPlace.map { [$0] } ?? []
  }

  /// Memory that the files should hold and lack: half-open, ascending, not touching each other.
  var lostRanges: [Range<PhysicalAddress>] {
    (paged as? KdumpMemory)?.lostRanges ?? lostInPlace
  }

  /// Why bytes that the dump has could not be given, each reason once: the file shrank or could not
  /// be read, libraries that unpack pages are not installed, a page is damaged. Empty when all that
  /// was asked for was given; otherwise what was read may be wrong.
  public var problems: [ImageError] {
    files.compactMap(\.file.problem) + (paged?.problems ?? [])
  }

  /// The same, of pages that begin below an address where it is known which those are.
  func problems(before address: UInt64) -> [ImageError] {
    files.compactMap(\.file.problem) + (paged?.problems(before: address) ?? [])
  }

  /// What the dump has of an address, or why it has nothing.
  ///
  /// A page of a kdump-compressed dump is unpacked to see whether it can be.
  public func presence(of address: PhysicalAddress) -> Presence {
    let presence = presenceInFiles(of: address.rawValue)
    guard presence == .absent, incompletenessInPlace != nil else { return presence }
    let index = lostInPlace.partitioningIndex { $0.upperBound > address }
    let isLost = index < lostInPlace.count && lostInPlace[index].contains(address)
    return isLost || isRestUnknown ? .cutOff : .absent
  }

  private func presenceInFiles(of address: UInt64) -> Presence {
    paged?.presence(of: address) ?? table.presence(of: address)
  }

  /// Whether the dump does not hold an address. It does not say either that the machine has no memory
  /// there: a capture kernel's own is in no dump that it writes.
  public func isAbsent(at address: PhysicalAddress) -> Bool { !presence(of: address).isReadable }

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

  /// Lets the system take back what it keeps for looks at the files; later looks may cost a little more.
  ///
  /// - Complexity: O(*n*) in the bytes that were looked at since the last time.
  public func forgetLooks() { for file in files { file.file.mapping?.forgetLooks() } }

  // MARK: Loads

  /// A word that one segment does not hold: each byte from its own, `nil` when one is absent.
  @usableFromInline @inline(never)
  func wordByBytes(_ address: UInt64, byteCount: Int) -> UInt64? {
    var word: UInt64 = 0
    // Safe: the word's own bytes are filled in, at most all of them.
    let count = unsafe withUnsafeMutableBytes(of: &word) { bytes in
      unsafe read(
        at: PhysicalAddress(address),
        into: UnsafeMutableRawBufferPointer(rebasing: bytes[..<byteCount]))
    }
    return count == byteCount ? UInt64(littleEndian: word) : nil
  }

  /// The little-endian quadword at `address`, aligned or not; `nil` when any byte is absent.
  @inlinable @inline(__always)
  public func quadword(at address: PhysicalAddress) -> UInt64? {
    table.word(UInt64.self, at: address.rawValue) ?? wordByBytes(address.rawValue, byteCount: 8)
  }

  /// The little-endian doubleword at `address`, aligned or not; `nil` when any byte is absent.
  @inlinable @inline(__always)
  public func doubleword(at address: PhysicalAddress) -> UInt32? {
    table.word(UInt32.self, at: address.rawValue)
      ?? wordByBytes(address.rawValue, byteCount: 4).map { UInt32(truncatingIfNeeded: $0) }
  }

  /// The bytes from `address` on in the mapped file, up to the end of their segment; `nil` for zeros
  /// that no file holds, and for a dump that cannot be looked at in place.
  public func bytesInPlace(from address: PhysicalAddress) -> UnsafeRawBufferPointer? {
    // Safe for as long as the image lives, as the protocol says.
    unsafe table.bytes(from: address.rawValue)
  }

  /// Appends bytes from `address` on until `output` is full or one is absent.
  func read(at address: UInt64, into output: inout OutputSpan<UInt8>) {
    if let paged { return paged.read(at: address, into: &output) }
    table.read(at: address, into: &output)
  }

  /// Copies bytes from `address` up to the buffer's length or the first absent byte.
  ///
  /// - Returns: Bytes copied; 0 when the first is absent.
  public func read(at address: PhysicalAddress, into buffer: UnsafeMutableRawBufferPointer) -> Int {
    // Safe: the buffer is the caller's for this call, and what is written to it are bytes.
    let room = unsafe buffer.bindMemory(to: UInt8.self)
    var output = unsafe OutputSpan(buffer: room, initializedCount: 0)
    read(at: address.rawValue, into: &output)
    return unsafe output.finalize(for: room)
  }
}
