import IOMMUFormats

/// What the headers of a kdump-compressed file say. The parts that they name may lie beyond its end.
struct KdumpHeader: Sendable {
  /// More page frames than 52 address bits reach.
  static let frameLimit: UInt64 = 1 << 40

  let layout: KdumpLayout
  let isDiskdump: Bool
  /// 1 to 6; larger ones are read as 6.
  let version: Int32
  /// Bytes in a block and in a page, a power of two.
  let pageByteCount: UInt64
  /// The disk was full before the dump was whole.
  let isIncomplete: Bool
  /// One past the last page frame of the machine.
  let frameCount: UInt64
  /// The frames in this file; of a file that is not split all of them.
  let frames: Range<UInt64>
  let isSplit: Bool
  /// What makedumpfile was told to leave out, as its `-d` counts; `nil` when not known.
  let dumpLevel: Int32?
  /// The kernel that dumped; a name that the file does not have is empty.
  let names: SystemNames
  /// Where the bitmap of the machine's pages lies, and that of the dumped ones; the same in old
  /// files that have one only.
  let memoryBitmap: UInt64
  let dumpedBitmap: UInt64
  /// The first page descriptor.
  let descriptors: UInt64
  /// The header counts the blocks of one bitmap, and two are there. kdumpling 0.4.0 writes such
  /// files, and marks every page with the flag of Snappy beside its own.
  let isMiscounted: Bool
  /// Half-open; empty when there are none, and perhaps beyond the end of a file that is cut off.
  let vmcoreInfo: Range<UInt64>
  let notes: Range<UInt64>

  init(_ file: DumpFile) throws(ImageError) {
    let reader = HeaderReader(file: file)
    isDiskdump = file.starts(with: KdumpLayout.diskdumpMagic)
    version = try reader.field(Int32.self, KdumpLayout.version)
    names = reader.names
    layout = try reader.layout(machine: names.machine)
    let block = UInt64(try reader.field(UInt32.self, layout.blockSize))
    pageByteCount = block
    isIncomplete = try reader.field(UInt32.self, layout.status) & KdumpLayout.incomplete != 0
    let subHeaderBlocks = UInt64(try reader.field(UInt32.self, layout.subHeaderBlocks))
    let bitmapBlocks = UInt64(try reader.field(UInt32.self, layout.bitmapBlocks))
    let sub = SubHeader(reader: reader, layout: layout, block: block)
    // Old diskdump keeps processor registers where kdump has its sub header.
    let hasSubHeader = !isDiskdump && subHeaderBlocks > 0
    let level = hasSubHeader ? version : 0
    dumpLevel = level >= 1 ? try reader.field(Int32.self, block + layout.dumpLevel) : nil
    let maximum =
      level >= 6
      ? try reader.field(UInt64.self, block + layout.maxMapNumber64)
      : UInt64(try reader.field(UInt32.self, layout.maxMapNumber))
    guard maximum <= Self.frameLimit else {
      throw reader.error(
        "\(maximum) page frames, more than 52 address bits reach", HeaderReader.damaged,
        at: level >= 6 ? block + layout.maxMapNumber64 : layout.maxMapNumber)
    }
    let split = try level >= 2 ? sub.frames(version: version) : nil
    isSplit = split != nil
    frames = (split ?? 0..<maximum).clamped(to: 0..<maximum)
    vmcoreInfo = try level >= 3 ? sub.part(layout.vmcoreInfo, "VMCOREINFO") : 0..<0
    notes = try level >= 4 ? sub.part(layout.notes, "notes") : 0..<0
    frameCount = maximum

    // 32-bit counts of blocks of at most 64 KiB: none of this overflows.
    memoryBitmap = (1 + subHeaderBlocks) * block
    let bitmapByteCount = bitmapBlocks * block
    guard maximum <= bitmapByteCount * 8 else {
      throw reader.error(
        "\(maximum) page frames, where the bitmap has \(bitmapByteCount * 8)",
        HeaderReader.damaged, at: layout.maxMapNumber)
    }
    let isOdd = bitmapBlocks % 2 != 0
    isMiscounted =
      isOdd && maximum > 0
      && reader.isPage(descriptor: memoryBitmap + 2 * bitmapByteCount, pageByteCount: block)
      && !reader.isPage(descriptor: memoryBitmap + bitmapByteCount, pageByteCount: block)
    let hasTwoBitmaps = !isOdd && maximum <= bitmapByteCount / 2 * 8
    let firstByteCount =
      isMiscounted ? bitmapByteCount : hasTwoBitmaps ? bitmapBlocks / 2 * block : 0
    dumpedBitmap = memoryBitmap + firstByteCount
    descriptors = memoryBitmap + bitmapByteCount + (isMiscounted ? bitmapByteCount : 0)
  }
}

