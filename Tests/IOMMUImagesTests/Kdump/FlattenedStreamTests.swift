import Glibc
import IOMMUFormats
import Testing

@testable import IOMMUImages

@Suite struct FlattenedStreamTests {
  let scratch = TemporaryDirectory()

  func image(_ stream: TinyFlattened) throws -> MemoryImage {
    try MemoryImage(path: scratch.file("flat", stream.bytes))
  }

  func message(_ stream: TinyFlattened) -> String {
    openingError(scratch.file("flat", stream.bytes)).map { "\($0)" } ?? ""
  }

  @Test(arguments: [1, 7, 24, 1000, 4096, 100_000])
  func `a dump in records of any size and order reads as the dump`(count: Int) throws {
    let seed = UInt64.random(in: 0 ... .max)
    print("flattened records: seed \(seed)")
    var generator = SeededGenerator(seed: seed)
    let kdump = KdumpMemoryTests.three.bytes
    if count > 1 {
      let image = try image(.cut(kdump, every: count, using: &generator))
      #expect(image.format == .kdumpCompressed)
      #expect(image.backedRanges == [.physical(0x2000..<0x3000), .physical(0x5000..<0x7000)])
      #expect(image.quadword(at: PhysicalAddress(0x5000)) == PackedPage.quadword)
      #expect(image.quadword(at: PhysicalAddress(0x5ffc)) == 0xeeee_eeee_0000_0000)
    }
    let elf = TinyELF([
      .init(physical: 0x1000, data: [1, 2, 3, 4, 5, 6, 7, 8, 9], memorySize: 0x20)
    ]).bytes
    let core = try image(.cut(elf, every: count, using: &generator))
    #expect(core.format == .elfCore)
    #expect(core.backedRanges == [.physical(0x1000..<0x1020)])
    #expect(core.quadword(at: PhysicalAddress(0x1001)) == 0x0908_0706_0504_0302)
    #expect(core.quadword(at: PhysicalAddress(0x1018)) == 0)
    #expect(core.quadword(at: PhysicalAddress(0x1019)) == nil)
    #expect(core.presence(of: PhysicalAddress(0x1009)) == .zeroFill)
    #expect(core.presence(of: PhysicalAddress(0x1020)) == .absent)
  }

  @Test func `a later record covers an earlier one, and what no record has is zero`() throws {
    let image = try image(
      TinyFlattened(records: [
        (8, [1, 1, 1, 1, 1, 1, 1, 1]), (20, [9]), (10, [2, 2, 2, 2]), (11, [3]),
      ]))
    #expect(image.format == .raw)
    #expect(image.backedRanges == [.physical(0..<21)])
    #expect(
      image.bytes(at: PhysicalAddress(6), count: 15) == [
        0, 0, 1, 1, 2, 3, 2, 2, 1, 1, 0, 0, 0, 0, 9,
      ])
  }

  @Test func `a stream without its end mark is read with a warning`() throws {
    var stream = TinyFlattened(records: [(0, [1, 2, 3, 4, 5, 6, 7, 8])])
    let raw = "flat: no mark of any dump in it: taken for raw bytes from address 0"
    func warnings() throws -> [String] {
      try image(stream).warnings.map { $0.replacing("\(scratch.path)/", with: "") }
    }
    #expect(try warnings() == [raw])
    stream.hasEnd = false
    #expect(
      try warnings() == [
        "flat: incomplete, cut off at byte 0x1018: what there should be from 0x8 on is not known",
        raw,
      ])
  }

  @Test func `records that lie are refused`() {
    #expect(message(TinyFlattened(records: [])).contains("a flattened stream without records"))
    #expect(
      message(TinyFlattened(records: [(-2, [1])])).contains("at byte 0x1000: offset -2 and size 1"))
    #expect(message(TinyFlattened(records: [(0, [])])).contains("offset 0 and size 0"))
    #expect(
      message(TinyFlattened(records: [(0, [1])], type: 2)).contains(
        "a type or version other than 1"))
  }

  @Test func `a stream cut anywhere is refused or read, never trapped on`() {
    let bytes = TinyFlattened(records: [(8, [1, 2, 3]), (0, [4, 5]), (100, [6])]).bytes
    var opened: [Int] = []
    for count in Array(12..<40) + Array(4090...bytes.count) {
      guard let image = try? MemoryImage(path: scratch.file("cut", Array(bytes[..<count]))) else {
        continue
      }
      opened.append(count)
      for address in stride(from: UInt64(0), to: 110, by: 3) {
        _ = image.quadword(at: PhysicalAddress(address))
      }
    }
    // From the first byte of what the stream describes on.
    #expect(opened == Array(4132...4166))
  }

  @Test func `the highest offsets are reached without overflow`() throws {
    let image = try image(TinyFlattened(records: [(.max, [7]), (0, [1])]))
    #expect(image.quadword(at: PhysicalAddress(UInt64(Int64.max) - 7)) == 7 << 56)
    #expect(image.quadword(at: PhysicalAddress(UInt64(Int64.max) - 6)) == nil)
  }
}
