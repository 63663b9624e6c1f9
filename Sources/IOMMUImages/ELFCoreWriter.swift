import IOMMUFormats

/// Writes a machine's memory to a file that ``MemoryImage`` reads, and other tools read too.
public enum ELFCoreWriter {
  /// Linux's direct map on x86-64 with four-level tables: the virtual address of physical 0.
  ///
  /// Segments carry virtual addresses because tools such as `crash` expect them.
  public static let directMapBase: UInt64 = 0xffff_8880_0000_0000

  /// Zero runs shorter than this, in bytes, are stored: a header costs less than many of them.
  static let joinedGapByteCount: UInt64 = 64 << 10

  /// A PT_LOAD: bytes that are stored, then zeros up to `end`.
  struct Segment: Equatable {
    var start: UInt64
    var storedEnd: UInt64
    var end: UInt64

    var storedByteCount: UInt64 { storedEnd - start }
  }

  /// Writes memory as an ELF64 core.
  ///
  /// All of RAM is there; pages that are all zero are kept as zero fill, not as bytes, unless the
  /// run of them is short. Segments ascend and are page aligned in memory and in the file.
  ///
  /// - Throws: ``ImageError`` when the file cannot be written; an older one is untouched then.
  public static func write(_ memory: FlatMemory, to path: String) throws(ImageError) {
    let segments = segments(of: memory)
    let file = try OutputFile(path: path)
    let headers = headers(of: segments)
    try file.write(headers)
    try file.skip(byteCount: alignedUp(UInt64(headers.count)) - UInt64(headers.count))
    for segment in segments where segment.storedByteCount > 0 {
      try file.write(bytes(of: memory, segment.start..<segment.storedEnd))
    }
    try file.commit()
  }

  /// Writes memory as raw bytes, physical address 0 first, up to the end of RAM.
  ///
  /// Pages that are all zero become holes of the file. A raw file cannot tell absent from zero:
  /// holes in RAM read as zeros later.
  ///
  /// - Throws: ``ImageError`` when the file cannot be written; an older one is untouched then.
  public static func writeRaw(_ memory: FlatMemory, to path: String) throws(ImageError) {
    let file = try OutputFile(path: path)
    for run in storedRuns(of: memory) {
      try file.skip(byteCount: run.lowerBound - file.byteCount)
      try file.write(bytes(of: memory, run))
    }
    try file.skip(byteCount: UInt64(memory.bytes.count) - file.byteCount)
    try file.commit()
  }

  /// Page-aligned runs of pages that are not all zero, each inside one RAM range, ascending.
  private static func storedRuns(of memory: FlatMemory) -> [Range<UInt64>] {
    var runs: [Range<UInt64>] = []
    for range in memory.touchedRanges() {
      var isInRun = false
      for page in stride(
        from: range.lowerBound.rawValue, to: range.upperBound.rawValue, by: 4096)
      {
        if isZero(bytes(of: memory, page..<page + 4096)) {
          isInRun = false
        } else if isInRun {
          runs[runs.count - 1] = runs[runs.count - 1].lowerBound..<page + 4096
        } else {
          runs.append(page..<page + 4096)
          isInRun = true
        }
      }
    }
    return runs
  }

  /// The segments that cover all of RAM.
  static func segments(of memory: FlatMemory) -> [Segment] {
    let runs = storedRuns(of: memory)
    var segments: [Segment] = []
    var next = 0
    for range in memory.ram {
      let end = range.upperBound.rawValue
      // Zeros first; taken back when the first run starts where the range does.
      segments.append(
        Segment(start: range.lowerBound.rawValue, storedEnd: range.lowerBound.rawValue, end: end))
      while next < runs.count, runs[next].lowerBound < end {
        let run = runs[next]
        next += 1
        let last = segments.count - 1
        let gap = run.lowerBound - segments[last].storedEnd
        if gap == 0 || segments[last].storedByteCount > 0 && gap < joinedGapByteCount {
          segments[last].storedEnd = run.upperBound
        } else {
          segments[last].end = run.lowerBound
          segments.append(Segment(start: run.lowerBound, storedEnd: run.upperBound, end: end))
        }
      }
    }
    return segments
  }

