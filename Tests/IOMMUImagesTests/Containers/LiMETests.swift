import IOMMUFormats
import IOMMUTestSupport
import Testing

@testable import IOMMUImages

/// The header of a range: mark, version, first and last byte, padding.
func limeHeader(_ mark: String, _ version: UInt32, _ first: UInt64, _ last: UInt64) -> [UInt8] {
  func bytes(_ word: some FixedWidthInteger) -> [UInt8] {
    withUnsafeBytes(of: word.littleEndian) { Array($0) }
  }
  return Array(mark.utf8) + bytes(version) + bytes(first) + bytes(last) + bytes(UInt64(0))
}

@Suite struct LiMETests {
  let scratch = TemporaryDirectory()

  /// 4 KiB of ones at 0x1000, 8 KiB of twos at 0x10_0000.
  let dump =
    limeHeader("EMiL", 1, 0x1000, 0x1fff) + [UInt8](repeating: 1, count: 4096)
    + limeHeader("EMiL", 1, 0x10_0000, 0x10_1fff) + [UInt8](repeating: 2, count: 8192)

  @Test func `ranges lie where their headers say`() throws {
    let image = try MemoryImage(path: scratch.file("lime", dump))
    #expect(image.format == .lime)
    #expect(image.backedRanges == [.physical(0x1000..<0x2000), .physical(0x10_0000..<0x10_2000)])
    #expect(image.quadword(at: PhysicalAddress(0x1ff8)) == 0x0101_0101_0101_0101)
    #expect(image.quadword(at: PhysicalAddress(0x10_0000)) == 0x0202_0202_0202_0202)
    #expect(image.quadword(at: PhysicalAddress(0x2000)) == nil)
    #expect(image.presence(of: PhysicalAddress(0x2000)) == .absent)
    #expect(image.storedPageCount == 3)
    #expect(image.warnings.isEmpty)
  }

