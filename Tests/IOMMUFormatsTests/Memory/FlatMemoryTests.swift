import Glibc
import IOMMUFormats
import Testing

@Suite struct FlatMemoryTests {
  /// RAM, a hole, RAM, a larger hole, RAM: the last is the largest.
  static func holed() throws -> FlatMemory {
    try FlatMemory(ram: [
      PhysicalAddress(0)..<PhysicalAddress(0xa000),
      PhysicalAddress(0x10_0000)..<PhysicalAddress(0x10_2000),
      PhysicalAddress(0x1_0000_0000)..<PhysicalAddress(0x1_0010_0000),
    ])
  }

  static let quadwords: [(address: UInt64, answers: Bool)] = [
    (0, true), (1, true), (0x9ff8, true), (0x9ff9, false), (0x9fff, false), (0xa000, false),
    (0xf_fff8, false), (0xf_fff9, false), (0xf_ffff, false), (0x10_0000, true),
    (0x10_1ff8, true), (0x10_1ff9, false), (0x10_2000, false), (0xffff_fff8, false),
    (0xffff_fffc, false), (0xffff_ffff, false), (0x1_0000_0000, true), (0x1_000f_fff8, true),
    (0x1_000f_fff9, false), (0x1_000f_ffff, false), (0x1_0010_0000, false),
    (0xffff_ffff_ffff_fff8, false), (0xffff_ffff_ffff_ffff, false),
    (0x8000_0000_0000_0000, false), (0xffff_ffff_0000_0000, false),
  ]

  @Test(arguments: quadwords)
  func `a quadword answers where all its bytes are RAM`(address: UInt64, answers: Bool) throws {
    let memory = try Self.holed()
    #expect((memory.quadword(at: PhysicalAddress(address)) != nil) == answers)
    #expect((memory.bigEndianQuadword(at: PhysicalAddress(address)) != nil) == answers)
    #expect(memory.isBacked(PhysicalAddress(address), byteCount: 8) == answers)
  }

  @Test(arguments: [4096, 0x4_0000, 0x8_0000, 0x4_0001])
  func `zeros are where they were asked for, and nowhere else`(count: UInt64) throws {
    let memory = try FlatMemory(byteCount: 1 << 20)
    let start = PhysicalAddress(0x2000)
    let all = [UInt8](repeating: 0xa5, count: 1 << 20)
    memory.write(all, at: PhysicalAddress(0))
    memory.zero(at: start, byteCount: count)
    #expect(memory.bytes(at: PhysicalAddress(0), count: 0x2000) == Array(all.prefix(0x2000)))
    #expect(memory.bytes(at: start, count: Int(count))!.allSatisfy { $0 == 0 })
    let behind = PhysicalAddress(0x2000 + (count + 7) & ~7)
    #expect(memory.quadword(at: behind) == 0xa5a5_a5a5_a5a5_a5a5)
  }

  static let doublewords: [(address: UInt64, answers: Bool)] = [
    (0, true), (0x9ffc, true), (0x9ffd, false), (0xa000, false), (0xf_fffc, false),
    (0xf_fffd, false), (0x10_1ffc, true), (0x10_1ffd, false), (0x1_000f_fffc, true),
    (0x1_000f_fffd, false), (0x1_0010_0000, false), (0xffff_ffff_ffff_fffc, false),
    (0xffff_ffff_ffff_ffff, false),
  ]

  @Test(arguments: doublewords)
  func `a doubleword answers where all its bytes are RAM`(address: UInt64, answers: Bool) throws {
    let memory = try Self.holed()
    #expect((memory.doubleword(at: PhysicalAddress(address)) != nil) == answers)
    #expect((memory.bigEndianDoubleword(at: PhysicalAddress(address)) != nil) == answers)
    #expect(memory.isBacked(PhysicalAddress(address), byteCount: 4) == answers)
  }

