import Glibc
import IOMMUFormats
import IOMMUTestSupport
import Testing

/// Memory of somebody else's, as a machine monitor has its guest's RAM.
private final class Pieces {
  private(set) var pieces: [(address: PhysicalAddress, bytes: UnsafeMutableRawBufferPointer)] = []
  private let onEnd: () -> Void

  init(_ ranges: [(address: UInt64, pages: Int)], onEnd: @escaping () -> Void = {}) {
    self.onEnd = onEnd
    for range in ranges {
      let bytes = UnsafeMutableRawBufferPointer.allocate(
        byteCount: range.pages * 4096, alignment: 4096)
      bytes.initializeMemory(as: UInt8.self, repeating: 0)
      pieces.append((PhysicalAddress(range.address), bytes))
    }
  }

  deinit {
    for piece in pieces { piece.bytes.deallocate() }
    onEnd()
  }

  func memory() throws -> FlatMemory { try FlatMemory(adopting: pieces, owner: self) }

  subscript(piece: Int, offset: Int) -> UInt8 {
    get { pieces[piece].bytes[offset] }
    set { pieces[piece].bytes[offset] = newValue }
  }
}

@Suite struct AdoptedMemoryTests {
  @Test func `loads and stores go to the pieces themselves, and holes do not answer`() throws {
    // The large piece is the one that is looked at first; the others lie below and above it.
    let pieces = Pieces([
      (0x1_0000_0000, pages: 4), (0, pages: 1), (0x10_0000, pages: 16), (0x2000, pages: 1),
    ])
    let memory = try pieces.memory()
    #expect(
      memory.ram.map(\.lowerBound.rawValue) == [0, 0x2000, 0x10_0000, 0x1_0000_0000])
    let places: [(address: UInt64, piece: Int)] = [
      (0x1_0000_3ff8, 0), (0xff8, 1), (0x10_fff8, 2), (0x2000, 3),
    ]
    for (index, place) in places.enumerated() {
      let address = PhysicalAddress(place.address)
      memory.store(0x1122_3344_5566_7700 + UInt64(index), at: address)
      let offset = Int(
        place.address - memory.ram.first { $0.contains(address) }!.lowerBound.rawValue)
      #expect(pieces[place.piece, offset] == UInt8(index))
      #expect(pieces[place.piece, offset + 7] == 0x11)
      #expect(memory.quadword(at: address) == 0x1122_3344_5566_7700 + UInt64(index))
      memory.store(0xaabb_ccdd as UInt32, at: PhysicalAddress(place.address + 4))
      #expect(memory.doubleword(at: PhysicalAddress(place.address + 4)) == 0xaabb_ccdd)
      #expect(pieces[place.piece, offset + 4] == 0xdd)
      let found = memory.compareExchange(
        at: address, expected: 0xaabb_ccdd_5566_7700 + UInt64(index), desired: 5)
      #expect(found == nil)
      #expect(pieces[place.piece, offset] == 5)
      pieces[place.piece, offset + 1] = 7
      #expect(memory.bytes(at: address, count: 8) == [5, 7, 0, 0, 0, 0, 0, 0])
      #expect(memory.holds([5, 7], at: address))
    }
    for hole: UInt64 in [0x1000, 0x1ff8, 0x3000, 0xf_fff8, 0x11_0000, 0x1_0000_4000, .max - 7] {
      #expect(memory.quadword(at: PhysicalAddress(hole)) == nil)
      #expect(memory.doubleword(at: PhysicalAddress(hole)) == nil)
      #expect(!memory.isWritable(at: PhysicalAddress(hole)))
      #expect(memory.write([1], at: PhysicalAddress(hole)) == 0)
    }
    #expect(memory.quadword(at: PhysicalAddress(0xffc)) == nil, "half of it is in a hole")
  }

  @Test func `series, copies and zeros stay in their piece`() throws {
    let pieces = Pieces([(0x1000, pages: 256), (0x20_0000, pages: 2)])
    let memory = try pieces.memory()
    memory.storeSeries(
      from: 0x8003, step: 0x1000, count: 512, isBigEndian: false, at: PhysicalAddress(0x20_1000))
    #expect(memory.quadword(at: PhysicalAddress(0x20_1ff8)) == 0x20_7003)
    #expect(pieces[1, 4096 + 1] == 0x80)
    // A run that FlatMemory gives back to the system where the pages are its own.
    memory.storeSeries(
      from: ~0, step: 0, count: 512 * 256, isBigEndian: false, at: PhysicalAddress(0x1000))
    memory.zero(at: PhysicalAddress(0x2000), byteCount: 254 * 4096)
    #expect(pieces[0, 4095] == 0xff)
    #expect(pieces[0, 4096] == 0)
    #expect(pieces[0, 255 * 4096 - 1] == 0)
    #expect(pieces[0, 255 * 4096] == 0xff)
    #expect(memory.touchedRanges() == memory.ram, "nobody knows what was there before")
  }

  @Test func `what is read in place is the first range, where that begins at 0`() throws {
    let low = try Pieces([(0, pages: 3), (0x10_0000, pages: 16)]).memory()
    #expect(low.window.byteCount == 3 * 4096)
    low.store(0x1234 as UInt64, at: PhysicalAddress(0x2ff8))
    #expect(low.bytesInPlace(from: PhysicalAddress(0x2ff8))?.first == 0x34)
    let high = try Pieces([(0x1000, pages: 3)]).memory()
    #expect(high.window.byteCount == 0)
  }

  @Test func `pieces that touch in both places are one range`() throws {
    let pieces = Pieces([(0x1000, pages: 4)])
    let bytes = pieces.pieces[0].bytes
    let memory = try FlatMemory(
      adopting: [
        (PhysicalAddress(0x3000), UnsafeMutableRawBufferPointer(rebasing: bytes[8192...])),
        (PhysicalAddress(0x1000), UnsafeMutableRawBufferPointer(rebasing: bytes[..<8192])),
      ], owner: pieces)
    #expect(memory.ram == [PhysicalAddress(0x1000)..<PhysicalAddress(0x5000)])
    #expect(memory.isBacked(PhysicalAddress(0x2000), byteCount: 0x2000))
  }

  @Test func `the owner lives as long as the memory`() throws {
    var hasEnded = false
    var memory: FlatMemory? = try Pieces([(0, pages: 1)], onEnd: { hasEnded = true }).memory()
    #expect(!hasEnded)
    #expect(memory?.quadword(at: PhysicalAddress(0)) == 0)
    memory = nil
    #expect(hasEnded)
  }

  @Test func `pieces that make no memory are refused, and the error says which`() throws {
    let pieces = Pieces([(0, pages: 4)])
    let bytes = pieces.pieces[0].bytes
    func refusal(
      _ pieces: [(address: PhysicalAddress, bytes: UnsafeMutableRawBufferPointer)]
    ) -> MemoryError? {
      do throws(MemoryError) {
        _ = try FlatMemory(adopting: pieces)
        return nil
      } catch { return error }
    }
    func part(_ range: Range<Int>) -> UnsafeMutableRawBufferPointer {
      UnsafeMutableRawBufferPointer(rebasing: bytes[range])
    }
    let page = PhysicalAddress(0x1000)
    let next = PhysicalAddress(0x2000)
    #expect(refusal([]) == .noRAM)
    #expect(refusal([(page, part(0..<0))]) == .badRange(page..<page))
    #expect(
      refusal([(page, part(0..<100))]) == .badRange(page..<PhysicalAddress(0x1064)))
    #expect(
      refusal([(PhysicalAddress(0x1008), part(0..<4096))])
        == .badRange(PhysicalAddress(0x1008)..<PhysicalAddress(0x2008)))
    #expect(refusal([(page, part(8..<4104))]) == .unalignedPiece(page..<next))
    #expect(
      refusal([(page, part(0..<8192)), (next, part(8192..<12_288))])
        == .overlap(page..<PhysicalAddress(0x3000), next..<PhysicalAddress(0x3000)))
    #expect(
      refusal([(PhysicalAddress(.max - 4095), part(0..<8192))])
        == .badRange(PhysicalAddress(.max - 4095)..<PhysicalAddress(.max)))
    #expect(
      "\(MemoryError.unalignedPiece(page..<next))"
        == "the bytes to adopt as RAM 0x1000..<0x2000 do not begin at a multiple of 4 KiB in this process"
    )
  }

  @Test func `bytes become memory, and a range of it becomes bytes`() throws {
    let bytes = (0..<5000).map { UInt8(truncatingIfNeeded: $0) }
    let memory = try FlatMemory(bytes, at: PhysicalAddress(0x3000))
    #expect(memory.ram == [PhysicalAddress(0x3000)..<PhysicalAddress(0x5000)])
    #expect(memory.bytes(at: PhysicalAddress(0x3000), count: 5000) == bytes)
    #expect(memory.quadword(at: PhysicalAddress(0x4ff8)) == 0)
    #expect(throws: MemoryError.self) { try FlatMemory([]) }
    #expect(throws: MemoryError.self) { try FlatMemory([1], at: PhysicalAddress(1)) }
    #expect(throws: MemoryError.self) { try FlatMemory([1], at: PhysicalAddress(.max - 4095)) }
  }
}

