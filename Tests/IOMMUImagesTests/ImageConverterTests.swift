import Glibc
import IOMMUFormats
import Testing

@testable import IOMMUImages

@Suite struct ImageConverterTests {
  let scratch = TemporaryDirectory()

  /// The image of `bytes` in another format, and what came of it.
  func converted(
    _ bytes: [UInt8], to target: ImageConverter.Target
  ) throws -> (image: MemoryImage, report: ImageConverter.Report, bytes: [UInt8]) {
    let source = try MemoryImage(path: scratch.file("source", bytes))
    let report = try ImageConverter.write(source, to: scratch.path("target"), as: target)
    return (try MemoryImage(path: scratch.path("target")), report, scratch.contents("target"))
  }

  func word(_ bytes: [UInt8], _ offset: Int, _ count: Int) -> UInt64 {
    bytes[offset..<offset + count].reversed().reduce(0) { $0 << 8 | UInt64($1) }
  }

  static let core = TinyELF([
    .init(physical: 0x1000, data: PackedPage.plain, memorySize: 0x3000),
    .init(physical: 0x8000, data: [UInt8](repeating: 0, count: 0x1000) + PackedPage.plain),
  ]).bytes

  @Test(arguments: ImageConverter.Target.allCases)
  func `memory is the same in every format`(target: ImageConverter.Target) throws {
    for source in [Self.core, KdumpMemoryTests.three.bytes] {
      let original = try MemoryImage(path: scratch.file("original", source))
      let image = try converted(source, to: target).image
      if target != .raw { #expect(image.backedRanges == original.backedRanges) }
      for range in original.backedRanges {
        #expect(
          image.bytes(at: range.lowerBound, count: Int(range.byteCount))
            == original.bytes(at: range.lowerBound, count: Int(range.byteCount)))
      }
      #expect(image.problems.isEmpty)
    }
    #expect(scratch.files == ["original", "source", "target"])
  }

  @Test func `raw bytes start at address 0 and end where memory does`() throws {
    let (image, report, bytes) = try converted(Self.core, to: .raw)
    #expect(image.format == .raw)
    #expect(bytes.count == 0xa000)
    #expect(Array(bytes[0x1000..<0x2000]) == PackedPage.plain)
    #expect(bytes[..<0x1000].allSatisfy { $0 == 0 })
    #expect(Array(bytes[0x9000...]) == PackedPage.plain)
    #expect(report.byteCount == 0x3000)
    #expect(report.fileByteCount == 0xa000)
    #expect(report.warnings == ["memory that the dump does not hold is zero in raw bytes"])
    let whole = try converted([1, 2, 3], to: .raw)
    #expect(whole.bytes == [1, 2, 3])
    #expect(whole.report.warnings.isEmpty)
  }

  @Test func `zeros that are not stored stay zero fill in an ELF core`() throws {
    let (image, _, bytes) = try converted(Self.core, to: .elf)
    #expect(image.presence(of: PhysicalAddress(0x1fff)) == .stored)
    #expect(image.presence(of: PhysicalAddress(0x2000)) == .zeroFill)
    #expect(image.presence(of: PhysicalAddress(0x8000)) == .stored)
    // Two headers of 56 bytes after the file's 64, then segments at pages of the file.
    #expect(word(bytes, 56, 2) == 2)
    #expect([72, 88, 96, 104].map { word(bytes, $0, 8) } == [0x1000, 0x1000, 0x1000, 0x3000])
    #expect([128, 144, 152, 160].map { word(bytes, $0, 8) } == [0x2000, 0x8000, 0x2000, 0x2000])
    #expect(Array(bytes[0x3000..<0x4000]) == PackedPage.plain)
  }

  @Test func `a segment lies in the file as it lies in its page`() throws {
    let odd = TinyELF([
      .init(physical: 0x1234, data: [1, 2, 3]), .init(physical: 0x5ffe, data: [4, 5, 6, 7]),
    ]).bytes
    let (image, _, bytes) = try converted(odd, to: .elf)
    #expect(image.backedRanges == [.physical(0x1234..<0x1237), .physical(0x5ffe..<0x6002)])
    #expect(image.bytes(at: PhysicalAddress(0x5ffe), count: 4) == [4, 5, 6, 7])
    #expect(word(bytes, 72, 8) == 0x1234)
    #expect(word(bytes, 128, 8) == 0x2ffe)
    let (kdump, report, _) = try converted(odd, to: .kdump)
    #expect(kdump.backedRanges == [.physical(0x1000..<0x2000), .physical(0x5000..<0x7000)])
    #expect(kdump.bytes(at: PhysicalAddress(0x5ffd), count: 6) == [0, 4, 5, 6, 7, 0])
    #expect(report.warnings == ["pages that the dump holds in part are whole, filled with zeros"])
  }

