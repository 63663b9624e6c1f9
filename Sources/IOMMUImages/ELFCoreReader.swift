import IOMMUFormats

/// The program headers of an ELF core, read as pieces of physical memory.
///
/// Nothing in a header is trusted: every size is checked against the file, every sum for overflow.
struct ELFCoreReader {
  let file: DumpFile
  let layout: ELFLayout

  /// More headers than any kernel writes; a bound on the time that a hostile file can take.
  static let headerLimit: UInt64 = 1 << 22
  /// Pieces that segments are cut into where a stream lacks bytes of them; what lies beyond is lost.
  static let pieceLimit = 1 << 22
  private static let isTruncated = "the file is truncated, copy it again"

  /// - Throws: ``ImageError`` for what is not a little-endian core, saying what it is.
  init(file: DumpFile) throws(ImageError) {
    self.file = file
    layout = try Self.checkKind(file)
  }

  /// The disk was full before the dump was whole.
  var isMarkedIncomplete: Bool {
    field(UInt32.self, 0, layout.flags) & ELF64.incomplete != 0
  }

  /// What the PT_LOADs say.
  func content() throws(ImageError) -> PieceContent {
    let table = try headerTable()
    var content = PieceContent()
    content.isMarkedIncomplete = isMarkedIncomplete
    content.missingHeaderCount = table.missingCount
    content.areZerosCertain = table.missingCount == 0
    var loadCount = 0
    var areAllAtZero = true
    for index in 0..<table.count {
      let offset = table.offset + index * layout.programHeaderByteCount
      let type = field(UInt32.self, offset, ELF64.Program.type)
      // makedumpfile writes headers last, over zeros: those are missing that it did not come to, or
      // that a stream ends before.
      if type == ELF64.segmentNull, isMarkedIncomplete || file.isCut {
        content.missingHeaderCount += 1
      }
      guard type == ELF64.segmentLoad else { continue }
      loadCount += 1
      let address = word(offset, layout.physicalAddress)
      if address != 0 { areAllAtZero = false }
      // The kernel writes all ones for memory that has a virtual address only, in /proc/kcore too.
      guard address != layout.noAddress else { continue }
      try append(to: &content.pieces, index: index, at: offset, address: address)
      appendVirtual(to: &content, at: offset, address: address)
    }
    if loadCount > 1, areAllAtZero {
      throw error(
        "all \(loadCount) segments have physical address 0: this is the core of a program, or "
          + "/proc/kcore of a kernel that gives virtual addresses only",
        "pass a dump of the machine's memory (/proc/vmcore, virsh dump --memory-only)")
    }
    guard !content.pieces.isEmpty else {
      guard content.missingHeaderCount == 0 else {
        throw error(
          Incompleteness.missingHeaders(content.missingHeaderCount)
            + ", and none of memory is left",
          Self.isTruncated)
      }
      throw error(
        loadCount == 0
          ? "no PT_LOAD segment, so no memory" : "no PT_LOAD segment has physical memory",
        "dump the memory again")
    }
    return content
  }

  /// The content of the PT_NOTE segments, one after the other; those that do not lie in the file
  /// are left out.
  func notes() -> [UInt8] {
    guard let table = try? headerTable() else { return [] }
    var notes: [UInt8] = []
    for index in 0..<table.count {
      let offset = table.offset + index * layout.programHeaderByteCount
      guard field(UInt32.self, offset, ELF64.Program.type) == ELF64.segmentNote else { continue }
      let count = word(offset, layout.fileSize)
      guard count <= ELFNotes.byteCountLimit - UInt64(notes.count),
        let bytes = file.bytes(at: word(offset, layout.offset), count: Int(count))
      else { continue }
      notes += bytes
    }
    return notes
  }

