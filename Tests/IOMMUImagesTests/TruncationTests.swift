import Glibc
import IOMMUFormats
import Testing

@testable import IOMMUImages

/// Dumps that end too early: a copy that stopped, a disk that was full.
@Suite struct TruncationTests {
  let scratch = TemporaryDirectory()

  // MARK: Every cut

  /// A page that is stored as it is: bytes at both ends, zeros between them.
  static let page = [UInt8](1...40) + [UInt8](repeating: 0, count: 4016) + [UInt8](1...40)

  /// Segments out of order, one with zero fill, two that overlap, a note.
  static var core: TinyELF {
    TinyELF([
      .init(physical: 0x3000, data: [UInt8](1...40), memorySize: 60),
      .init(physical: 0x1000, data: [UInt8](50...80)),
      .init(physical: 0x101c, data: [UInt8](100...120)),
      .init(physical: 0, data: [4, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 65, 66, 67, 0], type: 4),
      .init(physical: 0x1010, memorySize: 0x60),
    ])
  }
  static var extendedCore: TinyELF {
    var elf = core
    elf.isExtended = true
    return elf
  }
  static let kdump: TinyKdump = {
    var kdump = TinyKdump(
      frameCount: 20, excluded: [3],
      pages: [
        .init(frame: 1, data: [UInt8](repeating: 0, count: 4096)),
        .init(frame: 2, flags: 1, data: PackedPage.zlib),
        .init(frame: 4, data: []),
        .init(frame: 9, data: page),
        .init(frame: 10, flags: 1, data: PackedPage.zlib),
      ])
    // As makedumpfile writes zeros: one page for all.
    kdump.pages[2].offset = 4 * 4096 + 5 * 24
    kdump.pages[2].size = 4096
    kdump.vmcoreInfo = "OSRELEASE=6.1\n"
    return kdump
  }()
  static var oneBitmap: TinyKdump {
    var kdump = kdump
    kdump.version = 1
    kdump.hasOneBitmap = true
    kdump.frameCount = 20_000
    kdump.pages[2].offset = 3 * 4096 + 5 * 24
    return kdump
  }

  /// The file in records of 700 bytes, in order or from the last to the first.
  static func flattened(_ file: [UInt8], reversed: Bool = false) -> [UInt8] {
    let starts = Array(stride(from: 0, to: file.count, by: 700))
    return TinyFlattened(
      records: (reversed ? starts.reversed() : starts).map {
        (Int64($0), Array(file[$0..<min(file.count, $0 + 700)]))
      }
    ).bytes
  }

  static let files: [(name: String, bytes: [UInt8])] = [
    ("ELF", core.bytes), ("ELF with many headers", extendedCore.bytes), ("kdump", kdump.bytes),
    ("kdump with one bitmap", oneBitmap.bytes), ("flattened ELF", flattened(core.bytes)),
    ("flattened ELF, backwards", flattened(core.bytes, reversed: true)),
    ("flattened kdump", flattened(kdump.bytes)),
    ("flattened kdump, backwards", flattened(kdump.bytes, reversed: true)),
  ]

  /// Every length that a copy of the file can have had; of long runs of zeros some.
  static func cuts(of bytes: [UInt8]) -> [Int] {
    var lastByte = 0
    return (1..<bytes.count).filter { count in
      if bytes[count - 1] != 0 { lastByte = count }
      return count - lastByte < 64 || count % 61 == 0 || bytes[count] != 0
    }
  }

  /// What is looked at: words at both ends of what the files hold, and around them.
  static let places: [UInt64] =
    [0, 0xff8, 0x1000, 0x1010, 0x1018, 0x101c, 0x1030, 0x1068, 0x1ff8, 0x2000, 0x2ff8, 0x3000]
    + [0x3024, 0x3030, 0x3034, 0x3800, 0x4000, 0x4ff8, 0x9000, 0x9ff8, 0xa000, 0xaff8, 0x13000]