  /// Offsets as makedumpfile's IMPLEMENTATION gives them for x86-64.
  @Test func `a kdump-compressed dump has version 6, zlib and one page of zeros`() throws {
    let (image, _, bytes) = try converted(Self.core, to: .kdump)
    #expect(image.format == .kdumpCompressed)
    #expect(Array(bytes[..<12]) == Array("KDUMP   ".utf8) + [6, 0, 0, 0])
    #expect(Array(bytes[272..<279]) == Array("x86_64\0".utf8))
    // Status, block size, sub header blocks, bitmap blocks, frames.
    #expect([424, 428, 432, 436, 440].map { word(bytes, $0, 4) } == [1, 4096, 1, 2, 10])
    #expect(word(bytes, 4096 + 96, 8) == 10)
    // Frames 1 to 3, 8 and 9: in both bitmaps.
    #expect(Array(bytes[0x2000..<0x2003]) == [0b1110, 0b11, 0])
    #expect(Array(bytes[0x3000..<0x3003]) == [0b1110, 0b11, 0])
    let offsets = (0..<5).map { word(bytes, 0x4000 + 24 * $0, 8) }
    let flags = (0..<5).map { word(bytes, 0x4000 + 24 * $0 + 12, 4) }
    let sizes = (0..<5).map { word(bytes, 0x4000 + 24 * $0 + 8, 4) }
    #expect(flags == [1, 0, 0, 0, 1])
    #expect(offsets[1...3].allSatisfy { $0 == 0x4000 + 5 * 24 })
    #expect(sizes[1...3].allSatisfy { $0 == 4096 })
    #expect(offsets[0] == 0x4000 + 5 * 24 + 4096)
    #expect(offsets[4] == offsets[0] + sizes[0])
    #expect(bytes.count == Int(offsets[4] + sizes[4]))
    let summary = image.summary()
    #expect(summary.zeroByteCount == 3 * 4096)
    #expect(summary.storedByteCount == 2 * 4096)
    #expect(summary.excludedByteCount == 0)
    #expect(summary.packings.map(\.name) == ["zlib"])
  }

  /// The six names of a kdump-compressed header, from byte 12 on, 65 bytes each.
  func names(_ bytes: [UInt8]) -> [String] {
    (0..<6).map { index in
      String(decoding: bytes[(12 + 65 * index)...].prefix { $0 != 0 }, as: UTF8.self)
    }
  }

