/// How a file holds memory.
public enum ImageFormat: String, Sendable, CaseIterable, CustomStringConvertible {
  /// An ELF64 core: `/proc/vmcore`, `makedumpfile -E`, `virsh dump --memory-only`.
  case elfCore = "ELF core"
  /// Nothing but the bytes, from physical address 0.
  case raw = "raw"

  /// The name for people, such as `ELF core`.
  public var name: String { rawValue }
  /// The same as ``name``.
  public var description: String { rawValue }
}

/// A file format that is known by its first bytes and not read.
struct ForeignFormat {
  let magic: [UInt8]
  let name: String
  let remedy: String

  init(_ magic: String, _ name: String, _ remedy: String) {
    self.init(Array(magic.utf8), name, remedy)
  }

  init(_ magic: [UInt8], _ name: String, _ remedy: String) {
    self.magic = magic
    self.name = name
    self.remedy = remedy
  }

  /// No magic is the beginning of another.
  static let all: [ForeignFormat] = [
    ForeignFormat("KDUMP   ", "a kdump-compressed dump", asELF),
    ForeignFormat("DISKDUMP", "a diskdump", asELF),
    ForeignFormat(
      "makedumpfile", "a flattened dump", "reassemble it with 'makedumpfile -R out < in'"),
    ForeignFormat("EMiL", "a LiME dump", asRaw),
    ForeignFormat("LiME", "a LiME dump", asRaw),
    ForeignFormat([0x89] + Array("LiME".utf8), "a LiME dump", asRaw),
    ForeignFormat("PAGEDUMP", "a 32-bit Windows crash dump", asRaw),
    ForeignFormat("PAGEDU64", "a 64-bit Windows crash dump", asRaw),
    ForeignFormat([0x1f, 0x8b], "gzip-compressed", "decompress it first with 'gunzip'"),
    ForeignFormat(
      [0xfd, 0x37, 0x7a, 0x58, 0x5a, 0x00], "xz-compressed", "decompress it first with 'unxz'"),
    ForeignFormat(
      [0x28, 0xb5, 0x2f, 0xfd], "zstd-compressed", "decompress it first with 'unzstd'"),
  ]

  private static let asELF = "rearrange it as ELF with 'makedumpfile -E in out'"
  private static let asRaw = "dump the memory as an ELF core or as raw bytes"

  /// The foreign format that these first bytes of a file tell.
  static func recognised(_ bytes: UnsafeRawBufferPointer) -> ForeignFormat? {
    all.first { bytes.starts(with: $0.magic) }
  }
}
