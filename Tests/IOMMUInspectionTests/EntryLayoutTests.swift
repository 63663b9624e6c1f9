import IOMMUFormats
import Testing

@testable import IOMMUInspection

@Suite struct EntryLayoutTests {
  static let names = EntryCatalog.all.map(\.name)

  static func screen(_ name: String) throws -> String {
    var screen = ""
    EntryLayout(try EntryCatalog.Kind(named: name)).write(to: &screen)
    return screen
  }

  @Test func `a layout is this screen`() throws {
    #expect(
      try Self.screen("pasid-dir") == """
        pasid-dir: VT-d PASID directory entry, 64 PASIDs
        Intel VT-d 9.5; 64 bits

          63        52   51                               12   11       2    1     0
        +--------------+-------------------------------------+------------+------+----+
        |      0       |              SMPTBLPTR              |     0      | FPD  | P  |
        +--------------+-------------------------------------+------------+------+----+
        0 reserved, must be zero
        bits 51:12  SMPTBLPTR  the PASID table of these 64 PASIDs, 4 KiB aligned
        bit 1       FPD        faults are not recorded; counts also while P is 0
        bit 0       P          present: hardware looks at the rest of the entry

        """)
  }

  /// Read back from the drawing alone: the numbers above the boxes go down without a gap.
  @Test(arguments: names)
  func `every bit is drawn once, within 80 columns`(name: String) throws {
    let kind = try EntryCatalog.Kind(named: name)
    let layout = EntryLayout(kind)
    let lines = try Self.screen(name).split(separator: "\n", omittingEmptySubsequences: false)
    for line in lines { #expect(line.count <= 80, "\(line)") }
    for line in lines where line.hasPrefix("+") || line.hasPrefix("|") {
      #expect(line.count == 79, "\(line)")
    }
    var boxes = 0
    var bits: [Int] = []
    for (index, line) in lines.enumerated().dropLast() where line.hasPrefix("  ") {
      guard lines[index + 1].hasPrefix("+") else { continue }
      // The row of names below has as many boxes as there are runs in the row of numbers.
      let sides = lines[index + 2].enumerated().filter { $0.element == "|" }.map(\.offset)
      for (left, right) in zip(sides, sides.dropFirst()) {
        let place = String(line).padded(to: right).dropFirst(left).prefix(right - left)
        let numbers = place.split(separator: " ").compactMap { decimal($0) }
        let high = try #require(numbers.first)
        bits += (numbers.last!...high).reversed()
        boxes += 1
      }
    }
    let all = layout.variants.flatMap { _ in (0..<kind.bitCount).reversed() }
    #expect(bits == all)
    #expect(boxes == layout.variants.reduce(0) { $0 + $1.fields.count })
  }

  private func decimal(_ text: Substring) -> Int? {
    text.utf8.reduce(0) { number, digit in
      number.flatMap { 48...57 ~= digit ? $0 * 10 + Int(digit - 48) : nil }
    }
  }

  /// Those of which nothing more than the name is known here, or nothing more is to be said.
  static let wordless: Set = [
    "syndrome, link and CPU", "other reports", "NEPG",
  ]

  @Test func `every field of tables, descriptors, logs and AMD-Vi's registers has words`() throws {
    for kind in EntryCatalog.all {
      let layout = EntryLayout(kind)
      // Of Intel's registers and PCI's the manuals' names say what there is to say.
      guard layout.resetValue == nil || kind.name.hasPrefix("amdvi-"),
        !kind.name.hasPrefix("pci-")
      else { continue }
      for field in layout.variants.flatMap(\.fields) where field.field.use != .reserved {
        let name = "\(field.field.name)"
        if name == "ignored" || Self.wordless.contains(name) { continue }
        #expect(field.meaning != nil, "\(kind.name): \(name)")
      }
    }
  }

  @Test func `words of a field are those of its variant`() throws {
    func words(_ name: String, _ condition: String, _ field: String) throws -> String? {
      let layout = EntryLayout(try EntryCatalog.Kind(named: name))
      let variant = try #require(layout.variants.first { $0.condition == condition })
      return variant.fields.first { "\($0.field.name)" == field }?.meaning
    }
    #expect(
      try words("amdvi-pte2", "NextLevel = 1, leads to a table", "NextLevel")
        == "level of the table that ADDR leads to, lower than the entry's own")
    for level in [1, 2] {
      #expect(
        try words("amdvi-pte\(level)", "NextLevel = 0 or 7, maps a page", "NextLevel")
          == "0 a page of this level's size, 7 one whose size ADDR codes")
    }
  }

  /// Descriptors and commands share words, so that a name has to be that of some entry.
  @Test func `no words are for a field that does not exist`() {
    func names<Entry: TableEntry>(_: Entry.Type) -> [String] {
      Entry.exampleVariants.flatMap { Entry.fields($0).map { "\($0.name)" } }
    }
    let all = Set(EntryCatalog.types.flatMap { names($0) })
    func check<Entry: TableEntry>(_: Entry.Type) {
      guard let format = Entry.self as? any FieldsInWords.Type else { return }
      let own = Set(names(Entry.self))
      #expect(own.contains { format.fieldWords[$0] != nil }, "\(Entry.self)")
      for (name, words) in format.fieldWords {
        #expect(all.contains(name), "\(Entry.self): \(name)")
        #expect(!words.isEmpty && !words.hasSuffix("."), "\(Entry.self): \(name)")
      }
    }
    for type in EntryCatalog.types { check(type) }
  }

  @Test func `registers say where they lie, what may be done and what a reset leaves`() throws {
    let control = EntryLayout(try EntryCatalog.Kind(named: "event-control"))
    #expect(control.registers.first?.name == "FECTL_REG")
    #expect(control.registers.first?.offset == "0x038")
    #expect(control.resetValue == 0x8000_0000)
    #expect(control.variants[0].fields.compactMap(\.access) == ["RW", "RO", "RsvdZ"])
    let record = EntryLayout(try EntryCatalog.Kind(named: "frcd"))
    #expect(record.registers.map(\.offset) == ["16 * CAP.FRO"])
    #expect(record.variants[0].fields[0].access == "RW1CS")
    #expect(EntryLayout(try EntryCatalog.Kind(named: "tce")).resetValue == nil)
  }
}