  /// One PT_LOAD: bytes of the file, then zeros.
  private func append(
    to pieces: inout [ImagePiece], index: UInt64, at offset: UInt64, address: UInt64
  ) throws(ImageError) {
    let fileOffset = word(offset, layout.offset)
    let fileSize = word(offset, layout.fileSize)
    let memorySize = word(offset, layout.memorySize)
    let place = "ELF program header \(index)"
    let (end, wraps) = address.addingReportingOverflow(memorySize)
    guard !wraps else {
      throw ImageError(
        file: file.path, place: place, offset: offset,
        found: "\(hexadecimal(memorySize)) bytes at physical address \(hexadecimal(address)) "
          + "pass 2^64 - 1",
        remedy: "the header is damaged, dump the memory again")
    }
    let dataCount = min(fileSize, memorySize)
    let zeroStart = address + dataCount
    if dataCount > 0 {
      appendData(to: &pieces, index: index, address..<zeroStart, from: fileOffset)
    }
    if zeroStart < end {
      // Data of any header beats zeros of any other.
      pieces.append(
        ImagePiece(
          start: zeroStart, end: end, source: .zeros, priority: Self.headerLimit + index))
    }
  }

  /// Where the kernel itself has a PT_LOAD.
  private func appendVirtual(
    to content: inout PieceContent, at offset: UInt64, address: UInt64
  ) {
    let start = word(offset, layout.virtualAddress)
    let byteCount = word(offset, layout.memorySize)
    // A 32-bit kernel's addresses are not those of a 64-bit core.
    guard byteCount > 0, layout.wordByteCount == 8,
      !start.addingReportingOverflow(byteCount).overflow
    else { return }
    // Of memory that stands in two maps the lower one counts: that of all memory, whose readers reckon
    // with it, and not that of the kernel's own text, which VMCOREINFO tells too.
    content.virtualPieces.append(
      ImagePiece(
        start: address, end: address + byteCount, source: .file(start), priority: start))
  }

  /// Bytes of a PT_LOAD, those that the file has and those that it should have.
  private func appendData(
    to pieces: inout [ImagePiece], index: UInt64, _ memory: Range<UInt64>, from fileOffset: UInt64
  ) {
    var start = memory.lowerBound
    func append(upTo end: UInt64, _ source: ImagePiece.Source) {
      if start < end {
        pieces.append(ImagePiece(start: start, end: end, source: source, priority: index))
      }
      start = end
    }
    let (fileEnd, wraps) = fileOffset.addingReportingOverflow(memory.upperBound - start)
    file.forEachKnownRange(in: fileOffset..<(wraps ? .max : fileEnd)) { known in
      guard pieces.count < Self.pieceLimit else { return }
      append(upTo: memory.lowerBound + (known.lowerBound - fileOffset), .lost)
      append(
        upTo: memory.lowerBound + (known.upperBound - fileOffset), .file(known.lowerBound))
    }
    append(upTo: memory.upperBound, .lost)
  }

  private static func checkKind(_ file: DumpFile) throws(ImageError) -> ELFLayout {
    guard let fileClass = file.integer(UInt8.self, at: ELF64.Header.fileClass),
      let encoding = file.integer(UInt8.self, at: ELF64.Header.dataEncoding)
    else { throw truncatedHeader(file, .class64) }
    guard 1...2 ~= fileClass else {
      throw error(
        file, "an ELF file of unknown class \(fileClass)",
        "the file is damaged, copy it again", at: ELF64.Header.fileClass)
    }
    let layout: ELFLayout = fileClass == ELF64.class64 ? .class64 : .class32
    guard encoding == ELF64.littleEndian else {
      throw error(
        file,
        encoding == 2 ? "a big-endian ELF file" : "an ELF file of unknown byte order \(encoding)",
        "only dumps of little-endian machines are read", at: ELF64.Header.dataEncoding)
    }
    guard file.holds(layout.headerByteCount, at: 0) else { throw truncatedHeader(file, layout) }
    let type = file.integer(UInt16.self, at: ELF64.Header.type)
    guard type == ELF64.typeCore else {
      let names: [UInt16: String] = [1: "an object file", 2: "a program", 3: "a shared object"]
      throw error(
        file,
        "\(type.flatMap { names[$0] } ?? "an ELF file of type \(hexadecimal(type ?? 0))"), not a core",
        "pass the dump (vmcore), not the kernel (vmlinux)", at: ELF64.Header.type)
    }
    return layout
  }

