import Glibc
import IOMMUFormats
import IOMMUImages
import Testing

@Suite struct MemoryImageTests {
  let scratch = TemporaryDirectory()

  func image(_ elf: TinyELF) throws -> MemoryImage {
    try MemoryImage(path: scratch.file("core.elf", elf.bytes))
  }

  func message(_ bytes: [UInt8], _ name: String = "vmcore.elf") -> String {
    let error = openingError(scratch.file(name, bytes))
    return error.map { "\($0)".replacing("\(scratch.path)/", with: "") } ?? ""
  }

  // MARK: What an ELF core says

  @Test func `a segment is memory at its physical address`() throws {
    let image = try image(TinyELF([.init(physical: 0x1000, data: [1, 2, 3, 4, 5, 6, 7, 8])]))
    #expect(image.format == .elfCore)
    #expect("\(image.format)" == "ELF core")
    #expect(image.backedRanges == [.physical(0x1000..<0x1008)])
    #expect(image.quadword(at: PhysicalAddress(0x1000)) == 0x0807_0605_0403_0201)
    #expect(image.doubleword(at: PhysicalAddress(0x1004)) == 0x0807_0605)
    #expect(image.quadword(at: PhysicalAddress(0x1001)) == nil)
    #expect(image.quadword(at: PhysicalAddress(0xfff)) == nil)
    #expect(image.quadword(at: PhysicalAddress(0)) == nil)
    #expect(image.quadword(at: PhysicalAddress(.max)) == nil)
    #expect(image.doubleword(at: PhysicalAddress(.max - 3)) == nil)
  }

  @Test func `memory beyond the bytes of the file is zero`() throws {
    let image = try image(
      TinyELF([
        .init(physical: 0x1000, data: [0xff, 0xff], memorySize: 0x20),
        .init(physical: 0x4000, memorySize: 0x10),
      ]))
    #expect(image.quadword(at: PhysicalAddress(0x1000)) == 0xffff)
    #expect(image.quadword(at: PhysicalAddress(0x1018)) == 0)
    #expect(image.quadword(at: PhysicalAddress(0x4000)) == 0)
    #expect(image.quadword(at: PhysicalAddress(0x4009)) == nil)
    #expect(image.backedRanges == [.physical(0x1000..<0x1020), .physical(0x4000..<0x4010)])
  }

