import IOMMUFormats
import Testing

@testable import IOMMUImages

/// A page that starts with 0x1122334455667788 and is zero from there, as each library packs it.
enum PackedPage {
  static let quadword: UInt64 = 0x1122_3344_5566_7788
  static let plain: [UInt8] =
    [0x88, 0x77, 0x66, 0x55, 0x44, 0x33, 0x22, 0x11] + [UInt8](repeating: 0, count: 4088)
  /// RFC 1950.
  static let zlib: [UInt8] = [
    0x78, 0xda, 0xed, 0xc1, 0x81, 0x10, 0x00, 0x20, 0x0c, 0x00, 0xc0, 0x29, 0xa4, 0x30, 0x85,
    0x29, 0x4c, 0x21, 0x85, 0x14, 0xa6, 0x10, 0x76, 0x1e, 0xdd, 0xff, 0xdf, 0x39, 0xbb, 0x2b,
    0x57, 0x00, 0x00, 0x00, 0x00, 0xdf, 0x7a, 0x4c, 0xa6, 0x02, 0x65,
  ]
  /// LZO1X.
  static let lzo: [UInt8] = [
    0x06, 0x88, 0x77, 0x66, 0x55, 0x44, 0x33, 0x22, 0x11, 0x00, 0x20, 0x00, 0x00, 0x00, 0x00,
    0x00, 0x00, 0x00, 0x00, 0x00, 0x00, 0x00, 0x00, 0x00, 0x00, 0x00, 0xd2, 0x00, 0x00, 0x00,
    0x01, 0x00, 0x00, 0x00, 0x00, 0x00, 0x00, 0x00, 0x00, 0x00, 0x00, 0x00, 0x00, 0x00, 0x00,
    0x00, 0x00, 0x00, 0x00, 0x00, 0x11, 0x00, 0x00,
  ]
  /// Nine letters, 63 copies of 64 bytes and one of 55.
  static let snappy: [UInt8] =
    [0x80, 0x20, 0x20, 0x88, 0x77, 0x66, 0x55, 0x44, 0x33, 0x22, 0x11, 0x00]
    + (0..<63).flatMap { _ in [0xfe, 0x01, 0x00] as [UInt8] } + [0xda, 0x01, 0x00]
  /// RFC 8878.
  static let zstd: [UInt8] = [
    0x28, 0xb5, 0x2f, 0xfd, 0x60, 0x00, 0x0f, 0x85, 0x00, 0x00, 0x48, 0x88, 0x77, 0x66, 0x55,
    0x44, 0x33, 0x22, 0x11, 0x00, 0x01, 0x00, 0xf4, 0xf7, 0xc1, 0x11,
  ]
  static let all: [(codec: PageCodec, flags: UInt32, bytes: [UInt8])] = [
    (.zlib, 0x1, zlib), (.lzo, 0x2, lzo), (.snappy, 0x4, snappy), (.zstd, 0x20, zstd),
  ]
}

@Suite struct KdumpMemoryTests {
  let scratch = TemporaryDirectory()

  func image(_ kdump: TinyKdump, _ name: String = "vmcore") throws -> MemoryImage {
    try MemoryImage(path: scratch.file(name, kdump.bytes))
  }

  func text(_ error: ImageError?) -> String {
    error.map { "\($0)".replacing("\(scratch.path)/", with: "") } ?? ""
  }

  func message(_ bytes: [UInt8]) -> String { text(openingError(scratch.file("vmcore", bytes))) }

  /// Frames 2 and 5 to 6 are dumped, 3 is excluded, the others are no memory.
  static let three = TinyKdump(
    excluded: [3],
    pages: [
      .init(frame: 2, data: PackedPage.plain), .init(frame: 5, flags: 1, data: PackedPage.zlib),
      .init(frame: 6, data: [UInt8](repeating: 0xee, count: 4096)),
    ])

