import IOMMUFormats

/// What a dump is and what it holds.
public struct ImageSummary: Sendable {
  /// Pages of one packing.
  public struct Packing: Sendable, Equatable {
    /// `zlib`, `lzo`, `snappy`, `zstd`, or `none` for pages that are stored as they are.
    public var name: String
    public var pageCount: UInt64
    /// Bytes of their packed pages together.
    public var byteCount: UInt64
    /// The Debian package that unpacks them, when it is not installed.
    public var missingPackage: String?
  }

  /// The files' paths as they were given, in the order of their pages.
  public var paths: [String]
  public var format: ImageFormat
  /// The file is a flattened stream.
  public var isFlattened: Bool
  /// Of a kdump-compressed dump its header's version.
  public var version: Int32?
  /// What the files lack because a disk was full or a copy ended early.
  public var incompleteness: [Incompleteness]
  /// What makedumpfile was told to leave out, as its option `-d` counts; `nil` when not known.
  public var dumpLevel: Int32?
  /// Bytes of the files together; `nil` for a device.
  public var fileByteCount: UInt64?
  /// Bytes in a page.
  public var pageByteCount: UInt64
  /// Bytes of memory that the files store; holes of a raw file are none.
  public var storedByteCount: UInt64
  /// Bytes that count as zero and are not stored: the end of PT_LOADs, gaps of a stream, holes of a
  /// raw file, or pages of zeros that share one page's bytes.
  public var zeroByteCount: UInt64
  /// Bytes of memory that were left out; `nil` where the format cannot say, or a file is cut off
  /// that would.
  public var excludedByteCount: UInt64?
  /// How the stored pages are packed; empty for formats that do not pack.
  public var packings: [Packing]
  /// What the image holds: half-open, ascending, not touching each other.
  public var ranges: [Range<PhysicalAddress>]
  /// What the kernel says of itself.
  public var vmcoreInfo: VMCoreInfo?
  /// Processors whose registers are in the notes.
  public var processorCount: Int
}

extension MemoryImage {
  /// What this dump is and what it holds.
  ///
  /// - Complexity: O(*n*) in the number of program headers, or of pages of a kdump-compressed dump:
  ///   their descriptors are read, and none of their bytes.
  public func summary() -> ImageSummary {
    let kdump = paged as? KdumpMemory
    let header = kdump?.files[0].header
    var summary = ImageSummary(
      paths: kdump?.files.map(\.file.path) ?? [path], format: format,
      isFlattened: files[0].isFlattened, version: header?.version,
      incompleteness: incompleteness,
      dumpLevel: header?.dumpLevel,
      fileByteCount: format == .device ? nil : files.reduce(0) { $0 + $1.file.byteCount },
      pageByteCount: kdump?.pageByteCount ?? PageCount.pageByteCount, storedByteCount: 0,
      zeroByteCount: 0, excludedByteCount: nil, packings: [], ranges: backedRanges,
      vmcoreInfo: vmcoreInfo, processorCount: ELFNotes(bytes: notes).processorCount)
    if let kdump {
      let census = KdumpCensus(kdump)
      summary.packings = census.packings
      summary.zeroByteCount = census.zeroPageCount * kdump.pageByteCount
      summary.storedByteCount =
        (census.pageCount - census.zeroPageCount) * kdump.pageByteCount
      summary.excludedByteCount = kdump.excludedPageCount.map { $0 * kdump.pageByteCount }
    } else {
      if let stream = source as? SnappyStream { summary.packings = [stream.packing] }
      // A container says itself what it stores, and holes of its file are the file system's: a copy may
      // have others. Raw bytes have nothing but their file to say it.
      forEachPiece { piece in
        var stored: UInt64 = 0
        if case .file(let offset) = piece.source {
          let range = offset..<offset + piece.byteCount
          stored =
            format == .raw
            ? files[0].storedByteCount(in: range) : source.recordedByteCount(in: range)
        }
        // Pieces do not overlap: neither sum is beyond 2^64 − 1.
        summary.storedByteCount += stored
        summary.zeroByteCount += piece.byteCount - stored
      }
    }
    return summary
  }
}

/// The descriptors of a kdump-compressed dump, counted.
private struct KdumpCensus {
  var pageCount: UInt64 = 0
  /// Pages that share the bytes of a page of zeros.
  var zeroPageCount: UInt64 = 0
  var packings: [ImageSummary.Packing] = []

  init(_ memory: KdumpMemory) {
    var counts: [UInt32: (pages: UInt64, bytes: UInt64)] = [:]
    for file in memory.files {
      // makedumpfile and QEMU put the page of zeros first: its offset is the smallest.
      var first = (offset: UInt64.max, index: UInt64(0), pages: UInt64(0))
      var descriptors = KdumpDescriptors(file)
      var index: UInt64 = 0
      while true {
        index += descriptors.skipLost()
        guard let descriptor = descriptors.next() else { break }
        defer { index += 1 }
        if file.isLost(descriptor) { continue }
        pageCount += 1
        let count = counts[descriptor.packing] ?? (0, 0)
        counts[descriptor.packing] = (count.pages + 1, count.bytes &+ descriptor.byteCount)
        if descriptor.offset < first.offset {
          first = (descriptor.offset, index, 1)
        } else if descriptor.offset == first.offset {
          first.pages += 1
        }
      }
      guard first.pages > 0, Self.isZero(file, first.index) else { continue }
      // They are no pages of their own.
      let descriptor = file.descriptor(at: first.index)
      zeroPageCount += first.pages
      counts[descriptor.packing]!.pages -= first.pages
      counts[descriptor.packing]!.bytes &-= first.pages &* descriptor.byteCount
    }
    packings = counts.filter { $0.value.pages > 0 }.sorted { $0.key < $1.key }.map { flags, count in
      let codec = PageCodec(rawValue: flags)
      return ImageSummary.Packing(
        name: codec.map { "\($0)" } ?? (flags == 0 ? "none" : "unknown \(hexadecimal(flags))"),
        pageCount: count.pages, byteCount: count.bytes,
        missingPackage: codec.flatMap { $0.loaded == nil ? $0.package : nil })
    }
  }

  private static func isZero(_ file: KdumpFile, _ index: UInt64) -> Bool {
    let (page, isThere) = [UInt8].filled(capacity: Int(file.header.pageByteCount)) {
      (try? file.unpack(at: index, into: &$0)) != nil
    }
    return isThere && page.span.isAllZero
  }
}
