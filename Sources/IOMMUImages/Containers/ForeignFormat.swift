/// A file format that is known by a mark and not read.
struct ForeignFormat {
  /// The bytes that tell.
  let mark: [UInt8]
  /// Where in the file they stand.
  let offset: UInt64
  /// What such a file is.
  let name: String
  /// How its user gets at the memory.
  let remedy: String

  init(_ mark: String, at offset: UInt64 = 0, _ name: String, _ remedy: String) {
    self.init(Array(mark.utf8), at: offset, name, remedy)
  }

  init(_ mark: [UInt8], at offset: UInt64 = 0, _ name: String, _ remedy: String) {
    self.mark = mark
    self.offset = offset
    self.name = name
    self.remedy = remedy
  }

  /// The foreign format whose mark stands in a file, or text.
  static func recognised(_ file: DumpFile) -> ForeignFormat? {
    all.first { file.bytes(at: $0.offset, count: $0.mark.count) == $0.mark }
      ?? (isText(file) ? text : nil)
  }

  /// The foreign format with its mark in the first bytes of a stream.
  static func marked(_ head: [UInt8]) -> ForeignFormat? {
    (all + traces + wideTexts).first { format in
      let start = Int(format.offset)
      return head.count >= start + format.mark.count
        && head[start...].starts(with: format.mark)
    } ?? wideText(head)
  }

  /// Bytes that hold every mark.
  static let markByteCount = 512

  /// No mark is the beginning of another.
  ///
  /// Sources: magic(5) for what file(1) knows; for memory formats the programs that write them, which
  /// `docs/containers.md` lists.
  static let all: [ForeignFormat] = memory + machines + disks + packed

  // MARK: Memory

  private static let asELF = "dump the memory as an ELF core or as raw bytes"
  private static let asGuest = "use 'virsh dump --memory-only' instead"
  private static let fromWindows = "convert it to raw bytes, with MemProcFS or Volatility"

  private static let memory = [
    // The number 0x4c694d45, in the other byte order.
    ForeignFormat(
      "LiME", "a LiME dump of a big-endian machine", "only little-endian ones are read"),
    ForeignFormat("PAGEDUMP", "a 32-bit Windows crash dump", fromWindows),
    ForeignFormat("PAGEDU64", "a 64-bit Windows crash dump", fromWindows),
    ForeignFormat("MDMP", "a Windows minidump, the memory of a program", asELF),
    ForeignFormat("HIBR", "a Windows hibernation file", fromWindows),
    ForeignFormat("hibr", "a Windows hibernation file", fromWindows),
    ForeignFormat("WAKE", "a Windows hibernation file", fromWindows),
    ForeignFormat("wake", "a Windows hibernation file", fromWindows),
    ForeignFormat("RSTR", "a Windows hibernation file", fromWindows),
    ForeignFormat([0xed, 0x23, 0x8f, 0x61, 0x73, 0x01, 0x19, 0xa8], "an LKCD dump", asELF),
    ForeignFormat(
      [0xa8, 0x19, 0x01, 0x73, 0x61, 0x8f, 0x23, 0xed], "a big-endian LKCD dump", asELF),
    ForeignFormat(
      [0xa8, 0x19, 0x01, 0x73, 0x61, 0x8f, 0x23, 0xfd], "a stand-alone dump of an IBM Z machine",
      "'zgetdump -f elf' converts it; only dumps of little-endian machines are read, though"),
    ForeignFormat(
      "sadump\0\0", "a SADUMP dump", "'makedumpfile -c -d 0 -x vmlinux FILE OUTPUT' converts it"),
    ForeignFormat("EVF\u{9}\u{d}\u{a}", "an EWF image", raw("ewfexport -f raw")),
    ForeignFormat("EVF2\u{d}\u{a}", "an EWF image", raw("ewfexport -f raw")),
    ForeignFormat("EVF", "an EWF image", raw("ewfexport -f raw")),
    ForeignFormat("LVF\u{9}\u{d}\u{a}", "an EWF image of files", raw("ewfexport -f raw")),
    ForeignFormat("AFF10\u{d}\u{a}", "an AFF image", raw("affconvert -r")),
  ]

  private static func raw(_ command: String) -> String { "'\(command)' makes raw bytes of it" }

  // MARK: Saved machines

  private static let machines = [
    ForeignFormat("QEVM", "a QEMU migration stream", "use 'dump-guest-memory' instead"),
    ForeignFormat("LibvirtQemudSave", "a saved libvirt guest", asGuest),
    ForeignFormat("LibvirtQemudPart", "a saved libvirt guest that is not whole", asGuest),
    ForeignFormat(
      "\u{7f}VirtualBox SavedState", "a saved VirtualBox machine",
      "use 'VBoxManage debugvm NAME dumpvmcore' instead, which writes an ELF core"),
    ForeignFormat(
      "Xen saved domain", "a saved Xen domain", "use 'xl dump-core' instead"),
    ForeignFormat("LinuxGuestRecord", "a saved Xen domain", "use 'xl dump-core' instead"),
  ]

  // MARK: Disks