  @Test func `a header has the names that the dump has, and words where it has none`() throws {
    #expect(
      names(try converted(Self.core, to: .kdump).bytes)
        == ["Linux", "(none)", "(unknown)", "(unknown)", "x86_64", "(none)"])
    // The names of another header.
    var kdump = try converted(Self.core, to: .kdump).bytes
    let given = ["Linux", "host", "6.1.0-test", "#1 SMP test", "x86_64", "example.org"]
    for (index, name) in given.enumerated() {
      let field = Array(name.utf8) + [UInt8](repeating: 0, count: 65 - name.utf8.count)
      kdump.replaceSubrange((12 + 65 * index)..<(12 + 65 * (index + 1)), with: field)
    }
    #expect(names(try converted(kdump, to: .kdump).bytes) == given)
  }

  @Test(
    arguments: [
      (62, "NUMBER(phys_base)=16777216", "ffffffff81000010", "x86_64"),
      (183, "NUMBER(kimage_voffset)=0xffff800010000000", "ffff800012000010", "aarch64"),
    ] as [(UInt16, String, String, String)])
  func `names are read from the kernel's memory where VMCOREINFO leads to them`(
    machine: UInt16, base: String, symbol: String, machineName: String
  ) throws {
    // The structure at 0x2000010, the names 4 bytes further on.
    let given = ["Linux", "host", "6.1.0-test", "#1 SMP test", machineName, "(none)"]
    let structure =
      [UInt8](repeating: 0xff, count: 0x14)
      + given.flatMap { Array($0.utf8) + [UInt8](repeating: 0, count: 65 - $0.utf8.count) }
    func core(_ release: String) -> [UInt8] {
      var core = TinyELF([
        .note(
          "VMCOREINFO",
          "OSRELEASE=\(release)\nSYMBOL(init_uts_ns)=\(symbol)\n"
            + "OFFSET(uts_namespace.name)=4\n\(base)\n"),
        .init(
          physical: 0x200_0000,
          data: structure + [UInt8](repeating: 0, count: 4096 - structure.count)),
      ])
      core.machine = machine
      return core.bytes
    }
    #expect(names(try converted(core("6.1.0-test"), to: .kdump).bytes) == given)
    // Another kernel's, as in a dump of a capture kernel: what is certain is used alone.
    #expect(
      names(try converted(core("6.2.0"), to: .kdump).bytes)
        == ["Linux", "(none)", "6.2.0", "(unknown)", machineName, "(none)"])
    let elf = try converted(core("6.1.0-test"), to: .elf).bytes
    #expect(word(elf, 18, 2) == UInt64(machine))
  }

  /// (virtual, physical, bytes in memory) of each PT_LOAD.
  func segments(_ bytes: [UInt8]) -> [[UInt64]] {
    (0..<Int(word(bytes, 56, 2))).map { 64 + 56 * $0 }.filter { word(bytes, $0, 4) == 1 }
      .map { place in [16, 24, 40].map { word(bytes, place + $0, 8) } }
  }

  @Test func `segments keep the kernel's virtual addresses, or have physical ones`() throws {
    let page = [UInt8](repeating: 1, count: 4096)
    let core = TinyELF([
      // The kernel's text, which the direct map has too; then two ranges of a map with KASLR.
      .init(physical: 0x2000, data: page, virtual: 0xffff_ffff_8100_0000),
      .init(physical: 0x1000, data: page + page + page, virtual: 0xffff_9b2c_4000_1000),
      .init(physical: 0x4000, data: page, virtual: 0xffff_9b2c_4000_4000),
      // Next to it in memory, and elsewhere in the map.
      .init(physical: 0x5000, data: page, virtual: 0xffff_a000_0000_0000),
    ]).bytes
    let elf = try converted(core, to: .elf).bytes
    #expect(
      segments(elf) == [
        [0xffff_9b2c_4000_1000, 0x1000, 0x4000], [0xffff_a000_0000_0000, 0x5000, 0x1000],
      ])
    // Linux's own cores have no alignment.
    #expect(word(elf, 64 + 48, 8) == 0)
    let kdump = try converted(core, to: .kdump).bytes
    #expect(segments(try converted(kdump, to: .elf).bytes) == [[0x1000, 0x1000, 0x5000]])
  }

  @Test func `a flattened stream is the same dump in records`() throws {
    let kdump = try converted(Self.core, to: .kdump).bytes
    let (image, _, bytes) = try converted(Self.core, to: .flattened)
    #expect(image.format == .kdumpCompressed)
    #expect(image.warnings.isEmpty)
    #expect(
      Array(bytes[..<32]) == Array("makedumpfile\0\0\0\0".utf8) + [
        0, 0, 0, 0, 0, 0, 0, 1, 0, 0, 0, 0, 0, 0, 0, 1,
      ])
    // Rearranged by the definition.
    var whole = [UInt8](repeating: 0, count: kdump.count)
    var place = 4096
    func big(_ offset: Int) -> UInt64 {
      bytes[offset..<offset + 8].reduce(0) { $0 << 8 | UInt64($1) }
    }
    while big(place) != .max {
      let offset = Int(big(place))
      let count = Int(big(place + 8))
      whole.replaceSubrange(offset..<offset + count, with: bytes[place + 16..<place + 16 + count])
      place += 16 + count
    }
    #expect(big(place + 8) == .max)
    #expect(place + 16 == bytes.count)
    #expect(whole == kdump)
  }

  @Test func `what was excluded stays excluded in kdump-compressed form`() throws {
    let image = try converted(KdumpMemoryTests.three.bytes, to: .kdump).image
    #expect(image.presence(of: PhysicalAddress(0x3000)) == .excluded)
    #expect(image.presence(of: PhysicalAddress(0x4000)) == .absent)
    #expect(image.summary().excludedByteCount == 4096)
    #expect(image.summary().dumpLevel == 31)
  }

  // MARK: Notes

  static let information = "OSRELEASE=6.1.0-test\nNUMBER(phys_base)=-4096\nPAGESIZE=4096\n"
  /// `NT_PRSTATUS` of a processor, with no registers; then VMCOREINFO.
  static var notes: [UInt8] {
    [5, 0, 0, 0, 2, 0, 0, 0, 1, 0, 0, 0] + Array("CORE\0\0\0\0".utf8) + [7, 7, 0, 0]
      + [11, 0, 0, 0, UInt8(information.utf8.count), 0, 0, 0, 0, 0, 0, 0]
      + Array("VMCOREINFO\0\0".utf8) + Array(information.utf8)
  }

  @Test func `VMCOREINFO is read from notes and goes along`() throws {
    var kdump = KdumpMemoryTests.three
    kdump.notes = Self.notes
    let elf = TinyELF([
      .init(physical: 0, data: Self.notes, type: 4),
      .init(physical: 0x1000, data: PackedPage.plain),
    ]).bytes
    for source in [elf, kdump.bytes] {
      let image = try MemoryImage(path: scratch.file("noted", source))
      #expect(image.vmcoreInfo?["OSRELEASE"] == "6.1.0-test")
      #expect(image.vmcoreInfo?.entries.count == 3)
      #expect(image.vmcoreInfo?["NONE"] == nil)
      #expect(image.summary().processorCount == 1)
      for target in [ImageConverter.Target.elf, .kdump, .flattened] {
        let other = try converted(source, to: target).image
        #expect(other.vmcoreInfo == image.vmcoreInfo)
        #expect(other.summary().processorCount == 1)
      }
      let bytes = try converted(source, to: .kdump).bytes
      #expect(word(bytes, 4096, 8) == UInt64(bitPattern: -4096))
      #expect(Array(bytes[142..<153]) == Array("6.1.0-test\0".utf8))
      let start = Int(word(bytes, 4096 + 32, 8))
      #expect(Array(bytes[start..<start + 10]) == Array("OSRELEASE=".utf8))
      #expect(word(bytes, 4096 + 40, 8) == UInt64(Self.information.utf8.count))
    }
  }

  @Test func `VMCOREINFO of version 3 lies apart from notes`() throws {
    var kdump = KdumpMemoryTests.three
    kdump.version = 3
    kdump.vmcoreInfo = Self.information
    let image = try MemoryImage(path: scratch.file("noted", kdump.bytes))
    #expect(image.vmcoreInfo?["PAGESIZE"] == "4096")
    #expect(try converted(kdump.bytes, to: .elf).image.vmcoreInfo == image.vmcoreInfo)
  }

  @Test func `notes that lie are read up to the lie`() {
    for size: UInt8 in [50, 255] {
      var notes = Self.notes
      notes[28] = size
      #expect((ELFNotes(bytes: notes).content(named: "VMCOREINFO") == nil) == (size == 255))
      notes[0] = 255
      #expect(ELFNotes(bytes: notes).content(named: "VMCOREINFO") == nil)
    }
    for count in 0..<Self.notes.count {
      #expect(ELFNotes(bytes: Array(Self.notes[..<count])).content(named: "VMCOREINFO") == nil)
    }
  }

  // MARK: Threads

  @Test(arguments: [ImageConverter.Target.kdump, .flattened])
  func `a dump has the same bytes whatever the number of threads`(
    target: ImageConverter.Target
  ) throws {
    // Six chunks: two of mixed pages, with zeros in between, and what is not stored around them.
    var generator = SeededGenerator(seed: 20_081_129)
    let pages = (0..<1500).flatMap { page -> [UInt8] in
      let alphabet = UInt8.random(in: 0 ... .max, using: &generator)
      return page % 5 == 0
        ? [UInt8](repeating: 0, count: 4096)
        : (0..<4096).map { $0 % 8 == 0 ? UInt8.random(in: 0...alphabet, using: &generator) : 7 }
    }
    let core = TinyELF([
      .init(physical: 0x1000, data: Array(pages.prefix(4096 * 600)), memorySize: 0x100_0000),
      .init(physical: 0x1000_0000, data: Array(pages.dropFirst(4096 * 600))),
    ])
    let source = try MemoryImage(path: scratch.file("source", core.bytes))
    var files: [[UInt8]] = []
    for threadCount in [1, 2, 3, 8] {
      _ = try ImageConverter.write(
        source, to: scratch.path("target"), as: target, threadCount: threadCount)
      files.append(scratch.contents("target"))
    }
    #expect(files.allSatisfy { $0 == files[0] })
    let image = try MemoryImage(path: scratch.path("target"))
    for (start, part) in [
      (0x1000, pages.prefix(4096 * 600)), (0x1000_0000, pages.dropFirst(4096 * 600)),
    ] {
      #expect(image.bytes(at: PhysicalAddress(UInt64(start)), count: part.count) == Array(part))
    }
  }

  /// A dump whose pages from 700 on are damaged, one in a hundred.
  static let damaged = TinyKdump(
    frameCount: 4096,
    pages: (0..<4096).map { frame in
      .init(
        frame: frame, flags: 1,
        data: frame >= 700 && frame % 100 == 0 ? [1, 2, 3] : PackedPage.zlib)
    })

  @Test(arguments: [1, 2, 8])
  func `of pages that are damaged the first is told, whatever the number of threads`(
    threadCount: Int
  ) throws {
    let path = scratch.file("source", Self.damaged.bytes)
    for target in [ImageConverter.Target.kdump, .flattened] {
      let source = try MemoryImage(path: path)
      do throws(ImageError) {
        _ = try ImageConverter.write(
          source, to: scratch.path("target"), as: target, threadCount: threadCount)
        Issue.record("\(target) was written")
      } catch {
        #expect(error.place == "page 0x2bc000, descriptor")
      }
      #expect(scratch.files == ["source"])
    }
  }

  // MARK: Failures

  @Test func `a dump with a damaged page is not written at all`() throws {
    let kdump = TinyKdump(pages: [
      .init(frame: 0, data: PackedPage.plain), .init(frame: 1, flags: 1, data: [1, 2, 3]),
    ])
    let source = try MemoryImage(path: scratch.file("source", kdump.bytes))
    for target in ImageConverter.Target.allCases {
      let path = scratch.file("old", "kept")
      do throws(ImageError) {
        _ = try ImageConverter.write(source, to: path, as: target)
        Issue.record("\(target) was written")
      } catch {
        #expect(error.found.contains("zlib data that does not unpack"))
      }
      #expect(scratch.contents("old") == Array("kept".utf8))
    }
    #expect(scratch.files == ["old", "source"])
  }

  @Test func `a dump without memory is not written`() throws {
    let source = try MemoryImage(path: scratch.file("source", TinyKdump().bytes))
    #expect(source.backedRanges.isEmpty)
    for target in ImageConverter.Target.allCases {
      do throws(ImageError) {
        _ = try ImageConverter.write(source, to: scratch.path("none"), as: target)
        Issue.record("\(target) was written")
      } catch {
        #expect(error.found == "holds no memory, so there is nothing to write")
      }
    }
  }

  @Test func `pages that were lost with a full disk are left out`() throws {
    var kdump = KdumpMemoryTests.three
    kdump.status = 0x8
    kdump.pages[1].offset = 0
    let image = try converted(kdump.bytes, to: .elf).image
    #expect(image.backedRanges == [.physical(0x2000..<0x3000), .physical(0x6000..<0x7000)])
  }

  /// Looking at each of 2^62 zeros would take years.
  @Test func `zero fill is not gone through`() throws {
    let vast = TinyELF([.init(physical: 0x1000, data: PackedPage.plain, memorySize: 1 << 62)]).bytes
    let (image, _, bytes) = try converted(vast, to: .elf)
    #expect(bytes.count == 0x2000)
    #expect(image.quadword(at: PhysicalAddress(1 << 61)) == 0)
    var refusals = [(ImageConverter.Target.kdump, "52 address")]
    // A file system that takes files of 2^62 bytes, as tmpfs does, has no reason to refuse a raw one.
    let probe = scratch.file("probe", [])
    if truncate(probe, 1 << 62) != 0 { refusals.append((.raw, "File too large")) }
    unlink(probe)
    for (target, found) in refusals {
      do throws(ImageError) {
        let source = try MemoryImage(path: scratch.file("vast", vast))
        _ = try ImageConverter.write(source, to: scratch.path("none"), as: target)
        Issue.record("\(target) was written")
      } catch {
        #expect(error.found.contains(found), "\(error)")
      }
    }
    #expect(!scratch.files.contains("none"))
  }

  @Test func `progress ends at the whole`() throws {
    let source = try MemoryImage(path: scratch.file("source", Self.core))
    var steps: [UInt64] = []
    _ = try ImageConverter.write(source, to: scratch.path("target"), as: .kdump) { done, total in
      #expect(total == 0x3000)
      steps.append(done)
    }
    #expect(steps == steps.sorted())
    #expect(steps.last == 0x3000)
  }
}
