/// Where the fields of an ELF64 file lie, as byte offsets in their structure, and the values used.
///
/// Source: System V application binary interface, "Object Files"; `elf(5)`.
enum ELF64 {
  static let magic: [UInt8] = [0x7f, 0x45, 0x4c, 0x46]
  static let headerByteCount: UInt64 = 64
  static let programHeaderByteCount: UInt64 = 56
  static let sectionHeaderByteCount: UInt64 = 64

  /// The file header.
  enum Header {
    static let fileClass: UInt64 = 4
    static let dataEncoding: UInt64 = 5
    static let identVersion: UInt64 = 6
    static let type: UInt64 = 16
    static let machine: UInt64 = 18
    static let version: UInt64 = 20
    static let programHeaderOffset: UInt64 = 32
    static let sectionHeaderOffset: UInt64 = 40
    static let flags: UInt64 = 48
    static let headerSize: UInt64 = 52
    static let programHeaderSize: UInt64 = 54
    static let programHeaderCount: UInt64 = 56
    static let sectionHeaderSize: UInt64 = 58
    static let sectionHeaderCount: UInt64 = 60
    static let sectionNames: UInt64 = 62
  }

  /// A program header.
  enum Program {
    static let type: UInt64 = 0
    static let flags: UInt64 = 4
    static let offset: UInt64 = 8
    static let virtualAddress: UInt64 = 16
    static let physicalAddress: UInt64 = 24
    static let fileSize: UInt64 = 32
    static let memorySize: UInt64 = 40
    static let alignment: UInt64 = 48
  }

  /// `sh_info` of section header 0: the number of program headers, where 16 bits do not hold it.
  static let sectionInfo: UInt64 = 44

  static let class64: UInt8 = 2
  static let littleEndian: UInt8 = 1
  static let currentVersion: UInt8 = 1
  static let typeCore: UInt16 = 4
  static let machineX86_64: UInt16 = 62
  static let segmentNull: UInt32 = 0
  static let segmentLoad: UInt32 = 1
  static let segmentNote: UInt32 = 4
  static let segmentReadWriteExecute: UInt32 = 7
  /// `e_flags`: the disk was full before the dump was whole. Source: makedumpfile(8), as its files
  /// show it; no machine whose dumps are read has flags of its own.
  static let incomplete: UInt32 = 0x1
  /// PN_XNUM: the count is in section header 0.
  static let extendedCount: UInt16 = 0xffff
}

/// The fields that are read, in both classes of ELF file. A field's width follows from its class:
/// addresses, offsets and sizes have `wordByteCount` bytes.
///
/// Source: as for ``ELF64``.
struct ELFLayout {
  let wordByteCount: Int
  let headerByteCount: UInt64
  let programHeaderOffset: UInt64
  let sectionHeaderOffset: UInt64
  let flags: UInt64
  let programHeaderSize: UInt64
  let programHeaderCount: UInt64
  /// Of a program header: its size, then where its fields lie.
  let programHeaderByteCount: UInt64
  let offset: UInt64
  let virtualAddress: UInt64
  let physicalAddress: UInt64
  let fileSize: UInt64
  let memorySize: UInt64
  let sectionHeaderByteCount: UInt64
  let sectionInfo: UInt64

  static let class64 = ELFLayout(
    wordByteCount: 8, headerByteCount: ELF64.headerByteCount,
    programHeaderOffset: ELF64.Header.programHeaderOffset,
    sectionHeaderOffset: ELF64.Header.sectionHeaderOffset, flags: ELF64.Header.flags,
    programHeaderSize: ELF64.Header.programHeaderSize,
    programHeaderCount: ELF64.Header.programHeaderCount,
    programHeaderByteCount: ELF64.programHeaderByteCount, offset: ELF64.Program.offset,
    virtualAddress: ELF64.Program.virtualAddress, physicalAddress: ELF64.Program.physicalAddress,
    fileSize: ELF64.Program.fileSize,
    memorySize: ELF64.Program.memorySize, sectionHeaderByteCount: ELF64.sectionHeaderByteCount,
    sectionInfo: ELF64.sectionInfo)
  /// Cores of 32-bit kernels (`kexec --elf32-core-headers`).
  static let class32 = ELFLayout(
    wordByteCount: 4, headerByteCount: 52, programHeaderOffset: 28, sectionHeaderOffset: 32,
    flags: 36, programHeaderSize: 42, programHeaderCount: 44, programHeaderByteCount: 32,
    offset: 4, virtualAddress: 8, physicalAddress: 12, fileSize: 16, memorySize: 20,
    sectionHeaderByteCount: 40,
    sectionInfo: 28)

  /// The address that says "none", as wide as addresses are.
  var noAddress: UInt64 { wordByteCount == 8 ? .max : UInt64(UInt32.max) }
}