  @Test func `pages are memory at their frames, and nothing else is`() throws {
    let image = try image(Self.three)
    #expect(image.format == .kdumpCompressed)
    #expect(image.backedRanges == [.physical(0x2000..<0x3000), .physical(0x5000..<0x7000)])
    #expect(image.quadword(at: PhysicalAddress(0x2000)) == PackedPage.quadword)
    #expect(image.quadword(at: PhysicalAddress(0x5000)) == PackedPage.quadword)
    #expect(image.doubleword(at: PhysicalAddress(0x5004)) == 0x1122_3344)
    #expect(image.quadword(at: PhysicalAddress(0x5ffc)) == 0xeeee_eeee_0000_0000)
    #expect(image.quadword(at: PhysicalAddress(0x6ff8)) == 0xeeee_eeee_eeee_eeee)
    for absent: UInt64 in [
      0, 0x1ff8, 0x1fff, 0x2ff9, 0x3000, 0x4ff8, 0x6ff9, 0x7000, 1 << 40, .max,
    ] {
      #expect(image.quadword(at: PhysicalAddress(absent)) == nil)
    }
    #expect(image.bytes(at: PhysicalAddress(0x5ffe), count: 4) == [0, 0, 0xee, 0xee])
    var buffer = [UInt8](repeating: 1, count: 0x3000)
    #expect(
      buffer.withUnsafeMutableBytes { image.read(at: PhysicalAddress(0x5000), into: $0) } == 0x2000)
    #expect(buffer[0x1fff] == 0xee && buffer[0x2000] == 1)
    #expect(image.storedPageCount == 3)
    #expect(image.problems.isEmpty)
    #expect(image.warnings.isEmpty)
  }

  @Test func `excluded is told from absent and from zero`() throws {
    let kdump = try image(Self.three)
    #expect(kdump.presence(of: PhysicalAddress(0x2fff)) == .stored)
    #expect(kdump.presence(of: PhysicalAddress(0x3000)) == .excluded)
    #expect(kdump.presence(of: PhysicalAddress(0x4000)) == .absent)
    #expect(kdump.presence(of: PhysicalAddress(.max)) == .absent)
    let elf = try MemoryImage(
      path: scratch.file(
        "elf", TinyELF([.init(physical: 0x1000, data: [1], memorySize: 2)]).bytes))
    #expect(elf.presence(of: PhysicalAddress(0x1000)) == .stored)
    #expect(elf.presence(of: PhysicalAddress(0x1001)) == .zeroFill)
    #expect(elf.presence(of: PhysicalAddress(0x1002)) == .absent)
    #expect(elf.presence(of: PhysicalAddress(0xfff)) == .absent)
  }

  /// Libraries that are not installed are one problem that names all their packages.
  @Test func `all packings may be mixed in one file`() throws {
    var kdump = TinyKdump()
    for (index, packed) in PackedPage.all.enumerated() {
      kdump.pages.append(
        .init(frame: UInt64(index), flags: packed.flags, data: packed.bytes))
    }
    let image = try image(kdump)
    let missing = PackedPage.all.map(\.codec).filter { $0.loaded == nil }
    for (index, packed) in PackedPage.all.enumerated() {
      let value = image.quadword(at: PhysicalAddress(UInt64(index) * 0x1000))
      if packed.codec.loaded != nil {
        #expect(value == PackedPage.quadword)
        #expect(
          image.bytes(at: PhysicalAddress(UInt64(index) * 0x1000), count: 4096) == PackedPage.plain)
      } else {
        #expect(value == nil)
        #expect(
          image.presence(of: PhysicalAddress(UInt64(index) * 0x1000))
            == .locked(package: packed.codec.package))
      }
    }
    guard !missing.isEmpty else {
      #expect(image.problems.isEmpty)
      return
    }
    #expect(image.problems.count == 1)
    let packages = missing.map(\.package).joined(separator: " ")
    #expect(text(image.problems.first).hasSuffix("apt-get install \(packages)"))
  }

  @Test func `libraries that are missing are named together`() {
    func text(_ codecs: [PageCodec]) -> String {
      let place = ImageError(
        file: "vmcore", place: "page 0x1000, descriptor", offset: 16, found: "")
      return "\(KdumpMemory.missing(codecs, at: place))"
    }
    #expect(
      text([.lzo]) == """
        vmcore: page 0x1000, descriptor at byte 0x10: packed with lzo, and liblzo2.so.2 is not \
        installed; install it: apt-get install liblzo2-2
        """)
    #expect(
      text([.snappy, .lzo, .zstd]) == """
        vmcore: page 0x1000, descriptor at byte 0x10: packed with snappy, lzo and zstd, and \
        libsnappy.so.1, liblzo2.so.2 and libzstd.so.1 are not installed; install them: apt-get \
        install libsnappy1v5 liblzo2-2 libzstd1
        """)
  }

  @Test(arguments: UInt64(1)...6)
  func `every version of the header is read`(version: UInt64) throws {
    var kdump = Self.three
    kdump.version = version
    let image = try image(kdump)
    #expect(image.quadword(at: PhysicalAddress(0x5000)) == PackedPage.quadword)
    #expect(image.warnings.isEmpty)
    kdump.version = version + 6
    #expect(try MemoryImage(path: scratch.file("new", kdump.bytes)).warnings.count == 1)
  }

  @Test func `the old facility's dumps have no sub header`() throws {
    var kdump = Self.three
    kdump.signature = "DISKDUMP"
    // Would split the dump if it were a sub header.
    kdump.split = 2..<100
    let image = try image(kdump)
    #expect(image.backedRanges == [.physical(0x2000..<0x3000), .physical(0x5000..<0x7000)])
  }

  @Test func `the headers of a 32-bit kernel are read`() throws {
    var kdump = Self.three
    kdump.isIA32 = true
    for machine in ["i686", ""] {
      kdump.machine = machine
      let image = try image(kdump)
      #expect(image.quadword(at: PhysicalAddress(0x5000)) == PackedPage.quadword)
      #expect(image.backedRanges.count == 2)
    }
  }

  @Test func `old files have one bitmap`() throws {
    var kdump = Self.three
    kdump.version = 1
    kdump.hasOneBitmap = true
    kdump.frameCount = 20_000
    let image = try image(kdump)
    #expect(image.quadword(at: PhysicalAddress(0x5000)) == PackedPage.quadword)
    #expect(image.presence(of: PhysicalAddress(0x3000)) == .absent)
  }

  /// As kdumpling 0.4.0 writes it: one bitmap counted of two, and the flag of Snappy on every page.
  @Test func `a header that counts one bitmap of two is read with two`() throws {
    let pages: [TinyKdump.Page] = [
      .init(frame: 2, flags: 5, data: PackedPage.zlib),
      .init(frame: 3, flags: 4, data: PackedPage.plain),
    ]
    var bytes = TinyKdump(excluded: [9], pages: pages).bytes
    bytes[436] = 1
    let image = try MemoryImage(path: scratch.file("vmcore", bytes))
    #expect(image.quadword(at: PhysicalAddress(0x2000)) == PackedPage.quadword)
    #expect(image.quadword(at: PhysicalAddress(0x3000)) == PackedPage.quadword)
    #expect(image.presence(of: PhysicalAddress(0x9000)) == .excluded)
    #expect(image.backedRanges == [.physical(0x2000..<0x4000)])
    #expect(image.warnings.count == 1 && image.warnings[0].contains("counts one bitmap of the two"))
    #expect(image.problems.isEmpty)
  }

  @Test func `pages of zeros may share one descriptor's bytes`() throws {
    var kdump = TinyKdump(pages: [
      .init(frame: 0, data: [UInt8](repeating: 0, count: 4096)), .init(frame: 1, data: []),
    ])
    kdump.pages[1].offset = UInt64(4 * 4096 + 2 * 24)
    kdump.pages[1].size = 4096
    let image = try image(kdump)
    #expect(image.quadword(at: PhysicalAddress(0xffc)) == 0)
    #expect(image.quadword(at: PhysicalAddress(0x1ff8)) == 0)
    #expect(image.problems.isEmpty)
  }

  // MARK: Split dumps

  static func parts(_ ranges: [Range<UInt64>], of kdump: TinyKdump) -> [[UInt8]] {
    ranges.map { range in
      var part = kdump
      part.split = range
      return part.bytes
    }
  }

  @Test(arguments: [UInt64(2), 6])
  func `the files of a split dump are one memory in any order`(version: UInt64) throws {
    var kdump = Self.three
    kdump.version = version
    let parts = Self.parts([0..<4, 4..<6, 6..<32], of: kdump)
    let paths = parts.enumerated().map { scratch.file("part\($0)", $1) }
    for order in [[0, 1, 2], [2, 0, 1], [1, 2, 0]] {
      let image = try MemoryImage(paths: order.map { paths[$0] })
      #expect(image.backedRanges == [.physical(0x2000..<0x3000), .physical(0x5000..<0x7000)])
      #expect(image.quadword(at: PhysicalAddress(0x2000)) == PackedPage.quadword)
      #expect(image.quadword(at: PhysicalAddress(0x5ffc)) == 0xeeee_eeee_0000_0000)
      #expect(image.warnings.isEmpty)
      #expect(image.storedPageCount == 3)
    }
    let one = try MemoryImage(path: paths[1])
    #expect(one.backedRanges == [.physical(0x5000..<0x6000)])
    #expect(one.quadword(at: PhysicalAddress(0x5000)) == PackedPage.quadword)
    #expect(one.quadword(at: PhysicalAddress(0x6000)) == nil)
    #expect(one.presence(of: PhysicalAddress(0x6000)) == .elsewhere)
    #expect(one.presence(of: PhysicalAddress(0x3000)) == .excluded)
    #expect(one.presence(of: PhysicalAddress(0x4000)) == .absent)
    #expect(one.summary().excludedByteCount == 4096)
    #expect(one.warnings.count == 2)
    #expect(one.warnings[0].contains("no file named here holds 0x0..<0x4000"))
  }

  @Test func `a page that its own file has is stored, whatever another file's bitmap says`() throws
  {
    var parts = Self.parts([0..<4, 4..<32], of: Self.three)
    // Frame 5 in the second bitmap of the first file, which is not the one that has it.
    #expect(parts[0][3 * 4096] & 1 << 5 != 0)
    parts[0][3 * 4096] &= ~(1 << 5)
    let paths = parts.enumerated().map { scratch.file("part\($0)", $1) }
    let image = try MemoryImage(paths: paths)
    #expect(image.quadword(at: PhysicalAddress(0x5000)) == PackedPage.quadword)
    #expect(image.presence(of: PhysicalAddress(0x5000)) == .stored)
  }

  @Test func `files that are not parts of one dump are refused`() throws {
    let parts = Self.parts([0..<4, 3..<32], of: Self.three)
    let paths = parts.enumerated().map { scratch.file("part\($0)", $1) }
    func error(_ paths: [String]) -> String {
      do throws(ImageError) { _ = try MemoryImage(paths: paths) } catch { return text(error) }
      return ""
    }
    #expect(error(paths).contains("part1: holds page frames that"))
    let whole = scratch.file("whole", Self.three.bytes)
    #expect(error([paths[0], whole]).contains("is not of the same split dump"))
    let raw = scratch.file("raw", [1, 2, 3])
    #expect(error([paths[0], raw]).contains("raw: is not a part of a split"))
    #expect(error([raw, paths[0]]).contains("part0: is not a part of a split"))
  }

  // MARK: Bad input

  @Test func `a page that is lost with a full disk is told from one that was excluded`() throws {
    var kdump = Self.three
    kdump.status = 0x8
    kdump.pages[2].offset = 0
    kdump.pages[2].data = []
    let image = try image(kdump)
    #expect(image.quadword(at: PhysicalAddress(0x5000)) == PackedPage.quadword)
    #expect(image.quadword(at: PhysicalAddress(0x6000)) == nil)
    #expect(image.presence(of: PhysicalAddress(0x6000)) == .cutOff)
    #expect(image.presence(of: PhysicalAddress(0x3000)) == .excluded)
    #expect(image.problems.isEmpty)
    #expect(
      image.warnings.map { $0.replacing("\(scratch.path)/", with: "") } == [
        "vmcore: incomplete, its disk was full: 1 of 3 pages of memory are missing, from physical "
          + "address 0x6000 on"
      ])
  }

  /// 64 KiB of zeros, in 84 and in 19 bytes.
  static let bombs: [(UInt32, [UInt8])] = [
    (
      0x1,
      [
        0x78, 0xda, 0xed, 0xc1, 0x01, 0x01, 0x00, 0x00, 0x00, 0x80, 0x90, 0xfe, 0xaf, 0xee, 0x08,
        0x0a,
      ]
        + [UInt8](repeating: 0, count: 63) + [0x6a, 0x00, 0x0f, 0x00, 0x01]
    ),
    (
      0x20,
      [
        0x28, 0xb5, 0x2f, 0xfd, 0x60, 0x00, 0xff, 0x4d, 0x00, 0x00, 0x08, 0x00, 0x01, 0x00, 0xfc,
        0x7f, 0x1d, 0x08, 0x01,
      ]
    ),
  ]

  @Test(arguments: bombs)
  func `a page that unpacks to more than a page is damaged`(flags: UInt32, data: [UInt8]) throws {
    let image = try image(TinyKdump(pages: [.init(frame: 1, flags: flags, data: data)]))
    #expect(image.quadword(at: PhysicalAddress(0x1000)) == nil)
    let isInstalled = try #require(PageCodec(rawValue: flags)).loaded != nil
    #expect(
      text(image.problems.first).contains(
        isInstalled ? "that does not unpack to a page; the dump is damaged" : "is not installed"))
  }

  @Test func `of damaged pages the lowest is told, whatever order they are read in`() throws {
    let kdump = TinyKdump(pages: (1..<9).map { .init(frame: $0, flags: 1, data: [1, 2, 3]) })
    let image = try image(kdump)
    for frame in [5, 7, 2, 4, 3] as [UInt64] {
      #expect(image.quadword(at: PhysicalAddress(frame << 12)) == nil)
    }
    #expect(image.problems.map(\.place) == ["page 0x2000, descriptor"])
    #expect(image.problems(before: 0x2001).count == 1)
    #expect(image.problems(before: 0x2000).isEmpty)
  }

  @Test func `pages in a row are what each is alone, up to a gap`() throws {
    var generator = SeededGenerator(seed: 7)
    let frames = (0..<32).filter { _ in UInt8.random(in: 0..<4, using: &generator) > 0 }
    let kdump = TinyKdump(
      pages: frames.map { frame in
        .init(frame: UInt64(frame), data: [UInt8](repeating: UInt8(frame + 1), count: 4096))
      })
    let image = try image(kdump)
    for first in 0..<32 {
      let run = (first..<32).prefix { frames.contains($0) }
      let bytes = image.bytes(at: PhysicalAddress(UInt64(first) << 12), count: run.count * 4096)
      #expect(bytes == run.flatMap { [UInt8](repeating: UInt8($0 + 1), count: 4096) })
      let more = image.bytes(at: PhysicalAddress(UInt64(first) << 12), count: run.count * 4096 + 1)
      #expect(more == nil)
    }
  }

  @Test func `a page that is damaged is absent, and the problem says why`() throws {
    func problem(_ page: TinyKdump.Page) throws -> String {
      let image = try image(
        TinyKdump(pages: [
          page, .init(frame: 8, data: PackedPage.plain), .init(frame: 9, data: PackedPage.plain),
        ]))
      #expect(image.quadword(at: PhysicalAddress(0x1000)) == nil)
      #expect(image.quadword(at: PhysicalAddress(0x9000)) == PackedPage.quadword)
      #expect(image.presence(of: PhysicalAddress(0x1000)).isReadable == false)
      #expect(image.problems.count == 1)
      return text(image.problems.first)
    }
    #expect(
      try problem(.init(frame: 1, data: [1, 2, 3])) == """
        vmcore: page 0x1000, descriptor at byte 0x4000: an unpacked page of 3 bytes; the dump is \
        damaged, copy it again
        """)
    #expect(
      try problem(.init(frame: 1, data: PackedPage.plain, offset: 1 << 50)).contains(
        "4096 bytes at byte 0x4000000000000 of 0x7048"))
    #expect(
      try problem(.init(frame: 1, data: [], size: .max)).contains(
        "4294967295 packed bytes, more than a page"))
    #expect(
      try problem(.init(frame: 1, flags: 3, data: [1])).contains("flags 0x3, which name no one"))
    #expect(try problem(.init(frame: 1, flags: 1, data: [1])).contains("zlib data that does not"))
    #expect(try problem(.init(frame: 1, flags: 1, data: [])).contains("zlib data that does not"))
  }

  @Test func `a dump of a big-endian machine is named`() {
    var kdump = Self.three
    kdump.machine = "s390x"
    var bytes = kdump.bytes
    bytes.replaceSubrange(8..<12, with: [0, 0, 0, 6])
    bytes.replaceSubrange(428..<432, with: [0, 0, 0x10, 0])
    #expect(
      message(bytes) == """
        vmcore: kdump header at byte 0x8: a big-endian kdump-compressed dump of s390x; only dumps of \
        little-endian machines are read
        """)
  }

  @Test func `headers that lie are refused`() {
    var kdump = Self.three
    kdump.frameCount = 1 << 52
    #expect(
      message(kdump.bytes).contains("4503599627370496 page frames, more than 52 address bits"))
    kdump.frameCount = 1 << 40
    #expect(message(kdump.bytes).contains("1099511627776 page frames, where the bitmap has 65536"))
    kdump = Self.three
    kdump.block = 4096
    var bytes = kdump.bytes
    bytes.replaceSubrange(428..<432, with: [0, 0, 0, 0x40])
    #expect(message(bytes).contains("at byte 0x1ac: a block size of 1073741824 bytes"))
    bytes = kdump.bytes
    bytes.replaceSubrange(432..<436, with: [0xff, 0xff, 0xff, 0xff])
    #expect((try? MemoryImage(path: scratch.file("lie", bytes)))?.backedRanges == [])
    kdump.split = 7..<7
    bytes = kdump.bytes
    bytes.replaceSubrange(4096 + 80..<4096 + 88, with: [9, 0, 0, 0, 0, 0, 0, 0])
    #expect(message(bytes).contains("a part of a split dump from frame 9 to 7"))
  }

  @Test func `notes that lie outside the file are refused`() {
    var kdump = Self.three
    kdump.vmcoreInfo = "OSRELEASE=6.1\n"
    var bytes = kdump.bytes
    bytes.replaceSubrange(4096 + 40..<4096 + 48, with: [UInt8](repeating: 0xff, count: 8))
    #expect(message(bytes).contains("VMCOREINFO of 18446744073709551615 bytes"))
  }

  /// Opens it, and when that works reads in it; nothing may trap.
  func exercise(_ bytes: [UInt8]) {
    guard let image = try? MemoryImage(path: scratch.file("hostile", bytes)) else { return }
    for range in image.backedRanges.prefix(8) + image.backedRanges.suffix(8) {
      for address in [range.lowerBound.rawValue, range.upperBound.rawValue &- 4] {
        _ = image.quadword(at: PhysicalAddress(address))
        _ = image.presence(of: PhysicalAddress(address))
      }
    }
    _ = image.warnings
    _ = image.problems
  }

  @Test func `a file cut at every byte of its headers is refused or read, never trapped on`() {
    let bytes = Self.three.bytes
    for count in Array(1..<480) + Array(4080..<4224) + Array(0x3ff0..<0x4060) {
      exercise(Array(bytes[..<count]))
    }
    #expect(message(Array(bytes[..<440])).contains("the file ends at 440 bytes, inside the header"))
  }

  @Test func `a file damaged anywhere in its headers is refused or read, never trapped on`() {
    let seed = UInt64.random(in: 0 ... .max)
    print("damaged kdump headers: seed \(seed)")
    var generator = SeededGenerator(seed: seed)
    let good = Self.three.bytes
    let places =
      Array(0..<480) + Array(4096..<4200) + Array(0x2000..<0x2008)
      + Array(0x3000..<0x3008) + Array(0x4000..<0x4048)
    for _ in 0..<1500 {
      var bytes = good
      for _ in 0..<Int.random(in: 1...4, using: &generator) {
        bytes[places.randomElement(using: &generator)!] =
          [0, 0xff, 0x80, .random(in: 0...255, using: &generator)].randomElement(using: &generator)!
      }
      bytes.replaceSubrange(0..<5, with: Array("KDUMP".utf8))
      exercise(bytes)
    }
  }
}
