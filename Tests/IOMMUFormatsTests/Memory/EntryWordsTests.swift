import IOMMUFormats
import Testing

@Suite struct EntryWordsTests {
  /// One word after the other.
  static func slowRunLength(_ words: [UInt64], from start: Int, step: UInt64) -> Int {
    var count = 1
    while start + count < words.count, words[start + count] == words[start + count - 1] &+ step {
      count += 1
    }
    return count
  }

  /// Words in runs, some with a bit flipped, looked at from each of them on.
  @Test(arguments: seeds, [0, 0x1000, 0x20_0000, 0x4000_0000] as [UInt64])
  func `a run is as long as word by word`(seed: UInt64, step: UInt64) throws {
    var generator = SeededGenerator(seed: seed)
    let memory = try FlatMemory(byteCount: 4096)
    let bytes = try #require(memory.bytesInPlace(from: PhysicalAddress(0)))
    for _ in 0..<20 {
      var words: [UInt64] = []
      while words.count < 512 {
        // Near where a byte, or all of the word, is full.
        var word = generator.next() >> (generator.next() % 64)
        if generator.next() % 3 == 0 { word = 0 &- step &* (generator.next() % 40) }
        // Some go on as if their bytes lay the other way round, which looks right for a while.
        let goesAstray = generator.next() % 4 == 0
        for _ in 0...generator.next() % 100 where words.count < 512 {
          words.append(generator.next() % 150 == 0 ? word ^ 1 << (generator.next() % 64) : word)
          word =
            goesAstray ? (word.byteSwapped &+ step.byteSwapped).byteSwapped : word &+ step
        }
      }
      for (index, word) in words.enumerated() {
        memory.store(word, at: PhysicalAddress(UInt64(index) * 8))
      }
      for start in 0..<512 {
        let rest = UnsafeRawBufferPointer(rebasing: bytes[(start * 8)...])
        #expect(
          EntryWords(rest, of: VTd.SecondStageEntry.self).runLength(from: words[start], step: step)
            == Self.slowRunLength(words, from: start, step: step), "seed \(seed), from \(start)")
      }
      for (index, word) in words.enumerated() {
        memory.store(bigEndian: word, at: PhysicalAddress(UInt64(index) * 8))
      }
      for start in 0..<512 {
        let rest = UnsafeRawBufferPointer(rebasing: bytes[(start * 8)...])
        #expect(
          EntryWords(rest, of: Calgary.TranslationControlEntry.self)
            .runLength(from: words[start], step: step)
            == Self.slowRunLength(words, from: start, step: step),
          "seed \(seed), big-endian, from \(start)")
      }
    }
  }

  @Test func `words of 32 bits end where they are full`() throws {
    let memory = try FlatMemory(byteCount: 4096)
    for index: UInt64 in 0..<8 {
      memory.store(
        UInt32(truncatingIfNeeded: 0xffff_d003 + index * 4096), at: PhysicalAddress(index * 4))
    }
    let bytes = try #require(memory.bytesInPlace(from: PhysicalAddress(0)))
    let words = EntryWords(
      UnsafeRawBufferPointer(rebasing: bytes[..<32]), of: GART.GATTEntry.self)
    #expect(words.count == 8)
    #expect(words[7] == 0x4003)
    #expect(words.runLength(from: words[0], step: 4096) == 3)
  }

  @Test func `entries at no multiple of their size stop the program`() async {
    await #expect(processExitsWith: .failure) {
      let memory = try FlatMemory(byteCount: 4096)
      _ = EntryWords(
        memory.bytesInPlace(from: PhysicalAddress(4))!, of: VTd.SecondStageEntry.self)
    }
  }

  @Test func `a word past the last stops the program`() async {
    await #expect(processExitsWith: .failure) {
      let memory = try FlatMemory(byteCount: 4096)
      _ = EntryWords(memory.bytesInPlace(from: PhysicalAddress(0xff8))!, of: GART.GATTEntry.self)[2]
    }
  }
}