/// As little as a memory of one's own has to say.
private final class Least: WritableMemory {
  var words: [UInt64]
  init(words: Int) { self.words = Array(repeating: 0, count: words) }

  func quadword(at address: PhysicalAddress) -> UInt64? {
    let index = Int(clamping: address.rawValue / 8)
    return address.rawValue % 8 == 0 && index < words.count ? words[index] : nil
  }
  func doubleword(at address: PhysicalAddress) -> UInt32? {
    quadword(at: address.alignedDown(to: 8)).map {
      UInt32(truncatingIfNeeded: $0 >> ((address.rawValue & 4) * 8))
    }
  }
  func read(at address: PhysicalAddress, into buffer: UnsafeMutableRawBufferPointer) -> Int { 0 }
  var backedRanges: [Range<PhysicalAddress>] {
    [PhysicalAddress(0)..<PhysicalAddress(UInt64(words.count) * 8)]
  }
  func isWritable(at address: PhysicalAddress) -> Bool { quadword(at: address) != nil }
  func compareExchange(
    at address: PhysicalAddress, expected: UInt64, desired: UInt64
  ) -> UInt64? {
    let index = Int(address.rawValue / 8)
    guard words[index] == expected else { return words[index] }
    words[index] = desired
    return nil
  }
}

@Suite struct WritableMemoryTests {
  @Test func `what a memory does not say itself follows from an exchange of quadwords`() throws {
    let memory = Least(words: 1024)
    let expected = try FlatMemory(byteCount: 8192)
    func both(_ change: (any WritableMemory) -> Void) {
      change(memory)
      change(expected)
    }
    both { $0.store(0x1122_3344_5566_7788 as UInt64, at: PhysicalAddress(0x10)) }
    both { $0.store(bigEndian: 0x1122_3344_5566_7788 as UInt64, at: PhysicalAddress(0x18)) }
    both { $0.store(0xaabb_ccdd as UInt32, at: PhysicalAddress(0x14)) }
    both { $0.store(bigEndian: 0xaabb_ccdd as UInt32, at: PhysicalAddress(0x18)) }
    both {
      $0.storeSeries(
        from: 0xfff3, step: 0x1000, count: 512, isBigEndian: true, at: PhysicalAddress(0x1000))
    }
    both {
      $0.storeSeries(
        from: 3, step: .max, count: 5, isBigEndian: false, at: PhysicalAddress(0x100))
    }
    both { $0.zero(at: PhysicalAddress(0x1800), byteCount: 0x100) }
    for index in 0..<UInt64(1024) {
      #expect(
        memory.quadword(at: PhysicalAddress(index * 8))
          == expected.quadword(at: PhysicalAddress(index * 8)), "quadword \(index)")
    }
    #expect(memory.words[2] == 0xaabb_ccdd_5566_7788)
    #expect(memory.words[3] == 0x8877_6655_ddcc_bbaa)
  }

  @Test func `a run is writable where every page of it is`() throws {
    let memory = try FlatMemory(ram: [
      PhysicalAddress(0x1000)..<PhysicalAddress(0x3000),
      PhysicalAddress(0x4000)..<PhysicalAddress(0x6000),
    ])
    #expect(memory.isWritable(PhysicalAddress(0x1000), byteCount: 0x2000))
    #expect(memory.isWritable(PhysicalAddress(0x5ff8), byteCount: 8))
    #expect(memory.isWritable(PhysicalAddress(0x9000), byteCount: 0))
    #expect(!memory.isWritable(PhysicalAddress(0x1000), byteCount: 0x4000), "a hole inside")
    #expect(!memory.isWritable(PhysicalAddress(0x5ff8), byteCount: 16))
    #expect(!memory.isWritable(PhysicalAddress(0xff8), byteCount: 16))
    #expect(!memory.isWritable(PhysicalAddress(.max - 7), byteCount: 16))
  }
}
