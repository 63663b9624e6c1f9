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
    static let headerSize: UInt64 = 52
    static let programHeaderSize: UInt64 = 54
    static let programHeaderCount: UInt64 = 56
    static let sectionHeaderSize: UInt64 = 58
    static let sectionHeaderCount: UInt64 = 60
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
  static let segmentLoad: UInt32 = 1
  static let segmentReadWriteExecute: UInt32 = 7
  /// PN_XNUM: the count is in section header 0.
  static let extendedCount: UInt16 = 0xffff
}
