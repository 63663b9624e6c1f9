import IOMMUFormats

/// Writes a machine's memory to a file that ``MemoryImage`` reads, and other tools read too.
public enum ELFCoreWriter {
  /// Zero runs shorter than this, in bytes, are stored: a header costs less than many of them.
  static let joinedGapByteCount: UInt64 = 64 << 10

  /// Writes memory as an ELF64 core.
  ///
  /// All of RAM is there; pages that are all zero are kept as zero fill, not as bytes, unless the
  /// run of them is short. Segments ascend and are page aligned in memory and in the file.
  ///
  /// - Throws: ``ImageError`` when the file cannot be written; an older one is untouched then.
  public static func write(_ memory: FlatMemory, to path: String) throws(ImageError) {
    let headers = ELFCoreHeaders(segments: segments(of: memory), notes: [])
    let file = try OutputFile(path: path)
    try headers.write(to: file)
    for segment in headers.segments where segment.storedByteCount > 0 {
      try write(memory, segment.start..<segment.storedEnd, to: file)
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
      try write(memory, run, to: file)
    }
    let end = memory.ram.last?.upperBound.rawValue ?? 0
    try file.skip(byteCount: end - file.byteCount)
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
        if span(of: memory, page..<page + 4096, { $0.isAllZero }) {
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
  static func segments(of memory: FlatMemory) -> [ELFCoreHeaders.Segment] {
    let runs = storedRuns(of: memory)
    var segments: [ELFCoreHeaders.Segment] = []
    var next = 0
    for range in memory.ram {
      let end = range.upperBound.rawValue
      // Zeros first; taken back when the first run starts where the range does.
      segments.append(
        ELFCoreHeaders.Segment(
          start: range.lowerBound.rawValue, storedEnd: range.lowerBound.rawValue, end: end))
      while next < runs.count, runs[next].lowerBound < end {
        let run = runs[next]
        next += 1
        let last = segments.count - 1
        let gap = run.lowerBound - segments[last].storedEnd
        if gap == 0 || segments[last].storedByteCount > 0 && gap < joinedGapByteCount {
          segments[last].storedEnd = run.upperBound
        } else {
          segments[last].end = run.lowerBound
          segments.append(
            ELFCoreHeaders.Segment(start: run.lowerBound, storedEnd: run.upperBound, end: end))
        }
      }
    }
    return segments
  }

  private static func write(
    _ memory: FlatMemory, _ range: Range<UInt64>, to file: OutputFile
  ) throws(ImageError) {
    try span(of: memory, range) { (bytes) throws(ImageError) in try file.write(bytes) }
  }

  /// - Precondition: the range lies in one range of RAM.
  private static func span<Result, Failure: Error>(
    of memory: FlatMemory, _ range: Range<UInt64>,
    _ body: (Span<UInt8>) throws(Failure) -> Result
  ) throws(Failure) -> Result {
    let start = PhysicalAddress(range.lowerBound)
    guard memory.isBacked(start, byteCount: UInt64(range.count)),
      let bytes = unsafe memory.bytesInPlace(from: start)
    else { preconditionFailure("what is written lies in RAM") }
    // Safe: the bytes from there to the end of RAM are the memory's, which lives through this call.
    return try unsafe body(
      Span(_unsafeBytes: UnsafeRawBufferPointer(rebasing: bytes.prefix(range.count))))
  }
}
