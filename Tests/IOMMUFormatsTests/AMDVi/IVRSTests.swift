import IOMMUFormats
import Testing

@Suite struct IVRSTests {
  /// A whole table: a unit with a range and an I/O APIC, and memory of a range of devices.
  static let small = hexadecimalBytes(
    """
    495652537800000002ca414d44202020416d645461626c6501000000414d44200100000041302000
    000000000000000010b0280002004000000030fd00000000000000006f8f04800303000004ffff00
    4800000021a00001220720000003ff0300000000000000000000007e000000000000100000000000
    """)

  /// The table of a ThinkPad T14s Gen 3, from linuxhw/ACPI: one unit as 10h, 11h and 40h, with aliases, a
  /// timer, I/O APICs, ACPI devices, excluded memory, and a block of a type that nobody has written down.
  static let real = hexadecimalBytes(
    """
    49565253e4010000027e4c454e4f564f54502d523232202090120000505445430200000043302000
    000000000000000010b0480002004000000000fe00000000000000006e8f04800308000004feff00
    4300ff0000a5000004ffff00000000004800000000a00002480000d720a000014800000021010001
    11b0580002004000000000fe000000000000000000020400fa4a25a2ef7765240000000000000000
    0308000004feff004300ff0000a5000004ffff00000000004800000000a00002480000d720a00001
    48000000210100012108200000020000000000000000000000c03271000000000060020000000000
    40b0d40002004000000000fe000000000000000000020400fa4a25a2ef7765240000000000000000
    0308000004feff004300ff0000a5000004ffff00000000004800000000a00002480000d720a00001
    4800000021010001f0a50040414d444930303230000000000000000002095c5f53422e46555230f0
    a50040414d444930303230000000000000000002095c5f53422e46555231f0a50040414d44493030
    3230000000000000000002095c5f53422e46555232f0a50040414d44493030323000000000000000
    0002095c5f53422e465552335108200000020000000000000000000000c032710000000000600200
    00000000
    """)

  static func hexadecimalBytes(_ text: String) -> [UInt8] {
    let digits = text.filter { !$0.isWhitespace }.map { UInt8($0.hexDigitValue!) }
    return stride(from: 0, to: digits.count, by: 2).map { digits[$0] << 4 | digits[$0 + 1] }
  }

  @Test func `a small table has a unit, its devices and their memory`() throws {
    let table = try AMDVi.IVRS(parsing: Self.small)
    #expect(table.damage == [])
    #expect(table.findings == [])
    #expect(table.notes == [])
    #expect(table.info.physicalAddressWidth == 48)
    #expect(table.info.virtualAddressWidth == 64)
    #expect(table.blocks.map(\.type) == [.unit, .memoryOfRange])
    let unit = table.blocks[0]
    #expect(unit.deviceID == Requester("00:00.2"))
    #expect(unit.base == PhysicalAddress(0xfd30_0000))
    #expect(unit.capabilityOffset == 0x40)
    #expect(unit.entries.map(\.type) == [.rangeStart, .rangeEnd, .special])
    #expect(unit.entries.map(\.offset) == [72, 76, 80])
    #expect(unit.entries[0].deviceID == Requester("00:00.3"))
    #expect(unit.entries[1].deviceID == Requester("ff:1f.7"))
    #expect(unit.entries[2].handle == 0x21)
    #expect(unit.entries[2].variety == 1)
    #expect(unit.entries[2].deviceID == Requester("00:14.0"))
    let memory = table.blocks[1]
    #expect(memory.flagNames == ["Unity", "IR", "IW"])
    #expect(memory.deviceID == Requester("03:00.0"))
    #expect(memory.lastDeviceID == Requester("03:1f.7"))
    #expect(memory.memory == PhysicalAddress(0x7e00_0000)..<PhysicalAddress(0x7e10_0000))
  }

