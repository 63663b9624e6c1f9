import IOMMUFormats

/// One file of a kdump-compressed dump: pages packed one by one, with bitmaps that say which are
/// there.
///
/// zlib, LZO, Snappy, Zstandard and unpacked pages may be mixed. Pages of zeros may share one
/// descriptor's bytes.
struct KdumpFile: Sendable {
  let file: DumpFile
  let header: KdumpHeader
  /// Pages that were dumped, those of the other files of a split dump too.
  let dumped: FrameBitmap
  /// Dumped pages before this file's first: its descriptors start after them.
  private let firstRank: UInt64

  /// The descriptors in this file.
  var descriptorCount: UInt64 { dumped.rank(of: header.frames.upperBound) - firstRank }

  init(_ file: DumpFile) throws(ImageError) {
    self.file = file
    let header = try KdumpHeader(file)
    self.header = header
    dumped = FrameBitmap(
      file: file, offset: header.dumpedBitmap, frameCount: header.frameCount)
    firstRank = dumped.rank(of: header.frames.lowerBound)
    // At most 2^40 frames: the product does not overflow.
    let byteCount = descriptorCount * KdumpLayout.Descriptor.byteCount
    guard header.isIncomplete || file.holds(byteCount, at: header.descriptors) else {
      throw ImageError(
        file: file.path, place: "kdump page descriptors", offset: header.descriptors,
        found: "\(descriptorCount) of them run past the end of the file "
          + "(\(hexadecimal(file.byteCount)) bytes)",
        remedy: "the file is truncated, copy it again")
    }
  }

  /// What is strange about this file and no error.
  var warnings: [String] {
    var warnings = file.warnings
    if header.version > KdumpLayout.currentVersion {
      warnings.append(
        "\(file.path): header version \(header.version) is newer than "
          + "\(KdumpLayout.currentVersion), and is read as that")
    }
    if header.isIncomplete {
      warnings.append(
        "\(file.path): the dump is incomplete, its disk was full; the pages that are missing "
          + "count as excluded")
    }
    return warnings
  }

  /// Where a page's packed bytes lie.
  struct Descriptor {
    var place: UInt64
    var offset: UInt64
    var byteCount: UInt64
    var flags: UInt32

    /// The disk was full before this page's turn. No page lies at the header.
    var isLost: Bool { offset == 0 }
    var packing: UInt32 { flags & PageCodec.mask }
  }

  /// The descriptor of a dumped page of this file.
  func descriptor(of frame: UInt64) -> Descriptor {
    descriptor(at: dumped.rank(of: frame) - firstRank)
  }

  /// The descriptor of a number; one of a lost page when the file ends before it.
  func descriptor(at index: UInt64) -> Descriptor {
    let place = header.descriptors + index * KdumpLayout.Descriptor.byteCount
    let known = file.withBytes(at: place, count: Int(KdumpLayout.Descriptor.byteCount)) { bytes in
      func word<Word: FixedWidthInteger>(_: Word.Type, _ offset: UInt64) -> Word {
        Word(littleEndian: bytes.loadUnaligned(fromByteOffset: Int(offset), as: Word.self))
      }
      return Descriptor(
        place: place, offset: word(UInt64.self, KdumpLayout.Descriptor.offset),
        byteCount: UInt64(word(UInt32.self, KdumpLayout.Descriptor.size)),
        flags: word(UInt32.self, KdumpLayout.Descriptor.flags))
    }
    return known ?? Descriptor(place: place, offset: 0, byteCount: 0, flags: 0)
  }

  /// Goes through the runs of frames whose pages this file has, ascending.
  func forEachRun(_ body: (Range<UInt64>) -> Void) {
    var index: UInt64 = 0
    dumped.forEachRun(in: header.frames) { run in
      guard header.isIncomplete else { return body(run) }
      var start: UInt64?
      for frame in run {
        if descriptor(at: index).isLost {
          if let first = start { body(first..<frame) }
          start = nil
        } else {
          start = start ?? frame
        }
        index += 1
      }
      if let first = start { body(first..<run.upperBound) }
    }
  }

  /// Unpacks a dumped page of this file into a buffer of its size.
  ///
  /// - Returns: Whether the page is there: one that was lost with a full disk is not.
  func unpack(
    frame: UInt64, into buffer: UnsafeMutableRawBufferPointer
  ) throws(ImageError) -> Bool {
    try unpack(descriptor(of: frame), into: buffer)
  }

  /// The same by a page's descriptor.
  func unpack(
    _ descriptor: Descriptor, into buffer: UnsafeMutableRawBufferPointer
  ) throws(ImageError) -> Bool {
    if header.isIncomplete, descriptor.isLost { return false }
    // Packed bytes that are no fewer than the page's would have been stored unpacked.
    guard descriptor.byteCount <= header.pageByteCount else {
      throw damaged(descriptor, "\(descriptor.byteCount) packed bytes, more than a page")
    }
    let codec = try codec(descriptor)
    let isWhole = file.withBytes(at: descriptor.offset, count: Int(descriptor.byteCount)) {
      guard let codec else {
        guard $0.count == buffer.count else { return false }
        buffer.copyMemory(from: $0)
        return true
      }
      return codec.unpack($0, into: buffer)
    }
    switch isWhole {
    case nil:
      throw damaged(
        descriptor,
        "\(descriptor.byteCount) bytes at byte \(hexadecimal(descriptor.offset)) of "
          + "\(hexadecimal(file.byteCount))")
    case false?:
      throw damaged(
        descriptor,
        codec.map { "\($0.codec) data that does not unpack to a page" }
          ?? "an unpacked page of \(descriptor.byteCount) bytes")
    case true?: return true
    }
  }

  /// How a page is packed; `nil` for one that is not.
  private func codec(
    _ descriptor: Descriptor
  ) throws(ImageError) -> LoadedCodec? {
    if descriptor.packing == 0 { return nil }
    guard let codec = PageCodec(rawValue: descriptor.packing) else {
      throw damaged(
        descriptor, "flags \(hexadecimal(descriptor.flags)), which name no one packing")
    }
    guard let loaded = codec.loaded else {
      var error = damaged(
        descriptor, "packed with \(codec), and \(codec.library) is not installed")
      error.remedy = "install it: apt-get install \(codec.package)"
      throw error
    }
    return loaded
  }

  private func damaged(_ descriptor: Descriptor, _ found: String) -> ImageError {
    ImageError(
      file: file.path, place: "page descriptor",
      offset: descriptor.place, found: found, remedy: "the dump is damaged, copy it again")
  }
}