  @Test func `what a file ends before is lost, and what comes then is not known`() throws {
    let cut = Array(dump.prefix(dump.count - 4096))
    let image = try MemoryImage(path: scratch.file("lime", cut))
    #expect(image.backedRanges == [.physical(0x1000..<0x2000), .physical(0x10_0000..<0x10_1000)])
    #expect(image.presence(of: PhysicalAddress(0x10_1000)) == .cutOff)
    #expect(image.presence(of: PhysicalAddress(0x20_0000)) == .cutOff)
    #expect(
      image.incompleteness.map(\.extent) == [
        "4096 of 12288 bytes of memory are missing, from physical address 0x101000 on; what there "
          + "should be from 0x102000 on is not known"
      ])
    // A header that is cut off.
    let image2 = try MemoryImage(path: scratch.file("lime2", Array(dump.prefix(4096 + 32 + 31))))
    #expect(
      image2.incompleteness.map(\.extent) == ["what there should be from 0x2000 on is not known"])
  }

  @Test(
    arguments: [
      (limeHeader("EMiL", 2, 0, 7), "LiME header at byte 0x4: version 2, and 1 is known"),
      (limeHeader("AVML", 1, 0, 7), "AVML header at byte 0x4: version 1, and 2 is known"),
      (limeHeader("EMiL", 1, 8, 7), "LiME header at byte 0x8: a range from 0x8 to 0x7"),
      (
        limeHeader("EMiL", 1, 0, .max),
        "LiME header at byte 0x8: a range from 0x0 to 0xffffffffffffffff"
      ),
      (
        limeHeader("EMiL", 1, 0, 0) + [1] + limeHeader("AVML", 2, 0, 7),
        "LiME header at byte 0x21: no header of a range stands here"
      ),
    ] as [([UInt8], String)])
  func `a header that is none is refused with its place`(bytes: [UInt8], text: String) throws {
    let path = scratch.file("lime", bytes + [UInt8](repeating: 0, count: 64))
    let error = "\(try #require(openingError(path)))"
    #expect(error.hasPrefix("\(path): \(text); "))
  }

  // MARK: AVML

  /// Four pages at 0x1000, packed by python-snappy 0.7.3: `page`, blanks and the page's number eight
  /// times, then dots.
  static let packed = Repository.bytes("Tests/Goldens/images/one-range.avml")

  @Test func `packed ranges are unpacked`() throws {
    let image = try MemoryImage(path: scratch.file("avml", Self.packed))
    #expect(image.format == .avml)
    #expect(image.backedRanges == [.physical(0x1000..<0x5000)])
    for page in 0..<4 as Range<UInt64> {
      let start = PhysicalAddress(0x1000 + page * 0x1000)
      let text = image.bytes(at: start, count: 10).map { String(decoding: $0, as: UTF8.self) }
      #expect(text == "page      ")
      #expect(image.bytes(at: start, count: 4096)?.last == UInt8(ascii: "."))
      #expect(image.bytes(at: start, count: 11)?.last == UInt8(ascii: "0") + UInt8(page))
    }
    #expect(image.storedPageCount == 4)
    #expect(image.problems.isEmpty)
    let summary = image.summary()
    #expect(summary.packings.map(\.name) == ["snappy"])
    #expect(summary.packings.map(\.byteCount) == [811])
  }

  @Test func `what does not fit its checksum is damaged, and told`() throws {
    var bytes = Self.packed
    // The page's number in the data of the frame.
    let place = try #require(bytes.indices.last { bytes[$0] == UInt8(ascii: "3") })
    bytes[place] = UInt8(ascii: "7")
    let image = try MemoryImage(path: scratch.file("avml", bytes))
    #expect(image.presence(of: PhysicalAddress(0x1000)) == .damaged)
    #expect(image.quadword(at: PhysicalAddress(0x1000)) == nil)
    #expect(image.problems.count == 1)
    #expect("\(image.problems[0])".contains("a checksum that does not fit what it unpacks to"))
  }

  @Test func `frames that are not packed, and those to skip, are read too`() throws {
    // The sum of the bytes 0 to 7 is 0x8a2cbc3b; turned by 15 bits and 0xa282ead8 added.
    let body: [UInt8] = [0, 1, 2, 3, 4, 5, 6, 7]
    let frame: [UInt8] =
      [0xfe, 3, 0, 0, 0, 0, 0] + [0x01, 12, 0, 0] + [0x31, 0xff, 0xf9, 0x1a] + body
    let stream = [0xff, 6, 0, 0] + Array("sNaPpY".utf8) + frame
    let dump =
      limeHeader("AVML", 2, 0x1000, 0x1007) + stream + [UInt8](repeating: 0, count: 8)
      + limeHeader("AVML", 2, 0x9000, 0x900f) + stream + frame + [UInt8](repeating: 0, count: 8)
    let image = try MemoryImage(path: scratch.file("avml", dump))
    #expect(image.backedRanges == [.physical(0x1000..<0x1008), .physical(0x9000..<0x9010)])
    #expect(image.quadword(at: PhysicalAddress(0x1000)) == 0x0706_0504_0302_0100)
    // A word over two frames.
    #expect(image.quadword(at: PhysicalAddress(0x9004)) == 0x0302_0100_0706_0504)
  }

  @Test func `a packed range that is cut off is lost from the first frame on that is not whole`()
    throws
  {
    for length in [32, 40, 42, 46, 500, Self.packed.count - 9] {
      let image = try MemoryImage(path: scratch.file("avml", Array(Self.packed.prefix(length))))
      #expect(image.backedRanges.isEmpty)
      #expect(image.presence(of: PhysicalAddress(0x1000)) == .cutOff)
    }
    // All but the length behind the frames.
    let image = try MemoryImage(
      path: scratch.file("avml", Array(Self.packed.prefix(Self.packed.count - 1))))
    #expect(image.backedRanges == [.physical(0x1000..<0x5000)])
    #expect(
      image.incompleteness.map(\.extent) == ["what there should be from 0x5000 on is not known"])
  }

  @Test(
    arguments: [
      ([0x02, 0, 0, 0], "kind 0x2, which is not known"),
      ([0x00, 3, 0, 0, 0, 0, 0], "no room for its"),
      ([0xff, 6, 0, 0, 1, 2, 3, 4, 5, 6], "not the mark of a stream"),
      ([0x00, 6, 0, 0, 0, 0, 0, 0, 0xff, 0x7f], "more bytes than a frame unpacks to"),
      ([0x01, 5, 0, 0, 0, 0, 0, 0, 9], "unpacks to more than the range has"),
    ] as [([UInt8], String)])
  func `what is no frame is refused with its place`(bytes: [UInt8], text: String) throws {
    // A range of no more than one byte would have room for the last of them.
    var dump = limeHeader("AVML", 2, 0, 0) + bytes + [UInt8](repeating: 0, count: 16)
    if text.hasPrefix("unpacks") { dump[32 + 1] = 6 }
    let error = "\(try #require(openingError(scratch.file("avml", dump))))"
    #expect(error.contains("AVML dump, Snappy frame at byte 0x20: \(text)"))
  }

  /// RFC 3720, B.4.
  @Test func `checksums are those of the standard`() {
    #expect(CRC32C.of([UInt8](repeating: 0, count: 32).span) == 0x8a91_36aa)
    #expect(CRC32C.of([UInt8](repeating: 0xff, count: 32).span) == 0x62a8_ab43)
    #expect(CRC32C.of(Array(0..<32 as Range<UInt8>).span) == 0x46dd_794e)
    #expect(CRC32C.of(Array((0..<32 as Range<UInt8>).reversed()).span) == 0x113f_db5c)
    // What every list of checksums has.
    #expect(CRC32C.of(Array("123456789".utf8).span) == 0xe306_9283)
  }
}