  /// The file header and the program headers, with section header 0 after them where there are
  /// 65,535 or more.
  static func headers(of segments: [Segment]) -> [UInt8] {
    let isExtended = segments.count >= Int(ELF64.extendedCount)
    let tableEnd =
      ELF64.headerByteCount + UInt64(segments.count) * ELF64.programHeaderByteCount
    let byteCount = tableEnd + (isExtended ? ELF64.sectionHeaderByteCount : 0)
    var bytes = [UInt8](repeating: 0, count: Int(byteCount))
    func put(_ value: some FixedWidthInteger, _ base: UInt64, _ offset: UInt64) {
      withUnsafeBytes(of: value.littleEndian) {
        bytes.replaceSubrange(Int(base + offset)..<Int(base + offset) + $0.count, with: $0)
      }
    }
    bytes.replaceSubrange(0..<4, with: ELF64.magic)
    put(ELF64.class64, 0, ELF64.Header.fileClass)
    put(ELF64.littleEndian, 0, ELF64.Header.dataEncoding)
    put(ELF64.currentVersion, 0, ELF64.Header.identVersion)
    put(ELF64.typeCore, 0, ELF64.Header.type)
    put(ELF64.machineX86_64, 0, ELF64.Header.machine)
    put(UInt32(ELF64.currentVersion), 0, ELF64.Header.version)
    put(ELF64.headerByteCount, 0, ELF64.Header.programHeaderOffset)
    put(UInt16(ELF64.headerByteCount), 0, ELF64.Header.headerSize)
    put(UInt16(ELF64.programHeaderByteCount), 0, ELF64.Header.programHeaderSize)
    if isExtended {
      put(tableEnd, 0, ELF64.Header.sectionHeaderOffset)
      put(UInt16(ELF64.sectionHeaderByteCount), 0, ELF64.Header.sectionHeaderSize)
      put(UInt16(1), 0, ELF64.Header.sectionHeaderCount)
      put(ELF64.extendedCount, 0, ELF64.Header.programHeaderCount)
      put(UInt32(segments.count), tableEnd, ELF64.sectionInfo)
    } else {
      put(UInt16(segments.count), 0, ELF64.Header.programHeaderCount)
    }
    var offset = alignedUp(byteCount)
    for (index, segment) in segments.enumerated() {
      let base = ELF64.headerByteCount + UInt64(index) * ELF64.programHeaderByteCount
      put(ELF64.segmentLoad, base, ELF64.Program.type)
      put(ELF64.segmentReadWriteExecute, base, ELF64.Program.flags)
      put(offset, base, ELF64.Program.offset)
      // Wraps only for RAM above 119.5 TiB, where Linux has no such map either.
      put(directMapBase &+ segment.start, base, ELF64.Program.virtualAddress)
      put(segment.start, base, ELF64.Program.physicalAddress)
      put(segment.storedByteCount, base, ELF64.Program.fileSize)
      put(segment.end - segment.start, base, ELF64.Program.memorySize)
      put(PageCount.pageByteCount, base, ELF64.Program.alignment)
      offset += segment.storedByteCount
    }
    return bytes
  }

  private static func alignedUp(_ byteCount: UInt64) -> UInt64 {
    (byteCount + PageCount.pageByteCount - 1) & ~(PageCount.pageByteCount - 1)
  }

  /// - Precondition: the range lies in RAM.
  private static func bytes(of memory: FlatMemory, _ range: Range<UInt64>)
    -> UnsafeRawBufferPointer
  {
    UnsafeRawBufferPointer(rebasing: memory.bytes[Int(range.lowerBound)..<Int(range.upperBound)])
  }

  /// Whether a page holds nothing but zeros.
  private static func isZero(_ page: UnsafeRawBufferPointer) -> Bool {
    page.withMemoryRebound(to: UInt64.self) { words in words.allSatisfy { $0 == 0 } }
  }
}
