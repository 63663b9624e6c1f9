/// Where the fields of a kdump-compressed file lie, as byte offsets, and the values used. Integers
/// are little-endian.
///
/// Header, sub header, one or two bitmaps, a descriptor for each dumped page, the pages; each of the
/// first three fills whole blocks. The structures are the dumping kernel's, so that their layout is
/// that of its architecture: x86-64 or IA-32.
///
/// Source: makedumpfile's IMPLEMENTATION, "The kdump-compressed format".
struct KdumpLayout: Sendable {
  static let kdumpMagic = Array("KDUMP   ".utf8)
  /// The dumps of the old diskdump facility; their sub header is another.
  static let diskdumpMagic = Array("DISKDUMP".utf8)

  // Header, the same in both.
  static let version: UInt64 = 8
  /// The names of ``SystemNames``, one after the other.
  static let systemNames: UInt64 = 12

  // Header, from the time stamp on.
  let status: UInt64
  var blockSize: UInt64 { status + 4 }
  var subHeaderBlocks: UInt64 { status + 8 }
  var bitmapBlocks: UInt64 { status + 12 }
  var maxMapNumber: UInt64 { status + 16 }
  var processorCount: UInt64 { status + 36 }
  var headerByteCount: UInt64 { status + 40 }

  // Sub header.
  let physicalBase: UInt64 = 0
  /// Version 1 and later.
  let dumpLevel: UInt64
  /// Version 2 and later.
  let split: UInt64
  let startFrame: UInt64
  let endFrame: UInt64
  /// Version 3 and later; offset and size.
  let vmcoreInfo: UInt64
  /// Version 4 and later; offset and size.
  let notes: UInt64
  /// Version 6 and later.
  let startFrame64: UInt64
  let endFrame64: UInt64
  let maxMapNumber64: UInt64
  /// Bytes of a C `unsigned long`.
  let longByteCount: UInt64
  let subHeaderByteCount: UInt64

  static let x86_64 = KdumpLayout(
    status: 424, dumpLevel: 8, split: 12, startFrame: 16, endFrame: 24, vmcoreInfo: 32, notes: 48,
    startFrame64: 80, endFrame64: 88, maxMapNumber64: 96, longByteCount: 8,
    subHeaderByteCount: 104)
  static let ia32 = KdumpLayout(
    status: 412, dumpLevel: 4, split: 8, startFrame: 12, endFrame: 16, vmcoreInfo: 20, notes: 32,
    startFrame64: 56, endFrame64: 64, maxMapNumber64: 72, longByteCount: 4,
    subHeaderByteCount: 80)

  /// `status`: the disk was full before the dump was whole.
  static let incomplete: UInt32 = 0x8
  /// The newest version there is.
  static let currentVersion: Int32 = 6

  /// A page descriptor: where its packed bytes lie, how many they are, how they are packed.
  enum Descriptor {
    static let byteCount: UInt64 = 24
    static let offset: UInt64 = 0
    static let size: UInt64 = 8
    static let flags: UInt64 = 12
  }
}