  @Test func `a real table is read to its last block`() throws {
    let table = try AMDVi.IVRS(parsing: Self.real)
    #expect(table.damage == [])
    #expect(table.findings == [])
    #expect(table.byteCount == 484)
    #expect(
      table.blocks.map { "\($0.offset) \($0.type.mnemonic) \($0.bytes.count)" } == [
        "48 IVHD 10h 72", "120 IVHD 11h 88", "208 IVMD 21h 32", "240 IVHD 40h 212",
        "452 type 51h 32",
      ])
    #expect(table.blocks.map(\.entries.count) == [8, 8, 0, 12, 0])
    #expect(table.units.map(\.offset) == [240])
    let alias = table.blocks[3].entries[2]
    #expect(alias.type == .aliasRangeStart)
    #expect(alias.deviceID == Requester("ff:00.0"))
    #expect(alias.sourceID == Requester("00:14.5"))
    let ioapic = table.blocks[3].entries[6]
    #expect(ioapic.handle == 32)
    #expect(
      ioapic.settingNames
        == ["INITPass", "EIntPass", "NMIPass", "SysMgt 1", "Lint0Pass", "Lint1Pass"])
    let acpi = table.blocks[3].entries[8]
    #expect(acpi.offset == 328)
    #expect(acpi.bytes.count == 31)
    #expect(acpi.hardwareID == "AMDI0020")
    #expect(acpi.compatibleID == "")
    #expect(acpi.uniqueID == "\\_SB.FUR0")
    #expect(acpi.deviceID == Requester("00:14.5"))
    #expect(table.blocks[2].isExclusion)
  }

  /// Each form of entry that a block can have, by itself.
  @Test(
    arguments: [
      ("02a000d7", .select, "00:14.0", 4), ("01000000", .all, nil, 4),
      ("4201030000000300", .aliasSelect, "03:00.1", 8),
      ("4600030000000080", .extendedSelect, "03:00.0", 8),
      ("4700030000000000", .extendedRangeStart, "03:00.0", 8),
      ("4800000021a00001", .special, "00:14.0", 8), ("4000000000000000", .longPadding, nil, 8),
      (
        "f0a50000414d444930303230000000000000000002095c5f53422e46555230", .acpiDevice, "00:14.5",
        31
      ),
      (
        "f0a50000414d44493030323000000000000000000108efcdab8967452301", .acpiDevice, "00:14.5", 30
      ),
    ] as [(String, AMDVi.IVRS.EntryType, String?, Int)])
  func `every form of entry is read`(
    text: String, type: AMDVi.IVRS.EntryType, device: String?, byteCount: Int
  ) throws {
    let entry = Self.hexadecimalBytes(text)
    let table = try AMDVi.IVRS(parsing: Self.table(type: 0x40, entries: entry))
    #expect(table.damage == [])
    let read = try #require(table.blocks.first?.entries.first)
    #expect(read.type == type)
    #expect(read.bytes.count == byteCount)
    if let device { #expect(read.deviceID == Requester(device)) }
    if type == .extendedSelect { #expect(read.settingNames == ["ATSDisabled"]) }
    if byteCount == 30 { #expect(read.uniqueID == "81985529216486895") }
  }

  /// A table with one unit, with length and checksum as they must be.
  static func table(type: UInt8, entries: [UInt8], length: Int? = nil) -> [UInt8] {
    var block = [UInt8](repeating: 0, count: type == 0x10 ? 24 : 40)
    block[0] = type
    let count = length ?? block.count + entries.count
    block[2] = UInt8(count & 0xff)
    block[3] = UInt8(count >> 8)
    block[11] = 0xfe
    return ACPI.TableHeader(
      revision: 2, oemID: "EXAMPL", oemTableID: "TABLE", creatorID: "TEST"
    ).table(signature: "IVRS", body: [UInt8](repeating: 0, count: 12) + block + entries)
  }

  @Test(
    arguments: [
      ("f3000000", nil, "at byte 0x58: device entry of type f3h, whose length is not known"),
      (
        "48000000", nil,
        "at byte 0x58: device entry of type 48h of 8 bytes, and its block has 4 left"
      ),
      (
        "f0000000", nil, "at byte 0x58: device entry of type f0h in 4 bytes, and it has at least 22"
      ),
      ("02000000", 39, "at byte 0x30: IVHD 40h with a length of 39 bytes, and it has at least 40"),
      (
        "02000000", 50,
        "at byte 0x30: IVHD 40h with a length of 50 bytes, and the table has 44 left"
      ),
      (
        "02000000", 42,
        "at byte 0x58: device entry of type 02h of 4 bytes, and its block has 2 left"
      ),
    ] as [(String, Int?, String)])
  func `what is good comes before the complaint`(
    entries: String, length: Int?, text: String
  ) throws {
    let table = try AMDVi.IVRS(
      parsing: Self.table(type: 0x40, entries: Self.hexadecimalBytes(entries), length: length))
    #expect(try #require(table.damage.first).description.hasPrefix(text))
    #expect(table.blocks.count == (length.map { $0 == 42 } ?? true ? 1 : 0))
  }

  @Test(
    arguments: [
      ("04ffff00", "the end of a range that has no start"),
      ("03000100", "the start of a range without an end"),
      ("0300010002000000", "inside of the range that begins at byte 0x58"),
      ("0300010004ff0000", "a range that ends at 00:1f.7, before its start"),
      ("4800000021a00003", "a special device of variety 3"),
      ("4201030000000301", "reserved bits 56 to 63 are not zero"),
    ])
  func `what entries may not say is told`(entries: String, text: String) throws {
    let table = try AMDVi.IVRS(
      parsing: Self.table(type: 0x40, entries: Self.hexadecimalBytes(entries)))
    #expect(table.damage == [])
    #expect(table.findings.contains { $0.text.hasSuffix(text) }, "\(table.findings)")
  }

  @Test func `a table that is cut off is read up to the cut`() throws {
    let table = try AMDVi.IVRS(parsing: Array(Self.real.prefix(300)))
    #expect(table.blocks.map(\.offset) == [48, 120, 208, 240])
    let block = try #require(table.blocks.last)
    #expect(block.isCut)
    #expect(block.statedByteCount == 212)
    #expect(block.entries.map(\.offset) == [280, 284, 288, 296])
    // In the first ACPI device, of which the name is missing.
    let later = try AMDVi.IVRS(parsing: Array(Self.real.prefix(358)))
    #expect(later.blocks.last?.entries.last?.offset == 320)
    #expect(later.unread == 328..<484)
    // Behind the start of a range, whose end may be missing.
    let range = try AMDVi.IVRS(parsing: Array(Self.real.prefix(76)))
    #expect(range.blocks.last?.entries.map(\.type) == [.rangeStart])
    #expect(range.findings == [])
    #expect(table.unread == 300..<484)
    #expect(table.findings == [])
    #expect(
      table.damage.map(\.description) == [
        "at byte 0x4: a length of 484 bytes, and only 300 are there; the table is cut off, copy it "
          + "again"
      ])
  }

  @Test(arguments: seeds)
  func `no bytes trap the reader`(seed: UInt64) {
    var generator = SeededGenerator(seed: seed)
    for _ in 0..<500 {
      var bytes = Self.real
      for _ in 0..<Int.random(in: 1...12, using: &generator) {
        bytes[Int.random(in: 8..<bytes.count, using: &generator)] = .random(
          in: 0...255, using: &generator)
      }
      let count = Int.random(in: 0...bytes.count, using: &generator)
      guard let table = try? AMDVi.IVRS(parsing: Array(bytes.prefix(count)), ignoringChecksum: true)
      else { continue }
      _ = table.findings
      _ = table.units
      let end = table.blocks.last.map { $0.offset + $0.bytes.count } ?? 48
      #expect(end <= count)
    }
  }
}