  @Test(arguments: files.indices)
  func `a file cut at any byte gives right bytes or none`(index: Int) throws {
    let (name, bytes) = Self.files[index]
    let path = scratch.file("vmcore", bytes)
    let whole = try MemoryImage(path: path)
    #expect(whole.incompleteness.isEmpty && whole.warnings.isEmpty && whole.problems.isEmpty)
    let words = Self.places.map { whole.quadword(at: PhysicalAddress($0)) }
    let presences = Self.places.map { whole.presence(of: PhysicalAddress($0)) }
    var openedCount = 0
    for count in Self.cuts(of: bytes).reversed() {
      truncate(path, off_t(count))
      guard let image = try? MemoryImage(path: path) else { continue }
      openedCount += 1
      var isAllThere = true
      for (place, (word, presence)) in zip(Self.places, zip(words, presences)) {
        let address = PhysicalAddress(place)
        let read = image.quadword(at: address)
        let now = image.presence(of: address)
        // Never other bytes, and never "no memory" where there was some.
        guard read == nil || read == word, now == presence || now == .cutOff else {
          Issue.record(
            "\(name) cut at \(count), \(address): \(now) \(read as Any), once \(presence)")
          return
        }
        isAllThere = isAllThere && read == word && now == presence
      }
      let isTold =
        !image.incompleteness.isEmpty || image.warnings.contains { $0.contains("end mark") }
      guard isAllThere || isTold, image.problems.isEmpty else {
        Issue.record("\(name) cut at \(count): \(image.warnings) \(image.problems)")
        return
      }
      _ = image.backedRanges
      _ = image.vmcoreInfo
      _ = image.summary()
    }
    #expect(openedCount > 50)
  }

  // MARK: What is said

  func warnings(_ bytes: [UInt8]) throws -> [String] {
    try MemoryImage(path: scratch.file("vmcore", bytes)).warnings.map {
      $0.replacing("\(scratch.path)/", with: "")
    }
  }

