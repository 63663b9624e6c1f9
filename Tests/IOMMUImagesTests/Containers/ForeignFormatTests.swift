import Glibc
import IOMMUFormats
import IOMMUTestSupport
import Testing

@testable import IOMMUImages

@Suite struct ForeignFormatTests {
  let scratch = TemporaryDirectory()

  private func message(_ bytes: [UInt8]) throws -> String {
    let path = scratch.file("dump", bytes + [UInt8](repeating: 0, count: 512 - bytes.count))
    return "\(try #require(openingError(path)))".replacing("\(scratch.path)/", with: "")
  }

  @Test(arguments: [
    ("LiME", "a LiME dump of a big-endian machine", "little-endian"),
    ("PAGEDUMP", "a 32-bit Windows crash dump", "raw bytes"),
    ("PAGEDU64", "a 64-bit Windows crash dump", "raw bytes"),
    ("HIBR", "a Windows hibernation file", "raw bytes"),
    ("sadump\0\0", "a SADUMP dump", "makedumpfile"),
    ("EVF\u{9}\u{d}\u{a}", "an EWF image", "ewfexport"),
    ("QEVM", "a QEMU migration stream", "dump-guest-memory"),
    ("LibvirtQemudSave", "a saved libvirt guest", "virsh dump"),
    ("\u{7f}VirtualBox SavedState V2.0", "a saved VirtualBox machine", "dumpvmcore"),
    ("Xen saved domain, xl format", "a saved Xen domain", "xl dump-core"),
    ("KDMV", "a VMware disk image", ".vmem"),
    ("vhdxfile", "a VHDX disk image", "ELF core"),
    ("BZh9", "bzip2-compressed", "bunzip2"),
    ("LZIP", "lzip-compressed", "lzip -d"),
  ])
  func `a known mark is named with its way out`(mark: String, name: String, remedy: String) throws {
    let text = try message(Array(mark.utf8) + [0, 1, 2])
    #expect(text.hasPrefix("dump: at byte 0x0: \(name), which is not read; "))
    #expect(text.contains(remedy))
  }

  @Test(
    arguments: [
      ([0x1f, 0x8b], "gunzip"), ([0xfd, 0x37, 0x7a, 0x58, 0x5a, 0], "unxz"),
      ([0x28, 0xb5, 0x2f, 0xfd], "unzstd"), ([0x04, 0x22, 0x4d, 0x18], "unlz4"),
      ([0x89, 0x4c, 0x5a, 0x4f, 0x00, 0x0d, 0x0a, 0x1a, 0x0a], "lzop -d"),
      ([0x50, 0x4b, 0x03, 0x04], "unzip"), ([0x37, 0x7a, 0xbc, 0xaf, 0x27, 0x1c], "7z x"),
      ([UInt8](repeating: 0x61, count: 257) + Array("ustar".utf8), "tar -x"),
      ([0xa8, 0x19, 0x01, 0x73, 0x61, 0x8f, 0x23, 0xfd], "zgetdump"),
      ([0xed, 0x23, 0x8f, 0x61, 0x73, 0x01, 0x19, 0xa8], "an LKCD dump"),
    ] as [([UInt8], String)])
  func `marks that are no letters are known as well`(mark: [UInt8], text: String) throws {
    #expect(try message(mark).contains(text))
  }

  @Test func `a text is no memory, and bytes without lines are no text`() throws {
    let line = "[    0.000000] Linux version 6.1.0 (a name with \u{e9} in it)\n"
    for count in [2, 100] {
      let path = scratch.file("log", String(repeating: line, count: count))
      let error = try #require(openingError(path))
      #expect(error.found == "a text, which is not read")
      #expect(error.remedy?.contains("iommu explain") == true)
    }
    for bytes in [
      [UInt8](repeating: 0x41, count: 4096), Array(line.utf8.prefix(40)),
      Array(line.utf8) + [UInt8](repeating: 0, count: 10),
    ] {
      #expect(try MemoryImage(path: scratch.file("raw", bytes)).format == .raw)
    }
  }

  @Test func `no mark is the beginning of another format's that is read`() {
    for foreign in ForeignFormat.all {
      for mark in DumpPaths.marks + [FlattenedStream.magic] {
        #expect(foreign.offset > 0 || !mark.starts(with: foreign.mark), "\(foreign.name)")
      }
    }
  }
}

@Suite struct DumpPathsTests {
  let scratch = TemporaryDirectory()

  @Test func `the dump of a directory is taken`() throws {
    _ = scratch.file("vmcore", TinyELF([TinyELF.Load(physical: 0x1000, data: [1, 2, 3, 4])]).bytes)
    _ = scratch.file("vmcore-dmesg.txt", "Linux version 6.1.0\n")
    _ = scratch.file("empty", [])
    for path in [scratch.path, scratch.path + "/"] {
      let image = try MemoryImage(path: path)
      #expect(image.paths == [scratch.path("vmcore")])
      #expect(image.doubleword(at: PhysicalAddress(0x1000)) == 0x0403_0201)
    }
  }

  @Test func `of several dumps the names are told`() throws {
    _ = scratch.file("a.core", TinyELF([TinyELF.Load(physical: 0x1000, data: [1])]).bytes)
    _ = scratch.file("b.lime", limeHeader("EMiL", 1, 0, 0) + [1])
    let error = try #require(openingError(scratch.path))
    #expect("\(error)" == "\(scratch.path): a directory with dumps; name one of a.core, b.lime")
  }

  @Test func `a directory without a dump says so, and names directories in it`() throws {
    #expect(try #require(openingError(scratch.path)).found == "a directory without a dump")
    mkdir(scratch.path("2026-11-28"), 0o700)
    let inside = scratch.path("2026-11-28/log")
    _ = scratch.file("2026-11-28/log", "a\n")
    defer {
      unlink(inside)
      rmdir(scratch.path("2026-11-28"))
    }
    #expect(try #require(openingError(scratch.path)).remedy == "name one of 2026-11-28")
  }
}
