import FoundationEssentials
import Glibc
import IOMMUFormats
import IOMMUInspection
import Testing

@Suite struct HexdumpTests {
  private func dump(_ memory: some PhysicalMemory, _ range: Range<UInt64>) -> String {
    var screen = ""
    Hexdump.write(addresses(range), of: memory, to: &screen)
    return screen
  }

  /// 48 counted bytes, 64 zeros, then text and bytes that are no text.
  private static let sample =
    Array(0..<48 as Range<UInt8>) + Array(repeating: 0, count: 64) + Array("swift-iommu".utf8)
    + [0xff, 0x80, 0x7f, 0x7e, 0x20]

  @Test func `a dump is what hexdump -C prints`() {
    let memory = PatchyMemory(patches: [(0, Self.sample)])
    #expect(
      dump(memory, 0..<128) == """
        00000000  00 01 02 03 04 05 06 07  08 09 0a 0b 0c 0d 0e 0f  |................|
        00000010  10 11 12 13 14 15 16 17  18 19 1a 1b 1c 1d 1e 1f  |................|
        00000020  20 21 22 23 24 25 26 27  28 29 2a 2b 2c 2d 2e 2f  | !"#$%&'()*+,-./|
        00000030  00 00 00 00 00 00 00 00  00 00 00 00 00 00 00 00  |................|
        *
        00000070  73 77 69 66 74 2d 69 6f  6d 6d 75 ff 80 7f 7e 20  |swift-iommu...~ |
        00000080

        """)
  }

  @Test func `lines are counted from the first byte and the last one is filled up`() {
    let memory = PatchyMemory(patches: [(0, Self.sample)])
    #expect(
      dump(memory, 5..<65) == """
        00000005  05 06 07 08 09 0a 0b 0c  0d 0e 0f 10 11 12 13 14  |................|
        00000015  15 16 17 18 19 1a 1b 1c  1d 1e 1f 20 21 22 23 24  |........... !"#$|
        00000025  25 26 27 28 29 2a 2b 2c  2d 2e 2f 00 00 00 00 00  |%&'()*+,-./.....|
        00000035  00 00 00 00 00 00 00 00  00 00 00 00              |............|
        00000041

        """)
  }

  @Test func `offsets grow beyond eight digits at 4 GiB`() {
    let memory = PatchyMemory(patches: [(0xffff_ff00, [UInt8](repeating: 0, count: 0x200))])
    #expect(
      dump(memory, 0xffff_fff0..<0x1_0000_0018) == """
        fffffff0  00 00 00 00 00 00 00 00  00 00 00 00 00 00 00 00  |................|
        *
        100000010  00 00 00 00 00 00 00 00                           |........|
        100000018

        """)
  }

  @Test func `an empty range is nothing at all`() {
    #expect(dump(PatchyMemory(patches: [(0, Self.sample)]), 16..<16) == "")
  }

  @Test func `one line stands for what is not there`() {
    let zeros = [UInt8](repeating: 0, count: 32)
    let memory = PatchyMemory(patches: [(0x1000, zeros), (0x5000, zeros), (0x9000, zeros)])
    #expect(
      dump(memory, 0..<0xa000) == """
        (0x0..<0x1000 is not in this image)
        00001000  00 00 00 00 00 00 00 00  00 00 00 00 00 00 00 00  |................|
        *
        (0x1020..<0x5000 is not in this image)
        00005000  00 00 00 00 00 00 00 00  00 00 00 00 00 00 00 00  |................|
        *
        (0x5020..<0x9000 is not in this image)
        00009000  00 00 00 00 00 00 00 00  00 00 00 00 00 00 00 00  |................|
        *
        (0x9020..<0xa000 is not in this image)
        0000a000

        """)
    #expect(dump(memory, 0x2000..<0x3000) == "(0x2000..<0x3000 is not in this image)\n")
    #expect(
      dump(memory, 0xa000..<UInt64.max) == "(0xa000..<0xffffffffffffffff is not in this image)\n")
  }

  @Test func `runs that touch are one run`() {
    let memory = PatchyMemory(patches: [(0, Array(1...10)), (10, Array(11...32))])
    #expect(
      dump(memory, 0..<32) == """
        00000000  01 02 03 04 05 06 07 08  09 0a 0b 0c 0d 0e 0f 10  |................|
        00000010  11 12 13 14 15 16 17 18  19 1a 1b 1c 1d 1e 1f 20  |............... |
        00000020

        """)
  }

  /// A range that is promised and does not answer, as a damaged page of a dump.
  @Test func `a page that does not answer is a gap`() {
    struct Liar: PhysicalMemory {
      let truth = PatchyMemory(patches: [(0x2000, Array(0..<16))])
      func quadword(at address: PhysicalAddress) -> UInt64? { truth.quadword(at: address) }
      func doubleword(at address: PhysicalAddress) -> UInt32? { truth.doubleword(at: address) }
      func read(at address: PhysicalAddress, into buffer: UnsafeMutableRawBufferPointer) -> Int {
        truth.read(at: address, into: buffer)
      }
      var backedRanges: [Range<PhysicalAddress>] { [addresses(0..<0x4000)] }
    }
    #expect(
      dump(Liar(), 0x10..<0x3000) == """
        (0x10..<0x2000 is not in this image)
        00002000  00 01 02 03 04 05 06 07  08 09 0a 0b 0c 0d 0e 0f  |................|
        (0x2010..<0x3000 is not in this image)
        00003000

        """)
  }

  /// Some pages of a dump, and why the others are not there.
  private struct Explained: PhysicalMemory {
    let truth: PatchyMemory
    let reasons: [UInt64: Presence]
    func quadword(at address: PhysicalAddress) -> UInt64? { truth.quadword(at: address) }
    func doubleword(at address: PhysicalAddress) -> UInt32? { truth.doubleword(at: address) }
    func read(at address: PhysicalAddress, into buffer: UnsafeMutableRawBufferPointer) -> Int {
      truth.read(at: address, into: buffer)
    }
    func presence(of address: PhysicalAddress) -> Presence {
      reasons[address.rawValue & ~0xfff] ?? .absent
    }
    var backedRanges: [Range<PhysicalAddress>] { truth.backedRanges }
  }

  private static let explained = Explained(
    truth: PatchyMemory(patches: [(0x4000, Array(0..<16))]),
    reasons: [
      0x1000: .excluded, 0x2000: .excluded, 0x3000: .locked(package: "liblzo2-2"), 0x5000: .damaged,
      0x4000: .cutOff,
    ])

  @Test func `a page that is not there is told with the reason`() {
    #expect(
      dump(Self.explained, 0x800..<0x7000) == """
        (0x800..<0x1000 is not in this image)
        (0x1000..<0x3000 is left out of the dump)
        (0x3000..<0x4000 is packed, and what unpacks it is not installed (liblzo2-2))
        00004000  00 01 02 03 04 05 06 07  08 09 0a 0b 0c 0d 0e 0f  |................|
        (0x4010..<0x5000 is lost with the end of the dump)
        (0x5000..<0x6000 is damaged in the dump)
        (0x6000..<0x7000 is not in this image)
        00007000

        """)
  }

  @Test func `as JSON there are pages, runs of zeros, and what is missing`() throws {
    func json(_ ranges: [Range<UInt64>], of memory: some PhysicalMemory, words: Bool = false)
      -> String
    {
      var text = ""
      Hexdump.writeJSON(ranges.map { addresses($0) }, of: memory, showsQuadwords: words, to: &text)
      return text
    }
    #expect(
      json([0x3ff0..<0x4008, 0x5000..<0x5001], of: Self.explained) == """
        [
          {"address" : "0x3ff0", "bytes" : "0x10", "missing" : "packed, and what unpacks it is not installed (liblzo2-2)"},
          {"address" : "0x4000", "bytes" : "0x8", "hex" : "0001020304050607"},
          {"address" : "0x5000", "bytes" : "0x1", "missing" : "damaged in the dump"}
        ]

        """)
    #expect(
      json([0x4000..<0x400a], of: Self.explained, words: true) == """
        [
          {"address" : "0x4000", "bytes" : "0xa", "words" : ["0x0706050403020100", "0x0908"]}
        ]

        """)
    let zeros = PatchyMemory(patches: [(0x1000, [UInt8](repeating: 0, count: 0x2800) + [7])])
    #expect(
      json([0x1000..<0x4000], of: zeros) == """
        [
          {"address" : "0x1000", "bytes" : "0x2000", "zero" : true},
          {"address" : "0x3000", "bytes" : "0x801", "hex" : "\(String(repeating: "00", count: 0x800))07"},
          {"address" : "0x3801", "bytes" : "0x7ff", "missing" : "not in this dump"}
        ]

        """)
    #expect(json([], of: zeros) == "[\n]\n")
  }

  @Test func `gigabytes of zeros are four lines`() throws {
    // Says that it holds 4 GiB of zeros; a real image does not copy them from anywhere either.
    struct Zeros: PhysicalMemory {
      func quadword(at _: PhysicalAddress) -> UInt64? { 0 }
      func doubleword(at _: PhysicalAddress) -> UInt32? { 0 }
      func read(at _: PhysicalAddress, into buffer: UnsafeMutableRawBufferPointer) -> Int {
        memset(buffer.baseAddress!, 0, buffer.count)
        return buffer.count
      }
      var backedRanges: [Range<PhysicalAddress>] { [addresses(0..<0x1_0000_0000)] }
    }
    var screen = ""
    let time = ContinuousClock().measure {
      screen = dump(Zeros(), 0..<0x1_0000_0000)
    }
    #expect(
      screen == """
        00000000  00 00 00 00 00 00 00 00  00 00 00 00 00 00 00 00  |................|
        *
        100000000

        """)
    #expect(time < .seconds(20))
  }

  @Test(
    .enabled(if: access("/usr/bin/hexdump", X_OK) == 0),
    arguments: 1...12 as ClosedRange<UInt64>)
  func `random files look as hexdump -C shows them`(seed: UInt64) throws {
    var generator = SeededGenerator(seed: seed)
    var bytes: [UInt8] = []
    // Runs of noise, of zeros and of repeated lines; some longer than a read at a time.
    while bytes.count < 200_000 {
      let count = Int.random(in: 1...3000, using: &generator)
      switch Int.random(in: 0..<4, using: &generator) {
      case 0: bytes += (0..<count / 8).map { _ in UInt8.random(in: 0...255, using: &generator) }
      case 1: bytes += [UInt8](repeating: 0, count: 16 * count)
      case 2: bytes += [UInt8](repeating: 0, count: count)
      default:
        let line = (0..<16).map { _ in UInt8.random(in: 0...255, using: &generator) }
        bytes += (0..<count / 8).flatMap { _ in line }
      }
    }
    let directory = TemporaryDirectory()
    let path = directory.file("noise", bytes)
    let memory = PatchyMemory(patches: [(0, bytes)])
    var ranges = [0..<bytes.count]
    for _ in 0..<8 {
      let start = Int.random(in: 0..<bytes.count, using: &generator)
      let longest = min(bytes.count - start, Bool.random(using: &generator) ? 100 : 200_000)
      ranges.append(start..<start + Int.random(in: 1...longest, using: &generator))
    }
    for range in ranges {
      let expected = try output(
        of: "LC_ALL=C /usr/bin/hexdump -C -s \(range.lowerBound) -n \(range.count) \(path)")
      let ours = dump(memory, UInt64(range.lowerBound)..<UInt64(range.upperBound))
      // Not in one expression: a difference would print both screens.
      let isEqual = ours == expected
      #expect(isEqual, "seed \(seed), bytes \(range)")
    }
  }

  private func output(of command: String) throws -> String {
    let pipe = try #require(popen(command, "r"))
    defer { pclose(pipe) }
    var text: [UInt8] = []
    var buffer = [UInt8](repeating: 0, count: 65_536)
    while case let count = fread(&buffer, 1, buffer.count, pipe), count > 0 {
      text += buffer[..<count]
    }
    return String(decoding: text, as: UTF8.self)
  }
}