  @Test func `a core says how much is missing and from where on`() throws {
    let bytes = Self.core.bytes
    // 64 bytes, five headers of 56, then 40 of data at 0x158, 31 at 0x180, 21 at 0x19f.
    #expect(
      try warnings(Array(bytes[..<0x190])) == [
        "vmcore: incomplete, cut off at byte 0x190: 33 of 89 bytes of memory are missing, from "
          + "physical address 0x1010 on"
      ])
    #expect(
      try warnings(Array(bytes[..<(64 + 2 * 56 + 5)])) == [
        "vmcore: incomplete, cut off at byte 0xb5: 71 of 71 bytes of memory are missing, from "
          + "physical address 0x1000 on; 3 program headers are missing, and what else was "
          + "memory is not known"
      ])
    let image = try MemoryImage(path: scratch.file("vmcore", Array(bytes[..<0x190])))
    #expect(image.quadword(at: PhysicalAddress(0x1008)) == 0x4140_3f3e_3d3c_3b3a)
    #expect(image.quadword(at: PhysicalAddress(0x1009)) == nil)
    #expect(image.presence(of: PhysicalAddress(0x1010)) == .cutOff)
    // Of the overlapping segment only what the first one does not cover counts.
    #expect(image.presence(of: PhysicalAddress(0x1031)) == .zeroFill)
    #expect(image.presence(of: PhysicalAddress(0x5000)) == .absent)
  }

  /// makedumpfile's bit 0 of `e_flags`.
  @Test func `a core whose disk was full is read as far as it goes`() throws {
    var bytes = TinyELF([
      .init(physical: 0x10_0000, data: Self.page), .init(physical: 0x20_0000, data: Self.page),
    ]).bytes
    bytes[48] = 1
    #expect(
      try warnings(Array(bytes[..<(bytes.count - 4096)])) == [
        "vmcore: incomplete, its disk was full: 4096 of 8192 bytes of memory are missing, from "
          + "physical address 0x200000 on"
      ])
    // All that the headers name is there: what is not, nobody knows.
    #expect(
      try warnings(bytes) == [
        "vmcore: incomplete, its disk was full: what is missing is not known"
      ])
    let marked = try MemoryImage(path: scratch.path("vmcore"))
    #expect(marked.presence(of: PhysicalAddress(0x20_0000)) == .stored)
    #expect(marked.presence(of: PhysicalAddress(0x30_0000)) == .cutOff)
    // A header that was never written.
    bytes.replaceSubrange(64 + 56..<64 + 112, with: [UInt8](repeating: 0, count: 56))
    #expect(
      try warnings(bytes) == [
        "vmcore: incomplete, its disk was full: 1 program header is missing, and what else was "
          + "memory is not known"
      ])
    #expect(
      try MemoryImage(path: scratch.path("vmcore")).presence(of: PhysicalAddress(0x20_0000))
        == .cutOff)
  }

  @Test func `a core of a 32-bit kernel has its flags elsewhere`() throws {
    func little(_ value: UInt64, _ count: Int) -> [UInt8] { TinyELF.little(value, count) }
    var bytes: [UInt8] = [0x7f, 0x45, 0x4c, 0x46, 1, 1, 1] + [UInt8](repeating: 0, count: 9)
    bytes += little(4, 2) + little(3, 2) + little(1, 4) + little(0, 4) + little(52, 4)
    bytes += little(0, 4) + little(1, 4) + little(52, 2) + little(32, 2) + little(1, 2)
    bytes += [UInt8](repeating: 0, count: 6)
    for word: UInt64 in [1, 84, 0xc000_1000, 0x1000, 8, 8, 7, 0] { bytes += little(word, 4) }
    bytes += [1, 2, 3, 4]
    #expect(
      try warnings(bytes) == [
        "vmcore: incomplete, its disk was full: 4 of 8 bytes of memory are missing, from physical "
          + "address 0x1004 on"
      ])
  }

  @Test func `a kdump-compressed dump says which pages are missing`() throws {
    let bytes = Self.kdump.bytes
    // Five descriptors at 0x4000, the page of zeros, two packed pages around one that is not.
    let packed = PackedPage.zlib.count
    #expect(bytes.count == 0x4000 + 5 * 24 + 2 * 4096 + 2 * packed)
    #expect(
      try warnings(Array(bytes.dropLast())) == [
        "vmcore: incomplete, cut off at byte \(hexadecimal(UInt64(bytes.count - 1))): 1 of 5 pages "
          + "of memory are missing, from physical address 0xa000 on"
      ])
    // Frame 4 is one of zeros and lies before the cut.
    let cut = Array(bytes[..<(0x4000 + 5 * 24 + 4096 + 10)])
    #expect(
      try warnings(cut) == [
        "vmcore: incomplete, cut off at byte 0x5082: 3 of 5 pages of memory are missing, from "
          + "physical address 0x2000 on"
      ])
    let image = try MemoryImage(path: scratch.path("vmcore"))
    #expect(image.backedRanges == [.physical(0x1000..<0x2000), .physical(0x4000..<0x5000)])
    #expect(image.quadword(at: PhysicalAddress(0x4ff8)) == 0)
    #expect(image.presence(of: PhysicalAddress(0x2000)) == .cutOff)
    #expect(image.presence(of: PhysicalAddress(0x3000)) == .excluded)
    #expect(image.presence(of: PhysicalAddress(0x5000)) == .absent)
    #expect(image.problems.isEmpty)
    #expect(image.summary().excludedByteCount == 4096)
    #expect(image.incompleteness[0].missingByteCount == 3 * 4096)
    // Inside the descriptors, and inside the second bitmap.
    #expect(
      try warnings(Array(bytes[..<(0x4000 + 24 + 7)])) == [
        "vmcore: incomplete, cut off at byte 0x401f: 5 of 5 pages of memory are missing, from "
          + "physical address 0x1000 on"
      ])
    #expect(
      try warnings(Array(bytes[..<0x3001])) == [
        "vmcore: incomplete, cut off at byte 0x3001: 3 of 3 pages of memory are missing, from "
          + "physical address 0x1000 on; what there should be from 0x8000 on is not known"
      ])
    let bitmap = try MemoryImage(path: scratch.path("vmcore"))
    #expect(bitmap.presence(of: PhysicalAddress(0x3000)) == .excluded)
    #expect(bitmap.presence(of: PhysicalAddress(0x9000)) == .cutOff)
    // The first bitmap is whole, and knows of no memory there.
    #expect(bitmap.presence(of: PhysicalAddress(0xb000)) == .absent)
    #expect(bitmap.vmcoreInfo?["OSRELEASE"] == "6.1")
    #expect(bitmap.summary().excludedByteCount == nil)
  }

  /// Parts that hold nothing end where their writer stopped: inside their second bitmap.
  @Test func `a part of a split dump that holds nothing lacks nothing`() throws {
    var parts = KdumpMemoryTests.parts([0..<20, 20..<20], of: Self.kdump)
    parts[1] = Array(parts[1][..<0x3003])
    let paths = parts.enumerated().map { scratch.file("part\($0)", $1) }
    let image = try MemoryImage(paths: paths.reversed())
    #expect(image.warnings.isEmpty)
    #expect(image.storedPageCount == 5)
    #expect(image.quadword(at: PhysicalAddress(0x2000)) == PackedPage.quadword)
    // The other part is cut.
    let other = try MemoryImage(
      paths: [scratch.file("part0", Array(parts[0].dropLast(100))), paths[1]])
    #expect(other.incompleteness.map(\.path) == [paths[0]])
    #expect(other.quadword(at: PhysicalAddress(0x9000)) == nil)
    #expect(other.quadword(at: PhysicalAddress(0x2000)) == PackedPage.quadword)
  }

  /// The last pages are of zeros: the last page of its own decides.
  @Test func `a dump that ends with zeros and is cut is known to be cut`() throws {
    var kdump = TinyKdump(pages: [
      .init(frame: 0, data: [UInt8](repeating: 0, count: 4096)), .init(frame: 1, data: Self.page),
    ])
    for frame: UInt64 in 2...20 {
      kdump.pages.append(
        .init(frame: frame, data: [], size: 4096, offset: UInt64(4 * 4096 + 21 * 24)))
    }
    #expect(try warnings(kdump.bytes).isEmpty)
    #expect(
      try warnings(Array(kdump.bytes.dropLast(5))) == [
        "vmcore: incomplete, cut off at byte 0x61f3: 1 of 21 pages of memory are missing, from "
          + "physical address 0x1000 on"
      ])
  }

  /// Nothing at the end shows it: it is told when the page is asked for.
  @Test func `a page that points behind the end of a whole file is a problem`() throws {
    let kdump = TinyKdump(pages: [
      .init(frame: 1, data: Self.page, offset: 0x9000), .init(frame: 2, data: Self.page),
      .init(frame: 3, data: Self.page),
    ])
    let image = try MemoryImage(path: scratch.file("vmcore", kdump.bytes))
    #expect(image.warnings.isEmpty)
    #expect(image.quadword(at: PhysicalAddress(0x1000)) == nil)
    #expect(image.presence(of: PhysicalAddress(0x1000)) == .cutOff)
    #expect(image.problems.map(\.found) == ["4096 bytes at byte 0x9000 of 0x7048"])
  }

  @Test func `a file that ends inside its mark is no raw memory`() {
    for mark in ["KDUMP  ", "DISKDUM", "\u{7f}EL", "makedump", "K", "m"] {
      let error = openingError(scratch.file("vmcore", mark))
      #expect(error?.found == "the file ends inside the mark of a dump")
    }
    #expect(throws: Never.self) { try MemoryImage(path: scratch.file("vmcore", "KDUMPS")) }
    // The record with the mark did not arrive.
    let error = openingError(
      scratch.file(
        "vmcore", TinyFlattened(records: [(4096, Self.page)], hasEnd: false).bytes))
    #expect(error?.found == "the stream ends inside the mark of a dump")
  }

  /// makedumpfile writes zeros where program headers will be, and the headers last.
  @Test func `a stream that ends before its program headers says that they are missing`() throws {
    let core = TinyELF([.init(physical: 0x1000, data: Self.page)]).bytes
    var stream = TinyFlattened(records: [
      (64, [UInt8](repeating: 0, count: 56)), (0, Array(core[..<64])), (120, Array(core[120...])),
      (64, Array(core[64..<120])),
    ])
    #expect(
      try MemoryImage(path: scratch.file("whole", stream.bytes)).quadword(
        at: PhysicalAddress(0x1000)) == 0x0807_0605_0403_0201)
    stream.records.removeLast()
    stream.hasEnd = false
    let error = openingError(scratch.file("cut", stream.bytes))
    #expect(error?.found == "1 program header is missing, and none of memory is left")
    #expect(error?.remedy == "the file is truncated, copy it again")
  }

  /// Later records may have filled what a stream lacks: it is not zero then.
  @Test func `a gap of a stream is zero when the stream is whole, and unknown when not`() throws {
    let core = TinyELF([.init(physical: 0x1000, data: Self.page)]).bytes
    var stream = TinyFlattened(records: [(0, Array(core[..<200])), (4150, Array(core[4150...]))])
    let whole = try MemoryImage(path: scratch.file("whole", stream.bytes))
    #expect(whole.quadword(at: PhysicalAddress(0x1800)) == 0)
    #expect(whole.warnings.isEmpty)
    stream.hasEnd = false
    let cut = try MemoryImage(path: scratch.file("cut", stream.bytes))
    #expect(cut.quadword(at: PhysicalAddress(0x1000)) == 0x0807_0605_0403_0201)
    #expect(cut.quadword(at: PhysicalAddress(0x1800)) == nil)
    #expect(cut.presence(of: PhysicalAddress(0x1800)) == .cutOff)
    #expect(cut.quadword(at: PhysicalAddress(0x1ff8)) == 0x2827_2625_2423_2221)
    #expect(cut.incompleteness[0].missingByteCount == 4150 - 200)
    #expect(cut.backedRanges == [.physical(0x1000..<0x1050), .physical(0x1fbe..<0x2000)])
  }

  // MARK: Writing

  @Test(arguments: ImageConverter.Target.allCases)
  func `what is written of an incomplete dump says so`(target: ImageConverter.Target) throws {
    let core = TinyELF([
      .init(physical: 0x1000, data: Self.page), .init(physical: 0x8000, data: Self.page),
    ]).bytes
    for bytes in [Array(core.dropLast(10)), Array(Self.kdump.bytes.dropLast(10))] {
      let source = try MemoryImage(path: scratch.file("source", bytes))
      let report = try ImageConverter.write(source, to: scratch.path("target"), as: target)
      let image = try MemoryImage(path: scratch.path("target"))
      guard target != .raw else {
        #expect(report.warnings.contains("memory that the dump has lost is zero in raw bytes"))
        continue
      }
      #expect(report.warnings.contains { $0.contains("marked as incomplete") })
      #expect(image.incompleteness.map(\.isMarked) == [true])
      #expect(
        image.quadword(at: PhysicalAddress(0x1000)) == source.quadword(at: PhysicalAddress(0x1000)))
      if bytes.count > 0x4000 {
        #expect(image.quadword(at: PhysicalAddress(0xa000)) == nil)
        #expect(image.presence(of: PhysicalAddress(0xa000)) == .cutOff)
        #expect(image.presence(of: PhysicalAddress(0x9000)) == .stored)
      } else if target == .elf {
        #expect(image.presence(of: PhysicalAddress(0x8ff5)) == .stored)
        #expect(image.presence(of: PhysicalAddress(0x8ff6)) == .cutOff)
      }
    }
  }

  @Test func `a bitmap in a gap of 2^62 bytes is empty`() throws {
    var kdump = TinyKdump(pages: [.init(frame: 1, data: Self.page)])
    kdump.frameCount = 1 << 40
    var header = Array(kdump.bytes[..<8192])
    header.replaceSubrange(436..<440, with: [0, 0, 0, 0x20])
    let stream = TinyFlattened(records: [(0, header), (1 << 62, [7])])
    let image = try MemoryImage(path: scratch.file("vmcore", stream.bytes))
    #expect(image.backedRanges.isEmpty)
    #expect(image.quadword(at: PhysicalAddress(0x1000)) == nil)
  }
}
