import IOMMUFormats

/// Writes a dump in another format.
///
/// What a format cannot say is said in ``Report``: raw bytes cannot leave memory out, and a
/// kdump-compressed dump holds whole pages.
public enum ImageConverter {
  /// What can be written.
  public enum Target: String, Sendable, CaseIterable {
    /// Bytes from physical address 0, with holes in the file for zeros.
    case raw
    /// An ELF64 core: a PT_LOAD for each run of memory, the notes of the dump.
    case elf
    /// A kdump-compressed dump of version 6, pages packed with zlib.
    case kdump
    /// The same as a flattened stream, as `dump-guest-memory -z` of QEMU writes it.
    case flattened
  }

  /// What came of it.
  public struct Report: Sendable, Equatable {
    /// Bytes of memory that were read; zeros that the dump does not store are not.
    public var byteCount: UInt64 = 0
    /// Bytes of the file that was written; those of holes count.
    public var fileByteCount: UInt64 = 0
    /// What the format could not say.
    public var warnings: [String] = []
  }

  /// Writes memory to a file, which appears whole or not at all. Pages that are all zero take no
  /// room, where the format or the file system can leave them out.
  ///
  /// - Parameters:
  ///   - image: The memory that is written, with the notes of its dump.
  ///   - path: The file; one that is there already gives way when all is written.
  ///   - target: The format.
  ///   - progress: Told how many bytes of memory are done, and of how many.
  /// - Throws: ``ImageError`` when a page of the dump could not be read, when the file cannot be
  ///   written, or when zlib is needed and not installed. An older file of that name is untouched
  ///   then.
  public static func write(
    _ image: MemoryImage, to path: String, as target: Target,
    progress: @escaping (_ done: UInt64, _ total: UInt64) -> Void = { _, _ in }
  ) throws(ImageError) -> Report {
    try write(image, to: path, as: target, threadCount: usableProcessorCount, progress: progress)
  }

  /// The same with so many threads that pack pages.
  static func write(
    _ image: MemoryImage, to path: String, as target: Target, threadCount: Int,
    progress: @escaping (_ done: UInt64, _ total: UInt64) -> Void = { _, _ in }
  ) throws(ImageError) -> Report {
    let segments = image.segmentsToWrite
    guard !segments.isEmpty else {
      throw ImageError(
        file: image.path, found: "holds no memory, so there is nothing to write",
        remedy: image.incompleteness.isEmpty
          ? "dump the memory again" : "what there was is cut off; copy the file again")
    }
    let total = segments.reduce(UInt64(0)) { $0 + $1.storedByteCount }
    let reader = ConversionReader(image: image, total: total, progress: progress)
    let file = try OutputFile(path: path, from: image.paths)
    var report = Report()
    switch target {
    case .raw: try writeRaw(segments, reader, to: file, &report)
    case .elf: try writeELF(segments, reader, to: file)
    case .kdump:
      try KdumpWriter(image: image, output: PlainDumpOutput(file: file), threadCount)
        .write(reader, &report)
    case .flattened:
      try KdumpWriter(image: image, output: FlattenedDumpOutput(file: file), threadCount)
        .write(reader, &report)
    }
    if !image.incompleteness.isEmpty {
      report.warnings.append(
        target == .raw
          ? "memory that the dump has lost is zero in raw bytes"
          : "the dump is incomplete, and what was written is marked as incomplete too")
    }
    try reader.check()
    try file.commit()
    report.byteCount = reader.done
    report.fileByteCount = file.byteCount
    return report
  }

  private static func writeRaw(
    _ segments: [ELFCoreHeaders.Segment], _ reader: ConversionReader, to file: OutputFile,
    _ report: inout Report
  ) throws(ImageError) {
    var hasHoles = false
    for segment in segments {
      hasHoles = hasHoles || segment.start != file.byteCount
      let range = PhysicalAddress(segment.start)..<PhysicalAddress(segment.storedEnd)
      try reader.forEachRun(in: range) { (bytes, address) throws(ImageError) in
        guard let bytes else { return }
        try file.skip(byteCount: address - file.byteCount)
        try file.write(bytes)
      }
      try file.skip(byteCount: segment.end - file.byteCount)
    }
    if hasHoles {
      report.warnings.append("memory that the dump does not hold is zero in raw bytes")
    }
  }

  private static func writeELF(
    _ segments: [ELFCoreHeaders.Segment], _ reader: ConversionReader, to file: OutputFile
  ) throws(ImageError) {
    let headers = ELFCoreHeaders(
      segments: segments, notes: reader.image.notes,
      isIncomplete: !reader.image.incompleteness.isEmpty,
      machine: reader.image.systemNames.elfMachine)
    try headers.write(to: file)
    try headers.forEachSegment { (segment, offset) throws(ImageError) in
      guard segment.storedByteCount > 0 else { return }
      let range = PhysicalAddress(segment.start)..<PhysicalAddress(segment.storedEnd)
      try reader.forEachRun(in: range) { (bytes, address) throws(ImageError) in
        guard let bytes else { return }
        try file.skip(byteCount: offset + (address - segment.start) - file.byteCount)
        try file.write(bytes)
      }
      try file.skip(byteCount: offset + segment.storedByteCount - file.byteCount)
    }
  }
}

extension MemoryImage {
  /// The memory as PT_LOADs: zeros that the dump does not store stay zero fill.
  fileprivate var segmentsToWrite: [ELFCoreHeaders.Segment] {
    var segments: [ELFCoreHeaders.Segment] = []
    func append(_ start: UInt64, _ end: UInt64, virtual: UInt64?, isStored: Bool) {
      let segment = ELFCoreHeaders.Segment(
        start: start, storedEnd: isStored ? end : start, end: end, virtualStart: virtual)
      if let last = segments.last, last.end == start, !isStored || last.storedEnd == last.end,
        segment.virtualStart == last.virtualStart &+ (start - last.start)
      {
        segments[segments.count - 1].end = end
        if isStored { segments[segments.count - 1].storedEnd = end }
      } else {
        segments.append(segment)
      }
    }
    // Both ascend: each piece of virtual memory is come to once.
    var place = 0
    func append(_ start: UInt64, _ end: UInt64, isStored: Bool) {
      var start = start
      while start < end {
        while place < virtualPieces.count, virtualPieces[place].end <= start { place += 1 }
        let piece = place < virtualPieces.count ? virtualPieces[place] : nil
        if let piece, piece.start <= start, case .file(let address) = piece.source {
          let stop = min(piece.end, end)
          append(
            start, stop, virtual: address + (start - piece.start), isStored: isStored)
          start = stop
        } else {
          let stop = min(piece?.start ?? end, end)
          append(start, stop, virtual: nil, isStored: isStored)
          start = stop
        }
      }
    }
    let stored = storedRanges
    var next = 0
    for range in backedRanges {
      var start = range.lowerBound
      while next < stored.count, stored[next].lowerBound < range.upperBound {
        if start < stored[next].lowerBound {
          append(start.rawValue, stored[next].lowerBound.rawValue, isStored: false)
        }
        start = stored[next].upperBound
        append(stored[next].lowerBound.rawValue, start.rawValue, isStored: true)
        next += 1
      }
      if start < range.upperBound {
        append(start.rawValue, range.upperBound.rawValue, isStored: false)
      }
    }
    return segments
  }
}
