import IOMMUFormats
import Testing

@testable import IOMMUImages

/// libdeflate and zlib have one format. Each test holds what the libraries that are installed do against
/// each other, and is about one of them where the other is not.
@Suite struct PageCodecTests {
  static let libraries = [LoadedCodec.Library.libdeflate, .zlib].compactMap { LoadedCodec($0) }

  static func unpacked(_ codec: LoadedCodec, _ bytes: [UInt8], _ byteCount: Int = 4096) -> [UInt8]?
  {
    let (page, isWhole) = [UInt8].filled(capacity: byteCount) {
      codec.unpack(bytes.span, byteCount, into: &$0)
    }
    return isWhole ? page : nil
  }

  /// A page between all random and all alike.
  static func page(_ generator: inout SeededGenerator) -> [UInt8] {
    let alphabet = UInt8.random(in: 0 ... .max, using: &generator)
    return (0..<4096).map { _ in UInt8.random(in: 0...alphabet, using: &generator) }
  }

  @Test func `a page of RFC 1950 is unpacked`() {
    for codec in Self.libraries {
      #expect(Self.unpacked(codec, PackedPage.zlib) == PackedPage.plain)
    }
  }

  @Test func `what does not unpack to exactly a page is refused`() {
    for codec in Self.libraries {
      for byteCount in [0, 1, 4095, 4097, 65_536] {
        #expect(Self.unpacked(codec, PackedPage.zlib, byteCount) == nil)
      }
      for count in 0..<PackedPage.zlib.count {
        #expect(Self.unpacked(codec, Array(PackedPage.zlib[..<count])) == nil)
      }
      // What follows the end of the stream is nobody's.
      #expect(Self.unpacked(codec, PackedPage.zlib + [0]) == PackedPage.plain)
    }
  }

  @Test func `what one library packs each of them unpacks`() {
    let seed = UInt64.random(in: 0 ... .max)
    print("pages that are packed: seed \(seed)")
    var generator = SeededGenerator(seed: seed)
    for _ in 0..<100 {
      let page = Self.page(&generator)
      for packer in Self.libraries {
        var packed: [UInt8] = [0xaa]
        packer.pack(page.span, into: &packed)
        #expect(packed.first == 0xaa && packed.count <= page.count)
        guard packed.count > 1 else { continue }
        for unpacker in Self.libraries {
          #expect(Self.unpacked(unpacker, Array(packed.dropFirst())) == page)
        }
      }
    }
  }

  @Test func `bytes that nothing makes smaller stay as they are`() {
    var generator = SeededGenerator(seed: 1)
    let page = (0..<4096).map { _ in UInt8.random(in: 0 ... .max, using: &generator) }
    for packer in Self.libraries {
      var packed: [UInt8] = []
      packer.pack(page.span, into: &packed)
      #expect(packed.isEmpty)
    }
  }

  @Test func `damage is refused by one library as by the other`() throws {
    let seed = UInt64.random(in: 0 ... .max)
    print("pages that are damaged: seed \(seed)")
    var generator = SeededGenerator(seed: seed)
    for _ in 0..<500 {
      let page = Self.page(&generator)
      var bytes: [UInt8] = []
      guard let packer = Self.libraries.randomElement(using: &generator) else { return }
      packer.pack(page.span, into: &bytes)
      guard !bytes.isEmpty else { continue }
      for _ in 0..<Int.random(in: 1...3, using: &generator) {
        let place = Int.random(in: 0..<bytes.count, using: &generator)
        bytes[place] ^= 1 << UInt8.random(in: 0..<8, using: &generator)
      }
      if Bool.random(using: &generator) {
        bytes.removeLast(Int.random(in: 0..<bytes.count, using: &generator))
      }
      let answers = Self.libraries.map { Self.unpacked($0, bytes) }
      #expect(answers.allSatisfy { $0 == answers[0] })
    }
  }
}