  @Test func `no count of bytes however large wraps the check`() throws {
    let memory = try Self.holed()
    for address: UInt64 in [0, 8, 0x10_0000, 0x1_0000_0000] {
      let counts: [UInt64] = [.max, .max - 7, .max - address, 0 &- address &- 1, 1 << 63]
      for count in counts {
        #expect(!memory.isBacked(PhysicalAddress(address), byteCount: count))
      }
    }
    #expect(memory.isBacked(PhysicalAddress(0x1_0000_0000), byteCount: 0x10_0000))
    #expect(!memory.isBacked(PhysicalAddress(0x1_0000_0000), byteCount: 0x10_0001))
    #expect(memory.isBacked(PhysicalAddress(0), byteCount: 0xa000))
    #expect(!memory.isBacked(PhysicalAddress(0), byteCount: 0xa001))
  }

  @Test func `words are little-endian, and big-endian on request`() throws {
    let memory = try FlatMemory(byteCount: 4096)
    memory.store(0x0123_4567_89ab_cdef as UInt64, at: PhysicalAddress(0))
    memory.store(bigEndian: 0x0123_4567_89ab_cdef as UInt64, at: PhysicalAddress(8))
    memory.store(0x0123_4567 as UInt32, at: PhysicalAddress(16))
    memory.store(bigEndian: 0x0123_4567 as UInt32, at: PhysicalAddress(20))
    #expect(
      memory.bytes(at: PhysicalAddress(0), count: 24)
        == hexdump("efcdab8967452301 0123456789abcdef 67452301 01234567"))
    #expect(memory.quadword(at: PhysicalAddress(0)) == 0x0123_4567_89ab_cdef)
    #expect(memory.bigEndianQuadword(at: PhysicalAddress(8)) == 0x0123_4567_89ab_cdef)
    #expect(memory.doubleword(at: PhysicalAddress(16)) == 0x0123_4567)
    #expect(memory.bigEndianDoubleword(at: PhysicalAddress(20)) == 0x0123_4567)
  }

  @Test func `loads need no alignment`() throws {
    let memory = try FlatMemory(byteCount: 4096)
    memory.store(0x0706_0504_0302_0100 as UInt64, at: PhysicalAddress(0))
    memory.store(0x0f0e_0d0c_0b0a_0908 as UInt64, at: PhysicalAddress(8))
    #expect(memory.quadword(at: PhysicalAddress(1)) == 0x0807_0605_0403_0201)
    #expect(memory.quadword(at: PhysicalAddress(4)) == 0x0b0a_0908_0706_0504)
    #expect(memory.doubleword(at: PhysicalAddress(3)) == 0x0605_0403)
    #expect(memory.doubleword(at: PhysicalAddress(6)) == 0x0908_0706)
  }

  @Test func `memory that was never stored to is zero`() throws {
    let memory = try Self.holed()
    #expect(memory.quadword(at: PhysicalAddress(0x9ff8)) == 0)
    #expect(memory.quadword(at: PhysicalAddress(0x1_0000_0000)) == 0)
  }

  @Test func `an exchange is made when the old value is the expected one`() throws {
    let memory = try FlatMemory(byteCount: 4096)
    let place = PhysicalAddress(0xff8)
    memory.store(5 as UInt64, at: place)
    #expect(memory.compareExchange(at: place, expected: 4, desired: 6) == 5)
    #expect(memory.quadword(at: place) == 5)
    #expect(memory.compareExchange(at: place, expected: 5, desired: 6) == nil)
    #expect(memory.quadword(at: place) == 6)
  }

  @Test func `a store outside memory stops the program`() async {
    await #expect(processExitsWith: .failure) {
      let memory = try FlatMemory(byteCount: 4096)
      memory.store(1 as UInt64, at: PhysicalAddress(4096))
    }
  }

  @Test func `a store into a hole stops the program`() async {
    await #expect(processExitsWith: .failure) {
      let memory = try FlatMemoryTests.holed()
      memory.store(1 as UInt32, at: PhysicalAddress(0xa000))
    }
  }

  @Test func `bytes in place end where their RAM range does`() throws {
    let memory = try Self.holed()
    memory.store(0x1122 as UInt32, at: PhysicalAddress(0x9ff8))
    let bytes = try #require(memory.bytesInPlace(from: PhysicalAddress(0x9ff8)))
    #expect([UInt8](bytes) == [0x22, 0x11, 0, 0, 0, 0, 0, 0])
    #expect(memory.bytesInPlace(from: PhysicalAddress(0xa000)) == nil)
    #expect(memory.bytesInPlace(from: PhysicalAddress(.max)) == nil)
  }

  @Test func `a series is stored word by word, in either byte order`() throws {
    let memory = try FlatMemory(byteCount: 4096)
    memory.storeSeries(
      from: 0xfffe, step: 1, count: 3, isBigEndian: false, at: PhysicalAddress(0xfe8))
    #expect(
      memory.bytes(at: PhysicalAddress(0xfe0), count: 32)
        == hexdump(
          """
          00 00 00 00 00 00 00 00  fe ff 00 00 00 00 00 00
          ff ff 00 00 00 00 00 00  00 00 01 00 00 00 00 00
          """))
    memory.storeSeries(
      from: .max, step: 1, count: 2, isBigEndian: true, at: PhysicalAddress(0xff0))
    #expect(
      memory.bytes(at: PhysicalAddress(0xfe8), count: 24)
        == hexdump("fe ff 00 00 00 00 00 00  ff ff ff ff ff ff ff ff  00 00 00 00 00 00 00 00"))
    // A series of no words needs no memory.
    memory.storeSeries(from: 1, step: 1, count: 0, isBigEndian: true, at: PhysicalAddress(4096))
  }

  @Test func `a series into a hole stops the program`() async {
    await #expect(processExitsWith: .failure) {
      let memory = try FlatMemoryTests.holed()
      memory.storeSeries(
        from: 0, step: 0, count: 2, isBigEndian: false, at: PhysicalAddress(0x9ff8))
    }
  }

  @Test func `bytes are copied up to the end of their RAM range`() throws {
    let memory = try Self.holed()
    let source = [UInt8](repeating: 0xab, count: 32)
    let written = source.withUnsafeBytes { memory.write($0, at: PhysicalAddress(0x9ff0)) }
    #expect(written == 16)
    #expect(source.withUnsafeBytes { memory.write($0, at: PhysicalAddress(0xa000)) } == 0)
    #expect(source.withUnsafeBytes { memory.write($0, at: PhysicalAddress(.max)) } == 0)
    #expect([].withUnsafeBytes { memory.write($0, at: PhysicalAddress(0)) } == 0)
    #expect(
      memory.bytes(at: PhysicalAddress(0x9ff0), count: 16) == [UInt8](repeating: 0xab, count: 16))
    #expect(memory.bytes(at: PhysicalAddress(0x9ff0), count: 17) == nil)
    #expect(memory.bytes(at: PhysicalAddress(0x9fef), count: 2) == [0, 0xab])
    var buffer = [UInt8](repeating: 0, count: 64)
    let read = buffer.withUnsafeMutableBytes { memory.read(at: PhysicalAddress(0x9ff8), into: $0) }
    #expect(read == 8)
    #expect(buffer == [UInt8](repeating: 0xab, count: 8) + [UInt8](repeating: 0, count: 56))
    memory.zero(at: PhysicalAddress(0x9ff0), byteCount: 16)
    #expect(memory.quadword(at: PhysicalAddress(0x9ff8)) == 0)
  }

  @Test func `ranges are sorted and touching ones joined`() throws {
    let memory = try FlatMemory(ram: [
      PhysicalAddress(0x4000)..<PhysicalAddress(0x5000),
      PhysicalAddress(0x1000)..<PhysicalAddress(0x2000),
      PhysicalAddress(0x2000)..<PhysicalAddress(0x3000),
    ])
    #expect(
      memory.backedRanges == [
        PhysicalAddress(0x1000)..<PhysicalAddress(0x3000),
        PhysicalAddress(0x4000)..<PhysicalAddress(0x5000),
      ])
    #expect(memory.backedPageCount == 3)
    #expect(memory.quadword(at: PhysicalAddress(0)) == nil)
    #expect(memory.quadword(at: PhysicalAddress(0x1ffc)) == 0)
  }

  @Test func `memory that cannot be is refused with the reason`() {
    typealias Ranges = [Range<PhysicalAddress>]
    let empty = PhysicalAddress(0x1000)..<PhysicalAddress(0x1000)
    let crooked = PhysicalAddress(0x1000)..<PhysicalAddress(0x1800)
    let low = PhysicalAddress(0)..<PhysicalAddress(0x3000)
    let over = PhysicalAddress(0x2000)..<PhysicalAddress(0x4000)
    #expect(throws: MemoryError.noRAM) { try FlatMemory(ram: Ranges()) }
    #expect(throws: MemoryError.badRange(empty)) { try FlatMemory(ram: [empty]) }
    #expect(throws: MemoryError.badRange(crooked)) { try FlatMemory(ram: [crooked]) }
    #expect(throws: MemoryError.overlap(low, over)) { try FlatMemory(ram: [over, low]) }
    #expect(throws: MemoryError.overlap(low, low)) { try FlatMemory(ram: [low, low]) }
    #expect(throws: MemoryError.badRange(PhysicalAddress(0)..<PhysicalAddress(0))) {
      try FlatMemory(byteCount: 0)
    }
    #expect(throws: MemoryError.notGranted(1 << 60, ENOMEM)) {
      try FlatMemory(byteCount: 1 << 60)
    }
    #expect(
      MemoryError.overlap(low, over).description
        == "RAM ranges 0x0..<0x3000 and 0x2000..<0x4000 overlap")
  }

  /// Where huge pages are handed out unasked, one touch brings in 512 pages.
  static var touchesAreSinglePages: Bool {
    let file = open("/sys/kernel/mm/transparent_hugepage/enabled", O_RDONLY)
    guard file >= 0 else { return true }
    defer { close(file) }
    var text = [UInt8](repeating: 0, count: 64)
    let count = read(file, &text, 64)
    return !String(decoding: text.prefix(max(0, count)), as: UTF8.self).contains("[always]")
  }

  @Test(.enabled(if: touchesAreSinglePages))
  func `touched ranges are the pages stored to`() throws {
    let memory = try Self.holed()
    #expect(memory.touchedRanges() == [])
    memory.store(1 as UInt64, at: PhysicalAddress(0x2ff8))
    memory.store(1 as UInt64, at: PhysicalAddress(0x3000))
    memory.store(1 as UInt64, at: PhysicalAddress(0x9000))
    memory.store(1 as UInt64, at: PhysicalAddress(0x10_1000))
    memory.store(1 as UInt64, at: PhysicalAddress(0x1_000f_f000))
    #expect(
      memory.touchedRanges() == [
        PhysicalAddress(0x2000)..<PhysicalAddress(0x4000),
        PhysicalAddress(0x9000)..<PhysicalAddress(0xa000),
        PhysicalAddress(0x10_1000)..<PhysicalAddress(0x10_2000),
        PhysicalAddress(0x1_000f_f000)..<PhysicalAddress(0x1_0010_0000),
      ])
  }

  @Test func `thousands of touched ranges ascend and do not overlap`() throws {
    // Every third page of 96 MiB, then 8 MiB in one piece, in two ranges that do not meet at a multiple
    // of 2 MiB.
    let memory = try FlatMemory(ram: [
      PhysicalAddress(0x1000)..<PhysicalAddress(0x500_7000),
      PhysicalAddress(0x500_9000)..<PhysicalAddress(0x700_0000),
    ])
    var stored: [UInt64] = []
    for page in stride(from: 0x1000 as UInt64, to: 0x600_0000, by: 0x3000) { stored.append(page) }
    for page in stride(from: 0x600_0000 as UInt64, to: 0x680_0000, by: 0x1000) {
      stored.append(page)
    }
    stored.removeAll { (0x500_7000..<0x500_9000).contains($0) }
    for page in stored { memory.store(1 as UInt64, at: PhysicalAddress(page)) }
    let touched = memory.touchedRanges()
    var last: UInt64 = 0
    for range in touched {
      #expect(range.lowerBound.rawValue >= last && !range.isEmpty)
      last = range.upperBound.rawValue
    }
    var index = 0
    for page in stored {
      while index < touched.count, touched[index].upperBound.rawValue <= page { index += 1 }
      #expect(index < touched.count && touched[index].contains(PhysicalAddress(page)))
      if index >= touched.count { break }
    }
  }

  /// Linux tells runs from version 6.7 on; page by page this takes minutes.
  @Test func `what a machine of 64 TiB has touched is found at once`() throws {
    let memory = try FlatMemory(byteCount: 64 << 40)
    for address in [0x1000, 1 << 40, 64 << 40 - 4096] as [UInt64] {
      memory.store(1 as UInt64, at: PhysicalAddress(address))
    }
    let start = ContinuousClock.now
    let touched = memory.touchedRanges()
    guard ContinuousClock.now - start < .seconds(5) else { return }
    // Pages of 2 MiB are touched whole where the system gives them.
    let place = touched.map { $0.lowerBound.alignedDown(to: 2 << 20).rawValue }
    #expect(place == [0, 1 << 40, 64 << 40 - 2 << 20])
    #expect(touched.allSatisfy { $0.byteCount <= 2 << 20 })
  }

  @Test func `a machine of 64 GiB costs what it uses`() async {
    // In a process of its own, where nothing else grows.
    await #expect(processExitsWith: .success) {
      func residentPages() -> Int {
        let file = open("/proc/self/statm", O_RDONLY)
        defer { close(file) }
        var text = [UInt8](repeating: 0, count: 128)
        let count = read(file, &text, 128)
        let words = String(decoding: text.prefix(count), as: UTF8.self).split(separator: " ")
        return Int(words[1])!
      }
      let before = residentPages()
      let memory = try FlatMemory(byteCount: 64 << 30)
      memory.store(1 as UInt64, at: PhysicalAddress(0))
      memory.store(1 as UInt64, at: PhysicalAddress(64 << 30 - 8))
      precondition(memory.quadword(at: PhysicalAddress(64 << 30 - 8)) == 1)
      precondition(memory.quadword(at: PhysicalAddress(64 << 30)) == nil)
      let growth = residentPages() - before
      precondition(growth < 2048, "grew by \(growth) pages")
    }
  }

  /// Runs each block in a thread of its own and waits for all.
  static func inParallel(_ blocks: [@Sendable () -> Void]) {
    final class Box: Sendable {
      let block: @Sendable () -> Void
      init(_ block: @escaping @Sendable () -> Void) { self.block = block }
    }
    let threads = blocks.map { block in
      var thread = pthread_t()
      let box = Unmanaged.passRetained(Box(block)).toOpaque()
      let code = pthread_create(
        &thread, nil,
        { argument in
          Unmanaged<Box>.fromOpaque(argument!).takeRetainedValue().block()
          return nil
        }, box)
      precondition(code == 0, "no thread to be had")
      return thread
    }
    for thread in threads { pthread_join(thread, nil) }
  }

  @Test func `no reader sees half a store`() throws {
    let memory = try FlatMemory(byteCount: 8192)
    let place = PhysicalAddress(0x1000)
    let patterns: [[UInt64]] = [
      [0x1111_1111_1111_1111, 0x2222_2222_2222_2222],
      [0x4444_4444_4444_4444, 0x8888_8888_8888_8888],
    ]
    let known = Set(patterns.joined()).union([0])
    let tornPlace = PhysicalAddress(0)
    let writers = patterns.map { pair -> @Sendable () -> Void in
      { for _ in 0..<100_000 { for word in pair { memory.store(word, at: place) } } }
    }
    let reader: @Sendable () -> Void = {
      for _ in 0..<200_000 where !known.contains(memory.quadword(at: place)!) {
        memory.store(1 as UInt64, at: tornPlace)
      }
    }
    FlatMemoryTests.inParallel(writers + [reader])
    #expect(memory.quadword(at: tornPlace) == 0)
    #expect(known.contains(memory.quadword(at: place)!))
  }

  @Test func `no exchange is lost between threads`() throws {
    let memory = try FlatMemory(byteCount: 4096)
    let place = PhysicalAddress(8)
    let add: @Sendable () -> Void = {
      for _ in 0..<20_000 {
        var old = memory.quadword(at: place)!
        while let found = memory.compareExchange(at: place, expected: old, desired: old + 1) {
          old = found
        }
      }
    }
    FlatMemoryTests.inParallel([add, add])
    #expect(memory.quadword(at: place) == 40_000)
  }
}
