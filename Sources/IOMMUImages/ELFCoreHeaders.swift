import IOMMUFormats

/// The headers of an ELF64 core that is written: file header, program headers, section header 0
/// where they are many, notes.
struct ELFCoreHeaders {
  /// A PT_LOAD: bytes that are stored, then zeros up to `end`.
  struct Segment: Equatable {
    var start: UInt64
    var storedEnd: UInt64
    var end: UInt64
    /// The virtual address of the first byte.
    var virtualStart: UInt64

    /// - Parameter virtualStart: `nil` where nobody knows: the physical address, as QEMU writes it.
    init(start: UInt64, storedEnd: UInt64, end: UInt64, virtualStart: UInt64? = nil) {
      self.start = start
      self.storedEnd = storedEnd
      self.end = end
      self.virtualStart = virtualStart ?? start
    }

    var storedByteCount: UInt64 { storedEnd - start }
  }

  let segments: [Segment]
  let notes: [UInt8]
  /// Memory that should be there is missing.
  var isIncomplete = false
  var machine = ELF64.machineX86_64

  private var headerCount: UInt64 { UInt64(segments.count) + (notes.isEmpty ? 0 : 1) }
  private var isExtended: Bool { headerCount >= UInt64(ELF64.extendedCount) }
  private var tableEnd: UInt64 {
    ELF64.headerByteCount + headerCount * ELF64.programHeaderByteCount
  }
  private var notesOffset: UInt64 {
    tableEnd + (isExtended ? ELF64.sectionHeaderByteCount : 0)
  }
  /// Where the segments' bytes start, at a page of the file.
  var byteCount: UInt64 { Self.alignedUp(notesOffset + UInt64(notes.count)) }

  /// Goes through the segments with the place of their bytes in the file: of each the same within
  /// a page as its address is, so that the file can be mapped.
  func forEachSegment<Failure: Error>(
    _ body: (Segment, _ fileOffset: UInt64) throws(Failure) -> Void
  ) throws(Failure) {
    var next = byteCount
    for segment in segments {
      let offset =
        segment.storedByteCount == 0 ? next : next + segment.start % PageCount.pageByteCount
      try body(segment, offset)
      if segment.storedByteCount > 0 { next = Self.alignedUp(offset + segment.storedByteCount) }
    }
  }

  /// Writes all of it, up to the place of the first segment's bytes.
  func write(to file: OutputFile) throws(ImageError) {
    try file.write(fileHeader)
    if !notes.isEmpty {
      try file.write(
        Self.programHeader(
          type: ELF64.segmentNote, flags: 0, offset: notesOffset, segment: nil,
          fileSize: UInt64(notes.count), memorySize: UInt64(notes.count), alignment: 4))
    }
    try forEachSegment { (segment, offset) throws(ImageError) in
      try file.write(
        Self.programHeader(
          type: ELF64.segmentLoad, flags: ELF64.segmentReadWriteExecute, offset: offset,
          segment: segment, fileSize: segment.storedByteCount,
          memorySize: segment.end - segment.start, alignment: 0))
    }
    if isExtended {
      var section = ByteWriter(byteCount: ELF64.sectionHeaderByteCount)
      section.put(UInt32(headerCount), at: ELF64.sectionInfo)
      try file.write(section.bytes)
    }
    try file.write(notes)
    try file.skip(byteCount: byteCount - file.byteCount)
  }

  private var fileHeader: [UInt8] {
    var header = ByteWriter(byteCount: ELF64.headerByteCount)
    for (index, byte) in ELF64.magic.enumerated() { header.put(byte, at: UInt64(index)) }
    header.put(ELF64.class64, at: ELF64.Header.fileClass)
    header.put(ELF64.littleEndian, at: ELF64.Header.dataEncoding)
    header.put(ELF64.currentVersion, at: ELF64.Header.identVersion)
    header.put(ELF64.typeCore, at: ELF64.Header.type)
    header.put(machine, at: ELF64.Header.machine)
    header.put(UInt32(ELF64.currentVersion), at: ELF64.Header.version)
    header.put(ELF64.headerByteCount, at: ELF64.Header.programHeaderOffset)
    if isIncomplete { header.put(ELF64.incomplete, at: ELF64.Header.flags) }
    header.put(UInt16(ELF64.headerByteCount), at: ELF64.Header.headerSize)
    header.put(UInt16(ELF64.programHeaderByteCount), at: ELF64.Header.programHeaderSize)
    if isExtended {
      header.put(tableEnd, at: ELF64.Header.sectionHeaderOffset)
      header.put(UInt16(ELF64.sectionHeaderByteCount), at: ELF64.Header.sectionHeaderSize)
      header.put(UInt16(1), at: ELF64.Header.sectionHeaderCount)
      header.put(ELF64.extendedCount, at: ELF64.Header.programHeaderCount)
    } else {
      header.put(UInt16(headerCount), at: ELF64.Header.programHeaderCount)
    }
    return header.bytes
  }

  /// - Parameters:
  ///   - segment: Where it lies in memory; `nil` for what is not in memory.
  ///   - alignment: Of segments none, as Linux has it: the reader of `crash` 8.0.2 finds no notes before
  ///     segments that are aligned to the size of a page, and on page boundaries of the file.
  private static func programHeader(
    type: UInt32, flags: UInt32, offset: UInt64, segment: Segment?, fileSize: UInt64,
    memorySize: UInt64, alignment: UInt64
  ) -> [UInt8] {
    var header = ByteWriter(byteCount: ELF64.programHeaderByteCount)
    header.put(type, at: ELF64.Program.type)
    header.put(flags, at: ELF64.Program.flags)
    header.put(offset, at: ELF64.Program.offset)
    header.put(segment?.virtualStart ?? 0, at: ELF64.Program.virtualAddress)
    header.put(segment?.start ?? 0, at: ELF64.Program.physicalAddress)
    header.put(fileSize, at: ELF64.Program.fileSize)
    header.put(memorySize, at: ELF64.Program.memorySize)
    header.put(alignment, at: ELF64.Program.alignment)
    return header.bytes
  }

  static func alignedUp(_ byteCount: UInt64) -> UInt64 {
    (byteCount + PageCount.pageByteCount - 1) & ~(PageCount.pageByteCount - 1)
  }
}

/// A structure of a file, filled field by field with little-endian integers.
struct ByteWriter {
  private(set) var bytes: [UInt8]

  init(byteCount: UInt64) { bytes = [UInt8](repeating: 0, count: Int(byteCount)) }

  /// - Precondition: the field lies inside.
  mutating func put(_ value: some FixedWidthInteger, at offset: UInt64) {
    for index in 0..<value.bitWidth / 8 {
      bytes[Int(offset) + index] = UInt8(truncatingIfNeeded: value >> (8 * index))
    }
  }

  /// - Precondition: the text's bytes lie inside.
  mutating func put(_ text: String, at offset: UInt64) {
    for (index, byte) in text.utf8.enumerated() { bytes[Int(offset) + index] = byte }
  }
}