/// The part of the sub header that is checked as it is read.
private struct SubHeader {
  let reader: HeaderReader
  let layout: KdumpLayout
  /// Where it starts.
  let block: UInt64

  /// The frames of a split file; `nil` for a whole one.
  func frames(version: Int32) throws(ImageError) -> Range<UInt64>? {
    guard try reader.field(UInt32.self, block + layout.split) != 0 else { return nil }
    let start: UInt64
    let end: UInt64
    if version >= 6 {
      start = try reader.field(UInt64.self, block + layout.startFrame64)
      end = try reader.field(UInt64.self, block + layout.endFrame64)
    } else {
      start = try reader.long(block + layout.startFrame, layout)
      end = try reader.long(block + layout.endFrame, layout)
    }
    guard start <= end else {
      throw reader.error(
        "a part of a split dump from frame \(start) to \(end)", HeaderReader.damaged, at: block)
    }
    return start..<end
  }

  /// A part of the file that an offset and a size name.
  func part(_ field: UInt64, _ name: String) throws(ImageError) -> Range<UInt64> {
    let offset = try reader.field(UInt64.self, block + field)
    let size = try reader.long(block + field + 8, layout)
    guard size > 0 else { return 0..<0 }
    guard size <= ELFNotes.byteCountLimit, offset <= UInt64(Int64.max) else {
      throw reader.error(
        "\(name) of \(size) bytes at byte \(hexadecimal(offset)) of \(reader.file.byteCount)",
        HeaderReader.damaged, at: block + field)
    }
    return offset..<offset + size
  }
}

/// Fields of the headers, and the errors about them.
private struct HeaderReader {
  static let damaged = "the header is damaged, copy the file again"
  let file: DumpFile

  func error(_ found: String, _ remedy: String, at offset: UInt64) -> ImageError {
    ImageError(
      file: file.path, place: "kdump header", offset: offset, found: found, remedy: remedy)
  }

  func field<Word: FixedWidthInteger & BitwiseCopyable>(_: Word.Type, _ offset: UInt64)
    throws(ImageError) -> Word
  {
    guard let value = file.integer(Word.self, at: offset) else {
      throw error(
        "the file ends at \(file.byteCount) bytes, inside the header",
        "the file is truncated, copy it again", at: offset)
    }
    return value
  }

  func long(_ offset: UInt64, _ layout: KdumpLayout) throws(ImageError) -> UInt64 {
    layout.longByteCount == 8
      ? try field(UInt64.self, offset) : UInt64(try field(UInt32.self, offset))
  }

  /// The names of at most 64 letters; empty where there is none.
  var names: SystemNames {
    var names = SystemNames()
    for (index, field) in SystemNames.fields.enumerated() {
      let place = KdumpLayout.systemNames + UInt64(index) * SystemNames.nameByteCount
      names[keyPath: field] =
        file.bytes(at: place, count: Int(SystemNames.nameByteCount)).flatMap(SystemNames.name) ?? ""
    }
    return names
  }

  /// Whether a page of at most `pageByteCount` packed bytes lies where a descriptor says, behind it.
  func isPage(descriptor place: UInt64, pageByteCount: UInt64) -> Bool {
    guard let offset = file.integer(UInt64.self, at: place + KdumpLayout.Descriptor.offset),
      let size = file.integer(UInt32.self, at: place + KdumpLayout.Descriptor.size)
    else { return false }
    return offset > place && 1...pageByteCount ~= UInt64(size) && file.holds(size, at: offset)
  }

  /// The architecture's layout: as the machine's name says, or the one whose block size can be.
  func layout(machine: String) throws(ImageError) -> KdumpLayout {
    let isIA32 = machine.count == 4 && machine.hasPrefix("i") && machine.hasSuffix("86")
    let candidates: [KdumpLayout] =
      isIA32 ? [.ia32] : machine == "x86_64" ? [.x86_64] : [.x86_64, .ia32]
    for candidate in candidates {
      let block = try field(UInt32.self, candidate.blockSize)
      if 4096...65536 ~= block, block.nonzeroBitCount == 1 { return candidate }
    }
    let block = try field(UInt32.self, candidates[0].blockSize)
    let version = try field(Int32.self, KdumpLayout.version)
    if 1...KdumpLayout.currentVersion ~= version.byteSwapped {
      throw error(
        "a big-endian kdump-compressed dump\(machine.isEmpty ? "" : " of \(machine)")",
        "only dumps of little-endian machines are read", at: KdumpLayout.version)
    }
    throw error(
      "a block size of \(block) bytes, where 4096 to 65536 are possible", Self.damaged,
      at: candidates[0].blockSize)
  }
}