  /// Where the program headers are: those that lie in the file, and how many more there should be.
  private func headerTable() throws(ImageError) -> (
    offset: UInt64, count: UInt64, missingCount: UInt64
  ) {
    let offset = word(0, layout.programHeaderOffset)
    let count16 = field(UInt16.self, 0, layout.programHeaderCount)
    let extendedCount = count16 == ELF64.extendedCount ? try extendedCount() : nil
    // Of a count that is cut off itself, the least that it can be.
    let count = extendedCount ?? UInt64(count16)
    guard count > 0 else { return (offset, 0, 0) }
    let size = field(UInt16.self, 0, layout.programHeaderSize)
    guard UInt64(size) == layout.programHeaderByteCount else {
      throw error(
        "program headers of \(size) bytes, where ELF\(layout.wordByteCount * 8) has "
          + "\(layout.programHeaderByteCount)",
        "the header is damaged, copy the file again", at: layout.programHeaderSize)
    }
    guard count <= Self.headerLimit else {
      throw error(
        "\(count) program headers, more than the \(Self.headerLimit) that are read",
        "join neighbouring segments (makedumpfile -E)", at: layout.programHeaderCount)
    }
    let known = min(count, file.knownByteCount(from: offset) / layout.programHeaderByteCount)
    guard known > 0 else {
      throw error(
        "\(count) program headers at byte \(hexadecimal(offset)) run past the end of the file "
          + "(\(hexadecimal(file.byteCount)) bytes)",
        Self.isTruncated, at: layout.programHeaderOffset)
    }
    let isCountCut = count16 == ELF64.extendedCount && extendedCount == nil
    return (offset, known, max(count - known, isCountCut ? 1 : 0))
  }

  /// The count in section header 0, as PN_XNUM says; `nil` when the file ends before it.
  private func extendedCount() throws(ImageError) -> UInt64? {
    let sections = word(0, layout.sectionHeaderOffset)
    guard sections != 0 else {
      throw error(
        "no section header 0, which holds the number of program headers",
        "the header is damaged, copy the file again", at: layout.sectionHeaderOffset)
    }
    guard file.holds(layout.sectionHeaderByteCount, at: sections) else { return nil }
    return UInt64(field(UInt32.self, sections, layout.sectionInfo))
  }

  /// A field that the caller has found to lie in the file. One that cannot be read, because the
  /// file shrank or the disk failed, is zero, and the file's problem tells.
  private func field<Word: FixedWidthInteger & BitwiseCopyable>(
    _: Word.Type, _ base: UInt64, _ offset: UInt64
  )
    -> Word
  {
    file.integer(Word.self, at: base + offset) ?? 0
  }

  /// An address, offset or size.
  private func word(_ base: UInt64, _ offset: UInt64) -> UInt64 {
    layout.wordByteCount == 8
      ? field(UInt64.self, base, offset) : UInt64(field(UInt32.self, base, offset))
  }

  private static func truncatedHeader(_ file: DumpFile, _ layout: ELFLayout) -> ImageError {
    error(
      file,
      "the file ends at \(file.byteCount) bytes, inside the header of \(layout.headerByteCount)",
      isTruncated, at: 0)
  }

  private func error(_ found: String, _ remedy: String, at offset: UInt64 = 0) -> ImageError {
    Self.error(file, found, remedy, at: offset)
  }

  private static func error(
    _ file: DumpFile, _ found: String, _ remedy: String, at offset: UInt64
  ) -> ImageError {
    ImageError(
      file: file.path, place: "ELF header", offset: offset, found: found, remedy: remedy)
  }
}
