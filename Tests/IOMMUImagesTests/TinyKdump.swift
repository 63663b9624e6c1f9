/// A kdump-compressed dump, byte by byte; it knows nothing of the reader that it helps to test.
///
/// Block 0 is the header, block 1 the sub header, then two bitmaps of a block each, the descriptors
/// and the pages.
struct TinyKdump {
  struct Page {
    var frame: UInt64
    var flags: UInt32 = 0
    var data: [UInt8]
    var size: UInt32?
    var offset: UInt64?
  }

  var signature = "KDUMP   "
  var version: UInt64 = 6
  var block = 4096
  var status: UInt64 = 0
  var machine = "x86_64"
  var frameCount: UInt64 = 32
  /// Frames of the machine beyond those of `pages`.
  var excluded: [UInt64] = []
  var pages: [Page] = []
  /// The file's part of a split dump. `pages` has those of all parts.
  var split: Range<UInt64>?
  var vmcoreInfo = ""
  var notes: [UInt8] = []
  /// Only one bitmap, for as many frames as its block has bits.
  var hasOneBitmap = false
  /// The sub header of an IA-32 kernel.
  var isIA32 = false

  static func little(_ value: UInt64, _ count: Int) -> [UInt8] { TinyELF.little(value, count) }

  private func put(_ value: UInt64, _ count: Int, at offset: Int, in bytes: inout [UInt8]) {
    bytes.replaceSubrange(offset..<offset + count, with: Self.little(value, count))
  }

  private func put(_ text: String, at offset: Int, in bytes: inout [UInt8]) {
    bytes.replaceSubrange(offset..<offset + text.utf8.count, with: Array(text.utf8))
  }

  private var header: [UInt8] {
    var bytes = [UInt8](repeating: 0, count: block)
    put(signature, at: 0, in: &bytes)
    put(version, 4, at: 8, in: &bytes)
    put("6.1.0-test", at: 142, in: &bytes)
    put(machine, at: 272, in: &bytes)
    let status = isIA32 ? 412 : 424
    put(self.status, 4, at: status, in: &bytes)
    put(UInt64(block), 4, at: status + 4, in: &bytes)
    put(1, 4, at: status + 8, in: &bytes)
    put(hasOneBitmap ? 1 : 2, 4, at: status + 12, in: &bytes)
    put(min(frameCount, 0xffff_ffff), 4, at: status + 16, in: &bytes)
    return bytes
  }

  private var subHeader: [UInt8] {
    var bytes = [UInt8](repeating: 0, count: block)
    let info = UInt64(block + 256)
    let note = UInt64(block + 1024)
    if isIA32 {
      put(31, 4, at: 4, in: &bytes)
      put(split == nil ? 0 : 1, 4, at: 8, in: &bytes)
      put(split?.lowerBound ?? 0, 4, at: 12, in: &bytes)
      put(split?.upperBound ?? 0, 4, at: 16, in: &bytes)
      put(info, 8, at: 20, in: &bytes)
      put(UInt64(vmcoreInfo.utf8.count), 4, at: 28, in: &bytes)
      put(note, 8, at: 32, in: &bytes)
      put(UInt64(notes.count), 4, at: 40, in: &bytes)
      put(split?.lowerBound ?? 0, 8, at: 56, in: &bytes)
      put(split?.upperBound ?? 0, 8, at: 64, in: &bytes)
      put(frameCount, 8, at: 72, in: &bytes)
    } else {
      put(31, 4, at: 8, in: &bytes)
      put(split == nil ? 0 : 1, 4, at: 12, in: &bytes)
      put(split?.lowerBound ?? 0, 8, at: 16, in: &bytes)
      put(split?.upperBound ?? 0, 8, at: 24, in: &bytes)
      put(info, 8, at: 32, in: &bytes)
      put(UInt64(vmcoreInfo.utf8.count), 8, at: 40, in: &bytes)
      put(note, 8, at: 48, in: &bytes)
      put(UInt64(notes.count), 8, at: 56, in: &bytes)
      if version >= 6 {
        put(split?.lowerBound ?? 0, 8, at: 80, in: &bytes)
        put(split?.upperBound ?? 0, 8, at: 88, in: &bytes)
        put(frameCount, 8, at: 96, in: &bytes)
      }
    }
    put(vmcoreInfo, at: 256, in: &bytes)
    bytes.replaceSubrange(1024..<1024 + notes.count, with: notes)
    return bytes
  }

  private func bitmap(_ frames: [UInt64]) -> [UInt8] {
    var bytes = [UInt8](repeating: 0, count: block)
    for frame in frames { bytes[Int(frame / 8)] |= 1 << UInt8(frame % 8) }
    return bytes
  }

  var bytes: [UInt8] {
    let dumped = pages.map(\.frame)
    var bytes = header + subHeader
    if !hasOneBitmap { bytes += bitmap(dumped + excluded) }
    bytes += bitmap(dumped)
    let here = pages.sorted { $0.frame < $1.frame }.filter { split?.contains($0.frame) ?? true }
    var offset = UInt64(bytes.count + 24 * here.count)
    for page in here {
      bytes += Self.little(page.offset ?? offset, 8)
      bytes += Self.little(UInt64(page.size ?? UInt32(page.data.count)), 4)
      bytes += Self.little(UInt64(page.flags), 4) + Self.little(0, 8)
      offset += UInt64(page.data.count)
    }
    for page in here { bytes += page.data }
    return bytes
  }
}

/// A flattened stream of records.
struct TinyFlattened {
  var records: [(offset: Int64, data: [UInt8])]
  var hasEnd = true
  var type: UInt8 = 1

  private static func big(_ value: Int64) -> [UInt8] {
    TinyELF.little(UInt64(bitPattern: value), 8).reversed()
  }

  var bytes: [UInt8] {
    var bytes = Array("makedumpfile\0\0\0\0".utf8)
    bytes += [0, 0, 0, 0, 0, 0, 0, type, 0, 0, 0, 0, 0, 0, 0, 1]
    bytes += [UInt8](repeating: 0, count: 4096 - bytes.count)
    for record in records {
      bytes += Self.big(record.offset) + Self.big(Int64(record.data.count)) + record.data
    }
    if hasEnd { bytes += Self.big(-1) + Self.big(-1) }
    return bytes
  }

  /// A file cut into records of `count` bytes, in the order that the generator shuffles them to.
  static func cut(
    _ file: [UInt8], every count: Int, using generator: inout some RandomNumberGenerator
  ) -> TinyFlattened {
    let starts = stride(from: 0, to: file.count, by: count).shuffled(using: &generator)
    return TinyFlattened(
      records: starts.map { (Int64($0), Array(file[$0..<min(file.count, $0 + count)])) })
  }
}