  private static let disks = [
    ForeignFormat([0x51, 0x46, 0x49, 0xfb], "a qcow2 disk image", asGuest),
    ForeignFormat("KDMV", "a VMware disk image", "name the .vmem or the .vmss file"),
    ForeignFormat(
      "# Disk DescriptorFile", "a VMware disk image", "name the .vmem or the .vmss file"),
    ForeignFormat("conectix", "a VHD disk image", asELF),
    ForeignFormat("vhdxfile", "a VHDX disk image", asELF),
    ForeignFormat([0x7f, 0x10, 0xda, 0xbe], at: 64, "a VirtualBox disk image", asELF),
    ForeignFormat("LUKS\u{BA}", "an encrypted disk", asELF),
  ]

  // MARK: Packed files

  private static func packed(_ mark: [UInt8], _ name: String, _ command: String) -> ForeignFormat {
    ForeignFormat(mark, "\(name)-compressed", "decompress it first with '\(command)'")
  }

  private static func archive(
    _ mark: [UInt8], at offset: UInt64 = 0, _ name: String, _ command: String
  ) -> ForeignFormat {
    ForeignFormat(mark, at: offset, "a \(name) archive", "unpack it first with '\(command)'")
  }

  private static let packed = [
    packed([0x1f, 0x8b], "gzip", "gunzip"),
    packed([0x1f, 0x9d], "compress", "uncompress"),
    packed([0xfd, 0x37, 0x7a, 0x58, 0x5a, 0x00], "xz", "unxz"),
    packed([0x5d, 0x00, 0x00, 0x80, 0x00], "lzma", "unlzma"),
    packed([0x28, 0xb5, 0x2f, 0xfd], "zstd", "unzstd"),
    packed(Array("BZh".utf8), "bzip2", "bunzip2"),
    packed([0x89, 0x4c, 0x5a, 0x4f, 0x00, 0x0d, 0x0a, 0x1a, 0x0a], "lzop", "lzop -d"),
    packed(Array("LZIP".utf8), "lzip", "lzip -d"),
    packed([0x04, 0x22, 0x4d, 0x18], "lz4", "unlz4"),
    packed([0x02, 0x21, 0x4c, 0x18], "lz4", "unlz4"),
    packed(
      [0xff, 0x06, 0x00, 0x00] + Array("sNaPpY".utf8), "Snappy", "snzip -d"),
    archive([0x50, 0x4b, 0x03, 0x04], "zip", "unzip"),
    archive([0x37, 0x7a, 0xbc, 0xaf, 0x27, 0x1c], "7z", "7z x"),
    archive(Array("Rar!".utf8), "rar", "unrar x"),
    archive(Array("ustar".utf8), at: 257, "tar", "tar -x"),
    archive(Array("!<arch>\n".utf8), "ar", "ar x"),
    archive(Array("070701".utf8), "cpio", "cpio -i"),
  ]

  // MARK: Traces

  private static func trace(_ mark: [UInt8], _ name: String, _ command: String) -> ForeignFormat {
    ForeignFormat(mark, name, "write it out as text with '\(command)'")
  }

  /// Recordings of events that their own programs write out as text.
  private static let traces = [
    trace(
      [0x17, 0x08, 0x44] + Array("tracing".utf8), "a recording of trace-cmd", "trace-cmd report -i"),
    trace(Array("PERFILE2".utf8), "a recording of perf", "perf script -i"),
    // A record without an event, and the format's own number.
    trace(
      [UInt8](repeating: 0xff, count: 8) + [0xb4, 0x29, 0xa4, 0x0a, 0xcb, 0x77, 0xb1, 0xf2],
      "a recording of QEMU's simple trace backend", "scripts/simpletrace.py"),
  ]

  // MARK: Text

  private static func wideText(_ mark: [UInt8], _ encoding: String) -> ForeignFormat {
    ForeignFormat(
      mark, "a text in UTF-16", "'iconv -f \(encoding) -t UTF-8' makes one of it that is read")
  }

  /// Text of two bytes a letter, as Windows' shell writes it.
  private static let wideTexts = [
    wideText([0xff, 0xfe], "UTF-16"), wideText([0xfe, 0xff], "UTF-16"),
  ]

  /// The same without its mark: letters of which every second byte is 0.
  private static func wideText(_ head: [UInt8]) -> ForeignFormat? {
    guard head.count >= 16 else { return nil }
    func isLetter(_ byte: UInt8) -> Bool { 9...13 ~= byte || 0x20...0x7e ~= byte }
    let pairs = stride(from: 0, to: min(head.count, 64) - 1, by: 2)
    if pairs.allSatisfy({ isLetter(head[$0]) && head[$0 + 1] == 0 }) {
      return wideText([], "UTF-16LE")
    }
    if pairs.allSatisfy({ head[$0] == 0 && isLetter(head[$0 + 1]) }) {
      return wideText([], "UTF-16BE")
    }
    return nil
  }

  private static let text = ForeignFormat(
    [], "a text",
    "name the dump; the log goes to 'iommu explain', a machine file behind --machine")

  /// A shorter file is too little to tell.
  private static let shortestText: UInt64 = 64

  /// Whether a file begins with a page of lines of letters, as memory at address 0 does not.
  private static func isText(_ file: DumpFile) -> Bool {
    let count = Int(min(file.byteCount, UInt64(InputKind.headByteCount)))
    guard file.byteCount >= shortestText, !file.file.isDevice,
      let head = file.bytes(at: 0, count: count)
    else { return false }
    return InputKind.isText(head) && head.contains(0x0a) && head.contains { 0x21...0x7e ~= $0 }
  }
}