  @Test func `data beats zero fill and the earlier header wins`() throws {
    let image = try image(
      TinyELF([
        .init(physical: 0x100, data: [0x11], memorySize: 8),
        .init(physical: 0x102, data: [0x22, 0x22, 0x22]),
        .init(physical: 0x101, data: [0x33, 0x33, 0x33, 0x33, 0x33]),
      ]))
    #expect(
      image.bytes(at: PhysicalAddress(0x100), count: 8) == [
        0x11, 0x33, 0x22, 0x22, 0x22, 0x33, 0, 0,
      ])
    #expect(image.quadword(at: PhysicalAddress(0x100)) == 0x0000_3322_2222_3311)
    #expect(image.backedRanges == [.physical(0x100..<0x108)])
  }

  @Test func `words across segments are put together`() throws {
    let image = try image(
      TinyELF([
        .init(physical: 0x2005, data: [6, 7, 8, 9]),
        .init(physical: 0x2000, data: [1, 2, 3]),
        .init(physical: 0x2003, memorySize: 2),
      ]))
    #expect(image.quadword(at: PhysicalAddress(0x2000)) == 0x0807_0600_0003_0201)
    #expect(image.quadword(at: PhysicalAddress(0x2001)) == 0x0908_0706_0000_0302)
    #expect(image.quadword(at: PhysicalAddress(0x2002)) == nil)
    #expect(image.doubleword(at: PhysicalAddress(0x2002)) == 0x0600_0003)
    #expect(image.bytes(at: PhysicalAddress(0x2002), count: 7) == [3, 0, 0, 6, 7, 8, 9])
    #expect(image.bytes(at: PhysicalAddress(0x2002), count: 8) == nil)
  }

  @Test func `reading stops where memory does`() throws {
    let image = try image(TinyELF([.init(physical: 0, data: [1, 2, 3])]))
    var buffer: [UInt8] = [9, 9, 9, 9]
    let count = buffer.withUnsafeMutableBytes { image.read(at: PhysicalAddress(1), into: $0) }
    #expect(count == 2)
    #expect(buffer == [2, 3, 9, 9])
    let none = buffer.withUnsafeMutableBytes { image.read(at: PhysicalAddress(3), into: $0) }
    #expect(none == 0)
  }

  @Test func `only the bytes that memory has room for count`() throws {
    let image = try image(TinyELF([.init(physical: 0x10, data: [1, 2, 3, 4], memorySize: 2)]))
    #expect(image.backedRanges == [.physical(0x10..<0x12)])
  }

  @Test func `a segment without a physical address is skipped`() throws {
    let image = try image(
      TinyELF([
        .init(physical: .max, data: [1, 2], memorySize: 0x1000), .init(physical: 0, data: [3]),
      ]))
    #expect(image.backedRanges == [.physical(0..<1)])
  }

  @Test func `a zero fill segment may point anywhere in the file`() throws {
    let image = try image(TinyELF([.init(physical: 0x1000, memorySize: 8, offset: .max)]))
    #expect(image.quadword(at: PhysicalAddress(0x1000)) == 0)
  }

  @Test func `the highest address is reached without overflow`() throws {
    let image = try image(TinyELF([.init(physical: .max - 8, data: [1, 2, 3, 4, 5, 6, 7, 8])]))
    #expect(image.quadword(at: PhysicalAddress(.max - 8)) == 0x0807_0605_0403_0201)
    #expect(image.quadword(at: PhysicalAddress(.max - 7)) == nil)
    #expect(image.quadword(at: PhysicalAddress(.max)) == nil)
  }

  @Test func `more headers than sixteen bits count are read`() throws {
    var elf = TinyELF((0..<70_000).map { .init(physical: $0 * 0x1000, memorySize: 8) })
    elf.loads[69_999].data = [0x55]
    elf.isExtended = true
    let image = try image(elf)
    #expect(image.backedRanges.count == 70_000)
    #expect(image.quadword(at: PhysicalAddress(69_999 * 0x1000)) == 0x55)
  }

  /// All cover the same bytes: a sweep that looked at each again would take 10^10 steps.
  @Test func `a hundred thousand overlapping headers open at once`() throws {
    var elf = TinyELF(
      (0..<100_000).map {
        .init(physical: 0x1000 + $0, memorySize: 1_000_000 - 2 * $0, fileSize: 7, offset: 64)
      })
    elf.isExtended = true
    let path = scratch.file("overlaps.elf", elf.bytes)
    let clock = ContinuousClock()
    var ranges: [Range<PhysicalAddress>] = []
    let time = try clock.measure { ranges = try MemoryImage(path: path).backedRanges }
    #expect(ranges == [.physical(0x1000..<0x1000 + 1_000_000)])
    // Unoptimised code on a busy machine; in release it is some hundredths of a second.
    #if DEBUG
      #expect(time < .seconds(20))
    #else
      #expect(time < .seconds(1))
    #endif
  }

  /// Random headers against the definition, byte by byte.
  @Test func `any heap of headers gives the byte that the rule names`() throws {
    let seed = UInt64.random(in: 0 ... .max)
    var generator = SeededGenerator(seed: seed)
    for round in 0..<200 {
      // Close together, and so far apart that the search goes another way.
      let bases: [UInt64] = round % 2 == 0 ? [0] : [0, 1 << 20, 1 << 63]
      var elf = TinyELF()
      for _ in 0..<Int.random(in: 1...12, using: &generator) {
        let count = Int.random(in: 0...12, using: &generator)
        elf.loads.append(
          .init(
            physical: bases.randomElement(using: &generator)!
              + .random(in: 1...40, using: &generator),
            data: (0..<count).map { _ in .random(in: 1...255, using: &generator) },
            memorySize: .random(in: 1...20, using: &generator)))
      }
      let image = try image(elf)
      func byte(_ address: UInt64) -> UInt8? {
        let covering = elf.loads.filter {
          address >= $0.physical && address - $0.physical < $0.memorySize!
        }
        let data = covering.first { Int(address - $0.physical) < $0.data.count }
        if let data { return data.data[Int(address - data.physical)] }
        return covering.isEmpty ? nil : 0
      }
      for address in bases.flatMap({ $0..<$0 + 64 }) {
        let bytes = (0..<8).map { byte(address + $0) }
        let expected =
          bytes.contains(nil)
          ? nil : bytes.reversed().reduce(UInt64(0)) { $0 << 8 | UInt64($1!) }
        #expect(
          image.quadword(at: PhysicalAddress(address)) == expected,
          "seed \(seed) round \(round) address \(address)")
        #expect(
          image.backedRanges.contains { $0.contains(PhysicalAddress(address)) }
            == (byte(address) != nil))
      }
    }
  }

  /// Offsets of `Elf32_Ehdr` and `Elf32_Phdr`, as the System V ABI gives them.
  @Test func `a core of a 32-bit kernel is read`() throws {
    func little(_ value: UInt64, _ count: Int) -> [UInt8] { TinyELF.little(value, count) }
    var bytes: [UInt8] = [0x7f, 0x45, 0x4c, 0x46, 1, 1, 1] + [UInt8](repeating: 0, count: 9)
    bytes += little(4, 2) + little(3, 2) + little(1, 4) + little(0, 4) + little(52, 4)
    bytes += little(0, 4) + little(0, 4) + little(52, 2) + little(32, 2) + little(2, 2)
    bytes += [UInt8](repeating: 0, count: 6)
    // Type, offset, virtual and physical address, size in the file, in memory, flags, alignment.
    for header: [UInt64] in [
      [1, 116, 0xc000_1000, 0x1000, 8, 16, 7, 0], [1, 0, 0xf800_0000, 0xffff_ffff, 0, 64, 7, 0],
    ] {
      for word in header { bytes += little(word, 4) }
    }
    bytes += [1, 2, 3, 4, 5, 6, 7, 8]
    let image = try MemoryImage(path: scratch.file("core32", bytes))
    #expect(image.format == .elfCore)
    #expect(image.backedRanges == [.physical(0x1000..<0x1010)])
    #expect(image.quadword(at: PhysicalAddress(0x1000)) == 0x0807_0605_0403_0201)
    #expect(image.quadword(at: PhysicalAddress(0x1008)) == 0)
    for count in 1..<bytes.count { exercise(Array(bytes[..<count])) }
    bytes[42] = 56
    #expect(message(bytes).contains("program headers of 56 bytes, where ELF32 has 32"))
  }

  // MARK: Hostile files

  static let small = TinyELF([
    .init(physical: 0x1000, data: [1, 2, 3, 4, 5, 6, 7, 8, 9], memorySize: 0x20),
    .init(physical: 0x1004, data: [0xaa, 0xbb], memorySize: 0x2000),
    .init(physical: 0x8000, data: [0xcc], type: 4),
  ]).bytes

  /// Opens it, and when that works reads in it; nothing may trap.
  func exercise(_ bytes: [UInt8]) {
    guard let image = try? MemoryImage(path: scratch.file("hostile.elf", bytes)) else { return }
    for range in image.backedRanges {
      for end in [range.lowerBound, range.upperBound] {
        for delta in 0..<UInt64(18) {
          let address = PhysicalAddress(end.rawValue &+ delta &- 9)
          _ = image.quadword(at: address)
          _ = image.doubleword(at: address)
          _ = image.bytes(at: address, count: 20)
        }
      }
    }
  }

  @Test func `a file cut anywhere is refused or read, never trapped on`() {
    for count in 1..<Self.small.count { exercise(Array(Self.small[..<count])) }
    #expect(message(Array(Self.small[..<63])).contains("ends at 63 bytes"))
    #expect(message(Array(Self.small[..<100])).contains("the file is truncated"))
  }

  @Test func `a file damaged anywhere is refused or read, never trapped on`() {
    let seed = UInt64.random(in: 0 ... .max)
    print("damaged ELF cores: seed \(seed)")
    var generator = SeededGenerator(seed: seed)
    for index in Self.small.indices {
      for value in [0, 0xff, 0x7f, 0x80, UInt8.random(in: 0...255, using: &generator)] {
        var bytes = Self.small
        bytes[index] = value
        exercise(bytes)
      }
    }
    for _ in 0..<2000 {
      var bytes = Self.small
      for _ in 0..<Int.random(in: 2...16, using: &generator) {
        bytes[.random(in: 4..<bytes.count, using: &generator)] =
          [0, 0xff, .random(in: 0...255, using: &generator)].randomElement(using: &generator)!
      }
      exercise(bytes)
    }
  }

  @Test func `sizes that overflow are refused`() {
    #expect(
      message(TinyELF([.init(physical: 0x1000, data: [1], memorySize: .max)]).bytes)
        == """
        vmcore.elf: ELF program header 0 at byte 0x40: 0xffffffffffffffff bytes at physical \
        address 0x1000 pass 2^64 - 1; the header is damaged, dump the memory again
        """)
    var elf = TinyELF([.init(physical: 0, data: [1])]).bytes
    elf.replaceSubrange(32..<40, with: TinyELF.little(.max - 8, 8))
    #expect(message(elf).contains("1 program headers at byte 0xfffffffffffffff7 run past the end"))
    elf.replaceSubrange(56..<58, with: [0xff, 0xff])
    elf.replaceSubrange(40..<48, with: TinyELF.little(.max - 8, 8))
    #expect(message(elf).contains("65535 program headers at byte 0xfffffffffffffff7"))
  }

  @Test func `an error names file, header, byte, finding and way out`() {
    var elf = TinyELF([.init(physical: 0, data: [1])])
    elf.isExtended = true
    var bytes = elf.bytes
    bytes.replaceSubrange(40..<48, with: TinyELF.little(0, 8))
    #expect(
      message(bytes) == """
        vmcore.elf: ELF header at byte 0x28: no section header 0, which holds the number of program \
        headers; the header is damaged, copy the file again
        """)
  }

  @Test func `what is no core of a machine is refused`() {
    var elf = TinyELF([.init(physical: 0, data: [1]), .init(physical: 0, data: [2])])
    #expect(message(elf.bytes).contains("all 2 segments have physical address 0"))
    elf.loads = []
    #expect(message(elf.bytes).contains("no PT_LOAD segment, so no memory"))
    elf.loads = [.init(physical: .max, data: [1])]
    #expect(message(elf.bytes).contains("no PT_LOAD segment has physical memory"))
    elf.type = 2
    #expect(message(elf.bytes).contains("at byte 0x10: a program, not a core; pass the dump"))
    elf.type = 4
    elf.headerSize = 32
    #expect(message(elf.bytes).contains("program headers of 32 bytes, where ELF64 has 56"))
    var bytes = TinyELF([.init(physical: 0, data: [1])]).bytes
    bytes[5] = 2
    #expect(message(bytes).contains("a big-endian ELF file"))
    bytes[4] = 3
    #expect(message(bytes).contains("an ELF file of unknown class 3"))
  }

  // MARK: Other files

  @Test func `anything else is raw from address 0`() throws {
    let image = try MemoryImage(path: scratch.file("raw", [1, 0, 0, 0, 0, 0, 0, 0x80, 0xff]))
    #expect(image.format == .raw)
    #expect(image.backedRanges == [.physical(0..<9)])
    #expect(image.quadword(at: PhysicalAddress(0)) == 0x8000_0000_0000_0001)
    #expect(image.quadword(at: PhysicalAddress(1)) == 0xff80_0000_0000_0000)
    #expect(image.quadword(at: PhysicalAddress(2)) == nil)
    #expect(image.path == scratch.path("raw"))
    #expect(
      image.warnings == [
        "\(scratch.path("raw")): no mark of any dump in it: taken for raw bytes from address 0"
      ])
  }

  @Test func `what is no readable file is refused in the system's words`() throws {
    #expect(message([], "empty").hasPrefix("empty: is empty; "))
    #expect(
      "\(try #require(openingError("/nonexistent")))"
        == "/nonexistent: cannot be opened: No such file or directory")
    mkfifo(scratch.path("pipe"), 0o600)
    #expect("\(try #require(openingError(scratch.path("pipe"))))".contains("is a pipe"))
    #expect("\(try #require(openingError("/dev/null")))".contains("is a character device"))
  }
}
