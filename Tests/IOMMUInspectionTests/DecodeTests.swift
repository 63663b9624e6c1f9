import FoundationEssentials
import IOMMUFormats
import IOMMUInspection
import Testing

@Suite struct DecodeTests {
  @Test(arguments: DecodeGoldens.all.indices)
  func `an entry taken apart is this screen`(index: Int) throws {
    let golden = DecodeGoldens.all[index]
    var screen = ""
    try EntryCatalog.Kind(named: golden.name).describe(golden.words).write(to: &screen)
    #expect(screen == golden.text)
  }

  /// A kind of that name.
  static func kind(_ name: String) throws -> EntryCatalog.Kind {
    try EntryCatalog.Kind(named: name)
  }

  @Test func `a value of the wrong size is refused with the way out`() throws {
    let gatt = try Self.kind("gatt")
    let tooWide = DecodeError.tooWide(kind: "gatt", bitCount: 32, 0x1_0000_0000)
    #expect(throws: tooWide) { try gatt.describe([0x1_0000_0000]) }
    #expect(
      "\(tooWide)" == "0x100000000 does not fit: 'gatt' has 32 bits; give one entry at a time")
    let tooFew = DecodeError.wordCount(kind: "root", wanted: 2, given: 1)
    #expect(throws: tooFew) { try Self.kind("root").describe([1]) }
    #expect("\(tooFew)" == "'root' takes two quadwords, the low one first, and 1 were given")
    for words: [UInt64] in [[], [1, 2]] {
      #expect(throws: DecodeError.wordCount(kind: "tce", wanted: 1, given: words.count)) {
        try Self.kind("tce").describe(words)
      }
    }
  }

  @Test(
    arguments: [
      ("tcf", "tce, tar and ccr"), ("iret", "irte, root and ioapic-rte"),
      ("ss_pte", "ss-pte, ss-pde and fs-pte"),
      ("fault-rekord", "frcd, fsts and gatt"),
    ])
  func `a name that nobody knows is answered with the nearest`(name: String, nearest: String) {
    let error = #expect(throws: DecodeError.self) { try Self.kind(name) }
    #expect(error.map { "\($0)" } == "there is no entry called '\(name)'; nearest are \(nearest)")
  }

  @Test func `a narrow host makes high address bits reserved`() throws {
    var narrow = EntryCatalog.Circumstances()
    narrow.vtd.limits.hostAddressWidth = 39
    let entry = try Self.kind("ss-pte").describe([0x80_0000_5003], under: narrow)
    #expect(entry.violations == ["reserved bits 51:39 are set: 0x1"])
    #expect(try Self.kind("ss-pte").describe([0x80_0000_5003]).isWellFormed)
  }

  @Test(
    arguments: [
      ("tce", [0], "free"),
      ("tce", [0x5000], "free, but names page 0x5000"),
      ("tce", [0x5001], "page 0x5000, read only"),
      ("tce", [0x5002], "page 0x5000, write only"),
      ("gatt", [0], "free"),
      ("gatt", [0x5002], "not valid, but names page 0x5000"),
      ("root", [0, 0], "not present"),
      ("context", [2, 0], "not present, faults not recorded"),
      ("context", [9, 0x501], "pass-through, domain 5"),
      ("context", [0xd, 0x501], "reserved translation type, domain 5"),
      (
        "context", [0x5001, 0x507],
        "second-stage table 0x5000, 9 levels, a width that the unit does not support, domain 5"
      ),
      ("ss-pte", [0xff80], "not present"),
      ("ss-pdpe", [0x5001], "table 0x5000, read only"),
      ("stuff", [0x0005_0000], "bus 05"),
      ("stuff", [0x0005_0300], "no bus: the last one lies before the first"),
      ("gart-control", [0xf], "undefined aperture, translates nothing"),
      ("gart-cache", [0], "nothing pending"),
      ("cap", [0], "IOVAs of 1 bits, no second-stage tables, pages of 4 KiB, domain-ids of 4 bits"),
      ("ecap", [0], "context and second-stage entries without options"),
      ("rtaddr", [0x5c00], "all DMA is aborted"),
    ] as [(String, [UInt64], String)])
  func `the meaning is one line`(name: String, words: [UInt64], meaning: String) throws {
    #expect(try Self.kind(name).describe(words).meaning == meaning)
  }

  /// What hardware does not look at is no fault.
  @Test func `bits that hardware skips are no violation`() throws {
    #expect(try Self.kind("root").describe([0xffe, ~0]).isWellFormed)
    #expect(try Self.kind("context").describe([~1, ~0]).isWellFormed)
    #expect(try Self.kind("ss-pde").describe([~3]).isWellFormed)
    // Pass-through: the pointer's bits above the host width are not looked at, bit 4 is.
    let context = try Self.kind("context").describe([1 << 63 | 0x19, 1])
    #expect(context.violations == ["reserved bits 11:4 are set: 0x1"])
  }

  @Test(arguments: EntryCatalog.all.map(\.name))
  func `any bits at all can be taken apart`(name: String) throws {
    let kind = try Self.kind(name)
    var generator = SeededGenerator(seed: 7)
    let mask = kind.bitCount == 32 ? UInt64(UInt32.max) : .max
    for _ in 0..<50 {
      let words = (0..<kind.wordCount).map { _ in generator.next() & mask }
      let entry = try kind.describe(words)
      var screen = ""
      entry.write(to: &screen)
      #expect(entry.words == words)
      var drawing = ""
      entry.writeDrawing(to: &drawing)
      for line in drawing.split(separator: "\n") { #expect(line.count <= 80, "\(line)") }
      // The drawn digits, read back, are the words.
      let digits = entry.fields.map {
        let text = String($0.value, radix: 2)
        return String(repeating: "0", count: $0.field.bits.count - text.count) + text
      }.joined()
      #expect(digits.count == kind.bitCount)
      let low = UInt64(digits.suffix(64), radix: 2)
      #expect(low == words[0])
    }
  }

  @Test func `JSON names each field with its bits and its use`() throws {
    let encoder = JSONEncoder()
    encoder.outputFormatting = [.sortedKeys]
    let json = try encoder.encode(Self.kind("rtaddr").describe([0x5001]))
    #expect(
      String(decoding: json, as: UTF8.self) == """
        {"bytes":"01 50 00 00 00 00 00 00","fields":[\
        {"address":"0x5000","bits":"63:12","name":"RTA","use":"address","value":"0x5"},\
        {"bits":"11:10","name":"TTM","use":"value","value":"0x0"},\
        {"bits":"9:8","name":"reserved","use":"reserved","value":"0x0"},\
        {"bits":"7","name":"SSIRWE","use":"value","value":"0x0"},\
        {"bits":"6:0","name":"reserved","use":"reserved","value":"0x1"}],\
        "meaning":"root table 0x5000, legacy mode","name":"RTADDR_REG",\
        "specification":"Intel VT-d 11.4.5","violations":["reserved bits 6:0 are set: 0x1"],\
        "words":["0x0000000000005001"]}
        """)
  }
}
