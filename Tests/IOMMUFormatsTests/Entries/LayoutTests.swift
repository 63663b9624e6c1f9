import IOMMUFormats
import Testing

/// What holds of every entry the library knows; a new one joins by joining the catalog.
@Suite struct LayoutTests {
  static let entries = EntryCatalog.types

  @Test(arguments: entries)
  func `fields tile the entry exactly`(entry: any TableEntry.Type) {
    func check<Entry: TableEntry>(_: Entry.Type) {
      #expect([32, 64, 128, 256, 512].contains(Entry.bitCount))
      #expect(Entry.byteCount * 8 == Entry.bitCount)
      #expect(!Entry.exampleVariants.isEmpty)
      for variant in Entry.exampleVariants {
        var next = 0
        for field in Entry.fields(variant) {
          #expect(field.bits.lowerBound == next, "\(Entry.name), \(variant): \(field.name)")
          #expect(field.bits.lowerBound / 64 == field.bits.upperBound / 64, "in one quadword")
          #expect(!field.name.description.isEmpty)
          next = field.bits.upperBound + 1
        }
        #expect(next == Entry.bitCount, "\(Entry.name), \(variant)")
      }
    }
    check(entry)
  }

  @Test(arguments: entries)
  func `an entry says its name and where it is specified`(entry: any TableEntry.Type) {
    #expect(!entry.name.description.isEmpty)
    #expect(!entry.specification.description.isEmpty)
  }

  @Test func `no two entries have one name`() {
    #expect(Set(Self.entries.map { $0.name.description }).count == Self.entries.count)
  }

  @Test(arguments: entries, seeds)
  func `setting one field touches no other`(entry: any TableEntry.Type, seed: UInt64) {
    func check<Entry: TableEntry>(_: Entry.Type) {
      var generator = SeededGenerator(seed: seed)
      for variant in Entry.exampleVariants {
        let fields = Entry.fields(variant)
        for changed in fields {
          let before = Self.random(Entry.self, using: &generator)
          var after = before
          let value = generator.next() & changed.valueMask
          after[changed] = value
          #expect(after[changed] == value)
          for field in fields where field.bits != changed.bits {
            #expect(after[field] == before[field], "\(changed.name) changes \(field.name)")
          }
        }
      }
    }
    check(entry)
  }

  @Test(arguments: entries, seeds)
  func `a field is its bits, counted from the bottom`(entry: any TableEntry.Type, seed: UInt64) {
    func check<Entry: TableEntry>(_: Entry.Type) {
      var generator = SeededGenerator(seed: seed)
      let value = Self.random(Entry.self, using: &generator)
      for variant in Entry.exampleVariants {
        for field in Entry.fields(variant) {
          var expected: UInt64 = 0
          for bit in field.bits.reversed() {
            expected = expected << 1 | value[quadword: bit / 64] >> UInt64(bit % 64) & 1
          }
          #expect(value[field] == expected, "\(field.name)")
        }
      }
    }
    check(entry)
  }

  @Test(arguments: entries)
  func `reserved masks are the reserved fields together`(entry: any TableEntry.Type) {
    func check<Entry: TableEntry>(_: Entry.Type) {
      for variant in Entry.exampleVariants {
        let masks = Entry.reservedMasks(variant)
        for field in Entry.fields(variant) {
          for bit in field.bits {
            let word = masks[quadword: bit / 64]
            #expect(word >> UInt64(bit % 64) & 1 == (field.use == .reserved ? 1 : 0), "bit \(bit)")
          }
        }
        if Entry.bitCount <= 64 { #expect(masks.high == 0) }
        var all = Entry(low: 0, high: 0)
        for index in 0..<Entry.quadwordCount { all[quadword: index] = ~0 }
        #expect(
          all.reservedViolations(variant).map(\.bits)
            == Entry.fields(variant).filter { $0.use == .reserved }.map(\.bits))
        #expect(Entry(low: 0, high: 0).reservedViolations(variant).isEmpty)
      }
    }
    check(entry)
  }

  @Test(arguments: entries, seeds)
  func `an entry is read from memory as it was stored`(entry: any TableEntry.Type, seed: UInt64)
    throws
  {
    func check<Entry: TableEntry>(_: Entry.Type) throws {
      let memory = try FlatMemory(byteCount: 4096)
      var generator = SeededGenerator(seed: seed)
      for index in 0..<(4096 / Entry.byteCount) {
        let place = PhysicalAddress(UInt64(index * Entry.byteCount))
        let value = Self.random(Entry.self, using: &generator)
        value.store(to: memory, at: place)
        #expect(Entry(from: memory, at: place) == value)
        #expect(memory.bytes(at: place, count: Entry.byteCount) == value.bytes)
      }
    }
    try check(entry)
  }

  @Test(arguments: entries)
  func `bytes go up from the least significant, or down when big-endian`(
    entry: any TableEntry.Type
  ) {
    func check<Entry: TableEntry>(_: Entry.Type) {
      var value = Entry(low: 0, high: 0)
      for index in 0..<Entry.quadwordCount {
        value[quadword: index] = 0x0706_0504_0302_0100 + 0x0808_0808_0808_0808 * UInt64(index)
      }
      let ascending = (0..<UInt8(Entry.byteCount)).map { $0 }
      #expect(value.bytes == (Entry.isBigEndian ? ascending.reversed() : ascending))
    }
    check(entry)
  }

  @Test func `Calgary's entries are big-endian and no others`() {
    let bigEndian = Self.entries.filter { $0.isBigEndian }.map { $0.name.description }
    #expect(
      bigEndian == [
        "TCE", "TAR", "CONFIG_RW", "STUFF", "CSR", "CCR", "SPLIT_QUEUE", "PAGE_MIG", "SAVIOR_L2",
      ])
  }

  @Test(arguments: entries)
  func `an entry of which a byte is missing is not read`(entry: any TableEntry.Type) throws {
    func check<Entry: TableEntry>(_: Entry.Type) throws {
      let memory = try FlatMemory(byteCount: 4096)
      let count = UInt64(Entry.byteCount)
      #expect(Entry(from: memory, at: PhysicalAddress(4096 - count)) != nil)
      for missing in 1...count {
        #expect(Entry(from: memory, at: PhysicalAddress(4096 - count + missing)) == nil)
      }
      for wild: UInt64 in [.max, .max - 7, .max - 15, 1 << 47, 1 << 63] {
        #expect(Entry(from: memory, at: PhysicalAddress(wild)) == nil)
      }
    }
    try check(entry)
  }

  @Test func `a value wider than its field stops the program`() async {
    await #expect(processExitsWith: .failure) {
      var entry = VTd.ContextEntry()
      entry[BitField(64...66, "AW")] = 8
    }
  }

  static func random<Entry: TableEntry>(
    _: Entry.Type, using generator: inout SeededGenerator
  ) -> Entry {
    var entry = Entry(low: 0, high: 0)
    for index in 0..<Entry.quadwordCount { entry[quadword: index] = generator.next() }
    return entry
  }
}
