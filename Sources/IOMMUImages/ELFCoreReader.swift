import IOMMUFormats

/// The program headers of an ELF core, read as pieces of physical memory.
///
/// Nothing in a header is trusted: every size is checked against the file, every sum for overflow.
struct ELFCoreReader {
  let file: FileMapping

  /// More headers than any kernel writes; a bound on the time that a hostile file can take.
  static let headerLimit: UInt64 = 1 << 22

  /// What the PT_LOADs say, in the order of the headers, overlaps and all.
  func pieces() throws(ImageError) -> [ImagePiece] {
    try checkKind()
    let table = try headerTable()
    var pieces: [ImagePiece] = []
    var loadCount = 0
    var areAllAtZero = true
    for index in 0..<table.count {
      // Safe: headerTable has checked that all of the table lies in the file.
      let offset = table.offset + index * ELF64.programHeaderByteCount
      guard field(UInt32.self, offset, ELF64.Program.type) == ELF64.segmentLoad else { continue }
      loadCount += 1
      let address = field(UInt64.self, offset, ELF64.Program.physicalAddress)
      if address != 0 { areAllAtZero = false }
      // The kernel writes all ones for memory that has a virtual address only.
      guard address != .max else { continue }
      try append(to: &pieces, index: index, at: offset, address: address)
    }
    if loadCount > 1, areAllAtZero {
      throw error(
        "all \(loadCount) segments have physical address 0: this is the core of a program",
        "pass a dump of the machine's memory (/proc/vmcore, virsh dump --memory-only)")
    }
    guard !pieces.isEmpty else {
      throw error(
        loadCount == 0
          ? "no PT_LOAD segment, so no memory" : "no PT_LOAD segment has physical memory",
        "dump the memory again")
    }
    return pieces
  }

  /// One PT_LOAD: bytes of the file, then zeros.
  private func append(
    to pieces: inout [ImagePiece], index: UInt64, at offset: UInt64, address: UInt64
  ) throws(ImageError) {
    let fileOffset = field(UInt64.self, offset, ELF64.Program.offset)
    let fileSize = field(UInt64.self, offset, ELF64.Program.fileSize)
    let memorySize = field(UInt64.self, offset, ELF64.Program.memorySize)
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
    guard dataCount == 0 || file.holds(dataCount, at: fileOffset) else {
      let start = fileOffset == 0 ? "" : " from byte \(hexadecimal(fileOffset))"
      throw ImageError(
        file: file.path, place: place, offset: offset,
        found: "file size \(hexadecimal(fileSize))\(start) runs past the end of the file "
          + "(\(hexadecimal(UInt64(file.bytes.count))) bytes)",
        remedy: "the file is truncated, copy it again")
    }
    let zeroStart = address + dataCount
    if dataCount > 0 {
      pieces.append(
        ImagePiece(start: address, end: zeroStart, fileOffset: fileOffset, priority: index))
    }
    if zeroStart < end {
      // Data of any header beats zeros of any other.
      pieces.append(
        ImagePiece(
          start: zeroStart, end: end, fileOffset: nil, priority: Self.headerLimit + index))
    }
  }

  /// Refuses what is not a 64-bit little-endian core, and says what it is.
  private func checkKind() throws(ImageError) {
    guard let fileClass = file.integer(UInt8.self, at: ELF64.Header.fileClass),
      let encoding = file.integer(UInt8.self, at: ELF64.Header.dataEncoding)
    else { throw truncatedHeader }
    guard fileClass == ELF64.class64 else {
      throw error(
        fileClass == 1 ? "a 32-bit ELF file" : "an ELF file of unknown class \(fileClass)",
        "dump as ELF64 (kexec --elf64-core-headers)", at: ELF64.Header.fileClass)
    }
    guard encoding == ELF64.littleEndian else {
      throw error(
        encoding == 2 ? "a big-endian ELF file" : "an ELF file of unknown byte order \(encoding)",
        "only dumps of little-endian machines are read", at: ELF64.Header.dataEncoding)
    }
    guard file.holds(ELF64.headerByteCount, at: 0) else { throw truncatedHeader }
    let type = field(UInt16.self, 0, ELF64.Header.type)
    guard type == ELF64.typeCore else {
      let names: [UInt16: String] = [1: "an object file", 2: "a program", 3: "a shared object"]
      throw error(
        "\(names[type] ?? "an ELF file of type \(hexadecimal(type))"), not a core",
        "pass the dump (vmcore), not the kernel (vmlinux)", at: ELF64.Header.type)
    }
  }

  /// Where the program headers are: all of them lie in the file.
  private func headerTable() throws(ImageError) -> (offset: UInt64, count: UInt64) {
    let offset = field(UInt64.self, 0, ELF64.Header.programHeaderOffset)
    let count16 = field(UInt16.self, 0, ELF64.Header.programHeaderCount)
    let count = count16 == ELF64.extendedCount ? try extendedCount() : UInt64(count16)
    guard count > 0 else { return (offset, 0) }
    let size = field(UInt16.self, 0, ELF64.Header.programHeaderSize)
    guard UInt64(size) == ELF64.programHeaderByteCount else {
      throw error(
        "program headers of \(size) bytes, where ELF64 has \(ELF64.programHeaderByteCount)",
        "the header is damaged, copy the file again", at: ELF64.Header.programHeaderSize)
    }
    // The count has at most 32 bits: the product does not overflow.
    guard file.holds(count * ELF64.programHeaderByteCount, at: offset) else {
      throw error(
        "\(count) program headers at byte \(hexadecimal(offset)) run past the end of the file "
          + "(\(hexadecimal(UInt64(file.bytes.count))) bytes)",
        "the file is truncated, copy it again", at: ELF64.Header.programHeaderOffset)
    }
    guard count <= Self.headerLimit else {
      throw error(
        "\(count) program headers, more than the \(Self.headerLimit) that are read",
        "join neighbouring segments (makedumpfile -E)", at: ELF64.Header.programHeaderCount)
    }
    return (offset, count)
  }

  /// The count in section header 0, as PN_XNUM says.
  private func extendedCount() throws(ImageError) -> UInt64 {
    let sections = field(UInt64.self, 0, ELF64.Header.sectionHeaderOffset)
    guard sections != 0, file.holds(ELF64.sectionHeaderByteCount, at: sections) else {
      throw error(
        "section header 0 at byte \(hexadecimal(sections)), which holds the number of program "
          + "headers, does not lie in the file",
        "the file is truncated, copy it again", at: ELF64.Header.sectionHeaderOffset)
    }
    return UInt64(field(UInt32.self, sections, ELF64.sectionInfo))
  }

  /// - Precondition: the field lies in the file, as its caller has checked.
  private func field<Word: FixedWidthInteger>(_: Word.Type, _ base: UInt64, _ offset: UInt64)
    -> Word
  {
    file.integer(Word.self, at: base + offset)!
  }

  private var truncatedHeader: ImageError {
    error(
      "the file ends at \(file.bytes.count) bytes, inside the header of "
        + "\(ELF64.headerByteCount)",
      "the file is truncated, copy it again", at: 0)
  }

  private func error(_ found: String, _ remedy: String, at offset: UInt64 = 0) -> ImageError {
    ImageError(
      file: file.path, place: "ELF header", offset: offset, found: found, remedy: remedy)
  }
}
