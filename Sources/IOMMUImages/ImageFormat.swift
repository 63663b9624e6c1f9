/// How a file holds memory.
public enum ImageFormat: String, Sendable, CaseIterable, CustomStringConvertible {
  /// An ELF core of either class: `/proc/vmcore`, `makedumpfile -E`, `virsh dump --memory-only`,
  /// `/proc/kcore`.
  case elfCore = "ELF core"
  /// Pages packed one by one: makedumpfile's own format, and `dump-guest-memory -z` of QEMU.
  case kdumpCompressed = "kdump-compressed"
  /// Nothing but the bytes, from physical address 0.
  case raw = "raw"
  /// The memory of the machine that runs: `/dev/mem`.
  case device = "physical memory device"

  /// The name for people, such as `ELF core`.
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
    ForeignFormat("EMiL", "a LiME dump", asRaw),
    ForeignFormat("LiME", "a LiME dump", asRaw),
    ForeignFormat([0x89] + Array("LiME".utf8), "a LiME dump", asRaw),
    ForeignFormat("PAGEDUMP", "a 32-bit Windows crash dump", asRaw),
    ForeignFormat("PAGEDU64", "a 64-bit Windows crash dump", asRaw),
    ForeignFormat(
      [0xed, 0x23, 0x8f, 0x61, 0x73, 0x01, 0x19, 0xa8], "an LKCD dump", asRaw),
    ForeignFormat("QEVM", "a QEMU migration stream", "use 'dump-guest-memory' instead"),
    ForeignFormat(
      "LibvirtQemudSave", "a saved libvirt guest", "use 'virsh dump --memory-only' instead"),
    ForeignFormat(
      [0x51, 0x46, 0x49, 0xfb], "a qcow2 disk image", "use 'virsh dump --memory-only' instead"),
    ForeignFormat([0x1f, 0x8b], "gzip-compressed", "decompress it first with 'gunzip'"),
    ForeignFormat(
      [0xfd, 0x37, 0x7a, 0x58, 0x5a, 0x00], "xz-compressed", "decompress it first with 'unxz'"),
    ForeignFormat(
      [0x28, 0xb5, 0x2f, 0xfd], "zstd-compressed", "decompress it first with 'unzstd'"),
  ]

  private static let asRaw = "dump the memory as an ELF core or as raw bytes"

  /// The foreign format that these first bytes of a file tell.
  static func recognised(_ file: DumpFile) -> ForeignFormat? {
    all.first { file.starts(with: $0.magic) }
  }
}
